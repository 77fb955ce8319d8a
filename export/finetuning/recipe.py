"""
Configurations of fine-tuning runs: a file says only in what it differs from another.
"""

import copy
import math
import tomllib
from pathlib import Path

__all__ = ['FREE', 'check', 'read_recipe']

_FOLDER = Path(__file__).parents[1] / 'configs'

#: Keys that may differ when a run is resumed: how it is computed, or how long, not what.
FREE = ('steps', 'micro_batch', 'workers', 'checkpointing', 'checkpoint_every', 'log_every',
        'validate_every', 'wise')

_CHOICES = {
    ('model', 'method'): ('full', 'lora', 'head'),
    ('data', 'captions'): ('whole', 'passages'),
    ('train', 'schedule'): ('constant', 'cosine'),
    ('train', 'loss'): ('softmax', 'sigmoid'),
    ('train', 'precision'): ('fp32', 'bf16'),
    ('train', 'keep'): ('best', 'last'),
}


def read_recipe(name, *, tiny=False):
    """
    Read a configuration.

    Parameters
    ----------
    name : str or path-like
        Name of a file in ``configs``, or path of a TOML file. What it does not say is as in the one
        that it ``extends``, and in the end as in ``configs/finetune.toml``, which explains all.
    tiny : bool, optional
        Replace the model by towers that a CPU trains in a minute, and shorten the run, as
        ``configs/tiny.toml`` and the section ``tiny`` of the configuration say. Learning rates are
        multiplied, so that configurations which differ in them still do.

    Returns
    -------
    recipe : dict
        Sections ``model``, ``data`` and ``train``.

    Raises
    ------
    ValueError
        If there is no such configuration, or something in it that nothing reads.
    """
    recipe = _read('finetune')
    known = {section: set(values) for section, values in recipe.items()}
    parts = []
    while name:
        parts.append(_read(name))
        name = parts[-1].pop('extends', None)
    for part in reversed(parts):
        _merge(recipe, part)
    smaller = recipe.pop('tiny', {})
    if tiny:
        common = _read('tiny')
        recipe['train']['learning_rate'] *= common.pop('learning_rate_factor')
        _merge(recipe, common)
        _merge(recipe, smaller)
    for section, values in recipe.items():
        if unknown := sorted(set(values) - known.get(section, set())):
            raise ValueError(f'nothing reads {", ".join(unknown)} in [{section}], see '
                             'configs/finetune.toml')
    return recipe


def _read(name):
    path = Path(name) if Path(name).suffix == '.toml' else _FOLDER / f'{name}.toml'
    try:
        return tomllib.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        names = sorted(file.stem for file in _FOLDER.glob('*.toml')
                       if 'extends' in tomllib.loads(file.read_text(encoding='utf-8')))
        raise ValueError(f'no configuration {name}: give a TOML file or one of '
                         f'{", ".join(names)}') from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f'{path}: {error}') from error


def _merge(recipe, part):
    for key, value in part.items():
        if isinstance(value, dict) and key in recipe and isinstance(recipe[key], dict):
            _merge(recipe[key], value)
        else:
            recipe[key] = copy.deepcopy(value)


def check(recipe, *, processes=1, before=None):
    """
    Refuse a configuration that cannot be run.

    Parameters
    ----------
    recipe : dict
        From `read_recipe`.
    processes : int, optional
        How many share the batch.
    before : dict, optional
        Configuration of the run that is resumed.

    Raises
    ------
    ValueError
        If a value is none of those possible, values contradict each other, or the run before was
        another one.
    """
    for (section, key), choices in _CHOICES.items():
        if recipe[section][key] not in choices:
            raise ValueError(f'{key} = {recipe[section][key]!r}: choose from {", ".join(choices)}')
    model, settings = recipe['model'], recipe['train']
    if not (model['base'] or model['architecture']):
        raise ValueError('no model to begin with: give its base')
    if model['random'] and model['method'] != 'full':
        raise ValueError(f'method = {model["method"]!r} changes little of a model, which random '
                         'weights do not allow: choose full')
    if settings['wise'] < 1 and (model['random'] or model['method'] == 'head'):
        raise ValueError('there is nothing between a base and a model from scratch or with heads: '
                         'leave wise at 1')
    if settings['schedule'] == 'cosine' and settings['warmup'] >= settings['steps']:
        raise ValueError(f'a warm-up of {settings["warmup"]} steps leaves no cosine in '
                         f'{settings["steps"]}')
    share, rest = divmod(settings['batch_size'], processes)
    if rest or (settings['micro_batch'] and share % settings['micro_batch']):
        raise ValueError(f'batch_size = {settings["batch_size"]} cannot be divided among '
                         f'{processes} processes and in parts of {settings["micro_batch"]}')
    if before is not None and (other := _differences(before, recipe)):
        raise ValueError(f'the run to resume had other values of {", ".join(other)}: give the same '
                         'configuration, or another folder')


def _differences(before, recipe):
    return [key for section in recipe for key, value in recipe[section].items()
            if key not in FREE and not _same(before.get(section, {}).get(key), value)]


def _same(first, second):
    if isinstance(first, float) and isinstance(second, int | float):
        return math.isclose(first, second)
    return first == second
