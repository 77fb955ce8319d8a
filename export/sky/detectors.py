"""What comes out of instruments besides pictures of the sky: spectra, calibration, artifacts."""

import numpy as np

from .fields import rgb
from .galaxies import faint_galaxies
from .optics import luminosities, star_field

__all__ = ['artifact', 'spectrum', 'plot', 'calibration', 'blank_sky', 'all_sky_map']


def artifact(canvas):
    """Paint a star field crossed by satellite trails or peppered by cosmic rays."""
    rng, side = canvas.rng, canvas.side
    origin = canvas.pick(('satellite', 'cosmic rays'))
    image = star_field(canvas, rng.integers(20, 400), slope=1.3, high=2.0)
    if canvas.chance(0.3):
        image += faint_galaxies(canvas, 12)
    count = 1
    if origin == 'satellite':
        count = canvas.pick((1, 1, 2, 5))
        for _ in range(count):
            x, y = canvas.frame(centre=rng.uniform(-0.5, 0.5, 2))
            streak = np.exp(-((y / rng.uniform(0.006, 0.02)) ** 2)) * rng.uniform(0.4, 2)
            if canvas.chance(0.25):
                streak = streak * (1 + 0.8 * np.sign(np.sin(x * rng.uniform(3, 30))))
            image += streak[..., None]
    else:
        for _ in range(rng.integers(30, 160)):
            length, heading = rng.integers(1, 14) * canvas.unit, rng.uniform(0, 2 * np.pi)
            steps = np.arange(max(1, round(length)))
            column = (rng.uniform(0, side) + steps * np.cos(heading)).astype(int)
            row = (rng.uniform(0, side) + steps * np.sin(heading)).astype(int)
            inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
            image[row[inside], column[inside]] += rng.uniform(0.5, 3)
    return image, {'origin': origin, 'count': count}


def spectrum(canvas):
    """Paint a two-dimensional spectrum: slitless, long-slit, echelle or multi-slit."""
    rng = canvas.rng
    x, y = canvas.x, canvas.y
    layout = canvas.pick(('grism', 'long slit', 'echelle', 'multi slit'), (0.3, 0.3, 0.3, 0.1))
    light = canvas.blank(channels=0)
    if layout == 'grism':
        for _ in range(rng.integers(6, 40)):
            start, row = rng.uniform(-1.2, 1), rng.uniform(-1, 1)
            length, width = rng.uniform(0.25, 0.6), rng.uniform(0.008, 0.02)
            trace = np.exp(-(((x - start - length / 2) / (length / 2)) ** 6))
            trace *= 1 + 0.4 * np.sin(x * rng.uniform(2, 8) + rng.uniform(0, 6))
            strength = luminosities(rng, 1, slope=1.0, low=0.05, high=1.5)[0]
            light += strength * trace * np.exp(-(((y - row) / width) ** 2))
            if canvas.chance(0.4):
                line = canvas.gaussian((start + rng.uniform(0, length), row), 0.012)
                light += rng.uniform(0.3, 1) * line
    elif layout == 'long slit':
        for _ in range(rng.integers(5, 40)):
            where = rng.uniform(-1, 1)
            light += rng.uniform(0.05, 0.8) * np.exp(-(((x - where - 0.02 * y**2) / 0.008) ** 2))
        for _ in range(rng.integers(1, 4)):
            row, width = rng.uniform(-0.7, 0.7), rng.uniform(0.01, 0.03)
            trace = np.exp(-(((y - row - 0.02 * x) / width) ** 2))
            light += rng.uniform(0.3, 1.2) * trace * np.clip(1 + 0.3 * np.sin(x * 7), 0, 2)
    elif layout == 'echelle':
        for row in np.linspace(-0.95, 0.95, rng.integers(8, 26)):
            order = np.exp(-(((y - row - 0.06 * x**2 - 0.04 * x) / 0.012) ** 2))
            order *= np.exp(-((x / 0.9) ** 2))
            for _ in range(2):
                order *= 1 - 0.5 * np.exp(-(((x - rng.uniform(-1, 1)) / 0.01) ** 2))
            light += order
    else:
        bottom = -1.0
        while bottom < 1:
            height, shift = rng.uniform(0.08, 0.25), rng.uniform(-0.3, 0.3)
            inside = (y > bottom + 0.01) & (y < bottom + height)
            for where in rng.uniform(-1.2, 1.2, rng.integers(5, 16)):
                light += 0.5 * inside * np.exp(-(((x - where - shift) / 0.008) ** 2))
            light += inside * (0.1 + 0.6 * np.exp(-(((y - bottom - height / 2) / 0.012) ** 2)))
            bottom += height
    image = np.repeat(light[..., None], 3, axis=2)
    if layout == 'grism':
        image += star_field(canvas, rng.integers(5, 40), low=0.05, high=2.0)
    if canvas.chance(0.15):
        image = image.transpose(1, 0, 2)
    return image, {'layout': layout, 'mono': True}


