# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Bytes of an XML document -> the same in UTF-8, unpacked and decoded as a parser would.
"""

import bz2
import codecs
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any

from .packing import unpack, xz

__all__ = ['PACKED', 'UnsafeXMLError', 'decoded', 'too_large', 'unpacked']

PACKED: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b'\x1f\x8b', lambda: zlib.decompressobj(wbits=31)), (b'BZh', bz2.BZ2Decompressor),
    (b'\xfd7zXZ\0', xz))

_MARKS = ((codecs.BOM_UTF8, 'utf-8'), (codecs.BOM_UTF16_LE, 'utf-16-le'),
          (codecs.BOM_UTF16_BE, 'utf-16-be'))
_UNMARKED = ((b'<\0', 'utf-16-le'), (b'\0<', 'utf-16-be'))

# Encodings in which an ASCII letter is one byte and the same.
_PLAIN = {'utf-8': 'utf-8', 'utf8': 'utf-8', 'us-ascii': 'ascii', 'ascii': 'ascii',
          **{f'iso-8859-{n}': f'iso8859-{n}' for n in range(1, 17) if n != 12},
          **{f'windows-{n}': f'cp{n}' for n in range(1250, 1259)},
          'latin1': 'iso8859-1', 'latin-1': 'iso8859-1'}
_DOUBLE = {'utf-16', 'utf-16le', 'utf-16be', 'utf16', 'ucs-2', 'iso-10646-ucs-2'}

_DECLARATION = re.compile(
    r'''<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*["'][A-Za-z0-9_.:-]{1,20}["']'''
    r'''(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*["']([A-Za-z][A-Za-z0-9._-]{0,40})["'])?'''
    r'''(?:[ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*["'](?:yes|no)["'])?[ \t\r\n]*\?>''')
_MAX_DECLARATION = 1024


class UnsafeXMLError(ValueError):
    """
    A document that may not be parsed; ``code`` is one of ``'too_large'``, ``'no_votable'``,
    ``'elsewhere'`` (it has its rows at an address), ``'columns'`` (their size) and
    ``'unreadable'``.
    """

    def __init__(self, code: str, message: str):
        super().__init__(code, message)
        self.code = code

    def __str__(self) -> str:
        return self.args[1]


def too_large(limit: int) -> UnsafeXMLError:
    """
    The error of a document above a limit.
    """
    return UnsafeXMLError('too_large', f'it is larger than {limit} bytes')


def unpacked(content: bytes, limit: int) -> bytes:
    """
    What was packed with gzip, bzip2 or xz, of which there may be several one after the other.
    """
    make = next((make for magic, make in PACKED if content.startswith(magic)), None)
    if make is None:
        return content
    try:
        found = unpack(content, make, limit + 1)
    except EOFError as error:
        raise UnsafeXMLError('unreadable', 'its compression ends too early') from error
    except (OSError, zlib.error, lzma.LZMAError, MemoryError) as error:
        raise UnsafeXMLError('unreadable', f'its compression is damaged: {error}') from error
    if len(found) > limit:
        raise too_large(limit)
    return found


def decoded(content: bytes) -> bytes:
    """
    A document in UTF-8, unchanged if a parser cannot read it in another way.
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)),
                          (b'', ''))
    content = content[len(mark):]
    unit = 'utf-8' if encoding == 'utf-8' else encoding or next(
        (name for start, name in _UNMARKED if content.startswith(start)), '')
    wide = unit.startswith('utf-16')
    head = content[:_MAX_DECLARATION * (2 if wide else 1)].decode(
        unit if wide else 'latin-1', 'ignore')
    declaration = _DECLARATION.match(head)
    if declaration is None and re.match(r'<\?xml[ \t\r\n]', head):
        raise UnsafeXMLError('unreadable', 'its XML declaration is damaged')
    declared = (declaration[1] or '' if declaration else '').lower().replace('_', '-')
    if wide:
        if declared and declared not in _DOUBLE:
            raise UnsafeXMLError('unreadable', f'it is in UTF-16 and says that it is in {declared}')
        name = unit
    else:
        name = _PLAIN.get(declared or 'utf-8', '')
        if not name or (encoding and name != 'utf-8'):
            raise UnsafeXMLError('unreadable', f'{declared} is not read, or not its encoding')
        if name == 'utf-8' or (name in ('ascii', 'iso8859-1') and content.isascii()):
            return content
    try:
        text = content.decode(name)
        if declaration is not None:
            text = '<?xml version="1.0" encoding="utf-8"?>' + text[declaration.end():]
        return text.encode()
    except ValueError as error:
        raise UnsafeXMLError('unreadable', f'it is not in {declared or name}') from error
