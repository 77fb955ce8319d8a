# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Any table -> where the image of each row is, and its metadata.
"""

import json
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.utils.masked import Masked

from astroclip_search import conf
from astroclip_search.archives import columns as columns_module
from astroclip_search.archives.colour_groups import add_composites
from astroclip_search.archives.columns import IMAGE_COLUMNS, TableColumns, text_column
from astroclip_search.archives.hips import add_context
from astroclip_search.archives.open import open_results
from astroclip_search.archives.tables import has_images, image_refs, row_metadata
from tests.archives import rows
from tests.archives.rows import message, status

URL = 'https://archive.example/a.jpg'
FITS = 'https://archive.example/a.fits'
DATALINK = 'application/x-votable+xml;content=datalink'


def states(table, **options):
    return rows.states(image_refs(table, **options))


@pytest.mark.parametrize(('column', 'expected'), [
    (Column([' a ', 'b']), ['a', 'b']),
    (MaskedColumn(['a', 'b'], mask=[True, False]), ['', 'b']),
    (MaskedColumn([1.5, 2.5], mask=[True, False]), ['', '']),
    (Column([b'bytes', b'caf\xc3\xa9']), ['bytes', 'café']),
    (Column(['a', None], dtype=object), ['a', '']),
    (Column([float('nan'), b'\xff'], dtype=object), ['', '\ufffd']),
    (Column([Path('a.jpg'), 'b'], dtype=object), ['a.jpg', 'b']),
    (Column([1, 20]), ['', '']),
])
def test_text_column(column, expected):
    assert text_column(Table({'c': column}), 'c') == expected


def test_object_column_with_arrays_in_it():
    column = Column([None, None], dtype=object)
    column[0] = np.arange(3)
    assert text_column(Table({'c': column}), 'c') == ['', '']


@pytest.mark.parametrize('name', IMAGE_COLUMNS)
@pytest.mark.parametrize('case', [str, str.upper, str.title])
def test_every_image_column_is_found_in_any_case(name, case):
    assert states(Table({'x': ['y'], case(name): [URL]})) == [(URL, '')]


def test_first_value_of_a_row_counts():
    table = Table({'access_url': [URL + '?full', URL + '?full'],
                   'access_format': ['image/jpeg', 'image/jpeg'],
                   'preview': MaskedColumn([URL, ''], mask=[False, True])})
    assert states(table) == [(URL, ''), (URL + '?full', '')]


@pytest.mark.parametrize(('kind', 'is_image'), [
    ('image/jpeg', True), ('image/png; charset=binary', True), ('IMAGE/FITS', True),
    ('image/x-fits-gzip', True), ('application/x-votable+xml', False), ('text/html', False),
    ('application/x-tar', False), ('application/x-fits-bintable', False), ('image/svg+xml', False),
])
def test_format_of_access_url(kind, is_image):
    table = Table({'access_url': ['https://archive.example/get?id=1'], 'access_format': [kind]})
    assert status(image_refs(table)) == ['' if is_image else 'NO_IMAGE']
    assert not image_refs(table).has_links


@pytest.mark.parametrize('kind', ['', 'application/octet-stream', 'application/x-gzip'])
def test_format_that_says_nothing_leaves_it_to_the_suffix(kind):
    table = Table({'access_url': [FITS, FITS.replace('fits', 'tar')], 'access_format': [kind] * 2})
    assert status(image_refs(table)) == ['', 'NO_IMAGE']


@pytest.mark.parametrize('kind', [
    DATALINK, 'application/x-votable+xml; content=datalink', DATALINK.upper(),
    'application/x-votable+xml;content="datalink"', f' {DATALINK};serialization=binary2'])
def test_datalink(kind):
    table = Table({'access_url': ['https://a.example/links?ID=1'], 'access_format': [kind]})
    found = image_refs(table)
    assert found.sources == ['datalink:https://a.example/links?ID=1']
    assert (status(found), found.has_links) == ([''], True)


def test_datalink_must_be_on_the_network():
    table = Table({'datalink_url': ['mast:a', '/etc/links', 'https://a.example/links', 'null', '']})
    found = image_refs(table)
    assert found.sources == [None, None, 'datalink:https://a.example/links', None, None]
    assert status(found) == ['ERROR', 'ERROR', '', 'NO_IMAGE', 'NO_IMAGE']


def test_the_image_that_costs_least_is_taken():
    table = Table({
        'access_url': [FITS, URL, FITS, FITS, FITS],
        'access_format': ['image/fits', 'image/jpeg', 'image/fits', 'image/fits', 'text/html'],
        'datalink_url': ['', 'https://a.example/l', 'https://a.example/l', '', ''],
        'preview': ['', '', '', URL, '']})
    assert image_refs(table).sources == [
        FITS, URL, f'datalink:https://a.example/l#else={FITS}', URL, None]


def test_file_that_is_too_large_is_no_fallback_of_a_link():
    table = Table({'access_url': [FITS], 'datalink_url': ['https://a.example/l'],
                   'access_estsize': [1e9]})
    assert states(table) == [('datalink:https://a.example/l', '')]


@pytest.mark.parametrize('part', ['#else=/etc/passwd', '#circle=1,2,3', '#circle=1,2,3#else=/x'])
@pytest.mark.parametrize('scheme', ['https://', 'datalink:https://'])
def test_fragment_of_a_datalink_means_nothing(part, scheme):
    table = Table({'datalink_url': [f'{scheme}a.example/l{part}']})
    assert image_refs(table).sources == ['datalink:https://a.example/l']


def test_file_that_is_too_large_is_skipped():
    sizes = MaskedColumn([100.0, 100.1, 1e9, 5.0], mask=[False, False, False, True])
    table = Table({'access_url': [FITS] * 4, 'access_estsize': sizes,
                   'jpegURL': ['', '', URL, '']})
    with conf.set_temp('max_bytes', 100_000):
        found = image_refs(table)
    assert status(found) == ['', 'SKIPPED', '', '']
    assert message(found)[1] == 'larger than 100000 bytes (conf.max_bytes)'
    assert status(image_refs(table)) == [''] * 4


@pytest.mark.parametrize('size', [Column(['200', 'x']), Column([None, 'x'], dtype=object),
                                  Column([np.inf, np.nan])])
def test_size_that_is_none(size):
    with conf.set_temp('max_bytes', 100_000):
        found = image_refs(Table({'access_url': [FITS] * 2, 'access_estsize': size}))
    assert status(found)[1] == ''


def test_size_with_a_unit():
    table = QTable({'access_url': [FITS, FITS], 'access_estsize': [1, 1e6] * u.kbyte})
    assert status(image_refs(table)) == ['', 'SKIPPED']


@pytest.mark.parametrize(('url', 'is_image'), [
    ('https://a.example/b.jpg', True), ('https://a.example/b.FITS.gz?x=1', True),
    ('https://a.example/b.png#here', True), ('https://a.example/get?f=b.jpg', False),
    ('https://a.example/b.tar', False), ('http://[broken', False),
])
def test_access_url_without_a_format_is_judged_by_its_suffix(url, is_image):
    assert status(image_refs(Table({'access_url': [url]}))) == ['' if is_image else 'NO_IMAGE']


@pytest.mark.parametrize('source', [URL, 'http://a.example/x', 'mast:HST/product/a_drz.jpg'])
def test_addresses_are_taken_as_they_are(source):
    assert states(Table({'jpegURL': [f' {source} ']})) == [(source, '')]


@pytest.mark.parametrize('value', ['file:///etc/passwd', 'ftp://a.example/a.jpg',
                                   's3://bucket/a.jpg', 'gopher://x/', 'javascript://%0aalert(1)'])
def test_other_schemes_are_refused_even_with_a_folder(value, tmp_path):
    found = image_refs(Table({'jpegURL': [value]}), image_dir=tmp_path)
    assert (found.sources, status(found)) == ([None], ['ERROR'])
    assert message(found) == ['not an http or https address']


@pytest.mark.parametrize('value', ['a.jpg', '/etc/hostname', 'javascript:alert(1)',
                                   'data:image/png;base64,AAAA', 'file:/etc/passwd'])
def test_names_need_a_folder(value):
    found = image_refs(Table({'jpegURL': [value]}))
    assert (found.sources, status(found)) == ([None], ['ERROR'])
    assert 'image_dir' in message(found)[0]


def test_name_of_a_file_does_not_hide_an_address(tmp_path):
    table = Table({'filename': ['a.fits', 'b.fits'], 'access_url': [FITS, '']})
    assert states(table) == [(FITS, ''), (None, 'ERROR')]
    assert states(table, image_dir=tmp_path)[0] == (str(tmp_path / 'a.fits'), '')


@pytest.mark.parametrize('value', ['null', 'NULL', '--', 'None', 'nan', 'N/A'])
def test_absent_value_as_text(value):
    assert states(Table({'postcard_url': [value], 'url': [URL]})) == [(URL, '')]
    assert states(Table({'jpegURL': [value]})) == [(None, 'NO_IMAGE')]


@pytest.mark.parametrize('name', ['jpegURL', 'datalink_url'])
@pytest.mark.parametrize(('value', 'reason'), [
    ('https://a.example/\ud800.jpg', 'not a valid address'),
    ('https://a.example/' + 'a' * 8000, 'a name of 8018 characters; at most 8000 are possible'),
])
def test_impossible_addresses(name, value, reason):
    found = image_refs(Table({name: Column([value, URL], dtype=object)}))
    assert status(found) == ['ERROR', '']
    assert message(found)[0] == reason


def test_names_in_a_folder(tmp_path):
    (tmp_path / 'sub').mkdir()
    assert states(Table({'jpegURL': ['a.jpg', 'sub/b.jpg', 'sub/../c.jpg']}),
                  image_dir=tmp_path) == [(str(tmp_path / name), '')
                                          for name in ('a.jpg', 'sub/b.jpg', 'c.jpg')]


@pytest.mark.parametrize('value', ['../secret.jpg', 'sub/../../secret.jpg', '/etc/hostname',
                                   'link/secret.jpg', 'link.jpg', '~/../../etc/hostname'])
def test_names_that_lead_out_of_the_folder_are_refused(value, tmp_path):
    base = tmp_path / 'base'
    (base / '~').mkdir(parents=True)
    (tmp_path / 'secret.jpg').write_bytes(b'secret')
    (base / 'link').symlink_to(tmp_path)
    (base / 'link.jpg').symlink_to(tmp_path / 'secret.jpg')
    found = image_refs(Table({'jpegURL': [value]}), image_dir=base)
    assert (found.sources, status(found)) == ([None], ['ERROR'])
    assert message(found) == ['the name leads out of image_dir']


def test_folder_that_is_a_link_or_relative(tmp_path, monkeypatch):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'real')
    monkeypatch.chdir(tmp_path)
    assert states(Table({'image': ['a.jpg']}), image_dir='link') == [
        (str(tmp_path / 'real' / 'a.jpg'), '')]


def test_impossible_names(tmp_path):
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    table = Table({'jpegURL': Column(['nul\0byte', 'loop/a.jpg', 'fine.jpg'], dtype=object)})
    found = image_refs(table, image_dir=tmp_path)
    assert status(found)[0] == 'ERROR'
    assert message(found)[0] == 'not a valid file name'
    # Since Python 3.13 a loop of links is found only when the file is opened.
    assert status(found)[1] == 'ERROR' or not Path(found.sources[1]).exists()
    assert status(found)[2] == ''


def test_rows_that_are_no_images_are_skipped():
    table = Table({'dataproduct_type': ['image', 'spectrum', 'IMAGE', 'timeseries', '', 'cube'],
                   'jpegURL': [URL] * 6})
    found = image_refs(table)
    assert status(found) == ['', 'SKIPPED', '', 'SKIPPED', '', '']
    assert message(found)[1] == "not an image: dataproduct_type is 'spectrum'"


@pytest.mark.parametrize(('column', 'kind', 'is_image'), [
    ('dataProductType', 'visibility', False), ('dataproduct_type', 'ma', True),
    ('dataproduct_subtype', 'cont.weight.t0', False), ('dataproduct_subtype', 'science', True),
    ('semantics', '#this', True), ('semantics', '#preview-plot', False),
    ('semantics', 'http://www.ivoa.net/rdf/datalink/core#preview-image', True),
    ('productType', 'AUXILIARY', False), ('productType', 'PREVIEW', True),
    ('dp_tech', 'IMAGE,JITTER', True), ('dp_tech', 'IFU,NODDING', False),
    ('dp_cat', 'CALIB', False), ('dp_cat', 'SCIENCE', True),
])
def test_kinds_of_other_archives(column, kind, is_image):
    table = Table({column: [kind, ''], 'jpegURL': [URL, URL]})
    assert status(image_refs(table)) == ['' if is_image else 'SKIPPED', '']


def test_faults_of_a_datalink_document():
    table = Table({'semantics': ['#this', '#error', '#this'], 'access_url': ['', '', FITS],
                   'error_message': ['NotFoundFault: no such file',
                                     'DefaultFault: you do not have permission', '']})
    found = image_refs(table)
    assert status(found) == ['NO_IMAGE', 'DENIED', '']
    assert message(found)[0] == "the archive says 'NotFoundFault: no such file'"


def test_rows_without_an_image():
    found = image_refs(Table({'jpegURL': MaskedColumn(['', 'x'], mask=[False, True])}))
    assert (status(found), found.sources) == (['NO_IMAGE'] * 2, [None] * 2)
    assert message(found) == ['the row names no image'] * 2


def test_column_of_numbers_names_no_image():
    # A column of nothing at all is read as numbers from CSV; "image" may be a frame number.
    table = Table({'image': [1, 2], 'jpegURL': MaskedColumn([0, 0], mask=True), 'url': [URL, '']})
    assert states(table) == [(URL, ''), (None, 'NO_IMAGE')]


def test_metadata_of_a_row():
    table = Table({'target_name': ['M 8', 'M 20', ''], 'obs_title': ['Disks', '', ''],
                   'target_classification': ['NEBULA', 'NEBULA', '']})
    assert row_metadata(table) == ['M 8, Disks, NEBULA', 'M 20, NEBULA', '']
    assert row_metadata(Table({'a': ['b', 'c']})) == ['', '']


def test_metadata_of_other_archives():
    assert row_metadata(Table({'Object': ['M 8'], 'Title': ['Disks']})) == ['M 8, Disks']


def test_metadata_of_a_file_say_nothing_about_the_sky():
    assert row_metadata(Table({'description': ['A ring']})) == ['A ring']
    assert row_metadata(Table({'description': ['DRZ file'], 'productType': ['SCIENCE']})) == ['']


def test_long_metadata_are_cut():
    long = 'a' * 5000
    table = Table({'title': Column([long, 'b', None], dtype=object), 'target': [long, 'T', '']})
    assert [len(metadata) for metadata in row_metadata(table)] == [2002, 4, 0]


def vo_table(**columns):
    """Columns of strings, each as (values, ucd, utype)."""
    return Table({name: Column(values, dtype=object,
                               meta={'ucd': ucd, 'utype': utype})
                  for name, (values, ucd, utype) in columns.items()})


def test_columns_are_found_by_ucd():
    table = vo_table(
        about=(['https://a.example/page'], 'meta.ref.url', ''),
        where=(['https://a.example/get?1'], 'VOX:Image_AccessReference', ''),
        kind=(['image/jpeg'], 'VOX:Image_Format', ''),
        name=(['A plate'], 'VOX:Image_Title', ''), what=(['star'], 'src.class', None),
        did=(['ivo://a/b.jpg'], 'meta.ref.url;meta.curation', ''), who=(['M 8'], 'meta.id;src', 3))
    found = TableColumns(table).roles
    assert found == {'access': ['where'], 'file': ['about'], 'format': ['kind'], 'data': ['where'],
                     'target': ['who'], 'title': ['name'], 'class': ['what']}
    assert image_refs(table).sources == ['https://a.example/get?1']
    assert row_metadata(table) == ['M 8, A plate, star']


@pytest.mark.parametrize('model', ['obscore:', 'Obscore:', ''])
def test_columns_are_found_by_utype(model):
    table = vo_table(a=(['https://a.example/get?1'], '', f'{model}Access.Reference'),
                     b=(['image/png'], '', f'{model}access.format'),
                     c=(['image'], '', f'{model}obsdataset.dataproducttype'),
                     d=(['M 8'], '', f'{model}Target.Name'))
    assert states(table) == [('https://a.example/get?1', '')]
    assert row_metadata(table) == ['M 8']
    table['c'][0] = 'event'
    assert message(image_refs(table)) == ["not an image: c is 'event'"]


def test_spectra_are_skipped_even_with_a_preview():
    table = vo_table(accref=([URL], '', 'ssa:Access.Reference'), preview=([URL], '', ''))
    found = image_refs(table)
    assert status(found) == ['SKIPPED']
    assert message(found) == ['not an image: accref names a spectrum']


def test_name_in_two_cases():
    table = Table({'Preview': ['', URL], 'PREVIEW': [URL + '?2', '']})
    assert states(table) == [(URL + '?2', ''), (URL, '')]


def test_columns_that_are_no_columns():
    # A position column may well be called target, and a picture column image.
    table = QTable({'target': SkyCoord([1, 2], [3, 4], unit='deg'), 'object': ['M 8', 'M 20'],
                    'image': np.zeros((2, 4, 4)), 'thumbnail': [1, 2] * u.m, 'preview': [URL, '']})
    assert row_metadata(table) == ['M 8', 'M 20']
    assert states(table) == [(URL, ''), (None, 'NO_IMAGE')]


def test_columns_are_read_once(monkeypatch):
    table = Table({'jpegURL': [URL, ''], 'access_url': ['', FITS], 'target': ['a', 'b'],
                   'dataproduct_type': ['image', 'IMAGE']})
    n_read = Counter()
    monkeypatch.setattr(columns_module, 'text_column',
                        lambda table, name: n_read.update([name]) or text_column(table, name))
    columns = TableColumns(table)
    found = image_refs(columns)
    assert has_images(columns)
    assert n_read == {'jpegURL': 1, 'access_url': 1, 'dataproduct_type': 1}  # and no metadata
    assert list(found.metadata) == list(found.metadata) == row_metadata(columns) == ['a', 'b']
    assert (found.metadata[1], len(found.metadata)) == ('b', 2)
    assert set(n_read.values()) == {1}


@pytest.mark.parametrize(('column', 'unit', 'numbers'), [
    (Column([1, 2]), None, [1, 2]), (Column([1, 2]), u.deg, [1, 2]),
    (Column([60, 90], unit='arcmin'), u.deg, [1, 1.5]), ([60, 90] * u.arcmin, u.deg, [1, 1.5]),
    (Column([60, 90], unit='arcmin'), None, [60, 90]), (Column([1, 2], unit='m'), u.deg, None),
    (Column([1, 2], unit=u.Unit('huh', parse_strict='silent')), u.deg, None),
    (MaskedColumn([1, 2], mask=[True, False]), None, [np.nan, 2]),
    (Masked([1, 2] * u.deg, mask=[True, False]), u.deg, [np.nan, 2]),
    (Column(['1', '2.5']), None, [1, 2.5]), (Column(['1', 'x']), None, None),
    (Column([None, 2], dtype=object), None, [np.nan, 2]), (Column([1j, 2]), None, None),
    (Column([10**400, 2], dtype=object), None, None), (Column(np.ones((2, 3))), None, None),
    (Time([1, 2], format='mjd'), None, None), (SkyCoord([1, 2], [3, 4], unit='deg'), u.deg, None)])
def test_numbers_of_a_column(column, unit, numbers):
    found = TableColumns(QTable([column], names=['c'])).numbers('c', unit)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [np.nan] * 2 if numbers is None else numbers)


def test_sizes_in_bytes():
    def sizes(**columns):
        return TableColumns(QTable(columns)).sizes

    assert sizes(a=[1]) is None
    np.testing.assert_array_equal(sizes(access_estsize=[2.0]), [2000])
    np.testing.assert_array_equal(sizes(access_estsize=[2.0] * u.Mbyte), [2e6])
    np.testing.assert_array_equal(sizes(content_length=['x'], access_estsize=[2]), [2000])
    np.testing.assert_array_equal(sizes(content_length=[7], access_estsize=[2]), [7])
    assert sizes(size=[7]) is None  # of whatever it may be
    np.testing.assert_array_equal(sizes(size=[7], dataURI=['mast:a.fits']), [7])


@pytest.mark.parametrize('values', [
    [URL] * 3, [URL, 'mast:a', 'http://a.example/b'], [f' {URL}', URL, f'{URL} '],
    [URL, '', URL], [URL, 'a.jpg', URL], [URL, 'https://a.example/\u00e9', URL],
    [URL, 'x\nmast:a', URL], [URL, 'https://' + 'a' * 8000, URL]])
@pytest.mark.parametrize('kind', ['str', 'object', 'masked'])
def test_all_columns_are_read_in_the_same_way(values, kind, tmp_path):
    column = MaskedColumn(values, mask=[False, False, kind == 'masked'],
                          dtype=object if kind == 'object' else str)
    found = image_refs(Table({'jpegURL': column, 'x': [1, 2, 3]}), image_dir=tmp_path)
    for i in range(3):
        one = image_refs(Table({'jpegURL': column[i:i + 1]}), image_dir=tmp_path)
        assert rows.states(one) == rows.states(found)[i:i + 1]
        assert one.reasons.get(0) == found.reasons.get(i)


def test_references_are_not_changed_by_what_comes_later():
    table = Table({'target': ['a'] * 4, 'filters': ['F435W', 'F555W', 'F814W', ''],
                   'dataURI': ['mast:b.fits', 'mast:v.fits', 'mast:i.fits', ''],
                   's_ra': [1.0] * 4, 's_dec': [2.0] * 4})
    columns = TableColumns(table)
    first = image_refs(columns)
    before = list(first.sources), dict(first.reasons), dict(first.own)
    with_sky = add_context(columns, first, 'P/x')
    coloured = add_composites(columns, with_sky)
    assert (first.sources, first.reasons, first.own) == before
    assert rows.codes(coloured) == [['colour_of']] * 3 + [['sky_context']]
    assert coloured.own == {i: first.sources[i] for i in range(3)}
    assert table['dataURI'].tolist() == [*first.sources[:3], '']


def test_has_images():
    assert has_images(Table({'jpegURL': ['']}))
    assert not has_images(Table({'jpeg': np.zeros((2, 3)), 'flux': [1, 2]}))


def test_empty_table():
    assert len(image_refs(Table({'jpegURL': np.array([], dtype=str)}))) == 0
    assert len(image_refs(Table())) == 0


@pytest.mark.parametrize(('name', 'rows', 'images'), [
    ('caom.json', 19, 19), ('advSearch.json', 3, 3), ('advSearchPos.json', 12, 12)])
def test_recorded_answers_of_mast(name, rows, images):
    answer = json.loads((resources.files('astroquery.mast.tests') / 'data' / name).read_text())
    found = image_refs(Table(rows=answer['data']))
    assert len(found) == rows
    assert status(found).count('') == images


def test_recorded_answers_of_the_virtual_observatory():
    data = resources.files('pyvo.dal.tests') / 'data'
    with resources.as_file(data / 'tap' / 'obscore-image.xml') as path:
        table = parse_single_table(path).to_table()
    found = image_refs(table)
    assert status(found) == ['SKIPPED'] * 10  # photographic plates of 435 MB
    assert all(source.endswith('.fits') for source in found.sources)
    assert found.metadata[0] == 'POT032_000002E 1913-08-26'.replace('_', ' ')


def test_names_by_which_a_table_is_known_survive_in_a_file(tmp_path):
    table = vo_table(a=([URL], 'VOX:Image_AccessReference', ''))
    table['a'] = table['a'].astype(str)
    table.write(tmp_path / 'a.ecsv')
    assert open_results(tmp_path / 'a.ecsv')[1].sources == [URL]


@pytest.mark.parametrize('name', ['a.fits', 'a.FITS.gz'])
def test_table_in_a_fits_file(name, tmp_path):
    table = Table({'jpegURL': [URL, 'mast:a'], 'obs_title': ['A ring', 'B']})
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(table), fits.BinTableHDU(table[:1])]
    fits.HDUList(hdus).writeto(tmp_path / name)
    opened, found = open_results(tmp_path / name)
    assert opened.colnames == ['jpegURL', 'obs_title']
    assert found.sources == [URL, 'mast:a']


@pytest.mark.parametrize('image', [
    fits.PrimaryHDU(np.zeros((4, 4))), fits.PrimaryHDU(np.zeros(9)),
    fits.CompImageHDU(np.zeros((40, 40), dtype='f4'))])
def test_fits_file_with_an_image_is_an_image(image, tmp_path):
    hdus = [] if isinstance(image, fits.PrimaryHDU) else [fits.PrimaryHDU()]
    fits.HDUList([*hdus, image, fits.BinTableHDU(Table({'jpegURL': [URL]}))]).writeto(
        tmp_path / 'a.fits')
    assert open_results(tmp_path / 'a.fits')[1].sources == [str(tmp_path / 'a.fits')]


@pytest.mark.parametrize('content', [b'', b'SIMPLE  =                    T'.ljust(2880)])
def test_damaged_fits_file_is_told_when_it_is_drawn(content, tmp_path):
    (tmp_path / 'a.fits').write_bytes(content)
    assert status(open_results(tmp_path / 'a.fits')[1]) == ['']
