"""Write rendered scenes to shards that a training run can read while more are rendered."""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from .scene import KINDS, render

__all__ = ['main', 'write_shard']


def write_shard(out: Path, first: int, count: int, size: int = 128) -> Path:
    """Render ``count`` scenes, kinds in turn, into one shard.

    Parameters
    ----------
    out : path-like
        Directory; made if missing.
    first : int
        Seed of the first scene; the others follow it.
    count : int
        Number of scenes.
    size : int
        Side of the pictures in pixels.

    Returns
    -------
    Path
        ``out/sky-<first>.npz`` with ``images`` uint8 (count, size, size, 3), ``kind`` int16
        (count,) index into `export.sky.KINDS` and ``attributes`` (count,) JSON text. It appears
        only when complete. An existing shard is left as it is.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    target = out / f'sky-{first}.npz'
    if target.exists():
        return target
    scenes = [render(seed, KINDS[seed % len(KINDS)], size=size)
              for seed in range(first, first + count)]
    partial_file = out / f'.{target.name}.{os.getpid()}'
    try:
        with open(partial_file, 'wb') as stream:
            np.savez(stream, images=np.stack([scene.image for scene in scenes]),
                     kind=np.array([KINDS.index(scene.kind) for scene in scenes], np.int16),
                     attributes=np.array([json.dumps(scene.attributes) for scene in scenes]))
        os.replace(partial_file, target)
    finally:
        partial_file.unlink(missing_ok=True)
    return target


def main(argv: list[str] | None = None) -> int:
    """Render scenes into shards, or a contact sheet; see ``python -m export sky --help``."""
    parser = argparse.ArgumentParser(prog='python -m export sky', description=main.__doc__)
    parser.add_argument('--out', type=Path, required=True, help='directory of the shards')
    parser.add_argument('--count', type=int, default=60000, help='number of scenes')
    parser.add_argument('--seed', type=int, default=0, help='seed of the first scene')
    parser.add_argument('--shard', type=int, default=1024, help='scenes in a shard')
    parser.add_argument('--size', type=int, default=128, help='side of a picture in pixels')
    parser.add_argument('--jobs', type=int, default=1, help='processes')
    parser.add_argument('--sheet', action='store_true',
                        help='write a contact sheet of every kind to OUT/sheet.png instead')
    options = parser.parse_args(argv)
    if options.count < 1 or options.shard < 1 or options.jobs < 1:
        parser.error('--count, --shard and --jobs must be at least 1')
    if options.seed < 0 or options.size < 32:
        parser.error('--seed must not be negative and --size at least 32')
    if options.sheet:
        from .sheet import contact_sheet

        options.out.mkdir(parents=True, exist_ok=True)
        contact_sheet(seed=options.seed).save(options.out / 'sheet.png')
        return 0
    end = options.seed + options.count
    firsts = list(range(options.seed, end, options.shard))
    counts = [min(options.shard, end - first) for first in firsts]
    write = partial(write_shard, options.out, size=options.size)
    start, done = time.perf_counter(), 0
    if options.jobs == 1:
        shards = map(write, firsts, counts)
    else:
        pool = ProcessPoolExecutor(options.jobs)
        shards = pool.map(write, firsts, counts)
    for path, count in zip(shards, counts, strict=True):
        done += count
        rate = done / (time.perf_counter() - start)
        print(f'{path.name}: {done} of {options.count} scenes, {rate:.0f} per second',
              file=sys.stderr, flush=True)
    return 0
