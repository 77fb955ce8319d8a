# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How many threads fetch, and what came of each row.
"""

import os

import pytest

from astroclip_search.embeddings.collect import Outcomes, n_workers
from astroclip_search.images.refs import colour
from astroclip_search.status import reason


def test_number_of_workers():
    assert n_workers([], 5) >= 1
    one = n_workers(['https://a.example/1', 'https://a.example/2', 'http://[broken'], 5)
    assert one > 5
    assert n_workers([f'https://{i}.example/' for i in range(100)], 5) <= 22
    assert n_workers(['mast:HST/a', 'mast:HST/b'], 5) in (6, 7)
    assert n_workers([colour('mast:a', 'mast:b', 'mast:c')], 5) in (6, 7)


@pytest.mark.parametrize('sources', [
    [None, '/a/file', 'sha256:0'], [r'C:\a.fits'], [colour('/a', '/b', '/c')]])
@pytest.mark.parametrize(('cores', 'n'), [(1, 1), (2, 2), (16, 16), (256, 32)])
def test_local_files_have_a_thread_for_each_core(monkeypatch, sources, cores, n):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: range(cores), raising=False)
    assert n_workers(sources, 5) == n
    assert n_workers(sources, 5, 3) == 3, 'the setting'
    assert n_workers([*sources, 'https://a.example/1'], 5) == 5 + n
    assert n_workers(['https://a.example/1'], 5) == 5 + min(2, cores)


def test_cores_where_the_system_does_not_say_which_may_be_used(monkeypatch):
    monkeypatch.delattr(os, 'sched_getaffinity', raising=False)
    monkeypatch.setattr(os, 'cpu_count', lambda: 4)
    assert n_workers(['/a/file'], 5) == 4
    monkeypatch.setattr(os, 'cpu_count', lambda: None)
    assert n_workers(['/a/file'], 5) == 1


def test_notes_of_a_row_are_added_to_what_is_known_of_it():
    before = Outcomes(['a', 'b', 'c'], {0: (reason('sky_context', hips='DSS2'),),
                                        1: (reason('no_answer'),)})
    after = before.noting({0: reason('twin', rank=1), 2: reason('twin', rank=2)})
    assert after.messages().tolist() == [
        'sky context from DSS2, not the observation; nearly the same picture as rank 1',
        'no answer in time', 'nearly the same picture as rank 2']
    assert after.statuses().tolist() == ['OK', 'ERROR', 'OK']
    assert [after.is_ok(row) for row in range(3)] == [True, False, True]
    assert after.count('twin') == 2
    assert after.count('twin', 'no_answer', 'sky_context') == 3
    assert before.messages()[2] == '', 'nothing is changed'
