#!/usr/bin/env bash
# Pillow destroys 16-bit images when it rotates or transforms them with interpolation. In mode
# I;16 the result of rotate(30, BILINEAR) holds values up to 255 only, as if one byte of each
# pixel were lost. NEAREST, the default, and right angles are correct, and so is resize with any
# filter. The size and the mode of the result are right, and there is no warning.
# Seen with pillow 11.3.0 and 13.0.0; after convert('F') the same call gives the right brightness.
# Misled: whoever turns 16-bit cutouts north up, or augments them by rotation for training. A
# stretch to the extremes of the result hides that the range is gone.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import sys

import numpy as np
from PIL import Image

pixels = np.full((64, 64), 1000, dtype=np.uint16)
pixels[20:44, 20:44] = 40000
image = Image.fromarray(pixels)
print('mode', image.mode, 'largest pixel', pixels.max(), 'at the centre', pixels[32, 32])
seen = {}
for name in ('NEAREST', 'BILINEAR', 'BICUBIC'):
    method = Image.Resampling[name]
    turned = np.asarray(image.rotate(30, method))
    float_turned = np.asarray(image.convert('F').rotate(30, method))
    moved = np.asarray(image.transform((64, 64), Image.Transform.AFFINE, (1, 0, .5, 0, 1, .5), method))
    resized = np.asarray(image.resize((48, 48), method))
    seen[name] = turned.max()
    print(f'{name}: rotated by 30 degrees {turned.max()}, centre {turned[32, 32]} '
          f'(as floats {float_turned.max():.0f}, centre {float_turned[32, 32]:.0f}), '
          f'moved by half a pixel {moved.max()}, resized {resized.max()}')
if seen['NEAREST'] != 40000:
    sys.exit('Unexpected: rotation without interpolation is wrong as well.')
if max(seen['BILINEAR'], seen['BICUBIC']) > 255:
    sys.exit('No longer seen: 16-bit images keep their range when they are rotated.')
EOF
