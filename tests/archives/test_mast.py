# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Queries to MAST, page by page and through its bad moments, over real HTTP.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import astropy.units as u
import numpy as np
import pytest
import requests
from astropy.coordinates import ICRS, SkyCoord
from astroquery.exceptions import (
    InputWarning,
    InvalidQueryError,
    RemoteServiceError,
    ResolverError,
)
from astroquery.mast import Observations, ObservationsClass
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search import conf
from astroclip_search.archives.footprints import position, search_radius
from astroclip_search.archives.mast import (
    credentials,
    criteria,
    download_url,
    keywords,
    resolve,
    search_words,
)
from astroclip_search.exceptions import IncompleteQueryWarning
from tests.loopback import until
from tests.loopback.archive import Archive
from tests.loopback.mast import Mast

ORION = SkyCoord(83.6, -5.4, unit='deg')
pytestmark = pytest.mark.usefixtures('hurry')


@pytest.fixture
def quick():
    """Tests need not try as often as users do."""
    with conf.set_temp('retries', 1):
        yield


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


@given(st.text(max_size=200))
def test_keywords_of_any_text(text):
    found = keywords(text)
    assert len(found) <= 3
    assert len(set(found)) == len(found)
    assert all(word in text.lower() and word.isalnum() for word in found)


# ---- addresses, positions, radii ---------------------------------------------------------


def test_download_url_follows_the_instance(mast):
    assert download_url('mast:HST/product/a b&c.jpg') == (
        f'{mast.url}/api/v0.1/Download/file?uri=mast:HST/product/a%20b%26c.jpg')
    assert download_url('mast:a', ObservationsClass()).startswith(mast.url)
    assert download_url('mast:a', object()) == f'{mast.url}/api/v0.1/Download/file?uri=mast:a'


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
    assert 'spectrum' not in ids(criteria({'proposal_id': '1234'}))
    assert ids(criteria({'proposal_id': '1234', 'dataproduct_type': 'spectrum'})) == ['spectrum']


def test_region(sky):
    place = {'coordinates': ORION, 'radius': 0.05 * u.deg}
    assert ids(criteria({**place, 'intentType': 'science'})) == [
        'p0', 'p1', 'p2', 'raw', 'secret']
    assert ids(criteria({**place, 'radius': 0.05, 'obs_collection': 'JWST'})) == ['p1']


def test_search_words_puts_rows_with_several_words_first(sky):
    table, selection = search_words('protoplanetary disk', {'calib_level': [3]}, max_rows=10)
    assert table['obs_id'][0] in ('p0', 'secret')
    assert ids(table) == ['p0', 'p1', 'p3', 'secret']
    assert selection == 'MAST rows with obs_title=*protoplanetar* or obs_title=*disk*'


def test_search_words_looks_at_the_classification(sky):
    table, selection = search_words('star', {'calib_level': [3]}, max_rows=10)
    assert selection == 'MAST rows with obs_title=*star* or target_classification=*star*'
    assert len(table) == 6


def test_search_words_respects_a_criterion_on_the_same_column(sky):
    table, selection = search_words('star disk', {'obs_title': 'Tidal*', 'calib_level': [3]},
                                    max_rows=10)
    assert ids(table) == ['p2']
    assert selection == 'MAST rows with target_classification=*star*'


def test_search_words_without_any_hit_takes_what_there_is(sky):
    table, selection = search_words('supernova', {'calib_level': [3]}, max_rows=3)
    assert len(table) == 3
    assert selection.startswith('MAST rows in the order of the archive')


def test_search_words_bounds_rows_and_says_so(sky):
    table, selection = search_words('star', {}, max_rows=2)
    assert len(table) == 2
    assert selection == ('MAST rows with obs_title=*star* or '
                         'the first 2 with target_classification=*star*')


def test_programmes_take_turns(serve):
    rows = [{'obsid': str(i), 'obs_id': f'{programme}{i}', 'proposal_id': programme,
             'obs_title': 'Ring galaxies' if programme == 'C' else 'Spiral galaxies',
             'dataproduct_type': 'image'}
            for i, programme in enumerate(['A'] * 6 + ['B'] * 2 + ['C'] * 2)]
    serve(Archive(rows, {}))
    table, _ = search_words('ring galaxy', {}, max_rows=10)
    # Two words are better than one, and A with its many images does not crowd out B.
    assert ''.join(table['proposal_id']) == 'CCABABAAAA'


