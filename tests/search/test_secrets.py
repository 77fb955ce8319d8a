# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the user has kept for one host is seen by no other; services that misbehave are one sentence.
"""

import contextlib
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from astropy.table import Table
from astroquery.exceptions import (
    InvalidQueryError,
    RemoteServiceError,
    TimeoutError,  # noqa: A004 - the one of astroquery is what a user catches
)
from pyvo import dal
from pyvo.auth import AuthSession

from astroclip_search import ClipSearch, conf
from astroclip_search.archives import vo
from astroclip_search.exceptions import ClipSearchWarning
from tests.colours import ColourEncoder
from tests.images.test_guard import Recorder
from tests.loopback import faults
from tests.loopback.faults import FAULTS, FaultyServer
from tests.loopback.vo import Dataset, Vo

ALL = 'SELECT * FROM ivoa.obscore'


@pytest.fixture(autouse=True)
def _netrc(monkeypatch, tmp_path):
    (tmp_path / 'netrc').write_text('default login me password s3cret\n')
    monkeypatch.setenv('NETRC', str(tmp_path / 'netrc'))
    with conf.set_temp('retries', 0):
        yield


@pytest.fixture
def moved():
    """A service that has moved to another private host, which the user trusts."""
    with (Recorder() as old, Recorder((200, {'Content-Type': 'text/xml'}, b'<a/>')) as new,
          conf.set_temp('private_hosts', [new.host])):
        old.answer = 302, {'Location': f'{new.url}/new'}, b''
        yield old, new


def headers(*servers):
    return [headers for server in servers for _, _, headers, _ in server.requests]


ASK = [lambda service: vo.sia(f'{service}/sia'), lambda service: vo.tap(f'{service}/tap', ALL),
       lambda service: vo.tap(f'{service}/tap', ALL, asynchronous=True),
       lambda service: vo.sia(dal.SIA2Service(f'{service}/sia', check_baseurl=False)),
       lambda service: vo.tap(dal.TAPService(f'{service}/tap'), ALL)]


@pytest.mark.parametrize('ask', ASK)
def test_netrc_is_not_read_for_services(moved, ask):
    with pytest.raises((RemoteServiceError, InvalidQueryError)):
        ask(moved[0].url)
    assert headers(moved[1])
    assert not any('Authorization' in one for one in headers(*moved))


@pytest.mark.parametrize('ask', ASK)
def test_a_service_cannot_send_us_to_a_private_host(moved, ask):
    with conf.set_temp('private_hosts', []), pytest.raises(RemoteServiceError, match='private'):
        ask(moved[0].url)
    assert moved[1].connections == 0


def test_a_service_that_a_file_names_is_not_trusted(moved):
    """
    Whatever its name meant when it was looked at.
    """
    for ask in (vo.sia, lambda address, **options: vo.tap(address, ALL, **options)):
        with pytest.raises(RemoteServiceError, match='private'):
            ask(moved[0].url, trusted=False)
    assert moved[0].connections == 0


def test_credentials_of_a_session_are_for_its_service(moved):
    session = requests.Session()
    session.auth = 'me', 'word'
    session.cookies['token'] = 'abc'
    service = dal.TAPService(f'{moved[0].url}/tap', session=session)
    with pytest.raises(RemoteServiceError):
        vo.tap(service, ALL)
    assert headers(moved[0])[0]['Authorization'].startswith('Basic')
    assert headers(moved[0])[0]['Cookie'] == 'token=abc'
    assert not {'Authorization', 'Cookie'} & set(headers(moved[1])[0])
    assert session.trust_env
    assert type(session.get_adapter('http://a')) is requests.adapters.HTTPAdapter


NO_CAPABILITIES = b'<v:capabilities xmlns:v="http://www.ivoa.net/xml/VOSICapabilities/v1.0"/>'

STREAM = """<VOTABLE version="1.3"><RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/>
<TABLE><FIELD name="a" datatype="int"/><DATA><BINARY><STREAM href="{}/rows"/></BINARY></DATA>
</TABLE></RESOURCE></VOTABLE>"""


class Session(requests.Session):
    pass


class Alike:
    """Has the methods of a session."""

    def get(self, *args, **options):
        raise AssertionError


@pytest.mark.parametrize('kind', [requests.Session, Session, AuthSession])
def test_answers_are_checked_whatever_the_session(kind):
    with Recorder() as marker, Recorder() as server:
        server.answer = 200, {'Content-Type': 'text/xml'}, NO_CAPABILITIES
        service = dal.TAPService(f'{server.url}/tap', session=kind())
        server.answer = 200, {'Content-Type': 'text/xml'}, STREAM.format(marker.url).encode()
        with pytest.raises(RemoteServiceError, match='cannot be read'):
            vo.tap(service, ALL)
        assert marker.connections == 0


def test_what_is_no_session_is_refused():
    service = dal.TAPService('http://127.0.0.1:9/tap', session=Alike())
    with pytest.raises(InvalidQueryError, match='not Alike'):
        vo.tap(service, ALL)


@pytest.mark.parametrize('status', [404, 500])
def test_secrets_are_in_no_error(status):
    with Recorder((status, {}, b'x')) as server:
        address = f'http://me:s3cret@{server.host}/tap'
        session = requests.Session()
        session.params['token'] = 's3cret'
        services = [address, dal.TAPService(address), f'{server.url}/tap?token=s3cret',
                    dal.TAPService(f'{server.url}/tap', session=session)]
        for service in services:
            with pytest.raises(RemoteServiceError) as caught:
                vo.tap(service, ALL)
            assert 's3cret' not in str(caught.value)
            assert server.host in str(caught.value)
        assert headers(server)[0]['Authorization'].startswith('Basic')
        with pytest.raises(RemoteServiceError) as caught:
            vo.sia(address)
        assert 's3cret' not in ''.join(traceback.format_exception(caught.value))


def test_a_session_of_the_user_works(tmp_path):
    with Vo([Dataset('a')]) as centre:
        session = requests.Session()
        session.headers['User-Agent'] = 'mine'
        service = dal.TAPService(f'{centre.url}/tap', session=session)
        assert len(vo.tap(service, ALL)) == len(vo.tap(service, ALL)) == 1
        assert centre.agents == {'mine'}


# ---- services that misbehave -------------------------------------------------------------


def do_post(handler):
    handler.rfile.read(int(handler.headers.get('Content-Length', 0)))
    handler.do_GET()


# That one is an answer as it should be.
NO_QUERY_ERRORS = [name for name in FAULTS if name != 'VOTable with an error']


@pytest.mark.parametrize('ask', [lambda address: vo.tap(address, ALL), vo.sia])
def test_faults_of_services_are_one_sentence(monkeypatch, ask):
    monkeypatch.setattr(faults._Handler, 'do_POST', do_post, raising=False)

    def answer(name):
        started = time.monotonic()
        with pytest.raises((RemoteServiceError, TimeoutError)) as caught:
            ask(server.address(name))
        assert time.monotonic() - started < 3
        return str(caught.value)

    with (FaultyServer() as server, conf.set_temp('timeout', 0.3),
          conf.set_temp('query_timeout', 0.3), ThreadPoolExecutor(4) as threads):
        assert not any('\n' in sentence for sentence in threads.map(answer, NO_QUERY_ERRORS))
    assert server.strangers == 0


# ---- odd values in tables ----------------------------------------------------------------


ODD = ['²', '٣', '9' * 5000, '-' + '9' * 5000, 'nan', 'inf', '1e999', '-1e308', '1_0', '+', '\0']
NO_ADDRESSES = [
    'http://[::1', 'http://[::1]x/', 'http://h:99999/', 'http://h:²/', f'http://h:{"9" * 5000}/',
    'http://\ud800/', 'http://a..b/', 'http://%zz/', 'http://a\\@b/', 'http:///', 'https://[v1.x]/',
    'http://[1::2%25]/', 'http://①②⑦.1/', 'http://℀.example/', 'mast:\ud800', 'http://*/',
    'datalink:http://[::1/l?ID=1', 'datalink:http://h:99999/l?ID=1', 'rgb:' + '[' * 5000,
    'rgb:["http://[::1","http://h:99999/","http://h:²/"]', f'rgb:{"9" * 5000}']


@pytest.mark.parametrize('columns', [
    lambda values: {'preview': values},
    lambda values: {'access_url': values, 'access_format': ['image/fits'] * len(values)},
    lambda values: {'access_url': values, 'access_format': [
        'application/x-votable+xml;content=datalink'] * len(values)}])
def test_addresses_that_are_none_cost_their_rows(tmp_path, columns):
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path)
    with FaultyServer() as server, conf.set_temp('private_hosts', [server.host]), quietly():
        values = [server.good('red'), *NO_ADDRESSES]
        table = Table({'n': np.arange(len(values)), **columns(values)})
        ranked = search.rank(table, 'red', by='image')
        assert sorted(ranked['n']) == list(range(len(values)))
        status = dict(zip(ranked['n'], ranked['clip_status'], strict=True))
        assert all(status[n] in ('ERROR', 'NO_IMAGE') for n in range(1, len(values)))
        assert status[0] == ('OK' if 'preview' in table.colnames else status[0])
        assert search.gallery(ranked, n=None)._repr_html_()
        pictures = search.get_images(table)
        assert len(pictures) <= len(values)
        search.describe(table, ['red', 'green'])


@pytest.mark.parametrize('name', ['s_ra', 's_fov', 's_region', 't_min', 't_exptime', 'clip_label',
                                  'access_estsize', 'em_min', 'proposal_id', 'clip_score'])
def test_odd_numbers_cost_nothing(tmp_path, name):
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path)
    with FaultyServer() as server, conf.set_temp('private_hosts', [server.host]), quietly():
        table = Table({'preview': [server.good('red')] * (len(ODD) + 2),
                       's_ra': [10.0] * (len(ODD) + 2), 's_dec': [5.0] * (len(ODD) + 2)})
        several = ([f'POLYGON {" ".join([odd] * 6)}' for odd in ODD] if name == 's_region' else ODD)
        table[name] = ['', '5', *several]
        ranked = search.rank(table, 'red', by='image', fold_duplicates=False)
        assert set(ranked['clip_status']) == {'OK'}
        assert search.gallery(ranked, n=None)._repr_html_()


@contextlib.contextmanager
def quietly():
    """Warnings of ours are no matter of these tests; those of others are errors as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ClipSearchWarning)
        yield
