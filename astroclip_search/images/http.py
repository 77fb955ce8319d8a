# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Addresses -> bytes over HTTP: concurrent, polite, bounded; a failure is an
`~astroclip_search.exceptions.ImageError`.

Only ``http`` and ``https``, only GET (some servers hang on HEAD), redirects followed by hand and
checked one by one, at most ``n_connections`` to a host at once, and no response can take more
than its share of bytes or of time. When a host asks for a pause, all rows wait; a host that is down
is given up.
"""

import contextlib
import math
import random
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..exceptions import ImageError
from ..status import reason
from ..untrusted.values import address, retry_after, whole_number, without_secrets
from .guard import Clock, Connections

if TYPE_CHECKING:
    import requests

__all__ = ['BACK_OFF', 'RETRY_STATUS', 'Fetcher', 'Limits', 'back_off']

RETRY_STATUS = (429, 500, 502, 503, 504)
"""
Answers after which another try makes sense.
"""

BACK_OFF = 0.5
"""
Seconds before the first further try, as `back_off` has it.
"""

_MAX_BACK_OFF = 8.0

_MAX_REDIRECTS = 5

_CHUNK = 64 * 1024

# Reasons after which another try makes sense.
_MAY_PASS = ('broken', 'http_again', 'http_pause')

# A host for which there is one of these reasons so often in a row is down.
_UNANSWERED = ('no_answer', 'no_connection', 'unknown_host', 'unreachable')
_GIVE_UP = 10

# A wait in seconds that is not meant.
_YEAR = 3e7

# Bodies above this are held one at a time, so that memory does not grow with the image size.
_LARGE = 8 * 1024**2


@dataclass(frozen=True)
class Limits:
    """
    Bounds of a download in seconds and bytes, as in `conf`; a ``query_timeout`` of 0 means no end.
    """

    n_connections: int = 5
    connect_timeout: float = 5.0
    timeout: float = 30.0
    row_timeout: float = 60.0
    query_timeout: float = 600.0
    retries: int = 2
    max_bytes: int = 64 * 1024**2


class Fetcher:
    """
    Downloads images; safe to use from many threads. Hosts that may be at a private address, or get
    further ``headers`` (a token), are written ``host:port``, or ``host`` for the standard ports.
    """

    # user_agent: products and their versions, as the IVOA note SoftID 1.0 has it for clients of
    # scientists. trusted: a callable makes the collection when it is first needed. headers: they
    # go to no other host, and without a port in its name only over https.
    def __init__(self, limits: Limits, user_agent: str = 'astroclip_search', *,
                 trusted: Collection[str] | Callable[[], Collection[str]] = (),
                 headers: Mapping[str, Mapping[str, str]] | None = None):
        self.limits = limits
        self._large = threading.RLock()  # a broken body may be asked for again
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self._stop = threading.Event()
        self._stop_reason = reason('interrupted')
        self._connections = Connections(
            user_agent, max(1, limits.n_connections), trusted=trusted, headers=headers,
            until=time.monotonic() + (limits.query_timeout or math.inf), at_end=self._end_query)

    def __enter__(self) -> 'Fetcher':
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """
        Stop the downloads in progress and close all connections.
        """
        self._stop.set()
        self._connections.close()

    def _end_query(self) -> None:
        self._stop_reason = reason('query_timeout', seconds=self.limits.query_timeout)
        self._stop.set()

    @contextlib.contextmanager
    def open(self, url: str, *, data: bytes | None = None) -> Iterator[bytes]:
        """
        The body of an answer; the next large one waits until the context is left. ``data`` is
        form-encoded and sent with POST, once and to no other host.
        """
        with contextlib.ExitStack() as stack:
            try:
                body = self._get(url, data, stack)
            except ImageError as error:
                if self._stop.is_set():
                    raise ImageError(self._stop_reason, url) from error
                error.url = url
                raise
            yield body

    def _get(self, url: str, data: bytes | None, stack: contextlib.ExitStack) -> bytes:
        clock = Clock(self.limits.row_timeout)
        attempt = 0 if data is None else self.limits.retries
        while True:
            try:
                return self._follow(url, data, clock, stack)
            except ImageError as error:
                code = error.because.code
                # A pause that the host asked for is one of all its rows: _turn waits for its end.
                wait = 0.0 if code == 'http_pause' else back_off(attempt)
                if (code not in _MAY_PASS or attempt >= self.limits.retries
                        or wait > clock.left):
                    raise
            attempt += 1
            self._stop.wait(wait)

    def _follow(self, url: str, data: bytes | None, clock: Clock,
                stack: contextlib.ExitStack) -> bytes:
        """
        One try: follow redirects to a body.
        """
        target, posted = url, data is not None
        for _ in range(_MAX_REDIRECTS + 1):
            host = self._host(target)
            if posted and urlsplit(target).hostname != urlsplit(url).hostname:
                raise ImageError('other_host', target=without_secrets(target)[:80])
            with self._turn(host, clock):
                answer, status = self._ask(target, data, host, clock, stack)
            if isinstance(answer, bytes):
                return answer
            if not (joined := address(answer, target)):
                raise ImageError('no_address_after_redirect',
                                 target=without_secrets(answer)[:80])
            target = joined
            if status not in (307, 308):
                data = None  # sent once
        raise ImageError('many_redirects', limit=_MAX_REDIRECTS)

    def _ask(self, target: str, data: bytes | None, host: '_Host', clock: Clock,
             stack: contextlib.ExitStack) -> tuple[bytes | str, int]:
        """
        The body, or the address that the server sends to; and the status.
        """
        import requests
        import urllib3

        began = False
        left = max(0.001, clock.left)
        try:
            with self._connections.exchange(
                    target, clock, data=data, timeout=(min(self.limits.connect_timeout, left),
                                                       min(self.limits.timeout, left))) as response:
                if not clock.left:  # a header that was cut looks like a short one
                    raise ImageError('no_answer')
                began = True
                return self._answer(response, host, clock, stack), response.status_code
        except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
            raise ImageError('no_answer') from error
        except requests.exceptions.SSLError as error:
            raise ImageError('not_secure') from error
        except (requests.exceptions.ConnectionError, urllib3.exceptions.ProtocolError,
                urllib3.exceptions.SSLError) as error:
            if clock.left:
                raise ImageError('broken') from error
            if began:
                raise self._too_slow() from error
            raise ImageError('no_answer') from error
        # For some addresses that have no meaning, urllib3's own errors come through.
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError,
                ValueError) as error:
            raise ImageError('invalid_request', error=type(error).__name__) from error

    def _answer(self, response: 'requests.Response', host: '_Host', clock: Clock,
                stack: contextlib.ExitStack) -> bytes | str:
        code = response.status_code
        if code == 200:
            return self._read(response, clock, stack)
        self._drain(response)
        if response.is_redirect:
            return _location(response)
        if code in (401, 403, 407):
            raise ImageError('http_denied', code=code)
        if code == 204:
            raise ImageError('http_no_content')
        if code not in RETRY_STATUS:
            raise ImageError('http', code=code)
        pause = retry_after(response.headers.get('Retry-After'))
        if pause is None:
            raise ImageError('http_again', code=code)
        host.pause_until = max(host.pause_until, time.monotonic() + pause)
        host.pause_reason = f'HTTP {code}'
        raise ImageError('http_pause', code=code)

    def _read(self, response: 'requests.Response', clock: Clock,
              stack: contextlib.ExitStack) -> bytes:
        limit = self.limits.max_bytes
        declared = response.headers.get('Content-Length', '')
        if declared.isascii() and declared.isdigit() and whole_number(declared, most=limit) is None:
            raise self._too_large()
        body, alone = bytearray(), False
        # read1 returns what is there: read(n) would wait for n bytes of a slow drip.
        while chunk := response.raw.read1(_CHUNK, decode_content=False):
            body += chunk
            if len(body) > limit:
                raise self._too_large()
            if not clock.left or self._stop.is_set():
                break
            if len(body) > _LARGE and not alone:
                alone = True
                self._alone(clock, stack)
        # A body of unknown length that was cut looks like a short one.
        if not clock.left or self._stop.is_set():
            raise self._too_slow()
        encoding = response.headers.get('Content-Encoding', '').lower()
        if 'gzip' in encoding and body[:2] == b'\x1f\x8b':
            return self._unpack(body, alone, clock, stack)
        return bytes(body)

    def _unpack(self, body: bytearray, alone: bool, clock: Clock,
                stack: contextlib.ExitStack) -> bytes:
        """
        Undo the compression of a server that was asked for none, piece by piece.
        """
        unpacker = zlib.decompressobj(wbits=31)
        try:
            content = bytearray(unpacker.decompress(body, _LARGE))
            if unpacker.unconsumed_tail:
                if not alone:
                    self._alone(clock, stack)
                content += unpacker.decompress(unpacker.unconsumed_tail,
                                               max(1, self.limits.max_bytes - _LARGE + 1))
        except zlib.error as error:
            raise ImageError('damaged_answer', error=error) from error
        if len(content) > self.limits.max_bytes:
            raise self._too_large()
        return bytes(content)

    def _alone(self, clock: Clock, stack: contextlib.ExitStack) -> None:
        with clock.stopped():
            while not self._large.acquire(timeout=0.2):
                if self._stop.is_set():
                    raise ImageError(self._stop_reason)
            stack.callback(self._large.release)

    @staticmethod
    def _drain(response: 'requests.Response') -> None:
        """
        Read the body of no interest if it is small, so that its connection can be used again.
        """
        import urllib3

        declared = whole_number(response.headers.get('Content-Length'), most=_CHUNK)
        # What follows an early answer (1xx) is the answer to this request, not to the next one.
        if declared is None or response.status_code < 200:
            return
        with contextlib.suppress(OSError, urllib3.exceptions.HTTPError):
            n_bytes = 0
            while n_bytes <= declared and (chunk := response.raw.read1(_CHUNK,
                                                                       decode_content=False)):
                n_bytes += len(chunk)

    def _too_slow(self) -> ImageError:
        return ImageError('row_timeout', seconds=self.limits.row_timeout)

    def _too_large(self) -> ImageError:
        return ImageError('body_too_large', limit=self.limits.max_bytes)

    def _host(self, target: str) -> '_Host':
        """
        The host of an address that may be asked.
        """
        try:
            parts = urlsplit(target)
            name = parts.hostname
        except ValueError:
            name = None
        if (not name or parts.scheme not in ('http', 'https')
                or not all(character.isprintable() and character != ' ' for character in name)):
            raise ImageError('no_address')
        key = parts.netloc.rpartition('@')[2].lower()
        with self._lock:
            if key not in self._hosts:
                self._hosts[key] = _Host(max(1, self.limits.n_connections))
            return self._hosts[key]

    @contextlib.contextmanager
    def _turn(self, host: '_Host', clock: Clock) -> Iterator[None]:
        """
        Wait for one of the host's connections, and as long as it asked to wait.
        """
        with clock.stopped():  # waiting for one's turn is not the server's fault
            while not host.turns.acquire(timeout=0.2):
                if self._stop.is_set():
                    raise ImageError(self._stop_reason)
        try:
            if host.unanswered >= _GIVE_UP:
                raise ImageError('given_up', n=_GIVE_UP)
            wait = host.pause_until - time.monotonic()
            if wait > clock.left:
                then = ''
                if wait < _YEAR:  # rounded up to the next minute
                    end = time.gmtime(time.time() + wait + 60)
                    then = f'; call again after {time.strftime("%Y-%m-%d %H:%M", end)} UTC'
                raise ImageError('http_wait', after=host.pause_reason, seconds=wait, then=then)
            if wait > 0:
                self._stop.wait(wait)
            if self._stop.is_set():
                raise ImageError(self._stop_reason)
            try:
                yield
            except ImageError as error:
                host.unanswered = (host.unanswered + 1 if error.because.code in _UNANSWERED
                                   else 0)
                raise
            host.unanswered = 0
        finally:
            host.turns.release()


class _Host:
    """
    What is known of a host.
    """

    def __init__(self, n_connections: int):
        self.turns = threading.BoundedSemaphore(n_connections)
        self.unanswered = 0
        self.pause_until = -math.inf
        self.pause_reason = ''


def back_off(attempt: int) -> float:
    """
    Seconds to wait after a failed try, the first is 0: each wait is twice the one before, give or
    take a half, so that rows that failed together do not come back together.
    """
    return min(_MAX_BACK_OFF, BACK_OFF * 2.0**min(attempt, 30)) * random.uniform(0.5, 1.5)


def _location(response: 'requests.Response') -> str:
    """
    The address that a redirect names, which may be relative: http.client reads bytes as Latin-1.
    """
    text = response.headers['Location']
    try:
        return text.encode('latin-1').decode()
    except UnicodeError:
        return text

