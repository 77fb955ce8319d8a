# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Versions of what a result depends on.
"""

import platform

__all__ = ['versions']

_PACKAGES = ('astroclip-search', 'astropy', 'astroquery', 'pyvo', 'numpy', 'onnxruntime-gpu',
             'onnxruntime', 'tokenizers', 'huggingface_hub', 'pillow', 'requests', 'tqdm',
             'matplotlib', 'pyarrow', 'fsspec')


def versions() -> dict[str, str]:
    """
    Versions that a bug report needs.

    Returns
    -------
    dict
        Version by name: the packages that are installed, Python, and the system.

    Examples
    --------
    >>> from astroclip_search.versions import versions
    >>> 'astropy' in versions()
    True
    """
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {'Python': platform.python_version(), 'platform': platform.platform()}
