# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Thumbnails of a ranked table, in a notebook or as one self-contained HTML file.

Everything that comes from an archive is escaped, images are embedded as data URIs, and there is
no script: the file can be mailed.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePath

import numpy as np
from astropy.table import Table

__all__ = ['Gallery', 'Tile', 'gathered', 'heading', 'names', 'tiles']

_STYLE = """
.acs{font:13px/1.4 system-ui,sans-serif;color:#1b1f24;background:#fff;padding:8px}
.acs h2{font-size:17px;margin:4px 0}.acs p{margin:2px 0 10px;color:#57606a}
.acs ol{display:grid;grid-template-columns:repeat(auto-fill,minmax(172px,1fr));gap:12px;
list-style:none;margin:0;padding:0}
.acs li{border:1px solid #d0d7de;border-radius:6px;overflow:hidden}
.acs img,.acs .none{display:block;width:100%;height:172px;object-fit:contain;background:#000}
.acs .none{background:#eaeef2;color:#57606a;display:flex;align-items:center;
justify-content:center;text-align:center;padding:8px;box-sizing:border-box}
.acs .t{padding:6px 8px;overflow-wrap:anywhere}.acs .n{font-weight:600}
.acs small{color:#57606a;display:block}
@media (prefers-color-scheme:dark){.acs{background:#0d1117;color:#e6edf3}
.acs li{border-color:#30363d}.acs .none{background:#161b22}.acs small,.acs p{color:#9198a1}}
"""

_NAME_COLUMNS = ('clip_name', 'target_name', 'target', 'object', 'obs_id', 'obsid', 'filename',
                 'index')
_DETAIL_COLUMNS = ('clip_phrase', 'obs_collection', 'facility_name', 'instrument_name', 'filters',
                   'obs_title', 'title')


@dataclass(frozen=True)
class Tile:
    """
    One picture of a gallery.

    Attributes
    ----------
    rank : int or None
        Its place.
    name : str
        Target or file name.
    details : str
        Collection, instrument, title.
    scores : str
        Scores in words.
    status : str
        ``clip_status`` and ``clip_message`` of the row.
    jpeg : bytes or None
        Thumbnail.
    link : str
        Address of the image, empty if it has none.
    """

    rank: int | None
    name: str
    details: str
    scores: str
    status: str
    jpeg: bytes | None
    link: str


class Gallery:
    """
    Thumbnails that a notebook shows.

    Parameters
    ----------
    tiles : sequence of Tile
        In the order in which they are shown.
    title : str
        Heading.
    note : str
        Line below the heading.
    """

    def __init__(self, tiles: Sequence[Tile], *, title: str = '', note: str = ''):
        self.tiles = list(tiles)
        self.title = title
        self.note = note

    def __len__(self) -> int:
        return len(self.tiles)

    def __repr__(self) -> str:
        return f'<Gallery of {len(self)} images: {self.title!r}>'

    def _repr_html_(self) -> str:
        return f'<style>{_STYLE}</style>{self._body()}'

    def write(self, path: str | Path) -> Path:
        """
        Write one self-contained HTML file.

        Parameters
        ----------
        path : path-like
            The file; an existing one is overwritten.

        Returns
        -------
        pathlib.Path
            The file.
        """
        path = Path(path).expanduser()
        path.write_text(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<title>{escape(self.title) or "Gallery"}</title><style>body{{margin:0}}{_STYLE}'
            f'</style></head><body>{self._body()}</body></html>\n', encoding='utf-8')
        return path

    def _body(self) -> str:
        items = ''.join(_item(tile) for tile in self.tiles)
        return (f'<section class="acs"><h2>{escape(self.title)}</h2>'
                f'<p>{escape(self.note)}</p><ol>{items}</ol></section>')


