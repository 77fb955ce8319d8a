# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that say where in the pictures something is, and where on the sky.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any

import numpy as np
from astropy.table import Row, Table

from ..archives.columns import TableColumns, text_column
from ..embeddings.collect import Outcomes, follow_links, n_workers
from ..embeddings.pipeline import Pipeline
from ..embeddings.progress import Progress
from ..exceptions import ImageError, UncalibratedWarning, invalid, warn
from ..images.refs import ADDRESSES, ImageRefs, parse, status_of
from ..places.found import Asked, Seen, look
from ..places.maps import SIDE
from ..places.sky import asked_wcs, outline
from ..ranking import query_images
from ..ranking.query import Query
from ..ranking.scores import warn_of_length
from ..results.places import located_table
from ..results.table import circumstances, warn_of_rows
from ..status import OK, Reason, reason
from .arguments import ImageOptions, RankOptions, check, check_rate
from .kept import known_examples, plane_of_table
from .marks import Marks, is_ranked, phrases_of, said_by
from .rank import open_images, opened
from .session import Session

__all__ = ['LocateOptions', 'get_maps', 'locate']

_REGION = ('s_region', 'ucd:pos.outline;obs.field')

_MOST_PLACES = 1000  # of a picture


@dataclass(frozen=True, kw_only=True)
class LocateOptions(ImageOptions):
    """
    Options of the verbs that look for places; `ClipSearchClass.locate` says what they mean.
    """

    negative: str | Sequence[str] | None = None
    like: Any = None
    unlike: Any = None
    weights: dict[str, float] | None = None


def locate(session: Session, results: Any, text: str | Sequence[str] | None, n: int,
           false_alarm_rate: float | None, options: LocateOptions) -> Table:
    """
    The best places of each picture, one a line.
    """
    if not isinstance(n, Integral) or not 1 <= n <= _MOST_PLACES:
        raise invalid(f'n must be a number of places from 1 to {_MOST_PLACES}.')
    if false_alarm_rate is not None:
        check_rate(false_alarm_rate)
        if session.encoder().bundle.background.image is None:
            raise invalid(f'The model {session.model_name!r} has no reference images, so there is '
                          'no false-alarm rate: leave it out.')
    table, outcomes, asked, query, found, plane = _looked(session, results, text, options, n,
                                                          with_map=False)
    places = located_table(table, outcomes, found, false_alarm_rate)
    encoder = session.encoder()
    places.meta['clip'] = {
        'verb': 'locate', 'query': query.phrases, 'negative': query.negatives,
        'like': query.like.sources, 'unlike': query.unlike.sources,
        'false_alarm_rate': false_alarm_rate,
        **circumstances(outcomes, outcomes.status_counts().get(OK, 0), encoder, plane)}
    if asked.background is None:
        warn(f'The model {encoder.bundle.name!r} has no reference images: clip_score is the '
             'cosine, and there is no false-alarm rate.', UncalibratedWarning)
    warn_of_rows(outcomes)
    return places


def get_maps(session: Session, results: Any, text: str | Sequence[str] | None,
             options: LocateOptions) -> list[np.ndarray | None]:
    """
    How well each place of each picture fits, `None` where there is none.
    """
    _, outcomes, _, _, found, _ = _looked(session, results, text, options, 1, with_map=True)
    warn_of_rows(outcomes)
    return [seen.heat if isinstance(seen, Seen) else None for seen in found]


def _looked(session: Session, results: Any, text: str | Sequence[str] | None,
            options: LocateOptions, n: int, *, with_map: bool
            ) -> tuple[Table, Outcomes, Asked, Query, list[Seen | None], Any]:
    if isinstance(results, Row):  # it may have been ranked
        results = results.table[results.index:results.index + 1]
    results = opened(results)
    text, options, marked = _gone_on(results, text, options)
    asked_for = check(text, RankOptions(by='image', **{
        field.name: getattr(options, field.name) for field in fields(LocateOptions)}))
    table, refs = open_images(session, results, options)
    refs = _given_up(table, refs)
    shown = {name: query_images.open_examples(images, name, image_dir=options.image_dir,
                                              is_ours=session.is_ours)
             for name, images in (('like', options.like), ('unlike', options.unlike))
             if images is not None and not marked}
    hosts = refs.trusted.union(*(part.trusted for part in shown.values()))
    encoder, plane = session.encoder(), plane_of_table(table)
    warn_of_length(asked_for.phrases + asked_for.negatives, encoder)
    show = session.setting('show_progress', options.show_progress)
    with session.pipeline(encoder, session.cache(options.cache), hosts, plane) as pipeline:
        examples = (dict(zip(('like', 'unlike'), known_examples(
            session, options.like or [], options.unlike or [], pipeline), strict=True)) if marked
            else {name: query_images.embed(part, pipeline, show_progress=show)
                  for name, part in shown.items()})
        query = Query(asked_for.phrases, asked_for.negatives, weights=asked_for.weights,
                      **examples)
        asked = Asked.of(query, encoder)
        most = session.setting('max_images', options.max_images)
        outcomes, found = _each_image(table, refs, pipeline, asked, n, most, show=bool(show),
                                      with_map=with_map)
        return table, outcomes, asked, query, found, pipeline.plane


def _gone_on(results: Any, text: Any, options: LocateOptions) -> tuple[Any, LocateOptions, bool]:
    """
    What a ranked table was ranked by, if nothing else is asked; and whether its examples count.
    """
    if text is not None or options.like is not None or not is_ranked(results):
        return text, options, False
    said = said_by(results, 'locate')
    options = replace(
        options,
        negative=options.negative if options.negative is not None else said.get('negative') or None,
        weights=options.weights if options.weights is not None else said.get('weights'))
    if options.unlike is not None:  # what is said now counts
        return phrases_of(results, said), options, False
    like, unlike = Marks.of(results, said).examples()
    return (phrases_of(results, said),
            replace(options, like=like or None, unlike=unlike or None), True)


