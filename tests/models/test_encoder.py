# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The towers give what the files say, whatever form of input and output the model was exported with.
"""

import json
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from astroclip_search.exceptions import BundleError, EncoderError
from astroclip_search.models import encoder as encoder_module
from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import Encoder, open_encoder
from astroclip_search.models.runtime import has_driver, open_tower
from tests import tiny

RED, GREEN, BLUE = np.eye(3)[:, None, None] * np.full((8, 8, 1), 255)
IMAGES = np.stack([RED, GREEN, BLUE]).astype(np.uint8)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(tmp_path):
    def make(**options):
        path = tiny.write_bundle(tmp_path / 'model', **options)
        return Encoder(open_bundle(str(path)), device='cpu')

    yield make
    open_bundle.cache_clear()


@pytest.mark.parametrize('vision', [
    {}, {'kind': 'float16'}, {'kind': 'uint8', 'layout': 'NHWC'},
    {'kind': 'float32', 'layout': 'NHWC'}, {'kind': 'uint8'}, {'size': None},
    {'output': 'pooler_output'}])
def test_images_are_embedded_by_every_kind_of_tower(model, vision):
    vectors = model(vision=vision).encode_images(IMAGES)
    assert vectors.dtype == np.float32
    # Red is (1, -1, -1) after normalisation with mean 0.5 and deviation 0.5.
    np.testing.assert_allclose(vectors, (2 * np.eye(3) - 1) / 3**0.5, atol=2e-3)


@pytest.mark.parametrize('n', [0, 1, 2, 7, 33, 100])
@pytest.mark.parametrize('n_threads', [1, 2])
def test_images_keep_their_places(model, n, n_threads):
    """
    They are split into parts, of which two are worked on at once.
    """
    encoder = Encoder(model().bundle, device='cpu', n_threads=n_threads)
    vectors = encoder.encode_images(np.resize(IMAGES, (n, *IMAGES.shape[1:])))
    assert vectors.shape == (n, 3)
    assert vectors.argmax(axis=1).tolist() == [i % 3 for i in range(n)]


def test_batches_that_suit_the_device(model, monkeypatch):
    bundle = model().bundle
    sizes = [Encoder(bundle, device='cpu', n_threads=n).batch_size for n in (1, 2, 4, 64)]
    assert sizes == [32, 32, 64, 128]
    monkeypatch.setattr(encoder_module, 'has_driver', lambda: True)
    assert Encoder(bundle).batch_size == 128


def test_the_image_tower_opens_while_images_are_fetched(model, monkeypatch):
    encoder = model()
    opened, may_open = [], threading.Event()
    monkeypatch.setattr(encoder_module, 'open_tower', lambda path, *args, **options: (
        may_open.wait(10), opened.append(path.name), open_tower(path, *args, **options))[2])
    assert encoder.batch_size == 32
    assert opened == [], 'nobody has to wait'
    may_open.set()
    encoder.encode_images(IMAGES)
    assert opened == ['vision_model.onnx']


def test_an_image_tower_that_cannot_be_opened_is_said_when_it_is_needed(model):
    encoder = model(vision={'size': 16})
    assert encoder.batch_size == 32
    with pytest.raises(BundleError, match='reads images of'):
        encoder.encode_images(IMAGES)


def sealed_anew(path):
    """A bundle whose files were changed, with the right checksums again."""
    tiny.seal(path)
    open_bundle.cache_clear()
    return open_bundle(str(path))


@pytest.fixture
def of_three_files(tmp_path):
    path = tiny.write_bundle(tmp_path / 'model')
    for suffix in ('_quantized', '_fp16'):
        tiny.write_vision_tower(path, suffix=suffix)
    tiny.seal(path)
    yield lambda device, variant='auto': Encoder(open_bundle(str(path)).of_variant(variant),
                                                 device=device)
    open_bundle.cache_clear()


def test_the_file_of_a_tower_is_that_which_is_opened(of_three_files, monkeypatch):
    opened = []
    monkeypatch.setattr(encoder_module, 'open_tower', lambda path, *args, **options: (
        opened.append(path.stem), open_tower(path, *args, **options))[1])
    encoder = of_three_files('cpu')
    assert encoder.file_of('vision') == 'vision_model_quantized'
    assert encoder.file_of('text') == 'text_model'
    assert opened == [], 'nobody has to open it'
    encoder.open()
    assert opened == ['vision_model_quantized', 'text_model']
    assert of_three_files('cpu', 'fp16').file_of('vision') == 'vision_model_fp16'
    assert of_three_files('cpu', 'fp32').file_of('vision') == 'vision_model'


@pytest.mark.parametrize(('device', 'file'), [
    ('cpu', 'vision_model_quantized'), ('cuda', 'vision_model_fp16')])
def test_the_file_on_a_machine_with_a_driver(of_three_files, monkeypatch, device, file):
    """
    Whether it is of use shows only when a tower is opened.
    """
    opened = []

    class Tower:
        def __init__(self, path, wanted, **_):
            self.inputs = [type('Input', (), {'shape': [None, 3, 8, 8]})]
            self.device = device if wanted == 'cuda' else 'cpu'
            opened.append(path.stem)

    monkeypatch.setattr(encoder_module, 'has_driver', lambda: True)
    monkeypatch.setattr(encoder_module, 'open_tower', Tower)
    encoder = of_three_files('auto')
    assert encoder.file_of('text') == 'text_model'
    assert opened == [], 'it is the same on both devices'
    assert encoder.file_of('vision') == file == opened[-1]
    n = len(opened)
    assert encoder.file_of('vision') == file
    assert len(opened) == n


def test_a_better_file_that_comes_later_is_not_mixed_in(tmp_path):
    path = tiny.write_bundle(tmp_path / 'model')
    (path / 'astroclip.json').unlink()
    encoder = Encoder(open_bundle(str(path)), device='cpu')
    assert encoder.file_of('vision') == 'vision_model'
    tiny.write_vision_tower(path, suffix='_quantized')
    encoder.open()
    assert encoder.file_of('vision') == 'vision_model'
    open_bundle.cache_clear()


def test_mean_and_deviation_of_the_preprocessor_are_applied(model):
    encoder = model(preprocessor={'image_mean': [0.1, 0.2, 0.3], 'image_std': [0.5, 1.0, 2.0]})
    expected = (np.eye(3) - [0.1, 0.2, 0.3]) / [0.5, 1.0, 2.0]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_images(IMAGES), expected, atol=1e-6)


def test_text_and_images_share_a_space(model):
    encoder = model()
    cosines = encoder.encode_images(IMAGES) @ encoder.encode_text(['red', 'Green', 'a blue']).T
    assert cosines.argmax(axis=0).tolist() == [0, 1, 2]
    np.testing.assert_allclose(cosines.diagonal(), 1, atol=1e-6)


def test_metadata_have_a_space_of_their_own(model):
    encoder = model()
    vectors = encoder.encode_metadata(['red'])
    assert vectors.shape == (1, 5)
    np.testing.assert_allclose(vectors[0, 2:], [3**-0.5, -3**-0.5, -3**-0.5], atol=1e-6)


def test_models_without_sentence_vectors_take_their_text_vectors_for_metadata(model):
    encoder = model(text={'outputs': ('text_embeds',)})
    np.testing.assert_array_equal(encoder.encode_metadata(['red']), encoder.encode_text(['red']))


@pytest.mark.parametrize('text', [
    {'inputs': ('input_ids',)}, {'kind': 'int32'}, {'outputs': ('pooler_output',)},
    {'inputs': ('input_ids', 'attention_mask', 'token_type_ids')}])
def test_text_towers_of_every_kind(model, text):
    vectors = model(text=text).encode_text(['blue', 'red'])
    np.testing.assert_allclose(vectors * 3**0.5, [[-1, -1, 1], [1, -1, -1]], atol=1e-6)


def test_texts_keep_their_places(model):
    """
    They are sorted by length and split into batches on the way.
    """
    texts = [('red', 'a galaxy green', 'galaxy a a blue')[i % 3] for i in range(150)]
    vectors = model().encode_text(texts)
    assert vectors.argmax(axis=1).tolist() == [0, 1, 2] * 50


def test_phrases_are_embedded_once(model, monkeypatch):
    encoder = model()
    read = []
    embed = Encoder._embed_texts
    monkeypatch.setattr(Encoder, '_embed_texts', lambda self, texts, outputs: (
        read.extend(texts), embed(self, texts, outputs))[1])
    first = encoder.encode_text(['red', 'green', 'red'])
    second = encoder.encode_text(['blue', 'red'])
    assert read == ['red', 'green', 'blue']
    np.testing.assert_array_equal(second[1], first[0])
    second[:] = 0
    np.testing.assert_array_equal(encoder.encode_text(['red'])[0], first[0])
    assert encoder.encode_metadata(['red']).shape == (1, 5), 'another output is another vector'


def test_only_the_last_phrases_are_kept(model):
    encoder = model()
    for i in range(300):
        encoder.encode_text(['red', f'{i}'])
    assert len(encoder._recent) == 256
    assert ('text_embeds', 'red') in encoder._recent, 'used all the time'
    encoder.encode_metadata([f'{i}' for i in range(300)])
    assert ('text_embeds', 'red') in encoder._recent, 'the metadata of rows push out no phrase'


def test_threads_ask_for_the_same_phrases(model):
    encoder = model()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: encoder.encode_text([f'{i % 5}', 'red', 'blue']),
                                 range(200)))
    for i, vectors in enumerate(found):
        np.testing.assert_array_equal(vectors, found[i % 5])


def test_padding_does_not_change_a_vector(model):
    encoder = model()
    alone = encoder.encode_text(['red'])
    beside = encoder.encode_text(['red', 'a green galaxy galaxy'])
    np.testing.assert_allclose(beside[0], alone[0], atol=1e-6)


def test_siglip_pads_every_text_to_the_full_length(model, tmp_path):
    encoder = model(text={'inputs': ('input_ids',)})
    (tmp_path / 'siglip').mkdir()
    path = tiny.write_bundle(tmp_path / 'siglip' / 'model', text={'inputs': ('input_ids',)})
    tiny.write_json(path / 'config.json', {'model_type': 'siglip',
                                           'text_config': {'max_position_embeddings': 16}})
    tiny.seal(path)
    siglip = Encoder(open_bundle(str(path)), device='cpu')
    assert len(siglip._opened('tokenizer').encode('red').ids) == 16
    assert len(encoder._opened('tokenizer').encode('red').ids) == 3
    assert siglip.n_tokens('red') == encoder.n_tokens('red') == 3


@pytest.mark.parametrize('has_normaliser', [True, False])
def test_siglip_reads_lower_case_whatever_its_tokenizer_says(tmp_path, has_normaliser):
    path = tiny.write_bundle(tmp_path / 'model', text={'inputs': ('input_ids',)})
    tiny.write_json(path / 'config.json', {'model_type': 'siglip'})
    tokenizer = json.loads((path / 'tokenizer.json').read_text())
    tokenizer['normalizer'] = {'type': 'NFC'} if has_normaliser else None
    tiny.write_json(path / 'tokenizer.json', tokenizer)
    tiny.seal(path)
    siglip = Encoder(open_bundle(str(path)), device='cpu')
    shouted, said = siglip.encode_text(['A RED Galaxy', 'a red galaxy'])
    np.testing.assert_array_equal(shouted, said)
    assert siglip.encode_text(['blue'])[0].tolist() != said.tolist()


def test_no_texts(model):
    assert model().encode_text([]).shape[0] == 0


def test_a_phrase_that_is_too_long_is_cut_and_can_be_told(model):
    encoder = model()
    assert encoder.n_tokens('a red galaxy') == 5
    assert encoder.n_tokens('red ' * 10_000) > encoder.bundle.context_length
    start = 'red green red green'  # six tokens with those of begin and end
    np.testing.assert_array_equal(encoder.encode_text([start + ' blue' * 10_000]),
                                  encoder.encode_text([start]))


@pytest.mark.parametrize('text', ['原始惑星系円盤', 'é', '\0', '\ud800', '🌌' * 100, ' '])
def test_any_string_can_be_embedded(model, text):
    encoder = model()
    assert np.isfinite(encoder.encode_text([text])).all()
    assert encoder.n_tokens(text) >= 2


# ---- faults ------------------------------------------------------------------------------


def test_an_output_that_is_missing_is_named(model):
    encoder = model(vision={'output': 'last_layer'}, text={'outputs': ('sentence_embeds',)})
    with pytest.raises(BundleError, match=r'none of the outputs image_embeds.*it has last_layer'):
        encoder.encode_images(IMAGES)
    with pytest.raises(BundleError, match='none of the outputs text_embeds'):
        encoder.encode_text(['red'])


def test_an_output_that_is_no_vector(model):
    encoder = model(text={'pooled': False, 'outputs': ('pooler_output',)})
    with pytest.raises(BundleError, match=r'pooler_output of the model .* is no vector'):
        encoder.encode_text(['red'])


def test_vectors_of_a_size_that_the_description_does_not_say(model):
    encoder = model(vision={'dim': 4})
    with pytest.raises(BundleError, match='corrupt: its vectors have 4 dimensions, not 3'):
        encoder.encode_images(IMAGES)


def test_towers_of_two_spaces(model):
    encoder = model(vision={'dim': 4}, info={'embedding_dim': None})
    encoder.encode_text(['red'])
    with pytest.raises(BundleError, match='corrupt: its vectors have 4 dimensions, not 3'):
        encoder.encode_images(IMAGES)


@pytest.mark.parametrize(('options', 'match'), [
    ({'vision': {'size': 16}}, r'reads images of \[16, 16\] pixels, its preprocessor makes \[8'),
    ({'vision': {'size': 16, 'layout': 'NHWC'}}, r'reads images of \[16, 16\] pixels'),
    ({'vision': {'shape': ['n', 's', 's', 't', 3]}}, 'reads no images but arrays of shape')])
def test_towers_that_do_not_fit_the_preprocessor(model, options, match):
    with pytest.raises(BundleError, match=match):
        model(**options).encode_images(IMAGES)


def test_bytes_that_are_no_onnx_model(model):
    path = model().bundle.path
    (path / 'onnx' / 'vision_model.onnx').write_bytes(b'not a model' * 100)
    encoder = Encoder(sealed_anew(path), device='cpu')
    with pytest.raises(EncoderError, match=r'vision_model.onnx cannot be opened as an ONNX') as e:
        encoder.encode_images(IMAGES)
    assert '\n' not in str(e.value)
    encoder.encode_text(['red'])


def test_a_model_that_fails_while_it_runs(model):
    encoder = model()
    with pytest.raises(EncoderError, match="model 'tiny' could not be run") as caught:
        encoder.encode_images(np.zeros((1, 4, 4, 3), np.uint8))
    assert '\n' not in str(caught.value)


def test_a_damaged_tokenizer(model):
    path = model().bundle.path
    (path / 'tokenizer.json').write_text('{"version": "1.0"}')
    encoder = Encoder(sealed_anew(path), device='cpu')
    with pytest.raises(BundleError, match=r'The tokenizer.json of the model .* cannot be read'):
        encoder.encode_text(['red'])


# ---- sessions ----------------------------------------------------------------------------


def test_the_same_encoder_for_everyone(model):
    bundle = model().bundle
    assert open_encoder(bundle, device='cpu') is open_encoder(bundle, device='cpu')
    assert open_encoder(bundle, device='cpu') is not open_encoder(bundle, device='cpu', n_threads=1)


def test_threads_open_one_session(model, caplog):
    encoder = model()
    with (caplog.at_level(logging.INFO, 'astroclip_search'), ThreadPoolExecutor(8) as threads):
        found = list(threads.map(lambda _: encoder.encode_images(IMAGES), range(32)))
    assert all(np.array_equal(vectors, found[0]) for vectors in found)
    assert [r.getMessage() for r in caplog.records] == ['The model tiny runs on CPU.']


def threads_of_models():
    return [thread for thread in threading.enumerate()
            if thread.name.startswith('astroclip-model')]


def test_a_closed_encoder_has_no_threads_and_opens_again(model):
    of_others, encoder = set(threads_of_models()), model()
    before = encoder.encode_images(np.resize(IMAGES, (99, 8, 8, 3)))
    threads = set(threads_of_models()) - of_others
    assert threads
    towers = weakref.ref(encoder._opened('vision'))
    encoder.close()
    encoder.close()
    assert not threads & set(threads_of_models())
    assert towers() is None
    np.testing.assert_array_equal(encoder.encode_images(np.resize(IMAGES, (99, 8, 8, 3))), before)


def test_an_encoder_may_be_closed_while_others_use_it(model):
    encoder = model()
    images = np.resize(IMAGES, (99, 8, 8, 3))
    expected = encoder.encode_images(images)
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(encoder.encode_images, images) for _ in range(40)]
        for _ in range(20):
            encoder.close()
    for vectors in found:
        np.testing.assert_array_equal(vectors.result(), expected)


# ---- other processes ---------------------------------------------------------------------


def in_a_new_process(script, *arguments):
    return subprocess.run([sys.executable, '-c', script, *map(str, arguments)], check=True,
                          timeout=120, cwd=ROOT, capture_output=True, text=True)


def test_an_encoder_can_be_pickled_at_any_time(model):
    encoder = open_encoder(model().bundle, device='cpu', n_threads=3)
    assert pickle.loads(pickle.dumps(encoder)) is encoder
    encoder.encode_images(IMAGES)
    encoder.encode_text(['red'])
    assert pickle.loads(pickle.dumps(encoder)) is encoder


def test_a_pickled_encoder_gives_the_same_vectors_elsewhere(model, tmp_path):
    encoder = model()
    images, texts = np.resize(IMAGES, (99, 8, 8, 3)), ['red', 'a green galaxy']
    found = (encoder.encode_images(images), encoder.encode_text(texts),
             encoder.encode_metadata(texts))
    file = tmp_path / 'encoder.pickle'
    file.write_bytes(pickle.dumps((encoder, images, texts, found)))
    in_a_new_process("""
