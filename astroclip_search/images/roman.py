# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
ASDF files, as of the Roman Space Telescope -> a plane of numbers, and what they say of themselves.

Files come from strangers, and the library asdf may open what a file names, and make objects of what
it describes. Here a tree is taken apart as text, and only arrays that lie in the file itself are
read. asdf and gwcs are asked for the place on the sky alone, and are given nothing but numbers.
"""

import bz2
import io
import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

import numpy as np

from ..exceptions import ImageError, one_line
from .fits import read_array
from .plane import Plane, alone_if_large, celestial

__all__ = ['header', 'read']

_MAX_TREE = 16 * 1024**2  # bytes; Roman's have some 100 kB
_MAX_BLOCKS = 10_000
_MAX_NODES = 100_000

_MAGIC = b'\xd3BLK'
_STREAMED = 1

_KINDS = {'bool8': '?', 'float16': 'f2', 'float32': 'f4', 'float64': 'f8',
          'int8': 'i1', 'int16': 'i2', 'int32': 'i4', 'int64': 'i8',
          'uint8': 'u1', 'uint16': 'u2', 'uint32': 'u4', 'uint64': 'u8'}

_ARRAY = 'tag:stsci.edu:asdf/core/ndarray-'

# Of what may stand in the WCS of a file. All are made of numbers and names.
_WCS_TAGS = ('tag:stsci.edu:gwcs/', 'tag:stsci.edu:asdf/transform/', 'tag:stsci.edu:asdf/unit/',
             'tag:astropy.org:astropy/coordinates/frames/', 'tag:astropy.org:astropy/units/',
             'tag:astropy.org:astropy/transform/', _ARRAY,
             *(f'tag:yaml.org,2002:{name}' for name in 'map seq str int float bool null'.split()))

# Keywords of FITS, and where Roman has their values.
_KEYWORDS = {'OBJECT': (('target', 'name'), ('target', 'proposer_name'), ('visit', 'target')),
             'TITLE': (('program', 'title'),),
             'TELESCOP': (('telescope',),), 'INSTRUME': (('instrument', 'name'),),
             'DETECTOR': (('instrument', 'detector'),),
             'FILTER': (('instrument', 'optical_element'), ('basic', 'optical_element')),
             'EXPTIME': (('exposure', 'exposure_time'), ('exposure', 'effective_exposure_time')),
             'DATE-OBS': (('exposure', 'start_time'),),
             'RA': (('wcsinfo', 'ra_ref'), ('pointing', 'ra_v1')),
             'DEC': (('wcsinfo', 'dec_ref'), ('pointing', 'dec_v1'))}


def read(stream: IO[bytes], side: int, plane: str | int, max_pixels: int) -> Plane:
    """
    The image of an ASDF file, ``roman.data`` or ``data``, reduced to about ``side`` pixels.
    """
    try:
        tree = _Tree(stream)
        image, meta = tree.image()
        values = tree.array(image, max_pixels)
        if values.ndim < 2:
            raise ImageError('no_asdf_image')

        def reduced() -> Plane:
            return read_array(values, side=side, plane=plane)

        mapped = isinstance(values.base, np.memmap)
        found = reduced() if mapped else alone_if_large(values.size, reduced)
        text = _wcs_text(tree, _at(meta, 'wcs'))
        rough = _header(meta, values.shape)
        return replace(found, wcs=lambda: _wcs(text, values.shape, rough))
    except ImageError:
        raise
    # YAML, numpy, the decoders: each has its own errors for a damaged file.
    except Exception as error:
        raise ImageError('damaged_asdf', error=one_line(error)) from error


def _wcs_text(tree: '_Tree', node: Any) -> str:
    # Whatever is wrong with it, the picture can be drawn without.
    try:
        return tree.as_text(node) if node is not None else ''
    except Exception:
        return ''


def header(stream: IO[bytes]) -> dict[str, str | float]:
    """
    What an ASDF file says of its image, under the keywords of FITS.
    """
    tree = _Tree(stream)
    image, meta = tree.image()
    return _header(meta, tree.shape(image))


# ---- the tree ----------------------------------------------------------------------------


class _Tree:
    """
    The tree of an ASDF file, as nodes of YAML: nothing is made of them. And the blocks behind it.
    """

    def __init__(self, stream: IO[bytes]):
        import yaml

        self.stream = stream
        stream.seek(0)
        start, end = b'', None
        while end is None and len(start) < _MAX_TREE:
            part = stream.read(1 << 17)
            if not part:
                break
            # An end may lie on both sides of a cut.
            end = re.compile(rb'\n\.\.\.\s*?\n').search(start + part, max(0, len(start) - 8))
            start += part
        if end is None:
            raise ImageError('damaged_asdf', error='the tree does not end')
        self.behind = end.end()
        version = re.search(rb'^#ASDF_STANDARD (\d+\.\d+\.\d+)', start[:200], re.MULTILINE)
        self.version = version[1].decode() if version else '1.5.0'
        # In C where there is one, which also bounds how deep a tree is.
        loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
        self.root = yaml.compose(start[:end.start()].decode('utf-8'), Loader=loader)

    def image(self) -> tuple[Any, Any]:
        """
        The nodes of the array of the image, and of what is said of it.
        """
        places = [_at(self.root, 'roman'), self.root, *(value for _, value in _items(self.root))]
        for place in places:
            node = _at(place, 'data')
            inner = _at(node, 'value')  # a quantity
            for array in (node, inner):
                if array is not None and array.tag.startswith(_ARRAY):
                    return array, _at(place, 'meta')
        raise ImageError('no_asdf_image')

    def shape(self, node: Any) -> tuple[int, ...]:
        """
        Shape of an array that lies in the file.
        """
        shape = _at(node, 'shape')
        return tuple(int(size.value) for size in shape.value) if _is_list(shape) else ()

    def array(self, node: Any, max_pixels: int) -> np.ndarray:
        """
        An array of the file, in memory only if it is compressed or the file is far away.
        """
        source = _scalar(_at(node, 'source'))
        if not source.isdecimal():  # the name of another file
            raise ImageError('no_asdf_image')
        shape, offset = self.shape(node), int(_scalar(_at(node, 'offset')) or 0)
        kind = _KINDS.get(_scalar(_at(node, 'datatype')))
        if kind is None or min(shape, default=0) < 1 or offset < 0:
            raise ImageError('no_asdf_image')
        dtype = np.dtype(('<' if _scalar(_at(node, 'byteorder')) == 'little' else '>') + kind)
        strides = _at(node, 'strides')
        steps = tuple(int(step.value) for step in strides.value) if _is_list(strides) else None
        block = self._block(int(source), shape, max_pixels)
        # numpy refuses what reaches beyond the block.
        return np.ndarray(shape, dtype, block, offset, steps)

    def _block(self, number: int, shape: tuple[int, ...], max_pixels: int) -> Any:
        place, compression, n_stored, n_bytes = self._find(number)
        if not compression and not isinstance(self.stream, io.BytesIO):
            try:
                self.stream.fileno()
            except (AttributeError, OSError):
                pass
            else:
                return np.memmap(self.stream, np.uint8, 'r', place, (n_stored,))
        if isinstance(self.stream, io.BytesIO) and not compression:
            return self.stream.getbuffer()[place:place + n_stored]
        if math.prod(shape) > max_pixels or n_bytes > 8 * max_pixels:
            raise ImageError('too_many_pixels', width=shape[-1], height=math.prod(shape[:-1]),
                             limit=max_pixels)
        self.stream.seek(place)
        stored = self.stream.read(n_stored)
        return _decoded(stored, compression, n_bytes) if compression else stored

    def _find(self, number: int) -> tuple[int, str, int, int]:
        """
        Of a block: where its bytes are, how they are compressed, how many, and how many they were.
        """
        if number > _MAX_BLOCKS:
            raise ValueError(f'{number} blocks')
        self.stream.seek(self.behind)
        gap = self.stream.read(1 << 16).find(_MAGIC)
        if gap < 0:
            raise ValueError('no block')
        end = self.stream.seek(0, io.SEEK_END)
        place = self.behind + gap
        for i in range(number + 1):
            self.stream.seek(place)
            if self.stream.read(4) != _MAGIC:
                raise ValueError('no such block')
            size, flags, compression, allocated, used, n_bytes = struct.unpack(
                '>HI4sQQQ', self.stream.read(34))
            place += 6 + size
            if flags & _STREAMED:
                allocated = used = n_bytes = end - place
            if used > allocated or place + used > end:
                raise ValueError('a block is longer than the file')
            if i == number:
                return place, compression.rstrip(b'\0').decode('latin-1'), used, n_bytes
            place += allocated
        raise ValueError('no such block')

    def as_text(self, node: Any) -> str:
        """
        The WCS of a file as an ASDF file of its own, without references and with all numbers in
        place; empty if there is something else in it.
        """
        import yaml

        if not node.tag.startswith('tag:stsci.edu:gwcs/'):
            return ''

        def word(text: str) -> Any:
            return yaml.ScalarNode('tag:yaml.org,2002:str', text)

        # What is referred to again and again is counted each time: it will be made each time.
        stack, n, arrays = [node], 0, {}
        while stack:
            inner = stack.pop()
            n += 1
            if n > _MAX_NODES or not inner.tag.startswith(_WCS_TAGS):
                return ''
            if inner.tag.startswith(_ARRAY):
                if _at(inner, 'source') is not None:
                    arrays[id(inner)] = inner
                continue
            if isinstance(inner, yaml.MappingNode):
                for key, value in inner.value:
                    if key.value == '$ref' or not key.tag.endswith(':str'):
                        return ''
                    stack.append(value)
            elif isinstance(inner, yaml.SequenceNode):
                stack += inner.value
        for array in arrays.values():
            data = self.array(array, _MAX_NODES)
            if data.size > _MAX_NODES:
                return ''
            kind = _scalar(_at(array, 'datatype'))
            array.value = [(word('datatype'), word(kind)),
                           (word('data'), yaml.compose(yaml.safe_dump(data.tolist())))]
        tree = yaml.MappingNode('tag:stsci.edu:asdf/core/asdf-1.1.0', [(word('wcs'), node)])
        # The version of the standard says which tags there are.
        return f'#ASDF 1.0.0\n#ASDF_STANDARD {self.version}\n%YAML 1.1\n' + yaml.serialize(
            tree, explicit_start=True, explicit_end=True)


def _items(node: Any) -> Iterator[tuple[str, Any]]:
    """
    The entries of a node, none if it has none.
    """
    if getattr(node, 'id', '') == 'mapping':
        for key, value in node.value:
            if getattr(key, 'id', '') == 'scalar':
                yield key.value, value


def _at(node: Any, *path: str) -> Any:
    for name in path:
        node = next((value for key, value in _items(node) if key == name), None)
    return node


def _is_list(node: Any) -> bool:
    return getattr(node, 'id', '') == 'sequence'


def _scalar(node: Any) -> str:
    return node.value if getattr(node, 'id', '') == 'scalar' else ''


def _decoded(stored: bytes, compression: str, n_bytes: int) -> bytes:
    """
    The content of a compressed block, of which no more is unpacked than it says.
    """
    if compression == 'zlib':
        return zlib.decompressobj().decompress(stored, n_bytes)
    if compression == 'bzp2':
        return bz2.BZ2Decompressor().decompress(stored, n_bytes)
    if compression != 'lz4':
        raise ImageError('packed_otherwise', name=compression)
    try:
        import lz4.block
    except ImportError as error:
        raise ImageError('needs_asdf') from error
    parts, place, left = [], 0, n_bytes
    while place < len(stored):
        packed, size = struct.unpack_from('>I', stored, place)[0], 0
        part = stored[place + 4:place + 4 + packed]
        size = int.from_bytes(part[:4], 'little')
        if size > left:
            raise ValueError('a block is longer than it says')
        parts.append(lz4.block.decompress(part))
        left -= size
        place += 4 + packed
    return b''.join(parts)


# ---- what it says of itself --------------------------------------------------------------


def _header(meta: Any, shape: tuple[int, ...]) -> dict[str, str | float]:
    """
    Keywords of FITS, with a WCS by the corners of the image if these are known.
    """
    said: dict[str, str | float] = {}
    for key, paths in _KEYWORDS.items():
        text = next((text for path in paths if (text := _scalar(_at(meta, *path)))), '')
        if key in ('EXPTIME', 'RA', 'DEC'):
            try:
                said[key] = float(text)
            except ValueError:
                continue
        elif text and text not in ('?', 'None', 'null', '~'):
            said[key] = text
    if len(shape) >= 2:
        said |= {'NAXIS': 2, 'NAXIS1': shape[-1], 'NAXIS2': shape[-2],
                 **_by_corners(_scalar(_at(meta, 'wcsinfo', 's_region')), shape)}
    return said


def _by_corners(region: str, shape: tuple[int, ...]) -> dict[str, str | float]:
    """
    A tangential WCS by the footprint of an image, whose corners are in the order of gwcs.
    """
    numbers = re.findall(r'[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?', region)
    if not region.upper().startswith('POLYGON') or len(numbers) != 8:
        return {}
    lon, lat = np.radians(np.array(numbers, float).reshape(4, 2).T)
    corners = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    x, y, z = corners.sum(axis=1)
    ra, dec = math.atan2(y, x), math.atan2(z, math.hypot(x, y))
    east = np.array([-math.sin(ra), math.cos(ra), 0])
    north = np.array([-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)])
    far = np.array([math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)])
    depth = far @ corners
    if not (depth > .1).all():
        return {}
    plane = np.degrees(np.stack([east @ corners, north @ corners]) / depth)
    height, width = shape[-2:]
    pixels = np.array([[-1, -1, 1, 1], [-1, 1, 1, -1]]) * [[width / 2], [height / 2]]
    matrix = plane @ np.linalg.pinv(pixels)
    return {'CTYPE1': 'RA---TAN', 'CTYPE2': 'DEC--TAN', 'RADESYS': 'ICRS',
            'CRPIX1': (width + 1) / 2, 'CRPIX2': (height + 1) / 2,
            'CRVAL1': math.degrees(ra) % 360, 'CRVAL2': math.degrees(dec),
            **dict(zip(('CD1_1', 'CD1_2', 'CD2_1', 'CD2_2'), matrix.ravel().tolist(), strict=True))}


def _wcs(text: str, shape: tuple[int, ...], rough: dict[str, str | float]) -> Any:
    """
    WCS as FITS has it: that of the file where asdf and gwcs are installed, else by its corners.
    """
    from astropy.io.fits import Header

    precise = _of_gwcs(text, shape) if text else None
    return celestial(Header(rough) if precise is None else precise)


def _of_gwcs(text: str, shape: tuple[int, ...]) -> Any:
    try:
        import asdf
        import gwcs  # noqa: F401 - without, asdf makes no WCS of it
    except ImportError:
        return None
    height, width = shape[-2:]
    # Whatever is wrong with it, the picture can be drawn without.
    try:
        with asdf.open(io.BytesIO(text.encode()), ignore_unrecognized_tag=True) as file:
            return file['wcs'].to_fits_sip(((-.5, width - .5), (-.5, height - .5)))
    except Exception:
        return None
