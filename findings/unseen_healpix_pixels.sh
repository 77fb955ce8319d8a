#!/usr/bin/env bash
# `reproject_from_healpix` takes the mark of unobserved HEALPix pixels for a measurement. Healpix
# maps hold -1.6375e30 (UNSEEN) where nothing was observed. The function interpolates between
# neighbours and so spreads the mark over the good pixels around it. Their values are huge,
# negative and finite, and their footprint is 1, the sign of full coverage.
# Seen with reproject 0.14.1 and 0.21.0, for maps in memory and in files written by healpy 1.18.1
# and 1.20.1.
# Misled: whoever projects a partial survey or a masked CMB map and relies on NaN or on the
# footprint. The minimum of such an image, and every sum over it, is about -1e30.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    reproject==0.21.0 healpy==1.20.1 astropy==8.0.2 numpy==2.4.6
WORKDIR="$dir" "$dir/venv/bin/python" - <<'EOF'
import os
import sys

import healpy
import numpy as np
from astropy.wcs import WCS
from reproject import reproject_from_healpix

nside = 32
sky = np.ones(healpy.nside2npix(nside))
sky[healpy.ang2pix(nside, 100, 30, lonlat=True)] = healpy.UNSEEN
target = WCS(naxis=2)
target.wcs.ctype = ['GLON-CAR', 'GLAT-CAR']
target.wcs.crval = [100, 0]
target.wcs.crpix = [20, -10]
target.wcs.cdelt = [-1, 1]
path = os.path.join(os.environ['WORKDIR'], 'sky.fits')
healpy.write_map(path, sky, coord='G', dtype=np.float64)
spoilt = []
for title, source, options in (('array', (sky, 'galactic'), {'nested': False}), ('file', path, {})):
    image, footprint = reproject_from_healpix(source, target, shape_out=(40, 40), **options)
    bad = image < -1
    spoilt.append(bad.sum())
    print(f'{title}: 1 of {len(sky)} map pixels is unobserved; {bad.sum()} image pixels are below -1, '
          f'the least is {np.nanmin(image):.3g}, NaN: {np.isnan(image).sum()}, '
          f'their footprint: {footprint[bad].min() if bad.any() else None}')
if not min(spoilt):
    sys.exit('No longer seen: unobserved pixels are left out.')
EOF
