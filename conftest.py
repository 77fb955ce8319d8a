# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tests and doctests read no settings and no cache of the user, and leave none behind.
"""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings

# astropy reads these when it is first imported, hence before any fixture.
_home = TemporaryDirectory(prefix='astroclip-search-tests-')
for _variable in ('XDG_CONFIG_HOME', 'XDG_CACHE_HOME'):
    for _package in ('astropy', 'astroquery', 'astroclip_search'):
        Path(_home.name, _variable, _package).mkdir(parents=True)  # else astropy falls back to ~
    os.environ[_variable] = str(Path(_home.name, _variable))
for _variable in ('ASTROPY_CONFIG_DIR', 'ASTROPY_CACHE_DIR'):
    os.environ.pop(_variable, None)  # they would win over XDG
os.environ['HF_HOME'] = str(Path(_home.name, 'hub'))
os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')  # no windows
os.environ['ORT_DISABLE_TELEMETRY'] = '1'  # for tests that import ONNX Runtime themselves

# The same examples each time, however long a busy machine takes over them. To look for others:
# pytest --hypothesis-profile=default, with or without --hypothesis-seed=N.
settings.register_profile('repeatable', derandomize=True, deadline=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('repeatable')

pytest_plugins = ['tests.loopback.fixtures']


def pytest_configure(config):
    from pytest_astropy_header.display import PYTEST_HEADER_MODULES, TESTED_VERSIONS

    PYTEST_HEADER_MODULES.clear()
    for name in ('numpy', 'astropy', 'astroquery', 'pyvo', 'onnxruntime', 'tokenizers',
                 'huggingface_hub'):
        PYTEST_HEADER_MODULES[name] = name
    PYTEST_HEADER_MODULES['Pillow'] = 'PIL'
    try:
        TESTED_VERSIONS['astroclip-search'] = version('astroclip-search')
    except PackageNotFoundError:
        TESTED_VERSIONS['astroclip-search'] = 'not installed: the checkout'


def pytest_unconfigure(config):
    _home.cleanup()
