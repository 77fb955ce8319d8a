"""
What examples add to a phrase, and what looks the same: the two numbers behind the guide's advice.

Feedback is simulated: of the first 20 images for the query of a class up to three that have it
are liked, up to three that have not are disliked, and the ranking of all other images is measured.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from astroclip_search.ranking.query import WEIGHTS, centroid, query_vector
from export.evaluation.collection import Cache, Collection
from export.evaluation.shipped import Shipped
from export.evaluation.tasks import read_queries, tasks_of
from export.measures.metrics import METRICS, bootstrap, interval, measure
from export.training.train import read_config

__all__ = ['COSINES', 'SETTINGS', 'alike', 'choose', 'feedback', 'main', 'residual']

#: Name -> weights of phrase, liked and disliked images; whether cosines are standardised.
SETTINGS = {
    'the phrase alone': (1.0, 0.0, 0.0, True),
    'as by default': (WEIGHTS['text'], WEIGHTS['like'], WEIGHTS['unlike'], True),
    'like 1, unlike 0.5': (1.0, 1.0, 0.5, True),
    'liked examples alone': (0.0, 1.0, 0.0, True),
    'textbook weights 1, 0.75, 0.15': (1.0, 0.75, 0.15, False),
}
#: Thresholds above which two pictures might be called the same.
COSINES = (0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
_AP = METRICS.index('AP')
_SHOWN = 20
_PART = 512


def choose(scores, positive, *, shown=_SHOWN, most=3):
    """
    Say what a person would like and dislike of a first answer.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n,)
        First ranking.
    positive : `numpy.ndarray` of bool, shape (n,)
        Truth.
    shown : int, optional
        Images that are looked at.
    most : int, optional
        Images that are liked, and disliked, at most: the best ones.

    Returns
    -------
    liked, disliked : `numpy.ndarray` of int
        Images.
    """
    first = np.argsort(-scores, kind='stable')[:shown]
    return first[positive[first]][:most], first[~positive[first]][:most]


def residual(vectors, phrase, positive, background):
    """
    Measure one query again after feedback, on the images that nothing was said of.

    Parameters
    ----------
    vectors : `numpy.ndarray` of float32, shape (n, d)
        Images.
    phrase : `numpy.ndarray` of float32, shape (d,)
        Query.
    positive : `numpy.ndarray` of bool, shape (n,)
        Truth.
    background : `numpy.ndarray` of float32, shape (m, d), or None
        Reference images of the bundle.

    Returns
    -------
    scores : `numpy.ndarray` of float, shape (k, len(SETTINGS))
        Of the images that are left, for each setting.
    truth : `numpy.ndarray` of bool, shape (k,)
        Theirs; empty if nothing was liked, as there is nothing to compare then.
    """
    liked, disliked = choose(vectors @ phrase, positive)
    left = np.setdiff1d(np.arange(len(vectors)), np.concatenate([liked, disliked]))
    if not len(liked):
        left = left[:0]
    columns = []
    for text, like, unlike, standard in SETTINGS.values():
        terms = [(phrase, text)] if text else []
        if like and len(liked):
            terms.append((centroid(vectors[liked]), like))
        if unlike and len(disliked):
            terms.append((centroid(vectors[disliked]), -unlike))
        query = query_vector(terms or [(phrase, 1.0)], background if standard else None)
        columns.append(vectors[left] @ query)
    return np.stack(columns, axis=1), positive[left]


def feedback(vectors, task, phrases, background, *, draws=200):
    """
    Simulate feedback for all queries of a task.

    Parameters
    ----------
    vectors : `numpy.ndarray` of float32, shape (n, d)
        Images of the task.
    task : `export.evaluation.tasks.Task`
        Classes.
    phrases : `numpy.ndarray` of float32, shape (queries, d)
        Queries.
    background : `numpy.ndarray` of float32, shape (m, d), or None
        Reference images of the bundle.
    draws : int, optional
        Bootstrap samples of the images, within class.

    Returns
    -------
    rows : list of list
        Setting, mean average precision, and the interval (95 %) of its difference to the phrase
        alone.
    queries : int
        Queries of which something was liked and something is left to be found.
    """
    values, samples = [], []
    for phrase, positive in zip(phrases, task.positive.T, strict=True):
        scores, truth = residual(vectors, phrase, positive, background)
        if not truth.any() or truth.all():
            continue
        truth = np.repeat(truth[:, None], len(SETTINGS), axis=1)
        values.append(measure(scores, truth)[:, _AP])
        samples.append(bootstrap(scores, truth, draws=draws,
                                 strata=truth[:, 0].astype(int))[:, :, _AP])
    if not values:
        return [], 0
    mean, means = np.mean(values, axis=0), np.mean(samples, axis=0)
    rows = [[name, float(mean[i]), *(float(end) for end in interval(means[:, i] - means[:, 0]))]
            for i, name in enumerate(SETTINGS)]
    return rows, len(values)


def alike(vectors, names, *, cosines=COSINES):
    """
    Count pairs of images that are nearly the same to the model, and those of one target.

    Parameters
    ----------
    vectors : `numpy.ndarray` of float32, shape (n, d)
        Images.
    names : sequence of str
        Target of each; empty if it has none.
    cosines : sequence of float, optional
        Thresholds.

    Returns
    -------
    counts : `numpy.ndarray` of int, shape (len(cosines), 2)
        Pairs at or above each threshold, and those of them that have the same target.
    """
    numbers = np.unique([name or f'\0{i}' for i, name in enumerate(names)], return_inverse=True)[1]
    counts = np.zeros((len(cosines), 2), np.int64)
    columns = np.arange(len(vectors))
    for start in range(0, len(vectors), _PART):
        rows = columns[start:start + _PART, None]
        cosine = vectors[start:start + _PART] @ vectors.T
        for i, least in enumerate(cosines):
            high = (cosine >= least) & (columns > rows)
            counts[i, 0] += high.sum()
            counts[i, 1] += (high & (numbers[rows] == numbers)).sum()
    return counts


def main(arguments):
    """
    Run ``python -m export feedback``.

    Parameters
    ----------
    arguments : list of str
        Command line.
    """
    parser = argparse.ArgumentParser(
        prog='python -m export feedback',
        description='Measure what examples add to a phrase, and which images look the same.')
    parser.add_argument('bundle', help="folder of the bundle, 'default', or an id of the hub")
    parser.add_argument('--real', required=True, help='folder with manifest.jsonl')
    parser.add_argument('--all-rows', action='store_true',
                        help='use all rows of the manifest, not only those held out')
    parser.add_argument('--config', help='TOML file of the training run')
    parser.add_argument('--draws', type=int, default=200, help='bootstrap samples')
    parser.add_argument('--cache', help='NPZ file that keeps what was computed from pixels')
    parser.add_argument('--out', help='JSON file to write')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model, cache = Shipped(options.bundle), Cache(options.cache)
    collection = Collection(options.real, cache)
    judged = np.ones(len(collection.pairs), bool)
    if not options.all_rows:
        judged = collection.held_out(read_config(options.config)['data'])
    vectors = collection.vectors(model, np.arange(len(judged)))
    cache.save()
    background = model.bundle.background.image
    result = {'feedback': {}, 'alike': {}}
    for task in tasks_of(collection.pairs, np.flatnonzero(judged), read_queries()):
        found = feedback(vectors[task.rows], task, model.texts(task.queries), background,
                         draws=options.draws)
        result['feedback'][task.name] = {'rows': found[0], 'queries': found[1]}
        print(f'\n{task.name}: {found[1]} queries, mAP of what nothing was said of')
        for name, value, low, high in found[0]:
            print(f'  {name:32} {value:.3f}   {low:+.3f} to {high:+.3f}')
        if not task.source:
            continue
        # All images of the source: whether it was trained on makes no two pictures one.
        rows = [i for i, pair in enumerate(collection.pairs) if pair.source == task.source]
        counts = alike(vectors[rows], [collection.pairs[i].title for i in rows])
        result['alike'][task.name] = counts.tolist()
        print(f'{len(rows) * (len(rows) - 1) // 2:,} pairs; at least as near, same target')
        for least, (pairs, same) in zip(COSINES, counts.tolist(), strict=True):
            print(f'  {least:5} {pairs:10,} {same:10,}')
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
