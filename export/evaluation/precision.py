"""
What eight bits cost: the bundle beside the float32 towers that it was made from.
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from export.evaluation.shipped import Shipped
from export.measures.metrics import retrieval
from export.sky import KINDS, names
from export.to_onnx.quantise import parity
from export.to_onnx.tracing import session
from export.training.text import MAX_TOKENS
from export.training.vision import normalise

__all__ = ['LIMIT', 'Exact', 'real_row', 'real_table', 'scenes_table']

#: Most that quantisation may cost in mAP on any set.
LIMIT = 0.005

_COLUMNS = ['mAUC', 'mAP', 'P@10']


class Exact(Shipped):
    """
    The float32 towers of a bundle, put to the same questions in the same way.

    Parameters
    ----------
    towers : path-like
        Folder with ``onnx/vision_model.onnx`` and ``onnx/text_model.onnx``.
    bundle : `astroclip_search.models.bundle.Bundle`
        The bundle made of them: tokenizer, preprocessing and templates.
    """

    def __init__(self, towers, bundle):
        self.bundle = bundle
        self._encoder = _Towers(Path(towers) / 'onnx', bundle)


class _Towers:
    """What `Shipped` asks of an encoder, by the towers before they were quantised."""

    def __init__(self, folder, bundle):
        self._vision = session(folder / 'vision_model.onnx')
        self._text = session(folder / 'text_model.onnx')
        self._tokenizer = Tokenizer.from_file(str(bundle.path / 'tokenizer.json'))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def encode_images(self, squares):
        pixels = normalise(torch.from_numpy(squares)).numpy()
        return self._vision.run(None, {'pixel_values': pixels})[0]

    def encode_text(self, texts):
        tokens = self._tokenizer.encode_batch(texts)
        return self._text.run(['text_embeds'], {
            'input_ids': np.array([token.ids for token in tokens], np.int64),
            'attention_mask': np.array([token.attention_mask for token in tokens], np.int64),
        })[0]


def scenes_table(model, exact, images, kinds):
    """
    Compare the bundle with its float32 towers on synthetic scenes.

    Parameters
    ----------
    model : `export.evaluation.shipped.Shipped`
        The bundle.
    exact : `Exact`
        Its float32 towers.
    images : list of `numpy.ndarray` of uint8
        Scenes.
    kinds : `numpy.ndarray` of int
        Their kinds.

    Returns
    -------
    table : dict
        For the model card.
    """
    phrases = [names(kind)[0] for kind in KINDS]
    truth = kinds[:, None] == np.arange(len(KINDS))
    found = [(one.images(images), one.texts(phrases, templates=['{}'])) for one in (exact, model)]
    rows = []
    for name, vectors in zip(('float32', 'as shipped'), found, strict=True):
        cosines = [parity(*pair) for pair in zip(vectors, found[0], strict=True)]
        rows.append([name, *(numbers[key] for numbers in cosines for key in ('mean', 'min')),
                     *retrieval(vectors[0] @ vectors[1].T, truth)])
    return {
        'title': 'What eight bits cost', 'rows': rows,
        'columns': ['', 'image cosine, mean', 'min', 'text cosine, mean', 'min', *_COLUMNS],
        'text': f'{len(images)} held-out scenes, one phrase for each kind; cosines to the '
                'embeddings in float32.',
    }


def real_row(exact, images, task, shipped):
    """
    Compare the bundle with its float32 towers on one set of real images.

    Parameters
    ----------
    exact : `Exact`
        The float32 towers.
    images : list of `numpy.ndarray` of uint8
        Images of the task.
    task : `export.evaluation.tasks.Task`
        What is asked of them.
    shipped : `numpy.ndarray` of float, shape (n, classes)
        Scores of the bundle.

    Returns
    -------
    row : list
        For `real_table`.
    """
    scores = exact.images(images) @ exact.texts(task.queries).T
    wanted, got = retrieval(scores, task.positive), retrieval(shipped, task.positive)
    return [task.name, wanted[1], got[1], wanted[1] - got[1],
            'kept' if wanted[1] - got[1] <= LIMIT else 'lost']


def real_table(rows):
    """
    Make the table of the cost on real images.

    Parameters
    ----------
    rows : list of list
        From `real_row`.

    Returns
    -------
    table : dict
        For the model card.
    """
    return {'title': 'What eight bits cost on real images', 'rows': rows,
            'columns': ['images', 'mAP float32', 'mAP as shipped', 'loss', ''],
            'text': f'Held-out images by pixels alone; a loss of at most {LIMIT} was allowed.'}
