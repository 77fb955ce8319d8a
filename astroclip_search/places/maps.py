# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A picture -> the vectors of its windows, large and small ones -> where a query fits.

A tower that embeds windows gives all of one size in a single pass. Of any other model the windows
are cut out and embedded one by one, so that there are fewer of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..images.preprocess import resize
from ..models.encoder import Encoder
from ..models.forks import undisturbed

__all__ = ['SIDE', 'Windows', 'best_windows', 'heat', 'peak', 'windows']

SIDE = 1600
"""
Pixels of the short side of the pictures that are looked for places in, where they have so many.
"""

# How many windows the short side has, by the pixels that it must have for that: what is enlarged
# shows nothing small. Two sizes of a large picture are enough, and take half the time of three.
_ZOOMS = ((0, (2.0,)), (180, (2.0, 3.0)), (240, (2.0, 3.0, 4.0)), (400, (3.0, 4.0, 5.0)),
          (640, (4.0, 8.0)), (800, (5.0, 10.0)))

# Windows across a strip, whose long side has many times as many.
_MOST_AREA = 2 * 10.0**2

# Of a model without windows: the part of the short side that a tile has, half a tile apart.
_TILES = (1 / 2, 1 / 3)
_MOST_TILES = 64

_STRIDE = 32  # of towers that embed windows

# What two places of one picture may have in common, in parts of both together.
_MOST_SHARED = 0.15

# How much of what all windows have in common is taken away.
_IN_COMMON = 0.7

# Of the chances of a picture, see `Windows.chances`.
_FACTOR = 4.0

_CELLS = 96  # of a map, along the short side

# How strongly a map is drawn to what is usual where few windows are.
_DRAWN = 0.3


@dataclass(frozen=True)
class Windows:
    """
    Windows of a picture.

    Attributes
    ----------
    boxes : `numpy.ndarray` of float, shape (n, 4)
        Left, upper, right and lower edge, in parts of the picture's width and height.
    vectors : `numpy.ndarray` of float32, shape (n, d)
        Unit vectors.
    level : `numpy.ndarray` of int, shape (n,)
        0 for the whole picture, then higher the smaller the window.
    """

    boxes: np.ndarray
    vectors: np.ndarray
    level: np.ndarray

    def chances(self, usual: np.ndarray) -> float:
        """
        How many windows tell different things, so that each may fit by chance; ``usual`` is the
        mean vector (d,) of unrelated pictures.

        It is four times the participation ratio of the directions in which they differ from it.
        The factor makes the rates of places right (``export`` measures it).
        """
        with undisturbed():
            apart = self.vectors - usual
            apart /= np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
            shared = apart.T @ apart
        return _FACTOR * len(apart)**2 / max(float((shared**2).sum()), 1e-12)

    def fit(self, vector: np.ndarray) -> np.ndarray:
        """
        Products (n,) with the vector of a query.
        """
        with undisturbed():
            return self.vectors @ vector

    def contrast(self, vector: np.ndarray) -> np.ndarray:
        """
        How much each window (n,) stands out of its own picture: its product with the vector of a
        query, less most of what is in the direction of all windows together, and less what is
        usual in windows of its size.
        """
        with undisturbed():
            mean = self.vectors[self.level > 0].mean(axis=0)
            mean /= max(float(np.linalg.norm(mean)), 1e-12)
            fit = self.vectors @ (vector - np.float32(_IN_COMMON) * (vector @ mean) * mean)
        first = float(np.median(fit[self.level == 1]))
        for level in range(self.level.max() + 1):
            own = self.level == level
            # There is but one whole.
            fit[own] -= np.median(fit[own]) if level else first
        return fit


def windows(picture: Image.Image, encoder: Encoder) -> Windows:
    """
    The whole of a picture, and its windows of two or three sizes.
    """
    # What fills the picture is seen best in the whole of it.
    parts = [(np.array([[0.0, 0.0, 1.0, 1.0]]), encoder.encode_images(
        resize(picture, encoder.bundle.preprocessing)[np.newaxis]))]
    if getattr(encoder, 'has_windows', False):
        parts += [_in_one_pass(picture, encoder, zoom) for zoom in _zooms(picture.size)]
    else:
        parts += _tiles(picture, encoder)
    boxes, vectors = map(np.concatenate, zip(*parts, strict=True))
    return Windows(boxes, vectors, np.repeat(np.arange(len(parts)),
                                             [len(own) for own, _ in parts]))


def _zooms(size: tuple[int, int]) -> list[float]:
    short, long = min(size), max(size)
    found = [zooms for least, zooms in _ZOOMS if short >= least][-1]
    return list(dict.fromkeys(
        min(zoom, max(1.0, (_MOST_AREA * short / long)**0.5)) for zoom in found))


