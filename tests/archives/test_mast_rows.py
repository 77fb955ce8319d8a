# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What MAST has and to whom it shows it: rows and products of every kind, logins, the cloud.
"""

import json
from importlib import resources
from urllib.parse import urlsplit

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astroquery.mast import Observations, ObservationsClass

from astroclip_search import ClipSearch, conf
from astroclip_search.exceptions import UnreadImagesWarning
from tests.colours import ColourEncoder, content
from tests.loopback.archive import Archive
from tests.loopback.mast import Mast

ORION = SkyCoord(83.6, -5.4, unit='deg')


# ---- rows as MAST has them ---------------------------------------------------------------


def recorded(name):
    """Rows of an answer that astroquery's own tests have recorded, whose images are ours."""
    answer = json.loads((resources.files('astroquery.mast.tests') / 'data' / name).read_text())
    rows, files = [], {}
    for i, row in enumerate(answer['data']):
        address = urlsplit(row['jpegURL'])
        location = address.path + (f'?{address.query}' if address.query else '')
        rows.append(row | {'jpegURL': location, 'obsid': str(i)})
        files.setdefault(location, content('red' if len(files) % 3 else 'green', 'JPEG')
                         + b'%d' % i)
    return Archive(rows, files)


@pytest.mark.parametrize(('name', 'collections'), [
    ('caom.json', {'HST', 'HLA', 'GALEX'}), ('advSearch.json', {'HST'}),
    ('advSearchPos.json', {'GALEX'})])
def test_recorded_rows_rank_as_they_come(search, serve, name, collections):
    mast = serve(recorded(name))
    # Pictures of one colour are copies.
    best = search.query_criteria('green', criteria={'obs_collection': ['HST', 'HLA', 'GALEX']},
                                 fold_duplicates=False)
    assert len(best) == len(mast.archive)
    assert set(best['obs_collection']) == collections
    assert set(best['clip_status']) == {'OK'}
    assert sorted(mast.downloads()) == sorted(mast.archive.files)  # each once
    green = [location for i, location in enumerate(mast.archive.files) if i % 3 == 0]
    n_green = sum(url.removeprefix(mast.url) in green for url in best['jpegURL'])
    assert all(url.removeprefix(mast.url) in green for url in best['jpegURL'][:n_green])


KINDS = [
    # obs_collection, dataproduct_type, target_name, jpegURL, expected status
    ('HST', 'image', 'M-16', 'mast:HST/product/jdi601010_drz.jpg', 'OK'),
    ('HST', 'image', 'M-16', 'mast:HST/product/hst_15354_01_acs_wfc_total_jdi601_drc.jpg', 'OK'),
    ('JWST', 'image', 'M-16', 'mast:JWST/product/jw02739-o001_t001_nircam_f090w_i2d.jpg', 'OK'),
    ('HLA', 'image', 'M-16', '/cgi-bin/preview.cgi?dataset=hst_05773_01_wfpc2_total_wf', 'OK'),
    ('HLA', 'image', 'M-16', '/cgi-bin/preview.cgi?dataset=hst_05773_01_wfpc2_color_wf', 'OK'),
    ('GALEX', 'image', 'AIS_71_1_74', '/data/GR6/qa/AIS_71_sg74-xd-int_2color.jpg', 'OK'),
    ('PS1', 'image', '0770.034', '/cgi-bin/fitscut.cgi?red=/0770/y.fits&x=245&size=240', 'OK'),
    ('OPO', 'image', 'Pillars', '/static-press/2022/052/01GF423GBQSK6ANC89NTFJW8VM.png', 'OK'),
    ('TESS', 'image', 'TESS FFI', None, 'NO_IMAGE'),
    ('TESS', 'timeseries', '261136679', 'mast:TESS/product/tess2018206045859_lc.png', 'SKIPPED'),
    ('Kepler', 'timeseries', 'kplr8462852', 'mast:KEPLER/url/kplr008462852.png', 'SKIPPED'),
    ('HST', 'spectrum', 'M-16', 'mast:HST/product/o4dd01010_x1d.png', 'SKIPPED'),
    ('JWST', 'spectrum', 'M-16', 'mast:JWST/product/jw01_x1d.png', 'SKIPPED'),
    ('SWIFT', 'cube', 'M-16', 'mast:SWIFT/product/sw1_uv.gif', 'OK'),
]


