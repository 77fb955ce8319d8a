"""
Are things found where they are? Canvases of unlike scenes, and what is small among stars.

A canvas has 3 x 3 or 5 x 5 held-out scenes, each of another kind than what is looked for but one,
at random sizes and places within their cells. The right cell is found if the peak lies in it. The
same canvases without the one tell how often something is found by chance. Plain tiles, halves
and thirds of the canvas, are what any other model would do.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import Encoder
from astroclip_search.places.found import Asked, look
from astroclip_search.ranking.query import Query
from export.evaluation.scenes import shards
from export.measures.tables import markdown_table
from export.sky import KINDS, names
from export.training.batches import read_shard

__all__ = ['Scenes', 'canvas', 'main', 'places', 'small']

#: Pixels of the cells of canvases by their number along a side, and of what is small.
CELLS, SMALL, FIELD = {3: 160, 5: 128}, 96, 960
#: Kinds that are looked for, each as often as the others.
N_KINDS = 20
#: False-alarm rate at which places count as found.
RATE = 0.01


class Scenes:
    """
    Held-out scenes by kind.

    Parameters
    ----------
    images : list of `numpy.ndarray` of uint8, shape (s, s, 3)
        Scenes.
    kinds : `numpy.ndarray` of int, shape (n,)
        Index of the kind of each.
    rng : `numpy.random.Generator`
        Chooses.
    """

    def __init__(self, images, kinds, rng):
        self.images, self.kinds, self.rng = images, kinds, rng

    @classmethod
    def read(cls, paths, rng):
        """
        Read shards.

        Parameters
        ----------
        paths : list of path-like
            Shards of ``python -m export sky``.
        rng : `numpy.random.Generator`
            Chooses.

        Returns
        -------
        scenes : `Scenes`
            All of them.
        """
        found = [read_shard(path) for path in paths]
        return cls([image for images, *_ in found for image in images],
                   np.concatenate([kinds for _, kinds, _ in found]), rng)

    def of(self, kind):
        """
        Draw a scene.

        Parameters
        ----------
        kind : int
            Its kind.

        Returns
        -------
        image : `numpy.ndarray` of uint8, shape (s, s, 3)
            The scene.
        """
        return self.images[self.rng.choice(np.flatnonzero(self.kinds == kind))]

    def others(self, kind, count):
        """
        Draw scenes of other kinds.

        Parameters
        ----------
        kind : int
            The kind that is left out.
        count : int
            How many.

        Returns
        -------
        images : list of `numpy.ndarray`
            Scenes.
        """
        return [self.images[i] for i in
                self.rng.choice(np.flatnonzero(self.kinds != kind), count, replace=False)]


def canvas(scenes, kind, grid):
    """
    Make a canvas.

    Parameters
    ----------
    scenes : `Scenes`
        What it is made of.
    kind : int
        What one cell shows.
    grid : int
        Cells along a side.

    Returns
    -------
    picture, without : `PIL.Image.Image`
        The canvas, and the same with another scene in that cell.
    cell : tuple of float
        Left, upper, right and lower edge of the cell, in parts of the canvas.
    """
    rng, cell = scenes.rng, CELLS[grid]
    at = int(rng.integers(grid * grid))
    drawn = scenes.others(kind, grid * grid)
    pixels = np.zeros((grid * cell, grid * cell, 3), np.uint8)
    without = pixels.copy()
    for i, scene in enumerate(drawn):
        side = int(cell * rng.uniform(0.6, 1))
        down, across = rng.integers(0, cell - side + 1, 2)
        row, column = i // grid * cell + down, i % grid * cell + across
        here = slice(row, row + side), slice(column, column + side)
        without[here] = _resized(scene, side)
        pixels[here] = _resized(scenes.of(kind), side) if i == at else without[here]
    left, upper = at % grid / grid, at // grid / grid
    return (Image.fromarray(pixels), Image.fromarray(without),
            (left, upper, left + 1 / grid, upper + 1 / grid))


def small(scenes, kind):
    """
    Put a scene of a tenth of the side into a field of stars.

    Parameters
    ----------
    scenes, kind
        As for `canvas`.

    Returns
    -------
    picture, without, cell
        As of `canvas`.
    """
    rng = scenes.rng
    stars = scenes.of(KINDS.index('star_field'))
    stars = np.concatenate([stars, stars[:, ::-1]], axis=1)
    stars = np.concatenate([stars, stars[::-1]])
    times = -(-FIELD // len(stars))
    field = np.tile(stars, (times, times, 1))[:FIELD, :FIELD]
    edge = np.clip(np.minimum(np.arange(SMALL), SMALL - 1 - np.arange(SMALL)) / 12, 0, 1)
    share = (edge[:, None] * edge)[..., None]
    row, column = rng.integers(0, FIELD - SMALL, 2)
    here = slice(row, row + SMALL), slice(column, column + SMALL)
    pixels = field.copy()
    shown = np.maximum(field[here], _resized(scenes.of(kind), SMALL))
    pixels[here] = (share * shown + (1 - share) * field[here]).astype(np.uint8)
    return (Image.fromarray(pixels), Image.fromarray(field),
            (column / FIELD, row / FIELD, (column + SMALL) / FIELD, (row + SMALL) / FIELD))


def _resized(scene, side):
    return np.asarray(Image.fromarray(scene).resize((side, side), Image.Resampling.BICUBIC))


class _Tiled:
    """The same model without windows, of which tiles are embedded."""

    has_windows = False

    def __init__(self, encoder):
        self.bundle, self.encode_images = encoder.bundle, encoder.encode_images


def places(model, paths, *, count=300, seed=0):
    """
    Look for scenes in canvases.

    Parameters
    ----------
    model : path-like
        The bundle.
    paths : list of path-like
        Shards of held-out scenes.
    count : int, optional
        Canvases of each size.
    seed : int, optional
        Of what is drawn.

    Returns
    -------
    rows : list of list
        Canvas, windows or tiles, share of peaks in the right cell, share of canvases where such a
        place has a false-alarm rate of at most `RATE`, and share of those without it that have
        any.
    """
    encoder = Encoder(open_bundle(str(model)), device='cpu')
    scenes = Scenes.read(paths, np.random.default_rng(seed))
    kinds = [kind for kind in range(len(KINDS)) if (scenes.kinds == kind).sum() >= 5
             and KINDS[kind] != 'star_field']
    kinds = scenes.rng.permutation(kinds)[:N_KINDS].tolist()
    asked = {kind: Asked.of(Query([names(KINDS[kind])[0]]), encoder) for kind in kinds}
    rows = []
    for name, make in (('3 x 3', lambda kind: canvas(scenes, kind, 3)),
                       ('5 x 5', lambda kind: canvas(scenes, kind, 5)),
                       ('1/10 among stars', lambda kind: small(scenes, kind))):
        found = {'windows': [], 'tiles': []}
        for i in range(count):
            kind = kinds[i % len(kinds)]
            picture, without, cell = make(kind)
            for way, by in (('windows', encoder), ('tiles', _Tiled(encoder))):
                best, = look(picture, by, asked[kind], 1)[0].places
                other, = look(without, by, asked[kind], 1)[0].places
                right = cell[0] <= best.peak[0] < cell[2] and cell[1] <= best.peak[1] < cell[3]
                found[way].append((right, right and best.false_alarm <= RATE,
                                   other.false_alarm <= RATE))
        rows += [[name, way, *np.mean(seen, axis=0).tolist()] for way, seen in found.items()]
    return rows


def main(arguments):
    """
    Run ``python -m export places``.

    Parameters
    ----------
    arguments : list of str
        Command line.
    """
    parser = argparse.ArgumentParser(prog='python -m export places', description='Measure whether '
                                     'things are found where they are in a picture.')
    parser.add_argument('bundle', help='folder of the bundle')
    parser.add_argument('--sky', nargs='+', required=True, help='folders of held-out shards')
    parser.add_argument('--count', type=int, default=300, help='canvases of each size')
    parser.add_argument('--seed', type=int, default=0, help='of what is drawn')
    parser.add_argument('--out', help='JSON file to write')
    options = parser.parse_args(arguments)
    rows = places(options.bundle, shards(options.sky), count=options.count,
                  seed=options.seed)
    if options.out:
        Path(options.out).write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
    print(markdown_table({'rows': rows, 'columns': [
        'canvas', 'by', 'right cell', f'right at {RATE:g}', f'any at {RATE:g} without']}))
