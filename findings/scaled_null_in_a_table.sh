#!/usr/bin/env bash
# In a FITS table a column of integers can be scaled (TSCALn, TZEROn) and have a value that stands for
# nothing (TNULLn, which counts stored integers). astropy scales the null like a measurement: the
# cell comes back as TZERO + TSCAL * TNULL, a finite float. Table.read masks nothing either. Frames
# and maps that are stored as scaled integers in a table (a HEALPix map, a stack of cutouts) so get a
# floor far below the sky, and limits or means that are taken over all finite values follow it. In an
# unscaled column the null is masked by Table.read.
# Seen with astropy 8.0.2.
# Misled: anyone who trusts isfinite, or the mask, for a scaled column.
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
from astropy.table import Table


def written(**scaling):
    stored = np.array([100, -16384, 120], dtype='>i2')
    hdu = fits.BinTableHDU.from_columns([fits.Column('FLUX', 'I', array=stored)])
    hdu.header['TNULL1'] = -16384
    hdu.header.update(scaling)
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(stream)
    return io.BytesIO(stream.getvalue())


plain = Table.read(written(), hdu=1)['FLUX']
scaled = Table.read(written(TSCAL1=0.5, TZERO1=10.0), hdu=1)['FLUX']
with fits.open(written(TSCAL1=0.5, TZERO1=10.0)) as hdus:
    values = np.array(hdus[1].data['FLUX'])
print('stored:                   100, nothing, 120')
print('unscaled, by Table.read: ', list(plain))
print('scaled, by Table.read:   ', list(scaled))
print('scaled, by astropy.io:   ', values.tolist())
if not np.ma.is_masked(plain[1]):
    sys.exit('Unexpected: the null of an unscaled column is not masked.')
if np.isnan(values[1]) or np.ma.is_masked(scaled[1]):
    sys.exit('No longer seen: the null of a scaled column is told.')
EOF
