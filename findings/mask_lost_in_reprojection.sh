#!/usr/bin/env bash
# Reproject ignores masks. A CCDData object carries its mask and the function accepts the object,
# but takes the pixels and the WCS only. A masked array in a tuple fares likewise. Saturated or
# dead pixels come back as ordinary values, spread over the pixels around them, and the footprint
# says 1. Undefined pixels must be NaN in the data for reproject to see them.
# Seen with reproject 0.14.1 and 0.21.0; interpolation, the adaptive and the exact method agree.
# Misled: whoever reduces images with CCDData, masks what is bad and then aligns or mosaics. The
# bad pixels are back in the coadd, and the mask that would tell has another grid by then.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    reproject==0.21.0 astropy==8.0.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import sys

import numpy as np
from astropy.nddata import CCDData
from astropy.wcs import WCS
from reproject import reproject_adaptive, reproject_exact, reproject_interp

wcs = WCS(naxis=2)
wcs.wcs.ctype = ['RA---TAN', 'DEC--TAN']
wcs.wcs.crval = [30, 0]
wcs.wcs.crpix = [25, 25]
wcs.wcs.cdelt = [-.001, .001]
target = wcs.deepcopy()
target.wcs.crpix = [25.25, 25.25]
pixels = np.ones((50, 50))
pixels[20:23, 20:23] = 65535
mask = pixels > 1
ccd = CCDData(pixels, unit='adu', mask=mask, wcs=wcs)
worst = []
for function in (reproject_interp, reproject_adaptive, reproject_exact):
    for title, source in (('CCDData', ccd), ('masked array', (np.ma.array(pixels, mask=mask), wcs)),
                          ('NaN', (np.where(mask, np.nan, pixels), wcs))):
        image, footprint = function(source, target, shape_out=(50, 50))
        largest = np.nanmax(np.asarray(image))
        print(f'{function.__name__}, {title}: largest pixel {largest:.0f}, '
              f'NaN {np.isnan(image).sum()}, footprint at the bad pixels {footprint[21, 21]:.0f}')
        if title == 'NaN':
            if largest > 1.001:
                sys.exit('Unexpected: NaN does not keep the pixels out either.')
        else:
            worst.append(largest)
if min(worst) < 1000:
    sys.exit('No longer seen: masked pixels are left out.')
EOF
