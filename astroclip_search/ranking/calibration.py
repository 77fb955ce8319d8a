# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a cosine means: how it compares with those of unrelated reference images. Pure numpy.

A cosine by itself says little. Its usual size differs from phrase to phrase, and from pictures to
metadata. So each is measured against a background that has nothing to do with the query.
"""

from collections.abc import Callable

import numpy as np

__all__ = ['LIKELY_CHANCE', 'chance', 'false_alarm_rate', 'z_score']

LIKELY_CHANCE = 0.5
"""
A ranking that `chance` alone gives more often than this has nothing in it, as far as can be seen.
"""

# Unrelated pictures of one archive pass a threshold up to twice as often as those of all archives.
_ALLOWANCE = 2.0


def z_score(cosines: np.ndarray, background: np.ndarray) -> np.ndarray:
    """
    Cosines (n,) in standard deviations above those of the background (m,); NaN does not count.
    """
    return (cosines - np.nanmean(background)) / max(float(np.nanstd(background)), 1e-6)


def false_alarm_rate(cosines: np.ndarray, background: np.ndarray) -> np.ndarray:
    """
    How often an unrelated image scores at least as high as each cosine (n,); float32, NaN for NaN.

    It is ``(k + 1) / (m + 1)``, where ``k`` of ``m`` reference images score at least as high: the
    image itself is counted with them, so that it is never 0, and an image drawn like them is at or
    below a rate with just that probability (Phipson and Smyth 2010,
    doi:10.2202/1544-6115.1585).
    """
    reference = np.sort(background[~np.isnan(background)])
    rank = np.searchsorted(reference, cosines, side='left')
    rate = ((len(reference) - rank + 1) / (len(reference) + 1)).astype(np.float32)
    rate[np.isnan(cosines)] = np.nan
    return rate


def chance(score: np.ndarray, unrelated: Callable[[np.ndarray], np.ndarray]) -> float:
    """
    How often chance alone gives scores like the best of these; NaN if no row has a score.

    ``unrelated`` gives the number of rows ``E(s)`` that are expected at or above each of some
    scores if no row shows what is asked. The ``k`` best rows are as good by chance with the
    probability that a Poisson variable of mean ``2 E`` of the ``k``-th score reaches ``k``; the 2
    allows for archives whose unrelated pictures score higher than those of the background. The
    least of these probabilities for k = 1, 2, 4, ... up to a quarter of the rows is returned (after
    Berk and Jones 1979). One row far above all others counts, and so do many of a large table none
    of which alone could be told from chance.
    """
    score = score[~np.isnan(score)]
    if not len(score):
        return float('nan')
    counts = 2 ** np.arange(max(len(score) // 4, 1).bit_length())
    places = len(score) - counts
    best = np.partition(score, places)[places]
    means = np.maximum(_ALLOWANCE * unrelated(best), 1e-12)
    return float(min(_poisson_tail(int(count), float(mean))
                     for count, mean in zip(counts, means, strict=True)))


def _poisson_tail(count: int, mean: float) -> float:
    """
    Probability that a Poisson variable is at least as large.
    """
    below = np.arange(count)
    logarithms = below * np.log(mean) - np.cumsum(np.log(np.maximum(below, 1))) - mean
    return min(max(1 - float(np.exp(logarithms).sum()), 0.0), 1.0)
