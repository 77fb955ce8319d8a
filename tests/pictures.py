# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Pictures of which it is known what they show.
"""

import io

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from astroclip_search.exceptions import ImageError
from astroclip_search.images.render import render

__all__ = ['brightest', 'content', 'gradient', 'refused', 'saved', 'sky']


def sky(ny=60, nx=80, *, x=20, y=45, seed=0):
    """
    Noise with one bright source at (x, y).
    """
    rows, columns = np.mgrid[:ny, :nx]
    source = 500 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 30)
    return (100 + source + np.random.default_rng(seed).normal(0, 3, (ny, nx))).astype('f4')


def content(hdus):
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream)
    return stream.getvalue()


def brightest(image):
    """
    Column and row, counted from the top.
    """
    grey = np.asarray(image.convert('L'), dtype=float)
    rows, columns = np.nonzero(grey > 0.9 * grey.max())
    return round(columns.mean()), round(rows.mean())


def saved(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def gradient(mode='RGB', size=(80, 60)):
    y, x = np.mgrid[:size[1], :size[0]]
    pixels = np.stack([x * 3, y * 4, np.full_like(x, 50)], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def refused(source, match, status='ERROR', **limits):
    with pytest.raises(ImageError, match=match) as caught:
        render(source, **limits)
    assert caught.value.status == status
    assert '\n' not in caught.value.reason
