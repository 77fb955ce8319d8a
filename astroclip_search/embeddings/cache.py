# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Embeddings and thumbnails kept on disk, shared by processes, safe to kill.

A space holds the vectors that may be compared with one another: it names the model, its file and
how images are drawn. Vectors are float16 on disk and a contiguous float32 matrix in memory, so that
ranking cached rows is one matrix product. What comes from the file is checked: an entry that is not
as it was written counts as absent, and is replaced when it is made anew.
"""

import contextlib
import itertools
import math
import os
import sqlite3
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..images.refs import key_source, key_start
from .cachefile import CacheFile, day, is_unit, scaled, sound_vectors, space_id, sums_of

__all__ = ['Cache', 'Space']

_COUNTS = {'vectors': 'SELECT count(*) FROM vectors',
           'thumbnails': 'SELECT count(*) FROM thumbnails WHERE length(jpeg) > 0',
           'links': 'SELECT count(*) FROM links', 'failures': 'SELECT count(*) FROM failures'}
_QUERY_KEYS = 500

# Bytes that are written between two looks at the size of the file.
_LOOK_AGAIN = 64 * 1024**2


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
        Add vectors, or replace those with the same key; vectors of another length replace all.

        ``room`` is the number of vectors, these included, that are about to be added in turn.
        """
        if not len(keys):
            return
        if self._buffer.shape[1] != vectors.shape[1]:
            self.rows.clear()
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

    An entry counts as absent after ``max_age`` seconds. What was not used for longest goes when the
    file is larger than ``max_bytes``. Of both, 0 means never.
    """

    def __init__(self, path: str | Path | None = None, *, max_age: float = 0.0,
                 max_bytes: int = 0):
        self.max_age, self.max_bytes = max_age, max_bytes
        self._lock = threading.RLock()
        self._spaces: dict[str, Space] = {}
        self._thumbnails: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        self._failures: dict[str, float] = {}
        self._n_calls = 0
        self._to_forget = False
        self._lots: set[int] = set()  # that were used since the last call ended
        self._stamped: tuple[int, set[int]] = 0, set()  # day, and lots that are known to bear it
        self._without_picture: set[str] = set()
        self._mended: list[tuple[int, bytes, str | bytes]] = []
        self._n_written = 0
        self._file = None if path is None else CacheFile(Path(path))
        _caches.add(self)

    @property
    def path(self) -> Path | None:
        """
        The file, whether or not it can be used.
        """
        return None if self._file is None else self._file.path

    def __del__(self):
        if getattr(self, '_file', None) is not None:
            self._file.drop()

    def close(self) -> None:
        """
        Close the file; what is put afterwards is kept in memory.
        """
        with self._lock:
            if self._file is not None:
                self.settle()
                self._file.close()

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """
        Within it, a lock of another process is waited for once; `clear` takes no vector from it.
        """
        with self._lock:
            self._n_calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_calls = max(0, self._n_calls - 1)
                self.settle()

    def settle(self) -> None:
        """
        At the end of a call: write what can wait, and keep the file within its limit.
        """
        with self._lock:
            if self._to_forget and not self._n_calls:
                self._forget()
            if self._file is None:
                return
            today = day()
            if self._stamped[0] != today:
                self._stamped = today, set()
            lots, mended = self._lots - self._stamped[1], self._mended
            if self._file.settle(lambda connection: _stamp(connection, lots, mended, today)
                                 ) if lots or mended else self._file.settle():
                self._stamped[1].update(lots)
                self._lots, self._mended = set(), []
            if self._n_written:
                self._trim()

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
        In a forked process: open the file anew when it is needed. No other thread is left.
        """
        self._lock = threading.RLock()
        self._n_calls = 0
        if self._file is not None:
            self._file.leave_to_parent()

    def space(self, name: str, keys: Iterable[str]) -> Space:
        """
        A space, shared by all callers, in which those of the keys that are stored have been loaded.
        """
        with self._lock:
            space = self._spaces.setdefault(name, Space())
            if self._file is None:
                return space
            # In the order of the file, so that each of its pages is read once.
            missing = sorted({key for key in keys if key not in space.rows})
            if missing:
                self._load(space, name, missing)
            return space

    def _load(self, space: Space, name: str, keys: list[str]) -> None:
        """
        Read those vectors that are as they were written.
        """
        known = self._rows('SELECT id, size FROM spaces WHERE name = ?', (name,))
        if not known or type(known[0][1]) is not int:
            return
        number, size = known[0]
        if len(space) and space.matrix.shape[1] != size:
            return
        done = 0
        for rows in self._select('SELECT key, vector, sum, lot FROM vectors WHERE created >= ? AND '
                                 'space = ? AND key IN', keys, number):
            if rows:
                stored, blobs, sums, lots = zip(*rows, strict=True)
                good, vectors = sound_vectors(blobs, sums, size)
                self._lots.update(lots)
                space.append([_key(stored[i]) for i in good], vectors, room=len(keys) - done)
            done += _QUERY_KEYS

    def put(self, name: str, keys: Sequence[str], vectors: np.ndarray,
            thumbnails: Sequence[tuple[str, bytes]] = ()) -> None:
        """
        Keep unit vectors (n, d) of a space, and thumbnails (key and JPEG), in one transaction.
        """
        small = np.asarray(scaled(vectors)[0], dtype='<f2')
        with self._lock:
            # The rounded vectors, so that a cached rank gives the very same scores.
            self.lend(name, keys, small)
            if not self._write(
                    lambda connection: _put(connection, name, keys, small, thumbnails)):
                self._thumbnails.update(thumbnails)
            self._n_written += small.nbytes + sum(len(jpeg) for _, jpeg in thumbnails)
            if self._n_written > _LOOK_AGAIN:
                self._trim()

    def lend(self, name: str, keys: Sequence[str], vectors: np.ndarray) -> None:
        """
        Have unit vectors (n, d) in a space as long as the process lives, rounded like all others.
        """
        with self._lock:
            self._spaces.setdefault(name, Space()).append(
                keys, scaled(np.asarray(vectors, dtype='<f2'))[0])

    def thumbnail(self, key: str) -> bytes | None:
        """
        The stored thumbnail of an image, as the content of a JPEG file.
        """
        with self._lock:
            if key in self._thumbnails or self._file is None:
                return self._thumbnails.get(key)
            for jpeg, total, lot in self._rows(
                    'SELECT jpeg, sum, lot FROM thumbnails WHERE key = ?', (_storable(key),)):
                self._lots.add(lot)
                if jpeg and isinstance(jpeg, bytes) and zlib.crc32(jpeg) == total:
                    return jpeg
                self._without_picture.add(key)
            return None

    def mend_thumbnail(self, key: str, jpeg: bytes) -> None:
        """
        Keep a thumbnail that was made anew, if `thumbnail` has found it damaged or taken away.
        """
        with self._lock:
            if key in self._without_picture:
                self._without_picture.remove(key)
                self._thumbnails[key] = jpeg
                self._mended.append((zlib.crc32(jpeg), jpeg, _storable(key)))
                self._n_written += len(jpeg)

    def earlier_key(self, source: str, form: str) -> str | None:
        """
        Key of the newest thumbnail of a local image, which may have been replaced since, without
        the ``form`` that it ends with.
        """
        first, last = f'{source}|', f'{source}}}'
        with self._lock:
            found = [key for key in reversed(self._thumbnails) if key.startswith(first)]
            found += [_key(key) for key, in self._rows(
                'SELECT CAST(key AS BLOB) FROM thumbnails WHERE key BETWEEN ? AND ? '
                'ORDER BY created DESC', tuple(map(_storable, (first, last))))]
        return next((key.removesuffix(form) for key in found if key.endswith(form)), None)

    def keys_of(self, name: str, sources: Iterable[str]) -> dict[str, str]:
        """
        Newest key in a space of each local image that has one, by reference; the disk is not asked
        for the images.
        """
        starts = {source: start for source in sources if (start := key_start(source)) is not None}
        if not starts:
            return {}
        with self._lock:
            space = self._spaces.get(name)
            found = {source: key for key in (list(space.rows) if space is not None else ())
                     if (source := key_source(key)) in starts}
            for number, in self._rows('SELECT id FROM spaces WHERE name = ?', (name,)):
                for source, start in starts.items():
                    # "}" is the character that follows "|".
                    kept = [_key(key) for key, in self._rows(
                        'SELECT CAST(key AS BLOB) FROM vectors WHERE space = ? AND created >= ? '
                        'AND key BETWEEN ? AND ? ORDER BY created DESC',
                        (number, self._oldest(),
                         *map(_storable, (start, f'{start[:-1]}}}'))))]
                    key = next((key for key in kept if key_source(key) == source), None)
                    if key is not None:
                        found[source] = key
        return found

    def knows(self, source: str) -> bool:
        """
        Whether an image was embedded at any time; the disk is not asked for the image.
        """
        # In the key of a thumbnail all that it depends on follows.
        first, last = f'{source}|', f'{source}}}'
        with self._lock:
            return any(key.startswith(first) for key in self._thumbnails) or bool(
                self._rows('SELECT 1 FROM thumbnails WHERE key BETWEEN ? AND ? LIMIT 1',
                           tuple(map(_storable, (first, last)))))

    def links(self, sources: Sequence[str]) -> dict[str, str]:
        """
        The addresses that links lead to, for those that were kept.
        """
        with self._lock:
            found = {source: self._links[source] for source in sources if source in self._links}
            for rows in self._select(
                    'SELECT CAST(source AS BLOB), CAST(address AS BLOB), sum FROM links '
                    'WHERE created >= ? AND source IN',
                    [source for source in sources if source not in found]):
                found.update((_key(source), _key(address)) for source, address, total in rows
                             if zlib.crc32(source + b'\0' + address) == total)
            return found

    def put_links(self, addresses: dict[str, str]) -> None:
        """
        Keep the address that each link leads to.
        """
        now = time.time()
        rows = [(_storable(source), now, zlib.crc32(_bytes(source) + b'\0' + _bytes(address)),
                 _storable(address)) for source, address in addresses.items()]
        with self._lock:
            if rows and not self._write(lambda connection: connection.executemany(
                    'INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?)', rows)):
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
                found.update((_key(source), created) for source, created in rows
                             if isinstance(created, float) and math.isfinite(created))
            return found

    def put_failures(self, sources: Sequence[str]) -> None:
        """
        Keep in mind which images could not be had, so that others come first.
        """
        now = time.time()
        rows = [(_storable(source), now) for source in sources]
        with self._lock:
            if rows and not self._write(lambda connection: connection.executemany(
                    'INSERT OR REPLACE INTO failures VALUES (?, ?)', rows)):
                self._failures.update(dict.fromkeys(sources, now))

    def counts(self) -> dict[str, int | None]:
        """
        Number of ``vectors``, ``thumbnails``, ``links`` and ``failures``; `None` where the file
        cannot be read.
        """
        with self._lock:
            if self._file is None or not self._file.is_open():
                return {'vectors': self._n_vectors(), 'thumbnails': len(self._thumbnails),
                        'links': len(self._links), 'failures': len(self._failures)}
            found = {name: self._file.rows(statement) for name, statement in _COUNTS.items()}
            return {name: rows[0][0] if rows else None for name, rows in found.items()}

    def clear(self) -> int:
        """
        Forget everything, on disk too; return the number of vectors. If the file cannot be
        cleared, nothing is forgotten, and a message says why.

        Calls of other threads keep what they have until the last of them ends.
        """
        with self._lock:
            count = self._n_vectors()
            if self._file is not None and (self._file.is_open() or self._file.path.exists()):
                count = self._file.clear()
                if count is None:
                    return 0
            self._lots, self._mended, self._without_picture = set(), [], set()
            self._to_forget = True
            if not self._n_calls:
                self._forget()
            return count

    def _forget(self) -> None:
        for kept in (self._spaces, self._thumbnails, self._links, self._failures):
            kept.clear()
        self._to_forget = False

    def _n_vectors(self) -> int:
        return sum(len(space) for space in self._spaces.values())

    def _trim(self) -> None:
        """
        Keep the file within its limit.
        """
        self._n_written = 0
        if self._file is not None and self.max_bytes:
            self._file.trim(self.max_bytes, self._oldest())

    def _oldest(self) -> float:
        return time.time() - self.max_age if self.max_age > 0 else 0.0

    def _select(self, statement: str, keys: Sequence[str], *parameters: Any) -> Iterator[list]:
        """
        Rows for some keys, a part of them at a time; entries that are too old do not count.
        """
        oldest = self._oldest()
        for start in range(0, len(keys), _QUERY_KEYS):
            part = keys[start:start + _QUERY_KEYS]
            # All that is put together here are question marks.
            yield self._rows(f'{statement} ({",".join("?" * len(part))})',
                             (oldest, *parameters, *map(_storable, part)))

    def _rows(self, statement: str, parameters: tuple) -> list[tuple]:
        """
        Rows of a query; none if there is no file, or it cannot be read.
        """
        return (self._file.rows(statement, parameters) if self._file is not None else None) or []

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """
        Do some work in one transaction; `False` if there is no file, or it cannot be written.
        """
        return self._file is not None and self._file.write(work)


