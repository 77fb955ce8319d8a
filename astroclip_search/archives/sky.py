# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Table rows -> where on the sky they are, and how large.
"""

import contextlib
import re

import numpy as np
from astropy import units as u
from astropy.table import Column, Table

from .columns import text_column

__all__ = ['Places', 'places']

# Names and UCDs (UCD1 and UCD1+), the surest sign first.
_RA = ('s_ra', 'ucd:pos.eq.ra;meta.main', 'ucd:pos_eq_ra_main', 'ucd:pos.eq.ra', 'ra')
_DEC = ('s_dec', 'ucd:pos.eq.dec;meta.main', 'ucd:pos_eq_dec_main', 'ucd:pos.eq.dec', 'dec')
_FIELD = ('s_fov', 'ucd:phys.angsize;instr.fov')
_REGION = ('s_region', 'ucd:pos.outline;obs.field')
_PIXELS, _SCALE = 'vox:image_naxis', 'vox:image_scale'  # UCDs of SIA1


class Places:
    """
    Positions and sizes of rows.

    Parameters
    ----------
    ra, dec : ndarray
        Centres in degrees (ICRS), NaN where unknown.
    size : ndarray
        Diameters in degrees, NaN where unknown.

    Attributes
    ----------
    ra, dec, size : ndarray
        As given.
    known : ndarray
        Whether there is a position.
    """

    def __init__(self, ra: np.ndarray, dec: np.ndarray, size: np.ndarray):
        self.ra, self.dec = ra, dec
        self.size = np.where(size > 0, size, np.nan)
        self.known = np.isfinite(ra) & (np.abs(dec) <= 90)


def places(table: Table) -> Places:
    """
    Where the rows of a table are.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table; columns are found by name, in any case, and by UCD.

    Returns
    -------
    Places
        The size is that of ``s_fov``, or of ``s_region`` where there is no other, or in SIA1 that
        of the pixels.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from astroclip_search.archives.sky import places
    >>> found = places(Table({'s_ra': [10.0], 's_dec': [-5.0],
    ...                       's_region': ['CIRCLE ICRS 10 -5 0.25']}))
    >>> float(found.ra[0]), float(found.size[0])
    (10.0, 0.5)
    """
    index: dict[str, str] = {}
    for name, column in table.columns.items():
        if isinstance(column, Column) and column.ndim == 1:
            index.setdefault(name.casefold(), name)
            ucd = column.meta.get('ucd')
            if isinstance(ucd, str):
                index.setdefault(f'ucd:{ucd.strip().casefold()}', name)
    ra, dec, size = (_degrees(table, index, keys) for keys in (_RA, _DEC, _FIELD))
    region = next((index[key] for key in _REGION if key in index), None)
    if region is not None and not np.all(size > 0):
        regions = [_region_size(text) for text in text_column(table, region)]
        size = np.where(size > 0, size, regions)
    if not np.all(size > 0):
        size = np.where(size > 0, size, _image_sizes(table))
    return Places(ra, dec, size)


def _degrees(table: Table, index: dict[str, str], keys: tuple[str, ...]) -> np.ndarray:
    """
    The first column of a kind that has numbers, in degrees.
    """
    for key in keys:
        column = table[index[key]] if key in index else None
        if column is None or column.dtype.kind not in 'iuf':
            continue
        unit = u.deg if column.unit is None else column.unit
        if unit.is_equivalent(u.deg):
            values = np.ma.filled(np.ma.array(column.data, dtype=float), np.nan)
            return values * unit.to(u.deg)
    return np.full(len(table), np.nan)


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
                sides = np.ma.asarray(pixels, dtype=float) * np.ma.asarray(scale, dtype=float)
                sizes[i] = np.ma.filled(np.abs(np.ma.masked_invalid(sides)).max(), np.nan)
    return sizes


def _region_size(region: str) -> float:
    """
    Diameter in degrees of a region in the words of ObsCore and STC-S, NaN if it is another.
    """
    shape = region.split(maxsplit=1)[0].lower() if region.strip() else ''
    values = [float(word) for word in region.split() if re.fullmatch(r'[-+]?[\d.]+(e[-+]?\d+)?',
                                                                     word, re.IGNORECASE)
              and word.count('.') < 2 and any(map(str.isdigit, word))]
    if shape == 'circle' and len(values) == 3:
        return 2 * values[2]
    if shape == 'polygon' and len(values) >= 6 and len(values) % 2 == 0:
        ra, dec = np.array(values[::2]), np.array(values[1::2])
        ra = (ra - ra[0] + 180) % 360 - 180  # a field may lie across 0h
        return float(max(np.ptp(ra) * np.cos(np.radians(dec.mean())), np.ptp(dec)))
    return np.nan
