"""
Training views: one picture as archives may show it.

`augment` does to a picture what happens to previews. `rendering` takes it back to light
and shows it as another archive would: a grey FITS image in some stretch, a raw frame, a
single exposure, a mosaic with gaps, counts of X-ray photons, a radio map, a plate, a
finder chart. `drawn` makes counts of it, at full size, and draws them as the product draws a
FITS image. Spectra and detector frames are pictures of the synthetic sky, and pass through the
same renderings. Two views of one picture are positives of each other.
"""

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter

from astroclip_search.exceptions import ImageError
from astroclip_search.images.stretch import grey as product_grey
from export.sky.camera import colour_table

__all__ = ['RENDERINGS', 'augment', 'drawn', 'framed', 'rendering', 'shown_as', 'view']

#: Share of the views of other archives that the product draws.
_DRAWN_SHARE = 0.4

_QUARTERS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


def view(pixels, size, rng, *, strength=1.0, archive_share=0.0):
    """
    Make a training view of one image.

    Parameters
    ----------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.
    size : int
        Side of the view.
    rng : `numpy.random.Generator`
        Source of randomness.
    strength : float, optional
        Factor on the probability of each degradation of `augment`.
    archive_share : float, optional
        Share of views that are renderings.

    Returns
    -------
    view : `numpy.ndarray` of uint8, shape (size, size, 3)
        RGB.
    """
    if rng.random() < archive_share:
        if rng.random() < _DRAWN_SHARE:
            return np.asarray(framed(drawn(pixels, rng), size, rng))
        return rendering(pixels, size, rng)
    return augment(pixels, size, rng, strength=strength)


def framed(pixels, size, rng):
    """
    Crop, resize, mirror and turn an image at random.

    Parameters
    ----------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.
    size : int
        Side of the view.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    image : `PIL.Image.Image`
        80 % of each side or more, resized to a square as the product does.
    """
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    scale = rng.uniform(0.8, 1.0) if rng.random() < 0.6 else 1.0
    left = rng.uniform(0, 1 - scale) * width
    upper = rng.uniform(0, 1 - scale) * height
    box = (left, upper, left + scale * width, upper + scale * height)
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if rng.random() < 0.5:
        image = image.transpose(_QUARTERS[rng.integers(3)])
    return image


def augment(pixels, size, rng, *, strength=1.0):
    """
    Show an image as a preview that has been through some hands.

    Framed at random, then JPEG blocks, loss of resolution, loss of colour, another
    stretch, inversion, a colour map.

    Parameters
    ----------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.
    size : int
        Side of the view.
    rng : `numpy.random.Generator`
        Source of randomness.
    strength : float, optional
        Factor on the probability of each degradation.

    Returns
    -------
    view : `numpy.ndarray` of uint8, shape (size, size, 3)
        RGB.
    """
    image = framed(pixels, size, rng)
    if rng.random() < 0.10 * strength:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    if rng.random() < 0.15 * strength:
        buffer = BytesIO()
        image.save(buffer, 'JPEG', quality=int(rng.integers(35, 90)))
        image = Image.open(buffer)
    if rng.random() < 0.22 * strength:
        grey = np.asarray(image.convert('L'))
        draw = rng.random()
        if draw < 0.2:
            grey = 255 - grey
        shown = np.repeat(grey[..., None], 3, axis=-1)
        if draw > 0.75:
            shown = (colour_table(rng) * 255).astype(np.uint8)[grey]
    else:
        shown = np.asarray(image)
    if rng.random() < 0.5 * strength:
        levels = np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.3)) * rng.uniform(0.7, 1.25)
        gains = np.exp(rng.normal(0, 0.12, 3))
        table = np.clip(levels[:, None] * gains * 255, 0, 255).astype(np.uint8)
        shown = np.stack([table[shown[..., c], c] for c in range(3)], axis=-1)
    return shown


def drawn(pixels, rng):
    """
    Take an image back to counts and draw them as the product draws a FITS image.

    At full size: what the product takes for noise, for sky or for a hot pixel is another thing
    once an image is small.

    Parameters
    ----------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    shown : `numpy.ndarray` of uint8, shape (height, width, 3)
        Grey; smaller where empty edges were cut off, and as it was if it is of one value.
    """
    mixed = (pixels / np.float32(255)) @ rng.dirichlet([3, 6, 1]).astype(np.float32)
    light = mixed ** rng.uniform(1.4, 2.8)
    try:
        return np.asarray(product_grey(_noise(light, rng, -3.3, -1.5), flip=False))
    except ImageError:
        return pixels


