# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Image references -> bytes over HTTP: concurrent, polite, bounded; failures are data.

Only ``http`` and ``https``, only GET (some servers hang on HEAD), redirects followed by hand and
checked one by one, at most ``n_connections`` to a host at once, and no response can take more
than its share of bytes or of time. A host that asks for a pause gets it from all rows, and one
that is down is given up.
"""

import contextlib
import math
import random
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from .connections import Clock, Connections, UnansweredError
from .exceptions import PreviewError

if TYPE_CHECKING:
    import requests

__all__ = ['Fetcher', 'Limits', 'retry_after']

_MAX_REDIRECTS = 5
_CHUNK = 64 * 1024
_RETRY_STATUS = (429, 500, 502, 503, 504)

# Seconds before the first further try. Each wait is twice the one before, give or take a half, so
# that rows that failed together do not come back together.
_BACK_OFF = 0.5
_MAX_BACK_OFF = 8.0

# A host that does not answer so often in a row is down.
_GIVE_UP = 10

# A wait in seconds that is not meant.
_YEAR = 3e7

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
    query_timeout : float
        Seconds for all downloads together; 0 means no end.
    retries : int
        Further tries after a reset connection, a 429 or a 5xx answer.
    max_bytes : int
        Largest body in bytes.
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
    Downloads images; safe to use from many threads.

    Parameters
    ----------
    limits : Limits
        Bounds of every download.
    user_agent : str
        Sent with every request, so that an archive can tell who asks: products and their
        versions, as the IVOA note SoftID 1.0 has it for clients of scientists.
    trusted : collection of str, or callable
        Hosts that may be at a private address: ``host:port``, or ``host`` for the standard ports;
        a callable makes the collection when it is first needed. All others have to be at an
        address of the public internet.
    headers : dict of dict, optional
        Further headers, such as a token, for each host: ``host:port``, or ``host`` for https at
        the standard port. They are sent to no other host.
    """

    def __init__(self, limits: Limits, user_agent: str = 'astroclip_search', *,
                 trusted: Collection[str] | Callable[[], Collection[str]] = (),
                 headers: Mapping[str, Mapping[str, str]] | None = None):
        self.limits = limits
        self._large = threading.RLock()  # a broken body may be asked for again
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self._stop = threading.Event()
        self._stop_reason, self._stop_status = 'interrupted', 'ERROR'
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
        self._stop_reason = (f'the query took longer than {self.limits.query_timeout:g} s '
                             '(conf.query_timeout): call again to go on')
        self._stop_status = 'SKIPPED'
        self._stop.set()

    @contextlib.contextmanager
    def open(self, url: str, *, data: bytes | None = None) -> Iterator[bytes]:
        """
        Download one image.

        A large body occupies memory, so the next large one waits until the context is left.

        Parameters
        ----------
        url : str
            An ``http`` or ``https`` address.
        data : bytes, optional
            Form-encoded content, which is sent with POST: once, and to no other host.

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
            try:
                body = self._get(url, data, stack)
            except PreviewError as error:
                if self._stop.is_set():
                    raise PreviewError(self._stop_reason, url, status=self._stop_status) from error
                error.url = url
                raise
            yield body

    def _get(self, url: str, data: bytes | None, stack: contextlib.ExitStack) -> bytes:
        clock = Clock(self.limits.row_timeout)
        attempt = 0 if data is None else self.limits.retries
        while True:
            try:
                return self._follow(url, data, clock, stack)
            except _TransientError as error:
                wait = 0.0
                if not error.pauses:
                    wait = min(_MAX_BACK_OFF, _BACK_OFF * 2**attempt) * random.uniform(0.5, 1.5)
                if attempt >= self.limits.retries or wait > clock.left:
                    raise PreviewError(error.reason) from error.__cause__
            attempt += 1
            self._stop.wait(wait)

    def _follow(self, url: str, data: bytes | None, clock: Clock,
                stack: contextlib.ExitStack) -> bytes:
        """
        One try: follow redirects to a body.
        """
        target, posted = url, data is not None
        for _ in range(_MAX_REDIRECTS + 1):
            host = self._host(target, url)
            if posted and urlsplit(target).hostname != urlsplit(url).hostname:
                raise PreviewError(f'redirected to another host ({target[:80]!r})')
            with self._turn(host, clock):
                answer, status = self._ask(target, data, host, clock, stack)
            if isinstance(answer, bytes):
                return answer
            target = urljoin(target, answer)
            if status not in (307, 308):
                data = None  # sent once
        raise PreviewError(f'more than {_MAX_REDIRECTS} redirects')

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
                    raise UnansweredError('no answer in time')
                began = True
                return self._answer(response, host, clock, stack), response.status_code
        except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
            raise UnansweredError('no answer in time') from error
        except requests.exceptions.SSLError as error:
            raise PreviewError('no secure connection, is its certificate valid?') from error
        except (requests.exceptions.ConnectionError, urllib3.exceptions.ProtocolError,
                urllib3.exceptions.SSLError) as error:
            if clock.left:
                raise _TransientError('the connection was broken') from error
            if began:
                raise self._too_slow() from error
            raise UnansweredError('no answer in time') from error
        # For some addresses that have no meaning, urllib3's own errors come through.
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError,
                ValueError) as error:
            raise PreviewError(f'invalid request ({type(error).__name__})') from error

    def _answer(self, response: 'requests.Response', host: '_Host', clock: Clock,
                stack: contextlib.ExitStack) -> bytes | str:
        target = self._connections.redirect_target(response)
        code = response.status_code
        if code == 200:
            return self._read(response, clock, stack)
        self._drain(response)
        if target is not None:
            return target
        if code in (401, 403, 407):
            raise PreviewError(f'HTTP {code}: access denied', status='DENIED')
        if code == 204:
            raise PreviewError('HTTP 204: the server has no image', status='NO_IMAGE')
        if code not in _RETRY_STATUS:
            raise PreviewError(f'HTTP {code}')
        pause = retry_after(response.headers.get('Retry-After'))
        if pause is not None:
            host.pause(pause, f'HTTP {code}')
        raise _TransientError(f'HTTP {code}', pauses=pause is not None)

    def _read(self, response: 'requests.Response', clock: Clock,
              stack: contextlib.ExitStack) -> bytes:
        limit = self.limits.max_bytes
        declared = response.headers.get('Content-Length', '')
        if declared.isdigit() and int(declared) > limit:
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
        if 'gzip' in response.headers.get('Content-Encoding', '') and body[:2] == b'\x1f\x8b':
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
            raise PreviewError(f'damaged compressed answer ({error})') from error
        if len(content) > self.limits.max_bytes:
            raise self._too_large()
        return bytes(content)

    def _alone(self, clock: Clock, stack: contextlib.ExitStack) -> None:
        with clock.stopped():
            stack.enter_context(self._large)

    @staticmethod
    def _drain(response: 'requests.Response') -> None:
        """
        Read the body of no interest if it is small, so that its connection can be used again.
        """
        declared = response.headers.get('Content-Length', '')
        if declared.isdigit() and int(declared) <= _CHUNK:
            with contextlib.suppress(OSError):
                response.raw.read(decode_content=False)

    def _too_slow(self) -> PreviewError:
        return PreviewError(f'took longer than {self.limits.row_timeout:g} s (conf.row_timeout)')

    def _too_large(self) -> PreviewError:
        return PreviewError(f'larger than {self.limits.max_bytes} bytes (conf.max_bytes)')

    def _host(self, target: str, url: str) -> '_Host':
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
            via = '' if target == url else f' (redirected to {target[:80]!r})'
            raise PreviewError(f'not an http or https address{via}')
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
                    raise PreviewError(self._stop_reason)
        try:
            if host.unanswered >= _GIVE_UP:
                raise PreviewError(
                    f'given up: the server did not answer {_GIVE_UP} times in a row')
            wait = host.pause_until - time.monotonic()
            if wait > clock.left:
                then = ''
                if wait < _YEAR:  # rounded up to the next minute
                    end = time.gmtime(time.time() + wait + 60)
                    then = f'; call again after {time.strftime("%Y-%m-%d %H:%M", end)} UTC'
                raise PreviewError(f'{host.pause_reason}: the server asks to wait {wait:.0f} s, '
                                   f'longer than conf.row_timeout{then}')
            if wait > 0:
                self._stop.wait(wait)
            if self._stop.is_set():
                raise PreviewError(self._stop_reason)
            try:
                yield
            except UnansweredError:
                host.unanswered += 1
                raise
            except (PreviewError, _TransientError):
                host.unanswered = 0
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

    def pause(self, seconds: float, reason: str) -> None:
        """
        Leave the host alone.
        """
        self.pause_until = max(self.pause_until, time.monotonic() + seconds)
        self.pause_reason = reason


class _TransientError(Exception):
    """
    A failure worth another try.
    """

    def __init__(self, reason: str, *, pauses: bool = False):
        super().__init__(reason)
        self.reason = reason
        self.pauses = pauses


def retry_after(value: str | None) -> float | None:
    """
    Seconds of a Retry-After header (RFC 9110, section 10.2.3): a number or a date.

    Parameters
    ----------
    value : str or None
        The header.

    Returns
    -------
    float or None
        Never negative; `None` if it does not say.
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
