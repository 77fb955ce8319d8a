# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that ask MAST, as a user meets them, over real HTTP.
"""

import json
from importlib import resources
from urllib.parse import urlsplit

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astroquery.exceptions import (
    BlankResponseWarning,
    InputWarning,
    InvalidQueryError,
    LargeQueryWarning,
    NoResultsWarning,
    RemoteServiceError,
    ResolverError,
)
from astroquery.mast import Observations, ObservationsClass

from astroclip_search import ClipSearch, conf
from tests.colours import ColourEncoder, content, picture
from tests.loopback.archive import Archive
from tests.loopback.mast import Mast

ORION = SkyCoord(83.6, -5.4, unit='deg')


def ids(table):
    return sorted(table['obs_id'])


def test_query_text_with_a_bare_phrase(search, sky):
    best = search.query_text('red disk')
    assert best['obs_id'].tolist() == ['p0', 'p1']  # public, calibrated, HST and JWST
    assert best.meta['clip']['selection'] == 'MAST rows with obs_title=*disk*'
    assert best.meta['clip']['n_rows'] == 2
    assert best.meta['clip']['query'] == ['red disk']


def test_query_text_settings_and_criteria(search, sky):
    with (conf.set_temp('mast_collections', ['GALEX', 'HST']),
          conf.set_temp('mast_calib_levels', [1])):
        assert ids(search.query_text('protoplanetary')) == ['raw']
    assert ids(search.query_text('protoplanetary', dataRights='EXCLUSIVE_ACCESS')) == ['secret']
    assert ids(search.query_text('star', instrument_name='WFC3', obs_collection='GALEX')) == ['p4']


def test_query_text_several_phrases_and_limit(search, sky):
    best = search.query_text(['red tidal tail', 'red disk'], limit=2)
    assert len(best) == 2
    assert best.meta['clip']['n_rows'] == 3
    assert all('red' in url for url in best['jpegURL'])


def test_query_text_without_results(search, sky):
    with pytest.warns(NoResultsWarning) as caught:
        best = search.query_text('red', obs_collection='TESS')
    assert 'clip_rank' in best.colnames
    assert len(best) == 0
    assert {warning.category for warning in caught} == {NoResultsWarning}


def test_query_text_at_a_position(search, sky):
    best = search.query_text('green', coordinates=ORION, radius='3 arcmin')
    assert best['obs_id'][0] == 'p1'
    assert 'p3' not in best['obs_id']
    assert best.meta['clip']['selection'] == (
        'MAST images within 3 arcmin of 05h34m24.0s -05d24m00.0s')


def test_query_text_at_an_object(search, sky):
    best = search.query_text('green', object_name='M 42', obs_collection='JWST')
    assert ids(best) == ['p1']
    assert best.meta['clip']['selection'] == 'MAST images within 0.2 deg of M 42'
    assert best.meta['clip']['query'] == ['green']


@pytest.mark.parametrize('radius', [0.1 * u.deg, '0.1d', 0.1, None])
def test_query_region(search, sky, radius):
    best = search.query_region(ORION, 'green', radius=radius, calib_level=[3])
    assert best['obs_id'][0] == 'p1'
    assert ids(best) == ['p0', 'p1', 'p2', 'secret']


def test_query_region_in_words(search, sky):
    with pytest.warns(InputWarning, match='ICRS'):
        best = search.query_region('83.6 -5.4', 'green', radius=0.1)
    assert best['obs_id'][0] == 'p1'
    assert best.meta['clip']['selection'] == 'MAST images within 0.1 deg of 83.6 -5.4'


def test_query_object(search, sky):
    best = search.query_object('M42', 'green', limit=1)
    assert best['obs_id'].tolist() == ['p1']


def test_unknown_object(search, sky):
    with pytest.raises(ResolverError):
        search.query_object('no such thing', 'green')


def test_query_criteria(search, sky):
    best = search.query_criteria('red', instrument_name='WFC3', obs_collection='HST')
    assert best['obs_id'].tolist() == ['p2', 'p3']
    assert best.meta['clip']['selection'] == (
        'MAST rows with instrument_name=WFC3, obs_collection=HST')


def test_unknown_criterion(search, sky):
    with pytest.raises(InvalidQueryError, match='hue'):
        search.query_criteria('red', hue='red')
    with pytest.raises(InvalidQueryError, match='at least one criterion'):
        search.query_criteria('red')


@pytest.mark.parametrize('call', [
    lambda search: search.query_text(''),
    lambda search: search.query_text('red', limit=0),
    lambda search: search.query_text('red', by='pixels'),
    lambda search: search.query_text('red', negative=''),
    lambda search: search.query_text('red', radius=0.1),
    lambda search: search.query_text('red', coordinates=ORION, object_name='M 42'),
    lambda search: search.query_text('red', coordinates=ORION, radius='wide'),
    lambda search: search.query_region(None, 'red'),
    lambda search: search.query_region(ORION, ' '),
    lambda search: search.query_object('M 42', 'red', limit=-1),
    lambda search: search.query_object('M 42', 'red', radius=-1),
    lambda search: search.query_criteria(None, obs_collection='HST'),
    lambda search: search.query_criteria('red', obs_collection='HST', max_images=-1),
    lambda search: search.query_criteria('red', obs_collection='HST', weights={'size': 1}),
    lambda search: search.query_criteria(obs_collection='HST', by='text', like=picture('red')),
])
def test_bad_arguments_are_found_before_anything_is_asked(search, sky, call):
    with pytest.raises(InvalidQueryError):
        call(search)
    assert sky.log == []


def test_instance_of_the_user_is_asked(sky, tmp_path):
    class Mine(ObservationsClass):
        asked = 0

        def query_criteria(self, **criteria):
            self.asked += 1
            return Table({'obsid': ['1'], 'jpegURL': ['mast:HST/product/p0_red.jpg'],
                          'obs_title': ['Mine']})

    mine = Mine()
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine)
    best = search.query_text('red disk')
    assert (mine.asked, best['obs_title'].tolist()) == (4, ['Mine'])  # two words in two columns
    assert sky.downloads() == ['mast:HST/product/p0_red.jpg']


def test_rows_of_every_kind(search, mast):
    with pytest.warns(BlankResponseWarning, match='1 of 11'):
        best = search.query_criteria('red', obs_collection=['HST', 'HLA'])
    assert best['clip_status'].tolist().count('OK') == 9
    assert any(source.startswith('http://') for source in best['clip_source'])


def test_options_of_rank_and_criteria_are_told_apart(search, sky):
    best = search.query_criteria('red', by='text', limit=1, negative='green', cache=False,
                                 show_progress=False, calib_level=[3], obs_collection='HST')
    assert len(best) == 1
    assert (best.meta['clip']['by'], best.meta['clip']['negative']) == ('text', ['green'])
    assert best.meta['clip']['selection'] == 'MAST rows with calib_level=[3], obs_collection=HST'
    assert sky.downloads() == []
    with pytest.warns(LargeQueryWarning, match='only the 1 whose'):
        best = search.query_text('red disk', max_images=1)
    assert len(sky.downloads()) == 1


def test_subclass_with_further_options(sky, tmp_path):
    class Mine(type(ClipSearch)):
        def rank(self, results, text=None, *, mood=None, **options):
            ranked = super().rank(results, text, **options)
            ranked.meta['mood'] = mood
            return ranked

    best = Mine(encoder=ColourEncoder(), cache_dir=tmp_path).query_criteria(
        'red', mood='good', obs_collection='HST')
    assert best.meta['mood'] == 'good'


def test_positional_criteria_of_astroquery(search, sky):
    best = search.query_criteria('green', coordinates=ORION, radius='3 arcmin', calib_level=[3])
    assert ids(best) == ['p0', 'p1', 'p2', 'secret']


def test_resolver_of_the_user(search, sky):
    assert ids(search.query_object('M42', 'green', resolver='SIMBAD', obs_collection='JWST')) == [
        'p1']


def test_more_rows_than_wanted(search, sky):
    with (conf.set_temp('mast_max_rows', 2),
          pytest.warns(LargeQueryWarning, match='has 4 such rows: only the first 2') as caught):
        assert len(search.query_region(ORION, 'red', calib_level=[3])) == 2
    assert caught[0].filename == __file__
    with (conf.set_temp('mast_max_rows', 1),
          pytest.warns(LargeQueryWarning, match='MAST has 3 such rows: only the first 1')):
        assert len(search.query_criteria('red', obs_collection='HST', calib_level=[3],
                                         dataRights='PUBLIC')) == 1
    with conf.set_temp('mast_max_rows', 1):
        best = search.query_text('red disk')
    assert best.meta['clip']['selection'] == 'MAST rows with the first 1 with obs_title=*disk*'


def test_one_of_several_queries_fails(search, sky):
    sky.faults['obs_title=%red%'] = 'status:503'
    with (conf.set_temp('retries', 0),
          pytest.warns(BlankResponseWarning, match='1 of 4 queries') as caught):
        best = search.query_text('red disk')
    assert best['obs_id'].tolist() == ['p0', 'p1']
    assert caught[0].filename == __file__


@pytest.mark.parametrize('call', [
    lambda search: search.query_text('red disk'),
    lambda search: search.query_region(ORION, 'red'),
    lambda search: search.query_object('M42', 'red'),
    lambda search: search.query_criteria('red', obs_collection='HST'),
])
def test_half_dead_server(search, sky, call):
    sky.faults['Mast.Caom'] = 'status:503'
    with conf.set_temp('retries', 0), pytest.raises(RemoteServiceError, match='HTTP 503'):
        call(search)
    sky.clear()
    sky.faults['Mast.Caom'] = 'status:503*1'
    assert len(call(search))


def test_real_rows(search, jwst_mast):
    obs = Observations.query_criteria(obs_collection='JWST')
    best = search.rank(obs[:40], 'red', limit=5)
    assert best['clip_status'].tolist() == ['OK'] * 5
    assert best.colnames[:len(obs.colnames)] == obs.colnames


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
    best = search.query_criteria('green', obs_collection=['HST', 'HLA', 'GALEX'])
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
    best = search.rank(previews, 'green', limit=2)
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
    with pytest.warns(BlankResponseWarning, match='1 of 3 images could not be read'):
        best = search.query_criteria('red', obs_collection='JWST')
    status = dict(zip(best['obs_id'].tolist(), best['clip_status'].tolist(), strict=True))
    assert status == {'public': 'OK', 'preview': 'OK', 'secret': 'DENIED'}
    assert best['clip_message'][2] == 'HTTP 401: access denied'
    assert vault.tokens == []


def test_login_of_the_user_serves_for_images_too(vault, tmp_path):
    mine = ObservationsClass(mast_token='s3cret')
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine)
    best = search.query_criteria('red', obs_collection='JWST')
    assert best['clip_status'].tolist() == ['OK'] * 3
    assert ('mast:JWST/product/secret.jpg', 's3cret') in vault.tokens
    assert all(search.get_images(best))
    assert 's3cret' not in ' '.join(best.pformat(max_width=-1)) + str(best.meta)
    assert 's3cret' not in str(search.gallery(best)._repr_html_())
    # What was learnt with the token does not outlive it in another cache.
    mine.logout()
    other = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'other', mast=mine)
    with pytest.warns(BlankResponseWarning):
        other.query_criteria('red', obs_collection='JWST')


def test_login_of_the_module_level_instance(search, vault):
    Observations.login('s3cret')
    try:
        best = search.query_criteria('red', obs_collection='JWST')
    finally:
        Observations.logout()
    assert best['clip_status'].tolist() == ['OK'] * 3


def test_wrong_token(vault, tmp_path):
    mine = ObservationsClass()
    mine._session.cookies['mast_token'] = 'wrong'
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine)
    with pytest.warns(BlankResponseWarning, match='1 of 3'):
        search.query_criteria('red', obs_collection='JWST')


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


# ---- example images ----------------------------------------------------------------------


def test_image_like_rows_of_a_table(search, sky):
    table = Observations.query_criteria(proposal_id='1234', dataproduct_type='image')
    sky.clear()
    best = search.query_image(picture('green'), table, limit=2)
    assert sorted(best['obs_id']) == ['p1', 'p3']
    assert sky.queries == []
    assert 'selection' not in best.meta['clip']


def test_image_at_a_position(search, sky):
    best = search.query_image(picture('green'), coordinates=ORION, radius='3 arcmin',
                              calib_level=[3])
    assert best['obs_id'][0] == 'p1'
    assert ids(best) == ['p0', 'p1', 'p2', 'secret']
    assert best.meta['clip']['selection'].startswith('MAST images within 3 arcmin')
    best = search.query_image(picture('red'), object_name='M42', obs_collection='HST', limit=1)
    assert len(best) == 1


def test_image_with_criteria_and_with_words(search, sky):
    best = search.query_image(picture('green'), obs_collection='HST', instrument_name='WFC3')
    assert best['obs_id'].tolist() == ['p3', 'p2']
    best = search.query_image([picture('green'), picture('green')], text='red disk')
    assert ids(best) == ['p0', 'p1']
    assert best.meta['clip']['selection'] == 'MAST rows with obs_title=*disk*'


def test_example_that_mast_has(search, sky):
    example = Observations.query_criteria(obs_id='p1')
    best = search.query_image(example[0], proposal_id='1234', calib_level=[3])
    assert best['obs_id'][0] == 'p1'


def test_example_that_is_private(vault, tmp_path):
    mine = ObservationsClass(mast_token='s3cret')
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path, mast=mine)
    best = search.query_image('mast:JWST/product/secret.jpg', obs_collection='JWST')
    assert best['clip_status'].tolist() == ['OK'] * 3


def test_verbs_take_examples_in_place_of_a_phrase(search, sky):
    best = search.query_region(ORION, like=picture('green'), calib_level=[3], limit=1)
    assert best['obs_id'].tolist() == ['p1']
    best = search.query_object('M42', like=picture('green'), calib_level=[3], limit=1)
    assert best['obs_id'].tolist() == ['p1']
    best = search.query_criteria(like=picture('green'), obs_collection='JWST')
    assert best['obs_id'].tolist() == ['p1']


@pytest.mark.parametrize(('options', 'message'), [
    ({}, 'Say where to look for images like this one: give results, coordinates'),
    ({'radius': 0.1}, 'A radius needs coordinates or object_name'),
    ({'results': Table({'jpegURL': ['mast:a.jpg']}), 'obs_collection': 'HST'}, 'obs_collection'),
    ({'results': Table({'jpegURL': ['mast:a.jpg']}), 'object_name': 'M42'}, 'object_name'),
    ({'text': '', 'obs_collection': 'HST'}, 'text has no word'),
    ({'hue': 'red'}, 'hue'),
])
def test_image_without_a_place_to_look(search, sky, options, message):
    with pytest.raises(InvalidQueryError, match=message):
        search.query_image(picture('green'), **options)
    assert sky.queries == []


@pytest.mark.parametrize('call', [
    lambda search: search.query_region(ORION), lambda search: search.query_object('M42'),
    lambda search: search.query_criteria(obs_collection='HST'),
])
def test_neither_phrase_nor_example(search, sky, call):
    with pytest.raises(InvalidQueryError, match='text'):
        call(search)
    assert sky.log == []
