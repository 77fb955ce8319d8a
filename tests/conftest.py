# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A search whose right answers are known, and pictures for it.
"""

import pytest

from astroclip_search import ClipSearch
from tests.colours import ColourEncoder, content


@pytest.fixture
def search(tmp_path):
    return ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')


@pytest.fixture
def folder(tmp_path):
    """A folder with a picture of each colour."""
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for colour in ('red', 'green', 'blue'):
        (folder / f'{colour}.png').write_bytes(content(colour))
    return folder
