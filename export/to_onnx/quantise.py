"""
Eight-bit towers: a third of the download, nearly the same embeddings.

The text tower multiplies in int8, its embedding table is stored in it. The image
tower keeps float32 arithmetic: only its weights are stored as int8, per output
channel, and ONNX Runtime unfolds them once when the file is opened.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.to_onnx.tracing import session

__all__ = ['main', 'quantise_text', 'quantise_weights', 'quantise_static']

#: Tensors with fewer values stay float32: biases, scales, shapes.
SMALLEST = 1024


def quantise_text(source, target, *, block=64, exact=False):
    """
    Store the weights of the text tower as int8.

    Matrix products become ``MatMulNBits``, with one scale for each block of weights and
    activations quantised row by row as they come. `onnxruntime.quantization.quantize_dynamic`
    would take one range for the activations of a whole batch: a text's embedding would depend on
    its neighbours, and be farther from torch's.

    Parameters
    ----------
    source, target : path-like
        Float32 model to read, quantised model to write.
    block : int, optional
        Weights that share a scale.
    exact : bool, optional
        Keep activations in float32.
    """
    # Imported here: this module of onnxruntime is slow to import.
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    model = onnx.load(str(source))
    _store_table(model.graph)
    # Accuracy level 4: products of int8 with int8, summed in int32; 1: of float32.
    settings = DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=True, bits=8,
                                            accuracy_level=1 if exact else 4)
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it reports each product
    quantiser = MatMulNBitsQuantizer(model, bits=8, algo_config=settings)
    quantiser.process()
    logging.getLogger().setLevel(level)
    quantiser.model.save_model_to_file(str(target), use_external_data_format=False)


def _store_table(graph):
    """
    Store the embedding table as int8 with one scale a row; only looked-up rows are unfolded.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        table = tensors.get(node.input[0]) if node.op_type == 'Gather' else None
        if table is None or table.data_type != onnx.TensorProto.FLOAT or len(table.dims) != 2:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(table)
        scale = np.abs(values).max(axis=1, keepdims=True).clip(1e-12) / 127
        graph.initializer.remove(table)
        graph.initializer.extend([
            numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f'{table.name}_int8'),
            numpy_helper.from_array(scale.astype(np.float32), f'{table.name}_scale'),
        ])
        rows, out = node.input[1], node.output[0]
        nodes += [
            helper.make_node('Gather', [f'{table.name}_int8', rows], [f'{out}_int8']),
            helper.make_node('Gather', [f'{table.name}_scale', rows], [f'{out}_scale']),
            helper.make_node('Cast', [f'{out}_int8'], [f'{out}_cast'], to=onnx.TensorProto.FLOAT),
            helper.make_node('Mul', [f'{out}_cast', f'{out}_scale'], [out]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


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
