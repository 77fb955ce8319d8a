# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The cache gives back what was put in, and no accident takes it or the session down.
"""

import logging
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from astroclip_search.embeddings.cache import Cache, Space
from astroclip_search.models.background import normalise

RNG = np.random.default_rng(0)
VECTORS = normalise(RNG.normal(size=(6, 32)))
KEYS = list('abcdef')


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'folder' / 'embeddings.sqlite'


@pytest.fixture
def open_cache(path):
    made = []

    def make(file=path, **options):
        made.append(Cache(file, **options))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


def found(cache, keys, name='model'):
    space = cache.space(name, keys)
    rows = space.positions(keys)
    return space.matrix[rows] if (rows >= 0).all() else None


@pytest.mark.parametrize('memory', [False, True])
def test_what_is_put_is_found(open_cache, path, memory):
    cache = open_cache(None if memory else path)
    cache.put('model', KEYS, VECTORS, [('a', b'jpeg')])
    np.testing.assert_allclose(found(cache, KEYS), VECTORS, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found(cache, KEYS), axis=1), 1, atol=1e-6)
    assert cache.space('model', ['x']).positions(['x', 'c', None]).tolist() == [-1, 2, -1]
    assert cache.thumbnail('a') == b'jpeg'
    assert cache.thumbnail('b') is None


def test_the_cached_pass_gives_the_very_same_scores(open_cache):
    """
    Vectors are rounded on disk; the first pass must already see the rounded ones.
    """
    first = open_cache()
    first.put('model', KEYS, VECTORS)
    fresh = found(first, KEYS) @ VECTORS[0]
    np.testing.assert_array_equal(found(open_cache(), KEYS) @ VECTORS[0], fresh)


def test_models_do_not_share_vectors(open_cache):
    open_cache().put('model', KEYS, VECTORS)
    assert found(open_cache(), KEYS, 'another model') is None


def test_a_vector_is_replaced(open_cache):
    cache = open_cache()
    cache.put('model', KEYS, VECTORS)
    cache.put('model', ['c'], VECTORS[:1])
    assert len(cache.space('model', [])) == 6
    for one in (cache, open_cache()):
        np.testing.assert_allclose(found(one, ['c'])[0], VECTORS[0], atol=1e-3)


def test_more_keys_than_a_statement_takes(open_cache):
    keys = [f'key {i}' for i in range(2500)]
    vectors = normalise(RNG.normal(size=(2500, 4)))
    open_cache().put('model', keys, vectors)
    np.testing.assert_allclose(found(open_cache(), keys[::-1] + keys), np.concatenate(
        [vectors[::-1], vectors]), atol=2e-3)


def test_keys_may_be_any_text(open_cache):
    keys = ['', "'; DROP TABLE vectors; --", '原始惑星系円盤', 'a\0b', '%', 'x' * 100_000]
    open_cache().put('model', keys, VECTORS)
    np.testing.assert_allclose(found(open_cache(), keys), VECTORS, atol=1e-3)


def test_nothing_to_put(open_cache):
    cache = open_cache()
    cache.put('model', [], np.empty((0, 32)))
    assert len(cache.space('model', [])) == 0


def test_old_entries_count_as_absent(open_cache, path):
    open_cache().put('model', KEYS, VECTORS)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE vectors SET created = created - 1000 WHERE key < 'c'")
    database.close()
    positions = open_cache(max_age=500).space('model', KEYS).positions(KEYS)
    assert (positions < 0).tolist() == [True, True, False, False, False, False]
    assert found(open_cache(max_age=0), KEYS) is not None


@pytest.mark.parametrize('memory', [False, True])
def test_clear_forgets_everything(open_cache, path, memory):
    cache = open_cache(None if memory else path)
    cache.put('model', KEYS, VECTORS, [('a', b'jpeg')])
    cache.put('other', KEYS[:2], VECTORS[:2])
    assert cache.clear() == 8
    assert found(cache, KEYS) is None
    assert cache.thumbnail('a') is None
    assert cache.clear() == 0
    cache.put('model', KEYS, VECTORS)
    assert found(cache, KEYS) is not None


def test_a_closed_cache_goes_on_in_memory(open_cache):
    cache = open_cache()
    cache.close()
    cache.close()
    cache.put('model', KEYS, VECTORS)
    assert found(cache, KEYS) is not None


def test_a_space_grows():
    space = Space()
    for i in range(0, 1000, 7):
        space.append([str(j) for j in range(i, i + 7)], np.full((7, 3), i, np.float32))
    assert len(space) == len(space.matrix) == 1001
    assert space.matrix[space.positions(['0', '500', '1000'])][:, 0].tolist() == [0, 497, 994]


def test_of_equal_keys_the_last_counts():
    space = Space()
    space.append(['a', 'b', 'a'], VECTORS[:3], room=100)
    space.append(['b', 'c', 'c'], VECTORS[3:])
    np.testing.assert_array_equal(space.matrix, VECTORS[[2, 3, 5]])


def test_threads_share_a_cache(open_cache):
    cache = open_cache()

    def work(i):
        keys = [f'{(i + j) % 50}' for j in range(20)]
        vectors = normalise(np.array([[int(key), 1.0] for key in keys]))
        cache.put('model', keys, vectors, [(key, key.encode()) for key in keys])
        np.testing.assert_allclose(found(cache, keys), vectors, atol=1e-3)
        return cache.thumbnail(keys[0]) == keys[0].encode()

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(100)))
    assert len(open_cache().space('model', [str(i) for i in range(50)])) == 50


# ---- accidents ---------------------------------------------------------------------------


WRITER = """
import sys
import numpy as np
from astroclip_search.embeddings.cache import Cache

