# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Phrases and example images -> one vector that pictures are compared with, one for metadata.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..models.background import finite, normalise
from ..models.encoder import Encoder
from ..models.forks import undisturbed
from .learn import LEARN_FROM, learned_direction

__all__ = ['PARTS', 'WEIGHTS', 'Examples', 'Query', 'centroid', 'query_vector']

# What each part of a query counts, see query_vector; docs/user_guide/scores says how they were
# chosen.
WEIGHTS = {'text': 1.0, 'negative': 0.5, 'like': 0.5, 'unlike': 0.5}

PARTS = (*WEIGHTS, 'image', 'metadata')
"""
The parts of a score that may have a weight.
"""


def centroid(positive: np.ndarray, negative: np.ndarray | None = None,
             weight: float = WEIGHTS['negative']) -> np.ndarray:
    """
    One unit vector (d,) from those of several phrases or images (m, d).

    The mean of the negative ones (k, d) is subtracted with a weight.
    """
    query = positive.mean(axis=0)
    if negative is not None and len(negative):
        query = query - weight * negative.mean(axis=0)
    return normalise(query[None])[0]


def query_vector(terms: Sequence[tuple[np.ndarray, float]],
                 background: np.ndarray | None = None) -> np.ndarray:
    """
    One unit vector (d,) from phrases and example images, each a unit vector with its weight.

    Cosines between two images are larger and spread wider than those between an image and a
    phrase, so each is divided by its standard deviation over the background images (m, d) before
    they are added with their weights. As cosines are linear, their sum is again the product with
    one vector, and all that is said of a cosine holds for it, false-alarm rates too. Without a
    background it is the formula of Rocchio (Manning, Raghavan and Schuetze 2008, eq. 9.3).
    """
    if len(terms) == 1 and terms[0][1] > 0:
        return terms[0][0]
    return normalise(_total(terms, background)[None])[0]


def _total(terms: Sequence[tuple[np.ndarray, float]],
           background: np.ndarray | None) -> np.ndarray:
    """
    The sum (d,) of vectors with their weights, each in its standard deviations.
    """
    with undisturbed():
        spreads = [1.0 if background is None else max(float((background @ vector).std()), 1e-6)
                   for vector, _ in terms]
    total: np.ndarray = np.sum([weight / spread * vector for (vector, weight), spread in
                                zip(terms, spreads, strict=True)], axis=0)
    return total


@dataclass(frozen=True)
class Examples:
    """
    References to images that show what is wanted, or what is not, and their unit vectors (k, d).
    """

    sources: list[str] = field(default_factory=list)
    vectors: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))


@dataclass(frozen=True)
class Query:
    """
    All that is asked at once.

    ``weights`` has the keys of `WEIGHTS`, and ``image`` and ``metadata`` where they shall differ
    from those that were fitted for the model.
    """

    phrases: list[str]
    negatives: list[str] = field(default_factory=list)
    like: Examples = field(default_factory=Examples)
    unlike: Examples = field(default_factory=Examples)
    weights: dict[str, float] = field(default_factory=dict)

    def weight(self, name: str) -> float:
        """
        What a part counts, one of the keys of `WEIGHTS`.
        """
        return self.weights.get(name, WEIGHTS[name])

    def image_vector(self, encoder: Encoder) -> np.ndarray:
        """
        The unit vector (d,) that pictures are compared with: learned from the examples if there
        are enough of them, and else their sum.
        """
        terms = []
        texts = self._vectors(encoder.encode_text, encoder.bundle.prompt_templates)
        if self.phrases:
            terms.append((centroid(*texts, self.weight('negative')), self.weight('text')))
        elif self.negatives:
            terms.append((centroid(texts[1]), -self.weight('negative')))
        background = encoder.bundle.background
        if background.image is not None and (
                len(self.like.sources) + len(self.unlike.sources) >= LEARN_FROM):
            return learned_direction(
                _total(terms, background.image) if terms else None,
                self.like.vectors, self.unlike.vectors, background,
                weights=(self.weight('like') / WEIGHTS['like'],
                         self.weight('unlike') / WEIGHTS['unlike']))
        for examples, weight in ((self.like, self.weight('like')),
                                 (self.unlike, -self.weight('unlike'))):
            if examples.sources:
                terms.append((centroid(examples.vectors), weight))
        return query_vector(terms, background.image)

    def has_learned(self, encoder: Encoder) -> bool:
        """
        Whether the examples tell more than the phrase does.
        """
        if not (self.like.sources or self.unlike.sources):
            return False
        alone = replace(self, like=Examples(), unlike=Examples())
        return not (self.phrases or self.negatives) or not np.allclose(
            alone.image_vector(encoder), self.image_vector(encoder), atol=1e-6)

    def metadata_vector(self, encoder: Encoder) -> np.ndarray:
        """
        The unit vector (e,) that the metadata of rows are compared with; there must be a phrase.
        """
        return centroid(*self._vectors(encoder.encode_metadata), self.weight('negative'))

    def ranking_weights(self, encoder: Encoder) -> tuple[float, float] | None:
        """
        What the picture and the metadata of a row count.
        """
        fitted = encoder.bundle.ranking_weights
        if not {'image', 'metadata'} & self.weights.keys():
            return fitted
        image, metadata = fitted or (1.0, 1.0)
        return self.weights.get('image', image), self.weights.get('metadata', metadata)

    def _vectors(self, encode: Callable,
                 templates: Sequence[str] = ('{}',)) -> tuple[np.ndarray, np.ndarray]:
        texts = [template.replace('{}', phrase) for phrase in self.phrases + self.negatives
                 for template in templates]
        vectors = finite(encode(texts)) if texts else np.empty((0, 0), np.float32)
        split = len(self.phrases) * len(templates)
        return vectors[:split], vectors[split:]
