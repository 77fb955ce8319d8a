# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Parts of a picture -> the sky, where its file says nothing: by what its address asks for, or by the
outline of its row.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from .regions import polygon

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = ['Outline', 'asked_wcs', 'outline', 'words_of']

# The largest field in degrees whose pixels are all of one size, to a ten-thousandth.
_MOST_FIELD = 2.0

# Projections that do not differ in a field of that size.
_PROJECTIONS = ('TAN', 'SIN', 'STG', 'ZEA', 'ARC')

# A picture may be this much wider than the outline of its row, to be one of all of it.
_LIKE = 1.15

# What may lie between the edges of a picture and the outline of its row, in parts of its sides: of
# a rectangle, and of the upright rectangle around any other polygon.
_MARGIN, _LOOSE = 0.02, 0.1

# Of the angle between two vertices that follow each other: about 100 degrees.
_LEAST_COSINE = -0.2

# Corners of a rectangle are right to so much of its sides.
_RIGHT = 0.1


def asked_wcs(address: str, width: int, height: int) -> 'WCS | None':
    """
    The WCS of a picture by how its address asked for it, with north on top: hips2fits of the CDS,
    ImgCutout of SDSS, and cutouts of the Legacy Surveys. Its pixels are those of the picture, whose
    first row is on top; it is right to half a pixel.

    >>> from astroclip_search.places.sky import asked_wcs
    >>> wcs = asked_wcs('https://alasky.cds.unistra.fr/hips-image-services/hips2fits?ra=10&dec=20'
    ...                 '&fov=0.1&width=256&height=256&projection=TAN', 256, 256)
    >>> [round(float(x), 6) for x in wcs.wcs_pix2world([[127.5, 127.5]], 0)[0]]
    [10.0, 20.0]
    """
    try:
        parts = urlsplit(address)
        said = dict(parse_qsl(parts.query, max_num_fields=100))
    except ValueError:
        return None
    service = parts.path.rstrip('/').rpartition('/')[2].casefold()
    scale = None
    if service == 'hips2fits':
        plain = (said.get('projection', 'TAN').upper() in _PROJECTIONS
                 and said.get('coordsys', 'icrs').casefold() == 'icrs'
                 and _number(said, 'rotation_angle', 0.0) == 0.0)
        field = _number(said, 'fov')
        scale = field / max(width, height) if plain and field is not None else None
    elif service == 'getjpeg':
        scale = _scaled(said, 'scale', 'width', width)
    elif service in ('jpeg-cutout', 'cutout.jpg', 'fits-cutout'):
        scale = _scaled(said, 'pixscale', 'width' if 'width' in said else 'size', width)
    ra, dec = _number(said, 'ra'), _number(said, 'dec')
    if (scale is None or ra is None or dec is None or not 0 < scale * max(width, height)
            <= _MOST_FIELD or abs(dec) > 90 or abs(ra) > 360):
        return None
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = (width + 1) / 2, (height + 1) / 2
    wcs.wcs.cdelt = -scale, -scale  # row 0 is on top, and north too
    return wcs


def _scaled(said: Mapping[str, str], scale: str, side: str, width: int) -> float | None:
    """
    Degrees of a pixel of the picture, which may be larger or smaller than it was asked for.
    """
    arcsec, asked = _number(said, scale), _number(said, side)
    if arcsec is None or asked is None:
        return None
    return arcsec / 3600 * asked / width


def _number(said: Mapping[str, str], name: str, default: float | None = None) -> float | None:
    try:
        found = float(said[name]) if name in said else default
    except ValueError:
        return None
    return found if found is None or math.isfinite(found) else None


