# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that rank a result, and that keep the best of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from ..archives.columns import IMAGE_COLUMNS, text_column
from ..archives.open import as_table, open_results
from ..archives.tables import has_images
from ..embeddings.collect import Outcomes
from ..embeddings.pipeline import Pipeline
from ..exceptions import NoColourWarning, invalid, warn
from ..images.refs import ADDRESSES, ImageRefs
from ..ranking import query_images
from ..ranking.order import arrange, group_codes, order
from ..ranking.query import Query
from ..ranking.scores import Scores, score
from ..results import table as ranked
from ..results.cards import cards, heading
from ..results.gallery import Gallery
from ..results.table import warn_of_none, warn_of_trust
from .arguments import RankOptions, check, check_count, check_rate
from .marks import LABEL, Marks, is_ranked, labels_of, phrases_of, said_by
from .recipe import Recipe, recipe, remember, with_options
from .refine import refine
from .session import Session

__all__ = ['check_filter', 'filter_rows', 'open_images', 'opened', 'rank']

# Images that are shown while others are on their way.
_N_LIVE = 12


def open_images(session: Session, results: Any, options: Any,
                by: str = 'image') -> tuple[Table, ImageRefs]:
    """
    The table of a result of any kind, and its image references; some row must have an image.
    """
    table, refs = open_results(
        results, image_dir=options.image_dir, image_column=options.image_column,
        cutout=options.cutout, colour=options.colour, sky_context=options.sky_context,
        is_ours=session.is_ours)
    session.remember(refs)
    if options.colour and len(table) and not refs.own:
        warn('colour=True changes nothing: no FITS images of the table show one field in three '
             'filters.', NoColourWarning)
    if (len(table) and options.image_column is None and not any(refs.sources)
            and not has_images(table)
            and not (by == 'metadata' and any(refs.metadata))):
        raise invalid('The table has no column that names images: it has '
                      f'{", ".join(table.colnames[:30])}; known names are '
                      f'{", ".join(IMAGE_COLUMNS)}. Name it with image_column.')
    return table, refs


def rank(session: Session, results: Any, text: str | Sequence[str] | None,
         options: RankOptions, made: Recipe | None = None, *, trusted: bool = True) -> Table:
    """
    Order a result by what its images show; without a phrase or an example a ranked table goes on
    by what it was ranked by. ``made`` says how an archive was asked for it; unless
    it is ``trusted``, addresses in it are those of a file, and not of the user.
    """
    if text is None and options.like is None and is_ranked(results := opened(results)):
        return _go_on(session, results, options, made, trusted)
    asked, by = check(text, options), options.by
    table, refs = open_images(session, results, options, by)
    # An empty answer of a service may lack the columns as well.
    groups = (group_codes(table, options.group_by)
              if options.group_by is not None and len(table) else None)
    shown = {name: query_images.open_examples(images, name, image_dir=options.image_dir,
                                             is_ours=session.is_ours)
             for name, images in (('like', options.like), ('unlike', options.unlike))
             if images is not None}
    hosts = (refs.trusted.union(*(part.trusted for part in shown.values())) if trusted
             else frozenset())
    progress = session.setting('show_progress', options.show_progress)
    encoder = session.encoder()
    with session.pipeline(encoder, session.cache(options.cache), hosts) as pipeline:
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
    _keep_search(best.meta['clip'], table, results, made, options)
    _remember_places(session, results if made is None and trusted else None, options)
    if len(best) < len(table):
        remember(best.meta['clip'], table, outcomes.sources)
    ranked.warn_of_rows(outcomes)
    ranked.warn_of_chance(scores)
    return best


def _keep_search(clip: dict, table: Table, results: Any, made: Recipe | None,
                 options: RankOptions) -> None:
    """
    Say how the rows were found: as is said now, as the table says, or by what was named.
    """
    before = table.meta.get('clip') if is_ranked(table) else None
    before = before if isinstance(before, dict) else {}
    if made is None and isinstance(before.get('search'), dict):
        clip.update((name, before[name]) for name in ('selection', 'search', 'seen')
                    if name in before)
        return
    named = _named_results(results)
    clip['search'] = with_options(made or (
        {'verb': 'rank', 'arguments': {}, 'lost': 'results'} if named is None
        else recipe('rank', results=named)), options)


