# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A ranked table -> what is said of each row, for people and for programs that show it.

Nothing here is markup: ``gallery`` and ``plots`` escape what comes from an archive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import urlsplit

import numpy as np
from astropy.table import Table

from ..archives.footprints import positions
from ..ranking.calibration import LIKELY_CHANCE
from ..status import OK

__all__ = ['Card', 'cards', 'doubt', 'gathered', 'heading', 'names', 'odds', 'unseen']

_NAME_COLUMNS = ('clip_name', 'target_name', 'target', 'object', 'obs_id', 'obsid', 'filename',
                 'index')
_INSTRUMENT_COLUMNS = ('obs_collection', 'facility_name', 'instrument_name', 'filters')
_DETAIL_COLUMNS = ('clip_phrase', 'obs_title', 'title')

# Letters of a title: the abstract that some archives put there would hide the picture.
_LONGEST = 300


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
    instrument : str
        Collection, instrument and filters.
    details : str
        Title, and phrases of a description.
    ra, dec : float or None
        Position in degrees (ICRS).
    score : float or None
        ``clip_score`` of the row.
    false_alarm : float or None
        ``clip_false_alarm`` of the row.
    label : str
        Class and its probability.
    status : str
        What there is to say of the row: ``clip_message``, after ``clip_status`` if that is not
        ``OK``, or why there is no picture.
    jpeg : bytes or None
        Thumbnail.
    link : str
        Address of the image, empty if it has none.
    """

    rank: int | None = None
    name: str = ''
    instrument: str = ''
    details: str = ''
    ra: float | None = None
    dec: float | None = None
    score: float | None = None
    false_alarm: float | None = None
    label: str = ''
    status: str = ''
    jpeg: bytes | None = None
    link: str = ''

    @property
    def scores(self) -> tuple[str, ...]:
        """
        Class, score and false alarm in a few words each.
        """
        return tuple(filter(None, (
            self.label,
            '' if self.score is None else f'score {self.score:.2f}',
            '' if self.false_alarm is None else f'false alarm {_one_in(self.false_alarm)}')))


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
    return f'{_one_in(false_alarm)} unrelated images scores this high'


def _one_in(false_alarm: float) -> str:
    if false_alarm > 0.55:
        return f'{false_alarm:.0%}'
    # No more than two figures mean anything.
    return f'1 in {float(f"{1 / max(false_alarm, 1e-9):.2g}"):,.0f}'


def heading(provenance: object) -> tuple[str, str]:
    """
    Title (phrases and examples) and note (what was ranked by which model) above the pictures.

    ``meta['clip']`` may come from a file, so nothing of it is certain; both are empty for a table
    that is not ranked.
    """
    if not isinstance(provenance, dict):
        return '', ''
    query = provenance.get('query', [])
    asked = list(map(str, query)) if isinstance(query, list) else [str(query)]
    if len(asked) > 5:  # a vocabulary
        asked[3:] = [f'{len(asked) - 3} more']
    like = provenance.get('like')
    if isinstance(like, list) and like:
        asked.append(f'like {len(like)} image{"s" if len(like) > 1 else ""}')
    title = ' + '.join(asked)
    ranked, rows, model, date = (str(provenance.get(name, '?')) for name in
                                 ('n_ranked', 'n_rows', 'model', 'date'))
    return title, f'{ranked} of {rows} rows ranked by {model} ({date[:10]})'


def doubt(provenance: object) -> str:
    """
    A sentence if the best of a ranking may be there by chance, empty if there is no reason for it.
    """
    chance = provenance.get('chance') if isinstance(provenance, dict) else None
    if not isinstance(chance, float) or not chance > LIKELY_CHANCE:
        return ''
    return ('Nothing stands out: rows that have nothing to do with the query would look like '
            f'these with a probability of {chance:.2f}.')


def gathered(table: Table) -> Table:
    """
    A description with one line for each image and all its phrases in ``clip_phrase``; any other
    table as it is.
    """
    if not {'clip_row', 'clip_phrase'} <= set(table.colnames):
        return table
    rows, first = np.unique(table['clip_row'], return_index=True)
    lines = table[np.sort(first)]
    phrases = [_text(phrase) for phrase in table['clip_phrase']]
    said: dict[int, list[str]] = {row: [] for row in rows.tolist()}
    for row, phrase in zip(table['clip_row'].tolist(), phrases, strict=True):
        said[row].append(phrase)
    lines['clip_phrase'] = [', '.join(filter(None, said[row])) for row in
                            lines['clip_row'].tolist()]
    if 'clip_rank' in lines.colnames:
        del lines['clip_rank']  # of a phrase, not of the image
    return lines


def names(table: Table) -> list[str]:
    """
    What the images of a table are called: target, identifier or file name, empty if there is none;
    in a table of files, where one target may have many, target and file.
    """
    columns = [column for column in _NAME_COLUMNS if column in table.colnames]
    found = [''] * len(table)
    for column in columns:
        found = [name or other for name, other in zip(found, _named(table, column), strict=True)]
    if 'filename' in columns:
        found = [name if file in name else f'{name} ({file})'
                 for name, file in zip(found, _named(table, 'filename'), strict=True)]
    return found


def _named(table: Table, column: str) -> list[str]:
    values = map(_text, table[column])
    return [PurePath(name).name for name in values] if column == 'filename' else list(values)


def cards(table: Table, jpegs: Sequence[bytes | None], links: Sequence[str],
          problems: Sequence[str] | None = None) -> list[Card]:
    """
    The cards of a table's rows, with their thumbnails and the addresses of their images.

    Only ``http`` and ``https`` addresses become links. ``problems`` says why a thumbnail is
    missing, where the row itself does not.
    """
    ra, dec = positions(table)
    known = np.isfinite(ra) & (np.abs(dec) <= 90)
    made = []
    for i, (name, jpeg, link) in enumerate(zip(names(table), jpegs, links, strict=True)):
        row = {column: _text(table[column][i]) for column in table.colnames
               if column in (*_INSTRUMENT_COLUMNS, *_DETAIL_COLUMNS) or column.startswith('clip_')}
        status = (problems[i] if problems is not None else '') or _status(row)
        made.append(Card(
            rank=None if (rank := _number(row.get('clip_rank'))) is None else int(rank),
            name=name or f'row {i + 1}',
            instrument=' · '.join(_several(row, _INSTRUMENT_COLUMNS)),
            details=' · '.join(_several(row, _DETAIL_COLUMNS))[:_LONGEST],
            ra=float(ra[i]) if known[i] else None, dec=float(dec[i]) if known[i] else None,
            score=_number(row.get('clip_score')),
            false_alarm=_number(row.get('clip_false_alarm')),
            label=f'{row["clip_class"]} {likely:.0%}' if row.get('clip_class') and (
                likely := _number(row.get('clip_probability'))) is not None else '',
            status=status, jpeg=jpeg, link=link if _is_web(link) else ''))
    return made


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
    return '' if value is np.ma.masked or value is None else str(value)


def _status(row: dict[str, str]) -> str:
    said = row.get('clip_status'), row.get('clip_message')
    return ': '.join(text for text in said if text and text != OK)


def _several(row: dict[str, str], columns: Sequence[str]) -> list[str]:
    """
    What some columns say, once.
    """
    return list(dict.fromkeys(filter(None, (row.get(column) for column in columns))))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or 'nan')
    except ValueError:  # the table may come from a file of anyone's
        return None
    return number if np.isfinite(number) else None


def _is_web(link: str) -> bool:
    try:
        return urlsplit(link).scheme in ('http', 'https') and bool(urlsplit(link).hostname)
    except ValueError:  # of a bracket that is no IPv6 address
        return False
