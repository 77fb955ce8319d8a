# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Phrases and example images -> one vector that pictures are compared with, one for words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .encoder import Encoder
from .ranking import WEIGHTS, centroid, compose

__all__ = ['PARTS', 'Examples', 'Query']

PARTS = (*WEIGHTS, 'image', 'words')
"""
What may have a weight.
"""


@dataclass(frozen=True)
class Examples:
    """
    Images that show what is wanted, or what is not.

    Attributes
    ----------
    sources : list of str
        Where they are.
    vectors : ndarray
        Their embeddings, unit vectors, shape ``(k, d)``.
    """

    sources: list[str] = field(default_factory=list)
    vectors: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))


@dataclass(frozen=True)
class Query:
    """
    All that is asked at once.

    Attributes
    ----------
    phrases, negatives : list of str
        What the image should and should not show.
    like, unlike : Examples
        Images that it should and should not look like.
    weights : dict
        What each part counts: the keys of `~astroclip_search.ranking.WEIGHTS`, and ``image`` and
        ``words`` where they shall differ from those that were fitted for the model.
    """

    phrases: list[str]
    negatives: list[str] = field(default_factory=list)
    like: Examples = field(default_factory=Examples)
    unlike: Examples = field(default_factory=Examples)
    weights: dict[str, float] = field(default_factory=dict)

    def weight(self, name: str) -> float:
        """
        What a part counts.

        Parameters
        ----------
        name : str
            One of the keys of `~astroclip_search.ranking.WEIGHTS`.

        Returns
        -------
        float
            At least 0.
        """
        return self.weights.get(name, WEIGHTS[name])

    def image_vector(self, encoder: Encoder) -> np.ndarray:
        """
        What pictures are compared with.

        Parameters
        ----------
        encoder : Encoder
            The model.

        Returns
        -------
        ndarray
            Unit vector, shape ``(d,)``.
        """
        terms = []
        texts = self._vectors(encoder.encode_text, encoder.bundle.prompt_templates)
        if self.phrases:
            terms.append((centroid(*texts, self.weight('negative')), self.weight('text')))
        elif self.negatives:
            terms.append((centroid(texts[1]), -self.weight('negative')))
        for examples, weight in ((self.like, self.weight('like')),
                                 (self.unlike, -self.weight('unlike'))):
            if examples.sources:
                terms.append((centroid(examples.vectors), weight))
        return compose(terms, encoder.bundle.background.image)

    def words_vector(self, encoder: Encoder) -> np.ndarray:
        """
        What the words of rows are compared with; there must be a phrase.

        Parameters
        ----------
        encoder : Encoder
            The model.

        Returns
        -------
        ndarray
            Unit vector, shape ``(e,)``.
        """
        return centroid(*self._vectors(encoder.encode_words), self.weight('negative'))

    def ranking_weights(self, encoder: Encoder) -> tuple[float, float] | None:
        """
        What the picture and the words of a row count.

        Parameters
        ----------
        encoder : Encoder
            The model.

        Returns
        -------
        tuple of float or None
            As `~astroclip_search.ranking.combine` takes them.
        """
        fitted = encoder.bundle.ranking_weights
        if not {'image', 'words'} & self.weights.keys():
            return fitted
        image, words = fitted or (1.0, 1.0)
        return self.weights.get('image', image), self.weights.get('words', words)

    def _vectors(self, encode: Callable,
                 templates: Sequence[str] = ('{}',)) -> tuple[np.ndarray, np.ndarray]:
        texts = [template.replace('{}', phrase) for phrase in self.phrases + self.negatives
                 for template in templates]
        vectors = encode(texts) if texts else np.empty((0, 0), np.float32)
        split = len(self.phrases) * len(templates)
        return vectors[:split], vectors[split:]
