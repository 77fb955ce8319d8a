"""Pictures that archives carry besides the sky: charts, people, machines, landscapes."""

import numpy as np
from PIL import Image, ImageDraw

from .fields import edge, rgb
from .optics import star_field
from .solar import cratered

__all__ = ['diagram', 'finder_chart', 'launch', 'observatory', 'people', 'planet_surface',
           'spacecraft']


def _drawn(canvas, draw_on, background=None):
    """Draw with PIL on a picture of the canvas, twice as large so that edges are smooth."""
    side = canvas.side
    picture = canvas.blank() if background is None else np.clip(background, 0, 1)
    image = Image.fromarray((picture * 255).astype(np.uint8)).resize((2 * side, 2 * side))
    draw_on(ImageDraw.Draw(image), 2 * side)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32) / 255


def _colour(rng, low, high):
    return tuple(int(v) for v in rng.integers(low, high, 3))


def _scribble(draw, rng, x, y, size, ink, *, letters=8):
    draw.text((x, y), ''.join(rng.choice(list('abcdeghilmnoprstu  '), letters)), fill=ink,
              font_size=max(8, size))


def finder_chart(canvas):
    """Paint a chart of a star field with marks, a frame and numbers."""
    rng = canvas.rng
    inverted = canvas.chance(0.7)
    psf = canvas.pick(('gaussian', 'moffat', 'point'))
    field = star_field(canvas, rng.integers(30, 500), slope=1.0, low=0.05, high=4, psf=psf)
    level = np.clip(field.mean(-1, keepdims=True) * rng.uniform(0.5, 2), 0, 1)
    level = np.clip(level + rng.normal(0, rng.uniform(0, 0.06), level.shape), 0, 1)
    background = np.repeat(1 - level if inverted else level, 3, axis=-1)
    ink = _colour(rng, 0, 90) if inverted else _colour(rng, 170, 256)
    mark = ink if canvas.chance(0.4) else canvas.pick(((220, 30, 30), (30, 140, 40), (40, 90, 230)))

    def draw_on(draw, side):
        x, y = rng.normal(0.5, 0.04, 2) * side
        r = rng.uniform(0.03, 0.1) * side
        if canvas.chance(0.5):
            draw.ellipse((x - r, y - r, x + r, y + r), outline=mark, width=3)
        else:
            draw.line((x + r / 2, y, x + 2 * r, y), fill=mark, width=3)
            draw.line((x, y - 2 * r, x, y - r / 2), fill=mark, width=3)
        for _ in range(rng.integers(0, 8)):
            a, b = rng.uniform(0.12, 0.85, 2) * side
            draw.ellipse((a - 9, b - 9, a + 9, b + 9), outline=mark, width=2)
            _scribble(draw, rng, a + 10, b - 8, 14, mark, letters=3)
        margin = rng.uniform(0.04, 0.12) * side
        draw.rectangle((margin, margin, side - margin, side - margin), outline=ink, width=2)
        _scribble(draw, rng, margin + 6, 4, int(margin * 0.7), ink, letters=14)
        draw.line((side - 4 * margin, side - 2 * margin, side - 2 * margin, side - 2 * margin),
                  fill=ink, width=3)

    return _drawn(canvas, draw_on, background), {'inverted': inverted}


