# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
References and a query -> scores, by way of the store.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from astroquery.exceptions import InputWarning, LargeQueryWarning

from . import links
from .diversity import N_COMPARED, duplicates, take_turns
from .embeddings import Pipeline, image_space, words_space
from .encoder import Encoder
from .exceptions import PreviewError
from .progress import STOPPED, Progress
from .query import Query
from .ranking import Scores, combine, order
from .references import LINK, References, image_key, is_path, parts
from .store import Space

if TYPE_CHECKING:
    from .gallery import Gallery

__all__ = ['OF_ORDER', 'arrange', 'bring', 'n_workers', 'score', 'warn_of_length']

_TWIN, _LOST = 'nearly the same picture as rank', 'its embedding is not kept any more'
OF_ORDER = (_TWIN, _LOST)
"""
Beginnings of messages that hold for one order only.
"""

# Words are embedded in parts of this size, so that an interruption loses little.
_WORDS_PART = 256


def score(references: References, query: Query, *, by: str, pipeline: Pipeline, max_images: int,
          show_progress: bool = False, draw: 'Callable[[Scores], Gallery] | None' = None,
          stored_only: bool = False) -> Scores:
    """
    Scores of all rows.

    Parameters
    ----------
    references : References
        The rows; their ``status`` and ``message`` are filled in.
    query : Query
        What is looked for.
    by : {'both', 'image', 'text'}
        What counts. Without a phrase, words do not.
    pipeline : Pipeline
        Model, store and downloads.
    max_images : int
        Images that are downloaded at most.
    show_progress : bool
        Show a progress bar on a terminal or in a notebook.
    draw : callable, optional
        Makes a gallery of the best rows, which is shown while images arrive; see
        `~astroclip_search.progress.Progress`.
    stored_only : bool
        Read no image: a row whose embedding is not in the store has no score.

    Returns
    -------
    Scores
        In the order of the rows.
    """
    encoder, background = pipeline.encoder, pipeline.encoder.bundle.background
    image, image_background = np.full(len(references), np.nan, np.float32), None
    warn_of_length(query.phrases + query.negatives, encoder)
    if by == 'both' and not query.phrases:
        by = 'image'
    stopped = threading.Event()
    # Words are embedded while images arrive; they are waited for where the order of rows matters.
    with ThreadPoolExecutor(1, thread_name_prefix='astroclip-words') as worker:
        try:
            words = worker.submit(_score_words, references, query, by, pipeline, stopped)
            if by != 'text':
                vector = query.image_vector(encoder)
                if background.image is not None:
                    image_background = background.cosines(vector)
                best = None if draw is None else lambda: draw(_so_far(
                    references, vector, words, pipeline, by=by, image_background=image_background,
                    weights=query.ranking_weights(encoder)))
                space, positions = bring(references, pipeline, words=words, max_images=max_images,
                                         show_progress=show_progress, best=best,
                                         stored_only=stored_only)
                image = _cosines(space, positions, vector)
            if STOPPED in references.message:
                stopped.set()
            try:
                text, text_background = words.result()
            except KeyboardInterrupt:
                if draw is None:
                    raise
                stopped.set()
                text, text_background = words.result()
            unread = np.isnan(text) & stopped.is_set()
        finally:
            stopped.set()
    if by == 'text':
        references.status = ['SKIPPED' if np.isnan(value) else 'OK' for value in text]
        references.message = ['the row has no words' if np.isnan(value) else '' for value in text]
    for i in np.flatnonzero(unread).tolist():
        if references.words[i] and by != 'image':
            references.message[i] = STOPPED
    return combine(image, text, by=by, weights=query.ranking_weights(encoder),
                   image_background=image_background, text_background=text_background)


def _so_far(references: References, vector: np.ndarray, words: Future, pipeline: Pipeline,
            **options: Any) -> Scores:
    """
    Scores of the rows whose images are in the store by now.
    """
    space = pipeline.store.space(image_space(pipeline.encoder), ())
    image = _cosines(space, _positions(space, references, range(len(references))), vector)
    text, text_background = np.full(len(references), np.nan, np.float32), None
    if words.done():
        text, text_background = words.result()
    return combine(image, text, text_background=text_background, **options)


