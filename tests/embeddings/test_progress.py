# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Counts and the best so far while images arrive, and a ranking although it was stopped.
"""

import io
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.table import Table
from astroquery.exceptions import InvalidQueryError

from astroclip_search import conf
from astroclip_search.embeddings import progress
from astroclip_search.embeddings.progress import Awaited, Counts, Progress
from astroclip_search.exceptions import UnfinishedWarning
from astroclip_search.ranking import scores
from astroclip_search.results.cards import Card
from astroclip_search.results.gallery import Gallery
from astroclip_search.status import reason
from tests.colours import ColourEncoder, content

STOPPED = reason('stopped').sentence


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """
    Called in the test, as what is captured is put in place after the fixtures.
    """
    def replace():
        monkeypatch.setattr(sys, 'stderr', Terminal())
        return sys.stderr

    return replace


@pytest.fixture
def notebook(monkeypatch):
    """
    What the kernel of a notebook was asked to show, in order.
    """
    shown = []
    display = types.ModuleType('IPython.display')
    display.display = lambda *args, **kwargs: types.SimpleNamespace(update=shown.append)
    ipython = types.ModuleType('IPython')
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, 'IPython', ipython)
    monkeypatch.setitem(sys.modules, 'IPython.display', display)
    monkeypatch.setattr(progress, 'find_spec', lambda name: None)  # with or without ipywidgets
    monkeypatch.setattr(progress, '_EVERY', 0.0)
    return shown


@pytest.fixture
def pictures(tmp_path):
    """
    Thirty pictures, red the last.
    """
    for i in range(30):
        (tmp_path / f'{i:02}.png').write_bytes(content('red' if i == 29 else 'blue'))
    return tmp_path


def best_so_far():
    return Gallery([Card(rank=1, name='M 51')]), 'M 51'


def counted(shown):
    shown.count('fetched', 3)
    shown.count('embedded', 2)
    shown.count('failed')
    shown.show()


def test_a_terminal_shows_the_counts_of_each_stage(terminal):
    terminal = terminal()
    with Progress(9, show=True) as shown:
        shown._bar.mininterval = 0
        counted(shown)
        assert '5 queued, 3 fetched, 2 embedded, 1 failed]' in terminal.getvalue()
        assert '3/9' in terminal.getvalue()
    assert not shown.stoppable


def test_a_terminal_shows_the_name_of_the_best_so_far(terminal):
    terminal = terminal()
    with Progress(9, show=True, best=best_so_far) as shown:
        shown._bar.mininterval = 0
        counted(shown)
        assert '1 failed; best: M 51]' in terminal.getvalue()
    assert shown.stoppable


def test_the_best_so_far_is_not_drawn_too_often(terminal, monkeypatch):
    terminal()
    monkeypatch.setattr(progress, '_EVERY', 600)
    drawn = []

    def best():
        drawn.append(1)
        return best_so_far()

    with Progress(9, show=True, best=best) as shown:
        for _ in range(20):
            shown.show()
        assert not drawn, 'nothing is embedded yet'
        for _ in range(20):
            counted(shown)
        assert len(drawn) == 1
    assert len(drawn) == 2, 'the last state is shown at the end'


@pytest.mark.parametrize('show', [True, False])
def test_nothing_is_shown_where_there_is_no_terminal(capfd, show):
    with Progress(9, show=show, best=best_so_far) as shown:
        counted(shown)
    assert capfd.readouterr() == ('', '')
    assert shown.counts == {'fetched': 3, 'embedded': 2, 'failed': 1}


# ---- in a ranking ------------------------------------------------------------------------


def test_a_notebook_shows_the_best_so_far(search, pictures, notebook):
    with conf.set_temp('batch_size', 8):
        best = search.rank(pictures, 'red', show_progress='live')
    assert len(notebook) > 1
    assert all(len(shown) <= 12 for shown in notebook)
    last = notebook[-1]
    assert last.title == 'red'
    assert last.note.startswith('The best so far: 30 of 30 rows ranked')
    assert [card.name for card in last.cards] == [
        str(name).rsplit('/')[-1] for name in best['filename'][:12]]
    assert last.cards[0].name == '29.png'
    assert all(card.jpeg.startswith(b'\xff\xd8') for card in last.cards)


def test_a_notebook_shows_no_pictures_unless_asked(search, pictures, notebook, capsys):
    search.rank(pictures, 'red', show_progress=True)
    assert not notebook
    assert 'images:' in capsys.readouterr().err, 'it is no terminal, but is looked at'


class Stopped(ColourEncoder):
    """
    The user has had enough.
    """

    def encode_images(self, pixels):
        if self.n_images >= 10:
            raise KeyboardInterrupt
        return super().encode_images(pixels)


def test_what_is_stopped_is_ranked_as_far_as_it_is(pictures, tmp_path, search, encoder):
    stopped = search(encoder=Stopped(), cache_dir=tmp_path / 'cache')
    with conf.set_temp('batch_size', 8), pytest.warns(UnfinishedWarning) as caught:
        best = stopped.rank(pictures, 'blue', show_progress='live')
    n = best.meta['clip']['n_ranked']
    assert 10 <= n < 30
    assert best.meta['clip']['status'] == {'OK': n, 'SKIPPED': 30 - n}
    assert set(best['clip_message'][n:]) == {STOPPED}
    assert np.isfinite(best['clip_score'][:n]).all()
    assert [str(warning.message) for warning in caught] == [
        f'Stopped before {30 - n} of 30 rows were read. Call again to go on.']

    again = search.rank(pictures, 'blue')
    assert again.meta['clip']['n_ranked'] == 30
    assert encoder.n_images == 30 - n, 'what was embedded is kept'


def test_an_interruption_is_one_unless_asked(pictures, search, tmp_path, encoder):
    stopped = search(encoder=Stopped(), cache_dir=tmp_path / 'cache')
    with conf.set_temp('batch_size', 8), pytest.raises(KeyboardInterrupt):
        stopped.rank(pictures, 'blue')
    search.rank(pictures, 'blue')
    assert encoder.n_images < 30


def test_metadata_are_stopped_too(search, monkeypatch, encoder):
    monkeypatch.setattr(scores, '_PART', 1)
    encode, result = encoder.encode_metadata, Awaited.result
    asked, second, told = [], threading.Event(), threading.Event()

    def slow(texts):
        asked.append(texts)
        if len(asked) == 3:  # the query, the first row, the second row
            second.set()
            assert told.wait(30)
        return encode(texts)

    def interrupted(awaited):
        monkeypatch.setattr(Awaited, 'result', waited_for)
        assert second.wait(30)
        raise KeyboardInterrupt

    def waited_for(awaited):
        told.set()  # to stop, before they are waited for again
        return result(awaited)

    monkeypatch.setattr(encoder, 'encode_metadata', slow)
    monkeypatch.setattr(Awaited, 'result', interrupted)
    table = Table({'target_name': ['red', 'blue', 'green', ''], 'preview': [''] * 4})
    with pytest.warns(UnfinishedWarning, match='Stopped before 1 of 4 rows were read'):
        best = search.rank(table, 'red', by='metadata', show_progress='live')
    assert best['clip_message'].tolist() == ['', '', STOPPED, 'the row has no metadata']
    assert len(asked) == 3


@pytest.mark.parametrize('value', ['yes', 2, []])
def test_other_ways_to_show_it(search, pictures, value):
    with pytest.raises(InvalidQueryError, match="show_progress must be True, False or 'live'"):
        search.rank(pictures, 'red', show_progress=value)


def test_whoever_waits_for_metadata_sees_how_far_they_are(terminal, monkeypatch):
    monkeypatch.setattr(progress, '_SHORT', 0.01)
    monkeypatch.setattr(progress, '_OFTEN', 0.01)
    screen, counts, go_on = terminal(), Counts(total=700), threading.Event()

    def work():
        counts.done = 256
        assert go_on.wait(30)
        return 'found'

    class Seen(Progress):
        def show(self):
            super().show()
            go_on.set()

    monkeypatch.setattr(progress, 'Progress', Seen)
    with ThreadPoolExecutor(1) as worker:
        assert Awaited(worker.submit(work), counts, show=True).result() == 'found'
    assert 'metadata' in screen.getvalue()
    assert '700' in screen.getvalue()
    assert 'queued' not in screen.getvalue(), 'nothing is downloaded'


def test_a_short_wait_is_not_shown(terminal):
    screen = terminal()
    with ThreadPoolExecutor(1) as worker:
        assert Awaited(worker.submit(int, '7'), Counts(total=700), show=True).result() == 7
    assert not screen.getvalue()
