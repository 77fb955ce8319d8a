# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A colour composite of local files in a table from another session: its folder lets it be read.
"""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from astroclip_search import ClipSearch
from astroclip_search.exceptions import NothingRankedWarning
from tests.colours import ColourEncoder


def band(path, name, level):
    data = np.zeros((64, 64), np.float32)
    data[16:48, 16:48] = level
    header = fits.Header({'FILTER': name, 'OBJECT': 'M 1', 'CTYPE1': 'RA---TAN',
                          'CTYPE2': 'DEC--TAN', 'CRVAL1': 10.0, 'CRVAL2': 5.0, 'CRPIX1': 32.5,
                          'CRPIX2': 32.5, 'CDELT1': -1e-4, 'CDELT2': 1e-4})
    noise = np.random.default_rng(0).normal(0, 0.01, data.shape)
    fits.PrimaryHDU((data + noise).astype('f4'), header).writeto(path / f'{name}.fits')


def test_a_composite_in_a_new_session(tmp_path):
    folder = tmp_path / 'data'
    folder.mkdir()
    for name, level in (('F606W', 1), ('F814W', 1), ('F435W', 1)):
        band(folder, name, level)
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'a')
    ranked = search.rank(folder, 'red', colour=True)
    assert ranked['clip_source'][0].startswith('rgb:')
    ranked.write(tmp_path / 'ranked.ecsv')
    table = Table.read(tmp_path / 'ranked.ecsv')
    other = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'b')
    with pytest.warns(NothingRankedWarning, match='give image_dir'):
        refused = other.rank(table, 'red')
    assert refused['clip_source'].tolist() == ranked['clip_source'].tolist()
    again = other.rank(refused, 'red', image_dir=folder)
    assert set(again['clip_status']) == {'OK'}
    assert again['clip_source'][0].startswith('rgb:')
