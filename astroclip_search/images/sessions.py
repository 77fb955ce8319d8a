# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Queries that pyvo and astroquery send -> whole answers, guarded as downloads are.

Both libraries read an answer as it comes, for as long as it comes, and unpack it; their sessions
know ``~/.netrc`` and the proxies of the system. The adapter here takes their place at the network:
an answer is read at once, within bounds of bytes and of time, from a host that may be asked, and
what a redirect or a cookie says is looked at before any library parses it.
"""

import contextlib
import contextvars
import copy
import functools
import io
import re
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote_plus

from ..exceptions import ImageError
from ..untrusted.values import address, host_of, retry_after, split
from .guard import Clock, Connections

if TYPE_CHECKING:
    import requests

__all__ = ['MAX_ANSWER', 'Visit']

MAX_ANSWER = 512 * 1024**2
"""
Bytes of an answer, packed and unpacked: some hundred thousand rows of an archive.
"""

_CHUNK = 1024**2

# http.cookiejar makes a warning with a traceback of years that have no calendar.
_FAR_YEAR = re.compile(r'expires[^;]*\d{5}', re.IGNORECASE)
_MAX_COOKIE = 4096

# Headers that say nothing of the user.
_PLAIN = frozenset('accept accept-encoding accept-language connection content-length content-type '
                   'cookie host transfer-encoding user-agent'.split())


class Visit:
    """
    The requests of one query of another library.

    ``seconds`` are for all requests, or for ``each`` of them, and infinite if they have no end; a
    ``clock`` may have begun before. ``timeout`` is one to connect and one for the next bytes.
    Answers of the statuses ``again`` to GET are asked for ``retries`` more times, each after a
    ``pause``. Credentials of a session, and its cookies that have no host, are for the host of the
    address ``home``. ``read`` looks at an answer before the library does.
    """

    def __init__(self, *, seconds: float, timeout: tuple[float, float],
                 trusted: Collection[str] = (), clock: Clock | None = None, each: bool = False,
                 retries: int = 0, again: Collection[int] = (),
                 pause: Callable[[int], float] = lambda _: 0.0, home: str = '',
                 read: Callable[['requests.Response'], None] = lambda _: None):
        self.seconds = seconds
        self.clock = Clock(seconds) if clock is None else clock
        self.trusted = {*trusted}
        self.answered = False
        self._timeout = timeout
        self._each = each
        self._retries, self._again, self._pause = retries, again, pause
        self._home = split(home)
        self._cookies: set[str] = set()
        self._params: set[str] = set()
        self._read = read
        self._connections = Connections('', 1, trusted=lambda: self.trusted)

    def __enter__(self) -> 'Visit':
        return self

    def __exit__(self, *exc: object) -> None:
        self._connections.close()

    def mount(self, session: 'requests.Session') -> None:
        """
        Have a session send by this visit from now on, and read neither ``~/.netrc`` nor settings
        of the system. Adapters that the user has mounted are asked, within the bounds.
        """
        import requests

        session.trust_env = False
        self._cookies.update(cookie.name for cookie in session.cookies if not cookie.domain)
        self._params.update(_parts_of(requests.Request(
            'GET', 'http://a/', params=session.params).prepare().url))
        # Another mapping, so that whoever has kept the one before can put it back.
        adapters = session.adapters
        session.adapters = mounted = type(adapters)()
        for prefix, adapter in adapters.items():
            mounted[prefix] = self._mounted(adapter)

    def stand_in(self, session: Any) -> Any:
        """
        A copy of a session, or of one of pyvo that has others for its credentials, that sends by
        this visit; `None` for what is neither.
        """
        import requests
        from pyvo.auth import AuthSession

        if not isinstance(session, requests.Session | AuthSession):
            return None
        made = object.__new__(type(session))
        made.__dict__.update(session.__dict__)
        if isinstance(made, requests.Session):
            self.mount(made)
            if type(made) is not requests.Session:
                # One may choose adapters in a way of its own, or have answers that none has sent.
                choose, ask = made.get_adapter, made.request
                changed: Any = made
                changed.get_adapter = lambda *args, **options: (
                    self._mounted(choose(*args, **options)))
                changed.request = lambda *args, **options: self._looked_at(ask(*args, **options))
            return made
        made.credentials = copy.copy(made.credentials)
        inside = {method: self.stand_in(one) for method, one in
                  made.credentials.credentials.items()}
        made.credentials.credentials = inside
        return None if None in inside.values() else made

    def _mounted(self, adapter: Any) -> Any:
        import requests

        if isinstance(adapter, _Mounted):  # of this visit, or left by a fork in the middle of one
            adapter = adapter.inner
        elif type(adapter) is requests.adapters.HTTPAdapter:
            adapter = None
        return _Mounted(self, adapter)

    def _looked_at(self, answer: 'requests.Response') -> 'requests.Response':
        if not isinstance(getattr(answer, 'connection', None), _Mounted):
            self._read(answer)
        return answer

    @contextlib.contextmanager
    def in_place_of_requests(self, module: Any) -> Iterator[None]:
        """
        Have a module that calls ``requests.get`` send by this visit meanwhile; it names the host.
        """
        before = getattr(module, 'requests', None)
        if before is None:
            yield
            return
        if isinstance(before, _Requests):  # left by a fork in the middle of a query
            before = before.module
        module.requests = _Requests(self, before)
        try:
            yield
        finally:
            module.requests = before

    @property
    def is_over(self) -> bool:
        """
        Whether there is no time left.
        """
        return not self.clock.left

    def send(self, request: 'requests.PreparedRequest', inner: Any = None, *, timeout: Any = None,
             verify: Any = True, cert: Any = None, proxies: Any = None, **_: Any
             ) -> 'requests.Response':
        """
        Send a request, by an adapter of the user if there is one, and read its answer.
        """
        import requests
        import urllib3

        timeout = timeout or self._timeout
        clock = self.clock
        if self._each:
            # Of a job a service may say nothing for as long as it was asked to wait.
            longest = max(filter(None, timeout if isinstance(timeout, tuple) else (timeout,)),
                          default=0.0)
            self.clock = clock = Clock(max(self.seconds, longest) if 'WAIT=' in str(request.url)
                                       else self.seconds)
        at_home = self._home is None or _is_of(str(request.url), self._home)
        if not at_home:
            self._keep_secrets(request)
            cert = None
        attempt = 0
        while True:
            if not clock.left:
                raise self._too_late()
            try:
                ask = functools.partial(self._asked, request, clock, inner, timeout=timeout,
                                        cert=cert, verify=verify, proxies=proxies)
                answer = ask() if inner is None else self._in_time(ask, clock)
            except ImageError as error:
                if not clock.left:
                    raise self._too_late() from error
                kind = {'no_connection': requests.ConnectTimeout,
                        'unknown_host': requests.ConnectionError,
                        'unreachable': requests.ConnectionError}.get(
                            error.because.code, requests.RequestException)
                raise kind(error.reason, request=request) from error
            # ValueError: of names that a codec refuses.
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError,
                    ValueError) as error:
                if not clock.left:
                    raise self._too_late() from error
                if isinstance(error, requests.RequestException):
                    raise
                raise _as_requests(error, request) from error
            if (answer.status_code not in self._again or request.method != 'GET'
                    or attempt >= self._retries):
                break
            time.sleep(min(self._pause(attempt), clock.left))
            attempt += 1
        if not at_home:  # nobody answers what only the service may ask for
            answer.headers.pop('WWW-Authenticate', None)
        if not answer.is_redirect:
            self.answered = True
            self._read(answer)
        return answer

    def _asked(self, request: 'requests.PreparedRequest', clock: Clock, inner: Any,
               **options: Any) -> 'requests.Response':
        with self._connections.visit(request, clock, inner, **options) as response:
            content = self._content(response, clock)
        return _answer(response, content)

    def _in_time(self, ask: Callable[[], 'requests.Response'], clock: Clock
                 ) -> 'requests.Response':
        """
        What an adapter of the user brings, or an error when the time is over.
        """
        # Its connections cannot be cut. Whoever waits leaves; the thread ends with the answer, and
        # reads no body that is late.
        done: list[requests.Response] = []
        failures: list[BaseException] = []

        def run() -> None:
            try:
                done.append(ask())
            except BaseException as error:  # raised by whoever waits
                failures.append(error)

        thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True,
                                  name='adapter of the user')
        thread.start()
        thread.join(min(clock.left, threading.TIMEOUT_MAX))
        if failures:
            raise failures[0]
        if not done:
            raise self._too_late()
        return done[0]

    def _too_late(self) -> 'requests.Timeout':
        import requests

        return requests.ReadTimeout(
            f'it took longer than {self.seconds:g} s (conf.query_timeout)')

    def _keep_secrets(self, request: 'requests.PreparedRequest') -> None:
        """
        Take out of a request to another host what only the host of the service may see.
        """
        address, mark, query = str(request.url).partition('?')
        if mark and self._params:
            query, mark, fragment = query.partition('#')
            query = '&'.join(part for part in query.split('&')
                             if unquote_plus(part) not in self._params)
            request.url = f'{address}?{query}{mark}{fragment}' if query else (
                f'{address}{mark}{fragment}')
        for name in [name for name in request.headers if name.lower() not in _PLAIN]:
            del request.headers[name]
        # Those that a server has set are for its own host.
        cookies = [part for part in str(request.headers.pop('Cookie', '')).split('; ')
                   if part and part.partition('=')[0] not in self._cookies]
        if cookies:
            request.headers['Cookie'] = '; '.join(cookies)

    def _content(self, response: 'requests.Response', clock: Clock) -> io.BytesIO:
        """
        The body of an answer.
        """
        content = io.BytesIO()
        # read1 returns what is there: all else of urllib3 waits for lines, or more, without bounds.
        while chunk := response.raw.read1(_CHUNK, decode_content=False):
            content.write(chunk)
            if content.tell() > MAX_ANSWER:
                raise _too_large(response)
            if not clock.left:
                break
        if not clock.left:  # a body of unknown length that was cut looks like a short one
            raise self._too_late()
        return content


def _parts_of(url: str | None) -> set[str]:
    """
    The parts of the query of an address, each a name and a value.
    """
    return {unquote_plus(part) for part in str(url).partition('?')[2].split('&') if part}


def _is_of(url: str, home: SplitResult) -> bool:
    """
    Whether an address is at the host of another one, or at its better protected side.
    """
    parts = split(url)
    if parts is None or parts.hostname != home.hostname:
        return False
    ports = {'http': 80, 'https': 443}
    port, own = (one.port or ports[one.scheme] for one in (parts, home))
    return (parts.scheme, port) in ((home.scheme, own), ('https', 443 if own == 80 else own))


def _answer(response: 'requests.Response', content: io.BytesIO) -> 'requests.Response':
    """
    A response with its content in memory, and headers that libraries can parse.
    """
    import urllib3

    raw, headers = response.raw, response.headers
    encoding = headers.pop('Content-Encoding', '').strip().lower()
    if encoding in ('gzip', 'x-gzip', 'deflate'):
        content = _unpacked(content, response, encoding)
    elif encoding not in ('', 'identity'):
        raise _unreadable(response, 'its answer is packed in a way that was not asked for')
    wait = retry_after(headers.pop('Retry-After', None))
    if wait is not None:
        headers['Retry-After'] = f'{wait:.0f}'
    for name in ('Transfer-Encoding', 'Content-Length'):  # as it came, which is over
        headers.pop(name, None)
    content.seek(0)
    # Cookies are read from the answer of http.client.
    response.raw = urllib3.HTTPResponse(
        body=content, headers=dict(headers), status=raw.status, version=raw.version,
        reason=raw.reason, preload_content=False, enforce_content_length=False,
        original_response=None if _has_odd_cookies(raw) else getattr(
            raw, '_original_response', None))
    if response.is_redirect:
        try:
            target = headers['Location'].encode('latin-1').decode()
        except UnicodeError:
            target = ''
        if not address(target, str(response.url)):
            raise _unreadable(response, 'it redirects to what is no address')
    return response


def _unreadable(response: 'requests.Response', why: str) -> 'requests.RequestException':
    import requests

    return requests.exceptions.ContentDecodingError(why, request=response.request)


def _too_large(response: 'requests.Response') -> 'requests.RequestException':
    return _unreadable(response, f'its answer is larger than {MAX_ANSWER} bytes')


def _as_requests(error: Exception, request: Any) -> 'requests.RequestException':
    """
    What went wrong while an answer was read, as requests would name it.
    """
    import requests
    import urllib3

    kinds = urllib3.exceptions
    if isinstance(error, ValueError) and not isinstance(error, kinds.HTTPError):
        return requests.exceptions.InvalidURL(error, request=request)
    if isinstance(error, kinds.SSLError):
        return requests.exceptions.SSLError(error, request=request)
    if isinstance(error, kinds.ProtocolError):
        return requests.exceptions.ChunkedEncodingError(error, request=request)
    return requests.ConnectionError(error, request=request)


def _unpacked(content: io.BytesIO, response: 'requests.Response', encoding: str) -> io.BytesIO:
    packed = content.getbuffer()
    for wbits in (15, -15) if encoding == 'deflate' else (31,):  # deflate: with a header, or bare
        try:
            unpacked = zlib.decompressobj(wbits=wbits).decompress(packed, MAX_ANSWER + 1)
        except zlib.error:
            continue
        if len(unpacked) > MAX_ANSWER:
            raise _too_large(response)
        return io.BytesIO(unpacked)
    raise _unreadable(response, 'its answer is damaged')


def _has_odd_cookies(raw: Any) -> bool:
    return any(len(value) > _MAX_COOKIE or _FAR_YEAR.search(value)
               for name, value in raw.headers.items() if name.lower() == 'set-cookie')


class _Mounted:
    """
    An adapter of requests that sends by a `Visit`.
    """

    def __init__(self, visit: Visit, inner: Any):
        self._visit, self.inner = visit, inner

    def send(self, request: Any, **options: Any) -> Any:
        answer: Any = self._visit.send(request, self.inner, **options)
        answer.connection = self  # hooks of credentials ask it once more
        return answer

    def close(self) -> None:
        """
        Nothing: the visit closes its own, and the user theirs.
        """


class _Requests:
    """
    In the place of the module requests.
    """

    def __init__(self, visit: Visit, module: Any):
        self._visit, self.module = visit, module

    def get(self, url: str, **options: Any) -> Any:
        self._visit.trusted.add(host_of(url))
        with self.module.Session() as session:
            self._visit.mount(session)
            return session.get(url, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)
