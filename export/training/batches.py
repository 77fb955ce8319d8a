"""
Training batches: synthetic scenes and real pairs, mixed and augmented.

Synthetic shards may still be growing while training runs: folders are scanned
again as batches are drawn, and one new shard at a time is taken in.
"""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps

from export.data import pairs as real_pairs
from export.sky import KINDS, caption, names, synonyms
from export.sky.camera import colour_table
from export.training.text import CaptionBank, SentenceEncoder

__all__ = ['Batches', 'SkyShards', 'augment', 'first_shards', 'read_shard', 'split_folder']


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


def first_shards(folders, *, count=4):
    """
    Read the kinds and attributes of the first shards of some folders.

    Parameters
    ----------
    folders : list of path-like
        Folders with ``sky-*.npz``.
    count : int, optional
        Shards read of each folder.

    Returns
    -------
    kinds : list of int
        Index of the kind.
    attributes : list of dict
        Attributes of each scene.
    """
    kinds, attributes = [], []
    for folder in folders:
        for path in sorted(Path(folder).glob('sky-*.npz'))[:count]:
            _, found, described = read_shard(path)
            kinds += found.tolist()
            attributes += described
    return kinds, attributes


class SkyShards:
    """
    Scenes of folders that may be growing, with captions.

    Parameters
    ----------
    folders : list of path-like
        Folders with ``sky-*.npz``. Later folders are preferred: the last one that
        holds anything gives three quarters of the draws.
    bank : `export.training.text.CaptionBank`
        Where captions are embedded.
    vocabulary : `export.training.attributes.Vocabulary`
        Numbers of the attributes.
    captions_per_scene : int, optional
        Captions drawn for each scene when its shard is read.
    limit : int, optional
        Most scenes kept in memory; the oldest of the least preferred folder go.
    seed : int, optional
        Seed of the captions.
    """

    def __init__(self, folders, bank, vocabulary, *, captions_per_scene=2, limit=150_000, seed=0):
        self._folders = [Path(folder) for folder in folders]
        self._bank = bank
        self._vocabulary = vocabulary
        self._captions_per_scene = captions_per_scene
        self._limit = limit
        self._rng = np.random.default_rng(seed)
        self._seen = set()
        self._shards = [[] for _ in self._folders]

    def __len__(self):
        return sum(len(shard[1]) for shards in self._shards for shard in shards)

    def rescan(self, *, shards=1):
        """
        Take in new shards.

        Parameters
        ----------
        shards : int, optional
            Most new shards to read now.

        Returns
        -------
        read : int
            How many were read.
        """
        read = 0
        for folder, loaded in reversed(list(zip(self._folders, self._shards, strict=True))):
            for path in sorted(folder.glob('sky-*.npz')):
                if read == shards:
                    return read
                if path in self._seen:
                    continue
                self._seen.add(path)
                images, kinds, attributes = read_shard(path)
                texts = [caption(KINDS[kind], attribute, self._rng)
                         for kind, attribute in zip(kinds, attributes, strict=True)
                         for _ in range(self._captions_per_scene)]
                rows = self._bank.add(texts).reshape(len(kinds), -1)
                tokens = [self._vocabulary.encode(kind, attribute)
                          for kind, attribute in zip(kinds, attributes, strict=True)]
                loaded.append((images, kinds, rows, tokens))
                read += 1
                self._trim()
        return read

    def _trim(self):
        for shards in self._shards:
            while shards and len(self) > self._limit:
                shards.pop(0)

    def draw(self, count, rng):
        """
        Draw scenes with replacement.

        Parameters
        ----------
        count : int
            Number of scenes.
        rng : `numpy.random.Generator`
            Source of randomness.

        Returns
        -------
        images : list of `numpy.ndarray` of uint8
            Scenes.
        kinds : `numpy.ndarray` of int64, shape (count,)
            Index of the kind.
        texts : `numpy.ndarray` of int64, shape (count,)
            Caption rows in the bank.
        attributes : list of list of int
            Tokens that are true of each scene.
        """
        *earlier, best = [shards for shards in self._shards if shards]
        earlier = [shard for shards in earlier for shard in shards]
        images, kinds, texts, attributes = [], [], [], []
        for _ in range(count):
            shards = best if not earlier or rng.random() < 0.75 else earlier
            scenes, labels, rows, tokens = shards[rng.integers(len(shards))]
            i = rng.integers(len(scenes))
            images.append(scenes[i])
            kinds.append(labels[i])
            texts.append(rows[i, rng.integers(rows.shape[1])])
            attributes.append(tokens[i])
        return images, np.array(kinds, np.int64), np.array(texts, np.int64), attributes


def augment(pixels, size, rng, *, strength=1.0):
    """
    Make a training view of one image.

    Flips and quarter turns, a crop of 80 % of the side or more, then the
    product's own resize to a square, then what archives do to pictures: JPEG
    blocks, loss of resolution, loss of colour, another stretch, inversion, a
    colour map.

    Parameters
    ----------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.
    size : int
        Side of the view.
    rng : `numpy.random.Generator`
        Source of randomness.
    strength : float, optional
        Factor on the probability of each degradation.

    Returns
    -------
    view : `numpy.ndarray` of uint8, shape (size, size, 3)
        RGB.
    """
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    scale = rng.uniform(0.8, 1.0) if rng.random() < 0.6 else 1.0
    left = rng.uniform(0, 1 - scale) * width
    upper = rng.uniform(0, 1 - scale) * height
    box = (left, upper, left + scale * width, upper + scale * height)
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if rng.random() < 0.5:
        turn = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180,
                Image.Transpose.ROTATE_270)[rng.integers(3)]
        image = image.transpose(turn)
    if rng.random() < 0.10 * strength:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    if rng.random() < 0.15 * strength:
        buffer = BytesIO()
        image.save(buffer, 'JPEG', quality=int(rng.integers(35, 90)))
        image = Image.open(buffer)
    if rng.random() < 0.22 * strength:
        grey = np.asarray(image.convert('L'))
        draw = rng.random()
        if draw < 0.2:
            grey = 255 - grey
        view = np.repeat(grey[..., None], 3, axis=-1)
        if draw > 0.75:
            view = (colour_table(rng) * 255).astype(np.uint8)[grey]
    else:
        view = np.asarray(image)
    if rng.random() < 0.5 * strength:
        levels = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.3)) * rng.uniform(0.7, 1.25)
        gains = np.exp(rng.normal(0, 0.12, 3))
        table = np.clip(levels[:, None] * gains * 255, 0, 255).astype(np.uint8)
        view = np.stack([table[view[..., c], c] for c in range(3)], axis=-1)
    return view


