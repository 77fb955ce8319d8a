# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Positions -> pictures of the sky there, drawn by hips2fits from an all-sky survey.

For rows that have no image of their own, and only if asked for: what such a picture shows is not
the observation. See https://alasky.cds.unistra.fr/hips-image-services/hips2fits.
"""

from urllib.parse import urlencode

import numpy as np
from astropy.table import Table

from ..phrases import invalid
from ..references import References
from .sky import places

__all__ = ['SERVER', 'address', 'fill']

SERVER = 'https://alasky.cds.unistra.fr/hips-image-services/hips2fits'

_SIZE = 256  # pixels
_FIELD = 0.05  # degrees, for rows that do not say how large they are
_FIELDS = 0.005, 10.0  # smallest and largest field that makes a picture


def address(hips: str, ra: float, dec: float, field: float) -> str:
    """
    Address of a picture.

    Parameters
    ----------
    hips : str
        Name of a HiPS, such as ``CDS/P/DSS2/color``.
    ra, dec : float
        Centre in degrees (ICRS).
    field : float
        Width in degrees.

    Returns
    -------
    str
        A request to hips2fits for a JPEG.

    Examples
    --------
    >>> from astroclip_search.archives.hips import address
    >>> address('CDS/P/DSS2/color', 189.9976, -11.6231, 0.15).partition('?')[2]
    'hips=CDS%2FP%2FDSS2%2Fcolor&width=256&height=256&projection=TAN&coordsys=icrs&ra=189.9976&dec=-11.6231&fov=0.15&format=jpg'
    """
    return SERVER + '?' + urlencode({
        'hips': hips, 'width': _SIZE, 'height': _SIZE, 'projection': 'TAN', 'coordsys': 'icrs',
        'ra': round(float(ra), 6), 'dec': round(float(dec), 6), 'fov': round(float(field), 5),
        'format': 'jpg'})


def fill(table: Table, references: References, hips: str) -> None:
    """
    Give the rows without an image one of the sky at their position.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The rows.
    references : References
        Where their images are; rows that are ``NO_IMAGE`` and have a position are filled in, and
        their message says so.
    hips : str
        Name of a HiPS, such as ``CDS/P/DSS2/color``.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If this is no name.
    """
    if not isinstance(hips, str) or not hips.strip() or not hips.isprintable():
        raise invalid('sky_context must be the name of a HiPS such as "CDS/P/DSS2/color".')
    found = places(table)
    fields = np.clip(np.nan_to_num(found.size, nan=_FIELD), *_FIELDS)
    for i, status in enumerate(references.status):
        if status == 'NO_IMAGE' and found.known[i]:
            references.sources[i] = address(hips.strip(), found.ra[i], found.dec[i], fields[i])
            references.status[i] = ''
            references.message[i] = f'sky context from {hips.strip()}, not the observation'
