# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What other programs read of places lies where the places are.
"""

import builtins

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from astropy.wcs import WCS
from astroquery.exceptions import InvalidQueryError
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclip_search.exceptions import TableFormatWarning
from astroclip_search.places.regions import (
    places_moc,
    places_regions,
    polygon,
    write_moc,
    write_regions,
)

from .made import places_of

regions = pytest.importorskip('regions', reason='reads the files of DS9')
mocpy = pytest.importorskip('mocpy', reason='makes coverage maps')


def tangent(ra=150.0, dec=2.0, scales=(0.05, 0.05), angle=30.0):
    """A tangent plane, also with pixels that are not square."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ('RA---TAN', 'DEC--TAN'), (ra, dec), (200, 150)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = (np.array([[-cos, sin], [sin, cos]]) @ np.diag(scales)) / 3600
    return wcs


BOXES = [(10, 20, 42, 60), (300.5, 100, 332.5, 132)]


# ---- DS9 ---------------------------------------------------------------------------------

@pytest.mark.parametrize('scales', [(0.05, 0.05), (0.02, 0.3)])
def test_regions_on_the_sky_are_the_boxes(tmp_path, scales):
    wcs = tangent(scales=scales)
    path = write_regions(places_of('a.fits', BOXES, wcs=wcs), tmp_path / 'a.reg')
    read = regions.Regions.read(path, format='ds9')
    for region, (x0, y0, x1, y1) in zip(read, BOXES, strict=True):
        x, y = wcs.world_to_pixel(region.vertices)
        np.testing.assert_allclose(x, [x0, x1, x1, x0], atol=1e-3)
        np.testing.assert_allclose(y, [y0, y0, y1, y1], atol=1e-3)
    assert [region.meta['text'] for region in read] == ['image 1', 'image 2']


def test_pixels_of_ds9_begin_at_one(tmp_path):
    places = places_of('/data/a.fits.gz', [(-0.5, 9.5, 19.5, 29.5)])
    path = write_regions(places, tmp_path / 'a.reg')
    line, = (line for line in path.read_text().splitlines() if 'polygon' in line)
    numbers = [float(number) for number in line[line.index('(') + 1:line.index(')')].split(',')]
    assert line.startswith('image')
    assert numbers == [0.5, 10.5, 20.5, 10.5, 20.5, 30.5, 0.5, 30.5]


def test_a_name_does_not_break_the_file(tmp_path):
    places = places_of('a.fits', BOXES[:1], wcs=tangent(), name='x} color=red\n# "circle(1,2,3)" {')
    path = write_regions(places, tmp_path / 'a.reg')
    read = regions.Regions.read(path, format='ds9')
    assert len(read) == 1
    assert 'color' not in read[0].visual
    assert sum('(' in line for line in path.read_text().splitlines()) == 1


def test_what_ds9_would_draw_elsewhere_is_left_out():
    sky = places_of('a.fits', BOXES, wcs=tangent())
    bitmap = places_of('b.png', BOXES[:1], row=1)
    nothing = places_of('', [], row=2)
    with pytest.warns(TableFormatWarning, match='^1 of 3 places are not among the regions: they '
                                                'have no position'):
        assert len(places_regions(vstack([sky, bitmap, nothing]))) == 2
    with pytest.raises(InvalidQueryError, match='None of the 1 places can be a region'):
        places_regions(bitmap)
    with pytest.raises(InvalidQueryError, match='no place in the table'):
        places_regions(nothing)
    several = vstack([places_of(f'{i}.fits', BOXES, row=i) for i in range(2)])
    with pytest.raises(InvalidQueryError, match='in several images'):
        places_regions(several)
    assert len(places_regions(several[several['clip_row'] == 1])) == 2


def test_a_row_that_failed_is_no_place():
    places = places_of('a.fits', BOXES, wcs=tangent())
    places['clip_status'] = ['OK', 'ERROR']
    assert len(places_regions(places)) == 1


@pytest.mark.parametrize('write', [write_regions, write_moc])
def test_a_file_of_the_user_stays(tmp_path, write):
    path, places = tmp_path / 'mine', places_of('a.fits', BOXES, wcs=tangent())
    path.write_text('mine')
    with pytest.raises(InvalidQueryError, match='already'):
        write(places, path)
    with pytest.raises(InvalidQueryError):
        write(places_of('', []), path, overwrite=True)
    assert path.read_text() == 'mine'
    assert write(places, path, overwrite=True) == path
    assert path.read_bytes()[:4] != b'mine'
    with pytest.raises(InvalidQueryError, match='no folder'):
        write(places, tmp_path / 'no' / 'a')


@pytest.mark.parametrize('wrong', [Table({'a': [1]}), 'places.ecsv', None])
@pytest.mark.parametrize('make', [places_regions, places_moc])
def test_another_table(make, wrong):
    with pytest.raises(InvalidQueryError, match='locate'):
        make(wrong)


