"""
Both towers of our own model as ONNX, in the layout that transformers.js and Optimum use.
"""

import argparse
import json
import math
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

from export.to_onnx.tracing import export_module, session
from export.training.text import SentenceEncoder, TextTower
from export.training.vision import load_checkpoint, normalise

__all__ = ['STRIDE', 'Deployed', 'export_text', 'export_vision', 'main']

#: Sides of the images that the tower takes are multiples of this.
STRIDE = 32


class Deployed(torch.nn.Module):
    """
    The image tower as it is shipped: the same embedding by fewer products, and its places.

    The principal components and the two layers behind them become one product. The embedding is a
    sum over places once it is known how the whole picture drives the hidden units:
    ``gelu(x) = x Phi(x)``, so that with ``Phi`` of the pooled value what is left is linear. The
    factor of a clipped feature is that of its pooled value.

    A window is embedded as if it were a picture. Of a small object in a large picture it says more
    than a place does: the picture around does not drive its hidden units.

    Parameters
    ----------
    tower : `export.training.vision.PooledTower`
        Trained tower.
    size : int
        Side of the images that it was trained on, and of the windows.
    """

    def __init__(self, tower, size):
        super().__init__()
        self.tower = tower
        self.cells = size // STRIDE
        layers = torch.cat([tower.linear.weight, tower.inner.weight])
        # Once for the picture and once for its places: one matrix each in the file.
        self.first = torch.nn.Parameter(tower.components @ layers.T)
        self.last = torch.nn.Parameter(tower.outer.weight.T.contiguous())
        self.bias = torch.nn.Parameter(torch.cat([tower.linear.bias, tower.inner.bias]))
        self.sizes = [tower.linear.out_features, tower.inner.out_features]

    def forward(self, pixel_values):
        """
        Embed images, and their places.

        Parameters
        ----------
        pixel_values : `torch.Tensor` of float32, shape (n, 3, h, w)
            Normalised pixels; sides are multiples of `STRIDE`.

        Returns
        -------
        image_embeds : `torch.Tensor` of float32, shape (n, d)
            Unit vectors.
        patch_embeds : `torch.Tensor` of float32, shape (n, h / 32, w / 32, d)
            Vectors whose mean over the places is ``image_embeds``.
        window_embeds : `torch.Tensor` of float32, shape (n, h / 32 - k + 1, w / 32 - k + 1, d)
            Unit vectors of windows of ``size`` pixels, ``k`` steps of 32.
        """
        tower = self.tower
        maps = tower.maps(pixel_values)
        whole = tower.scaled(tower.pool(maps))
        kept = tower.LIMIT / whole.abs().clamp(min=tower.LIMIT)
        linear, inner = (whole * kept @ self.first + self.bias).split(self.sizes, 1)
        gate = 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        vectors = linear + inner * gate @ self.last
        length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)

        standard = tower.scaled(tower.places(maps)) * kept[:, None, None]
        places, driven = (standard @ self.first + self.bias).split(self.sizes, 3)
        places = places + driven * gate[:, None, None] @ self.last

        features = tower.scaled(tower.windows(maps, self.cells))
        alone, driving = (features.clamp(-tower.LIMIT, tower.LIMIT) @ self.first + self.bias).split(
            self.sizes, 3)
        alone = alone + functional.gelu(driving) @ self.last
        windows = alone / torch.linalg.vector_norm(alone, dim=-1, keepdim=True)
        return vectors / length, places / length[:, None, None], windows


