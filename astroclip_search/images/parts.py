# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A part of an image of numbers, with its WCS.

The centre of the first pixel is at 0, and the first row of the array is row 0.
"""

import contextlib
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ..exceptions import ImageError, one_line
from ..untrusted.files import stream_of
from ..untrusted.quiet import quiet
from .declared import opened
from .fits import science_hdu
from .formats import HEAD, kind_of_content
from .packed import unpacked
from .science import Axes

__all__ = ['cut', 'has_numbers']

# Keywords of distortions that are tables of the file, and of what a cutout has not.
_TABLES = re.compile(r'(CPDIS|CPERR|CQDIS|CQERR|DP|DQ|D2IMDIS|D2IMERR|D2IM)\d+(\.|$)'
                     '|D2IMEXT$|AXISCORR$')
_NOT_OF_PARTS = ('BSCALE', 'BZERO', 'CHECKSUM', 'DATASUM', 'EXTVER', 'EXTLEVEL', 'INHERIT',
                 'DATAMIN', 'DATAMAX')

# Cards of the primary header that a user of a cutout wants to know.
_OF_FILE = ('OBJECT', 'TELESCOP', 'INSTRUME', 'DETECTOR', 'FILTER', 'FILTER1', 'FILTER2',
            'DATE-OBS', 'MJD-OBS', 'EXPTIME', 'PROPOSID', 'ROOTNAME')

_VERSIONS = ('', *'ABCDEFGHIJKLMNOPQRSTUVWXYZ')  # of a WCS


def has_numbers(image: Any) -> bool:
    """
    Whether an image is drawn from numbers, as FITS, ASDF and arrays are, and not a bitmap.
    """
    if isinstance(image, Image.Image):
        return False
    if isinstance(image, np.ndarray):
        return image.ndim != 3 or image.shape[2] not in (3, 4)
    if not isinstance(image, str | Path | bytes | io.IOBase):
        return True
    try:
        with stream_of(image) as stream:
            head = b'' if stream is None else stream.read(HEAD)
    except OSError as error:
        raise ImageError('file_unreadable', error=one_line(error)) from error
    # Of other kinds of compression nobody looks inside for this.
    return kind_of_content(head) in ('fits', 'asdf')


def cut(image: Any, box: Any, *, max_pixels: int, max_bytes: int) -> Any:
    """
    A part of a FITS image or of an array.

    Parameters
    ----------
    image : path, bytes, stream, HDU, HDUList, NDData or ndarray
        What `has_numbers`. Of several extensions the one is cut whose image is ranked.
    box : sequence of float
        x0, y0, x1, y1 in pixels; what lies outside of the image is left out.
    max_pixels, max_bytes : int
        Bounds on the part, and on what is unpacked.

    Returns
    -------
    `~astropy.io.fits.PrimaryHDU`
        Numbers as the file has them, all planes of a cube, and its WCS, of which distortions that
        are tables are left out (of HST some 10 mas); the history says so.

    Raises
    ------
    ImageError
        If it is no FITS image, it is damaged, or the box is beside it or too large.
    """
    from astropy.io import fits

    try:
        with quiet():
            if isinstance(image, str | Path | bytes | io.IOBase):
                with stream_of(image) as stream, _fits(stream, max_bytes) as content, \
                        opened(content) as hdus:
                    return _part(science_hdu(hdus), hdus[0].header, box, max_pixels)
            if hasattr(image, 'fileinfo'):
                hdus = image if isinstance(image, list) else [image]
                return _part(science_hdu(hdus), hdus[0].header, box, max_pixels)
            data = np.asarray(image.data if not isinstance(image, np.ndarray) else image)
            wcs = getattr(image, 'wcs', None)
            header = wcs.to_header(relax=True) if wcs is not None else fits.Header()
            return _part(fits.ImageHDU(data, header), fits.Header(), box, max_pixels)
    except ImageError:
        raise
    # A damaged FITS file raises OSError, ValueError, KeyError, TypeError, VerifyError and more.
    except Exception as error:
        raise ImageError('damaged_fits', error=one_line(error)) from error


def _part(hdu: Any, primary: Any, box: Any, max_pixels: int) -> Any:
    """
    The pixels that a box touches.
    """
    from astropy.io import fits

    header = hdu.header.copy(strip=True)  # before the pixels: with them astropy changes it
    axes = Axes(hdu.header, len(hdu.shape))
    x0, y0, x1, y1 = map(float, box)
    index = [slice(0, n) for n in hdu.shape]
    for axis, low, high in ((axes.across, x0, x1), (axes.down, y0, y1)):
        n = hdu.shape[axis]
        index[axis] = slice(min(max(math.floor(low + 0.5), 0), n),
                            min(max(math.ceil(high + 0.5), 0), n))
    shape = [part.stop - part.start for part in index]
    if min(shape) <= 0:
        raise ImageError('no_pixels')
    if math.prod(shape) > max_pixels:
        raise ImageError('too_many_pixels', width=shape[axes.across], height=shape[axes.down],
                         limit=max_pixels)
    is_here = 'data' in vars(hdu) or not hdu.fileinfo()
    data = np.array((hdu.data if is_here else hdu.section)[tuple(index)])
    flat = fits.Header([card for card in header.cards if not _TABLES.match(card.keyword)])
    is_flat, header = len(flat) == len(header), flat
    for key in _NOT_OF_PARTS if data.dtype.kind != 'f' else (*_NOT_OF_PARTS, 'BLANK'):
        header.remove(key, ignore_missing=True, remove_all=True)
    for axis, part in enumerate(index):
        _shift(header, len(index) - axis, part.start)
    for key in _OF_FILE:
        if key in primary and key not in header:
            header[key] = (primary[key], primary.comments[key])
    made = fits.PrimaryHDU(data, header)
    x, y = (index[axis] for axis in (axes.across, axes.down))
    # As FITS counts, from 1.
    made.header.add_history(f'Pixels {x.start + 1}:{x.stop},{y.start + 1}:{y.stop} of the image, '
                            'cut by astroclip_search')
    if not is_flat:
        made.header.add_history('without the distortions of the WCS that are tables')
    return made


def _shift(header: Any, number: int, start: int) -> None:
    """
    Move what a header says of the pixels on axis ``number`` of FITS.
    """
    if not start:
        return
    for version in _VERSIONS:
        key = f'CRPIX{number}{version}'
        if key in header or f'CRVAL{number}{version}' in header:
            header[key] = float(header.get(key, 0.0)) - start
    for key, sign in ((f'LTV{number}', -1), (f'CNPIX{number}', 1)):  # of IRAF, and of the DSS
        if key in header:
            header[key] = header[key] + sign * start


@contextlib.contextmanager
def _fits(stream: IO[bytes], max_bytes: int) -> Iterator[IO[bytes]]:
    """
    A FITS file as it is, or unpacked.
    """
    head = stream.read(9)
    stream.seek(0)
    if head == b'SIMPLE  =':
        yield stream
        return
    data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageError('file_too_large', limit=max_bytes)
    data = unpacked(data, max_bytes)
    if not data.startswith(b'SIMPLE  ='):
        raise ImageError('not_fits')
    yield io.BytesIO(data)