import pickle, sys
with open(sys.argv[1], 'rb') as file:
    encoder, images, texts, found = pickle.load(file)
assert (encoder.encode_images(images) == found[0]).all()
assert (encoder.encode_text(texts) == found[1]).all()
assert (encoder.encode_metadata(texts) == found[2]).all()
""", file)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
@pytest.mark.parametrize('n_threads', [1, 4])
def test_an_encoder_works_after_a_fork(model, n_threads):
    """
    The child has none of the threads of its parent, which hold locks at that moment.
    """
    found = in_a_new_process("""
import os, sys, threading
import numpy as np
from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import open_encoder

bundle = open_bundle(sys.argv[1])
encoder = open_encoder(bundle, device='cpu', n_threads=int(sys.argv[2]))
images = np.random.default_rng(0).integers(0, 256, (99, 8, 8, 3), np.uint8)
texts = ['red', 'a green galaxy'] * 40

def embed():
    return encoder.encode_images(images), encoder.encode_text(texts), encoder.encode_text(['red'])

expected = embed()
stop = threading.Event()

def work():
    while not stop.is_set():
        embed()
        encoder.close()

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(5):
    child = os.fork()
    if not child:
        assert open_encoder(bundle, device='cpu', n_threads=int(sys.argv[2])) is encoder
        assert all((a == b).all() for a, b in zip(embed(), expected, strict=True))
        encoder.close()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert all((a == b).all() for a, b in zip(embed(), expected, strict=True))
