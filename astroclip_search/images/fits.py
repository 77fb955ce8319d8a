# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
FITS files, HDUs and arrays -> one plane of numbers, small, with its place on the sky.

A grey image, or one colour of a composite, is drawn from a plane.
"""

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

import numpy as np

from ..exceptions import ImageError, one_line
from . import pixel_tables, science
from .blocks import Pixels, means, origin
from .declared import check_sizes
from .mosaic import Frame
from .plane import Plane, celestial, step_of
from .stretch import fill_value

__all__ = ['read_array', 'read_fits', 'read_hdus', 'science_hdu']

_DTYPES = {8: 'u1', 16: '>i2', 32: '>i4', 64: '>i8', -32: '>f4', -64: '>f8'}

_MIN_FINITE = 16

_SAMPLED_ROWS = 24

# Bytes of a file that is far away which are read for one plane.
_FAR_BYTES = 64 * 1024**2

_MAX_FILLS = 3

# Planes of a cube that are looked at to find one that has pixels.
_TRIES = 32

# Tables of distortions, of all chips of a file, and their numbers.
_DISTORTIONS, _MOST_TABLES, _MOST_OF_TABLE = ('WCSDVARR', 'D2IMARR'), 100, 10**6


@dataclass(frozen=True)
class _Image:
    """
    An image extension: how to read it, and what its header says.
    """

    hdu: Any
    header: Any
    pixels: Pixels
    axes: science.Axes
    name: str

    @property
    def shape(self) -> tuple[int, int]:
        return self.pixels.shape[self.axes.down], self.pixels.shape[self.axes.across]

    @property
    def looks_like_sky(self) -> bool:
        """
        Whether some rows of the middle plane may be of the sky.
        """
        index: list[Any] = [n // 2 for n in self.pixels.shape]
        index[self.axes.down] = slice(0, None, max(1, self.shape[0] // _SAMPLED_ROWS))
        index[self.axes.across] = slice(None)
        return science.looks_like_sky(self.pixels.numbers(tuple(index)),
                                      integers=int(self.header.get('BITPIX', -32)) > 0)


def read_fits(stream: IO[bytes], side: int, max_pixels: int, *,
              plane: str | int = 'middle') -> Plane:
    """
    The science image of a FITS file, reduced to about ``side`` pixels. Of a large file that is far
    away only some rows of each block are read.
    """
    from astropy.io import fits

    try:
        check_sizes(stream)
        # Opened here: astropy leaves a path that it cannot read open.
        # Threads share the warning filters, so none is changed here: a header that astropy only
        # warns about must not fail where warnings are errors, hence the lazy, unverified opening.
        # Numbers are scaled here: astropy takes no BLANK of 0, and none of unsigned integers.
        with fits.open(stream, lazy_load_hdus=True, output_verify='ignore',
                       do_not_scale_image_data=True) as hdus:
            return read_hdus(hdus, side, max_pixels, plane=plane, stream=stream)
    except ImageError:
        raise
    # A damaged FITS file raises OSError, ValueError, KeyError, TypeError, VerifyError and more.
    except Exception as error:
        raise ImageError('damaged_fits', error=one_line(error)) from error


def read_hdus(hdus: list, side: int, max_pixels: int, *, plane: str | int = 'middle',
              stream: IO[bytes] | None = None) -> Plane:
    """
    The science image of an open FITS file; all chips of a mosaic where they have a WCS. ``stream``
    is the file, if it was opened just now and nobody has changed its pixels in memory.
    """
    images = _images(hdus, stream, max_pixels)
    max_bytes = 0 if stream is None or _is_here(stream) else _FAR_BYTES
    if not images:
        table = pixel_tables.read(hdus, side, plane, stream)
        if table is None:
            raise ImageError('no_fits_image')
        return table
    error: ImageError | None = None
    for image in images:
        chips = _chips(image, images)
        try:
            if len(chips) > 1:
                return _mosaic(chips, side, plane, max_bytes)
            return _single(chips, side, plane, max_bytes,
                           partial(celestial, image.header, image.axes,
                                   _distortions(hdus, image.header)))
        except ImageError as failure:
            error = error or failure
    raise error


def _distortions(hdus: list, header: Any) -> Any:
    """
    The tables by which a WCS is distorted, as of HST, so that the file may be closed; `None` if
    there are none.
    """
    from astropy.io import fits

    if not any(key in header for key in ('CPDIS1', 'CPDIS2', 'D2IMDIS1', 'D2IMDIS2')):
        return None
    found = fits.HDUList([fits.PrimaryHDU()])
    # Whatever is wrong with them, the picture can be drawn without.
    with contextlib.suppress(Exception):
        for hdu in hdus[1:]:
            if hdu.name in _DISTORTIONS and math.prod(hdu.shape) <= _MOST_OF_TABLE:
                found.append(fits.ImageHDU(np.array(hdu.data), hdu.header, hdu.name, ver=hdu.ver))
            if len(found) > _MOST_TABLES:
                break
    return found if len(found) > 1 else None


def science_hdu(hdus: list) -> Any:
    """
    The extension whose image `read_hdus` draws, or the first of its chips.
    """
    images = _images(hdus, None, 0)
    if not images:
        raise ImageError('no_fits_image')
    return images[0].hdu


def read_array(data: np.ndarray, holder: Any = None, *, mask: Any = None, side: int = 512,
               plane: str | int = 'middle') -> Plane:
    """
    An array ``(ny, nx)`` or a cube, with a mask or without; ``holder`` (HDU, NDData, Cutout2D)
    knows its WCS.
    """
    header = getattr(holder, 'header', None) or {}
    image = _Image(holder, header, Pixels.of_array(data, mask), science.Axes(header, data.ndim), '')
    return _single([image], side, plane, 0, wcs=lambda: celestial(holder))


def _images(hdus: list, stream: IO[bytes] | None, max_pixels: int) -> list[_Image]:
    """
    The images of a file that may show the sky, the likeliest first.
    """
    found = []
    for hdu in hdus:
        shape = getattr(hdu, 'shape', ()) if getattr(hdu, 'is_image', False) else ()
        if len(shape) < 2 or 0 in shape:
            continue
        # Before the pixels: with them astropy changes the header.
        header = hdu.header.copy()
        axes = science.Axes(header, len(shape))
        name = str(hdu.name)
        if min(shape[axes.down], shape[axes.across]) < 4:
            continue
        standing = science.standing(name, header)
        if standing != science.NO_SKY:
            found.append((standing, _Image(hdu, header, _pixels(hdu, header, stream, max_pixels),
                                           axes, name)))
    best = min((standing for standing, _ in found), default=science.SCIENCE)
    if best == science.SCIENCE:
        # Where several say so, the one named SCI.
        found.sort(key=lambda item: (item[0], item[1].name.upper() != 'SCI'))
    elif sum(standing == best for standing, _ in found) > 1:
        # Names do not tell: the numbers may.
        found.sort(key=lambda item: (item[0] if item[0] > best or item[1].looks_like_sky
                                     else science.DOUBTFUL))
    else:
        found.sort(key=lambda item: item[0])
    return [image for _, image in found]


def _pixels(hdu: Any, header: Any, stream: IO[bytes] | None, max_pixels: int) -> Pixels:
    """
    The pixels of an extension as they are stored: in the file, where nobody has changed them.
    """
    scale, zero = (_number(header.get(key), usual) for key, usual in (('BSCALE', 1), ('BZERO', 0)))
    blank = header.get('BLANK')
    integers = int(header.get('BITPIX', -32)) > 0
    blanks: tuple[float, ...] = (blank,) if integers and isinstance(blank, int) else ()
    tile = getattr(hdu, 'tile_shape', None)
    if stream is None:
        # Scaled by astropy, or made by the user.
        loaded = 'data' in vars(hdu) or not hdu.fileinfo()
        blanks = tuple(zero + scale * blank for blank in blanks)
        if loaded:
            return Pixels.of_array(hdu.data, blanks=blanks)
        return _as_stored(hdu, header, hdu.section.__getitem__, blanks=blanks,
                          rows_at_once=tile[-2] if tile else 1)
    if tile is not None:
        height, width = hdu.shape[-2:]
        if max(height * width, math.prod(tile)) > max_pixels:
            raise ImageError('too_many_pixels', width=width, height=height, limit=max_pixels)
        return _as_stored(hdu, header, hdu.section.__getitem__, scale=scale, zero=zero,
                          blanks=blanks, rows_at_once=tile[-2])
    return _as_stored(hdu, header, _file_reader(hdu, stream), scale=scale, zero=zero,
                      blanks=blanks)


def _as_stored(hdu: Any, header: Any, read: Callable[[tuple], np.ndarray],
               **stored: Any) -> Pixels:
    large = header.get('BITPIX') == 64
    return Pixels(hdu.shape, read, origin=origin(read, hdu.shape) if large else 0, **stored)


def _file_reader(hdu: Any, stream: IO[bytes]) -> Callable[[tuple], np.ndarray]:
    """
    Reads parts of an uncompressed image that lies in a file.
    """
    offset = hdu.fileinfo()['datLoc']
    dtype = np.dtype(_DTYPES[hdu.header['BITPIX']])
    if isinstance(stream, io.BytesIO):
        data = np.frombuffer(stream.getvalue(), dtype, math.prod(hdu.shape), offset)
        return data.reshape(hdu.shape).__getitem__
    if not _is_here(stream):
        return hdu.section.__getitem__
    # A view without the class: that of memory maps costs time for each part.
    return np.memmap(stream, dtype, 'r', offset, hdu.shape).view(np.ndarray).__getitem__


def _is_here(stream: IO[bytes]) -> bool:
    """
    Whether a file is on this machine, or in memory.
    """
    if isinstance(stream, io.BytesIO):
        return True
    try:
        stream.fileno()
    except (AttributeError, OSError):
        return False
    return True


def _number(value: Any, usual: float) -> float:
    good = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if good else float(usual)


def _single(chips: Sequence[_Image], side: int, plane: str | int, max_bytes: int,
            wcs: Callable[[], Any] | None = None) -> Plane:
    image = chips[0]
    step = step_of(image.shape, side)
    data = _filled(image, step, plane, max_bytes)
    if not _has_content(data):
        raise ImageError('one_value' if np.isfinite(data).any() else 'no_finite_pixels')
    return Plane(data, step, wcs or (lambda: celestial(image.header, image.axes)), image.shape)


def _filled(image: _Image, step: int, plane: str | int, max_bytes: int) -> np.ndarray:
    """
    Block means of the chosen plane without what only fills the frame.
    """
    data = _values(image, step, plane, max_bytes)
    for _ in range(_MAX_FILLS):
        value = fill_value(data)
        if value is None:
            break
        row, column = (int(places[0]) for places in np.nonzero(data == value))
        index: list[Any] = [n // 2 for n in image.pixels.shape]
        index[image.axes.down] = slice(row * step, (row + 1) * step)
        index[image.axes.across] = slice(column * step, (column + 1) * step)
        stored = np.asarray(image.pixels.read(tuple(index))).ravel()
        near = np.abs(image.pixels.physical(stored) - value)
        if np.isnan(near).all():
            break
        # Blocks at its border are means of the fill and the image.
        pixels = replace(image.pixels, blanks=(
            *image.pixels.blanks, stored[np.nanargmin(near)]))
        image = replace(image, pixels=pixels)
        data = _values(image, step, plane, max_bytes)
    return data


def _has_content(data: np.ndarray) -> bool:
    known = np.isfinite(data).sum()
    return bool(known >= min(_MIN_FINITE, data.size)
                and np.fmin.reduce(data, axis=None) < np.fmax.reduce(data, axis=None))


def _values(image: _Image, step: int, plane: str | int, max_bytes: int) -> np.ndarray:
    """
    Block means of the chosen plane.
    """
    shape = image.pixels.shape
    rows = 0
    if max_bytes:
        size = math.prod(image.shape) * abs(int(image.header.get('BITPIX', 32))) // 8
        rows = max(1, step * max_bytes // size) if size > max_bytes else 0

    def read(place: tuple[int, ...]) -> np.ndarray:
        return means(image.pixels, step, plane=place, axes=(image.axes.down, image.axes.across),
                     rows=rows)

    places: list[Sequence[int]] = [range(shape[axis]) if kind != 'stokes' else
              [science.total_intensity(image.header, len(shape) - axis, shape[axis])]
              for axis, kind in image.axes.others]
    n = math.prod(map(len, places))
    at = _places(places)
    if isinstance(plane, int) and n > 1:
        if not 0 <= plane < n:
            raise ImageError('no_such_plane', plane=plane, n=n)
        return read(at(plane))
    if plane in ('peak', 'sum') and n > 1:
        total: np.ndarray | None = None
        for i in range(n):
            data = read(at(i))
            total = data if total is None else (
                np.fmax(total, data) if plane == 'peak' else
                np.where(np.isnan(data), total, np.where(np.isnan(total), 0, total) + data))
        return total
    best = None
    for i in _from_the_middle(n):
        data = read(at(i))
        if _has_content(data):
            return data
        best = data if best is None else best
    return best


def _places(places: list[Sequence[int]]) -> Callable[[int], tuple[int, ...]]:
    """
    Gives the place on each further axis of the n-th plane, as in the file.
    """
    lengths = tuple(map(len, places))

    def at(number: int) -> tuple[int, ...]:
        if not lengths:
            return ()
        return tuple(several[int(i)] for several, i in zip(
            places, np.unravel_index(number, lengths), strict=True))

    return at


def _from_the_middle(n: int) -> Iterator[int]:
    """
    Numbers below ``n``: the middle, its neighbours, and then some from everywhere.
    """
    near = sorted(range(n), key=lambda i: abs(i - n // 2)) if n <= 2 * _TRIES else [
        *range(n // 2, n // 2 + 3), *range(n // 2 - 3, n // 2),
        *sorted(range(0, n, n // _TRIES), key=lambda i: abs(i - n // 2))]
    return iter(near)


def _chips(image: _Image, images: Sequence[_Image]) -> list[_Image]:
    """
    The images that are chips of the same camera as this one, itself first.
    """
    def alike(other: _Image) -> bool:
        return other.axes.celestial and other.pixels.shape == image.pixels.shape and all(
            other.header.get(key) == image.header.get(key) for key in ('BITPIX', 'BUNIT'))

    return [image, *(other for other in images if other is not image and image.axes.celestial
                     and alike(other))]


def _mosaic(chips: Sequence[_Image], side: int, plane: str | int, max_bytes: int) -> Plane:
    """
    Several chips on the pixels of the first; that one alone where the others are not beside it.
    """
    known = [(chip, wcs) for chip in chips
             if (wcs := celestial(chip.header, chip.axes)) is not None]
    if len(known) < 2 or known[0][0] is not chips[0]:
        return _single(chips, side, plane, max_bytes)
    frame, beside = Frame.around([(wcs, chip.shape) for chip, wcs in known])
    if len(beside) < 2:
        return _single(chips, side, plane, max_bytes)
    known = [known[i] for i in beside]
    step = step_of(frame.shape, side)
    data = np.full([-(-n // step) for n in frame.shape], np.nan)
    for chip, wcs in known:
        small = Plane(_filled(chip, step, plane, max_bytes // len(known)), step)
        frame.paint(small, wcs, chip.shape, data)
    if np.isfinite(data).sum() < _MIN_FINITE:
        raise ImageError('no_finite_pixels')
    return Plane(data, step, lambda: frame.wcs, frame.shape)
