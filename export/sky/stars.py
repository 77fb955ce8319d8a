"""Star clusters and star fields, bright stars and their companions."""

import numpy as np

from .optics import YOUNG, luminosities, point_sources, star_field

__all__ = ['globular_cluster', 'open_cluster', 'star_field_scene', 'saturated_star', 'coronagraph']


def globular_cluster(canvas):
    """Paint a globular cluster with a Plummer-like profile."""
    rng = canvas.rng
    n = int(canvas.log_uniform(1200, 12000))
    core = canvas.log_uniform(0.05, 0.8)
    radius = np.minimum(core / np.sqrt(np.maximum(1 / rng.random(n) - 1, 1e-4)), 3)
    theta = rng.uniform(0, 2 * np.pi, n)
    temperature = rng.choice([3800, 4500, 5500, 8000], n, p=[0.25, 0.35, 0.3, 0.1])
    image = point_sources(canvas, radius * np.cos(theta), radius * np.sin(theta),
                          luminosities(rng, n, slope=1.6, low=0.03, high=1.5), temperature,
                          psf=canvas.pick(('point', 'point', 'gaussian', 'moffat', 'spikes4')))
    many = rng.integers(200, 2000) if core > 0.3 else rng.integers(0, 300)
    image += star_field(canvas, many, slope=1.6, high=1.5) * 0.6
    return image, {'core': core > 0.4, 'compact': core < 0.09}


def open_cluster(canvas):
    """Paint an open cluster of mostly hot stars over a fainter field."""
    rng = canvas.rng
    n, spread = rng.integers(25, 200), rng.uniform(0.15, 0.45)
    temperature = rng.choice([4200, 7000, 12000, 20000], n, p=[0.12, 0.2, 0.33, 0.35])
    image = point_sources(canvas, rng.normal(0, spread, n), rng.normal(0, spread, n),
                          luminosities(rng, n, slope=0.7, low=0.08, high=8), temperature)
    image += star_field(canvas, rng.integers(40, 1500), slope=1.5, low=0.02, high=0.6)
    nebulous = canvas.chance(0.2)
    if nebulous:
        haze = np.exp(-((np.hypot(canvas.x, canvas.y) / 0.6) ** 2)) * np.exp(0.6 * canvas.noise(3))
        image += (rng.uniform(0.1, 0.3) * haze)[..., None] * YOUNG
    return image, {'nebulous': nebulous, 'rich': bool(n > 110)}


def star_field_scene(canvas):
    """Paint a field of stars, crowded or sparse."""
    rng = canvas.rng
    crowded = canvas.chance(0.5)
    n = int(canvas.log_uniform(1500, 12000)) if crowded else rng.integers(15, 250)
    image = star_field(canvas, n, slope=rng.uniform(0.9, 1.7), low=0.02, high=5.0)
    if crowded and canvas.chance(0.4):
        clouds = np.exp(-rng.uniform(0.3, 1.5) * np.clip(canvas.warp(canvas.noise(3)), 0, 3))
        image *= clouds[..., None]
    return image, {'crowded': crowded}


def saturated_star(canvas):
    """Paint a star far brighter than the detector's range: spikes, halo, bleeding, ghosts."""
    rng = canvas.rng
    a, b = rng.uniform(-0.4, 0.4, 2)
    psf = canvas.pick(('spikes4', 'spikes6', 'moffat'))
    image = point_sources(canvas, a, b, rng.uniform(150, 3000), rng.uniform(3500, 12000), psf=psf)
    away = np.hypot(canvas.x - a, canvas.y - b)
    image += (rng.uniform(0.1, 0.6) * np.exp(-away / rng.uniform(0.2, 0.5)))[..., None]
    bleeding = canvas.chance(0.6)
    if bleeding:
        width, length = rng.uniform(0.008, 0.03), rng.uniform(0.3, 2)
        along, across = canvas.y - b, canvas.x - a
        if canvas.chance(0.2):
            along, across = across, along
        image += (30.0 * (np.abs(across) < width) * (np.abs(along) < length))[..., None]
    ghost = canvas.chance(0.4)
    if ghost:
        mirror = np.hypot(canvas.x + a * 0.7, canvas.y + b * 0.7)
        image += (0.12 * ((mirror < 0.3) & (mirror > 0.1)))[..., None]
    if canvas.chance(0.3):
        # A clipped core, as the detector leaves it.
        image = np.minimum(image, rng.uniform(3, 30))
    image += star_field(canvas, rng.integers(20, 400), slope=1.3, high=2.0)
    return image, {'spikes': psf != 'moffat', 'bleeding': bleeding, 'ghost': ghost}


def coronagraph(canvas):
    """Paint the residual light of a star behind a coronagraph, some with a companion."""
    rng = canvas.rng
    radius = np.hypot(canvas.x, canvas.y)
    theta = np.arctan2(canvas.y, canvas.x)
    inner = rng.uniform(0.05, 0.2)
    speckles = np.exp(-radius / rng.uniform(0.15, 0.4))
    speckles = speckles * np.clip(0.5 + canvas.noise(0.5) + 0.5 * canvas.noise(1.5), 0, 4)
    lobes = rng.integers(3, 7)
    pattern = 1 + rng.uniform(0, 0.8) * np.cos(theta * lobes + rng.uniform(0, 6))
    image = canvas.blur(speckles * pattern, 0.8) * (radius > inner)
    if canvas.chance(0.3):
        bars = (np.abs(canvas.x) < 0.02) | (np.abs(canvas.y) < 0.02)
        image = image * ~bars
    image = np.repeat(image[..., None], 3, axis=2)
    companion = canvas.chance(0.6)
    if companion:
        heading, away = rng.uniform(0, 2 * np.pi), rng.uniform(inner + 0.12, 0.8)
        image += point_sources(canvas, away * np.cos(heading), away * np.sin(heading),
                               rng.uniform(0.8, 2), 4000, psf='gaussian')
    return image.astype(np.float32), {'companion': companion, 'mono': canvas.chance(0.8)}
