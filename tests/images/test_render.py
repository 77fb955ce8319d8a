# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Every kind of picture becomes the same RGB image each time, and no file takes the memory.
"""

import io
import struct
import tracemalloc
import zlib
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
from astroclip_search.images.preprocess import Preprocessing, resize, sides, thumbnail
from astroclip_search.images.render import plane, render
from tests.pictures import brightest, content, gradient, refused, saved, sky

# ---- bitmaps -----------------------------------------------------------------------------


@pytest.mark.parametrize(('form', 'mode', 'options'), [
    ('JPEG', 'RGB', {}), ('JPEG', 'L', {}), ('JPEG', 'CMYK', {}),
    ('JPEG', 'RGB', {'progressive': True}), ('PNG', 'RGB', {}), ('PNG', 'L', {}), ('PNG', 'P', {}),
    ('PNG', '1', {}), ('PNG', 'RGBA', {}), ('PNG', 'LA', {}), ('GIF', 'P', {}),
    ('TIFF', 'RGB', {}), ('TIFF', 'RGB', {'compression': 'tiff_lzw'}), ('WEBP', 'RGB', {}),
    ('TIFF', 'CMYK', {})])
def test_bitmaps_of_every_kind(form, mode, options, tmp_path):
    original = gradient(mode)
    data = saved(original, form, **options)
    image = render(data)
    assert image.mode == 'RGB'
    assert image.size == (80, 60)
    difference = np.asarray(image, float) - np.asarray(original.convert('RGB'), float)
    assert np.abs(difference).mean() < 6
    (tmp_path / 'any.name').write_bytes(data)
    np.testing.assert_array_equal(render(str(tmp_path / 'any.name')), image)


def test_transparent_pixels_are_black():
    array = np.full((40, 40, 4), 255, np.uint8)
    array[:, 20:, 3] = 0
    image = np.asarray(render(saved(Image.fromarray(array), 'PNG')))
    assert image[:, :20].min() == 255
    assert image[:, 20:].max() == 0

    palette = Image.new('P', (40, 40), 1)
    palette.putpalette([255, 255, 255, 255, 0, 0])
    palette.paste(0, (20, 0, 40, 40))
    for transparency in (0, b'\x00\xff'):
        image = np.asarray(render(saved(palette, 'PNG', transparency=transparency)))
        assert image[0, 0].tolist() == [255, 0, 0]
        assert image[:, 20:].max() == 0


def test_the_first_frame_of_an_animation():
    frames = [Image.new('RGB', (30, 30), colour) for colour in ('red', 'blue')]
    data = saved(frames[0], 'GIF', save_all=True, append_images=frames[1:])
    assert np.asarray(render(data))[5, 5].tolist() == [255, 0, 0]


def test_deep_images_are_stretched_and_not_turned_over():
    array = np.flipud(sky() * 20).astype(np.uint16)
    for form in ('PNG', 'TIFF'):
        assert brightest(render(saved(Image.fromarray(array), form))) == (20, 14)
    assert brightest(render(saved(Image.fromarray(np.flipud(sky())), 'TIFF'))) == (20, 14)


def test_large_jpegs_are_decoded_at_low_resolution():
    image = render(saved(gradient(size=(1600, 1200)), 'JPEG'), side=200)
    assert image.size == (400, 300)
    finer = render(saved(gradient(size=(1600, 1200)), 'JPEG'), side=400, bitmap_side=200)
    assert finer.size == (400, 300)


@pytest.mark.parametrize(('edge', 'expected'), [(None, (448, 252)), (256, (512, 288))])
def test_bitmaps_are_read_a_little_finer_than_the_model_sees(edge, expected):
    assert sides(Preprocessing((224, 224), edge, 3, (0,) * 3, (1,) * 3)) == expected


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'GIF', 'TIFF', 'WEBP'])
def test_a_bitmap_that_was_cut(form):
    data = saved(gradient(), form)
    refused(data[:len(data) // 2], 'damaged image')
    refused(data[:30], 'damaged image')


def jpeg_header(width, height):
    return (b'\xff\xd8\xff\xc0\x00\x11\x08' + struct.pack('>HH', height, width)
            + b'\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00\xff\xda\x00\x0c\x03' + bytes(20))


def png_header(width, height):
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack(
            '>I', zlib.crc32(kind + data))
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
            + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))


@pytest.mark.parametrize('header', [jpeg_header, png_header])
def test_a_huge_image_is_a_status_and_takes_no_memory(header):
    tracemalloc.start()
    refused(header(20_000, 20_000), r'image of 20000 x 20000 pixels is larger than 50000000 \(conf')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize('data', [
    b'<!DOCTYPE html><html>', b'\n  <HTML><head>', b'<?xml version="1.0"?><VOTABLE/>',
    b'{"message": "not found"}'])
def test_pages_and_messages_are_told(data):
    refused(data, 'the server sent a web page or a message instead of an image')


@pytest.mark.parametrize('data', [
    b'<svg xmlns="http://www.w3.org/2000/svg"/>', b'%PDF-1.7', b'BM' + bytes(100), b'\x00' * 50,
    b'text', b'RIFF' + bytes(40), b'PK\x03\x04' + bytes(40), b'\xff\xd8', b'%!PS-Adobe-3.0 EPSF'])
def test_other_formats_are_refused(data):
    refused(data, 'neither a JPEG, PNG, WebP, TIFF, GIF nor a FITS image|damaged image')


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
    refused('/dev/zero', 'larger than 1000 bytes', max_bytes=1000)


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
        assert image[:, 60:].max() == 0
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


# ---- what is decided, and must not change by accident --------------------------------------


def test_a_camera_that_was_turned_is_not_asked():
    data = np.asarray(gradient())
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turned by 90 degrees
    for form in ('JPEG', 'PNG', 'WEBP'):
        image = render(saved(Image.fromarray(data), form, exif=exif))
        assert image.size == (80, 60)
        assert np.abs(np.asarray(image, float) - data).mean() < 6


def test_the_orientation_of_a_tiff_belongs_to_the_format():
    image = render(saved(gradient(), 'TIFF', tiffinfo={0x0112: 6}))
    assert image.size == (60, 80)


def test_a_bitmap_has_no_plane():
    with pytest.raises(ImageError, match='not a FITS image'):
        plane(saved(gradient(), 'PNG'))


@pytest.mark.parametrize('source', [
    sky(), fits.PrimaryHDU(sky()), content([fits.PrimaryHDU(sky())]), sky() * u.Jy])
def test_the_plane_of_a_picture_is_what_is_drawn(source):
    found = plane(source)
    np.testing.assert_array_equal(found.data, sky())
    assert found.wcs() is None or found.wcs().naxis == 2
