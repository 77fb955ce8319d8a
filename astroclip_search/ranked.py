# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Scores -> the table that the user gets, what it says of itself, and one warning.
"""

import collections
import copy
import datetime
import warnings
from collections.abc import Sequence

import numpy as np
from astropy.table import MaskedColumn, Table
from astroquery.exceptions import BlankResponseWarning, LargeQueryWarning, NoResultsWarning

from .encoder import Encoder
from .progress import STOPPED
from .query import Query
from .ranking import SURPRISING, WEIGHTS, Scores
from .references import References

__all__ = ['COLUMNS', 'circumstances', 'provenance', 'ranked_table', 'strings', 'warn_of_chance',
           'warn_of_lost', 'warn_of_none', 'warn_of_rows']

COLUMNS = ('clip_rank', 'clip_score', 'clip_image', 'clip_text', 'clip_false_alarm',
           'clip_status', 'clip_source', 'clip_message')


def ranked_table(table: Table, references: References, scores: Scores,
                 rows: np.ndarray) -> Table:
    """
    A copy of some rows of the table in order, with the clip columns.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.
    references : References
        One entry a row.
    scores : Scores
        One entry a row.
    rows : ndarray
        Indices of the rows that are returned, in order.

    Returns
    -------
    `~astropy.table.Table`
        Of the same class. Columns of an earlier ranking are replaced.
    """
    ranked = table[rows]
    ranked.meta = copy.deepcopy(table.meta)
    ranked.remove_columns([name for name in COLUMNS if name in ranked.colnames])
    place = np.arange(1, len(rows) + 1)
    ranked['clip_rank'] = MaskedColumn(place, mask=np.isnan(scores.score[rows]))
    for name in ('score', 'image', 'text', 'false_alarm'):
        values = getattr(scores, name)[rows]
        ranked[f'clip_{name}'] = MaskedColumn(np.nan_to_num(values), mask=np.isnan(values),
                                              format='.4f')
    for name, values in (('status', references.status),
                         ('source', [source or '' for source in references.sources]),
                         ('message', references.message)):
        ranked.add_column(strings(values)[rows], name=f'clip_{name}', copy=False)
    return ranked


def strings(values: Sequence[str]) -> np.ndarray:
    """
    An array of strings, also of no strings.

    Parameters
    ----------
    values : sequence of str
        Any number, also none.

    Returns
    -------
    ndarray
        Dtype U; an empty list alone would become an array of floats.
    """
    if len(values) and values.count(values[0]) == len(values):  # as most statuses and messages are
        return np.full(len(values), values[0])
    return np.array(values, dtype=str)


def provenance(references: References, query: Query, scores: Scores, by: str,
               encoder: Encoder) -> dict:
    """
    What was asked of which model, as plain data.

    Parameters
    ----------
    references : References
        The rows, with their final status.
    query : Query
        What was looked for.
    scores : Scores
        One entry a row.
    by : str
        What counted.
    encoder : Encoder
        The model.

    Returns
    -------
    dict
        For ``meta['clip']``; written by ECSV as it is.
    """
    return {'query': query.phrases, 'negative': query.negatives, 'like': query.like.sources,
            'unlike': query.unlike.sources, 'weights': {**WEIGHTS, **query.weights}, 'by': by,
            'chance': None if np.isnan(scores.chance) else round(scores.chance, 4),
            **circumstances(references, int(np.isfinite(scores.score).sum()), encoder)}


def circumstances(references: References, n_ranked: int, encoder: Encoder) -> dict:
    """
    By which model, when and of how many rows, as plain data.

    Parameters
    ----------
    references : References
        The rows, with their final status.
    n_ranked : int
        Number of rows that have a score.
    encoder : Encoder
        The model.

    Returns
    -------
    dict
        Part of ``meta['clip']``.
    """
    from . import __version__

    return {'model': encoder.bundle.name, 'revision': encoder.bundle.revision,
            'version': __version__,
            'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
            'n_rows': len(references), 'n_ranked': n_ranked,
            'status': dict(collections.Counter(references.status))}


def warn_of_rows(references: References) -> None:
    """
    One warning for all rows that failed, one for those that were too late, none if all is well.

    Parameters
    ----------
    references : References
        The rows, with their final status.
    """
    n, good = len(references), references.status.count('OK')
    bad = references.status.count('ERROR') + references.status.count('DENIED')
    if not n:
        warnings.warn('There is nothing to rank: the table is empty.', NoResultsWarning,
                      stacklevel=3)
    elif not good:
        reason = next(filter(None, references.message), 'no row has an image')
        warnings.warn(f'None of the {n} rows could be ranked; the first says: {reason}. '
                      'See clip_status and clip_message.', NoResultsWarning, stacklevel=3)
    elif bad:
        warnings.warn(f'{bad} of {n} images could not be read; see clip_status and clip_message.',
                      BlankResponseWarning, stacklevel=3)
    late = sum('conf.query_timeout' in message for message in filter(None, references.message))
    if good and late:
        warnings.warn(f'There was no time for {late} of {n} images. Call again to go on, or raise '
                      'conf.query_timeout.', LargeQueryWarning, stacklevel=3)
    n_left = references.message.count(STOPPED)
    if good and n_left:
        warnings.warn(f'Stopped before {n_left} of {n} rows were read. Call again to go on.',
                      LargeQueryWarning, stacklevel=3)


def warn_of_chance(scores: Scores) -> None:
    """
    One warning if unrelated rows would often be ranked as high as these.

    Parameters
    ----------
    scores : Scores
        One entry a row.
    """
    if scores.chance > SURPRISING:  # not if there is nothing to compare with
        warnings.warn(f'Nothing stands out: of {np.isfinite(scores.score).sum()} rows that have '
                      'nothing to do with the query, the best would look like these with a '
                      f'probability of {scores.chance:.2f}. See clip_false_alarm.',
                      NoResultsWarning, stacklevel=3)


def warn_of_none(chance: float | None, false_alarm_rate: float) -> None:
    """
    One warning if no row is left, unless it has been said already that nothing stands out.

    Parameters
    ----------
    chance : float or None
        From ``meta['clip']`` of the ranking.
    false_alarm_rate : float
        Which no picture reaches.
    """
    if chance is not None and chance <= SURPRISING:
        warnings.warn(f'No picture has a false-alarm rate of {false_alarm_rate:g} or less; the '
                      'table of rank has them all.', NoResultsWarning, stacklevel=3)


def warn_of_lost(references: References, scores: Scores) -> None:
    """
    One warning for all rows whose embeddings are not kept any more, none if all are.

    Parameters
    ----------
    references : References
        The rows, with their final status.
    scores : Scores
        One entry a row.
    """
    n_lost = sum(lost and status == 'OK' for lost, status in
                 zip(np.isnan(scores.score).tolist(), references.status, strict=True))
    if n_lost:
        category = BlankResponseWarning if np.isfinite(scores.score).any() else NoResultsWarning
        warnings.warn(f'The embeddings of {n_lost} of {len(references)} rows are not kept any '
                      'more: rank again.', category, stacklevel=3)
