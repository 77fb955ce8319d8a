"""Training views: their form, and that they still show what there is."""

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from export.sky import render
from export.training.views import RENDERINGS, augment, rendering, shown_as, view

ROWS, COLUMNS = np.mgrid[:64, :64]
FROM_CENTRE = np.hypot(ROWS - 31.5, COLUMNS - 31.5)


def bright_disk():
    light = 230 * np.exp(-(FROM_CENTRE / 12) ** 4) + 15
    return np.repeat(light[..., None], 3, -1).astype(np.uint8)


@pytest.mark.parametrize('make', [rendering, augment])
def test_views_are_reproducible_and_keep_their_shape(make):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    views = [make(pixels, 32, np.random.default_rng(seed)) for seed in range(40)]
    assert all(shown.shape == (32, 32, 3) and shown.dtype == np.uint8 for shown in views)
    np.testing.assert_array_equal(views[5], make(pixels, 32, np.random.default_rng(5)))
    assert len({shown.tobytes() for shown in views}) == 40


@pytest.mark.parametrize('name', RENDERINGS)
def test_what_is_bright_stands_out_in_every_rendering(name):
    negative = name in ('plate', 'finder chart')
    contrasts = []
    for seed in range(40):
        shown = shown_as(name, bright_disk(), np.random.default_rng(seed)).mean(-1)
        inner, outer = shown[FROM_CENTRE < 8].mean(), np.median(shown[FROM_CENTRE > 24])
        contrasts.append(inner - outer)
    contrasts = np.array(contrasts)
    assert np.median(contrasts if not negative else -contrasts) > 60
    assert (np.abs(contrasts) > 10).mean() >= 0.9
    # Others than plates and charts are seldom negatives, and colour maps may go from light to dark.
    assert ((contrasts > 0) == (not negative)).mean() > 0.7


@pytest.mark.parametrize('kind', ['spectrum', 'calibration', 'blank_sky', 'all_sky_map'])
def test_frames_and_maps_are_shown_too(kind):
    square = np.asarray(render(5, kind, size=64).image)
    for name in RENDERINGS:
        shown = shown_as(name, square, np.random.default_rng(1))
        assert shown.shape == square.shape
        assert shown.std() > 0


def test_a_picture_of_one_value_has_views():
    black = np.zeros((48, 48, 3), np.uint8)
    for name in RENDERINGS:
        for seed in range(8):
            assert shown_as(name, black, np.random.default_rng(seed)).shape == black.shape


def test_the_share_of_renderings_is_that_asked_for():
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)

    def grey(share):
        views = [view(colours, 32, np.random.default_rng(seed), strength=0, archive_share=share)
                 for seed in range(60)]
        return np.mean([(shown == shown[..., :1]).all() for shown in views])

    assert grey(0) == 0
    assert 0.6 < grey(1) < 1  # the others go through a colour map
    assert 0.2 < grey(0.5) < 0.6
