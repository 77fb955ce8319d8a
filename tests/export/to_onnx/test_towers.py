"""The towers as ONNX and as int8 say what they say in torch."""

import numpy as np
import onnx
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch
from PIL import Image

from export.data.pairs import to_square
from export.sky import render
from export.to_onnx.quantise import parity, quantise_vision, quantise_weights
from export.to_onnx.towers import STRIDE, export_vision
from export.to_onnx.tracing import session
from export.training.text import TextTower
from export.training.vision import PooledTower, imagenet_weights, load_checkpoint, normalise

TEXTS = ['spiral galaxy', 'a planetary nebula with a faint halo around it', 'M 1']


WITH_PLACES = WITH_WINDOWS = np.array([True])


@pytest.fixture(scope='module')
def pixels():
    squares = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    return normalise(torch.from_numpy(squares)).contiguous()


@pytest.fixture(scope='module')
def squares():
    """Rendered pictures of one star or galaxy each: most of them is sky."""
    return np.stack([to_square(render(i).image, 96) for i in range(24)])


@pytest.fixture(scope='module')
def tower(squares):
    """The network that is shipped, with its ImageNet weights and a map as after training."""
    torch.manual_seed(0)
    tower = PooledTower(hidden=64, components=128).eval()
    imagenet_weights(tower.trunk)
    with torch.no_grad():
        pooled = tower.pool(tower.maps(normalise(torch.from_numpy(squares))))
        tower.mean.copy_(pooled.mean(0))
        tower.std.copy_(pooled.std(0) + 0.1)  # of few pictures
        tower.components.copy_(torch.linalg.qr(torch.randn(len(tower.mean), 128))[0])
    return tower


@pytest.fixture(scope='module')
def shipped(tower, squares, tmp_path_factory):
    folder = tmp_path_factory.mktemp('shipped')
    export_vision(tower, 96, folder / 'vision_model.onnx')
    quantise_vision(folder / 'vision_model.onnx', folder / 'vision_model_quantized.onnx', squares)
    return folder


def embed(folder, name, pixels):
    run = session(folder / 'onnx' / name)
    return run.run(['image_embeds'], {'pixel_values': pixels.numpy()})[0]


def test_image_tower(towers, checkpoint, pixels):
    tower, _, _ = load_checkpoint(checkpoint)
    with torch.no_grad():
        wanted = tower(pixels).numpy()
    assert np.abs(embed(towers, 'vision_model.onnx', pixels) - wanted).max() < 1e-5
    numbers = parity(embed(towers, 'vision_model_quantized.onnx', pixels), wanted)
    assert numbers['min'] > 0.99
    one = embed(towers, 'vision_model_quantized.onnx', pixels[:1])
    np.testing.assert_allclose(one[0] @ wanted[0], 1, atol=1e-2)


def test_batch_normalisation_is_folded(towers):
    operators = {node.op_type
                 for node in onnx.load(str(towers / 'onnx' / 'vision_model.onnx')).graph.node}
    assert 'BatchNormalization' not in operators


def test_convolutions_pad_their_own_inputs(shipped):
    for path in shipped.iterdir():
        assert not any(node.op_type == 'Pad' for node in onnx.load(str(path)).graph.node)


