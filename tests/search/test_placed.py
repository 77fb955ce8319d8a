# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Places become files and tables of other programs, and show in a gallery and in a drawing.
"""

import io

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table, vstack
from astropy.wcs import WCS
from astroquery.exceptions import InvalidQueryError
from PIL import Image

from astroclip_search.search.placed import with_ucds
from tests.places.made import places_of
from tests.places.test_regions import tangent

BOXES = [(440.0, 80.0, 460.0, 100.0), (100.0, 300.0, 140.0, 340.0)]


@pytest.fixture
def field():
    """Two bright squares of unlike size in noise; the edge is blank."""
    data = np.random.default_rng(1).normal(0, 1, (400, 600)).astype('f4')
    for x0, y0, x1, y1 in np.array(BOXES, int):
        data[y0:y1, x0:x1] += 50
    data[:, :40] = np.nan
    return data


@pytest.fixture
def frame(tmp_path, field):
    path = tmp_path / 'images' / 'field.fits'
    path.parent.mkdir()
    fits.writeto(path, field, tangent().to_header())
    return path


@pytest.fixture
def places(frame):
    return places_of(frame, BOXES, wcs=tangent(), name='field')


@pytest.fixture
def bitmap(tmp_path):
    pixels = np.full((300, 500, 3), 20, 'u1')
    pixels[40:60, 400:420] = 255, 40, 40
    path = tmp_path / 'red.png'
    Image.fromarray(pixels).save(path)
    return path


def pixels_of(path):
    with fits.open(path, memmap=False) as hdus:
        return [hdu for hdu in hdus if hdu.data is not None]


# ---- cutouts -----------------------------------------------------------------------------

def test_a_cutout_is_the_place(search, places, frame, field, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    found = search.write_cutouts(places, out, margin=0, image_dir=frame.parent)
    assert [path.rpartition('/')[2] for path in found['clip_cutout']] == [
        'field_0_1.fits', 'field_0_2.fits']
    for row in found:
        part, = pixels_of(row['clip_cutout'])
        # The box is of edges between the centres of pixels.
        x0, y0, x1, y1 = np.asarray(row['clip_box'], int)
        np.testing.assert_array_equal(part.data, field[y0:y1 + 1, x0:x1 + 1])
        x, y = WCS(part.header).all_world2pix([[row['ra'], row['dec']]], 0)[0]
        np.testing.assert_allclose((x, y), (row['clip_x'] - x0, row['clip_y'] - y0), atol=1e-6)
    assert 'clip_cutout' not in places.colnames


def test_a_margin_adds_on_each_side(search, places, frame, tmp_path):
    found = search.write_cutouts(places, tmp_path, margin=1, image_dir=frame.parent)
    assert pixels_of(found['clip_cutout'][0])[0].shape == (61, 61)
    assert pixels_of(found['clip_cutout'][1])[0].shape == (121, 121)


def test_a_bitmap_is_a_png(search, bitmap, tmp_path):
    places = places_of(bitmap, [(400, 40, 419, 59)])
    found = search.write_cutouts(places, tmp_path, margin=0, image_dir=tmp_path)
    part = np.asarray(Image.open(found['clip_cutout'][0]))
    assert part.shape == (20, 20, 3)
    assert (part == (255, 40, 40)).all()


def test_a_row_without_a_place_says_why(search, places, frame, tmp_path):
    gone = places_of(frame.parent / 'gone.fits', BOXES[:1], wcs=tangent(), row=1)
    none = places_of(frame, [], row=2)
    outside = places_of(frame, [(1000, 1000, 1020, 1020)], row=3)
    found = search.write_cutouts(vstack([places, gone, none, outside]), tmp_path,
                                 image_dir=frame.parent)
    assert [bool(path) for path in found['clip_cutout']] == [True, True, False, False, False]
    assert all(found['clip_message'][2:])
    assert found['clip_message'][0] == ''


def test_the_sky_of_another_chip_is_no_cutout(search, places, frame, tmp_path):
    places['ra'], places['dec'] = places['ra'] + 0.5, places['dec']
    found = search.write_cutouts(places, tmp_path, image_dir=frame.parent)
    assert not any(found['clip_cutout'])
    assert 'not on the first image' in found['clip_message'][0]


def test_files_of_the_user_stay(search, places, frame, tmp_path):
    (tmp_path / 'field_0_2.fits').write_text('mine')
    with pytest.raises(InvalidQueryError, match='already'):
        search.write_cutouts(places, tmp_path, image_dir=frame.parent)
    assert not (tmp_path / 'field_0_1.fits').exists()
    assert (tmp_path / 'field_0_2.fits').read_text() == 'mine'
    found = search.write_cutouts(places, tmp_path, image_dir=frame.parent, overwrite=True)
    assert all(found['clip_cutout'])


@pytest.mark.parametrize('name', ['../../x', '/etc/passwd', 'a\0b', '', '...', 'x' * 300, 'é/$(x)'])
def test_a_name_leads_nowhere(search, places, frame, tmp_path, name):
    out = tmp_path / 'out'
    out.mkdir()
    places['clip_name'] = [name] * 2
    for column in ('target_name', 'obs_id'):
        places[column] = [name] * 2
    search.write_cutouts(places, out, image_dir=frame.parent)
    assert len(list(out.iterdir())) == 2


def test_wrong_arguments(search, places, tmp_path):
    with pytest.raises(InvalidQueryError, match='no folder'):
        search.write_cutouts(places, tmp_path / 'no')
    with pytest.raises(InvalidQueryError, match='margin'):
        search.write_cutouts(places, tmp_path, margin=-1)
    for verb in (search.write_cutouts, search.write_regions, search.write_moc):
        with pytest.raises(InvalidQueryError, match='locate'):
            verb(Table({'a': [1]}), tmp_path if verb == search.write_cutouts else tmp_path / 'a')


def test_regions_and_maps_of_a_written_table(search, places, tmp_path):
    pytest.importorskip('mocpy')
    places.write(tmp_path / 'places.ecsv')
    search.write_regions(tmp_path / 'places.ecsv', tmp_path / 'a.reg')
    search.write_moc(tmp_path / 'places.ecsv', tmp_path / 'a.fits')
    assert (tmp_path / 'a.reg').read_text().count('icrs; polygon') == 2


# ---- gallery -----------------------------------------------------------------------------

def frame_of(jpeg):
    """Left, top, right and bottom of what is orange, and the size of the picture."""
    picture = Image.open(io.BytesIO(jpeg)).convert('RGB')
    red, green, blue = np.moveaxis(np.asarray(picture, int), -1, 0)
    rows, columns = np.nonzero((red - blue > 90) & (green - blue > 60))
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()]), picture.size


def test_the_gallery_frames_each_place(search, places, frame):
    page = search.gallery(places, image_dir=frame.parent)
    assert [card.marks for card in page.cards] == [('place 1',), ('place 2',)]
    for card, (x0, y0, x1, y1) in zip(page.cards, BOXES, strict=True):
        edges, (width, _) = frame_of(card.jpeg)
        scale = width / 560  # without the blank edge
        expected = np.array([x0 - 40, 400 - y1, x1 - 40, 400 - y0]) * scale
        np.testing.assert_allclose(edges, expected, atol=4)
    np.testing.assert_allclose([card.ra for card in page.cards], places['ra'])
    html = page._repr_html_()
    assert html.count('esasky') == html.count('AladinLite') == 2
    assert f'{places["ra"][1]:.5f}' in html


def test_the_gallery_of_a_bitmap(search, bitmap):
    card, = search.gallery(places_of(bitmap, [(399.5, 39.5, 419.5, 59.5)]),
                           image_dir=bitmap.parent).cards
    edges, (width, _) = frame_of(card.jpeg)
    np.testing.assert_allclose(edges, np.array([400, 40, 420, 60]) * width / 500, atol=4)
    assert card.ra is None


def test_a_row_without_a_place_has_no_frame(search, frame):
    page = search.gallery(vstack([places_of(frame, BOXES[:1], wcs=tangent()),
                                  places_of(frame, [], row=1)]), image_dir=frame.parent)
    assert [card.jpeg is not None for card in page.cards] == [True, False]


# ---- tables by SAMP ----------------------------------------------------------------------

@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of our own, on loopback, that only this test knows."""
    samp = pytest.importorskip('pyvo.samp')
    if not hasattr(samp, 'SAMPHubServer'):
        pytest.skip('pyvo has no hub')
    lock = tmp_path / 'hub'
    monkeypatch.setenv('SAMP_HUB', f'std-lockurl:{lock.as_uri()}')
    with samp.conf.set_temp('use_internet', False):
        server = samp.SAMPHubServer(web_profile=False, lockfile=str(lock), mode='multiple',
                                    addr='127.0.0.1', pool_size=2)
        server.start()
        yield samp
        server.stop()


