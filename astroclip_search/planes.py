# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
FITS files, HDUs and arrays -> one plane of numbers, small, with its place on the sky.

A plane is what a grey picture, or one colour of a composite, is drawn from.
"""

import io
import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from .exceptions import PreviewError

__all__ = ['Plane', 'alone_if_large', 'celestial', 'limits', 'one_line', 'read_array',
           'read_fits', 'science_hdu', 'science_plane', 'step_of']

# Extensions of FITS files that hold no picture of the sky, also numbered or with a suffix:
# VAR_POISSON and DQ1, but not CONTINUUM.
_NOT_SCIENCE = re.compile('(ERR|ERROR|UNCERT|STAT|VAR|IVAR|DQ|MASK|APERTURE|WHT|WEIGHT|CTX|'
                          'CON|AREA|HDRTAB)(?![A-Z])')

# Images above this many pixels are decoded by one thread, so that memory does not grow with the
# number of threads: not while they decode, nor afterwards, when each keeps what it has freed.
_LARGE = 4_000_000
_large = ThreadPoolExecutor(1, thread_name_prefix='astroclip-large')

_MIN_FINITE = 16
_FITS_SIDE = 512


@dataclass
class Plane:
    """
    Numbers that a picture can be drawn from.

    Attributes
    ----------
    data : ndarray
        Shape ``(ny, nx)``, dtype float32, the first row at the bottom; NaN where there is nothing.
    step : int
        Every how many pixels of the image one was taken.
    wcs : callable
        Gives the `~astropy.wcs.WCS` of all pixels of the image, or `None`. Made only when it is
        asked for, as a grey picture needs none.
    """

    data: np.ndarray
    step: int = 1
    wcs: Callable[[], Any] = lambda: None


def read_fits(stream: IO[bytes], side: int, max_pixels: int, *, in_parts: bool = False) -> Plane:
    """
    The science image of a FITS file.

    Opened by us: astropy leaves a path that it cannot read open.

    Parameters
    ----------
    stream : file object
        Open for reading, at its beginning.
    side : int
        The plane's sides need be no longer than this, in pixels.
    max_pixels : int
        Largest compressed image that is decoded.
    in_parts : bool
        Read only the rows that are needed, where the file is far away.

    Returns
    -------
    Plane
        Reduced to about ``side`` pixels.

    Raises
    ------
    PreviewError
        If there is no image in it, or it is damaged.
    """
    from astropy.io import fits

    try:
        # Threads share the warning filters, so none is changed here: a header that astropy only
        # warns about must not fail where warnings are errors, hence the lazy, unverified opening.
        with fits.open(stream, lazy_load_hdus=True, output_verify='ignore') as hdus:
            return science_plane(hdus, side, max_pixels, opened=True,
                                 in_parts=in_parts or isinstance(stream, io.BytesIO))
    except PreviewError:
        raise
    # A damaged FITS file raises OSError, ValueError, KeyError, TypeError, VerifyError and more.
    except Exception as error:
        raise PreviewError(f'damaged FITS file ({one_line(error)})') from error


def science_hdu(hdus: list) -> Any:
    """
    The HDU that a person would call the picture.

    Parameters
    ----------
    hdus : list of HDUs
        A FITS file.

    Returns
    -------
    HDU
        The first image extension named ``SCI``, else the first that is not an error, quality,
        weight or context map.

    Raises
    ------
    PreviewError
        If there is none.
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
        raise PreviewError('no image in the FITS file', status='SKIPPED')
    return candidates[0]


