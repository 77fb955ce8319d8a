"""
Canvases whose right answer is known.
"""

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from export.evaluation import places
from export.evaluation.places import CELLS, FIELD, SMALL, Scenes, canvas, small
from export.sky import KINDS

KIND = 3


@pytest.fixture
def scenes():
    """One kind is red, all others are green; of these there are too few to be looked for."""
    kinds = np.repeat(np.arange(len(KINDS)), [5 if kind == KIND else 4
                                              for kind in range(len(KINDS))])
    return Scenes([np.full((32, 32, 3), (250, 10, 10) if kind == KIND else (10, 90, 10), 'u1')
                   for kind in kinds], kinds, np.random.default_rng(0))


@pytest.mark.parametrize('grid', [3, 5])
def test_one_cell_shows_it(scenes, grid):
    for _ in range(5):
        picture, without, (left, upper, right, lower) = canvas(scenes, KIND, grid)
        side = grid * CELLS[grid]
        assert picture.size == without.size == (side, side)
        red = np.asarray(picture)[..., 0] > 128
        rows, columns = np.nonzero(red)
        assert upper * side <= rows.min() <= rows.max() < lower * side
        assert left * side <= columns.min() <= columns.max() < right * side
        assert not (np.asarray(without)[..., 0] > 128).any()


def test_a_tenth_of_the_side(scenes):
    picture, without, (left, upper, right, lower) = small(scenes, KIND)
    assert picture.size == (FIELD, FIELD)
    differs = (np.asarray(picture) != np.asarray(without)).any(axis=2)
    rows, columns = np.nonzero(differs)
    assert SMALL - 4 <= np.ptp(rows) + 1 <= SMALL
    np.testing.assert_allclose([(columns.min() + columns.max() + 1) / 2 / FIELD,
                                (rows.min() + rows.max() + 1) / 2 / FIELD],
                               [(left + right) / 2, (upper + lower) / 2], atol=2 / FIELD)


def test_what_is_found_is_counted(scenes, monkeypatch):
    """A model that looks for red finds every cell."""
    class Model:
        def __init__(self, *args, **options):
            self.bundle, self.encode_images = None, None

    class Place:
        def __init__(self, picture):
            red = np.asarray(picture)[..., 0] > 128
            rows, columns = np.nonzero(red)
            size = np.array(red.shape)
            self.peak = (np.array([columns.mean(), rows.mean()]) / size[::-1] if len(rows)
                         else np.zeros(2))
            self.false_alarm = 0.001 if len(rows) else 0.5

    class Seen:
        def __init__(self, picture):
            self.places = [Place(picture)]

    monkeypatch.setattr(places, 'open_bundle', lambda path: None)
    monkeypatch.setattr(places, 'Encoder', Model)
    monkeypatch.setattr(places.Asked, 'of', lambda query, encoder: None)
    monkeypatch.setattr(places, 'look', lambda picture, *_: (Seen(picture), None))
    monkeypatch.setattr(places.Scenes, 'read', lambda paths, rng: scenes)
    rows = places.places('model', [], count=3)
    assert [row[:2] for row in rows] == [[name, way] for name in (
        '3 x 3', '5 x 5', '1/10 among stars') for way in ('windows', 'tiles')]
    assert [row[2:] for row in rows] == [[1.0, 1.0, 0.0]] * 6
