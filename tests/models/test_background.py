# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The reference embeddings are unit vectors, and those that show what a query asks for do not count.
"""

import numpy as np
import pytest

from astroclip_search.exceptions import BundleError
from astroclip_search.models.background import normalise
from astroclip_search.models.bundle import open_bundle
from tests import tiny


@pytest.fixture
def path(tmp_path):
    yield tiny.write_bundle(tmp_path / 'model')
    open_bundle.cache_clear()


def refused(path):
    with pytest.raises(BundleError, match=r'background\.npz') as caught:
        _ = open_bundle(str(path)).background
    message = str(caught.value)
    assert '\n' not in message
    assert message.endswith('.')


def test_a_zero_vector_stays_zero():
    np.testing.assert_array_equal(normalise([[0, 3, 4], [0, 0, 0]]),
                                  np.float32([[0, 0.6, 0.8], [0, 0, 0]]))


def test_background_vectors_are_unit_vectors(path):
    background = open_bundle(str(path)).background
    assert background.image.dtype == background.metadata.dtype == np.float32
    assert background.image.shape == (3, 3)
    np.testing.assert_allclose(background.image[2], [0, 0.5**0.5, 0.5**0.5], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(background.metadata, axis=1), 1, atol=1e-6)


def labelled(path, **changes):
    """The three reference images with labels: x, z, and one of which nothing is known."""
    with np.load(path / 'background.npz') as data:
        arrays = dict(data)
    arrays |= {'labels': np.array([[127, 0, 0], [0, 0, 127]], np.int8), 'labels_scale': 1 / 127,
               'label': np.array([0, 1, -1], np.int16), 'related': 0.6}
    np.savez(path / 'background.npz', **arrays | changes)
    tiny.seal(path)


def test_reference_images_that_show_what_is_asked_do_not_count(path):
    labelled(path)
    background = open_bundle(str(path)).background
    queries = np.array([[1, 0, 0], [0.72, 0, 0.69], [0, 1, 0]], np.float32)
    found = background.cosines(queries)
    # Two of three are related to the second: too many to leave out.
    np.testing.assert_array_equal(np.isnan(found), [[True, False, False], [False] * 3, [False] * 3])
    np.testing.assert_allclose(found[1:], (background.image @ queries.T)[1:])
    np.testing.assert_allclose(background.cosines(queries[0]), found[:, 0])


def test_a_label_that_is_less_similar_than_another_says_another_thing(path):
    """A picture of Saturn does not show Jupiter, although their names are similar."""
    labelled(path)
    background = open_bundle(str(path)).background
    np.testing.assert_array_equal(np.isnan(background.cosines(np.float32([0.8, 0, 0.6]))),
                                  [True, False, False])


def test_the_archives_of_the_reference_images(path):
    assert open_bundle(str(path)).background.source is None
    labelled(path, source=np.array([1, 0, 1], np.int16))
    open_bundle.cache_clear()
    assert open_bundle(str(path)).background.source.tolist() == [1, 0, 1]


def test_without_labels_all_reference_images_count(path):
    background = open_bundle(str(path)).background
    assert background.labels is None
    assert np.isfinite(background.cosines(np.eye(3, dtype=np.float32))).all()


@pytest.mark.parametrize('wrong', [
    {'label': np.array([0, 2, -1])}, {'label': np.array([0, -2, -1])}, {'label': np.array([0, 1])},
    {'related': 'often'}, {'source': np.array([0, 1])},
    {'source': np.array(['a', 'b', 'c'])}, {'labels': np.zeros((2, 4), np.int8)}])
def test_labels_of_the_wrong_form(path, wrong):
    labelled(path, **wrong)
    refused(path)


def test_a_background_may_lack_metadata(path):
    with np.load(path / 'background.npz') as data:
        only = {name: data[name] for name in ('image', 'image_scale')}
    np.savez(path / 'background.npz', **only)
    tiny.seal(path)
    assert open_bundle(str(path)).background.metadata is None


@pytest.mark.parametrize('arrays', [
    {'image': np.ones((2, 3), np.int8)},
    {'image': np.array([None]), 'image_scale': np.float32(1)},
    {'image': np.ones((2, 7), np.int8), 'image_scale': np.float32(1)},
    {'image': np.ones(3, np.int8), 'image_scale': np.float32(1)}])
def test_a_background_of_the_wrong_form(path, arrays):
    np.savez(path / 'background.npz', **arrays)
    tiny.seal(path)
    refused(path)
