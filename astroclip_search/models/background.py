# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The reference embeddings of a model (``background.npz``): how similar unrelated things are.
"""

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import BundleError, EncoderError, one_line
from .forks import undisturbed

__all__ = ['Background', 'arrays', 'finite', 'normalise', 'read_background']

# A label that is as much less similar to a query than the most similar one says another thing:
# "Saturn" is similar to "Jupiter", and a picture of Saturn does not show Jupiter.
_ANOTHER = 0.1

# Bytes of arrays in a file, of which the reference images of a thousand archives have a tenth.
_MOST = 256 * 1024**2


def normalise(vectors: np.ndarray) -> np.ndarray:
    """
    Scale vectors, shape (n, d), to unit length in float32; a zero vector stays zero, and one that
    is not finite becomes NaN.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    with np.errstate(over='ignore', invalid='ignore'):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all():  # of large numbers, it may be too large for float32
            norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
            vectors = np.where(np.isfinite(norms), vectors, np.float32('nan'))
        return (vectors / np.maximum(norms, 1e-12)).astype(np.float32, copy=False)


def finite(vectors: np.ndarray) -> np.ndarray:
    """
    The vectors of phrases, (n, d), as they are, if all of them have numbers.
    """
    if not np.isfinite(vectors).all():
        raise EncoderError('The model gives no numbers for a phrase: it is damaged, or not made '
                           'for this device.')
    return vectors


@dataclass(frozen=True)
class Background:
    """
    Unit vectors, float32, of things that have nothing to do with a query; `None` if there are none.
    """

    image: np.ndarray | None = None
    """
    Reference images of archives, shape (n, d).
    """
    metadata: np.ndarray | None = None
    """
    Targets and titles of reference observations, shape (m, d_sentence).
    """
    labels: np.ndarray | None = None
    """
    Phrases for what the images show, shape (k, d).
    """
    label: np.ndarray | None = None
    """
    Row of ``labels`` for each image, -1 where it is not known; shape (n,), int.
    """
    related: float = 2.0
    """
    Cosine between a query and a label from which on the image may show what the query asks for.
    """
    source: np.ndarray | None = None
    """
    Number of the archive of each image, shape (n,), int; `None` where that is not known.
    """

    def cosines(self, queries: np.ndarray) -> np.ndarray:
        """
        Cosines of the images, shape (n,) or (n, q), to queries, shape (d,) or (q, d).

        NaN for images that may show what is asked: their label is too similar to the query, and
        about as similar as the most similar one. If that were half of all images, none is left out.
        """
        with undisturbed():
            cosines = self.image @ queries.T
            similarity = None if self.labels is None else self.labels @ queries.T
        if similarity is not None:
            similar = similarity >= np.maximum(self.related, similarity.max(axis=0) - _ANOTHER)
            # The last row is for images of unknown content.
            shown = np.concatenate([similar, np.zeros_like(similar[:1])])[self.label]
            cosines[shown & (shown.mean(axis=0) < 0.5)] = np.nan
        return cosines


def arrays(content: bytes) -> Any:
    """
    The arrays of an ``.npz`` file, unless they would be larger than any background is.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > _MOST:
        raise ValueError(f'arrays of {size} bytes')
    return np.load(io.BytesIO(content), allow_pickle=False)


def read_background(content: bytes | None, name: str, dim: int | None) -> Background:
    """
    The background of the model ``name``, empty without a file; ``dim`` is that of its embeddings.
    """
    if content is None:
        return Background()
    try:
        with arrays(content) as data:
            image, metadata, labels = (
                normalise(data[kind] * np.float32(data[f'{kind}_scale'])) if kind in data else None
                for kind in ('image', 'words', 'labels'))
            if labels is None:
                label, related = None, Background.related
            else:
                label, related = data['label'].astype(np.intp), float(data['related'])
                if (image is None or label.shape != image.shape[:1]
                        or not -1 <= label.min() <= label.max() < len(labels)):
                    raise ValueError('the labels do not fit the images')
            source = data['source'].astype(np.intp) if 'source' in data else None
            if source is not None and (image is None or source.shape != image.shape[:1]):
                raise ValueError('the sources do not fit the images')
    # A damaged archive raises BadZipFile, zlib.error, ValueError, KeyError and more.
    except Exception as error:
        raise BundleError(f'The background.npz of the model {name!r} cannot be read '
                          f'({one_line(error)}).') from error
    for kind, vectors in (('images', image), ('labels', labels)):
        if vectors is not None and dim and vectors.shape[1] != dim:
            raise BundleError(f'The model {name!r} is corrupt: the {kind} of background.npz have '
                              f'{vectors.shape[1]} dimensions, not {dim}.')
    return Background(image, metadata, labels, label, related, source)
