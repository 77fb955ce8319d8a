"""
Eight-bit towers: a third of the download, nearly the same embeddings.

The text tower is quantised dynamically, embedding table included. The image
tower keeps float32 arithmetic: only its weights are stored as int8, per output
channel, and ONNX Runtime unfolds them once when the file is opened.
"""

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.to_onnx import session

__all__ = ['main', 'quantise_text', 'quantise_weights', 'quantise_static']

#: Tensors with fewer values stay float32: biases, scales, shapes.
SMALLEST = 1024


def quantise_text(source, target):
    """
    Quantise the text tower dynamically.

    Weights of matrix products and the embedding table become int8, per output
    channel; activations are quantised as they come. The learned text map, last
    in the graph and small, stays float32.

    Parameters
    ----------
    source, target : path-like
        Float32 model to read, quantised model to write.
    """
    # Imported here: this module of onnxruntime is slow to import.
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(source))
    products = [node.name for node in model.graph.node if node.op_type == 'MatMul']
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / 'named.onnx'
        onnx.save(model, str(named))
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it recommends a step that changes nothing
        quantize_dynamic(
            str(named), str(target), per_channel=True, weight_type=QuantType.QInt8,
            op_types_to_quantize=['MatMul', 'Gemm', 'Gather'], nodes_to_exclude=products[-1:],
        )
        logging.getLogger().setLevel(level)


def quantise_weights(source, target):
    """
    Store the weights of convolutions and matrix products as int8.

    Each weight becomes ``Cast(int8) * scale`` with one scale per output channel,
    constants that every runtime folds to float32 when it opens the model.

    Parameters
    ----------
    source, target : path-like
        Float32 model to read, quantised model to write.
    """
    model = onnx.load(str(source))
    graph = model.graph
    uses = {node.input[1]: node for node in graph.node if node.op_type in ('Conv', 'Gemm')}
    kept, stored, unfold = [], [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        node = uses.get(tensor.name)
        if node is None or values.size < SMALLEST:
            kept.append(tensor)
            continue
        axis = 0
        if node.op_type == 'Gemm':
            transposed = any(a.name == 'transB' and a.i for a in node.attribute)
            axis = 0 if transposed else 1
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = np.abs(values).max(axis=others, keepdims=True).clip(1e-12) / 127
        whole = np.rint(values / scale).astype(np.int8)
        stored += [numpy_helper.from_array(whole, f'{tensor.name}_int8'),
                   numpy_helper.from_array(scale.astype(np.float32), f'{tensor.name}_scale')]
        unfold += [
            helper.make_node('Cast', [f'{tensor.name}_int8'], [f'{tensor.name}_cast'],
                             to=onnx.TensorProto.FLOAT),
            helper.make_node('Mul', [f'{tensor.name}_cast', f'{tensor.name}_scale'],
                             [tensor.name]),
        ]
    nodes = [*unfold, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept + stored)
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def quantise_static(source, target, pixel_values):
    """
    Quantise weights and activations of the image tower to int8, for comparison.

    Parameters
    ----------
    source, target : path-like
        Float32 model to read, quantised model to write.
    pixel_values : `numpy.ndarray` of float32, shape (n, 3, s, s)
        Images to calibrate the ranges of activations with.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        """Images in batches of eight."""

        def __init__(self):
            self._batches = iter(np.array_split(pixel_values, max(1, len(pixel_values) // 8)))

        def get_next(self):
            """Return the next batch or None."""
            batch = next(self._batches, None)
            return None if batch is None else {'pixel_values': batch}

    quantize_static(
        str(source), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )


def parity(got, wanted):
    """
    Compare two sets of unit vectors.

    Parameters
    ----------
    got, wanted : `numpy.ndarray` of float, shape (n, d)
        Embeddings of the same inputs.

    Returns
    -------
    numbers : dict
        ``mean`` and ``min`` cosine of corresponding rows, and ``neighbours``, the
        mean share of common members among the ten nearest of each row.
    """
    cosine = (got * wanted).sum(1)
    numbers = {'mean': float(cosine.mean()), 'min': float(cosine.min())}
    if len(got) > 20:
        sets = [np.argsort(-(x @ x.T), axis=1)[:, 1:11] for x in (got, wanted)]
        shared = [len(set(a) & set(b)) / 10 for a, b in zip(*sets, strict=True)]
        numbers['neighbours'] = float(np.mean(shared))
    return numbers


def main(arguments):
    """
    Run ``python -m export quantise``.

    Parameters
    ----------
    arguments : list of str
        Command line.
    """
    parser = argparse.ArgumentParser(prog='python -m export quantise',
                                     description='Store the towers in eight bits.')
    parser.add_argument('folder', help='folder with onnx/*_model.onnx, as written by to-onnx')
    options = parser.parse_args(arguments)
    folder = Path(options.folder) / 'onnx'
    quantise_text(folder / 'text_model.onnx', folder / 'text_model_quantized.onnx')
    quantise_weights(folder / 'vision_model.onnx', folder / 'vision_model_quantized.onnx')
    for name in ('text_model', 'vision_model'):
        sizes = [(folder / f'{name}{end}.onnx').stat().st_size / 1e6 for end in ('', '_quantized')]
        session(folder / f'{name}_quantized.onnx')
        print(f'{name}: {sizes[0]:.1f} MB -> {sizes[1]:.1f} MB')
