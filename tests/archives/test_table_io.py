# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tables in and out, by suffix and through pipes.
"""

import io
import json
from importlib.util import find_spec

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from astroquery.exceptions import InvalidQueryError

from astroclip_search.archives import table_io
from astroclip_search.archives.table_io import FORMATS, as_json, read, write
from astroclip_search.exceptions import TableFormatWarning

CLIP = {'query': ['ring \u03b1'], 'n_rows': 3, 'chance': None, 'status': {'OK': 3},
        'weights': {'image': 0.5}}
HAS_PARQUET = bool(find_spec('pyarrow') and find_spec('pandas'))
formats = pytest.mark.parametrize('form', [
    pytest.param(form, marks=pytest.mark.skipif(form == 'parquet' and not HAS_PARQUET,
                                                reason='pyarrow and pandas are not installed'))
    for form in FORMATS])


@pytest.fixture
def table():
    """What archives answer: masks, units, strings that are Python objects."""
    return Table({
        'name': ['M 8', 'M 16', 'M 20'], 'n': MaskedColumn([1, 2, 3], mask=[False, True, False]),
        'clip_score': MaskedColumn([1.5, np.nan, 2], dtype='f4', mask=[False, False, True]),
        'exposure': [1.0, 2.0, 3.0] * u.s, 'title': np.array(['a', None, 'b, "c"'], object),
        'filter': MaskedColumn(['F1', 'F2', 'F3'], mask=[True, False, False]),
    }, meta={'clip': CLIP, 'a long name': 'x'})


@formats
@pytest.mark.parametrize('stream', [False, True])
def test_round_trip(table, tmp_path, form, stream):
    if stream:
        content = io.BytesIO()
        write(table, content, form)
        found = read(io.BytesIO(content.getvalue()))  # the format is seen in the first bytes
    else:
        path = tmp_path / f'table{FORMATS[form][-1]}'
        path.write_text('an old file')
        write(table, path)
        assert table_io.holds_table(path)
        found = read(path)
    assert found.colnames == table.colnames
    assert found['name'].tolist() == ['M 8', 'M 16', 'M 20']
    assert found['n'].tolist() == [1, None, 3]
    assert np.ma.filled(found['clip_score'], np.nan)[0] == 1.5
    assert np.isnan(np.ma.filled(found['clip_score'], np.nan)[1:]).all()
    assert [value or '' for value in found['title'].tolist()] == ['a', '', 'b, "c"']
    assert [value or '' for value in found['filter'].tolist()] == ['', 'F2', 'F3']
    assert found['exposure'].unit == (None if form == 'csv' else u.s)
    assert found.meta.get('clip') == (None if form == 'csv' else CLIP)
    assert table.meta['clip'] == CLIP  # and the table is as it was
    assert table['title'].dtype == object


def test_fits_has_no_other_letters(table, tmp_path):
    table['name'] = ['\u00c9toile \u03b2', 'M 16', 'M 20']
    with pytest.warns(TableFormatWarning, match='letters of name were replaced'):
        write(table, tmp_path / 'table.fits')
    assert read(tmp_path / 'table.fits')['name'][0] == 'Etoile ?'
    assert table['name'][0] == '\u00c9toile \u03b2'


def test_what_a_format_cannot_hold_leaves_the_old_file(table, tmp_path):
    path = tmp_path / 'table.csv'
    write(table, path)
    before = path.read_bytes()
    table['two'] = np.ones((3, 2))
    with pytest.raises(InvalidQueryError, match=r'cannot be written as csv .*ECSV holds every'):
        write(table, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize('content', [
    b'', b'# %ECSV 1.0\nno', b'SIMPLE  = T', b'<?xml version="1"?>',
    b'<VOTABLE><RESOURCE/></VOTABLE>'])
def test_a_damaged_stream_is_one_error(content):
    with pytest.raises(InvalidQueryError, match=r'standard input (cannot be read|is empty)'):
        read(io.BytesIO(content))


@pytest.mark.parametrize('said', ['no json', '[1]', '{"query": NaN'])
def test_what_a_file_says_of_a_ranking_may_be_anything(tmp_path, said):
    Table({'a': [1]}, meta={'CLIP': said}).write(tmp_path / 'table.fits')
    assert 'clip' not in read(tmp_path / 'table.fits').meta


def test_parquet_without_its_libraries(table, tmp_path, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(InvalidQueryError, match=r'pip install "astroclip-search\[parquet\]"'):
        write(table, tmp_path / 'table.parquet')
    with pytest.raises(InvalidQueryError, match='needs pyarrow'):
        read(io.BytesIO(b'PAR1'))


def test_as_json(table):
    table['when'] = Time([60000, 60001, 60002], format='mjd')
    table['two'] = np.array([[1, np.nan]] * 3)
    table['bytes'] = [b'a', b'\xff', b'']
    document = json.loads(json.dumps(as_json(table), allow_nan=False))
    assert document['rows'][1] == {
        'name': 'M 16', 'n': None, 'clip_score': None, 'exposure': 2.0, 'title': None,
        'filter': 'F2', 'when': '60001.0', 'two': [1.0, None], 'bytes': '\ufffd'}
    assert document['units'] == {'exposure': 's'}
    assert document['meta']['clip'] == CLIP
