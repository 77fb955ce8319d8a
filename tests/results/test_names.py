# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Short names, and that ``print`` tells a ranking in a line of 80 letters.
"""

import tracemalloc

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search import ClipSearch, sample
from astroclip_search.archives.columns import text_array
from astroclip_search.archives.observations import observations
from astroclip_search.results.names import WIDTH, names, short_names
from tests.colours import ColourEncoder, content


def short(sources=None, **columns):
    table = Table(columns)
    return short_names(table, np.array(sources or [''] * len(table), str)).tolist()


@pytest.mark.parametrize(('columns', 'name'), [
    ({'target_name': 'M 8', 'obs_id': 'u27xcs01t'}, 'M 8 u27xcs01t'),
    ({'target_name': 'M 8', 'obs_id': 'jw02731-o001_t001_nircam_clear-f090w', 'obsid': 87601},
     'M 8 87601'),
    ({'target_name': 'M 8', 'obs_id': 'jw02731-o001_t001_nircam_clear-f090w'},
     'M 8 ..1_nircam_clear-f090w'),
    ({'target_name': 'M 8', 'obsid': 87601}, 'M 8 87601'), ({'obsid': 87601}, '87601'),
    ({'target_name': 'GALACTICPLANE2', 'obs_id': 'jw02731-o001_t001_nircam_f090w'},
     'GALACTICPLANE2 ..cam_f090w'),
    ({'target_name': 'WESTERLUND2-DIST-CORE-FULL', 'obsid': 5}, 'WESTERLUND2-DIST-CORE-FULL'),
    ({'target_name': 'A target of very many letters'}, 'A target of very many le..'),
    ({'target_name': 'M67', 'filename': '/a/M6707HH.fits'}, 'M67 M6707HH.fits'),
    ({'filename': '/a/b/hlsp_candels_hst_acs_gn-tot-30mas_f606w.fits'},
     '.._gn-tot-30mas_f606w.fits'),
    ({'target_name': 'M 8', 'obs_id': 'M 8'}, 'M 8 M 8'), ({'clip_name': 'as before'}, 'as before'),
    ({'OBJECT': 'M 8', 'dp_id': 'ADP.2014'}, 'M 8 ADP.2014'),
    ({'target_name': 'a\nb\x1b[31m'}, 'a b [31m'), ({'flux': 1.0}, '..mple/previews/abcdef.jpg')])
def test_short_names(columns, name):
    found, = short(['https://archive.example/previews/abcdef.jpg'],
                   **{key: [value] for key, value in columns.items()})
    assert found == name
    assert len(found) <= WIDTH


def test_short_names_where_some_are_masked():
    assert short(['/x/1.fits', '/x/2.fits', ''],
                 target_name=MaskedColumn(['A', 'B', 'C'], mask=[0, 1, 1]),
                 obsid=MaskedColumn([1, 2, 3], mask=[1, 0, 1])) == ['A', '2', '']
    assert short(target_name=np.array([], str)) == []


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60)),
                min_size=1, max_size=5))
def test_short_names_fit_whatever_archives_write(rows):
    targets, own, sources = (np.array(values, str) for values in zip(*rows, strict=True))
    for columns in ({'target_name': targets, 'obs_id': own}, {'obs_id': own}, {'x': own}):
        for name in short_names(Table(columns), sources).tolist():
            assert len(name) <= WIDTH
            assert name.isprintable()
            name.encode()


def test_half_a_surrogate_pair_is_replaced():
    assert short(filename=['/a/gal\udce9xie.fits']) == ['gal\ufffdxie.fits']


def test_full_names_fall_back_row_by_row():
    table = Table({'main_id': MaskedColumn(['A', ''], mask=[False, True]), 'obs_id': ['o1', 'o2']})
    assert names(table) == ['A', 'o2']


# ---- print --------------------------------------------------------------------------------


def printed(table, columns=80):
    lines = table.pformat(max_lines=-1, max_width=columns)
    assert max(map(len, lines)) <= columns
    return lines


TOLD = ('clip_rank', 'clip_score', 'clip_false_alarm', 'clip_status', 'clip_name')


@pytest.fixture(scope='module')
def search(tmp_path_factory):
    return ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path_factory.mktemp('cache'))


@pytest.fixture
def images(tmp_path):
    for colour in ('red', 'green', 'blue'):
        (tmp_path / f'{colour}-of-a-file-with-a-name-that-is-long_i2d.png').write_bytes(
            content(colour))
    return tmp_path


@pytest.mark.filterwarnings('ignore::astroclip_search.exceptions.ClipSearchWarning')
@pytest.mark.parametrize('phrase', ['red'])
def test_print_tells_the_ranking_of_the_sample_archive(search, phrase):
    best = search.rank(sample.read(), phrase, image_dir=sample.IMAGE_DIR)
    header, *rows = printed(best)
    assert all(name in header for name in TOLD)
    assert any('SYN-UGC-272 88000137' in row for row in rows)
    assert any('NO_IMAGE' in row for row in rows)


@pytest.mark.parametrize('wide', [80, 120, 200])
def test_print_tells_the_ranking_of_a_table_of_mast(search, images, wide):
    files = sorted(path.name for path in images.iterdir())
    n = len(files)
    table = Table({
        'obsid': [309377708 + i for i in range(n)], 'proposal_id': [7340] * n,
        'proposal_pi': ['Facchini, Stefano'] * n, 'target_name': ['EM-AS-209'] * n,
        'obs_id': ['jw07340-c1004_t001_miri_f1065c-mask1065'] * n,
        'instrument_name': ['MIRI/CORON'] * n, 's_ra': [1.5] * n, 's_dec': [2.5] * n,
        'obs_title': ['A NIRCam - MIRI - ALMA synergy to constrain planet formation'] * n,
        'jpegURL': files, 'dataURL': ['mast:JWST/product/a.fits'] * n})
    best = search.rank(table, 'red', image_dir=images)
    header, *rows = printed(best, wide)
    assert all(name in header for name in TOLD)
    assert [row.split()[-1] for row in rows[-n:]] == [
        str(obsid) for obsid in best['obsid'].tolist()]


def test_print_tells_the_ranking_of_a_folder(search, images):
    header, *rows = printed(search.rank(images, 'red'))
    assert all(name in header for name in TOLD)
    assert all(row.endswith('that-is-long_i2d.png') for row in rows[-3:])


def test_print_tells_a_classification(search, images):
    header, *_ = printed(search.classify(images, ['red', 'blue']))
    assert all(name in header for name in ('clip_class', 'clip_probability', 'clip_status',
                                           'clip_name'))


def test_marks_do_not_hide_what_a_row_is(search, images):
    """What was added to a ranked table stays before status and name when it is ranked again."""
    best = search.rank(images, 'red')
    best['clip_new'] = [True, False, True]
    again = search.rank(best, 'blue')
    assert again.colnames[-2:] == ['clip_status', 'clip_name']
    assert again['clip_new'].tolist().count(True) == 2
    assert all(name in printed(again)[0] for name in TOLD)


def test_short_name_is_that_of_the_row_after_another_ranking(search, images):
    best = search.rank(search.rank(images, 'red'), 'blue')
    assert all(source.endswith(name.removeprefix('..'))
               for source, name in zip(best['clip_source'], best['clip_name'], strict=True))
    assert [row.identifier for row in observations(best)] == [''] * 3
    assert names(best)[0].startswith('blue-of')


def test_one_long_text_does_not_take_its_room_in_each_row():
    n = 100_000
    values = [''] * n
    values[5] = 'x' * 5000
    assert text_array(values).tolist() == values
    assert text_array(values).dtype.kind == 'O'
    for few in ([], ['a'], ['a', 'bcd']):
        assert text_array(few).dtype.kind == 'U'
        assert text_array(few).tolist() == few
    table = Table({'target_name': text_array(values), 'obs_id': text_array(values[::-1])})
    tracemalloc.start()
    try:
        found = short_names(table, text_array(values))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found[5] == 'x' * 24 + '..'
    assert found[n - 6] == '..' + 'x' * 24
    assert peak < 300e6
