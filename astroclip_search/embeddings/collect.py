# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Image references -> embeddings in the cache, and what came of each row.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..archives.columns import text_array
from ..exceptions import ImageError, UnfinishedWarning, warn
from ..images import resolve
from ..images.refs import ADDRESSES, ImageRefs, image_key, messages, parse, status_of, statuses
from ..status import OK, Reason, reason
from ..untrusted.workers import n_cores
from .cache import Cache, Space
from .pipeline import Pipeline, host_of
from .progress import Awaited, Progress

__all__ = ['CollectOptions', 'Outcomes', 'collect', 'follow_links', 'look_up', 'n_workers',
           'positions_of']

# Threads that decode local files: each holds an image of some megapixels, and with more of them the
# interpreter lock is what they wait for.
_MOST_DECODING = 32

# Reasons of images that were not even tried.
_UNTRIED = ('stopped', 'interrupted', 'query_timeout')

# Threads that decode while all others download.
_BESIDE_DOWNLOADS = 2


@dataclass(frozen=True)
class Outcomes:
    """
    What came of each row: the reference that was embedded, and reasons or notes by row.

    ``keys`` has the cache key of each image by reference, unless that is the reference itself. A
    file may have another key by now.
    """

    sources: Sequence[str | None]
    reasons: Mapping[int, tuple[Reason, ...]] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sources)

    def key(self, row: int) -> str | None:
        """
        Cache key of the image of a row.
        """
        source = self.sources[row]
        return source and self.keys.get(source, source)

    def is_ok(self, row: int) -> bool:
        """
        Whether nothing stood in the way of a row.
        """
        return row not in self.reasons or status_of(self.reasons[row]) == OK

    def statuses(self) -> np.ndarray:
        """
        ``clip_status`` of each row.
        """
        return text_array(statuses(len(self), self.reasons)) if self.reasons else np.full(
            len(self), OK)

    def messages(self) -> np.ndarray:
        """
        ``clip_message`` of each row.
        """
        return text_array(messages(len(self), self.reasons)) if self.reasons else np.full(
            len(self), '')

    def status_counts(self) -> dict[str, int]:
        """
        Number of rows by status.
        """
        counts = Counter(status_of(several) for several in self.reasons.values())
        counts[OK] += len(self) - len(self.reasons)
        return dict(+counts)

    def count(self, *codes: str) -> int:
        """
        Number of rows with a reason of one of these codes.
        """
        return sum(any(because.code in codes for because in several)
                   for several in self.reasons.values())

    def noting(self, notes: Mapping[int, Reason]) -> 'Outcomes':
        """
        The same with one more note on some rows.
        """
        return replace(self, reasons={**self.reasons, **{
            row: (*self.reasons.get(row, ()), note) for row, note in notes.items()}})


@dataclass(frozen=True)
class CollectOptions:
    """
    How a call goes about its images.

    ``metadata`` is how well the metadata of the rows fit the query, waited for only if there are
    too many images; without it the first images are taken. ``best`` shows the best so far, see
    `~astroclip_search.embeddings.progress.Progress`. With ``cached_only`` no image is read.
    """

    max_images: int | None = None
    metadata: 'Awaited | None' = None
    show_progress: bool = False
    best: Callable[[Outcomes], tuple[object, str]] | None = None
    cached_only: bool = False


def _keys(refs: ImageRefs, outcomes: Outcomes, keys: dict[str, str]) -> list[str | None]:
    """
    Cache keys of the images that are worth a try, empty or `None` where there is none; ``keys``
    gets those of files.
    """
    # Addresses, of which there may be a hundred thousand, are their own keys.
    found = list(outcomes.sources)
    for row in outcomes.reasons:
        if not outcomes.is_ok(row):
            found[row] = ''
    if not refs.has_files:
        return found
    for source in dict.fromkeys(filter(None, found)):
        key = refs.keys.get(source) or image_key(source)
        if key != source:
            keys[source] = key
    return [source and keys.get(source, source) for source in found]


def look_up(cache: Cache, name: str, wanted: Sequence[str | None],
            ) -> tuple[Space, np.ndarray, list[int]]:
    """
    A space, the position in it of each key (int64), and the indices of keys that are not stored.

    An empty key stands for nothing at all: its position is negative, and it is not absent.
    """
    space = cache.space(name, ())
    positions = space.positions(wanted)
    unseen = [i for i in np.flatnonzero(positions < 0).tolist() if wanted[i]]
    if unseen:  # in this process; on disk they may be
        cache.space(name, [wanted[i] for i in unseen])
        positions[unseen] = space.positions(wanted[i] for i in unseen)
        unseen = [i for i in unseen if positions[i] < 0]
    return space, positions, unseen


def positions_of(space: Space, outcomes: Outcomes, rows: Iterable[int]) -> np.ndarray:
    """
    Positions in a space of the images of some rows.
    """
    return space.positions(outcomes.key(row) if outcomes.is_ok(row) else None for row in rows)


def collect(refs: ImageRefs, pipeline: Pipeline, options: CollectOptions = CollectOptions(),
            ) -> tuple[Space, np.ndarray, Outcomes]:
    """
    Bring all images into the cache that are not there.

    Returns the embeddings, the position in them of each row (negative where there is none; shape
    (n,)), and what came of the rows.
    """
    limit = len(refs) if options.max_images is None else options.max_images
    sources, reasons = list(refs.sources), dict(refs.reasons)
    keys: dict[str, str] = {}
    if refs.has_links and not options.cached_only:
        _follow_links(refs, sources, reasons, options, limit, pipeline)
    outcomes = Outcomes(sources, reasons, keys)
    space, positions, absent = look_up(pipeline.cache, pipeline.space,
                                       _keys(refs, outcomes, keys))
    if absent and options.cached_only:
        reasons.update((row, (*reasons.get(row, ()), reason('lost'))) for row in absent)
    elif absent:
        _embed(refs, absent, sources, reasons, keys, options, limit, pipeline)
        positions[absent] = positions_of(space, outcomes, absent)
    return space, positions, outcomes


