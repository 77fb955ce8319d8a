# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
TIFF files are shown as their tags say, whatever their samples and however these are stored.
"""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from astroclip_search.images import tiff
from astroclip_search.images.render import render
from astroclip_search.images.stretch import grey
from tests.pictures import brightest, gradient, refused, saved, sky

SIZES = {'B': 1, 'H': 2, 'I': 4, 'Q': 8}
TYPES = {'B': 1, 'H': 3, 'I': 4, 'Q': 16}
KINDS = {'u': 1, 'i': 2, 'f': 3}


def differences(part, predictor):
    """
    Bytes of one strip or tile, shape (rows, columns, samples), as a compressor takes them.
    """
    dtype = part.dtype
    if predictor == 2:
        native = part.astype(dtype.newbyteorder('='))
        part = np.diff(native, axis=1, prepend=native[:, :1] * 0).astype(dtype)
    elif predictor == 3:
        n = part.shape[-1]
        rows = part.astype(dtype.newbyteorder('>')).reshape(len(part), -1)
        rows = rows.view(np.uint8).reshape(*rows.shape, -1).swapaxes(1, 2)
        rows = rows.reshape(len(part), -1, n)
        part = np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1]))
    return part.tobytes()


def directory(data, tags, order, big, chain=0):
    """
    Tags (form, numbers) behind the data, with the place of the next ones.
    """
    word, room = ('Q', 8) if big else ('I', 4)
    start = len(data)
    result = struct.pack(order + ('Q' if big else 'H'), len(tags))
    behind, values = start + len(result) + len(tags) * (12 + room if big else 12) + room, b''
    for tag, (form, numbers) in sorted(tags.items()):
        content = struct.pack(f'{order}{len(numbers)}{form}', *numbers)
        if len(content) > room:
            content, values = (struct.pack(order + word, behind + len(values)),
                               values + content + bytes(len(content) % 2))
        result += struct.pack(order + 'HH' + word, tag, TYPES[form], len(numbers))
        result += content.ljust(room, b'\0')
    return data + result + struct.pack(order + word, chain) + values


def written(*images, order='<', big=False, photometric=1, planar=False, tile=None, rows=None,
            packed=False, predictor=1, tags=None):
    """
    A TIFF file with one page for each array (ny, nx) or (ny, nx, n), and more tags for each.
    """
    data = ((b'II' if order == '<' else b'MM') + struct.pack(
        order + ('HHHQ' if big else 'HI'), *((43, 8, 0, 0) if big else (42, 0))))
    link = 8 if big else 4
    for image, more in zip(images, tags if isinstance(tags, list) else [tags] * len(images),
                           strict=True):
        array = image.reshape(*image.shape[:2], -1)
        array = array.astype(array.dtype.newbyteorder(order))
        ny, nx, n = array.shape
        down, across = tile or (rows or ny, nx)
        places, sizes = [], []
        for plane in ([array[..., k:k + 1] for k in range(n)] if planar else [array]):
            if tile:
                plane = np.pad(plane, ((0, -ny % down), (0, -nx % across), (0, 0)))
            for y in range(0, len(plane), down):
                for x in range(0, plane.shape[1], across):
                    part = differences(plane[y:y + down, x:x + across], predictor)
                    part = zlib.compress(part) if packed else part
                    places.append(len(data))
                    sizes.append(len(part))
                    data += part + bytes(len(part) % 2)
        bits = 8 * array.dtype.itemsize
        all_tags = {256: ('I', [nx]), 257: ('I', [ny]), 258: ('H', [bits] * n),
                    259: ('H', [8 if packed else 1]), 262: ('H', [photometric]), 277: ('H', [n]),
                    284: ('H', [2 if planar else 1]), 317: ('H', [predictor]),
                    339: ('H', [KINDS[array.dtype.kind]] * n)}
        word = 'Q' if big else 'I'
        if tile:
            all_tags |= {322: ('I', [across]), 323: ('I', [down]), 324: (word, places),
                         325: (word, sizes)}
        else:
            all_tags |= {273: (word, places), 278: ('I', [down]), 279: (word, sizes)}
        all_tags |= more or {}
        here = len(data)
        data = directory(data, all_tags, order, big)
        data = data[:link] + struct.pack(order + word, here) + data[link + SIZES[word]:]
        link = here + (8 + 20 * len(all_tags) if big else 2 + 12 * len(all_tags))
    return data


DTYPES = st.sampled_from(['u1', 'i1', 'u2', 'i2', 'f2', 'u4', 'i4', 'f4', 'u8', 'i8', 'f8'])


@settings(deadline=None)
@given(dtype=DTYPES, order=st.sampled_from('<>'), big=st.booleans(), colour=st.booleans(),
       planar=st.booleans(), tile=st.sampled_from([None, (16, 32), (48, 16)]),
       rows=st.integers(1, 12), packed=st.booleans(), differ=st.booleans(),
       shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 100))
def test_numbers_come_back_as_they_were_stored(dtype, order, big, colour, planar, tile, rows,
                                               packed, differ, shape, seed):
    random = np.random.default_rng(seed)
    shape = (*shape, 3) if colour else shape
    array = random.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    array = array.view(dtype)[..., 0]
    predictor = (3 if dtype[0] == 'f' else 2) if packed and differ else 1
    data = written(array, order=order, big=big, photometric=2 if colour else 1, planar=planar,
                   tile=tile, rows=rows, packed=packed, predictor=predictor)
    page, = tiff.pages(data)
    page.check(10_000)
    assert page.has_bands
    bands, _ = page.bands(1)
    with np.errstate(invalid='ignore'):  # of signalling NaN
        expected = array.astype('f8')
    if dtype[1] == '8' and dtype[0] in 'iu':
        np.testing.assert_allclose(np.stack(bands, -1).reshape(shape), expected, rtol=1e-15)
    else:
        # Such large ones mark what is no number.
        expected = np.where(np.abs(expected) < 1e30, expected, np.nan)
        found = np.stack(bands, -1).reshape(shape)
        np.testing.assert_array_equal(np.where(np.isnan(expected), np.nan, found), expected)


@pytest.mark.parametrize('dtype', ['u2', 'i2', 'u4', 'i4', 'f2', 'f4', 'f8'])
@pytest.mark.parametrize('order', '<>')
def test_numbers_are_stretched_as_in_fits(dtype, order):
    data = np.flipud(sky()) * (1e6 if dtype == 'u4' else 1)
    data = data.astype(dtype)
    image = render(written(data, order=order))
    np.testing.assert_array_equal(image, grey(data.astype('f8'), flip=False))
    assert brightest(image) == (20, 14)


@pytest.mark.parametrize('dtype', ['u1', 'u2', 'i2', 'f4', 'f8'])
def test_photographic_plates_where_white_is_zero(dtype):
    data = (np.flipud(sky()) / (3 if dtype == 'u1' else 1)).astype(dtype)
    high = 255 if dtype == 'u1' else 1000
    plain, plate = (render(written(array.astype(dtype), photometric=photometric))
                    for array, photometric in ((data, 1), (high - data.astype('f8'), 0)))
    assert brightest(plate) == brightest(plain) == (20, 14)
    np.testing.assert_allclose(np.asarray(plate, float), np.asarray(plain, float), atol=1)


@pytest.mark.parametrize(('dtype', 'white'), [('u1', 255), ('u2', 65535), ('u4', 2**32 - 1),
                                              ('f4', 1), ('f8', 1)])
@pytest.mark.parametrize('planar', [False, True])
@pytest.mark.parametrize('alpha', [None, 0, 1, 2])
def test_colours_that_fill_their_range_are_levels(dtype, white, planar, alpha):
    levels = np.asarray(gradient()).astype('f8')
    expected, more, tags = levels.copy(), [], {}
    if alpha is not None:
        opaque = np.ones((60, 80, 1))
        opaque[:, :20] = 0
        opaque[:, 20:40] = 0.5
        more, tags = [opaque * white], {338: ('H', [alpha])}
        if alpha:
            expected *= opaque
        if alpha == 1:
            levels = expected
    data = np.concatenate([levels / 255 * white, *more], axis=-1)
    if dtype[0] == 'u':
        data = data.round()
    image = np.asarray(render(written(data.astype(dtype), photometric=2, planar=planar, tags=tags)),
                       float)
    np.testing.assert_allclose(image, expected, atol=2)


def test_colours_of_a_detector_are_stretched():
    plane = np.flipud(sky())
    data = np.stack([plane, plane * 2, plane + 50], axis=-1)
    for dtype in ('u2', 'i2', 'f4'):
        image = render(written(data.astype(dtype), photometric=2))
        assert brightest(image) == (20, 14)
        assert np.asarray(image).max() > 250
        assert np.median(np.asarray(image)) < 120


@pytest.mark.parametrize('kind', ['NaN', 'GDAL', 'alpha'])
def test_pixels_without_data_are_black_and_count_for_nothing(kind):
    data = np.flipud(sky()).astype('f4')
    hole = data.copy()
    tags = {}
    if kind == 'NaN':
        hole[30:50, 40:70] = np.nan
    elif kind == 'GDAL':
        hole[30:50, 40:70] = -9999
        tags = {42113: ('B', list(b'-9999\0'))}
    else:
        opaque = np.ones_like(data)
        opaque[30:50, 40:70] = 0
        hole[30:50, 40:70] = 1e6
        hole = np.stack([hole, opaque], axis=-1)
        tags = {338: ('H', [2])}
    data[30:50, 40:70] = np.nan
    image = np.asarray(render(written(hole, tags=tags)))
    assert image[30:50, 40:70].max() == 0
    np.testing.assert_array_equal(image, grey(data.astype('f8'), flip=False))


def test_large_ones_are_averaged():
    data = np.tile([[0.0, 1000.0], [1000.0, 0.0]], (400, 400)) + np.repeat(
        np.repeat(sky(80, 80), 10, axis=0), 10, axis=1)
    image = render(written(data.astype('f4')), side=80)
    expected = grey(sky(80, 80) + 500, flip=False)
    assert image.size == (80, 80)
    np.testing.assert_allclose(np.asarray(image, float), np.asarray(expected, float), atol=2)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('dtype', ['u1', 'u2'])
def test_the_orientation_belongs_to_the_format(orientation, dtype):
    shown = np.flipud(sky())
    stored = {1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1], 5: shown.T,
              6: np.rot90(shown, 1), 7: shown[::-1, ::-1].T, 8: np.rot90(shown, -1)}[orientation]
    stored = np.ascontiguousarray(stored / (3 if dtype == 'u1' else 1)).astype(dtype)
    image = render(written(stored, tags={274: ('H', [orientation])}))
    assert image.size == (80, 60)
    assert brightest(image) == (20, 14)


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('tags', [{254: ('I', [1])}, {254: ('I', [4])}, {255: ('H', [2])}])
def test_small_copies_and_masks_are_not_the_picture(tags, big):
    picture, copy = np.flipud(sky()).astype('u2'), np.arange(600, dtype='u2').reshape(20, 30)
    data = written(copy, picture, copy, big=big, tags=[tags, {}, tags])
    assert [page.size for page in tiff.pages(data)] == [(80, 60)]
    assert brightest(render(data)) == (20, 14)
    assert render(written(copy, tags=tags)).size == (30, 20)  # there is nothing else


def test_the_first_page_with_something_in_it():
    blank, picture = np.full((60, 80), 7, 'u2'), np.flipud(sky()).astype('u2')
    assert brightest(render(written(blank, picture))) == (20, 14)
    refused(written(blank, blank), 'all pixels have the same value', 'NO_IMAGE')
    refused(written(np.full((9, 9), 7, 'u1')), 'the image is blank', 'NO_IMAGE')


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'CMYK', 'YCbCr', 'LAB', 'RGBA', 'LA', 'RGB'])
@pytest.mark.parametrize('compression', [None, 'tiff_lzw', 'tiff_adobe_deflate', 'packbits'])
def test_what_pillow_writes(mode, compression):
    if mode == 'YCbCr' and compression is None:
        pytest.skip('Pillow before 13 does not read what it writes')
    if mode == 'LAB':
        from PIL import ImageCms
        original = ImageCms.profileToProfile(
            gradient(), ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'),
            outputMode='LAB')
        expected = gradient()
    else:
        original = gradient(mode)
        expected = original.convert('RGB')
    image = render(saved(original, 'TIFF', compression=compression))
    difference = np.asarray(image, float) - np.asarray(expected, float)
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize('tags', [
    {262: ('H', [32803])}, {50706: ('B', [1, 4, 0, 0])}, {254: ('I', [1]), 330: ('I', [8])}])
def test_raw_files_of_cameras(tags):
    refused(written(np.ones((9, 9), 'u2'), tags=tags),
            'a raw file of a camera is not read: convert the image to PNG, TIFF or FITS')
    canon = b'II*\0\x10\0\0\0CR\2\0\0\0\0\0'
    refused(directory(canon, {256: ('I', [9])}, '<', False), 'a raw file of a camera')


@pytest.mark.parametrize('tags', [
    {259: ('H', [34712])}, {258: ('H', [10])}, {339: ('H', [6])}, {262: ('H', [32844])}])
def test_kinds_that_are_not_read(tags):
    refused(written(np.ones((9, 9), 'u2'), tags=tags),
            r'TIFF with 1 x \d+ bits per pixel, compression \d+ and photometric interpretation '
            r'\d+ is not read')


@pytest.mark.parametrize(('tags', 'match'), [
    ({256: ('I', [30_000]), 257: ('I', [30_000])}, 'image of 30000 x 30000 pixels is larger'),
    ({322: ('I', [1 << 20]), 323: ('I', [1 << 20]), 324: ('I', [8])}, 'is not read'),
    ({277: ('I', [1 << 31])}, 'is not read'),
    ({278: ('I', [0])}, 'damaged image'),
    ({256: ('I', [0])}, 'damaged image'),
    ({273: ('I', [8] * 5)}, 'damaged image'),
    ({273: ('I', [1 << 31])}, 'damaged image'),
    ({258: ('H', [16] * 70_000)}, r'.')])
def test_tags_that_would_take_much_memory(tags, match):
    data = written(np.ones((9, 9), 'u2'), tags=tags)
    tracemalloc.start()
    with pytest.raises(Exception, match=match) as caught:
        render(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.status in ('ERROR', 'NO_IMAGE')
    assert peak < 10_000_000


@pytest.mark.parametrize('big', [False, True])
def test_directories_that_go_in_circles_or_nowhere(big):
    data = written(np.flipud(sky()), big=big)
    place = 8 if big else 4
    word = '<Q' if big else '<I'
    (start,) = struct.unpack_from(word, data, place)
    n = struct.unpack_from('<Q' if big else '<H', data, start)[0]
    link = start + (8 + 20 * n if big else 2 + 12 * n)
    circle = data[:link] + struct.pack(word, start) + data[link + struct.calcsize(word):]
    assert brightest(render(circle)) == (20, 14)
    nowhere = data[:place] + struct.pack(word, 0) + data[place + struct.calcsize(word):]
    refused(nowhere, 'damaged image')
    for n in (5, 9, 20, len(data) // 2, start + 20):
        refused(data[:n], 'damaged image')


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(list(tiff.STARTS)))
def test_any_bytes_after_the_signature(content, start):
    refused(start + content, r'damaged image|is not read|larger than')


def test_what_a_camera_says_of_its_position():
    for order in '<>':
        assert tiff.exif_orientation(b'Exif\0\0' + directory(
            (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(order + 'I', 8),
            {274: ('H', [6])}, order, False)) == 6
    for nothing in (b'', b'Exif\0\0', b'Exif\0\0II*\0\xff', b'II*\0\x08\0\0\0\x09\0'):
        assert tiff.exif_orientation(nothing) == 1
    exif = Image.Exif()
    exif[0x0112] = 8
    assert tiff.exif_orientation(exif.tobytes()) == 8
