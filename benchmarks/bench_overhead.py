# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A large answer of MAST of which few rows are embedded: what all but fetching and embedding costs.

Nothing can be fetched, and what could be embedded is in the cache, so what is left is the overhead:
finding the image and the metadata of each row, scores, groups, near-duplicates, and the table.
"""

import tempfile
import warnings

import numpy as np

from .bench_rerank import observations, profile
from .comparison import Comparison, seconds

__all__ = ['Overhead', 'compare_overhead']

COUNT, EMBEDDED = 50_000, 500


class Overhead:
    """
    For airspeed velocity.
    """

    timeout = 600

    def setup(self):
        from astroclip_search import ClipSearch
        from astroclip_search.archives.open import open_results
        from astroclip_search.embeddings.pipeline import image_space, metadata_space

        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.table = observations(COUNT)
        refs = open_results(self.table)[1]
        rng = np.random.default_rng(3)
        with ClipSearch(cache_dir=self.folder.name) as search:
            encoder, cache = search.session.encoder(), search.session.cache()
            for space, keys, d in (
                    (image_space(encoder), refs.sources[::COUNT // EMBEDDED],
                     encoder.encode_text(['x']).shape[1]),
                    (metadata_space(encoder), list(dict.fromkeys(refs.metadata)),
                     encoder.encode_metadata(['x']).shape[1])):
                cache.put(space, keys, rng.normal(size=(len(keys), d)).astype(np.float32))

    def teardown(self):
        self.folder.cleanup()

    def time_rank(self, **options):
        """From a fresh instance, which reads the cache from disk, as in a new process."""
        from astroquery.exceptions import LargeQueryWarning

        from astroclip_search import ClipSearch
        from astroclip_search.exceptions import NothingStandsOutWarning

        with ClipSearch(cache_dir=self.folder.name) as search, warnings.catch_warnings():
            warnings.simplefilter('ignore', LargeQueryWarning)  # nothing may be downloaded
            warnings.simplefilter('ignore', NothingStandsOutWarning)  # all vectors are random
            table = search.rank(self.table, 'spiral galaxy', max_images=0, show_progress=False,
                                **options)
        assert (len(table), table.meta['clip']['n_ranked']) == (COUNT, EMBEDDED)
        return table

    def time_rank_groups(self):
        self.time_rank(group_by='proposal_id', fold_duplicates=True)


def compare_overhead(repeats: int) -> list[Comparison]:
    """Measure the overhead."""
    bench = Overhead()
    bench.setup()
    try:
        found = []
        for name, action in (('', bench.time_rank),
                             (', in groups and folded', bench.time_rank_groups)):
            action()
            comparison = Comparison(
                f'overhead of {COUNT} rows of MAST, {EMBEDDED} embedded{name}',
                [seconds(action) for _ in range(repeats)], bound=2)
            if not comparison.good:
                comparison.notes += profile(action)
            found.append(comparison)
    finally:
        bench.teardown()
    return found
