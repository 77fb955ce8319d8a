# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The SQLite file of a cache: for its owner alone, shared by processes, and never in the way.

Whatever is wrong with the file, a call goes on without it. It waits for the lock of another process
once in a call; from then on each step is tried and not waited for. What a lock has kept from being
written is written with what comes next. A file that is damaged is moved aside, once.

The journal is SQLite's default, a rollback journal: the other one does not work on the network file
systems that home directories live on.
"""

import contextlib
import logging
import os
import re
import sqlite3
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

__all__ = ['FILE_NAME', 'CacheFile', 'day', 'is_unit', 'leftovers', 'make_private',
           'scaled', 'sound_vectors', 'space_id', 'sums_of']

log = logging.getLogger('astroclip_search')

_VERSION = 3

FILE_NAME = f'embeddings-{_VERSION}.sqlite'
"""
Each version of the schema has a file of its own: no version of the package touches that of another.
"""

_OLDER, _OLDER_VERSION = 'embeddings.sqlite', 2

# A batch takes another process far less; more than this, and a user wonders what happens.
_WAIT = 5.0

# A row of up to about 900 dimensions fits in a page; with SQLite's own 4 kB, one of 512 does not.
_PAGE_SIZE = 8192

# Of the limit, so much is left when it was reached: the next calls find room.
_KEPT = 0.9

# An embedding is a unit vector, but for the rounding to float16.
_NORM_ERROR = 1e-3

# Rows that are read from an older file at once.
_PART = 256

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS lots (id INTEGER PRIMARY KEY, used INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS vectors (space INTEGER NOT NULL, key TEXT NOT NULL,
    created REAL NOT NULL, lot INTEGER NOT NULL, sum INTEGER NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (space, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS thumbnails (key TEXT PRIMARY KEY, created REAL NOT NULL,
    lot INTEGER NOT NULL, sum INTEGER NOT NULL, jpeg BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS links (source TEXT PRIMARY KEY, created REAL NOT NULL,
    sum INTEGER NOT NULL, address TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (source TEXT PRIMARY KEY, created REAL NOT NULL) WITHOUT ROWID;
"""
_DELETE_ALL = ('DELETE FROM vectors', 'DELETE FROM thumbnails', 'DELETE FROM links',
               'DELETE FROM failures', 'DELETE FROM lots')

_DELETE_OLD = ('DELETE FROM vectors WHERE created < ?', 'DELETE FROM thumbnails WHERE created < ?',
               'DELETE FROM links WHERE created < ?', 'DELETE FROM failures WHERE created < ?')

# What goes first when there is no room, by lots: about as many bytes as they take, with what their
# last pages have free, and statements for all up to a lot.
_DELETE_UNUSED = (
    ("""SELECT used, id, n FROM lots JOIN (SELECT lot, sum(length(key) + length(jpeg) + 2048) AS n
        FROM thumbnails WHERE length(jpeg) > 0 GROUP BY lot) ON id = lot ORDER BY used, id""",
     ("""UPDATE thumbnails SET jpeg = x'', sum = 0 WHERE length(jpeg) > 0 AND lot IN
         (SELECT id FROM lots WHERE (used, id) <= (?, ?))""",)),
    ("""SELECT used, id, n FROM lots JOIN (SELECT lot, sum(length(key) + length(vector)) AS n
        FROM vectors GROUP BY lot) ON id = lot ORDER BY used, id""",
     ("""DELETE FROM vectors WHERE lot IN (SELECT id FROM lots WHERE (used, id) <= (?, ?))""",
      """DELETE FROM thumbnails WHERE lot IN (SELECT id FROM lots WHERE (used, id) <= (?, ?))""",
      """DELETE FROM lots WHERE (used, id) <= (?, ?)""")))

# What SQLite says of a file with other tables than ours.
_FOREIGN = ('no such table', 'no such column', 'has no column', 'columns but',
            'made by another version')

_JPEG = b'\xff\xd8\xff'

_LEFT = re.compile(rf'{re.escape(_OLDER)}(-journal)?|'
                   rf'({re.escape(_OLDER)}|{re.escape(FILE_NAME)})\.damaged-\d+')

