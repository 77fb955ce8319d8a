# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that rank: a result, its filter, and the same result after a look at the pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from astropy.table import Row, Table

from ..archives.columns import IMAGE_COLUMNS, text_column
from ..archives.open import open_results
from ..archives.tables import has_images, row_metadata
from ..config import plane_of
from ..embeddings.cache import Cache
from ..embeddings.collect import Outcomes
from ..embeddings.pipeline import Pipeline, image_space
from ..exceptions import invalid
from ..images.refs import ImageRefs, image_key
from ..ranking import query_images
from ..ranking.order import arrange, group_codes, order
from ..ranking.query import Examples, Query
from ..ranking.scores import Scores, score
from ..results import table as ranked
from ..results.cards import cards, heading
from ..results.gallery import Gallery
from ..results.table import warn_of_none
from ..status import STATUSES, reason, without_notes
from .arguments import RankOptions, check, check_count, check_rate
from .session import Session

__all__ = ['cached_examples', 'filter_rows', 'fullest_cache', 'open_images', 'plane_of_table',
           'rank', 'refine']

# Images that are shown while others are on their way.
_N_LIVE = 12


def open_images(session: Session, results: Any, options: Any,
                by: str = 'image') -> tuple[Table, ImageRefs]:
    """
    The table of a result of any kind, and its image references; some row must have an image.
    """
    table, refs = open_results(
        results, image_dir=options.image_dir, cutout=options.cutout, colour=options.colour,
        sky_context=options.sky_context, is_ours=session.is_ours)
    session.remember(refs)
    if (len(table) and not any(refs.sources) and not has_images(table)
            and not (by == 'metadata' and any(refs.metadata))):
        raise invalid('The table has no column that names images: it has '
                      f'{", ".join(table.colnames[:30])}; known names are '
                      f'{", ".join(IMAGE_COLUMNS)}.')
    return table, refs


def rank(session: Session, results: Any, text: str | Sequence[str] | None,
         options: RankOptions) -> Table:
    """
    Order a result by what its images show.
    """
    asked, by = check(text, options), options.by
    table, refs = open_images(session, results, options, by)
    # An empty answer of a service may lack the columns as well.
    groups = (group_codes(table, options.group_by)
              if options.group_by is not None and len(table) else None)
    shown = {name: query_images.open_examples(images, name, image_dir=options.image_dir,
                                             is_ours=session.is_ours)
             for name, images in (('like', options.like), ('unlike', options.unlike))
             if images is not None}
    trusted = refs.trusted.union(*(part.trusted for part in shown.values()))
    progress = session.setting('show_progress', options.show_progress)
    encoder = session.encoder()
    with session.pipeline(encoder, session.cache(options.cache), trusted) as pipeline:
        query = Query(asked.phrases, asked.negatives, weights=asked.weights, **{
            name: query_images.embed(part, pipeline, show_progress=progress)
            for name, part in shown.items()})

        def draw(scores: Scores, outcomes: Outcomes) -> tuple[object, str]:
            return _best_so_far(session, table, outcomes, query, by, pipeline, scores)

        scores, outcomes = score(refs, query, by=by, pipeline=pipeline, show_progress=progress,
                                 max_images=session.setting('max_images', options.max_images),
                                 draw=draw if progress == 'live' else None)
        rows, outcomes = arrange(outcomes, scores, pipeline, groups=groups, cosine=asked.cosine)
    best = ranked.ranked_table(table, outcomes, scores, rows[:options.limit])
    best.meta['clip'] = ranked.provenance(outcomes, query, scores, by, encoder, pipeline.plane)
    ranked.warn_of_rows(outcomes)
    ranked.warn_of_chance(scores)
    return best


def filter_rows(session: Session, results: Any, text: str | Sequence[str] | None,
                false_alarm_rate: float, options: RankOptions) -> Table:
    """
    Only the rows whose image shows something.
    """
    check_rate(false_alarm_rate)
    check_count(options.limit, 'limit', 'all rows', least=1)
    if options.by == 'metadata':
        raise invalid("A false-alarm rate needs pictures: use by='both' or by='image'.")
    bundle = session.encoder().bundle
    if bundle.background.image is None:
        raise invalid(f'The model {bundle.name!r} has no reference images, so there is no '
                      'false-alarm rate; use rank.')
    ranked = rank(session, results, text, replace(options, limit=None))
    kept = np.ma.filled(ranked['clip_false_alarm'], 2.0) <= false_alarm_rate
    if not kept.any():
        warn_of_none(ranked.meta['clip']['chance'], false_alarm_rate)
    return ranked[np.flatnonzero(kept)[:options.limit]]


def _best_so_far(session: Session, table: Table, outcomes: Outcomes, query: Query, by: str,
                 pipeline: Pipeline, scores: Scores) -> tuple[object, str]:
    """
    A gallery of the best rows of those that have a score, and the name of the first.
    """
    provenance = ranked.provenance(outcomes, query, scores, by, pipeline.encoder, pipeline.plane)
    rows = order(scores.score)[:min(_N_LIVE, provenance['n_ranked'])]
    kept = [pipeline.thumbnail_key(outcomes.key(row) or '') for row in rows.tolist()]
    title, note = heading(provenance)
    page = Gallery(
        cards(ranked.ranked_table(table, outcomes, scores, rows),
              [pipeline.cache.thumbnail(key) for key in kept],
              [session.address(outcomes.sources[row]) for row in rows.tolist()]),
        title=title, note=f'The best so far: {note}')
    return page, next((card.name for card in page.cards), '')


