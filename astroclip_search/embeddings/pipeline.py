# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Image references -> embeddings in the cache: the stages overlap.

Worker threads fetch and decode (both release the interpreter lock) while this thread embeds in
batches and another one writes the batch before to the cache, so wall time approaches the slowest
stage, not the sum. Queues are bounded: memory does not grow with the number or the size of the
images, and what was embedded before an interruption is kept.
"""

import contextlib
import functools
import queue
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import ImageError, one_line
from ..images import objectstore, preprocess, render
from ..images.http import Fetcher
from ..images.refs import image_key, parse
from ..images.rgb import compose
from ..models.encoder import Encoder
from ..status import Reason, reason
from .cache import Cache
from .progress import Progress

__all__ = ['Pipeline', 'image_space', 'metadata_space']

# Images that are embedded at once by an encoder that does not say what suits it.
_BATCH = 32

# Threads that decode while as many others of the same host as it has connections download.
_SPARE = 2

# While nothing else waits, a batch of so many images is embedded as it is, and after so many
# seconds also a smaller one.
_LEAST = 8

_PATIENCE = 2.0


def image_space(encoder: Encoder) -> str:
    """
    Name of the cache's space of image embeddings; it changes with the model and the renderer.
    """
    return f'{encoder.bundle.revision}/image/{render.RENDER_VERSION}'


def metadata_space(encoder: Encoder) -> str:
    """
    Name of the cache's space of sentence embeddings; it changes with the model.
    """
    return f'{encoder.bundle.revision}/words'


@dataclass(frozen=True)
class Pipeline:
    """
    Everything that turns image references into embeddings.

    Without an ``encoder`` there are pictures and no embeddings. ``address`` makes the address of a
    reference that is neither a path nor an address. ``batch_size`` images are embedded in one
    call, 0 means as many as suit the device; ``thumbnail_size`` is in pixels.
    """

    encoder: Encoder | None
    cache: Cache
    fetcher: Fetcher
    address: Callable[[str], str]
    batch_size: int = 0
    max_pixels: int = 50_000_000
    max_bytes: int = 64 * 1024**2
    thumbnail_size: int = 256

    @property
    def images_at_once(self) -> int:
        """
        Images that are embedded in one call. Without a setting this opens the model.
        """
        return self.batch_size or getattr(self.encoder, 'batch_size', _BATCH)

    @property
    def sides(self) -> tuple[int, int]:
        """
        The resolution at which images are read: enough for the model and for the thumbnail.
        """
        side, bitmap_side = preprocess.sides(self.encoder.bundle.preprocessing)
        # A thumbnail a quarter smaller will do: a JPEG is decoded at its size or at half of it.
        least = 3 * self.thumbnail_size // 4
        return max(side, least), max(bitmap_side, least)

    def embed(self, sources: Sequence[str], objects: Mapping[str, Any], *, n_workers: int,
              progress: Progress | None = None) -> dict[str, Reason]:
        """
        Embed distinct images that are not in the cache yet; say why those that fail do.

        If the progress is stoppable, an interruption (`KeyboardInterrupt`) ends the work, and what
        was not reached fails with the reason ``'stopped'``.
        """
        progress = progress or Progress(len(sources))
        failures: dict[str, Reason] = {}
        left = dict.fromkeys(sources)
        batch: list[tuple[str, np.ndarray, bytes]] = []
        written, since = None, time.monotonic()
        size = self.images_at_once if sources else 0
        try:
            # An interruption ends the workers here, not when the generator is collected.
            with (ThreadPoolExecutor(1, thread_name_prefix='astroclip-writer') as writer,
                  contextlib.closing(self._prepared(sources, objects, n_workers,
                                                    progress)) as prepared):
                for source, outcome in prepared:
                    if isinstance(outcome, Reason):
                        failures[source] = outcome
                        progress.count('failed')
                        del left[source]
                    elif outcome is not None:
                        batch.append((source, *outcome))
                    # An empty outcome says that nothing is waiting.
                    idle = outcome is None and (len(batch) >= _LEAST
                                                or time.monotonic() - since > _PATIENCE)
                    if batch and (idle or len(batch) in (size, len(left))):
                        vectors = self.encoder.encode_images(np.stack([x for _, x, _ in batch]))
                        if written is not None:
                            written.result()
                        written = writer.submit(self._keep, batch, vectors, progress)
                        for source, *_ in batch:
                            del left[source]
                        batch, since = [], time.monotonic()
                    progress.show()
                if written is not None:
                    written.result()
        except KeyboardInterrupt:
            if not progress.stoppable:
                raise
            failures.update(dict.fromkeys(left, reason('stopped')))
        return failures

    def image(self, source: str, objects: Mapping[str, Any], side: int,
              bitmap_side: int | None = None):
        """
        Fetch and decode one image, RGB, whose sides need be no longer than this many pixels.
        """
        limits = {'side': side, 'max_pixels': self.max_pixels, 'max_bytes': self.max_bytes}
        bands = parse(source).parts
        try:
            if len(bands) == 1:
                return self._read(source, objects, functools.partial(
                    render.render, bitmap_side=bitmap_side, **limits))
            # One after the other: of each only its small plane is kept.
            return compose([self._read(band, objects, functools.partial(render.plane, **limits))
                            for band in bands])
        except ImageError:
            raise
        # One bad image, however bad, must cost its own row only.
        except Exception as error:
            raise ImageError('unexpected', source, error=one_line(
                f'{type(error).__name__}: {error}')) from error

    def _read(self, source: str, objects: Mapping[str, Any], read: Callable) -> Any:
        if source in objects:
            return read(objects[source])
        kind = parse(source).kind
        if kind == 'path':
            return read(source)
        if kind == 'memory':
            raise ImageError('not_in_memory')
        if objectstore.is_allowed(source):
            with objectstore.opened(source) as stream:
                return read(stream)
        with self.fetcher.open(self.address(source)) as content:
            return read(content)

    def _prepared(self, sources: Sequence[str], objects: Mapping[str, Any], n_workers: int,
                  progress: Progress):
        """
        Yield ``(source, (pixels, thumbnail) | Reason)`` in order of arrival, and an empty
        outcome whenever nothing is waiting.
        """
        preprocessing = self.encoder.bundle.preprocessing
        sides = self.sides
        done: queue.SimpleQueue = queue.SimpleQueue()
        supply = _Supply(sources, n_workers + 2 * self.images_at_once,
                         self.fetcher.limits.n_connections + _SPARE)

        def work() -> None:
            while (source := supply.take()) is not None:
                outcome = prepare(source)
                if not isinstance(outcome, Reason):
                    progress.count('fetched')
                done.put((source, outcome))
                supply.finished(source)

        def prepare(source: str) -> tuple[np.ndarray, bytes] | Reason:
            try:
                image = self.image(source, objects, *sides)
                return (preprocess.resize(image, preprocessing),
                        preprocess.thumbnail(image, self.thumbnail_size))
            except ImageError as error:
                return error.because
            except Exception as error:  # of an image that cannot be made smaller
                return reason('unexpected', error=one_line(f'{type(error).__name__}: {error}'))

        workers = ThreadPoolExecutor(n_workers, thread_name_prefix='astroclip')
        try:
            for _ in range(min(n_workers, len(sources))):
                workers.submit(work)
            left = len(sources)
            while left:
                if done.empty():
                    yield '', None
                try:
                    outcome = done.get(timeout=_PATIENCE)
                except queue.Empty:
                    continue
                yield outcome
                left -= 1
                supply.used()
        finally:
            supply.close()
            workers.shutdown(wait=False, cancel_futures=True)

    def _keep(self, batch: list[tuple[str, np.ndarray, bytes]], vectors: np.ndarray,
               progress: Progress) -> None:
        keys = [image_key(source) for source, _, _ in batch]
        self.cache.put(image_space(self.encoder), keys, vectors,
                       [(key, small) for key, (_, _, small) in zip(keys, batch, strict=True)])
        progress.count('embedded', len(batch))


class _Supply:
    """
    Hands out sources to the workers: of no host so many that those of the others have to wait.

    At most ``window`` sources are handed out and not used yet, ``per_host`` of one host.
    """

    def __init__(self, sources: Sequence[str], window: int, per_host: int):
        self._hosts: dict[str, deque[str]] = defaultdict(deque)
        for source in sources:
            self._hosts[_host(source)].append(source)
        self._room = window
        self._per_host = per_host
        self._busy: Counter[str] = Counter()
        self._changed = threading.Condition()

    def take(self) -> str | None:
        """
        The next source, when there is one to work on; `None` at the end.
        """
        with self._changed:
            while self._hosts:
                free = [host for host in self._hosts
                        if not host or self._busy[host] < self._per_host]
                if not free or not self._room:
                    self._changed.wait()
                    continue
                host = min(free, key=self._busy.__getitem__)
                source = self._hosts[host].popleft()
                if not self._hosts[host]:
                    del self._hosts[host]
                    self._changed.notify_all()
                self._room -= 1
                self._busy[host] += 1
                return source
        return None

    def finished(self, source: str) -> None:
        """
        The worker is free again, and will take the next source itself.
        """
        with self._changed:
            self._busy[_host(source)] -= 1

    def used(self) -> None:
        """
        What was made of a source does not occupy memory any more.
        """
        with self._changed:
            self._room += 1
            self._changed.notify()

    def close(self) -> None:
        """
        Hand out nothing more.
        """
        with self._changed:
            self._hosts.clear()
            self._changed.notify_all()


def _host(source: str) -> str:
    """
    The host of an address, the scheme of another one, and nothing for what is on this machine.
    """
    source = parse(source).parts[0]
    if parse(source).kind in ('path', 'memory'):
        return ''
    scheme, _, rest = source.partition(':')
    return rest[2:].partition('/')[0] if rest.startswith('//') else scheme
