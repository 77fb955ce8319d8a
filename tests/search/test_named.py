# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A table may name the images that the user of this process has named, and no others; what was named
yesterday, and is in the cache, may be compared but neither read nor shown.
"""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from astroquery.exceptions import InvalidQueryError

from astroclip_search import ClipSearch
from astroclip_search.exceptions import LostEmbeddingsWarning, NothingRankedWarning
from astroclip_search.images.refs import colour
from astroclip_search.search import named
from tests.colours import ColourEncoder, content, picture
from tests.search.test_rank import ReferenceEncoder
from tests.search.test_verbs_into_verbs import opened_files


@pytest.fixture
def another_day(monkeypatch, tmp_path):
    """A search in what could be another process, with the same cache."""
    def begin(encoder=None):
        monkeypatch.setattr(named, '_by_cache', {})
        return ClipSearch(encoder=encoder or ReferenceEncoder(), cache_dir=tmp_path / 'cache')

    return begin


def pictures_of(search, table, **options):
    cards = search.gallery(table, **options).cards
    images = search.get_images(table, **options)
    return [card.jpeg is not None for card in cards], [image is not None for image in images]


FORMATS = ['ecsv', 'fits', 'vot', 'parquet', 'csv']


def through(table, form, tmp_path):
    """The same table from a file, or a frame, of somebody."""
    if form == 'pandas':
        return pytest.importorskip('pandas').DataFrame(
            {name: np.ma.filled(table[name]) for name in table.colnames})
    if form == 'pyarrow':
        return pytest.importorskip('pyarrow').table(
            {name: np.ma.filled(table[name]) for name in table.colnames})
    if form == 'parquet':
        pytest.importorskip('pyarrow')
    path = tmp_path / f'mailed.{form}'
    if form == 'csv':
        table[list(table.colnames)].write(path, overwrite=True)
        return path
    ClipSearch.save(table, path, overwrite=True)
    return path


@pytest.mark.parametrize('form', [*FORMATS, 'pandas', 'pyarrow'])
def test_a_mailed_table_shows_nothing_of_what_the_cache_knows(another_day, folder, tmp_path, form):
    mine = another_day().rank(folder, 'red')
    mailed = through(mine, form, tmp_path)
    search = another_day()
    assert pictures_of(search, mailed) == ([False] * 3, [False] * 3)
    with pytest.warns(NothingRankedWarning, match='has not read'):
        again = search.rank(mailed, 'green')
    assert set(again['clip_status']) == {'ERROR'}
    with pytest.raises(InvalidQueryError):
        search.encode_images(folder / 'none.png')
    # With their folder all is as before.
    assert pictures_of(search, mailed, image_dir=folder) == ([True] * 3, [True] * 3)
    assert set(search.rank(mailed, 'green', image_dir=folder)['clip_status']) == {'OK'}


def test_a_composite_is_all_or_nothing(another_day, folder, tmp_path):
    search = another_day()
    search.rank(folder, 'red')
    parts = [str(folder / f'{name}.png') for name in ('red', 'green', 'blue')]
    table = Table({'clip_source': [colour(*parts)], 'clip_status': ['OK']})
    assert search.session.is_ours(parts[0])
    assert not another_day().session.is_ours(parts[0])
    assert pictures_of(another_day(), table) == ([False], [False])


def test_going_on_needs_no_picture(another_day, folder, tmp_path):
    """Marks, suggestions and plots compare embeddings: nothing is read, nothing is shown."""
    file = ClipSearch.save(another_day().rank(folder, 'red', by='image'), tmp_path / 'mine.ecsv')
    search = another_day()
    with opened_files() as opened:
        best = search.refine(file, liked=[3], disliked=[1])
        assert set(best['clip_status']) == {'OK'}
        assert best['clip_rank'].tolist() == [1, 2, 3]
        assert len(search.suggest(file, n=1)) == 1
        assert pictures_of(search, best) == ([False] * 3, [False] * 3)
    assert not [name for name in opened if name.endswith('.png')]



@pytest.mark.parametrize('own_cache', [False, True])
def test_going_on_asks_no_disk_for_what_a_table_names(another_day, folder, tmp_path, monkeypatch,
                                                      own_cache):
    """To look at a file may log in at the computer that has it."""
    parts = [str(folder / f'{name}.png') for name in ('red', 'green', 'blue')]
    first = another_day()
    mine = first.rank(folder, 'red', by='image')
    mine['clip_source'] = mine['clip_source'].astype(object)
    mine.add_row(mine[2])
    mine['clip_source'][3] = '/secretshare/a.png'
    mine.add_row(mine[2])
    mine['clip_source'][4] = colour(parts[0], '/secretshare/b.png', parts[2])
    mine['clip_rank'] = np.arange(1, 6)
    mine.meta['clip'] |= {'like': ['/secretshare/like.png', parts[0]]}
    search = another_day()
    if own_cache:
        search.rank([picture('red')], 'red', cache=False)
    asked = []
    stat = Path.stat
    monkeypatch.setattr(Path, 'stat', lambda self, **more: (
        asked.append(str(self)), stat(self, **more))[1])
    with pytest.warns(LostEmbeddingsWarning):
        best = search.refine(mine, liked=[3], disliked=[1])
    with pytest.warns(LostEmbeddingsWarning):
        search.suggest(mine, n=1)
    assert best['clip_score'].mask.tolist() == [False] * 3 + [True] * 2
    assert not [path for path in asked if path.endswith('.png')]


def test_a_composite_of_another_day_is_compared(another_day, folder):
    parts = [str(folder / f'{name}.png') for name in ('red', 'green', 'blue')]
    space = 'a space'
    cache = another_day().session.cache(True)
    for state in ('|1|2|3', '|4|5|6'):
        key = colour(*(f'{part}{state}' for part in parts))
        cache.put(space, [key, f'{parts[0]}{state}'], np.eye(2, 4))
    other = colour(parts[0], parts[1], 'mast:HST/b.fits')
    assert cache.keys_of(space, [colour(*parts), parts[0], parts[1], other]) == {
        colour(*parts): key, parts[0]: f'{parts[0]}|4|5|6'}


def test_arrays_are_known_by_their_content(another_day, tmp_path):
    """Nobody can guess the name of an image in memory who does not have it."""
    mine = another_day().rank([picture('red'), picture('blue')], 'red')
    file = ClipSearch.save(mine, tmp_path / 'mine.ecsv')
    search = another_day()
    assert pictures_of(search, file)[0] == [True, True], 'thumbnails are in the cache'
    assert set(search.rank(file, 'blue')['clip_status']) == {'OK'}


def test_sessions_of_one_process_share_what_was_named_with_one_cache(another_day, folder, tmp_path):
    one = another_day()
    file = ClipSearch.save(one.rank(folder, 'red'), tmp_path / 'mine.ecsv')
    other = ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'cache')
    assert pictures_of(other, file)[1] == [True] * 3
    stranger = ClipSearch(encoder=ReferenceEncoder(), cache_dir=tmp_path / 'elsewhere')
    assert pictures_of(stranger, file)[1] == [False] * 3


# ---- searches that are asked again ---------------------------------------------------------


@pytest.fixture
def saved(another_day, folder, tmp_path):
    """A search of a folder, written in another process."""
    search = another_day(ColourEncoder())
    return ClipSearch.save(search.rank(folder, 'red'), tmp_path / 'saved.ecsv')


def test_a_saved_search_looks_into_no_folder_of_its_own(another_day, saved, folder):
    search = another_day(ColourEncoder())
    with pytest.raises(InvalidQueryError, match='a file may not say what is read here'):
        search.rerun(saved)
    (folder / 'new.png').write_bytes(content('red') + b'new')
    for options in ({'image_dir': folder}, {'image_dir': folder.parent}, {'results': folder}):
        new = another_day(ColourEncoder()).rerun(saved, **options)
        assert [name.rpartition('/')[2] for name in new['filename'].tolist()] == ['new.png']
    with pytest.raises(InvalidQueryError, match='image_dir, that folder or one above it'):
        another_day(ColourEncoder()).rerun(saved, image_dir=folder / 'sub')


@pytest.mark.parametrize('item', ['../pictures', '/', '~', 'a/../../pictures', 'file:///etc',
                                  '\\\\server\\share', 'C:\\pictures', 'a\0b', '*.png'])
def test_no_spelling_of_a_place_leads_there(another_day, saved, folder, monkeypatch, item):
    monkeypatch.chdir(folder)
    table = Table.read(saved)
    table.meta['clip']['search'] = {'verb': 'rank', 'arguments': {'results': item},
                                    'options': {'image_dir': str(folder)}}
    with pytest.raises(InvalidQueryError, match='may not say what is read'):
        another_day(ColourEncoder()).rerun(table)


def test_a_saved_search_allows_no_paths_in_a_column(another_day, saved, folder, tmp_path):
    table = Table.read(saved)
    table.meta['clip']['search']['options'] = {'image_column': 'path'}
    mine = Table({'path': [str(folder / 'red.png')]})
    with pytest.raises(InvalidQueryError, match='give image_column again'):
        another_day(ColourEncoder()).rerun(table, mine)
    again = another_day(ColourEncoder()).rerun(table, mine, image_column='path',
                                                new_only=False)
    assert again['clip_status'].tolist() == ['OK']


def test_a_saved_search_names_no_folder_of_images(another_day, saved, folder):
    table = Table.read(saved)
    table.meta['clip']['search']['options'] = {'image_dir': str(folder)}
    with pytest.warns(NothingRankedWarning, match='give image_dir'):
        another_day(ColourEncoder()).rerun(table, Table({'image': ['red.png']}), new_only=False)


def test_the_meta_of_a_table_is_bounded(another_day, folder):
    table = Table({'image': ['red.png']})
    many = [0] * 1000
    table.meta['clip'] = {'query': ['x'], 'more': [many] * 1000}
    for verb in ('rank', 'gallery', 'get_images'):
        arguments = ['red'] if verb == 'rank' else []
        with pytest.raises(InvalidQueryError, match='unfolds to more than'):
            getattr(another_day(), verb)(table, *arguments, image_dir=folder)
