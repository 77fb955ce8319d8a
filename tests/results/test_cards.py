# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Thumbnails as HTML: complete, self-contained, and harmless whatever an archive sends.
"""

import base64
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from astroquery.exceptions import InvalidQueryError

from astroclip_search import ClipSearch
from astroclip_search.exceptions import UncalibratedWarning, UnreadImagesWarning
from astroclip_search.results.cards import (
    Card,
    Phrase,
    cards,
    doubt,
    gathered,
    heading,
    odds,
    said_of,
    uncertainty,
    unseen,
)
from astroclip_search.results.gallery import Gallery
from astroclip_search.results.plots import draw_cards
from astroclip_search.status import REASONS
from tests.colours import ColourEncoder, content, picture

HOSTILE = '"><script>alert(1)</script><img src=x onerror="alert(2)"> \' & </title>'


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.n_cards = [], [], '', 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.n_cards += tag == 'article'

    def handle_data(self, data):
        self.text += data

    def values(self, name):
        return [value for attribute, value in self.attributes if attribute == name]


def card(**changes):
    values = {'rank': 1, 'name': 'M 8', 'instrument': 'HST · ACS', 'score': 1.0, 'jpeg': b'jpeg'}
    return Card(**(values | changes))


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
    with pytest.warns(UnreadImagesWarning):
        return search, search.rank(table, 'red', by='image', image_dir=tmp_path)


def test_gallery_of_a_ranked_table(ranked):
    search, table = ranked
    gallery = search.gallery(table)
    assert repr(gallery) == "<Gallery of 3 images: 'red'>"
    first, second, third = gallery.cards
    assert (first.rank, first.name, first.scores) == (1, 'C/2020 F3', ('score 1.00',))
    assert (second.instrument, second.details) == ('ACS', 'A title')
    assert first.jpeg.startswith(b'\xff\xd8')
    assert (third.rank, third.jpeg) == (None, None)
    assert third.status.startswith('ERROR: neither a FITS file')
    assert gallery.note.startswith('2 of 3 rows ranked by colours (20')
    page = Page(gallery._repr_html_())
    assert page.tags.count('img') == page.n_cards == 2
    assert '1 row has no picture' in page.text
    assert 'ERROR: neither a FITS file' in page.text
    assert '(1: Broken)' in page.text


def test_rows_behind_those_that_are_shown_say_why_they_have_no_picture(ranked):
    search, table = ranked
    page = Page(search.gallery(table, n=1)._repr_html_())
    assert page.n_cards == 1
    assert 'ERROR: neither a FITS file' in page.text


def test_what_ranking_has_given_up_is_not_drawn(ranked):
    search, table = ranked
    table['clip_status'] = ['SKIPPED', 'OK', 'ERROR']
    table['clip_message'] = ['a spectrum', 'nearly the same picture as rank 1', '']
    first, second, _ = search.gallery(table).cards
    assert (first.jpeg, first.status) == (None, 'SKIPPED: a spectrum')
    assert second.status in Page(Gallery([second])._repr_html_()).text


def test_picture_that_is_gone_says_so(ranked, tmp_path):
    search, table = ranked
    (tmp_path / 'red.png').unlink()
    again = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'other')
    first = again.gallery(table).cards[0]
    assert first.jpeg is None
    page = Page(Gallery([first])._repr_html_())
    assert page.n_cards == 1  # it keeps its rank
    assert 'ERROR: a file of an earlier ranking that this session has not read' in page.text
    first = search.gallery(table).cards[0]
    assert first.jpeg is None
    assert first.status.startswith('ERROR: cannot read the file')


@pytest.mark.parametrize(('n', 'shown'), [(0, 0), (1, 1), (2, 2), (99, 3)])
def test_number_of_cards(ranked, n, shown):
    search, table = ranked
    assert len(search.gallery(table, n)) == shown


def test_nothing_of_an_archive_becomes_markup(ranked, tmp_path):
    search, table = ranked
    table['target_name'] = [HOSTILE] * 3
    table['clip_message'] = [HOSTILE] * 3
    for name in ('obs_id', 'proposal_id', 'proposal_pi', 'filters', 'date-obs', 'facility_name',
                 'access_url', 'dataURL', 'preview_html', 'dp_id', 'member_ous_uid'):
        table[name] = [HOSTILE] * 3
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
    table['s_ra'], table['s_dec'] = [10.0] * 3, [-5.0] * 3
    html = search.gallery(table).write(tmp_path / 'g.html').read_text('utf-8')
    assert html.startswith('<!doctype html>')
    sources = Page(html).values('src')
    assert len(sources) == 2
    assert not {'script', 'link', 'iframe', 'object'} & set(Page(html).tags)
    for source in sources:
        assert base64.b64decode(source.removeprefix('data:image/jpeg;base64,'),
                                validate=True).startswith(b'\xff\xd8')
    assert 'url(' not in html
    assert '@import' not in html


@pytest.mark.parametrize(('link', 'taken'), [
    ('https://a.example/?a=1&b="x"', True), ('http://a.example/', True),
    ('javascript:alert(1)', False), (' javascript:alert(1)', False), ('data:text/html,x', False),
    ('file:///etc/passwd', False), ('', False), ('//a.example', False), ('https://[', False)])
def test_links(link, taken):
    made = cards(Table({'a': [1]}), [b'jpeg'], [link])
    page = Page(Gallery(made)._repr_html_())
    assert page.values('href') == [link] * taken
    assert ('rel', 'noopener noreferrer') in page.attributes or not taken
    assert ('image at a.example' in page.text) == taken


def test_hostile_source_is_no_link(tmp_path):
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path)
    table = Table({'clip_source': ['javascript:alert(1)', 'file:///etc/passwd', '', 'sha256:00']})
    for made in search.gallery(table).cards:
        assert (made.jpeg, made.link) == (None, '')


def test_table_that_is_not_ranked(tmp_path):
    (tmp_path / 'red.png').write_bytes(content('red'))
    search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')
    gallery = search.gallery(tmp_path / 'red.png')
    only, = gallery.cards
    assert (only.rank, only.name, only.scores, gallery.title) == (None, 'red.png', (), '')
    assert only.jpeg
    assert not (tmp_path / 'cache').exists()


def test_thumbnails_come_from_the_cache(ranked, tmp_path):
    search, table = ranked
    for colour in ('red', 'blue'):
        (tmp_path / f'{colour}.png').rename(tmp_path / f'{colour}.gone')
        (tmp_path / f'{colour}.gone').rename(tmp_path / f'{colour}.png')  # the same file again
    again = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')
    assert [made.jpeg for made in again.gallery(table).cards] == [
        made.jpeg for made in search.gallery(table).cards]


@pytest.mark.parametrize(('columns', 'name'), [
    ({'target_name': ['67P/Churyumov']}, '67P/Churyumov'),
    ({'filename': ['/a/b/c.fits']}, 'c.fits'),
    ({'filename': ['/a/b/c.fits'], 'target_name': ['M 8']}, 'M 8 (c.fits)'),
    ({'filename': ['/a/b/c.fits'], 'target_name': MaskedColumn(['M 8'], mask=[True])}, 'c.fits'),
    ({'obs_id': ['u1'], 'target_name': ['']}, 'u1'),
    ({'target_name': ['']}, 'row 1'), ({'flux': [1.0]}, 'row 1'), ({'obsid': [5]}, '5'),
    ({'target': [b'bytes']}, 'bytes'), ({'target': [None]}, 'row 1'),
    ({'index': np.array([3])}, '3'), ({'target': MaskedColumn(['x'], mask=[True])}, 'row 1')])
def test_names(columns, name):
    only, = cards(Table(columns), [None], [''])
    assert only.name == name


def test_mixin_columns():
    only, = cards(Table({'target': SkyCoord([1], [2], unit='deg')}), [None], [''])
    assert (only.name, only.ra) == ('row 1', 1)


def test_text_that_a_card_cuts_is_there_in_full():
    """For a pointer in the tooltip, for keyboard and touch in the enlarged card."""
    title = 'A word ' * 30
    html = Gallery(cards(Table({'obs_title': [title]}), [b'jpeg'], ['']))._repr_html_()
    assert (title.strip(), f'<p class="cut subject" title="{title}">{title}</p>' in html) == (
        title.strip(), True)


def test_rest_of_an_abstract_can_be_opened():
    abstract = 'word ' * 1000
    html = Gallery(cards(Table({'obs_title': [abstract]}), [b'jpeg'], ['']))._repr_html_()
    first, rest = re.search(r'<p class="cut subject" title="([^"]*)…">.*?<summary>Read on</summary>'
                            r'<p>…(.*?)</p></details>', html).groups()
    assert (first + rest, len(first) <= 300) == (abstract, True)
    assert len(cards(Table({'obs_title': ['x' * 100_000]}), [b''], [''])[0].details) == 5000


def test_false_alarm_is_shown():
    table = Table({'clip_score': np.float32([1.5]), 'clip_false_alarm': np.float32([0.0123])})
    made, = cards(table, [b'jpeg'], [''])
    assert made.scores == ('score 1.50', 'false alarm 1 in 81')
    assert '1 in 81 unrelated images scores this high' in Page(Gallery([made])._repr_html_()).text


@pytest.mark.parametrize(('rate', 'said'), [
    (0.0005, '1 in 2,000 unrelated images scores'), (0.00016, '1 in 6,200 '), (0.0123, '1 in 81 '),
    (0.4, '1 in 2 '), (0.5, '1 in 2 '), (0.55, '1 in 2 '),
    (0.56, '6 in 10 unrelated images score '), (0.94, '9 in 10 '), (0.96, 'nearly all '),
    (1.0, 'nearly all '), (0.0, '1 in 1,000,000,000 ')])
def test_false_alarm_in_words(rate, said):
    assert odds(rate).startswith(said)


def bars(*made):
    return Page(Gallery(made)._repr_html_()).values('style')


def test_score_bar():
    """Full at five standard deviations, or at the best score."""
    weak, strong = card(score=2.5, false_alarm=0.01), card(score=10.0, false_alarm=0.001)
    assert bars(weak) == ['width:50%']
    assert bars(weak, strong, card(score=-1.0)) == ['width:25%', 'width:100%', 'width:0%']
    # Cosines of a model without reference images are small.
    assert bars(card(score=0.2), card(score=0.1)) == ['width:100%', 'width:50%']
    assert bars(card(score=None)) == []


def test_position():
    table = Table({'s_ra': [83.82208, 0.0], 's_dec': [-5.39111, np.nan]})
    first, second = cards(table, [b'jpeg'] * 2, [''] * 2)
    page = Page(Gallery([first])._repr_html_())
    assert '05h35m17.3s -05d23m28.0s' in page.text
    assert '83.82208 -5.39111' in page.text
    assert page.values('href') == [
        'https://aladin.cds.unistra.fr/AladinLite/?target=83.82208%20-5.39111&fov=0.1',
        'https://sky.esa.int/esasky/?target=83.82208%20-5.39111&fov=0.1&cooframe=J2000&sci=true']
    assert (second.ra, second.dec) == (None, None)


def test_rows_without_picture_are_listed_by_reason():
    others = [(f'T{i}', 'NO_IMAGE: none') for i in range(1000)] + [('<b>', 'ERROR: <i>')]
    html = Gallery([card()], others=others)._repr_html_()
    page = Page(html)
    assert '1,001 rows have no picture' in page.text
    assert 'NO_IMAGE: none (1,000: T0, T1, T2, T3, T4 and 995 more)' in page.text
    assert 'ERROR: <i> (1: <b>)' in page.text
    many = [(f'T{i}', f'ERROR: {i}') for i in range(50)]
    assert 'and 30 more reasons' in Page(Gallery([], others=many)._repr_html_()).text


def test_unseen():
    assert unseen(Table({'a': [1]})) == []
    table = Table({'target': ['A', 'B'], 'clip_status': ['OK', 'DENIED'],
                   'clip_message': ['', 'HTTP 401']})
    assert unseen(table) == [('B', 'DENIED: HTTP 401')]


@pytest.mark.parametrize(('provenance', 'doubted'), [
    ({'chance': 0.77}, True), ({'chance': 0.2}, False), ({'chance': None}, False), ({}, False),
    (None, False), ({'chance': 'x'}, False), ({'chance': float('nan')}, False)])
def test_doubt(provenance, doubted):
    said = doubt(provenance)
    assert said.startswith('Nothing stands out') == doubted
    assert (said in Page(Gallery([card()], doubt=said)._repr_html_()).text)


@pytest.mark.parametrize(('calibrated', 'shown', 'odds_shown'), [
    (True, 'false alarm 1 in 1,900', '1 in 1,900 unrelated images scores this high'),
    (None, 'false alarm 1 in 1,900', '1 in 1,900 unrelated images scores this high'),
    (False, 'false alarm uncertain', 'how many unrelated images score this high is uncertain')])
def test_an_uncertain_rate_has_no_odds(calibrated, shown, odds_shown):
    table = Table({'clip_rank': [1], 'clip_false_alarm': [0.00053]},
                  meta={'clip': {'calibrated': calibrated}})
    made, = cards(table, [b'jpeg'], [''])
    assert shown in made.scores
    assert made.odds == odds_shown
    assert odds_shown in Page(Gallery([made])._repr_html_()).text
    assert bool(uncertainty(table.meta['clip'])) == (calibrated is False)


@pytest.mark.parametrize('provenance', [None, {}, {'calibrated': 'no'}, {'calibrated': 0}, 3])
def test_nothing_is_said_of_rates_where_nothing_is_known(provenance):
    assert uncertainty(provenance) == ''


def test_every_picture_is_described_and_enlarged_by_its_own_button():
    page = Page(Gallery([card(), card(rank=None, name='"M" 9', instrument='')])._repr_html_())
    assert page.values('alt') == ['Rank 1: M 8, HST · ACS', '"M" 9']
    assert page.values('aria-label') == ['Enlarge Rank 1: M 8', 'Enlarge "M" 9']
    opened = [value for value in page.values('id') if value.endswith('-card')]
    assert page.values('popovertarget') == opened
    assert len(set(opened)) == 2


def labels(html):
    """What can be pressed in each card, and the button that it stands for."""
    return [re.findall(r'<label class="(\w+)" for="[\w-]+-(\d+)" title="([^"]*)"', card)
            for card in re.findall('<article.*?</article>', html)]


def test_cards_lead_to_those_beside_them():
    html = Gallery([card(), card(rank=2, name='<M> "9"', jpeg=None, status='DENIED: HTTP 401'),
                    card(rank=None, name='M 10')])._repr_html_()
    same, second = 'Enlarge or close', 'Rank 2: &lt;M&gt; &quot;9&quot;'
    assert labels(html) == [
        [('picture', '0', same), ('close', '0', 'Rank 1: M 8'), ('next', '1', second)],
        [('picture', '1', same), ('previous', '0', 'Rank 1: M 8'), ('close', '1', second),
         ('next', '2', 'M 10')],
        [('picture', '2', same), ('previous', '1', second), ('close', '2', 'M 10')]]
    assert labels(Gallery([card()])._repr_html_()) == [
        [('picture', '0', same), ('close', '0', 'Rank 1: M 8')]]
    page = Page(html)
    buttons = [card.removesuffix('-card') for card in page.values('popovertarget')]
    assert set(page.values('for')) == set(buttons) <= set(page.values('id'))


def test_no_button_is_within_a_card():
    """From one that opens the card around it, Firefox looks for the next focus without end."""
    html = Gallery([card(), card(rank=2)])._repr_html_()
    assert html.count('<button') == 2
    assert not any('<button' in card for card in re.findall('<article.*?</article>', html))


def test_nothing_is_there_to_press_without_the_style_sheet():
    """JupyterLab takes style and popover away from what it does not trust, and keeps the rest."""
    html = Gallery([card(), card(rank=2)])._repr_html_()
    assert html.count('<button type="button" class="open" hidden="hidden"') == 2
    said = re.findall('<label class="(?:previous|close|next)"[^>]*>([^<]*)', html)
    assert said == [''] * 4


@pytest.mark.parametrize(('sizes', 'frame'), [
    ([(192, 128)], 384), ([(100, 256), (192, 192)], 512), ([(40, 40)], 256), ([(2000, 10)], 600),
    ([], 256)])
def test_enlarged_pictures_are_at_most_twice_as_large_as_they_are(sizes, frame):
    made = [card(jpeg=None), card(jpeg=b'broken')]
    for size in sizes:
        stream = io.BytesIO()
        picture('red', size).save(stream, 'JPEG')
        made.append(card(jpeg=stream.getvalue()))
    assert f'{{--frame:{frame}px}}' in Gallery(made)._repr_html_()


def test_two_galleries_on_one_page_do_not_share_ids():
    gallery = Gallery([card()])
    first, second = (Page(gallery._repr_html_()).values('id') for _ in range(2))
    assert not set(first) & set(second)


def test_notebook_gets_text_and_html():
    bundle = Gallery([card()], title='x')._repr_mimebundle_(include=None, exclude=None)
    assert bundle['text/plain'] == "<Gallery of 1 images: 'x'>"
    assert Page(bundle['text/html']).n_cards == 1


def test_files_are_the_same_every_time(tmp_path):
    gallery = Gallery([card()])
    assert (gallery.write(tmp_path / 'a.html').read_bytes()
            == gallery.write(tmp_path / 'b.html').read_bytes())


def test_style_is_for_the_gallery_alone():
    """A rule without the id would change the notebook around it."""
    html = Gallery([card()])._repr_html_()
    name = Page(html).values('id')[0]
    style = html[html.index('<style>') + 7:html.index('</style>')]
    assert '.astroclip' not in style
    selectors = re.findall(r'(?:^|})\s*([^{}@]+){', re.sub(r'@media[^{]*{', '}', style))
    assert len(selectors) > 30
    assert all(selector.startswith(f'#{name}') for selector in selectors)


@pytest.mark.parametrize(('provenance', 'expected'), [
    (None, ('', '')), ('text', ('', '')), ({}, ('', '')), ({'query': None}, ('', '')),
    ({'query': 5, 'n_rows': None, 'date': 20261121}, ('5', '')),
    ({'query': ['a'], 'model': 'm'}, ('a', 'Ranked by m')),
    ({'query': ['a'], 'n_rows': 1409, 'n_ranked': 1000}, ('a', '1,000 of 1,409 rows ranked')),
    ({'n_rows': [1], 'n_ranked': {}, 'date': None}, ('', '{} of [1] rows ranked')),
    ({'query': [], 'vocabulary': 'v1', 'model': 'm'}, ('What the pictures show', 'Described by m')),
    ({'query': ['a', 'b'], 'vocabulary': None}, ('a, b', '')),
    ({'query': ['old'], 'classes': {'spiral': ['a'], 'disk': ['b']}, 'n_rows': 2, 'n_ranked': 2},
     ('spiral / disk', '2 of 2 rows classified')),
    ({'n_rows': 3, 'n_ranked': 3, 'n_folded': 1},
     ('', '3 of 3 rows ranked; 1 copy comes after the others')),
    ({'n_rows': 3, 'n_ranked': 3, 'n_folded': 2},
     ('', '3 of 3 rows ranked; 2 copies come after the others')),
    ({'query': ['a', 'b'], 'n_rows': 2, 'n_ranked': 1, 'model': 'm', 'date': '2026-11-21T00:00'},
     ('a + b', '1 of 2 rows ranked by m (2026-11-21)')),
    ({'query': ['a'], 'like': ['x', 'y']}, ('a + like 2 images', '')),
    ({'query': [], 'like': ['x']}, ('like 1 image', '')),
    ({'query': ['a'], 'like': 5}, ('a', ''))])
def test_heading(provenance, expected):
    assert heading(provenance) == expected


def test_missing_image_shows_its_status():
    page = Page(Gallery([card(jpeg=None, status='DENIED: HTTP 401')])._repr_html_())
    assert 'img' not in page.tags
    assert 'DENIED: HTTP 401' in page.text


def test_write(tmp_path, monkeypatch):
    gallery = Gallery([card(name='naïve 螺旋')], title='Größe', note='n')
    path = tmp_path / 'gallery.html'
    assert gallery.write(str(path)) == path
    page = Page(path.read_text(encoding='utf-8'))
    assert 'naïve 螺旋' in page.text
    assert 'Größe' in page.text
    assert ('charset', 'utf-8') in page.attributes
    monkeypatch.setenv('HOME', str(tmp_path))
    assert gallery.write('~/home.html') == Path(tmp_path, 'home.html')


def test_only_a_gallery_is_written_over(tmp_path):
    path = Gallery([card()], title='first').write(tmp_path / 'g.html')
    assert 'second' in Gallery([card()], title='second').write(path).read_text()
    for name, held in (('a.fits', b'SIMPLE  =' + b' ' * 3000), ('empty', b''),
                       ('other.html', b'<!doctype html>')):
        other = tmp_path / name
        other.write_bytes(held)
        with pytest.raises(InvalidQueryError, match=f'{name}.* is no gallery.*overwrite=True'):
            Gallery([card()]).write(other)
        assert other.read_bytes() == held
    assert 'generator' in Gallery([card()]).write(other, overwrite=True).read_text()
    with pytest.raises(InvalidQueryError, match='no folder'):
        Gallery([card()]).write(tmp_path / 'none' / 'g.html')


def test_page_that_cannot_be_written_leaves_the_older_one(tmp_path, monkeypatch):
    path = Gallery([card()], title='first').write(tmp_path / 'g.html')
    monkeypatch.setattr(Path, 'write_text', lambda *_args, **_options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Gallery([card()], title='second').write(path)
    assert 'first' in path.read_text()
    assert os.listdir(tmp_path) == ['g.html']


def test_names_that_are_no_utf_8_do_not_prevent_a_page(tmp_path):
    """Bytes of a file name that are no text are halves of a surrogate pair, which no page has."""
    made = cards(Table({'filename': ['gal\udce9xie.fits'], 'obs_title': ['\ud800'],
                        'clip_message': ['\udce9']}), [b'jpeg'], ['https://a.example/\udce9'])
    gallery = Gallery([*made, card(name='\udce9')], title='\udce9', others=[('\udce9', '\udce9')])
    gallery.write(tmp_path / 'g.html')
    assert made[0].name == 'gal\ufffdxie.fits'
    gallery._repr_html_().encode()


def test_a_page_has_a_heading(tmp_path):
    page = Page(Gallery([card()]).write(tmp_path / 'g.html').read_text())
    assert 'h1' in page.tags


OBSERVED = {'target_name': ['M 8'], 'obs_id': ['jw02731'], 'obsid': [87601],
            'proposal_id': ['2731'], 'proposal_pi': ['Pontoppidan'], 'obs_collection': ['JWST'],
            'instrument_name': ['NIRCAM'], 'filters': ['F090W'], 't_min': [59733.5],
            't_exptime': [1256.2], 'dataURL': ['mast:JWST/product/a_i2d.fits']}


def test_observation_is_on_its_card():
    made, = cards(Table(OBSERVED), [b'jpeg'], ['https://a.example/a.jpg'],
                  address=lambda source: source.replace('mast:', 'https://mast.example/?uri=mast:'))
    assert (made.identifier, made.proposal, made.observed) == (
        'jw02731', 'proposal 2731 · PI Pontoppidan', '2022-06-03 · 1,256 s · F090W')
    page = Page(Gallery([made])._repr_html_())
    for text in ('JWST · NIRCAM', made.identifier, made.proposal, made.observed,
                 'image at a.example', 'data at mast.example',
                 'archive page of the observation at mast.stsci.edu'):
        assert text in page.text
    image, data, archive = page.values('href')
    assert (image, data) == ('https://a.example/a.jpg',
                             'https://mast.example/?uri=mast:JWST/product/a_i2d.fits')
    assert 'jw02731' in archive


def test_address_of_the_data_is_a_link_only_once_and_only_of_the_web():
    address = 'https://a.example/a.jpg'
    for data, link, taken in ((address, address, ''), (address, '', address),
                              ('javascript:alert(1)', '', ''), ('/etc/passwd', '', '')):
        made, = cards(Table({'access_url': [data]}), [b'jpeg'], [link])
        assert made.data == taken


def test_marks():
    words = REASONS['by_words'][1].format(score=0)
    table = Table({'target': list('abcd'), 'clip_new': [True, False, True, False],
                   'clip_label': MaskedColumn([1, 0, 5, 0], mask=[0, 0, 0, 1]),
                   'clip_message': [f'colour of a; {words}', 'marked as disliked', '', '']})
    made = cards(table, [b'jpeg'] * 4, [''] * 4)
    assert [one.marks for one in made] == [('new', 'liked', 'by its words'), ('disliked',),
                                           ('new',), ()]
    page = Page(Gallery(made)._repr_html_())
    assert 'by its words' in page.text
    assert words in page.text  # it is explained
    assert 'marked as disliked' not in page.text


@pytest.mark.parametrize('value', ['True', True, 1])
def test_new_rows_from_any_file(value):
    assert cards(Table({'clip_new': [value]}), [b''], [''])[0].marks == ('new',)


def test_phrases_of_a_description_are_all_there(ranked, tmp_path):
    search, table = ranked
    phrases = [f'a phrase of many words that no card has room for in one line, {i}'
               for i in range(12)] + ['red']
    with pytest.warns((UnreadImagesWarning, UncalibratedWarning)):
        lines = search.describe(table, phrases, limit=None, image_dir=tmp_path)
    gallery = search.gallery(lines)
    assert [len(one.phrases) for one in gallery.cards] == [13, 13, 0]
    first = gallery.cards[0]
    assert (first.score, first.false_alarm, first.rank) == (None, None, None)
    html = gallery._repr_html_()
    assert all(html.count(f'<li>{phrase}</li>') == 2 for phrase in phrases)
    assert 'class="cut"' not in html


def test_phrase_has_its_own_false_alarm():
    table = Table({'clip_row': [0, 0, 1],
                   'clip_phrase': MaskedColumn(['a', 'b', ''], mask=[0, 0, 1]),
                   'clip_false_alarm': MaskedColumn([0.001, 0.5, 0], mask=[0, 0, 1]),
                   'clip_name': ['x', 'x', 'y']})
    assert said_of(table) == {'0': (Phrase('a', 0.001), Phrase('b', 0.5)), '1': ()}
    made = cards(gathered(table), [b'jpeg'] * 2, [''] * 2, phrases=said_of(table))
    assert [one.name for one in made] == ['x', 'y']
    page = Page(Gallery(made)._repr_html_())
    assert 'a 1 in 1,000' in page.text
    assert '1 in 1,000 unrelated images scores this high' in page.values('title')


def test_picture_that_was_replaced_says_so(ranked, tmp_path):
    search, table = ranked
    assert [one.marks for one in search.gallery(table).cards] == [(), (), ()]
    (tmp_path / 'red.png').write_bytes(content('blue', 'JPEG'))
    again = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')
    red, _, _ = again.gallery(table).cards
    assert red.marks == ('the file has changed since it was ranked',)
    assert red.jpeg
    again.rank(table[:1], 'red', by='image', image_dir=tmp_path)
    assert again.gallery(tmp_path / 'red.png').cards[0].marks == ()


def test_permissions_are_no_change_of_a_picture(ranked, tmp_path):
    search, table = ranked
    (tmp_path / 'red.png').chmod(0o600)
    assert search.gallery(table).cards[0].marks == ()


def test_lost_provenance_is_said(ranked):
    search, table = ranked
    del table.meta['clip']
    assert search.gallery(table).note == (
        "The table does not say what it was ranked by: meta['clip'] is lost.")


def test_empty_gallery():
    assert Page(Gallery([])._repr_html_()).n_cards == 0


# ---- what readers do not see ---------------------------------------------------------------

# A terminal's command, marks that turn the direction, joiners, tags, and half a pair.
HIDDEN = '\x1b[31m\x9b\u202egpj.\u2066\u200b\u00ad\u3164\U000e0041\ufeff\ud800\x85\u2028\x0b'


def test_nothing_is_hidden_in_a_page(tmp_path):
    table = Table({'target_name': [f'a{HIDDEN}b', 'שלום'], 'obs_title': [HIDDEN + 'x'] * 2,
                   'clip_rank': [1, 2], 'clip_status': ['OK', 'OK'], 'clip_message': [HIDDEN] * 2,
                   'clip_phrase': [HIDDEN + 'p'] * 2})
    card = Card(name=HIDDEN, status=HIDDEN, marks=(HIDDEN,), label=HIDDEN, jpeg=b'')
    page = Gallery([*cards(table, [None] * 2, [''] * 2), card], title=HIDDEN, note=HIDDEN,
                   doubt=HIDDEN, others=[(HIDDEN, HIDDEN)])
    path = page.write(tmp_path / 'a.html')
    for text in (path.read_text(encoding='utf-8'), page._repr_html_(), repr(page)):
        assert not set(HIDDEN.replace('[31m', '').replace('gpj.', '')) & set(text)
    text = path.read_text(encoding='utf-8')
    assert 'a\ufffd[31m\ufffd\ufffdgpj.' in text, 'it is marked, not left out'
    assert '<bdi>שלום</bdi>' in text, 'what runs to the left turns nothing else'


def test_nothing_is_hidden_in_a_plot():
    pyplot = pytest.importorskip('matplotlib.pyplot')
    ax = draw_cards([Card(name=HIDDEN, rank=1, status=HIDDEN)], columns=1, title=HIDDEN)
    texts = [ax.get_title(), *(text.get_text() for child in ax.child_axes for text in child.texts)]
    assert len(texts) == 3
    for text in texts:
        assert '\ufffd' in text
        assert all(letter.isprintable() or letter == '\n' for letter in text)
    pyplot.close('all')
