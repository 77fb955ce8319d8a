"""Galaxies, their groups and clusters, gravitational lenses, deep fields."""

import numpy as np

from .fields import rgb
from .optics import HALPHA, OLD, YOUNG, point_sources, star_field

__all__ = ['spiral', 'barred_spiral', 'elliptical', 'lenticular', 'edge_on', 'irregular', 'merger',
           'ring_galaxy', 'galaxy_cluster', 'galaxy_group', 'lens', 'deep_field', 'quasar',
           'radio_galaxy', 'fading_radio_galaxy', 'supernova', 'faint_galaxies']

RED = OLD * rgb(1.1, 1.0, 0.85)
# (old stars, arms, star-forming knots): optical light, and dust glowing in the infrared
PALETTES = (
    (OLD, YOUNG, HALPHA), (OLD, YOUNG, HALPHA), (OLD, YOUNG, HALPHA),
    (rgb(1.2, 1.0, 0.6), rgb(1.0, 0.95, 0.85), HALPHA),
    (rgb(0.75, 1.0, 1.1), rgb(1.5, 0.75, 0.35), rgb(1.7, 0.4, 0.2)),
    (rgb(1.0, 1.0, 1.0), rgb(0.5, 0.85, 1.4), rgb(1.5, 0.8, 0.4)),
)


def sersic(x, y, index, radius=1.0):
    """Return a Sersic profile of unit height at ``radius`` (Sersic 1963)."""
    b = 2 * index - 1 / 3
    return np.exp(-b * ((np.hypot(x, y) / radius + 1e-4) ** (1 / index) - 1))


def faint_galaxies(canvas, n, *, smallest=0.01, largest=0.05, spread=None, red=False,
                   centre=(0.0, 0.0), brightness=1.0):
    """Paint ``n`` small galaxies, over the whole canvas or around a centre."""
    rng, side = canvas.rng, canvas.side
    image = canvas.blank()
    for _ in range(n):
        if spread:
            x, y = centre[0] + rng.normal(0, spread), centre[1] + rng.normal(0, spread)
        else:
            x, y = rng.uniform(-1.1, 1.1, 2)
        radius = canvas.log_uniform(smallest, largest)
        reach = int(min(side * 0.28, radius * side / 2 * 5 + 4 * canvas.unit))
        column, row = int((x + 1) * side / 2), int((y + 1) * side / 2)
        box = np.s_[max(0, row - reach) : max(0, min(side, row + reach)),
                    max(0, column - reach) : max(0, min(side, column + reach))]
        dx, dy = canvas.x[box] - x, canvas.y[box] - y
        if dx.size == 0:
            continue
        angle = rng.uniform(0, np.pi)
        ratio = rng.uniform(0.55, 1) if red else rng.uniform(0.3, 1)
        u = dx * np.cos(angle) + dy * np.sin(angle)
        v = (-dx * np.sin(angle) + dy * np.cos(angle)) / ratio
        index = 3.0 if red else canvas.pick((1.0, 1.0, 2.5, 4.0))
        colour = RED if red else canvas.pick((OLD, YOUNG, rgb(1.3, 0.9, 0.6), rgb(0.7, 0.9, 1.4)))
        light = np.minimum(sersic(u, v, index, radius), 6) * brightness * rng.uniform(0.15, 1)
        image[box] += light[..., None] * colour
    return image


