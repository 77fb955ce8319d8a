# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
An RGB image -> the pixels that a model takes, and a thumbnail for people.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

__all__ = ['Preprocessing', 'resize', 'sides', 'thumbnail']

# No image model takes more; a larger number in a downloaded file would only take up memory.
_MAX_SIDE = 2048

# The thumbnail is made of the same picture, whatever a small model would need.
_MIN_SIDE = 192


@dataclass(frozen=True)
class Preprocessing:
    """
    How an RGB image becomes the input of the model (``preprocessor_config.json``).
    """

    size: tuple[int, int]  # height and width in pixels
    # If set, the short side is resized to this many pixels and the centre is cropped; otherwise
    # the whole frame is resized to ``size``, whatever its aspect ratio.
    shortest_edge: int | None
    resample: int  # Pillow's number of the filter
    mean: tuple[float, float, float]  # of each channel, for values in 0..1
    std: tuple[float, float, float]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> 'Preprocessing':
        """
        From a ``preprocessor_config.json`` of the transformers library. What does not describe an
        input of a fixed size raises an error, of whatever kind.
        """
        resize, short = config['size'], None
        if config.get('do_center_crop', config.get('crop_size') is not None):
            size = _height_width(config['crop_size'])
            # With a crop, a bare number is the short side (CLIP); without one, a square.
            short = resize if isinstance(resize, int) else resize.get('shortest_edge')
            short = None if short is None else int(short)
        else:
            size = _height_width(resize)
        if max(*size, short or 0) > _MAX_SIDE or min(size) < 1:
            raise ValueError(f'images of {size} pixels, with a short side of {short}')
        if short is None and _height_width(resize) != size:
            raise ValueError('a crop of an image that was resized to another shape')
        if short is not None and short < max(size):
            raise ValueError('a crop larger than the image')
        resample = config.get('resample', 3)
        if resample not in range(6):
            raise ValueError(f'resample {resample}')
        normalised = config.get('do_normalize', True)
        # In the file both are for values times rescale_factor; here they are for values in 0..1.
        factor = config.get('rescale_factor', 1 / 255) if config.get('do_rescale', True) else 1
        unit = 255 * factor
        mean = _channels(config['image_mean'] if normalised else (0, 0, 0), unit)
        std = _channels(config['image_std'] if normalised else (1, 1, 1), unit)
        if not (all(map(math.isfinite, mean + std)) and all(std)):
            raise ValueError(f'a mean of {mean} and a deviation of {std}')
        return cls(size, short, resample, mean, std)


def _height_width(size: int | dict) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    return int(size['height']), int(size['width'])


def _channels(values: Sequence[float], unit: float) -> tuple[float, float, float]:
    red, green, blue = (float(value) / unit for value in values)
    return red, green, blue


def resize(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """
    Resize and crop an RGB image as the model's preprocessor does: ``(height, width, 3)`` uint8.
    """
    height, width = preprocessing.size
    box = None
    if preprocessing.shortest_edge is not None:
        # Crop before resizing: the same pixels as resizing first, without computing the rest.
        scale = preprocessing.shortest_edge / min(image.size)
        half_x, half_y = width / scale / 2, height / scale / 2
        x, y = image.width / 2, image.height / 2
        box = (max(0.0, x - half_x), max(0.0, y - half_y),
               min(float(image.width), x + half_x), min(float(image.height), y + half_y))
    resized = image.resize((width, height), resample=Image.Resampling(preprocessing.resample),
                           box=box, reducing_gap=3.0)
    return np.asarray(resized, dtype=np.uint8)


def sides(preprocessing: Preprocessing) -> tuple[int, int]:
    """
    ``side`` and ``bitmap_side`` for `render`, in pixels, which depend on the model alone: what it
    sees must not change with a setting. Bitmaps are averaged when they are reduced, so that a
    little more than it sees is enough.
    """
    longest = max(*preprocessing.size, preprocessing.shortest_edge or 0)
    return max(2 * longest, _MIN_SIDE), max(longest + longest // 8, _MIN_SIDE)


def thumbnail(image: Image.Image, side: int) -> bytes:
    """
    An RGB image as a JPEG file, whose long side has at most this many pixels.
    """
    small = image
    if max(image.size) > side:
        width, height = (max(1, round(n * (side / max(image.size)))) for n in image.size)
        # As sharp as a bicubic one when it shrinks, and much quicker.
        small = image.resize((width, height), Image.Resampling.HAMMING, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, 'JPEG', quality=80)
    return buffer.getvalue()
