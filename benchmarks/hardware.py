# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What this machine can do: matrix products in three precisions, and memory.

A limit is the best that was seen, of all libraries that are installed and all repeats.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np

from .comparison import setting

__all__ = ['PRECISIONS', 'bandwidth', 'card_rate', 'product_seconds']

PRECISIONS = ('fp32', 'bf16', 'int8')

# Bytes of the sets of three arrays between which the bandwidth is interpolated: from what fits in
# a cache of a core to what fits in none.
_SETS = tuple(2**20 * 4**i for i in range(6))


def _best(action: Callable[[], object], least: float = 0.02, repeats: int = 5) -> float:
    """
    Return the seconds of the fastest of several calls.
    """
    action()
    best, spent = float('inf'), 0.0
    while spent < least * repeats or repeats > 0:
        started = setting.clock()
        action()
        took = setting.clock() - started
        best, spent, repeats = min(best, took), spent + took, repeats - 1
    return best


@functools.cache
def product_seconds(shape: tuple[int, int, int], precision: str,
                    threads: int) -> tuple[float, str]:
    """
    Time a matrix product of a constant, as in a layer.

    Parameters
    ----------
    shape : tuple of int
        (m, n, k): (m, k) times (k, n).
    precision : {'fp32', 'bf16', 'int8'}
        Of the factors.
    threads : int
        CPU threads.

    Returns
    -------
    seconds : float
        Of the fastest library; infinite if none that is installed has this precision.
    library : str
        Its name.
    """
    found = [(float('inf'), 'none')]
    for library, package, make in (('ONNX Runtime', 'onnxruntime', _runtime_product),
                                   ('torch', 'torch', _torch_product),
                                   ('OpenVINO', 'openvino', _openvino_product)):
        if find_spec(package) is not None:
            action = make(shape, precision, threads)
            if action is not None:
                found.append((_best(action), library))
    return min(found)


def _graph(shape: tuple[int, int, int], precision: str) -> bytes:
    """
    Return an ONNX model of one product.
    """
    from onnx import TensorProto, helper, numpy_helper

    m, n, k = shape
    rng = np.random.default_rng(0)
    if precision == 'int8':
        weights, kind, into, out = (rng.integers(-90, 90, (k, n)).astype(np.int8),
                                    'MatMulInteger', TensorProto.UINT8, TensorProto.INT32)
    else:
        weights, kind, into, out = (rng.normal(size=(k, n)).astype(np.float32), 'MatMul',
                                    TensorProto.FLOAT, TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node(kind, ['a', 'b'], ['c'])], 'product',
        [helper.make_tensor_value_info('a', into, [m, k])],
        [helper.make_tensor_value_info('c', out, [m, n])],
        [numpy_helper.from_array(weights, 'b')])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)],
                             ir_version=8).SerializeToString()


def _left(shape: tuple[int, int, int], precision: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    m, _, k = shape
    if precision == 'int8':
        return rng.integers(0, 180, (m, k)).astype(np.uint8)
    return rng.normal(size=(m, k)).astype(np.float32)


def _runtime_product(shape: tuple[int, int, int], precision: str,
                     threads: int) -> Callable | None:
    import onnxruntime

    if precision == 'bf16':
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(_graph(shape, precision), options,
                                           providers=['CPUExecutionProvider'])
    feed = {'a': _left(shape, precision)}
    return lambda: session.run(None, feed)


def _torch_product(shape: tuple[int, int, int], precision: str, threads: int) -> Callable:
    import torch

    m, n, k = shape
    if precision == 'int8':
        a = torch.randint(-90, 90, (m, k), dtype=torch.int8)
        b = torch.randint(-90, 90, (n, k), dtype=torch.int8).T
        product = functools.partial(torch._int_mm, a, b)
    else:
        kind = torch.float32 if precision == 'fp32' else torch.bfloat16
        product = functools.partial(torch.nn.functional.linear, torch.randn(m, k).to(kind),
                                    torch.randn(n, k).to(kind))

    def action():
        torch.set_num_threads(threads)
        with torch.inference_mode():
            product()

    return action


def _openvino_product(shape: tuple[int, int, int], precision: str,
                      threads: int) -> Callable | None:
    import openvino

    if precision == 'int8':
        return None  # it has no such operator: it fuses those of quantised layers
    core = openvino.Core()
    request = core.compile_model(
        core.read_model(_graph(shape, precision)), 'CPU',
        {'INFERENCE_NUM_THREADS': threads, 'NUM_STREAMS': 1,
         'INFERENCE_PRECISION_HINT': {'fp32': 'f32'}.get(precision, precision),
         }).create_infer_request()
    left = _left(shape, precision)
    return lambda: request.infer({0: left}, share_inputs=True, share_outputs=True)


@functools.cache
def _bandwidths(threads: int) -> tuple[float, ...]:
    """
    Return bytes per second of ``a = b + c`` for each of `_SETS`.
    """
    found = []
    with ThreadPoolExecutor(threads) as workers:
        for size in _SETS:
            length = size // 12 // threads
            parts = [[np.ones(length, np.float32) for _ in range(3)] for _ in range(threads)]
            # Many times in each thread, so that starting it does not count.
            times = max(1, 2**26 // size)

            def add(part, times=times):
                for _ in range(times):
                    np.add(part[0], part[1], out=part[2])

            took = _best(lambda add=add, parts=parts: list(workers.map(add, parts)))
            found.append(12 * length * threads * times / took)
    return tuple(found)


def bandwidth(size: float, threads: int) -> float:
    """
    Bytes per second that can be read and written.

    Parameters
    ----------
    size : float
        Bytes of all that is touched: what fits in a cache is nearer.
    threads : int
        CPU threads.

    Returns
    -------
    float
        Of the kernel "add" of STREAM, three arrays of which two are read.
    """
    found = _bandwidths(threads)
    return float(np.interp(np.log(size), np.log(_SETS), found))


def card_rate(side: int = 8192) -> float:
    """
    Multiplications and additions per second of a GPU, in half precision.

    Parameters
    ----------
    side : int, optional
        Of the square matrices whose product torch makes.

    Returns
    -------
    float
        The best that was seen.
    """
    import torch

    a, b = (torch.randn(side, side, device='cuda', dtype=torch.float16) for _ in range(2))

    def multiply():
        for _ in range(10):
            a @ b
        torch.cuda.synchronize()

    return 10 * 2 * side**3 / _best(multiply)
