# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Table rows -> what an archive says of each observation: by whom, by what, when, and where more is.
"""

import datetime
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from astropy import units as u
from astropy.table import Table

from .columns import START_COLUMNS, TableColumns

__all__ = ['Observation', 'observations', 'plain_words']

_MJD_0 = datetime.date(1858, 11, 17)
_JD_0 = 2_400_000.5
_FIRST, _LAST = 1, 100_000  # MJD; what lies outside is no date

_ISO_DATE = re.compile(r'[12]\d{3}-[01]\d-[0-3]\d(?![\d-])')

_MAST_COLLECTIONS = frozenset('HST HLA JWST TESS GALEX K2 KEPLER HLSP IUE EUVE FUSE HUT WUPPE '
                              'BEFS TUES SWIFT PS1 SPITZER_SHA ROMAN'.split())

# Identifiers as the archives make them; nothing else gets into an address.
_MAST_NAME = re.compile(r'[\w.+:-]{3,120}', re.ASCII)
_ESO_NAME = re.compile(r'(?:ivo://eso\.org/ID\?)?([A-Z][A-Z0-9_]{2,11}\.'
                       r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})', re.ASCII)
_ALMA_NAME = re.compile(r'uid://A\d{3}/X[0-9a-f]{1,8}/X[0-9a-f]{1,8}', re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """
    What is known of one row; empty where it is not.

    Attributes
    ----------
    identifier, proposal, investigator : str
        Name of the observation, its programme, and who leads that.
    collection, facility, instrument, filters : str
        What it was made with.
    date : str
        Day of its start, as in ISO 8601.
    exposure : str
        Exposure time with its unit.
    page : str
        Address of the page that its archive has of it.
    data : str
        Reference to its data: an address, or a ``mast:`` URI.
    """

    identifier: str = ''
    proposal: str = ''
    investigator: str = ''
    collection: str = ''
    facility: str = ''
    instrument: str = ''
    filters: str = ''
    date: str = ''
    exposure: str = ''
    page: str = ''
    data: str = ''


def observations(table: Table) -> list[Observation]:
    """
    What the columns of a table say of each of its rows, by name, UCD and utype.

    >>> from astropy.table import Table
    >>> from astroclip_search.archives.observations import observations
    >>> found, = observations(Table({'obs_id': ['u27xcs01t'], 'proposal_id': [5371],
    ...                              't_min': [49756.25], 't_exptime': [1500.0]}))
    >>> found.proposal, found.date, found.exposure
    ('5371', '1995-02-08', '1,500 s')
    """
    columns = TableColumns(table)
    words = {name: _words(columns, role) for name, role in (
        ('identifier', 'observation'), ('proposal', 'proposal'), ('investigator', 'investigator'),
        ('collection', 'collection'), ('facility', 'facility'), ('instrument', 'instrument'),
        ('filters', 'filters'), ('data', 'data'))}
    words['date'], words['exposure'] = _dates(columns), _exposures(columns)
    words['page'] = _pages(columns, words)
    rows = zip(*words.values(), strict=True)
    return [Observation(**dict(zip(words, row, strict=True))) for row in rows]


def plain_words(columns: TableColumns, name: str) -> list[str]:
    """
    A column in words, empty where it is masked; numbers, such as those of programmes, without a
    fraction.
    """
    column = columns.table[name]
    if column.dtype.kind == 'f':
        return ['' if value != value else str(int(value)) if value.is_integer() else str(value)
                for value in columns.numbers(name).tolist()]
    if column.dtype.kind not in 'iu':
        return columns.text(name)
    words = list(map(str, np.ma.getdata(column).tolist()))
    for row in np.flatnonzero(np.ma.getmaskarray(column)).tolist():
        words[row] = ''
    return words


def _words(columns: TableColumns, role: str) -> list[str]:
    return next((plain_words(columns, name) for name in columns.roles.get(role, ())),
                [''] * len(columns))


def _dates(columns: TableColumns) -> list[str]:
    """
    Day on which each observation began, from dates in words, MJD or JD.
    """
    from astropy.time import Time

    for column in columns.table.itercols():
        if (isinstance(column, Time) and column.ndim == 1
                and column.info.name.casefold() in START_COLUMNS):
            mjd = np.ma.filled(np.ma.asarray(column.mjd), np.nan)
            return [_day(value) for value in np.asarray(mjd, float).tolist()]
    for name in columns.roles.get('start', ()):
        column = columns.table[name]
        if getattr(column, 'unit', None) in (None, u.day, ''):
            if column.dtype.kind in 'iuf':
                return [_day(value) for value in columns.numbers(name).tolist()]
            return [_day_in_words(text) for text in columns.text(name)]
    return [''] * len(columns)


def _day(value: float) -> str:
    if value > _JD_0 + _FIRST:
        value -= _JD_0
    if not _FIRST < value < _LAST:  # NaN neither
        return ''
    return (_MJD_0 + datetime.timedelta(days=int(value))).isoformat()


def _day_in_words(text: str) -> str:
    found = _ISO_DATE.match(text)
    if found:
        return found[0]
    try:
        return _day(float(text))
    except ValueError:
        return ''


def _exposures(columns: TableColumns) -> list[str]:
    for name in columns.roles.get('exposure', ()):
        values = columns.numbers(name, u.s)
        if np.isnan(values).all() and columns.table[name].dtype.kind in 'SU':
            continue
        return ['' if not 0 < value < 1e12 else f'{value:,.0f} s' if value >= 999.5 else
                f'{value:.3g} s' for value in values.tolist()]
    return [''] * len(columns)


def _pages(columns: TableColumns, words: dict[str, list[str]]) -> list[str]:
    """
    The page that a row names, or else the one that its archive has for its identifier.
    """
    pages = _words(columns, 'page')
    for archive, names in ((_mast, _observed(columns, words)),
                           (_eso, _named(columns, 'dp_id', 'obs_publisher_did')),
                           (_alma, _named(columns, 'member ous id', 'member_ous_uid', 'obs_id'))):
        pages = [page or archive(name) for page, name in zip(pages, names, strict=True)]
    return pages


def _named(columns: TableColumns, *keys: str) -> list[str]:
    name = columns.find(*keys)
    return columns.text(name) if name is not None else [''] * len(columns)


def _observed(columns: TableColumns, words: dict[str, list[str]]) -> Sequence[str]:
    """
    Identifiers of the rows that are observations in MAST.
    """
    names = columns.find('obs_id')
    if names is None or columns.find('obsid') is None:
        return [''] * len(columns)
    return [name if collection.upper() in _MAST_COLLECTIONS else '' for name, collection in
            zip(columns.text(names), words['collection'], strict=True)]


def _mast(name: str) -> str:
    # What the portal itself writes as the permanent address of a search by observation.
    if not _MAST_NAME.fullmatch(name):
        return ''
    asked = {'service': 'CAOMFILTERED', 'inputText': [
        {'paramName': 'obs_id', 'niceName': 'obs_id', 'values': [], 'valString': name,
         'isDate': False, 'freeText': name, 'displayString': name}],
        'position': 'undefined, undefined, undefined', 'paramsService': 'Mast.Caom.Filtered',
        'title': f'MAST: {name}', 'columns': '*'}
    return ('https://mast.stsci.edu/portal/Mashup/Clients/Mast/Portal.html?searchQuery='
            + quote(json.dumps(asked, separators=(',', ':'))))


def _eso(name: str) -> str:
    found = _ESO_NAME.fullmatch(name)
    return f'https://archive.eso.org/dataset/{found[1]}' if found else ''


def _alma(name: str) -> str:
    if not _ALMA_NAME.fullmatch(name):
        return ''
    return f'https://almascience.org/aq/?result_view=observation&mous={quote(name, safe=":")}'
