# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Ctrl-C ends the command within two seconds, whatever it is about, with one line and 130.
"""

import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests import tiny

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='a test cannot press Ctrl-C there')

SAID = 'interrupted; what was embedded is kept\n'


class Command(subprocess.Popen):
    """
    A process that writes a line when it may be interrupted.
    """

    def __init__(self, *arguments):
        # A shell lets what it starts in the background ignore Ctrl-C, and so would this process.
        super().__init__([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def interrupt(self):
        self.send_signal(signal.SIGINT)
        self.begin = time.monotonic()

    def ended(self):
        """Its exit code and what it said; it must have been quick."""
        try:
            _, said = self.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert time.monotonic() - self.begin < 3  # two, and one for a machine that is busy
        return self.returncode, said


def script(text):
    return Command('-c', 'import sys, time\nfrom astroclip_search.__main__ import main\n' + text
                   + '\nsys.exit(main())')


LOADING = """
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == 'astroclip_search.cli':
            print('now', flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
"""

# In the place of the command, so that little has to be loaded.
FAKE = """
import hashlib, threading, types
cli = sys.modules['astroclip_search.cli'] = types.ModuleType('cli')

def stay():
    print('now', flush=True)
    hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)  # of many minutes

def go_on():
    try:
        print('now', flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print('goes on', file=sys.stderr, flush=True)
    stay()

def leave():
    threading.Thread(target=time.sleep, args=(60,)).start()
    print('now', flush=True)
    return 0

"""

LIVE = """
config = sys.modules['astroclip_search.config'] = types.ModuleType('config')
config.conf = types.SimpleNamespace(show_progress='live')
"""


def test_while_modules_are_loaded():
    with script(LOADING) as process:
        assert process.stdout.readline() == 'now\n'
        process.interrupt()
        assert process.ended() == (130, SAID)


def test_while_a_library_is_at_work():
    """It does not come back to Python, and does not hear."""
    with script(FAKE + 'cli.main = stay') as process:
        assert process.stdout.readline() == 'now\n'
        process.interrupt()
        assert process.ended() == (130, SAID)


def test_the_second_time_where_the_first_lets_a_ranking_go_on():
    with script(FAKE + LIVE + 'cli.main = go_on') as process:
        assert process.stdout.readline() == 'now\n'
        process.interrupt()
        assert process.stdout.readline() == 'now\n'
        process.interrupt()
        assert process.ended() == (130, f'goes on\n{SAID}')


def test_at_the_exit():
    with script(FAKE + 'cli.main = leave') as process:
        assert process.stdout.readline() == 'now\n'
        time.sleep(0.1)
        process.interrupt()
        assert process.ended() == (130, '')


TAP = """
import sys
from astroclip_search import ClipSearch
ClipSearch.query_tap('red', 'SELECT * FROM ivoa.obscore', service=sys.argv[1])
"""


@pytest.mark.parametrize('kind', ['image', 'service'])
def test_while_a_server_does_not_answer(tmp_path, kind):
    with socket.create_server(('127.0.0.1', 0)) as server:
        address = f'http://127.0.0.1:{server.getsockname()[1]}'
        if kind == 'service':
            arguments, code, last = ['-c', TAP, address], -signal.SIGINT, 'KeyboardInterrupt\n'
        else:
            arguments = ['-m', 'astroclip_search', 'rank', f'{address}/a.png', 'red',
                         '--model', tiny.write_bundle(tmp_path / 'model'),
                         '--cache-dir', tmp_path / 'cache']
            code, last = 130, SAID
        with Command(*arguments) as process:
            server.settimeout(60)
            connection, _ = server.accept()
            with connection:
                process.interrupt()
                found, said = process.ended()
    assert found == code
    assert said.endswith(last)


def test_another_program_keeps_its_own_interruptions(monkeypatch):
    from astroclip_search import __main__, cli

    found = []
    monkeypatch.setattr(cli, 'main', lambda: found.append(signal.getsignal(signal.SIGINT)) or 0)
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=__main__.main)
    thread.start()
    thread.join()
    assert found == [before] == [signal.getsignal(signal.SIGINT)]
