"""
A survey is not an object: how far a model answers by the look of a source.
"""

import numpy as np

from export.measures.metrics import METRICS, measure

__all__ = ['PLACES', 'largest_share', 'surveys_table', 'within_sources']

#: First images of which the sources are counted.
PLACES = 20
#: A source with fewer images of a class, or fewer others, says nothing about it.
FEWEST = 3


def within_sources(scores, positive, sources):
    """
    Average the precision that a query has within each source.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n, queries)
        Score of each image for each query.
    positive : `numpy.ndarray` of bool, shape (n, queries)
        Truth.
    sources : `numpy.ndarray` of str, shape (n,)
        Source of each image.

    Returns
    -------
    precision : `numpy.ndarray` of float, shape (queries,)
        Mean over the sources with at least three images that show it and three that do not; NaN
        for a query without such a source.
    """
    found = []
    for source in np.unique(sources):
        rows = sources == source
        count = positive[rows].sum(0)
        value = measure(scores[rows], positive[rows])[:, METRICS.index('AP')]
        found.append(np.where((count >= FEWEST) & (rows.sum() - count >= FEWEST), value, np.nan))
    known = ~np.isnan(found)
    return np.where(known.any(0), np.nansum(found, axis=0) / np.maximum(known.sum(0), 1), np.nan)


def largest_share(scores, positive, sources, *, places=PLACES):
    """
    Say which part of the first images is of one source.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n, queries)
        Score of each image for each query.
    positive : `numpy.ndarray` of bool, shape (n, queries)
        Truth.
    sources : `numpy.ndarray` of str, shape (n,)
        Source of each image.
    places : int, optional
        How many of the first images count.

    Returns
    -------
    share : `numpy.ndarray` of float, shape (queries,)
        Largest part that is of one source.
    of_positive : `numpy.ndarray` of float, shape (queries,)
        Part of the images of the class that is of this source.
    names : list of str
        Which source it is.
    """
    own = sources[:, None] == np.unique(sources)
    first = np.argsort(-scores, axis=0, kind='stable')[:places]
    shares = own[first].mean(0)
    largest = shares.argmax(1)
    right = positive.T.astype(float) @ own / positive.sum(0)[:, None]
    query = np.arange(len(largest))
    return shares[query, largest], right[query, largest], np.unique(sources)[largest].tolist()


def surveys_table(asked, sources, methods):
    """
    Compare a ranking of all sources together with those within them.

    Parameters
    ----------
    asked : `export.evaluation.pooled.Asked`
        The task of all sources together.
    sources : `numpy.ndarray` of str, shape (n,)
        Source of each of its images.
    methods : sequence of str
        Methods to compare.

    Returns
    -------
    table : dict
        For the report; `None` if no source has images enough of any class.
    details : list of dict
        Each query of the first method.
    """
    positive = asked.judged.positive
    some = ~np.isnan(within_sources(asked.scores[methods[0]], positive, sources))
    if not some.any():
        return None, []
    by_chance = np.random.default_rng(0).random(positive.shape)
    compared = {**{name: asked.scores[name] for name in methods},
                'a perfect ranking': positive + by_chance, 'random': by_chance}
    rows, details = [], []
    for name, scores in compared.items():
        together = measure(scores, positive)[:, METRICS.index('AP')]
        within = within_sources(scores, positive, sources)
        share, right, where = largest_share(scores, positive, sources)
        rows.append([name, float(together[some].mean()), float(within[some].mean()),
                     float(share.mean()), float(right.mean()),
                     float(np.maximum(share - right, 0).mean())])
        details = details or [
            {'query': query, 'AP': round(float(values[0]), 4),
             'AP within sources': None if np.isnan(values[1]) else round(float(values[1]), 4),
             'source': values[2], 'share': round(float(values[3]), 4),
             'share of positives': round(float(values[4]), 4)}
            for query, *values in zip(asked.task.queries, together, within, where, share, right,
                                      strict=True)]
    far = sorted(details, key=lambda one: one['share of positives'] - one['share'])[:5]
    named = '; '.join(f"{one['query']} ({one['source']}: {one['share']:.2f}, right "
                      f"{one['share of positives']:.2f})" for one in far)
    return {
        'title': 'A survey is not an object', 'rows': rows,
        'columns': ['', 'mAP all together', 'mAP within sources',
                    f'largest share of the first {PLACES}', 'its share of the class', 'too much'],
        'text': f'{asked.task.name}, by labels and judgements. Within sources: mean over sources '
                f'that have at least {FEWEST} images of the class, then over {int(some.sum())} '
                f'queries. Then the source that has most of the first {PLACES}, and which part of '
                'the images of the class it has. "Too much" is the mean of what the first is above '
                'the second; a model that answers by the look of a survey has more of it than a '
                f'perfect ranking. This model has most for: {named}.',
    }, details
