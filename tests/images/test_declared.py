# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Sizes that a FITS file declares lead forwards, or the file is refused before a library believes it.
"""

import io
import time

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search.exceptions import ImageError
from astroclip_search.images.declared import check_sizes
from astroclip_search.images.render import render
from tests.pictures import content, sky


def altered(old, new, image=None):
    """A FITS image with a card in another form."""
    image = content([fits.PrimaryHDU(), fits.ImageHDU(sky())]) if image is None else image
    at = image.index(old.encode())
    return image[:at] + new.encode().ljust(80) + image[at + 80:]


@pytest.mark.parametrize(('card', 'said'), [
    ('GCOUNT  =                   -1', 'GCOUNT is -1'), ('gcount  = -1', 'GCOUNT is -1'),
    ('GCOUNT= -1', 'GCOUNT is -1'), (' GCOUNT = -1 / groups', 'GCOUNT is -1'),
    ('HIERARCH GCOUNT = -1', 'GCOUNT is -1'), ('GCOUNT  = 1.5', 'GCOUNT is 1.5'),
    ("GCOUNT  = '1'", "GCOUNT is '1'"), ('GCOUNT  = ' + '9' * 60, 'GCOUNT is 9'),
    ('GCOUNT  = 9007199254740992', 'an extension of'),
    ('NAXIS1  = 81', 'NAXIS1 stands there twice'),
    ('NAXIS   = 3', 'NAXIS stands there twice')])
def test_sizes_that_cannot_be(card, said):
    with pytest.raises(ImageError, match=said) as error:
        render(altered('GCOUNT  =', card))
    assert error.value.because.code == 'damaged_fits'


def test_sizes_that_may_be():
    image = altered('GCOUNT  =', 'GCOUNT  =                    1 / = -1')
    assert render(image, side=60).size == (80, 60)
    assert render(altered('GCOUNT  =', 'GCOUNT  = +1'), side=60).size == (80, 60)


def test_a_header_without_end(tmp_path):
    path = tmp_path / 'a.fits'
    path.write_bytes((b'SIMPLE  =                    T'.ljust(80) + b'COMMENT'.ljust(80) * 35)
                     + b'COMMENT'.ljust(80) * 36 * 5000)
    start = time.process_time()
    with path.open('rb') as stream, pytest.raises(ImageError, match='a header without end'):
        check_sizes(stream)
    assert time.process_time() - start < 5


ARRAYS = st.tuples(st.sampled_from(['u1', 'i2', 'i4', 'i8', 'f4', 'f8']),
                   st.lists(st.integers(1, 5), min_size=1, max_size=4))


@given(st.lists(ARRAYS, max_size=4), st.integers(0, 40))
def test_what_astropy_writes_is_good(arrays, n_cards):
    hdus = [fits.PrimaryHDU()] + [fits.ImageHDU(np.zeros(shape, dtype)) for dtype, shape in arrays]
    hdus += [fits.BinTableHDU.from_columns([
        fits.Column('a', 'PJ()', array=np.array([[1, 2], [3]], dtype=object))])]
    for n in range(n_cards):
        hdus[0].header[f'KEY{n}'] = n
    stream = io.BytesIO(content(hdus))
    check_sizes(stream)
    assert stream.tell() == 0
    # What follows the last extension, or a cut within it, is no matter of sizes.
    for image in (stream.getvalue() + b'more', stream.getvalue()[:-2880]):
        check_sizes(io.BytesIO(image))


def test_random_groups(tmp_path):
    data = fits.GroupData(np.zeros((3, 2, 4), 'f4'), parnames=['a', 'b'], pardata=[[1, 2, 3]] * 2)
    path = tmp_path / 'groups.fits'
    fits.HDUList([fits.GroupsHDU(data), fits.ImageHDU(sky())]).writeto(path)
    with path.open('rb') as stream:
        check_sizes(stream)
