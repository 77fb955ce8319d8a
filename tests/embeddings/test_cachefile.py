# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The file of the cache: locked, damaged, too large, of another version, or not there at all.
"""

import contextlib
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from astroclip_search.embeddings import cachefile
from astroclip_search.embeddings.cache import Cache
from astroclip_search.embeddings.cachefile import FILE_NAME, leftovers
from astroclip_search.models.background import normalise

RNG = np.random.default_rng(1)
KEYS = [f'key {i}' for i in range(8)]
VECTORS = normalise(RNG.normal(size=(8, 32)))
JPEG = b'\xff\xd8\xff of a kind'

pytestmark = pytest.mark.filterwarnings('error')


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'folder' / FILE_NAME


@pytest.fixture
def open_cache(path):
    with contextlib.ExitStack() as stack:
        def make(file=path, **options):
            cache = Cache(file, **options)
            stack.callback(cache.close)
            return cache
        yield make


@pytest.fixture
def filled(open_cache):
    """A cache that is not open at the moment."""
    cache = open_cache()
    cache.put('model', KEYS, VECTORS, [(key, JPEG) for key in KEYS])
    cache.put_links({'link': 'https://a.example/image.jpg'})
    cache.put_failures(['lost'])
    cache.close()


@contextlib.contextmanager
def database(path):
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def change(path, statement, *parameters):
    with database(path) as connection:
        assert connection.execute(statement, parameters).rowcount


def known(cache, keys=KEYS, name='model'):
    return (cache.space(name, keys).positions(keys) >= 0).tolist()


# ---- what is read is what was written ------------------------------------------------------


def flipped(blob, bit):
    number = int.from_bytes(blob, 'little') ^ (1 << bit)
    return number.to_bytes(len(blob), 'little')


GOOD = np.asarray(VECTORS[2], '<f2').tobytes()
DAMAGE = {
    'cut': GOOD[:-2], 'half a number': GOOD[:-1], 'longer': GOOD + b'\0\0', 'empty': b'',
    'zero': bytes(64), 'text': 'abc', 'number': 7, 'sign': flipped(GOOD, 15),
    'last digit': flipped(GOOD, 0), 'exponent': flipped(GOOD, 14 + 16 * 5),
    'NaN': np.full(32, np.nan, '<f2').tobytes(), 'infinite': np.full(32, np.inf, '<f2').tobytes(),
    'of another': np.asarray(VECTORS[3], '<f2').tobytes()}


@pytest.mark.parametrize('kind', DAMAGE)
def test_a_vector_that_is_not_as_it_was_written_counts_as_absent(filled, open_cache, path, kind):
    change(path, 'UPDATE vectors SET vector = ? WHERE key = ?', DAMAGE[kind], KEYS[2])
    cache = open_cache()
    assert known(cache) == [key != KEYS[2] for key in KEYS]
    cache.put('model', [KEYS[2]], VECTORS[2:3])
    again = open_cache()
    assert all(known(again)), 'and is replaced'
    space = again.space('model', KEYS)
    np.testing.assert_allclose(space.matrix[space.positions(KEYS)], VECTORS, atol=1e-3)


def test_any_bit_is_found(filled, open_cache, path):
    with database(path) as connection:
        for bit in RNG.choice(8 * len(GOOD), 24, replace=False).tolist():
            connection.execute('UPDATE vectors SET vector = ? WHERE key = ?',
                               (flipped(GOOD, bit), KEYS[2]))
            assert not known(open_cache(), [KEYS[2]])[0], bit


@pytest.mark.parametrize('length', [33, 0, 2**40, 'x', None])
def test_a_length_that_is_not_true(filled, open_cache, path, length):
    with database(path) as connection:
        connection.execute('PRAGMA writable_schema=1')  # its constraint would prevent some
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'size INTEGER NOT NULL', "
                           "'size INTEGER')")
    change(path, 'UPDATE spaces SET size = ?', length)
    cache = open_cache()
    assert not any(known(cache))
    cache.put('model', KEYS, VECTORS)
    assert all(known(open_cache()))


def test_a_model_whose_vectors_have_another_length(filled, open_cache):
    cache = open_cache()
    assert all(known(cache))
    cache.put('model', KEYS[:2], VECTORS[:2, :16])
    assert known(cache) == known(open_cache()) == [True] * 2 + [False] * 6


@pytest.mark.parametrize('jpeg', [b'', b'\xff\xd8\xff of a kinD', JPEG[:-1], 'text', 3])
def test_a_thumbnail_that_is_damaged_is_mended(filled, open_cache, path, jpeg):
    change(path, 'UPDATE thumbnails SET jpeg = ? WHERE key = ?', jpeg, KEYS[2])
    cache = open_cache()
    assert cache.thumbnail(KEYS[2]) is None
    with cache.call():
        for key in ('never seen', KEYS[2], KEYS[3]):
            cache.mend_thumbnail(key, b'a new one')
    again = open_cache()
    assert [again.thumbnail(key) for key in KEYS[2:4]] == [b'a new one', JPEG]
    assert again.thumbnail('never seen') is None
    assert cache.thumbnail(KEYS[2]) == b'a new one'


def test_links_and_failures_that_are_damaged(filled, open_cache, path):
    assert open_cache().links(['link']) == {'link': 'https://a.example/image.jpg'}
    change(path, "UPDATE links SET address = 'https://b.example/image.jpg'")
    change(path, "UPDATE failures SET created = 'yesterday'")
    cache = open_cache()
    assert cache.links(['link']) == cache.failures(['lost']) == {}
    change(path, 'UPDATE links SET address = ?', b'\xff')
    assert cache.links(['link']) == {}
    cache.put_links({'link': 'https://c.example/image.jpg'})
    cache.put_failures(['lost'])
    again = open_cache()
    assert again.links(['link']) == {'link': 'https://c.example/image.jpg'}
    assert time.time() - 9 < again.failures(['lost'])['lost'] <= time.time()


def test_a_model_out_of_its_mind(open_cache):
    """What is no unit vector is not kept."""
    vectors = VECTORS.copy()
    vectors[1], vectors[2], vectors[3] = np.nan, np.inf, 0
    open_cache().put('model', KEYS, vectors)
    assert known(open_cache()) == [i not in (1, 2, 3) for i in range(8)]


def test_vectors_of_any_scale(open_cache):
    open_cache().put('model', KEYS, 1e6 * VECTORS)
    space = open_cache().space('model', KEYS)
    np.testing.assert_allclose(space.matrix[space.positions(KEYS)], VECTORS, atol=1e-3)


# ---- locks ---------------------------------------------------------------------------------


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(cachefile, '_WAIT', 0.3)
    return 0.3


def seconds(action):
    started = time.monotonic()
    action()
    return time.monotonic() - started


def test_a_lock_is_waited_for_once_in_a_call(filled, open_cache, path, patience, caplog):
    cache = open_cache()
    with database(path) as other:
        other.execute('BEGIN EXCLUSIVE')

        def work():
            with cache.call():
                assert not any(known(cache))
                for i in range(20):
                    cache.put('model', [f'new {i}'], VECTORS[:1], [(f'new {i}', JPEG)])
                    cache.put_failures([f'new {i}'])
                    assert cache.thumbnail(f'new {i}') == JPEG
                    assert known(cache, [f'new {i}']) == [True]
                assert cache.links(['link']) == {}

        assert patience < seconds(work) < 2 * patience
        assert len(caplog.records) == 2, 'once for reading, once for writing'
        assert 'another process has locked it' in caplog.text
        caplog.clear()
        assert patience < seconds(work) < 2 * patience, 'the next call tries again'
        other.execute('COMMIT')
    with cache.call():
        assert all(known(cache))
    assert not caplog.records, 'said once'
    again = open_cache()
    new = [f'new {i}' for i in range(20)]
    assert all(known(again, new)), 'what was put meanwhile is on disk by now'
    assert again.thumbnail('new 19') == JPEG
    assert set(again.failures(new)) == set(new)


def test_a_file_that_is_locked_when_it_is_opened(filled, open_cache, path, patience, caplog):
    with database(path) as other:
        other.execute('BEGIN EXCLUSIVE')
        cache = open_cache()
        with cache.call():
            assert seconds(lambda: cache.put('model', ['new'], VECTORS[:1])) < patience
            assert not any(known(cache))
        other.execute('COMMIT')
    assert len(caplog.records) == 1
    with cache.call():
        assert all(known(cache))
    assert known(open_cache(), ['new']) == [True]


def test_a_reader_does_not_hinder_reading(filled, open_cache, path, caplog):
    with database(path) as other:
        other.execute('BEGIN IMMEDIATE')
        assert all(known(open_cache()))
    assert not caplog.records


# ---- damage --------------------------------------------------------------------------------


@pytest.fixture
def torn(open_cache, path):
    """A cache whose pages in the middle are overwritten."""
    keys = [f'key {i}' for i in range(2000)]
    cache = open_cache()
    cache.put('model', keys, RNG.normal(size=(2000, 64)), [(key, JPEG * 10) for key in keys])
    cache.put_links({key: key for key in keys})
    cache.put_failures(keys)
    cache.close()
    content = bytearray(path.read_bytes())
    content[8192:] = b'\xa5' * (len(content) - 8192)
    path.write_bytes(content)
    return keys


@pytest.mark.parametrize('use', [
    lambda cache, keys: cache.space('model', keys), lambda cache, keys: cache.thumbnail(keys[7]),
    lambda cache, keys: cache.links(keys), lambda cache, keys: cache.failures(keys),
    lambda cache, keys: cache.put('model', keys, RNG.normal(size=(2000, 64))),
    lambda cache, keys: cache.put_links({'a': 'b'}), lambda cache, keys: cache.put_failures(['a']),
    lambda cache, keys: cache.knows('a'), lambda cache, keys: cache.earlier_key('a', ''),
    lambda cache, keys: cache.counts(), lambda cache, keys: cache.clear()])
def test_damage_inside_is_met_once(torn, open_cache, path, caplog, use):
    cache = open_cache(max_bytes=1)
    with cache.call():
        use(cache, torn)
        cache.put('model', KEYS, VECTORS)
    assert [record.message.split(' ', 3)[3] for record in caplog.records] == [
        f'is damaged or of another version; it was moved to {leftovers(path)[0].name}.']
    if use(cache, torn):
        assert caplog.text.count('damaged') == 2, 'the same line'


def test_it_is_moved_aside_only_once(torn, open_cache, path, caplog):
    cache = open_cache()
    cache.space('model', torn)
    cache.put('model', torn, RNG.normal(size=(2000, 64)))
    with open(path, 'r+b') as stream:  # the same file
        stream.seek(24)
        stream.write(bytes(4))  # says that it was changed
        stream.seek(8192)
        stream.write(b'\xa5' * (path.stat().st_size - 8192))
    for _ in range(3):
        with cache.call():
            cache.space('model', [*torn, 'new'])
            cache.put('other', KEYS, VECTORS)
    assert all(known(cache, name='other'))
    assert ['damaged again' in record.message for record in caplog.records] == [False, True]
    assert len(leftovers(path)) == 1


def test_what_another_process_has_begun_anew_stays(torn, open_cache, path, caplog):
    first, second = open_cache(), open_cache()
    first.space('model', torn)
    first.put('model', KEYS, VECTORS)
    assert not any(known(second, ['key 1999']))
    assert all(known(second))
    assert len(caplog.records) == len(leftovers(path)) == 1


def test_a_file_that_is_cut_short(filled, open_cache, path, caplog):
    os.truncate(path, path.stat().st_size // 2)
    cache = open_cache()
    cache.put('model', KEYS, VECTORS, [(key, JPEG) for key in KEYS])
    assert all(known(cache))
    assert caplog.text.count('was moved to') == 1
    assert all(known(open_cache()))


def test_tables_of_somebody_else(open_cache, path):
    path.parent.mkdir()
    with database(path) as connection:
        connection.execute('CREATE TABLE vectors (x)')
    cache = open_cache()
    cache.put('model', KEYS, VECTORS)
    assert all(known(cache))
    assert all(known(open_cache()))
    [aside] = leftovers(path)
    with database(aside) as connection:
        assert connection.execute('SELECT x FROM vectors').fetchall() == []


# ---- other trouble -------------------------------------------------------------------------


def test_a_full_disk(filled, open_cache, path, caplog):
    cache = open_cache()
    connection = cache._file._connection
    connection.execute(f'PRAGMA max_page_count={path.stat().st_size // 8192}')
    jpegs = [(f'new {i}', bytes(30_000)) for i in range(8)]
    for _ in range(2):
        with cache.call():
            cache.put('model', [key for key, _ in jpegs], VECTORS, jpegs)
            assert all(known(cache))
            assert cache.thumbnail('new 7') == jpegs[7][1]
    [said] = [record.message for record in caplog.records]
    assert said == (f'The cache {path} could not be written (database or disk is full); the call '
                    'goes on in memory.')
    connection.execute('PRAGMA max_page_count=100000')
    with cache.call():
        cache.put('model', ['later'], VECTORS[:1])
    assert known(open_cache(), ['later', 'new 0']) == [True, False]


LIMITED = """
import logging, resource, sys
import numpy as np
from astroclip_search.embeddings.cache import Cache

