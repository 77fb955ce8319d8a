# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A picture knows its pixels, and a part of an image has the numbers and the WCS of the whole.
"""

import contextlib
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
from astroclip_search.images import avm
from astroclip_search.images.apart import Decoder, Order
from astroclip_search.images.drawing import Drawing
from astroclip_search.images.geometry import geometry_of
from astroclip_search.images.parts import cut, has_numbers
from tests.images.test_avm import TAGS, jpeg

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


def test_arrays_are_counted_by_their_rows():
    data = np.arange(80.0).reshape(8, 10)
    part = cut(data, (1.5, -0.5, 4.5, 1.5), **BOUNDS)
    np.testing.assert_array_equal(part.data, data[0:2, 2:5])
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


def found(picture):
    """Where a picture is brightest, in pixels of its image."""
    grey = np.asarray(picture.convert('L').filter(ImageFilter.BoxBlur(1)), float)
    rows, columns = np.nonzero(grey == grey.max())
    u, v = ((columns.mean() + .5) / grey.shape[1], (rows.mean() + .5) / grey.shape[0])
    return np.array(geometry_of(picture).to_original(u, v))


@pytest.mark.parametrize('isolate', [False, True])
@pytest.mark.parametrize('side', [64, 512])
@pytest.mark.parametrize('edge', [0, 100])
def test_a_picture_knows_its_pixels(side, edge, isolate):
    data = spot(np.random.default_rng(1).normal(0, 1, (400, 600)), 450, 90)
    data[:, :edge], data[:edge // 4] = np.nan, np.nan
    hdu = fits.PrimaryHDU(data.astype('f4'), header())
    order = Order((Drawing(side),))
    with contextlib.closing(Decoder(isolate=isolate)) as decoder:
        picture, = decoder.draw(content(hdu), order).pictures
        of_array, = decoder.draw(data, order, is_foreign=False).pictures
        sky = decoder.sky(content(hdu), order, np.array([[450.0, 90.0], [12.5, 7.25]]), (600, 400))
        text = decoder.wcs(content(hdu), order)
    step = 400 // side or 1
    for shown in (picture, of_array):
        np.testing.assert_allclose(found(shown), (450, 90), atol=step)
        assert geometry_of(shown).left == pytest.approx(edge, abs=step)
        assert (geometry_of(shown).width, geometry_of(shown).height) == (600, 400)
    expected = WCS(header(), fix=False).pixel_to_world([450, 12.5], [90, 7.25])
    np.testing.assert_allclose(sky, np.stack([expected.ra.deg, expected.dec.deg], axis=1),
                               atol=1e-9)
    assert WCS(fits.Header.fromstring(text)).has_celestial


@pytest.mark.parametrize('isolate', [False, True])
def test_a_bitmap_knows_its_pixels(isolate):
    pixels = np.zeros((300, 500, 3), 'u1')
    pixels[40:47, 400:407] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, 'PNG')
    order = Order((Drawing(64),))
    with contextlib.closing(Decoder(isolate=isolate)) as decoder:
        picture, = decoder.draw(stream.getvalue(), order).pictures
        np.testing.assert_allclose(found(picture), (403, 43), atol=5)
        with pytest.raises(ImageError, match='where on the sky'):
            decoder.sky(stream.getvalue(), order, np.array([[403.0, 43.0]]), (500, 300))
        assert decoder.cut(stream.getvalue(), order, (0, 0, 5, 5)) is None


def test_tags_say_where_a_bitmap_is():
    """Reference pixels are counted as in FITS."""
    data = jpeg(TAGS.format(frame='ICRS').encode())
    wcs = avm.wcs(io.BytesIO(data), (399, 199))
    # Reference pixel 100, 100 of FITS; in the picture the rows begin on top.
    sky = Drawing(64).sky(lambda: data, np.array([[99.0, 198.0 - 99.0]]), (399, 199))
    np.testing.assert_allclose(sky, [[274.7, -13.8]], atol=1e-9)
    half = avm.wcs(io.BytesIO(data), (200, 100))
    here, there = wcs.pixel_to_world(199.5, 99.5), half.pixel_to_world(99.875, 49.875)
    assert here.separation(there).arcsec < 4  # half a pixel of 3.6 arcsec, as sides are rounded
    assert avm.wcs(io.BytesIO(data), (399, 399)) is None  # it was cut
    assert avm.wcs(io.BytesIO(data[:200]), (399, 199)) is None


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


@pytest.mark.parametrize('isolate', [False, True])
def test_distortions_that_are_tables(isolate):
    """As of HST: a table of corrections, by which a pixel lies elsewhere on the sky."""
    image = frame()
    science = fits.ImageHDU(image.data, image.header, name='SCI')
    tables = []
    for axis in (1, 2):
        science.header.update({f'CPDIS{axis}': 'LOOKUP', f'CPERR{axis}': 3.0})
        science.header[f'DP{axis}'] = f'EXTVER: {axis}'
        science.header[f'DP{axis}'] = 'NAXES: 2'
        for other in (1, 2):
            science.header[f'DP{axis}'] = f'AXIS.{other}: {other}'
        table = fits.ImageHDU(np.linspace(0, 3 * axis, 12, dtype='f4').reshape(3, 4),
                              name='WCSDVARR', ver=axis)
        table.header.update({'CRPIX1': 1.0, 'CRPIX2': 1.0, 'CRVAL1': 1.0, 'CRVAL2': 1.0,
                             'CDELT1': 40.0, 'CDELT2': 40.0})
        tables.append(table)
    file = content(fits.PrimaryHDU(), science, *tables)
    pixels = np.array([[10.0, 20.0], [64.0, 45.0], [120.0, 80.0]])
    with contextlib.closing(Decoder(isolate=isolate)) as decoder:
        sky = decoder.sky(file, Order((Drawing(64),)), pixels, (130, 90))
    with fits.open(io.BytesIO(file)) as hdus:
        full = WCS(hdus['SCI'].header, hdus).all_pix2world(pixels, 0)
        plain = WCS(header(), fix=False).all_pix2world(pixels, 0)
    np.testing.assert_allclose(sky, full, atol=1e-9)
    assert np.abs(full - plain).max() > 1e-4  # it does something
