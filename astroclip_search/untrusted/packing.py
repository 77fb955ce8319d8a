# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is packed as a stream -> its content, under a limit, in time that grows with its bytes.
"""

import lzma
from collections.abc import Callable
from typing import Any

__all__ = ['unpack', 'xz']

# Bytes that are unpacked at once: where a stream ends, the rest of them is copied.
_CHUNK = 16 * 1024

_XZ_MEMORY = 128 * 1024**2  # bytes; `xz -9` needs 65 MB


def xz() -> lzma.LZMADecompressor:
    """
    An unpacker of xz and lzma that takes no more memory than is usual.
    """
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


def unpack(content: bytes, make: Callable[[], Any], limit: int) -> bytes:
    """
    The first ``limit`` bytes of what is packed; ``make`` gives an unpacker of the standard library,
    one for each stream, since streams may follow each other, and zeros may fill up a tape.

    An EOFError says that it ends too early; each unpacker has errors of its own.
    """
    parts: list[bytes] = []
    size, unpacker = 0, make()
    for start in range(0, len(content), _CHUNK):
        chunk = content[start:start + _CHUNK]
        while chunk and size < limit:
            if unpacker.eof:
                chunk = chunk.lstrip(b'\0')
                if not chunk:
                    break
                unpacker = make()
            parts.append(unpacker.decompress(chunk, limit - size))
            size += len(parts[-1])
            chunk = unpacker.unused_data if unpacker.eof else b''
    if size < limit and not unpacker.eof:
        raise EOFError('it ends too early')
    return b''.join(parts)
