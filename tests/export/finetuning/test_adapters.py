"""Low-rank changes begin at nothing and can be merged."""

import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch

from export.finetuning.adapters import add_low_rank, merge_low_rank
from export.finetuning.finetune import prepare
from tests.export.finetuning.squares import batch_of, small


def test_low_rank_changes_begin_at_nothing_and_are_merged(data):
    clip = prepare(small())
    before = {name: value.clone() for name, value in clip.model.state_dict().items()}
    pixels, tokens, _ = batch_of(clip, data)
    with torch.no_grad():
        plain = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
    assert add_low_rank(clip.model, rank=2, alpha=4) == 8  # four matrices in each block
    learned = [name for name, p in clip.model.named_parameters() if p.requires_grad]
    assert 'logit_scale' in learned
    assert sum('up' in name for name in learned) == 8
    assert len(learned) == 17
    with torch.no_grad():
        same = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
        for name, p in clip.model.named_parameters():
            if name.endswith('up'):
                p.add_(torch.ones_like(p))
        other = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
    torch.testing.assert_close(plain, same)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(plain, other, strict=True))
    merge_low_rank(clip.model)
    assert clip.model.state_dict().keys() == before.keys()
    assert torch.equal(clip.model.token_embedding.weight, before['token_embedding.weight'])
    with torch.no_grad():
        merged = clip.model.encode_image(pixels), clip.model.encode_text(tokens)
    torch.testing.assert_close(other, merged)


def test_low_rank_needs_matrices():
    with pytest.raises(ValueError, match='no matrix'):
        add_low_rank(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)), rank=1, alpha=1)
