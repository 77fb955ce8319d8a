# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A large FITS image -> the pixels that the model is given, beside the bare cost of reading as many.

What is compared with is a memory map of the file, of which the same pixels are taken: nothing that
shows the image can read less. Where the file is in memory already, reading takes less than a
millisecond, and the time goes into opening the file and finding the levels.
"""

import os
import statistics
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

        from astroclip_search import ClipSearch, conf

        preprocessing = ClipSearch.session.encoder().bundle.preprocessing
        self.side = max(2 * max(preprocessing.size), conf.thumbnail_size)
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

    def time_strided(self):
        pixels = np.memmap(self.path, '>f4', 'r', self.offset, (SIDE, SIDE))
        return np.asarray(pixels[::self.step, ::self.step], np.float32)

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
        warm, strided = compare(lambda: 1000 * seconds(bench.time_pixels),
                                lambda: 1000 * seconds(bench.time_strided), 3 * repeats)
        picture, _ = compare(lambda: 1000 * seconds(bench.time_picture), lambda: 0.0, 3 * repeats)
        reading = f'of that reading them: {statistics.median(strided):.2f} ms'
        found = [Comparison(f'{name} -> pixels, in memory', warm, bound=15, unit='ms',
                            notes=[reading]),
                 Comparison(f'{name} -> picture of 525 x 525, in memory', picture, bound=15,
                            unit='ms')]
        if hasattr(os, 'posix_fadvise'):
            ours, theirs = compare(lambda: cold(bench.time_pixels),
                                   lambda: cold(bench.time_strided), repeats)
            found.append(Comparison(f'{name} -> pixels, from the disk', ours,
                                    f'reading every {bench.step}th pixel', theirs, bound=1.3))
    finally:
        bench.teardown()
    return found
