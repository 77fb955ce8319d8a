# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Query results of any kind -> a Table, and for each row where its image is.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from astropy.table import Row, Table, vstack

from ..exceptions import invalid, one_line
from ..images.objectstore import expand, is_allowed
from ..images.refs import ADDRESSES, ImageRefs
from ..untrusted.documents import check_values
from . import arrow, files, hips, pyvo_results, table_io, tables
from .colour_groups import add_composites
from .columns import RowMetadata, TableColumns
from .footprints import with_cutouts
from .score_columns import restore

__all__ = ['as_table', 'open_results']


def open_results(results: Any, *, image_dir: str | Path | None = None,
                 image_column: str | Sequence[str] | None = None,
                 cutout: tuple[Any, Any] | None = None, sky_context: str | None = None,
                 colour: bool = False, is_ours: Callable[[str], bool] | None = None,
                 ) -> tuple[Table, ImageRefs]:
    """
    Make a table of a result of any kind, and find where the image of each row is.

    Parameters
    ----------
    results : Table, QTable, Row, DALResults, path, address, array, HDU, image, or a list
        A query result of astroquery (`~astropy.table.Table`) or pyvo (anything with
        ``to_table``, records of it, and what ``pyvo.discover`` finds), a pandas DataFrame, a
        pyarrow Table, a table file, an image file, a folder, a glob pattern, ``http``, ``https``
        or ``mast:`` addresses of images, arrays, HDUs, NDData or PIL images. A FITS file that
        holds tables and no image is a table file. Of a list or dictionary of tables or rows, one
        table is made. A table that was ranked before names its images in ``clip_source``.
    image_dir : path-like, optional
        Folder in which image columns that hold file names are looked up.
    image_column : str or sequence of str, optional
        Columns that name the images, in place of all that the table says; of each row the first
        that has a value counts. What they hold is trusted: whole paths are read wherever they are.
    cutout : tuple, optional
        Position, a `~astropy.coordinates.SkyCoord` or str, and size, a
        `~astropy.units.Quantity`, str or number of degrees, of the cutouts that are made where
        an archive offers them. The size is the diameter. Without a position they are made around
        the centre of each row.
    sky_context : str, optional
        Name of a HiPS, such as ``CDS/P/DSS2/color``, from which rows of a table that have no image
        get a picture of the sky at their position.
    colour : bool
        Compose a colour image of the FITS images of one field in three filters.
    is_ours : callable, optional
        Whether a file or an array that a ranked table names may be read: it takes the reference,
        a path or ``sha256:...``. By default only files in ``image_dir`` may be.

    Returns
    -------
    table : `~astropy.table.Table`
        The rows; the user's own table, not a copy.
    refs : ImageRefs
        Where the image of each row is, the row's metadata, and why a row has no image.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is nothing that could be ranked, or the cutout is none.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from astroclip_search.archives import open_results
    >>> table, refs = open_results(Table({'target_name': ['M 8', 'M 20'],
    ...                                   'jpegURL': ['mast:HST/product/a.jpg', '']}))
    >>> refs.sources
    ['mast:HST/product/a.jpg', None]
    >>> refs.reasons[1][0].sentence
    'the row names no image'
    """
    if isinstance(results, Iterator) and not hasattr(results, 'read'):
        results = list(results)
    table = as_table(results)
    if table is None:
        if image_column is not None:
            raise invalid('image_column names a column of a table, and these are images.')
        table, refs = _images(results)
        columns = TableColumns(table)
        refs = replace(refs, metadata=RowMetadata(columns))
    else:
        columns = TableColumns(table)
        refs = tables.image_refs(columns, image_dir=image_dir, image_column=image_column,
                                 is_ours=is_ours)
        if pyvo_results.is_result(results):
            refs = pyvo_results.add_links(results, columns, refs)
        refs = with_cutouts(columns, refs, cutout)
        if sky_context is not None:
            refs = hips.add_context(columns, refs, sky_context)
    return table, add_composites(columns, refs) if colour else refs


