# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that show pictures, which need no model, and those that plot scores.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from ..archives.columns import TableColumns, text_column
from ..archives.footprints import positions
from ..archives.open import open_results
from ..embeddings.collect import follow_links, n_workers
from ..embeddings.pipeline import Pipeline
from ..exceptions import ImageError, invalid
from ..images.preprocess import thumbnail
from ..images.refs import ImageRefs, image_key, messages, parse, statuses
from ..ranking.query import Query
from ..results.cards import cards, doubt, gathered, heading, unseen
from ..results.gallery import Gallery
from ..results.plots import draw_cards, draw_scores, draw_sky, require_matplotlib
from ..results.table import strings
from ..status import OK
from .arguments import RankOptions, check, check_count, check_rate, check_weights
from .rank import cached_examples, fullest_cache, plane_of_table
from .session import Session

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image


__all__ = ['gallery', 'get_image_urls', 'get_images', 'plot_gallery', 'plot_scores', 'plot_sky']

# A figure with more pictures cannot be read, and soon not be saved.
_MOST_PICTURES = 240


def gallery(session: Session, results: Any, n: int | None,
            image_dir: str | Path | None) -> Gallery:
    """
    Thumbnails of the first rows.
    """
    if isinstance(results, Table):
        results = gathered(results)
    table, refs = _shown(session, results, n, image_dir)
    problems = ['' if status == OK else f'{status}: {message}'
                for status, message in zip(statuses(len(refs), refs.reasons),
                                           messages(len(refs), refs.reasons), strict=True)]

    def thumbnail(pipeline: Pipeline, source: str) -> bytes | ImageError:
        try:
            return _thumbnail(session, pipeline, source, refs.objects)
        except ImageError as error:
            return error

    jpegs = _fetch_each(session, refs, thumbnail, plane_of_table(table))
    for i, found in enumerate(jpegs):
        if isinstance(found, ImageError):
            jpegs[i], problems[i] = None, f'{found.status}: {found.reason}'
    asked = table.meta.get('clip')
    title, note = heading(asked)
    links = [session.address(source) for source in refs.sources]
    others = unseen(results[len(table):]) if isinstance(results, Table) else []
    return Gallery(cards(table, jpegs, links, problems), title=title, note=note,
                   doubt=doubt(asked), others=others)


def get_images(session: Session, results: Any, limit: int | None, size: int,
               image_dir: str | Path | None) -> 'list[Image | None]':
    """
    The images of the rows, `None` where there is none.
    """
    check_count(size, 'size', '512 pixels', least=1)
    table, refs = _shown(session, results, limit, image_dir)

    def image(pipeline: Pipeline, source: str) -> 'Image | None':
        try:
            return pipeline.image(source, refs.objects, size)
        except ImageError:
            return None

    return _fetch_each(session, refs, image, plane_of_table(table))


def get_image_urls(session: Session, results: Any, image_dir: str | Path | None,
                   colour: bool) -> Table:
    """
    Where the image of each row would come from; nothing is downloaded.
    """
    table, refs = open_results(results, image_dir=image_dir, colour=colour,
                               is_ours=session.is_ours)
    session.remember(refs)
    sources = [source or '' for source in refs.sources]
    urls = [' '.join(session.address(part) or part for part in parse(source).parts)
            for source in sources]
    status = statuses(len(refs), refs.reasons)
    return Table({'clip_row': np.arange(len(table)), 'clip_source': strings(sources),
                  'clip_url': strings(urls),
                  'clip_status': strings(['' if said == OK else said for said in status]),
                  'clip_message': strings(messages(len(refs), refs.reasons))})


def plot_gallery(session: Session, results: Any, n: int | None, columns: int | None,
                 ax: 'Axes | None', image_dir: str | Path | None) -> 'Axes':
    """
    The thumbnails of the first rows, drawn.
    """
    require_matplotlib()
    check_count(columns, 'columns', '6', least=1)
    page = gallery(session, results, _MOST_PICTURES + 1 if n is None else n, image_dir)
    if not 0 < len(page) <= _MOST_PICTURES:
        raise invalid(f'plot_gallery draws 1 to {_MOST_PICTURES} rows: choose n, or use gallery.')
    return draw_cards(page.cards, columns=min(columns or 6, len(page)), title=page.title, ax=ax)


def plot_scores(session: Session, table: Table, false_alarm_rate: float,
                ax: 'Axes | None') -> 'Axes':
    """
    The rows' cosines against those of unrelated archive images.
    """
    require_matplotlib()
    check_rate(false_alarm_rate)
    cosines = _scores(table, 'clip_image', 'plot_scores')
    background = _unrelated(session, table)
    return draw_scores(cosines[cosines == cosines], background, false_alarm_rate,
                       title=heading(table.meta['clip'])[0], ax=ax)


