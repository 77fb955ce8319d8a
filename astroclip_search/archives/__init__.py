# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Query results of any kind -> a Table, and for each row where its image is.
"""

from pathlib import Path
from typing import Any

from astropy.table import Row, Table

from ..references import References
from . import files, tables

__all__ = ['open_results']

_TABLE_SUFFIXES = ('.ecsv', '.csv', '.vot', '.votable', '.xml', '.parquet', '.hdf5')


def open_results(results: Any, *, image_dir: str | Path | None = None) -> tuple[Table, References]:
    """
    Understand what the user has.

    Parameters
    ----------
    results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
        A query result of astroquery (`~astropy.table.Table`) or pyvo (anything with
        ``to_table``), a table file, an image file, a folder, a glob pattern, arrays, HDUs,
        NDData or PIL images.
    image_dir : path-like, optional
        Folder in which image columns that hold file names are looked up.

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
    from astroquery.exceptions import InvalidQueryError

    if isinstance(results, Row):
        results = results.table[results.index:results.index + 1]
    if hasattr(results, 'to_table') and not isinstance(results, Table):
        results = results.to_table()
    if isinstance(results, str | Path):
        path = _path(results)
        if path.suffix.lower() in _TABLE_SUFFIXES and path.is_file():
            results = _read_table(path)
        else:
            return files.open_files(files.expand(path))
    if isinstance(results, Table):
        return results, tables.references(results, image_dir=image_dir)
    if files.is_image(results):
        results = [results]
    if not isinstance(results, list | tuple):
        raise InvalidQueryError(f'A {type(results).__name__} cannot be ranked: give a table, '
                                'a query result, a path, an image, or a list of images.')
    if not results:
        raise InvalidQueryError('There is nothing to rank: the list is empty.')
    if all(isinstance(item, str | Path) for item in results):
        return files.open_files([path for item in results for path in files.expand(_path(item))])
    return files.open_objects(list(results))


def _path(name: str | Path) -> Path:
    from astroquery.exceptions import InvalidQueryError

    if not str(name).strip():
        raise InvalidQueryError('There is nothing to rank: the path is empty.')
    if '://' in str(name):
        raise InvalidQueryError(f'{str(name)!r} is no path: to rank addresses, give a table that '
                                'has them in a column jpegURL.')
    return Path(name).expanduser()


def _read_table(path: Path) -> Table:
    from astroquery.exceptions import InvalidQueryError

    try:
        if path.suffix.lower() == '.csv':
            return Table.read(path, format='ascii.csv')
        if path.suffix.lower() in ('.vot', '.votable', '.xml'):
            return Table.read(path, format='votable')
        return Table.read(path)
    # Each table format fails in its own ways on a file that is something else.
    except Exception as error:
        reason = ' '.join(str(error).split())[:200]
        raise InvalidQueryError(f'{path} cannot be read as a table ({reason}).') from error
