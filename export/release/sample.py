"""Render the sample archive: a small table of observations with previews, for demo and tests.

``python -m export sample --out astroclip_search/data/sample`` writes ``archive.ecsv``, whose
columns are those of the observations of MAST [1]_, and ``previews/*.jpg``, rendered by
``export.sky``. No row is a real observation. As in real archives the words of a row seldom say
what the picture shows, and some rows have no picture that can be had.

References
----------
.. [1] https://mast.stsci.edu/api/v0/_c_a_o_mfields.html
"""

import argparse
import tomllib
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import MaskedColumn, Table
from PIL import Image

from export.sky import render

__all__ = ['main', 'render_previews', 'sample_table']

SEED = 20261121
SIZE = 256
QUALITY = 75

# (kind, seeds): chosen by eye, so that each picture is a fair example of its kind.
PICTURES = {
    'spiral': (1, 5, 7), 'barred_spiral': (7, 5), 'elliptical': (6, 12), 'lenticular': (4,),
    'edge_on': (1, 8, 4), 'irregular': (1, 7), 'merger': (9, 1), 'ring_galaxy': (3, 5),
    'galaxy_cluster': (7, 0), 'lens': (7, 12), 'globular_cluster': (9, 3, 2),
    'open_cluster': (0, 11), 'star_field': (3,), 'planetary_nebula': (3, 10, 12),
    'emission_nebula': (2, 8, 9), 'dark_nebula': (1, 5), 'reflection_nebula': (5, 7),
    'supernova_remnant': (3, 12), 'protoplanetary_disk': (11, 1), 'proplyd': (0, 7), 'jet': (2,),
    'radio_galaxy': (2, 4), 'comet': (2, 7), 'planet': (5, 2), 'moon': (7,), 'quasar': (6, 7),
    'saturated_star': (1,), 'artifact': (0,), 'spectrum': (1,), 'plot': (1,), 'calibration': (0,),
    'sun': (4,), 'deep_field': (0, 12), 'cirrus': (4,), 'supernova': (0,), 'coronagraph': (1,),
    'blank_sky': (1,), 'asteroid': (0,), 'eclipse': (1,), 'earth': (4,), 'night_landscape': (2,),
    'all_sky_map': (3,),
}

# Rows whose picture cannot be had: (kind in words only, jpegURL or None, dataRights).
WITHOUT_PREVIEW = (
    ('emission_nebula', None, 'PUBLIC'),
    ('spiral', None, 'EXCLUSIVE_ACCESS'),
    ('globular_cluster', None, 'PUBLIC'),
    ('star_field', None, 'PUBLIC'),
    ('merger', 'http://localhost:9/gone.jpg', 'PUBLIC'),
    ('planetary_nebula', 'previews/lost.jpg', 'PUBLIC'),
)

