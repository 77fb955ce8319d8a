"""The Solar System: the Sun, planets, moons, small bodies, comets, and scenes on Earth."""

import numpy as np

from .fields import edge, rgb
from .optics import point_sources, star_field

__all__ = ['sun', 'planet', 'moon', 'comet', 'cratered', 'asteroid', 'eclipse', 'night_landscape',
           'earth']


def comet(canvas):
    """Paint a comet: coma, curved dust tail, straight ion tail, sometimes trailed stars."""
    rng = canvas.rng
    cx, cy = rng.uniform(-0.5, 0.5, 2)
    x, y = canvas.frame(centre=(cx, cy), angle=np.arctan2(-cy, -cx) + rng.normal(0, 0.4))
    radius = np.hypot(x, y) + 0.004
    coma = rng.uniform(0.01, 0.03) / radius * np.exp(-radius / rng.uniform(0.1, 0.35))
    green = canvas.chance(0.5)
    image = (coma * rng.uniform(0.6, 1.5))[..., None] * (
        rgb(0.6, 1.2, 0.8) if green else rgb(1.0, 1.0, 0.95))
    ahead = np.clip(x, 1e-3, 3)
    tail = canvas.chance(0.88)
    ion = tail and canvas.chance(0.55)
    if tail:
        width = 0.03 + rng.uniform(0.08, 0.35) * ahead
        dust = np.exp(-(((y - rng.uniform(-0.4, 0.4) * ahead**2) / width) ** 2))
        dust *= np.exp(-ahead / rng.uniform(0.4, 1.2)) * (x > 0) / (1 + 4 * width)
        image += (rng.uniform(0.25, 0.9) * dust)[..., None] * rgb(1.1, 1.0, 0.8)
    if ion:
        wave = 0.03 * np.sin(ahead * 9) * ahead
        plasma = np.exp(-(((y - wave) / (0.015 + 0.05 * ahead)) ** 2)) * np.exp(-ahead / 1.2)
        plasma *= (x > 0) * np.clip(1 + 0.5 * canvas.noise(2.5), 0, 3)
        image += (rng.uniform(0.2, 0.6) * plasma)[..., None] * rgb(0.5, 0.7, 1.4)
    stars = star_field(canvas, rng.integers(5, 500), low=0.03, high=2.0,
                       psf=canvas.pick(('point', 'gaussian', 'moffat')))
    trailed = canvas.chance(0.35)
    if trailed:
        # The telescope followed the comet, so stars are streaks.
        length, heading = int(rng.integers(3, 12)), rng.uniform(0, 2 * np.pi)
        total = np.zeros_like(stars)
        for step in range(length):
            shift = np.round(step * canvas.unit * np.array([np.sin(heading), np.cos(heading)]))
            total += np.roll(stars, shift.astype(int), (0, 1))
        stars = total / length**0.5
    return image + stars, {'tail': tail, 'ion_tail': ion, 'trailed': trailed}


def _bands(canvas, latitude, contrast, octaves=60):
    rng = canvas.rng
    profile = np.convolve(rng.standard_normal(octaves), [0.2, 0.6, 0.2], mode='same')
    profile *= contrast / profile.std()
    grid = np.linspace(-1.6, 1.6, octaves)
    # Eddies curl the edges of the bands.
    eddies = rng.uniform(0.01, 0.05) * canvas.warp(canvas.noise(2.5), 5)
    return np.clip(1 + np.interp(latitude + eddies, grid, profile), 0.2, 2)


