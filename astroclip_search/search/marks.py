# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a ranked table says of itself: by what it was ranked, and which rows were judged by hand.

A table may come from a file of anyone, or be stacked from several, so nothing of it is certain.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.table import MaskedColumn, Row, Table

from ..archives.columns import text_column
from ..exceptions import invalid

__all__ = ['LABEL', 'Marks', 'is_ranked', 'labels_of', 'named', 'phrases_of', 'ranks_of',
           'said_by', 'with_labels']

LABEL = 'clip_label'

_MARKS = {'1': 1, '0': 0, '': -1, '--': -1}

_RANKED = {'clip_rank', 'clip_status', 'clip_source', 'clip_message'}


@dataclass(frozen=True)
class Marks:
    """
    Images that were judged by hand, by reference and in the order of judging: whether each is
    liked. ``like`` and ``unlike`` are examples besides, such as those of `rank`.
    """

    judged: dict[str, bool]
    like: list[str]
    unlike: list[str]

    @classmethod
    def of(cls, table: Table, said: dict) -> 'Marks':
        """
        The marks of a table. Of its own rows the column counts, if there is one, and for others
        what was said of rows that the table had before it was cut.
        """
        judged = {source: liked for name, liked in (('liked', True), ('disliked', False))
                  for source in _texts(said.get(name))}
        like, unlike = ([source for source in _texts(said.get(name)) if source not in judged]
                        for name in ('like', 'unlike'))
        if LABEL in table.colnames:
            sources, labels = text_column(table, 'clip_source'), labels_of(table)
            if judged:
                present = set(sources)
                judged = {source: liked for source, liked in judged.items()
                          if source not in present}
            for row in np.flatnonzero(labels >= 0).tolist():
                if sources[row]:
                    judged[sources[row]] = bool(labels[row])
        return cls(judged, like, unlike)

    def without(self, sources: Iterable[str]) -> 'Marks':
        """
        The same without what was said of some images.
        """
        gone = set(sources)
        return Marks({source: liked for source, liked in self.judged.items()
                      if source not in gone},
                     *([source for source in part if source not in gone]
                       for part in (self.like, self.unlike)))

    def adding(self, liked: list[str], disliked: list[str]) -> 'Marks':
        """
        The same and what is said now, which is the last word.
        """
        now = {**dict.fromkeys(liked, True), **dict.fromkeys(disliked, False)}
        left = self.without(now)
        return replace(left, judged={**left.judged, **now})

    def liked(self) -> list[str]:
        """
        References to the images that were liked.
        """
        return [source for source, liked in self.judged.items() if liked]

    def disliked(self) -> list[str]:
        """
        References to the images that were disliked.
        """
        return [source for source, liked in self.judged.items() if not liked]

    def examples(self) -> tuple[list[str], list[str]]:
        """
        All images that are examples of what is wanted, and of what is not.
        """
        return (list(dict.fromkeys(self.like + self.liked())),
                list(dict.fromkeys(self.unlike + self.disliked())))

    def provenance(self) -> dict[str, list[str]]:
        """
        All examples, and those of them that are marks, as plain data for ``meta['clip']``.
        """
        like, unlike = self.examples()
        return {'like': like, 'unlike': unlike, 'liked': self.liked(),
                'disliked': self.disliked()}

    def labels(self, sources: Sequence[str | None]) -> np.ndarray:
        """
        1 for rows (n,) that are liked, 0 for those that are disliked, -1 for all others; int8.
        """
        if not self.judged:
            return np.full(len(sources), -1, np.int8)
        found = map(self.judged.get, sources)
        return np.fromiter((-1 if liked is None else liked for liked in found), np.int8,
                           len(sources))


def with_labels(table: Table, labels: np.ndarray) -> None:
    """
    Write the column of marks, before those of the ranking.
    """
    # FITS would make int8 into truth values, without nulls.
    column = MaskedColumn(np.maximum(labels, 0), mask=labels < 0, dtype=np.int16,
                          description='1 liked, 0 disliked')
    if LABEL in table.colnames:
        table.remove_column(LABEL)
    place = table.colnames.index('clip_image') if 'clip_image' in table.colnames else None
    table.add_column(column, name=LABEL, index=place, copy=False)


def is_ranked(table: Any) -> bool:
    """
    Whether something is a table that was ranked.
    """
    return isinstance(table, Table) and set(table.colnames) >= _RANKED


def said_by(table: Any, verb: str) -> dict:
    """
    The ``meta['clip']`` of a ranked table, empty if it is lost.
    """
    if not is_ranked(table):
        raise invalid(f'{verb} takes a table that rank or a query has returned.')
    said = table.meta.get('clip')
    return said if isinstance(said, dict) else {}


