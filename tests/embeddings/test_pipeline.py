# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The stages overlap, and whatever happens, finished work is kept and one bad image costs one row.
"""

import dataclasses
import functools
import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from astroclip_search import ClipSearch
from astroclip_search.embeddings import pipeline as pipeline_module
from astroclip_search.embeddings.cache import Cache
from astroclip_search.embeddings.pipeline import Pipeline
from astroclip_search.embeddings.progress import Progress
from astroclip_search.exceptions import EncoderError, ImageError
from astroclip_search.images import preprocess
from astroclip_search.images.http import Fetcher, Limits
from astroclip_search.images.refs import image_key
from tests.colours import ColourEncoder, shaded
from tests.loopback import until
from tests.loopback.archive import Archive
from tests.loopback.mast import Mast


def png(colour, side=16):
    stream = io.BytesIO()
    Image.fromarray(shaded(colour, (side, side))).save(stream, 'PNG')
    return stream.getvalue()


COLOURS = {f'mast:T/{i}.png': (i * 8, 255 - i * 8, 40) for i in range(30)}
SOURCES = list(COLOURS)


@pytest.fixture
def server():
    with Mast(Archive([{}], {source: png(colour) for source, colour in COLOURS.items()})) as mast:
        yield mast


@pytest.fixture
def pipeline(server, tmp_path):
    made = []

    def make(*, encoder=None, limits=None, path=None, **options):
        cache = Cache(path or tmp_path / f'{len(made)}.sqlite')
        fetcher = Fetcher(limits or Limits(),
                          trusted=[server.url.removeprefix('http://')])
        made.append((cache, fetcher))
        return Pipeline(encoder or ColourEncoder(), cache, fetcher,
                        lambda source: f'{server.url}/api/v0.1/Download/file?uri={source}',
                        **{'batch_size': 4, **options})

    yield make
    for cache, fetcher in made:
        fetcher.close()
        cache.close()
    until(lambda: not workers())  # else threads are left over


def workers():
    """Those of one pipeline; a model keeps its own."""
    return [thread for thread in threading.enumerate()
            if thread.name.startswith(('astroclip_', 'astroclip-w'))]


def stored(pipeline, sources):
    space = pipeline.cache.space(pipeline.space, map(image_key, sources))
    rows = space.positions(map(image_key, sources))
    return np.where((rows >= 0)[:, None], space.matrix[rows] if len(space) else np.nan, np.nan)


def kept_thumbnails(pipeline, sources):
    return [pipeline.cache.thumbnail(pipeline.thumbnail_key(image_key(source)))
            for source in sources]


def test_every_image_is_embedded_once_and_counted(pipeline, server):
    pipeline = pipeline()
    counted = Progress(len(SOURCES))
    assert pipeline.embed(SOURCES, {}, n_workers=7, progress=counted) == {}
    assert pipeline.encoder.n_images == len(SOURCES)
    assert counted.counts == {'fetched': len(SOURCES), 'embedded': len(SOURCES)}
    assert sorted(server.downloads()) == sorted(SOURCES)
    colours = np.array(list(COLOURS.values())) + 1e-3
    np.testing.assert_allclose(stored(pipeline, SOURCES), colours / np.linalg.norm(
        colours, axis=1, keepdims=True), atol=2e-3)
    assert all(jpeg.startswith(b'\xff\xd8') for jpeg in kept_thumbnails(pipeline, SOURCES))


def test_the_order_of_arrival_does_not_matter(pipeline, server):
    one, other = pipeline(), pipeline(batch_size=7)
    one.embed(SOURCES, {}, n_workers=1)
    server.faults['mast:T/1'] = 'status:503:0*1'  # every third comes later
    other.embed(SOURCES[::-1], {}, n_workers=9)
    np.testing.assert_array_equal(stored(one, SOURCES), stored(other, SOURCES))


def test_what_is_embedded_together_does_not_matter():
    """
    Unlike with a model that takes the range of its numbers from the whole batch.
    """
    encoder = ClipSearch().session.encoder()
    images = np.random.default_rng(0).integers(
        0, 256, (12, *encoder.bundle.preprocessing.size, 3), dtype=np.uint8)
    images[:6] //= 16
    together = encoder.encode_images(images)
    shuffled = np.array([7, 2, 11, 0, 5, 9, 1, 10, 3, 8, 4, 6])
    parts = np.concatenate([encoder.encode_images(images[part])
                            for part in np.split(shuffled, [1, 6])])
    np.testing.assert_allclose(parts, together[shuffled], atol=1e-5)


def test_images_of_every_origin(pipeline, tmp_path, server):
    file = tmp_path / 'a.png'
    file.write_bytes(png((255, 0, 0)))
    array = shaded((0, 255, 0), (20, 20))
    pipeline = pipeline()
    sources = [str(file), 'sha256:array', SOURCES[0], 'sha256:gone', str(tmp_path / 'none.png')]
    failures = pipeline.embed(sources, {'sha256:array': array}, n_workers=3)
    assert {source: because.status for source, because in failures.items()} == {
        'sha256:gone': 'NO_IMAGE', str(tmp_path / 'none.png'): 'ERROR'}
    assert stored(pipeline, sources)[:3].argmax(axis=1).tolist() == [0, 1, 1]


def test_one_bad_image_costs_one_row(pipeline, server):
    server.faults |= {'T/3.png': 'status:404', 'T/5.png': 'status:403', 'T/8.png': 'html',
                      'T/13.png': 'truncated', 'T/21.png': 'empty'}
    pipeline = pipeline()
    failures = pipeline.embed(SOURCES, {}, n_workers=7)
    assert {source: (why.status, why.sentence) for source, why in failures.items()} == {
        'mast:T/3.png': ('ERROR', 'HTTP 404'),
        'mast:T/5.png': ('DENIED', 'HTTP 403: access denied'),
        'mast:T/8.png': ('ERROR', 'a web page or a message instead of an image'),
        'mast:T/13.png': ('ERROR', failures['mast:T/13.png'].sentence),
        'mast:T/21.png': ('ERROR', 'empty file')}
    assert failures['mast:T/13.png'].sentence.startswith('damaged image')
    assert np.isnan(stored(pipeline, SOURCES)).any(axis=1).sum() == 5
    assert pipeline.encoder.n_images == 25


@pytest.mark.parametrize('error', [
    RuntimeError('two\nlines'), MemoryError(), RecursionError('deep'), ValueError('x' * 1000)])
def test_an_unexpected_error_costs_one_row(pipeline, error):
    class Trap:
        @property
        def data(self):
            raise error

    pipeline = pipeline()
    failures = pipeline.embed([*SOURCES[:3], 'sha256:trap'], {'sha256:trap': Trap()}, n_workers=2)
    assert list(failures) == ['sha256:trap']
    assert failures['sha256:trap'].status == 'ERROR'
    assert failures['sha256:trap'].sentence.startswith(type(error).__name__)
    assert '\n' not in failures['sha256:trap'].sentence
    assert len(failures['sha256:trap'].sentence) <= 200
    assert not np.isnan(stored(pipeline, SOURCES[:3])).any()


def test_a_failure_of_the_model_is_raised(pipeline):
    class Broken(ColourEncoder):
        def encode_images(self, pixels):
            raise EncoderError('no memory on the device')

    with pytest.raises(EncoderError, match='no memory'):
        pipeline(encoder=Broken()).embed(SOURCES, {}, n_workers=3)


def test_nothing_to_embed(pipeline):
    assert pipeline().embed([], {}, n_workers=1) == {}


# ---- interruptions -----------------------------------------------------------------------


def test_an_interruption_of_the_model_keeps_the_finished_batches(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_module, '_PATIENCE', 60)  # no smaller batches

    class Interrupted(ColourEncoder):
        def encode_images(self, pixels):
            if self.n_images >= 8:
                raise KeyboardInterrupt
            return super().encode_images(pixels)

    path = tmp_path / 'shared.sqlite'
    first = pipeline(encoder=Interrupted(), path=path)
    with pytest.raises(KeyboardInterrupt):
        first.embed(SOURCES, {}, n_workers=3)
    first.fetcher.close()
    first.cache.close()

    again = pipeline(path=path)
    known = ~np.isnan(stored(again, SOURCES)).any(axis=1)
    assert known.sum() == 8
    assert [jpeg is not None for jpeg in kept_thumbnails(again, SOURCES)] == known.tolist()
    missing = [source for source, is_known in zip(SOURCES, known, strict=True) if not is_known]
    assert again.embed(missing, {}, n_workers=3) == {}
    assert not np.isnan(stored(again, SOURCES)).any()
    assert again.encoder.n_images == 22


def test_an_interruption_of_the_progress_bar_ends_the_workers(pipeline, server):
    """
    Ctrl-C may fall anywhere; hundreds of images must not go on being downloaded behind it.
    """
    interrupted_once = threading.Event()
    for source in SOURCES[1:]:
        server.archive.files[source] = lambda: (interrupted_once.wait(30), png((255, 0, 0)))[1]
    interrupted = pipeline(batch_size=2)

    class Interrupted(Progress):
        def show(self):
            if self.counts:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.embed(SOURCES, {}, n_workers=2, progress=Interrupted(len(SOURCES)))
    interrupted_once.set()
    # The watch over the clocks goes on until the fetcher is closed.
    until(lambda: not [thread for thread in workers() if thread.name != 'astroclip-watch'])
    # One had arrived, and each worker was at another one.
    assert 1 <= len(server.downloads()) <= 3


KILLED = """
import sys, time
from pathlib import Path
from astroclip_search.embeddings import pipeline as module
from astroclip_search.embeddings.cache import Cache
from astroclip_search.images.http import Fetcher, Limits
from tests.colours import ColourEncoder

