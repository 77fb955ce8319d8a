"""
How sure ``classify`` may be: the temperature with which its probabilities are right.

Training sharpens the softmax of cosines for the pairs that it has seen. On held-out images, sets
of classes are drawn for which each image of one of them shows no other, and one factor is sought
with which the true class has the highest likelihood (Guo et al. 2017, section 4.2).
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

__all__ = ['SIZES', 'Choice', 'choices', 'expected_error', 'fit', 'loss', 'table']

#: Numbers of classes that are tried, sets of each number and source, and fewest images of a class.
SIZES, SETS, FEWEST = (2, 3, 5, 12), 40, 5

#: Logarithms of the factors among which the best one is.
_BOUNDS = (np.log(0.1), np.log(1000))
_BINS = 10


class Choice(NamedTuple):
    """
    A set of classes and the images that show one of them.

    Attributes
    ----------
    cosines : ndarray of float, shape (n, m)
        Of the images with the phrases of the classes.
    truth : ndarray of int, shape (n,)
        Class of each image.
    weight : ndarray of float, shape (n,)
        Of each image, 1 together: all classes count alike, however common they are.
    """

    cosines: np.ndarray
    truth: np.ndarray
    weight: np.ndarray


def choices(cosines, showing, kinds, size):
    """
    Draw sets of classes.

    Parameters
    ----------
    cosines : `numpy.ndarray` of float, shape (n, q)
        Of the images of one source with all phrases.
    showing : `numpy.ndarray` of bool, shape (n, q)
        Which images show which phrase.
    kinds : list of set of str
        Kinds that each phrase stands for; classes of a set have none in common.
    size : int
        Number of classes of a set.

    Returns
    -------
    found : list of `Choice`
        At most `SETS`; empty if there are not so many classes.
    """
    rng, found = np.random.default_rng(size), []
    enough = np.flatnonzero(showing.sum(0) >= FEWEST)
    for _ in range(SETS):
        chosen, taken = [], set()
        for column in rng.permutation(enough):
            if len(chosen) < size and not kinds[column] & taken:
                chosen.append(column)
                taken |= kinds[column]
        one = showing[:, chosen].sum(1) == 1
        truth = showing[one][:, chosen].argmax(1) if one.any() else np.empty(0, int)
        counts = np.bincount(truth, minlength=size)
        if len(chosen) == size and counts.all():
            found.append(Choice(cosines[one][:, chosen], truth, 1 / (size * counts[truth])))
    return found


def _log_probabilities(factor, cosines):
    logits = factor * (cosines - cosines.max(1, keepdims=True))
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def loss(factor, drawn):
    """
    Compute the mean negative log-likelihood of the true class.

    Parameters
    ----------
    factor : float
        Of the cosines before the softmax.
    drawn : list of `Choice`
        From `choices`.

    Returns
    -------
    loss : float
        In natural units.
    """
    return float(np.mean([
        -(one.weight * np.take_along_axis(_log_probabilities(factor, one.cosines),
                                          one.truth[:, None], 1)[:, 0]).sum() for one in drawn]))


def expected_error(factor, drawn):
    """
    Compute the expected calibration error of the most probable class.

    Parameters
    ----------
    factor : float
        Of the cosines before the softmax.
    drawn : list of `Choice`
        From `choices`.

    Returns
    -------
    error : float
        Mean distance of probability and share that is right, over ten bins of probability.
    right : float
        Share of images whose most probable class is the true one.
    """
    sure, right, weight = (np.concatenate(parts) for parts in zip(*(
        (np.exp(_log_probabilities(factor, one.cosines).max(1)),
         one.cosines.argmax(1) == one.truth, one.weight / len(drawn)) for one in drawn),
        strict=True))
    place = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(place, weight * (right - sure), minlength=_BINS)
    return float(np.abs(gaps).sum()), float((weight * right).sum())


def fit(drawn):
    """
    Find the factor of highest likelihood.

    Parameters
    ----------
    drawn : list of list of `Choice`
        Those of each source and number of classes, which count alike.

    Returns
    -------
    factor : float
        Of the cosines before the softmax.
    """
    return float(np.exp(minimize_scalar(
        lambda logarithm: np.mean([loss(np.exp(logarithm), one) for one in drawn]),
        bounds=_BOUNDS, method='bounded').x))


def table(sources, kinds, scale):
    """
    Fit the temperature of a model, and measure what it is worth.

    Parameters
    ----------
    sources : dict of str to tuple
        For each source ``cosines`` and ``showing``, see `choices`.
    kinds : list of set of str
        Kinds that each phrase stands for.
    scale : float
        Factor of training, ``logit_scale``.

    Returns
    -------
    classify : dict or None
        For ``astroclip.json``: ``temperature``, by which the factor is divided, and how it was
        ``fitted``; `None` without any set of classes.
    table : dict
        For the model card.
    """
    drawn = {(name, size): found for name, (cosines, showing) in sources.items()
             for size in SIZES if (found := choices(cosines, showing, kinds, size))}
    rows, classify = [], None
    if drawn:
        factor = fit(list(drawn.values()))
        for (name, size), found in drawn.items():
            others = [other for (source, _), other in drawn.items() if source != name]
            elsewhere = fit(others) if others else np.nan
            errors = [expected_error(one, found)[0] if one == one else np.nan
                      for one in (scale, factor, elsewhere)]
            rows.append([name, size, len(found), round(expected_error(factor, found)[1], 3),
                         *('-' if np.isnan(error) else f'{error:.3f}' for error in errors),
                         f'{loss(scale, found):.3f}', f'{loss(factor, found):.3f}'])
        classify = {'temperature': round(scale / factor, 3),
                    'fitted': f'likelihood of the true class, {sum(map(len, drawn.values()))} sets '
                              'of classes of held-out images'}
    return classify, {
        'title': 'Probabilities of classes', 'rows': rows,
        'columns': ['source', 'classes', 'sets', 'right', 'error as trained', 'error',
                    'error, fitted on other sources', 'loss as trained', 'loss'],
        'text': 'Expected calibration error of the most probable class, and negative '
                'log-likelihood; classes count alike.'
                + (f" Temperature {classify['temperature']}." if classify else '')}
