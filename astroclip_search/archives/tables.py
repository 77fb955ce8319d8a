# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Table rows -> image references, for any table with an image column.

Of a row's images the one that costs least is taken: a preview, then a bitmap, then what a DataLink
document leads to, then a FITS file that is drawn here. A table that was ranked before names the
image of each row itself, in ``clip_source``.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from astropy.table import Table

from ..exceptions import one_line
from ..images.datalink import fault_status, kind_of_format
from ..images.formats import kind_of_name
from ..images.objectstore import is_allowed
from ..images.refs import ADDRESSES, ImageRefs, is_path, link, parse
from ..status import OK, SKIPPED, STATUSES, Reason, reason, without_notes
from ..untrusted.files import leads_elsewhere
from . import url_builders
from .columns import KINDS, RowMetadata, TableColumns
from .hips import SERVER as SKY_CONTEXT

__all__ = ['has_images', 'hosts', 'image_refs', 'row_metadata']

_WEB = ('https://', 'http://')

_LONGEST = 8000  # characters; servers refuse longer addresses

_FAILED = tuple(status for status in STATUSES if status != OK)

_NOTHING = frozenset(('', '--', 'n/a', 'nan', 'none', 'null'))  # an absent value as text


def _columns(table: Table | TableColumns) -> TableColumns:
    return table if isinstance(table, TableColumns) else TableColumns(table)


def row_metadata(table: Table | TableColumns) -> list[str]:
    """
    Target, title and classification of each row, joined by commas; empty if it has none.

    >>> from astropy.table import Table
    >>> from astroclip_search.archives.tables import row_metadata
    >>> row_metadata(Table({'target_name': ['M 8', ''], 'obs_title': ['Young disks', '']}))
    ['M 8, Young disks', '']
    """
    return _columns(table).metadata


def has_images(table: Table | TableColumns) -> bool:
    """
    Whether a table has any column that could name an image, or was ranked.
    """
    columns = _columns(table)
    return (not columns.roles.keys().isdisjoint(('preview', 'access', 'file', 'link', 'spectrum'))
            or _is_ranked(columns) or url_builders.addresses(columns) is not None)


def hosts(addresses: Iterable[str]) -> frozenset[str]:
    """
    Hosts, with port, of the addresses that have one.
    """
    found = set()
    for address in addresses:
        try:
            found.add(urlsplit(address).netloc.rpartition('@')[2].lower())
        except ValueError:
            continue
    return frozenset(found - {''})


def image_refs(table: Table | TableColumns, *, image_dir: str | Path | None = None,
               image_column: str | Sequence[str] | None = None,
               is_ours: Callable[[str], bool] | None = None) -> ImageRefs:
    """
    Where the image of each row is; no network is used.

    Names that are neither an address nor a ``mast:`` URI are looked up in ``image_dir``, and must
    not lead out of it, unless they are whole paths in an ``image_column``, which the user has named
    in person. Of a table that was ranked before, ``is_ours`` says of a file or an array whether
    this session, or its cache, knows it.

    >>> from astropy.table import Table
    >>> from astroclip_search.archives.tables import image_refs
    >>> found = image_refs(Table({
    ...     'access_url': ['https://example.org/a.jpg', 'https://example.org/links?ID=b', ''],
    ...     'access_format': ['image/jpeg', 'application/x-votable+xml;content=datalink', '']}))
    >>> found.sources
    ['https://example.org/a.jpg', 'datalink:https://example.org/links?ID=b', None]
    >>> [reason.code for reason in found.reasons[2]]
    ['no_image_named']
    """
    columns = _columns(table)
    reader = _Reader(columns, image_dir, is_ours)
    if image_column is not None:
        reader.read_named(columns.named(image_column))
    elif _is_ranked(columns):
        reader.read_ranking()
    else:
        reader.read_columns(range(len(columns)))
    return ImageRefs(reader.sources, RowMetadata(columns),
                     {row: (because,) for row, because in reader.reasons.items()},
                     has_files=reader.has_files, has_links=reader.has_links)


def _is_ranked(columns: TableColumns) -> bool:
    return {'clip_source', 'clip_status'} <= columns.by_key.keys()


