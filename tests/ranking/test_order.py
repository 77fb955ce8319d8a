# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Groups take turns, and what repeats another picture steps back.
"""

import time

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Column, MaskedColumn, QTable, Table
from astroquery.exceptions import InvalidQueryError
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search.models.background import normalise
from astroclip_search.ranking.order import duplicates, group_codes, take_turns


@given(st.lists(st.integers(0, 4), max_size=40), st.randoms())
def test_turns_give_the_best_of_each_group_first(codes, random):
    rows = list(range(len(codes)))
    random.shuffle(rows)
    found = take_turns(np.array(rows, dtype=int), np.array(codes, dtype=int)).tolist()
    seen, turns = {}, []
    for row in rows:
        turns.append(seen.setdefault(codes[row], 0))
        seen[codes[row]] += 1
    # A stable sort by turn: within a turn in the old order.
    assert found == [row for _, row in sorted(zip(turns, rows, strict=True),
                                              key=lambda pair: pair[0])]


def test_turns():
    codes = np.array([7, 7, 7, 1, 1, 2])
    assert take_turns(np.arange(6), codes).tolist() == [0, 3, 5, 1, 4, 2]
    assert take_turns(np.array([2, 5, 1]), codes).tolist() == [2, 5, 1]


def test_groups_of_columns():
    table = Table({'a': ['x', 'x', 'y', 'x', ''], 'b': [1, 1, 1, 2, 2]})
    assert group_codes(table, 'b').tolist() == [0, 0, 0, 1, 1]
    codes = group_codes(table, ['a', 'b']).tolist()
    assert codes[0] == codes[1]
    assert len(set(codes)) == 4


@pytest.mark.parametrize('column', [
    MaskedColumn(['p', 'p', 'q', 'q'], mask=[False, False, True, True]),
    Column(['p', 'p', '', ' ']), Column([b'p', b'p', b'', b'']), Column([1.5, 1.5, np.nan, np.nan]),
    MaskedColumn([5, 5, 6, 6], mask=[0, 0, 1, 1]),
    Column(np.array(['p', 'p ', None, None], dtype=object)),
    MaskedColumn(np.array([['l'], ['l'], 3, 3], dtype=object), mask=[0, 0, 1, 1]),
], ids=lambda column: str(column.dtype))
def test_rows_without_a_value_stand_alone(column):
    codes = group_codes(Table([column], names=['p']), 'p').tolist()
    if column.dtype.kind == 'O' and column[2] is None:
        codes[2:] = [-1, -2]  # the text None is a name like any other
    assert codes[0] == codes[1]
    assert len(set(codes)) == 3


def test_quantities_are_grouped_too():
    assert group_codes(QTable({'q': [1, 1, 2] * u.s}), 'q').tolist() == [0, 0, 1]


@pytest.mark.parametrize(('names', 'message'), [
    ('proposal', "no column 'proposal' to group by: the table has proposal_id, pair, sky"),
    (['proposal_id', 'x'], "no column 'x'"), ('pair', "'pair' has several values a row"),
    ([], 'group_by must be'), (5, 'group_by must be'), ([5], 'group_by must be'),
    ('PROPOSAL_ID', 'no column')])
def test_no_such_group(names, message):
    table = Table({'proposal_id': ['a', 'b'], 'pair': np.ones((2, 2)),
                   'sky': SkyCoord([1, 2], [3, 4], unit='deg')})
    with pytest.raises(InvalidQueryError, match=message):
        group_codes(table, names)


def greedy(vectors, cosine):
    kept, twin = [], []
    for i, vector in enumerate(vectors):
        best = next((j for j in kept if vectors[j] @ vector >= cosine), -1)
        twin.append(best)
        if best < 0:
            kept.append(i)
    return twin


@pytest.mark.parametrize('n', [0, 1, 5, 512, 1300])
def test_duplicates_are_found_as_one_by_one(n):
    rng = np.random.default_rng(n)
    # Small integers: their products are exact in whatever order they are summed.
    vectors = rng.integers(-1, 2, (n, 4)).astype(np.float32)
    assert duplicates(vectors, 3).tolist() == greedy(vectors, 3)
    assert duplicates(vectors, 99).tolist() == [-1] * n


def test_a_chain_does_not_fold_as_a_whole():
    angle = np.radians([0, 10, 20, 30])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    assert duplicates(vectors, np.cos(np.radians(11))).tolist() == [-1, 0, -1, 2]


def test_time_is_bounded():
    vectors = normalise(np.random.default_rng(1).normal(size=(5000, 384)))
    started = time.perf_counter()
    assert (duplicates(vectors, 0.98) < 0).all()
    assert time.perf_counter() - started < 20
