# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that show pictures, which need no model, and those that plot scores.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io.fits import Header
from astropy.table import Table
from PIL.Image import Image

from ..archives.columns import TableColumns, text_array, text_column
from ..archives.footprints import positions
from ..archives.open import as_table, open_results
from ..archives.pyvo_results import is_result
from ..config import conf
from ..embeddings.collect import follow_links, n_workers
from ..embeddings.pipeline import Pipeline
from ..embeddings.progress import CALL
from ..exceptions import ImageError, invalid
from ..images.plane import celestial
from ..images.preprocess import thumbnail
from ..images.refs import (
    ImageRefs,
    image_key,
    is_path,
    is_same_file,
    messages,
    parse,
    statuses,
)
from ..places.regions import boxes, check_places, is_places
from ..ranking.query import Query
from ..results.cards import (
    cards,
    doubt,
    gathered,
    heading,
    of_places,
    said_of,
    uncertainty,
    unseen,
    with_box,
)
from ..results.gallery import Gallery
from ..results.names import names
from ..results.plots import draw_cards, draw_places, draw_scores, draw_sky, require_matplotlib
from ..results.table import image_sources
from ..status import OK
from .arguments import RankOptions, check, check_columns, check_count, check_rate, check_weights
from .kept import cached_examples, fullest_cache, plane_of_table
from .session import Session

if TYPE_CHECKING:
    from matplotlib.axes import Axes


__all__ = ['gallery', 'get_image_urls', 'get_images', 'plot_gallery', 'plot_places', 'plot_scores',
           'plot_sky']

# Pixels of a side of the picture of a figure.
_PLOTTED = 1024

# A figure with more pictures cannot be read, and soon not be saved.
_MOST_PICTURES = 240


def gallery(session: Session, results: Any, n: int | None, image_dir: str | Path | None,
            image_column: str | Sequence[str] | None = None) -> Gallery:
    """
    Thumbnails of the first rows.
    """
    results = _read(results)
    phrases = {}
    if isinstance(results, Table):
        phrases, results = said_of(results), gathered(results)
    table, refs = _shown(session, results, n, image_dir, image_column)
    problems = ['' if status == OK else f'{status}: {message}'
                for status, message in zip(statuses(len(refs), refs.reasons),
                                           messages(len(refs), refs.reasons), strict=True)]
    changed = set()

    def thumbnail(pipeline: Pipeline, source: str) -> bytes | ImageError:
        try:
            jpeg, has_changed = _thumbnail(session, pipeline, source, refs.objects)
        except ImageError as error:
            return error
        if has_changed:
            changed.add(source)
        return jpeg

    boxed = is_places(table)
    jpegs: list[Any] = (_boxed(session, table, refs) if boxed else
             _fetch_each(session, refs, thumbnail, plane_of_table(table)))
    for i, found in enumerate(jpegs):
        if isinstance(found, ImageError):
            jpegs[i], problems[i] = None, f'{found.status}: {found.reason}'
    asked = table.meta.get('clip')
    title, note = heading(asked)
    if not isinstance(asked, dict) and 'clip_rank' in table.colnames:
        note = "The table does not say what it was ranked by: meta['clip'] is lost."
    links = [session.address(source) for source in refs.sources]
    others = unseen(results[len(table):]) if isinstance(results, Table) else []
    scored = {'clip_score', 'clip_class'} & set(table.colnames)
    found = cards(table, jpegs, links, problems, phrases=phrases, address=session.address, changed={
        row for row, source in enumerate(refs.sources) if scored and source in changed})
    return Gallery(
        of_places(found, table) if boxed else found, title=title, note=note, others=others,
        doubt=' '.join(filter(None, (doubt(asked), uncertainty(asked)))))


def get_images(session: Session, results: Any, limit: int | None, size: int,
               image_dir: str | Path | None,
               image_column: str | Sequence[str] | None = None) -> 'list[Image | None]':
    """
    The images of the rows, `None` where there is none.
    """
    check_count(size, 'size', '512 pixels', least=1)
    table, refs = _shown(session, _read(results), limit, image_dir, image_column)

    def image(pipeline: Pipeline, source: str) -> 'Image | None':
        try:
            return pipeline.image(source, refs.objects, size)
        except ImageError:
            return None

    return _fetch_each(session, refs, image, plane_of_table(table))


def get_image_urls(session: Session, results: Any, image_dir: str | Path | None,
                   image_column: str | Sequence[str] | None, colour: bool) -> Table:
    """
    Where the image of each row would come from; nothing is downloaded.
    """
    check_columns(image_column)
    table, refs = open_results(results, image_dir=image_dir, image_column=image_column,
                               colour=colour, is_ours=session.is_ours)
    session.remember(refs)
    sources = image_sources(table, refs.sources).tolist()
    urls = [' '.join(session.address(part) or part for part in parse(source).parts)
            for source in sources]
    status = statuses(len(refs), refs.reasons)
    return Table({'clip_row': np.arange(len(table)), 'clip_source': text_array(sources),
                  'clip_url': text_array(urls),
                  'clip_status': text_array(['' if said == OK else said for said in status]),
                  'clip_message': text_array(messages(len(refs), refs.reasons))})


