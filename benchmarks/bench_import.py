# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
``ClipSearch`` imported beside ``astropy.table``, in fresh interpreters: the package itself imports
its names when they are asked for.
"""

import subprocess
import sys

from .comparison import ROOT, Comparison, compare

__all__ = ['Import', 'compare_import']

OURS, PEER = 'from astroclip_search import ClipSearch', 'import astropy.table'


def fresh(statement: str) -> float:
    """Return the seconds that a statement takes in a new interpreter, start-up not counted."""
    code = f'from time import perf_counter as t; s = t(); {statement}; print(t() - s)'
    return float(subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True,
                                capture_output=True, text=True).stdout)


def compare_import(repeats: int) -> list[Comparison]:
    """Measure the ratio of import times."""
    ours, theirs = compare(lambda: fresh(OURS), lambda: fresh(PEER), 3 * repeats)
    return [Comparison(OURS, ours, PEER, theirs, bound=1.2)]


class Import:
    """For airspeed velocity."""

    def timeraw_astroclip_search(self):
        return OURS

    def timeraw_astropy_table(self):
        return PEER

    def track_ratio(self):
        return compare_import(5)[0].value
