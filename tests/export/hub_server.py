"""A stand-in of the hub's HTTP API on loopback: downloads, and uploads in one commit."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

__all__ = ['COMMIT', 'hub']

COMMIT = '1234567890abcdef1234567890abcdef12345678'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *arguments):
        pass

    def answer(self, content=b'', status=200, headers=()):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (('Content-Length', str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def body(self):
        if self.headers.get('Transfer-Encoding') != 'chunked':
            return self.rfile.read(int(self.headers.get('Content-Length', 0)))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b''.join(parts)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server = self.server
        path = unquote(urlsplit(self.path).path)
        server.requests.append((self.command, path))
        if path.startswith('/api/models/owner/name'):
            revision = path.partition('/revision/')[2] or 'main'
            if revision not in ('main', 'v1', COMMIT):
                return self.answer({'error': 'no'}, 404, [('X-Error-Code', 'RevisionNotFound')])
            if '/tree/' in path:
                return self.answer([{'type': 'file', 'path': name, 'size': len(content),
                                     'oid': hashlib.sha1(content).hexdigest()}
                                    for name, content in server.files.items()])
            return self.answer({'id': 'owner/name', 'sha': COMMIT, 'private': False, 'tags': [],
                                'siblings': [{'rfilename': name} for name in server.files]})
        if path.startswith('/owner/name/resolve/'):
            content = server.files[path.split('/', 5)[5]]
            return self.answer(content, headers=[
                ('ETag', f'"{hashlib.sha256(content).hexdigest()}"'), ('X-Repo-Commit', COMMIT)])
        return self.answer({'error': 'no'}, 404, [('X-Error-Code', 'RepoNotFound')])

    def do_POST(self):
        server, body = self.server, self.body()
        path = urlsplit(self.path).path
        server.requests.append((self.command, path))
        server.tokens.add(self.headers.get('Authorization'))
        if server.refuses:
            return self.answer({'error': 'You may not'}, 403)
        if path == '/api/repos/create':
            server.made.append(json.loads(body))
            return self.answer({'url': f'{server.url}/owner/name'})
        if path == '/api/validate-yaml':
            return self.answer({'errors': [], 'warnings': []})
        if '/preupload/' in path:
            return self.answer({'files': [
                {'path': file['path'], 'shouldIgnore': False,
                 'uploadMode': 'lfs' if file['path'].endswith('.onnx') else 'regular'}
                for file in json.loads(body)['files']]})
        if path.endswith('/info/lfs/objects/batch'):
            return self.answer({'transfer': 'basic', 'objects': [
                {**one, 'actions': {'upload': {'href': f'{server.url}/lfs/{one["oid"]}'}}}
                for one in json.loads(body)['objects']]})
        if '/commit/' in path:
            server.commits.append([json.loads(line) for line in body.splitlines()])
            return self.answer({'commitUrl': f'{server.url}/owner/name/commit/{COMMIT}',
                                'commitOid': COMMIT})
        return self.answer({'error': 'no'}, 404)

    def do_PUT(self):
        content = self.body()
        self.server.requests.append((self.command, self.path))
        self.server.objects[hashlib.sha256(content).hexdigest()] = content
        self.answer()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def uploaded(self):
        """The files of the last commit, large ones taken from where they were put."""
        files = {}
        for item in self.commits[-1][1:]:
            value = item['value']
            files[value['path']] = (self.objects[value['oid']] if item['key'] == 'lfsFile'
                                    else base64.b64decode(value['content']))
        return files


@contextmanager
def hub(files=()):
    """Serve a repository ``owner/name``."""
    server = _Server(('127.0.0.1', 0), _Handler)
    server.url = f'http://127.0.0.1:{server.server_port}'
    server.files, server.refuses = dict(files), False
    server.requests, server.commits, server.made = [], [], []
    server.objects, server.tokens = {}, set()
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
