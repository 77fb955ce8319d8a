# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The campaign against servers, files and disks: that it notices what is lost, and a part of it.
"""

import json
import sys

import pytest

from benchmarks.campaign.__main__ import batches, line, size, total, write
from benchmarks.campaign.damage import KINDS, damaged
from benchmarks.campaign.samples import IMAGES, PACKED, TABLES, sample
from benchmarks.campaign.watch import Count, watch

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='it limits and kills processes')


def test_what_is_damaged_was_sound(search, tmp_path):
    drawn = [one for kind in (*IMAGES, *PACKED) for one in sample(kind)]
    for number, (suffix, content) in enumerate(drawn):
        (tmp_path / f'{number}{suffix}').write_bytes(content)
    ranked = search.rank(tmp_path, 'red', by='image', fold_duplicates=False)
    assert ranked['clip_status'].tolist() == ['OK'] * len(drawn)
    assert len(drawn) > 25


@pytest.mark.parametrize('kind', [kind for kind in TABLES if kind != 'FITS table'])
def test_tables_that_are_damaged_were_sound(kind, tmp_path):
    from astroclip_search.archives import table_io

    for number, (suffix, content) in enumerate(sample(kind)):
        path = tmp_path / f'{number}{suffix}'
        path.write_bytes(content)
        assert table_io.read(path)['preview'].tolist() == ['first.png', 'second.png']


@pytest.mark.parametrize('kind', KINDS)
def test_damage_is_the_same_again_and_another_one_each_time(kind):
    if not sample(kind):
        pytest.skip('what writes these files is not here')
    found = [damaged(kind, number, 5) for number in range(8)]
    assert found == [damaged(kind, number, 5) for number in range(8)]
    assert len(set(found)) > 6
    assert found[0] != damaged(kind, 0, 6)


CHILDREN = {
    'hangs': ('print(\'{"begins": "a"}\', flush=True); import time; time.sleep(60)',
              'a: it did not end within'),
    'dies': ('print(\'{"begins": "a"}\', flush=True); import os; os.kill(os.getpid(), 9)',
             'a: the process ended with -9'),
    'does not begin': ('raise SystemExit("no")', 'no trial was under way'),
    'forgets threads': ('print(\'{"memory": 5, "more": [1, 0], "threads": []}\')',
                        '1 threads are left over'),
    'takes memory': ('print(\'{"memory": 2e9, "more": [0, 0], "threads": []}\')',
                     '2000 MB of memory'),
}


@pytest.mark.parametrize('way', CHILDREN)
def test_what_is_lost_is_noticed(way, tmp_path):
    code, lost = CHILDREN[way]
    count = Count('some')
    watch(count, 'Files', ['a'], tmp_path, seconds=-1.5, prefix=[sys.executable, '-c', code])
    assert len(count.lost) == 1
    assert count.lost[0].startswith(lost)


def test_the_next_ones_are_tried_all_the_same(tmp_path):
    code = ('import json, os, sys; a = json.loads(sys.stdin.readline())["names"]\n'
            'for n in a:\n    print(json.dumps({"begins": n}), flush=True)\n'
            '    n == "b" and os._exit(3)\n'
            '    print(json.dumps({"ends": n, "lost": "", "seconds": 1}), flush=True)\n'
            'print(json.dumps({"memory": 5, "more": [0, 0], "threads": []}))')
    count = Count('some')
    watch(count, 'Files', ['a', 'b', 'c'], tmp_path, seconds=9.0,
          prefix=[sys.executable, '-c', code])
    assert (count.tried, count.held, count.names) == (3, 2, ['b'])
    assert count.lost == ['b: the process ended with 3 ()']


def test_tables_for_the_documentation(tmp_path):
    counts = [Count('one', 10, [], [], 1.26, 250_000_000), Count('two', 5, ['x: y'], ['x'], 3.0)]
    write(tmp_path / 'a.inc', [*counts, total(counts)], ['--quick', '--write', 'a.inc'], 3.0)
    text = (tmp_path / 'a.inc').read_text(encoding='utf-8')
    assert [row.split() for row in text.split('    * - ')[2:4]] == [
        ['one', '-', '10', '-', '10', '-', '0', '-', '1.3', 's', '-', '250', 'MB'],
        ['two', '-', '5', '-', '4', '-', '1', '-', '3.0', 's', '-', '0', 'MB']]
    assert '``python -m benchmarks.campaign --quick``' in text
    numbers = json.loads((tmp_path / 'a.json').read_text(encoding='utf-8'))
    assert [one['lost'] for one in numbers['counts']] == [[], ['x: y'], ['x: y']]
    assert 'x: y' in line(counts[1])


def test_five_hundred_damaged_files(tmp_path):
    """
    In one process, which lives, takes less than a gigabyte, and gives every row a status.
    """
    kinds = [kind for kind in KINDS if sample(kind)]
    names = [f'{kind}:{part}' for kind in kinds for part in batches(22, 11)]
    count = Count('damaged files')
    watch(count, 'Files', names, tmp_path, seconds=60.0, seed=1, size=size)
    assert count.lost == []
    assert count.tried == 22 * len(kinds) > 400
