"""
Metrics of rankings: one column of scores per query, one row per image.

Images of equal score are in no order. The area under the curve counts such a pair as one
half, the average precision takes them in at once (both as scikit-learn does), the measures of
the first places are means over all orders, and the first positive is where it is on average.
So nothing depends on the order of the rows.
"""

import numpy as np

__all__ = ['METRICS', 'area_difference', 'area_under_curve', 'average_precision', 'bootstrap',
           'group_bootstrap', 'interval', 'measure', 'ndcg', 'random_retrieval', 'retrieval',
           'strata_of']

#: What `measure` computes, in order. R@k is the number of positives among the first k, divided by
#: k or, if that is less, the number of positives; MRR one over the rank of the first positive.
METRICS = ('AUC', 'AP', 'P@10', 'nDCG@10', 'R@1', 'R@5', 'R@10', 'MRR')


def measure(scores, positive):
    """
    Score rankings, one per query.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n, queries)
        Score of each image for each query.
    positive : `numpy.ndarray` of bool, shape (n, queries)
        Truth.

    Returns
    -------
    values : `numpy.ndarray` of float, shape (queries, len(METRICS))
        NaN for a query without positives or without negatives.
    """
    order = np.argsort(-scores, axis=0)
    groups = _groups(np.take_along_axis(scores, order, 0).T)
    return _measure_sorted(groups, np.take_along_axis(positive, order, 0).T)


def _groups(scores):
    """Number the groups of equal scores along the last axis; scores descend."""
    groups = np.zeros(scores.shape, np.int32)
    np.cumsum(scores[:, 1:] != scores[:, :-1], axis=1, out=groups[:, 1:])
    return groups


def _measure_sorted(groups, hits):
    """Compute all metrics of rankings that are rows, best first, with groups of equal scores."""
    length = hits.shape[1]
    place = np.arange(length)
    new = np.diff(groups, axis=1, prepend=-1) != 0
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    last = np.diff(groups, axis=1, append=-1) != 0
    last = np.minimum.accumulate(np.where(last, place, length)[:, ::-1], axis=1)[:, ::-1]
    found = np.cumsum(hits, axis=1)
    count = found[:, -1].astype(float)
    within = np.take_along_axis(found, last, 1)
    before = np.take_along_axis(found - hits, first, 1)
    # The share of positives in its group stands for an image: the mean over the group's orders.
    share = (within - before) / (last - first + 1)
    with np.errstate(divide='ignore', invalid='ignore'):
        # A negative loses to the positives above it, and half to those beside it.
        lost = np.where(hits, 0, (before + within) / 2).sum(1)
        area = lost / (count * (length - count))
        precision = (hits * within / (last + 1)).sum(1) / count
        gain = 1 / np.log2(np.arange(min(10, length)) + 2)
        ideal = np.concatenate([[0], np.cumsum(gain)])
        ndcg = share[:, :10] @ gain / ideal[np.minimum(count, len(gain)).astype(int)]
        recalls = [share[:, :k].sum(1) / np.minimum(k, count) for k in (1, 5, 10)]
        top = hits.argmax(1)[:, None]
        start, end, some = (np.take_along_axis(array, top, 1)[:, 0]
                            for array in (first, last, within - before))
        reciprocal = 1 / (start + (end - start + 2) / (some + 1))
    values = np.stack([area, precision, share[:, :10].mean(1), ndcg, *recalls, reciprocal], axis=1)
    values[(count == 0) | (count == length)] = np.nan
    return values


def ndcg(scores, relevance, *, places=10):
    """
    Score rankings by graded relevance.

    The gain is ``2**relevance - 1``, the discount the binary logarithm of the rank plus one, and
    the ideal that of all images: as AION-1 and AION-Search measure, with shares of votes.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n, queries)
        Score of each image for each query.
    relevance : `numpy.ndarray` of float, shape (n, queries)
        Zero or more. Equal scores for all images give what chance gives on average.
    places : int, optional
        How many of the first images count.

    Returns
    -------
    values : `numpy.ndarray` of float, shape (queries,)
        Between 0 and 1; NaN for a query to which nothing is relevant.
    """
    gains = np.exp2(relevance.T) - 1
    order = np.argsort(-scores.T, axis=1)
    groups = _groups(np.take_along_axis(scores.T, order, 1))
    discount = 1 / np.log2(np.arange(min(places, len(scores))) + 2)
    ideal = -np.sort(-gains, axis=1)[:, :places] @ discount
    values = np.empty(len(gains))
    for query, (group, gain) in enumerate(
            zip(groups, np.take_along_axis(gains, order, 1), strict=True)):
        mean = np.bincount(group, gain) / np.bincount(group)
        values[query] = mean[group[:places]] @ discount
    with np.errstate(divide='ignore', invalid='ignore'):
        return values / ideal


