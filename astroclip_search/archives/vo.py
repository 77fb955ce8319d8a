# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Results of the Virtual Observatory -> tables, and what they say about images beyond their columns.

A result of pyvo is its table and more: the address that was asked, and descriptions of services
that know about its rows (IVOA DataLink). What the columns alone say is found in
`~astroclip_search.archives.tables`, for plain tables too.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from astropy.table import Column, MaskedColumn, Table

from .. import datalink, links
from ..pixels import FITS_SUFFIXES
from ..references import LINK, References
from .columns import recognise, text_column
from .sky import places

__all__ = ['add_links', 'aim', 'discovered', 'is_result', 'selected']

_DATALINK = 'ivo://ivoa.net/std/datalink'

# Of cutouts around the centre of a row: a model sees some hundred pixels, not a survey plate.
_LARGEST = 0.1  # degrees
_UNKNOWN = 0.01


def is_result(results: Any) -> bool:
    """
    Whether something is a result of a pyvo query.

    Parameters
    ----------
    results : object
        Anything.

    Returns
    -------
    bool
        True for what has a VOTable and makes a table, as all ``DALResults`` do.
    """
    return hasattr(results, 'to_table') and hasattr(results, 'votable')


def discovered(results: Any) -> Table | None:
    """
    The table of what ``pyvo.discover`` found.

    Parameters
    ----------
    results : object
        A list of `pyvo.discover.ImageFound`, or the pair of such a list and a log that
        `pyvo.discover.images_globally` returns; or anything else.

    Returns
    -------
    `~astropy.table.Table` or None
        ObsCore columns, and ``origin_service``; the log is in ``meta['discovery']``. `None` if it
        is something else.
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
    The table of records that were taken out of a result of pyvo.

    Parameters
    ----------
    results : object
        A `pyvo.dal.Record`, a list of them, or anything else.

    Returns
    -------
    `~astropy.table.Table` or None
        The columns of the records; where these have names of their own, as in SIA 1, also
        ``access_url`` and ``access_format``. `None` if it is something else.
    """
    records = results if isinstance(results, list | tuple) else [results]
    if not records or not all(isinstance(record, Mapping) and hasattr(record, 'getdataurl')
                              for record in records):
        return None
    names = dict.fromkeys(name for record in records for name in record)
    table = Table({name: _column([record.get(name) for record in records]) for name in names})
    for name, values in (('access_url', [record.getdataurl() for record in records]),
                         ('access_format', [record.getdataformat() for record in records])):
        if name not in names and any(values):
            table[name] = _column(values)
    return table


def _column(values: list[Any]) -> Column:
    """
    A column of numbers or text; absent numbers are masked, absent text is empty.
    """
    values = [None if value is np.ma.masked else value for value in values]
    if any(isinstance(value, str) for value in values) or all(value is None for value in values):
        return Column(['' if value is None else str(value) for value in values], dtype=str)
    if any(np.ndim(value) for value in values):  # arrays, which may differ in length
        objects = np.empty(len(values), dtype=object)
        objects[:] = [None if value is None else np.asarray(value) for value in values]
        return Column(objects)
    mask = [value is None for value in values]
    try:
        return MaskedColumn([0 if value is None else value for value in values], mask=mask)
    except (TypeError, ValueError):
        return Column([str(value) for value in values])


def add_links(results: Any, table: Table, references: References) -> None:
    """
    Use what a result says beyond its columns.

    Rows without a preview get a link to the DataLink service that the result describes; a FITS
    file of the row is what is left if that has no image. All rows of a query for spectra are
    skipped. The host that was asked becomes one that the user has named.

    Parameters
    ----------
    results : pyvo.dal.DALResults
        A result.
    table : `~astropy.table.Table`
        Its table.
    references : References
        What the columns say; changed in place.
    """
    from pyvo.dal import SSAResults

    asked = getattr(results, 'queryurl', None) or ''
    references.trusted |= {urlsplit(asked).netloc.rpartition('@')[2].lower()} - {''}
    if isinstance(results, SSAResults):
        references.status[:] = ['SKIPPED'] * len(table)
        references.message[:] = ['not an image: a spectrum'] * len(table)
        return
    addresses = _link_addresses(results, asked)
    if not any(addresses):
        return
    for i in _without_preview(table, references):
        if addresses[i]:
            fallback = '' if references.status[i] else references.sources[i] or ''
            references.sources[i] = links.link(addresses[i], fallback=fallback)
            references.status[i] = references.message[i] = ''
            references.has_links = True


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


def _without_preview(table: Table, references: References) -> Iterable[int]:
    """
    Rows that have no bitmap: none at all, one that is too large, or FITS.
    """
    found = recognise(table)
    data = [text_column(table, name) for role in ('access', 'file')
            for name in found.get(role, ())]
    formats = next((text_column(table, name) for name in found.get('format', ())), None)
    for i, (source, status) in enumerate(zip(references.sources, references.status, strict=True)):
        if status in ('NO_IMAGE', 'ERROR') or 'conf.max_bytes' in references.message[i]:
            yield i
        elif not status and source and not source.startswith(LINK):
            # Previews of FITS files are often at the same path, with other parameters.
            name = source
            if any(values[i] == source for values in data):
                if formats and datalink.media_type(formats[i]) in datalink.FITS_TYPES:
                    yield i
                    continue
                name = re.split('[?#]', source, maxsplit=1)[0]
            if name.lower().endswith(FITS_SUFFIXES):
                yield i


def aim(table: Table, references: References, coordinates: Any = None,
        radius: Any = None) -> None:
    """
    Have cutouts made around a position, or around the centre of each row, where links offer them.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The rows.
    references : References
        Where their images are; sources that are links are changed in place.
    coordinates : str or `~astropy.coordinates.SkyCoord`, optional
        Centre of the cutouts. Rows that are known not to reach it keep their own centre.
    radius : str, number or `~astropy.units.Quantity`, optional
        Radius of the cutouts, at most that of the row's own field. Without it, the latter, and no
        more than 0.1 deg.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If this is no position or no radius.
    """
    from .mast import position, search_radius

    centre = None if coordinates is None else position(coordinates).icrs
    wanted = None if radius is None else search_radius(radius).to_value('deg')
    if not references.has_links:
        return
    found = places(table)
    half = found.size / 2
    ra, dec = found.ra.copy(), found.dec.copy()
    if centre is not None:
        from astropy.coordinates import angular_separation

        distance = np.degrees(angular_separation(centre.ra.rad, centre.dec.rad,
                                                 np.radians(ra), np.radians(dec)))
        here = ~(found.known & (distance > half))
        ra[here], dec[here] = centre.ra.deg, centre.dec.deg
    default = np.where(np.isfinite(half), np.minimum(half, _LARGEST), _UNKNOWN)
    radii = default if wanted is None else np.fmin(wanted, half)
    for i, source in enumerate(references.sources):
        if source and source.startswith(LINK) and np.isfinite(ra[i]) and abs(dec[i]) <= 90:
            references.sources[i] = links.aim(source, (ra[i], dec[i], radii[i]))