def plot_gallery(session: Session, results: Any, n: int | None, columns: int | None,
                 ax: 'Axes | None', image_dir: str | Path | None,
                 image_column: str | Sequence[str] | None = None) -> 'Axes':
    """
    The thumbnails of the first rows, drawn.
    """
    require_matplotlib()
    check_count(columns, 'columns', '6', least=1)
    page = gallery(session, results, _MOST_PICTURES + 1 if n is None else n, image_dir,
                   image_column)
    if not 0 < len(page) <= _MOST_PICTURES:
        raise invalid(f'plot_gallery draws 1 to {_MOST_PICTURES} rows: choose n, or use gallery.')
    return draw_cards(page.cards, columns=min(columns or 6, len(page)), title=page.title, ax=ax)


def plot_places(session: Session, places: Any, heat: Any, ax: 'Axes | None',
                image_dir: str | Path | None,
                image_column: str | Sequence[str] | None = None) -> 'Axes':
    """
    The picture of the first row with all its places.
    """
    require_matplotlib()
    table = check_places(as_table(places))
    table = table[np.asarray(table['clip_row'] == table['clip_row'][0])] if len(table) else table
    edges = boxes(table)
    known = np.isfinite(edges).all(axis=1)
    if not known.any():
        raise invalid('The first row has no place: clip_message says why. Choose another, such as '
                      "places[places['clip_row'] == 3].")
    table, edges = table[known], edges[known]
    if heat is not None:
        heat = np.asarray(heat, dtype=float)
        if heat.ndim != 2 or not np.isfinite(heat).any():
            raise invalid('heat must be a map of numbers with the shape (rows, columns).')
    shown, refs = _shown(session, table[:1], None, image_dir, image_column)
    (picture, wcs), = _with_wcs(session, refs, plane_of_table(table))
    if not isinstance(picture, Image):
        said = picture or next(filter(None, messages(1, refs.reasons)), 'there is no image')
        raise invalid(f'The picture cannot be drawn: {said}.')
    columns = TableColumns(table)
    peaks = np.column_stack([columns.numbers(name) if name in table.colnames else
                             (edges[:, i] + edges[:, i + 2]) / 2
                             for i, name in enumerate(('clip_x', 'clip_y'))])
    asked = heading(table.meta.get('clip'))[0]
    return draw_places(picture, edges, peaks,
                       np.nan_to_num(columns.numbers('clip_place')).astype(int), wcs=wcs, heat=heat,
                       title=': '.join(filter(None, (names(shown)[0], asked))), ax=ax)


def plot_scores(session: Session, table: Any, false_alarm_rate: float,
                ax: 'Axes | None') -> 'Axes':
    """
    The rows' cosines against those of unrelated archive images.
    """
    require_matplotlib()
    check_rate(false_alarm_rate)
    table = as_table(table)
    cosines = _scores(table, 'clip_image', 'plot_scores')
    background = _unrelated(session, table)
    return draw_scores(cosines[cosines == cosines], background, false_alarm_rate,
                       source=session.encoder().bundle.background.source,
                       title=heading(table.meta['clip'])[0], ax=ax)


def plot_sky(table: Any, ax: 'Axes | None') -> 'Axes':
    """
    The rows on the sky, coloured by score.
    """
    require_matplotlib()
    table = as_table(table)
    scores = _scores(table, 'clip_score', 'plot_sky')
    ra, dec = positions(table)
    known = np.isfinite(ra) & (np.abs(dec) <= 90)
    if not known.any():
        raise invalid('No row has a position: plot_sky needs columns such as s_ra and s_dec in '
                      'degrees, or a SkyCoord.')
    ranks = np.nan_to_num(TableColumns(table).numbers('clip_rank')).astype(int)
    return draw_sky(ra[known], dec[known], scores[known], ranks[known],
                    title=heading(table.meta.get('clip'))[0], ax=ax)


def _read(results: Any) -> Any:
    """
    The table of a file, a frame or a list; of a service its whole answer, which says more.
    """
    if isinstance(results, Table) or is_result(results):
        return results
    table = as_table(results)
    return results if table is None else table


