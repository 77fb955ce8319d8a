# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Files that a table or a user has named: only regular ones are opened, since a pipe or a device may
never end.
"""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath, PureWindowsPath
from typing import IO, Any, BinaryIO

__all__ = ['leads_elsewhere', 'open_regular', 'stream_of']

# A pipe must not wait for a writer, a terminal not become ours, nor a child inherit the file.
_FLAGS = (os.O_RDONLY | getattr(os, 'O_BINARY', 0) | getattr(os, 'O_NONBLOCK', 0)
          | getattr(os, 'O_NOCTTY', 0) | getattr(os, 'O_CLOEXEC', 0)
          | getattr(os, 'O_NOINHERIT', 0))

# Names of Windows's devices, which every folder has, and in any case and with any suffix.
_DEVICES = frozenset(['CON', 'PRN', 'AUX', 'NUL', 'CONIN$', 'CONOUT$', *(
    f'{kind}{n}' for kind in ('COM', 'LPT') for n in '0123456789¹²³')])

_KINDS = ((stat.S_ISDIR, 'a folder'), (stat.S_ISFIFO, 'a pipe'), (stat.S_ISSOCK, 'a socket'),
          (stat.S_ISCHR, 'a device'), (stat.S_ISBLK, 'a device'))


def open_regular(path: str | os.PathLike[str], *, buffering: int = -1) -> BinaryIO:
    """
    Open a file for reading, if it is a regular one; nothing is waited for.

    Parameters
    ----------
    path : path-like
        A file; links are followed.
    buffering : int, optional
        As of `open`.

    Returns
    -------
    file
        Binary, at its start; a child process does not inherit it.

    Raises
    ------
    OSError
        If it cannot be opened, or is a folder, a pipe, a socket or a device: what counts is what
        was opened, and not what the name led to before.
    """
    name = os.fspath(path)
    if '\0' in name:
        raise OSError(f'{name!r} is no name of a file.')
    if os.name == 'nt' and _is_device(name):
        raise OSError(f'{name!r} is a device, and no file.')
    try:
        # To open a device may already do something.
        _check(name, os.stat(name))
        number = os.open(name, _FLAGS)
    except ValueError as error:  # of letters that no file name of this system has
        raise OSError(f'{name!r} is no name of a file: {error}.') from None
    try:
        _check(name, os.fstat(number))
        return os.fdopen(number, 'rb', buffering)  # type: ignore[return-value]  # of any buffering
    except BaseException:
        os.close(number)
        raise


@contextlib.contextmanager
def stream_of(source: Any) -> Iterator[IO[bytes] | None]:
    """
    A path, content or a stream as a stream at its start; `None` of anything else.

    Parameters
    ----------
    source : object
        What a picture is made of.

    Yields
    ------
    file or None
        Binary. A stream that was given stays open.

    Raises
    ------
    OSError
        As by `open_regular`.
    """
    if isinstance(source, str | Path):
        with open_regular(source) as stream:
            yield stream
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, io.IOBase):
        source.seek(0)
        yield source  # type: ignore[misc]  # it is read as one of bytes
    else:
        yield None


def leads_elsewhere(name: str, base: PurePath) -> bool:
    """
    Say whether a name is on another drive or machine than a folder. Windows would ask that machine,
    and log in there, as soon as the name is resolved.

    Parameters
    ----------
    name : str
        Of a file, as a table has it.
    base : pathlib.PurePath
        The folder, whose name is whole.

    Returns
    -------
    bool
        Always False on other systems, which know neither.
    """
    if not isinstance(base, PureWindowsPath):
        return False
    parts = PureWindowsPath(name)
    # Neither "C:a", which counts from a folder of that drive, nor "\\\\?\\" and the like.
    return bool(parts.drive or parts.root) and parts.drive.casefold() != base.drive.casefold()


def _check(name: str, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        said = next((words for test, words in _KINDS if test(state.st_mode)), 'something else')
        raise OSError(f'{name!r} is {said}, and no file.')


def _is_device(name: str) -> bool:
    if name.startswith(('\\\\.\\', '//./')):
        return True
    return PureWindowsPath(name).name.split('.')[0].split(':')[0].rstrip(' ').upper() in _DEVICES
