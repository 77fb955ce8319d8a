"""Ranks of pairs, against values worked out by hand, every order of ties, and ir-measures."""

from itertools import permutations

import numpy as np
import pytest

pytest.importorskip('scipy', reason='export/ needs scipy: install the extra [export]')
pytest.importorskip('sklearn', reason='export/ needs scikit-learn: install the extra [export]')

from hypothesis import given, settings
from hypothesis import strategies as st

from export.measures.metrics import group_bootstrap, ndcg
from export.measures.ranks import (
    Ranks,
    cosines,
    paper_batches,
    paper_curve,
    paper_rows,
    ranks,
    unit,
)

EVERY = np.arange(4)
#: Captions along the axes, so that an image holds its own scores.
AXES = np.eye(4)
IMAGES = np.array([[9., 1, 2, 3],   # own caption first
                   [5., 4, 1, 0],   # second
                   [3., 3, 3, 1],   # one of three first ones
                   [4., 3, 2, 1]])  # last

#: Scores with many ties, and the group of each answer.
ROWS = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5).filter(
    lambda rows: any(right for _, right in rows))
VECTORS = st.integers(2, 40).flatmap(lambda n: st.tuples(
    st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=n, max_size=n),
    st.lists(st.integers(0, 5), min_size=n, max_size=n)))


def of_pairs(drawn):
    images, caption = np.array(drawn[0], float), np.unique(drawn[1], return_inverse=True)[1]
    texts = np.random.default_rng(0).integers(-3, 4, (caption.max() + 1, 3)).astype(float)
    return images, texts, caption


def test_ranks_by_hand():
    found = ranks(IMAGES, AXES, EVERY, EVERY)
    assert found.above.tolist() == [0, 1, 0, 3]
    assert found.equal.tolist() == [1, 1, 3, 1]
    assert found.mean.tolist() == [1, 2, 2, 4]
    assert found.found(1).tolist() == pytest.approx([1, 0, 1 / 3, 0])
    assert found.found(2).tolist() == pytest.approx([1, 1, 2 / 3, 0])
    assert found.found(0).tolist() == [0, 0, 0, 0]
    assert found.found(9).tolist() == [1, 1, 1, 1]
    numbers = found.numbers(EVERY, draws=20)
    assert numbers['RA_50%'][0] == pytest.approx((1 + 1 + 2 / 3 + 0) / 4)
    assert numbers['RA_20%'][0] == 0  # a fifth of four, rounded down, is none
    assert numbers['R@5'] == pytest.approx([1, 1, 1])
    assert numbers['median rank'] == 2
    assert numbers['MRR'][0] == pytest.approx((1 + 1 / 2 + 1 / 2 + 1 / 4) / 4)
    assert numbers['MRR'][1] < numbers['MRR'][0] < numbers['MRR'][2]


def test_the_share_of_captions_is_rounded_down_as_in_the_formula():
    one = np.ones(1, int)
    assert Ranks(one, one, one, 3194).places(10) == 319
    assert Ranks(one, one, one, 3000).places(10) == 300
    assert Ranks(one, one, one, 429).places(1) == 4
    assert Ranks(one, one, one, 10000).places(0.57) == 57  # of 56.99999999999999


def test_a_caption_shared_by_images_is_one_answer():
    caption = np.array([0, 0, 1, 1])
    found = ranks(IMAGES, AXES[:2], caption, np.arange(2))
    assert found.total == 2
    assert found.mean.tolist() == [1, 1, 1.5, 2]
    # Back, one of the images of a caption is enough: the best one.
    back = ranks(AXES[:2], IMAGES, np.arange(2), caption)
    assert back.mean.tolist() == [1, 2]  # 9 and 5 are right of 9 5 3 4; 3 and 3 of 1 4 3 3
    assert back.right.tolist() == [1, 2]


def test_a_query_without_a_right_answer_is_an_error():
    with pytest.raises(ValueError, match='no right answer'):
        ranks(IMAGES, AXES, EVERY + 1, EVERY)


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_ties_are_the_mean_over_all_orders(rows):
    scores, right = (np.array(part) for part in zip(*rows, strict=True))
    found = ranks(np.ones((1, 1)), scores[:, None].astype(float), np.array([1]), right.astype(int))
    orders = [order for order in permutations(range(len(rows)))
              if (np.diff(scores[list(order)]) <= 0).all()]
    first = np.array([1 + right[list(order)].argmax() for order in orders])
    assert found.mean[0] == pytest.approx(first.mean())
    for places in range(len(rows) + 1):
        assert found.found(places)[0] == pytest.approx((first <= places).mean())


