# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A large table is read once, for as long as it does not change.
"""

import contextlib
import gc

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from astroclip_search import conf
from astroclip_search.archives import readings, tables
from astroclip_search.archives.tables import references


@pytest.fixture
def reads(monkeypatch):
    """The tables that were read row by row."""
    found = []
    read = tables._read
    monkeypatch.setattr(tables, '_read', lambda table, *rest: (found.append(table),
                                                               read(table, *rest))[1])
    readings.forget()
    return found


def large():
    number = np.arange(1000).astype(str)
    return Table({
        'jpegURL': MaskedColumn(np.char.add('mast:HST/', number), mask=np.arange(1000) % 7 == 0),
        'access_url': np.char.add('https://archive.example/', number),
        'access_format': np.full(1000, b'image/jpeg'), 'access_estsize': np.full(1000, 100.0),
        'obs_title': np.char.add('A title, part ', number), 'publisherID': np.full(1000, ''),
        'flux': np.zeros(1000)})


def assert_read_as_is(table):
    """What is found is what a table that nobody has seen gives."""
    found = references(table)
    readings.forget()
    assert found == references(table.copy())
    return found


def test_large_table_is_read_once(reads):
    table = large()
    for _ in range(3):
        found = references(table)
        assert (found.sources[1], found.words[1]) == ('mast:HST/1', 'A title, part 1')
        assert (found.status[1], found.message[1], found.own, found.objects) == ('', '', {}, {})
        # What a caller does with it is the caller's.
        found.sources[1] = found.words[1] = found.status[1] = found.message[1] = 'x'
        found.own[1] = found.objects['x'] = 'x'
        # Nor does it matter what is in other columns.
        table['flux'] += 1
    assert len(reads) == 1
    assert_read_as_is(table)
    references(large()[:999])
    references(large()[:999])
    assert len(reads) == 4, 'and a small one each time'


@pytest.mark.parametrize('change', [
    lambda table: table['jpegURL'].__setitem__(1, 'mast:HST/1?'),
    lambda table: table['jpegURL'].__setitem__(1, 'mast:HST/\u0131'),  # its last byte is that of 1
    lambda table: table['jpegURL'].mask.__setitem__(999, True),
    lambda table: table['access_format'].__setitem__(7, b'image/fits'),
    lambda table: table['access_estsize'].__setitem__(7, 1e9),
    lambda table: table['obs_title'].__setitem__(999, 'B'),
    lambda table: table['publisherID'].__setitem__(0, 'i'),
    lambda table: table.remove_row(1),
    lambda table: table.reverse(),
    lambda table: table.rename_column('obs_title', 'flux title'),
    lambda table: table.add_column(np.full(len(table), 'M 8'), name='target_name'),
    lambda table: table.add_column(table['jpegURL'].astype(object), name='preview'),
    lambda table: table.replace_column('jpegURL', table['jpegURL'].filled('')),
    lambda table: table['access_url'].meta.update(ucd='meta.ref.url;datalink.preview'),
    lambda table: conf.set_temp('max_bytes', 1000),
    lambda table: conf.set_temp('fsspec_protocols', ['s3']),
])
def test_large_table_that_has_changed_is_read_again(reads, change):
    table = large()
    table['jpegURL'][1] = 'mast:HST/1'
    table['publisherID'] = table['publisherID'].astype('U4')
    references(table)
    with change(table) or contextlib.nullcontext():
        assert_read_as_is(table)
    assert reads[1] is table


@pytest.mark.parametrize('options', [{'image_dir': '.'}, {}])
def test_what_may_change_unseen_is_read_each_time(reads, options):
    table = large()
    if not options:
        table['jpegURL'] = table['jpegURL'].astype(object)
    for _ in range(2):
        references(table, **options)
    assert reads == [table, table]


def test_nothing_is_kept_of_a_large_table_that_is_gone(reads):
    table = large()
    references(table)
    assert readings._last
    del table
    reads.clear()
    gc.collect()
    assert not readings._last
