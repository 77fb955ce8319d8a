# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Positions -> pictures of the sky there, drawn by hips2fits from an all-sky survey.

For rows that have no image of their own, and only if asked for: what such a picture shows is not
the observation. See https://alasky.cds.unistra.fr/hips-image-services/hips2fits.
"""

from dataclasses import replace
from urllib.parse import urlencode

import numpy as np

from ..exceptions import invalid
from ..images.refs import ImageRefs
from ..status import NO_IMAGE, reason
from .columns import TableColumns
from .footprints import places

__all__ = ['SERVER', 'add_context', 'address']

SERVER = 'https://alasky.cds.unistra.fr/hips-image-services/hips2fits'

_SIZE = 256  # pixels
_FIELD = 0.05  # degrees, for rows that do not say how large they are
_FIELDS = 0.005, 10.0  # smallest and largest field that makes a picture


def address(hips: str, ra: float, dec: float, field: float) -> str:
    """
    Address of a JPEG of a HiPS; centre (ICRS) and width in degrees.

    >>> from astroclip_search.archives.hips import address
    >>> address('CDS/P/DSS2/color', 189.9976, -11.6231, 0.15).partition('?')[2]
    'hips=CDS%2FP%2FDSS2%2Fcolor&width=256&height=256&projection=TAN&coordsys=icrs&ra=189.9976&dec=-11.6231&fov=0.15&format=jpg'
    """
    return SERVER + '?' + urlencode({
        'hips': hips, 'width': _SIZE, 'height': _SIZE, 'projection': 'TAN', 'coordsys': 'icrs',
        'ra': round(float(ra), 6), 'dec': round(float(dec), 6), 'fov': round(float(field), 5),
        'format': 'jpg'})


def add_context(columns: TableColumns, refs: ImageRefs, hips: str) -> ImageRefs:
    """
    Give the rows that are ``NO_IMAGE`` and have a position a picture of the sky there, by the name
    of a HiPS such as ``CDS/P/DSS2/color``.
    """
    if not isinstance(hips, str) or not hips.strip() or not hips.isprintable():
        raise invalid('sky_context must be the name of a HiPS such as "CDS/P/DSS2/color".')
    hips, found = hips.strip(), places(columns)
    known = found.known
    fields = np.clip(np.nan_to_num(found.size, nan=_FIELD), *_FIELDS)
    sources, reasons = list(refs.sources), dict(refs.reasons)
    for i, several in refs.reasons.items():
        if known[i] and any(because.status == NO_IMAGE for because in several):
            sources[i] = address(hips, found.ra[i], found.dec[i], fields[i])
            reasons[i] = (reason('sky_context', hips=hips),)
    return replace(refs, sources=sources, reasons=reasons)
