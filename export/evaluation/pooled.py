"""
Labels and judgements: what a ranking is worth if right but unlabelled pictures are not wrong.

Labels are those of titles and programmes, so that a good model finds pictures that show a class and
do not have it. The first of several models were looked at; ``configs/judgements.md`` says how.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from export.data.pairs import row_metadata
from export.evaluation.tasks import Task
from export.evaluation.words import bm25, terms
from export.measures.metrics import (
    METRICS,
    bootstrap,
    group_bootstrap,
    interval,
    measure,
    strata_of,
)

__all__ = ['JUDGEMENTS', 'THIS', 'Asked', 'ask', 'judged_tables', 'words_alone']

#: What pictures show, by looking at them; read by `export.measures.judged.read_judgements`.
JUDGEMENTS = Path(__file__).parents[1] / 'configs' / 'judgements.csv'
#: Sources of which volunteers or experts sorted every picture into the classes that are asked for.
SORTED = ('smallgz1', 'frdeep')
#: Name of the method that others are compared with.
THIS = 'this model'

_SHOWN = [METRICS.index(name) for name in ('AUC', 'AP', 'P@10')]
_NAMES = ['mAUC', 'mAP', 'P@10']
_SOURCES = 'mean of the sources'


@dataclass(frozen=True)
class Asked:
    """
    A task by labels and with judgements, and how methods score its images.

    Parameters
    ----------
    task, judged : `export.evaluation.tasks.Task`
        Truth by labels, and with what was judged to show the phrase added.
    known : `numpy.ndarray` of bool, shape (n, classes)
        Whether a picture has the label, was judged for this phrase, or was sorted into classes of
        which this is one.
    looked : int
        How many pictures were judged for how many phrases, in all.
    scores : dict
        Name of a method -> scores, shape (n, classes).
    seeds : tuple of str
        Methods that are further runs of this model.
    """

    task: Task
    judged: Task
    known: np.ndarray
    looked: int
    scores: dict
    seeds: tuple


def ask(task, pairs, judgements, scores, *, seeds=()):
    """
    Add what was judged to the labels of a task.

    Parameters
    ----------
    task : `export.evaluation.tasks.Task`
        Truth by labels.
    pairs : list of `export.data.pairs.Pair`
        All images; the name of a file without its end is the id of a judgement.
    judgements : dict
        (phrase, id) -> bool. What was not judged and has no label counts as not showing it.
    scores : dict
        Name of a method -> scores.
    seeds : sequence of str, optional
        Methods that are further runs of this model.

    Returns
    -------
    asked : `Asked`
        No label is taken away.
    """
    said = [[judgements.get((query, pairs[i].file.stem)) for query in task.queries]
            for i in task.rows]
    shows = np.array([[answer is True for answer in row] for row in said], bool)
    looked = np.array([[answer is not None for answer in row] for row in said], bool)
    count = int(looked.sum())
    sorted_into = [set(SORTED).intersection(name.split('/')[0] for name in labels)
                   for labels in task.labels]
    looked |= [[pairs[i].source in sources for sources in sorted_into] for i in task.rows]
    positive = task.positive | shows
    strata = strata_of(positive, [pairs[i].source for i in task.rows])
    return Asked(task, replace(task, positive=positive, strata=strata),
                 task.positive | looked, count, scores, tuple(seeds))


def words_alone(task, pairs):
    """
    Score the images of a task by the words of their rows.

    Parameters
    ----------
    task : `export.evaluation.tasks.Task`
        Images and phrases.
    pairs : list of `export.data.pairs.Pair`
        All images.

    Returns
    -------
    scores : dict
        ``BM25``; empty if no row has words.
    """
    texts = [row_metadata(pairs[i]) for i in task.rows]
    return {'BM25': bm25(texts, task.queries)} if any(map(terms, texts)) else {}


class _Measured:
    """One method on one set: metrics by labels and with judgements, and samples of both kinds."""

    def __init__(self, by_labels, with_judgements, over_images, over_queries, known):
        self.by_labels, self.mean = by_labels, with_judgements
        self.over_images, self.over_queries, self.known = over_images, over_queries, known

    @classmethod
    def of(cls, scores, asked, draws, seed):
        """Measure scores; methods of one seed and set have the same samples."""
        positive = asked.judged.positive
        values = measure(scores, positive)
        first = np.argsort(-scores, axis=0, kind='stable')[:10]
        return cls(
            np.nanmean(measure(scores, asked.task.positive), axis=0), values.mean(0),
            bootstrap(scores, positive, strata=asked.judged.strata, draws=draws,
                      seed=seed).mean(1),
            group_bootstrap(values, np.arange(len(values)), draws=draws, seed=seed),
            float(np.take_along_axis(asked.known, first, 0).mean()),
        )

    @classmethod
    def mean_of(cls, several):
        """Average sets, each of which weighs the same."""
        return cls(*(np.mean([getattr(one, name) for one in several], axis=0) for name in (
            'by_labels', 'mean', 'over_images', 'over_queries', 'known')))

    def row(self, place, name, this):
        """Cells of `judged_tables`."""
        precision = METRICS.index('AP')
        spans = [_span(*(end[precision] for end in interval(samples, self.mean)))
                 for samples in (self.over_images, self.over_queries)]
        less = ''
        if self is not this:
            low, high = interval((self.over_queries - this.over_queries)[:, precision])
            less = (f'{self.mean[precision] - this.mean[precision]:+.3f} '
                    f'({low:+.3f} to {high:+.3f})')
        return [place, name, *(float(self.by_labels[i]) for i in _SHOWN),
                *(float(self.mean[i]) for i in _SHOWN), *spans, less, float(self.known)]

    def numbers(self):
        """For the JSON file: by labels; with judgements and both intervals."""
        ends = [*interval(self.over_images, self.mean), *interval(self.over_queries, self.mean)]
        return {'known': round(float(self.known), 4),
                **{METRICS[i]: {'labels': round(float(self.by_labels[i]), 4),
                                'judgements': [round(float(array[i]), 4)
                                               for array in (self.mean, *ends)]}
                   for i in _SHOWN}}


def judged_tables(asked, *, draws=200):
    """
    Compare methods by labels and by labels and judgements.

    Parameters
    ----------
    asked : list of `Asked`
        Sets of images.
    draws : int, optional
        Bootstrap samples.

    Returns
    -------
    tables : list of dict
        For the report. One of seeds comes where there are several.
    numbers : dict
        Set -> method -> metric.
    """
    measured = {one.task.name: {name: _Measured.of(scores, one, draws, seed)
                                for name, scores in one.scores.items()}
                for seed, one in enumerate(asked)}
    apart = [measured[one.task.name] for one in asked if one.task.source]
    if len(apart) > 1:
        measured[_SOURCES] = {name: _Measured.mean_of([each[name] for each in apart])
                              for name in apart[0] if all(name in each for each in apart)}
    tables = [{
        'title': 'By labels and by judgements',
        'columns': ['images', 'by', *(f'{name}, labels' for name in _NAMES),
                    *(f'{name}, judged' for name in _NAMES), 'mAP judged, 95 % over images',
                    '95 % over queries', 'mAP minus this model, 95 % over queries',
                    'known of the first ten'],
        'text': _explanation(asked),
        'rows': [one.row(place, name, methods[THIS])
                 for place, methods in measured.items() for name, one in methods.items()],
    }]
    if asked[0].seeds:
        tables.append(_seeds_table(measured, (THIS, *asked[0].seeds)))
    return tables, {place: {name: one.numbers() for name, one in methods.items()}
                    for place, methods in measured.items()}


def _explanation(asked):
    added = ', '.join(f'{one.task.name} {(one.judged.positive & ~one.task.positive).sum()} beside '
                      f'{one.task.positive.sum()} labels' for one in asked)
    return (f'Pictures that have no label but show the phrase, as a look at them said, count as '
            f'right: {added}. No label is taken away, and what nobody looked at counts as wrong. '
            'The first 20 of some models were looked at: a model of whose first ten less is known '
            'is put at a disadvantage. Samples of the queries say how far another list of queries '
            'could change a mean; those of the images are as above.')


def _seeds_table(measured, runs):
    """How far runs that differ by their seed alone lie apart."""
    rows = []
    for place, methods in measured.items():
        values = np.array([methods[name].mean[_SHOWN] for name in runs])
        rows.append([place, len(runs), *(
            f'{mean:.3f} +- {spread:.3f} ({_span(low, high)})' for mean, spread, low, high in zip(
                values.mean(0), values.std(0, ddof=1), values.min(0), values.max(0),
                strict=True))])
    return {'title': 'Over seeds', 'columns': ['images', 'runs', *_NAMES], 'rows': rows,
            'text': 'By labels and judgements: mean over runs, standard deviation of one run, and '
                    'the lowest and highest.'}


def _span(low, high):
    return f'{low:.3f} to {high:.3f}'