def plot(canvas):
    """Paint a figure: a spectrum, a light curve or a scatter plot, with axes and labels."""
    rng, side = canvas.rng, canvas.side
    style = canvas.pick(('spectrum', 'light curve', 'scatter'), (0.45, 0.35, 0.2))
    n = side * 2
    t = np.linspace(0, 1, n)
    value = np.cumsum(rng.standard_normal(n)) * 0.02
    if style == 'spectrum':
        for _ in range(rng.integers(2, 15)):
            line = np.exp(-(((t - rng.uniform(0, 1)) / rng.uniform(0.003, 0.015)) ** 2))
            value += canvas.pick((-1, 1, 1)) * rng.uniform(0.1, 0.8) * line
        value += rng.standard_normal(n) * rng.uniform(0, 0.08)
    elif style == 'light curve':
        value = rng.uniform(0.1, 0.5) * np.sin(t * rng.uniform(4, 40))
        if canvas.chance(0.4):
            value = -0.5 * (((t * rng.uniform(2, 6)) % 1) < 0.12)
        value = value + rng.standard_normal(n) * rng.uniform(0.02, 0.2)
    else:
        value = t * rng.uniform(-1, 1) + rng.standard_normal(n) * rng.uniform(0.1, 0.4)
    left, top, bottom, right = (int(side * f) for f in (0.16, 0.09, 0.86, 0.94))
    value = (value - value.min()) / (np.ptp(value) + 1e-6)
    column = (left + t * (right - left - 1)).astype(int)
    row = (bottom - 2 - value * (bottom - top - 4) * 0.95).astype(int)
    ink = canvas.blank(channels=0)
    if style == 'spectrum':
        for i in range(n - 1):
            low, high = sorted((row[i], row[i + 1]))
            ink[low : high + 1, column[i]] = 1
    else:
        shown = rng.random(n) < rng.uniform(0.2, 0.9)
        dot = max(1, round(canvas.unit))
        for dy in range(dot + 1):
            ink[row[shown] + dy, column[shown]] = 1
    frame = canvas.blank(channels=0)
    frame[top:bottom, left] = frame[bottom, left:right] = 1
    if canvas.chance(0.6):
        frame[top:bottom, right] = frame[top, left : right + 1] = 1
    tick = max(2, side // 48)
    for where in np.linspace(left, right, rng.integers(4, 9)).astype(int):
        frame[bottom : bottom + tick, where] = 1
        digits = frame[bottom + 2 * tick : bottom + 4 * tick, max(0, where - tick) : where + tick]
        digits[:] = rng.uniform(0, 0.8, digits.shape)
    for where in np.linspace(top, bottom, rng.integers(3, 7)).astype(int):
        frame[where, left - tick : left] = 1
        digits = frame[where - tick : where + tick, max(0, left - 5 * tick) : left - 2 * tick]
        digits[:] = rng.uniform(0, 0.8, digits.shape)
    colour = rng.uniform(0, 0.8, 3).astype(np.float32) if canvas.chance(0.6) else rgb(0, 0, 0)
    image = (1 - frame)[..., None] * (1 - ink[..., None] * (1 - colour))
    return image.astype(np.float32), {'style_of_plot': style}


def calibration(canvas):
    """Paint a flat field, bias, dark or arc-lamp frame."""
    rng, side = canvas.rng, canvas.side
    frame = canvas.pick(('flat', 'bias', 'dark'))
    if frame == 'flat':
        away = np.hypot(canvas.x - rng.normal(0, 0.2), canvas.y - rng.normal(0, 0.2))
        level = 1 - rng.uniform(0.05, 0.5) * away**2
        for _ in range(rng.integers(2, 25)):
            a, b = rng.uniform(-1, 1, 2)
            distance, width = np.hypot(canvas.x - a, canvas.y - b), rng.uniform(0.03, 0.12)
            donut = (distance < width) & (distance > width * rng.uniform(0, 0.6))
            level = level * (1 - rng.uniform(0.02, 0.15) * donut)
        if canvas.chance(0.3):
            # Interference fringes of a thinned detector.
            level = level * (1 + 0.05 * np.sin(12 * canvas.noise(4)))
        level = level + 0.01 * rng.standard_normal((side, side))
    elif frame == 'bias':
        level = 1 + 0.3 * rng.standard_normal((side, side)) * rng.uniform(0.3, 1)
        columns = np.convolve(rng.standard_normal(side), [0.25, 0.5, 0.25], mode='same')
        level = level + rng.uniform(0.1, 0.5) * columns[None, :]
        if canvas.chance(0.5):
            level = level + 0.2 * rng.standard_normal(side)[:, None]
        if canvas.chance(0.4):
            # Amplifiers with different offsets.
            level = level + 0.6 * rng.standard_normal(4).repeat(-(-side // 4))[:side][None, :]
    else:
        level = 0.4 + 0.1 * rng.standard_normal((side, side))
        corner = rng.choice([-1, 1], 2)
        glow = np.exp(-((canvas.x - corner[0]) ** 2 + (canvas.y - corner[1]) ** 2) / 0.3)
        level = level + 0.3 * glow * rng.uniform(0, 2)
        n = rng.integers(80, 900)
        hot = luminosities(rng, n, slope=1.0, low=0.3, high=5)
        level[rng.integers(0, side, n), rng.integers(0, side, n)] += hot
    if canvas.chance(0.3):
        level[:, side // 2 - 1 : side // 2 + 1] *= 0.6
    image = np.maximum(level, 0)[..., None] * np.ones(3)
    return image.astype(np.float32), {'frame': frame}


def blank_sky(canvas):
    """Paint an exposure that shows nothing but noise and at most a few faint sources."""
    rng = canvas.rng
    image = star_field(canvas, int(rng.integers(0, 6)), slope=1.5, low=0.02, high=0.2)
    return image, {}


def all_sky_map(canvas):
    """Paint a map of the whole sky in an oval projection."""
    rng = canvas.rng
    content = canvas.pick(('microwave background', 'milky way'))
    x, y = canvas.x / 0.98, canvas.y / 0.49
    oval = (x**2 + y**2) < 1
    if content == 'milky way':
        latitude = y + 0.05 * canvas.noise(3)
        value = np.exp(-np.abs(latitude) / rng.uniform(0.08, 0.25)) * np.exp(0.5 * canvas.noise(3))
        value = value * (0.4 + np.exp(-((x / 0.5) ** 2)))
        value = np.clip(value / np.percentile(value, 99.5), 0, 1)
    else:
        value = np.clip(0.5 + 0.2 * canvas.noise(2.0), 0, 1)
    image = np.repeat(value[..., None], 3, axis=2)
    cool, middle, warm = canvas.pick((
        (rgb(0.05, 0.1, 0.6), rgb(0.9, 0.95, 0.8), rgb(0.8, 0.15, 0.05)),
        (rgb(0, 0, 0), rgb(0.7, 0.25, 0.1), rgb(1, 0.95, 0.7)),
        (rgb(0, 0, 0), rgb(0.5, 0.5, 0.5), rgb(1, 1, 1))))
    low = cool * (1 - 2 * image) + middle * 2 * image
    high = middle * (2 - 2 * image) + warm * (2 * image - 1)
    background = rgb(0, 0, 0) if canvas.chance(0.6) else rgb(1, 1, 1)
    image = np.where(image < 0.5, low, high)
    return np.where(oval[..., None], image, background), {'content': content}
