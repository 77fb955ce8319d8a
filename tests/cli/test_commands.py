# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The command line as a person uses it.
"""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from astroclip_search import __version__, conf
from astroclip_search.archives import table_io
from astroclip_search.cli import main
from astroclip_search.search.session import Session
from tests.colours import ColourEncoder, content

CHECKOUT = Path(__file__).parents[2]
needs_model = pytest.mark.skipif(
    not (CHECKOUT / 'astroclip_search' / 'model' / 'astroclip.json').exists(),
    reason='the checkout has no embedded model')
needs_sample = pytest.mark.skipif(
    not (CHECKOUT / 'astroclip_search' / 'data' / 'sample' / 'archive.ecsv').exists(),
    reason='the checkout has no sample archive')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with a picture of each colour."""
    for colour in ('red', 'green', 'blue'):
        (tmp_path / f'{colour}.png').write_bytes(content(colour))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def colours(monkeypatch, tmp_path):
    """Let every command use a model whose answers are known, and a cache of its own."""
    encoder = ColourEncoder()
    monkeypatch.setattr(Session, 'encoder', lambda self: encoder)
    monkeypatch.setattr(Session, 'cache_path',
                        lambda self: tmp_path / 'cache' / 'embeddings.sqlite')
    return encoder


@pytest.fixture
def command(capsys):
    """Run a command: exit code, lines of the output, lines of the errors."""
    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


def test_rank_folder(folder, colours, command):
    code, out, err = command('rank', '.', 'blue')
    assert (code, err) == (0, [])
    assert out[0].split() == ['rank', 'score', 'file']
    assert out[1].split() == ['1', '1.00', 'blue.png']
    assert out[-2:] == ['3 rows (3 OK)', 'model: colours colours']
    assert not (folder / 'gallery.html').exists()


def test_rank_files_with_options(folder, colours, command):
    code, out, _ = command('rank', 'red.png', 'green.png', 'blue.png', 'red green', '--not',
                           'green', '--limit', 1, '--by', 'image', '--gallery', 'g.html')
    assert code == 0
    assert 'red.png' in out[1]
    assert out[2] == ''  # the second row is not shown
    assert out[3:5] == ['3 rows (3 OK), 1 shown', 'model: colours colours']
    assert out[-1] == 'gallery: g.html (1 image)'
    assert (folder / 'g.html').read_text().count('<article ') == 1


def test_rank_a_plane_of_a_cube(folder, colours, command):
    data = np.random.default_rng(0).normal(10, 1, (3, 64, 64)).astype('f4')
    data[0, :32] += 500
    data[2, 32:] += 500
    fits.PrimaryHDU(data).writeto(folder / 'cube.fits')
    for plane, said in (('0', 0), ('peak', 'peak'), ('2', 2)):
        code, _, err = command('rank', 'cube.fits', 'red', '--plane', plane, '--out', 'a.ecsv',
                               '--overwrite')
        assert (code, err) == (0, [])
        assert Table.read('a.ecsv').meta['clip']['plane'] == said
    assert colours.n_images == 3
    assert command('describe', 'cube.fits', '--plane', 'sum', '--phrase', 'red')[0] == 0
    assert command('classify', 'cube.fits', '--plane', '1', '--class', 'red', '--class',
                   'blue')[0] == 0
    assert colours.n_images == 5
    assert command('gallery', 'cube.fits', '--plane', '1', '--text', 'red')[0] == 0
    assert colours.n_images == 5
    assert conf.plane == 'middle', 'for the command only'


def test_rank_by_example_in_groups(folder, colours, command):
    Table({'image': ['red.png', 'red.png', 'blue.png'], 'p': ['a', 'a', 'b'],
           'target_name': ['one', 'two', 'three']}).write(folder / 'in.ecsv')
    code, out, err = command('rank', 'in.ecsv', '', '--like', 'red.png', '--unlike', 'green.png',
                             '--image-dir', folder, '--group-by', 'p')
    assert (code, err) == (0, [])
    assert [line.split()[-1] for line in out[1:4]] == ['one', 'three', 'two']
    code, out, _ = command('rank', 'in.ecsv', 'red', '--image-dir', folder, '--fold-duplicates')
    assert [line.split()[-1] for line in out[1:4]] == ['one', 'three', 'two']


