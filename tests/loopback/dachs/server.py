# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A private GAVO DaCHS, the server of many VO archives, for as long as it is needed.

It is the program that Debian packages, on a database of its own, in a folder of its own, at a free
port of the loopback interface. Nothing outside of that folder is read, written or started.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

__all__ = ['PACKAGES', 'Dachs', 'DachsError', 'missing']

# Not gavodachs2-server: it sets up a data centre for the whole machine when it is installed.
PACKAGES = 'python3-gavo postgresql-pgsphere postgresql-q3c'

_USER = 'postgres'  # PostgreSQL refuses to run as root
_PATIENCE = 90  # seconds for anything that usually takes five

_SETTINGS = """\
[general]
rootDir: {root}/gavo
maintainerAddress: root@localhost
gavoGroup: {group}
group: {group}
[web]
bindAddress: 127.0.0.1
serverPort: {port}
serverURL: {url}
logFormat: combined
sitename: ClipSearch loopback archive
user: {user}
[ivoa]
authority: org.example.clip
"""


class DachsError(RuntimeError):
    """
    A part of the server failed; the message ends with what it had to say.
    """


def missing():
    """Return what keeps this machine from running a DaCHS, or None."""
    if shutil.which('dachs') is None or _postgres() is None:
        return f'DaCHS is not installed (Debian packages {PACKAGES})'
    if shutil.which('setpriv') is None:
        return 'setpriv (Debian package util-linux) is not installed'
    try:
        _account()
    except KeyError:
        return 'there is no account to run PostgreSQL with'
    return None


def _postgres():
    """Return the folder of the programs of a PostgreSQL that has pgsphere and q3c."""
    for folder in sorted(Path('/usr/share/postgresql').glob('*/extension'), reverse=True):
        if all((folder / f'{name}.control').exists() for name in ('pg_sphere', 'q3c')):
            programs = Path('/usr/lib/postgresql', folder.parent.name, 'bin')
            if (programs / 'postgres').exists():
                return programs
    return None


def _account():
    """Return the user that runs the servers: that of the tests unless it is root."""
    import pwd  # not on Windows, where the tests are skipped

    return pwd.getpwnam(_USER) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


class Dachs:
    """
    A running DaCHS that publishes one resource; a context manager.

    Parameters
    ----------
    publish : callable
        Called with the resource's folder and the server's address; it writes a resource
        descriptor ``q.rd`` of the schema ``clip`` and the files that this speaks of.

    Raises
    ------
    DachsError
        If it does not start.
    """

    def __init__(self, publish):
        self._root = Path(tempfile.mkdtemp(prefix='dachs-'))
        self._running = []
        account = _account()
        # Whoever dies, also by SIGKILL, takes what it started along.
        self._prefix = ['setpriv', '--pdeathsig', 'TERM']
        if os.geteuid() == 0:
            self._prefix += ['--reuid', account.pw_name, '--regid', str(account.pw_gid),
                             '--init-groups']
        port = _free_port()
        self.url = f'http://127.0.0.1:{port}'
        self._environment = {
            'PATH': f'{_postgres()}:/usr/local/bin:/usr/bin:/bin', 'HOME': str(self._root),
            'LANG': 'C.UTF-8', 'USER': account.pw_name, 'LOGNAME': account.pw_name,
            'GAVOSETTINGS': f'{self._root}/gavo.rc', 'PGHOST': f'{self._root}/socket',
        }
        try:
            self._start(publish, account, port)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @property
    def tap(self):
        """Address of the TAP service, which has ObsCore."""
        return f'{self.url}/tap'

    @property
    def sia2(self):
        """Address of the SIA2 service, over all of ObsCore."""
        return f'{self.url}/__system__/siap2/sitewide/siap2.xml'

    @property
    def sia1(self):
        """Address of the SIA1 service."""
        return f'{self.url}/clip/q/i/siap.xml?'

    def requests(self):
        """Return what was asked and answered so far, as pairs of method and path with query."""
        # Requests are in the log in the order of their answers, but a moment later.
        mark = f'/static/mark-{time.monotonic_ns()}'
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(self.url + mark, timeout=_PATIENCE).close()
        asked = []
        while ('GET', mark) not in asked:
            files = sorted((self._root / 'gavo/logs').glob('web.log*'))
            text = ''.join(file.read_text(encoding='utf-8', errors='replace') for file in files)
            asked = re.findall(r'"([A-Z]+) (\S+) HTTP/', text)
            time.sleep(0.01)
        return [(method, path) for method, path in asked if not path.startswith('/static/mark-')]

    def close(self):
        """Stop the server and forget its folder."""
        # PostgreSQL, started first, would wait for its clients.
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()
        shutil.rmtree(self._root, ignore_errors=True)

    def _start(self, publish, account, port):
        root = self._root
        root.chmod(0o755)
        settings = _SETTINGS.format(root=root, port=port, url=self.url, user=account.pw_name,
                                    group=_group(account))
        (root / 'gavo.rc').write_text(settings, encoding='utf-8')
        (root / 'socket').mkdir()
        _give(root, account)
        self._run('initdb', '-D', f'{root}/database', '-A', 'trust', '-N', '--locale=C.UTF-8')
        # Reached through a file and not through a port, and free to forget everything in a crash.
        options = {'listen_addresses': '', 'unix_socket_directories': root / 'socket',
                   'fsync': 'off', 'synchronous_commit': 'off', 'full_page_writes': 'off'}
        settings = [part for name, value in options.items() for part in ('-c', f'{name}={value}')]
        self._launch('postgres', '-D', f'{root}/database', *settings, ready=self._has_database)
        self._run('createdb', '--encoding=UTF-8', '--template=template0', 'gavo')
        self._run('dachs', 'init', '-d', f'host={root}/socket dbname=gavo')
        resource = root / 'gavo/inputs/clip'
        publish(resource, self.url)
        _give(resource, account)
        for name in ('//obscore', 'clip/q'):
            self._run('dachs', 'imp', name)
        self._launch('dachs', 'serve', 'start', '-f', ready=self._answers)

    def _run(self, *command):
        done = subprocess.run(
            [*self._prefix, *command], cwd=self._root, env=self._environment, check=False,
            timeout=_PATIENCE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors='replace')
        if done.returncode:
            raise DachsError(f'{" ".join(command)} ended with {done.returncode}:\n'
                             f'{done.stdout[-4000:]}')

    def _launch(self, *command, ready):
        log = self._root / f'{command[0]}.log'
        with log.open('w') as stream:
            process = subprocess.Popen(
                [*self._prefix, *command], cwd=self._root, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True)
        self._running.append(process)
        deadline = time.monotonic() + _PATIENCE
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(encoding='utf-8', errors='replace')[-4000:]
                raise DachsError(f'{" ".join(command)} did not start:\n{said}')
            time.sleep(0.1)

    def _has_database(self):
        asked = subprocess.run([*self._prefix, 'pg_isready', '-q'], env=self._environment,
                               check=False, timeout=_PATIENCE)
        return asked.returncode == 0

    def _answers(self):
        try:
            with urllib.request.urlopen(f'{self.tap}/capabilities', timeout=_PATIENCE) as answer:
                return answer.status == 200
        except OSError:
            return False


def _free_port():
    """Return a port that nobody listens at, below those that outgoing connections are given."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port))
            except OSError:
                continue
        return port


def _group(account):
    import grp

    return grp.getgrgid(account.pw_gid).gr_name


def _give(folder, account):
    """Make a folder and all in it belong to the user that runs the server."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob('*')):
            os.chown(path, account.pw_uid, account.pw_gid)
