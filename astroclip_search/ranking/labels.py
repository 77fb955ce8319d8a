# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Phrases that pictures are described by or sorted into -> vectors and probabilities.
"""

from collections.abc import Sequence

import numpy as np

from ..embeddings.pipeline import Pipeline, phrase_space
from ..models.background import finite, normalise
from .calibration import threshold
from .query import centroid

__all__ = ['class_thresholds', 'phrase_vectors', 'probabilities']


def phrase_vectors(groups: Sequence[Sequence[str]], pipeline: Pipeline) -> np.ndarray:
    """
    A unit vector for each group of phrases, which are averaged: float32 (m, d).

    Phrases that are in the cache are not embedded again.
    """
    encoder, cache = pipeline.encoder, pipeline.cache
    phrases = list(dict.fromkeys(phrase for group in groups for phrase in group))
    name = phrase_space(encoder)
    space = cache.space(name, phrases)
    missing = [phrases[i] for i in np.flatnonzero(space.positions(phrases) < 0)]
    if missing:
        templates = encoder.bundle.prompt_templates
        vectors = finite(encoder.encode_text([template.replace('{}', phrase) for phrase in missing
                                              for template in templates]))
        shape = len(missing), len(templates), vectors.shape[1]
        cache.put(name, missing, normalise(vectors.reshape(shape).mean(axis=1)))
    return np.stack([centroid(space.matrix[space.positions(group)]) for group in groups])


def probabilities(logits: np.ndarray, none: float | None = None) -> np.ndarray:
    """
    The softmax of each row (n, m), NaN where a row has none; ``none`` is the logit of one class
    more, the same in all rows.
    """
    if none is not None:
        logits = np.column_stack([logits, np.where(np.isnan(logits[:, 0]), np.nan, none)])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def class_thresholds(background: np.ndarray, rate: float,
                     source: np.ndarray | None = None) -> np.ndarray:
    """
    For each class the cosine (m,) that a fraction ``rate`` of the unrelated images exceed.

    ``background`` has the cosines of the reference images (b, m), NaN where an image may show the
    class, and ``source`` (b,) their archives. Each class has its own, whatever the others are.
    """
    return np.array([threshold(of_class, rate, source) for of_class in background.T])
