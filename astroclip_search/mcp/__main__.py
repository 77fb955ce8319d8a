# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
``python -m astroclip_search.mcp [FOLDER ...]`` is the command ``astroclip-search mcp``.
"""

import sys

from .server import main

main(sys.argv[1:])
