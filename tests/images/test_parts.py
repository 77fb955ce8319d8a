# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A picture knows its pixels, and a part of an image has the numbers and the WCS of the whole.
"""

import gzip
import io

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import NDData
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from astroclip_search.exceptions import ImageError
from astroclip_search.images.parts import cut, has_numbers, laid, laid_bitmap

BOUNDS = {'max_pixels': 10**7, 'max_bytes': 10**8}


def header(*, sip=False, flipped=False):
    wcs = fits.Header({
        'CTYPE1': 'RA---TAN', 'CTYPE2': 'DEC--TAN', 'CRVAL1': 359.999, 'CRVAL2': 61.5,
        'CRPIX1': 61.25, 'CRPIX2': 40.0, 'CD1_1': (1 if flipped else -1) * 2e-4, 'CD1_2': 3e-5,
        'CD2_1': 2e-5, 'CD2_2': 1.7e-4, 'CUNIT1': 'deg', 'CUNIT2': 'deg'})
    if sip:
        wcs.update({'CTYPE1': 'RA---TAN-SIP', 'CTYPE2': 'DEC--TAN-SIP', 'A_ORDER': 2, 'B_ORDER': 2,
                    'A_2_0': 2e-4, 'A_1_1': -1e-4, 'B_0_2': 3e-4, 'B_1_1': 1e-4})
    return wcs


def frame(shape=(90, 130), **options):
    data = np.random.default_rng(3).normal(10, 2, shape).astype('f4')
    return fits.PrimaryHDU(data, header(**options))


def content(*hdus):
    stream = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(stream)
    return stream.getvalue()


def assert_part(part, hdu, x, y):
    """Slices of a part are those of the whole, in numbers and on the sky."""
    np.testing.assert_array_equal(part.data, hdu.data[..., y, x])
    u, v = np.meshgrid(np.arange(x.start, x.stop, 3), np.arange(y.start, y.stop, 3))
    whole, own = (WCS(one.header, fix=False).celestial for one in (hdu, part))
    there = whole.pixel_to_world(u, v)
    here = own.pixel_to_world(u - x.start, v - y.start)
    assert here.separation(there).arcsec.max() < 1e-6


@settings(max_examples=30, deadline=None)
@given(st.floats(-20, 140), st.floats(-20, 100), st.floats(1, 60), st.floats(1, 60), st.booleans(),
       st.booleans())
def test_any_box(x0, y0, width, height, sip, flipped):
    hdu = frame(sip=sip, flipped=flipped)
    x = slice(max(int(np.floor(x0 + .5)), 0), min(int(np.ceil(x0 + width + .5)), 130))
    y = slice(max(int(np.floor(y0 + .5)), 0), min(int(np.ceil(y0 + height + .5)), 90))
    box = (x0, y0, x0 + width, y0 + height)
    if x.stop <= x.start or y.stop <= y.start:
        with pytest.raises(ImageError):
            cut(content(hdu), box, **BOUNDS)
        return
    assert_part(cut(content(hdu), box, **BOUNDS), hdu, x, y)


@pytest.mark.parametrize('pack', [lambda data: data, gzip.compress])
def test_the_science_extension_of_a_file(pack, tmp_path):
    first = fits.PrimaryHDU(header=fits.Header({'TELESCOP': 'HST', 'INSTRUME': 'ACS'}))
    image = frame()
    science = fits.ImageHDU(image.data, image.header, name='SCI')
    science.header['LTV1'], science.header['CRPIX1A'], science.header['CRVAL1A'] = 5.0, 4.0, 1.0
    (tmp_path / 'a.fits').write_bytes(pack(content(first, fits.ImageHDU(
        np.zeros((90, 130), 'i2'), name='DQ'), science)))
    part = cut(tmp_path / 'a.fits', (19.5, 29.5, 39.5, 59.5), **BOUNDS)
    assert_part(part, science, slice(20, 40), slice(30, 60))
    assert (part.header['TELESCOP'], part.header['LTV1']) == ('HST', -15)
    assert part.header['CRPIX1A'] == -16
    assert 'Pixels 21:40,31:60' in str(part.header['HISTORY'])
    read = fits.open(io.BytesIO(content(part)), checksum=True)
    read.verify('exception')
    np.testing.assert_array_equal(read[0].data, part.data)


def test_numbers_stay_as_they_are():
    image = frame()
    data = np.arange(90 * 130, dtype='u2').reshape(90, 130) + 30000
    for hdu in (fits.PrimaryHDU(data, image.header),
                fits.CompImageHDU(image.data, image.header, compression_type='GZIP_2',
                                  quantize_level=0)):
        stream = content(hdu) if hdu.name != 'COMPRESSED_IMAGE' else content(
            fits.PrimaryHDU(), hdu)
        part = cut(stream, (9.5, 4.5, 29.5, 24.5), **BOUNDS)
        np.testing.assert_array_equal(part.data, hdu.data[5:25, 10:30])
        assert part.data.dtype.kind == hdu.data.dtype.kind
        again = fits.open(io.BytesIO(content(part)))[0]
        np.testing.assert_array_equal(again.data, part.data)


def test_all_planes_of_a_cube():
    cube = fits.PrimaryHDU(np.random.default_rng(0).normal(size=(7, 90, 130)), header())
    cube.header.update({'CTYPE3': 'FREQ', 'CRVAL3': 1e9, 'CD3_3': 1e6, 'CRPIX3': 2.0})
    part = cut(content(cube), (9.5, 4.5, 29.5, 24.5), **BOUNDS)
    assert_part(part, cube, slice(10, 30), slice(5, 25))
    assert part.header['CRPIX3'] == 2


def test_tables_of_distortions_are_left_out_and_said():
    hdu = frame()
    hdu.header.update({'CPDIS1': 'LOOKUP', 'D2IMDIS1': 'LOOKUP', 'D2IMEXT': 'x.fits',
                       'DP1': 'EXTVER: 1', 'AXISCORR': 1})
    part = cut(content(hdu), (9.5, 4.5, 29.5, 24.5), **BOUNDS)
    assert not {'CPDIS1', 'D2IMDIS1', 'D2IMEXT', 'DP1.EXTVER'} & set(part.header)
    assert 'without the distortions' in str(part.header['HISTORY'])
    assert WCS(part.header, fix=False).has_celestial


def test_arrays_are_counted_from_the_top():
    data = np.arange(80.0).reshape(8, 10)
    part = cut(data, (1.5, -0.5, 4.5, 1.5), **BOUNDS)  # the two rows on top, as it is shown
    np.testing.assert_array_equal(part.data, data[6:8, 2:5])
    held = cut(NDData(data, wcs=WCS(header(), fix=False)), (1.5, -0.5, 4.5, 1.5), **BOUNDS)
    assert held.header['CRPIX1'] == 59.25


@pytest.mark.parametrize('damage', [lambda data: data[:3000], lambda data: b'x' * 100,
                                    lambda data: data.replace(b' 130', b'-130', 1),
                                    lambda data: gzip.compress(data)[:500]])
def test_damage_is_an_error_of_the_image(damage):
    with pytest.raises(ImageError):
        cut(damage(content(frame())), (1, 1, 9, 9), **BOUNDS)


def test_bounds():
    with pytest.raises(ImageError, match='pixels'):
        cut(content(frame()), (0, 0, 80, 80), max_pixels=1000, max_bytes=10**8)
    with pytest.raises(ImageError, match='bytes'):
        cut(gzip.compress(content(frame())), (0, 0, 80, 80), max_pixels=10**6, max_bytes=1000)


# ---- pictures ----------------------------------------------------------------------------

def spot(data, x, y):
    """Broad enough to be no hot pixel where one of ten is kept."""
    data[y - 14:y + 15, x - 14:x + 15] += 50
    return data


def found(place):
    """Where a picture is brightest, in pixels of the original."""
    grey = np.asarray(place.picture.convert('L').filter(ImageFilter.BoxBlur(1)), float)
    rows, columns = np.nonzero(grey == grey.max())
    left, right, bottom, top = place.extent
    u, v = ((columns.mean() + .5) / grey.shape[1], (rows.mean() + .5) / grey.shape[0])
    return left + u * (right - left), top + v * (bottom - top)


@pytest.mark.parametrize('side', [64, 512])
@pytest.mark.parametrize('edge', [0, 100])
def test_a_picture_knows_its_pixels(side, edge):
    data = spot(np.random.default_rng(1).normal(0, 1, (400, 600)), 450, 90)
    data[:, :edge], data[:edge // 4] = np.nan, np.nan
    hdu = fits.PrimaryHDU(data.astype('f4'), header())
    place = laid(content(hdu), side=side, plane='middle', **BOUNDS)
    step = 400 // side or 1
    np.testing.assert_allclose(found(place), (450, 90), atol=step)
    assert place.extent[0] == pytest.approx(edge - .5, abs=step)
    assert place.wcs.has_celestial
    # An array is shown in the same way, and counted from the top.
    of_array = laid(data, side=side, plane='middle', **BOUNDS)
    np.testing.assert_allclose(found(of_array), (450, 399 - 90), atol=step)
    np.testing.assert_allclose(of_array.in_picture(np.array([[447, 306, 453, 312]])),
                               place.in_picture(np.array([[447, 87, 453, 93]])))


def test_a_bitmap_knows_its_pixels():
    pixels = np.zeros((300, 500, 3), 'u1')
    pixels[40:47, 400:407] = 255
    place = laid_bitmap(Image.fromarray(pixels), 128)
    assert max(place.picture.size) == 128
    np.testing.assert_allclose(found(place), (403, 43), atol=4)
    np.testing.assert_allclose(place.in_picture(np.array([[-.5, -.5, 249.5, 299.5]])),
                               [[0, 0, .5, 1]])


def test_what_has_numbers(tmp_path):
    Image.new('RGB', (9, 9)).save(tmp_path / 'a.png')
    (tmp_path / 'a').write_bytes(content(frame()))
    assert has_numbers(tmp_path / 'a')
    assert has_numbers(content(frame()))
    assert has_numbers(io.BytesIO(gzip.compress(content(frame()))))
    assert has_numbers(np.zeros((5, 5)))
    assert has_numbers(frame())
    assert not has_numbers(tmp_path / 'a.png')
    assert not has_numbers(np.zeros((5, 5, 3)))
    assert not has_numbers(Image.new('RGB', (9, 9)))
    with pytest.raises(ImageError):
        has_numbers(tmp_path / 'b.fits')
