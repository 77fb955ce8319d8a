#!/usr/bin/env bash
# `SkyCoord.contained_by` and `WCS.footprint_contains` of astropy cut the image off by half a
# pixel on one side and add half a pixel on the other. Pixel centres lie at integers, so an image
# of n pixels ends at -0.5 and n - 0.5. Both functions test for 0 < x < n. A source in the left
# half of the first pixel is outside, and one beyond the right edge is inside. If the WCS has no
# array_shape, as any that was built by hand, the answer is False everywhere, for the centre as
# well.
# Seen with astropy 7.0.2 and 8.0.2.
# Misled: a service that asks which images hold a source. On coarse images, such as all-sky maps
# of a few dozen pixels, half a pixel is degrees wide; without array_shape nothing matches.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import sys

from astropy.wcs import WCS

wcs = WCS(naxis=2)
wcs.wcs.ctype = ['RA---TAN', 'DEC--TAN']
wcs.wcs.crval = [10, 20]
wcs.wcs.crpix = [5.5, 5.5]
wcs.wcs.cdelt = [-.001, .001]
centre = wcs.pixel_to_world(4.5, 4.5)
blind = bool(centre.contained_by(wcs))
print('no array_shape, the centre:', blind)
wcs.array_shape = (10, 10)
print('ten pixels wide, x from -0.5 to 9.5:')
seen = {}
for x in (-.6, -.4, -.1, .1, 4.5, 9.4, 9.6, 9.9, 10.1):
    coord = wcs.pixel_to_world(x, 4.5)
    seen[x] = bool(coord.contained_by(wcs))
    same = bool(wcs.footprint_contains(coord)) == seen[x]
    wrong = '' if seen[x] == (-.5 < x < 9.5) else '   wrong'
    print(f'   x = {x:4}: {seen[x]!s:5} (footprint_contains the same: {same}){wrong}')
if not seen[4.5]:
    sys.exit('Unexpected: the centre is outside.')
if seen[-.4] or not seen[9.6] or blind:
    sys.exit('No longer seen: the footprint ends at the edges of the outer pixels.')
EOF
