# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Columns of any table -> what they mean, by name, UCD and utype, and their values.

Archives name their columns as they like; what comes from the Virtual Observatory also says what
a column is, in ``meta['ucd']`` and ``meta['utype']``, which survive in a plain table.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, Table

from ..exceptions import invalid

__all__ = ['FILE_COLUMNS', 'IMAGE_COLUMNS', 'KINDS', 'PREVIEW_COLUMNS', 'START_COLUMNS',
           'RowMetadata', 'TableColumns', 'text_array', 'text_column']

# Whole images: of each row the first that has a value counts.
PREVIEW_COLUMNS = ('jpegurl', 'preview', 'preview_url', 'previewurl', 'preview_uri', 'thumbnail',
                   'thumbnail_url', 'thumb_url', 'image_url', 'imageurl', 'cutout_url', 'jpeg_url',
                   'jpg_url', 'png_url', 'jpeg', 'local path', 'filename', 'image',
                   'postcard_url')

# These may also name a product that is no picture: only a known format counts.
FILE_COLUMNS = ('datauri', 'access_url', 'url')

IMAGE_COLUMNS = PREVIEW_COLUMNS + FILE_COLUMNS

# When an observation began.
START_COLUMNS = ('t_min', 'date-obs', 'date_obs', 'dateobs', 'mjd-obs', 'mjd_obs', 'obs_date',
                 'observation date', 'sci_start_time')

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
    'collection': ('obs_collection', 'collection', 'utype:dataid.collection'),
    'facility': ('facility_name', 'telescop', 'telescope', 'ucd:meta.id;instr.tel',
                 'utype:provenance.obsconfig.facility.name'),
    'instrument': ('instrument_name', 'instrument', 'instrume', 'sci_instrume', 'ucd:instr',
                   'ucd:inst_id', 'ucd:meta.id;instr',
                   'utype:provenance.obsconfig.instrument.name'),
    'filters': ('filters', 'filter', 'sci_spec_1234', 'band list', 'band_list',
                'ucd:vox:bandpass_id', 'ucd:instr.filter', 'ucd:meta.id;instr.filter'),
    'observation': ('dp_id', 'obs_id', 'observation_id', 'sci_data_set_name', 'member ous id',
                    'member_ous_uid', 'utype:dataid.observationid', 'obs_publisher_did',
                    'publisherid', 'utype:curation.publisherdid', 'obsid'),
    'proposal': ('proposal_id', 'proposal id', 'prog_id', 'project code', 'sci_pep_id',
                 'ucd:meta.id;obs.proposal', 'utype:provenance.proposal.identifier'),
    'investigator': ('proposal_pi', 'pi_name', 'pi name', 'ucd:meta.id.pi'),
    'start': (*START_COLUMNS, 'ucd:vox:image_mjdateobs', 'ucd:time.start;obs.exposure',
              'ucd:time.start;obs', 'ucd:time.start', 'ucd:time.epoch;obs', 'ucd:time.epoch',
              'utype:char.timeaxis.coverage.bounds.limits.starttime', 't_max'),
    'exposure': ('t_exptime', 'exptime', 'exposure_time', 'integration', 'sci_actual_duration',
                 'ucd:time.duration;obs.exposure', 'ucd:time.duration;obs',
                 'utype:char.timeaxis.coverage.support.extent'),
    'page': ('preview_html',),
    'data': ('dataurl', 'access_url', 'datauri', 'ucd:vox:image_accessreference',
             'utype:access.reference'),
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

# A quantity may have these meanings; called "target" it names none.
_NUMBERS = frozenset(sum((_ROLES[role] for role in ('bytes', 'kilobytes', 'start', 'exposure')),
                         ()))

_MAX_METADATA = 1000  # characters of each column

# An array of strings takes the room of the longest for each. It may have this many bytes in any
# case, and otherwise as many times the text that it holds, each text counted once, but no more.
_FEW_BYTES, _FULLNESS, _MOST_BYTES = 2**27, 2, 2**30

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


