# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Of a FITS file what shows the sky is drawn: the right extensions, and the right plane of a cube.
"""

import itertools

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.utils.masked import Masked
from astropy.wcs import WCS

from astroclip_search.exceptions import ImageError
from astroclip_search.images.render import plane, render
from tests.pictures import brightest, content, refused, sky

RNG = np.random.default_rng(4)
SHAPE = (60, 80)
# What stands beside images, by content: whatever its extension is called.
BESIDE = {
    'flags': (2 ** RNG.integers(0, 12, SHAPE) * (RNG.random(SHAPE) < .1)).astype('i4'),
    'mask': (np.hypot(*np.mgrid[-30:30, -40:40]) < 12).astype('u1'),
    'exposure': np.repeat(np.linspace(900, 1000, 80, dtype='f4')[None], 60, axis=0),
    'weights of one value': np.full(SHAPE, 3.5, 'f4'),
    'background': (1000 + np.hypot(*np.mgrid[:60, :80]) / 5).astype('f4'),
}


@pytest.mark.parametrize('kind', BESIDE)
@pytest.mark.parametrize('name', ['', 'EXT1', 'PLANE_A'])
def test_what_is_no_sky_is_told_by_its_numbers(kind, name):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(BESIDE[kind], name=name), fits.ImageHDU(sky())]
    assert brightest(render(content(hdus))) == (20, 14)
    assert brightest(render(fits.HDUList(hdus))) == (20, 14)


@pytest.mark.parametrize('name', [
    'EXPOSURE', 'EXPMAP', 'COVERAGE', 'BACKGROUND', 'BKG', 'RMS', 'NOISE', 'SIGMA', 'FLAGS',
    'QUALITY', 'INVVAR', 'IVAR', 'CONFIDENCE', 'SEGMENTATION', 'D2IMARR', 'WCSDVARR', 'PIXELDQ',
    'IMAGE_ERR', 'BADPIX', 'EXP', 'WEIGHT_MAP', 'uncertainty', 'PSF', 'SAMP', 'TIME', 'imageMask'])
def test_what_is_no_sky_is_told_by_its_name(name):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(sky(x=60), name=name),
            fits.ImageHDU(sky(), name='SPW1')]
    assert brightest(render(content(hdus))) == (20, 14)
    refused(content(hdus[:2]), 'no image in the FITS file', 'SKIPPED')


@pytest.mark.parametrize('card', [('HDUCLAS2', 'ERROR'), ('HDUCLAS2', 'QUALITY'), ('BUNIT', 's'),
                                  ('BUNIT', '1/(adu^2)'), ('BUNIT', '(MJy/sr)^-2')])
def test_what_is_no_sky_is_told_by_its_header(card):
    wrong = fits.ImageHDU(sky(x=60), fits.Header([card]), name='A')
    hdus = [fits.PrimaryHDU(), wrong, fits.ImageHDU(sky(), name='B')]
    assert brightest(render(content(hdus))) == (20, 14)


@pytest.mark.parametrize('unit', ['MJy/sr', 'counts/s', 'ELECTRONS/S', 'erg s-1 cm-2', 'Jy/beam'])
def test_units_of_brightness_are_of_the_sky(unit):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(sky(), fits.Header([('BUNIT', unit)]), name='A'),
            fits.ImageHDU(sky(x=60), name='B')]
    assert brightest(render(content(hdus))) == (20, 14)


def test_counts_of_photons_are_no_flags():
    rates = 0.05 + 3 * np.exp(-np.hypot(*np.mgrid[-45:15, -20:60])**2 / 60)
    photons = RNG.poisson(rates).astype('i2')
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(photons, name='A'),
            fits.ImageHDU(BESIDE['exposure'], name='B')]
    x, y = brightest(render(content(hdus)))
    assert abs(x - 20) < 4
    assert abs(y - 14) < 4


def test_a_chip_without_pixels_is_no_reason_to_give_up():
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.full(SHAPE, np.nan, 'f4'), name='SCI', ver=1),
            fits.ImageHDU(sky(), name='SCI', ver=2)]
    assert brightest(render(content(hdus))) == (20, 14)


# ---- axes --------------------------------------------------------------------------------


def header_of(*kinds, **cards):
    header = fits.Header()
    for i, kind in enumerate(kinds, 1):
        header[f'CTYPE{i}'], header[f'CRPIX{i}'] = kind, 1.0
        header[f'CRVAL{i}'], header[f'CDELT{i}'] = 1.0, 1.0
    header.update(cards)
    return header


@pytest.mark.parametrize('order', list(itertools.permutations(
    ['RA---SIN', 'DEC--SIN', 'FREQ', 'STOKES'])))
def test_stokes_i_and_the_middle_channel_whatever_the_order(order):
    """
    Each plane has its source elsewhere; NAXIS1 is drawn across whether it is RA or DEC.
    """
    sizes = {'RA---SIN': 40, 'DEC--SIN': 30, 'FREQ': 5, 'STOKES': 4}
    cube = RNG.normal(0, .1, [sizes[kind] for kind in ('STOKES', 'FREQ', 'DEC--SIN', 'RA---SIN')])
    for stokes, channel in np.ndindex(4, 5):
        cube[stokes, channel, 4 + 5 * channel, 5 + 9 * stokes] = 100
    axes = ['STOKES', 'FREQ', 'DEC--SIN', 'RA---SIN']
    stored = cube.transpose([axes.index(kind) for kind in reversed(order)]).astype('f4')
    hdu = fits.PrimaryHDU(stored, header_of(*order))
    expected = cube[0, 2]
    if order.index('DEC--SIN') < order.index('RA---SIN'):
        expected = expected.T
    for source in (content([hdu]), fits.HDUList([hdu]), hdu):
        found = plane(source)
        np.testing.assert_allclose(found.data, expected, rtol=1e-6)
        assert found.wcs() is not None


def test_the_place_of_stokes_i_is_in_the_header():
    cube = np.stack([sky(x=60), sky()])  # Q, I
    header = header_of('RA---TAN', 'DEC--TAN', 'STOKES', CRVAL3=2.0, CDELT3=-1.0)
    assert brightest(render(fits.PrimaryHDU(cube, header))) == (20, 14)


def cube_of(n=7):
    cube = np.stack([sky(x=5 + 10 * i, y=45, seed=i) for i in range(n)])
    cube[2:5] = np.nan  # in the middle
    return cube


@pytest.mark.parametrize('source', [
    lambda cube: cube, fits.PrimaryHDU,
    lambda cube: content([fits.PrimaryHDU(cube)]), lambda cube: Masked(cube, np.isnan(cube)),
    np.ma.masked_invalid, lambda cube: CCDData(cube, unit='Jy')])
@pytest.mark.parametrize(('which', 'x'), [('middle', {15, 55}), (0, {5}), (6, {65})])
def test_planes_of_a_cube(source, which, x):
    image = render(source(cube_of()), plane=which)
    assert brightest(image)[0] in x


def test_all_planes_of_a_cube_at_once():
    for which in ('peak', 'sum'):
        data = plane(cube_of(), plane=which).data
        for i in (0, 1, 5, 6):
            assert data[45, 5 + 10 * i] > data[10].max() + 100
    assert np.isfinite(data).all()


def test_a_plane_that_there_is_not():
    with pytest.raises(ImageError, match='no plane 7: the image has 7'):
        plane(cube_of(), plane=7)
    assert plane(sky(), plane=7).data.shape == SHAPE  # one plane is no cube


# ---- mosaics -----------------------------------------------------------------------------


def chips(n=2, *, gap=10, size=100):
    """
    Chips beside each other on one sky, with a source on each.
    """
    hdus = [fits.PrimaryHDU()]
    for i in range(n):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ['RA---TAN', 'DEC--TAN']
        wcs.wcs.crval, wcs.wcs.cdelt = [150, 2], [-1e-4, 1e-4]
        wcs.wcs.crpix = [50 - i * (size + gap), 50]
        hdus.append(fits.ImageHDU(sky(size, size, x=30, y=20 + 50 * i, seed=i), wcs.to_header(),
                                  name='SCI', ver=i + 1))
        hdus.append(fits.ImageHDU(np.ones((size, size), 'i2'), name='DQ', ver=i + 1))
    return hdus


def test_all_chips_of_a_mosaic_are_drawn():
    found = plane(content(chips()))
    assert found.data.shape == (100, 210)
    assert np.isnan(found.data[:, 100:110]).all()
    assert found.data[20, 30] > 400
    assert found.data[70, 140] > 400
    sky_of_source = found.wcs().pixel_to_world(140, 70)
    assert WCS(chips()[3].header).pixel_to_world(30, 70).separation(sky_of_source).deg < 1e-6


def test_images_of_one_field_are_no_mosaic():
    hdus = chips(gap=-100)
    assert plane(content(hdus)).data.shape == (100, 100)


def test_chips_without_wcs_are_not_put_together():
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(sky(seed=i), name=f'CCD{i}') for i in range(3))]
    assert plane(content(hdus)).data.shape == SHAPE
