"""
What a bundle is worth: retrieval metrics beside chance, classical baselines and words alone.

Everything runs on the files of the bundle through the product's own encoder and preprocessing.
Real images are those of a manifest, by default its held-out groups; each class has one query,
fixed in ``configs/queries.toml`` before any result was seen.
"""

import argparse
import json
import tomllib
from pathlib import Path

import numpy as np
import torch

from astroclip_search.ranking.calibration import z_score
from astroclip_search.ranking.words import NAMED, counted, informative, read_words
from export.data import pairs as real_pairs
from export.evaluation.collection import Cache, Collection, stamp
from export.evaluation.pooled import JUDGEMENTS, THIS, ask, judged_tables, words_alone
from export.evaluation.precision import Exact, real_row, real_table, scenes_table
from export.evaluation.rendered import fits_table
from export.evaluation.report import VERDICTS, write
from export.evaluation.scenes import SCENES, Classical, read_scenes, shards, synthetic_tables
from export.evaluation.shipped import Shipped
from export.evaluation.surveys import surveys_table
from export.evaluation.tasks import EVERYWHERE, read_queries, tasks_of
from export.evaluation.words import bm25
from export.measures.judged import read_judgements
from export.measures.metrics import METRICS, bootstrap, interval, measure
from export.training.text import SentenceEncoder
from export.training.train import read_config

__all__ = ['ABOVE', 'FLOORS', 'control', 'evaluate', 'fit_weights', 'main', 'standardised',
           'verdict']

#: Where each image belongs to one of two classes: each query minus the other.
CONTRAST = 'this model, one query minus the other'
#: Least that is wanted: set, method, metric, value.
FLOORS = (
    (EVERYWHERE, 'this model', 'AUC', 0.80), (EVERYWHERE, 'this model', 'P@10', 0.45),
    ('SDSS, Galaxy Zoo 1', 'this model', 'AUC', 0.75),
    ('SDSS, Galaxy Zoo 1', 'this model', 'P@10', 0.45),
    ('JWST mosaics', 'this model', 'AUC', 0.68), ('JWST mosaics', 'this model', 'P@10', 0.25),
    ('JWST mosaics', 'picture and words, weight chosen on other queries', 'AP', 0.40),
    ('FIRST radio galaxies', 'this model', 'AUC', 0.80),
    ('FIRST radio galaxies', CONTRAST, 'AUC', 0.80),
)
#: Most that other words for a query may cost in mean AUC.
PARAPHRASE_FLOOR = 0.03
READING = (
    'AUC: chance that an image of the class is above another one. AP: mean, over images of the '
    'class, of the precision down to it. P@10: fraction of the class among the first ten. R@k: '
    'those found among the first k of at most k. MRR: one over the rank of the first. Means over '
    'queries; intervals of 95 % from samples of the images within class and source, which hold '
    'neither the variance of training nor that of wording. Images of equal score are in no order.'
)

_COLUMNS = ['mAUC', 'mAP', *METRICS[2:], 'mAUC 95 %', 'mAP 95 %']
_GRID = np.arange(0, 1.55, 0.05)
#: Phrases and the mosaics that show them, as a look at each picture says.
MOSAICS = Path(__file__).parents[1] / 'configs' / 'mosaics.toml'
#: Standardised cosine above which metadata count. With 1.25 metadata make the first ten of phrases
#: worse that are about the look of a picture, with 1.75 they find less (EXPERIMENTS 19).
ABOVE = 1.5


def fit_weights(z_image, z_words, positive, *, also=None, grid=_GRID):
    """
    Fit the weight of the picture against that of the words, which is one.

    Parameters
    ----------
    z_image, z_words : `numpy.ndarray` of float, shape (n, classes)
        Standardised scores of the picture, and what the words count.
    positive : `numpy.ndarray` of bool, shape (n, classes)
        Truth.
    also : tuple, optional
        The same three of other rows and queries, which count as much together.
    grid : `numpy.ndarray`, optional
        Weights tried.

    Returns
    -------
    weight : float
        Weight of highest mean average precision.
    left_out : `numpy.ndarray` of float, shape (classes,)
        For each query the best weight for the others.
    """
    def precisions(image, words, truth):
        return np.array([measure(weight * image + words, truth)[:, 1] for weight in grid])

    table = precisions(z_image, z_words, positive)
    beside = 0 if also is None else np.nanmean(precisions(*also), axis=1)
    others = [grid[(np.nanmean(np.delete(table, query, axis=1), axis=1) + beside).argmax()]
              for query in range(table.shape[1])] if table.shape[1] > 1 else grid[:1]
    return float(grid[(np.nanmean(table, axis=1) + beside).argmax()]), np.array(others)


