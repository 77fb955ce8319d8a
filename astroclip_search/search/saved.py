# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that keep a search, and that ask it again later.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from ..archives import table_io
from ..archives.columns import text_column
from ..archives.vo import service_address
from ..config import conf
from ..exceptions import invalid, one_line
from ..images.guard import is_private
from ..images.objectstore import is_allowed
from ..images.refs import ADDRESSES, parse
from ..untrusted.files import leads_elsewhere
from ..untrusted.values import split
from . import mast, vo
from .arguments import RankOptions, check_columns, check_count
from .marks import Marks, phrases_of
from .rank import check_filter, rank
from .recipe import KEPT, decoded, encoded, fingerprints, lively
from .refine import refine
from .session import Session

__all__ = ['rerun', 'save']

_KEPT_IN = 'a file that ends in .ecsv, .fits, .vot or .parquet'


def save(table: Table, path: str | Path, overwrite: bool) -> Path:
    """
    Write a ranked table with all that is needed to go on from it.
    """
    if not isinstance(table, Table) or not isinstance(table.meta.get('clip'), dict):
        raise invalid('save takes a table that a verb such as rank or query_text has returned.')
    target = Path(path).expanduser()
    form = table_io.format_of(target)
    if form in (None, 'csv'):
        raise invalid(f'{target.name!r} cannot keep what was searched: give {_KEPT_IN}.')
    table_io.write(table, target, overwrite=overwrite)
    return target


def rerun(session: Session, saved: Any, results: Any, new_only: bool,
          false_alarm_rate: float | None, options: RankOptions,
          given: Collection[str] = ()) -> Table:
    """
    Ask a saved search again, and say which rows are new. Of the options those that were ``given``
    count, and else those of the search.
    """
    check_count(options.limit, 'limit', 'all rows', least=1)
    before, asked = _read(saved)
    made = asked.get('search')
    made = made if isinstance(made, dict) else {}
    if results is None and made.get('lost') == 'results':
        raise invalid('This search was of a table in memory, which cannot be asked for again: '
                      'give results, the table as it is now.')
    marks, text = Marks.of(before, asked), phrases_of(before, asked)
    limit, options = options.limit, replace(
        _options(session, asked, made, marks, options, given), limit=None)
    rate = asked.get('filtered_at') if false_alarm_rate is None else false_alarm_rate
    if rate is not None:
        check_filter(session, rate, options.by)
    if results is not None:
        again = rank(session, results, text, options, made or None)
    else:
        again = _ask(session, made, text, options)
    if marks.judged:
        again.meta['clip'] |= marks.provenance()
        again = refine(session, again, None, (), (), (), None, RankOptions(
            group_by=options.group_by, fold_duplicates=options.fold_duplicates))
    sources = text_column(again, 'clip_source')
    now, known = fingerprints(again, sources), _known(before, asked)
    is_new = np.array([row not in known for row in now], dtype=bool)
    again['clip_new'] = is_new
    shown = is_new if new_only else np.ones(len(again), dtype=bool)
    if rate is not None:
        rates = np.ma.filled(again['clip_false_alarm'].astype(float), np.nan)
        shown = shown & (rates <= rate)
        # What was judged is known; what could not be read will be new when it can.
        known = known.union(row for row, value in zip(now, rates, strict=True) if value > rate)
    found = again[np.flatnonzero(shown)[:limit]]
    found.meta['clip'] = {**again.meta['clip'], 'n_new': int(is_new.sum()),
                          'since': asked.get('date'), 'seen': encoded(known)}
    if rate is not None:
        found.meta['clip']['filtered_at'] = rate
    return found


def _read(saved: Any) -> tuple[Table, dict[str, Any]]:
    """
    The table of a saved search, and what it says of itself.
    """
    if isinstance(saved, str | Path):
        path = Path(saved).expanduser()
        if not path.is_file():
            raise invalid(f'There is no file {str(saved)!r}.')
        saved = table_io.read(path)
    asked = saved.meta.get('clip') if isinstance(saved, Table) else None
    if not isinstance(asked, dict) or 'query' not in asked:
        raise invalid('This table does not say what was searched: rerun takes what a verb such as '
                      f'query_text has returned, or {_KEPT_IN} that save has written.')
    return saved, asked


def _options(session: Session, asked: Mapping[str, Any], made: Mapping[str, Any], marks: Marks,
             options: RankOptions, given: Collection[str]) -> RankOptions:
    """
    The options of the search, under those that are given now.
    """
    said = made.get('options')
    before = {name: _alive(value, name) for name, value in
              (said.items() if isinstance(said, dict) else ()) if name in KEPT}
    for name in given:
        before.pop(name, None)
    place, columns = before.get('image_dir'), before.get('image_column')
    if not isinstance(place, str | None):
        raise invalid('The saved search has no valid image_dir: give it again.')
    # Only in person one says which files of this machine may be read.
    if place not in session.named.places:
        before.pop('image_dir', None)
    check_columns(columns)
    columns = [columns] if isinstance(columns, str) else columns or []
    if not session.named.places.issuperset(columns):
        raise invalid(f'The saved search takes its images from {", ".join(map(str, columns))!r}, '
                      'which may be files of this computer: give image_column again to allow it.')
    for name, sources in (('like', marks.like), ('unlike', marks.unlike)):
        if sources and getattr(options, name) is None:
            before[name] = _examples(sources, name)
    before['negative'] = asked.get('negative') or None
    weights = asked.get('weights')
    before['weights'] = weights if isinstance(weights, dict) else None
    before['by'] = asked.get('by', 'both')
    return replace(options, **{name: value for name, value in before.items()
                               if name not in given})


