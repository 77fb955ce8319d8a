"""The towers as ONNX and as int8 say what they say in torch."""

import numpy as np
import onnx
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch

from export.to_onnx.quantise import parity, quantise_static, quantise_weights
from export.to_onnx.towers import export_vision
from export.to_onnx.tracing import session
from export.training.text import TextTower
from export.training.vision import ImageTower, load_checkpoint, normalise

TEXTS = ['spiral galaxy', 'a planetary nebula with a faint halo around it', 'M 1']


@pytest.fixture(scope='module')
def pixels():
    squares = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    return normalise(torch.from_numpy(squares)).contiguous()


def embed(folder, name, pixels):
    vectors, = session(folder / 'onnx' / name).run(None, {'pixel_values': pixels.numpy()})
    return vectors


def test_image_tower(towers, checkpoint, pixels):
    tower, _, _ = load_checkpoint(checkpoint)
    with torch.no_grad():
        wanted = tower(pixels).numpy()
    assert np.abs(embed(towers, 'vision_model.onnx', pixels) - wanted).max() < 1e-5
    numbers = parity(embed(towers, 'vision_model_quantized.onnx', pixels), wanted)
    assert numbers['min'] > 0.999
    one = embed(towers, 'vision_model_quantized.onnx', pixels[:1])
    np.testing.assert_allclose(one[0] @ wanted[0], 1, atol=1e-3)


def test_batch_normalisation_is_folded(towers):
    operators = {node.op_type
                 for node in onnx.load(str(towers / 'onnx' / 'vision_model.onnx')).graph.node}
    assert 'BatchNormalization' not in operators


def test_nothing_is_convolved_where_there_is_one_pixel_left(tmp_path, pixels):
    torch.manual_seed(0)
    tower = ImageTower('mobilenetv4_conv_small', 16).eval()
    path = tmp_path / 'vision.onnx'
    export_vision(tower, 32, path)
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph
    pooled = {node.output[0] for node in graph.node if node.op_type == 'GlobalAveragePool'}
    assert pooled
    assert not any(node.op_type == 'Conv' and node.input[0] in pooled for node in graph.node)
    with torch.no_grad():
        wanted = tower(pixels).numpy()
    got, = session(path).run(None, {'pixel_values': pixels.numpy()})
    assert np.abs(got - wanted).max() < 1e-5


def test_text_tower(towers, checkpoint, encoder):
    _, text_map, _ = load_checkpoint(checkpoint)
    ids, mask = encoder.tokenize(TEXTS)
    with torch.no_grad():
        wanted = TextTower(encoder, text_map)(ids, mask)
    feed = {'input_ids': ids.numpy(), 'attention_mask': mask.numpy()}
    for file, least in (('text_model.onnx', 0.99999), ('text_model_quantized.onnx', 0.998)):
        model = session(towers / 'onnx' / file)
        assert [output.name for output in model.get_outputs()] == ['text_embeds',
                                                                  'sentence_embeds']
        for got, tensor in zip(model.run(None, feed), wanted, strict=True):
            assert parity(got, tensor.numpy())['min'] > least


@pytest.mark.parametrize('file', ['text_model.onnx', 'text_model_quantized.onnx'])
def test_neighbours_and_padding_change_nothing(towers, encoder, file):
    model = session(towers / 'onnx' / file)
    ids, mask = encoder.tokenize(TEXTS)
    alone, mask_alone = encoder.tokenize(TEXTS[:1])
    together = model.run(None, {'input_ids': ids.numpy(), 'attention_mask': mask.numpy()})[0]
    single = model.run(None, {'input_ids': alone.numpy(), 'attention_mask': mask_alone.numpy()})[0]
    np.testing.assert_allclose(single[0], together[0], atol=1e-5)


def test_int8_is_a_third_or_less(towers):
    size = {path.name: path.stat().st_size for path in (towers / 'onnx').iterdir()}
    assert size['text_model_quantized.onnx'] < size['text_model.onnx'] / 3
    assert size['text_model_quantized.onnx'] < 25e6


def test_weights_and_activations(tmp_path, pixels):
    torch.manual_seed(0)
    tower = ImageTower('test_byobnet', 16).eval()
    source = tmp_path / 'onnx' / 'vision_model.onnx'
    export_vision(tower, 32, source)
    quantise_weights(source, tmp_path / 'weights.onnx')
    quantise_static(source, tmp_path / 'static.onnx', pixels.numpy())
    wanted = session(source).run(None, {'pixel_values': pixels.numpy()})[0]
    weights, static = (
        parity(session(tmp_path / name).run(None, {'pixel_values': pixels.numpy()})[0], wanted)
        for name in ('weights.onnx', 'static.onnx')
    )
    assert weights['mean'] > static['mean'] > 0.9


def test_parity_of_equal_and_of_unrelated_vectors():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 60, 32))
    first, second = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (first, second))
    assert parity(first, first) == pytest.approx({'mean': 1, 'min': 1, 'neighbours': 1})
    assert parity(first, second)['neighbours'] < 0.4


@pytest.mark.parametrize('views', [1, 2, 4])
def test_mirror_images_have_one_embedding(tmp_path, pixels, views):
    torch.manual_seed(0)
    tower = ImageTower('test_byobnet', 16, views).eval()
    export_vision(tower, 32, tmp_path / 'vision.onnx')
    model = session(tmp_path / 'vision.onnx')
    with torch.no_grad():
        wanted = [tower.embed(tower.features(pixels.flip(axes)))
                  for axes in ([], [3], [2], [2, 3])[:views]]
    wanted = torch.nn.functional.normalize(torch.stack(wanted).mean(0), dim=-1).numpy()
    for axis in ([], [3], [2])[:views]:
        got, = model.run(None, {'pixel_values': pixels.flip(axis).numpy()})
        np.testing.assert_allclose(got, wanted, atol=1e-5)
