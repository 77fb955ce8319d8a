# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
References and phrases -> scores, by way of the store; scores -> the ordered table.
"""

import collections
import contextlib
import copy
import datetime
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from astropy.table import MaskedColumn, Table
from astroquery.exceptions import (
    BlankResponseWarning,
    InputWarning,
    LargeQueryWarning,
    NoResultsWarning,
)

from . import links
from .embeddings import Pipeline, image_space, words_space
from .exceptions import PreviewError
from .ranking import Scores, centroid, combine, order
from .references import LINK, References, image_key, is_path
from .store import Space

__all__ = ['COLUMNS', 'n_workers', 'provenance', 'ranked_table', 'score', 'strings', 'warn_of_rows']

COLUMNS = ('clip_rank', 'clip_score', 'clip_image', 'clip_text', 'clip_false_alarm',
           'clip_status', 'clip_source', 'clip_message')

# Words are embedded in parts of this size, so that an interruption loses little.
_WORDS_PART = 256


def score(references: References, phrases: list[str], negatives: list[str], *, by: str,
          pipeline: Pipeline, max_images: int, show_progress: bool = False) -> Scores:
    """
    Scores of all rows.

    Parameters
    ----------
    references : References
        The rows; their ``status`` and ``message`` are filled in.
    phrases, negatives : list of str
        What the image should and should not show.
    by : {'both', 'image', 'text'}
        What counts.
    pipeline : Pipeline
        Model, store and downloads.
    max_images : int
        Images that are downloaded at most.
    show_progress : bool
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    Scores
        In the order of the rows.
    """
    encoder, background = pipeline.encoder, pipeline.encoder.bundle.background
    image, image_background = np.full(len(references), np.nan, np.float32), None
    _warn_of_length(phrases + negatives, encoder)
    stopped = threading.Event()
    # Words are embedded while images arrive; they are waited for where the order of rows matters.
    with ThreadPoolExecutor(1, thread_name_prefix='astroclip-words') as worker:
        try:
            words = worker.submit(_score_words, references, phrases, negatives, by, pipeline,
                                  stopped)
            if by != 'text':
                query = _query_vector(encoder.encode_text, phrases, negatives,
                                      encoder.bundle.prompt_templates)
                image = _image_cosines(references, words, query, pipeline, max_images,
                                       show_progress)
                if background.image is not None:
                    image_background = background.image @ query
            text, text_background = words.result()
        finally:
            stopped.set()
    if by == 'text':
        references.status = ['SKIPPED' if np.isnan(value) else 'OK' for value in text]
        references.message = ['the row has no words' if np.isnan(value) else '' for value in text]
    return combine(image, text, by=by, weights=encoder.bundle.ranking_weights,
                   image_background=image_background, text_background=text_background)


def _score_words(references: References, phrases: list[str], negatives: list[str], by: str,
                 pipeline: Pipeline,
                 stopped: threading.Event) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Cosines of the rows' words and of the background's words to the query.
    """
    if by == 'image':
        return np.full(len(references), np.nan, np.float32), None
    query = _query_vector(pipeline.encoder.encode_words, phrases, negatives)
    background = pipeline.encoder.bundle.background.words
    return (_words_cosines(references.words, query, pipeline, stopped),
            background @ query if background is not None else None)


def _query_vector(encode: Callable, phrases: list[str], negatives: list[str],
                  templates: Sequence[str] = ('{}',)) -> np.ndarray:
    vectors = encode([template.replace('{}', phrase) for phrase in phrases + negatives
                      for template in templates])
    split = len(phrases) * len(templates)
    return centroid(vectors[:split], vectors[split:])


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
             keys: Sequence[str | None]) -> tuple[Space, np.ndarray, list[int]]:
    """
    A space, the position in it of each key, and the indices of keys that are not stored anywhere.

    An empty key stands for nothing at all: its position is negative, and it is not absent.
    """
    space = pipeline.store.space(name, ())
    positions = space.positions(keys)
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


def _image_cosines(references: References, words: Future, query: np.ndarray,
                   pipeline: Pipeline, max_images: int, show_progress: bool) -> np.ndarray:
    """
    Bring all images into the store that are not there, set the status of each row, and compare.
    """
    if references.has_links:
        _follow_links(references, words, pipeline, max_images)
    space, positions, absent = _look_up(pipeline, image_space(pipeline.encoder), references.keys())
    references.status = [status or 'OK' for status in references.status]
    if absent:
        _embed(references, absent, words, pipeline, max_images, show_progress)
        # A file that was changed in the meantime has another key by now.
        positions[absent] = space.positions(
            image_key(references.sources[i]) if references.status[i] == 'OK' else ''
            for i in absent)
    return _cosines(space, positions, query)


