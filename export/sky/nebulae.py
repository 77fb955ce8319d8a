"""Gas and dust: nebulae, supernova remnants, disks and jets of young stars."""

import numpy as np

from .fields import edge, rgb
from .optics import OLD, bright_stars, luminosities, point_sources, star_field

__all__ = ['planetary_nebula', 'emission_nebula', 'dark_nebula', 'reflection_nebula',
           'supernova_remnant', 'protoplanetary_disk', 'proplyd', 'jet', 'cirrus', 'bubble',
           'embedded_cluster']

# (outer, inner) colours of ionised gas: natural, H alpha, Hubble palette, infrared.
GAS = (
    (rgb(1.7, 0.35, 0.45), rgb(0.45, 0.8, 0.9)),
    (rgb(1.5, 0.3, 0.3), rgb(1.0, 0.35, 0.5)),
    (rgb(1.6, 0.45, 0.7), rgb(0.7, 0.5, 1.1)),
    (rgb(1.3, 0.9, 0.25), rgb(0.2, 0.7, 1.1)),
    (rgb(1.3, 0.75, 0.25), rgb(0.2, 0.9, 0.9)),
    (rgb(1.0, 0.6, 0.3), rgb(0.3, 1.0, 0.9)),
    (rgb(0.5, 1.2, 0.5), rgb(1.3, 0.6, 0.4)),
    (rgb(1.4, 0.8, 0.5), rgb(0.9, 0.9, 1.2)),
)
SHELLS = (
    (rgb(0.25, 1.0, 0.9), rgb(1.5, 0.35, 0.3)),
    (rgb(0.4, 0.7, 1.3), rgb(1.3, 0.8, 0.3)),
    (rgb(0.3, 1.0, 0.6), rgb(1.4, 0.5, 0.9)),
    (rgb(1.2, 0.6, 0.4), rgb(0.4, 0.9, 1.2)),
    (rgb(0.8, 0.4, 1.2), rgb(0.5, 1.2, 0.5)),
)


def _thin(values):
    """Extinction by dust: blue light is absorbed more than red (depth -> RGB transmission)."""
    return np.exp(-values[..., None] * rgb(0.72, 1, 1.3))


def _fine_stars(canvas, low, high, *, slope=1.4, brightest=1.2):
    """Paint field stars as in a large picture that was shrunk: many, and mostly single pixels."""
    psf = canvas.pick(('point', 'gaussian', 'spikes4', 'spikes6'), (0.68, 0.16, 0.1, 0.06))
    return star_field(canvas, int(canvas.log_uniform(low, high)), slope=slope, low=0.02,
                      high=brightest, psf=psf)


def planetary_nebula(canvas):
    """Paint a planetary nebula: ring, filled disk, ellipse, nested shells or bipolar lobes."""
    rng = canvas.rng
    inner, outer = canvas.pick(SHELLS)
    shape = canvas.pick(('ring', 'ellipse', 'bipolar', 'disk', 'shells'))
    scale = canvas.log_uniform(0.1, 0.85)
    texture = np.exp(0.35 * canvas.noise(2.5))
    if shape == 'bipolar':
        x, y = canvas.frame(scale=scale * 1.6)
        profile = np.abs(np.sin(np.clip(np.abs(x) / 0.95, 0, 1) * np.pi)) ** 0.6
        height = np.abs(y) / (rng.uniform(0.25, 0.5) * profile + 0.03)
        lobes = (np.abs(x) < 0.95) * (np.exp(-(((height - 0.9) / 0.25) ** 2)) + 0.35 * (height < 1))
        lobes = canvas.blur(lobes, 1.2) * texture * np.exp(0.4 * canvas.ridges(2.5, 3))
        near = np.exp(-np.abs(x) * 1.2)[..., None]
        image = lobes[..., None] * (inner * near + outer * (1 - near))
        image += (1.5 * np.exp(-(x**2 + y**2) / 0.012))[..., None] * inner
    else:
        x, y = canvas.frame(axis_ratio=rng.uniform(0.6, 1), scale=scale)
        radius = np.hypot(x, y) * np.exp(rng.uniform(0.03, 0.09) * canvas.noise(3))
        theta = np.arctan2(y, x)
        rim = np.exp(-(((radius - 0.8) / rng.uniform(0.1, 0.3)) ** 2))
        rim *= 1 + 0.35 * np.cos(2 * theta + rng.uniform(0, 6))
        if shape == 'disk':
            fill, rim = 1.2 * np.exp(-((radius / 0.9) ** 6)), rim * 0.2
        else:
            fill = rng.uniform(0.1, 0.5) * (radius < 0.85)
        image = (canvas.blur(fill, 1.5) * texture)[..., None] * inner
        image += (rim * texture)[..., None] * (outer * 0.8 + inner * 0.3)
        if canvas.chance(0.5):
            # Stratified ionisation: each colour peaks at its own radius, red outermost.
            strata = np.stack([np.exp(-(((radius - where) / 0.16) ** 2))
                               for where in (0.95, 0.75, 0.55)], axis=-1)
            image += rng.uniform(0.2, 0.9) * strata * texture[..., None]
        if canvas.chance(0.3):
            rays = np.clip(np.sin(theta * rng.integers(20, 60) + 3 * canvas.noise(3)), 0, 1)
            image += (0.25 * rays * np.exp(-radius / 0.8) * (radius > 0.5))[..., None] * outer
        if shape == 'shells':
            for _ in range(rng.integers(1, 4)):
                halo = np.exp(-(((radius - rng.uniform(1.2, 2)) / 0.08) ** 2))
                image += (0.18 * halo * texture)[..., None] * outer
        if canvas.chance(0.4):
            image += (0.08 * np.exp(-((radius / 2) ** 2)) * texture)[..., None] * outer
    central = canvas.chance(0.6)
    if central:
        image += point_sources(canvas, 0, 0, rng.uniform(0.5, 2), 20000)
    image += _fine_stars(canvas, 5, 1500, slope=1.3, brightest=1.5)
    return image, {'shape': shape, 'central_star': central, 'small': scale < 0.2}


