# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A picture is the same wherever it is decoded, and a file at which a decoder hangs, crashes or takes
all memory costs its own row.
"""

import io
import logging
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from astroclip_search import conf
from astroclip_search.exceptions import ImageError, UnreadImagesWarning
from astroclip_search.images import apart
from astroclip_search.images.apart import Decoder, Order
from astroclip_search.images.drawing import Drawing
from astroclip_search.images.preprocess import Preprocessing
from astroclip_search.untrusted.workers import Workers
from tests.images import worse
from tests.loopback.archive import Archive
from tests.pictures import content, gradient, saved, sky

MODEL = Preprocessing((24, 32), None, 3, (.5, .5, .5), (.5, .5, .5))
ORDERS = {'pictures': Order((Drawing(40), Drawing(20, plane=0))),
          'model': Order((Drawing(40), Drawing(60)), MODEL, 30),
          'no thumbnail': Order((Drawing(40),), MODEL)}


def placed(seed, x0=0.0):
    """A small FITS image with a place on the sky."""
    header = fits.Header({'CTYPE1': 'RA---TAN', 'CTYPE2': 'DEC--TAN', 'CRVAL1': 10.0 + x0,
                          'CRVAL2': 5.0, 'CRPIX1': 30.0, 'CRPIX2': 20.0, 'CDELT1': -1e-4,
                          'CDELT2': 1e-4})
    return content([fits.PrimaryHDU(sky(seed=seed), header)])


IMAGES = {'FITS': content([fits.PrimaryHDU(sky())]),
          'FITS in tiles': content([fits.PrimaryHDU(), fits.CompImageHDU(sky())]),
          'JPEG': saved(gradient(), 'JPEG'), 'PNG': saved(gradient(), 'PNG'),
          'TIFF': saved(gradient(), 'TIFF'), 'GIF': saved(gradient(), 'GIF')}


@pytest.fixture
def here():
    return Decoder()


@pytest.fixture
def other():
    decoder = Decoder(isolate=True)
    yield decoder
    decoder.close()


def same(one, another):
    np.testing.assert_equal(one.pixels, another.pixels)
    assert one.thumbnail == another.thumbnail
    for left, right in zip(one.pictures, another.pictures, strict=True):
        np.testing.assert_equal(np.asarray(left), np.asarray(right))


@pytest.mark.parametrize('order', ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize('image', IMAGES.values(), ids=IMAGES)
def test_content_path_and_stream_give_the_same(here, other, image, order, tmp_path):
    path = tmp_path / 'image'
    path.write_bytes(image)
    expected = here.draw(image, order)
    assert expected.pictures or expected.pixels.shape == (24, 32, 3)
    same(other.draw(image, order), expected)
    same(other.draw(str(path), order), expected)
    # Of a stream FITS may be read in part, which of so small a one is all.
    same(other.draw(io.BytesIO(image), order), expected)
    with path.open('rb') as stream:
        same(here.draw(stream, order), expected)


@pytest.mark.parametrize('order', ORDERS.values(), ids=ORDERS)
def test_colour_is_the_same(here, other, order):
    bands = [placed(1), placed(2, 3e-4), placed(3)]
    expected, found = (decoder.compose([decoder.plane(band, order) for band in bands], order)
                       for decoder in (here, other))
    same(found, expected)


def test_colour_of_what_is_here_and_there(here, other):
    order = ORDERS['model']
    bands = [placed(1), placed(2), placed(3)]
    planes = [other.plane(bands[0], order), other.plane(bands[1], order, is_foreign=False),
              other.plane(bands[2], order)]
    same(other.compose(planes, order),
         here.compose([here.plane(band, order) for band in bands], order))


def test_objects_in_memory_are_drawn_here(other):
    array = np.ma.MaskedArray(sky(), mask=False)
    same(other.draw(array, ORDERS['pictures'], is_foreign=False),
         Decoder().draw(array, ORDERS['pictures']))


@pytest.mark.parametrize('image', [
    b'', b'<html>', b'%PDF-1.7', IMAGES['PNG'][:60], b'SIMPLE  =',
    content([fits.PrimaryHDU()]), content([fits.PrimaryHDU(np.full((20, 20), np.nan))]),
    '/no/such/file', b'P6 9000 9000 255\n'], ids=lambda image: str(image[:12]))
def test_reasons_are_the_same(here, other, image):
    order = Order((Drawing(40, max_pixels=10**6),), MODEL)
    found = []
    for decoder in (here, other):
        with pytest.raises(ImageError) as error:
            decoder.draw(image, order)
        found.append(error.value.because)
    assert found[0] == found[1]


def test_memory_is_bounded(other, monkeypatch):
    if sys.platform != 'linux':
        pytest.skip('other systems end the worker')
    monkeypatch.setattr(apart, '_LEAST', 0)
    monkeypatch.setattr(apart, '_PER_PIXEL', 8)
    large = saved(Image.new('RGB', (5000, 5000), 'red'), 'PNG')
    with pytest.raises(ImageError) as error:
        other.draw(large, Order((Drawing(40, max_pixels=25_000_000, max_bytes=10**5),)))
    assert error.value.because.code == 'decoding_memory'
    same(other.draw(IMAGES['PNG'], ORDERS['model']), Decoder().draw(IMAGES['PNG'], ORDERS['model']))


@pytest.fixture
def worst(monkeypatch):
    """Workers to whom some files do the worst."""
    workers = Workers('tests.images.worse', 2, room=1)
    monkeypatch.setattr(apart, '_workers', workers)
    yield workers
    workers.close()


WORST = {'hangs.png': (worse.HANGS, 'decoding took longer than 0.4 s (conf.decode_timeout)'),
         'crashes.jpg': (worse.CRASHES, 'damaged image (its decoder crashed)'),
         'greedy.png': (worse.GREEDY, 'of memory')}


def says_so(table):
    assert len(table) == 6
    for name, (_, said) in WORST.items():
        row, = [row for row in table if name in row['clip_source']]
        assert row['clip_status'] == 'ERROR'
        assert said in row['clip_message']
    good = table[table['clip_status'] == 'OK']
    assert len(good) == 3
    assert 'red' in good['clip_source'][0]


@pytest.mark.usefixtures('worst')
def test_rows_of_local_files_fail_alone(search, folder):
    for name, (what, _) in WORST.items():
        (folder / name).write_bytes(what)
    with conf.set_temp('decode_timeout', 0.4), pytest.warns(UnreadImagesWarning):
        table = search.rank(folder, 'red')
    says_so(table)
    # The pictures, too.
    with conf.set_temp('decode_timeout', 0.4):
        shown = search.get_images(table)
        assert sum(image is None for image in shown) == 3
        page = search.gallery(table)._repr_html_()
    assert page.count('its decoder crashed') >= 1


@pytest.mark.usefixtures('worst')
def test_rows_of_an_archive_fail_alone(search, folder, serve):
    files = {f'mast:T/{path.name}': path.read_bytes() for path in folder.iterdir()}
    files |= {f'mast:T/{name}': what for name, (what, _) in WORST.items()}
    serve(Archive([{}], files))
    with conf.set_temp('decode_timeout', 0.4), pytest.warns(UnreadImagesWarning):
        table = search.rank([*files], 'red')
    says_so(table)


@pytest.mark.usefixtures('worst')
def test_an_interruption_does_not_wait_for_a_decoder(search, tmp_path):
    for n in range(3):
        (tmp_path / f'{n}.png').write_bytes(worse.HANGS)

    def interrupt():
        while not apart._workers.job().is_busy and time.monotonic() < start + 1:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    start = time.monotonic()
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        search.rank(tmp_path, 'red', show_progress=False)
    thread.join()
    for name in threading.enumerate():
        if name.name.startswith('astroclip_'):
            name.join(2)
            assert not name.is_alive()
    assert time.monotonic() - start < 5


def test_a_setting_keeps_all_in_this_process(search, folder, monkeypatch):
    def start(*_):
        raise AssertionError

    monkeypatch.setattr(Workers, 'take', start)
    with conf.set_temp('isolate', False):
        assert search.rank(folder, 'red')['clip_source'][0].endswith('red.png')


def test_where_no_process_can_be_started_it_is_said_once(search, folder, monkeypatch, caplog):
    monkeypatch.setattr(apart, '_workers', None)
    monkeypatch.setattr(apart, '_said', set())
    monkeypatch.setattr(sys, 'executable', '')
    with caplog.at_level(logging.WARNING, 'astroclip_search'):
        for phrase in ('red', 'blue'):
            assert search.rank(folder, phrase, cache=False)['clip_source'][0].endswith(
                f'{phrase}.png')
    said, = (record.message for record in caplog.records if 'isolate' in record.message)
    assert said == (
        'Images are decoded in this process, without limits of time and memory, since no other can '
        'be started (there is no Python interpreter to start). conf.isolate = False says that this '
        'is meant.')