def control(scores, positive, *, draws=100):
    """
    Look for metrics that are above chance where nothing was known.

    Labels are permuted against the scores, and all scores are made equal.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n, queries)
        Scores of a method.
    positive : `numpy.ndarray` of bool, shape (n, queries)
        Truth.
    draws : int, optional
        Permutations.

    Returns
    -------
    values : `numpy.ndarray` of float, shape (len(METRICS),)
        Means over permutations and queries.
    faults : list of str
        What is wrong with the evaluation; empty if nothing is.
    """
    rng = np.random.default_rng(0)
    runs = np.array([np.nanmean(measure(scores, positive[rng.permutation(len(positive))]), axis=0)
                     for _ in range(draws)])
    mean, error = runs.mean(0), runs.std(0) / np.sqrt(draws)
    faults = []
    if abs(mean[0] - 0.5) > 4 * error[0] + 1e-3:
        faults.append(f'with labels permuted the mean AUC is {mean[0]:.3f}, not .5')
    constant = np.nanmean(measure(np.zeros_like(scores), positive), axis=0)
    if abs(constant[0] - 0.5) > 1e-6:
        faults.append(f'with equal scores the mean AUC is {constant[0]:.3f}, not .5')
    if abs(constant[2] - positive.mean()) > 1e-6:
        faults.append(f'with equal scores P@10 is {constant[2]:.3f}, not {positive.mean():.3f}')
    return mean, faults


def verdict(positives, area, low, recall):
    """
    Say in a word how well a query works.

    Parameters
    ----------
    positives : int
        Images of the class.
    area, low : float
        Area under the ROC curve and the low end of its interval.
    recall : float
        R@10.

    Returns
    -------
    word : str
        ``'works'`` for an area from .85 with a low end from .75 if also three of the first ten
        are right (of three or more that there are); ``'fails'`` for an area below .6 or an
        interval that reaches .5; ``'few'`` for less than five images; else ``'weak'``.
    """
    if positives < 5:
        return 'few'
    if area >= 0.85 and low >= 0.75 and recall >= 0.3:
        return 'works'
    return 'fails' if area < 0.6 or low <= 0.5 else 'weak'


class _Scored:
    """Metrics of one method on one task, with bootstrap samples."""

    def __init__(self, scores, task, draws):
        self.scores = scores
        self.values = measure(scores, task.positive)
        self.samples = bootstrap(scores, task.positive, strata=task.strata, draws=draws)
        self.macro = np.nanmean(self.values, axis=0)
        self.low, self.high = interval(np.nanmean(self.samples, axis=1), self.macro)

    def row(self, name):
        """Cells of a table with the columns of a method."""
        return [name, *_cells(self.macro, self.low, self.high)]

    def numbers(self):
        """Value, low and high of each metric, for the JSON file."""
        return {metric: [round(float(array[i]), 4) for array in (self.macro, self.low, self.high)]
                for i, metric in enumerate(METRICS)}


def _cells(macro, low=None, high=None):
    spans = ['', ''] if low is None else [_span(low[i], high[i]) for i in range(2)]
    return [*(float(value) for value in macro), *spans]


def _chance(task):
    rng = np.random.default_rng(0)
    return np.mean([np.nanmean(measure(rng.random(task.positive.shape), task.positive), axis=0)
                    for _ in range(20)], axis=0)


def _span(low, high):
    return f'{low:.3f} to {high:.3f}'


