# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Folders, files, arrays and HDUs -> a Table and image references.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from PIL import Image

from ..exceptions import invalid
from ..images.formats import FITS_SUFFIXES, IMAGE_SUFFIXES
from ..images.refs import ImageRefs, memory
from ..status import reason

__all__ = ['SUFFIXES', 'expand', 'is_image', 'open_files', 'open_objects']

SUFFIXES = IMAGE_SUFFIXES + FITS_SUFFIXES


def expand(path: Path) -> list[Path]:
    """
    Image files that a file, a folder (with its subfolders) or a glob pattern stands for: sorted,
    absolute. A file that is named itself is taken whatever its suffix.
    """
    if path.is_file():
        return [path.absolute()]
    if path.is_dir():
        found = path.rglob('*')
    elif any(character in str(path) for character in '*?['):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        found = anchor.glob(str(path.relative_to(path.anchor)))
    else:
        raise invalid(f'There is no file or folder {str(path)!r}.')
    images = sorted(file.absolute() for file in found
                    if file.name.lower().endswith(SUFFIXES) and file.is_file())
    if not images:
        raise invalid(f'There is no image in {str(path)!r}: looked for {", ".join(SUFFIXES)}.')
    return images


def open_files(paths: Sequence[Path | str]) -> tuple[Table, ImageRefs]:
    """
    A table of image files: absolute paths, or addresses that fsspec may read.
    """
    names: list[str | None] = [str(path) for path in paths]
    return Table({'filename': names}), ImageRefs(names, [''] * len(names))


def is_image(item: object) -> bool:
    """
    Whether something may be one image in memory: an array, an HDU, NDData, a PIL image, the content
    of a file, or an `~astropy.io.fits.HDUList`, although it is also a list.
    """
    return (isinstance(item, bytes | bytearray) or hasattr(item, 'data')
            or hasattr(item, 'tobytes') or _is_hdu_list(item))


def _is_hdu_list(item: object) -> bool:
    # Without importing astropy.io.fits.
    return isinstance(item, list) and type(item).__name__ == 'HDUList'


def open_objects(items: Sequence[Any]) -> tuple[Table, ImageRefs]:
    """
    A table of images that are in memory, of paths among them, and of `None` where there is none;
    equal content has the same reference.
    """
    sources: list[str | None] = []
    objects = {}
    for item in items:
        if item is None:
            source = None
        elif isinstance(item, str | Path):
            source = str(Path(item).expanduser().absolute())
        else:
            source = _source(item)
            objects[source] = item
        sources.append(source)
    n = len(sources)
    table = Table({'index': np.arange(n), 'kind': [type(item).__name__ for item in items]})
    return table, ImageRefs(sources, [''] * n, {
        i: (reason('no_pixels'),) for i in range(n) if sources[i] is None}, objects)


def _source(item: Any) -> str:
    try:
        return memory(*_content(item))
    # Whatever is wrong with it is told when it is rendered; until then nothing is like it.
    except Exception:
        return memory(os.urandom(16), type(item).__name__)


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