def plot_sky(table: Table, ax: 'Axes | None') -> 'Axes':
    """
    The rows on the sky, coloured by score.
    """
    require_matplotlib()
    scores = _scores(table, 'clip_score', 'plot_sky')
    ra, dec = positions(table)
    known = np.isfinite(ra) & (np.abs(dec) <= 90)
    if not known.any():
        raise invalid('No row has a position: plot_sky needs columns such as s_ra and s_dec in '
                      'degrees, or a SkyCoord.')
    ranks = np.nan_to_num(TableColumns(table).numbers('clip_rank')).astype(int)
    return draw_sky(ra[known], dec[known], scores[known], ranks[known],
                    title=heading(table.meta.get('clip'))[0], ax=ax)


def _shown(session: Session, results: Any, n: int | None,
           image_dir: str | Path | None) -> tuple[Table, ImageRefs]:
    """
    The first rows and their references; of a ranked table the images that the ranking has found.
    """
    check_count(n, 'the number of rows', 'all rows')
    if isinstance(results, Table):
        results = results[:n]
    table, refs = open_results(results, image_dir=image_dir, is_ours=session.is_ours)
    session.remember(refs)
    if n is not None and len(table) > n:
        table, refs = table[:n], refs.first(n)
    if 'clip_status' in table.colnames:
        # What a ranking has given up is not tried again; the row itself says why.
        given_up = [status not in ('', OK) for status in text_column(table, 'clip_status')]
        refs = replace(refs, sources=[None if given_up[row] else source
                                      for row, source in enumerate(refs.sources)],
                       reasons={row: several for row, several in refs.reasons.items()
                                if not given_up[row]})
    return table, refs


def _thumbnail(session: Session, pipeline: Pipeline, source: str,
               objects: Mapping[str, Any]) -> bytes:
    """
    Thumbnail from any cache of this session, or made anew.
    """
    for cache in session.caches():
        jpeg = cache.thumbnail(pipeline.thumbnail_key(image_key(source)))
        if jpeg is not None:
            return jpeg
    size = pipeline.thumbnail_size
    return thumbnail(pipeline.image(source, objects, size), size)


def _fetch_each(session: Session, refs: ImageRefs, action: Callable,
                plane: str | int | None) -> list:
    """
    The result of an action on each image, many at once, `None` where there is no image.

    Of cubes ``plane`` is shown, which the table was ranked by, else that of the setting.
    """
    # Pictures alone need no model.
    with session.pipeline(None, session.cache(False), refs.trusted, plane) as pipeline:
        sources = [source if refs.is_open(row) else None
                   for row, source in enumerate(refs.sources)]
        found = follow_links(dict.fromkeys(
            source for source in sources if source and parse(source).kind == 'link'),
            pipeline, *session.caches())
        images: list[Any] = [found.get(source, source) for source in sources]
        n = n_workers([image for image in images if isinstance(image, str)],
                      pipeline.fetcher.limits.n_connections, pipeline.n_threads)
        with ThreadPoolExecutor(n) as workers:
            return list(workers.map(
                lambda image: action(pipeline, image) if isinstance(image, str) else None,
                images))


def _unrelated(session: Session, table: Table) -> np.ndarray:
    """
    Cosines of the reference images to what a table was ranked by, from its ``meta['clip']``.
    """
    encoder, asked = session.encoder(), table.meta.get('clip')
    bundle = encoder.bundle
    if not isinstance(asked, dict) or 'query' not in asked:
        raise invalid("The table does not say what it was ranked by: meta['clip'] is lost, so "
                      'rank again.')
    if (asked.get('model'), asked.get('revision')) != (bundle.name, bundle.revision):
        raise invalid(f'The table was ranked by the model {asked.get("model")!r} and not by '
                      f'{bundle.name!r}: rank again, or plot with ClipSearch(model=...).')
    if bundle.background.image is None:
        raise invalid(f'The model {bundle.name!r} has no reference images to compare with.')
    like, unlike = (list(asked.get(name) or []) for name in ('like', 'unlike'))
    said = check(asked['query'] or None, RankOptions(
        like=like or None, negative=asked.get('negative') or None))
    plane = plane_of_table(table)
    cache = fullest_cache(session, like + unlike, plane)
    with session.pipeline(encoder, cache, plane=plane) as pipeline:
        query = Query(said.phrases, said.negatives, cached_examples(like, pipeline),
                      cached_examples(unlike, pipeline), check_weights(asked.get('weights')))
    return bundle.background.cosines(query.image_vector(encoder))


def _scores(table: Any, name: str, verb: str) -> np.ndarray:
    """
    A column of a ranked table with NaN for what is masked; at least one row must have a value.
    """
    if not isinstance(table, Table) or not {'clip_rank', name} <= set(table.colnames):
        raise invalid(f'{verb} takes a table that rank or a query has returned.')
    values: np.ndarray = TableColumns(table).numbers(name)
    if not np.isfinite(values).any():
        raise invalid(f'No row has a {name}, so there is nothing to plot.')
    return values
