#!/usr/bin/env bash
# Astropy writes a table column of signed bytes (int8) to FITS as a column of booleans. Binary
# tables have an unsigned byte (B) and a logical (L), and no signed byte; numpy calls int8 'i1',
# which astropy maps to L. Every value other than zero comes back as True. There is no warning on
# the way out or in. An image of int8 is safe: there astropy uses the convention of BZERO = -128.
# Seen with astropy 7.0.2 and 8.0.2 for a column of vectors.
# Misled: anyone who stores embeddings quantised to int8, class labels with -1 for "none", or
# small signed flags in a FITS table. The file keeps its shape and size, and the numbers are gone.
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

vectors = np.array([[-128, -1, 0, 127], [5, 0, -7, 1]], dtype=np.int8)
file = io.BytesIO()
Table({'embedding': vectors}).write(file, format='fits')
back = Table.read(io.BytesIO(file.getvalue()), format='fits')['embedding']
print('written:     ', vectors.tolist(), vectors.dtype)
print('read back:   ', back.tolist(), back.dtype)
print('TFORM1 is    ', fits.open(io.BytesIO(file.getvalue()))[1].header['TFORM1'])
image = io.BytesIO()
fits.PrimaryHDU(vectors).writeto(image)
kept = fits.open(io.BytesIO(image.getvalue()))[0].data
print('as an image: ', kept.tolist(), kept.dtype)
if not np.array_equal(kept, vectors):
    sys.exit('Unexpected: the image loses its values as well.')
if back.dtype != bool:
    sys.exit('No longer seen: int8 columns survive FITS.')
EOF
