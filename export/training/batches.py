"""
Training pictures, with all that is known of them, and batches of their views.

Real pictures come first, then scenes of the synthetic sky. Each batch depends on the seed
and on its number only, so that a run that was interrupted goes on with what it would have
seen.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from export.data import pairs as real_pairs
from export.data.labels import draft, label_classes
from export.sky import KINDS, caption, names, synonyms
from export.training.text import CaptionBank
from export.training.views import view

__all__ = ['Batches', 'Material', 'read_material', 'read_shard', 'split_folder', 'stream']

#: Factor on the degradations of scenes, which have some already.
_SCENE_STRENGTH = 0.6


def read_shard(path):
    """
    Read one shard of the synthetic sky.

    Parameters
    ----------
    path : path-like
        File written by ``python -m export sky``.

    Returns
    -------
    images : `numpy.ndarray` of uint8, shape (n, s, s, 3)
        Scenes.
    kinds : `numpy.ndarray` of int64, shape (n,)
        Index of the kind.
    attributes : list of dict
        Attributes of each scene.
    """
    with np.load(path, allow_pickle=False) as shard:
        attributes = [json.loads(str(text)) for text in shard['attributes']]
        return shard['images'], shard['kind'].astype(np.int64), attributes


def split_folder(data):
    """
    Read a manifest folder and split it.

    Parameters
    ----------
    data : dict
        ``real`` (folder), ``validation_fractions`` (dict), ``leave_out`` (list of sources).

    Returns
    -------
    pairs : list of `export.data.pairs.Pair`
        All pairs.
    validation : `numpy.ndarray` of bool, shape (n,)
        True where held out.
    """
    pairs = real_pairs.read_manifest(data['real'])
    thumbnails = np.stack([
        real_pairs.to_square(real_pairs.load_pixels(pair.file), 16) for pair in pairs
    ])
    groups = real_pairs.group(pairs, thumbnails)
    return pairs, real_pairs.split(pairs, groups, fractions=data['validation_fractions'],
                                   leave_out=data.get('leave_out', ()))


@dataclass(frozen=True)
class Material:
    """
    Training pictures: real ones, then scenes.

    Parameters
    ----------
    pairs : list of `export.data.pairs.Pair`
        Real pictures.
    scenes : list of `numpy.ndarray` of uint8
        Scenes.
    said : list of list of (str, float)
        Captions of each picture and the weight to draw each with.
    kinds : `numpy.ndarray` of int64, shape (n,)
        Index of the kind of each picture, -1 if unknown.
    sources : `numpy.ndarray` of int64, shape (n,)
        Number of the source of each picture, -1 for scenes.
    captions : list of (`numpy.ndarray`, `numpy.ndarray`)
        Rows of ``vectors`` and their chances, summed up, for each picture.
    vectors : `numpy.ndarray` of float16, shape (t, 384)
        Sentence embeddings of all texts.
    kind_phrases : list of list of list of int
        For each kind, groups of rows of ``vectors`` that name it.
    label_phrases : list of list of list of int
        The same for each of c label classes.
    label_sources : `numpy.ndarray` of int64, shape (c,)
        Number of the source of each label class.
    carried : `numpy.ndarray` of bool, shape (n, c)
        Which picture carries which label.
    """

    pairs: list
    scenes: list
    said: list
    kinds: np.ndarray
    sources: np.ndarray
    captions: list
    vectors: np.ndarray
    kind_phrases: list
    label_phrases: list
    label_sources: np.ndarray
    carried: np.ndarray

    def __len__(self):
        return len(self.kinds)

    def pixels(self, number):
        """
        Return a picture.

        Parameters
        ----------
        number : int
            Place of the picture.

        Returns
        -------
        pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
            RGB.
        """
        if number < len(self.pairs):
            return real_pairs.load_pixels(self.pairs[number].file)
        return self.scenes[number - len(self.pairs)]

    def view(self, number, size, rng, *, archive_share):
        """
        Make a training view of a picture.

        Parameters
        ----------
        number : int
            Place of the picture.
        size : int
            Side of the view.
        rng : `numpy.random.Generator`
            Source of randomness.
        archive_share : float
            Share of views that are renderings of other archives.

        Returns
        -------
        view : `numpy.ndarray` of uint8, shape (size, size, 3)
            RGB.
        """
        strength = 1.0 if number < len(self.pairs) else _SCENE_STRENGTH
        return view(self.pixels(number), size, rng, strength=strength,
                    archive_share=archive_share)


def read_material(data, encoder, folder):
    """
    Read the training pictures of a configuration.

    Parameters
    ----------
    data : dict
        Section ``data`` of the configuration.
    encoder : `export.training.text.SentenceEncoder`
        Encoder of captions.
    folder : path-like
        Where sentence embeddings are kept, as ``sentences.npz``.

    Returns
    -------
    pictures : `Material`
        The training side of the manifest, and all scenes.

    Raises
    ------
    FileNotFoundError
        If there is neither a manifest nor a scene.
    """
    chosen, scenes, kinds, described = [], [], [], []
    if data['real']:
        pairs, held_out = split_folder(data)
        pairs = draft([pair for pair, out in zip(pairs, held_out, strict=True) if not out])
        chosen = [pair for pair in pairs if pair.captions]
    for path in (path for sky in data['sky'] for path in sorted(Path(sky).glob('sky-*.npz'))):
        images, found, attributes = read_shard(path)
        scenes.extend(images)
        kinds.extend(found)
        described.extend(attributes)
    if not chosen and not scenes:
        raise FileNotFoundError(f"no picture in {data['real'] or 'a manifest'}, and no shard of "
                                f"the synthetic sky in {data['sky']}")
    rng = np.random.default_rng(11)
    count = data['captions_per_scene']
    texts = [[(caption(KINDS[kind], attribute, rng), 1.0) for _ in range(count)]
             for kind, attribute in zip(kinds, described, strict=True)]
    texts = [*(pair.captions for pair in chosen), *texts]
    bank = CaptionBank(encoder, Path(folder) / 'sentences.npz')
    # All at once: texts of equal length are embedded together.
    classes = label_classes(chosen)
    ways = [[names(kind), synonyms(kind)] for kind in KINDS]
    bank.add([text for said in texts for text, _ in said]
             + [text for groups in (*ways, *classes.phrases) for group in groups for text in group])
    bank.save()
    sources = sorted({pair.source for pair in chosen})
    carried = np.zeros((len(texts), len(classes.keys)), bool)
    carried[:len(chosen)] = classes.carried
    return Material(
        pairs=chosen, scenes=scenes, said=texts,
        kinds=np.array([*(KINDS.index(pair.kind) if pair.kind else -1 for pair in chosen), *kinds],
                       np.int64),
        sources=np.array([*(sources.index(pair.source) for pair in chosen), *(-1 for _ in scenes)],
                         np.int64),
        captions=[(bank.add([text for text, _ in said]), np.cumsum([w for _, w in said]))
                  for said in texts],
        vectors=bank.vectors(np.arange(len(bank))).astype(np.float16),
        kind_phrases=_rows(bank, ways), label_phrases=_rows(bank, classes.phrases),
        label_sources=np.array([sources.index(source) for source, _ in classes.keys], np.int64),
        carried=carried,
    )


def _rows(bank, classes):
    return [[bank.add(list(group)).tolist() for group in groups if group] for groups in classes]


class Batches(torch.utils.data.IterableDataset):
    """
    Endless stream of training batches.

    Parameters
    ----------
    pictures : `Material`
        What to draw from.
    count : int
        Pictures in a batch.
    real_fraction : float
        Real pictures among them, where there are both.
    seed : int
        Seed.
    start : int, optional
        Number of the first batch.
    views : int, optional
        Views of each real picture that are ready: their numbers are drawn. Without, views are made.
    size : int, optional
        Side of the views that are made.
    archive_share : float, optional
        Share of these that are renderings of other archives.
    """

    def __init__(self, pictures, count, *, real_fraction, seed, start=0, views=None, size=None,
                 archive_share=0.0):
        self._pictures = pictures
        self._count = count
        self._seed = seed
        self._start = start
        self._views = views
        self._size = size
        self._archive_share = archive_share
        real, scenes = len(pictures.pairs), len(pictures.scenes)
        self._real = round(count * (real_fraction if scenes else 1.0)) if real else 0
        # Square root: small sources are seen more often than their size, less than equally.
        sizes = np.bincount(pictures.sources[:real]) if real else np.ones(1)
        chance = sizes[pictures.sources[:real]] ** -0.5
        self._chance = np.cumsum(chance / chance.sum()) if real else chance

    def __iter__(self):
        """
        Yield batches as dicts.

        Yields
        ------
        batch : dict of `torch.Tensor`
            ``picture`` (n,) places of the pictures, ``caption`` (n,) equal for equal captions,
            ``kind`` (n,) -1 if unknown, ``classes`` (kinds,) and ``asked`` (labels,) a phrase for
            each, as rows of the sentence embeddings, all int64; and ``pixels`` uint8 (n, s, s, 3),
            or ``view`` (n,).
        """
        worker = torch.utils.data.get_worker_info()
        number, step = (worker.id, worker.num_workers) if worker else (0, 1)
        number += self._start
        while True:
            yield self._batch(np.random.default_rng([self._seed, number]))
            number += step

    def _batch(self, rng):
        pictures, real = self._pictures, len(self._pictures.pairs)
        chosen = np.searchsorted(self._chance, rng.random(self._real)).clip(0, max(real - 1, 0))
        if self._count > self._real:
            scenes = rng.integers(len(pictures.scenes), size=self._count - self._real) + real
            chosen = np.concatenate([chosen, scenes])
        batch = {
            'picture': chosen, 'kind': pictures.kinds[chosen],
            'caption': np.array([_drawn(pictures.captions[i], rng) for i in chosen]),
            'classes': _phrases(pictures.kind_phrases, rng),
            'asked': _phrases(pictures.label_phrases, rng),
        }
        if self._views:
            # Scenes have one view.
            batch['view'] = rng.integers(self._views, size=self._count) * (chosen < real)
        else:
            batch['pixels'] = np.stack([
                pictures.view(i, self._size, rng, archive_share=self._archive_share)
                for i in chosen])
        return {name: torch.from_numpy(np.ascontiguousarray(value))
                for name, value in batch.items()}


def stream(material, settings, **options):
    """
    Prepare the batches of a stage of training.

    Parameters
    ----------
    material : `Material`
        What to draw from.
    settings : dict
        ``batch_size``, and ``workers``: how many processes make batches.
    **options
        Of `Batches`.

    Returns
    -------
    batches : callable
        Number of the first batch -> iterable of batches.
    """
    def batches(start):
        # With a generator of its own it leaves the random numbers of the trainer alone.
        return torch.utils.data.DataLoader(
            Batches(material, settings['batch_size'], start=start, **options), batch_size=None,
            num_workers=settings['workers'], generator=torch.Generator())

    return batches


def _drawn(captions, rng):
    rows, chances = captions
    return rows[min(np.searchsorted(chances, rng.random() * chances[-1]), len(rows) - 1)]


def _phrases(classes, rng):
    """Draw a group of each class, and a phrase of the group."""
    drawn = [group[rng.integers(len(group))]
             for groups in classes for group in [groups[rng.integers(len(groups))]]]
    return np.array(drawn, np.int64)
