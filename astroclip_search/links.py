# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Links that a service must be asked about -> image addresses.

A row of the Virtual Observatory may name a DataLink document instead of an image. It is read when
the image is needed and not before, so that a table of any length costs no request by itself.
"""

from collections.abc import Sequence

from .exceptions import PreviewError
from .previews import Fetcher

__all__ = ['follow']


def follow(sources: Sequence[str], fetcher: Fetcher, *,
           max_bytes: int) -> dict[str, str | PreviewError]:
    """
    The image that each link leads to.

    Parameters
    ----------
    sources : sequence of str
        Distinct sources with the prefix ``datalink:``.
    fetcher : Fetcher
        Downloads.
    max_bytes : int
        Largest file that is worth naming.

    Returns
    -------
    dict
        For each source the address of its image, or why there is none.
    """
    raise NotImplementedError
