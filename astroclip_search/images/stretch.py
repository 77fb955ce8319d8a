# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Numbers -> grey values: which become black and white, and how those between are spread.
"""

import numpy as np
from PIL import Image

from ..exceptions import ImageError

__all__ = ['grey', 'limits']

_MIN_FINITE = 16


def limits(data: np.ndarray) -> tuple[float, float]:
    """
    Values that become black and white: the lower limit of ZScale, and the 99.7th percentile.
    """
    from astropy.visualization import ZScaleInterval

    finite = np.isfinite(data)
    if finite.sum() < _MIN_FINITE:
        raise ImageError('no_finite_pixels')
    values = data.ravel() if finite.all() else data[finite]
    interval = ZScaleInterval()
    # Near the limits of float32 differences overflow, hence float64. ZScale uses so many values
    # only, and would check all of them.
    values = values.astype(np.float64)
    low, _ = interval.get_limits(values[::max(1, len(values) // interval.n_samples)])
    high = np.percentile(values, 99.7, overwrite_input=True)
    if not high > low:
        low, high = np.float64(values.min()), np.float64(values.max())
    if not high > low:
        raise ImageError('one_value')
    return low, high


def grey(data: np.ndarray, *, flip: bool = True) -> Image.Image:
    """
    ZScale to the 99.7th percentile with an asinh stretch, row 0 at the bottom.
    """
    from astropy.visualization import AsinhStretch

    low, high = limits(data)
    scaled = np.where(np.isfinite(data), data, low)
    scaled -= low
    scaled /= high - low
    np.clip(scaled, 0, 1, out=scaled)
    AsinhStretch(a=0.1)(scaled, clip=False, out=scaled)
    scaled *= 255
    pixels = scaled.round(out=scaled).astype(np.uint8)
    return Image.fromarray(np.flipud(pixels) if flip else pixels).convert('RGB')
