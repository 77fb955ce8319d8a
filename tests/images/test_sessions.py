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
from pyvo.auth import COOKIE, AuthSession

from astroclip_search.exceptions import ImageError
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


class Adapter(requests.adapters.HTTPAdapter):
    """One of the user's, which keeps what it was told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def send(self, request, **options):
        self.told.append((request.url, options['cert']))
        return super().send(request, **options | {'cert': None})


def test_adapters_of_the_user_ask_no_private_host(server, other):
    session = requests.Session()
    session.mount('http://', Adapter())
    assert get(server, session=session).content == b'x'
    assert len(session.get_adapter('http://a').inner.told) == 1
    server.answer = 302, {'Location': other.url}, b''
    with pytest.raises(requests.RequestException, match='is a private address'):
        get(server, session=session)
    assert other.connections == 0
    session.close()


@pytest.mark.parametrize('fault', ['header that comes byte by byte', 'body without end'])
def test_adapters_of_the_user_have_no_more_time(fault):
    session = requests.Session()
    session.mount('http://', Adapter())
    started = time.monotonic()
    with FaultyServer() as server:
        with pytest.raises(requests.ReadTimeout, match=r'longer than 0\.3 s'):
            get(server, path='/' + fault.replace(' ', '_') + '/', seconds=0.3, session=session)
        assert time.monotonic() - started < 4
    session.close()


def test_names_that_only_an_adapter_knows(server):
    class Tunnel(requests.adapters.HTTPAdapter):
        def send(self, request, **options):
            request.url = server.url
            return super().send(request, **options)

    with visit() as asked, pytest.MonkeyPatch.context() as patch:
        patch.setattr('astroclip_search.images.guard._resolved', refuse)
        session = requests.Session()
        session.mount('http://', Tunnel())
        asked.mount(session)
        assert session.get('http://archive.invalid/').content == b'x'


def refuse(*_):
    raise ImageError('unknown_host')


class Digest(Recorder):
    """Asks for a digest, of whoever comes without one."""

    @property
    def answer(self):
        return (200 if 'Authorization' in self.requests[-1][2] else 401,
                {'WWW-Authenticate': 'Digest realm="a", nonce="b", qop="auth"'}, b'x')

    @answer.setter
    def answer(self, _):
        pass


def test_a_digest_is_for_the_service(server):
    with Digest() as asking:
        def session():
            session = requests.Session()
            session.auth = requests.auth.HTTPDigestAuth('me', 'word')
            return session

        assert get(asking, session=session(), home=asking.url).status_code == 200
        assert [headers.get('Authorization', '')[:6] for _, _, headers, _ in asking.requests] == [
            '', 'Digest']
        asking.requests.clear()
        server.answer = 302, {'Location': asking.url}, b''
        assert get(server, asking, session=session(), home=server.url).status_code == 401
        assert len(asking.requests) == 1


def test_certificates_and_parameters_are_for_the_service(server, other):
    session, adapter = requests.Session(), Adapter()
    session.mount('http://', adapter)
    session.cert, session.params = 'mine.pem', {'token': 'a b', 'n': [1, 2]}
    server.answer = 302, {'Location': f'{other.url}/b?token=a%20b&c=d'}, b''
    with visit(server, other, home=server.url) as asked:
        asked.mount(session)
        session.get(server.url + '/a')
        session.get(other.url + '/c', params={'c': 'd'})
        session.get(other.url + '/d')
    session.close()
    assert adapter.told == [
        (f'{server.url}/a?token=a+b&n=1&n=2', 'mine.pem'), (f'{other.url}/b?c=d', None),
        (f'{other.url}/c?c=d', None), (f'{other.url}/d', None)]


class Session(requests.Session):
    """One of the user's, with an adapter that is mounted nowhere."""

    def __init__(self):
        super().__init__()
        self.mine = requests.adapters.HTTPAdapter()

    def get_adapter(self, url):
        return self.mine


class OfMemory(requests.Session):
    """One that asks nobody."""

    def request(self, method, url, **options):
        answer = requests.Response()
        answer.url = url
        return answer


def test_copies_of_sessions(server, other):
    looked = []
    login = AuthSession()
    login.credentials.set_cookie('token', 'abc')
    login.add_security_method_for_url(server.url, COOKIE)
    sessions = [requests.Session(), Session(), login]
    with visit(server, read=looked.append) as asked:
        for session in sessions:
            copied = asked.stand_in(session)
            assert type(copied) is type(session)
            server.answer = 200, {}, b'x'
            assert copied.get(server.url).content == b'x'
            server.answer = 302, {'Location': other.url}, b''
            with pytest.raises(requests.RequestException, match='is a private address'):
                copied.get(server.url)
        assert server.requests[-1][2]['Cookie'] == 'token=abc'
        assert len(looked) == 3
        asked.stand_in(OfMemory()).get('http://a/')
        assert [answer.url for answer in looked[3:]] == ['http://a/']
        login.credentials.set('other', object())
        assert asked.stand_in(object()) is None
        assert asked.stand_in(login) is None
    assert other.connections == 0
    assert type(sessions[0].get_adapter('http://a')) is requests.adapters.HTTPAdapter
    assert all('get_adapter' not in vars(session) for session in sessions)


def test_a_module_that_asks_by_itself(server):
    module = types.SimpleNamespace(requests=requests)
    with visit() as asked, asked.in_place_of_requests(module):
        assert module.requests.get(server.url, params={'a': 'b'}).content == b'x'
        assert module.requests.Session is requests.Session
    assert module.requests is requests
    assert 'Authorization' not in server.requests[0][2]