def test_rank_table_and_write(folder, colours, command):
    Table({'image': ['blue.png', 'red.png'], 'n': [1, 2]}).write(folder / 'in.ecsv')
    for out in ('best.fits', 'best.fits', 'best.vot'):
        code, lines, err = command('rank', 'in.ecsv', 'red', '--image-dir', folder, '--out', out,
                                   '--overwrite', '--limit', 1)
        assert (code, err) == (0, [])
        assert lines[-1] == f'table: {out} (2 rows)'
        best = table_io.read(Path(out))
        assert best['n'].tolist() == [2, 1]
        assert best.meta['clip']['query'] == ['red']
        assert command('rank', out, 'blue', '--image-dir', folder)[0] == 0
    assert command('rank', 'in.ecsv', 'red', '--image-dir', folder, '--out', 'best.txt',
                   '--format', 'csv')[0] == 0
    code, out, _ = command('rank', 'best.txt', 'blue', '--image-dir', folder, '--input-format',
                           'csv', '--limit', 'all')
    assert code == 0
    assert [Path(line.split()[-1]).name for line in out[1:3]] == ['blue.png', 'red.png']


def test_describe(folder, colours, command):
    Table({'image': ['red.png', '', 'blue.png'], 'target_name': ['M 1', 'M 2', 'M 3']}).write(
        folder / 'in.ecsv')
    code, out, err = command('describe', 'in.ecsv', '--image-dir', folder, '--phrase', 'red',
                             '--phrase', 'blue', '--limit', 1, '--out', 'lines.ecsv',
                             '--gallery', 'g.html')
    assert code == 0
    assert [line.partition(':')[0] for line in err] == ['UncalibratedWarning']
    assert out[0].split() == ['name', 'phrase', 'score', 'status']
    assert [line.split() for line in out[1:4]] == [
        ['M', '1', 'red', '1.00', 'OK'], ['M', '2', '--', 'NO_IMAGE'],
        ['M', '3', 'blue', '1.00', 'OK']]
    assert out[5:] == ['3 rows (1 NO_IMAGE, 2 OK)', '1 NO_IMAGE: the row names no image',
                       'model: colours colours', 'table: lines.ecsv (3 rows)',
                       'gallery: g.html (2 images)']
    assert Table.read('lines.ecsv')['clip_name'].tolist() == ['M 1', 'M 2', 'M 3']
    assert (folder / 'g.html').read_text().count('<article ') == 2


def test_describe_from_the_vocabulary(folder, colours, command):
    code, out, _ = command('describe', 'red.png', 'blue.png')
    assert code == 0
    assert len(out) == 1 + 2 * 5 + 3


def test_classify(folder, colours, command):
    code, out, err = command('classify', '.', '--class', 'warm=red', '--class', 'cold=blue',
                             '--class', 'cold=green', '--out', 'classes.csv')
    assert (code, err) == (0, [])
    assert out[0].split() == ['class', 'probability', 'file']
    assert [line.split()[0] for line in out[1:4]] == ['cold', 'cold', 'warm']
    assert 'clip_p_warm' in Table.read('classes.csv', format='ascii.csv').colnames
    code, out, err = command('classify', 'red.png', '--class', 'red', '--class', 'dark blue')
    assert out[1].split()[0] == 'red'


@pytest.mark.parametrize(('arguments', 'message'), [
    (['describe', 'nothing.png'], "There is no file or folder 'nothing.png'"),
    (['describe', 'red.png', '--phrase', ' '], 'phrases has no word'),
    (['describe', 'red.png', '--limit', '0'], "'0' is neither a number of at least 1 nor 'all'"),
    (['classify', 'red.png', '--class', 'red'], 'classes has 1 class'),
    (['classify', 'red.png', '--class', '=red', '--class', 'b'], 'classes has no word'),
    (['classify', 'red.png', '--class', 'a', '--class', 'b', '--false-alarm-rate', '0.1'],
     'has no reference images'),
])
def test_errors_of_describe_and_classify(folder, colours, command, arguments, message):
    code, out, err = command(*arguments)
    assert (code, out, len(err)) == (2, [], 1)
    assert message in err[0]


def test_classify_needs_classes(folder, command):
    code, _, err = command('classify', 'red.png')
    assert code == 2
    assert 'required: --class' in err[-1]


def test_some_rows_fail(folder, colours, command):
    (folder / 'broken.png').write_bytes(b'broken')
    code, out, err = command('rank', folder, 'red')
    assert code == 0
    line, = err
    assert line.startswith('UnreadImagesWarning: 1 of 4 images could not be read')
    assert out[-3] == '4 rows (1 ERROR, 3 OK)'
    assert out[-2].startswith('1 ERROR: neither a FITS file nor a JPEG')


