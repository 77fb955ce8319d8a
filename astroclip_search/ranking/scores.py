# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Image references and a query -> scores, by way of the cache.
"""

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..embeddings.cache import Space
from ..embeddings.collect import CollectOptions, Outcomes, collect, look_up, positions_of
from ..embeddings.pipeline import Pipeline, metadata_space
from ..exceptions import LongPhraseWarning, warn
from ..images.refs import ImageRefs
from ..models.encoder import Encoder
from ..status import OK, reason
from .calibration import chance, false_alarm_rate, z_score
from .query import Query

__all__ = ['NO_METADATA', 'Scores', 'combine_scores', 'score', 'warn_of_length']

NO_METADATA = 0.6
"""
Standardised cosine that stands for metadata that a row does not have. Those of a row that shows
what is asked are above it on average, those of other rows below.
"""

# Standardised cosine above which a name is what is asked for. Below it lies what a name happens to
# sound like: "NGC 891" like all galaxies, "M 13" like no globular cluster.
_NAMED = 3.0

_WORDS_OF_A_NAME = 4

# Metadata are embedded in parts of this size, so that an interruption loses little.
_PART = 256


@dataclass(frozen=True)
class Scores:
    """
    Scores of the rows of a table, float32 (n,); NaN where a row has none.

    Attributes
    ----------
    score : ndarray
        What the order follows.
    image, metadata : ndarray
        Cosine of the picture and of the metadata.
    false_alarm : ndarray
        Fraction of unrelated images that score at least as high.
    chance : float
        How often as many unrelated rows hold scores as high as the best of these; NaN if there is
        nothing to compare with.
    """

    score: np.ndarray
    image: np.ndarray
    metadata: np.ndarray
    false_alarm: np.ndarray
    chance: float = float('nan')


def combine_scores(image: np.ndarray, metadata: np.ndarray, *, by: str = 'both',
                   least: np.ndarray | None = None,
                   weights: tuple[float, float] | None = None,
                   image_background: np.ndarray | None = None,
                   metadata_background: np.ndarray | None = None) -> Scores:
    """
    The score that a table is ordered by, from the cosines of pictures and of metadata (n,).

    With ``by='both'`` it is ``w_image * z_image + w_metadata * z_metadata``, where ``z`` is
    `~astroclip_search.ranking.calibration.z_score`. A row without metadata has ``NO_METADATA``:
    neither what metadata that fit give nor what others do; so has one whose ``z_metadata`` is not
    above ``least`` (n,), which is for rows of which a name alone is known. A row without a picture
    has no score. A model without fitted weights or background is ranked by cosine alone.
    """
    image, metadata = (np.asarray(a, dtype=np.float32) for a in (image, metadata))
    z_image, null_image = _against(image, image_background)
    z_metadata, null_metadata = _against(metadata, metadata_background)
    if by == 'both' and not (weights is None or null_image is None or null_metadata is None):
        w_image, w_metadata = weights
        least = np.full(len(image), -np.inf) if least is None else least
        without = np.isnan(metadata)
        score = w_image * z_image + w_metadata * np.where(
            without | ~(z_metadata > least), NO_METADATA, z_metadata)
        kinds = [(null_metadata if value == -np.inf else np.sort(np.where(
            null_metadata > value, null_metadata, NO_METADATA)),
            int((~np.isnan(image) & ~without & (least == value)).sum()))
            for value in (-np.inf, _NAMED, np.inf)]
        kinds.append((np.array([NO_METADATA]), int((~np.isnan(image) & without).sum())))
        likely = chance(score, lambda best: np.sum([
            n_rows * _reached(best, w_image * null_image, w_metadata * null)
            for null, n_rows in kinds if n_rows], axis=0))
    else:
        score, null = {'image': (z_image, null_image), 'metadata': (z_metadata, null_metadata),
                       'both': (image, image_background)}[by]
        likely = float('nan') if null is None else chance(score, lambda best: (
            np.isfinite(score).sum() * false_alarm_rate(best, null)))
    if image_background is None:
        false_alarm = np.full(len(image), np.nan, dtype=np.float32)
    else:
        false_alarm = false_alarm_rate(image, image_background)
    return Scores(np.asarray(score, dtype=np.float32), image, metadata, false_alarm, likely)


def _against(cosines: np.ndarray,
             background: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Standardised cosines of the rows and, in order, of the background.
    """
    if background is None:
        return cosines, None
    known = background[~np.isnan(background)]
    return z_score(cosines, known), np.sort(z_score(known, known))


def _reached(scores: np.ndarray, image: np.ndarray, metadata: np.ndarray) -> np.ndarray:
    """
    How often an unrelated picture's term and that of unrelated metadata sum to at least as much.

    Every picture is put beside all metadata, as the two are independent where neither is related.
    """
    share = np.array([1 - np.searchsorted(metadata, score - image).mean() / len(metadata)
                      for score in scores])
    return (share * len(image) + 1) / (len(image) + 1)


