# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A reference to an image comes in, or its bytes, an array or an HDU; an RGB picture goes out, or an
error that says why there is none. Nothing here knows a table or a model.
"""
