# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A worker that hangs, takes memory or dies costs its own task, and nobody waits for it.
"""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from astroclip_search.exceptions import ImageError
from astroclip_search.untrusted import workers as workers_module
from astroclip_search.untrusted.workers import Unavailable, Workers

MEMORY = 64 * 1024**2


@pytest.fixture(scope='module')
def pool():
    workers = Workers('tests.untrusted.tasks', 2, room=100)
    yield workers
    workers.close()


@pytest.fixture
def job(pool):
    job = pool.job()
    yield job
    job.close()


def ask(job, do, content=b'', *, seconds=20.0, stream=None, **options):
    return job.ask({'do': do, **options}, content, seconds=seconds, memory=MEMORY, stream=stream)


def failure(job, *args, **options):
    with pytest.raises(ImageError) as error:
        ask(job, *args, **options)
    return error.value.because.code


@pytest.mark.parametrize('n', [0, 1, 70_000, 20_000_000])
def test_content_goes_there_and_comes_back(job, n):
    content = os.urandom(n)
    assert ask(job, 'echo', content)[1] == content


def test_content_goes_without_shared_memory(monkeypatch):
    monkeypatch.setattr(workers_module, 'shared_memory', lambda: None)
    workers = Workers('tests.untrusted.tasks', 1, room=1)
    try:
        content = os.urandom(3_000_000)
        assert ask(workers.job(), 'echo', content)[1] == content
    finally:
        workers.close()


def test_a_worker_is_used_again(job):
    assert len({ask(job, 'echo')[0]['pid'] for _ in range(5)}) == 1


def test_what_libraries_print_is_no_answer(job):
    ask(job, 'print')
    assert ask(job, 'echo', b'here')[1] == b'here'


@pytest.mark.parametrize('do', ['sleep', 'spin'])
def test_what_takes_too_long_is_ended(job, do):
    start = time.monotonic()
    assert failure(job, do, seconds=0.3) == 'decoding_late'
    assert time.monotonic() - start < 10
    assert ask(job, 'echo', b'next')[1] == b'next'


@pytest.mark.skipif(sys.platform != 'linux', reason='the limit of other systems is not exact')
def test_memory_is_refused(job):
    assert ask(job, 'take', bytes=MEMORY // 2)[0]['n'] == MEMORY // 2
    # The task does not catch it, which ends the worker.
    assert failure(job, 'take', bytes=4 * MEMORY) == 'decoding_ended'
    assert ask(job, 'echo', b'next')[1] == b'next'


def test_a_worker_that_dies_costs_its_task(job):
    assert failure(job, 'exit') == 'decoding_ended'
    assert ask(job, 'echo', b'next')[1] == b'next'


def test_what_another_has_ended_is_tried_again(job, tmp_path):
    path = tmp_path / 'once'
    path.touch()
    assert ask(job, 'exit_once', path=str(path))[0] == {'tired': False}


def test_an_idle_worker_may_be_ended_by_the_system(job):
    pid = ask(job, 'echo')[0]['pid']
    os.kill(pid, signal.SIGTERM)
    assert ask(job, 'echo', b'next')[1] == b'next'


def test_a_stream_is_read_where_it_is_wanted(job):
    stream = io.BytesIO(bytes(range(200)))
    assert ask(job, 'read', stream=stream, places=[100, 0], n=2)[1] == b'de\0\1'


def test_a_slow_stream_is_not_the_workers_fault(job):
    class Slow(io.BytesIO):
        def read(self, n=-1):
            time.sleep(0.8)
            return super().read(n)

    assert ask(job, 'read', stream=Slow(b'abc'), places=[0], n=3, seconds=0.5)[1] == b'abc'


def test_nothing_is_read_where_there_is_no_stream(job):
    assert failure(job, 'read', places=[0], n=3) == 'decoding_ended'


def test_room_is_shared_and_given_back(pool):
    with ThreadPoolExecutor(4) as threads:
        jobs = [pool.job() for _ in range(4)]
        for _, content in threads.map(lambda job: ask(job, 'room', n=60), jobs):
            assert content == b''
    with pool.share(pool.job(), 100):  # all of it, without waiting
        pass


def test_closing_ends_what_is_under_way(pool):
    job = pool.job()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(failure, job, 'sleep')
        while not job.is_busy:
            time.sleep(0.01)
        start = time.monotonic()
        job.close()
        assert asked.result() == 'interrupted'
    assert time.monotonic() - start < 2
    assert failure(job, 'echo') == 'interrupted'


def test_nobody_takes_more_than_there_are(pool):
    pids = set()
    with ThreadPoolExecutor(6) as threads:
        for answer, _ in threads.map(lambda _: ask(pool.job(), 'echo', seconds=20.0), range(40)):
            pids.add(answer['pid'])
    assert len(pids) <= 2


def test_an_unused_worker_ends(monkeypatch):
    monkeypatch.setattr(workers_module, '_IDLE', 0.1)
    workers = Workers('tests.untrusted.tasks', 1, room=1)
    pid = ask(workers.job(), 'echo')[0]['pid']
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail('it goes on')
    assert ask(workers.job(), 'echo')[0]['pid'] != pid
    workers.close()


def test_without_an_interpreter_there_is_none(monkeypatch):
    for executable in ('', '/nowhere/python', os.devnull):
        monkeypatch.setattr(sys, 'executable', executable)
        with pytest.raises(Unavailable):
            ask(Workers('tests.untrusted.tasks', 1, room=1).job(), 'echo')


def test_a_module_that_does_not_start_is_none():
    with pytest.raises(Unavailable):
        ask(Workers('tests.untrusted.no_such_module', 1, room=1).job(), 'echo')


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='there are no forks')
def test_threads_and_descriptors_return(pool):
    def n_open():
        return len(os.listdir('/dev/fd'))

    before = n_open(), threading.active_count()
    workers = Workers('tests.untrusted.tasks', 2, room=1)
    ask(workers.job(), 'echo')
    failure(workers.job(), 'exit')
    ask(workers.job(), 'echo')
    workers.close()
    for _ in range(200):
        if n_open() <= before[0] and threading.active_count() <= before[1]:
            return
        time.sleep(0.05)
    pytest.fail(f'{n_open()} and {threading.active_count()}, there were {before}')


def test_a_thread_that_cannot_be_started_is_no_end(monkeypatch):
    start = threading.Thread.start
    failures = [RuntimeError("can't start new thread")]

    def starts(thread):
        if thread.name == 'astroclip-decoding' and failures:
            raise failures.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, 'start', starts)
    workers = Workers('tests.untrusted.tasks', 1, room=1)
    with pytest.raises(Unavailable, match='new thread'):
        ask(workers.job(), 'echo')
    monkeypatch.setattr(workers, '_again', 0.0)  # some minutes later
    assert ask(workers.job(), 'echo', b'here')[1] == b'here'
    workers.close()


def test_a_failure_is_kept_in_mind(monkeypatch):
    workers = Workers('tests.untrusted.tasks', 1, room=1)
    monkeypatch.setattr(sys, 'executable', '')
    with pytest.raises(Unavailable):
        ask(workers.job(), 'echo')
    monkeypatch.undo()
    with pytest.raises(Unavailable):
        ask(workers.job(), 'echo')


def test_one_worker_is_enough(monkeypatch):
    workers = Workers('tests.untrusted.tasks', 2, room=1)
    ask(workers.job(), 'echo')
    monkeypatch.setattr(sys, 'executable', '')
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: ask(workers.job(), 'pause')[0]['pid'], range(8)))
    assert len(set(found)) == 1
    workers.close()


def test_limits_without_end(job):
    for seconds, memory in ((float('inf'), 2**80), (1e18, sys.maxsize)):
        assert job.ask({'do': 'echo'}, b'here', seconds=seconds, memory=memory)[1] == b'here'


@pytest.mark.parametrize(('error', 'code'), [
    (OSError('slow down'), 'file_unreadable'), (ValueError('no'), 'file_unreadable'),
    (PermissionError('no'), 'store_denied'), (EOFError(), 'file_unreadable')])
def test_the_errors_of_a_stream_are_its_own(job, error, code):
    class Bad(io.BytesIO):
        def read(self, n=-1):
            raise error

    assert failure(job, 'read', stream=Bad(b'abc'), places=[0], n=3) == code


def test_odd_folders_of_modules(monkeypatch):
    monkeypatch.setattr(sys, 'path', [None, Path('/somewhere'), '', *sys.path])
    workers = Workers('tests.untrusted.tasks', 1, room=1)
    assert ask(workers.job(), 'echo', b'here')[1] == b'here'
    workers.close()


CLOSED = """
import os, resource, sys
for number in map(int, sys.argv[1]):
    os.close(number)
