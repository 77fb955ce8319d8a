# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Rows in order of score -> an order that repeats itself less. Pure numpy, but for reading a column.
"""

from collections.abc import Sequence

import numpy as np
from astropy.table import Table

from .phrases import invalid

__all__ = ['DUPLICATE_COSINE', 'N_COMPARED', 'duplicates', 'group_codes', 'take_turns']

DUPLICATE_COSINE = 0.98
"""
Cosine above which two pictures count as the same for the embedded model.
"""

N_COMPARED = 5000
"""
Best rows that are compared with one another; the time that it takes grows as its square.
"""

_BLOCK = 512


def group_codes(table: Table, names: str | Sequence[str]) -> np.ndarray:
    """
    Number the groups that the rows of a table belong to.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.
    names : str or sequence of str
        Columns whose values rows of one group share.

    Returns
    -------
    ndarray
        Shape ``(n,)``, int64. A row in which one of the values is masked, NaN or empty has a
        group of its own.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If there is no such column, or it has more than one value a row.
    """
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not names or not all(
            isinstance(name, str) for name in names):
        raise invalid('group_by must be the name of a column, or a list of names.')
    columns = []
    for name in names:
        if name not in table.colnames:
            raise invalid(f'There is no column {name!r} to group by: the table has '
                          f'{", ".join(table.colnames[:40])}.')
        if np.ndim(table[name]) != 1:
            raise invalid(f'The column {name!r} has several values a row: group by another.')
        columns.append(_values(table[name]))
    codes: dict[object, int] = {}
    # A row that lacks a value has a key that no other row has.
    return np.fromiter((codes.setdefault(key if None not in key else i, len(codes))
                        for i, key in enumerate(zip(*columns, strict=True))),
                       dtype=np.int64, count=len(table))


def _values(column) -> list:
    """
    The values of a column, `None` where there is none.
    """
    array = np.asarray(column)
    values = array.tolist()
    mask = np.broadcast_to(getattr(column, 'mask', False), array.shape)
    if array.dtype.kind in 'fc':
        mask = mask | np.isnan(array)
    if array.dtype.kind in 'OUS':
        # Objects of a column may be anything, also what cannot be a key.
        texts = (value.decode('utf-8', 'replace') if isinstance(value, bytes) else str(value)
                 for value in values)
        values = [text.strip() or None for text in texts]
    if mask.any():
        values = [None if hidden else value for value, hidden in
                  zip(values, mask.tolist(), strict=True)]
    return values


def take_turns(rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """
    The best row of each group, then the second of each, and so on.

    Parameters
    ----------
    rows : ndarray
        Rows, best first, shape ``(k,)``.
    codes : ndarray
        Group of every row of the table, shape ``(n,)``.

    Returns
    -------
    ndarray
        The same rows, shape ``(k,)``; within a turn, best first.
    """
    group = codes[rows]
    together = np.argsort(group, kind='stable')
    group = group[together]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if len(rows) else rows
    turn = np.empty(len(rows), dtype=np.int64)
    turn[together] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    return rows[np.argsort(turn, kind='stable')]


def duplicates(vectors: np.ndarray, cosine: float) -> np.ndarray:
    """
    Which pictures are nearly the same as a better one.

    Parameters
    ----------
    vectors : ndarray
        Unit vectors, best first, shape ``(k, d)``.
    cosine : float
        From here on two pictures count as the same.

    Returns
    -------
    ndarray
        For each the index of the best picture that it repeats, -1 for one that repeats none;
        shape ``(k,)``, int64. What repeats another is not compared with further ones, so a chain of
        small changes does not fold as a whole.
    """
    twin = np.full(len(vectors), -1, dtype=np.int64)
    kept = np.empty(0, dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start:start + _BLOCK]
        if len(kept):
            near = block @ vectors[kept].T >= cosine
            found = near.any(axis=1)
            twin[start:start + len(block)][found] = kept[near[found].argmax(axis=1)]
        near = block @ block.T >= cosine
        for i in np.flatnonzero(twin[start:start + len(block)] < 0).tolist():
            if twin[start + i] < 0:
                later = np.flatnonzero(near[i, i + 1:]) + start + i + 1
                twin[later[twin[later] < 0]] = start + i
        alone = np.flatnonzero(twin[start:start + len(block)] < 0) + start
        kept = np.concatenate([kept, alone])
    return twin
