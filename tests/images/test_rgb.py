# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Three filters of one field are one colour image, red the longest wavelength, and nothing is lost.
"""

import contextlib
import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.wcs import WCS

from astroclip_search import ClipSearchClass
from astroclip_search.archives.colour_groups import wavelength
from astroclip_search.archives.open import open_results
from astroclip_search.embeddings.cache import Cache
from astroclip_search.embeddings.pipeline import Pipeline
from astroclip_search.exceptions import ImageError
from astroclip_search.images.http import Fetcher, Limits
from astroclip_search.images.plane import Plane
from astroclip_search.images.refs import colour, image_key, messages, parse
from astroclip_search.images.render import plane
from astroclip_search.images.rgb import compose
from tests.colours import ColourEncoder
from tests.loopback.archive import Archive
from tests.loopback.mast import Mast

FILTERS = {'F814W': 0, 'F606W': 1, 'F435W': 2}  # place in the composite


def header(*, ra=10.0, dec=20.0, scale=1e-4, n=60, crpix=None, rotation=0.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = crpix or ((n + 1) / 2,) * 2
    wcs.wcs.cd = scale * np.array([[-np.cos(rotation), np.sin(rotation)],
                                   [np.sin(rotation), np.cos(rotation)]])
    return wcs.to_header()


def sky(x, y, *, n=60, width=3.0, seed=0):
    rows, columns = np.mgrid[:n, :n]
    source = 500 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / width**2)
    return (100 + source + np.random.default_rng(seed).normal(0, 2, (n, n))).astype('f4')


def hdu(data, name='F814W', **keys):
    made = fits.PrimaryHDU(data, header())
    made.header.update({'OBJECT': 'NGC 1', 'INSTRUME': 'ACS', 'FILTER': name} | keys)
    return made


def content(made):
    stream = io.BytesIO()
    fits.HDUList([made]).writeto(stream)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A source that is in the reddest filter only."""
    path = tmp_path / 'fits'
    path.mkdir()
    for name, band in FILTERS.items():
        hdu(sky(15, 40, seed=band) if not band else sky(45, 10, seed=band), name).writeto(
            path / f'{name}.fits')
    return path


