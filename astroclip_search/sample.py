# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A small archive that comes with the package, so that everything can be tried offline.

Its images are drawn by a program: no row is a real observation. Some rows have no preview, one is a
spectrum, one names a server that does not answer, as in real archives.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ['IMAGE_DIR', 'read']

IMAGE_DIR = Path(__file__).parent / 'data' / 'sample'
"""
Folder of the previews, for the ``image_dir`` option of `~astroclip_search.ClipSearchClass.rank`.
"""


def read() -> 'Table':
    """
    The rows of the sample archive.

    Returns
    -------
    `~astropy.table.Table`
        With the columns of the MAST portal; ``jpegURL`` is relative to `IMAGE_DIR`.

    Examples
    --------
    >>> from astroclip_search import ClipSearch, sample
    >>> best = ClipSearch.rank(sample.read(), 'globular cluster',
    ...                        image_dir=sample.IMAGE_DIR)       # doctest: +SKIP
    """
    from astropy.table import Table

    return Table.read(IMAGE_DIR / 'archive.ecsv')