GROUPS = {
    'galaxies': ('spiral', 'barred_spiral', 'elliptical', 'lenticular', 'edge_on', 'irregular',
                 'merger', 'ring_galaxy', 'supernova'),
    'distant': ('galaxy_cluster', 'lens', 'deep_field', 'quasar', 'radio_galaxy'),
    'stars': ('globular_cluster', 'open_cluster', 'star_field', 'saturated_star'),
    'gas': ('planetary_nebula', 'emission_nebula', 'dark_nebula', 'reflection_nebula',
            'supernova_remnant', 'cirrus'),
    'young': ('protoplanetary_disk', 'proplyd', 'jet', 'coronagraph'),
    'solar': ('comet', 'planet', 'moon', 'sun', 'asteroid', 'eclipse', 'earth'),
    'other': ('artifact', 'spectrum', 'plot', 'calibration', 'blank_sky', 'night_landscape',
              'all_sky_map'),
}
TITLES = {
    'galaxies': (
        'A survey of nearby galaxies in the Local Volume',
        'Feedback in nearby star-forming regions',
        'The low surface brightness outskirts of galaxies',
        'Stellar populations of galaxies in groups',
        'How do disks grow? A multi-band imaging survey',
    ),
    'distant': (
        'Mass assembly since redshift one',
        'Imaging of sources from a wide-field radio survey',
        'Dark matter on small scales',
        'The environment of luminous active nuclei',
    ),
    'stars': (
        'The initial mass function across environments',
        'Proper motions of stellar systems in the halo',
        'Ages and metallicities of Galactic stellar systems',
    ),
    'gas': (
        'Feedback in nearby star-forming regions',
        'Mapping shocks and ionization in the interstellar medium',
        'The life cycle of dust in the Galaxy',
        'Late stages of stellar evolution',
    ),
    'young': (
        'The first million years: accretion and outflow',
        'An ALMA companion survey of young stellar objects',
        'Architecture of planetary systems at birth',
    ),
    'solar': (
        'Monitoring of Solar System targets',
        'Seasonal change in atmospheres',
        'Surface properties of small bodies',
    ),
    'other': (
        'Engineering data',
        'Detector characterization',
        'Instrument health monitoring',
    ),
}
GENERIC = (
    'Snapshot survey of bright targets',
    'Filler programme for short visits',
    'Parallel imaging of random fields',
    "Director's discretionary imaging",
)
POINTINGS = ('ANY', 'PARALLEL-FIELD', 'FIELD-{}', 'POINTING-{:03d}', 'TARGET-{:02d}')
TELLING = {
    'planetary_nebula': 'PN SYN G{:03d}', 'supernova_remnant': 'SNR SYN G{:03d}',
    'globular_cluster': 'SYN-GC-{}', 'comet': 'COMET P/2031 S{}', 'galaxy_cluster': 'SYN-ACO-{}',
    'quasar': 'QSO SYN-{}', 'jet': 'HH-SYN-{}', 'lens': 'SYN-LENS-{}', 'calibration': 'TUNGSTEN',
    'emission_nebula': 'SYN-HII-{}', 'deep_field': 'SYN-DEEP-{}', 'sun': 'SUN',
    'dark_nebula': 'SYN-LDN-{}', 'spiral': 'SYN-UGC-{}', 'moon': 'MOON', 'supernova': 'SN 2031{}',
}
# How often the words say what the picture shows.
SHARE_TELLING, SHARE_POINTING = 0.25, 0.2
SHARE_NO_TITLE, SHARE_GENERIC, SHARE_MISLEADING = 0.2, 0.14, 0.06
SHARE_CLASSIFIED = 0.4

INSTRUMENTS = (('SYNCAM/IMAGE', ('F090W;F200W;F444W', 'F150W', 'F277W;F356W', 'F814W', 'F606W')),
               ('SYNWIDE/IMAGE', ('V;R;I', 'R', 'I', 'HALPHA')),
               ('SYNIR/IMAGE', ('F770W;F1130W', 'F1000W')))


def _classes():
    """Return the target classifications that archives use for each kind."""
    phrases = Path(__file__).parents[1] / 'sky' / 'phrases.toml'
    return tomllib.loads(phrases.read_text(encoding='utf-8'))['catalogue']


def _words(rng, kind, ra, dec, classes):
    """Return target name, title and classification; the last two may be None."""
    group = next(name for name, kinds in GROUPS.items() if kind in kinds)
    number = int(rng.integers(1, 400))
    draw = rng.random()
    if draw < SHARE_TELLING and kind in TELLING:
        target = TELLING[kind].format(number)
    elif draw < SHARE_TELLING + SHARE_POINTING:
        target = POINTINGS[rng.integers(len(POINTINGS))].format(number % 100)
    else:
        hours, degrees = ra / 15, abs(dec)
        target = (f'SYN J{int(hours):02d}{int(hours % 1 * 60):02d}{"-" if dec < 0 else "+"}'
                  f'{int(degrees):02d}{int(degrees % 1 * 60):02d}')
    draw = rng.random()
    if draw < SHARE_NO_TITLE:
        title = None
    elif draw < SHARE_NO_TITLE + SHARE_GENERIC:
        title = GENERIC[rng.integers(len(GENERIC))]
    else:
        if draw > 1 - SHARE_MISLEADING:
            group = rng.choice([name for name in GROUPS if name != group])
        title = TITLES[group][rng.integers(len(TITLES[group]))]
    classified = rng.random() < SHARE_CLASSIFIED and kind in classes
    classification = classes[kind][rng.integers(len(classes[kind]))] if classified else None
    return target, title, classification


