"""A CLIP of any library says as a bundle what it says in that library."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch
from huggingface_hub import constants
from PIL import Image

from astroclip_search import ClipSearch
from astroclip_search.images.preprocess import resize
from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import Encoder
from export.finetuning.origin import fetch
from export.to_onnx import parity
from export.to_onnx.hub import TEXTS, write
from export.to_onnx.towers import main as to_onnx
from tests.export.hub_server import COMMIT, hub
from tests.export.to_onnx import checkpoints
from tests.export.to_onnx.made import PADDING, SAME

pytestmark = pytest.mark.filterwarnings(
    # Of transformers: what a configuration of a tiny model cannot say.
    'ignore:.*torch.jit:DeprecationWarning')


@pytest.fixture(params=checkpoints.FAMILIES)
def model(request, models):
    return models(request.param)


# ---- the gate ----------------------------------------------------------------------------


def test_every_variant_is_near_torch_or_is_not_there(model):
    numbers = model.numbers
    assert list(numbers) == ['fp32', 'fp16', 'int8']
    assert numbers['fp32']['delta_cosine'] < 1e-4
    assert numbers['fp32']['top10'] == 1
    assert numbers['fp16']['delta_cosine'] < 2e-3
    assert 'refused' not in numbers['fp32'] | numbers['fp16']
    int8 = numbers['int8']
    assert int8['kendall_tau'] > 0.9
    quantised = sorted(path.name for path in model.bundle.rglob('*_quantized.onnx'))
    if parity.refusal(int8['limits'], int8) is None:
        assert quantised == ['text_model_quantized.onnx', 'vision_model_quantized.onnx']
        assert 'refused' not in int8
    else:
        assert quantised == []
        assert 'kendall_tau to torch is 0.9' in int8['refused']
    # Only a tower that multiplies in eight bits is judged by what is found.
    assert (int8['limits'] == 'int8') == (int8['kendall_tau'] >= 0.98 or 'refused' in int8)
    info = json.loads((model.bundle / 'astroclip.json').read_text())
    assert info['parity'] == numbers
    assert 'refused because' in (model.bundle / 'README.md').read_text()
    assert str(model.root) not in (model.bundle / 'astroclip.json').read_text()


def test_eight_bits_open_where_they_are_near_enough(models, monkeypatch, tmp_path):
    monkeypatch.setitem(parity.LIMITS, 'int8', {'kendall_tau': 0.9})
    source = models('clip').source
    numbers = write(str(source), tmp_path / 'model', variants=['int8'])
    assert 'refused' not in numbers['int8']
    bundle = open_bundle(str(tmp_path / 'model'))
    assert bundle.onnx_file('text', 'cpu').name == 'text_model_quantized.onnx'
    encoder = Encoder(bundle, device='cpu')
    with np.load(tmp_path / 'model' / 'golden.npz') as golden:
        got = encoder.encode_text([str(text) for text in golden['texts']])
        assert (got * golden['text_embeds']).sum(1).min() > 0.98
    sizes = [path.stat().st_size for path in sorted((bundle.path / 'onnx').glob('text_model*'))]
    assert sizes[1] < sizes[0] / 2


def test_what_differs_from_torch_is_not_written(models, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(parity.LIMITS, 'fp32', {'delta_cosine': 1e-12})
    arguments = ['--from', str(models('siglip').source), '--out', str(tmp_path / 'model')]
    assert to_onnx(arguments) == 1
    message = capsys.readouterr().err
    assert 'its delta_cosine to torch is' in message
    assert message.endswith('allowed is at most 1e-12.\n')
    assert not (tmp_path / 'model').exists()


@pytest.mark.parametrize(('variant', 'numbers', 'reason'), [
    ('fp16', {'delta_cosine': 2e-3}, None), ('fp16', {'delta_cosine': 2.1e-3}, 'at most 0.002'),
    ('int8', {'kendall_tau': 0.98}, None), ('int8', {'kendall_tau': 0.97}, 'at least 0.98'),
    ('int8', {'kendall_tau': float('nan')}, 'is nan'),
    ('int8 products', {'map_loss': 0.004, 'kendall_tau': 0.95}, None),
    ('int8 products', {'map_loss': 0.006, 'kendall_tau': 0.99}, 'at most 0.005'),
    ('int8 products', {'map_loss': -0.2, 'kendall_tau': 0.89}, 'at least 0.9'),
    ('fp32', {'delta_cosine': float('nan')}, 'is nan')])
def test_limits(variant, numbers, reason):
    found = parity.refusal(variant, numbers)
    assert found is None if reason is None else reason in found


def test_measures_by_hand():
    images = np.eye(12)
    text = np.arange(12.0)[None] / np.linalg.norm(np.arange(12))
    other = text.copy()
    other[0, [0, 1]] = text[0, [1, 0]]  # the last two change places: 1 of 66 pairs
    numbers = parity.compare(images, other, images, text)
    assert numbers['delta_cosine'] == pytest.approx(1 / np.linalg.norm(np.arange(12)))
    assert numbers['kendall_tau'] == pytest.approx(1 - 2 / 66)
    assert numbers['top10'] == 1
    assert parity.compare(images, -text, images, text)['kendall_tau'] == pytest.approx(-1)
    assert parity.compare(images, -text, images, text)['top10'] == pytest.approx(0.8)


# ---- through the product -----------------------------------------------------------------


def test_the_product_says_what_the_library_says(model):
    """
    From phrases and a picture that is no square, each with its own code.
    """
    encoder = model.encoder()
    oblong = Image.fromarray(checkpoints.picture(200, 300))
    texts = [*TEXTS, *(text for texts in SAME.values() for text in texts)]
    if model.family.startswith('siglip') or model.family == 'clip':
        texts = list(TEXTS)  # transformers does not clean them
    wanted = model.library(texts)
    np.testing.assert_allclose(encoder.encode_text(texts), wanted, atol=1e-4)
    image = resize(oblong, encoder.bundle.preprocessing)
    with torch.no_grad():
        vector = model.checkpoint.encode_image(model.checkpoint.pixels(oblong)[None]).numpy()
    assert (encoder.encode_images(image[None]) * vector).sum() > 0.98
    with np.load(model.bundle / 'golden.npz') as golden:
        found = encoder.encode_images(golden['pixels'])
        np.testing.assert_allclose(found, golden['image_embeds'], atol=0.02)
    assert encoder.bundle.logit_scale == pytest.approx(model.checkpoint.logit_scale)


def test_half_precision_alone_opens(model, tmp_path):
    """
    ONNX Runtime 1.31 dies of some such graphs on a CPU if it may optimise them fully.
    """
    shutil.copytree(model.bundle, tmp_path / 'model')
    for path in (tmp_path / 'model' / 'onnx').glob('*_model.onnx'):
        path.unlink()
    for path in (tmp_path / 'model' / 'onnx').glob('*_quantized.onnx'):
        path.unlink()
    (tmp_path / 'model' / 'astroclip.json').unlink()
    encoder = Encoder(open_bundle(str(tmp_path / 'model')), device='cpu')
    got = encoder.encode_text(['spiral galaxy', 'comet'])
    assert (got * model.library(['spiral galaxy', 'comet'])).sum(1).min() > 0.999


@pytest.mark.filterwarnings('ignore:Nothing stands out')  # the weights are random
def test_a_search_with_it(models, tmp_path):
    pytest.importorskip('astroquery', reason='the package is not installed with its requirements')
    made = models('openclip')
    for i in range(3):
        Image.fromarray(checkpoints.picture(64, 64 + i)).save(tmp_path / f'{i}.png')
    search = ClipSearch(cache_dir=tmp_path / 'cache')
    search.model = str(made.bundle)
    table = search.rank(sorted(map(str, tmp_path.glob('*.png'))), 'a red galaxy')
    assert sorted(table['clip_rank']) == [1, 2, 3]
    assert set(table['clip_status']) == {'OK'}


# ---- traps of pictures -------------------------------------------------------------------


@pytest.mark.parametrize(('family', 'short'), [
    ('openclip', 32), ('mobileclip', 64), ('clip', 32), ('openclip_siglip', None),
    ('siglip', None), ('siglip2_naflex', None)])
def test_crop_or_squash(models, family, short):
    preprocessing = open_bundle(str(models(family).bundle)).preprocessing
    assert preprocessing.shortest_edge == short
    assert preprocessing.resample == (2 if family in ('mobileclip', 'siglip2_naflex') else 3)


@pytest.mark.parametrize('change', [
    {'size': {'height': 32, 'width': 32}, 'do_center_crop': False},
    {'image_mean': [0.3] * 3}, {'image_std': [0.5] * 3}, {'do_rescale': False}])
def test_other_pixels_are_found(models, monkeypatch, tmp_path, change):
    made = models('openclip')
    wrong = {**made.checkpoint.preprocessor, **change}
    monkeypatch.setattr('export.to_onnx.families._open_clip_preprocessor', lambda *_: wrong)
    with pytest.raises(ValueError, match='pictures come out otherwise'):
        write(str(made.source), tmp_path / 'model')


def test_other_tokens_are_found(models, monkeypatch, tmp_path):
    monkeypatch.setattr('export.to_onnx.families.cleaning', lambda _: [])
    monkeypatch.setattr('export.to_onnx.tokens.cleaning', lambda _: [])
    with pytest.raises(ValueError, match='has other tokens'):
        write(str(models('openclip').source), tmp_path / 'model')


# ---- what is refused ---------------------------------------------------------------------


def configured(models, tmp_path, **text):
    folder = shutil.copytree(models('openclip').source, tmp_path / 'checkpoint')
    config = json.loads((folder / 'open_clip_config.json').read_text())
    preprocess = text.pop('preprocess', {})
    config['model_cfg']['text_cfg'].update(text)
    config['preprocess_cfg'].update(preprocess)
    (folder / 'open_clip_config.json').write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(('change', 'reason'), [
    ({'hf_model_name': 'owner/name'}, 'text tower of another library'),
    ({'hf_tokenizer_name': 'owner/name', 'tokenizer_kwargs': {'trust_remote_code': True}},
     'a tokenizer with options'),
    ({'tokenizer_kwargs': {'reduction_mask': 'syntax'}}, 'a tokenizer with options'),
    ({'preprocess': {'resize_mode': 'longest'}}, r'pads images \(longest\)')])
def test_options_that_a_bundle_cannot_say(models, tmp_path, capsys, change, reason):
    folder = configured(models, tmp_path, **change)
    with pytest.raises(ValueError, match=reason):
        write(str(folder), tmp_path / 'model')


def test_weights_that_run_code_are_refused(tmp_path, capsys):
    folder = tmp_path / 'galaxies'
    folder.mkdir()
    (folder / 'config.json').write_text('{"model_type": "clip"}')
    (folder / 'pytorch_model.bin').write_bytes(b'\x80\x04.')
    assert to_onnx(['--from', str(folder), '--out', str(tmp_path / 'model')]) == 1
    message = capsys.readouterr().err
    assert 'pytorch_model.bin, a pickle' in message
    assert 'convert it to safetensors' in message
    assert message.count('\n') == 1


def test_a_pickle_beside_safetensors_is_not_opened(models, tmp_path):
    folder = shutil.copytree(models('openclip').source, tmp_path / 'checkpoint')
    (folder / 'open_clip_model.safetensors').rename(folder / 'model.safetensors')
    (folder / 'open_clip_pytorch_model.bin').write_bytes(b'would be preferred by open_clip')
    assert write(str(folder), tmp_path / 'model', variants=[])['fp32']['top10'] == 1


@pytest.mark.parametrize(('name', 'content', 'reason'), [
    ('config.json', '{"model_type": "blip"}', "of type 'blip'"),
    ('tokenizer.json', None, 'has no tokenizer.json'),
    ('preprocessor_config.json', None, 'has no preprocessor_config.json')])
def test_folders_that_lack_something(models, tmp_path, name, content, reason):
    folder = shutil.copytree(models('siglip').source, tmp_path / 'checkpoint')
    (folder / name).unlink()
    if content:
        (folder / name).write_text(content)
    with pytest.raises(ValueError, match=reason):
        write(str(folder), tmp_path / 'model')


def test_nothing_is_overwritten(models, tmp_path, capsys):
    (tmp_path / 'model').mkdir()
    assert to_onnx(['--from', str(models('clip').source), '--out', str(tmp_path / 'model')]) == 1
    assert 'is there already' in capsys.readouterr().err


# ---- the hub -----------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch, tmp_path):
    with hub() as server:
        monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
        monkeypatch.setattr(constants, 'ENDPOINT', server.url)
        monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE',
                            server.url + '/{repo_id}/resolve/{revision}/{filename}')
        monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
        yield server


def served(source):
    return {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}


def fetched(server):
    return {path.rpartition('/')[2] for _, path in server.requests if '/resolve/' in path}


def test_of_a_repository_only_what_is_needed(models, server, monkeypatch):
    made = models('openclip')
    server.files = {**served(made.source), 'model.safetensors': b'the same for transformers',
                    'open_clip_pytorch_model.bin': b'a pickle', 'modeling_clip.py': b'code',
                    'README.md': b'# card', 'config.json': b'{"model_type": "clip"}'}
    folder, weights, commit = fetch('owner/name')
    assert commit == COMMIT
    assert [file.name for file in weights] == ['open_clip_model.safetensors']
    assert fetched(server) == {'open_clip_config.json', 'config.json',
                               'open_clip_model.safetensors'}
    # Once there, without a network.
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    server.requests.clear()
    assert fetch('owner/name') == (folder, weights, commit)
    assert server.requests == []


def test_a_bundle_from_the_hub_says_its_commit(models, server, tmp_path):
    made = models('clip')
    server.files = served(made.source)
    write('owner/name', tmp_path / 'model', revision='v1', variants=[], licence='MIT')
    info = open_bundle(str(tmp_path / 'model')).info
    assert info['origin']['name'] == 'owner/name'
    assert info['origin']['revision'] == COMMIT
    assert list(info['origin']['weights']) == ['model.safetensors']
    assert any(path.endswith('/revision/v1') for _, path in server.requests)
    assert f'`owner/name` at {COMMIT}' in (tmp_path / 'model' / 'README.md').read_text()


def test_pickles_of_the_hub_are_not_even_downloaded(server):
    server.files = {'config.json': b'{"model_type": "clip"}', 'pytorch_model.bin': b'pickle'}
    with pytest.raises(ValueError, match=r'pytorch_model.bin, a pickle.* convert it'):
        fetch('owner/name')
    assert fetched(server) == {'config.json'}


@pytest.mark.parametrize(('name', 'revision'), [('owner/name', 'v9'), ('owner/other', None)])
def test_what_the_hub_does_not_have(server, name, revision):
    with pytest.raises(ValueError, match='neither a folder, nor could it be had from the hub'):
        fetch(name, revision)


def test_offline_means_offline(server, monkeypatch):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(ValueError, match='nor could it be had from the hub'):
        fetch('owner/name')
    assert server.requests == []


def test_a_folder_has_no_revision(models):
    with pytest.raises(ValueError, match='has no revision'):
        fetch(str(models('clip').source), 'v1')


# ---- repositories of transformers.js -----------------------------------------------------


@pytest.mark.parametrize('family', ['clip', 'siglip', 'siglip2'])
def test_repositories_of_transformers_js_open_as_they_are(models, tmp_path, family):
    """
    As of ``Xenova/...`` and ``onnx-community/...``: their own names, and files that leave out
    what is a default.
    """
    made = models(family)
    path = checkpoints.transformers_js(made, tmp_path / 'model')
    bundle = open_bundle(str(path))
    assert (bundle.context_length, bundle.padding) == (PADDING[family][0], family != 'clip')
    phrases = ['a red spiral galaxy', 'globular cluster', 'galaxy ' * 100]
    pictures = np.stack([checkpoints.picture(32, 32), checkpoints.picture(32, 32, seed=1)])
    with torch.no_grad():
        wanted = made.checkpoint.encode_image(torch.stack(
            [made.checkpoint.pixels(Image.fromarray(picture)) for picture in pictures])).numpy()
    for suffix, least in (('', 0.99999), ('_fp16', 0.999), ('_quantized', 0.9)):
        for file in (path / 'onnx').iterdir():
            file.unlink()
        for file in checkpoints.variant(path.parent / 'variants', suffix):
            shutil.copyfile(file, path / 'onnx' / file.name)
        open_bundle.cache_clear()
        encoder = Encoder(open_bundle(str(path)), device='cpu')
        texts, images = encoder.encode_text(phrases), encoder.encode_images(pictures)
        assert (texts * made.library(phrases)).sum(1).min() > least
        if family != 'clip':
            cased = encoder.encode_text(['A RED spiral Galaxy'])
            np.testing.assert_allclose(cased[0], texts[0], atol=1e-5 if not suffix else 0.1)
        assert (images * wanted).sum(1).min() > least
