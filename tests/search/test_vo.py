# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Queries to services of the Virtual Observatory, from the question to the ranked table.
"""

import contextlib
import functools
import gzip
import io
import re
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astroquery.exceptions import (
    InvalidQueryError,
    RemoteServiceError,
    TimeoutError,  # noqa: A004 - the one of astroquery is what a user catches
)
from pyvo import dal

from astroclip_search import ClipSearch, conf
from astroclip_search.archives import hips
from astroclip_search.exceptions import (
    IncompleteQueryWarning,
    NothingRankedWarning,
    UnreadImagesWarning,
)
from tests.colours import ColourEncoder, content, shaded
from tests.loopback.vo import Dataset, Vo, votable

CENTRE = SkyCoord(10 * u.deg, -5 * u.deg)
ALL = 'SELECT * FROM ivoa.obscore'


def image_of(colour):
    """A FITS file and a JPEG; the former is grey, and bright or dark."""
    data = np.zeros((32, 32), np.float32)
    data[8:24, 8:24] = 1
    hdu = fits.PrimaryHDU(data)
    return {'jpg': content(colour, 'JPEG'), 'fits': as_bytes(hdu)}


def as_bytes(hdu):
    stream = io.BytesIO()
    hdu.writeto(stream)
    return stream.getvalue()


def dataset(name, colour='red', **options):
    return Dataset(name, title=f'A {colour} field', files=image_of(colour), **options)


@pytest.fixture
def vo():
    """A data centre with a red, a green and a blue image near the centre, and one far away."""
    with Vo([dataset('r', 'red'), dataset('g', 'green', ra=10.01), dataset('b', 'blue', dec=-5.01),
             dataset('far', 'blue', ra=90.0)]) as centre:
        yield centre


@pytest.fixture
def search(tmp_path):
    return ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')


@pytest.fixture(autouse=True)
def _patience():
    with conf.set_temp('retries', 0):
        yield


# ---- SIA ---------------------------------------------------------------------------------


def test_sia2(search, vo):
    best = search.query_sia('blue', service=f'{vo.url}/sia2', pos=CENTRE, radius=0.1 * u.deg,
                            by='image')
    assert best['target_name'].tolist()[0] == 'b'
    assert set(best['clip_status']) == {'OK'}
    assert len(best) == 3
    assert best['clip_source'][0] == vo.file(vo.datasets[2], 'jpg')
    assert best.meta['clip']['selection'] == (
        f'images of {vo.url}/sia2 within 0.1 deg of 00h40m00.0s -05d00m00.0s')
    # One query, after a look at the capabilities; one request for all links; each image once.
    assert vo.requests() == {'GET /sia2/capabilities': 1, 'GET /sia2/query': 1, 'POST /links': 1,
                             **{f'GET /files/{name}.jpg': 1 for name in 'rgb'}}
    # Nothing is fetched twice.
    vo.log.clear()
    again = search.query_sia('green', service=f'{vo.url}/sia2/query', pos=(10, -5, 0.1))
    assert again['target_name'][0] == 'g'
    assert vo.requests()['GET /sia2/query'] == 1
    assert not [path for _, path, _ in vo.log if path.startswith(('/links', '/files'))]


def test_user_agent(search, vo):
    search.query_sia('blue', service=f'{vo.url}/sia2', pos=CENTRE)
    assert len(vo.agents) == 2
    for agent in vo.agents:
        assert re.fullmatch(r'astroclip_search/\S+( \S+/\S+)*( \([^)]*\))*', agent), agent


def test_parameters_of_sia2(search, vo):
    search.query_sia('blue', service=f'{vo.url}/sia2/query', pos=CENTRE.galactic,
                     radius='6 arcmin', band=(500, 600) * u.nm, time=Time('2020-01-01'),
                     collection=['VO', 'HST'], maxrec=50, criteria={'instrument': 'ACS'}, limit=1)
    asked, = [parameters for _, path, parameters in vo.log if path == '/sia2/query']
    shape, ra, dec, radius = asked.pop('POS')[0].split()
    np.testing.assert_allclose([float(ra), float(dec), float(radius)], [10, -5, 0.1])
    assert shape == 'CIRCLE'
    low, high = map(float, asked.pop('BAND')[0].split())
    np.testing.assert_allclose([low, high], [5e-7, 6e-7])
    assert asked.pop('TIME')[0].split()[0].startswith('58849')
    assert asked == {'COLLECTION': ['VO', 'HST'], 'INSTRUMENT': ['ACS'], 'MAXREC': ['50']}


@pytest.mark.parametrize('kind', [dal.SIA2Service, dal.SIAService])
def test_services_of_pyvo(search, vo, kind):
    if kind is dal.SIA2Service:
        service = kind(f'{vo.url}/sia2/query', check_baseurl=False)
    else:
        service = kind(f'{vo.url}/sia1')
    best = search.query_sia('blue', service=service, pos=CENTRE, radius=0.1 * u.deg, by='image',
                            limit=1)
    assert best['clip_source'][0] == vo.file(vo.datasets[2], 'jpg')


def test_sia1(search, vo):
    # A JPEG and a FITS file of each image: each row stands by itself.
    best = search.query_sia('blue', service=f'{vo.url}/sia1', version=1, pos=CENTRE,
                            radius=0.1 * u.deg, by='image')
    assert len(best) == 6
    assert best['accref'][0] == vo.file(vo.datasets[2], 'jpg')
    assert set(best['clip_status']) == {'OK'}
    asked, = [parameters for _, path, parameters in vo.log if path == '/sia1']
    assert (asked['POS'], asked['SIZE']) == (['10.0,-5.0'], ['0.2'])


def test_sia1_by_mistake(search, vo):
    with pytest.raises(InvalidQueryError, match=r'POS and SIZE.*pass version=1\.$'):
        search.query_sia('blue', service=f'{vo.url}/sia1', pos=CENTRE)


@pytest.mark.parametrize(('options', 'message'), [
    ({'pos': CENTRE, 'band': 5 * u.um}, 'SIA1 has no band'),
    ({}, 'a position and a radius'), ({'pos': (1, 2, 3, 4)}, 'a position and a radius')])
def test_what_sia1_cannot_do(search, vo, options, message):
    with pytest.raises(InvalidQueryError, match=message):
        search.query_sia('blue', service=f'{vo.url}/sia1', version=1, **options)


@pytest.mark.parametrize(('options', 'message'), [
    ({'pos': (1, 2, 3), 'radius': 1 * u.deg}, 'A radius needs a position'),
    ({'radius': 1 * u.deg}, 'A radius needs a position'),
    ({'pos': CENTRE, 'radius': 'far'}, 'is not an angle'),
    ({'pos': ('a', 'b', 1)}, 'no circle'), ({'pos': (1, 2, 3, 4, 5)}, 'makes no sense'),
    ({'pos': CENTRE, 'band': 5 * u.kg}, 'makes no sense'),
    ({'coordinates': CENTRE}, "no option 'coordinates'"), ({'version': 3}, 'version must be'),
    ({'text': ''}, 'text has no word'), ({'limit': -1}, 'limit must be'),
    ({'service': 'ivo://a/b'}, 'http or https'), ({'service': 7}, 'http or https'),
    ({'service': 'http://['}, 'http or https'), ({'service': Vo}, 'http or https')])
def test_bad_questions_ask_nobody(search, vo, options, message):
    options = {'service': f'{vo.url}/sia2/query', 'text': 'blue', **options}
    with pytest.raises(InvalidQueryError, match=message):
        search.query_sia(**options)
    assert not [path for _, path, _ in vo.log if path == '/sia2/query']


def test_regions_of_pyvo(search, vo):
    with pytest.raises(InvalidQueryError, match=r'does not accept the query: .*no RANGE'):
        search.query_sia('blue', service=f'{vo.url}/sia2', pos=(9, 11, -6, -4) * u.deg)
    best = search.query_sia('blue', service=f'{vo.url}/sia2', pos=(CENTRE, 0.1 * u.deg))
    assert len(best) == 3


def test_answer_that_is_cut_short(search, vo):
    rows = [vo.obscore(item) for item in vo.datasets[:2]]
    vo.faults = {'/sia2/query': (200, {}, votable(rows, list(rows[0]), status='OVERFLOW'))}
    with pytest.warns(IncompleteQueryWarning, match=r'more rows than the 2 that it sent') as caught:
        best = search.query_sia('blue', service=f'{vo.url}/sia2', maxrec=3)
    assert len(best) == 2
    assert [(warning.category, warning.filename) for warning in caught] == [
        (IncompleteQueryWarning, __file__)]


@pytest.mark.parametrize('n', [0, 1, 2, np.int64(2)])
def test_as_many_rows_as_were_asked_for(search, vo, n):
    for ask in (functools.partial(search.query_sia, service=f'{vo.url}/sia2'),
                functools.partial(search.query_tap, query=ALL, service=f'{vo.url}/tap')):
        with contextlib.nullcontext() if n else pytest.warns(NothingRankedWarning):
            assert len(ask('blue', maxrec=n)) == n
    for wrong in (-1, 1.5, 'many'):
        with pytest.raises(InvalidQueryError, match='maxrec must be a whole number'):
            search.query_tap('blue', ALL, service=f'{vo.url}/tap', maxrec=wrong)


@pytest.mark.parametrize('answer', [
    b'<html><body>Welcome</body></html>', b'{"status": "ok"}', b'', b'<?xml version="1.0"?><a/>',
    b'\xff\xfe\x00', b'<VOTABLE xmlns="http://www.ivoa.net/xml/VOTable/v1.3" version="1.4"/>'])
def test_capabilities_that_are_none(search, vo, answer):
    vo.faults = {'/sia2/query/capabilities': (200, {}, answer)}
    best = search.query_sia('blue', service=f'{vo.url}/sia2/query', maxrec=2)
    assert best['clip_status'].tolist() == ['OK', 'OK']


def test_limit_of_the_service_itself(search, vo):
    rows = [vo.obscore(item) for item in vo.datasets[:1]]
    answer = votable(rows, list(rows[0]), status='OVERFLOW')
    vo.faults = dict.fromkeys(['/tap/sync', '/sia2/query'], (200, {}, answer))
    for ask in (ask_sia, ask_tap):
        with pytest.warns(IncompleteQueryWarning, match='more rows than the 1 ') as caught:
            assert len(ask(search, vo.url)) == 1
        assert [warning.category for warning in caught] == [IncompleteQueryWarning]


def test_nothing_found(search, vo):
    with pytest.warns(NothingRankedWarning, match='table is empty'):
        best = search.query_sia('blue', service=f'{vo.url}/sia2', pos=(200.0, 0.0, 0.1))
    assert len(best) == 0
    assert 'clip_rank' in best.colnames


# ---- TAP ---------------------------------------------------------------------------------


def test_tap(search, vo):
    best = search.query_tap('green', ALL, service=f'{vo.url}/tap', by='image', limit=2)
    assert best['target_name'][0] == 'g'
    assert len(best) == 2
    assert best.meta['clip']['selection'] == f'rows of {vo.url}/tap for {ALL}'
    asked = next(parameters for _, path, parameters in vo.log if path == '/tap/sync')
    assert (asked['QUERY'], asked['LANG']) == ([ALL], ['ADQL'])


def test_tap_with_a_table_of_ones_own(search, vo):
    own = Table({'ra': [10.0], 'dec': [-5.0]})
    search.query_tap('green', ALL, service=dal.TAPService(f'{vo.url}/tap'), uploads={'own': own},
                     language='ADQL-2.1')
    asked = next(parameters for _, path, parameters in vo.log if path == '/tap/sync')
    assert asked['LANG'] == ['ADQL-2.1']
    assert 'own' in asked['UPLOAD'][0]
    assert any('VOTABLE' in values[0] for values in asked.values())


def test_tap_errors(search, vo):
    with pytest.raises(InvalidQueryError, match="accept the query: ParseError at 'SELEKT"):
        search.query_tap('green', 'SELEKT *', service=f'{vo.url}/tap')
    with pytest.raises(InvalidQueryError, match='query must be ADQL'):
        search.query_tap('green', ' ', service=f'{vo.url}/tap')
    with pytest.raises(InvalidQueryError, match="no option 'maxrecs'"):
        search.query_tap('green', ALL, service=f'{vo.url}/tap', maxrecs=3)


# ---- services that fail ------------------------------------------------------------------


def ask_sia(search, url):
    return search.query_sia('blue', service=f'{url}/sia2/query', pos=CENTRE)


def ask_tap(search, url):
    return search.query_tap('blue', ALL, service=f'{url}/tap')


@pytest.mark.parametrize('ask', [ask_sia, ask_tap])
@pytest.mark.parametrize(('fault', 'error', 'message'), [
    ((500, {'Content-Type': 'text/plain'}, b'out of order'), RemoteServiceError,
     'failed with HTTP 500: '),
    ((404, {}, b''), RemoteServiceError, 'failed with HTTP 404: '),
    ((429, {'Retry-After': '7'}, b''), RemoteServiceError,
     r'HTTP 429\): come back (in 7 s|later)\.'),  # the former since pyvo 1.8.1
    ((429, {}, b''), RemoteServiceError, 'come back later'),
    ((200, {}, b'<html>Down</html>'), RemoteServiceError, 'failed: '),
    ((200, {}, b''), RemoteServiceError, 'failed: '),
    ((200, {}, votable([], [], status='ERROR', message='no such column\n x')), InvalidQueryError,
     'does not accept the query: no such column x'),
    ((200, {}, b'<?xml version="1.0"?><!DOCTYPE V [<!ENTITY a "b">]><VOTABLE/>'),
     RemoteServiceError, 'failed: '),
    ((302, {'Location': '/nowhere'}, b''), RemoteServiceError, 'failed with HTTP 404: '),
])
def test_bad_answers(search, vo, ask, fault, error, message):
    vo.faults = dict.fromkeys(['/sia2/query', '/tap/sync'], fault)
    with pytest.raises(error, match=message) as caught:
        ask(search, vo.url)
    assert str(caught.value).startswith(vo.url)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('ask', [ask_sia, ask_tap])
@pytest.mark.parametrize('status', [200, 400])
@pytest.mark.parametrize('pack', [bytes, gzip.compress, lambda body: body.decode().replace(
    'UTF-8', 'UTF-16').encode('utf-16')], ids=['plain', 'packed', 'utf-16'])
def test_answers_that_have_their_rows_elsewhere(search, vo, ask, status, pack):
    elsewhere = f'<BINARY><STREAM href="{vo.url}/files/r.jpg"/></BINARY>'.encode()
    body = re.sub(b'<TABLEDATA>.*</TABLEDATA>', elsewhere,
                  votable([{'access_url': 'a'}], ['access_url']), flags=re.DOTALL)
    assert elsewhere in body
    vo.faults = dict.fromkeys(['/sia2/query', '/tap/sync'], (status, {}, pack(body)))
    with pytest.raises(RemoteServiceError, match='has its rows elsewhere' if status == 200
                       else 'failed with HTTP 400'):
        ask(search, vo.url)
    assert not [path for _, path, _ in vo.log if path.startswith('/files')]


@pytest.mark.parametrize('ask', [ask_sia, ask_tap])
def test_answers_that_announce_more_than_they_have(search, vo, ask):
    body = votable([{'access_url': f'{vo.url}/files/r.jpg', 'access_format': 'image/jpeg'}],
                   ['access_url', 'access_format'])
    assert b'<TABLE>' in body
    vo.faults = dict.fromkeys(['/sia2/query', '/tap/sync'],
                              (200, {}, body.replace(b'<TABLE>', b'<TABLE nrows="2000000000">')))
    assert ask(search, vo.url)['clip_status'].tolist() == ['OK']
    vo.faults = dict.fromkeys(vo.faults, (200, {}, body.replace(b'arraysize="*"',
                                                                b'arraysize="90000000"')))
    with pytest.raises(RemoteServiceError, match='its columns are of excessive size: ask for'):
        ask(search, vo.url)


def test_capabilities_that_may_not_be_read(search, vo):
    vo.faults['/sia2/query/capabilities'] = (
        200, {}, b'<!DOCTYPE a [<!ENTITY b "c">]><capabilities>&b;</capabilities>')
    assert len(search.query_sia('blue', service=f'{vo.url}/sia2/query', pos=CENTRE)) == 3


@pytest.mark.parametrize('ask', [ask_sia, ask_tap])
def test_nobody_there(search, ask):
    with pytest.raises(RemoteServiceError, match=r'^http://127.0.0.1:9/\S+ cannot be reached'):
        ask(search, 'http://127.0.0.1:9')


@pytest.mark.parametrize('ask', [ask_sia, ask_tap])
def test_no_answer_in_time(search, vo, ask):
    # The header announces bytes that never come.
    fault = (200, {'Content-Length': '1000', 'Content-Type': 'text/xml'}, b'<?xml version="1.0"?>')
    vo.faults = dict.fromkeys(['/sia2/query', '/tap/sync'], fault)
    with conf.set_temp('timeout', 0.3), pytest.raises(TimeoutError, match='did not answer in time'):
        ask(search, vo.url)


def test_a_query_is_tried_again_where_that_helps(search, vo):
    class Once(dict):
        """Each fault strikes once."""

        def get(self, key, default=None):
            return self.pop(key, default)

    vo.faults = Once({'/sia2/query': (503, {}, b'')})
    with conf.set_temp('retries', 1):
        assert len(ask_sia(search, vo.url)) == 3
    vo.faults = Once({'/tap/sync': (503, {}, b'')})  # a POST is not
    with conf.set_temp('retries', 1), pytest.raises(RemoteServiceError, match='503'):
        ask_tap(search, vo.url)


def test_password_is_not_shown(search):
    with pytest.raises(RemoteServiceError) as caught:
        search.query_tap('blue', ALL, service='http://me:secret@127.0.0.1:9/tap')
    assert 'secret' not in str(caught.value)


# ---- rows that fail, and where else images come from ---------------------------------------


def test_service_of_links_that_is_down(search, vo):
    vo.faults['/links'] = (503, {}, b'')
    vo.datasets.append(dataset('direct', 'blue', access='jpg'))
    with pytest.warns(UnreadImagesWarning, match='4 of 5'):
        best = search.query_tap('blue', ALL, service=f'{vo.url}/tap', by='image')
    assert best['target_name'][0] == 'direct'
    assert sorted(best['clip_status']) == ['ERROR'] * 4 + ['OK']
    assert set(best['clip_message'][1:]) == {'HTTP 503'}
    vo.faults.clear()  # failures are not kept
    assert set(search.query_tap('blue', ALL, service=f'{vo.url}/tap')['clip_status']) == {'OK'}


def test_fits_that_is_left_when_links_are_down(search, vo):
    vo.faults['/links'] = (503, {}, b'')
    vo.datasets[:] = [dataset('a', access='fits')]
    best = search.query_tap('red', ALL, service=f'{vo.url}/tap')
    assert best['clip_source'].tolist() == [vo.file(vo.datasets[0], 'fits')]


def test_cutouts_around_the_position(search, vo):
    for item in vo.datasets:
        del item.files['jpg']
    where = SkyCoord(10.005 * u.deg, -5 * u.deg)
    best = search.query_sia('red', service=f'{vo.url}/sia2', pos=where, radius=0.02 * u.deg)
    assert set(best['clip_status']) == {'OK'}
    for row in best:
        asked = parse_qs(urlsplit(row['clip_source']).query)
        assert urlsplit(row['clip_source']).path == '/soda'
        assert asked['CIRCLE'] == ['10.005 -5.0 0.02']
    best = search.query_tap('red', ALL, service=f'{vo.url}/tap')  # no position: the centre of each
    assert {parse_qs(urlsplit(row['clip_source']).query)['CIRCLE'][0] for row in best} == {
        '10.0 -5.0 0.025', '10.01 -5.0 0.025', '10.0 -5.01 0.025', '90.0 -5.0 0.025'}


def test_cutouts_of_tap_around_a_position(search, vo):
    del vo.datasets[0].files['jpg'], vo.datasets[1:]
    best = search.query_tap('red', ALL, service=f'{vo.url}/tap',
                            cutout=(CENTRE, '0.02 deg'))
    assert parse_qs(urlsplit(best['clip_source'][0]).query)['CIRCLE'] == ['10.0 -5.0 0.01']


def test_cutout_outside_of_the_image(search, vo):
    vo.datasets[:] = [dataset('a')]
    del vo.datasets[0].files['jpg']
    vo.faults['/soda'] = (204, {}, b'')
    with pytest.warns(NothingRankedWarning, match='HTTP 204'):
        best = search.query_tap('red', ALL, service=f'{vo.url}/tap', cutout=(CENTRE, None))
    assert best['clip_status'].tolist() == ['NO_IMAGE']


def test_sky_context(search, vo, monkeypatch):
    monkeypatch.setattr(hips, 'SERVER', f'{vo.url}/files/r.jpg')
    vo.datasets[:] = [dataset('r', access='jpg'), dataset('none', access='txt')]
    vo.describes_links = False
    best = search.query_tap('red', ALL, service=f'{vo.url}/tap', sky_context='CDS/P/DSS2/color',
                            fold_duplicates=False)
    assert set(best['clip_status']) == {'OK'}
    message = dict(zip(best['target_name'], best['clip_message'], strict=True))
    assert message == {
        'r': '', 'none': 'sky context from CDS/P/DSS2/color, not the observation'}


def test_many_rows_take_few_requests(search):
    with Vo([dataset(f'n{i}') for i in range(200)]) as vo:
        best = search.query_tap('red', ALL, service=f'{vo.url}/tap')
        assert set(best['clip_status']) == {'OK'}
        assert vo.requests()['POST /links'] == 2
        assert vo.requests()['GET /links'] == 0
        assert max(vo.requests().values()) == 2
        vo.log.clear()
        search.rank(dal.TAPService(f'{vo.url}/tap').run_sync(ALL), 'red')
        assert vo.requests() == {'POST /tap/sync': 1}


def test_pictures_of_a_result_that_is_not_ranked(search, vo):
    vo.datasets[3].links = [{'semantics': '#auxiliary'}]
    results = dal.TAPService(f'{vo.url}/tap').run_sync(ALL)
    urls = search.get_image_urls(results)
    assert urls['clip_source'][0].startswith(f'datalink:{vo.url}/links?ID=')
    assert vo.requests() == {'POST /tap/sync': 1}
    images = search.get_images(results)
    assert [image and image.getpixel((8, 8)).index(max(image.getpixel((8, 8))))
            for image in images] == [0, 1, 2, None]
    assert vo.requests()['POST /links'] == 1
    # What a ranking has found out is not asked again.
    search.rank(dal.TAPService(f'{vo.url}/tap').run_sync(ALL), 'red', limit=3)
    vo.log.clear()
    assert len(search.get_images(results, limit=3)) == 3
    assert vo.requests() == {f'GET /files/{name}.jpg': 1 for name in 'rgb'}


def test_private_hosts_of_strangers_are_not_asked(search, vo):
    with Vo([dataset('inside')]) as inside:
        vo.datasets[:] = [dataset('r'), Dataset('s', links=[
            {'semantics': '#preview', 'content_type': 'image/jpeg',
             'access_url': f'{inside.url}/files/inside.jpg'}])]
        with pytest.warns(UnreadImagesWarning, match='1 of 2'):
            best = search.query_tap('red', ALL, service=f'{vo.url}/tap')
        assert inside.log == []
    assert 'conf.private_hosts' in best['clip_message'][1]


def test_examples_instead_of_a_text(search, vo):
    best = search.query_tap(None, ALL, service=f'{vo.url}/tap', limit=1,
                            like=shaded((0, 0, 255)))
    assert best['obs_title'][0] == 'A blue field'
