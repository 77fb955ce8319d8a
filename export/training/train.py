"""
Training of the bundled model, from ImageNet weights.

First the map into the joint space and the text map are learned on pooled features of the
untuned network, which are computed once. Then its last stages are tuned with them on fresh
views, once for each seed. The runs begin from one map, so that their weights may be
averaged. At last the text map alone is fitted to the vectors of that tower. Every step is
kept only if it finds more on held-out pictures, by the words of their labels.
"""

import argparse
import copy
import json
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import torch

from export.data.labels import label_classes
from export.data.pairs import to_square
from export.training.batches import read_material, stream
from export.training.features import pooled_features, principal_components
from export.training.fitting import Towers, fit, is_done, write_checkpoint
from export.training.losses import Losses
from export.training.text import CaptionBank, SentenceEncoder
from export.training.text_fit import Pictures, fit_text
from export.training.validation import Validation, decisive, embed_images
from export.training.vision import imagenet_weights, normalise

__all__ = ['average', 'main', 'read_config', 'train']


def train(config, folder, *, seeds=None, encoder=None):
    """
    Train, or go on where an earlier call was interrupted.

    Parameters
    ----------
    config : dict
        Configuration, see ``configs/default.toml``.
    folder : path-like
        Output: ``checkpoint.pt``, the model that is kept; ``frozen/`` and ``seed-<n>/`` with
        checkpoints and ``log.jsonl``; ``features/`` and ``sentences.npz``, which may be deleted.
    seeds : list of int, optional
        Those of the seeds of the configuration to tune now. Nothing is chosen before all
        are there.
    encoder : `export.training.text.SentenceEncoder`, optional
        By default MiniLM.

    Returns
    -------
    checkpoint : `pathlib.Path` or None
        The model that is kept; None while seeds are missing.

    Raises
    ------
    ValueError
        If the folder holds a run of another configuration, or that names no such seed.
    """
    folder, settings = Path(folder), config['train']
    if seeds and not set(seeds) <= set(settings['seeds']):
        raise ValueError(f"the seeds of the configuration are {settings['seeds']}")
    _check(folder, config)
    torch.set_num_threads(settings['threads'])
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    encoder = encoder or SentenceEncoder()
    folder.mkdir(parents=True, exist_ok=True)
    material = read_material(config['data'], encoder, folder)
    validation = Validation(config, encoder)
    # Not before: a folder that does not exist would claim the run for a mistake.
    (folder / 'config.json').write_text(json.dumps(config, indent=1), encoding='utf-8')
    frozen = _frozen(config, folder, material, validation, device)
    for seed in seeds or settings['seeds']:
        _tuned(config, folder, material, validation, device, frozen, seed)
    runs = [folder / f'seed-{seed}' / 'checkpoint.pt' for seed in settings['seeds']]
    if not all(run.exists() for run in runs):
        return None
    return _best(config, encoder, folder, [frozen, *runs], material, validation, device)


def _check(folder, config):
    """Refuse a run of other settings; it may be longer."""
    path, own = folder / 'config.json', json.loads(json.dumps(config))
    if path.exists():
        old = json.loads(path.read_text('utf-8'))
        for stage in ('frozen', 'tune'):
            for key in ('minutes', 'steps', 'validate_every', 'workers'):
                for found in (old, own):
                    found[stage].pop(key, None)
        if old != own:
            raise ValueError(f'{folder} holds a run of another configuration, see config.json')


def _frozen(config, folder, material, validation, device):
    """Learn both maps on pooled features of the untuned network; return the checkpoint."""
    path = folder / 'frozen' / 'checkpoint.pt'
    if is_done(path):
        return path
    path.parent.mkdir(exist_ok=True)
    settings, seed, size = config['frozen'], config['train']['seeds'][0], config['train']['size']
    torch.manual_seed(seed)
    towers = Towers(config['model'], config['train']).to(device)
    tower = towers.image
    imagenet_weights(tower.trunk)
    features = pooled_features(
        tower.eval().to(memory_format=torch.channels_last), material, folder / 'features',
        size=size, views=settings['views'], archive_share=settings['archive_share'], seed=seed)
    found = principal_components(features, len(material.pairs), config['model']['components'],
                                 limit=tower.LIMIT)
    for buffer, values in zip((tower.mean, tower.std, tower.components), found, strict=True):
        buffer.copy_(torch.from_numpy(values))
    towers.learn()
    features = torch.from_numpy(features).to(device)
    fit(towers, stream(material, settings, seed=seed, views=settings['views'],
                       real_fraction=config['data']['real_fraction']),
        partial(_embed_features, features),
        Losses(material, {**config['train'], **settings}, device), validation, path,
        stage='frozen', config=config, seed=seed, about=_about(config, material))
    return path


def _about(config, material):
    return {'size': config['train']['size'], 'scenes': len(material.scenes)}


def _embed_features(features, towers, batch):
    return towers.image.embed(features[batch['picture'], batch['view']].float())


def _tuned(config, folder, material, validation, device, frozen, seed):
    """Tune the last stages of the network on fresh views."""
    path = folder / f'seed-{seed}' / 'checkpoint.pt'
    if is_done(path):
        return
    path.parent.mkdir(exist_ok=True)
    settings = config['tune']
    towers = _read(config, frozen, device).to(memory_format=torch.channels_last)
    towers.learn(settings['first_block'])
    fit(towers, stream(material, settings, seed=seed, size=config['train']['size'],
                       archive_share=settings['archive_share'],
                       real_fraction=config['data']['real_fraction']),
        _embed_pixels, Losses(material, {**config['train'], **settings}, device), validation, path,
        stage='tune', config=config, seed=seed, about=_about(config, material))


