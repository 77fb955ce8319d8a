# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The table for people: the columns that say something, in the room that there is.
"""

import unicodedata

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search.cli.columns import CLASSIFIED, DESCRIBED, RANKED, lines


def ranked(n=3, **columns):
    """A ranked table with further columns."""
    return Table({
        'clip_rank': MaskedColumn(np.arange(1, n + 1)),
        'clip_score': MaskedColumn(np.linspace(3, 1, n).astype('f4'), format='.4f'),
        'clip_false_alarm': MaskedColumn(np.full(n, 0.00053, 'f4'), mask=np.arange(n) == n - 1),
        'clip_status': ['OK'] * n, **columns, 'clip_source': [f'/data/{i}.png' for i in range(n)],
        'clip_message': [''] * n})


def width(line):
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in 'WF')
               for c in line)


def test_what_tells_rows_apart_is_shown():
    table = ranked(target_name=['M 1', 'M 2', 'M 3'], obs_collection=['HST'] * 3,
                   instrument_name=['ACS', '', 'ACS'], obs_title=['a', 'b', 'b'],
                   obs_id=['x', 'y', 'z'])
    assert [line.split() for line in lines(table, RANKED)] == [
        ['rank', 'score', 'false_alarm', 'target', 'title'],
        ['1', '3.00', '0.00053', 'M', '1', 'a'], ['2', '2.00', '0.00053', 'M', '2', 'b'],
        ['3', '1.00', '--', 'M', '3', 'b']]
    table['clip_status'][2] = 'NO'
    assert lines(table, RANKED)[0].split() == ['rank', 'score', 'false_alarm', 'status', 'target',
                                               'title']
    # Of a single row all are the same.
    assert lines(table[:1], RANKED)[0].split() == [
        'rank', 'score', 'false_alarm', 'target', 'collection', 'instrument', 'title']


def test_a_row_without_a_name_is_its_image():
    assert [line.split()[-1] for line in lines(ranked(), RANKED)] == [
        'image', '/data/0.png', '/data/1.png', '/data/2.png']


def test_marks_are_words():
    table = ranked(filename=['a', 'b', 'c'])
    table['clip_label'] = MaskedColumn([1, 0, 0], mask=[False, False, True])
    assert [line.split()[3:] for line in lines(table, RANKED)] == [
        ['mark', 'file'], ['liked', 'a'], ['disliked', 'b'], ['c']]


def test_paths_are_cut_on_the_left_and_titles_on_the_right():
    table = ranked(filename=[f'/data/{"deep/" * 20}{i}.fits' for i in range(3)],
                   obs_title=[f'{i} long title{" and more" * 20}' for i in range(3)])
    for folder, file in (('', '…'), (f'/data/{"deep/" * 20}', '0.fits')):
        shown = lines(table, RANKED, width=80, folder=folder)
        assert max(map(width, shown)) <= 80
        assert '0.fits' in shown[1]
        assert '0 long title' in shown[1]
        assert shown[1].endswith('…')
        assert shown[1].split()[3].startswith(file)
    # Nothing is cut where there is no terminal.
    assert str(table['obs_title'][2]) in lines(table, RANKED)[3]


def test_files_outside_of_the_folder_keep_their_path():
    table = ranked(filename=['/data/a.fits', '/other/b.fits', 'c.fits'])
    assert [line.split()[-1] for line in lines(table, RANKED, folder='/data')] == [
        'file', 'a.fits', '/other/b.fits', 'c.fits']


def test_a_narrow_terminal_loses_the_last_columns():
    table = ranked(target_name=['Messier 1', 'Messier 2', 'Messier 3'],
                   obs_title=['The Crab', 'A cluster', 'Another cluster'])
    assert 'title' in lines(table, RANKED, width=60)[0]
    assert 'title' not in lines(table, RANKED, width=36)[0]
    assert lines(table, RANKED, width=36)[1].split()[:2] == ['1', '3.00']


def test_cells_are_one_line_and_command_no_terminal():
    table = ranked(target_name=['a\nb', '\x1b[31mred', '\u202e'])
    shown = lines(table, RANKED, width=80)
    assert len(shown) == 4
    assert all(line.isprintable() for line in shown)
    assert 'a b' in shown[1]


@pytest.mark.parametrize('columns', [
    {'target': SkyCoord([1, 2, 3], [1, 2, 3], unit='deg')}, {'obs_id': np.zeros((3, 2))},
    {'obsid': [1, 2, 3]}, {'name': np.array([b'a', b'b', b'c'])},
    {'title': np.array(['a', None, 'b'], object)}, {'object': [True, False, True]}])
def test_columns_of_any_kind(columns):
    table = ranked(**columns)
    assert len(lines(table, RANKED, width=80)) == 4
    assert len(lines(table, CLASSIFIED, width=80)) == 4
    assert lines(table[:0], DESCRIBED, width=80) == []


TEXTS = st.text(st.characters(codec='utf-8'), max_size=60)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=5), st.integers(30, 120))
def test_no_line_is_wider_than_the_terminal(rows, room):
    names, titles, files = zip(*rows, strict=True)
    table = ranked(len(rows), target_name=list(names), obs_title=list(titles),
                   filename=list(files))
    shown = lines(table, RANKED, width=room)
    assert len(shown) == len(rows) + 1
    assert max(map(width, shown)) <= room
    assert all(line.isprintable() for line in shown)