def _pixel_scores(model, classical, collection, task, others):
    """Scores of every method that sees the picture alone."""
    vectors = collection.vectors(model, np.arange(len(collection.pairs)))[task.rows]
    methods = {THIS: vectors @ model.texts(task.queries).T}
    if task.positive.shape[1] == 2 and (task.positive.sum(1) == 1).all():
        first, second = methods['this model'].T
        methods[CONTRAST] = np.stack([first - second, second - first], axis=1)
    if len(classical.kinds):
        if any(task.kinds):
            chance = classical.classify('manifest', collection.key, collection.features)[task.rows]
            methods['classical baseline'] = np.stack(
                [chance[:, kinds].sum(1) for kinds in task.kinds], axis=1)
        if task.source and len(others):
            methods['classical, taught these classes'] = classical.taught(task, collection, others)
    return methods


def _real(task, scored, trained, broken):
    """Table of one task by pixels alone; faults of the evaluation are added to ``broken``."""
    model = scored['this model']
    permuted, faults = control(model.scores, task.positive)
    broken += [f'{task.name}: {fault}' for fault in faults]
    ceiling = np.minimum(10, task.positive.sum(0)).mean() / 10
    text = (f'{len(task.rows)} images, {len(task.queries)} queries; a perfect ranking has P@10 '
            f'{ceiling:.3f}.')
    if not task.source:
        text += (' Pictures with a label that do not show people or machines. Sources look unlike '
                 'each other, so that AUC is flattered for all methods: compare it within sources.')
    if trained:
        text += f' This model may have seen the {trained} other images of this source.'
    if 'classical baseline' in scored:
        difference = np.nanmean(model.samples[:, :, 0]
                                - scored['classical baseline'].samples[:, :, 0], axis=1)
        low, high = interval(difference)
        text += (' The classical baseline saw only synthetic scenes, the one that was taught the '
                 'other images and their classes. Model minus first of these in mAUC, 95 % over '
                 f'images: {low:+.3f} to {high:+.3f}.')
    return {
        'title': f'Real images: {task.name}' if task.source else 'All real sky images together',
        'columns': ['', *_COLUMNS], 'text': text,
        'rows': [*(one.row(name) for name, one in scored.items()),
                 ['random', *_cells(_chance(task))], ['labels permuted', *_cells(permuted)]],
    }


def standardised(model, vectors, texts, queries, above=ABOVE):
    """
    Score rows as the product does, apart from the weights.

    Parameters
    ----------
    model : `export.evaluation.shipped.Shipped`
        A bundle with reference images and reference metadata.
    vectors : `numpy.ndarray` of float, shape (n, d)
        Unit vectors of the pictures.
    texts : list of str
        Metadata of the rows.
    queries : list of str
        Phrases.
    above : float, optional
        Standardised cosine above which metadata count; `None` lets all of them count.

    Returns
    -------
    z_image, z_words, counted : `numpy.ndarray` of float, shape (n, queries)
        Standardised cosines of pictures and of metadata, and what the metadata count.
    """
    found = []
    metadata, background = model.metadata(texts), model.bundle.background
    for query, phrase, sentence in zip(queries, model.texts(queries), model.metadata(queries),
                                       strict=True):
        z_image = z_score(vectors @ phrase, background.cosines(phrase))
        z_words = z_score(metadata @ sentence, background.metadata @ sentence)
        words = read_words(texts, [query])
        part = 1.0 if above is None else informative(z_image, z_words, words, above)
        found.append((z_image, z_words,
                      NAMED * words.named + part * counted(z_words, words.least, above)))
    return [np.stack(part, axis=1) for part in zip(*found, strict=True)]


def _by_eye(model, collection, source):
    """The mosaics of a manifest that were judged by eye; `None` if it has none of them."""
    rows = np.array([i for i, pair in enumerate(collection.pairs) if pair.source == source])
    pairs = [collection.pairs[i] for i in rows]
    judged = tomllib.loads(MOSAICS.read_text('utf-8'))
    positive = np.array([[(not set(one.get('labels', ())).isdisjoint(pair.labels)
                           or pair.file.stem in one.get('also', ()))
                          and pair.file.stem not in one.get('except', ())
                          for one in judged.values()] for pair in pairs])
    seen = {name for one in judged.values() for name in one.get('also', ())}
    if seen.isdisjoint(pair.file.stem for pair in pairs):
        return None
    texts = [real_pairs.row_metadata(pair) for pair in pairs]
    return list(judged), positive, standardised(
        model, collection.vectors(model, np.arange(len(collection.pairs)))[rows], texts,
        list(judged))


