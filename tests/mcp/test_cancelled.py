# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A call that is cancelled ends its downloads and does not keep the next one waiting; neither does a
client that goes away.
"""

import os
import socket
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest
from astropy.table import Table

pytest.importorskip('mcp')

from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client

from astroclip_search import conf
from astroclip_search.embeddings.progress import Call, CallEndedError
from astroclip_search.mcp import server
from tests.loopback import until
from tests.mcp.test_server import answer, encoder, folder  # noqa: F401 - fixtures

SOON = 2.0  # seconds in which a download has to end


class Silent:
    """A server that lets every request wait, and sees when the client has gone."""

    def __init__(self):
        self.asked, self.gone = [], []
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.host = f'127.0.0.1:{self._listener.getsockname()[1]}'
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._wait, args=[connection], daemon=True).start()

    def _wait(self, connection):
        with connection:
            self.asked.append(connection.recv(10_000))
            try:
                while connection.recv(10_000):
                    pass
            except OSError:
                pass
            self.gone.append(time.monotonic())

    def close(self):
        self._listener.close()


@pytest.fixture
def silent():
    one = Silent()
    yield one
    one.close()


@pytest.fixture
def waiting(silent, folder):  # noqa: F811
    """A table whose images never arrive."""
    Table({'preview': [f'http://{silent.host}/{i}.jpg' for i in range(3)]}).write(
        folder / 'waiting.csv')
    with conf.set_temp('private_hosts', [silent.host]), conf.set_temp('retries', 0):
        yield folder / 'waiting.csv'


async def cancelled(client, silent, **arguments):
    """Call a tool, and cancel that once its download has begun; how long the end of that took."""
    n = len(silent.asked)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.call_tool, 'rank', arguments)
        while len(silent.asked) == n:
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    begin = time.monotonic()
    while len(silent.gone) < len(silent.asked):
        await anyio.sleep(0.01)
        assert time.monotonic() - begin < 10, 'the download goes on'
    return time.monotonic() - begin


def test_a_cancelled_call_ends_its_downloads(silent, waiting, folder):  # noqa: F811
    async def task():
        async with Client(server.serve()) as client:
            for _ in range(2):
                assert await cancelled(client, silent, results=str(waiting), text='red') < SOON
            begin = time.monotonic()
            said = await client.call_tool('rank', {'results': str(folder), 'text': 'red'})
            return said, time.monotonic() - begin

    said, seconds = anyio.run(task)
    assert answer(said)['ranking'] == 'ranking-1', 'of the cancelled calls nothing is kept'
    assert seconds < 15


def test_several_calls_at_once(silent, waiting, folder):  # noqa: F811
    """They take turns; one that is cancelled gives its turn to the next."""
    async def task():
        said = []

        async def rank(client, phrase):
            said.append(answer(await client.call_tool(
                'rank', {'results': str(folder), 'text': phrase})))

        # The first may be cancelled while the others go on.
        async with (Client(server.serve()) as client, anyio.create_task_group() as tasks,
                    anyio.create_task_group() as first):
            first.start_soon(client.call_tool, 'rank',
                             {'results': str(waiting), 'text': 'red'})
            while not silent.asked:
                await anyio.sleep(0.01)
            for phrase in ('red', 'green', 'blue'):
                tasks.start_soon(rank, client, phrase)
            await anyio.sleep(0.05)
            first.cancel_scope.cancel()
        return said

    said = anyio.run(task)
    assert sorted(one['query'] for one in said) == ['blue', 'green', 'red']
    assert sorted(one['ranking'] for one in said) == ['ranking-1', 'ranking-2', 'ranking-3']
    for one in said:
        assert one['rows'][0]['name'].startswith(one['query'])


def test_over_stdio_and_when_the_client_goes(silent, waiting, tmp_path):
    for place in ('astropy', 'astroclip_search'):
        (tmp_path / 'config' / place).mkdir(parents=True)
        (tmp_path / 'config' / place / 'astroclip_search.cfg').write_text(
            f'private_hosts = {silent.host},\nretries = 0\n')
    names = ('XDG_CACHE_HOME', 'HF_HOME', 'HF_HUB_OFFLINE', 'HOME', 'PATH')
    environment = {name: os.environ[name] for name in names if name in os.environ}
    command = StdioServerParameters(
        command=sys.executable, args=['-m', 'astroclip_search.mcp', str(tmp_path)],
        env=environment | {'XDG_CONFIG_HOME': str(tmp_path / 'config')},
        cwd=Path(__file__).parents[2])

    async def task():
        async with Client(stdio_client(command)) as client:
            assert await cancelled(client, silent, results=str(waiting), text='red') < SOON
            said = await client.call_tool('rank', {'results': '/none.csv', 'text': 'red'})
            assert said.is_error
            n = len(silent.asked)
            tasks = await anyio.create_task_group().__aenter__()
            tasks.start_soon(client.call_tool, 'rank', {'results': str(waiting), 'text': 'green'})
            while len(silent.asked) == n:
                await anyio.sleep(0.01)
            begin = time.monotonic()
            tasks.cancel_scope.cancel()
            await tasks.__aexit__(None, None, None)
        return begin

    begin = anyio.run(task)
    until(lambda: len(silent.gone) == len(silent.asked), seconds=10)
    assert max(silent.gone) - begin < SOON + 1


def test_a_call_that_ends():
    call, done = Call(), []
    with call.at_end(lambda: done.append(1)):
        call.check()
    call.end()
    assert done == [], 'what it was for is over'
    with pytest.raises(CallEndedError):
        call.check()
    with pytest.raises(CallEndedError), call.at_end(lambda: done.append(1)):
        pytest.fail('it began')
    other = Call()
    with other.at_end(lambda: done.append(2)):
        other.end()
        assert done == [2]
        other.end()
    assert done == [2]
