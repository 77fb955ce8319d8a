#!/usr/bin/env bash
# Astropy compresses a float image to zeros when `quantize_level=0` is given, with no other
# option. A level of 0 means "do not quantise", which is lossless with GZIP. The default algorithm
# is RICE, which knows integers only, and astropy casts the floats to integers instead of
# refusing: an image with values below 1 is stored as 0 throughout, and NaN becomes -2147483648.
# Images of larger values lose their fractions.
# Seen with astropy 7.0.2 and 8.0.2. The only sign is numpy's warning about an invalid cast, where
# there are NaN.
# Misled: whoever asks for lossless compression of images in Jy or of probability maps. The file
# opens, has the right shape and type, and shows an empty sky with a few enormous negative pixels.
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

image = np.random.default_rng(1).normal(0, .001, (64, 64)).astype(np.float32)
image[5, 5] = np.nan
print(f'image: standard deviation {np.nanstd(image):.6f}, one NaN')


def there_and_back(**options):
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image, **options)]).writeto(file)
    return fits.open(io.BytesIO(file.getvalue()))[1].data


gzip = there_and_back(compression_type='GZIP_2', quantize_level=0)
rice = there_and_back(quantize_level=0)
default = there_and_back()
print('GZIP_2, level 0:          same pixels', np.array_equal(gzip, image, equal_nan=True))
print(f'RICE, default level:      largest error {np.nanmax(abs(default - image)):.6f}')
values, counts = np.unique(rice, return_counts=True)
print('RICE, level 0:            values', dict(zip(values.tolist(), counts.tolist())))
if not np.array_equal(gzip, image, equal_nan=True):
    sys.exit('Unexpected: GZIP is not lossless either.')
if len(values) > 2 or np.isnan(rice).any():
    sys.exit('No longer seen: RICE with quantize_level=0 keeps the image.')
EOF
