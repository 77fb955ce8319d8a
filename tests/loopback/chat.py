# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A server of chat completions over real HTTP on the loopback interface, which can misbehave.

It answers ``POST /v1/chat/completions`` as vLLM, llama.cpp and Ollama do, and ``GET /api/tags`` as
Ollama alone. Its model finds the abstract in the request and says something about the words behind
``about``, so that a summary can be told from that of another proposal. For a person,
``python -m tests.loopback.chat`` starts one.

Faults are strings; the table of them is the documentation of `Chat`.
"""

import argparse
import contextlib
import json
import re
import socket
import struct
import sys
import threading
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ['BAD_REPLIES', 'Chat', 'good_summary']


def topic_of(text):
    """Return what the abstract in a request is about."""
    return re.search(r'^Abstract: .*?\babout ([^.\n]+)', text, re.MULTILINE)[1]


def good_summary(topic):
    """Return the summary that the model gives when it behaves."""
    return {'objects_and_phenomena': [topic],
            'science_use_cases': [f'measuring distances of {topic}']}


def _changed(**changes):
    return lambda topic: json.dumps({**good_summary(topic), **changes})


#: Replies that break the rules, by name.
BAD_REPLIES = {
    'prose-only': lambda topic: f'The pictures will show {topic}, and be good for distances.',
    'markdown': lambda topic: f'**Objects**\n- {topic}\n\n**Uses**\n- distances of {topic}',
    'empty': lambda topic: '',
    'array': lambda topic: json.dumps([good_summary(topic)['objects_and_phenomena']]),
    'text-for-list': _changed(science_use_cases='distances, ages'),
    'number-in-list': _changed(science_use_cases=['distances', 3]),
    'null': _changed(science_use_cases=None),
    'one-key': lambda topic: json.dumps({'objects_and_phenomena': [topic]}),
    'third-key': _changed(confidence=1),
    'nested': lambda topic: json.dumps({'summary': {'objects': [topic]}}),
    'none': _changed(objects_and_phenomena=[]),
    'six': _changed(objects_and_phenomena=[f'star cluster of kind {i}' for i in 'abcdef']),
    'wordy': _changed(science_use_cases=['the long tale of ' + 'dust and ' * 40 + 'gas']),
    'twice': _changed(science_use_cases=['ages of stars', 'Ages of Star.']),
    'twice-across': lambda topic: json.dumps({key: [topic] for key in good_summary(topic)}),
    'hubble': _changed(science_use_cases=['Hubble imaging of distant galaxies']),
    'jwst': _changed(science_use_cases=['planning for JWST']),
    'wfc3': _changed(objects_and_phenomena=['galaxies in wfc3/uvis pictures']),
    'acs': _changed(objects_and_phenomena=['galaxies seen with the ACS']),
    'greek': _changed(science_use_cases=['maps of Hα emission']),
    'chinese': _changed(objects_and_phenomena=['螺旋星系']),
    'markup': _changed(objects_and_phenomena=['<b>galaxies</b>; "stars"']),
    'blank': _changed(objects_and_phenomena=[' ']),
    'two-answers': lambda topic: (json.dumps(good_summary(topic)) + '\nor better\n'
                                  + json.dumps(good_summary('something else'))),
    'half': lambda topic: json.dumps(good_summary(topic))[:-5],
    'deep': lambda topic: '{"a":' * 3000,
    'endless-words': lambda topic: 'dust ' * 5000,
}

#: Replies that are as good as a plain one.
_GOOD_REPLIES = {
    'prose': lambda topic: ('Sure! Here is {the summary}:\n```json\n'
                            + json.dumps(good_summary(topic), indent=2)
                            + '\n```\nTell me if you need more.'),
    'thoughts': lambda topic: (f'<think>Perhaps {json.dumps(good_summary("a first idea"))}? No.'
                               f'</think>\n{json.dumps(good_summary(topic))}'),
    'typography': lambda topic: json.dumps(
        {'objects_and_phenomena': [f' {topic}. '],
         'science_use_cases': [f'measuring\u00a0distances  of {topic}']}, ensure_ascii=False),
}


class Chat:
    """
    A running server; also a context manager, which stops it.

    Parameters
    ----------
    port : int, optional
        Port on 127.0.0.1; 0 takes a free one.
    faults : dict, optional
        Substring of an abstract (``''`` matches all) -> fault. The first match counts. A fault may
        end in ``*N``: N times for each abstract, then all is well. May be changed while running.

        A name of `BAD_REPLIES`: the model says that, whatever the schema. ``prose``, ``thoughts``,
        ``typography``: a good reply within words, or not quite plain. ``cut-off`` half a reply, at
        the limit of tokens; ``no-content`` none at all; ``no-choices`` an answer without any;
        ``status:429`` answer with this status, ``status:429:2`` with ``Retry-After: 2`` as well,
        ``status:429:date`` with a date; ``echo-key`` a 400 that repeats the key;
        ``html`` a page with status 200; ``redirect:URL`` to another address;
        ``slow:S`` a good reply after S seconds; ``hang`` no answer ever;
        ``drip:S`` one byte every S seconds; ``cut`` the first half, then the connection closes;
        ``reset`` a TCP reset at once; ``endless`` a stream without end.
    latency : float, optional
        Seconds before each answer.
    key : str, optional
        API key without which there is no answer.
    models : tuple of str, optional
        Names of models that it has.
    knows_schema : bool, optional
        Whether it accepts a response format of ``json_schema``; otherwise that is a 400.
    digest : str, optional
        If it is an Ollama: the digest of its models.

    Attributes
    ----------
    url : str
        Base address, which ends in ``/v1``.
    requests : list of dict
        The body of each request for a completion, in order.
    topics : list of str
        What each was about.
    headers : list of dict
        The headers of each request, in lower case.
    max_in_flight : int
        Most completions that were under way at one time.
    errors : list of BaseException
        Failures of the server itself. Closing raises the first.
    """

    def __init__(self, *, port=0, faults=None, latency=0.0, key=None, models=('tiny',),
                 knows_schema=True, digest=None):
        self.faults = dict(faults or {})
        self.latency, self.key, self.models = latency, key, models
        self.knows_schema, self.digest = knows_schema, digest
        self.errors, self.requests, self.topics, self.headers = [], [], [], []
        self.max_in_flight = self._in_flight = 0
        self.stopping = threading.Event()
        self._strikes = Counter()
        self._lock = threading.Lock()
        self._open = set()
        self._server = _Server(('127.0.0.1', port), _Handler)
        self._server.chat = self
        self.url = f'http://127.0.0.1:{self._server.server_address[1]}/v1'
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

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

    def connected(self, connection, change):
        """Note a connection that opens (1) or closes (-1)."""
        with self._lock:
            (self._open.add if change > 0 else self._open.discard)(connection)

    def note(self, request, topic):
        """Note a request for a completion."""
        with self._lock:
            self.requests.append(request)
            self.topics.append(topic)

    @contextlib.contextmanager
    def in_flight(self):
        """Count a completion that is under way."""
        with self._lock:
            self._in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def fault(self, topic):
        """Return (kind, argument) of the fault that strikes this request, or None."""
        for part, fault in list(self.faults.items()):
            if part in topic:
                fault, _, times = fault.partition('*')
                with self._lock:
                    self._strikes[part, topic] += 1
                    if times and self._strikes[part, topic] > int(times):
                        return None
                kind, _, argument = fault.partition(':')
                return kind, argument
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for them
    request_queue_size = 128

    def process_request(self, request, client_address):
        self.chat.connected(request, 1)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.chat.connected(request, -1)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):  # clients may leave whenever they like
            self.chat.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server_version = 'LoopbackChat'
    wbufsize = 1 << 16  # header and body in one packet, else a delayed ACK adds 40 ms
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass  # the requests are a list

    @property
    def chat(self):
        return self.server.chat

    def do_GET(self):
        self.chat.headers.append({k.lower(): v for k, v in self.headers.items()})
        if self.path == '/api/tags' and self.chat.digest:
            self.send_json({'models': [{'name': f'{name}:latest', 'digest': self.chat.digest}
                                       for name in self.chat.models]})
        else:
            self.send_error_json(404, 'no such page')

    def do_POST(self):
        self.chat.headers.append({k.lower(): v for k, v in self.headers.items()})
        body = self.rfile.read(int(self.headers['Content-Length']))
        if len(body) < int(self.headers['Content-Length']):
            return  # the client was killed
        request = json.loads(body)
        key = self.headers.get('Authorization', '').removeprefix('Bearer ')
        if self.path != '/v1/chat/completions':
            self.send_error_json(404, 'no such page')
        elif self.chat.key and key != self.chat.key:
            self.send_error_json(401, f'Incorrect API key provided: {key}')
        elif request['model'] not in self.chat.models:
            self.send_error_json(404, f'The model {request["model"]} does not exist')
        elif not self.chat.knows_schema and (
                request.get('response_format', {}).get('type') == 'json_schema'):
            self.send_error_json(400, 'json_schema is not a supported response format')
        else:
            with self.chat.in_flight():
                self.complete(request)

    def complete(self, request):
        topic = topic_of(request['messages'][0]['content'])
        self.chat.note(request, topic)
        self.chat.stopping.wait(self.chat.latency)
        kind, argument = self.chat.fault(topic) or ('', '')
        replies = {**BAD_REPLIES, **_GOOD_REPLIES}
        if kind == '' or kind in replies:
            text = replies[kind](topic) if kind else json.dumps(good_summary(topic))
            self.send_json(self.completion(request, text))
        else:
            getattr(self, 'fail_' + kind.replace('-', '_'))(
                argument, self.completion(request, json.dumps(good_summary(topic))))

    @staticmethod
    def completion(request, text, reason='stop'):
        return {'id': 'chatcmpl-1', 'object': 'chat.completion', 'created': 1,
                'model': request['model'],
                'choices': [{'index': 0, 'message': {'role': 'assistant', 'content': text},
                             'finish_reason': reason}],
                'usage': {'prompt_tokens': 1, 'completion_tokens': 1, 'total_tokens': 2}}

    def send_json(self, answer, status=200, **headers):
        self.send(status, json.dumps(answer).encode(), 'application/json', **headers)

    def send_error_json(self, status, message, **headers):
        self.send_json({'error': {'message': message, 'type': 'error', 'code': status}}, status,
                       **headers)

    def send(self, status, content, kind, *, length=None, **headers):
        self.send_response(status)
        self.send_header('Content-Type', kind)
        if length != 'none':
            self.send_header('Content-Length', str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        self.wfile.write(content)

    def fail_cut_off(self, argument, answer):
        choice = answer['choices'][0]
        choice['message']['content'] = choice['message']['content'][:20]
        self.send_json({**answer, 'choices': [{**choice, 'finish_reason': 'length'}]})

    def fail_no_content(self, argument, answer):
        answer['choices'][0]['message'] = {'role': 'assistant', 'content': None}
        self.send_json(answer)

    def fail_no_choices(self, argument, answer):
        self.send_json({**answer, 'choices': []})

    def fail_status(self, argument, answer):
        status, _, wait = argument.partition(':')
        if wait == 'date':
            wait = formatdate(usegmt=True)
        self.send_error_json(int(status), 'too busy', **({'Retry_After': wait} if wait else {}))

    def fail_echo_key(self, argument, answer):
        self.send_error_json(400, f'this was sent: {dict(self.headers)}')

    def fail_html(self, argument, answer):
        self.send(200, b'<!DOCTYPE html><html><body>Log in</body></html>', 'text/html')

    def fail_redirect(self, argument, answer):
        self.send(307, b'', 'text/html', Location=argument)

    def fail_slow(self, argument, answer):
        self.chat.stopping.wait(float(argument))
        self.send_json(answer)

    def fail_hang(self, argument, answer):
        self.chat.stopping.wait()
        self.close_connection = True

    def fail_drip(self, argument, answer):
        content = json.dumps(answer).encode()
        self.send(200, b'', 'application/json', length=len(content))
        self.stream((content[i:i + 1] for i in range(len(content))), float(argument))

    def fail_cut(self, argument, answer):
        content = json.dumps(answer).encode()
        self.send(200, content[:len(content) // 2], 'application/json', length=len(content))
        self.close_connection = True

    def fail_reset(self, argument, answer):
        # Closing with unsent data dropped makes the kernel answer with RST.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.connection.close()
        self.close_connection = True

    def fail_endless(self, argument, answer):
        self.send(200, b'', 'application/json', length='none', Connection='close')
        self.stream(iter(lambda: b' ' * (1 << 16), None), 0.0)

    def stream(self, pieces, pause):
        self.close_connection = True
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
            if self.chat.stopping.wait(pause):
                break


def main(arguments=None):
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog='python -m tests.loopback.chat',
        description='A server of chat completions on the loopback interface.')
    parser.add_argument('--port', type=int, default=0,
                        help='port on 127.0.0.1 (default: a free one)')
    parser.add_argument('--latency', type=float, default=0.0, metavar='SECONDS',
                        help='wait before each answer')
    parser.add_argument('--fault', action='append', default=[], metavar='PART=FAULT',
                        help="misbehave where PART is in the topic, such as 'comets=hubble*1'")
    options = parser.parse_args(arguments)
    with Chat(port=options.port, latency=options.latency,
              faults=dict(fault.split('=', 1) for fault in options.fault)) as chat:
        print(f'{chat.url} serves the model tiny, to abstracts that are "about" something\n'
              'Ctrl-C stops it.', flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            chat.stopping.wait()


if __name__ == '__main__':
    main()
