# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
MAST: queries, and the address of a ``mast:`` URI.

Candidates come from `astroquery.mast.Observations`; the preview of an observation is the
``jpegURL`` of its row, so no product list is ever asked for.
"""

import contextlib
import math
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from astropy.table import Table, vstack

from ..exceptions import ImageError, IncompleteQueryWarning, one_line, warn
from ..images.guard import Clock
from ..images.http import RETRY_STATUS, back_off
from ..images.sessions import Visit
from ..untrusted.quiet import quiet
from ..untrusted.values import from_json, host_of, retry_after, split
from .columns import text_column

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

__all__ = ['credentials', 'criteria', 'download_url', 'existing_values', 'keywords',
           'query_clock', 'resolve', 'search_words']

# Words of a phrase that say how a thing looks or nothing at all, never what a programme is about.
_STOP_WORDS = frozenset(
    'a an and any around as at bright by dark edge face faint field for from having image images '
    'in into is its large like many near of on one or out over picture pictures several showing '
    'small some than that the their this to two type very view viewed with without lane no not '
    'seen side'.split())

_MAX_KEYWORDS = 3

# A stem finds "disks" for "disk" and "galaxies" for "galaxy"; MAST has no stemming of its own.
_ENDINGS = re.compile(r'(ies|es|s|y)$')

_WORD_COLUMNS = ('obs_title', 'target_classification')

# Criteria that are looked into if nothing was found, rows that are looked at, and values named.
_MAX_DOUBTED = 3
_LOOKED_AT = 1000
_MAX_NAMED = 8

# More rows in one answer are more than the portal likes, and astroquery's own page.
_PAGE_SIZE = 50_000

# Where astroquery asks which columns there are.
_COLUMNS = '/columnsconfig'

# The cookie with the API token of a login.
_TOKEN = 'mast_token'  # noqa: S105 - its name

# Types of columns that astroquery knows; it would hand others to numpy, and some of them are sizes.
_TYPES = frozenset('char string datetime date double float decimal int short long number boolean '
                   'binary unsignedbyte'.split())

# Cells of a table, and bytes of its text columns as numpy holds them.
_MAX_CELLS = 50_000_000
_MAX_TEXT = 4 * 1024**3

# astroquery keeps the state of a query in the instance and in its settings.
_one_at_a_time = threading.Lock()


def _new_lock() -> None:
    global _one_at_a_time  # noqa: PLW0603 - after a fork nobody releases it
    _one_at_a_time = threading.Lock()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_new_lock)


def _observations(observations: Any) -> Any:
    if observations is None:
        from astroquery.mast import Observations
        return Observations
    return observations


def download_url(uri: str, observations: Any = None) -> str:
    """
    Address of a ``mast:`` URI at the download service of an instance of ``ObservationsClass``.
    """
    # astroquery has no public name for the server of an instance, nor for its login below.
    portal = getattr(_observations(observations), '_portal_api_connection', None)
    base = getattr(portal, 'MAST_DOWNLOAD_URL', None)
    if base is None:
        from astroquery.mast import conf
        base = f'{conf.server}/api/v0.1/Download/file'
    return f'{base}?uri={quote(uri, safe=":/", errors="replace")}'


def credentials(observations: Any = None) -> dict[str, dict[str, str]]:
    """
    The host of the download service -> the header with the MAST API token, which no other server
    may see; empty if nobody is logged in.
    """
    if observations is None and 'astroquery.mast' not in sys.modules:
        return {}  # nobody can have logged in
    observations = _observations(observations)
    session = getattr(observations, '_session', None)
    # As astroquery keeps it, without a host; no server can set such a cookie.
    tokens = [cookie.value for cookie in getattr(session, 'cookies', ())
              if cookie.name == _TOKEN and not cookie.domain]
    place = download_url('', observations)
    if not tokens or not place.startswith(_home(observations)):
        return {}
    return {host_of(place): {'Cookie': f'{_TOKEN}={tokens[0]}'}}


def _home(observations: Any) -> str:
    """
    Scheme and host of the server where a user logs in, with a slash behind: the only one that may
    see the token, also where downloads or the portal were configured to be elsewhere.
    """
    login = getattr(getattr(observations, '_auth_obj', None), 'SESSION_INFO_URL', None)
    parts = split(login or download_url('', observations))
    return 'https://mast.stsci.edu/' if parts is None else f'{parts.scheme}://{parts.netloc}/'


def query_clock() -> Clock:
    """
    The time that the queries of one call may take.
    """
    from ..config import conf

    return Clock(conf.query_timeout or math.inf)


def resolve(object_name: str, observations: Any = None, *, resolver: str | None = None,
            clock: Clock | None = None) -> 'SkyCoord':
    """
    Position (ICRS) of a named object from the name resolver of MAST, which asks SIMBAD, NED or
    both.
    """
    observations = _observations(observations)
    options = {'resolver': resolver} if resolver else {}

    def position() -> 'SkyCoord':
        found = observations.resolve_object(object_name, **options)
        if not (found.isscalar and math.isfinite(found.ra.deg) and math.isfinite(found.dec.deg)):
            raise ValueError('it is no position')
        return found

    return _ask(observations, position, clock)


def criteria(filters: dict[str, Any], *, observations: Any = None,
             max_rows: int = _PAGE_SIZE, clock: Clock | None = None) -> Table:
    """
    Image observations that meet criteria of ``Observations.query_criteria``, at most ``max_rows``.

    The first page is one request. If it is full, the rows are counted, and as many further pages
    fetched as there are, or as are wanted; with a criterion ``page`` it is this page only.
    """
    from astroquery.exceptions import NoResultsWarning, RemoteServiceError

    observations = _observations(observations)
    clock = query_clock() if clock is None else clock
    filters = {'dataproduct_type': 'image', **filters}
    max_rows = max(1, max_rows)
    size = min(filters.pop('pagesize', None) or _PAGE_SIZE, max_rows)

    def page(number: int) -> Table:
        return _ask(observations, lambda: observations.query_criteria(page=number, pagesize=size,
                                                                      **filters), clock)

    wanted = filters.pop('page', None)
    first = page(wanted or 1)
    if wanted or len(first) < size:
        return first
    pages = [first]
    try:
        total = int(_ask(observations, lambda: observations.query_criteria_count(**filters),
                         clock))
        if total < len(first):
            raise RemoteServiceError('it counts fewer rows than it has sent.')
        with quiet(NoResultsWarning):  # rows may have gone meanwhile
            while len(pages) * size < min(total, max_rows):
                pages.append(page(len(pages) + 1))
    except RemoteServiceError as error:
        warn(f'Only the first {len(pages) * size} rows of MAST are ranked: {error}',
             IncompleteQueryWarning)
    else:
        if total > max_rows:
            warn(f'MAST has {total} such rows: only the first {max_rows} are ranked. Narrow the '
                 'query, or raise conf.mast_max_rows.', IncompleteQueryWarning)
    # A large page is not copied without need.
    if len(pages) == 1:
        return first
    try:
        return _stacked(pages)[:max_rows]
    except RemoteServiceError as error:
        warn(f'Only the first {len(first)} rows of MAST are ranked: {error}',
             IncompleteQueryWarning)
        return first


def existing_values(filters: dict[str, Any], names: Iterable[str], *,
                    observations: Any = None) -> str:
    """
    A sentence on the first of the named criteria without which something is found, with values
    that its column has; empty if there is none, or MAST does not say.
    """
    from astroquery.exceptions import InvalidQueryError, NoResultsWarning, RemoteServiceError

    clock = query_clock()

    def values(**changed: Any) -> list[str]:
        asked = {key: value for key, value in {**filters, **changed}.items() if value is not None}
        with quiet(NoResultsWarning):
            found = criteria({**asked, 'page': 1}, observations=observations, max_rows=_LOOKED_AT,
                             clock=clock)
        known = Counter(filter(None, text_column(found, name))) if name in found.colnames else {}
        return [value for value, _ in Counter(known).most_common(_MAX_NAMED)]

    doubted = [name for name in names if isinstance(filters.get(name), str)]
    try:
        for name in doubted[:_MAX_DOUBTED]:
            asked = filters[name].strip('*')
            near = values(**{name: f'*{asked}*'}) if '*' not in filters[name] else []
            if near:
                return (f'MAST has no {name} {asked!r}, as a value must match in full: it has '
                        f'{_listed(near)}. {f"*{asked}*"!r} finds all of these.')
            if others := values(**{name: None}):
                return (f'MAST has no {name} {asked!r} where all else fits: it has '
                        f'{_listed(others)}.')
    except (RemoteServiceError, InvalidQueryError):
        pass
    return ''


def _listed(values: list[str]) -> str:
    """
    Values in quotes, the most frequent ones if there are many.
    """
    among = ', among others' if len(values) == _MAX_NAMED else ''
    return ', '.join(map(repr, values)) + among


def keywords(text: str) -> list[str]:
    """
    At most three stems of a phrase by which candidates are looked for, longest first: long words
    are the rare ones.
    """
    words = [word for word in re.findall(r'[^\W_]{3,}', text.lower()) if word not in _STOP_WORDS]
    stems = [_ENDINGS.sub('', word) if len(word) > 4 else word for word in dict.fromkeys(words)]
    return sorted(dict.fromkeys(stems), key=len, reverse=True)[:_MAX_KEYWORDS]


def search_words(text: str, filters: dict[str, Any], *, max_rows: int,
                 observations: Any = None) -> tuple[Table, str]:
    """
    Candidates for a bare phrase, and how they were chosen: rows whose title or classification has
    one of its words, each observation once.

    MAST allows one wildcard value per column in a query, so each word is asked for in turn. It
    knows no words, only parts of them: that "ring" is also in "monitoring" counts only if no row
    has any of the words as such. Rows with several of the words come first, and among equals the
    programmes take turns: one with a thousand images must not crowd out the others.
    """
    from astroquery.exceptions import NoResultsWarning, RemoteServiceError

    max_rows = max(1, max_rows)
    queries = [(column, word) for column in _WORD_COLUMNS if column not in filters
               for word in keywords(text)]
    answers, parts, failures = [], [], []
    clock = query_clock()
    for n_answered, (column, word) in enumerate(queries):
        pattern = f'*{word}*'
        try:
            with quiet(NoResultsWarning):  # one of several narrow queries may well find nothing
                found = criteria({**filters, column: pattern, 'page': 1},
                                 observations=observations, max_rows=max_rows, clock=clock)
        except RemoteServiceError as error:
            failures.append(error)
            if len(failures) == 2 and n_answered == 1:
                raise  # it is not this word that MAST has trouble with
            continue
        if len(found):
            first = f'the first {max_rows} with ' if len(found) == max_rows else ''
            used = f'{first}{column}={pattern}'
            parts.append((found, used))
            rows = _with_word(found, column, word)
            if rows:
                answers.append((found[rows], used))
    answers = answers or parts
    if failures and not answers:
        raise failures[0]
    if failures:
        warn(f'{len(failures)} of {len(queries)} queries to MAST failed, so candidates are '
             f'missing: {failures[0]}', IncompleteQueryWarning)
    if answers:
        selection = 'MAST rows with ' + ' or '.join(used for _, used in answers)
        return _merge([found for found, _ in answers])[:max_rows], selection
    table = criteria({**filters, 'page': 1}, observations=observations, max_rows=max_rows,
                     clock=clock)
    return table, 'MAST rows in the order of the archive, as no title has a word of the text'


def _with_word(table: Table, column: str, stem: str) -> list[int]:
    """
    Rows in which a stem is that of a word, and not something in the middle of one.
    """
    if column not in table.colnames:
        return list(range(len(table)))
    # Letters alone make a word, as in NGC1300; "disks", "galaxies", "nebulae" and "barred" end so.
    word = re.compile(rf'(?<![^\W\d_]){stem}[^\W\d_]{{0,3}}(?![^\W\d_])', re.IGNORECASE)
    return [i for i, text in enumerate(text_column(table, column)) if word.search(text)]


def _merge(answers: list[Table]) -> Table:
    """
    Answers one below the other, each observation once, most frequent first.
    """
    merged = _stacked(answers)
    if 'obsid' not in merged.colnames:
        return merged
    ids = merged['obsid'].astype(str).tolist()
    programmes = (merged['proposal_id'].astype(str).tolist() if 'proposal_id' in merged.colnames
                  else ids)
    counts = Counter(ids)
    rows = list({value: i for i, value in reversed(list(enumerate(ids)))}.values())[::-1]
    seen: Counter = Counter()
    places = []
    for i in rows:
        group = counts[ids[i]], programmes[i]
        places.append((-counts[ids[i]], seen[group], i))
        seen[group] += 1
    return merged[[i for _, _, i in sorted(places)]]


def _stacked(tables: list[Table]) -> Table:
    """
    Tables one below the other.
    """
    from astroquery.exceptions import RemoteServiceError

    try:
        return vstack(tables, metadata_conflicts='silent')
    except (TypeError, ValueError) as error:  # columns of one name and several kinds
        raise RemoteServiceError('What MAST has sent does not fit together: try again later.'
                                 ) from error


def _ask(observations: Any, query: Callable[[], Any], clock: Clock | None) -> Any:
    """
    Ask MAST, once more where that may help: its queries change nothing.
    """
    import requests
    from astroquery.exceptions import InvalidQueryError, RemoteServiceError

    from ..config import conf

    clock = query_clock() if clock is None else clock
    attempt = 0
    while True:
        try:
            with (_turn(clock), _visit(observations, clock) as visit,
                  quiet(RuntimeWarning)):  # of numpy, which makes numbers of what was sent
                return query()
        except RemoteServiceError as error:
            raise RemoteServiceError(one_line(error, 300)) from error
        except (requests.exceptions.RequestException, TimeoutError, KeyError,
                InvalidQueryError) as error:
            # When MAST fails to say which columns it has, astroquery finds the first one unknown.
            if isinstance(error, InvalidQueryError) and "'dataproduct_type'" not in str(error):
                _forget_columns(observations)  # they may be what is wrong
                raise
            failure: Exception = error
            problem, wait = _diagnosis(error, back_off(attempt))
        except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError,
                TypeError, ValueError) as error:
            if not visit.answered:
                raise  # it is about the question
            _forget_columns(observations)
            failure, problem, wait = error, 'its answer makes no sense', math.inf
        if not clock.left:
            problem, wait = f'it took longer than {conf.query_timeout:g} s', math.inf
        if attempt >= conf.retries or wait > conf.mast_timeout or wait > clock.left:
            raise RemoteServiceError(f'MAST does not answer ({problem}): try again later.'
                                     ) from failure
        time.sleep(wait)
        attempt += 1


def _forget_columns(observations: Any) -> None:
    """
    Have astroquery ask anew which columns there are, which it does once in a process.
    """
    portal = getattr(observations, '_portal_api_connection', None)
    getattr(portal, '_column_configs', {}).clear()


@contextlib.contextmanager
def _turn(clock: Clock) -> Iterator[None]:
    """
    Wait until no other thread asks MAST, but not for ever.
    """
    lock = _one_at_a_time
    if not lock.acquire(timeout=min(clock.left, threading.TIMEOUT_MAX)):
        raise TimeoutError
    try:
        yield
    finally:
        lock.release()


def _diagnosis(error: Exception, wait: float) -> tuple[str, float]:
    """
    What went wrong, and the seconds after which another try makes sense, infinite if none does.
    """
    import requests.exceptions as kinds
    from astroquery.exceptions import InvalidQueryError

    if isinstance(cause := error.__cause__, ImageError):
        return {'no_connection': 'no answer in time', 'unknown_host': 'it cannot be reached',
                'unreachable': 'it cannot be reached'}.get(cause.because.code,
                                                           cause.reason), math.inf
    if isinstance(error, kinds.HTTPError) and error.response is not None:
        status = error.response.status_code
        announced = retry_after(error.response.headers.get('Retry-After'))
        return f'HTTP {status}', (math.inf if status not in RETRY_STATUS else
                                  wait if announced is None else announced)
    if isinstance(error, kinds.Timeout | TimeoutError):
        return 'no answer in time', math.inf
    if isinstance(error, kinds.ConnectionError | kinds.ChunkedEncodingError):
        if 'NewConnectionError' in repr(error) or 'NameResolution' in repr(error):
            return 'it cannot be reached', math.inf
        return 'broken connection', wait
    return 'its answer makes no sense', wait if isinstance(error, InvalidQueryError) else math.inf


@contextlib.contextmanager
def _visit(observations: Any, clock: Clock) -> Iterator[Visit]:
    """
    Have an instance ask within the bounds of a visit; astroquery alone waits for ever.
    """
    from astroquery.mast import utils

    from ..config import conf

    def read(response: Any) -> None:
        if response.status_code == 200:
            said = _checked(from_json(response.content), str(response.url))
            response.json = lambda **_: said  # astroquery asks for it twice or more
            visit.answered = not str(response.url).endswith(_COLUMNS)

    home = _home(observations)
    portal = getattr(observations, '_portal_api_connection', None)
    places = [home, download_url('', observations), getattr(portal, 'MAST_REQUEST_URL', '')]
    visit = Visit(seconds=conf.query_timeout or math.inf, clock=clock, home=home,
                  timeout=(conf.connect_timeout, conf.mast_timeout), read=read,
                  trusted=[*map(host_of, places), *conf.private_hosts])
    session = getattr(observations, '_session', None)
    before = session and (session.adapters, session.trust_env)
    with visit, visit.in_place_of_requests(utils):
        if session is not None:
            visit.mount(session)
        try:
            yield visit
        finally:
            if session is not None:
                session.adapters, session.trust_env = before


def _checked(said: Any, url: str) -> Any:
    """
    An answer of MAST that astroquery can make a table of, or `ValueError`.
    """
    if not isinstance(said, dict):
        raise ValueError('it is no object')
    if url.endswith(_COLUMNS):
        for column in said.values():
            if not isinstance(column, dict) or not all(
                    isinstance(column.get(name), str | int | float | None)
                    for name in ('vot.datatype', 'type', 'treatNumeric', 'separator')):
                raise ValueError('it does not describe columns')
        # astroquery would remember it for good.
        kind = said.get('dataproduct_type')
        is_text = kind and not kind.get('treatNumeric') and kind.get(
            'vot.datatype', kind.get('type')) not in ('double', 'float', 'numeric')
        return said if is_text else {}
    fields, rows = said.get('fields'), said.get('data')
    if not isinstance(fields, list) or not isinstance(rows, list):
        return said  # an error, or of the name resolver
    for field in fields:
        if not isinstance(field, dict) or not isinstance(field.get('name'), str):
            raise ValueError('a column has no name')
        if str(field.get('type')).lower() not in _TYPES:
            field['type'] = 'string'
    n_cells = len(fields) * len(rows)
    if n_cells > _MAX_CELLS or not all(isinstance(row, dict) for row in rows):
        raise ValueError('it is no table')
    widths: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            kind = type(value)
            if kind is str and len(value) > widths.get(name, 0):
                widths[name] = len(value)
            elif kind is list or kind is dict:
                raise ValueError('a cell is no value')
    if 4 * len(rows) * sum(widths.values()) > _MAX_TEXT:
        raise ValueError('its texts are too long')
    return said
