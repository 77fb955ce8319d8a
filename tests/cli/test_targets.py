# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
No command destroys a file: neither an input nor what is there already.
"""

import os
import subprocess
import sys

import pytest
from astropy.io import fits
from astropy.table import Table

from astroclip_search.archives import table_io
from astroclip_search.results.gallery import is_gallery
from astroclip_search.search.session import Session
from tests.colours import COLOURS, ColourEncoder, content, shaded


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with what a user may have there."""
    for colour in COLOURS:
        (tmp_path / f'{colour}.png').write_bytes(content(colour))
    fits.PrimaryHDU(shaded((200, 0, 0))[:, :, 0].astype('f4')).writeto(tmp_path / 'a.fits')
    (tmp_path / 'notes.html').write_text('<html>my notes</html>')
    (tmp_path / 'page').write_text('mine')
    os.link(tmp_path / 'red.png', tmp_path / 'hard.html')
    os.symlink(tmp_path / 'red.png', tmp_path / 'soft.ecsv')
    Table({'image': ['red.png', 'blue.png']}).write(tmp_path / 'in.ecsv')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Session, 'cache_path',
                        lambda self: tmp_path / 'cache' / 'embeddings.sqlite')
    return tmp_path


@pytest.fixture
def encoder(monkeypatch):
    encoder = ColourEncoder()
    monkeypatch.setattr(Session, 'encoder', lambda self: encoder)
    return encoder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize('overwrite', [[], ['--overwrite']])
@pytest.mark.parametrize(('arguments', 'message'), [
    (['rank', 'a.fits', 'red', '--gallery', 'a.fits'], 'does not end in .html'),
    (['rank', 'a.fits', 'red', '--gallery', 'page'], 'does not end in .html'),
    (['rank', 'a.fits', 'red', '--out', 'a.fits'], "'a.fits' is an input"),
    (['rank', '.', 'red', '--out', 'a.fits'], 'a.fits'),
    (['rank', '.', 'red', '--out', 'red.png', '--format', 'csv'], 'red.png'),
    (['rank', 'in.ecsv', 'red', '--image-dir', '.', '--out', 'in.ecsv'], "'in.ecsv' is an input"),
    (['rank', 'in.ecsv', 'red', '--image-dir', '.', '--out', './in.ecsv'], 'is an input'),
    (['rank', 'blue.png', 'red', '--like', 'red.png', '--out', 'soft.ecsv'], 'is an input'),
    (['rank', 'red.png', 'red', '--gallery', 'hard.html'], "'hard.html' is an input"),
    (['rank', 'blue.png', 'red', '--gallery', 'hard.html'], 'hard.html'),
    (['describe', 'red.png', '--out', 'soft.ecsv'], "'soft.ecsv' is an input"),
    (['gallery', 'red.png', '--out', 'red.png'], 'does not end in .html'),
    (['refine', 'in.ecsv', '--liked', '1', '--out', 'in.ecsv'], "'in.ecsv' is an input"),
    (['suggest', 'in.ecsv', '--out', 'in.ecsv'], "'in.ecsv' is an input"),
    (['rerun', 'in.ecsv', '--out', 'in.ecsv'], "'in.ecsv' is an input"),
])
def test_inputs_and_images_stay(folder, encoder, command, arguments, message, overwrite):
    before = contents(folder)
    code, out, err = command(*arguments, *overwrite)
    assert (code, out, len(err)) == (2, [], 1)
    assert message in err[0]
    assert contents(folder) == before
    assert encoder.n_images == 0, 'found before the work'


@pytest.mark.parametrize(('option', 'name'), [('--out', 'old.ecsv'), ('--out', 'old.fits'),
                                              ('--gallery', 'notes.html')])
def test_other_files_are_replaced_if_the_user_says_so(folder, encoder, command, option, name):
    if not (folder / name).exists():
        Table({'a': [1]}).write(folder / name)
    before = contents(folder)
    code, _, err = command('rank', 'blue.png', 'red', option, name)
    assert code == 2
    assert f"There is a file '{name}' already: choose another name, or add --overwrite." in err[0]
    assert contents(folder) == before
    assert command('rank', 'blue.png', 'red', option, name, '--overwrite')[0] == 0
    after = contents(folder)
    assert after.pop(name) != before.pop(name)
    assert after == before


def test_one_name_for_two_results(folder, encoder, command):
    code, _, err = command('rank', 'blue.png', 'red', '--out', 'x.html', '--format', 'csv',
                           '--gallery', './x.html')
    assert code == 2
    assert 'choose two names' in err[0]


def test_the_default_page_gives_way_to_a_file_that_is_not_ours(folder, encoder, command,
                                                               monkeypatch):
    assert command('gallery', 'red.png')[1] == ['gallery: gallery.html (1 image)']
    assert command('gallery', 'red.png', 'blue.png')[1] == ['gallery: gallery.html (2 images)']
    assert is_gallery(folder / 'gallery.html')
    (folder / 'gallery.html').write_text('mine')
    (folder / 'gallery-2.html').mkdir()
    (folder / 'gallery-3.html').symlink_to(folder / 'nowhere')
    code, out, _ = command('gallery', 'red.png')
    assert (code, out) == (0, ['gallery: gallery-4.html (1 image)',
                               'gallery.html is no gallery and stays as it is'])
    assert (folder / 'gallery.html').read_text() == 'mine'
    # If it is named, it is the user's choice.
    assert command('gallery', 'red.png', '--out', 'gallery.html')[0] == 2
    monkeypatch.setattr('webbrowser.open', lambda address: True)
    assert command('rank', 'red.png', 'red', '--open')[1][-2:] == [
        'gallery: gallery-4.html (1 image)', 'gallery.html is no gallery and stays as it is']


def test_a_failure_leaves_what_was_there(folder, encoder, command, monkeypatch):
    from astroclip_search.results.gallery import Gallery

    assert command('rank', 'blue.png', 'red', '--out', 'old.ecsv', '--gallery', 'g.html')[0] == 0
    before = contents(folder)

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(table_io, '_write', full)
    code, _, err = command('rank', 'red.png', 'red', '--out', 'old.ecsv', '--overwrite')
    assert code == 2
    assert 'No space left' in err[0]
    monkeypatch.setattr(Gallery, '_body', full)
    assert command('rank', 'red.png', 'red', '--gallery', 'g.html', '--overwrite')[0] == 2
    assert contents(folder) == before


def test_a_device_is_no_file(folder, encoder, command):
    assert command('rank', 'red.png', 'red', '--out', os.devnull, '--format', 'csv')[0] == 0


@pytest.mark.skipif(not os.path.exists('/dev/stdin'), reason='the system does not name its input')
def test_the_file_behind_standard_input_is_an_input(folder):
    before = (folder / 'in.ecsv').read_bytes()
    with (folder / 'in.ecsv').open('rb') as stdin:
        done = subprocess.run(
            [sys.executable, '-m', 'astroclip_search', 'rank', '-', 'red', '--image-dir', '.',
             '--out', 'in.ecsv', '--overwrite'], stdin=stdin, capture_output=True, text=True,
            cwd=folder, check=False)
    assert done.returncode == 2
    assert "'in.ecsv' is an input and is not written over" in done.stderr
    assert (folder / 'in.ecsv').read_bytes() == before
