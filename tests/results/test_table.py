# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Scores -> the ordered table, what it says of itself, and its warnings.
"""

import warnings

import numpy as np
import pytest
from astropy.table import Table

from astroclip_search.embeddings.collect import Outcomes
from astroclip_search.exceptions import NothingRankedWarning, UnfinishedWarning, UnreadImagesWarning
from astroclip_search.ranking.query import Query
from astroclip_search.ranking.scores import Scores
from astroclip_search.results.table import (
    BEHIND,
    IN_FRONT,
    provenance,
    ranked_table,
    warn_of_rows,
)
from astroclip_search.status import reason
from tests.colours import ColourEncoder

# A code of each status.
CODES = {'SKIPPED': 'spectrum', 'NO_IMAGE': 'no_image_named', 'DENIED': 'datalink_denied',
         'ERROR': 'no_answer'}


def outcomes(statuses):
    return Outcomes([None] * len(statuses), {
        row: (reason(CODES[status]),) for row, status in enumerate(statuses) if status != 'OK'})


def test_ranked_table_of_other_lengths():
    table = Table({'a': [1, 2, 3]})
    values = np.array([0.5, np.nan, 0.7], dtype=np.float32)
    rows = Outcomes(['x', None, 'z'], {1: (reason('unexpected', error='why'),)})
    scores = Scores(values, values, values, values)
    ranked = ranked_table(table, rows, scores, np.array([2, 0]))
    assert ranked['a'].tolist() == [3, 1]
    ranked = ranked_table(table, rows, scores, np.array([2, 0, 1]))
    assert ranked['clip_source'].tolist() == ['z', 'x', '']
    assert ranked['clip_message'].tolist() == ['', '', 'why']
    assert ranked['clip_status'].tolist() == ['OK', 'OK', 'ERROR']
    assert (ranked['clip_score'].format, ranked['clip_false_alarm'].format) == ('.4f', '.2g')
    assert tuple(ranked.colnames) == (*IN_FRONT, 'a', *BEHIND)


def test_what_leads_is_in_front_and_what_explains_is_behind():
    assert IN_FRONT == ('clip_rank', 'clip_score', 'clip_false_alarm')
    assert BEHIND == ('clip_image', 'clip_metadata', 'clip_source', 'clip_message', 'clip_status',
                      'clip_name')


def test_provenance_is_plain_data():
    values = np.array([0.5, np.nan])
    found = provenance(outcomes(['OK', 'NO_IMAGE']), Query(['a']),
                       Scores(values, values, values, values), 'both', ColourEncoder())
    assert (found['n_rows'], found['n_ranked']) == (2, 1)
    assert found['status'] == {'OK': 1, 'NO_IMAGE': 1}
    assert type(found['status']) is dict
    assert all(type(value) in (str, int, list, dict, type(None)) for value in found.values())


@pytest.mark.parametrize(('status', 'category'), [
    ([], NothingRankedWarning), (['OK'], None), (['OK', 'SKIPPED', 'NO_IMAGE'], None),
    (['OK', 'ERROR'], UnreadImagesWarning), (['OK', 'DENIED'], UnreadImagesWarning),
    (['ERROR', 'ERROR'], NothingRankedWarning), (['SKIPPED'], NothingRankedWarning),
    (['NO_IMAGE', 'DENIED'], NothingRankedWarning)])
def test_one_warning_for_all_rows(status, category):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        warn_of_rows(outcomes(status))
    assert [item.category for item in caught] == ([] if category is None else [category])


@pytest.mark.parametrize(('code', 'parts', 'said'), [
    ('query_timeout', {'seconds': 1}, 'There was no time for 2 of 3 images'),
    ('stopped', {}, 'Stopped before 2 of 3 rows were read')])
def test_what_is_left_for_the_next_call(code, parts, said):
    with pytest.warns(UnfinishedWarning, match=said):
        warn_of_rows(Outcomes([None] * 3, dict.fromkeys((0, 2), (reason(code, **parts),))))
