# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A thread is silent about the warnings of a library, and the filters of the process stay as they are.
"""

import os
import pickle
import threading
import warnings

import pytest
from astropy.utils.exceptions import AstropyUserWarning, AstropyWarning

from astroclip_search.exceptions import NothingRankedWarning, collected, warn
from astroclip_search.untrusted.quiet import quiet


@pytest.fixture(autouse=True)
def filters():
    """Warnings are errors in these tests, and the filters of a test end with it."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        before = list(warnings.filters)
        yield
        assert warnings.filters == before


def raised(category=UserWarning):
    try:
        warnings.warn('of a library', category, stacklevel=2)
    except category:
        return True
    return False


class Other(threading.Thread):
    """
    A thread that does its work step by step, when it is told to.
    """

    def __init__(self, steps):
        super().__init__(daemon=True)
        self.steps, self.go, self.done = steps, threading.Event(), threading.Event()
        self.start()

    def run(self):
        for _ in self.steps:
            self.done.set()
            self.go.wait()
            self.go.clear()
        self.done.set()

    def step(self):
        self.done.clear()
        self.go.set()
        assert self.done.wait(5)


def silence(category=Warning):
    yield
    with quiet(category):
        yield
    yield


def test_one_class_is_ignored_and_others_are_not():
    with quiet(AstropyWarning):
        assert not raised(AstropyUserWarning)
        assert raised(UserWarning)
        with quiet():
            assert not raised(UserWarning)
        assert raised(UserWarning)
        assert not raised(AstropyWarning)
    assert raised(AstropyUserWarning)


def test_a_filter_that_comes_later_does_not_win():
    with quiet(AstropyWarning):
        warnings.simplefilter('error', AstropyWarning)
        with quiet(UserWarning), quiet(AstropyWarning):
            assert not raised(AstropyWarning)
            assert not raised(UserWarning)
    warnings.filters.pop(0)
    assert raised(AstropyWarning)


def test_another_thread_is_not_silenced():
    other = Other(silence())
    other.step()
    assert raised()
    with quiet():
        other.step()
        assert not raised()
    assert raised()


def test_the_first_to_come_may_be_the_first_to_go():
    before = list(warnings.filters)
    first, second = Other(silence()), Other(silence())
    for thread in (first, second, first, second):
        thread.step()
    assert warnings.filters == before


@pytest.mark.parametrize('ours', [(0, 2), (1, 3), (0, 3), (1, 2)])
def test_a_catch_warnings_of_the_user_beside_it(ours):
    """
    Whichever begins and ends first.
    """
    def user():
        yield
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
        yield

    before = list(warnings.filters)
    threads = {True: Other(silence()), False: Other(user())}
    for i in range(4):
        threads[i in ours].step()
    assert warnings.filters == before
    assert raised()


def test_many_threads():
    def work():
        for _ in range(200):
            with quiet(UserWarning):
                heard.append(raised())

    heard, threads = [], [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [False] * 800


def test_filters_can_be_sent_to_another_process():
    with quiet():
        action, pattern, *_ = pickle.loads(pickle.dumps(warnings.filters))[0]
    assert action == 'ignore'
    assert pattern.match('of a library') is None


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system has no fork')
def test_a_child_has_the_silence_of_its_own_thread_only():
    before = list(warnings.filters)
    other = Other(silence(AstropyWarning))
    other.step()
    child = os.fork()
    if child == 0:
        right = warnings.filters == before and raised(AstropyWarning)
        with quiet(AstropyWarning):
            right &= not raised(AstropyWarning)
        os._exit(0 if right and warnings.filters == before else 1)
    assert os.waitpid(child, 0)[1] == 0
    other.step()


def test_warnings_of_the_package_are_collected():
    with collected() as found:
        warn('nothing', NothingRankedWarning)
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(told()))
        thread.start()
        thread.join()
    assert [(type(one), str(one)) for one in found] == [(NothingRankedWarning, 'nothing')]
    assert elsewhere == [True]
    assert told()


def told():
    try:
        warn('nothing', NothingRankedWarning)
    except NothingRankedWarning:
        return True
    return False
