"""
Contrastive training of the image tower and the text map.

Sentence embeddings of captions come ready from `export.training.batches`, so that a step
costs one pass of the image tower. Logits are those of `open_clip.loss.ClipLoss`;
targets are soft, because a batch holds several scenes of one kind and several
equal captions. A second cross-entropy classifies images of known kind against class
phrases, which is the zero-shot task itself; a third reads all attributes of a scene
from the features of its image.
"""

import argparse
import json
import math
import multiprocessing
import os
import time
import tomllib
from pathlib import Path

import numpy as np
import torch
from open_clip.loss import ClipLoss
from timm.utils import ModelEmaV3
from torch.nn import functional

from export.sky import KINDS
from export.training.attributes import AttributeHead, Vocabulary
from export.training.batches import Batches, first_shards
from export.training.text import SentenceEncoder, TextMap
from export.training.validation import Validation
from export.training.vision import ImageTower, normalise

__all__ = ['Towers', 'loss', 'main', 'read_config', 'soft_targets', 'train']

_log_row = '{:6d} {:5.1%} loss {:.3f} scale {:.1f} {:.0f} img/s {}'.format


class Towers(torch.nn.Module):
    """
    Everything that is learned.

    Parameters
    ----------
    model, train : dict
        Sections of the configuration.
    vocabulary : `export.training.attributes.Vocabulary`
        Attributes of scenes.
    """

    def __init__(self, model, train, vocabulary):
        super().__init__()
        self.image = ImageTower(model['network'], model['dim'])
        self.text = TextMap(model['dim'], model['text_width'])
        self.attributes = AttributeHead(self.image.trunk.get_classifier().in_features, vocabulary)
        self.log_scale = torch.nn.Parameter(torch.tensor(math.log(train['scale_init'])))


def soft_targets(caption, kind, same_kind):
    """
    Say which texts of a batch describe which images.

    Parameters
    ----------
    caption : `torch.Tensor` of int64, shape (n,)
        Equal for equal captions.
    kind : `torch.Tensor` of int64, shape (n,)
        Kind of scene, -1 if unknown.
    same_kind : float
        Weight of another scene of the same kind, against 1 for the own caption.

    Returns
    -------
    targets : `torch.Tensor` of float32, shape (n, n)
        Symmetric, not normalised.
    """
    equal = caption[:, None] == caption[None]
    related = (kind[:, None] == kind[None]) & (kind[:, None] >= 0)
    return torch.where(equal, 1.0, related * same_kind)


def loss(towers, batch, settings):
    """
    Compute the training loss of one batch.

    Parameters
    ----------
    towers : `Towers`
        Model.
    batch : dict
        From `export.training.batches.Batches`.
    settings : dict
        Section ``train`` of the configuration.

    Returns
    -------
    value : `torch.Tensor`
        Scalar.
    """
    scale = towers.log_scale.exp().clamp(max=settings['scale_max'])
    pixels = normalise(batch['pixels']).contiguous(memory_format=torch.channels_last)
    count = len(pixels)
    features = towers.image.features(pixels)
    images = towers.image.embed(features)
    texts = towers.text(torch.cat([batch['texts'], batch['classes']]))
    per_image, per_text = ClipLoss().get_logits(images, texts[:count], scale)
    targets = soft_targets(batch['caption'], batch['kind'], settings['same_kind'])
    targets = targets / targets.sum(1, keepdim=True)
    value = (functional.cross_entropy(per_image, targets)
             + functional.cross_entropy(per_text, targets)) / 2
    known = batch['kind'] >= 0
    if known.any():
        logits = scale * images[known] @ texts[count:].T
        value = value + settings['class_weight'] * functional.cross_entropy(
            logits, batch['kind'][known], label_smoothing=0.05
        )
    value = value + settings['attribute_weight'] * towers.attributes(features, batch['attributes'])
    matrix = towers.text.matrix
    return value + settings['identity_weight'] * (matrix - torch.eye(*matrix.shape)).square().sum()