@pytest.mark.parametrize(('text', 'found'), [
    ('ring galaxy', 'AC'), ('ring', 'AC'), ('bar', 'E'), ('nebula', 'F'), ('NGC spiral', 'D'),
    ('monitor', 'B'), ('nova', 'GF'),  # no row has it but as a part
])
def test_words_are_no_parts_of_others(serve, text, found):
    titles = {'A': 'Ringed worlds', 'B': 'Monitoring of strings', 'C': 'A pair; RINGS?',
              'D': 'NGC1300_drz', 'E': 'Barred', 'F': 'Supernovae and nebulae',
              'G': 'After a supernova'}
    serve(Archive([{'obsid': obsid, 'obs_id': obsid, 'proposal_id': obsid, 'obs_title': title,
                    'dataproduct_type': 'image'} for obsid, title in titles.items()], {}))
    table, selection = search_words(text, {}, max_rows=10)
    assert set(table['obsid']) == set(found)
    assert '=*' in selection


def test_candidates_without_the_usual_columns(mast):
    from astropy.table import Table

    class Mine(ObservationsClass):
        def query_criteria(self, **filters):
            return Table({'jpegURL': ['mast:a.jpg']})

    assert len(search_words('disk', {}, max_rows=9, observations=Mine())[0]) == 2  # two columns


# ---- pages -------------------------------------------------------------------------------


@pytest.mark.parametrize(('page_size', 'max_rows', 'asked'), [
    (50_000, 50_000, ['page 1']), (12, 50_000, ['page 1', 'count']),
    (5, 50_000, ['page 1', 'count', 'page 2', 'page 3']), (6, 12, ['page 1', 'count', 'page 2']),
    (13, 12, ['page 1', 'count'])])
def test_pages(serve, page_size, max_rows, asked):
    mast = serve(Archive.synthetic(13))  # one of them is a spectrum
    table = criteria({'project': 'HST', 'pagesize': page_size}, max_rows=max_rows)
    assert table['obsid'].tolist() == [row['obsid'] for row in mast.archive.rows
                                       if row['dataproduct_type'] == 'image']
    assert [query.removeprefix('Mast.Caom.Filtered ').partition(' project')[0].partition(' data')[0]
            for query in mast.queries] == asked


@pytest.mark.parametrize('max_rows', [7, 5, 1, 0, -1])
def test_too_many_rows(mast, max_rows):
    with pytest.warns(IncompleteQueryWarning, match=rf'MAST has 11 such rows: only the first '
                      rf'{max(1, max_rows)} .*conf.mast_max_rows'):
        table = criteria({'project': 'HST', 'pagesize': 5}, max_rows=max_rows)
    assert len(table) == max(1, max_rows)
    assert len(set(table['obsid'])) == len(table)


def test_one_page_that_was_asked_for(mast):
    table = criteria({'project': 'HST', 'pagesize': 5, 'page': 3})
    assert len(table) == 1
    assert len(mast.queries) == 1


def test_pages_at_a_position(mast):
    table = criteria({'coordinates': ORION, 'radius': 1.0, 'pagesize': 4})
    assert len(set(table['obsid'])) == len(table) == 11
    assert [query.split()[:2] for query in mast.queries] == [
        ['Mast.Caom.Filtered.Position', 'page'], ['Mast.Caom.Filtered.Position', 'count'],
        *[['Mast.Caom.Filtered.Position', 'page']] * 2]


def test_names_of_our_own_arguments_are_no_criteria(mast):
    for name in ('max_rows', 'observations'):
        with pytest.raises(InvalidQueryError, match=name):
            criteria({name: 3})


# ---- bad moments -------------------------------------------------------------------------


@pytest.mark.parametrize('fault', ['status:503*1', 'status:504*1', 'status:429:0*1', 'status:500*1',
                                   'reset*1', 'cut*1', 'executing*2'])
def test_passing_trouble_of_the_portal(mast, fault):
    mast.faults['page'] = fault
    assert len(criteria({'project': 'HST'})) == 11


@pytest.mark.parametrize(('fault', 'reason', 'tries'), [
    ('status:503', 'HTTP 503', 2), ('status:400', 'HTTP 400', 1), ('status:429:60', 'HTTP 429', 1),
    ('reset', 'broken connection', 2), ('hang', 'no answer in time', 1),
    ('html', 'its answer makes no sense', 1), ('empty', 'its answer makes no sense', 1),
    ('error', 'Query timeout', 1)])