stop.set()
for thread in threads:
    thread.join()
print('done')
""", model().bundle.path, n_threads)
    assert found.stdout == 'done\n'


@pytest.mark.skipif('fork' not in multiprocessing.get_all_start_methods(), reason='no fork')
def test_a_forked_pool_of_processes(model):
    found = in_a_new_process("""
import multiprocessing, sys
import numpy as np
from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import open_encoder

encoder = open_encoder(open_bundle(sys.argv[1]), device='cpu', n_threads=4)
images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
expected = encoder.encode_images(images)

with multiprocessing.get_context('fork').Pool(2) as pool:  # which pickles the encoder as well
    for vectors in pool.map(encoder.encode_images, [images] * 4):
        assert (vectors == expected).all()
print('done')
""", model().bundle.path)
    assert found.stdout == 'done\n'


# ---- devices -----------------------------------------------------------------------------


def test_nothing_is_printed(model, capfd):
    encoder = model()
    encoder.encode_images(IMAGES)
    encoder.encode_text(['red'])
    assert encoder.device == 'cpu'
    assert capfd.readouterr() == ('', '')


@pytest.fixture
def no_driver(monkeypatch):
    monkeypatch.setattr(encoder_module, 'has_driver', lambda: False)


def test_without_a_driver_auto_is_the_cpu_in_silence(model, no_driver, capfd):
    path = model().bundle.path
    tiny.write_vision_tower(path, suffix='_fp16', output='for_the_gpu')
    encoder = Encoder(sealed_anew(path), device='auto')
    assert encoder.device == 'cpu'
    encoder.encode_images(IMAGES)
    assert capfd.readouterr() == ('', '')


def test_without_a_driver_cuda_is_one_sentence(model, no_driver):
    encoder = Encoder(model().bundle, device='cuda')
    with pytest.raises(EncoderError, match=r'CUDA was asked for but .*astroclip-search\[cuda\]'):
        encoder.encode_images(IMAGES)


def test_a_driver_whose_libraries_are_missing_falls_back_to_the_file_for_the_cpu(
        model, monkeypatch, capfd):
    """
    On a machine with CUDA the session is real, and the half-precision file is right.
    """
    monkeypatch.setattr(encoder_module, 'has_driver', lambda: True)
    path = model().bundle.path
    tiny.write_vision_tower(path, suffix='_fp16', dim=4)
    encoder = Encoder(sealed_anew(path), device='auto')
    assert encoder.device in ('cpu', 'cuda')
    assert encoder._opened('vision').outputs[0].shape[1] == (3 if encoder.device == 'cpu' else 4)
    assert capfd.readouterr() == ('', '')


@pytest.mark.gpu
def test_cuda_gives_the_vectors_of_the_cpu(model):
    if not has_driver():
        pytest.skip('no CUDA driver')
    bundle = model().bundle
    encoder = Encoder(bundle, device='cuda')
    try:
        vectors = encoder.encode_images(IMAGES)
    except EncoderError as error:
        pytest.skip(str(error))
    assert encoder.device == 'cuda'
    np.testing.assert_allclose(vectors, Encoder(bundle, device='cpu').encode_images(IMAGES),
                               atol=1e-3)


def test_the_runtime_reports_to_no_one(tmp_path):
    made = tiny.write_bundle(tmp_path / 'model')
    home = tmp_path / 'home'
    home.mkdir()
    # What it collects to send, it keeps in the home directory; CI would keep it quiet by itself.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('CI', 'ORT_DISABLE_TELEMETRY')
                   and not name.startswith('XDG_')}
    script = ('from astroclip_search.models.bundle import open_bundle\n'
              'from astroclip_search.models.encoder import open_encoder\n'
              f'open_encoder(open_bundle({str(made)!r})).encode_text(["red"])')
    subprocess.run([sys.executable, '-c', script], check=True, cwd=ROOT,
                   env={**environment, 'HOME': str(home)})
    assert not list(home.rglob('*onnxruntime*'))
