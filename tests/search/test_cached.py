# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a user meets when the cache is damaged, locked, full of old files, or has no place at all.
"""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from astroclip_search import ClipSearch, ClipSearchClass, conf
from astroclip_search.archives.files import expand
from astroclip_search.embeddings import cachefile
from astroclip_search.embeddings.cachefile import FILE_NAME
from astroclip_search.search.session import Session
from tests.colours import ColourEncoder, content

pytestmark = pytest.mark.filterwarnings('error::UserWarning:astroclip_search')


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'cache' / FILE_NAME


@pytest.fixture
def new(tmp_path):
    """Make instances, as of several processes, that share a cache."""
    made = []

    def make():
        made.append(ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache'))
        return made[-1]

    yield make
    for search in made:
        search.close()


def change(path, *statement):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(*statement).rowcount


def ranked(search, folder):
    found = search.rank(folder, 'red', by='image')
    assert set(found['clip_status']) == {'OK'}
    assert np.isfinite(found['clip_score']).all()
    return found['clip_score'].tolist(), search.session.encoder().n_images


@pytest.mark.parametrize('vector', [b'', b'\0' * 6, b'\0' * 8, 'text', b'\xff' * 6, 7])
def test_a_bad_embedding_is_made_anew(new, folder, path, vector):
    expected, n = ranked(new(), folder)
    assert n == 3
    change(path, "UPDATE vectors SET vector = ? WHERE key LIKE '%blue%'", (vector,))
    assert ranked(new(), folder) == (expected, 1)
    assert ranked(new(), folder) == (expected, 0)


@pytest.mark.filterwarnings('ignore::astroclip_search.exceptions.UncalibratedWarning')
def test_a_bad_word_or_phrase_is_made_anew(new, folder, path):
    first = new().describe(folder, ['red', 'blue'])
    change(path, 'UPDATE vectors SET vector = zeroblob(6) WHERE length(key) < 6')
    search = new()
    again = search.describe(folder, ['red', 'blue'])
    assert again['clip_phrase'].tolist() == first['clip_phrase'].tolist()
    assert search.session.encoder().n_texts > 0


def test_a_bad_thumbnail_is_made_anew(new, folder, path):
    before = new()
    ranked(before, folder)
    pictures = [card.jpeg for card in before.gallery(folder).cards]
    change(path, "UPDATE thumbnails SET jpeg = x'ffd8ff' WHERE key LIKE '%blue%'")
    search = new()
    assert [card.jpeg for card in search.gallery(folder).cards] == pictures
    search.close()
    with closing(sqlite3.connect(path)) as connection:
        assert {jpeg for jpeg, in connection.execute('SELECT jpeg FROM thumbnails')} == {
            *pictures}


def test_a_locked_cache_costs_one_wait(new, folder, path, monkeypatch, caplog):
    monkeypatch.setattr(cachefile, '_WAIT', 0.2)
    ranked(new(), folder)
    search = new()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN EXCLUSIVE')
        waits = []
        failed = cachefile.CacheFile._failed

        def counted(self, action, error):
            waits.append(self._has_waited)
            failed(self, action, error)

        monkeypatch.setattr(cachefile.CacheFile, '_failed', counted)
        assert ranked(search, folder)[1] == 3
        assert waits.count(False) == 1
        assert len(caplog.records) <= 2
        other.execute('COMMIT')
    caplog.clear()
    assert ranked(search, folder)[1] == 3, 'they are in memory'
    assert ranked(new(), folder)[1] == 0
    assert not caplog.records


def test_no_place_for_the_cache_is_said_once(folder, monkeypatch, caplog, tmp_path):
    (tmp_path / 'file').touch()
    for name in ('XDG_CACHE_HOME', 'ASTROPY_CACHE_DIR'):
        monkeypatch.delenv(name, raising=False)
    for name in ('HOME', 'USERPROFILE'):
        monkeypatch.setenv(name, str(tmp_path / 'file'))
    search = ClipSearch(encoder=ColourEncoder())
    for n in (3, 3):
        assert ranked(search, folder)[1] == n
    info = search.cache_info()
    assert (info['path'], info['bytes'], info['vectors']) == ('', 0, 0)
    assert len(search.gallery(folder).cards) == 3
    assert search.clear_cache() == 3
    assert len(caplog.records) == 1
    assert 'nothing is kept on disk' in caplog.text


def test_a_home_that_nobody_knows(monkeypatch, folder):
    def unknown(name):
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr('astropy.config.get_cache_dir', unknown)
    search = ClipSearch(encoder=ColourEncoder())
    assert ranked(search, folder)[1] == 3
    assert search.cache_info()['path'] == ''
    assert search.session.caches() == [search.session.cache(False)]
    assert Session(cache_dir='~nobody-of-this-name/x').cache_path() is None


def test_a_file_in_place_of_the_folder(folder, tmp_path, caplog):
    (tmp_path / 'file').touch()
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'file')
    assert [ranked(search, folder)[1] for _ in range(2)] == [3, 3]
    assert search.cache_info()['vectors'] == 0
    assert search.clear_cache() == 3
    assert len(caplog.records) == 1


IMPORT = """
import astroclip_search
from astroclip_search import ClipSearch, conf
assert conf.n_connections == 5
assert ClipSearch.cache_info()['path'] == ''
assert ClipSearch.clear_cache() == 0
"""


def test_import_without_a_home(tmp_path):
    (tmp_path / 'file').touch()
    home = str(tmp_path / 'file')
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(('XDG_', 'ASTROPY_'))}
    done = subprocess.run([sys.executable, '-W', 'error', '-c', IMPORT], capture_output=True,
                          text=True, timeout=60, check=True,
                          env=environment | {'HOME': home, 'USERPROFILE': home})
    assert done.stderr.count('nothing is kept on disk') == 1


@pytest.mark.skipif(os.name == 'nt', reason='this system has no modes')
def test_the_folder_of_astropy_is_closed_to_others(monkeypatch, tmp_path):
    folder = tmp_path / 'of astropy'
    folder.mkdir(mode=0o755)
    monkeypatch.setattr('astropy.config.get_cache_dir', lambda name: str(folder))
    assert Session().cache_path() == folder / FILE_NAME
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_limit_is_that_of_the_settings(new, folder, path, tmp_path):
    for i in range(24):
        noise = np.random.default_rng(i).integers(0, 256, (200, 200, 3), np.uint8)
        Image.fromarray(noise).save(folder / f'{i}.png')
    search = new()
    with conf.set_temp('cache_max_bytes', 400_000):
        search.rank(folder, 'red', by='image')
        assert path.stat().st_size <= 400_000
        info = search.cache_info()
        assert info['max_bytes'] == 400_000
        assert info['thumbnails'] < info['vectors'] == 27
    again = new()
    assert ranked(again, folder)[1] == 0
    cards = again.gallery(folder, n=27).cards
    assert all(card.jpeg for card in cards)
    again.close()
    assert new().cache_info()['thumbnails'] == 27, 'those that were shown are back'


def test_clear_cache_deletes_what_is_left_of_older_versions(new, folder, path, caplog):
    path.parent.mkdir()
    beside = {name: path.with_name(name) for name in (
        'embeddings.sqlite', 'embeddings.sqlite.damaged-17', f'{FILE_NAME}.damaged-18',
        'embeddings-9.sqlite', 'embeddings.sqlite.mine', 'other.sqlite')}
    for file in beside.values():
        file.write_bytes(b'x' * 1000)
    search = new()
    assert search.cache_info()['unused_bytes'] == 3000
    assert not path.exists(), 'to look makes no file'
    ranked(search, folder)
    with caplog.at_level('INFO'):
        assert search.clear_cache() == 3
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([
        FILE_NAME, 'embeddings-9.sqlite', 'embeddings.sqlite.mine', 'other.sqlite'])
    assert caplog.text.count('was deleted') == 3
    assert search.cache_info()['unused_bytes'] == 0


@pytest.mark.filterwarnings('ignore::astroclip_search.exceptions.UncalibratedWarning')
def test_clear_cache_from_another_thread(new, folder):
    """Whenever it comes, a ranking has all of its scores."""
    for i in range(30):
        (folder / f'{i}.png').write_bytes(content('green') + bytes(i))
    search = new()
    expected = search.rank(folder, 'red', by='image')['clip_score'].tolist()
    done = threading.Event()
    cleared = []

    def clear():
        while not done.is_set():
            cleared.append(search.clear_cache())

    thread = threading.Thread(target=clear)
    thread.start()
    try:
        for _ in range(4):
            found = search.rank(folder, 'red', by='image', fold_duplicates=True)
            assert found['clip_score'].tolist() == expected
            search.describe(folder, ['red', 'blue'])
    finally:
        done.set()
        thread.join()
    assert sum(cleared) >= 33


def test_a_cache_of_ours_is_no_image(new, folder, tmp_path):
    ranked(ClipSearchClass(encoder=ColourEncoder(), cache_dir=folder), folder)
    (folder / 'embeddings.sqlite').write_bytes(b'older')
    assert (folder / FILE_NAME).exists()
    assert [path.name for path in expand(folder)] == ['blue.png', 'green.png', 'red.png']
