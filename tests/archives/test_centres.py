# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Where the centre of an image is, against astropy.
"""

import itertools
import math
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK5, AltAz, EarthLocation, SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS, FITSFixedWarning

from astroclip_search.archives.centres import (
    Centre,
    by_keywords,
    by_wcs,
    is_elsewhere,
    middle,
    of_image,
    steady_icrs,
    to_icrs,
)
from astroclip_search.archives.footprints import positions

PLAIN = {'NAXIS': 2, 'NAXIS1': 300, 'NAXIS2': 200, 'CTYPE1': 'RA---TAN', 'CTYPE2': 'DEC--TAN',
         'CRVAL1': 83.6, 'CRVAL2': -5.4, 'CRPIX1': 20.0, 'CRPIX2': 30.0, 'CDELT1': -0.01,
         'CDELT2': 0.01}


def placed(header):
    """Right ascension and declination of the centre, by this package."""
    ra, dec = to_icrs([of_image(header.get)])
    return ra[0], dec[0]


def expected(header):
    """The same by astropy, which may move axes and warn of it."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FITSFixedWarning)
        wcs = WCS(fits.Header(header), fix=False).celestial
    nx, ny = wcs.pixel_shape
    sky = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs
    return sky.ra.deg, sky.dec.deg


@pytest.mark.parametrize('changed', [
    {}, {'CROTA2': 33.0}, {'PC1_1': 0.8, 'PC1_2': 0.6, 'PC2_1': -0.6, 'PC2_2': 0.8},
    {'PC1_2': 0.1}, {'CD1_1': -0.01, 'CD1_2': 0.002, 'CD2_1': 0.001, 'CD2_2': 0.01},
    {'CD1_1': -0.01, 'CD2_2': 0.01}, {'LONPOLE': 170.0}, {'CUNIT1': 'arcsec', 'CUNIT2': 'arcsec'},
    {'CRVAL1': 0.3}, {'CRVAL2': 89.9}, {'EQUINOX': 2000.0}, {'EQUINOX': 1950.0},
    {'EPOCH': 1950.0}, {'RADESYS': 'FK4'}, {'RADESYS': 'FK4-NO-E', 'EQUINOX': 1950.0},
    {'RADESYS': 'FK5', 'EQUINOX': 2015.5}, {'RADESYS': 'ICRS', 'EQUINOX': 2000.0},
    {'RADESYS': 'FK5', 'EQUINOX': 1975.0}, {'CTYPE1': 'GLON-TAN', 'CTYPE2': 'GLAT-TAN'},
    {'CTYPE1': 'DEC--TAN', 'CTYPE2': 'RA---TAN', 'CRVAL1': 5.0, 'CRVAL2': 8.0},
    {'A_ORDER': 3, 'B_ORDER': 2, 'A_2_0': 1e-4, 'A_0_3': 1e-6, 'B_1_1': -2e-4,
     'CTYPE1': 'RA---TAN-SIP', 'CTYPE2': 'DEC--TAN-SIP'},
    {'CTYPE1': 'RA---TPV', 'CTYPE2': 'DEC--TPV', 'PV1_1': 1.0, 'PV2_1': 1.0, 'PV1_4': 0.02},
    {'PV1_1': 1.0, 'PV2_1': 1.0, 'PV2_7': 0.02},
    {'CTYPE1': 'RA---ZPN', 'CTYPE2': 'DEC--ZPN', 'PV2_1': 1.0, 'PV2_3': 42.0},
    {'NAXIS': 3, 'NAXIS3': 5, 'CTYPE3': 'VRAD', 'CRVAL3': 1e3, 'CDELT3': 10.0, 'CRPIX3': 1.0},
], ids=str)
def test_centre_is_that_of_astropy(changed):
    header = PLAIN | changed
    np.testing.assert_allclose(placed(header), expected(header), rtol=0, atol=1e-9)


@pytest.mark.parametrize('code', ['AIT', 'ARC', 'BON', 'CAR', 'CEA', 'COE', 'HPX', 'MER', 'MOL',
                                  'NCP', 'PAR', 'SFL', 'SIN', 'STG', 'ZEA'])
def test_projections(code):
    header = PLAIN | {'CTYPE1': f'RA---{code}', 'CTYPE2': f'DEC--{code}', 'PV2_1': 45.0}
    if code in ('SIN', 'NCP', 'CEA'):
        header['PV2_1'] = 0.5
    if code == 'NCP':  # astropy reads it only where it may fix it
        del header['PV2_1']
        fixed = header | {'CTYPE1': 'RA---SIN', 'CTYPE2': 'DEC--SIN', 'PV2_1': 0.0,
                          'PV2_2': 1 / math.tan(math.radians(header['CRVAL2']))}
        np.testing.assert_allclose(placed(header), expected(fixed), rtol=0, atol=1e-9)
    else:
        np.testing.assert_allclose(placed(header), expected(header), rtol=0, atol=1e-9)


