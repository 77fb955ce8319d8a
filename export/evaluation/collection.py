"""
The images of a manifest and what is computed from their pixels, once and for all.
"""

import hashlib
from pathlib import Path

import numpy as np

from export.data import pairs as real_pairs
from export.evaluation import baseline

__all__ = ['Cache', 'Collection', 'stamp']

_PART = 64


class Cache:
    """
    Arrays in a file, each with a key of what it was computed from.

    Parameters
    ----------
    path : path-like, optional
        NPZ file, read if it exists; without it nothing is kept.
    """

    def __init__(self, path=None):
        self._path = Path(path) if path else None
        self._arrays = {}
        if self._path and self._path.is_file():
            with np.load(self._path, allow_pickle=False) as stored:
                self._arrays = dict(stored)

    def get(self, name, key, make):
        """
        Return an array, computed anew if what it depends on has changed.

        Parameters
        ----------
        name : str
            Name of the array; a later key of the same name replaces it.
        key : str
            What it depends on.
        make : callable
            Computes it.

        Returns
        -------
        array : `numpy.ndarray`
            The array.
        """
        if str(self._arrays.get(f'{name}.key')) != key:
            self._arrays[name] = make()
            self._arrays[f'{name}.key'] = np.array(key)
        return self._arrays[name]

    def save(self):
        """Write the file, if there is one."""
        if self._path:
            np.savez(self._path, **self._arrays)


def stamp(*parts, files=()):
    """
    Make a key.

    Parameters
    ----------
    *parts : object
        What the array depends on.
    files : iterable of path-like, optional
        Files that it was computed from: name, size and time of change count.

    Returns
    -------
    key : str
        Hexadecimal digits.
    """
    digest = hashlib.sha256(repr(parts).encode())
    for file in files:
        status = Path(file).stat()
        digest.update(f'{file} {status.st_size} {status.st_mtime_ns}'.encode())
    return digest.hexdigest()


class Collection:
    """
    Images of a manifest.

    Parameters
    ----------
    folder : path-like
        Folder with ``manifest.jsonl``.
    cache : `Cache`
        Where arrays are kept.

    Attributes
    ----------
    pairs : list of `export.data.pairs.Pair`
        In the order of the manifest.
    key : str
        Identifies the files.
    """

    def __init__(self, folder, cache):
        self.pairs = real_pairs.read_manifest(folder)
        self._cache = cache
        self.key = stamp(files=[pair.file for pair in self.pairs])

    def held_out(self, data):
        """
        Repeat the split of a training run.

        Parameters
        ----------
        data : dict
            ``validation_fractions`` and ``leave_out`` of its configuration.

        Returns
        -------
        held_out : `numpy.ndarray` of bool, shape (n,)
            True for images that were not trained on.
        """
        thumbnails = self._cache.get('thumbnails', self.key, lambda: self._each(
            lambda images: np.stack([real_pairs.to_square(image, 16) for image in images])))
        groups = real_pairs.group(self.pairs, thumbnails)
        return real_pairs.split(self.pairs, groups, fractions=data['validation_fractions'],
                                leave_out=data.get('leave_out', ()))

    def vectors(self, model, rows, *, name='vectors'):
        """
        Embed images.

        Parameters
        ----------
        model : object
            With ``images(list of arrays)`` and ``bundle.revision``.
        rows : `numpy.ndarray` of int, shape (m,)
            Images.
        name : str, optional
            Under which they are kept, those of one model each.

        Returns
        -------
        vectors : `numpy.ndarray` of float32, shape (m, d)
            Unit vectors.
        """
        key = stamp(self.key, model.bundle.revision, rows.tolist())
        return self._cache.get(name, key, lambda: self._each(model.images, rows))

    def features(self):
        """
        Measure all images for the classical baseline.

        Returns
        -------
        features : `numpy.ndarray` of float32, shape (n, k)
            See `export.evaluation.baseline.features`.
        """
        return self._cache.get('features', self.key, lambda: self._each(baseline.measure_all))

    def _each(self, compute, rows=None):
        rows = range(len(self.pairs)) if rows is None else rows
        return np.concatenate([
            compute([real_pairs.load_pixels(self.pairs[i].file) for i in rows[start:start + _PART]])
            for start in range(0, len(rows), _PART)
        ])
