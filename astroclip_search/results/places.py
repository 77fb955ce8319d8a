# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Places in pictures -> the table that the user gets.
"""

import copy
from collections.abc import Sequence

import numpy as np
from astropy import units as u
from astropy.table import MaskedColumn, Table

from ..archives.columns import text_array
from ..archives.score_columns import form_of, rank_column, score_column
from ..embeddings.collect import Outcomes
from ..places.found import Seen
from ..places.sky import words_of
from .names import names
from .table import image_sources

__all__ = ['located_table']

# Of the columns of the user's table, those of the ranking that say something else there.
_OF_RANKING = 'clip_'
_KEPT = ('clip_rank', 'clip_label')


def located_table(table: Table, outcomes: Outcomes, found: Sequence[Seen | None],
                  false_alarm_rate: float | None = None) -> Table:
    """
    One line for each place, the best of a picture first, and one for each row without any; with a
    rate only places that are at or below it.
    """
    lines: list[tuple[int, Seen | None, int]] = []
    for row, seen in enumerate(found):
        n_places = len(seen.places) if seen is not None else 0
        good = [(row, seen, i) for i in range(n_places) if false_alarm_rate is None
                or seen.places[i].false_alarm <= false_alarm_rate]
        lines += good or ([(row, None, 0)] if false_alarm_rate is None else [])
    rows = np.array([row for row, *_ in lines], np.int64)
    numbers = np.full((len(lines), 8), np.nan)  # x, y, box, score, rate
    sky = np.full((len(lines), 3), np.nan)
    regions = [''] * len(lines)
    for line, (_, seen, i) in enumerate(lines):
        if seen is None:
            continue
        place = seen.places[i]
        parts = np.array(place.points)
        x, y = seen.geometry.to_original(*parts.T)
        numbers[line] = (x[0], y[0], x[1:].min(), y[1:].min(), x[1:].max(), y[1:].max(),
                         place.score, place.false_alarm)
        if seen.sky is not None:
            points = seen.sky[5 * i:5 * i + 5]
            sky[line, :2] = points[0]
            sky[line, 2] = 0.0 if seen.error is None else seen.error[5 * i]
            regions[line] = words_of(*points[1:].T)
    sky[~np.isfinite(sky[:, :2]).all(axis=1)] = np.nan
    own = table[rows]
    sources = image_sources(table, outcomes.sources)[rows] if len(table) else text_array([])
    masked = np.isnan(numbers)
    front = {
        'clip_row': rows,
        'clip_place': rank_column(np.array([i + 1 for *_, i in lines], np.int64),
                                  np.array([seen is None for _, seen, _ in lines], bool)),
        'clip_x': _pixels(numbers[:, 0]), 'clip_y': _pixels(numbers[:, 1]),
        'clip_box': MaskedColumn(numbers[:, 2:6], mask=masked[:, 2:6], unit=u.pix, format='.2f'),
        'clip_score': score_column(numbers[:, 6], form_of('clip_score')),
        'clip_false_alarm': score_column(numbers[:, 7], form_of('clip_false_alarm')),
        'ra': _degrees(sky[:, 0]), 'dec': _degrees(sky[:, 1]), 's_region': text_array(regions),
        'clip_sky_error': MaskedColumn(sky[:, 2].astype(np.float32), mask=np.isnan(sky[:, 2]),
                                       unit=u.arcsec, format='.3g'),
        'clip_status': outcomes.statuses()[rows],
        'clip_message': outcomes.messages()[rows],
        'clip_source': sources}
    made = Table(front, masked=False)
    for name in table.colnames:
        if name not in front and (name in _KEPT or not name.startswith(_OF_RANKING)):
            made[name] = own[name]
    made['clip_name'] = text_array(names(table))[rows] if len(table) else text_array([])
    made.meta = {name: copy.deepcopy(value) for name, value in table.meta.items()
                 if name != 'clip'}
    return made


def _pixels(values: np.ndarray) -> MaskedColumn:
    return MaskedColumn(values, mask=np.isnan(values), unit=u.pix, format='.2f')


def _degrees(values: np.ndarray) -> MaskedColumn:
    return MaskedColumn(values, mask=np.isnan(values), unit=u.deg, format='.6f')
