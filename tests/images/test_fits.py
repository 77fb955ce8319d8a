# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Every kind of FITS file becomes the same picture each time, and none takes the memory.
"""

import bz2
import gzip
import io
import tarfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclip_search.exceptions import ImageError
from astroclip_search.images.blocks import Pixels, means
from astroclip_search.images.render import plane, render
from tests.pictures import brightest, content, refused, sky

SHARED_FITS = Path(__file__).parents[3] / 'shared' / 'data' / 'fits.tar.gz'


def test_a_fits_image_is_shown_with_its_first_row_at_the_bottom():
    image = render(content([fits.PrimaryHDU(sky())]))
    assert image.mode == 'RGB'
    assert image.size == (80, 60)
    assert brightest(image) == (20, 59 - 45)


def test_the_science_extension_is_shown():
    wrong = np.ones((60, 80), 'f4')
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(wrong, name='ERR'), fits.ImageHDU(wrong, name='DQ'),
            fits.ImageHDU(sky(x=60, y=10), name='THUMB'), fits.ImageHDU(sky(), name='SCI')]
    assert brightest(render(content(hdus))) == (20, 14)


@pytest.mark.parametrize('name', ['ERR', 'DQ', 'DQ1', 'WHT', 'VAR_POISSON', 'CON', 'CTX', 'MASK',
                                  'UNCERT', 'STAT'])
def test_maps_of_errors_and_weights_are_no_pictures(name):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(sky(x=60), name=name), fits.ImageHDU(sky())]
    assert brightest(render(content(hdus)))[0] == 20
    refused(content(hdus[:2]), 'no image in the FITS file', 'SKIPPED')


def test_a_name_that_begins_like_one_of_them_is_a_picture():
    render(content([fits.PrimaryHDU(), fits.ImageHDU(sky(), name='CONTINUUM')]))


@pytest.mark.parametrize('lead', [(5,), (1, 3)])
def test_the_middle_plane_of_a_cube(lead):
    cube = np.zeros((*lead, 60, 80), 'f4')
    cube[tuple(n // 2 for n in lead)] = sky()
    assert brightest(render(content([fits.PrimaryHDU(cube)]))) == (20, 14)
    compressed = [fits.PrimaryHDU(), fits.CompImageHDU(cube, quantize_level=0,
                                                       compression_type='GZIP_1')]
    assert brightest(render(content(compressed))) == (20, 14)
    assert brightest(render(fits.HDUList([fits.PrimaryHDU(cube)]))) == (20, 14)
    assert brightest(render(fits.ImageHDU(cube))) == (20, 14)


@pytest.mark.parametrize('compression', ['RICE_1', 'GZIP_2', 'HCOMPRESS_1'])
def test_compressed_images(compression):
    hdu = fits.CompImageHDU(sky().astype('i4'), compression_type=compression,
                            tile_shape=(20, 80) if compression == 'HCOMPRESS_1' else None)
    assert brightest(render(content([fits.PrimaryHDU(), hdu]))) == (20, 14)


@pytest.mark.parametrize('kind', ['u1', 'i2', 'u2', 'i4', 'u4', 'f4', 'f8'])
def test_every_type_of_pixel(kind, tmp_path):
    data = (sky() / 4 if kind == 'u1' else sky()).astype(kind)
    file = tmp_path / 'image.fits'
    file.write_bytes(content([fits.PrimaryHDU(data)]))
    assert brightest(render(file)) == (20, 14)
    # Unsigned integers are stored with an offset; scaling must not turn them over.
    np.testing.assert_array_equal(render(file), render(file.read_bytes()))


@pytest.mark.parametrize('blank', [-32768, 0, 7])
@pytest.mark.parametrize(('scale', 'zero'), [(1, 0), (1, 32768), (0.25, 10)])
def test_blank_integer_pixels_are_no_signal(blank, scale, zero):
    """
    astropy takes no BLANK of 0, and none of unsigned integers.
    """
    stored = sky().astype('i2') + 8
    stored[:, 40:50] = blank
    hdu = fits.PrimaryHDU(stored)
    hdu.header['BLANK'] = blank
    # Written by hand: astropy would scale.
    data = content([hdu])
    cards = f'BSCALE  = {scale:20}'.ljust(80) + f'BZERO   = {zero:20}'.ljust(80)
    place = data.index(b'END' + b' ' * 77)
    data = data[:place] + cards.encode() + data[place:].replace(b' ' * 160, b'', 1)
    found = plane(data).data
    assert np.isnan(found[:, 40:50]).all()
    expected = zero + scale * stored.astype(float)
    np.testing.assert_array_equal(found[:, :40], expected[:, :40])
    image = np.asarray(render(data))
    assert image[:, 40:50].max() == 0
    with fits.open(io.BytesIO(data)) as hdus:
        np.testing.assert_array_equal(render(hdus), image)
        np.testing.assert_array_equal(render(hdus[0]), image)


@pytest.mark.parametrize('kind', ['i8', 'u8', 'i4', 'u4'])
def test_large_integers_keep_their_digits(kind):
    data = sky().astype(kind) + np.array(2**62 if kind[1] == '8' else 2**30, kind)
    expected = np.asarray(render(sky().astype('i4')))
    np.testing.assert_array_equal(render(data), expected)
    np.testing.assert_array_equal(render(content([fits.PrimaryHDU(data)])), expected)


def test_a_border_of_nan_is_left_out_and_does_not_move_the_levels():
    data = np.full((100, 120), np.nan, 'f4')
    data[20:80, 20:100] = sky()
    np.testing.assert_array_equal(render(content([fits.PrimaryHDU(data)])),
                                  render(content([fits.PrimaryHDU(sky())])))


def test_infinite_and_huge_values_are_left_out():
    data = sky().astype('f8')
    data[0, 0], data[0, 1], data[0, 2] = np.inf, -np.inf, 1e300
    assert brightest(render(content([fits.PrimaryHDU(data)]))) == (20, 14)
    assert render(np.array([[3e38, -3e38] * 8] * 8, 'f4')).size == (16, 8)


@pytest.mark.parametrize(('data', 'match'), [
    (np.full((50, 50), np.nan), 'no finite pixels'), (np.full((50, 50), 7.5), 'the same value'),
    (np.zeros((50, 50), 'i2'), 'the same value')])
def test_images_without_content(data, match):
    refused(content([fits.PrimaryHDU(data)]), match, 'NO_IMAGE')
    refused(data, match, 'NO_IMAGE')


def test_a_few_bright_pixels_are_seen():
    """
    More than 99.7 % of a mostly empty frame has one value.
    """
    data = np.zeros((100, 100), 'f4')
    data[50, 30] = 1
    assert brightest(render(data)) == (30, 49)


def test_a_table_is_no_picture():
    table = fits.BinTableHDU.from_columns([fits.Column('flux', 'E', array=np.arange(100))])
    refused(content([fits.PrimaryHDU(), table]), 'no image in the FITS file', 'SKIPPED')
    refused(content([fits.PrimaryHDU(np.zeros((2, 4000)))]), 'no image', 'SKIPPED')
    refused(content([fits.PrimaryHDU(np.zeros(4000))]), 'no image', 'SKIPPED')


@pytest.mark.parametrize('size', [40, 2879, 2880, 5000])
def test_a_fits_file_that_was_cut(size, tmp_path):
    data = content([fits.PrimaryHDU(sky())])[:size]
    refused(data, 'damaged FITS file')
    (tmp_path / 'cut.fits').write_bytes(data)
    refused(tmp_path / 'cut.fits', 'damaged FITS file')


def test_a_fits_header_of_nonsense():
    data = content([fits.PrimaryHDU(sky())])
    refused(data.replace(b'NAXIS1  =                   80', b'NAXIS1  =           8000000000'),
            'damaged FITS')
    refused(b'SIMPLE  =' + bytes(range(256)) * 30, 'damaged FITS|no image in')


def test_a_header_with_a_fault_that_astropy_warns_about_is_no_reason_to_refuse():
    data = content([fits.PrimaryHDU(sky())])
    assert brightest(render(data.replace(b'EXTEND  =                    T',
                                         b"OBSERVER= 'no end             "))) == (20, 14)


@pytest.mark.parametrize(('compress', 'suffix'), [(gzip.compress, 'gz'), (bz2.compress, 'bz2')])
def test_compressed_files(compress, suffix, tmp_path):
    data = compress(content([fits.PrimaryHDU(sky())]))
    assert brightest(render(data)) == (20, 14)
    (tmp_path / f'a.fits.{suffix}').write_bytes(data)
    assert brightest(render(tmp_path / f'a.fits.{suffix}')) == (20, 14)
    refused(data[:-200], 'damaged compressed file')
    refused(data[:12] + bytes(100), 'damaged compressed file')


@pytest.mark.parametrize('compress', [gzip.compress, bz2.compress])
def test_a_compressed_bomb_is_not_unpacked(compress):
    bomb = compress(b'SIMPLE  =' + bytes(20_000_000))
    tracemalloc.start()
    refused(bomb, r'larger than 1000000 bytes \(conf.max_bytes\)', max_bytes=1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_bomb_of_compressed_tiles_is_not_unpacked():
    hdu = fits.CompImageHDU(np.zeros((2000, 2000), 'i2'), tile_shape=(100, 2000))
    data = content([fits.PrimaryHDU(), hdu])
    assert len(data) < 100_000
    refused(data, '2000 x 2000 pixels is larger than 1000000', max_pixels=1_000_000)
    cube = fits.CompImageHDU(np.zeros((400, 100, 100), 'i2'), tile_shape=(400, 100, 100))
    refused(content([fits.PrimaryHDU(), cube]), 'larger than 1000000', max_pixels=1_000_000)


def test_large_files_are_read_at_low_resolution(tmp_path):
    data = np.tile(sky(400, 400), (5, 5))
    file = tmp_path / 'large.fits'
    file.write_bytes(content([fits.PrimaryHDU(data)]))
    assert render(file, side=500).size == (500, 500)
    assert render(np.tile(sky(10, 5000), (2, 10)), side=100).size[0] < 50_000


@pytest.mark.skipif(not SHARED_FITS.exists(), reason='the development data are not here')
def test_real_fits_images():
    """
    Two dozen instruments: each is a picture, but for tables of spectra and light curves.
    """
    outcomes = {}
    with tarfile.open(SHARED_FITS) as members:
        for member in members:
            if member.name.endswith(('.fits', '.fits.bz2')):
                data = members.extractfile(member).read()
                name = Path(member.name).name
                try:
                    outcomes[name] = np.asarray(render(data)).std()
                except ImageError as error:
                    outcomes[name] = f'{error.status}: {error.reason}'
    pictures = [value for value in outcomes.values() if not isinstance(value, str)]
    assert len(pictures) >= 20
    assert min(pictures) > 5, outcomes  # of 255: something is to be seen
    assert {name for name, value in outcomes.items() if isinstance(value, str)} == {
        'wright_eastmann_2014_tau_ceti.fits', 'kplr010666592-2009131110544_slc.fits',
        'hlsp_tess-data-alerts_tess_phot_00025155310-s01_tess_v1_lc.fits'}, outcomes


def test_the_first_of_two_chips_is_shown():
    hdus = [fits.PrimaryHDU()]
    for version in (1, 2):
        hdus += [fits.ImageHDU(sky(x=20 * version), name='SCI', ver=version),
                 fits.ImageHDU(sky(), name='ERR', ver=version)]
    assert brightest(render(content(hdus))) == (20, 14)


def test_three_planes_are_a_cube_and_no_colours():
    data = np.stack([sky(x=10), sky(x=40), sky(x=70)])
    image = render(content([fits.PrimaryHDU(data)]))
    assert brightest(image) == (40, 14)
    assert np.ptp(np.asarray(image, int), axis=-1).max() == 0


@pytest.mark.parametrize('kind', ['u2', 'f4', 'f8'])
def test_a_large_image_is_averaged_in_little_memory(kind, tmp_path):
    data = sky(2000, 2003, x=500, y=1500).astype(kind)
    path = tmp_path / 'large.fits'
    path.write_bytes(content([fits.PrimaryHDU(data)]))
    blocks = data[:, :2000].reshape(200, 10, 200, 10).astype(float).mean(axis=(1, 3))
    for source in (path, path.read_bytes(), data):
        plane(source, side=200)
        tracemalloc.start()
        try:
            found = plane(source, side=200).data
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found.shape == (200, 201)
        np.testing.assert_allclose(found[:, :200], blocks, rtol=1e-5)
        np.testing.assert_allclose(found[:, 200], data[:, 2000:].reshape(200, -1).mean(axis=1),
                                   rtol=1e-5)
        assert peak < 16e6


@given(st.integers(1, 9), st.integers(4, 60), st.integers(4, 60), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_block_means_are_those_of_numpy(step, height, width, seed):
    rng = np.random.default_rng(seed)
    data = rng.random((height, width)).astype('f4')
    data[rng.random(data.shape) < rng.choice([0, 0.1])] = np.nan
    found = means(Pixels.of_array(data), step)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)  # means of nothing
        for (i, j), value in np.ndenumerate(found):
            expected = np.nanmean(data[i * step:(i + 1) * step, j * step:(j + 1) * step])
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
