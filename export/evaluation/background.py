"""
The background of a bundle: what a score is compared with.

Embeddings of reference images, real and rendered, what each of them shows, and embeddings of
the metadata of archive rows. An image that shows what is asked for must not count as unrelated, so
that the product leaves out those whose label is similar to the query.
"""

import csv
import gzip
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from astroclip_search.models.background import normalise as unit
from export.data import pairs as real_pairs
from export.data.descriptions import KINDS_OF_LABELS, WORDS_OF_LABELS
from export.sky import KINDS, names, render
from export.to_onnx.tracing import session
from export.training.batches import split_folder
from export.training.vision import normalise

__all__ = ['REFERENCES', 'SCENES', 'background', 'related']

#: Most reference images of a source. Surveys of one class of object give few, as that class would
#: else be far more common among the references than in an archive.
REFERENCES = {'apod': 800, 'jwst_yuval': 400, 'smallgz1': 60, 'frdeep': 40}
#: Rendered reference images of each kind: of what no source at hand shows there are some too.
SCENES = 15
#: Their first seed, far from those of training and validation.
SEED = 8_000_000

_WORDS = 1000


def background(out, size, *, data, words=None, templates=('{}',)):
    """
    Embed reference images, what they show, and reference metadata with the bundle's own towers.

    Held-out images come first: what a tower was trained on is placed better than
    what it will meet.

    Parameters
    ----------
    out : path-like
        Bundle with its ``onnx`` folder and tokenizer.
    size : int
        Side of the images.
    data : dict
        ``real`` and ``validation_fractions``, see `export.training.batches.split_folder`. Without
        ``real`` there are rendered images only.
    words : path-like, optional
        CSV file of archive rows, whose metadata are embedded.
    templates : sequence of str, optional
        Sentences that the embedding of a phrase is the mean over.

    Returns
    -------
    arrays : dict
        ``image``, ``labels`` and ``words``, int8, each with its ``_scale`` float32; ``label``
        int16, the row of ``labels`` for each image or -1; ``related`` float32, see `related`;
        ``source`` int16, the archive of each image: 0 is rendered, the others are numbered in the
        order of their names.
    """
    rng = np.random.default_rng(0)
    squares, shown, archive = [], [], [0] * SCENES * len(KINDS)
    for i, kind in enumerate(kind for kind in KINDS for _ in range(SCENES)):
        squares.append(real_pairs.to_square(render(SEED + i, kind).image, size))
        shown.append(names(kind))
    titles = [kind.replace('_', ' ') for kind in KINDS]
    if data['real']:
        pairs, held_out = split_folder(data)
        for number, source in enumerate(sorted({pair.source for pair in pairs}), 1):
            rows = np.array([i for i, pair in enumerate(pairs) if pair.source == source])
            order = np.lexsort((rng.random(len(rows)), ~held_out[rows]))
            for i in rows[order[:REFERENCES.get(source, 100)]]:
                squares.append(real_pairs.to_square(real_pairs.load_pixels(pairs[i].file), size))
                shown.append(_shown(pairs[i]))
                archive.append(number)
        titles = [real_pairs.row_metadata(pair) for pair in pairs]
    if words:
        titles = _row_metadata(words)
    titles = sorted(set(titles))
    titles = [titles[i] for i in rng.permutation(len(titles))[:_WORDS]]
    phrases = _Phrases(out, {phrase for label in shown for phrase in label}, templates)
    distinct = list(dict.fromkeys(label for label in shown if label))
    return {
        **_int8('image', _embed_images(out, np.stack(squares))),
        **_int8('labels', np.stack([phrases.mean(label) for label in distinct])),
        'label': np.array([distinct.index(label) if label else -1 for label in shown], np.int16),
        'source': np.array(archive, np.int16),
        'related': np.float32(related([phrases.vectors(names(kind)) for kind in KINDS])),
        **_int8('words', _embed_texts(out, titles, 'sentence_embeds')),
    }


def related(kinds, share=0.01):
    """
    Choose the cosine from which on a label and a query may mean the same.

    Parameters
    ----------
    kinds : list of `numpy.ndarray` of float, shape (k, d)
        For each kind of scene unit vectors of its names.
    share : float, optional
        Of the names, compared with the labels (mean names) of all *other* kinds.

    Returns
    -------
    cosine : float
        Which only this share of them reaches.
    """
    labels = unit(np.stack([vectors.mean(0) for vectors in kinds]))
    others = [np.delete(vectors @ labels.T, i, axis=1).ravel() for i, vectors in enumerate(kinds)]
    return float(np.quantile(np.concatenate(others), 1 - share))


def _shown(pair):
    """Return phrases for what the labels of a real image say that it shows."""
    phrases = []
    for name in pair.labels:
        kind = KINDS_OF_LABELS.get(name) or WORDS_OF_LABELS.get(name)
        phrases += real_pairs.PHRASES.get(name) or (name.replace('_', ' '),)
        phrases += names(kind) if kind else ()
    if not pair.labels and pair.kind:
        phrases += names(pair.kind)
    return tuple(dict.fromkeys(phrases))


class _Phrases:
    """Unit vectors of phrases, as the product embeds a query."""

    def __init__(self, out, phrases, templates):
        phrases = sorted(phrases)
        parts = [_embed_texts(out, [template.replace('{}', phrase) for phrase in phrases],
                              'text_embeds') for template in templates]
        self._vectors = dict(zip(phrases, unit(np.mean(parts, axis=0)), strict=True))

    def vectors(self, phrases):
        return np.stack([self._vectors[phrase] for phrase in phrases])

    def mean(self, phrases):
        return unit(self.vectors(phrases).mean(0, keepdims=True))[0]


def _row_metadata(path):
    opener = gzip.open if str(path).endswith('.gz') else open
    with opener(path, 'rt', encoding='utf-8', newline='') as lines:
        return [', '.join(part for part in (row['target_name'], row['obs_title']) if part)
                for row in csv.DictReader(lines)]


def _embed_images(out, squares):
    vision = session(Path(out) / 'onnx' / 'vision_model_quantized.onnx')
    return np.concatenate([
        vision.run(None, {'pixel_values': normalise(torch.from_numpy(part)).numpy()})[0]
        for part in np.array_split(squares, -(-len(squares) // 32))
    ])


def _embed_texts(out, texts, output):
    text = session(Path(out) / 'onnx' / 'text_model_quantized.onnx')
    tokenizer = Tokenizer.from_file(str(Path(out) / 'tokenizer.json'))
    vectors = []
    for i in range(0, len(texts), 32):
        encodings = tokenizer.encode_batch(texts[i:i + 32])
        vectors.append(text.run([output], {
            'input_ids': np.array([e.ids for e in encodings], np.int64),
            'attention_mask': np.array([e.attention_mask for e in encodings], np.int64),
        })[0])
    return np.concatenate(vectors)


def _int8(name, vectors):
    scale = np.abs(vectors).max() / 127
    return {name: np.rint(vectors / scale).astype(np.int8), f'{name}_scale': np.float32(scale)}
