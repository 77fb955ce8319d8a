"""
Scores of held-out images while training runs.
"""

from pathlib import Path

import numpy as np

from export.data import pairs as real_pairs
from export.measures.metrics import area_under_curve
from export.sky import KINDS, names
from export.training.batches import read_shard, split_folder

__all__ = ['Validation']


class Validation:
    """
    Held-out scenes and held-out real images, scored during training.

    Parameters
    ----------
    config : dict
        Configuration.
    encoder : `export.training.text.SentenceEncoder`
        Encoder of class phrases.
    scenes : int, optional
        Most synthetic scenes used.
    """

    def __init__(self, config, encoder, *, scenes=1000):
        data = config['data']
        self._phrases = [encoder.encode(list(names(kind))) for kind in KINDS]
        images, kinds = [], []
        for folder in data['validation']:
            for path in sorted(Path(folder).glob('sky-*.npz')):
                if sum(map(len, kinds)) < scenes:
                    shard = read_shard(path)
                    images.extend(shard[0][:scenes])
                    kinds.append(shard[1][:scenes])
        self._images = images
        self._kinds = np.concatenate(kinds) if kinds else np.empty(0, np.int64)
        self._real = []
        if data['real']:
            pairs, held_out = split_folder(data)
            self._real = [(real_pairs.load_pixels(pair.file), pair.source, set(pair.labels))
                          for pair, out in zip(pairs, held_out, strict=True) if out]
        labels = {(source, label) for _, source, found in self._real for label in found}
        self._labels = sorted(labels)
        self._label_vectors = encoder.encode([
            real_pairs.PHRASES.get(label, (label.replace('_', ' '),))[0]
            for _, label in self._labels
        ]) if labels else np.empty((0, 384), np.float32)

    def score(self, towers, size):
        """
        Score a model.

        Parameters
        ----------
        towers : `Towers`
            Model, in evaluation mode.
        size : int
            Side of the images.

        Returns
        -------
        numbers : dict
            ``top1`` and ``top5`` on synthetic scenes and, per source of real
            images, the mean area under the ROC curve over labels.
        """
        numbers = {}
        if self._images:
            squares = np.stack([real_pairs.to_square(image, size) for image in self._images])
            prototypes = np.stack([towers.text.encode(vectors).mean(0)
                                   for vectors in self._phrases])
            order = np.argsort(-towers.image.encode(squares) @ unit(prototypes).T, axis=1)
            numbers['top1'] = float((order[:, 0] == self._kinds).mean())
            numbers['top5'] = float((order[:, :5] == self._kinds[:, None]).any(1).mean())
        if self._real:
            squares = np.stack([real_pairs.to_square(row[0], size) for row in self._real])
            scores = towers.image.encode(squares) @ towers.text.encode(self._label_vectors).T
            sources = np.array([row[1] for row in self._real])
            for source in np.unique(sources):
                members = np.flatnonzero(sources == source)
                areas = []
                for column, (where, label) in enumerate(self._labels):
                    positive = np.array([label in self._real[i][2] for i in members])
                    if where == source and 3 <= positive.sum() < len(positive):
                        areas.append(area_under_curve(scores[members, column], positive))
                if areas:
                    numbers[str(source)] = float(np.mean(areas))
        return numbers


def unit(vectors):
    """Return vectors of unit length along the last axis."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-9)
