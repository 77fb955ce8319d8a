# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
No address in a table leads into a private network, however it is written, and no secret leaves
for another host.
"""

import contextlib
import ipaddress
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search.exceptions import ImageError
from astroclip_search.images.guard import is_private
from astroclip_search.images.http import Fetcher, Limits


class Recorder:
    """
    A server, or proxy, that keeps the requests it gets.
    """

    def __init__(self, answer=(200, {}, b'x')):
        self.requests = []
        self.connections = 0
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            wbufsize = 1 << 16

            def setup(self):
                super().setup()
                recorder.connections += 1

            def do_GET(self):
                length = int(self.headers.get('Content-Length', 0))
                recorder.requests.append((self.command, self.path, dict(self.headers),
                                          self.rfile.read(length)))
                status, headers, content = recorder.answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header('Content-Length', str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815 - named by http.server

            def log_message(self, *args):
                pass

        self.answer = answer
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.port = self.server.server_address[1]
        self.host = f'127.0.0.1:{self.port}'
        self.url = f'http://{self.host}'
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server():
    with Recorder() as server:
        yield server


@pytest.fixture
def other():
    with Recorder() as other:
        yield other


def get(url, *, data=None, limits=None, **options):
    limits = limits or Limits(retries=0)
    with Fetcher(limits, **options) as fetcher, fetcher.open(url, data=data) as content:
        return content


def names(monkeypatch, **addresses):
    """
    A name server of our own; how often it was asked.
    """
    asked = []
    resolve = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        name = str(host).partition('.')[0]
        if name not in addresses:
            return resolve(host, port, *args, **kwargs)
        asked.append(host)
        answer = addresses[name]
        found = answer.pop(0) if isinstance(answer[0], list) else answer
        return [info for address in found for info in resolve(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, 'getaddrinfo', look_up)
    return asked


# ---- addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize('address', [
    '127.0.0.1', '127.255.255.254', '10.1.2.3', '172.16.0.1', '192.168.1.1', '169.254.169.254',
    '100.64.0.1', '0.0.0.0', '224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255',
    '198.18.0.1', '192.0.2.1', '::', '::1', 'fe80::1', 'fe80::1%eth0', 'fc00::1', 'fd12::1',
    'fec0::1', 'ff02::1', '2001:db8::1', '::ffff:127.0.0.1', '::ffff:169.254.169.254',
    '::127.0.0.1', '64:ff9b::7f00:1', '64:ff9b::a9fe:a9fe', '2002:7f00:1::', '2002:a00:1::1'])
def test_private(address):
    assert is_private(address)


@pytest.mark.parametrize('address', [
    '130.167.251.1', '8.8.8.8', '172.32.0.1', '2606:4700::1111', '::ffff:8.8.8.8',
    '64:ff9b::808:808', '2002:808:808::1'])
def test_public(address):
    assert not is_private(address)


@given(st.ip_addresses(v=4))
def test_an_address_in_another_writing_is_the_same(address):
    for writing in (f'::ffff:{address}', f'64:ff9b::{address}',
                    str(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80)))):
        assert is_private(writing) == is_private(str(address))


# ---- requests ----------------------------------------------------------------------------


@pytest.mark.parametrize('host', [
    '127.0.0.1', '127.1', '127.0.1', '0x7f.1', '0x7f000001', '2130706433', '0177.0.0.1',
    'localhost', 'LOCALHOST', '127.0.0.1.', '0', '0.0.0.0', 'user:word@127.0.0.1',
    '１２７.0.0.1', '①②⑦.1', '[::ffff:127.0.0.1]', '[::1]', '[::]', '[::ffff:7f00:1]'])
def test_this_machine_is_refused_however_it_is_written(server, host):
    with pytest.raises(ImageError) as caught:
        get(f'http://{host}:{server.port}/a.jpg')
    assert caught.value.status == 'ERROR'
    assert any(part in caught.value.reason for part in ('conf.private_hosts', 'unknown host',
                                                        'invalid request'))
    assert server.connections == 0


@pytest.mark.parametrize('url', [
    'http://169.254.169.254/latest/meta-data/', 'http://10.0.0.1/', 'http://192.168.0.1:8080/',
    'http://224.0.0.1/', 'http://[fe80::1]/', 'https://172.16.0.1/', 'http://0/'])
def test_private_networks_are_refused_at_once(url):
    with pytest.raises(ImageError, match=r'add .* to conf.private_hosts if it is yours'):
        get(url)


def test_what_the_message_says_to_add_is_what_helps(server):
    with pytest.raises(ImageError) as caught:
        get(f'{server.url}/a.jpg')
    host = caught.value.reason.split("'")[1]
    assert caught.value.reason == (f"127.0.0.1 is a private address: add {host!r} to "
                                   "conf.private_hosts if it is yours")
    assert get(f'{server.url}/a.jpg', trusted=[host]) == b'x'


def test_trust_is_for_one_port(server, other):
    assert get(f'{server.url}/a.jpg', trusted=[server.host]) == b'x'
    for trusted in ([other.host], ['127.0.0.1'], ['localhost', server.host.replace('0', '1')]):
        with pytest.raises(ImageError, match='private address'):
            get(f'{server.url}/a.jpg', trusted=trusted)


def test_a_name_is_trusted_by_name(server, monkeypatch):
    names(monkeypatch, archive=['127.0.0.1'])
    url = f'http://archive.example:{server.port}/a.jpg'
    with pytest.raises(ImageError, match=r'archive.example has the private address 127.0.0.1: '
                                           rf"add 'archive.example:{server.port}'"):
        get(url)
    with pytest.raises(ImageError, match='private address'):
        get(url, trusted=[server.host])
    assert get(url, trusted=[f'Archive.Example:{server.port}']) == b'x'


def test_trust_is_asked_for_only_where_it_matters(server, monkeypatch):
    names(monkeypatch, public=['8.8.8.8'])
    asked = []

    def trusted():
        asked.append(1)
        return [server.host]

    with contextlib.suppress(ImageError):  # tests reach no such address
        get('http://public.example/', trusted=trusted, limits=Limits(connect_timeout=0.1))
    asked.clear()
    assert get(server.url, trusted=trusted) == b'x'
    assert asked == [1]


def test_one_private_address_of_many_is_enough(server, monkeypatch):
    names(monkeypatch, mixed=['8.8.8.8', '127.0.0.1'])
    with pytest.raises(ImageError, match=r'mixed.example has the private address 127.0.0.1'):
        get(f'http://mixed.example:{server.port}/')
    assert server.connections == 0


def test_a_name_that_changes_its_address(server, monkeypatch):
    """
    DNS rebinding: public when it is checked, private when it is connected to.
    """
    asked = names(monkeypatch, rebound=[['8.8.8.8'], ['127.0.0.1'], ['127.0.0.1']])
    with pytest.raises(ImageError):
        get(f'http://rebound.example:{server.port}/', limits=Limits(connect_timeout=0.1,
                                                                    retries=0))
    assert asked == ['rebound.example']
    assert server.connections == 0


def test_each_redirect_is_checked(server, other):
    server.answer = 302, {'Location': f'{other.url}/secret'}, b''
    with pytest.raises(ImageError, match='private address'):
        get(f'{server.url}/a.jpg', trusted=[server.host])
    assert other.connections == 0
    assert get(f'{server.url}/a.jpg', trusted=[server.host, other.host]) == b'x'


# ---- proxies -----------------------------------------------------------------------------


@pytest.fixture
def proxy(monkeypatch):
    with Recorder() as proxy:
        for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'all_proxy',
                     'ALL_PROXY', 'no_proxy', 'NO_PROXY'):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv('http_proxy', proxy.url)
        yield proxy


def test_a_proxy_may_be_private_and_resolves_names(proxy):
    assert get('http://archive.example/a.jpg') == b'x'
    assert [path for _, path, *_ in proxy.requests] == ['http://archive.example/a.jpg']


@pytest.mark.parametrize('host', [
    '127.0.0.1', '127.1', '0x7f.1', '2130706433', '10.0.0.1:80', '169.254.169.254', 'localhost',
    'localhost.', 'a.localhost', '[::1]', '[::ffff:10.0.0.1]:8080'])
def test_literal_addresses_are_checked_also_behind_a_proxy(proxy, host):
    with pytest.raises(ImageError, match='private address'):
        get(f'http://{host}/a.jpg')
    assert proxy.connections == 0


def test_a_trusted_address_behind_a_proxy(proxy):
    assert get('http://10.0.0.1:8080/a.jpg', trusted=['10.0.0.1:8080']) == b'x'


# ---- secrets -----------------------------------------------------------------------------


def test_headers_of_one_host_are_for_that_host(server, other):
    headers = {server.host: {'Authorization': 'token abc'}}
    trusted = [server.host, other.host]
    server.answer = 302, {'Location': f'{other.url}/b.jpg'}, b''
    assert get(f'{server.url}/a.jpg', trusted=trusted, headers=headers) == b'x'
    assert server.requests[0][2]['Authorization'] == 'token abc'
    assert 'Authorization' not in other.requests[0][2]
    port = server.host.partition(':')[2]
    for url in (f'http://localhost:{port}/', f'http://{server.host}@{other.host}/'):
        get(url, trusted=[*trusted, f'localhost:{port}'], headers=headers)
    assert all('abc' not in str(request) for request in other.requests)
    assert [request[2].get('Authorization') for request in server.requests][1:] == [None]


def test_headers_of_a_host_are_not_sent_in_the_clear(monkeypatch, server):
    """
    Without a port, a host is the one of https.
    """
    monkeypatch.setenv('http_proxy', server.url)
    monkeypatch.delenv('no_proxy', raising=False)
    monkeypatch.delenv('NO_PROXY', raising=False)
    get('http://mast.example/a.jpg', headers={'mast.example': {'Authorization': 'token abc'}})
    assert 'Authorization' not in server.requests[0][2]


def test_no_credentials_of_netrc_and_no_cookies(server, monkeypatch, tmp_path):
    (tmp_path / 'netrc').write_text('default login me password secret\n')
    monkeypatch.setenv('NETRC', str(tmp_path / 'netrc'))
    server.answer = 200, {'Set-Cookie': 'session=1; Path=/'}, b'x'
    with Fetcher(Limits(), trusted=[server.host]) as fetcher:
        for _ in range(2):
            with fetcher.open(f'{server.url}/a.jpg'):
                pass
    for _, _, headers, _ in server.requests:
        assert not {'Authorization', 'Cookie'} & set(headers)


# ---- POST --------------------------------------------------------------------------------


def test_post_is_sent_once(server):
    assert get(server.url, data=b'ID=a&ID=b', trusted=[server.host]) == b'x'
    method, _, headers, content = server.requests[0]
    assert (method, content) == ('POST', b'ID=a&ID=b')
    assert headers['Content-Type'] == 'application/x-www-form-urlencoded'
    server.answer = 503, {'Retry-After': '0'}, b''
    with pytest.raises(ImageError, match='HTTP 503'):
        get(server.url, data=b'ID=a', trusted=[server.host], limits=Limits(retries=3))
    assert len(server.requests) == 2


@pytest.mark.parametrize('status', [302, 307])
def test_post_goes_to_no_other_host(server, monkeypatch, status):
    names(monkeypatch, elsewhere=['127.0.0.1'])
    target = f'http://elsewhere.example:{server.port}/'
    server.answer = status, {'Location': target}, b''
    with pytest.raises(ImageError, match='redirected to another host'):
        get(server.url, data=b'ID=a', trusted=[server.host, target.split('/')[2]])
    assert len(server.requests) == 1
