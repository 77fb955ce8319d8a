"""
Is ``clip_false_alarm`` honest: how many unrelated images does a threshold let through?

Every query of ``configs/queries.toml`` is put to every source. An image counts as
unrelated to a query if it has labels and none of their classes shares a kind with
the query; images without labels are left out, as they may show it.
"""

import argparse
import json
import tomllib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from astroclip_search.bundle import open_bundle
from astroclip_search.encoder import open_encoder
from astroclip_search.pixels import resize
from astroclip_search.query import Query
from astroclip_search.ranking import exceedance
from export import pairs as real_pairs
from export.batches import read_shard, split_folder
from export.bundle import REFERENCES
from export.sky import KINDS
from export.train import read_config

__all__ = ['THRESHOLDS', 'TOLERANCE', 'calibration', 'false_alarms', 'main', 'passed', 'verdict']

#: Rates that are judged.
THRESHOLDS = (0.001, 0.01, 0.05, 0.1)
#: A threshold of 1 % is honest if it lets 1 % through, give or take this.
TOLERANCE = 0.003
#: Fewest unrelated images of which a rate is measured.
FEWEST = 20

_QUERIES = Path(__file__).parent / 'configs' / 'queries.toml'
_COLUMNS = ['source', 'images', 'queries', *(f'{threshold:g}' for threshold in THRESHOLDS),
            'at 0.01']
# Eight bits move a vector by less than this, another image moves it by more.
_SAME = 0.9995


class _Model:
    """A bundle as the product runs it."""

    def __init__(self, path):
        self.bundle = open_bundle(str(path))
        self._encoder = open_encoder(self.bundle, device='cpu', n_threads=1)

    def images(self, images):
        """Embed RGB arrays."""
        return np.concatenate([self._encoder.encode_images(np.stack([
            resize(Image.fromarray(image), self.bundle.preprocessing)
            for image in images[start:start + 64]])) for start in range(0, len(images), 64)])

    def texts(self, texts):
        """Embed queries of one phrase each."""
        return np.stack([Query([text]).image_vector(self._encoder) for text in texts])


def false_alarms(images, phrases, background):
    """
    Compute false-alarm rates as the product does, but never compare an image with itself.

    Parameters
    ----------
    images : `numpy.ndarray` of float, shape (n, d)
        Unit vectors.
    phrases : `numpy.ndarray` of float, shape (q, d)
        Unit vectors of the queries.
    background : `numpy.ndarray` of float, shape (m, d)
        Unit vectors of the reference images, some of which may be among ``images``.

    Returns
    -------
    rates : `numpy.ndarray` of float, shape (n, q)
        Of the other reference images.
    """
    same = images @ background.T > _SAME
    others = len(background) - same.sum(1)
    cosines, against = images @ phrases.T, background @ phrases.T
    rates = np.empty(cosines.shape)
    for i, (cosine, reference) in enumerate(zip(cosines.T, against.T, strict=True)):
        itself = (same & (reference >= cosine[:, None])).sum(1)
        rates[:, i] = (exceedance(cosine, reference) * len(background) - itself) / others
    return rates.clip(0, 1)


def passed(rates, unrelated, *, draws=400):
    """
    Measure which fraction of unrelated images is at or below each threshold.

    Parameters
    ----------
    rates : `numpy.ndarray` of float, shape (n, q)
        False-alarm rates.
    unrelated : `numpy.ndarray` of bool, shape (n, q)
        Which images have nothing to do with which query; a query with fewer than
        `FEWEST` is left out.
    draws : int, optional
        Bootstrap samples over images and queries.

    Returns
    -------
    mean, low, high : `numpy.ndarray` of float, shape (thresholds,)
        Mean over queries with the central 95 %.
    queries : int
        Queries in the mean.
    """
    kept = unrelated.sum(0) >= FEWEST
    if not kept.any():
        return (np.full(len(THRESHOLDS), np.nan),) * 3 + (0,)
    rates, unrelated = rates[:, kept], unrelated[:, kept]
    # Float rounding must not push 13 of 1300 above 1 %.
    below = np.stack([unrelated & (rates <= threshold + 1e-7) for threshold in THRESHOLDS])
    rng = np.random.default_rng(0)
    size, count = rates.shape
    samples = []
    for _ in range(draws):
        weights = rng.multinomial(size, np.full(size, 1 / size)).astype(float)
        queries = rng.integers(count, size=count)
        share = (weights @ below) / np.maximum(weights @ unrelated, 1)
        samples.append(share[:, queries].mean(1))
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    return (below.sum(1) / unrelated.sum(0)).mean(1), low, high, count


