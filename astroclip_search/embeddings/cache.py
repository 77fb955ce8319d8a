# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Embeddings and thumbnails kept on disk, shared by processes, safe to kill.

One SQLite file in the cache directory, in its default rollback-journal mode because that one also
works on the network file systems that home directories live on. A space holds the vectors that may
be compared with one another: it names the model, its file and how images are drawn. Vectors are
float16 on disk and a contiguous float32 matrix in memory, so that ranking cached rows is one matrix
product.
"""

import itertools
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..models.background import normalise

__all__ = ['Cache', 'Space']

log = logging.getLogger('astroclip_search')

_SCHEMA_VERSION = 2

_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
    space TEXT NOT NULL, key TEXT NOT NULL, created REAL NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (space, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS thumbnails (
    key TEXT PRIMARY KEY, created REAL NOT NULL, jpeg BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS links (
    source TEXT PRIMARY KEY, created REAL NOT NULL, address TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    source TEXT PRIMARY KEY, created REAL NOT NULL) WITHOUT ROWID;
"""
_COUNTS = {'vectors': 'SELECT count(*) FROM vectors',
           'thumbnails': 'SELECT count(*) FROM thumbnails', 'links': 'SELECT count(*) FROM links'}
_QUERY_KEYS = 500


class Space:
    """
    Vectors that were seen in this process, as one ``matrix`` of unit vectors, (n, d) float32.
    """

    def __init__(self):
        self.rows: dict[str, int] = {}
        self._buffer = np.empty((0, 0), dtype=np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def matrix(self) -> np.ndarray:
        return self._buffer[:len(self.rows)]

    def positions(self, keys: Iterable[str | None]) -> np.ndarray:
        """
        Row of the matrix for each key, -1 where it is unknown; int64.
        """
        return np.fromiter(map(self.rows.get, keys, itertools.repeat(-1)), dtype=np.int64)

    def append(self, keys: Sequence[str], vectors: np.ndarray, *, room: int = 0) -> None:
        """
        Add vectors, or replace those with the same key.

        ``room`` is the number of vectors, these included, that are about to be added in turn.
        """
        if not len(keys):
            return
        start = len(self.rows)
        new: dict[str, int] = {}
        rows = [self.rows[key] if key in self.rows else new.setdefault(key, start + len(new))
                for key in keys]
        needed = start + len(new)
        if needed > len(self._buffer) or self._buffer.shape[1] != vectors.shape[1]:
            grown = np.empty((max(needed, start + room, 2 * len(self._buffer), 256),
                              vectors.shape[1]), dtype=np.float32)
            if start:
                grown[:start] = self._buffer[:start]
            self._buffer = grown
        self._buffer[rows] = vectors
        # Other threads must not find a key before its vector is there.
        self.rows.update(new)


class Cache:
    """
    Embeddings and thumbnails by key, in the SQLite file ``path`` or in memory.

    An entry counts as absent after ``max_age`` seconds; 0 means never.
    """

    def __init__(self, path: str | Path | None = None, *, max_age: float = 0.0):
        self.path = Path(path) if path is not None else None
        self.max_age = max_age
        self._lock = threading.RLock()
        self._spaces: dict[str, Space] = {}
        self._thumbnails: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        self._failures: dict[str, float] = {}
        self._said: set[str] = set()
        self._connection = self._open() if self.path else None
        _caches.add(self)

    def _open(self) -> sqlite3.Connection | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._connect()
        except (OSError, sqlite3.OperationalError) as error:
            log.warning('The cache %s cannot be used (%s); nothing is kept on disk.',
                        self.path, error)
            return None
        except sqlite3.DatabaseError:
            return self._open_anew()

    def _open_anew(self) -> sqlite3.Connection | None:
        """
        Move the file aside and make a new one.
        """
        aside = self.path.with_name(f'{self.path.name}.damaged-{int(time.time())}')
        log.warning('The cache %s is damaged or of another version; it was moved to %s.',
                    self.path, aside.name)
        try:
            self.path.replace(aside)
            # The journal of the old file would be applied to the new one.
            self.path.with_name(f'{self.path.name}-journal').unlink(missing_ok=True)
            return self._connect()
        except (OSError, sqlite3.Error):
            return None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30.0, check_same_thread=False)
        try:
            version = connection.execute('PRAGMA user_version').fetchone()[0]
            if version not in (0, _SCHEMA_VERSION):
                raise sqlite3.DatabaseError('made by another version')
            connection.execute('PRAGMA synchronous=NORMAL')
            if version == 0 or not connection.execute(
                    "SELECT 1 FROM sqlite_master WHERE name = 'failures'").fetchone():
                connection.executescript(_SCHEMA)  # earlier versions kept no failures
                connection.execute(f'PRAGMA user_version={_SCHEMA_VERSION}')
                connection.commit()
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def __del__(self):
        if hasattr(self, '_connection'):
            self.close()

    def close(self) -> None:
        """
        Close the file; what is put afterwards is kept in memory.
        """
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def hold(self) -> None:
        """
        Wait for the transaction of another thread, and let none begin until `release`.
        """
        self._lock.acquire()

    def release(self) -> None:
        """
        Let transactions begin again.
        """
        self._lock.release()

    def reopen(self) -> None:
        """
        In a forked process: SQLite forbids to go on with a connection of the parent, or to end it.
        """
        self._lock = threading.RLock()
        if self._connection is not None:
            _of_parent.append(self._connection)
            self._connection = self._open()

    def space(self, name: str, keys: Iterable[str]) -> Space:
        """
        A space, shared by all callers, in which those of the keys that are stored have been loaded.
        """
        with self._lock:
            space = self._spaces.setdefault(name, Space())
            if self._connection is None:
                return space
            # In the order of the file, so that each of its pages is read once.
            missing = sorted({key for key in keys if key not in space.rows})
            done = 0
            for found in self._select('SELECT key, vector FROM vectors WHERE created >= ? AND '
                                      'space = ? AND key IN', missing, name):
                if found:
                    vectors = np.frombuffer(b''.join(row[1] for row in found), dtype='<f2')
                    space.append([_key(row[0]) for row in found],
                                 normalise(vectors.reshape(len(found), -1)),
                                 room=len(missing) - done)
                done += _QUERY_KEYS
            return space

    def put(self, name: str, keys: Sequence[str], vectors: np.ndarray,
            thumbnails: Sequence[tuple[str, bytes]] = ()) -> None:
        """
        Keep unit vectors (n, d) of a space, and thumbnails (key and JPEG), in one transaction.
        """
        small = np.asarray(vectors, dtype='<f2')
        now = time.time()
        with self._lock:
            # The rounded vectors, so that a cached rank gives the very same scores.
            self.lend(name, keys, small)
            if not self._write(
                    ('INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)',
                     [(name, _storable(key), now, row.tobytes())
                      for key, row in zip(keys, small, strict=True)]),
                    ('INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)',
                     [(_storable(key), now, jpeg) for key, jpeg in thumbnails])):
                self._thumbnails.update(thumbnails)

    def lend(self, name: str, keys: Sequence[str], vectors: np.ndarray) -> None:
        """
        Have unit vectors (n, d) in a space as long as the process lives, rounded like all others.
        """
        with self._lock:
            self._spaces.setdefault(name, Space()).append(
                keys, normalise(np.asarray(vectors, dtype='<f2')))

    def thumbnail(self, key: str) -> bytes | None:
        """
        The stored thumbnail of an image, as the content of a JPEG file.
        """
        with self._lock:
            if key in self._thumbnails or self._connection is None:
                return self._thumbnails.get(key)
            found = self._execute('SELECT jpeg FROM thumbnails WHERE key = ?', (_storable(key),))
            return found[0][0] if found else None

    def earlier_key(self, source: str, form: str) -> str | None:
        """
        Key of the newest thumbnail of a local image, which may have been replaced since, without
        the ``form`` that it ends with.
        """
        first, last = f'{source}|', f'{source}}}'
        with self._lock:
            found = [key for key in reversed(self._thumbnails) if key.startswith(first)]
            found += [_key(key) for key, in self._execute(
                'SELECT key FROM thumbnails WHERE key BETWEEN ? AND ? ORDER BY created DESC',
                tuple(map(_storable, (first, last))))]
        return next((key.removesuffix(form) for key in found if key.endswith(form)), None)

    def knows(self, source: str) -> bool:
        """
        Whether a local image was embedded at any time; the disk is not asked for the image.
        """
        # In the key of a thumbnail all that it depends on follows.
        first, last = f'{source}|', f'{source}}}'
        with self._lock:
            return any(key.startswith(first) for key in self._thumbnails) or bool(
                self._execute('SELECT 1 FROM thumbnails WHERE key BETWEEN ? AND ? LIMIT 1',
                              tuple(map(_storable, (first, last)))))

    def links(self, sources: Sequence[str]) -> dict[str, str]:
        """
        The addresses that links lead to, for those that were kept.
        """
        with self._lock:
            found = {source: self._links[source] for source in sources if source in self._links}
            for rows in self._select(
                    'SELECT source, address FROM links WHERE created >= ? AND source IN',
                    [source for source in sources if source not in found]):
                found.update((_key(source), _key(address)) for source, address in rows)
            return found

    def put_links(self, addresses: dict[str, str]) -> None:
        """
        Keep the address that each link leads to.
        """
        now = time.time()
        with self._lock:
            if not self._write(('INSERT OR REPLACE INTO links VALUES (?, ?, ?)',
                                [(_storable(source), now, _storable(address))
                                 for source, address in addresses.items()])):
                self._links.update(addresses)

    def failures(self, sources: Sequence[str]) -> dict[str, float]:
        """
        Those of some images that could not be had when they were last asked for, and when.
        """
        with self._lock:
            found = {source: self._failures[source] for source in sources
                     if source in self._failures}
            for rows in self._select('SELECT source, created FROM failures WHERE created >= ? AND '
                                     'source IN',
                                     [source for source in sources if source not in found]):
                found.update((_key(source), created) for source, created in rows)
            return found

    def put_failures(self, sources: Sequence[str]) -> None:
        """
        Keep in mind which images could not be had, so that others come first.
        """
        now = time.time()
        with self._lock:
            if not self._write(('INSERT OR REPLACE INTO failures VALUES (?, ?)',
                                [(_storable(source), now) for source in sources])):
                self._failures.update(dict.fromkeys(sources, now))

    def counts(self) -> dict[str, int]:
        """
        Number of ``vectors``, ``thumbnails`` and ``links``.
        """
        with self._lock:
            if self._connection is None:
                return {'vectors': sum(len(space) for space in self._spaces.values()),
                        'thumbnails': len(self._thumbnails), 'links': len(self._links)}
            return {name: sum(row[0] for row in self._execute(statement, ()))
                    for name, statement in _COUNTS.items()}

    def clear(self) -> int:
        """
        Forget everything, on disk too; return the number of vectors.
        """
        with self._lock:
            count = sum(len(space) for space in self._spaces.values())
            for kept in (self._spaces, self._thumbnails, self._links, self._failures):
                kept.clear()
            if self._connection is not None:
                try:
                    count = self._connection.execute(_COUNTS['vectors']).fetchone()[0]
                    with self._connection:
                        for statement in ('DELETE FROM vectors', 'DELETE FROM thumbnails',
                                          'DELETE FROM links', 'DELETE FROM failures'):
                            self._connection.execute(statement)
                    self._connection.execute('VACUUM')
                except sqlite3.Error as error:
                    self._failed('cleared', error)
            return count

    def _select(self, statement: str, keys: Sequence[str], *parameters: str) -> Iterator[list]:
        """
        Rows for some keys, a part of them at a time; entries that are too old do not count.
        """
        oldest = time.time() - self.max_age if self.max_age > 0 else 0.0
        for start in range(0, len(keys), _QUERY_KEYS):
            part = keys[start:start + _QUERY_KEYS]
            # All that is put together here are question marks.
            yield self._execute(f'{statement} ({",".join("?" * len(part))})',
                                (oldest, *parameters, *map(_storable, part)))

    def _execute(self, statement: str, parameters: tuple) -> list[tuple]:
        """
        Rows of a query; none after an earlier part of it has failed.
        """
        if self._connection is None:
            return []
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            self._failed('read', error)
            return []

    def _write(self, *statements: tuple[str, list[tuple]]) -> bool:
        """
        Write all or nothing; `False` if there is no file to write to, or it fails.
        """
        if self._connection is None:
            return False
        try:
            with self._connection:
                for statement, rows in statements:
                    self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            self._failed('written', error)
            return False
        return True

    def _failed(self, action: str, error: sqlite3.Error) -> None:
        """
        Replace a file that is damaged inside; say once what else is wrong, and go on in memory.
        """
        # The subclasses stand for other trouble: a lock, a full disk.
        if type(error) is sqlite3.DatabaseError:
            self._connection.close()
            self._connection = self._open_anew()
        elif action not in self._said:
            self._said.add(action)
            log.warning('The cache %s could not be %s (%s).', self.path, action, error)


def _storable(key: str) -> str | bytes:
    """
    A key as SQLite takes it: as bytes, which equal no text, if it has half a surrogate pair.

    Such are metadata that were cut, and the names of files whose bytes are no UTF-8.
    """
    try:
        key.encode()
    except UnicodeEncodeError:
        return key.encode('utf-8', 'surrogatepass')
    return key


def _key(stored: str | bytes) -> str:
    return stored if isinstance(stored, str) else stored.decode('utf-8', 'surrogatepass')


_caches: 'weakref.WeakSet[Cache]' = weakref.WeakSet()
_held: list[Cache] = []
_of_parent: list[sqlite3.Connection] = []  # never closed: that could undo what the parent writes


def _hold() -> None:
    for cache in list(_caches):
        cache.hold()
        _held.append(cache)


def _release() -> None:
    while _held:
        _held.pop().release()


def _reopen() -> None:
    while _held:
        _held.pop().reopen()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_reopen)
