# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Image references -> embeddings in the cache: the stages overlap.

Worker threads fetch and decode (both release the interpreter lock) while this thread embeds in
batches and another one writes the batch before to the cache, so wall time approaches the slowest
stage, not the sum. Queues are bounded: memory does not grow with the number or the size of the
images, and what was embedded before an interruption is kept.
"""

import contextlib
import queue
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ..exceptions import ImageError, one_line
from ..images import objectstore, preprocess
from ..images.apart import Decoder, Drawn, Order
from ..images.drawing import Drawing
from ..images.geometry import geometry_of
from ..images.http import Fetcher
from ..images.refs import image_key, parse
from ..models.encoder import Encoder
from ..status import Reason, reason
from .cache import Cache
from .progress import Progress

__all__ = ['Pipeline', 'host_of', 'image_space', 'metadata_space', 'phrase_space']

# Images that are embedded at once by an encoder that does not say what suits it.
_BATCH = 32

# Threads that decode while as many others of the same host as it has connections download.
_SPARE = 2

# While nothing else waits, a batch of so many images is embedded as it is, and after so many
# seconds also a smaller one.
_LEAST = 8

_PATIENCE = 2.0

# Pixels of a side that no bitmap has, and of one where pixels do not count.
_MAX_SIDE, _SMALL = 100_000, 64

Found = TypeVar('Found')

# A file that changes while it is read is read so many times in all.
_TRIES = 2


def image_space(encoder: Encoder, plane: str | int = 'middle') -> str:
    """
    Name of the cache's space of image embeddings; it changes with the model and the drawing.
    """
    return f'{_tower(encoder, "vision")}/image/{_for_model(encoder, plane=plane).key}'


def metadata_space(encoder: Encoder) -> str:
    """
    Name of the cache's space of sentence embeddings; it changes with the model.
    """
    return f'{_tower(encoder, "text")}/words'


def phrase_space(encoder: Encoder) -> str:
    """
    Name of the cache's space of embeddings of phrases; it changes with the model.
    """
    return f'{_tower(encoder, "text")}/phrases'


def _tower(encoder: Encoder, name: str) -> str:
    # An encoder that the user has given need not come from files.
    file_of = getattr(encoder, 'file_of', None)
    revision = encoder.bundle.revision
    return f'{revision}/{file_of(name)}' if file_of is not None else revision


def _for_model(encoder: Encoder, **options: Any) -> Drawing:
    """
    How images are drawn for a model.
    """
    side, bitmap_side = preprocess.sides(encoder.bundle.preprocessing)
    return Drawing(side, bitmap_side, **options)


@dataclass(frozen=True)
class Pipeline:
    """
    Everything that turns image references into embeddings.

    Without an ``encoder`` there are pictures and no embeddings. ``address`` makes the address of a
    reference that is neither a path nor an address. ``batch_size`` images are embedded in one
    call, 0 means as many as suit the device; ``thumbnail_size`` is in pixels, 0 means
    none. Local files are decoded by ``n_threads``, 0 means one for each core. Of cubes ``plane`` is
    drawn, by the ``decoder``.
    """

    encoder: Encoder | None
    cache: Cache
    fetcher: Fetcher
    address: Callable[[str], str]
    batch_size: int = 0
    max_pixels: int = 50_000_000
    max_bytes: int = 64 * 1024**2
    thumbnail_size: int = 256
    n_threads: int = 0
    plane: str | int = 'middle'
    decoder: Decoder = field(default_factory=Decoder)

    @property
    def images_at_once(self) -> int:
        """
        Images that are embedded in one call. Without a setting this opens the model.
        """
        return self.batch_size or getattr(self.encoder, 'batch_size', _BATCH)

    @property
    def space(self) -> str:
        """
        Name of the cache's space of the embeddings that are made here.
        """
        return image_space(self.encoder, self.plane)

    def thumbnail_key(self, key: str) -> str:
        """
        Cache key of the thumbnail of an image, whose own key is given.
        """
        return f'{key}|{Drawing(plane=self.plane).view}/{self.thumbnail_size}'

    def embed(self, sources: Sequence[str], objects: Mapping[str, Any], *, n_workers: int,
              progress: Progress | None = None,
              keys: dict[str, str] | None = None) -> dict[str, Reason]:
        """
        Embed distinct images that are not in the cache yet; say why those that fail do.

        ``keys`` gets the key of each vector, which is that of the image as it was read: a file may
        have another one by now. If the progress is stoppable, an interruption
        (`KeyboardInterrupt`) ends the work, and what was not reached fails with the reason
        ``'stopped'``.
        """
        progress = progress or Progress(len(sources))
        keys = {} if keys is None else keys
        failures: dict[str, Reason] = {}
        left = dict.fromkeys(sources)
        batch: list[_Prepared] = []
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
                        batch.append(outcome)
                    # An empty outcome says that nothing is waiting.
                    idle = outcome is None and (len(batch) >= _LEAST
                                                or time.monotonic() - since > _PATIENCE)
                    if batch and (idle or len(batch) in (size, len(left))):
                        vectors = self.encoder.encode_images(
                            np.stack([image.pixels for image in batch]))
                        if written is not None:
                            written.result()
                        for image in batch:
                            del left[image.source]
                        good = np.isfinite(vectors).all(axis=1)
                        for i in np.flatnonzero(~good).tolist():
                            failures[batch[i].source] = reason('no_numbers')
                            progress.count('failed')
                        batch = [batch[i] for i in np.flatnonzero(good)]
                        written = writer.submit(self._keep, batch, vectors[good], keys, progress)
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
              bitmap_side: int | None = None) -> Image.Image:
        """
        Fetch and decode one image, RGB, whose sides need be no longer than this many pixels.
        """
        return self._drawn(source, objects, Order((self._drawing(side, bitmap_side),))).pictures[0]

    def pointed(self, source: str, objects: Mapping[str, Any], side: int,
                find: Callable[[Image.Image], tuple[Found, np.ndarray]],
                ) -> tuple[Found, np.ndarray | ImageError]:
        """
        What is found in the picture of an image, and where pixels of the image that are found with
        it, float64 (n, 2), are on the sky, or why that is not known; the image is fetched once.
        """
        order = Order((self._drawing(side),))

        def read(image: Any, order: Order,
                 *, is_foreign: bool = True) -> tuple[Found, np.ndarray | ImageError]:
            picture, = self.decoder.draw(image, order, is_foreign=is_foreign).pictures
            found, pixels = find(picture)
            geometry = geometry_of(picture)
            try:
                return found, self.decoder.sky(image, order, pixels,
                                               (geometry.width, geometry.height),
                                               is_foreign=is_foreign)
            except ImageError as error:
                return found, error

        bands = parse(source).parts
        try:
            if len(bands) == 1:
                return self._read(source, objects, read, order)
            picture, = self._drawn(source, objects, order).pictures
            found, pixels = find(picture)
            size = geometry_of(picture).width, geometry_of(picture).height
            return found, self._sky_of_colour(bands, objects, order, pixels, size)
        except ImageError:
            raise
        except Exception as error:
            raise ImageError('unexpected', source, error=one_line(
                f'{type(error).__name__}: {error}')) from error

    def _sky_of_colour(self, bands: Sequence[str], objects: Mapping[str, Any], order: Order,
                       pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray | ImageError:
        """
        Of a colour composite, whose pixels are those of one of its images.
        """
        def read(image: Any, order: Order, *, is_foreign: bool = True) -> np.ndarray | None:
            picture, = self.decoder.draw(image, order, is_foreign=is_foreign).pictures
            geometry = geometry_of(picture)
            if (geometry.width, geometry.height) != size:
                return None
            return self.decoder.sky(image, order, pixels, size, is_foreign=is_foreign)

        for band in bands:
            try:
                found = self._read(band, objects, read, order)
            except ImageError as error:
                return error
            if found is not None:
                return found
        return ImageError('no_wcs')

    def full(self, source: str, objects: Mapping[str, Any]) -> Image.Image:
        """
        Fetch and decode one image with all its pixels, RGB.
        """
        return self.image(source, objects, _MAX_SIDE)

    def wcs(self, source: str, objects: Mapping[str, Any]) -> str:
        """
        The WCS of one image as the text of a FITS header, without distortions that are tables.
        """
        return self._one(source, objects, self.decoder.wcs)

    def cut(self, source: str, objects: Mapping[str, Any],
            box: Sequence[float]) -> bytes | None:
        """
        A part of one image as a FITS file; `None` of a bitmap.
        """
        def read(image: Any, order: Order, *, is_foreign: bool = True) -> bytes | None:
            return self.decoder.cut(image, order, box, is_foreign=is_foreign)

        return self._one(source, objects, read)

    def _one(self, source: str, objects: Mapping[str, Any], read: Callable[..., Any]) -> Any:
        if len(parse(source).parts) > 1:
            raise ImageError('colour_without_pixels')
        try:
            return self._read(source, objects, read, Order((self._drawing(_SMALL),)))
        except ImageError:
            raise
        except Exception as error:
            raise ImageError('unexpected', source, error=one_line(
                f'{type(error).__name__}: {error}')) from error

    def _drawing(self, side: int, bitmap_side: int | None = None) -> Drawing:
        return Drawing(side, bitmap_side, self.plane, self.max_pixels, self.max_bytes)

    def _drawn(self, source: str, objects: Mapping[str, Any], order: Order) -> Drawn:
        """
        What is ordered of an image, fetched once.
        """
        bands = parse(source).parts
        try:
            if len(bands) == 1:
                return self._read(source, objects, self.decoder.draw, order)
            # One after the other: of each only its small plane is kept.
            planes = [self._read(band, objects, self.decoder.plane, order) for band in bands]
            return self.decoder.compose(planes, order)
        except ImageError:
            raise
        # One bad image, however bad, must cost its own row only.
        except Exception as error:
            raise ImageError('unexpected', source, error=one_line(
                f'{type(error).__name__}: {error}')) from error

    def _read(self, source: str, objects: Mapping[str, Any], read: Callable[..., Any],
              order: Order) -> Any:
        if source in objects:
            return read(objects[source], order, is_foreign=False)
        kind = parse(source).kind
        if kind == 'path':
            return read(source, order)
        if kind == 'memory':
            raise ImageError('not_in_memory')
        if objectstore.is_allowed(source):
            with objectstore.opened(source) as stream:
                return read(stream, order)
        with self.fetcher.open(self.address(source)) as content:
            return read(content, order)

    def _prepared(self, sources: Sequence[str], objects: Mapping[str, Any], n_workers: int,
                  progress: Progress):
        """
        Yield ``(source, _Prepared | Reason)`` in order of arrival, and an empty outcome whenever
        nothing is waiting.
        """
        done: queue.SimpleQueue = queue.SimpleQueue()
        supply = _Supply(sources, n_workers + 2 * self.images_at_once,
                         self.fetcher.limits.n_connections + _SPARE)

        def work() -> None:
            while (source := supply.take()) is not None:
                outcome = self._prepare(source, objects)
                if not isinstance(outcome, Reason):
                    progress.count('fetched')
                done.put((source, outcome))
                supply.finished(source)

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

    def _prepare(self, source: str, objects: Mapping[str, Any]) -> '_Prepared | Reason':
        """
        The input of the model and a thumbnail, or why there are none.
        """
        drawings = [_for_model(self.encoder, plane=self.plane, max_pixels=self.max_pixels,
                               max_bytes=self.max_bytes)]
        # A thumbnail a quarter smaller will do: a JPEG is decoded at its size or at half of it.
        if 3 * self.thumbnail_size // 4 > min(preprocess.sides(self.encoder.bundle.preprocessing)):
            drawings.append(self._drawing(self.thumbnail_size))
        order = Order(tuple(drawings), self.encoder.bundle.preprocessing, self.thumbnail_size)

        def draw(key: str) -> _Prepared | Reason:
            try:
                drawn = self._drawn(source, objects, order)
                return _Prepared(source, key, drawn.pixels, drawn.thumbnail)
            except ImageError as error:
                return error.because

        for _ in range(_TRIES):
            key = image_key(source)
            outcome = draw(key)
            if image_key(source) == key:
                return outcome
        return outcome if isinstance(outcome, Reason) else replace(outcome, key='')

    def _keep(self, batch: 'list[_Prepared]', vectors: np.ndarray, keys: dict[str, str],
              progress: Progress) -> None:
        """
        Put a batch into the cache; what has no key, because its file has changed, only in memory.
        """
        lasting = [i for i, image in enumerate(batch) if image.key]
        self.cache.put(self.space, [batch[i].key for i in lasting], vectors[lasting],
                       [(self.thumbnail_key(batch[i].key), batch[i].thumbnail) for i in lasting
                        if self.thumbnail_size])
        passing = {i: uuid.uuid4().hex for i, image in enumerate(batch) if not image.key}
        if passing:
            self.cache.lend(self.space, list(passing.values()), vectors[list(passing)])
        keys.update((image.source, image.key or passing[i]) for i, image in enumerate(batch))
        progress.count('embedded', len(batch))


@dataclass(frozen=True)
class _Prepared:
    """
    An image that is ready for the model, and its key, empty if the file did not keep still.
    """

    source: str
    key: str
    pixels: np.ndarray
    thumbnail: bytes


class _Supply:
    """
    Hands out sources to the workers: of no host so many that those of the others have to wait.

    At most ``window`` sources are handed out and not used yet, ``per_host`` of one host.
    """

    def __init__(self, sources: Sequence[str], window: int, per_host: int):
        self._hosts: dict[str, deque[str]] = defaultdict(deque)
        for source in sources:
            self._hosts[host_of(source)].append(source)
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
            self._busy[host_of(source)] -= 1

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


def host_of(source: str) -> str:
    """
    The host of an address, the scheme of another one, and nothing for what is on this machine.
    """
    source = parse(source).parts[0]
    if parse(source).kind in ('path', 'memory'):
        return ''
    scheme, _, rest = source.partition(':')
    return rest[2:].partition('/')[0] if rest.startswith('//') else scheme
