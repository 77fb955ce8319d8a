# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The recipes of the user guide, as printed. MAST is a stand-in; programs that show something are only
called, so what they are given is what is tested.
"""

import re
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from astropy.table import Table

from astroclip_search import ClipSearch
from astroclip_search.search.session import Session
from tests.colours import ColourEncoder, content
from tests.loopback.archive import Archive

PAGE = Path(__file__).parents[1] / 'docs' / 'user_guide' / 'recipes.rst'

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason='there is no documentation')


def recipes():
    """The code below each heading, as one program."""
    text = PAGE.read_text('utf-8') if PAGE.exists() else ''
    parts = re.split(r'^(\S.*)\n=+\n', text, flags=re.M)
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        blocks = re.findall(r'code-block:: python\n\n((?:    .*\n|\n)+)', body)
        if blocks:
            yield heading, '\n'.join(re.sub('^    ', '', block, flags=re.M) for block in blocks)


RECIPES = dict(recipes())


@pytest.fixture
def given(serve, tmp_path, monkeypatch):
    """What a recipe begins with, ``best`` and `ClipSearch`, in a folder of its own."""
    from astroquery.mast import Observations

    rows, files, products = [], {}, {}
    for i, colour in enumerate(['red', 'green', 'blue', 'red', 'green', 'blue']):
        uri = f'mast:JWST/product/p{i}_{colour}'
        rows.append({
            'obsid': str(1000 + i), 'obs_id': f'p{i}', 'obs_collection': 'JWST',
            'target_name': f'T{i}', 'obs_title': f'Protoplanetary disk {i}',
            'dataproduct_type': 'image', 'jpegURL': f'{uri}.jpg', 's_ra': 83.6 + i, 's_dec': -5.4,
            'calib_level': 3, 'intentType': 'science', 'dataRights': 'PUBLIC'})
        files |= {f'{uri}.jpg': content(colour, 'JPEG') + b'%d' % i, f'{uri}_i2d.fits': b'data'}
        products[str(1000 + i)] = [{
            'dataURI': f'{uri}_i2d.fits', 'productFilename': f'p{i}_i2d.fits',
            'productType': 'SCIENCE', 'productSubGroupDescription': 'I2D'}]
    serve(Archive(rows, files, products=products))
    encoder = ColourEncoder()
    monkeypatch.setattr(Session, 'encoder', lambda self: encoder)
    monkeypatch.setattr(ClipSearch, 'cache_dir', tmp_path / 'cache')
    monkeypatch.chdir(tmp_path)
    best = ClipSearch.rank(Observations.query_criteria(obs_collection='JWST'), 'red')
    return {'ClipSearch': ClipSearch, 'best': best}


@pytest.fixture
def module(monkeypatch):
    """Put a module in the place of a program."""
    def put(name, **contents):
        found = types.ModuleType(name)
        vars(found).update(contents)
        monkeypatch.setitem(sys.modules, name, found)
        return found

    return put


def run(heading, given):
    exec(compile(RECIPES[heading], str(PAGE), 'exec'), given)
    return given


def test_all_recipes_are_here():
    """A new recipe needs a test."""
    tests = Path(__file__).read_text('utf-8')
    assert len(RECIPES) >= 6
    assert [heading for heading in RECIPES if f"run('{heading}'" not in tests] == []


def test_save_it(given, tmp_path):
    run('Save it and continue later', given)
    saved = list(tmp_path.glob('*.ecsv'))
    assert saved
    assert Table.read(saved[0]).meta['clip']['query'] == ['red']
    assert len(list((tmp_path / 'mastDownload').rglob('*_i2d.fits'))) == 6


def test_aladin(given, module):
    aladin = MagicMock()
    aladin.selected_objects = [Table({'clip_rank': [2]})]
    module('ipyaladin', Aladin=MagicMock(return_value=aladin))
    run('Show it on the sky with Aladin', given)
    (shown,), options = aladin.add_table.call_args
    assert len(shown) == 6
    assert options['color'] == 'orange'


def test_topcat(given, monkeypatch):
    import pyvo.samp

    sent = []
    monkeypatch.setattr(pyvo.samp, 'connection', MagicMock())
    monkeypatch.setattr(pyvo.samp, 'send_table_to',
                        lambda client, table, **options: sent.append((table, options)))
    run('Send it to TOPCAT by SAMP', given)
    (table, options), = sent
    assert (len(table), options['client_name']) == (6, 'topcat')


def test_glue(given, module):
    class Data(dict):
        def __init__(self, **_options):
            super().__init__()
            self.id = {'clip_false_alarm': np.array([0.0])}

    module('glue')
    module('glue.core', Data=Data, DataCollection=MagicMock())
    module('glue_qt')
    module('glue_qt.app', GlueApplication=MagicMock())
    data = run('Link views with glue', given)['data']
    assert data.keys() == set(given['best'].colnames)
    assert {len(values) for values in data.values()} == {6}


def test_jdaviz(given, module):
    jdaviz = module('jdaviz', load=MagicMock(), show=MagicMock())
    run('Open the images in jdaviz', given)
    (image,), (catalogue,) = (call.args for call in jdaviz.load.call_args_list)
    assert Path(str(image)).read_bytes() == b'data'
    assert len(catalogue) == 6


def test_lsdb(given, module):
    pandas = pytest.importorskip('pandas')
    part = pandas.DataFrame({'jpegURL': list(given['best']['jpegURL'][::-1])})

    class Catalogue:
        def map_partitions(self, function, *arguments):
            whole = pandas.concat([function(part[:4], *arguments), function(part[4:], *arguments),
                                   function(part[:0], *arguments)])
            return types.SimpleNamespace(compute=lambda: whole)

    module('lsdb', open_catalog=lambda name: Catalogue())
    best = run('Score a catalogue on a cluster with LSDB', given)['best']
    assert len(best) == 6
    assert best['clip_image'].notna().all()