def planet(canvas):
    """Paint a planet: Jupiter, Saturn, Mars, Venus or an ice giant."""
    rng = canvas.rng
    body = canvas.pick(('jupiter', 'saturn', 'mars', 'venus', 'ice giant'))
    scale = rng.uniform(0.15, 0.4) if body == 'saturn' else canvas.log_uniform(0.15, 0.9)
    centre = np.zeros(2)
    close = body != 'ice giant' and canvas.chance(0.25)
    if close:
        scale = rng.uniform(1.0, 2.5)
        centre = rng.normal(0, 0.3 * scale, 2)
    x, y = canvas.frame(centre=centre, angle=rng.normal(0, 0.4), scale=scale)
    radius = np.hypot(x, y / 0.95)
    mu = np.sqrt(np.clip(1 - radius**2, 0, 1))
    disk = edge(radius - 1, 1.4 / (scale * 144))
    colour = {'jupiter': rgb(1.1, 0.95, 0.75), 'saturn': rgb(1.15, 1.0, 0.7),
              'mars': rgb(1.4, 0.75, 0.45), 'venus': rgb(1.1, 1.05, 0.85),
              'ice giant': rgb(0.5, 0.9, 1.2)}[body]
    latitude = np.arcsin(np.clip(y / 0.95, -1, 1))
    spot = False
    if body == 'jupiter':
        albedo = _bands(canvas, latitude, 0.22)
        spot = canvas.chance(0.5)
        if spot:
            where = rng.uniform(-0.4, 0.4)
            oval = np.exp(-(((x - where) / 0.18) ** 2) - ((y - 0.33) / 0.1) ** 2)
            albedo = albedo * (1 - 0.35 * oval)
    elif body == 'saturn':
        albedo = _bands(canvas, latitude, 0.1)
    elif body == 'mars':
        albedo = 1 + 0.25 * canvas.noise(3.0)
        albedo = np.where(y < -0.82, 1.7, albedo)
    else:
        albedo = 1 + (0.05 if body == 'venus' else 0.03) * canvas.noise(3.0)
    image = (albedo * mu ** rng.uniform(0.3, 0.8) * disk)[..., None] * colour
    crescent = False
    if (body in ('venus', 'mars') and canvas.chance(0.5)) or canvas.chance(0.12):
        phase = rng.uniform(0.3, 2.4)
        lit = np.clip(x * np.sin(phase) + mu * np.cos(phase), 0, 1)
        crescent = phase > 1.75
        image *= np.clip(3 * lit, 0, 1)[..., None]
    if body == 'saturn':
        q = rng.uniform(0.08, 0.45)
        away = np.hypot(x, y / q)
        ring = (away > 1.25) & (away < 2.3) & ~((away > 1.93) & (away < 2.02))
        ring = ring * np.where(away < 1.5, 0.4, np.where(away < 1.95, 1.0, 0.7))
        ring = canvas.blur(ring * (1 + 0.08 * np.sin(away * 60)), 0.6)
        front = (y > 0) | (radius > 1)
        image = np.where((front & (ring > 0.05))[..., None], ring[..., None] * colour * 0.9, image)
    moons = int(rng.integers(0, 5))
    image += point_sources(canvas, rng.uniform(-1, 1, moons), rng.uniform(-0.2, 0.2, moons),
                           rng.uniform(0.2, 0.8, moons), np.full(moons, 6000.0), psf='gaussian')
    return image, {'body': body, 'spot': spot, 'crescent': crescent, 'small': scale < 0.25,
                   'close': close, 'moons': moons > 1}


def cratered(canvas, count, smallest, largest):
    """Return a shaded, cratered terrain, about 0.6 on average."""
    rng = canvas.rng
    height = 0.6 * canvas.noise(3.5) + 0.15 * canvas.noise(2.0)
    for _ in range(count):
        a, b = rng.uniform(-1.1, 1.1, 2)
        size = min(smallest * rng.random() ** -0.7, largest)
        away = np.hypot(canvas.x - a, canvas.y - b) / size
        bowl = np.where(away < 1, 0.6 * away**2 - 0.6, 0)
        height = height + size * 14 * (bowl + 0.45 * np.exp(-(((away - 1.05) / 0.16) ** 2)))
    gy, gx = np.gradient(height)
    light = rng.uniform(0, 2 * np.pi)
    slope = (gx * np.cos(light) + gy * np.sin(light)) * canvas.unit
    shade = np.clip(1 + rng.uniform(0.8, 2.2) * slope, 0, 3)
    return 0.6 * shade * np.exp(0.3 * canvas.noise(3.5)), light


