# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Embeddings -> scores -> order. Pure numpy.

A cosine by itself says little: its usual size differs from phrase to phrase and from picture to
words. So each is measured against a background of things that have nothing to do with the query
(`standardise`), and the two are added with weights that were fitted on development data.
There is always a best row; `surprise` says how often chance alone gives one like it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ['NO_WORDS', 'SURPRISING', 'WEIGHTS', 'Scores', 'centroid', 'combine', 'compose',
           'exceedance', 'normalise', 'order', 'standardise', 'surprise']

# What each part of a query counts, see compose; how they were chosen is in docs/user_guide/scores.
WEIGHTS = {'text': 1.0, 'negative': 0.5, 'like': 0.5, 'unlike': 0.5}

NO_WORDS = 0.6
"""
Standardised cosine that stands for words that a row does not have: those of a row that shows what
is asked are above it on average, those of other rows below.
"""

SURPRISING = 0.5
"""
A ranking that chance alone gives more often than this has nothing in it, as far as can be seen; see
`surprise`.
"""

# Unrelated pictures of one archive pass a threshold up to twice as often as those of all archives.
_ALLOWANCE = 2.0


@dataclass(frozen=True)
class Scores:
    """
    Scores of the rows of a table; NaN where a row has none.

    Attributes
    ----------
    score : ndarray
        What the order follows, shape ``(n,)``, float32.
    image, text : ndarray
        Cosine of the picture and of the words, shape ``(n,)``, float32.
    false_alarm : ndarray
        Fraction of unrelated images that score at least as high, shape ``(n,)``, float32; see
        `exceedance`.
    chance : float
        How often as many unrelated rows hold scores as high as the best of these, see `surprise`;
        NaN if there is nothing to compare with.
    """

    score: np.ndarray
    image: np.ndarray
    text: np.ndarray
    false_alarm: np.ndarray
    chance: float = float('nan')


def normalise(vectors: np.ndarray) -> np.ndarray:
    """
    Scale vectors to unit length.

    Parameters
    ----------
    vectors : ndarray
        Shape ``(n, d)``.

    Returns
    -------
    ndarray
        Shape ``(n, d)``, float32; a zero vector stays zero.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def centroid(positive: np.ndarray, negative: np.ndarray | None = None,
             weight: float = WEIGHTS['negative']) -> np.ndarray:
    """
    One query vector from several phrases or images.

    Parameters
    ----------
    positive : ndarray
        Unit vectors of the phrases, shape ``(m, d)``; they are averaged.
    negative : ndarray, optional
        Unit vectors of phrases to move away from, shape ``(k, d)``.
    weight : float
        How much of their average is subtracted.

    Returns
    -------
    ndarray
        Unit vector, shape ``(d,)``.
    """
    query = positive.mean(axis=0)
    if negative is not None and len(negative):
        query = query - weight * negative.mean(axis=0)
    return normalise(query[None])[0]


def compose(terms: Sequence[tuple[np.ndarray, float]],
            background: np.ndarray | None = None) -> np.ndarray:
    """
    One query vector from phrases and example images.

    Cosines between two images are larger and spread wider than those between an image and a
    phrase, so each is divided by its standard deviation over the background before they are added
    with their weights. As cosines are linear, their sum is again the product with one vector, and
    all that is said of a cosine holds for it, false-alarm rates too. Without a background it is
    the formula of Rocchio (Manning, Raghavan and Schuetze 2008, eq. 9.3).

    Parameters
    ----------
    terms : sequence of tuple
        Unit vector, shape ``(d,)``, and weight of each term; what is not wanted has a negative
        weight.
    background : ndarray, optional
        Unit vectors of the background images, shape ``(m, d)``.

    Returns
    -------
    ndarray
        Unit vector, shape ``(d,)``; the vector itself if there is but one and it is wanted.
    """
    if len(terms) == 1 and terms[0][1] > 0:
        return terms[0][0]
    spreads = [1.0 if background is None else max(float((background @ vector).std()), 1e-6)
               for vector, _ in terms]
    total = sum(weight / spread * vector
                for (vector, weight), spread in zip(terms, spreads, strict=True))
    return normalise(total[None])[0]


def standardise(cosines: np.ndarray, background: np.ndarray) -> np.ndarray:
    """
    Cosines in standard deviations above those of the background.

    Parameters
    ----------
    cosines : ndarray
        Cosines of the rows to the query, shape ``(n,)``.
    background : ndarray
        Cosines of the background to the same query, shape ``(m,)``; NaN does not count.

    Returns
    -------
    ndarray
        Shape ``(n,)``; NaN stays NaN.
    """
    return (cosines - np.nanmean(background)) / max(float(np.nanstd(background)), 1e-6)


def exceedance(cosines: np.ndarray, background: np.ndarray) -> np.ndarray:
    """
    How often an unrelated image scores at least as high.

    It is ``(k + 1) / (m + 1)``, where ``k`` of ``m`` reference images score at least as high: the
    image itself is counted with them, so that it is never 0, and an image drawn like them is at or
    below a rate with just that probability (Phipson and Smyth 2010,
    doi:10.2202/1544-6115.1585).

    Parameters
    ----------
    cosines : ndarray
        Cosines of the rows to the query, shape ``(n,)``.
    background : ndarray
        Cosines of the background to the same query, shape ``(m,)``; NaN does not count.

    Returns
    -------
    ndarray
        Values above 0 up to 1, shape ``(n,)``, float32; NaN stays NaN.
    """
    reference = np.sort(background[~np.isnan(background)])
    rank = np.searchsorted(reference, cosines, side='left')
    rate = ((len(reference) - rank + 1) / (len(reference) + 1)).astype(np.float32)
    rate[np.isnan(cosines)] = np.nan
    return rate


def surprise(score: np.ndarray, unrelated: Callable[[np.ndarray], np.ndarray]) -> float:
    """
    How often chance alone gives scores like the best of these.

    With ``E(s)`` unrelated rows expected at or above a score, the ``k`` best rows are as good by
    chance with the probability that a Poisson variable of mean ``2 E`` of the ``k``-th score
    reaches ``k``; the 2 allows for archives whose unrelated pictures score higher than those of
    the background. The least of these probabilities for k = 1, 2, 4, ... up to a quarter of the
    rows is returned (after Berk and Jones 1979): one row far above all others counts, and so do
    many of a large table none of which alone could be told from chance.

    Parameters
    ----------
    score : ndarray
        Scores of all rows, shape ``(n,)``, NaN where there is none.
    unrelated : callable
        Number of rows that are expected at or above each of some scores if none shows what is
        asked: from shape ``(k,)`` to shape ``(k,)``.

    Returns
    -------
    float
        Between 0 and 1; NaN if no row has a score.
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


