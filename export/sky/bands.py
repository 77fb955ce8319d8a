"""What other bands and instruments show: X-rays, velocity maps, target pixels, detections."""

import numpy as np

from .fields import rgb
from .optics import star_field

__all__ = ['pixel_stamp', 'velocity_map', 'x_ray']


def x_ray(canvas):
    """Paint an X-ray image: single photons, hot gas, point sources blurred far off the axis."""
    rng, side = canvas.rng, canvas.side
    content = canvas.pick(('cluster gas', 'sources', 'jet', 'galaxy'))
    rate = canvas.blank(channels=0) + canvas.log_uniform(0.001, 0.02)
    if content == 'cluster gas':
        x, y = canvas.frame(axis_ratio=rng.uniform(0.6, 1), scale=canvas.log_uniform(0.15, 0.5))
        beta = (1 + x**2 + y**2) ** -rng.uniform(1.0, 1.8)
        rate = rate + rng.uniform(0.3, 2) * beta * np.exp(rng.uniform(0, 0.4) * canvas.noise(3.2))
        for _ in range(rng.integers(0, 3)):
            # Cavities that the central black hole has blown.
            hole = canvas.gaussian(rng.normal(0, 0.2, 2), rng.uniform(0.05, 0.12))
            rate = rate * (1 - 0.6 * hole)
    elif content == 'jet':
        x, y = canvas.frame(scale=rng.uniform(0.4, 0.9))
        beam = np.exp(-((y / 0.06) ** 2)) * np.exp(-np.clip(x, 0, 3) / 0.5) * (x > 0)
        rate = rate + beam * np.exp(0.6 * canvas.noise(2)) + 4 * canvas.gaussian((0, 0), 0.02)
    elif content == 'galaxy':
        x, y = canvas.frame(axis_ratio=rng.uniform(0.3, 1), scale=rng.uniform(0.2, 0.5))
        rate = rate + rng.uniform(0.05, 0.3) * np.exp(-np.hypot(x, y)) * np.exp(
            0.5 * canvas.noise(3))
    count = rng.integers(15, 120) if content in ('sources', 'galaxy') else rng.integers(0, 25)
    spread = 0.3 if content == 'galaxy' else 0.6
    for _ in range(count):
        a, b = rng.normal(0, spread, 2)
        off_axis = 0.008 + 0.03 * np.hypot(a, b) ** 2
        rate = rate + canvas.log_uniform(0.05, 3) * canvas.gaussian((a, b), off_axis)
    photons = rng.poisson(np.clip(rate, 0, 50) * canvas.log_uniform(1, 60)).astype(np.float32)
    smooth = canvas.chance(0.6)
    if smooth:
        photons = canvas.blur(photons, rng.uniform(0.6, 2.2))
    level = photons / (np.percentile(photons, 99.7) + 1e-3)
    if canvas.chance(0.2):
        # The round or square field of view of the camera.
        reach = rng.uniform(0.75, 0.95)
        inside = (np.hypot(canvas.x, canvas.y) if canvas.chance(0.5) else
                  np.maximum(np.abs(canvas.x), np.abs(canvas.y))) < reach
        level = level * inside
    colour = canvas.pick((rgb(1, 1, 1), rgb(0.5, 0.6, 1.4), rgb(0.9, 0.5, 1.2), rgb(1.3, 0.6, 0.4)))
    if canvas.chance(0.3):
        tints = np.exp(0.5 * np.stack([canvas.noise(3.5) for _ in range(3)], axis=-1))
        colour = colour * tints
    return level[..., None] * colour * np.ones((side, side, 1), np.float32), {
        'content': content, 'photons': not smooth, 'mono': canvas.chance(0.55)}


def velocity_map(canvas):
    """Paint the velocities of a turning disk: blue approaches, red recedes; or its channel map."""
    rng = canvas.rng
    x, y = canvas.frame(axis_ratio=rng.uniform(0.35, 0.9), scale=rng.uniform(0.4, 0.85))
    radius = np.hypot(x, y) + 1e-3
    velocity = x / radius * np.tanh(radius / rng.uniform(0.1, 0.4))
    velocity = velocity + rng.uniform(0, 0.15) * canvas.noise(3)
    light = np.exp(-radius / 0.5) * np.exp(rng.uniform(0, 0.5) * canvas.noise(2.8))
    seen = light > rng.uniform(0.08, 0.2)
    if canvas.chance(0.3):
        # One velocity channel: an arc on each side of the disk.
        channel = np.exp(-(((velocity - rng.uniform(-0.7, 0.7)) / 0.12) ** 2)) * light
        picture = channel[..., None] * canvas.pick((rgb(1, 1, 1), rgb(1.4, 0.8, 0.3)))
        noise = canvas.blur(rng.standard_normal(channel.shape), 1.2) * rng.uniform(0, 0.15)
        return np.clip(picture + noise[..., None], 0, 1), {'channel': True}
    level = np.clip(velocity, -1, 1)[..., None]
    middle = canvas.pick((rgb(1, 1, 1), rgb(0.4, 0.9, 0.4), rgb(0.1, 0.1, 0.1)))
    colour = np.where(level < 0, middle * (1 + level) - level * rgb(0.1, 0.15, 0.95),
                      middle * (1 - level) + level * rgb(0.95, 0.1, 0.1))
    paper = canvas.pick((rgb(1, 1, 1), rgb(0, 0, 0)))
    return np.where(seen[..., None], colour, paper), {'channel': False}


def pixel_stamp(canvas):
    """Paint a stamp of few large pixels around a star, as planet hunters download it."""
    rng, side = canvas.rng, canvas.side
    count = int(rng.integers(7, 22))
    fine = star_field(canvas, rng.integers(1, 25), slope=0.8, low=0.05, high=1.5, psf='gaussian')
    fine = fine.mean(-1) + rng.uniform(1, 4) * canvas.gaussian(rng.normal(0, 0.15, 2), 0.09)
    edges = np.linspace(0, side, count + 1).astype(int)
    pixels = np.add.reduceat(np.add.reduceat(fine, edges[:-1], 0), edges[:-1], 1)
    pixels = pixels / pixels.max() + rng.normal(0, 0.01, pixels.shape)
    index = np.minimum(np.arange(side) * count // side, count - 1)
    level = pixels[index[:, None], index]
    return np.repeat(level[..., None], 3, axis=-1).astype(np.float32), {'mono': True}
