# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
From archives and the user's disk to image references: any result of a query, table, file, array or
address comes in, queries to MAST and to services of the Virtual Observatory among them, and a table
goes out, with an ``ImageRefs`` that says where the image of each row is
and what metadata the row has. Nothing here fetches an image.
"""

from .open import open_results

__all__ = ['open_results']
