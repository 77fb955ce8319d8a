"""
What is asked of which images: one query per class and source, and of all sources together.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.data.descriptions import KINDS_OF_LABELS, PHRASES, WORDS_OF_LABELS
from export.measures.metrics import strata_of
from export.sky import KINDS

__all__ = ['EVERYWHERE', 'QUERIES', 'Task', 'read_queries', 'tasks_of', 'truth_of']

#: Name of the task of all sources together.
EVERYWHERE = 'all real sky images'
#: One query per class, the concepts of all sources together, and paraphrases.
QUERIES = Path(__file__).parents[1] / 'configs' / 'queries.toml'
#: Sources of a manifest as a reader knows them.
SOURCES = {'apod': 'APOD', 'smallgz1': 'SDSS, Galaxy Zoo 1', 'frdeep': 'FIRST radio galaxies',
           'jwst_yuval': 'JWST mosaics'}

_LABEL_ALIASES = {'spiral galaxy, clockwise': 'spiral galaxy',
                  'spiral galaxy, anticlockwise': 'spiral galaxy'}
_SECTIONS = ('everywhere', 'not_sky', 'paraphrases')


@dataclass(frozen=True)
class Task:
    """
    Images and the classes they are searched for.

    Parameters
    ----------
    source : str
        Name of the source in the manifest; empty for all sources together.
    name : str
        What a reader calls it.
    rows : `numpy.ndarray` of int, shape (n,)
        Images, as positions in the list of pairs.
    labels : list of tuple of str
        Labels of each class, as source/label.
    queries : list of str
        One phrase per class.
    positive : `numpy.ndarray` of bool, shape (n, classes)
        Which images belong to which class.
    strata : `numpy.ndarray` of int, shape (n,)
        Groups within which bootstrap samples are drawn.
    kinds : list of list of int
        Synthetic kinds that stand for each class; empty if there is none.
    """

    source: str
    name: str
    rows: np.ndarray
    labels: list
    queries: list
    positive: np.ndarray
    strata: np.ndarray
    kinds: list


def read_queries(path=None):
    """
    Read a file of queries.

    Parameters
    ----------
    path : path-like, optional
        TOML file laid out as ``configs/queries.toml``; by default that one.

    Returns
    -------
    sources : dict
        For each source a dict from label to query and kinds.
    sections : dict
        ``everywhere``, ``not_sky`` and ``paraphrases``, empty where the file has none.
    """
    content = tomllib.loads(Path(path or QUERIES).read_text(encoding='utf-8'))
    sections = {name: content.pop(name, {}) for name in _SECTIONS}
    return content, sections


def truth_of(pairs, labels):
    """
    Say which images carry one of several labels.

    Parameters
    ----------
    pairs : list of `export.data.pairs.Pair`
        Images.
    labels : list of tuple of str
        Labels of each class, as source/label.

    Returns
    -------
    positive : `numpy.ndarray` of bool, shape (len(pairs), len(labels))
        Truth.
    """
    found = [_labels(pair) for pair in pairs]
    truth = [[not present.isdisjoint(names) for names in labels] for present in found]
    return np.array(truth, bool).reshape(len(pairs), len(labels))


def tasks_of(pairs, rows, queries, *, fewest=3):
    """
    Make a task of each source and one of all together.

    Parameters
    ----------
    pairs : list of `export.data.pairs.Pair`
        All images.
    rows : `numpy.ndarray` of int
        Positions of the images to judge.
    queries : tuple
        From `read_queries`. The labels of a source that it does not know are asked for by
        their own names.
    fewest : int, optional
        A class with fewer images, or fewer others, is not asked for.

    Returns
    -------
    tasks : list of `Task`
        Sources in the order of the queries, then all together where there are several.
    """
    tables, sections = queries
    present = dict.fromkeys(pairs[i].source for i in rows)
    order = [source for source in tables if source in present]
    order += [source for source in present if source not in tables]
    tasks = []
    for source in order:
        members = np.array([i for i in rows if pairs[i].source == source])
        table = tables.get(source) or _own_names([pairs[i] for i in members])
        classes = [((f'{source}/{label}',), entry[0], [KINDS.index(kind) for kind in entry[1:]])
                   for label, entry in table.items()]
        tasks.append(_task(source, SOURCES.get(source, source), pairs, members, classes, fewest))
    tasks = [task for task in tasks if task]
    if len(tasks) > 1 and sections['everywhere']:
        not_sky = set(sections['not_sky'].get('labels', ()))
        members = np.array([i for i in rows
                            if pairs[i].labels and not_sky.isdisjoint(_labels(pairs[i]))])
        classes = [(tuple(labels), phrase, _kinds(labels, tables))
                   for phrase, labels in sections['everywhere'].items()]
        together = _task('', EVERYWHERE, pairs, members, classes, fewest)
        tasks += [together] if together else []
    return tasks


def _task(source, name, pairs, members, classes, fewest):
    chosen = [pairs[i] for i in members]
    truth = truth_of(chosen, [labels for labels, _, _ in classes])
    kept = [i for i in range(len(classes))
            if fewest <= truth[:, i].sum() <= len(chosen) - fewest]
    if not kept:
        return None
    positive = truth[:, kept]
    labels, phrases, kinds = ([classes[i][part] for i in kept] for part in range(3))
    return Task(source, name, members, labels, phrases, positive,
                strata_of(positive, [pair.source for pair in chosen]), kinds)


def _labels(pair):
    return {f'{pair.source}/{_LABEL_ALIASES.get(label, label)}' for label in pair.labels}


def _own_names(pairs):
    """Labels of a source without queries, each asked for by its name."""
    labels = dict.fromkeys(label for pair in pairs for label in sorted(_labels(pair)))
    names = [label.split('/', 1)[1] for label in labels]
    return {name: [PHRASES.get(name, [name.replace('_', ' ')])[0],
                   *({KINDS_OF_LABELS[name]} if name in KINDS_OF_LABELS else ())]
            for name in names}


def _kinds(labels, tables):
    """Synthetic kinds that stand for any of several labels."""
    kinds = set()
    for full in labels:
        source, label = full.split('/', 1)
        known = tables.get(source, {}).get(label, ())[1:]
        known = known or [table[label] for table in (KINDS_OF_LABELS, WORDS_OF_LABELS)
                          if label in table]
        kinds.update(KINDS.index(kind) for kind in known)
    return sorted(kinds)
