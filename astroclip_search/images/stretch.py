# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Numbers -> grey values: what is noise, which numbers are black and white, and how those between are
spread. All of it was chosen by retrieval, see ``benchmarks/bench_rendering.py``.
"""

import numpy as np
from PIL import Image

from ..exceptions import ImageError
from .geometry import note_part
from .quantiles import median, medians, percentiles

__all__ = ['cleaned', 'extent', 'fill_value', 'grey', 'limits', 'part_of', 'softening',
           'stretched_by']

_MIN_FINITE = 16

# Black is no darker than this many times what lies between the median and the 16th percentile:
# columns that are dead must not set it.
_BELOW = 2.5

_WHITE = 99.85  # percentile

# White is no brighter than this many times what is broader than one pixel.
_ABOVE = 3.0

# The stretch is as strong as leaves the picture this dark on average, half of it darker than this,
# and its noise this small a part of white.
_MEAN = 0.25
_SKY = 0.2
_NOISE = 0.05

# Pictures with less headroom than the first are not stretched, those with more than the second are;
# and those whose mean is darker than the first, but not those brighter than the second.
_ROOM = 1.2, 2.0
_DARK = 0.005, 0.02

# Softening of the arcsinh: the smaller, the stronger; linear if none.
_SOFTENINGS = (3, 1, .5, .3, .2, .14, .1, .07, .05, .035, .025, .018, .012, .008, .005, .003)

_SAMPLE = 5000

_RADIUS = 2  # of the window that tells noise from structure, in pixels

_TAME = 1e4  # times the noise

_SIGMA = 0.6745  # the median of what is normally distributed, without its sign

# Photons are gathered where these parts of the pixels have any, and fewer than the latter of these
# one beside them, from so many pixels with photons, no farther off than the last radius.
_MIN_LIT = 1e-3
_MAX_LIT = 0.5
_BESIDE_LIT = 0.6, 0.8
_ENOUGH = 9
_RADII = (1, 2, 3, 4, 6, 8, 11, 16)

# A column is bad whose median is so many times farther off those beside it than three of four are,
# if no more are.
_BAD = 10.0
_BAD_LEAST = 0.05  # of the range of the image
_BESIDE = 4
_MAX_BAD = 0.07
_MIN_COLUMNS = 32

# The part of the edges that a fill has at least, that of the image in which its value may be as
# well, and the jump to it, in parts of the range of the image and of its noise.
_MIN_EDGE = 0.1
_MAX_INSIDE = 0.02
_JUMP = 0.02
_NOISES = 5.0
_SMOOTH = 5e-4


def grey(data: np.ndarray, *, flip: bool = True) -> Image.Image:
    """
    The picture of a plane, NaN where there is nothing; row 0 is at the bottom, or at the top
    without ``flip``.
    """
    rows, columns = extent(data)
    part = part_of(data.shape, rows, columns, flip=flip)
    data = cleaned(data[rows, columns])
    black, white, room = limits(data)
    scaled = np.clip((data - black) / (white - black), 0, 1)
    soft = softening(scaled, room)
    pixels = np.nan_to_num(stretched_by(scaled, soft) * 255).round().astype(np.uint8)
    return note_part(Image.fromarray(np.flipud(pixels) if flip else pixels).convert('RGB'), part)


def limits(data: np.ndarray) -> tuple[float, float, float]:
    """
    Values that become black and white, and the headroom: how many times brighter than white the
    brightest of what is broader than a pixel is. That is about 1 in a picture that has been
    stretched, which ends at white, and more in a linear one.
    """
    values = _finite(data)
    if len(values) < _MIN_FINITE:
        raise ImageError('no_finite_pixels')
    lowest, low, middle, white = percentiles(values, (1, 16, 50, _WHITE))
    black = max(lowest, middle - _BELOW * (middle - low))
    # Hot pixels and columns must not set it either, nor stars of one pixel.
    broad, brightest = percentiles(_broad(data), (_WHITE, 100))
    if broad > black:
        white = min(white, black + _ABOVE * (broad - black))
    if not white > black:
        black, white = values.min(), values.max()
    if not white > black:
        raise ImageError('one_value')
    return float(black), float(white), float((brightest - black) / (white - black))


def _broad(data: np.ndarray) -> np.ndarray:
    """
    Finite values of what is broader than a pixel: medians of three along the rows, and of three of
    these along the columns; without those at the edges.
    """
    if data.shape[1] > 2:
        data = _middle(data[:, :-2], data[:, 1:-1], data[:, 2:])
    if data.shape[0] > 2:
        data = _middle(data[:-2], data[1:-1], data[2:])
    return _finite(data)


def _middle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """
    The second of three values; the lower of two where one is NaN.
    """
    low, high = np.fmin(a, b), np.fmax(a, b)
    np.fmin(high, c, out=high)
    return np.fmax(low, high, out=low)


def _finite(values: np.ndarray) -> np.ndarray:
    """
    The values that are numbers, as one row.
    """
    known = np.isfinite(values)
    return values.ravel() if known.all() else values[known]


def softening(scaled: np.ndarray, room: float) -> float:
    """
    How strongly parts of white, in 0..1, are to be stretched, given their headroom: 0 is not at
    all, else the less the stronger.
    """
    values = _finite(scaled)
    sample, noise, found = values[::max(1, len(values) // _SAMPLE)], _noise(scaled), 0.0
    mean = sample.mean()
    linear = max(_part(np.log(max(room, 1)), *np.log(_ROOM)), 1 - _part(mean, *_DARK))
    brightest = max(mean, mean + linear * (_MEAN - mean))
    for stronger in _SOFTENINGS:
        shown = stretched_by(sample, stronger)
        if (shown.mean() > brightest or median(shown) > _SKY
                or noise / (stronger * np.arcsinh(1 / stronger)) > _NOISE):
            break
        found = stronger
    return found


def _part(value: float, first: float, last: float) -> float:
    """
    How far a value is on the way from one to another, in 0..1.
    """
    return min(max((value - first) / (last - first), 0), 1)


def stretched_by(scaled: np.ndarray, soft: float) -> np.ndarray:
    """
    Parts of white as brightness, in 0..1 (Lupton et al. 1999, AJ 118, 1406).
    """
    return np.arcsinh(scaled / soft) / np.arcsinh(1 / soft) if soft else scaled


def extent(data: np.ndarray) -> tuple[slice, slice]:
    """
    The rows and columns without those at the edges in which there is nothing; colours are the last
    axis.
    """
    known = np.isfinite(data)
    known = known.any(axis=2) if data.ndim == 3 else known
    rows, columns = (np.flatnonzero(known.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, data.shape[0]), slice(0, data.shape[1])
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def part_of(shape: tuple[int, ...], rows: slice, columns: slice, *,
            flip: bool) -> tuple[float, float, float, float]:
    """
    Left, upper, right and lower edge of some rows and columns, in parts of the whole; row 0 is at
    the bottom, or at the top without ``flip``.
    """
    upper, lower = rows.start / shape[0], rows.stop / shape[0]
    if flip:
        upper, lower = 1 - lower, 1 - upper
    return columns.start / shape[1], upper, columns.stop / shape[1], lower


def cleaned(data: np.ndarray) -> np.ndarray:
    """
    Without columns and rows of a detector that are dead or hot, and with less noise where there is
    nothing else.
    """
    noise = _noise(data)
    return _smoothed(_repaired(_repaired(data, noise).T, noise).T, noise)


def _repaired(data: np.ndarray, noise: float) -> np.ndarray:
    """
    Columns that are dead or hot, from those beside them.
    """
    finite = np.isfinite(data)
    known = finite.sum(axis=0) > len(data) / 2
    if known.sum() < _MIN_COLUMNS:
        return data
    values = _finite(data)
    full = data if len(values) == data.size else np.where(finite, data, median(values))
    profile = medians(full.T)
    padded = np.pad(profile, _BESIDE, mode='reflect')
    around = medians(np.lib.stride_tricks.sliding_window_view(padded, 2 * _BESIDE + 1))
    off = np.abs(profile - around)
    usual = max(*percentiles(off, (75,)), noise)
    low, high = percentiles(values, (1, 99))
    bad = known & (off > max(_BAD * usual, _BAD_LEAST * (high - low))) & (usual > 0)
    if not 0 < bad.sum() <= _MAX_BAD * len(bad):
        return data
    good = np.flatnonzero(~bad)
    at = np.flatnonzero(bad)
    right = np.searchsorted(good, at)
    left, right = good[np.maximum(right - 1, 0)], good[np.minimum(right, len(good) - 1)]
    data = data.copy()
    data[:, at] = (data[:, left] + data[:, right]) / 2
    return data


def fill_value(data: np.ndarray) -> float | None:
    """
    The value that fills what lies outside the image, where it is not NaN; None if there is none.

    It reaches in from the edges, and is hardly found farther inside, as 0 is among counts of
    photons. The image begins beside it with a jump, or it lies amid the values of the image: what
    fades to 0 is no fill.
    """
    data = data[extent(data)]
    edges = np.concatenate([data[0], data[-1], data[:, 0], data[:, -1]])
    edges = edges[np.isfinite(edges)]
    if not len(edges):
        return None
    values, counts = np.unique(edges, return_counts=True)
    often = np.argsort(counts)[-3:]
    nothing = np.isnan(data)
    for value in dict.fromkeys((*values[often[::-1]], values[0], values[-1])):
        # Means of equal numbers may differ in the last digit.
        rounding = 1e-6 * abs(value)
        if (np.abs(edges - value) <= rounding).mean() < _MIN_EDGE:
            continue
        same = np.abs(data - value) <= rounding
        outside = _reached(same | nothing) & same
        if (same & ~outside).sum() > _MAX_INSIDE * (~outside).sum():
            continue
        rest = data[~nothing & ~outside]
        if len(rest) < _MIN_FINITE or rest.min() == rest.max():
            continue
        beside = data[~nothing & _grown(outside) & ~outside]
        low, high = percentiles(rest, (1, 99))
        jump = abs(median(beside) - value) if len(beside) else np.inf
        noise = _noise(np.where(outside, np.nan, data))
        # A frame with noise does not fade to one value.
        if (low < value < high or jump > max(_JUMP * (high - low), _NOISES * noise, 0)
                or jump > noise / 2 > _SMOOTH * (high - low)):
            return float(value)
    return None


def _reached(same: np.ndarray) -> np.ndarray:
    """
    Where one value reaches in from an edge along a row or a column.
    """
    together = np.logical_and.accumulate
    return (together(same, axis=0) | together(same[::-1], axis=0)[::-1]
            | together(same, axis=1) | together(same[:, ::-1], axis=1)[:, ::-1])


def _grown(mask: np.ndarray) -> np.ndarray:
    """
    A mask and the pixels beside it.
    """
    grown = mask.copy()
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        grown[one] |= mask[other]
        grown[other] |= mask[one]
    return grown


def _smoothed(data: np.ndarray, noise: float) -> np.ndarray:
    """
    Less noise where there is nothing but noise (the local filter of Lee 1980, IEEE Transactions on
    Pattern Analysis and Machine Intelligence 2, 165): a model has seen few pictures as noisy as a
    frame is.
    """
    known = np.isfinite(data)
    if not noise > 0:
        return _gathered(data, known)
    middle = median(_finite(data))
    # Near the median squares keep their digits, unless something huge is beside them.
    values = np.where(known, data - middle, 0)
    values /= noise
    huge = np.abs(values) > _TAME
    np.clip(values, -_TAME, _TAME, out=values)
    mean = _boxes(values)
    variance = _boxes(values * values)
    variance -= mean * mean
    # Of the difference from the mean that part is kept which is more than noise.
    values -= mean
    values *= 1 - 1 / np.maximum(variance, 1)
    values += mean
    values *= noise
    values += middle
    values[huge] = data[huge]
    return np.where(known, values, np.nan)


def _gathered(data: np.ndarray, known: np.ndarray) -> np.ndarray:
    """
    Sparse counts of photons as means over the smallest surroundings that have enough of them (as
    Ebeling, White & Rangarajan 2006, MNRAS 368, 65); other numbers as they are.
    """
    if not known.any():
        return data
    empty = data[known].min()
    lit = known & (data > empty)
    # The light of what is no photon is connected, and a few pixels are no light.
    if not _MIN_LIT * known.sum() < lit.sum() < _MAX_LIT * known.sum():
        return data
    apart = 1 - _part((lit[:, 1:] & lit[:, :-1]).sum() / lit.sum(), *_BESIDE_LIT)
    if not apart:
        return data
    values = np.where(known, data - empty, 0)
    result = np.zeros(data.shape)
    open_ = np.ones(data.shape, dtype=bool)
    for radius in _RADII:
        enough = open_ & (_boxes(lit.astype(float), radius) * (2 * radius + 1)**2 > _ENOUGH - .5)
        mean = _boxes(_boxes(values, radius), radius)  # twice: without corners
        result[enough] = mean[enough]
        open_ &= ~enough
    result[open_] = mean[open_]
    return np.where(known, empty + apart * result + (1 - apart) * values, np.nan)


def _noise(data: np.ndarray) -> float:
    """
    Standard deviation of what neighbours do not share; gradients do not count.
    """
    down = data[1:] - data[:-1]
    differences = _finite(down[:, 1:] - down[:, :-1])
    np.abs(differences, out=differences)
    return median(differences) / (2 * _SIGMA) if len(differences) else 0.0


def _boxes(values: np.ndarray, radius: int = _RADIUS) -> np.ndarray:
    """
    Means of the pixels around each.
    """
    size = 2 * radius + 1
    height, width = values.shape
    padded = np.pad(values, radius, mode='symmetric')
    # Added one by one: differences of running sums lose what is small beside what is huge.
    rows = padded[:height].copy()
    for k in range(1, size):
        rows += padded[k:k + height]
    means = rows[:, :width].copy()
    for k in range(1, size):
        means += rows[:, k:k + width]
    means /= size**2
    return means
