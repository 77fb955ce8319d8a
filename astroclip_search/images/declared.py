# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a FITS file declares of its sizes, checked against itself before a library believes it.

The next extension of a file begins where the size of the one before ends. A size below zero leads
back, and a reader goes in circles (FITS standard 4.0, sections 4.4.1 and 7).
"""

import io
import math
import re
from typing import IO, TYPE_CHECKING

from ..exceptions import ImageError
from ..untrusted.values import whole_number

if TYPE_CHECKING:
    from astropy.io.fits import HDUList

__all__ = ['check_sizes', 'opened']

_BLOCK, _CARD = 2880, 80

# Blocks of one header, and extensions of one file: the largest mosaics have some hundred.
_MOST_BLOCKS, _MOST_HDUS = 4096, 5000

_KEYS = re.compile(rb'NAXIS\d*|BITPIX|PCOUNT|GCOUNT|GROUPS')

_BITPIX = {b'8': 1, b'16': 2, b'32': 4, b'64': 8, b'-32': 4, b'-64': 8}

# A file of more has not been made.
_MOST = 2**60


def check_sizes(stream: IO[bytes]) -> None:
    """
    Raise an ImageError for a FITS file whose declared sizes lead backwards, or to more than there
    can be; the stream is at its start afterwards. What ends too early is left to who reads it.
    """
    try:
        length = stream.seek(0, io.SEEK_END)
    except OSError:  # of what is compressed nobody knows the end
        length = _MOST
    place = 0
    for _ in range(_MOST_HDUS):
        stream.seek(place)
        found = _header(stream)
        if found is None:
            break
        n_blocks, keys = found
        place += n_blocks * _BLOCK + -(-_size(keys) // _BLOCK) * _BLOCK
        if place >= length:
            break
    else:
        raise _damaged(f'more than {_MOST_HDUS} extensions')
    stream.seek(0)


def opened(stream: IO[bytes]) -> 'HDUList':
    """
    The HDUs of a file whose sizes have been checked.
    """
    from astropy.io import fits

    check_sizes(stream)
    return fits.open(stream)


def _header(stream: IO[bytes]) -> tuple[int, dict[bytes, bytes]] | None:
    """
    Blocks of a header and its cards of sizes; `None` where there is no complete header.
    """
    keys: dict[bytes, bytes] = {}
    for n in range(1, _MOST_BLOCKS + 1):
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK:
            return None
        if n == 1 and not block.startswith((b'SIMPLE', b'XTENSION')):
            return None
        for start in range(0, _BLOCK, _CARD):
            name, value = _card(block[start:start + _CARD])
            if name == b'END':
                return n, keys
            # Readers differ in which of two they believe.
            if _KEYS.fullmatch(name) and keys.setdefault(name, value) != value:
                raise _damaged(f'{name.decode()} stands there twice')
    raise _damaged('a header without end')


def _card(card: bytes) -> tuple[bytes, bytes]:
    """
    Keyword and value of a card, as lenient readers see them.
    """
    place = card.find(b'= ')
    name, value = (card[:place], card[place + 2:]) if 0 <= place <= 8 else (card[:8], card[10:])
    if card[:9].upper() == b'HIERARCH ':
        name, _, value = card[9:].partition(b'=')
    return name.strip().upper(), value.partition(b'/')[0].strip()


def _size(keys: dict[bytes, bytes]) -> int:
    """
    Bytes of the data that follow a header.
    """
    n_axes = _number(keys, b'NAXIS', 0)
    if n_axes == 0:
        return 0
    if n_axes > 999:
        raise _damaged(f'NAXIS is {n_axes}')
    axes = [_number(keys, b'NAXIS%d' % n, 0) for n in range(1, n_axes + 1)]
    if axes[0] == 0 and keys.get(b'GROUPS') == b'T':
        del axes[0]
    group = _number(keys, b'PCOUNT', 0) + math.prod(axes)
    if (wide := keys.get(b'BITPIX', b'8')) not in _BITPIX:
        raise _damaged(f'BITPIX is {wide[:20].decode("ascii", "replace")}')
    size = _BITPIX[wide] * _number(keys, b'GCOUNT', 1) * group
    if size > _MOST:
        raise _damaged(f'an extension of {size:.3g} bytes')
    return size


def _number(keys: dict[bytes, bytes], name: bytes, usual: int) -> int:
    text = keys.get(name)
    if text is None:
        return usual
    number = whole_number(text.decode('ascii', 'replace').removeprefix('+'))
    if number is None:
        said = text[:20].decode('ascii', 'replace')
        raise _damaged(f'{name.decode()} is {said}')
    return number


def _damaged(error: str) -> ImageError:
    return ImageError('damaged_fits', error=error)