@dataclass(frozen=True)
class Outline:
    """
    A field on the sky that a picture shows all of, turned we do not know how.

    Attributes
    ----------
    ra, dec : float
        Centre in degrees.
    corners : `numpy.ndarray` of float, shape (k, 4, 2)
        For each way that the picture may be turned, the likeliest first, degrees towards east and
        north of its corners: upper left, upper right, lower right, lower left.
    least : float
        Degrees that a place is off at least: nobody says that nothing was cut off.
    """

    ra: float
    dec: float
    corners: np.ndarray
    least: float

    def sky(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Right ascension, declination and how far off they may be, in degrees, of parts of the
        width and height of the picture (n,).
        """
        weights = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=-1)
        found = weights @ self.corners  # (k, n, 2)
        off = np.maximum(np.linalg.norm(found - found[0], axis=-1).max(axis=0), self.least)
        ra, dec = _from_plane(found[0, :, 0], found[0, :, 1], self.ra, self.dec)
        return ra, dec, off


def outline(region: str, width: int, height: int) -> Outline | None:
    """
    The field of a row by its ``s_region``, for a picture of this width and height; `None` for other
    words than those of a polygon, or if the picture has another shape.

    A picture shows the sky as it is seen: with north on top east is on the left. Which side of the
    field is on top is not said. Of the ways that fit its shape the one is taken that is least
    turned; the others say how far off that may be.
    """
    vertices = polygon(region)
    if vertices is None:
        return None
    ra, dec = vertices
    if len(ra) > 4 and ra[0] == ra[-1] and dec[0] == dec[-1]:
        ra, dec = ra[:-1], dec[:-1]
    centre = _centre(ra, dec)
    if centre is None:
        return None
    flat = np.stack(_to_plane(ra, dec, *centre), axis=1)
    if not np.isfinite(flat).all():
        return None
    is_rectangle = _is_rectangle(flat)
    corners = flat if is_rectangle else _around(flat)
    # As they follow each other on the sky seen from inside, from the east over the north.
    corners = corners[np.argsort(np.arctan2(*(corners - corners.mean(axis=0)).T[::-1]))]
    ways = []
    for first in range(4):
        turned = np.roll(corners, -first, axis=0)
        # From the upper left over the upper right to the lower right: east is on the left.
        across = np.linalg.norm(turned[1] - turned[0]) + np.linalg.norm(turned[2] - turned[3])
        down = np.linalg.norm(turned[3] - turned[0]) + np.linalg.norm(turned[2] - turned[1])
        if across <= 0 or down <= 0:
            return None
        shape = across / down * height / width
        if 1 / _LIKE < shape < _LIKE:
            up = turned[0] + turned[1] - turned[2] - turned[3]
            ways.append((abs(math.atan2(up[0], up[1])), turned))
    if not ways:
        return None
    ways.sort(key=lambda way: way[0])
    least = (_MARGIN if is_rectangle else _LOOSE) * float(np.ptp(corners, axis=0).max())
    return Outline(*centre, np.stack([way[1] for way in ways]), least)


def _is_rectangle(flat: np.ndarray) -> bool:
    """
    Whether vertices are the four corners of a rectangle, or nearly.
    """
    if len(flat) != 4:
        return False
    sides = np.roll(flat, -1, axis=0) - flat
    lengths = np.linalg.norm(sides, axis=1)
    if lengths.min() <= 0:
        return False
    cosines = np.abs((sides * np.roll(sides, -1, axis=0)).sum(axis=1)) / (
        lengths * np.roll(lengths, -1))
    return bool(cosines.max() < _RIGHT)


def _around(flat: np.ndarray) -> np.ndarray:
    """
    The corners of the upright rectangle around vertices.
    """
    (east, north), (west, south) = flat.max(axis=0), flat.min(axis=0)
    return np.array([[east, north], [west, north], [west, south], [east, south]])


def _centre(ra: np.ndarray, dec: np.ndarray) -> tuple[float, float] | None:
    """
    The middle of places on the sky, `None` if they are all around it.
    """
    lon, lat = np.radians(ra), np.radians(dec)
    x, y, z = (np.cos(lat) * np.cos(lon)).mean(), (np.cos(lat) * np.sin(lon)).mean(), np.sin(
        lat).mean()
    if math.hypot(x, y, z) < 0.9:
        return None
    return math.degrees(math.atan2(y, x)) % 360, math.degrees(math.atan2(z, math.hypot(x, y)))


def _to_plane(ra: np.ndarray, dec: np.ndarray, ra0: float,
              dec0: float) -> tuple[np.ndarray, np.ndarray]:
    """
    Gnomonic projection: degrees towards east and north of a centre.
    """
    lon, lat, lat0 = np.radians(ra - ra0), np.radians(dec), math.radians(dec0)
    down = np.sin(lat) * math.sin(lat0) + np.cos(lat) * math.cos(lat0) * np.cos(lon)
    down = np.where(down > 0.1, down, np.nan)
    return (np.degrees(np.cos(lat) * np.sin(lon) / down),
            np.degrees((np.sin(lat) * math.cos(lat0)
                        - np.cos(lat) * math.sin(lat0) * np.cos(lon)) / down))


def _from_plane(east: np.ndarray, north: np.ndarray, ra0: float,
                dec0: float) -> tuple[np.ndarray, np.ndarray]:
    """
    The inverse.
    """
    x, y, lat0 = np.radians(east), np.radians(north), math.radians(dec0)
    ra = ra0 + np.degrees(np.arctan2(x, math.cos(lat0) - y * math.sin(lat0)))
    dec = np.degrees(np.arctan2(math.sin(lat0) + y * math.cos(lat0), np.hypot(
        x, math.cos(lat0) - y * math.sin(lat0))))
    return ra % 360, dec


def words_of(ra: np.ndarray, dec: np.ndarray) -> str:
    """
    A polygon on the sky in the words of ObsCore (ICRS, degrees), empty if a vertex has no place, or
    two that follow each other are so far apart that nobody would draw the same side.

    >>> from astroclip_search.places.sky import words_of
    >>> words_of([10, 11, 11], [-1, -1, 1])
    'POLYGON ICRS 10.0000000 -1.0000000 11.0000000 -1.0000000 11.0000000 1.0000000'
    """
    numbers: Any = np.column_stack([ra, dec]).ravel()
    if not np.isfinite(numbers).all():
        return ''
    lon, lat = np.radians(ra), np.radians(dec)
    places = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    if (places * np.roll(places, -1, axis=1)).sum(axis=0).min() < _LEAST_COSINE:
        return ''
    return 'POLYGON ICRS ' + ' '.join(f'{number:.7f}' for number in numbers.tolist())
