# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
DaCHS for a person: ``python -m tests.loopback.dachs`` serves until Ctrl-C.
"""

import signal
import sys

from .resource import publish
from .server import Dachs, missing

reason = missing()
if reason:
    sys.exit(reason)
with Dachs(publish) as dachs:
    print(f'TAP {dachs.tap}\nSIA2 {dachs.sia2}\nSIA1 {dachs.sia1}\nCtrl-C stops it.', flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
