# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Pictures that look to a decoder as those of an archive do.
"""

import io

import numpy as np

__all__ = ['previews']


def previews(count: int, size: int) -> list[bytes]:
    """
    Make JPEG files: smooth light, stars and noise.

    Parameters
    ----------
    count : int
        How many.
    size : int
        Width and height in pixels.

    Returns
    -------
    list of bytes
        Contents of the files, always the same ones.
    """
    from PIL import Image

    found = []
    for number in range(count):
        rng = np.random.default_rng([size, number])
        light = Image.fromarray(rng.integers(0, 200, (6, 6, 3), np.uint8))
        pixels = np.asarray(light.resize((size, size), Image.Resampling.BICUBIC), np.float32)
        pixels = pixels * 0.6 + rng.normal(20, 4.5, (size, size, 1))
        y, x = rng.integers(1, size - 1, (2, size))
        brightness = rng.exponential(120, (size, 1))
        for dy, dx, share in ((0, 0, 1), (0, 1, .5), (1, 0, .5), (0, -1, .5), (-1, 0, .5)):
            pixels[y + dy, x + dx] += share * brightness
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, 'JPEG', quality=85)
        found.append(buffer.getvalue())
    return found
