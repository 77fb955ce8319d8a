"""Lean graphs say what torch says, and multiply in eight bits what is large."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch
import transformers
from onnx import numpy_helper

from astroclip_search.images.preprocess import Preprocessing
from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import Encoder
from export.finetuning.origin import fetch
from export.to_onnx import lean_graph
from export.to_onnx.families import read_checkpoint
from export.to_onnx.hub import write
from export.to_onnx.lean import Linear, Norm, image_tower, text_tower
from export.to_onnx.lean_graph import save_image_tower, save_text_tower
from export.to_onnx.lean_int8 import equalise, pictures, ranges, save_image_tower_int8
from export.to_onnx.tracing import session
from tests.export.to_onnx import checkpoints

TEXTS = ['a red spiral galaxy', '', 'globular cluster of stars in a dust lane', 'galaxy ' * 100]
LEAN = ('openclip', 'clip', 'siglip', 'siglip2')


class Made:
    """A checkpoint and its lean towers."""

    def __init__(self, family, folder):
        self.source = checkpoints.make(family, folder / family)
        where, weights, _ = fetch(str(self.source))
        self.checkpoint = read_checkpoint(where, weights)
        look = Preprocessing.from_config(self.checkpoint.preprocessor)
        self.mean, self.std = look.mean, look.std
        self.image = image_tower(self.checkpoint.model, look.mean, look.std)
        self.text = text_tower(self.checkpoint.model, self.checkpoint.pad_id)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    made = {}

    def get(family):
        if family not in made:
            made[family] = Made(family, tmp_path_factory.mktemp(family))
        return made[family]

    return get


@pytest.fixture(params=LEAN)
def model(request, models):
    return models(request.param)


def squares(size, count=5):
    return np.stack([checkpoints.picture(size, size, seed=i) for i in range(count)])


def normalised(images, mean, std):
    return torch.from_numpy(((images / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))


def embed(path, images):
    return session(path).run(None, {'pixel_values': images})[0]


@pytest.mark.parametrize(('half', 'most'), [(False, 1e-5), (True, 2e-3)])
def test_images_of_uint8(model, tmp_path, half, most):
    path = tmp_path / ('vision_model_fp16.onnx' if half else 'vision_model.onnx')
    save_image_tower(model.image, path, half=half)
    feed, = session(path).get_inputs()
    assert (feed.type, feed.shape) == ('tensor(uint8)', ['batch', 32, 32, 3])
    images = squares(32)
    with torch.no_grad():
        wanted = model.checkpoint.encode_image(normalised(images, model.mean, model.std)).numpy()
    np.testing.assert_allclose(embed(path, images), wanted, atol=most)
    np.testing.assert_allclose(embed(path, images[2:3]), wanted[2:3], atol=most)


@pytest.mark.parametrize(('half', 'most'), [(False, 1e-5), (True, 2e-3)])
def test_texts_of_any_length(model, tmp_path, half, most):
    path = tmp_path / ('text_model_fp16.onnx' if half else 'text_model.onnx')
    save_text_tower(model.text, path, half=half)
    tokens = model.checkpoint.tokens(TEXTS)
    with torch.no_grad():
        wanted = model.checkpoint.encode_text(tokens).numpy()
    text = session(path)
    np.testing.assert_allclose(text.run(None, {'input_ids': tokens.numpy()})[0], wanted, atol=most)
    # Padded less, and not at all.
    np.testing.assert_allclose(text.run(None, {'input_ids': tokens[:3, :20].numpy()})[0],
                               wanted[:3], atol=most)
    ids = model.checkpoint.tokenizer
    ids.no_padding()
    alone = np.array([ids.encode(TEXTS[0]).ids])
    np.testing.assert_allclose(text.run(None, {'input_ids': alone})[0], wanted[:1], atol=most)


@pytest.mark.parametrize('activation', ['gelu', 'quick_gelu', 'gelu_pytorch_tanh'])
@pytest.mark.parametrize('layers', [1, 3])
def test_the_last_block_is_of_the_class_token_only(tmp_path, activation, layers):
    torch.manual_seed(0)
    model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(
        **{**checkpoints.HF_VISION, 'hidden_act': activation, 'num_hidden_layers': layers,
           'image_size': 35, 'projection_dim': 16})).eval()  # no whole number of patches
    mean, std = [0.2, 0.5, 0.6], [0.3, 0.2, 0.4]
    save_image_tower(image_tower(model, mean, std), tmp_path / 'vision.onnx')
    images = squares(35)
    with torch.no_grad():
        wanted = model(normalised(images, mean, std)).image_embeds
    wanted = torch.nn.functional.normalize(wanted, dim=-1).numpy()
    np.testing.assert_allclose(embed(tmp_path / 'vision.onnx', images), wanted, atol=1e-5)
    watched = onnx.load(str(tmp_path / 'vision.onnx'))
    attention = [node.output[0] for node in watched.graph.node
                 if node.op_type == 'MultiHeadAttention']
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in attention)
    onnx.save(watched, str(tmp_path / 'watched.onnx'))
    _, *found = session(tmp_path / 'watched.onnx').run(None, {'pixel_values': images})
    assert [states.shape[1] for states in found] == [17] * (layers - 1) + [1]


def test_every_large_product_is_of_eight_bits(model, tmp_path):
    path = tmp_path / 'vision_model_quantized.onnx'
    save_image_tower_int8(model.image, path)
    graph = onnx.load(str(path)).graph
    assert 'MatMul' not in {node.op_type for node in graph.node}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [values[node.input[1]] for node in graph.node
               if node.op_type == 'MatMulIntegerToFloat']
    assert {array.dtype for array in weights} == {np.dtype(np.int8)}
    floats = sum(array.size for array in values.values() if array.dtype == np.float32)
    positions = model.image.positions.size
    assert floats - positions < 0.1 * sum(array.size for array in weights)
    # Sums of two products fit in 16 bits on processors that add them there.
    assert max(np.abs(array.astype(int)).max() for array in weights) * 255 * 2 < 2**15
    images = squares(32)
    with torch.no_grad():
        wanted = model.checkpoint.encode_image(normalised(images, model.mean, model.std)).numpy()
    assert (embed(path, images) * wanted).sum(1).min() > 0.99


def test_parts_of_the_hidden_columns_change_nothing(model, tmp_path, monkeypatch):
    found = [(low.min(), high.max()) for low, high in ranges(model.image, pictures(32, 4))]
    images, vectors = squares(32), []
    for part in (1000, 24):  # all, and no whole number of parts
        monkeypatch.setattr(lean_graph, 'PART', part)
        path = tmp_path / f'{part}.onnx'
        save_image_tower(model.image, path, ranges=found)
        vectors.append(embed(path, images))
        kinds = [node.op_type for node in onnx.load(str(path)).graph.node]
        assert (kinds.count('Concat') > 2) == (part == 24)
    np.testing.assert_array_equal(*vectors)


def test_attention_of_few_patches_and_of_many(model, tmp_path, monkeypatch):
    found = [(low.min(), high.max()) for low, high in ranges(model.image, pictures(32, 4))]
    images, vectors, path = squares(32), [], tmp_path / 'vision.onnx'
    for most in (256, 0):
        monkeypatch.setattr(lean_graph, 'PATCHES', most)
        save_image_tower(model.image, path, ranges=found)
        vectors.append(embed(path, images))
        kinds = [node.op_type for node in onnx.load(str(path)).graph.node]
        assert ('FusedMatMul' in kinds) == (most > 0)
    # Sums in another order round some of the eight bits differently.
    np.testing.assert_allclose(*vectors, atol=1e-2)
    assert (vectors[0] * vectors[1]).sum(1).min() > 0.9999


def test_in_eight_bits_neighbours_change_nothing(model, tmp_path):
    """
    With ranges of whole batches, as dynamic quantisation takes them, they would.
    """
    path = tmp_path / 'vision_model_quantized.onnx'
    save_image_tower_int8(model.image, path)
    images = squares(32)
    images[3], images[4] = 255 * (images[3] > 128), 0  # of a wider range than the first
    together = embed(path, images)
    np.testing.assert_array_equal(together[::-1], embed(path, images[::-1].copy()))
    np.testing.assert_allclose(together[:1], embed(path, images[:1]), atol=1e-6)


def test_ranges_are_of_the_pictures(models, tmp_path):
    tower = models('clip').image
    few, more = ranges(tower, pictures(32, 4)), ranges(tower, pictures(32, 12))
    assert len(few) == len(save_image_tower(tower, tmp_path / 'vision.onnx'))
    for narrow, wide in zip(few, more, strict=True):
        assert (wide[0] <= narrow[0]).all()
        assert (narrow[0] <= 0).all()
        assert (narrow[1] >= 0).all()
        assert (narrow[1] <= wide[1]).all()
    assert any((narrow[1] < wide[1]).any() for narrow, wide in zip(few, more, strict=True))


@pytest.mark.parametrize('family', ['clip', 'siglip'])
def test_channels_that_are_larger_than_others(models, tmp_path, family):
    """
    As trained transformers have them: one range for all would leave the others few bits.
    """
    tower = models(family).image
    rng = np.random.default_rng(0)
    blocks = []
    for block in tower.blocks:
        one, two, three = (np.where(rng.random(64) < 0.05, 200, 1).astype(np.float32)
                           for _ in range(3))
        values = np.concatenate([np.ones(128, np.float32), three])
        blocks.append(block._replace(
            attention_norm=Norm(block.attention_norm.weight * one, block.attention_norm.bias * one,
                                block.attention_norm.epsilon),
            qkv=Linear(block.qkv.weight / one[:, None] * values, block.qkv.bias * values),
            out=Linear(block.out.weight / three[:, None], block.out.bias),
            mlp_norm=Norm(block.mlp_norm.weight * two, block.mlp_norm.bias * two,
                          block.mlp_norm.epsilon),
            up=Linear(block.up.weight / two[:, None], block.up.bias)))
    uneven = replace(tower, blocks=blocks)
    images, path = squares(32), tmp_path / 'vision.onnx'
    save_image_tower(tower, path)
    wanted = embed(path, images)
    found = ranges(uneven, pictures(32))
    even, found_even = equalise(uneven, found)
    for same in (uneven, even):
        save_image_tower(same, path)
        np.testing.assert_allclose(embed(path, images), wanted, atol=1e-5)
    # What is said of the ranges is so.
    for said, is_so in zip(found_even, ranges(even, pictures(32)), strict=True):
        np.testing.assert_allclose(said, is_so, rtol=1e-3, atol=1e-3)
    save_image_tower(uneven, path, ranges=[(low.min(), high.max()) for low, high in found])
    without = (embed(path, images) * wanted).sum(1).min()
    save_image_tower_int8(uneven, path)
    assert (embed(path, images) * wanted).sum(1).min() > 0.995 > without


@pytest.mark.parametrize('family', ['mobileclip', 'coca', 'openclip_siglip', 'siglip2_naflex'])
def test_other_towers_are_not_lean(models, family):
    assert models(family).image is None
    assert models(family).text is None


@pytest.mark.parametrize('layout', ['lean', 'plain'])
def test_both_layouts_through_the_product(models, tmp_path, layout):
    made = models('clip')
    numbers = write(str(made.source), tmp_path / 'model', layout=layout)
    assert numbers['fp32']['delta_cosine'] < 1e-5
    bundle = open_bundle(str(tmp_path / 'model'))
    assert bundle.info['layout'] == {'vision': layout, 'text': layout}
    assert ('com.microsoft' in (bundle.path / 'README.md').read_text()) == (layout == 'lean')
    kind = {'lean': 'tensor(uint8)', 'plain': 'tensor(float)'}[layout]
    for file in (bundle.path / 'onnx').glob('vision_*.onnx'):
        assert session(file).get_inputs()[0].type == kind
    images = squares(32)
    with torch.no_grad():
        wanted = made.checkpoint.encode_image(normalised(images, made.mean, made.std)).numpy()
        phrase = made.checkpoint.encode_text(made.checkpoint.tokens(TEXTS[:1])).numpy()
    for ending, least in (('_quantized', 0.99), ('', 1 - 1e-6), ('_fp16', 0.9999)):
        only = tmp_path / f'only{ending}'
        shutil.copytree(bundle.path, only, ignore=lambda folder, names, ending=ending: [
            name for name in names if name == 'astroclip.json'
            or (name.endswith('.onnx') and not name.endswith(f'_model{ending}.onnx'))])
        if not any(only.glob('onnx/*.onnx')):
            assert 'refused' in numbers['int8']
            continue
        encoder = Encoder(open_bundle(str(only)), device='cpu')
        assert (encoder.encode_images(images) * wanted).sum(1).min() > least
        assert (encoder.encode_text(TEXTS[:1]) * phrase).sum() > least
