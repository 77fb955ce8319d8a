"""A survey is not an object: rankings within sources, and which source comes first."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from export.data.pairs import Pair
from export.evaluation.pooled import THIS, ask
from export.evaluation.surveys import largest_share, surveys_table, within_sources
from export.evaluation.tasks import Task

SOURCES = np.repeat(['a', 'b', 'c'], 10)
#: Four of ten images in each of two sources; the third has one, too few to say.
POSITIVE = np.zeros((30, 1), bool)
POSITIVE[[0, 1, 2, 3, 10, 11, 12, 13, 20], 0] = True


def test_within_sources_the_look_of_a_source_does_not_help():
    by_source = np.where(SOURCES == 'a', 1.0, 0)[:, None]  # knows the survey alone
    assert within_sources(by_source, POSITIVE, SOURCES)[0] == pytest.approx(.4)
    exact = by_source + POSITIVE * .1  # and which of its images show it
    assert within_sources(exact, POSITIVE, SOURCES)[0] == 1


def test_a_source_with_few_images_says_nothing():
    assert np.isnan(within_sources(np.zeros((30, 1)), np.eye(30, 1, dtype=bool), SOURCES)[0])


def test_the_largest_share_is_set_against_what_is_right():
    scores = np.where(SOURCES == 'b', 1.0, 0)[:, None]
    share, right, names = largest_share(scores, POSITIVE, SOURCES, places=10)
    assert (share[0], right[0], names) == (1, pytest.approx(4 / 9), ['b'])


def test_the_table_compares_methods_on_the_same_queries():
    positive = np.concatenate([POSITIVE, np.eye(30, 1, dtype=bool)], axis=1)
    pairs = [Pair(Path(f'{i}.png'), source) for i, source in enumerate(SOURCES)]
    task = Task('', 'all', np.arange(30), [(), ()], ['comet', 'star'], positive,
                np.zeros(30, int), [[], []])
    one = ask(task, pairs, {}, {THIS: positive.astype(float), 'other': -positive.astype(float)})
    table, details = surveys_table(one, SOURCES, [THIS, 'other'])
    assert [row[0] for row in table['rows']] == [THIS, 'other', 'a perfect ranking', 'random']
    assert table['rows'][0][1:3] == [1, 1]  # of the one query that has sources enough
    assert table['rows'][2][1:3] == [1, 1]
    assert table['rows'][1][2] < table['rows'][3][2] < 1
    assert [one['AP within sources'] for one in details] == [1, None]
    few = ask(task, pairs, {}, {THIS: np.zeros((30, 2))})
    few.judged.positive[:, 0] = False  # no class has three
    assert surveys_table(few, SOURCES, [THIS]) == (None, [])
