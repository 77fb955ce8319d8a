"""Training: batches, targets, checkpoints; a network of a few thousand parameters."""

import json
import multiprocessing
import os

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch

from export.__main__ import main as run_step
from export.sky import KINDS, write_shard
from export.training.attributes import Vocabulary
from export.training.batches import Batches, SkyShards, augment
from export.training.text import CaptionBank
from export.training.train import Towers, loss, soft_targets, train
from export.training.vision import load_checkpoint, normalise

VOCABULARY = Vocabulary(['.mosaic=False', '.mosaic=True', 'spiral.n_arms=2', 'spiral.n_arms=3'])


def test_captions_are_embedded_once(encoder):
    bank = CaptionBank(encoder)
    first = bank.add(['spiral galaxy', 'comet', 'spiral galaxy'])
    assert first[0] == first[2] != first[1]
    assert len(bank) == 2
    np.testing.assert_array_equal(bank.add(['comet']), first[1:2])
    exact = encoder.encode(['spiral galaxy', 'comet'])
    assert (bank.vectors(first[:2]) * exact).sum(1) == pytest.approx(1, abs=1e-3)


def test_sentence_encoder_knows_synonyms(encoder):
    spiral, disk, comet = encoder.encode(['spiral galaxy', 'a disk galaxy with arms', 'comet'])
    assert spiral @ disk > spiral @ comet
    assert np.linalg.norm(spiral) == pytest.approx(1, abs=1e-5)


def test_growing_folders_are_read_and_the_last_preferred(tmp_path, encoder):
    old, new = tmp_path / 'old', tmp_path / 'new'
    new.mkdir()
    write_shard(old, 0, 4, size=32)
    sky = SkyShards([old, new], CaptionBank(encoder), Vocabulary(['.mosaic=True']))
    assert sky.rescan() == 1
    assert sky.rescan() == 0
    write_shard(new, 100, 4, size=40)
    assert sky.rescan() == 1
    assert len(sky) == 8
    images, kinds, texts, tokens = sky.draw(400, np.random.default_rng(0))
    assert np.mean([len(image) == 40 for image in images]) == pytest.approx(0.75, abs=0.08)
    assert set(kinds) <= {seed % len(KINDS) for seed in (0, 1, 2, 3, 100, 101, 102, 103)}
    assert texts.shape == (400,)
    assert {tuple(found) for found in tokens} <= {(), (0,)}


def test_memory_is_bounded(tmp_path, encoder):
    for first in (0, 10, 20):
        write_shard(tmp_path, first, 4, size=32)
    sky = SkyShards([tmp_path], CaptionBank(encoder), Vocabulary([]), limit=8)
    assert sky.rescan(shards=5) == 3
    assert len(sky) == 8


def test_views_are_reproducible_and_keep_their_shape():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    views = [augment(pixels, 24, np.random.default_rng(seed), strength=2) for seed in range(40)]
    assert all(view.shape == (24, 24, 3) and view.dtype == np.uint8 for view in views)
    again = augment(pixels, 24, np.random.default_rng(5), strength=2)
    np.testing.assert_array_equal(views[5], again)
    assert len({view.tobytes() for view in views}) == 40


def test_soft_targets():
    caption, kind = torch.tensor([1, 2, 1, 3]), torch.tensor([0, 0, 1, -1])
    expected = [[1, 0.2, 1, 0], [0.2, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(soft_targets(caption, kind, 0.2), torch.tensor(expected))


def test_batches_mix_synthetic_and_real(config, encoder):
    stream = iter(Batches(config, multiprocessing.Value('i', 32), VOCABULARY, encoder=encoder))
    batch = next(stream)
    assert batch['pixels'].shape == (16, 32, 32, 3)
    assert batch['texts'].shape == (16, 384)
    assert batch['classes'].shape == (len(KINDS), 384)
    assert (batch['attributes'][-5:] == -1).all()
    assert (batch['attributes'][:11, 0] >= 0).all()
    assert (batch['kind'] == -1).sum() == 5  # three in ten are real, of no kind that is known
    assert not torch.equal(batch['pixels'], next(stream)['pixels'])


def test_missing_shards_are_said(config, encoder, tmp_path):
    config = {**config, 'data': {**config['data'], 'sky': [str(tmp_path)]}}
    with pytest.raises(FileNotFoundError, match='no shard of the synthetic sky'):
        next(iter(Batches(config, multiprocessing.Value('i', 32), VOCABULARY, encoder=encoder)))


def test_the_loss_can_be_learned(config, encoder):
    torch.manual_seed(0)
    settings = {**config['train'], 'scale_init': 10.0}
    towers = Towers(config['model'], settings, VOCABULARY)
    batch = next(iter(Batches(config, multiprocessing.Value('i', 32), VOCABULARY, encoder=encoder)))
    optimizer = torch.optim.AdamW(towers.parameters(), 1e-2)
    values = []
    for _ in range(12):
        value = loss(towers, batch, settings)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] - 0.5


def test_a_run_leaves_a_checkpoint_and_a_log(checkpoint):
    log = (checkpoint.parent / 'log.jsonl').read_text(encoding='utf-8')
    rows = [json.loads(line) for line in log.splitlines()]
    assert rows[-1]['step'] == 3
    assert np.isfinite(rows[-1]['loss'])
    assert {'top1', 'top5', 'test'} == set(rows[-1]['validation'])
    tower, text_map, info = load_checkpoint(checkpoint)
    assert text_map.matrix.shape == (384, 384)
    assert 'spiral.n_arms=2' in info['attributes']
    assert info['progress']['samples'] == 48
    assert info['kinds'] == list(KINDS)
    vectors = tower.encode(np.zeros((2, 32, 32, 3), np.uint8))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert not list(checkpoint.parent.glob('*.part'))


def test_a_run_is_resumed(config, checkpoint, encoder, tmp_path):
    (tmp_path / 'checkpoint.pt').write_bytes(checkpoint.read_bytes())
    config = {**config, 'train': {**config['train'], 'steps': 4}}
    train(config, tmp_path, resume=True, encoder=encoder)
    _, _, info = load_checkpoint(tmp_path / 'checkpoint.pt')
    assert info['progress']['step'] == 4
    assert json.loads((tmp_path / 'log.jsonl').read_text())['step'] == 4


def test_normalise_is_the_preprocessing_of_the_bundle():
    squares = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    torch.testing.assert_close(normalise(squares).flatten(), torch.tensor([-1, -0.6, 1.0]))


def test_unknown_step(capsys):
    assert run_step(['bake']) == 2
    assert 'train' in capsys.readouterr().err


def test_offline():
    assert os.environ['HF_HUB_OFFLINE'] == '1'
