# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Image references and a query -> scores, by way of the cache.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..archives.columns import RowMetadata
from ..embeddings.cache import Space
from ..embeddings.collect import CollectOptions, Outcomes, collect, look_up, positions_of
from ..embeddings.pipeline import Pipeline, metadata_space
from ..embeddings.progress import Awaited, Counts
from ..exceptions import LongPhraseWarning, warn
from ..images.refs import ImageRefs
from ..models.encoder import Encoder
from ..models.forks import undisturbed
from ..status import OK, Reason, reason
from .calibration import archives_of, chance, false_alarm_rate, left_out_rate, z_score
from .query import Query
from .words import NAMED, RowWords, counted, informative, read_words, without_titles

__all__ = ['Scores', 'by_words', 'combine_scores', 'score', 'warn_of_length']

# Metadata are embedded in parts of this size, so that an interruption loses little.
_PART = 256

# More than any cosine: a row whose target has the name that is asked for is fetched first.
_NAMED_FIT = 2.0

# Of the first rows it is said what brought them there, if one in ten pictures or more look as much
# like what is asked.
_FIRST = 100
_UNREMARKABLE = 0.1


class _Metadata(NamedTuple):
    """
    Cosines to the query of the rows' metadata and classes (n,), NaN where there are none, and of
    the background's metadata (m,); ``fit`` (n,) is what images are fetched by.
    """

    fit: np.ndarray
    cosines: np.ndarray
    classes: np.ndarray | None
    background: np.ndarray | None


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
    words : ndarray or None
        What of the score comes from the metadata, where it is a sum.
    weights : dict of str to float
        Its weights, and the threshold of the metadata, ``above``, if they have one.
    left_out : float
        How many unrelated images of an archive that is left out pass where one in a hundred should;
        NaN if that was not tried.
    """

    score: np.ndarray
    image: np.ndarray
    metadata: np.ndarray
    false_alarm: np.ndarray
    chance: float = float('nan')
    words: np.ndarray | None = None
    weights: dict[str, float] = field(default_factory=dict)
    left_out: float = float('nan')


def combine_scores(image: np.ndarray, metadata: np.ndarray, *, by: str = 'both',
                   words: RowWords | None = None, classes: np.ndarray | None = None,
                   weights: tuple[float, float] | None = None, above: float | None = None,
                   image_background: np.ndarray | None = None,
                   metadata_background: np.ndarray | None = None,
                   source: np.ndarray | None = None) -> Scores:
    """
    The score that a table is ordered by, from the cosines of pictures and of metadata (n,).

    With ``by='both'`` it is ``w_image * z_image + w_metadata * a * c``, where ``z`` is
    `~astroclip_search.ranking.calibration.z_score`, ``c`` what `counted` gives for ``z_metadata``,
    and ``a`` how `informative` the metadata are, 1 without a threshold ``above``. What has the name
    that is asked for has ``w_metadata * NAMED`` more. A row without a picture has no score. A model
    without fitted weights or background is ranked by cosine alone. ``classes`` (n,) are the cosines
    of the classes alone, ``source`` (m,) is the archive of each image of the background.
    """
    image, metadata = (np.asarray(a, dtype=np.float32) for a in (image, metadata))
    z_image, null_image = _against(image, image_background)
    z_metadata, null_metadata = _against(metadata, metadata_background)
    if words is None:
        words = RowWords([''] * len(image), [], np.full(len(image), -np.inf, np.float32),
                         np.zeros(len(image), bool))
    named = np.where(words.named, NAMED, 0)
    term: np.ndarray | None = None
    used: dict[str, float] = {}
    if by == 'both' and not (weights is None or null_image is None or null_metadata is None):
        w_image, w_metadata = weights
        least, without = words.least, np.isnan(metadata)
        counts = counted(z_metadata, least, above)
        if above is not None:
            w_metadata *= informative(z_image, z_metadata, words, above)
            if classes is not None:
                counts = without_titles(counts, _against(classes, metadata_background)[0], above)
        named = weights[1] * named
        term = w_metadata * counts + named
        score = w_image * z_image + term
        kinds = [(counted(null_metadata, value, above),
                  int((~np.isnan(image) & ~without & (least == value)).sum()))
                 for value in np.unique(least)]
        kinds.append((counted(np.array([np.nan]), 0, above),
                      int((~np.isnan(image) & without).sum())))
        unrelated = [w_image * null_image[rows] + w_metadata * _drawn(kinds, len(rows))
                     for rows in archives_of(null_image, source)]
        used = {'image': float(w_image), 'metadata': float(w_metadata)}
        if above is not None:
            used['above'] = float(above)
    else:
        score, null, its_source = {'image': (z_image, null_image, source),
                                   'metadata': (z_metadata + named, null_metadata, None),
                                   'both': (image, image_background, source)}[by]
        named = named * (by == 'metadata')
        unrelated = [] if null is None else [null[rows] for rows in archives_of(null, its_source)]
    false_alarm, left_out = np.full(len(image), np.nan, dtype=np.float32), float('nan')
    if image_background is not None:
        false_alarm = false_alarm_rate(image, image_background, source)
        if source is not None:
            left_out = left_out_rate(image_background, source)
    # No unrelated row has the name that is asked for.
    likely = 0.0 if (named[~np.isnan(score)] > 0).any() else chance(score, unrelated)
    return Scores(np.asarray(score, dtype=np.float32), image, metadata, false_alarm, likely, term,
                  used, left_out)


def by_words(scores: Scores, rows: np.ndarray) -> dict[int, Reason]:
    """
    A note on those of the first rows that would not be among them for their picture alone.

    ``rows`` (n,) are in order. The first are at most a hundred, and a quarter of those that have a
    score; the picture of such a row does not stand out either.
    """
    n_first = min(_FIRST, int(np.isfinite(scores.score).sum()) // 4)
    first = rows[:n_first]
    if scores.words is None or not len(first):
        return {}
    carried = ((scores.score - scores.words)[first] < scores.score[first].min()) & (
        scores.false_alarm[first] > _UNREMARKABLE)
    return dict.fromkeys(first[carried].tolist(), reason('by_words'))


def _against(cosines: np.ndarray,
             background: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Standardised cosines of the rows and of the background.
    """
    if background is None:
        return cosines, None
    return z_score(cosines, background), z_score(background, background)