def _put(connection: sqlite3.Connection, name: str, keys: Sequence[str], vectors: np.ndarray,
         thumbnails: Sequence[tuple[str, bytes]]) -> None:
    """
    Write vectors, float16 (n, d), and thumbnails: a lot of their own, used today.
    """
    now = time.time()
    lot = connection.execute('INSERT INTO lots (used) VALUES (?)', (day(),)).lastrowid
    if len(keys):
        space = space_id(connection, name, vectors.shape[1])
        connection.executemany(
            'INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?, ?)',
            [(space, _storable(key), now, lot, total, vector.tobytes())
             for key, vector, total, is_good in zip(keys, vectors, sums_of(vectors),
                                                    is_unit(scaled(vectors)[1]).tolist(),
                                                    strict=True) if is_good])
    connection.executemany(
        'INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?, ?, ?)',
        [(_storable(key), now, lot, zlib.crc32(jpeg), jpeg) for key, jpeg in thumbnails])


def _stamp(connection: sqlite3.Connection, lots: set[int], mended: list[tuple],
           today: int) -> None:
    """
    Say that lots were used today, and give thumbnails back their pictures.
    """
    older = lots.intersection(lot for lot, in connection.execute(
        'SELECT id FROM lots WHERE used < ?', (today,)))
    connection.executemany('UPDATE lots SET used = ? WHERE id = ?', [(today, lot) for lot in older])
    connection.executemany('UPDATE thumbnails SET sum = ?, jpeg = ? WHERE key = ?', mended)


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


def _bytes(key: str) -> bytes:
    return key.encode('utf-8', 'surrogatepass')


def _key(stored: str | bytes) -> str:
    if isinstance(stored, str):
        return stored
    try:
        return stored.decode('utf-8', 'surrogatepass')
    except UnicodeDecodeError:  # it is damaged, and nobody asks for it
        return stored.decode('utf-8', 'replace')


_caches: 'weakref.WeakSet[Cache]' = weakref.WeakSet()
_held: list[Cache] = []


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
