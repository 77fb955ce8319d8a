# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
ASDF files, as of the Roman Space Telescope.
"""

import bz2
import gzip
import hashlib
import io
import itertools
import struct
import sys
import zlib

import numpy as np
import pytest
from astropy.io import fits

from astroclip_search.archives.open import open_results
from astroclip_search.exceptions import ImageError
from astroclip_search.images import roman
from astroclip_search.images.plane import celestial
from astroclip_search.images.render import plane, render

# Corners in the order of gwcs: lower left, upper left, upper right, lower right.
REGION = 'POLYGON ICRS 10.1 20.0 10.1 20.2 9.9 20.2 9.9 20.0'

META = f"""
    meta:
      telescope: ROMAN
      instrument: {{name: WFI, detector: WFI01, optical_element: F158}}
      exposure: {{exposure_time: 107.5, start_time: !time/time-1.2.0 2027-01-01T00:00:00.000}}
      wcsinfo: {{ra_ref: 10.0, dec_ref: 20.1, s_region: '{REGION}'}}
"""


def block(data, compression=b'', flags=0, allocated=None):
    packed = {b'': bytes, b'zlib': zlib.compress, b'bzp2': bz2.compress}.get(
        compression, lambda data: data)(data)
    size = len(packed) if allocated is None else allocated
    return b'\xd3BLK' + struct.pack('>HI4sQQQ16s', 48, flags, compression, size, len(packed),
                                    len(data), hashlib.md5(packed).digest()) + packed


def array(data, source=0, extra=''):
    order = 'big' if data.dtype.byteorder == '>' else 'little'
    return (f'!core/ndarray-1.1.0 {{source: {source}, datatype: {data.dtype.name}, '
            f'byteorder: {order}, shape: {list(data.shape)}{extra}}}')


def content(tree, *blocks):
    head = '#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n'
    return f'{head}--- !core/asdf-1.1.0\n{tree}\n...\n'.encode() + b''.join(blocks)


def scene(ny=40, nx=60):
    """A bright corner at the lower left."""
    data = np.random.default_rng(0).normal(size=(ny, nx)).astype('<f4')
    data[:8, :12] += 50
    return data


def image(data=None, **options):
    data = scene() if data is None else data
    return content(f'roman:\n    data: {array(data)}{META}', block(data.tobytes(), **options))


@pytest.mark.parametrize('options', [{}, {'compression': b'zlib'}, {'compression': b'bzp2'}])
def test_the_image(options, tmp_path):
    data = image(**options)
    (tmp_path / 'a.asdf').write_bytes(data)
    np.testing.assert_array_equal(plane(io.BytesIO(data)).data, scene())
    for source in (data, tmp_path / 'a.asdf', gzip.compress(data)):
        np.testing.assert_array_equal(plane(source).data, scene())
        # The first row is at the bottom, as in FITS.
        assert render(source) == render(scene())
        assert np.asarray(render(source))[-8:, :12].mean() > 200


@pytest.mark.parametrize('dtype', ['<f4', '>f4', '<f8', '>i2', '<u2', '<i4', '|u1', '<f2'])
def test_numbers_of_any_type(dtype):
    data = (scene() * 3 + 20).astype(dtype)
    np.testing.assert_array_equal(plane(image(data)).data, data)


@pytest.mark.parametrize('tree', [
    'data: {array}\nmeta: {{}}', 'other: {{data: {array}, meta: {{}}}}',
    'other: {{data: 3}}\nroman: {{data: {array}}}\nthird: {{data: none}}',
    'roman: !<asdf://stsci.edu/datamodels/roman/tags/wfi_image-1.0.0> {{data: {array}}}',
    'roman: {{data: !unit/quantity-1.2.0 {{unit: DN / s, value: {array}}}}}',
    'roman: {{data: &a {array}, other: *a}}'])
def test_where_the_image_is(tree):
    data = scene()
    assert render(content(tree.format(array=array(data)), block(data.tobytes()))) == render(data)


def test_it_may_lie_in_any_block():
    data = scene()
    first = block(b'1234', allocated=4), block(bytes(20), compression=b'zlib')
    found = content(f'data: {array(data, 2)}', b'\0' * 50, *first, block(data.tobytes()))
    np.testing.assert_array_equal(plane(found).data, data)


def test_a_part_of_an_array():
    data = scene()
    part = array(data[5:, 10:], 0, f', offset: {4 * (5 * 60 + 10)}, strides: [240, 4]')
    np.testing.assert_array_equal(plane(content(f'data: {part}', block(data.tobytes()))).data,
                                  data[5:, 10:])


def test_a_block_without_a_size():
    data = scene()
    found = plane(content(f'data: {array(data)}', block(data.tobytes(), flags=1, allocated=0)))
    np.testing.assert_array_equal(found.data, data)


@pytest.mark.parametrize(('chosen', 'expected'), [
    ('middle', 3), (0, 0), (5, 5), ('sum', None), ('peak', 5)])
def test_a_ramp(chosen, expected):
    ramp = np.stack([(scene() + 10).astype('u2') * (i + 1) for i in range(6)])
    values = ramp.sum(axis=0) if expected is None else ramp[expected]
    np.testing.assert_allclose(plane(image(ramp), plane=chosen).data, values)


def test_a_large_image_is_reduced():
    data = scene(400, 600)
    found = plane(image(data), side=100)
    assert found.step == 4
    expected = data.reshape(100, 4, 150, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(found.data, expected, atol=1e-5)


# ---- what it says of itself --------------------------------------------------------------


def test_the_place_on_the_sky_by_the_corners():
    wcs = plane(image()).wcs()
    # Right ascension grows to the left; declination, upwards.
    for x, y, lon, lat in [(29.5, 19.5, 10, 20.1), (-.5, -.5, 10.1, 20), (59.5, 39.5, 9.9, 20.2)]:
        np.testing.assert_allclose(wcs.all_pix2world(x, y, 0), (lon, lat), atol=3e-4)


def test_what_is_said_of_an_image():
    said = roman.header(io.BytesIO(image()))
    assert said.items() >= {
        'TELESCOP': 'ROMAN', 'INSTRUME': 'WFI', 'DETECTOR': 'WFI01', 'FILTER': 'F158',
        'EXPTIME': 107.5, 'RA': 10, 'DEC': 20.1, 'DATE-OBS': '2027-01-01T00:00:00.000',
        'NAXIS1': 60, 'NAXIS2': 40}.items()
    wcs = celestial(fits.Header(said))
    np.testing.assert_allclose(wcs.all_pix2world(29.5, 19.5, 0), (10, 20.1), atol=1e-4)


def test_the_columns_of_a_folder(tmp_path):
    (tmp_path / 'r0.asdf').write_bytes(image())
    table, _ = open_results(tmp_path)
    row = table[0]
    said = row['facility_name'], row['instrument_name'], row['filters']
    assert said == ('ROMAN', 'WFI', 'F158')
    np.testing.assert_allclose((row['s_ra'], row['s_dec']), (10, 20.1), atol=1e-4)
    np.testing.assert_allclose((row['t_exptime'], row['t_min']), (107.5, 61406))


@pytest.mark.parametrize('region', ['', '?', 'CIRCLE ICRS 1 2 3', 'POLYGON ICRS 1 2 3 4',
                                    'POLYGON ICRS 0 0 90 0 180 0 270 0'])
def test_no_place_on_the_sky(region):
    assert plane(image().replace(REGION.encode(), region.encode())).wcs() is None


def modelled():
    """A gwcs with distortion, which corners alone would not tell."""
    gwcs = pytest.importorskip('gwcs')
    pytest.importorskip('asdf_astropy')
    from astropy import coordinates, units
    from astropy.modeling import models

    scale = .11 / 3600 * 60
    bent = models.Polynomial2D(2, c1_0=1, c2_0=1e-3), models.Polynomial2D(2, c0_1=1, c1_1=1e-3)
    model = ((models.Shift(-29.5) & models.Shift(-19.5)) | models.Mapping((0, 1, 0, 1))
             | (bent[0] & bent[1]) | models.AffineTransformation2D([[-scale, 0], [0, scale]])
             | models.Pix2Sky_TAN() | models.RotateNative2Celestial(10, 20.1, 180))
    detector = gwcs.coordinate_frames.Frame2D(name='detector', unit=(units.pix, units.pix))
    sky = gwcs.coordinate_frames.CelestialFrame(reference_frame=coordinates.ICRS())
    wcs = gwcs.WCS([(detector, model), (sky, None)])
    wcs.bounding_box = (-.5, 59.5), (-.5, 39.5)
    return wcs


@pytest.mark.parametrize('storage', ['internal', 'inline'])
@pytest.mark.parametrize('compression', [None, 'zlib', 'lz4'])
def test_what_asdf_has_written(compression, storage, tmp_path):
    asdf = pytest.importorskip('asdf')
    if compression == 'lz4':
        pytest.importorskip('lz4')
    wcs = modelled()
    file = asdf.AsdfFile({'roman': {'meta': {'wcs': wcs}, 'err': scene(), 'data': scene()}})
    file.set_array_storage(file['roman']['data'], 'internal')
    file.write_to(tmp_path / 'a.asdf', all_array_compression=compression)
    found = plane(tmp_path / 'a.asdf')
    np.testing.assert_array_equal(found.data, scene())
    x, y = np.array([0, 59, 0, 59, 20.]), np.array([0, 0, 39, 39, 30.])
    np.testing.assert_allclose(found.wcs().all_pix2world(x, y, 0), wcs(x, y), atol=1e-7)


# ---- strangers ---------------------------------------------------------------------------


@pytest.mark.parametrize('tree', [
    'data: !core/ndarray-1.1.0 {source: "http://127.0.0.1:9/a", datatype: float32, shape: [4, 4]}',
    'data: !core/ndarray-1.1.0 {source: other.asdf, datatype: float32, shape: [4, 4]}',
    'data: {$ref: "other.asdf#/data"}', 'data: !core/externalarray-1.0.0 {fileuri: a.fits}',
    'data: !!python/object/apply:os.system ["false"]', '{}', '[]', '', 'data: [[1, 2], [3, 4]]',
    'data: !core/ndarray-1.1.0 {source: 0, datatype: [ascii, 3], shape: [4, 4]}',
    'data: !core/ndarray-1.1.0 {source: 0, datatype: float32, shape: [4, 0]}',
    'data: !core/ndarray-1.1.0 {source: 0, datatype: float32, shape: [16]}'])
def test_nothing_but_the_file_itself_is_read(tree):
    with pytest.raises(ImageError) as caught:
        render(content(tree, block(bytes(64))))
    assert caught.value.because.code == 'no_asdf_image'


@pytest.mark.parametrize('data', [
    b'#ASDF 1.0.0\n', content('data: [', block(b'')), content('data: \t@', block(b'')),
    content(f'data: {array(scene())}'), content(f'data: {array(scene())}', block(bytes(100))),
    image()[:-100], image().replace(b'\xd3BLK', b'BLK\xd3'), content('a: ' + '[' * 5000),
    image().replace(b'shape: [40, 60]', b'shape: [40, 6000000000]'),
    image().replace(b'shape: [40, 60]', b'shape: [40, 60], offset: 99999999999999999999'),
    image().replace(b'shape: [40, 60]', b'shape: [40, 60], strides: [-240, 4]'),
    image().replace(b'source: 0', b'source: 7'), image().replace(b'source: 0', b'source: 99999999'),
    image(compression=b'zlib')[:-100], content('\xe9').replace('\xe9'.encode(), b'\xe9')])
def test_damaged_files(data, tmp_path):
    (tmp_path / 'a').write_bytes(data)
    for source in (data, tmp_path / 'a'):
        with pytest.raises(ImageError) as caught:
            render(source)
        assert caught.value.because.code == 'damaged_asdf'


def test_sizes_are_looked_at_before_anything_is_unpacked():
    for compression in (b'zlib', b'bzp2', b'lz4\0'):
        data = image(np.zeros((3000, 3000), '<f4'), compression=compression)
        with pytest.raises(ImageError) as caught:
            render(data, max_pixels=1_000_000)
        assert caught.value.because.code == 'too_many_pixels'
    # A block that holds more than it says.
    small = np.zeros((20, 20), '<f4')
    data = content(f'data: {array(small)}', block(bytes(50_000_000), compression=b'zlib'))
    with pytest.raises(ImageError):
        render(data.replace(struct.pack('>Q', 50_000_000), struct.pack('>Q', 1600)))


def test_compressions_that_are_not_read(monkeypatch):
    with pytest.raises(ImageError, match='packed with zstd, which is not read'):
        render(image(compression=b'zstd'))
    monkeypatch.setitem(sys.modules, 'lz4', None)
    monkeypatch.setitem(sys.modules, 'lz4.block', None)
    with pytest.raises(ImageError, match=r'pip install "astroclip-search\[asdf\]"'):
        render(image(compression=b'lz4\0'))


@pytest.mark.parametrize('wcs', [
    '!<tag:stsci.edu:gwcs/wcs-1.4.0> {steps: {$ref: "http://127.0.0.1:9/a"}}',
    '!<tag:stsci.edu:gwcs/wcs-1.4.0> {steps: !<tag:stsci.edu:asdf/fits/fits-1.1.0> []}',
    '!<tag:stsci.edu:gwcs/wcs-1.4.0> {steps: !core/ndarray-1.1.0 {source: "http://127.0.0.1:9/a"}}',
    '!<tag:stsci.edu:gwcs/wcs-1.4.0> &a {steps: [*a]}',
    '!<tag:stsci.edu:gwcs/wcs-1.4.0> {<<: {a: 1}}',
    ('!<tag:stsci.edu:gwcs/wcs-1.4.0> {a: &a [1, 2], ' + ', '.join(
        f'{name}: &{name} [*{last}, *{last}, *{last}]'
        for last, name in itertools.pairwise('abcdefghijkl')) + '}'),
    '!<tag:stsci.edu:gwcs/wcs-1.4.0> {steps: !!python/object/apply:os.system ["false"]}',
    '!core/asdf-1.1.0 {}', 'text', '!<tag:stsci.edu:gwcs/wcs-1.4.0> {name: a, steps: []}'])
def test_a_place_that_asks_for_more_than_numbers(wcs, monkeypatch):
    asked = []
    if 'name: a' not in wcs:
        monkeypatch.setattr(roman, '_of_gwcs', lambda *args: asked.append(args))
    data = scene()
    found = plane(content(f'data: {array(data)}\nmeta:\n  wcs: {wcs}', block(data.tobytes())))
    np.testing.assert_array_equal(found.data, data)
    assert found.wcs() is None
    assert asked == []