def _glow(canvas):
    """Return ionised gas lit by a cluster: (picture, centre, dust transmission)."""
    rng = canvas.rng
    outer, inner = canvas.pick(GAS)
    centre = rng.normal(0, 0.3, 2)
    x, y = canvas.frame(centre=centre, axis_ratio=rng.uniform(0.6, 1), scale=rng.uniform(0.5, 1.8))
    radius = np.hypot(x, y)
    envelope = np.exp(-(radius**rng.uniform(1, 2)) + 0.9 * canvas.warp(canvas.noise(3.0), 6))
    filaments = canvas.warp(canvas.ridges(3.0, rng.uniform(1.5, 4)), 5)
    gas = envelope * (0.45 + rng.uniform(0.3, 1.6) * filaments
                      * np.clip(0.6 + 0.6 * canvas.noise(3), 0, 2))
    # The ionised cavity, sometimes with a bright rim where it meets the cloud.
    cavity_radius = rng.uniform(0.3, 0.8)
    cavity = radius * np.exp(0.25 * canvas.noise(3.0))
    inside = edge(cavity - cavity_radius, 0.12)
    gas = gas * (1 - rng.uniform(0, 0.7) * inside)
    rim = np.exp(-(((cavity - cavity_radius) / 0.06) ** 2)) * rng.uniform(0, 0.8) * filaments
    hot = envelope * np.exp(-radius * 1.2) * np.exp(0.4 * canvas.noise(3)) + 0.3 * inside * envelope
    depth = rng.uniform(0, 2.4) * np.clip(canvas.warp(canvas.noise(2.8)) - 0.3, 0, 3)
    depth = depth + rng.uniform(0, 1.5) * np.clip(canvas.warp(canvas.ridges(2.6, 6)) - 0.55, 0, 1)
    dust = _thin(depth)
    # The hue drifts over a real nebula, and is paler than that of the gas alone.
    mix = np.clip(0.5 + 0.5 * canvas.noise(3.5) * rng.uniform(0, 0.8), 0, 1)[..., None]
    tint = outer * (1 - 0.45 * mix) + inner * 0.45 * mix
    pale = rng.uniform(0, 0.45)
    tint = tint * (1 - pale) + pale * tint.mean(-1, keepdims=True)
    gas = gas * np.exp(rng.uniform(0, 0.35) * canvas.noise(2.0))
    image = (gas[..., None] * tint + 0.7 * hot[..., None] * inner + rim[..., None] * outer) * dust
    veil = rng.uniform(0, 0.25) * np.exp(0.5 * canvas.noise(3.5))
    image += veil[..., None] * canvas.pick((outer, inner, rgb(0.9, 0.8, 0.75))) * dust
    return image, centre, dust


