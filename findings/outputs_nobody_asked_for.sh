#!/usr/bin/env bash
# ONNX Runtime computes every output of a graph, whichever outputs `run` is asked for. The list of
# output names decides only what is handed back. `RunOptions.only_execute_path_to_fetches`, whose
# name promises otherwise, changes nothing in the packages of the index. A vision tower that gives
# its patches beside the image embedding, as many exported CLIP towers do (`last_hidden_state`
# beside `image_embeds`), therefore pays for the patches of each image, although only the embedding
# is wanted. What does help is an `If` around the second output, or a file of its own.
# Seen with onnxruntime 1.31.0 and 1.32.0 on the CPU.
# Misled: anyone who names one output to save the work of the others, or who adds a map of places to
# an image tower and believes that searches without maps stay as fast as they were.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'EOF'
import json
import os
import sys

os.environ['ORT_DISABLE_TELEMETRY'] = '1'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
weights = [numpy_helper.from_array(rng.normal(size=(64, 8)).astype(np.float32), name)
           for name in ('to_image', 'to_patches')]
nodes = [helper.make_node('ReduceMean', ['patches'], ['pooled'], 'pool', axes=[1], keepdims=0),
         helper.make_node('MatMul', ['pooled', 'to_image'], ['image_embeds'], 'image_product'),
         helper.make_node('MatMul', ['patches', 'to_patches'], ['patch_embeds'], 'patch_product')]
graph = helper.make_graph(
    nodes, 'tower', [helper.make_tensor_value_info('patches', TensorProto.FLOAT, ['n', 49, 64])],
    [helper.make_tensor_value_info('image_embeds', TensorProto.FLOAT, ['n', 8]),
     helper.make_tensor_value_info('patch_embeds', TensorProto.FLOAT, ['n', 49, 8])], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=10)
images = rng.normal(size=(2, 49, 64)).astype(np.float32)


def computed(asked, only_path=False):
    """Names of the products that ran."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    how = onnxruntime.RunOptions()
    how.only_execute_path_to_fetches = only_path
    session.run(asked, {'patches': images}, how)
    with open(session.end_profiling()) as file:
        events = json.load(file)
    return sorted({event['name'].split('_kernel')[0] for event in events
                   if event['name'].endswith('product_kernel_time')})


both = ['image_product', 'patch_product']
seen = [computed(None), computed(['image_embeds']), computed(['image_embeds'], True)]
for what, names in zip(('all outputs:               ', 'image_embeds alone:        ',
                        'the same, only its path:   '), seen, strict=True):
    print(what, ', '.join(names))
sys.exit(seen != [both] * 3)
EOF
