"""Bundles of the tiny CLIPs of every library, each made once."""

from importlib.util import find_spec

import pytest

# Doctests are looked for in every module, and these need torch to be read.
collect_ignore = [] if find_spec('torch') else ['checkpoints.py', 'made.py']


@pytest.fixture(scope='package')
def models(tmp_path_factory):
    from astroclip_search.models.bundle import open_bundle
    from tests.export.to_onnx.made import Made

    made = {}

    def get(family):
        if family not in made:
            made[family] = Made(family, tmp_path_factory.mktemp(family))
        return made[family]

    yield get
    open_bundle.cache_clear()
