# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compressed files: the same bytes come out, and never too many.
"""

import bz2
import gzip
import io
import lzma
import time
import tracemalloc
import zipfile
from importlib import resources

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclip_search.exceptions import ImageError
from astroclip_search.images.packed import unpacked
from astroclip_search.images.render import render

LIMIT = 10_000_000


def as_zip(*members, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, data in members:
            # Without the time, which would be in the names of tests.
            archive.writestr(zipfile.ZipInfo(name), data,
                             **{'compress_type': zipfile.ZIP_DEFLATED, **options})
    return buffer.getvalue()


def compress(data, widest=16, *, clears=True, full_codes=700):
    """As the program ``compress`` does it; cleared after so many codes with a full table."""
    content = bytearray((0x1f, 0x9d, widest | 128 * clears))
    width, codes, n_full = 9, [], 0

    def flush(whole):
        number = sum(code << i * width for i, code in enumerate(codes))
        n = -(-len(codes) // 8) * width if whole else -(-len(codes) * width // 8)
        content.extend(number.to_bytes(n, 'little'))
        codes.clear()

    table = {bytes((i,)): i for i in range(256)}
    free, known = 256 + clears, b''
    for i in range(len(data)):
        longer = known + data[i:i + 1]
        if longer in table:
            known = longer
            continue
        codes.append(table[known])
        if free < 1 << widest:
            table[longer] = free
            free += 1
            if free - 1 == 1 << width and width < widest:
                flush(True)
                width += 1
        else:
            n_full += 1
            if clears and n_full == full_codes:
                codes.append(256)
                flush(True)
                width, n_full, free = 9, 0, 257
                table = {bytes((i,)): i for i in range(256)}
        known = data[i:i + 1]
    if known:
        codes.append(table[known])
    flush(False)
    return bytes(content)


def picture():
    data = np.random.default_rng(0).normal(1000, 5, (60, 80)).astype('>i2')
    data[:20, :30] += 300
    buffer = io.BytesIO()
    fits.PrimaryHDU(data).writeto(buffer)
    return buffer.getvalue()


PACKERS = [gzip.compress, bz2.compress, lzma.compress, compress,
           lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
           lambda data: lzma.compress(data[:50]) + lzma.compress(data[50:]),
           # Longer than what is unpacked at once, and zeros between.
           lambda data: b''.join(lzma.compress(data[i:i + 900]) + bytes(4 * (i % 3))
                                 for i in range(0, len(data), 900)),
           lambda data: as_zip(('a/b.fits', data)),
           lambda data: as_zip(('a/', b''), ('__MACOSX/b.fits', b'SIMPLE  ='), ('.x', b'SIMPLE  ='),
                               ('readme.txt', b'text'), ('b.fits.gz', gzip.compress(data)),
                               ('c.fits', b'SIMPLE  = another'))]


@pytest.mark.parametrize('pack', PACKERS)
def test_a_compressed_file_is_the_same_picture(pack, tmp_path):
    data = picture()
    assert unpacked(pack(data), LIMIT) == data
    (tmp_path / 'a.bin').write_bytes(pack(data))
    assert render(tmp_path / 'a.bin') == render(pack(data)) == render(data)


@pytest.mark.parametrize('pack', PACKERS)
def test_the_limit_holds(pack):
    data = picture()
    assert len(unpacked(pack(data), len(data))) == len(data)
    with pytest.raises(ImageError) as caught:
        unpacked(pack(data), len(data) - 1)
    assert caught.value.because.code == 'file_too_large'


@pytest.mark.parametrize('pack', [gzip.compress, bz2.compress, lzma.compress,
                                  lambda data: compress(data[:2_000_000]),
                                  lambda data: as_zip(('a.fits', data))])
def test_a_bomb_is_not_unpacked(pack):
    bomb = pack(b'SIMPLE  =' + bytes(30_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match='larger than 100000 bytes'):
            unpacked(bomb, 100_000)
        assert tracemalloc.get_traced_memory()[1] < 12_000_000  # xz has a window of 8 MB
    finally:
        tracemalloc.stop()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000), st.sampled_from([10, 12, 16]), st.booleans())
def test_compress(data, widest, clears):
    data = b'-' + data  # what is packed within is unpacked too
    assert unpacked(compress(data, widest, clears=clears, full_codes=50), LIMIT) == data


@pytest.mark.parametrize(('widest', 'levels', 'n'), [
    (10, 1, 90_000), (10, 2, 30_000), (10, 255, 9000), (13, 2, 90_000), (13, 30, 30_000),
    (16, 255, 150_000)])
@pytest.mark.parametrize('clears', [True, False])
def test_compress_with_a_full_table(widest, levels, n, clears):
    data = np.random.default_rng(0).integers(0, levels, n).astype('u1').tobytes()
    packed = compress(data, widest, clears=clears)
    assert unpacked(packed, LIMIT) == data
    with pytest.raises(ImageError, match='is larger'):
        unpacked(packed, len(data) - 1)


def test_a_raw_frame_of_astropy():
    folder = resources.files('astropy.io.fits.tests') / 'data'
    if not (folder / 'lzw.fits.Z').is_file():
        pytest.skip('astropy was installed without its tests')
    content = unpacked((folder / 'lzw.fits.Z').read_bytes(), LIMIT)
    with fits.open(io.BytesIO(content)) as hdus:
        assert sum(hdu.size for hdu in hdus) > 0
        assert len(content) % 2880 == 0


@pytest.mark.parametrize('data', [
    b'\x1f\x9d\x90' + b'\xff' * 30, b'\x1f\x9d\x91\x01', b'\x1f\x9d\x89\x01', b'\x1f\x9d\x1f\x01',
    gzip.compress(b'a' * 100, mtime=0)[:-9], bz2.compress(b'a' * 100)[:-9],
    lzma.compress(b'a' * 100)[:-9],
    as_zip(('a.fits', picture()))[:-30],
    b'PK\3\4 and nothing more', b'\xfd7zXZ\0', b'BZh9', b'\x1f\x8b'])
def test_damaged_files(data):
    with pytest.raises(ImageError) as caught:
        unpacked(data, LIMIT)
    assert caught.value.because.code == 'damaged_compressed'


def test_a_table_that_is_cleared_again_and_again_takes_no_time():
    # Eight codes of nine bits, of which the first clears the table.
    storm = b'\x1f\x9d\x90\x61\0\0\0\0\0\0\0\0' + bytes.fromhex('000100000000000000') * 300_000
    began = time.monotonic()
    with pytest.raises(ImageError, match='again and again'):
        unpacked(storm, LIMIT)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(('data', 'said'), [
    (b'\x28\xb5\x2f\xfd 1234', 'packed with zstd, which is not read: unpack it first'),
    (b'7z\xbc\xaf\x27\x1c', 'packed with 7z'), (b'Rar!\x1a\7', 'packed with rar'),
    (gzip.compress(bytes(257) + b'ustar', mtime=0), 'packed with tar'),
    (as_zip(('a.npy', b'\x93NUMPY')), 'the zip archive holds no image'),
    (as_zip(*((f'{i}.txt', b'') for i in range(1100)), ('a.fits', picture())), 'holds no image')])
def test_true_sentences(data, said):
    with pytest.raises(ImageError, match=said):
        unpacked(data, LIMIT)


def test_a_password():
    data = bytearray(as_zip(('a.fits', picture())))
    place = data.rindex(b'PK\1\2') + 8
    data[place] |= 1
    with pytest.raises(ImageError, match='zip and a password'):
        unpacked(bytes(data), LIMIT)


@pytest.mark.parametrize('data', [b'', b'text', b'SIMPLE  =', b'\x1f'])
def test_other_content_is_left_alone(data):
    assert unpacked(data, LIMIT) == data
