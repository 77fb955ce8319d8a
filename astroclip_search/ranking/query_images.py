# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Example images of any kind -> references, and their embeddings.
"""

from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any

from astropy.table import Row, Table

from ..archives.columns import text_column
from ..archives.files import is_image
from ..archives.open import open_results
from ..archives.tables import hosts
from ..embeddings.collect import CollectOptions, collect
from ..embeddings.pipeline import Pipeline
from ..exceptions import ImageError, invalid
from ..images.refs import ADDRESSES, ImageRefs, parse
from .query import Examples

__all__ = ['MAX_EXAMPLES', 'embed', 'open_examples']

MAX_EXAMPLES = 100


def open_examples(images: Any, name: str, *, image_dir: str | Path | None = None,
                  is_ours: Callable[[str], bool] | None = None) -> ImageRefs:
    """
    Understand what the user shows, one image or several, as the argument ``name``.

    Of a ranked table its ``clip_source`` counts, local files only if they are ours. A host that the
    user has named is trusted.
    """
    # An HDUList is an image although it is a list.
    several = isinstance(images, list | tuple) and not is_image(images)
    items = list(images) if several else [images]
    if any(isinstance(item, Integral) for item in items):
        raise invalid(f'{name} takes images or rows: to point at ranks of a table, use refine.')
    parts = [_open(item, image_dir, is_ours) for item in items]
    sources = [source for part in parts for source in part.sources]
    if not 0 < len(sources) <= MAX_EXAMPLES:
        raise invalid(f'{name} has {len(sources)} images: give 1 to {MAX_EXAMPLES}.')
    for part in parts:
        for row, source in enumerate(part.sources):
            if not part.is_open(row) or not source:
                because = next(iter(part.reasons.get(row, ())), None)
                raise ImageError('example_without_image', source or '',
                                 status=because and because.status,
                                 why=because.sentence if because else 'clip_source is empty')
    return ImageRefs(sources, [''] * len(sources),
                     objects={key: value for part in parts for key, value in part.objects.items()},
                     has_links=any(parse(source).kind == 'link' for source in sources),
                     trusted=frozenset().union(*(part.trusted for part in parts)))


def _open(item: Any, image_dir: str | Path | None,
          is_ours: Callable[[str], bool] | None) -> ImageRefs:
    if isinstance(item, Row):
        item = item.table[item.index:item.index + 1]
    if isinstance(item, Table) and 'clip_source' in item.colnames:
        # As of a ranking, whatever else the table says.
        item = Table({'clip_source': text_column(item, 'clip_source'),
                      'clip_status': [''] * len(item)}, dtype=[str, str])
    elif isinstance(item, str) and item.startswith(ADDRESSES):
        return ImageRefs([item], [''], trusted=hosts([item]))
    return open_results(item, image_dir=image_dir, is_ours=is_ours)[1]


def embed(refs: ImageRefs, pipeline: Pipeline, *, show_progress: bool = False) -> Examples:
    """
    Embed example images; those that are in the cache are not read again.
    """
    space, positions, outcomes = collect(refs, pipeline,
                                         CollectOptions(show_progress=show_progress))
    for row, source in enumerate(outcomes.sources):
        if not outcomes.is_ok(row):
            because = outcomes.reasons[row][0]
            raise ImageError('example_unusable', source or '', status=because.status,
                             why=because.sentence)
    return Examples(list(outcomes.sources), space.matrix[positions])