def test_nothing_ranked_is_exit_code_1(folder, colours, command):
    (folder / 'broken.png').write_bytes(b'broken')
    code, out, err = command('rank', 'broken.png', 'red')
    assert code == 1
    assert err[0].startswith('NothingRankedWarning: None of the 1 rows could be ranked')
    assert out[-3] == '1 row (1 ERROR)'


@pytest.mark.parametrize(('arguments', 'message'), [
    (['rank', 'nothing', 'red'], "There is no file or folder 'nothing'"),
    (['rank', '.', ' '], 'text must be a phrase'),
    (['rank', '.', 'x' * 10_000], 'the limit is 2000'),
    (['rank', '.', 'red', '--not', ''], 'negative has no word'),
    (['rank', '*.png', 'red', '--group-by', 'p'], "There is no column 'p' to group by"),
    (['rank', '*.png', '', '--like', 'nothing.jpg'], "There is no file or folder 'nothing.jpg'"),
    (['rank', '.', '', '--unlike', 'red.png'], 'text must be a phrase'),
    (['rank', 'text.csv', 'red'], 'has no column that names images'),
    (['rank', 'damaged.ecsv', 'red'], 'cannot be read as a table'),
    (['query', 'red', '--radius', '1deg'], 'A radius needs'),
    (['query', 'red', '--object', 'M 8', '--radius', 'wide'], "The radius 'wide' is not an angle"),
])
def test_errors_are_one_line(folder, colours, command, arguments, message):
    (folder / 'text.csv').write_text('a,b\n1,2\n')
    (folder / 'damaged.ecsv').write_text('no\ntable "')
    code, out, err = command(*arguments)
    assert (code, out) == (2, [])
    assert len(err) == 1
    assert err[0].startswith('astroclip-search: ')
    assert message in err[0]


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--out', 'best.doc'], 'does not end in .ecsv'),
    (['--out', 'best'], 'does not end in'), (['--out', 'no/such/best.csv'], 'existing folder'),
    (['--out', '-', '--format', 'doc'], "invalid choice: 'doc'"),
    (['--gallery', 'no/such/g.html'], 'existing folder'), (['--gallery', '.'], 'existing folder'),
    (['--limit', 'many'], "neither a number of at least 1 nor 'all'"),
    (['--limit', '0'], 'neither a number'), (['--by', 'pixels'], 'invalid choice'),
    (['--max-images', '-1'], 'not a number of at least 0'), (['--colours'], 'unrecognized'),
    (['--gallery', 'page.fits'], 'does not end in .html'),
    (['--plane', 'mean'], "plane must be 'middle', 'peak', 'sum' or the number of a plane"),
    (['--plane', '-1'], '--plane'),
])
def test_bad_options_are_found_before_the_work(folder, colours, command, arguments, message):
    code, out, err = command('rank', '.', 'red', *arguments)
    assert (code, out) == (2, [])
    assert message in err[-1]
    assert colours.n_images == 0


def test_unknown_model(folder, command):
    code, out, err = command('rank', '.', 'red', '--model', 'no such model')
    assert (code, out, len(err)) == (2, [], 1)
    assert "There is no model 'no such model'" in err[0]


def test_query(mast, colours, command, tmp_path):
    code, out, err = command('query', 'spirals', '--criterion', 'instrument_name=ACS/WFC',
                             '--limit', 3, '--out', tmp_path / 'best.ecsv')
    assert code == 0
    assert [line.partition(':')[0] for line in err] == ['UnreadImagesWarning']
    assert len(out[:out.index('')]) == 1 + 3
    assert out[-2] == 'MAST rows with obs_title=*spiral* or target_classification=*spiral*'
    assert out[-1] == f'table: {tmp_path}/best.ecsv (10 rows)'
    assert len(Table.read(tmp_path / 'best.ecsv')) == 10


def test_query_at_an_object(mast, colours, command):
    code, out, err = command('query', 'spirals', '--object', 'M 42', '--radius', '30arcmin')
    assert code == 0
    assert out[-1] == 'MAST images within 30 arcmin of M 42'
    assert [line.partition(':')[0] for line in err] == ['UnreadImagesWarning']