def test_lasting_trouble_of_the_portal(mast, quick, fault, reason, tries):
    # In good health so far: what is asked next is the page that fails.
    criteria({'project': 'HST'})
    mast.clear()
    mast.faults['page'] = fault
    started = time.monotonic()
    with (conf.set_temp('mast_timeout', 0.5 if fault == 'hang' else 30),
          pytest.raises(RemoteServiceError, match=reason)):
        criteria({'project': 'HST'})
    assert time.monotonic() - started < 20
    until(lambda: len(mast.queries) >= tries)  # it may read a request when its sender has gone
    assert len(mast.queries) == tries


def test_retries_are_those_of_the_settings(mast):
    mast.faults['page'] = 'status:503'
    for retries in (0, 1):
        mast.clear()
        with conf.set_temp('retries', retries), pytest.raises(RemoteServiceError, match='HTTP 503'):
            criteria({'project': 'HST'})
        assert len(mast.queries) == retries + 1


def test_stalled_answer(mast):
    mast.faults['page'] = 'drip:60'
    with (conf.set_temp('mast_timeout', 1), conf.set_temp('retries', 0),
          pytest.raises(RemoteServiceError, match='broken connection')):
        criteria({'project': 'HST'})


def test_no_server(mast):
    mast.close()
    with pytest.raises(RemoteServiceError, match=r'MAST does not answer \(it cannot be reached\)'):
        criteria({'project': 'HST'})


def test_unknown_columns_configuration(mast, quick):
    mast.faults['columnsconfig'] = 'status:503'
    with pytest.raises(RemoteServiceError, match='HTTP 503'):
        criteria({'project': 'HST'})
    mast.faults.clear()
    assert len(criteria({'project': 'HST'})) == 11


def test_columns_configuration_that_is_not_there(mast, quick):
    mast.faults['columnsconfig'] = 'nothing*1'  # as MAST does in trouble
    assert len(criteria({'project': 'HST'})) == 11
    mast.faults['columnsconfig'] = 'nothing'
    with pytest.raises(RemoteServiceError, match='makes no sense'):
        criteria({'coordinates': ORION, 'radius': 1})


def test_one_query_at_a_time(mast):
    class Mine(ObservationsClass):
        in_flight = 0

        def query_criteria(self, **filters):
            Mine.in_flight += 1
            time.sleep(0.02)
            at_once.append(Mine.in_flight)
            Mine.in_flight -= 1
            return super().query_criteria(**filters)

    at_once, mine = [], Mine()
    with ThreadPoolExecutor(4) as pool:
        tables = list(pool.map(lambda _: criteria({'project': 'HST'}, observations=mine),
                               range(8)))
    assert at_once == [1] * 8
    assert {len(table) for table in tables} == {11}


