# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
``python -m astroclip_search.mcp [FOLDER ...]`` is the command ``astroclip-search mcp``.
"""

import argparse

from .server import main

parser = argparse.ArgumentParser(prog='python -m astroclip_search.mcp', description=(
    'Serve an assistant by the Model Context Protocol over standard input and output.'))
parser.add_argument('folders', nargs='*', metavar='FOLDER',
                    help='read and write files in these folders alone; anywhere by default')
main(parser.parse_args().folders)
