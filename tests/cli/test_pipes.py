# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the command line writes for programs, and the commands that look after the installation.
"""

import io
import json
import logging
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from astroclip_search import ClipSearchClass, conf
from astroclip_search.archives import table_io
from astroclip_search.cli import main
from astroclip_search.search.session import Session
from tests.colours import ColourEncoder, content


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with a picture of each colour, and a cache of its own."""
    for colour in ('red', 'green', 'blue'):
        (tmp_path / f'{colour}.png').write_bytes(content(colour))
    monkeypatch.chdir(tmp_path)
    encoder = ColourEncoder()
    monkeypatch.setattr(Session, 'encoder', lambda self: encoder)
    monkeypatch.setattr(Session, 'cache_path',
                        lambda self: tmp_path / 'cache' / 'embeddings.sqlite')
    return tmp_path


@pytest.fixture
def command(capfdbinary):
    """Run a command: exit code, bytes of the output, lines of the errors."""
    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capfdbinary.readouterr()
        return code, out, err.decode().splitlines()

    return run


@pytest.fixture
def piped(monkeypatch):
    """Put bytes on standard input."""
    def put(content):
        monkeypatch.setattr(sys, 'stdin', types.SimpleNamespace(buffer=io.BytesIO(content)))

    return put


@pytest.mark.parametrize('form', [None, 'fits', 'csv'])
def test_a_table_through_pipes(folder, command, piped, form):
    asked = ['--format', form] if form else []
    code, out, err = command('rank', '.', 'blue', '--out', '-', '--limit', '1', *asked)
    assert (code, err) == (0, ['3 rows (3 OK)', 'model: colours colours'])  # said elsewhere
    assert table_io.read(io.BytesIO(out))['clip_rank'].tolist() == [1, 2, 3]
    piped(out)
    code, out, err = command('rank', '-', 'red', '--image-dir', '.', '--json')
    assert code == 0
    assert Path(json.loads(out)['rows'][0]['filename']).name == 'red.png'
    piped(out)
    code, out, err = command('rank', '-', 'red', '--input-format', 'fits')
    assert (code, out) == (2, b'')
    assert 'The standard input cannot be read' in err[0]


def test_json(folder, command):
    Table({'image': ['blue.png', ''], 'x': [np.nan, 1.0]}).write('in.ecsv')
    code, out, err = command('rank', 'in.ecsv', 'blue', '--image-dir', '.', '--json', '--out',
                             'best.ecsv')
    document = json.loads(out)
    assert code == 0
    assert [row['clip_status'] for row in document['rows']] == ['OK', 'NO_IMAGE']
    assert document['rows'][0]['x'] is None
    assert document['rows'][1]['clip_score'] is None
    assert document['meta']['clip']['query'] == ['blue']
    assert err[-1] == 'table: best.ecsv (2 rows)'


@pytest.mark.parametrize('arguments', [
    ['describe', 'red.png'], ['classify', 'red.png', '--class', 'a', '--class', 'red'], ['models'],
    ['models', 'list'], ['cache'], ['cache', 'info'], ['versions'], ['--versions'], ['--version'],
    ['gallery', 'red.png', 'blue.png', '--text', 'blue', '-n', 'all'], ['cache', 'clear']])
def test_everything_that_prints_has_json(folder, command, arguments):
    for asked in (['--json', *arguments], [*arguments, '--json']):
        if arguments[0].startswith('--'):
            asked = ['--json', *arguments]
        code, out, err = command(*asked, '-q')
        assert (code, err) == (0, [])
        assert json.loads(out)
    code, out, err = command(*arguments)
    assert code == 0
    assert out


def test_quiet_and_verbose(folder, command, monkeypatch):
    (folder / 'broken.png').write_bytes(b'broken')
    log = logging.getLogger('astroclip_search')
    before = conf.show_progress, log.level, list(log.handlers)
    code, out, err = command('rank', '.', 'red', '-q')
    assert (code, err) == (0, [])
    assert out.splitlines()[-1].split()[-1].endswith(b'broken.png')  # the table, no summary
    (folder / 'cache' / 'embeddings.sqlite').write_bytes(b'damaged \x1b[31m' * 100)
    code, out, err = command('rank', '.', 'red')
    assert 'is damaged or of another version' in err[0]
    assert err[1].startswith('UnreadImagesWarning: ')
    monkeypatch.setattr(ClipSearchClass, 'clear_cache', lambda self: log.info('a\nb\x1b') or 0)
    assert command('cache', 'clear')[2] == []
    assert command('-v', 'cache', 'clear')[2] == ['a b']
    assert (conf.show_progress, log.level, log.handlers) == before


