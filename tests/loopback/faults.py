# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A server that is wrong in every way we know of, one way for each address.

``/<fault>/<anything>`` is answered with that fault of `FAULTS`, ``/good/<colour>/<anything>`` with
a picture. What is to become of each fault is the table in ``docs/user_guide/status.rst``.
"""

import contextlib
import functools
import gzip
import io
import re
import socket
import struct
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ['FAULTS', 'FaultyServer', 'expectations', 'good_picture']

GUIDE = Path(__file__).parents[2] / 'docs' / 'user_guide' / 'status.rst'

# More than any limit that a test sets, less than what would hurt.
HUGE = 4_000_000


@functools.cache
def good_picture(colour='red', kind='JPEG'):
    """Return a picture whose mean colour is known, with noise that makes half of it no picture."""
    noise = np.random.default_rng(1).integers(0, 50, (64, 64, 3), dtype=np.uint8)
    noise[..., ('red', 'green', 'blue').index(colour)] += 200
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind)
    return stream.getvalue()


@functools.cache
def animation():
    """Return a GIF of two frames."""
    stream = io.BytesIO()
    frames = [Image.radial_gradient('L').resize((32, 32)).rotate(angle) for angle in (0, 45)]
    frames[0].save(stream, 'GIF', save_all=True, append_images=frames[1:])
    return stream.getvalue()


@functools.cache
def fits(n_rows=64):
    """Return a FITS file with an image."""
    from astropy.io import fits

    stream = io.BytesIO()
    data = np.random.default_rng(1).normal(size=(n_rows, 64)).astype('>f4')
    fits.PrimaryHDU(data).writeto(stream)
    return stream.getvalue()


@functools.cache
def bomb():
    """Return a gzip file that is a thousand times larger inside."""
    return gzip.compress(b'SIMPLE  =' + bytes(HUGE))


@functools.cache
def png_bomb():
    """Return a PNG of 2.5 gigapixels in a few kilobytes."""
    def chunk(kind, content):
        return (struct.pack('>I', len(content)) + kind + content
                + struct.pack('>I', zlib.crc32(kind + content)))

    header = struct.pack('>IIBBBBB', 50_000, 50_000, 8, 2, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
            + chunk(b'IDAT', zlib.compress(bytes(HUGE))) + chunk(b'IEND', b''))


HTML = b'<!DOCTYPE html><html><body><h1>Down for maintenance</h1></body></html>'
VOTABLE = (b'<?xml version="1.0"?><VOTABLE version="1.4"><RESOURCE type="results">'
           b'<INFO name="QUERY_STATUS" value="ERROR">no such ID</INFO></RESOURCE></VOTABLE>')
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PDF = b'%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n'
ZIP = b'PK\x03\x04' + bytes(200) + HTML


def body(content, **options):
    """Make a fault: an answer with some content."""
    return lambda handler: handler.answer(content() if callable(content) else content, **options)


def status(code, **headers):
    """Make a fault: an answer with another status."""
    return lambda handler: handler.answer(HTML, status=code, headers=headers)


def redirect(target, code=302, **options):
    """Make a fault: a redirect."""
    return lambda handler: handler.answer(
        b'', status=code, headers={'Location': target(handler) if callable(target) else target},
        **options)


def pieces(*parts, then=b'', reset=False):
    """Make a fault: parts as they are, then one more again and again, or silence, or a reset."""
    return lambda handler: handler.send_pieces(parts, then, reset)


HEADER = b'HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n'
SOME = b'\xff\xd8\xff' + bytes(500)
CHUNKED = HEADER + b'Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n'

# Faults by the names that the documentation gives them.
FAULTS = {
    'connection refused': None,  # there is nothing that could answer
    'reset in the middle of the body': pieces(
        HEADER + b'Content-Length: 1000\r\n\r\n', SOME, reset=True),
    'connection closed in the middle of the body': body(SOME, length=1000, close=True),
    'not HTTP': pieces(b'SSH-2.0-OpenSSH_9.6\r\n\r\n', reset=True),
    'header lines without end': pieces(HEADER, then=b'X-Padding: 1\r\n' * 50),
    'no answer': pieces(),
    'header that comes byte by byte': pieces(HEADER + b'X-Padding: ', then=b'-'),
    '100 Continue without end': pieces(then=b'HTTP/1.1 100 Continue\r\n\r\n'),
    'body that stops': pieces(HEADER + b'Content-Length: 1000\r\n\r\n', SOME),
    'body that comes byte by byte': pieces(
        HEADER + b'Content-Length: 100000\r\n\r\n', SOME, then=b'-'),
    'chunk size that comes byte by byte': pieces(CHUNKED, then=b'0'),
    'Content-Length too long': body(good_picture, length=100_000),
    'Content-Length too short': body(good_picture, length=1000),
    'body without end': pieces(CHUNKED, then=b'10000\r\n' + bytes(0x10000) + b'\r\n'),
    'Content-Length of terabytes': body(SOME, length=10**13, close=True),
    '429 with Retry-After': status(429, Retry_After='0.02'),
    '503 with a long Retry-After': status(503, Retry_After='86400'),
    '500': status(500), '502': status(502), '503': status(503), '504': status(504),
    '401': status(401), '403': status(403), '404': status(404), '410': status(410),
    '204': status(204),
    'redirect to itself': redirect(lambda handler: handler.path, 301),
    'redirect to a file': redirect('file:///etc/hostname'),
    'redirect to another private host': redirect(lambda handler: handler.server.stranger),
    'redirect to the metadata of a cloud': redirect('http://169.254.169.254/latest/meta-data/'),
    'redirect with a body without end': redirect(
        '/good/red/', length=None, then=bytes(0x10000)),
    'web page': body(HTML, kind='text/html'),
    'web page that says it is a JPEG': body(HTML),
    'VOTable with an error': body(VOTABLE, kind='application/x-votable+xml'),
    'SVG': body(SVG, kind='image/svg+xml'), 'PDF': body(PDF, kind='application/pdf'),
    'JPEG that says it is a web page': body(good_picture, kind='text/html'),
    'JPEG in gzip that nobody asked for': body(
        lambda: gzip.compress(good_picture()), headers={'Content-Encoding': 'gzip'}),
    'gzip bomb as Content-Encoding': body(bomb, headers={'Content-Encoding': 'gzip'}),
    'gzip bomb as a FITS file': body(bomb, kind='image/fits'),
    'decompression bomb in a PNG': body(png_bomb, kind='image/png'),
    'half a JPEG': body(lambda: good_picture()[:1000]),
    'half a FITS file': body(lambda: fits()[:8000], kind='image/fits'),
    'JPEG with a ZIP archive behind it': body(lambda: good_picture() + ZIP),
    'first bytes of a JPEG, then a web page': body(b'\xff\xd8\xff\xe0' + HTML),
    'animated GIF': body(animation, kind='image/gif'),
    'empty body': body(b''),
    'redirect to no address': redirect('http://[::1/a.jpg'),
    'redirect to a port that there is not': redirect('http://127.0.0.1:99999/a.jpg'),
    'redirect in odd bytes': pieces(
        b'HTTP/1.1 302 Found\r\nLocation: \xff\xfe://a\r\nContent-Length: 0\r\n'
        b'Connection: close\r\n\r\n'),
    'Retry-After that is no time': status(503, Retry_After='\xb2'),
    'Content-Length of thousands of digits': body(SOME, length='9' * 5000, close=True),
    'Content-Length that is no number': body(good_picture, length='\xb2', close=True),
    'chunk size of thousands of digits': pieces(CHUNKED, b'f' * 5000 + b'\r\n', reset=True),
    'chunk size below zero': pieces(CHUNKED, b'-5\r\n', reset=True),
    'chunk size that is no number': pieces(CHUNKED, b'\xb2\r\n', reset=True),
    'status that is no number': pieces(b'HTTP/1.1 OK\r\n\r\n', reset=True),
    'status that nobody knows': status(999),
    'hundreds of header lines': pieces(HEADER + b'X-Padding: 1\r\n' * 200 + b'\r\n', reset=True),
    'early hints': pieces(b'HTTP/1.1 103 Early Hints\r\n\r\n', reset=True),
    'cookie of a far year': body(good_picture, headers={
        'Set-Cookie': f'a=b; expires=Fri, 31-Dec-{"9" * 5000} 23:59:59 GMT'}),
    'packing that nobody knows': body(good_picture, headers={'Content-Encoding': '\xff'}),
}


def expectations():
    """
    Return status, pattern of the message, and whether it is tried again, as the guide has them.
    """
    section = GUIDE.read_text(encoding='utf-8').partition('What servers do wrong\n')[2]
    lines = section.partition('.. list-table::')[2].partition('\n\n    * - ')[2]
    rows = lines.partition('\n\n')[0].split('\n    * - ')[1:]  # without the heading
    table = {}
    for row in rows:
        name, status, message, again = [cell.strip() for cell in row.split('\n      -')]
        table[name] = (status.strip('`'), re.escape(message).replace('…', '.+'), again == 'yes')
    return table


class FaultyServer:
    """
    A running server; also a context manager, which stops it.

    Attributes
    ----------
    url : str
        Address without a trailing slash.
    host : str
        The same without the scheme.
    log : list of str
        Paths of the requests so far.
    connections : int
        Connections accepted so far.
    strangers : int
        Connections to the other server that redirects lead to.
    errors : list of BaseException
        Failures of the server itself. Closing raises the first.
    """

    def __init__(self):
        self.log = []
        self.errors = []
        self.connections = self.strangers = 0
        self.stopping = threading.Event()
        self._open = set()
        self._lock = threading.Lock()
        self._stranger = socket.create_server(('127.0.0.1', 0))
        self._stranger.settimeout(0)
        self._closed = socket.socket()
        self._closed.bind(('127.0.0.1', 0))  # and does not listen
        self._server = _Server(('127.0.0.1', 0), _Handler)
        self._server.owner = self
        self._server.stranger = f'http://127.0.0.1:{self._stranger.getsockname()[1]}/good/red/'
        self.host = f'127.0.0.1:{self._server.server_address[1]}'
        self.url = f'http://{self.host}'
        self.closed_host = f'127.0.0.1:{self._closed.getsockname()[1]}'
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def address(self, name, number=0):
        """Return an address with a fault."""
        host = self.closed_host if FAULTS[name] is None else self.host
        return f'http://{host}/{name.replace(" ", "_")}/{number}.jpg'

    def good(self, colour, number=0):
        """Return an address without a fault."""
        return f'{self.url}/good/{colour}/{number}.jpg'

    def close(self):
        """Stop: cut the open connections, free the ports and wait for the threads."""
        if not self.stopping.is_set():
            self.stopping.set()
            self._server.shutdown()
            with self._lock:
                for connection in self._open:
                    with contextlib.suppress(OSError):  # the client was faster
                        connection.shutdown(socket.SHUT_RDWR)
            self._server.server_close()
            self._thread.join()
            with contextlib.suppress(BlockingIOError):
                self._stranger.accept()[0].close()
                self.strangers += 1
            self._stranger.close()
            self._closed.close()
        if self.errors:
            raise self.errors.pop(0)

    def connected(self, connection):
        """Count a new connection."""
        with self._lock:
            self._open.add(connection)
            self.connections += 1

    def disconnected(self, connection):
        """Forget a connection."""
        with self._lock:
            self._open.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for them
    request_queue_size = 128

    def process_request(self, request, client_address):
        self.owner.connected(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.owner.disconnected(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):  # clients may leave whenever they like
            self.owner.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize = 1 << 16  # header and body in one packet, else a delayed ACK adds 40 ms
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass  # the log is a list

    def do_GET(self):
        self.server.owner.log.append(self.path)
        name, colour = self.path.split('/')[1:3]
        if name == 'good':
            self.answer(good_picture(colour or 'red'))
        else:
            FAULTS[name.replace('_', ' ')](self)

    def answer(self, content, *, status=200, kind='image/jpeg', length=0, close=False,
               headers=None, then=b''):
        self.send_response(status)
        self.send_header('Content-Type', kind)
        for name, value in (headers or {}).items():
            self.send_header(name.replace('_', '-'), value)
        if length is not None and status != 204:
            self.send_header('Content-Length', str(length or len(content)))
        self.end_headers()
        if status != 204:
            self.wfile.write(content)
        self.wfile.flush()
        self.close_connection = close
        if then:
            self.send_pieces((), then)

    def send_pieces(self, parts, then, reset=False):
        self.close_connection = True
        for part in parts:
            self.wfile.write(part)
            self.wfile.flush()
        if reset:
            # Closing with unsent data dropped makes the kernel answer with RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       struct.pack('ii', 1, 0))
            self.connection.close()
        while not reset and not self.server.owner.stopping.wait(0.005 if then else 0.05):
            # An end of the other side is seen also where there is nothing to say.
            self.connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                if not self.connection.recv(1, socket.MSG_PEEK):
                    break
            self.connection.setblocking(True)
            self.wfile.write(then)
            self.wfile.flush()
