# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The pages of a TIFF or BigTIFF file, and their pixels.

Pillow cuts colours of 16 bits to eight, inverts "white is zero" up to eight bits only, and knows
neither colours of floats nor float64. But it can undo the compression of all of them: here it is
shown the rows as rows of bytes, and the numbers are made of these.
"""

import io
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, TiffImagePlugin

from ..exceptions import ImageError
from .blocks import Pixels, means

__all__ = ['STARTS', 'Page', 'exif_orientation', 'pages']

# Order of the bytes, and whether it is a BigTIFF.
STARTS = {b'II*\x00': ('<', False), b'MM\x00*': ('>', False),
           b'II+\x00': ('<', True), b'MM\x00+': ('>', True)}

# Types of values in the notation of struct; a fraction has two numbers.
_BYTE, _SHORT, _LONG = 1, 3, 4
_FORMS = {_BYTE: 'B', 2: 'B', _SHORT: 'H', _LONG: 'I', 5: 'II', 6: 'b', 7: 'B', 8: 'h', 9: 'i',
          10: 'ii', 11: 'f', 12: 'd', 13: 'I', 16: 'Q', 17: 'q', 18: 'Q'}

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 255, 256, 257, 258, 259
_PHOTOMETRIC, _FILL_ORDER, _ORIENTATION, _SAMPLES, _PLANAR = 262, 266, 274, 277, 284
_STRIPS, _ROWS, _STRIP_BYTES, _T4, _T6, _PREDICTOR, _COLOURS = 273, 278, 279, 292, 293, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_SUB_IFDS, _EXTRA, _FORMAT, _JPEG_TABLES, _DNG, _NODATA = 330, 338, 339, 347, 50706, 42113
_YCBCR, _YCBCR_SUBSAMPLING, _YCBCR_PLACE, _BLACK_AND_WHITE = 529, 530, 531, 532

# All that pixels depend on, without metadata of which Pillow may complain.
_OF_PIXELS = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _PLANAR,
              _STRIPS, _ROWS, _STRIP_BYTES, _T4, _T6, _PREDICTOR, _COLOURS, _TILE_WIDTH,
              _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA, _FORMAT, _JPEG_TABLES, _YCBCR,
              _YCBCR_SUBSAMPLING, _YCBCR_PLACE, _BLACK_AND_WHITE}

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_OF_CAMERAS = (32803, 34892)  # colour filter array, linear raw
_PREMULTIPLIED, _ALPHA = 1, 2
_KINDS = {1: 'u', 2: 'i', 3: 'f', 4: 'u'}

# LZW, deflate (by two numbers), packbits, LZMA and zstd: all give back what was compressed. Not
# every Pillow has the last ones.
_LOSSLESS = (1, 5, 8, 32946, 32773, 34925, 50000)
_OPTIONAL = (34925, 50000, 50001)

_MAX_PAGES = 1000
_MAX_TAGS = 4096
_MAX_VALUES = 1 << 20  # of one tag: strips or tiles
_MAX_BYTES = 16  # of a pixel, if there are as many pixels as there may be


@dataclass
class Page:
    """
    One image of a TIFF file.
    """

    data: bytes
    order: str  # '<' or '>'
    tags: dict[int, tuple[int, int, int]]  # type, how many values, and where they are

    @property
    def size(self) -> tuple[int, int]:
        """
        Width and height in pixels, as stored.
        """
        return self._one(_WIDTH, 0), self._one(_HEIGHT, 0)

    @property
    def orientation(self) -> int:
        """
        How it is to be turned, by the numbers of EXIF.
        """
        return self._one(_ORIENTATION, 1)

    @property
    def is_part(self) -> bool:
        """
        Whether it is a smaller copy, or the mask, of another page.
        """
        return bool(self._one(_SUBFILE, 0) & 5) or self._one(_OLD_SUBFILE, 0) == 2

    @property
    def is_raw(self) -> bool:
        """
        Whether it belongs to the raw data of a camera.
        """
        return (self.data[8:10] == b'CR' or _DNG in self.tags
                or self._one(_PHOTOMETRIC, 0) in _OF_CAMERAS
                # A small copy comes first, and the image stands below it.
                or (self.is_part and _SUB_IFDS in self.tags))

    @property
    def has_levels(self) -> bool:
        """
        Whether its samples are levels of eight bits or less, which nothing needs to stretch.
        """
        return max(self._all(_BITS, 1)) <= 8 and set(self._all(_FORMAT, 1)) <= {1, 4}

    @property
    def is_in_planes(self) -> bool:
        """
        Whether each colour is stored apart.
        """
        return self._one(_PLANAR, 1) == 2

    @property
    def has_bands(self) -> bool:
        """
        Whether `bands` can read it.
        """
        bits, formats = set(self._all(_BITS, 1)), set(self._all(_FORMAT, 1))
        return (self._one(_PHOTOMETRIC, 0) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
                and len(bits) == 1 and bits <= {8, 16, 32, 64}
                and len(formats) == 1 and formats <= set(_KINDS)
                and not (bits == {8} and formats == {3})
                and self._one(_SAMPLES, 1) >= self._n_colours
                and self._one(_COMPRESSION, 1) in _LOSSLESS
                and self._one(_PREDICTOR, 1) in (1, 2, 3))

    @property
    def _n_colours(self) -> int:
        return 3 if self._one(_PHOTOMETRIC, 0) == _RGB else 1

    @property
    def _part(self) -> tuple[int, int]:
        """
        Width and height of a strip or tile.
        """
        width, height = self.size
        if _TILES in self.tags:
            return self._one(_TILE_WIDTH, 0), self._one(_TILE_HEIGHT, 0)
        return width, min(self._one(_ROWS, height), height)

    def _all(self, tag: int, *default: int) -> tuple:
        """
        The numbers of a tag.
        """
        if tag not in self.tags:
            return default
        kind, count, at = self.tags[tag]
        if count > _MAX_VALUES:
            raise ImageError('damaged_image', error=f'a tag with {count} values')
        form = _FORMS[kind]
        return struct.unpack_from(f'{self.order}{count * len(form)}{form[0]}', self.data, at)

    def _one(self, tag: int, default: int) -> int:
        """
        The only or first number of a tag.
        """
        return int(next(iter(self._all(tag)), default))

    def check(self, max_pixels: int) -> None:
        """
        Refuse what would take too much memory, and what cannot be.
        """
        width, height = self.size
        if min(width, height) < 1:
            raise ImageError('damaged_image', error='it has no size')
        if width * height > max_pixels:
            raise ImageError('too_many_pixels', width=width, height=height, limit=max_pixels)
        across, down = self._part
        if min(across, down) < 1:
            raise ImageError('damaged_image', error='its strips have no size')
        # With the parts of tiles that are outside.
        area = math.ceil(width / across) * across * math.ceil(height / down) * down
        n = 1 if self.is_in_planes else self._one(_SAMPLES, 1)
        if area * n * max(self._all(_BITS, 1)) > 8 * _MAX_BYTES * max_pixels:
            raise self._unread()

    def image(self) -> Image.Image:
        """
        The page as Pillow reads it, not turned.
        """
        tags = {tag: (self.tags[tag][0], self._all(tag)) for tag in _OF_PIXELS & set(self.tags)}
        return self._loaded(tags)

    def _loaded(self, tags: dict[int, tuple[int, tuple]]) -> Image.Image:
        """
        What Pillow makes of the data with other tags: type and numbers.
        """
        # Their directory comes behind the data, which keeps its place. It is no BigTIFF.
        start = len(self.data) + len(self.data) % 2
        directory, values = struct.pack(self.order + 'H', len(tags)), b''
        behind = start + 2 + 12 * len(tags) + 4
        for tag, (kind, numbers) in sorted(tags.items()):
            kind = _LONG if _FORMS[kind] == 'Q' else kind
            form = _FORMS[kind]
            content = struct.pack(f'{self.order}{len(numbers)}{form[0]}', *numbers)
            if len(content) > 4:
                place = struct.pack(self.order + 'I', behind + len(values))
                values += content + bytes(len(content) % 2)
                content = place
            directory += struct.pack(self.order + 'HHI', tag, kind, len(numbers) // len(form))
            directory += content.ljust(4, b'\x00')
        header = b'II*\x00' if self.order == '<' else b'MM\x00*'
        data = b''.join((header, struct.pack(self.order + 'I', start), self.data[8:],
                         bytes(start - len(self.data)), directory, bytes(4), values))
        try:
            image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        # Nothing is cut, as all tags are there: Pillow does not know the kind.
        except (SyntaxError, OSError) as error:
            raise self._unread() from error
        try:
            image.load()
        except OSError as error:
            if self._one(_COMPRESSION, 1) in _OPTIONAL:
                raise self._unread() from error
            raise
        return image

    def _unread(self) -> ImageError:
        return ImageError(
            'tiff_unread', n=self._one(_SAMPLES, 1), bits=self._one(_BITS, 1),
            compression=self._one(_COMPRESSION, 1), photometric=self._one(_PHOTOMETRIC, 0))

    def bands(self, step: int) -> tuple[list[np.ndarray], float]:
        """
        One band of grey or three of colour, means of ``step`` x ``step`` pixels, NaN where there is
        nothing; and the value that is white, 0 if that is not known.
        """
        width, height = self.size
        n, n_colours = self._one(_SAMPLES, 1), self._n_colours
        dtype = np.dtype(f'{self.order}{_KINDS[self._one(_FORMAT, 1)]}{self._one(_BITS, 1) // 8}')
        white = float(np.iinfo(dtype).max) if dtype.kind == 'u' else float(dtype.kind == 'f')
        extra = self._one(_EXTRA, 0) if n > n_colours else 0
        n_used = n_colours + (extra in (_PREMULTIPLIED, _ALPHA))
        if self.is_in_planes:
            planes = [self._rows(dtype, 1, n, k) for k in range(n_used)]
        else:
            planes = [self._rows(dtype, n, 1, 0)]
        nodata = self._nodata()

        def read(index: tuple, k: int) -> np.ndarray:
            start, stop, _ = index[0].indices(height)
            if self.is_in_planes:
                values = planes[k](start, stop)[..., 0]
                alpha = planes[-1](start, stop)[..., 0]
            else:
                samples = planes[0](start, stop)
                values, alpha = samples[..., k], samples[..., n_used - 1]
            if dtype.kind == 'f' and dtype.itemsize == 2:
                with np.errstate(invalid='ignore'):  # of signalling NaN
                    values = values.astype(np.float32)
            missing = values == nodata
            if n_used > n_colours:
                missing = missing | (alpha == 0)
                if n_used == 4 and extra == _ALPHA and white:
                    values = values * (alpha / white)
            return np.where(missing, np.nan, values) if missing.any() else values

        negative = self._one(_PHOTOMETRIC, 0) == _WHITE_IS_ZERO
        scale, zero = (-1.0 if negative else 1.0), (white if negative and self.has_levels else 0.0)
        bands = [means(Pixels((height, width), partial(read, k=k), scale=scale, zero=zero),
                       step) for k in range(n_colours)]
        return bands, white

    def _nodata(self) -> float:
        """
        The value of GDAL for pixels without data, or NaN.
        """
        try:
            return float(bytes(self._all(_NODATA)).strip(b'\x00 '))
        except (ValueError, TypeError):
            return math.nan

    def _rows(self, dtype: np.dtype, n: int, n_planes: int,
              k: int) -> Callable[[int, int], np.ndarray]:
        """
        A function that gives some rows ``(rows, width, n)`` of one plane.
        """
        width, height = self.size
        across, down = self._part
        parts = math.ceil(width / across), math.ceil(height / down)
        image = self._as_bytes(across * n * dtype.itemsize, parts, n_planes, k)
        predictor = self._one(_PREDICTOR, 1) if self._one(_COMPRESSION, 1) != 1 else 1

        def read(start: int, stop: int) -> np.ndarray:
            lines = np.asarray(image.crop((0, start, image.width, stop)))
            if predictor == 3:
                # Differences of bytes, of which those with the exponents come first.
                lines = lines.reshape(-1, across * dtype.itemsize, n)
                lines = np.cumsum(lines, axis=1, dtype=np.uint8)
                lines = lines.reshape(-1, dtype.itemsize, across * n)
                lines = np.ascontiguousarray(lines.swapaxes(1, 2))
                values = lines.view(dtype.newbyteorder('>'))
            else:
                values = np.ascontiguousarray(lines).view(dtype)
            values = values.reshape(-1, across, n)
            if predictor == 2:
                values = np.cumsum(values, axis=1, dtype=dtype.newbyteorder('='))
            return values.reshape(stop - start, parts[0] * across, n)[:, :width]

        return read

    def _as_bytes(self, row: int, parts: tuple[int, int], n_planes: int, k: int) -> Image.Image:
        """
        One plane as a grey image of bytes, ``row`` of them in each row of a strip or tile.
        """
        tiled = _TILES in self.tags
        of_places, of_sizes = (_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES)
        places, sizes = self._all(of_places), self._all(of_sizes)
        n, down = parts[0] * parts[1], self._part[1]
        if len(places) != n_planes * n or len(sizes) not in (len(places), 0):
            raise ImageError('damaged_image', error=f'it has {len(places)} strips')
        tags = {_WIDTH: (parts[0] * row,), _HEIGHT: (parts[1] * down if tiled else self.size[1],),
                _BITS: (8,), _COMPRESSION: (self._one(_COMPRESSION, 1),),
                _PHOTOMETRIC: (_BLACK_IS_ZERO,), _FILL_ORDER: (self._one(_FILL_ORDER, 1),),
                _SAMPLES: (1,), of_places: places[k * n:(k + 1) * n]}
        tags |= {_TILE_WIDTH: (row,), _TILE_HEIGHT: (down,)} if tiled else {_ROWS: (down,)}
        if sizes:
            tags[of_sizes] = sizes[k * n:(k + 1) * n]
        return self._loaded({tag: (_LONG, numbers) for tag, numbers in tags.items()})


def pages(data: bytes) -> list[Page]:
    """
    The images of a TIFF file in their order, without smaller copies and masks if there are others.
    """
    try:
        found = list(_directories(data))
    except struct.error as error:
        raise ImageError('damaged_image', error='its tags are cut') from error
    if not found:
        raise ImageError('damaged_image', error='it has no tags')
    if any(page.is_raw for page in found):
        raise ImageError('other_format', name='a raw file of a camera')
    return [page for page in found if not page.is_part] or found


def exif_orientation(exif: bytes) -> int:
    """
    How a camera was held, of EXIF metadata, which are a small TIFF file; 1 if they do not say.
    """
    try:
        return next(_directories(exif.removeprefix(b'Exif\x00\x00'))).orientation
    except (ImageError, KeyError, StopIteration, struct.error):
        return 1


def _directories(data: bytes) -> Iterator[Page]:
    """
    The directories of a file, which are a chain.
    """
    order, big = STARTS[data[:4]]
    word, entry = order + ('Q' if big else 'I'), order + ('HHQ' if big else 'HHI')
    head, room = struct.calcsize(entry), struct.calcsize(word)
    (offset,) = struct.unpack_from(word, data, 8 if big else 4)
    seen: set[int] = set()
    while 0 < offset < len(data) and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        (n,) = struct.unpack_from(order + ('Q' if big else 'H'), data, offset)
        if n > _MAX_TAGS:
            raise ImageError('damaged_image', error=f'it has {n} tags')
        start = offset + (8 if big else 2)
        tags = {}
        for i in range(start, start + n * (head + room), head + room):
            tag, kind, count = struct.unpack_from(entry, data, i)
            if kind not in _FORMS:
                continue
            at = i + head
            if count * struct.calcsize('=' + _FORMS[kind]) > room:
                (at,) = struct.unpack_from(word, data, at)
            tags[tag] = kind, count, at
        yield Page(data, order, tags)
        (offset,) = struct.unpack_from(word, data, start + n * (head + room))
