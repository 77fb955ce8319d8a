# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verb that says which rows to look at next.
"""

import copy
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from astropy.table import Table

from ..archives.open import as_table
from ..exceptions import invalid
from ..models.forks import undisturbed
from ..ranking.learn import instructive
from ..ranking.query import Query
from .arguments import RankOptions, check
from .kept import fullest_cache, kept_vectors, known_examples, plane_of_table, ranked_refs
from .marks import Marks, phrases_of, ranks_of, said_by
from .session import Session

__all__ = ['suggest']

# The best rows without a mark, among which is chosen, at least and for each that is asked for:
# marks of rows further down say little about the first page.
_PLAUSIBLE = 30
_PLAUSIBLE_EACH = 3


def suggest(session: Session, table: Any, n: int, text: str | Sequence[str] | None) -> Table:
    """
    The rows of a ranked table whose marks would teach most.
    """
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise invalid('n must be a whole number of at least 1.')
    table = as_table(table)
    said = said_by(table, 'suggest')
    if text is None:
        text = phrases_of(table, said)
    marks = Marks.of(table, said)
    like, unlike = marks.examples()
    options = RankOptions(like=like or None, unlike=unlike or None,
                          negative=said.get('negative') or None, weights=said.get('weights'))
    asked = check(text, options)
    sources = ranked_refs(table).sources
    ranks, labels = ranks_of(table), marks.labels(sources)
    rows = np.flatnonzero((ranks > 0) & (labels < 0) & np.array([bool(s) for s in sources], bool))
    rows = rows[np.argsort(ranks[rows], kind='stable')][:max(_PLAUSIBLE, _PLAUSIBLE_EACH * n)]
    plane = plane_of_table(table)
    with session.pipeline(session.encoder(), fullest_cache(session, sources, plane),
                          plane=plane) as pipeline:
        at, space = kept_vectors(session, [sources[row] or '' for row in rows.tolist()],
                                 pipeline)
        rows, vectors = rows[at >= 0], space.matrix[at[at >= 0]]
        query = Query(asked.phrases, asked.negatives,
                      *known_examples(session, like, unlike, pipeline), weights=asked.weights)
        # Of no image is the space known, nor its width.
        scores = np.empty(0)
        if len(rows):
            vector = query.image_vector(pipeline.encoder)
            with undisturbed():
                scores = vectors @ vector
        marked = np.concatenate([part.vectors for part in (query.like, query.unlike)
                                 if part.sources] or [vectors[:0]])
    if not len(rows) and not marks.judged:
        raise invalid('The embeddings of these pictures are not in the cache: rank the table again '
                      'first, without a phrase to go on by its own.')
    found = table[rows[instructive(vectors, _plausibility(scores), marked, n)]]
    found.meta = copy.deepcopy(table.meta)
    return found


def _plausibility(scores: np.ndarray) -> np.ndarray:
    """
    How likely images (k,) are to be wanted beside the best of them: their spread is the measure.
    """
    if not len(scores):
        return scores
    return np.exp((scores - scores.max()) / max(float(scores.std()), 1e-6))
