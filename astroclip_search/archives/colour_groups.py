# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Rows of one observation in several filters -> one colour composite that they share.

Which rows belong together is told by the columns of a table, or by the headers of files; the
longest, the middle and the shortest wavelength become red, green and blue.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import numpy as np

from ..images.formats import kind_of_name
from ..images.refs import ImageRefs, colour, is_path, parse
from ..status import reason
from . import headers
from .centres import to_icrs
from .columns import TableColumns

__all__ = ['add_composites', 'wavelength']

# Filters that are named by a letter: effective wavelengths in nm (Bessell 1990 and 2MASS for
# capital letters, SDSS and PS1 for small ones). Only their order matters.
_LETTERS = {'FUV': 153, 'NUV': 231, 'U': 366, 'B': 436, 'V': 545, 'R': 641, 'I': 798, 'Z': 880,
            'Y': 1020, 'J': 1235, 'H': 1662, 'K': 2190, 'KS': 2159, 'L': 3450, 'M': 4750,
            'u': 354, 'g': 477, 'r': 623, 'i': 762, 'z': 913, 'y': 962,
            'W1': 3350, 'W2': 4600, 'W3': 11560, 'W4': 22090}

_LETTER = re.compile(r"(?:^|[ _.:/-])(FUV|NUV|W[1-4]|K[sS]|[UBVRIZYJHKLMugrizy])(?=$|[ _.:;/'-])")

# F814W: the number is in nm, or in tens of nm for infrared instruments.
_NUMBER = re.compile(r'\bF(\d{3,4})(?:W|M|N|LP|X|W2)?\b', re.IGNORECASE)

_INFRARED = re.compile('NIRCAM|NIRISS|MIRI|NICMOS|IR$|WFI', re.IGNORECASE)

_NEAR = 0.05  # degrees, where the size of the field is not known


@dataclass
class _Band:
    """
    A row that may be part of a composite.
    """

    row: int
    group: tuple
    name: str
    wavelength: float
    position: tuple[float, float] | None
    field: float


