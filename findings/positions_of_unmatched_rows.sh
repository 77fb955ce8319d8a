#!/usr/bin/env bash
# SkyCoord of astropy drops the mask of table columns. A left join leaves the positions of
# unmatched rows masked, and below the mask lie those of the first row of the other table.
# SkyCoord(table['ra'], table['dec']), and likewise SkyCoord.guess_from_table, makes real
# positions of them. A cross-match then finds the first catalogue source at a distance of exactly
# zero for every row that had no position.
# Seen with astropy 7.0.2 and 8.0.2, without a warning; the same columns of a QTable keep their
# mask, because there they are masked quantities.
# Misled: whoever joins observations with a catalogue and goes on with the coordinates. Unknown
# targets all move to one place on the sky, and the separation says that the match is perfect.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    astropy==8.0.2 scipy==1.17.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import sys

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table, join

observations = Table({'target': ['A', 'B', 'C', 'D']})
catalogue = Table({'target': ['A', 'C'], 'ra': [10., 50.] * u.deg, 'dec': [0., 5.] * u.deg})
joined = join(observations, catalogue, 'target', join_type='left')
print(joined)
coords = SkyCoord(joined['ra'], joined['dec'])
guessed = SkyCoord.guess_from_table(joined)
index, separation, _ = coords.match_to_catalog_sky(SkyCoord(catalogue['ra'], catalogue['dec']))
for row, target in enumerate(joined['target']):
    print(f'{target}: SkyCoord {coords[row].to_string()}, guess_from_table {guessed[row].to_string()}, '
          f'matched with {catalogue["target"][index[row]]} at {separation[row].arcsec} arcsec')
table = QTable(joined)
masked = getattr(SkyCoord(table['ra'], table['dec']).ra, 'mask', np.zeros(4, bool))
print('masked if made from a QTable:', np.asarray(masked).tolist())
if joined['ra'].mask.tolist() != [False, True, False, True]:
    sys.exit('Unexpected: the join does not mask unmatched rows.')
if not (separation[1] == 0 and catalogue['target'][index[1]] == 'A'):
    sys.exit('No longer seen: rows without a position match no source.')
EOF