def _spiral_light(canvas, *, barred, centre=(0.0, 0.0), scale=None, axis_ratio=None):
    rng = canvas.rng
    if scale is None:
        reach = canvas.pick(((0.22, 0.5), (0.3, 1.3), (1.2, 2.4)), (0.45, 0.43, 0.12))
        scale = canvas.log_uniform(*reach)
        if scale > 1.2:
            # A nearby galaxy overfills the frame, which need not hold its nucleus.
            centre = rng.normal(0, 0.25 * scale, 2)
    axis_ratio = axis_ratio or rng.uniform(0.4, 1)
    x, y = canvas.frame(centre=centre, axis_ratio=axis_ratio, scale=scale)
    radius = np.hypot(x, y) + 1e-3
    theta = np.arctan2(y, x)
    arms = canvas.pick((2, 2, 2, 3, 4))
    pitch = np.deg2rad(rng.uniform(8, 38))
    winding = canvas.pick((-1, 1))
    flocculent = canvas.chance(0.3)
    contrast = rng.uniform(0.2, 0.5) if flocculent else rng.uniform(0.6, 1.0)
    inner = 0.32 if barred else 0.12
    # A logarithmic spiral, disturbed by noise.
    phase = arms * (theta - winding * np.log(radius / inner) / np.tan(pitch)) + rng.uniform(0, 6)
    phase = phase + (1.2 if flocculent else 0.5) * canvas.noise(3)
    sharp = rng.uniform(1.5, 5)
    arm = np.exp(sharp * (np.cos(phase) - 1))
    arm = np.where(radius < inner, arm * np.exp(-(((inner - radius) / (0.3 * inner)) ** 2)), arm)
    disk = np.exp(-radius / rng.uniform(0.28, 0.42)) * np.exp(-np.maximum(radius - 1, 0) * 4)
    grain = canvas.noise(2.5)
    clumps = np.exp(0.8 * grain * (1.5 if flocculent else 1))
    lanes = np.exp(2 * sharp * (np.cos(phase + 0.8) - 1)) * (radius > inner * 0.6)
    dust = np.exp(-rng.uniform(0.3, 1.4) * lanes * np.clip(1 + 0.5 * canvas.noise(2.5), 0, 3))
    infrared = scale > 0.3 and canvas.chance(0.2)
    old, young, knots = canvas.pick(PALETTES[4:] if infrared else PALETTES)
    if infrared:
        # Dust glows instead of absorbing: a web of filaments and bubbles along the arms.
        web = np.maximum(canvas.warp(canvas.ridges(2.2, 6), 3),
                         canvas.warp(canvas.ridges(2.0, 6), 3))
        clumps, dust = clumps * 3 * web**1.5, np.ones_like(dust)
    image = (disk * (1 - contrast * 0.8))[..., None] * old * 0.8
    image += (disk * contrast * arm * clumps * 1.8)[..., None] * young
    image += (disk * arm * np.clip(grain - 1.1, 0, 3) * rng.uniform(0, 3))[..., None] * knots
    image *= dust[..., None] ** rgb(0.7, 1, 1.3)
    round_y = y * axis_ratio if canvas.chance(0.5) else y
    bulge = np.minimum(sersic(x, round_y, rng.uniform(1, 3), rng.uniform(0.05, 0.14)), 5)
    prominence = rng.uniform(0.5, 4)
    image += (prominence * bulge)[..., None] * old
    if barred:
        turn = rng.uniform(0, np.pi)
        along = x * np.cos(turn) + y * np.sin(turn)
        across = -x * np.sin(turn) + y * np.cos(turn)
        bar = np.exp(-((along / inner / 0.95) ** 4)) * np.exp(-((across / (inner * 0.28)) ** 2))
        image += (rng.uniform(0.6, 1.6) * bar)[..., None] * old
    attributes = {
        'arms': 'tight' if pitch < np.deg2rad(16) else 'loose' if pitch > np.deg2rad(26) else '',
        'flocculent': flocculent,
        'n_arms': arms if scale > 0.4 and not flocculent else 0,
        'barred': barred,
        'bulge': 'large' if prominence > 2.8 else 'small' if prominence < 1.2 else '',
        'close': scale > 1.2,
        'face_on': axis_ratio > 0.8,
        'inclined': axis_ratio < 0.55,
        'small': scale < 0.45,
        'infrared': infrared,
    }
    return image, attributes


def spiral(canvas):
    """Paint an unbarred spiral galaxy."""
    return _spiral_light(canvas, barred=False)


def barred_spiral(canvas):
    """Paint a barred spiral galaxy."""
    return _spiral_light(canvas, barred=True)