def _follow_links(references: References, words: Future, pipeline: Pipeline,
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


def _embed(references: References, rows: list[int], words: Future, pipeline: Pipeline,
           max_images: int, show_progress: bool) -> None:
    """
    Bring the images of some rows into the store; set the status of those where it fails.
    """
    missing = list(dict.fromkeys(references.sources[i] for i in rows))
    remote = [source for source in missing
              if source not in references.objects and not is_path(source)]
    left_out = _left_out(references, rows, words, remote, max_images)
    missing = [source for source in missing if source not in left_out]
    failures = {}
    if missing:
        with _progress(len(missing), show_progress) as advance:
            failures = pipeline.embed(missing, references.objects, n_workers=n_workers(
                missing, pipeline.fetcher.limits.n_connections), advance=advance)
    for i in rows:
        source = references.sources[i]
        if source in failures:
            references.status[i] = failures[source].status
            references.message[i] = failures[source].reason
        elif source in left_out:
            references.status[i] = 'SKIPPED'
            references.message[i] = f'more than {max_images} images: call again to go on'


def _left_out(references: References, rows: list[int], words: Future, remote: list[str],
              max_images: int) -> set[str]:
    """
    Sources that are too many: those whose rows' words fit the query least.
    """
    if len(remote) <= max_images:
        return set()
    text, _ = words.result()
    best: dict[str | None, float] = {}
    for i, value in zip(rows, np.nan_to_num(text, nan=-2.0)[rows].tolist(), strict=True):
        source = references.sources[i]
        best[source] = max(best.get(source, -2.0), value)
    warnings.warn(f'{len(remote)} images would have to be downloaded: only the {max_images} whose '
                  'words fit best are. Call again to go on, or raise max_images.',
                  LargeQueryWarning, stacklevel=6)
    return set(sorted(remote, key=lambda source: -best[source])[max_images:])


@contextlib.contextmanager
def _progress(total: int, wanted: bool) -> Iterator:
    if not wanted:
        yield None
        return
    from tqdm.auto import tqdm

    # disable=None is silent where the output is no terminal.
    with tqdm(total=total, desc='images', unit='image', disable=None, leave=False) as bar:
        yield bar.update


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


def ranked_table(table: Table, references: References, scores: Scores,
                 limit: int | None = None) -> Table:
    """
    A copy of the table in order, with the clip columns.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.
    references : References
        One entry a row.
    scores : Scores
        One entry a row.
    limit : int, optional
        Rows that are returned.

    Returns
    -------
    `~astropy.table.Table`
        Of the same class. Columns of an earlier ranking are replaced.
    """
    rows = order(scores.score)[:limit]
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
    if len(set(values)) == 1:  # as most statuses and messages are
        return np.full(len(values), values[0])
    return np.array(values, dtype=str)


def provenance(references: References, phrases: list[str], negatives: list[str], by: str,
               encoder) -> dict:
    """
    What was asked of which model, as plain data.

    Parameters
    ----------
    references : References
        The rows, with their final status.
    phrases, negatives : list of str
        The query.
    by : str
        What counted.
    encoder : Encoder
        The model.

    Returns
    -------
    dict
        For ``meta['clip']``; written by ECSV as it is.
    """
    from . import __version__

    counts = collections.Counter(references.status)
    return {'query': phrases, 'negative': negatives, 'by': by, 'model': encoder.bundle.name,
            'revision': encoder.bundle.revision, 'version': __version__,
            'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
            'n_rows': len(references), 'n_ranked': counts['OK'], 'status': dict(counts)}


def _warn_of_length(phrases: list[str], encoder) -> None:
    for phrase in phrases:
        if encoder.n_tokens(phrase) > encoder.bundle.context_length:
            warnings.warn(f'The phrase {phrase[:40]!r}... is longer than the '
                          f'{encoder.bundle.context_length} tokens that the model reads; its end '
                          'is ignored.', InputWarning, stacklevel=4)


def warn_of_rows(references: References) -> None:
    """
    One warning for all rows that failed, none if all is well.

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
