# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Cosines of pictures with many phrases -> descriptions and classes as tables.

A cosine of one phrase says nothing next to a cosine of another: each phrase has its own usual size
and spread. So descriptions are ordered by `~astroclip_search.ranking.standardise` over the
background, phrase by phrase. Classes are compared as CLIP does: a softmax of the cosines.
"""

import copy
from collections.abc import Sequence

import numpy as np
from astropy.table import MaskedColumn, Table

from .display import names
from .embeddings import Pipeline
from .ranked import strings
from .ranking import centroid, exceedance, normalise, standardise
from .references import References

__all__ = ['CLASS_PREFIX', 'NONE', 'classified_table', 'column_name', 'described_table',
           'none_logit', 'phrase_vectors', 'probabilities']

CLASS_PREFIX = 'clip_p_'

NONE = 'none'
"""
Name of the class of what is none of the others.
"""


def phrase_vectors(groups: Sequence[Sequence[str]], pipeline: Pipeline) -> np.ndarray:
    """
    One vector for each group of phrases; those that are in the store are not embedded again.

    Parameters
    ----------
    groups : sequence of sequence of str
        The phrases of a group are averaged.
    pipeline : Pipeline
        Model and store.

    Returns
    -------
    ndarray
        Unit vectors, shape ``(m, d)``, float32.
    """
    encoder, store = pipeline.encoder, pipeline.store
    phrases = list(dict.fromkeys(phrase for group in groups for phrase in group))
    name = f'{encoder.bundle.revision}/phrases'
    space = store.space(name, phrases)
    missing = [phrases[i] for i in np.flatnonzero(space.positions(phrases) < 0)]
    if missing:
        templates = encoder.bundle.prompt_templates
        vectors = encoder.encode_text([template.replace('{}', phrase) for phrase in missing
                                       for template in templates])
        shape = len(missing), len(templates), vectors.shape[1]
        store.put(name, missing, normalise(vectors.reshape(shape).mean(axis=1)))
    return np.stack([centroid(space.matrix[space.positions(group)]) for group in groups])


def described_table(table: Table, references: References, phrases: Sequence[str],
                    cosines: np.ndarray, background: np.ndarray | None,
                    limit: int | None) -> Table:
    """
    One line for each image and phrase, best first.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.
    references : References
        One entry a row, with its final status.
    phrases : sequence of str
        Any number.
    cosines : ndarray
        Of pictures and phrases, shape ``(n, m)``; NaN in rows without a picture.
    background : ndarray or None
        Cosines of the background images with the phrases, shape ``(b, m)``, NaN for a phrase
        that an image may show.
    limit : int or None
        Phrases of one image; `None` gives all.

    Returns
    -------
    `~astropy.table.Table`
        A row without a picture has one line, in which phrase and scores are masked.
    """
    score, false_alarm = cosines, np.full(cosines.shape, np.nan, np.float32)
    if background is not None:
        score = _by_phrase(standardise, cosines, background)
        false_alarm = _by_phrase(exceedance, cosines, background)
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
        'clip_source': strings([source or '' for source in references.sources])[row],
        'clip_message': strings(references.message)[row],
        'clip_status': strings(references.status)[row]}
    for name, values in (('clip_score', score), ('clip_false_alarm', false_alarm)):
        columns[name] = _masked(values[row, phrase])
    # Phrase and scores are at the two ends: a narrow terminal leaves out the middle.
    return Table(columns)


def _by_phrase(measure, cosines: np.ndarray, background: np.ndarray) -> np.ndarray:
    return np.stack([measure(of_rows, of_background) for of_rows, of_background in
                     zip(cosines.T, background.T, strict=True)], axis=1)


def _masked(values: np.ndarray) -> MaskedColumn:
    values = np.asarray(values, np.float32)
    return MaskedColumn(np.nan_to_num(values), mask=np.isnan(values), format='.4f')


def probabilities(logits: np.ndarray, none: float | None = None) -> np.ndarray:
    """
    The softmax of each row.

    Parameters
    ----------
    logits : ndarray
        Shape ``(n, m)``; NaN in rows that have none.
    none : float, optional
        Logit of one more class, the same in all rows.

    Returns
    -------
    ndarray
        Shape ``(n, m)`` or ``(n, m + 1)``; rows add up to one, NaN stays NaN.
    """
    if none is not None:
        logits = np.column_stack([logits, np.where(np.isnan(logits[:, 0]), np.nan, none)])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def none_logit(background: np.ndarray, false_alarm_rate: float) -> float:
    """
    The logit of the class of what is none of the others.

    Parameters
    ----------
    background : ndarray
        Logits of the background images, shape ``(b, m)``, NaN for a class that an image may show:
        then it does not count, unless all do.
    false_alarm_rate : float
        Fraction of the background that may be more probable in one of the other classes.

    Returns
    -------
    float
        It is larger than all others for the rest of the background.
    """
    known = ~np.isnan(background)
    unrelated = known.all(axis=1)
    counted = unrelated if unrelated.any() else known.any(axis=1)
    best = np.sort(np.fmax.reduce(background[counted], axis=1))
    return float(best[-1 - int(false_alarm_rate * len(best))])


def column_name(label: str) -> str:
    """
    Name of the column of a class.

    Parameters
    ----------
    label : str
        Name of the class.

    Returns
    -------
    str
        With underscores for spaces, so that all formats and tools take it.
    """
    return CLASS_PREFIX + '_'.join(label.split())


def classified_table(table: Table, references: References, labels: Sequence[str],
                     chances: np.ndarray) -> Table:
    """
    A copy of the table with the probability of each class.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.
    references : References
        One entry a row, with its final status.
    labels : sequence of str
        Names of the classes.
    chances : ndarray
        Probabilities, shape ``(n, m)``; NaN in rows without a picture.

    Returns
    -------
    `~astropy.table.Table`
        Of the same class, in the same order. Columns of an earlier classification are replaced.
    """
    classified = table.copy()
    classified.meta = copy.deepcopy(table.meta)
    columns = {'clip_class': None, 'clip_probability': None,
               **{column_name(label): chances[:, i] for i, label in enumerate(labels)}}
    unknown = np.isnan(chances[:, 0])
    best = np.where(unknown, 0, chances.argmax(axis=1))
    columns['clip_class'] = MaskedColumn(np.where(unknown, '', strings(labels)[best]), mask=unknown)
    columns['clip_probability'] = chances[np.arange(len(best)), best]
    columns |= {'clip_status': strings(references.status),
                'clip_source': strings([source or '' for source in references.sources]),
                'clip_message': strings(references.message)}
    classified.remove_columns([name for name in classified.colnames
                               if name in columns or name.startswith(CLASS_PREFIX)])
    for name, values in columns.items():
        classified[name] = _masked(values) if values.dtype.kind == 'f' else values
    return classified
