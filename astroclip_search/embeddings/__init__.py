# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Pictures become vectors here, and are kept: image references come in, ``collect`` brings what the
cache does not have, and out go unit vectors, (n, d) float32, and for each row its place among them
or the reason why it has none.
"""
