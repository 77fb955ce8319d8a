# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Links that a service must be asked about -> image addresses.

A row of the Virtual Observatory may name a DataLink document instead of an image. It is read when
the image is needed and not before, so that a table of any length costs no request by itself.

Services are asked for many documents in one request where they can answer it.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import unquote_plus, urlsplit

from .datalink import Document, Nested, choose, parse
from .exceptions import PreviewError
from .previews import Fetcher
from .references import LINK

__all__ = ['aim', 'follow', 'link']

# IDs in one request; pyvo asks for 50, the standard leaves the limit to the service.
_BATCH = 100
_MAX_HOSTS = 4

_SOURCE = re.compile(r'(?s)(?P<address>.*?)(?:#circle=(?P<circle>[-+.,\de]*))?'
                     r'(?:#else=(?P<fallback>.*))?')


def link(address: str, *, circle: Sequence[float] | None = None, fallback: str = '') -> str:
    """
    Source of an image that a DataLink document leads to.

    Parameters
    ----------
    address : str
        Address of the document.
    circle : sequence of float, optional
        Right ascension, declination and radius in degrees of a cutout, for services that make
        some.
    fallback : str
        Address of an image, for when the document leads to none.

    Returns
    -------
    str
        ``datalink:<address>``, then ``#circle=ra,dec,radius`` and ``#else=<fallback>`` if given.

    Examples
    --------
    >>> from astroclip_search.links import link
    >>> link('https://archive.example/links?ID=7', circle=(10.5, -5.25, 0.01))
    'datalink:https://archive.example/links?ID=7#circle=10.5,-5.25,0.01'
    """
    source = LINK + address.partition('#')[0]  # a fragment could pass for the parts below
    if circle:
        source += '#circle=' + ','.join(str(round(float(value), 6)) for value in circle)
    return source + (f'#else={fallback}' if fallback else '')


def aim(source: str, circle: Sequence[float]) -> str:
    """
    The same link, with a cutout where the service makes some.

    Parameters
    ----------
    source : str
        Source as from `link`, without a circle.
    circle : sequence of float
        Right ascension, declination and radius in degrees.

    Returns
    -------
    str
        Source of an image.
    """
    found = _Link.parse(source)
    return link(found.address, circle=circle, fallback=found.fallback)


@dataclass(frozen=True)
class _Link:
    """
    A source, taken apart.
    """

    address: str
    circle: tuple[str, ...] = ()
    fallback: str = ''

    @classmethod
    def parse(cls, source: str) -> '_Link':
        parts = _SOURCE.fullmatch(source.removeprefix(LINK)).groupdict(default='')
        circle = tuple(parts['circle'].split(',')) if parts['circle'].count(',') == 2 else ()
        return cls(parts['address'], circle, parts['fallback'])


def follow(sources: Sequence[str], fetcher: Fetcher, *,
           max_bytes: int) -> dict[str, str | PreviewError]:
    """
    The image that each link leads to.

    Of the links of a row the first of these counts: a bitmap that is a ``#preview-image``, a
    ``#preview`` or a ``#thumbnail``; if a circle was asked for, a cutout of a SODA service; and
    ``#this``, the data themselves, if they are a bitmap or FITS. A link to a further DataLink
    document is followed once.

    Parameters
    ----------
    sources : sequence of str
        Distinct sources as from `link`. Those whose addresses differ in the parameter ``ID`` only
        are asked for together.
    fetcher : Fetcher
        Downloads.
    max_bytes : int
        Largest file that is worth naming.

    Returns
    -------
    dict
        For each source the address of its image, or why there is none.
    """
    links = {source: _Link.parse(source) for source in sources}
    found = _choose_all(links, fetcher, max_bytes)
    nested = {source: _Link(choice.address, links[source].circle)
              for source, choice in found.items() if isinstance(choice, Nested)}
    if nested:
        found |= _choose_all(nested, fetcher, max_bytes)
    for source, choice in found.items():
        if isinstance(choice, Nested):
            found[source] = PreviewError('the DataLink documents lead in circles', choice.address,
                                         status='NO_IMAGE')
        fallback = links[source].fallback
        if fallback and isinstance(found[source], PreviewError):
            found[source] = fallback
    return found


