# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
``models recommend``: facts, a speed, and what is here already.
"""

import json

import pytest

from astroclip_search import diagnostics
from astroclip_search.exceptions import BundleError
from astroclip_search.models import bundle as bundle_module
from astroclip_search.models.recommended import RECOMMENDED, UNUSABLE

HERE = 'Xenova/clip-vit-base-patch16'


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A computer that has one of them, and embeds 100 images a second."""
    monkeypatch.setattr(bundle_module, 'cached_models', lambda: [('default', tmp_path),
                                                                 (HERE, tmp_path)])
    monkeypatch.setattr(bundle_module, 'open_bundle', lambda name: None)
    monkeypatch.setattr('astroclip_search.models.encoder.Encoder', lambda bundle, **options: None)
    monkeypatch.setattr(diagnostics, 'images_per_second', lambda encoder: 100.0)


def test_for_people(command):
    code, out, err = command('models', 'recommend')
    assert (code, err) == (0, [])
    assert max(map(len, out)) < 100
    text = ' '.join(line.strip() for line in out)
    for model in RECOMMENDED:
        assert model.name in text
        assert f'licence: {model.licence}' in text
    assert f'{HERE} (on this machine)' in text
    assert text.count('(on this machine)') == 1
    assert 'about 100 images/s on this CPU at the moment' in text
    assert 'speed not known' in text
    assert 'None of them was trained on the sky' in text
    assert 'no false-alarm rates until they are calibrated' in text
    assert 'python -m export calibrate ID --archive FOLDER --out BUNDLE' in text
    assert "ClipSearch.model = 'ID'" in text


def test_for_programs(command):
    code, out, _ = command('models', 'recommend', '--json')
    said = json.loads('\n'.join(out))
    assert code == 0
    assert said['embedded_images_per_second'] == 100
    assert said['unusable'] == UNUSABLE
    models = {model['name']: model for model in said['models']}
    assert [name for name, model in models.items() if model['is_here']] == [HERE]
    assert models[HERE]['download'] == {'int8': 152, 'fp16': 300, 'fp32': 599}
    base = models['Xenova/clip-vit-base-patch32']['images_per_second']
    assert 3 < base / models[HERE]['images_per_second'] < 5
    assert models['apple/MobileCLIP-S2-OpenCLIP']['images_per_second'] is None


def test_without_an_embedded_model(command, monkeypatch):
    def missing(name):
        raise BundleError('not in this installation')

    monkeypatch.setattr(bundle_module, 'open_bundle', missing)
    code, out, _ = command('models', 'recommend')
    assert code == 0
    assert out[1] == "To be used as they are, by --model ID or ClipSearch.model = 'ID':"
    assert 'images/s' not in ' '.join(out)