_T = TypeVar('_T')
_of_parent: list[sqlite3.Connection] = []  # never closed: that could undo what the parent writes


def day() -> int:
    """
    Days since 1970.
    """
    return int(time.time() // 86400)


def sums_of(vectors: np.ndarray) -> list[int]:
    """
    Sum of each float16 vector (n, d) as whole numbers of 16 bits: a single wrong bit changes it.
    """
    return vectors.view('<u2').sum(axis=1, dtype=np.uint16).tolist()


def sound_vectors(blobs: Sequence, sums: Sequence, size: int) -> tuple[list[int], np.ndarray]:
    """
    Which blobs are unit vectors, but for their rounding, and have the right sum; and these vectors,
    float32 (n, size).
    """
    good = [i for i, blob in enumerate(blobs) if type(blob) is bytes and len(blob) == 2 * size]
    vectors = np.frombuffer(b''.join([blobs[i] for i in good]), '<f2').reshape(len(good), size)
    found = sums_of(vectors)
    unit, lengths = scaled(vectors)
    fits = [fits and found[n] == sums[i] for n, (i, fits) in enumerate(
        zip(good, is_unit(lengths).tolist(), strict=True))]
    if all(fits):  # as almost always
        return good, unit
    return [i for i, fit in zip(good, fits, strict=True) if fit], unit[np.array(fits, bool)]


def scaled(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Vectors (n, d) of unit length, float32, where they are finite; and the lengths (n,) they had.
    """
    vectors = np.asarray(vectors, np.float32)
    with np.errstate(invalid='ignore', over='ignore'):  # some may be anything
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(lengths, 1e-12), lengths[:, 0]


def is_unit(lengths: np.ndarray) -> np.ndarray:
    """
    Whether lengths are those of unit vectors, but for their rounding to float16.
    """
    return np.abs(lengths - 1) < _NORM_ERROR


def leftovers(path: Path | None) -> list[Path]:
    """
    Files beside that of a cache which are no longer used: of an earlier version, or damaged.
    """
    if path is None:
        return []
    try:
        return sorted(file for file in path.parent.iterdir() if _LEFT.fullmatch(file.name)
                      and file != path and stat.S_ISREG(file.lstat().st_mode))
    except OSError:
        return []


def make_private(path: Path, mode: int) -> None:
    """
    Take from others what they may do with a file or folder of this user, as far as that can be.
    """
    with contextlib.suppress(OSError):
        state = path.stat()
        if hasattr(os, 'geteuid') and state.st_uid == os.geteuid() and state.st_mode & 0o077:
            path.chmod(state.st_mode & mode)


class CacheFile:
    """
    The file ``path``, which is opened when it is needed. The caller holds a lock of its own.
    """

    def __init__(self, path: Path):
        self.path = Path(os.path.abspath(path))
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._is_over = False
        self._moved = False
        self._has_waited = False
        self._given_up: set[str] = set()
        self._said: set[str] = set()
        self._unsaved: list[Callable[[sqlite3.Connection], object]] = []
        self.is_open()

    def is_open(self) -> bool:
        """
        Open the file unless it is; `False` if it cannot be used now.
        """
        if self._connection is None and not self._is_over and 'opened' not in self._given_up:
            try:
                self._connection = self._connect()
            except (OSError, ValueError, sqlite3.Error, MemoryError) as error:
                self._failed('opened', error)
        return self._connection is not None

    def rows(self, statement: str, parameters: tuple = ()) -> list[tuple] | None:
        """
        Rows of a query; `None` if the file cannot be read.
        """
        return self._try('read', lambda connection: connection.execute(
            statement, parameters).fetchall())

    def write(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """
        Do some work in one transaction; `False` if the file cannot be written.

        What a lock prevents is done later, before other work or by `settle`.
        """
        def together(connection: sqlite3.Connection) -> bool:
            with _transaction(connection):
                for one in (*self._unsaved, work):
                    one(connection)
            self._unsaved.clear()
            return True

        if self._try('written', together):
            return True
        if self._has_waited and not self._is_over:
            self._unsaved.append(work)
        return False

    def settle(self, work: Callable[[sqlite3.Connection], object] | None = None) -> bool:
        """
        At the end of a call: write what was not written, and do some work that can wait, so that
        nobody waits for it and no error is said. The next call tries all again.
        """
        done = False
        if self._unsaved:
            self.write(lambda _: None)
        if work is not None and not self._given_up and self.is_open():
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute('PRAGMA busy_timeout=0')
                with _transaction(self._connection):
                    work(self._connection)
                done = True
        self._be_patient()
        return done

    def clear(self) -> int | None:
        """
        Delete all rows and give the space back; the number of vectors, `None` if nothing was
        deleted, which is said.
        """
        self._said -= {'opened', 'cleared', 'made smaller'}
        self._be_patient()
        count = self._try('cleared', _delete_all)
        if count is None:
            if self._is_over:
                log.warning('The cache %s is not used any more and was not cleared.', self.path)
            return None
        self._unsaved.clear()
        self._try('made smaller', _shrink)
        return count

    def trim(self, limit: int, oldest: float) -> None:
        """
        Delete what is too old or was not used for longest, if the file is above a limit in bytes.
        """
        try:
            if not limit or self.path.stat().st_size <= limit:
                return
        except OSError:
            return
        self._try('made smaller', lambda connection: _trim(connection, limit, oldest))

    def close(self) -> None:
        """
        Close the file for good.
        """
        if self._unsaved and not self._is_over:
            self.settle()
        self._is_over = True
        self._disconnect()

    def drop(self) -> None:
        """
        Close the file as it is, at the end of the process.
        """
        self._is_over = True
        self._disconnect()

    def leave_to_parent(self) -> None:
        """
        In a forked process: SQLite forbids to go on with a connection of the parent, or to end it.
        """
        if self._connection is not None:
            _of_parent.append(self._connection)
        self._connection = None
        self._unsaved.clear()

    def _be_patient(self) -> None:
        """
        Begin a call: try all again, and wait for a lock.
        """
        self._has_waited = False
        self._given_up.clear()
        if self._connection is not None:
            self._connection.execute(f'PRAGMA busy_timeout={round(1000 * _WAIT)}')

    def _connect(self) -> sqlite3.Connection:
        _make_folder(self.path.parent)
        _make_file(self.path)
        state = self.path.stat()
        self._identity = state.st_dev, state.st_ino
        connection = sqlite3.connect(self.path, timeout=0 if self._has_waited else _WAIT,
                                     isolation_level=None, check_same_thread=False)
        try:
            version = connection.execute('PRAGMA user_version').fetchone()[0]
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError('made by another version')
            connection.execute('PRAGMA synchronous=NORMAL')
            connection.execute('PRAGMA secure_delete=OFF')
            if version == 0:
                self._begin(connection)
        except BaseException:
            connection.close()
            raise
        make_private(self.path, 0o700)
        return connection

    def _begin(self, connection: sqlite3.Connection) -> None:
        """
        Make the tables, and fill them from a file of an earlier version.
        """
        connection.execute(f'PRAGMA page_size={_PAGE_SIZE}')
        connection.execute('PRAGMA auto_vacuum=INCREMENTAL')
        with _transaction(connection):
            # Another process may have been quicker.
            if connection.execute('PRAGMA user_version').fetchone()[0] == _VERSION:
                return
            for statement in filter(None, map(str.strip, _SCHEMA.split(';'))):
                connection.execute(statement)
            older = self.path.with_name(_OLDER)
            if self.path.name == FILE_NAME and older.is_file():
                _take_over(connection, older)
            connection.execute(f'PRAGMA user_version={_VERSION}')

    def _try(self, action: str, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """
        Do some work with the open file; `None` if that fails, which is said.
        """
        for _ in range(2):
            if action in self._given_up or not self.is_open():
                break
            connection = self._connection
            try:
                if connection.in_transaction:  # an interruption came in the way of its end
                    connection.execute('ROLLBACK')
                return work(connection)
            except (sqlite3.Error, MemoryError) as error:
                self._failed(action, error)
                if self._connection is connection:
                    break
            # Else the file was damaged, and another one begins.
        return None

    def _failed(self, action: str, error: Exception) -> None:
        """
        Replace a file that is damaged; say once what else is wrong, and go on without the file.
        """
        code = getattr(error, 'sqlite_errorcode', 0) & 0xff
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or (
                isinstance(error, sqlite3.Error)
                and any(words in str(error) for words in _FOREIGN)):
            self._begin_anew()
            return
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self._has_waited = True
            if self._connection is not None:
                self._connection.execute('PRAGMA busy_timeout=0')
            else:
                self._given_up.add(action)
            because = 'another process has locked it'
        else:
            self._given_up.add(action)
            because = str(error)
        if action in self._said:
            return
        self._said.add(action)
        if action == 'opened':
            log.warning('The cache %s cannot be used (%s); nothing is kept on disk.', self.path,
                        because)
        elif action in ('read', 'written'):
            log.warning('The cache %s could not be %s (%s); the call goes on in memory.',
                        self.path, action, because)
        else:
            log.warning('The cache %s could not be %s (%s).', self.path, action, because)

    def _begin_anew(self) -> None:
        """
        Move the file aside, unless another process has done so; the next step makes a new one.
        """
        self._disconnect()
        try:
            state = self.path.stat()
            if self._identity != (state.st_dev, state.st_ino):
                return
            if self._moved:
                self._is_over = True
                log.warning('The cache %s is damaged again; nothing is kept on disk.', self.path)
                return
            self._moved = True
            aside = self.path.with_name(f'{self.path.name}.damaged-{int(time.time())}')
            self.path.replace(aside)
            # The journal of the old file would be applied to the new one.
            self.path.with_name(f'{self.path.name}-journal').unlink(missing_ok=True)
        except OSError as error:
            self._is_over = True
            log.warning('The cache %s is damaged and cannot be moved (%s); nothing is kept on '
                        'disk.', self.path, error)
        else:
            make_private(aside, 0o700)
            log.warning('The cache %s is damaged or of another version; it was moved to %s.',
                        self.path, aside.name)
            self.is_open()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """
    All or nothing, also when it is interrupted.
    """
    connection.execute('BEGIN IMMEDIATE')
    try:
        yield
        connection.execute('COMMIT')
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # some errors have ended it already
            connection.execute('ROLLBACK')
        raise


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(0o700)  # whatever the umask says


def _make_file(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except FileExistsError:
        return
    try:
        if hasattr(os, 'fchmod'):
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _take_over(connection: sqlite3.Connection, older: Path) -> None:
    """
    Copy what is sound in a file of the version before, as far as it can be read.
    """
    def parts(statement: str) -> Iterator[tuple[int, list[tuple]]]:
        cursor = reader.execute(statement)
        while part := cursor.fetchmany(_PART):
            yield connection.execute('INSERT INTO lots (used) VALUES (?)', (day(),)).lastrowid, part

    make_private(older, 0o700)
    sizes: dict[Any, int] = {}
    try:
        with contextlib.closing(sqlite3.connect(f'{older.as_uri()}?mode=ro', timeout=_WAIT,
                                                uri=True)) as reader:
            if reader.execute('PRAGMA user_version').fetchone()[0] != _OLDER_VERSION:
                return
            for lot, rows in parts('SELECT space, key, created, vector FROM vectors'):
                for name in dict.fromkeys(row[0] for row in rows):
                    _copy_vectors(connection, name, lot, sizes,
                                  [row[1:] for row in rows if row[0] == name])
            for lot, rows in parts('SELECT key, created, jpeg FROM thumbnails'):
                connection.executemany(
                    'INSERT OR IGNORE INTO thumbnails VALUES (?, ?, ?, ?, ?)',
                    [(key, created, lot, zlib.crc32(jpeg), jpeg) for key, created, jpeg in rows
                     if isinstance(jpeg, bytes) and jpeg.startswith(_JPEG)])
    except sqlite3.DatabaseError as error:
        log.warning('The cache %s of an earlier version cannot be read to its end (%s). It stays '
                    'as it is; clear_cache deletes it.', older, error)
    else:
        log.info('The cache %s of an earlier version was taken over. It stays as it is; '
                 'clear_cache deletes it.', older)


def _copy_vectors(connection: sqlite3.Connection, name: Any, lot: int, sizes: dict[Any, int],
                  rows: list[tuple]) -> None:
    """
    Copy those vectors of a space that are sound, and as long as the first of the space.
    """
    rows = [row for row in rows if type(row[2]) is bytes
            and len(row[2]) == sizes.setdefault(name, len(row[2]) // 2 * 2)]
    size = sizes.get(name, 0) // 2
    if not rows or not size:
        return
    sums = sums_of(np.frombuffer(b''.join(row[2] for row in rows), '<f2').reshape(-1, size))
    good, _ = sound_vectors([row[2] for row in rows], sums, size)
    number = space_id(connection, name, size)
    connection.executemany(
        'INSERT OR IGNORE INTO vectors VALUES (?, ?, ?, ?, ?, ?)',
        [(number, rows[i][0], rows[i][1], lot, sums[i], rows[i][2]) for i in good])


def space_id(connection: sqlite3.Connection, name: str, size: int) -> int:
    """
    Number of a space, which is made if there is none; vectors of another length are deleted.
    """
    found = connection.execute('SELECT id, size FROM spaces WHERE name = ?',
                               (name,)).fetchone()
    if found is None:
        return connection.execute('INSERT INTO spaces (name, size) VALUES (?, ?)',
                                  (name, size)).lastrowid
    if found[1] != size:
        connection.execute('DELETE FROM vectors WHERE space = ?', (found[0],))
        connection.execute('UPDATE spaces SET size = ? WHERE id = ?', (size, found[0]))
    return found[0]


def _delete_all(connection: sqlite3.Connection) -> int:
    """
    Delete all rows; the number of vectors. On a full disk the journal is kept in memory.
    """
    for journal in ('DELETE', 'MEMORY'):
        try:
            connection.execute(f'PRAGMA journal_mode={journal}')
            with _transaction(connection):
                count = connection.execute('SELECT count(*) FROM vectors').fetchone()[0]
                for statement in _DELETE_ALL:
                    connection.execute(statement)
            return count
        except sqlite3.Error as error:
            code = error.sqlite_errorcode & 0xff
            if journal == 'MEMORY' or code not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
                                                   sqlite3.SQLITE_CANTOPEN):
                raise
        finally:
            connection.execute('PRAGMA journal_mode=DELETE')
    raise AssertionError('unreachable')


def _shrink(connection: sqlite3.Connection, n_pages: int | None = None) -> None:
    """
    Give pages that are free back to the system, by default all.
    """
    # `execute` would free one page: the statement has a row without columns for each.
    connection.executescript('PRAGMA incremental_vacuum' if n_pages is None
                             else f'PRAGMA incremental_vacuum({n_pages})')


def _trim(connection: sqlite3.Connection, limit: int, oldest: float) -> None:
    """
    Delete in this order, until enough is free: what is too old, pictures, then all of the lots that
    were not used for longest. Rows of thumbnails stay without their picture: a gallery mends them.
    """
    def n_pages() -> int:
        (total,), (free,) = (connection.execute(f'PRAGMA {name}').fetchone()
                             for name in ('page_count', 'freelist_count'))
        return total - free

    size = connection.execute('PRAGMA page_size').fetchone()[0]
    if n_pages() * size <= limit:
        excess = connection.execute('PRAGMA page_count').fetchone()[0] - limit // size
        _shrink(connection, max(1, excess))
        return
    target = int(_KEPT * limit) // size
    with _transaction(connection):
        for statement in _DELETE_OLD:
            connection.execute(statement, (oldest,))
        for question, statements in _DELETE_UNUSED:
            while (excess := (n_pages() - target) * size) > 0:
                last = None
                for used, lot, n_bytes in connection.execute(question):
                    last = used, lot
                    excess -= n_bytes
                    if excess <= 0:
                        break
                if last is None:  # there is nothing more of this kind
                    break
                for statement in statements:
                    connection.execute(statement, last)
    if (excess := connection.execute('PRAGMA page_count').fetchone()[0] - limit // size) > 0:
        _shrink(connection, excess)
