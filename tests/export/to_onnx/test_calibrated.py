"""Bundles of real libraries, calibrated: their own tokens and pixels, padding included."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from astroclip_search import ClipSearchClass
from astroclip_search.diagnostics import selftest
from astroclip_search.models.bundle import open_bundle
from export.evaluation.shipped import Shipped
from export.release import calibrate as module
from export.release.calibrate import calibrate
from export.sky import render


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp('archive')
    for i in range(24):
        Image.fromarray(render(9_300_000 + i, ('spiral', 'comet')[i % 2]).image).save(
            folder / f'{i:02d}.png')
    return folder


@pytest.mark.filterwarnings('ignore::astroclip_search.exceptions.NothingStandsOutWarning')
@pytest.mark.parametrize('family', ['clip', 'siglip'])
def test_a_calibrated_bundle(family, models, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'KINDS', ['spiral', 'comet'])
    monkeypatch.setattr('astroclip_search.diagnostics._SECONDS', 0)
    source = models(family).bundle
    info = calibrate(source, archive, tmp_path / 'bundle', licence='MIT')
    assert selftest(str(tmp_path / 'bundle'), device='cpu')['ok']
    assert info['parity'] == open_bundle(str(source)).info['parity']
    images = [np.asarray(Image.open(file)) for file in sorted(archive.iterdir())]
    background = open_bundle(str(tmp_path / 'bundle')).background
    assert ((Shipped(source).images(images) * background.image).sum(1) > 0.999).all()
    search = ClipSearchClass(model=str(tmp_path / 'bundle'), device='cpu',
                             cache_dir=tmp_path / 'cache')
    ranked = search.rank(archive, 'spiral galaxy')
    # Each is among its own references, so that the ranks are all that the rates can be.
    np.testing.assert_allclose(ranked['clip_false_alarm'], (np.arange(24) + 2) / 25, atol=0.09)
