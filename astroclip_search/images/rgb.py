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

from ..exceptions import ImageError, one_line
from .plane import Plane
from .stretch import limits

__all__ = ['compose']

_MIN_COMMON = 0.01  # of the frame, where planes overlap


def compose(planes: Sequence[Plane]) -> Image.Image:
    """
    Colour image of a red, green and blue plane, row 0 at the bottom. The planes are put on the
    pixels of the largest one by their WCS; without, they need the same shape.
    """
    from astropy.visualization import AsinhStretch

    planes = [replace(plane, data=_scaled(plane.data)) for plane in planes]
    reference = max(planes, key=lambda plane: plane.data.size)
    bands = np.stack([_registered(plane, reference) for plane in planes])
    known = np.isfinite(bands)
    if known.all(axis=0).mean() < _MIN_COMMON:
        raise ImageError('planes_apart')
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
            raise ImageError('planes_differ')
        return plane.data
    if same and plane.step == reference.step and wcs.wcs.compare(onto.wcs):
        return plane.data
    row, column = np.indices(reference.data.shape) * reference.step
    try:
        column, row = pixel_to_pixel(onto, wcs, column, row)
    # Many kinds, for a WCS that cannot be inverted or a frame that is not of the sky.
    except Exception as error:
        raise ImageError('bad_wcs', error=one_line(error)) from error
    column, row = (np.nan_to_num(np.round(value / plane.step), nan=-1) for value in (column, row))
    height, width = plane.data.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    result = np.full(reference.data.shape, np.nan, np.float32)
    result[inside] = plane.data[row[inside].astype(int), column[inside].astype(int)]
    return result
