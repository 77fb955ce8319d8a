# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Keywords of a FITS header -> where the centre of its image is.

wcslib is asked for the two celestial axes alone. That takes a fiftieth of the time of an
`astropy.wcs.WCS`, warns of nothing, and what else a damaged header says of itself does no harm.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from astropy.coordinates import BaseCoordinateFrame, SkyCoord

__all__ = ['Centre', 'Get', 'Value', 'by_keywords', 'by_wcs', 'is_elsewhere', 'middle', 'number',
           'of_image', 'steady_icrs', 'to_icrs']

Value = str | bool | int | float | None

Get = Callable[[str], Value]  # the value of a keyword, or None

# Frames of astropy that do not move with the Earth.
_STEADY = {'icrs', 'fk5', 'fk4', 'fk4noeterms', 'galactic', 'supergalactic',
           'barycentricmeanecliptic', 'barycentrictrueecliptic', 'custombarycentricecliptic'}

_CELESTIAL = re.compile(r'(RA|DEC|[GES]LON|[GES]LAT)(?:-+([A-Z]{3})(?:-SIP)?)?')

# On the Sun or a planet, in the notations of Thompson (2006) and of before.
_ELSEWHERE = re.compile(r'SOL|[A-Z]{2}L[NT](-|$)')

# Written by IRAF beside keywords that wcslib would need as well; at the centre the difference is
# of some arcsec.
_NEARLY = {'TNX': 'TAN', 'ZPX': 'TAN'}

_UNITS = {'rad': 'rad', 'radian': 'rad', 'arcsec': 'arcsec', 'arcmin': 'arcmin'}

_KEYWORDS = (('RA_TARG', 'DEC_TARG'), ('TARG_RA', 'TARG_DEC'), ('RA_OBJ', 'DEC_OBJ'),
             ('OBJCTRA', 'OBJCTDEC'), ('RA', 'DEC'))

_SEXAGESIMAL = re.compile(r'([-+]?) ?(\d{1,3})([hd: ]) ?(\d{1,2})(?:[m\': ] ?(\d{1,2}(?:\.\d*)?))?'
                          r'[s"m\']?')

_MAX_AXES, _MAX_ORDER, _MAX_PV = 9, 9, 40  # SIP says 9, TPV 39


@dataclass(frozen=True, slots=True)
class Centre:
    """
    Longitude and latitude in degrees in a frame, which may have an equinox; ``size`` is the long
    side of the image.
    """

    lon: float
    lat: float
    frame: str = 'icrs'
    equinox: float = math.nan
    size: float = 0.0


