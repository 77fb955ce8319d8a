# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Every kind of picture becomes the same RGB image each time, and no file takes the memory.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from PIL import Image

from astroclip_search.exceptions import ImageError
from astroclip_search.images import plane as plane_module
from astroclip_search.images.preprocess import Preprocessing, resize, thumbnail
from astroclip_search.images.render import plane, render
from tests.pictures import brightest, content, gradient, refused, saved, sky


def test_empty_and_absent_files(tmp_path):
    (tmp_path / 'zero.fits').touch()
    refused(b'', 'empty file')
    refused(tmp_path / 'zero.fits', 'empty file')
    refused(tmp_path / 'absent.png', 'cannot read the file .*No such file')
    refused(tmp_path, 'cannot read the file')
    refused('null\0character', 'cannot read the file')


def test_a_large_local_file_is_not_read(tmp_path):
    (tmp_path / 'large.png').write_bytes(bytes(2000))
    refused(tmp_path / 'large.png', r'larger than 1000 bytes \(conf.max_bytes\)', max_bytes=1000)


def test_a_file_without_an_end(tmp_path):
    if not Path('/dev/zero').exists():
        pytest.skip('no such device on this system')
    refused('/dev/zero', 'is a device, and no file')


# ---- objects in memory -------------------------------------------------------------------


def test_objects_of_astropy():
    expected = np.asarray(render(content([fits.PrimaryHDU(sky())])))
    for source in (sky(), sky() * u.Jy, fits.PrimaryHDU(sky()), NDData(sky()),
                   CCDData(sky(), unit='adu', uncertainty=StdDevUncertainty(sky())),
                   fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(sky(), name='SCI')])):
        np.testing.assert_array_equal(render(source), expected)


def test_masked_pixels_are_left_out():
    data = sky()
    data[:, 60:] = 1e4
    mask = np.zeros(data.shape, bool)
    mask[:, 60:] = True
    for source in (np.ma.MaskedArray(data, mask), NDData(data, mask=mask),
                   np.ma.MaskedArray(data.astype('i4'), mask)):
        image = np.asarray(render(source))
        assert image.shape == (60, 60, 3)
        assert brightest(Image.fromarray(image)) == (20, 14)


def test_arrays_of_colours_keep_their_rows():
    array = np.asarray(gradient())
    np.testing.assert_array_equal(render(array), array)
    np.testing.assert_array_equal(render(array / 255), array)
    np.testing.assert_array_equal(render(array[::-1, ::2]), array[::-1, ::2])
    with_hole = array / 255
    with_hole[0, 0] = np.nan
    assert np.asarray(render(with_hole))[0, 0].tolist() == [0, 0, 0]


def test_a_mask_of_truth_values_is_a_picture():
    assert brightest(render(sky() > 300)) == (20, 14)


@pytest.mark.parametrize('source', [
    np.full((9, 9, 3), 300.0), np.full((9, 9, 3), -1.0), np.full((9, 9, 3), np.nan),
    np.zeros((0, 0)), np.zeros((0, 0, 3), np.uint8), np.zeros(9), np.zeros((2, 2, 2, 2)),
    np.zeros((9, 9), complex), np.array([['a']]), fits.PrimaryHDU(), 17, None, object()])
def test_what_is_no_picture(source):
    refused(source, '.', 'NO_IMAGE')


def test_images_of_pillow():
    assert render(gradient('RGBA')).mode == 'RGB'
    assert np.asarray(render(Image.fromarray(sky()))).max() == 255


# ---- what follows ------------------------------------------------------------------------


def test_the_same_bytes_give_the_same_pixels_in_any_thread(monkeypatch):
    monkeypatch.setattr(plane_module, '_LARGE', 100_000)  # some wait for each other
    sources = [content([fits.PrimaryHDU(sky(300, 400, seed=i))]) for i in range(2)]
    sources += [saved(gradient(size=(900, 700)), form) for form in ('JPEG', 'PNG', 'GIF')]
    sources += [content([fits.PrimaryHDU(), fits.CompImageHDU(sky(200, 300))])]
    sources += [b'', sources[0][:3000], sources[2][:500]]
    preprocessing = Preprocessing((64, 64), None, 3, (0.5,) * 3, (0.5,) * 3)

    def outcome(source):
        try:
            image = render(source)
            return resize(image, preprocessing).tobytes() + thumbnail(image, 100)
        except ImageError as error:
            return error.reason

    expected = [outcome(source) for source in sources]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            assert list(threads.map(outcome, sources)) == expected


@pytest.mark.parametrize('size', [(1, 1), (1, 5000), (5000, 1), (3, 2)])
@pytest.mark.parametrize('short', [None, 32])
def test_any_shape_fits_the_model(size, short):
    preprocessing = Preprocessing((32, 32), short, 3, (0.5,) * 3, (0.5,) * 3)
    image = gradient(size=size)
    assert resize(image, preprocessing).shape == (32, 32, 3)
    assert max(Image.open(io.BytesIO(thumbnail(image, 20))).size) <= 20


def test_a_thumbnail_is_a_small_jpeg_and_leaves_the_image_alone():
    image = gradient(size=(400, 200))
    small = Image.open(io.BytesIO(thumbnail(image, 100)))
    assert (small.format, small.size, image.size) == ('JPEG', (100, 50), (400, 200))


def test_a_bitmap_has_no_plane():
    with pytest.raises(ImageError, match='not a FITS image'):
        plane(saved(gradient(), 'PNG'))


@pytest.mark.parametrize('source', [
    sky(), fits.PrimaryHDU(sky()), content([fits.PrimaryHDU(sky())]), sky() * u.Jy])
def test_the_plane_of_a_picture_is_what_is_drawn(source):
    found = plane(source)
    np.testing.assert_array_equal(found.data, sky())
    assert found.wcs() is None or found.wcs().naxis == 2
