# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Of a model of the hub exactly what is needed is fetched, and what is here works without a network.
"""

import json
import re

import numpy as np
import onnx
import pytest
from huggingface_hub import constants, file_download, utils

from astroclip_search import ClipSearchClass, conf, diagnostics
from astroclip_search.cli import main
from astroclip_search.exceptions import BundleError
from astroclip_search.models import bundle as bundle_module
from astroclip_search.models import encoder as encoder_module
from astroclip_search.models.bundle import cached_models, open_bundle
from astroclip_search.models.encoder import Encoder
from tests import tiny
from tests.loopback.hub import Hub, contents

NAME = 'owner/clip'
DESCRIPTION = ['README.md', 'config.json', 'golden.npz', 'preprocessor_config.json',
               'tokenizer.json', 'tokenizer_config.json']
OURS = sorted([*DESCRIPTION, 'astroclip.json', 'background.npz'])
RED = np.full((1, tiny.SIZE, tiny.SIZE, 3), [255, 0, 0], np.uint8)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """A model of others in three variants of different content, among much else."""
    path = tiny.write_bundle(tmp_path_factory.mktemp('hub') / 'model', background=False)
    (path / 'astroclip.json').unlink()
    tiny.write_vision_tower(path, suffix='_fp16', kind='float16')
    tiny.write_vision_tower(path, suffix='_quantized', kind='uint8')
    tiny.write_text_tower(path, suffix='_fp16', kind='int32')
    tiny.write_text_tower(path, suffix='_quantized', outputs=('text_embeds',))
    return contents(path) | {
        'README.md': b'# clip', 'golden.npz': b'of the same name',
        'onnx/model.onnx': b'both towers in one', 'onnx/vision_model_q4.onnx': b'other bits',
        'model.safetensors': b'weights of others', 'pytorch_model.bin': b'a pickle'}


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Start a `Hub`, which the client asks, with an empty cache."""
    started = []

    def start(files):
        hub = Hub(files, NAME)
        started.append(hub)
        monkeypatch.setattr(constants, 'ENDPOINT', hub.url)
        for module in (constants, file_download):  # early versions have a copy
            monkeypatch.setattr(module, 'HUGGINGFACE_CO_URL_TEMPLATE',
                                hub.url + '/{repo_id}/resolve/{revision}/{filename}',
                                raising=False)
        forget_sessions()
        return hub

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True, raising=False)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(bundle_module, 'EMBEDDED', tmp_path / 'none')
    yield start
    for hub in started:
        hub.close()
    forget_sessions()
    open_bundle.cache_clear()


def forget_sessions():
    """Early versions of the client read its settings when a session begins."""
    getattr(utils, 'reset_sessions', lambda: None)()


def again(**options):
    """An encoder as in a new process."""
    open_bundle.cache_clear()
    return Encoder(open_bundle(NAME, **options), device='cpu')


def files_of(encoder):
    return [encoder.bundle.onnx_file(tower, 'cpu').name for tower in ('vision', 'text')]


def sealed(tmp_path, **more):
    """A model of ours as it is uploaded: all that its description lists."""
    path = tiny.write_bundle(tmp_path / 'ours')
    encoder = Encoder(open_bundle(str(path)), device='cpu')
    known = {'pixels': RED, 'texts': ['red'], 'image_embeds': encoder.encode_images(RED),
             'text_embeds': encoder.encode_text(['red']),
             'sentence_embeds': encoder.encode_metadata(['red'])}
    np.savez(path / 'golden.npz', **known)
    (path / 'README.md').write_text('# tiny')
    tiny.write_vision_tower(path, suffix='_quantized', kind='uint8')
    tiny.seal(path)
    return contents(path) | more


@pytest.fixture(params=['no network', 'told so'])
def leave(request, monkeypatch):
    """Leave the network, or tell the client that there is none."""
    def leave(hub):
        if request.param == 'told so':
            monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
            forget_sessions()
        else:
            hub.close()
        hub.asked.clear()

    return leave


def test_a_tower_is_fetched_when_it_is_first_needed(serve, model):
    hub = serve(model)
    encoder = again()
    assert hub.sent() == DESCRIPTION
    assert encoder.bundle.revision == hub.commit[:12]
    words = encoder.encode_text(['red'])
    assert hub.sent() == ['onnx/text_model_quantized.onnx']
    np.testing.assert_allclose(encoder.encode_images(RED) @ words.T, 1, atol=1e-6)
    assert hub.sent() == ['onnx/vision_model_quantized.onnx']
    again().open()
    assert hub.sent() == []


