# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How many threads fetch, and what came of each row.
"""

from astroclip_search.embeddings.collect import Outcomes, n_workers
from astroclip_search.status import reason


def test_number_of_workers():
    assert n_workers([], 5) >= 1
    assert n_workers([None, '/a/file', 'sha256:0'], 5) <= 2
    one = n_workers(['https://a.example/1', 'https://a.example/2', 'http://[broken'], 5)
    assert one > 5
    assert n_workers([f'https://{i}.example/' for i in range(100)], 5) <= 22
    assert n_workers(['mast:HST/a', 'mast:HST/b'], 5) in (6, 7)


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
