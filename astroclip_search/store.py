# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Embeddings and thumbnails kept on disk, shared by processes, safe to kill.

One SQLite file in the cache directory, in its default rollback-journal mode because that one also
works on the network file systems that home directories live on. A space is what vectors may be
compared within: the model's revision and the render version. Vectors are float16 on disk and a
contiguous float32 matrix in memory, so that ranking cached rows is one matrix product.
"""

import itertools
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .ranking import normalise

__all__ = ['Space', 'Store']

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
"""
_COUNTS = {'vectors': 'SELECT count(*) FROM vectors',
           'thumbnails': 'SELECT count(*) FROM thumbnails', 'links': 'SELECT count(*) FROM links'}
_QUERY_KEYS = 500


class Space:
    """
    Vectors that were seen in this process, as one matrix.

    Attributes
    ----------
    matrix : ndarray
        Unit vectors, shape ``(n, d)``, dtype float32.
    """

    def __init__(self):
        self._rows: dict[str, int] = {}
        self._buffer = np.empty((0, 0), dtype=np.float32)
        self._recalled: tuple[list[str | None], np.ndarray] = [], np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def matrix(self) -> np.ndarray:
        return self._buffer[:len(self._rows)]

    def positions(self, keys: Iterable[str | None]) -> np.ndarray:
        """
        Rows of the matrix.

        Parameters
        ----------
        keys : iterable of str or None
            Keys, in any number and order.

        Returns
        -------
        ndarray
            Row of each key, -1 where it is unknown; dtype int64.
        """
        return np.fromiter(map(self._rows.get, keys, itertools.repeat(-1)), dtype=np.int64)

    def recall(self, keys: list[str | None]) -> np.ndarray:
        """
        Rows of the matrix, as from `positions`, at once for the same keys as the last time.

        Parameters
        ----------
        keys : list of str or None
            Keys of all rows of a table, which may be ranked again and again.

        Returns
        -------
        ndarray
            Row of each key, -1 where it is unknown; dtype int64.
        """
        asked, found = self._recalled
        if keys == asked:
            # A key that is known keeps its row; others may have been added.
            unknown = np.flatnonzero(found < 0)
            found[unknown] = self.positions([keys[i] for i in unknown.tolist()])
        else:
            found = self.positions(keys)
            self._recalled = list(keys), found
        return found.copy()

    def append(self, keys: Sequence[str], vectors: np.ndarray, *, room: int = 0) -> None:
        """
        Add vectors or replace those with the same key.

        Parameters
        ----------
        keys : sequence of str
            One key a vector.
        vectors : ndarray
            Shape ``(n, d)``.
        room : int
            Number of vectors, these included, that are about to be added in turn.
        """
        if not len(keys):
            return
        start = len(self._rows)
        new: dict[str, int] = {}
        rows = [self._rows[key] if key in self._rows else new.setdefault(key, start + len(new))
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
        self._rows.update(new)


class Store:
    """
    Embeddings and thumbnails by key.

    Parameters
    ----------
    path : path-like or None
        The SQLite file; `None` keeps everything in memory, for this process only.
    max_age : float
        Seconds after which an entry counts as absent; 0 means never.
    """

    def __init__(self, path: str | Path | None = None, *, max_age: float = 0.0):
        self.path = Path(path) if path is not None else None
        self.max_age = max_age
        self._lock = threading.RLock()
        self._spaces: dict[str, Space] = {}
        self._thumbnails: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        self._said: set[str] = set()
        self._connection = self._open() if self.path else None

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
            if version == 0:
                connection.executescript(_SCHEMA)
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

    def space(self, name: str, keys: Iterable[str]) -> Space:
        """
        A space in which those of the keys that are stored have been loaded.

        Parameters
        ----------
        name : str
            Name of the space: model revision and kind of vector.
        keys : iterable of str
            Keys that the caller is about to look up.

        Returns
        -------
        Space
            Shared by all callers of this store.
        """
        with self._lock:
            space = self._spaces.setdefault(name, Space())
            if self._connection is None:
                return space
            rows = space._rows
            # In the order of the file, so that each of its pages is read once.
            missing = sorted({key for key in keys if key not in rows})
            oldest = time.time() - self.max_age if self.max_age > 0 else 0.0
            for start in range(0, len(missing), _QUERY_KEYS):
                part = missing[start:start + _QUERY_KEYS]
                # All that is put together here are question marks.
                marks = ','.join('?' * len(part))
                found = self._execute(
                    'SELECT key, vector FROM vectors WHERE space = ? AND created >= ? '  # noqa: S608 - marks only
                    f'AND key IN ({marks})', (name, oldest, *map(_storable, part)))
                if found:
                    vectors = np.frombuffer(b''.join(row[1] for row in found), dtype='<f2')
                    space.append([_key(row[0]) for row in found],
                                 normalise(vectors.reshape(len(found), -1)),
                                 room=len(missing) - start)
            return space

    def put(self, name: str, keys: Sequence[str], vectors: np.ndarray,
            thumbnails: Sequence[tuple[str, bytes]] = ()) -> None:
        """
        Keep vectors, and thumbnails that belong to them, in one transaction.

        Parameters
        ----------
        name : str
            Name of the space.
        keys : sequence of str
            One key a vector.
        vectors : ndarray
            Unit vectors, shape ``(n, d)``.
        thumbnails : sequence of tuple
            Pairs of key and JPEG content.
        """
        small = np.asarray(vectors, dtype='<f2')
        now = time.time()
        with self._lock:
            # The rounded vectors, so that a cached rank gives the very same scores.
            self._spaces.setdefault(name, Space()).append(keys, normalise(small))
            if self._connection is not None:
                try:
                    with self._connection:
                        self._connection.executemany(
                            'INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)',
                            [(name, _storable(key), now, row.tobytes())
                             for key, row in zip(keys, small, strict=True)])
                        self._connection.executemany(
                            'INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)',
                            [(_storable(key), now, jpeg) for key, jpeg in thumbnails])
                    return
                except sqlite3.Error as error:
                    self._failed('written', error)
            self._thumbnails.update(thumbnails)

    def thumbnail(self, key: str) -> bytes | None:
        """
        The stored thumbnail of an image.

        Parameters
        ----------
        key : str
            Key of the image.

        Returns
        -------
        bytes or None
            Content of a JPEG file, if there is one.
        """
        with self._lock:
            if key in self._thumbnails or self._connection is None:
                return self._thumbnails.get(key)
            found = self._execute('SELECT jpeg FROM thumbnails WHERE key = ?',
                                  (_storable(key),))
            return found[0][0] if found else None

    def links(self, sources: Sequence[str]) -> dict[str, str]:
        """
        Where links lead to, as far as it is known.

        Parameters
        ----------
        sources : sequence of str
            Sources of images that are links.

        Returns
        -------
        dict
            Address by source, for those that were kept.
        """
        with self._lock:
            found = {source: self._links[source] for source in sources if source in self._links}
            missing = [source for source in sources if source not in found]
            oldest = time.time() - self.max_age if self.max_age > 0 else 0.0
            for start in range(0, len(missing), _QUERY_KEYS):
                part = missing[start:start + _QUERY_KEYS]
                # As above, question marks only.
                marks = ','.join('?' * len(part))
                found.update((_key(source), _key(address)) for source, address in self._execute(
                    'SELECT source, address FROM links WHERE created >= ? '  # noqa: S608 - marks only
                    f'AND source IN ({marks})', (oldest, *map(_storable, part))))
            return found

    def put_links(self, addresses: dict[str, str]) -> None:
        """
        Keep where links lead to.

        Parameters
        ----------
        addresses : dict
            Address by source.
        """
        now = time.time()
        with self._lock:
            if self._connection is not None:
                try:
                    with self._connection:
                        self._connection.executemany(
                            'INSERT OR REPLACE INTO links VALUES (?, ?, ?)',
                            [(_storable(source), now, _storable(address))
                             for source, address in addresses.items()])
                    return
                except sqlite3.Error as error:
                    self._failed('written', error)
            self._links.update(addresses)

    def counts(self) -> dict[str, int]:
        """
        How much is kept.

        Returns
        -------
        dict
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
        Forget everything, on disk too.

        Returns
        -------
        int
            Number of vectors that were forgotten.
        """
        with self._lock:
            count = sum(len(space) for space in self._spaces.values())
            self._spaces.clear()
            self._thumbnails.clear()
            self._links.clear()
            if self._connection is not None:
                try:
                    count = self._connection.execute('SELECT count(*) FROM vectors').fetchone()[0]
                    with self._connection:
                        self._connection.execute('DELETE FROM vectors')
                        self._connection.execute('DELETE FROM thumbnails')
                        self._connection.execute('DELETE FROM links')
                    self._connection.execute('VACUUM')
                except sqlite3.Error as error:
                    self._failed('cleared', error)
            return count

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

    Such are words that were cut, and the names of files whose bytes are no UTF-8.
    """
    try:
        key.encode()
    except UnicodeEncodeError:
        return key.encode('utf-8', 'surrogatepass')
    return key


def _key(stored: str | bytes) -> str:
    return stored if isinstance(stored, str) else stored.decode('utf-8', 'surrogatepass')
