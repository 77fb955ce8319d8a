# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tables in and out: ECSV, FITS, VOTable, CSV and Parquet, in files and in pipes.

All of them but CSV keep what ``meta['clip']`` says of a ranking: ECSV and Parquet as they are, FITS
and VOTable as JSON under the same name.
"""

import json
import shutil
import unicodedata
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO

from ..exceptions import TableFormatWarning, invalid, one_line, warn
from ..images.formats import kind_of_name

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ['FORMATS', 'as_json', 'check_format', 'format_of', 'holds_table', 'read', 'write']

FORMATS = {'ecsv': ('.ecsv',), 'fits': ('.fits', '.fit'), 'votable': ('.vot', '.votable', '.xml'),
           'csv': ('.csv',), 'parquet': ('.parquet',)}
"""
Suffixes of each format that tables are read from and written to.
"""

_READ_ONLY = ('.hdf5',)

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

    # astropy reads Parquet with both.
    if form == 'parquet' and not (find_spec('pyarrow') and find_spec('pandas')):
        raise invalid('Parquet needs pyarrow and pandas: '
                      'pip install "astroclip-search[parquet]".')
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
    if not isinstance(source, Path):
        with TemporaryDirectory(prefix='astroclip-search-') as folder:
            path = Path(folder, 'table')
            with path.open('wb') as file:
                shutil.copyfileobj(source, file)
            if not path.stat().st_size:
                raise invalid('The standard input is empty.')
            return _read(path, form or _sniffed(path), 'The standard input')
    return _read(source, form or format_of(source), str(source))


def _sniffed(path: Path) -> str:
    with path.open('rb') as file:
        start = file.read(64).lstrip(b'\xef\xbb\xbf \r\n')
    return next((form for magic, form in _MAGIC.items() if start.startswith(magic)), 'csv')


def _read(path: Path, form: str | None, name: str) -> 'Table':
    from astropy.table import Table

    if form is not None:
        check_format(form)
    try:
        if form == 'fits' or kind_of_name(path.name) == 'fits':
            # astropy leaves a file open that it cannot read.
            with path.open('rb') as file:
                table = Table.read(file, format='fits', hdu=_fits_table(path) or 1)
            clip = table.meta.pop('CLIP', None)
        elif form == 'votable':
            table, clip = _read_votable(path)
        else:
            options = {'format': _ASTROPY.get(form, form)} if form else {}
            return Table.read(path, **options)
    # Each table format fails in its own ways on a file that is something else.
    except Exception as error:
        raise invalid(f'{name} cannot be read as a table ({one_line(error)}).') from error
    return _with_clip(table, clip)


def _fits_table(path: Path) -> int | None:
    """
    The first table of a FITS file that holds tables and nothing that could be an image.
    """
    from astropy.io import fits

    from ..images.pixel_tables import is_picture

    first = None
    try:
        with warnings.catch_warnings(), path.open('rb') as file:
            warnings.simplefilter('ignore')  # the file itself is judged when it is read
            # Of a zip archive astropy would unpack everything on the disk.
            if not file.read(9).startswith((b'SIMPLE  =', b'\x1f\x8b', b'BZh')):
                return None
            file.seek(0)
            with fits.open(file) as hdus:
                for number, hdu in enumerate(hdus):
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

    content = votable.parse(path)
    first = content.get_first_table()
    infos = [info for resource in content.resources for info in resource.infos]
    clip = next((info.value for info in infos if info.name == 'clip'), None)
    return first.to_table(), clip


def _with_clip(table: 'Table', clip: object) -> 'Table':
    """
    Add what a file says of a ranking; anyone may have written it.
    """
    if isinstance(clip, str):
        try:
            said = json.loads(clip)
        except ValueError:
            return table
        if isinstance(said, dict):
            table.meta['clip'] = said
    return table


def write(table: 'Table', target: Path | BinaryIO, form: str | None = None) -> None:
    """
    Write a table, ECSV to a stream unless another format is given; a file is replaced once all has
    gone well.
    """
    suffix = format_of(target) if isinstance(target, Path) else None
    form = check_format(form or suffix or 'ecsv')
    # The Parquet writer needs a path; and an old file stays if this fails.
    with TemporaryDirectory(prefix='astroclip-search-') as folder:
        path = Path(folder, 'table')
        try:
            _write(table, path, form)
        # Each writer has its own words for what its format cannot hold.
        except Exception as error:
            raise invalid(f'The table cannot be written as {form} ({one_line(error)}); '
                          'ECSV holds every table.') from error
        with path.open('rb') as file:
            if isinstance(target, Path):
                with target.open('wb') as stream:
                    shutil.copyfileobj(file, stream)
            else:
                shutil.copyfileobj(file, target)


def _write(table: 'Table', path: Path, form: str) -> None:
    from astropy.io.fits.verify import VerifyWarning

    table = _plain(table)
    clip = json.dumps(table.meta['clip'], default=str) if 'clip' in table.meta else None
    if form == 'fits':
        table.meta.pop('clip', None)
        if clip is not None:
            table.meta['CLIP'] = clip
        _to_ascii(table)
        with warnings.catch_warnings():
            # Names of more than eight letters are written as HIERARCH cards, which do.
            warnings.simplefilter('ignore', VerifyWarning)
            table.write(path, format='fits')
    elif form == 'votable':
        _write_votable(table, clip, path)
    else:
        table.write(path, format=_ASTROPY.get(form, form))


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


def _plain(table: 'Table') -> 'Table':
    """
    A copy in which columns of Python strings, as VOTables make them, are columns of strings.
    """
    import numpy as np

    table = table.copy()
    for name in table.colnames:
        column = table[name]
        if getattr(getattr(column, 'dtype', None), 'kind', '') != 'O':
            continue
        values = [None if value is np.ma.masked else value for value in column]
        if all(value is None or isinstance(value, str) for value in values):
            strings = np.ma.MaskedArray([value or '' for value in values], dtype=str,
                                        mask=[value is None for value in values])
            table[name] = type(table)({name: strings})[name] if strings.mask.any() else strings.data
    return table


def _to_ascii(table: 'Table') -> None:
    """
    Letters that FITS has, in the place of those that it has not.
    """
    changed = []
    for name in table.colnames:
        column = table[name]
        if getattr(getattr(column, 'dtype', None), 'kind', '') != 'U':
            continue
        texts = column.tolist()
        plain = [text if text is None or text.isascii() else _ascii(text) for text in texts]
        if plain != texts:
            table[name] = [text or '' for text in plain]
            changed.append(name)
    if changed:
        warn(f'FITS holds ASCII only: letters of {", ".join(changed)} were replaced.',
             TableFormatWarning)


def _ascii(text: str) -> str:
    letters = (letter for letter in unicodedata.normalize('NFKD', text)
               if not unicodedata.combining(letter))
    return ''.join(letters).encode('ascii', 'replace').decode()


def as_json(table: 'Table') -> dict[str, Any]:
    """
    A table as JSON has it: ``rows`` (a dict each), ``units`` of the columns that have one, and
    ``meta``; what is masked or not a number is `None`.
    """
    columns = [_json_values(table[name]) for name in table.colnames]
    units = {name: str(table[name].unit) for name in table.colnames
             if getattr(table[name], 'unit', None)}
    return {'rows': [dict(zip(table.colnames, row, strict=True))
                     for row in zip(*columns, strict=True)],
            'units': units, 'meta': _json_value(dict(table.meta))}


def _json_values(column: Any) -> list:
    import numpy as np

    # Times and coordinates have no plain values; their words are those of the table.
    if not isinstance(column, np.ndarray):
        column = [str(value) for value in column]
    return [_json_value(value) for value in column]


def _json_value(value: Any) -> Any:
    import numpy as np

    if value is np.ma.masked:
        return None
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode('utf-8', 'replace')
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
