# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is tried, one class a theme: `names` says which trials there are, ``attempt`` makes one.

All of it runs in a child process. An attempt returns what was lost in a sentence, or nothing.
"""

import contextlib
import functools
import io
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .damage import damaged
from .samples import HAS_PARQUET, NAMES, TABLES, picture, sample

__all__ = ['THEMES', 'Caches', 'Disk', 'Files', 'HostileTables', 'Kills', 'Servers', 'Theme',
           'Threads']

PHRASE = 'spiral galaxy'
STATUSES = {'OK', 'SKIPPED', 'NO_IMAGE', 'DENIED', 'ERROR'}
N_SOUND = 16

# What commands a terminal, or turns the direction of a text; and tables of which it is looked for.
CONTROLS = set(map(chr, (*range(9), 11, 12, *range(14, 32), 127, *range(0x202a, 0x202f),
                         *range(0x2066, 0x206a))))
SHOWN = ('markup', 'control characters')

# Bits of a vector that is kept may turn without a change of its length that is noticed.
CLOSE = 0.02


class Theme:
    """
    A group of trials in one process and one folder.
    """

    seconds = 60.0
    """
    Time that one trial may take by the settings; it is lost two seconds later.
    """

    def __init__(self, folder: Path, seed: int = 0, **options: Any):
        from astroclip_search import ClipSearch

        self.folder, self.seed, self.options = folder, seed, options
        self.sound = folder / 'sound'
        if not self.sound.exists():
            self.sound.mkdir(parents=True)
            for number in range(1, N_SOUND):
                _draw(self.sound / f'{number:02d}.png', number)
            # What reads FITS is started once, too.
            (self.sound / '00.fits').write_bytes(sample('FITS')[0][1])
        self.search = ClipSearch(cache_dir=folder / 'cache')

    def warm_up(self) -> None:
        """
        Have everything started that is started once.
        """
        ranked = self.rank(self.search, self.sound, cache=False)
        assert list(ranked['clip_status']) == ['OK'] * N_SOUND, ranked['clip_message']

    def attempt(self, name: str) -> str:
        """
        Make one trial.
        """
        raise NotImplementedError

    def close(self) -> None:
        """
        Close what was opened.
        """
        self.search.session.close()

    def rank(self, search: Any, what: Any, text: str = PHRASE, **options: Any) -> Any:
        """
        Rank without a word on the terminal.
        """
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return search.rank(what, text, by='image', show_progress=False,
                               fold_duplicates=False, **options)

    @functools.cached_property
    def expected(self) -> dict[str, float]:
        """
        Cosines of the sound pictures, by name.
        """
        return _cosines(self.rank(self.search, self.sound, cache=False))

    def differs(self, ranked: Any, tolerance: float = 1e-3) -> str:
        """
        What of a ranking of the sound pictures is not as it should be.
        """
        bad = [message for message in ranked['clip_message'].tolist() if message]
        if ranked['clip_status'].tolist() != ['OK'] * N_SOUND:
            return f'sound pictures are lost: {bad[:1]}'
        found = _cosines(ranked)
        far = max(abs(found[name] - value) for name, value in self.expected.items())
        return f'a cosine differs by {far:.3f}' if far > tolerance else ''


class Servers(Theme):
    """
    Servers that fail in every way we know of, each beside a sound picture.
    """

    seconds = 6.0

    def __init__(self, folder: Path, **options: Any):
        super().__init__(folder, **options)
        from astroclip_search import conf

        conf.private_hosts = self.options['hosts']
        conf.timeout, conf.row_timeout, conf.query_timeout = 3.0, self.seconds, 30.0
        conf.max_bytes, conf.retries = 1_000_000, 1

    @staticmethod
    def names() -> list[str]:
        from tests.loopback.faults import FAULTS

        return list(FAULTS)

    def attempt(self, name: str) -> str:
        from astropy.table import Table

        good = self.options['good']
        status, message = self.options['expected'][name]
        addresses = [f'{good}{self.seed}.jpg', self.options['faults'][name]]
        ranked = self.rank(self.search, Table({'n': [0, 1], 'preview': addresses}), cache=False)
        ranked.sort('n')
        if len(ranked) != 2:
            return f'{len(ranked)} rows of 2'
        if ranked['clip_status'][0] != 'OK' and 'Retry-After' not in name:
            return f'the row beside it is lost: {ranked["clip_message"][0]}'
        if (ranked['clip_status'][1] != status
                or not re.fullmatch(message, ranked['clip_message'][1])):
            return f'{ranked["clip_status"][1]}: {ranked["clip_message"][1]}'
        return ''


class Files(Theme):
    """
    Damaged files. A trial is some of one kind: "JPEG:40-49"; images lie beside a sound picture.
    """

    # What conf.decode_timeout allows to one file.
    seconds = 60.0

    def attempt(self, name: str) -> str:
        kind, _, numbers = name.rpartition(':')
        first, _, last = numbers.partition('-')
        place = self.folder / 'damaged'
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for index, file in enumerate(NAMES):
            _draw(place / file, index)
        files = []
        for number in range(int(first), int(last or first) + 1):
            suffix, content = damaged(kind, number, self.seed)
            path = (place if kind not in TABLES else self.folder) / f'f{number}{suffix}'
            path.write_bytes(content)
            files.append(path)
        if kind not in TABLES:
            return self._images(place, len(files))
        found = ''
        for path in files:
            found = found or self._table(path, place)
            path.unlink()
        return found

    def _images(self, place: Path, n: int) -> str:
        ranked = self.rank(self.search, place, cache=False)
        by_name = dict(zip((Path(source).name for source in ranked['clip_source'].tolist()),
                           ranked['clip_status'].tolist(), strict=True))
        if len(ranked) != n + 2:
            return f'{len(ranked)} rows of {n + 2}'
        if {by_name.get(name) for name in NAMES} != {'OK'}:
            return 'the pictures beside it are lost'
        return _incomplete(ranked)

    def _table(self, path: Path, place: Path) -> str:
        return _table_held(lambda: self.rank(self.search, str(path), image_dir=place, cache=False))


class HostileTables(Theme):
    """
    Tables that name what they must not, or that claim to be what they are not.
    """

    seconds = 10.0

    def __init__(self, folder: Path, **options: Any):
        super().__init__(folder, **options)
        self.place = folder / 'named'
        self.place.mkdir(exist_ok=True)
        for index, name in enumerate(NAMES):
            _draw(self.place / name, index)
        self.secret = folder / 'secret.png'
        _draw(self.secret, 9)
        self.port = socket.create_server(('127.0.0.1', 0))
        self.port.settimeout(0)
        self.number = self.port.getsockname()[1]

    @staticmethod
    def names() -> list[str]:
        columns = [f'{form}: {what}' for form in TABLES
                   if form != 'Parquet' or HAS_PARQUET for what in (
            'clip_source', 'file address', 'path outside', 'absolute path', 'private host',
            'private host in other words', 'link to a device', 'named pipe')]
        texts = ['markup', 'endless number', 'superscript number', 'far date', 'control characters',
                 'settings that make no sense', 'stream of a VOTable', 'entity of a VOTable',
                 'entity in UTF-16', 'stream in gzip', 'width that does not fit',
                 'rows that do not fit', 'cells that do not fit']
        return columns + texts

    def attempt(self, name: str) -> str:
        form, _, what = name.rpartition(': ')
        path = self._columns(form, what) if form else self._text(what)
        seen: list[Any] = []

        def rank() -> Any:
            seen.append(self.rank(self.search, str(path), image_dir=self.place, cache=False))
            return seen[0]

        found = _table_held(rank)
        with contextlib.suppress(BlockingIOError):
            self.port.accept()[0].close()
            return 'a private port was asked'
        if not found and what in SHOWN:
            found = self._shown(path, seen[0])
        if not found and form and 'OK' in seen[0]['clip_status'].tolist():
            return 'a file was read that the user has not named'
        return found

    def close(self) -> None:
        self.port.close()
        super().close()

    def _shown(self, path: Path, ranked: Any) -> str:
        """
        What a page or a terminal shows of it and must not.
        """
        from astroclip_search import conf
        from astroclip_search.cli import main

        page = self.search.gallery(ranked, image_dir=self.place)._repr_html_()
        if '<b id=x>' in page or set(page) & CONTROLS:
            return 'its words are markup in the gallery'
        terminal = io.StringIO()
        with (contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal),
              conf.set_temp('show_progress', False)):
            code = main(['rank', str(path), PHRASE, '--by', 'image', '--image-dir', str(self.place),
                         '--cache-dir', str(self.folder / 'cache')])
        if code:
            return f'the command ended with {code}'
        return 'its words command the terminal' if set(terminal.getvalue()) & CONTROLS else ''

    def _columns(self, form: str, what: str) -> Path:
        from astropy.table import Table

        pipe, device = self.place / 'pipe.png', self.place / 'device.png'
        with contextlib.suppress(FileExistsError):
            os.mkfifo(pipe)
        with contextlib.suppress(FileExistsError):
            device.symlink_to('/dev/zero')
        value = {
            'clip_source': str(self.secret), 'absolute path': str(self.secret),
            'file address': self.secret.as_uri(), 'path outside': '../secret.png',
            'private host': f'http://127.0.0.1:{self.number}/a.png',
            'private host in other words': f'http://0x7f000001:{self.number}/a.png',
            'link to a device': device.name, 'named pipe': pipe.name}[what]
        column = what if what == 'clip_source' else 'preview'
        table = Table({'obs_id': ['a'], column: [value]})
        if column == 'clip_source':
            table['clip_status'] = ['OK']
        suffix = TABLES[form][0][0]
        path = self.folder / f'hostile{suffix}'
        if form == 'Parquet':
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.table({key: table[key].tolist() for key in table.colnames}),
                                path)
            return path
        written = {'ECSV': 'ascii.ecsv', 'VOTable': 'votable', 'CSV': 'ascii.csv',
                   'FITS table': 'fits'}[form]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            table.write(path, format=written, overwrite=True)
        return path

    def _text(self, what: str) -> Path:
        import gzip

        stream = f'<STREAM href="http://127.0.0.1:{self.number}/a"/>'
        entity = f'<!DOCTYPE V [<!ENTITY e SYSTEM "{self.secret.as_uri()}">]>'
        csv = 'obs_id,s_ra,s_dec,t_min,target_name,preview\n'
        found: dict[str, tuple[str, str | bytes]] = {
            'markup': ('.csv', f'{csv}<b id=x>,1,2,3,"<b id=x>\"\"><script>",first.png\n'),
            'endless number': ('.csv', f'{csv}a,{"9" * 5000},{"1" * 5000},1,M 51,first.png\n'),
            'superscript number': ('.csv', f'{csv}a,\u00b2,\u0663,\u00b9,M 51,first.png\n'),
            'far date': ('.csv', csv + 'a,1,2,999999999999,M 51,first.png\n'),
            'control characters': (
                '.csv', csv + 'a,1,2,3,"\x1b]0;a\x07\x1b[2J\u202egnp.tsrif\x08",first.png\n'),
            'settings that make no sense': (
                '.ecsv', ('# %ECSV 1.0\n# ---\n# datatype:\n'
                          '# - {name: preview, datatype: string}\n'
                          '# meta: {clip: {text: [1, {a: 2}], weights: x, n_ranked: -7}}\n'
                          'preview\nfirst.png\n')),
            'stream of a VOTable': ('.vot', _votable(f'<BINARY>{stream}</BINARY>')),
            'entity of a VOTable': ('.vot', _votable(
                '<TABLEDATA><TR><TD>&e;</TD></TR></TABLEDATA>', entity)),
            'entity in UTF-16': ('.vot', _votable(
                '<TABLEDATA><TR><TD>&e;</TD></TR></TABLEDATA>', entity, 'UTF-16').encode('utf-16')),
            'stream in gzip': ('.vot', gzip.compress(
                _votable(f'<BINARY2>{stream}</BINARY2>').encode())),
            'width that does not fit': ('.vot', _votable(
                '<TABLEDATA><TR><TD>a</TD></TR></TABLEDATA>', size='999999999')),
            'rows that do not fit': ('.vot', _votable(
                '<TABLEDATA><TR><TD>a</TD></TR></TABLEDATA>', rows='999999999999')),
            'cells that do not fit': ('.csv', csv + 'a,1\n' + 'b,1,2,3,4,5,6,7,8,9\n')}
        suffix, content = found[what]
        path = self.folder / f'hostile{suffix}'
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


class Disk(Theme):
    """
    A disk on which there is no room: what was there stays, and rankings go on without a cache.
    """

    @staticmethod
    def names() -> list[str]:
        return ['rank without a cache yet', 'rank with a cache that cannot grow', 'clear_cache',
                'gallery over an older one', 'card in a new file',
                *(f'table over an older one: {suffix[1:]}' for suffix in (
                    '.ecsv', '.fits', '.vot', '.csv', *['.parquet'] * HAS_PARQUET))]

    def __init__(self, folder: Path, **options: Any):
        super().__init__(folder, **options)
        from astroclip_search import ClipSearch

        self.disk = Path(self.options['disk']) if self.options['disk'] else folder / 'small'
        self.disk.mkdir(exist_ok=True)
        self.on_disk = ClipSearch(cache_dir=self.disk / 'cache')

    def close(self) -> None:
        self.on_disk.session.close()
        super().close()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """
        Leave no room: on a disk of its own by a file, elsewhere by a limit on the size of files.
        """
        if self.options['disk']:
            filler = self.disk / 'filler'
            with contextlib.suppress(OSError), open(filler, 'wb', buffering=0) as stream:
                while True:
                    stream.write(bytes(1024))
            try:
                yield
            finally:
                filler.unlink()
            return
        import resource

        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def attempt(self, name: str) -> str:
        what, _, suffix = name.partition(': ')
        if what == 'rank without a cache yet':
            with self.full():
                return self.differs(self.rank(self.on_disk, self.sound))
        if what == 'rank with a cache that cannot grow':
            self.rank(self.on_disk, [str(path) for path in sorted(self.sound.iterdir())[:3]])
            with self.full():
                found = self.differs(self.rank(self.on_disk, self.sound))
            return found or self.differs(self.rank(self.on_disk, self.sound))
        if what == 'clear_cache':
            self.rank(self.on_disk, self.sound)
            with self.full(), contextlib.suppress(*_expected()):
                self.on_disk.clear_cache()
            return self.differs(self.rank(self.on_disk, self.sound))
        ranked = self.rank(self.search, self.sound)
        target = self.disk / f'older.{suffix or "html"}'
        is_new = what == 'card in a new file'
        if is_new:
            target.unlink(missing_ok=True)
        else:
            self._write(ranked, target)
        before = {path.name: path.read_bytes() for path in self.disk.glob('*.*')}
        error = None
        with self.full():
            try:
                self._write(ranked, target)
            except _expected() as caught:
                error = caught
        if error is None:
            return 'nothing was said'
        if '\n' in str(error).strip():
            return f'no sentence: {str(error)[:80]!r}'
        after = {path.name: path.read_bytes() for path in self.disk.glob('*.*')}
        return '' if after == before else 'an older file is lost, or a part of a new one stays'

    def _write(self, ranked: Any, target: Path) -> None:
        if target.suffix == '.html':
            self.search.gallery(ranked).write(target, overwrite=True)
            return
        from astroclip_search.archives.table_io import write

        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            write(ranked, target, overwrite=True)


class Caches(Theme):
    """
    Caches that another process holds, or that are no longer what they were.
    """

    seconds = 40.0

    @staticmethod
    def names(n: int = 40) -> list[str]:
        return ['held by another process', 'folder in its place', 'text in its place', 'empty file',
                'link to nothing', 'file in place of its folder', 'of another program',
                *(f'damaged {number}' for number in range(n))]

    def attempt(self, name: str) -> str:
        from astroclip_search import ClipSearch

        _ = self.expected
        place = self.folder / 'hurt'
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        if name == 'file in place of its folder':
            place.write_text('')
        search = ClipSearch(cache_dir=place)
        file = search.session.cache_path()
        tolerance = 1e-3
        holder: Any = contextlib.nullcontext()
        if name.startswith('damaged'):
            tolerance = CLOSE
            self._damage(search, file, int(name.split()[1]))
        elif name == 'held by another process':
            self.rank(search, sorted(map(str, self.sound.iterdir()))[:3])
            search.session.close()
            holder = _holding(file)
        elif name != 'file in place of its folder':
            place.mkdir()
            if name == 'folder in its place':
                file.mkdir()
            elif name == 'link to nothing':
                file.symlink_to(place / 'nowhere' / 'cache')
            elif name == 'of another program':
                with contextlib.closing(sqlite3.connect(file)) as connection:
                    connection.execute('CREATE TABLE vectors (a, b)')
                    connection.execute('PRAGMA user_version = 77')
                    connection.commit()
            else:
                file.write_text('' if name == 'empty file' else 'no cache\n' * 500)
        with holder:
            found = self.differs(self.rank(search, self.sound), tolerance)
        found = found or self.differs(self.rank(search, self.sound), tolerance)
        search.session.close()
        return found

    def _damage(self, search: Any, file: Path, number: int) -> None:
        self.rank(search, self.sound)
        search.session.close()
        data = bytearray(file.read_bytes())
        rng = np.random.default_rng([self.seed, number])
        for _ in range(1 + number % 20):
            data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        if number % 4 == 1:
            del data[int(rng.integers(len(data))):]
        elif number % 4 == 2:
            start = int(rng.integers(len(data)))
            data[start:start + 4096] = bytes(len(data[start:start + 4096]))
        file.write_bytes(data)


class Threads(Theme):
    """
    Eight threads that rank at once; a second process does the same with the same cache.
    """

    seconds = 120.0

    @staticmethod
    def names(n: int = 5) -> list[str]:
        return [f'round {number}' for number in range(n)]

    def attempt(self, name: str) -> str:
        from astroclip_search import ClipSearch

        reference, found = self.expected, []
        shared = ClipSearch(cache_dir=self.folder / 'shared' / name)
        ready = threading.Barrier(8)

        def work(number: int) -> None:
            search = shared if number % 2 else ClipSearch(cache_dir=shared.cache_dir)
            try:
                ready.wait(30)
                for _ in range(2):
                    ranked = search.rank(self.sound, PHRASE, by='image', show_progress=False,
                                         fold_duplicates=False)
                    found.append(self.differs(ranked))
            except Exception as error:  # it is counted
                found.append(f'{type(error).__name__}: {error}')
            finally:
                if search is not shared:
                    search.session.close()

        assert reference
        before = list(warnings.filters)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        with self._second(name) as second:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        shared.session.close()
        if warnings.filters != before:
            return 'the filters of warnings are not as they were'
        if second is not None and second.returncode:
            return f'the other process ended with {second.returncode}'
        bad = [one for one in found if one]
        return bad[0] if bad else '' if len(found) == 16 else f'{len(found)} rankings of 16'

    @contextlib.contextmanager
    def _second(self, name: str) -> Iterator[subprocess.Popen | None]:
        if self.options.get('is_second'):
            yield None
            return
        from .child import command, say_job

        with subprocess.Popen(command(), stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL) as second:
            say_job(second, theme='Threads', names=[name], folder=str(self.folder), seed=self.seed,
                    options={'is_second': True})
            yield second
            second.wait(self.seconds)


class Kills(Theme):
    """
    A ranking that the parent kills; the last one goes on to its end. The parent counts.
    """

    def attempt(self, name: str) -> str:
        if name == 'again':
            self.search.clear_cache()
            self.rank(self.search, self.sound)
            return ''
        return self.differs(self.rank(self.search, self.sound))


THEMES: dict[str, type[Theme]] = {theme.__name__: theme for theme in (
    Servers, Files, HostileTables, Disk, Caches, Threads, Kills)}


def _draw(path: Path, number: int) -> None:
    from PIL import Image

    Image.fromarray(picture(number)).save(path)


def _cosines(ranked: Any) -> dict[str, float]:
    return {Path(source).name: float(value) for source, value in zip(
        ranked['clip_source'].tolist(), ranked['clip_image'].filled(9).tolist(), strict=True)}


def _incomplete(ranked: Any) -> str:
    """
    What a row lacks: a status, a reason, or a number where there is none.
    """
    if not set(ranked['clip_status'].tolist()) <= STATUSES:
        return 'a row without a status'
    for row in ranked['clip_status', 'clip_message']:
        if row['clip_status'] != 'OK' and not row['clip_message']:
            return 'a row without a reason'
        if '\n' in row['clip_message']:
            return 'a reason of several lines'
    scores = ranked['clip_score']
    if (np.ma.getmaskarray(scores) != (ranked['clip_status'] != 'OK')).any():
        return 'a score without a picture'
    return '' if np.isfinite(np.asarray(scores.filled(0))).all() else 'a score that is no number'


def _expected() -> tuple[type[Exception], ...]:
    from astroclip_search.exceptions import expected_errors

    return expected_errors()


def _table_held(rank: Callable[[], Any]) -> str:
    """
    A table is read, or refused in one sentence.
    """
    try:
        return _incomplete(rank())
    except _expected() as error:
        return '' if '\n' not in str(error) else f'no sentence: {str(error)[:80]!r}'


def _votable(data: str, before: str = '', encoding: str = 'UTF-8', *, size: str = '*',
             rows: str = '1') -> str:
    return (f'<?xml version="1.0" encoding="{encoding}"?>{before}<VOTABLE version="1.4" '
            'xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">'
            f'<TABLE nrows="{rows}"><FIELD name="preview" datatype="char" arraysize="{size}"/>'
            f'<DATA>{data}</DATA></TABLE></RESOURCE></VOTABLE>')


@contextlib.contextmanager
def _holding(file: Path) -> Iterator[None]:
    """
    Another process that holds a cache for itself.
    """
    code = ('import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); '
            'c.execute("BEGIN EXCLUSIVE"); print("held", flush=True); sys.stdin.read()')
    with subprocess.Popen([sys.executable, '-c', code, file], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert io.TextIOWrapper(process.stdout).readline() == 'held\n'
        yield
        process.stdin.close()
