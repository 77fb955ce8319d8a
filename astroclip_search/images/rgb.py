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

from ..exceptions import ImageError
from .geometry import note_part, note_size
from .mosaic import nearest
from .plane import Plane
from .stretch import cleaned, extent, limits, part_of, softening, stretched_by

__all__ = ['compose']

_MIN_COMMON = 0.01  # of the frame, where planes overlap


def compose(planes: Sequence[Plane]) -> Image.Image:
    """
    Colour image of a red, green and blue plane, row 0 at the bottom. The planes are put on the
    pixels of the largest one by their WCS; without, they need the same shape.
    """
    scaled, rooms = zip(*(_scaled(plane.data) for plane in planes), strict=True)
    planes = [replace(plane, data=data) for plane, data in zip(planes, scaled, strict=True)]
    reference = max(planes, key=lambda plane: plane.data.size)
    bands = np.stack([_registered(plane, reference) for plane in planes])
    known = np.isfinite(bands)
    if known.all(axis=0).mean() < _MIN_COMMON:
        raise ImageError('planes_apart')
    # What one filter has not seen is as bright in it as in the others: grey, not a strong colour.
    counts = known.sum(axis=0)
    intensity = np.where(known, bands, 0).sum(axis=0) / np.where(counts > 0, counts, np.nan)
    bands = np.where(known, bands, intensity)
    stretched = stretched_by(intensity, softening(intensity, float(np.median(rooms))))
    bands = bands * (stretched / np.where(intensity > 0, intensity, 1))
    # Too bright a colour becomes less bright, not another colour.
    bands = np.moveaxis(bands / np.maximum(bands.max(axis=0), 1), 0, -1)
    rows, columns = extent(bands)
    part = part_of(bands.shape, rows, columns, flip=True)
    bands = bands[rows, columns]
    pixels = (np.nan_to_num(bands) * 255).round().astype(np.uint8)
    picture = note_part(Image.fromarray(np.ascontiguousarray(np.flipud(pixels))), part)
    return note_size(picture, reference.size, reference.step, is_flipped=True)


def _scaled(data: np.ndarray) -> tuple[np.ndarray, float]:
    """
    Parts of white, linear, NaN where there is nothing; and the headroom above.
    """
    data = cleaned(data)
    low, high, room = limits(data)
    return np.clip((data - low) / (high - low), 0, 1), room


def _registered(plane: Plane, reference: Plane) -> np.ndarray:
    """
    The nearest pixels of a plane to those of the reference, NaN outside.
    """
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
    return nearest(plane, wcs, onto, reference.data.shape, reference.step)
