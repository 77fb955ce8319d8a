# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Image references -> bytes over HTTP: concurrent, polite, bounded; failures are data.

Only ``http`` and ``https``, only GET (some servers hang on HEAD), redirects followed by hand and
checked one by one, at most ``n_connections`` to a host at once, and no response can take more
than its share of bytes or of time.
"""

import contextlib
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

from .exceptions import PreviewError

__all__ = ['Fetcher', 'Limits']

_MAX_REDIRECTS = 5
_CHUNK = 64 * 1024
_RETRY_STATUS = (429, 500, 502, 503, 504)

# Bodies above this are held one at a time, so that memory does not grow with the image size.
_LARGE = 8 * 1024**2


@dataclass(frozen=True)
class Limits:
    """
    Bounds of a download.

    Attributes
    ----------
    n_connections : int
        Simultaneous connections to one host.
    connect_timeout, timeout, row_timeout : float
        Seconds to wait for a connection, for the next bytes, and for one image in all.
    retries : int
        Further tries after a reset connection, a 429 or a 5xx answer.
    max_bytes : int
        Largest body in bytes.
    """

    n_connections: int = 5
    connect_timeout: float = 5.0
    timeout: float = 30.0
    row_timeout: float = 60.0
    retries: int = 2
    max_bytes: int = 64 * 1024**2


class Fetcher:
    """
    Downloads images; safe to use from many threads.

    Parameters
    ----------
    limits : Limits
        Bounds of every download.
    user_agent : str
        Sent with every request, so that an archive can tell who asks (IVOA note SoftID).
    headers : dict, optional
        Further headers by origin, such as ``'https://mast.stsci.edu'``: what proves to one server
        who the user is, no other server sees, nor this one over another scheme.
    """

    def __init__(self, limits: Limits, user_agent: str = 'astroclip_search', *,
                 headers: dict[str, dict[str, str]] | None = None):
        self.limits = limits
        self._user_agent = user_agent
        self._headers = headers or {}
        self._local = threading.local()
        self._lock = threading.Lock()
        self._large = threading.RLock()  # a broken body may be asked for again
        self._hosts: dict[str, threading.BoundedSemaphore] = {}
        self._sessions: list = []
        self._sockets: weakref.WeakSet = weakref.WeakSet()
        self._stop = threading.Event()

    def __enter__(self) -> 'Fetcher':
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """
        Stop the downloads in progress and close all connections.
        """
        self._stop.set()
        with self._lock:
            for connected in list(self._sockets):
                _shut_down(connected)
            for session in self._sessions:
                session.close()

    @contextlib.contextmanager
    def open(self, url: str) -> Iterator[bytes]:
        """
        Download one image.

        A large body occupies memory, so the next large one waits until the context is left.

        Parameters
        ----------
        url : str
            An ``http`` or ``https`` address.

        Yields
        ------
        bytes
            The body, at most ``limits.max_bytes`` long.

        Raises
        ------
        PreviewError
            Whatever went wrong.
        """
        with contextlib.ExitStack() as stack:
            yield self._get(url, stack)

    def _get(self, url: str, stack: contextlib.ExitStack) -> bytes:
        deadline = time.monotonic() + self.limits.row_timeout
        for attempt in range(self.limits.retries + 1):
            if self._stop.is_set():
                break
            try:
                return self._follow(url, deadline, stack)
            except _TransientError as error:
                wait = error.retry_after if error.retry_after is not None else 0.5 * 2**attempt
                last = attempt == self.limits.retries or time.monotonic() + wait > deadline
                if last and not self._stop.is_set():
                    raise PreviewError(error.reason, url) from error.__cause__
                self._stop.wait(wait)
        raise PreviewError('interrupted', url)

    def _follow(self, url: str, deadline: float, stack: contextlib.ExitStack) -> bytes:
        """
        One try: follow redirects to a body.
        """
        import requests
        import urllib3

        target = url
        for _ in range(_MAX_REDIRECTS + 1):
            host = _check(target, url)
            asked = time.monotonic()
            with self._connection(host):
                # Waiting for one's turn is not the server's fault.
                deadline += time.monotonic() - asked
                left = max(0.001, deadline - time.monotonic())
                try:
                    self._local.deadline = deadline
                    with self._session().get(
                            target, stream=True, allow_redirects=False,
                            headers=self._headers.get(target.partition('://')[0] + '://' + host),
                            timeout=(min(self.limits.connect_timeout, left),
                                     min(self.limits.timeout, left)),
                    ) as response:
                        if time.monotonic() > deadline:
                            raise self._too_slow(url)
                        if response.is_redirect:
                            target = urljoin(target, self._session().get_redirect_target(response))
                            continue
                        _check_status(response, url)
                        return self._read(response, url, deadline, stack)
                except requests.exceptions.ConnectTimeout as error:
                    raise PreviewError('no connection in time', url) from error
                except requests.exceptions.Timeout as error:
                    raise PreviewError('no answer in time', url) from error
                except requests.exceptions.SSLError as error:
                    raise PreviewError('no secure connection, is its certificate valid?',
                                       url) from error
                except requests.exceptions.ConnectionError as error:
                    if time.monotonic() > deadline:
                        raise self._too_slow(url) from error
                    if 'NewConnectionError' in repr(error) or 'NameResolution' in repr(error):
                        raise PreviewError('the server cannot be reached', url) from error
                    raise _TransientError('the connection was broken') from error
                # For some addresses that have no meaning, urllib3's own errors come through.
                except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError,
                        ValueError) as error:
                    raise PreviewError(f'invalid request ({type(error).__name__})', url) from error
        raise PreviewError(f'more than {_MAX_REDIRECTS} redirects', url)

    def _read(self, response, url: str, deadline: float, stack: contextlib.ExitStack) -> bytes:
        import urllib3

        limit = self.limits.max_bytes
        too_large = PreviewError(f'larger than {limit} bytes (conf.max_bytes)', url)
        declared = response.headers.get('Content-Length', '')
        if declared.isdigit() and int(declared) > limit:
            raise too_large
        chunks, size, waiting_for_memory = [], 0, True
        while True:
            try:
                # read1 returns what is there: read(n) would wait for n bytes of a slow drip.
                chunk = response.raw.read1(_CHUNK, decode_content=True)
            except urllib3.exceptions.ReadTimeoutError as error:
                raise PreviewError('no answer in time', url) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise _TransientError('the connection was broken') from error
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise too_large
            if time.monotonic() > deadline:
                raise self._too_slow(url)
            if self._stop.is_set():
                raise PreviewError('interrupted', url)
            if size > _LARGE and waiting_for_memory:
                waited = time.monotonic()
                stack.enter_context(self._large)
                deadline += time.monotonic() - waited
                waiting_for_memory = False
        if declared.isdigit() and size < int(declared) and not response.headers.get(
                'Content-Encoding'):
            raise _TransientError(f'only {size} of {declared} bytes arrived')
        return b''.join(chunks)

    def _too_slow(self, url: str) -> PreviewError:
        return PreviewError(f'took longer than {self.limits.row_timeout:g} s (conf.row_timeout)',
                            url)

    def _session(self):
        session = getattr(self._local, 'session', None)
        if session is None:
            import requests

            session = self._local.session = requests.Session()
            self._watch(session)
            session.headers['User-Agent'] = self._user_agent
            # A compressed image gains nothing and could be a decompression bomb.
            session.headers['Accept-Encoding'] = 'identity'
            with self._lock:
                self._sessions.append(session)
        return session

    def _watch(self, session) -> None:
        """
        Make a session's connections give up when the time is over or the fetcher is closed.

        The timeout of a socket is one of each read: a header that drips in byte by byte would hold
        its thread for as long as the server likes.
        """
        import urllib3

        fetcher = self

        class Watched:
            def connect(self):
                super().connect()
                with fetcher._lock:
                    fetcher._sockets.add(self.sock)

            def getresponse(self, *args, **kwargs):
                if fetcher._stop.is_set():
                    raise ConnectionAbortedError
                watch = threading.Timer(max(0.0, fetcher._local.deadline - time.monotonic()),
                                        _shut_down, [self.sock])
                watch.daemon = True
                watch.start()
                try:
                    return super().getresponse(*args, **kwargs)
                finally:
                    watch.cancel()

        pools = {}
        for scheme, pool in (('http', urllib3.HTTPConnectionPool),
                             ('https', urllib3.HTTPSConnectionPool)):
            connection = type('Watched', (Watched, pool.ConnectionCls), {})
            pools[scheme] = type(pool.__name__, (pool,), {'ConnectionCls': connection})
            session.get_adapter(f'{scheme}://').poolmanager.pool_classes_by_scheme = pools

    @contextlib.contextmanager
    def _connection(self, host: str) -> Iterator[None]:
        with self._lock:
            semaphore = self._hosts.setdefault(
                host, threading.BoundedSemaphore(max(1, self.limits.n_connections)))
        while not semaphore.acquire(timeout=1.0):
            if self._stop.is_set():
                raise PreviewError('interrupted')
        try:
            yield
        finally:
            semaphore.release()


def _shut_down(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


class _TransientError(Exception):
    """
    A failure worth another try.
    """

    def __init__(self, reason: str, retry_after: float | None = None):
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


def _check(target: str, url: str) -> str:
    """
    The host of an address that may be asked.
    """
    try:
        parts = urlsplit(target)
        host = parts.hostname
    except ValueError:
        host = None
    if (not host or parts.scheme not in ('http', 'https')
            or not all(character.isprintable() and character != ' ' for character in host)):
        via = '' if target == url else f' (redirected to {target[:80]!r})'
        raise PreviewError(f'not an http or https address{via}', url)
    return parts.netloc


def _check_status(response, url: str) -> None:
    code = response.status_code
    if code in (401, 403, 407):
        raise PreviewError(f'HTTP {code}: access denied', url, status='DENIED')
    if code in _RETRY_STATUS:
        raise _TransientError(f'HTTP {code}', _retry_after(response.headers.get('Retry-After')))
    if code == 204:
        raise PreviewError('HTTP 204: the server has no image', url, status='NO_IMAGE')
    if code != 200:
        raise PreviewError(f'HTTP {code}', url)


def _retry_after(value: str | None) -> float | None:
    """
    Seconds of a Retry-After header (RFC 9110, section 10.2.3): a number or a date.
    """
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