def diagram(canvas):
    """Paint a diagram: orbits around a body, a map of contours, or panels beside each other."""
    rng = canvas.rng
    content = canvas.pick(('orbits', 'contours', 'panels'))
    paper, ink = ((255, 255, 255), (0, 0, 0)) if canvas.chance(0.5) else ((0, 0, 10),
                                                                         (230, 230, 230))
    background = canvas.blank() + rgb(*paper) / 255
    if content == 'panels':
        rows, columns = canvas.pick(((1, 2), (2, 2), (1, 3), (2, 3), (3, 3)))
        for row in range(rows):
            for column in range(columns):
                top, left = row * canvas.side // rows, column * canvas.side // columns
                high, wide = canvas.side // rows - 3, canvas.side // columns - 3
                panel = rng.uniform(0, 1) * canvas.noise(2.5)[:high, :wide]
                spot = np.hypot(canvas.x[:high, :wide] + 1 - wide / canvas.side,
                                canvas.y[:high, :wide] + 1 - high / canvas.side)
                panel = 0.2 + 0.15 * panel + np.exp(-((spot * rng.uniform(3, 8)) ** 2))
                background[top : top + high, left : left + wide] = (
                    np.clip(panel, 0, 1)[..., None] * canvas.pick((
                        rgb(1, 1, 1), rgb(1, 0.6, 0.3), rgb(0.4, 0.7, 1))))
        return background, {'content': content}
    field = canvas.noise(5.0)

    def draw_on(draw, side):
        if content == 'orbits':
            x, y = rng.normal(0.5, 0.05, 2) * side
            flat = rng.uniform(0.3, 1)
            draw.ellipse((x - 8, y - 8, x + 8, y + 8), fill=(250, 200, 60))
            for _ in range(rng.integers(2, 7)):
                r = rng.uniform(0.08, 0.48) * side
                colour = _colour(rng, 60, 220)
                draw.ellipse((x - r, y - r * flat, x + r, y + r * flat), outline=colour, width=3)
                turn = rng.uniform(0, 2 * np.pi)
                a, b = x + r * np.cos(turn), y + r * flat * np.sin(turn)
                draw.ellipse((a - 6, b - 6, a + 6, b + 6), fill=colour)
                _scribble(draw, rng, a + 8, b, 15, ink, letters=6)
        for _ in range(rng.integers(1, 5)):
            _scribble(draw, rng, *(rng.uniform(0.02, 0.7, 2) * side), 16, ink,
                      letters=int(rng.integers(5, 16)))

    if content == 'contours':
        levels = np.linspace(-1.5, 2, rng.integers(5, 10))
        bands = np.digitize(field, levels)
        lines = (bands != np.roll(bands, 1, 0)) | (bands != np.roll(bands, 1, 1))
        background = np.where(lines[..., None], rgb(*ink) / 255, background)
    return _drawn(canvas, draw_on, background), {'content': content}


def _sky(canvas):
    """Return an evening, day or night sky, darker upwards."""
    high, low = canvas.pick(((rgb(0.25, 0.5, 0.85), rgb(0.7, 0.85, 0.95)),
                             (rgb(0.05, 0.08, 0.25), rgb(0.8, 0.45, 0.25)),
                             (rgb(0.01, 0.01, 0.05), rgb(0.06, 0.08, 0.15)),
                             (rgb(0.5, 0.55, 0.6), rgb(0.8, 0.8, 0.8))))
    depth = np.clip((canvas.y + 1) / 2, 0, 1)[..., None]
    clouds = np.clip(canvas.warp(canvas.noise(3)) - canvas.rng.uniform(0, 1.5), 0, 2)
    return high * (1 - depth) + low * depth + 0.12 * clouds[..., None]


def launch(canvas):
    """Paint a rocket that rises on flame and smoke, or its trail at dusk."""
    rng = canvas.rng
    x, base = rng.uniform(-0.3, 0.3), rng.uniform(-0.1, 0.4)
    image = _sky(canvas)
    smoke = np.clip(canvas.warp(canvas.noise(2.8)) * 0.35 + 0.7, 0, 1)
    below = np.clip(canvas.y - base, 0, 2)
    plume = np.exp(-(((canvas.x - x) / (0.05 + rng.uniform(0.1, 0.6) * below)) ** 2))
    plume = plume * (canvas.y > base)
    image = image * (1 - plume[..., None]) + (plume * smoke)[..., None] * rgb(0.95, 0.9, 0.85)
    flame = np.exp(-(((canvas.x - x) / 0.04) ** 2)) * np.exp(-below / 0.12) * (canvas.y > base)
    image += 1.5 * flame[..., None] * rgb(1.2, 0.8, 0.3)
    width, height = rng.uniform(0.02, 0.05), rng.uniform(0.3, 0.7)
    body = canvas.pick(((235, 235, 235), (225, 130, 60), (60, 60, 70)))

    def draw_on(draw, side):
        left, right = ((x + s * width + 1) / 2 * side for s in (-1, 1))
        top, bottom = ((v + 1) / 2 * side for v in (base - height, base))
        nose = (x + 1) / 2 * side
        draw.polygon(((left, bottom), (left, top), (nose, top - 2 * width * side), (right, top),
                      (right, bottom)), fill=body)
        if canvas.chance(0.5):
            for s in (-1, 1):
                edge_x = nose + s * width * side * 0.9
                draw.rectangle((edge_x - 4, top + 0.08 * side, edge_x + 4, bottom), fill=(240,) * 3)
        if canvas.chance(0.4):
            tower = nose + rng.choice([-1, 1]) * 0.12 * side
            draw.rectangle((tower - 3, top, tower + 3, side), fill=(110, 100, 100))
        draw.rectangle((0, 0.93 * side, side, side), fill=_colour(rng, 20, 110))

    return _drawn(canvas, draw_on, image), {}


