# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The benchmarks: what they conclude from numbers, not the numbers.
"""

import json
import tomllib

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from benchmarks import __main__ as command
from benchmarks import guard, hardware, report
from benchmarks.comparison import ROOT, Comparison, Skipped, interleave, setting


def test_less_is_better_with_a_bound():
    slow = Comparison('ours', [3, 2, 4], 'theirs', [2, 2, 2], bound=1.4)
    assert slow.value == 1.5
    assert slow.spread == (1, 2)
    assert (slow.good, slow.verdict, slow.target) == (False, 'MISSED', 'at most 1.4x')
    slow.bound = 1.5
    assert (slow.good, slow.verdict) == (True, 'good')


def test_more_is_better_with_a_floor():
    fast = Comparison('ours', [1, 2, 1], 'theirs', [6, 6, 5], floor=5)
    assert fast.value == 6
    assert fast.spread == (3, 6)
    assert fast.good
    assert fast.shown == '6x as fast'
    rate = Comparison('images', [200.0], floor=300, unit='images/s')
    assert (rate.good, rate.target) == (False, 'at least 300 images/s')


def test_what_is_only_to_be_known_has_no_verdict():
    for known in (Comparison('ours', [9], 'theirs', [1]),
                  Comparison('ours', [9], 'theirs', [1], floor=0)):
        assert (known.good, known.verdict, known.target) == (True, '', '')


def test_each_round_begins_with_another():
    calls = []
    found = interleave({name: lambda name=name: calls.append(name) or len(calls)
                        for name in 'abc'}, 2)
    assert ''.join(calls) == 'abcbcacab'
    assert found == {'a': [6, 8], 'b': [4, 9], 'c': [5, 7]}  # without the first round


@pytest.fixture
def bench(monkeypatch):
    """Benchmarks with made-up numbers."""
    def compare_quick(_repeats):
        return [Comparison('quick', [0.5, 0.6], 'peer', [1.0, 1.0], bound=1, notes=['a note'],
                           group='Both'), Comparison('known', [3], unit='GB/s', floor=0)]

    def compare_slow(_repeats):
        return [Comparison('slow', [2.0], 'peer', [1.0], bound=1)]

    def compare_absent(_repeats):
        raise Skipped('needs torch')

    for compare in (compare_quick, compare_slow, compare_absent):
        compare.__module__ = report.__name__
        monkeypatch.setitem(command.BENCHMARKS, compare.__name__[8:], compare)
    for name in ('device', 'threads', 'cpu_time'):
        monkeypatch.setattr(setting, name, getattr(setting, name))


@pytest.mark.usefixtures('bench')
def test_command_counts_what_was_missed(capsys):
    assert command.main(['quick', 'absent']) == 0
    assert command.main(['quick', 'slow']) == 1
    shown = capsys.readouterr().out
    assert 'absent not measured: needs torch' in shown
    assert 'a note' in shown
    assert 'MISSED' in shown


@pytest.mark.usefixtures('bench')
def test_command_writes_tables_and_keeps_those_of_others(tmp_path):
    path = tmp_path / 'table.inc'
    command.main(['quick', '--write', str(path), '--repeats', '2'])
    command.main(['slow', '--write', str(path)])
    kept = json.loads(path.with_suffix('.json').read_text())
    assert list(kept) == ['quick', 'slow']
    assert kept['quick']['comparisons'][0]['ours'] == [0.5, 0.6]
    text = path.read_text()
    assert '``python -m benchmarks quick --repeats 2``' in text  # without paths of this machine
    assert '* - quick (550 ms)' in text
    assert '- 0.55x' in text
    assert '- at most 1x: good' in text
    assert '- at most 1x: MISSED' in text
    parse(text)


def parse(text):
    """Fail if it is no clean reStructuredText."""
    core = pytest.importorskip('docutils.core')
    core.publish_doctree(text, settings_overrides={'halt_level': 2, 'report_level': 2})


def test_requirements_name_all_that_the_package_needs():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    listed = (ROOT / 'benchmarks/requirements.txt').read_text(encoding='utf-8')
    needed = [line for line in project['dependencies'] if not line.startswith('onnxruntime')]
    assert listed.partition('# As in pyproject.toml.')[2].split() == needed


def test_guard_sees_a_preview_decoded_whole(monkeypatch):
    assert guard.jpeg(2).good
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, 'draft', lambda *_: None)
    monkeypatch.setattr(Image.Image, 'reduce', lambda image, *_: image.resize((600, 600)))
    assert not guard.jpeg(2).good


@pytest.mark.parametrize('precision', ['fp32', 'int8'])
def test_products_are_timed(precision):
    took, library = hardware.product_seconds((8, 16, 32), precision, 1)
    assert 0 < took < 1
    assert library in ('ONNX Runtime', 'torch', 'OpenVINO')


def test_bandwidth_is_that_of_sets_of_the_size(monkeypatch):
    monkeypatch.setattr(hardware, '_bandwidths', lambda _: (64.0, 32.0, 16.0, 8.0, 4.0, 2.0))
    assert hardware.bandwidth(2**20, 1) == hardware.bandwidth(1, 1) == 64
    assert hardware.bandwidth(2**22, 1) == pytest.approx(32)
    assert 16 < hardware.bandwidth(2**23, 1) < 32
    assert hardware.bandwidth(2**40, 1) == 2


def test_layers_of_a_graph_are_counted(tmp_path, monkeypatch):
    onnx = pytest.importorskip('onnx')
    from benchmarks.bench_roofline import limit
    from benchmarks.graphs import layers, profile

    helper = onnx.helper
    weights = {'stem': (8, 3, 3, 3), 'depthwise': (8, 1, 3, 3), 'pointwise': (16, 8, 1, 1),
               'head': (16, 4)}
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node('Conv', ['x', 'stem'], ['a'], name='stem', pads=[1] * 4),
         helper.make_node('Relu', ['a'], ['b'], name='relu'),
         helper.make_node('Conv', ['b', 'depthwise'], ['c'], name='depthwise', group=8,
                          pads=[1] * 4),
         helper.make_node('Conv', ['c', 'pointwise'], ['d'], name='pointwise'),
         helper.make_node('ReduceMean', ['d'], ['e'], name='mean', axes=[2, 3], keepdims=0),
         helper.make_node('MatMul', ['e', 'head'], ['y'], name='head')], 'tower',
        [helper.make_tensor_value_info('x', kind, ['batch', 3, 6, 6])],
        [helper.make_tensor_value_info('y', kind, ['batch', 4])],
        [onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
         for name, shape in weights.items()])
    path = tmp_path / 'tower.onnx'
    onnx.save(helper.make_model(graph, ir_version=8,
                                opset_imports=[helper.make_opsetid('', 17)]), path)
    once, many = (layers(path, {'x': np.zeros((n, 3, 6, 6), np.float32)}) for n in (1, 2))
    assert [layer.kind for layer in many] == ['convolution', 'depthwise', 'product', 'product']
    assert [layer.flops for layer in many] == [2 * 2 * 36 * 8 * 27, 2 * 2 * 36 * 8 * 9,
                                               2 * 2 * 36 * 16 * 8, 2 * 2 * 16 * 4]
    assert [layer.shape for layer in many] == [(72, 8, 27), None, (72, 16, 8), (2, 4, 16)]
    assert many[3].n_bytes == 4 * (2 * 16 + 16 * 4 + 2 * 4)

    # A machine that makes ten operations, and moves four bytes, a second.
    monkeypatch.setattr('benchmarks.bench_roofline.product_seconds',
                        lambda shape, *_: (2 * np.prod(shape, dtype=float) / 10, 'by hand'))
    monkeypatch.setattr('benchmarks.bench_roofline.bandwidth', lambda *_: 4)
    least = limit(once, many, 2, 1)
    assert least[0] == 2 * 36 * 8 * 27 / 10  # as long for each of two images as for one
    assert least[3] == many[3].n_bytes / 4 / 2  # which share the weights

    assert sum(took for _, _, took in profile(path, {'x': np.zeros((1, 3, 6, 6), np.float32)},
                                              1, runs=2)) > 0
