# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A ranked table -> what is said of each row, for people and for programs that show it.

Nothing here is markup: ``gallery`` and ``plots`` escape what comes from an archive.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import numpy as np
from astropy.table import Table
from PIL import Image

from ..archives.columns import TableColumns
from ..archives.footprints import positions
from ..archives.observations import Observation, observations
from ..images.geometry import geometry_of
from ..images.preprocess import thumbnail
from ..ranking.calibration import LIKELY_CHANCE
from ..status import OK, has_note, without_notes
from .names import clean, names

__all__ = ['Card', 'Phrase', 'cards', 'doubt', 'gathered', 'heading', 'odds', 'of_places', 'one_in',
           'said_of', 'uncertainty', 'unseen', 'with_box']

_TITLE_COLUMNS = ('obs_title', 'title')

# Pixels of the smallest box that is seen on a thumbnail.
_LEAST_BOX = 8

# Letters of a title, where some archives put an abstract.
_LONGEST = 5000

CHANGED = 'the file has changed since it was ranked'
"""
Mark of a card whose picture is not the one that was ranked.
"""


@dataclass(frozen=True)
class Phrase:
    """
    A phrase of a description.

    Attributes
    ----------
    text : str
        The phrase.
    false_alarm : float or None
        Share of unrelated images that it fits as well.
    """

    text: str
    false_alarm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Card:
    """
    What is known of one picture.

    Attributes
    ----------
    rank : int or None
        Its place.
    name : str
        Target, file name, or both.
    marks : tuple of str
        What sets it apart in a word or a few: new, liked, disliked, by its words, or that the file
        has changed.
    instrument : str
        Collection, facility and instrument.
    observed : str
        Date, exposure time and filters.
    identifier : str
        What the archive calls the observation.
    proposal : str
        Its programme, and who leads that.
    details : str
        Title.
    phrases : tuple of Phrase
        Those of a description, best first.
    ra, dec : float or None
        Position in degrees (ICRS).
    score : float or None
        ``clip_score`` of the row.
    false_alarm : float or None
        ``clip_false_alarm`` of the row.
    uncertain : bool
        Whether that may be far off.
    label : str
        Class and its probability.
    status : str
        What there is to say of the row: ``clip_message``, after ``clip_status`` if that is not
        ``OK``, or why there is no picture.
    jpeg : bytes or None
        Thumbnail.
    link, data, page : str
        Address of the image, of the data that it was made from, and of the archive's own page of
        the observation; empty if it has none.
    """

    rank: int | None = None
    name: str = ''
    marks: tuple[str, ...] = ()
    instrument: str = ''
    observed: str = ''
    identifier: str = ''
    proposal: str = ''
    details: str = ''
    phrases: tuple[Phrase, ...] = ()
    ra: float | None = None
    dec: float | None = None
    score: float | None = None
    false_alarm: float | None = None
    uncertain: bool = False
    label: str = ''
    status: str = ''
    jpeg: bytes | None = None
    link: str = ''
    data: str = ''
    page: str = ''

    @property
    def scores(self) -> tuple[str, ...]:
        """
        Class, score and false alarm, or the phrases of a description, in a few words each.
        """
        return tuple(filter(None, (
            self.label,
            '' if self.score is None else f'score {self.score:.2f}',
            '' if self.false_alarm is None else
            f'false alarm {"uncertain" if self.uncertain else one_in(self.false_alarm)}',
            *(phrase.text for phrase in self.phrases))))

    @property
    def odds(self) -> str:
        """
        The false-alarm rate as a sentence without a full stop, empty if there is none.
        """
        if self.false_alarm is None:
            return ''
        return ('how many unrelated images score this high is uncertain' if self.uncertain
                else odds(self.false_alarm))


def odds(false_alarm: float) -> str:
    """
    A false-alarm rate as a sentence without a full stop, which is easier to read than 0.05 %.

    >>> from astroclip_search.results.cards import odds
    >>> odds(0.00053)
    '1 in 1,900 unrelated images scores this high'
    >>> odds(0.7)
    '7 in 10 unrelated images score this high'
    """
    if false_alarm > 0.95:
        return 'nearly all unrelated images score this high'
    if false_alarm > 0.55:
        return f'{round(10 * false_alarm)} in 10 unrelated images score this high'
    return f'{one_in(false_alarm)} unrelated images scores this high'


def one_in(false_alarm: float) -> str:
    """
    A false-alarm rate in few letters.

    >>> from astroclip_search.results.cards import one_in
    >>> one_in(0.00053), one_in(0.7)
    ('1 in 1,900', '70%')
    """
    if false_alarm > 0.55:
        return f'{false_alarm:.0%}'
    # No more than two figures mean anything.
    return f'1 in {float(f"{1 / max(false_alarm, 1e-9):.2g}"):,.0f}'