cache = Cache(sys.argv[1])
for i in range(int(sys.argv[3])):
    keys = [f'{sys.argv[2]} {i} {j}' for j in range(32)]
    cache.put('model', keys, np.full((32, 64), i + 1.0), [(key, bytes(5000)) for key in keys])
    print(i, flush=True)
cache.close()
"""


def writer(path, name, count):
    return subprocess.Popen([sys.executable, '-W', 'error', '-c', WRITER, str(path), name,
                             str(count)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_write_at_once(open_cache, path):
    processes = [writer(path, name, 15) for name in ('one', 'two')]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert errors == ['', '']
    keys = [f'{name} {i} 31' for name in ('one', 'two') for i in range(15)]
    assert found(open_cache(), keys) is not None


def test_a_process_killed_while_it_writes_leaves_a_good_cache(open_cache, path, caplog):
    for attempt in range(3):
        with writer(path, str(attempt), 10**9) as process:
            while process.stdout.readline().strip() != '3':
                assert process.poll() is None
            time.sleep(0.003 * attempt)
            process.send_signal(signal.SIGKILL)
            process.stdout.close()
            process.stderr.close()
    cache = open_cache()
    for attempt in range(3):
        # Each batch that was reported is there, and the others are there whole or not at all.
        assert found(cache, [f'{attempt} {i} {j}' for i in range(4) for j in range(32)]) is not None
        for i in range(4, 40):
            keys = [f'{attempt} {i} {j}' for j in range(32)]
            known = cache.space('model', keys).positions(keys) >= 0
            assert known.all() or not known.any()
            assert (cache.thumbnail(keys[0]) is not None) == known[0]
    with sqlite3.connect(path) as database:
        assert database.execute('PRAGMA integrity_check').fetchone() == ('ok',)
    database.close()
    assert not caplog.records


@pytest.mark.parametrize('content', [b'this is no database' * 100,
                                     b'SQLite format 3\0' + bytes(200)])
def test_a_damaged_file_is_moved_aside(open_cache, path, caplog, content):
    path.parent.mkdir()
    path.write_bytes(content)
    cache = open_cache()
    assert 'was moved to embeddings.sqlite.damaged-' in caplog.text
    [aside] = path.parent.glob('*.damaged-*')
    assert aside.read_bytes() == content
    cache.put('model', KEYS, VECTORS)
    assert found(open_cache(), KEYS) is not None


def test_an_empty_file_becomes_a_cache(open_cache, path, caplog):
    path.parent.mkdir()
    path.touch()
    open_cache().put('model', KEYS, VECTORS)
    assert found(open_cache(), KEYS) is not None
    assert not caplog.records


def test_a_cache_of_another_version_is_moved_aside(open_cache, path, caplog):
    open_cache().close()
    with sqlite3.connect(path) as database:
        assert database.execute('PRAGMA user_version').fetchone() != (0,)
        database.execute('PRAGMA user_version=99')
    database.close()
    open_cache().put('model', KEYS, VECTORS)
    assert 'was moved to' in caplog.text


@pytest.mark.parametrize('use', ['read', 'write', 'clear', 'thumbnail'])
def test_a_file_that_is_damaged_inside_is_replaced(open_cache, path, caplog, use):
    keys = [f'key {i}' for i in range(2000)]
    open_cache().put('model', keys, RNG.normal(size=(2000, 64)),
                     [(key, bytes(100)) for key in keys])
    open_cache().close()
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    cache = open_cache()
    {'read': lambda: cache.space('model', keys), 'write': lambda: cache.put('model', KEYS, VECTORS),
     'clear': cache.clear, 'thumbnail': lambda: cache.thumbnail('key 7')}[use]()
    assert caplog.text.count('WARNING') == 1
    assert 'was moved to' in caplog.text
    if use == 'write':
        assert found(cache, KEYS) is not None, 'this session goes on'
    cache.put('model', KEYS, VECTORS, [('a', b'jpeg')])
    assert found(open_cache(), KEYS) is not None
    assert open_cache().thumbnail('a') == b'jpeg'


def test_a_place_that_cannot_be_written(open_cache, tmp_path, caplog):
    """
    A file where the folder should be, which stops even an administrator.
    """
    (tmp_path / 'file').touch()
    cache = open_cache(tmp_path / 'file' / 'embeddings.sqlite')
    assert 'nothing is kept on disk' in caplog.text
    cache.put('model', KEYS, VECTORS, [('a', b'jpeg')])
    assert found(cache, KEYS) is not None
    assert cache.thumbnail('a') == b'jpeg'
    assert cache.clear() == 6
    (tmp_path / 'folder').mkdir()
    assert 'cannot be used' in caplog.text
    assert found(open_cache(tmp_path / 'folder'), KEYS) is None


def test_a_cache_that_may_only_be_read(open_cache, path, caplog):
    open_cache().put('model', KEYS[:3], VECTORS[:3])
    cache = open_cache()
    # As on a disk that is full or read-only.
    cache._file._connection.execute('PRAGMA query_only=1')
    cache.put('model', KEYS[3:], VECTORS[3:], [('d', b'jpeg')])
    assert 'could not be written' in caplog.text
    assert found(cache, KEYS) is not None
    assert cache.thumbnail('d') == b'jpeg'
    assert found(open_cache(), KEYS) is None
    caplog.clear()
    cache.put('model', KEYS[3:], VECTORS[3:])
    assert not caplog.records, 'said once'
    cache.clear()
    assert 'could not be cleared' in caplog.text


def test_a_cache_that_is_dropped_leaves_nothing_open(path):
    """
    Nobody closes the caches of an instance; Python 3.13 would complain.
    """
    cache = Cache(path)
    connection = cache._file._connection
    del cache
    with pytest.raises(sqlite3.ProgrammingError, match='closed'):
        connection.execute('SELECT 1')


def test_no_message_without_reason(open_cache, caplog):
    with caplog.at_level(logging.DEBUG):
        cache = open_cache()
        cache.put('model', KEYS, VECTORS)
        found(cache, KEYS)
        cache.clear()
    assert not caplog.records


@pytest.mark.parametrize('on_disk', [True, False])
def test_failures(tmp_path, on_disk):
    path = tmp_path / 'cache.sqlite' if on_disk else None
    cache = Cache(path)
    assert cache.failures(['https://a.example/1']) == {}
    cache.put_failures(['https://a.example/1', 'caf\udce9'])
    cache.put_failures(['https://a.example/1'])
    known = {'https://a.example/1', 'caf\udce9'}
    assert set(cache.failures([*known, 'https://a.example/2'])) == known
    if on_disk:
        cache.close()
        assert set(Cache(path).failures(list(known))) == known, 'another process'
    cache = Cache(path)
    cache.clear()
    assert not cache.failures(list(known))
