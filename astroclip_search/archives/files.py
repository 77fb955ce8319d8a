# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Folders, files, arrays and HDUs -> a Table and image references.
"""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from PIL import Image

from ..pixels import FITS_SUFFIXES, IMAGE_SUFFIXES
from ..references import References, digest

__all__ = ['expand', 'is_hdu_list', 'open_files', 'open_objects']

_SUFFIXES = IMAGE_SUFFIXES + FITS_SUFFIXES


def expand(path: Path) -> list[Path]:
    """
    Image files that a path stands for.

    Parameters
    ----------
    path : pathlib.Path
        A file, a folder (searched with its subfolders) or a glob pattern.

    Returns
    -------
    list of pathlib.Path
        Sorted absolute paths. A file that is named itself is taken whatever its suffix.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If there is no such file, or no image in the folder.
    """
    from astroquery.exceptions import InvalidQueryError

    if path.is_file():
        return [path.absolute()]
    if path.is_dir():
        found = path.rglob('*')
    elif any(character in str(path) for character in '*?['):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        found = anchor.glob(str(path.relative_to(path.anchor)))
    else:
        raise InvalidQueryError(f'There is no file or folder {str(path)!r}.')
    images = sorted(file.absolute() for file in found
                    if file.name.lower().endswith(_SUFFIXES) and file.is_file())
    if not images:
        raise InvalidQueryError(f'There is no image in {str(path)!r}: looked for '
                                f'{", ".join(_SUFFIXES)}.')
    return images


def open_files(paths: list[Path]) -> tuple[Table, References]:
    """
    A table of image files.

    Parameters
    ----------
    paths : list of pathlib.Path
        Absolute paths.

    Returns
    -------
    table : `~astropy.table.Table`
        Column ``filename``.
    references : References
        One a file.
    """
    names = [str(path) for path in paths]
    n = len(names)
    return Table({'filename': names}), References(names, [''] * n, [''] * n, [''] * n)


def is_hdu_list(item: object) -> bool:
    """
    Whether something is an `~astropy.io.fits.HDUList`, which is also a list.

    Parameters
    ----------
    item : object
        Anything.

    Returns
    -------
    bool
        Decided without importing `astropy.io.fits`.
    """
    return isinstance(item, list) and type(item).__name__ == 'HDUList'


def open_objects(items: list[Any]) -> tuple[Table, References]:
    """
    A table of images that are in memory.

    Parameters
    ----------
    items : list
        Arrays, HDUs, HDULists, NDData, PIL images, or paths among them.

    Returns
    -------
    table : `~astropy.table.Table`
        Columns ``index`` (position in the list) and ``kind``.
    references : References
        One an item; equal content has the same source.
    """
    sources, kinds, objects = [], [], {}
    for item in items:
        kinds.append(type(item).__name__)
        if isinstance(item, str | Path):
            sources.append(str(Path(item).expanduser().absolute()))
            continue
        source = _source(item)
        sources.append(source)
        objects[source] = item
    n = len(items)
    table = Table({'index': np.arange(n), 'kind': kinds})
    return table, References(sources, [''] * n, [''] * n, [''] * n, objects)


def _source(item: Any) -> str:
    if isinstance(item, Image.Image):
        return digest(item.tobytes(), f'{item.mode} {item.size}')
    planes = item if is_hdu_list(item) else [item]
    content, description = b'', ''
    for plane in planes:
        data = plane if isinstance(plane, np.ndarray) else getattr(plane, 'data', None)
        if isinstance(data, np.ndarray) and data.dtype != object:
            mask = getattr(plane, 'mask', None)
            content += np.ascontiguousarray(data).tobytes()
            content += b'' if mask is None else np.ascontiguousarray(mask).tobytes()
            description += f'{data.dtype} {data.shape} {getattr(plane, "name", "")}'
        else:
            description += type(plane).__name__
    return digest(content, description)
