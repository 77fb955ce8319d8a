# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Every kind of picture becomes the same RGB image each time, and no file takes the memory.
"""

import bz2
import gzip
import io
import struct
import tarfile
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

from astroclip_search import planes
from astroclip_search.bundle import Preprocessing
from astroclip_search.exceptions import PreviewError
from astroclip_search.pixels import plane, render, resize, thumbnail

SHARED_FITS = Path(__file__).parents[2] / 'shared' / 'data' / 'fits.tar.gz'


def sky(ny=60, nx=80, *, x=20, y=45, seed=0):
    """
    Noise with one bright source at (x, y).
    """
    rows, columns = np.mgrid[:ny, :nx]
    source = 500 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 30)
    return (100 + source + np.random.default_rng(seed).normal(0, 3, (ny, nx))).astype('f4')


def content(hdus):
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream)
    return stream.getvalue()


def brightest(image):
    """
    Column and row, counted from the top.
    """
    grey = np.asarray(image.convert('L'), dtype=float)
    rows, columns = np.nonzero(grey > 0.9 * grey.max())
    return round(columns.mean()), round(rows.mean())


def saved(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def refused(source, match, status='ERROR', **limits):
    with pytest.raises(PreviewError, match=match) as caught:
        render(source, **limits)
    assert caught.value.status == status
    assert '\n' not in caught.value.reason


# ---- FITS --------------------------------------------------------------------------------


def test_a_fits_image_is_shown_with_its_first_row_at_the_bottom():
    image = render(content([fits.PrimaryHDU(sky())]))
    assert image.mode == 'RGB'
    assert image.size == (80, 60)
    assert brightest(image) == (20, 59 - 45)


def test_the_science_extension_is_shown():
    wrong = np.ones((60, 80), 'f4')
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(wrong, name='ERR'), fits.ImageHDU(wrong, name='DQ'),
            fits.ImageHDU(sky(x=60, y=10), name='THUMB'), fits.ImageHDU(sky(), name='SCI')]
    assert brightest(render(content(hdus))) == (20, 14)


@pytest.mark.parametrize('name', ['ERR', 'DQ', 'DQ1', 'WHT', 'VAR_POISSON', 'CON', 'CTX', 'MASK',
                                  'UNCERT', 'STAT'])
def test_maps_of_errors_and_weights_are_no_pictures(name):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(sky(x=60), name=name), fits.ImageHDU(sky())]
    assert brightest(render(content(hdus)))[0] == 20
    refused(content(hdus[:2]), 'no image in the FITS file', 'SKIPPED')


def test_a_name_that_begins_like_one_of_them_is_a_picture():
    render(content([fits.PrimaryHDU(), fits.ImageHDU(sky(), name='CONTINUUM')]))


@pytest.mark.parametrize('lead', [(5,), (1, 3)])
def test_the_middle_plane_of_a_cube(lead):
    cube = np.zeros((*lead, 60, 80), 'f4')
    cube[tuple(n // 2 for n in lead)] = sky()
    assert brightest(render(content([fits.PrimaryHDU(cube)]))) == (20, 14)
    compressed = [fits.PrimaryHDU(), fits.CompImageHDU(cube, quantize_level=0,
                                                       compression_type='GZIP_1')]
    assert brightest(render(content(compressed))) == (20, 14)
    assert brightest(render(fits.HDUList([fits.PrimaryHDU(cube)]))) == (20, 14)
    assert brightest(render(fits.ImageHDU(cube))) == (20, 14)


@pytest.mark.parametrize('compression', ['RICE_1', 'GZIP_2', 'HCOMPRESS_1'])
def test_compressed_images(compression):
    hdu = fits.CompImageHDU(sky().astype('i4'), compression_type=compression,
                            tile_shape=(20, 80) if compression == 'HCOMPRESS_1' else None)
    assert brightest(render(content([fits.PrimaryHDU(), hdu]))) == (20, 14)


@pytest.mark.parametrize('kind', ['u1', 'i2', 'u2', 'i4', 'u4', 'f4', 'f8'])
def test_every_type_of_pixel(kind, tmp_path):
    data = (sky() / 4 if kind == 'u1' else sky()).astype(kind)
    file = tmp_path / 'image.fits'
    file.write_bytes(content([fits.PrimaryHDU(data)]))
    assert brightest(render(file)) == (20, 14)
    # Unsigned integers are stored with an offset; scaling must not turn them over.
    np.testing.assert_array_equal(render(file), render(file.read_bytes()))


def test_blank_integer_pixels_are_no_signal():
    data = sky().astype('i2')
    data[:, 60:] = -32768
    hdu = fits.PrimaryHDU(data)
    hdu.header['BLANK'] = -32768
    image = np.asarray(render(content([hdu])))
    assert image[:, 60:].max() == 0
    assert image[:, :60].max() == 255


def test_a_border_of_nan_is_black_and_does_not_move_the_levels():
    data = np.full((100, 120), np.nan, 'f4')
    data[20:80, 20:100] = sky()
    image = np.asarray(render(content([fits.PrimaryHDU(data)])))
    assert image[:20].max() == 0
    np.testing.assert_array_equal(image[20:80, 20:100], render(content([fits.PrimaryHDU(sky())])))


def test_infinite_and_huge_values_are_left_out():
    data = sky().astype('f8')
    data[0, 0], data[0, 1], data[0, 2] = np.inf, -np.inf, 1e300
    assert brightest(render(content([fits.PrimaryHDU(data)]))) == (20, 14)
    assert render(np.array([[3e38, -3e38] * 8] * 8, 'f4')).size == (16, 8)


@pytest.mark.parametrize(('data', 'match'), [
    (np.full((50, 50), np.nan), 'no finite pixels'), (np.full((50, 50), 7.5), 'the same value'),
    (np.zeros((50, 50), 'i2'), 'the same value')])
def test_images_without_content(data, match):
    refused(content([fits.PrimaryHDU(data)]), match, 'NO_IMAGE')
    refused(data, match, 'NO_IMAGE')


def test_a_few_bright_pixels_are_seen():
    """
    More than 99.7 % of a mostly empty frame has one value.
    """
    data = np.zeros((100, 100), 'f4')
    data[50, 30] = 1
    assert brightest(render(data)) == (30, 49)


def test_a_table_is_no_picture():
    table = fits.BinTableHDU.from_columns([fits.Column('flux', 'E', array=np.arange(100))])
    refused(content([fits.PrimaryHDU(), table]), 'no image in the FITS file', 'SKIPPED')
    refused(content([fits.PrimaryHDU(np.zeros((2, 4000)))]), 'no image', 'SKIPPED')
    refused(content([fits.PrimaryHDU(np.zeros(4000))]), 'no image', 'SKIPPED')


@pytest.mark.parametrize('size', [40, 2879, 2880, 5000])
def test_a_fits_file_that_was_cut(size, tmp_path):
    data = content([fits.PrimaryHDU(sky())])[:size]
    refused(data, 'damaged FITS file')
    (tmp_path / 'cut.fits').write_bytes(data)
    refused(tmp_path / 'cut.fits', 'damaged FITS file')


def test_a_fits_header_of_nonsense():
    data = content([fits.PrimaryHDU(sky())])
    refused(data.replace(b'NAXIS1  =                   80', b'NAXIS1  =           8000000000'),
            'damaged FITS')
    refused(b'SIMPLE  =' + bytes(range(256)) * 30, 'damaged FITS|no image in')


def test_a_header_with_a_fault_that_astropy_warns_about_is_no_reason_to_refuse():
    data = content([fits.PrimaryHDU(sky())])
    assert brightest(render(data.replace(b'EXTEND  =                    T',
                                         b"OBSERVER= 'no end             "))) == (20, 14)


@pytest.mark.parametrize(('compress', 'suffix'), [(gzip.compress, 'gz'), (bz2.compress, 'bz2')])
def test_compressed_files(compress, suffix, tmp_path):
    data = compress(content([fits.PrimaryHDU(sky())]))
    assert brightest(render(data)) == (20, 14)
    (tmp_path / f'a.fits.{suffix}').write_bytes(data)
    assert brightest(render(tmp_path / f'a.fits.{suffix}')) == (20, 14)
    refused(data[:-200], 'damaged compressed file')
    refused(data[:12] + bytes(100), 'damaged compressed file')


@pytest.mark.parametrize('compress', [gzip.compress, bz2.compress])
def test_a_compressed_bomb_is_not_unpacked(compress):
    bomb = compress(b'SIMPLE  =' + bytes(20_000_000))
    tracemalloc.start()
    refused(bomb, r'larger than 1000000 bytes \(conf.max_bytes\)', max_bytes=1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_bomb_of_compressed_tiles_is_not_unpacked():
    hdu = fits.CompImageHDU(np.zeros((2000, 2000), 'i2'), tile_shape=(100, 2000))
    data = content([fits.PrimaryHDU(), hdu])
    assert len(data) < 100_000
    refused(data, '2000 x 2000 pixels is larger than 1000000', max_pixels=1_000_000)
    cube = fits.CompImageHDU(np.zeros((400, 100, 100), 'i2'), tile_shape=(400, 100, 100))
    refused(content([fits.PrimaryHDU(), cube]), 'larger than 1000000', max_pixels=1_000_000)


def test_large_files_are_read_at_low_resolution(tmp_path):
    data = np.tile(sky(400, 400), (5, 5))
    file = tmp_path / 'large.fits'
    file.write_bytes(content([fits.PrimaryHDU(data)]))
    assert render(file, side=500).size == (500, 500)
    assert render(np.tile(sky(10, 5000), (2, 10)), side=100).size[0] < 50_000


@pytest.mark.skipif(not SHARED_FITS.exists(), reason='the development data are not here')
def test_real_fits_images():
    """
    Two dozen instruments: each is a picture, but for tables of spectra, light curves and cutouts.
    """
    outcomes = {}
    with tarfile.open(SHARED_FITS) as members:
        for member in members:
            if member.name.endswith(('.fits', '.fits.bz2')):
                data = members.extractfile(member).read()
                name = Path(member.name).name
                try:
                    outcomes[name] = np.asarray(render(data)).std()
                except PreviewError as error:
                    outcomes[name] = f'{error.status}: {error.reason}'
    pictures = [value for value in outcomes.values() if not isinstance(value, str)]
    assert len(pictures) >= 20
    assert min(pictures) > 5, outcomes  # of 255: something is to be seen
    assert {name for name, value in outcomes.items() if isinstance(value, str)} == {
        'wright_eastmann_2014_tau_ceti.fits', 'kplr010666592-2009131110544_slc.fits',
        'hlsp_tess-data-alerts_tess_phot_00025155310-s01_tess_v1_lc.fits',
        'tess-s0001-4-3_107.27_-70.0_5x5_astrocut.fits'}, outcomes


# ---- bitmaps -----------------------------------------------------------------------------


def gradient(mode='RGB', size=(80, 60)):
    y, x = np.mgrid[:size[1], :size[0]]
    pixels = np.stack([x * 3, y * 4, np.full_like(x, 50)], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


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
    monkeypatch.setattr(planes, '_LARGE', 100_000)  # some wait for each other
    sources = [content([fits.PrimaryHDU(sky(300, 400, seed=i))]) for i in range(2)]
    sources += [saved(gradient(size=(900, 700)), form) for form in ('JPEG', 'PNG', 'GIF')]
    sources += [content([fits.PrimaryHDU(), fits.CompImageHDU(sky(200, 300))])]
    sources += [b'', sources[0][:3000], sources[2][:500]]
    preprocessing = Preprocessing((64, 64), None, 3, (0.5,) * 3, (0.5,) * 3)

    def outcome(source):
        try:
            image = render(source)
            return resize(image, preprocessing).tobytes() + thumbnail(image, 100)
        except PreviewError as error:
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


def test_the_first_of_two_chips_is_shown():
    hdus = [fits.PrimaryHDU()]
    for version in (1, 2):
        hdus += [fits.ImageHDU(sky(x=20 * version), name='SCI', ver=version),
                 fits.ImageHDU(sky(), name='ERR', ver=version)]
    assert brightest(render(content(hdus))) == (20, 14)


def test_three_planes_are_a_cube_and_no_colours():
    data = np.stack([sky(x=10), sky(x=40), sky(x=70)])
    image = render(content([fits.PrimaryHDU(data)]))
    assert brightest(image) == (40, 14)
    assert np.ptp(np.asarray(image, int), axis=-1).max() == 0


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
    with pytest.raises(PreviewError, match='not a FITS image'):
        plane(saved(gradient(), 'PNG'))


@pytest.mark.parametrize('source', [
    sky(), fits.PrimaryHDU(sky()), content([fits.PrimaryHDU(sky())]), sky() * u.Jy])
def test_the_plane_of_a_picture_is_what_is_drawn(source):
    found = plane(source)
    np.testing.assert_array_equal(found.data, sky())
    assert found.wcs() is None or found.wcs().naxis == 2
