# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
``python -m benchmarks [NAME] ...``: all of them, or those named.
"""

import argparse
import os
import platform

from .bench_diversity import compare_diversity
from .bench_encode import compare_encode
from .bench_end_to_end import compare_end_to_end
from .bench_import import compare_import
from .bench_memory import compare_memory
from .bench_overhead import compare_overhead
from .bench_rerank import compare_rerank

BENCHMARKS = {'import': compare_import, 'encode': compare_encode, 'rerank': compare_rerank,
              'overhead': compare_overhead, 'diversity': compare_diversity,
              'end_to_end': compare_end_to_end, 'memory': compare_memory}


def main() -> int:
    """Print the comparisons; return the number of bounds that were missed."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__)
    parser.add_argument('names', nargs='*', metavar='name', choices=[[], *BENCHMARKS],
                        help=f'one or more of {", ".join(BENCHMARKS)}; all by default')
    parser.add_argument('--repeats', type=int, default=3, help='interleaved repeats')
    options = parser.parse_args()
    print(f'{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, '
          f'Python {platform.python_version()}', flush=True)
    found = []
    for name in options.names or BENCHMARKS:
        for comparison in BENCHMARKS[name](options.repeats):
            print('\n'.join(comparison.lines()), flush=True)
            found.append(comparison)
    print()
    for comparison in found:
        print(comparison.row())
    return sum(not comparison.good for comparison in found)


if __name__ == '__main__':
    raise SystemExit(main())
