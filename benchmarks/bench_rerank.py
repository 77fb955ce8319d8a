# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Ranking many rows whose embeddings are cached, beside the bare matrix product and building the
same table.
"""

import cProfile
import io
import pstats
import tempfile

import numpy as np

from .comparison import Comparison, compare, seconds

__all__ = ['Rerank', 'compare_rerank']

COUNT = 100_000
N_TARGETS = 20_000
QUERIES = ('spiral galaxy', 'protoplanetary disk', 'globular cluster', 'supernova remnant')


def observations(count: int):
    """Make a table as MAST answers: all the columns, texts of the usual length, masks."""
    from astropy.table import MaskedColumn, Table

    rng = np.random.default_rng(1)
    number = np.arange(count)
    name = np.char.add('hst_', np.char.add(np.char.zfill(number.astype(str), 8), '_drz'))
    target = rng.integers(0, N_TARGETS, count)
    ra, dec = rng.uniform(0, 360, count), rng.uniform(-90, 90, count)
    corner = [f' {x:.8f} {y:.8f}' for x, y in zip(ra, dec, strict=True)]

    def constant(text):
        return np.full(count, text)

    columns = {
        'intentType': constant('science'), 'obs_collection': constant('HST'),
        'provenance_name': constant('CALACS'), 'instrument_name': constant('ACS/WFC'),
        'project': constant('HST'), 'filters': constant('F814W'),
        'wavelength_region': constant('OPTICAL'),
        'target_name': np.char.add('TARGET-', target.astype(str)),
        'target_classification': constant('GALAXY;SPIRAL'), 'obs_id': name, 's_ra': ra,
        's_dec': dec, 'dataproduct_type': constant('image'),
        'proposal_pi': np.char.add('Investigator ', (target % 300).astype(str)),
        'calib_level': np.full(count, 3), 't_min': rng.uniform(5e4, 6e4, count),
        't_max': rng.uniform(5e4, 6e4, count), 't_exptime': rng.uniform(1, 1e4, count),
        'em_min': np.full(count, 700.0), 'em_max': np.full(count, 960.0),
        'obs_title': np.char.add('The star formation history of nearby galaxies, part ',
                                 (target % 500).astype(str)),
        't_obs_release': rng.uniform(5e4, 6e4, count),
        'proposal_id': (15000 + target % 500).astype(str),
        's_region': np.array([f'POLYGON{4 * place}' for place in corner]),
        'jpegURL': np.char.add(np.char.add('mast:HST/product/', name), '.jpg'),
        'dataURL': np.char.add(np.char.add('mast:HST/product/', name), '.fits'),
        'dataRights': constant('PUBLIC'), 'mtFlag': np.zeros(count, dtype=bool),
        'srcDen': MaskedColumn(np.zeros(count), mask=True),
        'obsid': (24_000_000 + number).astype(str), 'objID': (64_000_000 + number).astype(str),
    }
    return Table(columns, masked=True)


class Rerank:
    """
    For airspeed velocity.
    """

    timeout = 600

    def setup(self):
        from astroclip_search import ClipSearch
        from astroclip_search.archives import open_results
        from astroclip_search.embeddings import image_space, words_space
        from astroclip_search.references import image_key
        from astroclip_search.store import Store

        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.table = observations(COUNT)
        self.search = ClipSearch(cache_dir=self.folder.name)
        encoder = self.search._encoder()
        query = encoder.encode_text([QUERIES[0]])[0]
        n_words = encoder.encode_words([QUERIES[0]]).shape[1]
        references = open_results(self.table)[1]
        rng = np.random.default_rng(2)
        store = Store(f'{self.folder.name}/embeddings.sqlite')
        words = list(dict.fromkeys(references.words))
        for space, keys, d in (
                (image_space(encoder), [image_key(source) for source in references.sources],
                 len(query)), (words_space(encoder), words, n_words)):
            vectors = rng.normal(size=(len(keys), d)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            store.put(space, keys, vectors)
        store.close()
        self.matrix = rng.normal(size=(COUNT, len(query))).astype(np.float32)
        self.query = query
        self.encoder = encoder
        self.turn = 0
        self.first = seconds(self.time_rank)  # reads the cache from disk

    def teardown(self):
        self.folder.cleanup()

    def time_rank(self):
        self.turn += 1
        table = self.search.rank(self.table, QUERIES[self.turn % len(QUERIES)],
                                 show_progress=False)
        assert table.meta['clip']['n_ranked'] == len(self.table)

    def time_product_and_table(self):
        from astropy.table import MaskedColumn

        score = self.matrix @ self.query
        order = np.argsort(-score, kind='stable')
        table = self.table[order]
        # The same columns as from rank, out of arrays that are all there.
        table['clip_rank'] = np.arange(1, COUNT + 1)
        for name in ('clip_score', 'clip_image', 'clip_text', 'clip_false_alarm'):
            table[name] = MaskedColumn(score[order], mask=np.zeros(COUNT, dtype=bool))
        table['clip_status'] = np.full(COUNT, 'OK')
        table['clip_source'] = np.asarray(table['jpegURL'])
        table['clip_message'] = np.full(COUNT, '')

    def time_encode_query(self):
        self.turn += 1
        phrase = QUERIES[self.turn % len(QUERIES)]
        self.encoder.encode_text([phrase])
        self.encoder.encode_words([phrase])


def profile(action, lines: int = 12) -> list[str]:
    """Return where a call spends its time, the function with the most first."""
    profiler = cProfile.Profile()
    profiler.runcall(action)
    stream = io.StringIO()
    pstats.Stats(profiler, stream=stream).strip_dirs().sort_stats('tottime').print_stats(lines)
    return [line for line in stream.getvalue().splitlines() if line.strip()]


def compare_rerank(repeats: int) -> list[Comparison]:
    """Measure ranking again."""
    bench = Rerank()
    bench.setup()
    try:
        ours, theirs = compare(lambda: seconds(bench.time_rank),
                               lambda: seconds(bench.time_product_and_table), 2 * repeats)
        encode = seconds(bench.time_encode_query)
        comparison = Comparison(
            f'rank {COUNT} cached rows again', ours, 'matrix product and table', theirs, bound=3,
            notes=[f'encoding the query takes {encode:.3f} s of it',
                   f'the first time, from disk, it took {bench.first:.2f} s'])
        if not comparison.good:
            comparison.notes += profile(bench.time_rank)
    finally:
        bench.teardown()
    return [comparison]
