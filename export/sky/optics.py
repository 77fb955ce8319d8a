"""Stars as a telescope sees them: point-spread functions, black bodies, luminosities."""

from functools import lru_cache

import numpy as np
from scipy import fft

from .fields import rgb

__all__ = ['HALPHA', 'OLD', 'YOUNG', 'black_body', 'bright_stars', 'luminosities', 'point_sources',
           'star_field']

OLD = rgb(1.15, 1.0, 0.72)
YOUNG = rgb(0.78, 0.95, 1.25)
HALPHA = rgb(1.6, 0.35, 0.55)

# 'point': a picture that was shrunk so much that most of its stars are single pixels.
PSF_KINDS = ('gaussian', 'moffat', 'spikes4', 'spikes6', 'point')
PSF_SHARES = (0.18, 0.12, 0.2, 0.12, 0.38)
VARIANTS = 16


def black_body(temperature):
    """Return RGB colours of black bodies, normalised to a mean of 1.

    Parameters
    ----------
    temperature : array-like, shape (n,)
        In kelvin.

    Returns
    -------
    ndarray of float32, shape (n, 3)
        Planck's law at 640, 540 and 450 nm.
    """
    temperature = np.asarray(temperature, dtype=float)[..., None]
    wavelength = np.array([0.64, 0.54, 0.45])
    radiance = 1 / (wavelength**5 * np.expm1(14388.0 / (wavelength * temperature)))
    return (radiance / radiance.mean(-1, keepdims=True)).astype(np.float32)


def luminosities(rng, n, *, slope=1.2, low=0.02, high=6.0):
    """Draw ``n`` peak fluxes from a truncated power law, number proportional to flux**-slope."""
    u = rng.random(n)
    return (low**-slope + u * (high**-slope - low**-slope)) ** (-1 / slope)


def _profile(kind, rng, unit):
    """Return one normalised point-spread function, shape (97, 97) at ``unit`` 1."""
    half = int(48 * unit)
    y, x = np.mgrid[-half : half + 1, -half : half + 1] / unit
    radius = np.hypot(x, y) + 1e-6
    if kind == 'gaussian':
        psf = np.exp(-(radius**2) / 2 / rng.uniform(0.5, 1.2) ** 2)
    elif kind == 'moffat':
        psf = (1 + (radius / rng.uniform(0.6, 1.8)) ** 2) ** -rng.uniform(2.2, 3.5)
    elif kind == 'point':
        psf = np.exp(-(radius**2) / 2 / rng.uniform(0.35, 0.6) ** 2)
        psf += 0.01 * np.exp(-radius / rng.uniform(1.5, 4))
    else:
        psf = np.exp(-(radius**2) / 2 / rng.uniform(0.6, 1.0) ** 2)
        psf += 0.012 * np.exp(-radius / 5) * (1 + np.cos(radius * 2.2))
        count = 4 if kind == 'spikes4' else 6
        first = (0.0, np.pi / 4, rng.uniform(0, np.pi))[rng.integers(3)]
        theta = np.arctan2(y, x) - first
        length = rng.uniform(7, 24)
        for i in range(count // 2):
            away = radius * np.sin(theta - i * 2 * np.pi / count)
            psf += 0.02 * np.exp(-(away**2) / 0.5) * np.exp(-radius / length)
        if count == 6:
            # The struts of a segmented mirror add a fainter, shorter pair.
            away = radius * np.sin(theta - np.pi / 2)
            psf += 0.006 * np.exp(-(away**2) / 0.5) * np.exp(-radius / (length * 0.6))
    return psf / psf.sum()


@lru_cache(maxsize=5 * VARIANTS * 2)
def _transfer(kind, variant, domain, unit):
    """Return the transfer function of a point-spread function, scaled to a peak of 1."""
    psf = _profile(kind, np.random.default_rng([variant, PSF_KINDS.index(kind)]), unit)
    half = psf.shape[0] // 2
    padded = np.zeros((domain, domain), np.float32)
    padded[: psf.shape[0], : psf.shape[1]] = psf / psf.max()
    return fft.rfft2(np.roll(padded, (-half, -half), (0, 1)))


def point_sources(canvas, x, y, flux, temperature, *, psf=None):
    """Paint stars.

    Parameters
    ----------
    canvas : Canvas
    x, y : array-like, shape (n,)
        Positions on the canvas.
    flux : array-like, shape (n,)
        Peak brightness.
    temperature : array-like, shape (n,)
        Black-body temperature in kelvin.
    psf : {'gaussian', 'moffat', 'spikes4', 'spikes6', 'point'}, optional
        Random by default.

    Returns
    -------
    ndarray of float32, shape (side, side, 3)
    """
    x, y, flux, temperature = (np.atleast_1d(np.asarray(v, float))
                               for v in (x, y, flux, temperature))
    domain, side = canvas.domain, canvas.side
    offset = (domain - side) // 2
    px = (x + 1) * side / 2 - 0.5 + offset
    py = (y + 1) * side / 2 - 0.5 + offset
    inside = (px > 1) & (px < domain - 2) & (py > 1) & (py < domain - 2)
    px, py = px[inside], py[inside]
    ix, iy = px.astype(int), py.astype(int)
    ax, ay = px - ix, py - iy
    weights = flux[inside, None] * black_body(temperature[inside])
    plane = np.zeros((3, domain * domain), np.float32)
    for dx, dy, share in ((0, 0, (1 - ax) * (1 - ay)), (1, 0, ax * (1 - ay)),
                          (0, 1, (1 - ax) * ay), (1, 1, ax * ay)):
        index = (iy + dy) * domain + ix + dx
        for channel in range(3):
            plane[channel] += np.bincount(index, share * weights[:, channel], domain * domain)
    kind = psf or canvas.pick(PSF_KINDS, PSF_SHARES)
    transfer = _transfer(kind, int(canvas.rng.integers(VARIANTS)), domain, canvas.unit)
    seen = fft.irfft2(fft.rfft2(plane.reshape(3, domain, domain)) * transfer,
                      s=(domain, domain))
    seen = seen[:, offset : offset + side, offset : offset + side]
    return np.maximum(seen.transpose(1, 2, 0), 0)


def bright_stars(canvas, n):
    """Paint ``n`` foreground stars bright enough to show diffraction spikes."""
    rng = canvas.rng
    return point_sources(canvas, rng.uniform(-1, 1, n), rng.uniform(-1, 1, n),
                         luminosities(rng, n, slope=0.6, low=3, high=40),
                         rng.uniform(3800, 16000, n),
                         psf=canvas.pick(('spikes4', 'spikes6', 'moffat')))


def star_field(canvas, n, *, slope=1.2, low=0.03, high=4.0, temperature=(3200, 11000), psf=None):
    """Paint ``n`` stars spread evenly over the canvas; see `point_sources`."""
    rng = canvas.rng
    return point_sources(canvas, rng.uniform(-1.25, 1.25, n), rng.uniform(-1.25, 1.25, n),
                         luminosities(rng, n, slope=slope, low=low, high=high),
                         rng.uniform(*temperature, n), psf=psf)
