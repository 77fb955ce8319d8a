# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Pictures that were judged by hand -> the direction of those that are wanted. Pure numpy.

It is a logistic regression on the embeddings, drawn to the phrase: without a mark it is the
phrase, and a mark moves it as far as it contradicts it. Reference images that have nothing to do
with the query count as weak dislikes, so that what tells a few neighbours apart does not lead away
from all else that is known of the query. It is used only if it sorts the marks better that it has
not seen.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..models.background import Background, normalise
from ..models.forks import undisturbed

__all__ = ['LEARN_FROM', 'instructive', 'learned_direction']

LEARN_FROM = 5
"""
Number of example images from which on the query is learned; fewer are averaged.
"""

# How sure the phrase is, as the slope of the log odds in standard deviations of unrelated images;
# how hard it is to leave it, in units of the spread of these; how freely the threshold moves.
# docs/user_guide/feedback says how they were chosen.
_SURE = 3.0
_PENALTY = 3.0
_FREEDOM = 16.0

# What a liked image counts beside a disliked one, and what all unrelated ones count together.
_LIKED = 3.0
_UNRELATED = 60.0
_N_UNRELATED = 60

# Parts that the marks are divided into, each to be judged by all others.
_PARTS = 10

_STEPS = 25
_PRECISE = 1e-6


@dataclass(frozen=True)
class _Marks:
    """
    Images (n, m) in a basis of no more dimensions than there are images, whether each is wanted
    (1 or -1), what it counts, and what the phrase says of it, as log odds.
    """

    features: np.ndarray
    sign: np.ndarray
    count: np.ndarray
    offset: np.ndarray

    def loss(self, found: np.ndarray) -> float:
        errors = np.logaddexp(0, -self.sign * (self.offset + self.features @ found))
        return float(self.count @ errors + found @ found / 2)

    def fit(self, found: np.ndarray | None = None) -> np.ndarray:
        """
        Coefficients (m,) of the regression, by Newton's method.
        """
        found = np.zeros(self.features.shape[1]) if found is None else found
        loss = self.loss(found)
        for _ in range(_STEPS):
            wrong = 1 / (1 + np.exp(np.clip(self.sign * (self.offset + self.features @ found),
                                            -50, 50)))
            slope = found - self.features.T @ (self.count * self.sign * wrong)
            bend = (self.features.T * (self.count * wrong * (1 - wrong))) @ self.features
            bend[np.diag_indices_from(bend)] += 1
            step = np.linalg.solve(bend, slope)
            while (new := self.loss(found - step)) > loss and np.abs(step).max() >= _PRECISE:
                step /= 2
            if np.abs(step).max() < _PRECISE:
                break
            found, loss = found - step, new
        return found

    def scores(self, found: np.ndarray) -> np.ndarray:
        """
        Log odds of the images (n,), but for a constant.
        """
        return self.offset + self.features @ found


@undisturbed()
def learned_direction(prior: np.ndarray | None, liked: np.ndarray, disliked: np.ndarray,
                      background: Background, *, weights: tuple[float, float] = (1.0, 1.0),
                      ) -> np.ndarray:
    """
    The unit vector (d,) of a query from images that are liked (k, d) and disliked (l, d).

    ``prior`` (d,) is what is asked besides, in standard deviations of the reference images for
    each unit of a cosine; `None` if nothing is. ``weights`` are what the liked and the disliked
    count. The background must have images. Copies of an image count once.
    """
    images = np.asarray(background.image, dtype=float)
    prior = np.zeros(images.shape[1]) if prior is None else _SURE * prior.astype(float)
    centre = images.mean(axis=0)
    size = float(np.sqrt(np.mean(np.sum((images - centre) ** 2, axis=1))))
    parts = [_distinct(liked), _distinct(disliked), _unrelated(prior, background)]
    n_marks = len(parts[0]) + len(parts[1])
    vectors = np.concatenate([part for part in parts if len(part)]).astype(float) - centre
    # With a constant for the threshold.
    scale = np.r_[np.full(images.shape[1], size * np.sqrt(_PENALTY)), np.sqrt(1 / _FREEDOM)]
    basis, triangle = np.linalg.qr((np.column_stack([vectors, np.ones(len(vectors))]) / scale).T)
    marks = _Marks(
        triangle.T, np.repeat([1.0, -1.0, -1.0], [len(part) for part in parts]),
        np.repeat([_LIKED * weights[0], weights[1], _UNRELATED / max(len(parts[2]), 1)],
                  [len(part) for part in parts]), vectors @ prior)
    found = marks.fit()
    if prior.any() and not _is_better(marks, n_marks, found):
        return normalise(prior[None])[0]
    return normalise((prior + (basis @ found / scale)[:-1])[None])[0]