def train(config, folder, *, resume=False, encoder=None):
    """
    Train and keep the last checkpoint.

    Parameters
    ----------
    config : dict
        Configuration, see ``configs/default.toml``.
    folder : path-like
        Output: ``checkpoint.pt`` (replaced atomically) and ``log.jsonl``.
    resume : bool, optional
        Continue from the checkpoint in ``folder``.
    encoder : `export.training.text.SentenceEncoder`, optional
        By default MiniLM. With one given, batches are made in this process.

    Returns
    -------
    checkpoint : `pathlib.Path`
        The file written last.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / 'checkpoint.pt'
    settings = config['train']
    torch.manual_seed(settings['seed'])
    torch.set_num_threads(settings['threads'])
    state = torch.load(checkpoint, map_location='cpu', weights_only=True) if resume else None
    vocabulary = (Vocabulary(json.loads(state['info'])['attributes']) if resume
                  else Vocabulary.of(*first_shards(config['data']['sky'])))
    towers = Towers(config['model'], settings, vocabulary)
    towers.image.to(memory_format=torch.channels_last)
    averaged = ModelEmaV3(towers, decay=settings['average_decay'], use_warmup=True)
    optimizer = _optimizer(towers, settings)
    step, elapsed = 0, 0.0
    if resume:
        towers.load_state_dict(state['towers'])
        averaged.module.load_state_dict(state['averaged'])
        optimizer.load_state_dict(state['optimizer'])
        progress = json.loads(state['info'])['progress']
        step, elapsed = progress['step'], progress['seconds']

    validation = Validation(config, encoder or SentenceEncoder())
    size = multiprocessing.Value('i', _view_size(settings, elapsed / 60 / settings['minutes']))
    stream = torch.utils.data.DataLoader(
        Batches(config, size, vocabulary, start=step, encoder=encoder), batch_size=None,
        num_workers=0 if encoder else 1, prefetch_factor=None if encoder else 6,
    )
    begin, recent, samples_from, scenes = None, [], step, 0
    for batch in stream:
        if begin is None:  # reading the first images and captions is no training
            begin, last = time.process_time() - elapsed, time.monotonic()
        # Processor time: a machine that is busy with something else does not cut a run short.
        progress = (time.process_time() - begin) / 60 / settings['minutes']
        if progress >= 1 or step >= settings.get('steps', math.inf):
            break
        size.value = _view_size(settings, progress)
        for group in optimizer.param_groups:
            group['lr'] = group['initial_lr'] * _schedule(progress, settings['warmup'])
        value = loss(towers, batch, settings)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimizer.step()
        step += 1
        averaged.update(towers, step=step)
        recent.append(value.item())
        scenes = batch['scenes']
        if time.monotonic() - last > settings['validate_every']:
            speed = (step - samples_from) * settings['batch_size'] / (time.monotonic() - last)
            _report(folder, towers, averaged, validation, step, progress, recent, speed, scenes,
                    batch['pixels'].shape[1])
            _save(checkpoint, towers, averaged, optimizer, config, vocabulary, step,
                  time.process_time() - begin, batch['pixels'].shape[1], scenes)
            last, recent, samples_from = time.monotonic(), [], step
    side = _view_size(settings, 1.0)
    speed = (step - samples_from) * settings['batch_size'] / max(time.monotonic() - last, 1e-9)
    _report(folder, towers, averaged, validation, step, 1.0, recent, speed, scenes, side)
    _save(checkpoint, towers, averaged, optimizer, config, vocabulary, step,
          time.process_time() - begin, side, scenes)
    return checkpoint


def _optimizer(towers, settings):
    learned = [*towers.image.parameters(), *towers.attributes.parameters()]
    matrices = [p for p in learned if p.ndim > 1]
    vectors = [p for p in learned if p.ndim <= 1]
    rate, decay = settings['learning_rate'], settings['weight_decay']
    groups = [
        {'params': matrices, 'lr': rate, 'weight_decay': decay},
        {'params': vectors, 'lr': rate, 'weight_decay': 0.0},
        {'params': list(towers.text.parameters()), 'lr': settings['text_learning_rate'],
         'weight_decay': 0.0},
        {'params': [towers.log_scale], 'lr': settings['scale_learning_rate'], 'weight_decay': 0.0},
    ]
    for group in groups:
        group['initial_lr'] = group['lr']
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def _schedule(progress, warmup):
    """Return the learning-rate factor: linear warm-up, then half a cosine."""
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def _view_size(settings, progress):
    return [side for start, side in settings['sizes'] if progress >= start][-1]


def _report(folder, towers, averaged, validation, step, progress, recent, speed, scenes, side):
    averaged.module.eval()
    numbers = validation.score(averaged.module, side)
    towers.train()
    row = {'step': step, 'progress': progress, 'loss': float(np.mean(recent or [math.nan])),
           'scale': towers.log_scale.exp().item(), 'images_per_second': speed,
           'scenes': int(scenes), 'size': side, 'validation': numbers}
    with open(folder / 'log.jsonl', 'a', encoding='utf-8') as lines:
        lines.write(json.dumps(row) + '\n')
    print(_log_row(step, progress, row['loss'], row['scale'], speed,
                   ' '.join(f'{key} {value:.3f}' for key, value in numbers.items())), flush=True)


def _save(path, towers, averaged, optimizer, config, vocabulary, step, seconds, side, scenes):
    info = {'config': config, 'kinds': list(KINDS), 'attributes': vocabulary.tokens,
            'progress': {'step': step, 'seconds': seconds, 'size': side, 'scenes': int(scenes),
                         'samples': step * config['train']['batch_size']}}
    state = {'towers': towers.state_dict(), 'averaged': averaged.module.state_dict(),
             'optimizer': optimizer.state_dict(), 'info': json.dumps(info)}
    part = path.with_suffix('.part')
    torch.save(state, part)
    os.replace(part, path)


def read_config(path, **folders):
    """
    Read a configuration and fill in folders given on the command line.

    Parameters
    ----------
    path : path-like or None
        TOML file; by default ``configs/default.toml``.
    **folders
        Entries of section ``data`` to replace where not None.

    Returns
    -------
    config : dict
        Configuration.
    """
    path = path or Path(__file__).parents[1] / 'configs' / 'default.toml'
    with open(path, 'rb') as file:
        config = tomllib.load(file)
    config['data'].setdefault('validation', [])
    config['data'].update({key: value for key, value in folders.items() if value is not None})
    return config


def main(arguments):
    """
    Run ``python -m export train``.

    Parameters
    ----------
    arguments : list of str
        Command line.
    """
    parser = argparse.ArgumentParser(prog='python -m export train',
                                     description='Train the image tower and the text map.')
    parser.add_argument('--config', help='TOML file (default: configs/default.toml)')
    parser.add_argument('--sky', nargs='+', help='folders of shards, the most realistic last')
    parser.add_argument('--validation', nargs='+', help='folders of held-out shards')
    parser.add_argument('--real', help='folder with manifest.jsonl')
    parser.add_argument('--leave-out', nargs='+', metavar='SOURCE',
                        help='sources of real images that are only validated on')
    parser.add_argument('--out', required=True, help='folder for checkpoint.pt and log.jsonl')
    parser.add_argument('--minutes', type=float, help='processor time of training')
    parser.add_argument('--resume', action='store_true')
    options = parser.parse_args(arguments)
    config = read_config(options.config, sky=options.sky, validation=options.validation,
                         real=options.real, leave_out=options.leave_out)
    if options.minutes:
        config['train']['minutes'] = options.minutes
    print(train(config, options.out, resume=options.resume))
