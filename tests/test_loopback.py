# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The loopback MAST is a MAST to astroquery, and misbehaves as told.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import requests
from astropy.coordinates import SkyCoord
from astroquery.exceptions import (
    InvalidQueryError,
    NoResultsWarning,
    RemoteServiceError,
    ResolverError,
)
from astroquery.mast import Observations, ObservationsClass

from tests.loopback import until
from tests.loopback.archive import Archive
from tests.loopback.mast import Mast

ORION = SkyCoord(83.6, -5.4, unit='deg')


def preview(mast, number=0):
    return mast.archive.rows[number]['jpegURL']


def get(mast, number=0, *, timeout=30, **options):
    """Fetch the preview of a row as a browser would."""
    return requests.get(f'{mast.url}/api/v0.1/Download/file', {'uri': preview(mast, number)},
                        timeout=timeout, **options)


def download(mast, folder, number=0):
    uri = preview(mast, number)
    path = folder / uri.rsplit('/', 1)[-1]
    return *Observations.download_file(uri, local_path=str(path), verbose=False), path


class TestQueries:
    def test_region_returns_rows_with_their_distance(self, mast):
        table = Observations.query_region(ORION, radius=0.05 * u.deg)
        everything = Observations.query_region(ORION, radius=1 * u.deg)
        assert 0 < len(table) < len(everything) == 12
        separation = ORION.separation(SkyCoord(table['s_ra'], table['s_dec'], unit='deg'))
        # The distance is the one to the footprint of 0.02 deg, as in MAST.
        assert np.allclose(table['distance'], np.maximum(0, separation.arcsec - 72), atol=1e-3)

    def test_types_and_masks_are_those_of_mast(self, mast):
        table = Observations.query_criteria(obs_collection='HST')
        assert table['s_ra'].dtype == np.float64
        assert table['calib_level'].dtype.kind == 'i'
        assert table['jpegURL'].dtype.kind == 'U'
        assert table['jpegURL'].mask.sum() == 1
        assert table['target_classification'].mask.sum() == 6

    def test_legacy_urls_are_absolute(self, mast):
        table = Observations.query_criteria(obs_collection='HLA')
        assert table['jpegURL'][0].startswith(f'{mast.url}/hst/previews/')
        assert requests.get(table['jpegURL'][0], timeout=5).content[:2] == b'\xff\xd8'

    def test_object_is_resolved_here(self, mast):
        assert len(Observations.query_object('M 42', radius='1 deg')) == 12
        assert len(Observations.query_object('FIELD 3', radius='1 arcsec')) >= 1
        with pytest.raises(ResolverError):
            Observations.query_object('Atlantis')

    def test_criteria_at_a_position(self, mast):
        table = Observations.query_criteria(
            coordinates=ORION, radius=1 * u.deg, dataproduct_type='spectrum')
        assert list(table['target_name']) == ['FIELD-8']

    @pytest.mark.parametrize(('criteria', 'count'), [
        ({'target_name': 'field-3'}, 1),  # without regard to case
        ({'target_name': ['FIELD-3', 'FIELD-5']}, 2),
        ({'target_name': 'FIELD-1*'}, 3),
        ({'target_name': ['FIELD-1%', 'FIELD-5']}, 4),  # a wildcard beside an exact value
        ({'obs_title': '*disks, part 1*'}, 2),
        ({'t_exptime': [200, 400]}, 3),
        ({'target_classification': 'SPIRAL'}, 6),  # one of a list
        ({'obs_collection': 'HLA', 'dataproduct_type': 'image'}, 1),
        ({'calib_level': 3, 'filters': ['F814W', 'F606W']}, 12),
        ({'obsid': '24000002'}, 1),
    ])
    def test_criteria(self, mast, criteria, count):
        assert len(Observations.query_criteria(**criteria)) == count
        assert Observations.query_criteria_count(**criteria) == count

    def test_nothing_found(self, mast):
        with pytest.warns(NoResultsWarning):
            assert len(Observations.query_criteria(obs_collection='TESS')) == 0
        assert Observations.query_criteria_count(obs_collection='TESS') == 0

    def test_unknown_column(self, mast):
        with pytest.raises(InvalidQueryError, match='target_name'):
            Observations.query_criteria(targetname='M 42')

    def test_pages(self, mast):
        whole = Observations.query_criteria(project='HST', pagesize=5)
        assert list(whole['obsid']) == [row['obsid'] for row in mast.archive.rows]
        assert [what for _, what in mast.log].count('Mast.Caom.Filtered') == 3
        third = Observations.query_criteria(project='HST', pagesize=5, page=3)
        assert list(third['obsid']) == list(whole['obsid'][10:])

    def test_products(self, mast):
        table = Observations.query_criteria(target_name=['FIELD-0', 'FIELD-1'])
        products = Observations.get_product_list(table)
        assert list(products['productType']) == ['SCIENCE', 'PREVIEW'] * 2
        previews = Observations.filter_products(products, productType='PREVIEW')
        assert list(previews['dataURI']) == list(table['jpegURL'])

    def test_manifest_of_downloads(self, mast, tmp_path):
        products = Observations.get_product_list(mast.archive.rows[0]['obsid'])
        manifest = Observations.download_products(
            products, download_dir=str(tmp_path), verbose=False)
        assert list(manifest['Status']) == ['ERROR', 'COMPLETE']  # there is no FITS file here
        assert Path(manifest['Local Path'][1]).read_bytes() == mast.archive.read(preview(mast))

    def test_new_instances_ask_it_too(self, mast):
        assert len(ObservationsClass().query_criteria(project='HST')) == 12

    def test_portal_says_what_is_wrong(self, mast):
        mast.faults['Mast.Caom'] = 'error'
        with pytest.raises(RemoteServiceError, match='timeout'):
            Observations.query_criteria(project='HST')
        mast.faults['Mast.Caom'] = 'executing*2'
        assert len(Observations.query_criteria(project='HST')) == 12
        mast.faults['Mast.Caom'] = 'status:503'
        with pytest.raises(requests.HTTPError, match='503'):
            Observations.query_criteria(project='HST')

    def test_sample_archive(self, serve, tmp_path):
        mast = serve(Archive.sample())
        table = Observations.query_criteria(intentType='science')
        assert len(table) == len(mast.archive)
        assert 0 < table['jpegURL'].mask.sum() < len(mast.archive.files) < len(table)
        number = next(i for i, row in enumerate(mast.archive.rows)
                      if row['jpegURL'] in mast.archive.files)
        assert download(mast, tmp_path, number)[0] == 'COMPLETE'

    def test_real_observations(self, jwst_mast, tmp_path):
        table = Observations.query_criteria(obs_collection='JWST', dataproduct_type='image')
        assert len(table) == 409
        assert len(Observations.query_object('NGC 3132', radius=0.05 * u.deg)) >= 1
        status, message, _, path = download(jwst_mast, tmp_path, 100)
        assert (status, message) == ('COMPLETE', None)
        assert path.read_bytes()[:2] == b'\xff\xd8'


