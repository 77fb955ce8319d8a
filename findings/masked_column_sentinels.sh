#!/usr/bin/env bash
# Astropy writes a masked integer column to FITS with the column's fill value as TNULL, and does
# not look whether that value occurs among the good ones. If it does, good values come back
# masked. For int32 and int64 the default is 999999, and the same number is cut to the narrower
# types: 16959 for 16 bits, 63 for a byte. So one gap in a column of bytes hides every 63.
# A masked boolean has no null at all: it comes back as True, though False was stored below the
# mask.
# Seen with astropy 7.0.2 and 8.0.2; the same columns pass through VOTable (the default,
# TABLEDATA) unharmed.
# Misled: whoever keeps quality flags, counts or small codes with gaps in FITS tables. A filter on
# "flag == 63" finds nothing, and "is_variable" turns true for sources never looked at.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import io
import sys

import numpy as np
from astropy.table import MaskedColumn, Table


def there_and_back(column, form):
    file = io.BytesIO()
    Table({'c': column}).write(file, format=form)
    return Table.read(io.BytesIO(file.getvalue()), format=form)['c'].tolist()


gap = [False, True, False]
lost = []
for kind, value in (('uint8', 63), ('int16', 16959), ('int32', 999999)):
    column = MaskedColumn(np.array([value, 1, 2], dtype=kind), mask=gap)
    fits, votable = (there_and_back(column, form) for form in ('fits', 'votable'))
    lost.append(fits[0] is None)
    print(f'{kind}: {column.tolist()} becomes {fits} by FITS, {votable} by VOTable')
flag = MaskedColumn([False, False, False], mask=gap)
fits, votable = (there_and_back(flag, form) for form in ('fits', 'votable'))
print(f'bool: {flag.tolist()} becomes {fits} by FITS, {votable} by VOTable')
if not (all(lost) and fits[1] is True):
    sys.exit('No longer seen: FITS keeps good values apart from missing ones.')
EOF