FORK = """
import os
from astroclip_search.archives import mast

with mast._one_at_a_time:  # as of another thread, which the child does not have
    child = os.fork()
    if child == 0:
        os._exit(0 if mast._one_at_a_time.acquire(timeout=9) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system has no fork')
def test_a_fork_in_the_middle_of_a_query():
    subprocess.run([sys.executable, '-c', FORK], check=True, timeout=60)


def test_astroquery_is_left_as_it_was(mast):
    before = dict(Observations._session.adapters)
    criteria({'project': 'HST'})
    assert dict(Observations._session.adapters) == before


@pytest.mark.parametrize(('part', 'n_rows'), [('count', 5), ('page 2', 5), ('page 3', 10)])
def test_what_has_arrived_is_kept(mast, quick, part, n_rows):
    mast.faults[part] = 'status:500'
    with pytest.warns(IncompleteQueryWarning, match=rf'Only the first {n_rows} rows .*HTTP 500'):
        table = criteria({'project': 'HST', 'pagesize': 5})
    assert len(table) == n_rows


def test_rows_that_vanish_between_pages(mast):
    mast.faults['page 3'] = 'vanish'
    assert len(criteria({'project': 'HST', 'pagesize': 5})) == 10


def test_one_of_several_word_queries_fails(sky, quick):
    sky.faults['%protoplanetar%'] = 'status:503'
    with pytest.warns(IncompleteQueryWarning, match='2 of 4 queries to MAST failed.*HTTP 503'):
        table, selection = search_words('protoplanetary disk', {'calib_level': [3]}, max_rows=10)
    assert selection == 'MAST rows with obs_title=*disk*'
    assert len(table) == 3


def test_no_more_is_asked_of_a_dead_server(sky, quick):
    sky.faults['Mast.Caom'] = 'status:503'
    with pytest.raises(RemoteServiceError, match='HTTP 503'):
        search_words('red protoplanetary disk', {}, max_rows=10)
    assert len(sky.queries) == 4  # two queries, twice


def test_failed_queries_are_no_reason_to_say_that_there_is_nothing(sky, quick):
    sky.faults['%disk%'] = 'status:503'
    with pytest.raises(RemoteServiceError, match='HTTP 503'):
        search_words('disk quasar', {}, max_rows=10)


def test_resolver(sky, quick):
    assert resolve('M42').ra.deg == pytest.approx(83.6)
    with pytest.raises(ResolverError):
        resolve('no such thing')
    assert resolve('M42', resolver='SIMBAD').ra.deg == pytest.approx(83.6)
    sky.close()
    with pytest.raises(RemoteServiceError, match='cannot be reached'):
        resolve('M42')


# ---- who asks ----------------------------------------------------------------------------


def test_credentials_are_those_of_the_instance(serve):
    mast = serve(token='s3cret')
    assert credentials() == {}
    assert credentials(object()) == {}
    mine = ObservationsClass(mast_token='s3cret')
    assert credentials(mine) == {mast.url[7:]: {'Cookie': 'mast_token=s3cret'}}
    mine.logout()
    assert credentials(mine) == {}


def test_the_token_is_for_the_host_of_the_login(serve):
    mine = ObservationsClass(mast_token=serve(token='s3cret').token)
    elsewhere = serve()  # downloads and the portal are there from now on
    assert credentials(mine) == {}
    criteria({'project': 'HST'}, observations=mine)
    resolve('M42', mine)
    assert elsewhere.tokens == []


def test_the_token_does_not_follow_a_redirect(serve):
    vault = serve(token='s3cret')
    mine = ObservationsClass(mast_token='s3cret')
    with Mast() as stranger, conf.set_temp('private_hosts', [stranger.url[7:]]):
        vault.faults['page'] = f'redirect:{stranger.url}/api/v0/invoke'
        with pytest.raises(RemoteServiceError):
            criteria({'project': 'HST'}, observations=mine)
        assert len(stranger.log) == 1
        assert stranger.tokens == []
    assert 'Mast.Caom.Filtered' in [what for what, token in vault.tokens]


def test_no_server_can_set_the_token(mast):
    mine = ObservationsClass()
    mine._session.cookies.set('mast_token', 'planted', domain='127.0.0.1')
    assert credentials(mine) == {}


def test_netrc_is_not_read(mast, monkeypatch, tmp_path):
    (tmp_path / 'netrc').write_text('default login me password secret\n')
    monkeypatch.setenv('NETRC', str(tmp_path / 'netrc'))
    sent = []
    send = requests.adapters.HTTPAdapter.send
    monkeypatch.setattr(requests.adapters.HTTPAdapter, 'send', lambda self, request, **options: (
        sent.append(dict(request.headers)), send(self, request, **options))[1])
    criteria({'project': 'HST'})
    resolve('M42')
    assert len(sent) >= 2
    assert not any('Authorization' in headers for headers in sent)
    assert Observations._session.trust_env is True


# ---- answers that make no sense ----------------------------------------------------------


def answer(fields, rows, **more):
    fields = [{'name': name, 'type': kind} for name, kind in fields]
    return json.dumps({'status': 'COMPLETE', 'msg': '', 'fields': fields, 'data': rows, **more})


ODD = ['[' * 100_000, '9' * 5000, '[]', '5', 'null', 'NaN', '{"status": [1], "data": 3}',
       '{"status": "COMPLETE", "fields": 5, "data": 6}', '{"status": "ERROR", "msg": [5]}',
       answer([('a', 'string')], [1, 2]), answer([('a', 'string')], [{'a': [1]}, {'a': [2]}]),
       answer([(5, 'string')], []), answer([('a', 'int')], [{'a': 10**30}]),
       answer([('a', 'int')], [{'a': 'x'}]), answer([('a', 'double')], [{'a': 'x'}]),
       answer([('a', 'unsignedbyte')], [{'a': 5000}]),
       answer([('a', 'string')], [{'a': 'x' * 200_000}, *[{}] * 6000]),
       answer([(f'a{i}', 'string') for i in range(3000)], [{}] * 20_000)]


@pytest.mark.parametrize('text', ODD, ids=range(len(ODD)))
def test_an_answer_that_makes_no_sense(mast, quick, text):
    mast.faults['page'] = f'answer:{text}'
    with pytest.raises(RemoteServiceError) as caught:
        criteria({'project': 'HST'})
    assert len(str(caught.value)) < 400
    mast.faults.clear()
    assert len(criteria({'project': 'HST'})) == 11


def test_columns_of_a_kind_that_nobody_knows_are_text(mast):
    mast.faults['page'] = 'answer:' + answer([('a', 'x99'), ('b', 'Double')], [{'a': 5, 'b': 1.5}])
    table = criteria({'project': 'HST'})
    assert (table['a'][0], table['b'][0]) == ('5', 1.5)


@pytest.mark.parametrize('text', ['[1]', '{"a": 5}', '[' * 100_000, '9' * 5000, '{"a": {}}',
                                  '{"dataproduct_type": {"separator": {}}}',
                                  '{"dataproduct_type": {"type": "double"}}'])
def test_columns_that_make_no_sense_are_asked_for_again(mast, quick, text):
    mast.faults['columnsconfig'] = f'answer:{text}'
    with pytest.raises(RemoteServiceError, match='makes no sense'):
        criteria({'project': 'HST'})
    mast.faults.clear()
    assert len(criteria({'project': 'HST'})) == 11


def test_columns_that_lack_what_the_user_wants_are_asked_for_again(mast, quick):
    mast.faults['columnsconfig'] = 'answer:{"dataproduct_type": {"type": "string"}}'
    with pytest.raises(InvalidQueryError, match='project'):
        criteria({'project': 'HST'})
    mast.faults.clear()
    assert len(criteria({'project': 'HST'})) == 11


@pytest.mark.parametrize('found', ['5', '[5]', '[{"searchString": "m42"}]', '[' * 100_000, *(
    f'[{{"searchString": "m42", "resolver": "NED", "ra": {ra}, "decl": {dec}}}]' for ra, dec in [
        ('"x"', '"y"'), ('1e300', '999'), ('NaN', '1'), ('9' * 400, '1'), ('[1, 2]', '[1, 2]'),
        ('null', 'null')])])
def test_a_position_that_is_none(mast, quick, found):
    mast.faults['Santa'] = f'answer:{{"resolvedCoordinate": {found}}}'
    with pytest.raises(RemoteServiceError, match='makes no sense'):
        resolve('M42')


def test_a_count_and_a_page_that_make_no_sense(mast, quick):
    mast.faults['count'] = 'answer:' + answer([('a', 'double')], [{'a': float('nan')}])
    with pytest.warns(IncompleteQueryWarning, match='Only the first 5 rows'):
        assert len(criteria({'project': 'HST', 'pagesize': 5})) == 5
    mast.faults = {'page 2': 'answer:' + answer([('obsid', 'double')], [{'obsid': 1.5}])}
    with pytest.warns(IncompleteQueryWarning, match='Only the first 5 rows .* fit together'):
        assert len(criteria({'project': 'HST', 'pagesize': 5})) == 5


@pytest.mark.parametrize(('what', 'fault'), [
    ('page', 'drip'), ('page', 'drip-header'), ('page', 'executing'), ('columnsconfig', 'hang'),
    ('Santa', 'hang')])
def test_a_query_ends_when_its_time_is_over(mast, what, fault):
    criteria({'project': 'HST'})
    if what == 'columnsconfig':
        Observations._portal_api_connection._column_configs.clear()
    mast.faults[what] = fault
    started = time.monotonic()
    with (conf.set_temp('query_timeout', 0.4),
          pytest.raises(RemoteServiceError, match=r'it took longer than 0\.4 s')):
        criteria({'project': 'HST', 'objectname': 'M42'})
    assert time.monotonic() - started < 4


def test_a_redirect_that_leads_nowhere(mast, quick):
    for target in ('http://[::1', 'http://127.0.0.1:99999/', 'file:///etc/hostname'):
        mast.faults['page'] = f'redirect:{target}'
        with pytest.raises(RemoteServiceError, match='makes no sense'):
            criteria({'project': 'HST'})
    mast.faults['page'] = 'redirect:http://127.0.0.1:1/'
    with pytest.raises(RemoteServiceError, match='is a private address'):
        criteria({'project': 'HST'})
