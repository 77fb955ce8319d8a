# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A picture and what is asked -> its best places.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..images.geometry import Geometry, geometry_of
from ..models.encoder import Encoder
from ..models.forks import undisturbed
from ..ranking.calibration import place_rate, z_score
from ..ranking.query import Query
from ..status import Reason
from .maps import best_windows, heat, peak, windows

__all__ = ['Asked', 'Place', 'Seen', 'look']

# What any picture fits, and how much of it is taken away.
_NEUTRAL = ('an astronomical image', 'a picture of the sky', 'an image',
            'a photograph of the night sky')
_NEUTRAL_WEIGHT = 0.25


@dataclass(frozen=True)
class Asked:
    """
    What is looked for: the vector that windows are compared with, products with it of unrelated
    pictures, and their mean vector.
    """

    vector: np.ndarray
    background: np.ndarray | None = None
    usual: np.ndarray | None = None

    @classmethod
    def of(cls, query: Query, encoder: Encoder) -> 'Asked':
        """
        Of a query, less what any picture fits if it has a phrase.
        """
        asked = vector = query.image_vector(encoder)
        if query.phrases:
            neutral = encoder.encode_text([
                template.replace('{}', phrase) for phrase in _NEUTRAL
                for template in encoder.bundle.prompt_templates]).mean(axis=0)
            vector = asked - np.float32(_NEUTRAL_WEIGHT) * neutral
        references = encoder.bundle.background
        if references.image is None:
            return cls(vector)
        shows = np.isnan(references.cosines(asked))
        with undisturbed():
            background = np.where(shows, np.float32('nan'), references.image @ vector)
        return cls(vector, background, references.image.mean(axis=0))


@dataclass(frozen=True)
class Place:
    """
    A place in a picture: its box, left, upper, right and lower edge, and its peak, in parts of the
    width and height; its score, and how often an unrelated picture has one as good.
    """

    box: tuple[float, ...]
    peak: tuple[float, float]
    score: float
    false_alarm: float

    @property
    def points(self) -> list[tuple[float, float]]:
        """
        The peak, and the corners one after the other.
        """
        left, upper, right, lower = self.box
        return [self.peak, (left, upper), (right, upper), (right, lower), (left, lower)]


@dataclass(frozen=True)
class Seen:
    """
    What was found in a picture.

    Attributes
    ----------
    places : list of Place
        Best first.
    geometry : Geometry
        How the picture lies on its image.
    size : tuple of int
        Width and height of the picture.
    heat : `numpy.ndarray` or None
        How well each part of it fits, float32 (rows, columns).
    sky : `numpy.ndarray` or None
        Right ascension and declination of the points of all places, float64 (5 n, 2).
    error : `numpy.ndarray` or None
        How far off they may be in arcsec, (5 n,); None if that is less than a pixel.
    why : Reason or None
        Why the file says no position.
    """

    places: list[Place]
    geometry: Geometry
    size: tuple[int, int]
    heat: np.ndarray | None = None
    sky: np.ndarray | None = None
    error: np.ndarray | None = None
    why: Reason | None = None


def look(picture: Image.Image, encoder: Encoder, asked: Asked, n: int, *,
         with_map: bool = False) -> tuple[Seen, np.ndarray]:
    """
    The best places of a picture, and the pixels of their peaks and corners.
    """
    geometry = geometry_of(picture)
    of_picture = windows(picture, encoder)
    fit, contrast = of_picture.fit(asked.vector), of_picture.contrast(asked.vector)
    scores, rates = fit, np.full(len(fit), np.nan, np.float32)
    parts = of_picture.level > 0
    values = heat(of_picture.boxes[parts], fit[parts], picture.size)
    outstanding = heat(of_picture.boxes[parts], contrast[parts], picture.size)
    chosen = best_windows(of_picture.boxes, contrast, n)
    if asked.background is not None:
        scores = z_score(fit, asked.background)
        rates[chosen] = place_rate(fit[chosen], asked.background, of_picture.chances(asked.usual))
    places = [Place(tuple(of_picture.boxes[i].tolist()), peak(outstanding, of_picture.boxes[i]),
                    float(scores[i]), float(rates[i])) for i in chosen]
    if with_map and asked.background is not None:
        values = z_score(values, asked.background)
    seen = Seen(places, geometry, picture.size, heat=values if with_map else None)
    return seen, _points(places, geometry)


def _points(places: Sequence[Place], geometry: Geometry) -> np.ndarray:
    """
    Pixels of the image, float64 (5 n, 2): of each place its peak and the corners of its box.
    """
    parts = np.array([point for place in places for point in place.points]).reshape(-1, 2)
    return np.stack(geometry.to_original(*parts.T), axis=1)
