"""What examples add to a phrase, and which images look the same."""

import json

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from astroclip_search.models.background import Background
from export.evaluation import feedback as module
from export.evaluation.feedback import SETTINGS, WAYS, alike, choose, feedback, main, marked
from export.evaluation.tasks import Task
from export.release.bundle import main as make_bundle


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def task_of(positive):
    n, queries = positive.shape
    return Task('a', 'A', np.arange(n), [('a/b',)] * queries, ['b'] * queries, positive,
                np.zeros(n, int), [[]] * queries)


def test_a_person_likes_and_dislikes_the_best_of_what_is_shown():
    scores = np.arange(30.0)[::-1]
    positive = np.zeros(30, bool)
    positive[[1, 4, 5, 6, 25]] = True
    liked, disliked = choose(scores, positive)
    assert (liked.tolist(), disliked.tolist()) == ([1, 4, 5], [0, 2, 3])
    assert choose(scores, np.arange(30) > 24)[0].size == 0


def test_examples_help_where_the_phrase_points_elsewhere_and_judge_only_other_images():
    rng = np.random.default_rng(0)
    positive = np.arange(200)[:, None] < 60
    vectors = rng.normal(size=(200, 16))
    vectors[:60, 0] += 3  # what they have in common
    phrase = unit(rng.normal(size=(1, 16)) + np.eye(16)[:1])
    rows, queries = feedback(unit(vectors), task_of(positive), phrase,
                             unit(rng.normal(size=(50, 16))), draws=20)
    value = {name: mean for name, mean, _, _ in rows}
    assert queries == 1
    assert value['liked examples alone'] > value['the phrase alone'] + 0.1
    assert value['as by default'] > value['the phrase alone'] + 0.02
    low = {name: low for name, _, low, _ in rows}
    assert low['liked examples alone'] > 0 == low['the phrase alone']


def test_a_query_that_finds_nothing_to_like_is_not_judged():
    vectors = unit(np.stack([np.linspace(1, -1, 60), np.ones(60)], axis=1))
    phrase = np.array([[1.0, 0.0]], np.float32)
    assert feedback(vectors, task_of(np.arange(60)[:, None] > 50), phrase, None) == ([], 0)


def test_pairs_are_counted_once_and_nameless_images_have_no_target_in_common(monkeypatch):
    monkeypatch.setattr(module, '_PART', 2)
    vectors = unit(np.array([[1, 0], [1, 0.01], [1, 0.02], [0, 1], [0.01, 1]]))
    counts = alike(vectors, ['M 1', 'M 1', 'M 2', '', ''], cosines=(0.9, 0.9999))
    assert counts.tolist() == [[4, 1], [3, 1]]


def test_the_step_runs_on_a_bundle(checkpoint, towers, manifest, tmp_path, capsys):
    folder = tmp_path / 'bundle'
    make_bundle([str(checkpoint), str(towers), '--out', str(folder), '--real', str(manifest)])
    out = tmp_path / 'feedback.json'
    main([str(folder), '--real', str(manifest), '--all-rows', '--draws', '5', '--out', str(out)])
    result = json.loads(out.read_text())
    source = next(iter(result['alike']))
    assert len(result['feedback'][source]['rows']) in (0, len(SETTINGS))
    assert source in capsys.readouterr().out


def test_marks_help_where_the_phrase_is_half_right():
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 3, 300)
    vectors = rng.normal(size=(300, 24)) / 5
    vectors[:, 2] += 1.5
    vectors[kind == 0, 0] += 1
    vectors[kind == 1, 1] += 1  # which the phrase means as well
    other = rng.normal(size=(150, 24)) / 5
    other[:, 2] += 1.5
    phrase = unit((np.eye(24)[0] + np.eye(24)[1])[None])
    positive = np.stack([kind == 0, np.arange(300) < 20], axis=1)
    task = task_of(positive)
    queries, values = marked(unit(vectors), task, np.repeat(phrase, 2, axis=0),
                             Background(unit(other)), tables=4)
    assert queries == ['b'], 'of the other there are too few'
    assert values.shape == (1, len(WAYS), 4)
    before, page, rest, learned = values[0, list(WAYS).index('learned')]
    assert page > before + 0.15
    assert learned > rest + 0.15
    assert values.min() >= 0
    assert values.max() <= 1


def test_precision_is_out_of_what_is_left():
    scores = np.arange(30.0)
    assert module._precision(scores, scores > 19) == 1
    assert module._precision(scores, scores > 26) == 1
    assert module._precision(scores, scores < 3) == 0
    assert module._precision(scores, scores > 99) == 0
