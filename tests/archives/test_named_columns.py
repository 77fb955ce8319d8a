# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Columns that the user names, whole paths, formats that are plain words, and tables in lists.
"""

import numpy as np
import pytest
from astropy.table import Column, MaskedColumn, QTable, Table
from astroquery.exceptions import InvalidQueryError
from astroquery.utils.commons import TableList
from PIL import Image

from astroclip_search import ClipSearch
from astroclip_search.archives.open import as_table, open_results
from astroclip_search.archives.tables import image_refs
from astroclip_search.exceptions import NothingRankedWarning
from tests.archives import rows
from tests.colours import ColourEncoder, serve_colours
from tests.search.test_rank import ReferenceEncoder

URL, FITS = 'https://archive.example/a.jpg', 'https://archive.example/a.fits'


def states(table, **options):
    return rows.states(image_refs(table, **options))


def codes(found):
    return [found.reasons[row][0].code if row in found.reasons else '' for row in range(len(found))]


# ---- image_column --------------------------------------------------------------------------


def test_a_column_that_no_list_has():
    table = Table({'bild': [URL, '', FITS], 'zweites': [FITS, URL, '']})
    assert image_refs(table).sources == [None] * 3
    assert image_refs(table, image_column='bild').sources == [URL, None, FITS]
    assert image_refs(table, image_column=['bild', 'zweites']).sources == [URL, URL, FITS]
    assert codes(image_refs(table, image_column='bild')) == ['', 'no_image_named', '']


def test_the_named_column_comes_before_all_that_the_table_says():
    table = Table({'preview': [URL], 'mine': [FITS], 'clip_source': ['https://other.example/b.png'],
                   'clip_status': ['ERROR'], 'clip_message': ['HTTP 500'],
                   'dataproduct_type': ['spectrum']})
    assert states(table, image_column='mine') == [(FITS, '')]


def test_a_named_column_of_links():
    table = Table({'access_url': ['https://a.example/l?1', URL],
                   'access_format': ['application/x-votable+xml;content=datalink', 'image/jpeg'],
                   'datalink': ['https://a.example/l?2'] * 2})
    assert image_refs(table, image_column='access_url').sources == [
        'datalink:https://a.example/l?1', URL]
    found = image_refs(table, image_column='datalink')
    assert found.sources == ['datalink:https://a.example/l?2'] * 2
    assert found.has_links


@pytest.mark.parametrize(('name', 'message'), [
    ('previw', "no column 'previw'; do you mean 'Preview'"), ('zzz', 'it has Preview, n, two'),
    ('n', "'n' holds no text"), ('two', "'two' holds no text"),
    (['Preview', 'm'], "no column 'm'")])
def test_a_column_that_is_not_there(name, message):
    table = Table({'Preview': [URL], 'n': [1], 'two': [['a', 'b']]})
    with pytest.raises(InvalidQueryError, match=message):
        image_refs(table, image_column=name)


@pytest.mark.parametrize('wrong', [3, [], [1], {'a': 1}])
def test_what_is_no_name_of_a_column(wrong):
    search = ClipSearch(encoder=ColourEncoder())
    table = Table({'preview': [URL]})
    for verb in (search.rank, search.classify, search.gallery, search.get_images,
                 search.get_image_urls):
        options = {search.rank: ('red',), search.classify: (['a', 'b'],)}.get(verb, ())
        with pytest.raises(InvalidQueryError, match='image_column must be the name of a column'):
            verb(table, *options, image_column=wrong)


def test_images_have_no_column(folder):
    with pytest.raises(InvalidQueryError, match='these are images'):
        open_results(folder, image_column='a')


def test_every_verb_takes_the_column(folder, tmp_path):
    search = ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'cache')
    names = ['red', 'green', 'blue']
    table = Table({'bild': [str(folder / f'{name}.png') for name in names]})
    with pytest.raises(InvalidQueryError, match='Name it with image_column'):
        search.rank(table, 'red')
    given = {'image_column': 'bild'}
    assert search.rank(table, 'green', **given)['bild'][0].endswith('green.png')
    assert search.filter(table, 'green', **given)['bild'][0].endswith('green.png')
    assert search.classify(table, names, **given)['clip_class'].tolist() == names
    assert search.describe(table, names, limit=1, **given)['clip_phrase'].tolist() == names
    assert set(search.get_image_urls(table, **given)['clip_status']) == {''}
    assert all(isinstance(image, Image.Image) for image in search.get_images(table, **given))
    assert all(card.jpeg for card in search.gallery(table, **given).cards)


# ---- whole paths ---------------------------------------------------------------------------


def test_whole_paths_are_read_only_where_the_user_allows_it(folder):
    inside, outside = str(folder / 'red.png'), '/etc/hostname'
    table = Table({'filename': [inside, outside, 'green.png']})
    assert codes(image_refs(table)) == ['path_without_folder'] * 2 + ['file_without_folder']
    found = image_refs(table, image_dir=folder)
    assert codes(found) == ['', 'file_outside', '']
    assert found.sources == [inside, None, str(folder / 'green.png')]
    assert codes(image_refs(table, image_dir='/')) == ['', '', '']
    found = image_refs(table, image_column='filename')
    assert found.sources == [inside, outside, None]
    assert codes(found) == ['', '', 'file_without_folder']
    found = image_refs(table, image_column='filename', image_dir=folder)
    assert found.sources == [inside, outside, str(folder / 'green.png')]
    assert found.has_files


def test_the_row_says_how_to_allow_a_path(folder, tmp_path):
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')
    table = Table({'filename': [str(folder / 'red.png')]})
    with pytest.warns(NothingRankedWarning):
        ranked = search.rank(table, 'red')
    assert 'image_column' in ranked['clip_message'][0]
    assert 'image_dir' in ranked['clip_message'][0]
    ranked = search.rank(table, 'red', image_column='filename')
    assert ranked['clip_status'][0] == 'OK'
    assert search.rank(ranked, 'blue')['clip_status'][0] == 'OK', 'the user has named it'


# ---- what a ranking was of -----------------------------------------------------------------


def test_a_file_that_is_not_ours_keeps_its_name(folder, tmp_path):
    ranked = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'a').rank(folder, 'red')
    other = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'b')
    for verb, given in (('rank', 'blue'), ('classify', ['red', 'blue'])):
        with pytest.warns(NothingRankedWarning):
            again = getattr(other, verb)(ranked, given)
        assert sorted(again['clip_source']) == sorted(ranked['clip_source'])
        assert set(again['clip_status']) == {'ERROR'}
    best = other.rank(again, 'blue', image_dir=folder)
    assert set(best['clip_status']) == {'OK'}
    assert best['clip_source'][0].endswith('blue.png')


# ---- formats -------------------------------------------------------------------------------


@pytest.mark.parametrize(('form', 'expected'), [
    ('JPEG', URL), ('png', URL), ('image/pjpeg', URL), ('image/x-png', URL), ('JPEG image', URL),
    ('FITS', FITS), ('fits.gz', FITS), ('image/vnd.fits', FITS)])
def test_a_word_for_a_media_type(form, expected):
    """Also where the address has no suffix."""
    bare = 'https://archive.example/get?id=1'
    table = Table({'access_url': [bare, expected], 'access_format': [form] * 2})
    assert image_refs(table).sources == [bare, expected]


@pytest.mark.parametrize('form', ['unknown', '*/*', 'text/plain', 'image/*', 'N/A', 'science', '-',
                                  'application/x-unknown', 'application/json', '\u2014'])
def test_a_format_that_is_not_known_asks_the_suffix(form):
    table = Table({'access_url': [URL, FITS, 'https://archive.example/a.dat'],
                   'access_format': [form] * 3})
    assert image_refs(table).sources == [URL, FITS, None]


@pytest.mark.parametrize('form', ['text/html', 'application/pdf', 'application/x-fits-bintable',
                                  'spectrum/fits', 'FITS table'])
def test_a_format_that_is_no_image(form):
    assert image_refs(Table({'access_url': [FITS], 'access_format': [form]})).sources == [None]


# ---- lists ---------------------------------------------------------------------------------


def parts():
    return (Table({'preview': [URL], 'n': [1]}, meta={'clip': {'query': ['a']}}),
            QTable({'preview': [FITS], 'm': [2]}))


@pytest.mark.parametrize('make', [
    list, tuple, lambda found: TableList([('XMM', found[0]), ('HST', found[1])]),
    lambda found: {'XMM': found[0], 'HST': found[1]}, lambda found: [found[0][0], found[1]],
    lambda found: [found[0], found[1][0]], iter, lambda found: (table for table in found)])
def test_tables_in_a_list(make):
    table, found = open_results(make(parts()))
    assert found.sources == [URL, FITS]
    assert table['n'].tolist() == [1, None]
    assert 'clip' not in table.meta, 'of two rankings, none is that of all rows'


def test_frames_in_a_list():
    pandas = pytest.importorskip('pandas', reason='takes data frames')
    frame = pandas.DataFrame({'preview': [FITS]})
    assert open_results([frame, parts()[0]])[1].sources == [FITS, URL]
    assert open_results({'a': frame})[1].sources == [FITS]


def test_tables_that_do_not_make_one():
    wrong = [Table({'a': [1]}), Table({'a': [np.array([1, 2])]})]
    with pytest.raises(InvalidQueryError, match=r'do not make one .* rank each by itself'):
        open_results(wrong)


def test_a_generator_of_images(folder):
    assert len(open_results(folder.glob('*.png'))[0]) == 3
    assert len(open_results(np.zeros((4, 4)) + i for i in range(2))[0]) == 2


# ---- what is kept of a ranking -------------------------------------------------------------


def test_a_ranking_that_astropy_has_left_as_text():
    table = Table({'preview': [URL]}, meta={'CLIP': '{"query": ["ring"]}', 'other': 1})
    found = as_table(table)
    assert found.meta == {'clip': {'query': ['ring']}, 'other': 1}
    assert table.meta['CLIP'] == '{"query": ["ring"]}', 'the table of the user is as it was'
    assert as_table(Table(meta={'CLIP': '['})).meta == {}


# ---- trust ---------------------------------------------------------------------------------


def test_hosts_are_trusted_for_the_call_in_which_they_are_typed(serve, tmp_path):
    _, given = serve_colours(serve, ['red', 'blue'])
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')
    base = search.session.address('mast:').partition('/api')[0]
    addresses = [search.session.address(uri) for uri in given['jpegURL']]
    private = f'http://localhost:{base.rpartition(":")[2]}'
    typed = [address.replace(base, private) for address in addresses]
    assert search.rank(typed, 'blue')['clip_status'].tolist() == ['OK', 'OK']
    search.clear_cache()
    table = Table({'jpegURL': typed})
    with pytest.warns(NothingRankedWarning):
        refused = search.rank(table, 'blue')
    assert 'private' in refused['clip_message'][0]


def test_a_masked_name_is_none():
    table = Table({'mine': MaskedColumn([URL, FITS], mask=[True, False]),
                   'objects': Column([None, URL], dtype=object)})
    assert image_refs(table, image_column=['mine', 'objects']).sources == [None, FITS]
