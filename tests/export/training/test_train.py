"""Training: the run, its checkpoints, and what it may change."""

import copy
import json
import os
import types

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch

from export.__main__ import main as run_step
from export.sky import KINDS, write_shard
from export.training.batches import Batches, stream
from export.training.fitting import Towers, fit, is_done
from export.training.losses import Losses
from export.training.train import average, read_config, train
from export.training.validation import Validation, decisive
from export.training.vision import imagenet_weights, load_checkpoint, normalise

CPU = torch.device('cpu')


def settings_of(config, stage, **changed):
    return {**config['train'], **config[stage], **changed}


@pytest.fixture
def towers(config):
    torch.manual_seed(0)
    towers = Towers(config['model'], config['train'])
    imagenet_weights(towers.image.trunk)
    towers.learn(config['tune']['first_block'])
    return towers


def embed(towers, batch):
    return towers.image(normalise(batch['pixels']))


def test_the_loss_can_be_learned(config, material, towers):
    batch = next(iter(Batches(material, 12, real_fraction=0.5, seed=1, size=32)))
    losses = Losses(material, settings_of(config, 'tune', memory=0), CPU)
    before = copy.deepcopy(towers.state_dict())
    optimizer = torch.optim.AdamW([p for p in towers.parameters() if p.requires_grad], 2e-3)
    towers.train()
    values = []
    for _ in range(8):
        value = losses(towers, embed(towers, batch), batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] - 0.5
    moved = {name for name, value in towers.state_dict().items()
             if not torch.equal(value, before[name])}
    # The first blocks, and the statistics of batch normalisation in all, stay as they are.
    assert not any('running' in name or 'num_batches' in name for name in moved)
    assert {name.split('.')[3] for name in moved if 'trunk.blocks' in name} == {'5', '6'}
    assert {'image.trunk.conv_head.weight', 'image.linear.weight', 'text.matrix',
            'log_scale'} <= moved
    assert {'image.mean', 'image.std', 'image.components',
            'image.trunk.conv_stem.weight'}.isdisjoint(moved)


def test_a_run_raises_the_score_above_its_start(config, shards, words, tmp_path):
    held_out = tmp_path / 'val'
    write_shard(held_out, 5000, 56, size=48)
    config = copy.deepcopy(config)
    config['data'].update(real='', validation=[str(held_out)], validation_scenes=56)
    config['train'].update(seeds=[1])
    config['model'].update(components=40)
    config['frozen'].update(steps=60, batch_size=64)
    start = Validation(config, words).score(Towers(config['model'], config['train']).eval())
    path = train(config, tmp_path / 'run', encoder=words)
    _, _, info = load_checkpoint(path)
    assert start['top5'] < 0.2
    assert info['progress']['candidates']['frozen']['top5'] > 0.3
    assert decisive(info['progress']['validation']) == max(
        map(decisive, info['progress']['candidates'].values()))


def test_a_run_leaves_a_checkpoint_and_logs(checkpoint, config):
    rows = {name: json.loads((checkpoint.parent / name / 'log.jsonl').read_text())
            for name in ('frozen', 'seed-1', 'seed-2')}
    assert rows['frozen']['step'] == 4
    assert rows['seed-2']['step'] == 2
    assert rows['seed-2']['progress'] == 1
    assert np.isfinite(rows['seed-1']['loss'])
    assert {'top1', 'top5', 'test', 'AP'} == set(rows['frozen']['validation'])
    tower, text_map, info = load_checkpoint(checkpoint)
    assert text_map.matrix.shape == (384, 384)
    assert info['progress']['samples'] == 4 * 32 + 2 * 2 * 12
    assert info['progress']['scenes'] == 168
    assert {'frozen', 'seed-1', 'seed-2', 'average'} < set(info['progress']['candidates'])
    assert info['kinds'] == list(KINDS)
    vectors = tower.encode(np.zeros((2, 32, 32, 3), np.uint8))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert not list(checkpoint.parent.rglob('*.part'))


def test_a_run_of_other_settings_is_not_continued(checkpoint, config, words):
    other = copy.deepcopy(config)
    other['model']['hidden'] = 48
    with pytest.raises(ValueError, match='another configuration'):
        train(other, checkpoint.parent, encoder=words)
    with pytest.raises(ValueError, match=r'seeds of the configuration are \[1, 2\]'):
        train(config, checkpoint.parent, encoder=words, seeds=[3])


def test_an_interrupted_run_goes_on_with_the_same_numbers(config, material, towers, tmp_path):
    config = copy.deepcopy(config)
    config['tune'].update(steps=3, batch_size=6, validate_every=0)
    validation = types.SimpleNamespace(score=lambda towers: {'top1': 0.0})

    def run(path, stop=None):
        def batches(start):
            drawn = stream(material, config['tune'], real_fraction=0.5, seed=1, size=32)(start)
            for i, batch in enumerate(drawn, start):
                if i == stop:
                    raise KeyboardInterrupt
                yield batch

        losses = Losses(material, settings_of(config, 'tune'), CPU)
        fit(copy.deepcopy(towers), batches, embed, losses, validation, path,
            stage='tune', config=config, seed=1, about={'size': 32})
        return torch.load(path, weights_only=True)['averaged']

    (tmp_path / 'whole').mkdir()
    whole = run(tmp_path / 'whole' / 'checkpoint.pt')
    path = tmp_path / 'checkpoint.pt'
    with pytest.raises(KeyboardInterrupt):
        run(path, stop=2)
    assert not is_done(path)
    parts = run(path)
    assert is_done(path)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    rows = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows] == [0, 1, 1, 2, 3]


def test_runs_are_averaged():
    first = {'a': torch.tensor([1.0, 2.0]), 'count': torch.tensor(3)}
    second = {'a': torch.tensor([3.0, 6.0]), 'count': torch.tensor(5)}
    mean = average([first, second])
    torch.testing.assert_close(mean['a'], torch.tensor([2.0, 4.0]))
    assert mean['count'] == 3
    with pytest.raises(ValueError, match='no average'):
        average([first, {'a': torch.zeros(3), 'count': torch.tensor(1)}])
    with pytest.raises(ValueError, match='no average'):
        average([first, {'a': torch.zeros(2)}])


def test_the_average_of_one_run_is_the_run(towers):
    state = towers.state_dict()
    twice = average([state, state])
    assert all(torch.equal(value, twice[name]) for name, value in state.items())


def test_the_default_describes_the_bundled_model():
    config = read_config(None)
    assert config['version'].startswith('1.')
    assert len(config['train']['seeds']) == 2


def test_normalise_is_the_preprocessing_of_the_bundle():
    squares = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    torch.testing.assert_close(normalise(squares).flatten(), torch.tensor([-1, -0.6, 1.0]))


def test_unknown_step(capsys):
    assert run_step(['bake']) == 2
    assert 'train' in capsys.readouterr().err


def test_offline():
    assert os.environ['HF_HUB_OFFLINE'] == '1'
