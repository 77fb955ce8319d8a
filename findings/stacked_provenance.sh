#!/usr/bin/env bash
# Results of queries carry what was asked in Table.meta. astropy's vstack, hstack and join merge the
# meta of their tables entry by entry and go into nested dictionaries: two lists under one name are
# joined end to end, silently, and of two different numbers or strings the last one stays, with a
# warning that only names the key. So a table stacked of two queries claims to be the answer to one
# query with both phrases, in the place where a reader looks for what the rows are; two queries with
# equal lists yield each entry twice. metadata_conflicts='error' does not object to the lists.
# Seen with astropy 8.0.2.
# Misled: programs that act on what meta says of a table (its query, filters, files, history), and
# everybody who stacks the results of several calls, as one does with limits on rows.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2
"$dir/venv/bin/python" - <<'EOF'
import sys
import warnings

from astropy.table import Table, vstack


def answer(target, limit):
    return Table({'target': [target]}, meta={'query': {'targets': [target], 'bands': ['g', 'r'],
                                                       'limit': limit}})


first, second = answer('M 51', 10), answer('M 101', 10)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    stacked = vstack([first, second])
print('one query:  ', first.meta)
print('another:    ', second.meta)
print('stacked:    ', stacked.meta, f'({len(caught)} warnings)')
strict = vstack([first, second], metadata_conflicts='error')
print("with 'error':", strict.meta)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    other = vstack([answer('M 51', 10), answer('M 101', 20)])
print('two limits: ', other.meta, [str(warning.message)[:60] for warning in caught])
if first.meta['query']['targets'] != ['M 51']:
    sys.exit('Unexpected: the first table itself was changed.')
if stacked.meta['query'] != {'targets': ['M 51', 'M 101'], 'bands': ['g', 'r', 'g', 'r'],
                             'limit': 10} or strict.meta != stacked.meta:
    sys.exit('No longer seen: lists in nested meta are not joined.')
EOF
