# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
``python -m benchmarks.campaign``: what holds, and what is lost.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import report
from .damage import KINDS, damaged
from .samples import HAS_PARQUET
from .trials import THEMES
from .watch import Count, kill, watch

__all__ = ['batches', 'files', 'main', 'size', 'table', 'write']

BATCH = 10  # damaged files that lie in one folder
HEADER = ('What', 'Tried', 'Held', 'Lost', 'Longest', 'Memory')
SMALL = '1m'  # size of the disk that is filled


@dataclass(frozen=True)
class Plan:
    """
    Where a theme may write, what it depends on, and how much of it is done.
    """

    folder: Path
    seed: int
    quick: bool

    def times(self, n: int) -> int:
        """Return how many of ``n`` trials are made."""
        return -(-n // 10) if self.quick else n


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if something was lost."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.campaign', description=__doc__)
    parser.add_argument('--quick', action='store_true', help='about a fifth of it')
    parser.add_argument('--only', nargs='+', choices=list(RUNS), help='some of the themes')
    parser.add_argument('--fuzz', type=int, metavar='N',
                        help='nothing but N damaged files, of all kinds in turn')
    parser.add_argument('--seed', type=int, default=0, help='other files, other moments')
    parser.add_argument('--write', metavar='FILE', help='write the table for the documentation, '
                        'and the numbers as JSON beside it')
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    counts: list[Count] = []
    if not HAS_PARQUET:
        print('Tables in Parquet are left out: pip install "astroclip-search[parquet]"', flush=True)
    with tempfile.TemporaryDirectory(prefix='campaign-', ignore_cleanup_errors=True) as scratch:
        if options.fuzz:
            n = -(-options.fuzz // len(KINDS))
            runs = [lambda plan: files(plan.folder, n, plan.seed)]
        else:
            runs = [RUNS[name] for name in options.only or RUNS]
        for number, run in enumerate(runs):
            folder = Path(scratch, str(number))
            folder.mkdir()
            for count in run(Plan(folder, options.seed, options.quick)):
                counts.append(count)
                print(line(count), flush=True)
    counts.append(total(counts))
    print(line(counts[-1]))
    if options.write:
        switches = [*(sys.argv[1:] if arguments is None else arguments)]
        write(Path(options.write), counts, switches, time.perf_counter() - started)
    return int(bool(counts[-1].lost))


def batches(n: int, size: int = BATCH) -> list[str]:
    """Divide the numbers below ``n``: '0-9', '10-19' and so on."""
    return [f'{first}-{min(first + size, n) - 1}' for first in range(0, n, size)]


def files(folder: Path, n: int, seed: int, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[Count]:
    """Try ``n`` damaged files of each kind; a batch that is lost is tried file by file."""
    for kind in kinds:
        count = Count(f'damaged files: {kind}')
        if damaged(kind, 0) is None:
            print(f'{count.name:34} skipped: what writes these files is not installed', flush=True)
            continue
        for names in ([f'{kind}:{part}' for part in batches(n)], None):
            if names is None:  # the second time
                names = [f'{name.rpartition(":")[0]}:{number}' for name in count.names
                         for number in _numbers(name)]
                count.tried -= len(names)
                count.lost = [lost for lost in count.lost
                              if lost.partition(': ')[0] not in count.names]
            if names:
                watch(count, 'Files', names, folder, seconds=THEMES['Files'].seconds, seed=seed,
                      size=size)
        yield count


def size(name: str) -> int:
    """Return how many files a trial tries."""
    return len(_numbers(name))


def _numbers(name: str) -> range:
    first, _, last = name.rpartition(':')[2].partition('-')
    return range(int(first), int(last or first) + 1)


def damaged_files(plan: Plan) -> Iterator[Count]:
    """Try 50 of each kind."""
    yield from files(plan.folder, plan.times(50), plan.seed)


def servers(plan: Plan) -> Iterator[Count]:
    """Try every fault of a server."""
    from tests.loopback.faults import FAULTS, FaultyServer, expectations

    with FaultyServer() as server:
        count = Count('faults of servers')
        watch(count, 'Servers', list(FAULTS), plan.folder, seconds=THEMES['Servers'].seconds,
              seed=plan.seed,
              options={'hosts': [server.host, server.closed_host],
                       'good': f'{server.url}/good/red/',
                       'faults': {name: server.address(name) for name in FAULTS},
                       'expected': {name: row[:2] for name, row in expectations().items()}})
    if server.strangers:
        count.lost.append('a redirect to a private host was followed')
    yield count


def tables(plan: Plan) -> Iterator[Count]:
    """Try tables of strangers."""
    theme = THEMES['HostileTables']
    count = Count('hostile tables')
    watch(count, 'HostileTables', theme.names(), plan.folder, seconds=theme.seconds, seed=plan.seed)
    yield count


def kills(plan: Plan) -> Iterator[Count]:
    """Kill a process, and go on with its cache."""
    count = Count('kill -9, then on')
    kill(count, plan.folder, plan.times(15), plan.seed)
    yield count


def disk(plan: Plan) -> Iterator[Count]:
    """Fill a disk: one of its own where the system lets us make one."""
    theme, small = THEMES['Disk'], plan.folder / 'disk'
    small.mkdir()
    prefix = _with_disk(small)
    count = Count('full disk' if prefix else 'limit on the size of files')
    watch(count, 'Disk', theme.names(), plan.folder, seconds=theme.seconds, seed=plan.seed,
          prefix=prefix, options={'disk': str(small) if prefix else ''})
    yield count


def _with_disk(place: Path) -> list[str]:
    prefix = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c',
              f'mount -t tmpfs -o size={SMALL} tmpfs "$0" && exec "$@"', str(place)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run([*prefix, 'true'], check=True, capture_output=True, timeout=20)
        return prefix
    return []


def caches(plan: Plan) -> Iterator[Count]:
    """Lock and damage caches."""
    theme = THEMES['Caches']
    count = Count('locked and damaged caches')
    watch(count, 'Caches', theme.names(plan.times(40)), plan.folder, seconds=theme.seconds,
          seed=plan.seed)
    yield count


def threads(plan: Plan) -> Iterator[Count]:
    """Rank in two processes of eight threads."""
    theme = THEMES['Threads']
    count = Count('two processes of eight threads')
    watch(count, 'Threads', theme.names(plan.times(5)), plan.folder, seconds=theme.seconds,
          seed=plan.seed)
    yield count


RUNS: dict[str, Callable[[Plan], Iterator[Count]]] = {
    'servers': servers, 'files': damaged_files, 'tables': tables, 'kills': kills, 'disk': disk,
    'caches': caches, 'threads': threads}


def total(counts: Sequence[Count]) -> Count:
    """Add up counts."""
    return Count('all', sum(one.tried for one in counts), [lost for one in counts
                                                           for lost in one.lost], [],
                 max(one.longest for one in counts), max(one.memory for one in counts))


def line(count: Count) -> str:
    """Say what became of the trials, and name the first that were lost."""
    shown = (f'{count.name:34} {count.tried:6} tried {count.held:6} held {len(count.lost):4} lost '
             f'{count.longest:6.1f} s {count.memory / 1e6:5.0f} MB')
    return '\n'.join([shown, *(f'    {lost}' for lost in count.lost[:5] if count.name != 'all')])


def table(counts: Sequence[Count]) -> list[str]:
    """Return the table for the documentation."""
    lines = ['.. list-table::', '    :header-rows: 1', '    :widths: 40 10 10 10 14 14', '']
    rows = [HEADER, *((count.name, count.tried, count.held, len(count.lost),
                       f'{count.longest:.1f} s', f'{count.memory / 1e6:.0f} MB')
                      for count in counts)]
    for row in rows:
        lines += [f'    {" " if i else "*"} - {cell}' for i, cell in enumerate(row)]
    return lines


def write(path: Path, counts: Sequence[Count], switches: Sequence[str], took: float) -> None:
    """Write the table, and the numbers beside it."""
    shown = [word for i, word in enumerate(switches)
             if word != '--write' and (i == 0 or switches[i - 1] != '--write')]
    command = ' '.join(['python -m benchmarks.campaign', *shown])
    about = {'command': command, 'took': round(took), 'machine': report.machine(),
             'versions': report.versions(), 'date': datetime.now(UTC).strftime('%Y-%m-%d')}
    path.with_suffix('.json').write_text(json.dumps({**about, 'counts': [
        {'name': one.name, 'tried': one.tried, 'held': one.held, 'lost': one.lost,
         'longest': round(one.longest, 2), 'memory': one.memory} for one in counts]},
        indent=1) + '\n', encoding='utf-8')
    packages = ', '.join(f'{name} {number}' for name, number in about['versions'].items())
    lines = ['.. Written by ``python -m benchmarks.campaign --write``; not to be edited.', '',
             *table(counts), '',
             (f'``{command}``, {about["took"]} s, {about["date"]}. {about["machine"]}. '
              f'{packages}.')]
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')


if __name__ == '__main__':
    raise SystemExit(main())
