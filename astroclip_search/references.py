# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is known of each row before anything is fetched: where its image is and what its words are.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ['COLOUR', 'LINK', 'References', 'composite', 'digest', 'image_key', 'is_path', 'parts']

# Prefix of a source that names no image but a document that does (IVOA DataLink).
LINK = 'datalink:'

# Prefix of a source that is composed of three others.
COLOUR = 'rgb:'


@dataclass
class References:
    """
    One entry a row, in columns, because a table may have a hundred thousand rows.

    Attributes
    ----------
    sources : list of str or None
        What identifies the image: an address, a ``mast:`` URI, a path, or the digest of an array.
        Rows with the same source share one image.
    words : list of str
        The row's own words (target, title, classification), empty if it has none.
    status : list of str
        Empty where the image is worth a try, otherwise the final ``clip_status``.
    message : list of str
        Why a status was given.
    objects : dict
        Arrays and the like that are in memory, by source.
    has_files : bool
        Whether a source may be a path.
    has_links : bool
        Whether a source may be a link, ``datalink:`` and an address.
    trusted : frozenset of str
        Hosts, with port, that the user has named: they may be on a private network.
    own : dict
        Source of a row's own image, by row, where its ``sources`` has a colour composite: it is
        taken if the composite cannot be made.
    """

    sources: list[str | None]
    words: list[str]
    status: list[str]
    message: list[str]
    objects: dict[str, Any] = field(default_factory=dict)
    has_files: bool = True
    has_links: bool = False
    trusted: frozenset[str] = frozenset()
    own: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sources)

    def keys(self) -> list[str | None]:
        """
        Cache keys of the images that are worth a try.

        Returns
        -------
        list of str or None
            One a row, empty or `None` where there is none.
        """
        if self.has_files:
            return ['' if status or source is None else image_key(source)
                    for source, status in zip(self.sources, self.status, strict=True)]
        # Addresses, of which there may be a hundred thousand, are their own keys.
        if not any(self.status):
            return self.sources
        return [source if not status else '' for source, status in
                zip(self.sources, self.status, strict=True)]


def image_key(source: str) -> str:
    """
    Cache key of an image.

    Parameters
    ----------
    source : str
        Source of the image.

    Returns
    -------
    str
        The source; for a file with its size and time, so that an edited file is read anew.
    """
    if source.startswith(COLOUR):
        found = parts(source)
        return composite(*map(image_key, found)) if len(found) == 3 else source
    if is_path(source):
        try:
            state = Path(source).stat()
        except OSError:
            return source
        return f'{source}|{state.st_mtime_ns}|{state.st_size}'
    return source


def is_path(source: str) -> bool:
    """
    Whether a source is a local file.

    Parameters
    ----------
    source : str
        Source of an image.

    Returns
    -------
    bool
        Sources made from files are absolute paths; addresses and digests have a scheme.
    """
    return source.startswith(('/', '\\\\')) or source[1:3] in (':\\', ':/')


def composite(red: str, green: str, blue: str) -> str:
    """
    Source of a colour composite.

    Parameters
    ----------
    red, green, blue : str
        Sources of the FITS images that it is made of.

    Returns
    -------
    str
        ``rgb:`` and a JSON list of the three.

    Examples
    --------
    >>> from astroclip_search.references import composite, parts
    >>> composite('mast:HST/i.fits', 'mast:HST/r.fits', 'mast:HST/g.fits')
    'rgb:["mast:HST/i.fits", "mast:HST/r.fits", "mast:HST/g.fits"]'
    >>> parts(_)
    ['mast:HST/i.fits', 'mast:HST/r.fits', 'mast:HST/g.fits']
    """
    return COLOUR + json.dumps([red, green, blue], ensure_ascii=False)


def parts(source: str) -> list[str]:
    """
    Sources that a source is composed of.

    Parameters
    ----------
    source : str
        Source of an image.

    Returns
    -------
    list of str
        Three, red first, for a colour composite; the source itself for everything else.
    """
    if not source.startswith(COLOUR):
        return [source]
    try:
        found = json.loads(source.removeprefix(COLOUR))
    except (ValueError, RecursionError):
        return [source]
    if (isinstance(found, list) and len(found) == 3
            and all(isinstance(part, str) and not part.startswith(COLOUR) for part in found)):
        return found
    return [source]


def digest(content: bytes, description: str) -> str:
    """
    Source of an image that exists only in memory.

    Parameters
    ----------
    content : bytes
        Its pixels.
    description : str
        Shape and type, so that equal bytes of different shape differ.

    Returns
    -------
    str
        ``sha256:`` and 32 hexadecimal digits.
    """
    value = hashlib.sha256(description.encode())
    value.update(content)
    return f'sha256:{value.hexdigest()[:32]}'