def refine(session: Session, table: Table, text: str | Sequence[str] | None, liked: Any,
           disliked: Any, by: str | None, options: RankOptions) -> Table:
    """
    Rank a ranked table again, more like some rows and less like others.
    """
    before = _before(table)
    like, unlike = (_named(table, rows, name) for rows, name in
                    ((liked, 'liked'), (disliked, 'disliked')))
    if set(like) & set(unlike):
        raise invalid('An image is both liked and disliked: choose one.')
    like, unlike = (_accumulated(before.get('like'), like, unlike),
                    _accumulated(before.get('unlike'), unlike, like))
    given, options = options, replace(
        options, by=by if by is not None else before.get('by', 'both'),
        like=like or None, unlike=unlike or None,
        negative=options.negative if options.negative is not None
        else before.get('negative') or None,
        weights=options.weights if options.weights is not None else before.get('weights'))
    asked = check(text if text is not None else before.get('query') or None, options)
    groups = group_codes(table, given.group_by) if given.group_by is not None else None
    refs = _refs(table)
    # What the cache has of another plane is of other pictures.
    plane = plane_of_table(table)
    cache = fullest_cache(session, refs.sources, plane)
    with session.pipeline(session.encoder(), cache, plane=plane) as pipeline:
        query = Query(asked.phrases, asked.negatives, cached_examples(like, pipeline),
                      cached_examples(unlike, pipeline), asked.weights)
        scores, outcomes = score(refs, query, by=options.by, pipeline=pipeline, max_images=0,
                                 cached_only=True)
        rows, outcomes = arrange(outcomes, scores, pipeline, groups=groups, cosine=asked.cosine)
    best = ranked.ranked_table(table, outcomes, scores, rows[:options.limit])
    # What is known of the search for candidates still holds.
    best.meta['clip'] = {**before,
                         **ranked.provenance(outcomes, query, scores, options.by,
                                             pipeline.encoder, pipeline.plane)}
    ranked.warn_of_lost(outcomes, scores)
    return best


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
    name = image_space(session.encoder(), session.setting('plane', plane))
    wanted = [image_key(source) for source in sources if source]

    def n_known(cache: Cache) -> int:
        return int((cache.space(name, wanted).positions(wanted) >= 0).sum())

    return max(session.caches() or [session.cache(False)], key=n_known)


def cached_examples(sources: list[str], pipeline: Pipeline) -> Examples:
    """
    Example images whose embeddings are kept.
    """
    keys = [image_key(source) for source in sources]
    space = pipeline.cache.space(pipeline.space, keys)
    positions = space.positions(keys)
    if (positions < 0).any():
        raise invalid(f'The embedding of the example {sources[int(positions.argmin())]!r} is not '
                      'kept any more: rank again.')
    return Examples(sources, space.matrix[positions]) if sources else Examples()


def _before(table: Any) -> dict:
    """
    What a ranked table says of itself; it may come from a file, so nothing of it is certain.
    """
    if not isinstance(table, Table) or not {'clip_rank', 'clip_status', 'clip_source',
                                            'clip_message'} <= set(table.colnames):
        raise invalid('refine takes a table that rank or a query has returned.')
    before = table.meta.get('clip')
    return before if isinstance(before, dict) else {}


def _named(table: Table, rows: Any, name: str) -> list[str]:
    """
    References to the images of the rows that the user points at.
    """
    if isinstance(rows, Row):
        rows = rows.table[rows.index:rows.index + 1]
    if isinstance(rows, list | tuple) and rows and all(isinstance(row, Row) for row in rows):
        return [source for row in rows for source in _named(table, row, name)]
    if isinstance(rows, Table) and 'clip_source' in rows.colnames:
        sources = text_column(rows, 'clip_source')
    else:
        try:
            wanted = np.atleast_1d(rows)
        except ValueError:  # lists of several lengths
            wanted = np.array([None])
        ranks = np.ma.filled(table['clip_rank'], 0)
        if wanted.dtype == bool and wanted.shape == (len(table),):
            chosen = np.flatnonzero(wanted).tolist()
        elif wanted.ndim == 1 and (wanted.dtype.kind in 'iu' or not wanted.size):
            lost = [rank for rank in wanted.tolist() if rank < 1 or rank not in ranks]
            if lost:
                raise invalid(f'{name} names rank {lost[0]}, which the table does not have.')
            chosen = [int(np.flatnonzero(ranks == rank)[0]) for rank in wanted]
        else:
            raise invalid(f'{name} must be ranks such as [3, 7], rows of the table, or a mask of '
                          'its length.')
        named = text_column(table, 'clip_source')
        sources = [named[i] for i in chosen]
    if not all(sources):
        raise invalid(f'A row that is {name} has no image.')
    return sources


def _accumulated(before: Any, now: list[str], other: list[str]) -> list[str]:
    """
    The examples of earlier steps that are not taken back, and those of this one.
    """
    before = before if isinstance(before, list) else []
    return list(dict.fromkeys([source for source in before
                               if isinstance(source, str) and source not in other] + now))


def _refs(table: Table) -> ImageRefs:
    """
    The rows of a ranked table, as they were.
    """
    reasons = {}
    for row, (status, message) in enumerate(zip(text_column(table, 'clip_status'),
                                                text_column(table, 'clip_message'), strict=True)):
        said = without_notes(message, 'twin', 'lost')
        if status not in ('OK', '') or said:
            status = status if status in STATUSES else 'OK'
            reasons[row] = (reason('before', status=status, said=said),)
    return ImageRefs([source or None for source in text_column(table, 'clip_source')],
                     row_metadata(table), reasons)
