"""From linear light to a preview: noise, stretch, colours, footprints, overlays, JPEG."""

import io

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, shift

from .fields import rgb
from .optics import star_field

__all__ = ['FAMILIES', 'colour_table', 'develop', 'present']

# Faint sources on a noisy background ('sky', 'galaxy'), light that fills the frame ('nebula'), one
# well-exposed body ('bright'), an interferometer's map ('radio'), a raw frame ('detector'), or a
# picture drawn as it is ('figure').
FAMILIES = ('sky', 'galaxy', 'nebula', 'radio', 'bright', 'detector', 'figure')

# Control points (position, red, green, blue) of the colour maps archives like.
COLOUR_MAPS = (
    ((0, 0.27, 0.0, 0.33), (0.25, 0.23, 0.32, 0.55), (0.5, 0.13, 0.57, 0.55),
     (0.75, 0.37, 0.79, 0.38), (1, 0.99, 0.91, 0.14)),  # viridis
    ((0, 0, 0, 0), (0.25, 0.34, 0.06, 0.43), (0.5, 0.73, 0.21, 0.33), (0.75, 0.98, 0.55, 0.04),
     (1, 0.99, 1, 0.64)),  # inferno
    ((0, 0, 0, 0), (0.25, 0.32, 0.07, 0.48), (0.5, 0.72, 0.21, 0.47), (0.75, 0.99, 0.54, 0.38),
     (1, 0.99, 0.99, 0.75)),  # magma
    ((0, 0.04, 0, 0), (0.37, 1, 0, 0), (0.75, 1, 1, 0), (1, 1, 1, 1)),  # hot
    ((0, 0, 0, 0), (0.5, 1, 0.5, 0), (1, 1, 1, 1)),  # afmhot
    ((0, 0.05, 0.03, 0.53), (0.5, 0.8, 0.28, 0.47), (1, 0.94, 0.98, 0.13)),  # plasma
    ((0, 0, 0, 0.5), (0.12, 0, 0, 1), (0.37, 0, 1, 1), (0.63, 1, 1, 0), (0.88, 1, 0, 0),
     (1, 0.5, 0, 0)),  # jet
    ((0, 0, 0, 0), (0.5, 0.38, 0.5, 0.56), (1, 1, 1, 1)),  # bone
    ((0, 1, 1, 1), (0.5, 0.42, 0.68, 0.84), (1, 0.03, 0.19, 0.42)),  # Blues
    ((0, 0, 0, 0), (1, 1, 0.78, 0.5)),  # copper
    ((0, 0, 0, 0), (0.35, 0, 0.15, 0.6), (0.7, 0.2, 0.7, 0.9), (1, 1, 1, 1)),  # blue heat
)


def colour_table(rng):
    """Return one of the colour maps that archives like: float64 (256, 3), 0 to 1."""
    points = np.array(COLOUR_MAPS[int(rng.choice(len(COLOUR_MAPS)))])
    level = np.linspace(0, 1, 256)
    return np.stack([np.interp(level, points[:, 0], points[:, i]) for i in (1, 2, 3)], axis=1)


def _false_colour(canvas, grey):
    return colour_table(canvas.rng)[np.clip(grey * 255, 0, 255).astype(int)].astype(np.float32)


def _expose(canvas, image, family):
    """Add sky, photon and read noise, and background gradients; return (image, sigma)."""
    rng = canvas.rng
    bright = family in ('bright', 'detector')
    # Most archive previews are deep; a few are noisy.
    sigma = canvas.log_uniform(0.001, 0.02 if bright or canvas.chance(0.7) else 0.08)
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    if canvas.unit > 1:
        # The same noise per reference pixel at any size.
        grain = canvas.blur(grain, 0.4) * (1.4 * canvas.unit)
    if canvas.chance(0.5):
        grain = canvas.blur(grain, 0.7) * 1.8
    shot = np.sqrt(1 + np.maximum(image, 0) * np.float32(rng.uniform(0, 2)))
    image = image + (0 if bright else rng.uniform(0, 0.4)) + sigma * grain * shot
    if family in ('sky', 'galaxy', 'nebula') and canvas.chance(0.2):
        slope = canvas.x * np.cos(5 * rng.random()) + canvas.y * rng.uniform(-1, 1)
        image = image + (sigma * canvas.log_uniform(0.5, 6) * slope)[..., None]
    if not bright and canvas.chance(0.1):
        # Vignetting, no deeper than the noise lets it be overlooked.
        loss = min(rng.uniform(0.05, 0.4), 10 * sigma)
        image = image * (1 - loss * (canvas.x**2 + canvas.y**2))[..., None]
    return image.astype(np.float32), sigma


