# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Table rows -> image references, for any table with an image column.

Of a row's images the one that costs least is taken: a preview, then a bitmap, then what a DataLink
document leads to, then a FITS file that is drawn here.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.table import Table

from ..buckets import is_allowed
from ..datalink import BITMAP_TYPES, fault_status, is_datalink, media_type
from ..links import link
from ..pixels import FITS_SUFFIXES, IMAGE_SUFFIXES
from ..references import LINK, References
from . import services
from .columns import IMAGE_COLUMNS, KINDS, recognise, sizes, text_column
from .readings import read_once

__all__ = ['IMAGE_COLUMNS', 'has_images', 'references', 'row_words']

# Formats that say nothing: the suffix is asked.
_UNKNOWN = ('', 'application/octet-stream', 'binary/octet-stream', 'application/gzip',
            'application/x-gzip')

_ADDRESSES = ('https://', 'http://', 'mast:')
_LONGEST = 8000  # characters; servers refuse longer addresses
_NOTHING = frozenset(('', '--', 'n/a', 'nan', 'none', 'null'))  # an absent value as text
_MAX_WORDS = 1000  # characters of each column


def row_words(table: Table) -> list[str]:
    """
    The words that each row carries: target, title and classification, joined by commas.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.

    Returns
    -------
    list of str
        One string a row, empty if the row has no words.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from astroclip_search.archives.tables import row_words
    >>> row_words(Table({'target_name': ['M 8', ''], 'obs_title': ['Young disks', '']}))
    ['M 8, Young disks', '']
    """
    found = recognise(table)
    columns = [_short(table, name) for role in ('target', 'title', 'class')
               for name in found.get(role, ())]
    if not columns:
        return [''] * len(table)
    rows = zip(*columns, strict=True)
    if any('' in column for column in columns):
        rows = (filter(None, parts) for parts in rows)
    return list(map(', '.join, rows))


def _short(table: Table, name: str) -> list[str]:
    values = text_column(table, name)
    dtype = np.asarray(table[name]).dtype
    if dtype.kind == 'U' and dtype.itemsize <= 4 * _MAX_WORDS:
        return values
    return [value[:_MAX_WORDS] for value in values]


def references(table: Table, *, image_dir: str | Path | None = None) -> References:
    """
    Where the image of each row is.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table; no network is used.
    image_dir : path-like, optional
        Folder for names that are neither an address nor a ``mast:`` URI. Names that lead out of
        it are refused.

    Returns
    -------
    References
        One entry a row. Its ``sources`` are all `None` if the table has no image column.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from astroclip_search.archives.tables import references
    >>> found = references(Table({
    ...     'access_url': ['https://example.org/a.jpg', 'https://example.org/links?ID=b', ''],
    ...     'access_format': ['image/jpeg', 'application/x-votable+xml;content=datalink', '']}))
    >>> found.sources
    ['https://example.org/a.jpg', 'datalink:https://example.org/links?ID=b', None]
    >>> found.status
    ['', '', 'NO_IMAGE']
    """
    found = recognise(table)
    if image_dir is not None:  # what is in a folder may change
        return _read(table, found, Path(image_dir).expanduser().resolve())
    from .. import conf

    named = [(role, tuple(names)) for role, names in found.items()]
    columns = dict.fromkeys([name for _, names in named for name in names]
                            + services.columns(table))
    # All that is looked up in the reading of a row, but for its own values.
    asked = (tuple(table.colnames), tuple(named), conf.max_bytes, tuple(conf.fsspec_protocols))
    return read_once(table, columns, asked, lambda: _read(table, found, None))


