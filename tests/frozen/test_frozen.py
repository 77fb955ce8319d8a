# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Rankings are as good as they were: pictures, their preparation, phrases and both towers together.
"""

import tomllib

import numpy as np
import pytest

from tests import frozen


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    return frozen.measure(tmp_path_factory.mktemp('frozen'))


def test_the_embedded_model_ranks_as_well_as_recorded(found):
    recorded = frozen.recorded()
    assert frozen.name_of() == recorded['model'], (
        'the value is that of another model: python -m tests.frozen --record')
    assert frozen.mean(found) >= recorded['ndcg@10'] - 0.01, found


def test_pictures_are_where_they_were(found):
    """A model that forgives swapped channels or a coarser filter is asked other than it was."""
    assert frozen.moved(found, frozen.recorded()['phrases']) < 0.01


def test_pictures_and_phrases_are_those_that_were_frozen(tmp_path):
    kinds = frozen.write(tmp_path)
    queries = tomllib.loads(frozen.QUERIES.read_text('utf-8'))
    assert len(kinds) == len(list(tmp_path.iterdir())) == 200
    assert len(queries) == 30
    assert {kind for named in queries.values() for some in named for kind in some} <= set(kinds)


@pytest.mark.parametrize(('gains', 'value'), [
    ([3, 1, 0], 1), ([0, 1, 3], (0.5 * 3 + 1 / np.log2(3)) / (3 + 1 / np.log2(3))),
    ([0] * 10 + [3], 0)])
def test_a_perfect_ranking_is_one(gains, value):
    assert frozen.ndcg(np.array(gains)) == pytest.approx(value)
