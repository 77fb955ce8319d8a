# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How much the metadata of rows count: names, thresholds, pictures that agree or do not.
"""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search.ranking.order import order
from astroclip_search.ranking.scores import by_words, combine_scores
from astroclip_search.ranking.words import (
    NAMED,
    UNKNOWN,
    RowWords,
    counted,
    informative,
    read_words,
    without_titles,
)

ABOVE = 1.5


@pytest.mark.parametrize(('phrase', 'metadata'), [
    ('M 13', 'M 13'), ('M 13', 'M13'), ('m13', 'M-13, a title'), ('M 13', 'MESSIER-013'),
    ('Messier 13', 'M 13'), ('NGC 628', 'NGC0628-NIRCAM, a title'), ('NGC628', 'NGC-628'),
    ('SN 2011fe', 'SN-2011FE-FIELD'), ('Horsehead Nebula', 'HORSEHEAD-NEBULA'),
    ('horsehead nebula', 'Horsehead Nebula, a title, ISM'), ('M 13', 'Hercules; M 13'),
    ('Cassiopeia A', 'CASSIOPEIA_A, a title'), ('47 Tucanae', '47 Tuc; 47 Tucanae')])
def test_a_target_is_known_by_its_name(phrase, metadata):
    assert read_words([metadata], [phrase]).named.tolist() == [True]


@pytest.mark.parametrize(('phrase', 'metadata'), [
    ('M 1', 'M 13'), ('M 13', 'M 131'), ('NGC 55', 'NGC 5530'), ('M 13', 'IC 13'),
    ('Horsehead Nebula', 'Horsehead'), ('nebula', 'Horsehead Nebula'), ('M 13', ''),
    ('galaxy', 'NGC 891, a galaxy, Galaxy'), ('spirals', 'M 51, a title, Galaxy; Spirals'),
    ('13', '13'), ('', ''), ('a galaxy at z 7', 'SUPER8'), ('.*', 'anything'), ('M 13', 'x\nM 13')])
def test_and_by_nothing_else(phrase, metadata):
    assert read_words([metadata], [phrase]).named.tolist() == [False]


@given(st.sampled_from(['NGC', 'M', 'SN', 'Abell']), st.integers(1, 9999),
       st.sampled_from(['', ' ', '-', '_', '--']), st.integers(0, 3), st.booleans(),
       st.lists(st.text(max_size=20), max_size=4), st.integers(0, 4))
def test_names_are_found_among_any_other_metadata(catalogue, number, between, zeros, lower, others,
                                                  place):
    name = f'{catalogue}{between}{"0" * zeros}{number}'
    texts = [*others[:place], name.lower() if lower else name, *others[place:]]
    found = read_words(texts, [f'{catalogue} {number}'])
    assert found.named[min(place, len(others))]
    assert found.named.sum() == 1 or any(
        re.search(f'(?i){catalogue}', other) for other in others)


def test_a_name_with_another_number_is_not_what_is_asked_for():
    assert read_words(['M 67', 'M 13', 'IC 434, a title'], ['M 13']).least.tolist() == [
        np.inf, np.inf, -np.inf]


def test_what_is_as_near_as_unrelated_metadata_does_not_count():
    found = counted(np.array([-3, 0, ABOVE, 2.5, np.nan]), -np.inf, ABOVE)
    np.testing.assert_allclose(found, [0, 0, 0, 1, UNKNOWN])
    assert counted(np.array([2.0]), 3.0, ABOVE) == UNKNOWN


def words_of(texts, phrase='planetary nebula'):
    return RowWords(texts, [phrase], np.full(len(texts), -np.inf, np.float32),
                    np.zeros(len(texts), bool))


def table(n_best, lift, texts=None, text='planetary nebula', n_rows=100):
    """Deviations of rows, of which the first have metadata that fit and pictures that may."""
    rng = np.random.default_rng(1)
    image, metadata = rng.normal(size=n_rows), rng.uniform(-1, 1, n_rows)
    image[:n_best] += lift
    metadata[:n_best] = 3 + 0.01 * np.arange(n_best) if texts is None else texts
    return image, metadata, words_of([text] * n_best + ['a title'] * (n_rows - n_best))


def test_metadata_near_nothing_weigh_nothing():
    image, metadata, words = table(0, 0)
    assert informative(image, metadata, words, ABOVE) == 0


def test_metadata_weigh_more_where_the_pictures_agree():
    found = [informative(*table(10, lift), ABOVE) for lift in (-3, 0, 0.7, 3)]
    assert found == sorted(found)
    assert found[0] == 0.5
    assert found[-1] == 1


def test_a_title_of_many_rows_is_asked_once():
    """
    Nine rows of one proposal whose pictures show nothing, and three others whose pictures do.
    """
    image, metadata, words = table(12, 0, texts=[4.0] * 9 + [3.0, 3.1, 3.2])
    image[:9], image[9:12] = -1, 4
    many = informative(image, metadata, words, ABOVE)
    metadata[:9] = 4 + 0.01 * np.arange(9)  # nine texts
    assert many > informative(image, metadata, words, ABOVE)


def test_metadata_weigh_less_that_say_no_word_of_the_phrase():
    said, unsaid = (informative(*table(10, 3, text=text), ABOVE)
                    for text in ('Bipolar planetary nebulae', 'a shell around a star'))
    assert (said, unsaid) == (1, 0.35)


def test_a_word_that_most_rows_say_tells_little():
    """
    "star" of a phrase about one, among programmes about star formation.
    """
    phrase = 'bright star with diffraction spikes'
    titles = [f'star formation in region {i}' for i in range(90)]
    rare = [f'diffraction spikes of field {i}' for i in range(10)]
    found = []
    for best in (rare, titles[:10]):
        image, metadata, _ = table(10, 3)
        found.append(informative(image, metadata, words_of([*best, *titles], phrase), ABOVE))
    assert found[0] > 0.75
    assert found[1] < 0.65


@given(st.text(), st.lists(st.text(), max_size=5))
def test_any_phrase_can_be_looked_for(phrase, texts):
    n = len(texts)
    assert 0 <= informative(np.ones(n), np.full(n, 3.0), words_of(texts, phrase), ABOVE) <= 1


def test_a_small_table_does_not_tell_whether_the_pictures_agree():
    assert informative(*table(4, -3, n_rows=12), ABOVE) == 1
    _, metadata, words = table(10, -3)
    assert informative(np.full(100, np.nan), metadata, words, ABOVE) == 1
    assert informative(np.zeros(100), metadata, words, ABOVE) == 0.5


@given(st.lists(st.tuples(st.floats(-5, 9) | st.just(np.nan), st.floats(-5, 9) | st.just(np.nan)),
                max_size=60))
def test_the_weight_is_a_part(rows):
    image, metadata = np.array(rows, np.float32).reshape(-1, 2).T
    assert 0 <= informative(image, metadata, words_of(['a title'] * len(rows)), ABOVE) <= 1


def test_titles_count_less_than_classes():
    both, title, unknown = without_titles(np.array([2.0, 2.0, 2.0]), np.array([5.0, 0.0, np.nan]),
                                          ABOVE)
    assert title < both == unknown == 2


# ---- the score ----------------------------------------------------------------------------


RNG = np.random.default_rng(2)
OPTIONS = {'weights': (0.55, 1.0), 'above': ABOVE, 'image_background': RNG.normal(size=1000),
           'metadata_background': RNG.normal(size=1000)}


def test_unrelated_metadata_do_not_change_the_order_of_pictures():
    rng = np.random.default_rng(3)
    image, metadata = rng.normal(size=200), rng.uniform(-3, 1.4, 200)
    scores = combine_scores(image, metadata, words=words_of(['a title'] * 200), **OPTIONS)
    assert order(scores.score).tolist() == order(image).tolist()
    assert scores.weights == {'image': 0.55, 'metadata': 0.0, 'above': ABOVE}


def test_metadata_that_fit_move_a_row_up_and_are_named_as_the_reason():
    """
    Row 7 has the least picture of all; row 3 the best, and metadata that fit.
    """
    rng = np.random.default_rng(4)
    image, metadata = rng.normal(size=60), np.zeros(60)
    image[[3, 7]], metadata[[3, 7]] = (6, -1.5), (5, 6)
    scores = combine_scores(image, metadata, words=words_of(['planetary nebula'] * 60), **OPTIONS)
    rows = order(scores.score)
    assert rows[:2].tolist() == [3, 7]
    notes = by_words(scores, rows)
    assert [because.code for because in notes.values()] == ['by_words']
    assert list(notes) == [7]
    alone = combine_scores(image, metadata, by='image', **OPTIONS)
    assert by_words(alone, order(alone.score)) == {}


def test_metadata_cannot_hide_pictures_that_plainly_show_something():
    """
    A programme about disks has thirty rows whose pictures show none; one picture does.
    """
    rng = np.random.default_rng(5)
    image, metadata = rng.normal(-0.5, 0.7, 100), rng.normal(0, 0.5, 100)
    metadata[:30] = 2.2
    image[77] = 3.5
    scores = combine_scores(image, metadata, words=words_of(['protoplanetary disks'] * 100,
                                                            'protoplanetary disk'), **OPTIONS)
    assert order(scores.score)[0] == 77


@pytest.mark.parametrize('by', ['both', 'metadata'])
def test_the_object_that_is_asked_for_comes_first(by):
    """
    Whatever its picture looks like, and though the model finds another name nearer.
    """
    rng = np.random.default_rng(6)
    texts = [f'NGC {number}, a survey of galaxies' for number in range(100, 200)]
    image, metadata = rng.normal(size=100), rng.normal(3, 0.5, 100)
    image[28], metadata[28] = -3, 1
    words = read_words(texts, ['NGC 128'])
    scores = combine_scores(image, metadata, by=by, words=words, **OPTIONS)
    assert order(scores.score)[0] == 28
    assert scores.score[28] > np.sort(scores.score)[-2] + NAMED / 4
    assert scores.chance == 0
    unasked = combine_scores(image, metadata, words=words, **{**OPTIONS, 'weights': (1, 0)})
    assert order(unasked.score)[-1] == 28
    assert unasked.chance > 0


def test_a_model_without_a_threshold_ranks_as_before():
    image, metadata = np.array([2.0, -1.0]), np.array([-1.0, 1.0])
    scores = combine_scores(image, metadata, words=words_of(['x', 'y']), weights=(2.0, 0.5),
                            image_background=np.array([-1.0, 1.0]),
                            metadata_background=np.array([-1.0, 1.0]))
    np.testing.assert_allclose(scores.score, [4 - 0.5, -2 + 0.5], atol=1e-6)
    assert scores.weights == {'image': 2.0, 'metadata': 0.5}


@given(st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_a_better_picture_never_stands_lower(n_named, seed):
    rng = np.random.default_rng(seed)
    image, metadata = rng.normal(size=(2, 40))
    metadata[:n_named] = 3
    metadata[5] = metadata[6] = 2
    image[6] = image[5] + 1
    scores = combine_scores(image, metadata, words=words_of(['a title'] * 40), **OPTIONS)
    assert scores.score[6] > scores.score[5]