def sample_table():
    """Make the table of the sample archive.

    Returns
    -------
    table : `~astropy.table.Table`
        One row for each observation, in the columns and units of MAST; words that a row lacks are
        masked.
    pictures : dict
        ``jpegURL`` -> (kind, seed) of the previews to render.
    """
    rng = np.random.default_rng(SEED)
    classes = _classes()
    entries = [(kind, seed, None, 'PUBLIC') for kind, seeds in PICTURES.items() for seed in seeds]
    entries += [(kind, None, url, rights) for kind, url, rights in WITHOUT_PREVIEW]
    rows, pictures = [], {}
    for number, index in enumerate(rng.permutation(len(entries)), start=1):
        kind, seed, url, rights = entries[index]
        ra, dec = rng.uniform(0, 360), np.degrees(np.arcsin(rng.uniform(-1, 1)))
        target, title, classification = _words(rng, kind, ra, dec, classes)
        if seed is not None:
            url = f'previews/syn_{number:04d}.jpg'
            pictures[url] = kind, seed
        instrument, filters = INSTRUMENTS[rng.integers(len(INSTRUMENTS))]
        product = 'spectrum' if kind == 'plot' else 'image'
        programme = int(rng.integers(1000, 9999))
        rows.append({
            'obsid': str(88000000 + 137 * number),
            'obs_collection': 'SYNTH',
            'obs_id': f'syn{programme:05d}-o{number:03d}_t001_{instrument.split("/")[0].lower()}',
            'instrument_name': 'SYNSPEC/SLIT' if product == 'spectrum' else instrument,
            'filters': 'GRATING' if product == 'spectrum' else filters[rng.integers(len(filters))],
            'target_name': target,
            'obs_title': title,
            'target_classification': classification,
            'dataproduct_type': product,
            'calib_level': int(rng.choice([2, 3], p=[0.25, 0.75])),
            's_ra': round(ra, 6),
            's_dec': round(float(dec), 6),
            't_min': round(rng.uniform(60000, 61300), 5),
            't_exptime': round(float(np.exp(rng.uniform(3, 9))), 1),
            'proposal_id': str(programme),
            'dataRights': rights,
            'jpegURL': url,
        })
    units = {'s_ra': u.deg, 's_dec': u.deg, 't_min': u.d, 't_exptime': u.s}
    table = Table(meta={
        'title': 'Sample archive of astroclip-search',
        'description': 'Rendered by export/sky of astroclip-search. Synthetic: no row is a real '
                       'observation, and target names and titles are invented.',
        'command': 'python -m export sample --out astroclip_search/data/sample',
    })
    for name in rows[0]:
        values = [row[name] for row in rows]
        missing = [value is None for value in values]
        filled = ['' if value is None else value for value in values]
        table[name] = MaskedColumn(filled, mask=missing, unit=units.get(name)) if any(
            missing) else MaskedColumn(filled, unit=units.get(name))
    return table, pictures


def render_previews(pictures, out):
    """Render the previews of `sample_table` into a directory.

    Parameters
    ----------
    pictures : dict
        Relative path -> (kind, seed).
    out : path-like
        Directory that the paths are relative to.
    """
    for name, (kind, seed) in pictures.items():
        path = Path(out) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(render(seed, kind, size=SIZE).image)
        image.save(path, 'JPEG', quality=QUALITY, optimize=True)


def main(argv: list[str] | None = None) -> int:
    """Render the sample archive into a directory."""
    parser = argparse.ArgumentParser(prog='python -m export sample', description=main.__doc__)
    parser.add_argument('--out', type=Path, required=True, help='directory of the archive')
    options = parser.parse_args(argv)
    table, pictures = sample_table()
    options.out.mkdir(parents=True, exist_ok=True)
    for stale in options.out.glob('previews/syn_*.jpg'):
        stale.unlink()
    render_previews(pictures, options.out)
    table.write(options.out / 'archive.ecsv', format='ascii.ecsv', overwrite=True)
    size = sum(path.stat().st_size for path in options.out.rglob('*') if path.is_file())
    print(f'{len(table)} rows, {len(pictures)} previews, {size / 1e6:.2f} MB in {options.out}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
