# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
References and phrases -> scores, and scores -> the ordered table.
"""

import dataclasses
import warnings

import numpy as np
import pytest
from astropy.table import Table
from astroquery.exceptions import BlankResponseWarning, LargeQueryWarning, NoResultsWarning

from astroclip_search.bundle import Background
from astroclip_search.embeddings import Pipeline
from astroclip_search.previews import Fetcher, Limits
from astroclip_search.query import Query
from astroclip_search.ranked import COLUMNS, provenance, ranked_table, strings, warn_of_rows
from astroclip_search.ranking import Scores, normalise
from astroclip_search.references import References
from astroclip_search.scoring import n_workers, score
from astroclip_search.store import Store
from tests.colours import ColourEncoder, picture


def references(colours, words=None, status=None):
    n = len(colours)
    return References([f'sha256:{colour}' if colour else None for colour in colours],
                      words or [''] * n, status or ['' if c else 'NO_IMAGE' for c in colours],
                      [''] * n, {f'sha256:{colour}': picture(colour) for colour in colours
                                 if colour})


@pytest.fixture
def pipeline():
    with Fetcher(Limits()) as fetcher:
        yield Pipeline(ColourEncoder(), Store(), fetcher, lambda source: '')


def run(rows, pipeline, phrases=('red',), negatives=(), **options):
    options = {'by': 'both', 'max_images': 10} | options
    return score(rows, Query(list(phrases), list(negatives)), pipeline=pipeline, **options)


def test_scores_of_rows(pipeline):
    rows = references(['red', None, 'blue', 'red'], ['red', 'red', '', 'blue'])
    scores = run(rows, pipeline)
    assert rows.status == ['OK', 'NO_IMAGE', 'OK', 'OK']
    np.testing.assert_allclose(scores.image, [1, np.nan, 0, 1], atol=5e-3)
    np.testing.assert_allclose(scores.text, [1, 1, np.nan, 0], atol=5e-3)
    np.testing.assert_array_equal(np.isnan(scores.score), [False, True, False, False])
    assert np.isnan(scores.false_alarm).all()


def test_equal_images_and_words_are_embedded_once(pipeline):
    rows = references(['red'] * 50, ['blue'] * 50)
    run(rows, pipeline)
    assert pipeline.encoder.n_images == 1
    assert pipeline.encoder.n_texts == 2 + 1  # the phrase for words and for images; the words
    run(references(['red'] * 50, ['blue'] * 50), pipeline)
    assert (pipeline.encoder.n_images, pipeline.encoder.n_texts) == (1, 5)


def test_row_with_a_status_is_left_alone(pipeline):
    rows = references(['red', 'blue'], status=['SKIPPED', ''])
    rows.message[0] = 'a spectrum'
    scores = run(rows, pipeline, by='image')
    assert (rows.status, rows.message) == (['SKIPPED', 'OK'], ['a spectrum', ''])
    assert np.isnan(scores.image[0])
    # Nor does it take part when its picture is in the store already.
    rows = references(['blue', 'blue'], status=['SKIPPED', ''])
    assert np.isnan(run(rows, pipeline, by='image').image).tolist() == [True, False]


def test_templates_are_applied_to_images_not_to_words(pipeline):
    class Listening(ColourEncoder):
        def __init__(self):
            super().__init__()
            self.bundle = dataclasses.replace(self.bundle, prompt_templates=('{}', 'a {} {{'))
            self.heard = []

        def encode_text(self, texts):
            self.heard.append(list(texts))
            return super().encode_text(texts)

        def encode_words(self, texts):
            self.heard.append(('words', *texts))
            return super().encode_text(texts)

    encoder = Listening()
    run(references(['red'], ['x']), dataclasses.replace(pipeline, encoder=encoder),
        ['red', '{0}'], ['blue'])
    assert ('words', 'red', '{0}', 'blue') in encoder.heard
    assert ['red', 'a red {{', '{0}', 'a {0} {{', 'blue', 'a blue {{'] in encoder.heard


def test_background_gives_false_alarms_and_standard_scores(pipeline):
    encoder = ColourEncoder()
    encoder.bundle = dataclasses.replace(encoder.bundle, ranking_weights=(1.0, 0.5))
    vectors = normalise(np.array([[1, 0, 0]] + [[0.1, 1, 1 + i] for i in range(99)]))
    encoder.bundle.__dict__['background'] = Background(vectors, vectors)
    pipeline = dataclasses.replace(pipeline, encoder=encoder)
    scores = run(references(['red', 'blue'], ['red', '']), pipeline)
    assert scores.false_alarm[0] == pytest.approx(2 / 101)  # one of the hundred is red
    assert scores.false_alarm[1] == 1  # as few units of red as the background has
    assert scores.score[0] > 5
    by_text = run(references(['red', None], ['red', '']), pipeline, by='text')
    assert np.isnan(by_text.false_alarm).all()
    assert np.isnan(by_text.score[1])


def test_no_rows(pipeline):
    scores = run(references([]), pipeline)
    assert scores.score.shape == scores.image.shape == (0,)


def test_large_space_and_few_rows(pipeline):
    # A few rows of a large store take another way through the matrix than most of it.
    many = references(['red', 'green', 'blue'] + [None] * 3)
    run(many, pipeline, by='image')
    rng = np.random.default_rng(1)
    from astroclip_search.embeddings import image_space
    pipeline.store.put(image_space(pipeline.encoder), [str(i) for i in range(100)],
                       normalise(rng.random((100, 3))))
    np.testing.assert_allclose(run(references(['blue', 'red']), pipeline, by='image').image,
                               [0, 1], atol=5e-3)


def test_too_many_images(pipeline):
    rows = References([f'https://a.invalid/{i}' for i in range(4)] + ['sha256:red'],
                      ['blue', 'red', '', 'red', ''], [''] * 5, [''] * 5,
                      {'sha256:red': picture('red')})
    with pytest.warns(LargeQueryWarning, match='4 images would have to be downloaded: only the 0'):
        run(rows, pipeline, max_images=0)
    assert rows.status == ['SKIPPED'] * 4 + ['OK']


def test_ranked_table_of_other_lengths():
    table = Table({'a': [1, 2, 3]})
    values = np.array([0.5, np.nan, 0.7], dtype=np.float32)
    rows = References(['x', None, 'z'], [''] * 3, ['OK', 'ERROR', 'OK'], ['', 'why', ''])
    scores = Scores(values, values, values, values)
    ranked = ranked_table(table, rows, scores, np.array([2, 0]))
    assert ranked['a'].tolist() == [3, 1]
    ranked = ranked_table(table, rows, scores, np.array([2, 0, 1]))
    assert ranked['clip_source'].tolist() == ['z', 'x', '']
    assert ranked['clip_message'].tolist() == ['', '', 'why']
    assert ranked['clip_score'].format == '.4f'
    assert tuple(ranked.colnames[1:]) == COLUMNS


@pytest.mark.parametrize('values', [[], ['a'], ['a', 'bcd']])
def test_strings(values):
    assert strings(values).dtype.kind == 'U'
    assert strings(values).tolist() == values


def test_number_of_workers():
    assert n_workers([], 5) >= 1
    assert n_workers([None, '/a/file', 'sha256:0'], 5) <= 2
    one = n_workers(['https://a.example/1', 'https://a.example/2', 'http://[broken'], 5)
    assert one > 5
    assert n_workers([f'https://{i}.example/' for i in range(100)], 5) <= 22
    assert n_workers(['mast:HST/a', 'mast:HST/b'], 5) in (6, 7)


def test_provenance_is_plain_data():
    rows = references(['red', None])
    rows.status = ['OK', 'NO_IMAGE']
    values = np.array([0.5, np.nan])
    found = provenance(rows, Query(['a']), Scores(values, values, values, values), 'both',
                       ColourEncoder())
    assert (found['n_rows'], found['n_ranked']) == (2, 1)
    assert type(found['status']) is dict
    assert all(type(value) in (str, int, list, dict, type(None)) for value in found.values())


@pytest.mark.parametrize(('status', 'category'), [
    ([], NoResultsWarning), (['OK'], None), (['OK', 'SKIPPED', 'NO_IMAGE'], None),
    (['OK', 'ERROR'], BlankResponseWarning), (['OK', 'DENIED'], BlankResponseWarning),
    (['ERROR', 'ERROR'], NoResultsWarning), (['SKIPPED'], NoResultsWarning),
    (['NO_IMAGE', 'DENIED'], NoResultsWarning)])
def test_one_warning_for_all_rows(status, category):
    n = len(status)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        warn_of_rows(References([None] * n, [''] * n, status, [''] * n))
    assert [item.category for item in caught] == ([] if category is None else [category])
