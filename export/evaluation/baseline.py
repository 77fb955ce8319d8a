"""
The classical baseline: about a hundred image features and a forest of trees.

It knows the kinds of the synthetic sky and nothing of words, which makes its task
easier than that of free text; a learned tower should still beat it.
"""

from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter
from sklearn.ensemble import ExtraTreesClassifier

from export.data.pairs import to_square

__all__ = ['SIDE', 'features', 'label_scores', 'measure_all', 'probabilities']

#: Side of the images that features are measured on.
SIDE = 128

_RADII = np.array([0, 3, 6, 10, 15, 21, 28, 38, 50, 70])
_FREQUENCIES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 60]


def features(pixels):
    """
    Measure one image.

    Histogram, radial profile about the centroid of light, power spectrum,
    orientations, symmetry, number of peaks, colours and percentiles.

    Parameters
    ----------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.

    Returns
    -------
    vector : `numpy.ndarray` of float32
        Features.
    """
    colour = to_square(pixels, SIDE).astype(np.float32) / 255
    grey = colour.mean(-1)
    if np.median(grey) > 0.6:  # inverted: dark on white
        grey = 1 - grey
    light = np.clip(grey - np.median(grey), 0, None) + 1e-6
    radius = _radius(light)
    high = colour.max(-1)
    saturation = (high - colour.min(-1)) / (high + 1e-3)
    bright = high > np.percentile(high, 90)
    groups = [
        np.histogram(grey, 16, (0, 1))[0] / grey.size,
        _profile(grey, radius),
        _power(grey),
        _orientation(grey),
        [np.abs(grey - other).mean() for other in (grey[::-1, ::-1], grey[:, ::-1],
                                                   np.rot90(grey))],
        _peaks(grey),
        [saturation.mean(), saturation.std()],
        colour.mean((0, 1)) - colour.mean(),
        colour[bright].mean(0) - colour[bright].mean() if bright.any() else np.zeros(3),
        np.percentile(grey, [1, 10, 25, 50, 75, 90, 99]),
        [light[radius < limit].sum() / light.sum() for limit in (8, 20)],
    ]
    return np.concatenate([np.asarray(group, np.float32).ravel() for group in groups])


def _radius(light):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    total = light.sum()
    row, column = (light * rows).sum() / total, (light * columns).sum() / total
    return np.hypot(rows - row, columns - column)


def _profile(grey, radius):
    values = []
    for inner, outer in pairwise(_RADII):
        ring = grey[(radius >= inner) & (radius < outer)]
        values += [ring.mean(), ring.std()] if ring.size else [0, 0]
    return values


def _power(grey):
    amplitude = np.abs(np.fft.fft2(grey - grey.mean()))
    axis = np.fft.fftfreq(SIDE) * SIDE
    number = np.hypot(*np.meshgrid(axis, axis)).astype(int).ravel()
    mean = np.bincount(number, amplitude.ravel()) / np.bincount(number).clip(1)
    return np.log(mean[_FREQUENCIES] + 1e-3)


def _orientation(grey):
    gradient_y, gradient_x = np.gradient(gaussian_filter(grey, 1))
    size = np.hypot(gradient_x, gradient_y)
    angles = np.arctan2(gradient_y, gradient_x) % np.pi
    counts = np.histogram(angles, 8, (0, np.pi), weights=size)[0]
    return [*np.sort(counts / (counts.sum() + 1e-6)), size.mean(), size.std()]


def _peaks(grey):
    values = []
    for width in (1, 2, 4):
        smooth = gaussian_filter(grey, width)
        peak = (smooth == maximum_filter(smooth, 5)) & (smooth > smooth.mean() + 2 * smooth.std())
        values += [np.log1p(peak.sum()), smooth.std()]
    return values


def measure_all(images):
    """
    Measure many images.

    Parameters
    ----------
    images : sequence of `numpy.ndarray` of uint8
        RGB images of any shapes.

    Returns
    -------
    table : `numpy.ndarray` of float32, shape (n, k)
        See `features`.
    """
    return np.stack([features(image) for image in images])


def probabilities(measured, kinds, others, count, *, trees=300, seed=0):
    """
    Teach a forest the kinds of synthetic scenes and classify other images.

    Parameters
    ----------
    measured : `numpy.ndarray` of float32, shape (n, k)
        Features of scenes.
    kinds : `numpy.ndarray` of int, shape (n,)
        Their kinds.
    others : `numpy.ndarray` of float32, shape (m, k)
        Features of the images to classify.
    count : int
        Number of kinds.
    trees, seed : int, optional
        Size and seed of the forest.

    Returns
    -------
    table : `numpy.ndarray` of float64, shape (m, count)
        Probability of each kind.
    """
    forest = ExtraTreesClassifier(trees, min_samples_leaf=2, random_state=seed)
    forest.fit(measured, kinds)
    table = np.zeros((len(others), count))
    table[:, forest.classes_] = forest.predict_proba(others)
    return table


def label_scores(measured, truth, others, *, trees=300, seed=0):
    """
    Teach a forest the labels of real images and apply it to others.

    Parameters
    ----------
    measured : `numpy.ndarray` of float32, shape (n, k)
        Features of labelled images.
    truth : `numpy.ndarray` of bool, shape (n, labels)
        Their labels.
    others : `numpy.ndarray` of float32, shape (m, k)
        Features of the images to score.
    trees, seed : int, optional
        Size and seed of the forest.

    Returns
    -------
    scores : `numpy.ndarray` of float64, shape (m, labels)
        Probability of each label; zero for one that no labelled image has.
    """
    forest = ExtraTreesClassifier(trees, min_samples_leaf=2, random_state=seed)
    found = forest.fit(measured, truth).predict_proba(others)
    found = found if isinstance(found, list) else [found]
    return np.stack([table[:, 1] if table.shape[1] == 2 else np.full(len(others), truth[0, i])
                     for i, table in enumerate(found)], axis=1).astype(float)