def _score_words(references: References, query: Query, by: str, pipeline: Pipeline,
                 stopped: threading.Event) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Cosines of the rows' words and of the background's words to the query.
    """
    if by == 'image':
        return np.full(len(references), np.nan, np.float32), None
    vector = query.words_vector(pipeline.encoder)
    background = pipeline.encoder.bundle.background.words
    return (_words_cosines(references.words, vector, pipeline, stopped),
            background @ vector if background is not None else None)


def _words_cosines(words: list[str], query: np.ndarray, pipeline: Pipeline,
                   stopped: threading.Event) -> np.ndarray:
    name = words_space(pipeline.encoder)
    space, positions, absent = _look_up(pipeline, name, words)
    missing = list(dict.fromkeys(words[i] for i in absent))
    for start in range(0, len(missing), _WORDS_PART):
        if stopped.is_set():
            break
        part = missing[start:start + _WORDS_PART]
        pipeline.store.put(name, part, pipeline.encoder.encode_words(part))
    positions[absent] = space.positions(words[i] for i in absent)
    return _cosines(space, positions, query)


def _look_up(pipeline: Pipeline, name: str,
             keys: list[str | None]) -> tuple[Space, np.ndarray, list[int]]:
    """
    A space, the position in it of each key, and the indices of keys that are not stored anywhere.

    An empty key stands for nothing at all: its position is negative, and it is not absent.
    """
    space = pipeline.store.space(name, ())
    positions = space.recall(keys)
    unseen = [i for i in np.flatnonzero(positions < 0).tolist() if keys[i]]
    if unseen:  # in this process; on disk they may be
        pipeline.store.space(name, [keys[i] for i in unseen])
        positions[unseen] = space.positions(keys[i] for i in unseen)
        unseen = [i for i in unseen if positions[i] < 0]
    return space, positions, unseen


def _cosines(space: Space, positions: np.ndarray, query: np.ndarray) -> np.ndarray:
    """
    Cosines of some vectors of a space, NaN where the position is negative.
    """
    known = positions >= 0
    result = np.full(len(positions), np.nan, np.float32)
    if known.sum() > len(space) // 4:
        # One product over the contiguous matrix is cheaper than gathering rows first.
        result[known] = (space.matrix @ query)[positions[known]] if len(space) else np.nan
    elif known.any():
        result[known] = space.matrix[positions[known]] @ query
    return result


def bring(references: References, pipeline: Pipeline, *, words: Future | None = None,
          max_images: int | None = None, show_progress: bool = False,
          best: 'Callable[[], Gallery] | None' = None,
          stored_only: bool = False) -> tuple[Space, np.ndarray]:
    """
    Bring all images into the store that are not there, and set the status of each row.

    Parameters
    ----------
    references : References
        The rows; their ``status`` and ``message`` are filled in, links are followed.
    pipeline : Pipeline
        Model, store and downloads.
    words : Future, optional
        How well the words of the rows fit, waited for only if there are too many images. Without
        it the first images are brought.
    max_images : int, optional
        Images that are downloaded at most.
    show_progress : bool
        Show a progress bar.
    best : callable, optional
        Shows the best so far, see `~astroclip_search.progress.Progress`.
    stored_only : bool
        Read no image.

    Returns
    -------
    space : Space
        Embeddings.
    positions : ndarray
        Where in it the embedding of each row is, negative where there is none; shape ``(n,)``.
    """
    if max_images is None:
        max_images = len(references)
    if references.has_links and not stored_only:
        _follow_links(references, words, pipeline, max_images)
    space, positions, absent = _look_up(pipeline, image_space(pipeline.encoder), references.keys())
    references.status = [status or 'OK' for status in references.status]
    if absent and stored_only:
        for i in absent:
            references.message[i] = f'{_LOST}: rank again'
    elif absent:
        _embed(references, absent, words, pipeline, max_images, show_progress, best)
        # A file that was changed in the meantime has another key by now.
        positions[absent] = _positions(space, references, absent)
    return space, positions


def _positions(space: Space, references: References, rows: Iterable[int]) -> np.ndarray:
    return space.positions(image_key(references.sources[i]) if references.status[i] == 'OK' else ''
                           for i in rows)


def arrange(references: References, scores: Scores, pipeline: Pipeline, *,
            groups: np.ndarray | None = None, cosine: float | None = None) -> np.ndarray:
    """
    The order of the rows of the table.

    Parameters
    ----------
    references : References
        The rows, after `score`; what repeats another one gets a message.
    scores : Scores
        One entry a row.
    pipeline : Pipeline
        Model and store.
    groups : ndarray, optional
        Number of each row's group, shape ``(n,)``: the best row of each comes first, then the
        second of each, and so on.
    cosine : float, optional
        Of pictures that are as similar as this only the best keeps its place; the others come
        behind all other rows that have a score.

    Returns
    -------
    ndarray
        All rows, shape ``(n,)``; those without a score are last.
    """
    rows = order(scores.score)
    n_ranked = len(rows) - int(np.isnan(scores.score).sum())
    shown, behind = rows[:n_ranked], rows[n_ranked:]
    folded = twins = shown[:0]
    if cosine is not None and n_ranked:
        best = shown[:N_COMPARED]
        space = pipeline.store.space(image_space(pipeline.encoder), ())
        positions = space.positions(image_key(references.sources[i]) for i in best.tolist())
        twin = duplicates(space.matrix[positions], cosine)
        folded, twins = best[twin >= 0], best[twin[twin >= 0]]
        shown = np.concatenate([best[twin < 0], shown[N_COMPARED:]])
    if groups is not None:
        shown = take_turns(shown, groups)
    place = {row: i for i, row in enumerate(shown.tolist(), 1)} if len(folded) else {}
    for row, twin in zip(folded.tolist(), twins.tolist(), strict=True):
        said = references.message[row]
        references.message[row] = (f'{said}; ' if said else '') + (
            f'{_TWIN} {place[twin]}')
    return np.concatenate([shown, folded, behind])


def _follow_links(references: References, words: Future | None, pipeline: Pipeline,
                  max_images: int) -> None:
    """
    Put the addresses that links lead to in their place; ask for no more than may be downloaded.
    """
    rows = [i for i, (source, status) in enumerate(zip(references.sources, references.status,
                                                       strict=True))
            if not status and source is not None and source.startswith(LINK)]
    sources = list(dict.fromkeys(references.sources[i] for i in rows))
    found = pipeline.store.links(sources)
    unknown = [source for source in sources if source not in found]
    left_out = _left_out(references, rows, words, unknown, max_images)
    answers = links.follow([source for source in unknown if source not in left_out],
                           pipeline.fetcher, max_bytes=pipeline.max_bytes)
    pipeline.store.put_links({source: answer for source, answer in answers.items()
                              if isinstance(answer, str)})
    found |= answers
    for i in rows:
        answer = found.get(references.sources[i])
        if answer is None:
            references.status[i] = 'SKIPPED'
            references.message[i] = f'more than {max_images} images: call again to go on'
        elif isinstance(answer, PreviewError):
            references.status[i], references.message[i] = answer.status, answer.reason
        else:
            references.sources[i] = answer


def _embed(references: References, rows: list[int], words: Future | None, pipeline: Pipeline,
           max_images: int, show_progress: bool, best: 'Callable[[], Gallery] | None') -> None:
    """
    Bring the images of some rows into the store; set the status of those where it fails.
    """
    missing = list(dict.fromkeys(references.sources[i] for i in rows))
    remote = [source for source in missing
              if not all(part in references.objects or is_path(part) for part in parts(source))]
    left_out = _left_out(references, rows, words, remote, max_images)
    missing = [source for source in missing if source not in left_out]
    failures = {}
    if missing:
        with Progress(len(missing), show=show_progress, best=best) as progress:
            failures = pipeline.embed(missing, references.objects, n_workers=n_workers(
                missing, pipeline.fetcher.limits.n_connections), progress=progress)
    for i in rows:
        source = references.sources[i]
        if source in failures:
            references.status[i] = failures[source].status
            references.message[i] = failures[source].reason
        elif source in left_out:
            references.status[i] = 'SKIPPED'
            references.message[i] = f'more than {max_images} images: call again to go on'
    # A row whose colours cannot be had still has its own image.
    grey = [i for i in rows if i in references.own and references.sources[i] in failures
            and failures[references.sources[i]].reason != STOPPED]
    for i in grey:
        references.message[i] = f'no colour: {failures[references.sources[i]].reason}'
        references.status[i], references.sources[i] = 'OK', references.own.pop(i)
    if grey:
        _embed(references, grey, words, pipeline, max_images, show_progress, best)


def _left_out(references: References, rows: list[int], words: Future | None,
              remote: list[str], max_images: int) -> set[str]:
    """
    Sources that are too many: those whose rows' words fit the query least, or the last.
    """
    if len(remote) <= max_images:
        return set()
    taken = f'the first {max_images}'
    if words is not None:
        taken = f'the {max_images} whose words fit best'
        text, _ = words.result()
        best: dict[str | None, float] = {}
        for i, value in zip(rows, np.nan_to_num(text, nan=-2.0)[rows].tolist(), strict=True):
            source = references.sources[i]
            best[source] = max(best.get(source, -2.0), value)
        remote = sorted(remote, key=lambda source: -best[source])
    warnings.warn(f'{len(remote)} images would have to be downloaded: only {taken} are. Call again '
                  'to go on, or raise max_images.', LargeQueryWarning, stacklevel=6)
    return set(remote[max_images:])


def n_workers(sources: Sequence[str | None], n_connections: int) -> int:
    """
    Threads that fetch and decode: enough to keep the connections of a few hosts busy.

    Parameters
    ----------
    sources : sequence of str or None
        Images to fetch.
    n_connections : int
        Simultaneous connections to one host.

    Returns
    -------
    int
        Number of threads, at least one.
    """
    hosts = {source.partition('://')[2].partition('/')[0] for source in sources
             if source and not is_path(source) and not source.startswith('sha256:')}
    return n_connections * min(len(hosts), 4) + min(2, os.cpu_count() or 1)


def warn_of_length(phrases: Sequence[str], encoder: Encoder) -> None:
    """
    One warning for each phrase that the model cannot read to its end.

    Parameters
    ----------
    phrases : sequence of str
        What the user typed.
    encoder : Encoder
        The model.
    """
    for phrase in phrases:
        if encoder.n_tokens(phrase) > encoder.bundle.context_length:
            warnings.warn(f'The phrase {phrase[:40]!r}... is longer than the '
                          f'{encoder.bundle.context_length} tokens that the model reads; its end '
                          'is ignored.', InputWarning, stacklevel=4)