def add_composites(columns: TableColumns, refs: ImageRefs) -> ImageRefs:
    """
    Replace FITS images of one field in three or more filters by a composite; ``own`` keeps the
    images that such rows had.

    >>> from astropy.table import Table
    >>> from astroclip_search.archives import open_results
    >>> table = Table({'target_name': ['M 51'] * 3, 'filters': ['F814W', 'F555W', 'F435W'],
    ...                'dataURI': ['mast:i.fits', 'mast:v.fits', 'mast:b.fits']})
    >>> _, refs = open_results(table, colour=True)
    >>> refs.sources[0]
    'rgb:["mast:i.fits", "mast:v.fits", "mast:b.fits"]'
    >>> refs.reasons[0][0].sentence
    'colour of F814W, F555W, F435W'
    """
    own = {i: source for i, source in enumerate(refs.sources) if source is not None
           and refs.is_open(i) and parse(source).kind not in ('link', 'colour')}
    bands = list(_of_table(columns, own))
    known = {band.row for band in bands}
    bands += _of_headers({i: source for i, source in own.items() if i not in known}, refs.objects)
    sources, reasons, replaced = list(refs.sources), dict(refs.reasons), dict(refs.own)
    for members in _together(bands):
        by_wavelength = {band.wavelength: band for band in reversed(members)}
        if len(by_wavelength) < 3:
            continue
        order = sorted(by_wavelength, reverse=True)
        chosen = [by_wavelength[order[i]] for i in (0, len(order) // 2, -1)]
        source = colour(*(own[band.row] for band in chosen))
        note = reason('colour_of', filters=', '.join(band.name for band in chosen))
        for band in members:
            replaced[band.row] = own[band.row]
            sources[band.row] = source
            reasons[band.row] = (*reasons.get(band.row, ()), note)
    return replace(refs, sources=sources, reasons=reasons, own=replaced)


def wavelength(name: str, instrument: str = '') -> float:
    """
    Wavelength in nm of a filter by its name, NaN if that is not known; the instrument tells what
    the number in the name of an HST or JWST filter means.

    >>> from astroclip_search.archives.colour_groups import wavelength
    >>> wavelength('F814W', 'ACS/WFC'), wavelength('F444W', 'NIRCAM/IMAGE'), wavelength('SDSS r')
    (814.0, 4440.0, 623.0)
    """
    numbers = _NUMBER.findall(name)
    if numbers:
        number = float(numbers[-1])  # a pupil's narrow filter comes after the wide one
        wfc3 = 'WFC3' in instrument.upper() and number < 200
        return number * 10 if wfc3 or _INFRARED.search(instrument.partition('/IMAGE')[0]) \
            else number
    letter = _LETTER.search(name.strip())
    if letter is None:
        return math.nan
    return float(_LETTERS[letter[1] if letter[1] in _LETTERS else letter[1].upper()])


def _of_table(columns: TableColumns, own: Mapping[int, str]) -> Iterable[_Band]:
    def texts(*names: str) -> list[str] | None:
        name = columns.find(*names)
        return columns.text(name) if name is not None else None

    def numbers(name: str) -> np.ndarray:
        found = columns.find(name)
        return np.full(len(columns), math.nan) if found is None else columns.numbers(found)

    filters = texts('filters', 'filter', 'filter_name', 'band', 'band_name')
    middle = (numbers('em_min') + numbers('em_max')) / 2
    if filters is None and np.isnan(middle).all():
        return
    target = next(iter(columns.texts('target')), None)
    instrument = texts('instrument_name', 'instrument')
    group = [column for column in (
        target, instrument, texts('proposal_id'), texts('obs_collection', 'collection'),
        texts('facility_name', 'telescope')) if column is not None]
    ra, dec, field = (numbers(name) for name in ('s_ra', 's_dec', 's_fov'))
    formats = next(iter(columns.texts('format')), None)
    for i, source in own.items():
        placed = math.isfinite(ra[i] + dec[i])
        if not (target and target[i]) and not placed:
            continue
        if not _is_fits(source, formats[i] if formats else ''):
            continue
        name = filters[i] if filters else ''
        value, unit = middle[i], 'em'  # of the same kind only: ObsCore has metres, MAST nanometres
        if not value > 0:
            value, unit = wavelength(name, instrument[i] if instrument else ''), 'name'
        if value > 0:
            yield _Band(i, (unit, *(column[i] for column in group)), name or f'{value:.4g}', value,
                        (ra[i], dec[i]) if placed else None, field[i] if field[i] > 0 else _NEAR)


def _is_fits(source: str, mime: str) -> bool:
    path = unquote(source).partition('#')[0]
    kind = kind_of_name(path)
    if 'fits' in (kind, kind_of_name(path.partition('?')[0])):
        return True
    return 'fits' in mime.lower() and kind != 'bitmap'


def _of_headers(sources: Mapping[int, str], objects: Mapping[str, Any]) -> Iterable[_Band]:
    """
    What the headers of files and HDUs tell.
    """
    rows = [i for i, source in sources.items() if source in objects or is_path(source)]
    found = headers.of_objects([objects.get(sources[i], sources[i]) for i in rows])
    ra, dec = to_icrs([facts.centre for facts in found])
    for i, facts, *position in zip(rows, found, ra.tolist(), dec.tolist(), strict=True):
        value = wavelength(facts.filters, facts.instrument)
        placed = math.isfinite(sum(position))
        if value > 0 and (facts.target or placed):
            yield _Band(i, ('header', facts.target, facts.facility, facts.instrument),
                        facts.filters, value, tuple(position) if placed else None, _NEAR)


def _together(bands: list[_Band]) -> Iterable[list[_Band]]:
    """
    Bands of one group and of one place.
    """
    groups: dict[tuple, list[list[_Band]]] = defaultdict(list)
    for band in bands:
        places = groups[band.group]
        for members in places:
            if _near(members[0], band):
                members.append(band)
                break
        else:
            places.append([band])
    for places in groups.values():
        yield from places


def _near(one: _Band, other: _Band) -> bool:
    if one.position is None or other.position is None:
        return one.position is other.position
    (ra, dec), (other_ra, other_dec) = one.position, other.position
    across = (ra - other_ra + 180) % 360 - 180
    distance = math.hypot(across * math.cos(math.radians(dec)), dec - other_dec)
    return distance <= min(one.field, other.field)