logging.basicConfig(format='%(message)s')
cache = Cache(sys.argv[1])
size = cache.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
cache.put('model', ['a'], np.eye(32)[:1], [('a', bytes(100_000))])
print(cache.space('model', ['a', 'key 0']).positions(['a', 'key 0']).tolist())
print(cache.clear(), cache.path.stat().st_size < size)
"""


@pytest.mark.skipif(os.name == 'nt', reason='this system has no limits of this kind')
def test_a_disk_on_which_nothing_grows(filled, path):
    with database(path) as connection:
        connection.execute("INSERT INTO thumbnails VALUES ('large', 0, 0, 0, zeroblob(1000000))")
    done = subprocess.run([sys.executable, '-c', LIMITED, path], capture_output=True, text=True,
                          check=True, timeout=60)
    assert done.stdout == '[0, 1]\n8 True\n'
    assert done.stderr.count('could not be written') == 1


def test_an_interruption_leaves_no_lock(filled, open_cache, path):
    cache = open_cache()

    def interrupted(connection):
        connection.execute('DELETE FROM vectors')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache._file.write(interrupted)
    with database(path) as other:
        other.execute('BEGIN EXCLUSIVE')
        other.execute('COMMIT')
    assert all(known(cache))


# ---- who may look in -----------------------------------------------------------------------


needs_modes = pytest.mark.skipif(os.name == 'nt', reason='this system has no modes')


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@needs_modes
@pytest.mark.parametrize('umask', [0, 0o022, 0o777])
def test_the_file_is_for_its_owner_alone(tmp_path, open_cache, umask):
    path = tmp_path / 'mine' / 'cache' / FILE_NAME
    path.parent.parent.mkdir()
    before = os.umask(umask)
    try:
        cache = open_cache(path)
        cache._file._connection.execute('BEGIN')
        cache._file._connection.execute("INSERT INTO failures VALUES ('a', 0)")
        modes = {file.name: mode(file) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {FILE_NAME: 0o600, f'{FILE_NAME}-journal': 0o600}
    assert mode(path.parent) == 0o700


@needs_modes
def test_what_others_could_read_is_closed(filled, open_cache, path):
    path.chmod(0o664)
    path.parent.chmod(0o755)
    assert all(known(open_cache()))
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o755, 'a folder that was there is left alone'


@needs_modes
def test_a_file_that_nobody_may_write_stays_so(filled, open_cache, path):
    path.chmod(0o444)
    assert all(known(open_cache()))
    assert mode(path) == 0o400


# ---- how large it may be -------------------------------------------------------------------


def test_the_file_is_kept_to_its_limit(open_cache, path, monkeypatch):
    monkeypatch.setattr('astroclip_search.embeddings.cache._LOOK_AGAIN', 500_000)
    limit = 2_000_000
    cache = open_cache(max_bytes=limit)
    keys = [f'{i}' for i in range(800)]
    with cache.call():
        for i in range(0, 800, 16):
            cache.put('model', keys[i:i + 16], RNG.normal(size=(16, 64)),
                      [(key, os.urandom(6000)) for key in keys[i:i + 16]])
            assert path.stat().st_size < limit + 1_000_000
    assert path.stat().st_size <= limit
    again = open_cache()
    assert all(known(again, keys)), 'pictures go first'
    kept = [again.thumbnail(key) is not None for key in keys]
    assert 100 < sum(kept) < 300
    assert kept == sorted(kept), 'of equal age, the first go first'
    assert again.counts()['thumbnails'] == sum(kept)
    with again.call():
        again.mend_thumbnail('0', JPEG)
    assert open_cache().thumbnail('0') == JPEG, 'which a gallery brings back'


def aged(path, days):
    change(path, 'UPDATE lots SET used = used - ?', days)


def test_what_was_not_used_for_longest_goes_first(open_cache, path):
    names = ['old', 'used', 'seen', 'new']
    for name in names:
        open_cache().put('model', [f'{name} {i}' for i in range(500)],
                         RNG.normal(size=(500, 256)), [(f'{name}', bytes(9000))])
        aged(path, 2)
    reader = open_cache()
    with reader.call():
        reader.space('model', ['used 7'])
        reader.thumbnail('seen')
    size = path.stat().st_size
    last = open_cache(max_bytes=size * 7 // 10)
    with last.call():
        last.put_links({})
        last.put('model', ['x'], RNG.normal(size=(1, 256)))
    again = open_cache()
    assert [known(again, [f'{name} 0'])[0] for name in names] == [False, True, True, False]
    assert path.stat().st_size <= size * 7 // 10
    assert again.knows('old') is False


def test_what_is_too_old_goes_before_all_else(open_cache, path):
    for name in ('old', 'new'):
        open_cache().put('model', [f'{name} {i}' for i in range(500)],
                         RNG.normal(size=(500, 64)), [(name, bytes(100_000))])
    change(path, "UPDATE vectors SET created = 0 WHERE key LIKE 'old%'")
    change(path, "UPDATE thumbnails SET created = 0 WHERE key = 'old'")
    cache = open_cache(max_bytes=path.stat().st_size * 3 // 4, max_age=1000)
    with cache.call():
        cache.put('model', ['x'], RNG.normal(size=(1, 64)))
    again = open_cache()
    assert again.counts() == {'vectors': 501, 'thumbnails': 1, 'links': 0, 'failures': 0}
    assert again.thumbnail('new') is not None


def test_to_read_is_not_to_write(filled, open_cache, path):
    """What was used today is not marked again: nothing waits for the disk."""
    before = path.stat().st_mtime_ns
    for _ in range(2):
        cache = open_cache()
        with cache.call():
            assert all(known(cache))
            assert cache.thumbnail(KEYS[0]) == JPEG
    assert path.stat().st_mtime_ns == before
    aged(path, 1)
    with cache.call():
        pass
    with open_cache().call():
        pass
    cache = open_cache()
    with cache.call():
        known(cache)
    with database(path) as connection:
        assert connection.execute('SELECT DISTINCT used FROM lots').fetchall() == [
            (cachefile.day(),)]


# ---- clear ---------------------------------------------------------------------------------


def test_clear_gives_the_space_back(open_cache, path):
    cache = open_cache()
    cache.put('model', KEYS, VECTORS, [(key, bytes(100_000)) for key in KEYS])
    assert path.stat().st_size > 800_000
    assert cache.clear() == 8
    assert path.stat().st_size < 200_000
    assert cache.counts() == {'vectors': 0, 'thumbnails': 0, 'links': 0, 'failures': 0}


def test_clear_of_a_locked_file_says_so(filled, open_cache, path, patience, caplog):
    cache = open_cache()
    assert all(known(cache))
    with database(path) as other:
        other.execute('BEGIN IMMEDIATE')
        for n in (1, 2):
            assert cache.clear() == 0
            assert caplog.text.count('could not be cleared (another process has locked it)') == n
        assert all(known(cache)), 'nothing is forgotten'
        assert all(known(open_cache()))
        other.execute('COMMIT')
    assert cache.clear() == 8
    assert not any(known(cache))


def test_clear_while_another_thread_ranks(filled, open_cache):
    cache = open_cache()
    with cache.call():
        space = cache.space('model', KEYS)
        assert cache.clear() == 8
        assert all(known(cache)), 'a call keeps what it has'
        assert cache.space('model', ['x']) is space
        cache.put('model', ['x'], VECTORS[:1])
        assert cache.counts()['vectors'] == 1
    assert not any(known(cache))
    assert known(cache, ['x']) == [True], 'what came later stays on disk'


def test_clear_while_another_process_ranks(filled, open_cache):
    one, other = open_cache(), open_cache()
    assert all(known(one))
    assert other.clear() == 8
    with one.call():
        assert all(known(one)), 'it has them in memory'
        one.put('new', ['x'], VECTORS[:1], [('x', JPEG)])
        one.put('model', ['x'], VECTORS[1:2])
    again = open_cache()
    assert not any(known(again))
    assert known(again, ['x']) == known(again, ['x'], 'new') == [True]
    assert again.thumbnail('x') == JPEG


# ---- files of other versions ---------------------------------------------------------------


VERSION_2 = """
CREATE TABLE vectors (space TEXT NOT NULL, key TEXT NOT NULL, created REAL NOT NULL,
    vector BLOB NOT NULL, PRIMARY KEY (space, key)) WITHOUT ROWID;
