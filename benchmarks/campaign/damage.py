# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Sound files -> damaged ones, the same for the same seed.

Damage is done where readers look: in bits, in numbers of headers, in lengths, in the order of
parts. Where a checksum or a compression would hide it, it is done inside, and the checksum is made
right again.
"""

import re
import struct
import zlib
from collections.abc import Callable

import numpy as np

from .samples import IMAGES, PACKED, TABLES, Sample, sample

__all__ = ['KINDS', 'damaged']

KINDS = [*IMAGES, *PACKED, *TABLES]
"""
Names of all kinds of file.
"""

_NUMBERS = [0, 1, -1, 2, 7, 255, 256, 32767, 32768, 65535, 65536, 10**6, 2**31 - 1, 2**31,
            2**32 - 1, 2**40, 2**63 - 1, 2**63, 10**20, -2**31]
_WORDS = [b'', b'0', b'-1', b'1', b'99999', b'4294967296', b'1e99', b'nan', b'inf', b'-0', b'1.5',
          b'T', b'\'', b'"', b'<', b'&amp;', b'{', b'\x00', b'\xff', '\u0663'.encode()]


def _bits(rng: np.random.Generator, data: bytearray, _other: bytes) -> bytearray:
    for place in rng.integers(0, len(data), rng.integers(1, 9)):
        data[place] ^= 1 << int(rng.integers(8))
    return data


def _bytes(rng: np.random.Generator, data: bytearray, _other: bytes) -> bytearray:
    start, stop = _span(rng, data, 64)
    fill = (bytes(stop - start), b'\xff' * (stop - start), rng.bytes(stop - start))
    data[start:stop] = fill[rng.integers(3)]
    return data


def _end(rng: np.random.Generator, data: bytearray, _other: bytes) -> bytearray:
    return data[:int(rng.integers(0, len(data) + 1))]


def _without(rng: np.random.Generator, data: bytearray, _other: bytes) -> bytearray:
    start, stop = _span(rng, data, 512)
    del data[start:stop]
    return data


def _twice(rng: np.random.Generator, data: bytearray, _other: bytes) -> bytearray:
    start, stop = _span(rng, data, 512)
    data[stop:stop] = data[start:stop] * int(rng.integers(1, 20))
    return data


def _swapped(rng: np.random.Generator, data: bytearray, _other: bytes) -> bytearray:
    first, second = sorted(int(place) for place in rng.integers(0, len(data), 2))
    n = int(rng.integers(1, 257))
    data[first:first + n], data[second:second + n] = (data[second:second + n],
                                                      data[first:first + n])
    return data


def _number(rng: np.random.Generator, data: bytearray, _other: bytes) -> bytearray:
    """Write another binary number over one, more often near the beginning."""
    size = int(rng.choice([1, 2, 4, 8]))
    place = int(len(data) * rng.random() ** 3)
    value = _NUMBERS[rng.integers(len(_NUMBERS))] % (1 << 8 * size)
    data[place:place + size] = value.to_bytes(size, ('big', 'little')[rng.integers(2)])
    return data


def _digits(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    """Write another number over one in a text."""
    found = list(re.finditer(rb'\d+', data[:20_000]))
    if not found:
        return _number(rng, data, other)
    start, stop = found[rng.integers(len(found))].span()
    if rng.random() < 0.5:
        new = b'%d' % _NUMBERS[rng.integers(len(_NUMBERS))]
    else:
        new = _WORDS[rng.integers(len(_WORDS))]
    if rng.random() < 0.7:  # cards and columns keep their places
        start = max(0, stop - max(len(new), stop - start))
        new = new.rjust(stop - start)
    data[start:stop] = new
    return data


def _word(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    """Write one word of the text over another one."""
    found = list(re.finditer(rb'[A-Za-z_]{2,}', data[:20_000]))
    if len(found) < 2:
        return _bytes(rng, data, other)
    (start, stop), (first, last) = (found[rng.integers(len(found))].span() for _ in range(2))
    data[start:stop] = data[first:last]
    return data


def _joined(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    cut = int(rng.integers(0, len(data) + 1))
    return data[:cut] + other[int(rng.integers(0, len(other) + 1)):]


_WAYS: list[Callable[[np.random.Generator, bytearray, bytes], bytearray]] = [
    _bits, _bytes, _end, _without, _twice, _swapped, _number, _number, _digits, _digits, _word,
    _joined]


def _span(rng: np.random.Generator, data: bytearray, longest: int) -> tuple[int, int]:
    start = int(rng.integers(0, len(data)))
    return start, min(len(data), start + int(rng.integers(1, longest)))


def _sound_png(data: bytes) -> bytes:
    """Make the checksums of a PNG right again, as far as its chunks go."""
    place, parts = 8, [data[:8]]
    while place + 12 <= len(data):
        n, = struct.unpack('>I', data[place:place + 4])
        if place + 12 + n > len(data):
            break
        body = data[place + 4:place + 8 + n]
        parts += [data[place:place + 4], body, struct.pack('>I', zlib.crc32(body))]
        place += 12 + n
    return b''.join([*parts, data[place:]])


def _hurt(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    hurt = bytearray(data)
    for _ in range(1 + int(rng.geometric(0.6))):
        if not hurt:
            break
        hurt = _WAYS[rng.integers(len(_WAYS))](rng, hurt, other)
    return bytes(hurt[:4 * len(data) + 4096])


def damaged(kind: str, number: int, seed: int = 0) -> Sample | None:
    """
    Damage a file.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    number : int
        Which one.
    seed : int, optional
        The campaign that it belongs to.

    Returns
    -------
    tuple of str and bytes, or None
        Suffix and content; the same for the same arguments and the same versions of the libraries
        that write the sound files. `None` where those are missing.
    """
    sound = sample(kind)
    if not sound:
        return None
    rng = np.random.default_rng([seed, KINDS.index(kind), number])
    suffix, data = sound[number % len(sound)]
    strange = sample(KINDS[rng.integers(len(KINDS))])
    other = strange[rng.integers(len(strange))][1] if strange else data
    if kind in PACKED and rng.random() < 0.5:
        return suffix, PACKED[kind][1](_hurt(rng, sample('FITS')[0][1], other))
    hurt = _hurt(rng, data, other)
    if kind == 'PNG' and rng.random() < 0.7:
        hurt = _sound_png(hurt)
    return suffix, hurt
