# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Phrases that images are described with.

Three sets come with the package: ``concepts``, those of the `Unified Astronomy Thesaurus
<https://astrothesaurus.org>`_ that a picture can show; ``paperclip``, the list that PAPERCLIP
(arXiv:2403.08851) describes Hubble images with; and ``galaxy_zoo``, the answers of Galaxy Zoo.
"""

import functools
import tomllib
from pathlib import Path

from .exceptions import invalid

__all__ = ['read', 'version']

_FILE = Path(__file__).parent / 'data' / 'vocabulary.toml'


def read(*names: str) -> list[str]:
    """
    The phrases of some sets.

    Parameters
    ----------
    *names : str
        ``'concepts'``, ``'paperclip'`` or ``'galaxy_zoo'``; all three by default.

    Returns
    -------
    list of str
        Each phrase once, in the order of the file.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If there is no such set.

    Examples
    --------
    >>> from astroclip_search import vocabulary
    >>> vocabulary.read('galaxy_zoo')[:2]
    ['smooth galaxy without features', 'smooth round galaxy']
    """
    sets = {name: phrases for name, phrases in _content().items() if isinstance(phrases, list)}
    for name in names:
        if name not in sets:
            raise invalid(f'There is no vocabulary {name!r}: there are {", ".join(sets)}.')
    spellings: dict[str, str] = {}
    for name in names or sets:
        for phrase in sets[name]:
            spellings.setdefault(phrase.casefold(), phrase)
    return list(spellings.values())


def version() -> int:
    """
    The version of the vocabulary.

    Returns
    -------
    int
        Counts up whenever a phrase is added, changed or taken away.

    Examples
    --------
    >>> from astroclip_search import vocabulary
    >>> vocabulary.version() >= 1
    True
    """
    return _content()['version']


@functools.cache
def _content() -> dict:
    return tomllib.loads(_FILE.read_text(encoding='utf-8'))
