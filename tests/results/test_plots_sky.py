# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Maps of ranked tables: every row where it belongs, on whatever sky.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from astroquery.exceptions import InvalidQueryError

from astroclip_search import ClipSearch
from tests.results.test_plots import clean, png, texts  # noqa: F401 - a fixture of every test


@pytest.fixture
def best():
    """A ranked table of a field around 0h; the last row has no score."""
    rng = np.random.default_rng(1)
    last = np.arange(40) == 39
    scores = np.sort(rng.normal(size=40).astype(np.float32))[::-1]
    return Table({'clip_rank': MaskedColumn(np.arange(1, 41), mask=last),
                  'clip_score': MaskedColumn(scores, mask=last),
                  's_ra': rng.normal(0, 0.1, 40) % 360, 's_dec': rng.normal(60, 0.1, 40)},
                 meta={'clip': {'query': ['red']}})


def drawn(ax):
    """Positions and scores of the points that have a score."""
    points = ax.collections[-1]
    return np.asarray(points.get_offsets()), np.asarray(points.get_array())


def pixels(ax, ra, dec):
    return ax.wcs.wcs_world2pix(np.column_stack([ra, dec]), 0)


def test_small_field_has_a_tangent_plane(best):
    ax = ClipSearch.plot_sky(best)
    assert list(ax.wcs.wcs.ctype) == ['RA---TAN', 'DEC--TAN']
    positions, scores = drawn(ax)
    ordered = best[:39][::-1]  # the best is drawn last, on top of the others
    np.testing.assert_array_equal(positions, np.column_stack([ordered['s_ra'], ordered['s_dec']]))
    np.testing.assert_array_equal(scores, ordered['clip_score'])
    x, y = pixels(ax, best['s_ra'], best['s_dec']).T
    assert ax.get_xlim()[0] < x.min() < x.max() < ax.get_xlim()[1]
    assert ax.get_ylim()[0] < y.min() < y.max() < ax.get_ylim()[1]
    assert [axis.get_axislabel() for axis in ax.coords] == ['RA (ICRS, deg)', 'Dec (ICRS, deg)']
    assert [other.get_ylabel() for other in ax.figure.axes if other is not ax] == ['Score']
    assert ax.get_title() == 'red'
    png(ax)


def test_right_ascension_increases_to_the_left(best):
    ax = ClipSearch.plot_sky(best)
    (east, _), (west, _) = pixels(ax, [0.1, 359.9], [60, 60])
    assert ax.get_xlim()[0] < east < west < ax.get_xlim()[1]


def test_points_are_where_they_should_be_on_the_paper(best):
    ax = ClipSearch.plot_sky(best)
    png(ax)
    points = ax.collections[-1]
    shown = points.get_offset_transform().transform(points.get_offsets())
    expected = ax.transData.transform(pixels(ax, *points.get_offsets().T))
    np.testing.assert_allclose(shown, expected, atol=0.01)


@pytest.mark.parametrize(('ra', 'dec', 'projection'), [
    ([10, 190], [0, 0], 'AIT'), ([10, 10], [-90, 90], 'AIT'), ([0, 50], [0, 0], 'AIT'),
    ([0, 180], [89, 89], 'TAN'), ([10, 10], [20, 20], 'TAN'), ([350, 10], [0, 0], 'TAN'),
    ([0, 120, 240], [0, 0, 0], 'AIT'), ([123.4], [-89.9], 'TAN')])
def test_projection(best, ra, dec, projection):
    best = best[:len(ra)]
    best['s_ra'], best['s_dec'] = np.array(ra, float), np.array(dec, float)
    ax = ClipSearch.plot_sky(best)
    assert ax.wcs.wcs.ctype[0] == f'RA---{projection}'
    shown = pixels(ax, best['s_ra'], best['s_dec'])
    for values, (low, high) in zip(shown.T, (ax.get_xlim(), ax.get_ylim()), strict=True):
        assert ((low <= values) & (values <= high)).all()
    png(ax)


def test_all_sky_is_an_ellipse(best):
    from astropy.visualization.wcsaxes.frame import EllipticalFrame

    best['s_ra'], best['s_dec'] = np.linspace(0, 359, 40), np.linspace(-89, 89, 40)
    ax = ClipSearch.plot_sky(best)
    assert ax.frame_class is EllipticalFrame
    # Its ends are where the projection ends, neither cut off nor beyond.
    ends = pixels(ax, [179.999, 180.001, 0, 0], [0, 0, -90, 90])
    np.testing.assert_allclose(ends[:2, 0], ax.get_xlim(), atol=0.5)
    np.testing.assert_allclose(ends[2:, 1], ax.get_ylim(), atol=0.5)
    assert 'RA (ICRS, deg)' in texts(ax)
    colours, = (other for other in ax.figure.axes if other is not ax)
    assert colours.get_xlabel() == 'Score'
    png(ax)


