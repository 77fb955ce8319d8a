"""
Images as PAPERCLIP sees them, also when it is evaluated: a turned, mirrored crop.

Its previews are padded with white to a square of 512 pixels, of which one place of 224 pixels is
seen, 19 % of the area. Only for comparison with its published numbers.
"""

import numpy as np
from PIL import Image, ImageOps

__all__ = ['CROP', 'SIDE', 'paper_views']

SIDE, CROP = 512, 224


def paper_views(images, rng):
    """
    Draw a view of each image of a batch.

    Parameters
    ----------
    images : sequence of `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.
    rng : `numpy.random.Generator`
        Turns each image by itself; whether they are mirrored, and where they are cropped, is drawn
        once for the batch, as in the paper.

    Returns
    -------
    views : `numpy.ndarray` of uint8, shape (n, 224, 224, 3)
        RGB.
    """
    mirrored = rng.random(2) < 0.5
    top, left = rng.integers(SIDE - CROP + 1, size=2)
    views = []
    for image in images:
        square = np.asarray(ImageOps.pad(Image.fromarray(image), (SIDE, SIDE),
                                         Image.Resampling.LANCZOS, color=(255, 255, 255)))
        square = np.rot90(square, rng.integers(4))
        square = square[::-1] if mirrored[0] else square
        square = square[:, ::-1] if mirrored[1] else square
        views.append(square[top:top + CROP, left:left + CROP])
    return np.stack(views)
