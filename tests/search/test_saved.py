# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A search that is saved, and asked again when there is more to find.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time
from astroquery.exceptions import InvalidQueryError
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search import ClipSearch, sample
from astroclip_search.exceptions import ImageError, UnreadImagesWarning
from astroclip_search.search.recipe import decoded, encoded, fingerprints, lively, recipe
from tests.colours import ColourEncoder, content, picture
from tests.loopback.archive import Archive
from tests.loopback.vo import Vo

FORMATS = ['.ecsv', '.fits', '.vot', '.parquet']
HST = {'obs_collection': 'HST'}


def observe(mast, number, colour='red', **changed):
    """One more observation in the archive."""
    uri = f'mast:HST/product/new{number}_{colour}.jpg'
    row = mast.archive.rows[0] | {
        'obsid': str(5000 + number), 'obs_id': f'new{number}', 'jpegURL': uri, **changed}
    mast.archive = Archive(
        [*mast.archive.rows, row],
        {**mast.archive.files, uri: content(colour, 'JPEG') + b'new%d' % number},
        names={'M 42': (83.6, -5.4)})


def names(table):
    return sorted(table['obs_id'].tolist())


def labels(table):
    return dict(zip(table['obs_id'].tolist(), np.ma.filled(table['clip_label'], -1).tolist(),
                    strict=True))


@pytest.mark.parametrize('suffix', FORMATS)
def test_what_is_new_in_an_archive(search, sky, tmp_path, suffix):
    file = search.save(search.query_criteria('red', criteria=HST), tmp_path / f'reds{suffix}')
    assert not len(search.rerun(file))
    observe(sky, 1)
    observe(sky, 2, 'green')
    observe(sky, 3, obs_collection='JWST')
    # Another day, another session.
    later = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'later')
    new = later.rerun(file)
    assert new['obs_id'].tolist() == ['new1', 'new2'], 'the best first'
    assert new['clip_new'].all()
    assert new.meta['clip']['n_new'] == 2
    assert new.meta['clip']['since'] <= new.meta['clip']['date']
    both = later.rerun(file, new_only=False)
    assert names(both[both['clip_new']]) == ['new1', 'new2']
    assert len(both) == 5 + 2


@pytest.mark.parametrize('new_only', [True, False])
def test_the_next_time_it_is_about_what_came_later(search, sky, tmp_path, new_only):
    file = search.save(search.query_criteria('red', criteria=HST), tmp_path / 'reds.ecsv')
    observe(sky, 1)
    search.save(search.rerun(file, new_only=new_only), file, overwrite=True)
    assert not len(search.rerun(file))
    observe(sky, 2)
    assert names(search.rerun(file)) == ['new2']


def test_rows_that_were_found_and_not_shown_are_not_new(search, sky):
    best = search.query_criteria('red', criteria=HST, limit=1)
    assert not len(search.rerun(best))
    observe(sky, 1)
    assert names(search.rerun(best, limit=1)) == ['new1']
    assert search.rerun(best, limit=1, new_only=False)['clip_rank'].tolist() == [1]


QUERIES = {
    'words': lambda search: search.query_text('red disks'),
    'region': lambda search: search.query_region(SkyCoord(83.6, -5.4, unit='deg'), 'red',
                                                 radius=10 * u.arcmin, criteria=HST),
    'a region in words': lambda search: search.query_region('83.6d -5.4d', 'red', radius=0.1),
    'object': lambda search: search.query_object('M 42', 'red', radius='10 arcmin'),
    'criteria': lambda search: search.query_criteria('red', criteria={
        'proposal_id': ['1234'], 'calib_level': [3]} | HST),
    'example': lambda search: search.query_image(search.query_text('red disks')[0],
                                                 criteria=HST),
}


