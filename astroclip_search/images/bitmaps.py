# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
JPEG, PNG, WebP, TIFF and GIF files, and images of Pillow -> RGB pixels.
"""

import io

import numpy as np
from PIL import (
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..exceptions import ImageError, one_line
from .plane import alone_if_large, step_of
from .stretch import grey

__all__ = ['is_bitmap', 'read_bitmap', 'to_rgb']

# Opened through its plugin, not Image.open: only these formats, and our own pixel cap.
_FORMATS = ((b'\xff\xd8\xff', JpegImagePlugin.JpegImageFile),
            (b'\x89PNG\r\n\x1a\n', PngImagePlugin.PngImageFile),
            (b'GIF8', GifImagePlugin.GifImageFile),
            (b'II*\x00', TiffImagePlugin.TiffImageFile),
            (b'MM\x00*', TiffImagePlugin.TiffImageFile),
            (b'RIFF', WebPImagePlugin.WebPImageFile))


def is_bitmap(data: bytes) -> bool:
    """
    Whether content is of a format that `read_bitmap` reads.
    """
    return any(data.startswith(magic) for magic, _ in _FORMATS)


def read_bitmap(data: bytes, side: int, max_pixels: int) -> Image.Image:
    """
    The RGB image that content shows, with sides of at least about ``side`` pixels if it has them.
    """
    plugin = next(plugin for magic, plugin in _FORMATS if data.startswith(magic))
    try:
        image = plugin(io.BytesIO(data))
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError('too_many_pixels', width=width, height=height, limit=max_pixels)
        # The decoder can skip detail that the model would not see.
        image.draft('RGB' if image.mode != 'L' else 'L', (side, side))

        def shrink() -> Image.Image:
            try:
                return to_rgb(_reduced(image, side))
            finally:
                image.close()  # before the next large one is decoded

        return alone_if_large(width * height, shrink)
    except ImageError:
        raise
    # Pillow's plugins raise many kinds of error on damaged files.
    except Exception as error:
        raise ImageError('damaged_image', error=one_line(error)) from error


def _reduced(image: Image.Image, side: int) -> Image.Image:
    """
    Means of blocks where there are more pixels than needed, before anything copies them.
    """
    step = step_of(image.size, side)
    if step == 1:
        return image
    if image.mode.startswith(('I', 'F')):
        return Image.fromarray(np.asarray(np.asarray(image)[::step, ::step], np.float32))
    if image.mode in ('1', 'P', 'PA') or 'transparency' in image.info:
        return to_rgb(image).reduce(step)  # their values cannot be averaged
    return image.reduce(step)


def to_rgb(image: Image.Image) -> Image.Image:
    """
    An image of Pillow in RGB, on black where it is transparent.
    """
    if image.mode.startswith(('I', 'F')):
        return grey(np.asarray(image, dtype=np.float32), flip=False)
    if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
        image = image.convert('RGBA')
        black = Image.new('RGBA', image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert('RGB')
    return image.convert('RGB')
