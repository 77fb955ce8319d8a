# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Bitmaps are shown as they were meant, blank ones are no images, and everything else is told by name.

TIFF has its own tests in ``test_tiff.py``.
"""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, features

from astroclip_search.exceptions import ImageError
from astroclip_search.images import bitmaps
from astroclip_search.images.preprocess import Preprocessing, sides
from astroclip_search.images.render import render
from astroclip_search.images.stretch import grey
from tests.pictures import brightest, gradient, refused, saved, sky

# In the order of the numbers of EXIF, from 2.
TURNS = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180,
         Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_90,
         Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_270)


def png(array, *, bits=None, kind=None, more=()):
    """
    A PNG file of an array (ny, nx) or (ny, nx, n), also of such as Pillow does not write.
    """
    def chunk(name, content):
        return (struct.pack('>I', len(content)) + name + content
                + struct.pack('>I', zlib.crc32(name + content)))

    array = np.asarray(array)
    n = array.shape[2] if array.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[n] if kind is None else kind
    bits = bits or 8 * array.dtype.itemsize
    if bits < 8:
        digits = np.unpackbits(array.astype('u1')[..., None], axis=-1)[..., 8 - bits:]
        rows = np.packbits(digits.reshape(len(array), -1), axis=-1)
    else:
        rows = array.astype(array.dtype.newbyteorder('>'))
    content = b''.join(b'\0' + row.tobytes() for row in rows)
    header = struct.pack('>IIBBBBB', array.shape[1], array.shape[0], bits, kind, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
            + b''.join(chunk(*each) for each in more)
            + chunk(b'IDAT', zlib.compress(content)) + chunk(b'IEND', b''))


def ramp(size=(30, 30), colour=(255, 120, 0)):
    """
    A picture of one hue.
    """
    levels = np.linspace(0.2, 1, size[0])[:, None] * np.asarray(colour)
    return Image.fromarray(np.tile(levels.round().astype('u1'), (size[1], 1, 1)))


# ---- formats and modes -------------------------------------------------------------------


@pytest.mark.parametrize(('form', 'mode', 'options'), [
    ('JPEG', 'RGB', {}), ('JPEG', 'L', {}), ('JPEG', 'CMYK', {}),
    ('JPEG', 'RGB', {'progressive': True}), ('PNG', 'RGB', {}), ('PNG', 'L', {}), ('PNG', 'P', {}),
    ('PNG', '1', {}), ('PNG', 'RGBA', {}), ('PNG', 'LA', {}), ('GIF', 'P', {}),
    ('TIFF', 'RGB', {}), ('TIFF', 'RGB', {'compression': 'tiff_lzw'}), ('WEBP', 'RGB', {}),
    ('TIFF', 'CMYK', {}), ('BMP', 'RGB', {}), ('BMP', 'P', {}), ('BMP', '1', {}),
    ('PPM', 'RGB', {}), ('PPM', 'L', {}), ('PPM', '1', {}), ('JPEG2000', 'RGB', {}),
    ('JPEG2000', 'L', {}), ('JPEG2000', 'RGBA', {}), ('JPEG2000', 'LA', {}),
    ('JPEG2000', 'RGB', {'no_jp2': True})])
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


def has_avif():
    try:
        from PIL import AvifImagePlugin
    except ImportError:
        return False
    return AvifImagePlugin.SUPPORTED


@pytest.mark.skipif(not has_avif(), reason='this Pillow has no AVIF')
def test_avif():
    image = render(saved(gradient(), 'AVIF'))
    assert np.abs(np.asarray(image, float) - np.asarray(gradient(), float)).mean() < 6


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


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_a_level_that_is_transparent(bits):
    levels = np.tile(np.arange(16) % (1 << bits), (16, 1))
    for level in range(1 << min(bits, 3)):
        expected = levels * 255 // ((1 << bits) - 1)
        expected[levels == level] = 0
        data = png(levels.astype('u1'), bits=bits, more=[(b'tRNS', struct.pack('>H', level))])
        if expected.any():
            np.testing.assert_array_equal(np.asarray(render(data))[..., 0], expected)
        else:
            refused(data, 'the image is blank', 'NO_IMAGE')


def test_a_colour_of_sixteen_bits_that_is_transparent():
    colours = np.zeros((40, 40, 3), 'u2')
    colours[:20] = 60_000, 30_000, 384
    colours[20:] = 384, 60_000, 384
    for row, colour in ((0, colours[0, 0]), (39, colours[39, 0])):
        data = png(colours, more=[(b'tRNS', struct.pack('>HHH', *map(int, colour)))])
        image = np.asarray(render(data))
        assert image[row].max() == 0
        assert image[39 - row].max() == 234


# ---- numbers -----------------------------------------------------------------------------


def test_deep_images_are_stretched_and_not_turned_over():
    array = np.flipud(sky() * 20).astype(np.uint16)
    for form in ('PNG', 'TIFF', 'JPEG2000'):
        assert brightest(render(saved(Image.fromarray(array), form))) == (20, 14)
    assert brightest(render(b'P5 80 60 65535\n' + array.astype('>u2').tobytes())) == (20, 14)
    assert brightest(render(saved(Image.fromarray(np.flipud(sky())), 'TIFF'))) == (20, 14)


def test_sixteen_bits_of_a_png():
    numbers = np.flipud(sky()).astype('u2')  # all of them in the lower ten bits
    expected = np.asarray(grey(numbers.astype('f8'), flip=False))
    np.testing.assert_array_equal(render(png(numbers)), expected)
    opaque = np.full((60, 80), 65535, 'u2')
    opaque[30:50, 40:70] = 0
    expected = np.asarray(grey(np.where(opaque, numbers, np.nan), flip=False))
    assert expected[30:50, 40:70].max() == 0
    np.testing.assert_array_equal(render(png(np.stack([numbers, opaque], axis=-1))), expected)
    hole = png(np.where(opaque, numbers, 7), more=[(b'tRNS', struct.pack('>H', 7))])
    np.testing.assert_array_equal(render(hole), expected)


def test_sixteen_bits_of_colours_are_levels_if_they_fill_them():
    levels = np.asarray(gradient())
    np.testing.assert_array_equal(render(png(levels * np.uint16(257))), levels)
    opaque = np.full((60, 80, 1), 65535, 'u2')
    opaque[:30] = 0
    image = np.asarray(render(png(np.concatenate([levels * np.uint16(257), opaque], axis=-1))))
    assert image[:30].max() == 0
    np.testing.assert_array_equal(image[30:], levels[30:])


@pytest.mark.parametrize('alpha', [False, True])
def test_colours_of_a_detector_are_stretched(alpha):
    plane = np.flipud(sky())
    bands = [plane, plane * 2, plane + 50]
    if alpha:
        opaque = np.full((60, 80), 65535)
        opaque[30:50, 40:70] = 0
        bands.append(opaque)
    image = np.asarray(render(png(np.stack(bands, axis=-1).astype('u2'))))
    assert brightest(Image.fromarray(image)) == (20, 14)
    assert 0 < np.median(image) < 120
    assert (image[30:50, 40:70].max() == 0) == alpha


# ---- frames ------------------------------------------------------------------------------


@pytest.mark.parametrize('form', ['GIF', 'PNG', 'WEBP'])
def test_the_first_frame_of_an_animation_that_shows_something(form):
    frames = [ramp(), ramp(colour=(0, 120, 255))]
    blank = [Image.new('RGB', (30, 30), level) for level in ('black', 'white')]
    for more in ([], blank[:1], blank):
        first, *others = more + frames
        image = render(saved(first, form, save_all=True, append_images=others))
        assert np.abs(np.asarray(image, float) - np.asarray(ramp(), float)).mean() < 9
    refused(saved(blank[0], form, save_all=True, append_images=blank[1:]), 'the image is blank',
            'NO_IMAGE')


# ---- size --------------------------------------------------------------------------------


def test_large_jpegs_are_decoded_at_low_resolution():
    image = render(saved(gradient(size=(1600, 1200)), 'JPEG'), side=200)
    assert image.size == (400, 300)
    finer = render(saved(gradient(size=(1600, 1200)), 'JPEG'), side=400, bitmap_side=200)
    assert finer.size == (400, 300)


@pytest.mark.parametrize(('edge', 'expected'), [(None, (448, 252)), (256, (512, 288))])
def test_bitmaps_are_read_a_little_finer_than_the_model_sees(edge, expected):
    assert sides(Preprocessing((224, 224), edge, 3, (0,) * 3, (1,) * 3)) == expected


def jpeg_header(width, height):
    return (b'\xff\xd8\xff\xc0\x00\x11\x08' + struct.pack('>HH', height, width)
            + b'\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00\xff\xda\x00\x0c\x03' + bytes(20))


def png_header(width, height):
    data = png(np.zeros((9, 9, 3), 'u1'))
    header = struct.pack('>II', width, height) + data[24:29]
    return data[:16] + header + struct.pack('>I', zlib.crc32(b'IHDR' + header)) + data[33:]


def jpeg_2000_header(width, height):
    data = saved(gradient(), 'JPEG2000', no_jp2=True)
    return data[:8] + struct.pack('>4I', width, height, 0, 0) + data[24:]


def ppm_header(width, height):
    return b'P6 %d %d 255\n' % (width, height) + bytes(100)


@pytest.mark.parametrize('header', [jpeg_header, png_header, jpeg_2000_header, ppm_header])
def test_a_huge_image_is_a_status_and_takes_no_memory(header):
    n = 60_000 if header is jpeg_2000_header else 20_000
    tracemalloc.start()
    refused(header(n, n), fr'image of {n} x {n} pixels is larger than 50000000 \(conf')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'GIF', 'TIFF', 'WEBP', 'JPEG2000', 'BMP', 'PPM'])
def test_a_bitmap_that_was_cut(form):
    data = saved(gradient(), form)
    refused(data[:len(data) // 2], 'damaged image')
    refused(data[:30], 'damaged image|neither a FITS file nor')


# ---- JPEG 2000 ---------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(512, 512), (513, 300), (77, 640), (601, 599), (1023, 1025)])
@pytest.mark.parametrize('mode', ['RGB', 'L', 'I;16'])
def test_jpeg_2000_at_any_resolution(size, mode):
    x, y = np.meshgrid(np.linspace(0, 6, size[0]), np.linspace(0, 9, size[1]))
    wave = 127 + 60 * np.sin(x) + 60 * np.cos(y)
    if mode == 'I;16':
        original = Image.fromarray((wave * 100).astype('u2'))
        expected = grey(wave, flip=False)
    else:
        original = expected = Image.fromarray(wave.astype('u1')).convert(mode)
    several = [{'num_resolutions': 6}, {'num_resolutions': 1}]
    if mode != 'I;16':  # Pillow mixes up the tiles that it writes
        several.append({'tile_size': (128, 128)})
    for options in several:
        data = saved(original, 'JPEG2000', **options)
        for side in (500, 100, 40):
            image = render(data, side=side)
            assert min(side, *size) - 1 <= min(image.size) < 8 * side
            same = np.asarray(expected.convert('L').resize(image.size, Image.Resampling.BOX))
            seen = np.asarray(image.convert('L'))
            assert np.corrcoef(seen.ravel(), same.ravel())[0, 1] > 0.98


def test_jpeg_2000_may_be_larger_where_less_of_it_is_decoded():
    data = saved(gradient(size=(1024, 768)), 'JPEG2000', num_resolutions=6)
    assert render(data, side=90, max_pixels=1024 * 768 // 8).size == (128, 96)
    refused(data, 'image of 1024 x 768 pixels is larger', side=90, max_pixels=1024 * 768 // 20)
    refused(data, 'image of 1024 x 768 pixels is larger', side=500, max_pixels=1024 * 768 // 8)


def test_blocks_of_jpeg_2000_that_would_take_much_memory():
    data = bytearray(jpeg_2000_header(7000, 7000))
    at = data.index(b'\xff\x52')
    data[at + 10:at + 12] = 0, 0  # of four by four pixels
    refused(bytes(data), r'damaged image \(\d+ blocks\)')
    for n in (4, 20, 44, at + 8):
        refused(bytes(data[:n]), 'damaged image')


# ---- cameras -----------------------------------------------------------------------------


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP'])
def test_photographs_are_upright(orientation, form):
    upright = gradient()
    stored = upright if orientation == 1 else upright.transpose(TURNS[orientation - 2])
    exif = Image.Exif()
    exif[0x0112] = orientation
    for source in (saved(stored, form, exif=exif, quality=95),
                   Image.open(io.BytesIO(saved(stored, form, exif=exif, quality=95)))):
        image = render(source)
        assert image.size == (80, 60)
        assert np.abs(np.asarray(image, float) - np.asarray(upright, float)).mean() < 6


@pytest.mark.parametrize('exif', [b'Exif\0\0', b'Exif\0\0MM\0*\0\0\0\x08\0\x01', b'nonsense'])
def test_damaged_metadata_do_not_matter(exif):
    assert render(saved(gradient(), 'PNG', exif=exif)).size == (80, 60)


# ---- blank ones --------------------------------------------------------------------------


@pytest.mark.parametrize('colour', ['black', 'white', (128, 128, 128), (200, 30, 90)])
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'GIF', 'TIFF', 'WEBP', 'BMP', 'JPEG2000'])
def test_an_image_of_one_colour_is_blank(colour, form):
    for size in ((1, 1), (60, 40), (1200, 700)):
        refused(saved(Image.new('RGB', size, colour), form), 'the image is blank', 'NO_IMAGE',
                side=300)


def test_an_image_of_one_colour_is_blank_in_every_mode():
    for source in (saved(Image.new('RGBA', (60, 40), (0, 0, 0, 0)), 'PNG'),
                   saved(Image.new('RGBA', (60, 40), (90, 90, 90, 0)), 'PNG'),
                   saved(Image.new('LA', (60, 40), (255, 0)), 'PNG'),
                   saved(Image.new('1', (60, 40), 1), 'PNG'),
                   saved(Image.new('P', (60, 40), 3), 'GIF'),
                   saved(Image.new('CMYK', (60, 40), (9, 9, 9, 9)), 'TIFF'),
                   Image.new('RGB', (60, 40), 'red'), np.zeros((40, 60, 3), 'u1'),
                   np.full((40, 60, 3), 0.5)):
        refused(source, 'the image is blank', 'NO_IMAGE')
    refused(png(np.full((9, 9), 700, 'u2')), 'all pixels have the same value', 'NO_IMAGE')


def test_black_drawn_in_transparency_alone_is_blank():
    array = np.zeros((40, 40, 4), 'u1')
    array[..., 3] = np.arange(40) * 6
    refused(saved(Image.fromarray(array), 'PNG'), 'the image is blank', 'NO_IMAGE')


@pytest.mark.parametrize('level', [0, 1, 90, 254, 255])
@pytest.mark.parametrize('size', [64, 256, 1500])
def test_what_compression_leaves_of_one_colour_is_blank(level, size):
    random = np.random.default_rng(level)
    n = -(-size // 8)
    for noise in (random.integers(-1, 2, (n, n, 3)), random.integers(-2, 3, (n, n, 1))):
        blocks = np.clip(level + noise + [0, 0, 0], 0, 255).astype('u1')
        image = Image.fromarray(np.repeat(np.repeat(blocks, 8, 0), 8, 1)[:size, :size])
        refused(saved(image, 'JPEG', quality=95), 'the image is blank', 'NO_IMAGE')
        refused(saved(image, 'PNG'), 'the image is blank', 'NO_IMAGE', side=100)


@pytest.mark.parametrize('form', ['PNG', 'JPEG', 'GIF', 'WEBP'])
@pytest.mark.parametrize('size', [256, 1600])
def test_faint_stars_on_black_are_a_picture(form, size):
    """Also where the means of blocks have lost them."""
    image = Image.new('L', (size, size))
    for x, y in ((0.2, 0.3), (0.7, 0.6), (0.5, 0.9)):
        image.paste(40, (int(x * size), int(y * size), int(x * size) + 2, int(y * size) + 2))
    assert render(saved(image.convert('RGB'), form), side=200).mode == 'RGB'


@pytest.mark.parametrize('form', ['PNG', 'JPEG'])
def test_a_deep_field_that_is_nearly_black_is_a_picture(form):
    random = np.random.default_rng(0)
    field = random.normal(1, 0.7, (400, 400))
    rows, columns = np.mgrid[:400, :400]
    for x, y in random.integers(10, 390, (60, 2)):
        field += 8 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 4)
    image = Image.fromarray(np.clip(field.round(), 0, 255).astype('u1'))
    assert render(saved(image, form)).getextrema()[0][1] >= 6


# ---- everything else ---------------------------------------------------------------------


@pytest.mark.parametrize('data', [
    b'<!DOCTYPE html><html>', b'\n  <HTML><head>', b'<?xml version="1.0"?><VOTABLE/>',
    b'{"message": "not found"}', b'<!-- down --><html><svg/></html>'])
def test_pages_and_messages_are_told(data, tmp_path):
    (tmp_path / 'download.fits').write_bytes(data)
    for source in (data, tmp_path / 'download.fits'):
        refused(source, '^a web page or a message instead of an image')


@pytest.mark.parametrize(('data', 'name'), [
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'SVG'),
    (b'<?xml version="1.0"?>\n<!-- Inkscape -->\n<svg>', 'SVG'),
    (b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "a" "b"><svg>', 'SVG'), (b'%PDF-1.7', 'PDF'),
    (b'%!PS-Adobe-3.0 EPSF', 'PostScript'), (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'HEIC'),
    (b'\0\0\0\x0cJXL \r\n\x87\n', 'JPEG XL'), (b'\xff\x0a' + bytes(9), 'JPEG XL'),
    (b'8BPS\0\1', 'Photoshop'), (b'\x76\x2f\x31\x01\2\0\0\0', 'OpenEXR'), (b'XISF0100', 'XISF'),
    (b'PDS_VERSION_ID = PDS3', 'PDS'), (b'LBLSIZE=1024', 'VICAR'),
    (b'\0\0\0\x18ftypcrx \0\0\0\1crx isom', 'a raw file of a camera'),
    (b'P3\n9 9\n255\n1 2 3', 'plain text'), (b'\0\0\0\x18ftypisom\0\0\2\0isomavc1', 'a video')])
def test_images_of_other_formats_are_named(data, name):
    refused(data, f'^{name}.* is not read: convert the image to PNG, TIFF or FITS$|^PBM, PGM or '
            f'PPM in {name} is not read')


def test_a_format_that_this_pillow_cannot_read(monkeypatch):
    data = saved(gradient(), 'WEBP')
    monkeypatch.setattr(bitmaps, '_FORMATS', [])
    assert features.check('webp')
    refused(data, 'WebP is not read: convert the image')


@pytest.mark.parametrize('data', [
    b'\x00' * 50, b'text', b'RIFF' + bytes(40), b'BM, a list\n1, 2\n',
    b'P5,1\nP6,2\n'])
def test_content_that_is_no_image(data):
    refused(data, 'neither a FITS file nor a JPEG, PNG, TIFF or other known image')


@pytest.mark.parametrize('data', [b'\xff\xd8\xff', b'BM' + bytes(100), b'GIF89a', b'P6 \n'])
def test_the_beginning_of_an_image(data):
    refused(data, 'damaged image')


def test_a_reason_says_what_to_do():
    with pytest.raises(ImageError) as caught:
        render(b'%PDF-1.7')
    assert caught.value.because.code == 'other_format'
