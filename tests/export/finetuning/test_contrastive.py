"""The loss is that of open_clip, but for words of the same proposal, however a batch is divided."""

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch
from open_clip.loss import ClipLoss, SigLipLoss

from export.finetuning.contrastive import Contrastive, backward
from export.finetuning.finetune import prepare
from tests.export.finetuning.squares import ARCHITECTURE, batch_of, small


@pytest.fixture
def vectors():
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.nn.functional.normalize(torch.randn(5, 8, generator=draw), dim=1)
                 for _ in range(2))


def test_without_repeated_words_losses_are_those_of_open_clip(vectors):
    groups, scale, bias = torch.arange(5), torch.tensor(7.0), torch.tensor(-2.0)
    torch.testing.assert_close(Contrastive('softmax')(*vectors, scale, None, groups),
                               ClipLoss()(*vectors, scale))
    torch.testing.assert_close(Contrastive('sigmoid')(*vectors, scale, bias, groups),
                               SigLipLoss()(*vectors, scale, bias))
    groups = torch.zeros(5, dtype=torch.int64)
    torch.testing.assert_close(
        Contrastive('softmax', masked=False)(*vectors, scale, None, groups),
        ClipLoss()(*vectors, scale))
    with pytest.raises(ValueError, match='choose softmax or sigmoid'):
        Contrastive('triplet')


def test_words_of_the_same_proposal_are_no_wrong_answers(vectors):
    groups, scale = torch.tensor([1, 2, 1, 3, 1]), 7.0
    images, texts = (part.double().numpy() for part in vectors)
    logits = scale * images @ texts.T
    related = np.equal.outer(groups.numpy(), groups.numpy()) & ~np.eye(5, dtype=bool)
    expected = np.mean([np.log(np.exp(side)[i, ~related[i]].sum()) - side[i, i]
                        for side in (logits, logits.T) for i in range(5)])
    found = Contrastive('softmax')(*vectors, torch.tensor(scale), None, groups)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    signs = np.where(np.eye(5, dtype=bool), 1, -1)
    expected = np.log1p(np.exp(-signs * (logits - 2)))[~related].sum() / 5
    found = Contrastive('sigmoid')(*vectors, torch.tensor(scale), torch.tensor(-2.0), groups)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('kind', ['softmax', 'sigmoid'])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(data, kind):
    found, summands = [], {}
    for size in (8, 3, 1):
        clip = prepare(small(model={'architecture': {**ARCHITECTURE, 'init_logit_bias': -1}}))
        if size == 1:
            for name, parameter in clip.model.named_parameters():
                parameter.register_hook(summands.setdefault(name, []).append)
        parts = list(zip(*(part.split(size) for part in batch_of(clip, data)), strict=True))
        value = backward(clip.model, parts, Contrastive(kind))
        gradients = {name: p.grad for name, p in clip.model.named_parameters()
                     if p.grad is not None}
        found.append({**gradients, 'loss': value})
    whole, *divided = found
    assert all(other.keys() == whole.keys() for other in divided)
    assert whole['visual.conv1.weight'].abs().max() > 0
    assert whole['logit_scale'] != 0
    # Each gradient is a sum over the tokens of all pairs, and processors differ in its order. The
    # rounding of a sum is relative to its summands, which may cancel, and that of n summands adds
    # up as at random, so the bound is eps sqrt(n) times their norm, and no number of one machine.
    n = 8 * ARCHITECTURE['text_cfg']['context_length']
    for name, gradient in whole.items():
        norm = torch.stack([one.norm() for one in summands.get(name, [gradient])]).norm()
        bound = torch.finfo(torch.float32).eps * n**0.5 * norm
        for other in divided:
            assert (other[name] - gradient).abs().max() <= bound, name
