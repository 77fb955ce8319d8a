# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that take places to other programs: cutouts as files, and tables by SAMP.
"""

import contextlib
import copy
import io
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from ..archives import table_io
from ..archives.columns import TableColumns, text_array, text_column
from ..archives.open import as_table, open_results
from ..exceptions import ImageError, invalid, one_line
from ..images.geometry import geometry_of
from ..images.refs import messages, parse
from ..places import regions
from ..results.names import names
from ..status import OK
from .arguments import check_columns
from .kept import plane_of_table
from .session import Session

__all__ = ['send', 'write_cutouts', 'write_moc', 'write_regions']

_CLIENT = 'astroclip-search'

_WAIT = 10  # seconds for a program to read a table

_UCDS = {'ra': 'pos.eq.ra;meta.main', 'dec': 'pos.eq.dec;meta.main',
         's_region': 'pos.outline;obs.field',
         'clip_x': 'pos.cartesian.x;instr.det', 'clip_y': 'pos.cartesian.y;instr.det',
         'clip_sky_error': 'stat.error;pos.eq', 'clip_rank': 'meta.number',
         'clip_place': 'meta.number', 'clip_status': 'meta.code.status',
         'clip_message': 'meta.note',
         'clip_false_alarm': 'stat.probability', 'clip_score': 'stat.likelihood'}


def write_regions(places: Any, path: str | Path, *, overwrite: bool) -> Path:
    """
    Places as a region file.
    """
    return regions.write_regions(as_table(places), path, overwrite=overwrite)


def write_moc(places: Any, path: str | Path, *, overwrite: bool) -> Path:
    """
    Places as a coverage map.
    """
    return regions.write_moc(as_table(places), path, overwrite=overwrite)


def write_cutouts(session: Session, places: Any, folder: str | Path, margin: float,
                  overwrite: bool, image_dir: str | Path | None,
                  image_column: Any) -> Table:
    """
    A file for each place: FITS with its WCS, or PNG of bitmaps.
    """
    table = regions.check_places(as_table(places))
    check_columns(image_column)
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise invalid(f'There is no folder {str(folder)!r}: make it, or choose another.')
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin <= 100:
        raise invalid('margin must be a part of the box from 0 on, such as 0.5 for half of it on '
                      'each side.')
    _, refs = open_results(table, image_dir=image_dir, image_column=image_column,
                           is_ours=session.is_ours)
    session.remember(refs)
    edges = regions.boxes(table)
    grown = edges + margin * np.column_stack([edges[:, :2] - edges[:, 2:],
                                              edges[:, 2:] - edges[:, :2]])
    said = messages(len(refs), refs.reasons)
    before = (text_column(table, 'clip_status') if 'clip_status' in table.colnames
              else [''] * len(table))
    stems = _stems(table)
    for stem in stems:  # before the work
        for suffix in ('.fits', '.png'):
            table_io.check_target(folder / f'{stem}{suffix}', overwrite=overwrite)
    written = [''] * len(table)
    with session.pipeline(None, session.cache(False), refs.trusted,
                          plane_of_table(table)) as pipeline:
        for i, source in enumerate(refs.sources):
            if before[i] not in ('', OK) or not np.isfinite(edges[i]).all():
                said[i] = ''  # the row itself says why there is no place
            elif source is not None and refs.is_open(i):
                try:
                    written[i] = _written(pipeline, source, refs.objects, table[i], grown[i],
                                          folder / stems[i], overwrite)
                except ImageError as error:
                    said[i] = error.reason
    return _with_files(table, written, said)


def _written(pipeline: Any, source: str, objects: Any, row: Any, box: np.ndarray, stem: Path,
             overwrite: bool) -> str:
    """
    The file of one place.
    """
    content = None
    if len(parse(source).parts) == 1:
        content = pipeline.cut(source, objects, box.tolist())
    path = stem.with_name(stem.name + ('.png' if content is None else '.fits'))
    if content is not None:
        _check_sky(content, row)
        with table_io.replacing(path, overwrite=overwrite) as beside:
            beside.write_bytes(content)
        return str(path)
    picture = pipeline.full(source, objects)
    geometry = geometry_of(picture)
    (left, right), (low, high) = geometry.from_original(box[[0, 2]], box[[1, 3]])
    upper, lower = sorted((float(low), float(high)))
    edges = [max(math.floor(left * picture.width + 1e-6), 0),
             max(math.floor(upper * picture.height + 1e-6), 0),
             min(math.ceil(right * picture.width - 1e-6), picture.width),
             min(math.ceil(lower * picture.height - 1e-6), picture.height)]
    if edges[2] <= edges[0] or edges[3] <= edges[1]:
        raise ImageError('no_pixels')
    with table_io.replacing(path, overwrite=overwrite) as beside:
        picture.crop(tuple(edges)).save(beside, 'PNG')
    return str(path)


def _check_sky(content: bytes, row: Any) -> None:
    """
    Raise if a cutout does not show the sky where its place is: of several chips it is another one.
    """
    from astropy.io import fits

    from ..images.plane import celestial

    if not {'ra', 'dec'} <= set(row.colnames):
        return
    place = [float(np.ma.filled(np.ma.asarray(row[name], dtype=float), np.nan))
             for name in ('ra', 'dec')]
    with fits.open(io.BytesIO(content)) as hdus:
        header = hdus[0].header
        height, width = hdus[0].shape[-2:]
        wcs = celestial(header)
    if wcs is None or not np.isfinite(place).all() or not abs(place[1]) <= 90:
        return
    with contextlib.suppress(Exception):  # of a WCS that has no pixel there: then it is elsewhere
        x, y = wcs.all_world2pix([place], 0, quiet=True)[0]
        if -1 <= x <= width and -1 <= y <= height:
            return
    raise ImageError('other_place')


def _stems(places: Table) -> list[str]:
    """
    Names of files without a suffix, all different.
    """
    columns = TableColumns(places)
    rows, numbers = (np.nan_to_num(columns.numbers(name)).astype(int).tolist()
                     for name in ('clip_row', 'clip_place'))
    found: dict[str, None] = {}
    for called, row, number in zip(names(places), rows, numbers, strict=True):
        plain = re.sub(r'[^A-Za-z0-9.+-]+', '_', called).strip('._')[:60] or 'image'
        stem = f'{plain}_{row}_{number}'
        while stem in found:
            stem += '_'
        found[stem] = None
    return list(found)


def _with_files(places: Table, written: list[str], said: list[str]) -> Table:
    """
    The table with the files, and with the reason where there is none.
    """
    found = places.copy()
    found.meta = copy.deepcopy(places.meta)
    earlier = (text_column(places, 'clip_message') if 'clip_message' in places.colnames
               else [''] * len(places))
    found['clip_cutout'] = text_array(written)
    found['clip_message'] = text_array([
        '; '.join(filter(None, dict.fromkeys((old, '' if file else why))))
        for old, file, why in zip(earlier, written, said, strict=True)])
    return found


def send(table: Any, to: str | None, name: str) -> list[str]:
    """
    A table to programs on this machine that read tables, by SAMP.
    """
    table = as_table(table)
    if table is None:
        raise invalid('send takes a table, such as rank or locate returns.')
    if not isinstance(name, str) or not name.strip():
        raise invalid('name must be what the table is called in the other program.')
    try:
        from pyvo.samp import SAMPIntegratedClient, conf
    except ImportError:  # it was there before it was in pyvo
        from astropy.samp import SAMPIntegratedClient, conf

    # A client would ask a server in the network whether there is one.
    with conf.set_temp('use_internet', False):
        client = SAMPIntegratedClient(name=_CLIENT, description='Search by what images show',
                                      callable=False)
        try:
            client.connect()
        # Several kinds, of a hub that is not there or has gone.
        except Exception as error:
            raise invalid('No program is waiting for tables: start TOPCAT or Aladin, and send '
                          f'again ({one_line(error, 80)}).') from error
        try:
            return _sent(client, table, to, name)
        finally:
            with contextlib.suppress(Exception):  # the hub may have gone
                client.disconnect()


def _sent(client: Any, table: Table, to: str | None, name: str) -> list[str]:
    subscribed = client.get_subscribed_clients('table.load.votable')
    called = {number: str(client.get_metadata(number).get('samp.name', number))
              for number in subscribed}
    chosen = {number: title for number, title in called.items()
              if to is None or title.casefold() == to.casefold()}
    if not chosen:
        raise invalid(f'No program called {to!r} reads tables now; there are: '
                      f'{one_line(", ".join(called.values()))}.' if called and to is not None else
                      'No program that reads tables is open: start TOPCAT or Aladin.')
    with tempfile.TemporaryDirectory(prefix='astroclip-search-') as folder:
        path = Path(folder, 'table.vot')
        table_io.write(with_ucds(table), path)
        message = {'samp.mtype': 'table.load.votable',
                   'samp.params': {'url': path.as_uri(), 'name': name, 'table-id': name}}
        failed = []
        for number, title in chosen.items():
            # It has read the file when it answers.
            answer = client.call_and_wait(number, message, str(_WAIT))
            if answer.get('samp.status') != 'samp.ok':
                failed.append(title)
    if failed:
        raise invalid(f'{one_line(", ".join(failed))} could not read the table.')
    return list(chosen.values())


def with_ucds(table: Table) -> Table:
    """
    A copy of a table that says of positions and scores what they are (UCD1+), where it does not.
    """
    found = table.copy(copy_data=False)
    has_places = {'clip_place', 'ra', 'dec'} <= set(found.colnames)
    for column in found.itercols():
        meta = getattr(column, 'meta', None)
        name = column.info.name
        if meta is None or (not has_places and not name.startswith('clip_')):
            continue
        if name in _UCDS:
            column.meta = {'ucd': _UCDS[name], **meta}
        elif has_places and str(meta.get('ucd', '')).startswith('pos.eq.'):
            # The main position of a row is that of its place.
            column.meta = {**meta, 'ucd': str(meta['ucd']).removesuffix(';meta.main')}
    return found