@pytest.mark.filterwarnings('ignore::astroquery.exceptions.InputWarning')
@pytest.mark.parametrize('name', list(QUERIES))
def test_every_query_of_mast_is_asked_again(search, sky, tmp_path, name):
    file = search.save(QUERIES[name](search), tmp_path / 'reds.ecsv')
    observe(sky, 1)
    assert names(search.rerun(file)) == ['new1']
    assert search.rerun(file, new_only=False).meta['clip']['search'] == Table.read(
        file).meta['clip']['search']


def test_new_pictures_in_a_folder(search, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    file = search.save(search.rank(folder.name, 'red'), tmp_path / 'reds.fits')
    (folder / 'again.png').write_bytes(content('red'))
    (folder / 'more.png').write_bytes(content('blue'))
    monkeypatch.chdir('/')
    new = search.rerun(file)
    assert [Path(name).name for name in new['filename']] == ['again.png', 'more.png']


def test_a_table_in_memory_has_to_be_given(search, sky):
    from astroquery.mast import Observations

    best = search.rank(Observations.query_criteria(**HST), 'red')
    with pytest.raises(InvalidQueryError, match='give results, the table as it is now'):
        search.rerun(best)
    observe(sky, 1)
    new = search.rerun(best, Observations.query_criteria(**HST))
    assert names(new) == ['new1']
    assert new.meta['clip']['query'] == ['red']


def test_rates_that_there_are_not(search, sky):
    best = search.query_criteria('red', criteria=HST)
    with pytest.raises(InvalidQueryError, match='false_alarm_rate must be'):
        search.rerun(best, false_alarm_rate=2)
    with pytest.raises(InvalidQueryError, match='has no reference images'):
        search.rerun(best, false_alarm_rate=.01)
    with pytest.raises(InvalidQueryError, match='needs pictures'):
        search.rerun(search.query_criteria('red', criteria=HST, by='metadata'),
                     false_alarm_rate=.01)


def real_folder(tmp_path, *names):
    folder = tmp_path / 'rings'
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(sample.IMAGE_DIR / 'previews' / f'syn_{name}.jpg', folder)
    return folder


def test_only_what_shows_it_and_what_can_be_read(tmp_path):
    search = ClipSearch(cache_dir=tmp_path / 'cache')
    folder = real_folder(tmp_path, '0002', '0010', '0014')
    best = search.rank(folder, 'ring galaxy')
    (folder / 'syn_0041.jpg').write_bytes(b'broken')
    with pytest.warns(UnreadImagesWarning):
        new = search.rerun(best, false_alarm_rate=.9999)
    assert not len(new)
    # It has been judged only now.
    real_folder(tmp_path, '0041', '0052')
    again = search.rerun(new, false_alarm_rate=.9999)
    assert sorted(Path(name).stem for name in again['filename']) == ['syn_0041', 'syn_0052']
    assert not len(search.rerun(again))
    # None is that good: all are judged, and known.
    assert not len(search.rerun(best, false_alarm_rate=1e-6))
    assert not len(search.rerun(search.rerun(best, false_alarm_rate=1e-6)))


def test_a_filter_is_asked_again_as_one(tmp_path):
    search = ClipSearch(cache_dir=tmp_path / 'cache')
    folder = real_folder(tmp_path, '0002', '0010', '0014', '0041')
    kept = search.filter(folder, 'ring galaxy', false_alarm_rate=.5)
    assert 0 < len(kept) < 4
    assert not len(search.rerun(kept)), 'what was dropped is not new'
    everything = search.rerun(kept, new_only=False)
    assert len(everything) == len(kept)


@pytest.mark.parametrize('suffix', ['.csv', '.ecsv', '.fits', '.parquet'])
def test_a_table_file_is_read_again(search, folder, tmp_path, suffix):
    table = Table({'image': ['red.png', 'blue.png'], 'n': [1, 2]})
    table.write(tmp_path / f'table{suffix}')
    best = search.rank(tmp_path / f'table{suffix}', 'red', image_dir=folder)
    assert not len(search.rerun(best))
    table.add_row(('green.png', 3))
    table.write(tmp_path / f'table{suffix}', overwrite=True)
    assert search.rerun(best)['n'].tolist() == [3]
    # As the search of a table that was ranked before.
    again = search.rank(search.save(best, tmp_path / 'saved.ecsv'), 'blue')
    assert again.meta['clip']['search'] == best.meta['clip']['search']
    assert search.rerun(again)['n'].tolist() == [3]


def test_the_folder_of_the_images_is_kept_for_a_table_in_memory(search, folder):
    best = search.rank(Table({'image': ['red.png']}), 'red', image_dir=folder)
    new = search.rerun(best, Table({'image': ['red.png', 'blue.png']}))
    assert new['image'].tolist() == ['blue.png']
    assert new['clip_status'].tolist() == ['OK']


def test_new_rows_that_a_limit_cuts_off_stay_new(search, sky):
    best = search.query_criteria('red', criteria=HST)
    for number in range(3):
        observe(sky, number)
    first = search.rerun(best, limit=1)
    assert len(first) == 1
    assert len(search.rerun(first)) == 2
    for limit in (0, -1, 'a', 1.5):
        with pytest.raises(InvalidQueryError, match='limit must be'):
            search.rerun(best, limit=limit)


def test_an_option_may_be_as_usual_again(search, sky):
    best = search.query_criteria('red', criteria=HST, by='image')
    assert search.rerun(best, new_only=False).meta['clip']['by'] == 'image'
    assert search.rerun(best, new_only=False, by='both').meta['clip']['by'] == 'both'


def test_names_that_are_no_text_are_not_new(search, folder, tmp_path):
    try:
        (folder / 'caf\udce9.png').write_bytes(content('red'))
    except (OSError, UnicodeError):
        pytest.skip('the file system has no such names')
    with pytest.warns(UserWarning, match='not Unicode|replaced'):
        file = search.save(search.rank(folder, 'red'), tmp_path / 'reds.ecsv')
    assert not len(search.rerun(file))


def test_marks_are_kept(search, sky, tmp_path):
    best = search.query_criteria('red', criteria=HST)
    marked = search.refine(best, liked=[2], disliked=[1])
    file = search.save(marked, tmp_path / 'reds.ecsv')
    observe(sky, 1)
    again = search.rerun(file, new_only=False)
    assert again['obs_id'][0] == marked['obs_id'][0]
    assert {**labels(again), 'new1': None} == {**labels(marked), 'new1': None}
    assert names(search.rerun(file)) == ['new1']


def test_other_options(search, sky):
    best = search.query_criteria('red', criteria=HST, by='image', negative='blue', weights={
        'negative': .3}, group_by='target_name')
    again = search.rerun(best, new_only=False)
    for name in ('by', 'negative', 'weights', 'query'):
        assert again.meta['clip'][name] == best.meta['clip'][name]
    assert again.meta['clip']['search'] == best.meta['clip']['search']
    assert again.meta['clip']['search']['options'] == {'group_by': 'target_name'}


def test_an_example_in_memory_is_lost(search, sky):
    best = search.query_criteria(None, criteria=HST, like=picture('green'))
    with pytest.raises(InvalidQueryError, match='like was an image in memory: give like again'):
        search.rerun(best)
    observe(sky, 1)
    assert names(search.rerun(best, like=picture('green'))) == ['new1']


def test_an_argument_that_cannot_be_kept(search, sky):
    best = search.query_criteria('red', criteria=HST)
    best.meta['clip']['search'] = recipe('query_criteria', criteria={'filters': object()})
    with pytest.raises(InvalidQueryError, match='as its criteria was an object of Python'):
        search.rerun(best)


@pytest.mark.parametrize('given', [None, 7, Table({'a': [1]}), 'no-such-file.ecsv', [1, 2]])
def test_what_is_no_search(search, given):
    with pytest.raises(InvalidQueryError, match=r'does not say what was searched|There is no file'):
        search.rerun(given)
    with pytest.raises(InvalidQueryError, match='save takes a table that a verb'):
        search.save(given, 'a.ecsv')


def test_saving_keeps_a_file_that_is_there(search, folder, tmp_path):
    best = search.rank(folder, 'red')
    file = tmp_path / 'reds.ecsv'
    file.write_text('mine')
    with pytest.raises(InvalidQueryError, match='overwrite'):
        search.save(best, file)
    assert file.read_text() == 'mine'
    assert search.save(best, str(file), overwrite=True) == file
    for name in ('reds.csv', 'reds.txt', 'reds'):
        with pytest.raises(InvalidQueryError, match='cannot keep what was searched: give a file'):
            search.save(best, tmp_path / name)
    assert not (tmp_path / 'reds.csv').exists()


# ---- files of strangers ----------------------------------------------------------------------

def forged(asker, folder, **changed):
    best = asker.rank(folder, 'red')
    best.meta['clip'] |= changed
    return best


@pytest.mark.parametrize('made', [
    {}, [], 'rank', {'verb': 'rank'}, {'verb': ['rank'], 'arguments': {}},
    {'verb': 'query_text', 'arguments': []}, {'verb': 'close', 'arguments': {}},
    {'verb': '__init__', 'arguments': {}}, {'verb': 'rank', 'arguments': {'results': [7]}},
    {'verb': 'rank', 'arguments': {}}, {'verb': 'query_sia', 'arguments': {'service': 'file:///x'}},
    {'verb': 'query_tap', 'arguments': {'service': None, 'query': 'SELECT'}},
    {'verb': 'query_region', 'arguments': {'coordinates': {'=position': ['x', 'y']}}},
    {'verb': 'query_region', 'arguments': {'coordinates': {'=quantity': [[1, 'a'], 'parsec']}}},
    {'verb': 'query_region', 'arguments': {'radius': {'=quantity': [1, '10**1234 deg']}}},
    {'verb': 'query_region', 'arguments': {'radius': {'=quantity': [1, 'deg', 'U1']}}},
])
def test_a_recipe_that_makes_no_sense(search, folder, made):
    with pytest.raises(InvalidQueryError):
        search.rerun(forged(search, folder, search=made))



@pytest.mark.parametrize('options', [{'image_dir': ['x']}, {'image_dir': {'a': 1}},
                                     {'image_dir': 5}, {'image_column': 5},
                                     {'image_column': [['x']]}, {'image_column': True}])
def test_options_that_make_no_sense(search, folder, options):
    made = {'verb': 'rank', 'arguments': {'results': str(folder)}, 'options': options}
    name, = options
    with pytest.raises(InvalidQueryError, match=name):
        search.rerun(forged(search, folder, search=made))


@pytest.mark.parametrize('verb', ['query_sia', 'query_tap'])
def test_a_file_leads_to_no_private_service(search, folder, serve, verb):
    mast = serve()
    made = {'verb': verb, 'arguments': {'service': mast.url, 'query': 'SELECT * FROM a'}}
    with pytest.raises(InvalidQueryError, match=r'on a private network: add .* to conf.private'):
        search.rerun(forged(search, folder, search=made))
    assert not mast.downloads()
    assert not mast.connections


def test_nor_to_a_private_picture(search, folder):
    with Vo([]) as centre:
        address = f'{centre.url}/files/a.jpg'
        made = {'verb': 'rank', 'arguments': {'results': [address]}}
        with pytest.warns(UserWarning, match='could be ranked'):
            again = search.rerun(forged(search, folder, search=made))
        assert 'private address' in again['clip_message'][0]
        with pytest.raises(ImageError, match='private address'):
            search.rerun(forged(search, folder, like=[address]), folder)
        assert not centre.log


@pytest.mark.parametrize('before', [' ', '\n'])
def test_spaces_do_not_make_an_address_the_users(search, folder, before):
    with Vo([]) as centre:
        made = {'verb': 'rank', 'arguments': {'results': [f'{before}{centre.url}/files/a.jpg']}}
        with pytest.warns(UserWarning, match='could be ranked'):
            again = search.rerun(forged(search, folder, search=made))
        assert 'private address' in again['clip_message'][0]
        assert not centre.log


@pytest.mark.parametrize('name', ['like', 'unlike', 'cache', 'max_images', 'limit', 'by'])
def test_options_that_no_search_keeps_are_not_believed(search, folder, name):
    with Vo([]) as centre:
        address = f'{centre.url}/files/a.jpg'
        made = {'verb': 'rank', 'arguments': {'results': [str(folder)]},
                'options': {name: address}}
        assert not len(search.rerun(forged(search, folder, search=made)))
        assert not centre.log


@pytest.mark.parametrize('address', ['http://a:99999/x', 'http://a..b/x', f'http://{"a" * 300}/x'])
def test_an_address_of_a_service_that_is_none(search, folder, address):
    made = {'verb': 'query_tap', 'arguments': {'service': address, 'query': 'SELECT'}}
    with pytest.raises(InvalidQueryError, match='is no address'):
        search.rerun(forged(search, folder, search=made))


# ---- plain data ------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.text(max_size=5) | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans(),
    lambda inner: (st.lists(inner, max_size=3) | st.tuples(inner, inner)
                   | st.dictionaries(st.text('abc', min_size=1, max_size=3), inner, max_size=3)),
    max_leaves=8)