@settings(deadline=None, max_examples=50)
@given(VECTORS, st.randoms(use_true_random=False))
def test_the_order_of_rows_says_nothing(drawn, random):
    images, texts, caption = of_pairs(drawn)
    order = random.sample(range(len(images)), len(images))
    first = ranks(images, texts, caption, np.arange(len(texts)))
    second = ranks(images[order], texts, caption[order], np.arange(len(texts)))
    assert (first.mean[order] == second.mean).all()
    back, other = (ranks(texts, images[rows], np.arange(len(texts)), caption[rows])
                   for rows in (np.arange(len(images)), order))
    assert (back.mean == other.mean).all()


@settings(deadline=None, max_examples=50)
@given(VECTORS)
def test_accuracy_grows_with_the_places_to_one(drawn):
    images, texts, caption = of_pairs(drawn)
    found = ranks(images, texts[caption], np.arange(len(images)), np.arange(len(images)))
    hits = np.stack([found.found(places) for places in range(len(images) + 1)])
    assert (np.diff(hits, axis=0) >= -1e-12).all()
    assert (hits[0] == 0).all()
    assert hits[-1] == pytest.approx(1)


@settings(deadline=None, max_examples=50)
@given(VECTORS)
def test_cosines_do_not_depend_on_lengths(drawn):
    images, texts, caption = of_pairs(drawn)
    lengths = np.linspace(1, 2, len(images))[:, None]
    first = ranks(images, texts, caption, np.arange(len(texts)))
    second = ranks(images * 2.0 ** np.arange(len(images))[:, None], texts, caption,
                   np.arange(len(texts)))
    assert (first.mean == second.mean).all()  # of images, within a row, the length cancels
    assert unit(images * lengths) == pytest.approx(unit(images))


def as_published(images, captions):
    """What the notebook of the paper does, in its own words: a sort, read from its end."""
    found = np.argsort(images @ captions.T, axis=-1, kind='stable')
    return [np.mean((found[:, -k:] == np.arange(len(images))[:, None]).any(1))
            for k in np.arange(1, len(images), 100)]


def test_the_curve_is_that_of_the_figures():
    rng = np.random.default_rng(1)
    caption = rng.integers(429, size=3000)
    texts = rng.integers(-3, 4, (429, 8)).astype(float)
    images = texts[caption] + rng.integers(-4, 5, (3000, 8))
    cuts, accuracy = paper_curve(images, texts, caption)
    assert cuts[:3].tolist() == [1, 101, 201]
    assert cuts[-1] == 2901
    assert accuracy == pytest.approx(as_published(images, texts[caption]))
    # Lengths of captions count there, and not in the formula.
    assert paper_curve(images, unit(texts), caption)[1][1] > accuracy[1] + 0.01


def test_of_equal_captions_the_last_row_is_first():
    caption = np.array([0, 0, 0, 1])
    images, texts = np.array([[2., 1], [2, 1], [2, 1], [1, 2]]), np.eye(2)
    cuts, accuracy = paper_curve(images, texts, caption)
    assert cuts.tolist() == [1, 2, 3]
    assert accuracy.tolist() == [0.5, 0.75, 1]  # ranks 3, 2, 1 and 1
    assert ranks(images, texts, caption, np.arange(2)).mean.tolist() == [1] * 4


@pytest.mark.parametrize(('count', 'wanted'), [(3194, 3000), (250, 200), (99, 99), (1, 1)])
def test_the_curve_is_made_of_whole_batches(count, wanted):
    rows = paper_rows(count)
    assert len(set(rows.tolist())) == len(rows) == wanted
    assert (paper_rows(count) == rows).all()
    cuts, accuracy = paper_curve(np.ones((wanted, 1)), np.ones((1, 1)), np.zeros(wanted, int))
    assert accuracy == pytest.approx(cuts / wanted)  # nothing known: chance
    assert wanted < 30 or cuts[:4][-1] / wanted == pytest.approx(0.1, abs=0.02)


