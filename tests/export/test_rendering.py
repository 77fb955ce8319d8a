"""
FITS images are found as well as bitmaps of the same scenes.
"""

import numpy as np
import pytest
from PIL import Image

from astroclip_search import ClipSearchClass
from benchmarks.bench_rendering import KINDS, NOISES, average_precision, scenes


@pytest.fixture(scope='module')
def frozen():
    search = ClipSearchClass()
    drawn, kinds = zip(*scenes(), strict=True)
    queries = search.encode_text(list(KINDS.values()))

    def value(images):
        return average_precision(search.encode_images(images), queries, np.array(kinds))

    yield drawn, value
    search.close()


def test_scenes_with_noise_are_found_as_fits(frozen):
    drawn, value = frozen
    bitmap = value([Image.fromarray(scene.round().astype(np.uint8)) for scene in drawn])
    assert bitmap > .9
    rng = np.random.default_rng(5)
    # Noise of 40 is 10 in a pixel that the model sees; what the filter leaves of it costs .026.
    for noise, lost in zip(NOISES, (.02, .03), strict=True):
        frames = [(scene[::-1] + rng.normal(0, noise, scene.shape)).astype(np.float32)
                  for scene in drawn]
        assert value(frames) > bitmap - lost, noise