def elliptical(canvas, centre=(0.0, 0.0)):
    """Paint an elliptical galaxy with a few neighbours."""
    rng = canvas.rng
    ratio = rng.uniform(0.5, 1)
    x, y = canvas.frame(centre=centre, axis_ratio=ratio)
    radius = canvas.log_uniform(0.06, 0.16) if canvas.chance(0.5) else canvas.log_uniform(0.1, 0.45)
    light = np.minimum(sersic(x, y, rng.uniform(2.5, 5.5), radius), 40)
    colour = canvas.pick((OLD, OLD, RED, rgb(1.25, 1.0, 0.55), rgb(1.0, 1.0, 0.95)))
    image = (rng.uniform(0.3, 1.2) * light)[..., None] * colour
    image += faint_galaxies(canvas, rng.integers(0, 8), smallest=0.01, largest=0.04)
    return image, {'round': ratio > 0.85, 'elongated': ratio < 0.65, 'small': radius < 0.15}


def lenticular(canvas):
    """Paint a lenticular (S0) galaxy: a smooth disk with a bulge and a lens."""
    rng = canvas.rng
    ratio, angle = rng.uniform(0.28, 0.65), rng.uniform(0, np.pi)
    scale = canvas.log_uniform(0.2, 1.1)
    x, y = canvas.frame(angle=angle, axis_ratio=ratio, scale=scale)
    radius = np.hypot(x, y)
    edge_radius = rng.uniform(0.4, 0.7)
    disk = np.exp(-radius / 0.3) * 0.8
    disk += 0.25 / (1 + np.exp(np.clip((radius - edge_radius) * 22, -30, 30)))
    u, v = canvas.frame(angle=angle, axis_ratio=min(1, ratio + 0.3), scale=scale)
    bulge = rng.uniform(1, 3) * np.minimum(sersic(u, v, 2.5, 0.12), 8)
    image = (disk + bulge)[..., None] * canvas.pick((OLD, RED, rgb(1.0, 1.0, 0.95)))
    image += faint_galaxies(canvas, rng.integers(0, 5), smallest=0.01, largest=0.03)
    return image, {'small': scale < 0.45}


def edge_on(canvas):
    """Paint a disk galaxy seen edge-on, with or without a dust lane."""
    rng = canvas.rng
    scale = canvas.log_uniform(0.25, 0.55) if canvas.chance(0.4) else canvas.log_uniform(0.35, 1.5)
    x, y = canvas.frame(centre=rng.uniform(-0.1, 0.1, 2), scale=scale)
    height = rng.uniform(0.03, 0.075)
    y = y + rng.uniform(-0.08, 0.08) * x**3
    disk = np.exp(-np.abs(x) / rng.uniform(0.25, 0.4))
    disk *= np.exp(-np.maximum(np.abs(x) - 0.85, 0) * 8)
    disk /= np.cosh(np.clip(y / height, -30, 30)) ** 2
    bulge_strength = rng.uniform(0.1, 2.5)
    bulge = np.minimum(sersic(x, y / rng.uniform(0.55, 0.9), 1.8, rng.uniform(0.05, 0.13)), 5)
    image = disk[..., None] * canvas.pick((OLD * 0.7 + YOUNG * 0.5, OLD * 1.2, YOUNG * 1.1))
    image += (bulge_strength * bulge)[..., None] * OLD
    # A lane thinner than a pixel cannot be seen, so it must not be named.
    dust = canvas.chance(0.7) and scale > 0.35
    if dust:
        offset = rng.uniform(-0.3, 0.3) * height
        lane = np.exp(-(((y - offset) / (height * rng.uniform(0.25, 0.5))) ** 2))
        lane *= np.exp(-((x / 0.75) ** 4))
        lane *= np.clip(1 + 0.6 * canvas.warp(canvas.noise(2.5)), 0.1, 3)
        image *= np.exp(-rng.uniform(1.2, 3.5) * lane[..., None] * rgb(0.8, 1, 1.25))
    return image, {'dust_lane': dust, 'bulge': bulge_strength > 1.2, 'small': scale < 0.45,
                   'thin': height < 0.045 and bulge_strength < 0.7}


