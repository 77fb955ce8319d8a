# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A VOTable of 50,000 rows, looked at before it is parsed as everything from outside is, beside
astropy alone.

Both read the same bytes from memory, as rows of text (TABLEDATA) and as a stream (BINARY2).
"""

import io

import numpy as np

from .comparison import Comparison, compare, seconds

__all__ = ['answer', 'compare_votable']

ROWS = 50_000
BOUND = 1.2


def answer(count: int, form: str) -> bytes:
    """Write what a service would answer: ten columns, six of them text."""
    from astropy.io import votable
    from astropy.table import Table

    rng = np.random.default_rng(4)
    numbers = np.arange(count)
    table = Table({
        'obs_id': [f'obs{i:07}' for i in numbers],
        'access_url': [f'https://archive.example/data/{i}.jpg' for i in numbers],
        'access_format': ['image/jpeg'] * count, 'instrument_name': ['WFC3'] * count,
        'target_name': [f'NGC {i % 5000}' for i in numbers],
        'obs_title': ['A deep survey of galaxies & stars'] * count,
        's_ra': rng.uniform(0, 360, count), 's_dec': rng.uniform(-90, 90, count),
        't_exptime': rng.uniform(0, 1000, count), 'size': numbers})
    written = io.BytesIO()
    votable.writeto(votable.from_table(table), written, tabledata_format=form)
    return written.getvalue()


def compare_votable(repeats: int) -> list[Comparison]:
    """Read both forms."""
    from astropy.io import votable

    from astroclip_search.untrusted import xml

    found = []
    for form in ('tabledata', 'binary2'):
        content = answer(ROWS, form)

        def alone(document: bytes = content) -> None:
            votable.parse(io.BytesIO(document).read)

        def guarded(document: bytes = content) -> None:
            votable.parse(io.BytesIO(xml.checked(document)).read)

        ours, theirs = compare(lambda: seconds(guarded), lambda: seconds(alone), repeats)
        found.append(Comparison(f'a VOTable of {ROWS:,} rows, {form.upper()}', ours,
                                'astropy alone', theirs, bound=BOUND))
    return found