class _Reader:
    """
    What is known of the rows of a table so far.
    """

    def __init__(self, columns: TableColumns, image_dir: str | Path | None,
                 is_ours: Callable[[str], bool] | None):
        self.columns = columns
        self.base = None if image_dir is None else Path(image_dir).expanduser().resolve()
        self.is_ours = is_ours or (lambda _: False)
        self.sources: list[str | None] = [None] * len(columns)
        self.reasons: dict[int, Reason] = {}
        self.has_files = self.base is not None
        self.has_links = False
        self.takes_paths = False

    def read_named(self, names: Sequence[str]) -> None:
        """
        Look for the images of all rows in columns that the user has named.
        """
        self.takes_paths = self.has_files = True
        refused: dict[int, Reason] = {}
        left: Sequence[int] = range(len(self.columns))
        for name in names:
            values = self.columns.text(name)
            is_link = name in self.columns.roles.get('link', ())
            if (len(left) == len(self.columns) and not is_link and self._formats(name) is None
                    and _are_addresses(self.columns, name)):
                self.sources = list(values)
                return
            links = left if is_link else _by_kind(values, self._formats(name), left)['link']
            self._take(values, links, self.sources, refused, web=True)
            for i in links:
                if (source := self.sources[i]) is not None:
                    self.has_links, self.sources[i] = True, link(source)
            others = sorted(set(left).difference(links))
            self._take(values, others, self.sources, refused)
            left = [i for i in left if self.sources[i] is None]
        self.reasons.update((i, refused.get(i) or reason('no_image_named')) for i in left)

    def read_columns(self, rows: Sequence[int]) -> None:
        """
        Look for the images of some rows in the columns that archives have.
        """
        columns = self.columns
        refused: dict[int, Reason] = {}  # a later column may still have an image
        left = rows
        for name in columns.roles.get('preview', ()):
            if not left:
                break
            if len(left) == len(columns) and _are_addresses(columns, name):
                self.sources, left = list(columns.text(name)), []
            else:
                left = self._take(columns.text(name), left, self.sources, refused)
        if left:
            self._take_products(left, refused)
        self.reasons.update((i, refused.get(i) or reason('no_image_named'))
                            for i in left if self.sources[i] is None)
        self._skip_other_kinds(rows)
        for faults in columns.texts('fault'):
            self.reasons.update((i, reason('archive_fault', status=fault_status(faults[i]),
                                           said=faults[i][:200]))
                                for i in rows if faults[i] and self.sources[i] is None)

    def _take(self, values: list[str], rows: Iterable[int], into: list[str | None],
              refused: dict[int, Reason], *, web: bool = False) -> list[int]:
        """
        Fill in the images of some rows; return the rows that still have none.
        """
        left = []
        for i in rows:
            value = values[i]
            if (not web and value.startswith(ADDRESSES) and len(value) <= _LONGEST
                    and value.isascii()):
                into[i] = value
                continue
            if value.lower() not in _NOTHING:
                found = self._checked(value, web=web)
                if isinstance(found, str):
                    into[i] = found
                    continue
                refused.setdefault(i, found)
            left.append(i)
        return left

    def _checked(self, value: str, *, web: bool = False) -> str | Reason:
        """
        Reference to an image by the value of a column, or why there is none.
        """
        if len(value) > _LONGEST:
            return reason('address_too_long', n=len(value), limit=_LONGEST)
        if web:
            value = value.removeprefix('datalink:')
            if not value.startswith(_WEB):
                return reason('no_address')
        elif not value.startswith(ADDRESSES):
            return self._local(value)
        return value if _is_legible(value) else reason('address_invalid')

    def _local(self, value: str) -> str | Reason:
        if is_allowed(value, remote=True):
            return value
        if '://' in value:
            return reason('no_address')
        whole = is_path(value)
        if self.base is None or (whole and self.takes_paths):
            return (reason('file_without_folder') if not whole else
                    value if self.takes_paths else reason('path_without_folder'))
        if leads_elsewhere(value, self.base):
            return reason('file_outside')
        try:
            path = (self.base / value).resolve()
        except (OSError, ValueError, RuntimeError):  # the latter for a loop of links
            return reason('file_name_invalid')
        return str(path) if path.is_relative_to(self.base) else reason('file_outside')

    def _take_products(self, rows: Sequence[int], refused: dict[int, Reason]) -> None:
        """
        Images of the rows that have no preview.
        """
        from ..config import conf

        candidates = self._candidates(rows)
        sizes = self.columns.sizes
        large = set() if sizes is None else set(np.flatnonzero(sizes > conf.max_bytes).tolist())
        too_large = reason('too_many_bytes', limit=conf.max_bytes)
        fallbacks: list[str | None] = [None] * len(self.columns)  # FITS files beside a link
        for values, by_kind in candidates:
            self._take(values, by_kind.get('fits', ()), fallbacks, {})
        for kind in ('bitmap', 'link', 'fits'):
            for values, by_kind in candidates:
                chosen = [i for i in by_kind.get(kind, ()) if self.sources[i] is None]
                self._take(values, chosen, self.sources, refused, web=kind == 'link')
                for i in chosen:
                    source = self.sources[i]
                    if source is not None and kind == 'link':
                        self.has_links = True
                        self.sources[i] = link(source, fallback='' if i in large
                                               else fallbacks[i] or '')
                    elif source is not None and i in large:
                        self.reasons[i] = too_large

    def _candidates(self, rows: Iterable[int]) -> list[tuple[list[str], dict[str, list[int]]]]:
        """
        Columns that may name images: their values, and the rows with a value of each kind.
        """
        columns = self.columns
        result = []
        for name in columns.roles.get('file', []) + columns.roles.get('access', []):
            values = columns.text(name)
            result.append((values, _by_kind(values, self._formats(name), rows)))
        result += [(values, {'link': [i for i in rows if values[i].lower() not in _NOTHING]})
                   for values in columns.texts('link')]
        known = url_builders.addresses(columns)
        if known is not None:
            _, values, filenames = known
            links = [i for i in rows if values[i].startswith('datalink:')]
            result.append((values, _by_kind(filenames, None, rows) if filenames is not None else
                           {'link': links} if links else
                           {'bitmap': [i for i in rows if values[i]]}))
        return result

    def _formats(self, name: str) -> list[str] | None:
        """
        The formats of what a column names, `None` if no column tells.
        """
        columns = self.columns
        # The format is that of the data set, if there is one, and not of every link beside it.
        formatted = columns.roles.get('access') or columns.roles.get('file', [])
        return next(iter(columns.texts('format')), None) if name in formatted else None

    def _skip_other_kinds(self, rows: Sequence[int]) -> None:
        if 'spectrum' in self.columns.roles:
            self.reasons.update(dict.fromkeys(
                rows, reason('spectrum_named', column=self.columns.roles['spectrum'][0])))
            return
        for role, is_image in KINDS.items():
            for name in self.columns.roles.get(role, ()):
                kinds = self.columns.text(name)
                others = {kind: reason('other_kind', column=name, kind=kind[:60])
                          for kind in set(kinds) if kind and not is_image(kind.lower())}
                if others:
                    self.reasons.update((i, others[kinds[i]]) for i in rows if kinds[i] in others)

    def read_ranking(self) -> None:
        """
        Take what an earlier ranking says, which may come from anyone's file, and look at the other
        columns for the rows that are worth another try.
        """
        columns = self.columns
        name, *others = (columns.find(key) or '' for key in ('clip_source', 'clip_status',
                                                             'clip_message'))
        sources = columns.text(name)
        states, said = (columns.text(other) if other else [''] * len(columns) for other in others)
        if {OK, ''}.issuperset(states) and not any(said) and _are_addresses(columns, name):
            self.sources = list(sources)
            return
        left = [i for i, row in enumerate(zip(sources, states, said, strict=True))
                if not self._take_ranked(i, *row)]
        self.read_columns(left)
        # A file may be there by now, but a spectrum is no image for that.
        self._skip_other_kinds([i for i, state in enumerate(states) if state == SKIPPED])
        for i in left:
            # What failed may have been a picture of the sky, which counts only if asked for.
            if i not in self.reasons or states[i] not in _FAILED or sources[i].startswith(
                    SKY_CONTEXT):
                continue
            if self.reasons[i].code == 'no_image_named' and _local_parts(sources[i]) == []:
                del self.reasons[i]  # one of a list of addresses
                self._take_source(i, sources[i])
            else:
                self.reasons[i] = _before(states[i], said[i])

    def _take_ranked(self, i: int, source: str, state: str, said: str) -> bool:
        """
        Take the image of a row that was ranked, or why it has none; return whether this is all.
        """
        parts = _local_parts(source)
        if parts is None or not (state in ('', OK) or (parts and state in _FAILED)):
            return False
        ours = not parts or self.is_ours(source) or all(map(self._is_known, parts))
        if ours:
            self._take_source(i, source)
        if state in _FAILED:
            # A file may have been mended by now, or was not reached; an array is as it was.
            if not ours or any(parse(part).kind == 'memory' for part in parts):
                self.reasons[i] = _before(state, said)
        elif not ours:
            self.reasons[i] = reason('not_ranked_here')
        elif note := said and without_notes(said, 'twin', 'copy', 'liked', 'disliked', 'lost',
                                                'by_words', 'no_colour'):
            self.reasons[i] = _before(OK, note)
        return True

    def _take_source(self, i: int, source: str) -> None:
        self.sources[i] = source
        self.has_links |= source.startswith('datalink:')
        self.has_files |= bool(_local_parts(source))

    def _is_known(self, part: str) -> bool:
        """
        Whether a file or an array may be used.
        """
        return self.is_ours(part) or (self.base is not None and Path(part).is_absolute()
                                      and isinstance(self._local(part), str))