def irregular(canvas):
    """Paint a dwarf irregular galaxy with star-forming clumps."""
    rng = canvas.rng
    scale = canvas.log_uniform(0.18, 0.8)
    centre = rng.normal(0, 0.06, 2)
    x, y = canvas.frame(centre=centre, axis_ratio=rng.uniform(0.5, 1), scale=scale)
    bend = 0.18
    radius = np.hypot(x + bend * canvas.noise(3.5), y + bend * canvas.noise(3.5))
    body = np.exp(-((radius / 0.6) ** 1.5)) * np.exp(0.9 * canvas.noise(2.5))
    image = body[..., None] * canvas.pick((YOUNG * 0.6, YOUNG * 0.4 + OLD * 0.25))
    for _ in range(rng.integers(3, 14)):
        spot = centre + rng.normal(0, 0.35 * scale, 2)
        glow = rng.uniform(0.2, 1.2) * canvas.gaussian(spot, scale * rng.uniform(0.02, 0.09))
        image += glow[..., None] * (YOUNG if canvas.chance(0.6) else HALPHA)
    if scale > 0.4:
        n = rng.integers(50, 400)
        x, y = centre[:, None] + rng.normal(0, 0.3 * scale, (2, n))
        image += point_sources(canvas, x, y, rng.exponential(0.15, n), rng.uniform(4e3, 2e4, n),
                               psf='gaussian')
    return image, {'small': scale < 0.4}


def _tidal_tail(canvas, start, heading, size):
    """Return one curved tail that widens, fades and frays away from ``start``."""
    rng = canvas.rng
    s = np.linspace(0, 1, 30)
    angle = heading + canvas.pick((-1, 1)) * s * rng.uniform(0.6, 2.6)
    reach = size * (0.1 + rng.uniform(0.4, 1.0) * s ** rng.uniform(0.7, 1.2))
    tx, ty = start[0] + reach * np.cos(angle), start[1] + reach * np.sin(angle)
    width = size * rng.uniform(0.02, 0.06)
    tail = canvas.blank(channels=0)
    for x, y, t in zip(tx, ty, s, strict=True):
        tail = np.maximum(tail, canvas.gaussian((x, y), width * (1 + 1.6 * t)) * (1 - 0.8 * t))
    return canvas.warp(tail, 2.5, 3.5) * np.exp(0.3 * canvas.noise(2.8))


