# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The files of a model, which anyone may have made: what is read is what was checked.

Where ``astroclip.json`` lists files with their checksums, there are no others, and each is read
once: the bytes that were compared are those that are used, whatever becomes of the file meanwhile.
"""

import contextlib
import hashlib
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..exceptions import BundleError, one_line
from ..untrusted.documents import read_json
from ..untrusted.files import open_regular

__all__ = ['Contents', 'external_files']

# Bytes of a file: no description of a model is larger, the largest dictionary has 34 MB, and no
# ONNX file can have more than the last, but weights in files of their own can.
_LIMITS = {'.json': 256 * 1024**2, '.npz': 256 * 1024**2, '.onnx': 2**31}


@dataclass(frozen=True)
class Contents:
    """
    The files in the directory ``path`` of the model ``name``; ``sums`` has the sha256 of each that
    is listed, and is empty where none is.
    """

    path: Path
    name: str
    sums: Mapping[str, str] = field(default_factory=dict)

    def has(self, file: str) -> bool:
        """
        Whether there is a file that may be used.
        """
        return (not self.sums or file in self.sums) and (self.path / file).is_file()

    def check(self, file: str) -> None:
        """
        Compare a file that is listed with its checksum.
        """
        with self._opened(file) as stream:
            self._compare(file, hashlib.file_digest(stream, 'sha256').hexdigest())

    def read(self, file: str) -> bytes:
        """
        The bytes of a file, which are the right ones if it is listed.
        """
        limit = _LIMITS.get(PurePosixPath(file).suffix)
        with self._opened(file) as stream:
            # As many as limits allow are not there, and would be asked for.
            size = os.fstat(stream.fileno()).st_size
            content = stream.read(size) if limit is None or size <= limit else None
        if content is None:
            raise BundleError(f'The model {self.name!r} is of no use: {file} has more than '
                              f'{limit} bytes.')
        if self.sums:
            self._compare(file, hashlib.sha256(content).hexdigest())
        return content

    def json(self, file: str, *, optional: bool = False) -> dict[str, Any]:
        """
        What a JSON file says; nothing, if it is ``optional`` and not there.
        """
        if optional and not self.has(file):
            return {}
        try:
            return read_json(self.read(file))
        except (OSError, ValueError) as error:
            raise BundleError(f'The model {self.name!r} has no readable {file} '
                              f'({one_line(error)}).') from error

    def tower(self, file: str) -> tuple[bytes | None, dict[str, bytes]]:
        """
        An ONNX file and those that it keeps weights in, by their names in it. Without a list there
        are none: ONNX Runtime reads them, and they lie in the directory of the model.
        """
        if not self.sums:
            self._check_places(file)
            return None, {}
        content = self.read(file)
        weights = {}
        for name in sorted(self._external(file, content)):
            # As they are written into the list.
            listed = str(PurePosixPath(file).parent / name)
            if listed not in self.sums:
                raise BundleError(f'The model {self.name!r} is of no use: {file} keeps weights in '
                                  f'{name!r}, which astroclip.json does not list.')
            weights[name] = self.read(listed)
        return content, weights

    def _check_places(self, file: str) -> None:
        """
        Raise if weights would be read from outside the directory.
        """
        folder = (self.path / file).parent
        roots = [self.path.resolve()]
        if roots[0].parent.name == 'snapshots':  # where the hub client has links to its contents
            roots.append(roots[0].parent.parent / 'blobs')
        with self._opened(file) as stream:
            try:
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    names = self._external(file, content)
            except (OSError, ValueError):  # an empty file cannot be mapped
                names = set()
        for name in names:
            target = (folder / name).resolve()
            if _leads_out(name) or not any(target.is_relative_to(root) for root in roots):
                raise BundleError(f'The model {self.name!r} is of no use: {file} keeps weights '
                                  f'outside of its directory, in {name[:200]!r}.')

    def _external(self, file: str, content: bytes | mmap.mmap) -> set[str]:
        try:
            return external_files(content)
        except ValueError as error:
            raise BundleError(f'{PurePosixPath(file).name} cannot be opened as an ONNX model '
                              f'({error}).') from error

    @contextlib.contextmanager
    def _opened(self, file: str) -> Iterator[Any]:
        if self.sums and file not in self.sums:
            raise BundleError(f'The model {self.name!r} does not list {file} in its '
                              'astroclip.json.')
        try:
            stream = open_regular(self.path / file)
        except FileNotFoundError:
            raise BundleError(f'The model {self.name!r} is incomplete: {file} is missing; '
                              'install or download it again.') from None
        except OSError as error:
            raise BundleError(f'The model {self.name!r} is incomplete: {file} cannot be read '
                              f'({one_line(error)}).') from error
        with stream:
            yield stream

    def _compare(self, file: str, found: str) -> None:
        if found != self.sums[file]:
            raise BundleError(f'The model {self.name!r} is corrupt: the sha256 of {file} is not '
                              'the one in astroclip.json; install or download it again.')


def _leads_out(name: str) -> bool:
    """
    Whether a name within a folder leads out of it, on any system.
    """
    return any(path.is_absolute() or path.drive or '..' in path.parts
               for path in (PurePosixPath(name), PureWindowsPath(name)))


# Fields of the messages of ONNX that lead to tensors: their numbers, and what kind each holds.
_MESSAGES: dict[str, dict[int, str]] = {
    'Model': {7: 'Graph', 20: 'TrainingInfo', 25: 'Function'},
    'Graph': {1: 'Node', 5: 'Tensor', 15: 'SparseTensor'},
    'Function': {7: 'Node', 11: 'Attribute'},
    'TrainingInfo': {1: 'Graph', 2: 'Graph'},
    'Node': {5: 'Attribute'},
    'Attribute': {5: 'Tensor', 6: 'Graph', 10: 'Tensor', 11: 'Graph', 22: 'SparseTensor',
                  23: 'SparseTensor'},
    'SparseTensor': {1: 'Tensor', 2: 'Tensor'},
    'Tensor': {13: 'StringStringEntry'}}


def external_files(content: bytes | mmap.mmap) -> set[str]:
    """
    Names of the files in which an ONNX model keeps tensors, as they are written in it.

    Parameters
    ----------
    content : bytes or mmap
        The ONNX file; its tensors are not looked into.

    Returns
    -------
    set of str
        Paths from the folder of the file.

    Raises
    ------
    ValueError
        If it is no ONNX file.
    """
    if content.find(b'location') < 0:
        return set()
    found: set[str] = set()
    with memoryview(content) as whole:
        waiting = [('Model', 0, len(content))]
        while waiting:
            kind, start, end = waiting.pop()
            if kind != 'StringStringEntry':
                inner = _MESSAGES[kind]
                waiting += [(inner[number], begin, stop)
                            for number, begin, stop in _fields(whole, start, end)
                            if number in inner]
                continue
            entry = [(number, bytes(whole[begin:stop]))
                     for number, begin, stop in _fields(whole, start, end)]
            if (1, b'location') in entry:
                found.update(value.decode('utf-8', 'surrogateescape')
                             for number, value in entry if number == 2)
    return found


def _fields(content: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """
    The fields of a message of Protocol Buffers that have a length: number, begin and end.
    """
    while at < end:
        tag, at = _varint(content, at, end)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(content, at, end)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(content, at, end)
            if length > end - at:
                raise ValueError('a part is longer than the whole')
            yield tag >> 3, at, at + length
            at += length
        else:
            raise ValueError(f'a field of the kind {kind}')
    if at != end:
        raise ValueError('the file was cut')


def _varint(content: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError('the file was cut')
        byte = content[at]
        at += 1
        value |= (byte & 0x7f) << shift
        if byte < 0x80:
            return value, at
    raise ValueError('a number without an end')
