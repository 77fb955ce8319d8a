"""
A training run: schedule, average of the weights, checkpoints, log.

What is learned is said by groups of parameters, what is seen by a stream of batches, so
that maps on frozen features and the last stages of the network are trained alike. Statistics
of batch normalisation stay as they are: batches are small, and of two skies.
"""

import json
import math
import os
import time

import numpy as np
import torch
from timm.utils import ModelEmaV3

from export.sky import KINDS
from export.training.text import TextMap
from export.training.vision import PooledTower

__all__ = ['Towers', 'fit', 'is_done', 'write_checkpoint']

_log_row = '{:s} {:d}: {:6d} {:5.1%} loss {:.3f} scale {:.1f} {:.0f} img/s {}'.format


class Towers(torch.nn.Module):
    """
    Everything that is learned.

    Parameters
    ----------
    model, train : dict
        Sections of the configuration.
    """

    def __init__(self, model, train):
        super().__init__()
        self.image = PooledTower(model['network'], model['dim'], model['hidden'],
                                 model['components'], model['dropout'])
        self.text = TextMap(model['dim'], model['text_width'])
        self.log_scale = torch.nn.Parameter(torch.tensor(math.log(train['scale_init'])))

    def learn(self, first_block=None):
        """
        Choose what is learned.

        Parameters
        ----------
        first_block : int, optional
            First block of the network that is; without, none.
        """
        self.image.trunk.requires_grad_(False)
        if first_block is not None:
            trunk = self.image.trunk
            for module in (*trunk.blocks[first_block:], trunk.conv_head, trunk.bn2):
                module.requires_grad_(True)

    def train(self, mode=True):
        """
        Set the mode; statistics of batch normalisation are never changed.

        Parameters
        ----------
        mode : bool, optional
            Whether hidden units are left out.

        Returns
        -------
        towers : `Towers`
            This one.
        """
        super().train(mode)
        self.image.trunk.eval()
        return self


def fit(towers, batches, embed, losses, validation, path, *, stage, config, seed, about):
    """
    Train until the schedule ends, or go on where a run was interrupted.

    Parameters
    ----------
    towers : `Towers`
        Where to begin; changed in place.
    batches : callable
        Number of the first batch -> iterable of batches.
    embed : callable
        Towers, batch -> embeddings of its pictures, float32 (n, d).
    losses : `export.training.losses.Losses`
        Loss.
    validation : `export.training.validation.Validation`
        Scores of held-out pictures.
    path : `pathlib.Path`
        Checkpoint, replaced at once. ``log.jsonl`` is written beside it.
    stage : str
        Section of the configuration with the settings.
    config : dict
        Configuration.
    seed : int
        Seed of the run.
    about : dict
        What else the checkpoint says of its progress.
    """
    settings = {**config['train'], **config[stage]}
    device = towers.log_scale.device
    torch.manual_seed(seed)
    averaged = ModelEmaV3(towers, decay=settings['average_decay'], use_warmup=True)
    optimizer = _optimizer(towers, settings)
    step, seconds = 0, 0.0
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        progress = json.loads(state['info'])['progress']
        towers.load_state_dict(state['towers'])
        averaged.module.load_state_dict(state['averaged'])
        optimizer.load_state_dict(state['optimizer'])
        torch.set_rng_state(state['random'].cpu())
        losses.remembered = state['remembered']
        step, seconds = progress['step'], progress['seconds']
    towers.train()
    learned = [value for group in optimizer.param_groups for value in group['params']]
    begin, recent, reported = None, [], time.monotonic()
    for batch in batches(step):
        if begin is None:  # reading the first pictures is no training
            begin, reported, from_step = time.process_time() - seconds, time.monotonic(), step
        # Processor time: a machine that is busy with something else does not cut a run short.
        seconds = time.process_time() - begin
        done = (step / settings['steps'] if 'steps' in settings
                else seconds / 60 / settings['minutes'])
        report = time.monotonic() - reported > settings['validate_every'] or done >= 1
        if report:
            speed = (step - from_step) * settings['batch_size'] / (time.monotonic() - reported)
            averaged.module.eval()
            row = {'stage': stage, 'seed': seed, 'step': step, 'progress': min(done, 1.0),
                   'loss': float(np.mean(recent or [math.nan])), 'images_per_second': speed,
                   'scale': towers.log_scale.exp().item(),
                   'validation': validation.score(averaged.module)}
            _log(path.parent / 'log.jsonl', row)
            progress = {**about, 'step': step, 'seconds': seconds, 'done': done >= 1,
                        'samples': step * settings['batch_size'], 'validation': row['validation']}
            write_checkpoint(path, averaged.module, config, progress, {} if done >= 1 else {
                'towers': towers.state_dict(), 'optimizer': optimizer.state_dict(),
                'random': torch.get_rng_state(), 'remembered': losses.remembered})
            reported, recent, from_step = time.monotonic(), [], step
        if done >= 1:
            return
        for group in optimizer.param_groups:
            group['lr'] = group['initial_lr'] * _schedule(done, settings['warmup'])
        batch = {name: value.to(device) for name, value in batch.items()}
        value = losses(towers, embed(towers, batch), batch)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step += 1
        averaged.update(towers, step=step)
        recent.append(value.item())