def verdict(mean):
    """
    Say whether a threshold of 1 % lets 1 % through.

    Parameters
    ----------
    mean : `numpy.ndarray` of float, shape (thresholds,)
        From `passed`.

    Returns
    -------
    verdict : str
        ``honest``, ``too few`` (the rate is pessimistic), ``too many``, or ``unknown``.
    """
    excess = mean[THRESHOLDS.index(0.01)] - 0.01
    if np.isnan(excess):
        return 'unknown'
    if abs(excess) <= TOLERANCE:
        return 'honest'
    return 'too many' if excess > 0 else 'too few'


def calibration(model_folder, *, real=None, sky=(), config=None):
    """
    Measure a bundle.

    Parameters
    ----------
    model_folder : path-like
        The bundle.
    real : path-like, optional
        Folder with ``manifest.jsonl``; its held-out images are judged.
    sky : list of path-like
        Folders of held-out shards.
    config : dict, optional
        Configuration of the training run: the same split of real images.

    Returns
    -------
    result : dict
        ``background`` (number of reference images) and ``tables``: one with the background as it
        is, and one without reference images of the source that is judged, which is what an
        archive unlike all others meets.

    Raises
    ------
    ValueError
        If the bundle has no reference images.
    """
    model = _Model(model_folder)
    background = model.bundle.background.image
    if background is None:
        raise ValueError('the bundle has no reference images')
    content = tomllib.loads(_QUERIES.read_text(encoding='utf-8'))
    classes = {source: content[source] for source in REFERENCES}
    kinds_of = {}
    for table in classes.values():
        for phrase, *kinds in table.values():
            kinds_of.setdefault(phrase, set()).update(kinds)
    phrases = model.texts(list(kinds_of))
    rows, without = [], []
    for name, vectors, shown, judged in _sources(model, classes, real, sky, config):
        apart = np.array([[bool(kinds) and not kinds & query for query in kinds_of.values()]
                          for kinds in shown])[judged]
        foreign = background[(vectors @ background.T).max(0) <= _SAME]
        for reference, table in ((background, rows), (foreign, without)):
            if len(reference):
                table.append(_row(name, false_alarms(vectors[judged], phrases, reference), apart))
    text = (f'{len(kinds_of)} queries; fraction of unrelated images at or below each false-alarm '
            'rate, mean over queries, with 95 % over images and queries.')
    return {'background': len(background), 'tables': [
        {'title': 'Unrelated images let through', 'columns': _COLUMNS, 'rows': rows,
         'text': f'{len(background)} reference images, {text}'},
        {'title': 'The same without reference images of the source', 'columns': _COLUMNS,
         'rows': without, 'text': text},
    ]}


def _row(name, rates, unrelated):
    mean, low, high, queries = passed(rates, unrelated)
    cells = [f'{m:.4f} [{a:.4f}, {b:.4f}]' for m, a, b in zip(mean, low, high, strict=True)]
    return [name, int(unrelated.any(1).sum()), queries, *cells, verdict(mean)]


def _sources(model, classes, real, sky, config):
    """Yield name, vectors, kinds that each image shows, and which images are judged."""
    if real:
        pairs, held_out = split_folder({**(config or read_config(None))['data'], 'real': real})
        sources = np.array([pair.source for pair in pairs])
        for source, table in classes.items():
            rows = np.flatnonzero(sources == source)
            if held_out[rows].any():
                images = [real_pairs.load_pixels(pairs[i].file) for i in rows]
                yield (source, model.images(images),
                       [_kinds(pairs[i].labels, table) for i in rows], held_out[rows])
    shards = [read_shard(path) for folder in sky for path in sorted(Path(folder).glob('sky-*.npz'))]
    if shards:
        kinds = np.concatenate([shard[1] for shard in shards])
        yield ('synthetic scenes', np.concatenate([model.images(shard[0]) for shard in shards]),
               [{KINDS[kind]} for kind in kinds], np.ones(len(kinds), bool))


def _kinds(labels, table):
    """Return the kinds of all labels that are classes, empty if none is."""
    names = {name for label in labels for name in (label, label.split(', ')[0])}
    return {kind for name in names & set(table) for kind in table[name][1:]}


def main(arguments):
    """
    Run ``python -m export calibration``.

    Parameters
    ----------
    arguments : list of str
        Command line.
    """
    parser = argparse.ArgumentParser(prog='python -m export calibration',
                                     description='Measure whether false-alarm rates are honest.')
    parser.add_argument('bundle', help='folder of the bundle')
    parser.add_argument('--real', help='folder with manifest.jsonl')
    parser.add_argument('--sky', nargs='+', default=[], help='folders of held-out shards')
    parser.add_argument('--config', help='TOML file of the training run')
    parser.add_argument('--out', help='JSON file to write')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result = calibration(options.bundle, real=options.real, sky=options.sky,
                         config=read_config(options.config))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    for table in result['tables']:
        print(f"\n{table['title']}: {table['text']}")
        for row in [table['columns'], *table['rows']]:
            print('  ' + ' '.join(f'{cell!s:24}' for cell in row))