def test_best_rows_have_their_rank(best):
    best['s_ra'], best['s_dec'] = np.linspace(10, 11, 40), np.linspace(0, 1, 40)
    assert texts(ClipSearch.plot_sky(best)) == ['1', '3', '5']  # 2 and 4 are too near to be read
    best['s_ra'] = 10.0
    best['s_dec'][0] = 0.5
    best['s_dec'][1:] = 0.0
    assert texts(ClipSearch.plot_sky(best)) == ['1', '2']
    assert texts(ClipSearch.plot_sky(best[3:][::-1])) == ['4']


def test_rows_without_score_or_position(best):
    best['s_ra'] = MaskedColumn(best['s_ra'], mask=np.arange(40) < 3)
    best['s_dec'][3] = np.nan
    best['s_dec'][4] = -95
    ax = ClipSearch.plot_sky(best)
    empty, points = ax.collections
    assert (len(empty.get_offsets()), len(points.get_offsets())) == (1, 34)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ['rows without a score: 1']
    assert texts(ax)[0] == '6'
    assert ClipSearch.plot_sky(best[:39]).get_legend() is None
    png(ax)


def test_positions_of_any_kind(best):
    expected, _ = drawn(ClipSearch.plot_sky(best))
    positions = SkyCoord(best['s_ra'], best['s_dec'], unit='deg')
    plain = best['clip_rank', 'clip_score']
    quantities = QTable(plain)
    quantities['s_ra'], quantities['s_dec'] = positions.ra.rad * u.rad, positions.dec.to(u.arcmin)
    coordinates = plain.copy()
    coordinates['where'] = positions.galactic
    ucds = plain.copy()
    ucds['a'], ucds['b'] = best['s_ra'], best['s_dec']
    for name, axis in (('a', 'ra'), ('b', 'dec')):
        ucds[name].meta['ucd'] = f'pos.eq.{axis};meta.main'
    for other in (quantities, coordinates, ucds):
        np.testing.assert_allclose(drawn(ClipSearch.plot_sky(other))[0], expected, atol=1e-9)
    hidden = plain.copy()
    mask = np.arange(40) % 2 == 1
    hidden['where'] = SkyCoord(Masked(positions.ra, mask), Masked(positions.dec, mask))
    np.testing.assert_allclose(drawn(ClipSearch.plot_sky(hidden))[0], expected[::2], atol=1e-9)


@pytest.mark.parametrize('columns', [
    {}, {'s_ra': np.full(40, np.nan), 's_dec': np.zeros(40)}, {'s_ra': np.zeros(40)},
    {'s_ra': MaskedColumn(np.zeros(40), mask=True), 's_dec': np.zeros(40)},
    {'s_ra': ['x'] * 40, 's_dec': ['y'] * 40}])
def test_no_positions(best, columns):
    best = best['clip_rank', 'clip_score']
    for name, values in columns.items():
        best[name] = values
    with pytest.raises(InvalidQueryError, match='No row has a position'):
        ClipSearch.plot_sky(best)


def test_sky_of_the_user(best):
    from matplotlib import pyplot

    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ('GLON-CAR', 'GLAT-CAR'), (-1, 1)
    wcs.wcs.crval = 117, 0
    ax = pyplot.subplot(projection=wcs)
    ax.imshow(np.zeros((8, 6)), extent=(0, 1, -3, -2))  # autoscaling is on
    assert ClipSearch.plot_sky(best, ax=ax) is ax
    assert len(pyplot.get_fignums()) == 1
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 1), (-3, -2))
    place = SkyCoord(0, 60, unit='deg').galactic
    shown = ax.collections[-1].get_offset_transform().transform([[0, 60]])
    expected = ax.transData.transform(pixels(ax, [place.l.deg], [place.b.deg]))
    np.testing.assert_allclose(shown, expected, atol=1e-6)


def test_axes_without_a_sky(best):
    from matplotlib import pyplot

    for projection in (None, 'aitoff', WCS(naxis=2)):
        ax = pyplot.figure().add_subplot(projection=projection)
        with pytest.raises(InvalidQueryError, match=r'WCSAxes|celestial'):
            ClipSearch.plot_sky(best, ax=ax)
