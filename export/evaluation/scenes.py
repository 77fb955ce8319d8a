"""
Synthetic scenes: the baseline that learns from them, zero-shot naming, unseen phrases.
"""

from pathlib import Path

import numpy as np

from astroclip_search.models.background import normalise as unit
from export.evaluation import baseline
from export.evaluation.collection import stamp
from export.evaluation.tasks import truth_of
from export.measures.metrics import random_retrieval, retrieval
from export.sky import HELD_OUT, KINDS, names
from export.training.batches import read_shard

__all__ = ['SCENES', 'Classical', 'read_scenes', 'shards', 'synthetic_tables']

#: Most held-out scenes that are judged.
SCENES = 2100

_COLUMNS = ['mAUC', 'mAP', 'P@10']


def shards(folders):
    """
    Find the shards of folders.

    Parameters
    ----------
    folders : iterable of path-like
        Folders with ``sky-*.npz``.

    Returns
    -------
    paths : list of `pathlib.Path`
        In order.
    """
    return [path for folder in folders for path in sorted(Path(folder).glob('sky-*.npz'))]


def read_scenes(folders, count):
    """
    Read scenes, spread over the shards of all folders.

    Parameters
    ----------
    folders : iterable of path-like
        Folders with ``sky-*.npz``.
    count : int
        Most scenes.

    Returns
    -------
    images : list of `numpy.ndarray` of uint8
        Scenes.
    kinds : `numpy.ndarray` of int64
        Their kinds.
    """
    paths = shards(folders)
    images, kinds = [], []
    chosen = paths[:: max(1, len(paths) // 12)]
    for path in chosen:
        share = -(-count // len(chosen))
        shard = read_shard(path)
        images.extend(shard[0][:share])
        kinds.append(shard[1][:share])
    return images, np.concatenate(kinds) if kinds else np.empty(0, np.int64)


class Classical:
    """
    Forests on classical features, taught synthetic scenes or the classes themselves.

    Parameters
    ----------
    sky : list of path-like
        Folders of training shards; without any there is no baseline.
    count : int
        Scenes to learn from.
    cache : `export.evaluation.collection.Cache`
        Where features and probabilities are kept.

    Attributes
    ----------
    kinds : `numpy.ndarray` of int
        Kinds of the scenes that it learns from.
    """

    def __init__(self, sky, count, cache):
        self._cache = cache
        paths = shards(sky)
        self._key = stamp(count, files=paths)
        self.kinds = np.empty(0, np.int64)
        if paths:
            self.kinds = cache.get('scene kinds', self._key, lambda: read_scenes(sky, count)[1])
            self._scenes = cache.get('scene features', self._key,
                                     lambda: baseline.measure_all(read_scenes(sky, count)[0]))

    def classify(self, name, key, features):
        """
        Classify images by synthetic kind.

        Parameters
        ----------
        name, key : str
            Name of the images, and what identifies them.
        features : callable
            Returns their features.

        Returns
        -------
        table : `numpy.ndarray` of float, shape (n, kinds)
            Probability of each kind.
        """
        return self._cache.get(f'kinds of {name}', stamp(self._key, key), lambda: (
            baseline.probabilities(self._scenes, self.kinds, features(), len(KINDS))))

    def taught(self, task, collection, others):
        """
        Classify the images of a task, taught its classes.

        Parameters
        ----------
        task : `export.evaluation.tasks.Task`
            Images and classes.
        collection : `export.evaluation.collection.Collection`
            All images.
        others : `numpy.ndarray` of int
            Images of the same source to learn from.

        Returns
        -------
        scores : `numpy.ndarray` of float, shape (n, classes)
            Probability of each class.
        """
        key = stamp(collection.key, task.rows.tolist(), others.tolist(), task.labels)
        truth = truth_of([collection.pairs[i] for i in others], task.labels)
        return self._cache.get(f'taught {task.source}', key, lambda: (
            baseline.label_scores(collection.features()[others], truth,
                                  collection.features()[task.rows])))


def synthetic_tables(model, classical, validation, cache):
    """
    Score the zero-shot naming of held-out synthetic scenes, and phrases never trained on.

    Parameters
    ----------
    model : `export.evaluation.shipped.Shipped`
        The bundle.
    classical : `Classical`
        The baseline.
    validation : list of path-like
        Folders of held-out shards.
    cache : `export.evaluation.collection.Cache`
        Where embeddings are kept.

    Returns
    -------
    tables : list of dict
        For the model card.
    """
    images, kinds = read_scenes(validation, SCENES)
    key = stamp(model.bundle.revision, files=shards(validation))
    vectors = cache.get('scene vectors', key, lambda: model.images(images))
    prototypes = unit(np.stack([model.texts(names(kind)).mean(0) for kind in KINDS]))
    truth = kinds[:, None] == np.arange(len(KINDS))
    methods = [('this model, zero-shot', vectors @ prototypes.T)]
    if len(classical.kinds):
        methods.append(('classical baseline', classical.classify(
            'scenes', stamp(files=shards(validation)), lambda: baseline.measure_all(images))))
    rows = []
    for name, scores in methods:
        order = np.argsort(-scores, axis=1)
        rows.append([name, float((order[:, 0] == kinds).mean()),
                     float((order[:, :5] == kinds[:, None]).any(1).mean()),
                     *retrieval(scores, truth)])
    count = len(KINDS)
    rows.append(['random', 1 / count, 5 / count, *random_retrieval(truth)])
    zero_shot = {
        'title': 'Synthetic scenes never trained on', 'rows': rows,
        'columns': ['', 'top-1', 'top-5', *_COLUMNS],
        'text': f'{len(images)} scenes of {count} kinds. The baseline picks among the kinds and '
                'reads no text.',
    }
    phrases = [(phrase, KINDS.index(kind)) for kind in HELD_OUT for phrase in HELD_OUT[kind]]
    held_out = truth[:, [kind for _, kind in phrases]]
    words = {
        'title': 'Phrases never trained on', 'columns': ['', *_COLUMNS],
        'text': f'{len(phrases)} paraphrases of kinds on the same scenes.',
        'rows': [['this model', *retrieval(vectors @ model.texts([p for p, _ in phrases]).T,
                                           held_out)],
                 ['random', *random_retrieval(held_out)]],
    }
    return [zero_shot, words]
