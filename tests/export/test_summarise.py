"""Summaries come from a real server or a real model, and nothing passes that breaks a rule."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from export import chat, summarise, summary
from export.__main__ import main as export
from export.chat import BackendError, Server, hash_files
from export.journal import Journal
from export.summarise import read_proposals
from export.summary import FIELDS, SCHEMA, prompt_sha256
from tests.loopback.chat import BAD_REPLIES, Chat, good_summary

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(chat, '_BACK_OFF', 0.01)


def write_proposals(folder, topics, **changes):
    """Write a proposal about each topic, and return the file."""
    path = folder / 'proposals.jsonl'
    path.write_text(''.join(json.dumps({
        'proposal_id': 10000 + i, 'title': f'A survey of {topic}', 'category': 'Galaxies',
        'abstract': f'We ask for pictures\nthat tell\nmore about {topic}. It is time.', **changes,
    }) + '\n' for i, topic in enumerate(topics)), encoding='utf-8')
    return path


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]


def summaries(folder):
    return rows_of(folder / 'summaries.jsonl')


def failures(folder):
    return rows_of(folder / 'summaries.failed.jsonl')


def topics(n):
    return [f'nebulae of kind {i:02d}' for i in range(n)]


@pytest.fixture
def run(tmp_path):
    """Run the step against a server, and return its exit status."""
    def run(server, proposals, *arguments):
        return export(['summarise', str(proposals), '--out', str(tmp_path / 'out'), '--server',
                       server.url, '--model', 'tiny', *arguments])
    return run


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


# What a run gives


def test_each_proposal_gets_its_own_summary(run, tmp_path, capsys):
    proposals = write_proposals(tmp_path, topics(30))
    with Chat() as server:
        assert run(server, proposals) == 0
    assert {row['proposal_id']: row for row in summaries(tmp_path / 'out')} == {
        10000 + i: {'proposal_id': 10000 + i, **good_summary(topic), 'model': 'tiny',
                    'model_sha256': None, 'prompt_sha256': prompt_sha256(), 'attempts': 1}
        for i, topic in enumerate(topics(30))}
    assert failures(tmp_path / 'out') == []
    out, progress = capsys.readouterr()
    assert out.startswith('30 summarised, 0 before')
    assert '25 summarised' in progress


def test_the_server_is_told_the_schema_and_the_proposal(run, tmp_path):
    proposals = write_proposals(tmp_path, ['comets'], category=None)
    with Chat() as server:
        assert run(server, tmp_path, '--max-tokens', '300') == 0
        request, = server.requests
    assert proposals.parent == tmp_path
    assert request['response_format']['type'] == 'json_schema'
    assert request['response_format']['json_schema']['schema'] == SCHEMA
    assert request['max_tokens'] == 300
    assert request['temperature'] == 0
    message, = request['messages']
    assert message['role'] == 'user'
    assert message['content'].endswith(
        'Title: A survey of comets\nCategory: unknown\n'
        'Abstract: We ask for pictures that tell more about comets. It is time.\n-----')


@pytest.mark.parametrize('fault', ['prose', 'thoughts', 'typography'])
def test_good_replies_of_models_that_ignore_the_schema(run, tmp_path, fault):
    with Chat(faults={'': fault}) as server:
        assert run(server, write_proposals(tmp_path, ['comets'])) == 0
    row, = summaries(tmp_path / 'out')
    assert {field: row[field] for field in FIELDS} == good_summary('comets')
    assert row['attempts'] == 1


REASONS = {
    'prose-only': 'no JSON object', 'markdown': 'no JSON object', 'empty': 'no JSON object',
    'array': 'no JSON object', 'text-for-list': 'not a list of strings',
    'number-in-list': 'not a list of strings', 'null': 'not a list of strings',
    'one-key': 'has the keys', 'third-key': '"confidence"', 'nested': 'no JSON object',
    'none': 'has 0 phrases', 'six': 'has 6 phrases', 'wordy': 'more than 80', 'twice': 'twice',
    'twice-across': 'twice', 'hubble': '"Hubble"', 'jwst': '"JWST"', 'wfc3': '"wfc3"',
    'acs': '"ACS"', 'greek': "'α'", 'chinese': 'without words', 'markup': "';'",
    'blank': 'without words', 'two-answers': 'more than one', 'half': 'no JSON object',
    'deep': 'no JSON object of two lists', 'endless-words': 'too long', 'cut-off': 'cut off',
    'no-content': 'no JSON object',
}


def test_no_bad_reply_passes_and_each_is_recorded(run, tmp_path):
    assert set(BAD_REPLIES) < set(REASONS)
    names = dict(zip(topics(len(REASONS)), REASONS, strict=True))
    with Chat(faults=names) as server:
        assert run(server, write_proposals(tmp_path, names), '--attempts', '2') == 0
        asked = dict(zip(server.topics, server.requests, strict=True))  # the second of each
    assert summaries(tmp_path / 'out') == []
    rows = {row['proposal_id']: row for row in failures(tmp_path / 'out')}
    assert len(rows) == len(REASONS)
    for i, (topic, name) in enumerate(names.items()):
        row = rows[10000 + i]
        assert (row['cause'], row['attempts'], row['model']) == ('reply', 2, 'tiny'), name
        assert len(row['reasons']) == 2, name
        assert REASONS[name] in row['reasons'][0], name
        assert len(row['reply']) <= 2000
        # The model was told, and its reply shown to it again.
        user, assistant, told = asked[topic]['messages']
        assert row['reasons'][0] in told['content'], name
        assert assistant['content'] == (row['reply'] or '(nothing)')
        assert [m['role'] for m in (user, assistant, told)] == ['user', 'assistant', 'user']
        assert asked[topic]['temperature'] > 0


def test_models_that_learn_from_the_reason_are_forgiven(run, tmp_path):
    names = {topic: f'{name}*1' for topic, name in
             zip(topics(len(REASONS)), REASONS, strict=True)}
    with Chat(faults=names) as server:
        assert run(server, write_proposals(tmp_path, names)) == 0
    rows = {row['proposal_id']: row for row in summaries(tmp_path / 'out')}
    assert {row['attempts'] for row in rows.values()} == {2}
    for i, topic in enumerate(names):
        assert {field: rows[10000 + i][field] for field in FIELDS} == good_summary(topic)
    assert failures(tmp_path / 'out') == []


def test_failed_ones_are_asked_again_when_told_so(run, tmp_path, capsys):
    proposals = write_proposals(tmp_path, ['comets', 'moons'])
    with Chat(faults={'moons': 'hubble'}) as server:
        assert run(server, proposals, '--attempts', '1') == 0
        assert '1 summarised, 1 without an acceptable reply' in capsys.readouterr().out
        assert run(server, proposals) == 0
        assert len(server.requests) == 2
        server.faults.clear()
        assert run(server, proposals, '--retry-failed') == 0
        assert len(server.requests) == 3
    assert [row['proposal_id'] for row in summaries(tmp_path / 'out')] == [10000, 10001]


def test_a_proposal_without_an_abstract_is_not_asked_for(run, tmp_path):
    proposals = write_proposals(tmp_path, ['comets'], abstract=' \n')
    with Chat() as server:
        assert run(server, proposals) == 0
        assert server.requests == []
    row, = failures(tmp_path / 'out')
    assert (row['cause'], row['attempts']) == ('abstract', 0)


# Interruptions


@pytest.mark.parametrize(('stop', 'concurrency'), [
    (signal.SIGKILL, 1), (signal.SIGKILL, 3), (signal.SIGINT, 2)])
def test_a_killed_run_goes_on_where_it_was(tmp_path, run, stop, concurrency):
    n = 24
    proposals = write_proposals(tmp_path, topics(n))
    written = tmp_path / 'out' / 'summaries.jsonl'
    arguments = ['--concurrency', str(concurrency)]
    with Chat(latency=0.1) as server:
        process = subprocess.Popen(
            [sys.executable, '-m', 'export', 'summarise', str(proposals), '--out',
             str(tmp_path / 'out'), '--server', server.url, '--model', 'tiny', *arguments],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 100
        while not written.exists() or written.read_bytes().count(b'\n') < 4:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(stop)
        message = process.communicate(timeout=60)[1].decode()
        assert process.returncode == (-stop if stop == signal.SIGKILL else 130), message
        before = summaries(tmp_path / 'out')
        assert 4 <= len(before) < n
        server.latency = 0.0
        assert run(server, proposals, *arguments) == 0
        asked = list(server.topics)
    rows = summaries(tmp_path / 'out')
    assert rows[:len(before)] == before
    assert sorted(row['proposal_id'] for row in rows) == [10000 + i for i in range(n)]
    assert failures(tmp_path / 'out') == []
    assert set(asked) == set(topics(n))
    assert len(asked) - n <= concurrency  # one lost by each connection
    if stop == signal.SIGINT:
        assert message == 'interrupted: run again to go on\n'


def test_a_journal_cut_off_anywhere_goes_on(tmp_path):
    path = tmp_path / 'rows.jsonl'
    expected = [{'proposal_id': i, 'x': 'é\n"' * i} for i in range(3)]
    with Journal(path) as journal:
        for row in expected:
            journal.append(row)
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord('\n')]
    for size in range(len(content) + 1):
        path.write_bytes(content[:size] + b'\0' * (size % 3 if size not in (0, *ends) else 0))
        with Journal(path) as journal:
            whole = sum(end <= size for end in ends)
            assert journal.rows == expected[:whole]
            journal.append({'last': 1})
        assert rows_of(path) == [*expected[:whole], {'last': 1}]


def test_a_row_is_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    path, synced = tmp_path / 'rows.jsonl', []
    with Journal(path) as journal:
        monkeypatch.setattr(os, 'fsync', lambda number: synced.append(path.read_bytes()))
        journal.append({'a': 1})
        journal.append({'a': 2})
    assert synced == [b'{"a": 1}\n', b'{"a": 1}\n{"a": 2}\n']


def test_a_broken_line_in_the_middle_is_not_passed_over(run, tmp_path, capsys):
    (tmp_path / 'out').mkdir()
    path = tmp_path / 'out' / 'summaries.jsonl'
    path.write_text('{"proposal_id": \n{}\n', encoding='utf-8')
    with Chat() as server:
        assert run(server, write_proposals(tmp_path, ['comets'])) == 1
    assert 'line 1 of summaries.jsonl' in capsys.readouterr().err
    assert path.read_text(encoding='utf-8') == '{"proposal_id": \n{}\n'


def test_summaries_of_another_prompt_or_model_are_not_mixed(run, tmp_path, monkeypatch, capsys):
    proposals = write_proposals(tmp_path, ['comets', 'moons'])
    with Chat(models=('tiny', 'other'), faults={'moons': 'hubble'}) as server:
        assert run(server, proposals) == 0
        assert run(server, proposals, '--model', 'other') == 1
        assert 'another model or prompt' in capsys.readouterr().err
        monkeypatch.setattr(summary, '_INSTRUCTIONS', 'Be brief.')
        assert run(server, proposals) == 1
        assert 'another model or prompt' in capsys.readouterr().err
        # A failure under another prompt says nothing about this one.
        (tmp_path / 'out' / 'summaries.jsonl').unlink()
        server.faults.clear()
        assert run(server, proposals) == 0
    assert len(summaries(tmp_path / 'out')) == 2


# Input


@pytest.mark.parametrize(('lines', 'message'), [
    ('{"proposal_id": 1}\nnonsense\n', 'line 2'),
    ('[1]\n', 'line 1'),
    ('{"abstract": "x"}\n', 'line 1'),
    ('{"proposal_id": 1}\n{"proposal_id": "1"}\n', 'twice'),
    ('{"proposal_id": null}\n', 'string or whole number'),
])
def test_a_file_that_is_not_one_of_proposals(tmp_path, lines, message, capsys):
    path = tmp_path / 'proposals.jsonl'
    path.write_text(lines, encoding='utf-8')
    with pytest.raises(ValueError, match=message):
        read_proposals(path)
    assert export(['summarise', str(path), '--out', str(tmp_path), '--server',
                   'http://127.0.0.1:9/v1', '--model', 'tiny']) == 1
    assert message in capsys.readouterr().err


def test_empty_lines_do_not_count(tmp_path):
    path = tmp_path / 'proposals.jsonl'
    path.write_text('\n{"proposal_id": "a"}\n\n', encoding='utf-8')
    assert read_proposals(tmp_path) == [{'proposal_id': 'a'}]


@pytest.mark.parametrize('url', [
    'file:///etc/passwd', 'ftp://host/v1', 'localhost:8000', 'http://', 'http://u:p@host/v1',
    'http://host/v1?key=1', 'http://host:99999/v1', ''])
def test_an_address_that_is_not_asked(tmp_path, url, capsys):
    assert export(['summarise', str(write_proposals(tmp_path, ['x'])), '--out', str(tmp_path),
                   f'--server={url}', '--model', 'tiny']) == 1
    assert re.search('address of the server must be|Port out of range', capsys.readouterr().err)
    assert not (tmp_path / 'summaries.jsonl').exists()


@pytest.mark.parametrize('arguments', [
    ['--server', 'http://127.0.0.1:9/v1'],
    ['--server', 'http://127.0.0.1:9/v1', '--model', 'x', '--api-key-env', 'ASTROCLIP_NO_SUCH'],
])
def test_what_is_missing_is_said(tmp_path, arguments, capsys):
    assert export(['summarise', str(write_proposals(tmp_path, ['x'])), '--out', str(tmp_path),
                   *arguments]) == 1
    assert re.search('--model|ASTROCLIP_NO_SUCH', capsys.readouterr().err)


@pytest.mark.parametrize('arguments', [['--concurrency', '0'], ['--attempts', 'x'], []])
def test_a_command_line_that_makes_no_sense(tmp_path, arguments):
    with pytest.raises(SystemExit):
        export(['summarise', str(tmp_path), '--out', str(tmp_path),
                *(['--server', 'http://x/v1'] if arguments else []), *arguments])


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


# Local models


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A tiny random model with the tokenizer that its prompt was made for."""
    pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')
    transformers = pytest.importorskip('transformers', reason='local models need transformers')
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    proposal = {'proposal_id': 1, 'abstract': 'All about comets.'}
    reply = json.dumps(good_summary('comets'))
    prompt = summary.conversation(proposal)[0]['content']
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([prompt, reply] * 3, trainers.BpeTrainer(
        vocab_size=900, special_tokens=['<end>', '<user>', '<model>'],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token='<end>',
        chat_template='{% for m in messages %}<{{ "user" if m.role == "user" else "model" }}>'
                      '{{ m.content }}{% if m.role != "user" %}<end>{% endif %}{% endfor %}'
                      '{% if add_generation_prompt %}<model>{% endif %}')
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=4096, eos_token_id=0, bos_token_id=None))
    folder = tmp_path_factory.mktemp('models') / 'tiny-random'
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {'folder': folder, 'model': model, 'tokenizer': tokenizer, 'reply': reply,
            'proposal': proposal}


