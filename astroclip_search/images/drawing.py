# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How images are drawn, apart from the image itself; a cache is asked for it by its key.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..exceptions import ImageError
from ..untrusted.files import stream_of
from . import avm, render
from .parts import cut, has_numbers
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

    def sky(self, source: Callable[[], Any], pixels: np.ndarray,
            size: tuple[int, int]) -> np.ndarray:
        """
        Right ascension and declination, ICRS, in degrees, of pixels of an image of this width and
        height, which ``source`` gives anew each time; float64 (n, 2), NaN where there is none. The
        pixels are counted from 0, as `~astroclip_search.images.geometry.Geometry` gives them. An
        ImageError if the image has no place on the sky.
        """
        try:
            plane = self.numbers(source())
        except ImageError as error:
            if error.because.code != 'not_fits':
                raise
        else:
            return on_sky(plane.wcs(), pixels)
        with stream_of(source()) as stream:
            wcs = None if stream is None else avm.wcs(stream, size)
        # The rows of a bitmap are counted from the top.
        return on_sky(wcs, np.stack([pixels[:, 0], size[1] - 1 - pixels[:, 1]], axis=1))

    def wcs(self, source: Any) -> str:
        """
        The WCS of an image of numbers as the text of a FITS header, without distortions that are
        tables.
        """
        wcs = self.numbers(source).wcs()
        if wcs is None:
            raise ImageError('no_wcs')
        return wcs.to_header(relax=True).tostring()

    def part(self, source: Callable[[], Any], box: Sequence[float]) -> bytes | None:
        """
        A part of an image of numbers as a FITS file, `None` of a bitmap.
        """
        if not has_numbers(source()):
            return None
        content = io.BytesIO()
        cut(source(), box, max_pixels=self.max_pixels, max_bytes=self.max_bytes).writeto(
            content, output_verify='silentfix')
        return content.getvalue()

    def numbers(self, source: Any) -> Plane:
        """
        The plane of numbers that a grey picture would be drawn from.
        """
        return render.plane(source, side=self.side, plane=self.plane,
                            max_pixels=self.max_pixels, max_bytes=self.max_bytes)
