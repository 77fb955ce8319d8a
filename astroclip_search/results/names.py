# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Table rows -> what they are called, in full and in few letters.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePath

import numpy as np
from astropy.table import Table

from ..archives.columns import TableColumns
from ..archives.observations import plain_words
from ..exceptions import legible, visible

__all__ = ['WIDTH', 'clean', 'names', 'short_names']

WIDTH = 26
"""
Letters of a short name: with rank, scores and status it fits a line of 80.
"""

# Letters of an identifier that are of use beside a target.
_LEAST = 10

# Bytes of a text in an array of more than which only a part is copied.
_WIDE = 4 * 100


def clean(text: str) -> str:
    """
    Text for a page or a plot, in which nothing is hidden and every encoding of Unicode has all.
    """
    return visible(text)


def names(table: Table) -> list[str]:
    """
    What the images of a table are called: target, identifier or file name, empty if there is none;
    in a table of files, where one target may have many, target and file.
    """
    columns = TableColumns(table)
    files = _files(columns)
    found = _column(columns, *columns.roles.get('target', ()))
    for others in (_observations(columns), files, _column(columns, 'clip_name'), _indices(columns)):
        if not all(found):
            found = [name or other for name, other in zip(found, others, strict=True)]
    if any(files):
        found = [name if file in name else f'{name} ({file})'
                 for name, file in zip(found, files, strict=True)]
    return found


def short_names(table: Table, sources: np.ndarray) -> np.ndarray:
    """
    The same in at most ``WIDTH`` letters on one line: the target, and as much as there is room for
    of what tells it from others of this name. What has no name is called after its image.
    """
    columns = TableColumns(table)
    target = columns.roles.get('target')
    targets = _words(columns, target[0], _beginnings) if target else np.full(len(table), '')
    room = WIDTH - 1 - np.strings.str_len(targets)
    room[room == WIDTH - 1] = WIDTH  # without a target
    own = _tails(_own(columns), np.where(room < _LEAST, 0, room))
    found = np.strings.add(np.strings.add(
        targets, np.where((targets != '') & (own != ''), ' ', '')), own)
    nameless = np.flatnonzero(found == '')
    if len(nameless):
        last = sources[nameless]
        if not _is_narrow(last):
            last = _ends(last.tolist())
        last = _tails(last, WIDTH)
        found = found.astype(np.result_type(found, last))
        found[nameless] = last
    return np.strings.strip(_lines(_heads(found)))


def _own(columns: TableColumns) -> np.ndarray:
    """
    File name, or identifier: the number in MAST where its name is too long.
    """
    files = columns.find('filename')
    if files is not None:
        return _ends(_files(columns))
    name = next(iter(columns.roles.get('observation', ())), columns.find('clip_name'))
    if name is None:
        return np.full(len(columns), '')
    own, number = _words(columns, name, _ends), columns.find('obsid')
    return own if number is None or own.dtype.itemsize <= 4 * (WIDTH - _LEAST) else _words(
        columns, number, _ends)


def _words(columns: TableColumns, name: str,
           cut: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    """
    A column as strings, empty where it is masked; those that are long may be cut.
    """
    column = columns.table[name]
    if _is_narrow(column) and not np.any(getattr(column, 'mask', False)):
        return np.strings.strip(np.asarray(column))
    return cut(plain_words(columns, name))


def _is_narrow(texts: np.ndarray) -> bool:
    return texts.dtype.kind == 'U' and texts.dtype.itemsize <= _WIDE


def _files(columns: TableColumns) -> list[str]:
    return [PurePath(name).name if name else '' for name in _column(columns, 'filename')]


def _observations(columns: TableColumns) -> list[str]:
    name = next(iter(columns.roles.get('observation', ())), None)
    return [''] * len(columns) if name is None else plain_words(columns, name)


def _indices(columns: TableColumns) -> list[str]:
    name = columns.find('index')
    return [''] * len(columns) if name is None else list(map(str, columns.table[name].tolist()))


def _column(columns: TableColumns, *keys: str) -> list[str]:
    name = columns.find(*map(str.casefold, keys))
    return columns.text(name) if name is not None else [''] * len(columns)


def _beginnings(texts: Sequence[str]) -> np.ndarray:
    """
    Texts, of those that are too long what of their beginning is of use.
    """
    # One letter more says that they are.
    return np.array([text[:WIDTH + 1] for text in texts], dtype=str)


def _ends(texts: Sequence[str]) -> np.ndarray:
    """
    Texts, of those that are too long what of their end is of use.
    """
    return np.array([text[-WIDTH - 1:] for text in texts], dtype=str)


def _heads(texts: np.ndarray) -> np.ndarray:
    """
    Texts without their ends where they are too long.
    """
    long = np.strings.str_len(texts) > WIDTH
    kept = texts.astype(f'U{WIDTH}')
    if long.any():
        kept[long] = np.strings.add(texts[long].astype(f'U{WIDTH - 2}'), '..')
    return kept


def _tails(texts: np.ndarray, room: int | np.ndarray) -> np.ndarray:
    """
    Texts without their beginnings, where they have more letters than there is room for; the end
    tells a name from its like.
    """
    lengths, room = np.broadcast_arrays(np.strings.str_len(texts), room)
    long = np.flatnonzero(lengths > room)
    if not len(long):
        return texts
    codes = np.ascontiguousarray(texts[long]).view(np.uint32).reshape(len(long), -1)
    kept = np.zeros((len(long), WIDTH), np.uint32)
    # Few lengths occur, and all texts of one are cut at once.
    cases, case = np.unique(lengths[long] * (WIDTH + 1) + room[long], return_inverse=True)
    for i, (length, width) in enumerate(divmod(value, WIDTH + 1) for value in cases.tolist()):
        if width:
            of_case = case == i
            kept[of_case, :width] = codes[of_case, length - width:length]
            kept[of_case, :min(width, 2)] = ord('.')
    cut = texts.astype(np.result_type(texts, f'U{WIDTH}'))
    cut[long] = kept.view(f'U{WIDTH}').ravel()
    return cut


def _lines(texts: np.ndarray) -> np.ndarray:
    """
    Texts in which spaces stand for what would begin a line or cannot be printed.
    """
    codes = texts.view(np.uint32)
    if ((codes > 0) & (codes < 32)).any() or (codes > 126).any():
        return np.array([visible(text if text.isprintable() else ''.join(
            letter if letter.isprintable() else ' ' for letter in legible(text)))
            for text in texts.tolist()], dtype=str)
    return texts