def people(canvas):
    """Paint people: portraits or groups indoors, or astronauts in white suits."""
    rng = canvas.rng
    astronaut = canvas.chance(0.5)
    space = astronaut and canvas.chance(0.6)
    if space:
        image = canvas.blank() + 0.02
        arc = edge(np.hypot(canvas.x, canvas.y - 2) - rng.uniform(1.4, 2.2), 0.01)[..., None]
        ground = canvas.pick((rgb(0.3, 0.5, 0.8), rgb(0.45, 0.45, 0.44)))
        image = image + arc * ground * np.exp(0.3 * canvas.noise(3))[..., None]
    else:
        image = canvas.blank() + _wall(canvas)
    count = int(canvas.pick((1, 1, 2, 3, 6)))

    def draw_on(draw, side):
        for i in range(count):
            size = side * rng.uniform(0.9, 1.2) * (0.28 if count == 1 else 0.5 / (count + 1))
            x = side * (i + 0.5) / count + rng.normal(0, 0.03) * side
            y = side * rng.uniform(0.3, 0.5)
            suit = (225, 225, 228) if astronaut else _colour(rng, 15, 190)
            skin = canvas.pick(((236, 188, 160), (198, 140, 105), (120, 78, 56)))
            draw.rounded_rectangle((x - size, y + 0.5 * size, x + size, y + 3.2 * size),
                                   int(size * 0.6), fill=suit)
            for s in (-1, 1):
                draw.line((x + s * 0.9 * size, y + 0.9 * size, x + s * rng.uniform(0.8, 1.8) * size,
                           y + rng.uniform(1.6, 2.6) * size), fill=suit, width=int(0.5 * size))
            draw.ellipse((x - 0.6 * size, y - 0.75 * size, x + 0.6 * size, y + 0.75 * size),
                         fill=suit if astronaut else _colour(rng, 10, 110))
            face = (60, 50, 35) if astronaut and canvas.chance(0.7) else skin
            draw.ellipse((x - 0.45 * size, y - 0.5 * size, x + 0.45 * size, y + 0.68 * size),
                         fill=face)
            if not astronaut:
                for s in (-0.2, 0.2):
                    draw.ellipse((x + s * size - 2, y - 2, x + s * size + 2, y + 2), fill=(20,) * 3)
                draw.line((x - 0.15 * size, y + 0.35 * size, x + 0.15 * size, y + 0.35 * size),
                          fill=(120, 50, 50), width=2)

    picture = _drawn(canvas, draw_on, image)
    shade = np.exp(0.15 * canvas.noise(3.0))[..., None]
    grey = canvas.chance(0.25)
    picture = picture.mean(-1, keepdims=True) * np.ones(3, np.float32) if grey else picture
    return picture * shade, {'astronaut': astronaut}


