#!/usr/bin/env bash
# Faiss and USearch fill up an answer that is shorter than asked, and each in its own way with
# numbers that are valid as indices. Faiss gives the id -1, which numpy takes for the last row.
# USearch gives the key 0 with a distance of NaN, which is the first row. Faiss pads also when the
# index is full of vectors: an IVF index visits a few cells only (one by default) and finds what
# lies there. So ten hits of an index of a thousand vectors may hold several copies of one image
# that has nothing to do with the query.
# Seen with faiss-cpu 1.15.1 and usearch 2.26.6.
# Misled: whoever looks hits up by catalogue[ids], and asks for more than there are in the cell.
# The length of the answer is right; only the ids and distances, or USearch's separate counts,
# tell the difference.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
    faiss-cpu==1.15.1 usearch==2.26.6 numpy==2.4.6
"$dir/venv/bin/python" - <<'EOF'
import sys

import faiss
import numpy as np
from usearch.index import Index

rng = np.random.default_rng(5)
vectors = rng.normal(size=(1000, 16)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
names = np.array([f'image {i}' for i in range(1000)])
cells = faiss.IndexIVFFlat(faiss.IndexFlatIP(16), 16, 25, faiss.METRIC_INNER_PRODUCT)
cells.train(vectors)
cells.add(vectors)
scores, ids = cells.search(vectors[:100], 60)
short = (ids == -1).sum(axis=1)
row = short.argmax()
print(f'faiss IVF, 1000 vectors, 60 asked: {np.mean(short > 0):.0%} of the answers are padded, '
      f'one with {short[row]} ids of {ids[row, -1]}, score {scores[row, -1]:.3g}, '
      f'which numpy looks up as {names[ids[row, -1]]}')
few = Index(ndim=16, metric='cos', dtype='f32')
few.add(np.arange(1, 4), vectors[1:4])
matches = few.search(vectors[:2], 5)
print(f'usearch, keys 1 2 3, 5 asked: keys {matches.keys[0].tolist()}, '
      f'distances {[round(float(d), 3) for d in matches.distances[0]]}, counts {matches.counts.tolist()}; '
      f'key 0, which was never added, is {names[matches.keys[0, -1]]}')
if not short.any() or matches.keys[0, -1] != 0:
    sys.exit('No longer seen: short answers are not filled with valid indices.')
EOF
