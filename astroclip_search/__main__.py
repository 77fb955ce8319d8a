# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
``python -m astroclip_search`` is the command ``astroclip-search``.
"""

import sys

from .cli import main

sys.exit(main())