def test_every_kind_of_row(search, serve):
    rows = [{'obsid': str(i), 'obs_id': f'o{i}', 'obs_collection': collection,
             'dataproduct_type': kind, 'target_name': target, 'jpegURL': url,
             'intentType': 'science', 'dataRights': 'PUBLIC', 's_ra': 274.7, 's_dec': -13.8}
            for i, (collection, kind, target, url, _) in enumerate(KINDS)]
    # Plots and cubes are there, so that looking at them would be noticed.
    mast = serve(Archive(rows, {row['jpegURL']: content('red', 'JPEG') + row['obsid'].encode()
                                for row in rows if row['jpegURL']}))
    table = Observations.query_region(SkyCoord(274.7, -13.8, unit='deg'), radius=0.1)
    best = search.rank(table, 'red')
    status = dict(zip(best['obsid'].tolist(), best['clip_status'].tolist(), strict=True))
    assert [status[str(i)] for i in range(len(KINDS))] == [expected for *_, expected in KINDS]
    assert len(mast.downloads()) == sum(expected == 'OK' for *_, expected in KINDS)
    # The verb itself asks for images only.
    best = search.query_region(SkyCoord(274.7, -13.8, unit='deg'), 'red')
    assert set(best['dataproduct_type']) == {'image'}
    assert set(best['clip_status']) == {'OK', 'NO_IMAGE'}


# ---- product tables ----------------------------------------------------------------------


def test_recorded_products_rank_as_they_come(search, serve, tmp_path):
    from astropy.io import fits

    answer = json.loads((resources.files('astroquery.mast.tests') / 'data' / 'products.json'
                         ).read_text())
    picture = tmp_path / 'picture.fits'
    fits.writeto(picture, np.random.default_rng(1).normal(size=(20, 20)).astype('f4'))
    archive = Archive([{'obsid': '1'}], {row['dataURI']: picture.read_bytes()
                                        for row in answer['data']},
                      products={'1': answer['data']})
    mast = serve(archive)
    products = Observations.get_product_list('1')
    with conf.set_temp('max_bytes', 20_000_000):  # less than the 27 MB of the drz
        best = search.rank(products, 'red')
    assert len(best) == 22
    status = {kind: set(best['clip_status'][best['productType'] == kind])
              for kind in set(best['productType'])}
    assert status == {'AUXILIARY': {'SKIPPED'}, 'SCIENCE': {'OK', 'SKIPPED'}}
    drz = best[best['productSubGroupDescription'] == 'DRZ']
    assert drz['clip_status'].tolist() == ['SKIPPED']
    assert 'conf.max_bytes' in drz['clip_message'][0]
    assert sorted(mast.downloads()) == sorted(best['dataURI'][best['clip_status'] == 'OK'])


def test_products_of_every_kind(search, serve):
    kinds = [('PREVIEW', 'image', 'a_drz.jpg', 'OK'), ('THUMBNAIL', 'image', 'a_thumb.jpg', 'OK'),
             ('PREVIEW', 'image', 'hst_total_drc.jpg', 'OK'),
             ('PREVIEW', 'spectrum', 'a_x1d.png', 'SKIPPED'),
             ('AUXILIARY', 'image', 'a_wht.fits', 'SKIPPED'),
             ('INFO', 'image', 'a_trl.txt', 'SKIPPED'),
             ('SCIENCE', 'image', 'a_asn.json', 'NO_IMAGE')]
    products = [{'productType': product, 'dataproduct_type': kind, 'description': 'a red thing',
                 'dataURI': f'mast:HST/product/{name}'} for product, kind, name, _ in kinds]
    mast = serve(Archive([{'obsid': '1'}], {
        product['dataURI']: content('red', 'JPEG') + b'%d' % i
        for i, product in enumerate(products)}, products={'1': products}))
    best = search.rank(Observations.get_product_list('1'), 'red')
    status = dict(zip(best['productFilename'].tolist(), best['clip_status'].tolist(), strict=True))
    assert status == {name: expected for *_, name, expected in kinds}
    assert len(mast.downloads()) == 3


def test_previews_of_an_observation_picked_by_the_user(search, sky):
    table = Observations.query_criteria(proposal_id='1234', calib_level=[3])
    products = Observations.get_product_list(table)
    previews = Observations.filter_products(products, productType='PREVIEW', extension='jpg')
    best = search.rank(previews, 'green', limit=2, fold_duplicates=False)
    assert sorted(best['obs_id']) == ['p1', 'p3']
    assert best['clip_source'].tolist() == best['dataURI'].tolist()


# ---- who may see what --------------------------------------------------------------------


