# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The embedding of an image does not depend on how its pixels happen to be stored.
"""

import bz2
import gzip
import io
from functools import cache

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, NDData
from astropy.utils.masked import Masked
from PIL import Image

from astroclip_search import ClipSearchClass, sample
from tests.pictures import content, saved

# Rendered scenes of the sample archive that are not empty: galaxies, clusters, nebulae, a star.
SCENES = ('0001', '0008', '0014', '0022', '0028', '0036', '0042', '0066')


@cache
def display(number):
    """
    A picture as people see it, row 0 at the bottom, in 0..255.
    """
    image = Image.open(sample.IMAGE_DIR / 'previews' / f'syn_{number}.jpg').convert('L')
    return np.asarray(image)[::-1].astype('f4')


@cache
def frame(number):
    """
    What a detector counts of it: linear, with a sky of 500 and noise.
    """
    light = np.sinh(display(number) / 255 * np.arcsinh(10)) / 10
    noise = np.random.default_rng(int(number)).normal(0, 8, light.shape)
    return (500 + 4000 * light + noise).astype('f4')


def padded(data, value, part=.15):
    ny, nx = (int(part * n) for n in data.shape)
    return np.pad(data, ((ny, ny), (nx, nx)), constant_values=value)


def changed(data, index, value):
    data = data.copy()
    data[index] = value
    return data


def hot(data):
    rng = np.random.default_rng(1)
    return changed(data, tuple(rng.integers(0, n, data.size // 1000) for n in data.shape), 60_000)


def whole(data, dtype='i2'):
    return data.round().astype(dtype)


def written(*hdus):
    return content([fits.PrimaryHDU(), *hdus])


STORED = {
    'int16': whole, 'uint16': lambda d: whole(d, 'u2'), 'int32': lambda d: whole(d, 'i4'),
    'int64 and a large number': lambda d: whole(d, 'i8') + 2**60,
    'float64': lambda d: d.astype('f8'), 'big-endian': lambda d: d.astype('>f4'),
    'FITS': lambda d: content([fits.PrimaryHDU(d)]),
    'FITS of uint16': lambda d: content([fits.PrimaryHDU(whole(d, 'u2'))]),
    'FITS, packed': lambda d: gzip.compress(content([fits.PrimaryHDU(d)])),
    'FITS, bzip2': lambda d: bz2.compress(content([fits.PrimaryHDU(d)])),
    'RICE': lambda d: written(fits.CompImageHDU(whole(d), compression_type='RICE_1')),
    'RICE of floats': lambda d: written(fits.CompImageHDU(d, compression_type='RICE_1')),
    'GZIP': lambda d: written(fits.CompImageHDU(d, compression_type='GZIP_2',
                                                tile_shape=(50, 60))),
    'a cube of one plane': lambda d: written(fits.ImageHDU(d[None, None])),
    'behind its errors': lambda d: written(fits.ImageHDU(d * 0 + 3, name='ERR'),
                                           fits.ImageHDU(d, name='SCI')),
    'HDU': fits.ImageHDU, 'HDUList': lambda d: fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(d)]),
    'open file': lambda d: fits.open(io.BytesIO(content([fits.PrimaryHDU(d)]))),
    'numpy.ma': np.ma.masked_invalid, 'Masked': lambda d: Masked(d, np.zeros(d.shape, bool)),
    'Quantity': lambda d: d * u.adu, 'Masked Quantity': lambda d: Masked(d * u.adu),
    'NDData': NDData, 'CCDData': lambda d: CCDData(d, unit='adu'),
    'TIFF of 16 bits': lambda d: saved(Image.fromarray(whole(d[::-1], 'u2')), 'TIFF'),
    'TIFF of floats': lambda d: saved(Image.fromarray(d[::-1]), 'TIFF'),
    'PNG of 16 bits': lambda d: saved(Image.fromarray(whole(d[::-1], 'u2')), 'PNG'),
    'x 1000': lambda d: d * 1000, '/ 1e6': lambda d: d / 1e6, '+ 1e4': lambda d: d + 1e4,
    'border of NaN': lambda d: padded(d, np.nan), 'border of -999': lambda d: padded(d, -999),
    'border of 0': lambda d: padded(d, 0), 'border of -32768': lambda d: padded(whole(d), -32768),
}

SEEN = {
    'frame of NaN': lambda d: changed(d, np.pad(np.zeros(np.subtract(d.shape, 6), bool), 3,
                                                constant_values=True), np.nan),
    'hot pixels': hot, 'dead columns': lambda d: changed(d, np.s_[:, [60, 128, 129]], 0),
    'hot columns': lambda d: changed(d, np.s_[:, [60, 128, 129]], 60_000),
    'dead rows': lambda d: changed(d, np.s_[[60, 128, 129]], 0),
    'first column blank': lambda d: changed(d, np.s_[:, 0], 0),
    'masked rows': lambda d: np.ma.MaskedArray(d, np.arange(len(d))[:, None] * np.ones_like(d) < 5),
    'twice the size': lambda d: np.kron(d, np.ones((2, 2), 'f4')),
    'seven times the size': lambda d: np.kron(d, np.ones((7, 7), 'f4')),
    'cropped by 2 %': lambda d: d[len(d) // 100:-(len(d) // 100), d.shape[1] // 100:-(
        d.shape[1] // 100)],
}


@pytest.fixture(scope='module')
def cosines():
    search = ClipSearchClass()

    def compare(images, others):
        first, second = (search.encode_images(list(several)) for several in (images, others))
        return (first * second).sum(axis=1)

    yield compare
    search.close()


@pytest.mark.parametrize('how', STORED)
def test_however_it_is_stored(how, cosines):
    frames = [frame(number) for number in SCENES]
    found = cosines(frames, [STORED[how](data) for data in frames])
    assert found.min() > .99, dict(zip(SCENES, found, strict=True))


@pytest.mark.parametrize('how', SEEN)
def test_with_a_blemish_and_at_another_size(how, cosines):
    frames = [frame(number) for number in SCENES]
    found = cosines(frames, [SEEN[how](data) for data in frames])
    assert found.min() > .95, dict(zip(SCENES, found, strict=True))


def test_a_bitmap_and_a_fits_file_of_one_picture(cosines):
    """
    A picture that is stretched already is not stretched much more.
    """
    rng = np.random.default_rng(0)
    pictures = [display(number) for number in SCENES]
    noisy = [(data + rng.normal(0, 2, data.shape)).astype('f4') for data in pictures]
    bitmaps = [saved(Image.fromarray(data[::-1].astype('u1')), 'PNG') for data in pictures]
    found = cosines(bitmaps, noisy)
    assert found.min() > .95, dict(zip(SCENES, found, strict=True))