@pytest.mark.parametrize(('variant', 'suffix'), [('fp32', ''), ('fp16', '_fp16')])
def test_no_other_variant_than_the_one_that_is_wanted(serve, model, variant, suffix):
    hub = serve(model)
    with conf.set_temp('model_variant', variant):
        encoder = ClipSearchClass(model=NAME, device='cpu').session.encoder()
    assert hub.sent() == DESCRIPTION
    encoder.open()
    assert hub.sent() == [f'onnx/text_model{suffix}.onnx', f'onnx/vision_model{suffix}.onnx']
    assert encoder.bundle.revision == f'{hub.commit[:12]}-{variant}'


def test_a_variant_that_the_repository_does_not_have(serve, model):
    hub = serve({name: model[name] for name in model if 'fp16' not in name})
    bundle = again().bundle.of_variant('fp16')
    with pytest.raises(BundleError, match=r'no text tower of the variant fp16 \(it has '
                                          r'text_model.onnx, text_model_quantized.onnx\)'):
        bundle.onnx_file('text', 'cpu')
    assert hub.sent() == DESCRIPTION


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_the_next_best_of_what_the_repository_has(serve, model, device):
    hub = serve({name: model[name] for name in model
                 if not name.endswith(('_fp16.onnx', '_quantized.onnx'))})
    assert again().bundle.onnx_file('text', device).name == 'text_model.onnx'
    assert hub.sent() == sorted([*DESCRIPTION, 'onnx/text_model.onnx'])


def test_a_repository_without_towers(serve, model):
    serve({name: model[name] for name in model if 'vision' not in name})
    with pytest.raises(BundleError, match=r'has no onnx/vision_model\*.onnx'):
        again().open()


def test_a_file_for_the_gpu_is_followed_by_the_one_for_the_cpu(serve, model, monkeypatch):
    """
    A driver whose libraries are missing; where they are not, the first file is right.
    """
    hub = serve(model)
    monkeypatch.setattr(encoder_module, 'has_driver', lambda: True)
    open_bundle.cache_clear()
    encoder = Encoder(open_bundle(NAME), device='auto')
    hub.sent()
    expected = ['onnx/vision_model_fp16.onnx']
    if encoder.device == 'cpu':
        expected.append('onnx/vision_model_quantized.onnx')
    assert hub.sent() == expected


# ---- without a network -------------------------------------------------------------------


def test_what_is_here_works_without_a_network(serve, model, leave):
    hub = serve(model)
    encoder = again()
    encoder.open()
    leave(hub)
    offline = again()
    assert offline.bundle.revision == encoder.bundle.revision
    np.testing.assert_array_equal(offline.encode_images(RED), encoder.encode_images(RED))
    assert offline.encode_text(['red']).shape == (1, 3)
    with pytest.raises(BundleError, match=r"The model 'owner/clip' is incomplete on this machine: "
                       r'onnx/text_model_fp16.onnx could not be had from the Hugging Face hub '
                       r'\(\w+\)\.$'):
        offline.bundle.of_variant('fp16').onnx_file('text', 'cpu')
    assert hub.asked == []


@pytest.mark.parametrize('ours', [False, True])
def test_another_variant_is_better_than_none(serve, model, tmp_path, ours, leave):
    hub = serve(sealed(tmp_path) if ours else model)
    bundle = again().bundle
    for variant in ('fp32',) if ours else ('fp32', 'fp16'):
        bundle.of_variant(variant).onnx_file('vision', 'cpu')
    leave(hub)
    assert again().bundle.onnx_file('vision', 'cpu').name == 'vision_model.onnx'
    with pytest.raises(BundleError, match=r'onnx/text_model.*onnx could not be had'):
        again().bundle.onnx_file('text', 'cpu')


def test_a_model_that_was_never_here(serve, model, leave):
    leave(serve(model))
    with pytest.raises(BundleError, match=r"'owner/clip' is neither .* Hugging Face hub \(\w+\)"):
        again()


# ---- downloads that end early ------------------------------------------------------------


