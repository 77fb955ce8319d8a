# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A DataLink document -> the one link of a dataset that shows most.

What is understood: DataLink 1.0 and 1.1 (links, errors, service descriptors) and SODA 1.0
(synchronous cutouts), see https://www.ivoa.net/documents/DataLink and
https://www.ivoa.net/documents/SODA. Semantics are compared here, word by word: no vocabulary is
downloaded.
"""

import io
import math
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import numpy as np

from .exceptions import PreviewError
from .pixels import FITS_SUFFIXES, IMAGE_SUFFIXES

__all__ = ['BITMAP_TYPES', 'Document', 'FITS_TYPES', 'Nested', 'call', 'choose', 'column_text',
           'columns', 'fault_status', 'is_datalink', 'media_type', 'parse', 'services', 'standard']

BITMAP_TYPES = ('image/jpeg', 'image/jpg', 'image/png', 'image/webp', 'image/tiff', 'image/gif')
FITS_TYPES = ('image/fits', 'application/fits', 'image/x-fits', 'application/x-fits')
_UNKNOWN_TYPES = ('', 'application/octet-stream')

# Best first. Never preview-plot: axes and labels are no picture of the sky.
_PREVIEWS = ('preview-image', 'preview', 'thumbnail')

# The parser compiles the types of arrays, at which two threads of Python 3.11 disturb each other
# (python/cpython issue 106905).
_PARSING = threading.Lock()

# A document of a hundred IDs has some hundred kilobytes.
_MAX_DOCUMENT = 16 * 1024**2

# The parser reserves memory for as many rows, and for as long values, as are announced, and opens
# the address of a stream, whatever it is.
_N_ROWS = re.compile(rb'''\bnrows\s*=\s*("[^"]*"|'[^']*')''')
_SIZES = re.compile(rb'''\barraysize\s*=\s*["']([^"']*)''')
_MAX_SIZES = 100_000
_REMOTE = re.compile(rb'''STREAM(?:[^"'<>]|"[^"]*"|'[^']*')*\bhref''')


@dataclass(frozen=True)
class Document:
    """
    What a service says of one ID.

    Attributes
    ----------
    address : str
        Where the document came from: its links may be relative to it.
    rows : list of dict
        Links: text by column, all in small letters.
    services : dict
        Service descriptors by their ID.
    """

    address: str
    rows: list[dict[str, str]]
    services: dict[str, Any]


@dataclass(frozen=True)
class Nested:
    """
    The choice is in another document.
    """

    address: str


def media_type(value: str) -> str:
    """
    A MIME type without its parameters.

    Parameters
    ----------
    value : str
        Such as ``image/FITS; x=y``.

    Returns
    -------
    str
        In small letters.
    """
    return value.partition(';')[0].strip().lower()


def is_datalink(value: str) -> bool:
    """
    Whether a MIME type is that of a DataLink document.

    Parameters
    ----------
    value : str
        Such as ``application/x-votable+xml;content=datalink``, in any case and spacing.

    Returns
    -------
    bool
        Services write it in several ways.
    """
    kind, *parameters = re.sub(r'[\s"\']', '', value).lower().split(';')
    return (kind in ('application/x-votable+xml', 'text/xml', 'application/xml')
            and 'content=datalink' in parameters)


def parse(content: bytes, address: str) -> Document:
    """
    Understand what a service answered, whatever it may be.

    Parameters
    ----------
    content : bytes
        The answer.
    address : str
        Where it came from.

    Returns
    -------
    Document
        Its links; those of several IDs if it was asked for several.

    Raises
    ------
    PreviewError
        If it is no DataLink document, or one that says what went wrong.
    """
    from astropy.io import votable

    content = _harmless(content, address)
    try:
        with _PARSING:
            document = votable.parse(io.BytesIO(content), verify='ignore')
        error = next((info for info in _infos(document) if info.name == 'QUERY_STATUS'
                      and str(info.value).upper() == 'ERROR'), None)
        if error is None:
            return _read(document, address)
    # The parser fails in many ways on what is no VOTable.
    except Exception as failure:
        raise PreviewError(f'the DataLink document cannot be read ({_line(failure)})',
                           address) from failure
    said = _line(error.content or '')
    raise PreviewError('the DataLink service ' + (f'says: {said}' if said else 'reports an error'),
                       address, status=fault_status(said))


def _harmless(content: bytes, address: str) -> bytes:
    """
    A document without what would make the parser take up memory, or ask for further files.
    """
    if len(content) > _MAX_DOCUMENT:
        raise PreviewError(f'the DataLink document is larger than {_MAX_DOCUMENT} bytes', address)
    # Entities, which could make a short document a long one, are declared after a DOCTYPE.
    if b'VOTABLE' not in content[:4096] or b'<!DOCTYPE' in content:
        raise PreviewError('the DataLink document is no VOTable', address)
    if _REMOTE.search(content):
        raise PreviewError('the DataLink document has its rows elsewhere', address)
    sizes = _SIZES.findall(content)
    if (b'&' in b''.join(sizes) or sum(math.prod(map(int, re.findall(rb'\d+', size)))
                                       for size in sizes) > _MAX_SIZES):
        raise PreviewError('the DataLink document has columns of excessive size', address)
    return _N_ROWS.sub(b'', content)


def _read(document: Any, address: str) -> Document:
    """
    The links of a document.
    """
    table = next((resource.tables[0] for resource in document.resources
                  if resource.type != 'meta' and resource.tables), None)
    described: dict[str, Any] = {}
    for service in services(document):
        described.setdefault(service.ID, service)  # ALMA has several with one ID
    return Document(address, [] if table is None else _rows(table), described)


def services(document: Any) -> list[Any]:
    """
    The services that a VOTable describes.

    Parameters
    ----------
    document : `astropy.io.votable.tree.VOTableFile`
        A DataLink document, or any result of a query.

    Returns
    -------
    list of `astropy.io.votable.tree.Resource`
        Service descriptors.
    """
    return [resource for resource in document.resources
            if resource.type == 'meta' and resource.utype == 'adhoc:service']


def standard(service: Any) -> str:
    """
    Which standard a service follows.

    Parameters
    ----------
    service : `astropy.io.votable.tree.Resource`
        A service descriptor.

    Returns
    -------
    str
        Its standardID in small letters, such as ``ivo://ivoa.net/std/soda#sync-1.0``.
    """
    return _parameters(service).get('standardid', '').lower()


def _infos(document: Any) -> Iterable[Any]:
    yield from document.infos
    for resource in document.resources:
        yield from resource.infos
        for table in resource.tables:
            yield from table.infos


def _rows(table: Any) -> list[dict[str, str]]:
    """
    Rows of a VOTable as text; the keys are the columns' names and, in case they differ, IDs.
    """
    values = {'id': [''] * len(table.array)}
    for field in table.fields:
        if table.array[field.ID].ndim == 1:
            values[field.ID.lower()] = values[field.name.lower()] = column_text(table, field.ID)
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def column_text(table: Any, name: str) -> list[str]:
    """
    Values of a column, which may be numbers, as text.

    Parameters
    ----------
    table : `astropy.io.votable.tree.TableElement`
        A table.
    name : str
        ID of one of its fields.

    Returns
    -------
    list of str
        Stripped; empty where the value is absent.
    """
    column = table.array[name]
    return ['' if hidden else str(value).strip() for value, hidden in
            zip(column.data.tolist(), np.ma.getmaskarray(column).tolist(), strict=True)]


def choose(document: Document, circle: Sequence[str],
           max_bytes: int) -> str | Nested | PreviewError:
    """
    The best link of a dataset.

    Parameters
    ----------
    document : Document
        The links of one ID.
    circle : sequence of str
        Right ascension, declination and radius in degrees of a cutout; empty for none.
    max_bytes : int
        Largest file that is worth naming.

    Returns
    -------
    str, Nested or PreviewError
        Address of an image, where to ask further, or why there is none.
    """
    chosen: str | Nested = ''
    place = len(_PREVIEWS) + 3
    problems: dict[str, str] = {}
    for row in document.rows:
        rank, found = _candidate(row, document, circle)
        if (problem := _obstacle(row, max_bytes)) and (found or row.get('error_message')):
            problems.setdefault(*problem)
        elif found and rank < place:
            chosen, place = found, rank
    if chosen:
        return chosen
    status = next((status for status in ('DENIED', 'SKIPPED', 'ERROR', 'NO_IMAGE')
                   if status in problems), 'NO_IMAGE')
    return PreviewError(problems.get(status, 'no link of the row leads to an image'),
                        document.address, status=status)


def _obstacle(row: dict[str, str], max_bytes: int) -> tuple[str, str] | None:
    """
    Why a link cannot be followed.
    """
    if message := row.get('error_message'):
        return fault_status(message), _line(message)
    # DataLink 1.1, section 3.2.11; readable is what some services had before that.
    if row.get('link_authorized', row.get('readable', '')).lower() in ('false', 'f', '0'):
        return 'DENIED', 'the link is not open to the public'
    size = row.get('content_length', '')
    if size.isdigit() and int(size) > max_bytes and not row.get('service_def'):
        return 'SKIPPED', f'a file of {size} bytes, the limit is {max_bytes} (conf.max_bytes)'
    return None


def _candidate(row: dict[str, str], document: Document,
              circle: Sequence[str] = ()) -> tuple[int, str | Nested]:
    """
    Where a link leads to, if it is an image.
    """
    meaning = row.get('semantics', '').rpartition('#')[2].lower()
    kind = media_type(row.get('content_type', ''))
    address = _join(document.address, row.get('access_url', ''))
    service = document.services.get(row.get('service_def', ''))
    if service is not None and meaning in ('cutout', 'proc') and circle:
        return len(_PREVIEWS), _cutout(service, row, document.address, circle)
    if meaning not in (*_PREVIEWS, 'this'):
        return 0, ''
    if is_datalink(row.get('content_type', '')):
        address = address or (call(service, row, document.address) if service else '')
        return len(_PREVIEWS) + 2, Nested(address) if address else ''
    known = kind in BITMAP_TYPES or kind in _UNKNOWN_TYPES
    if meaning in _PREVIEWS:
        return _PREVIEWS.index(meaning), address if known else ''
    if kind in _UNKNOWN_TYPES:  # the data may be anything
        known = urlsplit(address).path.lower().endswith(IMAGE_SUFFIXES + FITS_SUFFIXES)
    return len(_PREVIEWS) + 1, address if known or kind in FITS_TYPES else ''


def _cutout(service: Any, row: dict[str, str], base: str, circle: Sequence[str]) -> str:
    """
    Address of a cutout, empty if the service makes none.
    """
    names = [name.upper() for name in _inputs(service)]
    if not standard(service).startswith('ivo://ivoa.net/std/soda#sync'):
        return ''
    if 'CIRCLE' in names or not names:  # ALMA declares nothing
        return call(service, row, base, CIRCLE=' '.join(circle))
    if 'POS' in names:
        return call(service, row, base, POS=' '.join(('CIRCLE', *circle)))
    return ''


def call(service: Any, row: dict[str, str], base: str, **given: str) -> str:
    """
    Address that calls a service for a row.

    Parameters
    ----------
    service : `astropy.io.votable.tree.Resource`
        A service descriptor.
    row : dict
        Text by the names or IDs of columns in small letters.
    base : str
        Where the descriptor came from.
    **given
        Parameters that the caller fills in.

    Returns
    -------
    str
        With the service's own fixed parameters, those it takes from the row, and those given;
        empty if it has no address, or the row lacks a value.
    """
    address = _join(base, _parameters(service).get('accessurl', '')).partition('#')[0]
    values = {}
    for name, parameter in _inputs(service).items():
        value = row.get(parameter.ref.lower(), '') if parameter.ref else _value(parameter)
        if name.upper() == 'ID' and not (value := value or row.get('id', '')):
            return ''
        if value:
            values[name] = value
    query = urlencode(values | given)
    if not address or not query:
        return address
    return address + ('&' if '?' in address else '?') + query


def columns(service: Any) -> list[str]:
    """
    The columns that a service takes parameters from.

    Parameters
    ----------
    service : `astropy.io.votable.tree.Resource`
        A service descriptor.

    Returns
    -------
    list of str
        IDs of fields; some services write their names.
    """
    return [parameter.ref for parameter in _inputs(service).values() if parameter.ref]


def _parameters(service: Any) -> dict[str, str]:
    return {parameter.name.lower(): _value(parameter) for parameter in service.params}


def _inputs(service: Any) -> dict[str, Any]:
    return {entry.name: entry for group in service.groups if group.name == 'inputParams'
            for entry in group.entries if hasattr(entry, 'value')}


def _value(parameter: Any) -> str:
    """
    Value of a VOTable parameter as text, empty if it is to be filled in.
    """
    value = parameter.value
    if isinstance(value, str):
        return value.strip()
    # An empty number is read as zero or NaN.
    numbers = np.ma.filled(np.ma.atleast_1d(value), 0)
    filled = numbers.dtype.kind in 'iufb' and np.nan_to_num(numbers).any()
    return ' '.join(str(number) for number in numbers.tolist()) if filled else ''


def _join(base: str, address: str) -> str:
    """
    An address that may be relative; empty if it is none of http or https.
    """
    try:
        joined = urljoin(base, address) if address else ''
    except ValueError:
        return ''
    return joined if joined.lower().startswith(('http://', 'https://')) else ''


def fault_status(message: str) -> str:
    """
    Status of a row with an error message.

    Parameters
    ----------
    message : str
        An ``error_message``, which begins with the standard's name of the fault (DataLink 1.1,
        section 3.4); some services say ``DefaultFault`` where a permission is missing.

    Returns
    -------
    str
        ``NO_IMAGE``, ``DENIED`` or ``ERROR``.
    """
    message = message.strip().lower()
    if message.startswith('notfoundfault'):
        return 'NO_IMAGE'
    return 'DENIED' if re.search('permission|authori[sz]|authenti', message) else 'ERROR'


def _line(text: object) -> str:
    """
    What a server or a parser says, on one line of decent length.
    """
    line = ' '.join(str(text).split())
    return ''.join(character for character in line if character.isprintable())[:200]