def _choose_all(links: dict[str, _Link], fetcher: Fetcher,
                max_bytes: int) -> dict[str, str | Nested | PreviewError]:
    documents = _read(list(dict.fromkeys(item.address for item in links.values())), fetcher)
    found = {}
    for source, item in links.items():
        document = documents[item.address]
        found[source] = (document if isinstance(document, PreviewError)
                         else choose(document, item.circle, max_bytes))
    return found


def _read(addresses: list[str], fetcher: Fetcher) -> dict[str, Document | PreviewError]:
    """
    The document of each address, in as few requests as the services allow.
    """
    groups: dict[str, dict[str, str]] = {}
    for address in addresses:
        base, identifier = _split(address)
        if identifier:
            groups.setdefault(base, {})[identifier] = address
    services = [(base, list(members.items())) for base, members in groups.items()
                if len(members) > 1]
    hosts = {urlsplit(address).netloc for address in addresses}
    workers = ThreadPoolExecutor(
        max(1, fetcher.limits.n_connections) * min(max(1, len(hosts)), _MAX_HOSTS),
        thread_name_prefix='astroclip-links')
    try:
        return _ask(addresses, services, fetcher, workers.map)
    finally:
        workers.shutdown(wait=False, cancel_futures=True)


def _ask(addresses: list[str], services: list[tuple[str, list[tuple[str, str]]]],
         fetcher: Fetcher, each: Callable) -> dict[str, Document | PreviewError]:
    """
    Ask each service for many IDs at once, and one by one for what it did not answer.

    ``each`` is a ``map`` that works in parallel.
    """
    def post(batch: tuple[str, list[tuple[str, str]]]) -> dict[str, Document]:
        return _post(*batch, fetcher)

    def get(address: str) -> Document | PreviewError:
        return _get(address, fetcher)

    found: dict[str, Document | PreviewError] = {}
    rest = []
    # The first answer of each service shows how many IDs it takes at once.
    first = list(each(post, [(base, members[:_BATCH]) for base, members in services]))
    for (base, members), answer in zip(services, first, strict=True):
        found |= answer
        if (size := len(answer)) > 1:
            unseen = [member for member in members if member[1] not in answer]
            rest += [(base, unseen[start:start + size]) for start in range(0, len(unseen), size)]
    for answer in each(post, rest):
        found |= answer
    left = [address for address in addresses if address not in found]
    return found | dict(zip(left, each(get, left), strict=True))


def _split(address: str) -> tuple[str, str]:
    """
    An address without its parameter ID, and this parameter, encoded as it was.
    """
    path, _, query = address.partition('#')[0].partition('?')
    parameters = [part for part in query.split('&') if part]
    identifiers = [part for part in parameters if part.partition('=')[0].lower() == 'id']
    if len(identifiers) != 1:
        return address, ''
    others = '&'.join(part for part in parameters if part not in identifiers)
    return path + (f'?{others}' if others else ''), identifiers[0].partition('=')[2]


def _get(address: str, fetcher: Fetcher) -> Document | PreviewError:
    try:
        with fetcher.open(address) as content:
            document = parse(content, address)
    except PreviewError as error:
        return error
    # A service may put further datasets into its answer, or write the ID in another way.
    identifier = unquote_plus(_split(address)[1])
    own = [row for row in document.rows if row['id'] == identifier]
    return Document(address, own or document.rows, document.services)


def _post(base: str, members: list[tuple[str, str]],
          fetcher: Fetcher) -> dict[str, Document]:
    """
    The documents that one request brings, by their addresses: not all of them, if it fails none.
    """
    body = '&'.join(f'ID={identifier}' for identifier, _ in members)
    try:
        with fetcher.open(base, data=body.encode()) as content:
            document = parse(content, base)
    except PreviewError:
        return {}  # asked for one by one, each says what is wrong with it
    rows: dict[str, list[dict[str, str]]] = {}
    for row in document.rows:  # in any order
        rows.setdefault(row['id'], []).append(row)
    return {address: Document(base, rows[name], document.services)
            for identifier, address in members if (name := unquote_plus(identifier)) in rows}
