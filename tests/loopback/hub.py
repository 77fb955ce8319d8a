# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A stand-in of the Hugging Face hub, for those who download a model: what its client asks.
"""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

__all__ = ['Hub', 'contents']


def contents(folder):
    """Return the files below a folder: name with slashes -> bytes."""
    return {file.relative_to(folder).as_posix(): file.read_bytes()
            for file in sorted(folder.rglob('*')) if file.is_file()}


class Hub:
    """
    A server of one repository.

    Parameters
    ----------
    files : dict
        Content of each file.
    name : str
        Hugging Face id.

    Attributes
    ----------
    files : dict
        What the branch ``main`` has now; a change is a new commit. Earlier commits stay.
    cut : set of str
        Files of which only the first half arrives.
    asked : list of str
        ``api`` for each question about the repository, and the name of each file that was sent.
    url : str
        Where it is.
    """

    def __init__(self, files, name='owner/clip'):
        self.name, self.files = name, dict(files)
        self.cut, self.asked = set(), []
        self._commits = {}
        hub = self

        class Handler(_Handler):
            served = hub

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._server.server_port}'
        self._thread = threading.Thread(target=self._server.serve_forever,
                                        kwargs={'poll_interval': 0.01})
        self._thread.start()

    @property
    def commit(self):
        """The commit that ``main`` is at: a hash of what it holds."""
        digest = hashlib.sha1()
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + hashlib.sha1(content).digest())
        self._commits[digest.hexdigest()] = dict(self.files)
        return digest.hexdigest()

    def at(self, revision):
        """Return the commit that a revision means, and its files; None if there is none."""
        commit = self.commit if revision == 'main' else revision
        return (commit, self._commits[commit]) if commit in self._commits else None

    def sent(self):
        """Return the files that were sent since the last call."""
        sent = sorted(name for name in self.asked if name != 'api')
        self.asked.clear()
        return sent

    def close(self):
        """Go, as a network does."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.served
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f'/api/models/{hub.name}'):
            hub.asked.append('api')
            question = path.removeprefix(f'/api/models/{hub.name}').lstrip('/')
            verb, _, revision = question.partition('/')
            if (found := hub.at(revision or 'main')) is None:
                return self.answer({'error': 'no'}, 404, {'X-Error-Code': 'RevisionNotFound'})
            commit, files = found
            if verb == 'tree':
                return self.answer([{'type': 'file', 'path': name, 'size': len(content),
                                     'oid': hashlib.sha1(content).hexdigest()}
                                    for name, content in files.items()])
            return self.answer({'id': hub.name, 'sha': commit, 'private': False, 'tags': [],
                                'siblings': [{'rfilename': name} for name in files]})
        if path.startswith(f'/{hub.name}/resolve/'):
            revision, _, name = path.removeprefix(f'/{hub.name}/resolve/').partition('/')
            if (found := hub.at(revision)) is None:
                return self.answer({'error': 'no'}, 404, {'X-Error-Code': 'RevisionNotFound'})
            commit, files = found
            if name not in files:
                return self.answer({'error': 'no'}, 404, {'X-Error-Code': 'EntryNotFound',
                                                          'X-Repo-Commit': commit})
            content = files[name]
            tag = {'ETag': f'"{hashlib.sha256(content).hexdigest()}"', 'X-Repo-Commit': commit}
            if self.command == 'HEAD':
                return self.answer(content, headers=tag)
            hub.asked.append(name)
            # What was cut off is continued by early versions of the client.
            start = int(self.headers.get('Range', 'bytes=0-')[6:-1])
            content = content[start:]
            if name in hub.cut:
                content = content[:len(content) // 2]
            return self.answer(content, 206 if start else 200, tag)
        return self.answer({'error': 'no'}, 404, {'X-Error-Code': 'RepoNotFound'})

    def answer(self, content, status=200, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        # A connection that stays open would outlive the server.
        for name, value in {'Content-Length': str(len(body)), 'Connection': 'close',
                            **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)