def _before(status: str, said: str) -> Reason:
    return reason('before', status=status, said=one_line(said, 1000) if said else '')


def _local_parts(source: str) -> list[str] | None:
    """
    Files and arrays that a reference of a ranked table needs; `None` if it is no such reference.
    """
    ref = parse(source)
    if ref.kind in ('path', 'memory'):
        return [source]
    if ref.kind == 'colour':
        found: list[str] = []
        for part in ref.parts:
            parts = None if parse(part).kind == 'link' else _local_parts(part)
            if parts is None:
                return None
            found += parts
        return found
    if ref.kind == 'link':
        if not ref.address.startswith(_WEB) or not _is_legible(ref.address) or not all(
                map(_is_finite, ref.circle)) or ref.fallback.startswith(('datalink:', 'rgb:')):
            return None
        return _local_parts(ref.fallback) if ref.fallback else []
    allowed = ref.kind in ('web', 'mast') or is_allowed(source, remote=True)
    return [] if allowed and _is_legible(source) else None


def _is_legible(address: str) -> bool:
    try:
        address.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return len(address) <= _LONGEST


def _is_finite(number: str) -> bool:
    try:
        return math.isfinite(float(number))
    except ValueError:
        return False


def _are_addresses(columns: TableColumns, name: str) -> bool:
    """
    Whether a whole column has addresses and nothing else, as previews mostly do: this takes a
    fraction of the time of a look at each.
    """
    values, array = columns.text(name), np.asarray(columns.table[name])
    if (not values or array.dtype.kind != 'U' or array.dtype.itemsize > 4 * _LONGEST
            or not all(values) or not ''.join(values).isascii()):
        return False
    # The kind of the first row comes first: it is mostly the only one.
    for prefix in sorted(ADDRESSES, key=lambda prefix: not values[0].startswith(prefix)):
        array = array[~np.strings.startswith(array, prefix)]
        if not len(array):
            return True
    return False


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
                by_format[mime] = kind_of_format(mime)
            kind = by_format[mime]
        result[_kind_of_name(value) if kind is None else kind].append(i)
    return result


def _kind_of_name(value: str) -> str:
    kind = kind_of_name(re.split('[?#]', value, maxsplit=1)[0])
    return 'fits' if kind == 'asdf' else kind  # data, which come after previews