def _stretch(canvas, image, sigma, family):
    """Map linear light to 0..1: asinh, linear, sqrt, log or zscale, as archives do."""
    rng = canvas.rng
    if family == 'detector':
        low, high = np.percentile(image, (rng.uniform(0, 3), rng.uniform(97, 99.9)))
        return (image - low) / (high - low + 1e-6)
    if family == 'bright':
        high = np.percentile(image, rng.uniform(98.5, 99.95)) * rng.uniform(0.9, 1.3)
        return np.clip(image / (high + 1e-6), 0, None) ** rng.uniform(0.5, 1.1)
    if family == 'radio' and canvas.chance(0.65):
        # Maps are clipped at a few sigma and shown linearly: sources on plain black.
        low = np.median(image) + rng.uniform(1, 5) * sigma
        high = max(np.percentile(image, 99.97), low + 4 * sigma)
        return np.clip((image - low) / (high - low), 0, None) ** rng.uniform(0.45, 1.1)
    method = canvas.pick(('asinh', 'linear', 'sqrt', 'log', 'zscale'),
                         (0.44, 0.16, 0.14, 0.13, 0.13))
    spread = sigma * 1.2 + 1e-3
    median = np.median(image, axis=(0, 1))
    if family == 'nebula':
        # No empty sky to subtract: the black point is a dark corner of the picture.
        low = np.percentile(image, rng.uniform(0.2, 20), axis=(0, 1))
    else:
        low = median - rng.uniform(-0.8, 3) * spread
    high = np.percentile(image, rng.uniform(98, 99.9))
    high = max(high, float(np.max(low)) + 6 * spread)
    level = np.clip((image - low) / (high - low + 1e-6), 0, None)
    if method == 'asinh':
        a = canvas.log_uniform(2, 60)
        return np.arcsinh(level * a) / np.arcsinh(a)
    if method == 'sqrt':
        return np.sqrt(level)
    if method == 'log':
        a = canvas.log_uniform(20, 500)
        return np.log1p(a * level) / np.log1p(a)
    if method == 'zscale':
        # A narrow range around the background, but never so narrow that all is white.
        width = max(rng.uniform(5, 25) * spread,
                    rng.uniform(0.2, 0.7) * float(high - np.max(median)))
        return (image - (median - 1.5 * spread)) / width
    return level * rng.uniform(0.8, 2)


def _misregister(canvas, image):
    """Shift and blur the three bands against each other, as in composites made in haste."""
    rng = canvas.rng
    bands = []
    for band in range(3):
        step = rng.normal(0, rng.uniform(0.3, 1.2), 2) * canvas.unit
        moved = shift(image[..., band], step, order=1, mode='nearest')
        bands.append(canvas.blur(moved, rng.uniform(0, 1.0)) if canvas.chance(0.5) else moved)
    return np.stack(bands, axis=-1)


def _photograph(canvas, level):
    """Show grey levels as a scanned photographic plate does: flat, grainy, saturating softly."""
    rng = canvas.rng
    grain = canvas.blur(rng.standard_normal(level.shape[:2], dtype=np.float32), 0.6)
    level = 1 - np.exp(-np.clip(level, 0, 5) * rng.uniform(1.2, 3))
    return level + rng.uniform(0.03, 0.1) * (grain / (grain.std() + 1e-6))[..., None]


def _survey(canvas, image):
    """Show a galaxy as a wide survey does: blurred by seeing, unsaturated, on a black sky."""
    rng = canvas.rng
    image = canvas.blur(image, rng.uniform(0.8, 2.2))
    grain = canvas.blur(rng.standard_normal(image.shape, dtype=np.float32), rng.uniform(0.5, 1.2))
    sigma = canvas.log_uniform(0.004, 0.05)
    peak = np.percentile(image, 99.9) * rng.uniform(0.9, 1.8) + 1e-6
    image = image / peak + sigma * grain / (grain.std() + 1e-6)
    if canvas.chance(0.3):
        image = _misregister(canvas, image)
    a = canvas.log_uniform(6, 60)
    # One stretch for the three bands keeps the colour of bright cores (Lupton et al. 2004).
    grey = np.clip(image.mean(-1, keepdims=True) - rng.uniform(-0.5, 1) * sigma, 1e-4, None)
    return np.clip(image, 0, None) * np.arcsinh(a * grey) / np.arcsinh(a) / np.maximum(grey, sigma)


