# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What must not become slow, in a few seconds: ``python -m benchmarks --guard``.

Ratios only, of the best of some repeats and of CPU time wherever nothing waits, so that a busy
machine does not matter; and each bound is far from what is usual, and from what it is when the
thing that it guards is gone. It needs neither torch nor a network.
"""

import io
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .comparison import ROOT, Comparison

__all__ = ['compare_guard']


def compare_guard(repeats: int) -> list[Comparison]:
    """Check every ratio."""
    checks = imports, reranking, jpeg, fits, votable, embedding, fetching
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that nothing stands out
        return [check(repeats) for check in checks]


def imports(repeats: int) -> Comparison:
    """Guard that no archive client, model or plot is imported before it is needed."""
    def fresh(statement):
        code = f'from time import process_time as t; s = t(); {statement}; print(t() - s)'
        return float(subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True,
                                    capture_output=True, text=True).stdout)

    # Its names are imported when they are asked for.
    return _best('import ClipSearch', lambda: fresh('from astroclip_search import ClipSearch'),
                 'import astropy.table', lambda: fresh('import astropy.table'), 0.8, repeats)


def reranking(repeats: int) -> Comparison:
    """Guard that ranking embeddings that are there does nothing row by row."""
    from astropy.table import Table

    from astroclip_search import ClipSearch
    from astroclip_search.embeddings.pipeline import image_space
    from astroclip_search.images.refs import image_key

    count = 20_000
    rng = np.random.default_rng(7)
    sources = [f'https://archive.invalid/{i}.jpg' for i in range(count)]
    columns = {f'column_{i}': rng.normal(size=count) for i in range(20)}
    table = Table({'preview': sources, **columns}, masked=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        search = ClipSearch(cache_dir=folder)
        query, = search.encode_text(['spiral galaxy'])
        matrix = rng.normal(size=(count, len(query))).astype(np.float32)
        search.session.cache().put(
            image_space(search.session.encoder()), [image_key(source) for source in sources],
            matrix / np.linalg.norm(matrix, axis=1, keepdims=True))
        search.session.close()

        def rank():
            ranked = search.rank(table, 'spiral galaxy', show_progress=False)
            assert ranked.meta['clip']['n_ranked'] == count

        rank()  # reads the embeddings
        return _best(f'rank {count:,} cached rows again', _cpu(rank),
                     'matrix product, order and two tables',
                     _cpu(lambda: [table[np.argsort(matrix @ query)] for _ in range(2)]),
                     6, repeats)


def jpeg(repeats: int) -> Comparison:
    """Guard that a large preview is decoded at reduced size."""
    from PIL import Image

    from astroclip_search.images import render

    from .images import previews

    content, = previews(1, 1600)
    return _best('a JPEG of 1600 px to pixels', _cpu(lambda: render.render(content, side=192)),
                 'decoding it whole', _cpu(lambda: Image.open(io.BytesIO(content)).load()),
                 0.85, repeats)


def fits(repeats: int) -> Comparison:
    """Guard that a large FITS file is read in one pass."""
    from astropy.io import fits as files

    from astroclip_search.images import render

    data = np.random.default_rng(5).normal(size=(4200, 4200)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'large.fits')
        files.writeto(path, data)
        return _best('a FITS file of 4200 px to pixels',
                     _cpu(lambda: render.render(path, side=192)),
                     'all its pixels in double precision',
                     _cpu(lambda: data.astype(np.float64)), 2, repeats)


def votable(repeats: int) -> Comparison:
    """Guard that the rows of a VOTable are not looked at one by one before they are parsed."""
    from astropy.io import votable as library

    from astroclip_search.untrusted import xml

    from .bench_votable import answer

    content = answer(10_000, 'tabledata')
    return _best('look at a VOTable of 10,000 rows', _cpu(lambda: xml.checked(content)),
                 'parsing it', _cpu(lambda: library.parse(io.BytesIO(content).read)), 0.2, repeats)


def embedding(repeats: int) -> Comparison:
    """Guard that little is added to what ONNX Runtime takes."""
    import onnxruntime

    from astroclip_search.models.bundle import open_bundle
    from astroclip_search.models.encoder import open_encoder

    bundle = open_bundle('default')
    encoder = open_encoder(bundle, device='cpu', n_threads=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(bundle.onnx_file('vision', 'cpu')), options,
                                           providers=['CPUExecutionProvider'])
    squares = np.random.default_rng(6).integers(0, 256, (16, *bundle.preprocessing.size, 3),
                                                np.uint8)
    feed = {session.get_inputs()[0].name:
            np.ascontiguousarray(squares.transpose(0, 3, 1, 2), dtype=np.float32)}
    return _best('embed 16 images', _cpu(lambda: encoder.encode_images(squares)),
                 'the session alone', _cpu(lambda: session.run(None, feed)), 1.6, repeats)


def fetching(repeats: int) -> Comparison:
    """Guard that previews are fetched at once, and that the other stages wait for none."""
    import urllib.request
    from urllib.parse import urlsplit

    from astropy.table import Table

    from astroclip_search import ClipSearch, conf

    from .server import preview_hosts

    count, latency = 20, 0.25
    with preview_hosts(count, n_hosts=1, size=64, latency=latency) as urls:
        table = Table({'preview': urls})
        ClipSearch.encode_text('opens the session')

        def rank():  # by an instance that remembers nothing
            ClipSearch().rank(table, 'spiral galaxy', cache=False, show_progress=False)

        def one_by_one():
            for url in urls:
                with urllib.request.urlopen(url) as answer:
                    answer.read()

        with conf.set_temp('private_hosts', [urlsplit(urls[0]).netloc]):
            return _best(f'rank {count} previews at {1000 * latency:.0f} ms', _wall(rank),
                         'fetching them one by one', _wall(one_by_one), 0.8,
                         min(repeats, 2))


def _best(name: str, ours: Callable[[], float], peer: str, theirs: Callable[[], float],
          bound: float, repeats: int) -> Comparison:
    """
    Compare the best of some repeats, in turn.
    """
    found = [(ours(), theirs()) for _ in range(repeats)]
    return Comparison(name, [min(pair[0] for pair in found)], peer,
                      [min(pair[1] for pair in found)], bound)


def _cpu(action: Callable[[], object]) -> Callable[[], float]:
    return _timed(action, time.process_time)


def _wall(action: Callable[[], object]) -> Callable[[], float]:
    return _timed(action, time.perf_counter)


def _timed(action: Callable[[], object], clock: Callable[[], float]) -> Callable[[], float]:
    def timed():
        started = clock()
        action()
        return clock() - started

    return timed
