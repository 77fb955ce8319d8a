# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How far the images or the metadata of a query are: a line, and if wanted the best ones so far.
"""

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from ..exceptions import visible

__all__ = ['CALL', 'WATCHER', 'Awaited', 'Call', 'CallEndedError', 'Counts', 'Progress']

WATCHER: 'ContextVar[Callable[[Progress], None] | None]' = ContextVar('watcher', default=None)
"""
Called with each `Progress` that begins in this context, for programs without a terminal.
"""

CALL: 'ContextVar[Call | None]' = ContextVar('call', default=None)
"""
The call of a verb in this context, if another thread may end it.
"""

# Seconds between two pictures of the best so far.
_EVERY = 2.0

# Seconds before a wait is shown, and between two looks at it.
_SHORT = 0.5
_OFTEN = 0.2


class CallEndedError(Exception):
    """
    Nobody waits for the answer any more.
    """


class Call:
    """
    A call that another thread may end, as that of a client that has gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: list[Callable[[], object]] = []
        self.has_ended = False

    def end(self) -> None:
        """
        End the downloads of the call; it raises `CallEndedError` as soon as it looks.
        """
        with self._lock:
            self.has_ended = True
            actions, self._actions = self._actions, []
        for action in actions:
            action()

    @contextlib.contextmanager
    def at_end(self, action: Callable[[], object]) -> Iterator[None]:
        """
        Have something done if the call is ended within this context.
        """
        with self._lock:
            self._actions.append(action)
        try:
            self.check()
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._actions.remove(action)

    def check(self) -> None:
        """
        Raise if the call was ended.
        """
        if self.has_ended:
            raise CallEndedError


class Progress:
    """
    Counts images, or rows whose metadata are embedded, by what has become of them, and shows the
    counts.

    A context manager. It is silent unless it is shown, and where the output is neither a terminal
    nor a notebook. With ``show`` it draws a line with counts, rate and the time that is left.
    ``best`` makes what a notebook shows of the best images so far, and the name of the first for a
    terminal, every two seconds at most; with it, an interruption ends the work and not the query.
    ``counts`` has how many were ``'fetched'`` (and decoded), ``'embedded'``, or ``'failed'``.
    """

    def __init__(self, total: int, *, show: bool = False, unit: str = 'image',
                 best: Callable[[], tuple[object, str]] | None = None):
        self.total = total
        self.unit = unit
        self.counts: Counter[str] = Counter()
        self._best = best
        self._call = CALL.get()
        self._lock = threading.Lock()
        self._next = 0.0
        self._name = ''
        self._handle: Any = None
        self._bar: Any = _bar(total, unit) if show else None
        self._shown = show and not self._bar.disable
        if self._shown and best is not None and _in_notebook():
            from IPython.display import display

            self._handle = display({'text/plain': ''}, raw=True, display_id=True)

    def __enter__(self) -> 'Progress':
        watch = WATCHER.get()
        if watch is not None:
            watch(self)
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            self._next = 0.0
            self.show()
        if self._bar is not None:
            self._bar.close()

    @property
    def stoppable(self) -> bool:
        """
        Whether an interruption ends the work and not the query.
        """
        return self._best is not None

    def count(self, what: str, n: int = 1) -> None:
        """
        Count images that were ``'fetched'``, ``'embedded'`` or ``'failed'``; from any thread.
        """
        with self._lock:
            self.counts[what] += n

    def show(self) -> None:
        """
        Bring what is shown up to date; from the thread that made it. Raise if the call was ended.
        """
        if self._call is not None:
            self._call.check()
        if not self._shown:
            return
        with self._lock:
            counts = self.counts.copy()
        if self._best is not None and counts['embedded'] and time.monotonic() >= self._next:
            shown, name = self._best()
            if self._handle is not None:
                self._handle.update(shown)
            encoding = getattr(sys.stderr, 'encoding', None) or 'utf-8'
            name = visible(name)[:30].encode(encoding, 'replace').decode(encoding)
            self._name = f'; best: {name}' if name else ''
            self._next = time.monotonic() + _EVERY
        if self.unit == 'image':
            self._bar.set_postfix_str(
                f'{self.total - counts["fetched"] - counts["failed"]} queued, '
                f'{counts["fetched"]} fetched, {counts["embedded"]} embedded, '
                f'{counts["failed"]} failed{self._name}', refresh=False)
        self._bar.update(counts['embedded'] + counts['failed'] - self._bar.n)


@dataclass
class Counts:
    """
    How many rows another thread has to do, and has done.
    """

    total: int = 0
    done: int = 0


class Awaited:
    """
    What another thread finds, row by row; whoever waits for it long is shown how far it is.
    """

    def __init__(self, future: Future, counts: Counts, *, show: bool = False):
        self._future, self._counts, self._show = future, counts, show
        self.done = future.done

    def result(self) -> Any:
        """
        What was found, as soon as it is.
        """
        if self._show and wait([self._future], timeout=_SHORT).not_done and self._counts.total:
            with Progress(self._counts.total, show=True, unit='row') as progress:
                while wait([self._future], timeout=_OFTEN).not_done:
                    progress.count('embedded', self._counts.done - progress.counts['embedded'])
                    progress.show()
                progress.count('embedded', self._counts.done - progress.counts['embedded'])
        return self._future.result()


def _bar(total: int, unit: str) -> Any:
    notebook = _in_notebook()
    if notebook and find_spec('ipywidgets'):
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    # disable=None is silent where the output is no terminal.
    return tqdm(total=total, desc={'image': 'images', 'row': 'metadata'}[unit], unit=unit,
                leave=False, disable=False if notebook else None)


def _in_notebook() -> bool:
    """
    Whether this is the kernel of a notebook, which has no terminal and shows pictures.
    """
    ipython = sys.modules.get('IPython')
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, 'kernel')
