# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Searches against GAVO DaCHS, the server behind many archives of the Virtual Observatory.

First what DaCHS answers to pyvo alone, so that the tests of ClipSearch below may rely on it.
"""

import gc
import io
import re
import warnings
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
import pyvo
import requests
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from astroquery.exceptions import (
    InvalidQueryError,
    RemoteServiceError,
)

from astroclip_search import ClipSearch, conf
from astroclip_search.exceptions import (
    NothingRankedWarning,
    UnreadImagesWarning,
)
from tests.loopback.dachs.resource import CENTRE, KINDS, publish
from tests.loopback.dachs.server import Dachs, missing

pytestmark = [
    pytest.mark.dachs,
    # pyvo does not read its answers to their end, and leaves them to the garbage collector.
    pytest.mark.filterwarnings('ignore:unclosed <socket:ResourceWarning'),
]

MADE = "SELECT * FROM ivoa.obscore WHERE obs_collection = 'MADE'"
AROUND = SkyCoord(*CENTRE, unit='deg')


@pytest.fixture(scope='module')
def dachs():
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Dachs(publish) as dachs:
        yield dachs
    gc.collect()  # what pyvo has left must not warn in the tests of others


@pytest.fixture(scope='module')
def tap(dachs):
    return pyvo.dal.TAPService(dachs.tap)


@pytest.fixture(scope='module')
def sia2(dachs):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # pyvo does not know all of what DaCHS says of itself
        return pyvo.dal.SIA2Service(dachs.sia2)


@pytest.fixture(scope='module')
def sia1(dachs):
    return pyvo.dal.SIAService(dachs.sia1)


class TestServer:
    def test_obscore(self, tap):
        rows = tap.search(MADE).to_table()
        assert set(rows['target_name']) == set(KINDS)
        of = {row['target_name']: row for row in rows}
        assert of['plain']['preview'].endswith('plain.fits?preview=True')
        assert of['described']['preview'] == ''
        assert of['linked']['access_format'] == 'application/x-votable+xml;content=datalink'
        assert of['spectrum']['dataproduct_type'] == 'spectrum'

    def test_asynchronous_job(self, tap):
        rows = tap.run_async(f'{MADE} ORDER BY s_dec', delete=True)
        assert list(rows['target_name']) == list(KINDS)

    def test_upload(self, tap):
        places = Table({'number': [1, 2], 'ra': [CENTRE[0]] * 2,
                        'dec': [CENTRE[1] + 0.1, CENTRE[1] + 5]})
        rows = tap.search(
            'SELECT number, target_name FROM ivoa.obscore JOIN TAP_UPLOAD.places AS p '
            'ON 1 = CONTAINS(POINT(p.ra, p.dec), s_region)', uploads={'places': places})
        assert [tuple(row.values()) for row in rows] == [(1, 'described')]

    def test_sia2(self, sia2):
        found = sia2.search(pos=(AROUND, 1 * u.deg))
        assert set(found['target_name']) == set(KINDS) - {'spectrum'}
        assert found.status[0] == 'OK'

    def test_sia1(self, sia1):
        found = sia1.search(pos=AROUND, size=2 * u.deg)
        assert {row['object'] for row in found} == set(KINDS)
        assert all(row.acref.endswith(f'{row["object"]}.fits') for row in found)

    def test_datalink(self, sia1):
        found = sia1.search(pos=AROUND, size=2 * u.deg)
        links = {document.original_row['object']: {row.semantics: row for row in document}
                 for document in found.iter_datalinks()}
        assert set(links) == set(KINDS)
        assert '#preview' not in links['bare']
        preview = links['described']['#preview']
        assert preview.content_type == 'image/jpeg'
        assert requests.get(preview.access_url, timeout=60).content[:2] == b'\xff\xd8'
        assert requests.get(links['lost']['#preview'].access_url, timeout=60).status_code == 404

    def test_cutout(self, sia1):
        row = next(row for row in sia1.search(pos=AROUND, size=2 * u.deg)
                   if row['object'] == 'bare')
        stream = row.getdatalink().get_first_proc().process(circle=(*place('bare'), 0.01))
        cutout = fits.getdata(io.BytesIO(stream.read()))
        assert max(cutout.shape) < 100 < 200 == max(fits.getdata(row.acref, cache=False).shape)

    def test_proprietary(self, tap):
        rows = tap.search("SELECT access_url, preview FROM ivoa.obscore "
                          "WHERE target_name IN ('shared', 'closed')")
        assert [requests.get(row['access_url'], timeout=60).status_code
                for row in rows] == [401] * 2
        preview = next(row['preview'] for row in rows if row['preview'])
        assert requests.get(preview, timeout=60).headers['Content-Type'] == 'image/jpeg'


def place(kind):
    """The centre of an image, in degrees."""
    return CENTRE[0], CENTRE[1] + 0.1 * list(KINDS).index(kind)


def outcomes(ranked):
    """Status and source of each kind of row; a cutout without the rest of its address."""
    name = 'target_name' if 'target_name' in ranked.colnames else 'object'
    return {row[name]: (row['clip_status'], re.sub(r'^http://[^/]+/|ID=[^&]*&', '',
                                                   row['clip_source'])) for row in ranked}


def preview(kind):
    return f'getproduct/clip/data/{kind}.fits?preview=True'


PREVIEWS = {kind: ('OK', preview(kind)) for kind in ('plain', 'described', 'linked', 'shared')}

# How pyvo is asked for the same rows.
QUERIES = {
    'TAP': lambda services: services.tap.search(MADE),
    'asynchronous TAP': lambda services: services.tap.run_async(MADE, delete=True),
    'SIA2': lambda services: services.sia2.search(pos=(AROUND, 1 * u.deg)),
    'SIA1': lambda services: services.sia1.search(pos=AROUND, size=2 * u.deg),
}


@pytest.fixture(scope='module')
def services(tap, sia2, sia1):
    return SimpleNamespace(tap=tap, sia2=sia2, sia1=sia1)


class TestRank:
    @pytest.mark.parametrize('query', QUERIES)
    def test_result_of_pyvo(self, services, search, query):
        results = QUERIES[query](services)
        with pytest.warns(UnreadImagesWarning, match=f'2 of {len(results)} images'):
            ranked = search.rank(results, 'blue', by='image')
        found = outcomes(ranked)
        assert {kind: found[kind] for kind in PREVIEWS} == PREVIEWS
        assert found['closed'][0] == 'DENIED'
        assert found['bare'][0] == 'OK'
        assert found['bare'][1].startswith('clip/q/dl/dlget?CIRCLE=150.000')
        assert found['lost'] == ('ERROR', 'static/nothing.jpg')
        assert ranked['clip_source'][0].endswith(preview('linked'))  # the blue one
        assert set(ranked.colnames) >= set(results.to_table().colnames)

    def test_spectra_are_skipped(self, tap, search):
        results = tap.search(f"{MADE} AND target_name IN ('spectrum', 'plain')")
        ranked = search.rank(results, 'red', by='image')
        assert outcomes(ranked)['spectrum'][0] == 'SKIPPED'
        assert "'spectrum'" in ranked['clip_message'][1]

    def test_plain_table(self, dachs, tap, search):
        """Only columns count: there is no DataLink service, and no host that was asked."""
        table = tap.search(MADE).to_table()
        with pytest.warns(NothingRankedWarning):
            ranked = search.rank(table, 'blue', by='image')
        assert 'conf.private_hosts' in ranked['clip_message'][0]
        with (conf.set_temp('private_hosts', [dachs.url.removeprefix('http://')]),
              pytest.warns(UnreadImagesWarning)):
            ranked = search.rank(table, 'blue', by='image')
        assert outcomes(ranked) == {
            'plain': PREVIEWS['plain'],
            'described': ('OK', 'getproduct/clip/data/described.fits'),
            'linked': PREVIEWS['linked'],
            'shared': PREVIEWS['shared'],
            'closed': ('DENIED', 'getproduct/clip/data/closed.fits'),
            'bare': ('OK', 'getproduct/clip/data/bare.fits'),
            'lost': ('ERROR', 'static/nothing.jpg'),
            'spectrum': ('SKIPPED', 'getproduct/clip/data/spectrum.fits'),
        }
        assert outcomes(ranked[:1]) == {'linked': PREVIEWS['linked']}

    def test_links_of_one_dataset(self, sia1, search):
        row = next(row for row in sia1.search(pos=AROUND, size=2 * u.deg)
                   if row['object'] == 'linked')
        ranked = search.rank(row.getdatalink(), 'blue', by='image')
        assert list(ranked['semantics']) == ['#preview', '#this', '#proc']
        assert list(ranked['clip_status']) == ['OK', 'OK', 'SKIPPED']

    def test_cutout_around_a_position(self, tap, search):
        results = tap.search(f"{MADE} AND target_name = 'bare'")
        star = SkyCoord(results['s_ra'][0] + 0.01, results['s_dec'][0] + 0.01, unit='deg')
        ranked = search.rank(results, 'red', by='image', cutout=(star, 40 * u.arcsec))
        content = requests.get(ranked['clip_source'][0], timeout=60).content
        with fits.open(io.BytesIO(content)) as hdus:
            x, y = WCS(hdus[0].header).world_to_pixel(star)
            ny, nx = hdus[0].shape
        assert abs(x - nx / 2) < 2
        assert abs(y - ny / 2) < 2
        assert nx < 100

    def test_second_time_nothing_is_fetched(self, dachs, tap, search):
        results = tap.search(f"{MADE} AND target_name IN ('plain', 'described', 'linked', 'bare')")
        first = search.rank(results, 'red', by='image')
        before = dachs.requests()
        second = search.rank(results, 'green', by='image')
        assert dachs.requests() == before
        assert outcomes(second) == outcomes(first)

    def test_real_images(self, tap, tmp_path):
        """The embedded model, on previews that it has made of real FITS files."""
        results = tap.search("SELECT * FROM ivoa.obscore WHERE obs_collection = 'REAL'")
        if not len(results):
            pytest.skip('the development data are not beside the checkout')
        ranked = ClipSearch(cache_dir=tmp_path).rank(results, 'protoplanetary disk', by='image')
        assert set(ranked['clip_status']) == {'OK'}
        assert ranked['target_name'][0].startswith('TWHya')


class TestQueries:
    def test_sia2(self, dachs, search):
        where = SkyCoord(*place('bare'), unit='deg')
        ranked = search.query_sia('red', service=dachs.sia2, pos=where, radius=36 * u.arcsec,
                                  by='image')
        assert outcomes(ranked) == {'bare': ('OK', 'clip/q/dl/dlget?CIRCLE=150.0+20.5+0.01')}

    def test_sia1(self, dachs, search):
        with pytest.warns(UnreadImagesWarning):
            ranked = search.query_sia('blue', service=dachs.sia1, version=1, pos=AROUND,
                                      radius='1 deg', by='image')
        found = outcomes(ranked)
        assert found['linked'] == PREVIEWS['linked']
        assert ranked['object'][0] == 'linked'
        # Far from the position that was asked for, and cut out around its own centre all the same.
        assert found['bare'][0] == 'OK'

    def test_as_many_rows_as_were_asked_for(self, dachs, search):
        assert len(search.query_sia('red', service=dachs.sia2, pos=AROUND, maxrec=1)) == 1

    @pytest.mark.parametrize('asynchronous', [False, True])
    def test_tap_with_upload(self, dachs, search, asynchronous):
        targets = Table({'number': np.arange(10), 'ra': [CENTRE[0]] * 10,
                         'dec': CENTRE[1] + 0.1 * np.arange(10)})
        with pytest.warns(UnreadImagesWarning):
            ranked = search.query_tap(
                'blue', 'SELECT number, o.* FROM ivoa.obscore AS o JOIN TAP_UPLOAD.targets AS t '
                'ON 1 = CONTAINS(POINT(t.ra, t.dec), s_region)', service=dachs.tap,
                uploads={'targets': targets}, async_=asynchronous, by='image')
        assert set(ranked['number']) == set(range(len(KINDS)))
        assert ranked['target_name'][0] == 'linked'

    def test_tap_asks_for_words_as_databases_do(self, dachs, search):
        """What GAVO adds to ADQL arrives as it is."""
        ranked = search.query_tap(
            'blue', "SELECT * FROM ivoa.obscore WHERE 1 = ivo_hasword(obs_title, 'linked')",
            service=dachs.tap)
        assert outcomes(ranked) == {'linked': PREVIEWS['linked']}

    def test_mistake_in_adql(self, dachs, search):
        with pytest.raises(InvalidQueryError, match='nothing_such'):
            search.query_tap('red', 'SELECT nothing_such FROM ivoa.obscore', service=dachs.tap)

    def test_service_of_another_kind(self, dachs, search):
        with pytest.raises(RemoteServiceError, match='404'):
            search.query_tap('red', MADE, service=dachs.sia1)
        with pytest.raises(InvalidQueryError, match='version=1'):
            search.query_sia('red', service=dachs.sia1, pos=AROUND)

    def test_nothing_there(self, dachs, search):
        with pytest.warns(NothingRankedWarning):
            ranked = search.query_sia('red', service=dachs.sia2, pos=(0, 80, 0.1))
        assert len(ranked) == 0


def test_head_was_never_sent(dachs):
    """DaCHS leaves it unanswered."""
    assert {method for method, _ in dachs.requests()} == {'GET', 'POST', 'DELETE'}
