# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Scores -> the order of the rows, which may repeat itself less.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.table import Table

from ..embeddings.collect import Outcomes
from ..embeddings.pipeline import Pipeline
from ..exceptions import invalid
from ..models.forks import undisturbed
from ..status import reason
from .scores import Scores, by_words

__all__ = ['COPY_COSINE', 'DUPLICATE_COSINE', 'N_COMPARED', 'arrange', 'duplicates',
           'group_codes', 'order', 'take_turns']

DUPLICATE_COSINE = 0.98
"""
Cosine above which two pictures count as the same for the embedded model.
"""

COPY_COSINE = 0.99999
"""
Cosine above which they are copies: what is left is rounding.
"""

N_COMPARED = 5000
"""
Best rows that are compared with one another; the time that it takes grows as its square.
"""

# Best rows among which copies are looked for by default: some pages of a gallery.
_FIRST_PAGES = 200

_BLOCK = 512


def order(score: np.ndarray) -> np.ndarray:
    """
    Rows from best to worst; rows without a score (NaN) come last, ties keep their order.
    """
    return np.argsort(-np.asarray(score, np.float32), kind='stable')


def arrange(outcomes: Outcomes, scores: Scores, pipeline: Pipeline, *,
            groups: np.ndarray | None = None,
            cosine: float | None = None,
            labels: np.ndarray | None = None) -> tuple[np.ndarray, Outcomes]:
    """
    The order of all rows (n,), those without a score last, and a note on those that repeat others
    or that are among the first for their metadata alone.

    With ``groups``, the number of each row's group, the best row of each group comes first, then
    the second of each, and so on. Of pictures whose cosine reaches ``cosine`` only the best keeps
    its place; the others come behind all other rows that have a score. Copies are looked for among
    the first rows alone. Rows whose label (n,) is 1 come before all others, and those of which it
    is 0 behind all others that have a score.
    """
    rows = order(scores.score)
    n_ranked = len(rows) - int(np.isnan(scores.score).sum())
    shown, behind = rows[:n_ranked], rows[n_ranked:]
    folded = twins = first = last = shown[:0]
    if labels is not None:
        first, shown, last = (shown[labels[shown] == label] for label in (1, -1, 0))
    if cosine is not None and n_ranked:
        n_compared = N_COMPARED if cosine < COPY_COSINE else _FIRST_PAGES
        best = np.concatenate([first, shown[:n_compared]])
        space = pipeline.cache.space(pipeline.space, ())
        positions = space.positions(outcomes.key(row) for row in best.tolist())
        twin = duplicates(space.matrix[positions], cosine)
        twin[:len(first)] = -1  # they stay where they were put
        folded, twins = best[twin >= 0], best[twin[twin >= 0]]
        shown = np.concatenate([best[len(first):][twin[len(first):] < 0], shown[n_compared:]])
    if groups is not None:
        shown = take_turns(shown, groups)
    carried = by_words(scores, shown)
    shown = np.concatenate([first, shown])
    place = {row: i for i, row in enumerate(shown.tolist(), 1)} if len(folded) else {}
    notes = {row: reason('copy' if cosine >= COPY_COSINE else 'twin', rank=place[twin])
             for row, twin in zip(folded.tolist(), twins.tolist(), strict=True)}
    for name, marked in (('liked', first), ('disliked', last)):
        notes |= dict.fromkeys(marked.tolist(), reason(name))
    for several in filter(None, (carried, notes)):
        outcomes = outcomes.noting(several)
    return np.concatenate([shown, folded, last, behind]), outcomes


def group_codes(table: Table, names: str | Sequence[str]) -> np.ndarray:
    """
    Number of the group of each row (n,), int64: rows of one group share the values of columns.

    A row in which one of the values is masked, NaN or empty has a group of its own.
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


def _values(column: Any) -> list:
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
    return [None if hidden else value for value, hidden in
            zip(values, mask.tolist(), strict=True)] if mask.any() else values


def take_turns(rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """
    The best row of each group, then the second of each, and so on.

    ``rows`` (k,) are best first, ``codes`` (n,) the group of every row of the table.
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
    For each of some unit vectors (k, d), best first, the index of the best one that it repeats.

    It is -1 for one that repeats none; int64 (k,). What repeats another is not compared with
    further ones, so a chain of small changes does not fold as a whole.
    """
    twin = np.full(len(vectors), -1, dtype=np.int64)
    kept = np.empty(0, dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start:start + _BLOCK]
        if len(kept):
            with undisturbed():
                near = block @ vectors[kept].T >= cosine
            found = near.any(axis=1)
            twin[start:start + len(block)][found] = kept[near[found].argmax(axis=1)]
        with undisturbed():
            near = block @ block.T >= cosine
        for i in np.flatnonzero(twin[start:start + len(block)] < 0).tolist():
            if twin[start + i] < 0:
                later = np.flatnonzero(near[i, i + 1:]) + start + i + 1
                twin[later[twin[later] < 0]] = start + i
        alone = np.flatnonzero(twin[start:start + len(block)] < 0) + start
        kept = np.concatenate([kept, alone])
    return twin