@pytest.fixture(scope='module')
def taught(tiny):
    """The same model, overfitted to give one good reply."""
    import torch

    model, tokenizer = tiny['model'], tiny['tokenizer']
    prompt = tokenizer.apply_chat_template(
        summary.conversation(tiny['proposal']), add_generation_prompt=True,
        return_dict=True)['input_ids']
    answer = tokenizer(tiny['reply'] + '<end>')['input_ids']
    tokens = torch.tensor([prompt + answer])
    labels = tokens.clone()
    labels[:, :len(prompt)] = -100
    optimiser = torch.optim.Adam(model.parameters(), 3e-2)
    for _ in range(200):
        loss = model(input_ids=tokens, labels=labels).loss
        if loss.item() < 0.01:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.01
    folder = tiny['folder'].parent / 'tiny-taught'
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def local(folder, proposals, out, *arguments):
    return export(['summarise', str(proposals), '--out', str(out), '--local', str(folder),
                   '--device', 'cpu', '--max-tokens', '80', *arguments])


def test_a_random_model_says_nothing_acceptable(tiny, tmp_path):
    proposals = write_proposals(tmp_path, ['comets', 'moons'])
    assert local(tiny['folder'], proposals, tmp_path / 'out', '--attempts', '3') == 0
    assert summaries(tmp_path / 'out') == []
    rows = failures(tmp_path / 'out')
    assert [row['proposal_id'] for row in rows] == [10000, 10001]
    for row in rows:
        assert (row['cause'], row['attempts'], len(row['reasons'])) == ('reply', 3, 3)
        assert (row['model'], row['model_sha256']) == ('tiny-random', hash_files(tiny['folder']))


