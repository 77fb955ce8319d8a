# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Processes in which the files of strangers are decoded, under limits of memory and time.

A decoder may meet a file at which it never returns, takes all memory, or ends its process. Here
that costs one worker, which is replaced. Each is a new interpreter, and no fork or copy of the
program, so that neither its threads nor its main module matter. It is no sandbox: a worker may do
what its user may.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..exceptions import ImageError, one_line
from .channel import MOST, Channel, above_the_usual, shared_memory

__all__ = ['Job', 'Unavailable', 'Workers', 'n_cores']

# Seconds that an interpreter may take to start, that a killed one has to end, and that an unused
# one is kept.
_START, _END, _IDLE = 60.0, 0.5, 120.0

# Seconds that a task waits for one of the workers before another one is started.
_PATIENCE = 0.05

# Seconds after which a worker ends itself if nobody has done it.
_GRACE = 3.0

_TRIES = 2  # a worker may have been ended by something else than its task

# Seconds after which it is tried again to start a worker where that has failed.
_AGAIN = 300.0

# A limit of time or memory beyond these is none.
_LONGEST_TIME, _MOST_MEMORY = 3e7, 2**60

# Run by a new interpreter: the folders that modules are found in come first.
_BEGIN = ('import sys; path = {path!a}; '
          'sys.path[:] = path + [name for name in sys.path if name not in path]; '
          'from {module} import main; main({shared}, {way})')

# One thread; and memory of one image is used for the next (glibc), not given back between them.
_ENVIRONMENT = {'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1',
                'MALLOC_TRIM_THRESHOLD_': str(32 * 1024**2),
                'MALLOC_MMAP_THRESHOLD_': str(4 * 1024**2), 'PYTHONWARNINGS': 'ignore'}


class Unavailable(Exception):  # noqa: N818 - no error of the image
    """
    No worker can be started here.
    """