CREATE TABLE thumbnails (key TEXT PRIMARY KEY, created REAL NOT NULL, jpeg BLOB NOT NULL)
    WITHOUT ROWID;
PRAGMA user_version = 2;
"""


@pytest.fixture
def older(path):
    path.parent.mkdir()
    file = path.with_name('embeddings.sqlite')
    small = np.asarray(VECTORS, '<f2')
    blobs = [row.tobytes() for row in small]
    blobs[5], blobs[6], blobs[7] = blobs[5][:-2], bytes(64), 'text'
    with database(file) as connection:
        connection.executescript(VERSION_2)
        for space in ('model', 'other'):
            connection.executemany('INSERT INTO vectors VALUES (?, ?, ?, ?)', [
                (space, key, 1e9 + i, blob)
                for i, (key, blob) in enumerate(zip(KEYS, blobs, strict=True))])
        connection.executemany('INSERT INTO thumbnails VALUES (?, ?, ?)', [
            ('good', 1e9, JPEG), ('bad', 1e9, b'no JPEG')])
    return file


def test_an_older_file_is_taken_over_and_stays(older, open_cache, path, caplog):
    content = older.read_bytes()
    with caplog.at_level(logging.INFO):
        cache = open_cache()
    assert [record.levelname for record in caplog.records] == ['INFO']
    for name in ('model', 'other'):
        assert known(cache, name=name) == [True] * 5 + [False] * 3, 'what is sound'
    space = cache.space('model', KEYS)
    np.testing.assert_allclose(space.matrix[space.positions(KEYS[:5])], VECTORS[:5], atol=1e-3)
    assert cache.thumbnail('good') == JPEG
    assert cache.thumbnail('bad') is None
    with database(path) as connection:
        assert connection.execute('SELECT created FROM vectors WHERE key = ?',
                                  (KEYS[3],)).fetchone() == (1e9 + 3,)
    assert older.read_bytes() == content
    assert leftovers(path) == [older]
    cache.clear()
    assert not any(known(open_cache())), 'it is taken over once'


@pytest.mark.parametrize('damage', [b'no database', b'', 'locked', 'of version 1', 'torn'])
def test_an_older_file_that_cannot_be_taken_over(older, open_cache, path, damage, caplog, patience):
    with contextlib.ExitStack() as stack:
        if isinstance(damage, bytes):
            older.write_bytes(damage)
        elif damage == 'torn':
            content = older.read_bytes()
            older.write_bytes(content[:4096] + b'\xa5' * (len(content) - 4096))
        elif damage == 'locked':
            stack.enter_context(database(older)).execute('BEGIN EXCLUSIVE')
        else:
            with database(older) as connection:
                connection.execute('PRAGMA user_version=1')
        cache = open_cache()
        cache.put('model', KEYS, VECTORS)
        assert all(known(cache))
    assert older.exists()
    assert path.exists()
    assert 'moved' not in caplog.text
    assert all(known(open_cache()))


def test_versions_do_not_touch_the_files_of_each_other(open_cache, path):
    others = [path.with_name('embeddings.sqlite'), path.with_name('embeddings-4.sqlite')]
    path.parent.mkdir()
    for other in others:
        other.write_bytes(b'of another version')
    open_cache().put('model', KEYS, VECTORS)
    assert all(known(open_cache()))
    assert [other.read_bytes() for other in others] == [b'of another version'] * 2
    assert leftovers(path) == others[:1], 'a later version is not ours to delete'


# ---- processes -----------------------------------------------------------------------------


EIGHT_THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from astroclip_search.embeddings.cache import Cache

cache = Cache(sys.argv[1])

def work(thread):
    with cache.call():
        for i in range(2):
            keys = [f'{sys.argv[2]} {thread} {i} {j}' for j in range(8)]
            cache.put('model', keys, np.eye(32)[:8], [(key, key.encode()) for key in keys])
            assert (cache.space('model', keys).positions(keys) >= 0).all()
            cache.put_failures(keys[:1])

with ThreadPoolExecutor(8) as threads:
    list(threads.map(work, range(8)))
cache.close()
"""


def test_two_processes_with_eight_threads_keep_all(open_cache, path):
    processes = [subprocess.Popen([sys.executable, '-W', 'error', '-c', EIGHT_THREADS, path, name],
                                  stderr=subprocess.PIPE, text=True) for name in ('one', 'two')]
    assert [process.communicate(timeout=60)[1] for process in processes] == ['', '']
    keys = [f'{name} {thread} {i} {j}' for name in ('one', 'two') for thread in range(8)
            for i in range(2) for j in range(8)]
    cache = open_cache()
    assert all(known(cache, keys))
    assert all(cache.thumbnail(key) == key.encode() for key in keys)
    assert len(cache.failures(keys)) == 32
