# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A table takes no more memory than its file deserves; what would is refused before it is read.

All inputs here are harmless: the limit is low.
"""

import bz2
import gzip
import io
import lzma
import zipfile

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astroquery.exceptions import InvalidQueryError

from astroclip_search import conf
from astroclip_search.archives import table_io, table_sizes
from astroclip_search.archives.table_sizes import Room
from astroclip_search.untrusted import documents

LOW = 50_000

COMMA_ECSV = ("# %ECSV 1.0\n# ---\n# delimiter: ','\n# datatype:\n# - {name: a, datatype: string}\n"
              '# - {name: b, datatype: string}\n# schema: astropy-2.0\na,b\n')


@pytest.fixture
def low():
    with conf.set_temp('max_table_bytes', LOW):
        yield


def refused(path, said='raise conf.max_table_bytes'):
    with conf.set_temp('max_table_bytes', LOW), pytest.raises(InvalidQueryError, match=said):
        table_io.read(path)


def test_the_room_of_a_table():
    assert Room(0).n_bytes == conf.max_table_bytes
    assert Room(2**30).n_bytes == 64 * 2**30, 'large files take what they take'
    for needed in (np.nan, np.inf, 1e12):
        with pytest.raises(ValueError, match=r'conf\.max_table_bytes'):
            Room(0).check(needed)


# ---- compressed ----------------------------------------------------------------------------


@pytest.mark.parametrize('pack', [gzip.compress, bz2.compress, lzma.compress],
                         ids=['gzip', 'bzip2', 'xz'])
@pytest.mark.parametrize('name', ['a.csv', 'a.ecsv', 'a.vot', 'a.fits'])
def test_compressed_tables(tmp_path, pack, name):
    table = Table({'n': np.arange(1000), 'jpegURL': ['https://a.example/a.jpg'] * 1000})
    table_io.write(table, tmp_path / name)
    packed = pack((tmp_path / name).read_bytes())
    (tmp_path / name).write_bytes(packed)
    found = table_io.read(tmp_path / name)
    assert found['n'].tolist() == list(range(1000))
    assert table_io.read(io.BytesIO(packed))['n'].tolist() == list(range(1000))
    # The same with a file that unpacks to more than it deserves.
    (tmp_path / name).write_bytes(pack(b'a,b\n' + b'0,0\n' * 500_000))
    assert (tmp_path / name).stat().st_size < 2_000_000 / 64
    refused(tmp_path / name)


def test_what_is_not_unpacked(tmp_path):
    path = tmp_path / 'a.csv'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a.csv', 'a\n1\n')
    refused(path, 'unpack it first')
    path.write_bytes(gzip.compress(gzip.compress(b'a\n1\n')))
    refused(path, 'compressed twice')
    path.write_bytes(gzip.compress(b'a\n1\n')[:-6])
    refused(path, 'cannot be read as a table')


def test_a_pipe_without_an_end(low):
    class Endless:
        def read(self, n):
            return b'a' * n

    with pytest.raises(InvalidQueryError, match='standard input is too long'):
        table_io.read(Endless())


# ---- text ----------------------------------------------------------------------------------


@pytest.mark.parametrize('cell', ['x' * 30_000, '"' + 'a\n' * 15_000 + '"',
                                  '"' + 'a ""b"", ' * 16_000 + '"'],
                         ids=['one', 'lines', 'very long'])
@pytest.mark.parametrize('form', ['csv', 'ecsv'])
def test_one_long_cell_among_many_short_ones(tmp_path, low, cell, form):
    path = tmp_path / f'a.{form}'
    header = COMMA_ECSV if form == 'ecsv' else 'a,b\n'
    path.write_text(header + 'x,y\n' * 1000 + f'{cell},z\n' + ',3\n')
    found = table_io.read(path)
    assert found['a'].dtype == object, 'an array of strings would take a hundred times the file'
    words = cell.strip('"').replace('""', '"').strip()
    # astropy takes the spaces off each line.
    assert found['a'][1000].replace('\n', '') == words.replace('\n', '')
    assert found['a'][:3].tolist() == ['x'] * 3
    assert found['a'].mask.sum() == 1
    assert found['a'].mask[1001]
    assert found['b'].dtype == 'U1'


def test_rows_that_are_shorter_than_the_names(tmp_path, monkeypatch):
    path = tmp_path / 'a.csv'
    path.write_text(','.join(f'c{i}' for i in range(5000)) + '\n' + '1\n' * 5000)
    refused(path)


@pytest.mark.parametrize('where', ['comments', 'x'])
def test_what_is_said_of_a_table_is_no_row(tmp_path, low, where):
    table = Table({'a': [f'{i} "' for i in range(2000)]}, meta={where: ['word ' * 40_000]})
    table['a'].description = 'y' * 20_000
    table.write(tmp_path / 'a.ecsv', format='ascii.ecsv')
    found = table_io.read(tmp_path / 'a.ecsv')
    assert found['a'].dtype == 'U6'
    assert found.meta[where] == ['word ' * 40_000]


def test_long_cells_that_are_as_long_as_all(tmp_path, low):
    path = tmp_path / 'a.csv'
    path.write_text('a,b\n' + f'{"x" * 3000},1\n' * 100)
    assert len(table_io.read(path)) == 100


def test_a_cell_without_an_end(tmp_path, low):
    path = tmp_path / 'a.csv'
    path.write_text('a,b\n' + 'x,y\n' * 1000 + '"' + 'x,y\n' * 50_000)
    found = table_io.read(path)
    assert len(found) == 1001
    assert found['a'].dtype == object


@pytest.mark.parametrize('form', ['csv', 'ecsv'])
def test_too_many_columns(tmp_path, monkeypatch, form):
    path = tmp_path / f'a.{form}'
    Table({f'c{i}': [1] for i in range(30)}).write(path, format=f'ascii.{form}')
    assert len(table_io.read(path).colnames) == 30
    monkeypatch.setattr(table_sizes, '_MAX_COLUMNS', 20)
    refused(path, 'more than 20 columns')


ECSV = '# %ECSV 1.0\n# ---\n# datatype:\n# - {{name: a, datatype: {}}}\n# schema: astropy-2.0\na\n'


@pytest.mark.parametrize('kind', [
    'U90000', '"<U90000"', 'S90000', 'string, subtype: "float64[90000]"',
    'string, subtype: "json[300,300]"', '"\\x5590000"', 'string, subtype: "float64[99,99,99]"'])
def test_types_that_are_too_wide(tmp_path, kind):
    path = tmp_path / 'a.ecsv'
    path.write_text(ECSV.format(kind) + '""\n' * 10)
    refused(path, 'is no type of a column|raise conf.max_table_bytes')


@pytest.mark.parametrize('kind', ['"(300,300)f8"', '"i8,i8"', '"(300,)f8"'])
def test_types_that_are_none(tmp_path, kind):
    path = tmp_path / 'a.ecsv'
    path.write_text(ECSV.format(kind) + '1\n')
    refused(path, 'cannot be read as a table')


def test_types_of_all_kinds_are_read(tmp_path, low):
    table = Table({'a': [1], 's': ['x' * 200], 'v': [[1.0, 2.0]], 'm': [[[1, 2], [3, 4]]]})
    table['o'] = np.array([{'a': [1]}], dtype=object)
    table['l'] = np.array([None], dtype=object)
    table['l'][0] = np.array([1, 2, 3])
    table.meta['comments'] = ['S123456 and (12)f8', 'subtype: string[4]']
    table.write(tmp_path / 'a.ecsv', format='ascii.ecsv')
    found = table_io.read(tmp_path / 'a.ecsv')
    assert found['m'].tolist() == [[[1, 2], [3, 4]]]
    assert found['l'][0].tolist() == [1, 2, 3]


# ---- YAML and JSON -------------------------------------------------------------------------


def with_header(text):
    return ECSV.format('int64').replace('# schema', f'{text}# schema') + '1\n'


ALIASES = '# meta:\n#   a: &a [1, 1, 1, 1]\n#   b: &b [*a, *a, *a]\n#   c: [*b, *b]\n'


def test_aliases_are_counted_before_they_are_followed(tmp_path, monkeypatch):
    path = tmp_path / 'a.ecsv'
    path.write_text(with_header(ALIASES))
    assert table_io.read(path).meta['c'] == [[[1] * 4] * 3] * 2
    monkeypatch.setattr(documents, 'MAX_VALUES', 50)
    refused(path, 'aliases of its header stand for more than 50')
    path.write_text(with_header('# meta:\n#   a: &a [1, *a]\n'))
    refused(path, 'aliases of its header')


def test_merged_keys_count_as_well(monkeypatch):
    monkeypatch.setattr(documents, 'MAX_VALUES', 40)
    text = 'a: &a {x: 1, y: 2}\nb: &b {<<: [*a, *a, *a]}\nc: {<<: [*b, *b, *b]}\n'
    with pytest.raises(ValueError, match='aliases'):
        documents.check_yaml(text)


def test_headers_that_are_nested_too_deeply(tmp_path, monkeypatch):
    path = tmp_path / 'a.ecsv'
    monkeypatch.setattr(documents, 'MAX_DEPTH', 10)
    path.write_text(with_header(f'# meta: {{a: {"[" * 12}{"]" * 12}}}\n'))
    refused(path, 'nested deeper than 10')
    path.write_text(with_header('# meta:\n#   a:\n' + ''.join(
        f'#   {" " * i}- \n' for i in range(12)) + f'#   {" " * 12} x\n'))
    refused(path, 'cannot be read')


def test_an_honest_header_with_all_of_that(tmp_path, low):
    table = Table({'a': [1]})
    names = ['https://a.example/?a&b', 'B-&V', '[[', 'x: *y', '& more']
    table.meta.update(names=names, again=names, nested={'a': {'b': [{'c': names}]}})
    table.write(tmp_path / 'a.ecsv', format='ascii.ecsv')
    assert '*id001' in (tmp_path / 'a.ecsv').read_text(), 'astropy writes aliases'
    assert table_io.read(tmp_path / 'a.ecsv').meta['again'] == names


@pytest.mark.parametrize('kind', ['ecsv', 'fits', 'comment', 'parquet'])
def test_units_with_powers_that_no_unit_has(tmp_path, kind):
    path = tmp_path / f'a.{"fits" if kind == "comment" else kind}'
    unit = '10(+1234) m'  # which is harmless
    if kind == 'ecsv':
        path.write_text(ECSV.format(f'int64, unit: "{unit}"') + '1\n')
    elif kind == 'parquet':
        pyarrow = pytest.importorskip('pyarrow')
        from pyarrow import parquet

        table = pyarrow.table({'a': [1]}).replace_schema_metadata(
            {'table_meta_yaml': f'datatype: [{{name: a, unit: "{unit}"}}]'})
        parquet.write_table(table, path)
    else:
        hdu = fits.BinTableHDU.from_columns([fits.Column('a', 'J', array=[1])])
        if kind == 'fits':
            hdu.header['TUNIT1'] = unit
        else:
            for line in ('--BEGIN-ASTROPY-SERIALIZED-COLUMNS--', 'meta: {unit: "10(+1\\', '234)"}',
                         '--END-ASTROPY-SERIALIZED-COLUMNS--'):
                hdu.header['COMMENT'] = line
        hdu.writeto(path)
    refused(path, 'its power is too large')


@pytest.mark.parametrize('form', ['fits', 'vot'])
def test_what_is_said_of_a_ranking_is_bounded(tmp_path, form):
    deep = inner = {}
    for _ in range(100):
        inner['a'] = inner = {}
    table = Table({'a': [1]}, meta={'clip': {'query': ['x'], 'deep': deep}})
    table_io.write(table, tmp_path / f'a.{form}')
    assert 'clip' not in table_io.read(tmp_path / f'a.{form}').meta


def test_values():
    documents.check_values({'a': [1, (2, {'b': 'x' * 10**6})], 'c': np.zeros((3, 3))})
    values = [0] * 1000
    with pytest.raises(ValueError, match='unfolds to more than'):
        documents.check_values([values] * 1000)
    values = []
    values.append(values)
    with pytest.raises(ValueError, match='nested deeper'):
        documents.check_values(values)


# ---- FITS ----------------------------------------------------------------------------------


def test_rows_that_are_announced_and_not_there(tmp_path):
    path = tmp_path / 'a.fits'
    Table({'a': np.arange(1000), 'b': ['x'] * 1000}).write(path)
    content = path.read_bytes()
    card = b'NAXIS2  =                 1000'
    assert content.count(card) == 1
    path.write_bytes(content.replace(card, b'NAXIS2  =           1000000000'))
    refused(path, 'the file has .* bytes of them')
    path.write_bytes(content.replace(card, b'NAXIS2  =                -1000'))
    refused(path, 'cannot be read as a table')


@pytest.mark.parametrize(('suffix', 'pack'), [('', bytes), ('.gz', gzip.compress)])
def test_sizes_are_looked_at_before_the_headers_are(tmp_path, suffix, pack, monkeypatch):
    Table({'a': np.arange(100)}).write(tmp_path / 'a.fits')
    content = (tmp_path / 'a.fits').read_bytes()
    path = tmp_path / f'b.fits{suffix}'
    path.write_bytes(pack(content.replace(b'NAXIS   =                    0',
                                          b'NAXIS   =                 1000', 1)))
    monkeypatch.setattr(fits, 'open', None)
    assert not table_io.holds_table(path)
    refused(path, 'NAXIS is 1000')


def test_rows_without_a_width(tmp_path):
    path = tmp_path / 'a.fits'
    fits.BinTableHDU.from_columns([fits.Column('b', 'B', array=[0] * 3)]).writeto(path)
    content = path.read_bytes()
    for before, after in ((b'NAXIS1  =                    1', b'NAXIS1  =                    0'),
                          (b'NAXIS2  =                    3', b'NAXIS2  =             30000000'),
                          (b"TFORM1  = 'B       '", b"TFORM1  = '0B      '")):
        assert content.count(before) == 1
        content = content.replace(before, after)
    path.write_bytes(content)
    refused(path)


def test_arrays_that_share_the_heap(tmp_path, low):
    path = tmp_path / 'a.fits'
    rows = np.empty(500, dtype=object)
    rows[:] = [np.arange(1, dtype=np.float64)] * 499 + [np.arange(2000, dtype=np.float64)]
    fits.BinTableHDU.from_columns([
        fits.Column('n', 'J', array=np.arange(500)),
        fits.Column('a', 'PD()', array=rows)]).writeto(path)
    assert len(table_io.read(path)['a'][499]) == 2000
    content = bytearray(path.read_bytes())
    with fits.open(path) as hdus:
        start = hdus[1].fileinfo()['datLoc']
    pairs = np.frombuffer(content, np.uint8)[start:start + 500 * 12].reshape(500, 12)
    shared = pairs[-1, 4:].copy()
    content[start:start + 500 * 12] = np.hstack(
        [pairs[:, :4], np.tile(shared, (500, 1))]).tobytes()
    path.write_bytes(content)
    refused(path)


# ---- Parquet -------------------------------------------------------------------------------


def test_parquet_of_few_bytes(tmp_path):
    pyarrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    path = tmp_path / 'a.parquet'
    for values in (np.zeros(500_000, np.int64), pyarrow.array(['x' * 20_000] * 2000),
                   pyarrow.array([[0] * 300_000]), pyarrow.array([b'x' * 9000] * 9000),
                   pyarrow.array([b'x' * 9000] * 900, pyarrow.binary(9000))):
        parquet.write_table(pyarrow.table({'a': values}), path)
        assert path.stat().st_size < 40_000
        refused(path)
        assert len(table_io.read(path)) == len(values), 'the setting is far higher'


def test_parquet_keeps_its_values_and_words(tmp_path, low):
    pytest.importorskip('pyarrow')
    table = Table({'a': ['x', 'yy'] * 5000, 'n': np.arange(10_000)}, meta={'clip': {'query': []}})
    table_io.write(table, tmp_path / 'a.parquet')
    found = table_io.read(tmp_path / 'a.parquet')
    assert found['a'].tolist() == table['a'].tolist()
    assert found.meta == {'clip': {'query': []}}
    table_io.write(table[:0], tmp_path / 'b.parquet')
    assert table_io.read(tmp_path / 'b.parquet').colnames == ['a', 'n']


# ---- HDF5 ----------------------------------------------------------------------------------


def test_hdf5(tmp_path, low):
    h5py = pytest.importorskip('h5py')
    path = tmp_path / 'a.hdf5'
    Table({'a': [1, 2]}, meta={'x': 1}).write(path, path='table', serialize_meta=True)
    assert table_io.read(path)['a'].tolist() == [1, 2]
    with h5py.File(path, 'w') as file:
        file.create_dataset('table', (10**6,), [('a', 'f8')], chunks=(1000,))
    refused(path)
    (tmp_path / 'private').write_bytes(b'\0' * 80)
    with h5py.File(path, 'w') as file:
        file.create_dataset('table', (10,), [('a', 'f8')],
                            external=[(tmp_path / 'private', 0, 80)])
    refused(path, 'is in another file')
    with h5py.File(path, 'w') as file:
        file['table'] = h5py.ExternalLink('other.hdf5', '/x')
    refused(path, 'leads elsewhere')


@pytest.mark.parametrize(('suffix', 'pack'), [('.gz', gzip.compress), ('.bz2', bz2.compress)])
def test_a_compressed_image_is_not_unpacked_to_look_for_a_table(tmp_path, low, suffix, pack):
    Table({'a': np.arange(100)}).write(tmp_path / 'a.fits')
    content = (tmp_path / 'a.fits').read_bytes()
    path = tmp_path / f'b.fits{suffix}'
    path.write_bytes(pack(content))
    assert table_io.holds_table(path)
    empty = content[:2880].replace(b'NAXIS   =                    0',
                                   b'NAXIS   =                    1')
    empty = empty.replace(b'EXTEND', b'NAXIS1  =              5000000'.ljust(80) + b'EXTEND')[:2880]
    path.write_bytes(pack(empty + bytes(-(-5_000_000 // 2880) * 2880) + content[2880:]))
    assert not table_io.holds_table(path)