def _in_one_pass(picture: Image.Image, encoder: Encoder,
                 zoom: float) -> tuple[np.ndarray, np.ndarray]:
    window = encoder.bundle.preprocessing.size
    scale = zoom * max(window) / min(picture.size)
    width, height = (max(_STRIDE * round(n * scale / _STRIDE), least) for n, least in
                     zip(picture.size, window[::-1], strict=True))
    resample = Image.Resampling(encoder.bundle.preprocessing.resample)
    pixels = np.asarray(picture.resize((width, height), resample, reducing_gap=3.0))
    vectors = encoder.encode_windows(pixels)
    lefts, uppers = (np.linspace(0, 1 - side / whole, n) for side, whole, n in (
        (window[1], width, vectors.shape[1]), (window[0], height, vectors.shape[0])))
    return (_boxes(lefts, uppers, window[1] / width, window[0] / height),
            vectors.reshape(-1, vectors.shape[2]))


def _tiles(picture: Image.Image, encoder: Encoder) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for part in _TILES:
        sides = [part * min(picture.size) / n for n in picture.size]
        lefts, uppers = (np.linspace(0, 1 - own, min(round(2 * (1 - own) / own) + 1, _MOST_TILES))
                         for own in sides)
        boxes = _boxes(lefts, uppers, *sides)
        # Of a strip no more than of a square: evenly over its length.
        if len(boxes) > _MOST_TILES:
            boxes = boxes[np.linspace(0, len(boxes) - 1, _MOST_TILES).round().astype(int)]
        corners = (boxes * np.tile(picture.size, 2)).round().astype(int)
        pixels = np.stack([
            resize(picture.crop((left, upper, max(right, left + 1), max(lower, upper + 1))),
                   encoder.bundle.preprocessing) for left, upper, right, lower in corners.tolist()])
        found.append((boxes, encoder.encode_images(pixels)))
    return found


def _boxes(lefts: np.ndarray, uppers: np.ndarray, width: float, height: float) -> np.ndarray:
    left, upper = (grid.ravel() for grid in np.meshgrid(lefts, uppers))
    return np.stack([left, upper, left + width, upper + height], axis=1)


def best_windows(boxes: np.ndarray, fit: np.ndarray, n: int) -> list[int]:
    """
    The ``n`` best windows, best first, of which no two have much in common.
    """
    free, chosen = np.isfinite(fit), list[int]()
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    while free.any() and len(chosen) < n:
        best = int(np.where(free, fit, -np.inf).argmax())
        chosen.append(best)
        sides = (np.minimum(boxes[:, 2:], boxes[best, 2:])
                 - np.maximum(boxes[:, :2], boxes[best, :2])).clip(0)
        shared = sides.prod(axis=1)
        free &= shared <= _MOST_SHARED * (areas + areas[best] - shared)
    return chosen


def heat(boxes: np.ndarray, fit: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """
    How well a query fits at each place of a picture of this width and height, float32 (rows,
    columns), row 0 on top: the mean of the windows around it, of which those count most that have
    it in their middle. Corners, which no window has in its middle, are drawn to what is usual.
    """
    scale = _CELLS / min(size)
    columns, rows = (min(max(1, round(n * scale)), 8 * _CELLS) for n in size)
    # A tent over each window is the product of one across and one down, of which there are few.
    lefts, across = np.unique(boxes[:, 0::2], axis=0, return_inverse=True)
    uppers, down = np.unique(boxes[:, 1::2], axis=0, return_inverse=True)
    values, counts = np.zeros((2, len(uppers), len(lefts)))
    np.add.at(values, (down.ravel(), across.ravel()), fit)
    np.add.at(counts, (down.ravel(), across.ravel()), 1)
    tents_down, tents_across = _tents(uppers, rows), _tents(lefts, columns)
    with undisturbed():
        total, weight = (tents_down.T @ part @ tents_across for part in (values, counts))
    usual = max(_DRAWN * float(np.median(weight)), 1e-9)
    return ((total + usual * np.median(fit)) / (weight + usual)).astype(np.float32)


def _tents(edges: np.ndarray, n: int) -> np.ndarray:
    """
    How much each of some windows (m, 2) counts in each cell of an axis (m, n).
    """
    low, high = edges.T[:, :, np.newaxis] * n
    half = np.maximum((high - low) / 2, 0.5)
    return np.maximum(1 - np.abs(np.arange(n) + 0.5 - (low + high) / 2) / half, 0)


def peak(values: np.ndarray, box: Sequence[float]) -> tuple[float, float]:
    """
    Where a map is highest within the inner half of a box, in parts of the width and height.
    """
    rows, columns = values.shape
    left, upper, right, lower = box
    (first, last), (top, bottom) = (
        (int((low + (high - low) / 4) * n), int(np.ceil((high - (high - low) / 4) * n)))
        for low, high, n in ((left, right, columns), (upper, lower, rows)))
    part = values[top:max(bottom, top + 1), first:max(last, first + 1)]
    row, column = np.unravel_index(int(part.argmax()), part.shape)
    return (first + column + 0.5) / columns, (top + row + 0.5) / rows