def _front(canvas):
    """Return a cloud with an ionisation front lit from one side: (picture, centre, dust)."""
    rng = canvas.rng
    outer, inner = canvas.pick(GAS)
    heading, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.3)
    centre = distance * np.array([np.cos(heading), np.sin(heading)])
    x, _ = canvas.frame(angle=heading + np.pi)
    density = rng.uniform(0.6, 1.8) * x + 0.5 * canvas.warp(canvas.noise(3.0), 9)
    density = density + 0.05 * canvas.noise(2.5) - rng.uniform(-0.3, 0.5)
    cloud = 1 - edge(density, rng.uniform(0.03, 0.15))
    # Surfaces that face the star are bright, and brightest where the cloud begins.
    gy, gx = np.gradient(canvas.blur(density, 2.2))
    dx, dy = canvas.x - centre[0], canvas.y - centre[1]
    away = np.hypot(dx, dy) + 0.05
    facing = np.clip((gx * dx + gy * dy) / away * canvas.side / 12, -0.8, 1.5)
    rim = np.clip(facing, 0, 2) * np.exp(-(((density - 0.04) / 0.12) ** 2))
    surface = np.clip(0.35 + rng.uniform(0.15, 0.45) * facing, 0, 2)
    surface = surface * np.exp(-np.clip(density, 0, 4) / 0.7)
    glow = np.exp(-away / rng.uniform(0.5, 1.2)) * np.exp(0.45 * canvas.warp(canvas.noise(3)))
    glow = glow * (0.7 + rng.uniform(0, 0.8) * canvas.warp(canvas.ridges(3.0, 2), 5))
    pale = rng.uniform(0.1, 0.6)
    inner = inner * (1 - pale) + pale * inner.mean()
    image = (rng.uniform(0.3, 1.0) * glow * (1 - 0.9 * cloud))[..., None] * inner
    image += (rng.uniform(0.4, 0.9) * surface * cloud)[..., None] * (outer * 0.6 + 0.15)
    image += (rng.uniform(0.5, 1.4) * rim)[..., None] * (outer * 0.7 + inner * 0.4)
    depth = cloud * np.clip(density, 0, 1.5) * rng.uniform(0.5, 2)
    return image, centre, _thin(depth)


def emission_nebula(canvas):
    """Paint an H II region: glowing gas, dust lanes, the cluster that lights it, field stars."""
    rng = canvas.rng
    front = canvas.chance(0.4)
    image, centre, dust = _front(canvas) if front else _glow(canvas)
    cluster = canvas.chance(0.45)
    if cluster:
        n = rng.integers(8, 60)
        x, y = centre[:, None] + rng.normal(0, rng.uniform(0.06, 0.16), (2, n))
        image += point_sources(canvas, x, y, luminosities(rng, n, slope=0.8, low=0.1, high=3),
                               rng.uniform(9000, 25000, n))
    stars = _fine_stars(canvas, 60, 6000, slope=rng.uniform(1.1, 1.5), brightest=2.0)
    image += stars * rng.uniform(0.3, 1.2) * (0.3 + 0.7 * dust)
    if canvas.chance(0.3):
        image += bright_stars(canvas, rng.integers(1, 6))
    return image, {'front': front, 'cluster': cluster, 'dusty': bool(dust.mean() < 0.72)}


