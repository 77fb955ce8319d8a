# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the user of this process has named in person, and a table may therefore name as well.

It is kept in memory alone: a file that comes by mail may have any name in it, and the cache knows
what was ranked months ago. Sessions that share a cache share this too.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ['Named', 'named_with']


@dataclass(frozen=True)
class Named:
    """
    References to local images; and folders, files, patterns and columns in which there are such.
    """

    images: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)


_by_cache: dict[str, Named] = {}


def named_with(cache_dir: str | Path | None) -> Named:
    """
    What sessions with this folder of a cache were told.
    """
    key = '' if cache_dir is None else os.path.abspath(os.path.expanduser(cache_dir))
    return _by_cache.setdefault(key, Named())
