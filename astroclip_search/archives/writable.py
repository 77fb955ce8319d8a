# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Any table -> a table that a file format holds, with a warning of what had to be changed.

Numbers of unusual size become larger ones; moments become text; what a format has no column for,
such as polygons in CSV, becomes JSON text. Text loses what would end a line, or is not Unicode.
"""

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
from astropy.table import Column, MaskedColumn, Table
from astropy.time import Time

from ..exceptions import TableFormatWarning, legible, warn
from .arrow import of_numpy, of_objects
from .columns import text_array

__all__ = ['fitted', 'json_value']

# Numbers that a format does not have, by the letters of their types, and those that hold them.
# In FITS, astropy would make truth values of bytes.
_LARGER = {'csv': {}, 'ecsv': {}, 'parquet': {'g': 'f8'},
           'fits': {'b': 'i2', 'e': 'f4', 'g': 'f8'},
           'votable': {'b': 'i2', 'H': 'i4', 'I': 'i8', 'L': 'i8', 'Q': 'i8', 'e': 'f4', 'g': 'f8'}}

# Kinds of columns that a format holds for certain; of others it is tried.
_HELD = {'csv': 'biufcU', 'ecsv': 'biufcU', 'fits': 'biufcU', 'votable': 'biufcU',
         'parquet': 'biufU'}


def fitted(table: Table, form: str, is_held: Callable[[Table], bool]) -> Table:
    """
    A copy of a table whose columns, names and ``meta`` a format holds; ``is_held`` tries to write
    and read a table.
    """
    table = _without_mixins(table.copy(), form)
    replaced, as_text = [], []
    for name in table.colnames:
        column = _simple(table[name], form)
        if not (_is_simple(column, form) or _is_objects_of_text(column)) and (
                form == 'csv' or not is_held(
                    Table({'x': column, 'row': np.arange(len(table))}))):
            column = _as_text(column)
            as_text.append(name)
        if isinstance(column, Column) and (
                column.dtype.kind == 'U' or _is_objects_of_text(column)):
            column, was_legible = _legible(column, form)
            replaced += [] if was_legible else [name]
        if column is not table[name]:
            table[name] = column
    for name in table.colnames:
        if (plain := _plain(name, form)) != name:
            replaced += [] if name in replaced else [name]
            while plain in table.colnames:
                plain += '_'
            table.rename_column(name, plain)
    table.meta = _legible_meta(table.meta, form)
    _tell(form, replaced, as_text)
    return table


def _tell(form: str, replaced: list[str], as_text: list[str]) -> None:
    if replaced:
        why = ('FITS holds ASCII only' if form == 'fits' else
               'Some text is not Unicode, or ends a line')
        warn(f'{why}: letters of {_listed(replaced)} were replaced.', TableFormatWarning)
    if as_text:
        warn(f'{form} has no columns of such a kind: {_listed(as_text)} '
             f'{"is" if len(as_text) == 1 else "are"} written as JSON text.', TableFormatWarning)


def _listed(names: list[str]) -> str:
    return ', '.join(map(legible, names))


def _without_mixins(table: Table, form: str) -> Table:
    """
    A table in which moments are text, where astropy would write pairs of Julian dates; positions
    become columns of numbers where it would fail.
    """
    from astropy.table import serialize

    if form != 'ecsv':
        for name, column in table.columns.items():
            if isinstance(column, Time) and column.ndim == 1 and column.scale != 'local':
                texts = np.asarray(Time(column, precision=9).isot).astype(str)
                table[name] = _of_texts(np.char.rstrip(np.char.rstrip(texts, '0'), '.'),
                                        np.asarray(column.mask))
    if form in ('csv', 'parquet', 'votable'):
        table = serialize.represent_mixins_as_columns(table)
        table.meta.pop('__serialized_columns__', None)
    return table


def _simple(column: Any, form: str) -> Any:
    """
    A column as one of numbers or text, where that keeps all.
    """
    if not isinstance(column, Column):
        return column
    kind, larger = column.dtype.kind, _LARGER[form].get(column.dtype.char)
    if kind == 'O' and column.ndim == 1:
        # What comes from VOTables is text in Python objects.
        plain = of_objects([None if value is np.ma.masked else value for value in column])
        if plain.dtype.kind in 'biufU':
            return _like(column, plain)
    elif kind == 'S':
        return _like(column, np.char.decode(np.asarray(column), 'utf-8', 'replace'))
    elif kind in 'mM' and column.ndim == 1:
        return _like(column, of_numpy(np.asarray(column)))
    elif larger is not None and not (larger == 'i8' and len(column)
                                     and np.asarray(column).max() > np.iinfo('i8').max):
        return _like(column, np.asarray(column).astype(larger))
    return column


def _like(column: Column, values: Any) -> Column:
    """
    Other values with the masks and the description of a column.
    """
    mask = np.asarray(getattr(column, 'mask', False)) | np.asarray(getattr(values, 'mask', False))
    made = MaskedColumn(values, mask=mask) if mask.any() else Column(np.asarray(values))
    for name in ('unit', 'description', 'meta', 'format'):
        value = getattr(column, name, None)
        if value is not None and not (name == 'format' and made.dtype.kind != column.dtype.kind):
            setattr(made, name, value)
    return made


def _of_texts(texts: np.ndarray, mask: np.ndarray) -> Column:
    return MaskedColumn(texts, mask=mask) if mask.any() else Column(texts)


def _is_simple(column: Any, form: str) -> bool:
    dtype = getattr(column, 'dtype', None)
    return (isinstance(column, np.ndarray) and dtype.kind in _HELD[form]
            and dtype.char not in _LARGER[form]
            and (column.ndim == 1 or (form in ('ecsv', 'fits', 'votable') and dtype.kind != 'U')))


def _is_objects_of_text(column: Any) -> bool:
    """
    Whether a column is one of text in Python objects, as it is where a few are long.
    """
    return (isinstance(column, Column) and column.dtype.kind == 'O' and column.ndim == 1
            and all(type(value) is str for value in np.asarray(column).tolist()))


def _legible(column: Column, form: str) -> tuple[Column, bool]:
    """
    A column of text that a format holds, and whether it was so before.
    """
    values = np.asarray(column)
    everything = ''.join(values.ravel().tolist())
    if form == 'fits' and values.dtype.kind == 'O':  # a byte a letter
        ascii_texts = [_plain(text, form) for text in values.tolist()]
        return (_like(column, np.array(ascii_texts, dtype=bytes)),
                ''.join(ascii_texts) == everything)
    if _plain(everything, form) == everything:
        return column, True
    texts = text_array([_plain(text, form) for text in values.ravel().tolist()])
    return _like(column, texts.reshape(values.shape)), False


def _plain(text: str, form: str) -> str:
    """
    Text that a format holds: FITS has no letters beyond those of ASCII.
    """
    text = legible(text)
    if form != 'fits' or text.isascii():
        return text
    letters = (letter for letter in unicodedata.normalize('NFKD', text)
               if not unicodedata.combining(letter))
    return ''.join(letters).encode('ascii', 'replace').decode()


def _as_text(column: Any) -> Column:
    """
    Values as JSON; what has none, such as coordinates, in the words of the table.
    """
    masked = [value is np.ma.masked or value is None for value in column]
    texts = ['' if hidden else _json(value) for value, hidden in zip(column, masked, strict=True)]
    return _of_texts(text_array([legible(text) for text in texts]), np.array(masked, bool))


def _json(value: Any) -> str:
    plain = json_value(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _legible_meta(meta: Any, form: str) -> Any:
    """
    ``meta`` of which ECSV and Parquet hold every value; the other formats choose for themselves.
    """
    from astropy.io.misc import yaml

    cleaned = meta.__class__()
    for key, value in meta.items():
        plain = _plain_value(value, form)
        if form in ('ecsv', 'parquet'):
            try:
                yaml.dump({key: plain})
            # An object of any library.
            except Exception:
                plain = legible(str(value))
        cleaned[_plain_value(key, form)] = plain
    return cleaned


def _plain_value(value: Any, form: str) -> Any:
    if isinstance(value, str):
        return _plain(str(value), form)
    if type(value) in (list, tuple):
        return [_plain_value(item, form) for item in value]
    if type(value) is dict:  # what is said of a ranking is written as JSON, in ASCII
        return {legible(key) if isinstance(key, str) else key: _plain_value(item, '')
                for key, item in value.items()}
    return value


def json_value(value: Any) -> Any:
    """
    A value as JSON has it; what is masked or not a number is `None`.
    """
    if value is np.ma.masked:
        return None
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode('utf-8', 'replace')
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
