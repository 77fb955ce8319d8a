"""
Files of JSON lines that only grow, so that a run that was ended can go on.
"""

import contextlib
import json
import os
import threading
from pathlib import Path

__all__ = ['Journal']


class Journal:
    """
    A file of JSON lines that only grows, and survives being cut off; safe to use from many threads.

    Parameters
    ----------
    path : path-like
        The file, made if there is none. A last line that was not finished is taken away.

    Attributes
    ----------
    rows : list of dict
        What it held when it was opened.

    Raises
    ------
    ValueError
        If another line than the last is not a JSON object.
    """

    def __init__(self, path):
        self._path = Path(path)
        self._lock = threading.Lock()
        is_new = not self._path.exists()
        self._file = open(self._path, 'a+b')  # noqa: SIM115 - closed by close()
        try:
            self._file.seek(0)
            self.rows, size = self._read(self._file.read())
        except ValueError:
            self._file.close()
            raise
        self._file.truncate(size)
        if is_new:
            _sync_folder(self._path.parent)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()

    def _read(self, content):
        """
        The rows, and how many bytes of the file they take.
        """
        rows, size = [], 0
        lines = content.splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or not line.endswith(b'\n'):
                if number < len(lines):
                    raise ValueError(f'line {number} of {self._path.name} is no JSON object')
                break
            rows.append(row)
            size += len(line)
        return rows, size

    def append(self, row):
        """
        Write a row, and wait until it is on the disk.

        Parameters
        ----------
        row : dict
            Of what JSON can hold.
        """
        line = json.dumps(row, allow_nan=False).encode() + b'\n'
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())


def _sync_folder(folder):
    """
    Put the name of a new file on the disk, where the system can.
    """
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
