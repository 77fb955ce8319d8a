# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a session still has of the images of a ranked table: their embeddings, in one of its caches.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import Table

from ..archives.columns import RowMetadata, TableColumns, text_column
from ..config import plane_of
from ..embeddings.cache import Cache, Space
from ..embeddings.pipeline import Pipeline, image_space
from ..exceptions import LostEmbeddingsWarning, invalid, warn
from ..images.refs import ADDRESSES, ImageRefs, image_key, is_path, parse
from ..ranking.query import Examples
from ..status import STATUSES, reason, without_notes
from .session import Session

__all__ = ['cached_examples', 'fullest_cache', 'kept_keys', 'kept_vectors', 'known_examples',
           'plane_of_table', 'ranked_refs']


def ranked_refs(table: Table) -> ImageRefs:
    """
    The rows of a ranked table, as they were.
    """
    reasons = {}
    for row, (status, message) in enumerate(zip(text_column(table, 'clip_status'),
                                                text_column(table, 'clip_message'), strict=True)):
        said = message and without_notes(message, 'twin', 'copy', 'lost', 'liked', 'disliked',
                                         'by_words')
        if status not in ('OK', '') or said:
            status = status if status in STATUSES else 'OK'
            reasons[row] = (reason('before', status=status, said=said),)
    sources = [source or None for source in text_column(table, 'clip_source')]
    has_files = not all(source.startswith(ADDRESSES) for source in sources if source)
    return ImageRefs(sources, RowMetadata(TableColumns(table)), reasons, has_files=has_files)


def plane_of_table(results: Any) -> str | int | None:
    """
    What of cubes a table was ranked by, if it says so.
    """
    meta = getattr(results, 'meta', None)
    asked = meta.get('clip') if isinstance(meta, Mapping) else None
    try:
        return plane_of(asked.get('plane')) if isinstance(asked, dict) else None
    except ValueError:  # it may come from a file of anyone
        return None


def fullest_cache(session: Session, sources: Sequence[str | None],
                  plane: str | int | None = None) -> Cache:
    """
    The cache of a session that knows most of some images.
    """
    caches = session.caches() or [session.cache(False)]
    if len(caches) == 1:
        return caches[0]
    name = image_space(session.encoder(), session.setting('plane', plane))
    known = list(filter(None, sources))

    def n_known(cache: Cache) -> int:
        wanted = _keys(session, cache, name, known)
        return int((cache.space(name, wanted).positions(wanted) >= 0).sum())

    return max(caches, key=n_known)


def cached_examples(session: Session, sources: list[str], pipeline: Pipeline) -> Examples:
    """
    Example images whose embeddings are kept.
    """
    positions, space = kept_vectors(session, sources, pipeline)
    if (positions < 0).any():
        raise invalid(f'The embedding of the example {sources[int(positions.argmin())]!r} is not '
                      'kept any more: rank again.')
    return Examples(sources, space.matrix[positions]) if sources else Examples()


def known_examples(session: Session, like: list[str], unlike: list[str],
                   pipeline: Pipeline) -> tuple[Examples, Examples]:
    """
    Those of the example images whose embeddings are kept, of which there must be some.
    """
    parts = [(part, *kept_vectors(session, part, pipeline)) for part in (like, unlike)]
    n, n_lost = len(like) + len(unlike), sum(int((at < 0).sum()) for _, at, _ in parts)
    if n and n_lost == n:
        raise invalid('The embeddings of the rows that are marked are not in the cache: rank the '
                      'table again first, without a phrase to go on by its own.')
    if n_lost:
        warn(f'The embeddings of {n_lost} of {n} examples and marked rows are not kept any more, '
             'so nothing is learned from them: rank again.', LostEmbeddingsWarning)
    liked, disliked = (
        Examples([source for source, place in zip(part, at.tolist(), strict=True) if place >= 0],
                 space.matrix[at[at >= 0]]) if (at >= 0).any() else Examples()
        for part, at, space in parts)
    return liked, disliked


def kept_keys(session: Session, sources: Iterable[str | None], cache: Cache,
              name: str) -> dict[str, str]:
    """
    Keys in a space of a cache of the local images that the user has not named: a table of anyone
    may name them, and to look at a file may log in at the computer that has it.
    """
    strange = [source for source in dict.fromkeys(filter(None, sources))
               if not all(session.is_ours(part) for part in parse(source).parts
                          if is_path(part))]
    found = cache.keys_of(name, strange) if strange else {}
    return {source: found.get(source, source) for source in strange}


def _keys(session: Session, cache: Cache, name: str, sources: Sequence[str]) -> list[str]:
    known = kept_keys(session, sources, cache, name)
    return [known.get(source) or image_key(source) for source in sources]


def kept_vectors(session: Session, sources: Sequence[str],
                 pipeline: Pipeline) -> tuple[np.ndarray, Space]:
    """
    Positions (n,) of the embeddings of images in their space, negative where there is none.
    """
    keys = _keys(session, pipeline.cache, pipeline.space, sources)
    space = pipeline.cache.space(pipeline.space, keys)
    return space.positions(keys), space
