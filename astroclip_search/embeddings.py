# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Image references -> embeddings in the store: the stages overlap.

Worker threads fetch and decode (both release the interpreter lock) while this thread embeds in
batches and writes each batch to the store, so wall time approaches the slowest stage, not the
sum. Queues are bounded: memory does not grow with the number or the size of the images, and what
was embedded before an interruption is kept.
"""

import contextlib
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import pixels
from .encoder import Encoder
from .exceptions import PreviewError
from .previews import Fetcher
from .references import image_key, is_path
from .store import Store

__all__ = ['Pipeline', 'image_space', 'words_space']

# A batch that waits longer than this for its last images is embedded as it is.
_PATIENCE = 2.0


def image_space(encoder: Encoder) -> str:
    """
    Name of the store's space of image embeddings.

    Parameters
    ----------
    encoder : Encoder
        The model.

    Returns
    -------
    str
        Changes with the model and with the renderer.
    """
    return f'{encoder.bundle.revision}/image/{pixels.RENDER_VERSION}'


def words_space(encoder: Encoder) -> str:
    """
    Name of the store's space of sentence embeddings.

    Parameters
    ----------
    encoder : Encoder
        The model.

    Returns
    -------
    str
        Changes with the model.
    """
    return f'{encoder.bundle.revision}/words'


@dataclass(frozen=True)
class Pipeline:
    """
    Everything that turns image references into embeddings.

    Attributes
    ----------
    encoder : Encoder or None
        The model; without it there are pictures and no embeddings.
    store : Store
        Where embeddings and thumbnails are kept.
    fetcher : Fetcher
        Downloads.
    resolve : callable
        Makes an address of a source that is neither a path nor an address.
    batch_size : int
        Images embedded in one call.
    max_pixels, max_bytes : int
        Largest image that is decoded and largest file that is read.
    thumbnail_size : int
        Long side of the thumbnails, in pixels.
    """

    encoder: Encoder | None
    store: Store
    fetcher: Fetcher
    resolve: Callable[[str], str]
    batch_size: int = 32
    max_pixels: int = 50_000_000
    max_bytes: int = 64 * 1024**2
    thumbnail_size: int = 192

    def embed(self, sources: Sequence[str], objects: dict[str, Any], *, n_workers: int,
              advance: Callable[[], object] | None = None) -> dict[str, PreviewError]:
        """
        Embed images that are not in the store yet.

        Parameters
        ----------
        sources : sequence of str
            Distinct sources.
        objects : dict
            Images that are in memory, by source.
        n_workers : int
            Threads that fetch and decode.
        advance : callable, optional
            Called once for each finished image.

        Returns
        -------
        dict
            The failure of each source that could not be embedded.
        """
        failures: dict[str, PreviewError] = {}
        batch: list[tuple[str, np.ndarray, bytes]] = []
        # An interruption ends the workers here, not when the generator is collected.
        with contextlib.closing(self._prepared(sources, objects, n_workers)) as prepared:
            for source, outcome in prepared:
                if isinstance(outcome, PreviewError):
                    failures[source] = outcome
                elif outcome is not None:
                    batch.append((source, *outcome))
                # An empty outcome says that nothing has arrived for a while.
                if len(batch) >= self.batch_size or (outcome is None and batch):
                    self._store(batch)
                    batch = []
                if advance is not None and outcome is not None:
                    advance()
        if batch:
            self._store(batch)
        return failures

    def image(self, source: str, objects: dict[str, Any], side: int):
        """
        Fetch and decode one image.

        Parameters
        ----------
        source : str
            Source of the image.
        objects : dict
            Images that are in memory, by source.
        side : int
            The result's sides need be no longer than this, in pixels.

        Returns
        -------
        PIL.Image.Image
            RGB image.

        Raises
        ------
        PreviewError
            If there is no such image.
        """
        limits = {'side': side, 'max_pixels': self.max_pixels, 'max_bytes': self.max_bytes}
        if source in objects:
            return pixels.render(objects[source], **limits)
        if is_path(source):
            return pixels.render(source, **limits)
        if source.startswith('sha256:'):
            raise PreviewError('the array is no longer in memory', status='NO_IMAGE')
        with self.fetcher.open(self.resolve(source)) as content:
            return pixels.render(content, **limits)

    def _prepared(self, sources: Sequence[str], objects: dict[str, Any], n_workers: int):
        """
        Yield ``(source, (pixels, thumbnail) | PreviewError | None)`` in order of arrival.
        """
        preprocessing = self.encoder.bundle.preprocessing
        side = max(2 * max(preprocessing.size), self.thumbnail_size)
        done: queue.SimpleQueue = queue.SimpleQueue()

        def prepare(source: str) -> None:
            try:
                image = self.image(source, objects, side)
                outcome = (pixels.resize(image, preprocessing),
                           pixels.thumbnail(image, self.thumbnail_size))
            except PreviewError as error:
                outcome = error
            # One bad image, however bad, must cost its own row only.
            except Exception as error:
                reason = ' '.join(f'{type(error).__name__}: {error}'.split())
                outcome = PreviewError(reason[:200], source)
            done.put((source, outcome))

        pending = iter(sources)
        workers = ThreadPoolExecutor(n_workers, thread_name_prefix='astroclip')
        try:
            in_flight = 0
            window = n_workers + 2 * self.batch_size
            exhausted = False
            while True:
                while not exhausted and in_flight < window:
                    source = next(pending, None)
                    if source is None:
                        exhausted = True
                        break
                    workers.submit(prepare, source)
                    in_flight += 1
                if not in_flight:
                    return
                try:
                    yield done.get(timeout=_PATIENCE)
                    in_flight -= 1
                except queue.Empty:
                    yield '', None
        finally:
            workers.shutdown(wait=False, cancel_futures=True)

    def _store(self, batch: list[tuple[str, np.ndarray, bytes]]) -> None:
        keys = [image_key(source) for source, _, _ in batch]
        vectors = self.encoder.encode_images(np.stack([array for _, array, _ in batch]))
        self.store.put(image_space(self.encoder), keys, vectors,
                       [(key, small) for key, (_, _, small) in zip(keys, batch, strict=True)])
