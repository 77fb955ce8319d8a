# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Folders, files, arrays and whatever else a user has -> a Table and references.
"""

import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D
from astropy.table import QTable, Table
from astropy.wcs import WCS
from astroquery.exceptions import InvalidQueryError
from astroquery.utils.commons import TableList
from PIL import Image

from astroclip_search import ClipSearchClass, conf
from astroclip_search.archives import files
from astroclip_search.archives.files import expand, open_objects
from astroclip_search.archives.open import open_results
from astroclip_search.exceptions import ImageError, LeftOutWarning, UnreadImagesWarning
from astroclip_search.images import objectstore
from astroclip_search.images.render import render
from tests.archives.rows import codes, status
from tests.colours import ColourEncoder, content, picture


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'sub').mkdir()
    for name in ('b.jpg', 'a.PNG', 'sub/c.fits.gz', 'sub/[d].tiff'):
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'folder.jpg').mkdir()
    (tmp_path / 'folder.jpg' / '.hidden.txt').write_bytes(b'')
    return tmp_path


@pytest.fixture
def notes(folder):
    (folder / 'notes.txt').write_bytes(b'text')
    return folder / 'notes.txt'


def test_folder_with_its_subfolders(folder):
    names = [str(path.relative_to(folder)) for path in expand(folder)]
    assert names == ['a.PNG', 'b.jpg', 'sub/[d].tiff', 'sub/c.fits.gz']


@pytest.mark.parametrize(('pattern', 'names'), [
    ('*.jpg', ['b.jpg']), ('**/*.*', ['a.PNG', 'b.jpg', 'sub/[d].tiff', 'sub/c.fits.gz']),
    ('s?b/c*', ['sub/c.fits.gz']), ('sub/[d].tiff', ['sub/[d].tiff']), ('*.GZ', None),
    ('*/*.gz', ['sub/c.fits.gz']), ('folder.jpg/*', None)])
@pytest.mark.parametrize('relative', [True, False])
def test_glob_pattern(pattern, names, relative, folder, monkeypatch):
    monkeypatch.chdir(folder)
    path = Path(pattern) if relative else folder / pattern
    if names is None:
        with pytest.raises(InvalidQueryError, match='There is no image in'):
            expand(path)
    else:
        assert [str(file.relative_to(folder)) for file in expand(path)] == names


def test_named_file_is_taken_whatever_its_suffix(folder, notes):
    assert expand(notes) == [notes]
    assert expand(folder / '*.txt') == [notes]


def fits_content():
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.eye(8)).writeto(buffer)
    return buffer.getvalue()


def test_a_folder_says_what_it_leaves_out(folder, notes):
    for name in ('sub/a.log', 'sub/b.log', 'README'):
        (folder / name).write_bytes(b'text')
    message = r'4 files were left out: 2 \.log, 1 without a suffix, 1 \.txt'
    for path in (folder, folder / '**' / '*'):
        with pytest.warns(LeftOutWarning, match=message) as said:
            assert len(expand(path)) == 4
        assert len(said) == 1
    with pytest.warns(LeftOutWarning) as said:
        table, _ = open_results(folder)
    assert len(table) == 4
    assert said[0].filename == __file__


def test_what_is_hidden_is_not_worth_a_word(folder):
    (folder / '.ipynb_checkpoints').mkdir()
    for name in ('.DS_Store', '._b.jpg', '.ipynb_checkpoints/b-checkpoint.jpg', 'sub/.c.txt'):
        (folder / name).write_bytes(content('red'))
    for path in (folder, folder / '**' / '*'):
        assert len(expand(path)) == 4
    assert expand(folder / '.ipynb_checkpoints' / '*.jpg') == [
        folder / '.ipynb_checkpoints' / 'b-checkpoint.jpg']
    assert expand(folder / '._*') == [folder / '._b.jpg']


def test_files_without_a_known_suffix_are_looked_into(folder):
    (folder / 'dss_search').write_bytes(fits_content())
    (folder / 'c_sk.img').write_bytes(fits_content())
    (folder / 'plate.dat').write_bytes(gzip.compress(fits_content()))
    (folder / 'photo').write_bytes(content('red'))
    (folder / 'r0.asdf.old').write_bytes(b'#ASDF 1.0.0')
    assert {path.name for path in expand(folder)} == {
        'dss_search', 'c_sk.img', 'plate.dat', 'photo', 'r0.asdf.old', 'a.PNG', 'b.jpg', '[d].tiff',
        'c.fits.gz'}


def test_of_a_suffix_without_images_few_files_are_opened(folder, monkeypatch):
    for i in range(60):
        (folder / f'{i:02}.log').write_bytes(b'text')
        (folder / f'{i:02}.raw').write_bytes(fits_content() if i > 10 else b'text')
    opened = []
    monkeypatch.setattr(files, 'kind_of_content', lambda head: opened.append(head) or (
        'fits' if head.startswith(b'SIMPLE') else ''))
    with pytest.warns(LeftOutWarning, match=r'71 files were left out: 60 \.log, 11 \.raw'):
        assert len(expand(folder)) == 4 + 49
    assert len(opened) == 20 + 60


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no FIFOs here')
def test_what_waits_for_a_writer_is_not_opened(folder):
    for name in ('pipe', 'pipe.fits', 'pipe.dat'):
        os.mkfifo(folder / name)
    (folder / 'link.fits').symlink_to(folder / 'pipe')
    (folder / 'device.fits').symlink_to('/dev/zero')
    (folder / 'lost.fits').symlink_to(folder / 'nowhere')
    assert len(expand(folder)) == 4
    assert len(expand(folder / '*.jpg')) == 1
    for name in ('pipe', 'pipe*', '*.dat'):
        with pytest.raises(InvalidQueryError, match='There is no'):
            expand(folder / name)


@pytest.mark.parametrize(('name', 'message'), [
    ('nothing', 'There is no file or folder'), ('*.webp', 'There is no image in'),
    ('empty', 'There is no image in'),
])
def test_nothing_there(name, message, folder):
    (folder / 'empty').mkdir()
    (folder / 'empty' / 'notes.txt').write_bytes(b'')
    with pytest.raises(InvalidQueryError, match=message):
        expand(folder / name)


@pytest.mark.parametrize('kind', [str, Path])
def test_open_folder(kind, folder):
    table, refs = open_results(kind(folder))
    assert table.colnames == ['filename']
    assert refs.sources == list(table['filename'])
    assert status(refs) == [''] * 4
    assert len(refs) == 4


def test_open_list_of_paths(folder):
    table, refs = open_results([folder / 'b.jpg', str(folder / 'sub')])
    assert [Path(source).name for source in refs.sources] == ['b.jpg', '[d].tiff',
                                                                  'c.fits.gz']
    assert len(table) == 3


def test_home_directory(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder))
    assert open_results('~/b.jpg')[1].sources == [str(folder / 'b.jpg')]


@pytest.mark.parametrize('empty', ['', '  '])
def test_empty_path_is_not_the_current_folder(empty, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(InvalidQueryError, match='empty'):
        open_results(empty)


@pytest.mark.parametrize('results', [None, 5, 2.5, object(), {'a': 1}])
def test_nothing_that_could_be_ranked(results):
    with pytest.raises(InvalidQueryError, match='cannot be ranked'):
        open_results(results)


@pytest.mark.parametrize('results', [[], ()])
def test_empty_list(results):
    with pytest.raises(InvalidQueryError, match='the list is empty'):
        open_results(results)


@pytest.mark.parametrize('address', ['https://archive.example/a.jpg', 'mast:HST/product/a.jpg'])
def test_addresses_are_images(address):
    table, refs = open_results(address)
    assert (table.colnames, refs.sources) == (['url'], [address])
    table, refs = open_results([address, 'http://archive.example/get?id=2'])
    assert refs.sources == list(table['url'])
    assert status(refs) == ['', '']


@pytest.mark.parametrize('results', ['ftp://archive.example/a.jpg',
                                     ['https://archive.example/a.jpg', 'b.jpg']])
def test_other_addresses_are_no_paths(results):
    with pytest.raises(InvalidQueryError, match=r"://archive.example/a\.jpg' is no path"):
        open_results(results)


@pytest.mark.parametrize('suffix', ['.ecsv', '.csv', '.vot', '.xml'])
def test_open_table_file(suffix, tmp_path):
    path = tmp_path / f'table{suffix}'
    Table({'jpegURL': ['https://a.example/b.jpg'], 'n': [1]}).write(
        path, **({} if suffix in ('.ecsv', '.csv') else {'format': 'votable'}))
    table, refs = open_results(path)
    assert table.colnames == ['jpegURL', 'n']
    assert refs.sources == ['https://a.example/b.jpg']


@pytest.mark.parametrize('name', ['a.ecsv', 'a.csv', 'a.vot', 'A.XML'])
def test_damaged_table_file(name, tmp_path):
    (tmp_path / name).write_bytes(b'\x00\xff<not>\na table "')
    with pytest.raises(InvalidQueryError, match='cannot be read as a table') as caught:
        open_results(tmp_path / name)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('index', [1, -1])
def test_row(index):
    table = QTable({'jpegURL': ['mast:a', 'mast:b'], 'n': [1, 2]}, units={'n': 'm'})
    one, refs = open_results(table[index])
    assert isinstance(one, QTable)
    assert one['n'].unit == 'm'
    assert refs.sources == ['mast:b']


def test_user_table_itself_is_given_back():
    table = Table({'jpegURL': ['mast:a']})
    assert open_results(table)[0] is table


def images():
    """Different images, each of a kind of its own."""
    array = np.arange(64.0).reshape(8, 8)
    second = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(array, name='SCI')])
    other = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(array, name='ERR')])
    palette, inverse = (Image.new('P', (8, 8)) for _ in range(2))
    palette.putpalette([0, 0, 0])
    inverse.putpalette([255, 0, 0])
    return [array, array.astype('f4'), array.reshape(4, 16), np.ma.masked_less(array, 5),
            np.ma.masked_less(array, 6), fits.ImageHDU(array, name='A'), second, other,
            CCDData(array, unit='adu', mask=array > 3), picture('red'), picture('green'),
            picture('red').convert('L'), palette, inverse, content('red'), content('green'),
            bytearray(content('blue'))]


def test_objects_are_told_apart():
    _, refs = open_objects(images())
    assert len(set(refs.sources)) == len(refs.sources)
    assert len(refs.objects) == len(refs.sources)


def test_same_content_is_the_same_image_in_every_process():
    first, second = (open_objects(images())[1].sources for _ in range(2))
    assert first == second
    assert all(source.startswith('sha256:') for source in first)


def test_objects_in_a_table():
    table, refs = open_results([picture('red'), np.zeros((8, 8)), 'a.jpg'])
    assert list(table['index']) == [0, 1, 2]
    assert list(table['kind']) == ['Image', 'ndarray', 'str']
    assert refs.sources[2] == str(Path('a.jpg').absolute())


def test_images_that_are_not_there():
    _, refs = open_results([picture('red'), None, picture('blue')])  # as get_images gives them
    assert codes(refs) == [[], ['no_pixels'], []]
    assert len(refs.objects) == 2
    assert status(open_results([None])[1]) == ['NO_IMAGE']


@pytest.mark.parametrize('kind', [list, tuple, TableList])
def test_list_of_tables(kind):
    tables = [QTable({'jpegURL': ['mast:a', 'mast:b'], 'n': [1, 2] * u.m}, meta={'a': 1}),
              QTable({'jpegURL': ['mast:c'], 'n': [300] * u.cm, 'title': ['x']}, meta={'a': 2})]
    items = kind([('one', tables[0]), ('two', tables[1])]) if kind is TableList else kind(tables)
    table, refs = open_results(items)
    assert refs.sources == ['mast:a', 'mast:b', 'mast:c']
    assert list(refs.metadata) == ['', '', 'x']
    np.testing.assert_allclose(table['n'].to_value('m'), [1, 2, 3])


def test_list_of_rows():
    table = Table({'jpegURL': ['mast:a', 'mast:b', 'mast:c']})
    for items in ([table[2], table[-3]], list(table)[2:] + list(table)[:1], (table[2:], table[0])):
        assert open_results(items)[1].sources == ['mast:c', 'mast:a']
    assert open_results([table])[0] is table


def test_tables_that_do_not_make_one():
    tables = [Table({'a': [1]}), Table({'a': np.zeros((1, 2, 3))})]
    with pytest.raises(InvalidQueryError, match='These tables do not make one'):
        open_results(tables)


@pytest.mark.parametrize(('addresses', 'hosts'), [
    ('https://user:secret@Archive.Example:8080/a.jpg', {'archive.example:8080'}),
    (['http://a.example/b', 'mast:HST/a.jpg', ' https://B.example/'], {'a.example', 'b.example'}),
    (['http://[broken', 'https://a.example/' + 'a' * 8000], set())])
def test_hosts_of_typed_addresses_are_trusted(addresses, hosts):
    assert open_results(addresses)[1].trusted == hosts
    table = Table({'jpegURL': [addresses] if isinstance(addresses, str) else addresses})
    assert open_results(table)[1].trusted == set()


def test_hdu_list_is_one_image():
    assert len(open_results(fits.HDUList([fits.PrimaryHDU(np.zeros((8, 8)))]))[0]) == 1


def test_damaged_objects_are_like_nothing_else(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / 'half.png')
    os.truncate(tmp_path / 'half.png', 6000)
    objects = np.empty((4, 4), dtype=object)
    with Image.open(tmp_path / 'half.png') as image:
        first = open_objects([image, objects])[1].sources
        second = open_objects([image, objects])[1].sources
    assert not set(first) & set(second)


# ---- cutouts -----------------------------------------------------------------------------


def field(n=100):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (10, 20), (n / 2, n / 2), (-1e-4, 1e-4)
    data = np.random.default_rng(0).normal(100, 3, (n, n)).astype('f4')
    return data, wcs


def test_cutouts_of_astropy():
    data, wcs = field()
    cutouts = [Cutout2D(data, (x, 50), 30, wcs=wcs) for x in (30, 60)]
    table, refs = open_results(cutouts)
    assert list(table['kind']) == ['Cutout2D'] * 2
    assert len(set(refs.sources)) == 2
    for cutout in cutouts:
        np.testing.assert_array_equal(render(cutout), render(np.array(cutout.data)))


def test_cutouts_of_astrocut(tmp_path):
    astrocut = pytest.importorskip('astrocut')
    data, wcs = field()
    fits.PrimaryHDU(data, wcs.to_header()).writeto(tmp_path / 'a.fits')
    made = astrocut.FITSCutout(str(tmp_path / 'a.fits'), SkyCoord(10, 20, unit='deg'), 40)
    search = ClipSearchClass(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')
    paths = made.write_as_fits(output_dir=str(tmp_path))
    for results in (made.fits_cutouts, made.get_image_cutouts(), paths):
        best = search.rank(results, 'red', show_progress=False)
        assert list(best['clip_status']) == ['OK']


# ---- object stores -----------------------------------------------------------------------


@pytest.fixture
def store():
    fsspec = pytest.importorskip('fsspec')
    files = fsspec.filesystem('memory')
    with conf.set_temp('fsspec_protocols', ['memory']):
        files.pipe({'/bucket/a.png': content('red'), '/bucket/sub/b.png': content('blue')})
        yield files
        files.rm('/bucket', recursive=True)


@pytest.mark.parametrize(('address', 'names'), [
    ('memory://bucket', ['a.png', 'sub/b.png']), ('memory://bucket/*.png', ['a.png']),
    ('memory://bucket/*.dat', ['d.dat']), ('memory://bucket/d.dat', ['d.dat'])])
def test_expand_an_address(address, names, store):
    if 'dat' in address:
        store.pipe('/bucket/d.dat', b'')
    for results in (address, [address]):
        table, refs = open_results(results)
        assert refs.sources == [f'memory:///bucket/{name}' for name in names]
        assert table.colnames == ['filename']


def test_a_store_says_what_it_leaves_out(store):
    store.pipe({'/bucket/notes.txt': b'text', '/bucket/sub/c.log': b'text'})
    for address, said in {'memory://bucket': '2 files were left out: 1 .log, 1 .txt',
                          'memory://bucket/*': '1 file was left out: 1 .txt'}.items():
        with pytest.warns(LeftOutWarning, match=said):
            assert open_results(address)[1].sources[0] == 'memory:///bucket/a.png'


def test_rank_files_of_an_object_store(store, tmp_path):
    store.pipe('/bucket/c.png', b'no image')
    search = ClipSearchClass(encoder=ColourEncoder(), cache_dir=tmp_path)
    with pytest.warns(UnreadImagesWarning):
        best = search.rank('memory://bucket', 'blue', show_progress=False)
    assert [source.rpartition('/')[2] for source in best['clip_source']] == [
        'b.png', 'a.png', 'c.png']
    assert list(best['clip_status']) == ['OK', 'OK', 'ERROR']


def test_an_address_is_read_only_where_it_is_allowed(store, tmp_path):
    with conf.set_temp('fsspec_protocols', []):
        with pytest.raises(InvalidQueryError, match=r'conf\.fsspec_protocols'):
            open_results('memory://bucket')
        table = Table({'url': ['s3://bucket/a.png']})
        assert open_results(table)[1].sources == [None]
        ranked = Table({'clip_source': ['memory:///bucket/a.png']})
        assert ClipSearchClass(cache_dir=tmp_path).get_images(ranked) == [None]
    with conf.set_temp('fsspec_protocols', ['s3', 'file']):
        assert open_results(table)[1].sources == ['s3://bucket/a.png']


@pytest.mark.parametrize('address', [
    'file:///etc/passwd', 'memory://bucket/a.png', 'local:///etc/passwd', 's3::file:///etc/passwd',
    's3://a::file:///etc/passwd', 'zip://a::s3://b', 's3://', 'gs://bucket/a.png', 'S3://a/b'])
def test_a_table_never_names_a_file_of_this_machine(address):
    with conf.set_temp('fsspec_protocols', ['s3', 'file', 'local', 'memory']):
        refs = open_results(Table({'preview': [address]}))[1]
    assert refs.sources == [None]
    assert status(refs) == ['ERROR']


@pytest.mark.parametrize(('address', 'match'), [
    ('memory://bucket/none.png', 'There is no image in|cannot be read'),
    ('memory://none/*.png', 'There is no image in'), ('nosuch://a/b', 'cannot be read')])
def test_an_address_that_leads_to_nothing(address, match, store):
    with (conf.set_temp('fsspec_protocols', ['memory', 'nosuch']),
          pytest.raises(InvalidQueryError, match=match)):
        open_results(address)


def test_a_backend_that_is_not_installed(monkeypatch):
    import fsspec

    def absent(*args, **kwargs):
        raise ImportError('Install s3fs to access S3')

    monkeypatch.setattr(fsspec.core, 'url_to_fs', absent)
    monkeypatch.setattr(fsspec, 'open', absent)
    with (conf.set_temp('fsspec_protocols', ['s3']),
          pytest.raises(InvalidQueryError, match=r's3:// needs a further package \(Install s3fs')):
        open_results('s3://bucket/a.png')
    with (pytest.raises(ImageError, match='s3:// needs a further package'),
          objectstore.opened('s3://bucket/a.png')):
        pass


def test_public_buckets_need_no_account(monkeypatch):
    import fsspec

    asked = []
    monkeypatch.setattr(fsspec.core, 'url_to_fs', lambda *args, **options: asked.append(options))
    with conf.set_temp('fsspec_protocols', ['s3']):
        for settings in ({}, {'anon': False}):
            monkeypatch.setitem(fsspec.config.conf, 's3', settings)
            with pytest.raises(InvalidQueryError):
                open_results('s3://bucket/a.png')
    assert asked == [{'anon': True}, {'anon': False}]


class Counted(io.BytesIO):
    n_read = 0

    def read(self, size=-1):
        data = super().read(size)
        self.n_read += len(data)
        return data


def test_of_a_large_fits_file_only_some_rows_are_read():
    data = np.random.default_rng(0).normal(100, 3, (4000, 500)).astype('f4')
    data[1000:1100, 200:300] += 500
    for hdus in ([fits.PrimaryHDU(data)], [fits.PrimaryHDU(), fits.ImageHDU(data, name='SCI')]):
        stream = Counted()
        fits.HDUList(hdus).writeto(stream)
        stream.seek(0)
        whole = stream.getvalue()
        image = render(stream, side=100)
        assert stream.n_read < data.nbytes / 3
        np.testing.assert_array_equal(image, render(whole, side=100))


def test_a_bitmap_is_read_up_to_the_limit():
    stream = Counted(content('red') + bytes(10_000))
    with pytest.raises(ImageError, match='larger than 1000 bytes'):
        render(stream, max_bytes=1000)
    assert stream.n_read < 1100


@pytest.mark.parametrize('name', ['~nobody-of-this-name/x', 'x' * 5000])
def test_names_that_no_file_can_have(name):
    with pytest.raises(InvalidQueryError):
        open_results(name)
