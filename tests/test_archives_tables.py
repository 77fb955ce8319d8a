# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Any table -> where the image of each row is, and its words.
"""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Column, MaskedColumn, QTable, Table

from astroclip_search import conf
from astroclip_search.archives import open_results
from astroclip_search.archives.columns import IMAGE_COLUMNS, recognise, text_column
from astroclip_search.archives.tables import has_images, references, row_words

URL = 'https://archive.example/a.jpg'
FITS = 'https://archive.example/a.fits'
DATALINK = 'application/x-votable+xml;content=datalink'


def states(table, **options):
    found = references(table, **options)
    return list(zip(found.sources, found.status, strict=True))


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
    assert references(table).status == ['' if is_image else 'NO_IMAGE']
    assert not references(table).has_links


@pytest.mark.parametrize('kind', ['', 'application/octet-stream', 'application/x-gzip'])
def test_format_that_says_nothing_leaves_it_to_the_suffix(kind):
    table = Table({'access_url': [FITS, FITS.replace('fits', 'tar')], 'access_format': [kind] * 2})
    assert references(table).status == ['', 'NO_IMAGE']


@pytest.mark.parametrize('kind', [
    DATALINK, 'application/x-votable+xml; content=datalink', DATALINK.upper(),
    'application/x-votable+xml;content="datalink"', f' {DATALINK};serialization=binary2'])
def test_datalink(kind):
    table = Table({'access_url': ['https://a.example/links?ID=1'], 'access_format': [kind]})
    found = references(table)
    assert found.sources == ['datalink:https://a.example/links?ID=1']
    assert (found.status, found.has_links) == ([''], True)


def test_datalink_must_be_on_the_network():
    table = Table({'datalink_url': ['mast:a', '/etc/links', 'https://a.example/links', 'null', '']})
    found = references(table)
    assert found.sources == [None, None, 'datalink:https://a.example/links', None, None]
    assert found.status == ['ERROR', 'ERROR', '', 'NO_IMAGE', 'NO_IMAGE']


def test_the_image_that_costs_least_is_taken():
    table = Table({
        'access_url': [FITS, URL, FITS, FITS, FITS],
        'access_format': ['image/fits', 'image/jpeg', 'image/fits', 'image/fits', 'text/html'],
        'datalink_url': ['', 'https://a.example/l', 'https://a.example/l', '', ''],
        'preview': ['', '', '', URL, '']})
    assert references(table).sources == [
        FITS, URL, f'datalink:https://a.example/l#else={FITS}', URL, None]


def test_file_that_is_too_large_is_no_fallback_of_a_link():
    table = Table({'access_url': [FITS], 'datalink_url': ['https://a.example/l'],
                   'access_estsize': [1e9]})
    assert states(table) == [('datalink:https://a.example/l', '')]


@pytest.mark.parametrize('part', ['#else=/etc/passwd', '#circle=1,2,3', '#circle=1,2,3#else=/x'])
@pytest.mark.parametrize('scheme', ['https://', 'datalink:https://'])
def test_fragment_of_a_datalink_means_nothing(part, scheme):
    table = Table({'datalink_url': [f'{scheme}a.example/l{part}']})
    assert references(table).sources == ['datalink:https://a.example/l']


def test_file_that_is_too_large_is_skipped():
    sizes = MaskedColumn([100.0, 100.1, 1e9, 5.0], mask=[False, False, False, True])
    table = Table({'access_url': [FITS] * 4, 'access_estsize': sizes,
                   'jpegURL': ['', '', URL, '']})
    with conf.set_temp('max_bytes', 100_000):
        found = references(table)
    assert found.status == ['', 'SKIPPED', '', '']
    assert found.message[1] == 'larger than 100000 bytes (conf.max_bytes)'
    assert references(table).status == [''] * 4


@pytest.mark.parametrize('size', [Column(['200', 'x']), Column([None, 'x'], dtype=object),
                                  Column([np.inf, np.nan])])
def test_size_that_is_none(size):
    with conf.set_temp('max_bytes', 100_000):
        assert references(Table({'access_url': [FITS] * 2, 'access_estsize': size})).status[1] == ''


def test_size_with_a_unit():
    table = QTable({'access_url': [FITS, FITS], 'access_estsize': [1, 1e6] * u.kbyte})
    assert references(table).status == ['', 'SKIPPED']


@pytest.mark.parametrize(('url', 'is_image'), [
    ('https://a.example/b.jpg', True), ('https://a.example/b.FITS.gz?x=1', True),
    ('https://a.example/b.png#here', True), ('https://a.example/get?f=b.jpg', False),
    ('https://a.example/b.tar', False), ('http://[broken', False),
])
def test_access_url_without_a_format_is_judged_by_its_suffix(url, is_image):
    assert references(Table({'access_url': [url]})).status == ['' if is_image else 'NO_IMAGE']


@pytest.mark.parametrize('source', [URL, 'http://a.example/x', 'mast:HST/product/a_drz.jpg'])
def test_addresses_are_taken_as_they_are(source):
    assert states(Table({'jpegURL': [f' {source} ']})) == [(source, '')]


@pytest.mark.parametrize('value', ['file:///etc/passwd', 'ftp://a.example/a.jpg',
                                   's3://bucket/a.jpg', 'gopher://x/', 'javascript://%0aalert(1)'])
def test_other_schemes_are_refused_even_with_a_folder(value, tmp_path):
    found = references(Table({'jpegURL': [value]}), image_dir=tmp_path)
    assert (found.sources, found.status) == ([None], ['ERROR'])
    assert found.message == ['not an http or https address']


@pytest.mark.parametrize('value', ['a.jpg', '/etc/hostname', 'javascript:alert(1)',
                                   'data:image/png;base64,AAAA', 'file:/etc/passwd'])
def test_names_need_a_folder(value):
    found = references(Table({'jpegURL': [value]}))
    assert (found.sources, found.status) == ([None], ['ERROR'])
    assert 'image_dir' in found.message[0]


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
    found = references(Table({name: Column([value, URL], dtype=object)}))
    assert found.status == ['ERROR', '']
    assert found.message[0] == reason


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
    found = references(Table({'jpegURL': [value]}), image_dir=base)
    assert (found.sources, found.status) == ([None], ['ERROR'])
    assert found.message == ['the name leads out of image_dir']


def test_folder_that_is_a_link_or_relative(tmp_path, monkeypatch):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'real')
    monkeypatch.chdir(tmp_path)
    assert states(Table({'image': ['a.jpg']}), image_dir='link') == [
        (str(tmp_path / 'real' / 'a.jpg'), '')]


def test_impossible_names(tmp_path):
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    table = Table({'jpegURL': Column(['nul\0byte', 'loop/a.jpg', 'fine.jpg'], dtype=object)})
    found = references(table, image_dir=tmp_path)
    assert found.status[0] == 'ERROR'
    assert found.message[0] == 'not a valid file name'
    # Since Python 3.13 a loop of links is found only when the file is opened.
    assert found.status[1] == 'ERROR' or not Path(found.sources[1]).exists()
    assert found.status[2] == ''


def test_rows_that_are_no_images_are_skipped():
    table = Table({'dataproduct_type': ['image', 'spectrum', 'IMAGE', 'timeseries', '', 'cube'],
                   'jpegURL': [URL] * 6})
    found = references(table)
    assert found.status == ['', 'SKIPPED', '', 'SKIPPED', '', '']
    assert found.message[1] == "not an image: dataproduct_type is 'spectrum'"


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
    assert references(table).status == ['' if is_image else 'SKIPPED', '']


def test_faults_of_a_datalink_document():
    table = Table({'semantics': ['#this', '#error', '#this'], 'access_url': ['', '', FITS],
                   'error_message': ['NotFoundFault: no such file',
                                     'DefaultFault: you do not have permission', '']})
    found = references(table)
    assert found.status == ['NO_IMAGE', 'DENIED', '']
    assert found.message[0] == "the archive says 'NotFoundFault: no such file'"


def test_rows_without_an_image():
    found = references(Table({'jpegURL': MaskedColumn(['', 'x'], mask=[False, True])}))
    assert (found.status, found.sources) == (['NO_IMAGE'] * 2, [None] * 2)
    assert found.message == ['the row names no image'] * 2


def test_column_of_numbers_names_no_image():
    # A column of nothing at all is read as numbers from CSV; "image" may be a frame number.
    table = Table({'image': [1, 2], 'jpegURL': MaskedColumn([0, 0], mask=True), 'url': [URL, '']})
    assert states(table) == [(URL, ''), (None, 'NO_IMAGE')]


def test_words_of_a_row():
    table = Table({'target_name': ['M 8', 'M 20', ''], 'obs_title': ['Disks', '', ''],
                   'target_classification': ['NEBULA', 'NEBULA', '']})
    assert row_words(table) == ['M 8, Disks, NEBULA', 'M 20, NEBULA', '']
    assert row_words(Table({'a': ['b', 'c']})) == ['', '']


def test_words_of_other_archives():
    assert row_words(Table({'Object': ['M 8'], 'Title': ['Disks']})) == ['M 8, Disks']


def test_words_of_a_file_say_nothing_about_the_sky():
    assert row_words(Table({'description': ['A ring']})) == ['A ring']
    assert row_words(Table({'description': ['DRZ file'], 'productType': ['SCIENCE']})) == ['']


def test_long_words_are_cut():
    long = 'a' * 5000
    table = Table({'title': Column([long, 'b', None], dtype=object), 'target': [long, 'T', '']})
    assert [len(words) for words in row_words(table)] == [2002, 4, 0]


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
    found = recognise(table)
    assert found == {'access': ['where'], 'file': ['about'], 'format': ['kind'],
                     'target': ['who'], 'title': ['name'], 'class': ['what']}
    assert references(table).sources == ['https://a.example/get?1']
    assert row_words(table) == ['M 8, A plate, star']


@pytest.mark.parametrize('model', ['obscore:', 'Obscore:', ''])
def test_columns_are_found_by_utype(model):
    table = vo_table(a=(['https://a.example/get?1'], '', f'{model}Access.Reference'),
                     b=(['image/png'], '', f'{model}access.format'),
                     c=(['image'], '', f'{model}obsdataset.dataproducttype'),
                     d=(['M 8'], '', f'{model}Target.Name'))
    assert states(table) == [('https://a.example/get?1', '')]
    assert row_words(table) == ['M 8']
    table['c'][0] = 'event'
    assert references(table).message == ["not an image: c is 'event'"]


def test_spectra_are_skipped_even_with_a_preview():
    table = vo_table(accref=([URL], '', 'ssa:Access.Reference'), preview=([URL], '', ''))
    found = references(table)
    assert found.status == ['SKIPPED']
    assert found.message == ['not an image: accref names a spectrum']


def test_name_in_two_cases():
    table = Table({'Preview': ['', URL], 'PREVIEW': [URL + '?2', '']})
    assert states(table) == [(URL + '?2', ''), (URL, '')]


def test_columns_that_are_no_columns():
    # A position column may well be called target, and a picture column image.
    table = QTable({'target': SkyCoord([1, 2], [3, 4], unit='deg'), 'object': ['M 8', 'M 20'],
                    'image': np.zeros((2, 4, 4)), 'thumbnail': [1, 2] * u.m, 'preview': [URL, '']})
    assert row_words(table) == ['M 8', 'M 20']
    assert states(table) == [(URL, ''), (None, 'NO_IMAGE')]


def test_has_images():
    assert has_images(Table({'jpegURL': ['']}))
    assert not has_images(Table({'jpeg': np.zeros((2, 3)), 'flux': [1, 2]}))


def test_empty_table():
    assert len(references(Table({'jpegURL': np.array([], dtype=str)}))) == 0
    assert len(references(Table())) == 0


@pytest.mark.parametrize(('name', 'rows', 'images'), [
    ('caom.json', 19, 19), ('advSearch.json', 3, 3), ('advSearchPos.json', 12, 12)])
def test_recorded_answers_of_mast(name, rows, images):
    answer = json.loads((resources.files('astroquery.mast.tests') / 'data' / name).read_text())
    found = references(Table(rows=answer['data']))
    assert len(found) == rows
    assert found.status.count('') == images


def test_recorded_answers_of_the_virtual_observatory():
    data = resources.files('pyvo.dal.tests') / 'data'
    with resources.as_file(data / 'tap' / 'obscore-image.xml') as path:
        table = parse_single_table(path).to_table()
    found = references(table)
    assert found.status == ['SKIPPED'] * 10  # photographic plates of 435 MB
    assert all(source.endswith('.fits') for source in found.sources)
    assert found.words[0] == 'POT032_000002E 1913-08-26'.replace('_', ' ')


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
    assert open_results(tmp_path / 'a.fits')[1].status == ['']