def _by_words(model, collection, task, pictures, draws):
    """Scores from the metadata of rows, alone and with the picture; tables; fitted weights."""
    words = [real_pairs.row_metadata(collection.pairs[i]) for i in task.rows]
    encoder = SentenceEncoder()
    methods = {'words': model.metadata(words) @ model.metadata(task.queries).T,
               'BM25': bm25(words, task.queries),
               'MiniLM': encoder.encode(words) @ encoder.encode(task.queries).T}
    background, ranking, text, tables = model.bundle.background, None, '', []
    if background.image is not None and background.metadata is not None:
        vectors = collection.vectors(model, np.arange(len(collection.pairs)))[task.rows]
        z_image, _, counts = standardised(model, vectors, words, task.queries)
        by_eye = _by_eye(model, collection, task.source)
        weight, left_out = fit_weights(
            z_image, counts, task.positive,
            also=by_eye and (by_eye[2][0], by_eye[2][2], by_eye[1]))
        methods['both'] = weight * z_image + counts
        methods['picture and words, weight chosen on other queries'] = left_out * z_image + counts
        if model.bundle.ranking_weights:
            image_weight, text_weight = model.bundle.ranking_weights
            _, _, own = standardised(model, vectors, words, task.queries,
                                      model.bundle.words_above)
            methods['picture and words, weights of this bundle'] = (
                image_weight * z_image + text_weight * own)
        text = (f' "both" weights the picture with {weight:.2f}, fitted on these rows, and is '
                'optimistic; so is a bundle whose weights were fitted on them.')
        if by_eye:
            tables.append(_eye_table(task.name, weight, *by_eye))
    scored = {'image': pictures,
              **{name: _Scored(scores, task, draws) for name, scores in methods.items()}}
    if 'both' in scored:
        precision = {name: one.macro[1] for name, one in scored.items()}
        held_out = precision['picture and words, weight chosen on other queries']
        ranking = {
            'image_weight': round(weight, 3), 'text_weight': 1.0, 'text_above': ABOVE,
            'fitted': f'highest mAP on {len(task.rows)} held-out rows of {task.name}, '
                      f'{len(task.queries)} queries'
                      f'{f", and of {len(by_eye[0])} phrases judged by eye" if by_eye else ""}; '
                      f'mAP {precision["both"]:.3f}, {held_out:.3f} cross-validated by query, '
                      f'words alone {precision["words"]:.3f}',
        }
    tables.insert(0, {
        'title': f'Picture and words: rows of {task.name}', 'columns': ['by', *_COLUMNS],
        'text': f'{len(task.rows)} rows, {len(task.queries)} queries; words are target and title, '
                f'never the class. "words" is the sentence tower of the bundle.{text}',
        'rows': [*(one.row(name) for name, one in scored.items()),
                 ['random', *_cells(_chance(task))]],
    })
    return scored, tables, ranking


def _eye_table(name, weight, phrases, positive, parts):
    """Right of the first ten for each phrase that was judged by eye."""
    z_image, z_words, counts = parts
    right = [measure(scores, positive)[:, METRICS.index('P@10')]
             for scores in (z_image, z_words, weight * z_image + counts)]
    return {
        'title': f'Picture and words: {name}, judged by eye',
        'columns': ['phrase', 'right', 'picture', 'words', 'both'],
        'text': f'P@10 among all {len(positive)} rows, of which the model was trained on some; '
                'what a picture shows was judged by eye.',
        'rows': [[phrase, int(positive[:, i].sum()), *(float(values[i]) for values in right)]
                 for i, phrase in enumerate(phrases)],
    }


