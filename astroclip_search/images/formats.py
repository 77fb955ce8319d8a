# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Which files are images: by their names, and by their first bytes.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable

__all__ = ['HEAD', 'IN_WORDS', 'is_wanted', 'kind_of_content', 'kind_of_name', 'left_out',
           'suffix_of']

IN_WORDS = 'FITS, ASDF, JPEG, PNG, TIFF and other images, also compressed ones'
"""
What is looked for.
"""

HEAD = 512
"""
First bytes that tell what a file is.
"""

_BITMAPS = frozenset(
    'jpg jpeg png webp tif tiff gif bmp jp2 j2k j2c jpx jpf avif pgm ppm pnm'.split())

# Of FITS alone: compressed by fpack, or by gzip with a short name.
_FITS = frozenset('fits fit fts fz ftz'.split())

# Images of FITS in the archives of X-ray missions, and of others where they are not compressed.
_FITS_IF_PACKED = frozenset(('img',))

_PACKED = frozenset('gz bz2 xz lzma z zip fz'.split())

_MOST_NAMED = 5


def kind_of_name(name: str) -> str:
    """
    What the name of a file or the path of an address says: ``'fits'``, ``'asdf'``, ``'bitmap'``, or
    ``''`` for everything else.
    """
    rest, dot, suffix = name.lower().rpartition('.')
    packed = suffix in _PACKED and '.' in rest
    if packed:
        inner = rest.rpartition('.')[2]
        # a.fz is FITS, and so is a.fits.fz.
        suffix = inner if suffix != 'fz' or inner in _FITS else suffix
    if not dot:
        return ''
    if suffix in _FITS or (packed and suffix in _FITS_IF_PACKED):
        return 'fits'
    if suffix == 'asdf':
        return 'asdf'
    return 'bitmap' if suffix in _BITMAPS else ''


def kind_of_content(head: bytes) -> str:
    """
    What the first `HEAD` bytes of a file say, as `kind_of_name` does; of those of gzip, too.
    """
    from .bitmaps import is_bitmap  # to know a name needs no decoders

    if head.startswith(b'\x1f\x8b'):
        try:
            head = zlib.decompressobj(31).decompress(head, HEAD)
        except zlib.error:
            return ''
    if head.startswith(b'SIMPLE  ='):
        return 'fits'
    if head.startswith(b'#ASDF'):
        return 'asdf'
    return 'bitmap' if is_bitmap(head) else ''


def is_wanted(pattern: str) -> bool:
    """
    Whether a glob pattern names its files, or their suffix, so that all of them are wanted.
    """
    return re.search(r'(^|[/\\.])[^/\\.*?\[\]]+$', pattern) is not None


def left_out(names: Iterable[str]) -> str:
    """
    How many files are left out: "12 files were left out: 10 .txt, 2 .log".
    """
    counts = sorted(Counter(map(suffix_of, names)).items(), key=lambda item: (-item[1], item[0]))
    parts = [f'{n} {suffix or "without a suffix"}' for suffix, n in counts[:_MOST_NAMED]]
    if rest := sum(n for _, n in counts[_MOST_NAMED:]):
        parts.append(f'{rest} others')
    n = sum(n for _, n in counts)
    return f'{n} file{"s were" if n > 1 else " was"} left out: {", ".join(parts)}'


def suffix_of(name: str) -> str:
    """
    The suffix of a name, with that of a compression; the time in ``run_12.30`` is none.
    """
    found = re.search(r'(?:\.[a-z][a-z0-9_]{0,9})?\.[a-z][a-z0-9_]{0,9}$', name.lower())
    if found is None:
        return ''
    inner, _, last = found[0].rpartition('.')
    return found[0] if inner and last in _PACKED else f'.{last}'
