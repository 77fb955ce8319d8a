"""
Is ``clip_false_alarm`` honest: how many unrelated images does a threshold let through?
And how many that show what is asked, and how often does chance alone look like a find?

Every query of ``configs/queries.toml`` is put to every source. An image counts as
unrelated to a query if it has labels and none of their classes shares a kind with
the query; images without labels are left out, as they may show it.
"""

import argparse
import dataclasses
import json
import tomllib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from astroclip_search.images.preprocess import resize
from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import open_encoder
from astroclip_search.ranking.calibration import (
    LIKELY_CHANCE,
    TRUSTED_RATE,
    archives_of,
    chance,
    false_alarm_rate,
    left_out_rate,
)
from astroclip_search.ranking.query import Query
from export.data import pairs as real_pairs
from export.evaluation import temperature
from export.evaluation.background import REFERENCES
from export.sky import KINDS
from export.training.batches import read_shard, split_folder
from export.training.train import read_config

__all__ = ['SAME', 'SHOWING', 'THRESHOLDS', 'TOLERANCE', 'Model', 'by_phrase', 'calibration',
           'false_alarms', 'finds', 'main', 'passed', 'queries', 'shown_kinds', 'verdict']

#: Rates that are judged.
THRESHOLDS = (0.001, 0.01, 0.05, 0.1)
#: A threshold of 1 % is honest if it lets 1 % through, give or take this.
TOLERANCE = 0.003
#: Name of the rendered images among the sources.
SCENES = 'synthetic scenes'
#: Fewest unrelated images of which a rate is measured.
FEWEST = 20
#: Rows of the tables in which a find is looked for, and which of them show it in every other table.
TABLES = (100, 500)
SHOWING = 0.05

#: What should pass at 1 %.
_BAND = (0.003, 0.02)
_QUERIES = Path(__file__).parents[1] / 'configs' / 'queries.toml'
_COLUMNS = ['source', 'images', 'queries', *(f'{threshold:g}' for threshold in THRESHOLDS),
            'at 0.01', 'that show it']
#: Cosine of an image with itself: eight bits move a vector by less, another image moves it by more.
SAME = 0.9995


class Model:
    """A bundle as the product runs it."""

    def __init__(self, path):
        self.bundle = open_bundle(str(path))
        self.encoder = open_encoder(self.bundle, device='cpu', n_threads=1)

    def images(self, images):
        """Embed RGB arrays."""
        return np.concatenate([self.encoder.encode_images(np.stack([
            resize(Image.fromarray(image), self.bundle.preprocessing)
            for image in images[start:start + 64]])) for start in range(0, len(images), 64)])

    def texts(self, texts):
        """Embed queries of one phrase each."""
        return np.stack([Query([text]).image_vector(self.encoder) for text in texts])


def false_alarms(images, phrases, background):
    """
    Compute false-alarm rates as the product does, but never compare an image with itself.

    Parameters
    ----------
    images : `numpy.ndarray` of float, shape (n, d)
        Unit vectors.
    phrases : `numpy.ndarray` of float, shape (q, d)
        Unit vectors of the queries.
    background : `astroclip_search.models.background.Background`
        The reference images, some of which may be among ``images``.

    Returns
    -------
    rates : `numpy.ndarray` of float, shape (n, q)
        See `astroclip_search.ranking.calibration.false_alarm_rate`.
    """
    cosines, against = images @ phrases.T, background.cosines(phrases)
    rates = np.stack([false_alarm_rate(cosine, reference, background.source)
                      for cosine, reference in zip(cosines.T, against.T, strict=True)], axis=1)
    same = images @ background.image.T > SAME
    for row in np.flatnonzero(same.any(1)):
        others = ~same[row]
        source = None if background.source is None else background.source[others]
        rates[row] = [false_alarm_rate(cosine[None], reference, source)[0] for cosine, reference
                      in zip(cosines[row], against[others].T, strict=True)]
    return rates


def passed(rates, unrelated, *, draws=400, fewest=None):
    """
    Measure which fraction of unrelated images is at or below each threshold.

    Parameters
    ----------
    rates : `numpy.ndarray` of float, shape (n, q)
        False-alarm rates.
    unrelated : `numpy.ndarray` of bool, shape (n, q)
        Which images have nothing to do with which query.
    draws : int, optional
        Bootstrap samples over images and queries.
    fewest : int, optional
        A query with fewer such images is left out; by default `FEWEST`.

    Returns
    -------
    mean, low, high : `numpy.ndarray` of float, shape (thresholds,)
        Mean over queries with the central 95 %.
    queries : int
        Queries in the mean.
    """
    kept = unrelated.sum(0) >= (FEWEST if fewest is None else fewest)
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