def _wall(canvas):
    """Return a room: two tones, some boxes."""
    rng = canvas.rng
    image = canvas.blank() + rng.uniform(0.2, 0.8, 3).astype(np.float32)
    for _ in range(rng.integers(1, 8)):
        left, top = rng.integers(0, canvas.side, 2)
        wide, high = rng.integers(canvas.side // 12, canvas.side // 2, 2)
        image[top : top + high, left : left + wide] = rng.uniform(0.1, 0.9, 3)
    return canvas.blur(image, rng.uniform(0.3, 2)) * np.exp(0.1 * canvas.noise(2))[..., None]


def spacecraft(canvas):
    """Paint a spacecraft: solar panels or a dish, in space, above a planet or in a hall."""
    rng = canvas.rng
    place = canvas.pick(('space', 'orbit', 'hall'))
    if place == 'space':
        image = star_field(canvas, rng.integers(5, 150), psf='point')
    elif place == 'orbit':
        image = canvas.blank()
        arc = edge(np.hypot(canvas.x, canvas.y - 2) - rng.uniform(1.2, 2.4), 0.01)[..., None]
        clouds = np.clip(canvas.warp(canvas.noise(2.5), 10), 0, 1)[..., None]
        image = image + arc * (rgb(0.1, 0.3, 0.6) + clouds * 0.7)
    else:
        image = _wall(canvas)
    foil = canvas.pick(((205, 160, 60), (190, 190, 195), (110, 110, 115), (235, 235, 230)))
    heading = rng.uniform(0, 2 * np.pi)
    size = rng.uniform(0.05, 0.16)

    def draw_on(draw, side):
        x, y = rng.uniform(0.35, 0.65, 2) * side
        s = size * side
        along = np.array([np.cos(heading), np.sin(heading)])
        across = np.array([-along[1], along[0]]) * rng.uniform(0.5, 1)

        def quad(u0, u1, v0, v1, fill, outline=None):
            points = [tuple(np.array([x, y]) + s * (u * along + v * across))
                      for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))]
            draw.polygon(points, fill=fill, outline=outline)

        panels = canvas.chance(0.75)
        if panels:
            length, blue = rng.uniform(1.5, 3.5), canvas.pick(((35, 45, 110), (25, 25, 45),
                                                               (150, 100, 50)))
            for sign in (-1, 1):
                for k in range(4):
                    a = sign * (1.2 + k * length / 4)
                    quad(a, a + sign * length / 4, -0.5, 0.5, blue, (140, 140, 150))
        for _ in range(rng.integers(2, 6)):
            a, b = rng.uniform(-1, 0.3, 2)
            shade = rng.uniform(0.5, 1.1)
            quad(a, a + rng.uniform(0.5, 1.3), b, b + rng.uniform(0.5, 1.3),
                 tuple(min(255, int(c * shade)) for c in foil))
        if canvas.chance(0.5):
            cx, cy = np.array([x, y]) + s * across * 1.2
            draw.ellipse((cx - s, cy - 0.6 * s, cx + s, cy + 0.6 * s), fill=(225, 225, 225),
                         outline=(120, 120, 120))
        for _ in range(rng.integers(0, 4)):
            end = np.array([x, y]) + s * rng.normal(0, 2, 2)
            draw.line((x, y, *end), fill=(170, 170, 170), width=2)

    return _drawn(canvas, draw_on, image), {'place': place}