def moon(canvas):
    """Paint a cratered moon: the whole disk in some phase, or its surface close up."""
    rng = canvas.rng
    whole = canvas.chance(0.5)
    terrain, light = cratered(canvas, int(rng.integers(30, 140)), 0.018, 0.3)
    crescent = False
    if whole:
        size = rng.uniform(0.5, 0.95)
        radius = np.hypot(canvas.x, canvas.y) / size
        terrain = terrain * edge(radius - 1, 1.4 / (size * 144))
        if canvas.chance(0.7):
            z = np.sqrt(np.clip(1 - radius**2, 0, 1))
            phase = rng.uniform(0.2, 2.4)
            along = (canvas.x * np.cos(light) + canvas.y * np.sin(light)) / size
            lit = np.clip(along * np.sin(phase) + z * np.cos(phase), 0, 1)
            terrain = terrain * np.clip(lit * 3, 0, 1)
            crescent = phase > 1.75
    tint = canvas.pick((rgb(1.02, 1, 0.96), rgb(1, 1, 1), rgb(1.15, 0.95, 0.75), rgb(0.9, 1, 1.1)))
    return terrain[..., None] * tint, {'whole': whole, 'crescent': crescent}


def asteroid(canvas):
    """Paint an irregular small body, close up, with craters."""
    rng = canvas.rng
    terrain, light = cratered(canvas, int(rng.integers(15, 50)), 0.02, 0.12)
    scale = rng.uniform(0.3, 0.75)
    x, y = canvas.frame(axis_ratio=rng.uniform(0.45, 0.9), scale=scale)
    radius = np.hypot(x, y) * np.exp(0.12 * canvas.noise(4))
    lobes = canvas.chance(0.25)
    if lobes:
        other = np.hypot(x - 0.85, (y - 0.1) * 0.8) * 1.7 * np.exp(0.1 * canvas.noise(4))
        radius = np.minimum(radius * 1.3, other)
    z = np.sqrt(np.clip(1 - radius**2, 0, 1))
    phase = rng.uniform(0.1, 1.5)
    along = (canvas.x * np.cos(light) + canvas.y * np.sin(light)) / scale
    lit = np.clip(along * np.sin(phase) + z * np.cos(phase), 0, 1)
    body = terrain * edge(radius - 1, 0.02) * np.clip(lit * 2.5, 0, 1)
    return body[..., None] * rgb(1.02, 1, 0.95), {'two_lobes': lobes}


def sun(canvas):
    """Paint the Sun in white light, the extreme ultraviolet or H alpha."""
    rng = canvas.rng
    band = canvas.pick(('white', 'euv', 'halpha'))
    whole = canvas.chance(0.7)
    size = rng.uniform(0.55, 0.92) if whole else rng.uniform(1.5, 3)
    centre = np.zeros(2) if whole else rng.uniform(-0.6, 0.6, 2) * size
    radius = np.hypot(canvas.x - centre[0], canvas.y - centre[1]) / size
    disk = edge(radius - 1, 1.2 / (size * 72))
    image = (0.4 + 0.6 * np.sqrt(np.clip(1 - radius**2, 0, 1))) * disk
    image = image * (1 + (0.02 if whole else 0.06) * canvas.noise(1.0))
    n = int(rng.integers(0, 10))
    places = np.stack([rng.uniform(-0.75, 0.75, n), rng.normal(0, 0.28, n)], axis=1)
    regions = centre + size * places
    prominences = False
    if band == 'white':
        for region in regions:
            for _ in range(rng.integers(1, 5)):
                width = size * rng.uniform(0.008, 0.035)
                a, b = region + rng.normal(0, (0.05, 0.02))
                away = np.hypot(canvas.x - a, canvas.y - b) / width
                image = image * (1 - 0.35 * np.exp(-((away / 1.9) ** 4)) - 0.5 * np.exp(-(away**4)))
        colour = canvas.pick((rgb(1.3, 0.9, 0.4), rgb(1, 1, 1), rgb(1.2, 1.05, 0.6)))
    elif band == 'euv':
        corona = np.exp(-np.maximum(radius - 1, 0) * 7) * (radius > 0.97) * np.exp(
            0.5 * canvas.noise(3))
        image = 0.35 * disk * np.exp(0.8 * canvas.noise(2.5)) + 0.35 * corona
        loops = canvas.warp(canvas.ridges(2.5, 4), 4)
        for region in regions:
            away = np.hypot(canvas.x - region[0], canvas.y - region[1])
            image = image + rng.uniform(1, 4) * np.exp(-away / (0.06 * size)) * loops
        colour = canvas.pick((rgb(1.3, 1.0, 0.3), rgb(0.4, 1.0, 0.9), rgb(1.2, 0.7, 0.3),
                              rgb(0.5, 0.7, 1.4), rgb(0.4, 1.2, 0.4)))
    else:
        image = image * np.exp(0.18 * canvas.noise(2.0))
        for region in regions[:4]:
            image = image + 0.4 * disk * canvas.gaussian(region, 0.055)
        dark = np.clip(canvas.warp(canvas.ridges(3, 9), 5) - 0.75, 0, 1) * 3
        image = image * (1 - 0.4 * dark * disk)
        theta = np.arctan2(canvas.y - centre[1], canvas.x - centre[0])
        bumps = np.interp(theta, np.linspace(-np.pi, np.pi, 60), rng.standard_normal(60))
        prominences = whole
        image = image + (radius > 1) * np.exp(-(radius - 1) / 0.06) * np.clip(bumps - 1, 0, 2) * 0.5
        colour = rgb(1.5, 0.6, 0.25)
    transit = whole and canvas.chance(0.06)
    if transit:
        spot = centre + rng.uniform(-0.5, 0.5, 2) * size
        away = np.hypot(canvas.x - spot[0], canvas.y - spot[1])
        image = image * (1 - edge(away - size * rng.uniform(0.02, 0.07), 0.01))
    return np.maximum(image, 0)[..., None] * colour, {
        'transit': transit, 'band': band, 'whole': whole, 'spots': band == 'white' and n > 0,
        'prominences': prominences}


