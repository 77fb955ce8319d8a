# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How near the image towers come to what this machine can do.

The limit of a layer is the longer of two times: that of the matrix product of its very shape, by
the fastest library here (a convolution counts as the product that it amounts to; depthwise
convolutions and attention, which are none, as if they ran at the rate of the largest product), and
that of moving what it reads and writes once, at the bandwidth measured for a set of that size.
The limit of a model is the sum over its layers, of each the better of image by image and the whole
batch. Everything between the layers (activations, norms, quantisation, views) counts for nothing,
as if it were done on the way. So the limit is one that no implementation that works layer by layer
in this precision can pass, and hardly one can reach.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from .bench_encode import BATCH, Encode
from .checkpoint import Checkpoint
from .comparison import Comparison, Skipped, seconds, setting
from .graphs import Layer, layers, profile
from .hardware import PRECISIONS, bandwidth, product_seconds

__all__ = ['Roofline', 'compare_roofline', 'limit']

SQUARE = (2048, 2048, 2048)
LARGE, SMALL = 2**30, 2**20  # bytes: far from any cache, and within one


def limit(once: list[Layer], many: list[Layer], batch: int, threads: int,
          precision: str = '') -> list[float]:
    """
    Return the least seconds that each layer can take for one image.

    Parameters
    ----------
    once, many : list of Layer
        Of a run with one image, and with ``batch`` of them.
    batch : int
        Number of images.
    threads : int
        CPU threads.
    precision : str, optional
        Of all products, instead of that which the graph has.
    """
    def least(layer):
        kind = precision or layer.precision
        n_bytes = layer.n_bytes / (2 if kind == 'bf16' else 1)
        if layer.shape:
            took = product_seconds(layer.shape, kind, threads)[0]
        else:
            rate = 2 * np.prod(SQUARE, dtype=float) / product_seconds(SQUARE, kind, threads)[0]
            took = layer.flops / rate
        return max(took, n_bytes / bandwidth(n_bytes, threads))

    return [min(least(one), least(all_) / batch)
            for one, all_ in zip(once, many, strict=True)]


class Roofline:
    """
    For airspeed velocity: the embedded model.
    """

    timeout = 600

    def setup(self):
        self.bench = Encode()
        self.bench.setup()

    def track_per_cent_of_limit(self):
        return 100 * _embedded_limit()[0] / (seconds(self.bench.time_images) / self.bench.images)

    track_per_cent_of_limit.unit = '%'


def compare_roofline(repeats: int) -> list[Comparison]:
    """Measure the machine, the embedded model, and ViT-B/32 where torch can make one."""
    bench = Encode()
    bench.setup()
    # Before the libraries below have started threads, some of which go on waiting busily.
    taken = [seconds(bench.time_images) / bench.images for _ in range(2 * repeats + 1)]
    found = _machine()
    least, notes = _embedded_limit()
    found.append(Comparison(
        f'embedded model, batch {BATCH}', [100 * least / took for took in taken], unit='%',
        floor=60, notes=notes, group=f'Share of the limit, {setting}'))
    try:
        files = Checkpoint()
        for name, folder in (('fp32', files.lean), ('int8', files.lean_int8)):
            found.append(_lean(name, folder, repeats))
    except Skipped as reason:
        found[-1].notes.append(f'not measured: ViT-B/32 {reason}')
    return found


def _machine() -> list[Comparison]:
    """
    Measure matrix products and memory, with one thread and with all.
    """
    found = []
    for threads in sorted({1, setting.threads}):
        where = f'{threads} thread{"s" if threads > 1 else ""}'
        for precision in PRECISIONS:
            took, library = product_seconds(SQUARE, precision, threads)
            if not np.isfinite(took):
                continue  # no library here has it
            rate = 2 * np.prod(SQUARE, dtype=float) / took / 1e9
            found.append(Comparison(f'matrix product of {SQUARE[0]}, {precision}, {where} '
                                    f'({library})', [rate], unit='GFLOP/s', floor=0,
                                    group='This machine'))
        found += [Comparison(f'memory, {size >> 20} MiB, {where}',
                             [bandwidth(size, threads) / 1e9], unit='GB/s', floor=0,
                             group='This machine')
                  for size in (SMALL, LARGE)]
    return found


