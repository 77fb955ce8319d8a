"""
Is "Nothing stands out" said of the right tables?

Tables are made of held-out images of one source. In half of them none shows what is asked, in the
others one in twenty does. The banner is right if it is over the first and not over the second.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from astroclip_search.ranking.calibration import LIKELY_CHANCE
from astroclip_search.ranking.query import Query
from astroclip_search.ranking.scores import combine_scores
from astroclip_search.ranking.words import read_words
from export.data import pairs as real_pairs
from export.evaluation.calibration import SAME, SHOWING, Model, queries, shown_kinds
from export.training.batches import split_folder
from export.training.train import read_config

__all__ = ['banner', 'main', 'right']

#: Rows of a table, and fewest that a source must be able to fill it with.
ROWS, FEWEST = (100, 200, 400), 80
#: Images that show it, at the least, of which some are drawn.
FEWEST_SHOWING = 3


def banner(model_folder, real, *, tables=200, config=None):
    """
    Draw tables and look for the banner over them.

    Parameters
    ----------
    model_folder : path-like
        The bundle.
    real : path-like
        Folder with ``manifest.jsonl``.
    tables : int, optional
        How many, in pairs: one without a find, and one with.
    config : dict, optional
        Configuration of the training run: the same split of real images.

    Returns
    -------
    rows : list of list
        What the rows were ranked by, whether their source was left out of the background, source,
        tables, and the share of those without and with a find where the banner is right.
    """
    model = Model(model_folder)
    background = model.bundle.background
    pairs, held_out = split_folder({**(config or read_config(None))['data'], 'real': real})
    pairs = [pair for pair, held in zip(pairs, held_out, strict=True) if held]
    sources = np.array([pair.source for pair in pairs])
    vectors = model.images([real_pairs.load_pixels(pair.file) for pair in pairs])
    # Titles of SDSS and FIRST are catalogue numbers.
    words = [real_pairs.row_metadata(pair) if pair.obs_title or pair.source == 'apod' else ''
             for pair in pairs]
    told = model.encoder.encode_metadata(words)
    same = vectors @ background.image.T > SAME
    classes, kinds_of = queries()
    shown = [shown_kinds(pair.labels, classes[pair.source]) for pair in pairs]
    choices = _choices(sources, shown, kinds_of)
    if not choices:
        return []
    rng = np.random.default_rng(0)
    found = {}
    for number in range(tables // 2):
        source, phrase, unrelated, showing = choices[rng.integers(len(choices))]
        size = min(ROWS[number % len(ROWS)], len(unrelated))
        without = rng.choice(unrelated, size, replace=False)
        among = rng.choice(unrelated, size, replace=False)
        among[:max(1, round(SHOWING * size))] = rng.choice(showing, max(1, round(SHOWING * size)))
        itself = background.source[same[sources == source].any(0)]
        own = np.isin(background.source, np.bincount(itself).argmax() if len(itself) else -1)
        for left_out in (False, True):
            for by in ('image', 'both'):
                chances = [_chance(model, phrase, vectors, words, told, rows, by,
                                   same[rows].any(0) | (left_out & own))
                           for rows in (without, among)]
                for name in (source, 'all'):
                    found.setdefault((by, left_out, name), []).append(right(*chances))
    return [[by, 'left out' if left_out else 'known', source, 2 * len(answers),
             *np.round(np.mean(answers, axis=0), 3).tolist()]
            for (by, left_out, source), answers in sorted(found.items())]


def right(without, among):
    """
    Say whether the banner is right.

    Parameters
    ----------
    without, among : float
        Chance of a table without a find, and of one with.

    Returns
    -------
    right : tuple of bool
        For each of the two.
    """
    return without > LIKELY_CHANCE, among <= LIKELY_CHANCE


def _choices(sources, shown, kinds_of):
    """Return sources and phrases of which there are enough images, with the rows of these."""
    found = []
    for source in sorted(set(sources)):
        for phrase, kinds in kinds_of.items():
            rows = np.flatnonzero(sources == source)
            shows = np.array([bool(shown[row] & kinds) for row in rows], bool)
            labelled = np.array([bool(shown[row]) for row in rows], bool)
            if (labelled & ~shows).sum() >= FEWEST and shows.sum() >= FEWEST_SHOWING:
                found.append((source, phrase, rows[labelled & ~shows], rows[shows]))
    return found


def _chance(model, phrase, vectors, words, told, rows, by, hidden):
    bundle, query = model.bundle, Query([phrase])
    texts = [words[row] for row in rows]
    asked = query.metadata_vector(model.encoder)
    metadata = np.array([np.nan if not text else cosine for text, cosine in zip(
        texts, told[rows] @ asked, strict=True)], np.float32)
    vector = query.image_vector(model.encoder)
    reference = np.where(hidden, np.nan, bundle.background.cosines(vector))
    return combine_scores(
        vectors[rows] @ vector, metadata, by=by, words=read_words(texts, [phrase]),
        weights=bundle.ranking_weights, above=bundle.words_above, image_background=reference,
        metadata_background=bundle.background.metadata @ asked,
        source=bundle.background.source).chance


def main(arguments):
    """
    Run ``python -m export banner``.

    Parameters
    ----------
    arguments : list of str
        Command line.
    """
    parser = argparse.ArgumentParser(prog='python -m export banner', description='Measure whether '
                                     '"Nothing stands out" is said of the right tables.')
    parser.add_argument('bundle', help='folder of the bundle')
    parser.add_argument('--real', required=True, help='folder with manifest.jsonl')
    parser.add_argument('--tables', type=int, default=200, help='how many')
    parser.add_argument('--config', help='TOML file of the training run')
    parser.add_argument('--out', help='JSON file to write')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = banner(options.bundle, options.real, tables=options.tables,
                  config=read_config(options.config))
    if options.out:
        Path(options.out).write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
    print('ranked by, archive, source, tables, right without a find, right with one')
    for row in rows:
        print('  ' + ' '.join(f'{cell!s:12}' for cell in row))
