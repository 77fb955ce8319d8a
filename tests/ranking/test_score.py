# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Image references and phrases -> scores, and what came of each row.
"""

import dataclasses

import numpy as np
import pytest

from astroclip_search.embeddings.cache import Cache
from astroclip_search.embeddings.pipeline import Pipeline, image_space
from astroclip_search.exceptions import UnfinishedWarning
from astroclip_search.images.http import Fetcher, Limits
from astroclip_search.images.refs import ImageRefs
from astroclip_search.models.background import Background, normalise
from astroclip_search.ranking.query import Query
from astroclip_search.ranking.scores import score
from astroclip_search.status import reason
from tests.colours import ColourEncoder, picture


def references(colours, metadata=None, reasons=None):
    missing = {row: (reason('no_image_named'),) for row, colour in enumerate(colours) if not colour}
    return ImageRefs([f'sha256:{colour}' if colour else None for colour in colours],
                     metadata or [''] * len(colours), {**missing, **(reasons or {})},
                     {f'sha256:{colour}': picture(colour) for colour in colours if colour})


@pytest.fixture
def pipeline():
    with Fetcher(Limits()) as fetcher:
        yield Pipeline(ColourEncoder(), Cache(), fetcher, lambda source: '')


def run(rows, pipeline, phrases=('red',), negatives=(), **options):
    options = {'by': 'both', 'max_images': 10} | options
    return score(rows, Query(list(phrases), list(negatives)), pipeline=pipeline, **options)


def test_scores_of_rows(pipeline):
    rows = references(['red', None, 'blue', 'red'], ['red', 'red', '', 'blue'])
    scores, outcomes = run(rows, pipeline)
    assert outcomes.statuses().tolist() == ['OK', 'NO_IMAGE', 'OK', 'OK']
    np.testing.assert_allclose(scores.image, [1, np.nan, 0, 1], atol=5e-3)
    np.testing.assert_allclose(scores.metadata, [1, 1, np.nan, 0], atol=5e-3)
    np.testing.assert_array_equal(np.isnan(scores.score), [False, True, False, False])
    assert np.isnan(scores.false_alarm).all()


def test_references_are_not_changed(pipeline):
    """What came of the rows is something of its own."""
    rows = references(['red', None], reasons={0: (reason('sky_context', hips='DSS2'),)})
    before = dataclasses.replace(rows, sources=list(rows.sources), reasons=dict(rows.reasons))
    _, outcomes = run(rows, pipeline)
    assert rows == before
    assert outcomes.messages()[0] == 'sky context from DSS2, not the observation'


def test_equal_images_and_metadata_are_embedded_once(pipeline):
    rows = references(['red'] * 50, ['blue'] * 50)
    run(rows, pipeline)
    assert pipeline.encoder.n_images == 1
    assert pipeline.encoder.n_texts == 2 + 1  # the phrase for metadata and for images; metadata
    run(references(['red'] * 50, ['blue'] * 50), pipeline)
    assert (pipeline.encoder.n_images, pipeline.encoder.n_texts) == (1, 5)


def test_row_with_a_status_is_left_alone(pipeline):
    rows = references(['red', 'blue'], reasons={0: (reason('spectrum'),)})
    scores, outcomes = run(rows, pipeline, by='image')
    assert outcomes.statuses().tolist() == ['SKIPPED', 'OK']
    assert outcomes.messages().tolist() == ['not an image: a spectrum', '']
    assert np.isnan(scores.image[0])
    # Nor does it take part when its picture is in the cache already.
    rows = references(['blue', 'blue'], reasons={0: (reason('spectrum'),)})
    assert np.isnan(run(rows, pipeline, by='image')[0].image).tolist() == [True, False]


def test_templates_are_applied_to_images_not_to_metadata(pipeline):
    class Listening(ColourEncoder):
        def __init__(self):
            super().__init__()
            self.bundle = dataclasses.replace(self.bundle, prompt_templates=('{}', 'a {} {{'))
            self.heard = []

        def encode_text(self, texts):
            self.heard.append(list(texts))
            return super().encode_text(texts)

        def encode_metadata(self, texts):
            self.heard.append(('metadata', *texts))
            return super().encode_text(texts)

    encoder = Listening()
    run(references(['red'], ['x']), dataclasses.replace(pipeline, encoder=encoder),
        ['red', '{0}'], ['blue'])
    assert ('metadata', 'red', '{0}', 'blue') in encoder.heard
    assert ['red', 'a red {{', '{0}', 'a {0} {{', 'blue', 'a blue {{'] in encoder.heard


def test_background_gives_false_alarms_and_standard_scores(pipeline):
    encoder = ColourEncoder()
    encoder.bundle = dataclasses.replace(encoder.bundle, ranking_weights=(1.0, 0.5))
    vectors = normalise(np.array([[1, 0, 0]] + [[0.1, 1, 1 + i] for i in range(99)]))
    encoder.bundle.__dict__['_background'] = Background(vectors, vectors)
    pipeline = dataclasses.replace(pipeline, encoder=encoder)
    scores, _ = run(references(['red', 'blue'], ['red', '']), pipeline)
    assert scores.false_alarm[0] == pytest.approx(2 / 101)  # one of the hundred is red
    assert scores.false_alarm[1] == 1  # as few units of red as the background has
    assert scores.score[0] > 5
    by_metadata, _ = run(references(['red', None], ['red', '']), pipeline, by='metadata')
    assert np.isnan(by_metadata.false_alarm).all()
    assert np.isnan(by_metadata.score[1])


def test_no_rows(pipeline):
    scores, outcomes = run(references([]), pipeline)
    assert scores.score.shape == scores.image.shape == (0,)
    assert len(outcomes) == 0


def test_large_space_and_few_rows(pipeline):
    # A few rows of a large cache take another way through the matrix than most of it.
    many = references(['red', 'green', 'blue'] + [None] * 3)
    run(many, pipeline, by='image')
    rng = np.random.default_rng(1)
    pipeline.cache.put(image_space(pipeline.encoder), [str(i) for i in range(100)],
                       normalise(rng.random((100, 3))))
    np.testing.assert_allclose(run(references(['blue', 'red']), pipeline, by='image')[0].image,
                               [0, 1], atol=5e-3)


def test_too_many_images(pipeline):
    rows = ImageRefs([f'https://a.invalid/{i}' for i in range(4)] + ['sha256:red'],
                     ['blue', 'red', '', 'red', ''], objects={'sha256:red': picture('red')})
    with pytest.warns(UnfinishedWarning, match='4 images would have to be downloaded: only the 0'):
        _, outcomes = run(rows, pipeline, max_images=0)
    assert outcomes.statuses().tolist() == ['SKIPPED'] * 4 + ['OK']
