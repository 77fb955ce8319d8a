"""Metrics of rankings, against values worked out by hand, every order of ties, and scikit-learn."""

from itertools import permutations

import numpy as np
import pytest

pytest.importorskip('scipy', reason='export/ needs scipy: install the extra [export]')
pytest.importorskip('sklearn', reason='export/ needs scikit-learn: install the extra [export]')

import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from export.measures.metrics import (
    METRICS,
    area_difference,
    area_under_curve,
    average_precision,
    bootstrap,
    draw_rows,
    interval,
    measure,
    random_retrieval,
    retrieval,
    strata_of,
)

TRUTH = np.array([True, False, True, False])[:, None]

#: A ranking with many equal scores: (score, truth) of each image.
RANKINGS = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(truth for _, truth in rows) < len(rows))


def columns(rows):
    scores, truth = zip(*rows, strict=True)
    return np.array(scores, float), np.array(truth)


def by_hand(truth):
    """Metrics of one order without ties, from their definitions."""
    count = sum(truth)
    hits = [rank for rank, one in enumerate(truth, 1) if one]
    above = sum(1 for i, one in enumerate(truth) for other in truth[i + 1:] if one and not other)
    gains = [1 / np.log2(rank + 1) for rank in range(1, 11)]
    recall = {k: sum(truth[:k]) / min(k, count) for k in (1, 5, 10)}
    return [
        above / (count * (len(truth) - count)),
        np.mean([(i + 1) / rank for i, rank in enumerate(hits)]),
        sum(truth[:10]) / min(10, len(truth)),
        sum(gains[rank - 1] for rank in hits if rank <= 10) / sum(gains[:min(10, count)]),
        recall[1], recall[5], recall[10], 1 / hits[0],
    ]


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
    assert np.isnan(measure(scores, truth)[1]).all()
    assert np.isnan(measure(scores, ~truth)[1]).all()


@given(st.lists(st.booleans(), min_size=2, max_size=30).filter(
    lambda truth: 0 < sum(truth) < len(truth)))
def test_without_ties_the_metrics_are_their_definitions(truth):
    scores = -np.arange(len(truth), dtype=float)
    found = measure(scores[:, None], np.array(truth)[:, None])[0]
    assert found == pytest.approx(by_hand(truth))


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=2, max_size=6).filter(
    lambda rows: 0 < sum(truth for _, truth in rows) < len(rows)))
def test_ties_are_the_mean_over_all_orders(rows):
    scores, truth = columns(rows)
    orders = [order for order in permutations(range(len(rows)))
              if (np.diff(scores[list(order)]) <= 0).all()]
    every = np.array([by_hand(list(truth[list(order)])) for order in orders])
    found = dict(zip(METRICS, measure(scores[:, None], truth[:, None])[0], strict=True))
    mean = dict(zip(METRICS, every.mean(0), strict=True))
    for name in ('AUC', 'P@10', 'nDCG@10', 'R@1', 'R@5', 'R@10'):
        assert found[name] == pytest.approx(mean[name]), name
    assert 1 / found['MRR'] == pytest.approx((1 / every[:, -1]).mean())


@given(RANKINGS)
def test_scikit_learn_agrees(rows):
    scores, truth = columns(rows)
    found = measure(scores[:, None], truth[:, None])[0]
    assert found[0] == pytest.approx(sklearn.metrics.roc_auc_score(truth, scores))
    assert found[1] == pytest.approx(sklearn.metrics.average_precision_score(truth, scores))
    assert found[3] == pytest.approx(sklearn.metrics.ndcg_score(
        truth[None].astype(int), scores[None], k=10))
    assert area_under_curve(scores, truth) == found[0]
    assert average_precision(scores, truth) == found[1]


@given(RANKINGS, st.randoms(use_true_random=False))
def test_the_order_of_rows_says_nothing(rows, random):
    mixed = random.sample(rows, len(rows))
    first, second = (measure(scores[:, None], truth[:, None])
                     for scores, truth in (columns(rows), columns(mixed)))
    assert first == pytest.approx(second)


def test_queries_are_independent_columns():
    rng = np.random.default_rng(1)
    scores, truth = rng.integers(0, 9, (60, 4)).astype(float), rng.random((60, 4)) < 0.3
    together = measure(scores, truth)
    for query in range(4):
        assert measure(scores[:, [query]], truth[:, [query]])[0] == pytest.approx(together[query])


def test_bootstrap_is_the_measure_of_each_sample():
    rng = np.random.default_rng(2)
    scores, truth = rng.integers(0, 9, (50, 3)).astype(float), rng.random((50, 3)) < 0.3
    strata = strata_of(truth)
    rows = draw_rows(strata, 7, np.random.default_rng(5))
    found = bootstrap(scores, truth, draws=7, seed=5)
    for sample, values in zip(rows, found, strict=True):
        assert values == pytest.approx(measure(scores[sample], truth[sample]), nan_ok=True)


def test_samples_keep_the_size_of_every_class_and_source():
    truth = np.repeat(np.eye(3, dtype=bool), [2, 5, 13], axis=0)
    sources = ['a', 'b'] * 10
    rows = draw_rows(strata_of(truth, sources), 20, np.random.default_rng(0))
    assert (truth[rows].sum(1) == [2, 5, 13]).all()
    assert (np.array(sources)[rows] == 'a').sum(1).tolist() == [10] * 20
    assert len(np.unique(rows, axis=0)) > 15


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(4)
    truth = np.arange(120)[:, None] % 6 == 0

    def draw():
        return truth + rng.normal(size=truth.shape)

    exact = np.mean([measure(draw(), truth)[0] for _ in range(2000)], axis=0)
    inside = np.zeros(2)
    for seed in range(200):
        scores = draw()
        samples = bootstrap(scores, truth, draws=100, seed=seed)[:, 0]
        low, high = interval(samples, measure(scores, truth)[0])
        inside += ((low < exact) & (exact < high))[:2]
    assert (inside / 200 > 0.88).all()
    assert (inside / 200 < 0.99).all()


def test_an_interval_is_shifted_by_the_bias_of_resampling():
    samples = np.random.default_rng(0).normal(0.6, 0.05, (4000, 2))
    low, high = interval(samples, np.array([0.5, 0.95]))
    assert low == pytest.approx([0.402, 0.852], abs=0.01)
    assert high == pytest.approx([0.598, 1.0], abs=0.01)


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
