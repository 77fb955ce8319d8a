# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A table -> lines for people: the columns that say something, no wider than the terminal.

Names are short, ``score`` for ``clip_score``: what is written to a file has all columns and their
whole names.
"""

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..archives.columns import text_column
from ..exceptions import visible

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ['CLASSIFIED', 'DESCRIBED', 'LOCATED', 'RANKED', 'fitted', 'lines', 'printable']

# The first of these that a table has says what a row is.
_NAMES = ('target_name', 'target', 'object', 'name', 'obs_id', 'obsid', 'obs_publisher_did')

# Those of the package itself, if there is none of these.
_IF_UNNAMED = ('clip_name', 'clip_row', 'clip_source')

_CIRCUMSTANCES = ('obs_collection', 'instrument_name', 'obs_title', 'title')

RANKED = ('clip_rank', 'clip_score', 'clip_false_alarm', 'clip_status', 'clip_label', 'filename',
          *_NAMES, 'clip_name', 'clip_source', *_CIRCUMSTANCES)
"""
Columns of a ranked table that are shown, if they say something.
"""

DESCRIBED = ('clip_name', 'clip_row', 'clip_phrase', 'clip_score', 'clip_false_alarm',
             'clip_status')
"""
Those of a description.
"""

LOCATED = ('clip_name', 'clip_place', 'clip_x', 'clip_y', 'ra', 'dec', 'clip_score',
           'clip_false_alarm', 'clip_status')
"""
Those of places.
"""

CLASSIFIED = ('clip_class', 'clip_probability', 'clip_status', 'filename', *_NAMES, 'clip_name',
              'clip_source', *_CIRCUMSTANCES)
"""
Those of a classification.
"""

_HEADERS = {'filename': 'file', 'target_name': 'target', 'obs_collection': 'collection',
            'instrument_name': 'instrument', 'obs_title': 'title', 'clip_source': 'image',
            'clip_label': 'mark'}

_FORMATS = {'clip_score': '.2f', 'clip_false_alarm': '.2g', 'clip_probability': '.2f',
            'clip_x': '.1f', 'clip_y': '.1f', 'ra': '.6f', 'dec': '.6f'}

# Of what a user has said of a row.
_MARKS = {'0': 'disliked', '1': 'liked', '--': ''}

# Their ends tell them apart.
_PATHS = ('filename', 'clip_source', 'path')

_GAP, _NARROWEST = '  ', 8

_TEXT = np.dtype(str)


@dataclass
class _Shown:
    """
    A column in words, its header first.
    """

    cells: list[str]
    is_number: bool
    is_path: bool

    @property
    def width(self) -> int:
        return max(map(_width, self.cells))


def lines(table: 'Table', columns: Sequence[str], *, width: int | None = None,
          folder: str = '') -> list[str]:
    """
    Header and rows; cells are cut so that no line is wider than ``width``. Files of ``folder`` are
    named from there.
    """
    shown = [_shown(table, name, folder) for name in _informative(table, columns)]
    if not shown:
        return []
    widths = [column.width for column in shown]
    if width is not None:
        shown, widths = _fitting(shown, widths, width)
    return [_GAP.join(_cell(column, row, room) for column, room in zip(shown, widths, strict=True))
            .rstrip() for row in range(len(table) + 1)]


def fitted(line: str, width: int | None) -> str:
    """
    A line that is cut on the right where the terminal ends.
    """
    return line if width is None else _cut(line, width)


def printable(text: str) -> str:
    """
    Text without the control characters of an archive, which would command a terminal.
    """
    text = visible(text)
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() or c == '\n' else ' ' if c.isspace() else '\ufffd'
                   for c in text)


def _informative(table: 'Table', columns: Sequence[str]) -> list[str]:
    """
    The columns that tell rows apart, with one that says what a row is.
    """
    known = set(table.colnames)
    chosen: list[str] = []
    for name in columns:
        named = {'clip_name', 'filename', *_NAMES}.intersection(chosen)
        if name not in known or (name in _NAMES and named - {'filename'}) or (
                name in _IF_UNNAMED and named):
            continue
        values = set(_words(table, name, ''))
        if name == 'clip_status' and values == {'OK'}:
            continue
        if values <= {'', '--'}:
            continue
        # What is the same of all rows that have it tells none of them from another.
        said = values if name in _NAMES else values - {''}
        if len(said) == 1 < len(table) and not name.startswith('clip_'):
            continue
        chosen.append(name)
    return chosen


def _shown(table: 'Table', name: str, folder: str) -> _Shown:
    header = _HEADERS.get(name, name.removeprefix('clip_'))
    is_number = _is_number(table[name]) and name != 'clip_label'
    return _Shown([header, *_words(table, name, folder)], is_number, name in _PATHS)


def _is_number(column: Any) -> bool:
    return getattr(column, 'ndim', 0) == 1 and getattr(column, 'dtype', _TEXT).kind in 'iuf'


def _words(table: 'Table', name: str, folder: str) -> list[str]:
    """
    The cells of a column, each on one line.
    """
    column = table[name]
    if _is_number(column):
        form = _FORMATS.get(name, '')
        hidden = np.ma.getmaskarray(column) | ~np.isfinite(np.ma.getdata(column))
        cells = ['--' if is_hidden else format(value, form) for value, is_hidden in
                 zip(np.ma.getdata(column).tolist(), hidden.tolist(), strict=True)]
        return [_MARKS.get(cell, cell) for cell in cells] if name == 'clip_label' else cells
    words = text_column(table, name)
    if name == 'filename' and folder:
        words = [_relative(word, folder) for word in words]
    return [printable(' '.join(word.split())) for word in words]


def _relative(name: str, folder: str) -> str:
    """
    A file by its name in a folder, if it is there.
    """
    if not os.path.isabs(name):
        return name
    short = os.path.relpath(name, folder)
    return name if short.startswith(os.pardir) else short


def _fitting(shown: list[_Shown], widths: list[int],
             width: int) -> tuple[list[_Shown], list[int]]:
    """
    As many columns as there is room for, and the room of each: the widest give way first.
    """
    def room(n: int) -> int:
        taken = sum(w for w, c in zip(widths[:n], shown, strict=False) if c.is_number)
        return width - len(_GAP) * (n - 1) - taken

    def texts(n: int) -> list[int]:
        return [w for w, c in zip(widths[:n], shown, strict=False) if not c.is_number]

    n = len(shown)
    while n > 1 and sum(min(w, _NARROWEST) for w in texts(n)) > room(n):
        n -= 1
    most = _most(texts(n), room(n))
    return shown[:n], [w if c.is_number else min(w, most)
                       for w, c in zip(widths[:n], shown, strict=False)]


def _most(widths: list[int], room: int) -> int:
    """
    The greatest width of a column at which all of them have room.
    """
    narrow, left = 0, room
    for place, width in enumerate(sorted(widths)):
        share = left // (len(widths) - place)
        if width > share:
            return max(share, 1)
        narrow, left = width, left - width
    return narrow


def _cell(column: _Shown, row: int, width: int) -> str:
    text = column.cells[row]
    text = _cut(text, width, at_front=column.is_path and row > 0)
    space = ' ' * (width - _width(text))
    return space + text if column.is_number else text + space


def _cut(text: str, width: int, *, at_front: bool = False) -> str:
    """
    Text that is no wider than this, with an ellipsis where something is missing.
    """
    if _width(text) <= width:
        return text
    kept, used = [], 1
    letters: Callable = reversed if at_front else iter
    for letter in letters(text):
        used += _width(letter)
        if used > width:
            break
        kept.append(letter)
    return '…' + ''.join(reversed(kept)) if at_front else ''.join(kept) + '…'


def _width(text: str) -> int:
    """
    Columns that a text takes on a terminal: two for letters of East Asia, none for accents.
    """
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(letter) else
               1 + (unicodedata.east_asian_width(letter) in 'WF') for letter in text)