hard = 2_400_000_000  # of memory
resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
from astroclip_search.untrusted.workers import Workers
workers = Workers('tests.untrusted.tasks', 1, room=1)
content = os.urandom(200_000)
answer = workers.job().ask({'do': 'echo'}, content, seconds=20, memory=10**10)
os._exit(answer[1] != content)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems have other descriptors')
@pytest.mark.parametrize('closed', ['0', '01', '012'])
def test_a_program_without_standard_streams_and_with_little_memory(closed):
    subprocess.run([sys.executable, '-c', CLOSED, closed], check=True, timeout=60)


PROGRAM = """
import os, signal, sys, threading, time
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
from astroclip_search.untrusted.workers import Workers
workers = Workers('tests.untrusted.tasks', 1, room=1)
job = workers.job()
def ask(do):
    return job.ask({'do': do}, b'x' * 100_000, seconds=20, memory=10**8)
pid = ask('echo')[0]['pid']
os.kill(pid, signal.SIGKILL)
assert ask('echo')[0]['pid'] != pid
print(ask('echo')[0]['pid'], flush=True)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
threading.Thread(target=ask, args=['sleep']).start()
while not job.is_busy:
    time.sleep(0.01)
time.sleep(0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, 'SIGPIPE'), reason='there is no SIGPIPE')
def test_no_worker_outlives_its_program():
    # A script without a guard of its main module, which a broken pipe would end, is killed.
    ran = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True,
                         check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    for _ in range(200):
        try:
            os.kill(int(ran.stdout), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail('the worker goes on')
