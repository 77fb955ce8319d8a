# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Verbs say where false-alarm rates may be far off.
"""

import warnings

import numpy as np
import pytest

from astroclip_search import ClipSearch, sample
from astroclip_search.exceptions import UncalibratedWarning
from astroclip_search.models.background import Background, normalise
from astroclip_search.ranking.calibration import TRUSTED_RATE
from tests.search.test_rank import ReferenceEncoder

PHRASES = ['red', 'green']


@pytest.fixture
def reddish(tmp_path):
    """A search with two archives of greys, and one whose pictures are reddish."""
    encoder = ReferenceEncoder()
    rng = np.random.default_rng(0)
    greys = 1 + 0.2 * rng.normal(size=(300, 3))
    greys[200:, 0] += 2
    encoder.bundle.__dict__['_background'] = Background(
        normalise(greys), normalise(greys[:50]), source=np.repeat([0, 1, 2], 100))
    return ClipSearch(encoder=encoder, cache_dir=tmp_path / 'cache')


def test_a_ranking_knows_whether_its_rates_can_be_trusted(reddish, folder):
    clip = reddish.rank(folder, 'red', by='image').meta['clip']
    assert clip['calibrated'] is False
    assert clip['left_out'] > 0.5, 'of the reddish archive most would pass'
    clip = reddish.rank(folder, 'green', by='image').meta['clip']
    assert clip['calibrated'] is True
    assert clip['left_out'] <= TRUSTED_RATE


def test_filter_warns_of_rates_that_cannot_be_trusted(reddish, folder):
    with pytest.warns(UncalibratedWarning, match='are uncertain') as said:
        kept = reddish.filter(folder, 'red', false_alarm_rate=0.1, by='image')
    assert said[0].filename == __file__
    assert [name.rpartition('/')[2] for name in kept['clip_source'].tolist()] == ['red.png']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        reddish.filter(folder, 'green', false_alarm_rate=0.1, by='image')


def test_descriptions_and_classes_name_such_phrases(reddish, folder):
    assert reddish.describe(folder, PHRASES).meta['clip']['uncertain'] == ['red']
    sorted_ = reddish.classify(folder, PHRASES, false_alarm_rate=0.1)
    assert sorted_.meta['clip']['uncertain'] == ['red']
    assert reddish.classify(folder, PHRASES).meta['clip']['uncertain'] == []


def test_a_description_counts_the_same_archive_as_a_ranking(reddish, folder):
    lines = reddish.describe(folder, PHRASES)
    for phrase in PHRASES:
        best = reddish.rank(folder, phrase, by='image')
        mine = lines[lines['clip_phrase'] == phrase]
        for name, rate in best['clip_source', 'clip_false_alarm'].iterrows():
            assert mine['clip_false_alarm'][mine['clip_source'] == name][0] == pytest.approx(rate)


def test_a_model_that_does_not_know_the_archives_says_nothing(tmp_path, folder):
    search = ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path)
    clip = search.rank(folder, 'red').meta['clip']
    assert (clip['calibrated'], clip['left_out']) == (None, None)


# ---- the embedded model ------------------------------------------------------------------------


def test_reference_images_of_the_embedded_model_have_their_archives(tmp_path):
    source = ClipSearch(cache_dir=tmp_path).session.encoder().bundle.background.source
    assert np.bincount(source).tolist() == [435, 120, 210, 75, 800, 80, 400, 200]


def test_images_of_the_sample_stay_when_classes_are_added(tmp_path):
    search = ClipSearch(cache_dir=tmp_path)
    archive, two = sample.read()[34:70], ['spiral galaxy', 'ring galaxy']
    twelve = [*two, 'edge-on galaxy', 'merging galaxies', 'planetary nebula', 'globular cluster',
              'open star cluster', 'emission nebula', 'comet with a tail', 'galaxy cluster',
              'bright star', 'supernova remnant']
    kept = [np.ma.filled(search.classify(archive, classes, false_alarm_rate=0.05,
                                         image_dir=sample.IMAGE_DIR)['clip_class'], 'none')
            != 'none' for classes in (two, twelve)]
    assert kept[0].any()
    assert kept[1][kept[0]].all()
