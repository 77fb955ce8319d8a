import dataclasses
from pathlib import Path

import numpy as np
import pytest

from export.data import labels
from export.data.descriptions import KINDS_OF_LABELS, PHRASES, WORDS_OF_LABELS
from export.data.labels import asking, draft, expand, label_classes, near_kinds, read_title
from export.data.pairs import Pair
from export.sky import KINDS


def pair(source, *found, title='', kind=''):
    return Pair(file=Path('a.png'), source=source, title=title, labels=found, kind=kind)


def test_patterns_are_spelled_out():
    assert expand('{dim|faint} tails{| of plasma}') == [
        'dim tails', 'dim tails of plasma', 'faint tails', 'faint tails of plasma']
    assert expand('plain words') == ['plain words']


def test_many_ways_to_ask():
    assert len(set(asking('FRI')) | set(asking('FRII'))) > 1000
    assert not set(asking('FRI')) & set(asking('FRII'))
    assert asking('no such label') == ()
    assert not [text for label in labels.NEAR[0] for text in asking(label) if '{' in text]


def test_near_kinds_exist():
    assert {kind for group in near_kinds() for kind in group} <= set(KINDS)


@pytest.mark.parametrize(
    ('title', 'expected'),
    [
        ('M51: the Whirlpool', ('spiral_galaxy', 'spiral')),
        ('Messier 51 in Infrared', ('spiral_galaxy', 'spiral')),
        ('The Dust of NGC891', ('edge_on_galaxy', 'edge_on')),
        ("Thackeray's Globules", ('dark_nebula', 'dark_nebula')),
        ('Stephan’s Quintet', ('galaxy_group', 'galaxy_group')),
        ('X-Rays from M51', ('x_ray', 'x_ray')),
        ('Sunset over Gusev Crater', ('mars', 'planet_surface')),
        ('Apollo 12: a Walk', ('moon', 'moon')),
        ('Sharpless 115', ('emission_nebula', 'emission_nebula')),
        ('Jupiter from below', ('jupiter', 'planet')),
        ('M2-9: Wings', ('planetary_nebula', 'planetary_nebula')),
        ('M200 is not of Messier', ('', '')),
        ('Pioneering a Method', ('', '')),
    ],
)
def test_titles(title, expected):
    assert read_title(title) == expected


def test_the_catalogue_names_labels_and_kinds_that_exist():
    known = set(KINDS_OF_LABELS) | set(WORDS_OF_LABELS) | set(PHRASES) | set(KINDS)
    for label, kind in {read_title(name) for name in ('M1', 'M13', 'comet', 'Milky Way')}:
        assert label in known
        assert not kind or kind in KINDS


def test_draft_reads_titles_of_pictures_without_a_label():
    before = [pair('apod', title='M13'), pair('apod', 'moon', title='M13'),
              pair('other', title='M13'), pair('apod', title='Nothing known'),
              pair('apod', title='M13 in X-rays', kind='globular_cluster')]
    after = draft(before)
    assert [found.labels for found in after] == [
        ('globular_cluster',), ('moon',), (), (), ('x_ray',)]
    assert after[0].kind == after[4].kind == 'globular_cluster'
    assert sum(weight for _, weight in after[0].captions) == pytest.approx(0.5)
    # A kind that was known has given its captions already.
    assert after[4].captions == ()
    assert [a is b for a, b in zip(before, after, strict=True)] == [
        False, True, True, True, False]


def test_classes_are_labels_of_one_source():
    pairs = [*[pair('frdeep', 'FRI')] * 2, *[pair('frdeep', 'FRII')] * 2,
             pair('smallgz1', 'spiral galaxy, clockwise'),
             pair('smallgz1', 'spiral galaxy, anticlockwise'), pair('apod', 'FRI')]
    found = label_classes(pairs, least=2)
    assert found.keys[:3] == (('frdeep', 'FRI'), ('frdeep', 'FRII'), ('smallgz1', 'spiral galaxy'))
    assert found.carried.shape == (7, len(found.keys))
    np.testing.assert_array_equal(found.carried[:, :3].sum(0), [2, 2, 2])
    assert found.near == ((0, 1),)
    assert all(text for groups in found.phrases for group in groups for text in group)


def test_what_is_not_there_is_carried_by_the_other_label():
    pairs = [pair('frdeep', 'FRI')] * 4 + [pair('frdeep', 'FRII')] * 4
    found = label_classes(pairs)
    column = found.keys.index(('frdeep', 'without FRII'))
    np.testing.assert_array_equal(found.carried[:, column], [True] * 4 + [False] * 4)
    assert 'no bright tips' in found.phrases[column][0]
    # Without anything that could be absent nothing is learned of its absence.
    alone = label_classes(pairs[:4])
    assert alone.keys == (('frdeep', 'FRI'),)


def test_no_images():
    found = label_classes([])
    assert found.keys == ()
    assert found.carried.shape == (0, 0)
    assert dataclasses.astuple(found)[3] == ()