def as_table(results: Any) -> Table | None:
    """
    Make a table of a result of any kind, if it is one.

    What a FITS file says of a ranking is read, if astropy has left it as text.

    Parameters
    ----------
    results : object
        As for `open_results`.

    Returns
    -------
    `~astropy.table.Table` or None
        `None` for images.
    """
    table = _as_table(results)
    if table is not None:
        try:
            check_values(dict(table.meta or {}))
        except ValueError as error:
            raise invalid(f'The meta of the table cannot be used: {error}.') from error
    return table


def _as_table(results: Any) -> Table | None:
    """
    The table of a result of any kind, whatever its meta is.
    """
    for understand in (pyvo_results.discovered, pyvo_results.selected, _stacked):
        table = understand(results)
        if table is not None:
            return table
    table = _one_table(results)
    if (table is None and isinstance(results, str | Path) and not _is_address(results)
            and not is_allowed(str(results))):
        path = _path(results)
        return table_io.read(path) if table_io.holds_table(path) else None
    if table is not None and 'CLIP' in table.meta:
        table = table.copy(copy_data=False)
        table.meta = table_io.with_ranking(table.meta)
    return table


def _one_table(part: Any) -> Table | None:
    """
    The table of a row, a table of another library, or a result of a service.
    """
    if isinstance(part, Row):
        return part.table[part.index:part.index + 1]
    found = arrow.understood(part)
    if found is not None:
        return restore(found)
    if hasattr(part, 'to_table') and not isinstance(part, Table):
        part = part.to_table()
    return part if isinstance(part, Table) else None


def _stacked(results: Any) -> Table | None:
    """
    One table of a list or a dictionary of rows and tables; `None` if it is something else.
    """
    if isinstance(results, Mapping):
        results = list(results.values())
    if not isinstance(results, list | tuple) or not results:
        return None
    found = []
    for part in results:
        table = _one_table(part)
        if table is None:
            return None
        found.append(table)
    try:
        table = found[0] if len(found) == 1 else vstack(found, metadata_conflicts='silent')
    # Columns of one name may be of any two kinds.
    except Exception as error:
        raise invalid(f'These tables do not make one ({one_line(error)}): rank each by itself.'
                      ) from error
    # Of several rankings none is that of all rows.
    if any(part.meta.get('clip') != found[0].meta.get('clip') for part in found):
        table.meta.pop('clip', None)
    return table


def _images(results: Any) -> tuple[Table, ImageRefs]:
    """
    Addresses, paths or images.
    """
    if isinstance(results, str | Path) or files.is_image(results):
        results = [results]
    if not isinstance(results, list | tuple):
        raise invalid(f'{type(results).__name__!r} cannot be ranked: give a table, a query result, '
                      'a path, an image, or a list of images.')
    if not results:
        raise invalid('There is nothing to rank: the list is empty.')
    if all(map(_is_address, results)):
        return _open_addresses(results)
    if all(isinstance(item, str | Path) for item in results):
        return files.open_files([
            path for item in results for path in (
                expand(str(item)) if is_allowed(str(item))
                else files.expand(_path(item)))])
    return files.open_objects(results)


def _is_address(item: Any) -> bool:
    return isinstance(item, str) and item.strip().startswith(ADDRESSES)


def _open_addresses(addresses: Sequence[str]) -> tuple[Table, ImageRefs]:
    """
    A table of addresses that the user has typed: all are of images, and their hosts are trusted.
    """
    refs = tables.image_refs(Table({'preview': list(addresses)}))
    trusted = tables.hosts(filter(None, refs.sources))
    return Table({'url': list(addresses)}), replace(refs, trusted=trusted)


def _path(name: str | Path) -> Path:
    if not str(name).strip():
        raise invalid('There is nothing to rank: the path is empty.')
    if '://' in str(name):
        raise invalid(f'{str(name)!r} is no path: to rank addresses, give a list of nothing else, '
                      'or a table that has them in a column jpegURL; to read an object store, add '
                      'its protocol to conf.fsspec_protocols.')
    path = Path(os.path.expanduser(name))  # raises nothing, unlike the method of Path
    try:
        path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise invalid(f'{str(name)[:80]!r} cannot be opened ({one_line(error, 100)}).') from error
    return path