def _shown(session: Session, results: Any, n: int | None,
           image_dir: str | Path | None,
           image_column: str | Sequence[str] | None) -> tuple[Table, ImageRefs]:
    """
    The first rows and their references; of a ranked table the images that the ranking has found.
    """
    check_count(n, 'the number of rows', 'all rows')
    check_columns(image_column)
    if isinstance(results, Table):
        results = results[:n]
    table, refs = open_results(results, image_dir=image_dir, image_column=image_column,
                               is_ours=session.is_ours)
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
               objects: Mapping[str, Any]) -> tuple[bytes, bool]:
    """
    Thumbnail from any cache of this session, or made anew; then also whether a cache knows the file
    as another one.
    """
    key = image_key(source)
    for cache in session.caches():
        jpeg = cache.thumbnail(pipeline.thumbnail_key(key))
        if jpeg is not None:
            return jpeg, False
    size = pipeline.thumbnail_size
    jpeg = thumbnail(pipeline.image(source, objects, size), size)
    if image_key(source) == key:
        for cache in session.caches():
            cache.mend_thumbnail(pipeline.thumbnail_key(key), jpeg)
    earlier = [cache.earlier_key(source, pipeline.thumbnail_key(''))
               for cache in session.caches()] if is_path(source) else []
    return jpeg, any(other is not None and not is_same_file(other, key) for other in earlier)


def _pictures(session: Session, refs: ImageRefs, side: int,
              plane: str | int | None) -> 'list[Image | ImageError | None]':
    """
    The picture of each row, which says how it lies on its image; each is drawn once.
    """
    def draw(pipeline: Pipeline, source: str) -> 'Image | ImageError':
        try:
            return pipeline.image(source, refs.objects, side)
        except ImageError as error:
            return error

    seen: dict[str | None, int] = {}
    first = [seen.setdefault(source, row) for row, source in enumerate(refs.sources)]
    once = replace(refs, sources=[source if row == first[row] else None
                                  for row, source in enumerate(refs.sources)])
    found = _fetch_each(session, once, draw, plane)
    return [found[row] for row in first]


def _with_wcs(session: Session, refs: ImageRefs, plane: str | int | None) -> list[Any]:
    """
    The picture of each row, and the WCS of its image if it has one.
    """
    def draw(pipeline: Pipeline, source: str) -> tuple[Any, Any]:
        try:
            picture = pipeline.image(source, refs.objects, _PLOTTED)
        except ImageError as error:
            return error, None
        try:
            return picture, celestial(Header.fromstring(pipeline.wcs(source, refs.objects)))
        except ImageError:
            return picture, None

    return [found or (None, None) for found in _fetch_each(session, refs, draw, plane)]


def _boxed(session: Session, places: Table, refs: ImageRefs) -> 'list[bytes | ImageError | None]':
    """
    Thumbnails of places, each with its box.
    """
    size = conf.thumbnail_size
    edges = boxes(places)
    found: list[bytes | ImageError | None] = []
    pictures = _pictures(session, refs, size, plane_of_table(places))
    for picture, box in zip(pictures, edges, strict=True):
        found.append(with_box(picture, box, size) if isinstance(picture, Image) else picture)
    return found


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
        workers = ThreadPoolExecutor(n, thread_name_prefix='astroclip')
        call = CALL.get()

        def act(image: Any) -> Any:
            if call is not None:
                call.check()
            return action(pipeline, image) if isinstance(image, str) else None

        try:
            return list(workers.map(act, images))
        finally:  # an interruption does not wait for what is being fetched
            workers.shutdown(wait=False, cancel_futures=True)


def _unrelated(session: Session, table: Table) -> np.ndarray:
    """
    Cosines of the reference images to what a table was ranked by, from its ``meta['clip']``.
    """
    encoder, asked = session.encoder(), table.meta.get('clip')
    bundle = encoder.bundle
    if not isinstance(asked, dict) or not {'query', 'model'} <= set(asked):
        raise invalid("The table does not say what it was ranked by: meta['clip'] is lost, so "
                      'rank again.')
    if (asked.get('model'), asked.get('revision')) != (bundle.name, bundle.revision):
        raise invalid(f'The table was ranked by the model {asked.get("model")!r} and not by '
                      f'{bundle.name!r}: rank again, or plot with ClipSearch(model=...).')
    if bundle.background.image is None:
        raise invalid(f'The model {bundle.name!r} has no reference images to compare with.')
    like, unlike = (_examples(asked.get(name), name) for name in ('like', 'unlike'))
    said = check(asked['query'] or None, RankOptions(
        like=like or None, negative=asked.get('negative') or None))
    plane = plane_of_table(table)
    cache = fullest_cache(session, like + unlike, plane)
    with session.pipeline(encoder, cache, plane=plane) as pipeline:
        query = Query(said.phrases, said.negatives, cached_examples(session, like, pipeline),
                      cached_examples(session, unlike, pipeline),
                      check_weights(asked.get('weights')))
    return bundle.background.cosines(query.image_vector(encoder))


def _examples(said: Any, name: str) -> list[str]:
    """
    References to example images, as ``meta['clip']`` has them.
    """
    if said is not None and not (isinstance(said, list)
                                 and all(isinstance(source, str) for source in said)):
        raise invalid(f"meta['clip'] has no valid {name}, which is a list of images: rank again.")
    return said or []


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
