"""
Metrics of rankings: one column of scores per query, one row per image.
"""

import numpy as np

__all__ = ['area_difference', 'area_under_curve', 'average_precision', 'random_retrieval',
           'retrieval']


def area_under_curve(scores, positive):
    """
    Compute the area under the ROC curve.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n,)
        Score of each image.
    positive : `numpy.ndarray` of bool, shape (n,)
        Truth, with at least one positive and one negative.

    Returns
    -------
    area : float
        The chance that a positive scores above a negative; of equal scores the
        later image counts as the lower one.
    """
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind='stable')] = np.arange(len(scores), 0, -1)
    count = int(positive.sum())
    area = ranks[positive].sum() - count * (count + 1) / 2
    return float(area / (count * (len(scores) - count)))


def average_precision(scores, positive):
    """
    Compute the average precision.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n,)
        Score of each image.
    positive : `numpy.ndarray` of bool, shape (n,)
        Truth, with at least one positive.

    Returns
    -------
    precision : float
        The mean, over positives, of the precision down to that positive.
    """
    hits = positive[np.argsort(-scores, kind='stable')]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def retrieval(scores, positive):
    """
    Score rankings, one per query.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n, queries)
        Score of each image for each query.
    positive : `numpy.ndarray` of bool, shape (n, queries)
        Truth; a query without positives or without negatives is left out.

    Returns
    -------
    metrics : list of float
        Means over queries: area under the ROC curve, average precision, and the
        fraction of positives among the first ten.
    """
    rows = [
        (area_under_curve(score, truth), average_precision(score, truth),
         truth[np.argsort(-score, kind='stable')[:10]].mean())
        for score, truth in zip(scores.T, positive.T, strict=True)
        if 0 < truth.sum() < len(truth)
    ]
    return [float(value) for value in np.mean(rows, axis=0)]


def random_retrieval(positive, *, draws=20):
    """
    Score chance.

    Parameters
    ----------
    positive : `numpy.ndarray` of bool, shape (n, queries)
        Truth.
    draws : int, optional
        Random rankings averaged.

    Returns
    -------
    metrics : list of float
        As `retrieval`.
    """
    rng = np.random.default_rng(0)
    runs = [retrieval(rng.random(positive.shape), positive) for _ in range(draws)]
    return [float(value) for value in np.mean(runs, axis=0)]


def area_difference(first, second, positive, *, draws=200):
    """
    Bootstrap the difference in mean area of two sets of rankings over images.

    Parameters
    ----------
    first, second : `numpy.ndarray` of float, shape (n, queries)
        Scores.
    positive : `numpy.ndarray` of bool, shape (n, queries)
        Truth.
    draws : int, optional
        Bootstrap samples.

    Returns
    -------
    low, high : float
        The central 95 %. The variance of training and of the wording is not in it.
    """
    rng = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        rows = rng.integers(len(positive), size=len(positive))
        pair = [retrieval(scores[rows], positive[rows])[0] for scores in (first, second)]
        values.append(pair[0] - pair[1])
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
