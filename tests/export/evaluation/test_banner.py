"""The banner is over tables in which nothing is found, and the benchmark counts when it is not."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from astroclip_search.models.background import Background, normalise
from export.__main__ import main
from export.evaluation import banner as module
from export.evaluation.banner import banner, right

PHRASE = np.eye(1, 16, dtype=np.float32)[0]


class Model:
    """Images are random vectors; those that show it are moved to the phrase by some amount."""

    def __init__(self, moved):
        self._moved, self._rng = moved, np.random.default_rng(1)
        vectors = normalise(self._rng.normal(size=(600, 16)))
        self.bundle = SimpleNamespace(
            background=Background(vectors, vectors[:50], source=np.arange(600) // 300),
            ranking_weights=(1.0, 1.0), words_above=None, prompt_templates=['{}'])
        self.encoder = self

    def images(self, images):
        vectors = self._rng.normal(size=(len(images), 16))
        vectors[::2] += self._moved * PHRASE
        return normalise(vectors)

    def encode_text(self, texts):
        return np.repeat(PHRASE[None], len(texts), axis=0)

    encode_metadata = encode_text


@pytest.fixture
def measured(monkeypatch):
    """The banner over tables of 400 images, every other one of which shows it."""
    def measure(moved):
        model = Model(moved)
        pairs = [SimpleNamespace(source='apod', file=None, obs_title='', title='',
                                 labels=['it' if i % 2 == 0 else 'else']) for i in range(400)]
        monkeypatch.setattr(module, 'Model', lambda path: model)
        monkeypatch.setattr(module, 'split_folder', lambda data: (pairs, np.ones(400, bool)))
        monkeypatch.setattr(module.real_pairs, 'load_pixels', lambda file: None)
        monkeypatch.setattr(module, 'queries', lambda: (
            {'apod': {'it': ['it', 'one'], 'else': ['other', 'two']}}, {'it': {'one'}}))
        return banner('model', 'real', tables=40)
    return measure


def test_finds_that_are_far_above_have_no_banner(measured):
    rows = {tuple(row[:3]): row[3:] for row in measured(12.0)}
    assert set(rows) == {(by, archive, source) for by in ('image', 'both')
                         for archive in ('known', 'left out') for source in ('apod', 'all')}
    n_tables, without, among = rows['image', 'known', 'all']
    assert n_tables == 40
    assert without >= 0.7
    assert among >= 0.9


def test_finds_that_look_like_all_others_have_one(measured):
    rows = {tuple(row[:3]): row[3:] for row in measured(0.0)}
    assert rows['image', 'known', 'all'][2] <= 0.4


def test_right():
    assert right(0.5, 0.01) == (True, True)
    assert right(0.01, 0.5) == (False, False)


def test_the_command_writes_what_it_found(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(module, 'banner',
                        lambda *args, **options: [['image', 'known', 'all', 2, 1, 0]])
    out = tmp_path / 'banner.json'
    assert main(['banner', 'model', '--real', 'folder', '--out', str(out)]) == 0
    assert json.loads(out.read_text('utf-8')) == [['image', 'known', 'all', 2, 1, 0]]
    assert 'image' in capsys.readouterr().out
