"""The canvas a scene is painted on: coordinates, random fields, warps."""

from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter, map_coordinates

__all__ = ['Canvas', 'edge', 'rgb']

# Scenes are painted with a margin that the camera crops away, and on a larger periodic domain.
MARGIN = 9 / 8
REFERENCE_SIDE = 144
POOL = 64


def rgb(red, green, blue):
    """Return one linear colour as a float32 array of shape (3,)."""
    return np.array([red, green, blue], dtype=np.float32)


def edge(value, width):
    """Return a smooth step: 1 where ``value`` is far below 0, 0 far above, ``width`` wide."""
    return 1 / (1 + np.exp(np.clip(value / width, -30, 30)))


@lru_cache(maxsize=8)
def _wavenumber(side):
    """Return the modulus of the wave number of a periodic (side, side) domain."""
    fy = np.fft.fftfreq(side) * side
    fx = np.fft.rfftfreq(side) * side
    modulus = np.hypot(*np.meshgrid(fy, fx, indexing='ij')).astype(np.float32)
    modulus[0, 0] = 1
    return modulus


@lru_cache(maxsize=POOL * 12)
def _power_law_field(side, half_steps, index):
    """Return one Gaussian field with power spectrum k**-beta, zero mean and unit variance."""
    rng = np.random.default_rng([side, half_steps, index])
    k = _wavenumber(side)
    modes = rng.standard_normal(k.shape) + 1j * rng.standard_normal(k.shape)
    modes = (modes * k ** (-half_steps / 4)).astype(np.complex64)
    modes[0, 0] = 0
    field = fft.irfft2(modes, s=(side, side))
    return ((field - field.mean()) / field.std()).astype(np.float32)


class Canvas:
    """A square of sky with its own random generator.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of every random choice of the scene.
    size : int
        Side of the final picture in pixels; the canvas is 9/8 of it.

    Attributes
    ----------
    side : int
        Side of the canvas in pixels.
    unit : float
        One pixel of a 128-pixel picture, in pixels of this canvas: optics and noise scale with
        it, so that a scene looks the same at every size.
    x, y : ndarray of float32, shape (side, side)
        Coordinates, -1 to 1, ``y`` downwards.
    """

    def __init__(self, rng, size):
        self.rng = rng
        self.side = round(size * MARGIN)
        self.domain = fft.next_fast_len(round(self.side * 4 / 3), real=True)
        self.unit = self.side / REFERENCE_SIDE
        half = (self.side - 1) / 2
        rows, columns = np.mgrid[: self.side, : self.side].astype(np.float32)
        self._rows, self._columns = rows, columns
        self.x = (columns - half) / (self.side / 2)
        self.y = (rows - half) / (self.side / 2)

    def blank(self, *, channels=3):
        """Return an empty float32 picture."""
        shape = (self.side, self.side, channels) if channels else (self.side, self.side)
        return np.zeros(shape, np.float32)

    def log_uniform(self, low, high):
        """Draw from a log-uniform distribution."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def chance(self, probability):
        """Return True with the given probability."""
        return bool(self.rng.random() < probability)

    def pick(self, choices, p=None):
        """Return one element of a sequence, whatever its type."""
        return choices[int(self.rng.choice(len(choices), p=p))]

    def noise(self, beta):
        """Return a fractal field: power spectrum k**-beta, zero mean, unit variance.

        Drawn from a pool that is made once per process, then rolled, mirrored and cropped: a
        fresh transform for each field would dominate the rendering time.
        """
        rng = self.rng
        field = _power_law_field(self.domain, round(beta * 2), int(rng.integers(POOL)))
        row, column = rng.integers(self.domain, size=2)
        rows = (np.arange(self.side) + row) % self.domain
        columns = (np.arange(self.side) + column) % self.domain
        field = field[rows[:, None], columns]
        if rng.random() < 0.5:
            field = field[::-1]
        if rng.random() < 0.5:
            field = field.T
        return field

    def ridges(self, beta, sharpness):
        """Return thin bright ridges: exp(-sharpness * |noise|), between 0 and 1."""
        return np.exp(-sharpness * np.abs(self.noise(beta)))

    def warp(self, field, amplitude=8.0, beta=3.5):
        """Displace a field by a smooth random flow of ``amplitude`` reference pixels."""
        step = amplitude * self.unit
        where = [self._rows + step * self.noise(beta), self._columns + step * self.noise(beta)]
        if field.ndim == 2:
            return map_coordinates(field, where, order=1, mode='reflect')
        planes = [map_coordinates(field[..., i], where, order=1, mode='constant')
                  for i in range(field.shape[-1])]
        return np.stack(planes, axis=-1)

    def blur(self, field, sigma):
        """Smooth a field or picture by a Gaussian of ``sigma`` reference pixels."""
        sigma = sigma * self.unit
        spread = (sigma, sigma) if field.ndim == 2 else (sigma, sigma, 0)
        return gaussian_filter(field.astype(np.float32, copy=False), spread, truncate=3)

    def frame(self, *, centre=(0.0, 0.0), angle=None, axis_ratio=1.0, scale=1.0):
        """Return coordinates in a rotated, flattened, scaled frame.

        Parameters
        ----------
        centre : tuple of float
            Origin of the frame on the canvas.
        angle : float, optional
            Position angle of the major axis in radians; random by default.
        axis_ratio : float
            Minor over major axis.
        scale : float
            Length of the unit of the frame.

        Returns
        -------
        x, y : ndarray of float32, shape (side, side)
        """
        angle = self.rng.uniform(0, 2 * np.pi) if angle is None else angle
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = self.x - np.float32(centre[0]), self.y - np.float32(centre[1])
        along = (dx * cos + dy * sin) / np.float32(scale)
        across = (-dx * sin + dy * cos) / np.float32(axis_ratio * scale)
        return along, across

    def gaussian(self, centre, sigma):
        """Return a round Gaussian of unit height."""
        return np.exp(-((self.x - centre[0]) ** 2 + (self.y - centre[1]) ** 2) / (2 * sigma**2))
