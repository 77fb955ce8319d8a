"""
Fine-tuning of CLIP models on pictures and captions, as in PAPERCLIP [1]_ and beyond.

A run is a function of its configuration: which pairs make a step, and how they are cut, follows
from the seed and the number of the step. It gives the same weights when it is interrupted and
resumed, and the same gradient when its batch is divided among processes (``torchrun``) or taken in
parts.

References
----------
.. [1] Mishra-Sharma, Song, Thaler 2024, https://arxiv.org/abs/2403.08851
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import open_clip
import torch
from open_clip_train.scheduler import const_lr, cosine_lr
from timm.utils import ModelEmaV3

from export.finetuning import pretrained
from export.finetuning.adapters import Headed, add_low_rank, merge_low_rank
from export.finetuning.captioned import Pairs, Views
from export.finetuning.contrastive import Contrastive, backward
from export.finetuning.matching import embed_pairs, match, normalise
from export.finetuning.processes import joined, mean, mean_gradients, place, stopping, undisturbed
from export.finetuning.recipe import check, read_recipe

__all__ = ['finetune', 'main', 'prepare', 'score']

_SCHEDULES = {'constant': const_lr, 'cosine': cosine_lr}

# CLIP's bound; beyond it training is unstable.
_MAX_LOG_SCALE = math.log(100)


def prepare(recipe):
    """
    Make the model of a run as it is before the first step.

    Parameters
    ----------
    recipe : dict
        From `export.finetuning.recipe.read_recipe`.

    Returns
    -------
    clip : `export.finetuning.pretrained.Clip`
        Its parameters require a gradient where they are learned.
    """
    settings = recipe['model']
    torch.manual_seed(recipe['train']['seed'])
    clip = pretrained.load(settings['architecture'] or settings['base'],
                           revision=settings['revision'] or None, weights=not settings['random'])
    if settings['method'] == 'lora':
        add_low_rank(clip.model, rank=settings['rank'], alpha=settings['alpha'])
    elif settings['method'] == 'head':
        heads = {'dim': clip.config['embed_dim'], 'width': settings['head_width']}
        clip.model = Headed(clip.model, **heads)
        clip.config = {**clip.config, 'heads': heads}
    return clip


def score(clip, pairs, *, kind='softmax', precision='fp32'):
    """
    Judge a model.

    Parameters
    ----------
    clip : `export.finetuning.pretrained.Clip`
        Model; it is in evaluation mode afterwards.
    pairs : `export.finetuning.captioned.Pairs`
        Held-out pairs.
    kind, precision : str, optional
        Keys ``loss`` and ``precision`` of a configuration.

    Returns
    -------
    numbers : dict
        See `export.finetuning.matching.match`.
    """
    images, texts = embed_pairs(clip, pairs, precision=precision)
    bias = clip.model.logit_bias
    return match(images, texts, pairs.groups, kind=kind,
                 scale=clip.model.logit_scale.detach().exp().cpu(),
                 bias=None if bias is None else bias.detach().cpu())


class _Run:
    """What changes from step to step, and the files it is kept in."""

    def __init__(self, recipe, folder, device):
        self.recipe, self.folder, self.device = recipe, Path(folder), device
        self.settings = settings = recipe['train']
        self.clip = prepare(recipe)
        self.model = self.clip.model.to(device)
        self.model.set_grad_checkpointing(settings['checkpointing'])
        self.learned = [p for p in self.model.parameters() if p.requires_grad]
        self.averaged = (ModelEmaV3(self.model, decay=settings['average_decay'], use_warmup=True)
                         if settings['average_decay'] else None)
        self.optimizer = torch.optim.AdamW(
            [{'params': [p for p in self.learned if p.ndim > 1],
              'weight_decay': settings['weight_decay']},
             {'params': [p for p in self.learned if p.ndim <= 1], 'weight_decay': 0.0}],
            settings['learning_rate'], betas=tuple(settings['betas']))
        self.schedule = _SCHEDULES[settings['schedule']](
            self.optimizer, settings['learning_rate'], settings['warmup'], settings['steps'])
        self.step, self.best, self.norm = 0, None, None

    @property
    def judged(self):
        """The model that is validated and kept."""
        model = self.averaged.module if self.averaged else self.model
        return pretrained.Clip(model, self.clip.tokenizer, self.clip.config)

    def load(self):
        state = torch.load(self.folder / 'checkpoint.pt', map_location=self.device,
                           weights_only=True)
        self.model.load_state_dict(state['model'])
        self.optimizer.load_state_dict(state['optimizer'])
        if self.averaged:
            self.averaged.module.load_state_dict(state['averaged'])
        info = json.loads(state['info'])
        self.step, self.best = info['step'], info['best']

    def save(self):
        info = {'recipe': self.recipe, 'step': self.step, 'best': self.best}
        state = {'model': self.model.state_dict(), 'optimizer': self.optimizer.state_dict(),
                 'averaged': self.averaged.module.state_dict() if self.averaged else {},
                 'info': json.dumps(info)}
        _write(self.folder / 'checkpoint.pt', state)

    def validate(self, pairs):
        numbers = score(self.judged, pairs, kind=self.settings['loss'],
                        precision=self.settings['precision'])
        # The base is no result of the run.
        if self.step and (self.best is None or numbers['loss'] < self.best['loss']):
            self.best = {'step': self.step, **numbers}
            if self.settings['keep'] == 'best':
                _write(self.folder / 'best.pt', self.judged.model.state_dict())
        return numbers

    def advance(self, batch, loss):
        """Make one step; return the loss of this process."""
        pixels, tokens, groups = (part.to(self.device, non_blocking=True) for part in batch)
        pixels = normalise(pixels, self.clip.preprocessing, self.device)
        size = self.settings['micro_batch'] or len(pixels)
        parts = list(zip(pixels.split(size), tokens.split(size), groups.split(size), strict=True))
        self.schedule(self.step)
        _learn(self.model)
        self.optimizer.zero_grad()
        value = backward(self.model, parts, loss, precision=self.settings['precision'],
                         seed=(self.settings['seed'] << 40) + (self.step << 16))
        mean_gradients(self.learned)
        self.norm = torch.nn.utils.clip_grad_norm_(self.learned, self.settings['max_norm'])
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=_MAX_LOG_SCALE)
        self.step += 1
        if self.averaged:
            self.averaged.update(self.model, step=self.step)
        return value


def _learn(model):
    """Put a model into training mode, but for statistics of batches in frozen parts."""
    model.train()
    for module in model.modules():
        if (isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
                and module.weight is not None and not module.weight.requires_grad):
            module.eval()


def _write(path, state):
    part = path.with_suffix('.part')
    torch.save(state, part)
    os.replace(part, path)


def finetune(recipe, data, folder, *, resume=False):
    """
    Train, and write the model in the form of open_clip.

    Parameters
    ----------
    recipe : dict
        From `export.finetuning.recipe.read_recipe`.
    data : path-like
        Folder with ``train/*.tar`` and ``validation/*.tar``, see
        `export.finetuning.captioned.Pairs`.
    folder : path-like
        Output: ``open_clip_config.json`` and ``open_clip_model.safetensors``, ``finetune.json``
        (what they are), ``log.jsonl``, and ``checkpoint.pt`` to resume from.
    resume : bool, optional
        Go on from the checkpoint in ``folder``, if there is one.

    Returns
    -------
    numbers : dict
        Validation of the model that was written.

    Raises
    ------
    ValueError
        If the configuration cannot be run, or the data cannot be read.
    FileExistsError
        If there is a checkpoint and it is not to be resumed.
    FloatingPointError
        If the loss is no longer finite.
    KeyboardInterrupt
        If the process was told to stop (SIGINT, SIGTERM). The step was ended and is kept.
    """
    folder = Path(folder)
    rank, processes = place()
    saved = folder / 'checkpoint.pt'
    if saved.exists() and not resume:
        raise FileExistsError(f'{folder} holds a run: --resume goes on with it, or give another '
                              'folder')
    before = None
    if saved.exists():
        info = torch.load(saved, map_location='cpu', weights_only=True, mmap=True)['info']
        before = json.loads(info)['recipe']
    check(recipe, processes=processes, before=before)
    folder.mkdir(parents=True, exist_ok=True)
    training, validation = (Pairs(Path(data) / side) for side in ('train', 'validation'))
    with joined() as device:
        run = _Run(recipe, folder, device)
        if before is not None:
            run.load()
        log = _Log(folder, run.step) if rank == 0 else None
        _train(run, training, validation, log, rank, processes)
        if rank == 0:
            return _finish(run, validation, {'train': len(training),
                                             'validation': len(validation)}, log)
    return {}


def _train(run, training, validation, log, rank, processes):
    settings = run.settings
    share = settings['batch_size'] // processes
    views = Views(training, run.clip.preprocessing, run.recipe['data'],
                  batch_size=settings['batch_size'], seed=settings['seed'])
    positions = [range(start, start + share) for start in
                 (step * settings['batch_size'] + rank * share
                  for step in range(run.step, settings['steps']))]

    def collate(samples):
        pixels, captions, groups = zip(*samples, strict=True)
        return torch.stack(pixels), run.clip.tokenizer(list(captions)), torch.tensor(groups)

    stream = torch.utils.data.DataLoader(
        views, batch_sampler=positions, collate_fn=collate, num_workers=settings['workers'],
        pin_memory=run.device.type == 'cuda', worker_init_fn=undisturbed)
    loss = Contrastive(settings['loss'], rank=rank, world_size=processes, masked=settings['masked'])
    if log and run.step == 0:
        log.write(0, validation=run.validate(validation))
    recent, since = [], time.monotonic()
    with stopping() as told:
        for batch in stream:
            recent.append(run.advance(batch, loss))
            last = run.step == settings['steps']
            if last or run.step % settings['log_every'] == 0:
                value = mean(torch.stack(recent).mean())
                if not math.isfinite(value):
                    raise FloatingPointError(f'the loss of step {run.step} is {value}: lower the '
                                             'learning rate, or prolong the warm-up')
                if log:
                    log.write(run.step, loss=value,
                              learning_rate=run.optimizer.param_groups[0]['lr'],
                              scale=run.model.logit_scale.exp().item(),
                              gradient=run.norm.item(),  # of the last step, before its bound
                              images_per_second=len(recent) * settings['batch_size']
                              / (time.monotonic() - since))
                recent, since = [], time.monotonic()
            if log and (last or run.step % settings['validate_every'] == 0):
                log.write(run.step, validation=run.validate(validation))
                since = time.monotonic()
            stop = told.is_set()
            if processes > 1:  # all end after the same step
                stop = mean(torch.tensor(float(stop), device=run.device)) > 0
            if rank == 0 and (last or stop or run.step % settings['checkpoint_every'] == 0):
                run.save()
            if stop and not last:
                raise KeyboardInterrupt


def _finish(run, validation, pairs, log):
    """Write the model that is kept, on its way from the base as far as wanted."""
    recipe, settings = run.recipe, run.settings
    best = settings['keep'] == 'best'
    state = (torch.load(run.folder / 'best.pt', map_location='cpu', weights_only=True) if best
             else run.judged.model.state_dict())
    clip = prepare(recipe)
    clip.model.load_state_dict(state)
    merge_low_rank(clip.model)
    if settings['wise'] < 1:
        base = prepare({**recipe, 'model': {**recipe['model'], 'method': 'full'}})
        clip.model.load_state_dict(pretrained.interpolate(
            base.model.state_dict(), clip.model.state_dict(), settings['wise']))
    numbers = score(pretrained.Clip(clip.model.to(run.device), clip.tokenizer, clip.config),
                    validation, kind=settings['loss'], precision=settings['precision'])
    pretrained.save(clip, run.folder)
    about = {'recipe': recipe, 'pairs': pairs, 'step': run.best['step'] if best else run.step,
             'validation': numbers, 'torch': torch.__version__,
             'open_clip': open_clip.__version__}
    (run.folder / 'finetune.json').write_text(json.dumps(about, indent=1), encoding='utf-8')
    log.write(run.step, written=numbers)
    return numbers


class _Log:
    """Lines of JSON, on the screen in short, and TensorBoard's files where it is installed."""

    def __init__(self, folder, step):
        self.path = folder / 'log.jsonl'
        # What came after the checkpoint comes again.
        rows = self.path.read_text('utf-8').splitlines() if step and self.path.exists() else []
        self.path.write_text(''.join(f'{row}\n' for row in rows if json.loads(row)['step'] <= step),
                             encoding='utf-8')
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(folder / 'tensorboard', purge_step=step + 1)

    def write(self, step, **row):
        with open(self.path, 'a', encoding='utf-8') as lines:
            lines.write(json.dumps({'step': step, **row}) + '\n')
        numbers = {f'{name}/{key}' if key else name: number for name, value in row.items()
                   for key, number in (value if isinstance(value, dict) else {'': value}).items()}
        print(f'{step:6d}', ' '.join(f'{name} {number:.4g}' for name, number in numbers.items()),
              flush=True)
        if self.board:
            for name, number in numbers.items():
                self.board.add_scalar(name, number, step)
            self.board.flush()


def main(arguments):
    """
    Run ``python -m export finetune``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        1 if it failed, 130 if it was interrupted: the same command with ``--resume`` goes on.
    """
    parser = argparse.ArgumentParser(
        prog='python -m export finetune',
        description='Fine-tune a CLIP model on shards of pictures and captions. In several '
                    'processes: torchrun --nproc-per-node N -m export finetune ...')
    parser.add_argument('--config', required=True, metavar='NAME|FILE',
                        help='a file of configs/, such as paperclip_summaries, or another')
    parser.add_argument('--data', required=True, type=Path,
                        help='folder with train/*.tar and validation/*.tar (of `export shards`)')
    parser.add_argument('--out', required=True, type=Path, help='folder for the model and its log')
    parser.add_argument('--resume', action='store_true', help='go on from the last checkpoint')
    parser.add_argument('--tiny', action='store_true',
                        help='tiny towers and few steps, to try a configuration on a CPU')
    parser.add_argument('--base', help='folder or id of the model to begin with')
    parser.add_argument('--revision', help='commit of the base on the hub')
    parser.add_argument('--method', help='full, lora or head')
    parser.add_argument('--steps', type=int)
    parser.add_argument('--micro-batch', type=int, metavar='N',
                        help='pairs in a tower at a time; the gradient does not change')
    parser.add_argument('--workers', type=int, metavar='N', help='processes that read pictures')
    parser.add_argument('--wise', type=float, metavar='SHARE',
                        help='go this far from the base to the fine-tuned weights (0 to 1)')
    options = parser.parse_args(arguments)
    try:
        recipe = read_recipe(options.config, tiny=options.tiny)
        if options.base:
            recipe['model'].update(base=options.base, architecture={})
        for section in ('model', 'train'):
            recipe[section].update({key: value for key, value in vars(options).items()
                                    if key in recipe[section] and value is not None})
        numbers = finetune(recipe, options.data, options.out, resume=options.resume)
    except KeyboardInterrupt:
        print('interrupted: the same command with --resume goes on from here', file=sys.stderr)
        return 130
    except FloatingPointError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(json.dumps(numbers))
    return 0
