# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Query results of any kind -> a Table, and for each row where its image is.
"""

from pathlib import Path
from typing import Any

from astropy.table import Row, Table

from .. import table_files
from ..buckets import expand, is_allowed
from ..references import References
from . import files, hips, tables, vo
from .colour import add_composites

__all__ = ['open_results']


def open_results(results: Any, *, image_dir: str | Path | None = None, coordinates: Any = None,
                 radius: Any = None,
                 sky_context: str | None = None,
                 colour: bool = False) -> tuple[Table, References]:
    """
    Make a table of a result of any kind, and find where the image of each row is.

    Parameters
    ----------
    results : Table, QTable, Row, DALResults, path, address, array, HDU, image, or a list
        A query result of astroquery (`~astropy.table.Table`) or pyvo (anything with
        ``to_table``, records of it, and what ``pyvo.discover`` finds), a table file, an image
        file, a folder, a glob pattern, ``http``, ``https`` or ``mast:`` addresses of images,
        arrays, HDUs, NDData or PIL images. A FITS file that holds tables and no image is a table
        file.
    image_dir : path-like, optional
        Folder in which image columns that hold file names are looked up.
    coordinates : str or `~astropy.coordinates.SkyCoord`, optional
        Position that cutouts are made around where an archive offers them; otherwise they are made
        around the centre of each row.
    radius : str, number or `~astropy.units.Quantity`, optional
        Radius of these cutouts.
    sky_context : str, optional
        Name of a HiPS, such as ``CDS/P/DSS2/color``, from which rows of a table that have no image
        get a picture of the sky at their position.
    colour : bool
        Compose a colour image of the FITS images of one field in three filters.

    Returns
    -------
    table : `~astropy.table.Table`
        The rows; the user's own table, not a copy.
    references : References
        Where the image of each row is.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is nothing that could be ranked.
    """
    table, references = _open(results, image_dir, coordinates, radius, sky_context)
    if colour:
        add_composites(table, references)
    return table, references


def _open(results: Any, image_dir: str | Path | None, coordinates: Any, radius: Any,
          sky_context: str | None) -> tuple[Table, References]:
    if isinstance(results, Row):
        results = results.table[results.index:results.index + 1]
    asked = results
    for understand in (vo.discovered, vo.selected):
        found = understand(results)
        results = results if found is None else found
    if hasattr(results, 'to_table') and not isinstance(results, Table):
        results = results.to_table()
    if isinstance(results, str | Path):
        if _is_address(results):
            return _open_addresses([results])
        if is_allowed(str(results)):
            return files.open_files(expand(str(results), files.SUFFIXES))
        path = _path(results)
        if table_files.holds_table(path):
            results = table_files.read(path)
        else:
            return files.open_files(files.expand(path))
    if isinstance(results, Table):
        references = tables.references(results, image_dir=image_dir)
        if vo.is_result(asked):
            vo.add_links(asked, results, references)
        vo.aim(results, references, coordinates, radius)
        if sky_context is not None:
            hips.fill(results, references, sky_context)
        return results, references
    return _open_list([results] if files.is_image(results) else results)


def _open_list(results: Any) -> tuple[Table, References]:
    """
    Addresses, paths or images.
    """
    from astroquery.exceptions import InvalidQueryError

    if not isinstance(results, list | tuple):
        raise InvalidQueryError(f'{type(results).__name__!r} cannot be ranked: give a table, '
                                'a query result, a path, an image, or a list of images.')
    if not results:
        raise InvalidQueryError('There is nothing to rank: the list is empty.')
    if all(map(_is_address, results)):
        return _open_addresses(list(results))
    if all(isinstance(item, str | Path) for item in results):
        return files.open_files([
            path for item in results for path in (
                expand(item, files.SUFFIXES) if is_allowed(str(item))
                else files.expand(_path(item)))])
    return files.open_objects(list(results))


def _is_address(item: Any) -> bool:
    return isinstance(item, str) and item.strip().startswith(('http://', 'https://', 'mast:'))


def _open_addresses(addresses: list[str]) -> tuple[Table, References]:
    """
    A table of addresses, which are all taken to be of images.
    """
    return Table({'url': addresses}), tables.references(Table({'preview': addresses}))


def _path(name: str | Path) -> Path:
    from astroquery.exceptions import InvalidQueryError

    if not str(name).strip():
        raise InvalidQueryError('There is nothing to rank: the path is empty.')
    if '://' in str(name):
        raise InvalidQueryError(f'{str(name)!r} is no path: to rank addresses, give a list of '
                                'nothing else, or a table that has them in a column jpegURL; to '
                                'read an object store, add its protocol to '
                                'conf.fsspec_protocols.')
    return Path(name).expanduser()
