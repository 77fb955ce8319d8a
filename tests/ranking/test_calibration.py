# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Rates and chances that are right for unrelated images of one archive, and say so where they are not.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from astroclip_search.ranking.calibration import (
    STANDARD_RATE,
    TRUSTED_RATE,
    archives_of,
    chance,
    false_alarm_rate,
    left_out_rate,
    threshold,
)

cosine = st.floats(-1, 1, width=32)
cosines = arrays(np.float32, st.integers(0, 30), elements=cosine | st.just(np.nan))


@st.composite
def backgrounds(draw):
    background = draw(arrays(np.float32, st.integers(1, 60), elements=cosine | st.just(np.nan)))
    source = draw(arrays(np.int64, len(background), elements=st.integers(0, 3)))
    return background, source


def archives(rng, shifts, size=400):
    """The cosines of several archives, each moved by its own shift, and their numbers."""
    return (np.concatenate([rng.normal(shift, size=size) for shift in shifts]),
            np.repeat(np.arange(len(shifts)), size))


# ---- the rate of one image -----------------------------------------------------------------


@given(cosines, backgrounds())
def test_the_rate_of_the_worst_archive_is_no_less_than_that_of_all(values, reference):
    background, source = reference
    found = false_alarm_rate(values, background, source)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    known = ~np.isnan(values)
    assert (found[known] >= false_alarm_rate(values, background)[known] - 1e-6).all()
    assert ((found[known] > 0) & (found[known] <= 1 + 1e-6)).all()
    order = np.argsort(values[known], kind='stable')
    assert (np.diff(found[known][order]) <= 1e-6).all(), 'the higher, the rarer'


@given(cosines, backgrounds())
def test_one_archive_is_all_archives(values, reference):
    background, _ = reference
    np.testing.assert_allclose(
        false_alarm_rate(values, background, np.zeros(len(background), int)),
        false_alarm_rate(values, background), rtol=0.05, atol=1e-6)


@pytest.mark.parametrize('rate', [0.01, 0.1])
def test_an_image_of_any_of_the_archives_passes_no_more_often_than_the_rate_says(rate):
    """Whatever their shifts; without the archives, those of the highest pass far more often."""
    rng = np.random.default_rng(2)
    shares, mixed = [], []
    for _ in range(40):
        background, source = archives(rng, [0, -1, 1.5])
        tried = rng.normal(1.5, size=200)
        shares.append((false_alarm_rate(tried, background, source) <= rate).mean())
        mixed.append((false_alarm_rate(tried, background) <= rate).mean())
    assert np.mean(shares) == pytest.approx(rate, rel=0.35)
    assert np.mean(mixed) > 1.9 * rate


@given(backgrounds(), st.floats(0.02, 0.99))
def test_what_is_above_the_threshold_has_that_rate_or_less(reference, rate):
    background, source = reference
    for of_archive in (None, source):
        limit = threshold(background, rate, of_archive)
        known = background[~np.isnan(background)]
        passed = false_alarm_rate(known, background, of_archive) <= rate
        np.testing.assert_array_equal(known > limit, passed)


# ---- the rate of an archive that is left out -------------------------------------------------


def test_archives_that_are_alike_are_trusted():
    rng = np.random.default_rng(3)
    found = [left_out_rate(*archives(rng, [0, 0, 0, 0])) for _ in range(100)]
    assert np.mean(np.array(found) > TRUSTED_RATE) <= 0.02
    assert np.median(found) == pytest.approx(STANDARD_RATE, abs=0.006)


def test_an_archive_that_looks_more_like_the_phrase_is_found_out():
    rng = np.random.default_rng(4)
    for _ in range(20):
        background, source = archives(rng, [0, 0, 2])
        # A normal variable that is moved by 2 passes the threshold of 1 % with 37 %.
        assert 0.15 < left_out_rate(background, source) < 0.6
        assert left_out_rate(-background, source) < 0.06, 'less like it does little harm'


def test_few_images_of_an_archive_prove_nothing():
    background, source = archives(np.random.default_rng(5), [0, 0])
    few = np.append(background, [9.0] * 15), np.append(source, [2] * 15)
    assert left_out_rate(*few) < TRUSTED_RATE
    assert np.isnan(left_out_rate(background, np.zeros(len(background))))
    related = np.where(source == 1, np.nan, background)
    assert np.isnan(left_out_rate(related, source)), 'there is nothing to compare with'


# ---- is there anything at all? -----------------------------------------------------------------


def shares(n_rows, *, shift=0.0, stretch=1.0, hits=0, level=0.1, n_tables=100):
    """How often something stands out of tables of an archive that is unlike all others."""
    rng = np.random.default_rng(n_rows)
    n_found = 0
    for _ in range(n_tables):
        score = rng.normal(shift, stretch, size=n_rows)
        score[:hits] += 6 * stretch
        nulls = [rng.normal(middle, size=500) for middle in (-1, 0, 1)]
        n_found += chance(score, nulls) <= level
    return n_found / n_tables


@pytest.mark.parametrize('level', [0.05, 0.1, 0.2])
@pytest.mark.parametrize('n_rows', [20, 100, 1000])
def test_a_chance_is_no_smaller_than_it_says(n_rows, level):
    """Three standard deviations more are bad luck; of two the greater counts: less is no fault."""
    expected = level + 3 * np.sqrt(level * (1 - level) / 100)
    assert shares(n_rows, level=level) <= expected
    assert shares(n_rows, shift=0.4, stretch=1.5, level=level) <= expected


@pytest.mark.parametrize('n_rows', [100, 1000])
def test_five_per_cent_far_above_the_others_stand_out(n_rows):
    assert shares(n_rows, hits=n_rows // 20, n_tables=40) > 0.95
    assert shares(n_rows, hits=n_rows // 20, shift=0.4, n_tables=40) > 0.9


def test_a_few_rows_are_compared_with_all_archives_together():
    nulls = [np.linspace(-1, 1, 200), np.linspace(1, 3, 200)]
    assert chance(np.array([3.5, 0.1, -0.2, 0.3]), nulls) < 0.05
    assert chance(np.array([2.9, 0.1, -0.2, 0.3]), nulls) > 0.05
    assert np.isnan(chance(np.array([np.nan]), nulls))
    assert np.isnan(chance(np.array([1.0]), []))


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, st.integers(0, 60), elements=st.floats(-50, 50) | st.just(np.nan)),
       st.lists(arrays(np.float64, st.integers(1, 40), elements=st.floats(-50, 50)), min_size=1,
                max_size=3))
def test_a_chance_is_a_probability(score, nulls):
    found = chance(score, nulls)
    assert np.isnan(found) if np.isnan(score).all() else 0 < found <= 1


def test_the_same_table_has_the_same_chance():
    rng = np.random.default_rng(8)
    score, nulls = rng.normal(size=300), [rng.normal(size=200) for _ in range(2)]
    assert chance(score, nulls) == chance(rng.permutation(score), nulls)


def test_archives_with_few_unrelated_images_do_not_stand_alone():
    source = np.repeat([0, 1, 2], [150, 150, 60])
    background = np.zeros(360)
    background[:80] = np.nan
    assert [len(rows) for rows in archives_of(background, source)] == [150]
    assert [len(rows) for rows in archives_of(background, None)] == [280]
    assert [len(rows) for rows in archives_of(background[:100], source[:100])] == [20]
