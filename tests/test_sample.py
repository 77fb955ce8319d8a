# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The sample archive: small, ours, and with the troubles of real archives.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from astroclip_search import ClipSearch, conf, sample
from astroclip_search.exceptions import UnreadImagesWarning
from tests.colours import ColourEncoder

CHECKOUT = Path(__file__).parents[1] / 'astroclip_search'
pytestmark = pytest.mark.skipif(not (CHECKOUT / 'data' / 'sample' / 'archive.ecsv').exists(),
                                reason='the checkout has no sample archive')
needs_model = pytest.mark.skipif(not (CHECKOUT / 'model' / 'astroclip.json').exists(),
                                 reason='the checkout has no embedded model')


@pytest.fixture(scope='module')
def table():
    return sample.read()


def test_rows(table):
    assert 60 <= len(table) <= 100
    assert {'obsid', 'target_name', 'obs_title', 'dataproduct_type', 's_ra', 's_dec',
            'jpegURL'} <= set(table.colnames)
    assert len(set(table['obsid'])) == len(table)
    assert table['s_ra'].unit == 'deg'
    assert 'no row is a real observation' in table.meta['description']


def test_files():
    files = [path for path in sample.IMAGE_DIR.rglob('*') if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1e6
    assert {path.suffix for path in files} == {'.jpg', '.ecsv'}


def test_previews_are_all_there_but_one(table):
    names = {name for name in table['jpegURL'] if name and '://' not in name}
    files = {str(path.relative_to(sample.IMAGE_DIR)) for path in sample.IMAGE_DIR.rglob('*.jpg')}
    assert not files - names
    assert names - files == {'previews/lost.jpg'}


def test_statuses_of_a_real_archive(table, tmp_path):
    encoder = ColourEncoder()
    search = ClipSearch(encoder=encoder, cache_dir=tmp_path)
    with conf.set_temp('retries', 0), pytest.warns(UnreadImagesWarning):
        ranked = search.rank(table, 'red', image_dir=sample.IMAGE_DIR)
    counts = Counter(ranked['clip_status'])
    assert counts['OK'] >= 60
    assert counts['SKIPPED'] == 1
    assert counts['ERROR'] == 2  # a server that does not answer, and a file that is lost
    assert counts['NO_IMAGE'] >= 1
    assert encoder.n_images == counts['OK']


@needs_model
def test_embedded_model_ranks_it(table, tmp_path):
    search = ClipSearch(cache_dir=tmp_path)
    options = {'image_dir': sample.IMAGE_DIR}
    with conf.set_temp('retries', 0), pytest.warns(UnreadImagesWarning):
        first = search.rank(table, 'globular cluster', **options)
    with conf.set_temp('retries', 0), pytest.warns(UnreadImagesWarning):
        second = search.rank(table, 'globular cluster', by='image', **options)
    assert not np.array_equal(first['obsid'], second['obsid'])  # metadata count
    good = first['clip_status'] == 'OK'
    assert np.all(np.diff(np.asarray(first['clip_score'][good])) <= 0)
    assert np.ptp(first['clip_image'][good]) > 0.05  # it tells pictures apart
    with conf.set_temp('retries', 0), pytest.warns(UnreadImagesWarning):
        kept = search.filter(table, 'globular cluster', false_alarm_rate=0.2, **options)
    assert 0 < len(kept) < 40
