# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Towers: opened in silence, run by several callers, replayed only where that gives the same.
"""

import logging
import os

import numpy as np
import pytest

from astroclip_search.exceptions import EncoderError
from astroclip_search.sessions import (
    IN_FLIGHT,
    Tower,
    _Replay,
    n_cores,
    open_tower,
    runtime,
)
from tests import tiny

SHAPE = (4, 3, tiny.SIZE, tiny.SIZE)


@pytest.fixture
def file(tmp_path):
    (tmp_path / 'onnx').mkdir()
    tiny.write_vision_tower(tmp_path)
    return tmp_path / 'onnx' / 'vision_model.onnx'


def batch(seed=1, n=SHAPE[0]):
    return np.random.default_rng(seed).random((n, *SHAPE[1:])).astype(np.float32)


def run(tower, pixels):
    return tower.run('image_embeds', {tower.inputs[0].name: pixels})


def test_a_tower_says_what_it_reads_and_gives(file):
    tower = open_tower(file, 'cpu')
    assert [tensor.name for tensor in tower.outputs] == ['image_embeds']
    assert tower.inputs[0].shape[1:] == list(SHAPE[1:])
    assert tower.device == 'cpu'


def test_all_callers_together_take_the_threads_that_were_given(file, monkeypatch):
    taken = []
    session = runtime().InferenceSession
    monkeypatch.setattr(runtime(), 'InferenceSession', lambda path, options, **others: (
        taken.append(options.intra_op_num_threads), session(path, options, **others))[1])
    for n_threads in (1, 2, 8):
        open_tower(file, 'cpu', n_threads=n_threads)
    assert taken == [1, 1, 9 - IN_FLIGHT]


def test_cores():
    assert 1 <= n_cores() <= os.cpu_count()


# ---- replayed batches: IOBinding is the same on a CPU, which only records nothing --------


@pytest.fixture
def tower(file):
    return Tower(runtime().InferenceSession(str(file), providers=['CPUExecutionProvider']),
                 n_replayed=SHAPE[0])


def test_replayed_batches_give_what_plain_ones_give(file, tower, monkeypatch):
    plain = open_tower(file, 'cpu')
    singly = []
    monkeypatch.setattr(_Replay, 'plain', lambda self, output, feed: (
        singly.append(len(*feed.values())), self._session.run([output], feed)[0])[1])
    for seed in range(3):
        np.testing.assert_allclose(run(tower, batch(seed)), run(plain, batch(seed)), rtol=1e-6)
    assert singly == [4], 'only the first one, to compare with'
    np.testing.assert_allclose(run(tower, batch(n=3)), run(plain, batch(n=3)), rtol=1e-6)
    assert singly == [4, 3], 'the last ones of a result'


def test_a_result_is_not_overwritten_by_the_next_batch(tower):
    run(tower, batch(0))
    first = run(tower, batch(1))
    kept = first.copy()
    run(tower, batch(2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize('fault', ['replays what was recorded', 'no memory'])
def test_what_replays_wrongly_is_not_replayed(file, tower, monkeypatch, caplog, fault):
    if fault == 'no memory':
        def refuse(*args):
            raise RuntimeError('CUDA out of\nmemory')
        monkeypatch.setattr(type(tower._session), 'io_binding', refuse)
    else:
        update, seen = runtime().OrtValue.update_inplace, set()
        monkeypatch.setattr(runtime().OrtValue, 'update_inplace', lambda self, data: (
            None if self in seen else update(self, data), seen.add(self)))
    plain = open_tower(file, 'cpu')
    with caplog.at_level(logging.INFO, 'astroclip_search'):
        for seed in range(2):
            np.testing.assert_array_equal(run(tower, batch(seed)), run(plain, batch(seed)))
    [record] = caplog.records
    assert record.getMessage().startswith('CUDA graphs are not used (')
    assert '\n' not in record.getMessage()


def test_a_gpu_that_refuses_graphs_is_asked_without_them(file, monkeypatch):
    """
    As it does where part of a model has to run on the CPU.
    """
    asked = []
    session = runtime().InferenceSession

    def refuse(path, options, providers, **others):
        asked.append(providers[0][1].get('enable_cuda_graph'))
        if asked[-1]:
            raise RuntimeError('not all nodes are on the GPU')
        return session(path, options, providers=['CPUExecutionProvider'])

    monkeypatch.setattr(runtime(), 'InferenceSession', refuse)
    tower = open_tower(file, 'cuda', n_replayed=SHAPE[0])
    assert asked == ['1', None]
    assert run(tower, batch()).shape == (4, 3)


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / 'bad.onnx').write_bytes(b'no model')
    for device in ('cpu', 'cuda'):
        with pytest.raises(EncoderError, match=r'bad.onnx cannot be opened as an ONNX model'):
            open_tower(tmp_path / 'bad.onnx', device, n_replayed=4)