def dark_nebula(canvas):
    """Paint dust in front of stars or glowing gas: cloud, pillars, globule or filament."""
    rng = canvas.rng
    shape = canvas.pick(('cloud', 'pillar', 'globule', 'filament'))
    glowing = shape == 'pillar' or canvas.chance(0.3)
    if glowing:
        glow = _front(canvas)[0] if canvas.chance(0.3) else _glow(canvas)[0]
        back = glow + _fine_stars(canvas, 40, 2000, brightest=2.0)
    else:
        back = _fine_stars(canvas, 2500, 14000, slope=rng.uniform(1.1, 1.6), brightest=2.0)
        glow = rng.uniform(0.02, 0.25) * np.exp(0.4 * canvas.noise(3))
        back += glow[..., None] * canvas.pick((OLD, rgb(1.3, 0.95, 0.6), rgb(0.9, 0.95, 1.1)))
    wisps = canvas.warp(canvas.noise(3.2), 6)
    if shape == 'pillar':
        x, y = canvas.frame(angle=rng.uniform(-0.5, 0.5) + np.pi / 2 * rng.integers(4))
        depth = canvas.blank(channels=0)
        back = back * 0.8 + rng.uniform(0.05, 0.25) * canvas.pick(GAS)[1]
        for _ in range(rng.integers(1, 5)):
            left, top = rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.2)
            width, lean = rng.uniform(0.04, 0.16), rng.normal(0, 0.25)
            away = np.abs(x - left - lean * (y - top) + 0.07 * canvas.noise(3.2))
            wide = width * (1 + 0.4 * canvas.noise(2.8) + 1.2 * np.clip(y - top, 0, 2))
            soft = rng.uniform(0.015, 0.05)
            column = 5 * edge(away - wide, soft) * edge(-(y - top + 0.06 * wisps), soft)
            column = column * np.clip(0.7 + 0.4 * canvas.noise(2.5), 0.1, 2)
            depth = np.maximum(depth, column)
        rim = np.clip(canvas.blur(depth, 2.5) - depth, 0, 9)
        image = back * _thin(depth)
        image += (rng.uniform(0.05, 0.2) * rim)[..., None] * rgb(1.3, 0.9, 0.6)
        skin = rng.uniform(0.03, 0.12) * depth / 5 * np.exp(0.6 * canvas.noise(2.8))
        image += skin[..., None] * rgb(1.3, 0.8, 0.5)
        return image, {'shape': shape, 'glowing': True}
    if shape == 'globule':
        x, y = canvas.frame(centre=rng.normal(0, 0.15, 2), axis_ratio=rng.uniform(0.5, 1),
                            scale=rng.uniform(0.25, 0.5))
        depth = 5 * edge(np.hypot(x, y) * np.exp(0.2 * wisps) - 1, rng.uniform(0.06, 0.25))
    elif shape == 'filament':
        x, y = canvas.frame()
        depth = np.exp(-(((y + 0.2 * canvas.noise(3.5)) / rng.uniform(0.08, 0.22)) ** 2))
        depth = 4 * depth * np.clip(1 + 0.7 * wisps, 0, 3)
        depth = depth + rng.uniform(0, 2) * np.clip(canvas.warp(canvas.ridges(3, 5)) - 0.6, 0, 1)
    else:
        depth = np.clip(wisps - rng.uniform(-0.4, 0.4), 0, 3) * rng.uniform(2, 5)
        depth = depth * (0.6 + 0.8 * canvas.warp(canvas.ridges(2.8, 2)))
    image = back * _thin(depth)
    # Thick dust is not black: it scatters a little brownish or bluish light.
    veil = rng.uniform(0, 0.12) * (1 - np.exp(-depth)) * np.exp(0.4 * canvas.noise(3))
    image += veil[..., None] * canvas.pick((rgb(1.3, 0.85, 0.55), rgb(0.8, 0.9, 1.2)))
    if canvas.chance(0.35):
        # Nearby stars in front of the cloud.
        image += star_field(canvas, rng.integers(5, 60), slope=1.2, low=0.05, high=2.0)
    return image, {'shape': shape, 'glowing': glowing}


def reflection_nebula(canvas):
    """Paint dust that reflects the light of nearby stars."""
    rng = canvas.rng
    n = rng.integers(1, 6)
    x, y = rng.normal(0, 0.3, (2, n))
    texture = np.exp(rng.uniform(0.3, 0.8) * canvas.warp(canvas.noise(3.0)))
    # Striations: noise stretched along one direction, as in the Pleiades.
    _, v = canvas.frame()
    streaks = canvas.warp(np.sin(v * rng.uniform(18, 40) + 2.5 * canvas.noise(3)), 3)
    wispy = canvas.chance(0.6)
    texture *= 1 + (rng.uniform(0.1, 0.3) if wispy else 0) * streaks
    texture *= 0.5 + canvas.warp(canvas.ridges(3.0, rng.uniform(1, 3)))
    colour = canvas.pick((rgb(0.45, 0.75, 1.5), rgb(0.5, 0.7, 1.4), rgb(0.65, 0.85, 1.25),
                          rgb(0.7, 0.75, 1.1), rgb(1.2, 0.95, 0.6)), (0.35, 0.25, 0.2, 0.1, 0.1))
    image = canvas.blank()
    for a, b in zip(x, y, strict=True):
        away = np.hypot(canvas.x - a, canvas.y - b)
        glow = rng.uniform(0.3, 1) * np.exp(-away / rng.uniform(0.12, 0.45))
        image += (glow * np.clip(texture, 0, 3))[..., None] * colour
    depth = rng.uniform(0, 2) * np.clip(canvas.warp(canvas.noise(3)), 0, 3)
    depth = depth + rng.uniform(0, 2) * np.clip(canvas.warp(canvas.ridges(2.8, 5)) - 0.6, 0, 1)
    image *= _thin(depth)
    veil = rng.uniform(0, 0.15) * np.exp(0.7 * canvas.noise(3))
    image += veil[..., None] * canvas.pick((rgb(1.1, 0.9, 0.75), rgb(0.7, 0.85, 1.2)))
    image += point_sources(canvas, x, y, rng.uniform(2, 25, n), rng.uniform(11000, 22000, n))
    image += _fine_stars(canvas, 30, 4000, brightest=0.9) * _thin(0.6 * depth)
    return image, {'blue': bool(colour[2] > 1.2), 'wispy': wispy}


