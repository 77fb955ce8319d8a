"""Each proposal gets a summary of its own, and nothing passes that breaks a rule."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from export.__main__ import main as export
from export.data import summary
from export.data.summarise import read_proposals
from export.data.summary import FIELDS, SCHEMA, prompt_sha256
from tests.export.data.summarising import failures, summaries, topics, write_proposals
from tests.loopback.chat import BAD_REPLIES, Chat, good_summary

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures('no_waiting')


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


@pytest.fixture
def interruptible():
    """What is started in the background by a shell, and all it starts, would ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('interruptible')
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
