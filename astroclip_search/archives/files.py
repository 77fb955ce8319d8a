# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Folders, files, arrays and HDUs -> a Table and image references.
"""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from PIL import Image

from ..exceptions import LeftOutWarning, invalid, warn
from ..images.formats import (
    HEAD,
    IN_WORDS,
    is_wanted,
    kind_of_content,
    kind_of_name,
    left_out,
    suffix_of,
)
from ..images.refs import ImageRefs, memory
from ..status import reason
from ..untrusted.files import open_regular
from . import headers

__all__ = ['expand', 'is_image', 'open_files', 'open_objects']

_OWN = re.compile(r'embeddings(-\d+)?\.sqlite')

# Files of each unknown suffix that are looked into; if one of them is an image, so are all.
_TRIES = 20


def expand(path: Path) -> list[Path]:
    """
    Image files that a file, a folder (with its subfolders) or a glob pattern stands for: sorted,
    absolute. A file that is named itself, or by a pattern with its suffix, is taken whatever it is.
    Others are told by name, or else by their first bytes; a warning says what is left out.
    """
    if path.is_file():
        return [path.absolute()]
    if path.is_dir():
        found = _walk(path)
    elif any(character in str(path) for character in '*?['):
        found = _glob(path)
    else:
        raise invalid(f'There is no file or folder {str(path)!r}.')
    # What waits for a writer is no file.
    names = sorted(filter(os.path.isfile, found), key=lambda name: name.split(os.sep))
    others: set[str] = set()
    if path.is_dir() or not is_wanted(path.name):
        unknown = [name for name in names if not kind_of_name(name)]
        others = set(unknown).difference(_images_by_content(unknown))
    images = [Path(name).absolute() for name in names if name not in others]
    if not images:
        raise invalid(f'There is no image in {str(path)!r}: looked for {IN_WORDS}.')
    if others:
        warn(f'In {str(path)!r} {left_out(others)}.', LeftOutWarning)
    return images


def _walk(folder: Path) -> Iterator[str]:
    """
    All that is in a folder and its subfolders but folders, what is hidden, and a cache of ours.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith('.')]
        yield from (os.path.join(place, name) for name in names
                    if not name.startswith('.') and not _OWN.match(name))


def _glob(pattern: Path) -> Iterator[str]:
    """
    What a pattern stands for; what is hidden only if the pattern says so.
    """
    anchor = Path(pattern.anchor) if pattern.is_absolute() else Path()
    hidden = any(part.startswith('.') for part in pattern.parts)
    for file in anchor.glob(str(pattern.relative_to(pattern.anchor))):
        if hidden or not any(part.startswith('.') for part in file.parts):
            yield str(file)


def _images_by_content(names: Sequence[str]) -> Iterator[str]:
    """
    Those of files without a known suffix that are images.
    """
    tried: Counter[str] = Counter()
    good = set()
    for name in names:
        suffix = suffix_of(os.path.basename(name))
        if tried[suffix] >= _TRIES and suffix not in good:
            continue
        tried[suffix] += 1
        with contextlib.suppress(OSError), open_regular(name) as stream:
            if kind_of_content(stream.read(HEAD)):
                good.add(suffix)
                yield name


def open_files(paths: Sequence[Path | str]) -> tuple[Table, ImageRefs]:
    """
    A table of image files, absolute paths or addresses that fsspec may read, and of what their
    headers say.
    """
    names: list[str | None] = [str(path) for path in paths]
    known = headers.as_columns(headers.of_files(names))
    # Of a list, astropy would change the filters of warnings while it makes a column.
    return Table({'filename': np.array(names, dtype=str), **known}), ImageRefs(
        names, [''] * len(names))


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
    A table of images that are in memory, of paths among them, and of `None` where there is none,
    with what their headers say; equal content has the same reference.
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
    kinds = np.array([type(item).__name__ for item in items], dtype=str)
    table = Table({'index': np.arange(n), 'kind': kinds,
                   **headers.as_columns(headers.of_objects(items))})
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
