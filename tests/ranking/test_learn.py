# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is learned from pictures that were judged by hand.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search.models.background import Background, normalise
from astroclip_search.ranking.calibration import z_score
from astroclip_search.ranking.learn import instructive, learned_direction
from astroclip_search.ranking.query import Examples, Query, centroid

N, D = 400, 24


def sky(seed, blur=1.0):
    """
    Pictures of which a third show what is wanted, by a direction that the phrase knows in part: it
    takes something else for it as well.
    """
    rng = np.random.default_rng(seed)
    wanted, other = np.eye(D)[:2]
    kind = rng.integers(0, 3, N)
    truth, distractor = kind == 0, kind == 1
    vectors = (blur * rng.normal(size=(N, D)) / np.sqrt(D) + 1.5 * np.eye(D)[2]
               + truth[:, None] * wanted + distractor[:, None] * other)
    background = Background(normalise(rng.normal(size=(300, D)) / np.sqrt(D) + 1.5 * np.eye(D)[2]))
    phrase = normalise((wanted + other)[None])[0]
    return normalise(vectors), truth, background, phrase


def prior(phrase, background):
    return phrase / (background.image @ phrase).std()


def precision(scores, truth, n=10):
    return truth[np.argsort(-scores)[:n]].mean()


def judged(vectors, truth, phrase, n=10):
    first = np.argsort(-(vectors @ phrase))[:n]
    return first[truth[first]], first[~truth[first]]


def test_ten_marks_correct_a_phrase_that_is_half_right():
    before, after = [], []
    for seed in range(12):
        vectors, truth, background, phrase = sky(seed)
        liked, disliked = judged(vectors, truth, phrase)
        left = np.setdiff1d(np.arange(N), np.r_[liked, disliked])
        learned = learned_direction(prior(phrase, background), vectors[liked], vectors[disliked],
                                    background)
        before.append(precision(vectors[left] @ phrase, truth[left]))
        after.append(precision(vectors[left] @ learned, truth[left]))
    assert np.mean(after) > np.mean(before) + 0.1
    assert min(np.subtract(after, before)) > -0.15


@given(st.integers(0, 10_000), st.integers(0, 9), st.integers(0, 9))
def test_always_a_unit_vector(seed, n_liked, n_disliked):
    vectors, _, background, phrase = sky(seed % 7)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(N)
    liked, disliked = vectors[rows[:n_liked]], vectors[rows[20:20 + n_disliked]]
    learned = learned_direction(prior(phrase, background), liked, disliked, background)
    assert learned.shape == (D,)
    assert np.linalg.norm(learned) == pytest.approx(1, abs=1e-5)
    # The order in which marks were made says nothing.
    again = learned_direction(prior(phrase, background), liked[::-1], disliked[::-1], background)
    np.testing.assert_allclose(again, learned, atol=1e-5)


def test_marks_that_agree_with_the_phrase_change_nothing():
    vectors, _, background, phrase = sky(3)
    order = np.argsort(-(vectors @ phrase))
    learned = learned_direction(prior(phrase, background), vectors[order[:5]],
                                vectors[order[-5:]], background)
    np.testing.assert_allclose(learned, phrase, atol=1e-6)


def test_copies_count_once():
    vectors, truth, background, phrase = sky(4)
    liked, disliked = judged(vectors, truth, phrase)
    once, often = (learned_direction(prior(phrase, background), vectors[liked], dislikes,
                                     background) for dislikes in
                   (vectors[disliked], np.repeat(vectors[disliked], 50, axis=0)))
    np.testing.assert_allclose(often, once, atol=1e-6)


def test_one_kind_of_mark_and_no_phrase():
    vectors, truth, background, phrase = sky(5)
    liked = np.flatnonzero(truth)[:6]
    left = np.setdiff1d(np.arange(N), liked)
    by_examples = learned_direction(None, vectors[liked], vectors[:0], background)
    assert precision(vectors[left] @ by_examples, truth[left], 20) > 2 * truth.mean()
    away = learned_direction(prior(phrase, background), vectors[:0], vectors[liked], background)
    above = [z_score(vectors[liked] @ query, background.image @ query).mean()
             for query in (away, phrase)]
    assert above[0] < above[1]


def test_marks_of_no_weight_do_not_count():
    vectors, truth, background, _ = sky(6)
    liked, disliked = np.flatnonzero(truth)[:8], np.flatnonzero(~truth)[:8]
    one, other = (learned_direction(None, vectors[liked], vectors[rows], background,
                                    weights=(1, 0)) for rows in (disliked, disliked[:1]))
    np.testing.assert_allclose(one, other, atol=1e-5)
    counted = learned_direction(None, vectors[liked], vectors[disliked], background)
    assert (vectors[disliked] @ counted).mean() < (vectors[disliked] @ one).mean()


class Encoder:
    """Knows one phrase."""

    def __init__(self, phrase, background):
        self.phrase = phrase
        self.bundle = type('Bundle', (), {'background': background, 'prompt_templates': ('{}',)})

    def encode_text(self, texts):
        return np.repeat(self.phrase[None], len(texts), axis=0)


@pytest.mark.parametrize('reference', [True, False])
def test_a_query_averages_few_examples_and_learns_from_five(reference):
    vectors, truth, background, phrase = sky(7)
    encoder = Encoder(phrase, background if reference else Background())
    liked, disliked = np.flatnonzero(truth)[:3], np.flatnonzero(~truth)[:2]

    def vector(n):
        return Query(['it'], like=Examples(['a'] * 3, vectors[liked]),
                     unlike=Examples(['b'] * n, vectors[disliked[:n]])).image_vector(encoder)

    def summed(n):
        unit = np.std(background.image @ phrase) if reference else 1.0
        total = phrase / unit
        for part, sign in ((vectors[liked], 0.5), (vectors[disliked[:n]], -0.5)):
            unit = np.std(background.image @ centroid(part)) if reference else 1.0
            total = total + sign / unit * centroid(part)
        return normalise(total[None])[0]

    np.testing.assert_allclose(vector(1), summed(1), atol=1e-5)
    if reference:
        np.testing.assert_allclose(vector(2), learned_direction(
            prior(phrase, background), vectors[liked], vectors[disliked], background), atol=1e-5)
    else:
        np.testing.assert_allclose(vector(2), summed(2), atol=1e-5)


def test_what_to_look_at_next():
    rng = np.random.default_rng(8)
    kinds = normalise(rng.normal(size=(4, D)))
    vectors = normalise(np.repeat(kinds, 5, axis=0) + 0.02 * rng.normal(size=(20, D)))
    score = np.ones(20)
    chosen = instructive(vectors, score, vectors[:0], 4)
    assert sorted(chosen // 5) == [0, 1, 2, 3], 'one of each kind'
    assert set(instructive(vectors, score, vectors[:1], 3) // 5) == {1, 2, 3}, 'but of the marked'
    assert sorted(instructive(vectors, score, vectors[:0], 50).tolist()) == list(range(20))
    score[5:] = 0.01
    assert instructive(vectors, score, vectors[:0], 1)[0] < 5
    assert len(instructive(vectors[:0], score[:0], vectors[:3], 5)) == 0