def test_batches_by_hand():
    texts = np.eye(2)
    images = np.array([[3., 4], [0, 1], [0, 2], [5, 0], [7, 7]])
    caption = np.array([0, 1, 0, 1, 0])
    found = paper_batches(images, texts, caption, 2.0, size=2)
    assert found['batches'] == 2  # the fifth pair fills none
    # Cosines of caption 0 with its batch: .6 and 0; of caption 1: .8 and 1; then all wrong.
    assert found['top 1'] == 0.5
    assert found['top 5'] == 1
    assert found['chance loss'] == pytest.approx(np.log(2))
    right, wrong = np.array([[.6, 0], [.8, 1]]), np.array([[0, 1], [1, 0.]])
    losses = [-np.log(np.exp(2 * one[i, i]) / total) for one in (right, wrong) for i in (0, 1)
              for total in (np.exp(2 * one[i]).sum(), np.exp(2 * one[:, i]).sum())]
    assert found['loss'] == pytest.approx(np.mean(losses))


def test_batches_without_knowledge_are_at_chance():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(2, 3000, 512))
    found = paper_batches(images, texts, np.arange(3000), 0.01)
    assert found['top 10'] == pytest.approx(0.1, abs=0.02)
    assert found['loss'] == pytest.approx(found['chance loss'], abs=0.01)
    with pytest.raises(ValueError, match='do not fill a batch of 100'):
        paper_batches(images[:99], texts, np.arange(99), 1.0)


def test_cosines_by_hand():
    images, texts = np.array([[3., 4], [4, 3], [0, 2]]), np.array([[1., 0], [0, 5]])
    caption = np.array([0, 0, 1])
    true, shuffled, numbers = cosines(images, texts, caption, seed=2)
    assert true == pytest.approx([0.6, 0.8, 1])
    assert 1 <= len(shuffled) <= 2  # of two captions, one pair at least keeps its own
    assert set(shuffled.round(6)) <= {0.8, 0.6, 0}
    assert numbers['true mean'] == pytest.approx(0.8)
    assert numbers['true std'] == pytest.approx(np.std([0.6, 0.8, 1]))
    expected = np.mean([(t > s) + (t == s) / 2 for t in true for s in shuffled])
    assert numbers['AUC'] == pytest.approx(expected)


def test_without_two_captions_there_is_no_shuffled_pair():
    _, shuffled, numbers = cosines(np.ones((3, 2)), np.ones((1, 2)), np.zeros(3, int))
    assert len(shuffled) == 0
    assert np.isnan(numbers['AUC'])


def test_unrelated_pairs_have_an_area_of_one_half():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(2, 2000, 16))
    assert cosines(images, texts, np.arange(2000))[2]['AUC'] == pytest.approx(0.5, abs=0.03)


def test_groups_are_drawn_whole():
    values = np.repeat([0., 1.], [90, 10])[:, None]
    together = group_bootstrap(values, np.repeat([0, 1], [90, 10]), draws=500)
    assert set(together.round(6).ravel()) == {0, 0.1, 1}
    apart = group_bootstrap(values, np.arange(100), draws=500)
    assert apart.mean() == pytest.approx(0.1, abs=0.01)
    assert apart.std() == pytest.approx(0.03, abs=0.005)


def test_ndcg_by_hand():
    scores = np.array([[3., 1], [2, 1], [1, 1]])
    relevance = np.array([[1., 0.5], [3, 0], [0, 0]])
    ideal = 7 + 1 / np.log2(3)
    half = (2 ** 0.5 - 1) / 3 * (1 + 1 / np.log2(3) + 1 / 2) / (2 ** 0.5 - 1)
    assert ndcg(scores, relevance) == pytest.approx([(1 + 7 / np.log2(3)) / ideal, half])
    assert np.isnan(ndcg(scores, np.zeros((3, 2)))).all()


def test_two_lenses_in_the_first_ten_are_what_the_paper_reports():
    relevance = np.isin(np.arange(1000), [2, 7, *range(500, 560)]).astype(float)[:, None]
    assert ndcg(-np.arange(1000.)[:, None], relevance)[0] == pytest.approx(0.180, abs=0.001)


