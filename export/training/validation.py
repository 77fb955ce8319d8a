"""
Scores of held-out images while training runs.

Labels are asked for in their own words. The queries of `export.evaluation`, which the model is
judged by, decide nothing here.
"""

from pathlib import Path

import numpy as np
import torch

from export.data import pairs as real_pairs
from export.measures.metrics import METRICS, measure
from export.sky import KINDS, names
from export.training.batches import read_shard, split_folder
from export.training.vision import normalise

__all__ = ['Validation', 'decisive', 'embed_images']

#: Fewest images with a label that make it worth asking for.
_LEAST = 3


def decisive(numbers):
    """
    Choose the score by which one model is preferred to another.

    Parameters
    ----------
    numbers : dict
        From `Validation.score`.

    Returns
    -------
    score : float
        Mean over sources of the mean average precision within the source; without real images
        the share of scenes whose kind is found.
    """
    return numbers.get('AP', numbers.get('top1', 0.0))


class Validation:
    """
    Held-out scenes and held-out real images, scored during training.

    Parameters
    ----------
    config : dict
        Configuration.
    encoder : `export.training.text.SentenceEncoder`
        Encoder of class phrases.
    """

    def __init__(self, config, encoder):
        data, self._size = config['data'], config['train']['size']
        self._phrases = [encoder.encode(list(names(kind))) for kind in KINDS]
        images, kinds = [], []
        for path in (path for folder in data['validation']
                     for path in sorted(Path(folder).glob('sky-*.npz'))):
            shard = read_shard(path)
            images.extend(shard[0])
            kinds.extend(shard[1])
        self._scenes = self._squares(images[:data['validation_scenes']])
        self._kinds = np.array(kinds[:data['validation_scenes']], np.int64)
        held = []
        if data['real']:
            pairs, held_out = split_folder(data)
            held = [pair for pair, out in zip(pairs, held_out, strict=True) if out]
        self._real = self._squares([real_pairs.load_pixels(pair.file) for pair in held])
        self._tasks = []
        for source in sorted({pair.source for pair in held}):
            rows = [i for i, pair in enumerate(held) if pair.source == source]
            labels = sorted({label for i in rows for label in held[i].labels})
            truth = np.array([[label in held[i].labels for label in labels] for i in rows], bool)
            kept = [i for i, label in enumerate(labels)
                    if _LEAST <= truth[:, i].sum() < len(rows)]
            if kept:
                phrases = [real_pairs.PHRASES.get(labels[i], (labels[i].replace('_', ' '),))[0]
                           for i in kept]
                self._tasks.append((source, rows, truth[:, kept], encoder.encode(phrases)))

    def _squares(self, images):
        squares = [real_pairs.to_square(image, self._size) for image in images]
        return np.stack(squares) if squares else None

    def score(self, towers):
        """
        Score a model.

        Parameters
        ----------
        towers : `export.training.fitting.Towers`
            Model, in evaluation mode.

        Returns
        -------
        numbers : dict
            ``top1`` and ``top5`` on synthetic scenes, the mean area under the ROC curve over the
            labels of each source of real images, and ``AP``, the mean over sources of
            the mean average precision.
        """
        numbers = {}
        if self._scenes is not None:
            prototypes = np.stack([_texts(towers, vectors).mean(0) for vectors in self._phrases])
            order = np.argsort(-embed_images(towers, self._scenes) @ unit(prototypes).T, axis=1)
            numbers['top1'] = float((order[:, 0] == self._kinds).mean())
            numbers['top5'] = float((order[:, :5] == self._kinds[:, None]).any(1).mean())
        if self._tasks:
            vectors, precisions = embed_images(towers, self._real), []
            for source, rows, truth, phrases in self._tasks:
                values = measure(vectors[rows] @ _texts(towers, phrases).T, truth).mean(0)
                numbers[source] = float(values[METRICS.index('AUC')])
                precisions.append(values[METRICS.index('AP')])
            numbers['AP'] = float(np.mean(precisions))
        return numbers


@torch.inference_mode()
def embed_images(towers, squares, *, batch_size=64):
    """
    Embed square images where the model is.

    Parameters
    ----------
    towers : `export.training.fitting.Towers`
        Model, in evaluation mode.
    squares : `numpy.ndarray` of uint8, shape (n, s, s, 3)
        Images.
    batch_size : int, optional
        Images in a pass.

    Returns
    -------
    vectors : `numpy.ndarray` of float32, shape (n, d)
        Unit vectors.
    """
    device = towers.log_scale.device
    return torch.cat([
        towers.image(normalise(torch.from_numpy(squares[i:i + batch_size])).to(device)).cpu()
        for i in range(0, len(squares), batch_size)]).numpy()


@torch.inference_mode()
def _texts(towers, sentences):
    return towers.text(torch.from_numpy(sentences).to(towers.log_scale.device)).cpu().numpy()


def unit(vectors):
    """Return vectors of unit length along the last axis."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-9)
