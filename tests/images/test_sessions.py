# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Other libraries ask within our bounds: of bytes and time, of hosts, of credentials.
"""

import gzip
import math
import threading
import time
import types
import zlib

import pytest
import requests

from astroclip_search.images import sessions
from astroclip_search.images.sessions import Visit
from tests.images.test_guard import Recorder
from tests.loopback.faults import FAULTS, FaultyServer, pieces


@pytest.fixture
def server():
    with Recorder() as server:
        yield server


@pytest.fixture
def other():
    with Recorder() as other:
        yield other


@pytest.fixture(autouse=True)
def _netrc(monkeypatch, tmp_path):
    (tmp_path / 'netrc').write_text('default login me password secret\n')
    monkeypatch.setenv('NETRC', str(tmp_path / 'netrc'))


def visit(*servers, seconds=20.0, **options):
    return Visit(seconds=seconds, timeout=(5.0, 5.0), trusted=[one.host for one in servers],
                 **options)


def get(server, *others, path='/', session=None, **options):
    with visit(server, *others, **options) as asked:
        session = session or requests.Session()
        asked.mount(session)
        return session.get(server.url + path)


# ---- answers -----------------------------------------------------------------------------


def test_an_answer_is_what_a_library_expects(server):
    server.answer = 200, {'Content-Type': 'text/plain', 'X-Other': 'b'}, b'words'
    answer = get(server)
    assert (answer.status_code, answer.text, answer.headers['X-Other']) == (200, 'words', 'b')
    with visit(server) as asked:
        session = requests.Session()
        asked.mount(session)
        raw = session.get(server.url, stream=True).raw
        assert (raw.read(2), raw.read()) == (b'wo', b'rds')
        assert session.post(server.url, data={'a': 'b'}).text == 'words'
    assert server.requests[-1][3] == b'a=b'


@pytest.mark.parametrize(('encoding', 'pack'), [
    ('gzip', gzip.compress), ('X-GZIP', gzip.compress), ('deflate', zlib.compress),
    ('deflate', lambda content: zlib.compress(content)[2:-4])])
def test_a_packed_answer(server, monkeypatch, encoding, pack):
    server.answer = 200, {'Content-Encoding': encoding}, pack(b'words' * 1000)
    assert get(server).content == b'words' * 1000
    monkeypatch.setattr(sessions, 'MAX_ANSWER', 4999)
    with pytest.raises(requests.RequestException, match='larger than 4999 bytes'):
        get(server)


@pytest.mark.parametrize(('headers', 'match'), [
    ({'Content-Encoding': 'gzip'}, 'damaged'), ({'Content-Encoding': 'br'}, 'not asked for'),
    ({'Content-Encoding': '\xff'}, 'not asked for')])
def test_an_answer_that_cannot_be_unpacked(server, headers, match):
    server.answer = 200, headers, b'words'
    with pytest.raises(requests.RequestException, match=match):
        get(server)


@pytest.mark.parametrize('fault', [
    'header that comes byte by byte', '100 Continue without end', 'no answer', 'body without end',
    'chunk size that comes byte by byte', 'body that comes byte by byte'])
def test_an_answer_without_end(fault):
    started = time.monotonic()
    with FaultyServer() as server, pytest.raises(requests.ReadTimeout, match=r'longer than 0\.4 s'):
        get(server, path='/' + fault.replace(' ', '_') + '/', seconds=0.4)
    assert time.monotonic() - started < 4


def test_one_clock_for_all_requests_or_each(server):
    server.answer = 200, {}, b'x'
    with visit(server, seconds=0.3) as asked, visit(server, seconds=0.3, each=True) as each:
        threading.Event().wait(0.35)
        for one in (asked, each):
            session = requests.Session()
            one.mount(session)
            if one is each:
                assert session.get(server.url).content == b'x'
            else:
                with pytest.raises(requests.ReadTimeout):
                    session.get(server.url)
        assert asked.is_over
        assert not each.is_over
    assert len(server.requests) == 1


def test_without_end_and_without_a_clock(server):
    assert get(server, seconds=math.inf).content == b'x'


@pytest.mark.parametrize('target', [
    'http://[::1', 'http://h:99999/', 'file:///etc/hostname', '\xff\xfe:', 'http://h:²/'])
def test_a_redirect_to_no_address(server, target):
    server.answer = 302, {'Location': target}, b''
    with pytest.raises(requests.RequestException, match=r'no address|redirects'):
        get(server)


def test_a_redirect_to_another_private_host(server, other):
    server.answer = 302, {'Location': other.url}, b''
    with pytest.raises(requests.RequestException, match='is a private address'):
        get(server)
    assert other.connections == 0
    assert get(server, other).content == b'x'


def test_what_may_pass_is_asked_for_again(server):
    pauses = []
    server.answer = 503, {'Retry-After': 'Fri, 31 Dec 9999 23:59:59 GMT'}, b''
    options = {'again': [503], 'retries': 2, 'pause': lambda n: pauses.append(n) or 0.0}
    answer = get(server, **options)
    assert (answer.status_code, answer.headers['Retry-After']) == (503, '1000000000')
    assert (len(server.requests), pauses) == (3, [0, 1])
    with visit(server, **options) as asked:
        session = requests.Session()
        asked.mount(session)
        session.post(server.url)
    assert len(server.requests) == 4


def test_an_answer_in_chunks():
    answer = (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
              b'3\r\nwor\r\n2\r\nds\r\n0\r\n\r\n')
    with FaultyServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAULTS, 'chunks', pieces(answer))
        for stream in (False, True):
            with visit(server) as asked:
                session = requests.Session()
                asked.mount(session)
                answered = session.get(f'{server.url}/chunks/', stream=stream)
                assert (answered.raw.read() if stream else answered.content) == b'words'


def test_an_address_that_no_codec_takes(server):
    server.answer = 302, {'Location': 'http://a..b/'}, b''
    with pytest.raises(requests.RequestException):
        get(server)


# ---- who asks ----------------------------------------------------------------------------


def test_neither_netrc_nor_settings_of_the_system(server, other, monkeypatch):
    monkeypatch.setattr('urllib.request.getproxies', lambda: {'http': other.url})
    monkeypatch.setattr('requests.utils.getproxies', lambda: {'http': other.url})
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    assert get(server).content == b'x'
    assert other.connections == 0
    assert 'Authorization' not in server.requests[0][2]


def test_proxies_are_those_of_the_environment(server, other, monkeypatch):
    for name in ('no_proxy', 'NO_PROXY', 'HTTP_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('http_proxy', other.url)
    with visit(server) as asked:
        session = requests.Session()
        asked.mount(session)
        session.get('http://archive.example/a')
        monkeypatch.setenv('no_proxy', '127.0.0.1')
        session.get(server.url)
    assert [path for _, path, *_ in other.requests] == ['http://archive.example/a']
    assert len(server.requests) == 1


def test_credentials_are_for_the_service(server, other):
    session = requests.Session()
    session.auth = 'me', 'word'
    session.headers['X-Api-Key'] = 'key'
    session.cookies['token'] = 'abc'
    server.answer = 302, {'Location': f'{other.url}/b', 'Set-Cookie': 'own=1; Path=/'}, b''
    assert get(server, other, session=session, home=server.url + '/tap').content == b'x'
    (_, _, mine, _), (_, _, moved, _) = *server.requests, *other.requests
    assert mine['Authorization'].startswith('Basic')
    assert (mine['X-Api-Key'], mine['Cookie']) == ('key', 'token=abc')
    assert not {'Authorization', 'X-Api-Key'} & set(moved)
    assert 'abc' not in str(moved)


def test_a_cookie_of_a_far_year(server):
    server.answer = 200, {'Set-Cookie': 'a=b; expires=Fri, 31-Dec-' + '9' * 5000}, b'x'
    assert get(server).content == b'x'
    server.answer = 200, {'Set-Cookie': 'a=b'}, b'x'
    session = requests.Session()
    get(server, session=session)
    assert session.cookies['a'] == 'b'


def test_adapters_of_the_user_are_asked(server, monkeypatch):
    class Adapter(requests.adapters.HTTPAdapter):
        sent = 0

        def send(self, *args, **kwargs):
            Adapter.sent += 1
            return super().send(*args, **kwargs)

    session = requests.Session()
    session.mount('http://', Adapter())
    assert get(server, session=session).content == b'x'
    assert Adapter.sent == 1
    session.close()


def test_a_module_that_asks_by_itself(server):
    module = types.SimpleNamespace(requests=requests)
    with visit() as asked, asked.in_place_of_requests(module):
        assert module.requests.get(server.url, params={'a': 'b'}).content == b'x'
        assert module.requests.Session is requests.Session
    assert module.requests is requests
    assert 'Authorization' not in server.requests[0][2]
