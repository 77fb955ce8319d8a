# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Classes by phrases: ``classify`` and its probabilities.
"""

import dataclasses
import itertools

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, Table
from astroquery.exceptions import InvalidQueryError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from astroclip_search import ClipSearch
from astroclip_search.exceptions import NothingRankedWarning, UnreadImagesWarning
from astroclip_search.models.background import Background, normalise
from astroclip_search.ranking.calibration import false_alarm_rate
from astroclip_search.ranking.labels import class_thresholds, probabilities
from tests import tiny
from tests.colours import picture, serve_colours, shaded
from tests.search.test_rank import ReferenceEncoder

COLOURS = ['red', 'green', 'blue']
IN_FRONT = ['clip_class', 'clip_probability']
BEHIND = ['clip_p_red', 'clip_p_green', 'clip_p_blue', 'clip_source', 'clip_message', 'clip_status',
          'clip_name']


@pytest.fixture
def reference(tmp_path):
    """A search whose reference images are a hundred greys."""
    return ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'cache')


def total(table):
    """The sum of the probabilities of each row."""
    return sum(table[name] for name in table.colnames if name.startswith('clip_p_'))


def test_each_image_is_in_its_class(search, folder):
    table = search.classify(folder, COLOURS)
    assert table.colnames == [*IN_FRONT, 'filename', *BEHIND]
    assert table['clip_class'].tolist() == ['blue', 'green', 'red'], 'in the order of the input'
    np.testing.assert_allclose(total(table), 1, atol=1e-6)
    assert (table['clip_probability'] == [table['clip_p_blue'][0], table['clip_p_green'][1],
                                          table['clip_p_red'][2]]).all()
    assert table['clip_probability'].dtype == np.float32


def test_probabilities_are_the_softmax_of_the_cosines(search):
    image = Image.fromarray(shaded((129, 127, 124)))
    table = search.classify(image, COLOURS)
    cosines = np.array([search.rank(image, colour, by='image')['clip_image'][0]
                        for colour in COLOURS], float)
    expected = np.exp(100 * cosines) / np.exp(100 * cosines).sum()
    assert expected.min() > 0.02, 'a case in which all three matter'
    np.testing.assert_allclose([table[f'clip_p_{colour}'][0] for colour in COLOURS], expected,
                               rtol=0.05)


def test_the_temperature_is_the_one_of_the_bundle(tmp_path):
    image = Image.fromarray(shaded((140, 126, 120)))
    found = []
    for i, scale in enumerate(({}, {'logit_scale': 0.5}, {'classify': {'temperature': 200}})):
        bundle = tiny.write_bundle(tmp_path / f'tiny{i}', info=scale)
        search = ClipSearch(model=str(bundle), cache_dir=tmp_path)
        table = search.classify(image, COLOURS)
        found.append(table['clip_probability'][0])
        assert table.meta['clip']['logit_scale'] == (0.5 if scale else 100)
        assert table['clip_class'][0] == 'red'
    assert found[0] > found[1] + 0.1, 'a smaller factor is less sure'
    assert found[2] == found[1], 'what is divided by 200 is half'


def test_names_and_several_phrases(search, folder):
    table = search.classify(folder, {'warm': ['red', 'a red thing'], 'cold sea': 'blue green'})
    assert table['clip_class'].tolist() == ['cold sea', 'cold sea', 'warm']
    assert {'clip_p_warm', 'clip_p_cold_sea'} < set(table.colnames)
    assert table.meta['clip']['classes'] == {'warm': ['red', 'a red thing'],
                                             'cold sea': ['blue green']}
    # The average of red and blue is as far from either.
    table = search.classify(folder / 'red.png', {'both': ['red', 'blue'], 'one': ['red']})
    assert table['clip_class'].tolist() == ['one']


def test_nothing_of_the_table_is_lost(search, folder):
    table = QTable({'image': ['red.png', 'blue.png', ''], 'flux': [1, 2, 3] * u.Jy,
                    'name': ['a', 'b', 'c']}, meta={'origin': ['here']})
    classified = search.classify(table, COLOURS, image_dir=folder)
    assert isinstance(classified, QTable)
    assert classified.colnames == [*IN_FRONT, 'image', 'flux', 'name', *BEHIND]
    assert (classified['flux'] == table['flux']).all()
    assert table.colnames == ['image', 'flux', 'name'], 'the input is not changed'
    classified.meta['origin'].append('there')
    assert table.meta == {'origin': ['here']}


def test_rows_without_an_image_are_masked(search, folder):
    (folder / 'broken.png').write_bytes(b'broken')
    table = Table({'image': ['', 'red.png', 'broken.png']})
    with pytest.warns(UnreadImagesWarning, match='1 of 3') as said:
        classified = search.classify(table, COLOURS, image_dir=folder)
    assert said[0].filename == __file__
    assert classified['clip_status'].tolist() == ['NO_IMAGE', 'OK', 'ERROR']
    for name in IN_FRONT + BEHIND[:3]:
        assert classified[name].mask.tolist() == [True, False, True], name
    assert classified['clip_class'][1] == 'red'
    clip = classified.meta['clip']
    assert (clip['n_rows'], clip['n_ranked']) == (3, 1)


def test_no_image_at_all(search, folder):
    (folder / 'broken.png').write_bytes(b'broken')
    with pytest.warns(NothingRankedWarning):
        table = search.classify(folder / 'broken.png', COLOURS)
    assert table['clip_class'].mask.all()
    with pytest.warns(NothingRankedWarning):
        table = search.classify(Table({'jpegURL': np.array([], str)}), COLOURS)
    assert table.colnames == [*IN_FRONT, 'jpegURL', *BEHIND]


def test_after_and_before_a_ranking(search, serve):
    mast, obs = serve_colours(serve, COLOURS)
    ranked = search.rank(obs, 'blue', by='image')
    classified = search.classify(ranked, COLOURS)
    assert classified['clip_rank'].tolist() == [1, 2, 3]
    assert (classified['clip_score'] == ranked['clip_score']).all()
    assert classified['clip_class'][0] == 'blue'
    assert classified.meta['clip']['query'] == ['blue']
    assert len(mast.downloads()) == 3, 'nothing is downloaded again'
    again = search.classify(classified, ['red', 'blue'])
    assert 'clip_p_green' not in again.colnames, 'an old classification is replaced'
    assert sum(name.startswith('clip_p_') for name in again.colnames) == 2
    best = search.rank(again, 'red', by='image')
    assert best['clip_class'][0] == 'red'


def test_written_and_read(search, folder, tmp_path):
    table = search.classify(folder, {'the red ones': 'red', 'b': ['blue', 'blue green']})
    for suffix, kind in (('.ecsv', 'ascii.ecsv'), ('.vot', 'votable'), ('.fits', 'fits')):
        # astropy 8.0 writes the default of VOTable past the end of its buffer.
        options = {'tabledata_format': 'binary2'} if kind == 'votable' else {}
        plain = table.copy()
        plain.meta = table.meta if kind == 'ascii.ecsv' else {}
        plain.write(tmp_path / f't{suffix}', format=kind, **options)
        read = Table.read(tmp_path / f't{suffix}', format=kind)
        assert read.colnames == table.colnames
        np.testing.assert_allclose(total(read), 1, atol=1e-6)
    assert Table.read(tmp_path / 't.ecsv').meta['clip'] == table.meta['clip']


def test_gallery_shows_the_class(search, folder):
    scores = [card.scores for card in search.gallery(search.classify(folder, COLOURS)).cards]
    assert scores == [('blue 100%',), ('green 100%',), ('red 100%',)]


# ---- none of these -----------------------------------------------------------------------


def test_what_is_none_of_the_classes(reference, folder):
    Image.fromarray(shaded((90, 90, 90))).save(folder / 'grey.png')
    table = reference.classify(folder, COLOURS, false_alarm_rate=0.05)
    assert table['clip_class'].tolist() == ['blue', 'green', 'none', 'red']
    assert 'clip_p_none' in table.colnames
    np.testing.assert_allclose(total(table), 1, atol=1e-6)
    assert table['clip_p_none'][2] > 0.5
    assert table.meta['clip']['false_alarm_rate'] == 0.05
    without = reference.classify(folder, COLOURS)
    assert 'none' not in without['clip_class']


def test_one_class_and_all_else(reference, folder):
    table = reference.classify(folder, ['red'], false_alarm_rate=0.01)
    assert table['clip_class'].tolist() == ['none', 'none', 'red']


@pytest.mark.parametrize('rate', [0.02, 0.05, 0.5])
def test_the_rate_is_that_of_each_class(reference, rate):
    background = reference.session.encoder().bundle.background.image
    cosines = background @ reference.encode_text(COLOURS).T
    passed = cosines > class_thresholds(cosines, rate)
    # The image itself counts with the references: one less of a hundred.
    np.testing.assert_allclose(passed.mean(axis=0), rate - 0.01, atol=0.011)
    for own, of_class in zip(passed.T, cosines.T, strict=True):
        rates = false_alarm_rate(of_class, of_class)
        np.testing.assert_array_equal(own, rates <= rate)


def test_further_classes_take_no_image_away(reference, folder):
    Image.fromarray(shaded((140, 120, 120))).save(folder / 'reddish.png')
    kept = [(reference.classify(folder, COLOURS[:n], false_alarm_rate=0.05)['clip_class']
             != 'none').tolist() for n in (1, 2, 3)]
    assert sum(kept[0]) >= 1
    for fewer, more in itertools.pairwise(kept):
        assert all(later for first, later in zip(fewer, more, strict=True) if first)


def test_an_image_that_passes_the_rate_of_no_class_is_none():
    """Whatever the number of classes: of unrelated images each class lets through its share."""
    rng = np.random.default_rng(0)
    background, images = rng.normal(size=(2, 4000, 12))
    for n in (1, 2, 12):
        thresholds = class_thresholds(background[:, :n], 0.05)
        chances = probabilities(images[:, :n] - thresholds, 0.0)
        found = chances.argmax(axis=1)
        np.testing.assert_array_equal(found == n, (images[:, :n] <= thresholds).all(axis=1))
        passed = (images[:, :n] > thresholds).mean(axis=0)
        np.testing.assert_allclose(passed, 0.05, atol=0.015)


def test_reference_images_that_show_a_class_do_not_count(folder, tmp_path):
    encoder = ReferenceEncoder()
    greys = encoder.bundle.background.image
    reds = normalise(np.array([[1.0, 0.01 * i, 0.0] for i in range(20)]))
    images, label = np.concatenate([greys, reds]), np.repeat([-1, 0], [len(greys), len(reds)])
    labels = encoder.encode_text(['red'])
    found = []
    for background in (Background(images), Background(images, labels=labels, label=label,
                                                      related=0.9)):
        encoder.bundle.__dict__['_background'] = background
        search = ClipSearch(encoder=encoder, cache_dir=tmp_path / 'cache')
        table = search.classify(folder / 'red.png', ['dark red', 'blue'], false_alarm_rate=0.05)
        lines = search.describe(folder / 'red.png', ['red', 'green'], limit=1)
        found.append((table['clip_p_none'][0], lines['clip_false_alarm'][0]))
    assert found[0][0] > 0.1 > found[1][0]
    assert found[0][1] == pytest.approx(2 / 121, abs=0.01)
    assert found[1][1] == pytest.approx(1 / 101)


def test_reference_images_that_may_show_one_class_still_count_for_another():
    cosines = np.array([[1.0, np.nan], [np.nan, 2.0], [3.0, 0.5], [np.nan, 4.0]])
    assert class_thresholds(cosines, 0.7).tolist() == [1, 2]


def test_a_model_without_reference_images_has_no_none(search, folder):
    with pytest.raises(InvalidQueryError, match=r"'colours' has no reference .* leave out"):
        search.classify(folder, COLOURS, false_alarm_rate=0.05)


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
              elements=st.floats(-1e4, 1e4)), st.floats(1e-3, 0.999))
def test_probabilities_of_anything(logits, rate):
    thresholds = class_thresholds(logits, rate)
    assert ((logits > thresholds).mean(axis=0) <= rate + 1e-12).all()
    logits, none = logits - thresholds, 0.0
    found = probabilities(logits, none)
    assert found.shape == (len(logits), logits.shape[1] + 1)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(probabilities(logits + 7), probabilities(logits), atol=1e-9)
    assert np.isnan(probabilities(np.full((2, 3), np.nan), none)).all()


# ---- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(('classes', 'options', 'message'), [
    (['red'], {}, 'classes has 1 class: give at least 2'),
    ([], {}, 'classes must be a phrase'),
    ({}, {}, 'classes must be a phrase'),
    ('red', {}, 'classes must be a list of phrases'),
    (3, {}, 'classes must be a phrase'),
    ([1, 2], {}, 'classes must be a phrase'),
    (['red', ''], {}, 'classes has no word'),
    (['red', 'red'], {}, 'Two classes have the same name'),
    (['dark red', 'dark_red'], {}, 'Two classes have the same name'),
    ({'a': 'red', 'b': []}, {}, "The class 'b' must be a phrase"),
    ({'a': 'red', 'b': 3}, {}, "The class 'b' must be a phrase"),
    ({'a': 'red', ' ': 'blue'}, {}, 'classes has no word'),
    (COLOURS, {'false_alarm_rate': 0}, 'between 0 and 1'),
    (COLOURS, {'false_alarm_rate': 1}, 'between 0 and 1'),
    (['red', 'none'], {'false_alarm_rate': 0.05}, "The class 'none' is added"),
])
def test_errors(reference, folder, classes, options, message):
    with pytest.raises(InvalidQueryError, match=message):
        reference.classify(folder, classes, **options)
    assert reference.session.encoder().n_images == 0


def test_a_class_may_be_called_none_otherwise(search, folder):
    assert 'clip_p_none' in search.classify(folder, ['red', 'none']).colnames


def test_phrases_are_embedded_once(tmp_path, folder):
    encoder = ReferenceEncoder()
    encoder.bundle = dataclasses.replace(encoder.bundle)
    search = ClipSearch(encoder=encoder, cache_dir=tmp_path / 'cache')
    for _ in range(2):
        search.classify([picture('red')], COLOURS)
    assert (encoder.n_texts, encoder.n_images) == (3, 1)
