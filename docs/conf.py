# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Settings of the documentation; those shared by the astropy family come first.
"""

import os
import sys
import tempfile
from importlib.metadata import version as _version
from importlib.util import find_spec
from pathlib import Path

from sphinx_astropy.conf.v2 import *  # noqa: F403 - the way that package is used
from sphinx_astropy.conf.v2 import (
    exclude_patterns,
    extensions,
    html_theme_options,
    intersphinx_mapping,
)

project = 'astroclip-search'
author = 'The astroclip-search developers'
copyright = f'2026, {author}'
release = _version('astroclip-search')
version = '.'.join(release.split('.')[:2])

_docs = Path(__file__).parent
sys.path[:0] = [str(_docs / '_extensions'), str(_docs.parent)]

extensions += ['myst_nb', 'sphinx_design', 'own_pages', 'reasons']
source_suffix = {'.rst': 'restructuredtext', '.md': 'myst-nb'}
exclude_patterns += ['_*', 'reference/api/*.inc', 'tutorials/notebooks',
                     'development/modules.inc']

html_title = f'{project} {version}'
html_theme_options |= {
    'collapse_navigation': False,
    'navigation_with_keys': False,
    'show_toc_level': 2,
    'footer_start': ['copyright'],
    'footer_end': ['sphinx-version'],
}
html_static_path = ['_static']
html_css_files = ['tables.css']
# Pages without pages below them need no list of those.
html_sidebars = {page: [] for page in ('install', 'getting_started', 'gallery', 'comparison',
                                       'model_card', 'performance', 'citation', 'changes',
                                       'glossary', 'security')}
html_sidebars['tutorials/*'] = []  # code and pictures need the width

# Tutorials are run when the documentation is built; an error in one is an error of the build.
nb_execution_mode = 'auto'
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_execution_in_temp = True
nb_merge_streams = True
if not (find_spec('torch') and find_spec('open_clip')):  # `tox -e build_docs` has both
    nb_execution_excludepatterns = ['tutorials/fine_tune.md']
myst_enable_extensions = ['dollarmath', 'colon_fence']
suppress_warnings = ['mystnb.unknown_mime_type']  # widgets and the like, beside what is shown

# They find the stand-ins of archives, and no settings and no cache of whoever builds.
os.environ['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
os.environ['PYTHONPATH'] = os.pathsep.join(sys.path[:2])
_home = tempfile.TemporaryDirectory(prefix='astroclip-search-docs-')
for _variable in ('XDG_CONFIG_HOME', 'XDG_CACHE_HOME'):
    for _package in ('astropy', 'astroquery', 'astroclip_search'):
        Path(_home.name, _variable, _package).mkdir(parents=True)
    os.environ[_variable] = str(Path(_home.name, _variable))
os.environ['IPYTHONDIR'] = str(Path(_home.name, 'ipython'))
os.environ['HF_HUB_OFFLINE'] = '1'
os.environ.pop('MPLBACKEND', None)  # tox sets one that shows no figure in a notebook

# The public names are few, so they are one page each.
automodapi_toctreedirnm = 'reference/api'
automodapi_inheritance_diagram = False
numpydoc_show_class_members = False
autodoc_typehints = 'none'  # the numpydoc sections say the same and more
autodoc_default_options = {'no-value': True}  # one is a folder of the machine that builds
highlight_language = 'none'  # what is not said to be code is not coloured as such

for _unused in ('pythonloc', 'h5py', 'scipy', 'astropy.org'):
    intersphinx_mapping.pop(_unused, None)
intersphinx_mapping |= {
    'astroquery': ('https://astroquery.readthedocs.io/en/latest/', None),
    'pyvo': ('https://pyvo.readthedocs.io/en/latest/', None),
}

nitpicky = True
nitpick_ignore_regex = [
    (r'py:.*', r'PIL\..*'),           # Pillow's inventory names its classes elsewhere
    (r'py:.*', r'onnxruntime\..*'),   # no inventory
]
# A machine without network: references to other projects are left unchecked, ours are not.
if os.environ.get('DOCS_OFFLINE'):
    intersphinx_mapping = {}
    nitpick_ignore_regex += [
        (r'py:.*', r'(astropy|astroquery|matplotlib|numpy|pathlib|pyvo)(\..*)?')]

# Plots are drawn by their own examples.
plot_formats = [('png', 110)]
plot_html_show_formats = plot_html_show_source_link = False

linkcheck_anchors = False
linkcheck_timeout = 30
linkcheck_ignore = [r'https://mast\.stsci\.edu/.*']  # answers robots with a page of its own
