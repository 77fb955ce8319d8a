# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A table of places -> regions that DS9 reads, and a coverage map (MOC).

A place with a position is a polygon on the sky: the package regions puts a rotated rectangle pixels
off where pixels are not square.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from ..archives.columns import TableColumns, text_column
from ..archives.table_io import check_target, replacing
from ..exceptions import TableFormatWarning, invalid, visible, warn
from ..images.formats import kind_of_name
from ..images.refs import parse
from ..status import OK

if TYPE_CHECKING:
    from mocpy import MOC
    from regions import Regions

__all__ = ['boxes', 'check_places', 'is_places', 'places_moc', 'places_regions', 'polygon',
           'write_moc', 'write_regions']

# A cell of the map is at most this part of the short side of a box, and a side has at most so many
# cells: a strip would have millions.
_CELL, _MOST_CELLS = 1 / 8, 512

_DEEPEST = 29  # order of HEALPix in MOC 2.0
_SIDE = np.sqrt(np.pi / 3)  # of a cell of order 0 in radians

_NUMBER = re.compile(r'[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?', re.IGNORECASE)
_MOST_VERTICES = 1000
_MOST_LETTERS = 100


@dataclass(frozen=True)
class _Place:
    """
    A place: what it is called, its vertices on the sky (degrees, ICRS) or None, its box in pixels.
    """

    name: str
    image: str
    sky: tuple[np.ndarray, np.ndarray] | None
    box: np.ndarray


def is_places(table: Any) -> bool:
    """
    Whether it is a table of places.
    """
    return isinstance(table, Table) and {'clip_row', 'clip_place',
                                         'clip_box'} <= set(table.colnames)


def check_places(places: Any) -> Table:
    """
    The table, if it is one of places.
    """
    if not is_places(places):
        raise invalid('This takes a table of places, which locate returns.')
    return places


def boxes(places: Table) -> np.ndarray:
    """
    ``clip_box`` of each row, float64, shape ``(n, 4)``: x0, y0, x1, y1; NaN where there is none.
    """
    try:
        masked: Any = np.ma.asarray(places['clip_box'], dtype=float)
        found = np.asarray(np.ma.filled(masked, np.nan)).reshape(len(places), 4)
    except (TypeError, ValueError):
        raise invalid('clip_box must have four numbers a row: x0, y0, x1, y1.') from None
    return np.where(np.isfinite(found).all(axis=1, keepdims=True), found, np.nan)


