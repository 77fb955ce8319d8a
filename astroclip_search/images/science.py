# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Which part of a FITS file shows the sky: of its extensions, and of the axes of a cube.
"""

import re
from typing import Any

import numpy as np

__all__ = ['DOUBTFUL', 'NO_SKY', 'SCIENCE', 'UNNAMED', 'Axes', 'looks_like_sky', 'standing',
           'total_intensity']

# How sure it is that an image shows the sky.
SCIENCE, UNNAMED, DOUBTFUL, NO_SKY = range(4)

# Words in the name of an extension that does not show the sky, whole or their beginnings.
_WORDS = frozenset(
    'AREA BACK BG BGD BKG BKGD BPM CON CONF COV CTX DQ ERR EXP EXPMAP EXPTIME HDRTAB HITMAP HITS '
    'IVAR LSF NCOMB NEXP NHITS NOBS NPIX NSAMP NUMEXP NUSED PB PSF RMS SAMP SEG SEGMAP STAT STD '
    'STDDEV TIME VAR WAVELENGTH WEI WGT WHT WT'.split())
_STEMS = ('APERTURE', 'BACKGR', 'BADPIX', 'CONFID', 'CONTEXT', 'COVERAGE', 'D2IM', 'ERROR',
          'EXPOS', 'FLAG', 'GROUPDQ', 'INVVAR', 'MASK', 'NOISE', 'PIXELDQ', 'QUAL', 'SEGM', 'SIGMA',
          'UNC', 'VARIANCE', 'WCSDVAR', 'WEIGHT')
_ENDS = ('DQ', 'MASK', 'ERR', 'ERROR', 'WEIGHT', 'IVAR', 'FLAGS')

# Of the sky, but not the sky; and frames for calibration.
_DOUBTFUL_WORDS = frozenset(
    'BIAS CHI CHI2 CHISQ DARK FLAT MODEL RESID RESIDUAL RESIDUALS SENSITIVITY SKY SN SNR'.split())

_SKY_WORDS = frozenset(('SCI', 'SCIENCE', 'DATA', 'IMAGE'))

# HDUCLAS2 of the OGIP, which ESO and others follow.
_NO_SKY_CLASSES = frozenset(('BKG', 'ERROR', 'EXPOSURE', 'MASK', 'QUALITY', 'WEIGHT'))

_TIMES = frozenset(('s', 'sec', 'secs', 'second', 'seconds', 'ks', 'ksec', 'min', 'hr'))

# Units of weights: 1 / variance.
_INVERSE = re.compile(r'1\s*/|(\([^()]*\)|[a-z]+)\s*(\^|\*\*)?\s*\(?-2\)?$')

_FEW = 64  # distinct values of flags

# An image of the sky has noise: more of it than this part of its range.
_SMOOTH = 3e-4

_CELESTIAL = re.compile(r'(RA|DEC|[GEHS]LON|[GEHS]LAT|[A-Z]{2}LN|[A-Z]{2}LT|SOLX|SOLY)(-|$)')


class Axes:
    """
    The axes of a FITS image, as axes of its array: two of the picture, and the others.

    Attributes
    ----------
    down, across : int
        Axis of the rows and of the columns; FITS counts them backwards, and from 1.
    others : list of (int, str)
        Each other axis and its kind: ``'stokes'``, ``'time'`` or ``'spectral'``, which is also what
        is not said.
    celestial : bool
        Whether the header says that the picture is one of the sky.
    """

    def __init__(self, header: Any, ndim: int):
        kinds = [str(header.get(f'CTYPE{ndim - axis}', '')).upper().strip() for axis in range(ndim)]
        sky = [axis for axis in range(ndim) if _CELESTIAL.match(kinds[axis])]
        self.celestial = len(sky) == 2
        self.down, self.across = sky if self.celestial else (ndim - 2, ndim - 1)
        self.others = [(axis, _kind(kinds[axis])) for axis in range(ndim)
                       if axis not in (self.down, self.across)]


def _kind(ctype: str) -> str:
    if ctype.startswith(('STOKES', 'COMPLEX')):
        return 'stokes'
    return 'time' if ctype.startswith(('TIME', 'UTC', 'TAI', 'TT', 'TDB')) else 'spectral'


def total_intensity(header: Any, number: int, n: int) -> int:
    """
    Place of Stokes I, whose value is 1, on axis ``number`` of FITS with ``n`` pixels; else the
    first.
    """
    try:
        reference, value, step = (float(header.get(f'{key}{number}', 1.0))
                                  for key in ('CRPIX', 'CRVAL', 'CDELT'))
        place = round(reference + (1 - value) / step) - 1
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 0
    return place if 0 <= place < n else 0


def standing(name: str, header: Any) -> int:
    """
    How sure it is by the name and the header of an image that it shows the sky.
    """
    words = re.findall('[A-Z]+[0-9]*[A-Z]*', name.upper())
    kind = str(header.get('HDUCLAS2', '')).upper().strip()
    if kind in _NO_SKY_CLASSES or any(
            word.rstrip('0123456789') in _WORDS or word.startswith(_STEMS) or word.endswith(_ENDS)
            for word in words):
        return NO_SKY
    if name.upper() == 'SCI':
        return SCIENCE
    unit = str(header.get('BUNIT', '')).lower().strip()
    if unit in _TIMES or _INVERSE.match(unit) or _DOUBTFUL_WORDS.intersection(words):
        return DOUBTFUL
    return SCIENCE if kind == 'DATA' or (words[:1] and words[0] in _SKY_WORDS) else UNNAMED


def looks_like_sky(rows: np.ndarray, *, integers: bool) -> bool:
    """
    Whether some rows of an image may be of the sky, and not flags, an exposure or a background.
    """
    values = rows[np.isfinite(rows)]
    if values.size < 2:
        return False
    few = np.unique(values)
    if len(few) == 1:
        return False
    # Photons are counted from 0 or 1 without gaps; flags are sums of powers of two.
    if integers and len(few) <= _FEW:
        return bool(len(few) > 2 and few[0] in (0, 1) and few[len(few) // 2] - few[0] <= len(few))
    low, high = np.percentile(values, (1, 99))
    bends = np.abs(np.diff(rows, n=2, axis=1))
    bends = bends[np.isfinite(bends)]
    if not high > low or not bends.size or not np.median(bends) > 0:
        return bool(np.mean(values == few[0]) > .5)  # few photons
    return bool(np.median(bends) > _SMOOTH * (high - low))