def number(value: object) -> float:
    """
    A finite number, which some headers write as text, else NaN.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | np.number):
        return math.nan
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def of_image(get: Get) -> Centre | None:
    """
    The centre of the image that a header describes, of a cube that of a plane.
    """
    axes = _axes(get)
    if axes is None:
        return None
    names, projections, axis = zip(*axes, strict=True)
    crval, crpix, shape = ([number(get(f'{key}{i}')) for i in axis]
                           for key in ('CRVAL', 'CRPIX', 'NAXIS'))
    crpix = [0.0 if math.isnan(value) else value for value in crpix]  # by the standard
    if not all(map(math.isfinite, crval)) or not all(n >= 1 for n in shape):
        return None
    # Whatever wcslib refuses has no position.
    try:
        wcs = _wcsprm(get, names, projections, axis)
        if wcs is None:
            return None
        wcs.crval, wcs.crpix = crval, crpix
        pixel = [(n + 1) / 2 for n in shape]
        if axis == (1, 2):
            pixel = _undistorted(get, pixel, crpix)
        wcs.celfix()
        wcs.set()
        world = wcs.p2s([pixel], 1)['world'][0]
        lon, lat = float(world[wcs.lng]), float(world[wcs.lat])
        size = max(shape) * math.sqrt(abs(np.linalg.det(wcs.get_pc()) * wcs.get_cdelt().prod()))
    except Exception:
        return None
    if not (math.isfinite(lon) and abs(lat) <= 90):
        return None
    return Centre(lon % 360, lat, *_frame(get, names[0]), size)


def _axes(get: Get) -> list[tuple[str, str, int]] | None:
    """
    Names, projections and numbers of the two celestial axes.
    """
    n = number(get('NAXIS'))
    found = [(match[1], _NEARLY.get(match[2], match[2] or ''), i)
             for i in range(1, min(int(n), _MAX_AXES) + 1 if n >= 2 else 1)
             if (match := _CELESTIAL.fullmatch(str(get(f'CTYPE{i}') or '').strip().upper()))]
    pair = sorted(name for name, _, _ in found)
    return found if pair in (['DEC', 'RA'], *([f'{x}LAT', f'{x}LON'] for x in 'EGS')) else None


def _wcsprm(get: Get, names: Sequence[str], projections: Sequence[str],
            axis: Sequence[int]) -> Any:
    """
    What wcslib needs to know but for reference values; None if the header has no scale.
    """
    from astropy.wcs import Wcsprm

    def matrix(form: str) -> list[list[float]]:
        return [[number(get(form.format(i, j))) for j in axis] for i in axis]

    # Most headers have none, and to ask for all of them takes longer than all else.
    some = any(get(f'PV{i}_{m}') is not None for i in axis for m in range(4))
    pv = [(place, m, value) for place, i in enumerate(axis, 1) for m in range(_MAX_PV)
          if not math.isnan(value := number(get(f'PV{i}_{m}')))] if some else []
    if pv and projections[0] == 'TAN':
        if _has_sip(get):
            pv = []  # says the same
        elif any(m > 4 or names[place - 1].endswith(('DEC', 'LAT')) for place, m, _ in pv):
            projections = 'TPV', 'TPV'  # as SCAMP once wrote it
    wcs = Wcsprm(naxis=2)
    wcs.ctype = [f'{name:-<4}-{code}' if code else name
                 for name, code in zip(names, projections, strict=True)]
    wcs.cunit = [_UNITS.get(str(get(f'CUNIT{i}')).strip().lower(), 'deg') for i in axis]
    scale = [number(get(f'CDELT{i}')) for i in axis]
    for form in ('CD{}_{}', 'CD{:03}{:03}'):
        if np.isfinite(cd := np.array(matrix(form))).any():
            wcs.cd = np.nan_to_num(cd)
            break
    else:
        if not all(map(math.isfinite, scale)):
            return None
        wcs.cdelt = scale
        for form in ('PC{}_{}', 'PC{:03}{:03}'):
            if np.isfinite(pc := np.array(matrix(form))).any():
                wcs.pc = np.where(np.isfinite(pc), pc, np.eye(2))
                break
        else:
            wcs.crota = np.nan_to_num([number(get(f'CROTA{i}')) for i in axis])
    wcs.set_pv(pv)
    for key in ('LONPOLE', 'LATPOLE'):
        if not math.isnan(value := number(get(key))):
            setattr(wcs, key.lower(), value)
    return wcs


def _undistorted(get: Get, pixel: list[float], crpix: list[float]) -> list[float]:
    """
    A pixel moved as SIP says (Shupe et al. 2005).
    """
    if not _has_sip(get):
        return pixel
    u, v = (place - reference for place, reference in zip(pixel, crpix, strict=True))
    moved = []
    for letter, place in zip('AB', pixel, strict=True):
        order = int(number(get(f'{letter}_ORDER')))
        terms = ((p, q, number(get(f'{letter}_{p}_{q}'))) for p in range(order + 1)
                 for q in range(order + 1 - p))
        moved.append(place + sum(value * u**p * v**q for p, q, value in terms
                                 if not math.isnan(value)))
    return moved


def _has_sip(get: Get) -> bool:
    return all(0 < number(get(f'{letter}_ORDER')) <= _MAX_ORDER for letter in 'AB')


def _frame(get: Get, name: str = 'RA') -> tuple[str, float]:
    """
    Frame and equinox of positions in a header, on an axis of this name, by Paper II of WCS.
    """
    equinox = next((value for key in ('EQUINOX', 'EPOCH')
                    if 1850 <= (value := number(str(get(key)).lstrip('JB'))) <= 2150), math.nan)
    if name[1:] in ('LON', 'LAT'):
        return {'G': 'galactic', 'S': 'supergalactic', 'E': 'ecliptic'}[name[0]], equinox
    system = str(get('RADESYS') or get('RADECSYS') or '').strip().upper()
    if system not in ('FK4', 'FK4-NO-E', 'FK5', 'ICRS'):
        system = 'ICRS' if math.isnan(equinox) else 'FK4' if equinox < 1984 else 'FK5'
    return system.lower(), equinox


def by_keywords(get: Get) -> Centre | None:
    """
    Where a header says that the target is, or that the telescope looks.
    """
    for keys in _KEYWORDS:
        ra, dec = map(get, keys)
        lon, lat = _angle(ra, hours=True), _angle(dec, hours=False)
        # Zeros stand where a program knew nothing.
        if 0 <= lon <= 360 and abs(lat) <= 90 and (lon or lat):
            return Centre(lon, lat, *_frame(get))
    return None


def is_elsewhere(get: Get) -> bool:
    """
    Whether the image is one of the Sun or of a planet, in its own coordinates.
    """
    return any(_ELSEWHERE.match(str(get(key) or '').strip().upper())
               for key in ('CTYPE1', 'CTYPE2'))


def _angle(value: Value, *, hours: bool) -> float:
    """
    Degrees, of sexagesimal text in hours if it may be, else NaN.
    """
    plain = number(value)
    if not math.isnan(plain) or not isinstance(value, str):
        return plain
    match = _SEXAGESIMAL.fullmatch(' '.join(value.lower().split()))
    if match is None:
        return math.nan
    whole, minutes, seconds = (float(part or 0) for part in match.group(2, 4, 5))
    if minutes >= 60 or seconds >= 60:
        return math.nan
    angle = whole + minutes / 60 + seconds / 3600
    return (15 if hours and match[3] != 'd' else 1) * (-angle if match[1] == '-' else angle)


def by_wcs(wcs: Any, shape: Sequence[int]) -> Centre | None:
    """
    The centre of an image ``(..., ny, nx)`` by a WCS of astropy's or another with its interface.
    """
    try:
        if len(shape) > 2:
            wcs = wcs.celestial
        sky = steady_icrs(wcs.pixel_to_world((shape[-1] - 1) / 2, (shape[-2] - 1) / 2))
        if sky is None:
            return None
        centre = Centre(float(sky.ra.deg), float(sky.dec.deg))
    except Exception:  # not on the sky, or damaged
        return None
    return centre if math.isfinite(centre.lon + centre.lat) else None


def steady_icrs(sky: 'SkyCoord') -> 'SkyCoord | None':
    """
    Positions in ICRS; `None` if astropy might ask a server for the rotation of the Earth.
    """
    frame = sky.frame
    times = (getattr(frame, name) for name in frame.frame_attributes)
    if frame.name not in _STEADY or any(getattr(time, 'scale', '') == 'ut1' for time in times):
        return None
    return sky.icrs


def middle(centres: Sequence[Centre]) -> Centre | None:
    """
    The centre of a mosaic of chips; that of the first image if they do not belong together.
    """
    if len(centres) < 2:
        return centres[0] if centres else None
    lon, lat = (np.radians([getattr(centre, name) for centre in centres])
                for name in ('lon', 'lat'))
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    farthest = (x * x[0] + y * y[0] + z * z[0]).min()
    if farthest < math.cos(min(math.radians(len(centres) * centres[0].size), math.pi / 2)):
        return centres[0]
    x, y, z = x.mean(), y.mean(), z.mean()
    return replace(centres[0], lon=math.degrees(math.atan2(y, x)) % 360,
                   lat=math.degrees(math.atan2(z, math.hypot(x, y))))


def to_icrs(centres: Sequence[Centre | None]) -> tuple[np.ndarray, np.ndarray]:
    """
    Right ascension and declination (ICRS, degrees) of each, NaN where there is no centre.
    """
    ra, dec = np.full((2, len(centres)), math.nan)
    groups: dict[tuple[str, str], list[int]] = {}
    for i, centre in enumerate(centres):
        if centre is not None:
            groups.setdefault((centre.frame, str(centre.equinox)), []).append(i)
    for rows in groups.values():
        known = [centre for i in rows if (centre := centres[i]) is not None]
        lon, lat = np.array([centre.lon for centre in known]), np.array(
            [centre.lat for centre in known])
        if known[0].frame != 'icrs':
            lon, lat = _transformed(lon, lat, known[0])
        ra[rows], dec[rows] = lon, lat
    return ra, dec


def _transformed(lon: np.ndarray, lat: np.ndarray, kind: Centre) -> tuple[np.ndarray, np.ndarray]:
    from astropy.coordinates import SkyCoord

    sky = SkyCoord(lon, lat, unit='deg', frame=_astropy_frame(kind)).icrs
    return sky.ra.deg, sky.dec.deg


def _astropy_frame(kind: Centre) -> 'BaseCoordinateFrame':
    from astropy import coordinates
    from astropy.time import Time

    def year(default: float) -> Time:
        value = default if math.isnan(kind.equinox) else kind.equinox
        return Time(value, format='byear' if kind.frame.startswith('fk4') else 'jyear')

    match kind.frame:
        case 'fk4':
            return coordinates.FK4(equinox=year(1950))
        case 'fk4-no-e':
            return coordinates.FK4NoETerms(equinox=year(1950))
        case 'fk5':
            return coordinates.FK5(equinox=year(2000))
        case 'ecliptic':
            return coordinates.BarycentricMeanEcliptic(equinox=year(2000))
        case 'supergalactic':
            return coordinates.Supergalactic()
        case _:
            return coordinates.Galactic()
