# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the loopback DaCHS publishes: images made here, and real ones where they are at hand.
"""

import bz2
import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image

from tests.loopback.archive import SHARED_DATA

__all__ = ['CENTRE', 'KINDS', 'REAL_FILES', 'publish']

CENTRE = (150.0, 20.0)  # degrees; within a degree of it lies what is made here

# How a row is published -> colour of its preview, or None. The FITS files are grey, so that a
# test sees which of the two was taken.
KINDS = {
    'plain': 'red',        # its preview is in the column of ObsCore, and #preview in DataLink
    'described': 'lime',   # the latter only
    'linked': 'blue',      # the same, and access_url is that DataLink document
    'shared': 'red',       # proprietary, but its preview is not
    'closed': None,        # proprietary, without a preview
    'bare': None,          # nothing but the FITS file, and cutouts of it
    'lost': None,          # its preview is announced everywhere, and is not there
    'spectrum': None,      # says that it is no image
}

REAL_FILES = SHARED_DATA / 'fits.tar.gz'


def publish(folder, url):
    """
    Write the resource descriptor and its files.

    Parameters
    ----------
    folder : Path
        Where to; it is made.
    url : str
        Address of the server.
    """
    for name in ('data', 'previews'):
        (folder / name).mkdir(parents=True)
    text = Path(__file__).with_name('q.rd').read_text(encoding='utf-8')
    (folder / 'q.rd').write_text(text.replace('SERVER', url), encoding='utf-8')
    for i, (kind, colour) in enumerate(KINDS.items()):
        preview = None if colour is None else _preview(colour)
        _write(folder, kind, kind, 'MADE', _star(i), preview)
    if REAL_FILES.exists():
        _publish_real(folder)


def _preview(colour):
    """An image of one hue, which is not blank."""
    preview = Image.new('RGB', (64, 64), colour)
    preview.paste('black', (0, 0, 8, 8))
    return preview


def _star(number):
    """An image of 0.05 deg with a star off its centre, its corner blank."""
    size = 200
    y, x = np.mgrid[:size, :size]
    data = np.random.default_rng(number).normal(10, 1, (size, size))
    data += 500 * np.exp(-((x - 60)**2 + (y - 140)**2) / 40)
    data[:8, :8] = np.nan
    centre = SkyCoord(CENTRE[0], CENTRE[1] + 0.1 * number, unit='deg')
    header = _astrometry(data.shape, centre, [[-0.00025, 0], [0, 0.00025]])
    return fits.PrimaryHDU(data.astype(np.float32), header)


def _publish_real(folder):
    """The files of the archive whose first HDU is an image of at most five degrees of the sky."""
    from astroclip_search.images.render import render

    with tarfile.open(REAL_FILES) as archive:
        for member in archive:
            if not member.name.endswith(('.fits', '.fits.bz2')):
                continue
            content = archive.extractfile(member).read()
            if member.name.endswith('.bz2'):
                content = bz2.decompress(content)
            with fits.open(io.BytesIO(content)) as hdus, warnings.catch_warnings():
                warnings.simplefilter('ignore')  # headers of forty years
                header, data = hdus[0].header, hdus[0].data
                wcs = WCS(header) if header['NAXIS'] == 2 else None
                if wcs is None or not wcs.has_celestial:
                    continue
                # Written anew: DaCHS does not understand the astrometry of Schmidt plates.
                x, y = (data.shape[1] - 1) / 2, (data.shape[0] - 1) / 2
                here, right, up = wcs.pixel_to_world([x, x + 1, x], [y, y, y + 1]).icrs
                steps = [[offset.deg for offset in here.spherical_offsets_to(there)]
                         for there in (right, up)]
            if np.abs(steps).max() * max(data.shape) < 5:
                name = Path(member.name).name.partition('.fits')[0]
                hdu = fits.PrimaryHDU(data, _astrometry(data.shape, here, np.transpose(steps)))
                _write(folder, name, 'plain', 'REAL', hdu, render(content))


def _astrometry(shape, centre, cd):
    """Header of a tangential projection about the centre; the matrix is in degrees a pixel."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ['RA---TAN', 'DEC--TAN']
    wcs.wcs.crval = centre.ra.deg, centre.dec.deg
    wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    wcs.wcs.cd = cd
    return wcs.to_header()


def _write(folder, name, kind, collection, hdu, preview):
    hdu.header.update(CS_NAME=name, CS_TITLE=f'Image {name}', CS_KIND=kind, CS_COLL=collection,
                      CS_PREV=kind == 'lost' or preview is not None)
    hdu.writeto(folder / 'data' / f'{name}.fits')
    if preview is not None:
        preview.save(folder / 'previews' / f'{name}.jpg', quality=90)
