# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tables in and out: ECSV, FITS, VOTable, CSV and Parquet, in files and in pipes.

All of them but CSV keep what ``meta['clip']`` says of a ranking: ECSV and Parquet as they are, FITS
and VOTable as JSON under the same name.
"""

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO

from ..exceptions import invalid, one_line
from ..images.formats import kind_of_name
from ..untrusted import xml
from ..untrusted.documents import check_values, read_json
from ..untrusted.files import open_regular
from ..untrusted.quiet import quiet

if TYPE_CHECKING:
    from astropy.table import Table

    from .table_sizes import Room

__all__ = ['FORMATS', 'as_json', 'check_format', 'check_target', 'format_of', 'holds_table', 'read',
           'replacing', 'with_ranking', 'write']

FORMATS = {'ecsv': ('.ecsv',), 'fits': ('.fits', '.fit'), 'votable': ('.vot', '.votable', '.xml'),
           'csv': ('.csv',), 'parquet': ('.parquet',)}
"""
Suffixes of each format that tables are read from and written to.
"""

_READ_ONLY = ('.hdf5',)

_MOST_HDUS = 1000  # that are looked at for a table

_TIMES = 32  # the letters of a column that its array may take; arrays and file share the memory

_MAGIC = {b'# %ECSV': 'ecsv', b'SIMPLE  =': 'fits', b'<?xml': 'votable', b'<VOTABLE': 'votable',
          b'PAR1': 'parquet'}

_ASTROPY = {'ecsv': 'ascii.ecsv', 'csv': 'ascii.csv'}  # the others are called as here


def format_of(name: str | Path) -> str | None:
    """
    The format that the suffix of a file says, a key of `FORMATS`; `None` for other suffixes.
    """
    suffix = Path(name).suffix.lower()
    return next((form for form, suffixes in FORMATS.items() if suffix in suffixes), None)


def check_format(form: str) -> str:
    """
    Find out before the work whether the library of a format is installed; return the format.
    """
    from importlib.util import find_spec

    if form == 'parquet' and not find_spec('pyarrow'):
        raise invalid('Parquet needs pyarrow: pip install "astroclip-search[parquet]".')
    return form


def holds_table(path: Path) -> bool:
    """
    Whether a file is a table rather than an image, by its suffix; a FITS file is a table if it
    holds tables and nothing that could be an image.
    """
    if not path.is_file():
        return False
    if kind_of_name(path.name) == 'fits':
        return _fits_table(path) is not None
    return format_of(path) is not None or path.suffix.lower() in _READ_ONLY


def read(source: Path | BinaryIO, form: str | None = None) -> 'Table':
    """
    Read a table from a file, or from a stream such as ``sys.stdin.buffer``, whose format its first
    bytes tell unless it is given; ``meta['clip']`` is there if a ranking was written.
    """
    from .table_sizes import Room, copied

    if not isinstance(source, Path):
        with TemporaryDirectory(prefix='astroclip-search-') as folder:
            path = Path(folder, 'table')
            try:
                with path.open('wb') as file:
                    n_bytes = copied(source, file, Room(0))
            except ValueError as error:
                raise invalid(f'The standard input is too long ({error}).') from error
            if not n_bytes:
                raise invalid('The standard input is empty.')
            return _read(path, form, 'The standard input')
    return _read(source, form or format_of(source), str(source))


def _sniffed(path: Path) -> str:
    with open_regular(path) as file:
        start = file.read(64).lstrip(b'\xef\xbb\xbf \r\n')
    return next((form for magic, form in _MAGIC.items() if start.startswith(magic)), 'csv')


def _read(path: Path, form: str | None, name: str) -> 'Table':
    from astroquery.exceptions import InvalidQueryError

    from .score_columns import restore
    from .table_sizes import Room, unpacked

    try:
        with TemporaryDirectory(prefix='astroclip-search-') as folder:
            room = Room.of(path)
            plain = unpacked(path, folder, room)
            form = check_format(form or _form(path, plain))
            table, clip = _parsed(plain, form, room)
        check_values(table.meta)
    except InvalidQueryError:
        raise
    # Each table format fails in its own ways on a file that is something else.
    except Exception as error:
        raise invalid(f'{name} cannot be read as a table ({one_line(error)}).') from error
    if isinstance(clip, str):
        table.meta['CLIP'] = clip
    table.meta = with_ranking(table.meta)
    return restore(table)


def _form(path: Path, plain: Path) -> str:
    if kind_of_name(path.name) == 'fits':
        return 'fits'
    # Left to itself, astropy would know a VOTable by its content and parse it.
    return 'hdf5' if path.suffix.lower() in _READ_ONLY else _sniffed(plain)


def _parsed(path: Path, form: str, room: 'Room') -> 'tuple[Table, object]':
    """
    The table of a file that is not compressed, and what a VOTable says of a ranking.
    """
    from astropy.table import Table

    from .arrow import read_parquet
    from .table_sizes import check_fits, check_hdf5, check_text

    if form == 'votable':
        return _read_votable(path)
    if form == 'parquet':
        return read_parquet(path, room), None
    if form == 'fits':
        number = _fits_table(path) or 1
        check_fits(path, number, room)
        # astropy leaves a file open that it cannot read.
        with open_regular(path) as file:
            return Table.read(file, format='fits', hdu=number), None
    if form == 'hdf5':
        check_hdf5(path, room)
    elif not check_text(path, room, is_ecsv=form == 'ecsv'):
        return _with_long_text(path, form, room), None
    return Table.read(path, format=_ASTROPY.get(form, form)), None


def _with_long_text(path: Path, form: str, room: 'Room') -> 'Table':
    """
    The table of a text file of which few cells are very long: an array of strings would have room
    for the longest in each row, so these columns are objects.
    """
    from astropy.io.ascii import Csv, Ecsv, get_reader

    reader_class = {'ecsv': Ecsv, 'csv': Csv}[form]

    class Outputter(reader_class.outputter_class):  # type: ignore[name-defined, misc]
        def _convert_vals(self, cols: list[Any]) -> None:
            for column in cols:
                lengths = [len(value) for value in column.str_vals]
                needed = 4 * len(lengths) * max(lengths, default=0)
                if column.dtype in (None, 'str') and not getattr(column, 'shape', ()) and not (
                        getattr(column, 'subtype', None)) and needed > max(
                        room.n_bytes / (2 * len(cols)), _TIMES * sum(lengths)):
                    column.dtype = object
            super()._convert_vals(cols)

    most = csv.field_size_limit()
    csv.field_size_limit(max(most, path.stat().st_size))
    try:
        # What is empty is masked, as `Table.read` has it.
        return get_reader(reader_cls=reader_class, outputter_cls=Outputter,
                          fill_values=[('', '0')]).read(str(path))
    finally:
        csv.field_size_limit(most)


def _fits_table(path: Path) -> int | None:
    """
    The first table of a FITS file that holds tables and nothing that could be an image.
    """
    from ..images.declared import opened
    from ..images.pixel_tables import is_picture
    from .table_sizes import Room, bounded

    first = None
    try:
        with quiet(), open_regular(path) as file:  # the file itself is judged when it is read
            # Of a zip archive astropy would unpack everything on the disk.
            if not file.read(9).startswith((b'SIMPLE  =', b'\x1f\x8b', b'BZh')):
                return None
            file.seek(0)
            with bounded(file, Room.of(path)) as content, opened(content) as hdus:
                for number, hdu in enumerate(hdus):
                    if number > _MOST_HDUS:
                        return None
                    if hdu.header.get('NAXIS', 0) == 0:  # the empty primary HDU
                        continue
                    if hdu.is_image or is_picture(hdu.header):
                        return None
                    first = number if first is None else first
    # What is wrong with it is told when it is drawn.
    except Exception:
        return None
    return first


def _read_votable(path: Path) -> 'tuple[Table, object]':
    from astropy.io import votable

    with open_regular(path) as file:
        document = xml.read(file)
    content = votable.parse(BytesIO(document).read)
    first = content.get_first_table()
    infos = [info for resource in content.resources for info in resource.infos]
    clip = next((info.value for info in infos if info.name == 'clip'), None)
    # An ID has underscores for all that XML does not take.
    return first.to_table(use_names_over_ids=True), clip


def with_ranking(meta: Any) -> Any:
    """
    The ``meta`` of a table with what a file says of a ranking, which anyone may have written: FITS
    and VOTable have it as text.
    """
    clip = meta.get('CLIP')
    if not isinstance(clip, str) or 'clip' in meta:
        return meta
    meta = meta.copy()
    del meta['CLIP']
    with contextlib.suppress(ValueError):
        meta['clip'] = read_json(clip.encode())
    return meta


def write(table: 'Table', target: Path | BinaryIO, form: str | None = None, *,
          overwrite: bool = False) -> None:
    """
    Write a table, ECSV to a stream unless another format is given; a file that exists is an error,
    unless ``overwrite`` says to replace it.
    """
    suffix = format_of(target) if isinstance(target, Path) else None
    form = check_format(form or suffix or 'ecsv')
    if isinstance(target, Path):
        with replacing(target, overwrite=overwrite) as path:
            _try_write(table, path, form)
        return
    with TemporaryDirectory(prefix='astroclip-search-') as folder:
        path = Path(folder, 'table')  # the Parquet writer needs a path
        _try_write(table, path, form)
        with path.open('rb') as file:
            shutil.copyfileobj(file, target)


@contextlib.contextmanager
def replacing(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """
    A name beside a file under which to write what will take its place once all has gone well: an
    error or a full disk costs nothing. Links and permissions stay; an older file is an error,
    unless ``overwrite``.
    """
    target = target.expanduser()
    check_target(target, overwrite=overwrite)
    special = target.exists() and not target.is_file()  # a pipe or a device
    if not special:
        target = Path(os.path.realpath(target))
    with TemporaryDirectory(prefix='.astroclip-', dir=None if special else target.parent) as folder:
        path = Path(folder, target.name)
        yield path
        if special:
            with path.open('rb') as file, target.open('wb') as stream:
                shutil.copyfileobj(file, stream)
            return
        if target.exists():
            shutil.copymode(target, path)
        os.replace(path, target)


def check_target(target: Path, *, overwrite: bool = False) -> None:
    """
    Raise if a file may not be written, before the work for it.
    """
    target = target.expanduser()
    if target.is_dir():
        raise invalid(f'{str(target)!r} is a folder: give the name of a file in it.')
    if not target.parent.is_dir():
        raise invalid(f'There is no folder {str(target.parent)!r}: make it, or choose another.')
    if target.is_file() and not overwrite:
        raise invalid(f'There is a file {str(target)!r} already: choose another name, or replace '
                      'it with overwrite.')


def _try_write(table: 'Table', path: Path, form: str) -> None:
    try:
        _write(table, path, form)
    except OSError:  # a full disk
        raise
    # Each writer has its own words for what its format cannot hold.
    except Exception as error:
        raise invalid(f'The table cannot be written as {form} ({one_line(error)}); '
                      'ECSV holds every table.') from error


def _write(table: 'Table', path: Path, form: str) -> None:
    from .writable import fitted

    def is_held(part: 'Table') -> bool:
        with TemporaryDirectory(prefix='astroclip-search-') as folder:
            tried = Path(folder, 'table')
            try:
                _write_fitted(part, tried, form)
                found = _read(tried, form, 'column')
                return (found.colnames == part.colnames and len(found) == len(part)
                        and getattr(found['x'], 'shape', ()) == getattr(part['x'], 'shape', ()))
            # Each writer and reader has its own words for what its format cannot hold.
            except Exception:
                return False

    _write_fitted(fitted(table, form, is_held), path, form)


def _write_fitted(table: 'Table', path: Path, form: str) -> None:
    from astropy.io.fits.verify import VerifyWarning

    for name in table.colnames:
        if name.startswith('clip_') and getattr(table[name], 'format', None):
            table[name].format = None  # which would cut digits off
    clip = json.dumps(table.meta['clip'], default=str) if 'clip' in table.meta else None
    if form == 'fits':
        table.meta.pop('clip', None)
        if clip is not None:
            table.meta['CLIP'] = clip
        # Names of more than eight letters are written as HIERARCH cards, which do.
        with quiet(VerifyWarning):
            table.write(path, format='fits')
    elif form == 'votable':
        _write_votable(table, clip, path)
    elif form == 'parquet':
        from .arrow import write_parquet

        write_parquet(table, path)
    else:
        # astropy leaves a file open that it cannot write.
        with path.open('w', encoding='utf-8', newline='') as file:
            table.write(file, format=_ASTROPY[form])


def _write_votable(table: 'Table', clip: str | None, path: Path) -> None:
    from astropy.io import votable
    from astropy.table import MaskedColumn

    for name in table.colnames:
        # A VOTable has no masked strings, only empty ones.
        if isinstance(table[name], MaskedColumn) and table[name].dtype.kind in 'SU':
            table[name] = table[name].filled('')
    content = votable.from_table(table)
    if clip is not None:
        resource = content.resources[0]
        resource.infos.append(votable.tree.Info(name='clip', value=clip))
    # astropy 8.0 writes the default, TABLEDATA, past the end of its buffer.
    votable.writeto(content, str(path), tabledata_format='binary2')


def as_json(table: 'Table') -> dict[str, Any]:
    """
    A table as JSON has it: ``rows`` (a dict each), ``units`` of the columns that have one, and
    ``meta``; what is masked or not a number is `None`.
    """
    from .writable import json_value

    columns = [_json_values(table[name]) for name in table.colnames]
    units = {name: str(table[name].unit) for name in table.colnames
             if getattr(table[name], 'unit', None)}
    return {'rows': [dict(zip(table.colnames, row, strict=True))
                     for row in zip(*columns, strict=True)],
            'units': units, 'meta': json_value(dict(table.meta))}


def _json_values(column: Any) -> list:
    import numpy as np

    from .writable import json_value

    # Times and coordinates have no plain values; their words are those of the table.
    if not isinstance(column, np.ndarray):
        column = [str(value) for value in column]
    return [json_value(value) for value in column]