def finds(images, phrases, background, unrelated, showing, size, *, draws=2):
    """
    Draw tables of images and count those in which something stands out.

    Parameters
    ----------
    images : `numpy.ndarray` of float, shape (n, d)
        Unit vectors.
    phrases : `numpy.ndarray` of float, shape (q, d)
        Unit vectors of the queries.
    background : `astroclip_search.models.background.Background`
        The reference images. Those that are in a table do not count for it.
    unrelated, showing : `numpy.ndarray` of bool, shape (n, q)
        Which images have nothing to do with which query, and which show it.
    size : int
        Rows of a table.
    draws : int, optional
        Tables of each query.

    Returns
    -------
    alone, among : float
        Share of the tables of unrelated images, and of those where `SHOWING` of them were
        replaced by images that show it, that are no more likely by chance than
        `astroclip_search.ranking.calibration.LIKELY_CHANCE`; NaN if there are not enough images.
    """
    rng = np.random.default_rng(0)
    cosines, against = images @ phrases.T, background.cosines(phrases)
    same = images @ background.image.T > SAME
    alone, among = [], []
    for cosine, reference, others, wanted in zip(cosines.T, against.T, unrelated.T, showing.T,
                                                 strict=True):
        others, wanted = np.flatnonzero(others), np.flatnonzero(wanted)
        if len(others) < size:
            continue
        for _ in range(draws):
            table = rng.choice(others, size, replace=False)
            alone.append(_stands_out(cosine, reference, same, background.source, table))
            if len(wanted) >= 3:
                count = max(1, round(SHOWING * size))
                table[:count] = rng.choice(wanted, count)
                among.append(_stands_out(cosine, reference, same, background.source, table))
    return tuple(float(np.mean(found)) if found else np.nan for found in (alone, among))


def _stands_out(cosine, reference, same, source, table):
    foreign = np.where(same[table].any(0), np.nan, reference)
    return chance(cosine[table], [foreign[rows] for rows in archives_of(foreign, source)]
                  ) <= LIKELY_CHANCE


