#!/usr/bin/env bash
# `Table.read` of astropy turns a Parquet column of 64-bit integers into float64 as soon as one
# value is missing. Floats hold 53 bits, so long identifiers lose their last digits and neighbours
# become equal. The gap is NaN and the column is not masked. The same file without a gap is read
# exactly. Parquet itself keeps the null apart from the numbers; it is lost between pyarrow and
# numpy.
# Seen with astropy 7.0.2 and 8.0.2, pyarrow 18.1.0 and 26.0.1.
# Misled: whoever joins by Gaia source_id, by order-29 HEALPix index (the key of HATS catalogues)
# or by any 64-bit key after a left join has left gaps in it. Rows match the wrong source, or
# none.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    astropy==8.0.2 pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6
WORKDIR="$dir" "$dir/venv/bin/python" - <<'EOF'
import os
import sys
import warnings

import pyarrow
from astropy.table import Table
from pyarrow import parquet

ids = [4611686018427387905, 4611686018427387907, 4611686018427387909]
seen = []
for title, values in (('complete', ids), ('one gap', [*ids, None])):
    path = os.path.join(os.environ['WORKDIR'], 'ids.parquet')
    parquet.write_table(pyarrow.table({'source_id': pyarrow.array(values, pyarrow.int64())}), path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        column = Table.read(path)['source_id']
    good = [int(value) for value in column[:3]]
    seen.append(good)
    print(f'{title}: {column.dtype}, {len(set(good))} different identifiers, first {good[0]}, '
          f'masked {getattr(column, "mask", None) is not None}, warnings {len(caught)}')
if seen[0] != ids:
    sys.exit('Unexpected: the complete column is not exact either.')
if seen[1] == ids:
    sys.exit('No longer seen: identifiers next to a gap are exact.')
EOF
