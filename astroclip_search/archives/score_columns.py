# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Columns of ranks and scores, in which a row without a value passes no comparison.

numpy compares what lies under a mask too, and a table takes such a row for chosen. So scores have
NaN there, and ranks a number that is larger than any.
"""

from typing import Any

import numpy as np
from astropy.table import Column, MaskedColumn, Table

__all__ = ['NO_RANK', 'form_of', 'rank_column', 'restore', 'score_column']

NO_RANK = 2**31 - 1
"""
What ``clip_rank`` has under its mask.
"""

_SCORES = ('clip_score', 'clip_false_alarm', 'clip_image', 'clip_metadata', 'clip_probability')
_CHANCES = 'clip_p_'  # of each class

_TEXTS = ('clip_message', 'clip_name', 'clip_source', 'clip_status', 'clip_url')


def score_column(values: np.ndarray, form: str = '.4f') -> MaskedColumn:
    """
    A column of scores, masked where they are NaN and printed in a format.
    """
    values = np.asarray(values, np.float32)
    column = MaskedColumn(values, mask=np.isnan(values), format=form, fill_value=np.nan)
    if not column.mask.all():
        _keep_in_ecsv(column)
    return column


def form_of(name: str) -> str:
    """
    The format of a column: of a rate two figures mean anything.
    """
    return '.2g' if name == 'clip_false_alarm' else '.4f'


def rank_column(ranks: np.ndarray, unknown: np.ndarray) -> MaskedColumn:
    """
    A column of ranks, masked where they are unknown.
    """
    column = MaskedColumn(np.where(unknown, NO_RANK, ranks).astype(np.int64), mask=unknown,
                          fill_value=NO_RANK, meta={'values': {'null': NO_RANK}})  # of a VOTable
    _keep_in_ecsv(column)
    return column


def _keep_in_ecsv(column: MaskedColumn) -> None:
    # An empty cell would be read as 0 under a mask.
    column.info.serialize_method['ecsv'] = 'data_mask'


def restore(table: Table) -> Table:
    """
    The same table, of a file or another library, with ranks and scores as they were: files and
    frames have zeros under their masks, floats for ranks, NaN for what was masked, and numbers for
    text that is empty everywhere.
    """
    for name in table.colnames:
        if name == 'clip_rank' or name in _SCORES or name.startswith(_CHANCES):
            values = _floats(table[name])
            if values is None:
                continue
            description = table[name].description
            table[name] = (rank_column(np.nan_to_num(values), np.isnan(values))
                           if name == 'clip_rank' else score_column(values, form_of(name)))
            table[name].description = description
        elif name in _TEXTS and (values := _floats(table[name])) is not None and np.isnan(
                values).all():
            table[name] = np.full(len(table), '')
    return table


def _floats(column: Any) -> np.ndarray | None:
    """
    The values with NaN where they are masked, `None` if these are no numbers.
    """
    if not isinstance(column, Column) or column.ndim != 1:
        return None
    mask = np.asarray(getattr(column, 'mask', np.zeros(len(column), bool)))
    if mask.all() and column.dtype.kind in 'biufOSU':  # of a CSV file, without any type
        return np.full(len(column), np.nan)
    if column.dtype.kind not in 'iuf':
        return None
    return np.where(mask, np.nan, np.asarray(column).astype(float))
