# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A fork waits for the products, models and imports of other threads, and nobody waits afterwards.
"""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from astroclip_search.models.forks import undisturbed
from astroclip_search.models.runtime import Tower

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system has no fork')


def fork(action):
    """What a child makes of it."""
    child = os.fork()
    if child == 0:
        os._exit(0 if action() else 1)
    return os.waitpid(child, 0)[1] == 0


def test_a_fork_waits_for_a_product():
    order, begun = [], threading.Event()

    def multiply():
        with undisturbed(), undisturbed():
            begun.set()
            while len(threads) < 2 or not waits.is_set():
                waits.wait(0.01)
            order.append('product')

    def child():
        with undisturbed():
            return True

    def forks():
        threading.Timer(0.05, waits.set).start()
        assert fork(child)
        order.append('fork')

    waits, threads = threading.Event(), []
    for work in (multiply, forks):
        threads.append(threading.Thread(target=work))
        threads[-1].start()
        begun.wait()
    for thread in threads:
        thread.join(10)
    assert order == ['product', 'fork']
    with undisturbed():
        assert fork(lambda: True), 'the thread that multiplies may itself fork'


class SlowSession:
    """As one of ONNX Runtime: it is asked, and answers later."""

    def __init__(self):
        self.asked, self.answered = threading.Event(), threading.Event()

    get_inputs = get_outputs = get_providers = get_overridable_initializers = list

    def run(self, _outputs, _feed):
        self.asked.set()
        threading.Event().wait(0.2)
        self.answered.set()
        return [np.zeros(1)]


def test_a_fork_waits_for_a_model_that_runs():
    """The child would wait for ever for what a thread inside the library holds."""
    session = SlowSession()
    tower = Tower(session)
    thread = threading.Thread(target=tower.run, args=('image_embeds', {}))
    thread.start()
    session.asked.wait()
    assert fork(session.answered.is_set)
    thread.join()
    assert tower.run('image_embeds', {}).shape == (1,), 'nobody waits afterwards'


IMPORTS = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from astroclip_search import ClipSearch

repr(ClipSearch)
begun = threading.Event()
thread = threading.Thread(target=__import__, args=('slow_to_import',))
sys.modules['begun'] = begun
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)  # if it hangs
    import slow_to_import
    os._exit(0 if slow_to_import.done else 1)
_, status = os.waitpid(child, 0)
thread.join()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


def test_a_fork_waits_for_an_import(tmp_path):
    (tmp_path / 'slow_to_import.py').write_text(
        'import sys, time\nsys.modules["begun"].set()\ntime.sleep(0.3)\n'
        'import concurrent.futures\ndone = True\n')
    done = subprocess.run([sys.executable, '-c', IMPORTS, tmp_path], capture_output=True,
                          text=True, check=False, timeout=60)
    assert (done.stderr, done.returncode) == ('', 0)
