# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Numbers, dates, addresses and JSON of servers, headers, tables and files -> values that the rest of
the package can use. What cannot be read is None, NaN or empty; only ``from_json`` raises, and
nothing but `ValueError`.
"""

import json
import math
import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from numbers import Integral, Real
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

__all__ = ['address', 'from_json', 'host_of', 'real', 'retry_after', 'split', 'whole_number',
           'without_secrets']

# Python's own parser takes the square of the digits, and above 4300 refuses; no number that is
# meant is as long as this.
_MAX_DIGITS = 400

# As long as any wait that is told apart from never, in seconds.
_LONGEST_WAIT = 1e9

# The longest date of RFC 9110 has 33 characters.
_MAX_DATE = 64

_MAX_ADDRESS = 16 * 1024

# Names of hosts and of their parts, as DNS has them.
_MAX_HOST, _MAX_LABEL = 253, 63

_DIGITS = re.compile(r'[0-9]+')
_REAL = re.compile(r'[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?')
_SECONDS = re.compile(r'[-+]?(?:[0-9]+(?:\.[0-9]*)?|inf)')

# urlsplit leaves out tabs and line ends, other libraries do not: nobody may read another address.
_NOT_OF_ADDRESSES = re.compile(r'[\x00-\x20\x7f-\xa0\\]')


# Of an address in a sentence. Errors of connections name the path alone.
_USER = re.compile(r'//[^\s/?#]*@')
_QUERY = re.compile(r'(?<=[^\s?])\?[^\s?]\S*')
_PUNCTUATION = '.,;:!\'")]}>'


def whole_number(text: Any, *, least: int = 0, most: int = 2**53) -> int | None:
    """
    A number of ASCII digits, or an integer, within bounds; None for anything else.
    """
    if isinstance(text, Integral) and not isinstance(text, bool):
        found = int(text)
    else:
        text = _plain(text)
        if len(text) > _MAX_DIGITS or not _DIGITS.fullmatch(text):
            return None
        found = int(text)
    return found if least <= found <= most else None


def real(value: Any) -> float:
    """
    A finite number, as such or written in ASCII; NaN for anything else.
    """
    if isinstance(value, str | bytes):
        text = _plain(value)
        found = float(text) if len(text) <= _MAX_DIGITS and _REAL.fullmatch(text) else math.nan
    elif isinstance(value, Real) and not isinstance(value, bool):
        try:
            found = float(value)
        except (OverflowError, TypeError, ValueError):
            return math.nan
    else:
        return math.nan
    return found if math.isfinite(found) else math.nan


def retry_after(text: Any) -> float | None:
    """
    Seconds of a Retry-After header (RFC 9110, section 10.2.3), a number or a date, never negative
    and at most 1e9; None if it does not say.
    """
    text = _plain(text)
    if _SECONDS.fullmatch(text):
        return min(max(0.0, float(text)), _LONGEST_WAIT)
    if not text or len(text) > _MAX_DATE:
        return None
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:  # written as -0000; local time would end in 1901 or 2038
            date = date.replace(tzinfo=UTC)
        return min(max(0.0, date.timestamp() - time.time()), _LONGEST_WAIT)
    # The parser meets odd dates with errors of its own, such as those of its indices.
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError):
        return None


def address(text: Any, base: str = '') -> str:
    """
    An absolute http or https address that all libraries read in the same way, relative ones joined
    to ``base``; empty if it is none.
    """
    text = _plain(text)
    try:
        text = urljoin(base, text) if base and text else text
    except ValueError:
        return ''
    return '' if split(text) is None else text


def split(text: Any) -> SplitResult | None:
    """
    The parts of an absolute http or https address, of which ``hostname`` and ``port`` can be read;
    None if it is none.
    """
    if not isinstance(text, str) or len(text) > _MAX_ADDRESS:
        return None
    try:
        parts = urlsplit(text)
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ('http', 'https') or not name or port == 0 or len(name) > _MAX_HOST:
        return None
    # A path may hold what requests encodes; a name that does is read in several ways.
    if (_NOT_OF_ADDRESSES.search(parts.netloc) or not name.isprintable()
            or text[len(parts.scheme):len(parts.scheme) + 3 + len(parts.netloc)]
            != f'://{parts.netloc}'):
        return None
    behind = parts.netloc.rpartition('@')[2].partition(']')[2]  # of an IPv6 address
    if behind and not behind.startswith(':'):
        return None
    if any(len(label) > _MAX_LABEL for label in name.split('.')) or name.startswith(('.', '*')):
        return None
    return parts


def host_of(text: Any) -> str:
    """
    Host and port of an http or https address as it writes them, in lower case and without
    credentials; empty if it has none.
    """
    parts = split(text)
    return '' if parts is None else parts.netloc.rpartition('@')[2].lower()


def without_secrets(said: str) -> str:
    """
    A sentence, of which only the beginning is of use, whose addresses have neither credentials nor
    queries.

    >>> without_secrets("500 for url: 'http://me:word@h/tap?token=abc'.")
    "500 for url: 'http://h/tap'."
    """
    said = _USER.sub('//', said[:_MAX_ADDRESS])
    return _QUERY.sub(lambda found: found[0][len(found[0].rstrip(_PUNCTUATION)):], said)


def from_json(text: str | bytes) -> Any:
    """
    What a JSON text says; `ValueError` if it is none, is nested too deeply to be read, or has a
    number that is too long.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError('it is nested too deeply') from None


def _plain(value: Any) -> str:
    """
    Text without spaces around it; empty for what is no text.
    """
    if isinstance(value, bytes):
        value = value.decode('latin-1')
    return str(value).strip(' \t\r\n') if isinstance(value, str) else ''
