# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Columns of any table -> what they mean, by name, UCD and utype.

Archives name their columns as they like; what comes from the Virtual Observatory also says what
a column is, in ``meta['ucd']`` and ``meta['utype']``, which survive in a plain table.
"""

import re
from collections.abc import Callable
from pathlib import PurePath

import numpy as np
from astropy.table import Column, Table
from astropy.units import Quantity

__all__ = ['FILE_COLUMNS', 'IMAGE_COLUMNS', 'KINDS', 'PREVIEW_COLUMNS', 'recognise', 'sizes',
           'text_column']

# Whole images: of each row the first that has a value counts.
PREVIEW_COLUMNS = ('jpegurl', 'preview', 'preview_url', 'previewurl', 'preview_uri', 'thumbnail',
                   'thumbnail_url', 'thumb_url', 'image_url', 'imageurl', 'cutout_url', 'jpeg_url',
                   'jpg_url', 'png_url', 'jpeg', 'local path', 'filename', 'image',
                   'postcard_url')

# These may also name a product that is no picture: only a known format counts.
FILE_COLUMNS = ('datauri', 'access_url', 'url')

IMAGE_COLUMNS = PREVIEW_COLUMNS + FILE_COLUMNS

# What each column may be called, the surest sign first. UCDs: SIA 1.0 section 4.2, UCD1+; utypes:
# ObsCore 1.1 appendix C and SSA 1.1 appendix C, here without the name of the data model but for
# SSA's, as archives write that name in several ways.
_ROLES = {
    'preview': (*PREVIEW_COLUMNS, 'ucd:meta.ref.url;datalink.preview',
                'ucd:meta.ref.url;meta.preview', 'ucd:meta.preview'),
    'access': ('ucd:vox:image_accessreference', 'access_url', 'utype:access.reference'),
    'file': ('datauri', 'url', 'ucd:meta.ref.url', 'ucd:meta.ref.url;meta.dataset'),
    'link': ('datalink_url', 'datalink'),
    'spectrum': ('utype:ssa:access.reference', 'utype:spec:access.reference'),
    'format': ('ucd:vox:image_format', 'access_format', 'mime', 'content_type', 'contenttype',
               'format', 'ucd:meta.code.mime', 'utype:access.format'),
    'bytes': ('ucd:vox:image_filesize', 'ucd:vox:file_size', 'content_length'),
    'kilobytes': ('access_estsize', 'utype:access.size'),
    'target': ('target_name', 'target', 'object', 'object_name', 'main_id', 'obj_name',
               'source name', 'sci_targname', 'ucd:meta.id;src', 'utype:target.name',
               'utype:ssa:target.name'),
    'title': ('obs_title', 'title', 'proposal_title', 'image_title', 'prog_title',
              'project title', 'ucd:vox:image_title', 'ucd:meta.title', 'ucd:meta.title;obs',
              'ucd:meta.title;meta.dataset', 'utype:dataid.title', 'description'),
    'class': ('target_classification', 'classification', 'target_class', 'object_type',
              'target_description', 'science_keyword', 'science keyword', 'ucd:src.class',
              'utype:target.class', 'utype:ssa:target.class'),
    'fault': ('error_message',),
    'dataproduct_type': ('dataproduct_type', 'data_product_type', 'dataproducttype',
                         'utype:obs.dataproducttype', 'utype:obsdataset.dataproducttype',
                         'utype:ssa:dataset.type', 'utype:dataset.type'),
    'dataproduct_subtype': ('dataproduct_subtype', 'utype:obs.dataproductsubtype',
                            'utype:obsdataset.dataproductsubtype'),
    'semantics': ('semantics',),
    'producttype': ('producttype',),
    'dp_tech': ('dp_tech',),
    'dp_cat': ('dp_cat',),
    'prod_type': ('prod_type',),
}
_SIZES = frozenset(_ROLES['bytes'] + _ROLES['kilobytes'])
# All columns with these meanings are of use; of the others only the first.
_MANY = ('preview', 'access', 'file', 'link')

# "size" and "description" mean a file only where the table is one of files.
_OF_FILES = ('datauri', 'semantics', 'producttype', 'md5sum')

_SUBTYPES = frozenset('auxiliary coverage error mask noise psf uncertainty weight'.split())

# Of a row's kind, in lower case: whether it is a picture of the sky.
KINDS: dict[str, Callable[[str], bool]] = {
    # A cube is one in its middle plane; "im" and "ma" are images and maps of EPN-TAP.
    'dataproduct_type': lambda kind: kind in ('image', 'cube', 'im', 'ma'),
    'dataproduct_subtype': lambda kind: _SUBTYPES.isdisjoint(re.split('[^a-z]+', kind)),
    # Rows of a DataLink document; the full form is the address of the term.
    'semantics': lambda kind: kind.rpartition('#')[2] in ('this', 'preview', 'preview-image',
                                                          'thumbnail'),
    'producttype': lambda kind: kind in ('science', 'preview', 'thumbnail'),
    'dp_tech': lambda kind: 'image' in kind,
    'dp_cat': lambda kind: kind in ('science', 'acquisition'),
    'prod_type': lambda kind: kind.startswith(('image', 'png')),
}


def recognise(table: Table) -> dict[str, list[str]]:
    """
    What the columns of a table mean.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.

    Returns
    -------
    dict
        Names of columns by meaning: ``preview`` (images), ``access`` (data sets that have a
        format), ``file`` (others that may be images), ``link`` (DataLink documents), ``format``,
        ``bytes``, ``kilobytes``, ``target``, ``title``, ``class``, ``fault`` and the names of
        `KINDS`. A meaning that no column has is absent.

    Examples
    --------
    >>> from astropy.table import Column, Table
    >>> from astroclip_search.archives.columns import recognise
    >>> recognise(Table({
    ...     'jpegURL': ['mast:HST/product/a.jpg'],
    ...     'accref': Column(['https://example.org/a.fits'],
    ...                      meta={'ucd': 'VOX:Image_AccessReference'})}))
    {'preview': ['jpegURL'], 'access': ['accref']}
    """
    index = _index(table)
    roles = dict(_ROLES)
    if any(name in index for name in _OF_FILES):
        roles['title'] = tuple(key for key in roles['title'] if key != 'description')
        roles['bytes'] += ('size', 'filesize')
    if 'md5sum' not in index:
        del roles['prod_type']
    found: dict[str, list[str]] = {}
    taken: set[str] = set()
    for role, keys in roles.items():
        names = list(dict.fromkeys(name for key in keys for name in index.get(key, ())))
        if role in _MANY:
            names = [name for name in names if name not in taken]
            taken.update(names)
        if names:
            found[role] = names if role in _MANY else names[:1]
    return found


def _index(table: Table) -> dict[str, list[str]]:
    """
    Plain columns by name, UCD and utype, in lower case.
    """
    index: dict[str, list[str]] = {}
    for name, column in table.columns.items():
        # A size in a QTable has a unit, and is no Column.
        if not isinstance(column, Column | Quantity) or column.ndim != 1:
            continue
        keys = [name.casefold()]
        for prefix in ('ucd', 'utype'):
            value = column.info.meta.get(prefix) if column.info.meta else None
            if isinstance(value, str) and value.strip():
                keys.append(f'{prefix}:{_plain(value) if prefix == "utype" else value.strip()}'
                            .casefold())
        for key in keys:
            if isinstance(column, Column) or key in _SIZES:
                index.setdefault(key, []).append(name)
    return index


def _plain(utype: str) -> str:
    """
    A utype without the name of its data model, unless that says that it is of a spectrum.
    """
    model, _, rest = utype.strip().rpartition(':')
    return utype.strip() if model.casefold() in ('ssa', 'spec') else rest


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


def sizes(table: Table, found: dict[str, list[str]]) -> np.ndarray | None:
    """
    Sizes of the files of a table.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.
    found : dict
        From `recognise`.

    Returns
    -------
    ndarray or None
        In bytes, NaN where unknown; `None` if no column tells. ObsCore's ``access_estsize`` is in
        kilobytes.
    """
    for role, factor in (('bytes', 1.0), ('kilobytes', 1000.0)):
        for name in found.get(role, ()):
            try:
                values = np.ma.array(table[name].value, dtype=float)
            except (TypeError, ValueError):  # a column of objects or of text
                continue
            return factor * np.ma.filled(values, np.nan)
    return None
