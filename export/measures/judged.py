"""
What someone says about the first ten images: precision, and how many proposals there are.

The queries are those of PAPERCLIP [1]_, where a language model read abstract and query and said
yes or no. Here answers come from a file, whoever gave them. Of equal scores the first row counts
as higher: a list that someone judges needs an order.

References
----------
.. [1] Mishra-Sharma, Song, Thaler 2024, https://arxiv.org/abs/2403.08851
"""

import csv
import math

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

__all__ = ['QUERIES', 'firsts', 'precision', 'read_judgements', 'read_relevance', 'tfidf',
           'write_judgements']

#: The ten queries of the paper.
QUERIES = ('globular cluster', 'dwarf galaxy', 'SN1987A', 'strong lensing', 'galaxy clusters',
           'interstellar medium', 'dark matter', 'spiral galaxies', 'lyman alpha', 'comets')

_ANSWERS = {'1': True, 'true': True, 'yes': True, '0': False, 'false': False, 'no': False,
            '': None}


def _rows(path, column):
    """Yield line number, query, image and the text of a column."""
    with open(path, encoding='utf-8-sig', newline='') as lines:  # as spreadsheets write it
        table = csv.DictReader(lines)
        try:
            missing = {'query', 'id', column} - set(table.fieldnames or ())
            if missing:
                raise ValueError(f'{path} has no column {", ".join(sorted(missing))}')
            for row in table:
                query, name = ((row[key] or '').strip() for key in ('query', 'id'))
                if not query or not name or row[column] is None or None in row:
                    raise ValueError(f'{path}, line {table.line_num}: a query, an id and as many '
                                     'values as there are columns are needed')
                yield table.line_num, query, name, row[column].strip()
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f'{path} is not a CSV file in UTF-8: {error}') from error


def read_judgements(path, *, column='relevant'):
    """
    Read what is known about images.

    Parameters
    ----------
    path : path-like
        CSV file with columns ``query``, ``id`` and that of the answer: 1, true, yes, 0, false, no,
        or empty where nobody has judged. Others are not read.
    column : str, optional
        Name of the column of the answer.

    Returns
    -------
    judgements : dict
        (query, id) -> bool.

    Raises
    ------
    ValueError
        If a column is missing, a row is not whole, an answer is none of these, or two contradict
        each other.
    """
    found = {}
    for line, query, image, text in _rows(path, column):
        if text.lower() not in _ANSWERS:
            raise ValueError(f'{path}, line {line}: {column} is {text!r}, not 0 or 1')
        answer = _ANSWERS[text.lower()]
        if answer is None:
            continue
        if found.setdefault((query, image), answer) != answer:
            raise ValueError(f'{path}, line {line}: {image} was judged otherwise before')
    return found


def read_relevance(path):
    """
    Read graded relevance, such as the share of volunteers who saw spiral arms.

    Parameters
    ----------
    path : path-like
        CSV file with columns ``query``, ``id`` and ``relevance``, a number from zero. The images
        listed for a query are those it is put to.

    Returns
    -------
    relevance : dict
        Query -> dict from id to number.

    Raises
    ------
    ValueError
        If a column is missing or a number is none.
    """
    found = {}
    for line, query, image, text in _rows(path, 'relevance'):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise ValueError(f'{path}, line {line}: relevance is {text!r}, not a number from zero')
        found.setdefault(query, {})[image] = number
    return found


def tfidf(texts, queries):
    """
    Score texts by the terms that they share with queries.

    Parameters
    ----------
    texts : sequence of str
        Abstracts or captions.
    queries : sequence of str
        Phrases.

    Returns
    -------
    scores : `numpy.ndarray` of float, shape (len(texts), len(queries))
        Cosines of vectors with the defaults of scikit-learn.
    """
    vectorizer = TfidfVectorizer()
    documents = csr_matrix(vectorizer.fit_transform(texts))
    return (documents @ vectorizer.transform(queries).T).toarray()


def firsts(scores, groups=None, *, places=10):
    """
    Return the first images.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n,)
        Score of each image.
    groups : `numpy.ndarray` of int, shape (n,), optional
        Proposal of each image, of which then only the best one counts.
    places : int, optional
        How many.

    Returns
    -------
    rows : `numpy.ndarray` of int
        The best first.
    """
    order = np.argsort(-scores, kind='stable')
    if groups is not None:
        order = order[np.sort(np.unique(groups[order], return_index=True)[1])]
    return order[:places]


def precision(scores, queries, ids, groups, judgements, *, places=10):
    """
    Count what is relevant among the first, and how many proposals that is.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n, queries)
        Score of each image for each query.
    queries : sequence of str
        Phrases.
    ids : sequence of str
        Of the images.
    groups : `numpy.ndarray` of int, shape (n,)
        Proposal of each image.
    judgements : dict
        From `read_judgements`; what nobody has judged counts as not relevant.
    places : int, optional
        How many images.

    Returns
    -------
    rows : list of dict
        For each query: ``P`` of the first images and ``judged``, how many of these somebody has
        judged; ``proposals`` and ``relevant proposals`` among them; ``P of proposals`` and
        ``judged of proposals`` for the first proposals, each by its best image.
    """
    rows = []
    for column, query in zip(scores.T, queries, strict=True):
        images = firsts(column, places=places)
        apart = firsts(column, groups, places=places)
        said = [judgements.get((query, ids[i])) for i in images]
        said_apart = [judgements.get((query, ids[i])) for i in apart]
        relevant = images[[answer is True for answer in said]]
        rows.append({
            'query': query, 'P': len(relevant) / len(images),
            'judged': sum(answer is not None for answer in said),
            'proposals': len(np.unique(groups[images])),
            'relevant proposals': len(np.unique(groups[relevant])),
            'P of proposals': sum(answer is True for answer in said_apart) / len(apart),
            'judged of proposals': sum(answer is not None for answer in said_apart),
        })
    return rows


def write_judgements(path, methods, queries, ids, groups, texts, judgements, *, places=10):
    """
    Write the list of what there is to judge, with what is known filled in.

    Parameters
    ----------
    path : path-like
        CSV file to write, which `read_judgements` reads.
    methods : list of `numpy.ndarray` of float, shape (n, queries)
        Scores of each method whose first images are to be judged.
    queries, ids, groups : sequence
        As for `precision`.
    texts : sequence of str
        Abstract or caption of each image, for whoever judges.
    judgements : dict
        Known answers; those to other images are kept as well.
    places : int, optional
        How many images of each method, and how many proposals.

    Returns
    -------
    missing : int
        How many are to be judged.
    """
    text_of = dict(zip(ids, texts, strict=True))
    asked = dict.fromkeys(
        (query, ids[i]) for column, query in enumerate(queries) for scores in methods
        for kind in (None, groups) for i in firsts(scores[:, column], kind, places=places))
    with open(path, 'w', encoding='utf-8', newline='') as stream:
        table = csv.writer(stream, lineterminator='\n')
        table.writerow(['query', 'id', 'relevant', 'text'])
        for key in dict.fromkeys([*asked, *judgements]):
            answer = judgements.get(key)
            table.writerow([*key, '' if answer is None else int(answer), text_of.get(key[1], '')])
    return len(asked.keys() - judgements.keys())
