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
from .bitmaps import is_bitmap, read_bitmap, to_rgb
from .fits import read_array, read_fits, science_plane
from .formats import unpacked
from .plane import Plane
from .stretch import grey

__all__ = ['RENDER_VERSION', 'plane', 'render']

RENDER_VERSION = '2'

@dataclass(frozen=True)
class _Bounds:
    """
    How much is read, and at which resolution.
    """

    side: int
    bitmap_side: int
    max_pixels: int
    max_bytes: int


def render(source: Any, *, side: int = 512, bitmap_side: int | None = None,
           max_pixels: int = 50_000_000, max_bytes: int = 64 * 1024**2) -> Image.Image:
    """
    An RGB image, with sides of at least about ``side`` pixels if the original has them (bitmaps:
    ``bitmap_side``, as they are averaged when they are reduced, where FITS is read in steps).
    """
    # Content, path or open file of a JPEG, PNG, WebP, TIFF, GIF or FITS file, or an HDU, HDUList,
    # NDData, Cutout2D, PIL image or array: (ny, nx) has row 0 at the bottom, as in FITS, and
    # (ny, nx, 3), uint8 or in 0..1, has it at the top.
    picture = _read(source, _Bounds(side, bitmap_side or side, max_pixels, max_bytes))
    return grey(picture.data) if isinstance(picture, Plane) else picture


def plane(source: Any, *, side: int = 512, max_pixels: int = 50_000_000,
          max_bytes: int = 64 * 1024**2) -> Plane:
    """
    The pixels that `render` would draw in grey, of FITS and arrays; bitmaps have none.
    """
    picture = _read(source, _Bounds(side, side, max_pixels, max_bytes))
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
        return _read_array(source)
    if isinstance(source, io.IOBase):
        return _read_stream(source, bounds, in_parts=True)
    if hasattr(source, 'info') and callable(source.info) and isinstance(source, list):
        return science_plane(source, bounds.side, bounds.max_pixels)
    data = getattr(source, 'data', None)
    if isinstance(data, np.ndarray):
        mask = getattr(source, 'mask', None)
        if mask is not None and np.shape(mask) == data.shape:
            data = np.ma.MaskedArray(data, mask)
        if data.ndim > 2 and data.shape[-1] != 3:
            data = data[tuple(n // 2 for n in data.shape[:-2])]
        return _read_array(data, source)
    raise ImageError('not_an_image', kind=type(source).__name__)


def _read_path(path: Path, bounds: _Bounds) -> Image.Image | Plane:
    try:
        with path.open('rb') as stream:
            return _read_stream(stream, bounds)
    except (OSError, ValueError) as error:
        raise ImageError('file_unreadable', error=one_line(error)) from error


def _read_stream(stream: Any, bounds: _Bounds, *, in_parts: bool = False) -> Image.Image | Plane:
    head = stream.read(30)
    if head.startswith(b'SIMPLE  ='):
        stream.seek(0)
        return read_fits(stream, bounds.side, bounds.max_pixels, in_parts=in_parts)
    # Not the size that the system says: it is 0 for what is no ordinary file.
    data = head + stream.read(bounds.max_bytes)
    if len(data) > bounds.max_bytes:
        raise ImageError('file_too_large', limit=bounds.max_bytes)
    return _read_bytes(data, bounds)


def _read_bytes(data: bytes, bounds: _Bounds) -> Image.Image | Plane:
    if not data:
        raise ImageError('empty_file')
    data = unpacked(data, bounds.max_bytes)
    if data.startswith(b'SIMPLE  ='):
        return read_fits(io.BytesIO(data), bounds.side, bounds.max_pixels)
    if is_bitmap(data):
        return read_bitmap(data, bounds.bitmap_side, bounds.max_pixels)
    start = data[:512].lstrip().lower()
    if start.startswith((b'<!doctype', b'<html', b'<?xml', b'{')):
        raise ImageError('web_page')
    raise ImageError('unknown_format')


def _read_array(data: np.ndarray, holder: Any = None) -> Image.Image | Plane:
    number = data.dtype.kind in 'buif'
    if data.ndim == 2 and number:
        return read_array(data, holder)
    if data.ndim == 3 and data.shape[2] == 3 and number:
        values = np.asarray(np.ma.filled(data, 0))
        if not values.size:
            raise ImageError('no_pixels')
        if values.dtype == np.uint8:
            return Image.fromarray(values)
        if values.dtype.kind == 'f':
            finite = np.isfinite(values)
            if not finite.any():
                raise ImageError('no_finite_pixels')
            values = np.where(finite, values, 0)
            if values.min() >= 0 and values.max() <= 1:
                return Image.fromarray((values * 255).round().astype(np.uint8))
    raise ImageError('array_shape', shape=data.shape, dtype=data.dtype)
