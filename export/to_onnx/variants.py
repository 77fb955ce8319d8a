"""
Variants of a tower: float32, half precision for GPUs, eight bits for CPUs and downloads.

Each is made of the plain float32 file, or for a lean tower of its weights (`export.to_onnx.lean`).
"""

import functools
import tempfile
from pathlib import Path

import onnx

from export.to_onnx.lean import ImageTower, TextTower
from export.to_onnx.lean_graph import save_image_tower, save_text_tower
from export.to_onnx.lean_int8 import save_image_tower_int8
from export.to_onnx.quantise import quantise_text, quantise_weights

__all__ = ['VARIANTS', 'eight_bits', 'half', 'products', 'save_lean']


def save_lean(tower, path, *, half=False):
    """
    Write a lean tower, whichever it is.

    Parameters
    ----------
    tower : `export.to_onnx.lean.ImageTower` or `export.to_onnx.lean.TextTower`
        Its weights.
    path : path-like
        File to write.
    half : bool, optional
        In half precision.
    """
    save = save_text_tower if isinstance(tower, TextTower) else save_image_tower
    save(tower, path, half=half)


def half(source, target, tower=None):
    """
    Store and compute a tower in half precision.

    Input and output stay float32, and so does the length of the vector: the squares of a long one
    would overflow.

    Parameters
    ----------
    source, target : path-like
        Float32 model to read, model to write.
    tower : `export.to_onnx.lean.ImageTower` or `export.to_onnx.lean.TextTower`, optional
        What a lean model was written from.
    """
    if tower:
        save_lean(tower, target, half=True)
        return
    # Imported here: this module of onnxruntime is slow to import.
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    model = convert_float_to_float16(
        onnx.load(str(source)), keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, 'ReduceL2'],
    )
    _sort(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def _sort(graph):
    """
    Put nodes behind those that they read from: the converter appends its casts at the end.
    """
    known = {tensor.name for tensor in (*graph.input, *graph.initializer)} | {''}
    waiting, nodes = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        nodes += ready
        known.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if not known.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(nodes)


def products(source, target, tower=None):
    """
    Multiply in eight bits: lean image towers by `export.to_onnx.lean_int8`, others by `eight_bits`.

    Parameters
    ----------
    source, target : path-like
        Float32 model to read, quantised model to write.
    tower : `export.to_onnx.lean.ImageTower` or `export.to_onnx.lean.TextTower`, optional
        What a lean model was written from.
    """
    if isinstance(tower, ImageTower):
        save_image_tower_int8(tower, target)
    else:
        eight_bits(source, target)


def eight_bits(source, target, tower=None, *, block=64, exact=False):  # noqa: ARG001
    """
    Store a tower's weights as int8, whatever it is made of.

    Matrix products of transformers become ``MatMulNBits``, weights of convolutions are unfolded
    when the model is opened; see `export.to_onnx.quantise`.

    Parameters
    ----------
    source, target : path-like
        Float32 model to read, quantised model to write.
    tower : `export.to_onnx.lean.ImageTower` or `export.to_onnx.lean.TextTower`, optional
        Not needed.
    block : int, optional
        Weights that share a scale.
    exact : bool, optional
        Keep activations in float32: nearer to torch, slower on a CPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / 'products.onnx'
        quantise_text(source, stored, block=block, exact=exact)
        quantise_weights(stored, target)


#: Name -> ending of the file, and ways to make it with the limits of each in
#: `export.to_onnx.parity`; the first that is near enough is taken.
VARIANTS = {
    'fp16': ('_fp16', ((half, 'fp16'),)),
    'int8': ('_quantized', ((products, 'int8 products'), (eight_bits, 'int8'),
                            (functools.partial(eight_bits, block=16, exact=True), 'int8'))),
}
