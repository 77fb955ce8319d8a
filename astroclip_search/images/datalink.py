# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A DataLink document -> the one link of a row that leads to its best image.

Supported are DataLink 1.0 and 1.1 (links, errors, service descriptors) and SODA 1.0 (synchronous
cutouts), see https://www.ivoa.net/documents/DataLink and https://www.ivoa.net/documents/SODA. The
terms of ``semantics`` are compared as text: no vocabulary is downloaded.
"""

import io
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np

from ..exceptions import ImageError, one_line
from ..status import DENIED, ERROR, NO_IMAGE, SKIPPED, Reason, reason
from ..untrusted import xml
from ..untrusted.values import address as address_of
from ..untrusted.values import whole_number
from .formats import kind_of_name
from .refs import link

__all__ = ['Document', 'call', 'choose', 'column_text', 'columns', 'fault_status', 'is_datalink',
           'kind_of_format', 'media_type', 'read_document', 'services', 'standard']

_UNKNOWN_TYPES = ('', 'application/octet-stream')

# What a browser shows may be at the address of an image, and is none.
_PAGES = ('text/html', 'application/xhtml+xml', 'application/pdf')

# Best first. Never preview-plot: a plot with axes and labels does not show the sky.
_PREVIEWS = ('preview-image', 'preview', 'thumbnail')

# A document of a hundred IDs has some hundred kilobytes.
_MAX_DOCUMENT = 16 * 1024**2

# What its tables may take in memory.
_MAX_RESULT = 256 * 1024**2

# The parser compiles the types of arrays, at which two threads of Python 3.11 disturb each other
# (python/cpython issue 106905).
_parsing: threading.Lock


def _make_lock() -> None:
    global _parsing  # noqa: PLW0603 - after a fork nobody releases it
    _parsing = threading.Lock()


_make_lock()
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_make_lock)


@dataclass(frozen=True)
class Document:
    """
    The links of one ID, as text by column name in lower case, and the service descriptors by ID;
    addresses may be relative to the document's own.
    """

    address: str
    rows: list[dict[str, str]]
    services: dict[str, Any]


def media_type(value: str) -> str:
    """
    A MIME type in lower case, without its parameters.
    """
    return value.partition(';')[0].strip().lower()


def is_datalink(value: str) -> bool:
    """
    Whether a MIME type is the one of a DataLink document, which services write in several ways.
    """
    kind, *parameters = re.sub(r'[\s"\']', '', value).lower().split(';')
    return (kind in ('application/x-votable+xml', 'text/xml', 'application/xml')
            and 'content=datalink' in parameters)


def read_document(content: bytes, address: str) -> Document:
    """
    What a service answered, for one ID or several; an ImageError if that is not a DataLink
    document, or one that reports an error.
    """
    from astropy.io import votable

    try:
        content = xml.checked(content, max_bytes=_MAX_DOCUMENT, max_result=_MAX_RESULT,
                              units=False)
    except xml.UnsafeXMLError as unsafe:
        raise ImageError(f'datalink_{unsafe.code}', address, limit=_MAX_DOCUMENT,
                         error=one_line(unsafe)) from unsafe
    try:
        with _parsing:
            document = votable.parse(io.BytesIO(content).read, verify='ignore')
        error = next((info for info in document.iter_info() if info.name == 'QUERY_STATUS'
                      and str(info.value).upper() == 'ERROR'), None)
        if error is None:
            table = next((resource.tables[0] for resource in document.resources
                          if resource.type != 'meta' and resource.tables), None)
            # ALMA has several services with one ID: the first counts.
            described = {service.ID: service for service in reversed(services(document))}
            return Document(address, [] if table is None else _rows(table), described)
    # The parser fails in many ways on what is not a VOTable.
    except Exception as failure:
        raise ImageError('datalink_unreadable', address, error=one_line(failure)) from failure
    if said := (error.content or '').strip():
        said = one_line(said)
        raise ImageError('datalink_says', address, status=fault_status(said), said=said)
    raise ImageError('datalink_fails', address)


def services(document: Any) -> list[Any]:
    """
    The service descriptors of a VOTable (VOTableFile), as its RESOURCE elements.
    """
    return [resource for resource in document.resources
            if resource.type == 'meta' and resource.utype == 'adhoc:service']


def standard(service: Any) -> str:
    """
    The standardID of a service in lower case, such as ``ivo://ivoa.net/std/soda#sync-1.0``.
    """
    return _parameters(service).get('standardid', '').lower()


def columns(service: Any) -> list[str]:
    """
    IDs (some services write names) of the columns that a service takes parameters from.
    """
    return [parameter.ref for parameter in _inputs(service).values() if parameter.ref]


def _rows(table: Any) -> list[dict[str, str]]:
    """
    Rows of a VOTable as text, by the names of the columns and, where they differ, by their IDs.
    """
    values = {'id': [''] * len(table.array)}
    for field in table.fields:
        if table.array[field.ID].ndim == 1:
            values[field.ID.lower()] = values[field.name.lower()] = column_text(table, field.ID)
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def column_text(table: Any, name: str) -> list[str]:
    """
    The column with this ID of a TableElement as stripped text, empty where a value is absent.
    """
    column = table.array[name]
    return ['' if hidden else str(value).strip() for value, hidden in
            zip(column.data.tolist(), np.ma.getmaskarray(column).tolist(), strict=True)]


def choose(document: Document, circle: Sequence[str], max_bytes: int) -> str | ImageError:
    """
    Reference to the best image of a document, or why there is none. A circle (right ascension,
    declination, radius in degrees) asks for a cutout.
    """
    # A bitmap that is a #preview-image, a #preview or a #thumbnail; a cutout of a SODA service;
    # #this, the data themselves, if they are a bitmap or FITS; a link to another document.
    chosen, place = '', len(_PREVIEWS) + 3
    problems: dict[str, Reason] = {}
    for row in document.rows:
        rank, found = _candidate(row, document, circle)
        if (problem := _obstacle(row, max_bytes)) and (found or row.get('error_message')):
            problems.setdefault(problem.status, problem)
        elif found and rank < place:
            chosen, place = found, rank
    if chosen:
        return chosen
    return ImageError(next((problems[status] for status in (DENIED, SKIPPED, ERROR, NO_IMAGE)
                            if status in problems), 'datalink_no_image'), document.address)


def _obstacle(row: dict[str, str], max_bytes: int) -> Reason | None:
    """
    Why a link cannot be followed.
    """
    if message := row.get('error_message'):
        return reason('datalink_fault', status=fault_status(message), said=one_line(message))
    # DataLink 1.1, section 3.2.11; some services called it readable before that.
    if row.get('link_authorized', row.get('readable', '')).lower() in ('false', 'f', '0'):
        return reason('datalink_denied')
    size = whole_number(row.get('content_length'))
    if size is not None and size > max_bytes and not row.get('service_def'):
        return reason('link_too_large', n=size, limit=max_bytes)
    return None


def _candidate(row: dict[str, str], document: Document, circle: Sequence[str]) -> tuple[int, str]:
    """
    Rank of a link, the best is 0, and the reference it leads to, empty if that is not an image.
    """
    meaning = row.get('semantics', '').rpartition('#')[2].lower()
    kind = media_type(row.get('content_type', ''))
    address = address_of(row.get('access_url', ''), document.address)
    service = document.services.get(row.get('service_def', ''))
    if service is not None and meaning in ('cutout', 'proc') and circle:
        return len(_PREVIEWS), _cutout(service, row, document.address, circle)
    if meaning not in (*_PREVIEWS, 'this'):
        return 0, ''
    if is_datalink(row.get('content_type', '')):
        address = address or (call(service, row, document.address) if service else '')
        return len(_PREVIEWS) + 2, link(address, circle=circle) if address else ''
    named = kind_of_name(urlsplit(address).path)
    known = kind_of_format(kind)
    if meaning in _PREVIEWS:
        is_picture = kind in _UNKNOWN_TYPES or 'bitmap' in (known, known is None and named)
        return _PREVIEWS.index(meaning), address if is_picture else ''
    # The data may be anything.
    return len(_PREVIEWS) + 1, address if known or (known is None and named) else ''


def kind_of_format(value: str) -> str | None:
    """
    What a media type, or a word in its place, says: ``'bitmap'``, ``'link'`` for a DataLink
    document, ``'fits'``, empty for what is no image; `None` if only the address can tell.

    >>> from astroclip_search.images.datalink import kind_of_format
    >>> [kind_of_format(value) for value in ('image/pjpeg', 'JPEG', 'FITS image', 'text/plain')]
    ['bitmap', 'bitmap', 'fits', None]
    """
    if is_datalink(value):
        return 'link'
    media = media_type(value)
    if media in _PAGES:
        return ''
    words = re.findall('[a-z0-9]+', media.replace('pjpeg', 'jpeg'))
    kind = next(filter(None, (kind_of_name(f'a.{word}') for word in words)), None)
    # A table or a spectrum in FITS.
    if kind == 'fits' and ('table' in media or (
            '/' in media and words[0] not in ('image', 'application'))):
        return ''
    return kind


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
    Address that calls a service for a row, with the service's fixed parameters, those from the row
    and those given; empty if the row lacks the ID. ``base`` is where the descriptor came from.
    """
    address = address_of(_parameters(service).get('accessurl', ''), base).partition('#')[0]
    values = {}
    for name, parameter in _inputs(service).items():
        value = row.get(parameter.ref.lower(), '') if parameter.ref else _value(parameter)
        if name.upper() == 'ID' and not (value := value or row.get('id', '')):
            return ''
        if value:
            values[name] = value
    # Objects of the user may hold halves of surrogate pairs.
    query = urlencode(values | given, errors='replace')
    if not address or not query:
        return address
    return address + ('&' if '?' in address else '?') + query


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
    # The parser reads an empty number as zero or NaN.
    numbers = np.ma.filled(np.ma.atleast_1d(value), 0)
    filled = numbers.dtype.kind in 'iufb' and np.nan_to_num(numbers).any()
    return ' '.join(str(number) for number in numbers.tolist()) if filled else ''


def fault_status(message: str) -> str:
    """
    Status of a row by its ``error_message``, which begins with the name of the fault (DataLink 1.1,
    section 3.4); some services say ``DefaultFault`` where a permission is missing.
    """
    message = message.strip().lower()
    if message.startswith('notfoundfault'):
        return NO_IMAGE
    return DENIED if re.search('permission|authori[sz]|authenti', message) else ERROR
