# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Workers to whom some words are what a damaged file is to a decoder: they hang, end the process or
take all memory. No file of ours does that to a library.
"""

import os
import time

from astroclip_search.images import apart, drawing

HANGS, CRASHES, GREEDY = b'a file that hangs', b'a file that crashes', b'a file that is greedy'


def main(shared, way):
    picture = drawing.Drawing.picture

    def worse(self, source):
        content = source
        if isinstance(source, str):
            with open(source, 'rb') as file:
                content = file.read()
        if content == HANGS:
            time.sleep(60)
        if content == CRASHES:
            os.abort()
        if content == GREEDY:
            bytes(10**12)
        return picture(self, source)

    drawing.Drawing.picture = worse
    apart.main(shared, way)
