# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Where in the pictures, and where on the sky: with a model that sees colours, so that the right place
is known.
"""

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import NDData
from astropy.table import Table
from astropy.wcs import WCS
from astroquery.exceptions import InvalidQueryError
from PIL import Image

from astroclip_search import ClipSearchClass
from astroclip_search.exceptions import (
    NothingRankedWarning,
    NothingStandsOutWarning,
    UncalibratedWarning,
    UnreadImagesWarning,
)
from astroclip_search.images.preprocess import Preprocessing
from astroclip_search.models.background import Background, normalise
from astroclip_search.models.bundle import Bundle
from tests.colours import COLOURS, ColourEncoder, picture
from tests.places.test_sky import region, tangent

HOST = 'https://alasky.cds.unistra.fr'


class Windowed(ColourEncoder):
    """Embeds windows of 32 pixels, 8 pixels apart, by their mean colour."""

    has_windows = True

    def __init__(self, *, has_windows=True, references=True):
        super().__init__()
        rng = np.random.default_rng(0)
        grey = normalise(1 + 0.1 * rng.normal(size=(300, 3)))
        self.has_windows = has_windows
        self.bundle = Bundle('colours', Path(), 'colours', Preprocessing(
            (32, 32), None, 3, (0.5,) * 3, (0.5,) * 3), context_length=64)
        self.bundle.__dict__['_background'] = Background(grey) if references else Background()
        self.n_windows = 0

    def encode_windows(self, pixels):
        height, width = pixels.shape[:2]
        assert height % 32 == width % 32 == 0
        found = np.stack([[pixels[y:y + 32, x:x + 32].mean(axis=(0, 1))
                           for x in range(0, width - 31, 8)] for y in range(0, height - 31, 8)])
        self.n_windows += found.shape[0] * found.shape[1]
        return normalise(found.reshape(-1, 3) + 1e-3).reshape(found.shape)


@pytest.fixture(params=[True, False], ids=['windows', 'tiles'])
def search(request, tmp_path):
    return ClipSearchClass(encoder=Windowed(has_windows=request.param),
                           cache_dir=tmp_path / 'cache')


def patch(colour, x, y, size=(600, 400), side=60):
    """A grey picture in which a square has a colour."""
    rng = np.random.default_rng(2)
    pixels = np.repeat(rng.normal(120, 10, (size[1], size[0], 1)), 3, axis=2).clip(0, 255)
    pixels[y - side // 2:y + side // 2, x - side // 2:x + side // 2] = [
        255 * value for value in COLOURS[colour]]
    return pixels.astype('u1')


def write(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_places_of_bitmaps(search, tmp_path):
    where = [(90, 80), (500, 300), (310, 210)]
    files = [write(tmp_path / f'{i}.png', patch('red', *at)) for i, at in enumerate(where)]
    places = search.locate(files, 'red')
    assert places['clip_row'].tolist() == [0, 1, 2]
    assert set(places['clip_place']) == {1}
    for row, (x, y) in zip(places, where, strict=True):
        assert abs(row['clip_x'] - x) < 60
        assert abs(row['clip_y'] - y) < 60
        x0, y0, x1, y1 = row['clip_box']
        assert x0 <= x < x1
        assert y0 <= y < y1
        assert min(x0, y0) >= -.5
        assert x1 <= 599.5
        assert y1 <= 399.5
    assert (places['clip_false_alarm'] < 0.01).all()
    assert places['ra'].mask.all()
    assert 'where on the sky' in places['clip_message'][0]
    assert set(places['clip_status']) == {'OK'}
    assert places.meta['clip']['query'] == ['red']


def test_several_places(search, tmp_path):
    pixels = patch('red', 90, 80)
    pixels[270:330, 450:510] = 255, 0, 0
    pixels[300:380, 60:140] = 0, 255, 0
    path = write(tmp_path / 'a.png', pixels)
    places = search.locate(path, 'red', n=2)
    assert places['clip_place'].tolist() == [1, 2]
    found = sorted(zip(places['clip_x'], places['clip_y'], strict=True))
    np.testing.assert_allclose(found, [(90, 80), (480, 300)], atol=60)
    other = search.locate(path, 'green')
    np.testing.assert_allclose([other['clip_x'][0], other['clip_y'][0]], (100, 340), atol=60)


def test_only_where_it_stands_out(search, tmp_path):
    files = [write(tmp_path / 'a.png', patch('red', 90, 80)),
             write(tmp_path / 'b.png', patch('blue', 90, 80))]
    places = search.locate(files, 'red', n=3, false_alarm_rate=0.01)
    assert set(places['clip_row']) == {0}
    assert (places['clip_false_alarm'] <= 0.01).all()


def test_like(search, tmp_path):
    path = write(tmp_path / 'a.png', patch('blue', 500, 90))
    example = picture('blue', (40, 40))
    places = search.locate(path, like=example)
    np.testing.assert_allclose([places['clip_x'][0], places['clip_y'][0]], (500, 90), atol=60)


def test_a_ranked_table_goes_on(search, tmp_path):
    files = [write(tmp_path / f'{i}.png', patch(colour, 500, 300))
             for i, colour in enumerate(('blue', 'red'))]
    (tmp_path / 'bad.png').write_bytes(b'no picture')
    with pytest.warns((UnreadImagesWarning, NothingStandsOutWarning)):
        best = search.rank([*files, tmp_path / 'bad.png'], 'red', by='image')
    with pytest.warns(UnreadImagesWarning):
        places = search.locate(best)
    assert places.meta['clip']['query'] == ['red']
    assert places['clip_rank'].tolist()[:2] == [1, 2]
    assert abs(places['clip_x'][0] - 500) < 60
    assert places['clip_status'][2] == 'ERROR'
    assert search.locate(best[0])['clip_x'].tolist() == places['clip_x'][:1].tolist()
    unlike = picture('green', (40, 40))
    assert search.locate(best[:1], unlike=unlike).meta['clip']['unlike'] != []
    again = search.locate(places[:1], 'red')  # what a verb returns, every other one takes
    assert again['clip_message'].tolist() == places['clip_message'][:1].tolist()
    assert places['clip_x'].mask.tolist() == [False, False, True]
    assert 'clip_image' not in places.colnames


def test_own_columns_come_with_the_places(search, tmp_path):
    table = Table({'preview': [str(write(tmp_path / 'a.png', patch('red', 90, 80)))], 'mag': [3.5],
                   'ra': [12.0], 's_region': ['CIRCLE ICRS 12 3 0.1']})
    table.meta['note'] = 'mine'
    places = search.locate(table, 'red', image_dir=tmp_path)
    assert places['mag'].tolist() == [3.5]
    assert places.meta['note'] == 'mine'
    assert places['ra'].mask.all()
    assert table.colnames == ['preview', 'mag', 'ra', 's_region']


@pytest.mark.parametrize('flipped', [False, True])
def test_places_of_fits_are_on_the_sky(search, tmp_path, flipped):
    """A spot on a dark frame is grey; it is found by an example that is bright."""
    data = np.random.default_rng(3).normal(0, 1, (300, 500)).astype('f4')
    data[180:240, 330:390] += 300
    wcs = WCS(fits.Header({
        'CTYPE1': 'RA---TAN', 'CTYPE2': 'DEC--TAN', 'CRVAL1': 0.001, 'CRVAL2': 61.5,
        'CRPIX1': 61.25, 'CRPIX2': 40.0, 'CDELT1': (1 if flipped else -1) * 2e-4, 'CDELT2': 2e-4}))
    fits.writeto(tmp_path / 'a.fits', data, wcs.to_header())
    held = NDData(data, wcs=wcs)
    places = search.locate([tmp_path / 'a.fits', held], ['red', 'green', 'blue'])
    for row in places:
        x0, y0, x1, y1 = row['clip_box']
        truth = wcs.pixel_to_world(row['clip_x'], row['clip_y'])
        there = SkyCoord(row['ra'], row['dec'], unit='deg')
        assert there.separation(truth).arcsec < 0.07  # a tenth of a pixel
        corners = np.array(row['s_region'].split()[2:], float).reshape(4, 2)
        expected = wcs.pixel_to_world([x0, x1, x1, x0], [y0, y0, y1, y1])
        # The order is that of the picture, whose first row is on top.
        assert {(round(a, 5), round(b, 5)) for a, b in corners} == {
            (round(a, 5), round(b, 5)) for a, b in zip(expected.ra.deg, expected.dec.deg,
                                                       strict=True)}
        assert row['clip_sky_error'] == 0
    assert places['clip_x'][0] == places['clip_x'][1]


def test_whole_sky_and_damaged_wcs(search, tmp_path):
    header = WCS(naxis=2).to_header()
    header.update({'CTYPE1': 'GLON-AIT', 'CTYPE2': 'GLAT-AIT', 'CRPIX1': 180.5, 'CRPIX2': 90.5,
                   'CDELT1': -1.0, 'CDELT2': 1.0, 'CRVAL1': 0.0, 'CRVAL2': 0.0})
    data = np.random.default_rng(3).normal(5, 1, (180, 360)).astype('f4')
    fits.writeto(tmp_path / 'sky.fits', data, header)
    header['CDELT1'] = 0.0
    fits.writeto(tmp_path / 'bad.fits', data, header)
    fits.writeto(tmp_path / 'none.fits', data)
    places = search.locate([tmp_path / name for name in ('sky.fits', 'bad.fits', 'none.fits')],
                           'red', n=3)
    assert set(places['clip_status']) == {'OK'}
    assert places['ra'].mask[places['clip_row'] > 0].all()
    sky = places[places['clip_row'] == 0]
    wcs = WCS(fits.getheader(tmp_path / 'sky.fits'))
    for row in sky[~sky['ra'].mask]:
        x, y = wcs.world_to_pixel(SkyCoord(row['ra'], row['dec'], unit='deg'))
        np.testing.assert_allclose([x, y], [row['clip_x'], row['clip_y']], atol=0.1)
    assert all(message for message in places['clip_message'][places['clip_row'] > 0])


def test_a_preview_is_where_its_row_is(search, tmp_path):
    size = (600, 400)
    wcs = tangent(150.0, 2.0, 1e-4, size, 20)
    table = Table({'preview': [str(write(tmp_path / 'a.png', patch('red', 90, 80)))] * 2,
                   's_region': [region(wcs, size), 'CIRCLE ICRS 150 2 0.1']})
    places = search.locate(table, 'red', image_dir=tmp_path)
    truth = wcs.pixel_to_world(places['clip_x'][0], places['clip_y'][0])
    there = SkyCoord(places['ra'][0], places['dec'][0], unit='deg')
    assert there.separation(truth).arcsec < 0.1
    # It may be upside down: nobody says that it is not.
    turned = wcs.pixel_to_world(599 - places['clip_x'][0], 399 - places['clip_y'][0])
    assert places['clip_sky_error'][0] == pytest.approx(turned.separation(truth).arcsec, rel=0.01)
    assert 'outline' in places['clip_message'][0]
    assert places['ra'].mask[1]


def test_maps(search, tmp_path):
    path = write(tmp_path / 'a.png', patch('red', 500, 90))
    heat, nothing = search.get_maps([path, write(tmp_path / 'b.png', patch('red', 60, 300))],
                                    'red')
    assert heat.shape == (96, 144)
    assert heat.dtype == np.float32
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    np.testing.assert_allclose([column / 144 * 600, row / 96 * 400], (500, 90), atol=80)
    assert nothing.argmax() != heat.argmax()


def test_strips_and_small_pictures(search, tmp_path):
    files = [write(tmp_path / 'a.png', patch('red', 700, 15, (1500, 30), 20)),
             write(tmp_path / 'b.png', patch('red', 15, 700, (30, 1500), 20)),
             write(tmp_path / 'c.png', patch('red', 10, 10, (24, 20), 8))]
    places = search.locate(files, 'red', n=2)
    best = places[places['clip_place'] == 1]
    np.testing.assert_allclose(best['clip_x'][0], 700, atol=40)
    np.testing.assert_allclose(best['clip_y'][1], 700, atol=40)
    assert (best['clip_box'][:, 2] <= np.array([1499.5, 29.5, 23.5]) + 1e-6).all()


def test_without_references(tmp_path):
    search = ClipSearchClass(encoder=Windowed(references=False), cache_dir=tmp_path / 'cache')
    path = write(tmp_path / 'a.png', patch('red', 90, 80))
    with pytest.warns(UncalibratedWarning):
        places = search.locate(path, 'red')
    assert places['clip_false_alarm'].mask.all()
    with pytest.raises(InvalidQueryError, match='no false-alarm rate'):
        search.locate(path, 'red', false_alarm_rate=0.1)


@pytest.mark.parametrize('wrong', [
    {'n': 0}, {'n': 10**6}, {'n': None}, {'false_alarm_rate': 2}, {'by': 'metadata'},
    {'limit': 3}, {'image_dir': 3}])
def test_wrong_arguments(search, tmp_path, wrong):
    path = write(tmp_path / 'a.png', patch('red', 90, 80))
    with pytest.raises(InvalidQueryError):
        search.locate(path, 'red', **wrong)
    with pytest.raises(InvalidQueryError):
        search.locate(path)


def test_an_empty_table(search):
    with pytest.warns(NothingRankedWarning):
        places = search.locate(Table({'preview': np.array([], 'U9')}), 'red')
    assert len(places) == 0
    assert {'clip_box', 'ra', 'clip_name'} <= set(places.colnames)


def test_places_are_drawn_and_written(search, tmp_path):
    pytest.importorskip('matplotlib')
    path = write(tmp_path / 'a.png', patch('red', 90, 80))
    places = search.locate([path, path], 'red')
    assert len(search.gallery(places)) == 2
    heat, = search.get_maps(path, 'red')
    ax = search.plot_places(places, heat=heat)
    assert len(ax.images) == 2
    again = tmp_path / 'places.ecsv'
    places.write(again)
    read = Table.read(again)
    assert len(search.gallery(read)) == 2
    (tmp_path / 'cut').mkdir()
    written = search.write_cutouts(places[:1], tmp_path / 'cut', margin=0)
    cut = np.asarray(Image.open(written['clip_cutout'][0]))
    x0, y0, x1, y1 = np.asarray(places['clip_box'][0])
    assert abs(cut.shape[1] - (x1 - x0)) <= 1
    assert abs(cut.shape[0] - (y1 - y0)) <= 1


def test_a_picture_is_looked_at_once(tmp_path):
    encoder = Windowed()
    search = ClipSearchClass(encoder=encoder, cache_dir=tmp_path / 'cache')
    path = write(tmp_path / 'a.png', patch('red', 90, 80))
    search.locate(path, 'red')
    once = encoder.n_windows
    search.locate([path] * 5, 'red')
    assert encoder.n_windows == 2 * once
