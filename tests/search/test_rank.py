# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A result in, the same rows out, best first: what a user of ``rank`` notices.
"""

import dataclasses
import json
import os
import warnings
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from astroquery.exceptions import InvalidQueryError
from pyvo.dal import DALResults

from astroclip_search import ClipSearch
from astroclip_search.exceptions import (
    ImageError,
    LongPhraseWarning,
    NothingRankedWarning,
    NothingStandsOutWarning,
    UnreadImagesWarning,
)
from astroclip_search.models.background import Background, normalise
from astroclip_search.ranking import order
from astroclip_search.results.table import BEHIND, IN_FRONT
from tests.colours import ColourEncoder, best_colour, content, picture, serve_colours, shaded

STATUS = 'clip_status'


@pytest.fixture
def table(folder):
    """A table with units, masks, formats and meta, to be used with ``image_dir=folder``."""
    table = Table({
        'id': np.arange(4, dtype=np.int16), 'flux': MaskedColumn(
            [1.5, 2.5, 3.5, 4.5], mask=[False, True, False, False], unit=u.Jy, format='.2f',
            description='flux density', meta={'ucd': 'phot.flux'}),
        'image': ['blue.png', 'red.png', 'green.png', 'missing.png'],
        'stamp': np.arange(16, dtype='f4').reshape(4, 2, 2),
        'target_name': ['red', 'green', 'blue', ''],
    }, meta={'origin': 'here', 'nested': {'list': [1]}})
    table['object'] = np.array([None, {'a': 1}, 'text', 5], dtype=object)
    return table


# ---- the table ---------------------------------------------------------------------------


def test_rank_is_a_permutation_with_everything_kept(search, table, folder):
    original = table.copy()
    with pytest.warns(UnreadImagesWarning, match='1 of 4 images could not be read'):
        ranked = search.rank(table, 'red', by='image', image_dir=folder)

    assert ranked.colnames == [*IN_FRONT, *original.colnames, *BEHIND]
    assert list(ranked['id']) == [1, 0, 2, 3]
    for name in original.colnames:
        before, after = original[name], ranked[name]
        assert type(after) is type(before)
        assert after.dtype == before.dtype
        for attribute in ('unit', 'format', 'description', 'meta'):
            assert getattr(after, attribute) == getattr(before, attribute)
        for i, j in enumerate(ranked['id']):
            assert np.all(after[i] == before[j]) or (after[i] is np.ma.masked is before[j])
    assert ranked.meta['nested'] == original.meta['nested']

    ranked.meta['nested']['list'].append(2)
    ranked['id'][0] = 99
    assert table.colnames == original.colnames
    assert table.meta == original.meta
    assert np.all(table['id'] == original['id'])


def test_clip_columns(search, table, folder):
    with pytest.warns(UnreadImagesWarning):
        ranked = search.rank(table, 'red', by='image', image_dir=folder)
    assert list(ranked['clip_rank'].filled(0)) == [1, 2, 3, 0]
    assert list(ranked[STATUS]) == ['OK', 'OK', 'OK', 'ERROR']
    assert ranked['clip_image'][0] == pytest.approx(1, abs=1e-3)
    assert ranked['clip_rank'].dtype.kind == 'i'
    for name in ('clip_score', 'clip_image', 'clip_metadata', 'clip_false_alarm'):
        assert ranked[name].dtype == np.float32
    assert ranked['clip_score'].mask.tolist() == [False, False, False, True]
    assert ranked['clip_metadata'].mask.all()  # not asked for
    assert ranked['clip_false_alarm'].mask.all()  # no reference images
    assert ranked['clip_source'][0] == str(folder / 'red.png')
    assert 'cannot read the file' in ranked['clip_message'][3]
    assert not any(ranked['clip_message'][:3])


def test_meta_says_what_was_asked(search, table, folder):
    with pytest.warns(UnreadImagesWarning):
        ranked = search.rank(table, [' red  thing', 'red'], negative='blue', by='image',
                             image_dir=folder)
    meta = ranked.meta['clip']
    assert meta['query'] == ['red thing', 'red']
    assert meta['negative'] == ['blue']
    assert (meta['by'], meta['model'], meta['revision']) == ('image', 'colours', 'colours')
    assert (meta['n_rows'], meta['n_ranked'], meta['status']) == (4, 3, {'OK': 3, 'ERROR': 1})
    assert Time(meta['date'].removesuffix('+00:00')).isscalar
    assert 'clip' not in table.meta


def test_qtable_with_mixin_columns(search, folder):
    table = QTable({'image': ['blue.png', 'red.png'], 'sky': SkyCoord([1, 2], [3, 4], unit='deg'),
                    'size': [1, 2] * u.arcsec, 'when': Time([50000, 60000], format='mjd')})
    ranked = search.rank(table, 'red', by='image', image_dir=folder)
    assert type(ranked) is QTable
    assert ranked['sky'].ra.deg.tolist() == [2, 1]
    assert ranked['size'].to_value(u.arcsec).tolist() == [2, 1]
    assert ranked['when'].mjd.tolist() == [60000, 50000]
    assert isinstance(ranked['sky'], SkyCoord)


def test_table_subclass_and_indices(search, table, folder):
    class MyTable(Table):
        pass

    table = MyTable(table[:3])
    table.add_index('id')
    ranked = search.rank(table, 'green', by='image', image_dir=folder)
    assert type(ranked) is MyTable
    assert ranked.loc[2]['image'] == 'green.png'
    assert ranked.loc[0]['image'] == 'blue.png'
    assert table.loc[1]['image'] == 'red.png'


def test_fully_masked_table(search, folder):
    table = Table({'image': ['red.png', 'blue.png'], 'n': [1, 2]}, masked=True)
    table['n'].mask = True
    ranked = search.rank(table, 'blue', by='image', image_dir=folder)
    assert ranked.masked
    assert ranked['image'][0] == 'blue.png'
    assert ranked['n'].mask.all()


def test_row(search, table, folder):
    ranked = search.rank(table[1], 'red', by='image', image_dir=folder)
    assert (len(ranked), ranked['id'][0]) == (1, 1)


def test_ties_keep_their_order(search, folder):
    table = Table({'image': ['red.png', 'blue.png'] * 20, 'n': np.arange(40)})
    ranked = search.rank(table, 'red', by='image', image_dir=folder, fold_duplicates=False)
    assert ranked['n'].tolist() == [*range(0, 40, 2), *range(1, 40, 2)]


def test_copies_leave_the_first_page(search, folder):
    table = Table({'image': ['red.png', 'red.png', 'green.png', 'red.png', 'blue.png'],
                   'n': np.arange(5)})
    ranked = search.rank(table, 'red', by='image', image_dir=folder)
    assert sorted(ranked['n'][:3]) == [0, 2, 4]
    assert ranked['n'][[0, 3, 4]].tolist() == [0, 1, 3]
    assert ranked['clip_message'].tolist() == ['', '', '', *['the same picture as rank 1'] * 2]
    assert set(ranked['clip_status']) == {'OK'}
    assert ranked['clip_score'][3] == ranked['clip_score'][0]
    assert ranked.meta['clip']['n_folded'] == 2
    # Nothing is left of an earlier note.
    again = search.rank(ranked, 'red', by='image', fold_duplicates=False)
    assert again['n'].tolist()[:3] == [0, 1, 3]
    assert not any(again['clip_message'])
    assert again.meta['clip']['n_folded'] == 0


def test_copies_farther_down_stay_where_they_are(search, folder, monkeypatch):
    monkeypatch.setattr(order, '_FIRST_PAGES', 2)
    table = Table({'image': ['red.png', 'green.png', 'blue.png', 'blue.png'], 'n': np.arange(4)})
    ranked = search.rank(table, ['red', 'green'], by='image', image_dir=folder)
    assert ranked.meta['clip']['n_folded'] == 0
    # Words alone know nothing of pictures.
    table['target_name'] = ['red', 'red', 'red', 'blue']
    ranked = search.rank(table, 'red', by='metadata', image_dir=folder)
    assert ranked.meta['clip']['n_folded'] == 0


def test_rows_without_a_score_come_last_in_their_order(search, folder):
    names = MaskedColumn(['a', 'blue.png', 'b', 'red.png', 'c'])
    names.mask = [True, False, True, False, True]
    ranked = search.rank(Table({'image': names, 'n': np.arange(5)}), 'red', by='image',
                         image_dir=folder)
    assert ranked['n'].tolist() == [3, 1, 0, 2, 4]
    assert ranked['clip_rank'].mask.tolist() == [False, False, True, True, True]
    assert ranked[STATUS].tolist() == ['OK'] * 2 + ['NO_IMAGE'] * 3


@pytest.mark.parametrize(('limit', 'n'), [(None, 3), (1, 1), (2, 2), (99, 3)])
def test_limit(search, table, folder, limit, n):
    ranked = search.rank(table[:3], 'red', by='image', image_dir=folder, limit=limit)
    assert len(ranked) == n
    assert ranked['image'][0] == 'red.png'
    assert ranked.meta['clip']['n_rows'] == 3


def test_ranking_a_ranked_table_replaces_the_columns(search, table, folder):
    first = search.rank(table[:3], 'red', by='image', image_dir=folder)
    second = search.rank(first, 'blue', by='image', image_dir=folder)
    assert second.colnames == first.colnames
    assert (first['image'][0], second['image'][0]) == ('red.png', 'blue.png')
    assert (first.meta['clip']['query'], second.meta['clip']['query']) == (['red'], ['blue'])
    assert second['clip_rank'].tolist() == [1, 2, 3]


# ---- what may be ranked ------------------------------------------------------------------


def test_folder_list_and_objects(search, folder):
    assert search.rank(folder, 'blue')['filename'][0].endswith('blue.png')
    assert search.rank(str(folder / '*.png'), 'green')['filename'][0].endswith('green.png')
    objects = [picture('red'), content('blue'), shaded((0, 255, 0))]
    assert search.rank(objects, 'blue')['index'].tolist()[0] == 1
    assert search.rank(objects, 'green')['index'].tolist()[0] == 2


def test_objects_of_equal_type_are_not_confused(search):
    assert search.rank([content('red')], 'red')['clip_image'][0] > 0.99
    assert search.rank([content('blue')], 'red')['clip_image'][0] < 0.1


def test_fits_arrays(search):
    y, x = np.mgrid[:32, :32]
    data = np.exp(-((x - 16)**2 + (y - 16)**2) / 50.0)
    ranked = search.rank([data, fits.ImageHDU(data), CCDData(data, unit='adu')], 'red')
    assert ranked[STATUS].tolist() == ['OK'] * 3
    assert len(search.rank(fits.HDUList([fits.PrimaryHDU(data)]), 'red')) == 1


def test_one_bad_object_costs_only_its_row(search, tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    from PIL import Image

    Image.fromarray(noise).save(tmp_path / 'half.png')
    os.truncate(tmp_path / 'half.png', 6000)
    with (Image.open(tmp_path / 'half.png') as half,
          pytest.warns(UnreadImagesWarning, match='1 of 4')):
        ranked = search.rank([None, half, picture('red'), np.full((8, 8), np.nan)], 'red')
    assert ranked['index'].tolist()[0] == 2
    assert Counter(ranked[STATUS]) == {'OK': 1, 'ERROR': 1, 'NO_IMAGE': 2}
    assert all(ranked['clip_message'][1:])


def test_pyvo_result(search):
    data = resources.files('pyvo.dal.tests') / 'data' / 'tap' / 'obscore-image.xml'
    with resources.as_file(data) as path:
        results = DALResults(parse(path))
    urls = search.get_image_urls(results)
    assert len(urls) == len(results) == 10
    assert all(url.startswith('http://dc.zah.uni-heidelberg.de/') for url in urls['clip_url'])
    ranked = search.rank(results, 'red', by='metadata')
    assert ranked.colnames == [*IN_FRONT, *results.fieldnames, *BEHIND]
    assert ranked[STATUS].tolist() == ['OK'] * 10


def test_recorded_answer_of_mast(search):
    path = resources.files('astroquery.mast.tests') / 'data' / 'advSearchPos.json'
    table = Table(rows=json.loads(path.read_text())['data'])
    table['obs_title'] = ['red' if i == 5 else 'blue' for i in range(12)]
    ranked = search.rank(table, 'red', by='metadata')
    assert ranked['obsid'][0] == table['obsid'][5]
    assert len(ranked) == 12


@pytest.mark.parametrize('results', [None, 5, [], '', '/no/such/folder', '*.nothing'])
def test_what_cannot_be_ranked(search, results):
    with pytest.raises(InvalidQueryError):
        search.rank(results, 'red')


def test_table_without_images_names_its_columns(search):
    with pytest.raises(InvalidQueryError, match='it has flux, name; known names are jpegurl'):
        search.rank(Table({'flux': [1], 'name': ['a']}), 'red')


def test_empty_table(search):
    table = Table({'jpegURL': np.array([], dtype='U9'), 'n': np.array([], dtype=int)})
    with pytest.warns(NothingRankedWarning, match='the table is empty'):
        ranked = search.rank(table, 'red')
    assert ranked.colnames == [*IN_FRONT, 'jpegURL', 'n', *BEHIND]
    assert len(ranked) == 0
    assert ranked['clip_status'].dtype.kind == 'U'
    assert ranked.meta['clip']['n_rows'] == 0
    with pytest.warns(NothingRankedWarning):
        assert len(search.rank(Table(), 'red')) == 0


# ---- writing -----------------------------------------------------------------------------


def test_ecsv_keeps_meta(search, table, folder, tmp_path):
    table.remove_column('object')
    with pytest.warns(UnreadImagesWarning):
        ranked = search.rank(table, 'red', image_dir=folder, by='image')
    ranked.write(tmp_path / 'r.ecsv')
    back = Table.read(tmp_path / 'r.ecsv')
    assert back.meta['clip'] == ranked.meta['clip']
    assert back.colnames == ranked.colnames
    assert back['clip_score'].mask.tolist() == ranked['clip_score'].mask.tolist()
    with pytest.warns(UnreadImagesWarning):
        again = search.rank(tmp_path / 'r.ecsv', 'blue', image_dir=folder, by='image', limit=1)
    assert again['image'][0] == 'blue.png'


@pytest.mark.parametrize(('name', 'form'), [('r.csv', 'ascii.csv'), ('r.vot', 'votable'),
                                            ('r.fits', 'fits')])
def test_other_formats(search, folder, tmp_path, name, form):
    table = Table({'image': ['blue.png', 'red.png', 'nothing.png'], 'flux': [1.0, 2.0, 3.0]})
    with pytest.warns(UnreadImagesWarning):
        ranked = search.rank(table, 'red', image_dir=folder, by='image')
    del ranked.meta['clip']  # astropy warns that FITS headers take no dictionaries
    ranked.write(tmp_path / name, format=form)
    back = Table.read(tmp_path / name, format=form)
    assert back.colnames == ranked.colnames
    assert [str(value) for value in back['image']] == ['red.png', 'blue.png', 'nothing.png']
    assert back['clip_score'].mask.tolist() == [False, False, True]


# ---- phrases -----------------------------------------------------------------------------


@pytest.mark.parametrize('text', ['', '   ', '\n', '?!...', '🌌', None, 5, [], [''], ['red', ''],
                                  ['red', None], b'red', {}, 'x' * 10_000, 3.5, [b'red']])
def test_bad_phrases(search, text, encoder):
    with pytest.raises(InvalidQueryError, match=r'^(text|negative) '):
        search.rank(Table({'image': ['a']}), text)
    assert encoder.n_texts == 0


@pytest.mark.parametrize('negative', ['', [], 5])
def test_bad_negatives(search, negative):
    with pytest.raises(InvalidQueryError, match=r'^negative '):
        search.rank(Table({'image': ['a']}), 'red', negative=negative)


@pytest.mark.parametrize('text', ['naïve red', '赤い galaxie red', 'red 🌌', ' red\n', ('red',),
                                  np.array(['red']), Table({'a': ['red']})['a'],
                                  (word for word in ['red'])])
def test_good_phrases(search, folder, text):
    ranked = search.rank(folder, text)
    assert ranked['filename'][0].endswith('red.png')
    assert all(type(phrase) is str for phrase in ranked.meta['clip']['query'])


@pytest.mark.parametrize('options', [{'limit': 0}, {'limit': -1}, {'limit': 1.5}, {'limit': '2'},
                                     {'by': 'pixels'}, {'by': None}, {'max_images': -1},
                                     {'max_images': 'all'}])
def test_bad_options(search, folder, options):
    with pytest.raises(InvalidQueryError, match=f'^{next(iter(options))} must be'):
        search.rank(folder, 'red', **options)


def test_several_phrases_and_negative(search, folder):
    ranked = search.rank(folder, ['red', 'green'])
    assert ranked['filename'][2].endswith('blue.png')
    ranked = search.rank(folder, ['red', 'green'], negative='green')
    assert ranked['filename'][0].endswith('red.png')


def test_long_phrase_is_used_with_a_warning(search, folder):
    with pytest.warns(LongPhraseWarning, match='longer than the 64 tokens') as caught:
        ranked = search.rank(folder, 'red ' + 'very ' * 100)
    assert ranked['filename'][0].endswith('red.png')
    assert caught[0].filename == __file__


# ---- what counts -------------------------------------------------------------------------


class ReferenceEncoder(ColourEncoder):
    """With fitted weights and reference images: a hundred greys, of which none is a colour."""

    def __init__(self, weights=(1.0, 1.0)):
        super().__init__('reference')
        self.bundle = dataclasses.replace(self.bundle, ranking_weights=weights)
        rng = np.random.default_rng(1)
        vectors = normalise(1 + 0.2 * rng.normal(size=(100, 3)))
        self.bundle.__dict__['_background'] = Background(vectors, vectors[:50])


@pytest.fixture
def reference(tmp_path):
    return ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'cache')


def test_by_metadata_looks_at_no_picture(search, serve, encoder):
    mast, obs = serve_colours(serve, ['red', 'green'], words=['green', 'red'])
    ranked = search.rank(obs, 'red', by='metadata')
    assert best_colour(ranked) == 'green'
    assert mast.downloads() == []
    assert encoder.n_images == 0
    assert ranked['clip_image'].mask.all()
    assert ranked.meta['clip']['by'] == 'metadata'


def test_by_metadata_of_rows_without_any(search):
    table = Table({'jpegURL': ['mast:a', 'mast:b'], 'target_name': ['', 'red']})
    ranked = search.rank(table, 'red', by='metadata')
    assert ranked[STATUS].tolist() == ['OK', 'SKIPPED']
    assert ranked['clip_message'][1] == 'the row has no metadata'
    with pytest.warns(NothingRankedWarning, match='the row has no metadata'):
        search.rank(table[:1], 'red', by='metadata')


def test_by_metadata_needs_no_image_column(search):
    ranked = search.rank(Table({'target_name': ['blue', 'red']}), 'red', by='metadata')
    assert ranked['target_name'][0] == 'red'


def test_by_image_ignores_metadata(reference, serve):
    _, obs = serve_colours(serve, ['red', 'green'], words=['green', 'red'])
    ranked = reference.rank(obs, 'red', by='image')
    assert best_colour(ranked) == 'red'
    assert ranked['clip_metadata'].mask.all()


@pytest.mark.parametrize(('weights', 'colour'), [((1, 0.1), 'red'), ((0.1, 1), 'green')])
def test_by_both_weighs(weights, colour, serve, tmp_path):
    search = ClipSearch(encoder=ReferenceEncoder(weights), cache_dir=tmp_path)
    _, obs = serve_colours(serve, ['red', 'green'], words=['green', 'red'])
    ranked = search.rank(obs, 'red')
    assert best_colour(ranked) == colour
    assert not ranked['clip_metadata'].mask.any()
    assert not ranked['clip_image'].mask.any()


def test_filter(reference, folder):
    kept = reference.filter(folder, 'red')
    assert [Path(name).name for name in kept['filename']] == ['red.png']
    assert kept['clip_false_alarm'][0] == pytest.approx(1 / 101)
    assert kept.meta['clip']['n_rows'] == 3
    assert 0 < kept.meta['clip']['chance'] < 0.1
    assert len(reference.filter(folder, 'red', false_alarm_rate=0.999)) == 1
    (folder / 'broken.png').write_bytes(b'broken')
    (folder / 'red.png').unlink()
    with (pytest.warns(UnreadImagesWarning),
          pytest.warns(NothingStandsOutWarning, match='stands out')):
        assert len(reference.filter(folder, 'red')) == 0


def test_a_ranking_like_chance_is_said_once(reference, folder):
    (folder / 'red.png').unlink()
    for verb in (reference.rank, reference.filter):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            ranked = verb(folder, 'red')
        assert [warning.category for warning in caught] == [NothingStandsOutWarning]
        assert str(caught[0].message).startswith('Nothing stands out: of 2 rows')
        assert ranked.meta['clip']['chance'] > 0.5


def test_filter_says_that_it_leaves_nothing_of_a_good_ranking(reference, folder):
    with pytest.warns(NothingStandsOutWarning,
                      match='No picture has a false-alarm rate of 0.005 or less'):
        assert len(reference.filter(folder, 'red', false_alarm_rate=0.005)) == 0


@pytest.mark.parametrize('options', [{'false_alarm_rate': 0}, {'false_alarm_rate': 1},
                                     {'false_alarm_rate': float('nan')}, {'by': 'metadata'}])
def test_filter_needs_a_rate_and_pictures(reference, folder, options):
    with pytest.raises(InvalidQueryError):
        reference.filter(folder, 'red', **options)


def test_filter_needs_reference_images(search, folder):
    with pytest.raises(InvalidQueryError, match="'colours' has no reference images"):
        search.filter(folder, 'red')


# ---- local names in tables ---------------------------------------------------------------


def test_names_that_lead_elsewhere_are_never_read(search, folder, tmp_path):
    secret = tmp_path / 'secret.png'
    secret.write_bytes(content('red'))
    (folder / 'link.png').symlink_to(secret)
    table = Table({'image': ['blue.png', '../secret.png', str(secret), 'link.png',
                             f'file://{secret}'], 'target_name': ['x'] * 5})
    with pytest.warns(UnreadImagesWarning, match='4 of 5'):
        ranked = search.rank(table, 'red', image_dir=folder)
    assert ranked[STATUS].tolist() == ['OK'] + ['ERROR'] * 4
    assert ranked['image'][0] == 'blue.png'
    assert [bool(card.jpeg) for card in search.gallery(ranked).cards] == [True] + [False] * 4
    described = search.rank(table, 'red', by='metadata', image_dir=folder)
    assert sum(bool(card.jpeg) for card in search.gallery(described).cards) == 1
    for results in (table, ranked, described):
        assert sum(image is not None for image in
                   search.get_images(results, image_dir=folder)) == 1
    assert search.get_images(table) == [None] * 5
    with pytest.raises(ImageError, match=r'leads out of image_dir|give image_dir'):
        search.encode_images(table)


def test_names_without_a_folder(search, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.warns(NothingRankedWarning, match='give image_dir'):
        search.rank(Table({'image': ['red.png']}), 'red')
