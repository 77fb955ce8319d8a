# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Towers: opened in silence, run by several callers at once.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from astroclip_search.exceptions import EncoderError
from astroclip_search.models.runtime import IN_FLIGHT, n_cores, open_tower, runtime
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


def test_two_callers_get_what_one_gets(file):
    tower = open_tower(file, 'cpu', n_threads=4)
    batches = [batch(seed) for seed in range(20)]
    with ThreadPoolExecutor(IN_FLIGHT) as callers:
        found = list(callers.map(lambda pixels: run(tower, pixels), batches))
    for pixels, vectors in zip(batches, found, strict=True):
        np.testing.assert_array_equal(vectors, run(tower, pixels))


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / 'bad.onnx').write_bytes(b'no model')
    for device in ('cpu', 'cuda'):
        with pytest.raises(EncoderError, match=r'bad.onnx cannot be opened as an ONNX model'):
            open_tower(tmp_path / 'bad.onnx', device)
