# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What image references say of each row, in short.
"""

from astroclip_search.images.refs import messages, statuses


def status(refs):
    """Status of each row, empty where its image is worth a try."""
    return ['' if refs.is_open(row) else found
            for row, found in enumerate(statuses(len(refs), refs.reasons))]


def message(refs):
    """Message of each row."""
    return messages(len(refs), refs.reasons)


def codes(refs):
    """Codes of the reasons of each row."""
    return [[because.code for because in refs.reasons.get(row, ())] for row in range(len(refs))]


def states(refs):
    """Source and status of each row."""
    return list(zip(refs.sources, status(refs), strict=True))