def _drawn(kinds: Sequence[tuple[np.ndarray, int]], size: int) -> np.ndarray:
    """
    What unrelated metadata count, drawn at random; each kind as often as rows of a table are of it.
    """
    rng = np.random.default_rng(0)
    share = np.array([n_rows for _, n_rows in kinds], float)
    chosen = rng.choice(len(kinds), size, p=share / share.sum() if share.sum() else None)
    return np.stack([rng.choice(values, size) for values, _ in kinds])[chosen, np.arange(size)]


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
    stopped, words = threading.Event(), read_words(refs.metadata, query.phrases)
    options: dict[str, Any] = {'by': by, 'words': words, 'source': background.source,
                               'above': encoder.bundle.words_above,
                               'weights': query.ranking_weights(encoder)}
    # Metadata are embedded while images arrive, and waited for where the order of rows matters.
    worker = ThreadPoolExecutor(1, thread_name_prefix='astroclip-metadata')
    try:
        counts = Counts()
        waiting = Awaited(worker.submit(_score_metadata, refs, query, words, by, pipeline,
                                        stopped, counts), counts, show=bool(show_progress))
        if by != 'metadata':
            vector = query.image_vector(encoder)
            if background.image is not None:
                image_background = background.cosines(vector)

            def best(so_far: Outcomes) -> tuple[object, str]:
                return draw(_so_far(so_far, vector, waiting, pipeline,
                                    image_background=image_background, **options), so_far)

            space, positions, outcomes = collect(refs, pipeline, CollectOptions(
                max_images, waiting, show_progress, None if draw is None else best,
                cached_only))
            image = _cosines(space, positions, vector)
        if outcomes.count('stopped'):
            stopped.set()
        try:
            metadata = waiting.result()
        except KeyboardInterrupt:
            if draw is None:
                raise
            stopped.set()
            metadata = waiting.result()
        unread = np.isnan(metadata.cosines) & stopped.is_set()
    finally:
        stopped.set()
        worker.shutdown(wait=False)  # an interruption does not wait for the model
    reasons = dict(outcomes.reasons)
    if by == 'metadata':
        reasons = dict.fromkeys(np.flatnonzero(np.isnan(metadata.cosines)).tolist(),
                                (reason('no_metadata'),))
    for row in np.flatnonzero(unread).tolist():
        if by != 'image' and refs.metadata[row]:
            status = next((because.status for because in reasons.get(row, ())), OK)
            reasons[row] = (reason('stopped', status=status),)
    return combine_scores(
        image, metadata.cosines, classes=metadata.classes, image_background=image_background,
        metadata_background=metadata.background, **options), replace(outcomes, reasons=reasons)


