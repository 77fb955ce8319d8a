# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Fixtures with a loopback MAST: ``pytest_plugins = ['tests.loopback.fixtures']`` brings them in.
"""

import pytest

from tests.loopback import point_astroquery_at
from tests.loopback.archive import SHARED_DATA, Archive
from tests.loopback.mast import Mast
from tests.loopback.vo import Vo


@pytest.fixture
def serve():
    """Start servers, ``serve(archive, faults=..., latency=...)``; astroquery asks the last one."""
    started = []

    def start(archive=None, **options):
        mast = Mast(archive, **options)
        started.append((mast, point_astroquery_at(mast.url)))
        return mast

    yield start
    for mast, restore in reversed(started):
        restore()
        mast.close()


@pytest.fixture
def mast(serve):
    """A `Mast` with 12 generated observations, which astroquery asks instead of the real one."""
    return serve()


@pytest.fixture(scope='session')
def sample_mast():
    """A `Mast` with those rows of the sample archive whose pictures are where they say."""
    archive = Archive.sample()
    rows = [row for row in archive.rows
            if row['jpegURL'] is None or row['jpegURL'] in archive.files]
    with Mast(Archive(rows, archive.files)) as mast:
        yield mast


@pytest.fixture(scope='session')
def sample_vo():
    """A `Vo` with the pictures of the sample archive."""
    with Vo.of_archive(Archive.sample()) as vo:
        yield vo


@pytest.fixture(autouse=True)
def _archives_of_examples(request):
    """Examples of docstrings and of the guide ask the sample archive, and have a cache of it."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    from astroclip_search import ClipSearch, conf

    mast = request.getfixturevalue('sample_mast')
    cache = request.getfixturevalue('tmp_path_factory').getbasetemp() / 'examples'
    vo = request.getfixturevalue('sample_vo')
    request.getfixturevalue('doctest_namespace').update(
        sia_address=f'{vo.url}/sia2', tap_address=f'{vo.url}/tap')
    restore = point_astroquery_at(mast.url)
    with (pytest.MonkeyPatch.context() as patch, conf.set_temp('mast_collections', ['SYNTH'])):
        patch.setattr(ClipSearch, 'cache_dir', cache)
        yield
    restore()


@pytest.fixture
def sky(serve):
    """A MAST of red and green pictures; M 42 is where the first ones are."""
    from tests.colours import content

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


@pytest.fixture(scope='session')
def jwst_archive():
    """The 409 real JWST observations with previews, where the development data are present."""
    if not (SHARED_DATA / 'sky-development.tar').exists():
        pytest.skip('the development data are not beside the checkout')
    return Archive.jwst()


@pytest.fixture
def jwst_mast(serve, jwst_archive):
    """A `Mast` with the real JWST observations."""
    return serve(jwst_archive)