def merger(canvas):
    """Paint two interacting galaxies, some with tidal tails or a bridge, some almost one."""
    rng = canvas.rng
    size = canvas.log_uniform(0.2, 0.55) if canvas.chance(0.45) else canvas.log_uniform(0.5, 1.3)
    stage = canvas.pick(('pair', 'contact', 'coalescing'))
    span = {'pair': (0.3, 0.5), 'contact': (0.16, 0.3), 'coalescing': (0.04, 0.14)}[stage]
    distance, heading = size * rng.uniform(*span), rng.uniform(0, 2 * np.pi)
    first = distance * np.array([np.cos(heading), np.sin(heading)])
    second = -first * rng.uniform(0.6, 1)
    galaxies, spirals = [], 0
    for centre in (first, second):
        if canvas.chance(0.55):
            light, _ = _spiral_light(canvas, barred=canvas.chance(0.2), centre=centre,
                                     scale=size * rng.uniform(0.22, 0.42),
                                     axis_ratio=rng.uniform(0.3, 1))
            spirals += 1
        else:
            x, y = canvas.frame(centre=centre, axis_ratio=rng.uniform(0.5, 1))
            light = np.minimum(sersic(x, y, 2.5, size * rng.uniform(0.05, 0.12)), 6)[..., None]
            light = light * OLD * rng.uniform(0.2, 0.6)
        galaxies.append(light * rng.uniform(0.4, 1))
    image = canvas.warp(galaxies[0] + galaxies[1], rng.uniform(0.5, 4.5), 4.0)
    for centre in (first, second):
        # Nuclei stay sharp however disturbed the disks are.
        core = canvas.gaussian(centre, size * rng.uniform(0.015, 0.035))
        image += (rng.uniform(0.4, 2.5) * core)[..., None] * OLD
    halo = np.hypot(*canvas.frame(angle=heading, axis_ratio=rng.uniform(0.5, 0.9),
                                  scale=size * rng.uniform(0.35, 0.6)))
    image += (rng.uniform(0.05, 0.3) * np.exp(-(halo**1.2)) * np.exp(0.3 * canvas.noise(3.5)))[
        ..., None] * OLD
    tails = int(rng.integers(0, 4))
    for i in range(tails):
        tail = _tidal_tail(canvas, (first, second)[i % 2], heading + np.pi * i + rng.normal(0, 0.4),
                           size)
        image += (rng.uniform(0.08, 0.35) * tail)[..., None] * canvas.pick((YOUNG, OLD, YOUNG))
    bridge = stage == 'pair' and canvas.chance(0.5)
    if bridge:
        x, y = canvas.frame(angle=heading)
        band = np.exp(-((y / (0.05 * size)) ** 2)) * np.exp(-((x / (distance + 0.05)) ** 4))
        image += (rng.uniform(0.1, 0.3) * canvas.warp(band, 3, 3.5))[..., None] * YOUNG
    if canvas.chance(0.5):
        image *= np.exp(-rng.uniform(0.5, 2) * np.clip(canvas.warp(canvas.noise(3)) - 0.6, 0, 2))[
            ..., None] ** rgb(0.7, 1, 1.3)
    # Features finer than the seeing cannot be named.
    large = size > 0.5
    return image, {'tails': large and tails > 0, 'bridge': large and bridge, 'small': size < 0.4,
                   'stage': stage, 'spirals': large and spirals == 2}


def galaxy_group(canvas):
    """Paint a compact group: three to six galaxies of comparable size, some of them spirals."""
    rng = canvas.rng
    image = faint_galaxies(canvas, rng.integers(4, 40), smallest=0.004, largest=0.014,
                           brightness=0.4)
    count = int(rng.integers(3, 7))
    reach = canvas.log_uniform(0.2, 0.6)
    for i in range(count):
        heading = 2 * np.pi * i / count + rng.normal(0, 0.5)
        centre = reach * rng.uniform(0.3, 1.1) * np.array([np.cos(heading), np.sin(heading)])
        size = canvas.log_uniform(0.1, 0.24)
        if canvas.chance(0.5):
            light, _ = _spiral_light(canvas, barred=canvas.chance(0.3), centre=centre, scale=size)
        else:
            x, y = canvas.frame(centre=centre, axis_ratio=rng.uniform(0.4, 1))
            light = np.minimum(sersic(x, y, 3, size * 0.4), 7)[..., None] * OLD * 0.4
        image += light * rng.uniform(0.3, 1)
    halo = canvas.chance(0.3)
    if halo:
        glow = np.exp(-((np.hypot(canvas.x, canvas.y) / reach) ** 2)) * np.exp(
            0.4 * canvas.noise(3.5))
        image += (rng.uniform(0.03, 0.1) * glow)[..., None] * OLD
    return image, {'members': count, 'halo': halo}


def ring_galaxy(canvas):
    """Paint a ring galaxy."""
    rng = canvas.rng
    scale = canvas.log_uniform(0.25, 0.9)
    x, y = canvas.frame(axis_ratio=rng.uniform(0.5, 1), scale=scale)
    radius, theta = np.hypot(x, y), np.arctan2(y, x)
    width = rng.uniform(0.05, 0.14)
    ring = np.exp(-(((radius - 0.8 - 0.04 * np.cos(theta * 2 + 1)) / width) ** 2))
    ring *= np.exp(0.7 * canvas.noise(2.0) * rng.uniform(0.2, 1))
    ring *= 1 + rng.uniform(0, 0.6) * np.cos(theta - rng.uniform(0, 6))
    image = ring[..., None] * canvas.pick((YOUNG, YOUNG, rgb(0.9, 0.9, 1.0))) * 0.9
    core = np.minimum(sersic(x - rng.uniform(-0.2, 0.2), y, 2.5, rng.uniform(0.08, 0.18)), 6)
    image += (rng.uniform(1, 3) * core + 0.12 * np.exp(-radius / 0.5))[..., None] * OLD
    spokes = canvas.chance(0.2)
    if spokes:
        pattern = np.clip(np.cos(theta * rng.integers(7, 13) + 2 * canvas.noise(3)), 0, 1)
        image += (0.15 * pattern * (radius < 0.8))[..., None] * YOUNG
    image += faint_galaxies(canvas, rng.integers(0, 4), smallest=0.02, largest=0.06)
    return image, {'spokes': spokes}