class Batches(torch.utils.data.IterableDataset):
    """
    Endless stream of training batches.

    Parameters
    ----------
    config : dict
        Configuration of the run, see ``configs/default.toml``.
    size : `multiprocessing.Value`
        Side of the views to make, changed by the trainer as it proceeds.
    vocabulary : `export.training.attributes.Vocabulary`
        Numbers of the attributes.
    start : int, optional
        Number of the first batch: a resumed run draws new batches.
    encoder : `export.training.text.SentenceEncoder`, optional
        Encoder of captions; by default MiniLM.
    """

    def __init__(self, config, size, vocabulary, *, start=0, encoder=None):
        self._config = config
        self._vocabulary = vocabulary
        self._size = size
        self._start = start
        self._encoder = encoder

    def __iter__(self):
        """
        Yield batches as dicts.

        Yields
        ------
        batch : dict
            ``pixels`` uint8 (n, s, s, 3); ``texts`` float32 (n, 384) sentence
            embeddings; ``caption`` int64 (n,) equal for equal captions; ``kind``
            int64 (n,), -1 for real images of unknown kind; ``classes`` float32 (kinds, 384) one
            class phrase of each kind; ``attributes`` int64 (n, a) true tokens, padded with -1.
        """
        torch.set_num_threads(1)
        data, train = self._config['data'], self._config['train']
        rng = np.random.default_rng([train['seed'], self._start])
        bank = CaptionBank(self._encoder or SentenceEncoder())
        phrases = [(names(kind), synonyms(kind)) for kind in KINDS]
        sky = SkyShards(data['sky'], bank, self._vocabulary,
                        captions_per_scene=data['captions_per_scene'],
                        limit=data['scenes_in_memory'], seed=self._start)
        if not sky.rescan(shards=2):
            raise FileNotFoundError(f"no shard of the synthetic sky in {data['sky']}")
        real = _RealPairs(data, bank) if data['real'] else None
        count_real = round(train['batch_size'] * data['real_fraction']) if real else 0
        number = self._start
        while True:
            size = self._size.value
            images, kinds, texts, tokens = sky.draw(train['batch_size'] - count_real, rng)
            views = [augment(image, size, rng, strength=0.6) for image in images]
            if count_real:
                images, real_kinds, rows = real.draw(count_real, rng)
                views += [augment(image, size, rng) for image in images]
                texts = np.concatenate([texts, rows])
                kinds = np.concatenate([kinds, real_kinds])
            classes = bank.add([said[rng.integers(len(said))] for ways in phrases
                                for said in [ways[rng.integers(len(ways))]]])
            attributes = np.full((len(views), max(map(len, tokens), default=0)), -1, np.int64)
            for row, found in zip(attributes, tokens, strict=False):
                row[:len(found)] = found
            yield {
                'pixels': torch.from_numpy(np.stack(views)),
                'texts': torch.from_numpy(bank.vectors(texts)),
                'caption': torch.from_numpy(texts),
                'kind': torch.from_numpy(kinds),
                'classes': torch.from_numpy(bank.vectors(classes)),
                'attributes': torch.from_numpy(attributes),
                'scenes': len(sky),
            }
            number += 1
            if number % data['rescan_every'] == 0:
                sky.rescan()


class _RealPairs:
    """Training half of a manifest folder, each source drawn equally often per its weight."""

    def __init__(self, data, bank):
        pairs, validation = split_folder(data)
        chosen = [pair for pair, held_out in zip(pairs, validation, strict=True)
                  if not held_out and pair.captions]
        self._images = [real_pairs.load_pixels(pair.file) for pair in chosen]
        self._kinds = np.array([KINDS.index(pair.kind) if pair.kind else -1 for pair in chosen])
        self._rows = [bank.add([text for text, _ in pair.captions]) for pair in chosen]
        self._weights = [np.cumsum([w for _, w in pair.captions]) for pair in chosen]
        sources = np.array([pair.source for pair in chosen])
        # Square root: small sources are seen more often than their size, less than equally.
        self._chance = np.zeros(len(chosen))
        for source in np.unique(sources):
            members = sources == source
            self._chance[members] = members.sum() ** -0.5
        self._chance = np.cumsum(self._chance / self._chance.sum())

    def draw(self, count, rng):
        """Return ``count`` images, their kinds and caption rows."""
        chosen = np.searchsorted(self._chance, rng.random(count)).clip(0, len(self._images) - 1)
        rows = [self._rows[i][np.searchsorted(self._weights[i],
                                              rng.random() * self._weights[i][-1])]
                for i in chosen]
        return [self._images[i] for i in chosen], self._kinds[chosen], np.array(rows, np.int64)


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
