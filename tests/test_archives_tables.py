# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Any table -> where the image of each row is, and its words.
"""

import io
import json
import tarfile
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.votable import parse_single_table
from astropy.table import Column, MaskedColumn, QTable, Table

from astroclip_search.archives.tables import (
    IMAGE_COLUMNS,
    has_images,
    references,
    row_words,
    text_column,
)

URL = 'https://archive.example/a.jpg'


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
    ('application/x-votable+xml;content=datalink', False), ('text/html', False),
    ('application/x-tar', False),
])
def test_format_of_access_url(kind, is_image):
    table = Table({'access_url': ['https://archive.example/get?id=1'], 'access_format': [kind]})
    assert references(table).status == ['' if is_image else 'NO_IMAGE']


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
    table = Table({'dataproduct_type': ['image', 'spectrum', 'IMAGE', 'timeseries', ''],
                   'jpegURL': [URL] * 5})
    found = references(table)
    assert found.status == ['', 'SKIPPED', '', 'SKIPPED', '']
    assert found.message[1] == "not an image: dataproduct_type is 'spectrum'"


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
    assert found.status == [''] * 10
    assert all(source.endswith('.fits') for source in found.sources)
    assert found.words[0] == 'POT032_000002E 1913-08-26'.replace('_', ' ')


@pytest.mark.parametrize(('path', 'status'), [
    ('astroquery/astroquery/casda/tests/data/cone.xml', {'SKIPPED': 3}),
    ('astroquery/astroquery/eso/tests/data/query_coll_vvv_sgra.csv',
     {'SKIPPED': 26, 'NO_IMAGE': 24}),
    ('astroquery/astroquery/ipac/irsa/tests/data/most_full_results.tbl', {'': 12}),
    ('astroquery/astroquery/esa/euclid/tests/data/test_get_product_list.vot', {'NO_IMAGE': 4}),
    ('astroquery/astroquery/alma/tests/data/alma-shapes.xml', {'NO_IMAGE': 5}),
])
def test_recorded_answers_of_other_archives(path, status):
    archive = Path(__file__).parents[2] / 'shared' / 'data' / 'archive-responses.tar.gz'
    if not archive.exists():
        pytest.skip('the recorded answers are not beside the checkout')
    with tarfile.open(archive) as members:
        content = members.extractfile(f'fixtures/{path}').read()
    if path.endswith('.csv'):
        table = Table.read(content.decode(), format='ascii.csv')
    elif path.endswith('.tbl'):
        table = Table.read(content.decode(), format='ascii.ipac')
    else:
        table = parse_single_table(io.BytesIO(content), verify='ignore').to_table()
    assert Counter(references(table).status) == status
