# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a cosine means: how it compares with those of unrelated reference images. Pure numpy.

A cosine by itself says little. Its usual size differs from phrase to phrase, and from pictures to
metadata. So each is measured against a background that has nothing to do with the query. The
pictures of one archive look more like some phrases than those of another do, so what the background
says is asked archive by archive, where it is known which image is of which.
"""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ['LIKELY_CHANCE', 'STANDARD_RATE', 'TRUSTED_RATE', 'archives_of', 'chance',
           'false_alarm_rate', 'left_out_rate', 'place_rate', 'threshold', 'z_score']

LIKELY_CHANCE = 0.2
"""
A ranking that `chance` alone gives more often than this has nothing in it, as far as can be seen.
"""

STANDARD_RATE = 0.01
"""
The false-alarm rate at which a phrase is tried on archives that are left out.
"""

TRUSTED_RATE = 0.03
"""
What may pass of an archive that is left out, at the standard rate, before rates are not trusted.
"""

# The rate of one archive is drawn towards that of all by so many images: a few dozen tell little.
_DRAWN = 30

# Fewest unrelated images of an archive that is left out, or that a table is compared with alone.
_FEWEST_TRIED, _FEWEST_ALONE = 20, 100

# Standard deviations by which the rate of an archive that is left out may be there by bad luck.
_SURE = 1.28

# Quantiles by which the usual scores of a table are compared with those of an archive, and the two
# by which one is moved to the other. What is asked for may be in the upper half.
_USUAL = (0.1, 0.25, 0.5, 0.7)
_LOW, _MIDDLE = 0.1, 0.5

# Fewest rows that tell what is usual in a table.
_FEWEST_ROWS = 20

# Tables that are simulated: as they are, and moved, which takes longer.
_MANY, _SIMULATIONS = 999, 199

# Standard deviations from the median of a normal distribution to its upper decile.
_DECILE = 1.2816

# The part of the unrelated scores whose tail is taken to be exponential.
_TAIL = 0.1


def z_score(cosines: np.ndarray, background: np.ndarray) -> np.ndarray:
    """
    Cosines (n,) in standard deviations above those of the background (m,); NaN does not count.
    """
    return (cosines - np.nanmean(background)) / max(float(np.nanstd(background)), 1e-6)


def false_alarm_rate(cosines: np.ndarray, background: np.ndarray,
                     source: np.ndarray | None = None) -> np.ndarray:
    """
    How often an unrelated image scores at least as high as each cosine (n,); float32, NaN for NaN.

    It is ``(k + 1) / (m + 1)``, where ``k`` of ``m`` reference images score at least as high: the
    image itself is counted with them, so that it is never 0, and an image drawn like them is at or
    below a rate with just that probability (Phipson and Smyth 2010,
    doi:10.2202/1544-6115.1585). With ``source`` (m,), the number of the archive that each reference
    image is from, it is that of the archive in which this happens most often; an archive counts as
    if it had 30 images more, which are like those of all.
    """
    order = np.argsort(background)[:int((~np.isnan(background)).sum())]  # NaN is last
    # It changes only from one reference to the next: the rate of what has so many of them below.
    above = np.arange(len(order), -1, -1)
    rates = of_all = (above + 1) / (len(order) + 1)
    if source is not None:
        for number in np.unique(source[order]):
            own = source[order] == number
            above = np.append(own[::-1].cumsum()[::-1], 0)
            rates = np.maximum(rates, (above + _DRAWN * of_all) / (above[0] + _DRAWN))
    rate = rates.astype(np.float32)[np.searchsorted(background[order], cosines, side='left')]
    rate[np.isnan(cosines)] = np.nan
    return rate


def place_rate(fit: np.ndarray, background: np.ndarray, chances: float) -> np.ndarray:
    """
    How often an unrelated picture has a place that fits at least as well as each of these (n,);
    float32.

    Of many windows the best is far out in the tail, where references are too few to count: it is
    taken to be that of a normal distribution with the median and the upper decile of all
    unrelated images together. ``chances`` windows of a picture tell different things, each of
    which may be what fits by chance.
    """
    known = background[~np.isnan(background)]
    middle, high = np.quantile(known, (0.5, 0.9))
    spread = max(float(high - middle) / _DECILE, 1e-6)
    share = [math.erfc(float(value - middle) / spread / math.sqrt(2)) / 2 for value in fit]
    rate: np.ndarray = -np.expm1(chances * np.log1p(-np.minimum(share, 1 - 1e-12)))
    return rate.astype(np.float32)


def threshold(background: np.ndarray, rate: float, source: np.ndarray | None = None) -> float:
    """
    The cosine above which an image is at or below a false-alarm rate, as far as references tell.
    """
    known = ~np.isnan(background)
    rates = false_alarm_rate(background, background, source)[known]
    return float(np.append(background[known][rates > rate], -np.inf).max())


def left_out_rate(background: np.ndarray, source: np.ndarray) -> float:
    """
    How many of an archive's unrelated images pass, at the least, where one in a hundred should.

    One archive after the other is left out and judged by all others. Returned is the worst of the
    shares that are at or below `STANDARD_RATE`, less what bad luck would explain (the lower end of
    Wilson's interval at 10 %); NaN if no two archives have enough unrelated images.
    """
    known = ~np.isnan(background)
    numbers = [number for number in np.unique(source[known])
               if (known & (source == number)).sum() >= _FEWEST_TRIED]
    if len(numbers) < 2:
        return float('nan')
    found = []
    for number in numbers:
        tried, others = known & (source == number), known & (source != number)
        passed = false_alarm_rate(background[tried], background[others],
                                  source[others]) <= STANDARD_RATE
        found.append(_at_least(float(passed.mean()), int(tried.sum())))
    return max(found)


def _at_least(share: float, size: int) -> float:
    """
    The lower end of Wilson's interval of a share.
    """
    squared = _SURE**2 / size
    spread = np.sqrt(squared * (share * (1 - share) + squared / 4))
    return max(float((share + squared / 2 - spread) / (1 + squared)), 0.0)


def archives_of(background: np.ndarray, source: np.ndarray | None) -> list[np.ndarray]:
    """
    Positions of the unrelated images of each archive that has enough of them; of all together if
    none has.
    """
    known = ~np.isnan(background)
    found = [] if source is None else [
        np.flatnonzero(known & (source == number)) for number in np.unique(source[known])]
    return [rows for rows in found if len(rows) >= _FEWEST_ALONE] or [np.flatnonzero(known)]


def chance(score: np.ndarray, unrelated: Sequence[np.ndarray]) -> float:
    """
    How often unrelated rows would stand out as much as the best of these; NaN if there are none.

    ``unrelated`` has, for each reference archive, the scores that rows would have if no row showed
    what is asked. The rows are compared with the archive whose usual scores are most like theirs,
    twice: as they are, and moved and stretched to what is usual in it, for no archive is quite like
    another. The greater of the two probabilities is returned. A table of fewer than 20 rows
    does not tell what is usual in it, and is compared once, with all archives together.

    What is compared are the ``k`` best rows, k = 1, 2, 4, ... up to a quarter of them, with the
    number ``E`` expected at or above the ``k``-th: ``k log(k / E) - k + E``, the largest of all
    (after Berk and Jones 1979). One row far above all others counts, and so do many of a large
    table none of which alone could be told from chance. How large it gets by chance is simulated,
    by hundreds of tables and archives of these sizes that are drawn alike and compared in the same
    way.
    """
    score = np.sort(score[~np.isnan(score)])
    if not len(score) or not sum(map(len, unrelated)):
        return float('nan')
    if len(score) < _FEWEST_ROWS:
        return _probability(score, np.concatenate(unrelated), (False,))
    usual = np.quantile(score, _USUAL)
    near = min(unrelated, key=lambda null: float(np.abs(np.quantile(null, _USUAL) - usual).mean()))
    return _probability(score, near, (False, True))


def _probability(score: np.ndarray, unrelated: np.ndarray, ways: Sequence[bool]) -> float:
    """
    How often as much stands out of as many rows that are drawn like the unrelated ones: the larger
    of that of the scores as they are, and of that where the rows are moved to the unrelated ones.
    ``score`` is sorted.
    """
    n_rows, unrelated = len(score), np.sort(unrelated)
    counts = 2 ** np.arange(max(n_rows // 4, 1).bit_length())
    # Places of the rows that matter, from the top: the best, the median and a low one.
    places = np.append(counts, [max(round((1 - low) * n_rows), 1) for low in (_MIDDLE, _LOW)])
    best, middle, low = np.split(score[n_rows - places], [len(counts), len(counts) + 1])
    rng = np.random.default_rng(0)
    found = 0.0
    for moved in ways:
        simulate = _simulated_moved if moved else _simulated
        simulated = simulate(unrelated, counts, places, n_rows, rng)
        share = (_share_above(_moved(best, middle, low, unrelated), unrelated) if moved
                 else (_n_above(best, unrelated) + 1) / (len(unrelated) + 1))
        excess = _largest_excess(n_rows * share, counts)
        found = max(found, ((simulated >= excess - 1e-9).sum() + 1) / (len(simulated) + 1))
    return float(found)


def _simulated(unrelated: np.ndarray, counts: np.ndarray, places: np.ndarray, n_rows: int,
               rng: np.random.Generator) -> np.ndarray:
    """
    What stands out of tables and archives that are drawn alike. Whatever they are drawn from, only
    the order counts: so many of an archive are above each row with the binomial distribution.
    """
    tops = _tops(n_rows, places[:len(counts)], _MANY, rng)
    above = np.zeros(tops.shape, int)
    n_above, before = np.zeros(_MANY, int), np.zeros(_MANY)
    for k, top in enumerate(tops.T):
        share = np.clip((top - before) / np.maximum(1 - before, 1e-12), 0, 1)
        n_above = n_above + rng.binomial(len(unrelated) - n_above, share)
        above[:, k], before = n_above, top
    return _largest_excess(n_rows * (above + 1) / (len(unrelated) + 1), counts)


def _simulated_moved(unrelated: np.ndarray, counts: np.ndarray, places: np.ndarray, n_rows: int,
                     rng: np.random.Generator) -> np.ndarray:
    """
    The same where each table is moved to the archive that it is compared with.
    """
    tables = _drawn_from(unrelated, _tops(n_rows, places, _SIMULATIONS, rng))
    # Uniform variables in order, without sorting them.
    sums = rng.standard_exponential((_SIMULATIONS, len(unrelated) + 1)).cumsum(axis=1)
    archives = _drawn_from(unrelated, 1 - sums[:, :-1] / sums[:, -1:])
    best, middle, low = np.split(tables, [len(counts), len(counts) + 1], axis=1)
    shares = np.array([
        _share_above(_moved(rows, one, other, archive), archive)
        for rows, one, other, archive in zip(best, middle, low, archives, strict=True)])
    return _largest_excess(n_rows * shares, counts)


def _tops(n_rows: int, places: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """
    What fraction of the unrelated is above the rows in some places of tables that are drawn at
    random (n, places).

    Distances between uniform variables in order are those of sums of exponential ones.
    """
    order, back = np.unique(places, return_inverse=True)
    steps = np.diff(order, prepend=0)
    sums = rng.standard_gamma(steps, size=(n, len(steps))).cumsum(axis=1)
    tops: np.ndarray = sums / (sums[:, -1:] + rng.standard_gamma(
        n_rows + 1 - order[-1], size=(n, 1)))
    return tops[:, back]


def _drawn_from(reference: np.ndarray, above: np.ndarray) -> np.ndarray:
    """
    Scores that given fractions of a sorted reference are above; its upper tenth is exponential, for
    a table may have more rows than there are references.
    """
    size = len(reference)
    fractions = 1 - (np.arange(size) + 0.5) / size
    cut = np.interp(1 - _TAIL, 1 - fractions, reference)
    tail = reference[reference > cut]
    scale = float((tail - cut).mean()) if len(tail) else 0.0
    drawn: np.ndarray = np.where(
        above < _TAIL, cut + scale * np.log(_TAIL / np.maximum(above, 1e-300)),
        np.interp(1 - above, 1 - fractions, reference))
    return drawn


def _moved(best: np.ndarray, middle: np.ndarray, low: np.ndarray,
           reference: np.ndarray) -> np.ndarray:
    """
    The best rows of a table that is moved and stretched to a sorted reference, by the median and a
    low quantile.
    """
    its_low, its_middle = (reference[int(share * (len(reference) - 1))]
                           for share in (_LOW, _MIDDLE))
    spread = float(middle[0] - low[0])
    return (best - middle) * ((its_middle - its_low) / spread if spread > 0 else 1) + its_middle


def _share_above(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """
    What part of a sorted reference is above each score; its upper tenth is taken to be exponential,
    so that it counts how far above all of them a score is.
    """
    tail = reference[int((1 - _TAIL) * len(reference)):]
    scale = max(float((tail - tail[0]).mean()), 1e-12)
    beyond = np.maximum(scores - tail[0], 0) / scale
    share: np.ndarray = np.where(beyond > 0, _TAIL * np.exp(-beyond), (
        _n_above(scores, reference) + 1) / (len(reference) + 1))
    return np.maximum(share, 1e-300)


def _largest_excess(expected: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """
    How much more of the best rows there are than expected; the last axis is that of ``counts``.
    """
    excess = np.where(expected < counts,
                      counts * np.log(counts / expected) - counts + expected, 0.0)
    most: np.ndarray = excess.max(axis=-1)
    return most


def _n_above(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """
    How many of some sorted references are at least as high as each score.
    """
    return len(reference) - np.searchsorted(reference, scores, side='left')