def heading(provenance: object) -> tuple[str, str]:
    """
    Title (phrases and examples, or classes) and note (what was ranked by which model) above the
    pictures.

    ``meta['clip']`` may come from a file, so nothing of it is certain; what it does not say is left
    out, and both are empty for a table that is not ranked.
    """
    if not isinstance(provenance, dict):
        return '', ''
    classes = provenance.get('classes')
    query = list(classes) if isinstance(classes, dict) else provenance.get('query') or []
    asked = list(map(str, query)) if isinstance(query, list) else [str(query)]
    if len(asked) > 5:  # a vocabulary
        asked[3:] = [f'{len(asked) - 3} more']
    like = provenance.get('like')
    if isinstance(like, list) and like and not classes:
        asked.append(f'like {len(like)} image{"s" if len(like) > 1 else ""}')
    is_description = 'vocabulary' in provenance
    title = (' / ' if classes else ', ' if is_description else ' + ').join(asked)
    what = 'classified' if classes else 'described' if is_description else 'ranked'
    return (clean(title) or ('What the pictures show' if is_description else ''),
            clean(_done(provenance, what)))


def _done(provenance: dict, what: str) -> str:
    """
    How many rows were ranked, by which model and when, as far as it is known.
    """
    ranked, rows, model, date = (provenance.get(name) for name in
                                 ('n_ranked', 'n_rows', 'model', 'date'))
    parts = [f'{_counted(ranked)} of {_counted(rows)} rows {what}'
             if None not in (ranked, rows) else '' if model is None else what,
             f'by {model}' if model is not None else '',
             f'({str(date)[:10]})' if date is not None else '']
    if not any(parts[:2]):
        return ''
    folded = provenance.get('n_folded')
    behind = (f'; {folded:,} {"copy comes" if folded == 1 else "copies come"} after the others'
              if isinstance(folded, int) and folded > 0 else '')
    note = ' '.join(filter(None, parts)) + behind
    return note[:1].upper() + note[1:]


def _counted(number: object) -> str:
    return f'{number:,}' if isinstance(number, int) else str(number)


def doubt(provenance: object) -> str:
    """
    A sentence if the best of a ranking may be there by chance, empty if there is no reason for it.
    """
    chance = provenance.get('chance') if isinstance(provenance, dict) else None
    if not isinstance(chance, float) or not chance > LIKELY_CHANCE:
        return ''
    return ('Nothing stands out: rows that do not show what is asked would look like these with a '
            f'probability of {chance:.2f}.')


def uncertainty(provenance: object) -> str:
    """
    A sentence if the false-alarm rates of a ranking may be far off, else empty.
    """
    if not isinstance(provenance, dict) or provenance.get('calibrated') is not False:
        return ''
    return ('False-alarm rates are uncertain for this query: in an archive unlike the reference '
            'images, far more unrelated pictures may pass.')


def gathered(table: Table) -> Table:
    """
    A description with one line for each image, whose phrases `said_of` tells; any other table as it
    is.
    """
    if not _is_description(table):
        return table
    _, first = np.unique(table['clip_row'], return_index=True)
    lines = table[np.sort(first)]
    # All of these are of the first phrase, not of the image.
    lines.remove_columns([name for name in ('clip_phrase', 'clip_rank', 'clip_score',
                                            'clip_false_alarm') if name in lines.colnames])
    return lines


def said_of(table: Table) -> dict[str, tuple[Phrase, ...]]:
    """
    The phrases of a description by ``clip_row`` in words; empty for any other table.
    """
    if not _is_description(table):
        return {}
    alarms = (table['clip_false_alarm'] if 'clip_false_alarm' in table.colnames
              else [None] * len(table))
    said: dict[str, list[Phrase]] = {}
    for row, phrase, alarm in zip(table['clip_row'], table['clip_phrase'], alarms, strict=True):
        of_row = said.setdefault(_text(row), [])
        if text := _text(phrase):
            of_row.append(Phrase(text, _number(_text(alarm))))
    return {row: tuple(phrases) for row, phrases in said.items()}


def _is_description(table: Table) -> bool:
    return {'clip_row', 'clip_phrase'} <= set(table.colnames)


def cards(table: Table, jpegs: Sequence[bytes | None], links: Sequence[str],
          problems: Sequence[str] | None = None, *,
          phrases: Mapping[str, tuple[Phrase, ...]] = {}, changed: Collection[int] = (),
          address: Callable[[str], str] = str) -> list[Card]:
    """
    The cards of a table's rows, with their thumbnails and the addresses of their images.

    Only ``http`` and ``https`` addresses become links, ``address`` makes such of other references.
    ``problems`` says why a thumbnail is missing, where the row itself does not, ``phrases`` what
    `said_of` found in a description, and ``changed`` which rows have another picture now.
    """
    ra, dec = positions(table)
    known = np.isfinite(ra) & (np.abs(dec) <= 90)
    columns = [name for name in table.colnames
               if name in _TITLE_COLUMNS or name.startswith('clip_')]
    uncertain = bool(uncertainty(table.meta.get('clip')))
    made = []
    for i, (name, seen, jpeg, link) in enumerate(zip(names(table), observations(table), jpegs,
                                                     links, strict=True)):
        row = {column: _text(table[column][i]) for column in columns}
        status = (problems[i] if problems is not None else '') or _status(row)
        rank = _number(row.get('clip_rank'))
        made.append(Card(
            rank=None if rank is None else int(rank), name=clean(name) or f'row {i + 1}',
            marks=_marks(row, i in changed),
            instrument=_joined(seen.collection, seen.facility, seen.instrument),
            observed=_joined(seen.date, seen.exposure, seen.filters),
            identifier=clean(seen.identifier) if seen.identifier != name else '',
            proposal=_proposal(seen),
            details=_joined(*(row.get(column, '') for column in _TITLE_COLUMNS))[:_LONGEST],
            phrases=phrases.get(row.get('clip_row', ''), ()) or _own_phrase(row),
            ra=float(ra[i]) if known[i] else None, dec=float(dec[i]) if known[i] else None,
            score=_number(row.get('clip_score')),
            false_alarm=_number(row.get('clip_false_alarm')), uncertain=uncertain,
            label=f'{row["clip_class"]} {likely:.0%}' if row.get('clip_class') and (
                likely := _number(row.get('clip_probability'))) is not None else '',
            status=clean(status), jpeg=jpeg, link=_web(link),
            data=data if (data := _web(address(seen.data))) != link else '',
            page=_web(seen.page)))
    return made


