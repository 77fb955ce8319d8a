# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that go from an image to phrases.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import Table

from .. import vocabulary
from ..embeddings.collect import CollectOptions, Outcomes, collect
from ..exceptions import UncalibratedWarning, invalid, warn
from ..models.forks import undisturbed
from ..ranking.calibration import TRUSTED_RATE, left_out_rate
from ..ranking.labels import class_thresholds, phrase_vectors, probabilities
from ..ranking.scores import warn_of_length
from ..results.labels import NONE, classified_table, column_name, described_table
from ..results.table import circumstances, warn_of_rows
from .arguments import ImageOptions, check_count, check_images, check_phrases, check_rate
from .rank import open_images
from .session import Session

__all__ = ['classify', 'describe']


def describe(session: Session, results: Any, phrases: str | Sequence[str] | None,
             limit: int | None, options: ImageOptions) -> Table:
    """
    The phrases that fit each image best.
    """
    check_count(limit, 'limit', 'all phrases', least=1)
    chosen = vocabulary.read() if phrases is None else list(dict.fromkeys(
        check_phrases(phrases, 'phrases')))
    table, outcomes, cosines, background = _compared(session, results,
                                                     [[phrase] for phrase in chosen], options)
    encoder = session.encoder()
    source = encoder.bundle.background.source
    lines = described_table(table, outcomes, chosen, cosines, background, limit, source)
    lines.meta['clip'] = {
        'query': [] if phrases is None else chosen,
        'vocabulary': vocabulary.version() if phrases is None else None,
        'uncertain': _uncertain(chosen, background, source),
        **circumstances(outcomes, outcomes.status_counts().get('OK', 0), encoder,
                        session.setting('plane'))}
    if background is None:
        warn(f'The model {encoder.bundle.name!r} has no reference images: clip_score is the '
             'cosine, which cannot be compared between phrases, and there is no false-alarm rate.',
             UncalibratedWarning)
    warn_of_rows(outcomes)
    return lines


def classify(session: Session, results: Any,
             classes: Sequence[str] | Mapping[str, str | Sequence[str]],
             false_alarm_rate: float | None, options: ImageOptions) -> Table:
    """
    Images sorted into classes.
    """
    groups = _groups(classes, least=2 if false_alarm_rate is None else 1)
    if false_alarm_rate is not None:
        _check_none(session, groups, false_alarm_rate)
    table, outcomes, cosines, background = _compared(session, results, list(groups.values()),
                                                     options)
    encoder = session.encoder()
    scale = encoder.bundle.logit_scale / encoder.bundle.temperature
    labels, none = list(groups), None
    source, uncertain = encoder.bundle.background.source, list[str]()
    if false_alarm_rate is not None and background is not None:
        labels.append(NONE)
        # Each class is measured from its own threshold, so that none of them is more than no class.
        none, cosines = 0.0, cosines - class_thresholds(background, false_alarm_rate, source)
        uncertain = _uncertain(list(groups), background, source)
    classified = classified_table(table, outcomes, labels, probabilities(scale * cosines, none))
    before = table.meta.get('clip')
    classified.meta['clip'] = {
        **(before if isinstance(before, dict) else {}),
        'classes': groups, 'logit_scale': scale, 'false_alarm_rate': false_alarm_rate,
        'uncertain': uncertain,
        **circumstances(outcomes, outcomes.status_counts().get('OK', 0), encoder,
                        session.setting('plane'))}
    warn_of_rows(outcomes)
    return classified


def _uncertain(names: Sequence[str], background: np.ndarray | None,
               source: np.ndarray | None) -> list[str]:
    """
    Those phrases or classes whose false-alarm rates may be far off for another archive.
    """
    if background is None or source is None:
        return []
    return [name for name, cosines in zip(names, background.T, strict=True)
            if left_out_rate(cosines, source) > TRUSTED_RATE]


def _check_none(session: Session, groups: Mapping[str, list[str]],
                false_alarm_rate: float) -> None:
    """
    Whether there can be a class of all that is none of the others.
    """
    check_rate(false_alarm_rate)
    if NONE in groups:
        raise invalid(f'The class {NONE!r} is added by false_alarm_rate: choose another name.')
    bundle = session.encoder().bundle
    if bundle.background.image is None:
        raise invalid(f'The model {bundle.name!r} has no reference images, so it cannot tell what '
                      'is none of the classes; leave out false_alarm_rate.')


def _compared(session: Session, results: Any, groups: list[list[str]], options: ImageOptions,
              ) -> tuple[Table, Outcomes, np.ndarray, np.ndarray | None]:
    """
    The rows, what came of them, and cosines with groups of phrases: (n, m) of their pictures and
    (b, m) of the background.
    """
    check_images(options)
    table, refs = open_images(session, results, options)
    encoder = session.encoder()
    warn_of_length([phrase for group in groups for phrase in group], encoder)
    with session.pipeline(encoder, session.cache(options.cache), refs.trusted) as pipeline:
        phrases = phrase_vectors(groups, pipeline)
        space, positions, outcomes = collect(refs, pipeline, CollectOptions(
            session.setting('max_images', options.max_images),
            show_progress=session.setting('show_progress', options.show_progress)))
    cosines = np.full((len(positions), len(groups)), np.nan, np.float32)
    known = positions >= 0
    if known.any():
        with undisturbed():
            cosines[known] = space.matrix[positions[known]] @ phrases.T
    background = encoder.bundle.background
    return (table, outcomes, cosines,
            background.cosines(phrases) if background.image is not None else None)


def _groups(classes: Any, least: int) -> dict[str, list[str]]:
    """
    The phrases of each class by its name.
    """
    if isinstance(classes, str):
        raise invalid('classes must be a list of phrases, or a dictionary of names and phrases.')
    if isinstance(classes, Mapping):
        names = check_phrases(classes.keys(), 'classes')
        phrases = [check_phrases(said, f'The class {name!r}')
                   for name, said in zip(names, classes.values(), strict=True)]
    else:
        names = check_phrases(classes, 'classes')
        phrases = [[name] for name in names]
    if len(names) < least:
        raise invalid(f'classes has {len(names)} class: give at least {least}, or the '
                      'false_alarm_rate of a class of all else.')
    if len({column_name(name) for name in names}) < len(names):
        raise invalid('Two classes have the same name.')
    return dict(zip(names, phrases, strict=True))
