# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Scores -> the table that the user gets, what it says of itself, and its warnings.
"""

import copy
import datetime
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from astropy.table import Table

from ..archives.columns import text_array, text_column
from ..archives.score_columns import form_of, rank_column, score_column
from ..embeddings.collect import Outcomes
from ..exceptions import (
    LostEmbeddingsWarning,
    NothingRankedWarning,
    NothingStandsOutWarning,
    UncalibratedWarning,
    UnfinishedWarning,
    UnreadImagesWarning,
    warn,
)
from ..models.encoder import Encoder
from ..ranking.calibration import LIKELY_CHANCE, STANDARD_RATE, TRUSTED_RATE
from ..ranking.query import WEIGHTS, Query
from ..ranking.scores import Scores
from ..status import DENIED, ERROR, OK
from .names import short_names

__all__ = ['BEHIND', 'IN_FRONT', 'circumstances', 'image_sources', 'provenance', 'ranked_table',
           'warn_of_chance', 'warn_of_lost', 'warn_of_none', 'warn_of_rows', 'warn_of_trust']

# A terminal leaves out the columns in the middle, and keeps one more in front than behind at most.
# In 80 letters there is room for rank, score and false alarm, and for status and name behind.
IN_FRONT = ('clip_rank', 'clip_score', 'clip_false_alarm')
BEHIND = ('clip_image', 'clip_metadata', 'clip_source', 'clip_message', 'clip_status', 'clip_name')


def ranked_table(table: Table, outcomes: Outcomes, scores: Scores, rows: np.ndarray) -> Table:
    """
    A copy of some rows of the table in order, with the clip columns around its own.

    It is of the same class; columns of an earlier ranking are replaced.
    """
    ranked = table[rows]
    ranked.meta = copy.deepcopy(table.meta)
    sources = image_sources(table, outcomes.sources)[rows]
    columns = {
        'clip_rank': rank_column(np.arange(1, len(rows) + 1), np.isnan(scores.score[rows])),
        **{name: score_column(getattr(scores, name.removeprefix('clip_'))[rows], form_of(name))
           for name in ('clip_score', 'clip_image', 'clip_metadata', 'clip_false_alarm')},
        'clip_status': outcomes.statuses()[rows],
        'clip_source': sources,
        'clip_message': outcomes.messages()[rows],
        'clip_name': short_names(ranked, sources)}
    ranked.remove_columns([name for name in columns if name in ranked.colnames])
    for place, name in enumerate(IN_FRONT):
        ranked.add_column(columns[name], name=name, index=place, copy=False)
    for name in BEHIND:
        ranked.add_column(columns[name], name=name, copy=False)
    return ranked


def image_sources(table: Table, sources: Sequence[str | None]) -> np.ndarray:
    """
    ``clip_source`` of each row: a file that was not read, as it is not ours, is named as before.
    """
    before = text_column(table, 'clip_source') if 'clip_source' in table.colnames else []
    return text_array([source or earlier for source, earlier in
                       zip_longest(sources, before, fillvalue='')])


def provenance(outcomes: Outcomes, query: Query, scores: Scores, by: str, encoder: Encoder,
               plane: str | int = 'middle') -> dict:
    """
    What was asked of which model, as plain data for ``meta['clip']``.
    """
    return {'query': query.phrases, 'negative': query.negatives, 'like': query.like.sources,
            'unlike': query.unlike.sources, 'weights': {**WEIGHTS, **query.weights}, 'by': by,
            'score_weights': scores.weights,
            'chance': None if np.isnan(scores.chance) else round(scores.chance, 4),
            **trust(scores.left_out),
            'n_folded': outcomes.count('twin', 'copy'),
            **circumstances(outcomes, int(np.isfinite(scores.score).sum()), encoder, plane)}


def trust(left_out: float) -> dict:
    """
    Whether the false-alarm rates hold for archives unlike the reference images, as plain data for
    ``meta['clip']``; `None` where it was not tried.
    """
    tried = not np.isnan(left_out)
    return {'calibrated': bool(left_out <= TRUSTED_RATE) if tried else None,
            'left_out': round(left_out, 4) if tried else None}


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
        warn(f'Nothing stands out: of {np.isfinite(scores.score).sum()} rows that do not show what '
             'is asked, the best would look like these with a probability of '
             f'{scores.chance:.2f}. Some may show it all the same: look at the first.',
             NothingStandsOutWarning)


def warn_of_none(chance: float | None, false_alarm_rate: float) -> None:
    """
    One warning if no row passes a filter, unless one has said already that nothing stands out.
    """
    if chance is not None and chance <= LIKELY_CHANCE:
        warn(f'No picture has a false-alarm rate of {false_alarm_rate:g} or less; the table of '
             'rank has them all.', NothingStandsOutWarning)


def warn_of_trust(clip: dict) -> None:
    """
    One warning if a rate decides that may be far off.
    """
    if clip.get('calibrated') is False:
        warn('The false-alarm rates of this query are uncertain. Of an archive unlike the '
             f'reference images, {clip["left_out"]:.0%} of the unrelated pictures or more may pass '
             f'at {STANDARD_RATE:g}: look at what is kept.', UncalibratedWarning)


def warn_of_lost(outcomes: Outcomes, scores: Scores) -> None:
    """
    One warning for all rows whose embeddings are not kept any more, none if all are.
    """
    n_lost = sum(outcomes.is_ok(row) for row in np.flatnonzero(np.isnan(scores.score)).tolist())
    if n_lost:
        warn(f'The embeddings of {n_lost} of {len(outcomes)} rows are not kept any more: rank '
             'again.', LostEmbeddingsWarning)
