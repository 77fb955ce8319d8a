"""
Tables of what `export.evaluation.retrieval` has measured.
"""

import numpy as np

from export.measures.metrics import METRICS
from export.measures.ranks import PERCENT, RECALLS

__all__ = ['tables']


def tables(result):
    """
    Lay numbers out.

    Parameters
    ----------
    result : dict
        From `export.evaluation.retrieval.retrieval`.

    Returns
    -------
    tables : list of dict
        For `export.measures.tables.markdown_table`, each with a ``title`` and a ``text``.
    """
    figures = result['figures']
    columns = [*(f'RA_{k}%' for k in PERCENT), *(f'R@{k}' for k in RECALLS), 'MRR']
    sides = (('own caption among those of all rows', 'formula'),
             ('caption among distinct ones', 'captions'),
             ('image among all, by caption', 'images'), ('captions permuted', 'control'))
    found = [{
        'title': 'Pairs', 'columns': ['by cosine', 'of', 'median rank', *columns],
        'rows': [[name, side['answers'], side['median rank'], *map(_span, map(side.get, columns))]
                 for name, side in ((name, result[key]) for name, key in sides)],
        'text': f'{result["data"]["images"]} images, {result["data"]["captions"]} captions, '
                f'{result["data"]["proposals"]} proposals; 95 % over proposals. Mean recall '
                f'{result["mean recall"]:.3f}.'}]
    cuts = {str(cut): i for i, cut in enumerate(figures['cuts'][:4])}
    found.append({
        'title': 'As the figures of PAPERCLIP', 'columns': ['within the first', *cuts],
        'rows': [[name, *(figures[name][i] for i in cuts.values())]
                 for name in ('dot product', 'cosine')],
        'text': f'The caption of the same row among those of {figures["pairs"]} rows.'
                + _batch_text(figures.get('batches')) + _views_text(result.get('views', ()))})
    found.append({
        'title': 'Judged', 'columns': ['', 'P@10', 'judged', 'proposals', 'relevant proposals',
                                       'P@10 of proposals', 'judged of them'],
        'rows': [[name, *(rows[key] for key in ('P', 'judged', 'proposals', 'relevant proposals',
                                                'P of proposals', 'judged of proposals'))]
                 for name, rows in result['judged']['methods'].items()],
        'text': 'Means over queries of the first ten; what nobody has judged counts as not '
                f'relevant, and {result["judged"]["to be judged"]} are to be judged.'})
    if 'graded' in result:
        rows = result['graded']
        found.append({'title': 'Graded relevance', 'columns': list(rows[0]),
                      'rows': [list(row.values()) for row in rows],
                      'text': 'Gain 2^relevance - 1, ideal of all images put to the query.'})
    if 'descriptions' in result:
        about = result['descriptions']
        found.append({
            'title': 'Descriptions', 'columns': ['phrases for images', *METRICS],
            'rows': [[name, *one.values()] for name, one in about.items() if isinstance(one, dict)],
            'text': f'{about["images"]} images of which some of {about["phrases"]} phrases are '
                    'right.'})
    return found


def _span(numbers):
    value, low, high = numbers
    return f'{value:.3f} [{low:.3f}, {high:.3f}]'


def _batch_text(batches):
    if not batches:
        return ''
    return (f' In {batches["batches"]} batches of {batches["size"]}, captions to images: top 10 '
            f'{batches["top 10"]:.3f}, loss {batches["loss"]:.3f} (chance '
            f'{batches["chance loss"]:.3f}).')


def _views_text(views):
    if not views:
        return ''
    parts = []
    for name in views[0]:
        values = [view[name] for view in views]
        parts.append(f'{np.mean(values):.4f} by {name} (from {min(values):.4f} to '
                     f'{max(values):.4f})')
    return f' Seen as in the paper, {len(views)} times, within 10 %: {", ".join(parts)}.'
