# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Children that make trials, watched from outside: what ends, what does not, and what stays.
"""

import contextlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..comparison import ROOT
from .child import command, say_job

__all__ = ['MEMORY', 'Count', 'kill', 'watch']

MEMORY = 1_000_000_000
"""
Bytes that the process of a search may take at most.
"""

_LATE = 2.0  # seconds that a call may take beyond its own limits
_START = 120.0


@dataclass
class Count:
    """
    What became of the trials of one kind.
    """

    name: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of the trials that were lost
    longest: float = 0.0
    memory: int = 0

    @property
    def held(self) -> int:
        """How many trials nothing was lost in."""
        return max(0, self.tried - len(self.lost))

    def add(self, name: str, lost: str, seconds: float, n: int = 1) -> None:
        """Count a trial of ``n`` things."""
        self.tried += n
        self.longest = max(self.longest, seconds)
        if lost:
            self.lost.append(f'{name}: {lost}')
            self.names.append(name)

    def end(self, event: dict[str, Any]) -> None:
        """Take what the child says of itself in the end."""
        self.memory = max(self.memory, event['memory'])
        for what, more in zip(('threads', 'descriptors'), event['more'], strict=True):
            if more:
                self.lost.append(f'{more} {what} are left over; threads: {event["threads"]}')
        if event['memory'] > MEMORY:
            self.lost.append(f'{event["memory"] / 1e6:.0f} MB of memory')


def watch(count: Count, theme: str, names: Sequence[str], folder: Path, *, seconds: float,
          seed: int = 0, options: dict[str, Any] | None = None, prefix: Sequence[str] = (),
          size: Callable[[str], int] = lambda _: 1) -> None:
    """
    Have trials made in a child, and in another one after each that ends or hangs it.

    Parameters
    ----------
    count : Count
        Is added to.
    theme : str
        Class of `~benchmarks.campaign.trials.THEMES`.
    names : sequence of str
        The trials.
    folder : pathlib.Path
        Where they may write.
    seconds : float
        Time that one trial may take by its own limits.
    seed : int, optional
        What they depend on.
    options : dict, optional
        Of the theme.
    prefix : sequence of str, optional
        A command that starts the child.
    size : callable, optional
        How many things a trial tries.
    """
    left = list(names)
    while left:
        with _child(theme, left, folder, seed, options or {}, prefix) as (process, events, log):
            done, at = _follow(count, events, seconds, size)
            if done == 'end':
                break
            process.kill()
            status = process.wait()
            log.seek(0)
            last = log.read().decode(errors='replace').strip().rpartition('\n')[2]
        why = (f'it did not end within {seconds + _LATE:g} s' if done == 'late'
               else f'the process ended with {status} ({last[:200]})')
        if at is None:
            count.lost.append(f'no trial was under way: {why}')
            break
        count.add(at, why, seconds if done == 'late' else 0.0, size(at))
        left = left[left.index(at) + 1:]


def _follow(count: Count, events: queue.Queue, seconds: float,
            size: Callable[[str], int]) -> tuple[str, str | None]:
    """
    Take events until the end: 'end', 'gone' or 'late', and the trial that is under way.
    """
    at, patience = None, _START
    while True:
        try:
            event = events.get(timeout=patience)
        except queue.Empty:
            return 'late', at
        if event is None:
            return 'gone', at
        if 'begins' in event:
            at, patience = event['begins'], seconds + _LATE
        elif 'ends' in event:
            count.add(event['ends'], event['lost'], event['seconds'], size(event['ends']))
            at, patience = None, _START
        else:
            count.end(event)
            return 'end', None


@contextlib.contextmanager
def _child(theme: str, names: Sequence[str], folder: Path, seed: int, options: dict[str, Any],
           prefix: Sequence[str] = ()) -> Iterator[tuple[subprocess.Popen, queue.Queue, IO[bytes]]]:
    """
    A child, its events, the last of which is None, and what it complains of.
    """
    # It finds what this process finds: in tests, the package that is installed.
    found = [str(Path(name).resolve()) for name in [*sys.path, ROOT]]
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(found), 'HF_HUB_OFFLINE': '1',
                                'XDG_CACHE_HOME': str(folder), 'XDG_CONFIG_HOME': str(folder)}
    Path(folder, 'astropy').mkdir(exist_ok=True)
    Path(folder, 'astroclip_search').mkdir(exist_ok=True)
    events: queue.Queue = queue.Queue()
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    process = subprocess.Popen([*prefix, *command()], cwd=ROOT, env=environment, stderr=log,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               start_new_session=True)

    def read() -> None:
        for line in process.stdout:
            with contextlib.suppress(ValueError):  # half a line of a killed process
                events.put(json.loads(line))
        events.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            say_job(process, theme=theme, names=list(names), folder=str(folder), seed=seed,
                    options=options)
        yield process, events, log
    finally:
        process.kill()  # does nothing where it has ended
        process.wait()
        process.stdin.close()
        reader.join(5)
        process.stdout.close()
        log.close()


def kill(count: Count, folder: Path, n: int, seed: int = 0) -> None:
    """
    Kill a ranking ``n`` times at random moments, and let the last one go on to its end.

    Parameters
    ----------
    count : Count
        Is added to.
    folder : pathlib.Path
        Where it may write.
    n : int
        How often.
    seed : int, optional
        What the moments depend on.
    """
    rng = random.Random(seed)
    took = 1.0
    for number in range(n):
        with _child('Kills', ['again'] * 50, folder, seed, {}) as (process, events, _):
            while (event := events.get(timeout=_START)) is not None and 'begins' not in event:
                pass
            time.sleep(rng.random() * took)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            left = _of_session(process.pid)
        count.add(f'kill {number}', f'{left} processes outlive it' if left else '', took)
    last = Count('')
    watch(last, 'Kills', ['the last'], folder, seconds=60.0, seed=seed)
    count.lost += last.lost
    count.longest, count.memory = last.longest, last.memory


def _of_session(number: int) -> int:
    """
    Count processes of a session that do not end within some seconds; Linux only.
    """
    until = time.monotonic() + 5
    while True:
        found = 0
        for path in Path('/proc').glob('[0-9]*/stat'):
            with contextlib.suppress(OSError):
                state, _, _, session = path.read_text().rpartition(')')[2].split()[:4]
                found += session == str(number) and state != 'Z'
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)
