# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Cards -> HTML, for a notebook or as one self-contained file.

There is no script and no request: what is embedded works in a trusted notebook, in a mail and
without network. Each image is there once: its card is a popover
(https://html.spec.whatwg.org/multipage/popover.html) whose closed form is the thumbnail. A browser
that does not know popovers shows the thumbnails, and nothing happens on a click.

The button that opens a card is beside it. Within it, Firefox would look for the next focus without
end, and a button that opens another card would leave its own open below. So what is pressed within
a card (the picture, "Previous", "Close", "Next") is a label of the button beside a card; with the
keyboard those buttons come before and after the links of the card, and the label of the one that
has the focus is outlined.
"""

import base64
import html
import secrets
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from ..archives.table_io import replacing
from ..exceptions import invalid
from ..untrusted.files import open_regular
from .cards import Card, odds, one_in
from .names import clean

__all__ = ['Gallery', 'is_gallery']

# How a page of ours begins.
_GENERATOR = '<meta name="generator" content="astroclip-search">'

# Reasons, and names for each, that are listed for rows without a picture.
_MOST_REASONS, _MOST_NAMES = 20, 5

# Letters of a title that an enlarged card shows at once; the others are behind "Read on".
_AT_ONCE = 300

# Enlarged pictures are at most twice as large as their pixels, within these limits on a screen.
_SMALLEST, _LARGEST = 256, 600

# A bar is full at the best score shown, or at this many standard deviations.
_FULL_BAR = 5.0

_ALADIN = 'https://aladin.cds.unistra.fr/AladinLite/?target={:.5f}%20{:+.5f}&amp;fov=0.1'
_ESASKY = 'https://sky.esa.int/esasky/?target={:.5f}%20{:+.5f}&amp;fov=0.1&amp;cooframe=J2000&amp;sci=true'


class Gallery:
    """
    Thumbnails that a notebook shows.

    Parameters
    ----------
    cards : sequence of Card
        In the order in which they are shown. Those without rank and picture are listed below the
        others.
    title : str
        Heading.
    note : str
        Line below the heading.
    doubt : str
        Warning below it.
    others : sequence of tuple of str
        Name and reason of further rows that have no picture.
    """

    def __init__(self, cards: Sequence[Card], *, title: str = '', note: str = '', doubt: str = '',
                 others: Sequence[tuple[str, str]] = ()):
        self.cards = list(cards)
        self.title = title
        self.note = note
        self.doubt = doubt
        self.others = list(others)

    def __len__(self) -> int:
        return len(self.cards)

    def __repr__(self) -> str:
        return f'<Gallery of {len(self)} images: {clean(self.title)!r}>'

    def _repr_html_(self) -> str:
        # The same gallery may be shown by two cells of one page.
        name = f'astroclip-{secrets.token_hex(4)}'
        return self._body(name, f'<style>{_style(name, self.cards)}</style>', 2)

    def _repr_mimebundle_(self, **_kwargs: object) -> dict[str, str]:
        # With both in one answer IPython does not ask for each of them again.
        return {'text/plain': repr(self), 'text/html': self._repr_html_()}

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """
        Write one self-contained HTML file.

        Parameters
        ----------
        path : path-like
            The file. One that a gallery was written to is replaced.
        overwrite : bool
            Replace any other file, too.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If there is another file, or no such folder.
        """
        path = Path(path).expanduser()
        page = (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f'{_GENERATOR}<title>{_escaped(self.title or "Gallery")}</title>'
            f'<style>body{{margin:0}}{_style("gallery", self.cards)}</style></head>'
            f'<body><main>{self._body("gallery", "", 1)}</main></body></html>\n')
        if path.is_file() and not overwrite and not is_gallery(path):
            raise invalid(f'There is a file {str(path)!r} that is no gallery: choose another name, '
                          'or write with overwrite=True.')
        with replacing(path, overwrite=True) as beside:
            beside.write_text(page, encoding='utf-8')
        return path

    def _body(self, name: str, style: str, level: int) -> str:
        """
        The gallery, with headings from a level on; its ids begin with a name.
        """
        shown = [card for card in self.cards if card.jpeg is not None or card.rank is not None]
        full = max([_FULL_BAR, *(card.score for card in shown if card.score is not None)]
                   if any(card.false_alarm is not None for card in shown) else
                   [1e-9, *(card.score for card in shown if card.score is not None)])
        shown_cards = ''.join(_card(shown, i, name, full, level + 1) for i in range(len(shown)))
        missing = [(card.name, card.status) for card in self.cards
                   if card.jpeg is None and card.rank is None]
        title = self.title or ('Gallery' if level == 1 else '')  # a page needs a heading
        # Shortcuts of JupyterLab would take Enter and Escape.
        return (f'<div class="astroclip-gallery" id="{name}" data-lm-suppress-shortcuts="true">'
                + style
                + _element(f'h{level}', 'title', title) + _element('p', 'note', self.note)
                + _element('p', 'doubt', self.doubt)
                + f'<ol role="list">{shown_cards}</ol>{_missing(missing + self.others)}</div>')


def is_gallery(path: Path) -> bool:
    """
    Say whether a file is a page that `Gallery.write` has written.

    Parameters
    ----------
    path : pathlib.Path
        Any path.

    Returns
    -------
    bool
        False if there is no such file.
    """
    if not path.is_file():
        return False
    with open_regular(path) as file:
        return _GENERATOR.encode() in file.read(1000)


def _style(name: str, cards: Sequence[Card]) -> str:
    """
    The style sheet for the element of one id, which wins over the style of any page around it.
    """
    sheet = (Path(__file__).parent.parent / 'data' / 'gallery.css').read_text(encoding='utf-8')
    sheet = sheet[sheet.index('.astroclip'):].replace('.astroclip', f'#{name}')
    return f'#{name}{{--frame:{_frame(cards)}px}}\n{sheet}'


def _frame(cards: Sequence[Card]) -> int:
    """
    Side of the frame of an enlarged picture, the same for all so that nothing jumps, in CSS pixels.
    """
    from PIL import Image

    side = 0
    for card in cards:
        with suppress(OSError), Image.open(BytesIO(card.jpeg or b'')) as picture:
            side = max(side, *picture.size)
    return min(max(2 * side, _SMALLEST), _LARGEST)


def _card(cards: Sequence[Card], i: int, name: str, full: float, level: int) -> str:
    """
    One picture with what is said of it, and the ways to those beside it.
    """
    card = cards[i]
    said = _called(card)
    if card.jpeg is not None:
        data = base64.b64encode(card.jpeg).decode('ascii')
        alt = ', '.join(filter(None, (said, card.instrument)))
        seen = (f'<img alt="{_escaped(alt)}" src="data:image/jpeg;base64,{data}"'
                ' loading="lazy" decoding="async">')
    else:
        seen = _element('span', 'none', card.status)
    ways = [f'<label class="{kind}" for="{name}-{j}" title="{_escaped(_called(cards[j]))}"></label>'
            for j, kind in ((i - 1, 'previous'), (i, 'close'), (i + 1, 'next'))
            if 0 <= j < len(cards)]
    rank = f'<span class="rank">{card.rank}</span> ' if card.rank is not None else ''
    # Letters that run to the left turn nothing but themselves.
    lines = [f'<h{level}>{rank}<bdi>{_escaped(card.name)}</bdi></h{level}>', _marks(card),
             _bar(card, full)]
    if card.odds:
        lines.append(_element('p', 'odds', card.odds))
    lines += [_phrases(card), _element('p', 'said', card.status if card.jpeg is not None else ''),
              _cut(card.instrument), _cut(card.observed), _cut(card.identifier),
              _cut(card.proposal), _details(card.details), _position(card), _links(card)]
    return (f'<li><button type="button" class="open" hidden="hidden" id="{name}-{i}"'
            f' popovertarget="{name}-{i}-card" aria-label="{_escaped("Enlarge " + said)}"></button>'
            f'<article id="{name}-{i}-card" popover>'
            f'<label class="picture" for="{name}-{i}" title="Enlarge or close">{seen}</label>'
            f'<div class="words">{"".join(lines)}</div>'
            f'<div class="ways">{"".join(ways)}</div></article></li>')


def _called(card: Card) -> str:
    return f'Rank {card.rank}: {card.name}' if card.rank is not None else card.name


def _bar(card: Card, full: float) -> str:
    label = _element('p', 'score', card.label)
    if card.score is None:
        return label
    part = min(max(card.score / full, 0), 1)
    return (f'{label}<p class="score"><span class="bar"><span style="width:{part:.0%}"></span>'
            f'</span> score {card.score:.2f}</p>')


def _marks(card: Card) -> str:
    marks = ''.join(_element('span', 'mark', mark) for mark in card.marks)
    return f'<p class="marks">{marks}</p>' if marks else ''


def _phrases(card: Card) -> str:
    """
    The phrases of a description, each with its false-alarm rate.
    """
    items = []
    for phrase in card.phrases:
        alarm = '' if phrase.false_alarm is None else (
            f' <small title="{_escaped(odds(phrase.false_alarm))}">'
            f'{one_in(phrase.false_alarm)}</small>')
        items.append(f'<li>{_escaped(phrase.text)}{alarm}</li>')
    if not items:
        return ''
    known = any(phrase.false_alarm is not None for phrase in card.phrases)
    return (f'<ul class="phrases" role="list">{"".join(items)}</ul>'
            + _element('p', 'details more', 'Beside each phrase: the share of unrelated images '
                       'that fit it as well.' if known else ''))


def _cut(text: str, *kinds: str) -> str:
    """
    A line that a small card may cut; a pointer over it, or the enlarged card, shows all.
    """
    if not text:
        return ''
    return f'<p class="{" ".join(("cut", *kinds))}" title="{_escaped(text)}">{_escaped(text)}</p>'


def _details(text: str) -> str:
    """
    The title; of a very long one the rest can be opened in the enlarged card.
    """
    if len(text) <= _AT_ONCE:
        return _cut(text, 'subject')
    end = text.rfind(' ', _AT_ONCE // 2, _AT_ONCE)
    end = _AT_ONCE if end < 0 else end
    return (_cut(f'{text[:end]}…', 'subject') + '<details class="more"><summary>Read on</summary>'
            f'<p>…{_escaped(text[end:])}</p></details>')


def _position(card: Card) -> str:
    """
    Where it is, in both notations.
    """
    if card.ra is None or card.dec is None:
        return ''
    from astropy.coordinates import SkyCoord

    place = SkyCoord(card.ra, card.dec, unit='deg').to_string('hmsdms', precision=1)
    return f'<p class="place">{place}<br>{card.ra:.5f} {card.dec:+.5f}</p>'


def _links(card: Card) -> str:
    """
    To the image, its data and the page of the observation in their archive, and to the sky around
    it; said in full where there is room.
    """
    links = [_anchor(_escaped(address), text, f'{more} at {urlsplit(address).hostname}')
             for address, text, more in ((card.link, 'image', ''), (card.data, 'data', ''),
                                         (card.page, 'archive', ' page of the observation'))
             if address]
    if card.ra is not None and card.dec is not None:
        links += [_anchor(_ALADIN.format(card.ra, card.dec), 'sky', ' around it in Aladin'),
                  _anchor(_ESASKY.format(card.ra, card.dec), 'ESASky', ' around it')]
    return f'<p class="links">{" · ".join(links)}</p>' if links else ''


def _missing(rows: Sequence[tuple[str, str]]) -> str:
    """
    Rows without a picture, by reason.
    """
    if not rows:
        return ''
    reasons: dict[str, list[str]] = {}
    for name, reason in rows:
        reasons.setdefault(reason or 'no reason is known', []).append(name)
    items = []
    for reason, found in list(reasons.items())[:_MOST_REASONS]:
        more = f' and {len(found) - _MOST_NAMES:,} more' if len(found) > _MOST_NAMES else ''
        listed = ', '.join(f'<bdi>{_escaped(name)}</bdi>' for name in found[:_MOST_NAMES] if name)
        items.append(f'<li>{_escaped(reason)} <small>({len(found):,}: {listed}{more})'
                     '</small></li>')
    if len(reasons) > _MOST_REASONS:
        items.append(f'<li>and {len(reasons) - _MOST_REASONS:,} more reasons</li>')
    what = f'{len(rows):,} rows have' if len(rows) > 1 else '1 row has'
    return (f'<details><summary>{what} no picture: why</summary><ul>{"".join(items)}</ul>'
            '</details>')


def _anchor(address: str, text: str, more: str) -> str:
    """
    A link to an address that is already escaped.
    """
    return (f'<a href="{address}" target="_blank" rel="noopener noreferrer">'
            f'{_escaped(text)}<span class="more">{_escaped(more)}</span></a>')


def _element(tag: str, kind: str, text: str) -> str:
    return f'<{tag} class="{kind}">{_escaped(text)}</{tag}>' if text else ''


def _escaped(text: str) -> str:
    """
    Text for an element or an attribute in quotes, in which nothing is hidden.
    """
    return html.escape(clean(text))
