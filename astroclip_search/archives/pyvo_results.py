# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Results of the Virtual Observatory -> tables, and what they say about images beyond their columns.

A result of pyvo is its table and more: the address that was asked, and descriptions of services
that know about its rows (IVOA DataLink). What the columns alone say is found in
`~astroclip_search.archives.tables`, for plain tables too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from astropy.table import Column, MaskedColumn, Table

from ..images import datalink
from ..images.formats import kind_of_name
from ..images.refs import ImageRefs, link, parse
from ..status import ERROR, NO_IMAGE, reason
from .columns import TableColumns, text_array
from .tables import hosts

__all__ = ['add_links', 'discovered', 'is_result', 'selected']

_DATALINK = 'ivo://ivoa.net/std/datalink'


def is_result(results: Any) -> bool:
    """
    Whether something has a VOTable and makes a table, as all ``DALResults`` of pyvo do.
    """
    return hasattr(results, 'to_table') and hasattr(results, 'votable')


def discovered(results: Any) -> Table | None:
    """
    The table of a list of `pyvo.discover.ImageFound`, or of the pair of such a list and a log that
    `pyvo.discover.images_globally` returns; the log goes to ``meta['discovery']``. `None` if it is
    something else.
    """
    log: list[str] = []
    if (isinstance(results, tuple) and len(results) == 2
            and all(isinstance(part, list) for part in results)
            and all(isinstance(line, str) for line in results[1])):
        results, log = results
    elif not isinstance(results, list | tuple) or not results:
        return None
    if not all(hasattr(item, 'origin_service') and hasattr(item, 'access_url')
               for item in results):
        return None
    names = dict.fromkeys(name for item in results for name in vars(item))
    table = Table({name: _column([getattr(item, name, None) for item in results]) for name in
                   names or ('access_url', 'access_format', 'origin_service')})
    table.meta['discovery'] = log
    return table


def selected(results: Any) -> Table | None:
    """
    The table of a `pyvo.dal.Record` or a list of them, `None` if it is something else. Where the
    columns have names of their own, as in SIA 1, it also has ``access_url`` and ``access_format``.
    """
    records = results if isinstance(results, list | tuple) else [results]
    if not records or not all(isinstance(record, Mapping) and hasattr(record, 'getdataurl')
                              for record in records):
        return None
    names = dict.fromkeys(name for record in records for name in record)
    nulls = [_nulls(record) for record in records]
    table = Table({name: _column([None if name in absent else record.get(name)
                                  for record, absent in zip(records, nulls, strict=True)])
                   for name in names})
    for name, values in (('access_url', [record.getdataurl() for record in records]),
                         ('access_format', [record.getdataformat() for record in records])):
        if name not in names and any(values):
            table[name] = _column(values)
    return table


def _nulls(record: Any) -> set[str]:
    """
    The fields of a record that its VOTable has no value for: the record itself says 0.
    """
    # pyvo has no public names for the result and the number of the row; without them 0 stays 0.
    held = list(vars(record).values()) if hasattr(record, '__dict__') else []
    results = next((item for item in held if hasattr(item, 'resultstable')), None)
    index = next((int(item) for item in held if isinstance(item, Integral)), None)
    if results is None or index is None:
        return set()
    hidden = np.ma.getmaskarray(results.resultstable.array)[index]
    return {name for name, absent in zip(results.fieldnames, hidden, strict=False)
            if np.all(absent)}


def _column(values: list[Any]) -> Column:
    """
    A column of numbers or text; absent numbers are masked, absent text is empty.
    """
    values = [None if value is np.ma.masked else value for value in values]
    if any(isinstance(value, str) for value in values) or all(value is None for value in values):
        return Column(text_array(['' if value is None else str(value) for value in values]))
    if any(np.ndim(value) for value in values):  # arrays, which may differ in length
        objects = np.empty(len(values), dtype=object)
        objects[:] = [None if value is None else np.asarray(value) for value in values]
        return Column(objects)
    mask = [value is None for value in values]
    try:
        return MaskedColumn([0 if value is None else value for value in values], mask=mask)
    except (TypeError, ValueError):
        return Column([str(value) for value in values])


def add_links(results: Any, columns: TableColumns, refs: ImageRefs) -> ImageRefs:
    """
    Use what a result says beyond its columns.

    Rows without a preview get a link to the DataLink service that the result describes, with a FITS
    file of the row for when that has no image; rows of a query for spectra are skipped. The host
    that was asked is one that the user has named.
    """
    from pyvo.dal import SSAResults

    asked = getattr(results, 'queryurl', None) or ''
    refs = replace(refs, trusted=refs.trusted | hosts([asked]))
    if isinstance(results, SSAResults):
        return replace(refs, reasons=dict.fromkeys(range(len(refs)), (reason('spectrum'),)))
    addresses = _link_addresses(results, asked)
    rows = [i for i in _without_preview(columns, refs) if addresses[i]] if any(addresses) else []
    if not rows:
        return refs
    sources, reasons = list(refs.sources), dict(refs.reasons)
    for i in rows:
        sources[i] = link(addresses[i], fallback=sources[i] or '' if refs.is_open(i) else '')
        reasons.pop(i, None)
    return replace(refs, sources=sources, reasons=reasons, has_links=True)


def _link_addresses(results: Any, asked: str) -> list[str]:
    """
    The DataLink document of each row, empty where there is none.
    """
    for service in datalink.services(results.votable):
        if datalink.standard(service).startswith(_DATALINK):
            wanted = datalink.columns(service)
            text = {reference.lower(): datalink.column_text(results.resultstable, field.ID)
                    for field in results.resultstable.fields for reference in wanted
                    if reference in (field.ID, field.name)}
            return [datalink.call(service, dict(zip(text, values, strict=True)), asked)
                    for values in zip(*text.values(), strict=True)]
    return []


def _without_preview(columns: TableColumns, refs: ImageRefs) -> Iterable[int]:
    """
    Rows that have no bitmap: none at all, one that is too large, or FITS.
    """
    data = columns.texts('access') + columns.texts('file')
    formats = next(iter(columns.texts('format')), None)
    for i, source in enumerate(refs.sources):
        if any(because.status in (NO_IMAGE, ERROR) or because.code == 'too_many_bytes'
               for because in refs.reasons.get(i, ())):
            yield i
        elif source and refs.is_open(i) and parse(source).kind != 'link':
            # Previews of FITS files are often at the same path, with other parameters.
            name = source
            if any(values[i] == source for values in data):
                if formats and datalink.kind_of_format(formats[i]) == 'fits':
                    yield i
                    continue
                name = re.split('[?#]', source, maxsplit=1)[0]
            if kind_of_name(name) in ('fits', 'asdf'):
                yield i
