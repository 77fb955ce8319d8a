# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tables of other libraries, and Parquet files of others, become tables without losing a digit.
"""

import contextlib
import datetime
import decimal
import json

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclip_search.archives import table_io
from astroclip_search.archives.arrow import understood
from astroclip_search.archives.open import as_table
from astroclip_search.exceptions import TableFormatWarning

pandas = pytest.importorskip('pandas', reason='reads data frames')
pyarrow = pytest.importorskip('pyarrow', reason='reads Parquet')
parquet = pytest.importorskip('pyarrow.parquet', reason='reads Parquet')

BIG = 2**63 - 25
"""
An identifier that no float holds.
"""


def frame():
    """What users have in pandas: each column has something missing."""
    table = pandas.DataFrame({
        'url': ['a.jpg', None, 'c.jpg'], 'kind': pandas.Categorical(['x', None, 'y']),
        'class': pandas.Categorical.from_codes([0, -1, 1], [BIG, 3]),
        'id': pandas.array([BIG, None, 3], dtype='Int64'),
        'flag': pandas.array([True, None, False], dtype='boolean'),
        'flux': [1.5, np.nan, 2.5], 'object': np.array([BIG, None, 1], dtype=object),
        'text': pandas.array(['a', None, 'b'], dtype='string'),
        'when': pandas.to_datetime(['2020-01-01', None, '2021-02-03T04:05:06.123456789'],
                                   format='ISO8601'),
        'zone': pandas.to_datetime(['2020-01-01T12:00', None, '2021-02-03'], format='ISO8601'
                                   ).tz_localize('Europe/Berlin'),
        'struct': [{'a': 1}, None, {'a': 2}], 'list': [[1, 2], None, [3]]})
    table['arrow'] = table['id'].astype(pandas.ArrowDtype(pyarrow.int64()))
    table['words'] = table['url'].astype(pandas.ArrowDtype(pyarrow.string()))
    return table


EXPECTED = {'url': ['a.jpg', None, 'c.jpg'], 'kind': ['x', None, 'y'], 'class': [BIG, None, 3],
            'id': [BIG, None, 3], 'flag': [True, None, False], 'object': [BIG, None, 1],
            'text': ['a', None, 'b'], 'arrow': [BIG, None, 3], 'words': ['a.jpg', None, 'c.jpg']}


@pytest.mark.parametrize('way', ['frame', 'arrow', 'parquet'])
def test_a_frame_of_pandas(tmp_path, way):
    given_ = frame()
    if way == 'frame':
        table = as_table(given_)
    elif way == 'arrow':
        table = as_table(pyarrow.Table.from_pandas(given_))
    else:
        given_.to_parquet(tmp_path / 'a.parquet')
        table = table_io.read(tmp_path / 'a.parquet')
    assert table.colnames == list(given_.columns)
    for name, values in EXPECTED.items():
        assert table[name].tolist() == values, name
    assert table['id'].dtype == np.int64
    assert table['url'].dtype.kind == 'U'
    assert np.isnan(np.ma.filled(table['flux'], np.nan)).tolist() == [False, True, False]
    assert [str(value)[:19] for value in table['when']] == [
        '2020-01-01T00:00:00', '--', '2021-02-03T04:05:06']
    assert str(table['when'][2]).endswith('.123456789')
    assert str(table['zone'][0]).startswith('2020-01-01T11:00:00')
    assert [value if value is np.ma.masked else list(value) for value in table['list']] == [
        [1, 2], np.ma.masked, [3]]
    assert table['struct'][0] == {'a': 1}
    assert table['struct'][1] is np.ma.masked


def test_indices_and_names_of_pandas():
    named = pandas.DataFrame({'url': ['a', 'b']}, index=pandas.Index([BIG, 2], name='_healpix_29'))
    assert as_table(named)['_healpix_29'].tolist() == [BIG, 2]
    plain = pandas.DataFrame({'url': ['a', 'b']})
    assert as_table(plain[1:]).colnames == ['url']
    twice = pandas.DataFrame([[1, 2, 3]], columns=['a', 'a', 7])
    assert as_table(twice).colnames == ['a', 'a_2', '7']
    names = pandas.MultiIndex.from_tuples([('a', 'b'), ('c', '')])
    levels = pandas.DataFrame([[1, 2]], columns=names)
    assert as_table(levels).colnames == ['a b', 'c']
    plain.attrs['source'] = 'here'
    assert as_table(plain).meta == {'source': 'here'}
    assert len(as_table(plain[:0])) == 0


@pytest.mark.filterwarnings('ignore:OverflowError')  # of astropy, which keeps the digits as text
def test_a_partition_of_hats(tmp_path):
    """Positions in the sky as numbers of 64 bits without a sign, and nested light curves."""
    light_curve = pyarrow.list_(pyarrow.struct([('mjd', pyarrow.float64()),
                                                ('band', pyarrow.string())]))
    table = pyarrow.table({
        '_healpix_29': pyarrow.array([2**64 - 2, 5], pyarrow.uint64()),
        'objectId': pyarrow.array([BIG, None], pyarrow.int64()),
        'cutout_url': ['https://a.example/b.jpg', None],
        'lc': pyarrow.array([[{'mjd': 6e4, 'band': 'g'}], None], light_curve),
        'mags': pyarrow.array([[1.0, 2.0], None], pyarrow.list_(pyarrow.float32())),
        'Norder': pyarrow.array([3, 3]).dictionary_encode()})
    folder = tmp_path / 'Norder=3' / 'Dir=0'
    folder.mkdir(parents=True)
    parquet.write_table(table, folder / 'Npix=7.parquet', row_group_size=1)
    found = table_io.read(folder / 'Npix=7.parquet')
    assert found.colnames == table.column_names
    assert found['_healpix_29'].tolist() == [2**64 - 2, 5]
    assert found['objectId'].tolist() == [BIG, None]
    assert found['lc'][0] == [{'mjd': 6e4, 'band': 'g'}]
    assert found['mags'][0].tolist() == [1.0, 2.0]
    assert found['Norder'].tolist() == [3, 3]
    for form in table_io.FORMATS:  # and every format takes it
        path = tmp_path / f'a{table_io.FORMATS[form][0]}'
        with (contextlib.nullcontext() if form in ('ecsv', 'parquet') else
              pytest.warns(TableFormatWarning, match='as JSON text')):
            table_io.write(found, path)
        again = table_io.read(path)
        assert again.colnames == found.colnames
        assert [int(value) for value in again['_healpix_29']] == [2**64 - 2, 5]


def test_types_of_arrow():
    day = datetime.date(2020, 1, 2)
    table = as_table(pyarrow.table({
        'half': pyarrow.array(np.array([1, 2], 'f2')), 'single': pyarrow.array([1.5, None],
                                                                               pyarrow.float32()),
        'long': pyarrow.array([decimal.Decimal('123456789012345678.25'), None],
                              pyarrow.decimal128(25, 2)),
        'short': pyarrow.array([decimal.Decimal('1.25'), None], pyarrow.decimal128(5, 2)),
        'whole': pyarrow.array([decimal.Decimal(BIG // 100), None], pyarrow.decimal128(18, 0)),
        'day': pyarrow.array([day, None]), 'old': pyarrow.array([datetime.datetime(1, 1, 1), None],
                                                               pyarrow.timestamp('us')),
        'nothing': pyarrow.nulls(2), 'bytes': pyarrow.array([b'\xff', None]),
        'pairs': pyarrow.array([[1, 2], [3, None]], pyarrow.list_(pyarrow.int16(), 2)),
        'map': pyarrow.array([[('a', 1)], None], pyarrow.map_(pyarrow.string(), pyarrow.int32())),
        'view': pyarrow.array(['q', None], pyarrow.string_view()),
        'took': pyarrow.array([1500, None], pyarrow.duration('ms'))}))
    assert table['long'].tolist() == ['123456789012345678.25', None]
    assert table['short'].tolist() == [1.25, None]
    assert table['whole'].tolist() == [BIG // 100, None]
    assert table['day'].tolist() == ['2020-01-02', None]
    assert table['old'][0].startswith('0001-01-01')
    assert table['nothing'].mask.all()
    assert table['bytes'].tolist() == [b'\xff', None]
    assert table['pairs'].tolist() == [[1, 2], [3, None]]
    assert table['view'].tolist() == ['q', None]
    assert table['took'].tolist() == [1.5, None]
    assert table['took'].unit == 's'
    assert (table['half'].dtype, table['single'].dtype) == (np.float16, np.float32)


@pytest.mark.parametrize('text', [
    '- 1', 'a: [', '!!python/object:x.y {}', 'meta: 5\ndatatype: 3', 'datatype: [5, {unit: m}]',
    'datatype: [{name: [1]}, {name: a, unit: [1], meta: 5, format: {}}]', '\0',
    'meta: {__serialized_columns__: 7}', 'meta: {__serialized_columns__: {a: 7}}',
    'meta: {__serialized_columns__: {b: {__class__: x.MaskedColumn, data: {name: [1]}}}}',
    'meta: {__serialized_columns__: {b: {__class__: x.Quantity, value: {name: a}}}}'])
def test_a_header_that_makes_no_sense(tmp_path, text):
    table = pyarrow.table({'a': [1, 2], 'b': ['x', 'y']}).replace_schema_metadata(
        {'table_meta_yaml': text})
    found = understood(table)
    assert found['a'].tolist() == [1, 2]
    assert found['b'].tolist() == ['x', 'y']
    assert found.meta == {}
    parquet.write_table(table, tmp_path / 'a.parquet')
    assert table_io.read(tmp_path / 'a.parquet')['a'].tolist() == [1, 2]


def test_dates_that_python_has_not(tmp_path):
    days = pyarrow.array([0, None, 10**7, -(10**6)], pyarrow.date32())
    seconds = pyarrow.array([0, None, 10**15, 1], pyarrow.int64()).cast(pyarrow.timestamp('ms'))
    offsets = pyarrow.array([0, 1, 2, 3, 4], pyarrow.int32())
    table = pyarrow.table({
        'days': days, 'ms': pyarrow.array([0, None, 10**7 * 86_400_000, -1], pyarrow.date64()),
        'list': pyarrow.ListArray.from_arrays(offsets, days),
        'struct': pyarrow.StructArray.from_arrays([seconds], ['t'])})
    parquet.write_table(table, tmp_path / 'a.parquet')
    for found in (understood(table), table_io.read(tmp_path / 'a.parquet')):
        assert found['days'].tolist() == ['1970-01-01', None, '29349-01-26', '-768-02-04']
        assert found['ms'].tolist()[:3] == ['1970-01-01', None, '29349-01-26']
        assert found['list'].tolist() == [[datetime.date(1970, 1, 1)], [None], None, None]
        assert found['struct'][3] == {'t': datetime.datetime(1970, 1, 1, 0, 0, 0, 1000)}
        assert found['struct'].mask.tolist() == [False, False, True, False]


@pytest.mark.parametrize('kind', ['string', 'large_string'])
def test_text_that_is_not_utf8(tmp_path, kind):
    content = pyarrow.array([b'a', b'\xff', None], {'string': pyarrow.binary(),
                                                   'large_string': pyarrow.large_binary()}[kind])
    text = pyarrow.Array.from_buffers(getattr(pyarrow, kind)(), 3, content.buffers())
    table = pyarrow.table({'a': text})
    parquet.write_table(table, tmp_path / 'a.parquet')
    for found in (understood(table), table_io.read(tmp_path / 'a.parquet')):
        assert found['a'].tolist() == ['a', '\N{REPLACEMENT CHARACTER}', None]


def test_what_is_no_table():
    for other in (pandas.Series([1]), pyarrow.array([1]), np.ones(3), 'a.parquet', [1], None):
        assert understood(other) is None
    batch = pyarrow.record_batch({'a': [1]})
    assert as_table(batch)['a'].tolist() == [1]
    assert as_table(pyarrow.table({'a': [1]}).to_reader())['a'].tolist() == [1]


def test_others_read_what_is_masked_here(tmp_path):
    """Nulls, so that no zero and no word None stands for a value."""
    path = tmp_path / 'a.parquet'
    table = Table({'name': MaskedColumn(['M 8', '', 'x'], mask=[False, False, True]),
                   'rate': MaskedColumn(np.array([0.1, 0, 0], 'f4'), mask=[False, True, True]),
                   'n': MaskedColumn([1, 0, 3], mask=[False, True, False]), 'x': [1, 2, 3] * u.s},
                  meta={'clip': {'query': ['\u03b1']}})
    table_io.write(table, path)
    found = pandas.read_parquet(path)
    assert found['rate'].isna().tolist() == [False, True, True]
    assert found['n'].isna().tolist() == [False, True, False]
    assert found['name'].isna().tolist() == [False, False, True]
    theirs = Table.read(path)
    assert theirs['name'].tolist() == ['M 8', '', None]
    assert theirs['x'].unit == 's'
    assert theirs.meta == table.meta
    ours = table_io.read(path)
    assert ours['name'].tolist() == ['M 8', '', None]
    assert ours['n'].tolist() == [1, None, 3]
    assert ours['n'].dtype == np.int64
    assert ours.colnames == table.colnames
    assert ours.meta == table.meta


def test_mixins_and_arrays(tmp_path):
    table = QTable({'when': Time(['2020-01-01', '2021-01-01']), 'q': [1, 2] * u.s,
                    'where': SkyCoord([1, 2], [3, 4], unit='deg'), 'two': np.ones((2, 3)),
                    'three': np.arange(8.0).reshape(2, 2, 2)})
    with pytest.warns(match='three is written as JSON text'):
        table_io.write(table, tmp_path / 'a.parquet')
    found = table_io.read(tmp_path / 'a.parquet')
    assert found['when'].tolist() == ['2020-01-01T00:00:00', '2021-01-01T00:00:00']
    assert found['where.ra'].tolist() == [1, 2]
    assert found['where.dec'].unit == u.deg
    assert found['q'].unit == u.s
    assert found['two'].shape == (2, 3)
    assert json.loads(found['three'][1]) == [[4, 5], [6, 7]]


def test_parquet_of_astropy(tmp_path):
    """Its masks are columns of their own, and its quantities have their unit elsewhere."""
    table = QTable({'q': [1, 2] * u.s, 'm': MaskedColumn([1, 2], mask=[True, False]),
                    's': MaskedColumn(['a', 'b'], mask=[False, True]), 'n': [BIG, 1],
                    'when': Time(['2020-01-01', '2021-01-01'])}, meta={'clip': {'query': ['x']}})
    table.write(tmp_path / 'a.parquet')
    found = table_io.read(tmp_path / 'a.parquet')
    assert found['q'].unit == u.s
    assert found['q'].tolist() == [1, 2]
    assert found['m'].tolist() == [None, 2]
    assert found['s'].tolist() == ['a', None]
    assert found['n'].tolist() == [BIG, 1]
    assert found.meta == {'clip': {'query': ['x']}}
    assert not any(name.endswith('.mask') for name in found.colnames)


kinds = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-2**63, 2**63 - 1)), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.text(st.characters(codec='utf-8', exclude_characters='\0'))),
             min_size=3, max_size=3))


@settings(max_examples=60)
@given(values=kinds)
def test_values_are_kept(values):
    for given_ in (pandas.DataFrame({'a': pandas.Series(values, dtype=object)}),
                   pyarrow.table({'a': values})):
        found = as_table(given_)['a']
        if any(value is not None for value in values):
            assert found.tolist() == values
        else:
            assert found.mask.all()
