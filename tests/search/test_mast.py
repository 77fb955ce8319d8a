# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that ask MAST, as a user meets them, over real HTTP.
"""


import astropy.units as u
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astroquery.exceptions import (
    InputWarning,
    InvalidQueryError,
    NoResultsWarning,
    RemoteServiceError,
    ResolverError,
)
from astroquery.mast import Observations, ObservationsClass

from astroclip_search import ClipSearch, conf
from astroclip_search.exceptions import (
    IncompleteQueryWarning,
    NothingRankedWarning,
    UnfinishedWarning,
    UnreadImagesWarning,
)
from astroclip_search.results.table import BEHIND, IN_FRONT
from tests.colours import ColourEncoder, picture

ORION = SkyCoord(83.6, -5.4, unit='deg')
HST = {'obs_collection': 'HST'}


def ids(table):
    return sorted(table['obs_id'])


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
    assert ids(search.query_text('protoplanetary', criteria={
        'dataRights': 'EXCLUSIVE_ACCESS'})) == ['secret']
    assert ids(search.query_text('star', criteria={
        'instrument_name': 'WFC3', 'obs_collection': 'GALEX'})) == ['p4']


def test_query_text_several_phrases_and_limit(search, sky):
    best = search.query_text(['red tidal tail', 'red disk'], limit=2, fold_duplicates=False)
    assert len(best) == 2
    assert best.meta['clip']['n_rows'] == 3
    assert all('red' in url for url in best['jpegURL'])


def test_query_text_without_results(search, sky):
    # The first is what astroquery says.
    with pytest.warns(NoResultsWarning), pytest.warns(NothingRankedWarning) as caught:
        best = search.query_text('red', criteria={'obs_collection': 'TESS'})
    assert 'clip_rank' in best.colnames
    assert len(best) == 0
    assert {warning.category for warning in caught} == {NoResultsWarning, NothingRankedWarning}


def test_query_text_at_a_position(search, sky):
    best = search.query_text('green', coordinates=ORION, radius='3 arcmin')
    assert best['obs_id'][0] == 'p1'
    assert 'p3' not in best['obs_id']
    assert best.meta['clip']['selection'] == (
        'MAST images within 3 arcmin of 05h34m24.0s -05d24m00.0s')


def test_query_text_at_an_object(search, sky):
    best = search.query_text('green', object_name='M 42',
                             criteria={'obs_collection': 'JWST'})
    assert ids(best) == ['p1']
    assert best.meta['clip']['selection'] == 'MAST images within 0.2 deg of M 42'
    assert best.meta['clip']['query'] == ['green']


@pytest.mark.parametrize('radius', [0.1 * u.deg, '0.1d', 0.1, None])
def test_query_region(search, sky, radius):
    best = search.query_region(ORION, 'green', radius=radius, criteria={'calib_level': [3]})
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
    best = search.query_criteria('red', criteria={'instrument_name': 'WFC3',
                                                 'obs_collection': 'HST'})
    assert best['obs_id'].tolist() == ['p2', 'p3']
    assert best.meta['clip']['selection'] == (
        'MAST rows with instrument_name=WFC3, obs_collection=HST')


def test_unknown_criterion(search, sky):
    with pytest.raises(InvalidQueryError, match='hue'):
        search.query_criteria('red', criteria={'hue': 'red'})
    with pytest.raises(InvalidQueryError, match='at least one criterion'):
        search.query_criteria('red')
    with pytest.raises(InvalidQueryError, match='at least one criterion'):
        search.query_criteria('red', criteria={})
    with pytest.raises(InvalidQueryError, match=r"goes in criteria={'hue': 'red'}"):
        search.query_criteria('red', hue='red')


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
    lambda search: search.query_criteria(None, criteria={'obs_collection': 'HST'}),
    lambda search: search.query_criteria('red', criteria=HST, max_images=-1),
    lambda search: search.query_criteria('red', criteria=HST, weights={'size': 1}),
    lambda search: search.query_criteria(criteria=HST, by='metadata', like=picture('red')),
    lambda search: search.query_criteria('red', criteria='HST'),
    lambda search: search.query_criteria('red', obs_collection='HST'),
    lambda search: search.query_text('red', obs_collection='HST'),
    lambda search: search.query_region(ORION, 'red', calib_level=[3]),
    lambda search: search.query_object('M 42', 'red', calib_level=[3]),
    lambda search: search.query_image(picture('red'), calib_level=[3]),
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
    with pytest.warns(UnreadImagesWarning, match='1 of 11'):
        best = search.query_criteria('red', criteria={'obs_collection': ['HST', 'HLA']})
    assert best['clip_status'].tolist().count('OK') == 9
    assert any(source.startswith('http://') for source in best['clip_source'])


def test_options_of_rank_and_criteria_are_told_apart(search, sky):
    best = search.query_criteria('red', by='metadata', limit=1, negative='green', cache=False,
                                 show_progress=False, criteria={'calib_level': [3], **HST})
    assert len(best) == 1
    assert (best.meta['clip']['by'], best.meta['clip']['negative']) == ('metadata', ['green'])
    assert best.meta['clip']['selection'] == 'MAST rows with calib_level=[3], obs_collection=HST'
    assert sky.downloads() == []
    with pytest.warns(UnfinishedWarning, match='only the 1 whose'):
        best = search.query_text('red disk', max_images=1)
    assert len(sky.downloads()) == 1


def test_positional_criteria_of_astroquery(search, sky):
    best = search.query_criteria('green', criteria={'coordinates': ORION, 'radius': '3 arcmin',
                                                   'calib_level': [3]})
    assert ids(best) == ['p0', 'p1', 'p2', 'secret']


def test_resolver_of_the_user(search, sky):
    assert ids(search.query_object('M42', 'green', resolver='SIMBAD',
                                   criteria={'obs_collection': 'JWST'})) == ['p1']


def test_more_rows_than_wanted(search, sky):
    with (conf.set_temp('mast_max_rows', 2), pytest.warns(
            IncompleteQueryWarning, match='has 4 such rows: only the first 2') as caught):
        assert len(search.query_region(ORION, 'red', criteria={'calib_level': [3]})) == 2
    assert caught[0].filename == __file__
    with (conf.set_temp('mast_max_rows', 1),
          pytest.warns(IncompleteQueryWarning, match='MAST has 3 such rows: only the first 1')):
        assert len(search.query_criteria('red', criteria={
            **HST, 'calib_level': [3], 'dataRights': 'PUBLIC'})) == 1
    with conf.set_temp('mast_max_rows', 1):
        best = search.query_text('red disk')
    assert best.meta['clip']['selection'] == 'MAST rows with the first 1 with obs_title=*disk*'


def test_one_of_several_queries_fails(search, sky):
    sky.faults['obs_title=%red%'] = 'status:503'
    with (conf.set_temp('retries', 0),
          pytest.warns(IncompleteQueryWarning, match='1 of 4 queries') as caught):
        best = search.query_text('red disk')
    assert best['obs_id'].tolist() == ['p0', 'p1']
    assert caught[0].filename == __file__


@pytest.mark.parametrize('call', [
    lambda search: search.query_text('red disk'),
    lambda search: search.query_region(ORION, 'red'),
    lambda search: search.query_object('M42', 'red'),
    lambda search: search.query_criteria('red', criteria=HST),
])
def test_half_dead_server(search, sky, hurry, call):
    sky.faults['Mast.Caom'] = 'status:503'
    with conf.set_temp('retries', 0), pytest.raises(RemoteServiceError, match='HTTP 503'):
        call(search)
    sky.clear()
    sky.faults['Mast.Caom'] = 'status:503*1'
    assert len(call(search))


def test_real_rows(search, jwst_mast):
    obs = Observations.query_criteria(obs_collection='JWST')
    best = search.rank(obs[:40], 'red', limit=5)
    assert best['clip_status'].tolist() == ['OK'] * 5
    assert best.colnames == [*IN_FRONT, *obs.colnames, *BEHIND]


# ---- example images ----------------------------------------------------------------------


def test_image_like_rows_of_a_table(search, sky):
    table = Observations.query_criteria(proposal_id='1234', dataproduct_type='image')
    sky.clear()
    best = search.query_image(picture('green'), table, limit=2, fold_duplicates=False)
    assert sorted(best['obs_id']) == ['p1', 'p3']
    assert sky.queries == []
    assert 'selection' not in best.meta['clip']


def test_image_at_a_position(search, sky):
    best = search.query_image(picture('green'), coordinates=ORION, radius='3 arcmin',
                              criteria={'calib_level': [3]})
    assert best['obs_id'][0] == 'p1'
    assert ids(best) == ['p0', 'p1', 'p2', 'secret']
    assert best.meta['clip']['selection'].startswith('MAST images within 3 arcmin')
    best = search.query_image(picture('red'), object_name='M42', criteria=HST, limit=1)
    assert len(best) == 1


def test_image_with_criteria_and_with_words(search, sky):
    best = search.query_image(picture('green'), criteria={**HST, 'instrument_name': 'WFC3'})
    assert best['obs_id'].tolist() == ['p3', 'p2']
    best = search.query_image([picture('green'), picture('green')], text='red disk')
    assert ids(best) == ['p0', 'p1']
    assert best.meta['clip']['selection'] == 'MAST rows with obs_title=*disk*'


def test_example_that_mast_has(search, sky):
    example = Observations.query_criteria(obs_id='p1')
    best = search.query_image(example[0], criteria={'proposal_id': '1234',
                                                    'calib_level': [3]})
    assert best['obs_id'][0] == 'p1'


def test_verbs_take_examples_in_place_of_a_phrase(search, sky):
    best = search.query_region(ORION, like=picture('green'),
                               criteria={'calib_level': [3]}, limit=1)
    assert best['obs_id'].tolist() == ['p1']
    best = search.query_object('M42', like=picture('green'),
                               criteria={'calib_level': [3]}, limit=1)
    assert best['obs_id'].tolist() == ['p1']
    best = search.query_criteria(like=picture('green'), criteria={'obs_collection': 'JWST'})
    assert best['obs_id'].tolist() == ['p1']


@pytest.mark.parametrize(('options', 'message'), [
    ({}, 'Say where to look for images like this one: give results, coordinates'),
    ({'radius': 0.1}, 'A radius needs coordinates or object_name'),
    ({'results': Table({'jpegURL': ['mast:a.jpg']}), 'criteria': HST}, 'criteria is for a search'),
    ({'results': Table({'jpegURL': ['mast:a.jpg']}), 'object_name': 'M42'}, 'object_name'),
    ({'text': '', 'criteria': HST}, 'text is empty: leave it out'),
    ({'criteria': {'hue': 'red'}}, 'hue'), ({'hue': 'red'}, "no option 'hue'"),
])
def test_image_without_a_place_to_look(search, sky, options, message):
    with pytest.raises(InvalidQueryError, match=message):
        search.query_image(picture('green'), **options)
    assert sky.queries == []


@pytest.mark.parametrize('call', [
    lambda search: search.query_region(ORION), lambda search: search.query_object('M42'),
    lambda search: search.query_criteria(criteria=HST),
])
def test_neither_phrase_nor_example(search, sky, call):
    with pytest.raises(InvalidQueryError, match='text'):
        call(search)
    assert sky.log == []


@pytest.mark.filterwarnings('ignore::astroquery.exceptions.NoResultsWarning')
@pytest.mark.parametrize(('criteria', 'said'), [
    ({'instrument_name': 'WFC'}, r"it has 'ACS/WFC', 'WFC3'\. '\*WFC\*' finds all of these"),
    ({'instrument_name': 'WFPC9'}, r"no .* 'WFPC9' where all else fits: it has .*'WFC3'"),
])
def test_values_of_a_criterion_that_finds_nothing(search, sky, criteria, said):
    with pytest.warns(NothingRankedWarning, match='table is empty'), pytest.warns(
            NothingRankedWarning, match=said):
        assert not len(search.query_criteria('star', criteria=criteria))


def test_a_radius_alone(search, sky):
    with pytest.raises(InvalidQueryError, match='A radius needs a centre'):
        search.query_criteria('star', criteria={'radius': '1 deg'})
