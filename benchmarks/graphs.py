# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What an ONNX graph has to compute and to move, layer by layer.

Shapes are those of a run, of the graph as ONNX Runtime fuses it (but before it lays data out for
one processor), so that operators of any domain are counted.
"""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ['Layer', 'layers', 'profile']

_PRODUCTS = {'MatMul': 'fp32', 'FusedMatMul': 'fp32', 'Gemm': 'fp32', 'FusedGemm': 'fp32',
             'MatMulInteger': 'int8', 'MatMulIntegerToFloat': 'int8',
             'DynamicQuantizeMatMul': 'int8', 'QLinearMatMul': 'int8', 'QGemm': 'int8'}


@dataclass(frozen=True)
class Layer:
    """
    One operator that computes.

    Attributes
    ----------
    name, output : str
        Of the node, and of what comes out of it.
    kind : str
        ``'product'`` (also convolutions of one pixel), ``'convolution'``, ``'depthwise'`` or
        ``'attention'``.
    flops : int
        Multiplications and additions.
    n_bytes : int
        Of what goes in, weights included, and of what comes out.
    shape : tuple of int or None
        (m, n, k) of the matrix product that it is, if it is one.
    precision : {'fp32', 'int8'}
        Of the multiplications.
    """

    name: str
    output: str
    kind: str
    flops: int
    n_bytes: int
    shape: tuple[int, int, int] | None
    precision: str


def layers(path: Path, feed: dict[str, np.ndarray]) -> list[Layer]:
    """
    Count what one run does.

    Operators between layers (activations, norms, sums) could all be done on the way from one to
    the next, so they count for nothing.

    Parameters
    ----------
    path : path-like
        ONNX file.
    feed : dict of str to ndarray
        Its inputs.

    Returns
    -------
    list of Layer
        In order of execution.
    """
    import onnx
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    with tempfile.TemporaryDirectory() as folder:
        fused = Path(folder, 'fused.onnx')
        _session(path, levels.ORT_ENABLE_EXTENDED, optimized_model_filepath=str(fused))
        model = onnx.load(fused)
    graph = model.graph
    del graph.value_info[:]
    wanted = [name for node in graph.node for name in node.output if name]
    known = {tensor.name for tensor in graph.output}
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted
                        if name not in known)
    session = _session(model.SerializeToString(), levels.ORT_DISABLE_ALL)
    arrays = dict(zip(wanted, session.run(wanted, feed), strict=True)) | feed
    sizes = {name: (array.shape, array.nbytes) for name, array in arrays.items()}
    for tensor in graph.initializer:
        item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        sizes[tensor.name] = tuple(tensor.dims), math.prod(tensor.dims) * item
    found = [_layer(node, sizes) for node in graph.node]
    return [layer for layer in found if layer is not None]


def _session(model: Path | bytes, level, **settings):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    for name, value in settings.items():
        setattr(options, name, value)
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model),
                                        options, providers=['CPUExecutionProvider'])


def _layer(node, sizes: dict[str, tuple[tuple[int, ...], int]]) -> Layer | None:
    """
    Return what a node costs, or None if it does not count.
    """
    out, = sizes[node.output[0]][:1]
    n_bytes = sum(sizes[name][1] for name in (*node.input, *node.output) if name in sizes)
    if node.op_type in ('Conv', 'FusedConv'):
        n_out, per_group, *kernel = sizes[node.input[1]][0]
        depth = per_group * math.prod(kernel)
        pixels = out[0] * math.prod(out[2:])
        alone = per_group == 1 and n_out > 1
        kind = 'depthwise' if alone else 'product' if math.prod(kernel) == 1 else 'convolution'
        return Layer(node.name, node.output[0], kind, 2 * pixels * n_out * depth, n_bytes,
                     None if alone else (pixels, n_out, depth), 'fp32')
    if node.op_type in _PRODUCTS:
        depth = sizes[node.input[0]][0][-1]
        m, n = math.prod(out[:-1]), out[-1]
        return Layer(node.name, node.output[0], 'product', 2 * m * n * depth, n_bytes,
                     (m, n, depth), _PRODUCTS[node.op_type])
    if node.op_type == 'MultiHeadAttention':
        (n_images, asking, width), asked = (sizes[name][0] for name in node.input[:2])
        flops = 4 * n_images * asking * asked[1] * width
        return Layer(node.name, node.output[0], 'attention', flops, n_bytes, None, 'fp32')
    return None


def profile(path: Path, feed: dict[str, np.ndarray], threads: int,
            runs: int = 10) -> list[tuple[str, str, float]]:
    """
    Ask ONNX Runtime's profiler where the time goes.

    Parameters
    ----------
    path : path-like
        ONNX file.
    feed : dict of str to ndarray
        Its inputs.
    threads : int
        CPU threads.
    runs : int, optional
        Over which the mean is taken.

    Returns
    -------
    list of tuple
        Node, operator and seconds a run, of the graph as it is executed.
    """
    import json

    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        session = _session(path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
                           intra_op_num_threads=threads, enable_profiling=True,
                           profile_file_prefix=str(Path(folder, 'profile')))
        for _ in range(runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding='utf-8'))
    spent: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get('cat') == 'Node' and event['name'].endswith('_kernel_time'):
            key = event['name'].removesuffix('_kernel_time'), event['args']['op_name']
            spent[key] = spent.get(key, 0) + event['dur'] * 1e-6 / runs
    return [(*key, value) for key, value in spent.items()]
