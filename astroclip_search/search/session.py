# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The state of a search: model, caches, downloads, credentials and settings.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import conf
from ..exceptions import invalid
from ..images.refs import ImageRefs, parse
from ..untrusted.values import host_of
from .named import Named, named_with

if TYPE_CHECKING:
    from types import FrameType

    from ..embeddings.cache import Cache
    from ..embeddings.pipeline import Pipeline
    from ..models.encoder import Encoder

__all__ = ['Session']

log = logging.getLogger('astroclip_search')

# Seconds that a fork waits for other threads to be done with importing.
_PATIENCE = 10.0

# Two threads are not to verify the same model.
_opening = threading.Lock()


def _new_lock() -> None:
    global _opening  # noqa: PLW0603 - after a fork nobody releases it
    _opening = threading.Lock()


def _await_imports() -> None:
    """
    Wait until no other thread imports anything: a forked process would wait for it for ever.
    """
    begin = time.monotonic()
    while time.monotonic() - begin < _PATIENCE:
        threads = {ident for ident, frame in sys._current_frames().items()
                   if _is_importing(frame)}
        # What this thread is about to import, the others may wait for.
        if not threads or threading.get_ident() in threads:
            return
        time.sleep(0.01)


def _is_importing(frame: 'FrameType | None') -> bool:
    while frame is not None:
        if frame.f_code.co_filename == '<frozen importlib._bootstrap>':
            return True
        frame = frame.f_back
    return False


if hasattr(os, 'register_at_fork'):
    # The first to be registered is the last to be called, right before the fork. Whoever takes a
    # lock before a fork must be registered by now, or would release it without having taken it.
    import concurrent.futures.thread  # noqa: F401

    os.register_at_fork(before=_await_imports, after_in_child=_new_lock)


