# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Pictures and vectors of a search, its instances and its models.
"""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import requests
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astroquery.exceptions import (
    InvalidQueryError,
)
from PIL import Image

from astroclip_search import ClipSearch, ClipSearchClass, conf
from astroclip_search.exceptions import BundleError, EncoderError, ImageError
from tests.colours import ColourEncoder, picture, serve_colours


def test_get_images(search, serve):
    _, obs = serve_colours(serve, ['red', 'green', 'blue'], faults={'p001': 'status:404'})
    images = search.get_images(obs)
    assert images[1] is None
    assert [images[i].getpixel((3, 3)) for i in (0, 2)] == [(254, 0, 0), (0, 0, 254)]
    assert len(search.get_images(obs, limit=1)) == 1
    assert search.get_images(obs, limit=0) == []
    with pytest.raises(InvalidQueryError, match='rows must be'):
        search.get_images(obs, limit=-1)


def test_get_image_urls_downloads_nothing(search, serve):
    mast, obs = serve_colours(serve, ['red', 'green'])
    obs['jpegURL'][1] = ''
    urls = search.get_image_urls(obs)
    assert urls['clip_url'][0] == (f'{mast.url}/api/v0.1/Download/file?uri='
                              'mast:HST/product/p000_red.jpg')
    assert urls['clip_source'].tolist() == ['mast:HST/product/p000_red.jpg', '']
    assert urls['clip_status'].tolist() == ['', 'NO_IMAGE']
    assert urls['clip_row'].tolist() == [0, 1]
    assert urls['clip_message'][1] == 'the row names no image'
    assert requests.get(urls['clip_url'][0], timeout=5).status_code == 200
    assert len(mast.downloads()) == 1  # the one just made


def test_get_image_urls_of_files(search, folder):
    urls = search.get_image_urls(folder)
    assert [Path(url).name for url in urls['clip_url']] == ['blue.png', 'green.png', 'red.png']


def test_encode(search, folder):
    text = search.encode_text('red')
    both = search.encode_text(['red', 'blue'])
    image = search.encode_images(picture('red'))
    many = search.encode_images(folder)
    assert (text.shape, both.shape, image.shape, many.shape) == ((1, 3), (2, 3), (1, 3), (3, 3))
    assert image.dtype == text.dtype == np.float32
    assert float(text[0] @ image[0]) == pytest.approx(1, abs=1e-3)
    assert (many @ both.T).argmax(axis=0).tolist() == [2, 0]
    with conf.set_temp('batch_size', 2):
        np.testing.assert_array_equal(search.encode_images(folder), many)


@pytest.mark.filterwarnings('ignore:Nothing stands out')
def test_encode_gives_the_vectors_that_rank_compares(tmp_path):
    """
    Of every kind of image, in any order, whichever verb comes first.
    """
    rng = np.random.default_rng(0)
    pixels = rng.normal(100, 5, (300, 300)).astype('f4')
    pixels[100:150] += 200
    fits.PrimaryHDU(pixels).writeto(tmp_path / 'a.fits')
    Image.fromarray(rng.integers(0, 255, (900, 1000, 3), np.uint8)).save(tmp_path / 'b.jpg')
    Image.fromarray(rng.integers(0, 255, (90, 100, 3), np.uint8)).save(tmp_path / 'c.png')
    files = [str(tmp_path / name) for name in ('c.png', 'a.fits', 'b.jpg', 'c.png')]
    for images in (files, [pixels, pixels[:200]]):
        first, second = (ClipSearch(cache_dir=tmp_path / f'{len(images)}{name}')
                         for name in 'xy')
        vectors = first.encode_images(images)
        assert vectors.shape == (len(images), 384)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        ranked = [search.rank(images, 'spiral galaxy', by='image', fold_duplicates=False,
                              show_progress=False)
                  for search in (first, second)]
        np.testing.assert_array_equal(second.encode_images(images), vectors)
        # The vectors are equal; their products round by the place of the row in the matrix.
        np.testing.assert_allclose(*(best['clip_image'] for best in ranked), rtol=0, atol=1.2e-7)
        text = first.encode_text('spiral galaxy')[0]
        order = np.argsort(-(vectors @ text), kind='stable')
        np.testing.assert_allclose(ranked[0]['clip_image'], (vectors @ text)[order], atol=1e-6)
        np.testing.assert_array_equal(vectors[0], first.encode_images(images[0])[0])


def test_encode_neither_asks_the_cache_nor_fills_it(folder, tmp_path):
    encoder = ColourEncoder()
    search = ClipSearch(encoder=encoder, cache_dir=tmp_path / 'cache')
    many = search.encode_images(folder)
    np.testing.assert_array_equal(search.encode_images(folder), many)
    search.rank(folder, 'red', by='image')
    assert encoder.n_images == 9
    search.encode_images(folder)
    assert encoder.n_images == 12
    assert [cache.counts()['vectors'] for cache in search.session.caches()] == [0, 3]


def test_encode_raises_what_is_wrong_with_the_first_image_that_is_none(search, folder):
    (folder / 'amiss.png').write_bytes(b'amiss')
    (folder / 'zero.png').write_bytes(b'')
    with pytest.raises(ImageError, match=r'neither a .*JPEG') as caught:
        search.encode_images(folder)
    assert caught.value.url == str(folder / 'amiss.png')
    assert caught.value.because.code == 'unknown_format'
    with pytest.raises(ImageError, match='empty file'):
        search.encode_images([folder / 'red.png', folder / 'zero.png', folder / 'amiss.png'])


def test_encode_reads_nothing_where_a_row_has_no_image(search, serve):
    mast, obs = serve_colours(serve, ['red', 'green'])
    obs['jpegURL'][1] = ''
    with pytest.raises(ImageError, match='the row names no image'):
        search.encode_images(obs)
    assert mast.downloads() == []


def test_encode_errors(search, tmp_path):
    with pytest.raises(InvalidQueryError, match=r'^texts '):
        search.encode_text('')
    (tmp_path / 'broken.jpg').write_bytes(b'broken')
    with pytest.raises(ImageError, match=r'neither a .*JPEG'):
        search.encode_images(tmp_path / 'broken.jpg')
    with pytest.raises(InvalidQueryError, match='the table is empty'):
        search.encode_images(Table({'jpegURL': np.array([], dtype=str)}))


# ---- instances and models ----------------------------------------------------------------


def test_instances_are_independent(search):
    assert repr(search) == "<ClipSearchClass model='colours'>"
    one = ClipSearch(model='a/b')
    assert type(one) is ClipSearchClass
    assert one is not ClipSearch
    assert repr(one) == "<ClipSearchClass model='a/b'>"
    assert repr(ClipSearch) == "<ClipSearchClass model='default'>"

    class Mine(ClipSearchClass):
        pass

    assert type(Mine()()) is Mine


def test_unknown_model(folder, tmp_path):
    search = ClipSearch(model='no such model', cache_dir=tmp_path / 'cache')
    with pytest.raises(BundleError, match="There is no model 'no such model'"):
        search.rank(folder, 'red')
    with pytest.raises(BundleError, match='nor could it be had from the Hugging Face hub'):
        ClipSearch(model='nobody/nothing').encode_text('red')
    assert not (tmp_path / 'cache').exists()


def test_gallery_needs_no_model(folder, tmp_path):
    search = ClipSearch(model='no such model', cache_dir=tmp_path / 'cache')
    assert all(card.jpeg for card in search.gallery(folder).cards)


def test_failing_model_is_an_error_of_the_call(folder, tmp_path):
    class Failing(ColourEncoder):
        def encode_images(self, pixels):
            raise EncoderError('out of memory')

    with pytest.raises(EncoderError, match='out of memory'):
        ClipSearch(encoder=Failing(), cache_dir=tmp_path / 'cache').rank(folder, 'red')


def test_list_models():
    models = ClipSearch.list_models()
    assert models.colnames == ['model', 'name', 'version', 'licence', 'size']
    assert models['size'].unit == u.MB
    embedded = Path(sys.modules['astroclip_search'].__file__).parent / 'model'
    assert ('default' in models['model']) == embedded.is_dir()


def test_one_bad_object_costs_its_own_row_only(search):
    whole = io.BytesIO()
    Image.effect_noise((900, 900), 60).save(whole, 'PNG')
    bad, good = Image.open(io.BytesIO(whole.getvalue()[:9000])), picture('red')
    assert [image is None for image in search.get_images([bad, good])] == [True, False]
    broken, shown = search.gallery([bad, good]).cards
    assert (broken.jpeg, shown.jpeg is None) == (None, False)
    assert 'ERROR' in broken.status
    for size in (0, 'x'):
        with pytest.raises(InvalidQueryError, match='size must be'):
            search.get_images([good], size=size)
