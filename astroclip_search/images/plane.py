# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
One plane of numbers that a picture, or one colour of it, can be drawn from.
"""

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import ImageError, one_line

__all__ = ['Plane', 'alone_if_large', 'ask_for_room', 'celestial', 'on_sky',
           'step_of']

# Images above this many pixels are decoded by one thread, so that memory does not grow with the
# number of threads: not while they decode, nor afterwards, when each keeps what it has freed.
_LARGE = 4_000_000

_worker: ThreadPoolExecutor

_ask: Callable[[int], object] | None = None

# Keywords that name tables of distortions.
_TABLES = ('CPDIS1', 'CPDIS2', 'D2IMDIS1', 'D2IMDIS2', 'D2IMEXT')


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
    shape: tuple[int, int] | None = None  # of all pixels of the image

    @property
    def size(self) -> tuple[int, int]:
        """
        Width and height of the image in its own pixels.
        """
        height, width = self.shape or (n * self.step for n in self.data.shape)
        return width, height


def celestial(holder: Any, axes: Any = None, tables: Any = None) -> Any:
    """
    WCS with two celestial axes of a Header, or of what has a header or a WCS; None if there is
    none, or a damaged one. ``axes`` are those of the picture, if they are not the first two;
    ``tables`` have distortions, which are left out without.
    """
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    # Whatever is wrong with it, the picture can be drawn without.
    try:
        wcs = getattr(holder, 'wcs', None)
        if wcs is None:
            header = holder if isinstance(holder, Header) else holder.header
            header = header.copy()
            # Nothing is fixed, nor deprecated: that would warn, in threads that share the filters.
            if 'RADECSYS' in header:
                header['RADESYS'] = header.pop('RADECSYS')
            if tables is not None:
                with contextlib.suppress(Exception):  # a table that is lost or damaged
                    wcs = WCS(header, tables, fix=False)
            if wcs is None:
                # Distortions that are tables of the file, as of HST: small, not in the header.
                for key in _TABLES:
                    header.remove(key, ignore_missing=True)
                wcs = WCS(header, fix=False)
        if axes is not None and wcs.naxis > 2:
            across, down = (wcs.naxis - axis for axis in (axes.across, axes.down))
            wcs = wcs.sub([across, down])
        elif wcs.naxis > 2:
            wcs = wcs.celestial
        return wcs if wcs.naxis == 2 and wcs.has_celestial else None
    except Exception:
        return None


def on_sky(wcs: Any, pixels: np.ndarray) -> np.ndarray:
    """
    Right ascension and declination, ICRS, in degrees, of pixels (n, 2), x first, the centre of the
    first at 0; NaN beyond the edge of a map of the whole sky.
    """
    if wcs is None:
        raise ImageError('no_wcs')
    try:
        places = wcs.pixel_to_world(*np.asarray(pixels, float).T).icrs
        found = np.stack([places.ra.deg, places.dec.deg], axis=-1)
    # Of many kinds: a frame that is not of the sky, a distortion that does not converge.
    except Exception as error:
        raise ImageError('bad_wcs', error=one_line(error)) from error
    if not np.isfinite(found).any():
        raise ImageError('no_wcs')
    return found


def step_of(shape: tuple[int, int], side: int) -> int:
    """
    Every how many pixels one is kept, so that sides of about ``side`` pixels are left.
    """
    # The second bound is for strips: their short side alone would keep all of the long one.
    return max(1, min(shape) // side, max(shape) // (8 * side))


def alone_if_large(n_pixels: int, action: Callable) -> Any:
    """
    Do something that takes much memory for a large image: one at a time, or when there is room.
    """
    if n_pixels <= _LARGE:
        return action()
    if _ask is None:
        return _worker.submit(action).result()
    _ask(n_pixels)
    return action()


def ask_for_room(ask: Callable[[int], object]) -> None:
    """
    In a process that has one thread: ask before an image of so many pixels takes much memory.
    """
    global _ask  # noqa: PLW0603 - of this process
    _ask = ask
