"""Language models on servers: keys, hashes, and every way to fail."""

import hashlib
import subprocess
import threading
import time

import pytest

from export.__main__ import main as export
from export.data import chat, summarise, summary
from export.data.chat import BackendError, Server, hash_files
from export.data.summarise import read_proposals
from export.data.summary import SCHEMA
from tests.export.data.summarising import failures, summaries, topics, write_proposals
from tests.loopback.chat import Chat

pytestmark = pytest.mark.usefixtures('no_waiting')


@pytest.fixture
def server_of():
    """Open a backend on a server."""
    opened = []

    def server_of(server, **settings):
        opened.append(Server(server.url, 'tiny', schema=SCHEMA, **settings))
        return opened[-1]
    yield server_of
    for backend in opened:
        backend.close()


def ask(backend, topic='nebulae'):
    messages = summary.conversation({'abstract': f'All about {topic}.'})
    return backend.ask(messages, temperature=0.0)


# The key, and the model's hash


def test_the_key_reaches_the_server_and_nothing_else(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('MY_KEY', 'sk-very-secret')
    proposals = write_proposals(tmp_path, ['comets', 'moons'])
    with Chat(key='sk-very-secret', faults={'moons': 'echo-key'}) as server:
        assert run(server, proposals, '--api-key-env', 'MY_KEY') == 1
        assert {h['authorization'] for h in server.headers} == {'Bearer sk-very-secret'}
    assert len(summaries(tmp_path / 'out')) == 1
    row, = failures(tmp_path / 'out')
    assert 'Bearer ***' in row['reasons'][0]
    printed = ''.join(capsys.readouterr())
    written = ''.join(p.read_text(encoding='utf-8') for p in (tmp_path / 'out').iterdir())
    assert 'very-secret' not in printed + written


def test_a_key_of_the_environment_is_not_sent_unasked(run, tmp_path, monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-very-secret')
    with Chat() as server:
        assert run(server, write_proposals(tmp_path, ['comets'])) == 0
        assert not any('authorization' in headers for headers in server.headers)


def test_a_wrong_key_stops_the_run_at_once(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('MY_KEY', 'sk-wrong-one')
    with Chat(key='sk-right') as server:
        assert run(server, write_proposals(tmp_path, topics(20)), '--api-key-env', 'MY_KEY') == 1
        assert len(server.headers) <= 1 + 4  # one by each connection, and Ollama's question
    message = capsys.readouterr().err
    assert 'HTTP 401: Incorrect API key provided: ***' in message
    assert failures(tmp_path / 'out') == []


@pytest.mark.parametrize('key', ['a b', 'a\r\nX: 1', 'schlüssel'])
def test_a_key_that_cannot_be_one(key):
    with pytest.raises(ValueError, match='API key'):
        Server('http://127.0.0.1:9/v1', 'tiny', key=key)


def test_a_redirect_is_not_followed(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('MY_KEY', 'sk-very-secret')
    with Chat() as other, Chat(faults={'': f'redirect:{other.url}/chat/completions'}) as server:
        assert run(server, write_proposals(tmp_path, ['comets']), '--api-key-env', 'MY_KEY') == 1
        assert other.headers == []
    assert 'HTTP 307' in capsys.readouterr().err


@pytest.mark.parametrize('digest', ['', 'sha256:'])
def test_what_ollama_knows_of_its_model_is_noted(run, tmp_path, digest):
    with Chat(digest=digest + 'ab' * 32) as server:
        assert run(server, write_proposals(tmp_path, ['comets'])) == 0
    assert summaries(tmp_path / 'out')[0]['model_sha256'] == 'ab' * 32


def test_a_digest_that_is_none_is_not_noted(run, tmp_path):
    with Chat(digest='latest') as server:
        assert run(server, write_proposals(tmp_path, ['comets'])) == 0
    assert summaries(tmp_path / 'out')[0]['model_sha256'] is None


def test_the_hash_of_weights_that_a_server_serves(run, tmp_path):
    weights = tmp_path / 'weights'
    weights.mkdir()
    (weights / 'model.gguf').write_bytes(b'gguf')
    with Chat(digest='ab' * 32) as server:
        assert run(server, write_proposals(tmp_path, ['comets']), '--weights',
                   str(weights / 'model.gguf')) == 0
    digest = hashlib.sha256(b'gguf').hexdigest()
    assert summaries(tmp_path / 'out')[0]['model_sha256'] == digest


def test_the_hash_of_a_folder_is_one_that_sha256sum_gives(tmp_path):
    for name in ('model.safetensors', 'config.json', 'README.md', 'pytorch_model.bin'):
        (tmp_path / name).write_bytes(name.encode())
    command = 'sha256sum config.json model.safetensors | sha256sum'
    expected = subprocess.run(['bash', '-c', command], cwd=tmp_path, check=True,
                              capture_output=True).stdout.decode().split()[0]
    assert hash_files(tmp_path) == expected


# Servers that fail


@pytest.mark.parametrize('fault', [
    'status:429', 'status:429:0.05', 'status:429:date', 'status:500', 'status:503:0.05',
    'status:408', 'html', 'cut', 'reset'])
def test_a_failure_that_passes_is_waited_for(run, tmp_path, fault):
    with Chat(faults={'': f'{fault}*2'}) as server:
        assert run(server, write_proposals(tmp_path, ['comets', 'moons'])) == 0
        assert len(server.requests) == 6
    assert [row['attempts'] for row in summaries(tmp_path / 'out')] == [1, 1]


def test_all_connections_wait_as_long_as_the_server_asks(server_of):
    with Chat(faults={'comets': 'status:429:0.6*1'}) as server:
        backend = server_of(server)
        start = time.monotonic()
        assert ask(backend, 'comets').complete
        assert time.monotonic() - start > 0.6
        start = time.monotonic()
        backend._pause(chat._TransientError('busy', pause=0.4))
        assert ask(backend, 'moons').complete
        assert time.monotonic() - start > 0.4


def test_waits_grow(server_of, monkeypatch):
    waits = []
    with Chat(faults={'': 'status:500'}) as server:
        backend = server_of(server, retries=4)
        monkeypatch.setattr(backend._closed, 'wait', waits.append)
        with pytest.raises(BackendError, match='HTTP 500: too busy, 5 times'):
            ask(backend)
    assert len(waits) == 5
    assert waits[0] <= 0
    for i, wait in enumerate(waits[1:]):
        assert 0.5 <= wait / (0.01 * 2**i) <= 1.5


def test_a_pause_of_a_day_ends_the_run(run, tmp_path, capsys):
    with Chat(faults={'': 'status:429:86400'}) as server:
        assert run(server, write_proposals(tmp_path, ['comets']), '--concurrency', '1') == 1
        assert len(server.requests) == 1
    assert 'asks to wait 86400 s' in capsys.readouterr().err
    assert failures(tmp_path / 'out') == []


@pytest.mark.parametrize(('fault', 'reason'), [
    ('hang', 'no answer in time'), ('drip:0.05', 'no answer in time'),
    ('slow:5', 'no answer in time'), ('endless', 'more than 100000 bytes'),
    ('no-choices', 'without choices'), ('status:400', 'HTTP 400: too busy'),
    ('status:422', 'HTTP 422'), ('html', 'not JSON'), ('cut', 'broken'), ('reset', 'broken'),
    ('status:502', 'HTTP 502')])
def test_nothing_takes_more_than_its_share(server_of, fault, reason):
    with Chat(faults={'': fault}) as server:
        backend = server_of(server, timeout=0.5 if 'time' in reason else 30.0, retries=1,
                            max_bytes=100_000, model_sha256='known')
        start = time.monotonic()
        with pytest.raises(BackendError, match=reason) as caught:
            ask(backend)
        assert time.monotonic() - start < 15
        assert not caught.value.fatal
        assert len(server.requests) == (2 if reason in (
            'no answer in time', 'broken', 'not JSON', 'HTTP 502') else 1)


def test_a_server_that_is_down_is_given_up_and_all_is_asked_again(run, tmp_path, capsys):
    proposals = write_proposals(tmp_path, topics(12))
    with Chat(faults={'': 'status:400', 'kind 00': 'hubble'}) as server:
        server.faults = {'kind 00': 'hubble', '': 'status:400'}
        assert run(server, proposals, '--concurrency', '1', '--attempts', '1') == 1
        assert len(server.requests) == 6
        assert '5 proposals in a row without an answer' in capsys.readouterr().err
        assert [row['cause'] for row in failures(tmp_path / 'out')] == ['reply'] + 5 * ['server']
        server.faults.clear()
        assert run(server, proposals) == 0
        assert len(server.requests) == 6 + 11
    assert len(summaries(tmp_path / 'out')) == 11
    assert capsys.readouterr().out.startswith('11 summarised, 1 before')


def test_a_few_without_an_answer_do_not_end_a_run(run, tmp_path, capsys):
    proposals = write_proposals(tmp_path, topics(9))
    faults = {f'kind {i:02d}': 'status:400' for i in (0, 1, 2, 3, 5, 6, 7, 8)}
    with Chat(faults=faults) as server:
        assert run(server, proposals, '--concurrency', '1') == 1
    assert capsys.readouterr().out.startswith('1 summarised, 8 without an answer')


def test_nobody_there(tmp_path, capsys):
    with Chat() as server:
        url = server.url
    assert export(['summarise', str(write_proposals(tmp_path, ['x'])), '--out', str(tmp_path),
                   '--server', url, '--model', 'tiny']) == 1
    assert 'the server cannot be reached' in capsys.readouterr().err
    assert not [one for one in threading.enumerate() if one.name == 'astroclip-watch']


def test_a_model_that_is_not_there(run, tmp_path, capsys):
    with Chat(models=('large',)) as server:
        assert run(server, write_proposals(tmp_path, topics(9))) == 1
    assert 'HTTP 404: The model tiny does not exist' in capsys.readouterr().err


@pytest.mark.parametrize('other', ['json_object', 'none'])
def test_a_server_that_knows_no_schemas(run, tmp_path, other, capsys):
    proposals = write_proposals(tmp_path, ['comets'])
    with Chat(knows_schema=False) as server:
        assert run(server, proposals) == 1
        assert 'not a supported response format' in failures(tmp_path / 'out')[0]['reasons'][0]
        assert run(server, proposals, '--response-format', other) == 0
        assert server.requests[-1].get('response_format') == (
            None if other == 'none' else {'type': 'json_object'})
    assert len(summaries(tmp_path / 'out')) == 1


def test_no_more_requests_at_once_than_allowed(run, tmp_path):
    with Chat(latency=0.2) as server:
        assert run(server, write_proposals(tmp_path, topics(15)), '--concurrency', '3') == 0
        assert server.max_in_flight == 3


def test_closing_ends_what_is_under_way(tmp_path):
    proposals = read_proposals(write_proposals(tmp_path, topics(6)))
    with Chat(faults={'kind 03': 'redirect:/elsewhere', 'kind': 'hang'}) as server:
        backend = Server(server.url, 'tiny', timeout=100.0)
        start = time.monotonic()
        with pytest.raises(BackendError, match='HTTP 307'):
            summarise.summarise(proposals, backend, tmp_path / 'out')
        assert time.monotonic() - start < 30
    assert summaries(tmp_path / 'out') == failures(tmp_path / 'out') == []
