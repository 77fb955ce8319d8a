# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Places in pictures: a table with one row a place comes in, its box in pixels and on the sky, and
what other programs read of it goes out, regions of DS9 and a coverage map.
"""

from .regions import places_moc, places_regions, write_moc, write_regions

__all__ = ['places_moc', 'places_regions', 'write_moc', 'write_regions']