@pytest.fixture
def topcat(hub):
    """A program that reads tables."""
    client = hub.SAMPIntegratedClient(name='TOPCAT', addr='127.0.0.1')
    client.connect()
    received = []

    def load(_key, _sender, message_id, _mtype, params, _extra):
        path = params['url'].removeprefix('file://')
        received.append((params['name'], parse_single_table(path)))
        client.ereply(message_id, hub.SAMP_STATUS_OK, result={})

    client.bind_receive_call('table.load.votable', load)
    client.received = received
    yield client
    client.disconnect()


def test_a_table_is_sent(search, places, topcat):
    places['s_ra'] = places['ra']
    places['s_ra'].meta['ucd'] = 'pos.eq.ra;meta.main'
    assert search.send(places, name='tails') == ['TOPCAT']
    (name, table), = topcat.received
    assert name == 'tails'
    np.testing.assert_allclose(table.array['ra'], places['ra'])
    ucds = {field.name: field.ucd for field in table.fields}
    assert (ucds['ra'], ucds['s_ra']) == ('pos.eq.ra;meta.main', 'pos.eq.ra')
    assert all(check_ucd(ucd, check_controlled_vocabulary=True) for ucd in ucds.values() if ucd)
    assert places['ra'].meta == {}
    assert search.send(places, to='topcat') == ['TOPCAT']
    with pytest.raises(InvalidQueryError, match=r"called 'Aladin'.*TOPCAT"):
        search.send(places, to='Aladin')


def test_nobody_listens(search, places, hub, tmp_path, monkeypatch):
    with pytest.raises(InvalidQueryError, match='No program that reads tables is open'):
        search.send(places)
    monkeypatch.setenv('SAMP_HUB', f'std-lockurl:{(tmp_path / "none").as_uri()}')
    with pytest.raises(InvalidQueryError, match='No program is waiting'):
        search.send(places)


def test_a_table_that_is_no_table_of_places_keeps_its_main_position():
    table = Table({'s_ra': [1.0], 'ra': [2.0], 'clip_score': [1.0]})
    table['s_ra'].meta['ucd'] = 'pos.eq.ra;meta.main'
    found = with_ucds(table)
    assert found['s_ra'].meta['ucd'] == 'pos.eq.ra;meta.main'
    assert found['clip_score'].meta['ucd'] == 'stat.likelihood'
    assert found['ra'].meta == {}
