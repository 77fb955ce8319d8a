# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A model is verified before it is used, and what is wrong with it is said in one sentence.
"""

import json
import pickle
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from astroclip_search.exceptions import BundleError
from astroclip_search.images.preprocess import Preprocessing, resize
from astroclip_search.models import bundle as bundle_module
from astroclip_search.models.bundle import cached_models, open_bundle
from astroclip_search.models.contents import Contents
from tests import tiny

COMMIT = 'a' * 40
NORMALISED = {'image_mean': [0.5] * 3, 'image_std': [0.25] * 3}


@pytest.fixture
def path(tmp_path):
    yield tiny.write_bundle(tmp_path / 'model')
    open_bundle.cache_clear()


def refused(path, match, *, name=None):
    def use():
        bundle = open_bundle(str(name or path))
        return bundle.background, bundle.onnx_file('vision', 'cpu'), bundle.onnx_file('text', 'cpu')

    with pytest.raises(BundleError, match=match) as caught:
        use()
    message = str(caught.value)
    assert '\n' not in message
    assert message.endswith('.')


def change(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_good_bundle_says_all_that_is_needed(path):
    bundle = open_bundle(str(path))
    assert bundle.name == 'tiny'
    assert re.fullmatch('[0-9a-f]{12}', bundle.revision)
    assert bundle.context_length == 6  # transformers writes 1e30 for "no limit" into the tokenizer
    assert bundle.prompt_templates == ('{}', 'a {}')
    assert bundle.ranking_weights == (0.75, 0.5)
    assert bundle.words_above is None
    assert bundle.preprocessing == Preprocessing((8, 8), None, 3, (0.5,) * 3, (0.5,) * 3)
    assert bundle.onnx_file('vision', 'cpu') == path / 'onnx' / 'vision_model.onnx'
    assert open_bundle(str(path)) is bundle


def test_a_bundle_may_say_from_where_on_metadata_count(path):
    change(path / 'astroclip.json',
           ranking={'image_weight': 0.75, 'text_weight': 0.5, 'text_above': 1.5})
    assert open_bundle(str(path)).words_above == 1.5


def test_a_bundle_may_say_its_logit_scale(path):
    change(path / 'astroclip.json', logit_scale=31.5)
    assert open_bundle(str(path)).logit_scale == 31.5


def test_a_bundle_may_say_its_temperature(path):
    assert open_bundle(str(path)).temperature == 1
    change(path / 'astroclip.json', classify={'temperature': 2.2, 'fitted': 'on held-out images'})
    open_bundle.cache_clear()
    assert open_bundle(str(path)).temperature == 2.2


def test_a_bundle_of_others_needs_neither_checksums_nor_background(path):
    (path / 'astroclip.json').unlink()
    (path / 'background.npz').unlink()
    bundle = open_bundle(str(path))
    assert bundle.background.image is None
    assert bundle.background.metadata is None
    assert bundle.ranking_weights is None
    assert bundle.logit_scale == 100, 'the one of CLIP'
    assert bundle.prompt_templates == ('{}',)
    before = bundle.revision
    open_bundle.cache_clear()
    tiny.write_vision_tower(path, size=None)
    assert open_bundle(str(path)).revision != before, 'other weights must not share a cache'


def test_the_file_that_suits_the_device_is_taken(path):
    for suffix in ('_quantized', '_fp16'):
        tiny.write_vision_tower(path, suffix=suffix)
    tiny.seal(path)
    bundle = open_bundle(str(path))
    assert bundle.onnx_file('vision', 'cpu').name == 'vision_model_quantized.onnx'
    assert bundle.onnx_file('vision', 'cuda').name == 'vision_model_fp16.onnx'
    assert bundle.onnx_file('text', 'cuda').name == 'text_model.onnx'


@pytest.mark.parametrize(('variant', 'suffix'), [
    ('fp32', ''), ('fp16', '_fp16'), ('int8', '_quantized')])
@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_a_variant_is_taken_on_every_device(path, variant, suffix, device):
    for other in ('_quantized', '_fp16'):
        tiny.write_vision_tower(path, suffix=other)
    tiny.seal(path)
    bundle = open_bundle(str(path))
    chosen = bundle.of_variant(variant)
    assert chosen.onnx_file('vision', device).name == f'vision_model{suffix}.onnx'
    assert chosen.revision == f'{bundle.revision}-{variant}', 'of other embeddings'
    assert bundle.of_variant('auto') is bundle


def test_a_variant_that_is_not_there(path):
    tiny.write_vision_tower(path, suffix='_quantized')
    tiny.seal(path)
    with pytest.raises(BundleError, match=r'has no vision tower of the variant fp16 \(it has '
                       r'vision_model.onnx, vision_model_quantized.onnx\): set conf.model_var'):
        open_bundle(str(path)).of_variant('fp16').onnx_file('vision', 'cpu')


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_the_exact_end_of_a_file_name_is_a_variant_too(path, device):
    tiny.write_vision_tower(path, suffix='_q4')
    tiny.seal(path)
    bundle = open_bundle(str(path))
    chosen = bundle.of_variant('_q4')
    assert chosen.onnx_file('vision', device).name == 'vision_model_q4.onnx'
    assert chosen.revision != bundle.revision
    with pytest.raises(BundleError, match='no text tower of the variant _q4'):
        chosen.onnx_file('text', device)


def test_a_bundle_can_be_pickled_without_its_background(path):
    bundle = open_bundle(str(path))
    small = len(pickle.dumps(bundle))
    assert bundle.background is bundle.background
    assert len(pickle.dumps(bundle)) == small
    same = pickle.loads(pickle.dumps(bundle))
    assert same == bundle
    np.testing.assert_array_equal(same.background.image, bundle.background.image)


def test_links_into_the_cache_of_the_hub_are_no_escape(path, tmp_path):
    """
    The hub client keeps a model as links to a folder of contents beside it.
    """
    blobs = tmp_path / 'blobs'
    blobs.mkdir()
    for i, file in enumerate(sorted(path.rglob('*'))):
        if file.is_file():
            shutil.move(file, blobs / str(i))
            file.symlink_to(blobs / str(i))
    assert open_bundle(str(path)).name == 'tiny'


@pytest.mark.parametrize('name', ['', 'no such model', './nowhere', 'a/b/c', '/nowhere/at/all',
                                  '~nobody-of-this-name/model', 'null\0character'])
def test_unknown_model(name):
    refused(None, 'There is no model', name=name or 'none')


def test_a_hub_model_without_network_is_one_sentence():
    refused(None, r"'owner/model' is neither .* nor could it be had from the Hugging Face hub",
            name='owner/model')


def test_no_embedded_model(monkeypatch, tmp_path):
    monkeypatch.setattr(bundle_module, 'EMBEDDED', tmp_path / 'model')
    open_bundle.cache_clear()
    refused(None, 'embedded model is not in this installation', name='default')
    assert cached_models() == []


def test_the_embedded_model_is_found(monkeypatch, path):
    monkeypatch.setattr(bundle_module, 'EMBEDDED', path)
    open_bundle.cache_clear()
    assert open_bundle().name == 'tiny'
    assert cached_models() == [('default', path)]


@pytest.fixture
def hub_cache():
    """
    Two repositories in the cache of the hub client, one of them without an image tower.
    """
    cache = Path(constants.HF_HUB_CACHE)
    for name in ('clip', 'words'):
        repository = cache / f'models--owner--{name}'
        snapshot = repository / 'snapshots' / COMMIT
        (repository / 'refs').mkdir(parents=True)
        (repository / 'refs' / 'main').write_text(COMMIT)
        tiny.write_bundle(snapshot)
    (snapshot / 'onnx' / 'vision_model.onnx').unlink()
    yield
    shutil.rmtree(cache)
    open_bundle.cache_clear()


def test_models_in_the_cache_of_the_hub_are_listed(hub_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(bundle_module, 'EMBEDDED', tmp_path / 'none')
    [(name, path)] = cached_models()
    assert name == 'owner/clip'
    assert path.name == COMMIT


def test_a_model_in_the_cache_of_the_hub_opens_without_network(hub_cache):
    assert open_bundle('owner/clip').name == 'tiny'
    refused(None, 'is incomplete on this machine: onnx/vision_model.onnx could not be had from '
            'the Hugging Face hub', name='owner/words')


@pytest.mark.parametrize('file', ['onnx/vision_model.onnx', 'tokenizer.json', 'background.npz'])
def test_an_altered_file_is_found(path, file):
    content = bytearray((path / file).read_bytes())
    content[-1] ^= 1
    (path / file).write_bytes(content)
    refused(path, f'corrupt: the sha256 of {file}')


@pytest.mark.parametrize('file', ['onnx/text_model.onnx', 'preprocessor_config.json'])
def test_a_missing_file_is_named(path, file):
    (path / file).unlink()
    refused(path, f'{file} is missing')


@pytest.mark.parametrize('file', ['../outside', '/etc/hostname', 'onnx/../../outside'])
def test_files_outside_the_bundle_are_not_read(path, file):
    (path.parent / 'outside').write_text('secret')
    change(path / 'astroclip.json', files={file: '0' * 64})
    refused(path, 'lists a file outside itself')


@pytest.mark.parametrize('info', [
    {'files': ['config.json']}, {'files': None}, {'files': {'config.json': None}},
    {'files': {'null\0character': ''}}, {'ranking': {'image_weight': 1}},
    {'ranking': {'image_weight': 'much', 'text_weight': 1}}, {'prompt_templates': 3},
    {'ranking': {'image_weight': 1, 'text_weight': 1, 'text_above': -1}},
    {'ranking': {'image_weight': 1, 'text_weight': 1, 'text_above': float('nan')}},
    {'ranking': {'image_weight': 1, 'text_weight': 1, 'text_above': None}},
    {'logit_scale': 0}, {'logit_scale': 'much'}, {'logit_scale': None},
    {'logit_scale': float('nan')}, {'logit_scale': float('inf')},
    {'classify': 2}, {'classify': {'fitted': ''}}, {'classify': {'temperature': 0}},
    {'classify': {'temperature': -1}}, {'classify': {'temperature': 'much'}},
    {'classify': {'temperature': None}}, {'classify': {'temperature': float('nan')}},
    {'classify': {'temperature': float('inf')}}])
def test_a_description_of_the_wrong_form(path, info):
    change(path / 'astroclip.json', **info)
    refused(path, 'makes no sense|is corrupt|is incomplete')


@pytest.mark.parametrize(('file', 'content', 'match'), [
    ('astroclip.json', '[1]', r'no readable astroclip.json \(not a JSON object'),
    ('astroclip.json', '{"files"', 'no readable astroclip.json'),
    ('preprocessor_config.json', '\udcff', 'no readable preprocessor_config.json'),
    ('preprocessor_config.json', None, 'preprocessor_config.json is missing'),
    ('tokenizer.json', None, 'no tokenizer.json'),
    ('tokenizer_config.json', '{"model_max_length": "many"}', 'makes no sense'),
    ('config.json', '{"text_config": [1]}', 'makes no sense'),
    ('config.json', 'null', 'not a JSON object'),
    ('config.json', '{"a":' * 65 + '1' + '}' * 65, 'nested deeper than 64 levels'),
    ('onnx/vision_model.onnx', None, r'has no onnx/vision_model\*.onnx'),
    ('background.npz', 'not a zip file', 'background.npz .* cannot be read'),
])
def test_damaged_files_of_models_without_checksums(path, file, content, match):
    if file != 'astroclip.json':
        (path / 'astroclip.json').unlink()
    if content is None:
        (path / file).unlink()
    else:
        (path / file).write_bytes(content.encode(errors='surrogateescape'))
    refused(path, match)


@pytest.mark.parametrize('wrong', [False, True])
def test_a_model_that_is_opened_ahead_is_verified_once(path, monkeypatch, wrong):
    from astroclip_search import ClipSearch

    read = []
    tower = Contents.tower
    monkeypatch.setattr(Contents, 'tower', lambda self, file: (
        time.sleep(0.05), read.append(file), tower(self, file))[2])
    monkeypatch.setattr(bundle_module, 'EMBEDDED', path)
    if wrong:
        (path / 'onnx' / 'text_model.onnx').write_bytes(b'something else')
    open_bundle.cache_clear()
    search = ClipSearch(device='cpu')
    search.session.warm_up()
    if wrong:
        with pytest.raises(BundleError, match=r'the sha256 of onnx/text_model\.onnx is not'):
            search.encode_text('red')
    else:
        assert search.encode_text('red').shape == (1, 3)
        assert read == ['onnx/text_model.onnx']


def test_a_model_that_may_have_to_be_downloaded_is_not_opened_ahead(monkeypatch):
    from astroclip_search import ClipSearch

    before = set(threading.enumerate())
    monkeypatch.setattr(bundle_module, 'open_snapshot', lambda *args: time.sleep(1))
    ClipSearch(model='owner/model').session.warm_up()
    assert set(threading.enumerate()) <= before


# ---- preprocessing as in transformers ----------------------------------------------------


@pytest.mark.parametrize(('config', 'size', 'shortest_edge'), [
    # CLIP as saved today, as saved before transformers 4.19, and with another short side.
    ({'size': {'shortest_edge': 224}, 'crop_size': {'height': 224, 'width': 224},
      'do_center_crop': True}, (224, 224), 224),
    ({'size': 224, 'crop_size': 224, 'do_center_crop': True}, (224, 224), 224),
    ({'size': {'shortest_edge': 256}, 'crop_size': 224}, (224, 224), 256),
    # SigLIP, which has no crop, and a ViT with a bare number.
    ({'size': {'height': 224, 'width': 256}}, (224, 256), None),
    ({'size': 384, 'do_center_crop': False}, (384, 384), None),
    ({'size': {'height': 224, 'width': 224}, 'crop_size': None, 'do_center_crop': None},
     (224, 224), None),
    # A crop that takes nothing away.
    ({'size': {'height': 224, 'width': 224}, 'crop_size': 224, 'do_center_crop': True},
     (224, 224), None)])
def test_preprocessor_configs_of_the_hub(config, size, shortest_edge):
    found = Preprocessing.from_config({**config, **NORMALISED})
    assert (found.size, found.shortest_edge) == (size, shortest_edge)
    assert found.resample == 3
    assert found.std == (0.25,) * 3


@pytest.mark.parametrize(('config', 'mean', 'std'), [
    ({'do_normalize': False}, 0, 1),
    ({'rescale_factor': 1 / 127.5, **NORMALISED}, 0.25, 0.125),
    ({'do_rescale': False, 'image_mean': [127.5] * 3, 'image_std': [51] * 3}, 0.5, 0.2)])
def test_normalisation_is_for_values_between_0_and_1(config, mean, std):
    found = Preprocessing.from_config({'size': 8, **config})
    np.testing.assert_allclose(found.mean, mean)
    np.testing.assert_allclose(found.std, std)


@pytest.mark.parametrize('config', [
    {}, {'size': 'large'}, {'size': [8, 8]}, {'size': 0}, {'size': -8}, {'size': 100_000},
    {'size': {'shortest_edge': 224}},  # no fixed size
    {'size': {'shortest_edge': 224}, 'do_center_crop': True},
    {'size': {'shortest_edge': 224}, 'crop_size': 256},
    {'size': {'height': 256, 'width': 256}, 'crop_size': 224},
    {'size': 8, 'resample': 17}, {'size': 8, 'image_mean': [0.5]}, {'size': 8, 'image_std': None},
    {'size': 8, 'rescale_factor': 0}])
def test_a_preprocessor_that_cannot_be_followed_is_refused(path, config):
    (path / 'astroclip.json').unlink()
    (path / 'preprocessor_config.json').write_text(json.dumps({**NORMALISED, **config}))
    refused(path, 'description of the model .* makes no sense')


@pytest.mark.parametrize('shape', [(300, 200), (200, 300), (64, 700), (64, 64)])
@pytest.mark.parametrize(('short', 'crop'), [(64, 64), (80, 64)])
def test_resize_and_crop_as_transformers_do(shape, short, crop):
    """
    Its ``CLIPImageProcessor``: the short side to ``shortest_edge``, the long one rounded down,
    then the centre.
    """
    image = Image.fromarray(scene(shape))
    height, width = shape
    scale = short / min(shape)
    resized = image.resize((max(short, int(width * scale)), max(short, int(height * scale))),
                           Image.Resampling.BICUBIC)
    left, top = (resized.width - crop) // 2, (resized.height - crop) // 2
    expected = np.asarray(resized.crop((left, top, left + crop, top + crop)), dtype=float)
    found = resize(image, Preprocessing.from_config(
        {'size': {'shortest_edge': short}, 'crop_size': crop, **NORMALISED}))
    assert found.shape == (crop, crop, 3)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).mean() < 2  # of 255; the crop is not rounded to whole pixels


def test_squash_as_transformers_do():
    image = Image.fromarray(scene((300, 200)))
    expected = np.asarray(image.resize((96, 64), Image.Resampling.BICUBIC), dtype=float)
    found = resize(image, Preprocessing.from_config(
        {'size': {'height': 64, 'width': 96}, **NORMALISED}))
    assert found.shape == (64, 96, 3)
    assert np.abs(found - expected).mean() < 1


def scene(shape):
    y, x = np.mgrid[:shape[0], :shape[1]]
    return np.stack([127 + 120 * np.sin(x / 17 + phase) * np.cos(y / 23) for phase in range(3)],
                    axis=-1).astype(np.uint8)


# ---- repositories as transformers 5 and users of SigLIP write them -------------------------


def unsealed(path):
    (path / 'astroclip.json').unlink()
    return json.loads((path / 'preprocessor_config.json').read_text())


def test_transformers_5_has_one_file_for_both_processors(path):
    config = unsealed(path)
    before = open_bundle(str(path)).preprocessing
    open_bundle.cache_clear()
    (path / 'preprocessor_config.json').unlink()
    (path / 'processor_config.json').write_text(json.dumps(
        {'processor_class': 'CLIPProcessor', 'image_processor': config}))
    assert open_bundle(str(path)).preprocessing == before


def test_a_processor_without_images(path):
    unsealed(path)
    (path / 'preprocessor_config.json').unlink()
    (path / 'processor_config.json').write_text('{"processor_class": "BertProcessor"}')
    refused(path, r'processor_config\.json of the model .* describes no image_processor')


@pytest.mark.parametrize(('kind', 'limit', 'expected'), [
    ('siglip2', 1e30, 64), ('siglip2', None, 64), ('siglip', 16, 16), ('clip', 1e30, 77),
    ('unknown', 1e30, 77), ('unknown', 32, 32), ('', None, 77)])
def test_tokens_of_a_model_that_does_not_say_how_many(path, kind, limit, expected):
    unsealed(path)
    (path / 'config.json').write_text(json.dumps({'model_type': kind, 'text_config': {}}))
    (path / 'tokenizer_config.json').write_text(json.dumps(
        {} if limit is None else {'model_max_length': limit}))
    assert open_bundle(str(path)).context_length == expected
