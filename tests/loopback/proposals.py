# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Made-up observing proposals: their catalogue, in the form of STScI's, and what MAST has of them.

``python -m tests.loopback.proposals --out DIR -- COMMAND ...`` writes ``DIR/abstracts.cat``, serves
the archive, and runs a command for which this archive is MAST.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.loopback.archive import Archive, blobs, jpeg
from tests.loopback.mast import Mast

__all__ = ['SUBJECTS', 'catalogue', 'configure', 'entry', 'made_up', 'paint_scene']

# Kind of the synthetic sky -> category, title, what the abstract says.
SUBJECTS = {
    'spiral': ('GALAXIES', 'Arms of disk galaxies', 'spiral galaxies with open arms'),
    'elliptical': ('GALAXIES', 'Light profiles of early types', 'smooth elliptical galaxies'),
    'merger': ('GALAXIES', 'Collisions nearby', 'merging galaxies with tidal tails'),
    'globular_cluster': ('STELLAR POPULATIONS', 'Ages of old stars', 'crowded globular clusters'),
    'open_cluster': ('STELLAR POPULATIONS', 'Young stars', 'open clusters of bright young stars'),
    'planetary_nebula': ('ISM', 'The last shells of stars', 'round planetary nebulae'),
    'emission_nebula': ('ISM', 'Gas around hot stars', 'glowing clouds of ionised gas'),
    'galaxy_cluster': ('COSMOLOGY', 'Dark matter in clusters', 'rich clusters of galaxies'),
    'protoplanetary_disk': ('STAR FORMATION', 'Where planets form', 'disks around young stars'),
    'comet': ('SOLAR SYSTEM', 'Dust of small bodies', 'comets with a coma and a tail'),
}


def entry(number, title, abstract, *, category='', cycle='12', kind='GO'):
    """Write one entry of a catalogue of abstracts; lines are broken as the real ones are."""
    words, lines = abstract.split(), ['']
    for word in words:
        if len(lines[-1]) + len(word) > 76:
            lines.append('')
        lines[-1] = f'{lines[-1]} {word}'.strip()
    return '\n'.join([f'Prop. Type: {kind}', f'Category:   {category}', f'ID:         {number}',
                      f'Cycle:      {cycle}', f'Title:      {title}', 'PI:         Nobody',
                      '', *lines, ''])


def catalogue(entries):
    """Join entries to a catalogue."""
    rule = '-' * 77 + '\n'
    return rule + rule.join(entries) + rule


def paint_scene(kind, seed):
    """Paint a scene of a kind: uint8 (height, width, 3)."""
    from export.sky import render

    return render(seed, kind, size=256).image


def paint_blobs(kind, seed):
    """Paint something, fast: uint8 (height, width, 3)."""
    return blobs(np.random.default_rng(seed), 120)[:90]


