# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The process in which trials are made: ``python -m benchmarks.campaign.child``.

It reads one line of JSON and writes one for each event, so that its parent knows what it was at
when it ended. It reaches no network but the loopback interface.
"""

import contextlib
import gc
import ipaddress
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ['command', 'leftovers', 'main', 'say_job']


def command() -> list[str]:
    """Return what starts a child."""
    return [sys.executable, '-P', '-m', 'benchmarks.campaign.child']


def say_job(process: subprocess.Popen, **job: Any) -> None:
    """Tell a child what to do: its theme, names, folder, seed and options."""
    process.stdin.write(json.dumps(job).encode() + b'\n')
    process.stdin.flush()


def main() -> None:
    """Make the trials of one theme."""
    from astroclip_search.exceptions import one_line

    from .trials import THEMES

    job = json.loads(sys.stdin.readline())
    sys.addaudithook(_stay_here)
    theme = THEMES[job['theme']](Path(job['folder']), seed=job['seed'], **job['options'])
    theme.warm_up()
    before = leftovers()
    for name in job['names']:
        _say(begins=name)
        started = time.monotonic()
        try:
            lost = theme.attempt(name)
        except Exception as error:  # all of them are counted
            lost = f'{type(error).__name__}: {one_line(error)}'
        _say(ends=name, lost=lost, seconds=time.monotonic() - started)
    theme.warm_up()
    theme.close()
    until = time.monotonic() + 5
    gc.collect()  # the command line leaves its search to it
    while (after := leftovers()) > before and time.monotonic() < until:
        time.sleep(0.05)
    _say(memory=_peak(), more=[max(0, there - here) for here, there in
                              zip(before, after, strict=True)],
         threads=sorted(thread.name for thread in threading.enumerate()))


def leftovers() -> tuple[int, int]:
    """Count threads and open descriptors of this process; the latter on Linux."""
    try:
        n = len(os.listdir('/proc/self/fd'))
    except OSError:
        n = 0
    return threading.active_count(), n


def _peak() -> int:
    # Linux hands the peak of who started a process, as getrusage has it, on to the process.
    with contextlib.suppress(OSError), open('/proc/self/status', encoding='ascii') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmHWM')) * 1024

    import resource

    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def _stay_here(event: str, arguments: tuple) -> None:
    """Refuse to ask for the address of another machine, or to connect to one."""
    if event == 'socket.getaddrinfo':
        host, is_name = arguments[0], True
    elif event == 'socket.connect' and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
        host, is_name = arguments[1][0], False
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host)
    with contextlib.suppress(ValueError):
        if is_name or ipaddress.ip_address(host).is_loopback:
            ipaddress.ip_address(host)
            return
    if host != 'localhost':
        raise OSError(f'the campaign asks no other machine, and not {host!r}')


if __name__ == '__main__':
    main()
