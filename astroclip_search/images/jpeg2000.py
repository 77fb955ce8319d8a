# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
JPEG 2000 files, of which only the resolution that is needed is decoded.
"""

import io
import struct
from dataclasses import dataclass
from math import ceil

from PIL import Image, Jpeg2KImagePlugin

from ..exceptions import ImageError

__all__ = ['Stream', 'stream']

_START = b'\xff\x4f\xff\x51'  # of the codestream and of the description of its size
_CODING = 0x52
_END_OF_HEADER = (0x90, 0xd9)

# An image at a lower resolution takes less memory, but as many blocks and precincts.
_MAX_REDUCED = 16
_MAX_BLOCKS = 1 << 21


@dataclass(frozen=True)
class Stream:
    """
    What the header of the codestream says.
    """

    data: bytes
    start: int  # of the codestream
    size: tuple[int, int]  # width and height in pixels
    n_colours: int
    bits: int
    n_levels: int  # how often it can be halved
    n_blocks: int

    def n_halved(self, step: int) -> int:
        """
        How often it is halved so that at most every ``step``-th pixel is left.
        """
        n = min(step.bit_length() - 1, self.n_levels)
        # Pillow rounds the size where the decoder rounds it up, and fails if they differ.
        while n and any((side + (1 << n >> 1)) >> n != ceil(side / (1 << n)) for side in self.size):
            n -= 1
        return n

    def check(self, step: int, max_pixels: int) -> None:
        """
        Refuse what would take too much memory.
        """
        width, height = self.size
        reduced = (width * height) >> (2 * self.n_halved(step))
        if reduced > max_pixels or width * height > _MAX_REDUCED * max_pixels:
            raise ImageError('too_many_pixels', width=width, height=height, limit=max_pixels)
        if self.n_blocks > _MAX_BLOCKS:
            raise ImageError('damaged_image', error=f'{self.n_blocks} blocks')

    def image(self, step: int) -> Image.Image:
        """
        The image, loaded, halved at most as often as a step allows.
        """
        # Pillow takes grey of nine bits for one of eight, unless it sees the codestream only.
        data = self.data[self.start:] if self.bits == 9 else self.data
        image = Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(data))
        n = self.n_halved(step)
        if n and image.mode in ('P', 'PA'):
            n = 0  # indices have no mean
        image.reduce = n
        try:
            image.load()
        except OSError:
            if not n:
                raise
            # A part of it cannot be halved as often.
            image = Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(data))
            image.load()
        image.reduce = 0  # it is the method of other images again
        # Where more than eight bits are opaque, the eight of Pillow are 256, and so 0.
        if self.bits > 8 and image.mode in ('LA', 'RGBA'):
            return image.convert(image.mode[:-1])
        return image


def stream(data: bytes) -> Stream:
    """
    The header of the codestream in a JPEG 2000 file.
    """
    start = data.find(_START)
    if start < 0:
        raise ImageError('damaged_image', error='it has no codestream')
    try:
        right, lower, left, upper = struct.unpack_from('>4I', data, start + 8)
        n_colours, bits = struct.unpack_from('>HB', data, start + 40)
        at = start + 2
        while data[at + 1] != _CODING:
            if data[at + 1] in _END_OF_HEADER:
                raise ImageError('damaged_image', error='it does not say how it is coded')
            at += 2 + int.from_bytes(data[at + 2:at + 4])
        style, n_levels, across, down = data[at + 4], data[at + 9], data[at + 10], data[at + 11]
        precincts = data[at + 14:at + 15 + n_levels] if style & 1 else b''
    except (struct.error, IndexError) as error:
        raise ImageError('damaged_image', error='its header is cut') from error
    width, height = right - left, lower - upper
    if min(width, height) < 1:
        raise ImageError('damaged_image', error='it has no size')
    blocks = (width * height) >> (across + down + 4)
    for i, sides in enumerate(precincts):
        blocks += ((width * height) >> (2 * (n_levels - i))) >> ((sides & 15) + (sides >> 4))
    return Stream(data, start, (width, height), n_colours, (bits & 0x7f) + 1, n_levels,
                  blocks * n_colours)
