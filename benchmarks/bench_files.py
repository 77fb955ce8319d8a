# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Ranking local FITS files on all cores, beside one core's time divided by their number; and
``encode_images`` of files beside ``rank`` of the same.

Each run is a fresh process, bound to its cores before anything is opened. The files are in memory:
the time is that of decoding and embedding.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from .bench_fits import star_field
from .bench_memory import peak
from .comparison import ROOT, Comparison, Skipped, compare, seconds

__all__ = ['Files', 'compare_files', 'run']

COUNT, SIDE = 500, 2048
DISTINCT = 16  # of them; the others are links, which have keys of their own
QUERY = 'spiral galaxy'


def write(folder: Path, count: int, side: int, suffix: str = 'fits') -> list[str]:
    """Write so many files, of which a few differ; return their paths."""
    from astropy.io import fits

    field = star_field(side, 800)
    for i in range(min(count, DISTINCT)):
        data = np.roll(field, (i * side // DISTINCT, i), (0, 1))
        path = folder / f'{i:04}.{suffix}'
        if suffix == 'fits':
            fits.PrimaryHDU(data).writeto(path)
        else:
            Image.fromarray(np.clip(data, 0, 255).astype(np.uint8)).convert('RGB').save(path)
    for i in range(DISTINCT, count):
        os.link(folder / f'{i % DISTINCT:04}.{suffix}', folder / f'{i:04}.{suffix}')
    return sorted(map(str, folder.glob(f'*.{suffix}')))


def run(folder: str, cores: list[int]) -> dict:
    """Rank the files of a folder on some cores; say how long it took, and the peak memory in MB."""
    os.sched_setaffinity(0, cores)
    from astroclip_search import ClipSearch

    with tempfile.TemporaryDirectory() as cache:
        search = ClipSearch(cache_dir=cache)
        files = sorted(map(str, Path(folder).iterdir()))
        search.encode_images(files[:DISTINCT])
        search.encode_text(QUERY)
        before = peak()
        took = seconds(lambda: search.rank(files, QUERY, by='image', show_progress=False))
        return {'seconds': took, 'before': before, 'peak': peak()}


def fresh(folder: str, cores: list[int]) -> dict:
    """Do it in a new process."""
    code = ('import json; from benchmarks.bench_files import run; '
            f'print(json.dumps(run({folder!r}, {cores})))')
    output = subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True, text=True,
                            env=os.environ | {'PYTHONWARNINGS': 'ignore'},
                            stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


class Files:
    """
    For airspeed velocity.
    """

    params = ['fits', 'jpg']
    timeout = 600

    def setup(self, suffix):
        from astroclip_search import ClipSearch

        self.folder = tempfile.TemporaryDirectory()
        self.search = ClipSearch(cache_dir=Path(self.folder.name) / 'cache')
        self.files = write(Path(self.folder.name), 200, 1024, suffix)
        self.search.encode_images(self.files[:DISTINCT])

    def teardown(self, _suffix):
        self.search.close()
        self.folder.cleanup()

    def time_rank(self, _suffix):
        self.search.clear_cache()
        self.search.rank(self.files, QUERY, by='image', show_progress=False)

    def time_encode(self, _suffix):
        self.search.encode_images(self.files)


def compare_files(repeats: int) -> list[Comparison]:
    """Measure both in turn."""
    if not hasattr(os, 'sched_setaffinity'):
        raise Skipped('a process cannot be bound to cores here')
    cores = sorted(os.sched_getaffinity(0))
    runs: dict[int, list[dict]] = {1: [], len(cores): []}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), COUNT, SIDE)
        for _ in range(max(1, repeats)):
            for n, found in runs.items():
                found.append(fresh(folder, cores[:n]))
    times = {n: [one['seconds'] for one in found] for n, found in runs.items()}
    grown = [one['peak'] - one['before'] for one in runs[len(cores)]]
    comparisons = [Comparison(
        f'rank {COUNT} local FITS of {SIDE} x {SIDE} on {len(cores)} cores', times[len(cores)],
        "one core's time / cores", [one / len(cores) for one in times[1]], bound=1.15,
        notes=[f'peak memory grew by {statistics.median(grown):.0f} MB while it ranked'])]
    for suffix in Files.params:
        bench = Files()
        bench.setup(suffix)
        try:
            encode, rank = compare(lambda one=bench: seconds(lambda: one.time_encode('')),
                                   lambda one=bench: seconds(lambda: one.time_rank('')),
                                   repeats)
        finally:
            bench.teardown(suffix)
        comparisons.append(Comparison(
            f'encode_images of {len(bench.files)} {suffix.upper()} files of 1024 x 1024', encode,
            'rank of the same', rank, bound=1.1))
    return comparisons