def supernova_remnant(canvas):
    """Paint a supernova remnant: a filamentary shell, a Crab-like nebula or a piece of a shell."""
    rng = canvas.rng
    shape = canvas.pick(('shell', 'crab', 'arc'), (0.55, 0.22, 0.23))
    x_rays = shape == 'shell' and canvas.chance(0.4)
    scale = rng.uniform(1.6, 3) if shape == 'arc' else rng.uniform(0.4, 0.9)
    heading = rng.uniform(0, 2 * np.pi)
    centre = rng.normal(0, 0.05, 2)
    if shape == 'arc':
        centre = 0.85 * scale * np.array([np.cos(heading), np.sin(heading)])
    x, y = canvas.frame(centre=centre, axis_ratio=rng.uniform(0.75, 1), scale=scale)
    radius = np.hypot(x, y) * np.exp((0.02 if shape == 'arc' else 0.07) * canvas.noise(3))
    theta = np.arctan2(y, x)
    filaments = np.maximum(canvas.warp(canvas.ridges(2.8, rng.uniform(3, 7)), 4),
                           0.8 * canvas.warp(canvas.ridges(2.5, rng.uniform(4, 8)), 4))
    if shape == 'crab':
        image = (0.7 * np.exp(-((radius / 0.6) ** 2)))[..., None] * rgb(0.6, 0.8, 1.2)
        image += (1.2 * np.exp(-((radius / 0.85) ** 4)) * filaments)[..., None] * canvas.pick(
            (rgb(1.4, 0.6, 0.4), rgb(1.3, 0.9, 0.4)))
    elif x_rays:
        # X-ray composites: each energy band has its own knots, behind one thin blast wave.
        image = canvas.blank()
        for band in range(3):
            web = canvas.warp(canvas.ridges(2.3, rng.uniform(2, 4)), 5)
            ejecta = np.exp(-(((radius - rng.uniform(0.4, 0.75)) / rng.uniform(0.15, 0.35)) ** 2))
            image[..., band] = ejecta * (0.15 + web) * np.exp(0.5 * canvas.noise(2.5))
        blast = np.exp(-(((radius - 0.93) / 0.03) ** 2)) * np.exp(0.5 * canvas.noise(2.5))
        image += (rng.uniform(0.3, 1) * blast)[..., None] * rgb(0.3, 0.5, 1.5)
    else:
        part = np.clip(1 + rng.uniform(0, 1.2) * np.cos(theta - rng.uniform(0, 6))
                       + 0.4 * canvas.noise(3.5), 0, 3)
        width = rng.uniform(0.05, 0.16)
        first, second = canvas.pick((
            (rgb(1.5, 0.4, 0.4), rgb(0.3, 0.8, 1.1)), (rgb(0.3, 0.9, 0.5), rgb(1.2, 0.4, 0.4)),
            (rgb(0.5, 0.6, 1.4), rgb(1.3, 0.5, 0.9)), (rgb(1.2, 0.9, 0.5), rgb(0.7, 0.8, 1.0)),
            (rgb(0.4, 0.5, 1.5), rgb(0.5, 0.6, 1.3))))
        shell = np.exp(-(((radius - 0.85) / width) ** 2)) + rng.uniform(0, 0.3) * (radius < 0.85)
        image = (shell * part * (0.2 + 1.5 * filaments))[..., None] * first
        front = np.exp(-(((radius - 0.93) / width) ** 2))
        image += (0.6 * front * part * (0.3 + filaments))[..., None] * second
    if not x_rays or canvas.chance(0.4):
        image += _fine_stars(canvas, 10, 4000)
    return image, {'shape': shape, 'x_rays': x_rays}


