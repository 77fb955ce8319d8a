# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Cosines of pictures with many phrases -> descriptions and classes as tables.

A cosine of one phrase says nothing next to a cosine of another: each phrase has its own usual size
and spread. So descriptions are ordered by their z-scores over the background, phrase by phrase.
Classes are compared as CLIP does: a softmax of the cosines.
"""

import copy
from collections.abc import Sequence

import numpy as np
from astropy.table import MaskedColumn, Table

from ..embeddings.collect import Outcomes
from ..ranking.calibration import false_alarm_rate, z_score
from .cards import names
from .table import masked, strings

__all__ = ['CLASS_PREFIX', 'NONE', 'classified_table', 'column_name', 'described_table']

CLASS_PREFIX = 'clip_p_'

NONE = 'none'
"""
Name of the class of all that is none of the others.
"""


def described_table(table: Table, outcomes: Outcomes, phrases: Sequence[str],
                    cosines: np.ndarray, background: np.ndarray | None,
                    limit: int | None) -> Table:
    """
    One line for each image and phrase, best first, of at most ``limit`` phrases an image.

    ``cosines`` are those of pictures and phrases (n, m), ``background`` those of the background
    images (b, m). A row without a picture has one line, in which phrase and scores are masked.
    """
    score, false_alarm = cosines, np.full(cosines.shape, np.nan, np.float32)
    if background is not None:
        score = _by_phrase(z_score, cosines, background)
        false_alarm = _by_phrase(false_alarm_rate, cosines, background)
    known = ~np.isnan(cosines[:, 0])
    counts = np.where(known, len(phrases) if limit is None else min(limit, len(phrases)), 1)
    row = np.repeat(np.arange(len(table)), counts)
    place = np.arange(len(row)) - np.repeat(counts.cumsum() - counts, counts)
    phrase = np.argsort(-score, axis=1, kind='stable')[row, place]
    unknown = ~known[row]
    columns = {
        'clip_row': row,
        'clip_phrase': MaskedColumn(np.where(unknown, '', strings(phrases)[phrase]), mask=unknown),
        'clip_rank': MaskedColumn(place + 1, mask=unknown),
        'clip_name': strings(names(table))[row],
        'clip_source': strings([source or '' for source in outcomes.sources])[row],
        'clip_message': outcomes.messages()[row],
        'clip_status': outcomes.statuses()[row]}
    for name, values in (('clip_score', score), ('clip_false_alarm', false_alarm)):
        columns[name] = masked(values[row, phrase])
    # Phrase and scores are at the two ends: a narrow terminal leaves out the middle.
    return Table(columns)


def _by_phrase(measure, cosines: np.ndarray, background: np.ndarray) -> np.ndarray:
    return np.stack([measure(of_rows, of_background) for of_rows, of_background in
                     zip(cosines.T, background.T, strict=True)], axis=1)


def column_name(label: str) -> str:
    """
    Name of the column of a class, with underscores for spaces, so that all formats take it.
    """
    return CLASS_PREFIX + '_'.join(label.split())


def classified_table(table: Table, outcomes: Outcomes, labels: Sequence[str],
                     chances: np.ndarray) -> Table:
    """
    A copy of the table with the probability of each class (n, m).

    It is of the same class, in the same order; columns of an earlier classification are replaced.
    """
    classified = table.copy()
    classified.meta = copy.deepcopy(table.meta)
    unknown = np.isnan(chances[:, 0])
    best = np.where(unknown, 0, chances.argmax(axis=1))
    columns = {
        'clip_class': MaskedColumn(np.where(unknown, '', strings(labels)[best]), mask=unknown),
        'clip_probability': masked(chances[np.arange(len(best)), best]),
        **{column_name(label): masked(chances[:, i]) for i, label in enumerate(labels)},
        'clip_status': outcomes.statuses(),
        'clip_source': strings([source or '' for source in outcomes.sources]),
        'clip_message': outcomes.messages()}
    classified.remove_columns([name for name in classified.colnames
                               if name in columns or name.startswith(CLASS_PREFIX)])
    for name, values in columns.items():
        classified[name] = values
    return classified