@pytest.mark.parametrize('make', [places_regions, places_moc])
def test_the_extra_is_named(monkeypatch, make):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name.partition('.')[0] in ('regions', 'mocpy'):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ImportError, match=r'pip install "astroclip-search\[regions\]"'):
        make(places_of('a.fits', BOXES, wcs=tangent()))


# ---- the words of a region ---------------------------------------------------------------

@pytest.mark.parametrize('text', [
    '', 'POLYGON', 'CIRCLE ICRS 1 2 3', 'POLYGON ICRS 1 2 3 4', 'POLYGON ICRS 1 2 3 4 5',
    'POLYGON ICRS 1 2 3 4 5 91', 'POLYGON ICRS nan 2 3 4 5 6', 'POLYGON GALACTIC 1 2 3 4 5 6',
    'POLYGON ICRS 1 2 3 4 5 1e999', 'POLYGON ICRS 1 2 3 4 x 6', 'POLYGON J2000 1 2 3 4 5 6',
    'POLYGON ICRS ' + '1 2 ' * 5000])
def test_no_polygon(text):
    assert polygon(text) is None


@given(st.text(max_size=60))
def test_any_text(text):
    polygon(text)
    polygon(f'POLYGON ICRS {text}')


# ---- coverage maps -----------------------------------------------------------------------

@settings(max_examples=40, deadline=None)
@given(st.floats(0, 360), st.floats(-90, 90), st.floats(0.01, 60), st.floats(1, 6),
       st.floats(0, 360), st.integers(8, 200))
def test_a_map_is_the_box_and_little_more(ra, dec, scale, ratio, angle, side):
    wcs = tangent(ra, dec, (scale, scale), angle)
    x0, y0 = 200 - side / 2, 150 - side * ratio / 2
    box = (x0, y0, x0 + side, y0 + side * ratio)
    moc = places_moc(places_of('a.fits', [box], wcs=wcs))
    # As many places within the box as there are between it and one a quarter larger.
    v, w = np.meshgrid(np.linspace(-0.499, 0.499, 12), np.linspace(-0.499, 0.499, 12))
    inside = wcs.pixel_to_world(200 + v * side, 150 + w * side * ratio)
    assert moc.contains_skycoords(inside).all()
    edge = np.linspace(-0.5, 0.5, 9) * 2
    far = side / 4  # two cells
    outside = wcs.pixel_to_world(200 + np.r_[edge * side, edge * 0 + side / 2 + far],
                                 150 + np.r_[edge * 0 + side * ratio / 2 + far,
                                             edge * side * ratio])
    assert not moc.contains_skycoords(outside).any()


def test_touching_places_are_one_map():
    wcs = tangent()
    one = places_of('a.fits', [(0, 0, 40, 40), (40, 0, 80, 40)], wcs=wcs)
    far = places_of('b.fits', [(0, 0, 80, 400)], wcs=tangent(10, -80), row=1)
    moc = places_moc(vstack([one, far, places_of('c.png', [(1, 1, 9, 9)], row=2)]))
    seam = wcs.pixel_to_world(np.full(30, 40), np.linspace(0, 40, 30))
    assert moc.contains_skycoords(seam).all()
    area = moc.sky_fraction * (4 * np.pi * u.sr).to_value(u.arcsec**2)
    assert 1 < area / (80 * 40 * 0.05**2 + 80 * 400 * 0.05**2) < 1.35


@pytest.mark.parametrize(('ra', 'dec'), [(0.0, 0.0), (123.0, 90.0), (0.0, -90.0), (359.9999, 45.0)])
def test_poles_and_the_first_meridian(ra, dec):
    places = places_of('a.fits', [(184, 134, 216, 166)], wcs=tangent(ra, dec, (2, 2)))
    moc = places_moc(places)
    assert moc.contains_skycoords(SkyCoord([ra], [dec], unit='deg')).all()
    assert moc.sky_fraction * 41253 < 1.4 * (64 / 3600)**2


def test_a_strip_is_no_million_cells():
    region = 'POLYGON ICRS 10 0 40 0 40 0.0000001 10 0.0000001'
    places = places_of('a.fits', BOXES[:1], wcs=tangent())
    places['s_region'] = [region]
    assert len(places_moc(places).to_depth29_ranges) < 20_000


def test_a_map_is_read_again(tmp_path):
    places = places_of('a.fits', BOXES, wcs=tangent())
    path = write_moc(places, tmp_path / 'a.fits')
    assert mocpy.MOC.from_fits(path) == places_moc(places)


def test_no_position_no_map():
    with pytest.raises(InvalidQueryError, match='No place has a position'):
        places_moc(places_of('a.png', BOXES))
