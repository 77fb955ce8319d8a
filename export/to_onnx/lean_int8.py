"""
Image towers that multiply in eight bits.

The ranges of activations are fixed, not those of a batch as `quantize_dynamic` takes them: an
image's embedding does not depend on the images beside it.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from export.sky import render
from export.to_onnx.lean import Linear
from export.to_onnx.lean_graph import save_image_tower
from export.to_onnx.tracing import session

__all__ = ['equalise', 'pictures', 'ranges', 'save_image_tower_int8']


def save_image_tower_int8(tower, path, squares=None):
    """
    Write an image tower that multiplies in eight bits.

    Parameters
    ----------
    tower : `export.to_onnx.lean.ImageTower`
        Its weights.
    path : path-like
        File to write; see `export.to_onnx.lean_graph.save_image_tower`.
    squares : `numpy.ndarray` of uint8, shape (n, size, size, 3), optional
        Images from which the ranges of activations are taken; by default `pictures`.
    """
    squares = pictures(tower.size) if squares is None else squares
    tower, found = equalise(tower, ranges(tower, squares))
    save_image_tower(tower, path, ranges=[(least.min(), most.max()) for least, most in found])


def pictures(size, count=32):
    """
    Rendered pictures to take ranges of activations from, every second one as a negative.

    Parameters
    ----------
    size : int
        Their side.
    count : int, optional
        How many.

    Returns
    -------
    squares : `numpy.ndarray` of uint8, shape (count, size, size, 3)
        None of those that variants are judged by.
    """
    squares = np.stack([Image.fromarray(render(8_000_000 + i).image).resize((size, size))
                        for i in range(count)])
    squares[1::2] = 255 - squares[1::2]  # charts are dark on white
    return squares


def ranges(tower, squares):
    """
    Least and largest value that each matrix product reads.

    Parameters
    ----------
    tower : `export.to_onnx.lean.ImageTower`
        Its weights.
    squares : `numpy.ndarray` of uint8, shape (n, size, size, 3)
        Images.

    Returns
    -------
    found : list of tuple of `numpy.ndarray` of float32, shape (channels,)
        In the order of the products; 0 is within each.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'tower.onnx'
        products = save_image_tower(tower, path)
        model = onnx.load(str(path))
        rank = {node.output[0]: 2 for node in model.graph.node if node.op_type == 'Squeeze'}
        del model.graph.output[:]
        for name in dict.fromkeys(products):
            for operator in ('ReduceMin', 'ReduceMax'):
                out = f'{operator}_{name}'
                model.graph.node.append(onnx.helper.make_node(
                    operator, [name], [out], keepdims=0, axes=list(range(rank.get(name, 3) - 1))))
                model.graph.output.append(
                    onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, [None]))
        onnx.save(model, str(path))
        watched = session(path)
        values = [watched.run(None, {'pixel_values': part})
                  for part in np.array_split(squares, -(-len(squares) // 8))]
    least, most = ([np.stack(parts) for parts in list(zip(*values, strict=True))[side::2]]
                   for side in (0, 1))
    found = {name: (low.min(0).clip(max=0), high.max(0).clip(min=0)) for name, low, high in
             zip(dict.fromkeys(products), least, most, strict=True)}
    return [found[name] for name in products]


def equalise(tower, found):
    """
    Make channels of activations alike before they share one range (SmoothQuant).

    A few channels of trained transformers are many times larger than the others. What divides a
    channel goes into the norm before it, or into the values of attention, and multiplies the
    weights behind it: without an effect in float32.

    Parameters
    ----------
    tower : `export.to_onnx.lean.ImageTower`
        Its weights.
    found : list of tuple of `numpy.ndarray` of float32
        As from `ranges`.

    Returns
    -------
    tower : `export.to_onnx.lean.ImageTower`
        Other weights for the same vectors.
    found : list of tuple of `numpy.ndarray` of float32
        The ranges of its activations.
    """
    blocks, found, place = [], list(found), 0

    def divisor(count, linear):
        """
        Take the ranges of as many products; return what divides their channels.
        """
        nonlocal place
        places = range(place, place + count)
        place += count
        peaks = np.max([np.maximum(-least, most) for least, most in
                        (found[i] for i in places)], axis=0)
        ratio = peaks / np.abs(linear.weight).max(1).clip(1e-12)
        # Channels that are always zero stay as they are.
        by = np.sqrt(np.where(ratio > 0, ratio, 1)).astype(np.float32)
        for i in places:
            found[i] = tuple(side / by for side in found[i])
        return by

    for block in tower.blocks:
        cut = tower.pool is None and block is tower.blocks[-1]
        by = divisor(2 if cut else 1, block.qkv)
        norm, qkv = _divided(block.attention_norm, by), _multiplied(block.qkv, by)
        by = divisor(1, block.out)
        values = np.concatenate([np.ones(2 * len(by), np.float32), by])
        qkv = Linear(qkv.weight / values, qkv.bias / values)
        out = _multiplied(block.out, by)
        by = divisor(1, block.up)
        place += 1  # behind the activation nothing can be divided
        blocks.append(block._replace(
            attention_norm=norm, qkv=qkv, out=out, mlp_norm=_divided(block.mlp_norm, by),
            up=_multiplied(block.up, by)))
    return replace(tower, blocks=blocks), found


def _divided(norm, by):
    return norm._replace(weight=norm.weight / by, bias=norm.bias / by)


def _multiplied(linear, by):
    return linear._replace(weight=linear.weight * by[:, None])
