# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Are FITS images found as well as bitmaps of the same? Mean average precision over 12 kinds of
rendered scenes, eight of each, by their names.

The scenes are grey. As PNG they are shown as they are; as FITS they have noise in each pixel, of
255, and go through levels, filter and stretch. ``tests/export/test_rendering.py`` holds the bound.
"""

from collections.abc import Iterator

import numpy as np

from .comparison import Comparison, Skipped

__all__ = ['KINDS', 'NOISES', 'average_precision', 'compare_rendering', 'scenes']

KINDS = {
    'spiral': 'spiral galaxy', 'edge_on': 'edge-on galaxy', 'elliptical': 'elliptical galaxy',
    'merger': 'merging galaxies', 'galaxy_cluster': 'galaxy cluster',
    'globular_cluster': 'globular cluster', 'planetary_nebula': 'planetary nebula',
    'emission_nebula': 'emission nebula', 'radio_galaxy': 'radio galaxy', 'comet': 'comet',
    'planet': 'planet', 'saturated_star': 'bright star with diffraction spikes'}
EACH = 8
SIZE = 800  # px
SEED = 3_300_000
NOISES = 15, 40  # of 255, in each pixel


def scenes(size: int = SIZE) -> Iterator[tuple[np.ndarray, str]]:
    """Draw the scenes, grey and with row 0 at the top; yield each with its kind."""
    from export.sky import render

    for i, kind in enumerate(KINDS):
        for j in range(EACH):
            yield render(SEED + 100 * i + j, kind, size=size).image.mean(axis=2), kind


def average_precision(vectors: np.ndarray, queries: np.ndarray, kinds: np.ndarray) -> float:
    """Mean over the kinds; ``vectors`` (n, d) of images, ``queries`` (12, d)."""
    found = []
    for query, kind in zip(queries, KINDS, strict=True):
        right = (kinds == kind)[np.argsort(-(vectors @ query), kind='stable')]
        found.append((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())
    return float(np.mean(found))


def compare_rendering(_repeats: int) -> list[Comparison]:
    """Measure it; there is nothing to repeat."""
    try:
        drawn, kinds = zip(*scenes(), strict=True)
    except ImportError as error:
        raise Skipped(f'the scenes cannot be drawn ({error})') from error
    from PIL import Image

    from astroclip_search import ClipSearch

    rng = np.random.default_rng(5)
    kinds = np.array(kinds)
    queries = ClipSearch.encode_text(list(KINDS.values()))

    def value(images: list) -> float:
        return average_precision(ClipSearch.encode_images(images), queries, kinds)

    bitmap = value([Image.fromarray(scene.round().astype(np.uint8)) for scene in drawn])
    found = []
    for noise in (0, *NOISES):
        frames = [(scene[::-1] + rng.normal(0, noise, scene.shape)).astype(np.float32)
                  for scene in drawn]
        mean = value(frames)
        found.append(Comparison(f'mAP lost as FITS, noise {noise} of 255', [bitmap - mean],
                                bound=.02, unit='mAP', notes=[f'{mean:.3f}, as PNG {bitmap:.3f}']))
    return found
