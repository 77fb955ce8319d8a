# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Data frames of pandas, tables of pyarrow and Parquet files -> a Table, and back to Parquet.

What is missing is masked, and no number passes through a float on its way: identifiers of 64 bits
keep their digits. What a Table has no type for, such as structures and lists, stays as Python
objects.
"""

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Column, MaskedColumn, Table

from ..untrusted.documents import check_yaml
from ..untrusted.files import open_regular
from .columns import text_array
from .table_sizes import Room, check_parquet

if TYPE_CHECKING:
    import pyarrow

__all__ = ['of_arrow', 'of_frame', 'of_numpy', 'of_objects', 'read_parquet', 'understood',
           'write_parquet']

_ROWS = 8192  # of a file that are read in one go

_OBJECT = 60  # bytes of any text

# The entry of astropy in the metadata of a Parquet file.
_YAML = b'table_meta_yaml'

_PANDAS_INDEX = '__index_level_'


def understood(results: Any) -> Table | None:
    """
    The table of a data frame of pandas, or of anything that pyarrow understands as a table; `None`
    for everything else.
    """
    pandas = sys.modules.get('pandas')
    if pandas is not None and isinstance(results, pandas.DataFrame):
        return of_frame(results)
    arrow = sys.modules.get('pyarrow')
    if arrow is not None and isinstance(results, arrow.RecordBatch):
        return of_arrow(arrow.Table.from_batches([results]))
    # All other libraries of tables offer this: pyarrow, polars, duckdb.
    if hasattr(results, '__arrow_c_stream__') and find_spec('pyarrow'):
        import pyarrow

        with contextlib.suppress(TypeError, ValueError):  # a single column
            return of_arrow(pyarrow.table(results))
    return None


def of_frame(frame: Any) -> Table:
    """
    A table of a pandas DataFrame. An index that has a name is a column; one without is left out, as
    it mostly counts rows.
    """
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    if named:
        frame = frame.reset_index(level=named)
    names = _names(map(_name, frame.columns))
    table = _table({name: _of_series(frame.iloc[:, i]) for i, name in enumerate(names)})
    table.meta.update(frame.attrs)
    return table


def _name(name: Any) -> str:
    # A frame may have several levels of names.
    return ' '.join(str(part) for part in name if part != '') if isinstance(name, tuple) else str(
        name)


def _names(names: Iterable[str]) -> list[str]:
    """
    Names of which each occurs once: a second ``a`` is called ``a_2``.
    """
    seen: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f'{name}_{seen[name]}')
    return found


def _table(columns: dict[str, Any]) -> Table:
    table = Table()
    for name, values in columns.items():
        table.add_column(values, name=name, copy=False)
    return table


def _of_series(series: Any) -> Any:
    dtype = series.dtype
    if hasattr(dtype, 'pyarrow_dtype'):
        import pyarrow

        return _of_chunks(pyarrow.chunked_array([pyarrow.array(series, from_pandas=True)]))
    if hasattr(dtype, 'categories'):
        codes, kinds = series.cat.codes.to_numpy(), of_objects(list(dtype.categories))
        if not len(kinds):
            return of_objects([None] * len(series))
        return _masked(np.asarray(kinds)[codes], codes < 0)
    if hasattr(dtype, 'numpy_dtype') and dtype.numpy_dtype.kind in 'biuf':  # Int64 and the like
        missing = series.isna().to_numpy()
        return _masked(series.to_numpy(dtype=dtype.numpy_dtype,
                                       na_value=dtype.numpy_dtype.type(0)), missing)
    if getattr(dtype, 'tz', None) is not None:
        series = series.dt.tz_convert(None)
    # Periods, intervals, sparse values and strings are objects or numbers of numpy in the end.
    values = series.to_numpy()
    if values.dtype.kind == 'O':
        missing = series.isna().to_numpy()
        return of_objects([None if absent else value for value, absent in
                           zip(values.tolist(), missing.tolist(), strict=True)])
    return of_numpy(values)


def of_numpy(values: np.ndarray) -> Any:
    """
    A column of an array without objects; moments are times in UTC.
    """
    if values.dtype.kind not in 'mM':
        return Column(values)
    missing = np.isnat(values)
    values = np.where(missing, np.zeros(1, values.dtype), values)
    if values.dtype.kind == 'm':
        return _masked(values / np.timedelta64(1, 's'), missing, unit='s')
    return _texts([None if absent else str(value) for value, absent in
                   zip(values, missing.tolist(), strict=True)])


def _masked(values: np.ndarray, missing: np.ndarray, **more: Any) -> Column:
    """
    A column, masked only if something is missing.
    """
    if not missing.any():
        return Column(values, **more)
    return MaskedColumn(values, mask=missing, **more)


def of_objects(values: list[Any]) -> Column:
    """
    A column of Python values, in which `None` is missing: text, truth values or numbers where all
    are, else objects.
    """
    missing = np.array([value is None for value in values], dtype=bool)
    kinds = {type(value) for value in values if value is not None}
    if all(issubclass(kind, str) for kind in kinds):
        return _texts(values)
    for kind, zero in ((bool | np.bool_, False), (int | np.integer, 0),
                       (int | float | np.integer | np.floating, np.nan)):
        if all(issubclass(each, kind) and (kind == bool | np.bool_ or not issubclass(
                each, bool | np.bool_)) for each in kinds):
            numbers = np.array([zero if value is None else value for value in values])
            if numbers.dtype.kind != 'O':  # more than 64 bits
                return _masked(numbers, missing)
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return _masked(objects, missing)


def _texts(values: list[Any]) -> Column:
    missing = np.array([value is None for value in values], dtype=bool)
    return _masked(text_array(['' if value is None else str(value) for value in values]), missing)


def of_arrow(table: 'pyarrow.Table') -> Table:
    """
    A table of a pyarrow table, with what astropy has written beside its columns.
    """
    found = _table({name: _of_chunks(chunks) for name, chunks in
                    zip(_names(table.column_names), table.columns, strict=True)
                    if not name.startswith(_PANDAS_INDEX)})
    yaml = (table.schema.metadata or {}).get(_YAML)
    return found if yaml is None else _with_header(found, yaml.decode('utf-8', 'replace'))


def _with_header(table: Table, yaml: str) -> Table:
    """
    Units, descriptions and ``meta`` as astropy keeps them; its columns of masks become masks. What
    makes no sense of it, as anyone may have written it, is as if it were not there.
    """
    header = _header(yaml)
    table.meta.update(_mapping(header.get('meta')))
    columns = header.get('datatype')
    for found in columns if isinstance(columns, list | tuple) else ():
        name = _mapping(found).get('name')
        column = table.columns[name] if isinstance(name, str) and name in table.columns else None
        for attribute in {'description', 'format', 'unit', 'meta'}.intersection(
                found if column is not None else ()):
            with contextlib.suppress(Exception):  # each has its own words for what is none
                setattr(column, attribute, found[attribute])
    for name, parts in _mapping(table.meta.pop('__serialized_columns__', None)).items():
        with contextlib.suppress(TypeError, ValueError, KeyError):
            _put_together(table, name, parts)
    return table


def _header(text: str) -> dict[str, Any]:
    """
    What astropy has written beside the columns, nothing if it is no YAML of that kind.
    """
    import yaml
    from astropy.table import meta

    try:
        check_yaml(text)
    except yaml.YAMLError:
        return {}
    # Classes of astropy are made of it, each of which has its own errors.
    try:
        return _mapping(meta.get_header_from_yaml(text.split('\n')))
    except Exception:
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _put_together(table: Table, name: str, parts: Any) -> None:
    """
    One column of those in which astropy keeps its values and mask; of its other classes, such as
    times, the columns remain.
    """
    kind = str(_mapping(parts).get('__class__', ''))
    values = parts.get('data' if kind.endswith('MaskedColumn') else 'value') if kind else None
    column = table.columns.get(_mapping(values).get('name'))
    if column is None or not kind.endswith(('MaskedColumn', '.Quantity')):
        return
    if column.name != name:
        table.rename_column(column.name, name)
    if parts.get('unit') is not None:
        column.unit = parts['unit']
    hidden = table.columns.get(_mapping(parts.get('mask')).get('name'))
    if hidden is not None and hidden.dtype == bool and hidden.shape == column.shape:
        table[name] = MaskedColumn(column, mask=np.ma.getmaskarray(column) | np.asarray(hidden))
        table.remove_column(hidden.name)


def _of_chunks(chunks: 'pyarrow.ChunkedArray') -> Any:
    """
    A column of pyarrow, by its type.
    """
    import pyarrow
    from pyarrow import compute, types

    kind = chunks.type
    if isinstance(kind, pyarrow.BaseExtensionType):
        return _of_chunks(pyarrow.chunked_array([chunk.storage for chunk in chunks.chunks],
                                                kind.storage_type))
    if types.is_dictionary(kind):
        return _of_chunks(pyarrow.chunked_array([chunk.dictionary_decode() for chunk in
                                                 chunks.chunks], kind.value_type))
    if types.is_run_end_encoded(kind):
        return _of_chunks(compute.run_end_decode(chunks))
    missing = compute.is_null(chunks).to_numpy() if chunks.null_count else np.zeros(
        len(chunks), bool)
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        zero = np.nan if types.is_floating(kind) else False if types.is_boolean(kind) else 0
        if chunks.null_count:
            chunks = chunks.fill_null(pyarrow.scalar(zero, kind))
        return _masked(chunks.to_numpy(), missing)
    if types.is_decimal(kind):
        return _of_decimals(chunks, missing)
    if types.is_timestamp(kind):
        return of_numpy(chunks.cast(pyarrow.timestamp(kind.unit)).to_numpy())
    if types.is_duration(kind):
        return of_numpy(chunks.to_numpy())
    if types.is_fixed_size_list(kind) and not chunks.null_count and _is_number(kind.value_type):
        flat = chunks.combine_chunks()
        flat = flat.flatten() if not isinstance(flat, pyarrow.ChunkedArray) else flat
        values = _of_chunks(pyarrow.chunked_array([flat]))
        shape = len(chunks), kind.list_size
        return (MaskedColumn(values.data.data.reshape(shape), mask=values.mask.reshape(shape))
                if isinstance(values, MaskedColumn) else Column(np.asarray(values).reshape(shape)))
    if (types.is_list(kind) or types.is_large_list(kind)) and _is_number(kind.value_type):
        objects = np.empty(len(chunks), dtype=object)
        objects[:] = [None if value is None else np.asarray(value)
                      for value in chunks.to_numpy(zero_copy_only=False)]
        return _masked(objects, missing)
    if types.is_date(kind):
        # Python has no years beyond 9999.
        days = chunks.cast(pyarrow.int32() if types.is_date32(kind) else pyarrow.int64())
        days = days.fill_null(0).to_numpy() // (1 if types.is_date32(kind) else 86_400_000)
        texts = np.datetime_as_string(days.astype('datetime64[D]')).tolist()
        return _texts([None if absent else text for text, absent in
                       zip(texts, missing.tolist(), strict=True)])
    if types.is_time(kind):
        return _texts([None if value is None else value.isoformat()
                       for value in _plain_list(chunks)])
    return of_objects(_plain_list(chunks))


def _plain_list(chunks: 'pyarrow.ChunkedArray') -> list[Any]:
    """
    Python values; text that is not UTF-8, which Python would refuse, is replaced, and what Python
    has no value for, such as a year beyond 9999 within a list, is missing.
    """
    # Each type has its own errors.
    try:
        return chunks.to_pylist()
    except Exception:
        if _is_text(chunks.type):
            import pyarrow

            return [None if value is None else value.decode('utf-8', 'replace')
                    for value in chunks.cast(pyarrow.large_binary()).to_pylist()]
        return [_plain(value) for value in chunks]


def _plain(value: 'pyarrow.Scalar') -> Any:
    try:
        return value.as_py()
    except Exception:
        return None


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _of_decimals(chunks: 'pyarrow.ChunkedArray', missing: np.ndarray) -> Any:
    """
    Integers or floats where they keep all digits, else text.
    """
    kind, values = chunks.type, chunks.to_pylist()
    if kind.scale == 0 and kind.precision <= 18:
        return _masked(np.array([0 if value is None else int(value) for value in values],
                                dtype=np.int64), missing)
    if kind.precision <= 15:
        return _masked(np.array([np.nan if value is None else float(value) for value in values],
                                dtype=np.float64), missing)
    return _texts([None if value is None else format(value, 'f') for value in values])


def read_parquet(path: Path, room: Room) -> Table:
    """
    The table of a Parquet file, whoever has written it.
    """
    import pyarrow
    from pyarrow import parquet

    # Read as one file: the name of a folder such as "Norder=1" is no column of it.
    with open_regular(path) as stream:
        metadata = parquet.read_metadata(stream)
        short = check_parquet(metadata, room)
        file = parquet.ParquetFile(stream, metadata=metadata, read_dictionary=short)
        parts, n_bytes = [], 0.0
        # Little at a time: each value may be as long as a file of its own.
        for part in file.iter_batches(_ROWS):
            n_bytes += part.nbytes + sum(_unfolded(column) for column in part.columns)
            room.check(n_bytes)
            parts.append(part)
        table = pyarrow.Table.from_batches(parts, schema=None if parts else file.schema_arrow)
    return of_arrow(table)


def _unfolded(column: 'pyarrow.Array') -> float:
    """
    Bytes of the values of a column of text that is kept as a dictionary.
    """
    from pyarrow import compute, types

    if not types.is_dictionary(column.type) or not (
            _is_text(column.type.value_type) or types.is_binary(column.type.value_type)
            or types.is_large_binary(column.type.value_type)):
        return 0.0
    lengths = compute.binary_length(column.dictionary).to_numpy(zero_copy_only=False)
    indices = column.indices.drop_null().to_numpy(zero_copy_only=False)
    return float(np.nan_to_num(lengths)[indices].sum(dtype=float)) + _OBJECT * len(column)


def write_parquet(table: Table, path: Path) -> None:
    """
    Write a table of simple columns; what is masked is null, units and ``meta`` are where astropy
    looks for them.
    """
    import pyarrow
    from astropy.table import meta, serialize
    from pyarrow import parquet

    masks = table.meta.setdefault('__serialized_columns__', {})
    arrays: dict[str, pyarrow.Array] = {}
    for name in list(table.colnames):
        column = table[name]
        arrays[name] = _to_arrow(column)
        # astropy reads a null as the word "None", unless a column says that it is masked.
        if arrays[name].null_count and column.dtype.kind == 'U':
            table[f'{name}.mask'] = np.asarray(column.mask)
            arrays[f'{name}.mask'] = pyarrow.array(np.asarray(column.mask))
            masks[name] = {'__class__': 'astropy.table.column.MaskedColumn',
                           'data': serialize.SerializedColumn({'name': name}),
                           'mask': serialize.SerializedColumn({'name': f'{name}.mask'})}
    if not masks:
        del table.meta['__serialized_columns__']
    metadata = {_YAML: '\n'.join(meta.get_yaml_from_table(table)).encode()}
    for name, column in table.columns.items():
        if column.dtype.kind == 'U':
            metadata[f'table::len::{name}'.encode()] = str(
                max(column.dtype.itemsize // 4, 1)).encode()
    parquet.write_table(pyarrow.table(arrays).replace_schema_metadata(metadata), path)


def _to_arrow(column: Any) -> 'pyarrow.Array':
    import pyarrow

    values = np.asarray(column)
    if values.dtype.kind == 'S':
        values = np.char.decode(values, 'utf-8', 'replace')
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder('='))
    mask = np.asarray(getattr(column, 'mask', np.zeros(values.shape, bool)))
    if values.ndim == 1:
        if values.dtype.kind == 'O':
            return pyarrow.array([None if value is np.ma.masked else value for value in column])
        return pyarrow.array(values, mask=mask if mask.any() else None)
    size = int(np.prod(values.shape[1:]))
    flat = pyarrow.array(values.reshape(-1), mask=mask.reshape(-1) if mask.any() else None)
    return pyarrow.FixedSizeListArray.from_arrays(flat, size)
