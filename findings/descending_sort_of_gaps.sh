#!/usr/bin/env bash
# `Table.sort(key, reverse=True)` of astropy puts the rows without a value first. It sorts in
# ascending order, which puts masked values last, and then reverses the whole table. Ties are
# reversed as well, even with kind='stable'. Python's own sorted(reverse=True) keeps ties in
# order.
# Seen with astropy 7.0.2 and 8.0.2.
# Misled: whoever ranks by a score and takes the head of the table. The top rows are those that
# have no score at all, and the order that an earlier sort gave to ties is reversed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import sys

from astropy.table import MaskedColumn, Table

table = Table({'score': MaskedColumn([.3, .9, 0, .3, .9], mask=[False, False, True, False, False]),
               'image': ['a', 'b', 'unscored', 'c', 'd']})
table.sort('score', reverse=True, kind='stable')
print(table)
order = table['image'].tolist()
print('stable order would be b d a c, and the unscored row last; it is', *order)
if order[0] != 'unscored' or order[1:] != ['d', 'b', 'c', 'a']:
    sys.exit('No longer seen: a descending sort keeps gaps last and ties in order.')
EOF
