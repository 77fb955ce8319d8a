# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Interleaved repeats of a thing and its peer -> a ratio with its spread.
"""

import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ['ROOT', 'Comparison', 'Setting', 'Skipped', 'amount', 'compare', 'interleave',
           'seconds', 'setting']

ROOT = Path(__file__).parents[1]


@dataclass
class Setting:
    """
    How models are run and timed; the command line sets it.

    Attributes
    ----------
    device : {'cpu', 'cuda'}
        Where models run.
    threads : int
        CPU threads of every model.
    cpu_time : bool
        Count the CPU time of this process, for a machine that does other work as well; with more
        than one thread it says little.
    """

    device: str = 'cpu'
    threads: int = os.cpu_count() or 1
    cpu_time: bool = False

    def __str__(self) -> str:
        where = ('CUDA' if self.device == 'cuda' else
                 f'{self.threads} thread{"s" if self.threads > 1 else ""}')
        return f'{where}, CPU time' if self.cpu_time else where

    def clock(self) -> float:
        """Seconds from some moment on."""
        return time.process_time() if self.cpu_time else time.perf_counter()


setting = Setting()


class Skipped(Exception):
    """
    What is needed to measure something is not installed; the message says what.
    """


@dataclass
class Comparison:
    """
    What was measured, beside its peer.

    Attributes
    ----------
    name, peer : str
        What was measured, and what it is compared with.
    ours, theirs : list of float
        One value a repeat, in order: seconds, MB, or a rate.
    bound : float
        Largest ratio, or largest value where there is no peer, that is acceptable.
    unit : str
        Of the values.
    notes : list of str
        Where the time goes, and what else a reader should know.
    floor : float or None
        If given, more is better, and this is the least that is acceptable: how many times faster
        than the peer, or, where there is no peer, the smallest value. 0 if it is only to be known.
    group : str
        Title over comparisons that belong together.
    """

    name: str
    ours: list[float]
    peer: str = ''
    theirs: list[float] = field(default_factory=list)
    bound: float = float('inf')
    unit: str = 's'
    notes: list[str] = field(default_factory=list)
    floor: float | None = None
    group: str = ''

    @property
    def value(self) -> float:
        """Ratio of the medians, or the median where there is no peer."""
        ours = statistics.median(self.ours)
        return self._ratio(ours, statistics.median(self.theirs)) if self.theirs else ours

    @property
    def spread(self) -> tuple[float, float]:
        """Smallest and largest value of one repeat."""
        if not self.theirs:
            return min(self.ours), max(self.ours)
        if len(self.ours) != len(self.theirs):
            return self.value, self.value
        ratios = [self._ratio(*pair) for pair in zip(self.ours, self.theirs, strict=True)]
        return min(ratios), max(ratios)

    def _ratio(self, ours: float, theirs: float) -> float:
        return ours / theirs if self.floor is None else theirs / ours

    @property
    def bounded(self) -> bool:
        """Whether there is something to hold."""
        return bool(self.floor) or (self.floor is None and self.bound < float('inf'))

    @property
    def good(self) -> bool:
        """Whether the value is within the bound."""
        return self.value <= self.bound if self.floor is None else self.value >= self.floor

    @property
    def target(self) -> str:
        """What must hold, in words; empty if nothing must."""
        if not self.bounded:
            return ''
        side, limit = ('at most', self.bound) if self.floor is None else ('at least', self.floor)
        return f'{side} {limit:.4g}{"x" if self.theirs else " " + self.unit}'

    @property
    def verdict(self) -> str:
        """Whether it holds."""
        return ('good' if self.good else 'MISSED') if self.bounded else ''

    @property
    def shown(self) -> str:
        """The value with its unit."""
        if not self.theirs:
            return f'{self.value:.4g} {self.unit}'
        return f'{self.value:.3g}x' + (' as fast' if self.floor is not None else '')

    @property
    def range(self) -> str:
        """The spread in figures, empty if there is none."""
        low, high = (f'{value:.3g}' for value in self.spread)
        return f'{low} to {high}' if low != high else ''

    def row(self) -> str:
        """Sum it up in a line."""
        beside = f' / {self.peer}' if self.theirs else ''
        return (f'{self.verdict:7}{self.shown:>16}  {self.range:18}{self.target:23}'
                f'{self.name}{amount(self.ours, self.unit) if self.theirs else ""}'
                f'{beside}{amount(self.theirs, self.unit)}')

    def lines(self) -> list[str]:
        """Describe it for a terminal."""
        return [self.row()] + [f'    {note}' for note in self.notes]


def amount(values: list[float], unit: str) -> str:
    """Return the median in brackets, in milliseconds where seconds would be a fraction."""
    if not values:
        return ''
    median = statistics.median(values)
    if unit == 's' and median < 1:
        median, unit = 1000 * median, 'ms'
    return f' ({median:.4g} {unit})'


def seconds(action: Callable[[], object]) -> float:
    """Return the time that a call takes."""
    gc.collect()
    started = setting.clock()
    action()
    return setting.clock() - started


def compare(ours: Callable[[], float], theirs: Callable[[], float],
            repeats: int) -> tuple[list[float], list[float]]:
    """
    Measure two things in turn, so that both see the same state of the machine.

    Parameters
    ----------
    ours, theirs : callable
        Return one measurement each.
    repeats : int
        Pairs of measurements; one more pair warms up and does not count.

    Returns
    -------
    tuple of list of float
        The measurements of the first and of the second.
    """
    found = interleave({'ours': ours, 'theirs': theirs}, repeats)
    return found['ours'], found['theirs']


def interleave(actions: dict[str, Callable[[], float]], repeats: int, *,
               warm: int = 1) -> dict[str, list[float]]:
    """
    Measure several things in turn, each round beginning with another one.

    Parameters
    ----------
    actions : dict of str to callable
        Return one measurement each.
    repeats : int
        Rounds that count.
    warm : int, optional
        Rounds before them.

    Returns
    -------
    dict of str to list of float
        The measurements of each, in order.
    """
    names = list(actions)
    found = {name: [] for name in names}
    for turn in range(warm + repeats):
        for name in (names[turn % len(names):] + names[:turn % len(names)]):
            # Threads that spin for a while after their work would disturb the next one.
            time.sleep(0.02)
            value = actions[name]()
            if turn >= warm:
                found[name].append(value)
    return found
