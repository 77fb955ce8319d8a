#!/usr/bin/env bash
# Pillow inverts a TIFF image whose zero means white if it has 8 bits, and leaves it as stored if
# it has 16 bits or holds floats. The tag (PhotometricInterpretation 0) says the same in each
# file: the value 0 is the brightest. So a scan saved in 8 bits appears as a positive, and the
# same scan saved in 16 bits as a negative. The tag, which Pillow keeps, does not tell whether it
# has been obeyed.
# Seen with pillow 11.3.0 and 13.0.0, on files written by tifffile, which reads all of them as
# stored.
# Misled: archives of scanned photographic plates whose files carry this tag. Dark stars on a
# bright sky for one depth and bright stars on a dark sky for the other end up in one index.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import io
import sys

import numpy as np
import tifffile
from PIL import Image

ramp = np.linspace(0, 1, 256).reshape(16, 16)
first = {}
for depth, pixels in (('8 bits', (ramp * 255).astype(np.uint8)), ('16 bits', (ramp * 65535).astype(np.uint16)),
                      ('float', ramp.astype(np.float32))):
    for photometric in ('minisblack', 'miniswhite'):
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, photometric=photometric)
        image = Image.open(io.BytesIO(file.getvalue()))
        read = np.asarray(image).astype(float)
        raw = tifffile.imread(io.BytesIO(file.getvalue()))
        first[depth, photometric] = read[0, 0]
        print(f'{depth}, {photometric} (tag {image.tag_v2[262]}): stored {pixels[0, 0]} to {pixels[-1, -1]}, '
              f'Pillow {read[0, 0]:.0f} to {read[-1, -1]:.0f}, tifffile {raw[0, 0]} to {raw[-1, -1]}')
if first['8 bits', 'miniswhite'] != 255:
    sys.exit('Unexpected: 8 bits are not inverted.')
if first['16 bits', 'miniswhite'] != 0:
    sys.exit('No longer seen: all depths are inverted alike.')
EOF
