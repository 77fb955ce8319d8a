# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What one verb returned, another takes; it may also come from a stranger's file.
"""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Column, MaskedColumn, Table
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search import conf
from astroclip_search.archives.hips import SERVER
from astroclip_search.archives.open import open_results
from astroclip_search.archives.tables import has_images
from astroclip_search.images.refs import colour, link
from astroclip_search.status import STATUSES
from tests.archives.rows import codes, message, states, status

URL = 'https://archive.example/a.jpg'
ARRAY = 'sha256:0123456789abcdef0123456789abcdef'
LINK = link('https://a.example/l?ID=1', circle=(10.5, -5.25, 0.01), fallback='mast:a.fits')


def ranked(source, state='OK', said='', **columns):
    """A ranked table of one row."""
    return Table({'clip_source': [source], 'clip_status': [state], 'clip_message': [said],
                  **columns})


def opened(*args, **options):
    return open_results(ranked(*args), **options)[1]


@pytest.mark.parametrize('source', [
    URL, 'mast:HST/product/a.jpg', LINK, link('https://a.example/l'),
    colour('mast:i.fits', 'https://a.example/v.fits', 'mast:b.fits')])
@pytest.mark.parametrize('state', ['OK', ''])
def test_remote_images_are_taken_as_they_are(source, state):
    table = ranked(source, state, jpegURL=['https://archive.example/other.jpg'])
    assert has_images(table)
    _, refs = open_results(table)
    assert states(refs) == [(source, '')]
    assert refs.reasons == {}
    assert refs.has_links == source.startswith('datalink:')
    assert not refs.has_files


@pytest.mark.parametrize('source', [
    '/data/a.fits', ARRAY, colour('/data/i.fits', 'mast:v.fits', 'mast:b.fits'),
    colour(ARRAY, ARRAY, ARRAY), link('https://a.example/l', fallback='/data/a.fits')])
def test_files_and_arrays_must_be_ours(source):
    asked = []
    refs = opened(source)
    assert (refs.sources, codes(refs)) == ([None], [['not_ranked_here']])
    assert status(opened(source, is_ours=lambda part: asked.append(part) or False)) == ['ERROR']
    assert source in asked  # an embedding of the whole is kept as such
    for known in (source, '/data', ARRAY):
        refs = opened(source, is_ours=lambda part, known=known: part.startswith(known))
        if refs.sources == [source]:
            assert refs.reasons == {}
            assert refs.has_files
            break
    else:
        pytest.fail('nobody knows it')


def test_every_part_of_a_composite_must_be_ours():
    source = colour('/data/i.fits', '/data/v.fits', '/etc/passwd')
    assert codes(opened(source, is_ours=lambda part: part.startswith('/data'))) == [
        ['not_ranked_here']]


def test_files_in_the_folder(tmp_path):
    for source in (str(tmp_path / 'a.fits'), str(tmp_path / 'b' / '..' / 'a.fits'),
                   colour(str(tmp_path / 'a.fits'), 'mast:b.fits', 'mast:c.fits')):
        assert states(opened(source, image_dir=tmp_path)) == [(source, '')]
    (tmp_path / 'out').symlink_to('/etc')
    for source in ('/etc/passwd', str(tmp_path / '..' / 'a.fits'), str(tmp_path / 'out' / 'x'),
                   str(tmp_path / 'nul\0byte'), ARRAY, '\\\\server\\share\\a.fits',
                   colour(str(tmp_path / 'a.fits'), '/etc/passwd', 'mast:c.fits')):
        refs = opened(source, image_dir=tmp_path)
        assert (refs.sources, codes(refs)) == ([None], [['not_ranked_here']])


def test_files_that_failed_keep_what_was_said():
    refs = opened('/data/a.fits', 'SKIPPED', 'no image in the FITS file')
    assert (refs.sources, status(refs), message(refs)) == (
        [None], ['SKIPPED'], ['no image in the FITS file'])
    assert codes(refs) == [['before']]
    refs = opened(ARRAY, 'NO_IMAGE', 'no finite pixels', is_ours=lambda part: True)
    assert (status(refs), message(refs)) == (['NO_IMAGE'], ['no finite pixels'])


def test_files_of_this_session_that_failed_are_tried_again():
    refs = opened('/data/a.fits', 'ERROR', 'damaged', is_ours=lambda part: True)
    assert (refs.sources, status(refs), message(refs)) == (['/data/a.fits'], [''], [''])


def test_images_on_the_network_are_tried_again():
    def again(source, said='HTTP 503', state='ERROR', **columns):
        return states(open_results(ranked(source, state, said, **columns))[1])

    # As the archive's own columns say, if they do.
    assert again('https://a.example/resolved', access_url=[''], datalink_url=['https://a.example/l']
                 ) == [('datalink:https://a.example/l', '')]
    assert again('', 'the row names no image', 'NO_IMAGE', preview=[URL]) == [(URL, '')]
    # A list of addresses, which need not look like images.
    assert again('https://a.example/get?id=1', url=['https://a.example/get?id=1']) == [
        ('https://a.example/get?id=1', '')]
    # A row that still has none.
    table = ranked(URL, 'SKIPPED', 'not an image', preview=[URL], dataproduct_type=['spectrum'])
    assert message(open_results(table)[1]) == ['not an image']
    assert again('', 'the row names no image', 'NO_IMAGE') == [(None, 'NO_IMAGE')]


def test_a_name_is_looked_up_once_there_is_a_folder(tmp_path):
    table = ranked('', 'ERROR', 'a file name: give image_dir, the folder it is in',
                   filename=['a.jpg'])
    assert message(open_results(table)[1]) == table['clip_message'].tolist()
    assert states(open_results(table, image_dir=tmp_path)[1]) == [(str(tmp_path / 'a.jpg'), '')]


def test_file_that_was_too_large():
    table = ranked('https://a.example/a.fits', 'SKIPPED', 'larger than 1 bytes (conf.max_bytes)',
                   access_url=['https://a.example/a.fits'], access_estsize=[2000])
    assert states(open_results(table)[1]) == [('https://a.example/a.fits', '')]
    with conf.set_temp('max_bytes', 100):
        assert message(open_results(table)[1]) == ['larger than 1 bytes (conf.max_bytes)']


def test_sky_context_counts_only_if_asked_for():
    columns = {'s_ra': [1.0], 's_dec': [2.0]}
    kept = ranked(f'{SERVER}?ra=1', 'OK', 'sky context from P/x, not the observation', **columns)
    assert states(open_results(kept)[1]) == [(f'{SERVER}?ra=1', '')]
    assert message(open_results(kept)[1]) == ['sky context from P/x, not the observation']
    failed = ranked(f'{SERVER}?ra=1', 'ERROR', 'HTTP 503', **columns)
    assert status(open_results(failed)[1]) == ['NO_IMAGE']
    _, refs = open_results(failed, sky_context='P/x')
    assert (status(refs), codes(refs)) == ([''], [['sky_context']])


@pytest.mark.parametrize(('said', 'kept'), [
    ('colour of F814W, F555W, F435W', 'colour of F814W, F555W, F435W'),
    ('nearly the same picture as rank 3', ''), ('no colour: HTTP 404', ''), ('', ''),
    ('colour of I, V, B; nearly the same picture as rank 3', 'colour of I, V, B'),
    ('<b>a\nb</b>\u202e', '<b>a b</b>')])
def test_notes_that_still_hold(said, kept):
    refs = opened(URL, 'OK', said)
    assert (refs.sources, message(refs)) == ([URL], [kept])
    assert refs.is_open(0)
    assert len(message(opened(URL, 'OK', 'x' * 5000))[0]) == 1000


def test_composites_are_not_composed_again():
    source = colour('mast:i.fits', 'mast:v.fits', 'mast:b.fits')
    table = Table({'clip_source': [source] * 3, 'clip_status': ['OK'] * 3, 'target': ['M 51'] * 3,
                   'filters': ['F435W', 'F555W', 'F814W'], 'access_format': ['image/fits'] * 3})
    assert open_results(table, colour=True)[1].sources == [source] * 3


def test_a_cutout_stays_where_it_was_unless_another_is_asked_for():
    table = ranked(LINK, s_ra=[10.0], s_dec=[-5.0], s_fov=[2.0])
    assert open_results(table)[1].sources == [LINK]
    source, = open_results(table, cutout=(SkyCoord(10.1, -5, unit='deg'), 1 * u.arcmin))[1].sources
    assert source == link('https://a.example/l?ID=1', circle=(10.1, -5, 1 / 120),
                          fallback='mast:a.fits')


@pytest.mark.parametrize('source', [
    'a.jpg', 'ftp://a.example/a', 's3://bucket/a.jpg', 'file:///etc/passwd', '', '--',
    'rgb:["a"]', 'rgb:' + '[' * 9999, 'rgb:["rgb:[]", "", ""]', 'datalink:/etc/passwd',
    'datalink:https://a.example/l#else=rgb:["a","b","c"]', 'https://a.example/\ud800',
    'datalink:https://a.example/l#circle=1,2,-', 'datalink:https://a.example/l#circle=1,2,e9',
    'datalink:https://a.example/l#else=ftp://a', 'https://a.example/' + 'a' * 9000,
    colour('datalink:https://a.example/l', 'mast:a', 'mast:b')])
@pytest.mark.parametrize('state', ['OK', '', 'ERROR', 'nonsense'])
def test_what_is_no_reference_counts_for_nothing(source, state):
    table = Table({'clip_source': Column([source], dtype=object), 'clip_status': [state],
                   'jpegURL': [URL]})
    assert states(open_results(table, is_ours=lambda part: True)[1]) == [(URL, '')]


@pytest.mark.parametrize('state', ['ok', 'FINE', 'OK; DROP TABLE'])
def test_unknown_status_counts_for_nothing(state):
    table = ranked('/etc/passwd', state, 'a note', jpegURL=[URL])
    refs = open_results(table, is_ours=lambda part: True)[1]
    assert (states(refs), message(refs)) == ([(URL, '')], [''])


@pytest.mark.parametrize('column', [
    MaskedColumn(['/etc/passwd'], mask=[True]), Column([7]), np.ones((1, 2)), [1] * u.m,
    SkyCoord([1], [2], unit='deg'), Column([None], dtype=object), Column([['a']], dtype=object),
    Column([b'\xff'])])
@pytest.mark.parametrize('name', ['clip_source', 'clip_status', 'clip_message'])
def test_columns_of_any_kind_are_harmless(column, name):
    table = ranked('/data/a.fits', 'ERROR', 'it failed', jpegURL=[URL])
    table[name] = column
    refs = open_results(table)[1]
    assert refs.sources in ([URL], [None])


def test_a_part_of_the_columns_is_no_ranking():
    table = Table({'clip_source': ['https://a.example/other.jpg'], 'jpegURL': [URL]})
    assert open_results(table)[1].sources == [URL]
    table = Table({'clip_source': [URL, URL], 'clip_status': ['OK', 'ERROR']})
    assert states(open_results(table)[1]) == [(URL, '')] * 2


def test_names_of_the_columns_in_capitals():
    table = ranked('/data/a.fits', 'OK', 'a note', jpegURL=[URL])
    table.rename_columns(table.colnames[:3], [name.upper() for name in table.colnames[:3]])
    assert codes(open_results(table)[1]) == [['not_ranked_here']]


def test_no_rows():
    table = ranked(URL)[:0]
    assert len(open_results(table)[1]) == 0


sources = st.text() | st.sampled_from([URL, '/data/a.fits', ARRAY, LINK,
                                       colour(ARRAY, URL, '/a'), ''])


@given(rows=st.lists(st.tuples(sources, st.sampled_from(['', *STATUSES]) | st.text(max_size=3),
                               st.text(max_size=5), sources), min_size=1, max_size=5))
def test_no_file_of_a_stranger_is_ever_open(rows):
    table = Table({name: Column(list(values), dtype=object) for name, values in zip(
        ('clip_source', 'clip_status', 'clip_message', 'jpegURL'), zip(*rows, strict=True),
        strict=True)})
    refs = open_results(table)[1]
    for i, source in enumerate(refs.sources):
        assert source is None or source in (URL, LINK) or source.startswith(('http', 'mast:'))
        assert refs.is_open(i) or refs.reasons[i][0].status in STATUSES
    assert not refs.has_files
    assert refs.has_links == any(source == LINK for source in refs.sources)


def test_a_spectrum_with_a_local_preview_stays_skipped(search, folder):
    table = Table({'image': ['red.png', 'blue.png'], 'dataproduct_type': ['image', 'spectrum']})
    best = search.rank(table, 'red', image_dir=folder)
    again = search.rank(search.rank(best, 'blue'), 'red', image_dir=folder)
    assert again['clip_status'].tolist() == best['clip_status'].tolist() == ['OK', 'SKIPPED']
    assert again['clip_message'].tolist() == best['clip_message'].tolist()
