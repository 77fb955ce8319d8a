#!/usr/bin/env bash
# A model quantised with `quantize_dynamic` of ONNX Runtime gives one input different embeddings
# in different batches. DynamicQuantizeLinear finds one scale for the whole activation tensor,
# hence for all rows of the batch. One row with large values coarsens the eight bits of every
# other row. The float model gives the same vector whatever the company.
# Seen with onnxruntime 1.28.0 and 1.32.0 on a CPU: with a companion 30 times as large, the cosine
# of a row's embeddings alone and in company is 0.989, with one 100 times as large 0.94.
# Misled: whoever embeds an archive in batches and the query alone, or caches embeddings by their
# input. The index then holds vectors which nobody can reproduce, and the ranking depends on the
# batch size and on the order of the rows.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
WORKDIR="$dir" "$dir/venv/bin/python" - <<'EOF'
import logging
import os
import sys
import tempfile

os.environ['ORT_DISABLE_TELEMETRY'] = '1'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

logging.disable(logging.WARNING)
rng = np.random.default_rng(7)
first = rng.normal(size=(64, 256)).astype(np.float32) / 8
second = rng.normal(size=(256, 32)).astype(np.float32) / 16
graph = helper.make_graph(
    [helper.make_node('MatMul', ['x', 'first'], ['a']), helper.make_node('Relu', ['a'], ['b']),
     helper.make_node('MatMul', ['b', 'second'], ['y'])], 'tower',
    [helper.make_tensor_value_info('x', TensorProto.FLOAT, ['rows', 64])],
    [helper.make_tensor_value_info('y', TensorProto.FLOAT, ['rows', 32])],
    [numpy_helper.from_array(first, 'first'), numpy_helper.from_array(second, 'second')])
folder = tempfile.mkdtemp(dir=os.environ['WORKDIR'])
full, eight = os.path.join(folder, 'full.onnx'), os.path.join(folder, 'eight.onnx')
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 21)], ir_version=10), full)
quantize_dynamic(full, eight, weight_type=QuantType.QInt8)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


sessions = [onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider']) for path in (full, eight)]
row = rng.normal(size=(1, 64)).astype(np.float32)
other = rng.normal(size=(1, 64)).astype(np.float32)
print('companion    float model    int8 model    (cosine of the same row, alone and in company)')
for scale in (1, 10, 30, 100):
    batch = np.vstack([row, scale * other])
    same = [cosine(s.run(None, {'x': row})[0][0], s.run(None, {'x': batch})[0][0]) for s in sessions]
    print(f'x {scale:<10} {same[0]:.6f}       {same[1]:.6f}')
if same[0] < .99999:
    sys.exit('Unexpected: the float model depends on the batch as well.')
if same[1] > .99:
    sys.exit('No longer seen: the quantised model gives a row the same embedding in any batch.')
EOF
