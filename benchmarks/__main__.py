# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
``python -m benchmarks [NAME] ...``: all of them, or those named.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence

from . import report
from .bench_diversity import compare_diversity
from .bench_encode import compare_encode
from .bench_end_to_end import compare_end_to_end
from .bench_files import compare_files
from .bench_fits import compare_fits
from .bench_import import compare_import
from .bench_memory import compare_memory
from .bench_overhead import compare_overhead
from .bench_rendering import compare_rendering
from .bench_rerank import compare_rerank
from .bench_roofline import compare_roofline
from .bench_start import compare_start
from .bench_towers import compare_towers
from .bench_votable import compare_votable
from .comparison import Comparison, Skipped, setting
from .guard import compare_guard

# Those that load torch come last: its threads are no part of what the others measure.
BENCHMARKS = {'import': compare_import, 'start': compare_start,
              'encode': compare_encode, 'rerank': compare_rerank,
              'overhead': compare_overhead, 'diversity': compare_diversity,
              'end_to_end': compare_end_to_end, 'fits': compare_fits,
              'files': compare_files, 'memory': compare_memory, 'rendering': compare_rendering,
              'votable': compare_votable, 'towers': compare_towers, 'roofline': compare_roofline}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparisons; return the number of bounds that were missed."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__)
    parser.add_argument('names', nargs='*', metavar='name', choices=[[], *BENCHMARKS],
                        help=f'one or more of {", ".join(BENCHMARKS)}; all by default')
    parser.add_argument('--repeats', type=int, default=3, help='interleaved repeats')
    parser.add_argument('--write', metavar='FILE', help='write tables for the documentation, '
                        'and the numbers as JSON beside them; what other benchmarks wrote stays')
    parser.add_argument('--guard', action='store_true', help='the quick check of CI, instead')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu',
                        help='where encode and towers run')
    parser.add_argument('--threads', type=int, default=setting.threads, help='CPU threads')
    parser.add_argument('--cpu-time', action='store_true', help='count CPU time instead of wall '
                        'time: on one thread, for a machine that does other work as well')
    options = parser.parse_args(arguments)
    setting.device, setting.cpu_time = options.device, options.cpu_time
    setting.threads = 1 if options.cpu_time else options.threads
    print(f'{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, '
          f'Python {platform.python_version()}', flush=True)
    chosen = {'guard': compare_guard} if options.guard else {
        name: BENCHMARKS[name] for name in options.names or BENCHMARKS}
    switches = [f'--{name.replace("_", "-")}' + (f' {value}' if value is not True else '')
                for name, value in vars(options).items()
                if name not in ('names', 'write') and value != parser.get_default(name)]
    found = []
    for name, compare in chosen.items():
        started = time.perf_counter()
        try:
            comparisons = compare(options.repeats)
        except Skipped as reason:
            print(f'{name} not measured: {reason}', flush=True)
            continue
        _print(comparisons)
        found += comparisons
        if options.write:
            about = sys.modules[compare.__module__].__doc__.strip().partition('\n\n')[0]
            command = ' '.join(['python -m benchmarks', name, *switches])
            report.write(options.write, {name: report.measured(
                comparisons, command, about, time.perf_counter() - started)})
    print()
    _print([one for one in found if one.bounded], notes=False)
    return sum(not comparison.good for comparison in found)


def _print(comparisons: Sequence[Comparison], *, notes: bool = True) -> None:
    group = ''
    for comparison in comparisons:
        if comparison.group != group:
            group = comparison.group
            print(f'{group}:' if group else '')
        print('\n'.join(comparison.lines() if notes else [comparison.row()]), flush=True)


if __name__ == '__main__':
    raise SystemExit(main())
