# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Threads and processes that rank at once: what others start them with, and what they leave behind.
"""

import multiprocessing
import os
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from astroclip_search import ClipSearch
from tests import tiny
from tests.colours import ColourEncoder, picture

needs_fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system has no fork')


@pytest.fixture
def used(tmp_path, folder):
    """A real model that has ranked already."""
    model = tiny.write_bundle(tmp_path / 'model', background=False)
    with ClipSearch(model=str(model), device='cpu', cache_dir=tmp_path / 'cache') as search:
        search.rank(folder, 'green')
        yield search


def best(search, folder, text):
    with warnings.catch_warnings():  # each process has its own
        warnings.simplefilter('ignore')
        return Path(search.rank(folder, text, by='image')['filename'][0]).stem


TEXTS = ['red', 'green', 'blue', 'red']


@needs_fork
def test_forked_workers(used, folder):
    with ProcessPoolExecutor(2, multiprocessing.get_context('fork')) as workers:
        found = list(workers.map(best, [used] * 4, [folder] * 4, TEXTS))
    assert found == TEXTS


def test_dask(used, folder):
    dask = pytest.importorskip('dask')
    tasks = [dask.delayed(used.rank)(folder, text, by='image') for text in TEXTS]
    found = dask.compute(*tasks, scheduler='threads', num_workers=2)
    assert [Path(table['filename'][0]).stem for table in found] == TEXTS


def test_a_function_that_holds_it_can_be_sent(used, folder):
    cloudpickle = pytest.importorskip('cloudpickle')
    sent = pickle.loads(cloudpickle.dumps(lambda text: best(used, folder, text)))
    assert sent('blue') == 'blue'


def test_filters_of_warnings_stay_as_they_are(tmp_path, folder):
    """
    Two threads rank folders, tables in files and images in memory at once.
    """
    names = sorted(str(path) for path in folder.iterdir())
    Table({'filename': np.array(names)}).write(tmp_path / 'table.fits')

    def work(name):
        search = ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / name)
        for _ in range(5):
            for results in (folder, tmp_path / 'table.fits', [picture('red'), picture('blue')]):
                assert best_of(search.rank(results, 'red', image_dir=folder)) == 'OK'

    before = list(warnings.filters)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, 'ab'))
    assert warnings.filters == before


def best_of(table):
    return table['clip_status'][0]