def of_places(found: Sequence[Card], places: Table) -> list[Card]:
    """
    The cards of places: where the place is, not the observation.
    """
    columns = TableColumns(places)
    ra, dec, number = (columns.numbers(name) if name in places.colnames else
                       np.full(len(places), np.nan) for name in ('ra', 'dec', 'clip_place'))
    known = np.isfinite(ra) & (np.abs(dec) <= 90)
    return [replace(card, marks=(*([f'place {number[i]:.0f}'] if np.isfinite(number[i]) else []),
                                 *card.marks),
                    ra=float(ra[i]) if known[i] else None, dec=float(dec[i]) if known[i] else None)
            for i, card in enumerate(found)]


def with_box(picture: Image.Image, box: np.ndarray, side: int) -> bytes:
    """
    A thumbnail of a picture, a JPEG file, with a box in pixels of its image, NaN for none.
    """
    from PIL import ImageDraw

    geometry, picture = geometry_of(picture), picture.copy()
    picture.thumbnail((side, side))
    if np.isfinite(box).all():
        u, v = geometry.from_original(box[[0, 2]], box[[1, 3]])
        edges = np.array([u[0], v.min(), u[1], v.max()]) * np.tile(picture.size, 2)
        centre, half = (edges[2:] + edges[:2]) / 2, (edges[2:] - edges[:2]) / 2
        half = np.maximum(half, _LEAST_BOX / 2)
        draw = ImageDraw.Draw(picture)
        # Light within dark: seen on any picture.
        for grown, width, colour in ((2, 4, '#1a1a1a'), (1, 2, '#e69f00')):
            draw.rectangle([*(centre - half - grown), *(centre + half + grown)], outline=colour,
                           width=width)
    return thumbnail(picture, side)


def _marks(row: dict[str, str], has_changed: bool) -> tuple[str, ...]:
    label = _number(row.get('clip_label'))
    return tuple(filter(None, (
        'new' if row.get('clip_new') in ('True', '1') else '',
        'liked' if label == 1 else 'disliked' if label == 0 else '',
        'by its words' if has_note(row.get('clip_message', ''), 'by_words') else '',
        CHANGED if has_changed else '')))


def _own_phrase(row: dict[str, str]) -> tuple[Phrase, ...]:
    return (Phrase(row['clip_phrase']),) if row.get('clip_phrase') else ()


def _proposal(seen: Observation) -> str:
    leader = f'PI {seen.investigator}' if seen.investigator else ''
    return _joined(f'proposal {seen.proposal}' if seen.proposal else '', leader)


def unseen(table: Table) -> list[tuple[str, str]]:
    """
    Name of each row that a ranking gave no picture, and its status with the reason.
    """
    if not {'clip_status', 'clip_message'} <= set(table.colnames):
        return []
    rows = table[[_text(status) != OK for status in table['clip_status']]]
    said = (_status({'clip_status': _text(status), 'clip_message': _text(message)})
            for status, message in zip(rows['clip_status'], rows['clip_message'], strict=True))
    return list(zip(names(rows), said, strict=True))


def _text(value: object) -> str:
    """
    A value of any kind in words.
    """
    if isinstance(value, bytes):
        value = value.decode('utf-8', 'replace')
    return '' if value is np.ma.masked or value is None else clean(str(value))


def _status(row: dict[str, str]) -> str:
    said = (row.get('clip_status'),
            without_notes(row.get('clip_message', ''), 'liked', 'disliked'))
    return ': '.join(text for text in said if text and text != OK)


def _joined(*texts: str) -> str:
    """
    What several columns say, once.
    """
    return clean(' · '.join(dict.fromkeys(filter(None, texts))))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or 'nan')
    except ValueError:  # the table may come from a file of anyone's
        return None
    return number if np.isfinite(number) else None


def _web(link: str) -> str:
    """
    An address that may become a link, else nothing.
    """
    try:
        parts = urlsplit(link)
        return clean(link) if parts.scheme in ('http', 'https') and parts.hostname else ''
    except ValueError:  # of a bracket that is no IPv6 address
        return ''
