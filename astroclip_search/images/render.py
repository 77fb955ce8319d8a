# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Bytes, FITS and arrays -> RGB pixels, deterministically.

Everything here is pure: no network, no model, no random sampling, so the same file gives the
same embedding on every machine. `RENDER_VERSION` is part of every cache key and changes whenever
a pixel may change.
"""

import bz2
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import (
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..exceptions import ImageError, one_line
from .fits import Plane, alone_if_large, limits, read_array, read_fits, science_plane, step_of

__all__ = ['FITS_SUFFIXES', 'IMAGE_SUFFIXES', 'RENDER_VERSION', 'plane', 'render']

RENDER_VERSION = '2'

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.tif', '.tiff', '.gif')

FITS_SUFFIXES = ('.fits', '.fit', '.fts', '.fits.gz', '.fit.gz', '.fits.bz2', '.fits.fz')

# Opened through its plugin, not Image.open: only these formats, and our own pixel cap.
_FORMATS = ((b'\xff\xd8\xff', JpegImagePlugin.JpegImageFile),
            (b'\x89PNG\r\n\x1a\n', PngImagePlugin.PngImageFile),
            (b'GIF8', GifImagePlugin.GifImageFile),
            (b'II*\x00', TiffImagePlugin.TiffImageFile),
            (b'MM\x00*', TiffImagePlugin.TiffImageFile),
            (b'RIFF', WebPImagePlugin.WebPImageFile))

_COMPRESSIONS = ((b'\x1f\x8b', gzip.open), (b'BZh', bz2.open))


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
    return _stretch(picture.data) if isinstance(picture, Plane) else picture


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
        return _to_rgb(source)
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
    for magic, unpack in _COMPRESSIONS:
        if data.startswith(magic):
            try:
                with unpack(io.BytesIO(data)) as stream:
                    data = stream.read(bounds.max_bytes + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise ImageError('damaged_compressed', error=error) from error
            if len(data) > bounds.max_bytes:
                raise ImageError('file_too_large', limit=bounds.max_bytes)
            break
    if data.startswith(b'SIMPLE  ='):
        return read_fits(io.BytesIO(data), bounds.side, bounds.max_pixels)
    for magic, plugin in _FORMATS:
        if data.startswith(magic):
            return _decode(data, plugin, bounds)
    start = data[:512].lstrip().lower()
    if start.startswith((b'<!doctype', b'<html', b'<?xml', b'{')):
        raise ImageError('web_page')
    raise ImageError('unknown_format')


def _decode(data: bytes, plugin: type, bounds: _Bounds) -> Image.Image:
    try:
        image = plugin(io.BytesIO(data))
        width, height = image.size
        if width * height > bounds.max_pixels:
            raise ImageError('too_many_pixels', width=width, height=height,
                             limit=bounds.max_pixels)
        # The decoder can skip detail that the model would not see.
        image.draft('RGB' if image.mode != 'L' else 'L', (bounds.bitmap_side,) * 2)

        def shrink() -> Image.Image:
            try:
                return _to_rgb(_reduce_image(image, bounds.bitmap_side))
            finally:
                image.close()  # before the next large one is decoded

        return alone_if_large(width * height, shrink)
    except ImageError:
        raise
    # Pillow's plugins raise many kinds of error on damaged files.
    except Exception as error:
        raise ImageError('damaged_image', error=one_line(error)) from error


def _reduce_image(image: Image.Image, side: int) -> Image.Image:
    """
    Means of blocks where there are more pixels than needed, before anything copies them.
    """
    step = step_of(image.size, side)
    if step == 1:
        return image
    if image.mode.startswith(('I', 'F')):
        return Image.fromarray(np.asarray(np.asarray(image)[::step, ::step], np.float32))
    if image.mode in ('1', 'P', 'PA') or 'transparency' in image.info:
        return _to_rgb(image).reduce(step)  # their values cannot be averaged
    return image.reduce(step)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(('I', 'F')):
        return _stretch(np.asarray(image, dtype=np.float32), flip=False)
    if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
        image = image.convert('RGBA')
        black = Image.new('RGBA', image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert('RGB')
    return image.convert('RGB')


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


def _stretch(data: np.ndarray, *, flip: bool = True) -> Image.Image:
    """
    ZScale to the 99.7th percentile with an asinh stretch, row 0 at the bottom.
    """
    from astropy.visualization import AsinhStretch

    low, high = limits(data)
    scaled = np.where(np.isfinite(data), data, low)
    scaled -= low
    scaled /= high - low
    np.clip(scaled, 0, 1, out=scaled)
    grey = AsinhStretch(a=0.1)(scaled, clip=False, out=scaled)
    grey *= 255
    grey = grey.round(out=grey).astype(np.uint8)
    return Image.fromarray(np.flipud(grey) if flip else grey).convert('RGB')
