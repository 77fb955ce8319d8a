# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Settings of the documentation; those shared by the astropy family come first.
"""

import os
from importlib.metadata import version as _version

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

extensions += ['myst_parser', 'sphinx_design']
source_suffix = {'.rst': 'restructuredtext', '.md': 'markdown'}
exclude_patterns += ['_build', 'reference/api/*.inc']

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
html_sidebars = {page: [] for page in ('getting_started', 'model_card', 'development', 'citation',
                                       'changes')}

# The public names are few, so they are one page each.
automodapi_toctreedirnm = 'reference/api'
automodapi_inheritance_diagram = False
numpydoc_show_class_members = False
autodoc_typehints = 'none'  # the numpydoc sections say the same and more

for _unused in ('pythonloc', 'h5py', 'scipy', 'astropy.org'):
    intersphinx_mapping.pop(_unused, None)
intersphinx_mapping |= {
    'astroquery': ('https://astroquery.readthedocs.io/en/latest/', None),
    'pyvo': ('https://pyvo.readthedocs.io/en/latest/', None),
}

nitpicky = True
nitpick_ignore_regex = [
    # Mix-ins: their methods are on the page of the class that inherits them.
    (r'py:class', r'astroclip_search\.(descriptions|feedback|pictures|plots|vectors)\.\w+'),
    (r'py:class', r'astroclip_search\.\w*queries\.\w+'),
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
