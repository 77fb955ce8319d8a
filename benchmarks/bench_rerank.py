# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Ranking many rows whose embeddings are cached by a new phrase, beside what that cannot do without:
embedding the phrase, the bare matrix product, and building the same table.
"""

import cProfile
import io
import pstats
import tempfile
import warnings

import numpy as np

from .comparison import Comparison, compare, seconds

__all__ = ['Rerank', 'compare_rerank']

COUNT = 100_000
N_TARGETS = 20_000


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
        from astroclip_search.archives.open import open_results
        from astroclip_search.embeddings.pipeline import image_space, metadata_space
        from astroclip_search.images.refs import image_key

        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.table = observations(COUNT)
        self.search = ClipSearch(cache_dir=self.folder.name)
        self.encoder = self.search.session.encoder()
        self.turn = 0
        self.query = self.encoder.encode_text([self.phrase()])[0]
        d_metadata = self.encoder.encode_metadata([self.phrase()]).shape[1]
        refs = open_results(self.table)[1]
        rng = np.random.default_rng(2)
        for space, keys, d in (
                (image_space(self.encoder), [image_key(source) for source in refs.sources],
                 len(self.query)),
                (metadata_space(self.encoder), list(dict.fromkeys(refs.metadata)), d_metadata)):
            vectors = rng.normal(size=(len(keys), d)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            self.search.session.cache().put(space, keys, vectors)
        self.search.session.close()  # what is in memory is read from disk again
        self.matrix = rng.normal(size=(COUNT, len(self.query))).astype(np.float32)
        self.first = seconds(self.time_rank)  # reads the cache from disk
        self.values = {name: np.asarray(column) for name, column in self.rank().columns.items()
                       if name.startswith('clip_')}
        self.order = self.time_product()

    def teardown(self):
        self.folder.cleanup()

    def phrase(self):
        """Return a new phrase."""
        self.turn += 1
        return f'a spiral galaxy with {self.turn} arms'

    def rank(self):
        from astroclip_search.exceptions import NothingStandsOutWarning

        with warnings.catch_warnings():
            warnings.simplefilter('ignore', NothingStandsOutWarning)  # all vectors are random
            return self.search.rank(self.table, self.phrase(), show_progress=False)

    def time_rank(self):
        table = self.rank()
        assert table.meta['clip']['n_ranked'] == len(self.table)

    def time_parts(self):
        self.time_encode()
        self.build_table(self.time_product())

    def time_encode(self):
        phrase = self.phrase()
        self.encoder.encode_text([phrase])
        self.encoder.encode_metadata([phrase])

    def time_product(self):
        return np.argsort(-(self.matrix @ self.query), kind='stable')

    def time_table(self):
        self.build_table(self.order)

    def build_table(self, order):
        from astropy.table import MaskedColumn

        table = self.table[order]
        # The same columns as from rank, out of arrays that are all there.
        for name, values in self.values.items():
            if values.dtype.kind == 'U':
                table[name] = values[order]
            else:
                table[name] = MaskedColumn(values[order], mask=np.zeros(COUNT, dtype=bool))


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
                               lambda: seconds(bench.time_parts), 2 * repeats)
        parts = {name: 1000 * seconds(action) for name, action in (
            ('phrase', bench.time_encode), ('product and order', bench.time_product),
            ('table', bench.time_table))}
        comparison = Comparison(
            f'rank {COUNT} cached rows by a new phrase', ours,
            'embedding the phrase, product, table', theirs, bound=1.5,
            notes=[', '.join(f'{name} {value:.0f} ms' for name, value in parts.items()),
                   f'the first time, from disk, it took {bench.first:.2f} s'])
        if not comparison.good:
            comparison.notes += profile(bench.time_rank)
    finally:
        bench.teardown()
    return [comparison]
