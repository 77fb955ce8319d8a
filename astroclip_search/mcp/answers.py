# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tables -> answers for a language model, as short as can be; fields that are `None` are left out.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel

from ..archives.columns import text_column
from ..exceptions import visible
from ..results.cards import cards, doubt, odds, uncertainty
from ..status import OK

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ['Description', 'GalleryFile', 'Image', 'Phrase', 'Ranking', 'Row', 'description',
           'ranking']

_IDENTITIES = ('obs_id', 'obs_publisher_did', 'filename', 'url')


# Some archives put an abstract there.
_LONGEST_TITLE = 300


class Row(BaseModel):
    """A row of a ranking."""

    rank: int | None = None
    name: str
    id: str | None = None
    instrument: str | None = None
    observed: str | None = None
    title: str | None = None
    score: float | None = None
    false_alarm: float | None = None
    in_words: str | None = None
    position: str | None = None
    ra: float | None = None
    dec: float | None = None
    status: str | None = None
    message: str | None = None
    link: str | None = None


class Ranking(BaseModel):
    """The best rows, and whether anything stands out."""

    ranking: str
    query: str
    verdict: str
    n_rows: int
    n_ranked: int
    status: dict[str, int]
    model: str
    selection: str | None = None
    warnings: list[str] | None = None
    rows: list[Row]


class Phrase(BaseModel):
    """A phrase that an image fits."""

    phrase: str
    score: float
    false_alarm: float | None = None
    in_words: str | None = None


class Image(BaseModel):
    """An image and the phrases that it fits best."""

    name: str
    status: str
    message: str | None = None
    phrases: list[Phrase] | None = None


class Description(BaseModel):
    """What images show."""

    images: list[Image]
    model: str
    warnings: list[str] | None = None


class GalleryFile(BaseModel):
    """A gallery that was written."""

    path: str
    n_pictures: int
    n_bytes: int
    title: str
    verdict: str | None = None
    warnings: list[str] | None = None


def ranking(name: str, best: 'Table', links: Sequence[str]) -> Ranking:
    """
    A verdict on all rows of a ranked table, and the first ones, whose images have these links.
    """
    asked = best.meta['clip']
    return Ranking(ranking=name, query=', '.join(asked['query']), verdict=_verdict(best),
                   n_rows=asked['n_rows'], n_ranked=asked['n_ranked'], status=asked['status'],
                   model=f'{asked["model"]} {asked["revision"]}',
                   selection=asked.get('selection'), rows=_rows(best[:len(links)], links))


def description(lines: 'Table') -> Description:
    """
    What `~astroclip_search.ClipSearchClass.describe` returned, image by image.
    """
    images: dict[int, Image] = {}
    for line in lines:
        image = images.setdefault(int(line['clip_row']), Image(
            name=visible(str(line['clip_name'])), status=visible(str(line['clip_status'])),
            message=visible(str(line['clip_message'])) or None))
        if line['clip_status'] == OK:
            alarm = line['clip_false_alarm']
            alarm = None if alarm is np.ma.masked else float(alarm)
            image.phrases = [*(image.phrases or []), Phrase(
                phrase=str(line['clip_phrase']), score=round(float(line['clip_score']), 2),
                false_alarm=_rounded(alarm, 5), in_words=_words(alarm))]
    asked = lines.meta['clip']
    return Description(images=list(images.values()), model=f'{asked["model"]} {asked["revision"]}')


def _rows(table: 'Table', links: Sequence[str]) -> list[Row]:
    identity = next((name for name in _IDENTITIES if name in table.colnames), None)
    # Letters that nobody sees are read by a language model all the same.
    ids, status, message = (list(map(visible, text_column(table, name))) if name
                            else [''] * len(table)
                            for name in (identity, 'clip_status', 'clip_message'))
    return [Row(rank=card.rank, name=card.name, id=ids[i] or None,
                instrument=card.instrument or None, observed=card.observed or None,
                title=card.details[:_LONGEST_TITLE] or None,
                score=_rounded(card.score, 2), false_alarm=_rounded(card.false_alarm, 5),
                in_words=card.odds or None, position=_position(card.ra, card.dec),
                ra=_rounded(card.ra, 5), dec=_rounded(card.dec, 5),
                status=status[i] if status[i] != OK else None, message=message[i] or None,
                link=card.link or None)
            for i, card in enumerate(cards(table, [None] * len(table), links))]


def _verdict(best: 'Table') -> str:
    """
    One sentence or two on whether anything stands out.
    """
    said = doubt(best.meta['clip'])
    if said:
        # In a large table the first rows may be right even where chance gives as much.
        return f'{said} Look at the pictures before you say that it is not there.'
    if not best.meta['clip']['n_ranked']:
        return 'No row could be ranked.'
    if said := uncertainty(best.meta['clip']):
        return said
    alarms = np.ma.compressed(best['clip_false_alarm'])
    if not len(alarms):
        return ('No row has a false-alarm rate: the first rows are the best of the table, and may '
                'not show it all the same.')
    return (f'{(alarms <= 0.01).sum()} of {len(alarms)} pictures score as high as 1 in 100 '
            f'unrelated images; by chance it would be about {0.01 * len(alarms):.2g}.')


def _position(ra: float | None, dec: float | None) -> str | None:
    if ra is None or dec is None:
        return None
    from astropy.coordinates import SkyCoord

    return SkyCoord(ra, dec, unit='deg').to_string('hmsdms', precision=1)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _words(false_alarm: float | None) -> str | None:
    return None if false_alarm is None else odds(false_alarm)
