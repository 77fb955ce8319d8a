# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Servers that are wrong in every way we know of, alone and all at once: nothing is lost, no fault
costs another row, and nothing is left over.

What is expected of each fault is read from the table in the user guide.
"""

import contextlib
import gc
import os
import re
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from astropy.table import Table

from astroclip_search import conf
from astroclip_search.exceptions import (
    NothingRankedWarning,
    UnfinishedWarning,
    UnreadImagesWarning,
)
from astroclip_search.images import http
from tests.loopback import until
from tests.loopback.faults import FAULTS, FaultyServer, expectations

# These end with the timeout, and with the time of the row. They are fewer in the campaign.
STALLED = ('no answer', 'body that stops', 'Content-Length too long')
DRIPPING = ('header that comes byte by byte', '100 Continue without end',
            'body that comes byte by byte', 'chunk size that comes byte by byte')
SLOW = STALLED + DRIPPING

# Values that no parser may meet unguarded, side by side: from this fault on.
ODD = tuple(FAULTS)[list(FAULTS).index('redirect to no address'):]

# A pause for all rows of a host is no matter of one row.
OF_THE_HOST = ('503 with a long Retry-After',)


EXPECTED = expectations()


def test_the_guide_has_all_faults():
    assert list(EXPECTED) == list(FAULTS)
    assert {status for status, _, _ in EXPECTED.values()} == {'OK', 'ERROR', 'DENIED', 'NO_IMAGE'}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http, 'BACK_OFF', 0.01)
    with FaultyServer() as server, conf.set_temp('private_hosts',
                                                 [server.host, server.closed_host]):
        yield server
    assert server.strangers == 0, 'a redirect to a private address was followed'


def rank(search, addresses, **settings):
    """
    A ranking for red, and by row the status and the message.
    """
    table = Table({'n': np.arange(len(addresses)), 'preview': addresses})
    settings = {'max_bytes': 1_000_000, 'retries': 1, **settings}
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter('ignore', UnreadImagesWarning)
        warnings.simplefilter('ignore', NothingRankedWarning)
        for name, value in settings.items():
            stack.enter_context(conf.set_temp(name, value))
        ranked = search.rank(table, 'red', by='image', max_images=len(addresses),
                             fold_duplicates=False)
    assert sorted(ranked['n']) == list(range(len(addresses)))  # each row once
    return ranked, ranked[np.argsort(ranked['n'])]['clip_status', 'clip_message']


@pytest.mark.parametrize(('names', 'patience'), [
    (STALLED, {'timeout': 0.8}), (DRIPPING, {'row_timeout': 2.0}),
    (ODD, {'row_timeout': 10.0}), *(((name,), {}) for name in FAULTS if name not in SLOW + ODD)],
    ids=['stalled', 'dripping', 'odd', *(name for name in FAULTS if name not in SLOW + ODD)])
def test_each_fault_alone(search, server, names, patience):
    """
    Beside a good row, that is; and those that end with a timeout side by side.
    """
    started = time.monotonic()
    ranked, rows = rank(search, [server.good('red'), *map(server.address, names)],
                        **patience)
    assert time.monotonic() - started < 20
    of_the_host = names[0] in OF_THE_HOST
    assert rows['clip_status'][0] == 'OK' or of_the_host
    assert ranked['clip_rank'].filled(0).tolist()[0] == 1 or of_the_host
    for name, row in zip(names, rows[1:], strict=True):
        status, message, again = EXPECTED[name]
        assert row['clip_status'] == status
        assert re.fullmatch(message, row['clip_message'])
        if 'refused' not in name and 'itself' not in name:
            path = urlsplit(server.address(name)).path
            # It may read a request when its sender has gone.
            until(lambda path=path, n=1 + again: server.log.count(path) >= n)
            assert server.log.count(path) == 1 + again


@pytest.mark.parametrize('rate', [0.5, 1.0])
def test_all_faults_at_once(search, server, rate):
    rng = np.random.default_rng(int(rate * 10))
    names = [name for name in FAULTS if name not in OF_THE_HOST]
    weights = np.array([0.1 if name in SLOW else 1.0 for name in names])
    n = 1000
    faults = [str(name) if bad else '' for name, bad in zip(
        rng.choice(names, n, p=weights / weights.sum()), rng.random(n) < rate, strict=True)]
    colours = rng.choice(['red', 'green', 'blue'], n)
    addresses = [server.address(name, i) if name else server.good(colour, i)
                 for i, (name, colour) in enumerate(zip(faults, colours, strict=True))]
    rank(search, [server.good('red', -1)])  # what is imported once is not counted
    with watched() as growth:
        started = time.monotonic()
        ranked, rows = rank(search, addresses, n_connections=16, timeout=1.5, row_timeout=3.5)
        elapsed = time.monotonic() - started
    assert elapsed < 60
    assert max(growth) < 100e6

    wrong = Counter()
    for name, row in zip(faults, rows, strict=True):
        status, message, _ = EXPECTED[name] if name else ('OK', '', False)
        if name == 'connection refused':
            message += '|given up: the server did not answer 10 times in a row'
        if (row['clip_status'], bool(re.fullmatch(message, row['clip_message']))) != (status, True):
            wrong[name, row['clip_status'], row['clip_message']] += 1
    assert wrong == {}

    scores = ranked['clip_score'].filled(-9)
    assert np.all(np.diff(scores) <= 0)
    assert np.array_equal(ranked['clip_score'].mask, ranked['clip_status'] != 'OK')
    good = [colours[i] for i in ranked['n'] if not faults[i]]
    assert good == sorted(good, key='red'.__ne__) or rate == 1.0


@contextlib.contextmanager
def watched():
    """
    See that threads and sockets end, and yield how much memory was in use meanwhile.
    """
    # As in a young process: what other tests have left keeps the collector from no round.
    gc.collect()
    gc.freeze()
    before, start, growth, done = leftovers(), memory(), [0], threading.Event()

    def sample():
        while not done.wait(0.05):
            growth.append(memory() - start)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield growth
    finally:
        done.set()
        sampler.join()
        gc.unfreeze()
    deadline = time.monotonic() + 5
    while leftovers() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert leftovers() <= before, 'threads or sockets are left over'


def leftovers():
    """
    Number of our threads, but for the one that is kept for large images, and of open sockets, but
    for one of each worker: those are kept, and a call may be the first that needs a second one.
    """
    count = sum(thread.name.startswith('astroclip') and 'large' not in thread.name
                for thread in threading.enumerate())
    if sys.platform == 'linux':
        for name in os.listdir('/proc/self/fd'):
            with contextlib.suppress(OSError):  # that of the listing itself
                count += os.readlink(f'/proc/self/fd/{name}').startswith('socket:')
        for task in os.listdir('/proc/self/task'):
            with contextlib.suppress(OSError):  # a thread that has ended
                children = Path(f'/proc/self/task/{task}/children').read_text('ascii')
                count -= len(children.split())
    return count


def memory():
    """
    Bytes of memory in use, where the system says so.
    """
    if sys.platform != 'linux':
        return 0
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def test_a_query_that_takes_too_long_is_gone_on_with(search, server):
    addresses = [server.good('red', i) for i in range(10)] + [
        server.address('no answer', i) for i in range(30)]
    rank(search, addresses[:10])  # else one of them may be the one that waits
    with pytest.warns(UnfinishedWarning, match='There was no time for 30 of 40 images. Call again'):
        _, rows = rank(search, addresses, timeout=30.0, row_timeout=60.0, query_timeout=1.0,
                       n_connections=2)
    assert rows['clip_status'].tolist() == ['OK'] * 10 + ['SKIPPED'] * 30
    assert set(rows['clip_message'][10:]) == {
        'the query took longer than 1 s (conf.query_timeout): call again to go on'}
