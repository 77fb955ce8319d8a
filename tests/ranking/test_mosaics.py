# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Pictures and metadata of real mosaics: together never much worse than the better of the two.
"""

import json
import tarfile
import tomllib
import warnings
from pathlib import Path

import pytest
from astropy.table import Table

from astroclip_search import ClipSearchClass
from astroclip_search.exceptions import NothingStandsOutWarning

CHECKOUT = Path(__file__).parents[2]
MOSAICS = CHECKOUT.parent / 'shared' / 'data' / 'sky-development.tar'
JUDGED = CHECKOUT / 'export' / 'configs' / 'mosaics.toml'

pytestmark = pytest.mark.skipif(not (MOSAICS.exists() and JUDGED.exists()),
                                reason='needs the shared data and a checkout')


@pytest.fixture(scope='module')
def mosaics(tmp_path_factory):
    folder = tmp_path_factory.mktemp('mosaics')
    with tarfile.open(MOSAICS) as archive:
        rows = [json.loads(line) for line in archive.extractfile('manifest.jsonl')]
        rows = [row for row in rows if row['source'] == 'jwst_yuval']
        archive.extractall(folder, [row['file'] for row in rows], filter='data')
    table = Table({'id': [row['id'] for row in rows],
                   'preview': [str(folder / row['file']) for row in rows],
                   'target_name': [row['title'] for row in rows],
                   'obs_title': [row['obs_title'] for row in rows],
                   'labels': ['; '.join(row['labels']) for row in rows]})
    return ClipSearchClass(cache_dir=folder / 'cache'), table, folder


def right_of_ten(mosaics, phrase, by, *, classes):
    search, table, folder = mosaics
    table = table.copy()
    if classes:
        table['target_classification'] = table['labels']
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NothingStandsOutWarning)  # true of some phrases
        best = search.rank(table, phrase, by=by, image_dir=folder, show_progress=False)
    judged = tomllib.loads(JUDGED.read_text('utf-8'))[phrase]
    labels = set(judged.get('labels', ()))
    return sum((bool(labels.intersection(row['labels'].split('; ')))
                or row['id'] in judged.get('also', ()))
               and row['id'] not in judged.get('except', ()) for row in best[:10])


@pytest.mark.parametrize('classes', [True, False], ids=['with classes', 'without'])
@pytest.mark.parametrize('phrase', tomllib.loads(JUDGED.read_text('utf-8'))
                         if JUDGED.exists() else [])
def test_both_is_never_worse_than_the_better_by_more_than_one_in_ten(mosaics, phrase, classes):
    both, image, metadata = (right_of_ten(mosaics, phrase, by, classes=classes)
                             for by in ('both', 'image', 'metadata'))
    assert both >= max(image, metadata) - 1


@pytest.mark.parametrize('phrase', ['NGC 628', 'M 33', 'LDN 57', 'SN 2019esa', 'Messier 49'])
def test_the_object_that_is_asked_for_comes_first(mosaics, phrase):
    search, table, folder = mosaics
    best = search.rank(table, phrase, image_dir=folder, show_progress=False)
    catalogue, number = phrase.lower().split()
    assert best['target_name'][0].lower().replace('-', '').replace(' ', '').replace(
        'messier0', 'messier').startswith(catalogue + number)
