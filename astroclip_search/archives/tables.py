# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Table rows -> image references, for any table with an image column.

Columns are found by name, in any case; archives rename columns, so several names are tried and
the error names the columns that were seen.
"""

import re
from pathlib import Path, PurePath

import numpy as np
from astropy.table import Column, Table

from ..pixels import FITS_SUFFIXES, IMAGE_SUFFIXES
from ..references import References

__all__ = ['IMAGE_COLUMNS', 'WORD_COLUMNS', 'references', 'row_words', 'text_column']

# Previews first, in any case whole images; of each row the first that has a value counts.
IMAGE_COLUMNS = ('jpegurl', 'preview', 'preview_url', 'previewurl', 'preview_uri', 'thumbnail',
                 'thumbnail_url', 'thumb_url', 'image_url', 'imageurl', 'cutout_url', 'jpeg_url',
                 'jpg_url', 'png_url', 'jpeg', 'local path', 'filename', 'image', 'datauri',
                 'access_url', 'url')

# Columns that may also name a product that is no picture: only a known format counts.
_MIXED_COLUMNS = ('datauri', 'access_url', 'url')

WORD_COLUMNS = (('target_name', 'target', 'object', 'object_name', 'main_id', 'obj_name'),
                ('obs_title', 'title', 'proposal_title', 'image_title', 'description'),
                ('target_classification', 'classification', 'target_class', 'object_type'))

_TYPE_COLUMNS = ('dataproduct_type', 'data_product_type')
_FORMAT_COLUMNS = ('access_format', 'mime', 'content_type', 'format')
_FORMATS = ('image/jpeg', 'image/jpg', 'image/png', 'image/webp', 'image/tiff', 'image/gif',
            'image/fits', 'application/fits', 'application/x-fits', 'image/x-fits')
_SUFFIXES = IMAGE_SUFFIXES + FITS_SUFFIXES


def text_column(table: Table, name: str) -> list[str]:
    """
    A column as plain strings.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.
    name : str
        Name of a column.

    Returns
    -------
    list of str
        Stripped; empty where the value is masked or no text: numbers name no image, and say
        nothing about one.
    """
    column = table[name]
    array = np.asarray(column)
    values = array.tolist()
    mask = np.asarray(getattr(column, 'mask', False))
    if mask.shape == np.shape(column) and mask.any():
        values = ['' if hidden else value for value, hidden in
                  zip(values, mask.tolist(), strict=True)]
    if array.dtype.kind == 'U':
        return list(map(str.strip, values))
    return [_as_text(value) for value in values]


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode('utf-8', 'replace')
    return str(value).strip() if isinstance(value, str | PurePath) else ''


def _find(table: Table, names: tuple[str, ...]) -> list[str]:
    """
    Columns of a table with one of the names, in the order of the names.
    """
    by_name = {column.casefold(): column for column in table.colnames}
    found = [by_name[name] for name in names if name in by_name]
    return [name for name in found if isinstance(table[name], Column) and table[name].ndim == 1]


def row_words(table: Table) -> list[str]:
    """
    The words that each row carries: target, title and classification, joined by commas.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.

    Returns
    -------
    list of str
        One string a row, empty if the row has no words.
    """
    columns = [text_column(table, found[0]) for names in WORD_COLUMNS
               if (found := _find(table, names))]
    if not columns:
        return [''] * len(table)
    rows = zip(*columns, strict=True)
    if any('' in column for column in columns):
        rows = (filter(None, parts) for parts in rows)
    return list(map(', '.join, rows))


def references(table: Table, *, image_dir: str | Path | None = None) -> References:
    """
    Where the image of each row is.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table; no network is used.
    image_dir : path-like, optional
        Folder for names that are neither an address nor a ``mast:`` URI. Names that lead out of
        it are refused.

    Returns
    -------
    References
        One entry a row. Its ``sources`` are all `None` if the table has no image column.
    """
    n = len(table)
    sources: list[str | None] = [None] * n
    status, message = [''] * n, [''] * n
    base = Path(image_dir).expanduser().resolve() if image_dir is not None else None
    formats = next((text_column(table, name) for name in _find(table, _FORMAT_COLUMNS)), None)

    rows = range(n)  # those that nothing is known of yet
    for name in _find(table, IMAGE_COLUMNS):
        values = text_column(table, name)
        mixed = name.casefold() in _MIXED_COLUMNS
        for i in rows:
            value = values[i]
            if not value or (mixed and not _is_image(value, formats[i] if formats else '')):
                continue
            if value.startswith(('https://', 'http://', 'mast:')):
                sources[i] = value
            else:
                sources[i], status[i], message[i] = _local(value, base)
        rows = [i for i in rows if sources[i] is None and not status[i]]
    for i in rows:
        status[i], message[i] = 'NO_IMAGE', 'the row names no image'

    for name in _find(table, _TYPE_COLUMNS):
        if np.all(np.asarray(table[name]) == 'image'):
            continue
        kinds = text_column(table, name)
        others = {kind for kind in set(kinds) if kind and kind.lower() != 'image'}
        for i in [i for i, kind in enumerate(kinds) if kind in others] if others else ():
            status[i], message[i] = 'SKIPPED', f'not an image: {name} is {kinds[i]!r}'
    return References(sources, row_words(table), status, message, has_files=base is not None)


def _is_image(value: str, kind: str) -> bool:
    if kind:
        return kind.split(';', maxsplit=1)[0].strip().lower() in _FORMATS
    return re.split('[?#]', value, maxsplit=1)[0].lower().endswith(_SUFFIXES)


def _local(value: str, base: Path | None) -> tuple[str | None, str, str]:
    """
    Source, status and message of a name that is no address; what is refused has no source.
    """
    if '://' in value:
        return None, 'ERROR', 'not an http or https address'
    if base is None:
        return None, 'ERROR', 'a file name: give image_dir, the folder it is in'
    try:
        path = (base / value).resolve()
    except (OSError, ValueError, RuntimeError):  # the latter for a loop of links
        return None, 'ERROR', 'not a valid file name'
    if not path.is_relative_to(base):
        return None, 'ERROR', 'the name leads out of image_dir'
    return str(path), '', ''


def has_images(table: Table) -> bool:
    """
    Whether a table has any column that could name an image.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.

    Returns
    -------
    bool
        `False` if no column has one of the `IMAGE_COLUMNS` names.
    """
    return bool(_find(table, IMAGE_COLUMNS))
