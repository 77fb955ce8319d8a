# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The self-test finds what is wrong, and only that.
"""

import json

import numpy as np
import pytest

from astroclip_search import diagnostics
from astroclip_search.diagnostics import selftest as run
from astroclip_search.search.session import Session
from tests import tiny


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A bundle of two variants that knows its answers, and a cache of its own."""
    monkeypatch.setattr(diagnostics, '_SECONDS', 0)
    monkeypatch.setattr(Session, 'cache_path',
                        lambda self: tmp_path / 'cache' / 'embeddings.sqlite')
    path = tiny.write_bundle(tmp_path / 'model')
    tiny.write_vision_tower(path, suffix='_quantized')
    tiny.write_text_tower(path, suffix='_quantized')
    write_golden(path)
    return path


def write_golden(path, **changes):
    pixels = np.zeros((3, tiny.SIZE, tiny.SIZE, 3), np.uint8)
    pixels[range(3), :, :, range(3)] = 255
    colours = (2 * np.eye(3) - 1) / np.sqrt(3)
    known = {'pixels': pixels, 'image_embeds': colours, 'texts': ['red', 'green', 'blue'],
             'text_embeds': colours, 'sentence_embeds': np.eye(3, 5, k=2)} | changes
    from astroclip_search.models.bundle import open_bundle
    from astroclip_search.models.encoder import Encoder

    encoder = Encoder(open_bundle.__wrapped__(str(path)), device='cpu')
    known['text_embeds'] = changes.get('text_embeds', encoder.encode_text(known['texts']))
    known['sentence_embeds'] = encoder.encode_metadata(known['texts'])
    np.savez(path / 'golden.npz', **known)
    tiny.seal(path)


def failed(report):
    assert report['ok'] == (not any(not check['ok'] for check in report['checks']))
    json.dumps(report, allow_nan=False)
    return [check['name'] for check in report['checks'] if not check['ok']]


def test_all_is_well(model, tmp_path):
    report = run(str(model), device='cpu')
    assert failed(report) == []
    assert [variant['variant'] for variant in report['variants']] == ['float32', 'quantized']
    for variant in report['variants']:
        assert variant['device'] == 'cpu'
        assert variant['images_per_second'] > 0
        assert min(variant[kind] for kind in ('image', 'text', 'metadata')) > 0.9999
    assert 'astropy' in report['versions']
    assert list((tmp_path / 'cache').iterdir()) == []  # nothing is left


def test_another_answer(model):
    write_golden(model, text_embeds=np.eye(3))
    report = run(str(model), device='cpu')
    assert failed(report) == ['variant float32', 'variant quantized']
    assert report['variants'][0]['image'] > 0.9999
    assert report['variants'][0]['text'] < 0.98


def test_one_variant_does_not_run(model):
    (model / 'onnx' / 'vision_model_quantized.onnx').write_bytes(b'damaged')
    tiny.seal(model)
    assert failed(run(str(model), device='cpu')) == ['variant quantized']


def test_altered_file(model):
    run(str(model), device='cpu')  # what was verified once is verified again
    (model / 'tokenizer.json').write_text('{}')
    report = run(str(model), device='cpu')
    assert failed(report) == ['model']
    assert 'sha256 of tokenizer.json' in report['checks'][0]['detail']


def test_model_of_others(model):
    (model / 'astroclip.json').unlink()
    (model / 'golden.npz').unlink()
    report = run(str(model), device='cpu')
    assert failed(report) == []
    assert report['variants'][0]['image'] is None
    assert 'no checksums' in report['checks'][0]['detail']


def test_cache_cannot_be_written(model, tmp_path):
    (tmp_path / 'cache').write_text('a file in its place')
    assert failed(run(str(model), device='cpu')) == ['cache']


def test_a_model_whose_metadata_are_phrases(model):
    """As our export writes them from CLIPs of others."""
    with np.load(model / 'golden.npz') as golden:
        known = {name: golden[name] for name in golden if name != 'sentence_embeds'}
    np.savez(model / 'golden.npz', **known)
    tiny.seal(model)
    report = run(str(model), device='cpu')
    assert failed(report) == []
    assert [variant['metadata'] for variant in report['variants']] == [None, None]
    assert report['variants'][0]['text'] > 0.9999
