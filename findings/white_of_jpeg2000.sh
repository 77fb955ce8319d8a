#!/usr/bin/env bash
# Pillow reads colours of 16 bits in a JPEG 2000 file as 8 bits. It rounds in doing so, and the sum
# overflows: values from 65408 up become 0 in place of 255. The brightest parts of a picture, the cores
# of stars and whatever is saturated, turn black, or take the colour of what is left. 65407 is still
# 255. Files of one grey channel keep their 16 bits and are right.
# JPEG 2000 is what solar and planetary archives deliver, and 16 bits are common there.
# Seen with Pillow 10.3.0 and 13.0.0.
# Misled: anyone who shows such a file, or embeds it, through Pillow; openjpeg itself gives all bits.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    pillow==13.0.0 imagecodecs==2026.3.6 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import io
import sys

import imagecodecs
import numpy as np
from PIL import Image

levels = np.array([0, 32768, 65000, 65407, 65408, 65535], np.uint16)
colours = np.repeat(np.repeat(levels[None, :, None], 8, axis=0), 3, axis=2)
content = imagecodecs.jpeg2k_encode(np.repeat(colours, 8, axis=1), level=0, reversible=True)
true = imagecodecs.jpeg2k_decode(content)[0, 4::8, 0]
seen = np.asarray(Image.open(io.BytesIO(content)))[0, 4::8, 0]
print('in the file:', true.tolist())
print('by Pillow:  ', seen.tolist())
if not np.array_equal(true, levels):
    sys.exit('Unexpected: the file does not hold these values.')
if seen[-1] == 255:
    sys.exit('No longer seen: white is white.')
EOF
