"""The references have something of every kind, and count by what an archive may be full of."""

import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from export.evaluation.background import ARCHIVES, LEAST, choose
from export.sky import KINDS


def test_some_of_every_label_are_references():
    labels = [('mars',)] * 100 + [()] * 20 + [('venus', 'mars')] * 5 + [('mercury',)] * 40
    chosen = choose(labels, 60)
    assert len(chosen) == 60
    assert chosen == sorted(set(chosen))
    of_each = [sum(name in labels[i] for i in chosen) for name in ('mars', 'venus', 'mercury')]
    assert of_each == [60 - LEAST, 5, LEAST]
    assert chosen[:40] == list(range(40)), 'those in front are preferred'


def test_what_is_needed_of_every_label_comes_before_the_limit():
    labels = [(str(i // LEAST),) for i in range(10 * LEAST)]
    assert choose(labels, 3) == list(range(10 * LEAST))
    assert choose([()] * 9, 3) == [0, 1, 2]
    assert choose([], 3) == []


def test_a_kind_is_in_one_archive():
    named = [kind for kinds in ARCHIVES for kind in kinds]
    assert len(named) == len(set(named))
    assert set(named) < set(KINDS), 'others are left for the archive of all else'
