# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Images of one part of the sky on the pixels of another, by their WCS.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import ImageError, one_line
from .plane import Plane

__all__ = ['Frame', 'nearest']

# Chips of one camera are beside each other and of about the same scale.
_APART = 0.3  # of the side of a chip
_FAR = 3.0
_MAX_SCALE = 1.5

_ROUNDING = 1e-2  # pixels that are no part of a further one


@dataclass(frozen=True)
class Frame:
    """
    The pixels of a mosaic: those of the first chip, without its distortions, as far as the others.
    """

    wcs: Any
    shape: tuple[int, int]

    @classmethod
    def around(cls, chips: Sequence[tuple[Any, tuple[int, int]]]) -> tuple['Frame', list[int]]:
        """
        The frame around chips with these WCS and shapes, and which of them are beside the first.
        """
        flat = _without_distortions(chips[0][0])
        places = np.full((len(chips), 2, 4), np.nan)  # chip, x or y, corner
        for i, (wcs, (height, width)) in enumerate(chips):
            x = np.array([-.5, width - .5, -.5, width - .5])
            y = np.array([-.5, -.5, height - .5, height - .5])
            try:
                places[i] = _pixels(wcs, flat, x, y)
            except ImageError:
                continue  # on another side of the sky
        low, high = places.min(axis=2), places.max(axis=2)
        sides, centres = high - low, (low + high) / 2
        scales = np.sqrt((sides / sides[0]).prod(axis=1))
        left = np.flatnonzero((scales > 1 / _MAX_SCALE) & (scales < _MAX_SCALE)).tolist()[1:]
        beside, before = [0], 0
        while len(beside) > before:  # some are beside others only
            before = len(beside)
            for i in left.copy():
                # None of the same part of the sky, and none far from all.
                nearest_one = np.abs(centres[i] - centres[beside]).max(axis=1).min()
                if _APART < nearest_one / sides[0].min() < _FAR:
                    beside.append(i)
                    left.remove(i)
        start = np.floor(low[beside].min(axis=0) + .5 + _ROUNDING)
        stop = np.ceil(high[beside].max(axis=0) + .5 - _ROUNDING)
        width, height = (stop - start).astype(int)
        flat.wcs.crpix = flat.wcs.crpix - start
        flat.pixel_shape = None
        return cls(flat, (int(height), int(width))), beside

    def paint(self, chip: Plane, wcs: Any, shape: tuple[int, int], data: np.ndarray) -> None:
        """
        Put the values of a chip with this WCS and shape in their place, where nothing is yet.
        """
        height, width = shape
        step = chip.step
        edge = np.linspace(0, 1, 9)
        x = np.concatenate([edge, edge, 0 * edge, 0 * edge + 1]) * (width - 1)
        y = np.concatenate([0 * edge, 0 * edge + 1, edge, edge]) * (height - 1)
        column, row = _pixels(wcs, self.wcs, x, y)
        y0, x0 = (max(0, int(np.nanmin(value) // step) - 1) for value in (row, column))
        y1, x1 = (int(np.nanmax(value) // step) + 2 for value in (row, column))
        part = data[y0:y1, x0:x1]
        found = nearest(chip, wcs, self.wcs, part.shape, step, corner=(y0, x0))
        part[...] = np.where(np.isnan(part), found, part)


def nearest(plane: Plane, wcs: Any, onto: Any, shape: tuple[int, int], step: int, *,
            corner: tuple[int, int] = (0, 0)) -> np.ndarray:
    """
    The values of a plane with this WCS that are nearest to pixels of another, NaN outside;
    ``shape``, and ``corner``, the first row and column, count blocks of ``step`` pixels.
    """
    row, column = ((index + first + .5) * step - .5
                   for index, first in zip(np.indices(shape), corner, strict=True))
    column, row = (np.nan_to_num(np.floor((value + .5) / plane.step), nan=-1)
                   for value in _pixels(onto, wcs, column, row))
    height, width = plane.data.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    result = np.full(shape, np.nan)
    result[inside] = plane.data[row[inside].astype(int), column[inside].astype(int)]
    return result


def _pixels(wcs: Any, onto: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Pixels of one WCS as pixels of another.
    """
    from astropy.wcs.utils import pixel_to_pixel

    try:
        return pixel_to_pixel(wcs, onto, x, y)
    # Many kinds, for a WCS that cannot be inverted or a frame that is not of the sky.
    except Exception as error:
        raise ImageError('bad_wcs', error=one_line(error)) from error


def _without_distortions(wcs: Any) -> Any:
    flat = copy.deepcopy(wcs)
    flat.sip = None
    flat.cpdis1 = flat.cpdis2 = flat.det2im1 = flat.det2im2 = None
    return flat
