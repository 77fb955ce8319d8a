#!/usr/bin/env bash
# ONNX Runtime reads arrays of the other byte order as if they were native. An array with dtype
# '>f4' passes the type check for float tensors, and its bytes are then used without swapping.
# FITS stores numbers in big-endian order, and astropy hands them on in that order. So an image or
# an embedding that goes straight from a FITS file into a session becomes noise, without an
# exception or a warning. Integers suffer likewise: a 64-bit token id of 1 arrives as
# 72057594037927936. Numpy arithmetic on the same array is right, so a check before the session
# sees nothing wrong.
# Seen with onnxruntime 1.28.0 and 1.32.0 and with astropy 7.0.2 and 8.0.2, on a little-endian
# machine.
# Misled: anyone who feeds FITS pixels or a FITS column of vectors to a model without
# `astype(np.float32)`; with it, the values are right.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 astropy==8.0.2
"$dir/venv/bin/python" - <<'EOF'
import io
import os
import sys

os.environ['ORT_DISABLE_TELEMETRY'] = '1'
import numpy as np
import onnxruntime
from astropy.io import fits
from onnx import TensorProto, helper


def doubler(kind):
    graph = helper.make_graph(
        [helper.make_node('Add', ['x', 'x'], ['y'])], 'doubler',
        [helper.make_tensor_value_info('x', kind, ['rows', 4])],
        [helper.make_tensor_value_info('y', kind, ['rows', 4])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    return lambda x: session.run(None, {'x': x})[0]


file = io.BytesIO()
fits.PrimaryHDU(np.array([[1, 2, 3, 4]], dtype=np.float32)).writeto(file)
image = fits.open(io.BytesIO(file.getvalue()))[0].data
double = doubler(TensorProto.FLOAT)
print('pixels in the file:      ', image[0], image.dtype.str)
print('doubled by numpy:        ', (image + image)[0])
wrong = double(image)
print('doubled by the session:  ', wrong[0])
right = double(image.astype(np.float32))
print('after astype(float32):   ', right[0])
ids = doubler(TensorProto.INT64)(np.array([[1, 2, 3, 4]], dtype='>i8'))
print('integers 1 2 3 4 doubled:', ids[0])
if not np.array_equal(right, image * 2):
    sys.exit('Unexpected: the native array is not doubled either.')
if np.array_equal(wrong, right) or np.array_equal(ids, [[2, 4, 6, 8]]):
    sys.exit('No longer seen: ONNX Runtime minds the byte order now.')
EOF
