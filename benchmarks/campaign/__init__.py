# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A search under attack: servers that fail, damaged files, kills, full disks, foreign tables.

``python -m benchmarks.campaign`` does all of it in processes that are watched, and counts what
held. Nothing here is an input that breaks a library: files are damaged when they are needed, by
a generator with a seed.
"""
