# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Peak memory of a fresh process that ranks many previews, small and large ones.

The peak must depend neither on the number of pictures nor on their size.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from .comparison import ROOT, Comparison

__all__ = ['Memory', 'MemoryLarge', 'compare_memory']

# (rows, side of the previews in pixels): thousands of large pictures would take an hour.
CASES = ((20_000, 64), (1_000, 64), (1_000, 3000))


def peak() -> float:
    """Return the peak resident size of this process in MB."""
    status = Path('/proc/self/status')
    if status.exists():  # unlike getrusage, it does not inherit the peak of the parent
        line = next(x for x in status.read_text().splitlines() if x.startswith('VmHWM'))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def rank(count: int, size: int) -> dict:
    """Rank that many previews and say how much memory that took at most."""
    import tempfile

    from astroclip_search import ClipSearch, conf

    imported = peak()

    from .server import archive_server

    with (archive_server(count, size=size), tempfile.TemporaryDirectory() as folder,
          conf.set_temp('query_timeout', 0.0)):
        from astroquery.mast import Observations

        table = Observations.query_criteria(project='HST')
        search = ClipSearch(cache_dir=folder)
        search.encode_text('warm')
        before = peak()
        ranked = search.rank(table, 'spiral galaxy', max_images=count, show_progress=False)
        return {'rows': len(ranked), 'ranked': ranked.meta['clip']['n_ranked'],
                'imported': imported, 'before': before, 'peak': peak()}


def fresh(count: int, size: int) -> dict:
    """Do it in a new process."""
    code = ('import json; from benchmarks.bench_memory import rank; '
            f'print(json.dumps(rank({count}, {size})))')
    environment = os.environ | {'PYTHONWARNINGS': 'ignore'}
    output = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=environment,
                            check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def compare_memory(_repeats: int) -> list[Comparison]:
    """Measure each case once: the peak hardly varies."""
    found = {case: fresh(*case) for case in CASES}
    comparisons = [
        Comparison(f'peak memory above import of ranking {rows} previews of {size} px',
                   [result['peak'] - result['imported']], bound=500, unit='MB',
                   notes=[f'{result["imported"]:.0f} MB after the import',
                          f'{result["before"]:.0f} MB with table and text tower, before ranking',
                          f'{result["ranked"]} of {result["rows"]} rows ranked'])
        for (rows, size), result in found.items()]
    small, large = (found[case]['peak'] for case in CASES[1:])
    comparisons.append(Comparison(
        f'peak memory with previews of {CASES[2][1]} px', [large],
        f'with previews of {CASES[1][1]} px', [small], bound=1.3, unit='MB'))
    return comparisons


class Memory:
    """
    For airspeed velocity.
    """

    size = CASES[1][1]
    timeout = 3600

    def peakmem_rank(self):
        rank(1000, self.size)

    def track_peak(self):
        return fresh(1000, self.size)['peak']

    track_peak.unit = 'MB'


class MemoryLarge(Memory):
    """
    The same with large previews.
    """

    size = CASES[2][1]
