# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Large arrays -> small ones, each value the mean of a block of pixels, with little memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ['Pixels', 'means', 'origin']

# Pixels that are converted at once: so many stay in the processor's cache.
_BAND = 1 << 19

# What float32 cannot hold is no measurement.
_LARGEST = float(np.finfo(np.float32).max)

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
    result = np.empty((-(-height // step), -(-width // step)))
    values = None
    for i in range(0, len(result), n):
        start = i * step
        index[down] = slice(start, min(start + (n * step if taken == step else taken), height))
        # In the memory of the band before: to get some from the system costs more than to convert.
        values = pixels.numbers(tuple(index), values)
        result[i:i + n] = _means(values.T if across < down else values, step)
    return pixels.physical(result)


def _means(values: np.ndarray, step: int) -> np.ndarray:
    """
    Means of blocks of the rows of one band.
    """
    with np.errstate(all='ignore'):
        if step == 1:
            return np.where(np.abs(values) <= _LARGEST, values, np.nan)
        result = _sums(values, step) / _counts(values.shape, step)
        # Not all finite: some pixel is none.
        if not (np.abs(result) <= _LARGEST).all():
            known = np.abs(values) <= _LARGEST
            counts = _sums(known.astype(np.float32), step)
            result = (_sums(np.where(known, values, 0).astype(np.float64), step)
                      / np.where(counts > 0, counts, np.nan))
        return result


def _sums(values: np.ndarray, step: int) -> np.ndarray:
    """
    Sums of blocks: first down the rows, which is quick, and then across what is left.
    """
    n_rows, n_columns = values.shape
    whole, across = n_rows // step * step, n_columns // step * step
    lines = np.add.reduce(values[:whole].reshape(-1, step, n_columns), axis=1)
    if whole < n_rows:
        lines = np.concatenate([lines, values[whole:].sum(axis=0, keepdims=True)])
    sums = np.add.reduce(lines[:, :across].reshape(len(lines), -1, step), axis=2)
    if across < n_columns:
        sums = np.concatenate([sums, lines[:, across:].sum(axis=1, keepdims=True)], axis=1)
    return sums


def _counts(shape: tuple[int, ...], step: int) -> np.ndarray:
    """
    How many pixels each block has.
    """
    return np.multiply.outer(*(np.minimum(step, n - np.arange(0, n, step)) for n in shape))


def _differences(stored: np.ndarray, origin: int) -> np.ndarray:
    """
    Integers of 64 bits less another one, float64: exact where the difference is small.
    """
    rough = stored.astype(np.float64) - float(origin)
    native = stored.astype(stored.dtype.newbyteorder('='))
    exact = (native - native.dtype.type(origin)).view(np.int64)
    return np.where(np.abs(rough) < _FAR, exact, rough)
