"""
Pooled features of the untuned network, computed once.

They are kept in parts of some hundred pictures, so that an interrupted run loses little. Of
each real picture there is a clean view and some augmented ones, of a scene an augmented one.
"""

import itertools
import os

import numpy as np
import torch
from scipy.linalg import eigh

from export.data import pairs as real_pairs
from export.training.vision import normalise

__all__ = ['pooled_features', 'principal_components']

_PART = 256


def pooled_features(tower, pictures, folder, *, size, views, archive_share, seed, batch_size=64):
    """
    Compute the pooled features of training pictures, or read them.

    Parameters
    ----------
    tower : `export.training.vision.PooledTower`
        Network.
    pictures : `export.training.batches.Material`
        Training pictures.
    folder : `pathlib.Path`
        Where they are kept.
    size : int
        Side of the views.
    views : int
        Views of each real picture.
    archive_share : float
        Share of augmented views that are renderings of other archives.
    seed : int
        Seed of the views.
    batch_size : int, optional
        Views in a pass of the network.

    Returns
    -------
    features : `numpy.ndarray` of float16, shape (n, views, f)
        Scenes fill the first view only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    real, parts = len(pictures.pairs), []
    bounds = [*range(0, real, _PART), *range(real, len(pictures), _PART), len(pictures)]
    for first, end in itertools.pairwise(bounds):
        path = folder / f'{first:06d}.npy'
        if not path.exists():
            squares = [square for i in range(first, end) for square in _views(
                pictures, i, size, views if i < real else 1, archive_share, seed)]
            found = np.concatenate([_pooled(tower, squares[i:i + batch_size])
                                    for i in range(0, len(squares), batch_size)])
            part = path.with_suffix('.part')
            with open(part, 'wb') as file:
                np.save(file, found.reshape(end - first, -1, found.shape[-1]))
            os.replace(part, path)
            print(f'features of {end} of {len(pictures)} pictures', flush=True)
        parts.append(np.load(path))
    features = np.zeros((len(pictures), views, parts[0].shape[-1]), np.float16)
    for first, part in zip(bounds, parts, strict=False):
        features[first:first + len(part), :part.shape[1]] = part
    return features


def _views(pictures, number, size, views, archive_share, seed):
    rng = np.random.default_rng([seed, number])
    if number >= len(pictures.pairs):
        return [pictures.view(number, size, rng, archive_share=archive_share)]
    return [real_pairs.to_square(pictures.pixels(number), size),
            *(pictures.view(number, size, rng, archive_share=archive_share)
              for _ in range(views - 1))]


@torch.inference_mode()
def _pooled(tower, squares):
    pixels = normalise(torch.from_numpy(np.stack(squares))).to(tower.mean.device)
    return tower.pool(tower.maps(pixels)).half().cpu().numpy()


def principal_components(features, real, count, *, limit):
    """
    Find the standardisation and the principal components of pooled features.

    Parameters
    ----------
    features : `numpy.ndarray` of float16, shape (n, views, f)
        From `pooled_features`.
    real : int
        How many of the first pictures are real; of these two views count, of scenes every third.
    count : int
        Components.
    limit : float
        Standard deviations at which features are clipped.

    Returns
    -------
    mean, std : `numpy.ndarray` of float32, shape (f,)
        Standardisation.
    components : `numpy.ndarray` of float32, shape (f, count)
        Orthonormal columns, the largest first.

    Raises
    ------
    ValueError
        If there are fewer features than components.
    """
    rows = np.concatenate([features[:real, :2].reshape(-1, features.shape[-1]),
                           features[real::3, 0]]).astype(np.float32)
    if len(rows) < count:
        raise ValueError(f'{count} components of {len(rows)} views: set model.components lower')
    mean, std = rows.mean(0), rows.std(0).clip(1e-3)
    rows = ((rows - mean) / std).clip(-limit, limit)
    few = len(rows) < rows.shape[1]
    products = rows @ rows.T if few else rows.T @ rows
    last = len(products) - 1
    _, vectors = eigh(products, subset_by_index=[last + 1 - count, last])
    if few:
        vectors = rows.T @ vectors
        vectors /= np.linalg.norm(vectors, axis=0)
    return mean, std, np.ascontiguousarray(vectors[:, ::-1], np.float32)
