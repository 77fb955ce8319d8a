# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The embedded model alone: decoded pixels -> embeddings, and one phrase -> its embedding.
"""

import itertools

import numpy as np

from .comparison import Comparison, seconds, setting

__all__ = ['Encode', 'compare_encode']

BATCH, BATCHES, PHRASES = 32, 10, 20


class Encode:
    """
    For airspeed velocity.
    """

    images = BATCH * BATCHES

    def setup(self):
        from astroclip_search.models.bundle import open_bundle
        from astroclip_search.models.encoder import open_encoder

        bundle = open_bundle('default')
        self.encoder = open_encoder(bundle, device=setting.device, n_threads=setting.threads)
        shape = BATCH, *bundle.preprocessing.size, 3
        self.pixels = np.random.default_rng(4).integers(0, 256, shape, np.uint8)
        self.numbers = itertools.count()
        self.time_images()
        self.time_text()

    def time_images(self):
        for _ in range(BATCHES):
            self.encoder.encode_images(self.pixels)

    def time_text(self):
        for _ in range(PHRASES):  # none of which was asked before
            number = next(self.numbers)
            self.encoder.encode_text([f'edge-on galaxy with a dust lane, number {number}'])


def compare_encode(repeats: int) -> list[Comparison]:
    """Measure both towers."""
    bench = Encode()
    bench.setup()
    return [
        Comparison(f'images in batches of {BATCH}, {setting}',
                   [bench.images / seconds(bench.time_images) for _ in range(repeats)],
                   floor=300, unit='images/s'),
        Comparison(f'one phrase, {setting}',
                   [1000 / PHRASES * seconds(bench.time_text) for _ in range(repeats)],
                   bound=10, unit='ms'),
    ]
