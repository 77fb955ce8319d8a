"""
What is given wrong ends as one sentence, and leaves nothing behind.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from export.__main__ import STEPS, main

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize(('arguments', 'said'), [
    (['train', '--real', '{}/none', '--out', '{}/run'], 'No such file'),
    (['train', '--sky', '{}/none', '--out', '{}/run'], 'no shard of the synthetic sky'),
    (['train', '--real', '{}/bad', '--out', '{}/run'], 'line 2 of'),
    (['train', '--config', '{}/none.toml', '--out', '{}/run'], 'No such file'),
    (['to-onnx', '{}/junk.pt', '--out', '{}/run'], 'is no checkpoint of export train'),
    (['bundle', '{}/junk.pt', '{}', '--out', '{}/run'], 'is no checkpoint of export train'),
    (['quantise', '{}/none'], 'No such file'),
    (['evaluate', '{}/none', '--out', '{}/run.json'], 'There is no model'),
    (['evaluate', 'default', '--real', '{}/none', '--out', '{}/run.json'], 'No such file'),
    (['banner', 'default', '--real', '{}/none'], 'No such file'),
    (['calibrate', 'default', '--archive', '{}/none', '--out', '{}/run'], 'no archive'),
])
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, capsys, arguments, said):
    (tmp_path / 'junk.pt').write_bytes(b'junk')
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / 'manifest.jsonl').write_text(
        '{"file": "a.jpg", "source": "own"}\n{"file": "b.jpg"}\n')
    assert main([argument.format(tmp_path) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count('\n') == 1
    # The right command may follow into the same folder.
    assert not (tmp_path / 'run' / 'config.json').exists()
    assert not (tmp_path / 'run.json').exists()


def test_a_developer_gets_the_traceback(tmp_path):
    done = subprocess.run([sys.executable, '-X', 'dev', '-W', 'ignore', '-m', 'export', 'quantise',
                           tmp_path], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'Traceback' in done.stderr


def test_steps_that_are_none(capsys):
    assert main([]) == main(['nothing']) == 2
    said = capsys.readouterr().err
    assert all(step in said for step in STEPS)
