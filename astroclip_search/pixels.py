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
import math
import re
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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

__all__ = ['FITS_SUFFIXES', 'IMAGE_SUFFIXES', 'RENDER_VERSION', 'render', 'resize', 'thumbnail']

RENDER_VERSION = '1'

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


def render(source: Any, *, side: int = 512, max_pixels: int = 50_000_000,
           max_bytes: int = 64 * 1024**2) -> Image.Image:
    """
    Turn any kind of picture into an RGB image.

    Parameters
    ----------
    source : bytes, path, ndarray, HDU, HDUList, NDData or PIL.Image.Image
        Content of a JPEG, PNG, WebP, TIFF, GIF or FITS file; the path of one; an image HDU; or an
        array: ``(ny, nx)`` in any unit with the first row at the bottom, as in FITS, or
        ``(ny, nx, 3)`` uint8 (or floats in 0..1) with the first row at the top.
    side : int
        The result's sides need be no longer than this, in pixels; large JPEG and FITS images are
        then read at reduced resolution.
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
    if isinstance(source, Image.Image):
        return _to_rgb(source)
    if isinstance(source, str | Path):
        return _render_path(Path(source), side, max_pixels, max_bytes)
    if isinstance(source, bytes | bytearray | memoryview):
        return _render_bytes(bytes(source), side, max_pixels, max_bytes)
    if isinstance(source, np.ndarray):
        return _render_array(source)
    if hasattr(source, 'info') and callable(source.info) and isinstance(source, list):
        return _stretch(_science_plane(source, side, max_pixels))
    data = getattr(source, 'data', None)
    if isinstance(data, np.ndarray):
        mask = getattr(source, 'mask', None)
        if mask is not None and np.shape(mask) == data.shape:
            data = np.ma.MaskedArray(data, mask)
        return _render_array(_plane(data))
    raise PreviewError(f'cannot make an image of a {type(source).__name__}', status='NO_IMAGE')


def _render_path(path: Path, side: int, max_pixels: int, max_bytes: int) -> Image.Image:
    try:
        with path.open('rb') as stream:
            head = stream.read(30)
            if head.startswith(b'SIMPLE  ='):
                stream.seek(0)
                return _render_fits(stream, side, max_pixels)
            # Not the size that the system says: it is 0 for what is no ordinary file.
            data = head + stream.read(max_bytes)
    except (OSError, ValueError) as error:
        raise PreviewError(f'cannot read the file ({_one_line(error)})') from error
    if len(data) > max_bytes:
        raise PreviewError(f'file is larger than {max_bytes} bytes (conf.max_bytes)')
    return _render_bytes(data, side, max_pixels, max_bytes)


def _render_bytes(data: bytes, side: int, max_pixels: int, max_bytes: int) -> Image.Image:
    if not data:
        raise PreviewError('empty file')
    for magic, unpack in _COMPRESSIONS:
        if data.startswith(magic):
            try:
                with unpack(io.BytesIO(data)) as stream:
                    data = stream.read(max_bytes + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise PreviewError(f'damaged compressed file ({error})') from error
            if len(data) > max_bytes:
                raise PreviewError(f'file is larger than {max_bytes} bytes (conf.max_bytes)')
            break
    if data.startswith(b'SIMPLE  ='):
        return _render_fits(io.BytesIO(data), side, max_pixels)
    for magic, plugin in _FORMATS:
        if data.startswith(magic):
            return _decode(data, plugin, side, max_pixels)
    start = data[:512].lstrip().lower()
    if start.startswith((b'<!doctype', b'<html', b'<?xml', b'{')):
        raise PreviewError('the server sent a web page or a message instead of an image')
    raise PreviewError('neither a JPEG, PNG, WebP, TIFF, GIF nor a FITS image')


def _decode(data: bytes, plugin: type, side: int, max_pixels: int) -> Image.Image:
    try:
        image = plugin(io.BytesIO(data))
        width, height = image.size
        if width * height > max_pixels:
            raise PreviewError(f'image of {width} x {height} pixels is larger than '
                               f'{max_pixels} (conf.max_pixels)')
        # The decoder can skip detail that the model would not see.
        image.draft('RGB' if image.mode != 'L' else 'L', (side, side))

        def shrink() -> Image.Image:
            try:
                return _to_rgb(_reduce_image(image, side))
            finally:
                image.close()  # before the next large one is decoded

        return _alone_if_large(width * height, shrink)
    except PreviewError:
        raise
    # Pillow's plugins raise many kinds of error on damaged files.
    except Exception as error:
        raise PreviewError(f'damaged image ({_one_line(error)})') from error


def _alone_if_large(n_pixels: int, action: Callable) -> Any:
    return _large.submit(action).result() if n_pixels > _LARGE else action()


def _reduce_image(image: Image.Image, side: int) -> Image.Image:
    """
    Means of blocks where there are more pixels than needed, before anything copies them.
    """
    step = _step(image.size, side)
    if step == 1:
        return image
    if image.mode.startswith(('I', 'F')):
        return Image.fromarray(_reduce(np.asarray(image), side))
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


def _render_array(data: np.ndarray) -> Image.Image:
    number = data.dtype.kind in 'buif'
    if data.ndim == 2 and number:
        return _stretch(_reduce(data))
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


def _render_fits(stream: IO[bytes], side: int, max_pixels: int) -> Image.Image:
    """
    Opened by us: astropy leaves a path that it cannot read open.
    """
    from astropy.io import fits

    try:
        # Threads share the warning filters, so none is changed here: a header that astropy only
        # warns about must not fail where warnings are errors, hence the lazy, unverified opening.
        with fits.open(stream, lazy_load_hdus=True, output_verify='ignore') as hdus:
            plane = _science_plane(hdus, side, max_pixels)
        return _stretch(plane)
    except PreviewError:
        raise
    # A damaged FITS file raises OSError, ValueError, KeyError, TypeError, VerifyError and more.
    except Exception as error:
        raise PreviewError(f'damaged FITS file ({_one_line(error)})') from error


def _science_plane(hdus: list, side: int, max_pixels: int) -> np.ndarray:
    """
    The image that a person would call the picture, reduced to about ``side`` pixels.

    The first image extension named ``SCI``, else the first that is not an error, quality, weight
    or context map; of a cube, the middle plane.
    """
    candidates = []
    for hdu in hdus:
        shape = getattr(hdu, 'shape', ()) if getattr(hdu, 'is_image', False) else ()
        if len(shape) < 2 or min(shape[-2:]) < 4:
            continue
        name = str(hdu.name).upper()
        if name == 'SCI':
            candidates = [hdu]
            break
        if not _NOT_SCIENCE.match(name):
            candidates.append(hdu)
    if not candidates:
        raise PreviewError('no image in the FITS file', status='SKIPPED')
    hdu = candidates[0]
    *_, height, width = hdu.shape
    # Uncompressed pixels are in the file, and only those that are looked at are read.
    tile = getattr(hdu, 'tile_shape', None)
    if tile is not None and max(height * width, math.prod(tile)) > max_pixels:
        raise PreviewError(f'image of {width} x {height} pixels is larger than {max_pixels} '
                           '(conf.max_pixels)')

    def read() -> np.ndarray:
        if len(hdu.shape) == 2:
            return _reduce(hdu.data, side)
        middle = tuple(n // 2 for n in hdu.shape[:-2])
        # Only files have sections.
        return _reduce(hdu.section[middle] if hdu.fileinfo() else hdu.data[middle], side)

    return _alone_if_large(height * width, read)


def _plane(data: np.ndarray) -> np.ndarray:
    if data.ndim > 2 and data.shape[-1] != 3:
        return data[tuple(n // 2 for n in data.shape[:-2])]
    return data


def _reduce(data: np.ndarray, side: int = _FITS_SIDE) -> np.ndarray:
    """
    Every n-th pixel: 20 times faster than a block mean, and a hot pixel stays one pixel.
    """
    step = _step(data.shape, side)
    data = data[::step, ::step]
    # What is too large for float32 becomes infinite, and is left out like NaN.
    with np.errstate(all='ignore'):
        if np.ma.isMaskedArray(data):
            data = np.where(np.ma.getmaskarray(data), np.nan, data.data)
        return np.asarray(data, dtype=np.float32)


def _step(shape: tuple[int, int], side: int) -> int:
    """
    How many pixels become one.
    """
    # The second bound is for strips: their short side alone would keep all of the long one.
    return max(1, min(shape) // side, max(shape) // (8 * side))


def _stretch(data: np.ndarray, *, flip: bool = True) -> Image.Image:
    """
    ZScale to the 99.7th percentile with an asinh stretch, row 0 at the bottom.
    """
    from astropy.visualization import AsinhStretch, ZScaleInterval

    finite = np.isfinite(data)
    if finite.sum() < _MIN_FINITE:
        raise PreviewError('no finite pixels', status='NO_IMAGE')
    # Near the limits of float32 differences overflow, unless there are more digits.
    values = data[finite].astype(np.float64)
    low, _ = ZScaleInterval().get_limits(values)
    high = np.percentile(values, 99.7)
    if not high > low:
        low, high = values.min(), values.max()
    if not high > low:
        raise PreviewError('all pixels have the same value', status='NO_IMAGE')
    scaled = np.clip((np.where(finite, data, low) - low) / (high - low), 0, 1)
    grey = (AsinhStretch(a=0.1)(scaled) * 255).round().astype(np.uint8)
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
    small = image.copy()
    small.thumbnail((side, side), reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, 'JPEG', quality=80)
    return buffer.getvalue()


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())[:120] or type(error).__name__