def _lensed_arc(canvas, radius, centre):
    rng = canvas.rng
    phase, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5)
    x, y = canvas.x - centre[0], canvas.y - centre[1]
    r, theta = np.hypot(x, y), np.arctan2(y, x)
    along = (theta - phase + np.pi) % (2 * np.pi) - np.pi
    arc = np.exp(-(((r - radius - 0.1 * along**2) / rng.uniform(0.005, 0.012)) ** 2))
    arc *= rng.uniform(0.15, 0.7) * np.exp(-((along / length) ** 4))
    colour = rgb(0.62, 0.95, 1.5) if canvas.chance(0.8) else rgb(1.4, 0.8, 0.4)
    return arc[..., None] * colour


def galaxy_cluster(canvas):
    """Paint a galaxy cluster around a giant elliptical, some with lensed arcs."""
    rng = canvas.rng
    # The farther the cluster, the smaller its members and the more of them are in the frame.
    near = canvas.chance(0.4)
    largest = canvas.log_uniform(0.03, 0.055) if near else canvas.log_uniform(0.012, 0.026)
    centre = rng.normal(0, 0.15, 2)
    image = faint_galaxies(canvas, rng.integers(12, 45) if near else rng.integers(40, 130),
                           smallest=0.005, largest=largest, spread=rng.uniform(0.3, 0.7), red=True,
                           centre=centre, brightness=0.7)
    image += faint_galaxies(canvas, rng.integers(20, 140), smallest=0.003, largest=0.012,
                            brightness=0.4)
    image += star_field(canvas, rng.integers(0, 25), slope=1.0, low=0.05, high=2.0,
                        psf=canvas.pick(('point', 'gaussian', 'spikes4', 'spikes6')))
    x, y = canvas.frame(centre=centre, axis_ratio=rng.uniform(0.5, 0.9))
    giant = np.minimum(sersic(x, y, 3.5, largest * rng.uniform(1.2, 3)), 6)
    image += (rng.uniform(0.2, 0.8) * giant)[..., None] * OLD
    halo = np.exp(-((np.hypot(x, y) / rng.uniform(0.2, 0.5)) ** 1.2))
    image += (rng.uniform(0, 0.12) * halo)[..., None] * OLD
    arcs = canvas.chance(0.4)
    if arcs:
        for _ in range(rng.integers(1, 7)):
            image += _lensed_arc(canvas, rng.uniform(0.12, 0.5), centre)
    gas = canvas.chance(0.16)
    if gas:
        # Composite with hot gas (X-rays) and a mass map, as in press images.
        for colour in (rgb(1.3, 0.4, 0.7), rgb(0.35, 0.4, 1.5)):
            spot = rng.normal(0, 0.25, 2)
            cloud = canvas.gaussian(spot, rng.uniform(0.15, 0.35)) * np.exp(0.3 * canvas.noise(3.5))
            image += (rng.uniform(0.15, 0.4) * cloud)[..., None] * colour
    return image, {'arcs': arcs, 'gas': gas, 'distant': not near}