def _paraphrases(model, collection, task, pictures, paraphrases, draws):
    """Cost of other words in AUC: row of a table, bootstrap samples, phrases one by one."""
    chosen = [(query, phrase) for query, plain in enumerate(task.queries)
              for phrase in paraphrases.get(plain, ())]
    if not chosen:
        return None
    columns = np.array([query for query, _ in chosen])
    vectors = collection.vectors(model, np.arange(len(collection.pairs)))[task.rows]
    scores = vectors @ model.texts([phrase for _, phrase in chosen]).T
    positive = task.positive[:, columns]
    areas = measure(scores, positive)[:, 0]
    samples = bootstrap(scores, positive, strata=task.strata, draws=draws)[:, :, 0]
    asked = np.unique(columns)
    cost = np.array([areas[columns == query].mean() - pictures.values[query, 0]
                     for query in asked])
    costs = np.stack([samples[:, columns == query].mean(1) - pictures.samples[:, query, 0]
                      for query in asked], axis=1)
    plain = float(pictures.values[asked, 0].mean())
    low, high = interval(costs.mean(1))
    row = [task.name, len(asked), len(chosen), plain, plain + float(cost.mean()),
           float(cost.mean()), _span(low, high)]
    details = [{'source': task.name, 'query': task.queries[query], 'paraphrase': phrase,
                'AUC': round(float(area), 4),
                'plain': round(float(pictures.values[query, 0]), 4)}
               for (query, phrase), area in zip(chosen, areas, strict=True)]
    return row, details


def _floors(results, paraphrases):
    """Table of what had to be reached."""
    rows = []
    for place, method, metric, wanted in FLOORS:
        one = results.get(place, {}).get(method)
        if one is None:
            continue
        column = METRICS.index(metric)
        value = float(one.macro[column])
        rows.append([place, method, f'mean {metric}', f'{wanted:.2f}', value,
                     _span(one.low[column], one.high[column]),
                     'reached' if value >= wanted else 'not reached'])
    rows += [[row[0], 'other words for each query', 'mean AUC', f'plain - {PARAPHRASE_FLOOR}',
              row[4], f'{row[6]} of plain', 'reached' if row[5] >= -PARAPHRASE_FLOOR
              else 'not reached'] for row in paraphrases]
    return {'title': 'What had to be reached', 'rows': rows,
            'columns': ['images', 'method', 'metric', 'wanted', 'found', '95 %', ''],
            'text': 'Least values set before training; the sealed test is another set.'}


def _details(task, scored):
    """Describe single queries of a task by this model's picture score."""
    one = scored['this model']
    low, high = interval(one.samples, one.values)
    found = []
    for i, query in enumerate(task.queries):
        count = int(task.positive[:, i].sum())
        found.append({
            'source': task.name, 'query': query, 'labels': list(task.labels[i]),
            'positives': count, 'images': len(task.rows),
            'verdict': verdict(count, one.values[i, 0], low[i, 0],
                               one.values[i, METRICS.index('R@10')]),
            **{metric: [round(float(array[i, j]), 4) for array in (one.values, low, high)]
               for j, metric in enumerate(METRICS)},
        })
    return found


def _details_table(details):
    rows = [[row['source'], row['query'], row['positives'], row['AUC'][0], _span(*row['AUC'][1:]),
             row['AP'][0], *(row[metric][0] for metric in METRICS[2:]), row['verdict']]
            for row in details]
    return {'title': 'Query by query', 'rows': rows,
            'columns': ['source', 'query', 'positives', 'AUC', '95 %', *METRICS[1:], ''],
            'text': 'This model, by image alone. Classes with a handful of positives say little.'}


