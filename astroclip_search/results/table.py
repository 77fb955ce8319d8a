# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Scores -> the table that the user gets, what it says of itself, and its warnings.
"""

import copy
import datetime
from collections.abc import Sequence

import numpy as np
from astropy.table import MaskedColumn, Table

from ..embeddings.collect import Outcomes
from ..exceptions import (
    LostEmbeddingsWarning,
    NothingRankedWarning,
    NothingStandsOutWarning,
    UnfinishedWarning,
    UnreadImagesWarning,
    warn,
)
from ..models.encoder import Encoder
from ..ranking.calibration import LIKELY_CHANCE
from ..ranking.query import WEIGHTS, Query
from ..ranking.scores import Scores
from ..status import DENIED, ERROR, OK

__all__ = ['BEHIND', 'IN_FRONT', 'circumstances', 'masked', 'provenance', 'ranked_table', 'strings',
           'warn_of_chance', 'warn_of_lost', 'warn_of_none', 'warn_of_rows']

IN_FRONT = ('clip_rank', 'clip_score', 'clip_false_alarm', 'clip_status')
BEHIND = ('clip_image', 'clip_metadata', 'clip_source', 'clip_message')


def ranked_table(table: Table, outcomes: Outcomes, scores: Scores, rows: np.ndarray) -> Table:
    """
    A copy of some rows of the table in order, with the clip columns around its own.

    It is of the same class; columns of an earlier ranking are replaced.
    """
    ranked = table[rows]
    ranked.meta = copy.deepcopy(table.meta)
    ranked.remove_columns([name for name in IN_FRONT + BEHIND if name in ranked.colnames])
    columns = {
        'clip_rank': MaskedColumn(np.arange(1, len(rows) + 1), mask=np.isnan(scores.score[rows])),
        **{f'clip_{name}': masked(getattr(scores, name)[rows])
           for name in ('score', 'image', 'metadata', 'false_alarm')},
        'clip_status': outcomes.statuses()[rows],
        'clip_source': strings([source or '' for source in outcomes.sources])[rows],
        'clip_message': outcomes.messages()[rows]}
    for place, name in enumerate(IN_FRONT):
        ranked.add_column(columns[name], name=name, index=place, copy=False)
    for name in BEHIND:
        ranked.add_column(columns[name], name=name, copy=False)
    return ranked


def masked(values: np.ndarray) -> MaskedColumn:
    """
    A column of scores, masked where they are NaN.
    """
    values = np.asarray(values, np.float32)
    return MaskedColumn(np.nan_to_num(values), mask=np.isnan(values), format='.4f')


def strings(values: Sequence[str]) -> np.ndarray:
    """
    An array of strings, also of no strings: an empty list alone would become an array of floats.
    """
    return np.array(values, dtype=str)


def provenance(outcomes: Outcomes, query: Query, scores: Scores, by: str, encoder: Encoder,
               plane: str | int = 'middle') -> dict:
    """
    What was asked of which model, as plain data for ``meta['clip']``.
    """
    return {'query': query.phrases, 'negative': query.negatives, 'like': query.like.sources,
            'unlike': query.unlike.sources, 'weights': {**WEIGHTS, **query.weights}, 'by': by,
            'chance': None if np.isnan(scores.chance) else round(scores.chance, 4),
            **circumstances(outcomes, int(np.isfinite(scores.score).sum()), encoder, plane)}


def circumstances(outcomes: Outcomes, n_ranked: int, encoder: Encoder,
                  plane: str | int = 'middle') -> dict:
    """
    By which model, from which plane of cubes, when and of how many rows, as plain data for
    ``meta['clip']``.
    """
    from .. import __version__

    return {'model': encoder.bundle.name, 'revision': encoder.bundle.revision,
            'plane': plane, 'version': __version__,
            'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
            'n_rows': len(outcomes), 'n_ranked': n_ranked,
            'status': outcomes.status_counts()}


def warn_of_rows(outcomes: Outcomes) -> None:
    """
    One warning for all rows that failed, one for those that were too late, none if all is well.
    """
    counts, n = outcomes.status_counts(), len(outcomes)
    bad = counts.get(ERROR, 0) + counts.get(DENIED, 0)
    if not n:
        warn('There is nothing to rank: the table is empty.', NothingRankedWarning)
        return
    if OK not in counts:
        first = next(filter(None, outcomes.messages()), 'no row has an image')
        warn(f'None of the {n} rows could be ranked; the first says: {first}. See clip_status and '
             'clip_message.', NothingRankedWarning)
        return
    if bad:
        warn(f'{bad} of {n} images could not be read; see clip_status and clip_message.',
             UnreadImagesWarning)
    if late := outcomes.count('query_timeout'):
        warn(f'There was no time for {late} of {n} images. Call again to go on, or raise '
             'conf.query_timeout.', UnfinishedWarning)
    if left := outcomes.count('stopped'):
        warn(f'Stopped before {left} of {n} rows were read. Call again to go on.',
             UnfinishedWarning)


def warn_of_chance(scores: Scores) -> None:
    """
    One warning if unrelated rows would often be ranked as high as these.
    """
    if scores.chance > LIKELY_CHANCE:  # not if there is nothing to compare with
        warn(f'Nothing stands out: of {np.isfinite(scores.score).sum()} rows that have nothing to '
             'do with the query, the best would look like these with a probability of '
             f'{scores.chance:.2f}. See clip_false_alarm.', NothingStandsOutWarning)


def warn_of_none(chance: float | None, false_alarm_rate: float) -> None:
    """
    One warning if no row passes a filter, unless one has said already that nothing stands out.
    """
    if chance is not None and chance <= LIKELY_CHANCE:
        warn(f'No picture has a false-alarm rate of {false_alarm_rate:g} or less; the table of '
             'rank has them all.', NothingStandsOutWarning)


def warn_of_lost(outcomes: Outcomes, scores: Scores) -> None:
    """
    One warning for all rows whose embeddings are not kept any more, none if all are.
    """
    n_lost = sum(outcomes.is_ok(row) for row in np.flatnonzero(np.isnan(scores.score)).tolist())
    if n_lost:
        warn(f'The embeddings of {n_lost} of {len(outcomes)} rows are not kept any more: rank '
             'again.', LostEmbeddingsWarning)
