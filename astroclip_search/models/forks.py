# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What no fork may meet: matrix products, and the libraries that run a model.

The libraries behind numpy's products have threads of their own and end them before a fork; OpenBLAS
(seen with 0.3.30) then waits for ever if one of them is at work. ONNX Runtime and tokenizers hold
locks while they work, of their own and of the C library, which nobody releases in the child. So a
fork waits until all of ours are done, and whatever comes meanwhile waits for the fork.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

__all__ = ['undisturbed']

# Seconds that a fork waits; the longest call takes a fraction of one, unless it opens a model.
_PATIENCE = 10.0


class _Gate:
    """
    Who is inside, and whether a fork has closed the gate.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.inside: list[int] = []  # the threads
        self.is_closed = False


_gate = _Gate()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """
    Keep forks of this process waiting; not for long work.
    """
    gate, me = _gate, threading.get_ident()
    with gate.changed:
        while gate.is_closed and me not in gate.inside:
            gate.changed.wait()
        gate.inside.append(me)
    try:
        yield
    finally:
        with gate.changed:
            gate.inside.remove(me)
            gate.changed.notify_all()


def _close() -> None:
    end, me = time.monotonic() + _PATIENCE, threading.get_ident()
    with _gate.changed:
        _gate.is_closed = True
        while set(_gate.inside) - {me} and (left := end - time.monotonic()) > 0:
            _gate.changed.wait(left)


def _open() -> None:
    with _gate.changed:
        _gate.is_closed = False
        _gate.changed.notify_all()


def _begin() -> None:
    """
    In a child, which has none of the threads that were inside.
    """
    global _gate  # noqa: PLW0603 - nobody would open the old one
    _gate = _Gate()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(before=_close, after_in_parent=_open, after_in_child=_begin)