def evaluate(model_folder, *, sky=(), validation=(), real=None, towers=None, config=None,
             training_scenes=6000, queries=None, all_rows=False, judgements=JUDGEMENTS, also=(),
             seeds=(), fits=False, cache=None, draws=200):
    """
    Measure a bundle.

    Parameters
    ----------
    model_folder : path-like
        The bundle: a folder, the name of an embedded model, or an id of the hub.
    sky : list of path-like
        Folders of training shards, for the classical baseline; none without them.
    validation : list of path-like
        Folders of held-out shards.
    real : path-like, optional
        Folder with ``manifest.jsonl``.
    towers : path-like, optional
        Folder with the float32 ONNX towers, to compare with.
    config : dict, optional
        Configuration of the training run: the same split of real images.
    training_scenes : int, optional
        Scenes that the baseline is trained on.
    queries : path-like, optional
        TOML file of queries in place of ``configs/queries.toml``.
    all_rows : bool, optional
        Judge all rows of the manifest, of which the model was trained on none, in place of
        the held-out ones.
    judgements : path-like, optional
        CSV file of what pictures show, as ``configs/judgements.csv``.
    also : sequence of str, optional
        Other bundles, put to the same questions.
    seeds : sequence of str, optional
        Bundles of further runs of this model, which say how far seeds lie apart.
    fits : bool, optional
        Search some of the images as FITS files, too.
    cache : path-like, optional
        NPZ file that keeps what was computed from pixels.
    draws : int, optional
        Bootstrap samples.

    Returns
    -------
    result : dict
        ``metrics`` with ``tables`` for the model card, ``sources``, ``queries``,
        ``paraphrases``, ``concepts`` and ``broken`` (faults of the evaluation itself) and, with
        real rows that have words, ``ranking``.
    """
    cache = Cache(cache)
    model = Shipped(model_folder)
    exact = Exact(towers, model.bundle) if towers else None
    classical = Classical(sky, training_scenes, cache)
    said = read_judgements(judgements, column='shows') if judgements and real else {}
    metrics = {'bundle': {'name': model.bundle.name, 'revision': model.bundle.revision},
               'reading': READING, 'tables': [], 'sources': {}, 'queries': [], 'paraphrases': [],
               'concepts': {}, 'broken': []}
    result = {'metrics': metrics}
    if shards(validation):
        metrics['tables'] += synthetic_tables(model, classical, validation, cache)
        if exact:
            scenes = read_scenes(validation, SCENES)
            metrics['tables'].append(scenes_table(model, exact, *scenes))
    if real:
        collection = Collection(real, cache)
        judged = np.ones(len(collection.pairs), bool)
        if not all_rows:
            judged = collection.held_out((config or read_config(None))['data'])
        questions = read_queries(queries)
        others = {name: (number, Shipped(bundle)) for number, (name, bundle)
                  in enumerate(zip(_names([*also, *seeds]), [*also, *seeds], strict=True))}
        asked = _judge(model, exact, classical, collection, judged, questions, draws, result)
        asked = [ask(task, collection.pairs, said, {
            **scores, **_scores_of(others, collection, np.flatnonzero(judged), task),
            **words_alone(task, collection.pairs)}, seeds=list(others)[len(also):])
            for task, scores in asked]
        _fair(model, collection, asked, [THIS, *others], fits, cache, draws, metrics)
    cache.save()
    return result


def _judge(model, exact, classical, collection, judged, questions, draws, result):
    """Add the tables of real images to a result; return tasks and scores by pixels."""
    metrics, results, other_words, eight_bits, asked = result['metrics'], {}, [], [], []
    sources = np.array([pair.source for pair in collection.pairs])
    for task in tasks_of(collection.pairs, np.flatnonzero(judged), questions):
        others = np.flatnonzero(~judged & (sources == task.source))
        scored = {name: _Scored(scores, task, draws) for name, scores
                  in _pixel_scores(model, classical, collection, task, others).items()}
        metrics['tables'].append(_real(task, scored, len(others), metrics['broken']))
        pictures = scored['this model']
        asked.append((task, {name: one.scores for name, one in scored.items()
                             if name != CONTRAST}))
        if exact:
            images = [real_pairs.load_pixels(collection.pairs[i].file) for i in task.rows]
            eight_bits.append(real_row(exact, images, task, pictures.scores))
        if task.source and any(collection.pairs[i].obs_title for i in task.rows):
            by_words, tables, ranking = _by_words(model, collection, task, pictures, draws)
            scored.update({name: one for name, one in by_words.items() if name != 'image'})
            metrics['tables'] += tables
            if ranking:
                result['ranking'] = ranking
        found = _paraphrases(model, collection, task, pictures, questions[1]['paraphrases'], draws)
        if found:
            other_words.append(found[0])
            metrics['paraphrases'] += found[1]
        results[task.name] = scored
        metrics['sources'][task.name] = {
            'images': len(task.rows), 'queries': len(task.queries),
            'methods': {name: one.numbers() for name, one in scored.items()},
        }
        details = _details(task, scored)
        metrics['queries'] += details
        metrics['concepts'][task.name] = {
            word: [row['query'] for row in details if row['verdict'] == word] for word in VERDICTS}
    if eight_bits:
        metrics['tables'].append(real_table(eight_bits))
    if other_words:
        metrics['tables'].append({
            'title': 'Other words for the same', 'rows': other_words,
            'columns': ['images', 'queries', 'paraphrases', 'plain mAUC', 'paraphrased',
                        'difference', '95 %'],
            'text': 'Paraphrases that no model was trained on, one at a time; their mean AUC '
                    'beside that of the plain query.'})
    floors = _floors(results, other_words)
    if floors['rows']:
        metrics['tables'].append(floors)
    if metrics['queries']:
        metrics['tables'].append(_details_table(metrics['queries']))
    return asked