def lens(canvas):
    """Paint a galaxy-scale strong lens: a singular isothermal ellipsoid with shear.

    Deflection angles after Kormann, Schneider and Bartelmann (1994).
    """
    rng = canvas.rng
    einstein_radius, q = canvas.log_uniform(0.08, 0.5), rng.uniform(0.6, 0.97)
    x, y = canvas.frame()
    shear = rng.uniform(0, 0.12)
    psi = np.sqrt(q * q * x * x + y * y) + 1e-4
    f = np.sqrt(1 - q * q)
    deflect_x = einstein_radius * np.sqrt(q) / f * np.arctan(f * x / psi)
    deflect_y = einstein_radius * np.sqrt(q) / f * np.arctanh(np.clip(f * y / psi, -0.999, 0.999))
    source_x, source_y = x - deflect_x - shear * x, y - deflect_y + shear * y
    ring = canvas.chance(0.4)
    offset = einstein_radius * (rng.uniform(0, 0.08) if ring else rng.uniform(0.2, 0.55))
    heading = rng.uniform(0, 2 * np.pi)
    colour = canvas.pick((rgb(0.6, 0.9, 1.4), rgb(1.4, 0.8, 0.5), rgb(0.8, 1, 1)))
    quad = not ring and canvas.chance(0.25)
    image = canvas.blank()
    for k in range(1 if quad else rng.integers(1, 4)):
        jitter = rng.normal(0, 0.05 * einstein_radius, 2) * (k > 0)
        sx, sy = offset * np.cos(heading) + jitter[0], offset * np.sin(heading) + jitter[1]
        width = einstein_radius * (0.06 if quad else rng.uniform(0.05, 0.16))
        light = np.exp(-((source_x - sx) ** 2 + (source_y - sy) ** 2) / 2 / width**2)
        image += (rng.uniform(0.5, 1.2) * light)[..., None] * colour
    galaxy = np.minimum(sersic(x, y / q, 4, einstein_radius * rng.uniform(0.15, 0.4)), 6)
    image += (rng.uniform(0.3, 2) * galaxy)[..., None] * RED
    image += faint_galaxies(canvas, rng.integers(3, 20), smallest=0.008, largest=0.03,
                            brightness=0.5)
    return image, {'ring': ring, 'images': quad, 'small': einstein_radius < 0.16,
                   'blue': not quad and bool(colour[2] > 1.2)}


def deep_field(canvas):
    """Paint many small distant galaxies."""
    rng = canvas.rng
    image = faint_galaxies(canvas, rng.integers(120, 340), smallest=0.004,
                           largest=canvas.log_uniform(0.01, 0.032), brightness=0.9)
    return image + star_field(canvas, rng.integers(0, 12), slope=1.0, low=0.05, high=3.0), {}


def quasar(canvas):
    """Paint a quasar: a bright point, sometimes with its host galaxy."""
    rng = canvas.rng
    psf = canvas.pick(('spikes4', 'spikes6', 'moffat'), (0.45, 0.25, 0.3))
    centre = rng.normal(0, 0.05, 2)
    image = point_sources(canvas, centre[0], centre[1], rng.uniform(4, 40),
                          rng.uniform(7000, 15000), psf=psf)
    host = canvas.chance(0.5)
    if host:
        x, y = canvas.frame(centre=centre, axis_ratio=rng.uniform(0.5, 1))
        light = np.minimum(sersic(x, y, 1.5, rng.uniform(0.08, 0.25)), 5)
        image += (rng.uniform(0.1, 0.4) * light)[..., None] * OLD
    image += faint_galaxies(canvas, rng.integers(2, 20), smallest=0.008, largest=0.03,
                            brightness=0.4)
    image += star_field(canvas, rng.integers(0, 12), slope=1.0, high=0.6)
    return image, {'host': host, 'spikes': psf != 'moffat'}


