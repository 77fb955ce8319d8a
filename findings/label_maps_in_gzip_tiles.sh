#!/usr/bin/env bash
# Astropy rounds the pixels of a float image before it compresses its tiles, whatever the
# algorithm: GZIP, which is lossless, and even NOCOMPRESS. The default level is a sixteenth of the
# noise, which is estimated from neighbouring pixels. That is harmless for sky with noise. A map
# of labels, identifiers or quality bits kept as floats has no noise, so its edges are taken for
# it and the step gets large.
# Seen with astropy 7.0.2 and 8.0.2: in a map of 40 labelled disks, a quarter of all pixels
# change, by up to 17, and nearly a fifth belong to another label after rounding. With
# quantize_level=0, GZIP is exact.
# Misled: whoever chooses GZIP in order to be lossless, or compresses a segmentation map along
# with the image. Sources exchange pixels, and background turns into sources.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import io
import sys

import numpy as np
from astropy.io import fits

rng = np.random.default_rng(3)
y, x = np.mgrid[:200, :200]
labels = np.zeros((200, 200), dtype=np.float32)
for label in range(1001, 1041):
    where, radius = rng.integers(0, 200, 2), rng.integers(5, 15)
    labels[(y - where[0])**2 + (x - where[1])**2 < radius**2] = label


def there_and_back(**options):
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(labels, **options)]).writeto(file)
    return fits.open(io.BytesIO(file.getvalue()))[1].data


changed = {}
for options in ({'compression_type': 'GZIP_1'}, {'compression_type': 'GZIP_2'},
                {'compression_type': 'NOCOMPRESS'}, {'compression_type': 'GZIP_2', 'quantize_level': 0}):
    back = there_and_back(**options)
    wrong = np.mean(np.rint(back) != labels)
    changed[tuple(options.values())] = wrong
    print(f'{options}: largest error {abs(back - labels).max():.2f}, other pixels '
          f'{np.mean(back != labels):.1%}, other labels {wrong:.1%}')
if changed['GZIP_2', 0]:
    sys.exit('Unexpected: GZIP without quantisation changes labels as well.')
if not (changed['GZIP_2',] > .01 and changed['NOCOMPRESS',] > .01):
    sys.exit('No longer seen: GZIP tiles keep float labels.')
EOF
