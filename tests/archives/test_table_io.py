# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tables in and out, by suffix and through pipes.
"""

import gzip
import io
import json
import os
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from astroquery.exceptions import InvalidQueryError

from astroclip_search.archives import columns, table_io
from astroclip_search.archives.table_io import FORMATS, as_json, read, write
from astroclip_search.exceptions import TableFormatWarning

CLIP = {'query': ['ring \u03b1'], 'n_rows': 3, 'chance': None, 'status': {'OK': 3},
        'weights': {'image': 0.5}}
HAS_PARQUET = bool(find_spec('pyarrow'))
formats = pytest.mark.parametrize('form', [
    pytest.param(form, marks=pytest.mark.skipif(form == 'parquet' and not HAS_PARQUET,
                                                reason='pyarrow is not installed'))
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
        with pytest.raises(InvalidQueryError, match='already: choose another name, or replace'):
            write(table, path)
        write(table, path, overwrite=True)
        assert list(tmp_path.iterdir()) == [path], 'nothing is left beside it'
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


def test_what_a_format_cannot_hold_leaves_the_old_file(table, tmp_path, monkeypatch):
    path = tmp_path / 'table.csv'
    write(table, path)
    before = path.read_bytes()

    def fail(*args, **options):
        raise TypeError('no words for it')

    monkeypatch.setattr(Table, 'write', fail)
    with pytest.raises(InvalidQueryError, match=r'as csv \(no words for it\); ECSV holds every'):
        write(table, path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(table, tmp_path, monkeypatch):
    path = tmp_path / 'table.ecsv'
    path.write_text('an old file')

    def fail(*args, **options):
        args[1].write('half a')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Table, 'write', fail)
    with pytest.raises(OSError, match='No space left'):
        write(table, path, overwrite=True)
    assert path.read_text() == 'an old file'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != 'posix', reason='permissions and links as POSIX has them')
def test_permissions_and_links_stay(table, tmp_path):
    path, link = tmp_path / 'table.ecsv', tmp_path / 'link.ecsv'
    write(table, path)
    path.chmod(0o640)
    link.symlink_to(path)
    write(table[:1], link, overwrite=True)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert len(read(path)) == 1


def test_where_no_table_can_be_written(table, tmp_path):
    with pytest.raises(InvalidQueryError, match='There is no folder'):
        write(table, tmp_path / 'none' / 'table.ecsv')
    with pytest.raises(InvalidQueryError, match='is a folder: give the name of a file in it'):
        write(table, tmp_path, 'csv')


# ---- whatever is in it ---------------------------------------------------------------------


LINE_ENDS = '\x00\x0b\x0c\r\x1c\x1d\x1e\x85\u2028\u2029'


@formats
@pytest.mark.filterwarnings('ignore:.*Implicitly generating an ID')  # of names with spaces
@pytest.mark.parametrize('character', [*LINE_ENDS, '\udce9'])
def test_text_that_no_file_holds_is_replaced_and_told(tmp_path, form, character):
    path = tmp_path / f'table{FORMATS[form][0]}'
    table = Table({'name': [f'a{character}b', 'c'], f'x{character}': ['d', 'e'], 'last': [1, 2]},
                  meta={'said': f'a{character}b', 'clip': {'like': [f'/a{character}b']}})
    with pytest.warns(TableFormatWarning, match='letters of name, x. were replaced') as caught:
        write(table, path)
    assert [one.category for one in caught].count(TableFormatWarning) == 1
    found = read(path)
    replaced = (('?' if form == 'fits' else '\ufffd') if character == '\udce9' else ' ')
    assert found['name'].tolist() == [f'a{replaced}b', 'c']
    assert found['last'].tolist() == [1, 2]
    assert table['name'][0] == f'a{character}b'


@formats
def test_columns_that_a_format_does_not_have_are_text(tmp_path, form):
    path = tmp_path / f'table{FORMATS[form][0]}'
    objects = np.empty(2, object)
    objects[:] = [{'a': [1, 2.5]}, None]
    table = Table({
        'polygon': [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], 'names': [['a', 'b'], ['c', 'd']],
        'object': objects, 'when': Time(['2020-01-01T00:00:00.123456', '2021-01-01']),
        'moment': np.array(['2020-01-01', 'NaT'], 'M8[ns]'), 'small': np.array([-1, 1], 'i1'),
        'large': np.array([2**63 + 5, 1], 'u8'), 'half': np.array([1.5, 2], 'f2'),
        'long': np.array([1.5, 2], np.longdouble), 'u2': np.array([2**16 - 1, 0], 'u2'),
        'mixed': np.array([1, 'a'], object), 'bytes': [b'\xe9', b'a']})
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', TableFormatWarning)
        write(table, path)
        warnings.filterwarnings('ignore', 'OverflowError')  # of astropy, of large numbers in CSV
        found = read(path)
    assert found.colnames == table.colnames
    assert np.array(found['small']).tolist() == [-1, 1]
    assert [int(value) for value in found['large']] == [2**63 + 5, 1]
    assert found['half'].tolist() == found['long'].tolist() == [1.5, 2]
    assert found['u2'].tolist() == [2**16 - 1, 0]
    assert str(found['when'][0]).endswith('00:00:00.123456') or form in ('ecsv', 'parquet')
    if form == 'csv':
        assert json.loads(found['polygon'][0]) == [1, 2, 3]
        assert json.loads(found['names'][1]) == ['c', 'd']
    else:
        assert found['polygon'].tolist() == [[1, 2, 3], [4, 5, 6]]
    if form not in ('ecsv', 'parquet'):
        assert json.loads(found['object'][0]) == {'a': [1, 2.5]}
    else:
        assert found['object'][0] == {'a': [1, 2.5]}


def test_what_is_written_as_text_is_told_once(tmp_path):
    table = Table({'a': [[1, 2]], 'b': [[3, 4]]})
    with pytest.warns(TableFormatWarning, match='a, b are written as JSON text') as caught:
        write(table, tmp_path / 'a.csv')
    assert len(caught) == 1


@formats
def test_digits_of_scores_are_kept(tmp_path, form):
    """However few of them are printed."""
    score = np.array([0.12345678, 1.2e-6], 'f4')
    column = MaskedColumn(score, format='.4f')
    path = tmp_path / f'table{FORMATS[form][0]}'
    write(Table({'clip_score': column, 'clip_p_ring': column}), path)
    assert np.array_equal(read(path)['clip_score'].astype('f4'), score)
    assert column.format == '.4f'


@pytest.mark.parametrize('form', ['ecsv', 'parquet'])
def test_meta_of_any_kind(tmp_path, form):
    if form == 'parquet':
        pytest.importorskip('pyarrow', reason='writes Parquet')
    path = tmp_path / f'a.{form}'
    write(Table({'a': [1]}, meta={'object': object(), 'good': {'x': (1, 'b')}}), path)
    assert read(path).meta['good'] == {'x': [1, 'b']}
    assert read(path).meta['object'].startswith('<object')


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


@pytest.mark.parametrize('name', ['a.vot', 'a.xml', 'a.dat', 'a', 'a.hdf5', 'a.h5', 'a.csv',
                                  'a.ecsv', 'a.fits', 'a.fits.gz', 'a.parquet', 'pipe'])
@pytest.mark.parametrize('pack', [
    bytes, gzip.compress, lambda body: body.decode().encode('utf-16')], ids=range(3))
def test_a_votable_opens_no_file(tmp_path, name, pack, monkeypatch):
    """Whatever it is called: none of the readers finds out by itself that it is one."""
    mark = tmp_path / 'mark'
    mark.write_bytes(b'must not be read')
    opened = []
    monkeypatch.setattr('urllib.request.urlopen', lambda address, *_, **__: opened.append(address))
    body = pack('<VOTABLE version="1.4"><RESOURCE><TABLE><FIELD name="a" datatype="int"/><DATA>'
                f'<BINARY><STREAM href="{mark.as_uri()}"/></BINARY></DATA></TABLE></RESOURCE>'
                '</VOTABLE>'.encode())
    path = tmp_path / name
    path.write_bytes(body)
    for form in (None, 'votable'):
        try:
            found = read(io.BytesIO(body) if name == 'pipe' else path, form)
        except InvalidQueryError as error:
            said = str(error)
        else:  # as CSV it has one line, the names of columns
            said = 'cannot be read as a table' if form is None and not len(found) else ''
        assert 'cannot be read as a table' in said
    assert opened == []


@pytest.mark.parametrize('form', ['votable', None])
@pytest.mark.parametrize('name', ['a.vot', 'a.xml', 'a.dat', 'pipe'])
def test_a_votable_that_announces_more_than_it_has(tmp_path, table, name, form):
    path = tmp_path / 'b.vot'
    write(table, path)
    body = path.read_bytes()
    assert body.count(b'<TABLE nrows="3"') + body.count(b'<TABLE>') == 1
    body = body.replace(b' nrows="3"', b'').replace(b'<TABLE', b'<TABLE nrows="2000000000"')
    path = tmp_path / name
    path.write_bytes(body)
    assert len(read(io.BytesIO(body) if name == 'pipe' else path, form)) == len(table)


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


@formats
@pytest.mark.filterwarnings('ignore:.*Implicitly generating an ID')
def test_names_of_columns_are_kept(tmp_path, form):
    names = ['source name', 'RA', 'ra', '2mass-id', 'a.b', 'f_\u03b1' if form != 'fits' else 'f']
    write(Table({name: [1] for name in names}), tmp_path / f'a{FORMATS[form][0]}')
    assert read(tmp_path / f'a{FORMATS[form][0]}').colnames == names


@pytest.mark.parametrize('form', ['ecsv', 'fits', 'vot', 'parquet', 'csv'])
def test_text_of_which_a_few_rows_have_much(tmp_path, monkeypatch, form):
    """It is in Python objects, and every format has it as text."""
    if form == 'parquet':
        pytest.importorskip('pyarrow')
    monkeypatch.setattr(columns, '_FEW_BYTES', 0)
    values = ['a', 'b' * 50, '', 'c']
    assert columns.text_array(values).dtype.kind == 'O'
    path = tmp_path / f'long.{form}'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        table_io.write(Table({'name': np.array(values, dtype=object), 'n': [1, 2, 3, 4]}), path)
    found = table_io.read(path)['name']
    assert [value.decode() if isinstance(value, bytes) else str(value)
            for value in np.ma.filled(found, '').tolist()] == values
