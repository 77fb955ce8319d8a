# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How much memory a table file will take, found out before it is read.

A few bytes can stand for any number of rows, and a header can announce more than there is. What a
table takes may be many times its file, as text does in arrays, but not any number of times.
"""

import bz2
import contextlib
import csv
import gzip
import lzma
import math
import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..untrusted.documents import check_unit, check_yaml
from ..untrusted.files import open_regular
from ..untrusted.quiet import quiet

if TYPE_CHECKING:
    from pyarrow.parquet import FileMetaData

__all__ = ['Room', 'bounded', 'check_fits', 'check_hdf5', 'check_parquet', 'check_text', 'copied',
           'unpacked']

# A table may take so many times the bytes of its file, whatever the setting.
_TIMES = 64

_MAX_COLUMNS = 10_000

_CHUNK = 2**20

# Bytes of an object of Python.
_OBJECT = 60

_PACKED: dict[bytes, Any] = {b'\x1f\x8b': gzip.open, b'BZh': bz2.open, b'\xfd7zXZ\0': lzma.open}

_PACKED_OTHERWISE = (b'PK\3\4', b'\x1f\x9d', b'\x28\xb5\x2f\xfd', b'\x04\x22\x4d\x18', b']\0\0')

# Where a type of a column has a length or a shape. Base64 has such letters, but after others.
_LONG_TYPE = re.compile(r'(?<![\w+/])[<>=|]?(?:[SUVa]|str|bytes|void)\d{4}|\)\s*[<>=|]?[A-Za-z]\d'
                        r'|subtype["\']?\s*:\s*["\']?\w+\s*\[|\\[xuU]|subtype\s*$', re.MULTILINE)

_TYPE = re.compile(r'[<>=|]?[A-Za-z]+[0-9]{0,4}(\[[A-Za-z]+\])?')


class Room:
    """
    The memory that a table may take, by the size of the file that it came in.
    """

    def __init__(self, n_bytes: int):
        from ..config import conf

        self.n_bytes = max(_TIMES * n_bytes, int(conf.max_table_bytes))

    @classmethod
    def of(cls, path: Path) -> 'Room':
        """
        For the table of a file.
        """
        return cls(path.stat().st_size)

    def check(self, needed: float, what: str = 'the table') -> None:
        """
        Raise if there is less room than is needed.
        """
        if not needed <= self.n_bytes:  # nor NaN
            raise ValueError(f'{what} would take {needed / 1e9:,.2f} GB, far more than its file: '
                             'raise conf.max_table_bytes if that is right')


def copied(source: IO[bytes], target: IO[bytes], room: Room) -> int:
    """
    Copy a stream while there is room; how many bytes it has.
    """
    n = 0
    while chunk := source.read(_CHUNK):
        n += len(chunk)
        room.check(n, 'what is unpacked or piped')
        target.write(chunk)
    return n


def unpacked(path: Path, folder: str, room: Room) -> Path:
    """
    A file without its compression, in a folder; a file that has none as it is.
    """
    with open_regular(path) as file:
        start = file.read(8)
        if start.startswith(_PACKED_OTHERWISE):
            raise ValueError('of compressed tables only those of gzip, bzip2 and xz are read: '
                             'unpack it first')
        unpack = next((unpack for magic, unpack in _PACKED.items() if start.startswith(magic)),
                      None)
        if unpack is None:
            return path
        target = Path(folder, 'unpacked')
        file.seek(0)
        with unpack(file) as content, target.open('wb') as written:
            copied(content, written, room)
    with target.open('rb') as written:
        if written.read(8).startswith((*_PACKED, *_PACKED_OTHERWISE)):
            raise ValueError('it is compressed twice: unpack it first')
    return target


class _Gzip(gzip.GzipFile):
    end: float

    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(_within(self.end, offset, whence, super().seek), 0)


class _Bzip2(bz2.BZ2File):
    end: float

    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(_within(self.end, offset, whence, super().seek), 0)


def _within(end: float, offset: int, whence: int, seek: Callable[[int, int], int]) -> int:
    place = offset + (seek(0, 1) if whence == 1 else 0)
    if whence == 2 or place > end:
        raise OSError('it unpacks to far more than its file')
    return place


def bounded(file: BinaryIO, room: Room) -> Any:
    """
    A file that may be compressed, of which no more is unpacked than there is room for: to get to
    the next header of a FITS file, everything before it is.
    """
    start = file.read(3)
    file.seek(0)
    if start[:2] != b'\x1f\x8b' and start != b'BZh':
        return file
    unpacking = _Bzip2(file) if start == b'BZh' else _Gzip(fileobj=file)
    unpacking.end = room.n_bytes
    return unpacking


# ---- ECSV and CSV --------------------------------------------------------------------------


def check_text(path: Path, room: Room, *, is_ecsv: bool) -> bool:
    """
    Raise if the header asks for too much; whether there is room for arrays of strings, which have
    room for the longest in each row.
    """
    with open_regular(path) as file, _mapped(file) as content:
        if not len(content):
            return True
        start, names = _first_row(content, is_ecsv=is_ecsv)
        n_columns = 1 + max(names.count(separator) for separator in b',\t |;')
        if n_columns > _MAX_COLUMNS:
            raise ValueError(f'it has more than {_MAX_COLUMNS:,} columns')
        n_rows, longest = _records(content, path, start, names)
        if is_ecsv:
            _check_header(_header(content[:start]), n_rows, room)
        if 4.0 * n_rows * longest <= room.n_bytes:
            return True
        # Rows may be shorter than the names, and are filled.
        room.check(float(n_rows) * n_columns * _OBJECT)
        return False


def _mapped(file: BinaryIO) -> Any:
    if not file.seek(0, 2):
        return contextlib.nullcontext(b'')
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _records(content: Any, path: Path, start: int, names: bytes) -> tuple[int, int]:
    """
    How many rows there are, and the letters of the longest; what is before the names is no row.
    """
    if content.find(b'"', start) < 0:
        return _lines(content, start)
    # Within quotes a cell may go on over many lines.
    n, longest = 0, 0
    with open_regular(path) as file:
        file.seek(start)
        lines = (line.decode('utf-8', 'replace') for line in file)
        delimiter = ' ' if start and b',' not in names else ','
        try:
            for row in csv.reader(lines, delimiter=delimiter):
                n += 1
                longest = max(longest, sum(map(len, row)))
        except csv.Error:  # of a cell that is very long, or without an end
            return _lines(content, start)[0], len(content) - start
    return n, longest


def _lines(content: Any, begin: int) -> tuple[int, int]:
    """
    How many lines there are, and the bytes of the longest.
    """
    n, longest, open_since = 1, 0, begin
    for start in range(begin, len(content), 16 * _CHUNK):
        part = np.frombuffer(content[start:start + 16 * _CHUNK], np.uint8)
        ends = np.flatnonzero((part == ord('\n')) | (part == ord('\r'))) + start
        if len(ends):
            longest = max(longest, int(np.diff(ends, prepend=open_since).max()))
            open_since, n = int(ends[-1]), n + len(ends)
    return n, max(longest, len(content) - open_since)


def _first_row(content: Any, *, is_ecsv: bool) -> tuple[int, bytes]:
    """
    Where the line that has the names of the columns begins, and that line; CSV has no comments.
    """
    start = 0
    while True:
        end = content.find(b'\n', start)
        line = content[start:end if end >= 0 else len(content)]
        if end < 0 or (line.strip() and not (is_ecsv and line.lstrip().startswith(b'#'))):
            return start, line
        start = end + 1


def _header(content: bytes) -> str:
    """
    The YAML of an ECSV file.
    """
    lines = (line.strip() for line in content.decode('utf-8', 'replace').splitlines())
    return '\n'.join(line[1:].removeprefix(' ') for line in lines if line.startswith('#'))


def _check_header(text: str, n_rows: int, room: Room) -> None:
    check_yaml(text)
    if not _LONG_TYPE.search(text):
        return
    from astropy.table import meta

    columns = meta.get_header_from_yaml(text.split('\n')).get('datatype')
    for column in columns if isinstance(columns, list) else ():
        if not isinstance(column, dict):
            continue
        kind, more = str(column.get('datatype', '')), str(column.get('subtype') or '')
        if not _TYPE.fullmatch(kind):
            raise ValueError(f'{kind[:40]!r} is no type of a column')
        sides = re.findall(r'\d+', more.partition('[')[2])
        if any(len(side) > 12 for side in sides) or not _TYPE.fullmatch(
                more.partition('[')[0].strip() or 'x'):
            raise ValueError(f'{more[:40]!r} is no type of a column')
        width = int(next(iter(re.findall(r'\d+', kind)), 8))
        # Numbers in JSON are objects before they are an array.
        room.check(float(n_rows) * max(width, 8) * 8 * math.prod(map(int, sides)))


# ---- FITS ----------------------------------------------------------------------------------


def check_fits(path: Path, number: int, room: Room) -> None:
    """
    Raise if a table of a FITS file announces more than there is, or its rows share what is in the
    heap, of which each gets a copy.
    """
    from ..images.declared import opened

    with quiet(), open_regular(path) as file, opened(file) as hdus:
        if len(hdus) <= number:
            raise ValueError('it has no table')
        hdu = hdus[number]
        header, start = hdu.header, hdu.fileinfo()['datLoc']
    width, n_rows, heap = (int(header.get(key, 0)) for key in ('NAXIS1', 'NAXIS2', 'PCOUNT'))
    there = path.stat().st_size - start
    n_fields = int(header.get('TFIELDS', 0))
    if min(width, n_rows, heap, n_fields) < 0 or width * n_rows > there:
        raise ValueError(f'{n_rows:,} rows of {width:,} bytes are announced, and the file has '
                         f'{max(there, 0):,} bytes of them')
    for i in range(1, n_fields + 1):
        check_unit(header.get(f'TUNIT{i}'))
    check_yaml(_serialized(header.get('COMMENT', ())))
    # A column may have no width.
    room.check(float(n_rows) * max(width, n_fields))
    formats = [str(header.get(f'TFORM{i}', '')) for i in range(1, n_fields + 1)]
    arrays = [re.fullmatch(r'\s*\d*([PQ])([A-Z]).*', form) for form in formats]
    if header.get('XTENSION') == 'BINTABLE' and any(arrays) and n_rows:
        with open_regular(path) as file:
            needed = _n_in_heap(file, start, n_rows, width, formats)
        room.check(needed + float(n_rows) * sum(map(bool, arrays)) * _OBJECT)


def _serialized(comments: Any) -> str:
    """
    The YAML that astropy keeps in comments, where a backslash goes on in the next.
    """
    lines = '\n'.join(map(str, comments)).partition('--BEGIN-ASTROPY-SERIALIZED-COLUMNS--')[2]
    return lines.partition('--END-ASTROPY-SERIALIZED-COLUMNS--')[0].replace('\\\n', '')


_FORM = re.compile(r'\s*(\d*)([LXBIJKAEDCMPQ])(?:([A-Z]).*)?')
_WIDTHS = {'L': 1, 'B': 1, 'I': 2, 'J': 4, 'K': 8, 'A': 1, 'E': 4, 'D': 8, 'C': 8, 'M': 16,
           'P': 8, 'Q': 16, 'X': 1 / 8}


def _n_in_heap(file: BinaryIO, start: int, n_rows: int, width: int, formats: list[str]) -> float:
    """
    Bytes of all arrays of variable length.
    """
    rows = np.memmap(file, np.uint8, 'r', start, (n_rows, width))
    place, needed = 0, 0.0
    for form in formats:
        found = _FORM.match(form)
        if found is None:
            raise ValueError(f'{form[:20]!r} is no format of a column')
        repeat, kind, of = int(found[1] or 1), found[2], found[3]
        size = math.ceil(repeat * _WIDTHS[kind])
        if place + size > width:
            raise ValueError('its columns are wider than its rows')
        if kind in 'PQ' and repeat:
            integer = '>i4' if kind == 'P' else '>i8'
            counts = np.ascontiguousarray(rows[:, place:place + _WIDTHS[kind] // 2]).view(integer)
            if counts.min(initial=0) < 0:
                raise ValueError('an array of the heap has a negative length')
            needed += counts.sum(dtype=float) * max(1, _WIDTHS.get(of or 'B', 1))
        place += size
    return needed


# ---- Parquet -------------------------------------------------------------------------------


def check_parquet(metadata: 'FileMetaData', room: Room) -> list[str]:
    """
    Raise if the footer announces too much; the columns of text that a dictionary makes short.
    """
    if metadata.num_columns > _MAX_COLUMNS:
        raise ValueError(f'it has more than {_MAX_COLUMNS:,} columns')
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if min((group.num_rows for group in groups), default=0) < 0 or sum(
            group.num_rows for group in groups) != metadata.num_rows:
        raise ValueError('its groups do not have as many rows as the file')
    needed, short = 0.0, set()
    for i in range(metadata.num_columns):
        leaf = metadata.schema.column(i)
        width = max(leaf.length, 8) if leaf.physical_type == 'FIXED_LEN_BYTE_ARRAY' else 8
        for group in groups:
            chunk = group.column(i)
            n_values = max(chunk.num_values, group.num_rows)
            needed += max(float(n_values) * width, chunk.total_uncompressed_size)
            if leaf.physical_type == 'BYTE_ARRAY' and not {'PLAIN', 'RLE'}.issuperset(
                    chunk.encodings):
                short.add(leaf.path)
    room.check(needed)
    return sorted(short)


# ---- HDF5 ----------------------------------------------------------------------------------


def check_hdf5(path: Path, room: Room) -> None:
    """
    Raise if a table of an HDF5 file announces too much, or the file leads to others.
    """
    import h5py

    with open_regular(path) as stream, h5py.File(stream, 'r') as file:
        def look(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise ValueError(f'{name[:60]!r} is in another file')
                room.check(float(item.size or 0) * max(item.dtype.itemsize, 1))
                if item.dtype.kind == 'S' and name.endswith('__table_column_meta__'):
                    check_yaml('\n'.join(line.decode('utf-8', 'replace') for line in item[()]))

        _look_at_links(file, look)


def _look_at_links(group: Any, look: Any, depth: int = 0) -> None:
    import h5py

    if depth > 20:
        raise ValueError('its groups are nested too deeply')
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            raise ValueError(f'{name[:60]!r} leads elsewhere')
        item = group[name]
        look(name, item)
        if isinstance(item, h5py.Group):
            _look_at_links(item, look, depth + 1)
