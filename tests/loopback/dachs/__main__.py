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
# Also when started in the background, where shells have SIGINT ignored.
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler)
try:
    with Dachs(publish) as dachs:
        print(f'TAP {dachs.tap}\nSIA2 {dachs.sia2}\nSIA1 {dachs.sia1}\nCtrl-C stops it.',
              flush=True)
        signal.pause()
except KeyboardInterrupt:
    pass