def observatory(canvas):
    """Paint a telescope's building: a dome or radio dishes under the sky."""
    rng = canvas.rng
    dishes = canvas.chance(0.35)
    image = _sky(canvas)
    if canvas.chance(0.4):
        image = rgb(0.01, 0.02, 0.05) + star_field(canvas, 600, psf='point')
    ridge = rng.uniform(0.3, 0.7) + 0.06 * canvas.noise(3.5)[:1]
    ground = edge(ridge - canvas.y, 0.01)[..., None]
    image = image * (1 - ground) + ground * rng.uniform(0.05, 0.5) * canvas.pick(
        (rgb(0.9, 0.7, 0.5), rgb(0.5, 0.7, 0.4), rgb(0.8, 0.8, 0.85)))
    paint = int(rng.integers(120, 256))

    def draw_on(draw, side):
        for _ in range(rng.integers(1, 4) if not dishes else rng.integers(1, 7)):
            x, y = rng.uniform(0.15, 0.85) * side, rng.uniform(0.62, 0.85) * side
            r = side * (rng.uniform(0.04, 0.12) if dishes else rng.uniform(0.08, 0.28))
            if dishes:
                draw.polygon(((x - r / 2, y), (x + r / 2, y), (x, y - r)), fill=(paint // 2,) * 3)
                tilt = rng.uniform(0.35, 0.8)
                draw.ellipse((x - r, y - r - r * tilt, x + r, y - r + r * tilt), fill=(paint,) * 3)
                draw.line((x, y - r, x + 0.3 * r, y - 2 * r), fill=(60,) * 3, width=2)
            else:
                draw.pieslice((x - r, y - r, x + r, y + r), 180, 360, fill=(paint,) * 3)
                draw.rectangle((x - r, y, x + r, y + r * rng.uniform(0.3, 1)),
                               fill=(int(paint * 0.8),) * 3)
                slit = x + rng.uniform(-0.3, 0.3) * r
                draw.rectangle((slit - 0.12 * r, y - 0.95 * r, slit + 0.12 * r, y - 0.1 * r),
                               fill=(30, 30, 40))

    picture = _drawn(canvas, draw_on, image)
    return picture * np.exp(0.1 * canvas.noise(3))[..., None], {'dishes': dishes}


def planet_surface(canvas):
    """Paint a landscape seen from a lander: rocks, dunes and sky of Mars, or the Moon's ground."""
    rng = canvas.rng
    mars = canvas.chance(0.65)
    orbit = canvas.chance(0.35)
    if orbit:
        # Seen from above: craters and dunes without a horizon.
        terrain, _ = cratered(canvas, int(rng.integers(0, 12)), 0.02, 0.25)
        dunes = np.sin(rng.uniform(15, 50) * (canvas.frame()[0] + 0.06 * canvas.noise(3.5)))
        shape = terrain * (1 + rng.uniform(0, 0.3) * dunes)
        tint = rgb(1.0, 0.62, 0.4) if mars else rgb(0.9, 0.9, 0.9)
        tint = tint if canvas.chance(0.6) else rgb(0.8, 0.8, 0.8)
        return shape[..., None] * tint, {'body': 'mars' if mars else 'moon', 'from_orbit': True}
    horizon = rng.uniform(-0.6, 0.1) + 0.05 * canvas.noise(3.5)[:1]
    sky = rgb(0.85, 0.65, 0.48) if mars else rgb(0.01, 0.01, 0.02)
    soil = rgb(0.62, 0.36, 0.2) if mars else rgb(0.45, 0.45, 0.44)
    away = 1 / np.clip(canvas.y - horizon + 0.05, 0.05, 3)
    texture = np.exp(rng.uniform(0.1, 0.3) * canvas.noise(1.8) + 0.2 * canvas.noise(3))
    ground = edge(horizon - canvas.y, 0.008)
    picture = sky * (1 - ground[..., None]) + (ground * texture)[..., None] * soil
    hills = edge(horizon - 0.12 - 0.1 * canvas.noise(3.5)[:1] - canvas.y, 0.01) * (1 - ground)
    picture = picture * (1 - 0.4 * hills[..., None]) + (0.25 * hills)[..., None] * soil
    for _ in range(rng.integers(5, 60)):
        depth = rng.uniform(0, 1) ** 0.5
        a, b = rng.uniform(-1, 1), float(horizon.mean()) + 0.08 + depth
        r = rng.uniform(0.01, 0.08) * (0.2 + depth)
        u, v = (canvas.x - a) / r, (canvas.y - b) / (0.7 * r)
        rock = np.hypot(u, v) < np.exp(0.2 * canvas.noise(3))
        shade = np.clip(0.8 - 0.4 * u - 0.4 * v, 0.2, 1.6)
        shade = shade * rng.uniform(0.7, 1.2)
        picture = np.where(rock[..., None], shade[..., None] * soil, picture)
    return picture * np.clip(1 - 0.01 * away, 0.7, 1)[..., None], {
        'body': 'mars' if mars else 'moon', 'from_orbit': False}