def test_a_taught_model_says_what_it_was_taught(tiny, taught, tmp_path, capsys):
    proposals = tmp_path / 'proposals.jsonl'
    proposals.write_text(json.dumps(tiny['proposal']) + '\n', encoding='utf-8')
    for _ in range(2):
        assert local(taught, proposals, tmp_path / 'out') == 0
    assert capsys.readouterr().out.count('0 summarised, 1 before') == 1
    row, = summaries(tmp_path / 'out')
    assert row == {'proposal_id': 1, **good_summary('comets'), 'model': 'tiny-taught',
                   'model_sha256': hash_files(taught), 'prompt_sha256': prompt_sha256(),
                   'attempts': 1}
    assert hash_files(taught) != hash_files(tiny['folder'])


def test_a_reply_at_the_limit_of_tokens_is_cut_off(tiny, taught):
    model = chat.LocalModel(taught, device='cpu', max_tokens=5)
    reply = model.ask(summary.conversation(tiny['proposal']), temperature=0.0)
    assert not reply.complete
    assert tiny['reply'].startswith(reply.text)
    assert 0 < len(reply.text) < len(tiny['reply'])


def test_chance_comes_from_a_seed(tiny):
    model = chat.LocalModel(tiny['folder'], device='cpu', max_tokens=20)
    messages = summary.conversation(tiny['proposal'])
    sampled = {model.ask(messages, temperature=0.7).text for _ in range(2)}
    assert len(sampled) == 1
    assert model.ask(messages, temperature=0.0).text not in sampled