def strata_of(positive, sources=None):
    """
    Sort images into strata: the rarest class that each belongs to, per source.

    Parameters
    ----------
    positive : `numpy.ndarray` of bool, shape (n, queries)
        Truth.
    sources : sequence of str, optional
        Source of each image.

    Returns
    -------
    strata : `numpy.ndarray` of int, shape (n,)
        Number of the stratum of each image.
    """
    size = np.where(positive, positive.sum(0), len(positive) + 1)
    rarest = np.where(positive.any(1), size.argmin(1), -1)
    source = np.unique(sources, return_inverse=True)[1] if sources is not None else 0
    return np.unique(rarest + (positive.shape[1] + 1) * source, return_inverse=True)[1]


def draw_rows(strata, draws, rng):
    """Draw bootstrap samples: rows with replacement inside each stratum, shape (draws, n)."""
    rows = np.empty((draws, len(strata)), np.int32)
    for number in np.unique(strata):
        members = np.flatnonzero(strata == number)
        rows[:, members] = members[rng.integers(len(members), size=(draws, len(members)))]
    return rows


def bootstrap(scores, positive, *, strata=None, draws=200, seed=0):
    """
    Score bootstrap samples of the images, the same images for all queries.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n, queries)
        Score of each image for each query.
    positive : `numpy.ndarray` of bool, shape (n, queries)
        Truth.
    strata : `numpy.ndarray` of int, shape (n,), optional
        Images are drawn within each stratum; by default those of `strata_of`.
    draws : int, optional
        Number of samples.
    seed : int, optional
        Two calls with one seed and the same strata draw the same images.

    Returns
    -------
    values : `numpy.ndarray` of float, shape (draws, queries, len(METRICS))
        As `measure`. The variance of training and of wording is not in it.
    """
    strata = strata_of(positive) if strata is None else strata
    rows = draw_rows(strata, draws, np.random.default_rng(seed))
    length = len(strata)
    counts = np.zeros((draws, length), np.int32)
    np.add.at(counts, (np.arange(draws)[:, None], rows), 1)
    values = np.empty((draws, scores.shape[1], len(METRICS)))
    for query in range(scores.shape[1]):
        order = np.argsort(-scores[:, query])
        groups = _groups(scores[order, query][None])[0]
        # Each sample has as many images as there are, so that repeats fill whole rows.
        chosen = np.repeat(np.tile(np.arange(length), draws), counts[:, order].ravel())
        chosen = chosen.reshape(draws, length)
        values[:, query] = _measure_sorted(groups[chosen], positive[order, query][chosen])
    return values


def group_bootstrap(values, groups, *, draws=200, seed=0):
    """
    Average bootstrap samples of groups, such as the images of a proposal.

    Parameters
    ----------
    values : `numpy.ndarray` of float, shape (n, m)
        Several numbers about each image.
    groups : `numpy.ndarray` of int, shape (n,)
        Group of each image, from zero; groups are drawn whole.
    draws : int, optional
        Number of samples.
    seed : int, optional
        Two calls with one seed and as many groups draw the same ones.

    Returns
    -------
    means : `numpy.ndarray` of float, shape (draws, m)
        Over the images of each sample.
    """
    size = np.bincount(groups)
    total = np.stack([np.bincount(groups, column) for column in values.T], axis=1)
    times = np.random.default_rng(seed).multinomial(
        len(size), np.full(len(size), 1 / len(size)), size=draws)
    return (times @ total) / (times @ size)[:, None]


def interval(samples, value=None):
    """
    Return the central 95 %.

    Parameters
    ----------
    samples : `numpy.ndarray` of float, shape (draws, ...)
        Bootstrap values; NaN is left out.
    value : `numpy.ndarray` of float, shape (...), optional
        What was measured, between 0 and 1. An image that was drawn twice raises the precision
        of itself; with this, samples are shifted so that their mean is what was measured.

    Returns
    -------
    low, high : `numpy.ndarray` of float, shape (...)
        Percentiles 2.5 and 97.5.
    """
    low, high = np.nanpercentile(samples, [2.5, 97.5], axis=0)
    if value is None:
        return low, high
    shift = value - np.nanmean(samples, axis=0)
    return np.clip(low + shift, 0, 1), np.clip(high + shift, 0, 1)


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
        The chance that a positive scores above a negative; equal scores count one half.
    """
    return float(measure(scores[:, None], positive[:, None])[0, 0])


def average_precision(scores, positive):
    """
    Compute the average precision.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n,)
        Score of each image.
    positive : `numpy.ndarray` of bool, shape (n,)
        Truth, with at least one positive and one negative.

    Returns
    -------
    precision : float
        The mean, over positives, of the precision down to that positive and its equals.
    """
    return float(measure(scores[:, None], positive[:, None])[0, 1])


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
    return [float(value) for value in np.nanmean(measure(scores, positive)[:, :3], axis=0)]


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
    areas = [np.nanmean(bootstrap(scores, positive, draws=draws)[:, :, 0], axis=1)
             for scores in (first, second)]
    low, high = interval(areas[0] - areas[1])
    return float(low), float(high)
