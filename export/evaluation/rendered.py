"""
The same images as FITS files, drawn by the product.
"""

import io

import numpy as np
from astropy.io import fits

from astroclip_search.images.preprocess import sides
from astroclip_search.images.render import RENDER_VERSION, render
from export.data.pairs import load_pixels
from export.evaluation.collection import stamp
from export.measures.metrics import METRICS, group_bootstrap, interval, measure

__all__ = ['chosen', 'fits_table', 'grey', 'written']

#: Level of the sky, of the brightest pixel above it, and noise, in counts.
SKY, FULL, NOISE = 500, 1000, 5
#: Power that turns the levels of a picture on a screen into something linear in the light.
LINEAR = 2.2
#: One image of so many is taken, and so many of each class.
ONE_OF, OF_A_CLASS = 4, 10


def chosen(positive):
    """
    Choose some images, so that each class keeps some, and some others.

    Parameters
    ----------
    positive : `numpy.ndarray` of bool, shape (n, classes)
        Truth.

    Returns
    -------
    rows : `numpy.ndarray` of int
        Every fourth image, the first ten of each class, and the first ten that are not of it.
    """
    kept = np.arange(len(positive)) % ONE_OF == 0
    for column in [*positive.T, *~positive.T]:
        kept[np.flatnonzero(column)[:OF_A_CLASS]] = True
    return np.flatnonzero(kept)


def grey(pixels):
    """
    Take the colour away.

    Parameters
    ----------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.

    Returns
    -------
    levels : `numpy.ndarray` of float, shape (height, width)
        Between 0 and 255.
    """
    return pixels @ np.array([0.299, 0.587, 0.114])


def written(pixels, seed):
    """
    Write an image as a camera might have: counts linear in the light, a sky and noise.

    Parameters
    ----------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.
    seed : int
        Of the noise.

    Returns
    -------
    content : bytes
        FITS file of float32; its first row is at the bottom.
    """
    light = (grey(pixels)[::-1] / 255) ** LINEAR
    noise = np.random.default_rng(seed).normal(0, NOISE, light.shape)
    stream = io.BytesIO()
    fits.PrimaryHDU((SKY + FULL * light + noise).astype(np.float32)).writeto(stream)
    return stream.getvalue()


def fits_table(model, pairs, asked, cache, key, *, draws=200):
    """
    Search the same images as FITS files.

    Parameters
    ----------
    model : `export.evaluation.shipped.Shipped`
        The bundle.
    pairs : list of `export.data.pairs.Pair`
        All images.
    asked : `export.evaluation.pooled.Asked`
        The task.
    cache : `export.evaluation.collection.Cache`
        Where embeddings are kept.
    key : str
        Identifies the model and the files.
    draws : int, optional
        Bootstrap samples.

    Returns
    -------
    table : dict
        For the report.
    """
    rows = chosen(asked.judged.positive)
    positive = asked.judged.positive[rows]
    side, bitmap_side = sides(model.bundle.preprocessing)

    def embed(draw):
        return np.concatenate([
            model.images([draw(load_pixels(pairs[i].file), i) for i in asked.task.rows[part]])
            for part in np.array_split(rows, -(-len(rows) // 64))])

    drawings = {
        'colour, as it is': lambda pixels, _: pixels,
        'grey': lambda pixels, _: np.repeat(
            grey(pixels).round().astype(np.uint8)[..., None], 3, axis=2),
        'FITS': lambda pixels, seed: np.asarray(render(
            written(pixels, seed), side=side, bitmap_side=bitmap_side)),
    }
    key = stamp(key, asked.task.rows[rows].tolist(), RENDER_VERSION, SKY, FULL, NOISE, LINEAR)
    vectors = cache.get('drawn', key,
                        lambda: np.stack([embed(draw) for draw in drawings.values()]))
    values = [measure(each @ model.texts(asked.task.queries).T, positive)[:, :3]
              for each in vectors]
    cells = []
    for name, each in zip(drawings, values, strict=True):
        change = (each - values[0])[:, [METRICS.index('AP')]]
        low, high = interval(group_bootstrap(change, np.arange(len(change)), draws=draws)[:, 0])
        cells.append([name, *(float(value) for value in each.mean(0)), '' if each is values[0]
                      else f'{change.mean():+.3f} ({low:+.3f} to {high:+.3f})'])
    return {
        'title': 'The same, as FITS', 'rows': cells,
        'columns': ['', 'mAUC', 'mAP', 'P@10', 'mAP minus that in colour, 95 % over queries'],
        'text': f'{len(rows)} images of {asked.task.name}, {positive.shape[1]} queries, by labels '
                'and judgements: every fourth image and the first ten of each class. Each was '
                f'written as float32 FITS with a sky of {SKY} counts, {FULL} more where it is '
                f'white, counts as level to the power {LINEAR} and noise of {NOISE}, and drawn as '
                'the product draws FITS. Other images than above: compare the rows only.',
    }