def follow_links(sources: Iterable[str], pipeline: Pipeline, *caches: Cache,
                 left_out: Callable[[list[str]], set[str]] | None = None,
                 ) -> dict[str, str | ImageError]:
    """
    The address that each link leads to, or why to none: as a cache knows it, or as the service
    says, of which only answers are kept. Links that are left out are not asked for.
    """
    found: dict[str, str | ImageError] = {}
    for cache in (pipeline.cache, *caches):
        found |= cache.links([source for source in sources if source not in found])
    unknown = [source for source in sources if source not in found]
    without = left_out(unknown) if left_out is not None else ()
    answers = resolve.follow([source for source in unknown if source not in without],
                             pipeline.fetcher, max_bytes=pipeline.max_bytes)
    pipeline.cache.put_links({source: answer for source, answer in answers.items()
                              if isinstance(answer, str)})
    return found | answers


def _follow_links(refs: ImageRefs, sources: list[str | None],
                  reasons: dict[int, tuple[Reason, ...]], options: CollectOptions, limit: int,
                  pipeline: Pipeline) -> None:
    """
    Put the addresses that links lead to in their place; ask for no more than may be downloaded.
    """
    rows = [row for row, source in enumerate(sources)
            if source is not None and source.startswith('datalink:') and refs.is_open(row)]
    found = follow_links(
        dict.fromkeys(sources[row] for row in rows), pipeline,
        left_out=lambda unknown: _left_out(sources, rows, unknown, options, limit, pipeline.cache))
    pipeline.cache.put_failures([source for source, answer in found.items()
                                 if isinstance(answer, ImageError)])
    for row in rows:
        answer = found.get(sources[row])
        if answer is None:
            reasons[row] = (reason('too_many_images', limit=limit),)
        elif isinstance(answer, ImageError):
            reasons[row] = (answer.because,)
        else:
            sources[row] = answer


def _embed(refs: ImageRefs, rows: list[int], sources: list[str | None],
           reasons: dict[int, tuple[Reason, ...]], keys: dict[str, str],
           options: CollectOptions, limit: int, pipeline: Pipeline) -> None:
    """
    Embed the images of some rows, and say for which it failed.
    """
    missing = list(dict.fromkeys(sources[row] for row in rows))
    remote = [source for source in missing if source.startswith(ADDRESSES) or not all(
        part in refs.objects or parse(part).kind == 'path' for part in parse(source).parts)]
    left_out = _left_out(sources, rows, remote, options, limit, pipeline.cache)
    missing = [source for source in missing if source not in left_out]
    failures: dict[str, Reason] = {}
    if missing:
        best = (None if options.best is None
                else functools.partial(options.best, Outcomes(sources, reasons, keys)))
        with Progress(len(missing), show=options.show_progress, best=best) as progress:
            failures = pipeline.embed(missing, refs.objects, n_workers=n_workers(
                missing, pipeline.fetcher.limits.n_connections, pipeline.n_threads),
                progress=progress, keys=keys)
        pipeline.cache.put_failures([source for source in remote if source in failures
                                     and failures[source].code not in _UNTRIED])
    too_many = reason('too_many_images', limit=limit)
    for row in rows:
        if sources[row] in failures:
            reasons[row] = (failures[sources[row]],)
        elif sources[row] in left_out:
            reasons[row] = (too_many,)
    # A row whose colours cannot be had still has its own image.
    grey = [row for row in rows if row in refs.own and sources[row] in failures
            and sources[row] != refs.own[row] and reasons[row][0].code != 'stopped']
    for row in grey:
        reasons[row] = (reason('no_colour', why=reasons[row][0].sentence),)
        sources[row] = refs.own[row]
    if grey:
        _embed(refs, grey, sources, reasons, keys, options, limit, pipeline)


def _left_out(sources: list[str | None], rows: list[int], remote: list[str],
              options: CollectOptions, limit: int, cache: Cache) -> set[str]:
    """
    Images that are too many: those that failed before, of the others those whose metadata fit the
    query least, or the last.
    """
    if len(remote) <= limit:
        return set()
    taken = f'the first {limit}'
    if options.metadata is not None:
        taken = f'the {limit} whose metadata fit best'
        fit, *_ = options.metadata.result()
        best: dict[str | None, float] = {}
        for row, value in zip(rows, np.nan_to_num(fit, nan=-2.0)[rows].tolist(), strict=True):
            best[sources[row]] = max(best.get(sources[row], -2.0), value)
        remote = sorted(remote, key=lambda source: -best[source])
    # Else the same failures would be tried again by each call; the oldest come first.
    failed = cache.failures(remote)
    remote = sorted(remote, key=lambda source: failed.get(source, 0.0))
    warn(f'{len(remote)} images would have to be downloaded: only {taken} are. Call again to go '
         'on, or raise max_images.', UnfinishedWarning)
    return set(remote[limit:])


def n_workers(sources: Sequence[str | None], n_connections: int, n_threads: int = 0) -> int:
    """
    Threads that fetch and decode: enough to keep the connections of a few hosts busy, and for
    local files ``n_threads``, 0 means one for each core.
    """
    hosts = {host_of(source) for source in sources if source}
    decoding = n_threads or min(n_cores(), _MOST_DECODING)
    here = decoding if '' in hosts else min(_BESIDE_DOWNLOADS, decoding)
    return n_connections * min(len(hosts - {''}), 4) + here
