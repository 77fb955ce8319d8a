#!/usr/bin/env bash
# The regions package keeps shapes when it turns sky regions into pixel regions: a circle stays a
# circle and a rectangle a rectangle. On pixels that are not square neither is true. The circle
# gets the right area, and is too short along the fine axis and too long along the coarse one. The
# rotated rectangle gets another angle and other sides, while its true image is a slanted
# parallelogram. Back on the sky both are exact, so a round trip shows no error.
# Seen with regions 0.12 and astropy 8.0.2, pixels of 1 x 2: a circle with a radius of 20 fine
# pixels is cut to 14.1, and the corners of a rectangle of 60 x 20 fine pixels are off by up to
# 5.7 pixels. With regions 0.10 the circle is cut to 10, and the corners are off by up to 14.
# Misled: users of long-slit, echelle, radio and all-sky images with oblong pixels who measure
# within such regions or filter by them.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    regions==0.12 astropy==8.0.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import sys

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from regions import CircleSkyRegion, RectangleSkyRegion

centre = SkyCoord(30, 0, unit='deg')
angle = 45 * u.deg
errors = {}
for height in (.001, .002):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ['RA---TAN', 'DEC--TAN']
    wcs.wcs.crval = [30, 0]
    wcs.wcs.crpix = [101, 101]
    wcs.wcs.cdelt = [-.001, height]
    wcs.array_shape = (201, 201)
    circle = CircleSkyRegion(centre, .02 * u.deg).to_pixel(wcs)
    rectangle = RectangleSkyRegion(centre, .06 * u.deg, .02 * u.deg, angle)
    pixel = rectangle.to_pixel(wcs)
    # The corners by plain trigonometry, in degrees from the centre: the field is tiny, on the equator.
    side = np.array([[-.03, -.01], [.03, -.01], [.03, .01], [-.03, .01]])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = 100 + side @ turn / [.001, height]
    off = np.array([np.linalg.norm(pixel.corners - corner, axis=1).min() for corner in corners])
    back = pixel.to_sky(wcs)
    errors[height] = off.max(), circle.radius
    print(f'pixels 0.001 x {height} deg: circle of 20 x {.02 / height:.0f} pixels has radius '
          f'{circle.radius:.1f}; corners of the rectangle off by up to {off.max():.1f} pixels; '
          f'back on the sky {back.width.to_value("deg"):.3f} x {back.height.to_value("deg"):.3f}, '
          f'{back.angle.to_value("deg"):.1f} deg')
if errors[.001][0] > .1:
    sys.exit('Unexpected: the corners are off on square pixels as well.')
if errors[.002][0] < 1 or abs(errors[.002][1] - 20) < 1:
    sys.exit('No longer seen: regions follow the shape of the pixels.')
EOF
