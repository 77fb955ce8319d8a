# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A model that gives no numbers costs the rows that it gives none for, and nothing of it is kept.
"""

import numpy as np
import pytest
from astropy.table import Table

from astroclip_search.exceptions import EncoderError, ImageError, UnreadImagesWarning
from astroclip_search.models.background import normalise
from tests.colours import COLOURS

SAID = 'the model gives no numbers for this image'


@pytest.fixture
def broken(encoder):
    """The names that the model gives this value for."""
    broken = {}

    def spoilt(vectors):
        for colour, value in broken.items():
            is_like = vectors @ np.float32(COLOURS[colour]) > 0.9
            vectors[is_like, 0] = value
        return normalise(vectors)

    images, texts = encoder.encode_images, encoder.encode_text
    encoder.encode_images = lambda pixels: spoilt(images(pixels))
    encoder.encode_text = encoder.encode_metadata = lambda words: spoilt(texts(words))
    return broken


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_an_image(search, folder, broken, value):
    broken['green'] = value
    with pytest.warns(UnreadImagesWarning, match='1 of 3 images'):
        found = search.rank(folder, 'red')
    assert found['clip_status'].tolist() == ['OK', 'OK', 'ERROR']
    assert found['clip_message'][2] == SAID
    assert np.ma.is_masked(found['clip_image'][2])
    with pytest.raises(ImageError, match=SAID):
        search.encode_images([folder / 'green.png'])
    with pytest.raises(ImageError, match=SAID):
        search.rank(folder, like=folder / 'green.png')
    broken.clear()
    assert search.rank(folder, 'green')['clip_status'].tolist() == ['OK'] * 3, 'none was kept'


def test_all_images(search, folder, broken):
    broken.update(dict.fromkeys(COLOURS, np.nan))
    with pytest.warns(UserWarning, match=f'None of the 3 rows .* says: {SAID}'):
        found = search.rank(folder, 'grey')
    assert set(found['clip_status']) == {'ERROR'}


def test_a_phrase(search, folder, broken):
    broken['green'] = np.nan
    for verb in (search.rank, lambda folder, phrase: search.classify(folder, [phrase, 'red'])):
        with pytest.raises(EncoderError, match='The model gives no numbers for a phrase'):
            verb(folder, 'green')
    broken.clear()
    assert search.rank(folder, 'green')['clip_status'].tolist() == ['OK'] * 3


def test_metadata(search, broken):
    broken['green'] = np.nan
    rows = Table({'obs_title': ['red', 'green', 'blue']})
    found = search.rank(rows, 'red', by='metadata')
    assert found['obs_title'].tolist()[:2] == ['red', 'blue']
    assert found['clip_status'].tolist() == ['OK', 'OK', 'SKIPPED']
    broken.clear()
    assert search.rank(rows, 'green', by='metadata')['obs_title'][0] == 'green'


def test_large_numbers_are_numbers():
    np.testing.assert_allclose(normalise([[3e30, 4e30]]), [[0.6, 0.8]], rtol=1e-6)
    assert np.isnan(normalise([[np.inf, 1], [3, 4]])).any(axis=1).tolist() == [True, False]
