# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A whole ``rank`` of previews from slow archives, beside its slowest stage alone.

The stages overlap, so the whole should take little longer than the longest of them: fetching with
as many connections, decoding on all cores, embedding. It cannot take less than all processor time
divided by the number of cores, which is printed as well; so is what the rows' metadata add.
"""

import contextlib
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np

from .comparison import Comparison, seconds
from .server import preview_hosts

__all__ = ['EndToEnd', 'EndToEndSmall', 'compare_end_to_end']

COUNT, LATENCY, N_HOSTS, N_CONNECTIONS = 1000, 0.05, 4, 5
PER_TARGET = 4  # rows
QUERY = 'spiral galaxy'


class EndToEnd:
    """
    For airspeed velocity; every stage can be timed alone.
    """

    size = 1024  # px, as the previews of HST and JWST
    timeout = 600

    def setup(self):
        from astropy.table import Table

        from astroclip_search import ClipSearch, conf
        from astroclip_search.archives.open import open_results

        self.stack = contextlib.ExitStack()
        self.urls = self.stack.enter_context(
            preview_hosts(COUNT, n_hosts=N_HOSTS, size=self.size, latency=LATENCY))
        self.hosts = sorted({urlsplit(url).netloc for url in self.urls})
        self.stack.enter_context(conf.set_temp('private_hosts', self.hosts))
        self.stack.enter_context(conf.set_temp('n_connections', N_CONNECTIONS))
        targets = [i // PER_TARGET for i in range(COUNT)]
        self.table = Table({'target_name': [f'FIELD-{i}' for i in targets],
                            'obs_title': [f'Galaxies at all redshifts, part {i}' for i in targets],
                            'preview': self.urls})
        self.search = ClipSearch(cache_dir=self.stack.enter_context(
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        self.conf = conf
        self.encoder = self.search.session.encoder()
        self.metadata = list(dict.fromkeys(open_results(self.table)[1].metadata))
        # What the later stages start from; it also opens the sessions and the connections.
        self.contents = self.time_fetch()
        self.pixels = np.stack(self.time_decode())
        self.encoder.encode_images(self.pixels[:self.encoder.batch_size])
        self.time_rank('both')

    def teardown(self):
        self.stack.close()

    def time_rank(self, by='image'):
        self.search.clear_cache()
        table = self.search.rank(self.table, QUERY, by=by, max_images=COUNT, show_progress=False)
        assert table.meta['clip']['n_ranked'] == COUNT, table.meta['clip']

    def time_rank_here(self):
        with self.conf.set_temp('isolate', False):
            self.time_rank()

    def time_fetch(self):
        from astroclip_search.images.http import Fetcher, Limits

        with (Fetcher(Limits(n_connections=N_CONNECTIONS), trusted=self.hosts) as fetcher,
              ThreadPoolExecutor(N_HOSTS * N_CONNECTIONS) as workers):
            def fetch(url):
                with fetcher.open(url) as content:
                    return content

            return list(workers.map(fetch, self.urls))

    def time_decode(self):
        from astroclip_search.images import preprocess, render

        preprocessing = self.encoder.bundle.preprocessing
        thumbnail = self.conf.thumbnail_size
        side = max(preprocess.sides(preprocessing)[1], 3 * thumbnail // 4)

        def decode(content):
            image = render.render(content, side=side)
            preprocess.thumbnail(image, thumbnail)
            return preprocess.resize(image, preprocessing)

        with ThreadPoolExecutor(os.cpu_count()) as workers:
            return list(workers.map(decode, self.contents))

    def time_embed(self):
        batch = self.encoder.batch_size
        for start in range(0, COUNT, batch):
            self.encoder.encode_images(self.pixels[start:start + batch])

    def time_with_metadata(self):
        self.time_rank('both')


class EndToEndSmall(EndToEnd):
    """
    The same with thumbnails.
    """

    size = 256


def compare_end_to_end(repeats: int) -> list[Comparison]:
    """Measure the whole and each stage in turn."""
    found = []
    for bench in (EndToEndSmall(), EndToEnd()):
        bench.setup()
        try:
            whole = 'rank', 'with_metadata', 'rank_here'
            stages = 'fetch', 'decode', 'embed'
            times = {name: [] for name in whole + stages}
            busy = {name: [] for name in whole}
            for _ in range(repeats):
                for name in whole + stages:
                    started = time.process_time()
                    times[name].append(seconds(getattr(bench, f'time_{name}')))
                    if name in whole:
                        busy[name].append(time.process_time() - started)
        finally:
            bench.teardown()
        alone = {stage: statistics.median(times[stage]) for stage in stages}
        slowest = max(alone, key=alone.get)
        stages = ', '.join(f'{stage} {value:.2f} s' for stage, value in alone.items())
        with_metadata = statistics.median(times['with_metadata'])
        limit = statistics.median(busy['rank_here']) / os.cpu_count()
        found.append(Comparison(
            f'rank {COUNT} previews of {bench.size} px, {1000 * LATENCY:.0f} ms away, from '
            f'{N_HOSTS} hosts', times['rank'], f'{slowest} alone', times[slowest], bound=1.15,
            notes=[f'alone: {stages}; sum {sum(alone.values()):.2f} s',
                   f'processor time in one process / {os.cpu_count()} cores: {limit:.2f} s',
                   f'with the metadata of {len(bench.metadata)} targets: {with_metadata:.2f} s']))
        found.append(Comparison(
            f'the same, decoded in processes of their own, {bench.size} px', times['rank'],
            'decoded in the same process', times['rank_here'], bound=1.1))
    return found
