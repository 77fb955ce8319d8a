# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Image towers of CLIP: ours beside the libraries that a user would pick, on the same weights.

Two things are timed: JPEG previews -> embeddings, and the model alone on pixels that are ready.
On a CPU it is ViT-B/32 in float32, int8 and bfloat16; with ``--device cuda``, ViT-B/16 and
ViT-L/14 in half precision. Each peer's embeddings are compared with those of the transformers
library on the same files.
"""

import functools
import statistics
from collections.abc import Callable

import numpy as np

from . import peers
from .checkpoint import Checkpoint
from .comparison import Comparison, Skipped, interleave, seconds, setting
from .graphs import layers
from .hardware import card_rate
from .images import previews
from .peers import Peer, installed

__all__ = ['Towers', 'compare_towers']

CPU = (peers.Transformers, peers.OpenClip, peers.OpenClipCompiled, peers.OpenClipBf16,
       peers.SentenceTransformers, peers.FastEmbed, peers.Runtime, peers.RuntimeInt8,
       peers.OpenVino, peers.OpenVinoBf16, peers.OpenVinoInt8,
       peers.Ours, peers.OursLean, peers.OursInt8)
CUDA = (peers.TransformersHalf, peers.OpenClipBf16, peers.OpenClipCompiledHalf, peers.OursHalf)

BATCH = {'cpu': 8, 'cuda': 64}
PREVIEWS = 1024  # px, as those of HST and JWST
THUMBNAILS = 256

# What must hold on two cores without a GPU: (measure, peer) -> times as fast as torch.
FLOORS = {('previews', 'OursInt8'): 5, ('batch', 'OursInt8'): 5, ('batch', 'OursLean'): 1.1}


class Towers:
    """
    For airspeed velocity: every peer, in batches of 1 and 8.
    """

    timeout = 600
    params = ([kind.__name__ for kind in CPU], [1, 8])
    param_names = ('peer', 'batch')

    def setup(self, peer, batch):
        try:
            self.peer = getattr(peers, peer)(Checkpoint(), setting.threads)
            self.contents = previews(batch, PREVIEWS)
            self.encode()
        except Skipped as reason:
            raise NotImplementedError from reason  # how a benchmark says that it does not apply
        try:
            self.prepared = self.peer.prepare(self.contents)
        except NotImplementedError:
            self.prepared = None

    def encode(self):
        return self.peer.encode(self.contents)

    def time_previews(self, *_):
        self.encode()

    def time_model(self, *_):
        if self.prepared is not None:
            self.peer.embed(self.prepared)


def compare_towers(repeats: int) -> list[Comparison]:
    """Measure all peers that are installed, in turn."""
    if setting.device == 'cuda':
        return [*_compare('ViT-B/16', CUDA, repeats), *_compare('ViT-L/14', CUDA, repeats)]
    return _compare('ViT-B/32', CPU, repeats)


def _compare(name: str, kinds: tuple[type[Peer], ...], repeats: int) -> list[Comparison]:
    checkpoint = Checkpoint(name)
    ready, skipped = installed(kinds, checkpoint, setting.threads, setting.device)
    batch = BATCH[setting.device]
    files = {size: previews(batch, size) for size in (PREVIEWS, THUMBNAILS)}
    agree = _agreement(ready, files[PREVIEWS])
    where = f'{name}, {setting}'
    found = []
    for measure, size in (('previews', PREVIEWS), ('thumbnails', THUMBNAILS)):
        actions = {peer: functools.partial(peer.encode, files[size]) for peer in ready}
        found += _beside_first(f'{batch} JPEG {measure} of {size} px to embeddings, {where}',
                               measure, actions, repeats)
    for count in (1, batch):
        actions = {}
        for peer in ready:
            try:
                prepared = peer.prepare(files[PREVIEWS][:count])
            except NotImplementedError:
                continue  # has no such thing as a model alone
            actions[peer] = functools.partial(peer.embed, prepared)
        found += _beside_first(f'model alone, batch {count}, {where}',
                               'batch' if count == batch else 'one', actions, repeats)
    found[0].notes = [*agree, *skipped]
    if setting.device == 'cuda':
        found[-1].notes = _shares(checkpoint, batch, found[-len(actions) + 1:])
    return found


def _shares(files: Checkpoint, batch: int, alone: list[Comparison]) -> list[str]:
    """
    Say how near the model alone comes to the matrix products of the card.
    """
    size = files.architecture.size
    image = np.zeros((1, size, size, 3), np.uint8)
    flops = sum(layer.flops for layer in layers(files.lean / 'onnx' / 'vision_model.onnx',
                                                {'pixel_values': image}))
    rate = card_rate()
    times = {alone[0].peer: alone[0].theirs, **{one.name: one.ours for one in alone}}
    return [f'{flops / 1e9:.1f} GFLOP an image',
            f'products in half precision on this card: {rate / 1e12:.0f} TFLOP/s',
            *(f'{name}: {batch / statistics.median(values):.0f} images/s, '
              f'{100 * batch * flops / statistics.median(values) / rate:.0f} % of that'
              for name, values in times.items())]


def _beside_first(title: str, measure: str, actions: dict[Peer, Callable],
                  repeats: int) -> list[Comparison]:
    """
    Compare all with the first, each call repeated until it can be timed.
    """
    times = {}
    for peer, action in actions.items():
        action()  # compiles, and fills what is reused
        times[peer] = max(1, round(0.2 / seconds(action)))

    def measured(peer):
        return seconds(lambda: [actions[peer]() for _ in range(times[peer])]) / times[peer]

    values = interleave({peer: functools.partial(measured, peer) for peer in actions}, repeats,
                        warm=0)
    first = next(iter(actions))
    floors = FLOORS if setting.device == 'cpu' else {}
    return [Comparison(peer.name, values[peer], first.name, values[first], group=title,
                       floor=floors.get((measure, type(peer).__name__), 0))
            for peer in actions if peer is not first]


def _agreement(ready: list[Peer], contents: list[bytes]) -> list[str]:
    """
    Say how near the embeddings of each are to those of the first.
    """
    vectors = {}
    for peer in ready:
        vector = np.asarray(peer.encode(contents), np.float32)
        vectors[peer.name] = vector / np.linalg.norm(vector, axis=1, keepdims=True)
    first = next(iter(vectors))
    return [f'least cosine with {first}: ' + ', '.join(
        f'{name} {(vector * vectors[first]).sum(axis=1).min():.4f}'
        for name, vector in vectors.items() if name != first)]
