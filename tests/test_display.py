# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Thumbnails as HTML: complete, self-contained, and harmless whatever an archive sends.
"""

import base64
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from astroquery.exceptions import BlankResponseWarning

from astroclip_search import ClipSearch
from astroclip_search.display import Gallery, Tile, heading, tiles
from tests.colours import ColourEncoder, content

HOSTILE = '"><script>alert(1)</script><img src=x onerror="alert(2)"> \' & </title>'


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ''
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


def tile(**changes):
    values = {'rank': 1, 'name': 'M 8', 'details': 'HST', 'scores': 'score 1.00', 'status': 'OK',
              'jpeg': b'jpeg', 'link': ''}
    return Tile(**(values | changes))


@pytest.fixture
def ranked(tmp_path):
    for colour in ('red', 'blue'):
        (tmp_path / f'{colour}.png').write_bytes(content(colour))
    (tmp_path / 'broken.png').write_bytes(b'broken')
    table = Table({'image': ['blue.png', 'red.png', 'broken.png'],
                   'target_name': ['Blue', 'C/2020 F3', 'Broken'],
                   'obs_title': ['A title', HOSTILE, ''],
                   'instrument_name': MaskedColumn(['ACS', '', 'x'], mask=[0, 1, 0])})
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')
    with pytest.warns(BlankResponseWarning):
        return search, search.rank(table, 'red', by='image', image_dir=tmp_path)


def test_gallery_of_a_ranked_table(ranked):
    search, table = ranked
    gallery = search.gallery(table)
    assert repr(gallery) == "<Gallery of 3 images: 'red'>"
    first, second, third = gallery.tiles
    assert (first.rank, first.name, first.scores) == (1, 'C/2020 F3', 'score 1.00')
    assert second.details == 'ACS · A title'
    assert first.jpeg.startswith(b'\xff\xd8')
    assert (third.rank, third.jpeg) == (None, None)
    assert third.status.startswith('ERROR: neither a JPEG')
    assert gallery.note.startswith('2 of 3 rows ranked by colours (20')
    page = Page(gallery._repr_html_())
    assert page.tags.count('img') == 2
    assert page.tags.count('li') == 3
    assert 'ERROR: neither a JPEG' in page.text


@pytest.mark.parametrize(('n', 'shown'), [(0, 0), (1, 1), (2, 2), (99, 3)])
def test_number_of_tiles(ranked, n, shown):
    search, table = ranked
    assert len(search.gallery(table, n)) == shown


def test_nothing_of_an_archive_becomes_markup(ranked, tmp_path):
    search, table = ranked
    table['target_name'] = [HOSTILE] * 3
    table['clip_message'] = [HOSTILE] * 3
    table.meta['clip']['query'] = [HOSTILE]
    table.meta['clip']['model'] = HOSTILE
    gallery = search.gallery(table)
    for html in (gallery._repr_html_(), gallery.write(tmp_path / 'g.html').read_text('utf-8')):
        page = Page(html)
        assert not {'script', 'a', 'iframe', 'link', 'object'} & set(page.tags)
        assert page.tags.count('img') == 2
        assert not [name for name, _ in page.attributes if name.startswith('on')]
        assert HOSTILE in page.text


def test_no_resource_from_outside(ranked, tmp_path):
    search, table = ranked
    html = search.gallery(table).write(tmp_path / 'g.html').read_text('utf-8')
    assert html.startswith('<!doctype html>')
    sources = [value for name, value in Page(html).attributes if name in ('src', 'href')]
    assert len(sources) == 2
    for source in sources:
        assert base64.b64decode(source.removeprefix('data:image/jpeg;base64,'),
                                validate=True).startswith(b'\xff\xd8')
    assert 'url(' not in html
    assert '@import' not in html


@pytest.mark.parametrize(('link', 'taken'), [
    ('https://a.example/?a=1&b="x"', True), ('http://a.example/', True),
    ('javascript:alert(1)', False), (' javascript:alert(1)', False), ('data:text/html,x', False),
    ('file:///etc/passwd', False), ('', False), ('//a.example', False)])
def test_links(link, taken):
    made = tiles(Table({'a': [1]}), [b'jpeg'], [link])
    page = Page(Gallery(made)._repr_html_())
    assert [value for name, value in page.attributes if name == 'href'] == [link] * taken
    assert ('rel', 'noopener noreferrer') in page.attributes or not taken


def test_hostile_source_is_no_link(tmp_path):
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path)
    table = Table({'clip_source': ['javascript:alert(1)', 'file:///etc/passwd', '', 'sha256:00']})
    for made in search.gallery(table).tiles:
        assert (made.jpeg, made.link) == (None, '')


def test_table_that_is_not_ranked(tmp_path):
    (tmp_path / 'red.png').write_bytes(content('red'))
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')
    gallery = search.gallery(tmp_path / 'red.png')
    only, = gallery.tiles
    assert (only.rank, only.name, only.scores, gallery.title) == (None, 'red.png', '', '')
    assert only.jpeg
    assert not (tmp_path / 'cache').exists()


def test_thumbnails_come_from_the_cache(ranked, tmp_path):
    search, table = ranked
    for colour in ('red', 'blue'):
        (tmp_path / f'{colour}.png').rename(tmp_path / f'{colour}.gone')
        (tmp_path / f'{colour}.gone').rename(tmp_path / f'{colour}.png')  # the same file again
    again = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')
    assert [made.jpeg for made in again.gallery(table).tiles] == [
        made.jpeg for made in search.gallery(table).tiles]


@pytest.mark.parametrize(('columns', 'name'), [
    ({'target_name': ['67P/Churyumov']}, '67P/Churyumov'),
    ({'filename': ['/a/b/c.fits']}, 'c.fits'),
    ({'target_name': ['']}, 'row 1'), ({'flux': [1.0]}, 'row 1'), ({'obsid': [5]}, '5'),
    ({'target': [b'bytes']}, 'bytes'), ({'target': [None]}, 'row 1'),
    ({'index': np.array([3])}, '3'), ({'target': MaskedColumn(['x'], mask=[True])}, 'row 1')])
def test_names(columns, name):
    only, = tiles(Table(columns), [None], [''])
    assert only.name == name


def test_mixin_columns():
    only, = tiles(Table({'target': SkyCoord([1], [2], unit='deg')}), [None], [''])
    assert 'SkyCoord' in only.name


def test_long_details_are_cut():
    only, = tiles(Table({'obs_title': ['x' * 1000]}), [None], [''])
    assert len(only.details) == 160


def test_false_alarm_is_shown():
    table = Table({'clip_score': np.float32([1.5]), 'clip_false_alarm': np.float32([0.0123])})
    assert tiles(table, [None], [''])[0].scores == 'score 1.50, false alarm 1 in 81'


@pytest.mark.parametrize(('provenance', 'expected'), [
    (None, ('', '')), ('text', ('', '')), ({}, ('', '? of ? rows ranked by ? (?)')),
    ({'query': 5, 'n_rows': None, 'date': 20261121},
     ('5', '? of None rows ranked by ? (20261121)')),
    ({'query': ['a', 'b'], 'n_rows': 2, 'n_ranked': 1, 'model': 'm', 'date': '2026-11-21T00:00'},
     ('a + b', '1 of 2 rows ranked by m (2026-11-21)')),
    ({'query': ['a'], 'like': ['x', 'y']}, ('a + like 2 images', '? of ? rows ranked by ? (?)')),
    ({'query': [], 'like': ['x']}, ('like 1 image', '? of ? rows ranked by ? (?)')),
    ({'query': ['a'], 'like': 5}, ('a', '? of ? rows ranked by ? (?)'))])
def test_heading(provenance, expected):
    assert heading(provenance) == expected


def test_missing_image_shows_its_status():
    page = Page(Gallery([tile(jpeg=None, status='DENIED: HTTP 401')])._repr_html_())
    assert 'img' not in page.tags
    assert 'DENIED: HTTP 401' in page.text


def test_write(tmp_path, monkeypatch):
    gallery = Gallery([tile(name='naïve 螺旋')], title='Größe', note='n')
    path = tmp_path / 'gallery.html'
    path.write_text('old')
    assert gallery.write(str(path)) == path
    page = Page(path.read_text(encoding='utf-8'))
    assert 'naïve 螺旋' in page.text
    assert 'Größe' in page.text
    assert ('charset', 'utf-8') in page.attributes
    monkeypatch.setenv('HOME', str(tmp_path))
    assert gallery.write('~/home.html') == Path(tmp_path, 'home.html')


def test_empty_gallery():
    assert '<ol></ol>' in Gallery([])._repr_html_()