def test_cube_with_the_spectral_axis_first():
    header = PLAIN | {'NAXIS': 3, 'NAXIS1': 7, 'NAXIS2': 300, 'NAXIS3': 200, 'CTYPE1': 'FREQ'}
    header |= {f'{key}{i + 1}': PLAIN[f'{key}{i}'] for key in ('CTYPE', 'CRVAL', 'CRPIX', 'CDELT')
               for i in (1, 2)} | {'CRVAL1': 1e9, 'CDELT1': 1e6, 'CRPIX1': 1.0}
    header |= {'CTYPE1': 'FREQ'}
    np.testing.assert_allclose(placed(header), placed(PLAIN), rtol=0, atol=1e-9)


def test_ecliptic():
    header = PLAIN | {'CTYPE1': 'ELON-TAN', 'CTYPE2': 'ELAT-TAN', 'CRPIX1': 150.5, 'CRPIX2': 100.5}
    sky = SkyCoord(83.6, -5.4, unit='deg', frame='barycentricmeanecliptic').icrs
    np.testing.assert_allclose(placed(header), (sky.ra.deg, sky.dec.deg), rtol=0, atol=1e-9)


@pytest.mark.parametrize('changed', [
    {'CTYPE2': 'VELO-LSR'}, {'CTYPE1': 'LINEAR', 'CTYPE2': 'LINEAR'}, {'CTYPE1': ''},
    {'CTYPE1': 'HPLN-TAN', 'CTYPE2': 'HPLT-TAN'}, {'CTYPE2': 'RA---TAN'}, {'CTYPE1': 'GLON-TAN'},
    {'CRVAL1': None}, {'CRVAL2': 'unknown'}, {'CDELT1': None}, {'CDELT1': 0.0, 'CDELT2': 0.0},
    {'CD1_1': 0.0, 'CD2_2': 0.0}, {'CRVAL2': math.inf}, {'NAXIS': 1}, {'NAXIS1': 0},
    {'NAXIS': 'x'}, {'CTYPE1': 'RA---XYZ', 'CTYPE2': 'DEC--XYZ'}, {'CRVAL1': True},
    {'CTYPE1': 'RA---SIN', 'CTYPE2': 'DEC--SIN', 'CDELT1': 5.0}, {'NAXIS': 1e300, 'CTYPE1': 5},
])
def test_no_centre(changed):
    assert of_image((PLAIN | changed).get) is None


def test_nobody_is_asked_for_the_rotation_of_the_earth(monkeypatch):
    asked = []
    monkeypatch.setattr('socket.getaddrinfo', lambda *args, **_: asked.append(args))
    place = EarthLocation(0 * u.deg, 0 * u.deg)
    late = Time(2090, format='jyear', scale='ut1')
    sky = SkyCoord([10], [20], unit='deg', frame=AltAz(obstime=late, location=place))
    assert steady_icrs(sky) is None
    assert steady_icrs(SkyCoord([10], [20], unit='deg', frame=FK5(equinox=late))) is None
    on_earth = WCS(naxis=2)
    on_earth.wcs.ctype = 'TLON-CAR', 'TLAT-CAR'
    on_earth.wcs.dateobs = '2045-01-01'
    assert by_wcs(on_earth, (3, 3)) is None
    for frame in ('fk4', 'galactic', 'barycentrictrueecliptic'):
        known = SkyCoord([10], [20], unit='deg', frame=frame)
        ra, dec = positions(Table({'where': known}))
        assert (ra[0], dec[0]) == (known.icrs.ra.deg[0], known.icrs.dec.deg[0])
    ra, dec = positions(Table({'where': sky, 's_ra': [1.0], 's_dec': [2.0]}))
    assert (ra[0], dec[0]) == (1, 2)
    assert asked == []


def test_numbers_that_are_text():
    header = PLAIN | {key: str(value) for key, value in PLAIN.items() if isinstance(value, float)}
    assert of_image(header.get) == of_image(PLAIN.get)