def rendering(pixels, size, rng):
    """
    Show an image, framed at random, as another archive would.

    Parameters
    ----------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.
    size : int
        Side of the view.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    view : `numpy.ndarray` of uint8, shape (size, size, 3)
        RGB.
    """
    names = list(RENDERINGS)
    shares = np.array([share for _, share in RENDERINGS.values()])
    name = names[rng.choice(len(names), p=shares / shares.sum())]
    return shown_as(name, np.asarray(framed(pixels, size, rng)), rng)


def shown_as(name, square, rng):
    """
    Show a picture in one of `RENDERINGS`.

    Parameters
    ----------
    name : str
        Name of the rendering.
    square : `numpy.ndarray` of uint8, shape (s, s, 3)
        RGB.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    view : `numpy.ndarray` of uint8, shape (s, s, 3)
        RGB, north where it was.
    """
    render, _ = RENDERINGS[name]
    return render(_light(square, rng), rng)


def _light(square, rng):
    """Return roughly linear light, float32 (s, s), at most 1: bands mixed, a stretch undone."""
    mixed = (square / np.float32(255)) @ rng.dirichlet([1.5] * 3).astype(np.float32)
    light = np.sinh(rng.uniform(1.5, 4.0) * mixed)
    return (light / (light.max() + 1e-6)).astype(np.float32)


# Stretches of linear light to 0..1, NaN where there is nothing

def _limits(light, rng, *, black=(0.1, 20.0), white=(99.5, 100.0)):
    values = light[np.isfinite(light)]
    return np.percentile(values, [rng.uniform(*black), rng.uniform(*white)])


def _between(light, black, white):
    return np.clip((light - black) / max(white - black, 1e-6), 0, 1)


def _of_product(light, _rng):
    """Stretch as the product draws FITS images."""
    try:
        image = product_grey(light, flip=False)
    except ImageError:  # of one value
        return _between(light, 0, 1)
    if image.size != light.shape[::-1]:  # empty edges are cut off
        image = image.resize(light.shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image)[..., 0] / np.float32(255)


def _linear(light, rng):
    return _between(light, *_limits(light, rng, black=(0, 1), white=(99, 100)))


def _whole_range(light, _rng):
    """Stretch from the lowest to the highest value: mostly black."""
    return _between(light, np.nanmin(light), np.nanmax(light))


def _near_the_sky(light, rng):
    """Stretch like zscale: a few deviations around the median."""
    middle = np.nanmedian(light)
    # Noise alone would leave nothing but noise to see: white is no darker than a faint object.
    sigma = 1.4826 * np.nanmedian(np.abs(light - middle)) + 1e-3
    return _between(light, middle - rng.uniform(1, 3) * sigma, middle + rng.uniform(3, 12) * sigma)


def _square_root(light, rng):
    return np.sqrt(_between(light, *_limits(light, rng)))


def _logarithm(light, rng):
    strength = 10 ** rng.uniform(1, 3)
    return np.log1p(strength * _between(light, *_limits(light, rng))) / np.log1p(strength)


def _arcsinh(light, rng):
    strength = 10 ** rng.uniform(0.5, 2.5)
    scaled = _between(light, *_limits(light, rng, black=(0.1, 30), white=(99, 100)))
    return np.arcsinh(strength * scaled) / np.arcsinh(strength)


def _equalised(light, rng):
    """Stretch so that all levels are equally common."""
    values = np.sort(light[np.isfinite(light)])
    part = np.searchsorted(values, light) / len(values)  # equal values stay equal
    return np.where(np.isfinite(light), part ** rng.uniform(1, 3), np.nan)


_STRETCHES = {_of_product: 0.35, _linear: 0.08, _whole_range: 0.05, _near_the_sky: 0.12,
              _square_root: 0.1, _logarithm: 0.1, _arcsinh: 0.14, _equalised: 0.06}


