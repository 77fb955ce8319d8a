# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is said of models of the hub makes sense, and what speeds are estimated from is true.
"""

import json
import re

import numpy as np
import pytest

from astroclip_search.models.bundle import EMBEDDED
from astroclip_search.models.recommended import (
    EMBEDDED_GMACS,
    RECOMMENDED,
    UNUSABLE,
    likely_speed,
)

# Operators that multiply with weights, and which of their inputs those are.
WEIGHTS = {'Conv': 1, 'ConvInteger': 1, 'QLinearConv': 3, 'Gemm': 1, 'MatMul': 1,
           'MatMulInteger': 1, 'QLinearMatMul': 3}


def test_facts():
    names = [model.name for model in RECOMMENDED]
    assert len(set(names)) == len(names)
    assert not set(names) & set(UNUSABLE)
    for model in RECOMMENDED:
        assert re.fullmatch(r'[\w-]+/[\w.-]+', model.name)
        assert all(page.startswith('https://') for page in model.sources)
        assert model.sources
        assert model.licence
        assert 128 <= model.pixels <= 512
        assert set(model.download) <= {'int8', 'fp16', 'fp32'}
        # Weights have one, two or four bytes each, and descriptions a few megabytes.
        for kind, size in model.download.items():
            width = {'int8': 1, 'fp16': 2, 'fp32': 4}[kind]
            assert size == pytest.approx(width * model.parameters, rel=0.06)
    ready = [model.is_ready for model in RECOMMENDED]
    assert ready == sorted(ready, reverse=True)


def test_speed():
    base, fine = RECOMMENDED[:2]
    assert likely_speed(base, 200) == 2 * likely_speed(base, 100)
    assert likely_speed(base, 100) / likely_speed(fine, 100) == pytest.approx(4, rel=0.01)
    assert [likely_speed(model, 100) for model in RECOMMENDED if model.gmacs is None] == [None]


@pytest.mark.skipif(not EMBEDDED.is_dir(), reason='no embedded model')
def test_multiplications_of_the_embedded_model():
    onnx = pytest.importorskip('onnx')
    onnxruntime = pytest.importorskip('onnxruntime')
    model = onnx.load(EMBEDDED / 'onnx' / 'vision_model_quantized.onnx')
    made = {name: node for node in model.graph.node for name in node.output}
    stored = {tensor.name: tensor.dims for tensor in model.graph.initializer}

    def shape(name):
        while name not in stored and name in made and made[name].input:
            name = made[name].input[0]
        return stored.get(name)

    nodes = [node for node in model.graph.node
             if node.op_type in WEIGHTS and shape(node.input[WEIGHTS[node.op_type]])]
    for node in nodes:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=['CPUExecutionProvider'])
    pixels = session.get_inputs()[0]
    kind = np.uint8 if pixels.type == 'tensor(uint8)' else np.float32
    side = json.loads((EMBEDDED / 'preprocessor_config.json').read_text('utf-8'))['size']['height']
    size = [1, *(n if isinstance(n, int) else side for n in pixels.shape[1:])]
    outputs = session.run([node.output[0] for node in nodes], {pixels.name: np.zeros(size, kind)})
    total = 0
    for node, output in zip(nodes, outputs, strict=True):
        weights = shape(node.input[WEIGHTS[node.op_type]])
        total += output.size * (np.prod(weights[1:]) if 'Conv' in node.op_type
                                else np.prod(weights) / output.shape[-1])
    assert total / 1e9 == pytest.approx(EMBEDDED_GMACS, rel=0.05), (
        'the embedded model is another one: set EMBEDDED_GMACS in models/recommended.py')
