# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Large arrays -> small ones, each value the mean of a block of pixels, with little memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .quantiles import median

__all__ = ['Pixels', 'means', 'origin']

# Pixels that are converted at once: so many stay in the processor's cache.
_BAND = 1 << 19

# A column of a block stands out so many times farther than usual, and those around it no more than
# this part of it.
_SPIKE = 8.0
_BESIDE = 0.2
_AROUND = 3
_MIN_BLOCKS = 500  # that tell what is usual

# What is larger is no measurement.
_LARGEST = 1e150

# Larger integers are not all float64; differences that are as large are not all int64.
_EXACT = 1 << 53
_FAR = 1 << 62


@dataclass(frozen=True)
class Pixels:
    """
    An image or a cube as it is stored, of which only what is asked for is read.

    ``read`` takes a tuple with one integer or slice per axis, as an array does, and gives numbers
    as they are stored: the physical value is ``zero + scale * number``, and there is none where the
    number is one of ``blanks``, or where ``masked``, which takes the same tuple, is true. From
    integers so large that float64 has not all their digits, the ``origin`` is subtracted for good:
    a picture does not depend on it.
    """

    shape: tuple[int, ...]
    read: Callable[[tuple], np.ndarray]
    scale: float = 1.0
    zero: float = 0.0
    blanks: tuple[float, ...] = ()
    masked: Callable[[tuple], np.ndarray] | None = None
    origin: int = 0
    rows_at_once: int = 1  # that cost no more than one: the height of a compressed tile

    @classmethod
    def of_array(cls, data: np.ndarray, mask: Any = None, **stored: Any) -> 'Pixels':
        """
        The pixels of an array that may have a mask, True where there is no value.
        """
        stored['origin'] = origin(data.__getitem__, data.shape)
        if mask is None or mask is np.ma.nomask or not np.any(mask):
            return cls(data.shape, data.__getitem__, **stored)
        mask = np.broadcast_to(np.asarray(mask, dtype=bool), data.shape)
        return cls(data.shape, data.__getitem__, masked=mask.__getitem__, **stored)

    def numbers(self, index: tuple, room: np.ndarray | None = None) -> np.ndarray:
        """
        Part of the pixels as they are stored, in native float32 or float64, NaN where there is no
        value; in ``room``, if it is such an array.
        """
        stored = np.asarray(self.read(index))
        # Floats of eight bytes and integers of four keep all their digits.
        wide = stored.dtype.itemsize > (2 if stored.dtype.kind in 'iu' else 4)
        dtype = np.float64 if wide else np.float32
        if self.origin:
            values = _differences(stored, self.origin)
        elif room is not None and room.shape == stored.shape and room.dtype == dtype:
            values = room
            values[...] = stored
        else:
            values = stored.astype(dtype)
        for blank in self.blanks:
            values[stored == blank] = np.nan
        if self.masked is not None:
            values[self.masked(index)] = np.nan
        return values

    def physical(self, values: np.ndarray) -> np.ndarray:
        """
        Physical values, float64, of numbers as they are stored; less a constant if they have an
        ``origin``.
        """
        with np.errstate(all='ignore'):
            return (0 if self.origin else self.zero) + self.scale * values.astype(np.float64)


def origin(read: Callable[[tuple], np.ndarray], shape: tuple[int, ...]) -> int:
    """
    What is to be subtracted from integers, 0 unless they are too large for float64.
    """
    if 0 in shape:
        return 0
    first = np.asarray(read((0,) * len(shape)))
    large = first.dtype.kind in 'iu' and first.dtype.itemsize == 8 and abs(int(first)) > _EXACT
    return int(first) if large else 0


