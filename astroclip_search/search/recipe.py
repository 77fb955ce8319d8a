# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A search as plain data, so that it can be asked again later, and which rows it has found.
"""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time
from astropy.units import Quantity

from ..archives.columns import TableColumns
from ..archives.tables import row_metadata
from ..exceptions import legible
from ..untrusted.documents import check_unit
from .arguments import RankOptions

__all__ = ['KEPT', 'Recipe', 'decoded', 'encoded', 'fingerprints', 'lively', 'recipe', 'remember',
           'with_options']

# What identifies an observation whatever becomes of its files: MAST, ObsCore 1.1 section 4.2.
_IDENTIFIERS = ('obsid', 'obs_publisher_did', 'utype:curation.publisherdid')

# Bytes of a fingerprint: among a million rows two are equal once in 500 tables.
_LENGTH = 6

KEPT = frozenset(field.name for field in fields(RankOptions)) - {
    'limit', 'max_images', 'cache', 'show_progress', 'like', 'unlike', 'negative', 'weights', 'by'}
"""
Options that belong to a search: the others are of one call, or said elsewhere.
"""

Recipe = dict[str, Any]
"""
``verb``, ``arguments``, and ``lost``, the name of an argument that is no plain data, if one is not.
"""


def recipe(verb: str, **arguments: Any) -> Recipe:
    """
    A verb and its arguments as plain data, without those that are `None`.
    """
    made: Recipe = {'verb': verb, 'arguments': {}}
    for name, value in arguments.items():
        try:
            if value is not None:
                made['arguments'][name] = _plain(value)
        except TypeError:
            made['lost'] = name
    return made


def with_options(made: Recipe, options: RankOptions) -> Recipe:
    """
    A recipe with the options that say which images are ranked, and how they are arranged.
    """
    usual = RankOptions()
    said = recipe('', **{
        name: Path(value) if name == 'image_dir' else value for name in sorted(KEPT)
        if (value := getattr(options, name)) is not None and value is not getattr(usual, name)})
    lost = {'lost': said['lost']} if 'lost' in said else {}
    return {**made, **lost, 'options': said['arguments']}


def _plain(value: Any) -> Any:
    """
    Strings, numbers, lists and dictionaries; a path is absolute, and what JSON does not know is a
    dictionary of one kind.
    """
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    if isinstance(value, SkyCoord) and value.isscalar:
        return {'=position': [float(value.icrs.ra.deg), float(value.icrs.dec.deg)]}
    if isinstance(value, Quantity):
        return {'=quantity': [value.value.tolist(), str(value.unit)]}
    if isinstance(value, Time) and value.isscalar:
        return {'=time': value.isot}
    if isinstance(value, tuple):
        return {'=tuple': [_plain(item) for item in value]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise TypeError(f'{type(value).__name__} is no plain data')


def lively(value: Any) -> Any:
    """
    An argument again from its plain data, which may come from a file of anyone's.
    """
    if isinstance(value, list):
        return [lively(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (kind, of), = value.items()
        if kind == '=tuple':
            return tuple(lively(of))
        if kind == '=position':
            return SkyCoord(*of, unit='deg')
        if kind == '=quantity':
            number, unit = of
            for text in (number, unit):  # a quantity may be one text
                check_unit(text)
            return Quantity(number, unit)
        if kind == '=time':
            return Time(of)
    return {name: lively(item) for name, item in value.items()}


def fingerprints(table: Table, sources: Sequence[str | None]) -> list[bytes]:
    """
    A few bytes for each row that are the same whenever the archive gives this row again: those of
    its identifier, or else of its image, or else of its metadata.
    """
    columns = TableColumns(table)
    name = columns.find(*_IDENTIFIERS)
    words = row_metadata(columns)
    named: Iterable[str] = _texts(table, name) if name is not None else [''] * len(table)
    return [_hashed(value or source or text)
            for value, source, text in zip(named, sources, words, strict=True)]


def _texts(table: Table, name: str) -> list[str]:
    """
    Any column as strings, empty where it is masked: a file may have made numbers of identifiers.
    """
    column = table[name]
    array = np.asarray(column)
    hidden = np.broadcast_to(getattr(column, 'mask', False), array.shape)
    return ['' if masked else _text(value)
            for value, masked in zip(array.tolist(), hidden.tolist(), strict=True)]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode('utf-8', 'replace')
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return '' if value is None or value != value else str(value).strip()


def _hashed(value: str) -> bytes:
    # As a file keeps it.
    return hashlib.blake2b(legible(value).encode('utf-8', 'replace'),
                           digest_size=_LENGTH).digest()


def remember(clip: dict[str, Any], table: Table, sources: Sequence[str | None]) -> None:
    """
    Have a ranking know rows that are not in its table: those that a limit or a filter cuts off.
    """
    clip['seen'] = encoded(decoded(clip.get('seen')).union(fingerprints(table, sources)))


def encoded(known: Iterable[bytes]) -> str:
    """
    Fingerprints as one string.
    """
    return base64.b64encode(b''.join(sorted(set(known)))).decode()


def decoded(text: object) -> set[bytes]:
    """
    The fingerprints of a string, none of what is no such string.
    """
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else b''
    except ValueError:
        return set()
    return {content[i:i + _LENGTH] for i in range(0, len(content), _LENGTH)}
