# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Folders, files, arrays and HDUs -> a Table and image references.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from PIL import Image

from ..pixels import FITS_SUFFIXES, IMAGE_SUFFIXES
from ..references import References, digest

__all__ = ['SUFFIXES', 'expand', 'is_image', 'open_files', 'open_objects']

SUFFIXES = IMAGE_SUFFIXES + FITS_SUFFIXES


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
                    if file.name.lower().endswith(SUFFIXES) and file.is_file())
    if not images:
        raise InvalidQueryError(f'There is no image in {str(path)!r}: looked for '
                                f'{", ".join(SUFFIXES)}.')
    return images


def open_files(paths: list[Path | str]) -> tuple[Table, References]:
    """
    A table of image files.

    Parameters
    ----------
    paths : list of pathlib.Path or str
        Absolute paths, or addresses that fsspec may read.

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


def is_image(item: object) -> bool:
    """
    Whether something may be one image in memory.

    Parameters
    ----------
    item : object
        Anything.

    Returns
    -------
    bool
        `True` for arrays, HDUs, NDData, PIL images, the content of a file, and for an
        `~astropy.io.fits.HDUList`, although it is also a list.
    """
    return (isinstance(item, bytes | bytearray) or hasattr(item, 'data')
            or hasattr(item, 'tobytes') or _is_hdu_list(item))


def _is_hdu_list(item: object) -> bool:
    # Without importing astropy.io.fits.
    return isinstance(item, list) and type(item).__name__ == 'HDUList'


def open_objects(items: list[Any]) -> tuple[Table, References]:
    """
    A table of images that are in memory.

    Parameters
    ----------
    items : list
        Arrays, HDUs, HDULists, NDData, Cutout2D, PIL images, or paths among them.

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
    try:
        return digest(*_content(item))
    # Whatever is wrong with it is told when it is rendered; until then nothing is like it.
    except Exception:
        return digest(os.urandom(16), type(item).__name__)


def _content(item: Any) -> tuple[bytes, str]:
    """
    All that tells two images apart, and how to read it.
    """
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item), 'bytes'
    if isinstance(item, Image.Image):
        return item.tobytes(), (f'{item.mode} {item.size} {item.getpalette()} '
                                f'{item.info.get("transparency")}')
    parts, description = [], ''
    for plane in item if _is_hdu_list(item) else [item]:
        data = plane if isinstance(plane, np.ndarray) else plane.data
        if data is None:  # the empty primary HDU of most FITS files
            continue
        if data.dtype.hasobject:
            raise TypeError('its bytes are addresses, not content')
        mask = getattr(plane, 'mask', None)
        parts += [np.asarray(part).tobytes() for part in (data, mask) if part is not None]
        description += f'{data.dtype} {data.shape} {getattr(plane, "name", "")};'
    return b''.join(parts), description
