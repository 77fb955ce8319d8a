"""Pairs of squares and their colours, written once; one thread for torch."""

import pytest

from tests.export.finetuning.squares import write_shards


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pairs')
    write_shards(folder / 'train', proposals=36, first=0)
    write_shards(folder / 'validation', proposals=36, first=100)
    return folder


@pytest.fixture(autouse=True)
def _one_thread():
    torch = pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
