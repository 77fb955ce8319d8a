# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Natural-language search for astronomical archives.

Data flows one way through the package, from folder to folder, and each folder imports only what
stands before it::

    archives     a query or a result  -> Table, and where the image of each row is
    images       image references     -> bytes, FITS -> RGB pixels
    models       pixels, phrases      -> unit vectors
    embeddings   the vectors of rows, kept on disk
    ranking      vectors              -> scores and an order
    results      the order            -> Table, cards, gallery, plots

``search`` has the verbs, ``cli`` and ``mcp`` are other ways to call them.

`~astroclip_search.ClipSearch` is a ready instance, as in astroquery:

>>> from astroclip_search import ClipSearch
>>> ClipSearch.query_text("protoplanetary disk")               # doctest: +SKIP
>>> ClipSearch.rank(any_astroquery_or_pyvo_table, "tidal tail")  # doctest: +SKIP

Importing the package loads no model, no archive client and no runtime.
"""

from .config import Conf, conf
from .search.client import ClipSearch, ClipSearchClass

try:
    from ._version import version as __version__
except ImportError:
    __version__ = '0.0.0'

__all__ = ['ClipSearch', 'ClipSearchClass', 'Conf', 'conf']
