# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Table rows -> where on the sky they are and how large, and cutouts there.
"""

import contextlib
import re
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.table import Column, Table

from ..exceptions import invalid, one_line
from ..images.refs import ImageRefs, link, parse
from .centres import steady_icrs
from .columns import TableColumns

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

__all__ = ['Places', 'places', 'position', 'positions', 'search_radius', 'with_cutouts']

# Names and UCDs (UCD1 and UCD1+), the surest sign first.
_RA = ('s_ra', 'ucd:pos.eq.ra;meta.main', 'ucd:pos_eq_ra_main', 'ucd:pos.eq.ra', 'ra')
_DEC = ('s_dec', 'ucd:pos.eq.dec;meta.main', 'ucd:pos_eq_dec_main', 'ucd:pos.eq.dec', 'dec')
_FIELD = ('s_fov', 'ucd:phys.angsize;instr.fov')
_REGION = ('s_region', 'ucd:pos.outline;obs.field')

_PIXELS, _SCALE = 'vox:image_naxis', 'vox:image_scale'  # UCDs of SIA1

# Radius in degrees of cutouts around the centre of a row: a model sees some hundred pixels, not a
# survey plate.
_LARGEST = 0.1
_UNKNOWN = 0.01

_NUMBER = re.compile(r'[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?', re.IGNORECASE)


@dataclass(frozen=True)
class Places:
    """
    Centres (ICRS) and diameters of rows in degrees, shape (n,), NaN where unknown.
    """

    ra: np.ndarray
    dec: np.ndarray
    size: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """
        Whether there is a position.
        """
        return np.isfinite(self.ra) & (np.abs(self.dec) <= 90)


def position(coordinates: Any) -> 'SkyCoord':
    """
    One position, scalar; a string is understood as in astroquery, as ICRS or as a name.
    """
    from astropy.coordinates.name_resolve import NameResolveError
    from astroquery.utils.commons import parse_coordinates

    try:
        found = parse_coordinates(coordinates)
    except (NameResolveError, TypeError, ValueError, u.UnitsError) as error:
        raise invalid(f'{one_line(repr(coordinates), 80)} is neither a position such as '
                      '"10h21m +12d" nor the name of an object.') from error
    if not found.isscalar:
        raise invalid('Give one position, not several.')
    return found


def search_radius(radius: Any) -> u.Quantity:
    """
    The radius of a search; a plain number is in degrees, as in astroquery, and `None` is 0.2 deg.
    """
    return _angle(0.2 if radius is None else radius, 'radius', 180)


def _angle(value: Any, name: str, largest: float) -> u.Quantity:
    from astropy.coordinates import Angle

    try:
        angle = u.Quantity(Angle(value, u.deg if isinstance(value, Real) else None))
        if not 0 < angle.to_value(u.deg) <= largest:
            raise ValueError('out of range')
    except (TypeError, ValueError, u.UnitsError) as error:
        raise invalid(f'The {name} {one_line(repr(value), 80)} is not an angle such as '
                      '"10 arcmin".') from error
    return angle


def places(columns: TableColumns) -> Places:
    """
    Where rows are, by ``s_ra``, ``s_dec`` and ``s_fov`` or the like; where the latter says nothing
    the size is that of ``s_region``, or in SIA1 of the pixels.

    >>> from astropy.table import Table
    >>> from astroclip_search.archives.columns import TableColumns
    >>> from astroclip_search.archives.footprints import places
    >>> found = places(TableColumns(Table({
    ...     's_ra': [10.0], 's_dec': [-5.0], 's_region': ['CIRCLE ICRS 10 -5 0.25']})))
    >>> float(found.ra[0]), float(found.size[0])
    (10.0, 0.5)
    """
    ra, dec, size = (_degrees(columns, keys) for keys in (_RA, _DEC, _FIELD))
    region = columns.find(*_REGION)
    if region is not None and not np.all(size > 0):
        size = np.where(size > 0, size, [_region_size(text) for text in columns.text(region)])
    if not np.all(size > 0):
        size = np.where(size > 0, size, _image_sizes(columns.table))
    return Places(ra, dec, np.where(size > 0, size, np.nan))


def _degrees(columns: TableColumns, keys: tuple[str, ...]) -> np.ndarray:
    """
    The first column of a kind that has angles, in degrees; sexagesimal text may be in hours.
    """
    for name in (name for key in keys for name in columns.by_key.get(key, ())):
        if columns.table[name].dtype.kind in 'iuf':
            values = columns.numbers(name, u.deg)
            if not np.isnan(values).all():
                return values
    return np.full(len(columns), np.nan)


def _image_sizes(table: Table) -> np.ndarray:
    """
    Long side in degrees of the image of each row: number of pixels times their size.
    """
    sizes = np.full(len(table), np.nan)
    columns = {str(column.meta.get('ucd')).casefold(): column
               for column in table.itercols() if isinstance(column, Column)}
    if _PIXELS in columns and _SCALE in columns:
        for i, (pixels, scale) in enumerate(zip(columns[_PIXELS], columns[_SCALE], strict=True)):
            with contextlib.suppress(TypeError, ValueError):  # services put anything there
                sides: Any = np.ma.asarray(pixels, dtype=float) * np.ma.asarray(scale, dtype=float)
                sizes[i] = np.ma.filled(np.abs(np.ma.masked_invalid(sides)).max(), np.nan)
    return sizes


def _region_size(region: str) -> float:
    """
    Diameter in degrees of a region in the words of ObsCore and STC-S, NaN if it is another.
    """
    shape, *words = region.lower().split() or ['']
    values = [float(word) for word in words if _NUMBER.fullmatch(word)]
    if not all(abs(value) <= 360 for value in values):  # nor infinite
        return np.nan
    if shape == 'circle' and len(values) == 3:
        return 2 * values[2]
    if shape == 'polygon' and len(values) >= 6 and len(values) % 2 == 0:
        ra, dec = np.array(values[::2]), np.array(values[1::2])
        ra = (ra - ra[0] + 180) % 360 - 180  # a field may lie across 0h
        return float(max(np.ptp(ra) * np.cos(np.radians(dec.mean())), np.ptp(dec)))
    return np.nan


def positions(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """
    Right ascensions and declinations (ICRS, degrees, shape (n,), NaN where unknown) by a
    `~astropy.coordinates.SkyCoord` in the table, or else by columns such as ``s_ra``. A frame that
    moves with the Earth is not looked at.
    """
    from astropy.coordinates import SkyCoord

    for column in table.itercols():
        if isinstance(column, SkyCoord) and (sky := steady_icrs(column)) is not None:
            ra, dec = sky.ra.deg, sky.dec.deg
            known = ~np.asarray(getattr(ra, 'mask', False) | getattr(dec, 'mask', False))
            ra, dec = (np.where(known, getattr(part, 'unmasked', part), np.nan)
                       for part in (ra, dec))
            return ra, dec
    found = places(TableColumns(table))
    return found.ra, found.dec


def with_cutouts(columns: TableColumns, refs: ImageRefs,
                 cutout: tuple[Any, Any] | None) -> ImageRefs:
    """
    Have cutouts made where links offer them, around a position and with a diameter.

    Rows that are known not to reach the position, or without one, keep their own centre; a cutout
    is not larger than the row's field, and without a diameter not larger than 0.2 deg.
    """
    centre = size = None
    if cutout is not None:
        if not isinstance(cutout, list | tuple) or len(cutout) != 2:
            raise invalid('cutout must be a position and a size, such as ("10h21m +12d", '
                          f'"1 arcmin") or (None, "1 arcmin"), not {one_line(repr(cutout), 80)}.')
        centre = None if cutout[0] is None else position(cutout[0]).icrs
        size = None if cutout[1] is None else _angle(cutout[1], 'size of cutouts', 360)
    if not refs.has_links:
        return refs
    own = places(columns)
    half = own.size / 2
    ra, dec = own.ra.copy(), own.dec.copy()
    if centre is not None:
        from astropy.coordinates import angular_separation

        distance = np.degrees(angular_separation(centre.ra.rad, centre.dec.rad,
                                                 np.radians(ra), np.radians(dec)))
        here = ~(own.known & (distance > half))
        ra[here], dec[here] = centre.ra.deg, centre.dec.deg
    default = np.where(np.isfinite(half), np.minimum(half, _LARGEST), _UNKNOWN)
    radii = default if size is None else np.fmin(size.to_value(u.deg) / 2, half)
    sources = list(refs.sources)
    for i in np.flatnonzero(np.isfinite(ra) & (np.abs(dec) <= 90)).tolist():
        ref = parse(sources[i] or '')
        # The circle of a ranked table stays where nobody asks for another.
        if ref.kind == 'link' and (cutout is not None or not ref.circle):
            sources[i] = link(ref.address, circle=(ra[i], dec[i], radii[i]),
                              fallback=ref.fallback)
    return replace(refs, sources=sources)
