"""
How near what was exported is to what it was exported from.
"""

import numpy as np
from scipy.stats import kendalltau

__all__ = ['LIMITS', 'compare', 'refusal']

#: Variant -> measure -> what it may be at most or, of ``kendall_tau``, at least.
LIMITS = {
    'fp32': {'delta_cosine': 1e-4},
    'fp16': {'delta_cosine': 2e-3},
    'int8': {'kendall_tau': 0.98},
    # Activations of eight bits move every cosine a little: judged by what is found, as the
    # embedded model is (`export.evaluation.precision`).
    'int8 products': {'map_loss': 0.005, 'kendall_tau': 0.9},
}


def compare(images, texts, wanted_images, wanted_texts):
    """
    Compare the rankings of images by texts.

    Parameters
    ----------
    images, wanted_images : `numpy.ndarray` of float, shape (n, d)
        Unit vectors of the same images.
    texts, wanted_texts : `numpy.ndarray` of float, shape (m, d)
        Unit vectors of the same texts.

    Returns
    -------
    numbers : dict of float
        ``delta_cosine``, the largest difference of a cosine of text and image;
        ``kendall_tau``, the mean over texts of Kendall's tau-b of both orders of the images;
        ``top10``, the mean share of common images among the first ten.
    """
    got, wanted = texts @ images.T, wanted_texts @ wanted_images.T
    first = [[set(np.argsort(-row, kind='stable')[:10]) for row in scores]
             for scores in (got, wanted)]
    shared = [len(a & b) / len(b) for a, b in zip(*first, strict=True)]
    taus = [kendalltau(a, b).statistic for a, b in zip(got, wanted, strict=True)]
    return {'delta_cosine': float(np.abs(got - wanted).max()),
            'kendall_tau': float(np.mean(taus)), 'top10': float(np.mean(shared))}


def refusal(variant, numbers):
    """
    Why a variant must not be used.

    Parameters
    ----------
    variant : {'fp32', 'fp16', 'int8', 'int8 products'}
        Which one.
    numbers : dict of float
        As `compare` returns them, and ``map_loss``, the mean average precision that is lost.

    Returns
    -------
    reason : str or None
        One clause, or None if it is within `LIMITS`.
    """
    for measure, limit in LIMITS[variant].items():
        value = numbers[measure]
        # Not the other way round: no comparison with NaN is true.
        within = value >= limit if measure == 'kendall_tau' else value <= limit
        if not within:
            side = 'least' if measure == 'kendall_tau' else 'most'
            return f'its {measure} to torch is {value:.3g}, allowed is at {side} {limit:g}'
    return None