def _names(bundles):
    """Name bundles by their folders, and by numbers where these are equal."""
    names = [Path(str(bundle)).name for bundle in bundles]
    return [f'{name} ({number})' if names.count(name) > 1 or name == THIS else name
            for number, name in enumerate(names, start=1)]


def _scores_of(others, collection, rows, task):
    """Scores of other bundles, which embed no more than the images that are judged."""
    places = np.searchsorted(rows, task.rows)
    return {name: collection.vectors(model, rows, name=f'vectors beside, {number}')[places]
            @ model.texts(task.queries).T for name, (number, model) in others.items()}


def _fair(model, collection, asked, methods, fits, cache, draws, metrics):
    """Add the tables by labels and judgements; the first only where there are some, or others."""
    if not asked:
        return
    if len(methods) > 1 or any(one.looked for one in asked):
        tables, metrics['judged'] = judged_tables(asked, draws=draws)
        metrics['tables'] += tables
    last = asked[-1]
    if not last.task.source:
        sources = np.array([collection.pairs[i].source for i in last.task.rows])
        table, metrics['surveys'] = surveys_table(last, sources, methods)
        metrics['tables'] += [table] if table else []
    if fits:
        metrics['tables'].append(fits_table(
            model, collection.pairs, last, cache, stamp(collection.key, model.bundle.revision),
            draws=draws))


def main(arguments):
    """
    Run ``python -m export evaluate``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        1 if the evaluation itself is broken, else 0.
    """
    parser = argparse.ArgumentParser(
        prog='python -m export evaluate',
        description='Measure a bundle beside chance, classical baselines and words alone.')
    parser.add_argument('bundle', help="folder of the bundle, 'default', or an id of the hub")
    parser.add_argument('--sky', nargs='+', default=[], help='training shards: baseline')
    parser.add_argument('--validation', nargs='+', default=[], help='held-out shards')
    parser.add_argument('--real', help='folder with manifest.jsonl')
    parser.add_argument('--all-rows', action='store_true',
                        help='judge all rows of the manifest, not only those held out')
    parser.add_argument('--queries', help='TOML file of queries, see configs/queries.toml')
    parser.add_argument('--judgements', default=JUDGEMENTS, metavar='FILE',
                        help='CSV file: query, source, id, shows; see configs/judgements.md')
    parser.add_argument('--also', nargs='+', default=[], metavar='BUNDLE',
                        help='other bundles, put to the same questions')
    parser.add_argument('--seeds', nargs='+', default=[], metavar='BUNDLE',
                        help='bundles of further runs of this model')
    parser.add_argument('--fits', action='store_true',
                        help='search some of the images as FITS files, too')
    parser.add_argument('--towers', help='folder with the float32 ONNX towers, to compare with')
    parser.add_argument('--config', help='TOML file of the training run')
    parser.add_argument('--draws', type=int, default=200, help='bootstrap samples')
    parser.add_argument('--out', required=True,
                        help='JSON file to write; a table, plots and a cache go beside it')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    out = Path(options.out)
    try:
        read_judgements(options.judgements, column='shows')
    except (OSError, ValueError) as error:
        parser.error(str(error))
    result = evaluate(options.bundle, sky=options.sky, validation=options.validation,
                      real=options.real, towers=options.towers, config=read_config(options.config),
                      queries=options.queries, all_rows=options.all_rows, draws=options.draws,
                      judgements=options.judgements, also=options.also, seeds=options.seeds,
                      fits=options.fits, cache=out.with_suffix('.cache.npz'))
    out.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    files = write(result, out)
    print(files[0].read_text(encoding='utf-8'))
    return 1 if result['metrics']['broken'] else 0