def test_a_model_without_a_chat_template_is_asked_too(tiny, tmp_path):
    folder = tmp_path / 'base'
    tiny['model'].save_pretrained(folder)
    tokenizer = type(tiny['tokenizer']).from_pretrained(tiny['folder'])
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    assert not (folder / 'chat_template.jinja').exists()
    reply = chat.LocalModel(folder, device='cpu', max_tokens=4).ask(
        summary.conversation(tiny['proposal']), temperature=0.0)
    assert isinstance(reply.text, str)


def test_an_abstract_that_a_model_cannot_read_is_recorded(tiny, tmp_path):
    proposals = write_proposals(tmp_path, ['comets'], abstract='comets and moons ' * 3000)
    assert local(tiny['folder'], proposals, tmp_path / 'out') == 1
    row, = failures(tmp_path / 'out')
    assert row['cause'] == 'server'
    assert 'do not fit into 4096' in row['reasons'][0]


def copy(tiny, folder, without=()):
    folder.mkdir()
    for path in tiny['folder'].iterdir():
        if path.name not in without:
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_weights_in_pickle_are_not_loaded(tiny, tmp_path, capsys):
    import torch

    folder = copy(tiny, tmp_path / 'pickled', without=['model.safetensors'])
    torch.save(tiny['model'].state_dict(), folder / 'pytorch_model.bin')
    assert local(folder, write_proposals(tmp_path, ['comets']), tmp_path / 'out') == 1
    assert 'no weights in safetensors' in capsys.readouterr().err