def protoplanetary_disk(canvas):
    """Paint a protoplanetary disk as an interferometer or a coronagraph shows it."""
    rng = canvas.rng
    ratio, scale = rng.uniform(0.25, 1), rng.uniform(0.25, 0.9)
    x, y = canvas.frame(axis_ratio=ratio, scale=scale)
    radius, theta = np.hypot(x, y), np.arctan2(y, x)
    disk = np.exp(-radius / rng.uniform(0.25, 0.5)) * (radius < 1.1)
    gaps = int(rng.integers(0, 6))
    for _ in range(gaps):
        depth, where, width = rng.uniform(0.5, 1), rng.uniform(0.12, 0.95), rng.uniform(0.02, 0.07)
        disk = disk * (1 - depth * np.exp(-(((radius - where) / width) ** 2)))
    cavity = canvas.chance(0.35)
    if cavity:
        hole = rng.uniform(0.2, 0.5)
        disk = np.exp(-(((radius - hole - 0.15) / rng.uniform(0.06, 0.15)) ** 2))
        disk *= 1 + rng.uniform(0, 0.8) * np.cos(theta - rng.uniform(0, 6))
    arms = not cavity and canvas.chance(0.2)
    if arms:
        phase = 2 * (theta - np.log(radius + 0.05) * rng.uniform(2, 4))
        disk = disk * (0.4 + 1.6 * np.exp(3 * (np.cos(phase) - 1)))
    disk = canvas.blur(disk * np.exp(-np.maximum(radius - 1, 0) * 12), rng.uniform(0.5, 2.2))
    scattered = canvas.chance(0.3)
    if scattered:
        # Scattered starlight behind a coronagraph: noisy speckles, a dark mask at the centre.
        speckles = np.exp(-radius * 1.5) * np.clip(canvas.noise(0.5), 0, 3) * 0.25
        mask = np.hypot(canvas.x, canvas.y) > rng.uniform(0.05, 0.12)
        disk = (disk * (1 + 0.5 * np.sin(theta)) + speckles) * mask
    colour = canvas.pick((rgb(1.3, 0.85, 0.4), rgb(0.6, 0.8, 1.2), rgb(1.3, 0.6, 0.3)))
    return disk[..., None] * colour, {
        'face_on': ratio > 0.85, 'smooth': gaps == 0 and not cavity and not arms and not scattered,
        'gaps': (gaps > 1 and not scattered) or cavity, 'cavity': cavity, 'spiral': arms,
        'scattered': scattered, 'inclined': ratio < 0.45, 'mono': canvas.chance(0.85)}


def proplyd(canvas):
    """Paint a young star's edge-on disk in silhouette between reflection lobes, or a proplyd."""
    rng = canvas.rng
    scale = canvas.log_uniform(0.18, 0.8)
    x, y = canvas.frame(scale=scale)
    if canvas.chance(0.3):
        # A cocoon with a bright head and a tail, its disk dark inside, in front of glowing gas.
        back = _glow(canvas)[0] * 0.5
        head = np.exp(-(((np.hypot(x, y) - 0.45) / 0.12) ** 2)) * (1 + 0.9 * np.tanh(-3 * x))
        width = 0.45 * np.exp(-np.clip(x, 0, 3))
        tail = np.exp(-((y / width) ** 4)) * np.exp(-np.clip(x, 0, 3)) * (x > 0) * 0.35
        disk = np.exp(-((x / 0.12) ** 2) - (y / 0.28) ** 2)
        image = back + (head * 0.8 + tail)[..., None] * canvas.pick(
            (rgb(1.2, 0.9, 0.7), rgb(0.6, 1.1, 0.9), rgb(1.4, 0.6, 0.5)))
        image *= np.exp(-3 * disk)[..., None]
        image += star_field(canvas, rng.integers(0, 60), slope=1.2, low=0.02, high=1.0)
        return image, {'shape': 'cocoon', 'jet': False}
    flare = 0.06 + rng.uniform(0.2, 0.45) * np.abs(x) ** 1.3
    if canvas.chance(0.6):
        # Lobes filled with scattered light that fades away from the star.
        reach = np.hypot(x, y)
        lobes = edge(flare - np.abs(y), 0.04) * np.exp(-reach / rng.uniform(0.2, 0.45)) * 1.6
        lobes = lobes * edge(np.abs(x) - 0.25 - np.abs(y) * rng.uniform(0.5, 2), 0.1)
    else:
        lobes = np.exp(-(((np.abs(y) - flare) / (0.1 + 0.1 * np.abs(x))) ** 2))
        lobes *= np.exp(-((x / 0.7) ** 2))
    lobes = lobes * (1 + 0.5 * np.sign(y) * rng.uniform(0, 0.8))
    lane = np.exp(-((y / (0.05 + 0.12 * np.abs(x))) ** 2)) * (np.abs(x) < 1)
    colour = canvas.pick((rgb(1.2, 0.95, 0.7), rgb(1.3, 0.7, 0.4), rgb(0.7, 0.9, 1.2)))
    image = (lobes * np.exp(0.25 * canvas.noise(3)) * np.exp(-4 * lane))[..., None] * colour
    jet_on = canvas.chance(0.5)
    if jet_on:
        beam = np.exp(-((x / 0.025) ** 2)) * np.exp(-np.abs(y) / 0.9)
        beam = beam * np.clip(1 + canvas.noise(2), 0, 3)
        image += (rng.uniform(0.3, 0.9) * beam)[..., None] * rgb(0.8, 1.0, 1.2)
    if canvas.chance(0.3):
        dark = np.exp(-3 * np.exp(-(x**2 / 0.25 + y**2 / 0.03)))
        image = _glow(canvas)[0] * 0.5 * dark[..., None] + 0.6 * image
    image += star_field(canvas, rng.integers(0, 60), slope=1.2, low=0.02, high=1.0)
    return image, {'shape': 'silhouette', 'jet': jet_on}


