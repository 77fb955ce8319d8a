"""
What examples and marks add to a phrase, and what looks the same: the numbers behind the guide's
advice.

Few examples are averaged: of the first 20 images for the query of a class up to three that have it
are liked, up to three that have not are disliked, and the ranking of all other images is measured.
Marks are learned from: a user who knows the labels marks ten images of a table, half of those of a
source, at once or in two steps, and looks at the first page again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from astroclip_search.ranking.learn import instructive, learned_direction
from astroclip_search.ranking.query import WEIGHTS, centroid, query_vector
from export.evaluation.collection import Cache, Collection
from export.evaluation.shipped import Shipped
from export.evaluation.tasks import read_queries, tasks_of
from export.measures.metrics import METRICS, bootstrap, interval, measure
from export.training.train import read_config

__all__ = ['COSINES', 'SETTINGS', 'WAYS', 'alike', 'choose', 'feedback', 'main', 'marked',
           'residual']

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
#: Name -> number of steps in which ten images are marked, whether these are suggested, and whether
#: what is said of them is learned from, or averaged as by default.
WAYS = {
    'averaged': (1, False, False),
    'learned': (1, False, True),
    'learned, two steps of five': (2, False, True),
    'learned, from suggestions': (1, True, True),
}
_PAGE = 10
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


def marked(vectors, task, phrases, background, *, tables=8, fewest=24, seed=0):
    """
    Simulate a user who marks ten images of a table and looks at the first page again.

    Each table is a random half of the images of the task. Precision at ten is out of ten images,
    or out of as many as are left to be found.

    Parameters
    ----------
    vectors : `numpy.ndarray` of float32, shape (n, d)
        Images of the task.
    task : `export.evaluation.tasks.Task`
        Classes; those with fewer than ``fewest`` images are left out.
    phrases : `numpy.ndarray` of float32, shape (queries, d)
        Queries.
    background : `astroclip_search.models.background.Background`
        Reference images of the bundle.
    tables : int, optional
        Tables for each query.
    fewest : int, optional
        Images of a class, in all of the task.
    seed : int, optional
        Of the choice of tables.

    Returns
    -------
    queries : list of str
        What was asked.
    values : `numpy.ndarray` of float, shape (queries, len(WAYS), 4)
        Means over the tables of the precision at ten: of the phrase on the whole table; of the
        first page afterwards, with what was liked in front; and of the images that were not
        marked, by the phrase and by what was made of the marks.
    """
    queries, values = [], []
    for number, query in enumerate(task.queries):
        positive = task.positive[:, number]
        if positive.sum() < fewest:
            continue
        found = []
        for table in range(tables):
            random = np.random.default_rng([seed, number, table])
            rows = np.sort(random.choice(len(vectors), len(vectors) // 2, replace=False))
            if positive[rows].sum() > _PAGE:
                found.append([_session(vectors[rows], positive[rows], phrases[number], background,
                                       *way) for way in WAYS.values()])
        if found:
            queries.append(query)
            values.append(np.mean(found, axis=0))
    return queries, np.array(values).reshape(len(queries), len(WAYS), 4)


def _session(vectors, positive, phrase, background, steps, is_suggested, is_learned):
    """
    The four precisions of one table.
    """
    known = np.zeros(len(vectors), bool)
    query = phrase
    for _ in range(steps):
        n = _PAGE // steps
        order = np.argsort(-(vectors @ query), kind='stable')
        order = order[~known[order]]
        if is_suggested:
            near = order[:3 * n]
            scores = vectors[near] @ query
            order = near[instructive(vectors[near],
                                     np.exp((scores - scores.max()) / scores.std()),
                                     vectors[known], n)]
        known[order[:n]] = True
        liked, disliked = vectors[known & positive], vectors[known & ~positive]
        if is_learned:
            prior = phrase / (background.image @ phrase).std()
            query = learned_direction(prior, liked, disliked, background)
        else:
            terms = [(centroid(part), weight) for part, weight in (
                (liked, WEIGHTS['like']), (disliked, -WEIGHTS['unlike'])) if len(part)]
            query = query_vector([(phrase, WEIGHTS['text']), *terms], background.image)
    left, scores = ~known, vectors @ query
    first_page = np.where(known, np.where(positive, 9.0, -9.0), scores)
    return [_precision(vectors @ phrase, positive), _precision(first_page, positive),
            _precision((vectors @ phrase)[left], positive[left]),
            _precision(scores[left], positive[left])]


def _precision(scores, positive):
    first = np.argsort(-scores, kind='stable')[:_PAGE]
    return positive[first].sum() / max(min(_PAGE, positive.sum()), 1)


def _say_marked(name, queries, values):
    """Print what ten marks do."""
    print(f'\n{name}: {len(queries)} queries, precision at ten')
    for way, (before, page, rest, learned) in zip(WAYS, values.mean(axis=0), strict=True):
        print(f'  {way:28} first page {before:.3f} -> {page:.3f}, '
              f'images that were not marked {rest:.3f} -> {learned:.3f}')
    for label, now, before in (('first page', 1, 0), ('not marked', 3, 2)):
        change = values[:, 1, now] - values[:, 1, before]
        worst = int(change.argmin())
        print(f'  least change, {label}: {change[worst]:+.3f} ({queries[worst]}); '
              f'{(change < -0.02).sum()} of {len(queries)} below -0.02')


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
    parser.add_argument('--tables', type=int, default=8,
                        help='tables for each query of which ten images are marked')
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
    result = {'feedback': {}, 'marked': {}, 'alike': {}}
    for task in tasks_of(collection.pairs, np.flatnonzero(judged), read_queries()):
        found = feedback(vectors[task.rows], task, model.texts(task.queries), background,
                         draws=options.draws)
        result['feedback'][task.name] = {'rows': found[0], 'queries': found[1]}
        print(f'\n{task.name}: {found[1]} queries, mAP of what nothing was said of')
        for name, value, low, high in found[0]:
            print(f'  {name:32} {value:.3f}   {low:+.3f} to {high:+.3f}')
        if background is not None:
            queries, values = marked(vectors[task.rows], task, model.texts(task.queries),
                                     model.bundle.background, tables=options.tables)
            result['marked'][task.name] = dict(zip(queries, values.tolist(), strict=True))
            if queries:
                _say_marked(task.name, queries, values)
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
