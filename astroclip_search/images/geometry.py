# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How a drawn picture lies on the pixels of the image that it was drawn from.
"""

import math
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from PIL import Image

__all__ = ['Geometry', 'geometry_of', 'note_geometry', 'note_part', 'note_size', 'turned']

# Where a picture carries these; Pillow keeps them when it copies one.
_GEOMETRY, _PART, _SIZE = (f'astroclip_search {name}' for name in ('geometry', 'part', 'size'))

_MAX_SIDE = 2**31

# Left becomes right, up becomes down; and, after these, x becomes y.
_T = Image.Transpose
_MIRRORED = ((_T.FLIP_LEFT_RIGHT, _T.ROTATE_180, _T.ROTATE_90, _T.TRANSVERSE),
             (_T.FLIP_TOP_BOTTOM, _T.ROTATE_180, _T.ROTATE_270, _T.TRANSVERSE))
_SWAPPED = (_T.TRANSPOSE, _T.ROTATE_90, _T.ROTATE_270, _T.TRANSVERSE)


@dataclass(frozen=True)
class Geometry:
    """
    The part of an image that a picture shows, in pixels of the image as the picture is turned,
    counted from the left and upper edge of the whole.

    Attributes
    ----------
    width, height : int
        Of the whole image.
    left, upper, right, lower : float
        Edges of the part.
    is_flipped : bool
        Whether row 0 of the image is at the bottom, as in FITS.
    """

    width: int
    height: int
    left: float
    upper: float
    right: float
    lower: float
    is_flipped: bool = False

    def to_original(self, u: Any, v: Any) -> tuple[np.ndarray, np.ndarray]:
        """
        Pixels of the image, the centre of the first at 0, of parts of the width and height of
        the picture from its upper left corner.
        """
        x = self.left + np.asarray(u, float) * (self.right - self.left)
        y = self.upper + np.asarray(v, float) * (self.lower - self.upper)
        return x - 0.5, (self.height - y if self.is_flipped else y) - 0.5

    def from_original(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """
        The inverse of `to_original`.
        """
        x, y = np.asarray(x, float) + 0.5, np.asarray(y, float) + 0.5
        y = self.height - y if self.is_flipped else y
        return ((x - self.left) / (self.right - self.left),
                (y - self.upper) / (self.lower - self.upper))

    def turned(self, turn: Image.Transpose) -> 'Geometry':
        """
        That of the picture, and of its image, turned.
        """
        width, height = self.width, self.height
        x, y = (self.left, self.right), (self.upper, self.lower)
        if turn in _MIRRORED[0]:
            x = width - self.right, width - self.left
        if turn in _MIRRORED[1]:
            y = height - self.lower, height - self.upper
        if turn in _SWAPPED:
            width, height, x, y = height, width, y, x
        return Geometry(width, height, x[0], y[0], x[1], y[1])

    @property
    def numbers(self) -> list[float]:
        """
        All of it, for another process.
        """
        return list(map(float, astuple(self)))

    @classmethod
    def read(cls, numbers: Any) -> 'Geometry':
        """
        From what another process says, which may be damaged: then a ValueError.
        """
        if not (isinstance(numbers, list) and len(numbers) == 7 and all(
                isinstance(value, int | float) and math.isfinite(value)
                and 0 <= value <= _MAX_SIDE for value in numbers)):
            raise ValueError(f'a geometry of {numbers!r}')
        width, height, left, upper, right, lower, is_flipped = numbers
        if not (left < right <= width and upper < lower <= height):
            raise ValueError(f'a geometry of {numbers!r}')
        return cls(int(width), int(height), left, upper, right, lower, bool(is_flipped))


def note_part(picture: Image.Image, part: tuple[float, float, float, float]) -> Image.Image:
    """
    Have a picture say which part of its image it shows: left, upper, right and lower edge, in
    parts of the whole.
    """
    picture.info[_PART] = part
    return picture


def note_size(picture: Image.Image, size: tuple[int, int], step: int = 1, *,
              is_flipped: bool = False) -> Image.Image:
    """
    Have a picture say how large its image is, of which every ``step`` pixels became one.
    """
    width, height = size
    left, upper, right, lower = picture.info.get(_PART, (0.0, 0.0, 1.0, 1.0))
    across, down = (-(-side // step) * step for side in size)
    # The last block may be smaller than the others. Upside down it is the first one.
    beyond = down - height if is_flipped else 0
    picture.info[_GEOMETRY] = Geometry(
        width, height, left * across, max(0.0, upper * down - beyond), min(right * across, width),
        min(lower * down - beyond, height), is_flipped)
    return picture


def turned(picture: Image.Image, turn: Image.Transpose) -> Image.Image:
    """
    A picture that is turned or mirrored, and what it says of its image with it.
    """
    found = picture.transpose(turn)
    geometry = picture.info.get(_GEOMETRY)
    if isinstance(geometry, Geometry):
        found.info[_GEOMETRY] = geometry.turned(turn)
    return found


def note_geometry(picture: Image.Image, geometry: Geometry) -> Image.Image:
    """
    Have a picture say how it lies on its image.
    """
    picture.info[_GEOMETRY] = geometry
    return picture


def geometry_of(picture: Image.Image) -> Geometry:
    """
    How a picture lies on its image; of one that does not say it, it is the whole.
    """
    geometry = picture.info.get(_GEOMETRY)
    if isinstance(geometry, Geometry):
        return geometry
    width, height = picture.size
    return Geometry(width, height, 0.0, 0.0, float(width), float(height))