def _stretched(light, rng):
    stretches = list(_STRETCHES)
    chosen = stretches[rng.choice(len(stretches), p=list(_STRETCHES.values()))]
    return chosen(light, rng)


def _pixels(level, rng, *, fill=0.0, inverted=0.0, coloured=0.0):
    """Turn levels into RGB, some inverted or through a colour map; NaN becomes ``fill``."""
    if rng.random() < inverted:
        level = 1 - level
    level = np.where(np.isfinite(level), np.clip(level, 0, 1), fill)
    grey = (level * 255).astype(np.uint8)
    if rng.random() < coloured:
        return (colour_table(rng) * 255).astype(np.uint8)[grey]
    return np.repeat(grey[..., None], 3, axis=-1)


# Renderings

def _noise(light, rng, low, high):
    sigma = 10 ** rng.uniform(low, high)
    return light + sigma * rng.standard_normal(light.shape, dtype=np.float32)


def _fits(light, rng):
    """Grey FITS image: noise, a gradient of the background, any stretch."""
    light = _noise(light, rng, -3.3, -1.2)
    if rng.random() < 0.3:
        slope = np.linspace(-1, 1, len(light), dtype=np.float32)[:, None]
        light = light + rng.uniform(-0.05, 0.05) * slope
    return _pixels(_stretched(light, rng), rng, inverted=0.12, coloured=0.2)


def _struck(light, rng, rays, energy):
    """Add cosmic rays: short bright lines."""
    size = len(light)
    light = light.copy()
    for _ in range(rays):
        steps, heading = np.arange(rng.integers(1, 8)), rng.uniform(0, 2 * np.pi)
        row = (rng.uniform(0, size) + steps * np.sin(heading)).astype(int)
        column = (rng.uniform(0, size) + steps * np.cos(heading)).astype(int)
        inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
        light[row[inside], column[inside]] += energy * rng.uniform(0.2, 2)
    return light


def _photons(light, rng, low, high):
    """Count photons, of which the brightest pixel has some tens to thousands."""
    full = 10 ** rng.uniform(low, high)
    sky = rng.uniform(0, 0.2) * full
    counts = rng.poisson(light * full + sky).astype(np.float32)
    return counts + rng.uniform(1, 10) * rng.standard_normal(light.shape, dtype=np.float32), full


def _exposure(light, rng):
    """Single exposure of a space telescope: sharp, with many cosmic rays."""
    counts, full = _photons(light, rng, 2.0, 4.0)
    counts = _struck(counts, rng, rng.integers(10, 120), full)
    return _pixels(_stretched(counts, rng), rng, inverted=0.1)


