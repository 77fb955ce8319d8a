# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Files by their names and by their first bytes.
"""

import gzip
import io

import numpy as np
import pytest
from astropy.io import fits

from astroclip_search.images.formats import is_wanted, kind_of_content, kind_of_name, left_out
from tests.colours import content

PACKED = ['', '.gz', '.bz2', '.xz', '.Z', '.zip', '.fz']


def fits_content():
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.zeros((4, 4), 'f4')).writeto(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize('suffix', ['.fits', '.fit', '.fts', '.FITS', '.FTS'])
@pytest.mark.parametrize('packed', PACKED)
def test_names_of_fits_files(suffix, packed):
    assert kind_of_name(f'/data/m51{suffix}{packed}') == 'fits'
    assert kind_of_name(f'/data/m51{suffix}{packed}'.upper()) == 'fits'


@pytest.mark.parametrize(('name', 'kind'), [
    ('P0123456789M1S001IMAGE_8000.FTZ', 'fits'), ('e.fz', 'fits'), ('c_sk.img.gz', 'fits'),
    ('r0000101.asdf', 'asdf'), ('A.ASDF.GZ', 'asdf'), ('a.JPG', 'bitmap'), ('a.b.tiff', 'bitmap'),
    ('a.png.gz', 'bitmap'), ('c_sk.img', ''), ('notes.txt', ''), ('a.gz', ''), ('a.tar.gz', ''),
    ('fits', ''), ('fits.gz', ''), ('', ''), ('a.', ''), ('a.fits.png.txt', ''), ('afits', ''),
    ('a.fits.png', 'bitmap'), ('a.xfits', '')])
def test_names(name, kind):
    assert kind_of_name(name) == kind


@pytest.mark.parametrize(('head', 'kind'), [
    (fits_content(), 'fits'), (gzip.compress(fits_content(), mtime=0), 'fits'),
    (b'#ASDF 1.0.0\n', 'asdf'),
    (content('red'), 'bitmap'), (gzip.compress(b'text', mtime=0), ''), (b'', ''), (b'text', ''),
    (b'\x1f\x8b', ''), (b'\x1f\x8b damaged', ''), (b'SIMPLE', '')])
def test_first_bytes(head, kind):
    assert kind_of_content(head[:512]) == kind


@pytest.mark.parametrize(('pattern', 'wanted'), [
    ('*.FTZ', True), ('*.dat', True), ('a/**/*.fits.gz', True), ('*/image', True), ('m51*', False),
    ('*.*', False), ('*.fits*', False), ('*', False), ('**', False), ('*.[ft]its', False),
    ('[d].tiff', True), ('a.b/*', False)])
def test_patterns_that_name_a_suffix(pattern, wanted):
    assert is_wanted(pattern) == wanted


@pytest.mark.parametrize(('names', 'said'), [
    (['a.txt'], '1 file was left out: 1 .txt'),
    (['a.log', 'b/c.TXT', 'a.b/d.txt'], '3 files were left out: 2 .txt, 1 .log'),
    (['README', 'run_12.30', 'x.dat.gz'], '3 files were left out: 2 without a suffix, 1 .dat.gz'),
    ([f'a.s{"abcdefgh"[i % 8]}' for i in range(16)],
     '16 files were left out: 2 .sa, 2 .sb, 2 .sc, 2 .sd, 2 .se, 6 others')])
def test_what_is_left_out_is_said(names, said):
    assert left_out(names) == said