def _read(table: Table, found: dict[str, list[str]], base: Path | None) -> References:
    """
    Look at each row.
    """
    n = len(table)
    sources: list[str | None] = [None] * n
    status, message = [''] * n, [''] * n
    refused: dict[int, str] = {}  # a later column may still have an image

    rows: Iterable[int] = range(n)  # those that nothing is known of yet
    for name in found.get('preview', ()):
        values = text_column(table, name)
        rows = _take(values, rows, sources, refused, base)
    if rows:
        candidates = _candidates(table, found, rows)
        too_large = _too_large(table, found)
        fallbacks: list[str | None] = [None] * n  # FITS files beside a link
        for values, by_kind in candidates:
            _take(values, by_kind.get('fits', ()), fallbacks, {}, base)
        for kind in ('bitmap', 'link', 'fits'):
            for values, by_kind in candidates:
                chosen = [i for i in by_kind.get(kind, ()) if sources[i] is None]
                _take(values, chosen, sources, refused, base, LINK if kind == 'link' else '')
                for i in chosen:
                    if sources[i] is None:
                        continue
                    if kind == 'link':
                        fallback = '' if i in too_large else fallbacks[i] or ''
                        sources[i] = link(sources[i].removeprefix(LINK), fallback=fallback)
                    elif i in too_large:
                        status[i], message[i] = 'SKIPPED', too_large[i]
        for i in rows:
            if sources[i] is None:
                status[i] = 'ERROR' if i in refused else 'NO_IMAGE'
                message[i] = refused.get(i, 'the row names no image')
    _skip_other_kinds(table, found, status, message)
    _tell_faults(table, found, sources, status, message)
    return References(sources, row_words(table), status, message, has_files=base is not None,
                      has_links=any(sources[i] is not None and sources[i].startswith(LINK)
                                    for i in rows))


def _take(values: list[str], rows: Iterable[int], sources: list[str | None],
          refused: dict[int, str], base: Path | None, prefix: str = '') -> list[int]:
    """
    Fill in the sources of some rows; return the rows that still have none.
    """
    left = []
    for i in rows:
        value = values[i]
        if (value.startswith(_ADDRESSES) and len(value) <= _LONGEST and value.isascii()
                and not prefix):
            sources[i] = value
            continue
        if value.lower() not in _NOTHING:
            source, reason = _source(value, base, prefix)
            if source is not None:
                sources[i] = source
                continue
            refused.setdefault(i, reason)
        left.append(i)
    return left


def _source(value: str, base: Path | None, prefix: str) -> tuple[str | None, str]:
    """
    Source of an image, or why it has none.
    """
    if len(value) > _LONGEST:
        return None, f'a name of {len(value)} characters; at most {_LONGEST} are possible'
    if prefix and value.startswith(prefix):
        value = value.removeprefix(prefix)
    if prefix and not value.startswith(('https://', 'http://')):
        return None, 'not an http or https address'
    if not value.startswith(_ADDRESSES):
        return _local(value, base)
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return None, 'not a valid address'
    return prefix + value, ''


def _local(value: str, base: Path | None) -> tuple[str | None, str]:
    if is_allowed(value, remote=True):
        return value, ''
    if '://' in value:
        return None, 'not an http or https address'
    if base is None:
        return None, 'a file name: give image_dir, the folder it is in'
    try:
        path = (base / value).resolve()
    except (OSError, ValueError, RuntimeError):  # the latter for a loop of links
        return None, 'not a valid file name'
    if not path.is_relative_to(base):
        return None, 'the name leads out of image_dir'
    return str(path), ''


def _candidates(table: Table, found: dict[str, list[str]],
                rows: Iterable[int]) -> list[tuple[list[str], dict[str, list[int]]]]:
    """
    Columns that may name images: their values, and the rows with a value of each kind.
    """
    formats = next((text_column(table, name) for name in found.get('format', ())), None)
    # The format is that of the data set, if there is one, and not of every link beside it.
    formatted = found.get('access') or found.get('file', ())
    result = []
    for name in found.get('file', []) + found.get('access', []):
        values = text_column(table, name)
        result.append((values, _by_kind(values, formats if name in formatted else None, rows)))
    for name in found.get('link', ()):
        values = text_column(table, name)
        result.append((values, {'link': [i for i in rows
                                         if values[i].lower() not in _NOTHING]}))
    known = services.addresses(table)
    if known is not None:
        _, values, filenames = known
        if filenames is not None:
            kinds = _by_kind(filenames, None, rows)
        else:
            kinds = {}
            for i in rows:
                if values[i]:
                    kinds.setdefault('link' if values[i].startswith(LINK) else 'bitmap',
                                     []).append(i)
        result.append((values, kinds))
    return result