def _is_better(marks: _Marks, n_marks: int, found: np.ndarray) -> bool:
    """
    Whether marks, the first of the images, are sorted better by what is learned from the others
    than by the phrase; true if all are of one kind.
    """
    wanted = marks.sign[:n_marks] > 0
    if wanted.all() or not wanted.any():
        return True
    learned = before = 0.0
    known = marks.offset[:n_marks]
    # Both kinds in each part, as far as they go.
    part = np.empty(n_marks, dtype=int)
    part[np.argsort(~wanted, kind='stable')] = np.arange(n_marks) % _PARTS
    for number in range(min(_PARTS, n_marks)):
        held = part == number
        count = marks.count.copy()
        count[:n_marks][held] = 0
        scores = marks.scores(replace(marks, count=count).fit(found))[:n_marks]
        learned += _right(scores, wanted, held)
        before += _right(known, wanted, held)
    return learned > before


def _right(scores: np.ndarray, wanted: np.ndarray, held: np.ndarray) -> float:
    """
    Sum over the images that are held back of the fraction of those of the other kind that they are
    on the right side of.
    """
    side = np.where(wanted, 1.0, -1.0)
    right = side[held, None] * (scores[held, None] - scores[None]) > 0
    others = wanted[held, None] != wanted[None]
    return float(((right & others).sum(axis=1) / others.sum(axis=1)).sum())


@undisturbed()
def instructive(vectors: np.ndarray, score: np.ndarray, marked: np.ndarray, n: int) -> np.ndarray:
    """
    Indices of ``n`` images (k, d) that are likely to be wanted by their score (k,), and that
    differ from one another and from those that are marked (l, d).
    """
    if not len(vectors):
        return np.empty(0, dtype=int)
    vectors, marked = vectors.astype(float), marked.astype(float)
    centre = vectors.mean(axis=0)
    vectors = normalise(vectors - centre)
    near = np.full(len(vectors), -1.0)
    if len(marked):
        near = np.maximum(near, (vectors @ normalise(marked - centre).T).max(axis=1))
    chosen: list[int] = []
    for _ in range(min(n, len(vectors))):
        value = score * np.maximum(1 - near, 0)
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
        near = np.maximum(near, vectors @ vectors[chosen[-1]])
    return np.array(chosen, dtype=int)


def _distinct(vectors: np.ndarray) -> np.ndarray:
    """
    Vectors (k, d) without those that are the same but for rounding, in an order of their own: in
    which order images were judged says nothing.
    """
    if len(vectors) < 2:
        return vectors
    return vectors[np.unique(np.round(vectors, 4), axis=0, return_index=True)[1]]


def _unrelated(prior: np.ndarray, background: Background) -> np.ndarray:
    """
    Some reference images that have nothing to do with the query.
    """
    images = np.asarray(background.image)
    usable = np.arange(len(images))
    if prior.any():
        usable = np.flatnonzero(~np.isnan(background.cosines(normalise(prior[None])[0])))
    return images[usable[::max(len(usable) // _N_UNRELATED, 1)][:_N_UNRELATED]]
