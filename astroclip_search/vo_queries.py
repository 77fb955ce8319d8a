# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that ask services of the Virtual Observatory for candidates before they rank them.
"""

__all__ = ['VoQueries']


class VoQueries:
    """
    Queries of `~astroclip_search.ClipSearchClass` to VO services.

    The class that inherits from it has ``rank``.
    """
