#!/usr/bin/env bash
# `Cutout2D.to_original_position` of astropy is off when a cutout with mode='partial' reaches over
# the left or lower edge, by as many pixels as it hangs over. `to_cutout_position` errs the other
# way round. Both start from the first pixel that the image really has, and forget the padding
# before it. The pixels and the WCS of the cutout are right, so the two ways to find a source in
# it disagree.
# Seen with astropy 7.0.2 and 8.0.2. Over the right or upper edge both are right.
# Misled: whoever marks detections made in cutouts on the original image, or the other way round.
# Only sources close to two of the four edges are wrong, and they are wrong by a plausible amount.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import sys

import numpy as np
from astropy.nddata import Cutout2D

image = np.arange(400.).reshape(20, 20)
off = {}
for corner, (x, y) in {'lower left': (2, 3), 'middle': (10, 10), 'upper right': (17, 16)}.items():
    cutout = Cutout2D(image, (x, y), (11, 11), mode='partial')
    inside = np.argwhere(cutout.data == image[y, x])[0][::-1].tolist()  # where the pixel is indeed
    original = [int(i) for i in cutout.to_original_position(inside)]
    there = [int(i) for i in cutout.to_cutout_position((x, y))]
    off[corner] = original != [x, y]
    print(f'{corner}: pixel {[x, y]} lies at {inside} in the cutout; '
          f'to_original_position says {original}, to_cutout_position says {there}')
if off['middle'] or off['upper right']:
    sys.exit('Unexpected: positions are wrong elsewhere as well.')
if not off['lower left']:
    sys.exit('No longer seen: to_original_position reckons with the padding.')
EOF
