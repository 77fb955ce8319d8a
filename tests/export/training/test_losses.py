"""The loss: who finds whom."""

import types

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch
from torch.nn import functional

from export.training.losses import Losses, soft_targets
from export.training.text import TextMap

SETTINGS = {'scale_max': 80.0, 'same_kind': 0.2, 'class_weight': 0.5, 'label_weight': 1.0,
            'by_label': 0.5, 'identity_weight': 0.01, 'memory': 10}


def some(picture, caption, kind):
    return {'picture': torch.tensor(picture), 'caption': torch.tensor(caption),
            'kind': torch.tensor(kind)}


def test_equal_captions_pictures_and_kinds_are_related():
    batch = some([0, 1, 2, 3], [1, 2, 1, 3], [0, 0, 1, -1])
    expected = [[1, 0.2, 1, 0], [0.2, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    expected = functional.normalize(torch.tensor(expected), p=1, dim=1)
    torch.testing.assert_close(soft_targets(batch, batch, 0.2), expected)


def test_two_views_of_one_picture_are_positives_of_each_other():
    batch = some([5, 5, 6], [1, 2, 3], [-1, -1, -1])
    torch.testing.assert_close(soft_targets(batch, batch, 0.2),
                               torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]))


@pytest.fixture
def made():
    """Twelve pictures of two sources and two scenes, with two labels a source."""
    rng = np.random.default_rng(0)
    sources = np.array([0] * 6 + [1] * 6 + [-1] * 2)
    label_sources = np.array([0, 0, 1, 1])
    carried = (sources[:, None] == label_sources) & (np.arange(14)[:, None] % 2 == [0, 1, 0, 1])
    material = types.SimpleNamespace(
        vectors=rng.normal(size=(40, 384)).astype(np.float16) / 20, carried=carried,
        sources=sources, label_sources=label_sources)
    torch.manual_seed(0)
    towers = types.SimpleNamespace(text=TextMap(384, 8), log_scale=torch.tensor(2.0))
    batch = {**some(range(14), range(14), [0, 1] * 6 + [-1, 2]),
             'classes': torch.arange(20, 25), 'asked': torch.arange(30, 34)}
    images = functional.normalize(torch.randn(14, 384), dim=-1)

    def loss(images, **changed):
        return Losses(material, {**SETTINGS, **changed}, torch.device('cpu'))(towers, images, batch)

    return types.SimpleNamespace(material=material, towers=towers, batch=batch, images=images,
                                 loss=loss)


def test_labels_are_asked_for_within_their_source_only(made):
    images = made.images.clone().requires_grad_()
    # The labels of the second source are all that is left.
    made.material.carried[:6] = False
    (made.loss(images) - made.loss(images, label_weight=0.0)).backward()
    moved = images.grad.abs().sum(1)
    assert (moved[6:12] > 0).all()
    assert (moved[:6] < 1e-6).all()
    assert (moved[12:] < 1e-6).all()


def test_pictures_without_labels_or_kinds_have_a_loss(made):
    made.material.carried[:] = False
    assert torch.isfinite(made.loss(made.images))
    made.batch['kind'][:] = -1
    assert torch.isfinite(made.loss(made.images))
    made.batch['asked'] = torch.zeros(0, dtype=torch.int64)
    assert torch.isfinite(made.loss(made.images))


def test_earlier_pictures_are_remembered_as_negatives(made):
    losses = Losses(made.material, SETTINGS, torch.device('cpu'))
    first = losses(made.towers, made.images.clone().requires_grad_(), made.batch)
    assert {name: len(value) for name, value in losses.remembered.items()} == dict.fromkeys(
        ('image', 'picture', 'caption', 'kind'), 10)
    assert not losses.remembered['image'].requires_grad
    assert torch.equal(losses.remembered['image'], made.images[:10])
    assert losses(made.towers, made.images, made.batch) != first
    assert len(losses.remembered['image']) == 10
    forgetful = Losses(made.material, {**SETTINGS, 'memory': 0}, torch.device('cpu'))
    forgetful(made.towers, made.images, made.batch)
    assert forgetful.remembered == {}
