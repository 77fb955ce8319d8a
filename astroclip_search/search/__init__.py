# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs: functions that take a session and what the user asks, call one stage after the other, and
return a table, a gallery or vectors. ``client`` has their signatures and docstrings, ``session``
their state.
"""