def _given_up(table: Table, refs: ImageRefs) -> ImageRefs:
    """
    What a ranking has given up is not tried again; the row itself says why.
    """
    if 'clip_status' not in table.colnames or 'clip_message' not in table.colnames:
        return refs
    reasons = dict(refs.reasons)
    for row, (status, message) in enumerate(zip(text_column(table, 'clip_status'),
                                                text_column(table, 'clip_message'), strict=True)):
        if status not in ('', OK):
            reasons[row] = (reason('before', status=status, said=message or status),)
    return replace(refs, reasons=reasons)


def _each_image(table: Table, refs: ImageRefs, pipeline: Pipeline, asked: Asked, n: int,
                most: int | None, *, show: bool,
                with_map: bool) -> tuple[Outcomes, list[Seen | None]]:
    """
    What was found in the picture of each row; every picture is looked at once.
    """
    sources, reasons = list(refs.sources), {
        # What was noted of an earlier ranking says nothing of places.
        row: several for row, several in refs.reasons.items()
        if status_of(several) != OK or several[0].code != 'before'}
    outcomes = Outcomes(sources, reasons)
    rows = [row for row, source in enumerate(sources) if source and outcomes.is_ok(row)]
    links = follow_links(dict.fromkeys(
        sources[row] for row in rows if parse(sources[row]).kind == 'link'), pipeline)
    by_source: dict[str, list[int]] = {}
    for row in rows:
        answer = links.get(sources[row], sources[row])
        if isinstance(answer, ImageError):
            reasons[row] = (answer.because,)
            continue
        sources[row] = answer
        by_source.setdefault(answer, []).append(row)
    remote = [source for source in by_source if source.startswith(ADDRESSES)]
    for source in remote[most:] if most is not None else []:
        for row in by_source.pop(source):
            reasons[row] = (reason('too_many_images', limit=most),)
    regions = _regions(table)
    found: list[Seen | None] = [None] * len(sources)
    for source, seen in _looked_at(list(by_source), refs.objects, pipeline, asked, n, show,
                                   with_map):
        for row in by_source[source]:
            if isinstance(seen, Reason):
                reasons[row] = (*reasons.get(row, ()), seen)
                continue
            placed, why = _on_sky(seen, pipeline.address(source), regions[row])
            found[row] = placed
            if why is not None:
                reasons[row] = (*reasons.get(row, ()), why)
    return outcomes, found


def _looked_at(sources: list[str], objects: Mapping[str, Any], pipeline: Pipeline, asked: Asked,
               n: int, show: bool, with_map: bool) -> Any:
    """
    Yield each source with what was found in its picture, or why nothing was.
    """
    def look_at(source: str) -> Seen | Reason:
        try:
            seen, sky = pipeline.pointed(source, objects, SIDE, lambda picture: look(
                picture, pipeline.encoder, asked, n, with_map=with_map))
        except ImageError as error:
            return error.because
        return replace(seen, sky=None if isinstance(sky, ImageError) else sky,
                       why=sky.because if isinstance(sky, ImageError) else None)

    workers = ThreadPoolExecutor(
        n_workers(sources, pipeline.fetcher.limits.n_connections, pipeline.n_threads),
        thread_name_prefix='astroclip')
    try:
        with Progress(len(sources), show=show) as progress:
            waiting = {workers.submit(look_at, source): source for source in sources}
            for done in as_completed(waiting):
                outcome = done.result()
                progress.count('failed' if isinstance(outcome, Reason) else 'embedded')
                progress.show()
                yield waiting.pop(done), outcome
    finally:  # an interruption does not wait for what is being fetched
        workers.shutdown(wait=False, cancel_futures=True)


def _regions(table: Table) -> list[str]:
    columns = TableColumns(table)
    name = columns.find(*_REGION)
    return [''] * len(table) if name is None else columns.text(name)


def _on_sky(seen: Seen, address: str, region: str) -> tuple[Seen, Reason | None]:
    """
    The same with positions by the address or by the outline, if the file says none; and a note.
    """
    if seen.sky is not None and np.isfinite(seen.sky).any():
        # Tags of a bitmap are right to a pixel or so.
        return seen, None
    geometry, why = seen.geometry, seen.why
    if why is None or why.code == 'bad_wcs' or geometry.is_flipped:
        return replace(seen, sky=None), _note(why)
    parts = np.array([point for place in seen.places for point in place.points]).reshape(-1, 2)
    wcs = asked_wcs(address, geometry.width, geometry.height)
    if wcs is not None:
        pixels = np.stack(geometry.to_original(*parts.T), axis=1)
        scale = abs(float(wcs.wcs.cdelt[1])) * 3600
        return replace(seen, sky=wcs.wcs_pix2world(pixels, 0),
                       error=np.full(len(parts), scale / 2)), None
    field = outline(region, geometry.width, geometry.height)
    if field is None:
        return replace(seen, sky=None), _note(why)
    ra, dec, off = field.sky(*parts.T)
    return (replace(seen, sky=np.stack([ra, dec], axis=1), error=off * 3600),
            reason('by_outline'))


def _note(why: Reason | None) -> Reason:
    """
    Why there is no position, as a note: the place in the picture is there.
    """
    said = why or reason('no_wcs')
    return said._replace(status=OK)

