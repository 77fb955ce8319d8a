# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
JPEG, PNG, TIFF and other bitmaps, and images of Pillow -> RGB pixels.
"""

import io
import re
from functools import partial
from typing import Any

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
    features,
)

from ..exceptions import ImageError, one_line
from ..status import NO_IMAGE
from . import jpeg2000, tiff
from .blocks import Pixels, means
from .geometry import note_size, turned
from .plane import Plane, alone_if_large, step_of
from .rgb import compose
from .stretch import grey

__all__ = ['is_bitmap', 'no_bitmap', 'read_bitmap', 'to_rgb']

_JPEG_2000 = rb'\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51'
_WEBP = rb'RIFF.{4}WEBP'
_AVIF = rb'.{4}ftyp(?:.{4}){0,6}?avi[fs]'

# Opened through its plugin, not Image.open: only these formats, and our own pixel cap.
_PLUGINS: list[tuple[bytes, Any]] = [
    (rb'\xff\xd8\xff', JpegImagePlugin.JpegImageFile),
    (rb'\x89PNG\r\n\x1a\n', PngImagePlugin.PngImageFile),
    (rb'GIF8', GifImagePlugin.GifImageFile),
    (rb'BM.{4}\0{4}', BmpImagePlugin.BmpImageFile),
    (rb'P[456]\s', PpmImagePlugin.PpmImageFile)]
# Pillow may have been built without the others.
if features.check('webp'):
    _PLUGINS.append((_WEBP, WebPImagePlugin.WebPImageFile))
try:
    from PIL.AvifImagePlugin import SUPPORTED, AvifImageFile
except ImportError:  # before Pillow 11.3
    pass
else:
    if SUPPORTED:
        _PLUGINS.append((_AVIF, AvifImageFile))

# What else is known to be an image, and why it is none for us.
_OTHERS = [(re.compile(start, re.DOTALL), name) for start, name in (
    ((rb'\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,2000}?-->\s*){0,3}'
      rb'(?i:<!doctype svg[^>]*>\s*)?<svg\b'), 'SVG'),
    (rb'%PDF-', 'PDF'),
    (rb'%!PS|\xc5\xd0\xd3\xc6', 'PostScript'),
    (_WEBP, 'WebP'),
    (_JPEG_2000, 'JPEG 2000'),
    (_AVIF, 'AVIF'),
    (rb'.{4}ftypcrx|FUJIFILMCCD-RAW|IIR[OS]|IIU\0', 'a raw file of a camera'),
    (rb'.{4}ftyp(?:mif1|msf1|hei[cfmsx]|hev[cx])', 'HEIC'),
    (rb'\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n', 'JPEG XL'),
    (rb'II\xbc\x01', 'JPEG XR'),
    (rb'8BPS', 'Photoshop (PSD)'),
    (rb'\x76\x2f\x31\x01', 'OpenEXR'),
    (rb'XISF0100', 'XISF'),
    (rb'PDS_VERSION_ID|\w+ *= *PDS3|CCSD3ZF', 'PDS'),
    (rb'LBLSIZE=', 'VICAR'),
    (rb'P[123]\s', 'PBM, PGM or PPM in plain text'),
    (rb'\x00\x00\x01\x00', 'ICO'),
    (rb'.{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI |LUCAM-RECORDER', 'a video'))]
_PAGE = re.compile(rb'\s*(?:<!doctype|<html|<\?xml|<!--|\{)', re.IGNORECASE)
_HEAD = 4096  # bytes in which these are looked for

# Animations and pages that start with empty ones.
_MAX_FRAMES = 16

# A progressive JPEG has ten or so, and its thumbnail a few more.
_MAX_SCANS = 100

# Levels of brightness and of the two colours that differ so little are noise, as JPEG leaves it.
_NOISE = (2, 3, 3)

# Colours of more than eight bits, almost all of which are darker than this part of white, are the
# numbers of a detector, which nobody has stretched.
_DARK = 1 / 16

# Kinds of PNG
_GREY_ALPHA, _COLOURS = 4, (2, 6)

_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
          4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
          6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}


def is_bitmap(data: bytes) -> bool:
    """
    Whether content is of a format that `read_bitmap` reads.
    """
    return _reader(data) is not None


def no_bitmap(data: bytes) -> ImageError:
    """
    Why content is no image that is read.
    """
    head = data[:_HEAD]
    for start, name in _OTHERS:
        if start.match(head):
            return ImageError('other_format', name=name)
    return ImageError('web_page' if _PAGE.match(head) else 'unknown_format')


def read_bitmap(data: bytes, side: int, max_pixels: int) -> Image.Image:
    """
    The RGB image that content shows, with sides of at least about ``side`` pixels if it has them.
    """
    read = _reader(data)
    nothing = None
    try:
        for n in range(_MAX_FRAMES):
            try:
                picture = read(data, n, side, max_pixels)
                # Small and faint sources may be lost in the means.
                if not _is_blank(picture) or not _is_blank(read(data, n, None, max_pixels)):
                    return picture
            except ImageError as error:
                if error.status != NO_IMAGE:
                    raise
                nothing = error
            except EOFError:
                if n == 0:
                    raise
                break
    except ImageError:
        raise
    # Pillow's plugins raise many kinds of error on damaged files.
    except Exception as error:
        raise ImageError('damaged_image', error=one_line(error)) from error
    raise nothing or ImageError('blank')


def to_rgb(image: Image.Image) -> Image.Image:
    """
    An image of Pillow in RGB, on black where it is transparent.
    """
    picture = _upright(note_size(_drawn(image, None), image.size), image)
    if _is_blank(picture):
        raise ImageError('blank')
    return picture


# ---- files -------------------------------------------------------------------------------
# Each function reads one frame or page in RGB, at full resolution if no side is given, and raises
# EOFError if there is none.


def _read_with_plugin(plugin: Any, data: bytes, n: int, side: int | None,
                      max_pixels: int) -> Image.Image:
    image = plugin(io.BytesIO(data))
    if n:
        image.seek(n)
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError('too_many_pixels', width=width, height=height, limit=max_pixels)
    # Each scan goes over all pixels again, and a few bytes make one.
    if image.format == 'JPEG' and data.count(b'\xff\xda') > _MAX_SCANS:
        raise ImageError('damaged_image', error=f'more than {_MAX_SCANS} scans')
    if side is not None and image.format == 'JPEG':
        # The decoder can skip detail that the model would not see.
        image.draft('RGB' if image.mode != 'L' else 'L', (side, side))
    # Bits and kind of a PNG stand in its header.
    kind = data[25] if n == 0 and image.format == 'PNG' and data[24] == 16 else None
    if image.format == 'PNG':
        _scale_transparency(image, data[24])

    def draw() -> Image.Image:
        try:
            if kind == _GREY_ALPHA:
                picture = grey(_of_deep_grey(image, side), flip=False)
            else:
                picture = _drawn(image, side)
            if kind in _COLOURS and _is_dark(picture):
                picture = _colour(_of_deep_colours(image, data, side), 0.0)
            return _upright(note_size(picture, (width, height)), image)
        finally:
            image.close()  # before the next large one is decoded

    return alone_if_large(width * height, draw)


def _scale_transparency(image: Any, bits: int) -> None:
    """
    Give the level or colour of a PNG that is transparent in eight bits, as its pixels are.
    """
    value = image.info.get('transparency')
    if isinstance(value, tuple) and bits == 16:
        image.info['transparency'] = tuple(level >> 8 for level in value)
    elif isinstance(value, int) and image.mode in ('1', 'L') and value < 1 << bits < 256:
        image.info['transparency'] = value * 255 // ((1 << bits) - 1)


def _read_jpeg_2000(data: bytes, n: int, side: int | None, max_pixels: int) -> Image.Image:
    if n:
        raise EOFError
    stream = jpeg2000.stream(data)
    step = _step(stream.size, side)
    stream.check(step, max_pixels)
    return alone_if_large(stream.size[0] * stream.size[1],
                          lambda: note_size(_drawn(stream.image(step), side), stream.size))


def _read_tiff(data: bytes, n: int, side: int | None, max_pixels: int) -> Image.Image:
    pages = tiff.pages(data)
    if n >= len(pages):
        raise EOFError
    page = pages[n]
    page.check(max_pixels)

    def draw() -> Image.Image:
        if page.has_bands and (page.is_in_planes or not page.has_levels):
            picture = _of_bands(page, side)
        else:
            try:
                picture = _drawn(page.image(), side)
            except ImageError as error:
                # Pillow does not know it.
                if error.because.code != 'tiff_unread' or not page.has_bands:
                    raise
                picture = _of_bands(page, side)
        return _turned(note_size(picture, page.size), page.orientation)

    return alone_if_large(page.size[0] * page.size[1], draw)


def _of_bands(page: tiff.Page, side: int | None) -> Image.Image:
    bands, white = page.bands(_step(page.size, side))
    if page.has_levels:
        return _levels(bands, white)
    return grey(bands[0], flip=False) if len(bands) == 1 else _colour(bands, white)


_FORMATS: list[tuple[re.Pattern[bytes], Any]] = [
    (re.compile(start, re.DOTALL), partial(_read_with_plugin, plugin))
    for start, plugin in _PLUGINS]
_FORMATS.append((re.compile(b'|'.join(map(re.escape, tiff.STARTS))), _read_tiff))
if features.check('jpg_2000'):
    _FORMATS.append((re.compile(_JPEG_2000), _read_jpeg_2000))


def _reader(data: bytes) -> Any:
    return next((read for start, read in _FORMATS if start.match(data)), None)


# ---- pixels ------------------------------------------------------------------------------


def _step(size: tuple[int, int], side: int | None) -> int:
    return 1 if side is None else step_of(size, side)


def _drawn(image: Image.Image, side: int | None) -> Image.Image:
    """
    An image of Pillow in RGB; of numbers that are no levels, as a FITS image is drawn.
    """
    if image.mode.startswith(('I', 'F')):
        return grey(_means(image, side, missing=image.info.get('transparency')), flip=False)
    step = _step(image.size, side)
    if step == 1:
        return _rgb(image)
    if image.mode in ('1', 'P', 'PA') or 'transparency' in image.info:
        return _rgb(image).reduce(step)  # their values cannot be averaged
    # Means of blocks where there are more pixels than needed, before anything copies them.
    return _rgb(image.reduce(step))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == 'LAB':
        from PIL import ImageCms

        return ImageCms.profileToProfile(image, ImageCms.createProfile('LAB'),
                                         ImageCms.createProfile('sRGB'), outputMode='RGB')
    if image.mode in ('La', 'RGBa'):
        image = image.convert(image.mode.upper())
    if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
        image = image.convert('RGBA')
        black = Image.new('RGBA', image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert('RGB')
    return image.convert('RGB')


def _means(image: Image.Image, side: int | None, *, missing: Any = None) -> np.ndarray:
    """
    Means of blocks of the numbers of a grey image.
    """
    def read(index: tuple) -> np.ndarray:
        values = _rows(image, index)
        if missing is None:
            return values
        return np.where(values == missing, np.nan, values)

    return means(Pixels((image.height, image.width), read), _step(image.size, side))


def _rows(image: Image.Image, index: tuple) -> np.ndarray:
    start, stop, _ = index[0].indices(image.height)
    return np.asarray(image.crop((0, start, image.width, stop)))


def _of_deep_grey(image: Any, side: int | None) -> np.ndarray:
    """
    Grey and transparency of a PNG, two bytes each, of which Pillow would drop one.
    """
    _unpack(image, 'RGBA')

    def read(index: tuple) -> np.ndarray:
        values = np.ascontiguousarray(_rows(image, index)).view('>u2')
        return np.where(values[..., 1] == 0, np.nan, values[..., 0])

    return means(Pixels((image.height, image.width), read), _step(image.size, side))


def _of_deep_colours(image: Image.Image, data: bytes, side: int | None) -> list[np.ndarray]:
    """
    Colours of a PNG, with the lower bytes too, which Pillow takes for the upper ones of a file
    in the other order.
    """
    lower = PngImagePlugin.PngImageFile(io.BytesIO(data))
    _unpack(lower, f'{lower.mode};16L')

    def read(index: tuple, band: int) -> np.ndarray:
        values = _rows(image, index) * np.uint16(256) + _rows(lower, index)
        if values.shape[-1] == 4:
            return np.where(values[..., 3] == 0, np.nan, values[..., band])
        return values[..., band]

    step = _step(image.size, side)
    return [means(Pixels((image.height, image.width), partial(read, band=band)), step)
            for band in range(3)]


def _unpack(image: Any, form: str) -> None:
    """
    Decode, and take the bytes in another way than Pillow would.
    """
    image.tile = [(*tile[:3], form) for tile in image.tile]
    image.load()


def _colour(bands: list[np.ndarray], white: float) -> Image.Image:
    """
    Bands of red, green and blue as they are if they fill the range up to white, or else stretched.
    """
    brightest = np.fmax.reduce(bands)
    known = brightest[np.isfinite(brightest)]
    if not known.size:
        raise ImageError('no_finite_pixels')
    if white == 1 and (known.max() > 1 or np.fmin.reduce(bands)[np.isfinite(brightest)].min() < 0):
        white = 0.0  # floats of another unit
    if white and np.percentile(known, 99.7) >= _DARK * white:
        return _levels(bands, white)
    try:
        return compose([Plane(band[::-1]) for band in bands])
    # One filter is empty.
    except ImageError:
        return grey(np.mean(bands, axis=0), flip=False)


def _levels(bands: list[np.ndarray], white: float) -> Image.Image:
    """
    Bands as they are, black where there is nothing.
    """
    pixels = (np.nan_to_num(np.stack(bands, axis=-1)) * (255 / white)).round().astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if len(bands) == 1 else pixels).convert('RGB')


def _is_dark(picture: Image.Image) -> bool:
    return bool(np.percentile(np.asarray(picture).max(axis=-1), 99.7) < _DARK * 255)


def _is_blank(picture: Image.Image) -> bool:
    """
    Whether an RGB image has one colour, or only the noise that compression leaves in one.
    """
    # A few pixels show nearly all pictures to be none.
    some: Any = picture.resize((12, 12), Image.Resampling.NEAREST).convert('YCbCr').getextrema()
    if any(high - low > 2 * noise for (low, high), noise in zip(some, _NOISE, strict=True)):
        return False
    # Of faint sources the brightest level is far from the usual one, of noise it is not.
    levels = np.asarray(picture.convert('YCbCr').histogram()).reshape(3, 256)
    for counts, noise in zip(levels, _NOISE, strict=True):
        middle = np.searchsorted(counts.cumsum(), counts.sum() / 2)
        found = np.flatnonzero(counts)
        if found[0] < middle - noise or found[-1] > middle + noise:
            return False
    return True


def _upright(picture: Image.Image, image: Image.Image) -> Image.Image:
    """
    A picture as the camera that took the image was held.
    """
    exif = image.info.get('exif')
    # Pillow has turned a TIFF.
    if not isinstance(exif, bytes) or image.format == 'TIFF':
        return picture
    return _turned(picture, tiff.exif_orientation(exif))


def _turned(picture: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return picture if turn is None else turned(picture, turn)
