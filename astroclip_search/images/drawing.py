# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How images are drawn, apart from the image itself; a cache is asked for it by its key.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from . import render
from .plane import Plane, on_sky

__all__ = ['Drawing']


@dataclass(frozen=True)
class Drawing:
    """
    The arguments of `~astroclip_search.images.render.render`, of which there are no others.
    """

    side: int = 512
    bitmap_side: int | None = None
    plane: str | int = 'middle'
    max_pixels: int = 50_000_000
    max_bytes: int = 64 * 1024**2

    @property
    def view(self) -> str:
        """
        What is seen of an image at any size, as a part of a cache key.

        The limits are not in it: they make a picture fail, never another one, and no failure is
        kept.
        """
        return f'{render.RENDER_VERSION}/{self.plane}'

    @property
    def key(self) -> str:
        """
        All that pixels depend on besides the image, as a part of a cache key.
        """
        return f'{self.view}/{self.side}/{self.bitmap_side or self.side}'

    def picture(self, source: Any) -> Image.Image:
        """
        The RGB image of a path, of content, or of what is in memory.
        """
        return render.render(source, side=self.side, bitmap_side=self.bitmap_side,
                             plane=self.plane, max_pixels=self.max_pixels,
                             max_bytes=self.max_bytes)

    def sky(self, source: Any, pixels: np.ndarray) -> np.ndarray:
        """
        Right ascension and declination, ICRS, in degrees, of pixels of an image, counted from 0 as
        `~astroclip_search.images.geometry.Geometry` gives them, float64 (n, 2); NaN where there is
        none. An ImageError if the image has no place on the sky.
        """
        return on_sky(self.numbers(source).wcs(), pixels)

    def numbers(self, source: Any) -> Plane:
        """
        The plane of numbers that a grey picture would be drawn from.
        """
        return render.plane(source, side=self.side, plane=self.plane,
                            max_pixels=self.max_pixels, max_bytes=self.max_bytes)