def test_query_at_a_position(mast, colours, command):
    code, out, err = command('query', 'spirals', '--region', '5h34m24s -5d24m')
    assert code == 0
    assert out[-1] == 'MAST images within 0.2 deg of 5h34m24s -5d24m'
    assert [line.partition(':')[0] for line in err] == ['UnreadImagesWarning']


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--object', 'no such thing'], 'no such thing'),
    (['--criterion', 'hue=red'], 'hue'),
])
def test_query_errors(mast, colours, command, arguments, message):
    code, out, err = command('query', 'red', *arguments)
    assert (code, out, len(err)) == (2, [], 1)
    assert message in err[0]


@pytest.mark.parametrize('criterion', ['instrument', '=x'])
def test_criterion_needs_a_name_and_a_value(mast, colours, command, criterion):
    code, _, err = command('query', 'red', '--criterion', criterion)
    assert code == 2
    assert 'does not look like NAME=VALUE' in err[-1]


@pytest.mark.parametrize('fault', ['status:400', 'error', 'html'])
def test_archive_is_down(mast, colours, command, fault):
    mast.faults = {'Mast.': fault}
    code, out, err = command('query', 'red', '--object', 'M 42')
    assert (code, out, len(err)) == (2, [], 1), err
    assert err[0].startswith('astroclip-search: ')


def test_archive_text_cannot_command_the_terminal(folder, colours, command):
    table = Table({'image': ['red.png'], 'target_name': ['\x1b]0;evil\x07\x1b[31mred\u202e']})
    table.write(folder / 'in.ecsv')
    code, out, _ = command('rank', 'in.ecsv', 'red', '--image-dir', '.')
    assert code == 0
    assert not {'\x1b', '\x07', '\u202e'} & set('\n'.join(out))
    assert 'evil' in out[1]


def test_interruption(folder, colours, command, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(colours, 'encode_images', interrupted)
    code, out, err = command('rank', '.', 'red')
    assert (code, out, err) == (130, [], ['interrupted; what was embedded is kept'])


def test_bug_is_named_one(folder, colours, command, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError('a bug')

    monkeypatch.setattr(colours, 'encode_text', broken)
    code, out, err = command('rank', '.', 'red')
    assert (code, out, len(err)) == (3, [], 1)
    assert err[0].startswith('astroclip-search: unexpected ValueError: a bug (a defect')
    assert 'raise ValueError' in '\n'.join(command('rank', '.', 'red', '--debug')[2])


def test_warning_handler_is_put_back(folder, colours, command):
    (folder / 'broken.png').write_bytes(b'broken')
    before, filters = warnings.showwarning, list(warnings.filters)
    command('rank', '.', 'red')
    command('rank', 'nothing', 'red')
    assert warnings.showwarning is before
    assert warnings.filters == filters


def test_no_command(command):
    code, out, err = command()
    assert (code, err) == (2, [])
    assert 'demo' in '\n'.join(out)


@pytest.mark.parametrize('name', ['', 'query', 'cache'])
def test_help(command, name):
    code, out, err = command(*filter(None, [name, '--help']))
    assert (code, err) == (0, [])
    assert out[0].startswith('usage: astroclip-search')


def test_as_a_module():
    done = subprocess.run([sys.executable, '-W', 'error', '-m', 'astroclip_search', '--versions'],
                          capture_output=True, text=True, check=True, timeout=300, cwd=CHECKOUT)
    assert done.stderr == ''
    assert 'astropy ' in done.stdout


@needs_model
@needs_sample
def test_demo(tmp_path):
    """The first command of the README, in a process of its own, without any network."""
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-m', 'astroclip_search', 'demo', 'ring galaxy',
         '--out', tmp_path / 'best.ecsv'], capture_output=True, text=True, check=False,
        timeout=120, cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(CHECKOUT), 'XDG_CACHE_HOME': str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ['rank', 'score', 'false_alarm']
    assert 'gallery: gallery.html (20 images)' in done.stdout
    # The row whose server does not answer, in words that astropy's own handler has not.
    assert done.stderr.startswith('UnreadImagesWarning: ')
    assert done.stderr.count('Warning') == 1
    html = (tmp_path / 'gallery.html').read_text('utf-8')
    assert html.count('data:image/jpeg;base64,') == 20
    best = Table.read(tmp_path / 'best.ecsv')
    assert best['clip_rank'][:20].tolist() == list(range(1, 21))
    assert f'table: {tmp_path}/best.ecsv ({len(best)} rows)' in done.stdout
    assert set(best.meta['clip']['status']) >= {'OK', 'SKIPPED', 'NO_IMAGE', 'ERROR'}
    assert __version__
