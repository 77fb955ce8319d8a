# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Vectors become an order here: a query (phrases and example images) and image references come in, the
embeddings of both are compared, and out come scores, false-alarm rates and the rows from best to
worst.
"""
