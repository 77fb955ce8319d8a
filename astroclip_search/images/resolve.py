# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
References to DataLink documents -> addresses of images. DataLink is followed here and nowhere else.

A document is read when the image of its row is needed and not before, so that a table of any length
costs no request by itself. A service that can answer for many rows at once gets one request for
them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import unquote_plus

from ..exceptions import ImageError
from ..untrusted.values import host_of
from .datalink import Document, choose, read_document
from .http import Fetcher
from .refs import Ref, parse

__all__ = ['follow']

# IDs in one request; pyvo sends 50, the standard leaves the limit to the service.
_BATCH = 100

_MAX_HOSTS = 4


def follow(sources: Sequence[str], fetcher: Fetcher, *,
           max_bytes: int) -> dict[str, str | ImageError]:
    """
    For each distinct link the address of its image, or why there is none (see `choose`).
    Links that differ only in the parameter ``ID`` share a request.
    """
    links = {source: parse(source) for source in sources}
    found: dict[str, str | ImageError] = {}
    asked = links
    for _ in range(2):  # a document may lead to another one, but no further
        documents = _read(list(dict.fromkeys(ref.address for ref in asked.values())), fetcher)
        nested: dict[str, Ref] = {}
        for source, ref in asked.items():
            document = documents[ref.address]
            found[source] = choice = (document if isinstance(document, ImageError)
                                      else choose(document, ref.circle, max_bytes))
            if isinstance(choice, str) and (inner := parse(choice)).kind == 'link':
                nested[source] = inner
        asked = nested
        if not asked:
            break
    for source, ref in asked.items():
        found[source] = ImageError('datalink_circle', ref.address)
    for source, ref in links.items():
        if ref.fallback and isinstance(found[source], ImageError):
            found[source] = ref.fallback
    return found


def _read(addresses: list[str], fetcher: Fetcher) -> dict[str, Document | ImageError]:
    """
    The document of each address. Each service is asked for many IDs at once, and one by one for
    those that it did not answer.
    """
    groups: dict[str, dict[str, str]] = {}
    for address in addresses:
        base, identifier = _split(address)
        if identifier:
            groups.setdefault(base, {})[identifier] = address
    services = [(base, list(members.items())) for base, members in groups.items()
                if len(members) > 1]
    n_hosts = len({host_of(address) for address in addresses})
    workers = ThreadPoolExecutor(
        max(1, fetcher.limits.n_connections) * min(max(1, n_hosts), _MAX_HOSTS),
        thread_name_prefix='astroclip-links')
    post, get = partial(_post, fetcher), partial(_get, fetcher)
    found: dict[str, Document | ImageError] = {}
    rest = []
    try:
        # The first answer of each service shows how many IDs it takes at once.
        first = list(workers.map(post, [(base, members[:_BATCH]) for base, members in services]))
        for (base, members), answer in zip(services, first, strict=True):
            found |= answer
            if (size := len(answer)) > 1:
                unseen = [member for member in members if member[1] not in answer]
                rest += [(base, unseen[start:start + size])
                         for start in range(0, len(unseen), size)]
        for answer in workers.map(post, rest):
            found |= answer
        left = [address for address in addresses if address not in found]
        return found | dict(zip(left, workers.map(get, left), strict=True))
    finally:
        workers.shutdown(wait=False, cancel_futures=True)


def _split(address: str) -> tuple[str, str]:
    """
    An address without its parameter ID, and the value of this parameter, encoded as it was.
    """
    path, _, query = address.partition('#')[0].partition('?')
    parameters = [part for part in query.split('&') if part]
    identifiers = [part for part in parameters if part.partition('=')[0].lower() == 'id']
    if len(identifiers) != 1:
        return address, ''
    others = '&'.join(part for part in parameters if part not in identifiers)
    return path + (f'?{others}' if others else ''), identifiers[0].partition('=')[2]


def _get(fetcher: Fetcher, address: str) -> Document | ImageError:
    try:
        with fetcher.open(address) as content:
            document = read_document(content, address)
    except ImageError as error:
        return error
    # A service may put further datasets into its answer, or write the ID in another way.
    identifier = unquote_plus(_split(address)[1])
    own = [row for row in document.rows if row['id'] == identifier]
    return Document(address, own or document.rows, document.services)


def _post(fetcher: Fetcher, batch: tuple[str, list[tuple[str, str]]]) -> dict[str, Document]:
    """
    The documents that one request for several IDs brings, by their addresses; none if it fails.
    """
    base, members = batch
    body = '&'.join(f'ID={identifier}' for identifier, _ in members)
    try:
        with fetcher.open(base, data=body.encode()) as content:
            document = read_document(content, base)
    except ImageError:
        return {}  # asked for one by one, each says what is wrong with it
    rows: dict[str, list[dict[str, str]]] = {}
    for row in document.rows:  # in any order
        rows.setdefault(row['id'], []).append(row)
    return {address: Document(base, rows[name], document.services)
            for identifier, address in members if (name := unquote_plus(identifier)) in rows}