def made_up(count=50, *, visits=4, mission='HST', paint=paint_blobs):
    """
    Make up proposals.

    Parameters
    ----------
    count : int, optional
        Number of proposals.
    visits : int, optional
        Pictures of each.
    mission : {'HST', 'JWST'}, optional
        Whose proposals they are.
    paint : callable, optional
        Given a kind of `SUBJECTS` and a seed, it makes a picture.

    Returns
    -------
    str
        The catalogue.
    Archive
        Observations, among them such as no one should take, and their previews. Every other visit
        of HST has a preview in colour as well.
    """
    entries, rows, files = [], [], {}
    for i in range(count):
        number, kind = 9001 + 7 * i, list(SUBJECTS)[i % len(SUBJECTS)]
        category, title, words = SUBJECTS[kind]
        title = f'{title}. Part {i // len(SUBJECTS) + 1}'
        entries.append(entry(
            number, title, f'We ask for images of {words}. This is made-up proposal number '
            f'{i + 1}, and what is {"odd" if i % 2 else "even"} about it is of no importance.',
            category=category, cycle=str(12 + i % 5)))
        for visit in range(visits):
            picture = jpeg(paint(kind, 1000 * i + visit))
            name, uri = _names(mission, number, visit)
            row = {'obsid': str(len(rows) + 1), 'obs_id': name, 'obs_collection': mission,
                   'proposal_id': str(number), 'obs_title': title, 'target_name': f'T{visit}',
                   'target_classification': category, 'dataproduct_type': 'image',
                   'calib_level': 3, 'intentType': 'science', 'dataRights': 'PUBLIC',
                   'jpegURL': uri, 'dataURL': uri.replace('.jpg', '.fits'), 's_ra': 3.0 * i,
                   's_dec': 0.5 * visit, 'instrument_name': 'ACS/WFC', 'filters': 'detection'}
            rows.append(row)
            files[uri] = picture
            if mission == 'HST' and visit % 2:
                files[uri.replace('.jpg', '_color.jpg')] = jpeg(paint(kind, 1000 * i + visit + 500))
        others = {'single_filter': {'obs_id': name.replace('total', 'f814w')},
                  'mosaic_of_many': {'obs_id': f'hst_skycell-p{number}x06y09_acs_wfc_total_all'},
                  'spectrum': {'dataproduct_type': 'spectrum'}, 'raw': {'calib_level': 1},
                  'secret': {'dataRights': 'EXCLUSIVE_ACCESS'}}
        for what in (others if mission == 'HST' else ('spectrum', 'raw', 'secret')):
            other = row | {'obs_id': f'{name}{what}'} | others[what]
            uri = f'mast:{mission}/product/{other["obs_id"]}_drc.jpg'
            rows.append(other | {'obsid': str(len(rows) + 1), 'jpegURL': uri, 'dataURL': None})
            files[uri] = picture
    return catalogue(entries), Archive(rows, files)


def _names(mission, number, visit):
    """Name of an observation, and address of its preview."""
    if mission == 'HST':
        name = f'hst_{number}_{visit:02d}_acs_wfc_total_j{number}{visit:02d}'
        return name, f'mast:HST/product/{name}_drc.jpg'
    name = f'jw{number:05d}-o{visit:03d}_t001_nircam_clear-f200w'
    return name, f'mast:JWST/product/{name}_i2d.jpg'


def configure(folder, url):
    """Write settings for which ``url`` is MAST, and return the environment that names them."""
    # astropy reads this file once, when astroquery is imported.
    for variable in ('XDG_CONFIG_HOME', 'XDG_CACHE_HOME'):
        Path(folder, variable, 'astropy').mkdir(parents=True)
    Path(folder, 'XDG_CONFIG_HOME', 'astropy', 'astroquery.cfg').write_text(
        f'[mast]\nserver = {url}\nenable_cloud_dataset = False\n')
    kept = {name: value for name, value in os.environ.items()
            if name not in ('ASTROPY_CONFIG_DIR', 'ASTROPY_CACHE_DIR')}  # they would win over XDG
    return kept | {name: str(Path(folder, name)) for name in ('XDG_CONFIG_HOME', 'XDG_CACHE_HOME')}


def main(arguments=None):
    """Serve while a command runs, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m tests.loopback.proposals',
        description='Run a command for which an archive of made-up proposals is MAST.')
    parser.add_argument('--out', type=Path, required=True, help='folder for abstracts.cat')
    parser.add_argument('--count', type=int, default=50, help='proposals (default: 50)')
    parser.add_argument('--visits', type=int, default=4, help='pictures of each (default: 4)')
    parser.add_argument('--mission', choices=('HST', 'JWST'), default='HST')
    parser.add_argument('command', nargs='+')
    options = parser.parse_args(arguments)
    text, archive = made_up(options.count, visits=options.visits, mission=options.mission,
                            paint=paint_scene)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / 'abstracts.cat').write_text(text)
    with Mast(archive) as mast, tempfile.TemporaryDirectory(prefix='loopback-mast-') as folder:
        return subprocess.run(options.command, env=configure(folder, mast.url),
                              check=False).returncode


if __name__ == '__main__':
    sys.exit(main())
