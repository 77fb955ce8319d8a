# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Three planes of numbers -> one colour image, red the longest wavelength.

The intensity is stretched as that of a grey image is, and the colours keep their ratios (Lupton et
al. 2004, PASP 116, 133).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from .exceptions import PreviewError
from .planes import Plane, limits, one_line

__all__ = ['compose']

_MIN_COMMON = 0.01  # of the frame, where planes overlap


def compose(planes: Sequence[Plane]) -> Image.Image:
    """
    A colour image.

    Parameters
    ----------
    planes : sequence of Plane
        Red, green and blue. They are put on the pixels of the largest one by their WCS; without,
        they need the same shape.

    Returns
    -------
    PIL.Image.Image
        Mode ``RGB``, the first row at the bottom.

    Raises
    ------
    PreviewError
        If they do not show the same field, or one shows nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from astroclip_search.composites import compose
    >>> from astroclip_search.planes import Plane
    >>> red, green, blue = (np.zeros((20, 20), np.float32) for _ in range(3))
    >>> red[5:9, 5:9] = green[5:9, 5:9] = 1    # a yellow source
    >>> blue[15, 15] = 1
    >>> compose([Plane(red), Plane(green), Plane(blue)]).getpixel((6, 12))
    (255, 255, 0)
    """
    from astropy.visualization import AsinhStretch

    planes = [replace(plane, data=_scaled(plane.data)) for plane in planes]
    reference = max(planes, key=lambda plane: plane.data.size)
    bands = np.stack([_registered(plane, reference) for plane in planes])
    known = np.isfinite(bands)
    if known.all(axis=0).mean() < _MIN_COMMON:
        raise PreviewError('the three images do not overlap')
    # What one filter has not seen is as bright in it as in the others: grey, not a strong colour.
    counts = known.sum(axis=0)
    intensity = np.where(known, bands, 0).sum(axis=0) / np.maximum(counts, 1)
    bands = np.where(known, bands, intensity)
    stretched = AsinhStretch(a=0.1)(np.clip(intensity, 0, 1))
    bands = bands * (stretched / np.where(intensity > 0, intensity, 1))
    # Too bright a colour becomes less bright, not another colour.
    bands = bands / np.maximum(bands.max(axis=0), 1)
    pixels = (np.moveaxis(bands, 0, -1) * 255).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.flipud(pixels)))


def _scaled(data: np.ndarray) -> np.ndarray:
    """
    Black is 0, and white is 1 at the 99.7th percentile.
    """
    low, high = limits(data)
    scaled = np.clip((data.astype(np.float64) - low) / (high - low), 0, 1)
    return np.where(np.isfinite(data), scaled, np.nan)


def _registered(plane: Plane, reference: Plane) -> np.ndarray:
    """
    The nearest pixels of a plane to those of the reference, NaN outside.
    """
    from astropy.wcs.utils import pixel_to_pixel

    if plane is reference:
        return plane.data
    wcs, onto = plane.wcs(), reference.wcs()
    same = plane.data.shape == reference.data.shape
    if wcs is None or onto is None:
        if not same:
            raise PreviewError('the three images differ in shape, and have no WCS')
        return plane.data
    if same and plane.step == reference.step and wcs.wcs.compare(onto.wcs):
        return plane.data
    row, column = np.indices(reference.data.shape) * reference.step
    try:
        column, row = pixel_to_pixel(onto, wcs, column, row)
    # Many kinds, for a WCS that cannot be inverted or a frame that is not of the sky.
    except Exception as error:
        raise PreviewError(f'the WCS cannot be used ({one_line(error)})') from error
    column, row = (np.nan_to_num(np.round(value / plane.step), nan=-1) for value in (column, row))
    height, width = plane.data.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    result = np.full(reference.data.shape, np.nan, np.float32)
    result[inside] = plane.data[row[inside].astype(int), column[inside].astype(int)]
    return result