def _radio_source(canvas, fr1):
    """Return a double radio source, the frame it fills and what it looks like."""
    rng = canvas.rng
    compact = canvas.chance(0.6)
    scale = canvas.log_uniform(0.05, 0.22) if compact else canvas.log_uniform(0.22, 1.0)
    x, y = canvas.frame(centre=rng.normal(0, 0.02 if compact else 0.08, 2), scale=scale)
    bent = canvas.chance(0.4 if fr1 else 0.12)
    bend = rng.choice([-1, 1]) * (rng.uniform(0.3, 0.9) if bent else rng.uniform(0, 0.12))
    y = y - bend * np.abs(x) ** 1.6
    if fr1:
        core = rng.uniform(0.5, 2)
        image = core * np.exp(-(x**2 + y**2) / 2 / 0.05**2)
        one_sided = canvas.chance(0.2)
        fade = rng.uniform(0.3, 0.6)
        for side in (1, -1):
            away = np.clip(x * side, 0, 3)
            width = 0.05 + rng.uniform(0.1, 0.3) * away
            plume = np.exp(-((y / width) ** 2)) * np.exp(-away / fade) * (away > 0)
            strength = rng.uniform(0.5, 1) * (0.15 if one_sided and side < 0 else 1)
            image = image + strength * plume * np.exp(0.35 * canvas.noise(3))
    else:
        one_sided = False
        core = canvas.chance(0.4) * rng.uniform(0, 0.6)
        image = core * np.exp(-(x**2 + y**2) / 2 / 0.04**2)
        ratio = canvas.log_uniform(0.35, 1)
        for side, strength in ((1, 1.0), (-1, ratio)):
            away = np.clip(x * side, 0, 3)
            where = rng.uniform(0.75, 1.0)
            back = np.exp(-(((x * side - where + 0.22) / 0.25) ** 2) - (y / 0.16) ** 2)
            hotspot = np.exp(-((x * side - where) ** 2 + y**2) / 2 / 0.08**2)
            jet = np.exp(-((y / 0.03) ** 2)) * ((away > 0) & (away < 0.8))
            image = image + strength * (
                rng.uniform(0.1, 0.6) * back * np.exp(0.5 * canvas.noise(2.8))
                + rng.uniform(0.9, 2.5) * hotspot + canvas.chance(0.3) * rng.uniform(0, 0.2) * jet)
    attributes = {'class': 'FR I' if fr1 else 'FR II', 'bent': bent, 'compact': compact,
                  'one_sided': one_sided, 'core': core > (1.2 if fr1 else 0.25)}
    return image, scale, attributes


def _radio_picture(canvas, fr1):
    rng = canvas.rng
    image, scale, attributes = _radio_source(canvas, fr1)
    for _ in range(rng.poisson(0.6)):
        # Unrelated sources of the survey.
        image = image + rng.uniform(0.1, 1) * canvas.gaussian(rng.uniform(-1, 1, 2), 0.012)
    # The beam is a few pixels wide.
    image = canvas.blur(image, rng.uniform(0.5, 1.6))
    overlay = scale > 0.5 and canvas.chance(0.25)
    picture = image[..., None] * canvas.pick((rgb(1.3, 0.6, 0.4), rgb(0.6, 0.6, 1.4)))
    if overlay:
        # Radio lobes over an optical field, as in press images.
        u, v = canvas.frame(axis_ratio=0.8)
        picture += np.minimum(sersic(u, v, 3.5, 0.06), 10)[..., None] * OLD * 0.3
        picture += faint_galaxies(canvas, 12) + star_field(canvas, 30)
    return picture, attributes | {'overlay': overlay, 'mono': not overlay}


def radio_galaxy(canvas):
    """Paint an edge-brightened double radio source: Fanaroff-Riley class II (1974)."""
    return _radio_picture(canvas, False)


def fading_radio_galaxy(canvas):
    """Paint a radio source that fades away from its core: Fanaroff-Riley class I (1974)."""
    return _radio_picture(canvas, True)


def supernova(canvas):
    """Paint a spiral galaxy with a new bright point in its disk."""
    rng = canvas.rng
    scale = rng.uniform(0.35, 1.0)
    image, _ = _spiral_light(canvas, barred=canvas.chance(0.3), scale=scale)
    distance, heading = scale * rng.uniform(0.2, 0.6), rng.uniform(0, 2 * np.pi)
    image += point_sources(canvas, distance * np.cos(heading), distance * np.sin(heading),
                           rng.uniform(2, 8), rng.uniform(7000, 14000))
    return image, {}