def jet(canvas):
    """Paint a Herbig-Haro jet: a chain of knots, bow shocks, sometimes a cavity at the source."""
    rng = canvas.rng
    x, y = canvas.frame(centre=rng.uniform(-0.3, 0.3, 2), scale=rng.uniform(0.35, 1))
    image = canvas.blank()
    two_sided = canvas.chance(0.6)
    red, teal = rgb(1.4, 0.5, 0.4), canvas.pick((rgb(0.5, 1.0, 0.8), rgb(1.3, 0.8, 0.4)))
    for side in (1, -1) if two_sided else (1,):
        wiggle = 0.04 * np.sin(x * 6 + rng.uniform(0, 6))
        knots = rng.integers(4, 11)
        for k in range(knots):
            where = side * (0.08 + 0.85 * k / knots + rng.normal(0, 0.02))
            width = 0.015 + 0.035 * abs(where)
            knot = np.exp(-(((x - where) / (width * 1.6)) ** 2) - ((y - wiggle) / width) ** 2)
            colour = red if canvas.chance(0.6) else teal
            image += (rng.uniform(0.3, 1.2) * knot)[..., None] * colour
        for _ in range(rng.integers(1, 4)):
            head, reach = rng.uniform(0.45, 1.1), rng.uniform(0.05, 0.12)
            bow = np.exp(-(((x * side - head + y**2 / reach / 2) / 0.035) ** 2))
            bow = bow * np.exp(-((y / reach) ** 2)) * np.exp(0.7 * canvas.noise(2.3))
            image += (rng.uniform(0.2, 0.8) * bow)[..., None] * canvas.pick((teal, red))
        beam = np.exp(-((y / (0.02 + 0.02 * np.abs(x))) ** 2))
        beam = beam * ((x * side > 0) & (np.abs(x) < 0.9))
        image += (0.25 * beam)[..., None] * rgb(1.2, 0.7, 0.5)
    image = canvas.warp(image, rng.uniform(0, 2.5), 3.0)
    cone = rng.uniform(0.15, 0.5) * np.sqrt(np.abs(x) + 0.01)
    cavity = edge(np.abs(y) - cone, 0.04) * np.exp(-np.hypot(x, y) / rng.uniform(0.15, 0.5))
    cavity = cavity * np.exp(0.4 * canvas.noise(2.8))
    image += (rng.uniform(0, 0.7) * cavity)[..., None] * canvas.pick(
        (rgb(1.3, 0.8, 0.4), rgb(0.6, 0.8, 1.3)))
    cloud = canvas.chance(0.7) * rng.uniform(0, 0.12) * np.exp(0.6 * canvas.warp(canvas.noise(3)))
    image += cloud[..., None] * canvas.pick(GAS)[0]
    if canvas.chance(0.3):
        image += point_sources(canvas, rng.normal(0, 0.02), 0, rng.uniform(0.5, 2), 4500)
    image += _fine_stars(canvas, 10, 1500, slope=1.3, brightest=1.0)
    return image, {'two_sided': two_sided}


def cirrus(canvas):
    """Paint interstellar clouds as in the infrared or in radio lines: filaments without edges."""
    rng = canvas.rng
    base = np.exp(rng.uniform(0.5, 1.1) * canvas.warp(canvas.noise(rng.choice([2.5, 3.0])), 6))
    web = canvas.warp(canvas.ridges(2.6, rng.uniform(2, 5)), 5)
    gas = base * (0.3 + rng.uniform(0.5, 1.5) * web)
    cold, warm = canvas.pick(((rgb(1.5, 0.6, 0.35), rgb(0.4, 0.8, 1.4)),
                              (rgb(0.4, 1.1, 0.5), rgb(1.4, 0.5, 0.4)),
                              (rgb(1.2, 0.9, 0.5), rgb(0.4, 0.9, 1.1)),
                              (rgb(0.6, 0.8, 1.4), rgb(1.3, 0.8, 0.5))))
    mix = np.clip(0.5 + 0.5 * canvas.noise(3.0), 0, 1)[..., None]
    image = (0.5 * gas)[..., None] * (cold * mix + warm * (1 - mix))
    for _ in range(rng.integers(0, 6)):
        spot = rng.uniform(-1, 1, 2)
        heat = rng.uniform(0.3, 1.5) * canvas.gaussian(spot, rng.uniform(0.02, 0.12))
        image += heat[..., None] * rgb(1.1, 1.0, 0.9)
    image += _fine_stars(canvas, 5, 2500)
    return image, {'filaments': bool(web.mean() < 0.42)}