def test_half_a_tower_does_not_count(serve, model):
    hub = serve(model)
    hub.cut = {'onnx/vision_model_quantized.onnx'}
    encoder = again()
    for _ in range(2):
        with pytest.raises(BundleError, match=r'onnx/vision_model_quantized\.onnx could not'):
            encoder.open()
    hub.cut.clear()
    encoder.open()
    hub.close()
    assert files_of(again()) == ['vision_model_quantized.onnx', 'text_model_quantized.onnx']


@pytest.mark.parametrize('cut', ['tokenizer_config.json', 'preprocessor_config.json'])
def test_half_a_description_does_not_count(serve, model, cut):
    hub = serve(model)
    hub.cut = {cut}
    for leave in (hub.asked.clear, hub.close):
        leave()
        with pytest.raises(BundleError, match=r'could (it|not) be had'):
            again()


def test_a_change_of_the_repository_sends_what_has_changed(serve, model):
    hub = serve(model)
    again().open()
    old = hub.commit
    hub.files['config.json'] = b'{"model_type": "clip"}'
    hub.sent()
    encoder = again()
    encoder.open()
    assert hub.sent() == ['config.json']
    assert encoder.bundle.revision == hub.commit[:12] != old[:12]
    earlier = again(revision=old)
    assert earlier.bundle.context_length == 6
    earlier.open()
    assert hub.sent() == []


def test_a_tower_is_of_the_commit_that_was_opened(serve, model):
    hub = serve(model)
    bundle = again().bundle
    hub.files['onnx/text_model_quantized.onnx'] = b'another'
    assert bundle.onnx_file('text', 'cpu').read_bytes() == model['onnx/text_model_quantized.onnx']


def test_a_description_without_checksums_does_not_identify_the_weights(serve, model):
    hub = serve(model | {'astroclip.json': b'{"name": "mine"}'})
    bundle = again().bundle
    assert (bundle.name, bundle.revision) == ('mine', hub.commit[:12])


# ---- our own models ----------------------------------------------------------------------


def test_a_model_of_ours_as_it_was_uploaded(serve, tmp_path, monkeypatch):
    hub = serve(sealed(tmp_path))
    encoder = again()
    assert hub.sent() == OURS
    local = open_bundle(str(tmp_path / 'ours'))
    assert encoder.bundle.revision == local.revision, 'the same model, wherever it is'
    assert encoder.bundle.background.image.shape == (3, 3)
    encoder.open()
    assert hub.sent() == ['onnx/text_model.onnx', 'onnx/vision_model_quantized.onnx']
    monkeypatch.setattr(diagnostics, '_SECONDS', 0)
    with conf.set_temp('model_variant', 'fp32'):
        report = diagnostics.selftest(NAME, device='cpu')
    assert report['ok']
    assert hub.sent() == ['onnx/vision_model.onnx']
    [variant] = report['variants']
    assert variant['variant'] == 'float32'
    assert min(variant[kind] for kind in ('image', 'text', 'metadata')) > 0.9999
    assert f'{len(OURS) - 1} files with the right sha256' in report['checks'][0]['detail']


def test_a_file_of_a_name_that_is_not_known(serve, tmp_path):
    """
    Where the description lists it, it is fetched and compared too.
    """
    hub = serve(sealed(tmp_path, **{'vocab.txt': b'red green blue'}))
    info = json.loads(hub.files['astroclip.json'])
    for name, said in (('vocab.txt', 'the sha256 of vocab.txt is not'),
                       ('LICENCE.txt', 'LICENCE.txt is missing')):
        info['files'] = {name: '0' * 64, **info['files']}
        hub.files['astroclip.json'] = json.dumps(info).encode()
        with pytest.raises(BundleError, match=re.escape(said)):
            again()


@pytest.mark.parametrize('altered', ['golden.npz', 'onnx/vision_model_quantized.onnx'])
def test_an_altered_file_is_refused_when_it_is_fetched(serve, tmp_path, monkeypatch, altered):
    hub = serve(sealed(tmp_path))
    hub.files[altered] += b'\0'
    with pytest.raises(BundleError, match=f"'owner/clip' is corrupt: the sha256 of {altered} is"):
        again().open()
    monkeypatch.setattr(diagnostics, '_SECONDS', 0)
    assert not diagnostics.selftest(NAME, device='cpu')['ok']


