#!/usr/bin/env bash
# Astropy does not apply two valid forms of the BLANK keyword, which marks undefined pixels of
# integer images. BLANK = 0 is taken for "no BLANK". And an image of unsigned integers (BZERO =
# 32768) is read along a path of its own that never asks for BLANK. The undefined pixels come out
# as ordinary values. Any other BLANK turns them into NaN, and so does uint=False for the unsigned
# image.
# Seen with astropy 7.0.2 and 8.0.2.
# Misled: readers of scanned plates and scaled survey images in which 0 marks the area without
# data. The border then counts as sky, drags the percentiles of a stretch down, and enters sums.
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


def read(stored, blank, bscale=1., bzero=0., **options):
    """An image as astropy reads it, from bytes that are put together by hand."""
    cards = ['SIMPLE  =                    T', 'BITPIX  =                   16',
             'NAXIS   =                    2', f'NAXIS1  = {len(stored):20d}', 'NAXIS2  =                    1',
             f'BSCALE  = {bscale:20}', f'BZERO   = {bzero:20}', f'BLANK   = {blank:20d}', 'END']
    header = ''.join(card.ljust(80) for card in cards).encode().ljust(2880)
    data = np.array(stored, dtype='>i2').tobytes().ljust(2880, b'\0')
    return fits.open(io.BytesIO(header + data), **options)[0].data[0]


seven = read([7, 0, 100], blank=7, bscale=.5)
zero = read([7, 0, 100], blank=0, bscale=.5)
print('stored 7 0 100, BSCALE 0.5, BLANK 7:                  ', seven)
print('stored 7 0 100, BSCALE 0.5, BLANK 0:                  ', zero)
unsigned = read([-32768, -32767, 0], blank=-32768, bzero=32768.)
floats = read([-32768, -32767, 0], blank=-32768, bzero=32768., uint=False)
print('stored -32768 -32767 0, BZERO 32768, BLANK -32768:    ', unsigned, unsigned.dtype)
print('the same with uint=False:                             ', floats)
if not (np.isnan(seven[0]) and np.isnan(floats[0])):
    sys.exit('Unexpected: BLANK is not applied in the plain cases either.')
if np.isnan(zero[1]) or unsigned.dtype != np.uint16 or np.ma.is_masked(unsigned):
    sys.exit('No longer seen: BLANK is applied when it is 0 and to unsigned integers.')
EOF
