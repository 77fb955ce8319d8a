# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Binary tables of FITS that hold pictures -> a plane: target pixel files and HEALPix maps.

A target pixel file (Kepler, K2, TESS, and what astrocut makes) has a frame in each row. A HEALPix
map has a cell of the sky in each row, and is drawn in Mollweide's projection. The equations are
those of Gorski et al. 2005, ApJ 622, 759. Of a file only the bytes that are needed are read.
"""

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from ..exceptions import ImageError
from .blocks import Pixels, means
from .plane import Plane, step_of

__all__ = ['is_picture', 'read']

_DTYPES = {'B': 'u1', 'I': '>i2', 'J': '>i4', 'K': '>i8', 'E': '>f4', 'D': '>f8'}

# Bytes of an element of the types that are no numbers; X are bits.
_WIDTHS = {'L': 1, 'A': 1, 'C': 8, 'M': 16, 'P': 8, 'Q': 16}

_BAND = 1 << 22  # bytes that are read at once

_APART = 4096  # bytes; columns as wide as this are read without those beside them

_MIN_FINITE = 16

_INTENSITY = ('I', 'I_STOKES', 'INTENSITY', 'SIGNAL', 'T', 'TEMPERATURE')

_INDICES = ('PIXEL', 'UNIQ', 'PIX', 'IPIX', 'HPIX', 'INDEX')

_UNSEEN = -1.6375e30

_MAX_NSIDE = 1 << 29

# As many samples on a side of a cell that is drawn are enough for its mean.
_SAMPLES = 4

_SYSTEMS = {'G': ('GLON-MOL', 'GLAT-MOL'), 'E': ('ELON-MOL', 'ELAT-MOL'),
            'C': ('RA---MOL', 'DEC--MOL'), 'Q': ('RA---MOL', 'DEC--MOL')}


def is_picture(header: Any) -> bool:
    """
    Whether the header of a table says that it holds a picture, and no catalogue.
    """
    return str(header.get('XTENSION', '')).strip() == 'BINTABLE' and bool(
        _is_map(header) or _frames(_columns(header)) is not None)


def read(hdus: list, side: int, plane: str | int = 'middle',
         stream: IO[bytes] | None = None) -> Plane | None:
    """
    The picture that a table holds, `None` if there is no such table. ``stream`` is the file, if it
    was opened just now and nobody has changed its values in memory.

    Of a target pixel file ``plane`` is a frame, the middle one if it has pixels, or the ``'peak'``
    or ``'sum'`` of all; of a map the number of a column of values, the intensity by default.
    """
    for hdu in hdus:
        if str(hdu.header.get('XTENSION', '')).strip() != 'BINTABLE':
            continue
        columns = _columns(hdu.header)
        if _is_map(hdu.header):
            return _read_map(hdu, columns, side, plane, stream)
        frames = _frames(columns)
        if frames is not None:
            return _read_frames(_Values(hdu, frames, stream), frames.shape, side, plane)
    return None


def _is_map(header: Any) -> bool:
    return str(header.get('PIXTYPE', '')).strip().upper() == 'HEALPIX'


# ---- columns -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """
    A column of a binary table: where it lies in a row, and how its numbers are to be read.
    """

    number: int
    name: str
    code: str
    repeat: int
    shape: tuple[int, ...]
    offset: int
    scale: float
    zero: float
    null: int | None

    @property
    def width(self) -> int:
        return self.repeat * np.dtype(_DTYPES[self.code]).itemsize


def _columns(header: Any) -> list[_Column]:
    """
    The columns of numbers. Not by astropy, which warns of what is unusual in a header.
    """
    found, offset = [], 0
    for n in range(1, min(_whole(header.get('TFIELDS')), 999) + 1):
        form = re.match(r'\s*(\d*)([LXBIJKAEDCMPQ])', str(header.get(f'TFORM{n}', '')))
        if form is None:
            break  # where those behind it lie is not known
        repeat, code = int(form[1] or 1), form[2]
        if code in _DTYPES:
            null = header.get(f'TNULL{n}')
            column = _Column(
                n - 1, str(header.get(f'TTYPE{n}', '')).strip().upper(), code, repeat,
                _shape(header.get(f'TDIM{n}'), repeat), offset,
                _real(header.get(f'TSCAL{n}'), 1), _real(header.get(f'TZERO{n}'), 0),
                null if isinstance(null, int) and code in 'BIJK' else None)
            if repeat:
                found.append(column)
            offset += column.width
        else:
            offset += -(-repeat // 8) if code == 'X' else repeat * _WIDTHS[code]
    return found


def _shape(text: Any, repeat: int) -> tuple[int, ...]:
    """
    Shape of the arrays in a column, its last axis the fastest: ``(nx,ny)`` of FITS is (ny, nx).
    """
    sizes = re.fullmatch(r'\s*\(\s*(\d+(?:\s*,\s*\d+)*)\s*\)\s*', str(text))
    shape = tuple(map(int, reversed(sizes[1].split(',')))) if sizes else ()
    return shape if math.prod(shape) == repeat else (repeat,)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _real(value: Any, usual: float) -> float:
    good = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if good else float(usual)


class _Values:
    """
    The numbers of one column, float64, NaN where there is none; read by rows.
    """

    def __init__(self, hdu: Any, column: _Column, stream: IO[bytes] | None):
        self.column = column
        self.stream = stream
        self.memory = None
        header = hdu.header
        bad = header.get('BAD_DATA')
        self.bad = float(bad) if isinstance(bad, int | float) and bad else None
        self.row_width = _whole(header.get('NAXIS1'))
        self.n_rows = _whole(header.get('NAXIS2'))
        if stream is None:
            self.memory = np.asarray(hdu.data.field(column.number))
            self.n_rows = len(self.memory)
            return
        self.start = hdu.fileinfo()['datLoc']
        end = stream.seek(0, io.SEEK_END)
        if (column.offset + column.width > self.row_width
                or self.start + self.n_rows * self.row_width > end):
            raise ImageError('damaged_fits', error='the table is longer than the file')

    @property
    def band(self) -> int:
        """
        How many rows are to be read at once.
        """
        width = self.column.width if self.column.width >= _APART else self.row_width
        return max(1, _BAND // max(1, width or self.column.width))

    def rows(self, first: int, stop: int) -> np.ndarray:
        """
        Some rows, as an array (rows, numbers in a row).
        """
        column, stop = self.column, min(stop, self.n_rows)
        scale, zero = column.scale, column.zero
        null: float | None = column.null
        if self.memory is not None:
            # astropy has scaled them, and with them what stands for none.
            null = None if null is None else null * scale + zero
            stored, scale, zero = self.memory[first:stop], 1.0, 0.0
        else:
            stored = self._stored(first, stop)
        values = stored.reshape(max(0, stop - first), -1).astype(np.float64)
        if null is not None:
            values[values == null] = np.nan
        if self.bad is not None:  # rounded to single precision, mostly
            values[np.isclose(values, self.bad, rtol=1e-5, atol=0)] = np.nan
        if (scale, zero) != (1, 0):
            values = values * scale + zero
        return values

    def span(self, first: int, stop: int) -> np.ndarray:
        """
        Some numbers, counted through all rows.
        """
        repeat = self.column.repeat
        row = first // repeat
        numbers = self.rows(row, -(-stop // repeat)).ravel()
        return numbers[first - row * repeat:stop - row * repeat]

    def _stored(self, first: int, stop: int) -> np.ndarray:
        column, dtype = self.column, np.dtype(_DTYPES[self.column.code])
        if column.width >= _APART:
            parts = []
            for row in range(first, stop):
                self.stream.seek(self.start + row * self.row_width + column.offset)
                parts.append(self._bytes(column.width))
            return np.frombuffer(b''.join(parts), dtype).reshape(-1, column.repeat)
        self.stream.seek(self.start + first * self.row_width)
        data = self._bytes(max(0, stop - first) * self.row_width)
        rows = np.frombuffer(data, np.uint8).reshape(-1, self.row_width)
        cells = np.ascontiguousarray(rows[:, column.offset:column.offset + column.width])
        return cells.view(dtype)

    def _bytes(self, n: int) -> bytes:
        data = self.stream.read(n)
        if len(data) < n:
            raise ImageError('damaged_fits', error='the file ends within the table')
        return data


# ---- target pixel files ------------------------------------------------------------------


def _frames(columns: list[_Column]) -> _Column | None:
    """
    The column of the frames of a target pixel file: FLUX, where there is a TIME for each.
    """
    timed = any(column.name == 'TIME' for column in columns)
    return next((column for column in columns if timed and column.name == 'FLUX'
                 and len(column.shape) == 2), None)


def _read_frames(values: _Values, shape: tuple[int, ...], side: int, plane: str | int) -> Plane:
    n = values.n_rows
    if not n:
        raise ImageError('no_pixels')
    if isinstance(plane, int):
        if not 0 <= plane < n:
            raise ImageError('no_such_plane', plane=plane, n=n)
        frame = values.rows(plane, plane + 1)[0]
    elif plane == 'middle':
        frame = _middle(values)
    else:
        frame = _of_all(values, peak=plane == 'peak')
    if not np.isfinite(frame).any():
        raise ImageError('no_finite_pixels')
    step = step_of((shape[0], shape[1]), side)
    return Plane(means(Pixels.of_array(frame.reshape(shape)), step).astype(np.float32), step,
                 shape=(shape[0], shape[1]))


def _middle(values: _Values) -> np.ndarray:
    """
    The frame nearest to the middle that shows something: those of bad times are NaN, or all 0.
    """
    n = values.n_rows
    middle, far = values.rows(n // 2, n // 2 + 1)[0], n
    if _shows(middle):
        return middle
    band = values.band
    # By distance from the middle, as far as one half reaches beyond the other.
    for start in sorted(range(0, n, band), key=lambda start: _distance(start, band, n)):
        if _distance(start, band, n) > far:
            break
        for row, frame in enumerate(values.rows(start, start + band), start):
            if abs(row - n // 2) < far and _shows(frame):
                middle, far = frame, abs(row - n // 2)
    return middle


def _distance(start: int, band: int, n: int) -> int:
    return max(0, start - n // 2, n // 2 - (start + band - 1))


def _shows(frame: np.ndarray) -> bool:
    known = frame[np.isfinite(frame)]
    return known.size >= min(_MIN_FINITE, frame.size) and bool(known.min() < known.max())


def _of_all(values: _Values, *, peak: bool) -> np.ndarray:
    """
    The brightest value of each pixel, or the sum of all.
    """
    total = np.full(values.column.repeat, np.nan)
    for start in range(0, values.n_rows, values.band):
        frames = values.rows(start, start + values.band)
        frames[~np.isfinite(frames)] = np.nan
        if peak:
            total = np.fmax(total, np.fmax.reduce(frames, axis=0))
        else:
            known = np.isfinite(frames)
            sums = np.where(known, frames, 0).sum(axis=0)
            total = np.where(known.any(axis=0), np.where(np.isnan(total), 0, total) + sums, total)
    return total


# ---- maps of the sky ---------------------------------------------------------------------


def _read_map(hdu: Any, columns: list[_Column], side: int, plane: str | int,
              stream: IO[bytes] | None) -> Plane:
    header = hdu.header
    order = str(header.get('ORDERING', '')).strip().upper()
    index = None
    if order == 'NUNIQ' or str(header.get('INDXSCHM', '')).strip().upper() == 'EXPLICIT':
        index = next((column for column in columns if column.name in _INDICES), columns[:1][0])
    values = _Values(hdu, _component([column for column in columns if column is not index], plane),
                     stream)
    if order == 'NUNIQ':
        nside, drawn = 0, _drawn_nside(side)
    else:
        nside = _nside(header, values, order, explicit=index is not None)
        drawn = min(_drawn_nside(side), _coarser(nside))
    if index is not None:
        cells = _listed(values, _Values(hdu, index, stream), nside, drawn, order)
    elif order.startswith('NEST'):
        cells = _nested(values, nside, drawn)
    else:
        cells = _rings(values, nside, drawn)
    sums, weights = cells
    with np.errstate(divide='ignore', invalid='ignore'):
        sky = (sums / weights).astype(np.float32)
    system = _SYSTEMS.get(str(header.get('COORDSYS', '')).strip().upper()[:1])
    return Plane(_mollweide(sky, drawn, side), wcs=lambda: _wcs(system, side))


def _component(columns: list[_Column], plane: str | int) -> _Column:
    """
    The column that is drawn.
    """
    if not columns:
        raise ImageError('no_fits_image')
    if isinstance(plane, int):
        if not 0 <= plane < len(columns):
            raise ImageError('no_such_plane', plane=plane, n=len(columns))
        return columns[plane]
    return next((column for column in columns if column.name in _INTENSITY), columns[0])


def _nside(header: Any, values: _Values, order: str, *, explicit: bool) -> int:
    n = values.n_rows * values.column.repeat
    if order not in ('RING', 'NEST', 'NESTED'):
        raise ImageError('no_fits_image')  # where something is, and no values
    nside = _whole(header.get('NSIDE')) or math.isqrt(n // 12)
    if not (0 < nside <= _MAX_NSIDE and (explicit or n == 12 * nside**2)
            and (order == 'RING' or nside & (nside - 1) == 0)):
        raise ImageError('damaged_fits', error=f'HEALPix of NSIDE {nside} with {n} values')
    return nside


def _drawn_nside(side: int) -> int:
    """
    Resolution of cells that are about as small as the pixels of the picture, a power of two.
    """
    return 1 << max(0, math.ceil(math.log2(side * math.sqrt(math.pi / 24))))


def _coarser(nside: int) -> int:
    """
    Resolution of cells of which each has some centre of those of ``nside``, a power of two.
    """
    whole = 1 << nside.bit_length() - 1
    return whole if whole == nside else max(1, whole // 2)


def _known(values: np.ndarray) -> np.ndarray:
    """
    Where there is a value: unseen cells have one of their own, which single precision rounds.
    """
    with np.errstate(invalid='ignore'):
        return np.isfinite(values) & ~(np.abs(values / _UNSEEN - 1) < 1e-5)


def _nested(values: _Values, nside: int, drawn: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Sums and numbers of the values in each drawn cell: in nested order they stand together.
    """
    n, block = 12 * nside**2, (nside // drawn)**2
    sums, counts = np.zeros(12 * drawn**2), np.zeros(12 * drawn**2)
    band = max(1, values.band * values.column.repeat // block) * block
    for start in range(0, n, band):
        part = values.span(start, min(start + band, n)).reshape(-1, block)
        cells = slice(start // block, start // block + len(part))
        if part.min() > _UNSEEN / 2 and np.isfinite(part.max()):  # neither is NaN
            sums[cells], counts[cells] = part.sum(axis=1), block
            continue
        known = _known(part)
        sums[cells] = np.where(known, part, 0).sum(axis=1)
        counts[cells] = known.sum(axis=1)
    return sums, counts


def _rings(values: _Values, nside: int, drawn: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Sums and numbers of the values in each drawn cell; of a fine map some rings, and some of each.
    """
    every = max(1, nside // (_SAMPLES * drawn))
    rings = [_ring(nside, number) for number in range(every // 2 + 1, 4 * nside, every)]
    z, longitude = _centres(nside, np.array([first for first, _ in rings]))

    def samples() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for i, (first, n) in enumerate(rings):
            skip = i * 7 % min(every, n)  # not one below the other
            places = longitude[i] + np.arange(skip, n, every) * (2 * math.pi / n)
            yield (np.full(len(places), z[i]), places,
                   values.span(first, first + n)[skip::every])

    return _gathered(samples(), drawn)


def _listed(values: _Values, index: _Values, nside: int, drawn: int,
            order: str) -> tuple[np.ndarray, np.ndarray]:
    """
    Sums and weights of the values in each drawn cell, of a map that names its cells.
    """
    band = min(values.band, index.band)

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, values.n_rows, band):
            numbers, cells = (column.rows(start, start + band).ravel()
                              for column in (values, index))
            if len(numbers) != len(cells):
                raise ImageError('damaged_fits', error='not one value for each cell')
            cells = np.where(np.isfinite(cells), cells, -1).astype(np.int64)
            good = cells >= 0 if order == 'NUNIQ' else (cells >= 0) & (cells < 12 * nside**2)
            yield cells[good], numbers[good]

    if order == 'NUNIQ':
        return _many_orders(parts(), drawn)
    if order == 'RING':
        return _gathered(((*_centres(nside, cells), numbers) for cells, numbers in parts()), drawn)
    n, block = 12 * drawn**2, (nside // drawn)**2
    sums, counts = np.zeros(n), np.zeros(n)
    for cells, numbers in parts():
        known = _known(numbers)
        _add(sums, counts, cells[known] // block, numbers[known])
    return sums, counts


def _gathered(parts: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]],
              drawn: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Sums and numbers of values by the drawn cells in which the centres of their own lie: sine of the
    latitude, longitude, value.
    """
    sums, counts = np.zeros(12 * drawn**2), np.zeros(12 * drawn**2)
    held: list[tuple[np.ndarray, ...]] = []

    def flush() -> None:
        z, longitude, numbers = map(np.concatenate, zip(*held, strict=True))
        known = _known(numbers)
        _add(sums, counts, _nested_cells(drawn, z, longitude)[known], numbers[known])
        held.clear()

    n = 0
    for part in parts:  # rings are short
        held.append(part)
        n += len(part[0])
        if n > _BAND // 64:
            flush()
            n = 0
    if held:
        flush()
    return sums, counts


def _add(sums: np.ndarray, counts: np.ndarray, cells: np.ndarray, numbers: np.ndarray) -> None:
    sums += np.bincount(cells, numbers, len(sums))
    counts += np.bincount(cells, minlength=len(counts))


def _many_orders(parts: Iterator[tuple[np.ndarray, np.ndarray]],
                 drawn: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Sums and areas of the values in each drawn cell, of a map with cells of many sizes.
    """
    n, depth = 12 * drawn**2, drawn.bit_length() - 1
    sums, weights = np.zeros(n), np.zeros(n)
    # Of values that cover many cells only the first, and the one behind the last, are touched.
    steps = [np.zeros(n + 1), np.zeros(n + 1)]
    firsts = 4 * 4**np.arange(30)
    for uniq, numbers in parts:
        known = _known(numbers) & (uniq >= 4)
        uniq, numbers = uniq[known], numbers[known]
        order = np.searchsorted(firsts, uniq, 'right') - 1
        cell = uniq - firsts[order]
        wide = order <= depth
        shift = 2 * (depth - order[wide])
        for step, amount in zip(steps, (numbers[wide], np.ones(wide.sum())), strict=True):
            step += np.bincount(cell[wide] << shift, amount, n + 1)
            step -= np.bincount((cell[wide] + 1) << shift, amount, n + 1)
        shift = 2 * (order[~wide] - depth)
        area = 0.25**(shift / 2)
        parent = cell[~wide] >> shift
        sums += np.bincount(parent, numbers[~wide] * area, n)
        weights += np.bincount(parent, area, n)
    wholly = np.rint(np.cumsum(steps[1])[:n])
    covered = wholly > 0
    sums[covered] += np.cumsum(steps[0])[:n][covered]
    return sums, weights + wholly


# ---- cells -------------------------------------------------------------------------------


def _ring(nside: int, number: int) -> tuple[int, int]:
    """
    First cell of a ring, counted from 1 at the north pole, and how many it has.
    """
    if number < nside:
        return 2 * number * (number - 1), 4 * number
    if number <= 3 * nside:
        return 2 * nside * (nside - 1) + (number - nside) * 4 * nside, 4 * nside
    number = 4 * nside - number
    return 12 * nside**2 - 2 * number * (number + 1), 4 * number


def _centres(nside: int, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Sine of the latitude, and longitude in radians, of the centres of cells in ring order.
    """
    n, cap = 12 * nside**2, 2 * nside * (nside - 1)
    south = cells >= n - cap
    polar = np.where(south, n - 1 - cells, cells)  # counted from the nearer pole
    belt = (cells >= cap) & ~south
    ring = ((1 + np.sqrt(1 + 2.0 * polar)) / 2).astype(np.int64)
    # The square root may be rounded to the wrong side.
    ring -= 2 * ring * (ring - 1) > polar
    ring += 2 * ring * (ring + 1) <= polar
    place = polar - 2 * ring * (ring - 1)
    z = 1 - ring**2 / (3.0 * nside**2)
    longitude = (place + .5) * math.pi / (2 * np.maximum(ring, 1))
    z, longitude = np.where(south, -z, z), np.where(south, 2 * math.pi - longitude, longitude)
    ring, place = np.divmod(cells - cap, 4 * nside)
    z = np.where(belt, (nside - ring) * 2 / (3.0 * nside), z)
    return z, np.where(belt, (place + .5 * (ring % 2 == 0)) * math.pi / (2 * nside), longitude)


def _nested_cells(nside: int, z: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """
    Cells in nested order, by the sine of the latitude and the longitude in radians; ``nside`` is a
    power of two below 2^14.
    """
    quarter = longitude * (2 / math.pi)
    quarter -= 4 * np.floor(quarter / 4)
    # Between the polar caps: lines of cells that rise and that fall to the right.
    depth, low = nside.bit_length() - 1, nside - 1
    rising = (nside * (.5 + quarter - .75 * z)).astype(np.int32)
    falling = (nside * (.5 + quarter + .75 * z)).astype(np.int32)
    left, right = rising >> depth, falling >> depth
    face = np.where(left == right, left & 3 | 4, np.where(left < right, left, right + 8))
    x, y = falling & low, low - (rising & low)
    cap = np.abs(z) > 2 / 3
    if cap.any():
        height, share = z[cap], quarter[cap]
        north, whole = height > 0, np.minimum(share.astype(np.int32), 3)
        share = share - whole
        far = nside * np.sqrt(3 * (1 - np.abs(height)))
        ahead = np.minimum((share * far).astype(np.int32), low)
        behind = np.minimum(((1 - share) * far).astype(np.int32), low)
        face[cap] = np.where(north, whole, whole + 8)
        x[cap] = np.where(north, low - behind, ahead)
        y[cap] = np.where(north, low - ahead, behind)
    return (face << 2 * depth) + (_spread(x) | _spread(y) << 1)


def _spread(number: np.ndarray) -> np.ndarray:
    """
    Each bit at twice its place, of numbers below 2^14.
    """
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        number = (number | number << shift) & mask
    return number


# ---- the projection ----------------------------------------------------------------------


def _mollweide(sky: np.ndarray, nside: int, side: int) -> np.ndarray:
    """
    Picture (side, 2 side) of a map in nested order: north up, longitude 0 in the middle, growing to
    the left; NaN outside of the ellipse.
    """
    # Of the ellipse with half axes of 1.
    across = ((np.arange(2 * side) + .5) / side - 1)[None, :]
    sine = ((np.arange(side) + .5) / side * 2 - 1)[:, None]
    cosine = np.sqrt(1 - sine**2)
    z = (2 * np.arcsin(sine) + 2 * sine * cosine) / math.pi
    inside = np.abs(across) <= cosine
    z, longitude = (np.broadcast_to(part, inside.shape)[inside]
                    for part in (z, -math.pi * across / cosine))
    picture = np.full(inside.shape, np.nan, np.float32)
    picture[inside] = sky[_nested_cells(nside, z, longitude)]
    return picture


def _wcs(system: tuple[str, str] | None, side: int) -> Any:
    """
    The projection of a picture, `None` if the map does not say which coordinates it has.
    """
    from astropy.wcs import WCS

    if system is None:
        return None
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = system
    wcs.wcs.crpix = side + .5, side / 2 + .5
    width = math.degrees(2 * math.sqrt(2)) / side
    wcs.wcs.cdelt = -width, width
    return wcs
