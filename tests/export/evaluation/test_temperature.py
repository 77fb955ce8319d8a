"""Probabilities of classes are as often right as they say."""

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from export.evaluation.temperature import SETS, choices, expected_error, fit, loss, table

KINDS = [{'spiral', 'barred_spiral'}, {'barred_spiral'}, {'comet'}, {'planet'}]


def images(factor, count=3000, seed=0):
    """Cosines whose softmax with a factor says what each image shows, and what it shows."""
    rng = np.random.default_rng(seed)
    cosines = rng.normal(0, 0.1, (count, 4))
    chances = np.exp(factor * cosines)
    chances /= chances.sum(1, keepdims=True)
    truth = (rng.random((count, 1)) > chances.cumsum(1)).sum(1)
    return cosines, np.eye(4, dtype=bool)[truth]


@pytest.mark.parametrize('factor', [5, 20])
def test_the_true_factor_is_found(factor):
    drawn = choices(*images(factor), [{name} for name in 'abcd'], 3)
    assert len(drawn) == SETS
    assert fit([drawn]) == pytest.approx(factor, rel=0.1)
    error, right = expected_error(factor, drawn)
    sharper = expected_error(3 * factor, drawn)
    assert error < 0.03 < sharper[0]
    assert right == sharper[1] > 0.4, 'the order of classes is the same'
    assert loss(factor, drawn) < loss(3 * factor, drawn)


def test_classes_of_a_set_have_no_kind_in_common():
    cosines, showing = images(5)
    showing[:, 0] |= showing[:, 1]  # a barred spiral is a spiral
    for size, sets in ((2, SETS), (3, SETS), (4, 0)):
        drawn = choices(cosines, showing, KINDS, size)
        assert len(drawn) == sets
        for one in drawn:
            assert one.cosines.shape == (len(one.truth), size)
            assert np.bincount(one.truth, one.weight).tolist() == pytest.approx([1 / size] * size)


def test_rare_classes_are_in_no_set():
    cosines, showing = images(5)
    showing[:, 2:] = False
    showing[:4, 2] = True
    assert choices(cosines, showing, KINDS, 2) == []


def test_the_temperature_is_that_of_held_out_images():
    classify, found = table({'one': images(10), 'other': images(10, seed=1)}, KINDS, 30.0)
    assert classify['temperature'] == pytest.approx(3, rel=0.1)
    assert [row[:2] for row in found['rows']] == [
        ['one', 2], ['one', 3], ['other', 2], ['other', 3]]
    for row in found['rows']:
        assert len(row) == len(found['columns'])
        trained, fitted, elsewhere = map(float, row[4:7])
        assert max(fitted, elsewhere) < trained
        assert float(row[8]) < float(row[7])
    [alone, _] = table({'one': images(10)}, KINDS, 30.0)[1]['rows']
    assert alone[6] == '-', 'there is no other source'


def test_without_labelled_images_there_is_no_temperature():
    classify, found = table({}, KINDS, 30.0)
    assert classify is None
    assert found['rows'] == []
