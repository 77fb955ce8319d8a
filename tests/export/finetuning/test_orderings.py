"""The paper's order, and how it is judged."""

import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from export.finetuning import orderings
from export.finetuning.captioned import Pairs


def test_pictures_of_made_up_proposals_share_their_words(tmp_path):
    folder = orderings.write_proposals(tmp_path, ('comet', 'spectrum'), count=12, seed=0)
    pairs = Pairs(folder / 'validation')
    assert len(pairs) == 10
    assert len(set(pairs.groups)) == len(set(pairs.captions)) == 2
    assert not set(pairs.captions) & set(Pairs(folder / 'train').captions)


def test_verdicts():
    numbers = {'base': {'top10': 0.15}, **{name: {'top10': value}
                                           for name, value in orderings.PAPER.items()}}
    assert all(orderings.verdicts(numbers).values())
    numbers['paperclip_head']['top10'] = 0.8
    assert not orderings.verdicts(numbers)['fine-tuned > head only']
    numbers['paperclip_shuffled']['top10'] = 0.3
    assert not orderings.verdicts(numbers)['shuffled = chance']