class Session:
    """
    What the verbs of a `~astroclip_search.ClipSearchClass` share from call to call.

    Making one opens nothing. It works on after a fork, in parent and child, whatever other threads
    are doing. A pickle of it holds its settings, and an encoder that was given, but neither the
    caches nor the login of ``mast``.

    Parameters
    ----------
    model : str, optional
        ``'default'`` for the embedded model, the path of a model bundle, or a Hugging Face id.
        `None` stands for ``conf.model``, here as below.
    revision : str, optional
        Commit, tag or branch of a Hugging Face model.
    device : {'auto', 'cpu', 'cuda'}, optional
        Where the model runs.
    cache_dir : path-like, optional
        Folder of the cache, by default in astropy's cache directory.
    mast : `astroquery.mast.ObservationsClass`, optional
        Instance that is asked for MAST data, for example one that is logged in.
    encoder : Encoder, optional
        Used instead of the model: anything with its methods.

    Attributes
    ----------
    model, revision, device, cache_dir, mast
        As given; they may be changed at any time.
    """

    def __init__(self, *, model: str | None = None, revision: str | None = None,
                 device: str | None = None, cache_dir: str | Path | None = None,
                 mast: Any = None, encoder: 'Encoder | None' = None):
        self.model, self.revision, self.device = model, revision, device
        self.cache_dir, self.mast = cache_dir, mast
        self._encoder = encoder
        self._caches: dict[Path | None, Cache] = {}
        self._said_homeless = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ('model', 'revision') and not (value is None or (isinstance(value, str)
                                                  and (value.strip() or name == 'revision'))):
            raise invalid(f"{name} must be a string such as 'default', not {value!r}.")
        if name == 'device' and value not in (None, 'auto', 'cpu', 'cuda'):
            raise invalid(f"device must be 'auto', 'cpu' or 'cuda', not {value!r}.")
        if name == 'cache_dir' and not isinstance(value, str | Path | None):
            raise invalid(f'cache_dir must be the path of a folder, not {value!r}.')
        super().__setattr__(name, value)

    def __enter__(self) -> 'Session':
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {'model': self.model, 'revision': self.revision, 'device': self.device,
                'cache_dir': self.cache_dir, 'encoder': self._encoder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Session.__init__(self, **state)

    def close(self) -> None:
        """
        Close the caches; the next call opens what it needs. Models are shared and stay open.
        """
        with contextlib.suppress(KeyError):  # another thread may close it as well
            while True:
                self._caches.popitem()[1].close()

    def setting(self, name: str, value: Any = None) -> Any:
        """
        A value that the user gave, or else what `~astroclip_search.conf` has.

        Parameters
        ----------
        name : str
            Name of a setting.
        value : object, optional
            What the user gave; `None` stands for nothing.

        Returns
        -------
        object
            The value.
        """
        return getattr(conf, name) if value is None else value

    def use_model(self, model: str | None) -> None:
        """
        Use another model from the next call on, also in place of an encoder that was given.

        Parameters
        ----------
        model : str or None
            As for a new session.
        """
        self.model, self.revision, self._encoder = model, None, None

    @property
    def model_name(self) -> str:
        """
        The model that is used: as the user named it, or the name of the encoder that was given.
        """
        if self._encoder is not None:
            return self._encoder.bundle.name
        return self.setting('model', self.model)

    def encoder(self) -> 'Encoder':
        """
        The model, which all sessions that use the same one share.

        Returns
        -------
        Encoder
            Its towers are opened when they are first needed.

        Raises
        ------
        BundleError
            If the model cannot be found, lacks a file, or a file differs from its checksum.
        """
        if self._encoder is not None:
            return self._encoder
        from ..models.bundle import open_bundle
        from ..models.encoder import open_encoder

        with _opening:
            bundle = open_bundle(self.setting('model', self.model),
                                 self.setting('model_revision', self.revision))
            return open_encoder(bundle.of_variant(conf.model_variant),
                                device=self.setting('device', self.device),
                                n_threads=conf.n_threads)

    def warm_up(self) -> None:
        """
        Begin to open the embedded model in a thread, while the table for a ranking is made.

        Another model may have to be downloaded, which waits until it is needed. What is wrong with
        the model is raised then, too.
        """
        def open_model() -> None:
            with contextlib.suppress(Exception):
                self.encoder().encode_text([''])

        if self._encoder is None and self.model_name == 'default':
            threading.Thread(target=open_model, name='astroclip-start').start()

    def cache_path(self) -> Path | None:
        """
        The file of the cache, whether or not it exists.

        Returns
        -------
        pathlib.Path or None
            An SQLite file; `None` if there is no folder for it, which is said once.
        """
        from astropy.config import get_cache_dir

        from ..embeddings.cachefile import FILE_NAME, make_private

        try:
            if self.cache_dir:
                return Path(self.cache_dir).expanduser() / FILE_NAME
            folder = Path(get_cache_dir('astroclip_search'))
        except (OSError, RuntimeError) as error:  # the latter if nobody knows the home directory
            if not self._said_homeless:
                self._said_homeless = True
                log.warning('There is no folder for the cache (%s); nothing is kept on disk. '
                            'Name one with cache_dir.', error)
            return None
        make_private(folder, 0o700)  # astropy has made it, and everybody may look in
        return folder / FILE_NAME

    def cache(self, use: bool = True) -> 'Cache':
        """
        The cache on disk, or one in the memory of this session.

        Parameters
        ----------
        use : bool
            Whether the one on disk is wanted.

        Returns
        -------
        Cache
            Open.
        """
        from ..embeddings.cache import Cache

        path = self.cache_path() if use else None
        cache = self._caches.get(path)
        if cache is None:
            cache = self._caches.setdefault(path, Cache(path))
        cache.max_age, cache.max_bytes = conf.cache_max_age * 86400, conf.cache_max_bytes
        return cache

    def caches(self) -> 'list[Cache]':
        """
        The caches that there are: to look at them makes no file.

        Returns
        -------
        list of Cache
            That on disk, if its file exists, and those that were used.
        """
        path = self.cache_path()
        if path is not None and path.exists():
            self.cache()
        return list(self._caches.copy().values())

    def cache_info(self) -> dict[str, Any]:
        """
        Where the cache is, and how much it holds.

        Returns
        -------
        dict
            Path, bytes, the limit, numbers of entries (`None` where they cannot be read), and the
            bytes of files that are no longer used.
        """
        from ..embeddings.cachefile import leftovers

        path = self.cache_path()
        info = {'path': '' if path is None else str(path), 'bytes': 0,
                'max_bytes': conf.cache_max_bytes,
                'vectors': 0, 'thumbnails': 0, 'links': 0, 'failures': 0,
                'unused_bytes': sum(file.stat().st_size for file in leftovers(path))}
        with contextlib.suppress(OSError):
            if path is not None:
                info['bytes'] = path.stat().st_size
                cache = self.cache()
                with cache.call():
                    info |= cache.counts()
        return info

    def clear_cache(self) -> int:
        """
        Forget what is in the caches, and delete files of the cache that are no longer used.

        Returns
        -------
        int
            Number of embeddings that were forgotten.
        """
        from ..embeddings.cachefile import leftovers

        forgotten = sum(cache.clear() for cache in self.caches())
        for file in leftovers(self.cache_path()):
            try:
                file.unlink()
                log.info('%s, which is of an earlier version or damaged, was deleted.', file)
            except OSError as error:
                log.warning('%s could not be deleted (%s).', file, error)
        return forgotten

    @contextlib.contextmanager
    def pipeline(self, encoder: 'Encoder | None', cache: 'Cache', trusted: Collection[str] = (),
                 plane: str | int | None = None) -> 'Iterator[Pipeline]':
        """
        Downloads and embeddings of one call; all connections are closed at its end.

        Parameters
        ----------
        encoder : Encoder or None
            The model; `None` where only pictures are wanted.
        cache : Cache
            Where embeddings are kept.
        trusted : collection of str
            Hosts, with port, that may be on a private network for as long as the call takes.
        plane : str or int, optional
            What is drawn of a cube, if it is not ``conf.plane``.

        Yields
        ------
        Pipeline
            Ready to fetch.
        """
        from .. import __version__
        from ..archives import mast
        from ..embeddings.pipeline import Pipeline
        from ..embeddings.progress import CALL
        from ..images.apart import Decoder
        from ..images.http import Fetcher, Limits

        limits = Limits(n_connections=conf.n_connections, connect_timeout=conf.connect_timeout,
                        timeout=conf.timeout, row_timeout=conf.row_timeout,
                        query_timeout=conf.query_timeout, retries=conf.retries,
                        max_bytes=conf.max_bytes)

        def trusted_hosts() -> set[str]:
            hosts = {*trusted, *conf.private_hosts}
            # Its client takes long to load; no address of MAST has been made without it.
            if self.mast is not None or 'astroquery.mast' in sys.modules:
                hosts.add(host_of(self.address('mast:')))
            return hosts

        call = CALL.get()
        with (self._call(cache),
              Fetcher(limits, f'astroclip_search/{__version__}', trusted=trusted_hosts,
                      headers=mast.credentials(self.mast)) as fetcher,
              contextlib.nullcontext() if call is None else call.at_end(fetcher.close),
              contextlib.closing(Decoder(isolate=conf.isolate, seconds=conf.decode_timeout,
                                         n_workers=conf.n_threads)) as decoder):
            yield Pipeline(encoder, cache, fetcher, self.address, batch_size=conf.batch_size,
                           max_pixels=conf.max_pixels, max_bytes=conf.max_bytes,
                           thumbnail_size=conf.thumbnail_size, n_threads=conf.n_threads,
                           plane=self.setting('plane', plane), decoder=decoder)

    @contextlib.contextmanager
    def _call(self, cache: 'Cache') -> Iterator[None]:
        """
        A call of the user, for the caches that it may use.
        """
        known = {cache, *self._caches.copy().values()}
        with contextlib.ExitStack() as calls:
            for each in known:
                calls.enter_context(each.call())
            try:
                yield
            finally:
                for each in {*self._caches.copy().values()} - known:  # opened meanwhile
                    each.settle()

    def address(self, source: str | None) -> str:
        """
        The web address of an image.

        Parameters
        ----------
        source : str or None
            Reference to the image.

        Returns
        -------
        str
            Empty for an image that is not on a network.
        """
        if source and source.startswith('mast:'):
            from ..archives.mast import download_url
            return download_url(source, self.mast)
        return source if source and source.startswith(('http://', 'https://')) else ''

    @property
    def named(self) -> Named:
        """
        What the user has named in this process, in sessions with the same cache.
        """
        return named_with(self.cache_dir)

    def remember(self, refs: ImageRefs) -> None:
        """
        Keep in mind which local images the user has named.

        Parameters
        ----------
        refs : ImageRefs
            References that may be read.
        """
        if refs.has_files:
            opened = [parse(source) for row, source in enumerate(refs.sources)
                      if source and refs.is_open(row)]
            self.named.images.update(part for ref in opened for part in (*ref.parts, ref.fallback)
                                     if parse(part).kind in ('path', 'memory'))

    def is_ours(self, source: str) -> bool:
        """
        Whether a local image may be read for a table that names it.

        Parameters
        ----------
        source : str
            Reference to a file or an image in memory.

        Returns
        -------
        bool
            True if the user has named it in this process, in a session with the same cache. Of an
            image in memory also if one of the caches knows it: its name is its content, which
            nobody can guess.
        """
        if source in self.named.images:
            return True
        kinds = {parse(part).kind for part in parse(source).parts}
        return 'memory' in kinds <= {'memory', 'web', 'mast'} and any(
            cache.knows(source) for cache in self.caches())
