# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
XML of services, files and pipes -> XML that astropy and pyvo may parse.

Both parse what they get: they open the addresses of a VOTable's streams, reserve memory for as many
rows and as long values as it announces, and go on for as long as it lasts. Here a document is
unpacked and decoded first, under a cap, and then looked at in one pass by expat, the parser of
astropy, which therefore reads the very same characters. What would make a reader open an address,
take memory without bounds or count for ever is refused; all else goes on as it is.
"""

import base64
import contextlib
import math
import re
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO
from xml.parsers import expat

from .documents import check_unit
from .values import whole_number
from .xml_bytes import PACKED, UnsafeXMLError, decoded, too_large, unpacked

if TYPE_CHECKING:
    import requests

__all__ = ['MAX_BYTES', 'UnsafeXMLError', 'check_answer', 'checked', 'read']

MAX_BYTES = 1024**3
"""
Bytes of a document, packed and unpacked.
"""

# A table in memory takes more than its document: text of 256 letters 1 kB, empty or not. What takes
# more than so many times the bytes, beyond what any machine has, was not made to be read.
_BASE = 128 * 1024**2
_TIMES = 32
_MOST = 4 * 1024**3

# Numbers in arrays of fixed length, which are made one by one where a cell is empty, too.
_MAX_ITEMS = 2_000_000
_MAX_VALUES = 200_000  # in what describes the columns

# Bytes that objects of Python take: text, an array of any length, a number or an array that is
# being read, and text that is.
_TEXT, _ARRAY, _ITEM, _INNER, _PER_LETTER = 80, 800, 48, 300, 60

_MAX_DEPTH = 64
_MAX_ELEMENTS = 100_000  # other than rows and cells
_MAX_COLUMNS = 3000  # of one table: some steps of astropy take the square of it
_MAX_FIELDS = 10_000  # FIELD and PARAM of all tables, 5 kB each
_MAX_ALIKE = 50  # columns of one name, which astropy counts through for each
_MAX_TABLES = 2000
_MAX_REFERENCES = 100  # each of which astropy looks for in all that stands before it
_MAX_TAG = 1024**2  # letters of a tag or a comment
_MAX_ATTRIBUTES = 100
_MAX_SIZE = 100  # letters of an arraysize
_MAX_WIDTH = 500  # with which a column is printed

# Units that are unknown are compared to all that are known, about a millisecond a letter, and their
# powers are computed. A difference, as in "BJD - 2457000", is none.
_MAX_UNITS, _MAX_UNIT = 20_000, 100  # letters of all, and of one
_HIGH_POWER = re.compile(r'(?:\*\*|\^|[\w).][+\-])[\s(+\-]*\d{4}')

# The mapping of columns to a data model, which astropy writes again as text, piece by piece.
_MAX_MODEL, _MAX_MODEL_ELEMENTS = 1024**2, 5000

_PIECE = 1024**2  # of a file
# Rows and cells without attributes; of all the tags of a document they are nearly all.
_NOT_PLAIN = re.compile(
    rb'<(?!TD>[^<]*</TD>|/T[RD]>|TR>[^<]*<(?:TD[ />]|/TR>)|TD ?/>)')
_ROWS, _ROWS_END, _ROW = b'<TABLEDATA>', b'</TABLEDATA>', b'<TR>'
_CDATA, _CDATA_END = b'<![CDATA[', b']]>'

_NAME = re.compile(rb'<[^\s/>]+')
_ATTRIBUTE = re.compile(rb'''[ \t\r\n]+([^\s=]+)[ \t\r\n]*=[ \t\r\n]*("[^"]*"|'[^']*')''')

# Where astropy looks for what makes up a table. It skips what it does not know, and takes what is
# inside of that for what it expects.
_PARENTS = {'RESOURCE': ('VOTABLE', 'RESOURCE'), 'TABLE': ('RESOURCE',), 'FIELD': ('TABLE',),
            'DATA': ('TABLE',), 'TABLEDATA': ('DATA',), 'BINARY': ('DATA',), 'BINARY2': ('DATA',),
            'STREAM': ('BINARY', 'BINARY2'), 'TR': ('TABLEDATA',), 'TD': ('TR',)}

# What is done at the start and at the end of elements: names of methods of `_Check`.
_STARTS = {'TABLE': '_table', 'FIELD': '_field', 'PARAM': '_field', 'VALUES': '_value',
           'MIN': '_value', 'MAX': '_value', 'TABLEDATA': '_data', 'BINARY': '_data',
           'BINARY2': '_data', 'STREAM': '_stream', 'FITS': '_remote', 'PARQUET': '_remote',
           'VODML': '_mapping'}
_ENDS = {'TABLE': '_end_table', 'TABLEDATA': '_end_rows', 'BINARY': '_end_binary',
         'BINARY2': '_end_binary', 'STREAM': '_end_stream', 'VODML': '_end_mapping'}

# Bytes of a value, in memory and in streams.
_TYPES = {'double': 8, 'float': 4, 'long': 8, 'int': 4, 'short': 2, 'unsignedByte': 1, 'bit': 1,
          'boolean': 1, 'char': 1, 'unicodeChar': 2, 'floatComplex': 8, 'doubleComplex': 16}
_ALIASES = {'string': 'char', 'unicodeString': 'unicodeChar', 'int16': 'short', 'int32': 'int',
            'int64': 'long', 'float32': 'float', 'float64': 'double', 'unsignedInt': 'long',
            'unsignedShort': 'int'}
_ARRAYSIZE = re.compile(r'((?:[0-9]+x)*)([0-9]*)(\*?)(?:s\W)?')


def read(stream: BinaryIO, *, max_bytes: int = MAX_BYTES, root: str | None = 'VOTABLE') -> bytes:
    """
    The document that a file or a pipe has, packed or not, as `checked` gives it.
    """
    content = BytesIO()
    while chunk := stream.read(_PIECE):
        content.write(chunk)
        if content.tell() > max_bytes:
            raise too_large(max_bytes)
    return checked(content.getvalue(), max_bytes=max_bytes, root=root)


def checked(content: bytes, *, max_bytes: int = MAX_BYTES, max_result: int = _MOST,
            root: str | None = 'VOTABLE', units: bool = True) -> bytes:
    """
    A document as it may be parsed, unpacked and in UTF-8; hand over ``BytesIO(document).read``,
    since of a file astropy tries to unpack it again.

    Parameters
    ----------
    content : bytes
        What came from outside: XML in any usual encoding, or that packed with gzip, bzip2 or xz.
    max_bytes : int, optional
        Most bytes of the document, packed and unpacked.
    max_result : int, optional
        Most bytes of the tables in memory; less are allowed for short documents.
    root : str or None, optional
        The outermost element; `None` for any, such as those of other answers of services.
    units : bool, optional
        Whether units are wanted; else they are left out, since unknown ones take long.

    Raises
    ------
    UnsafeXMLError
        If it may not be parsed; the message says why.
    """
    if len(content) > max_bytes:
        raise too_large(max_bytes)
    content = decoded(unpacked(content, max_bytes))
    if len(content) > max_bytes:
        raise too_large(max_bytes)
    if not content.strip():
        raise UnsafeXMLError('no_votable', 'it is empty')
    most = min(max_result, _BASE + _TIMES * len(content))
    skeleton = _skeleton(content)
    check = _Check(content, skeleton, most, root, units=units)
    check.run()
    if not check.seen >= skeleton.rows.keys():  # what was left out stood in a comment
        check = _Check(content, _Skeleton(content), most, root, units=units)
        check.run()
    return check.mended()


def check_answer(response: 'requests.Response') -> None:
    """
    Have pyvo read the body of an answer, which is there already, only if it may be parsed; text and
    pages of other kinds stay for what they say.
    """
    import requests
    import urllib3

    content = response.raw.read()
    try:
        content = checked(content, root=None)
    except UnsafeXMLError as error:
        # No parser makes XML of what begins in any other way.
        if content.lstrip(b' \t\r\n').startswith((b'<', b'\0', b'\xef\xbb\xbf', b'\xfe\xff',
                                                  b'\xff\xfe', *dict(PACKED))):
            if response.status_code == 200:
                raise requests.exceptions.ContentDecodingError(
                    f'its answer cannot be read: {error}', response=response) from error
            content = b''
    raw = response.raw
    response.raw = urllib3.HTTPResponse(
        body=BytesIO(content), headers=raw.headers, status=raw.status, version=raw.version,
        reason=raw.reason, preload_content=False,
        original_response=getattr(raw, '_original_response', None))


# ---- what is left out ----------------------------------------------------------------------


@dataclass
class _Skeleton:
    """
    A document without its plain rows: ``rows`` has for the place of each TABLEDATA where they
    stand in the document and how many there are; ``removed`` what was left out up to a place.
    """

    content: bytes
    rows: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    removed: list[tuple[int, int]] = field(default_factory=lambda: [(-1, 0)])

    def original(self, place: int) -> int:
        """
        Where in the document something stands.
        """
        return place + self.removed[bisect_right(self.removed, (place, math.inf)) - 1][1]


def _skeleton(content: bytes) -> _Skeleton:
    """
    Leave out rows that hold nothing but cells and text: a parser that sees all takes half as long
    as astropy for the whole table.
    """
    found = _Skeleton(b'')
    parts, start, size, removed = [], 0, 0, 0
    while (place := content.find(_ROWS, start)) >= 0:
        begin = place + len(_ROWS)
        end = content.find(_ROWS_END, begin)
        if end < 0:
            break
        rows = _plain_rows(content, begin, end)
        if rows is None:
            parts.append(content[start:end])
        else:
            found.rows[size + place - start] = begin, end, rows
            parts.append(content[start:begin])
            removed += end - begin
            found.removed.append((size + begin - start, removed))
        size += len(parts[-1])
        start = end
    found.content = b''.join((*parts, content[start:]))
    return found


def _plain_rows(content: bytes, begin: int, end: int) -> int | None:
    """
    How many rows there are, None if there is anything but rows, cells and text.
    """
    if content.find(_CDATA, begin, end) < 0:
        return None if _NOT_PLAIN.search(content, begin, end) else content.count(_ROW, begin, end)
    first, *pieces = content[begin:end].split(_CDATA)
    kept, inside = [first], False
    for piece in pieces:
        _, closed, rest = piece.partition(_CDATA_END)
        inside = not closed
        kept.append(rest)
    body = b' '.join(kept)
    return None if inside or _NOT_PLAIN.search(body) else body.count(_ROW)


# ---- one pass ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """
    Bytes in memory, numbers of fixed arrays, bytes in a stream at least, and for values of any
    length the bytes of each unit and what one takes while it is read.
    """

    memory: int
    items: int
    least: int
    unit: int | None = None
    cost: int = 0


@dataclass
class _Table:
    """
    What is known of a TABLE so far: its own columns, or all that it may have by reference.
    """

    columns: list[_Column]
    candidates: list[list[_Column]]
    names: Counter[str] = field(default_factory=Counter)
    declared: tuple[int, int] | None = None  # rows, and the place of the tag
    rows: int = 0


class _Check:
    """
    One pass over a document.
    """

    def __init__(self, content: bytes, skeleton: _Skeleton, most: int, root: str | None, *,
                 units: bool):
        self.seen: set[int] = set()
        self._content, self._skeleton, self._most, self._root = content, skeleton, most, root
        self._units = units
        self._stack: list[str] = []
        self._count: Counter[str] = Counter()
        self._elements = self._items = self._values = self._memory = self._array = 0
        self._letters = 0  # of units
        self._tables: list[_Table] = []
        self._parts: list[str] = []  # of DATA
        self._place = 0  # of the STREAM, or of the VODML
        self._model = 0
        self._blanked: list[tuple[int, bytes]] = []  # places of tags, and the attribute
        self._parser = expat.ParserCreate()

    def run(self) -> None:
        """
        Raise if the document may not be parsed.
        """
        parser = self._parser
        parser.ordered_attributes = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.StartDoctypeDeclHandler = self._doctype
        parser.CommentHandler = self._comment
        parser.ProcessingInstructionHandler = lambda _, said: self._comment(said)
        try:
            parser.Parse(self._skeleton.content, True)
        except expat.ExpatError as error:
            code = 'unreadable' if self._elements else 'no_votable'
            raise UnsafeXMLError(code, f'it is no XML: {error}') from error
        finally:
            # Parser and check hold each other.
            for name in ('StartElementHandler', 'EndElementHandler', 'StartDoctypeDeclHandler',
                         'CommentHandler', 'ProcessingInstructionHandler'):
                setattr(parser, name, None)

    def mended(self) -> bytes:
        """
        The document without numbers of rows that it does not have, and units that are not wanted
        or would take long.
        """
        if not self._blanked:
            return self._content
        content = bytearray(self._content)
        for place, name in self._blanked:
            here = _after(_NAME, self._content, self._skeleton.original(place))
            while (attribute := _ATTRIBUTE.match(self._content, here)) is not None:
                here = attribute.end()
                if attribute[1] == name:
                    begin = attribute.start()
                    content[begin:here] = b' ' * (here - begin)
        return bytes(content)

    # ---- what expat calls

    def _start(self, name: str, attributes: list[str]) -> None:
        name = name.partition(':')[2] or name  # astropy takes no notice of namespaces
        stack = self._stack
        parents = _PARENTS.get(name)
        if (parents is not None and (not stack or stack[-1] not in parents)) or (
                name == 'VOTABLE' and stack):
            raise UnsafeXMLError('unreadable', f'there is a {name} where none may stand')
        stack.append(name)
        if attributes and (len(attributes) > 2 * _MAX_ATTRIBUTES
                           or sum(map(len, attributes)) > _MAX_TAG):
            raise UnsafeXMLError('unreadable', 'it has a tag of excessive length')
        if name == 'TR':
            self._tables[-1].rows += 1
            return
        if name == 'TD':
            # The reader of such cells counts beyond their end.
            if 'encoding' in attributes[::2]:
                raise UnsafeXMLError('unreadable', 'it has single cells in base64')
            return
        self._elements += 1
        if self._elements > _MAX_ELEMENTS or len(stack) > _MAX_DEPTH:
            raise UnsafeXMLError('unreadable', f'it has more than {_MAX_ELEMENTS} elements, or '
                                               f'more than {_MAX_DEPTH} inside each other')
        if len(stack) == 1 and self._root not in (None, name):
            raise UnsafeXMLError('no_votable', f'it begins with {name[:40]}, not with {self._root}')
        if name in _STARTS:
            given = dict(zip(attributes[::2], attributes[1::2], strict=True))
            getattr(self, _STARTS[name])(given)

    def _end(self, _: str) -> None:
        if (end := _ENDS.get(self._stack.pop())) is not None:
            getattr(self, end)()

    @staticmethod
    def _doctype(*said: object) -> None:
        # IRSA names a DTD, which no parser fetches.
        if said[-1]:  # an internal subset
            raise UnsafeXMLError('no_votable', 'it has definitions of its own (DOCTYPE)')

    def _comment(self, said: str) -> None:
        if len(said) > _MAX_TAG:
            raise UnsafeXMLError('unreadable', 'it has a comment of excessive length')

    # ---- elements

    def _counted(self, what: str, most: int, n: int = 1) -> None:
        self._count[what] += n
        if self._count[what] > most:
            raise UnsafeXMLError('columns', f'it has more than {most} {what}')

    def _table(self, given: dict[str, str]) -> None:
        self._counted('tables', _MAX_TABLES)
        # A table may have the columns of any before it.
        columns: list[_Column] = []
        candidates = [columns]
        if 'ref' in given:
            self._counted('references', _MAX_REFERENCES)
            candidates = [table.columns for table in self._tables if table.columns]
        table = _Table(columns, candidates)
        self._tables.append(table)
        self._parts = []
        with contextlib.suppress(KeyError, ValueError):  # astropy refuses what is no number
            table.declared = int(given['nrows']), self._parser.CurrentByteIndex

    def _field(self, given: dict[str, str]) -> None:
        self._counted('columns and parameters', _MAX_FIELDS)
        for width in (given.get('width'), given.get('precision', '0').removeprefix('E')):
            if width is not None and whole_number(width.removeprefix('F'),
                                                  most=_MAX_WIDTH) is None:
                raise UnsafeXMLError('columns', 'it has a column of excessive width')
        if unit := given.get('unit'):
            self._letters += len(unit)
            # Without it the table is still one; what is so long is text.
            if (not self._units or len(unit) > _MAX_UNIT or self._letters > _MAX_UNITS
                    or _HIGH_POWER.search(unit) or not _is_checked(unit)):
                self._blanked.append((self._parser.CurrentByteIndex, b'unit'))
        column = _column(given)
        self._array = column.items
        self._value(given)
        if self._stack[-1] == 'FIELD':
            table = self._tables[-1]
            for name in {given.get('name', ''), given.get('ID', '')}:
                table.names[name] += name != ''
                if table.names[name] > _MAX_ALIKE:
                    raise UnsafeXMLError('columns',
                                         f'it has more than {_MAX_ALIKE} columns of one name')
            table.columns.append(column)
            if len(table.columns) > _MAX_COLUMNS:
                raise UnsafeXMLError('columns', f'it has more than {_MAX_COLUMNS} columns')

    def _value(self, given: dict[str, str]) -> None:
        if self._stack[-1] == 'VALUES' and 'ref' in given:
            self._counted('references', _MAX_REFERENCES)
        self._values += self._array
        if self._values > _MAX_VALUES:
            raise _excessive()

    def _data(self, _: dict[str, str]) -> None:
        self._parts.append(self._stack[-1])
        if len(self._parts) > 1:
            raise UnsafeXMLError('unreadable', 'it has a table with two kinds of rows')
        if self._stack[-1] == 'TABLEDATA':
            self._place = self._parser.CurrentByteIndex

    def _remote(self, _: dict[str, str]) -> None:
        raise UnsafeXMLError('elsewhere', 'it has its rows elsewhere')

    def _stream(self, given: dict[str, str]) -> None:
        if any(name.lower().rpartition(':')[2] == 'href' for name in given):
            self._remote(given)
        self._parts.append('STREAM')
        if len(self._parts) > 2:
            raise UnsafeXMLError('unreadable', 'it has a table with two streams')
        self._place = self._parser.CurrentByteIndex

    def _end_rows(self) -> None:
        table = self._tables[-1]
        begin, end, rows = self._skeleton.rows.get(self._place, (0, 0, 0))
        if end:
            self.seen.add(self._place)
            table.rows += rows
        else:
            begin = self._skeleton.original(self._place)
            end = self._skeleton.original(self._parser.CurrentByteIndex)
        waiting = 0
        if any(column.cost or column.items for columns in table.candidates for column in columns):
            waiting = _PER_LETTER * max(map(len, self._content[begin:end].split(_ROW)))
        for columns in table.candidates:
            self._take(columns, table.rows, waiting)

    def _end_stream(self) -> None:
        begin = self._skeleton.original(self._place)
        end = self._skeleton.original(self._parser.CurrentByteIndex)
        table, is_second = self._tables[-1], self._stack[-1] == 'BINARY2'
        for columns in table.candidates:
            least = sum(column.least for column in columns) + (
                (len(columns) + 7) // 8 if is_second else 0)
            if columns and (not least or any(column.unit == 0 for column in columns)):
                raise _excessive()  # rows of no bytes never end
            rows, waiting = (end - begin) * 3 // 4 // max(1, least), 0
            if any(column.cost for column in columns) or (
                    self._memory_of(columns, rows) > self._most - self._memory):
                rows, waiting = _count_rows(self._stream_bytes(begin, end), columns,
                                            (len(columns) + 7) // 8 if is_second else 0)
            table.rows = max(table.rows, rows)
            # astropy makes room for as many rows as are announced, or at first for 512.
            announced = table.declared is not None and 0 < table.declared[0] <= rows
            self._take(columns, rows if announced else max(512, rows), waiting)

    def _end_binary(self) -> None:
        # Without one, astropy would take the stream of the next table.
        if self._parts[-1] != 'STREAM':
            raise UnsafeXMLError('unreadable', 'it has a table without its stream')

    def _end_table(self) -> None:
        table = self._tables[-1]
        if table.declared and table.declared[0] > table.rows:
            self._blanked.append((table.declared[1], b'nrows'))

    def _mapping(self, _: dict[str, str]) -> None:
        self._place, self._model = self._parser.CurrentByteIndex, self._elements

    def _end_mapping(self) -> None:
        if (self._elements - self._model > _MAX_MODEL_ELEMENTS
                or self._parser.CurrentByteIndex - self._place > _MAX_MODEL):
            raise UnsafeXMLError('columns', 'it has a mapping to a data model of excessive size')

    # ---- sizes

    def _stream_bytes(self, begin: int, end: int) -> bytes:
        here = _after(_NAME, self._content, begin)
        while (attribute := _ATTRIBUTE.match(self._content, here)) is not None:
            here = attribute.end()
        text = self._content[self._content.find(b'>', here, end) + 1:end]
        if b'<' in text or b'&' in text:
            raise UnsafeXMLError('unreadable', 'it has a stream that is not in base64')
        try:
            return base64.b64decode(text)
        except ValueError as error:
            raise UnsafeXMLError('unreadable', f'it has a damaged stream: {error}') from error

    @staticmethod
    def _memory_of(columns: list[_Column], rows: int) -> int:
        return rows * sum(column.memory for column in columns)

    def _take(self, columns: list[_Column], rows: int, waiting: int) -> None:
        """
        Add a table to what the result takes.
        """
        self._memory += self._memory_of(columns, rows)
        self._items += rows * sum(column.items for column in columns)
        if (self._memory + waiting > self._most
                or self._items > _MAX_ITEMS + len(self._content)):
            raise _excessive()


def _is_checked(unit: str) -> bool:
    try:
        check_unit(unit)
    except ValueError:
        return False
    return True


def _excessive() -> UnsafeXMLError:
    return UnsafeXMLError('columns', 'its columns are of excessive size: ask for fewer rows or '
                                     'columns')


def _after(pattern: re.Pattern[bytes], content: bytes, place: int) -> int:
    found = pattern.match(content, place)
    return place if found is None else found.end()


def _column(given: Mapping[str, str]) -> _Column:
    """
    What a FIELD or a PARAM takes.
    """
    kind = given.get('datatype', 'char')
    kind = _ALIASES.get(kind, kind)
    size = _TYPES.get(kind, 16)  # astropy refuses what it does not know
    arraysize = given.get('arraysize') or '1'
    found = _ARRAYSIZE.fullmatch(arraysize.strip()) if len(arraysize) <= _MAX_SIZE else None
    if found is None:
        raise UnsafeXMLError('columns', f'it has a column of the size {arraysize[:20]!r}')
    factors = [int(number) for number in found[1].split('x')[:-1]]
    last, is_open = int(found[2] or '1'), bool(found[3])
    if kind in ('char', 'unicodeChar'):
        length = math.prod(factors) * last
        if is_open:
            memory = _TEXT if not found[2] else 4 * length + 1
            return _Column(memory, 0, 4, size)
        return _Column(4 * length + 1, 0, length * size)
    inner = math.prod(factors)
    if is_open:
        unit = -(-inner // 8) if kind == 'bit' and factors else inner * size
        return _Column(_ARRAY, inner, 4, unit, _INNER if factors else _ITEM)
    items = inner * last
    is_array = bool(given.get('arraysize'))
    least = -(-items // 8) if kind == 'bit' and is_array else items * size
    return _Column(items * (size + 1), items if is_array else 0, least)


def _count_rows(content: bytes, columns: list[_Column], mask: int) -> tuple[int, int]:
    """
    The rows of a stream, and what the largest of its values takes while it is read; ``mask``:
    bytes before each row.
    """
    steps, skip = [], mask
    for column in columns:
        if column.unit is None:
            skip += column.least
        else:
            steps.append((skip, column.unit, column.cost))
            skip = 0
    length_at = struct.Struct('>I').unpack_from
    place, rows, largest, size = 0, 0, 0, len(content)
    while True:
        for before, unit, cost in steps:
            place += before
            if place + 4 > size:
                return rows, largest
            length, = length_at(content, place)
            place += 4 + length * unit
            if cost:
                largest = max(largest, min(length, size // unit + 1) * cost)
        place += skip
        if place > size:
            return rows, largest
        rows += 1
