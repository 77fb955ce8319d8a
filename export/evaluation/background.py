"""
The background of a bundle: what a score is compared with.

Embeddings of reference images, real and rendered, what each of them shows, and embeddings of
the metadata of archive rows. An image that shows what is asked for must not count as unrelated, so
that the product leaves out those whose label is similar to the query.
"""

import csv
import gzip
from collections import Counter

import numpy as np

from astroclip_search.models.background import normalise as unit
from astroclip_search.models.bundle import open_bundle
from export.data import pairs as real_pairs
from export.data.descriptions import KINDS_OF_LABELS, WORDS_OF_LABELS
from export.evaluation.shipped import Shipped
from export.sky import KINDS, names, render
from export.training.batches import split_folder

__all__ = ['ARCHIVES', 'LEAST', 'REFERENCES', 'SCENES', 'background', 'choose', 'references',
           'related', 'what_is_shown']

#: Most reference images of a source. Surveys of one class of object give few, as that class would
#: else be far more common among the references than in an archive.
REFERENCES = {'apod': 800, 'jwst_yuval': 400, 'smallgz1': 200, 'frdeep': 80}
#: Reference images of each label, at the least, where there are as many: the near neighbours of
#: what is asked for are few, such as Venus and Mercury.
LEAST = 12
#: Rendered reference images of each kind: of what no source at hand shows there are some too.
SCENES = 15
#: Kinds that fill an archive of their own: planets look like other planets, galaxies like other
#: galaxies. Each of these groups counts as an archive, and all other kinds together as one.
ARCHIVES = (
    ('comet', 'planet', 'moon', 'sun', 'asteroid', 'eclipse', 'earth', 'planet_surface'),
    ('spiral', 'barred_spiral', 'elliptical', 'lenticular', 'edge_on', 'irregular', 'merger',
     'ring_galaxy', 'galaxy_cluster', 'lens', 'deep_field', 'galaxy_group', 'supernova', 'quasar'),
    ('radio_galaxy', 'fading_radio_galaxy', 'x_ray', 'velocity_map', 'protoplanetary_disk'),
)
#: Their first seed, far from those of training and validation.
SEED = 8_000_000

_WORDS = 1000


def background(out, *, data, words=None, templates=('{}',)):
    """
    Embed reference images, what they show, and reference metadata with the bundle's own towers.

    Held-out images come first: what a tower was trained on is placed better than
    what it will meet.

    Parameters
    ----------
    out : path-like
        Bundle with its ``onnx`` folder, tokenizer and descriptions.
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
        See `references`; the first sources are rendered (see `ARCHIVES`; 0 is all else), the
        others are numbered in the order of their names.
    """
    rng = np.random.default_rng(0)
    scenes = [(SEED + i, kind) for i, kind in enumerate(kind for kind in KINDS
                                                        for _ in range(SCENES))]
    files, shown = [], [names(kind) for _, kind in scenes]
    archive = [next((number for number, kinds in enumerate(ARCHIVES, 1) if kind in kinds), 0)
               for _, kind in scenes]
    titles = [kind.replace('_', ' ') for kind in KINDS]
    if data['real']:
        pairs, held_out = split_folder(data)
        sources = sorted({pair.source for pair in pairs})
        for number, source in enumerate(sources, 1 + len(ARCHIVES)):
            rows = np.array([i for i, pair in enumerate(pairs) if pair.source == source])
            rows = rows[np.lexsort((rng.random(len(rows)), ~held_out[rows]))]
            chosen = choose([pairs[i].labels for i in rows], REFERENCES.get(source, 100))
            for i in rows[chosen]:
                files.append(pairs[i].file)
                shown.append(what_is_shown(pairs[i]))
                archive.append(number)
        titles = [real_pairs.row_metadata(pair) for pair in pairs]
    if words:
        titles = _row_metadata(words)
    open_bundle.cache_clear()  # it may have been made anew
    model = Shipped(out)
    open_bundle.cache_clear()  # which is not complete yet
    images = [_in_parts(model, scenes, lambda scene: render(*scene).image),
              _in_parts(model, files, real_pairs.load_pixels)]
    return references(model, np.concatenate([part for part in images if len(part)]), shown,
                      archive=archive, titles=titles, templates=templates)


