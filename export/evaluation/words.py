"""
BM25: how well the metadata of a row alone answer a query, without any model.
"""

import re

import numpy as np
from scipy.sparse import csr_matrix

__all__ = ['bm25', 'terms']


def terms(text):
    """
    Split a text into terms.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    terms : list of str
        Lower-case words and numbers, without the ``s`` or ``ies`` of a plural.
    """
    words = re.findall(r'[^\W_]+', text.lower())
    return [re.sub(r'ies$', 'y', word) if word.endswith('ies') else
            re.sub(r'(?<=[^\Wsu])s$', '', word) for word in words]


def bm25(texts, queries, *, saturation=1.2, length_weight=0.75):
    """
    Score texts by the terms that they share with queries.

    Parameters
    ----------
    texts : sequence of str
        Words of the rows, of which at least one has a term.
    queries : sequence of str
        Phrases.
    saturation, length_weight : float, optional
        The constants k1 and b.

    Returns
    -------
    scores : `numpy.ndarray` of float, shape (len(texts), len(queries))
        Zero where no term is shared.

    References
    ----------
    Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond",
    with the inverse document frequency of Lucene, which is never negative.
    """
    documents = [terms(text) for text in texts]
    number = {term: i for i, term in enumerate(sorted({t for words in documents for t in words}))}
    rows = np.repeat(np.arange(len(texts)), [len(words) for words in documents])
    columns = [number[term] for words in documents for term in words]
    counts = csr_matrix((np.ones(len(rows)), (rows, columns)), (len(texts), len(number)))
    length = np.asarray(counts.sum(1)).ravel()
    norm = saturation * (1 - length_weight + length_weight * length / length.mean())
    present = np.asarray((counts > 0).sum(0)).ravel()
    rarity = np.log1p((len(texts) - present + 0.5) / (present + 0.5))
    scores = np.zeros((len(texts), len(queries)))
    for column, query in enumerate(queries):
        known = [number[term] for term in terms(query) if term in number]
        frequency = counts[:, known].toarray()
        gain = frequency * (saturation + 1) / (frequency + norm[:, None])
        scores[:, column] = gain @ rarity[known]
    return scores
