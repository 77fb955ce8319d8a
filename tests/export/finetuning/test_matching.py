"""Scores of vectors that are known."""

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch

from export.finetuning.matching import match


def test_scores_of_known_vectors():
    # Twenty proposals of five pictures; vectors say the proposal, and nothing else.
    groups = np.arange(100) // 5
    perfect = torch.eye(20)[torch.from_numpy(groups)]
    numbers = match(perfect, perfect, groups, scale=20.0)
    assert numbers['top10'] == numbers['top10_captions'] == 1
    assert numbers['loss'] < 1e-6  # other pictures of the proposal are not wrong
    blind = torch.ones(100, 4) / 2
    numbers = match(blind, blind, groups, scale=20.0)
    assert numbers['top10'] == numbers['top10_captions'] == 0  # ties are in the worst order
    assert numbers['loss'] == pytest.approx(np.log(96))