def test_reader_of_the_pipe_has_gone(folder, command, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, 'stdout', Gone())
    assert main(['rank', '.', 'red', '--gallery', 'best.html', '--out', 'best.ecsv']) == 141
    assert Path('best.html').is_file()
    assert Path('best.ecsv').is_file()


def test_gallery_of_a_table_that_was_ranked(folder, command, monkeypatch):
    opened = []
    monkeypatch.setattr('webbrowser.open', opened.append)
    assert command('rank', '.', 'blue', '--out', 'best.fits', '--limit', 2)[0] == 0
    code, out, err = command('gallery', 'best.fits', '--out', 'g.html', '--open')
    assert (code, err) == (0, [])
    assert out.decode().splitlines() == ['gallery: g.html (3 images)',
                                         'there is no browser to open it']
    assert opened == [(folder / 'g.html').absolute().as_uri()]
    html = (folder / 'g.html').read_text('utf-8')
    assert html.count('data:image/jpeg;base64,') == 3
    assert 'blue' in html[html.index('<h2'):html.index('</h2>')]
    assert command('rank', '.', 'blue', '--open')[1].decode().splitlines()[-2:] == [
        'gallery: gallery.html (3 images)', 'there is no browser to open it']


def test_cache(folder, command):
    assert b'vectors 0\n' in command('cache')[1]
    assert not (folder / 'cache').exists()
    command('rank', '.', 'red')
    info = json.loads(command('cache', 'info', '--json')[1])
    assert info['vectors'] == 3
    assert info['bytes'] == (folder / 'cache' / 'embeddings.sqlite').stat().st_size
    assert b'limit 4.0 GiB\n' in command('cache')[1]
    assert command('cache', 'clear')[1] == b'3 embeddings forgotten\n'
    assert json.loads(command('cache', '--json')[1])['vectors'] == 0
    (folder / 'cache' / 'embeddings.sqlite.damaged-7').write_bytes(b'damaged' * 100_000)
    assert b'unused 0.7 MiB\n' in command('cache')[1]
    assert command('cache', 'clear')[1] == (
        b'0 embeddings forgotten; embeddings.sqlite.damaged-7 deleted\n')
    cleared = json.loads(command('cache', 'clear', '--json')[1])
    assert (cleared['forgotten'], cleared['deleted']) == (0, [])


def test_selftest(folder, command, monkeypatch):
    found = {'ok': True, 'versions': {'Python': '3'}, 'variants': [],
             'checks': [{'name': 'model', 'ok': True, 'detail': 'd'}]}
    monkeypatch.setattr('astroclip_search.diagnostics.selftest', lambda *args, **kwargs: found)
    assert command('selftest') == (0, b'ok    model: d\n      Python 3\nAll is well.\n', [])
    found['ok'] = found['checks'][0]['ok'] = False
    code, out, _ = command('selftest')
    assert (code, out[:11]) == (1, b'FAIL  model')
    assert json.loads(command('selftest', '--json')[1]) == found


def test_model_that_cannot_be_downloaded(folder, command):
    code, out, err = command('models', 'download', 'no/such')
    assert (code, out, len(err)) == (2, b'', 1)
    assert "'no/such'" in err[0]


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'fish'])
def test_completion(command, shell):
    pytest.importorskip('shtab')
    code, out, err = command('completion', shell)
    assert (code, err) == (0, [])
    for name in (b'fold-duplicates', b'rerun', b'cache-dir', b'overwrite', b'disliked'):
        assert name in out


def test_completion_without_its_library(command, monkeypatch):
    monkeypatch.setitem(sys.modules, 'shtab', None)
    code, out, err = command('completion', 'bash')
    assert (code, out) == (2, b'')
    assert 'pip install "astroclip-search[completion]"' in err[0]


def test_help_fits_a_narrow_terminal(command, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    pages = [command(name, '--help')[1].decode() for name in (
        'demo', 'query', 'rank', 'filter', 'locate', 'sia', 'tap', 'refine', 'suggest', 'rerun',
        'describe', 'classify', 'gallery', 'models', 'cache', 'versions', 'selftest', 'mcp',
        'completion')]
    for page in pages:
        assert max(map(len, page.splitlines())) <= 80
        assert '\nexamples:\n  astroclip-search ' in page
    assert 'exit status:\n  0    all went well\n' in command('--help')[1].decode()
