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

# Nothing is imported here that takes long, or the command line could not yet be interrupted.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .config import Conf, conf
    from .search.client import ClipSearch, ClipSearchClass

try:
    from ._version import version as __version__
except ImportError:
    __version__ = '0.0.0'

__all__ = ['ClipSearch', 'ClipSearchClass', 'Conf', 'conf']

_MODULES = {'ClipSearch': '.search.client', 'ClipSearchClass': '.search.client', 'Conf': '.config',
            'conf': '.config'}


def __getattr__(name: str) -> 'Any':
    """
    Import what is asked for.
    """
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(import_module(_MODULES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
