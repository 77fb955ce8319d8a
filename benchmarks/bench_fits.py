# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A large FITS image -> the pixels that the model is given, beside one pass over its numbers.

All of them are averaged in blocks, so what is compared with is the sum of all by numpy, from a
memory map of the file: nothing that looks at each number can do less. astropy's `block_reduce`
gives the same means where none is missing.
"""

import os
import tempfile
from pathlib import Path

import numpy as np

from .comparison import Comparison, compare, seconds

__all__ = ['Fits', 'compare_fits', 'star_field']

SIDE = 4200  # px, as the chips of ACS


def star_field(side: int = SIDE, n_stars: int = 3000) -> np.ndarray:
    """Paint stars of all magnitudes on a noisy sky: float32, shape ``(side, side)``."""
    rng = np.random.default_rng(1)
    image = rng.normal(100, 5, (side, side)).astype(np.float32)
    along = np.arange(-8, 9)
    star = np.exp(-(along[:, None]**2 + along**2) / 8).astype(np.float32)
    for x, y in rng.integers(8, side - 8, (n_stars, 2)):
        image[y - 8:y + 9, x - 8:x + 9] += 50 * rng.pareto(1.2) * star
    return image


class Fits:
    """
    For airspeed velocity.
    """

    def setup(self):
        from astropy.io import fits

        from astroclip_search import ClipSearch
        from astroclip_search.images import preprocess

        preprocessing = ClipSearch.session.encoder().bundle.preprocessing
        self.side, _ = preprocess.sides(preprocessing)
        self.step = SIDE // self.side
        self.preprocessing = preprocessing
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / 'field.fits'
        hdu = fits.ImageHDU(star_field(), name='SCI')
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(self.path)
        with fits.open(self.path) as hdus:
            self.offset = hdus['SCI'].fileinfo()['datLoc']

    def teardown(self):
        self.folder.cleanup()

    def time_pixels(self):
        from astroclip_search.images import preprocess, render

        return preprocess.resize(render.render(self.path, side=self.side), self.preprocessing)

    def time_picture(self):
        """Draw it as large as it is shown, not as the model sees it."""
        from astroclip_search.images import render

        return render.render(self.path, side=512)

    def time_pass(self):
        return np.add.reduce(self.mapped(), axis=None)

    def time_block_reduce(self):
        """Means of the blocks by astropy, without what is no number."""
        from astropy.nddata import block_reduce

        return block_reduce(self.mapped(), self.step, np.nanmean)

    def mapped(self):
        return np.memmap(self.path, '>f4', 'r', self.offset, (SIDE, SIDE))

    def forget(self):
        """Have the system drop the file from memory."""
        with self.path.open('rb') as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def compare_fits(repeats: int) -> list[Comparison]:
    """Measure it with the file in memory and without."""
    bench = Fits()
    bench.setup()

    def cold(action):
        bench.forget()
        return seconds(action)

    try:
        repeats = max(5, repeats)
        name = f'FITS of {SIDE} x {SIDE} float32'
        warm, once = compare(lambda: 1000 * seconds(bench.time_pixels),
                             lambda: 1000 * seconds(bench.time_pass), 3 * repeats)
        found = [Comparison(f'{name} -> pixels, in memory', warm, 'the sum of all by numpy', once,
                            bound=1.6, unit='ms')]
        warm, blocks = compare(lambda: 1000 * seconds(bench.time_pixels),
                               lambda: 1000 * seconds(bench.time_block_reduce), repeats)
        found.append(Comparison(f'{name} -> pixels, in memory', warm,
                                'block_reduce of astropy, with nanmean', blocks, floor=8,
                                unit='ms'))
        picture, once = compare(lambda: 1000 * seconds(bench.time_picture),
                                lambda: 1000 * seconds(bench.time_pass), repeats)
        found.append(Comparison(f'{name} -> picture of 525 x 525, in memory', picture,
                                'the sum of all by numpy', once, bound=4, unit='ms'))
        if hasattr(os, 'posix_fadvise'):
            ours, theirs = compare(lambda: cold(bench.time_pixels),
                                   lambda: cold(bench.time_pass), repeats)
            found.append(Comparison(f'{name} -> pixels, from the disk', ours,
                                    'the sum of all by numpy', theirs, bound=1.3))
    finally:
        bench.teardown()
    return found
