# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The loopback MAST in a process of its own, so that it shares no interpreter lock with the client.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from .comparison import ROOT

__all__ = ['archive_server']


@contextlib.contextmanager
def archive_server(count: int, *, size: int = 64, latency: float = 0.0) -> Iterator[str]:
    """
    Run a loopback MAST that astroquery in this process asks.

    Parameters
    ----------
    count : int
        Observations.
    size : int, optional
        Width and height of the previews in pixels.
    latency : float, optional
        Seconds before each answer with a file.

    Yields
    ------
    str
        Address of the server.
    """
    from tests.loopback import point_astroquery_at

    command = [sys.executable, '-m', 'benchmarks.server', str(count), str(size), str(latency)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        restore = None
        try:
            url = process.stdout.readline().strip()
            restore = point_astroquery_at(url)
            yield url
        finally:
            if restore is not None:
                restore()
            process.stdin.close()  # tells it to stop


def serve(count: int, size: int, latency: float) -> None:
    """Serve a synthetic archive until the standard input is closed."""
    from tests.loopback.archive import Archive
    from tests.loopback.mast import Mast

    with Mast(Archive.synthetic(count, size=size), latency=latency) as mast:
        print(mast.url, flush=True)
        sys.stdin.read()


if __name__ == '__main__':
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