def _embedded_limit() -> tuple[float, list[str]]:
    """
    Return the least seconds an image of the embedded model, and where the time goes.
    """
    from astroclip_search.models.bundle import open_bundle

    bundle = open_bundle('default')
    path = bundle.onnx_file('vision', 'cpu')
    pixels = np.random.default_rng(4).normal(size=(BATCH, 3, *bundle.preprocessing.size))
    return _limit_of(path, pixels.astype(np.float32), BATCH)


def _lean(name: str, folder: Path, repeats: int) -> Comparison:
    """
    Measure a lean ViT-B/32 beside its limit.
    """
    from astroclip_search.models.bundle import open_bundle
    from astroclip_search.models.encoder import open_encoder

    batch = 8
    bundle = open_bundle(str(folder))
    encoder = open_encoder(bundle, device='cpu', n_threads=setting.threads)
    shape = batch, *bundle.preprocessing.size, 3
    pixels = np.random.default_rng(4).integers(0, 256, shape, np.uint8)
    encoder.encode_images(pixels)
    taken = [seconds(lambda: encoder.encode_images(pixels)) / batch
             for _ in range(2 * repeats + 1)]
    least, notes = _limit_of(bundle.onnx_file('vision', 'cpu'), pixels, batch)
    return Comparison(f'ViT-B/32, lean {name}, batch {batch}',
                      [100 * least / took for took in taken], unit='%', floor=0, notes=notes,
                      group=f'Share of the limit, {setting}')


def _limit_of(path: Path, pixels: np.ndarray, batch: int) -> tuple[float, list[str]]:
    """
    Return the least seconds an image, and lines that say where the time goes.
    """
    threads = setting.threads
    once, many = (layers(path, {'pixel_values': part}) for part in (pixels[:1], pixels))
    least = limit(once, many, batch, threads)
    flops = sum(layer.flops for layer in many) / batch
    n_bytes = sum(layer.n_bytes for layer in many) / batch
    notes = [f'{flops / 1e6:.0f} MFLOP and {n_bytes / 1e6:.1f} MB an image',
             f'limit {1e3 * sum(least):.2f} ms an image, {1 / sum(least):.0f} images/s']
    fp32 = 2 * np.prod(SQUARE, dtype=float) / product_seconds(SQUARE, 'fp32', threads)[0]
    notes.append(f'at the rate of the fp32 product alone: {1e3 * flops / fp32:.2f} ms')
    for precision in PRECISIONS[1:]:
        if np.isfinite(product_seconds(SQUARE, precision, threads)[0]):
            other = sum(limit(once, many, batch, threads, precision))
            notes.append(f'limit with all products in {precision}: {1e3 * other:.2f} ms, '
                         f'{1 / other:.0f} images/s')
    return sum(least), notes + _where(path, pixels, batch, many, least)


def _where(path: Path, pixels: np.ndarray, batch: int, many: list[Layer],
           least: list[float]) -> list[str]:
    """
    Return the times of ONNX Runtime's profiler beside the limits.
    """
    of = {name: number for number, layer in enumerate(many)
          for name in (layer.name, layer.output, f'{layer.output}_nchwc')}
    spent, bound, shares = Counter(), Counter(), {}
    for node, operator, took in profile(path, {'pixel_values': pixels}, setting.threads):
        number = of.get(node)
        kind = f'between layers, {operator}' if number is None else many[number].kind
        spent[kind] += took / batch
        if number is not None:
            bound[kind] += least[number]
            shares[many[number].name] = took / batch, least[number]
    total = sum(spent.values())
    lines = [f'profile, {1e3 * total:.2f} ms an image:   measured      limit']
    lines += [f'  {kind:32} {1e3 * took:8.3f} ms {1e3 * bound[kind]:8.3f} ms'
              for kind, took in spent.most_common() if took > 0.01 * total]
    worst = sorted(shares, key=lambda name: shares[name][1] - shares[name][0])[:5]
    lines.append('layers that lose most:')
    lines += [f'  {name.strip("/"):32} {1e3 * shares[name][0]:8.3f} ms '
              f'{1e3 * shares[name][1]:8.3f} ms' for name in worst]
    return lines