class Workers:
    """
    A pool of processes that run ``main`` of a module, which calls
    `~astroclip_search.untrusted.serving.serve`; started as they are needed, at most ``n`` of them.
    ``room`` is shared out by `Job.ask` to tasks that ask for it.
    """

    def __init__(self, module: str, n: int, room: int):
        self._module, self._n = module, n
        # Nobody else waits for these: a notice would wake the wrong one.
        self._changed, self._freed = threading.Condition(), threading.Condition()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._n_starting = self._n_waiting = 0
        self._is_closed = False
        self._watch: threading.Thread | None = None
        self._failure, self._again = '', 0.0
        self._room = self._free = room

    def job(self, most: int = 0) -> 'Job':
        """
        The work of one call, which can be ended, and for which no more than ``most`` workers are
        started, if that is not 0.
        """
        return Job(self, min(most or self._n, self._n))

    def forget(self) -> None:
        """
        In a forked process: the workers are those of the parent.
        """
        for worker in self._all:
            worker.forget()

    def close(self) -> None:
        """
        End all workers.
        """
        with self._changed:
            self._is_closed = True
            for worker in self._all:
                worker.end('stopped')
            while self._idle:
                self._dismiss(self._idle.pop())

    def take(self, job: 'Job') -> '_Worker':
        """
        A worker that is idle, or a new one.
        """
        until = time.monotonic() + _PATIENCE
        with self._changed, contextlib.ExitStack() as held:
            self._n_waiting += 1
            held.callback(self._waits_no_more)
            while True:
                job.check()
                while self._idle:
                    worker = self._idle.pop()  # the last used, so that the others may end
                    if worker.is_alive():
                        return worker
                    self._dismiss(worker)
                now, n = time.monotonic(), len(self._all) + self._n_starting
                if now < self._again:
                    if not n:
                        raise Unavailable(self._failure)
                elif n == 0 or (n < job.most and until <= now
                                and self._n_starting < self._n_waiting):
                    self._begin_start()
                    continue
                self._changed.wait(min(until - now, 0.2) if until > now else 0.2)

    def _begin_start(self) -> None:
        # In a thread of its own: who waits may be told to wait no longer.
        thread = threading.Thread(target=self._start, name='astroclip-decoding', daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # there are too many
            self._fail(error)
        else:
            self._n_starting += 1

    def _fail(self, error: BaseException) -> None:
        self._failure, self._again = str(error), time.monotonic() + _AGAIN

    def _waits_no_more(self) -> None:
        self._n_waiting -= 1

    def _start(self) -> None:
        worker, failure = None, None
        try:
            worker = _Worker(self._module)
        except Exception as error:
            failure = error
        with self._changed:
            self._n_starting -= 1
            if failure is not None:
                self._fail(failure)
            elif self._is_closed:
                worker.dismiss()
            else:
                self._all.add(worker)
                self._idle.append(worker)
                worker.deadline = time.monotonic() + _IDLE
                self._start_watch()
            self._changed.notify_all()

    def give_back(self, worker: '_Worker', *, tired: bool = False) -> None:
        """
        Let others have a worker, unless it has ended.
        """
        with self._changed:
            if tired or worker.why:
                self._dismiss(worker)
            else:
                worker.deadline = time.monotonic() + _IDLE
                self._idle.append(worker)
                self._start_watch()
            self._changed.notify()

    def _dismiss(self, worker: '_Worker') -> None:
        self._all.discard(worker)
        worker.dismiss()

    def begin(self, worker: '_Worker', seconds: float) -> None:
        """
        Let a worker be ended after a time.
        """
        with self._changed:
            worker.deadline = time.monotonic() + seconds
            self._start_watch()

    @contextlib.contextmanager
    def share(self, job: 'Job', wanted: int) -> Iterator[None]:
        """
        Wait for a part of the room.
        """
        wanted = min(max(wanted, 0), self._room)
        with self._freed:
            while self._free < wanted:
                job.check()
                self._freed.wait(0.2)
            self._free -= wanted
        try:
            yield
        finally:
            with self._freed:
                self._free += wanted
                self._freed.notify_all()

    def _start_watch(self) -> None:
        if self._watch is None or not self._watch.is_alive():
            watch = threading.Thread(target=self._keep_watch, daemon=True,
                                     name='astroclip-decoding')
            # Where there are too many threads the alarms of the workers are left.
            with contextlib.suppress(RuntimeError):
                watch.start()
                self._watch = watch

    def _keep_watch(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                for worker in list(self._all):
                    if worker.deadline <= now:
                        worker.end('late')
                        if worker in self._idle:
                            self._idle.remove(worker)
                            self._dismiss(worker)
                if not self._all and not self._n_starting:
                    self._watch = None
                    return
                due = min((worker.deadline for worker in self._all), default=now + _IDLE)
            time.sleep(min(max(due - now, 0.01), 0.25))


class Job:
    """
    The tasks of one call; closing it ends those that are under way.
    """

    def __init__(self, workers: Workers, most: int):
        self._workers = workers
        self.most = most
        self._lock = threading.Lock()
        self._busy: set[_Worker] = set()
        self._closed = False

    def close(self) -> None:
        """
        End what is under way, and begin nothing more.
        """
        with self._lock:
            self._closed = True
            for worker in self._busy:
                worker.end('stopped')

    @property
    def is_busy(self) -> bool:
        """
        Whether a task is under way.
        """
        return bool(self._busy)

    def check(self) -> None:
        """
        Raise if the call is over.
        """
        if self._closed:
            raise ImageError('interrupted')

    def ask(self, message: dict[str, Any], content: bytes = b'', *, seconds: float, memory: int,
            stream: IO[bytes] | None = None) -> tuple[dict[str, Any], bytes]:
        """
        Have a task done, and return what it answers; an ImageError says that it took too long or
        ended its worker. Of a ``stream`` it may read. `Unavailable` if there are no workers.
        """
        seconds, memory = min(seconds, _LONGEST_TIME), min(memory, _MOST_MEMORY)
        for attempt in range(_TRIES):
            worker = self._workers.take(self)
            tired = True
            try:
                with self._lock:
                    self.check()
                    self._busy.add(worker)
                task = _Task(self, self._workers, worker, seconds, memory, stream)
                answer, given = task.run(message, content)
                tired = bool(answer.get('tired'))
                return answer, given
            except (EOFError, OSError, ValueError) as error:
                if worker.why == 'late':
                    raise ImageError('decoding_late', seconds=seconds) from error
                self.check()
                if attempt + 1 == _TRIES:
                    raise ImageError('decoding_ended') from error
            finally:
                with self._lock:
                    self._busy.discard(worker)
                self._workers.give_back(worker, tired=tired)
        raise AssertionError


@dataclass
class _Task:
    """
    What one worker is asked to do.
    """

    job: Job
    workers: Workers
    worker: '_Worker'
    seconds: float
    memory: int
    stream: IO[bytes] | None
    room: int = 0

    def run(self, message: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        channel, left = self.worker.channel, self.seconds
        with contextlib.ExitStack() as held:
            started = time.monotonic()
            self.workers.begin(self.worker, left)
            channel.send({'task': message, 'seconds': left + _GRACE, 'memory': self.memory},
                         content)
            while True:
                answer, given = channel.receive()
                if 'wants' not in answer:
                    break
                # Neither a slow network nor other images are its fault.
                left -= time.monotonic() - started
                self.workers.begin(self.worker, float('inf'))
                wanted = self._wanted(answer['wants'], held)
                started = time.monotonic()
                self.workers.begin(self.worker, max(left, 0.01))
                channel.send({}, wanted)
            self.workers.begin(self.worker, float('inf'))
        channel.shrink(max(len(content), len(given)))
        return answer, given

    def _wanted(self, wants: Any, held: contextlib.ExitStack) -> bytes:
        """
        A part of the stream, or nothing once there is room.
        """
        if not (isinstance(wants, list) and len(wants) == 3
                and all(isinstance(number, int) for number in wants[1:])):
            raise ValueError('a worker that makes no sense')
        what, first, second = wants
        if what == 'room':
            if first > self.room:
                held.close()  # two that wait for more than they have would wait for each other
                held.enter_context(self.workers.share(self.job, first))
                self.room = first
            return b''
        if self.stream is None or not 0 <= second <= MOST:
            raise ValueError('a worker that makes no sense')
        # Its errors are not those of the worker.
        try:
            self.stream.seek(first)
            return self.stream.read(second)
        except ImageError:
            raise
        except PermissionError as error:
            raise ImageError('store_denied', error=one_line(error)) from error
        except Exception as error:
            raise ImageError('file_unreadable', error=one_line(error)) from error


class _Worker:
    """
    A process, and the way to it.
    """

    def __init__(self, module: str):
        self.deadline = float('inf')
        self.why = ''
        self._lock = threading.Lock()
        shared = shared_memory()
        try:
            self._process, self.channel = _start(module, shared)
        except BaseException:
            if shared is not None:
                os.close(shared)
            raise
        timer = threading.Timer(_START, self.end, ['late'])
        timer.daemon = True
        try:
            timer.start()
            if self.channel.receive()[0] != {'ready': True}:
                raise ValueError('no worker')
        except (EOFError, OSError, RuntimeError, ValueError) as error:
            self.dismiss()
            raise Unavailable(f'{sys.executable} does not start') from error
        finally:
            timer.cancel()

    def is_alive(self) -> bool:
        """
        Whether the process goes on.
        """
        return self._process.poll() is None

    def end(self, why: str) -> None:
        """
        End the process, and free the thread that waits for it.
        """
        with self._lock:
            if not self.why:
                self.why = why
            with contextlib.suppress(OSError):
                self._process.kill()
            self.channel.cut()

    def dismiss(self) -> None:
        """
        End the process and give back what it has; nobody else uses it.
        """
        self.end('dismissed')
        # One that waits for a dead disk ends when it can; nobody waits for it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END)
        self._process.returncode = self._process.returncode or 0
        self.channel.close()

    def forget(self) -> None:
        """
        In a forked process: close this end and leave the process to the parent.
        """
        self._process.returncode = 0
        self.channel.close()


def _start(module: str, shared: int | None) -> tuple[subprocess.Popen, Channel]:
    if not sys.executable or getattr(sys, 'frozen', False):
        raise Unavailable('there is no Python interpreter to start')
    path = [str(Path(__file__).parents[2]),
            *(name for name in sys.path if isinstance(name, str) and os.path.isabs(name))]

    def command(way: int | None) -> list[str]:
        return [sys.executable, '-P', '-c',
                _BEGIN.format(path=path, module=module, shared=shared, way=way)]

    options: dict[str, Any] = {'stderr': subprocess.DEVNULL, 'cwd': os.path.abspath(os.sep),
                               'env': {**os.environ, **_ENVIRONMENT}}
    try:
        if os.name == 'nt':
            process = subprocess.Popen(  # noqa: S603 - our own interpreter, here and below
                command(None), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                creationflags=0x08000000, **options)  # no window
            return process, Channel(process.stdout.fileno(), process.stdin.fileno(), None,
                                     (process.stdout, process.stdin))
        ours, theirs = (socket.socket(fileno=above_the_usual(one.detach()))
                        for one in socket.socketpair())
        with theirs:
            try:
                # A group of its own: Ctrl-C is for the program alone.
                process = subprocess.Popen(  # noqa: S603
                    command(theirs.fileno()), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    process_group=0, pass_fds=[theirs.fileno()] + (
                        [] if shared is None else [shared]), **options)
            except BaseException:
                ours.close()
                raise
        return process, Channel(ours.fileno(), ours.fileno(), shared, (ours,))
    except (OSError, ValueError) as error:
        raise Unavailable(str(error)) from error


def n_cores() -> int:
    """
    Logical cores that this process may use, where the system says it.
    """
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
