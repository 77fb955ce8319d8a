#!/usr/bin/env bash
# PyVO answers a missing integer with 0 and a missing boolean with False when a result is read row
# by row. Each record takes its values from below the mask of the masked array, and under the mask
# of an empty integer cell lies a zero. The same column, read as a whole with `results['name']` or
# through `to_table()`, is masked where it should be. Nothing in the record tells the zero of the
# service from the zero of the gap.
# Seen with pyvo 1.6.2 and 1.9.1, with astropy 7.0.2 and 8.0.2.
# Misled: a program that loops over TAP or SIA records. It takes an unknown calibration level for
# raw data, an unknown number of pixels for none, and an unknown flag for "no".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    pyvo==1.9.1 astropy==8.0.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import io
import sys

import numpy as np
from astropy.io.votable import parse
from pyvo.dal.tap import TAPResults

VOTABLE = b"""<?xml version="1.0"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">
<INFO name="QUERY_STATUS" value="OK"/><TABLE>
<FIELD name="obs_id" datatype="char" arraysize="*"/>
<FIELD name="calib_level" datatype="int"/>
<FIELD name="released" datatype="boolean"/>
<FIELD name="t_exptime" datatype="double"/>
<DATA><TABLEDATA>
<TR><TD>raw frame</TD><TD>0</TD><TD>F</TD><TD>0</TD></TR>
<TR><TD>unknown</TD><TD/><TD/><TD/></TR>
</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""
results = TAPResults(parse(io.BytesIO(VOTABLE)))
print(results.to_table())
seen = {}
for name in ('calib_level', 'released', 't_exptime'):
    column, record = results[name], results[1][name]
    seen[name] = record
    print(f'{name}: by column {column[1]}, by record {record!r}')
if not np.ma.is_masked(results['calib_level'][1]):
    sys.exit('Unexpected: the column is not masked either.')
if np.ma.is_masked(seen['calib_level']) or seen['calib_level'] is None or seen['calib_level'] != 0:
    sys.exit('No longer seen: the record tells a missing integer from 0.')
EOF
