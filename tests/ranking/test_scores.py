# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the numbers of a ranked table mean.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from astroclip_search.models.background import normalise
from astroclip_search.ranking.calibration import (
    LIKELY_CHANCE,
    false_alarm_rate,
    z_score,
)
from astroclip_search.ranking.order import order
from astroclip_search.ranking.query import centroid
from astroclip_search.ranking.scores import combine_scores
from astroclip_search.ranking.words import NO_METADATA, RowWords

cosine = st.floats(-1, 1, width=32)
cosines = arrays(np.float32, st.integers(0, 30), elements=cosine | st.just(np.nan))
background = arrays(np.float32, st.integers(1, 30), elements=cosine)
# Few distinct values, so that there are ties.
scores = arrays(np.float32, st.integers(0, 50),
                elements=st.sampled_from([-2.5, -0.0, 0.0, 0.125, 3.0, np.nan]))


@given(scores)
def test_order_is_best_first_and_stable_with_unranked_rows_last(score):
    rows = order(score)
    assert sorted(rows.tolist()) == list(range(len(score)))
    expected = sorted(range(len(score)),
                      key=lambda i: (bool(np.isnan(score[i])), 0 if np.isnan(score[i])
                                     else -float(score[i])))
    assert rows.tolist() == expected


@given(cosines, background)
def test_false_alarm_counts_the_background_at_least_as_high_and_the_image(values, reference):
    found = false_alarm_rate(values, reference)
    assert found.dtype == np.float32
    for value, fraction in zip(values, found, strict=True):
        if np.isnan(value):
            assert np.isnan(fraction)
        else:
            reached = np.sum(reference >= value)
            assert fraction == np.float32((reached + 1) / (len(reference) + 1))
            assert 0 < fraction <= 1


def test_an_image_drawn_like_the_background_passes_as_often_as_the_rate_says():
    rng = np.random.default_rng(0)
    rates = np.array([false_alarm_rate(*np.split(rng.normal(size=100), [1]))[0]
                      for _ in range(4000)])
    for rate in (0.01, 0.05, 0.5):
        assert (rates <= rate + 1e-6).mean() == pytest.approx(rate, abs=3 * (rate / 4000)**0.5)


def test_what_is_not_known_of_the_background_does_not_count():
    values, known = np.array([0.5, np.nan, 0.2]), np.array([0.1, 0.3, 0.6])
    gaps = np.array([np.nan, 0.1, 0.3, np.nan, 0.6])
    for measure in (z_score, false_alarm_rate):
        np.testing.assert_allclose(measure(values, gaps), measure(values, known))


@given(cosines, background)
def test_z_score_keeps_the_order(values, reference):
    found = z_score(values, reference)
    assert np.array_equal(np.isnan(found), np.isnan(values))
    higher = values[:, None] > values[None, :]
    assert (found[:, None] >= found[None, :])[higher].all()


def test_z_score_gives_deviations_above_the_mean():
    np.testing.assert_allclose(z_score(np.array([0.5, np.nan, 0.2]), np.array([0.1, 0.3])),
                               [3, np.nan, 0], atol=1e-12)


def test_a_background_without_spread_divides_by_nothing():
    assert np.isfinite(z_score(np.array([0.5]), np.array([0.5, 0.5]))).all()


def test_normalise():
    found = normalise([[3, 4], [0, 0]])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])
    assert normalise(np.empty((0, 4))).shape == (0, 4)


def test_centroid_of_phrases_and_their_contrary():
    x, y, z = np.eye(3)
    np.testing.assert_allclose(centroid(np.stack([x, y])), (x + y) / 2**0.5, atol=1e-6)
    np.testing.assert_allclose(centroid(np.stack([x]), np.stack([y, z])),
                               normalise((x - (y + z) / 4)[None])[0], atol=1e-6)
    np.testing.assert_allclose(centroid(np.stack([x]), np.empty((0, 3))), x)


IMAGE = np.array([0.375, 0.125, np.nan, 0.25])
METADATA = np.array([0.5, np.nan, 1.0, 0.0])
# Means 1/8 and 1/2, deviations 1/8 and 1/4.
IMAGE_BACKGROUND, METADATA_BACKGROUND = np.array([0.0, 0.25]), np.array([0.25, 0.75])


def combined(by, **changes):
    return combine_scores(IMAGE, changes.pop('metadata', METADATA), by=by, **{
        'weights': (2.0, 0.5), 'image_background': IMAGE_BACKGROUND,
        'metadata_background': METADATA_BACKGROUND, **changes})


