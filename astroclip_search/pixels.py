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
from typing import IO, Any

import numpy as np
from PIL import (
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from .bundle import Preprocessing
from .exceptions import PreviewError
from .planes import (
    Plane,
    alone_if_large,
    limits,
    one_line,
    read_array,
    read_fits,
    science_plane,
    step_of,
)

__all__ = ['FITS_SUFFIXES', 'IMAGE_SUFFIXES', 'RENDER_VERSION', 'plane', 'render', 'resize',
           'sides', 'thumbnail']

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
    Turn any kind of picture into an RGB image.

    Parameters
    ----------
    source : bytes, path, file object, ndarray, HDU, HDUList, NDData, Cutout2D or PIL.Image.Image
        Content of a JPEG, PNG, WebP, TIFF, GIF or FITS file; the path of one, or one that is open
        at its beginning, of which no more is read than needed; an image HDU; or an array:
        ``(ny, nx)`` in any unit with the first row at the bottom, as in FITS, or ``(ny, nx, 3)``
        uint8 (or floats in 0..1) with the first row at the top.
    side : int
        The result's sides need be no longer than this, in pixels; large images are then read at
        reduced resolution.
    bitmap_side : int, optional
        The same of bitmaps: they are averaged when they are reduced, where FITS images are read in
        steps, and so need be less fine.
    max_pixels : int
        Largest bitmap or compressed FITS image that is decoded, in pixels.
    max_bytes : int
        Largest content of a compressed FITS file, in bytes.

    Returns
    -------
    PIL.Image.Image
        Mode ``RGB``.

    Raises
    ------
    PreviewError
        If there is no picture in it, or it is damaged or too large.
    """
    picture = _read(source, _Bounds(side, bitmap_side or side, max_pixels, max_bytes))
    return _stretch(picture.data) if isinstance(picture, Plane) else picture


def sides(preprocessing: Preprocessing) -> tuple[int, int]:
    """
    The resolution at which an image is read for a model.

    Parameters
    ----------
    preprocessing : Preprocessing
        Of the model.

    Returns
    -------
    side, bitmap_side : int
        As `render` takes them. For bitmaps a little more than the model sees is enough, as they are
        averaged when they are reduced.
    """
    longest = max(*preprocessing.size, preprocessing.shortest_edge or 0)
    return 2 * longest, longest + longest // 8


def plane(source: Any, *, side: int = 512, max_pixels: int = 50_000_000,
          max_bytes: int = 64 * 1024**2) -> Plane:
    """
    The numbers of what has some: FITS and arrays, but no bitmaps.

    Parameters
    ----------
    source : object
        As for `render`.
    side, max_pixels, max_bytes : int
        As for `render`.

    Returns
    -------
    Plane
        What `render` would draw in grey.

    Raises
    ------
    PreviewError
        If it is a bitmap, or there is no picture in it.
    """
    picture = _read(source, _Bounds(side, side, max_pixels, max_bytes))
    if isinstance(picture, Plane):
        return picture
    raise PreviewError('not a FITS image')


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
        return _read_array(_middle(data), source)
    raise PreviewError(f'cannot make an image of a {type(source).__name__}', status='NO_IMAGE')


def _read_path(path: Path, bounds: _Bounds) -> Image.Image | Plane:
    try:
        with path.open('rb') as stream:
            return _read_stream(stream, bounds)
    except (OSError, ValueError) as error:
        raise PreviewError(f'cannot read the file ({one_line(error)})') from error


def _read_stream(stream: IO[bytes], bounds: _Bounds, *,
                 in_parts: bool = False) -> Image.Image | Plane:
    head = stream.read(30)
    if head.startswith(b'SIMPLE  ='):
        stream.seek(0)
        return read_fits(stream, bounds.side, bounds.max_pixels, in_parts=in_parts)
    # Not the size that the system says: it is 0 for what is no ordinary file.
    data = head + stream.read(bounds.max_bytes)
    if len(data) > bounds.max_bytes:
        raise PreviewError(f'file is larger than {bounds.max_bytes} bytes (conf.max_bytes)')
    return _read_bytes(data, bounds)


def _read_bytes(data: bytes, bounds: _Bounds) -> Image.Image | Plane:
    if not data:
        raise PreviewError('empty file')
    for magic, unpack in _COMPRESSIONS:
        if data.startswith(magic):
            try:
                with unpack(io.BytesIO(data)) as stream:
                    data = stream.read(bounds.max_bytes + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise PreviewError(f'damaged compressed file ({error})') from error
            if len(data) > bounds.max_bytes:
                raise PreviewError(f'file is larger than {bounds.max_bytes} bytes (conf.max_bytes)')
            break
    if data.startswith(b'SIMPLE  ='):
        return read_fits(io.BytesIO(data), bounds.side, bounds.max_pixels)
    for magic, plugin in _FORMATS:
        if data.startswith(magic):
            return _decode(data, plugin, bounds)
    start = data[:512].lstrip().lower()
    if start.startswith((b'<!doctype', b'<html', b'<?xml', b'{')):
        raise PreviewError('the server sent a web page or a message instead of an image')
    raise PreviewError('neither a JPEG, PNG, WebP, TIFF, GIF nor a FITS image')


def _decode(data: bytes, plugin: type, bounds: _Bounds) -> Image.Image:
    try:
        image = plugin(io.BytesIO(data))
        width, height = image.size
        if width * height > bounds.max_pixels:
            raise PreviewError(f'image of {width} x {height} pixels is larger than '
                               f'{bounds.max_pixels} (conf.max_pixels)')
        # The decoder can skip detail that the model would not see.
        image.draft('RGB' if image.mode != 'L' else 'L', (bounds.bitmap_side,) * 2)

        def shrink() -> Image.Image:
            try:
                return _to_rgb(_reduce_image(image, bounds.bitmap_side))
            finally:
                image.close()  # before the next large one is decoded

        return alone_if_large(width * height, shrink)
    except PreviewError:
        raise
    # Pillow's plugins raise many kinds of error on damaged files.
    except Exception as error:
        raise PreviewError(f'damaged image ({one_line(error)})') from error


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


def _middle(data: np.ndarray) -> np.ndarray:
    if data.ndim > 2 and data.shape[-1] != 3:
        return data[tuple(n // 2 for n in data.shape[:-2])]
    return data


def _read_array(data: np.ndarray, holder: Any = None) -> Image.Image | Plane:
    number = data.dtype.kind in 'buif'
    if data.ndim == 2 and number:
        return read_array(data, holder)
    if data.ndim == 3 and data.shape[2] == 3 and number:
        values = np.asarray(np.ma.filled(data, 0))
        if not values.size:
            raise PreviewError('no pixels', status='NO_IMAGE')
        if values.dtype == np.uint8:
            return Image.fromarray(values)
        if values.dtype.kind == 'f':
            finite = np.isfinite(values)
            if not finite.any():
                raise PreviewError('no finite pixels', status='NO_IMAGE')
            values = np.where(finite, values, 0)
            if values.min() >= 0 and values.max() <= 1:
                return Image.fromarray((values * 255).round().astype(np.uint8))
    raise PreviewError(f'array of shape {data.shape} and type {data.dtype} is neither (ny, nx) '
                       'nor (ny, nx, 3) uint8 or 0..1', status='NO_IMAGE')


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


def resize(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """
    Resize and crop as the model's preprocessor does.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB image.
    preprocessing : Preprocessing
        Input size, filter and crop.

    Returns
    -------
    ndarray
        Shape ``(height, width, 3)``, dtype uint8.
    """
    height, width = preprocessing.size
    box = None
    if preprocessing.shortest_edge is not None:
        # Crop before resizing: the same pixels as resizing first, without computing the rest.
        scale = preprocessing.shortest_edge / min(image.size)
        half_x, half_y = width / scale / 2, height / scale / 2
        x, y = image.width / 2, image.height / 2
        box = (max(0.0, x - half_x), max(0.0, y - half_y),
               min(float(image.width), x + half_x), min(float(image.height), y + half_y))
    resized = image.resize((width, height), resample=Image.Resampling(preprocessing.resample),
                           box=box, reducing_gap=3.0)
    return np.asarray(resized, dtype=np.uint8)


def thumbnail(image: Image.Image, side: int) -> bytes:
    """
    A small JPEG of an image.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB image.
    side : int
        Long side of the thumbnail in pixels.

    Returns
    -------
    bytes
        Content of a JPEG file.
    """
    small = image
    if max(image.size) > side:
        scale = side / max(image.size)
        # As sharp as a bicubic one when it shrinks, and much quicker.
        small = image.resize(tuple(max(1, round(n * scale)) for n in image.size),
                             Image.Resampling.HAMMING, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, 'JPEG', quality=80)
    return buffer.getvalue()
