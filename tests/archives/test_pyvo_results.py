# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Results of the Virtual Observatory, as pyvo gives them -> where the image of each row is.
"""

import io
import warnings
from importlib import resources

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import votable
from astropy.table import Column, MaskedColumn, QTable, Table
from astroquery.exceptions import InputWarning, InvalidQueryError
from pyvo import dal
from pyvo.dal.adhoc import DatalinkResults
from pyvo.utils.prototype import PrototypeWarning

from astroclip_search import conf
from astroclip_search.archives.columns import TableColumns
from astroclip_search.archives.footprints import places
from astroclip_search.archives.hips import SERVER
from astroclip_search.archives.open import open_results
from tests.archives.rows import message, states, status
from tests.loopback.vo import Dataset, Vo

FITS, JPEG = 'http://archive.example/a.fits', 'http://archive.example/a.jpg'


def recorded(cls, *path):
    """A result of pyvo, from an answer that it ships with for its own tests."""
    content = resources.files('pyvo.dal.tests').joinpath('data', *path).read_bytes()
    return cls(votable.parse(io.BytesIO(content), verify='ignore'),
               url='http://user:secret@service.example:8080/sia?POS=1')


# ---- recorded answers --------------------------------------------------------------------


def test_sia1():
    table, found = open_results(recorded(dal.SIAResults, 'sia', 'dataset.xml'))
    assert states(found)[0] == ('http://example.com/querydata/image.fits', '')
    assert found.metadata[0] == 'Test, Test Observation'
    assert found.trusted == {'service.example:8080'}
    assert table['accsize'][0] == 153280


def test_sia2_with_datalink_as_access_url():
    table, found = open_results(recorded(dal.SIA2Results, 'sia2', 'dataset.xml'))
    assert found.has_links
    source, = found.sources
    address, _, circle = source.partition('#circle=')
    assert address == f'datalink:{table["access_url"][0]}'
    assert circle == '253.063701,69.948534,0.1'


def test_obscore_with_files_that_are_too_large():
    table, found = open_results(recorded(dal.TAPResults, 'tap', 'obscore-image.xml'))
    assert set(status(found)) == {'SKIPPED'}
    assert 'conf.max_bytes' in message(found)[0]
    with conf.set_temp('max_bytes', 10**9):
        _, found = open_results(recorded(dal.TAPResults, 'tap', 'obscore-image.xml'))
    assert states(found) == [(url, '') for url in table['access_url']]


@pytest.mark.parametrize('path', [('ssa', 'result.xml'), ('datalink', 'datalink-ssa.xml')])
def test_spectra_are_skipped(path):
    _, found = open_results(recorded(dal.SSAResults, *path))
    assert set(status(found)) == {'SKIPPED'}
    assert set(message(found)) == {'not an image: a spectrum'}


def test_links_of_one_dataset():
    table, found = open_results(recorded(DatalinkResults, 'datalink', 'proc.xml'))
    assert dict(zip(table['semantics'], status(found), strict=True)) == {
        '#proc': 'SKIPPED', '#this': 'SKIPPED', '#preview-image': '', '#preview': '',
        'urn:example:rdf/dlext#oracle': 'SKIPPED'}
    assert 'conf.max_bytes' in message(found)[1]


# ---- services that results describe ------------------------------------------------------


@pytest.fixture
def centre():
    """A data centre with a row of each kind."""
    url = 'http://archive.example/'
    with Vo([
            Dataset('linked'), Dataset('fits', access='fits'), Dataset('jpg', access='jpg'),
            Dataset('large', access='fits', changes={'access_estsize': 10**6}),
            Dataset('preview', access='fits', changes={'preview': url + 'p.fits?preview=True'}),
            Dataset('spectrum', access='fits', changes={'dataproduct_type': 'spectrum'}),
            Dataset('text', access='txt'), Dataset('anonymous', access='fits',
                                                   changes={'obs_publisher_did': ''})]) as vo:
        yield vo


def query(vo):
    return dal.TAPService(f'{vo.url}/tap').run_sync('SELECT * FROM ivoa.obscore')


def by_name(table, refs):
    return {name: (source.replace('%3A', ':').replace('%2F', '/') if source else source, status)
            for name, (source, status) in zip(table['target_name'], states(refs), strict=True)}


def test_rows_without_a_preview_get_links(centre):
    table, found = open_results(query(centre))
    files = centre.url + '/files/'
    links = f'datalink:{centre.url}/links?ID=ivo://vo.example/~%3F'
    circle = '#circle=10.0,-5.0,0.025'
    assert by_name(table, found) == {
        'linked': (f'datalink:{centre.url}/links?ID=ivo://vo.example/~%3Flinked{circle}', ''),
        'fits': (f'{links}fits{circle}#else={files}fits.fits', ''),
        'jpg': (files + 'jpg.jpg', ''),
        'large': (f'{links}large{circle}', ''),
        'preview': ('http://archive.example/p.fits?preview=True', ''),
        'spectrum': (files + 'spectrum.fits', 'SKIPPED'),
        'text': (f'{links}text{circle}', ''),
        'anonymous': (files + 'anonymous.fits', '')}
    assert found.trusted == {centre.url.removeprefix('http://')}
    assert set(message(found)) == {'', "not an image: dataproduct_type is 'spectrum'"}


def test_result_that_describes_no_service(centre):
    centre.describes_links = False
    table, found = open_results(query(centre))
    states = by_name(table, found)
    assert states['fits'] == (centre.url + '/files/fits.fits', '')
    assert states['large'][1] == 'SKIPPED'
    assert states['text'] == (None, 'NO_IMAGE')


def test_result_without_the_column_that_identifies_rows(centre):
    for dataset in centre.datasets:
        dataset.changes = {}
    body = centre.obscore
    centre.obscore = lambda item: {name: value for name, value in body(item).items()
                                   if name != 'obs_publisher_did'}
    table, found = open_results(query(centre))
    assert by_name(table, found)['fits'] == (centre.url + '/files/fits.fits', '')


# ---- where cutouts are made --------------------------------------------------------------


def linked(**columns):
    n = len(next(iter(columns.values())))
    return Table({'access_url': [f'https://a.example/links?ID={i}' for i in range(n)],
                  'access_format': ['application/x-votable+xml;content=datalink'] * n, **columns})


def circles(table, **options):
    _, found = open_results(table, **options)
    return [tuple(map(float, source.partition('#circle=')[2].split(',')))
            if '#circle=' in source else None for source in found.sources]


def test_cutouts_around_the_centre_of_each_row():
    table = linked(s_ra=[10.0, 20.0, 30.0, np.nan, 50.0], s_dec=[-1.0, 2.0, 3.0, 4.0, 95.0],
                   s_fov=[0.05, 3.0, np.nan, 1.0, 1.0])
    assert circles(table) == [(10, -1, 0.025), (20, 2, 0.1), (30, 3, 0.01), None, None]
    assert circles(table, cutout=(None, 0.04)) == [
        (10, -1, 0.02), (20, 2, 0.02), (30, 3, 0.02), None, None]
    assert circles(table, cutout=(None, '2 deg'))[:2] == [(10, -1, 0.025), (20, 2, 1)]


def test_cutouts_around_a_position_that_the_row_reaches():
    table = linked(s_ra=[10.0, 10.0, 200.0, np.nan], s_dec=[0.0, 0.0, 0.0, 0.0],
                   s_fov=[2.0, np.nan, 2.0, 2.0])
    where = SkyCoord(10.5 * u.deg, 0 * u.deg).galactic
    assert circles(table, cutout=(where, 0.04 * u.deg)) == [
        (10.5, 0, 0.02), (10.5, 0, 0.02), (200, 0, 0.02), (10.5, 0, 0.02)]
    assert circles(table, cutout=(where, None))[0] == (10.5, 0, 0.1)


def test_sia1_says_how_large_images_are():
    pixels = np.empty(5, dtype=object)
    pixels[:] = [np.ma.array([100, 300]), [100, 100], 'large', np.ma.masked_all(2), []]
    table = linked(ra=[10.0] * 5, dec=[0.0] * 5, n=pixels, scale=[[-0.001, 0.001]] * 5)
    table['n'].meta['ucd'] = 'VOX:Image_Naxis'
    table['scale'].meta['ucd'] = 'VOX:Image_Scale'
    np.testing.assert_allclose(places(TableColumns(table)).size, [0.3, 0.1, np.nan, np.nan, np.nan])
    where = SkyCoord(10.1 * u.deg, 0 * u.deg)
    assert circles(table, cutout=(where, None))[:2] == [(10.1, 0, 0.1), (10, 0, 0.05)]


def test_cutout_around_a_position_in_words():
    table = linked(s_ra=[10.0], s_dec=[0.0], s_fov=[2.0])
    with pytest.warns(InputWarning, match='ICRS'):
        assert circles(table, cutout=['0h42m 0d', '2 arcmin']) == [(10.5, 0, 0.016667)]


@pytest.mark.parametrize(('cutout', 'match'), [
    ((7, None), 'neither a position'), ((None, 'wide'), 'The size of cutouts'), ((None, -1), '-1'),
    ((None, 361), 'not an angle'), ('ab', 'a position and a size'), ((1, 2, 3), 'a position and'),
    (SkyCoord(1, 2, unit='deg'), 'a position and a size'), (3 * u.deg, 'a position and a size')])
@pytest.mark.parametrize('has_links', [True, False])
def test_bad_cutout(cutout, match, has_links):
    table = linked(s_ra=[10.0], s_dec=[1.0]) if has_links else Table({'jpegURL': [JPEG]})
    with pytest.raises(InvalidQueryError, match=match) as caught:
        open_results(table, cutout=cutout)
    assert '\n' not in str(caught.value)


def test_cutouts_of_a_table_of_quantities():
    table = QTable(linked(n=[1, 2]))
    table['s_ra'], table['s_dec'] = [600, 1200] * u.arcmin, [0, 1] * u.deg
    assert circles(table) == [(10, 0, 0.01), (20, 1, 0.01)]


def test_positions_in_any_form():
    hours = Column([1.0, 2.0], unit='hourangle', meta={'ucd': 'pos.eq.ra;meta.main'})
    arcmin = MaskedColumn([60.0, 1.0], mask=[False, True], unit='arcmin',
                          meta={'ucd': 'POS_EQ_DEC_MAIN'})
    table = Table({'ra': [3.0, 4.0], 'x': hours, 'y': arcmin, 's_ra': ['1h', '2h']})
    found = places(TableColumns(table))
    np.testing.assert_allclose(found.ra, [15, 30])
    assert found.dec[0] == 1
    assert found.known.tolist() == [True, False]
    assert np.isnan(found.size).all()
    metres = Column([1.0], unit='m')
    assert places(TableColumns(Table({'s_ra': metres, 's_dec': [1.0]}))).known.tolist() == [False]
    assert places(TableColumns(Table())).known.tolist() == []


@pytest.mark.parametrize(('region', 'size'), [
    ('CIRCLE ICRS 10 -5 0.25', 0.5), ('circle 10 -5 0.25', 0.5),
    ('POLYGON ICRS 359.9 0 0.1 0 0.1 0.1 359.9 0.1', 0.2),
    ('Polygon ICRS GEOCENTER 10.0 60.0 10.4 60.0 10.4 60.1 10.0 60.1', 0.2),
    ('', None), ('UNION ICRS (CIRCLE 1 2 3)', None), ('CIRCLE ICRS 10 -5', None),
    ('POLYGON 1 2 3', None), ('CIRCLE . - ..', None), ('   ', None)])
def test_size_of_a_region(region, size):
    found = places(TableColumns(Table({'s_ra': [10.0], 's_dec': [1.0], 's_region': [region],
                                      's_fov': [np.nan]}))).size[0]
    assert np.isnan(found) if size is None else np.isclose(found, size, rtol=1e-2)


# ---- sky context -------------------------------------------------------------------------


def test_sky_context_for_rows_without_an_image():
    table = Table({'jpegURL': [JPEG, '', '', ''], 's_ra': [1.0, 2.0, np.nan, 4.0],
                   's_dec': [0.0, -0.5, 0.0, 0.0], 's_fov': [1.0, 0.5, 1.0, np.nan],
                   'dataproduct_type': ['image', 'image', 'image', 'spectrum']})
    _, found = open_results(table, sky_context='CDS/P/DSS2/color')
    assert status(found) == ['', '', 'NO_IMAGE', 'SKIPPED']
    assert found.sources[0] == JPEG
    assert found.sources[1] == (
        f'{SERVER}?hips=CDS%2FP%2FDSS2%2Fcolor&width=256&height=256&projection=TAN&coordsys=icrs'
        '&ra=2.0&dec=-0.5&fov=0.5&format=jpg')
    assert message(found)[1] == 'sky context from CDS/P/DSS2/color, not the observation'
    _, found = open_results(table)
    assert status(found) == ['', 'NO_IMAGE', 'NO_IMAGE', 'SKIPPED']


def test_field_of_sky_context():
    table = Table({'ra': [1.0] * 4, 'dec': [2.0] * 4, 's_fov': [np.nan, 0.0, 90.0, 1e-9]})
    _, found = open_results(table, sky_context=' P/x ')
    assert [source.partition('fov=')[2].partition('&')[0] for source in found.sources] == [
        '0.05', '0.05', '10.0', '0.005']


@pytest.mark.parametrize('name', ['', ' ', 'a\nb', 7])
def test_bad_sky_context(name):
    with pytest.raises(InvalidQueryError, match='sky_context'):
        open_results(Table({'ra': [1.0], 'dec': [2.0]}), sky_context=name)


# ---- discovery ---------------------------------------------------------------------------


def image_found():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', PrototypeWarning)  # what pyvo says of its own module
        from pyvo.discover.image import ImageFound
    return ImageFound


def found_images():
    return [image_found()('ivo://a/sia', {'access_url': JPEG, 'access_format': 'image/jpeg',
                                       's_ra': 10.0, 's_dec': 1.0, 'obs_title': 'A ring',
                                       'dataproduct_type': 'image', 's_xel1': np.ma.masked}),
            image_found()('ivo://b/tap', {'access_url': FITS, 'access_format': 'image/fits',
                                       's_ra': 11.0, 'obs_title': None, 's_xel1': 100,
                                       'dataproduct_type': 'cube'})]


def test_records_of_a_result():
    results = recorded(dal.SIAResults, 'sia', 'dataset.xml')
    for records in (results[0], [results[0]], list(results), [results[0], results[0]]):
        table, found = open_results(records)
        assert len(table) == (len(records) if isinstance(records, list) else 1)
        assert states(found)[0] == ('http://example.com/querydata/image.fits', '')
    links = recorded(dal.SIA2Results, 'sia2', 'dataset.xml')
    table, found = open_results(list(links))
    assert found.has_links
    assert table.colnames == links.to_table().colnames


def test_nulls_of_records_are_masked():
    table = votable.from_table(Table({
        'access_url': [JPEG, FITS], 'n': MaskedColumn([5, 0], mask=[False, True]),
        'exposure': MaskedColumn([1.5, 0.0], mask=[False, True])})).to_xml
    content = io.BytesIO()
    table(content, tabledata_format='binary2')
    results = dal.SIA2Results(votable.parse(io.BytesIO(content.getvalue())),
                              url='http://service.example/sia')
    for records in (list(results), [results[0], results[-1]]):
        found = open_results(records)[0]
        assert found['n'].tolist() == [5, None]
        assert found['exposure'].tolist() == [1.5, None]


@pytest.mark.parametrize('pair', [False, True])
def test_images_that_were_discovered(pair):
    table, found = open_results((found_images(), ['a service failed']) if pair else found_images())
    assert states(found) == [(JPEG, ''), (FITS, '')]
    assert list(found.metadata) == ['A ring', '']
    assert table['origin_service'].tolist() == ['ivo://a/sia', 'ivo://b/tap']
    assert table['s_ra'].tolist() == [10.0, 11.0]
    assert table['s_xel1'].tolist() == [None, 100]
    assert table['s_dec'].mask.tolist() == [False, True]
    assert table.meta['discovery'] == (['a service failed'] if pair else [])


def test_nothing_was_discovered():
    table, found = open_results(([], ['all services failed']))
    assert len(table) == len(found) == 0
    assert table.meta['discovery'] == ['all services failed']


def test_discovery_by_pyvo_itself(centre):
    centre.describes_links = False
    images = list(image_found().from_obscore_recs('ivo://a/tap', query(centre)))
    table, found = open_results(images)
    assert len(table) == len(centre.datasets)
    assert by_name(table, found)['jpg'] == (centre.url + '/files/jpg.jpg', '')
    assert by_name(table, found)['linked'][0].startswith('datalink:')
