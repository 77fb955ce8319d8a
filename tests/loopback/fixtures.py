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
def jwst_archive():
    """The 409 real JWST observations with previews, where the development data are present."""
    if not (SHARED_DATA / 'sky-development.tar').exists():
        pytest.skip('the development data are not beside the checkout')
    return Archive.jwst()


@pytest.fixture
def jwst_mast(serve, jwst_archive):
    """A `Mast` with the real JWST observations."""
    return serve(jwst_archive)
