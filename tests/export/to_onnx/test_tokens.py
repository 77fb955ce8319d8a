"""Traps of texts: padding, end tokens, case and cleaning, in every library."""

import json

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

import torch
from tokenizers import Tokenizer

from astroclip_search.models.bundle import open_bundle
from export.to_onnx.hub import write
from export.to_onnx.tracing import session
from tests.export.to_onnx import checkpoints
from tests.export.to_onnx.made import PADDING, SAME

pytestmark = pytest.mark.filterwarnings(
    # Of transformers: what a configuration of a tiny model cannot say.
    'ignore:.*torch.jit:DeprecationWarning')


@pytest.fixture(params=checkpoints.FAMILIES)
def model(request, models):
    return models(request.param)


def test_padding_and_neighbours_change_nothing(model):
    length, pad, always = PADDING[model.family]
    encoder = model.encoder()
    assert encoder.bundle.context_length == length
    tokenizer = Tokenizer.from_file(str(model.bundle / 'tokenizer.json'))
    assert tokenizer.padding['pad_id'] == pad
    assert tokenizer.padding['length'] == (length if always else None)
    phrase = 'a red spiral galaxy'
    wanted = model.library([phrase])[0]
    np.testing.assert_allclose(encoder.encode_text([phrase])[0], wanted, atol=1e-5)
    beside = encoder.encode_text([phrase, 'a globular cluster of stars in a dust lane, far away'])
    np.testing.assert_allclose(beside[0], wanted, atol=1e-5)
    # Readers that know nothing of padding: the graph does it.
    text = session(model.bundle / 'onnx' / 'text_model.onnx')
    tokenizer.no_padding()
    ids = tokenizer.encode(phrase).ids
    assert len(ids) < length
    bare, = text.run(None, {'input_ids': np.array([ids])})
    np.testing.assert_allclose(bare[0], wanted, atol=1e-5)


@pytest.mark.parametrize('family', ['mobileclip', 'coca', 'openclip_siglip', 'siglip', 'siglip2'])
def test_towers_that_look_at_the_padding_do(models, family):
    """
    Else the test above could not fail.
    """
    checkpoint = models(family).checkpoint
    tokens = checkpoint.tokens(['a red spiral galaxy'])
    end = int((tokens[0] != PADDING[family][1]).nonzero().max()) + 1
    other = tokens.clone()
    other[:, end + 2:] = 3
    with torch.no_grad():
        difference = (checkpoint.encode_text(tokens) - checkpoint.encode_text(other)).abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize('family', ['openclip', 'clip'])
def test_the_vector_is_of_the_end_token(models, family):
    """
    Not of the last one, nor of the largest number anywhere: CLIP-ONNX's issue 12.
    """
    made = models(family)
    text = session(made.bundle / 'onnx' / 'text_model.onnx')
    tokens = made.checkpoint.tokens(['a red galaxy']).numpy()
    end = int(tokens[0].argmax())

    def vector(ids):
        return text.run(None, {'input_ids': ids})[0][0]

    before, behind = tokens.copy(), tokens.copy()
    before[0, end - 1] -= 1
    behind[0, end + 1:] = 7
    np.testing.assert_allclose(vector(behind), vector(tokens), atol=1e-6)
    assert np.abs(vector(before) - vector(tokens)).max() > 1e-3
    np.testing.assert_allclose(vector(tokens), made.library(['a red galaxy'])[0], atol=1e-5)


def test_a_long_text_keeps_its_end_token(model):
    tokenizer = Tokenizer.from_file(str(model.bundle / 'tokenizer.json'))
    length = PADDING[model.family][0]
    ids = tokenizer.encode('galaxy ' * 100).ids
    assert len(ids) == length
    assert ids[-1] == tokenizer.encode('galaxy').ids[
        [i for i, one in enumerate(tokenizer.encode('galaxy').attention_mask) if one][-1]]
    assert ids == model.checkpoint.tokens(['galaxy ' * 100])[0].tolist()


def test_tokens_of_clip_are_the_known_ones(models):
    tokenizer = Tokenizer.from_file(str(models('openclip').bundle / 'tokenizer.json'))
    assert tokenizer.encode('a photo of a cat').ids[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer.encode('A Diagram!').ids == [49406, 320, 22697, 256, 49407]


@pytest.mark.parametrize(('text', 'spelling'),
                         [(text, other) for text, others in SAME.items() for other in others])
@pytest.mark.parametrize('family', ['openclip', 'mobileclip', 'openclip_siglip'])
def test_texts_are_cleaned_as_ftfy_does(models, family, text, spelling):
    made = models(family)
    tokenizer = Tokenizer.from_file(str(made.bundle / 'tokenizer.json'))
    ids = tokenizer.encode(spelling).ids
    assert ids == tokenizer.encode(text).ids
    wanted = made.checkpoint.tokens([spelling])[0].tolist()
    assert ids == wanted[:len(ids)]


def test_what_ftfy_does_that_no_tokenizer_can(models):
    """
    Text decoded with the wrong encoding stays as it is; this is said in the README.
    """
    made = models('openclip')
    tokenizer = Tokenizer.from_file(str(made.bundle / 'tokenizer.json'))
    wanted = made.checkpoint.tokens(['Ã©toile'])[0].tolist()
    assert wanted[:3] == tokenizer.encode('étoile').ids[:3]
    assert tokenizer.encode('Ã©toile').ids != tokenizer.encode('étoile').ids


def test_siglip_has_no_case_and_no_punctuation(models):
    first = Tokenizer.from_file(str(models('siglip').bundle / 'tokenizer.json'))
    assert first.encode('A Galaxy, RED!').ids == first.encode('a galaxy red').ids
    second = Tokenizer.from_file(str(models('siglip2').bundle / 'tokenizer.json'))
    assert second.encode('A GALAXY').ids == second.encode('a galaxy').ids
    before = Tokenizer.from_file(str(models('siglip2').source / 'tokenizer.json'))
    assert before.encode('A GALAXY').ids != before.encode('a galaxy').ids


def test_the_end_token_of_old_configurations(tmp_path):
    """
    ``eos_token_id`` 2 in files of before 2023: the largest number is meant.
    """
    folder = tmp_path / 'old'
    checkpoints.make('clip', folder)
    config = json.loads((folder / 'config.json').read_text())
    config['text_config']['eos_token_id'] = 2
    (folder / 'config.json').write_text(json.dumps(config))
    assert write(str(folder), tmp_path / 'model', variants=[])['fp32']['delta_cosine'] < 1e-4


def test_scale_and_bias(models):
    info = open_bundle(str(models('siglip').bundle)).info
    assert info['logit_scale'] == pytest.approx(110, rel=1e-5)
    assert info['logit_bias'] == pytest.approx(-12.9, rel=1e-5)
    assert open_bundle(str(models('clip').bundle)).info['logit_bias'] is None
