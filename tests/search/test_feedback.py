# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Marks of a ranked table: rows go where they were put, are learned from, kept, and suggested.
"""

import dataclasses
import functools
import tempfile

import numpy as np
import pytest
from astropy.table import Table, vstack
from astroquery.exceptions import InvalidQueryError
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclip_search import ClipSearch, sample
from astroclip_search.archives import table_io
from astroclip_search.embeddings.pipeline import image_space
from astroclip_search.exceptions import LostEmbeddingsWarning, NoColourWarning
from astroclip_search.models.background import Background, normalise
from astroclip_search.search.marks import labels_of
from tests.colours import ColourEncoder
from tests.search.test_rank import ReferenceEncoder

N, D = 60, 12

# The vectors are random.
pytestmark = pytest.mark.filterwarnings(
    'ignore::astroclip_search.exceptions.NothingStandsOutWarning')


class VectorEncoder(ColourEncoder):
    """Knows two phrases; pictures are in the cache before they are looked at."""

    def __init__(self):
        super().__init__('vectors')
        vectors = normalise(np.random.default_rng(1).normal(size=(200, D)) + 1)
        self.bundle = dataclasses.replace(self.bundle, ranking_weights=(1.0, 1.0))
        self.bundle.__dict__['_background'] = Background(vectors, vectors[:50])

    def encode_text(self, texts):
        return np.array([np.eye(D, dtype=np.float32)[int('one' not in text)] for text in texts])

    encode_metadata = encode_text
    encode_images = None


@functools.cache
def archive():
    """A search, and a table ranked by it; one row is a copy of another, one has no picture."""
    search = ClipSearch(encoder=VectorEncoder(), cache_dir=tempfile.mkdtemp())
    vectors = normalise(np.random.default_rng(2).normal(size=(N, D)) + 1)
    vectors[7] = vectors[3]
    sources = [f'https://archive.invalid/{i}.jpg' for i in range(N)]
    search.session.cache().put(image_space(search.session.encoder()), sources, vectors)
    table = Table({'preview': [*sources, ''], 'n': np.arange(N + 1)})
    return search, search.rank(table, 'one', by='image')


rows_of_marks = st.dictionaries(st.integers(0, N - 1), st.booleans(), max_size=14)


def mask(table, numbers):
    return np.isin(table['n'], list(numbers))


def labels(table):
    """Marks by number of the row, -1 for none."""
    column = np.ma.filled(table['clip_label'], -1) if 'clip_label' in table.colnames else (
        np.full(len(table), -1))
    return dict(zip(table['n'].tolist(), column.tolist(), strict=True))


def refined(table, marks, **options):
    search, _ = archive()
    return search.refine(table, liked=mask(table, [n for n in marks if marks[n]]),
                         disliked=mask(table, [n for n in marks if not marks[n]]), **options)


def with_copies(marks):
    """The two rows with the same picture have one mark, the one that was named first."""
    for one, other in ((3, 7), (7, 3)):
        if one in marks:
            return {**marks, other: marks[one]}
    return marks


@settings(max_examples=25)
@given(rows_of_marks)
def test_rows_go_where_they_were_put(marks):
    if {3, 7} <= marks.keys() and marks[3] is not marks[7]:
        with pytest.raises(InvalidQueryError, match='both liked and disliked'):
            refined(archive()[1], marks)
        return
    best, marks = refined(archive()[1], marks), with_copies(marks)
    found = labels(best)
    assert {n: label for n, label in found.items() if label >= 0} == marks
    n_liked, n_marked = sum(marks.values()), len(marks)
    liked, middle, disliked = (best[:n_liked], best[n_liked:N - n_marked + n_liked],
                               best[N - n_marked + n_liked:N])
    assert {found[n] for n in liked['n']} <= {1}
    assert {found[n] for n in disliked['n']} <= {0}
    assert best['n'][-1] == N, 'the row without a picture'
    assert best['clip_rank'].mask.tolist() == [False] * N + [True]
    for part in (liked, middle[np.char.find(middle['clip_message'], 'the same') < 0], disliked):
        assert np.all(np.diff(part['clip_score']) <= 1e-6)
    assert set(liked['clip_message']) <= {'marked as liked'}
    assert set(disliked['clip_message']) <= {'marked as disliked'}


@settings(max_examples=12)
@given(rows_of_marks, st.randoms(use_true_random=False))
def test_steps_in_any_order_come_to_the_same(marks, random):
    for number in (7, N - 1, N - 2):
        marks.pop(number, None)
    at_once = refined(archive()[1], marks)
    numbers = list(marks)
    random.shuffle(numbers)
    table = archive()[1]
    # First the wrong side, and some that are taken back.
    table = refined(table, {n: not marks[n] for n in numbers[::2]} | {N - 1: True, N - 2: False})
    table = archive()[0].refine(table, forget=mask(table, [N - 1, N - 2]))
    for number in numbers:
        table = refined(table, {number: marks[number]})
    assert labels(table) == labels(at_once)
    np.testing.assert_array_equal(table['n'], at_once['n'])
    np.testing.assert_allclose(table['clip_image'], at_once['clip_image'], atol=1e-5)


@pytest.mark.parametrize('suffix', ['.ecsv', '.fits', '.vot', '.csv', '.parquet', None])
@pytest.mark.parametrize('marks', [{4: True, 9: False}, {n: n % 3 == 0 for n in range(10, 20)}],
                         ids=['averaged', 'learned'])
def test_a_search_is_resumed_from_a_file(tmp_path, suffix, marks):
    search, ranked = archive()
    best = refined(ranked, marks)
    again = best
    if suffix == '.csv':
        table_io.write(best, tmp_path / 'search.csv')
    elif suffix:
        search.save(best, tmp_path / f'search{suffix}')
    if suffix:
        again = table_io.read(tmp_path / f'search{suffix}')
    resumed = search.refine(again, 'one' if suffix == '.csv' else None, by='image')
    np.testing.assert_array_equal(resumed['n'], best['n'])
    assert labels(resumed) == labels(best)
    assert resumed['clip_label'].dtype == np.int16
    np.testing.assert_allclose(resumed['clip_score'].filled(9), best['clip_score'].filled(9),
                               atol=1e-4)
    more = refined(resumed, {30: True, 4: False})
    assert labels(more)[30] == 1
    assert labels(more)[4] == 0


def test_marks_made_in_another_program_count():
    search, ranked = archive()
    ranked = ranked.copy()
    ranked['clip_label'] = [1.0, 0.0, 2.0, np.nan] + [-1.0] * (N - 3)  # as a spreadsheet may
    best = search.refine(ranked)
    assert best['n'][0] == ranked['n'][0]
    assert best['n'][N - 1] == ranked['n'][1]
    assert sum(label >= 0 for label in labels(best).values()) == 2
    best['clip_label'].mask[0] = True
    assert labels(search.refine(best))[best['n'][0]] == -1
    for hostile in (np.ones((N + 1, 2)), [None] * (N + 1)):
        ranked['clip_label'] = hostile
        assert 'clip_label' in search.refine(ranked).colnames


def test_rows_that_were_cut_off_are_remembered():
    search, ranked = archive()
    best = refined(ranked, {n: n < 23 for n in range(20, 26)}, limit=10)
    assert not mask(best, [23, 24, 25]).any()
    assert len(search.refine(best).meta['clip']['disliked']) == 3
    forgotten = search.refine(best, forget='all').meta['clip']
    assert forgotten['liked'] == forgotten['disliked'] == forgotten['unlike'] == []


def test_learning_says_what_a_rate_means():
    search, ranked = archive()
    best = refined(ranked, {n: n % 2 == 0 for n in range(12)})
    rates = best['clip_false_alarm'][:N]
    assert np.all(rates > 0)
    order = np.argsort(best['clip_image'][:N])
    assert np.all(np.diff(rates[order]) <= 0), 'of the same direction'
    score = best['clip_image'].max()
    # As plot_scores works it out anew, from the examples that meta['clip'] names.
    ax = search.plot_scores(best)
    assert ax is not None
    assert score <= 1.0001


def test_metadata_alone_are_placed_and_not_learned():
    search, _ = archive()
    table = Table({'preview': [f'https://archive.invalid/{i}.jpg' for i in range(6)],
                   'title': ['one', 'two', 'one', 'two', 'one', 'two'], 'n': np.arange(6)})
    ranked = search.rank(table, 'one', by='metadata')
    best = search.refine(ranked, liked=mask(ranked, [5]), disliked=mask(ranked, [0]))
    assert best['n'].tolist() == [5, 2, 4, 1, 3, 0]
    assert best.meta['clip']['by'] == 'metadata'
    assert best.meta['clip']['like'] == ['https://archive.invalid/5.jpg']


# ---- tables that lost what they were ranked by, or are stacked ------------------------------


@pytest.mark.parametrize('verb', ['refine', 'suggest', 'rank', 'filter'])
def test_a_table_without_its_phrase(verb):
    search, ranked = archive()
    lost = Table(ranked, copy=True)
    lost.meta.clear()
    with pytest.raises(InvalidQueryError, match=r'does not say what it was ranked by.*ClipSearch'):
        getattr(search, verb)(lost)
    if verb != 'suggest':
        assert len(getattr(search, verb)(lost, 'one', by='image' if verb != 'filter' else 'both'))
    else:
        assert len(search.suggest(lost, 3, text='one')) == 3


def test_ranks_that_occur_twice():
    search, ranked = archive()
    both = vstack([ranked[:5], ranked[:5]])
    with pytest.raises(InvalidQueryError, match='rank 2, which several rows have'):
        search.refine(both, liked=2)
    assert search.refine(both, liked=both[1]).meta['clip']['query'] == ['one']
    assert len(search.refine(both, liked=mask(both, [both['n'][1]]))) == 10
    other = search.rank(ranked[:5], 'two', by='image')
    mixed = vstack([ranked[:5], other], metadata_conflicts='silent')
    with pytest.raises(InvalidQueryError, match=r"several phrases \('one', 'two'\): give text"):
        search.refine(mixed, liked=mixed[1])
    with pytest.raises(InvalidQueryError, match='several phrases'):
        search.suggest(mixed)
    assert search.refine(mixed, 'two', liked=mixed[1]).meta['clip']['query'] == ['two']


@pytest.mark.parametrize(('options', 'message'), [
    ({'forget': 'some'}, 'forget must be ranks'), ({'forget': 99}, 'forget names rank 99'),
    ({'liked': 1, 'disliked': [2, 1]}, 'both liked and disliked'),
    ({'liked': [False] * (N + 1)}, None), ({'forget': 'all'}, None), ({'liked': []}, None)])
def test_what_can_be_said_of_rows(options, message):
    search, ranked = archive()
    if message is None:
        assert 'clip_label' not in search.refine(ranked, **options).colnames
        return
    with pytest.raises(InvalidQueryError, match=message):
        search.refine(ranked, **options)


def test_some_marked_pictures_are_gone(tmp_path):
    search = ClipSearch(encoder=VectorEncoder(), cache_dir=tmp_path)
    vectors = normalise(np.random.default_rng(4).normal(size=(8, D)) + 1)
    sources = [f'https://archive.invalid/{i}.jpg' for i in range(8)]
    search.session.cache().put(image_space(search.session.encoder()), sources, vectors)
    table = search.rank(Table({'preview': sources}), 'one', by='image')
    best = search.refine(table, liked=[1, 2], disliked=[3, 4, 5])
    search.clear_cache()
    kept = [0, 1, 2, 3]
    search.session.cache().put(image_space(search.session.encoder()), [sources[i] for i in kept],
                               vectors[kept])
    with pytest.warns(LostEmbeddingsWarning) as said:
        again = search.refine(best)
    assert len(said) == 2
    assert sorted(np.ma.filled(again['clip_label'], -1).tolist()) == [-1] * 3 + [0] * 3 + [1] * 2
    assert len(again.meta['clip']['unlike']) == 3


# ---- going on from a ranked table -----------------------------------------------------------


def test_rank_and_filter_of_a_ranked_table_need_no_phrase(tmp_path):
    search, ranked = archive()
    again = search.rank(ranked)
    assert again.meta['clip']['query'] == ['one']
    assert again.meta['clip']['by'] == 'image'
    np.testing.assert_array_equal(again['n'], ranked['n'])
    marks = {n: n % 2 == 0 for n in range(30, 36)}
    best = refined(ranked, marks)
    again = search.rank(best)
    assert labels(again) == labels(best)
    np.testing.assert_array_equal(again['n'], best['n'])
    kept = search.filter(best, false_alarm_rate=0.2)
    numbers = set(kept['n'].tolist())
    assert {n for n, liked in marks.items() if liked} <= numbers
    assert not {n for n, liked in marks.items() if not liked} & numbers
    passed = best['n'][np.ma.filled(best['clip_false_alarm'], 1) <= 0.2].tolist()
    assert numbers == (set(passed) | {30, 32, 34}) - {31, 33, 35}
    # Another phrase is another question: the marks stay in the table and do not count.
    other = search.rank(best, 'two', by='image')
    assert labels(other) == labels(best)
    assert other.meta['clip']['like'] == []
    assert len(search.rank(best, limit=4)) == 4


def test_examples_without_a_phrase_cannot_be_gone_on_from(folder, encoder, tmp_path):
    search = ClipSearch(encoder=encoder, cache_dir=tmp_path / 'cache')
    table = search.rank(folder, like=folder / 'red.png')
    with pytest.raises(InvalidQueryError, match='does not say by which phrase'):
        search.rank(table)
    assert len(search.refine(table, liked=2)) == 3


def test_small_messages(folder, tmp_path):
    search = ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'cache')
    with pytest.raises(InvalidQueryError, match='text is empty: leave it out'):
        search.rank(folder, '', like=folder / 'red.png')
    with pytest.warns(NoColourWarning, match='colour=True changes nothing'):
        search.rank(folder, 'red', colour=True)
    by_words = search.rank(Table({'preview': [''], 'title': ['red']}), 'red', by='metadata')
    with pytest.raises(InvalidQueryError, match='ranked by its metadata alone'):
        search.filter(by_words)


# ---- suggest --------------------------------------------------------------------------------


@settings(max_examples=25)
@given(rows_of_marks, st.integers(1, 70))
def test_suggestions_are_unmarked_rows_of_the_table(marks, n):
    search, ranked = archive()
    marks.pop(7, None)
    table = refined(ranked, marks)
    look = search.suggest(table, n)
    numbers = look['n'].tolist()
    assert len(numbers) == len(set(numbers)) <= n
    assert len(numbers) == min(n, N - len(with_copies(marks)))
    assert all(labels(table)[number] == -1 for number in numbers)
    assert look.colnames == table.colnames
    assert look.meta['clip'] == table.meta['clip']
    rank_of = dict(zip(table['n'].tolist(), table['clip_rank'].tolist(), strict=True))
    assert look['clip_rank'].tolist() == [rank_of[number] for number in numbers]
    assert rank_of[numbers[0]] <= max(30, 3 * n) + len(marks)


def test_suggestions_of_kinds_that_differ(tmp_path):
    search = ClipSearch(encoder=VectorEncoder(), cache_dir=tmp_path)
    kinds = normalise(np.eye(D)[1:6] + 2 * np.eye(D)[0])
    vectors = normalise(np.repeat(kinds, 4, axis=0)
                        + 0.02 * np.random.default_rng(5).normal(size=(20, D)))
    sources = [f'https://archive.invalid/{i}.jpg' for i in range(20)]
    search.session.cache().put(image_space(search.session.encoder()), sources, vectors)
    table = search.rank(Table({'preview': sources, 'kind': np.repeat(np.arange(5), 4)}), 'one',
                        by='image')
    assert sorted(search.suggest(table)['kind']) == [0, 1, 2, 3, 4]
    marked = search.refine(table, liked=table['kind'] == 2, disliked=table['kind'] == 3)
    assert sorted(search.suggest(marked, 3)['kind']) == [0, 1, 4]
    everything = search.refine(marked, liked=marked['kind'] < 2, disliked=marked['kind'] == 4)
    assert len(search.suggest(everything)) == 0


@pytest.mark.parametrize('n', [0, -1, 2.5, 'five', True, None])
def test_a_number_of_suggestions(n):
    search, ranked = archive()
    with pytest.raises(InvalidQueryError, match='n must be a whole number'):
        search.suggest(ranked, n)


def test_nothing_to_suggest_from():
    search, ranked = archive()
    with pytest.raises(InvalidQueryError, match='suggest takes a table that rank'):
        search.suggest(Table({'preview': ['a.jpg']}))
    with pytest.raises(InvalidQueryError, match='not in the cache: rank the table again'):
        search.suggest(ranked[:0])


@pytest.mark.parametrize('liked', [True, False])
def test_all_rows_may_be_judged(tmp_path, liked):
    search = ClipSearch(cache_dir=tmp_path / 'cache')
    best = search.rank(sample.read()[34:46], 'ring galaxy', image_dir=sample.IMAGE_DIR,
                       fold_duplicates=False)
    ranks = best['clip_rank'].tolist()
    judged = search.refine(best, **{'liked' if liked else 'disliked': ranks})
    assert set(labels_of(judged).tolist()) == {int(liked)}
    assert sorted(judged['clip_rank'].tolist()) == ranks


def test_suggestions_need_embeddings(tmp_path):
    best = ClipSearch(cache_dir=tmp_path / 'one').rank(
        sample.read()[34:46], 'ring galaxy', image_dir=sample.IMAGE_DIR)
    elsewhere = ClipSearch(cache_dir=tmp_path / 'another')
    with pytest.raises(InvalidQueryError, match='not in the cache: rank the table again first'):
        elsewhere.suggest(best)
    # Which says it by itself, also from a file.
    ClipSearch.save(best, tmp_path / 'best.ecsv')
    again = elsewhere.rank(tmp_path / 'best.ecsv', image_dir=sample.IMAGE_DIR)
    assert again.meta['clip']['query'] == ['ring galaxy']
    assert len(elsewhere.suggest(again, 3)) == 3


def test_marks_that_somebody_has_typed(tmp_path):
    search = ClipSearch(cache_dir=tmp_path / 'cache')
    best = search.rank(sample.read()[34:46], 'ring galaxy', image_dir=sample.IMAGE_DIR)
    best['clip_label'] = ['1', '', '0', *[''] * (len(best) - 3)]
    refined = search.refine(best)
    assert refined['obs_id'][0] == best['obs_id'][0]
    assert labels_of(refined).tolist().count(0) == 1
    best['clip_label'] = ['yes', *[''] * (len(best) - 1)]
    with pytest.raises(InvalidQueryError, match="clip_label has 'yes': write 1 for liked"):
        search.refine(best)


def test_a_refinement_says_whether_it_has_learned():
    search, ranked = archive()
    assert refined(ranked, {4: True, 9: False}).meta['clip']['learned'], 'by averaging'
    assert not search.refine(ranked).meta['clip']['learned']
