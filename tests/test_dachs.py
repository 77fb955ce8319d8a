# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Searches against GAVO DaCHS, the server behind many archives of the Virtual Observatory.

First what DaCHS answers to pyvo alone, so that the tests of ClipSearch below may rely on it.
"""

import gc
import io
import warnings

import astropy.units as u
import pytest
import pyvo
import requests
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

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
        assert requests.get(preview.access_url, timeout=5).content[:2] == b'\xff\xd8'
        assert requests.get(links['lost']['#preview'].access_url, timeout=5).status_code == 404

    def test_cutout(self, sia1):
        row = next(row for row in sia1.search(pos=AROUND, size=2 * u.deg)
                   if row['object'] == 'bare')
        stream = row.getdatalink().get_first_proc().process(circle=(*place('bare'), 0.01))
        cutout = fits.getdata(io.BytesIO(stream.read()))
        assert max(cutout.shape) < 100 < 200 == max(fits.getdata(row.acref, cache=False).shape)

    def test_proprietary(self, tap):
        rows = tap.search("SELECT access_url, preview FROM ivoa.obscore "
                          "WHERE target_name IN ('shared', 'closed')")
        assert [requests.get(row['access_url'], timeout=5).status_code for row in rows] == [401] * 2
        preview = next(row['preview'] for row in rows if row['preview'])
        assert requests.get(preview, timeout=5).headers['Content-Type'] == 'image/jpeg'


def place(kind):
    """Where a star of an image is, in degrees."""
    return CENTRE[0], CENTRE[1] + 0.1 * list(KINDS).index(kind)