class Slow(ColourEncoder):
    def encode_images(self, pixels):
        if self.n_images >= 12:
            print('three batches', flush=True)
            time.sleep(600)
        return super().encode_images(pixels)

folder = Path(sys.argv[1])
module._PATIENCE = 60  # no smaller batches
pipeline = module.Pipeline(Slow(), Cache(folder / 'cache.sqlite'), Fetcher(Limits()), str,
                           batch_size=4)
pipeline.embed(sorted(map(str, folder.glob('*.png'))), {}, n_workers=2)
"""


def test_a_process_that_is_killed_loses_no_more_than_the_last_batches(pipeline, tmp_path):
    files = [str(tmp_path / f'{i:02}.png') for i in range(30)]
    for file, colour in zip(files, COLOURS.values(), strict=True):
        Path(file).write_bytes(png(colour))
    with subprocess.Popen([sys.executable, '-c', KILLED, tmp_path], stdout=subprocess.PIPE,
                          cwd=Path(__file__).parents[2], text=True) as process:
        assert process.stdout.readline() == 'three batches\n'
        process.kill()
    pipeline = pipeline(path=tmp_path / 'cache.sqlite')
    known = ~np.isnan(stored(pipeline, files)).any(axis=1)
    assert known.sum() in (8, 12), 'the third was being written'
    assert [jpeg is not None for jpeg in kept_thumbnails(pipeline, files)] == known.tolist()
    pipeline.embed(np.array(files)[~known].tolist(), {}, n_workers=3)
    assert not np.isnan(stored(pipeline, files)).any()


# ---- flow --------------------------------------------------------------------------------


def test_the_number_of_images_in_flight_is_bounded(pipeline, monkeypatch):
    """
    Workers are much faster than the model here: without a bound, all images would pile up.
    """
    prepared = []
    resize = preprocess.resize

    def counted(*args):
        prepared.append(1)
        return resize(*args)

    monkeypatch.setattr(preprocess, 'resize', counted)

    class Slow(ColourEncoder):
        ahead = 0

        def encode_images(self, pixels):
            time.sleep(0.02)
            self.ahead = max(self.ahead, len(prepared) - self.n_images)
            return super().encode_images(pixels)

    encoder = Slow()
    arrays = {f'sha256:{i}': shaded((200, i, 90), (8, 8)) for i in range(120)}
    pipeline(encoder=encoder).embed(list(arrays), arrays, n_workers=3)
    assert encoder.n_images == 120
    assert encoder.ahead <= 3 + 2 * 4 + 4


def test_downloads_go_on_while_the_model_works(pipeline, server):
    """
    End to end takes little more than the slower stage, not the sum.
    """
    server.latency = 0.02
    together = threading.Event()

    def kept_waiting(content):
        until(lambda: together.is_set() or server.max_in_flight >= 4)
        together.set()
        return content

    for source, content in list(server.archive.files.items()):
        server.archive.files[source] = functools.partial(kept_waiting, content)

    class Slow(ColourEncoder):
        n_batches = 0

        def encode_images(self, pixels):
            self.n_batches += 1
            # More images are asked for before the model has done with these.
            embedded = self.n_images + len(pixels)
            until(lambda: len(server.downloads()) > min(embedded + 4, len(SOURCES) - 1))
            return super().encode_images(pixels)

    slow = pipeline(encoder=Slow(), limits=Limits(n_connections=4))
    assert slow.embed(SOURCES, {}, n_workers=6) == {}
    assert slow.encoder.n_batches >= 8
    assert server.max_in_flight == 4


def test_a_batch_does_not_wait_for_a_slow_server(pipeline, server, monkeypatch):
    monkeypatch.setattr(pipeline_module, '_PATIENCE', 0.1)
    begun, sizes = threading.Event(), []
    server.archive.files['mast:T/7.png'] = lambda: (until(begun.is_set), png((255, 0, 0)))[1]

    class Recorded(ColourEncoder):
        def encode_images(self, pixels):
            sizes.append(len(pixels))
            begun.set()
            return super().encode_images(pixels)

    assert pipeline(encoder=Recorded(), batch_size=32).embed(SOURCES[:8], {}, n_workers=8) == {}
    assert len(sizes) > 1
    assert sum(sizes) == 8


def test_a_slow_host_does_not_keep_the_others_waiting(pipeline, server):
    """
    Its rows come first and are more than there are workers.
    """
    arrived = threading.Event()
    dead = dict.fromkeys(SOURCES, lambda: until(arrived.is_set))  # then there is no such file
    with Mast(Archive([{}], dead)) as slow:
        pipeline = pipeline(limits=Limits(n_connections=2), batch_size=4)
        hosts = [slow.url.removeprefix('http://'), server.url.removeprefix('http://')]
        fetcher = Fetcher(pipeline.fetcher.limits, trusted=hosts)
        pipeline = dataclasses.replace(pipeline, fetcher=fetcher, address=lambda source: source)
        path = '/api/v0.1/Download/file?uri='
        there = [f'{slow.url}{path}{source}' for source in SOURCES]
        here = [f'{server.url}{path}{source}' for source in SOURCES]

        class Watched(Progress):
            def count(self, what, n=1):
                super().count(what, n)
                if self.counts['fetched'] == len(here):
                    arrived.set()

        with fetcher:
            failures = pipeline.embed(there + here, {}, n_workers=6,
                                      progress=Watched(len(there + here)))
    assert set(failures) == set(there)
    assert {because.sentence for because in failures.values()} == {'HTTP 404'}


def test_failures_do_not_keep_what_was_downloaded(pipeline, server):
    server.faults[''] = 'endless'
    failures = pipeline(limits=Limits(max_bytes=1_000_000)).embed(SOURCES, {}, n_workers=4)
    assert {because.sentence for because in failures.values()} == {
        'larger than 1000000 bytes (conf.max_bytes)'}
    assert all(type(part) is str for because in failures.values() for part in because)


def test_one_image(pipeline):
    pipeline = pipeline()
    image = pipeline.image(SOURCES[3], {}, 100)
    assert image.getpixel((0, 0)) == COLOURS[SOURCES[3]]
    with pytest.raises(ImageError, match='HTTP 404'):
        pipeline.image('mast:T/none.png', {}, 100)