def _embed_pixels(towers, batch):
    return towers.image(normalise(batch['pixels']).contiguous(memory_format=torch.channels_last))


def _read(config, path, device):
    towers = Towers(config['model'], config['train']).to(device)
    towers.load_state_dict(torch.load(path, map_location=device, weights_only=True)['averaged'])
    return towers


def _best(config, encoder, folder, paths, material, validation, device):
    """Average the tuned runs, fit the text map, keep what is best; return the checkpoint."""
    states, runs = {}, {}
    for path in paths:
        state = torch.load(path, map_location=device, weights_only=True)
        states[path.parent.name] = state['averaged']
        runs[path.parent.name] = json.loads(state['info'])['progress']
    if not all(run['done'] for run in runs.values()):
        return None
    candidates = {name: run['validation'] for name, run in runs.items()}
    towers = Towers(config['model'], config['train']).to(device).eval()
    first, *tuned = states
    if len(tuned) > 1:
        states['average'] = average([states[name] for name in tuned])
        towers.load_state_dict(states['average'])
        candidates['average'] = validation.score(towers)
    kept = _kept(candidates)
    towers.load_state_dict(states[kept])
    if material.pairs and config['text']['steps']:
        before, towers.text = towers.text, _fit_text(config, encoder, folder, material, towers)
        candidates[f'{kept}, text fitted'] = validation.score(towers)
        if _kept(candidates) == kept:
            towers.text = before
        kept = _kept(candidates)
    for name, numbers in candidates.items():
        print(name, *(f'{key} {value:.3f}' for key, value in numbers.items()),
              '<- kept' if name == kept else '', flush=True)
    summed = {key: sum(run[key] for run in runs.values())
              for key in ('step', 'seconds', 'samples')}
    write_checkpoint(folder / 'checkpoint.pt', towers, config, {
        **runs[first], **summed, 'validation': candidates[kept], 'kept': kept,
        'candidates': candidates})
    return folder / 'checkpoint.pt'


def _kept(candidates):
    return max(candidates, key=lambda name: decisive(candidates[name]))


def _fit_text(config, encoder, folder, material, towers):
    """Fit the text map to vectors of all training pictures: of a clean view and of fresh ones."""
    settings, seed = config['text'], config['train']['seeds'][0]
    vectors = np.stack([_vectors(config, material, towers, view)
                        for view in range(settings['views'])])
    real = len(material.pairs)
    sources = np.array([pair.source for pair in material.pairs] + ['sky'] * len(material.scenes))
    shown, scenes = (
        Pictures(vectors[:, part], material.said[part], material.kinds[part], sources[part])
        for part in (slice(real), slice(real, None)))
    fitted = fit_text(
        copy.deepcopy(towers.text).cpu(), shown, label_classes(material.pairs),
        CaptionBank(encoder, folder / 'sentences.npz'), scenes=scenes if material.scenes else None,
        log_scale=towers.log_scale.item(), steps=settings['steps'], seed=seed)
    return fitted.to(towers.log_scale.device)


def _vectors(config, material, towers, view, chunk=64):
    size, found = config['train']['size'], []
    for first in range(0, len(material), chunk):
        squares = [
            material.view(i, size, np.random.default_rng([view, i]),
                          archive_share=config['text']['archive_share'])
            if view else to_square(material.pixels(i), size)
            for i in range(first, min(first + chunk, len(material)))]
        found.append(embed_images(towers, np.stack(squares)))
    return np.concatenate(found)


def average(states):
    """
    Average the weights of several runs.

    Parameters
    ----------
    states : list of dict
        State dicts of runs that began from the same weights.

    Returns
    -------
    state : dict
        Means; numbers that are no fractions are those of the first run.

    Raises
    ------
    ValueError
        If the runs are not of one network.
    """
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError('these runs are not of one network: their weights have no average')
    return {name: torch.stack([state[name] for state in states]).mean(0)
            if value.is_floating_point() else value for name, value in states[0].items()}


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
    parser = argparse.ArgumentParser(
        prog='python -m export train',
        description='Train the image tower and the text map from ImageNet weights. The same '
                    'command again goes on where it was interrupted.')
    parser.add_argument('--config', help='TOML file (default: configs/default.toml)')
    parser.add_argument('--sky', nargs='+', help='folders of shards')
    parser.add_argument('--validation', nargs='+', help='folders of held-out shards')
    parser.add_argument('--real', help='folder with manifest.jsonl')
    parser.add_argument('--leave-out', nargs='+', metavar='SOURCE',
                        help='sources of real images that are only validated on')
    parser.add_argument('--out', required=True, help='folder of the run')
    parser.add_argument('--minutes', type=float, help='processor time of tuning, for each seed')
    parser.add_argument('--seed', nargs='+', type=int,
                        help='tune only these seeds of the configuration now')
    options = parser.parse_args(arguments)
    config = read_config(options.config, sky=options.sky, validation=options.validation,
                         real=options.real, leave_out=options.leave_out)
    if options.minutes:
        config['tune']['minutes'] = options.minutes
    print(train(config, options.out, seeds=options.seed) or 'seeds are missing')
