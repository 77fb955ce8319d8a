# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Rows of one observation in several filters -> one colour composite that they share.

Which rows belong together is told by the columns of a table, or by the headers of files; the
longest, the middle and the shortest wavelength become red, green and blue.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
from astropy.table import Table

from ..exceptions import PreviewError
from ..pixels import FITS_SUFFIXES, IMAGE_SUFFIXES
from ..planes import celestial, science_hdu
from ..references import LINK, References, composite, is_path
from .columns import recognise, text_column

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

_TARGETS = ('OBJECT', 'TARGNAME', 'TARGPROP')
_FILTERS = ('FILTER', 'FILTER1', 'FILTER2', 'BAND', 'FILTNAM1', 'PUPIL')

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


def add_composites(table: Table, references: References) -> None:
    """
    Replace FITS images of one field in three or more filters by a composite.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The rows.
    references : References
        Where the image of each row is; changed in place. Rows that have no partners stay as they
        are, and ``own`` keeps what the others had.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from astroclip_search.archives import open_results
    >>> table = Table({'target_name': ['M 51'] * 3, 'filters': ['F814W', 'F555W', 'F435W'],
    ...                'dataURI': ['mast:i.fits', 'mast:v.fits', 'mast:b.fits']})
    >>> _, references = open_results(table, colour=True)
    >>> references.sources[0]
    'rgb:["mast:i.fits", "mast:v.fits", "mast:b.fits"]'
    >>> references.message[0]
    'colour of F814W, F555W, F435W'
    """
    rows = [i for i, (source, status) in enumerate(zip(references.sources, references.status,
                                                       strict=True))
            if source and not status and not source.startswith(LINK)]
    bands = list(_of_table(table, references, rows))
    known = {band.row for band in bands}
    bands += [band for i in rows if i not in known
              for band in _of_header(i, references.sources[i], references.objects)]
    for members in _together(bands):
        by_wavelength = {band.wavelength: band for band in reversed(members)}
        if len(by_wavelength) < 3:
            continue
        order = sorted(by_wavelength, reverse=True)
        chosen = [by_wavelength[order[i]] for i in (0, len(order) // 2, -1)]
        source = composite(*(references.sources[band.row] for band in chosen))
        said = 'colour of ' + ', '.join(band.name for band in chosen)
        for band in members:
            references.own[band.row] = references.sources[band.row]
            references.message[band.row] = said
        for band in members:
            references.sources[band.row] = source


def wavelength(name: str, instrument: str = '') -> float:
    """
    Wavelength of a filter, by its name.

    Parameters
    ----------
    name : str
        Such as ``F814W``, ``CLEAR;F444W``, ``SDSS r`` or ``Ks``.
    instrument : str
        Tells what the number of an HST or JWST filter means.

    Returns
    -------
    float
        In nm, NaN if the name is not known.

    Examples
    --------
    >>> from astroclip_search.archives.colour import wavelength
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


def _of_table(table: Table, references: References, rows: list[int]) -> Iterable[_Band]:
    lower = {name.casefold(): name for name in reversed(table.colnames)}

    def texts(*names: str) -> list[str] | None:
        name = next((lower[name] for name in names if name in lower), None)
        return text_column(table, name) if name is not None else None

    filters = texts('filters', 'filter', 'filter_name', 'band', 'band_name')
    shortest, longest = (_numbers(table, lower.get(name)) for name in ('em_min', 'em_max'))
    if filters is None and shortest is None:
        return
    found = recognise(table)
    target = text_column(table, found['target'][0]) if 'target' in found else None
    instrument = texts('instrument_name', 'instrument')
    group = [column for column in (
        target, instrument, texts('proposal_id'), texts('obs_collection', 'collection'),
        texts('facility_name', 'telescope')) if column is not None]
    ra, dec, field = (_numbers(table, lower.get(name)) for name in ('s_ra', 's_dec', 's_fov'))
    formats = text_column(table, found['format'][0]) if 'format' in found else None
    for i in rows:
        placed = ra is not None and dec is not None and math.isfinite(ra[i] + dec[i])
        if not (target and target[i]) and not placed:
            continue
        if not _is_fits(references.sources[i], formats[i] if formats else ''):
            continue
        name = filters[i] if filters else ''
        value = math.nan
        if shortest is not None and longest is not None:
            value = (shortest[i] + longest[i]) / 2
        unit = 'em'  # of the same kind only: ObsCore has metres, MAST has nanometres
        if not value > 0:
            value, unit = wavelength(name, instrument[i] if instrument else ''), 'name'
        if not value > 0:
            continue
        yield _Band(i, (unit, *(column[i] for column in group)), name or f'{value:.4g}', value,
                    (ra[i], dec[i]) if placed else None,
                    field[i] if field is not None and field[i] > 0 else _NEAR)


def _numbers(table: Table, name: str | None) -> np.ndarray | None:
    if name is None:
        return None
    try:
        return np.ma.filled(np.ma.array(getattr(table[name], 'value', table[name]), dtype=float),
                            np.nan)
    except (TypeError, ValueError):
        return None


def _is_fits(source: str, mime: str) -> bool:
    path = unquote(source).lower().partition('#')[0]
    if path.endswith(FITS_SUFFIXES) or path.partition('?')[0].endswith(FITS_SUFFIXES):
        return True
    return 'fits' in mime.lower() and not path.endswith(IMAGE_SUFFIXES)


def _of_header(row: int, source: str, objects: dict[str, Any]) -> Iterable[_Band]:
    """
    What the header of a file or an HDU tells; nothing, if it has none.
    """
    if source in objects:
        headers = _headers(objects[source])
    elif is_path(source) and source.lower().endswith(FITS_SUFFIXES):
        headers = _headers_of_file(source)
    else:
        return

    def value(*names: str) -> str:
        return next((text for name in names for header in headers
                     if (text := _text(header, name))), '')

    target, instrument = value(*_TARGETS), value('INSTRUME')
    names = [text for name in _FILTERS if (text := value(name))]
    filters = [(name, found) for name in names
               if math.isfinite(found := wavelength(name, f'{instrument}/{value("DETECTOR")}'))]
    if not filters:
        return
    position = _position(headers)
    if not target and position is None:
        return
    name, found = filters[-1] if names[0].upper().startswith('CLEAR') else filters[0]
    yield _Band(row, ('header', target, value('TELESCOP'), instrument), name, found, position,
                _NEAR)


def _headers_of_file(path: str) -> list[Any]:
    from astropy.io import fits

    # What is wrong with it is told when it is drawn.
    try:
        with open(path, 'rb') as stream, fits.open(stream, output_verify='ignore') as hdus:
            return _headers(hdus)
    except Exception:
        return []


def _headers(item: Any) -> list[Any]:
    """
    Headers that describe an image, that of the image itself first.
    """
    if isinstance(item, list):
        try:
            return [science_hdu(item).header.copy(), item[0].header.copy()]
        except PreviewError:
            return []
    header = getattr(item, 'header', None)
    return [header] if hasattr(header, 'get') else []


def _text(header: Any, name: str) -> str:
    try:
        value = header.get(name)
    except Exception:  # a damaged card
        return ''
    return value.strip() if isinstance(value, str) else ''


def _position(headers: list[Any]) -> tuple[float, float] | None:
    """
    Centre of an image on the sky.
    """
    header = headers[0]
    wcs = celestial(header)
    if wcs is None:
        return None
    try:
        centre = wcs.pixel_to_world(header['NAXIS1'] / 2, header['NAXIS2'] / 2).icrs
        return float(centre.ra.deg), float(centre.dec.deg)
    except Exception:  # not on the sky, or damaged
        return None


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
