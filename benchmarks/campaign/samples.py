# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Small sound files of every kind that is read, drawn on the spot.
"""

import bz2
import functools
import gzip
import hashlib
import importlib.util
import io
import lzma
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

__all__ = ['HAS_PARQUET', 'IMAGES', 'PACKED', 'TABLES', 'Sample', 'picture', 'sample']

Sample = tuple[str, bytes]
"""
The suffix of a file, and its content.
"""

NAMES = ('first.png', 'second.png')
"""
The pictures that the tables name.
"""


def picture(number: int = 0, size: int = 48) -> np.ndarray:
    """Draw a spiral with noise, (size, size, 3) uint8."""
    rng = np.random.default_rng(number)
    y, x = (np.mgrid[:size, :size] - size / 2) / size
    r, angle = np.hypot(x, y) + 1e-3, np.arctan2(y, x)
    arms = np.exp(-4 * r) * (1 + np.cos(2 * angle + 9 * np.log(r) + number))
    light = 30 + 90 * arms[..., None] * (1.0, 0.9, 0.7) + rng.normal(0, 6, (size, size, 3))
    return light.clip(0, 255).astype(np.uint8)


def _bitmap(form: str, mode: str = 'RGB', **options) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    image = Image.fromarray(picture())
    if mode == 'I;16':
        image = Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 200)
    elif mode == 'F':
        image = Image.fromarray(np.asarray(image.convert('L')).astype(np.float32))
    elif mode != 'RGB':
        image = image.convert(mode)
    if form == 'GIF':
        options |= {'save_all': True, 'append_images': [image.rotate(90)]}
    image.save(stream, form, **options)
    return stream.getvalue()


def _grey() -> np.ndarray:
    return picture().mean(axis=-1).astype('>f4')


def _fits(*hdus) -> bytes:
    from astropy.io import fits

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        fits.HDUList(list(hdus)).writeto(stream)
    return stream.getvalue()


def _header():
    from astropy.io import fits

    return fits.Header({'OBJECT': 'M 51', 'TELESCOP': 'HST', 'CTYPE1': 'RA---TAN',
                        'CTYPE2': 'DEC--TAN', 'CRVAL1': 202.47, 'CRVAL2': 47.2, 'CRPIX1': 24.0,
                        'CRPIX2': 24.0, 'CDELT1': -1e-3, 'CDELT2': 1e-3,
                        'DATE-OBS': '2020-01-02T03:04:05', 'EXPTIME': 120.5})


def _plain() -> bytes:
    from astropy.io import fits

    return _fits(fits.PrimaryHDU(_grey(), _header()))


def _integers() -> bytes:
    from astropy.io import fits

    header = _header()
    header['BLANK'], header['BSCALE'], header['BZERO'] = -1, 0.5, 10.0
    hdu = fits.PrimaryHDU()
    hdu.data = _grey().astype('>i2')
    hdu.header.extend(header, unique=True)
    return _fits(hdu)


def _cube() -> bytes:
    from astropy.io import fits

    header = _header()
    header['CTYPE3'] = 'FREQ'
    planes = np.stack([_grey() * factor for factor in (1, 2, 3)])
    return _fits(fits.PrimaryHDU(), fits.ImageHDU(planes, header, name='SCI'),
                 fits.ImageHDU(np.ones((48, 48), '>i2'), name='DQ'))


def _tiles(kind: str) -> bytes:
    from astropy.io import fits

    data = _grey() if kind not in ('PLIO_1', 'HCOMPRESS_1') else _grey().astype('>i2')
    return _fits(fits.PrimaryHDU(), fits.CompImageHDU(data, _header(), compression_type=kind))


def _pixel_table() -> bytes:
    from astropy.io import fits

    flux = np.stack([_grey()[12:36, 12:36]] * 3)
    table = fits.BinTableHDU.from_columns([
        fits.Column('TIME', 'D', array=np.arange(3.0)),
        fits.Column('FLUX', f'{24 * 24}E', dim='(24,24)', array=flux)], name='PIXELS')
    return _fits(fits.PrimaryHDU(), table)


def _asdf(compression: bytes = b'') -> bytes:
    data = _grey().astype('<f4')
    packed = zlib.compress(data.tobytes()) if compression else data.tobytes()
    head = ('#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n'
            '--- !core/asdf-1.1.0\nroman:\n    data: !core/ndarray-1.1.0 {source: 0, '
            'datatype: float32, byteorder: little, shape: [48, 48]}\n'
            '    meta: {telescope: ROMAN, exposure: {exposure_time: 107.5}}\n...\n')
    block = struct.pack('>HI4sQQQ16s', 48, 0, compression or bytes(4), len(packed), len(packed),
                        data.nbytes, hashlib.md5(packed, usedforsecurity=False).digest())
    return head.encode() + b'\xd3BLK' + block + packed


def _zip(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w') as archive:
        archive.writestr(zipfile.ZipInfo('a.fits'), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _compress(data: bytes, widest: int = 12) -> bytes:
    """Write what the program ``compress`` writes if its table is never cleared."""
    table = {bytes((i,)): i for i in range(256)}
    content, codes, width, known = bytearray((0x1f, 0x9d, widest)), [], 9, b''

    def flush(n_bytes: int) -> None:
        content.extend(sum(code << i * width for i, code in enumerate(codes))
                       .to_bytes(n_bytes, 'little'))
        codes.clear()

    for i in range(len(data)):
        longer = known + data[i:i + 1]
        if longer in table:
            known = longer
            continue
        codes.append(table[known])
        known = data[i:i + 1]
        if len(table) < 1 << widest:
            if len(table) == 1 << width:
                flush(-(-len(codes) // 8) * width)  # in groups of eight codes
                width += 1
            table[longer] = len(table)
    codes.append(table[known])
    flush(-(-len(codes) * width // 8))
    return bytes(content)


def _table():
    from astropy.table import Table

    return Table({
        'obs_id': ['a-1', 'b-2'], 'target_name': ['M 51', 'NGC 1300'],
        'obs_title': ['A spiral galaxy', 'A barred spiral'], 's_ra': [202.47, 49.92],
        's_dec': [47.2, -19.41], 't_exptime': [120.5, 60.0], 'n': [1, 2], 'preview': list(NAMES)})


def _written(form: str, **options) -> bytes:
    stream = io.BytesIO() if form in ('fits', 'votable') else io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        _table().write(stream, format=form, **options)
    content = stream.getvalue()
    return content if isinstance(content, bytes) else content.encode()


def _parquet(compression: str = 'snappy') -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    table = _table()
    stream = io.BytesIO()
    parquet.write_table(pa.table({name: table[name].tolist() for name in table.colnames}), stream,
                        compression=compression)
    return stream.getvalue()


IMAGES: dict[str, list[tuple[str, Callable[[], bytes]]]] = {
    'FITS': [('.fits', _plain), ('.fits', _integers), ('.fits', _cube)],
    'FITS in tiles (.fz)': [('.fits.fz', functools.partial(_tiles, kind)) for kind in (
        'RICE_1', 'GZIP_1', 'GZIP_2', 'PLIO_1', 'HCOMPRESS_1')],
    'FITS table of pixels': [('.fits', _pixel_table)],
    'ASDF': [('.asdf', _asdf), ('.asdf', functools.partial(_asdf, b'zlib'))],
    'JPEG': [('.jpg', functools.partial(_bitmap, 'JPEG')),
             ('.jpg', functools.partial(_bitmap, 'JPEG', progressive=True)),
             ('.jpg', functools.partial(_bitmap, 'JPEG', 'CMYK'))],
    'PNG': [('.png', functools.partial(_bitmap, 'PNG', mode)) for mode in ('RGB', 'I;16', 'P')],
    'TIFF': [('.tif', functools.partial(_bitmap, 'TIFF', mode, compression=compression))
             for mode, compression in (('RGB', None), ('RGB', 'tiff_lzw'), ('RGB', 'jpeg'),
                                       ('F', 'tiff_adobe_deflate'), ('I;16', None),
                                       ('1', 'group4'))],
    'GIF': [('.gif', functools.partial(_bitmap, 'GIF', 'P'))],
    'BMP': [('.bmp', functools.partial(_bitmap, 'BMP'))],
    'PPM, PGM': [('.ppm', functools.partial(_bitmap, 'PPM')),
                 ('.pgm', functools.partial(_bitmap, 'PPM', 'L'))],
    'WebP': [('.webp', functools.partial(_bitmap, 'WEBP')),
             ('.webp', functools.partial(_bitmap, 'WEBP', lossless=True))],
    'AVIF': [('.avif', functools.partial(_bitmap, 'AVIF'))],
    'JPEG 2000': [('.jp2', functools.partial(_bitmap, 'JPEG2000', no_jp2=False)),
                  ('.j2k', functools.partial(_bitmap, 'JPEG2000', no_jp2=True))],
}
"""
Kinds of image -> suffixes, and functions that draw one.
"""

PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    'gzip': ('.gz', functools.partial(gzip.compress, mtime=0)),
    'bzip2': ('.bz2', bz2.compress),
    'xz': ('.xz', lzma.compress),
    'zip': ('.zip', _zip),
    'compress (.Z)': ('.Z', _compress),
}
"""
Compressions -> suffixes, and functions that pack a FITS file.
"""

TABLES: dict[str, list[tuple[str, Callable[[], bytes]]]] = {
    'ECSV': [('.ecsv', functools.partial(_written, 'ascii.ecsv'))],
    'VOTable': [('.vot', functools.partial(_written, 'votable', tabledata_format=form))
                for form in ('tabledata', 'binary', 'binary2')],
    'CSV': [('.csv', functools.partial(_written, 'ascii.csv'))],
    'Parquet': [('.parquet', functools.partial(_parquet, kind)) for kind in ('snappy', 'none')],
    'FITS table': [('.fits', functools.partial(_written, 'fits'))],
}
"""
Kinds of table -> suffixes, and functions that write one which names `NAMES`.
"""


HAS_PARQUET = importlib.util.find_spec('pyarrow') is not None
"""
Whether what writes Parquet is installed.
"""


@functools.cache
def sample(kind: str) -> list[Sample]:
    """
    Draw the sound files of a kind; none where a library that writes them is missing.
    """
    from PIL import features

    needed = {'AVIF': 'avif', 'JPEG 2000': 'jpg_2000'}.get(kind)
    if needed and not features.check(needed):
        return []
    if kind in PACKED:
        suffix, pack = PACKED[kind]
        return [(f'.fits{suffix}', pack(data)) for _, data in sample('FITS')[:1]]
    try:
        return [(suffix, draw()) for suffix, draw in (IMAGES | TABLES)[kind]]
    except ImportError:
        return []
