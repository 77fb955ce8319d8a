"""
Both towers of our own model as ONNX, in the layout that transformers.js and Optimum use.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from export.to_onnx.tracing import export_module, session
from export.training.text import SentenceEncoder, TextTower
from export.training.vision import load_checkpoint, normalise

__all__ = ['as_products', 'export_text', 'export_vision', 'main']

def export_vision(tower, size, path):
    """
    Write the image tower.

    Batch normalisation is folded into the convolutions; the L2 norm is in the graph.

    Parameters
    ----------
    tower : `export.training.vision.ImageTower`
        Trained tower.
    size : int
        Side of its input.
    path : path-like
        File to write: input ``pixel_values`` float32 (n, 3, size, size), output
        ``image_embeds`` float32 (n, d).
    """
    export_module(
        tower.eval(), (torch.zeros(2, 3, size, size),), path,
        inputs={'pixel_values': {0: 'batch'}}, outputs={'image_embeds': {0: 'batch'}},
    )
    model = onnx.load(str(path))
    as_products(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def as_products(graph):
    """
    Make convolutions of pooled images, which have a single pixel, products of matrices.

    ONNX Runtime convolves image by image and so reads all weights for each; a product reads them
    once for a batch. Of the image tower that was a fifth of the time.

    Parameters
    ----------
    graph : `onnx.GraphProto`
        Changed in place.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    pooled = {node.output[0] for node in graph.node if node.op_type == 'GlobalAveragePool'}
    nodes = []
    for node in graph.node:
        if node.op_type != 'Conv' or node.input[0] not in pooled:
            nodes.append(node)
            continue
        weight = tensors[node.input[1]]
        values = numpy_helper.to_array(weight)
        flat, product = f'{node.output[0]}_flat', f'{node.output[0]}_product'
        weight.CopyFrom(numpy_helper.from_array(values.reshape(len(values), -1), weight.name))
        shape = f'{node.output[0]}_shape'
        graph.initializer.append(numpy_helper.from_array(np.array([-1, len(values), 1, 1]), shape))
        nodes += [
            helper.make_node('Flatten', [node.input[0]], [flat]),
            helper.make_node('Gemm', [flat, *node.input[1:]], [product], transB=1),
            helper.make_node('Reshape', [product, shape], list(node.output)),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


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
    got, = session(out / 'onnx' / 'vision_model.onnx').run(None, {'pixel_values': pixels.numpy()})
    print(f'vision_model.onnx: largest difference to torch {np.abs(got - wanted).max():.1e}')
    return 0