@pytest.mark.parametrize(('header', 'ra', 'dec'), [
    ({'RA': 313.728, 'DEC': -6.295}, 313.728, -6.295),
    ({'RA': '313.728', 'DEC': '-6.295'}, 313.728, -6.295),
    ({'RA': '05:41:06.0', 'DEC': '-02:27:30'}, 85.275, -2.458333),
    ({'RA': '5h41m06s', 'DEC': '-2d27m30s'}, 85.275, -2.458333),
    ({'RA': '85d16m30s', 'DEC': "-2d27'30\""}, 85.275, -2.458333),
    ({'OBJCTRA': '08 51 20.100', 'OBJCTDEC': '+11 48 43.00'}, 132.83375, 11.811944),
    ({'OBJCTRA': '00 00 00', 'OBJCTDEC': '-00 30 00'}, 0, -0.5),
    ({'RA': '12 30', 'DEC': '+12 24'}, 187.5, 12.4),
    ({'RA': 1.0, 'DEC': 2.0, 'RA_TARG': 10.0, 'DEC_TARG': 20.0}, 10, 20),
    ({'TARG_RA': 10.0, 'TARG_DEC': 20.0}, 10, 20), ({'RA_OBJ': 10.0, 'DEC_OBJ': 20.0}, 10, 20),
    ({'RA_TARG': 10.0, 'RA': 1.0, 'DEC': 2.0}, 1, 2),
])
def test_positions_by_keywords(header, ra, dec):
    found = to_icrs([by_keywords(header.get)])
    np.testing.assert_allclose(np.ravel(found), [ra, dec], rtol=0, atol=1e-6)


def test_keywords_have_an_equinox():
    old = SkyCoord(10, 20, unit='deg', frame='fk4')
    found = to_icrs([by_keywords({'RA': 10.0, 'DEC': 20.0, 'EQUINOX': 1950.0}.get)])
    np.testing.assert_allclose(np.ravel(found), [old.icrs.ra.deg, old.icrs.dec.deg], atol=1e-9)


@pytest.mark.parametrize(('ra', 'dec'), [
    (0.0, 0.0), (400.0, 0.0), (10.0, -95.0), ('25:00:00', '10:00:00'), ('10:61:00', '10:00:00'),
    ('unknown', 'unknown'), ('', ''), (None, 5.0), (True, True), (math.nan, 5.0), ('9' * 70, '5'),
    ('1e400', '5'), ('00 00 00', '00 00 00'),
])
def test_no_positions(ra, dec):
    assert by_keywords({'RA': ra, 'DEC': dec}.get) is None


@pytest.mark.parametrize(('ctype', 'answer'), [
    ('HPLN-TAN', True), ('Solar-x', True), ('SOLARX', True), ('CRLN-CAR', True), ('MALN-CAR', True),
    ('RA---TAN', False), ('GLON-CAR', False), ('LINEAR', False), ('', False), (5, False),
    ('PIXEL', False), ('COSLIT', False)])
def test_the_sun_and_planets(ctype, answer):
    assert is_elsewhere({'CTYPE1': ctype}.get) == answer


def test_wcs_of_objects():
    wcs = WCS(fits.Header(PLAIN))
    found = by_wcs(wcs, (200, 300))
    np.testing.assert_allclose([found.lon, found.lat], placed(PLAIN), rtol=0, atol=1e-9)
    cube = WCS(fits.Header(PLAIN | {'NAXIS': 3, 'NAXIS3': 5, 'CTYPE3': 'VRAD', 'CDELT3': 10.0}))
    assert by_wcs(cube, (5, 200, 300)) == found
    for other in (WCS(naxis=2), WCS(naxis=1), object()):
        assert by_wcs(other, (200, 300)) is None


def test_chips_of_one_camera_and_stamps_of_a_catalogue():
    chips = [Centre(lon, lat, size=0.05) for lon, lat in itertools.product((359.97, 0.03),
                                                                           (9.97, 10.03))]
    found = middle(chips)
    assert (found.lon + 180) % 360 == pytest.approx(180, abs=1e-6)
    assert found.lat == pytest.approx(10, abs=1e-4)
    stamps = [Centre(lon, 10.0, size=0.001) for lon in (0.0, 0.1, 20.0)]
    assert middle(stamps) == stamps[0]
    assert middle(chips[:1]) == chips[0]
    assert middle([]) is None


def test_many_frames_at_once():
    centres = [Centre(10, 20), None, Centre(10, 20, 'galactic'), Centre(10, 20, 'fk5', 2000.0),
               Centre(10, 20, 'supergalactic'), Centre(11, 21, 'galactic')]
    ra, dec = to_icrs(centres)
    for i, frame in ((0, 'icrs'), (2, 'galactic'), (3, 'fk5'), (4, 'supergalactic')):
        sky = SkyCoord(10, 20, unit='deg', frame=frame).icrs
        np.testing.assert_allclose([ra[i], dec[i]], [sky.ra.deg, sky.dec.deg], atol=1e-9)
    assert np.isnan([ra[1], dec[1]]).all()
    assert [len(part) for part in to_icrs([])] == [0, 0]
