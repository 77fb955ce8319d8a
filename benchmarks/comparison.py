# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Interleaved repeats of a thing and its peer -> a ratio with its spread.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ['ROOT', 'Comparison', 'compare', 'seconds']

ROOT = Path(__file__).parents[1]


@dataclass
class Comparison:
    """
    What was measured, beside its peer.

    Attributes
    ----------
    name, peer : str
        What was measured, and what it is compared with.
    ours, theirs : list of float
        One value a repeat, in order: seconds, or MB.
    bound : float
        Largest ratio, or largest value where there is no peer, that is acceptable.
    unit : str
        Of the values.
    notes : list of str
        Where the time goes, and what else a reader should know.
    """

    name: str
    ours: list[float]
    peer: str = ''
    theirs: list[float] = field(default_factory=list)
    bound: float = float('inf')
    unit: str = 's'
    notes: list[str] = field(default_factory=list)

    @property
    def value(self) -> float:
        """Ratio of the medians, or the median where there is no peer."""
        ours = statistics.median(self.ours)
        return ours / statistics.median(self.theirs) if self.theirs else ours

    @property
    def good(self) -> bool:
        """Whether the value is within the bound."""
        return self.value <= self.bound

    def row(self) -> str:
        """Sum it up in a line."""
        unit = 'x ' if self.theirs else self.unit
        verdict = 'good' if self.good else 'MISSED'
        return f'{verdict:7}{self.value:8.2f} {unit:3}at most {self.bound:4g} {unit:3} {self.name}'

    def lines(self) -> list[str]:
        """Describe it for a terminal."""
        lines = [self.row()]
        for label, values in ((self.name, self.ours), (self.peer, self.theirs)):
            if values:
                spread = f'{min(values):.3f} to {max(values):.3f}, n={len(values)}'
                median = f'{statistics.median(values):10.3f} {self.unit}'
                lines.append(f'    {median} ({spread})  {label}')
        return lines + [f'    {note}' for note in self.notes]


def seconds(action: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    gc.collect()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


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
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
