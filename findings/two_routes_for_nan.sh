#!/usr/bin/env bash
# DuckDB answers the same query differently, depending on whether an array reaches it through
# pandas or numpy or as an Arrow table. On the way from pandas and numpy it takes NaN for NULL,
# which no condition selects. From an Arrow table NaN stays NaN, and DuckDB orders NaN above every
# number: "mag > 20" selects it, max() is NaN, and a descending ORDER BY puts it first. In numpy
# and pandas, NaN > 20 is false.
# Seen with duckdb 1.2.2 and 2.0.1.
# Misled: whoever moves a catalogue query from a DataFrame to Arrow to gain speed. Sources without
# a measured magnitude, which survey files mark by NaN, enter the faint sample and head a ranking.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    duckdb==2.0.1 pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import sys

import duckdb
import numpy as np
import pandas
import pyarrow

mag = np.array([18., np.nan, 21.])
routes = {'numpy': {'mag': mag}, 'pandas': pandas.DataFrame({'mag': mag}),
          'arrow': pyarrow.table({'mag': mag})}
print('numpy itself: mag > 20 selects', int((mag > 20).sum()), 'of', len(mag))
seen = {}
for name, catalogue in routes.items():
    count, largest = duckdb.sql('SELECT count(*) FILTER (mag > 20), max(mag) FROM catalogue').fetchall()[0]
    first = duckdb.sql('SELECT mag FROM catalogue ORDER BY mag DESC').fetchall()[0][0]
    seen[name] = count
    print(f'{name}: mag > 20 selects {count}, the maximum is {largest}, the first by magnitude {first}')
if seen['pandas'] != 1 or seen['numpy'] != 1:
    sys.exit('Unexpected: NaN is selected from pandas or numpy as well.')
if seen['arrow'] != 2:
    sys.exit('No longer seen: all routes give the same rows.')
EOF