def science_plane(hdus: list, side: int, max_pixels: int, *, opened: bool = False,
                  in_parts: bool = False) -> Plane:
    """
    The science image of an open FITS file; of a cube, the middle plane.

    Parameters
    ----------
    hdus : list of HDUs
        A FITS file.
    side, max_pixels : int
        As for `read_fits`.
    opened : bool
        It was opened just now, so that what is in the file is all there is.
    in_parts : bool
        Read only the rows that are needed, as there is no memory map.

    Returns
    -------
    Plane
        Reduced to about ``side`` pixels.

    Raises
    ------
    PreviewError
        If there is none.
    """
    hdu = science_hdu(hdus)
    *_, height, width = hdu.shape
    # Uncompressed pixels are in the file, and only those that are looked at are read.
    tile = getattr(hdu, 'tile_shape', None)
    if tile is not None and max(height * width, math.prod(tile)) > max_pixels:
        raise PreviewError(f'image of {width} x {height} pixels is larger than {max_pixels} '
                           '(conf.max_pixels)')
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
    An array as a plane.

    Parameters
    ----------
    data : ndarray
        Shape ``(ny, nx)``, masked or not.
    holder : object, optional
        What it is the data of: an HDU with its header, or NDData or Cutout2D with its WCS.

    Returns
    -------
    Plane
        Reduced to a size that is enough for a picture.
    """
    step = step_of(data.shape, _FITS_SIDE) if data.size else 1
    return Plane(_reduce(data, step), step, lambda: celestial(holder))


def celestial(holder: Any) -> Any:
    """
    Where an image is on the sky.

    Parameters
    ----------
    holder : Header, HDU, NDData or Cutout2D
        Anything that has a header or a WCS.

    Returns
    -------
    `~astropy.wcs.WCS` or None
        Two celestial axes; `None` if it does not tell, or is damaged.
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
    How many pixels become one.

    Parameters
    ----------
    shape : tuple of int
        Of the image.
    side : int
        The result's sides need be no longer than this, in pixels.

    Returns
    -------
    int
        At least one.
    """
    # The second bound is for strips: their short side alone would keep all of the long one.
    return max(1, min(shape) // side, max(shape) // (8 * side))


def limits(data: np.ndarray) -> tuple[float, float]:
    """
    Values that become black and white: the lower limit of ZScale and the 99.7th percentile.

    Parameters
    ----------
    data : ndarray
        Numbers, some of which may not be finite.

    Returns
    -------
    low, high : float
        ``high`` is greater.

    Raises
    ------
    PreviewError
        If there is nothing to be seen.
    """
    from astropy.visualization import ZScaleInterval

    finite = np.isfinite(data)
    if finite.sum() < _MIN_FINITE:
        raise PreviewError('no finite pixels', status='NO_IMAGE')
    values = data.ravel() if finite.all() else data[finite]
    interval = ZScaleInterval()
    # Near the limits of float32 differences overflow, unless there are more digits: of those few
    # values only that count, as converting all would take longer than reading them.
    low, _ = interval.get_limits(
        values[::max(1, len(values) // interval.n_samples)].astype(np.float64))
    high = _percentile(values, 99.7)
    if not high > low:
        low, high = np.float64(values.min()), np.float64(values.max())
    if not high > low:
        raise PreviewError('all pixels have the same value', status='NO_IMAGE')
    return low, high


def _percentile(values: np.ndarray, percentage: float) -> float:
    """
    The percentile as numpy has it for twice the digits, to the last one.
    """
    place = (len(values) - 1) * (percentage / 100)
    ends = [math.floor(place), math.ceil(place)]
    share = place - ends[0]
    below, above = np.partition(values, ends)[ends].astype(np.float64)
    if share < 0.5:
        return below + (above - below) * share
    return above - (above - below) * (1 - share)


def alone_if_large(n_pixels: int, action: Callable) -> Any:
    """
    Do something that takes much memory, one at a time.

    Parameters
    ----------
    n_pixels : int
        Pixels that are decoded.
    action : callable
        What is to be done.

    Returns
    -------
    object
        What it returns.
    """
    return _large.submit(action).result() if n_pixels > _LARGE else action()


def one_line(error: Exception) -> str:
    """
    Message of an error in one line.

    Parameters
    ----------
    error : Exception
        Any error.

    Returns
    -------
    str
        Its message, or else its type.
    """
    return ' '.join(str(error).split())[:120] or type(error).__name__