class TableColumns:
    """
    All that is known of the columns of a table; each is read once, and never changed.

    Attributes
    ----------
    table : `~astropy.table.Table`
        The table.
    by_key : dict
        Columns with one value a row, by name, ``ucd:`` and ``utype:``, all in lower case.
    """

    def __init__(self, table: Table):
        self.table = table
        self._texts: dict[str, list[str]] = {}
        self.by_key: dict[str, list[str]] = {}
        for name, column in table.columns.items():
            if isinstance(column, Column | u.Quantity) and column.ndim == 1:
                for key in _keys(name, column.info.meta or {}):
                    self.by_key.setdefault(key, []).append(name)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        """
        Columns by meaning: ``preview`` (images), ``access`` (data sets that have a format),
        ``file`` (others that may be images), ``link`` (DataLink documents) and the other keys of
        the table above; a meaning that no column has is absent.

        >>> from astropy.table import Table
        >>> from astroclip_search.archives.columns import TableColumns
        >>> TableColumns(Table({'jpegURL': ['mast:HST/product/a.jpg'], 'Object': ['M 8']})).roles
        {'preview': ['jpegURL'], 'target': ['Object']}
        """
        roles = dict(_ROLES)
        if any(name in self.by_key for name in _OF_FILES):
            roles['title'] = tuple(key for key in roles['title'] if key != 'description')
            roles['bytes'] += ('size', 'filesize')
        if 'md5sum' not in self.by_key:
            del roles['prod_type']
        found: dict[str, list[str]] = {}
        taken: set[str] = set()
        for role, keys in roles.items():
            names = list(dict.fromkeys(
                name for key in keys for name in self.by_key.get(key, ())
                if key in _NUMBERS or isinstance(self.table[name], Column)))
            if role in _MANY:
                names = [name for name in names if name not in taken]
                taken.update(names)
            if names:
                found[role] = names if role in _MANY else names[:1]
        return found

    def find(self, *keys: str) -> str | None:
        """
        Name of the first column that has one of these keys, the surest first.
        """
        return next((self.by_key[key][0] for key in keys if key in self.by_key), None)

    def named(self, names: str | Sequence[str]) -> list[str]:
        """
        The columns of text that the user has named; an unknown one is an error that says which name
        is near.
        """
        wanted = [names] if isinstance(names, str) else list(names)
        by_name = {name.casefold(): name for name in self.table.colnames}
        for name in wanted:
            if name not in self.table.colnames:
                near = difflib.get_close_matches(str(name).casefold(), by_name, 3, 0.5)
                hint = (f'do you mean {" or ".join(repr(by_name[one]) for one in near)}?' if near
                        else f'it has {", ".join(self.table.colnames[:30])}.')
                raise invalid(f'image_column: the table has no column {name!r}; {hint}')
            column = self.table[name]
            if not (isinstance(column, Column) and column.ndim == 1
                    and column.dtype.kind in 'OSU'):
                raise invalid(f'image_column: the column {name!r} holds no text; give one with '
                              'addresses or names of files.')
        return wanted

    def text(self, name: str) -> list[str]:
        """
        A column as plain strings, as from `text_column`; do not change the list.
        """
        if name not in self._texts:
            self._texts[name] = text_column(self.table, name)
        return self._texts[name]

    def texts(self, role: str) -> list[list[str]]:
        """
        The columns of a role as plain strings.
        """
        return [self.text(name) for name in self.roles.get(role, ())]

    def numbers(self, name: str, unit: u.UnitBase | None = None) -> np.ndarray:
        """
        A column as float64, shape (n,), in a unit that a column without one is taken to have; NaN
        where the value is masked, and everywhere if these are no such numbers.
        """
        column = self.table[name]
        unknown = np.full(len(column), np.nan)
        array = np.asarray(getattr(column, 'unmasked', column))
        if array.shape != unknown.shape or array.dtype.kind not in 'biufSUO':
            return unknown
        try:
            values = array.astype(float)
            if unit is not None:
                values = values * (getattr(column, 'unit', None) or unit).to(unit)
        except (TypeError, ValueError, OverflowError):  # objects, text, other units
            return unknown
        return np.where(getattr(column, 'mask', False), unknown, values)

    @cached_property
    def sizes(self) -> np.ndarray | None:
        """
        Sizes of the files in bytes, NaN where unknown; `None` if no column tells.
        """
        for role, unit in (('bytes', u.byte), ('kilobytes', u.kbyte)):
            for name in self.roles.get(role, ()):
                values = self.numbers(name, unit) * unit.to(u.byte)
                if not np.isnan(values).all():
                    return values
        return None

    @cached_property
    def metadata(self) -> list[str]:
        """
        Target, title and classification of each row, joined by commas; empty if it has none.
        """
        columns = [self._short(name) for role in ('target', 'title', 'class')
                   for name in self.roles.get(role, ())]
        if not columns:
            return [''] * len(self)
        rows: Iterable[Iterable[str]] = zip(*columns, strict=True)
        if not all(map(all, columns)):
            rows = (filter(None, parts) for parts in rows)
        return list(map(', '.join, rows))

    @cached_property
    def classes(self) -> list[str]:
        """
        Classification of each row, empty if it has none; no list at all if there are no titles
        beside it.
        """
        if not {'title', 'class'} <= self.roles.keys():
            return []
        return self._short(self.roles['class'][0])

    def _short(self, name: str) -> list[str]:
        dtype = np.asarray(self.table[name]).dtype
        if dtype.kind == 'U' and dtype.itemsize <= 4 * _MAX_METADATA:
            return self.text(name)
        return [value[:_MAX_METADATA] for value in self.text(name)]


