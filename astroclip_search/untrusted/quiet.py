# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Silence for the warnings of a library in one thread, while other threads rank and warn.

`warnings.catch_warnings` exchanges the filters of the whole process: of two threads that use it,
the one that leaves last may bring back what the other one had set. Here one filter stands in front
of the others for as long as any thread wants it, and matches in those threads alone.
"""

import contextlib
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

__all__ = ['quiet']


class _Pattern(threading.local):
    """
    In the place of a regular expression: every message matches in threads that want silence.
    """

    # No Python code may run in here: it would let in other threads while one looks through the
    # list of filters, which they may exchange or free.
    match: Any = re.compile('(?!)').match
    depth = 0

    def __reduce__(self) -> tuple:
        return re.compile, ('(?!)',)  # for libraries that send the filters to other processes


_every = re.compile('').match


class _Switch:
    """
    The filter of one class of warnings, and the lists that it was put into.
    """

    def __init__(self, category: type[Warning]):
        self.pattern = _Pattern()
        self.filter = ('ignore', self.pattern, category, None, 0)
        self.users = 0
        self.lists: list[list] = []

    def insert(self) -> None:
        """
        Put the filter before all others; those of the other switches may stand in front of it.
        """
        filters: Any = warnings.filters
        ours = [switch.filter for switch in _switches.values()]
        for item in filters:
            if item is self.filter:
                return
            if not any(item is one for one in ours):
                break
        filters.insert(0, self.filter)
        self.lists.append(filters)

    def remove(self) -> None:
        """
        Take the filter out of all lists, also those that a `catch_warnings` of the user keeps.
        """
        for filters in (*self.lists, warnings.filters):
            while self.filter in filters:
                filters.remove(self.filter)  # type: ignore[attr-defined]  # always a list
        self.lists = []


_switches: dict[type[Warning], _Switch] = {}
_lock: threading.Lock


@contextlib.contextmanager
def quiet(category: type[Warning] = Warning) -> Iterator[None]:
    """
    Ignore warnings of this thread.

    Parameters
    ----------
    category : type
        Class of the warnings; all others are shown as ever.

    Notes
    -----
    A ``catch_warnings`` of the user in another thread that ends meanwhile may take the silence
    away, and a warning is seen. The list of filters is as it was in any case.
    """
    if getattr(sys.flags, 'context_aware_warnings', False):  # since Python 3.14, if asked for
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', category)
            yield
        return
    with _lock:
        switch = _switches.setdefault(category, _Switch(category))
        switch.users += 1
        switch.insert()
    pattern = switch.pattern
    pattern.depth += 1
    pattern.match = _every
    try:
        yield
    finally:
        pattern.depth -= 1
        if not pattern.depth:
            del pattern.match
        with _lock:
            switch.users -= 1
            if not switch.users:
                switch.remove()


def _begin() -> None:
    """
    A new lock, and no users but this thread: others are gone after a fork.
    """
    global _lock  # noqa: PLW0603 - nobody would release it
    _lock = threading.Lock()
    for switch in _switches.values():
        switch.users = switch.pattern.depth
        if not switch.users:
            switch.remove()


_begin()
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_begin)