def _so_far(outcomes: Outcomes, vector: np.ndarray, waiting: Awaited, pipeline: Pipeline,
            **options: Any) -> Scores:
    """
    Scores of the rows whose images are in the cache by now.
    """
    space = pipeline.cache.space(pipeline.space, ())
    image = _cosines(space, positions_of(space, outcomes, range(len(outcomes))), vector)
    metadata = waiting.result() if waiting.done() else _no_metadata(len(outcomes))
    return combine_scores(image, metadata.cosines, classes=metadata.classes,
                          metadata_background=metadata.background, **options)


def _no_metadata(n: int) -> _Metadata:
    nothing = np.full(n, np.nan, np.float32)
    return _Metadata(nothing, nothing, None, None)


def _score_metadata(refs: ImageRefs, query: Query, words: RowWords, by: str, pipeline: Pipeline,
                    stopped: threading.Event, counts: Counts) -> _Metadata:
    """
    Cosines to the query of the rows' metadata and classes, and of the background's.
    """
    if by == 'image':
        return _no_metadata(len(refs))
    encoder, background = pipeline.encoder, pipeline.encoder.bundle.background.metadata
    vector = query.metadata_vector(encoder)
    names = (refs.metadata.classes if by == 'both' and encoder.bundle.words_above is not None
             and isinstance(refs.metadata, RowMetadata) else [])
    kinds = {name: i for i, name in enumerate(dict.fromkeys(names))}
    cosines, of_kinds = (_of_texts(texts, vector, pipeline, stopped, counts)
                         for texts in (words.texts, list(kinds)))
    classes = of_kinds[[kinds[name] for name in names]] if kinds else None
    with undisturbed():
        of_background = None if background is None else background @ vector
    return _Metadata(cosines + _NAMED_FIT * words.named, cosines, classes, of_background)


def _of_texts(texts: Sequence[str], vector: np.ndarray, pipeline: Pipeline,
              stopped: threading.Event, counts: Counts) -> np.ndarray:
    """
    Cosines of texts (n,), which are embedded if they are not in the cache; NaN for empty ones.
    """
    encoder = pipeline.encoder
    name = metadata_space(encoder)
    space, positions, absent = look_up(pipeline.cache, name, texts)
    missing = list(dict.fromkeys(texts[row] for row in absent))
    counts.total += len(missing)
    for start in range(0, len(missing), _PART):
        if stopped.is_set():
            break
        part = missing[start:start + _PART]
        vectors = encoder.encode_metadata(part)
        good = np.isfinite(vectors).all(axis=1)
        pipeline.cache.put(name, [part[i] for i in np.flatnonzero(good)], vectors[good])
        counts.done += len(part)
    positions[absent] = space.positions(texts[row] for row in absent)
    return _cosines(space, positions, vector)


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
        with undisturbed():
            result[known] = (space.matrix @ query)[wanted]
    elif len(wanted):
        with undisturbed():
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
