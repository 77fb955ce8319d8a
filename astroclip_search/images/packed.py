# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The content of compressed files: gzip, bzip2, xz, zip and compress (``.Z``), told by their first
bytes. Never more is unpacked than asked for.
"""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib

import numpy as np

from ..exceptions import ImageError, one_line
from ..untrusted.packing import unpack, xz
from .formats import HEAD, kind_of_content

__all__ = ['unpacked']

# What is not read, and what is unpacked into more than one file.
_OTHERS = ((b'\x28\xb5\x2f\xfd', 'zstd'), (b'\x04\x22\x4d\x18', 'lz4'), (b'7z\xbc\xaf', '7z'),
           (b'Rar!', 'rar'), (b'LZIP', 'lzip'), (b'\x1f\xa0', 'compress -H'))

_LAYERS = 3  # a.fits.gz in a zip archive

_MAX_MEMBERS = 1000

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)

# Codes of the LZW of compress: 256 clears its table.
_CLEAR = 256
_CODES = 1 << 15  # that are taken at once
_LONG = 64  # bytes of a string
_LEAST_PER_CLEAR = 1000  # bytes; real ones fill the table first


def unpacked(data: bytes, max_bytes: int) -> bytes:
    """
    The content of a compressed file, of a zip archive its first image; other content as it is.
    """
    for _ in range(_LAYERS):
        read = next((read for magic, read in _FORMATS if data.startswith(magic)), None)
        if read is None:
            break
        try:
            data = read(data, max_bytes + 1)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
                NotImplementedError) as error:
            raise ImageError('damaged_compressed', error=one_line(error)) from error
        if len(data) > max_bytes:
            raise ImageError('file_too_large', limit=max_bytes)
    for magic, name in _OTHERS:
        if data.startswith(magic):
            raise ImageError('packed_otherwise', name=name)
    if data[257:262] == b'ustar':
        raise ImageError('packed_otherwise', name='tar')
    return data


def _gzip(data: bytes, limit: int) -> bytes:
    with gzip.open(io.BytesIO(data)) as stream:
        return stream.read(limit)


def _bzip2(data: bytes, limit: int) -> bytes:
    with bz2.open(io.BytesIO(data)) as stream:
        return stream.read(limit)


def _xz(data: bytes, limit: int) -> bytes:
    return unpack(data, xz, limit)


def _zip(data: bytes, limit: int) -> bytes:
    # A long list of members takes much more memory than its bytes.
    if data.count(b'PK\1\2') > _MAX_MEMBERS:
        raise ImageError('archive_without_image')
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        secret = False
        for member in archive.infolist():
            if (member.is_dir() or member.compress_type not in _METHODS
                    or member.filename.rpartition('/')[2].startswith('.')
                    or member.filename.startswith('__MACOSX/')):
                continue
            if member.flag_bits & 1:
                secret = True
                continue
            with archive.open(member) as stream:
                head = stream.read(HEAD)
                if kind_of_content(head) or head.startswith(_PACKED):
                    return head + stream.read(max(0, limit - len(head)))
    if secret:
        raise ImageError('packed_otherwise', name='zip and a password')
    raise ImageError('archive_without_image')


def _lzw(data: bytes, limit: int) -> bytes:
    """
    What ``compress`` has made, with codes of 9 bits first and of up to 16 at last.
    """
    widest, clears = data[2] & 31, bool(data[2] & 128)
    if not 10 <= widest <= 16:  # with 9 compress itself makes some of 10
        raise ValueError(f'codes of {widest} bits')
    content = np.frombuffer(data, np.uint8, offset=3)
    table = _Strings(clears)
    parts: list[bytes] = []
    size = 0
    width, start, done = 9, 0, 0  # ``done`` codes of this width were read from ``start``
    most_clears = len(data) // _LEAST_PER_CLEAR + 1
    while size < limit:
        codes = _codes(content[start:], width, done, table.missing(width) or _CODES)
        if not len(codes):
            return b''.join(parts)
        found = np.flatnonzero(codes == _CLEAR) if clears else codes[:0]
        cleared = len(found) > 0
        if cleared:
            codes = codes[:found[0]]
        done += len(codes) + cleared
        part = (table.grow(codes, limit - size) if table.missing(width)
                else table.look_up(codes, limit - size))
        parts.append(part)
        size += len(part)
        grown = width < widest and not table.missing(width)
        if cleared or grown:
            start += -(-done // 8) * width  # eight codes stand together
            width, done = width + 1, 0
        if cleared:
            table, width, most_clears = _Strings(clears), 9, most_clears - 1
            if most_clears < 0:
                raise ValueError('a table that is cleared again and again')
    return b''.join(parts)


class _Strings:
    """
    The strings that codes stand for.
    """

    def __init__(self, clears: bool):
        self._table = [bytes((i,)) for i in range(256)] + [b''] * clears
        self._previous = b''
        self._flat: tuple[np.ndarray, ...] | None = None

    def missing(self, width: int) -> int:
        """
        How many codes are to be read until there are strings for all codes of so many bits.
        """
        n = (1 << width) - len(self._table)
        return n and n + (not self._previous)

    def grow(self, codes: np.ndarray, limit: int) -> bytes:
        """
        Their strings. Each code makes a further one: the last string, and the first byte of this.
        """
        table, previous, parts, size = self._table, self._previous, [], 0
        for code in codes.tolist():
            if code < len(table):
                string = table[code]
            elif code == len(table) and previous:
                string = previous + previous[:1]
            else:
                raise ValueError('a code that was not defined')
            if previous:
                table.append(previous + string[:1])
            parts.append(string)
            previous = string
            size += len(string)
            if size >= limit:
                break
        self._previous = previous
        return b''.join(parts)

    def look_up(self, codes: np.ndarray, limit: int) -> bytes:
        """
        Their strings, when there are no more to come.
        """
        if self._flat is None:
            lengths = np.fromiter(map(len, self._table), np.int64, len(self._table))
            self._flat = (np.frombuffer(b''.join(self._table), np.uint8),
                          np.cumsum(lengths) - lengths, lengths)
        flat, places, lengths = self._flat
        ends = np.cumsum(lengths[codes])
        n = int(ends[-1]) if len(ends) else 0
        if n >= limit:
            return bytes(limit)  # too much, whatever it is
        if n > _LONG * len(codes):
            return b''.join(map(self._table.__getitem__, codes.tolist()))
        shifts = places[codes] + lengths[codes] - ends
        return flat[np.arange(n) + np.repeat(shifts, lengths[codes])].tobytes()


def _codes(content: np.ndarray, width: int, done: int, n: int) -> np.ndarray:
    """
    Codes of so many bits, the lowest bit first, without those that are done.
    """
    n = max(0, min(n, len(content) * 8 // width - done))
    first, last = done * width, (done + n) * width
    if width == 16:
        return np.frombuffer(content[first // 8:last // 8].tobytes(), '<u2')
    bits = np.unpackbits(content[first // 8:-(-last // 8)], bitorder='little')
    rows = bits[first % 8:first % 8 + n * width].reshape(n, width)
    return rows @ (1 << np.arange(width))


_FORMATS = ((b'\x1f\x8b', _gzip), (b'BZh', _bzip2), (b'\xfd7zXZ\0', _xz), (b']\0\0', _xz),
            (b'PK\3\4', _zip), (b'\x1f\x9d', _lzw))

_PACKED = tuple(magic for magic, _ in _FORMATS)
