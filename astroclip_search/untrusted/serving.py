# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The other end of ``untrusted.workers``: what a worker does, under limits of its own.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .channel import Channel

__all__ = ['Ask', 'serve']

Ask = Callable[[str, int, int], bytes]
"""
In the middle of a task: ``('read', place, n)`` bytes of the stream, or ``('room', n, 0)``, which
waits until so large a task may go on.
"""

# Tasks between two looks at the memory that has not been given back.
_LOOK = 16


def serve(perform: Callable[[dict[str, Any], bytes, Ask], tuple[dict[str, Any], bytes]],
          shared: int | None, way: int | None) -> None:
    """
    Do tasks until the program has no more: called in a worker, whose channel is the descriptor
    ``way``, or its standard streams. What ``perform`` raises ends it.
    """
    if way is not None:
        channel = Channel(way, way, shared)
    else:
        # Whatever a library prints must not pass for an answer.
        source, target = os.dup(0), os.dup(1)
        if sys.platform == 'win32':
            import msvcrt

            for number in (source, target):
                msvcrt.setmode(number, os.O_BINARY)
        with open(os.devnull, 'r+b') as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(nothing.fileno(), 1)
        channel = Channel(source, target, shared)
    if hasattr(signal, 'pthread_sigmask'):
        # The program may have taken no notice of alarms.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    limits = _SelfControl()
    channel.send({'ready': True})
    while True:
        try:
            order, content = channel.receive()
        except (EOFError, OSError):
            return
        limits.begin(order['seconds'], order['memory'])

        def ask(what: str, first: int, second: int) -> bytes:
            with limits.paused():
                channel.send({'wants': [what, first, second]})
                return channel.receive()[1]

        answer, given = perform(order['task'], content, ask)
        tired = limits.end() or bool(answer.get('tired'))
        channel.send({**answer, 'tired': tired}, given)
        if tired:
            return
        del content, given


def _end_with(parent: int) -> None:
    """
    End when the program has ended, in the middle of a task as well.
    """
    while os.name != 'nt':
        time.sleep(1.0)
        if os.getppid() != parent:
            os._exit(1)


class _SelfControl:
    """
    Limits that hold whatever a library does, as far as the system has them.
    """

    def __init__(self):
        try:
            import resource
        except ImportError:  # Windows
            self._resource = None
        else:
            self._resource = resource
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._has_alarm = hasattr(signal, 'setitimer')
        self._base = self._memory = self._limit = self._n = 0

    def begin(self, seconds: float, memory: int) -> None:
        if self._has_alarm:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        if self._resource is None or memory == self._memory:
            return
        self._memory = memory
        self._base = self._base or _data_size()
        if sys.platform == 'linux':
            # Files that are mapped to be read do not count.
            _, hard = self._resource.getrlimit(self._resource.RLIMIT_DATA)
            soft = self._base + memory
            if hard != self._resource.RLIM_INFINITY:
                soft = min(soft, hard)
            self._resource.setrlimit(self._resource.RLIMIT_DATA, (soft, hard))
        elif not self._limit:
            self._limit = memory
            threading.Thread(target=self._watch, daemon=True).start()
        self._limit = memory

    def end(self) -> bool:
        """
        Whether so much memory has not been given back that another worker had better go on.
        """
        if self._has_alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._n += 1
        return (sys.platform == 'linux' and self._n % _LOOK == 0
                and _data_size() > self._base + self._memory // 2)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        left = signal.setitimer(signal.ITIMER_REAL, 0)[0] if self._has_alarm else 0.0
        try:
            yield
        finally:
            if left:
                signal.setitimer(signal.ITIMER_REAL, left)

    def _watch(self) -> None:
        """
        End a process that has taken too much, where the system does not refuse it.
        """
        unit = 1 if sys.platform == 'darwin' else 1024
        start = self._resource.getrusage(self._resource.RUSAGE_SELF).ru_maxrss
        while True:
            time.sleep(0.05)
            used = self._resource.getrusage(self._resource.RUSAGE_SELF).ru_maxrss
            if (used - start) * unit > self._limit:
                os._exit(1)


def _data_size() -> int:
    """
    Bytes of memory that this process has taken, as RLIMIT_DATA counts them; Linux only.
    """
    try:
        with open('/proc/self/statm', 'rb') as file:
            return int(file.read().split()[5]) * os.sysconf('SC_PAGE_SIZE')
    except (OSError, IndexError):
        return 0
