# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The commands of the second step: filter, refine, suggest, rerun; services; errors as JSON.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from astroclip_search import ClipSearchClass
from astroclip_search.archives import table_io
from astroclip_search.cli.output import with_options
from astroclip_search.search import named
from astroclip_search.search.session import Session
from tests import tiny
from tests.colours import ColourEncoder, content
from tests.loopback.vo import Dataset, Vo


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with a picture of each colour and a cache of its own."""
    for i, colour in enumerate(['red', 'green', 'blue', 'red', 'green', 'blue']):
        (tmp_path / f'{colour}{i}.png').write_bytes(content(colour) + b'%d' % i)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Session, 'cache_path', lambda self: Path(
        self.cache_dir or 'cache', 'embeddings.sqlite'))
    return tmp_path


@pytest.fixture
def colours(monkeypatch):
    encoder = ColourEncoder()
    monkeypatch.setattr(Session, 'encoder', lambda self: encoder)
    return encoder


@pytest.fixture
def another_day(monkeypatch):
    """Forget what the user has named, as in another process."""
    return lambda: monkeypatch.setattr(named, '_by_cache', {})


def files(lines):
    """The names of the first colour words of the rows that are printed."""
    return [next(word for word in line.split() if '.png' in word)[:-5]
            for line in lines[1:lines.index('')]]


def test_filter(folder, command, monkeypatch):
    pytest.importorskip('onnx')
    tiny.write_bundle(folder / 'model')
    asked = ['.', 'red', '--by', 'image', '--model', 'model']
    assert command('rank', *asked, '--out', 'all.ecsv')[0] == 0
    rates = Table.read('all.ecsv')['clip_false_alarm']
    rate = round(float(rates.min()) + 1e-4, 4)
    n = int((rates <= rate).sum())
    assert 0 < n < 6
    code, out, _ = command('filter', *asked, '--false-alarm-rate', rate, '--out', 'kept.ecsv')
    assert code == 0
    assert len(Table.read('kept.ecsv')) == n
    assert '6 rows (6 OK)' in out
    assert out[-2:] == [f'{n} rows with a false alarm of at most {rate:g}',
                        f'table: kept.ecsv ({n} rows)']
    code, out, _ = command('filter', *asked)  # too few references for a rate of 0.01
    assert (code, out[-1]) == (1, '0 rows with a false alarm of at most 0.01')


def test_filter_needs_reference_images(folder, colours, command):
    code, out, err = command('filter', '.', 'red')
    assert (code, out, len(err)) == (2, [], 1)
    assert 'no reference images' in err[0]


def test_refine_step_by_step(folder, colours, command):
    assert command('rank', '.', 'red green', '--by', 'image', '--out', 'a.ecsv')[0] == 0
    before = Table.read('a.ecsv')
    rank = {str(name).rpartition('/')[2]: int(rank) for name, rank in
            zip(before['filename'], before['clip_rank'], strict=True)}
    code, out, err = command('refine', 'a.ecsv', '--liked',
                             f'{rank["blue2.png"]},{rank["blue5.png"]}', '--disliked',
                             rank['red0.png'], '--out', 'b.ecsv')
    assert (code, err) == (0, [])
    assert out[0].split() == ['rank', 'score', 'mark', 'file']
    assert files(out)[:2] == ['blue', 'blue']
    assert files(out)[-1] == 'red'
    assert [line.split()[2] for line in out[1:3]] == ['liked', 'liked']
    # The marks are in the table, so they count in the next step as well.
    code, out, err = command('refine', 'b.ecsv', '--text', 'green')
    assert (code, err) == (0, [])
    assert files(out)[:2] == ['blue', 'blue']
    code, out, err = command('refine', 'b.ecsv', '--forget', 'all')
    assert (code, err) == (0, [])
    assert 'liked' not in ' '.join(out)
    assert colours.n_images == 6, 'no image is read again'


@pytest.mark.parametrize('ranks', ['0', '1,,2', 'first', '1.5'])
def test_ranks_that_are_none(folder, colours, command, ranks):
    code, out, err = command('refine', 'a.ecsv', '--liked', ranks)
    assert (code, out) == (2, [])
    assert 'does not look like 1,4' in err[0]


def test_ranks_that_the_table_does_not_have(folder, colours, command):
    assert command('rank', '.', 'red', '--out', 'a.ecsv')[0] == 0
    code, _, err = command('refine', 'a.ecsv', '--liked', '7')
    assert (code, len(err)) == (2, 1)
    assert 'rank 7, which the table does not have' in err[0]


@pytest.mark.parametrize('name', ['refine', 'suggest'])
def test_a_table_that_is_not_there(folder, colours, command, name):
    code, out, err = command(name, 'nothing.ecsv')
    assert (code, out) == (2, [])
    assert err == ["astroclip-search: There is no file 'nothing.ecsv'."]


def test_suggest(folder, colours, command):
    assert command('rank', '.', 'red green', '--out', 'a.ecsv')[0] == 0
    assert command('refine', 'a.ecsv', '--liked', 1, '--disliked', 6, '--out', 'b.ecsv')[0] == 0
    code, out, err = command('suggest', 'b.ecsv', '-n', 2, '--out', 'c.ecsv')
    assert (code, err) == (0, [])
    assert len(files(out)) == 2
    shown, table = Table.read('c.ecsv'), Table.read('b.ecsv')
    # Their ranks are those of the table, and they have no mark yet.
    ranks = dict(zip(table['clip_source'], table['clip_rank'], strict=True))
    assert all(ranks[row['clip_source']] == row['clip_rank'] for row in shown)
    assert np.ma.getmaskarray(shown['clip_label']).all()


def test_rerun_of_a_folder(folder, colours, command):
    assert command('rank', '.', 'red', '--out', 'search.ecsv')[0] == 0
    code, out, err = command('rerun', 'search.ecsv')
    assert (code, [line.partition(':')[0] for line in err]) == (1, ['LeftOutWarning'])
    assert out[0] == '6 rows (6 OK)'
    assert out[-1].startswith('0 new rows since 20')
    (folder / 'red9.png').write_bytes(content('red') + b'9')
    code, out, _ = command('rerun', 'search.ecsv', '--out', 'new.ecsv')
    assert (code, files(out)) == (0, ['red'])
    assert out[-2].startswith('1 new row since 20')
    assert out[-1] == 'table: new.ecsv (1 row)'
    code, out, _ = command('rerun', 'search.ecsv', '--all', '--json')
    assert code == 0
    document = json.loads('\n'.join(out))
    assert sorted(row['clip_new'] for row in document['rows']) == [False] * 6 + [True]
    # It is new until the file says otherwise.
    assert command('rerun', 'search.ecsv', '--update', '-q')[0] == 0
    assert len(Table.read('search.ecsv')) == 7
    assert command('rerun', 'search.ecsv', '--update', '-q')[:2] == (1, []), 'no mail of cron'
    assert len(Table.read('search.ecsv')) == 7


def test_rerun_of_mast(mast, folder, colours, command):
    assert command('query', 'spirals', '--out', 'search.vot', '-q')[0] == 0
    code, out, _ = command('rerun', 'search.vot')
    assert code == 1
    assert out[-2] == 'MAST rows with obs_title=*spiral* or target_classification=*spiral*'


def test_rerun_of_what_is_no_search(folder, colours, command):
    Table({'image': ['red0.png']}).write('in.csv')
    code, _, err = command('rerun', 'in.csv')
    assert (code, len(err)) == (2, 1)
    assert 'does not say what was searched' in err[0]


@pytest.fixture
def vo():
    with Vo([Dataset(f'{colour} {i}', f'a {colour} field', files={'jpg': content(colour, 'JPEG')})
             for i, colour in enumerate(['red', 'green', 'blue'])]) as server:
        yield server


def test_sia(vo, folder, colours, command):
    code, out, err = command('sia', f'{vo.url}/sia2', 'blue', '--region', '0h40m -5d', '--radius',
                             '1deg', '--by', 'image')
    assert (code, err) == (0, [])
    assert out[1].split()[-5:] == ['blue', '2', 'a', 'blue', 'field']
    assert out[-1].startswith(f'images of {vo.url}/sia2 within 1 deg of 00h40m00.0s -05d00m00.0s')


def test_tap(vo, folder, colours, command):
    code, out, _ = command('tap', f'{vo.url}/tap', 'SELECT * FROM ivoa.obscore', 'green', '--by',
                           'image', '--limit', 1, '--maxrec', 3, '--out', 'all.ecsv')
    assert code == 0
    assert 'green 1' in out[1]
    assert len(Table.read('all.ecsv')) == 3
    assert out[-2] == f'rows of {vo.url}/tap for SELECT * FROM ivoa.obscore'


def test_options_of_images(folder, colours, command):
    assert command('rank', '.', 'red', '--cache-dir', folder / 'mine', '--no-cache')[0] == 0
    assert not (folder / 'mine').exists()
    assert command('rank', '.', 'red', '--cache-dir', folder / 'mine')[0] == 0
    assert (folder / 'mine' / 'embeddings.sqlite').is_file()
    for place in (['--cache-dir', 'mine', 'info'], ['info', '--cache-dir', 'mine']):
        assert 'vectors 6' in command('cache', *place)[1]
    table = Table({'mine': ['red0.png', 'blue2.png'], 'image': ['green1.png', 'green1.png']})
    table.write('in.ecsv')
    code, out, err = command('rank', 'in.ecsv', 'blue', '--image-dir', '.', '--image-column',
                             'mine')
    assert (code, err) == (0, [])
    assert 'blue2.png' in out[1]


def test_max_images(mast, folder, colours, command):
    code, out, _ = command('query', 'spirals', '--max-images', 2)
    assert code == 0
    assert any('SKIPPED: more than 2 images: call again to go on' in line for line in out)


@pytest.mark.parametrize(('arguments', 'kind', 'status', 'said'), [
    (['rank', 'nothing', 'red', '--json'], 'InvalidQueryError', 2, 'There is no file or folder'),
    (['--json', 'rank', '.', ' '], 'InvalidQueryError', 2, 'text must be a phrase'),
    (['rank', '--json', '.', 'red', '--limit', 'x'], 'ArgumentsError', 2, '--limit'),
    (['rank', '.', 'red', '--json', '--out', '-'], 'InvalidQueryError', 2, 'standard output'),
    (['cache', 'nothing', '--json'], 'ArgumentsError', 2, 'invalid choice'),
    (['rank', '.', '--by', 'image', 'dark', 'red', '--json'], 'ArgumentsError', 2,
     'unrecognized arguments: red; put a phrase in quotes'),
])
def test_errors_as_json(folder, colours, command, arguments, kind, status, said):
    code, out, err = command(*arguments)
    document = json.loads('\n'.join(out))
    assert (code, document['kind'], document['exit_status']) == (status, kind, status)
    assert said in document['error']
    assert len(err) == 1
    assert document['error'] in err[0]


def test_a_defect_as_json(folder, colours, command, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError('a bug')

    monkeypatch.setattr(colours, 'encode_text', broken)
    code, out, _ = command('rank', '.', 'red', '--json')
    document = json.loads('\n'.join(out))
    assert (code, document['kind'], document['exit_status']) == (3, 'ValueError', 3)


def test_json_has_the_rows_that_are_printed(folder, colours, command):
    code, out, _ = command('rank', '.', 'red', '--json', '--limit', 2, '--out', 'all.ecsv')
    document = json.loads('\n'.join(out))
    assert (code, document['n_rows'], len(document['rows'])) == (0, 6, 2)
    assert len(Table.read('all.ecsv')) == 6
    everything = json.loads('\n'.join(command('rank', '.', 'red', '--json', '-n', 'all')[1]))
    assert len(everything['rows']) == 6


def test_reasons_are_told_with_their_number(folder, colours, command):
    Table({'image': ['red0.png', '', '', *(f'lost{i}.png' for i in range(7))]}).write('in.ecsv')
    code, out, _ = command('rank', 'in.ecsv', 'red', '--image-dir', '.', '--limit', 1)
    assert code == 0
    assert out[3] == '10 rows (7 ERROR, 2 NO_IMAGE, 1 OK), 1 shown'
    assert out[4] == '2 NO_IMAGE: the row names no image'
    assert out[5].startswith('1 ERROR: cannot read the file')
    assert out[9] == '3 more for other reasons: see clip_message in the table of --out'


def test_the_verbs_are_those_of_the_library(folder, colours, command):
    """The command says what the call returns."""
    _, out, _ = command('rank', '.', 'red', '--json', '-n', 'all', '--by', 'image')
    best = ClipSearchClass(encoder=colours).rank('.', 'red', by='image')
    said, same = json.loads('\n'.join(out)), table_io.as_json(best)
    assert said['rows'] == same['rows']
    assert said['meta']['clip'].keys() == same['meta']['clip'].keys()


def test_a_page_without_a_picture_says_why_and_what_to_give(folder, colours, command, another_day):
    command('rank', '.', 'red', '--out', 'n.ecsv')
    said = ('ERROR: a file of an earlier ranking that this session has not '
            'read: rank its folder again, or give --image-dir FOLDER')
    for verb, code, n in ((['gallery', 'n.ecsv'], 1, 6),
                          (['refine', 'n.ecsv', '--liked', 1, '--gallery', 'a.html'], 0, 6),
                          (['suggest', 'n.ecsv', '--gallery', 'b.html'], 0, 5)):
        another_day()
        found, _, err = command(*verb)
        assert (found, err) == (code, [f'no picture of {n} rows: {said}'])
        assert command(*verb, '--image-dir', '.', '--overwrite')[2] == []
    another_day()
    assert command('gallery', 'n.ecsv', '-q')[1:] == ([], [])


def test_messages_name_options(folder, colours, command, another_day):
    command('rank', '.', 'red', '--out', 'n.ecsv')
    another_day()
    code, _, err = command('rerun', 'n.ecsv')
    assert code == 2
    assert err[0].endswith('give --image-dir FOLDER, that folder or one above it.')
    code, out, err = command('rank', 'n.ecsv', 'red')
    assert code == 1
    assert any('or give --image-dir FOLDER' in line for line in out)
    assert 'image_dir' not in ' '.join(out + err)


@pytest.mark.parametrize(('sentence', 'said'), [
    ('Name it with image_column.', 'Name it with --image-column.'),
    ('to allow it give image_column, the name', 'to allow it give --image-column NAME, the name'),
    ('the name leads out of image_dir', 'the name leads out of --image-dir'),
    ('or write with overwrite=True.', 'or write with --overwrite.'),
    *[(name, name) for name in ("no 'image_dir' here", 'image_dir.fits', 'my_image_dir',
                                'a/image_dir', 'image_dir/b', '--image-dir')]])
def test_names_are_no_options(sentence, said):
    assert with_options(sentence) == said
