# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Connections that a stranger's address cannot misuse: guarded, watched, and used again.

An address in an archive's table may point into the private network of whoever reads it. Hence a
name is resolved once, each of its addresses is checked, and a checked one is connected to: no
answer of a name server between the check and the connection can change it.
"""

import contextlib
import functools
import ipaddress
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from ..exceptions import ImageError

if TYPE_CHECKING:
    import requests

__all__ = ['Clock', 'Connections', 'is_private']

_STANDARD_PORTS = {'http': 80, 'https': 443}

# Seconds between two looks at the clocks of the exchanges that are under way.
_TICK = 0.05

# Pools of connections to different hosts that are kept.
_MAX_HOSTS = 64

# Addresses of IPv4 written as ones of IPv6 for translation between the two (RFC 6052).
_NAT64 = ipaddress.ip_network('64:ff9b::/96')


class Clock:
    """
    The time that is left to a download.
    """

    def __init__(self, seconds: float):
        self.deadline = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """
        Seconds left, never negative.
        """
        return max(0.0, self.deadline - time.monotonic())

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """
        Stand still while the server is not to blame.
        """
        left, self.deadline = self.left, math.inf
        try:
            yield
        finally:
            self.deadline = time.monotonic() + left


class Connections:
    """
    Sends requests over connections that all threads share. At the time ``until``
    (``time.monotonic``) it calls ``at_end`` and cuts them; ``trusted``, ``headers``: see `Fetcher`.
    """

    def __init__(self, user_agent: str, n_connections: int, *,
                 trusted: Collection[str] | Callable[[], Collection[str]] = (),
                 headers: Mapping[str, Mapping[str, str]] | None = None,
                 until: float = math.inf, at_end: Callable[[], None] = lambda: None):
        self._user_agent = user_agent
        self._n_connections = n_connections
        self._trusted = trusted
        self._headers = {name.lower(): values for name, values in (headers or {}).items()}
        self._until = until
        self._at_end = at_end
        self._lock = threading.Lock()
        self._exchanges: set[_Exchange] = set()
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None
        self._made: Any = None
        self._proxies: dict[tuple[str, str], dict[str, str]] = {}

    @property
    def closed(self) -> bool:
        """
        Whether nothing new is to be begun.
        """
        return self._closed.is_set()

    def close(self) -> None:
        """
        Cut the exchanges in progress and close all connections.
        """
        self._closed.set()
        with self._lock:
            for exchange in self._exchanges:
                exchange.cut()
            adapter = self._made
        if adapter is not None:
            adapter.close()
        if self._watch is not None:
            self._watch.join()

    @contextlib.contextmanager
    def exchange(self, url: str, clock: Clock, *, data: bytes | None = None,
                 timeout: tuple[float, float]) -> Iterator['requests.Response']:
        """
        Send one request and follow no redirect; the body is not read yet. ``timeout``: seconds to
        connect, and to wait for the next bytes. When the clock's time is over, all is cut.
        """
        import requests

        # Prepared and sent without a session, which would add the credentials of ~/.netrc, the
        # proxies of the system and the cookies of other rows, and read the body of a redirect
        # without bounds.
        request = requests.Request('GET' if data is None else 'POST', url, data=data).prepare()
        request.headers['User-Agent'] = self._user_agent
        # A compressed image gains nothing and could be a decompression bomb.
        request.headers['Accept-Encoding'] = 'identity'
        if data is not None:
            request.headers['Content-Type'] = 'application/x-www-form-urlencoded'
        url = str(request.url)
        parts = urlsplit(url)
        if parts.scheme == 'https' or parts.port:
            request.headers.update(self._headers.get(parts.netloc.lower(), {}))
        host = parts.scheme, parts.netloc
        if host not in self._proxies:  # to look them up takes longer than to send a request
            self._proxies[host] = _environment_proxies(url)
        with self._sent(request, clock, None, timeout=timeout, proxies=self._proxies[host],
                        verify=_certificates(), cert=None) as response:
            yield response

    @contextlib.contextmanager
    def visit(self, request: 'requests.PreparedRequest', clock: Clock, adapter: Any = None, *,
              timeout: Any, verify: Any, cert: Any, proxies: Mapping[str, str] | None
              ) -> Iterator['requests.Response']:
        """
        Send the request of another library, by an adapter of the user if there is one. What it
        says of proxies and certificates comes before what the environment says.
        """
        left = min(max(0.001, clock.left), threading.TIMEOUT_MAX)
        parts = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        timeout = tuple(left if value is None else min(value, left) for value in parts)
        proxies = {**_environment_proxies(str(request.url)), **(proxies or {})}
        with self._sent(request, clock, adapter, timeout=timeout, cert=cert,
                        verify=_certificates() if verify is True else verify,
                        proxies=proxies) as response:
            yield response

    @contextlib.contextmanager
    def _sent(self, request: 'requests.PreparedRequest', clock: Clock, adapter: Any, *,
              proxies: dict[str, str], **options: Any) -> Iterator['requests.Response']:
        """
        The response to a request; its body is not read yet.
        """
        import requests

        url = str(request.url)
        if requests.utils.select_proxy(url, proxies):
            self._check_literal(url)
        elif adapter is not None:
            self._check_resolved(url, clock)
        if adapter is None:
            adapter = self._adapter
        with self._watched(clock), adapter.send(request, stream=True, proxies=proxies,
                                                **options) as response:
            yield response

    @contextlib.contextmanager
    def _watched(self, clock: Clock) -> Iterator[None]:
        """
        Have the connection cut when the time is over.
        """
        # The timeout of a socket is one of each read: a handshake, header or body that drips in
        # byte by byte would hold its thread for as long as the server likes.
        _local.exchange = exchange = _Exchange(self, clock)
        with self._lock:
            self._exchanges.add(exchange)
            if self._watch is None:
                self._watch = threading.Thread(target=self._keep_watch, daemon=True,
                                               name='astroclip-watch')
                self._watch.start()
        try:
            yield
        finally:
            with self._lock:
                self._exchanges.discard(exchange)
            _local.exchange = None
            for connection in exchange.ended:
                connection.close()

    def _keep_watch(self) -> None:
        while not self._closed.wait(_TICK):
            now = time.monotonic()
            over = now > self._until
            if over:
                self._at_end()
            with self._lock:
                for exchange in self._exchanges:
                    if over or now > exchange.clock.deadline:
                        exchange.cut()

    @property
    def _adapter(self) -> Any:
        """
        Keeps the connections.
        """
        with self._lock:
            if self._made is None:
                self._made = _adapter_class()(pool_connections=_MAX_HOSTS,
                                              pool_maxsize=self._n_connections)
            return self._made

    def connect(self, host: str, port: int, timeout: float, clock: Clock, *,
                guarded: bool) -> socket.socket:
        """
        Connect to one of the addresses of a host, with ``timeout`` seconds for each. If any is
        private, a host that is ``guarded`` has to be trusted.
        """
        found = _resolved(host, port, self._left(clock))
        if guarded:
            self._check_addresses(host, port, found)
        failure = None
        for family, kind, protocol, _, address in found:
            if not self._left(clock) or self.closed:
                break
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(min(timeout, self._left(clock)))
                exchange = getattr(_local, 'exchange', None)
                if exchange is not None:
                    exchange.use(connection)  # an attempt that is waited for can be cut as well
                connection.connect(address)
                connection.settimeout(timeout)
                return connection
            except OSError as error:
                connection.close()
                failure = error
        late = failure is None or isinstance(failure, TimeoutError)
        raise ImageError('no_connection' if late else 'unreachable') from failure

    def _left(self, clock: Clock) -> float:
        return max(0.0, min(clock.left, self._until - time.monotonic()))

    def _check_literal(self, url: str) -> None:
        """
        A proxy resolves names itself, and only what needs no resolving can be checked here.
        """
        parts = urlsplit(url)
        host = (parts.hostname or '').rstrip('.')
        port = parts.port or _STANDARD_PORTS[parts.scheme]
        try:
            # Reads also 127.1, 0x7f.1 and 2130706433, as the system does when it connects.
            address = socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            address = host
        with contextlib.suppress(ValueError):
            if (host == 'localhost' or host.endswith('.localhost') or is_private(address)
                    ) and not self._is_trusted(host, port):
                raise self._refusal(host, port, address)

    def _check_resolved(self, url: str, clock: Clock) -> None:
        """
        Check the addresses of a host that an adapter of the user will connect to.
        """
        # It resolves the name once more, and a name server that answers otherwise then is not
        # noticed: only the connections of our own adapter are to what was checked.
        parts = urlsplit(url)
        host = parts.hostname or ''
        port = parts.port or _STANDARD_PORTS[parts.scheme]
        try:
            found = _resolved(host, port, self._left(clock))
        except ImageError as error:
            if error.because.code != 'unknown_host':
                raise
            return  # a name that only the adapter knows
        self._check_addresses(host, port, found)

    def _check_addresses(self, host: str, port: int, found: list[Any]) -> None:
        private = [name for *_, address in found if is_private(name := str(address[0]))]
        if private and not self._is_trusted(host, port):
            raise self._refusal(host, port, private[0])

    def _is_trusted(self, host: str, port: int) -> bool:
        trusted = self._trusted() if callable(self._trusted) else self._trusted
        return not {name.lower() for name in trusted}.isdisjoint(_names(host, port))

    @staticmethod
    def _refusal(host: str, port: int, address: str) -> ImageError:
        code = 'private' if host == address else 'private_name'
        return ImageError(code, host=host, address=address, name=_names(host, port)[-1])


def _resolved(host: str, port: int, seconds: float) -> list[Any]:
    """
    The addresses of a host. The system asks name servers for as long as it likes: whoever waits
    here leaves when the time is over.
    """
    found: list[Any] = []
    failures: list[Exception] = []

    def resolve() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:  # the latter for what cannot be a name
            failures.append(error)

    if _is_literal(host):
        resolve()
    else:
        thread = threading.Thread(target=resolve, daemon=True, name='name server')
        thread.start()
        thread.join(min(seconds, threading.TIMEOUT_MAX))
        if thread.is_alive():
            raise ImageError('no_connection')
    if failures:
        if isinstance(failures[0], OSError):
            raise ImageError('unknown_host') from failures[0]
        raise failures[0]
    return found


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition('%')[0])
    except ValueError:
        return False
    return True


def _environment_proxies(url: str) -> dict[str, str]:
    """
    The proxies that the variables of the environment name for an address; where there are none,
    requests would take those of the system's settings.
    """
    import requests

    proxies = getproxies_environment()
    return proxies if proxies and not requests.utils.should_bypass_proxies(url, None) else {}


def _certificates() -> str | bool:
    """
    The file of certificates that the environment names, or those of requests.
    """
    return os.environ.get('REQUESTS_CA_BUNDLE') or os.environ.get('CURL_CA_BUNDLE') or True


def _names(host: str, port: int) -> list[str]:
    """
    How a host is written in an address, the shortest last.
    """
    name = f'[{host}]' if ':' in host else host
    return [f'{name.lower()}:{port}'] + [name.lower()] * (port in _STANDARD_PORTS.values())


def is_private(address: str) -> bool:
    """
    Whether an IPv4 or IPv6 address, or the IPv4 address that an IPv6 address stands for, does not
    belong to a host of the public internet: it is private, loopback, link-local, multicast...
    """
    value = ipaddress.ip_address(address)
    if value.version == 6:
        embedded = value.ipv4_mapped or value.sixtofour or (value.teredo or (None, None))[1]
        if embedded is None and value in _NAT64:
            embedded = ipaddress.IPv4Address(int(value) & 0xffffffff)
        if embedded is not None:
            return is_private(str(embedded))
        if value.is_site_local:
            return True
    return not value.is_global or value.is_multicast or value.is_reserved


_local = threading.local()  # .exchange: what this thread is doing


class _Exchange:
    """
    A request and its answer, and the connection to cut when there is no more time for them.
    """

    def __init__(self, connections: Connections, clock: Clock):
        self.connections = connections
        self.clock = clock
        self.ended: list[socket.socket] = []
        self._connection: socket.socket | None = None

    def use(self, connection: socket.socket | None) -> None:
        self._connection = connection
        if self.connections.closed:
            self.cut()

    def cut(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)


@functools.cache
def _adapter_class() -> type:
    """
    The adapter of requests, with guarded connections; made when it is needed.
    """
    import requests
    import urllib3

    class Guarded:
        """
        Gets its socket from `Connections`, as urllib3's own support of SOCKS does.
        """

        duplicate: socket.socket | None = None

        def _new_conn(self: Any) -> socket.socket:
            exchange = _local.exchange
            connected = exchange.connections.connect(
                self.host, self.port, self.timeout, exchange.clock, guarded=self.proxy is None)
            for option in self.socket_options or ():
                connected.setsockopt(*option)
            # TLS wraps the socket in another one; whoever cuts this duplicate cuts both.
            self.duplicate = connected.dup()
            exchange.use(self.duplicate)
            return connected

        def request(self, *args, **kwargs):
            _local.exchange.use(self.duplicate)
            return super().request(*args, **kwargs)  # type: ignore[misc]  # of the class it is mixed into

        def close(self):
            super().close()  # type: ignore[misc]  # as above
            if self.duplicate is None:
                return
            # A connection is closed when an answer without a length begins, and still to be cut.
            exchange = getattr(_local, 'exchange', None)
            if exchange is None:
                self.duplicate.close()
            else:
                exchange.ended.append(self.duplicate)
            self.duplicate = None

    pools = {}
    for scheme, pool in (('http', urllib3.HTTPConnectionPool),
                         ('https', urllib3.HTTPSConnectionPool)):
        connection = type('Guarded', (Guarded, pool.ConnectionCls), {})
        pools[scheme] = type(pool.__name__, (pool,), {'ConnectionCls': connection})

    class Adapter(requests.adapters.HTTPAdapter):
        def build_response(self, request, answer):
            # No cookie is kept, and http.cookiejar warns of those that it cannot parse.
            cookies, answer._original_response = answer._original_response, None
            try:
                return super().build_response(request, answer)
            finally:
                answer._original_response = cookies

        def init_poolmanager(self, *args, **kwargs):
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, proxy, **kwargs):
            manager = super().proxy_manager_for(proxy, **kwargs)
            if not proxy.lower().startswith('socks'):
                manager.pool_classes_by_scheme = pools
            return manager

        def close(self):
            for manager in (self.poolmanager, *self.proxy_manager.values()):
                for key in manager.pools.keys():  # noqa: SIM118 - it has no other iterator
                    manager.pools[key].close()  # clearing only forgets them
            super().close()

    return Adapter
