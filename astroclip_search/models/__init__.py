# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The name of a model comes in; an encoder goes out, which turns pixels and phrases into unit vectors.
"""
