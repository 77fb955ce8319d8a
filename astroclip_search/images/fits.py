# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
FITS files, HDUs and arrays -> one plane of numbers, small, with its place on the sky.

A grey image, or one colour of a composite, is drawn from a plane.
"""

import io
import math
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from ..exceptions import ImageError, one_line

__all__ = ['Plane', 'alone_if_large', 'celestial', 'limits', 'read_array', 'read_fits',
           'science_hdu', 'science_plane', 'step_of']

# Extensions of FITS files that do not show the sky, also numbered or with a suffix: VAR_POISSON and
# DQ1, but not CONTINUUM.
_NOT_SCIENCE = re.compile('(ERR|ERROR|UNCERT|STAT|VAR|IVAR|DQ|MASK|APERTURE|WHT|WEIGHT|CTX|'
                          'CON|AREA|HDRTAB)(?![A-Z])')

# Images above this many pixels are decoded by one thread, so that memory does not grow with the
# number of threads: not while they decode, nor afterwards, when each keeps what it has freed.
_LARGE = 4_000_000

_worker: ThreadPoolExecutor

_MIN_FINITE = 16

_FITS_SIDE = 512


def _start_worker() -> None:
    global _worker  # noqa: PLW0603 - after a fork its thread is gone
    _worker = ThreadPoolExecutor(1, thread_name_prefix='astroclip-large')


_start_worker()
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_start_worker)


@dataclass
class Plane:
    """
    Pixels that an image can be drawn from, and their place on the sky.
    """

    data: np.ndarray  # (ny, nx) float32, row 0 at the bottom; NaN where there is nothing
    step: int = 1  # every how many pixels of the image one was taken
    # Makes the WCS of all pixels of the image, or None: a grey image needs none.
    wcs: Callable[[], Any] = lambda: None


def read_fits(stream: IO[bytes], side: int, max_pixels: int, *, in_parts: bool = False) -> Plane:
    """
    The science image of a FITS file, reduced to about ``side`` pixels; ``in_parts`` reads only the
    rows that are needed, of a file that is far away.
    """
    from astropy.io import fits

    try:
        # Opened here: astropy leaves a path that it cannot read open.
        # Threads share the warning filters, so none is changed here: a header that astropy only
        # warns about must not fail where warnings are errors, hence the lazy, unverified opening.
        with fits.open(stream, lazy_load_hdus=True, output_verify='ignore') as hdus:
            return science_plane(hdus, side, max_pixels, opened=True,
                                 in_parts=in_parts or isinstance(stream, io.BytesIO))
    except ImageError:
        raise
    # A damaged FITS file raises OSError, ValueError, KeyError, TypeError, VerifyError and more.
    except Exception as error:
        raise ImageError('damaged_fits', error=one_line(error)) from error


def science_hdu(hdus: list) -> Any:
    """
    The first image extension named ``SCI``, else the first one that is not a map of errors,
    quality, weights or contexts.
    """
    candidates = []
    for hdu in hdus:
        shape = getattr(hdu, 'shape', ()) if getattr(hdu, 'is_image', False) else ()
        if len(shape) < 2 or min(shape[-2:]) < 4:
            continue
        name = str(hdu.name).upper()
        if name == 'SCI':
            return hdu
        if not _NOT_SCIENCE.match(name):
            candidates.append(hdu)
    if not candidates:
        raise ImageError('no_fits_image')
    return candidates[0]


def science_plane(hdus: list, side: int, max_pixels: int, *, opened: bool = False,
                  in_parts: bool = False) -> Plane:
    """
    The science image of an open FITS file, of a cube its middle plane. ``opened`` says that it was
    opened just now: nobody has changed its pixels in memory.
    """
    hdu = science_hdu(hdus)
    *_, height, width = hdu.shape
    # Uncompressed pixels are in the file, and only those that are looked at are read.
    tile = getattr(hdu, 'tile_shape', None)
    if tile is not None and max(height * width, math.prod(tile)) > max_pixels:
        raise ImageError('too_many_pixels', width=width, height=height, limit=max_pixels)
    step = step_of((height, width), side)
    middle = tuple(n // 2 for n in hdu.shape[:-2])
    # Scaled numbers and such with a blank value would all be converted.
    scaled = any(hdu.header.get(key, default) != default
                 for key, default in (('BSCALE', 1), ('BZERO', 0), ('BLANK', None)))
    as_rows = tile is None and (in_parts or (opened and scaled))

    def read() -> np.ndarray:
        if as_rows:
            rows = [hdu.section[(*middle, row)][::step] for row in range(0, height, step)]
            return _reduce(np.stack(rows), 1)
        if not middle:
            return _reduce(hdu.data, step)
        # Only files have sections.
        return _reduce(hdu.section[middle] if hdu.fileinfo() else hdu.data[middle], step)

    # Rows and memory maps take no more memory than the result.
    data = read() if opened and tile is None else alone_if_large(height * width, read)
    header = hdu.header.copy()
    return Plane(data, step, lambda: celestial(header))


def read_array(data: np.ndarray, holder: Any = None) -> Plane:
    """
    An array ``(ny, nx)``, masked or not; ``holder`` (HDU, NDData, Cutout2D) knows its WCS.
    """
    step = step_of(data.shape, _FITS_SIDE) if data.size else 1
    return Plane(_reduce(data, step), step, lambda: celestial(holder))


def celestial(holder: Any) -> Any:
    """
    WCS with two celestial axes of a Header, or of what has a header or a WCS; None if there is
    none, or a damaged one.
    """
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    # Whatever is wrong with it, the picture can be drawn without.
    try:
        wcs = getattr(holder, 'wcs', None)
        if wcs is None:
            header = holder if isinstance(holder, Header) else holder.header
            # Nothing is fixed, nor deprecated: that would warn, in threads that share the filters.
            if 'RADECSYS' in header:
                header = header.copy()
                header['RADESYS'] = header.pop('RADECSYS')
            wcs = WCS(header, fix=False)
        wcs = wcs.celestial
    except Exception:
        return None
    return wcs if wcs.naxis == 2 else None


def _reduce(data: np.ndarray, step: int) -> np.ndarray:
    """
    Every n-th pixel: 20 times faster than a block mean, and a hot pixel stays one pixel.
    """
    data = data[::step, ::step]
    # What is too large for float32 becomes infinite, and is left out like NaN.
    with np.errstate(all='ignore'):
        if np.ma.isMaskedArray(data):
            data = np.where(np.ma.getmaskarray(data), np.nan, data.data)
        return np.asarray(data, dtype=np.float32)


def step_of(shape: tuple[int, int], side: int) -> int:
    """
    Every how many pixels one is kept, so that sides of about ``side`` pixels are left.
    """
    # The second bound is for strips: their short side alone would keep all of the long one.
    return max(1, min(shape) // side, max(shape) // (8 * side))


def limits(data: np.ndarray) -> tuple[float, float]:
    """
    Values that become black and white: the lower limit of ZScale, and the 99.7th percentile.
    """
    from astropy.visualization import ZScaleInterval

    finite = np.isfinite(data)
    if finite.sum() < _MIN_FINITE:
        raise ImageError('no_finite_pixels')
    values = data.ravel() if finite.all() else data[finite]
    interval = ZScaleInterval()
    # Near the limits of float32 differences overflow, hence float64. ZScale uses so many values
    # only, and would check all of them.
    values = values.astype(np.float64)
    low, _ = interval.get_limits(values[::max(1, len(values) // interval.n_samples)])
    high = np.percentile(values, 99.7, overwrite_input=True)
    if not high > low:
        low, high = np.float64(values.min()), np.float64(values.max())
    if not high > low:
        raise ImageError('one_value')
    return low, high


def alone_if_large(n_pixels: int, action: Callable) -> Any:
    """
    Do something that takes much memory for a large image, one at a time.
    """
    return _worker.submit(action).result() if n_pixels > _LARGE else action()