def bubble(canvas):
    """Paint a bubble blown by a hot star, or infrared shells around clusters."""
    rng = canvas.rng
    infrared = canvas.chance(0.5)
    if infrared:
        shell, fill = canvas.pick(((rgb(0.4, 1.2, 0.5), rgb(1.5, 0.4, 0.3)),
                                   (rgb(1.3, 0.6, 0.3), rgb(0.4, 0.7, 1.3)),
                                   (rgb(1.4, 0.5, 0.4), rgb(0.9, 0.8, 0.7))))
    else:
        shell, fill = canvas.pick(((rgb(1.5, 0.4, 0.45), rgb(0.3, 0.8, 1.0)),
                                   (rgb(0.3, 0.7, 1.3), rgb(1.2, 0.4, 0.4)),
                                   (rgb(1.3, 0.9, 0.4), rgb(0.3, 0.8, 0.9))))
    base = rng.uniform(0.02, 0.3) * np.exp(0.8 * canvas.warp(canvas.noise(3), 6))
    image = base[..., None] * shell
    count = int(canvas.pick((1, 1, 1, 2, 4)))
    for _ in range(count):
        scale = rng.uniform(0.3, 0.8) if count == 1 else rng.uniform(0.12, 0.4)
        centre = rng.normal(0, 0.12 if count == 1 else 0.5, 2)
        x, y = canvas.frame(centre=centre, axis_ratio=rng.uniform(0.75, 1), scale=scale)
        radius = np.hypot(x, y) * np.exp(rng.uniform(0.02, 0.09) * canvas.noise(3.2))
        part = np.clip(1 + rng.uniform(0.1, 1.0) * np.cos(np.arctan2(y, x) - rng.uniform(0, 6))
                       + 0.3 * canvas.noise(3.5), 0.02, 3)
        rim = np.exp(-(((radius - 1) / rng.uniform(0.03, 0.12)) ** 2))
        rim = rim + 0.35 * np.exp(-np.clip(1 - radius, 0, 2) / 0.25) * (radius < 1)
        web = 0.5 + canvas.warp(canvas.ridges(2.6, 3), 4)
        image += (rng.uniform(0.5, 1.2) * rim * part * web)[..., None] * shell
        inside = edge(radius - 0.8, 0.1) * np.exp(0.5 * canvas.warp(canvas.noise(3)))
        image += (rng.uniform(0.05, 0.4) * inside)[..., None] * fill
        image += point_sources(canvas, *(centre + rng.normal(0, 0.1 * scale, 2)),
                               rng.uniform(1, 8), 20000)
    image += _fine_stars(canvas, 50, 4000)
    return image, {'infrared': infrared, 'many': count > 1}


def embedded_cluster(canvas):
    """Paint a young cluster in the gas it formed from, seen through dust."""
    rng = canvas.rng
    outer, inner = canvas.pick(GAS)
    centre = rng.normal(0, 0.12, 2)
    x, y = canvas.frame(centre=centre)
    radius = np.hypot(x, y)
    web = canvas.warp(canvas.ridges(2.8, rng.uniform(2, 5)), 6)
    gas = np.exp(-radius / rng.uniform(0.35, 1.0)) * np.exp(0.8 * canvas.warp(canvas.noise(3), 6))
    image = (rng.uniform(0.2, 0.8) * gas * (0.4 + web))[..., None] * outer
    image += (rng.uniform(0.1, 0.5) * np.exp(-radius / 0.25))[..., None] * inner
    depth = rng.uniform(0, 2.5) * np.clip(canvas.warp(canvas.noise(3)) - 0.3, 0, 3)
    image *= _thin(depth)
    n, spread = rng.integers(40, 700), rng.uniform(0.06, 0.28)
    places = centre[:, None] + rng.standard_t(3, (2, n)) * spread
    image += point_sources(canvas, *places, luminosities(rng, n, slope=1.0, low=0.05, high=6),
                           rng.choice([3200, 4500, 9000, 22000], n),
                           psf=canvas.pick(('point', 'gaussian', 'spikes4', 'spikes6')))
    image += _fine_stars(canvas, 100, 4000, brightest=0.8) * _thin(depth)
    return image, {'dusty': bool(depth.mean() > 0.5), 'rich': bool(n > 300)}
