"""Attributes of scenes as classes of their own."""

import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch
from torch.nn import functional

from export.sky import KINDS
from export.training.attributes import AttributeHead, Vocabulary

SCENES = [(0, {'arms': 'loose', 'n_arms': 2, 'mosaic': True}),
          (0, {'arms': 'tight', 'n_arms': 3, 'mosaic': False}),
          (1, {'arms': 'loose', 'n_arms': 2, 'mosaic': False})]


@pytest.fixture
def vocabulary():
    return Vocabulary.of(*zip(*SCENES, strict=True))


def test_only_what_varies_is_learned(vocabulary):
    first = KINDS[0]
    assert vocabulary.tokens == sorted([
        '.mosaic=False', '.mosaic=True', f'{first}.arms=loose', f'{first}.arms=tight',
        f'{first}.n_arms=2', f'{first}.n_arms=3'])
    assert vocabulary.groups == [0, 0, 1, 1, 2, 2]
    assert Vocabulary(vocabulary.tokens).groups == vocabulary.groups
    named = [vocabulary.tokens[i] for i in vocabulary.encode(*SCENES[0])]
    assert named == [f'{first}.arms=loose', f'{first}.n_arms=2', '.mosaic=True']
    assert vocabulary.encode(0, {'arms': 'never seen', 'colour': 'red'}) == []


def test_cross_entropy_within_each_attribute(vocabulary):
    torch.manual_seed(1)
    head = AttributeHead(5, vocabulary)
    features = torch.randn(3, 5)
    tokens = torch.full((3, 4), -1)
    wanted = []
    logits = head.linear(features)
    for i, (kind, attributes) in enumerate(SCENES):
        found = vocabulary.encode(kind, attributes)
        tokens[i, :len(found)] = torch.tensor(found)
        for token in found:
            group = [j for j, number in enumerate(vocabulary.groups)
                     if number == vocabulary.groups[token]]
            wanted.append(functional.cross_entropy(logits[i, group],
                                                   torch.tensor(group.index(token))))
    assert len(wanted) == 7
    torch.testing.assert_close(head(features, tokens), torch.stack(wanted).mean())


def test_pictures_without_attributes_cost_nothing(vocabulary):
    value = AttributeHead(5, vocabulary)(torch.randn(3, 5), torch.full((3, 2), -1))
    assert value == 0
