# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Archives in a process of their own, so that they share no interpreter lock with the client.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from .comparison import ROOT

__all__ = ['archive_server', 'picture', 'preview_hosts']


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

    with _process('mast', count, size, latency) as (url,):
        restore = point_astroquery_at(url)
        try:
            yield url
        finally:
            restore()


@contextlib.contextmanager
def preview_hosts(count: int, *, n_hosts: int, size: int, latency: float) -> Iterator[list[str]]:
    """
    Run some hosts that do no more than wait and send one of their previews.

    They take much less of the processor than `archive_server`, as hosts elsewhere would.

    Parameters
    ----------
    count : int
        Previews in all, no two of them alike.
    n_hosts : int
        Hosts.
    size : int
        Width and height of the previews in pixels.
    latency : float
        Seconds before each answer.

    Yields
    ------
    list of str
        Addresses of the previews, those of the hosts in turn.
    """
    with _process('hosts', count, size, latency, n_hosts) as hosts:
        yield [f'{hosts[i % n_hosts]}/{i}.jpg' for i in range(count)]


@contextlib.contextmanager
def _process(*arguments: object) -> Iterator[list[str]]:
    command = [sys.executable, '-m', 'benchmarks.server', *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            yield process.stdout.readline().split()
        finally:
            process.stdin.close()  # tells it to stop


def serve_mast(count: int, size: int, latency: float) -> None:
    """Serve a synthetic archive until the standard input is closed."""
    from tests.loopback.archive import Archive
    from tests.loopback.mast import Mast

    with Mast(Archive.synthetic(count, size=size), latency=latency) as mast:
        print(mast.url, flush=True)
        sys.stdin.read()


def picture(size: int, shift: int) -> bytes:
    """Draw a preview as JPEG; each shift gives another one."""
    from tests.loopback.archive import blobs, jpeg

    image = blobs(np.random.default_rng(shift // size), size)
    return jpeg(np.roll(image, shift % size, axis=0))


async def serve_previews(count: int, size: int, latency: float, n_hosts: int) -> None:
    """Serve previews at some ports until the standard input is closed."""
    contents = [picture(size, i) for i in range(count)]

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await reader.readuntil(b'\r\n\r\n')
                content = contents[int(request.split(b'.jpg')[0].rpartition(b'/')[2])]
                await asyncio.sleep(latency)
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n'
                             b'Content-Length: %d\r\n\r\n' % len(content))
                writer.write(content)
                await writer.drain()
        writer.close()

    servers = [await asyncio.start_server(answer, '127.0.0.1', 0) for _ in range(n_hosts)]
    print(*(f'http://127.0.0.1:{server.sockets[0].getsockname()[1]}' for server in servers),
          flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == '__main__':
    kind, count, size, latency, *n_hosts = sys.argv[1:]
    if kind == 'mast':
        serve_mast(int(count), int(size), float(latency))
    else:
        asyncio.run(serve_previews(int(count), int(size), float(latency), int(n_hosts[0])))
