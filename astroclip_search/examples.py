# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Example images of any kind -> references, and their embeddings.
"""

from numbers import Integral
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from astropy.table import Row, Table

from . import scoring
from .archives import open_results
from .archives.files import is_image
from .archives.tables import text_column
from .embeddings import Pipeline
from .exceptions import PreviewError
from .phrases import invalid
from .query import Examples
from .references import LINK, References

__all__ = ['MAX_EXAMPLES', 'embed', 'open_examples']

MAX_EXAMPLES = 100


def open_examples(images: Any, name: str, *, image_dir: str | Path | None = None) -> References:
    """
    Understand what the user shows.

    Parameters
    ----------
    images : path, address, array, HDU, NDData, image, bytes, Row, Table, or a list of them
        One or several example images. Of a ranked table its ``clip_source`` counts.
    name : str
        Name of the argument, for the error.
    image_dir : path-like, optional
        Folder in which image columns that hold file names are looked up.

    Returns
    -------
    References
        One an image; a host that the user has named is trusted.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is no image, or too many.
    PreviewError
        If one has no image.
    """
    # An HDUList is an image although it is a list.
    several = isinstance(images, list | tuple) and not is_image(images)
    items = list(images) if several else [images]
    if any(isinstance(item, Integral) for item in items):
        raise invalid(f'{name} takes images or rows: to point at ranks of a table, use refine.')
    parts = [_open(item, image_dir) for item in items]
    sources = [source for part in parts for source in part.sources]
    status = [status for part in parts for status in part.status]
    message = [message for part in parts for message in part.message]
    if not 0 < len(sources) <= MAX_EXAMPLES:
        raise invalid(f'{name} has {len(sources)} images: give 1 to {MAX_EXAMPLES}.')
    for source, state, reason in zip(sources, status, message, strict=True):
        if state or not source:
            raise PreviewError(f'an example has no image: {reason or "clip_source is empty"}',
                               source or '', status=state or 'NO_IMAGE')
    return References(sources, [''] * len(sources), status, message,
                      {key: value for part in parts for key, value in part.objects.items()},
                      has_links=any(source.startswith(LINK) for source in sources),
                      trusted=frozenset().union(*(part.trusted for part in parts)))


def _open(item: Any, image_dir: str | Path | None) -> References:
    if isinstance(item, Row):
        item = item.table[item.index:item.index + 1]
    if isinstance(item, Table) and 'clip_source' in item.colnames:
        sources = text_column(item, 'clip_source')
    elif isinstance(item, str) and item.startswith(('https://', 'http://', 'mast:')):
        sources = [item]
    else:
        return open_results(item, image_dir=image_dir)[1]
    n = len(sources)
    hosts = {urlsplit(item).netloc} - {''} if isinstance(item, str) else ()
    return References(sources, [''] * n, [''] * n, [''] * n, trusted=frozenset(hosts))


def embed(references: References, pipeline: Pipeline, *, show_progress: bool = False) -> Examples:
    """
    Embed example images; those that are in the store are not read again.

    Parameters
    ----------
    references : References
        As from `open_examples`.
    pipeline : Pipeline
        Model, store and downloads.
    show_progress : bool
        Show a progress bar.

    Returns
    -------
    Examples
        Sources and embeddings.

    Raises
    ------
    PreviewError
        If one cannot be read.
    """
    space, positions = scoring.bring(references, pipeline, show_progress=show_progress)
    for source, status, message in zip(references.sources, references.status,
                                       references.message, strict=True):
        if status != 'OK':
            raise PreviewError(f'an example cannot be used: {message}', source or '',
                               status=status)
    return Examples(list(references.sources), space.matrix[positions])
