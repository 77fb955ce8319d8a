# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Messages between the program and one of its workers: JSON with content behind it. Large content goes
through shared memory where the system has it, else the way of the message.
"""

import contextlib
import json
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

__all__ = ['MOST', 'Channel', 'above_the_usual', 'shared_memory']

MOST = 4 * 1024**3
"""
Bytes of the longest content.
"""

_HEAD = struct.Struct('>IQ?')

# What fits into the buffer of a socket is not worth a detour.
_INLINE, _AT_ONCE = 64 * 1024, 1024**2

_LONGEST = 1024**2  # bytes of a message that a worker may answer with

# Memory that is given back to the system after each task.
_KEPT = 8 * 1024**2


@dataclass
class Channel:
    """
    Messages to and from the other side.
    """

    source: int
    target: int
    shared: int | None
    owners: tuple[Any, ...] = ()
    _come: bytearray = field(default_factory=bytearray)

    def send(self, message: dict[str, Any], content: bytes = b'') -> None:
        head = json.dumps(message).encode()
        inline = len(content) <= _INLINE or not self._is_shared(content)
        self._write(b''.join((_HEAD.pack(len(head), len(content), inline), head,
                              content if inline and len(content) <= _INLINE else b'')))
        if inline and len(content) > _INLINE:
            self._write(content)

    def _is_shared(self, content: bytes) -> bool:
        """
        Put content into the shared memory, if there is some.
        """
        if self.shared is None:
            return False
        view, place = memoryview(content), 0
        try:
            while place < len(view):
                place += os.pwrite(self.shared, view[place:], place)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[dict[str, Any], bytes]:
        size, length, inline = _HEAD.unpack(self._read(_HEAD.size))
        if size > _LONGEST or length > MOST:
            raise ValueError('a message that makes no sense')
        try:
            message = json.loads(self._read(size))
        except RecursionError as error:
            raise ValueError('a message that makes no sense') from error
        if not isinstance(message, dict):
            raise ValueError('a message that makes no sense')
        if inline:
            return message, self._read(length)
        content = b'' if self.shared is None else os.pread(self.shared, length, 0)
        if len(content) != length:
            raise ValueError('content that is not there')
        return message, content

    def shrink(self, used: int) -> None:
        """
        Give back memory that a large content has taken.
        """
        if self.shared is not None and used > _KEPT:
            with contextlib.suppress(OSError):
                os.ftruncate(self.shared, 0)

    def cut(self) -> None:
        """
        End a wait for the other side.
        """
        for owner in self.owners:
            if isinstance(owner, socket.socket):
                with contextlib.suppress(OSError):
                    owner.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for owner in self.owners:
            with contextlib.suppress(OSError):
                owner.close()
        if self.shared is not None:
            with contextlib.suppress(OSError):
                os.close(self.shared)
        self.owners, self.shared = (), None

    def _read(self, n: int) -> bytes:
        # One message is answered before the next is sent: what comes belongs to this one.
        while len(self._come) < n:
            part = os.read(self.source, min(max(n - len(self._come), _INLINE), _AT_ONCE))
            if not part:
                raise EOFError
            self._come += part
        found = bytes(memoryview(self._come)[:n])
        del self._come[:n]
        return found

    def _write(self, content: bytes) -> None:
        owner = self.owners[0] if self.owners else None
        if isinstance(owner, socket.socket):
            # A program may have asked to be ended by a broken pipe.
            owner.sendall(content, getattr(socket, 'MSG_NOSIGNAL', 0))
            return
        view = memoryview(content)
        while view:
            view = view[os.write(self.target, view):]


def shared_memory() -> int | None:
    """
    Memory without a name that two processes share, where the system has it.
    """
    try:
        return above_the_usual(os.memfd_create('astroclip-search'))
    except (AttributeError, OSError):
        return None


def above_the_usual(number: int) -> int:
    """
    The same descriptor above those of the standard streams, which may be closed.
    """
    if number > 2:
        return number
    import fcntl

    moved = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(number)
    return int(moved)
