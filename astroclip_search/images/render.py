# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Bytes, FITS and arrays -> RGB pixels, deterministically.

Everything here is pure: no network, no model, no random sampling, so the same file gives the
same embedding on every machine. `RENDER_VERSION` is part of every cache key and changes whenever
a pixel may change.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..exceptions import ImageError, one_line
from ..untrusted.files import open_regular
from . import roman
from .bitmaps import is_bitmap, no_bitmap, read_bitmap, to_rgb
from .fits import read_array, read_fits, read_hdus
from .geometry import note_size
from .packed import unpacked
from .plane import Plane
from .stretch import grey

__all__ = ['RENDER_VERSION', 'plane', 'render']

RENDER_VERSION = '3'

_ROUNDING = 1e-3  # beyond 0 and 1 in arrays of colours

@dataclass(frozen=True)
class _Bounds:
    """
    How much is read, at which resolution, and what of a cube.
    """

    side: int
    bitmap_side: int
    plane: str | int
    max_pixels: int
    max_bytes: int


def render(source: Any, *, side: int = 512, bitmap_side: int | None = None,
           plane: str | int = 'middle', max_pixels: int = 50_000_000,
           max_bytes: int = 64 * 1024**2) -> Image.Image:
    """
    An RGB image, with sides of at least about ``side`` pixels if the original has them (bitmaps:
    ``bitmap_side``). ``plane`` of a cube is its ``'middle'``, the ``'peak'`` or the ``'sum'`` of
    all, or a number that counts from 0.
    """
    # Content, path or open file of a bitmap or a FITS file, or an HDU, HDUList,
    # NDData, Cutout2D, PIL image or array: (ny, nx) has row 0 at the bottom, as in FITS, and
    # (ny, nx, 3), uint8 or in 0..1, has it at the top.
    picture = _read(source, _Bounds(side, bitmap_side or side, plane, max_pixels, max_bytes))
    if isinstance(picture, Plane):
        return note_size(grey(picture.data), picture.size, picture.step, is_flipped=True)
    return picture


def plane(source: Any, *, side: int = 512, plane: str | int = 'middle',
          max_pixels: int = 50_000_000, max_bytes: int = 64 * 1024**2) -> Plane:
    """
    The pixels that `render` would draw in grey, of FITS and arrays; bitmaps have none.
    """
    picture = _read(source, _Bounds(side, side, plane, max_pixels, max_bytes))
    if isinstance(picture, Plane):
        return picture
    raise ImageError('not_fits')


def _read(source: Any, bounds: _Bounds) -> Image.Image | Plane:
    if isinstance(source, Image.Image):
        return to_rgb(source)
    if isinstance(source, str | Path):
        return _read_path(Path(source), bounds)
    if isinstance(source, bytes | bytearray | memoryview):
        return _read_bytes(bytes(source), bounds)
    if isinstance(source, np.ndarray):
        return _read_array(source, bounds)
    if isinstance(source, io.IOBase):
        return _read_stream(source, bounds)
    if hasattr(source, 'fileinfo'):  # an HDU or several
        hdus = source if isinstance(source, list) else [source]
        if hdus == [source] and not source.shape:
            raise ImageError('no_pixels')
        return read_hdus(hdus, bounds.side, bounds.max_pixels, plane=bounds.plane)
    if isinstance(getattr(source, 'data', None), np.ndarray):
        return _read_array(source.data, bounds, source)
    raise ImageError('not_an_image', kind=type(source).__name__)


def _read_path(path: Path, bounds: _Bounds) -> Image.Image | Plane:
    try:
        with open_regular(path) as stream:
            return _read_stream(stream, bounds)
    except OSError as error:
        raise ImageError('file_unreadable', error=one_line(error)) from error


def _read_stream(stream: Any, bounds: _Bounds) -> Image.Image | Plane:
    head = stream.read(30)
    if head.startswith(b'SIMPLE  ='):
        stream.seek(0)
        return _read_fits(stream, bounds)
    if head.startswith(b'#ASDF'):
        return roman.read(stream, bounds.side, bounds.plane, bounds.max_pixels)
    # Not the size that the system says: it is 0 for what is no ordinary file.
    data = head + stream.read(bounds.max_bytes)
    if len(data) > bounds.max_bytes:
        raise ImageError('file_too_large', limit=bounds.max_bytes)
    return _read_bytes(data, bounds)


def _read_fits(stream: Any, bounds: _Bounds) -> Plane:
    return read_fits(stream, bounds.side, bounds.max_pixels, plane=bounds.plane)


def _read_bytes(data: bytes, bounds: _Bounds) -> Image.Image | Plane:
    if not data:
        raise ImageError('empty_file')
    data = unpacked(data, bounds.max_bytes)
    if data.startswith(b'SIMPLE  ='):
        return _read_fits(io.BytesIO(data), bounds)
    if data.startswith(b'#ASDF'):
        return roman.read(io.BytesIO(data), bounds.side, bounds.plane, bounds.max_pixels)
    if is_bitmap(data):
        return read_bitmap(data, bounds.bitmap_side, bounds.max_pixels)
    raise no_bitmap(data)


def _read_array(data: np.ndarray, bounds: _Bounds, holder: Any = None) -> Image.Image | Plane:
    """
    An array of numbers, with a mask, a unit and a WCS or without: its own, or those of a holder.
    """
    if data.dtype.kind not in 'buif' or data.ndim < 2:
        raise ImageError('array_shape', shape=data.shape, dtype=data.dtype)
    if not data.size:
        raise ImageError('no_pixels')
    values, mask = _parted(data)
    own = getattr(holder, 'mask', None)
    if own is not None and np.shape(own) == data.shape:
        mask = own if mask is None else mask | np.asarray(own, dtype=bool)
    if holder is None and data.ndim == 3 and data.shape[2] in (3, 4):
        if not _is_colour(values):
            raise ImageError('array_shape', shape=data.shape, dtype=data.dtype)
        return _colour(values, mask)
    return read_array(values, holder, mask=mask, side=bounds.side, plane=bounds.plane)


def _parted(data: np.ndarray) -> tuple[np.ndarray, Any]:
    """
    The bare numbers of an array of numpy or astropy, and where they are none.
    """
    mask = getattr(data, 'mask', None)
    if mask is np.ma.nomask:
        mask = None
    bare = data.data if isinstance(data, np.ma.MaskedArray) else getattr(data, 'unmasked', data)
    return bare.view(np.ndarray), mask


def _is_colour(values: np.ndarray) -> bool:
    if values.dtype == np.uint8:
        return True
    return values.dtype.kind == 'f' and bool(
        np.nanmin(values, initial=0) >= -_ROUNDING
        and np.nanmax(values, initial=0) <= 1 + _ROUNDING)


def _colour(values: np.ndarray, mask: Any) -> Image.Image:
    """
    Red, green and blue, and how opaque if there are four values.
    """
    if values.dtype != np.uint8:
        if not np.isfinite(values).any():
            raise ImageError('no_finite_pixels')
        values = (np.clip(np.nan_to_num(values), 0, 1) * 255).round().astype(np.uint8)
    if mask is not None:
        values = np.where(mask, 0, values)
    return to_rgb(Image.fromarray(np.ascontiguousarray(values)))