def test_equal_scores_are_what_chance_gives():
    rng = np.random.default_rng(42)
    relevance = rng.random((60, 1)) ** 4
    drawn = [ndcg(rng.random((60, 1)), relevance)[0] for _ in range(3000)]
    assert ndcg(np.zeros((60, 1)), relevance)[0] == pytest.approx(np.mean(drawn), abs=0.01)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5).filter(
    lambda rows: any(relevance for _, relevance in rows)))
def test_ties_of_graded_relevance_are_the_mean_over_all_orders(rows):
    scores, relevance = (np.array(part, float) for part in zip(*rows, strict=True))
    orders = [list(order) for order in permutations(range(len(rows)))
              if (np.diff(scores[list(order)]) <= 0).all()]
    falling = -np.arange(float(len(rows)))[:, None]
    every = [ndcg(falling, relevance[order][:, None], places=3)[0] for order in orders]
    assert ndcg(scores[:, None], relevance[:, None], places=3)[0] == pytest.approx(np.mean(every))


class TestIrMeasures:
    """Another implementation of the same measures, where scores differ."""

    @pytest.fixture(scope='class')
    def irm(self):
        return pytest.importorskip('ir_measures',
                                   reason='needs ir-measures: install the extra [export]')

    def both(self, irm, measures, scores, relevance):
        """Values of each query; its numbers as names, which the script of TREC wants."""
        qrels = [irm.Qrel(str(q + 1), str(i), int(value))
                 for q, column in enumerate(relevance.T) for i, value in enumerate(column)]
        run = [irm.ScoredDoc(str(q + 1), str(i), float(value))
               for q, column in enumerate(scores.T) for i, value in enumerate(column)]
        found = {name: np.full(scores.shape[1], np.nan) for name in measures}
        for one in irm.iter_calc(measures, qrels, run):
            found[one.measure][int(one.query_id) - 1] = one.value
        return found

    def scores(self, rng, shape):
        return rng.permuted(np.arange(np.prod(shape), dtype=float)).reshape(shape)

    def test_success_and_reciprocal_rank(self, irm):
        rng = np.random.default_rng(5)
        scores, group = self.scores(rng, (80, 30)), rng.integers(30, size=80)
        group[:30] = np.arange(30)
        relevance = group[:, None] == np.arange(30)
        measures = [irm.Success @ 1, irm.Success @ 5, irm.Success @ 10, irm.RR]
        theirs = self.both(irm, measures, scores, relevance)
        ours = ranks(np.eye(30), scores, np.arange(30), group)
        for k, name in zip((1, 5, 10), measures, strict=False):
            assert ours.found(k) == pytest.approx(theirs[name]), name
        assert 1 / ours.mean == pytest.approx(theirs[irm.RR])

    @pytest.mark.parametrize('grades', [2, 5])
    def test_ndcg_with_exponential_gain(self, irm, grades):
        import shutil

        if shutil.which('perl') is None:
            pytest.skip('the reference for this gain is a script in Perl')
        rng = np.random.default_rng(grades)
        scores = self.scores(rng, (40, 12))
        relevance = rng.integers(grades, size=(40, 12)) * (rng.random((40, 12)) < 0.4)
        measure = irm.nDCG(dcg='exp-log2') @ 10
        theirs = self.both(irm, [measure], scores, relevance)[measure]
        assert ndcg(scores, relevance.astype(float)) == pytest.approx(theirs, abs=1e-4)

    def test_precision_and_what_is_judged(self, irm):
        from export.measures.judged import precision

        rng = np.random.default_rng(7)
        scores = self.scores(rng, (50, 6))
        queries, ids = [str(q + 1) for q in range(6)], [str(i) for i in range(50)]
        judgements = {(query, name): bool(rng.random() < 0.4) for query in queries for name in ids
                      if rng.random() < 0.6}
        rows = precision(scores, queries, ids, np.arange(50), judgements)
        qrels = [irm.Qrel(*key, int(value)) for key, value in judgements.items()]
        run = [irm.ScoredDoc(query, name, scores[i, q]) for q, query in enumerate(queries)
               for i, name in enumerate(ids)]
        for one in irm.iter_calc([irm.P @ 10, irm.Judged @ 10], qrels, run):
            row = rows[int(one.query_id) - 1]
            ours = row['P'] if one.measure == irm.P @ 10 else row['judged'] / 10
            assert ours == pytest.approx(one.value)