def phrases_of(table: Table, said: dict) -> list[str] | None:
    """
    What a table was ranked by, `None` if it was by examples alone.
    """
    phrases = said.get('query')
    if phrases is None:
        raise invalid('The table does not say what it was ranked by, as some files lose '
                      "meta['clip']: give text again, and keep tables with ClipSearch.save or as "
                      'ECSV.')
    if not isinstance(phrases, list) or len(phrases) < 2 or not _is_stacked(table):
        return phrases or None
    # Tables that were stacked have the phrases of all of them.
    for n in range(1, len(phrases) + 1):
        if phrases == phrases[:n] * (len(phrases) // n):
            break
    if n == len(phrases):
        raise invalid('The table is stacked from tables that were ranked by several phrases '
                      f'({", ".join(map(repr, phrases[:5]))}): give text, the phrase to rank all '
                      'rows by.')
    return phrases[:n]


def named(table: Table, rows: Any, name: str) -> list[str]:
    """
    References to the images of the rows that the user points at.
    """
    if isinstance(rows, Row):
        rows = rows.table[rows.index:rows.index + 1]
    if isinstance(rows, list | tuple) and rows and all(isinstance(row, Row) for row in rows):
        return [source for row in rows for source in named(table, row, name)]
    if isinstance(rows, Table) and 'clip_source' in rows.colnames:
        sources = text_column(rows, 'clip_source')
    else:
        chosen = _chosen(table, rows, name)
        known = text_column(table, 'clip_source') if chosen else []
        sources = [known[row] for row in chosen]
    if not all(sources):
        raise invalid(f'{name} names a row that has no image.')
    return sources


def _chosen(table: Table, rows: Any, name: str) -> list[int]:
    """
    Positions of the rows of a mask, or of these ranks.
    """
    try:
        wanted = np.atleast_1d(rows)
    except ValueError:  # lists of several lengths
        wanted = np.array([None])
    if wanted.dtype == bool and wanted.shape == (len(table),):
        return np.flatnonzero(np.ma.filled(wanted, False)).tolist()
    if wanted.ndim != 1 or (wanted.dtype.kind not in 'iu' and wanted.size):
        raise invalid(f'{name} must be ranks such as [3, 7], rows of the table, or a mask of its '
                      'length.')
    if not wanted.size:
        return []
    ranks = ranks_of(table)
    chosen: list[int] = []
    for rank in wanted.tolist():
        found = np.flatnonzero((ranks == rank) & (ranks > 0)).tolist()
        if not found:
            raise invalid(f'{name} names rank {rank}, which the table does not have.')
        if len(found) > 1:
            raise invalid(f'{name} names rank {rank}, which several rows have, as in tables that '
                          'were stacked: pass the rows themselves or a mask, or rank the table '
                          'again.')
        chosen += found
    return chosen


def ranks_of(table: Table) -> np.ndarray:
    """
    ``clip_rank`` as integers (n,), 0 where there is none.
    """
    column = table['clip_rank']
    if column.dtype.kind not in 'iuf' or column.ndim != 1:
        return np.zeros(len(table), np.int64)
    ranks: np.ndarray = np.ma.filled(np.ma.array(column, dtype=float), 0)
    return np.where(np.isfinite(ranks), ranks, 0).astype(np.int64)


def _is_stacked(table: Table) -> bool:
    """
    Whether several rows have the same rank.
    """
    ranks = ranks_of(table)
    ranks = ranks[ranks > 0]
    return len(np.unique(ranks)) < len(ranks)


def labels_of(table: Table) -> np.ndarray:
    """
    The column of marks as int8 (n,): 1, 0, or -1 for anything else.
    """
    column = table[LABEL]
    if getattr(column, 'ndim', 0) != 1 or column.dtype.kind not in 'biufSUO':
        return np.full(len(table), -1, np.int8)
    if column.dtype.kind in 'SUO':  # of a file that somebody has edited
        words = text_column(table, LABEL)
        if odd := next((word for word in words if word not in _MARKS), None):
            raise invalid(f'{LABEL} has {odd[:40]!r}: write 1 for liked, 0 for disliked, and '
                          'nothing for all others.')
        return np.array([_MARKS[word] for word in words], np.int8)
    values: np.ndarray = np.ma.filled(np.ma.array(column, dtype=float), np.nan)
    return np.select([values == 1, values == 0], [1, 0], -1).astype(np.int8)


def _texts(values: Any) -> list[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
