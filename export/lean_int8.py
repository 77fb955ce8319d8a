"""
Image towers that multiply in eight bits.

The ranges of activations are fixed, not those of a batch as `quantize_dynamic` takes them: an
image's embedding does not depend on the images beside it.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from export.lean_graph import save_image_tower
from export.sky import render
from export.to_onnx import session

__all__ = ['pictures', 'ranges', 'save_image_tower_int8']


def save_image_tower_int8(tower, path, squares=None):
    """
    Write an image tower that multiplies in eight bits.

    Parameters
    ----------
    tower : `export.lean.ImageTower`
        Its weights.
    path : path-like
        File to write; see `export.lean_graph.save_image_tower`.
    squares : `numpy.ndarray` of uint8, shape (n, size, size, 3), optional
        Images from which the ranges of activations are taken; by default `pictures`.
    """
    squares = pictures(tower.size) if squares is None else squares
    save_image_tower(tower, path, ranges=ranges(tower, squares))


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
    tower : `export.lean.ImageTower`
        Its weights.
    squares : `numpy.ndarray` of uint8, shape (n, size, size, 3)
        Images.

    Returns
    -------
    found : list of tuple of float
        In the order of the products; 0 is within each.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'tower.onnx'
        products = save_image_tower(tower, path)
        model = onnx.load(str(path))
        del model.graph.output[:]
        for name in dict.fromkeys(products):
            for operator in ('ReduceMin', 'ReduceMax'):
                out = f'{operator}_{name}'
                model.graph.node.append(onnx.helper.make_node(operator, [name], [out], keepdims=0))
                model.graph.output.append(
                    onnx.helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, []))
        onnx.save(model, str(path))
        watched = session(path)
        values = np.array([watched.run(None, {'pixel_values': part})
                           for part in np.array_split(squares, -(-len(squares) // 8))])
    least = dict(zip(dict.fromkeys(products), values[:, ::2].min(0).clip(max=0), strict=True))
    most = dict(zip(dict.fromkeys(products), values[:, 1::2].max(0).clip(min=0), strict=True))
    return [(float(least[name]), float(most[name])) for name in products]
