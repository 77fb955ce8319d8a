# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Downloads from a server that misbehaves: each fault is the status of one row, and costs no more
than its share of bytes and of time.
"""

import contextlib
import socket
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from astroclip_search.exceptions import ImageError
from astroclip_search.images import http
from astroclip_search.images.http import Fetcher, Limits
from tests.loopback import until
from tests.loopback.archive import Archive
from tests.loopback.mast import Mast

BODY = bytes(range(256)) * 8
LARGE = bytes(20 * 1024**2)
FILES = {f'mast:T/{name}.jpg': BODY for name in 'abcdefghijklmnop'} | {'mast:T/large.jpg': LARGE}


@pytest.fixture
def server():
    with Mast(Archive([{}], FILES)) as mast:
        yield mast


@pytest.fixture
def fetch(server):
    fetchers = []

    def get(name='a', *, fault=None, url=None, **limits):
        if fault is not None:
            server.faults[''] = fault
        url = url or address(server, name)
        fetcher = trusting(url, **{'row_timeout': 30, **limits})
        fetchers.append(fetcher)
        with fetcher.open(url) as content:
            return content

    yield get
    for fetcher in fetchers:
        fetcher.close()


def trusting(url, *, user_agent='astroclip_search', **limits):
    """
    A fetcher that may ask this host although it is at a private address.
    """
    return Fetcher(Limits(**limits), user_agent, trusted=[url.split('/')[2]] if '//' in url else [])


def address(server, name):
    return f'{server.url}/api/v0.1/Download/file?uri=mast:T/{name}.jpg'


def refused(fetch, match, status='ERROR', **options):
    started = time.monotonic()
    with pytest.raises(ImageError, match=match) as caught:
        fetch(**options)
    assert caught.value.status == status
    assert caught.value.url.startswith('http')
    assert '\n' not in caught.value.reason
    return time.monotonic() - started


def test_a_body_arrives_whole(fetch, server):
    assert fetch() == BODY
    assert fetch('large') == LARGE
    assert server.downloads() == ['mast:T/a.jpg', 'mast:T/large.jpg']


def test_redirects_are_followed(fetch, server):
    assert fetch(fault='redirect') == BODY
    assert server.downloads() == ['mast:T/a.jpg', '/static/mast:T/a.jpg']


def test_a_redirect_loop_ends(fetch, server):
    refused(fetch, 'more than 5 redirects', fault='redirect-loop')
    assert len(server.log) == 6


@pytest.mark.parametrize('target', ['file:///etc/hostname', 'ftp://example.org/a', 'data:,a'])
def test_a_redirect_leads_to_http_only(fetch, server, target):
    refused(fetch, r'not an http or https address \(redirected to', fault=f'redirect:{target}')
    assert len(server.log) == 1


@pytest.mark.parametrize(('code', 'status'), [
    (401, 'DENIED'), (403, 'DENIED'), (404, 'ERROR'), (410, 'ERROR'), (304, 'ERROR'),
    (204, 'NO_IMAGE'), (416, 'ERROR')])
def test_answers_that_will_not_change_are_not_asked_for_again(fetch, server, code, status):
    refused(fetch, f'HTTP {code}', status, fault=f'status:{code}')
    assert len(server.log) == 1


@pytest.mark.parametrize('fault', ['status:429:0*1', 'status:503:0*2', 'status:500:0*2',
                                   'status:429:date*1', 'reset*1', 'cut*1'])
def test_what_may_pass_is_tried_again(fetch, server, hurry, fault):
    assert fetch(fault=fault) == BODY
    assert len(server.log) == 1 + int(fault[-1])


def test_retries_are_counted_and_can_be_switched_off(fetch, server, hurry):
    refused(fetch, 'HTTP 503', fault='status:503:0')
    assert len(server.log) == 3
    refused(fetch, 'HTTP 503', name='b', retries=0)
    assert len(server.log) == 4
    refused(fetch, 'the connection was broken', name='c', fault='reset', retries=1)
    assert len(server.log) == 6


def test_retry_after_is_respected(fetch, server):
    started = time.monotonic()
    assert fetch(fault='status:429:1*1') == BODY
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize('wait', ['3600', 'inf', '9' * 5000, 'Fri, 31 Dec 9999 23:59:59 GMT'])
def test_a_wait_beyond_the_time_of_the_row_is_not_begun(fetch, server, wait):
    assert refused(fetch, 'HTTP 429', fault=f'status:429:{wait}') < 15
    assert len(server.log) == 1


@pytest.mark.parametrize('wait', ['soon', '²', 'Fri, 31 Dec 99999 23:59:59 GMT', ', , ,'])
def test_an_unreadable_retry_after_is_ignored(fetch, hurry, wait):
    assert fetch(fault=f'status:503:{wait}*1') == BODY


def test_retry_after_in_the_year_one_is_over(fetch):
    assert fetch(fault='status:503:Mon, 01 Jan 0001 00:00:00 GMT*1') == BODY


@pytest.mark.parametrize('target', ['http://[::1', 'http://h:99999/', 'http://h:²/',
                                    'http://' + 'a' * 64 + '/', 'http://h/' + 'x' * 20_000])
def test_a_redirect_to_no_address(fetch, server, target):
    refused(fetch, r'not an http or https address \(redirected to', fault=f'redirect:{target}')
    assert len(server.log) == 1


def test_a_broken_connection_is_told(fetch):
    refused(fetch, 'the connection was broken', fault='cut', retries=0)


def test_a_large_body_that_breaks_is_asked_for_again(fetch, server, hurry):
    """
    The turn that large bodies wait for is still held by the first try.
    """
    assert fetch('large', fault='cut*1') == LARGE


def test_pages_and_empty_bodies_are_left_to_the_decoder(fetch):
    assert fetch(fault='html').startswith(b'<!DOCTYPE html>')
    assert fetch(fault='empty') == b''


@pytest.mark.parametrize('url', [
    'file:///etc/hostname', 'ftp://example.org/a.jpg', 'javascript:alert(1)', 'a.jpg', '',
    '/etc/hostname', 'http://', 'http:///a.jpg', 'http://[::1', 'mast:T/a.jpg', 'http://a b/',
    'http://\0/', 'http://\ud800/'])
def test_only_http_and_https(url):
    with (Fetcher(Limits()) as fetcher, pytest.raises(ImageError, match='not an http or https'),
          fetcher.open(url)):
        pass


@pytest.mark.parametrize('url', [
    'http://a..b/', 'http://*.x/', 'http://h:99999/', 'http://h:x/',
    'http://' + 'a' * 300 + '/', 'http://h\r\nHost: evil/'])
def test_addresses_without_meaning(fetch, url):
    refused(fetch, 'invalid request', url=url)


def test_a_server_that_is_not_there(fetch, monkeypatch):
    monkeypatch.setattr(http, 'BACK_OFF', 8)  # it is not tried again
    with socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{closed.getsockname()[1]}/a.jpg'
        assert refused(fetch, 'the server cannot be reached', url=url) < 4


def test_a_server_without_tls(fetch, server):
    refused(fetch, 'no secure connection', url=server.url.replace('http:', 'https:'))


# ---- bounds ------------------------------------------------------------------------------


def test_a_drip_ends_with_the_time_of_the_row(fetch):
    waited = refused(fetch, r'took longer than 1 s \(conf.row_timeout\)', fault='drip:0.02',
                     row_timeout=1)
    assert 1 <= waited < 15, 'the last byte comes after 40 s'


def test_no_answer_ends_with_the_timeout(fetch, server):
    assert refused(fetch, 'no answer in time', fault='hang', timeout=0.2) < 15
    until(lambda: server.log)  # it may read a request when its sender has gone
    assert len(server.log) == 1
    waited = refused(fetch, 'no answer in time|took longer', name='b', timeout=60, row_timeout=1)
    assert waited < 15


def trickle(connection, pieces, stop):
    """
    Send pieces slowly until the other side leaves.
    """
    with connection:
        connection.recv(4096)
        for piece in pieces:
            if stop.wait(0.02):
                return
            try:
                connection.sendall(piece)
            except OSError:
                return


def raw_server(pieces):
    """
    A server that says what it likes, one piece at a time.
    """
    listener = socket.create_server(('127.0.0.1', 0))
    listener.settimeout(5)
    stop = threading.Event()

    def serve():
        with listener, contextlib.suppress(TimeoutError):
            connection, _ = listener.accept()
            trickle(connection, pieces, stop)

    thread = threading.Thread(target=serve)
    thread.start()

    def close():
        stop.set()
        thread.join()

    return f'http://127.0.0.1:{listener.getsockname()[1]}/a.jpg', close


@pytest.mark.parametrize('pieces', [
    [b'HTTP/1.1 200 OK\r\nX: '] + [b'x'] * 1000,
    [b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n'] + [b'x'] + [b''] * 1000])
def test_slow_headers_and_stalled_bodies_end_too(fetch, pieces):
    url, close = raw_server(pieces)
    try:
        assert refused(fetch, 'took longer than|no answer in time|was broken', url=url,
                       row_timeout=1) < 15, 'the last piece comes after 20 s'
    finally:
        close()


@pytest.mark.parametrize(('header', 'match'), [
    (b'Content-Length: ' + b'9' * 5000, 'larger than'), (b'Content-Length: \xb2', ''),
    (b'Content-Length: -1', ''), (b'Content-Length: 1_0', 'broken'),
    (b'Content-Encoding: \xff', ''), (b'Content-Type: ' + b'\xff' * 9000, ''),
    (b'Set-Cookie: a=b; expires=Fri, 31-Dec-' + b'9' * 5000, ''), (b'no colon', ''),
    (b' folded: before any', ''), (b'X: \x00\x1b[31m', ''),
    (b'X-Padding: 1\r\n' * 200 + b'X: 1', 'broken'), (b'X: ' + b'x' * 70_000, 'broken')])
def test_odd_headers(fetch, header, match):
    url, close = raw_server([b'HTTP/1.1 200 OK\r\n' + header + b'\r\n\r\nwords'])
    try:
        if match:
            refused(fetch, match, url=url, retries=0)
        else:
            assert fetch(url=url).endswith(b'words')
    finally:
        close()


@pytest.mark.parametrize('size', [b'-5', b'\xb2', b'f' * 5000, b'f' * 70_000, b'',
                                  b'5;' + b'x' * 999])
def test_odd_sizes_of_chunks(fetch, size):
    url, close = raw_server([b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
                             size + b'\r\nwords\r\n0\r\n\r\n'])
    try:
        if b';' in size:
            assert fetch(url=url) == b'words'
        else:
            refused(fetch, 'broken', url=url, retries=0)
    finally:
        close()


def test_a_redirect_whose_body_is_longer_than_it_says(fetch):
    """
    Nobody reads on to use the connection again.
    """
    header = (b'HTTP/1.1 302 Found\r\nLocation: file:///a\r\nContent-Length: 5\r\n'
              b'Transfer-Encoding: chunked\r\n\r\n')
    url, close = raw_server([header, *[b'10000\r\n' + bytes(0x10000) + b'\r\n'] * 200])
    try:
        assert refused(fetch, 'redirected to', url=url) < 3, 'all of it comes in 4 s'
    finally:
        close()


def test_what_follows_an_early_answer_is_not_the_next_one():
    asked = []

    def serve(listener):
        with listener, contextlib.suppress(OSError):
            for body in (b'first', b'second'):
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(4096))
                    early = b'HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n'
                    connection.sendall((early if body == b'first' else b'') + b'HTTP/1.1 200 OK\r\n'
                                       b'Content-Length: %d\r\n\r\n%s' % (len(body), body))
                    connection.settimeout(2)
                    connection.recv(4096)  # empty where the other side has gone

    listener = socket.create_server(('127.0.0.1', 0))
    listener.settimeout(5)
    url = f'http://127.0.0.1:{listener.getsockname()[1]}/'
    thread = threading.Thread(target=serve, args=[listener])
    thread.start()
    with trusting(url, n_connections=1) as fetcher:
        with pytest.raises(ImageError, match='HTTP 103'), fetcher.open(f'{url}a.jpg'):
            pass
        with fetcher.open(f'{url}b.jpg') as content:
            assert content == b'second'
    thread.join()
    assert [request.split()[1] for request in asked] == [b'/a.jpg', b'/b.jpg']


def test_a_name_server_that_does_not_answer(monkeypatch):
    stop = threading.Event()
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *args, **kwargs: stop.wait(20) and [])
    with Fetcher(Limits(row_timeout=0.3, retries=0)) as fetcher:
        started = time.monotonic()
        with pytest.raises(ImageError, match='no connection in time'):
            fetcher.open('http://archive.example/a.jpg').__enter__()
        assert time.monotonic() - started < 3
    stop.set()


def test_nonsense_instead_of_http(fetch):
    url, close = raw_server([b'SSH-2.0-OpenSSH_9.6\r\n\r\n'])
    try:
        refused(fetch, 'the connection was broken', url=url, retries=0)
    finally:
        close()


@pytest.mark.parametrize('fault', ['huge', 'endless'])
def test_no_more_bytes_than_allowed_are_read(fetch, fault):
    tracemalloc.start()
    refused(fetch, r'larger than 1000000 bytes \(conf.max_bytes\)', fault=fault,
            max_bytes=1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_at_most_so_many_connections_to_a_host(server):
    def together():
        until(lambda: server.max_in_flight >= 3)
        return BODY

    server.latency = 0.03
    server.archive.files = dict.fromkeys(FILES, together)
    with trusting(server.url, n_connections=3) as fetcher, ThreadPoolExecutor(12) as threads:
        def get(name):
            with fetcher.open(address(server, name)) as content:
                return content
        assert list(threads.map(get, 'abcdefghijklmnop')) == [BODY] * 16
    assert server.max_in_flight == 3


def test_waiting_for_a_turn_does_not_use_up_the_time(server):
    server.latency = 0.15
    with (trusting(server.url, n_connections=1, row_timeout=1) as fetcher,
          ThreadPoolExecutor(10) as threads):
        def get(name):
            with fetcher.open(address(server, name)) as content:
                return content
        assert list(threads.map(get, 'abcdefghij')) == [BODY] * 10  # the last after 1.35 s


def test_large_bodies_are_held_one_at_a_time(server):
    held = []
    most = []
    with trusting(server.url) as fetcher, ThreadPoolExecutor(4) as threads:
        def get(name):
            with fetcher.open(address(server, name)) as content:
                held.append(name)
                most.append(held.count('large'))
                time.sleep(0.02)
                held.remove(name)
                return len(content)
        sizes = list(threads.map(get, ['large', 'a', 'large', 'b', 'large', 'c']))
    assert sizes == [len(LARGE), len(BODY)] * 3
    assert max(most) == 1


@pytest.mark.parametrize('fault', ['hang', 'drip:0.05', 'endless', 'status:503:60'])
def test_closing_ends_the_downloads_at_once(server, fault):
    server.faults[''] = fault
    fetcher = trusting(server.url, n_connections=2, max_bytes=10**12, row_timeout=600, timeout=600)

    def get(name):
        with fetcher.open(address(server, name)) as content:
            return content

    with ThreadPoolExecutor(4) as threads:
        # Two are under way and two wait for their turn, or all but one for the end of its pause.
        futures = [threads.submit(get, name) for name in 'abcd']
        until(lambda: len(server.log) >= (1 if fault.startswith('status') else 2))
        started = time.monotonic()
        fetcher.close()
        for future in futures:
            with pytest.raises(ImageError, match='interrupted'):
                future.result(timeout=30)
    assert time.monotonic() - started < 15


def test_a_closed_fetcher_asks_nothing(server):
    fetcher = trusting(server.url)
    fetcher.close()
    with pytest.raises(ImageError, match='interrupted'), fetcher.open(address(server, 'a')):
        pass
    assert server.log == []


def test_the_archive_can_tell_who_asks():
    seen = []
    listener = socket.create_server(('127.0.0.1', 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            seen.append(connection.recv(4096).decode())
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx')

    thread = threading.Thread(target=serve)
    thread.start()
    url = f'http://127.0.0.1:{listener.getsockname()[1]}/'
    with listener, trusting(url, user_agent='astroclip_search/1.2') as fetcher:
        with fetcher.open(url) as content:
            assert content == b'x'
        thread.join()
    assert seen[0].startswith('GET / HTTP/1.1\r\n')
    assert 'User-Agent: astroclip_search/1.2\r\n' in seen[0]
    assert 'Accept-Encoding: identity\r\n' in seen[0]


def test_connections_are_used_again(server):
    with trusting(server.url) as fetcher:
        for name in 'abcdef':
            with fetcher.open(address(server, name)) as content:
                assert content == BODY
    assert server.connections == 1


# ---- politeness --------------------------------------------------------------------------


def together(server, names, **limits):
    """
    Outcomes of downloads at the same time, bodies or reasons, and the time they took.
    """
    with trusting(server.url, **limits) as fetcher, ThreadPoolExecutor(12) as threads:
        def get(name):
            try:
                with fetcher.open(address(server, name)) as content:
                    return content
            except ImageError as error:
                return f'{error.status} {error.reason}'
        started = time.monotonic()
        return list(threads.map(get, names)), time.monotonic() - started


def test_many_downloads_take_few_connections(server):
    outcomes, _ = together(server, 'abcdefghij' * 20)
    assert outcomes == [BODY] * 200
    assert server.connections <= 5


def test_connections_outlive_failures(server):
    server.faults |= {f'T/{name}.': 'status:404' for name in 'abcde'}
    outcomes, _ = together(server, 'abcdefghij' * 4, n_connections=2)
    assert outcomes.count(BODY) == outcomes.count('ERROR HTTP 404') == 20
    assert server.connections <= 2


def test_a_pause_is_one_of_all_rows(server):
    server.faults['T/a.'] = 'status:429:1*1'
    with trusting(server.url, n_connections=2) as fetcher, ThreadPoolExecutor(4) as threads:
        def get(name):
            with fetcher.open(address(server, name)) as content:
                return content, time.monotonic()
        started = time.monotonic()
        first = threads.submit(get, 'a')
        until(lambda: any(host.pause_reason for host in list(fetcher._hosts.values())))
        others = list(threads.map(get, 'bcdef'))
    assert first.result()[0] == BODY
    assert all(content == BODY and at - started >= 1 for content, at in others)


def test_a_pause_that_is_too_long_ends_all_rows_at_once(server):
    server.faults[''] = 'status:503:3600'
    outcomes, elapsed = together(server, 'abcdefghij', n_connections=2)
    assert all(outcome.startswith('ERROR HTTP 503: the server asks to wait 3') for outcome in
               outcomes)
    times = {outcome.partition('call again after ')[2] for outcome in outcomes}
    assert len(times) <= 2, 'all say when to come back, to the minute'
    then = [datetime.strptime(f'{found}+0000', '%Y-%m-%d %H:%M UTC%z') for found in times]
    assert all(3500 < (at - datetime.now(UTC)).total_seconds() <= 3661 for at in then)
    assert elapsed < 15
    assert len(server.log) <= 2


def test_waits_grow_and_differ(server, monkeypatch):
    monkeypatch.setattr(http, 'BACK_OFF', 0.1)
    server.faults[''] = 'status:503'
    waits = []
    for name in 'abc':
        server.clear()
        with trusting(server.url, retries=2) as fetcher:
            stop, times = fetcher._stop, []
            monkeypatch.setattr(stop, 'wait', times.append)
            with pytest.raises(ImageError, match='HTTP 503'), fetcher.open(address(server, name)):
                pass
        assert len(server.log) == 3
        assert 0.05 <= times[0] <= 0.15
        assert 0.1 <= times[1] <= 0.3
        waits += times
    assert len(set(waits)) == 6


@pytest.mark.parametrize('attempt', [4, 10, 10**6])
def test_a_wait_is_never_long(attempt):
    assert all(4 <= http.back_off(attempt) <= 12 for _ in range(100))


def test_a_server_that_is_down_is_given_up(server):
    server.faults[''] = 'hang'
    outcomes, elapsed = together(server, 'abcdefghij' * 50, timeout=0.2, n_connections=5)
    assert elapsed < 15, 'one after the other they would take 20 s'
    asked = outcomes.count('ERROR no answer in time')
    assert 10 <= asked <= 15
    told = 'ERROR given up: the server did not answer 10 times in a row'
    assert outcomes.count(told) == 500 - asked
    until(lambda: len(server.log) >= asked)  # it may read a request when its sender has gone
    assert len(server.log) == asked


def test_a_server_that_answers_now_and_then_is_not_given_up(server):
    server.faults |= {f'T/{name}.': 'hang' for name in 'abcdefgh'}
    patient, impatient = Limits(), Limits(timeout=0.02)
    with trusting(server.url) as fetcher:
        for name in 'abcdefghi' * 3:
            fetcher.limits = patient if name == 'i' else impatient
            outcome = (contextlib.nullcontext() if name == 'i' else
                       pytest.raises(ImageError, match='no answer in time'))
            with outcome, fetcher.open(address(server, name)) as content:
                assert content == BODY


@pytest.mark.parametrize('fault', ['hang', 'drip:0.05', 'endless', 'status:503:0', 'status:429:20'])
def test_a_query_ends(server, fault):
    server.faults['T/a.'] = fault
    outcomes, elapsed = together(server, 'abbbb' + 'a' * 20, n_connections=2, query_timeout=0.5,
                                 retries=10**6, max_bytes=10**12)
    assert elapsed < 15
    told = ('SKIPPED the query took longer than 0.5 s (conf.query_timeout): call again to go on')
    assert set(outcomes) <= {BODY, told}
    assert outcomes.count(told) >= 21


def test_a_query_without_an_end(server):
    server.latency = 0.1
    assert together(server, 'ab', query_timeout=0)[0] == [BODY] * 2