def choose(labels, most):
    """
    Choose the reference images of a source: some of every label, then the first of all others.

    Parameters
    ----------
    labels : list of sequence of str
        Of each image, the preferred ones first.
    most : int
        How many are chosen; more only if `LEAST` of every label are more.

    Returns
    -------
    chosen : list of int
        Positions in ``labels``, in their order.
    """
    counts, chosen = Counter(), []
    for i, names_of in enumerate(labels):
        if any(counts[name] < LEAST for name in names_of):
            chosen.append(i)
            counts.update(names_of)
    others = sorted(set(range(len(labels))) - set(chosen))
    return sorted(chosen + others[:max(most - len(chosen), 0)])


def references(model, images, shown, *, archive=None, titles=(), templates=('{}',)):
    """
    Put together what a ``background.npz`` holds.

    Parameters
    ----------
    model : `export.evaluation.shipped.Shipped`
        What embeds phrases and metadata.
    images : `numpy.ndarray` of float, shape (n, d)
        Unit vectors of the reference images.
    shown : list of tuple of str
        For each image phrases for what it shows; empty where that is not known.
    archive : sequence of int, optional
        Number of the archive of each image.
    titles : iterable of str, optional
        Metadata of archive rows, of which a thousand are taken; without them there are no
        ``words``.
    templates : sequence of str, optional
        Sentences that the embedding of a phrase is the mean over.

    Returns
    -------
    arrays : dict
        ``image``, ``labels`` and ``words``, int8, each with its ``_scale`` float32; ``label``
        int16, the row of ``labels`` for each image or -1; ``related`` float32, see `related`;
        ``source`` int16, the archive of each image. Without labels there are no ``labels``.
    """
    arrays = _int8('image', images)
    distinct = list(dict.fromkeys(label for label in shown if label))
    if distinct:
        phrases = _Phrases(model, {phrase for label in (*distinct, *map(names, KINDS))
                                   for phrase in label}, templates)
        arrays |= {
            **_int8('labels', np.stack([phrases.mean(label) for label in distinct])),
            'label': np.array([distinct.index(label) if label else -1 for label in shown],
                              np.int16),
            'related': np.float32(related([phrases.vectors(names(kind)) for kind in KINDS])),
        }
    if archive is not None:
        arrays['source'] = np.array(archive, np.int16)
    titles = sorted(set(filter(None, titles)))
    if titles:
        chosen = np.random.default_rng(0).permutation(len(titles))[:_WORDS]
        arrays |= _int8('words', model.metadata([titles[i] for i in chosen]))
    return arrays


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


def what_is_shown(pair):
    """
    Say in phrases what an image shows, as far as its labels or the name of its object tell.

    Parameters
    ----------
    pair : `export.data.pairs.Pair`
        Image.

    Returns
    -------
    phrases : tuple of str
        Empty if nothing is known.
    """
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

    def __init__(self, model, phrases, templates):
        phrases = sorted(phrases)
        self._vectors = dict(zip(phrases, model.texts(phrases, templates=templates), strict=True))

    def vectors(self, phrases):
        return np.stack([self._vectors[phrase] for phrase in phrases])

    def mean(self, phrases):
        return unit(self.vectors(phrases).mean(0, keepdims=True))[0]


def _row_metadata(path):
    opener = gzip.open if str(path).endswith('.gz') else open
    with opener(path, 'rt', encoding='utf-8', newline='') as lines:
        return [', '.join(part for part in (row['target_name'], row['obs_title']) if part)
                for row in csv.DictReader(lines)]


def _in_parts(model, items, load, size=64):
    """Embed images that are not in memory all at once."""
    parts = [model.images([load(item) for item in items[start:start + size]])
             for start in range(0, len(items), size)]
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def _int8(name, vectors):
    scale = max(np.abs(vectors).max(), 1e-12) / 127
    return {name: np.rint(vectors / scale).astype(np.int8), f'{name}_scale': np.float32(scale)}