def _by_kind(values: list[str], formats: list[str] | None,
             rows: Iterable[int]) -> dict[str, list[int]]:
    by_format: dict[str, str | None] = {}
    result: dict[str, list[int]] = {'bitmap': [], 'link': [], 'fits': [], '': []}
    for i in rows:
        value = values[i]
        if not value:
            continue
        kind = None
        if formats is not None:
            mime = formats[i]
            if mime not in by_format:
                by_format[mime] = _kind_of_format(mime)
            kind = by_format[mime]
        result[_kind_of_name(value) if kind is None else kind].append(i)
    return result


def _kind_of_format(mime: str) -> str | None:
    """
    What a media type is, empty for no image, `None` if it does not tell.
    """
    media = media_type(mime)
    if media in _UNKNOWN:
        return None
    if media in BITMAP_TYPES:
        return 'bitmap'
    if is_datalink(mime):
        return 'link'
    # image/fits, application/x-fits, image/x-fits-gzip; but no table in FITS.
    if media.startswith(('image/', 'application/')) and 'fits' in media and 'table' not in media:
        return 'fits'
    return ''


def _kind_of_name(value: str) -> str:
    name = re.split('[?#]', value, maxsplit=1)[0].lower()
    if name.endswith(IMAGE_SUFFIXES):
        return 'bitmap'
    return 'fits' if name.endswith(FITS_SUFFIXES) else ''


def _too_large(table: Table, found: dict[str, list[str]]) -> dict[int, str]:
    from .. import conf

    size = sizes(table, found)
    if size is None:
        return {}
    reason = f'larger than {conf.max_bytes} bytes (conf.max_bytes)'
    return dict.fromkeys(np.flatnonzero(size > conf.max_bytes).tolist(), reason)


def _tell_faults(table: Table, found: dict[str, list[str]], sources: list[str | None],
                 status: list[str], message: list[str]) -> None:
    """
    What the archive itself says is wrong with a row.
    """
    for name in found.get('fault', ()):
        for i, fault in enumerate(text_column(table, name)):
            if fault and sources[i] is None:
                status[i] = fault_status(fault)
                message[i] = f'the archive says {fault[:200]!a}'


def _skip_other_kinds(table: Table, found: dict[str, list[str]], status: list[str],
                      message: list[str]) -> None:
    if 'spectrum' in found:
        status[:] = ['SKIPPED'] * len(status)
        message[:] = [f'not an image: {found["spectrum"][0]} names a spectrum'] * len(message)
        return
    for role, is_image in KINDS.items():
        for name in found.get(role, ()):
            array = np.asarray(table[name])
            if array.dtype.kind == 'U' and np.all(array == 'image'):  # as almost always
                continue
            kinds = text_column(table, name)
            others = {kind for kind in set(kinds) if kind and not is_image(kind.lower())}
            for i in [i for i, kind in enumerate(kinds) if kind in others] if others else ():
                status[i] = 'SKIPPED'
                message[i] = f'not an image: {name} is {kinds[i][:60]!a}'


def has_images(table: Table) -> bool:
    """
    Whether a table has any column that could name an image.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.

    Returns
    -------
    bool
        `False` if no column is known to.
    """
    found = recognise(table)
    return (any(role in found for role in ('preview', 'access', 'file', 'link', 'spectrum'))
            or services.addresses(table) is not None)
