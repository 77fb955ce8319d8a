"""
Eight-bit towers: a third of the download, nearly the same embeddings.

The text tower multiplies in int8, its embedding table is stored in it. So do the convolutions of
the image tower but the first ones; what is behind them keeps float32 arithmetic, with weights
stored as int8 that ONNX Runtime unfolds once when the file is opened.
"""

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from export.data import pairs as real_pairs
from export.to_onnx.lean_int8 import pictures
from export.to_onnx.tracing import session
from export.training.batches import split_folder
from export.training.train import read_config
from export.training.vision import normalise

__all__ = ['main', 'quantise_text', 'quantise_vision', 'quantise_weights']

#: Tensors with fewer values stay float32: biases, scales, shapes.
SMALLEST = 1024
#: First convolutions of the image tower that stay float32: of eight bits they lose most.
N_FLOAT = 12

_MEAN, _STD = 'tower.mean', 'tower.std'

# End of the name that the quantiser gives a tensor of eight bits as numbers.
_UNFOLDED = '_DequantizeLinear_Output'

# Of the full range of an activation.
_SHARES = np.linspace(0.3, 1, 15)


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
    Store the weights of matrix products as int8.

    Each weight becomes ``Cast(int8) * scale`` with one scale per output channel,
    constants that every runtime folds to float32 when it opens the model.

    Parameters
    ----------
    source, target : path-like
        Float32 model to read, quantised model to write.
    """
    model = onnx.load(str(source))
    graph = model.graph
    uses = {node.input[1]: node for node in graph.node if node.op_type in ('Gemm', 'MatMul')}
    kept, stored, unfold = [], [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        node = uses.get(tensor.name)
        if node is None or values.size < SMALLEST:
            kept.append(tensor)
            continue
        axis = 0 if any(a.name == 'transB' and a.i for a in node.attribute) else 1
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


def quantise_vision(source, target, squares):
    """
    Let the image tower convolve in eight bits.

    Ranges of activations are fixed: those, of `_SHARES` of the range of some images, that lose
    least. The first convolutions stay float32: most of a picture of the sky is nearly black, and
    what a step of eight bits takes from it there is missing everywhere behind. What the others
    shift on average is undone where the features are standardised.

    Parameters
    ----------
    source, target : path-like
        Float32 model to read, as `export.to_onnx.towers.export_vision` writes it, quantised model
        to write.
    squares : `numpy.ndarray` of uint8, shape (n, s, s, 3)
        Images as they are typical; a few hundred.
    """
    # Imported here: these modules of onnxruntime are slow to import.
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.load(str(source))
    pixels = normalise(torch.from_numpy(squares)).numpy()
    wanted, values = _watched(model, pixels, _activations(model.graph))
    ranges = {name: TensorData(lowest=np.float32(low), highest=np.float32(high))
              for name, (low, high) in values.items()}
    left_out = _first(model.graph, N_FLOAT)
    inside = [node.name for node in _convolving(model.graph) if node.name not in left_out]
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it reports each tensor that it leaves out
    quantiser = QDQQuantizer(
        model, True, False, QuantType.QInt8, QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, ranges), inside, [], ['Conv', 'Add', 'Clip'], {})
    quantiser.quantize_model()
    logging.getLogger().setLevel(level)
    quantiser.model.topological_sort()
    model = quantiser.model.model
    _renew_branches(model.graph)
    found, _ = _watched(model, pixels, [])
    _undo_shifts(model.graph, found, wanted)
    onnx.save(model, str(target))
    quantise_weights(target, target)


def _renew_branches(graph):
    """Let branches, which the quantiser does not see, read what is quantised; they come last."""
    branching = [node for node in graph.node if node.op_type == 'If']
    unfolded = {node.output[0] for node in graph.node if node.op_type == 'DequantizeLinear'}
    for node in branching:
        graph.node.remove(node)
        for inner in (node for attribute in node.attribute for node in attribute.g.node):
            inner.input[:] = [f'{name}{_UNFOLDED}' if f'{name}{_UNFOLDED}' in unfolded else name
                              for name in inner.input]
    graph.node.extend(branching)


def _convolving(graph):
    """Return convolutions, and the sums and limits between them."""
    behind = next(i for i, node in enumerate(graph.node) if node.op_type.startswith('Reduce'))
    return [node for node in graph.node[:behind] if node.op_type in ('Conv', 'Add', 'Clip')]


def _first(graph, count):
    """Return the names of the first convolutions and of what follows each of them."""
    names, convolutions = [], 0
    for node in _convolving(graph):
        convolutions += node.op_type == 'Conv'
        if convolutions > count:
            break
        names.append(node.name)
    return names


def _activations(graph):
    """Return the names of what convolutions and sums read and give, without their weights."""
    constant = {tensor.name for tensor in graph.initializer}
    constant.update(node.output[0] for node in graph.node if node.op_type == 'Constant')
    names = [name for node in _convolving(graph) for name in (*node.input, *node.output)]
    return [name for name in dict.fromkeys(names) if name and name not in constant]


def _watched(model, pixels, names, sample=3000):
    """Return the pooled features of some images, and ranges of what lies before them."""
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    pooled = next(node.input[0] for node in graph.graph.node
                  if node.op_type == 'Sub' and node.input[1] == _MEAN)
    inside = [name for name in names if name != 'pixel_values']
    for name in (pooled, *inside):
        graph.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    run = session(graph.SerializeToString())
    rng = np.random.default_rng(0)
    features, seen = [], {name: [] for name in inside}
    for part in np.array_split(pixels, -(-len(pixels) // 8)):
        pooled_values, *values = run.run([pooled, *inside], {'pixel_values': part})
        features.append(pooled_values)
        for name, value in zip(inside, values, strict=True):
            drawn = value.ravel()[rng.integers(0, value.size, sample)]
            seen[name].append(np.append(drawn, [value.min(), value.max()]))
    ranges = {name: _best_range(np.concatenate(value)) for name, value in seen.items()}
    if len(inside) < len(names):
        ranges['pixel_values'] = (-1.0, 1.0)
    return np.concatenate(features), ranges


def _best_range(values):
    """Return the range in which 256 steps lose least of some values."""
    least, most = min(values.min(), 0.0), max(values.max(), 0.0)
    errors = []
    for share in _SHARES:
        low = share * least
        step = share * (most - least) / 255 or 1.0
        zero = np.round(-low / step)
        stored = np.clip(np.round(values / step) + zero, 0, 255)
        errors.append(((stored - zero) * step - values) ** 2)
    share = _SHARES[int(np.argmin([error.mean() for error in errors]))]
    return share * least, share * most


def _undo_shifts(graph, found, wanted):
    """
    Standardise each pooled feature so that it agrees best with that of float32.

    By least squares over images: ``wanted = slope found + shift``, taken into mean and deviation.
    """
    centred = found - found.mean(0)
    variance = (centred ** 2).mean(0)
    slope = (centred * (wanted - wanted.mean(0))).mean(0) / variance.clip(1e-12)
    slope = np.where(variance > 1e-12, slope.clip(0.5, 1.5), 1.0)
    shift = wanted.mean(0) - slope * found.mean(0)
    for tensor in graph.initializer:
        if tensor.name in (_MEAN, _STD):
            values = numpy_helper.to_array(tensor)
            values = ((values - shift) if tensor.name == _MEAN else values) / slope
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


def typical(size, real=None, *, count=600):
    """
    Choose images to take ranges of activations from.

    Parameters
    ----------
    size : int
        Their side.
    real : path-like, optional
        Folder with ``manifest.jsonl``: two images of three are of it, none of them held out.
        Without it all are rendered.
    count : int, optional
        How many images.

    Returns
    -------
    squares : `numpy.ndarray` of uint8, shape (count, size, size, 3)
        Every fourth of those rendered is a negative, as charts are.
    """
    rows = ()
    if real is not None:
        pairs, held_out = split_folder(read_config(None, real=real)['data'])
        rows = np.random.default_rng(0).permutation(np.flatnonzero(~held_out))[:2 * count // 3]
    rendered = pictures(size, count - len(rows))
    rendered[1::4] = 255 - rendered[1::4]  # half of those that are negatives already
    return np.concatenate([rendered, *(
        real_pairs.to_square(real_pairs.load_pixels(pairs[i].file), size)[None] for i in rows)])


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
    parser.add_argument('--real', help='folder with manifest.jsonl: images to take ranges from')
    parser.add_argument('--images', type=int, default=600, help='how many (default: 600)')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = Path(options.folder) / 'onnx'
    quantise_text(folder / 'text_model.onnx', folder / 'text_model_quantized.onnx')
    size = json.loads((folder.parent / 'training.json').read_text('utf-8'))['progress']['size']
    quantise_vision(folder / 'vision_model.onnx', folder / 'vision_model_quantized.onnx',
                    typical(size, options.real, count=options.images))
    for name in ('text_model', 'vision_model'):
        sizes = [(folder / f'{name}{end}.onnx').stat().st_size / 1e6 for end in ('', '_quantized')]
        session(folder / f'{name}_quantized.onnx')
        print(f'{name}: {sizes[0]:.1f} MB -> {sizes[1]:.1f} MB')