def eclipse(canvas):
    """Paint a total, annular or partial eclipse of the Sun."""
    rng = canvas.rng
    stage = canvas.pick(('total', 'partial', 'annular'), (0.6, 0.3, 0.1))
    size = rng.uniform(0.2, 0.5)
    radius = np.hypot(canvas.x, canvas.y) / size
    if stage == 'total':
        theta = np.arctan2(canvas.y, canvas.x)
        rays = 1 + 0.6 * np.cos(theta * rng.integers(2, 5) + canvas.noise(3.5))
        fine = 1 + 0.25 * np.sin(theta * 40 + 4 * canvas.noise(3))
        corona = np.exp(-(radius - 1) / rng.uniform(0.25, 0.7) / np.clip(rays, 0.4, 2)) * fine
        light = np.where(radius > 1, corona, 0.02)
        colour = canvas.pick((rgb(1, 1, 1), rgb(0.85, 0.95, 1.2), rgb(1.1, 1.0, 0.85)))
    else:
        shift = rng.uniform(0.4, 1.6) if stage == 'partial' else 0.02
        other = np.hypot(canvas.x - shift * size, canvas.y) / size
        bite = 1 - edge(other - (1 if stage == 'partial' else 0.9), 0.02)
        light = edge(radius - 1, 0.02) * bite
        colour = canvas.pick((rgb(1.4, 0.8, 0.3), rgb(1.2, 1.1, 0.8)))
    image = canvas.blur(light, 0.7)
    turn = int(rng.integers(4))
    return np.rot90(image, turn)[..., None] * colour, {'stage': stage}


def earth(canvas):
    """Paint the Earth from space: oceans, continents and clouds."""
    rng = canvas.rng
    whole = canvas.chance(0.6)
    size = rng.uniform(0.5, 0.9) if whole else rng.uniform(1.4, 2.5)
    centre = (0.0, 0.0) if whole else (0.0, size * rng.uniform(0.6, 0.9))
    radius = np.hypot(canvas.x - centre[0], canvas.y - centre[1]) / size
    mu = np.sqrt(np.clip(1 - radius**2, 0, 1))
    land = canvas.warp(canvas.noise(3.2), 4) + 0.1 * canvas.noise(2)
    land = edge(rng.uniform(0.1, 0.7) - land, 0.15)[..., None] * np.exp(
        0.2 * canvas.noise(2))[..., None]
    ground = rgb(0.08, 0.2, 0.5) * (1 - land)
    ground = ground + canvas.pick((rgb(0.45, 0.4, 0.2), rgb(0.25, 0.4, 0.15))) * land
    clouds = np.clip(0.6 * canvas.warp(canvas.noise(2.8), 16, 3.0) - rng.uniform(-0.4, 0.4), 0, 1)
    image = ground * (1 - clouds[..., None]) + clouds[..., None] * rgb(1, 1, 1)
    image = image * (mu**0.5 * edge(radius - 1, 0.02))[..., None]
    image += (0.3 * np.exp(-np.abs(radius - 1.0) / 0.03))[..., None] * rgb(0.4, 0.7, 1.3)
    if canvas.chance(0.4):
        image *= np.clip(1.2 * (0.4 + canvas.x / size), 0, 1)[..., None]
    return image, {'whole': whole}


