# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A MAST over real HTTP on the loopback interface, which can be told to misbehave.

It answers what ``astroquery.mast.Observations`` asks: the columns configuration, the portal's
``invoke`` (cone, filtered, count, products, paging), ``Download/file``, who is logged in, the name
resolver, and legacy preview URLs. For a person, ``python -m tests.loopback.mast`` starts one.

Faults are strings; the table of them is the documentation of `Mast`.
"""

import argparse
import contextlib
import json
import signal
import socket
import struct
import sys
import tempfile
import threading
from collections import Counter
from email.utils import formatdate
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.loopback.archive import SHARED_DATA, Archive
from tests.loopback.portal import columns_configuration, description, query, resolve

__all__ = ['Mast']

ERROR_PAGE = b'<!DOCTYPE html><html><body><h1>Down for maintenance</h1></body></html>'


class Mast:
    """
    A running server; also a context manager, which stops it.

    Parameters
    ----------
    archive : `~tests.loopback.archive.Archive`, optional
        What it serves; a small synthetic one by default.
    port : int, optional
        Port on 127.0.0.1; 0 takes a free one.
    faults : dict, optional
        Substring of a URI, path or portal query (``''`` matches all) -> fault. The first
        match counts, and only requests for which there is something to answer are disturbed.
        A portal query reads ``Mast.Caom.Filtered page 1 obs_title=%disk% ...``, a count has
        ``count`` in place of the page.
        A fault may end in ``*N``: N times for each URI, then all is well. May be changed
        while running.

        ``status:404`` answer with this status, ``status:429:2`` with ``Retry-After: 2`` as well;
        ``redirect`` to the file's static address, ``redirect:URL`` to another one,
        ``redirect-loop`` to itself, ``redirect-file`` to a file:// URL;
        ``html`` a page with status 200, ``html-as-jpeg`` the same labelled as a picture;
        ``empty`` no bytes; ``nothing`` an empty JSON object; ``answer:TEXT`` this text;
        ``truncated`` the first half, well framed;
        ``cut`` the first half, then the connection closes; ``reset`` a TCP reset at once;
        ``drip`` one byte every 50 ms (``drip:S``: every S seconds), ``drip-header`` the same
        from the first byte of the header on; ``hang`` no answer ever;
        ``huge`` a stream that announces 10 TB, ``endless`` one that announces nothing;
        ``error`` the portal's own error answer, ``executing`` its "ask again", ``vanish`` no rows.
    latency : float, optional
        Seconds before the answer to each request for a file.
    token : str, optional
        The MAST API token without which there is no protected file of the archive.

    Attributes
    ----------
    url : str
        Address without a trailing slash.
    log : list of tuple
        ``(method, what)`` of each request: the URI of a download, the service of a query, else
        the path.
    queries : list of str
        Each query of the portal, as faults see it.
    tokens : list of tuple
        ``(what, token)`` of each request that came with one.
    connections : int
        Connections accepted so far.
    max_connections : int
        Most connections that were open at one time; it includes those that a client has closed
        a moment ago, hence for a bound look at ``max_in_flight``.
    max_in_flight : int
        Most file requests that were being answered at one time.
    errors : list of BaseException
        Failures of the server itself. Closing raises the first.
    """

    def __init__(self, archive=None, *, port=0, faults=None, latency=0.0, token=None):
        self.archive = Archive.synthetic() if archive is None else archive
        self.token = token
        self.faults = dict(faults or {})
        self.latency = latency
        self.errors = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._open = set()
        self._in_flight = 0
        self.clear()
        self._server = _Server(('127.0.0.1', port), _Handler)
        self._server.mast = self
        self.url = f'http://127.0.0.1:{self._server.server_address[1]}'
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def clear(self):
        """Forget the requests so far: log, counts, and how often faults have struck."""
        with self._lock:
            self.log, self.queries, self.tokens = [], [], []
            self.connections = 0
            self.max_connections = len(self._open)
            self.max_in_flight = self._in_flight
            self._strikes = Counter()

    def downloads(self):
        """Return the URIs of the files asked for with GET, in order."""
        return [what for method, what in list(self.log)
                if method == 'GET' and what not in ('/Santa-war/query', '/whoami')]

    def close(self):
        """Stop: cut the open connections, free the port and wait for the threads."""
        if not self.stopping.is_set():
            self.stopping.set()
            self._server.shutdown()
            with self._lock:
                for connection in self._open:
                    with contextlib.suppress(OSError):  # the client was faster
                        connection.shutdown(socket.SHUT_RDWR)
            self._server.server_close()
            self._thread.join()
        if self.errors:
            raise self.errors.pop(0)

    def connected(self, connection):
        """Count a new connection."""
        with self._lock:
            self._open.add(connection)
            self.connections += 1
            self.max_connections = max(self.max_connections, len(self._open))

    def disconnected(self, connection):
        """Count a connection as gone."""
        with self._lock:
            self._open.discard(connection)

    def in_flight(self, change):
        """Count a file request that starts (1) or ends (-1)."""
        with self._lock:
            self._in_flight += change
            self.max_in_flight = max(self.max_in_flight, self._in_flight)

    def fault(self, what):
        """Return (kind, argument) of the fault that strikes this request, or None."""
        for part, fault in list(self.faults.items()):
            if part in what:
                fault, _, times = fault.partition('*')
                with self._lock:
                    self._strikes[part, what] += 1
                    if times and self._strikes[part, what] > int(times):
                        return None
                kind, _, argument = fault.partition(':')
                return kind, argument
        return None

    def state(self, **changes):
        """Change settings and return all, as the control address ``/_state`` does."""
        if changes.pop('clear', False):
            self.clear()
        self.faults = changes.pop('faults', self.faults)
        self.latency = changes.pop('latency', self.latency)
        if changes:
            raise ValueError(f'unknown settings: {", ".join(changes)}')
        return {name: getattr(self, name) for name in (
            'faults', 'latency', 'log', 'connections', 'max_connections', 'max_in_flight')}


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for them
    request_queue_size = 128

    def process_request(self, request, client_address):
        self.mast.connected(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.mast.disconnected(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        error = sys.exception() if sys.version_info >= (3, 12) else sys.exc_info()[1]
        if not isinstance(error, ConnectionError):  # clients may leave whenever they like
            self.mast.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server_version = 'LoopbackMAST'
    wbufsize = 1 << 16  # header and body in one packet, else a delayed ACK adds 40 ms
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass  # the log is a list

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get('Content-Length', 0))).decode()
        path = urlsplit(self.path).path
        try:
            if path == '/_state':
                self.send_json(self.mast.state(**json.loads(body)))
            elif path.endswith('/columnsconfig'):
                self.note(path)
                self.send_or_fail(self.mast.fault(path), json.dumps(
                    columns_configuration()).encode(), 'application/json')
            elif path == '/api/v0/invoke':
                self.invoke(json.loads(unquote(body.removeprefix('request='))))
            else:
                self.note(path)
                self.send(404, ERROR_PAGE, 'text/html')
        except (ValueError, KeyError) as error:
            self.send_json({'status': 'ERROR', 'msg': f'{error}', 'data': [], 'fields': []})

    def do_GET(self):
        url = urlsplit(self.path)
        parameters = parse_qs(url.query)
        if url.path == '/_state':
            self.send_json(self.mast.state())
        elif url.path == '/Santa-war/query':
            self.note(url.path)
            self.send_or_fail(self.mast.fault(url.path), json.dumps(
                resolve(self.mast.archive, parameters.get('name', []))).encode(),
                'application/json')
        elif url.path == '/whoami':
            self.note(url.path)
            known = self.token is not None and self.token == self.mast.token
            self.send_json({'anon': not known,
                            'attrib': {'display_name': 'P. I.'} if known else {}})
        elif url.path == '/api/v0.1/Download/file':
            self.send_file(parameters.get('uri', [''])[0])
        elif url.path.startswith('/static/'):
            self.send_file(unquote(url.path).removeprefix('/static/'), static=True)
        else:
            self.send_file(self.path)  # some legacy addresses differ in their query only

    def do_HEAD(self):
        self.do_GET()

    @property
    def mast(self):
        return self.server.mast

    @property
    def token(self):
        """The token of this request, which clients send in either of two ways."""
        scheme, _, token = self.headers.get('Authorization', '').partition(' ')
        if scheme == 'token':
            return token
        cookie = SimpleCookie(self.headers.get('Cookie')).get('mast_token')
        return cookie and cookie.value

    def note(self, what):
        self.mast.log.append((self.command, what))
        if self.token is not None:
            self.mast.tokens.append((what, self.token))

    def invoke(self, request):
        self.note(request['service'])
        asked = description(request)
        self.mast.queries.append(asked)
        fault = self.mast.fault(asked)
        if fault == ('executing', ''):
            self.send_json({'status': 'EXECUTING', 'msg': '', 'data': [], 'fields': []})
            return
        if fault == ('error', ''):
            raise ValueError('Query timeout')
        answer = query(self.mast.archive, self.mast.url, request)
        if fault == ('vanish', ''):
            fault, answer['data'] = None, []
        answer = json.dumps(answer).encode()
        self.send_or_fail(fault, answer, 'application/json')

    def send_file(self, location, *, static=False):
        self.note(('/static/' if static else '') + location)
        self.mast.in_flight(1)
        try:
            self.mast.stopping.wait(self.mast.latency)
            content = self.mast.archive.read(location)
            if location in self.mast.archive.protected and self.token != self.mast.token:
                self.send_json({'message': 'You are not authorized'}, status=401)
                return
            fault = None if static else self.mast.fault(location)
            if fault and fault == ('redirect', ''):
                fault = 'redirect', f'{self.mast.url}/static/{quote(location, safe="")}'
            if content is None and fault is None:
                self.send_json({'message': f'File {location} not found'}, status=404)
            else:
                kind = 'image/jpeg' if location.endswith('.jpg') else 'application/octet-stream'
                self.send_or_fail(fault, content or b'', kind)
        finally:
            self.mast.in_flight(-1)

    def send_or_fail(self, fault, content, kind):
        if fault is None:
            self.send(200, content, kind)
        else:
            name, argument = fault
            getattr(self, 'fail_' + name.replace('-', '_'))(argument, content, kind)

    def send_json(self, answer, *, status=200):
        self.send(status, json.dumps(answer).encode(), 'application/json')

    def send(self, status, content, kind, *, length=None, **headers):
        self.send_response(status)
        self.send_header('Content-Type', kind)
        if length != 'none':
            self.send_header('Content-Length', str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    def fail_status(self, argument, content, kind):
        status, _, wait = argument.partition(':')
        headers = {'Retry_After': wait} if wait else {}
        if wait == 'date':  # the other form that HTTP allows
            headers = {'Retry_After': formatdate(usegmt=True)}
        self.send(int(status), ERROR_PAGE, 'text/html', **headers)

    def fail_redirect(self, argument, content, kind):
        self.send(302, b'', 'text/html', Location=argument)

    def fail_redirect_loop(self, argument, content, kind):
        self.fail_redirect(self.path, content, kind)

    def fail_redirect_file(self, argument, content, kind):
        self.fail_redirect('file:///etc/hostname', content, kind)

    def fail_html(self, argument, content, kind):
        self.send(200, ERROR_PAGE, 'text/html')

    def fail_html_as_jpeg(self, argument, content, kind):
        self.send(200, ERROR_PAGE, kind)

    def fail_empty(self, argument, content, kind):
        self.send(200, b'', kind)

    def fail_answer(self, argument, content, kind):
        self.send(200, argument.encode(), kind)

    def fail_nothing(self, argument, content, kind):
        self.send_json({})

    def fail_truncated(self, argument, content, kind):
        self.send(200, content[:len(content) // 2], kind)

    def fail_cut(self, argument, content, kind):
        self.send(200, content[:len(content) // 2], kind, length=len(content))
        self.close_connection = True

    def fail_reset(self, argument, content, kind):
        # Closing with unsent data dropped makes the kernel answer with RST.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.connection.close()
        self.close_connection = True

    def fail_hang(self, argument, content, kind):
        self.mast.stopping.wait()
        self.close_connection = True

    def fail_drip(self, argument, content, kind):
        self.send(200, b'', kind, length=len(content))
        self.stream((content[i:i + 1] for i in range(len(content))), float(argument or 0.05))

    def fail_drip_header(self, argument, content, kind):
        self.close_connection = True
        header = f'HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nX-Padding: {"-" * 10000}\r\n\r\n'
        self.stream((bytes([byte]) for byte in header.encode()), float(argument or 0.05))

    def fail_huge(self, argument, content, kind):
        self.send(200, content, kind, length=10**13)
        self.stream(iter(lambda: bytes(1 << 16), None))

    def fail_endless(self, argument, content, kind):
        self.send(200, content, kind, length='none', Connection='close')
        self.stream(iter(lambda: bytes(1 << 16), None))

    def stream(self, pieces, pause=0.0):
        self.close_connection = True
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
            if self.mast.stopping.wait(pause):
                break


def main(arguments=None):
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog='python -m tests.loopback.mast', description='A MAST on the loopback interface.')
    parser.add_argument('--port', type=int, default=0,
                        help='port on 127.0.0.1 (default: a free one)')
    parser.add_argument('--data', type=Path, default=SHARED_DATA, metavar='DIR',
                        help='folder of the development data; without it, the sample archive')
    parser.add_argument('--everything', action='store_true',
                        help='also the level-3 JWST rows that have no preview here')
    parser.add_argument('--latency', type=float, default=0.0, metavar='SECONDS',
                        help='wait before each answer with a file')
    parser.add_argument('--fault', action='append', default=[], metavar='PART=FAULT',
                        help="misbehave where PART is in the URI, such as 'miri=status:404'")
    options = parser.parse_args(arguments)
    # A shell that starts a program in the background lets it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faults = dict(fault.split('=', 1) for fault in options.fault)
    archive = (Archive.jwst(options.data, everything=options.everything)
               if (options.data / 'sky-development.tar').exists() else Archive.sample())
    with (Mast(archive, port=options.port, faults=faults, latency=options.latency) as mast,
          tempfile.TemporaryDirectory(prefix='loopback-mast-') as config):
        # astropy reads this file once, when astroquery is imported.
        settings = Path(config, 'astropy', 'astroquery.cfg')
        settings.parent.mkdir()
        settings.write_text(f'[mast]\nserver = {mast.url}\nenable_cloud_dataset = False\n')
        print(f'{mast.url} serves {len(archive)} observations, {len(archive.files)} files\n'
              f'for any program:        XDG_CONFIG_HOME={config} python\n'
              f'with object names too:  python -i -c "from tests.loopback import '
              f"point_astroquery_at as p; p('{mast.url}')\"\n"
              'Ctrl-C stops it.', flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            mast.stopping.wait()


if __name__ == '__main__':
    main()
