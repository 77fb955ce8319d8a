# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Fixtures with a loopback MAST: ``pytest_plugins = ['tests.loopback.fixtures']`` brings them in.
"""

import pytest

from tests.loopback import point_astroquery_at
from tests.loopback.archive import SHARED_DATA, Archive
from tests.loopback.mast import Mast


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


@pytest.fixture(autouse=True)
def _archives_of_examples(request):
    """Examples of docstrings and of the guide ask the sample archive, and have a cache of it."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    from astroclip_search import ClipSearch, conf

    mast = request.getfixturevalue('sample_mast')
    cache = request.getfixturevalue('tmp_path_factory').getbasetemp() / 'examples'
    restore = point_astroquery_at(mast.url)
    with (pytest.MonkeyPatch.context() as patch, conf.set_temp('mast_collections', ['SYNTH'])):
        patch.setattr(ClipSearch, '_cache_dir', cache)
        yield
    restore()


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