def _single_exposure(canvas, image):
    """Add what one exposure of a CCD shows before exposures are combined."""
    rng, side = canvas.rng, canvas.side
    image = image.copy()
    # Cosmic rays: short, sharp tracks.
    for _ in range(rng.integers(5, 120)):
        steps = np.arange(max(1, round(rng.integers(1, 7) * canvas.unit)))
        heading = rng.uniform(0, 2 * np.pi)
        column = (rng.uniform(0, side) + steps * np.cos(heading)).astype(int) % side
        row = (rng.uniform(0, side) + steps * np.sin(heading)).astype(int) % side
        image[row, column] += rng.uniform(0.3, 3)
    full = np.percentile(image, 99.9)
    if canvas.chance(0.4):
        # Charge bleeds along the columns of the brightest pixels.
        row, column = np.unravel_index(image[..., 0].argmax(), image.shape[:2])
        length = int(rng.uniform(0.05, 0.6) * side)
        image[max(0, row - length) : row + length, column] += full
    if canvas.chance(0.3):
        image[:, rng.integers(0, side, rng.integers(1, 4))] = 0
    return image


def _style(canvas, family, mono):
    """Choose how a picture of this family is shown."""
    styles = ('colour', 'mono', 'inverted', 'false colour')
    if mono or family == 'detector':
        style = canvas.pick(styles, (0.04, 0.46, 0.1, 0.4))
    else:
        style = canvas.pick(styles, (0.6, 0.27, 0.05, 0.08))
    if family == 'bright' and style == 'inverted' and canvas.chance(0.7):
        style = 'mono'
    return style


def develop(canvas, image, family, *, mono=False, small=False):
    """Turn linear light into a picture between 0 and 1, and name its look.

    Parameters
    ----------
    canvas : Canvas
    image : ndarray of float32, shape (side, side, 3)
        Linear light; for the family ``'figure'`` display values.
    family : {'sky', 'galaxy', 'nebula', 'radio', 'bright', 'detector', 'figure'}
        What kind of exposure this is.
    mono : bool
        True for one-channel data, which are shown in grey or in a colour map.
    small : bool
        True for a galaxy that covers a small part of the picture, as in cutouts of surveys.

    Returns
    -------
    picture : ndarray of float32, shape (side, side, 3)
    style : {'colour', 'mono', 'inverted', 'false colour', 'figure'}
    """
    rng = canvas.rng
    image = image.astype(np.float32, copy=False)
    if family == 'figure':
        return np.clip(image, 0, 1), 'figure'
    if family == 'galaxy':
        if canvas.chance(0.85):
            image = image + star_field(canvas, rng.integers(0, 60), slope=1.0, high=3.0)
        if canvas.chance(0.6):
            image = canvas.blur(image, rng.uniform(0.3, 1.2))
    if family == 'galaxy' and canvas.chance(0.6 if small else 0.2):
        return np.clip(_survey(canvas, image), 0, 1).astype(np.float32), 'colour'
    style = _style(canvas, family, mono)
    if style == 'colour':
        # Colours of bodies of the Solar System are known; other balances are a matter of taste.
        swing = 0.08 if family == 'bright' and canvas.chance(0.8) else 0.28
        image = image * rng.uniform(1 - swing, 1 + swing, 3).astype(np.float32)
    else:
        image = (image @ rng.dirichlet(np.ones(3) * 1.5).astype(np.float32))[..., None]
        if family in ('sky', 'galaxy', 'nebula') and canvas.chance(0.12):
            image = _single_exposure(canvas, image)
    if style == 'colour' and family != 'bright' and canvas.chance(0.12):
        image = _misregister(canvas, image)
    image, sigma = _expose(canvas, image, family)
    picture = _stretch(canvas, image, sigma, family)
    if style in ('mono', 'inverted') and family in ('sky', 'galaxy') and canvas.chance(0.12):
        picture = _photograph(canvas, picture)
    if style == 'colour' and canvas.chance(0.6):
        grey = picture.mean(-1, keepdims=True)
        picture = grey + (picture - grey) * rng.uniform(0.5, 1.9)
    picture = np.clip(picture, 0, 1)
    if style == 'mono':
        picture = np.repeat(picture, 3, axis=-1)
        if canvas.chance(0.15):
            picture = picture * rng.uniform(0.5, 1, 3).astype(np.float32)
    elif style == 'inverted':
        picture = np.repeat(1 - picture, 3, axis=-1)
    elif style == 'false colour':
        picture = _false_colour(canvas, picture[..., 0])
    return picture.astype(np.float32, copy=False), style