class TestFaults:
    @pytest.mark.parametrize('status', [401, 404, 429, 500])
    def test_status(self, mast, tmp_path, status):
        mast.faults['00000'] = f'status:{status}'
        outcome, message, _, path = download(mast, tmp_path)
        assert outcome == 'ERROR'
        assert str(status) in message
        assert not path.exists()
        assert download(mast, tmp_path, 1)[0] == 'COMPLETE'

    def test_dead_link(self, mast, tmp_path):
        outcome, message, _, _ = download(mast, tmp_path, 10)
        assert outcome == 'ERROR'
        assert '404' in message

    def test_wait_is_announced_and_ends(self, mast):
        mast.faults[''] = 'status:429:1*2'
        first, second, third = (get(mast) for _ in range(3))
        assert (first.status_code, second.status_code, third.status_code) == (429, 429, 200)
        assert first.headers['Retry-After'] == '1'
        assert get(mast, 1).status_code == 429  # each file counts for itself

    def test_redirect(self, mast, tmp_path):
        mast.faults[''] = 'redirect'
        outcome, _, _, path = download(mast, tmp_path)
        assert outcome == 'COMPLETE'
        assert path.read_bytes() == mast.archive.read(preview(mast))
        mast.faults[''] = 'redirect:http://example.org/elsewhere.jpg'
        assert get(mast, allow_redirects=False).headers['Location'].startswith('http://example.org')
        mast.faults[''] = 'redirect-file'
        assert get(mast, allow_redirects=False).headers['Location'].startswith('file:///')
        mast.faults[''] = 'redirect-loop'
        with pytest.raises(requests.TooManyRedirects):
            get(mast)

    def test_page_in_place_of_a_picture(self, mast):
        mast.faults[''] = 'html'
        assert get(mast).headers['Content-Type'] == 'text/html'
        mast.faults[''] = 'html-as-jpeg'
        answer = get(mast)
        assert (answer.status_code, answer.headers['Content-Type']) == (200, 'image/jpeg')
        assert answer.content.startswith(b'<!DOCTYPE')

    def test_too_few_bytes(self, mast):
        whole = get(mast).content
        mast.faults[''] = 'empty'
        assert get(mast).content == b''
        mast.faults[''] = 'truncated'
        assert get(mast).content == whole[:len(whole) // 2]
        mast.faults[''] = 'cut'
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            get(mast)

    def test_reset(self, mast):
        mast.faults[''] = 'reset'
        with pytest.raises(requests.ConnectionError):
            get(mast)

    def test_too_slow(self, mast):
        mast.faults[''] = 'hang'
        with pytest.raises(requests.ReadTimeout):
            get(mast, timeout=0.1)
        mast.faults[''] = 'drip'
        started = time.monotonic()
        with get(mast, stream=True) as answer:
            assert answer.raw.read(4) == mast.archive.read(preview(mast))[:4]
            assert time.monotonic() - started > 0.1

    def test_drip_of_the_header(self, mast):
        mast.faults[''] = 'drip-header'
        with socket.create_connection(mast.url[7:].split(':'), timeout=5) as client:
            path = f'/api/v0.1/Download/file?uri={preview(mast)}'
            client.sendall(f'GET {path} HTTP/1.1\r\n\r\n'.encode())
            assert client.recv(100) == b'H'

    @pytest.mark.parametrize(('fault', 'length'), [('huge', '10000000000000'), ('endless', None)])
    def test_too_many_bytes(self, mast, fault, length):
        mast.faults[''] = fault
        with get(mast, stream=True) as answer:
            assert answer.headers.get('Content-Length') == length
            assert len(answer.raw.read(1 << 22)) == 1 << 22


class TestServer:
    def test_keeps_connections_and_sends_one_packet(self, mast):
        with requests.Session() as session:
            for _ in range(50):
                session.get(f'{mast.url}/api/v0.1/Download/file', params={'uri': preview(mast)})
        assert mast.connections == 1
        # In two packets, the second may wait 40 ms for a delayed ACK of the first.
        with socket.create_connection(mast.url[7:].split(':'), timeout=30) as client:
            path = f'/api/v0.1/Download/file?uri={preview(mast)}'
            for _ in range(50):
                client.sendall(f'GET {path} HTTP/1.1\r\n\r\n'.encode())
                assert client.recv(1 << 16).endswith(mast.archive.read(preview(mast)))

    def test_counts_what_is_in_flight(self, serve):
        mast = serve(latency=0.1)
        started = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: get(mast), range(8)))
        assert time.monotonic() - started >= 0.2
        assert 2 <= mast.max_in_flight <= 4
        assert mast.connections == 8
        assert mast.downloads() == [preview(mast)] * 8
        mast.clear()
        assert (mast.log, mast.connections, mast.max_in_flight) == ([], 0, 0)

    def test_is_controlled_over_http(self, mast):
        requests.post(f'{mast.url}/_state', json={'faults': {'': 'status:404'}}, timeout=5)
        assert get(mast).status_code == 404
        state = requests.get(f'{mast.url}/_state', timeout=5).json()
        assert state['faults'] == {'': 'status:404'}
        assert state['log'] == [['GET', preview(mast)]]
        answer = requests.post(f'{mast.url}/_state', json={'fault': {}}, timeout=5).json()
        assert (answer['status'], answer['msg']) == ('ERROR', 'unknown settings: fault')

    def test_stops_at_once_whatever_clients_do(self):
        mast = Mast(faults={'': 'hang'})
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(get, mast, timeout=30)
            until(lambda: mast.log)
            started = time.monotonic()
            mast.close()
            assert time.monotonic() - started < 15
            with pytest.raises(requests.ConnectionError):
                waiting.result()
        with pytest.raises(requests.ConnectionError):
            get(mast)

    def test_holds_many_rows_cheaply(self):
        archive = Archive.synthetic(2000)
        files = [archive.read(url) for url in archive.files]
        assert len(set(files)) == len(files) == 1998
        assert all(file[:2] == b'\xff\xd8' for file in files)

    def test_program_for_a_person(self, tmp_path, serve):
        """The line that it prints makes a fresh astroquery ask it, without any code."""
        root = Path(__file__).parents[1]
        environment = os.environ | {'PYTHONUNBUFFERED': '1'}
        server = subprocess.Popen(
            [sys.executable, '-m', 'tests.loopback.mast'], cwd=root, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            lines = [server.stdout.readline() for _ in range(3)]
            url, count = re.match(r'(http://127\.0\.0\.1:\d+) serves (\d+) ', lines[0]).groups()
            config = re.search(r'XDG_CONFIG_HOME=(\S+) python', lines[1])[1]
            code = ("from astroquery.mast import Observations as O; "
                    "print(O.query_criteria_count(intentType='*'))")
            answer = subprocess.run(
                [sys.executable, '-c', code], env=environment | {'XDG_CONFIG_HOME': config},
                capture_output=True, text=True, check=True, timeout=300)
            assert answer.stdout.split() == [count]
            code = re.search(r'-c "(.+)"', lines[2])[1] + '; ' + code
            answer = subprocess.run([sys.executable, '-c', code], cwd=root, env=environment,
                                    capture_output=True, text=True, check=True, timeout=300)
            assert answer.stdout.split() == [count]
            log = requests.get(f'{url}/_state', timeout=5).json()['log']
            assert [what for _, what in log].count('Mast.Caom.Filtered') == 2
        finally:
            server.send_signal(signal.SIGINT)
            _, messages = server.communicate(timeout=300)
        assert messages == ''
        assert server.returncode == 0
