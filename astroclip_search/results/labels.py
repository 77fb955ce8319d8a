# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Cosines of pictures with many phrases -> descriptions and classes as tables.

A cosine of one phrase says nothing next to a cosine of another: each phrase has its own usual size
and spread. So descriptions are ordered by their z-scores over the background, phrase by phrase.
Classes are compared as CLIP does: a softmax of the cosines.
"""

import copy
from collections.abc import Sequence
from functools import partial

import numpy as np
from astropy.table import MaskedColumn, Table

from ..archives.columns import text_array
from ..archives.score_columns import form_of, rank_column, score_column
from ..embeddings.collect import Outcomes
from ..ranking.calibration import false_alarm_rate, z_score
from .names import names, short_names
from .table import image_sources

__all__ = ['CLASS_PREFIX', 'NONE', 'classified_table', 'column_name', 'described_table']

CLASS_PREFIX = 'clip_p_'

NONE = 'none'
"""
Name of the class of all that is none of the others.
"""


def described_table(table: Table, outcomes: Outcomes, phrases: Sequence[str],
                    cosines: np.ndarray, background: np.ndarray | None,
                    limit: int | None, source: np.ndarray | None = None) -> Table:
    """
    One line for each image and phrase, best first, of at most ``limit`` phrases an image.

    ``cosines`` are those of pictures and phrases (n, m), ``background`` those of the background
    images (b, m), and ``source`` their archives (b,). A row without a picture has one line, in
    which phrase and scores are masked.
    """
    score, false_alarm = cosines, np.full(cosines.shape, np.nan, np.float32)
    if background is not None:
        score = _by_phrase(z_score, cosines, background)
        false_alarm = _by_phrase(partial(false_alarm_rate, source=source), cosines, background)
    known = ~np.isnan(cosines[:, 0])
    counts = np.where(known, len(phrases) if limit is None else min(limit, len(phrases)), 1)
    row = np.repeat(np.arange(len(table)), counts)
    place = np.arange(len(row)) - np.repeat(counts.cumsum() - counts, counts)
    phrase = np.argsort(-score, axis=1, kind='stable')[row, place]
    unknown = ~known[row]
    columns = {
        'clip_row': row,
        'clip_phrase': MaskedColumn(np.where(unknown, '', text_array(phrases)[phrase]),
                                    mask=unknown),
        'clip_rank': rank_column(place + 1, unknown),
        'clip_name': text_array(names(table))[row],
        'clip_source': image_sources(table, outcomes.sources)[row],
        'clip_message': outcomes.messages()[row],
        'clip_status': outcomes.statuses()[row]}
    for name, values in (('clip_score', score), ('clip_false_alarm', false_alarm)):
        columns[name] = score_column(values[row, phrase], form_of(name))
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
    A copy of the table with the probability of each class (n, m), the best in front.

    It is of the same class, in the same order; columns of an earlier classification are replaced.
    """
    classified = table.copy()
    classified.meta = copy.deepcopy(table.meta)
    unknown = np.isnan(chances[:, 0])
    best = np.where(unknown, 0, chances.argmax(axis=1))
    sources = image_sources(table, outcomes.sources)
    front = {
        'clip_class': MaskedColumn(np.where(unknown, '', text_array(labels)[best]), mask=unknown),
        'clip_probability': score_column(chances[np.arange(len(best)), best])}
    behind = {
        **{column_name(label): score_column(chances[:, i]) for i, label in enumerate(labels)},
        'clip_source': sources,
        'clip_message': outcomes.messages(),
        'clip_status': outcomes.statuses(),
        'clip_name': short_names(table, sources)}
    classified.remove_columns([name for name in classified.colnames if name in front
                               or name in behind or name.startswith(CLASS_PREFIX)])
    for place, (name, values) in enumerate(front.items()):
        classified.add_column(values, name=name, index=place)
    for name, values in behind.items():
        classified[name] = values
    return classified
