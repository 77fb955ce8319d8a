"""
Lean ONNX graphs of `export.to_onnx.lean` towers.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.to_onnx.tracing import OPSET

__all__ = ['save_image_tower', 'save_text_tower']

_CONTRIB = 'com.microsoft'

#: Weights of seven bits: processors without VNNI add two products in 16 bits, which would overflow.
LARGEST = 64

#: Hidden columns at a time: what is between two products then stays in the processor's cache.
PART = 384

#: Of more patches, the scores of all heads at once are slower to write than heads to move.
PATCHES = 256


def save_image_tower(tower, path, *, half=False, ranges=None):
    """
    Write an image tower.

    Parameters
    ----------
    tower : `export.to_onnx.lean.ImageTower`
        Its weights.
    path : path-like
        File to write: input ``pixel_values`` uint8 (n, size, size, 3), output ``image_embeds``
        float32 (n, d), unit vectors.
    half : bool, optional
        Store and compute in half precision.
    ranges : list of tuple of float, optional
        Least and largest value that each matrix product reads, in their order: then they multiply
        in eight bits (`export.to_onnx.lean_int8`).

    Returns
    -------
    products : list of str
        What each matrix product reads.
    """
    graph = _Graph(tower, np.float16 if half else np.float32, ranges)
    grid, patch, width = tower.size // tower.patch, tower.patch, tower.positions.shape[1]
    pixels = 'pixel_values'
    if grid * patch < tower.size:
        for axis in (1, 2):
            pixels = graph.cut(pixels, 0, grid * patch, axis=axis)
    split = graph.add('Reshape', [pixels, graph.whole([-1, grid, patch, grid, 3 * patch])])
    split = graph.add('Transpose', [split], perm=[0, 1, 3, 2, 4])
    rows = graph.add('Reshape', [split, graph.whole([-1, grid * grid, 3 * patch * patch])])
    states = graph.add('Add', [graph.patches(rows, tower.patches.weight),
                               graph.real(tower.positions + tower.patches.bias)])
    batch = graph.add('Shape', ['pixel_values'], start=0, end=1)
    shape = graph.add('Concat', [batch, graph.whole([1, width])], axis=0)
    if tower.token is not None:
        token = graph.add('Expand', [graph.real(tower.token[None, None]), shape])
        states = graph.add('Concat', [token, states], axis=1)
    if tower.first:
        states = graph.norm(states, tower.first)
    if tower.pool is None:
        states = graph.blocks(states, tower.blocks,
                              lambda name: graph.cut(name, 0, 1, axis=1), tower.last)
    else:
        states = graph.blocks(states, tower.blocks, None, tower.last)
        states = graph.pool(states, tower.pool, shape)
    graph.finish(states, tower.projection, 'image_embeds')
    graph.save(path, helper.make_tensor_value_info(
        'pixel_values', TensorProto.UINT8, ['batch', tower.size, tower.size, 3]))
    return graph.products


def save_text_tower(tower, path, *, half=False):
    """
    Write a text tower.

    Parameters
    ----------
    tower : `export.to_onnx.lean.TextTower`
        Its weights.
    path : path-like
        File to write: input ``input_ids`` int64 (n, length), output ``text_embeds`` float32
        (n, d), unit vectors.
    half : bool, optional
        Store and compute in half precision.
    """
    graph = _Graph(tower, np.float16 if half else np.float32)
    longest = len(tower.positions)
    ids = 'input_ids'
    if tower.pad is not None:
        batch = graph.add('Shape', [ids], start=0, end=1)
        shape = graph.add('Concat', [batch, graph.whole([longest])], axis=0)
        padding = graph.add('Expand', [graph.whole([[tower.pad]]), shape])
        ids = graph.cut(graph.add('Concat', [ids, padding], axis=1), 0, longest, axis=1)
    length = graph.add('Shape', [ids], start=1, end=2)
    states = graph.add('Gather', [graph.real(tower.table), ids])
    positions = graph.add('Slice', [graph.real(tower.positions), graph.whole([0]), length,
                                    graph.whole([0])])
    states = graph.add('Add', [states, positions])
    if tower.pad is not None:
        states = graph.blocks(states, tower.blocks,
                              lambda name: graph.cut(name, longest - 1, longest, axis=1),
                              tower.last)
    else:
        found = ids
        if tower.end is not None:
            found = graph.add('Cast', [graph.add('Equal', [ids, graph.whole(tower.end)])],
                              to=TensorProto.INT32)
        end = graph.add('ArgMax', [found], axis=1, keepdims=1)
        places = graph.add('Range', [graph.whole(0), graph.add('Squeeze', [length]),
                                     graph.whole(1)])
        seen = graph.add('Cast', [graph.add('LessOrEqual', [places, end])], to=TensorProto.INT32)

        def at_end(name):
            return graph.add('Unsqueeze', [graph.add('GatherND', [name, end], batch_dims=1),
                                           graph.whole([1])])

        states = graph.blocks(states, tower.blocks, at_end, tower.last, causal=True, seen=seen)
    graph.finish(states, tower.projection, 'text_embeds')
    graph.save(path, helper.make_tensor_value_info(
        'input_ids', TensorProto.INT64, ['batch', 'length']))


class _Graph:
    """
    Nodes and constants, appended as they are needed.
    """

    def __init__(self, tower, kind, ranges=None):
        self.heads, self.activation, self.kind = tower.heads, tower.activation, kind
        self.ranges, self.products, self.turned = ranges, [], {}
        self.nodes, self.constants, self.names = [], {}, 0
        self.few = len(tower.positions) <= PATCHES

    def name(self, word):
        self.names += 1
        return f'{word}_{self.names}'

    def add(self, operator, inputs, *, outputs=1, domain='', **attributes):
        """
        Append a node; return the name of its output, or of each where there are several.
        """
        names = ([self.name(operator)] if outputs == 1
                 else [self.name(operator) if i in (0, outputs - 1) or operator == 'Split' else ''
                       for i in range(outputs)])
        self.nodes.append(helper.make_node(operator, inputs, names, name=self.name(operator),
                                           domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def contrib(self, operator, inputs, **attributes):
        return self.add(operator, inputs, domain=_CONTRIB, **attributes)

    def constant(self, values):
        name = self.name('constant')
        self.constants[name] = np.ascontiguousarray(values)
        return name

    def whole(self, values):
        return self.constant(np.asarray(values, np.int64))

    def real(self, values):
        return self.constant(np.asarray(values, self.kind))

    def cast(self, name, kind=None):
        return self.add('Cast', [name], to=helper.np_dtype_to_tensor_dtype(
            np.dtype(kind or self.kind)))

    def cut(self, name, start, stop, *, axis):
        return self.add('Slice', [name, self.whole([start]), self.whole([stop]),
                                  self.whole([axis])])

    def norm(self, name, norm):
        return self.add('LayerNormalization', [name, self.real(norm.weight), self.real(norm.bias)],
                        axis=-1, epsilon=norm.epsilon)

    def patches(self, rows, weight):
        """
        Append the product of pixels, which have eight bits from the beginning.
        """
        if self.ranges:
            return self.whole_product((rows, self.constant(np.float32(1)),
                                       self.constant(np.uint8(128))), weight)
        return self.add('MatMul', [self.add('Sub', [self.cast(rows), self.real(128)]),
                                   self.real(weight)])

    def read(self, *parts):
        """
        Append what products read, made of columns one behind the other.

        Returns
        -------
        read : tuple of str
            Its name; in eight bits also those of its scale and its zero point.
        """
        self.products.append(parts[0])
        step = ()
        if self.ranges:
            least, largest = self.ranges[len(self.products) - 1]
            scale = np.float32(max(largest - least, 1e-12) / 255)
            zero = np.uint8(np.clip(np.rint(-least / scale), 0, 255))
            step = self.constant(scale), self.constant(zero)
            parts = [self.add('QuantizeLinear', [part, *step]) for part in parts]
        return parts[0] if len(parts) == 1 else self.add('Concat', parts, axis=-1), *step

    def linear(self, read, linear, columns=slice(None)):
        """
        Append a product with a constant, and its bias.
        """
        weight = linear.weight[:, columns]
        bias = None if linear.bias is None else linear.bias[columns]
        if self.ranges:
            return self.whole_product(read, weight, bias)
        product = self.add('MatMul', [*read, self.real(weight)])
        return product if bias is None else self.add('Add', [product, self.real(bias)])

    def whole_product(self, read, weight, bias=None):
        """
        Append a product of uint8 and int8, summed in int32.
        """
        name, scale, zero = read
        steps = np.abs(weight).max(0).clip(1e-12) / LARGEST
        return self.contrib('MatMulIntegerToFloat', [
            name, self.constant(np.rint(weight / steps).astype(np.int8)), scale,
            self.constant(steps.astype(np.float32)), zero, '',
            *([] if bias is None else [self.real(bias)])])

    def projected(self, read, qkv, count=3):
        """
        Append the last ones of query, key and value.
        """
        width = len(qkv.weight)
        product = self.linear(read, qkv, slice((3 - count) * width, None))
        return self.add('Split', [product], outputs=count, axis=-1)

    def whole_attention(self, query, others, qkv):
        """
        Append attention between products of eight bits; return what the next one reads.

        Tokens go before images, so that heads are read where they lie: what is moved has eight
        bits. `MultiHeadAttention` would move query, key and value in float32.
        """
        width, parts = len(qkv.weight), []
        for i, (name, *step) in enumerate((query, others, others)):
            if name not in self.turned:
                self.turned[name] = self.add('Transpose', [name], perm=[1, 0, 2])
            part = self.linear((self.turned[name], *step), qkv, slice(i * width, (i + 1) * width))
            parts.append(self.add('Reshape', [part, self.whole([0, 0, self.heads, -1])]))
        query, key, value = parts
        scores = self.contrib('FusedMatMul', [query, key], transB=1, transBatchA=1, transBatchB=1,
                              alpha=(width // self.heads) ** -0.5)
        mixed = self.contrib('FusedMatMul', [self.add('Softmax', [scores], axis=-1), value],
                             transBatchB=1)
        name, *step = self.read(mixed)
        name = self.add('Transpose', [name], perm=[0, 2, 1, 3])
        return self.add('Reshape', [name, self.whole([0, 0, width])]), *step

    def attention(self, parts, seen='', **attributes):
        return self.contrib('MultiHeadAttention', [*parts, '', seen], num_heads=self.heads,
                            **attributes)

    def activated(self, name):
        if self.activation == 'gelu':
            return self.contrib('Gelu', [name])
        if self.activation == 'gelu_tanh':
            return self.contrib('FastGelu', [name])
        return self.contrib('QuickGelu', [name], alpha=1.0)  # SiLU, which has a faster kernel

    def blocks(self, states, blocks, pick, last, *, causal=False, seen=''):
        """
        Append the blocks and the norm behind them; the last block for the picked tokens only.
        """
        normed = self.norm(states, blocks[0].attention_norm)
        for i, block in enumerate(blocks):
            width = len(block.qkv.weight)
            query = others = self.read(normed)
            cut = pick and i == len(blocks) - 1
            if cut:
                query, states = self.read(pick(normed)), pick(states)
            if self.ranges and self.few:
                mixed = self.whole_attention(query, others, block.qkv)
            elif cut:
                parts = [self.linear(query, block.qkv, slice(width)),
                         *self.projected(others, block.qkv, 2)]
                mixed = self.read(self.attention(parts, seen))
            else:
                mixed = self.read(self.attention(self.projected(others, block.qkv),
                                                 unidirectional=int(causal)))
            states = self.add('Add', [states, self.linear(mixed, block.out)])
            normed = self.norm(states, block.mlp_norm)
            states = self.add('Add', [states, self.mlp(normed, block)])
            after = blocks[i + 1].attention_norm if i + 1 < len(blocks) else last
            normed = self.norm(states, after)
        return normed

    def mlp(self, name, block):
        read, width = self.read(name), block.up.weight.shape[1]
        part = PART if self.ranges else width
        hidden = [self.activated(self.linear(read, block.up, slice(at, at + part)))
                  for at in range(0, width, part)]
        return self.linear(self.read(*hidden), block.down)

    def pool(self, states, pool, shape):
        """
        Append the attention of a learned query.
        """
        block, width = pool.block, len(pool.probe)
        query = pool.probe @ block.qkv.weight[:, :width] + block.qkv.bias[:width]
        query = self.add('Expand', [self.real(query[None, None]), shape])
        mixed = self.attention([query, *self.projected(self.read(states), block.qkv, 2)])
        states = self.linear(self.read(mixed), block.out)
        return self.add('Add', [states, self.mlp(self.norm(states, block.mlp_norm), block)])

    def finish(self, states, projection, output):
        """
        Append the projection of the one token that is left, and the norm of its vector.
        """
        states = self.add('Squeeze', [states, self.whole([1])])
        if projection:
            states = self.linear(self.read(states), projection)
        if self.kind != np.float32:
            # The squares of a long vector would overflow.
            states = self.cast(states, np.float32)
        length = self.add('ReduceL2', [states], axes=[-1], keepdims=1)
        self.nodes.append(helper.make_node('Div', [states, length], [output], name='unit'))
        self.output = output

    def save(self, path, feed):
        output = helper.make_tensor_value_info(self.output, TensorProto.FLOAT, ['batch', None])
        graph = helper.make_graph(
            self.nodes, 'tower', [feed], [output],
            [numpy_helper.from_array(values, name) for name, values in self.constants.items()])
        model = helper.make_model(graph, ir_version=8, opset_imports=[
            helper.make_opsetid('', OPSET), helper.make_opsetid(_CONTRIB, 1)])
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
