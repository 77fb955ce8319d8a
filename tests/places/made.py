# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tables of places as `locate` returns them, made by hand.
"""

import numpy as np
from astropy import units as u
from astropy.table import MaskedColumn, Table


def polygon_of(wcs, box):
    """The words of ObsCore for a box of pixels."""
    x0, y0, x1, y1 = box
    sky = wcs.pixel_to_world([x0, x1, x1, x0], [y0, y0, y1, y1]).icrs
    return 'POLYGON ICRS ' + ' '.join(f'{ra:.9f} {dec:.9f}' for ra, dec in
                                      zip(sky.ra.deg, sky.dec.deg, strict=True))


def places_of(source, boxes, *, wcs=None, row=0, name='image'):
    """Places of one image, best first; without boxes the row that says there are none."""
    n = max(len(boxes), 1)
    found = bool(len(boxes))
    box = np.array(boxes if found else [[np.nan] * 4], float)
    x, y = (box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2
    known = found and wcs is not None
    ra = dec = np.zeros(n)
    if known:
        sky = wcs.pixel_to_world(x, y).icrs
        ra, dec = sky.ra.deg, sky.dec.deg
    return Table({
        'clip_row': np.full(n, row),
        'clip_place': MaskedColumn(np.arange(1, n + 1), mask=not found),
        'clip_x': MaskedColumn(x, mask=not found), 'clip_y': MaskedColumn(y, mask=not found),
        'clip_box': MaskedColumn(box, mask=np.full((n, 4), not found)),
        'clip_score': MaskedColumn(np.linspace(5, 4, n).astype('f4'), mask=not found),
        'clip_false_alarm': MaskedColumn(np.full(n, 0.001, 'f4'), mask=not found),
        'ra': MaskedColumn(ra, unit=u.deg, mask=not known),
        'dec': MaskedColumn(dec, unit=u.deg, mask=not known),
        's_region': [polygon_of(wcs, one) if known else '' for one in box],
        'clip_sky_error': MaskedColumn(np.zeros(n, 'f4'), unit=u.arcsec, mask=not known),
        'clip_status': ['OK' if found else 'NO_IMAGE'] * n,
        'clip_message': ['' if known else 'no WCS'] * n,
        'clip_source': [str(source)] * n, 'clip_name': [name] * n})
