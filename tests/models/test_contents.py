# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Of a model only what its list names is opened, what is opened is what was compared, and weights lie
in its folder.
"""

import contextlib
import json
import os
import shutil

import numpy as np
import onnx
import onnx.onnx_ml_pb2 as messages
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search import ClipSearchClass
from astroclip_search.exceptions import BundleError
from astroclip_search.models import contents as contents_module
from astroclip_search.models import runtime as runtime_module
from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.contents import Contents, external_files
from astroclip_search.models.encoder import Encoder
from tests import tiny

RED = np.full((1, tiny.SIZE, tiny.SIZE, 3), [255, 0, 0], np.uint8)
VISION, TEXT = 'onnx/vision_model.onnx', 'onnx/text_model.onnx'


@pytest.fixture
def path(tmp_path):
    yield tiny.write_bundle(tmp_path / 'model')
    open_bundle.cache_clear()


def opened(path):
    open_bundle.cache_clear()
    return Encoder(open_bundle(str(path)), device='cpu')


def unlist(path, *files):
    """Take files out of the list."""
    info = json.loads((path / 'astroclip.json').read_text())
    info['files'] = {file: info['files'][file] for file in info['files'] if file not in files}
    (path / 'astroclip.json').write_text(json.dumps(info))


def split(path, location, tower='vision'):
    """Move the weights of a tower into a file of their own."""
    file = path / 'onnx' / f'{tower}_model.onnx'
    onnx.save(onnx.load(file), file, save_as_external_data=True, location=location,
              size_threshold=60)  # not the axes, which the runtime wants at once
    assert (path / 'onnx' / location).stat().st_size


# ---- the list ----------------------------------------------------------------------------


@pytest.mark.parametrize(('file', 'said'), [
    (VISION, r'no onnx/vision_model\*.onnx'), (TEXT, r'no onnx/text_model\*.onnx'),
    ('tokenizer.json', 'no tokenizer.json'),
    ('preprocessor_config.json', 'does not list preprocessor_config.json')])
def test_a_file_that_is_not_listed_is_not_there(path, file, said):
    unlist(path, file)
    with pytest.raises(BundleError, match=said):
        opened(path).open()


def test_a_tower_beside_the_list_is_not_preferred(path):
    (path / 'onnx' / 'vision_model_quantized.onnx').write_bytes(b'must not be opened')
    assert opened(path).encode_images(RED).shape == (1, 3)


@pytest.mark.parametrize(('file', 'content', 'reads'), [
    ('config.json', '{"model_type": "siglip"}', lambda bundle: bundle.padding),
    ('tokenizer_config.json', '{"model_max_length": 3}', lambda bundle: bundle.context_length == 3),
    ('background.npz', 'nothing', lambda bundle: bundle.background.image is not None)])
def test_a_description_that_is_not_listed_says_nothing(path, file, content, reads):
    unlist(path, file)
    (path / file).write_text(content)
    assert not reads(opened(path).bundle)


@pytest.mark.parametrize('file', [TEXT, VISION, 'tokenizer.json', 'background.npz'])
def test_a_file_that_is_exchanged_later_is_not_used(path, file):
    encoder = opened(path)
    shutil.copyfile(path / 'config.json', path / file)
    with pytest.raises(BundleError, match=f'is corrupt: the sha256 of {file}'):
        encoder.encode_text(['red']), encoder.encode_images(RED), encoder.bundle.background


@pytest.mark.parametrize('weights', [False, True])
def test_what_is_opened_is_what_was_compared(path, monkeypatch, weights):
    """
    The file is exchanged right after it was compared.
    """
    if weights:
        split(path, 'vision_model.onnx_data')
        tiny.seal(path)
    expected = opened(path).encode_images(RED)
    compare = Contents._compare

    def exchange(self, file, found):
        compare(self, file, found)
        if file.startswith('onnx/'):
            (path / file).write_bytes(b'something else')

    encoder = opened(path)
    monkeypatch.setattr(Contents, '_compare', exchange)
    np.testing.assert_array_equal(encoder.encode_images(RED), expected)
    assert (path / VISION).read_bytes() == b'something else'


def test_an_early_runtime_gets_weights_in_a_folder_of_its_own(path, monkeypatch):
    (path / 'onnx' / 'parts').mkdir()
    split(path, 'parts/vision.bin')
    tiny.seal(path)
    expected = opened(path).encode_images(RED)
    session = runtime_module.runtime().InferenceSession
    given = []

    class Options(runtime_module.runtime().SessionOptions):
        add_external_initializers_from_files_in_memory = None

    monkeypatch.setattr(runtime_module.runtime(), 'SessionOptions', Options)
    monkeypatch.setattr(runtime_module.runtime(), 'InferenceSession', lambda model, *args, **more: (
        given.append(model), session(model, *args, **more))[1])
    np.testing.assert_array_equal(opened(path).encode_images(RED), expected)
    assert given[0].endswith('model.onnx')
    assert str(path) not in given[0]
    assert not os.path.exists(given[0])


@pytest.mark.parametrize('listed', [False, True])
def test_weights_that_are_not_listed_are_not_read(path, listed):
    split(path, 'weights.bin')
    tiny.seal(path)
    if not listed:
        unlist(path, 'onnx/weights.bin')
        with pytest.raises(BundleError, match=r"keeps weights in 'weights\.bin', which astroclip"):
            opened(path).encode_images(RED)
    else:
        assert opened(path).encode_images(RED).shape == (1, 3)


def test_a_listed_pipe_is_not_waited_for(path):
    if not hasattr(os, 'mkfifo'):
        pytest.skip('this system has no pipes with names')
    (path / VISION).unlink()
    os.mkfifo(path / VISION)
    with pytest.raises(BundleError, match=r'vision_model\.onnx (is missing|cannot be read .*pipe)'):
        opened(path).encode_images(RED)


# ---- without a list ----------------------------------------------------------------------


def moved_out(path, outside, location):
    """A model of others whose weights lie elsewhere."""
    split(path, 'weights.bin')
    (path / 'astroclip.json').unlink()
    shutil.move(path / 'onnx' / 'weights.bin', outside)
    file = path / VISION
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == 'location':
                entry.value = location
    file.write_bytes(model.SerializeToString())


@pytest.mark.parametrize('location', ['../../outside.bin', '{outside}', 'weights.bin'])
def test_weights_outside_of_the_folder_are_not_read(path, tmp_path, location):
    outside = tmp_path / 'outside.bin'
    location = location.format(outside=outside)
    moved_out(path, outside, location)
    if location == 'weights.bin':
        (path / 'onnx' / location).symlink_to(outside)
    with pytest.raises(BundleError, match='keeps weights outside of its directory'):
        opened(path).encode_images(RED)


def test_links_of_the_hub_client_lead_to_its_contents(tmp_path):
    repository = tmp_path / 'models--owner--clip'
    path = tiny.write_bundle(repository / 'snapshots' / ('a' * 40))
    split(path, 'vision_model.onnx_data')
    (path / 'astroclip.json').unlink()
    (repository / 'blobs').mkdir()
    for name in (VISION, f'{VISION}_data'):
        blob = repository / 'blobs' / name.replace('/', '-')
        shutil.move(path / name, blob)
        (path / name).symlink_to(blob)
    assert opened(path).encode_images(RED).shape == (1, 3)
    open_bundle.cache_clear()


# ---- where an ONNX file says that tensors are ----------------------------------------------


def test_the_fields_are_those_of_onnx():
    for kind, fields in contents_module._MESSAGES.items():
        known = {field.number: field.message_type.name.removesuffix('Proto')
                 for field in getattr(messages, f'{kind}Proto').DESCRIPTOR.fields
                 if field.message_type is not None}
        inner = {number: name for number, name in known.items()
                 if name in contents_module._MESSAGES}
        if kind == 'Tensor':
            inner[13] = 'StringStringEntry'
        assert fields.items() >= inner.items()
        assert fields.items() <= known.items()


def elsewhere(location):
    tensor = onnx.TensorProto(name='weight', data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key='offset', value='0')
    tensor.external_data.add(key='location', value=location)
    return tensor


def test_tensors_are_found_wherever_they_stand():
    model, inner = onnx.ModelProto(), onnx.GraphProto()
    model.graph.initializer.append(elsewhere('1'))
    inner.initializer.append(elsewhere('2'))
    inner.sparse_initializer.add().values.CopyFrom(elsewhere('3'))
    node = model.graph.node.add(op_type='If')
    node.attribute.add(name='then_branch').g.CopyFrom(inner)
    node.attribute.add(name='value').t.CopyFrom(elsewhere('4'))
    node.attribute.add(name='values').tensors.append(elsewhere('5'))
    function = model.functions.add(name='f').node.add(op_type='Constant')
    function.attribute.add(name='value').sparse_tensor.indices.CopyFrom(elsewhere('6'))
    model.training_info.add().initialization.initializer.append(elsewhere('7'))
    node.doc_string = 'location'
    assert external_files(model.SerializeToString()) == set('1234567')


def test_a_model_without_them_names_none(path):
    assert external_files((path / VISION).read_bytes()) == set()


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_bytes_are_more_than_an_error(content, cut):
    model = onnx.ModelProto()
    model.graph.initializer.append(elsewhere('weights.bin'))
    whole = model.SerializeToString()
    for damaged in (content + b'location', whole[:cut] + content + whole[cut:]):
        with contextlib.suppress(ValueError):
            assert all(isinstance(name, str) for name in external_files(damaged))


# ---- numbers that make no sense ------------------------------------------------------------


@pytest.mark.parametrize(('file', 'changes'), [
    ('config.json', {'text_config': {'max_position_embeddings': -3}}),
    ('config.json', {'text_config': {'max_position_embeddings': float('nan')}}),
    ('preprocessor_config.json', {'size': {'shortest_edge': 10**9}, 'crop_size': 8,
                                  'do_center_crop': True}),
    ('preprocessor_config.json', {'image_std': [0, 1, 1]}),
    ('preprocessor_config.json', {'image_mean': [float('inf'), 1, 1]}),
    ('tokenizer_config.json', {'pad_token': 3}),
    ('astroclip.json', {'embedding_dim': 10**12}), ('astroclip.json', {'embedding_dim': '3'}),
    ('astroclip.json', {'name': 'red\x1b[31m'}), ('astroclip.json', {'name': ['red']}),
    ('astroclip.json', {'prompt_templates': ['{}'] * 10_000}),
    ('astroclip.json', {'prompt_templates': ['{}' * 10_000]}),
    ('astroclip.json', {'prompt_templates': []}),
    ('astroclip.json', {'ranking': {'image_weight': float('nan'), 'text_weight': 1}})])
def test_a_description_is_bounded(path, file, changes):
    content = json.loads((path / file).read_text()) | changes
    (path / file).write_text(json.dumps(content))
    if file != 'astroclip.json':
        tiny.seal(path)
    with pytest.raises(BundleError, match=r'description of the model .* makes no sense'):
        open_bundle(str(path))


def test_reference_images_that_would_fill_the_memory(path, monkeypatch):
    monkeypatch.setattr('astroclip_search.models.background._MOST', 100)
    with pytest.raises(BundleError, match=r'background.npz .*\(arrays of \d+ bytes\)'):
        _ = opened(path).bundle.background


def test_a_file_that_is_too_large(path, monkeypatch):
    monkeypatch.setitem(contents_module._LIMITS, '.onnx', 100)
    with pytest.raises(BundleError, match=r'vision_model\.onnx has more than 100 bytes'):
        opened(path).encode_images(RED)


def test_a_cached_model_that_cannot_be_read_is_listed(path, monkeypatch):
    (path / 'astroclip.json').write_text('{"name": ' * 2000)
    monkeypatch.setattr('astroclip_search.models.bundle.EMBEDDED', path)
    row, = (row for row in ClipSearchClass().list_models() if row['model'] == 'default')
    assert row['name'] == ''