def _remember_places(session: Session, results: Any, options: RankOptions) -> None:
    """
    Have the session know in which places the user has looked, so that a search of it may do so.
    """
    columns = options.image_column
    said = [_named_results(results), options.image_dir and Path(options.image_dir),
            *([columns] if isinstance(columns, str) else columns or ())]
    for place in said:
        for one in place if isinstance(place, list) else [place]:
            if one:
                session.named.places.add(str(one.expanduser().absolute())
                                         if isinstance(one, Path) else one)


def _named_results(results: Any) -> Any:
    """
    Paths or addresses that say what was ranked, so that it can be found again from anywhere; `None`
    of what is in memory.
    """
    if isinstance(results, str | Path):
        named = str(results).strip()
        return named if '://' in named or named.startswith(ADDRESSES) else Path(results)
    if isinstance(results, list | tuple) and all(isinstance(item, str | Path)
                                                 for item in results):
        return [_named_results(item) for item in results]
    return None


def opened(results: Any) -> Any:
    """
    The table of a file, which may have been ranked; anything else as it is.
    """
    table = as_table(results) if isinstance(results, str | Path) else None
    return results if table is None else table


def _go_on(session: Session, table: Table, options: RankOptions, made: Recipe | None,
           trusted: bool) -> Table:
    """
    Rank a ranked table by its own phrase and marks, with the images that it lacked.
    """
    said = said_by(table, 'rank')
    text = phrases_of(table, said)
    if text is None:
        raise invalid('The table does not say by which phrase it was ranked: give text or like, or '
                      'use refine.')
    by = said.get('by')
    options = replace(
        options, by=by if options.by == 'both' and by in ('image', 'metadata') else options.by,
        negative=options.negative if options.negative is not None
        else said.get('negative') or None,
        weights=options.weights if options.weights is not None else said.get('weights'))
    marks = Marks.of(table, said)
    is_marked = bool(marks.judged or marks.like or marks.unlike)
    best = rank(session, table, text, replace(options, limit=None) if is_marked else options, made,
                trusted=trusted)
    best.meta['clip'] = {**said, **best.meta['clip'], **marks.provenance()}
    return refine(session, best, text, (), (), (), options.by, options) if is_marked else best


def check_filter(session: Session, false_alarm_rate: float, by: str) -> None:
    """
    Whether rows can be kept by their rate.
    """
    check_rate(false_alarm_rate)
    if by == 'metadata':
        raise invalid("A false-alarm rate needs pictures: use by='both' or by='image'.")
    bundle = session.encoder().bundle
    if bundle.background.image is None:
        raise invalid(f'The model {bundle.name!r} has no reference images, so there is no '
                      'false-alarm rate; use rank.')


def filter_rows(session: Session, results: Any, text: str | Sequence[str] | None,
                false_alarm_rate: float, options: RankOptions) -> Table:
    """
    Only the rows whose image shows something.
    """
    check_count(options.limit, 'limit', 'all rows', least=1)
    check_filter(session, false_alarm_rate, options.by)
    goes_on = text is None and options.like is None and is_ranked(results := opened(results))
    if goes_on and said_by(results, 'filter').get('by') == 'metadata':
        raise invalid('A false-alarm rate needs pictures, and the table was ranked by its metadata '
                      'alone: give text.')
    ranked = rank(session, results, text, replace(options, limit=None))
    kept = np.ma.filled(ranked['clip_false_alarm'], 2.0) <= false_alarm_rate
    if goes_on and LABEL in ranked.colnames:
        labels = labels_of(ranked)
        kept = (kept & (labels != 0)) | (labels == 1)
    if not kept.any():
        warn_of_none(ranked.meta['clip']['chance'], false_alarm_rate)
    warn_of_trust(ranked.meta['clip'])
    remember(ranked.meta['clip'], ranked, text_column(ranked, 'clip_source'))
    ranked.meta['clip']['filtered_at'] = false_alarm_rate
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