def _optimizer(towers, settings):
    rate = settings['learning_rate']
    parts = [(towers.image.trunk.parameters(), settings.get('trunk_learning_rate', 0.0)),
             ((value for name, value in towers.image.named_parameters()
               if not name.startswith('trunk.')), rate)]
    groups = [{'params': [value for value in values if value.requires_grad], 'lr': rate}
              for values, rate in parts]
    groups = [{'params': [value for value in group['params'] if (value.ndim > 1) == matrices],
               'lr': group['lr'], 'weight_decay': settings['weight_decay'] * matrices}
              for group in groups for matrices in (True, False)]
    groups += [
        {'params': list(towers.text.parameters()), 'lr': settings['text_learning_rate'],
         'weight_decay': 0.0},
        {'params': [towers.log_scale], 'lr': settings['scale_learning_rate'], 'weight_decay': 0.0},
    ]
    groups = [{**group, 'initial_lr': group['lr']} for group in groups if group['params']]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _schedule(progress, warmup):
    """Return the learning-rate factor: linear warm-up, then half a cosine."""
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def _log(path, row):
    with open(path, 'a', encoding='utf-8') as lines:
        lines.write(json.dumps(row) + '\n')
    said = ' '.join(f'{key} {value:.3f}' for key, value in row['validation'].items())
    print(_log_row(row['stage'], row['seed'], row['step'], row['progress'], row['loss'],
                   row['scale'], row['images_per_second'], said), flush=True)


def write_checkpoint(path, averaged, config, progress, rest=None):
    """
    Write a checkpoint.

    Parameters
    ----------
    path : `pathlib.Path`
        File; it is replaced at once.
    averaged : `Towers`
        Averaged weights, which `export.training.vision.load_checkpoint` reads.
    config : dict
        Configuration.
    progress : dict
        How far the run is.
    rest : dict, optional
        What an unfinished run needs to go on.
    """
    info = {'config': config, 'kinds': list(KINDS), 'progress': progress}
    state = {'averaged': averaged.state_dict(), 'info': json.dumps(info), **(rest or {})}
    part = path.with_suffix('.part')
    torch.save(state, part)
    os.replace(part, path)


def is_done(path):
    """
    Say whether the run of a checkpoint has ended.

    Parameters
    ----------
    path : `pathlib.Path`
        File of `write_checkpoint`; it need not exist.

    Returns
    -------
    done : bool
        False as well where there is no file.
    """
    if not path.exists():
        return False
    state = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    return json.loads(state['info'])['progress']['done']
