# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Only regular files are opened, and nothing is waited for.
"""

import os
import socket
import stat
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from astroclip_search.untrusted import files
from astroclip_search.untrusted.files import leads_elsewhere, open_regular

posix = pytest.mark.skipif(os.name != 'posix', reason='these kinds of files are of Unix')


def test_a_file(tmp_path):
    path = tmp_path / 'a'
    path.write_bytes(b'\r\n\x1ahere')  # Windows would end text there
    (tmp_path / 'link').symlink_to(path)
    for name in (path, str(path), tmp_path / 'link'):
        with open_regular(name) as stream:
            assert stream.read() == b'\r\n\x1ahere'
            stream.seek(2)
            assert stream.read(1) == b'\x1a'
            assert not os.get_inheritable(stream.fileno())
    with open_regular(path, buffering=0) as stream:
        assert stream.read(3) == b'\r\n\x1a'


@posix
@pytest.mark.parametrize('make', [
    lambda path: os.mkfifo(path, 0o600), lambda path: path.mkdir(),
    lambda path: path.symlink_to('/'), lambda path: path.symlink_to('/dev/zero'),
    lambda path: path.symlink_to('/dev/null')],
    ids=['pipe', 'folder', 'link to a folder', 'endless device', 'empty device'])
def test_what_is_no_file(tmp_path, make):
    make(tmp_path / 'a.png')
    with pytest.raises(OSError, match=r"a\.png' is a (pipe|folder|device), and no file"):
        open_regular(tmp_path / 'a.png')


@posix
def test_a_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # its name must be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind('a.png')
        with pytest.raises(OSError, match='is a socket, and no file'):
            open_regular('a.png')


@posix
def test_what_takes_the_place_of_a_file(tmp_path, monkeypatch):
    """What counts is what was opened, not what the name led to a moment before."""
    path = tmp_path / 'a.png'
    path.write_bytes(b'')
    before = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(files.os, 'stat', lambda name: before)
    n_open = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else None
    with pytest.raises(OSError, match='is a pipe'):
        open_regular(path)
    if n_open is not None:
        assert len(os.listdir('/proc/self/fd')) == n_open


@pytest.mark.parametrize('name', ['a\0b', '\ud800', 'a' * 5000, '', 'not there'])
def test_names_of_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r'(?i)name|file'):
        open_regular(name)


@pytest.mark.parametrize('name', ['NUL', 'con', 'C:\\data\\aux.png', 'COM1.fits', 'lpt9 .x',
                                  '\\\\.\\pipe\\x', 'NUL:stream', 'CONIN$'])
def test_devices_of_windows(monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(files.os, 'name', 'nt')
        patch.setattr(files.os, 'open', lambda *args: pytest.fail('it was opened'))
        patch.setattr(files.os, 'stat', lambda *args: pytest.fail('it was asked for'))
        with pytest.raises(OSError, match='is a device'):
            open_regular(name)


def test_a_closed_file_is_given_back(tmp_path):
    (tmp_path / 'a').write_bytes(b'')
    with open_regular(tmp_path / 'a') as stream:
        number = stream.fileno()
        assert stat.S_ISREG(os.fstat(number).st_mode)
    with pytest.raises(OSError, match='descriptor'):
        os.fstat(number)


@pytest.mark.parametrize(('name', 'elsewhere'), [
    ('a.png', False), ('b/a.png', False), ('C:\\data\\a.png', False), ('c:/data/a.png', False),
    ('C:a.png', False), ('..\\a.png', False), ('D:\\a.png', True), ('D:a.png', True),
    ('\\\\server\\share\\a.png', True), ('//server/share/a.png', True),
    ('\\\\?\\C:\\data\\a.png', True), ('\\\\.\\C:\\a', True), ('\\a.png', True)])
def test_names_that_windows_would_ask_another_machine_for(name, elsewhere):
    assert leads_elsewhere(name, PureWindowsPath('C:\\data')) == elsewhere
    assert not leads_elsewhere(name, PurePosixPath('/data'))
