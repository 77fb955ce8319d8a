#!/usr/bin/env bash
# Three HEALPix libraries give a position of NaN three different cells, and two of the cells are
# real. healpy and cdshealpix return an ordinary pixel number somewhere on the sky, of which
# nothing says that it stands for no position; astropy-healpix returns -1, which numpy takes for
# the last pixel of a map. At most a warning about an invalid value is issued.
# Seen with healpy 1.18.1 and 1.20.1, cdshealpix 0.7.1 and 0.9.0, and astropy-healpix 1.1.2 and
# 2.0.1 on x86_64; the numbers themselves may depend on the processor.
# Misled: whoever counts sources or observations by cell. All rows without a position pile up in
# one cell, which shows as an overdensity, or as coverage of a place that nobody has looked at.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    healpy==1.20.1 cdshealpix==0.9.0 astropy-healpix==2.0.1 astropy==8.0.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import sys
import warnings

import astropy.units as u
import cdshealpix
import healpy
import numpy as np
from astropy_healpix import HEALPix

lon, lat = np.array([np.nan, 10.]), np.array([0., 20.])
nside, npix = 64, healpy.nside2npix(64)
cells = {}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    cells['healpy'] = healpy.ang2pix(nside, lon, lat, lonlat=True, nest=True)
    cells['cdshealpix'] = cdshealpix.lonlat_to_healpix(lon * u.deg, lat * u.deg, 6)
    cells['astropy-healpix'] = HEALPix(nside, order='nested').lonlat_to_healpix(lon * u.deg, lat * u.deg)
for name, cell in cells.items():
    print(f'{name}: longitude NaN lies in cell {int(cell[0])}, longitude 10 in cell {int(cell[1])} of {npix}')
print('warnings:', sorted({str(item.message) for item in caught}))
if len({int(cell[1]) for cell in cells.values()}) > 1:
    sys.exit('Unexpected: the libraries disagree about a good position.')
real = [name for name, cell in cells.items() if 0 <= int(cell[0]) < npix]
if len(real) < 2:
    sys.exit('No longer seen: NaN lies in no cell.')
EOF