def combine(image: np.ndarray, text: np.ndarray, *, by: str = 'both',
            weights: tuple[float, float] | None = None,
            image_background: np.ndarray | None = None,
            text_background: np.ndarray | None = None) -> Scores:
    """
    The score that a table is ordered by.

    With ``by='both'`` it is ``w_image * z_image + w_text * z_text``, where ``z`` is `standardise`.
    A row without words has ``z_text = NO_WORDS``: neither what words that fit give nor what others
    do. A row without a picture has no score. A model without fitted weights or background is
    ranked by cosine alone.

    Parameters
    ----------
    image, text : ndarray
        Cosines of pictures and words to the query, shape ``(n,)``, NaN where there is none.
    by : {'both', 'image', 'text'}
        What counts.
    weights : tuple of float, optional
        Fitted weights of picture and words.
    image_background, text_background : ndarray, optional
        Cosines of the background to the same query; NaN does not count.

    Returns
    -------
    Scores
        Shape ``(n,)`` each.
    """
    image, text = (np.asarray(a, dtype=np.float32) for a in (image, text))
    z_image, null_image = _against(image, image_background)
    z_text, null_text = _against(text, text_background)
    if by == 'both' and not (weights is None or null_image is None or null_text is None):
        w_image, w_text = weights
        score = w_image * z_image + w_text * np.where(np.isnan(z_text), NO_WORDS, z_text)
        wordless = np.isnan(text)[~np.isnan(image)]
        kinds = [(null_text, int((~wordless).sum())),
                 (np.array([NO_WORDS]), int(wordless.sum()))]
        chance = surprise(score, lambda best: sum(
            n_rows * _reached(best, w_image * null_image, w_text * words)
            for words, n_rows in kinds if n_rows))
    else:
        score, null = {'image': (z_image, null_image), 'text': (z_text, null_text),
                       'both': (image, image_background)}[by]
        chance = float('nan') if null is None else surprise(score, lambda best: (
            np.isfinite(score).sum() * exceedance(best, null)))
    if null_image is None:
        false_alarm = np.full(len(image), np.nan, dtype=np.float32)
    else:
        false_alarm = exceedance(image, image_background)
    return Scores(np.asarray(score, dtype=np.float32), image, text, false_alarm, chance)


def _against(cosines: np.ndarray,
             background: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Standardised cosines of the rows and, in order, of the background.
    """
    if background is None:
        return cosines, None
    known = background[~np.isnan(background)]
    return standardise(cosines, known), np.sort(standardise(known, known))


def _reached(scores: np.ndarray, image: np.ndarray, text: np.ndarray) -> np.ndarray:
    """
    How often the sum of an unrelated picture's term and of unrelated words' is at least as high.

    Every picture is put beside all words, as the two are independent where neither is related.
    """
    share = np.array([1 - np.searchsorted(text, score - image).mean() / len(text)
                      for score in scores])
    return (share * len(image) + 1) / (len(image) + 1)


def order(score: np.ndarray) -> np.ndarray:
    """
    Rows from best to worst; rows without a score come last, ties keep their order.

    Parameters
    ----------
    score : ndarray
        Shape ``(n,)``, NaN where there is none; told apart as float32.

    Returns
    -------
    ndarray
        Indices, shape ``(n,)``.
    """
    values = np.where(np.isnan(score), np.inf, 0 - score).astype(np.float32)
    # Bits of floats are in the order of their values, but for those below zero, which go backwards.
    bits = values.view(np.int32).astype(np.int64)
    bits ^= (bits >> 31) & 0x7fffffff
    # One number of value and place: numpy sorts integers eight times as fast as it sorts places.
    return np.sort((bits << 32) | np.arange(len(bits))) & 0xffffffff
