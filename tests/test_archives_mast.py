# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Queries to MAST and the verbs made of them, against a MAST over real HTTP.
"""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import ICRS, SkyCoord
from astropy.table import Table
from astroquery.exceptions import (
    BlankResponseWarning,
    InputWarning,
    InvalidQueryError,
    NoResultsWarning,
    ResolverError,
)
from astroquery.mast import Observations, ObservationsClass

from astroclip_search import ClipSearch, conf
from astroclip_search.archives.mast import (
    criteria,
    download_url,
    keywords,
    position,
    search_radius,
    search_words,
)
from tests.colours import ColourEncoder, content
from tests.loopback.archive import Archive

ORION = SkyCoord(83.6, -5.4, unit='deg')


@pytest.fixture
def search(tmp_path):
    return ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')


@pytest.fixture
def sky(serve):
    """A MAST of red and green pictures; M 42 is where the first ones are."""
    rows, files = [], {}
    for i, (colour, title, collection, ra) in enumerate([
            ('red', 'Protoplanetary disks', 'HST', 83.60),
            ('green', 'Disk galaxies of the local universe', 'JWST', 83.61),
            ('red', 'Tidal tails', 'HST', 83.62),
            ('green', 'Protoplanetary nebulae', 'HST', 10.0),
            ('red', 'Stars', 'GALEX', 200.0)]):
        uri = f'mast:{collection}/product/p{i}_{colour}.jpg'
        rows.append({
            'obsid': str(1000 + i), 'obs_id': f'p{i}', 'obs_collection': collection,
            'target_name': f'T{i}', 'obs_title': title, 'target_classification': 'STAR',
            'dataproduct_type': 'image', 'jpegURL': uri, 's_ra': ra, 's_dec': -5.4,
            'calib_level': 3, 'intentType': 'science', 'dataRights': 'PUBLIC',
            'instrument_name': 'ACS/WFC' if i < 2 else 'WFC3', 'proposal_id': '1234'})
        files[uri] = content(colour, 'JPEG') + b'%d' % i
    rows.append(rows[0] | {'obsid': '2000', 'obs_id': 'spectrum', 'dataproduct_type': 'spectrum'})
    rows.append(rows[0] | {'obsid': '2001', 'obs_id': 'secret', 'dataRights': 'EXCLUSIVE_ACCESS'})
    rows.append(rows[0] | {'obsid': '2002', 'obs_id': 'raw', 'calib_level': 1})
    return serve(Archive(rows, files, names={'M 42': (83.6, -5.4)}))


def ids(table):
    return sorted(table['obs_id'])


# ---- words -------------------------------------------------------------------------------


@pytest.mark.parametrize(('text', 'words'), [
    ('protoplanetary disk', ['protoplanetar', 'disk']),
    ('edge-on galaxy with a dust lane', ['galax', 'dust']),
    ('Galaxies, galaxies; GALAXY!', ['galax']),
    ('a very long list of remarkable interacting barred galaxies',
     ['interacting', 'remarkable', 'barred']),
    ('an image of the', []), ('M 8', []), ('x_y*z% OR 1=1', []),
    ('naïve Köln', ['naïve', 'köln']), ('螺旋星系', ['螺旋星系']),
])
def test_keywords(text, words):
    assert keywords(text) == words


def test_wildcards_of_the_user_do_not_reach_the_query():
    assert not set('*%_') & set(''.join(keywords('spiral* %galaxy% tidal_tail')))


# ---- addresses, positions, radii ---------------------------------------------------------


def test_download_url_follows_the_instance(mast):
    assert download_url('mast:HST/product/a b&c.jpg') == (
        f'{mast.url}/api/v0.1/Download/file?uri=mast:HST/product/a%20b%26c.jpg')
    assert download_url('mast:a', ObservationsClass()).startswith(mast.url)
    assert download_url('mast:a', object()) == (
        'https://mast.stsci.edu/api/v0.1/Download/file?uri=mast:a')


@pytest.mark.parametrize('coordinates', [ORION, ICRS(83.6 * u.deg, -5.4 * u.deg)])
def test_position(coordinates):
    assert position(coordinates).ra.deg == pytest.approx(83.6)


def test_position_in_words():
    with pytest.warns(InputWarning, match='ICRS'):
        assert position('5h34m24s -5d24m').ra.deg == pytest.approx(83.6)


@pytest.mark.parametrize('coordinates', [5, (83.6, -5.4), [ORION],
                                         SkyCoord([1, 2], [3, 4], unit='deg')])
def test_no_position(coordinates):
    with pytest.raises(InvalidQueryError, match='position'):
        position(coordinates)


@pytest.mark.parametrize(('radius', 'degrees'), [
    (None, 0.2), (0.5, 0.5), (np.float32(0.5), 0.5), ('30 arcmin', 0.5), ('0.5d', 0.5),
    (0.5 * u.deg, 0.5), (1800 * u.arcsec, 0.5)])
def test_radius(radius, degrees):
    assert search_radius(radius).to_value(u.deg) == pytest.approx(degrees)


@pytest.mark.parametrize('radius', ['', 'wide', '0.5', 3 * u.m, 0, -1, 181, float('nan'),
                                    [1, 2] * u.deg, {}])
def test_no_radius(radius):
    with pytest.raises(InvalidQueryError, match='is not an angle'):
        search_radius(radius)


# ---- candidates --------------------------------------------------------------------------


def test_only_images_unless_asked_otherwise(sky):
    assert 'spectrum' not in ids(criteria(proposal_id='1234'))
    assert ids(criteria(proposal_id='1234', dataproduct_type='spectrum')) == ['spectrum']


def test_region(sky):
    assert ids(criteria(coordinates=ORION, radius=0.05 * u.deg, intentType='science')) == [
        'p0', 'p1', 'p2', 'raw', 'secret']
    assert ids(criteria(coordinates=ORION, radius=0.05, obs_collection='JWST')) == ['p1']


def test_search_words_puts_rows_with_several_words_first(sky):
    table, selection = search_words('protoplanetary disk', limit=10, calib_level=[3])
    assert table['obs_id'][0] in ('p0', 'secret')
    assert ids(table) == ['p0', 'p1', 'p3', 'secret']
    assert selection == 'MAST rows with obs_title=*protoplanetar* or obs_title=*disk*'


def test_search_words_looks_at_the_classification(sky):
    table, selection = search_words('star', limit=10, calib_level=[3])
    assert selection == 'MAST rows with obs_title=*star* or target_classification=*star*'
    assert len(table) == 6


def test_search_words_respects_a_criterion_on_the_same_column(sky):
    table, selection = search_words('star disk', limit=10, obs_title='Tidal*', calib_level=[3])
    assert ids(table) == ['p2']
    assert selection == 'MAST rows with target_classification=*star*'


def test_search_words_without_any_hit_takes_what_there_is(sky):
    table, selection = search_words('supernova', limit=3, calib_level=[3])
    assert len(table) == 3
    assert selection.startswith('MAST rows in the order of the archive')


def test_search_words_limit_is_the_page_size(sky):
    assert len(search_words('star', limit=2)[0]) <= 4


# ---- verbs -------------------------------------------------------------------------------


def test_query_text_with_a_bare_phrase(search, sky):
    best = search.query_text('red disk')
    assert best['obs_id'].tolist() == ['p0', 'p1']  # public, calibrated, HST and JWST
    assert best.meta['clip']['selection'] == 'MAST rows with obs_title=*disk*'
    assert best.meta['clip']['n_rows'] == 2
    assert best.meta['clip']['query'] == ['red disk']


def test_query_text_settings_and_criteria(search, sky):
    with (conf.set_temp('mast_collections', ['GALEX', 'HST']),
          conf.set_temp('mast_calib_levels', [1])):
        assert ids(search.query_text('protoplanetary')) == ['raw']
    assert ids(search.query_text('protoplanetary', dataRights='EXCLUSIVE_ACCESS')) == ['secret']
    assert ids(search.query_text('star', instrument_name='WFC3', obs_collection='GALEX')) == ['p4']


def test_query_text_several_phrases_and_limit(search, sky):
    best = search.query_text(['red tidal tail', 'red disk'], limit=2)
    assert len(best) == 2
    assert best.meta['clip']['n_rows'] == 3
    assert all('red' in url for url in best['jpegURL'])


def test_query_text_without_results(search, sky):
    with pytest.warns(NoResultsWarning) as caught:
        best = search.query_text('red', obs_collection='TESS')
    assert 'clip_rank' in best.colnames
    assert len(best) == 0
    assert {warning.category for warning in caught} == {NoResultsWarning}


def test_query_text_at_a_position(search, sky):
    best = search.query_text('green', coordinates=ORION, radius='3 arcmin')
    assert best['obs_id'][0] == 'p1'
    assert 'p3' not in best['obs_id']
    assert best.meta['clip']['selection'] == (
        'MAST images within 3 arcmin of 05h34m24.0s -05d24m00.0s')


def test_query_text_at_an_object(search, sky):
    best = search.query_text('green', object_name='M 42', obs_collection='JWST')
    assert ids(best) == ['p1']
    assert best.meta['clip']['selection'] == 'MAST images within 0.2 deg of M 42'
    assert best.meta['clip']['query'] == ['green']


@pytest.mark.parametrize('radius', [0.1 * u.deg, '0.1d', 0.1, None])
def test_query_region(search, sky, radius):
    best = search.query_region(ORION, 'green', radius=radius, calib_level=[3])
    assert best['obs_id'][0] == 'p1'
    assert ids(best) == ['p0', 'p1', 'p2', 'secret']


def test_query_region_in_words(search, sky):
    with pytest.warns(InputWarning, match='ICRS'):
        best = search.query_region('83.6 -5.4', 'green', radius=0.1)
    assert best['obs_id'][0] == 'p1'
    assert best.meta['clip']['selection'] == 'MAST images within 0.1 deg of 83.6 -5.4'


def test_query_object(search, sky):
    best = search.query_object('M42', 'green', limit=1)
    assert best['obs_id'].tolist() == ['p1']


def test_unknown_object(search, sky):
    with pytest.raises(ResolverError):
        search.query_object('no such thing', 'green')


def test_query_criteria(search, sky):
    best = search.query_criteria('red', instrument_name='WFC3', obs_collection='HST')
    assert best['obs_id'].tolist() == ['p2', 'p3']
    assert best.meta['clip']['selection'] == (
        'MAST rows with instrument_name=WFC3, obs_collection=HST')


def test_unknown_criterion(search, sky):
    with pytest.raises(InvalidQueryError, match='colour'):
        search.query_criteria('red', colour='red')
    with pytest.raises(InvalidQueryError, match='at least one criterion'):
        search.query_criteria('red')


@pytest.mark.parametrize('call', [
    lambda search: search.query_text(''),
    lambda search: search.query_text('red', limit=0),
    lambda search: search.query_text('red', by='pixels'),
    lambda search: search.query_text('red', negative=''),
    lambda search: search.query_text('red', radius=0.1),
    lambda search: search.query_text('red', coordinates=ORION, object_name='M 42'),
    lambda search: search.query_text('red', coordinates=ORION, radius='wide'),
    lambda search: search.query_region(None, 'red'),
    lambda search: search.query_region(ORION, ' '),
    lambda search: search.query_object('M 42', 'red', limit=-1),
    lambda search: search.query_object('M 42', 'red', radius=-1),
    lambda search: search.query_criteria(None, obs_collection='HST'),
])
def test_bad_arguments_are_found_before_anything_is_asked(search, sky, call):
    with pytest.raises(InvalidQueryError):
        call(search)
    assert sky.log == []


def test_instance_of_the_user_is_asked(sky, tmp_path):
    class Mine(ObservationsClass):
        asked = 0

        def query_criteria(self, **criteria):
            self.asked += 1
            return Table({'obsid': ['1'], 'jpegURL': ['mast:HST/product/p0_red.jpg'],
                          'obs_title': ['Mine']})

    mine = Mine()
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine)
    best = search.query_text('red disk')
    assert (mine.asked, best['obs_title'].tolist()) == (4, ['Mine'])  # two words in two columns
    assert sky.downloads() == ['mast:HST/product/p0_red.jpg']


def test_rows_of_every_kind(search, mast):
    with pytest.warns(BlankResponseWarning, match='1 of 11'):
        best = search.query_criteria('red', obs_collection=['HST', 'HLA'])
    assert best['clip_status'].tolist().count('OK') == 9
    assert any(source.startswith('http://') for source in best['clip_source'])


def test_real_rows(search, jwst_mast):
    obs = Observations.query_criteria(obs_collection='JWST')
    best = search.rank(obs[:40], 'red', limit=5)
    assert best['clip_status'].tolist() == ['OK'] * 5
    assert best.colnames[:len(obs.colnames)] == obs.colnames