def polygon(region: str) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Right ascensions and declinations (degrees) of a polygon in the words of ObsCore; None for
    anything else.

    >>> from astroclip_search.places.regions import polygon
    >>> ra, dec = polygon('POLYGON ICRS 10 -1 11 -1 11 1')
    >>> ra.tolist()
    [10.0, 11.0, 11.0]
    """
    shape, *words = region.split()[:2 * _MOST_VERTICES + 3] or ['']
    if words and words[0].upper() == 'ICRS':
        del words[0]
    if (shape.upper() != 'POLYGON' or not 6 <= len(words) <= 2 * _MOST_VERTICES or len(words) % 2
            or not all(map(_NUMBER.fullmatch, words))):
        return None
    ra, dec = np.array(words, dtype=float).reshape(-1, 2).T
    good = np.isfinite(ra).all() and (np.abs(dec) <= 90).all() and (np.abs(ra) <= 360).all()
    return (ra, dec) if good else None


def places_regions(places: Table) -> 'Regions':
    """
    Make regions of places.

    Parameters
    ----------
    places : `~astropy.table.Table`
        What ``locate`` returns, or some of its rows.

    Returns
    -------
    regions.Regions
        A polygon on the sky (ICRS) for each place that has one; a polygon in pixels for the others,
        if all of those are in one FITS image. Each is named after its picture and its place.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is no table of places, or no place could be a region.
    ImportError
        If regions is missing.

    Warns
    -----
    TableFormatWarning
        If some places could not be regions: those without a position in a bitmap, whose rows DS9
        counts from the other side, and those of several images, which DS9 would draw over each
        other.
    """
    try:
        from regions import PixCoord, PolygonPixelRegion, PolygonSkyRegion, Regions
    except ImportError as error:
        raise ImportError('Regions need the package regions: '
                          'pip install "astroclip-search[regions]".') from error
    from astropy.coordinates import SkyCoord

    return Regions([
        PolygonPixelRegion(PixCoord(*_corners(place.box)), meta={'text': place.name})
        if place.sky is None else
        PolygonSkyRegion(SkyCoord(*place.sky, unit='deg'), meta={'text': place.name})
        for place in _drawable(check_places(places))])


def write_regions(places: Table, path: str | Path, *, overwrite: bool = False) -> Path:
    """
    Write places as a region file of DS9.

    Parameters
    ----------
    places : `~astropy.table.Table`
        What ``locate`` returns, or some of its rows.
    path : path-like
        The file, usually ``.reg``.
    overwrite : bool
        Replace a file of this name.

    Returns
    -------
    pathlib.Path
        The file: polygons in ICRS, or in the pixels of DS9, of which the first is 1.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        As by `places_regions`, and if there is such a file already.

    Warns
    -----
    TableFormatWarning
        As by `places_regions`.
    """
    path = Path(path).expanduser()
    check_target(path, overwrite=overwrite)
    lines = ['# Region file format: DS9 version 4.1']
    for place in _drawable(check_places(places)):
        # Of DS9 the first pixel is 1.
        vertices = _corners(place.box + 1) if place.sky is None else place.sky
        numbers = ','.join(f'{number:.9f}' for number in np.column_stack(vertices).ravel())
        frame = 'image' if place.sky is None else 'icrs'
        lines.append(f'{frame}; polygon({numbers}) # text={{{place.name}}}')
    with replacing(path, overwrite=overwrite) as beside:
        beside.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return path


def places_moc(places: Table) -> 'MOC':
    """
    Make a coverage map of places.

    Parameters
    ----------
    places : `~astropy.table.Table`
        What ``locate`` returns, or some of its rows, such as those with a small
        ``clip_false_alarm``.

    Returns
    -------
    mocpy.MOC
        All cells that a box touches. A cell is at most an eighth of the short side of the box that
        it is of, so that the map is a little larger than the boxes. Places without a position are
        left out.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is no table of places, or none of them has a position.
    ImportError
        If mocpy is missing.
    """
    try:
        from mocpy import MOC
    except ImportError as error:
        raise ImportError('A MOC needs mocpy: pip install "astroclip-search[regions]".') from error
    from astropy.coordinates import SkyCoord

    found = [place.sky for place in _places(check_places(places)) if place.sky is not None]
    if not found:
        raise invalid('No place has a position on the sky, so there is no coverage map: '
                      'clip_message says why.')
    maps = [MOC.from_polygon_skycoord(SkyCoord(ra, dec, unit='deg'), max_depth=_order(ra, dec))
            for ra, dec in found]
    return maps[0].union(*maps[1:]) if len(maps) > 1 else maps[0]


def write_moc(places: Table, path: str | Path, *, overwrite: bool = False) -> Path:
    """
    Write the coverage map of places, in FITS.

    Parameters
    ----------
    places : `~astropy.table.Table`
        What ``locate`` returns, or some of its rows.
    path : path-like
        The file.
    overwrite : bool
        Replace a file of this name.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        As by `places_moc`, and if there is such a file already.
    ImportError
        If mocpy is missing.
    """
    path = Path(path).expanduser()
    check_target(path, overwrite=overwrite)
    moc = places_moc(places)
    with replacing(path, overwrite=overwrite) as beside:
        moc.save(str(beside), 'fits')
    return path


def _places(places: Table) -> Iterator[_Place]:
    """
    The rows in which there is a place.
    """
    def words(name: str) -> list[str]:
        known = name in places.colnames
        return text_column(places, name) if known else [''] * len(places)

    status, region, image, called = map(words, ('clip_status', 's_region', 'clip_source',
                                                'clip_name'))
    numbers = np.nan_to_num(TableColumns(places).numbers('clip_place')).astype(int)
    for i, box in enumerate(boxes(places)):
        if status[i] in ('', OK) and np.isfinite(box).all():
            yield _Place(_label(f'{called[i]} {numbers[i]}'), image[i], polygon(region[i]), box)


def _drawable(places: Table) -> list[_Place]:
    """
    The places that can be regions; a warning counts the others, and if it is all it is an error.
    """
    found = list(_places(places))
    images = {place.image for place in found if place.sky is None and _is_fits(place.image)}
    good = [place for place in found
            if place.sky is not None or (len(images) == 1 and place.image in images)]
    why = ('they are in several images, so choose those of one by clip_row' if len(images) > 1 else
           'they have no position on the sky, and only in FITS images does DS9 count pixels as '
           'the table does')
    if not good:
        raise invalid(f'None of the {len(found)} places can be a region: {why}.' if found else
                      'There is no place in the table: nothing was found.')
    if len(good) < len(found):
        warn(f'{len(found) - len(good)} of {len(found)} places are not among the regions: {why}.',
             TableFormatWarning)
    return good


def _corners(box: np.ndarray) -> tuple[list[float], list[float]]:
    x0, y0, x1, y1 = box.tolist()
    return [x0, x1, x1, x0], [y0, y0, y1, y1]


def _label(text: str) -> str:
    """
    Text for a region file, in which a brace would end it and a line would be another region.
    """
    return re.sub(r'[{}"\'\\\n\ufffd]', ' ', visible(text))[-_MOST_LETTERS:].strip()


def _is_fits(image: str) -> bool:
    ref = parse(image)
    return (ref.kind not in ('memory', 'link', 'colour')
            and kind_of_name(ref.address.partition('?')[0]) == 'fits')


def _order(ra: np.ndarray, dec: np.ndarray) -> int:
    """
    Order of the cells for a polygon, from the sides of the rectangle that has its area and girth.
    """
    places = np.stack([np.cos(np.radians(dec)) * np.cos(np.radians(ra)),
                       np.cos(np.radians(dec)) * np.sin(np.radians(ra)), np.sin(np.radians(dec))])
    following = np.roll(places, -1, axis=1)
    chords = np.linalg.norm(places - following, axis=0)
    half = np.sum(2 * np.arcsin(np.clip(chords / 2, 0, 1))) / 2
    # Of a small polygon it is flat; a large one has larger cells than it could have.
    area = np.linalg.norm(np.cross(places, following, axis=0).sum(axis=1)) / 2
    long = (half + np.sqrt(max(half**2 - 4 * area, 0))) / 2
    short = max(half - long, long / _MOST_CELLS / _CELL, 1e-12)
    return int(np.clip(np.ceil(np.log2(_SIDE / (short * _CELL))), 0, _DEEPEST))
