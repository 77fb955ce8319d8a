# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A search whose right answers are known, and pictures for it.
"""

import types

import pytest

from astroclip_search import ClipSearch
from astroclip_search.archives import mast as mast_module
from astroclip_search.images import http
from tests.colours import ColourEncoder, content


@pytest.fixture
def encoder():
    return ColourEncoder()


@pytest.fixture
def search(encoder, tmp_path):
    return ClipSearch(encoder=encoder, cache_dir=tmp_path / 'cache')


@pytest.fixture
def hurry(monkeypatch):
    """What is tried again is tried again at once, unless the server asks to wait."""
    monkeypatch.setattr(http, 'BACK_OFF', 0.001)
    monkeypatch.setattr(mast_module, 'time', types.SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def folder(tmp_path):
    """A folder with a picture of each colour."""
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for colour in ('red', 'green', 'blue'):
        (folder / f'{colour}.png').write_bytes(content(colour))
    return folder
