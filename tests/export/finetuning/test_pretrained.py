"""Models are kept in the form of open_clip, and pickles are not opened."""

import json

import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import open_clip
import torch

from export.finetuning import pretrained
from export.finetuning.captioned import Pairs, whole
from export.finetuning.finetune import prepare
from export.finetuning.matching import normalise
from tests.export.finetuning.squares import assert_same, small


def test_models_are_kept_in_the_form_of_open_clip(data, tmp_path):
    clip = prepare(small())
    pretrained.save(clip, tmp_path / 'a')
    assert {file.name for file in (tmp_path / 'a').iterdir()} == {
        'open_clip_config.json', 'open_clip_model.safetensors'}
    config = json.loads((tmp_path / 'a' / 'open_clip_config.json').read_text())
    assert config['preprocess_cfg']['resize_mode'] == 'squash'  # the whole picture
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'a'}")
    assert_same(model.state_dict(), clip.model.state_dict())
    picture = Pairs(data / 'train').picture(0)
    mine = normalise(whole(picture, clip.preprocessing), clip.preprocessing, torch.device('cpu'))
    torch.testing.assert_close(preprocess(picture), mine, atol=1e-5, rtol=0)
    assert_same(pretrained.load(tmp_path / 'a').model.state_dict(), clip.model.state_dict())
    torch.manual_seed(8)
    other = pretrained.load(tmp_path / 'a', weights=False).model.state_dict()
    assert not torch.equal(other['visual.proj'], clip.model.visual.proj)


def test_the_files_of_a_tokenizer_go_along(tmp_path):
    pretrained.save(prepare(small()), tmp_path / 'a')
    (tmp_path / 'a' / 'tokenizer.json').write_text('{}')
    pretrained.save(pretrained.load(tmp_path / 'a'), tmp_path / 'b')
    assert (tmp_path / 'b' / 'tokenizer.json').read_text() == '{}'


def test_pickles_are_not_opened(tmp_path):
    pretrained.save(prepare(small()), tmp_path)
    (tmp_path / 'open_clip_model.safetensors').rename(tmp_path / 'open_clip_pytorch_model.bin')
    with pytest.raises(ValueError, match='safetensors only'):
        pretrained.load(tmp_path)


def test_what_is_no_model_is_said(tmp_path):
    with pytest.raises(ValueError, match=r'open_clip_config\.json'):
        pretrained.load(tmp_path)


def test_interpolation():
    base = {'w': torch.tensor([1.0, 2.0]), 'n': torch.tensor(3)}
    tuned = {'w': torch.tensor([3.0, 0.0]), 'n': torch.tensor(5)}
    found = pretrained.interpolate(base, tuned, 0.25)
    assert found['w'].tolist() == [1.5, 1.5]
    assert found['n'] == 5
    with pytest.raises(ValueError, match='two architectures'):
        pretrained.interpolate(base, {'w': torch.zeros(3), 'n': tuned['n']}, 0.5)