def by_phrase(rates, unrelated):
    """
    Measure which fraction of one source's unrelated images is at or below each threshold.

    Parameters
    ----------
    rates : `numpy.ndarray` of float, shape (n, q)
        False-alarm rates.
    unrelated : `numpy.ndarray` of bool, shape (n, q)
        Which images have nothing to do with which query.

    Returns
    -------
    shares : `numpy.ndarray` of float, shape (q, thresholds)
        NaN for a query with fewer than `FEWEST` such images.
    """
    shares = np.full((rates.shape[1], len(THRESHOLDS)), np.nan)
    kept = unrelated.sum(0) >= FEWEST
    for i, threshold in enumerate(THRESHOLDS):
        below = unrelated & (rates <= threshold + 1e-7)
        shares[kept, i] = below.sum(0)[kept] / unrelated.sum(0)[kept]
    return shares


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
        ``background`` (number of reference images), ``tables``, and ``classify`` (see
        `export.evaluation.temperature.table`; `None` without real images). The tables: one with
        the background as it is, one without reference images of the source that is judged, which
        is what an archive unlike all others meets, the same phrase by phrase, one of finds, and
        one of probabilities. Of synthetic scenes the same seeds are never met, but scenes of the
        same kinds.

    Raises
    ------
    ValueError
        If the bundle has no reference images.
    """
    model = Model(model_folder)
    background = model.bundle.background
    if background.image is None:
        raise ValueError('the bundle has no reference images')
    classes, kinds_of = queries()
    phrases = model.texts(list(kinds_of))
    rows, without, found, shares, of_source = [], [], [], {}, {}
    for name, vectors, shown, judged in _sources(model, classes, real, sky, config):
        showing = np.array([[bool(kinds & query) for query in kinds_of.values()]
                            for kinds in shown])[judged]
        unrelated = np.array([bool(kinds) for kinds in shown])[judged, None] & ~showing
        if name != SCENES:
            of_source[name] = vectors[judged] @ phrases.T, showing
        foreign = (vectors @ background.image.T).max(0) <= SAME
        for kept, table in ((np.ones_like(foreign), rows), (foreign, without)):
            if kept.any():
                rates = false_alarms(vectors[judged], phrases, _subset(background, kept))
                table.append(_row(name, rates, unrelated, showing))
                left = _subset(background, kept)
                judged_as = 'as it is' if table is rows else 'source left out'
                found += [[name, judged_as, size, *_percent(finds(
                    vectors[judged], phrases, left, unrelated, showing, size))]
                          for size in TABLES if unrelated.sum(0).max(initial=0) >= size]
                if table is without:
                    shares[name] = by_phrase(rates, unrelated)[:, THRESHOLDS.index(0.01)]
    text = (f'{len(kinds_of)} queries; fraction of unrelated images at or below each false-alarm '
            'rate, mean over queries, with 95 % over images and queries; last the fraction of '
            'images that show it at or below 0.01.')
    classify, probabilities = temperature.table(of_source, list(kinds_of.values()),
                                                model.bundle.logit_scale)
    return {'background': len(background.image), 'classify': classify, 'tables': [
        {'title': 'Unrelated images let through', 'columns': _COLUMNS, 'rows': rows,
         'text': f'{len(background.image)} reference images, {text}'},
        {'title': 'The same without reference images of the source', 'columns': _COLUMNS,
         'rows': without, 'text': text},
        _phrases(kinds_of, background.cosines(phrases), background.source, shares),
        {'title': 'Tables in which something stands out', 'rows': found,
         'columns': ['source', 'background', 'rows', 'none shows it', f'{SHOWING:.0%} show it'],
         'text': f'by chance in less than {LIKELY_CHANCE:.0%}, says the product.'},
        probabilities,
    ]}


def _subset(background, kept):
    label, source = (None if of_images is None else of_images[kept]
                     for of_images in (background.label, background.source))
    return dataclasses.replace(background, image=background.image[kept], label=label,
                               source=source)


def _phrases(names, against, source, shares):
    """Lay out what passes at 0.01 with the source left out, one row a phrase."""
    rows, told = [], []
    if source is not None and shares:
        of_phrases = np.stack(list(shares.values()), axis=1)
        for name, reference, share in zip(names, against.T, of_phrases, strict=True):
            tried = left_out_rate(reference, source)
            doubted = tried > TRUSTED_RATE
            rows.append([name, f'{tried:.3f}{"*" if doubted else ""}',
                         *('-' if np.isnan(one) else f'{one:.4f}' for one in share)])
            if not np.isnan(share).all():
                told.append((doubted, np.nanmax(share), np.nanmean(share)))
    text = ('Share of unrelated images that pass at 0.01, source by source, each without its own '
            'references. First what passes, at the least, of the references of an archive that is '
            f'left out, with a star where the product does not trust the rates (above '
            f'{TRUSTED_RATE:g}).')
    if told:
        doubted, worst, mean = np.array(told).T
        least, most = _BAND
        text += (
            f' Of {len(told)} phrases {doubted.mean():.0%} have a star. In no source more than '
            f'{most:g}, or a star: {((worst <= most) | (doubted > 0)).mean():.0%}. Mean over '
            f'sources at most {most:g}: {(mean <= most).mean():.0%}, at least {least:g}, too: '
            f'{((mean >= least) & (mean <= most)).mean():.0%}.')
    return {'title': 'Phrase by phrase, with the source left out', 'rows': rows,
            'columns': ['query', 'tried', *shares], 'text': text}


def _percent(shares):
    return ['-' if np.isnan(share) else f'{share:.0%}' for share in shares]


def _row(name, rates, unrelated, showing):
    mean, low, high, queries = passed(rates, unrelated)
    cells = [f'{m:.4f} [{a:.4f}, {b:.4f}]' for m, a, b in zip(mean, low, high, strict=True)]
    power = passed(rates, showing, draws=1, fewest=5)[0][THRESHOLDS.index(0.01)]
    return [name, int(unrelated.any(1).sum()), queries, *cells, verdict(mean), f'{power:.2f}']


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
                       [shown_kinds(pairs[i].labels, table) for i in rows], held_out[rows])
    shards = [read_shard(path) for folder in sky for path in sorted(Path(folder).glob('sky-*.npz'))]
    if shards:
        kinds = np.concatenate([shard[1] for shard in shards])
        yield (SCENES, np.concatenate([model.images(shard[0]) for shard in shards]),
               [{KINDS[kind]} for kind in kinds], np.ones(len(kinds), bool))


def queries():
    """
    Read the queries of all sources.

    Returns
    -------
    classes : dict
        For each source its labels, with the query and the kinds of each.
    kinds_of : dict
        For each query the kinds that show it.
    """
    content = tomllib.loads(_QUERIES.read_text(encoding='utf-8'))
    classes = {source: content[source] for source in REFERENCES}
    kinds_of = {}
    for table in classes.values():
        for phrase, *kinds in table.values():
            kinds_of.setdefault(phrase, set()).update(kinds)
    return classes, kinds_of


def shown_kinds(labels, table):
    """
    Find the kinds that an image shows.

    Parameters
    ----------
    labels : sequence of str
        Its labels.
    table : dict
        Labels of its source that are classes, from `queries`.

    Returns
    -------
    kinds : set of str
        Of all labels that are classes, empty if none is.
    """
    names = {name for label in labels for name in (label, label.split(', ')[0])}
    return {kind for name in names & set(table) for kind in table[name][1:]}


def _add(path, result):
    """Add to what evaluate has measured, in place of what was added before."""
    measured = json.loads(path.read_text(encoding='utf-8'))
    titles = {table['title'] for table in result['tables']}
    kept = [table for table in measured['metrics'].get('tables', ())
            if table['title'] not in titles]
    measured['metrics']['tables'] = kept + result['tables']
    if result['classify']:
        measured['classify'] = result['classify']
    path.write_text(json.dumps(measured, indent=1) + '\n', encoding='utf-8')


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
    parser.add_argument('--metrics', help='JSON file of evaluate, to which tables and temperature '
                                          'are added for the bundle and its card')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result = calibration(options.bundle, real=options.real, sky=options.sky,
                         config=read_config(options.config))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    if options.metrics:
        _add(Path(options.metrics), result)
    for table in result['tables']:
        print(f"\n{table['title']}: {table['text']}")
        for row in [table['columns'], *table['rows']]:
            print('  ' + ' '.join(f'{cell!s:24}' for cell in row))