def _footprint(rng, size):
    """Return the detectors of a telescope on the sky: (size, size) of tile numbers, -1 outside.

    The layouts of archive mosaics: one tilted detector, a large field beside small ones, two
    modules with a gap, a cross of gaps, a patchwork of pointings, the chips of known cameras.
    """
    y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) / size * 2 - 1
    tilt = rng.normal(0, 0.06) if rng.random() < 0.75 else rng.uniform(-np.pi, np.pi)
    u = x * np.cos(tilt) + y * np.sin(tilt)
    v = -x * np.sin(tilt) + y * np.cos(tilt)
    tiles = np.full((size, size), -1)

    def put(number, left, right, top, bottom):
        tiles[(u > left) & (u < right) & (v > top) & (v < bottom)] = number

    layout = rng.choice(8, p=(0.15, 0.16, 0.17, 0.13, 0.12, 0.11, 0.09, 0.07))
    reach = rng.uniform(0.82, 1.0)
    if layout == 0:
        put(0, -reach, reach, -reach, reach)
    elif layout == 1:
        split = rng.uniform(-0.5, -0.1)
        put(0, split, reach, -reach, reach)
        top = -reach
        for number in range(1, rng.integers(2, 5)):
            height = rng.uniform(0.25, 0.45)
            put(number, -reach, split - rng.uniform(0.03, 0.25), top, top + height)
            top += height + rng.uniform(0, 0.3)
    elif layout == 2:
        gap = rng.uniform(0.03, 0.12)
        middle = rng.uniform(-0.1, 0.1)
        put(0, -reach, middle - gap, -reach, reach)
        put(1, middle + gap, reach, -reach + rng.uniform(0, 0.1), reach)
    elif layout == 3:
        gap = rng.uniform(0.01, 0.04)
        for number, (a, b) in enumerate(((-1, -1), (-1, 1), (1, -1), (1, 1))):
            put(number, *(sorted((a * gap, a * reach)) + sorted((b * gap, b * reach))))
    elif layout == 5:
        # Two long chips side by side, turned by the roll of the telescope (ACS, WFC3).
        tilt = rng.uniform(-np.pi, np.pi)
        u, v = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
        half, gap = rng.uniform(0.66, 0.74), rng.uniform(0.01, 0.03)
        u = u + rng.uniform(-0.1, 0.1) * v
        put(0, -half, half, -half, -gap)
        put(1, -half, half, gap, half)
    elif layout == 6:
        # Three wide chips and a small one: the stairs of WFPC2.
        put(0, -0.95, 0, 0, 0.95)
        put(1, -0.95, 0, -0.95, 0)
        put(2, 0, 0.95, -0.95, 0)
        put(3, 0, 0.45, 0, 0.45)
        tiles = np.rot90(tiles, rng.integers(4)).copy()
    elif layout == 7:
        # A grid of chips, as of wide-field cameras.
        rows, columns = rng.integers(2, 7, 2)
        gap = rng.uniform(0.006, 0.02)
        for row in range(rows):
            for column in range(columns):
                left, top = -1 + 2 * column / columns, -1 + 2 * row / rows
                put((row * columns + column) % 11, left + gap, left + 2 / columns - gap,
                    top + gap, top + 2 / rows - gap)
    else:
        for number in range(rng.integers(3, 9)):
            a, b = rng.uniform(-0.7, 0.7, 2)
            half = rng.uniform(0.25, 0.55, 2)
            put(number, a - half[0], a + half[0], b - half[1], b + half[1])
        put(9, -0.45, 0.45, -0.45, 0.45)
    if rng.random() < 0.4:
        # Dithered exposures leave a ragged edge.
        steps = np.repeat(rng.uniform(-0.04, 0.04, 24), size // 24 + 1)[:size]
        tiles[np.abs(y) > 1 - 0.06 + steps[None, :]] = -1
    return tiles


def _mosaic(rng, picture, *, colour):
    """Show a picture through the footprint of a mosaic, with the tell-tale backgrounds."""
    size = picture.shape[0]
    tiles = _footprint(rng, size)
    # Mosaics are shown dark, since one stretch serves their brightest part.
    picture = (picture.astype(np.float32) / 255) ** rng.uniform(1, 1.7) * rng.uniform(0.5, 1.1)
    tints = 3 if colour else 1
    glow = np.zeros((size, size, tints), np.float32)
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    if rng.random() < 0.3:
        # Thermal background: orange or red, towards one side.
        tone = rng.uniform(0, 0.3) * (rgb(1.0, 0.45, 0.1) if colour else np.ones(1, np.float32))
        shape = ramp**2 if rng.random() < 0.6 else (1 - ramp) ** 2
        glow += (shape[:, None] if rng.random() < 0.8 else shape[None, :])[..., None] * tone
    if rng.random() < 0.35:
        # 1/f noise: stripes, different in each filter.
        stripes = gaussian_filter(rng.standard_normal((size, tints)), (rng.uniform(0.3, 1.5), 0))
        axis = int(rng.random() < 0.5)
        glow += np.expand_dims(stripes.astype(np.float32), axis) * rng.uniform(0.01, 0.07)
    if colour and rng.random() < 0.25:
        # Background gradients that differ between the filters.
        slopes = rng.normal(0, 0.08, (2, 1, 1, 3)).astype(np.float32)
        glow += slopes[0] * (2 * ramp[:, None, None] - 1) + slopes[1] * (2 * ramp[:, None] - 1)
    if colour and rng.random() < 0.35:
        # Offsets between detectors in each filter.
        offsets = rng.normal(0, rng.uniform(0.01, 0.08), (11, 3)).astype(np.float32)
        glow += offsets[tiles]
    out = np.clip(picture + glow, 0, 1)
    out[tiles < 0] = 0 if rng.random() < 0.93 else 1
    if rng.random() < 0.15:
        out[(tiles < 0)] = rng.uniform(0, 0.06)
    return (out * 255).astype(np.uint8)


def _words(rng, low=3, high=12):
    return ''.join(rng.choice(list('ABCDEFGHNGCM0123456789 .'), rng.integers(low, high)))


def _label(rng, picture):
    """Write over a picture what annotated versions carry: name, scale bar, compass, circle."""
    size = picture.shape[0]
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    light = picture.mean() < 140
    fill = ((255, 255, 255) if rng.random() < 0.7 else (255, 255, 0)) if light else (0, 0, 0)
    if rng.random() < 0.7:
        where = (rng.uniform(0.02, 0.55) * size, rng.choice([0.02, 0.86]) * size)
        draw.text(where, _words(rng), fill=fill)
    if rng.random() < 0.5:
        left = rng.uniform(0.04, 0.6) * size
        draw.line((left, 0.92 * size, left + rng.uniform(0.08, 0.3) * size, 0.92 * size),
                  fill=fill, width=max(1, size // 100))
    if rng.random() < 0.4:
        # North and east.
        corner, angle = rng.choice([0.14, 0.86], 2) * size, rng.uniform(0, 2 * np.pi)
        for turn in (angle, angle + np.pi / 2):
            end = corner + 0.1 * size * np.array([np.cos(turn), np.sin(turn)])
            draw.line((*corner, *end), fill=fill)
    if rng.random() < 0.2:
        # The target in a circle, a box or between tick marks.
        x, y = rng.uniform(0.35, 0.65, 2) * size
        r = rng.uniform(0.05, 0.2) * size
        shape = rng.integers(3)
        if shape == 0:
            draw.ellipse((x - r, y - r, x + r, y + r), outline=fill)
        elif shape == 1:
            draw.rectangle((x - r, y - r, x + r, y + r), outline=fill)
        else:
            draw.line((x + r / 2, y, x + 1.5 * r, y), fill=fill)
            draw.line((x, y - r / 2, x, y - 1.5 * r), fill=fill)
    return np.array(image)


def _axes(rng, picture):
    """Put a picture into axes with ticks and numbers, some with a colour bar or a grid."""
    size = picture.shape[0]
    paper = (255, 255, 255) if rng.random() < 0.8 else (0, 0, 0)
    ink = (0, 0, 0) if paper[0] else (255, 255, 255)
    image = Image.new('RGB', (size, size), paper)
    left, top = (int(rng.uniform(*span) * size) for span in ((0.08, 0.18), (0.03, 0.1)))
    side = int(size * rng.uniform(0.68, 0.8))
    image.paste(Image.fromarray(picture).resize((side, side)), (left, top))
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, top, left + side, top + side), outline=ink)
    for step in np.linspace(0.1, 0.9, rng.integers(3, 7)):
        along = int(step * side)
        draw.line((left + along, top + side, left + along, top + side + size // 48), fill=ink)
        draw.line((left - size // 48, top + along, left, top + along), fill=ink)
        # Numbers too small to be read.
        draw.line((left + along - 4, top + side + size // 20, left + along + 4,
                   top + side + size // 20), fill=ink)
        draw.line((left - size // 14, top + along, left - size // 24, top + along), fill=ink)
    if rng.random() < 0.25:
        for step in (0.25, 0.5, 0.75):
            draw.line((left, top + step * side, left + side, top + (step - 0.08) * side),
                      fill=(128, 128, 128))
            draw.line((left + step * side, top, left + (step - 0.08) * side, top + side),
                      fill=(128, 128, 128))
    if rng.random() < 0.35 and left + side < 0.9 * size:
        bar = np.sort(picture.reshape(-1, 3)[:: size // 2], axis=0)[::-1]
        bar = np.repeat(bar[:, None], max(2, size // 24), axis=1)
        image.paste(Image.fromarray(bar).resize((max(2, size // 24), side)),
                    (int(left + side + 0.03 * size), top))
    return np.array(image)


def present(canvas, picture, size, family):
    """Crop, turn, frame, annotate and compress a picture as archives present it.

    Parameters
    ----------
    canvas : Canvas
    picture : ndarray of float32, shape (side, side, 3)
        Between 0 and 1.
    size : int
        Side of the result in pixels.
    family : str
        See `develop`.

    Returns
    -------
    image : ndarray of uint8, shape (size, size, 3)
    marks : dict
        ``mosaic``: whether the picture has the gaps of a mosaic; ``annotated``: whether it carries
        letters, a scale bar, a compass or axes.
    """
    rng = canvas.rng
    figure = family == 'figure'
    width = int(canvas.side * (1 if figure else rng.uniform(0.8, 1)))
    top, left = rng.integers(0, canvas.side - width + 1, 2)
    pixels = (picture[top : top + width, left : left + width] * 255 + 0.5).astype(np.uint8)
    if not figure:
        pixels = np.rot90(pixels, rng.integers(4))
        if canvas.chance(0.5):
            pixels = pixels[:, ::-1]
    pixels = np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize(
        (size, size), Image.Resampling.BILINEAR))
    mosaic = family in ('sky', 'galaxy', 'nebula') and canvas.chance(0.2)
    annotated = False
    treatment = rng.random()
    if mosaic:
        colour = bool((pixels.max(-1) != pixels.min(-1)).any())
        pixels = _mosaic(rng, pixels, colour=colour)
        if canvas.chance(0.05):
            annotated, pixels = True, _label(rng, pixels)
    elif figure:
        pass
    elif treatment < 0.02:
        fill = (0, 0, 0) if canvas.chance(0.6) else (255, 255, 255)
        turned = Image.fromarray(pixels).rotate(rng.uniform(0, 360), fillcolor=fill)
        pixels = np.array(turned)
    elif treatment < 0.05:
        # A picture in a frame, or a small one on a large sheet.
        border = max(1, int(size * canvas.log_uniform(0.04, 0.3)))
        side = size - 2 * border
        value = 255 if canvas.chance(0.4) else 0
        small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
        pixels = np.full_like(pixels, value)
        pixels[border : border + side, border : border + side] = np.array(small)
    elif treatment < 0.08:
        start, thick = rng.uniform(0.25, 0.75), rng.uniform(0.008, 0.04)
        band = slice(int(start * size), int((start + thick) * size) + 1)
        if canvas.chance(0.5):
            pixels[:, band] = 0
        else:
            pixels[band] = 0
    elif treatment < 0.14:
        annotated, pixels = True, _label(rng, pixels)
    elif treatment < 0.18:
        annotated, pixels = True, _axes(rng, pixels)
    if canvas.chance(0.5):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, 'JPEG', quality=int(rng.integers(35, 95)))
        pixels = np.array(Image.open(buffer).convert('RGB'))
    return pixels, {'mosaic': mosaic, 'annotated': annotated}
