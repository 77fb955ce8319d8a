# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Archives over real HTTP on this machine's loopback interface, for tests, benchmarks and people.

They share no code with the package: a mistake about a protocol cannot hide by being made twice.
"""

import time

__all__ = ['point_astroquery_at', 'until']

_RESOLVER = 'http://mastresolver.stsci.edu'  # hard-coded in astroquery, as opposed to the archive


def until(condition, *, seconds=30):
    """
    Wait for what another thread is about to do, and fail if it never does.

    Parameters
    ----------
    condition : callable
        Called without arguments, it says whether that is done.
    seconds : float, optional
        More than it takes on a machine with too much to do.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it did not happen'
        time.sleep(0.005)


def point_astroquery_at(url):
    """
    Send every MAST request of this process's astroquery to ``url`` instead.

    The addresses are class attributes that astroquery fills at import: ``conf.server`` has no
    effect on them afterwards, but on where a new instance logs in. Name resolution goes to the same
    server.

    Parameters
    ----------
    url : str
        Address of a running `tests.loopback.mast.Mast`, without a trailing slash.

    Returns
    -------
    callable
        Called without arguments, it puts everything back.
    """
    from astroquery.mast import Observations, conf, discovery_portal, utils

    portal = discovery_portal.PortalAPI
    request = utils._simple_request
    addresses = {
        'MAST_REQUEST_URL': '/api/v0/invoke',
        'COLUMNS_CONFIG_URL': '/portal/Mashup/Mashup.asmx/columnsconfig',
        'MAST_DOWNLOAD_URL': '/api/v0.1/Download/file',
        'MAST_BUNDLE_URL': '/api/v0.1/Download/bundle',
    }
    changes = [(portal, name, url + path) for name, path in addresses.items()]
    # Remembered per class for the life of the process, from whichever server came first.
    changes.append((portal, '_column_configs', {}))
    changes.append((utils, '_simple_request',
                    lambda address, params=None: request(address.replace(_RESOLVER, url), params)))
    changes.append((conf, 'server', url))
    changes.append((Observations._auth_obj, 'SESSION_INFO_URL', url + '/whoami'))
    changes.append((Observations, '_cloud_connection', None))
    if hasattr(conf, 'enable_cloud_dataset'):  # on by default since astroquery 0.4.12
        changes.append((conf, 'enable_cloud_dataset', False))

    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)

    def restore():
        for owner, name, value in before:
            setattr(owner, name, value)

    return restore