def test_code_of_a_model_does_not_run(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('HF_MODULES_CACHE', str(tmp_path / 'modules'))
    folder = copy(tiny, tmp_path / 'foreign')
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    config.update(model_type='foreign', auto_map={'AutoConfig': 'foreign.Config',
                                                  'AutoModelForCausalLM': 'foreign.Model'})
    (folder / 'config.json').write_text(json.dumps(config), encoding='utf-8')
    (folder / 'foreign.py').write_text(
        f'open({str(tmp_path / "ran")!r}, "w").close()\n', encoding='utf-8')
    assert local(folder, write_proposals(tmp_path, ['comets']), tmp_path / 'out') == 1
    assert capsys.readouterr().err.startswith('python -m export summarise: ')
    assert not (tmp_path / 'ran').exists()


def test_a_model_of_the_hub_that_was_downloaded_before(tiny, tmp_path, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    proposals = write_proposals(tmp_path, ['comets'])
    assert local('someone/tiny', proposals, tmp_path / 'out', '--attempts', '1') == 1
    assert not (tmp_path / 'out').exists()
    commit = 'ab' * 20
    stored = tmp_path / 'hub' / 'models--someone--tiny'
    (stored / 'snapshots').mkdir(parents=True)
    copy(tiny, stored / 'snapshots' / commit)
    (stored / 'refs').mkdir()
    (stored / 'refs' / 'main').write_text(commit, encoding='utf-8')
    assert local('someone/tiny', proposals, tmp_path / 'out', '--attempts', '1',
                 '--revision', commit) == 0
    row, = failures(tmp_path / 'out')
    assert (row['model'], row['model_sha256']) == ('someone/tiny', hash_files(tiny['folder']))