def score(refs: ImageRefs, query: Query, *, by: str, pipeline: Pipeline,
          max_images: int | None = None, show_progress: bool = False,
          draw: Callable[[Scores, Outcomes], tuple[object, str]] | None = None,
          cached_only: bool = False) -> tuple[Scores, Outcomes]:
    """
    Scores of all rows, and what came of them.

    ``draw`` makes what is shown of the best rows while images arrive; with it, an interruption
    gives the scores of the rows that were reached. Without a phrase, metadata do not count.
    """
    encoder, background = pipeline.encoder, pipeline.encoder.bundle.background
    image, image_background = np.full(len(refs), np.nan, np.float32), None
    outcomes = Outcomes(refs.sources, refs.reasons)
    warn_of_length(query.phrases + query.negatives, encoder)
    if by == 'both' and not query.phrases:
        by = 'image'
    weights, stopped = query.ranking_weights(encoder), threading.Event()
    least = np.array([_least(text, query.phrases) for text in refs.metadata], np.float32)
    # Metadata are embedded while images arrive, and waited for where the order of rows matters.
    with ThreadPoolExecutor(1, thread_name_prefix='astroclip-metadata') as worker:
        try:
            waiting = worker.submit(_score_metadata, refs, query, by, pipeline, stopped)
            if by != 'metadata':
                vector = query.image_vector(encoder)
                if background.image is not None:
                    image_background = background.cosines(vector)

                def best(so_far: Outcomes) -> tuple[object, str]:
                    return draw(_so_far(so_far, vector, waiting, pipeline, by=by, least=least,
                                        weights=weights, image_background=image_background),
                                so_far)

                space, positions, outcomes = collect(refs, pipeline, CollectOptions(
                    max_images, waiting, show_progress, None if draw is None else best,
                    cached_only))
                image = _cosines(space, positions, vector)
            if outcomes.count('stopped'):
                stopped.set()
            try:
                metadata, metadata_background = waiting.result()
            except KeyboardInterrupt:
                if draw is None:
                    raise
                stopped.set()
                metadata, metadata_background = waiting.result()
            unread = np.isnan(metadata) & stopped.is_set()
        finally:
            stopped.set()
    reasons = dict(outcomes.reasons)
    if by == 'metadata':
        reasons = dict.fromkeys(np.flatnonzero(np.isnan(metadata)).tolist(),
                                (reason('no_metadata'),))
    for row in np.flatnonzero(unread).tolist():
        if by != 'image' and refs.metadata[row]:
            status = next((because.status for because in reasons.get(row, ())), OK)
            reasons[row] = (reason('stopped', status=status),)
    return combine_scores(image, metadata, by=by, least=least, weights=weights,
                          image_background=image_background,
                          metadata_background=metadata_background), replace(outcomes,
                                                                            reasons=reasons)


def _least(text: str, phrases: Sequence[str]) -> float:
    """
    What the standardised cosine of metadata must exceed to count.

    A name, or several, with neither a title nor a class, says little. To a phrase of one word any
    short name is similar: only one that has this word counts.
    """
    if ', ' in text or any(part.count(' ') >= _WORDS_OF_A_NAME for part in text.split('; ')):
        return -np.inf
    words = [phrase.lower().split() for phrase in phrases]
    if all(len(several) == 1 for several in words):
        known = set(re.findall(r'\w+', text.lower()))
        return _NAMED if any(word in known for word, in words) else np.inf
    return _NAMED


def _so_far(outcomes: Outcomes, vector: np.ndarray, waiting: Future, pipeline: Pipeline,
            **options: Any) -> Scores:
    """
    Scores of the rows whose images are in the cache by now.
    """
    space = pipeline.cache.space(pipeline.space, ())
    image = _cosines(space, positions_of(space, outcomes, range(len(outcomes))), vector)
    metadata, background = np.full(len(outcomes), np.nan, np.float32), None
    if waiting.done():
        metadata, background = waiting.result()
    return combine_scores(image, metadata, metadata_background=background, **options)


def _score_metadata(refs: ImageRefs, query: Query, by: str, pipeline: Pipeline,
                    stopped: threading.Event) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Cosines to the query of the rows' metadata and of the background's.
    """
    if by == 'image':
        return np.full(len(refs), np.nan, np.float32), None
    encoder, background = pipeline.encoder, pipeline.encoder.bundle.background.metadata
    vector, name = query.metadata_vector(encoder), metadata_space(encoder)
    space, positions, absent = look_up(pipeline.cache, name, refs.metadata)
    missing = list(dict.fromkeys(refs.metadata[row] for row in absent))
    for start in range(0, len(missing), _PART):
        if stopped.is_set():
            break
        part = missing[start:start + _PART]
        pipeline.cache.put(name, part, encoder.encode_metadata(part))
    positions[absent] = space.positions(refs.metadata[row] for row in absent)
    return (_cosines(space, positions, vector),
            background @ vector if background is not None else None)


def _cosines(space: Space, positions: np.ndarray, query: np.ndarray) -> np.ndarray:
    """
    Cosines of some vectors of a space (n,), NaN where the position is negative.
    """
    known: Any = positions >= 0
    if known.all():
        known = slice(None)  # as almost always
    result = np.full(len(positions), np.nan, np.float32)
    wanted = positions[known]
    if len(wanted) > len(space) // 4:
        # One product over the contiguous matrix is cheaper than gathering rows first.
        result[known] = (space.matrix @ query)[wanted]
    elif len(wanted):
        result[known] = space.matrix[wanted] @ query
    return result


def warn_of_length(phrases: Sequence[str], encoder: Encoder) -> None:
    """
    One warning for each phrase that the model cannot read to its end.
    """
    for phrase in phrases:
        if encoder.n_tokens(phrase) > encoder.bundle.context_length:
            warn(f'The phrase {phrase[:40]!r}... is longer than the '
                 f'{encoder.bundle.context_length} tokens that the model reads; the model ignores '
                 'its end.', LongPhraseWarning)
