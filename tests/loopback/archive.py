# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the loopback MAST holds: CAOM observation rows, and the files behind their URLs.
"""

import csv
import gzip
import io
import json
import re
import tarfile
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ['CAOM_COLUMNS', 'Archive', 'jpeg']

SHARED_DATA = Path(__file__).parents[3] / 'shared' / 'data'

# name -> (type in an answer, type in the columns configuration, separator of lists)
CAOM_COLUMNS = {
    'intentType': ('string', 'char', None),
    'obs_collection': ('string', 'char', ';'),
    'provenance_name': ('string', 'char', None),
    'instrument_name': ('string', 'char', None),
    'project': ('string', 'char', ';'),
    'filters': ('string', 'char', ';'),
    'wavelength_region': ('string', 'char', ';'),
    'target_name': ('string', 'char', None),
    'target_classification': ('string', 'char', ';'),
    'obs_id': ('string', 'char', None),
    's_ra': ('float', 'double', None),
    's_dec': ('float', 'double', None),
    'dataproduct_type': ('string', 'char', None),
    'proposal_pi': ('string', 'char', None),
    'calib_level': ('int', 'int', None),
    't_min': ('float', 'double', None),
    't_max': ('float', 'double', None),
    't_exptime': ('float', 'double', None),
    'em_min': ('float', 'double', None),
    'em_max': ('float', 'double', None),
    'obs_title': ('string', 'char', None),
    't_obs_release': ('float', 'double', None),
    'proposal_id': ('string', 'char', None),
    's_region': ('string', 'char', None),
    'jpegURL': ('string', 'char', None),
    'dataURL': ('string', 'char', None),
    'dataRights': ('string', 'char', None),
    'mtFlag': ('boolean', 'boolean', None),
    'srcDen': ('float', 'float', None),
    'obsid': ('string', 'long', None),
    'objID': ('string', 'long', None),
}


class Archive:
    """
    Observation rows and files.

    Parameters
    ----------
    rows : iterable of dict
        One observation each, by CAOM column name; columns left out are null. A ``jpegURL`` is a
        ``mast:`` URI, an absolute URL, or, beginning with ``/``, a legacy URL on this very server.
    files : dict
        The bytes behind each ``mast:`` URI or ``/path``, or a function that returns them. A URL
        of a row that is not among them is a dead link.
    names : dict, optional
        Further object names that the resolver knows: name -> (ra, dec) in degrees.
    products : dict, optional
        Products of some observations, by obsid: dicts of the columns of a product list with at
        least a ``dataURI``. Other observations have their data and their preview.
    protected : collection of str, optional
        Those files that need the token of the server.
    """

    def __init__(self, rows, files, *, names=None, products=None, protected=()):
        self.rows = [dict.fromkeys(CAOM_COLUMNS) | row for row in rows]
        self.files = dict(files)
        self.products = dict(products or {})
        self.protected = frozenset(protected)
        positions = np.array([(row['s_ra'], row['s_dec']) for row in self.rows], dtype=float)
        self._positions = np.radians(positions.reshape(-1, 2))
        self._names = {
            simplified(row['target_name']): (row['s_ra'], row['s_dec'])
            for row in reversed(self.rows) if row['target_name'] and row['s_ra'] is not None
        }
        self._names.update((simplified(name), position) for name, position in (names or {}).items())

    def __len__(self):
        return len(self.rows)

    def read(self, location):
        """Return the bytes of a file, or None for a dead link."""
        content = self.files.get(location)
        return content() if callable(content) else content

    def resolve(self, name):
        """Return the position (ra, dec) in degrees of a named object, or None."""
        return self._names.get(simplified(name))

    def distances(self, ra, dec):
        """Return the distance of each row from a position, all in degrees; NaN without one."""
        ra, dec = np.radians(ra), np.radians(dec)
        row_ra, row_dec = self._positions.T
        haversine = (np.sin((row_dec - dec) / 2)**2
                     + np.cos(dec) * np.cos(row_dec) * np.sin((row_ra - ra) / 2)**2)
        return np.degrees(2 * np.arcsin(np.sqrt(np.clip(haversine, 0, 1))))

    @classmethod
    def synthetic(cls, count=12, *, size=64, seed=1):
        """
        Make an archive of generated pictures, alone in having no need of any file.

        All rows lie within 0.1 deg of (83.6, -5.4) and show science images, but for the last
        four: a spectrum, a row without a preview, a dead link and a legacy absolute URL.

        Parameters
        ----------
        count : int, optional
            Number of rows, at least four.
        size : int, optional
            Width and height of the previews in pixels.
        seed : int, optional
            Seed of positions and pictures.
        """
        rng = np.random.default_rng(seed)
        # Of thousands of rows only the bytes differ, which is cheaper than pictures of their own.
        pictures = [jpeg(blobs(rng, size)) for _ in range(min(count, 20))]
        rows, files = [], {}
        for i in range(count):
            name = f'hst_{i:05d}_acs_f814w_drz'
            row = {
                'intentType': 'science', 'obs_collection': 'HST', 'provenance_name': 'CALACS',
                'instrument_name': 'ACS/WFC', 'project': 'HST', 'filters': 'F814W',
                'wavelength_region': 'OPTICAL', 'target_name': f'FIELD-{i}',
                'target_classification': 'GALAXY;SPIRAL' if i % 2 else None, 'obs_id': name,
                's_ra': 83.6 + rng.uniform(-0.1, 0.1), 's_dec': -5.4 + rng.uniform(-0.1, 0.1),
                'dataproduct_type': 'image', 'proposal_pi': "O'Dell, Chris", 'calib_level': 3,
                't_min': 59000.0 + i, 't_max': 59000.1 + i, 't_exptime': 100.0 * (i + 1),
                'em_min': 700.0, 'em_max': 960.0, 't_obs_release': 59365.0 + i,
                'obs_title': ('Spirals', 'Protoplanetary disks')[i % 2] + f', part {i}',
                'proposal_id': str(15000 + i), 'jpegURL': f'mast:HST/product/{name}.jpg',
                'dataURL': f'mast:HST/product/{name}.fits', 'dataRights': 'PUBLIC',
                'mtFlag': False, 'obsid': str(24000000 + i), 'objID': str(50000000 + i),
            }
            role = i - count
            if role == -4:
                row |= {'dataproduct_type': 'spectrum', 'instrument_name': 'STIS/CCD'}
            elif role == -3:
                row |= {'jpegURL': None}
            elif role == -1:
                row |= {'obs_collection': 'HLA', 'jpegURL': f'/hst/previews/{name.upper()}.jpg'}
            rows.append(row)
            if row['jpegURL'] and role != -2:
                image = pictures[i % len(pictures)]
                files[row['jpegURL']] = with_comment(image, row['jpegURL'])
        return cls(rows, files, names={'M 42': (83.6, -5.4)})

    @classmethod
    def jwst(cls, folder=SHARED_DATA, *, everything=False):
        """
        Read the development data: real JWST observations and their colour mosaics.

        Parameters
        ----------
        folder : path-like, optional
            Folder with ``sky-development.tar`` and ``mast_jwst_level3.csv.gz``.
        everything : bool, optional
            Add the thousands of level-3 rows whose previews we do not have (dead links). Without
            them the archive has the 409 rows that do.
        """
        folder = Path(folder)
        with gzip.open(folder / 'mast_jwst_level3.csv.gz', 'rt', encoding='utf-8') as stream:
            catalogue = {record['jpegURL']: jwst_row(record) for record in csv.DictReader(stream)}
        tar = folder / 'sky-development.tar'
        with tarfile.open(tar, 'r:') as members:
            places = {member.name: (member.offset_data, member.size) for member in members}
            manifest = [json.loads(line) for line in members.extractfile('manifest.jsonl')]
        rows, files = {}, {}
        for record in manifest:
            url, obsid = record.get('jpegURL'), record.get('obsid')
            if url is None:
                continue
            row = catalogue.get(url) or jwst_row({'jpegURL': url})
            if url in files:  # several pictures of one observation: each gets a row of its own
                url = f'mast:JWST/product/{record["id"].lower()}_i2d.jpg'
                obsid = f'{1 + len(rows)}{float(obsid):.0f}'
            rows[url] = row | {
                'jpegURL': url, 'obsid': f'{float(obsid):.0f}', 'target_name': record['title'],
                'target_classification': ';'.join(record['labels']) or None,
                'obs_title': record['obs_title'], 's_ra': record.get('ra'),
                's_dec': record.get('dec'), 'proposal_id': f'{float(record["proposal_id"]):.0f}',
            }
            files[url] = member_reader(tar, *places[record['file']])
        if everything:
            rows = catalogue | rows
        return cls(rows.values(), files)

    @classmethod
    def sample(cls):
        """Read the sample archive that ships with the package."""
        from astropy.table import Table  # only to read ECSV: the archive is a data file to us

        folder = Path(__file__).parents[2] / 'astroclip_search' / 'data' / 'sample'
        table = Table.read(folder / 'archive.ecsv', format='ascii.ecsv')
        rows, files = [], {}
        for record in table:
            row = {name: record[name].tolist() for name in table.colnames
                   if name in CAOM_COLUMNS and record[name] is not np.ma.masked}
            url = row.get('jpegURL')
            if url and '//' not in url:
                row['jpegURL'] = f'mast:SAMPLE/product/{Path(url).name}'
                if (folder / url).is_file():
                    files[row['jpegURL']] = (folder / url).read_bytes
            rows.append({'intentType': 'science'} | row)
        return cls(rows, files)

    @classmethod
    def default(cls, folder=SHARED_DATA, **options):
        """Read the development data if they are there, the sample archive otherwise."""
        if (Path(folder) / 'sky-development.tar').exists():
            return cls.jwst(folder, **options)
        return cls.sample()


def simplified(name):
    """Return a name as resolvers compare it: ``NGC-3132``, ``NGC 3132`` and ``ngc3132`` agree."""
    return re.sub(r'[^a-z0-9+]', '', name.lower())


def jwst_row(record):
    """Complete a record of the level-3 list to a CAOM row."""
    obs_id = record['jpegURL'].rsplit('/', 1)[-1].removesuffix('.jpg').removesuffix('_i2d')
    _, _, _, optics = (obs_id.split('_', 3) + [''] * 3)[:4]
    filters = re.findall(r'(?<![a-z0-9])f\d+[a-z]\d?', optics)
    instrument = obs_id.split('_')[2].upper() if obs_id.count('_') > 1 else 'NIRCAM'
    row = {
        'intentType': 'science', 'obs_collection': 'JWST', 'provenance_name': 'CALJWST',
        'project': 'JWST', 'instrument_name': f'{instrument}/IMAGE', 'obs_id': obs_id,
        'filters': ';'.join(name.upper() for name in filters) or None,
        'wavelength_region': 'INFRARED', 'dataproduct_type': 'image', 'calib_level': 3,
        'dataRights': 'PUBLIC', 'mtFlag': False,
    }
    row |= {name: value or None for name, value in record.items()}
    for name in ('t_max', 't_obs_release'):
        if row.get(name):
            elapsed = datetime.fromisoformat(row[name]) - datetime(1858, 11, 17)
            row[name] = elapsed.total_seconds() / 86400
    row['objID'] = row.get('obsid')
    return row


def member_reader(tar, offset, size):
    """Return a function that reads one member of an uncompressed tar file."""
    def read():
        with open(tar, 'rb') as stream:
            stream.seek(offset)
            return stream.read(size)

    return read


def blobs(rng, size):
    """Paint a few round sources in random colours, with noise: uint8 (size, size, 3)."""
    side = min(size, 256)
    along = np.arange(side) / side
    image = np.zeros((side, side, 3))
    for _ in range(4):
        width = rng.uniform(0.03, 0.2)
        x, y = (np.exp(-((along - centre) / width)**2) for centre in rng.uniform(0, 1, 2))
        image += np.outer(y, x)[..., None] * rng.uniform(0, 255, 3)
    image = np.clip(image, 0, 239).astype(np.uint8)
    if size > side:  # smooth light, but noise in each pixel, as in a real picture
        image = np.array(Image.fromarray(image).resize((size, size)))
    noise = rng.integers(0, 16, (side, side, 3), dtype=np.uint8)
    image += np.tile(noise, (-(-size // side), -(-size // side), 1))[:size, :size]
    return image


def jpeg(image, *, quality=85):
    """Encode uint8 (height, width, 3) as JPEG bytes."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, 'JPEG', quality=quality)
    return stream.getvalue()


def with_comment(image, text):
    """Insert a comment after the start of a JPEG file: other bytes, the same picture."""
    comment = text.encode()
    return image[:2] + b'\xff\xfe' + (len(comment) + 2).to_bytes(2, 'big') + comment + image[2:]
