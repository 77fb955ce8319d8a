"""Runs of fine-tuning: towers of a few weights learn the colours of squares."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import open_clip
import torch

from export.__main__ import main as run_step
from export.finetuning import finetune as module
from export.finetuning import pretrained
from export.finetuning.finetune import finetune, prepare
from export.finetuning.recipe import read_recipe
from tests.export.finetuning.squares import ARCHITECTURE, assert_same, small, weights

CONFIGS = ('paperclip_summaries', 'paperclip_abstracts', 'paperclip_head', 'paperclip_scratch',
           'paperclip_shuffled', 'paperclip_l14', 'paperclip_lr1e-6', 'paperclip_cosine',
           'galaxyclip')


@pytest.fixture(scope='module')
def learned(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('learned')
    recipe = small(steps=60, batch_size=32, log_every=20, validate_every=30, checkpoint_every=60)
    return folder, finetune(recipe, data, folder)


def test_a_run_learns_and_is_read_by_open_clip(learned, data):
    folder, numbers = learned
    rows = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows] == [0, 20, 30, 40, 60, 60, 60]
    assert rows[-2]['validation'].keys() == numbers.keys() == {'loss', 'top10', 'top10_captions'}
    assert rows[1]['learning_rate'] == pytest.approx(3e-3)
    assert rows[0]['validation']['top10'] < 0.3
    assert numbers['top10'] > 0.4
    assert numbers['top10_captions'] > 0.4
    about = json.loads((folder / 'finetune.json').read_text())
    assert about['pairs'] == {'train': 108, 'validation': 108}
    assert about['validation'] == numbers
    assert about['step'] in (30, 60)
    model = open_clip.create_model(f'local-dir:{folder}')
    assert_same(model.state_dict(), weights(folder))
    assert not list(folder.glob('*.part'))


def test_shuffled_pairs_stay_at_chance(data, tmp_path):
    recipe = small('paperclip_shuffled', steps=30, batch_size=32)
    numbers = finetune(recipe, data, tmp_path)
    assert numbers['top10'] < 0.2
    assert numbers['top10_captions'] < 0.25


@pytest.mark.parametrize('name', CONFIGS)
def test_every_configuration_runs(name, data, tmp_path):
    recipe = small(name, steps=2, validate_every=1)
    finetune(recipe, data, tmp_path)
    state = pretrained.load(tmp_path).model.state_dict()
    base = prepare(recipe).model.state_dict()
    changed = {key for key, value in base.items() if not torch.equal(value, state[key])}
    if name == 'paperclip_head':
        assert all('_head' in key or key.endswith('logit_scale') for key in changed)
        with pytest.raises((TypeError, ValueError), match='heads'):
            open_clip.create_model(f'local-dir:{tmp_path}')
    else:
        assert {'visual.conv1.weight', 'token_embedding.weight', 'logit_scale'} <= changed


@pytest.mark.parametrize(('model', 'train'), [
    ({'method': 'lora', 'rank': 2}, {'average_decay': 0.9, 'keep': 'last'}),
    ({'method': 'head'}, {'micro_batch': 4}),
    ({}, {'average_decay': 0.5, 'schedule': 'cosine', 'validate_every': 2}),
])
def test_a_killed_run_ends_with_the_same_weights(model, train, data, tmp_path, monkeypatch):
    recipe = small(model=model, **train)
    finetune(recipe, data, tmp_path / 'whole')
    advance = module._Run.advance

    def killed(run, *arguments):
        if run.step == 3:
            raise SystemExit
        return advance(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module._Run, 'advance', killed)
        with pytest.raises(SystemExit):
            finetune(recipe, data, tmp_path / 'killed')
    assert not (tmp_path / 'killed' / 'finetune.json').exists()
    finetune(recipe, data, tmp_path / 'killed', resume=True)
    assert_same(weights(tmp_path / 'whole'), weights(tmp_path / 'killed'), rtol=0, atol=0)
    steps = [[json.loads(line)['step'] for line in
              (tmp_path / name / 'log.jsonl').read_text().splitlines()]
             for name in ('whole', 'killed')]
    assert steps[0] == steps[1]


def test_a_signal_ends_the_step_first(data, tmp_path, monkeypatch, capsys):
    advance = module._Run.advance

    def told(run, *arguments):
        if run.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(run, *arguments)

    recipe = small(checkpoint_every=100)
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(module._Run, 'advance', told)
        patch.setattr(module, 'read_recipe', lambda *_, **__: recipe)
        arguments = ['finetune', '--config', 'x', '--data', str(data), '--out', str(tmp_path)]
        assert run_step(arguments) == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert '--resume' in capsys.readouterr().err
    state = torch.load(tmp_path / 'checkpoint.pt', weights_only=True)
    assert json.loads(state['info'])['step'] == 2


def test_resuming_is_of_the_same_run(data, learned, tmp_path):
    recipe = small(steps=1)
    finetune(recipe, data, tmp_path)
    with pytest.raises(FileExistsError, match='--resume'):
        finetune(recipe, data, tmp_path)
    with pytest.raises(ValueError, match='learning_rate, weight_decay'):
        finetune(small(steps=1, learning_rate=1e-4, weight_decay=0.5), data, tmp_path, resume=True)
    finetune(small(steps=2), data, tmp_path, resume=True)
    assert json.loads((tmp_path / 'finetune.json').read_text())['recipe']['train']['steps'] == 2


def test_half_the_way_from_the_base(data, tmp_path):
    base = prepare(small())
    pretrained.save(base, tmp_path / 'base')
    start = {'base': str(tmp_path / 'base'), 'architecture': {}}
    finetune(small(model=start, keep='last'), data, tmp_path / 'run')
    tuned = weights(tmp_path / 'run')
    finetune(small(model=start, keep='last', wise=0.5), data, tmp_path / 'run', resume=True)
    half, begin = weights(tmp_path / 'run'), base.model.state_dict()
    assert not torch.equal(tuned['visual.proj'], begin['visual.proj'])
    torch.testing.assert_close(half['visual.proj'],
                               (tuned['visual.proj'] + begin['visual.proj']) / 2)


def test_other_towers_and_losses(data, tmp_path):
    siglip = {
        'embed_dim': 64, 'init_logit_bias': -10, 'custom_text': True,
        'vision_cfg': {'image_size': 32, 'timm_model_name': 'test_vit', 'timm_pool': 'map',
                       'timm_proj': 'none'},
        'text_cfg': {**ARCHITECTURE['text_cfg'], 'no_causal_mask': True, 'proj_bias': True,
                     'pool_type': 'last'},
    }
    recipe = small(model={'architecture': siglip}, loss='sigmoid', precision='bf16',
                   checkpointing=True)
    numbers = finetune(recipe, data, tmp_path / 'siglip')
    assert np.isfinite(numbers['loss'])
    assert weights(tmp_path / 'siglip')['logit_bias'] != -10
    mobile = {
        'embed_dim': 16, 'custom_text': True, 'text_cfg': ARCHITECTURE['text_cfg'],
        'vision_cfg': {'image_size': 32, 'timm_model_name': 'test_byobnet', 'timm_pool': 'avg',
                       'timm_proj': None},
    }
    for method in ('full', 'lora', 'head'):
        recipe = small(model={'architecture': mobile, 'method': method}, steps=1)
        finetune(recipe, data, tmp_path / method)
        statistics = {key.removeprefix('model.'): value for key, value in
                      weights(tmp_path / method).items() if 'running_mean' in key}
        fresh = prepare(small(model={'architecture': mobile})).model.state_dict()
        frozen = all(torch.equal(value, fresh[key]) for key, value in statistics.items())
        assert frozen == (method != 'full')


def test_two_processes_do_what_one_does(data, tmp_path):
    recipe = tmp_path / 'small.toml'
    text = json.dumps  # strings and lists of TOML are those of JSON
    lines = ['extends = "paperclip_summaries"', '[model.architecture]', 'embed_dim = 16']
    for tower in ('vision_cfg', 'text_cfg'):
        lines += [f'[model.architecture.{tower}]']
        lines += [f'{key} = {text(value)}' for key, value in ARCHITECTURE[tower].items()]
    lines += ['[train]', 'steps = 3', 'batch_size = 12', 'warmup = 1', 'learning_rate = 1e-3',
              'keep = "last"', 'precision = "fp32"', 'workers = 1', 'log_every = 1']
    recipe.write_text('\n'.join(lines))
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node',
               '2', '-m', 'export', 'finetune', '--config', str(recipe), '--data', str(data),
               '--out', str(tmp_path / 'two'), '--micro-batch', '3']
    here = Path(module.__file__).parents[2]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(here)}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True,
                          timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    settings = read_recipe(recipe)
    settings['train']['workers'] = 0
    finetune(settings, data, tmp_path / 'one')
    logs = [[json.loads(line) for line in (tmp_path / name / 'log.jsonl').read_text().splitlines()]
            for name in ('one', 'two')]
    for key in ('loss', 'gradient'):
        numbers = [[row[key] for row in rows if key in row] for rows in logs]
        assert len(numbers[0]) == 3
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)
    one, two = (
        {name: value for name, value in weights(tmp_path / run).items()
         # Keys may have any bias: its gradient is nothing but rounding, which Adam scales up.
         if not name.endswith('in_proj_bias')} for run in ('one', 'two'))
    assert_same(one, two, rtol=1e-4, atol=2e-5)


def test_a_diverging_run_is_said(data, tmp_path, monkeypatch, capsys):
    recipe = small(learning_rate=1e30)
    monkeypatch.setattr(module, 'read_recipe', lambda *_, **__: recipe)
    assert run_step(['finetune', '--config', 'x', '--data', str(data), '--out',
                     str(tmp_path)]) == 1
    assert 'lower the learning rate' in capsys.readouterr().err


def test_tensorboard_where_it_is_installed(data, tmp_path, monkeypatch):
    written = {}

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            assert folder == tmp_path / 'tensorboard'
            assert purge_step == 1

        def add_scalar(self, name, number, step):
            written[name, step] = number

        def flush(self):
            pass

    fake = type(sys)('torch.utils.tensorboard')
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', fake)
    numbers = finetune(small(log_every=2), data, tmp_path)
    assert {step for name, step in written if name == 'loss'} == {2, 4}
    assert written['written/top10', 4] == numbers['top10']
