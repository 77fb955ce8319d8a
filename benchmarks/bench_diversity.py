# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How many programmes the first rows of a result come from, with and without ``group_by``.

On real JWST observations where the development data are, on the sample archive elsewhere.
"""

import tempfile

from .comparison import Comparison

__all__ = ['compare_diversity']

QUERIES = ('spiral galaxy', 'edge-on galaxy with a dust lane', 'globular cluster',
           'planetary nebula', 'star forming region', 'galaxy cluster with arcs',
           'supernova remnant', 'protoplanetary disk', 'resolved star field', 'jets and outflows')


def compare_diversity(_repeats: int) -> list[Comparison]:
    """Count rows for each distinct programme; it is the same however often it is repeated."""
    import warnings

    from astroquery.mast import Observations

    from astroclip_search import ClipSearch
    from tests.loopback import point_astroquery_at
    from tests.loopback.archive import Archive
    from tests.loopback.mast import Mast

    archive = Archive.default()
    with (tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Mast(archive) as mast,
          warnings.catch_warnings()):
        warnings.simplefilter('ignore')  # of rows without an image
        restore = point_astroquery_at(mast.url)
        try:
            table = Observations.query_criteria(intentType='science')
            search = ClipSearch(cache_dir=folder)
            counts = {(n, group): [] for n in (20, 100) for group in (None, 'proposal_id')}
            for query in QUERIES:
                for (n, group), count in counts.items():
                    best = search.rank(table, query, group_by=group, limit=n, max_images=10_000,
                                       show_progress=False)
                    count.append(len(best) / len(set(best['proposal_id'])))
        finally:
            restore()
    return [Comparison(
        f'rows of each programme among the first {n} of {len(table)}, grouped',
        counts[n, 'proposal_id'], 'not grouped', counts[n, None], bound=1, unit='rows',
        notes=[f'mean of {len(QUERIES)} phrases: ' + ', '.join(
            f'{sum(n / rows for rows in counts[n, group]) / len(QUERIES):.1f} programmes '
            f'{"" if group else "not "}grouped' for group in (None, 'proposal_id'))])
            for n in (20, 100) if n <= len(table)]
