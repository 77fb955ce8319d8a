# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
JSON, YAML and plain values of strangers: what they unfold to is known before they are read.
"""

import json
import re
from typing import Any

import numpy as np

__all__ = ['MAX_DEPTH', 'MAX_VALUES', 'check_values', 'check_yaml', 'read_json']

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


def check_yaml(text: str) -> None:
    """
    Raise if a YAML document is nested too deeply, or unfolds to far more than is written.

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
    if not _ANCHOR.search(text):
        return
    import yaml

    sizes: dict[str, int] = {}
    open_since: list[tuple[str | None, int]] = []
    n = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
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
