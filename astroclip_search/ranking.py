# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Embeddings -> scores -> order. Pure numpy.

A cosine by itself says little: its usual size differs from phrase to phrase and from picture to
words. So each is measured against a background of things that have nothing to do with the query
(`standardise`), and the two are added with weights that were fitted on development data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ['WEIGHTS', 'Scores', 'centroid', 'combine', 'compose', 'exceedance', 'normalise',
           'order', 'standardise']

# What each part of a query counts, see compose; how they were chosen is in docs/user_guide/scores.
WEIGHTS = {'text': 1.0, 'negative': 0.5, 'like': 0.5, 'unlike': 0.5}


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
        Fraction of the background images that score at least as high, shape ``(n,)``, float32.
    """

    score: np.ndarray
    image: np.ndarray
    text: np.ndarray
    false_alarm: np.ndarray


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
        Cosines of the background to the same query, shape ``(m,)``.

    Returns
    -------
    ndarray
        Shape ``(n,)``; NaN stays NaN.
    """
    return (cosines - background.mean()) / max(float(background.std()), 1e-6)


def exceedance(cosines: np.ndarray, background: np.ndarray) -> np.ndarray:
    """
    Fraction of the background that scores at least as high.

    Parameters
    ----------
    cosines : ndarray
        Cosines of the rows to the query, shape ``(n,)``.
    background : ndarray
        Cosines of the background to the same query, shape ``(m,)``.

    Returns
    -------
    ndarray
        Values in 0..1, shape ``(n,)``, float32; NaN stays NaN.
    """
    rank = np.searchsorted(np.sort(background), cosines, side='left')
    fraction = ((len(background) - rank) / len(background)).astype(np.float32)
    fraction[np.isnan(cosines)] = np.nan
    return fraction


def combine(image: np.ndarray, text: np.ndarray, *, by: str = 'both',
            weights: tuple[float, float] | None = None,
            image_background: np.ndarray | None = None,
            text_background: np.ndarray | None = None) -> Scores:
    """
    The score that a table is ordered by.

    With ``by='both'`` it is ``w_image * z_image + w_text * z_text``, where ``z`` is `standardise`.
    A row without words has ``z_text = 0``: its words neither help nor harm it. A row without a
    picture has no score. A model without fitted weights or background is ranked by cosine alone.

    Parameters
    ----------
    image, text : ndarray
        Cosines of pictures and words to the query, shape ``(n,)``, NaN where there is none.
    by : {'both', 'image', 'text'}
        What counts.
    weights : tuple of float, optional
        Fitted weights of picture and words.
    image_background, text_background : ndarray, optional
        Cosines of the background to the same query.

    Returns
    -------
    Scores
        Shape ``(n,)`` each.
    """
    image, text = (np.asarray(a, dtype=np.float32) for a in (image, text))
    z_image = image if image_background is None else standardise(image, image_background)
    z_text = text if text_background is None else standardise(text, text_background)
    if by == 'image':
        score = z_image
    elif by == 'text':
        score = z_text
    elif weights is None or image_background is None or text_background is None:
        score = image
    else:
        score = weights[0] * z_image + weights[1] * np.nan_to_num(z_text)
    if image_background is None:
        false_alarm = np.full(len(image), np.nan, dtype=np.float32)
    else:
        false_alarm = exceedance(image, image_background)
    return Scores(np.asarray(score, dtype=np.float32), image, text, false_alarm)


def order(score: np.ndarray) -> np.ndarray:
    """
    Rows from best to worst; rows without a score come last, ties keep their order.

    Parameters
    ----------
    score : ndarray
        Shape ``(n,)``, NaN where there is none.

    Returns
    -------
    ndarray
        Indices, shape ``(n,)``.
    """
    return np.argsort(np.where(np.isnan(score), np.inf, -score), kind='stable')
