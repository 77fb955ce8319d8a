# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Which files are images: their suffixes, and the content of compressed ones.
"""

import bz2
import gzip
import io
import zlib

from ..exceptions import ImageError

__all__ = ['FITS_SUFFIXES', 'IMAGE_SUFFIXES', 'unpacked']

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.tif', '.tiff', '.gif')

FITS_SUFFIXES = ('.fits', '.fit', '.fts', '.fits.gz', '.fit.gz', '.fits.bz2', '.fits.fz')

_COMPRESSIONS = ((b'\x1f\x8b', gzip.open), (b'BZh', bz2.open))


def unpacked(data: bytes, max_bytes: int) -> bytes:
    """
    The content of a compressed file; other content as it is.
    """
    for magic, unpack in _COMPRESSIONS:
        if data.startswith(magic):
            try:
                with unpack(io.BytesIO(data)) as stream:
                    data = stream.read(max_bytes + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise ImageError('damaged_compressed', error=error) from error
            if len(data) > max_bytes:
                raise ImageError('file_too_large', limit=max_bytes)
            break
    return data