@pytest.mark.parametrize('sides', [(96, 96), (160, 160), (224, 128)])
def test_other_sizes_and_the_mean_of_the_places(shipped, tower, sides):
    images = [Image.fromarray(render(i).image).resize(sides[::-1]) for i in range(2)]
    pixels = normalise(torch.from_numpy(np.stack(images))).contiguous()
    with torch.no_grad():
        wanted = tower(pixels).numpy()
    for name, least in (('vision_model.onnx', 0.99999), ('vision_model_quantized.onnx', 0.97)):
        found, places = session(shipped / name).run(
            ['image_embeds', 'patch_embeds'],
            {'pixel_values': pixels.numpy(), 'with_places': WITH_PLACES})
        assert places.shape == (2, sides[0] // STRIDE, sides[1] // STRIDE, 384)
        np.testing.assert_allclose(places.mean((1, 2)), found, atol=1e-5)
        assert parity(found, wanted)['min'] > least


@pytest.mark.parametrize('sides', [(96, 96), (192, 128)])
def test_a_window_is_embedded_as_a_picture(shipped, tower, sides):
    """
    The only one as the picture that it is, others nearly as what is cut out: maps see around.
    """
    frames = np.stack([np.asarray(Image.fromarray(render(i).image).resize(sides[::-1]))
                       for i in range(8)])
    windows = session(shipped / 'vision_model.onnx').run(
        ['window_embeds'], {'pixel_values': normalise(torch.from_numpy(frames)).numpy(),
                            'with_windows': WITH_WINDOWS})[0]
    rows, columns = (side // STRIDE - 2 for side in sides)
    assert windows.shape == (8, rows, columns, 384)
    np.testing.assert_allclose(np.linalg.norm(windows, axis=-1), 1, atol=1e-5)
    cuts = tower.encode(np.concatenate([
        frames[:, row * STRIDE:, column * STRIDE:][:, :96, :96]
        for row in range(rows) for column in range(columns)]))
    found = windows.transpose(1, 2, 0, 3).reshape(-1, 384)
    if rows == columns == 1:
        np.testing.assert_allclose(found, cuts, atol=1e-5)
    # The cut that is most like a window is of the same picture.
    nearest = (found @ cuts.T).argmax(1)
    assert np.mean(nearest % 8 == np.arange(len(cuts)) % 8) > 0.9


def test_places_and_windows_are_not_computed_unless_asked_for(shipped):
    pixels = np.zeros((2, 3, 96, 96), np.float32)
    for path in shipped.iterdir():
        tower = session(path)
        alone, *none = tower.run(None, {'pixel_values': pixels})
        assert [one.size for one in none] == [0, 0]
        for name, number in (('with_places', 1), ('with_windows', 2)):
            found = tower.run(None, {'pixel_values': pixels, name: WITH_PLACES})
            np.testing.assert_allclose(alone, found[0], atol=1e-6)
            assert [bool(one.size) for one in found[1:]] == [number == 1, number == 2]
        # A picture that no window fits into has a vector all the same.
        assert len(tower.run(None, {'pixel_values': pixels[..., :64, :64]})[0]) == 2


def test_a_picture_of_one_thing_has_it_where_it_is(tower, shipped, squares):
    """In a frame that is else empty, the place of an object is the one most like it."""
    alone = tower.encode(squares[:8])
    found = []
    for square, wanted in zip(squares[:8], alone, strict=True):
        frame = np.full((1, 288, 288, 3), np.median(square), np.uint8)
        frame[0, 192:, 96:192] = square
        places = session(shipped / 'vision_model_quantized.onnx').run(
            ['patch_embeds'], {'pixel_values': normalise(torch.from_numpy(frame)).numpy(),
                               'with_places': WITH_PLACES})[0][0]
        row, column = np.unravel_index(np.argmax(places @ wanted), places.shape[:2])
        windows = session(shipped / 'vision_model_quantized.onnx').run(
            ['window_embeds'], {'pixel_values': normalise(torch.from_numpy(frame)).numpy(),
                                'with_windows': WITH_WINDOWS})[0][0]
        down, across = np.unravel_index(np.argmax(windows @ wanted), windows.shape[:2])
        found.append([(row // 3, column // 3) == (2, 1), ((down + 1) // 3, across // 3) == (2, 1)])
    assert (np.mean(found, axis=0) >= 0.75).all()


def test_eight_bits_keep_the_order(shipped, tower, squares):
    wanted = tower.encode(squares)
    found = session(shipped / 'vision_model_quantized.onnx').run(
        ['image_embeds'], {'pixel_values': normalise(torch.from_numpy(squares)).numpy()})[0]
    numbers = parity(found, wanted)
    assert numbers['mean'] > 0.99
    assert numbers['neighbours'] > 0.9


def test_eight_bits_do_not_depend_on_neighbours(shipped, squares):
    run = session(shipped / 'vision_model_quantized.onnx')
    pixels = normalise(torch.from_numpy(squares)).numpy()
    together = run.run(['image_embeds'], {'pixel_values': pixels})[0]
    alone = run.run(['image_embeds'], {'pixel_values': pixels[3:4]})[0]
    np.testing.assert_allclose(alone[0], together[3], atol=1e-6)


def test_imagenet_weights_are_of_the_network():
    with pytest.raises(ValueError, match='EfficientNet-Lite0'):
        imagenet_weights(PooledTower('test_efficientnet', hidden=8, components=8).trunk)


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


def test_weights_alone(tower, shipped, squares, tmp_path):
    quantise_weights(shipped / 'vision_model.onnx', tmp_path / 'weights.onnx')
    pixels = normalise(torch.from_numpy(squares)).numpy()
    found = session(tmp_path / 'weights.onnx').run(['image_embeds'], {'pixel_values': pixels})[0]
    assert parity(found, tower.encode(squares))['min'] > 0.998
    products = (tower.linear.out_features + tower.inner.out_features) * len(tower.mean)
    saved = [(folder / name).stat().st_size for folder, name in (
        (shipped, 'vision_model.onnx'), (tmp_path, 'weights.onnx'))]
    assert saved[0] - saved[1] > 2.5 * products


def test_parity_of_equal_and_of_unrelated_vectors():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 60, 32))
    first, second = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (first, second))
    assert parity(first, first) == pytest.approx({'mean': 1, 'min': 1, 'neighbours': 1})
    assert parity(first, second)['neighbours'] < 0.4
