import dataclasses

import numpy as np
import pytest
import torch

from export.data.labels import LabelClasses
from export.sky import KINDS
from export.training.text import TextMap
from export.training.text_fit import Pictures, fit_text, framed

DIM = 384
PHRASES = ((('dim tails', 'fading jets'), ('plumes',)),
           (('bright ends', 'hotspots'), ('two lobes',)))


class Bank:
    """Sentence embeddings at random, the same for the same text."""

    def __init__(self):
        self._rows, self._made = {}, []

    def add(self, texts):
        for text in texts:
            if text not in self._rows:
                rng = np.random.default_rng(list(text.encode()))
                vector = rng.normal(size=DIM).astype(np.float32)
                self._rows[text] = len(self._made)
                self._made.append(vector / np.linalg.norm(vector))
        return np.array([self._rows[text] for text in texts], np.int64)

    def vectors(self, rows):
        return np.stack([self._made[row] for row in rows])


@pytest.fixture
def task():
    """Two labels whose images are two directions, with noise."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(2, DIM))
    images = centres[np.arange(24) % 2] + 0.5 * rng.normal(size=(2, 24, DIM))
    images = (images / np.linalg.norm(images, axis=-1, keepdims=True)).astype(np.float32)
    carried = np.arange(24)[:, None] % 2 == np.arange(2)
    pictures = Pictures(images, [[('dim tails', 1.0)] if one else [] for one in carried[:, 0]],
                        np.full(24, -1), np.full(24, 'radio'))
    classes = LabelClasses((('radio', 'one'), ('radio', 'two')), PHRASES, carried, ((0, 1),))
    return pictures, classes


def fit(task, **settings):
    pictures, classes = task
    torch.manual_seed(0)
    settings = {'steps': 25, 'batch_size': 8, 'rate': 5e-3, 'decay': 0.7, 'blend': 1.0, **settings}
    return fit_text(TextMap(DIM, 16), pictures, classes, Bank(), **settings)


def test_phrases_find_their_images(task):
    fitted, bank = fit(task), Bank()
    pictures, classes = task
    for groups, carried in zip(PHRASES, classes.carried.T, strict=True):
        texts = fitted.encode(bank.vectors(bank.add([text for group in groups for text in group])))
        scores = texts @ pictures.images[0].T
        assert (scores[:, carried].min(1) > scores[:, ~carried].max(1)).all()


def test_equal_seeds_give_equal_maps(task):
    one, same, other = (fit(task, steps=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.matrix, same.matrix)
    assert not torch.equal(one.matrix, other.matrix)


def test_the_beginning_is_not_changed(task):
    start = TextMap(DIM, 16)
    before = start.matrix.clone()
    fit_text(start, *task, Bank(), steps=2, batch_size=8)
    assert torch.equal(start.matrix, before)


def test_a_blend_is_between_the_beginning_and_what_was_fitted(task):
    start, whole, half = torch.eye(DIM), *(fit(task, steps=2, blend=x).matrix for x in (1.0, 0.5))
    torch.testing.assert_close(half, (start + whole) / 2)


def test_scenes_come_with_near_kinds(task):
    pictures, classes = task
    scenes = dataclasses.replace(
        pictures, captions=[[('a spiral', 1.0)]] * 24, sources=np.full(24, 'sky'),
        kinds=np.arange(24) % 2 + KINDS.index('spiral'))
    fitted = fit((pictures, classes), scenes=scenes, steps=2)
    assert torch.isfinite(fitted.matrix).all()


def test_frames():
    assert framed('comet') == framed('comet')
    texts = [framed(text) for text in ('comet', 'spiral galaxy', 'rings of Saturn')]
    assert len(set(texts)) == 3
    assert 'spiral galaxy' in texts[1]