@pytest.fixture
def search(tmp_path):
    return ClipSearchClass(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')


# ---- drawing -----------------------------------------------------------------------------


@pytest.mark.parametrize('band', [0, 1, 2])
def test_each_filter_has_its_colour_and_north_is_up(band):
    planes = [plane(hdu(sky(15, 45, seed=i) if i == band else sky(45, 10, seed=i)))
              for i in range(3)]
    image = np.asarray(compose(planes), float)
    assert image.shape == (60, 60, 3)
    assert image[59 - 45, 15].argmax() == band
    assert image[59 - 45, 15, band] > 2 * np.delete(image[59 - 45, 15], band).max()
    assert image[59 - 10, 45].argmin() == band


def test_the_same_in_all_filters_is_grey():
    data = sky(15, 40)
    image = np.asarray(compose([plane(hdu(factor * data)) for factor in (1, 10, 0.1)]), int)
    assert np.ptp(image, axis=-1).max() <= 1
    assert image.max() == 255


def test_planes_are_put_on_the_pixels_of_the_largest():
    """One band is coarser, one is turned and one is shifted: the source is in one place."""
    n = 120
    reference = fits.PrimaryHDU(sky(30, 80, n=n), header(n=n, scale=1e-4))
    world = WCS(reference.header).pixel_to_world(30, 80)
    images = [reference]
    for seed, options in enumerate(({'scale': 2e-4, 'n': 60}, {'n': 110, 'rotation': 0.7}), 1):
        keys = header(**options)
        x, y = WCS(keys).world_to_pixel(world)
        images.append(fits.PrimaryHDU(sky(float(x), float(y), n=options['n'], seed=seed,
                                          width=6e-4 / options.get('scale', 1e-4) / 2), keys))
    image = np.asarray(compose([plane(image) for image in images]), int)
    assert image.shape == (n, n, 3)
    place = image[n - 1 - 80, 30]
    assert place.min() > 150, place
    for band in range(3):
        rows, columns = np.nonzero(image[..., band] > 0.9 * image[..., band].max())
        assert abs(np.median(columns) - 30) <= 2
        assert abs(np.median(rows) - (n - 1 - 80)) <= 2


def test_large_images_are_registered_after_they_are_reduced():
    n = 1200
    large = fits.PrimaryHDU(sky(300, 900, n=n, width=20), header(n=n, scale=1e-4))
    small = fits.PrimaryHDU(sky(75, 225, n=300, width=5), header(n=300, scale=4e-4))
    with fits.open(io.BytesIO(content(large))) as hdus:
        image = np.asarray(compose([plane(hdus, side=300), plane(small), plane(small)]), int)
    assert image.shape == (300, 300, 3)
    rows, columns = np.nonzero(image.min(axis=-1) > 0.8 * image.min(axis=-1).max())
    assert max(abs(columns.mean() - 75), abs(rows.mean() - (299 - 225))) < 2


def test_what_one_filter_has_not_seen_is_grey_there():
    half = sky(15, 40)
    half[:, 30:] = np.nan
    image = np.asarray(compose([plane(hdu(half)), *(plane(hdu(sky(45, 10)))
                                                    for _ in range(2))]), int)
    assert np.ptp(image[49, 45]) <= 1
    assert image[49, 45].max() > 200


@pytest.mark.parametrize(('other', 'match'), [
    (fits.PrimaryHDU(sky(5, 5), header(ra=11)), 'do not overlap'),
    (fits.PrimaryHDU(sky(5, 5, n=50)), 'differ in shape, and have no WCS'),
    (fits.PrimaryHDU(np.full((60, 60), np.nan)), 'no finite pixels'),
    (fits.PrimaryHDU(np.ones((60, 60))), 'the same value')])
def test_planes_that_do_not_fit(other, match):
    with pytest.raises(ImageError, match=match):
        compose([plane(hdu(sky(5, 5))), plane(hdu(sky(5, 5))), plane(other)])


def test_without_a_wcs_equal_shapes_fit():
    assert compose([Plane(sky(5, 5, seed=i)) for i in range(3)]).size == (60, 60)


def test_the_same_pixels_each_time():
    planes = [plane(hdu(sky(15, 40, seed=i))) for i in range(3)]
    assert compose(planes).tobytes() == compose(planes).tobytes()


# ---- which rows belong together ----------------------------------------------------------


def test_files_of_one_object(folder):
    (folder / 'other.fits').write_bytes(content(hdu(sky(5, 5), OBJECT='NGC 2')))
    (folder / 'damaged.fits').write_bytes(b'SIMPLE  = nothing')
    _, refs = open_results(folder, colour=True)
    names = [source.rpartition('/')[2] for source in refs.sources]
    made = [source for source in refs.sources if parse(source).kind == 'colour']
    assert len(made) == 3
    assert set(made) == {colour(*(str(folder / f'{name}.fits') for name in FILTERS))}
    assert sorted(set(names) - {made[0].rpartition('/')[2]}) == ['damaged.fits', 'other.fits']
    assert sorted(messages(len(refs), refs.reasons)) == [
        '', '', *['colour of F814W, F606W, F435W'] * 3]
    assert len(refs.own) == 3


@pytest.mark.parametrize('change', [
    {'OBJECT': 'NGC 2'}, {'INSTRUME': 'WFC3'}, {'FILTER': 'F814W'}, {'FILTER': 'unknown'},
    {'CRVAL1': 11.0}])
def test_what_differs_is_not_mixed(change):
    images = [hdu(sky(5, 5, seed=i), name) for i, name in enumerate(FILTERS)]
    assert open_results(images, colour=True)[1].sources[0].startswith('rgb:')
    images[2].header.update(change)
    refs = open_results(images, colour=True)[1]
    assert all(parse(source).kind == 'memory' for source in refs.sources)
    assert refs.own == {}


def test_only_when_asked(folder):
    assert not any('rgb:' in source for source in open_results(folder)[1].sources)


def test_of_many_filters_the_longest_the_middle_and_the_shortest():
    names = ['F555W', 'F850LP', 'F435W', 'F775W', 'F475W']
    refs = open_results([hdu(sky(5, 5, seed=i), name) for i, name in enumerate(names)],
                        colour=True)[1]
    assert len(set(refs.sources)) == 1
    assert messages(len(refs), refs.reasons)[0] == 'colour of F850LP, F555W, F435W'


def rows(**columns):
    table = {'target_name': ['M 51'] * 3, 'instrument_name': ['NIRCAM/IMAGE'] * 3,
             'filters': ['F090W', 'F200W', 'F444W'], 'proposal_id': ['1'] * 3,
             'dataURI': [f'mast:JWST/{i}_i2d.fits' for i in range(3)]}
    return Table(table | columns)


@pytest.mark.parametrize('columns', [
    {}, {'s_ra': [10, 10.01, 10], 's_dec': [5.0] * 3},
    {'s_ra': [359.99, 0.01, 0], 's_dec': [5.0] * 3},
    {'filters': ['', '', ''], 'em_min': [8e-7, 1.7e-6, 4e-6], 'em_max': [9e-7, 2.2e-6, 5e-6]}])
def test_rows_of_one_observation(columns):
    table, refs = open_results(rows(**columns), colour=True)
    assert parse(refs.sources[0]).parts == tuple(f'mast:JWST/{i}_i2d.fits' for i in (2, 1, 0))
    assert len(set(refs.sources)) == 1
    assert len(table) == 3


@pytest.mark.parametrize('columns', [
    {'target_name': ['M 51', 'M 51', 'M 31']}, {'proposal_id': ['1', '1', '2']},
    {'instrument_name': ['NIRCAM', 'NIRCAM', 'MIRI']}, {'filters': ['F090W', 'F444W', 'F444W']},
    {'filters': ['F090W', 'F444W', 'detection']}, {'target_name': [''] * 3},
    {'s_ra': [10, 10.1, 10], 's_dec': [5.0] * 3},
    {'s_ra': [10, 10.01, 10], 's_dec': [5.0] * 3, 's_fov': [0.001] * 3},
    {'dataURI': ['mast:a.jpg', 'mast:b.fits', 'mast:c.fits']}])
def test_rows_that_do_not_belong_together(columns):
    found = (open_results(rows(**columns), colour=asked)[1] for asked in (False, True))
    plain, refs = (replace(refs, metadata=list(refs.metadata)) for refs in found)
    assert refs == plain


@pytest.mark.parametrize(('names', 'instrument'), [
    (['F275W', 'F555W', 'F814W'], 'WFC3/UVIS'), (['F098M', 'F125W', 'F160W'], 'WFC3/IR'),
    (['F090W', 'F150W2;F162M', 'F200W', 'F356W', 'F444W'], 'NIRCAM/IMAGE'),
    (['F560W', 'F770W', 'F1000W', 'F2550W'], 'MIRI/IMAGE'), (['F814W', 'F160W'], 'WFC3'),
    (['SDSS u', "g'", 'r.MP9601', 'i', 'z DECam', 'Y', 'J', 'H', 'Ks'], ''),
    (['FUV', 'NUV', 'U', 'Bessell_B', 'V', 'R', 'I', '2MASS J', 'H', 'K', 'W1', 'W4'], '')])
def test_wavelengths_by_name(names, instrument):
    found = [wavelength(name, instrument) for name in names]
    assert found == sorted(found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize('name', ['', 'CLEAR', 'detection', 'OG590', 'Photographic', 'N/A'])
def test_names_that_say_no_wavelength(name):
    assert np.isnan(wavelength(name))


# ---- from row to score -------------------------------------------------------------------


def test_rank_a_folder_in_colour(folder, search):
    hdu(sky(5, 5), 'F814W', OBJECT='alone').writeto(folder / 'z.fits')
    best = search.rank(folder, 'red', colour=True, show_progress=False)
    assert list(best['clip_status']) == ['OK'] * 4
    made = np.array([message.startswith('colour of') for message in best['clip_message']])
    assert made.sum() == 3
    assert len(set(best['clip_image'][made])) == 1
    [image] = {search.get_images(best[i:i + 1])[0].tobytes() for i in np.flatnonzero(made)}
    assert np.ptp(np.frombuffer(image, np.uint8).reshape(-1, 3).astype(int), axis=1).max() > 50
    grey = search.get_images(best[np.flatnonzero(~made)])[0]
    assert np.ptp(np.asarray(grey).astype(int), axis=-1).max() == 0
    assert 'data:image/jpeg' in search.gallery(best)._repr_html_()
    assert search.session.encoder().n_images == 2
    search.rank(folder, 'red', colour=True, show_progress=False)
    assert search.session.encoder().n_images == 2


def test_an_edited_part_is_read_anew(folder, search):
    search.rank(folder, 'red', colour=True, show_progress=False)
    before = image_key(open_results(folder, colour=True)[1].sources[0])
    hdu(sky(30, 30), 'F435W', HISTORY='longer').writeto(folder / 'F435W.fits', overwrite=True)
    assert image_key(open_results(folder, colour=True)[1].sources[0]) != before
    search.rank(folder, 'red', colour=True, show_progress=False)
    assert search.session.encoder().n_images == 2


def test_the_addresses_of_all_parts(folder, search):
    urls = search.get_image_urls(folder, colour=True)
    assert set(urls['clip_url']) == {' '.join(str(folder / f'{name}.fits') for name in FILTERS)}
    urls = search.get_image_urls(rows(), colour=True)
    assert [address.rpartition('uri=')[2] for address in urls['clip_url'][0].split()] == [
        f'mast:JWST/{i}_i2d.fits' for i in (2, 1, 0)]


def test_without_one_colour_each_row_has_its_own_picture(folder, search):
    path = folder / 'F606W.fits'
    path.write_bytes(path.read_bytes()[:5800])  # the header is whole
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # one row has no image
        best = search.rank(folder, 'red', colour=True, show_progress=False)
    assert list(best['clip_status']) == ['OK', 'OK', 'ERROR']
    assert [source.startswith('/') for source in best['clip_source']] == [True] * 3
    assert best['clip_source'][2] == str(path)
    assert all(message.startswith('no colour: damaged') for message in best['clip_message'][:2])
    assert np.isfinite(best['clip_image'][:2]).all()


def test_objects_in_memory_with_a_wcs():
    images = [CCDData(sky(5, 5, seed=i), unit='adu', meta={'OBJECT': 'NGC 1', 'FILTER': name})
              for i, name in enumerate('gri')]
    refs = open_results(images, colour=True)[1]
    assert len({*refs.sources}) == 1
    assert all(part in refs.objects for part in parse(refs.sources[0]).parts)


def test_parts_from_a_server(tmp_path):
    """Bodies that are large are held one at a time: a composite must not wait for itself."""
    n = 1500  # 9 MB each
    files = {f'mast:T/{name}.fits': content(hdu(sky(300 + 700 * bool(band), 900, n=n, width=90,
                                                    seed=band), name))
             for name, band in FILTERS.items()}
    with (Mast(Archive([{}], files)) as server,
          contextlib.closing(Cache(tmp_path / 's.sqlite')) as cache,
          Fetcher(Limits(timeout=10), trusted=[server.url.removeprefix('http://')]) as fetcher):
        pipeline = Pipeline(ColourEncoder(), cache, fetcher, lambda source: (
            f'{server.url}/api/v0.1/Download/file?uri={source}'))
        source = colour(*files)
        assert pipeline.embed([source], {}, n_workers=3) == {}
        assert sorted(server.downloads()) == sorted(files)
        image = pipeline.image(source, {}, 300)
        assert image.size == (300, 300)
        assert np.argmax(image.getpixel((60, 299 - 180))) == 0
        server.faults['T/F606W'] = 'status:404'
        failures = pipeline.embed([source], {}, n_workers=3)
        assert failures[source].sentence == 'HTTP 404'