@given(PLAIN)
def test_plain_arguments_come_back(value):
    made = recipe('verb', given=value)
    assert 'lost' not in made
    assert lively(made['arguments']['given']) == value


def test_arguments_of_astronomy_come_back():
    given = {'pos': (SkyCoord('10h21m', '+12d'), 0.3 * u.deg), 'band': (1, 2) * u.um,
             'time': Time('2026-11-30T01:02:03'), 'collection': np.str_('HST'),
             'maxrec': np.int64(7)}
    made = recipe('verb', **given)
    back = {name: lively(value) for name, value in made['arguments'].items()}
    assert back['pos'][0].separation(given['pos'][0]) < 1 * u.uas
    assert back['pos'][1] == given['pos'][1]
    assert (back['band'] == given['band']).all()
    assert back['time'] == given['time']
    assert (back['collection'], back['maxrec']) == ('HST', 7)


def test_fingerprints_do_not_depend_on_what_a_file_makes_of_a_column():
    plain = Table({'obsid': ['1000', '1001'], 'a': ['x', 'y']})
    sources = ['https://a.example/1', '']
    same = fingerprints(plain, sources)
    assert len(set(same)) == 2
    for ids in (np.array([1000, 1001]), np.array([b'1000', b'1001']),
                np.ma.MaskedArray(['1000', '1001'], mask=False)):
        assert fingerprints(Table({'obsid': ids}), sources) == same
    by_source = fingerprints(Table({'a': ['x', 'y']}), sources)
    assert fingerprints(Table({'obsid': [1000., 1001.]}), sources) == same
    assert by_source[0] == fingerprints(Table({'b': [1]}), sources[:1])[0]
    assert decoded(encoded([*same, *by_source])) == {*same, *by_source}
    for nonsense in (None, 7, 'not base64!', b'x'):
        assert decoded(nonsense) == set()


def test_of_a_masked_identifier_the_image_counts():
    table = Table({'obsid': np.ma.MaskedArray([1000, 0], mask=[False, True])})
    sources = ['https://a.example/1', 'https://a.example/2']
    assert fingerprints(table, sources)[1] == fingerprints(Table({'a': [1]}), sources[1:])[0]


def test_folders_are_found_from_anywhere(search, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    best = search.rank(folder.name, 'red')
    assert best.meta['clip']['search'] == {
        'verb': 'rank', 'arguments': {'results': str(folder)}, 'options': {}}
    copied = folder.parent / 'copy'
    shutil.copytree(folder, copied)
    new = search.rerun(best, copied)
    assert len(new) == 3, 'other files'
