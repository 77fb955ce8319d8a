# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Archives on this machine that the tutorials talk to, in place of the live ones.
"""

import contextlib

import numpy as np

from tests.loopback import point_astroquery_at
from tests.loopback.archive import Archive
from tests.loopback.mast import Mast
from tests.loopback.vo import Vo

__all__ = ['quiet', 'start_mast', 'start_vo']


def quiet():
    """Show no progress bars, which a page would keep."""
    from astroclip_search import conf

    conf.show_progress = False


def gathered(archive, ra, dec, radius):
    """Put the rows of an archive around one position, all in degrees."""
    rng = np.random.default_rng(1)
    for row in archive.rows:
        distance, angle = radius * np.sqrt(rng.random()), 2 * np.pi * rng.random()
        row['s_ra'] = ra + distance * np.cos(angle) / np.cos(np.radians(dec))
        row['s_dec'] = dec + distance * np.sin(angle)
    return archive


def start_mast():
    """Serve the sample archive, put around M 42, as a MAST that astroquery asks."""
    quiet()
    archive = gathered(Archive.sample(), 83.82, -5.39, 0.1)
    names = {'M 42': (83.82, -5.39)}
    stack = contextlib.ExitStack()
    server = stack.enter_context(Mast(Archive(archive.rows, archive.files, names=names)))
    stack.callback(point_astroquery_at(server.url))
    return stack


def start_vo():
    """Serve the sample archive, put around M 31, as SIA2 and TAP services; return it with them."""
    quiet()
    return Vo.of_archive(gathered(Archive.sample(), 10.68, 41.27, 0.5))