def means(pixels: Pixels, step: int, *, plane: tuple[int, ...] = (),
          axes: tuple[int, int] | None = None, rows: int = 0) -> np.ndarray:
    """
    Means of blocks of ``step`` x ``step`` pixels, those at the far edges smaller; float64, NaN
    where a block has no value.

    ``axes`` are the axes of the rows and of the columns, the last two if none are given; ``plane``
    has the place on all others. Of each block only ``rows`` rows are read, 0 means all.
    """
    ndim = len(pixels.shape)
    down, across = axes or (ndim - 2, ndim - 1)
    height, width = pixels.shape[down], pixels.shape[across]
    others = [axis for axis in range(ndim) if axis not in (down, across)]
    index: list[Any] = [slice(None)] * ndim
    for axis, place in zip(others, plane, strict=True):
        index[axis] = place
    taken = min(rows, step) if rows else step
    n = max(1, _BAND // (step * width), 2 * pixels.rows_at_once // step) if taken == step else 1
    # First only down the rows: little is left to be done then, and hot pixels can still be told.
    parts = []
    values = None
    for start in range(0, height, n * step):
        index[down] = slice(start, min(start + (n * step if taken == step else taken), height))
        # In the memory of the band before: to get some from the system costs more than to convert.
        values = pixels.numbers(tuple(index), values)
        parts.append(_columns(values.T if across < down else values, step))
    columns = np.concatenate([columns for columns, _ in parts])
    wide = any(counts.shape[1] > 1 for _, counts in parts)
    counts = np.concatenate([np.broadcast_to(counts, (len(counts), width)) if wide else counts
                             for _, counts in parts])
    return pixels.physical(columns if step == 1 else _without_spikes(columns, counts, step))


def _columns(values: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Of the rows of one band the mean of each column of a block, and of how many values it is.
    """
    n_rows = len(values)
    lengths = np.minimum(step, n_rows - np.arange(0, n_rows, step))[:, None]

    def sums(values: np.ndarray) -> np.ndarray:
        return _across(np.add, values, step)

    with np.errstate(all='ignore'):
        found = sums(values) / lengths.astype(values.dtype)
        if np.abs(found).max() <= _LARGEST:
            return found, lengths
        # Some pixel is none.
        known = np.abs(values) <= _LARGEST
        counts = sums(known.astype(np.float64))
        found = sums(np.where(known, values, 0).astype(np.float64))
        return found / np.where(counts > 0, counts, np.nan), counts


def _without_spikes(columns: np.ndarray, counts: np.ndarray, step: int) -> np.ndarray:
    """
    Means of blocks from those of their columns, but for a column that stands out alone: in it is a
    hot or a dead pixel. A star has light beside it, unless it is much sharper than a pixel.
    """
    gaps = counts.shape[1] > 1
    widths = np.minimum(step, columns.shape[1] - np.arange(0, columns.shape[1], step))
    # Turned first: whole rows are added faster than a few numbers.
    turned = np.ascontiguousarray(columns.T)
    with np.errstate(all='ignore'):
        if gaps:
            total = _across(np.add, counts.T, step)
            result = (_across(np.add, np.nan_to_num(turned) * counts.T, step)
                      / np.where(total > 0, total, np.nan))
        else:  # all columns of a block are means of as many
            total = widths[:, None] * counts.T
            result = _across(np.add, turned, step, dtype=np.float64) / widths[:, None]
        most, least = (np.fmax, np.fmin) if gaps else (np.maximum, np.minimum)
        far = np.maximum(_across(most, turned, step) - result,
                         result - _across(least, turned, step))
        some = far[far > 0]
        usual = median(some) if len(some) > _MIN_BLOCKS else 0
        total, result, far = total.T, np.ascontiguousarray(result.T), far.T
        rows, blocks = np.nonzero(far > _SPIKE * usual)
    if not usual > 0 or not len(rows):
        return result
    # The columns of such a block, and some on either side.
    places = blocks[:, None] * step + np.arange(-_AROUND, step + _AROUND)
    inside = (places >= 0) & (places < columns.shape[1])
    around = np.where(inside, columns[rows[:, None], np.where(inside, places, 0)], np.nan)
    off = np.abs(around - np.nanmedian(around, axis=1, keepdims=True))
    off = np.where(np.isfinite(off), off, 0)
    second, top = np.partition(off, (-2, -1), axis=1)[:, -2:].T
    first = off.argmax(axis=1)
    alone = ((top > _SPIKE * usual) & (second < _BESIDE * top)
             & (first >= _AROUND) & (first < _AROUND + step))
    rows, blocks, at = rows[alone], blocks[alone], places[alone, first[alone]]
    counts = np.broadcast_to(counts, columns.shape)
    left = total[rows, blocks] - counts[rows, at]
    with np.errstate(all='ignore'):
        result[rows, blocks] = (result[rows, blocks] * total[rows, blocks]
                                - columns[rows, at] * counts[rows, at]) / np.where(
                                    left > 0, left, np.nan)
    return result


def _across(function: np.ufunc, turned: np.ndarray, step: int, **options: Any) -> np.ndarray:
    """
    Sums or the like of every ``step`` rows, and of those that are left.
    """
    whole = len(turned) // step * step
    lines = function.reduce(turned[:whole].reshape(-1, step, turned.shape[1]), axis=1, **options)
    return lines if whole == len(turned) else np.concatenate(
        [lines, function.reduce(turned[whole:], axis=0, keepdims=True, **options)])


def _differences(stored: np.ndarray, origin: int) -> np.ndarray:
    """
    Integers of 64 bits less another one, float64: exact where the difference is small.
    """
    rough = stored.astype(np.float64) - float(origin)
    native = stored.astype(stored.dtype.newbyteorder('='))
    exact = (native - native.dtype.type(origin)).view(np.int64)
    return np.where(np.abs(rough) < _FAR, exact, rough)
