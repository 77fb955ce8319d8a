"""
Whether ways of fine-tuning come out in PAPERCLIP's order, on scenes of made-up proposals.

A tiny model is first taught one half of the kinds of scenes with plain captions. That is the base:
it has learned to see, but knows nothing of what the proposals are about, which are on the other
half. Every picture of a proposal has the same words, made of several phrases, as summaries are. The
configurations of the paper are then run as they are, with ``--tiny``.

That fine-tuning is better than training from scratch is in the table, but not asked for: a base
that was taught for a minute is worth less than the difference between two seeds.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from export.data.proposals import write_whole
from export.data.shards import write
from export.finetuning.captioned import Pairs
from export.finetuning.finetune import finetune, prepare, score
from export.finetuning.recipe import read_recipe
from export.sky import KINDS, caption, names, render, synonyms

__all__ = ['PAPER', 'main', 'run', 'verdicts', 'write_proposals']

#: Configurations whose order is checked, and what the paper found: top 10 of 100 at the end.
PAPER = {'paperclip_summaries': 0.689, 'paperclip_head': 0.480, 'paperclip_scratch': 0.444,
         'paperclip_shuffled': 0.099}
_BASE = 0.146
_PICTURES = 5
_SIDE = 80


def write_proposals(folder, kinds, *, count, seed, plain=False):
    """
    Render pictures of made-up proposals, and write them as shards.

    Parameters
    ----------
    folder : path-like
        Where pictures go, and shards, into ``pairs``.
    kinds : sequence of str
        Kinds of scenes that proposals are about, in turn.
    count : int
        Number of proposals; of each kind, every sixth is for validation.
    seed : int
        Of the first scene.
    plain : bool, optional
        Give each picture a caption of its own, and none of them the words of a proposal.

    Returns
    -------
    pairs : `pathlib.Path`
        Folder with ``train`` and ``validation``.
    """
    folder = Path(folder)
    if (folder / 'pairs').is_dir():
        return folder / 'pairs'
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        kind, rng = kinds[number % len(kinds)], np.random.default_rng((seed, number))
        side = 'validation' if number // len(kinds) % 6 == 5 else 'train'
        text = None
        for i in range(_PICTURES):
            scene = render(seed + number * _PICTURES + i, kind, size=_SIDE)
            shown = caption(kind, scene.attributes, rng)
            text = shown if plain else text or f'{_summary(kind, rng)}; {shown}'
            name = f'{number:05d}_{i}'
            Image.fromarray(scene.image).save(folder / 'images' / f'{name}.jpg', quality=92)
            rows.append({'id': name, 'file': f'images/{name}.jpg', 'caption': text, 'title': kind,
                         'proposal_id': str(number), 'category': '', 'split': side})
    write_whole(folder / 'manifest.jsonl', ''.join(json.dumps(row) + '\n' for row in rows))
    write(folder, folder / 'pairs')
    return folder / 'pairs'


def _summary(kind, rng):
    return ', '.join(str(rng.choice(phrases)) for phrases in (names(kind), synonyms(kind)))


def run(folder, configs=tuple(PAPER), *, seeds=1, base_steps=400):
    """
    Make the data and the base, fine-tune it in several ways and judge all.

    Parameters
    ----------
    folder : path-like
        For everything; what is there already is not made again.
    configs : sequence of str
        Configurations, or paths of them.
    seeds : int, optional
        How often each is run, with seeds from 1 on. Data and base are the same for all.
    base_steps : int, optional
        Steps that the base is trained for.

    Returns
    -------
    numbers : dict
        ``base`` and configurations -> means of what `export.finetuning.matching.match` gives, and
        ``seeds``: ``top10`` of each run.
    """
    folder = Path(folder)
    first, second = KINDS[::2], KINDS[1::2]
    pairs = write_proposals(folder / 'proposals', second, count=17 * len(second), seed=10**6)
    plain = write_proposals(folder / 'plain', first, count=24 * len(first), seed=2 * 10**6,
                            plain=True)
    held_out = Pairs(pairs / 'validation')
    recipe = read_recipe('paperclip_scratch', tiny=True)
    recipe['train'].update(steps=base_steps, schedule='cosine')
    _done(recipe, plain, folder / 'base')
    recipe['model'].update(base=str(folder / 'base'), architecture={}, random=False)
    numbers = {'base': _mean([score(prepare(recipe), held_out)])}
    for name in configs:
        recipe = read_recipe(name, tiny=True)
        # Towers of another size than the base's begin at random.
        if not recipe['model']['random'] and recipe['model']['architecture'] == read_recipe(
                'paperclip_summaries', tiny=True)['model']['architecture']:
            recipe['model'].update(base=str(folder / 'base'), architecture={})
        runs = []
        for seed in range(1, seeds + 1):
            recipe['train']['seed'] = seed
            runs.append(_done(recipe, pairs, folder / f'{Path(name).stem}_{seed}'))
        numbers[name] = _mean(runs)
    return numbers


def _mean(runs):
    means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    return {**means, 'seeds': [run['top10'] for run in runs]}


def _done(recipe, pairs, folder):
    return finetune(recipe, pairs, folder, resume=True)


def verdicts(numbers):
    """
    Compare what was found with what should be.

    Parameters
    ----------
    numbers : dict
        From `run`, of the configurations in `PAPER`.

    Returns
    -------
    verdicts : dict
        Statement -> whether it is so.
    """
    top = {name.removeprefix('paperclip_'): row['top10'] for name, row in numbers.items()}
    return {
        'fine-tuned > head only': top['summaries'] > top['head'],
        'head only > base': top['head'] > top['base'],
        'from scratch > base': top['scratch'] > top['base'],
        'shuffled = chance': abs(top['shuffled'] - 0.1) < 0.05,
    }


def main(arguments):
    """
    Run ``python -m export orderings``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        1 if the order is another one.
    """
    parser = argparse.ArgumentParser(
        prog='python -m export orderings',
        description='Fine-tune tiny towers on made-up proposals in the ways of PAPERCLIP, and see '
                    'whether they come out in its order.')
    parser.add_argument('--out', required=True, type=Path)
    parser.add_argument('--also', nargs='*', default=[], metavar='NAME',
                        help='more configurations to run')
    parser.add_argument('--seeds', type=int, default=1, metavar='N',
                        help='run each N times (default: once)')
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '1')))
    numbers = run(options.out, (*PAPER, *options.also), seeds=options.seeds)
    print('| | top 10 of 100 | of each run | in the paper | caption in the first tenth |')
    print('|---|---|---|---|---|')
    for name, row in numbers.items():
        paper = {'base': _BASE, **PAPER}.get(name, '')
        each = ' '.join(f'{value:.3f}' for value in row['seeds'])
        print(f'| {name} | {row["top10"]:.3f} | {each} | {paper} | {row["top10_captions"]:.3f} |')
    found = verdicts(numbers)
    for statement, true in found.items():
        print(f'{"yes" if true else "NO "}  {statement}')
    write_whole(options.out / 'orderings.json',
                json.dumps({'numbers': numbers, 'verdicts': found}, indent=1))
    return 0 if all(found.values()) else 1