@pytest.fixture
def vault(serve):
    """A MAST with a public row, a proprietary one, and one of which only the preview is public."""
    rows, files = [], {}
    for i, (name, rights) in enumerate([('public', 'PUBLIC'), ('secret', 'EXCLUSIVE_ACCESS'),
                                        ('preview', 'RESTRICTED')]):
        uri = f'mast:JWST/product/{name}.jpg'
        rows.append({'obsid': str(i), 'obs_id': name, 'obs_collection': 'JWST', 'jpegURL': uri,
                     'dataproduct_type': 'image', 'dataRights': rights})
        files[uri] = content('red', 'JPEG') + b'%d' % i
    return serve(Archive(rows, files, protected=['mast:JWST/product/secret.jpg']), token='s3cret')


def test_proprietary_rows_are_denied(search, vault):
    with pytest.warns(UnreadImagesWarning, match='1 of 3 images could not be read'):
        best = search.query_criteria('red', criteria={'obs_collection': 'JWST'})
    status = dict(zip(best['obs_id'].tolist(), best['clip_status'].tolist(), strict=True))
    assert status == {'public': 'OK', 'preview': 'OK', 'secret': 'DENIED'}
    assert best['clip_message'][2] == 'HTTP 401: access denied'
    assert vault.tokens == []


def test_login_of_the_user_serves_for_images_too(vault, tmp_path):
    mine = ObservationsClass(mast_token='s3cret')
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine)
    best = search.query_criteria('red', criteria={'obs_collection': 'JWST'})
    assert best['clip_status'].tolist() == ['OK'] * 3
    assert ('mast:JWST/product/secret.jpg', 's3cret') in vault.tokens
    assert all(search.get_images(best))
    assert 's3cret' not in ' '.join(best.pformat(max_width=-1)) + str(best.meta)
    assert 's3cret' not in str(search.gallery(best)._repr_html_())
    # What was learnt with the token does not outlive it in another cache.
    mine.logout()
    other = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'other', mast=mine)
    with pytest.warns(UnreadImagesWarning):
        other.query_criteria('red', criteria={'obs_collection': 'JWST'})


def test_login_of_the_module_level_instance(search, vault):
    Observations.login('s3cret')
    try:
        best = search.query_criteria('red', criteria={'obs_collection': 'JWST'})
    finally:
        Observations.logout()
    assert best['clip_status'].tolist() == ['OK'] * 3


def test_wrong_token(vault, tmp_path):
    mine = ObservationsClass()
    mine._session.cookies['mast_token'] = 'wrong'
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine)
    with pytest.warns(UnreadImagesWarning, match='1 of 3'):
        search.query_criteria('red', criteria={'obs_collection': 'JWST'})


def test_token_is_for_mast_only(vault, tmp_path):
    mine = ObservationsClass(mast_token='s3cret')
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine)
    with Mast(Archive([], {'/other.jpg': content('green', 'JPEG'),
                           '/moved.jpg': content('red', 'JPEG')})) as stranger:
        vault.faults['public'] = f'redirect:{stranger.url}/moved.jpg'
        table = Observations.query_criteria(obs_collection='JWST')
        table['jpegURL'] = [*table['jpegURL'][:2], f'{stranger.url}/other.jpg']
        with conf.set_temp('private_hosts', [stranger.url[7:]]):
            best = search.rank(table, 'red')
        assert best['clip_status'].tolist() == ['OK'] * 3
        assert sorted(stranger.downloads()) == ['/moved.jpg', '/other.jpg']
        assert stranger.tokens == []
    assert {what for what, _ in vault.tokens if what.startswith('mast:')} == {
        'mast:JWST/product/public.jpg', 'mast:JWST/product/secret.jpg'}


def test_example_that_is_private(vault, tmp_path):
    mine = ObservationsClass(mast_token='s3cret')
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine)
    best = search.query_image('mast:JWST/product/secret.jpg', criteria={'obs_collection': 'JWST'})
    assert best['clip_status'].tolist() == ['OK'] * 3


# ---- the cloud ---------------------------------------------------------------------------


class Forbidden:
    """A cloud connection whose use would be noticed."""

    def __getattr__(self, name):
        raise AssertionError(f'the cloud was asked: {name}')


def test_cloud_is_not_asked(sky, tmp_path):
    mine = ObservationsClass()
    mine._cloud_connection = Forbidden()
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine)
    best = search.query_text('red disk')
    assert best['clip_status'].tolist() == ['OK', 'OK']
    assert len(sky.downloads()) == 2


def test_cloud_of_astroquery_is_harmless(sky, tmp_path):
    pytest.importorskip('boto3')
    mine = ObservationsClass()
    mine.enable_cloud_dataset(verbose=False)
    best = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine).query_text('red disk')
    assert best['clip_status'].tolist() == ['OK', 'OK']
    assert len(sky.downloads()) == 2
