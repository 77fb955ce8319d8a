"""Training pictures and batches of them."""

import itertools

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch

from export.sky import KINDS
from export.training.batches import Batches, read_material
from export.training.features import pooled_features, principal_components
from export.training.text import CaptionBank


def test_captions_are_embedded_once(encoder, tmp_path):
    bank = CaptionBank(encoder, tmp_path / 'sentences.npz')
    first = bank.add(['spiral galaxy', 'comet', 'spiral galaxy'])
    assert first[0] == first[2] != first[1]
    assert len(bank) == 2
    np.testing.assert_array_equal(bank.add(['comet']), first[1:2])
    exact = encoder.encode(['spiral galaxy', 'comet'])
    assert (bank.vectors(first[:2]) * exact).sum(1) == pytest.approx(1, abs=1e-3)
    bank.save()
    again = CaptionBank(None, tmp_path / 'sentences.npz')
    np.testing.assert_array_equal(again.vectors(again.add(['comet'])), bank.vectors(first[1:2]))


def test_sentence_encoder_knows_synonyms(encoder):
    spiral, disk, comet = encoder.encode(['spiral galaxy', 'a disk galaxy with arms', 'comet'])
    assert spiral @ disk > spiral @ comet
    assert np.linalg.norm(spiral) == pytest.approx(1, abs=1e-5)


def test_material_is_the_training_side_and_the_scenes(material, config):
    real = len(material.pairs)
    assert 10 < real < 30  # of forty, half are held out
    assert len(material) == real + 168
    assert (material.sources == [0] * real + [-1] * 168).all()
    assert set(material.kinds[real:]) == set(range(len(KINDS)))
    assert material.carried[:real].sum(1).min() == 1
    assert not material.carried[real:].any()
    assert len(material.label_phrases) == material.carried.shape[1] == 2
    assert material.pixels(0).shape == (48, 64, 3)
    assert material.pixels(real).shape == (48, 48, 3)


def test_batches_mix_synthetic_and_real(material):
    first, second = itertools.islice(Batches(material, 16, real_fraction=0.3, seed=1, size=32), 2)
    assert first['pixels'].shape == (16, 32, 32, 3)
    assert first['pixels'].dtype == torch.uint8
    assert (first['picture'] < len(material.pairs)).sum() == 5  # three in ten
    assert first['classes'].shape == (len(KINDS),)
    assert first['asked'].shape == (2,)
    assert not torch.equal(first['pixels'], second['pixels'])


def test_a_batch_depends_on_its_number_only(material):
    options = {'real_fraction': 0.5, 'seed': 1, 'size': 32, 'archive_share': 0.5}
    third = list(itertools.islice(Batches(material, 8, **options), 3))[2]
    again = next(iter(Batches(material, 8, start=2, **options)))
    assert all(torch.equal(third[name], again[name]) for name in third)
    other = next(iter(Batches(material, 8, start=2, **{**options, 'seed': 2})))
    assert not torch.equal(other['pixels'], again['pixels'])


def test_numbers_of_views_are_drawn_where_they_are_ready(material):
    batch = next(iter(Batches(material, 64, real_fraction=0.5, seed=1, views=3)))
    assert 'pixels' not in batch
    assert set(batch['view'][:32].tolist()) == {0, 1, 2}
    assert (batch['view'][32:] == 0).all()


def test_without_any_picture_that_is_said(config, words, tmp_path):
    data = {**config['data'], 'real': '', 'sky': [str(tmp_path)]}
    with pytest.raises(FileNotFoundError, match='no shard of the synthetic sky'):
        read_material(data, words, tmp_path)


class Counted:
    """Stands for the tower: its features are the means of the channels."""

    mean = torch.zeros(3)

    def __init__(self):
        self.calls = 0

    def maps(self, pixel_values):
        self.calls += 1
        return pixel_values

    def pool(self, maps):
        return maps.mean((2, 3))


def test_features_are_computed_once(material, tmp_path):
    tower, options = Counted(), {'size': 32, 'views': 2, 'archive_share': 0, 'seed': 1}
    first = pooled_features(tower, material, tmp_path, **options)
    assert first.shape == (len(material), 2, 3)
    assert not first[len(material.pairs):, 1].any()  # scenes have one view
    calls = tower.calls
    np.testing.assert_array_equal(pooled_features(tower, material, tmp_path, **options), first)
    assert tower.calls == calls
    sorted(tmp_path.glob('*.npy'))[0].unlink()
    np.testing.assert_array_equal(pooled_features(tower, material, tmp_path, **options), first)
    assert calls < tower.calls < 2 * calls


@pytest.mark.parametrize('count', [30, 200])
def test_components_are_those_of_the_largest_variance(count):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, 2, 50)) * np.exp(-np.arange(50) / 4) + rng.normal(
        size=(count, 2, 1))
    mean, std, components = principal_components(features, count, 5, limit=8.0)
    rows = (features.reshape(-1, 50) - mean) / std
    np.testing.assert_allclose(rows.std(0), 1, rtol=1e-3)
    np.testing.assert_allclose(components.T @ components, np.eye(5), atol=1e-4)
    _, _, wanted = np.linalg.svd(rows, full_matrices=False)
    np.testing.assert_allclose(np.abs((wanted[:5] * components.T).sum(1)), 1, atol=1e-2)
    with pytest.raises(ValueError, match='components lower'):
        principal_components(features, count, 1000, limit=8.0)
