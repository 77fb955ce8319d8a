# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Scores become what a person gets: the user's table with its ``clip_*`` columns comes out, and from
that table cards, a gallery and plots. Nothing here asks a model or an archive.
"""

from .cards import Card
from .gallery import Gallery

__all__ = ['Card', 'Gallery']
