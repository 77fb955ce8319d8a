# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Positions of pictures whose file says none: by the address, and by the outline of the row.
"""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclip_search.archives.hips import address
from astroclip_search.places.sky import asked_wcs, outline, words_of


def tangent(ra, dec, scale, size, angle=0.0):
    """WCS of a picture, row 0 on top, north turned by an angle from up to the left."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = (size[0] + 1) / 2, (size[1] + 1) / 2
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = scale * np.array([[-c, s], [-s, -c]])
    return wcs


def region(wcs, size):
    """The outline as an archive gives it."""
    width, height = size
    sky = wcs.pixel_to_world([-.5, width - .5, width - .5, -.5],
                             [-.5, -.5, height - .5, height - .5])
    return words_of(sky.ra.deg, sky.dec.deg)


places = st.tuples(st.floats(0, 359.999), st.floats(-89.5, 89.5))


@settings(max_examples=60, deadline=None)
@given(places, st.floats(-40, 40), st.floats(0, 1), st.floats(0, 1),
       st.sampled_from([(600, 300), (250, 400), (400, 400)]))
def test_outline_of_a_rectangle(where, angle, u, v, size):
    """A frame that is turned by less than 45 degrees stands as it is seen; the corners are its."""
    wcs = tangent(*where, 1e-4, size, angle)
    field = outline(region(wcs, size), *size)
    ra, dec, off = field.sky(np.array([u]), np.array([v]))
    truth = wcs.pixel_to_world(u * size[0] - .5, v * size[1] - .5)
    there = SkyCoord(ra[0], dec[0], unit='deg')
    assert there.separation(truth).deg < 1e-4 * 0.1
    assert off[0] >= 0.02 * 1e-4 * max(size) * 0.5


@settings(max_examples=40, deadline=None)
@given(places, st.floats(-180, 180), st.floats(0, 1), st.floats(0, 1),
       st.sampled_from([(600, 300), (400, 400)]))
def test_an_outline_says_how_far_off_it_may_be(where, angle, u, v, size):
    """However the picture is turned, the place is within the error."""
    wcs = tangent(*where, 1e-4, size, angle)
    field = outline(region(wcs, size), *size)
    ra, dec, off = field.sky(np.array([u]), np.array([v]))
    truth = wcs.pixel_to_world(u * size[0] - .5, v * size[1] - .5)
    assert SkyCoord(ra[0], dec[0], unit='deg').separation(truth).deg <= off[0] * 1.01 + 1e-7


@pytest.mark.parametrize('words', [
    '', 'CIRCLE ICRS 10 10 0.1', 'POLYGON ICRS 1 1 2 2', 'POLYGON ICRS x y z 1 2 3 4 5',
    'POLYGON ICRS 10 10 10 10 10 10 10 10', 'POLYGON ICRS 0 0 90 0 180 0 270 0',
    'POLYGON ICRS 10 10 10 11 10 12', 'POLYGON ICRS nan 0 1 0 1 1 0 1'])
def test_other_words_give_no_outline(words):
    assert outline(words, 300, 300) is None


def test_a_picture_of_another_shape_shows_something_else():
    wcs = tangent(10, 20, 1e-4, (600, 300))
    assert outline(region(wcs, (600, 300)), 600, 300) is not None
    assert outline(region(wcs, (600, 300)), 300, 600) is not None  # it may be turned
    assert outline(region(wcs, (600, 300)), 300, 300) is None


def test_many_vertices_are_less_sure():
    t = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    words = words_of(10 + 0.1 * np.cos(t), 0.1 * np.sin(t))
    ra, dec, off = outline(words, 300, 300).sky(np.array([0.5]), np.array([0.5]))
    assert off[0] >= 0.019
    np.testing.assert_allclose([ra[0], dec[0]], [10, 0], atol=1e-3)


def test_hips2fits():
    wcs = asked_wcs(address('CDS/P/DSS2/color', 189.9976, -11.6231, 0.15), 256, 256)
    centre = wcs.pixel_to_world(127.5, 127.5)
    np.testing.assert_allclose([centre.ra.deg, centre.dec.deg], [189.9976, -11.6231], atol=1e-9)
    top, left = wcs.pixel_to_world(127.5, -.5), wcs.pixel_to_world(-.5, 127.5)
    assert (top.dec - centre.dec).deg == pytest.approx(0.075, rel=1e-4)
    assert left.ra > centre.ra


@pytest.mark.parametrize('query', [
    'hips2fits?ra=10&dec=20&fov=0.1&projection=AIT', 'hips2fits?ra=10&dec=20&fov=90',
    'hips2fits?ra=10&dec=20&fov=0.1&rotation_angle=30', 'hips2fits?ra=10&dec=100&fov=0.1',
    'hips2fits?ra=nan&dec=20&fov=0.1', 'hips2fits?ra=10&dec=20&fov=x',
    'hips2fits?ra=10&dec=20&fov=0.1&coordsys=galactic', 'hips2fits?object=M51&fov=0.1',
    'picture.jpg?ra=10&dec=20&fov=0.1'])
def test_other_addresses_say_nothing(query):
    assert asked_wcs(f'https://archive.example/{query}', 256, 256) is None


@pytest.mark.parametrize(('query', 'arcsec'), [
    ('SkyServerWS/ImgCutout/getjpeg?ra=150&dec=2&scale=0.4&width=512&height=512', 0.4),
    ('viewer/jpeg-cutout?ra=150&dec=2&pixscale=0.262&size=512&layer=ls-dr10', 0.262),
    ('viewer/jpeg-cutout?ra=150&dec=2&pixscale=0.262&width=256&height=256', 0.131)])
def test_cutout_services(query, arcsec):
    wcs = asked_wcs(f'https://archive.example/{query}', 512, 512)
    here, there = wcs.pixel_to_world(100, 100), wcs.pixel_to_world(100, 110)
    assert here.separation(there).arcsec == pytest.approx(10 * arcsec, rel=1e-4)


def test_a_box_beyond_the_sky_has_no_outline():
    assert words_of(np.array([1, np.nan, 3]), np.array([1, 2, 3])) == ''
    assert words_of(np.array([0, 120, 240]), np.array([0, 0, 0])) == ''  # around the sky
