# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Measure the embedded model on the frozen pictures, record it, or draw the pictures anew.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from . import PICTURES, RECORDED, harden, mean, measure, name_of

#: Pictures of each kind, the side that they are drawn at, and the first seed.
EACH, SIDE, SEED = 5, 176, 6_000_000
KINDS = (
    'spiral', 'barred_spiral', 'elliptical', 'lenticular', 'edge_on', 'irregular', 'merger',
    'ring_galaxy', 'galaxy_group', 'galaxy_cluster', 'lens', 'deep_field', 'quasar',
    'radio_galaxy', 'fading_radio_galaxy', 'globular_cluster', 'open_cluster', 'embedded_cluster',
    'star_field', 'saturated_star', 'planetary_nebula', 'bubble', 'emission_nebula',
    'reflection_nebula', 'dark_nebula', 'cirrus', 'supernova_remnant', 'protoplanetary_disk',
    'proplyd', 'jet', 'comet', 'asteroid', 'planet', 'moon', 'sun', 'eclipse', 'earth',
    'planet_surface', 'spectrum', 'plot')


def draw():
    """
    Draw the pictures; only where no model is to be compared with an older one.
    """
    from export.sky import render

    rng, kinds, files = np.random.default_rng(SEED), [], []
    for i, kind in enumerate(kind for kind in KINDS for _ in range(EACH)):
        kinds.append(kind)
        files.append(harden(render(SEED + i, kind, size=SIDE).image, rng))
    np.savez_compressed(PICTURES, kinds=np.array(kinds), sizes=np.array([*map(len, files)]),
                        bytes=np.frombuffer(b''.join(files), np.uint8))


def write_record(model, found):
    """
    Write what a model reached: one line a phrase.
    """
    phrases = ',\n'.join(
        f'  {json.dumps(phrase)}: ' + json.dumps({
            'ndcg@10': round(one['ndcg@10'], 4), 'cosines': [round(x, 4) for x in one['cosines']]})
        for phrase, one in found.items())
    RECORDED.write_text(
        f'{{\n "model": {json.dumps(name_of(model))},\n "ndcg@10": {mean(found):.4f},\n '
        f'"phrases": {{\n{phrases}\n }}\n}}\n', encoding='utf-8')


def main():
    """
    Run ``python -m tests.frozen``.
    """
    parser = argparse.ArgumentParser(prog='python -m tests.frozen', description=__doc__)
    parser.add_argument('--model', default='default', help='the embedded one, or a folder')
    parser.add_argument('--record', action='store_true', help='write recorded.json')
    parser.add_argument('--draw', action='store_true', help='draw the pictures anew first')
    options = parser.parse_args()
    if options.draw:
        draw()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.model)
    for phrase, one in found.items():
        print(f"{one['ndcg@10']:.3f}  {phrase}")
    print(f'{mean(found):.4f}  mean of {len(found)} phrases, {name_of(options.model)}')
    if options.record:
        write_record(options.model, found)


if __name__ == '__main__':
    main()
