# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
JSON, YAML and plain values of strangers: what they unfold to is known before they are read.
"""

import json
import re
from typing import Any

import numpy as np

__all__ = ['MAX_DEPTH', 'MAX_VALUES', 'check_unit', 'check_values', 'check_yaml', 'read_json']

MAX_DEPTH = 64
"""
Lists and objects within one another; what people write has a few.
"""

MAX_VALUES = 200_000
"""
Values of one document, those counted again that are named again.
"""

_BRACKETS = re.compile('[][{}]')

_DASHES = re.compile(rf'^[ \t]*+(?:[-?:][ \t]++){{{MAX_DEPTH}}}', re.MULTILINE)

# An anchor begins a value.
_ANCHOR = re.compile(r'(?:^|[\s\[{,:?-])&\S', re.MULTILINE)

# Possessive, and without need of an end, so that each byte is looked at once.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)

_OTHERS = bytes(set(range(256)) - set(b'[]{}'))

_LARGEST_POWER = 10_000

_RAISED = str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻', '0123456789+-')

_RAISED_NUMBER = re.compile('[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+')

# A power of a number or a group; FITS writes 10+3 and 10(3) as well. Those of a name cost nothing.
_POWER = re.compile(r'(?:(?<=[\d.)])\s*+(?:\*\*|\^)|(?<![\d.])10\s*+(?=[(+-]))[\s(*^+-]*+(\d++)')

_LONG_NUMBER = re.compile(r'[-+]?(?:0[box])?[\da-fA-F_:.]{100,}+')

# What may write a number or a unit otherwise than it reads: escapes, and names of types.
_DISGUISED = re.compile(r'\\[xuUN\n\r]|!!(?:int|float|\S{0,9}%)|!<|%TAG')


def read_json(content: bytes) -> dict[str, Any]:
    """
    Read a JSON object.

    Parameters
    ----------
    content : bytes
        UTF-8.

    Returns
    -------
    dict
        What it says.

    Raises
    ------
    ValueError
        If it is no JSON, no object, or nested deeper than `MAX_DEPTH`.
    """
    brackets = np.frombuffer(_STRINGS.sub(b'', content).translate(None, _OTHERS), np.uint8)
    steps = np.where((brackets == ord('[')) | (brackets == ord('{')), 1, -1)
    if np.cumsum(steps).max(initial=0) > MAX_DEPTH:
        raise ValueError(f'nested deeper than {MAX_DEPTH} levels')
    found = json.loads(content.decode())
    if not isinstance(found, dict):
        raise ValueError('not a JSON object')
    return found


def check_unit(text: object) -> None:
    """
    Raise if a unit has a power that no unit has: astropy would compute it, digit by digit.

    Parameters
    ----------
    text : object
        A unit in words; nothing else is looked at.

    Raises
    ------
    ValueError
        If it would not be wise to read it.
    """
    if isinstance(text, str) and _has_large_power(text):
        raise ValueError(f'{text[:40]!r} is no unit: its power is too large')


def _has_large_power(text: str) -> bool:
    text = _RAISED_NUMBER.sub(lambda found: '**' + found[0].translate(_RAISED), text)
    power = 1
    for found in _POWER.finditer(text):
        # One may be raised to the next.
        power *= max(int(found[1]), 1) if len(found[1]) <= 3 else _LARGEST_POWER + 1
        if power > _LARGEST_POWER:
            return True
    return False


def check_yaml(text: str) -> None:
    """
    Raise if a YAML document is nested too deeply, unfolds to far more than is written, or has
    numbers and units that take long to read.

    Parameters
    ----------
    text : str
        One document.

    Raises
    ------
    ValueError
        If it would not be wise to read it; an error of YAML if it is none.
    """
    deepest = depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth += 1 if bracket[0] in '[{' else -1
        deepest = max(deepest, depth)
    # Those in quotes count as well, but mostly come in pairs. The others are dashes on one line.
    if deepest > MAX_DEPTH or _DASHES.search(text):
        raise ValueError(f'its header is nested deeper than {MAX_DEPTH} levels')
    if not (_ANCHOR.search(text) or _LONG_NUMBER.search(text) or _DISGUISED.search(text)
            or _has_large_power(text)):
        return
    import yaml

    sizes: dict[str, int] = {}
    open_since: list[tuple[str | None, int]] = []
    n, before = 0, ''
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.ScalarEvent):
            _check_scalar(event, before)
        before = getattr(event, 'value', None if isinstance(event, yaml.AliasEvent) else '')
        if isinstance(event, yaml.AliasEvent):
            n += sizes.get(event.anchor, MAX_VALUES)  # of itself it would be without end
        elif isinstance(event, yaml.NodeEvent):
            n += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_since.append((event.anchor, n))
                if len(open_since) > MAX_DEPTH:
                    raise ValueError(f'its header is nested deeper than {MAX_DEPTH} levels')
            elif event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, since = open_since.pop()
            if anchor:
                sizes[anchor] = n - since + 1
        if n > MAX_VALUES:
            raise ValueError(f'the aliases of its header stand for more than {MAX_VALUES:,} values')


def _check_scalar(event: Any, before: str | None) -> None:
    """
    Raise if a number or a unit takes long to read; of an alias it is not known what was before.
    """
    # Of parts of sixty, 1:30:00, the time grows with the square of their number.
    if (event.style is None or event.tag) and _LONG_NUMBER.fullmatch(event.value):
        raise ValueError(f'its header has a number of {len(event.value):,} letters')
    # A quantity may be one text.
    if before in ('unit', 'value', None) or event.anchor:
        check_unit(event.value)


def check_values(value: Any) -> None:
    """
    Raise if lists and dictionaries are nested too deeply, or hold too much with all that they name
    more than once.

    Parameters
    ----------
    value : object
        Lists and dictionaries are looked into, and nothing else.

    Raises
    ------
    ValueError
        If they are.
    """
    n, level = 0, [value]
    for _ in range(MAX_DEPTH + 1):
        outer = [each for each in level if isinstance(each, dict | list | tuple)]
        n += sum(map(len, outer))
        if n > MAX_VALUES:
            raise ValueError(f'it unfolds to more than {MAX_VALUES:,} values')
        if not outer:
            return
        level = [inner for each in outer
                 for inner in (each.values() if isinstance(each, dict) else each)]
    raise ValueError(f'it is nested deeper than {MAX_DEPTH} levels')
