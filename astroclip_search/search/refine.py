# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verb that ranks again after a look at the pictures.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from astropy.table import Table

from ..archives.open import as_table
from ..embeddings.pipeline import Pipeline
from ..exceptions import invalid
from ..models.forks import undisturbed
from ..ranking.order import COPY_COSINE, arrange, group_codes
from ..ranking.query import Query
from ..ranking.scores import score
from ..results import table as ranked
from .arguments import RankOptions, check
from .kept import (
    fullest_cache,
    kept_keys,
    kept_vectors,
    known_examples,
    plane_of_table,
    ranked_refs,
)
from .marks import LABEL, Marks, named, phrases_of, said_by, with_labels
from .recipe import remember
from .session import Session

__all__ = ['refine']

# Difference of the cosines of copies.
_ROUNDING = 1e-4


def refine(session: Session, table: Any, text: str | Sequence[str] | None, liked: Any,
           disliked: Any, forget: Any, by: str | None, options: RankOptions) -> Table:
    """
    Rank a ranked table again by what is said of its rows.
    """
    table = as_table(table)
    said = said_by(table, 'refine')
    if text is None:
        text = phrases_of(table, said)
    marks = Marks.of(table, said)
    if isinstance(forget, str) and forget == 'all':
        marks, forget = marks.without(marks.judged), ()
    now = [named(table, rows, name) for rows, name in (
        (liked, 'liked'), (disliked, 'disliked'), (forget, 'forget'))]
    refs = ranked_refs(table)
    by = by if by is not None else said.get('by', 'both')
    # What the cache has of another plane is of other pictures.
    plane = plane_of_table(table)
    cache = fullest_cache(session, refs.sources, plane)
    with session.pipeline(session.encoder(), cache, plane=plane) as pipeline:
        refs = replace(refs, keys=kept_keys(session, refs.sources, cache, pipeline.space))
        like, unlike, gone = (_with_copies(session, table, refs.sources, part, pipeline)
                              for part in now)
        if not set(like).isdisjoint(unlike):
            raise invalid('An image is both liked and disliked: choose one.')
        marks = marks.without(gone).adding(like, unlike)
        # Without pictures marks say where rows go, and nothing is learned from them.
        like, unlike = ([], []) if by == 'metadata' else marks.examples()
        group_by, options = options.group_by, replace(
            options, by=by, like=like or None, unlike=unlike or None,
            negative=options.negative if options.negative is not None
            else said.get('negative') or None,
            weights=options.weights if options.weights is not None else said.get('weights'))
        asked = check(text, options)
        groups = group_codes(table, group_by) if group_by is not None else None
        labels = marks.labels(refs.sources)
        query = Query(asked.phrases, asked.negatives,
                      *known_examples(session, like, unlike, pipeline), weights=asked.weights)
        scores, outcomes = score(refs, query, by=options.by, pipeline=pipeline, max_images=0,
                                 cached_only=True)
        rows, outcomes = arrange(outcomes, scores, pipeline, groups=groups, cosine=asked.cosine,
                                 labels=labels)
    best = ranked.ranked_table(table, outcomes, scores, rows[:options.limit])
    if marks.judged or LABEL in table.colnames:
        with_labels(best, labels[rows[:options.limit]])
    # What is known of the search for candidates still holds.
    best.meta['clip'] = {**said,
                         **ranked.provenance(outcomes, query, scores, options.by,
                                             pipeline.encoder, pipeline.plane),
                         **marks.provenance(), 'learned': query.has_learned(session.encoder())}
    if len(best) < len(table):
        remember(best.meta['clip'], table, refs.sources)
    ranked.warn_of_lost(outcomes, scores)
    return best


def _with_copies(session: Session, table: Table, sources: Sequence[str | None],
                 chosen: list[str], pipeline: Pipeline) -> list[str]:
    """
    Some images of a ranked table, and all others that are the same picture under another name.
    """
    if not chosen or 'clip_image' not in table.colnames:
        return chosen
    # Copies had the same cosine before: so few rows must be compared.
    before: np.ndarray = np.ma.filled(np.ma.array(table['clip_image'], dtype=float), np.nan)
    wanted, found = set(chosen), dict.fromkeys(chosen)
    for row in [row for row, source in enumerate(sources) if source in wanted]:
        near = np.flatnonzero(np.abs(before - before[row]) < _ROUNDING)
        others = [source for i in near.tolist() if i != row and (source := sources[i])]
        if others:
            at, space = kept_vectors(session, [sources[row] or '', *others], pipeline)
            if at[0] >= 0:
                with undisturbed():
                    alike = space.matrix[np.maximum(at[1:], 0)] @ space.matrix[at[0]] >= COPY_COSINE
                found.update((source, None) for source, same in
                             zip(others, (alike & (at[1:] >= 0)).tolist(), strict=True) if same)
    return list(found)