def night_landscape(canvas):
    """Paint the night sky over a horizon: Milky Way, aurora, meteor, star trails."""
    rng = canvas.rng
    scene = canvas.pick(('milky way', 'aurora', 'meteor', 'star trails'))
    sky_top, sky_low = rgb(0.02, 0.03, 0.08), canvas.pick(
        (rgb(0.25, 0.15, 0.08), rgb(0.08, 0.12, 0.2), rgb(0.3, 0.2, 0.2)))
    depth = np.clip((canvas.y + 1) / 2, 0, 1)[..., None] ** 2
    image = sky_top * (1 - depth) + sky_low * depth
    stars = star_field(canvas, int(rng.integers(200, 1500)), slope=1.3, low=0.03, high=1.0,
                       psf='gaussian')
    if scene == 'milky way':
        x, y = canvas.frame(angle=rng.uniform(-1.4, 1.4))
        band = np.exp(-((y / 0.3) ** 2)) * np.exp(0.4 * canvas.noise(3))
        rift = np.exp(-(((y + 0.08 * canvas.noise(3)) / 0.08) ** 2)) * np.clip(
            1 + canvas.noise(3), 0, 2)
        image = image + (0.55 * band * np.exp(-1.2 * rift))[..., None] * rgb(1.0, 0.9, 0.85)
        stars = stars + star_field(canvas, 2500, slope=1.6, low=0.02, high=0.4,
                                   psf='gaussian') * band[..., None]
    elif scene == 'aurora':
        curtain = canvas.noise(4.0)[:1] * 0.25 + rng.uniform(-0.3, 0.3)
        height = curtain - canvas.y
        rays = np.clip(1 + 0.5 * canvas.noise(1.5)[:1], 0.2, 3)
        glow = np.where(height > 0, np.exp(-height / 0.4), np.exp(height / 0.06))
        green = (glow * rays)[..., None] * rgb(0.15, 0.9, 0.35)
        red = (np.exp(-((height - 0.6) ** 2) / 0.1) * rays)[..., None]
        image = image + 0.8 * green + rng.uniform(0, 0.4) * red * rgb(0.8, 0.1, 0.4)
    elif scene == 'meteor':
        x, y = canvas.frame(centre=rng.uniform(-0.4, 0.4, 2))
        streak = np.exp(-((y / 0.012) ** 2)) * np.clip(1 - np.abs(x) / rng.uniform(0.3, 0.8), 0, 1)
        image = image + streak[..., None] * canvas.pick((rgb(1, 1, 1), rgb(0.6, 1.1, 0.8)))
    else:
        pole = rng.uniform(-0.5, 0.5, 2)
        radius = np.hypot(canvas.x - pole[0], canvas.y - pole[1])
        theta = np.arctan2(canvas.y - pole[1], canvas.x - pole[0])
        stars = np.zeros_like(stars)
        for _ in range(60):
            r, start = rng.uniform(0.03, 1.6), rng.uniform(-np.pi, np.pi)
            inside = ((theta - start) % (2 * np.pi)) < rng.uniform(0.4, 1.2)
            arc = np.exp(-(((radius - r) / 0.006) ** 2)) * inside
            stars += (rng.uniform(0.2, 0.9) * arc)[..., None] * rgb(0.9, 0.95, 1.1)
    horizon = rng.uniform(0.3, 0.8) + 0.08 * canvas.noise(4.0)[:1]
    if canvas.chance(0.3):
        # A dome on the horizon.
        where, size = rng.uniform(-0.6, 0.6), rng.uniform(0.1, 0.25)
        dome = np.sqrt(np.clip(size**2 - (canvas.x[:1] - where) ** 2, 0, None)) * 1.3
        horizon = horizon - dome
    ground = edge(horizon - canvas.y, 0.01)[..., None]
    image = (image + stars) * (1 - ground) + ground * rgb(0.02, 0.02, 0.03)
    return image, {'scene': scene}
