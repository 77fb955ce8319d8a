"""Metrics of rankings, against values worked out by hand."""

import numpy as np
import pytest

pytest.importorskip('scipy', reason='export/ needs scipy: install the extra [export]')

from export.metrics import area_difference, random_retrieval, retrieval

TRUTH = np.array([True, False, True, False])[:, None]


def test_perfect_and_reversed_rankings():
    assert retrieval(np.array([4, 2, 3, 1.0])[:, None], TRUTH) == [1.0, 1.0, 0.5]
    area, precision, _ = retrieval(np.array([1, 3, 2, 4.0])[:, None], TRUTH)
    assert area == 0
    assert precision == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_one_swap():
    area, precision, _ = retrieval(np.array([4, 3, 2, 1.0])[:, None], TRUTH)
    assert area == pytest.approx(0.75)
    assert precision == pytest.approx((1 + 2 / 3) / 2)


def test_a_query_without_positives_is_left_out():
    scores = np.array([[4, 1], [2, 2], [3, 3], [1, 4.0]])
    truth = np.hstack([TRUTH, np.zeros_like(TRUTH)])
    assert retrieval(scores, truth) == [1.0, 1.0, 0.5]


def test_chance_is_one_half_and_the_prevalence():
    truth = np.arange(1000)[:, None] % 10 == 0
    area, precision, first = random_retrieval(truth)
    assert area == pytest.approx(0.5, abs=0.02)
    assert precision == pytest.approx(0.1, abs=0.03)
    assert first == pytest.approx(0.1, abs=0.08)


def test_bootstrap_interval_holds_a_clear_difference():
    rng = np.random.default_rng(0)
    truth = rng.random((200, 3)) < 0.3
    low, high = area_difference(truth + rng.normal(0, 0.3, truth.shape),
                                rng.normal(size=truth.shape), truth, draws=50)
    assert 0.3 < low < high < 0.65