class RowMetadata(Sequence[str]):
    """
    The metadata of each row, which are not put together before they are asked for.
    """

    def __init__(self, columns: TableColumns):
        self._columns = columns

    @property
    def classes(self) -> list[str]:
        """
        The classification of each row, as `TableColumns.classes` has it.
        """
        return self._columns.classes

    def __len__(self) -> int:
        return len(self._columns)

    def __getitem__(self, index: Any) -> Any:
        return self._columns.metadata[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns.metadata)


def _keys(name: str, meta: dict) -> list[str]:
    """
    Name, UCD and utype of a column, in lower case.
    """
    keys = [name.casefold()]
    for prefix in ('ucd', 'utype'):
        value = meta.get(prefix)
        if isinstance(value, str) and value.strip():
            value = _plain(value) if prefix == 'utype' else value.strip()
            keys.append(f'{prefix}:{value}'.casefold())
    return keys


def _plain(utype: str) -> str:
    """
    A utype without the name of its data model, unless that says that it is of a spectrum.
    """
    model, _, rest = utype.strip().rpartition(':')
    return utype.strip() if model.casefold() in ('ssa', 'spec') else rest


def text_column(table: Table, name: str) -> list[str]:
    """
    A column as plain strings, stripped; empty where the value is masked or no text: numbers name
    no image, and say nothing about one.
    """
    column = table[name]
    n = len(column)
    if not isinstance(column, Column) or column.ndim != 1 or column.dtype.kind not in 'OSU':
        return [''] * n
    array = np.asarray(column)
    if array.dtype.kind != 'U':
        values = [_as_text(value) for value in array.tolist()]
    # Many a column says the same of all rows, and to compare takes less time than to convert.
    elif n and array[0] == array[n // 2] == array[-1] and (array == array[0]).all():
        values = [str(array[0]).strip()] * n
    else:
        values = list(map(str.strip, array.tolist()))
    mask = np.asarray(getattr(column, 'mask', False))
    if mask.any():
        values = ['' if hidden else value for value, hidden in
                  zip(values, mask.tolist(), strict=True)]
    return values


def text_array(values: Sequence[str]) -> np.ndarray:
    """
    Strings as an array (n,), of no strings too; of Python objects where one that is long would take
    its room for each of the others.
    """
    n_bytes = 4 * len(values) * max(map(len, values), default=0)
    is_small = n_bytes <= _FEW_BYTES or n_bytes <= min(
        _MOST_BYTES, 4 * _FULLNESS * sum(map(len, set(values))))
    return np.array(values, dtype=str if is_small else object)


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode('utf-8', 'replace')
    return str(value).strip() if isinstance(value, str | PurePath) else ''
