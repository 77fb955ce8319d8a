# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
From nothing to a ranking: ``astroclip-search demo`` in a new process with an empty cache.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .comparison import ROOT, Comparison, compare, seconds, setting

__all__ = ['Start', 'compare_start']

PEER = 'import astropy.table, onnxruntime'


def process(*arguments: str, cache: str | Path | None = None) -> float:
    """Return the seconds of a new interpreter, its start and end included."""
    environment = os.environ | ({'XDG_CACHE_HOME': str(cache)} if cache else {})
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True,
                   capture_output=True)
    after, ended = os.times(), time.perf_counter()
    if setting.cpu_time:
        return (after.children_user + after.children_system
                - before.children_user - before.children_system)
    return ended - began


def demo(cache: str | Path | None = None) -> float:
    """Return the seconds of the demonstration, by default with a cache of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return process('-m', 'astroclip_search', 'demo', '--gallery', f'{folder}/gallery.html',
                       cache=cache or folder)


def peer() -> float:
    """Return the seconds of only importing what nobody can do without."""
    return process('-c', PEER)


class Start:
    """For airspeed velocity."""

    timeout = 300

    def setup(self):
        """Save the optimised graphs, as a cache on disk would."""
        from astroclip_search.models.bundle import open_bundle
        from astroclip_search.models.runtime import runtime

        bundle = open_bundle('default')
        self.files = [bundle.onnx_file(tower, 'cpu') for tower in ('vision', 'text')]
        self.folder = tempfile.TemporaryDirectory()
        self.saved = [Path(self.folder.name) / file.name for file in self.files]
        for file, saved in zip(self.files, self.saved, strict=True):
            options = runtime().SessionOptions()
            options.optimized_model_filepath = str(saved)
            options.log_severity_level = 4  # it says that the file is for this processor only
            runtime().InferenceSession(file, options, providers=['CPUExecutionProvider'])

    def teardown(self):
        self.folder.cleanup()

    def time_demo(self):
        demo()

    def time_peer(self):
        peer()

    def time_towers(self):
        from astroclip_search.models.runtime import open_tower

        for file in self.files:
            open_tower(file, 'cpu')

    def time_saved_towers(self):
        from astroclip_search.models.runtime import runtime

        options = runtime().SessionOptions()
        options.graph_optimization_level = runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
        for file in self.saved:
            # Without it, the cache would be a way to have another model run.
            with file.open('rb') as stream:
                hashlib.file_digest(stream, 'sha256')
            runtime().InferenceSession(file, options, providers=['CPUExecutionProvider'])

    def track_ratio(self):
        return compare_start(3)[0].value


def compare_start(repeats: int) -> list[Comparison]:
    """Measure the cold start, and what keeping the optimised graphs would save of it."""
    ours, theirs = compare(demo, peer, repeats)
    with tempfile.TemporaryDirectory() as cache:
        again, peers = compare(lambda: demo(cache), peer, repeats)
    found = [Comparison('astroclip-search demo, whole process, empty cache', ours, PEER, theirs,
                        bound=3),
             Comparison('astroclip-search demo, whole process, once more', again, PEER, peers,
                        bound=3)]
    bench = Start()
    bench.setup()
    try:
        towers, saved = compare(lambda: seconds(bench.time_towers),
                                lambda: seconds(bench.time_saved_towers), 3 * repeats)
    finally:
        bench.teardown()
    return [*found, Comparison('both towers of the embedded model opened', towers,
                               'from optimised graphs kept on disk, hashed', saved)]
