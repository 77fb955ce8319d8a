# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Rows that their metadata alone brought to the first page, with the embedded model.
"""

import numpy as np
import pytest
from astropy.table import Table

from astroclip_search import ClipSearch, sample
from astroclip_search.exceptions import NothingStandsOutWarning, UnreadImagesWarning
from astroclip_search.status import REASONS, has_note

pytestmark = [pytest.mark.filterwarnings(f'ignore::{kind.__module__}.{kind.__name__}')
              for kind in (NothingStandsOutWarning, UnreadImagesWarning)]

SENTENCE = REASONS['by_words'][1]


@pytest.fixture(scope='module')
def search(tmp_path_factory):
    return ClipSearch(cache_dir=tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module')
def galaxies():
    """The sample archive, with metadata that say nothing."""
    table = sample.read()
    for name in ('target_name', 'obs_title', 'target_classification'):
        table[name] = np.full(len(table), 'a survey of the sky', dtype='U60')
    return table


def rank(search, table, phrase='globular cluster', **options):
    return search.rank(table, phrase, image_dir=sample.IMAGE_DIR, show_progress=False, **options)


@pytest.fixture(scope='module')
def told(search, galaxies):
    """The same; title and class of a row whose picture does not fit say what is asked for."""
    best = rank(search, galaxies)
    last = best[(~best['clip_rank'].mask).sum() // 2]
    table = galaxies.copy()
    row = int(np.flatnonzero(table['obs_id'] == last['obs_id'])[0])
    table['obs_title'][row] = 'Globular clusters: the globular cluster M 15'
    table['target_classification'][row] = 'Stellar cluster; Globular cluster'
    return table, last['obs_id']


def notes(ranked):
    return [name for name, message in zip(ranked['obs_id'], ranked['clip_message'], strict=True)
            if has_note(str(message), 'by_words')]


def test_without_metadata_that_fit_no_row_is_there_for_its_words(search, galaxies):
    assert notes(rank(search, galaxies)) == []


def test_a_row_says_that_its_words_brought_it_there(search, told):
    table, name = told
    best = rank(search, table)
    assert name in best['obs_id'][:15]
    assert notes(best) == [name]
    row = best[best['obs_id'] == name][0]
    assert row['clip_status'] == 'OK'
    assert row['clip_message'] == SENTENCE
    assert row['clip_false_alarm'] > 0.1
    assert best.meta['clip']['score_weights']['metadata'] > 0


@pytest.mark.parametrize('by', ['image', 'metadata'])
def test_it_does_not_if_one_of_them_was_asked_alone(search, told, by):
    assert notes(rank(search, told[0], by=by)) == []


def test_the_note_goes_when_the_table_is_ranked_again(search, told, tmp_path):
    best = rank(search, told[0])
    assert notes(best)
    assert notes(search.refine(best, by='image')) == []
    assert notes(rank(search, best, 'edge-on galaxy')) == []
    again = search.refine(best)
    assert notes(again) == notes(best)
    assert not any(SENTENCE in part for message in again['clip_message']
                   for part in str(message).replace(SENTENCE, '', 1).split('; '))
    best.write(tmp_path / 'best.ecsv')
    assert notes(rank(search, Table.read(tmp_path / 'best.ecsv'), 'edge-on galaxy')) == []
