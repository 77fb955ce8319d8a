# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The tables of other services rank as they come: as the user guide says, on recorded answers.
"""

import io
import json
import re
import tarfile
from collections import Counter
from functools import cache
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Table

from astroclip_search import conf
from astroclip_search.archives.columns import TableColumns
from astroclip_search.archives.open import open_results
from astroclip_search.archives.tables import has_images, image_refs
from astroclip_search.archives.url_builders import SERVICES, addresses
from tests.archives.rows import message, status

CHECKOUT = Path(__file__).parents[2]
GUIDE = CHECKOUT / 'docs' / 'user_guide' / 'archives.rst'
RECORDED = CHECKOUT.parent / 'shared' / 'data' / 'archive-responses.tar.gz'


CADC = 'datalink:https://ws.cadc-ccda.hia-iha.nrc-cnrc.gc.ca/caom2ops/datalink'


@cache
def guide():
    """Lines of the table of the user guide, each a list of cells."""
    text = GUIDE.read_text(encoding='utf-8').partition('.. _archives-services:')[2]
    rows = re.split(r'\n   \* - ', text)[2:]
    return [[' '.join(cell.split()) for cell in re.split(r'\n     - ', row.partition('\n\n')[0])]
            for row in rows]


def literals(cell):
    return set(re.findall('``(.*?)``', cell))


@cache
def content(path):
    """A recorded answer out of the installed package, or out of the archive of such answers."""
    package, _, rest = path.partition('/')
    installed = resources.files(package) / rest
    if installed.is_file():
        return installed.read_bytes()
    if not RECORDED.exists():
        pytest.skip(f'{path} is not in this version, and the recorded answers are not beside '
                    'the checkout')
    with tarfile.open(RECORDED) as members:
        return members.extractfile(f'fixtures/{package}/{path}').read()


def recorded(path):
    answer = content(path)
    if path.endswith('.json'):
        rows = json.loads(answer)
        return Table(rows=rows.get('data') or rows.get('products'))
    if path.endswith('.html'):
        from astroquery.skyview import SkyView

        return open_results(SkyView._parse_response(SimpleNamespace(
            content=answer, url='https://skyview.example/cgi/images')))[0]
    if path.endswith('.tbl'):
        return Table.read(answer.decode(), format='ascii.ipac')
    if path.endswith('alma-onerow.txt'):
        return Table.read(answer.decode(), format='ascii')
    if path.endswith(('.csv', '.txt')):
        return Table.read(answer.decode(), format='ascii.csv', comment='#')
    return parse_single_table(io.BytesIO(answer), verify='ignore').to_table()


OF_CARDS = ('collection', 'facility', 'instrument', 'filters', 'observation', 'proposal',
            'investigator', 'start', 'exposure', 'page', 'data')


def recognised(table):
    """Names of the columns that decide over image and metadata, beyond what cards show."""
    known = addresses(TableColumns(table))
    return {name for role, names in TableColumns(table).roles.items() for name in names
            if role not in OF_CARDS} | set(known[0] if known else ())


def test_guide_is_a_table_of_five_columns():
    assert len(guide()) > 20
    assert {len(row) for row in guide()} == {5}
    assert {service.name for service in SERVICES} <= {
        name for row in guide() for name in re.findall(r'astroquery\.([a-z.0]+)', row[1])}


@pytest.mark.parametrize('row', guide(), ids=lambda row: row[0])
def test_guide_names_the_columns_that_are_recognised(row):
    columns, paths = literals(row[2]), literals(row[4])
    if paths:
        table = recorded(*paths)
    else:  # a table as the source of the client says that it is
        table = Table({name: ['a'] for name in columns})
        if 'publisherID' in columns:
            table['publisherID'] = ['ivo://cadc.nrc.ca/HST?a']
    assert recognised(table) == columns
    assert has_images(table) == bool(columns)


@pytest.mark.parametrize(('path', 'statuses'), [
    ('astroquery/mast/tests/data/caom.json', {'': 19}),
    ('astroquery/mast/tests/data/products.json', {'SKIPPED': 15, '': 7}),
    ('astroquery/mast/tests/data/mission_products.json', {'ERROR': 5}),
    ('astroquery/esa/hubble/tests/data/cone_search_m31_5.vot', {'': 1872, 'SKIPPED': 128}),
    ('astroquery/esa/hubble/tests/data/cone_search.vot', {'': 299, 'SKIPPED': 18}),
    ('astroquery/esa/euclid/tests/data/test_get_product_list.vot', {'NO_IMAGE': 4}),
    ('astroquery/eso/tests/data/query_coll_vvv_sgra.csv', {'SKIPPED': 26, '': 24}),
    ('astroquery/eso/tests/data/query_main_sgra.csv', {'SKIPPED': 23}),
    ('astroquery/eso/tests/data/query_apex_ql_5.csv', {'NO_IMAGE': 5}),
    ('astroquery/alma/tests/data/alma-onerow.txt', {'NO_IMAGE': 1}),
    ('astroquery/alma/tests/data/alma-datalink.xml', {'SKIPPED': 7, 'NO_IMAGE': 2}),
    ('astroquery/alma/tests/data/alma-datalink-recurse-this.xml', {'': 2, 'SKIPPED': 4,
                                                                   'NO_IMAGE': 2}),
    ('astroquery/alma/tests/data/alma-datalink-recurse-aux.xml', {'SKIPPED': 48}),
    ('astroquery/ipac/irsa/tests/data/most_full_results.tbl', {'': 12}),
    ('pyvo/dal/tests/data/datalink/datalink-obscore.xml', {'': 3}),
    ('astroquery/casda/tests/data/cone.xml', {'': 1, 'SKIPPED': 2}),
    ('astroquery/casda/tests/data/datalink_noaccess.xml', {'DENIED': 1}),
    ('astroquery/skyview/tests/data/results.html', {'': 3}),
    ('astroquery/sdss/tests/data/xid_im.txt', {'NO_IMAGE': 18}),
    ('pyvo/dal/tests/data/sia/dataset.xml', {'': 2}),
    ('pyvo/dal/tests/data/sia2/dataset.xml', {'': 1}),
    ('pyvo/dal/tests/data/tap/obscore-image.xml', {'SKIPPED': 10}),
    ('pyvo/dal/tests/data/ssa/result.xml', {'SKIPPED': 36}),
    ('pyvo/dal/tests/data/datalink/datalink-ssa.xml', {'SKIPPED': 1}),
])
def test_status_of_the_rows_of_a_recorded_answer(path, statuses):
    found = image_refs(recorded(path))
    assert Counter(status(found)) == statuses
    assert all(said for said, state in zip(message(found), status(found), strict=True) if state)


def test_postcard_is_the_one_that_the_client_asks_for(monkeypatch):
    from astroquery.esa import utils
    from astroquery.esa.hubble import ESAHubbleClass

    asked = []
    monkeypatch.setattr(utils.utils, 'download_file', lambda **options: asked.append(options))
    client = ESAHubbleClass(show_messages=False)
    client._tap = SimpleNamespace(_session=None)
    client.get_postcard('j6mf16lhq', calibration_level=None, resolution=1024)
    source = image_refs(Table({'observation_id': ['j6mf16lhq', 'x'],
                               'collection': ['HST', 'other']})).sources
    assert source == [f'{asked[0]["url"]}' + '&'.join(
        f'{name}={value}' for name, value in asked[0]['params'].items()), None]


def test_product_of_jwst_is_the_one_that_the_client_asks_for():
    from astroquery.esa.jwst import conf as jwst

    table = Table({'artifactid': ['a1', 'a2', 'a3', 'a4'],
                   'filename': ['a_thumb.jpg', 'a_i2d.fits', 'a.txt', 'b.fits'],
                   'contenttype': ['image/jpeg', 'application/fits', 'text/plain', ''],
                   'producttype': ['thumbnail', 'science', 'science', 'auxiliary']})
    found = image_refs(table)
    assert found.sources[:3] == [
        f'{jwst.JWST_DATA_SERVER}RETRIEVAL_TYPE=PRODUCT&TAPCLIENT=ASTROQUERY&ARTIFACTID={name}'
        for name in ('a1', 'a2')] + [None]
    assert status(found) == ['', '', 'ERROR', 'SKIPPED']


def test_files_of_noirlab():
    table = Table({'md5sum': ['0a', '0b', '0c'], 'filesize': [1000, 10**9, 1000],
                   'archive_filename': ['/net/archive/a.fits.fz'] * 3,
                   'prod_type': ['image', 'image', 'dqmask']})
    found = image_refs(table)
    assert found.sources[0] == 'https://astroarchive.noirlab.edu/api/retrieve/0a/'
    assert status(found) == ['', 'SKIPPED', 'SKIPPED']
    assert 'conf.max_bytes' in message(found)[1]


def test_links_of_cadc():
    table = Table({'publisherID': ['ivo://cadc.nrc.ca/HST?a/b c', 'ivo://else/x', ''],
                   'dataProductType': ['image'] * 3})
    found = image_refs(table)
    assert found.sources == [
        CADC + '?ID=ivo%3A%2F%2Fcadc.nrc.ca%2FHST%3Fa%2Fb+c', None, None]
    assert found.has_links


def test_identifiers_that_are_no_text_of_any_standard():
    table = Table({'md5sum': np.array(['\ud800/../x'], dtype=object),
                   'archive_filename': ['a.fits']})
    assert image_refs(table).sources == ['https://astroarchive.noirlab.edu/api/retrieve/%3F%2F..%2Fx/']


def test_hubble_table_of_spectra_and_metadata():
    found = image_refs(recorded('astroquery/esa/hubble/tests/data/cone_search.vot'))
    assert found.metadata[0] == ('M31, Demographics of Nuclear Black Holes, '
                              'BROAD_CATEGORY=GALAXY|TARGET_DESCRIP=GALAXY;SPIRAL')


def test_products_of_mast_that_are_too_large():
    table = recorded('astroquery/mast/tests/data/products.json')
    with conf.set_temp('max_bytes', 6_000_000):
        found = image_refs(table)
    assert Counter(status(found)) == {'SKIPPED': 18, '': 4}


def test_lists_of_images_of_a_client():
    hdus = [fits.HDUList([fits.PrimaryHDU(np.eye(4) * i)]) for i in (1, 2)]
    assert status(open_results(hdus)[1]) == ['', '']
    assert len(open_results(np.zeros((4, 4, 3), dtype='u1'))[0]) == 1