def _examples(sources: list[str], name: str) -> Table:
    """
    Example images as rows that were ranked: of these neither hosts nor files are trusted.
    """
    if any(parse(source).kind == 'memory' for source in sources):
        raise invalid(f'An example of {name} was an image in memory: give {name} again.')
    return Table({'clip_source': sources, 'clip_status': [''] * len(sources)})


def _alive(value: Any, name: str) -> Any:
    try:
        return lively(value)
    # Anyone may have written the file.
    except Exception as error:
        raise invalid(f'The saved search has no valid {name} ({one_line(error)}).') from error


def _ask(session: Session, made: Mapping[str, Any], text: list[str] | None,
         options: RankOptions) -> Table:
    """
    Ask an archive, or look into a folder, as before.
    """
    if isinstance(made.get('lost'), str):
        raise invalid(f'This search cannot be asked again, as its {made["lost"]} was an object of '
                      'Python: ask it anew, or give results.')
    arguments = made.get('arguments')
    ask = _VERBS.get(str(made.get('verb')))
    if ask is None or not isinstance(arguments, dict):
        raise invalid('The saved search does not say what was asked of which archive.')
    given = {name: _alive(value, name) for name, value in arguments.items()}
    return ask(session, text, given, options)


def _query_text(session: Session, text: Any, given: dict[str, Any], options: RankOptions) -> Table:
    return mast.query_text(session, text, None, None, None, given.get('criteria'), options)


def _query_region(session: Session, text: Any, given: dict[str, Any],
                  options: RankOptions) -> Table:
    return mast.query_around(session, text, given.get('coordinates'), given.get('object_name'),
                             given.get('radius'), given.get('criteria'), options,
                             given.get('resolver'))


def _query_criteria(session: Session, text: Any, given: dict[str, Any],
                    options: RankOptions) -> Table:
    return mast.query_criteria(session, text, given.get('criteria'), options)


def _query_sia(session: Session, text: Any, given: dict[str, Any], options: RankOptions) -> Table:
    named = {name: given.pop(name, None) for name in ('pos', 'radius', 'criteria')}
    return vo.query_sia(session, text, _service(given.pop('service', None)), named['pos'],
                        named['radius'], given.pop('version', 2), named['criteria'], options,
                        trusted=False, **{name: given.get(name) for name in (
                            'band', 'time', 'collection', 'maxrec')})


def _query_tap(session: Session, text: Any, given: dict[str, Any], options: RankOptions) -> Table:
    return vo.query_tap(session, text, given.get('query', ''), _service(given.get('service')),
                        bool(given.get('async_')), options, trusted=False, uploads=None,
                        maxrec=given.get('maxrec'), language=str(given.get('language', 'ADQL')))


def _rank(session: Session, text: Any, given: dict[str, Any], options: RankOptions) -> Table:
    results = given.get('results')
    items = results if isinstance(results, list) else [results]
    if not items or not all(isinstance(item, str) for item in items):
        raise invalid('The saved search does not say what was ranked.')
    for item in items:
        _check_place(session, item, options.image_dir)
    # Hosts are trusted that the user has typed, and not those of a file.
    return rank(session, results, text, options, trusted=False)


def _check_place(session: Session, item: str, image_dir: Any) -> None:
    """
    Raise if a file of anyone's sends us to a place of this machine that the user has not named.
    """
    if (item.strip().startswith(ADDRESSES) or is_allowed(item, remote=True)
            or item in session.named.places):
        return
    if image_dir is not None:
        base = Path(image_dir).expanduser().resolve()
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            if not leads_elsewhere(item, base) and Path(item).resolve().is_relative_to(base):
                return
    raise invalid(f'The saved search looks into {item[:200]!r} on this computer, and a file may '
                  'not say what is read here: give image_dir, that folder or one above it, or '
                  'results, what is to be ranked now.')


_VERBS: dict[str, Callable[[Session, Any, dict[str, Any], RankOptions], Table]] = {
    'query_text': _query_text, 'query_region': _query_region, 'query_criteria': _query_criteria,
    'query_sia': _query_sia, 'query_tap': _query_tap, 'rank': _rank}


def _service(address: Any) -> str:
    """
    The address of a service that a file names: none on a private network, unless it is the user's.
    """
    text = address.strip() if isinstance(address, str) else ''
    parts = split(text)
    host = '' if parts is None else str(parts.hostname)
    try:
        host.encode('idna')
    except UnicodeError:
        parts = None
    if parts is None and text.startswith(('http://', 'https://')):
        raise invalid(f'The saved search asks {text[:80]!r}, which is no address.')
    address, port = service_address(address), parts.port
    names = {host, f'{host}:{port or (443 if parts.scheme == "https" else 80)}'}
    if names.isdisjoint(conf.private_hosts):
        try:
            found = {info[4][0] for info in socket.getaddrinfo(host, port or 80)}
        except OSError:  # the query itself says so
            found = set()
        if any(is_private(str(ipaddress.ip_address(str(one).partition('%')[0]))) for one in found):
            raise invalid(f'The saved search asks {host}, which is on a private network: add '
                          f'{max(names, key=len)!r} to conf.private_hosts if it is yours.')
    return address


def _known(before: Table, asked: Mapping[str, Any]) -> set[bytes]:
    """
    Fingerprints of the rows that the search has found so far.
    """
    sources = (text_column(before, 'clip_source') if 'clip_source' in before.colnames
               else [''] * len(before))
    return decoded(asked.get('seen')).union(fingerprints(before, sources))