def export_vision(tower, size, path):
    """
    Write the image tower.

    Batch normalisation is folded into the convolutions, and so is their padding; the L2 norm is in
    the graph.

    Parameters
    ----------
    tower : `export.training.vision.PooledTower`
        Trained tower.
    size : int
        Side of the images that it was trained on.
    path : path-like
        File to write: input ``pixel_values`` float32 (n, 3, h, w), whose sides are multiples of
        `STRIDE`, ``with_places`` and ``with_windows`` bool (1,), by default false; outputs
        ``image_embeds`` float32 (n, d); where ``with_places``, ``patch_embeds`` float32 (n,
        h / 32, w / 32, d), whose mean over the places is ``image_embeds``, else empty; where
        ``with_windows``, ``window_embeds`` float32 (n, h / 32 - k + 1, w / 32 - k + 1, d) of
        windows of ``size = 32 k`` pixels, which must fit in, else empty.
    """
    with warnings.catch_warnings():
        # The size of the example is not that of all images, as the axes say.
        warnings.simplefilter('ignore')
        export_module(
            Deployed(tower.eval(), size).eval(),
            (torch.zeros(2, 3, size + STRIDE, size + 2 * STRIDE),), path,
            inputs={'pixel_values': {0: 'batch', 2: 'height', 3: 'width'}},
            outputs={'image_embeds': {0: 'batch'},
                     'patch_embeds': {0: 'batch', 1: 'rows', 2: 'columns'},
                     'window_embeds': {0: 'batch', 1: 'down', 2: 'across'}},
        )
    model = onnx.load(str(path))
    _fold_padding(model.graph)
    _on_demand(model.graph, 'patch_embeds', 'with_places')
    _on_demand(model.graph, 'window_embeds', 'with_windows')
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _fold_padding(graph):
    """Let convolutions pad their own inputs; the tracer wrote operators for it."""
    pads = {node.output[0]: node for node in graph.node if node.op_type == 'Pad'}
    for node in graph.node:
        if node.op_type != 'Conv' or node.input[0] not in pads:
            continue
        own = {attribute.name: attribute for attribute in node.attribute}
        total = [kernel - stride for kernel, stride
                 in zip(own['kernel_shape'].ints, own['strides'].ints, strict=True)]
        before = [side // 2 for side in total]
        own['pads'].ints[:] = before + [a - b for a, b in zip(total, before, strict=True)]
        node.input[0] = pads[node.input[0]].input[0]
    _leave_out_unused(graph)


def _needed(graph, outputs):
    """Return the nodes that some values need, in order."""
    needed, found = set(outputs), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            # What a branch reads is not among the inputs of its node.
            needed.update(name for attribute in node.attribute for inner in attribute.g.node
                          for name in inner.input)
            found.append(node)
    return found[::-1]


def _leave_out_unused(graph):
    """Drop the nodes that no output needs."""
    kept = _needed(graph, [output.name for output in graph.output])
    del graph.node[:]
    graph.node.extend(kept)


def _on_demand(graph, output, name):
    """
    Compute an output only where an input, which need not be given, says so; else it is empty.

    ONNX Runtime computes all outputs of a graph, also those that nobody asks for.
    """
    always = _needed(graph, [other.name for other in graph.output if other.name != output])
    known = {id(node) for node in always}
    apart = [node for node in graph.node if id(node) not in known]
    wanted = next(other for other in graph.output if other.name == output)
    last = next(node for node in apart if output in node.output)
    sides = np.array([0] * (len(wanted.type.tensor_type.shape.dim) - 1)
                     + [wanted.type.tensor_type.shape.dim[-1].dim_value])
    last.output[:] = [f'{output}_computed']
    computed, empty = onnx.ValueInfoProto(), onnx.ValueInfoProto()
    computed.CopyFrom(wanted)
    computed.name = last.output[0]
    empty.CopyFrom(wanted)
    empty.name = f'{output}_empty'
    branches = {
        'then_branch': helper.make_graph(apart, 'computed', [], [computed]),
        'else_branch': helper.make_graph(
            [helper.make_node('ConstantOfShape', [f'{output}_sides'], [empty.name])], 'empty', [],
            [empty], [numpy_helper.from_array(sides, f'{output}_sides')]),
    }
    del graph.node[:]
    graph.node.extend([*always, helper.make_node('If', [name], [output], **branches)])
    graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, [1]))
    graph.initializer.append(numpy_helper.from_array(np.array([False]), name))


def export_text(tower, path):
    """
    Write the text tower.

    Parameters
    ----------
    tower : `export.training.text.TextTower`
        Sentence encoder and learned map.
    path : path-like
        File to write: inputs ``input_ids`` and ``attention_mask`` int64 (n, length),
        outputs ``text_embeds`` (n, d) and ``sentence_embeds`` (n, 384), float32.
    """
    ids, mask = tower.sentence_encoder.tokenize(['spiral galaxy', 'a planetary nebula in the sky'])
    axes = {0: 'batch', 1: 'length'}
    export_module(
        tower.eval(), (ids, mask), path,
        inputs={'input_ids': axes, 'attention_mask': axes},
        outputs={'text_embeds': {0: 'batch'}, 'sentence_embeds': {0: 'batch'}},
    )


def main(arguments):
    """
    Run ``python -m export to-onnx``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        Exit status.
    """
    if any(argument.partition('=')[0] == '--from' for argument in arguments):
        from export.to_onnx.hub import main as any_clip

        return any_clip(arguments)
    parser = argparse.ArgumentParser(prog='python -m export to-onnx',
                                     description='Write both towers as ONNX.',
                                     epilog='Any other CLIP: --from <hub id or folder> --help.')
    parser.add_argument('checkpoint', help='checkpoint.pt of a training run')
    parser.add_argument('--out', required=True, help='folder for onnx/*.onnx')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    out = Path(options.out)
    tower, text_map, info = load_checkpoint(options.checkpoint)
    size = info['progress']['size']
    export_vision(tower, size, out / 'onnx' / 'vision_model.onnx')
    text = TextTower(SentenceEncoder(), text_map).eval()
    export_text(text, out / 'onnx' / 'text_model.onnx')
    (out / 'training.json').write_text(json.dumps(info, indent=1), encoding='utf-8')

    squares = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)
    pixels = normalise(torch.from_numpy(squares))
    with torch.no_grad():
        wanted = tower(pixels).numpy()
    got, places, windows = session(out / 'onnx' / 'vision_model.onnx').run(
        None, {'pixel_values': pixels.numpy(), 'with_places': np.array([True]),
               'with_windows': np.array([True])})
    print(f'vision_model.onnx: largest difference to torch {np.abs(got - wanted).max():.1e}, '
          f'of the mean of its places {np.abs(places.mean((1, 2)) - wanted).max():.1e}, '
          f'of its window {np.abs(windows[:, 0, 0] - wanted).max():.1e}')
    return 0