def test_files_that_are_not_listed_are_not_taken(serve, tmp_path):
    """
    Such as those of an earlier version: an upload leaves them where they are.
    """
    stray = 'onnx/text_model_quantized.onnx'
    hub = serve(sealed(tmp_path, **{stray: b'earlier', 'onnx/text_model.onnx_data': b'earlier'}))
    encoder = again()
    hub.sent()
    assert files_of(encoder) == ['vision_model_quantized.onnx', 'text_model.onnx']
    assert hub.sent() == ['onnx/text_model.onnx', 'onnx/vision_model_quantized.onnx']
    (encoder.bundle.path / stray).write_bytes(b'fetched by other means')
    assert files_of(again())[1] == 'text_model.onnx'
    assert diagnostics.selftest(NAME, device='cpu')['ok']


# ---- weights in files of their own -------------------------------------------------------


@pytest.mark.parametrize(('ours', 'ending'), [(False, '.onnx_data'), (True, '.onnx.data')])
def test_weights_beside_a_tower_come_with_it(serve, tmp_path, ours, ending):
    path = tiny.write_bundle(tmp_path / 'model')
    tower, weights = path / 'onnx' / 'vision_model.onnx', f'vision_model{ending}'
    onnx.save(onnx.load(tower), tower, save_as_external_data=True, location=weights,
              size_threshold=60)
    assert (path / 'onnx' / weights).stat().st_size
    tiny.seal(path)
    if not ours:
        (path / 'astroclip.json').unlink()
        before = open_bundle(str(path)).revision
    hub = serve(contents(path))
    encoder = again()
    assert 'onnx/' not in ''.join(hub.sent())
    hub.cut = {f'onnx/{weights}'}
    with pytest.raises(BundleError, match=r'onnx/vision_model\S*\.onnx could not be had'):
        encoder.encode_images(RED)
    hub.cut.clear()
    hub.sent()
    vectors = encoder.encode_images(RED)
    assert hub.sent() == ['onnx/vision_model.onnx', f'onnx/{weights}']
    hub.close()
    np.testing.assert_array_equal(again().encode_images(RED), vectors)
    content = bytearray((path / 'onnx' / weights).read_bytes())
    content[0] ^= 1
    if ours:
        cached = encoder.bundle.path / 'onnx' / weights
        cached.write_bytes(content)
        with pytest.raises(BundleError, match=f'the sha256 of onnx/{weights} is not'):
            again().open()
    else:
        (path / 'onnx' / weights).write_bytes(content)
        open_bundle.cache_clear()
        assert open_bundle(str(path)).revision != before, 'other weights must not share a cache'


# ---- command line ------------------------------------------------------------------------


def test_models_download_leaves_nothing_to_be_fetched(serve, model, capsys, monkeypatch):
    hub = serve(model)
    monkeypatch.setattr(conf, 'device', 'cpu')
    again()
    assert main(['models']) == 1, 'no model yet: it has no towers'
    capsys.readouterr()
    hub.sent()
    towers = ['vision_model_quantized.onnx', 'text_model_quantized.onnx']
    assert main(['models', 'download', NAME, '--json']) == 0
    said = json.loads(capsys.readouterr().out)
    assert hub.sent() == sorted(f'onnx/{tower}' for tower in towers)
    size = sum(len(model[name]) for name in [*DESCRIPTION, *(f'onnx/{tower}' for tower in towers)])
    assert said == {'model': NAME, 'revision': hub.commit[:12], 'device': 'cpu', 'towers': towers,
                    'path': str(cached_models()[0][1]), 'bytes': size}
    hub.close()
    assert main(['models', 'download', NAME]) == 0
    assert f'towers {" ".join(towers)}\nsize 0.0 MB\n' in capsys.readouterr().out
    assert main(['models', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['rows'][0]['model'] == NAME
    assert again().encode_text(['red']).shape == (1, 3)


def test_models_download_of_what_cannot_be_opened(serve, model, capsys):
    serve(model | {'onnx/text_model_quantized.onnx': b'no model'})
    with conf.set_temp('device', 'cpu'):
        assert main(['models', 'download', NAME]) == 2
    assert 'text_model_quantized.onnx cannot be opened' in capsys.readouterr().err
