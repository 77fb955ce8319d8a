"""
Where the right answer is in rankings of captions for images, and of images for captions.

Two ways to look at equal scores. `ranks` puts them in no order: every number is the mean over all
orders, except that the median and the reciprocal rank are those of the mean rank of the first right
answer. `paper_curve` and `paper_batches` do what the figures of PAPERCLIP [1]_ do, where of equal
scores the last row is first and only the caption of the same row is right, though others may say
the same.

References
----------
.. [1] Mishra-Sharma, Song, Thaler 2024, https://arxiv.org/abs/2403.08851
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from scipy.stats import hypergeom

from export.measures.metrics import area_under_curve, group_bootstrap, interval

__all__ = ['PERCENT', 'RECALLS', 'Ranks', 'cosines', 'paper_batches', 'paper_curve', 'paper_rows',
           'ranks', 'unit']

#: Size of the batches of the paper, and how many of them, and points, its curves are made of.
BATCH, BATCHES = 100, 30
#: Retrieval accuracy is given for these parts of all captions.
PERCENT = (1, 5, 10, 20, 50)
#: Answers among the first of which a right one is looked for.
RECALLS = (1, 5, 10)

_PART = 512


@dataclass(frozen=True)
class Ranks:
    """
    Rank of the first right answer to each of many queries.

    Parameters
    ----------
    above : `numpy.ndarray` of int, shape (q,)
        Wrong answers above the first right one.
    equal, right : `numpy.ndarray` of int, shape (q,)
        Answers with the score of the first right one, and how many of these are right.
    total : int
        Number of answers.
    """

    above: np.ndarray
    equal: np.ndarray
    right: np.ndarray
    total: int

    @property
    def mean(self):
        """Rank of the first right answer, mean over the orders of equal scores."""
        return self.above + (self.equal + 1) / (self.right + 1)

    def found(self, places):
        """
        Say how likely a right answer is among the first.

        Parameters
        ----------
        places : int
            How many answers are looked at.

        Returns
        -------
        chance : `numpy.ndarray` of float, shape (q,)
            0 or 1, but for equal scores at the last place.
        """
        drawn = np.clip(places - self.above, 0, self.equal)
        return hypergeom.sf(0, self.equal, self.right, drawn)

    def places(self, percent):
        """
        Count the answers that are some per cent of all, rounded down.

        Parameters
        ----------
        percent : float
            Between 0 and 100.

        Returns
        -------
        places : int
            Possibly 0.
        """
        return int(percent * self.total / 100 + 1e-9)

    def numbers(self, groups, *, draws=200):
        """
        Sum up.

        Parameters
        ----------
        groups : `numpy.ndarray` of int, shape (q,)
            Queries that belong together, from zero.
        draws : int, optional
            Bootstrap samples of groups.

        Returns
        -------
        numbers : dict
            ``RA_k%`` as the paper defines it, ``R@k`` and mean reciprocal rank, each with the ends
            of the central 95 %, the median rank, and the number of queries and of answers.
        """
        each = {**{f'RA_{k}%': self.found(self.places(k)) for k in PERCENT},
                **{f'R@{k}': self.found(k) for k in RECALLS}, 'MRR': 1 / self.mean}
        values = np.stack(list(each.values()), axis=1)
        mean = values.mean(0)
        low, high = interval(group_bootstrap(values, groups, draws=draws), mean)
        return {
            'queries': len(self.above), 'answers': self.total,
            'median rank': float(np.median(self.mean)),
            **{name: [float(number) for number in numbers]
               for name, *numbers in zip(each, mean, low, high, strict=True)},
        }


def unit(vectors):
    """
    Scale vectors to unit length.

    Parameters
    ----------
    vectors : `numpy.ndarray` of float, shape (n, d)
        Vectors.

    Returns
    -------
    vectors : `numpy.ndarray` of float, shape (n, d)
        A vector of zeros stays one.
    """
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def ranks(queries, answers, wanted, given):
    """
    Rank answers by dot product.

    Parameters
    ----------
    queries : `numpy.ndarray` of float, shape (q, d)
        Vectors.
    answers : `numpy.ndarray` of float, shape (n, d)
        Vectors.
    wanted : `numpy.ndarray` of int, shape (q,)
        Group of which an answer is right.
    given : `numpy.ndarray` of int, shape (n,)
        Group of each answer.

    Returns
    -------
    ranks : `Ranks`
        Of the first right answers.

    Raises
    ------
    ValueError
        If a query has no right answer.
    """
    if not np.isin(wanted, given).all():
        raise ValueError('a query has no right answer')
    counts = []
    for start in range(0, len(queries), _PART):
        scores = queries[start:start + _PART] @ answers.T
        right = wanted[start:start + _PART, None] == given
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        equal = scores == best
        counts.append([(scores > best).sum(1), equal.sum(1), (equal & right).sum(1)])
    return Ranks(*np.concatenate(counts, axis=1), len(answers))


def paper_rows(count, *, seed=0):
    """
    Choose the pairs that the curves of the paper are made of.

    Parameters
    ----------
    count : int
        Number of pairs.
    seed : int, optional
        Of the order.

    Returns
    -------
    rows : `numpy.ndarray` of int
        30 batches of 100 in random order, or as many batches as there are; all pairs if they do
        not fill one.
    """
    rows = np.random.default_rng(seed).permutation(count)
    return rows[:BATCH * min(count // BATCH, BATCHES)] if count >= BATCH else rows


def _paper_ranks(scores, first=0):
    """Rank of each query's own column, of which the first query's is the one given."""
    column = first + np.arange(len(scores))
    own = scores[np.arange(len(scores)), column][:, None]
    # An ascending sort that keeps the order of equals, read from its end.
    ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) > column[:, None]))
    return ahead.sum(1) + 1


def paper_curve(images, captions, caption):
    """
    Compute retrieval accuracy as Figures 3 and 4 of the paper do.

    Parameters
    ----------
    images : `numpy.ndarray` of float, shape (n, d)
        Vectors of the images, as long as the model makes them: the figures do not normalise.
    captions : `numpy.ndarray` of float, shape (c, d)
        Vectors of the distinct captions.
    caption : `numpy.ndarray` of int, shape (n,)
        Which of them each image has.

    Returns
    -------
    cuts : `numpy.ndarray` of int
        1, 101, 201 and so on below n where n is the paper's 3000; else 1 and further ones with a
        thirtieth of n between them, so that the fourth is at 10 % too.
    accuracy : `numpy.ndarray` of float
        Share of images whose row's caption is among as many with the highest dot product.
    """
    found = []
    for start in range(0, len(images), _PART):
        # Repeated only now: a product of matrices may round equal columns differently.
        scores = (images[start:start + _PART] @ captions.T)[:, caption]
        found.append(_paper_ranks(scores, start))
    cuts = np.arange(1, max(len(images), 2), max(1, round(len(images) / BATCHES)))
    return cuts, (np.concatenate(found)[:, None] <= cuts).mean(0)


def paper_batches(images, captions, caption, scale, *, size=BATCH):
    """
    Compute what the paper follows during training, its Figure 2.

    Parameters
    ----------
    images, captions : `numpy.ndarray` of float
        As for `paper_curve`; here they are normalised.
    caption : `numpy.ndarray` of int, shape (n,)
        Which caption each image has.
    scale : float
        What the loss multiplies cosines by.
    size : int, optional
        Pairs in a batch; a last, smaller one is left out.

    Returns
    -------
    numbers : dict
        ``top 1`` and so on: share of captions whose row's image is among the first of the batch,
        and ``loss`` of the batch, images to captions and back; ``batches``.

    Raises
    ------
    ValueError
        If there is no batch.
    """
    count = len(images) // size
    if not count:
        raise ValueError(f'{len(images)} pairs do not fill a batch of {size}')
    images, captions = unit(images), unit(captions)
    found, losses = [], []
    for start in range(0, count * size, size):
        rows = slice(start, start + size)
        scores = captions[caption[rows]] @ images[rows].T
        found.append(_paper_ranks(scores))
        logits = scale * scores.astype(float)
        own = np.diagonal(logits)
        losses += [(logsumexp(logits, axis=axis) - own).mean() for axis in (0, 1)]
    found = np.concatenate(found)
    return {'batches': count, 'size': size, 'loss': float(np.mean(losses)),
            'chance loss': float(np.log(size)),
            **{f'top {k}': float((found <= k).mean()) for k in (1, 5, 10, 20)}}


def cosines(images, captions, caption, *, seed=0):
    """
    Compare the cosines of pairs with those of shuffled pairs.

    Parameters
    ----------
    images, captions : `numpy.ndarray` of float
        As for `paper_curve`; here they are normalised.
    caption : `numpy.ndarray` of int, shape (n,)
        Which caption each image has.
    seed : int, optional
        Of the permutation. An image that it gives its own caption is left out.

    Returns
    -------
    true, shuffled : `numpy.ndarray` of float
        Cosines.
    numbers : dict
        Means, standard deviations and ``AUC``, the chance that a true pair has the larger one;
        NaN without two different captions.
    """
    images, captions = unit(images), unit(captions)
    other = caption[np.random.default_rng(seed).permutation(len(images))]
    apart = other != caption
    true = np.einsum('nd,nd->n', images, captions[caption])
    shuffled = np.einsum('nd,nd->n', images[apart], captions[other[apart]])
    numbers = {f'{name} {part}': float(getattr(np, part)(values)) if len(values) else np.nan
               for name, values in (('true', true), ('shuffled', shuffled))
               for part in ('mean', 'std')}
    numbers['AUC'] = np.nan if not len(shuffled) else area_under_curve(
        np.concatenate([true, shuffled]), np.arange(len(true) + len(shuffled)) < len(true))
    return true, shuffled, numbers