def _detector(light, rng):
    """Raw frame: amplifiers, overscan, bad columns, bleeding, a few cosmic rays."""
    counts, full = _photons(light, rng, 1.8, 4.0)
    counts = _struck(counts, rng, rng.poisson(12), full)
    size, half = len(light), len(light) // 2
    for _ in range(rng.poisson(1.2)):  # dead and hot columns, from the edge or from a star
        start = rng.integers(size) if rng.random() < 0.5 else 0
        counts[start:, rng.integers(size)] = rng.choice([0, counts.max()])
    if rng.random() < 0.4:
        counts[:, half:] += full * rng.uniform(0.003, 0.03)
        if rng.random() < 0.4:
            counts[half:] += full * rng.uniform(0.003, 0.03)
    if rng.random() < 0.3:
        counts[:, -rng.integers(2, size // 16 + 3):] = counts.min()
    return _pixels(_stretched(counts, rng), rng, inverted=0.08)


def _mosaic(light, rng):
    """Mosaic: gaps between chips, a turned footprint, or a part that was not observed."""
    light, size = _noise(light, rng, -3, -1.3), len(light)
    draw = rng.random()
    if draw < 0.35:
        chips, gap = rng.integers(2, 5), rng.integers(1, max(2, size // 25))
        across, down = rng.random() < 0.9, rng.random() < 0.7
        for edge in (np.arange(1, chips) * size // chips - gap // 2):
            if across:
                light[:, edge:edge + gap] = np.nan
            if down or not across:
                light[edge:edge + gap] = np.nan
    elif draw < 0.7:
        inner = round(size * rng.uniform(0.75, 1.0))
        image = Image.fromarray(light).resize((inner, inner), Image.Resampling.BILINEAR)
        image = image.rotate(rng.uniform(-50, 50), Image.Resampling.BILINEAR, expand=True,
                             fillcolor=float('nan'))
        light = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    else:
        row, column = rng.integers(size // 8, size // 2, 2)
        if rng.random() < 0.5:  # a corner, else a side
            light[:row, :column] = np.nan
        else:
            light[:, :column // 2] = np.nan
        light = np.rot90(light, rng.integers(4))
    return _pixels(_stretched(light, rng), rng, fill=float(rng.random() < 0.2), coloured=0.1)


def _counts(light, rng):
    """Counts of X-ray photons, smoothed or not."""
    brightest = 10 ** rng.uniform(0, 1.4)
    counts = rng.poisson(light * brightest + 10 ** rng.uniform(-2.5, -0.7)).astype(np.float32)
    if rng.random() < 0.6:
        counts = gaussian_filter(counts, rng.uniform(0.7, 2.5) * len(light) / 160)
    return _pixels(_stretched(counts, rng), rng, coloured=0.5)


def _radio(light, rng):
    """Radio map: a broad beam, and noise as broad."""
    unit = len(light) / 160
    beam = rng.uniform(1, 3.5) * unit
    noise = gaussian_filter(rng.standard_normal(light.shape, dtype=np.float32), beam)
    brightness = gaussian_filter(light, beam)
    noise *= 10 ** rng.uniform(-2.5, -1.2) * brightness.max() / noise.std()
    return _pixels(_stretched(brightness + noise, rng), rng, coloured=0.5)


def _plate(light, rng):
    """Photographic plate, as a negative: dense where it is bright, with grain."""
    strength = 10 ** rng.uniform(0.5, 2)
    density = np.arcsinh(strength * light) / np.arcsinh(strength)
    grain = gaussian_filter(rng.standard_normal(light.shape, dtype=np.float32),
                            rng.uniform(0, 0.8) * len(light) / 160)
    density = density * rng.uniform(0.7, 1) + rng.uniform(0.03, 0.1) * grain / grain.std()
    return _pixels(rng.uniform(0.8, 1) - density, rng)


def _chart(light, rng):
    """Finder chart: black on white, with ticks or a circle, a compass, a scale."""
    light = _noise(light, rng, -3.3, -1.7)
    pixels = Image.fromarray(_plate(light.clip(0), rng) if rng.random() < 0.4 else
                             _pixels(1 - _stretched(light, rng), rng))
    draw, size = ImageDraw.Draw(pixels), len(light)
    ink = (0, 0, 0) if rng.random() < 0.6 else tuple(map(int, rng.choice(
        [(220, 0, 0), (0, 0, 220), (0, 140, 0)])))
    x, y = rng.normal(size / 2, size / 12, 2)
    radius = rng.uniform(0.06, 0.16) * size
    if rng.random() < 0.5:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink)
    else:
        draw.line((x + radius / 2, y, x + 1.5 * radius, y), ink)
        draw.line((x, y - radius / 2, x, y - 1.5 * radius), ink)
    length, corner = rng.uniform(0.1, 0.2) * size, 0.92 * size
    if rng.random() < 0.6:
        draw.line((corner, corner, corner, corner - length), ink)
        draw.line((corner, corner, corner - length, corner), ink)
        draw.text((corner - 3, corner - length - 11), 'N', ink)
        draw.text((corner - length - 8, corner - 6), 'E', ink)
    if rng.random() < 0.5:
        draw.line((0.06 * size, corner, 0.06 * size + 1.5 * length, corner), ink)
    if rng.random() < 0.4:
        draw.rectangle((0, 0, size - 1, size - 1), outline=ink)
    return np.asarray(pixels)


#: Name -> function of (light, rng), and how often it is drawn.
RENDERINGS = {
    'FITS image': (_fits, 0.38), 'single exposure': (_exposure, 0.12),
    'detector frame': (_detector, 0.1), 'mosaic': (_mosaic, 0.12), 'X-ray counts': (_counts, 0.1),
    'radio map': (_radio, 0.08), 'plate': (_plate, 0.06), 'finder chart': (_chart, 0.04),
}