def test_both_is_the_weighted_sum_of_deviations():
    """
    A row without metadata is as one whose metadata say little; one without a picture has no score.
    """
    scores = combined('both')
    np.testing.assert_allclose(scores.score, [2 * 2 + 0.5 * 0, 0.5 * NO_METADATA, np.nan,
                                              2 * 1 - 0.5 * 2],
                               atol=1e-5)
    np.testing.assert_allclose(scores.image, IMAGE, atol=1e-7)
    np.testing.assert_allclose(scores.metadata, METADATA, atol=1e-7)
    np.testing.assert_allclose(scores.false_alarm, [1 / 3, 2 / 3, np.nan, 2 / 3])
    assert {a.dtype for a in (scores.score, scores.image, scores.metadata, scores.false_alarm)} == {
        np.dtype(np.float32)}


def test_a_name_counts_where_it_is_what_is_asked_for():
    """
    Of what it sounds like nothing follows; alone, it still has its order.
    """
    def names(*least):
        return RowWords([''] * 4, [], np.array(least, np.float32), np.zeros(4, bool))

    # Deviations of 4 and 2.
    scores = combined('both', words=names(3, -np.inf, -np.inf, 3),
                      metadata=np.array([1.5, np.nan, 1.0, 1.0]))
    np.testing.assert_allclose(scores.score, [2 * 2 + 0.5 * 4, 0.5 * NO_METADATA, np.nan,
                                              2 * 1 + 0.5 * NO_METADATA], atol=1e-5)
    alone = combined('metadata', words=names(*[np.inf] * 4))
    np.testing.assert_allclose(alone.score, [0, np.nan, 2, -2], atol=1e-5)


def test_one_of_them_alone():
    np.testing.assert_allclose(combined('image').score, [2, 0, np.nan, 1], atol=1e-5)
    np.testing.assert_allclose(combined('metadata').score, [0, np.nan, 2, -2], atol=1e-5)


@pytest.mark.parametrize('missing', ['weights', 'image_background', 'metadata_background'])
def test_a_model_without_fitted_weights_ranks_by_the_picture(missing):
    np.testing.assert_allclose(combined('both', **{missing: None}).score, IMAGE, atol=1e-7)


def test_without_reference_images_there_is_no_false_alarm_rate():
    assert np.isnan(combined('image', image_background=None).false_alarm).all()


@pytest.mark.parametrize('by', ['both', 'image', 'metadata'])
def test_no_rows(by):
    found = combine_scores(np.array([]), np.array([]), by=by, weights=(1, 1),
                           image_background=IMAGE_BACKGROUND,
                           metadata_background=METADATA_BACKGROUND)
    assert found.score.shape == found.false_alarm.shape == (0,)
    assert order(found.score).shape == (0,)


# ---- is there anything at all? -------------------------------------------------------------


# A probability is honest if it is as small as this in no more tables than this.
LEVEL = 0.1


def in_tables(n_rows, *, shift=0.0, n_shifted=0, n_tables=300, by='image'):
    """How often something stands out of a table, some rows of which are moved up."""
    rng = np.random.default_rng(n_rows)
    n_found = 0
    for _ in range(n_tables):
        image, metadata = rng.normal(size=(2, n_rows))
        image[:n_shifted] += shift
        metadata[rng.random(n_rows) < 0.5] = np.nan
        n_found += combine_scores(image, metadata, by=by, weights=(1.0, 1.0),
                                  image_background=rng.normal(size=1000),
                                  metadata_background=rng.normal(size=500)).chance <= LEVEL
    return n_found / n_tables


@pytest.mark.parametrize('by', ['image', 'metadata', 'both'])
@pytest.mark.parametrize('n_rows', [1, 12, 100, 1500])
def test_unrelated_rows_seldom_look_like_a_find(n_rows, by):
    # The probability is exact, and the number of tables has a standard deviation.
    assert in_tables(n_rows, by=by) <= LEVEL + 3 * (LEVEL * (1 - LEVEL) / 300)**0.5


@pytest.mark.parametrize('by', ['image', 'both'])
def test_one_row_far_above_the_others_is_a_find(by):
    assert in_tables(12, shift=6, n_shifted=1, by=by) > 0.9


def test_many_rows_of_a_large_table_are_a_find():
    """
    None of them alone: of 1500 unrelated rows, several are above all of 1000 reference images.
    """
    assert in_tables(1500, shift=6, n_shifted=1, n_tables=50) < 0.2
    assert in_tables(1500, shift=3, n_shifted=75, n_tables=50) > 0.95


def test_metadata_that_fit_are_a_find_too():
    rng = np.random.default_rng(3)
    image, metadata = rng.uniform(-1, 1, size=(2, 20))
    backgrounds = {'image_background': rng.normal(size=500),
                   'metadata_background': rng.normal(size=500)}
    metadata[4] = 9
    options = {'weights': (1.0, 1.0), **backgrounds}
    assert combine_scores(image, metadata, by='both', **options).chance < LEVEL < LIKELY_CHANCE
    assert combine_scores(image, metadata, by='image', **options).chance > 0.5


def test_without_a_background_nothing_is_said_of_chance():
    assert np.isnan(combined('both', image_background=None).chance)
    assert np.isnan(combined('metadata', metadata_background=None).chance)
    assert combined('both', weights=None).chance == combined('image').chance
