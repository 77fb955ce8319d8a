# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What an archive or a file name says never commands a terminal, and can always be printed.
"""

import io
import json
import os
import sys

import pytest
from astropy.table import Table

from astroclip_search import conf
from astroclip_search.cli import main
from astroclip_search.embeddings.progress import Progress
from astroclip_search.exceptions import (
    ImageError,
    LeftOutWarning,
    collected,
    invalid,
    one_line,
    visible,
    warn,
)
from tests.cli.test_pipes import folder  # noqa: F401 - a fixture
from tests.colours import content

# Two spellings of the same command, a title, a mark that turns the direction, and half a pair.
EVIL = '\x1b[31m\x9b31m\x1b]0;title\x07\u202egpj.\udce9\x7f\x08'

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='no such names of files')


@pytest.fixture
def evil_folder(folder):  # noqa: F811
    for name in ('red', 'broken'):
        (folder / f'{name}{EVIL}.png').write_bytes(content(name) if name == 'red' else b'x')
    (folder / f'left{EVIL}.out{EVIL}').write_bytes(b'x')
    return folder


def is_harmless(said):
    return all(letter.isprintable() or letter == '\n' for letter in said)


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Run a command on a terminal: what it gets to see."""
    def run(*arguments, encoding='utf-8'):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        for name, stream in zip(('stdout', 'stderr'), streams, strict=True):
            stream.isatty = lambda: True
            monkeypatch.setattr(sys, name, stream)
        code = main([str(argument) for argument in arguments])
        for stream in streams:
            stream.flush()
        out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)
        return code, out, err

    return run


@pytest.mark.parametrize('encoding', ['utf-8', 'ascii', 'latin-1'])
@pytest.mark.parametrize('arguments', [
    ['rank', '.', 'red'], ['rank', '.', 'red', '--json'], ['describe', '.', '--phrase', 'red'],
    ['rank', f'none{EVIL}', 'red'], ['rank', f'none{EVIL}', 'red', '--debug'],
    [f'what{EVIL}'], ['rank', '.', f'red{EVIL}', '-q'], ['gallery', '.', '--gallery', 'a.html'],
    ['rank', '.', 'red', '--show-nothing', EVIL], ['selftest', '--model', f'x{EVIL}']])
def test_nothing_commands_a_terminal(evil_folder, terminal, arguments, encoding):
    _, out, err = terminal(*arguments, encoding=encoding)
    assert out or err
    # A progress line goes back to its beginning.
    assert is_harmless(out)
    assert is_harmless(err.replace('\r', '').replace('\x1b[A', ''))
    if '--json' in arguments:
        assert json.loads(out)['n_rows'] == 5


def test_what_has_no_letters_is_said(folder, terminal):  # noqa: F811
    Table({'target_name': ['é', 'ü'], 'preview': ['red.png', 'blue.png']}).write('a.ecsv')
    for encoding, said in (('ascii', True), ('utf-8', False)):
        _, out, err = terminal('rank', 'a.ecsv', 'red', '--image-dir', '.', encoding=encoding)
        assert ('Letters that ascii does not have' in out + err) == said
        assert ('é' in out) != said


def test_a_table_goes_to_no_terminal(evil_folder, terminal):
    code, out, err = terminal('rank', '.', 'red', '--out', '-')
    assert (code, out) == (2, '')
    assert 'for another program' in ' '.join(err.split())


@pytest.mark.parametrize('encoding', ['utf-8', 'ascii'])
def test_progress(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, 'stderr', stream)
    with conf.set_temp('show_progress', 'live'), Progress(
            2, show=True, best=lambda: (None, f'é{EVIL}')) as progress:
        progress._bar.mininterval = 0
        progress.count('embedded')
        progress.show()
    stream.flush()
    said = stream.buffer.getvalue().decode(encoding)
    assert 'best: ' in said
    assert is_harmless(said.replace('\r', ''))


def test_errors_and_warnings_of_the_package():
    with collected() as heard:
        warn(f'In {EVIL}.', LeftOutWarning)
    for error in (invalid(f'No {EVIL}.'), ImageError('http_no_content', f'/data/{EVIL}'), *heard):
        assert is_harmless(str(error))
        assert '\ufffd[31m' in str(error)
    assert visible('a\nb\t\u2028c') == 'a\nb  c'
    assert visible('é שלום 中文 ½') == 'é שלום 中文 ½'
    assert visible('\u2764\ufe0f') == '\u2764\ufe0f', 'one says in which form'
    assert visible('a\ufe0f\ufe00\ufe01b') == 'a\ufe0f\ufffd\ufffdb'
    for letter in '\u2800\ufffc\U0001d159\U00013430\u0600\u06dd\u070f\u0890\u08e2\U000110bd':
        assert visible(f'a{letter}b') == 'a\ufffdb'
    assert one_line('a\u3164b\u202ec') == 'a\ufffdbc'


def test_messages_of_rows(search, folder):  # noqa: F811
    best = search.rank(Table({'image': ['blue.png', 'red.png'],
                              'dataproduct_type': [EVIL, 'image']}), 'red', image_dir=folder)
    assert '[31m' in best['clip_message'][1]
    assert all(map(is_harmless, best['clip_message'].tolist()))