def _item(tile: Tile) -> str:
    label = escape(f'{tile.name}. {tile.scores}', quote=True)
    if tile.jpeg is not None:
        data = base64.b64encode(tile.jpeg).decode('ascii')
        picture = f'<img alt="{label}" src="data:image/jpeg;base64,{data}">'
        if tile.link:
            picture = (f'<a href="{escape(tile.link, quote=True)}" rel="noopener noreferrer">'
                       f'{picture}</a>')
    else:
        picture = f'<div class="none">{escape(tile.status)}</div>'
    rank = f'{tile.rank}. ' if tile.rank is not None else ''
    lines = ''.join(f'<small>{escape(line)}</small>' for line in (tile.scores, tile.details)
                    if line)
    return (f'<li>{picture}<div class="t"><span class="n">{rank}{escape(tile.name)}</span>'
            f'{lines}</div></li>')


def heading(provenance: object) -> tuple[str, str]:
    """
    What is written above the pictures.

    Parameters
    ----------
    provenance : dict or None
        ``meta['clip']`` of a ranked table. It may come from a file, so nothing of it is certain.

    Returns
    -------
    title, note : str
        The phrases and examples, and what was ranked by which model; empty for a table that is
        not ranked.
    """
    if not isinstance(provenance, dict):
        return '', ''
    query = provenance.get('query', [])
    asked = list(map(str, query)) if isinstance(query, list) else [str(query)]
    like = provenance.get('like')
    if isinstance(like, list) and like:
        asked.append(f'like {len(like)} image{"s" if len(like) > 1 else ""}')
    title = ' + '.join(asked)
    ranked, rows, model, date = (str(provenance.get(name, '?')) for name in
                                 ('n_ranked', 'n_rows', 'model', 'date'))
    return title, f'{ranked} of {rows} rows ranked by {model} ({date[:10]})'


def gathered(table: Table) -> Table:
    """
    A description with one line for each image.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.

    Returns
    -------
    `~astropy.table.Table`
        The first line of each image, with all its phrases in ``clip_phrase``; or the table itself
        if it is no description.
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
    What the images of a table are called.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.

    Returns
    -------
    list of str
        Target, identifier or file name of each row, empty where it has none.
    """
    column = next((column for column in _NAME_COLUMNS if column in table.colnames), None)
    if column is None:
        return [''] * len(table)
    found = [_text(value) for value in table[column]]
    return [PurePath(name).name for name in found] if column == 'filename' else found


def tiles(table: Table, jpegs: Sequence[bytes | None], links: Sequence[str]) -> list[Tile]:
    """
    The tiles of a table's rows.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Rows that are shown; ranked or not.
    jpegs : sequence of bytes or None
        Their thumbnails.
    links : sequence of str
        Addresses of their images; only ``http`` and ``https`` ones become links.

    Returns
    -------
    list of Tile
        One a row.
    """
    details = [column for column in _DETAIL_COLUMNS if column in table.colnames]
    made = []
    for i, (name, jpeg, link) in enumerate(zip(names(table), jpegs, links, strict=True)):
        row = {column: _text(table[column][i]) for column in table.colnames
               if column in details or column.startswith('clip_')}
        made.append(Tile(
            rank=int(row['clip_rank']) if row.get('clip_rank') else None,
            name=name or f'row {i + 1}',
            details=' · '.join(filter(None, (row[column] for column in details)))[:160],
            scores=_scores(row),
            status=': '.join(filter(None, (row.get('clip_status'), row.get('clip_message')))),
            jpeg=jpeg,
            link=link if link.startswith(('https://', 'http://')) else ''))
    return made


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode('utf-8', 'replace')
    return '' if value is np.ma.masked or value is None else str(value)


def _scores(row: dict[str, str]) -> str:
    parts = []
    if row.get('clip_class') and row.get('clip_probability'):
        parts.append(f'{row["clip_class"]} {float(row["clip_probability"]):.0%}')
    if row.get('clip_score'):
        parts.append(f'score {float(row["clip_score"]):.2f}')
    if row.get('clip_false_alarm'):
        # 1 in 2,000 is easier to read than 0.05 %.
        parts.append(f'false alarm 1 in {1 / max(float(row["clip_false_alarm"]), 1e-9):,.0f}')
    return ', '.join(parts)
