"""
What a finished bundle is worth: retrieval metrics beside chance and a classical baseline.

Everything runs on the files of the bundle through the product's own encoder and
preprocessing. Real images are the held-out groups of a manifest; each class has
one query, fixed in ``configs/queries.toml`` before any result was seen.
"""

import argparse
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer

from astroclip_search.bundle import open_bundle
from astroclip_search.encoder import open_encoder
from astroclip_search.pixels import resize
from astroclip_search.ranking import standardise
from export import baseline
from export import pairs as real_pairs
from export.batches import read_shard, split_folder
from export.metrics import area_difference, average_precision, random_retrieval, retrieval
from export.quantise import parity
from export.sky import HELD_OUT, KINDS, names
from export.to_onnx import session
from export.train import read_config
from export.vision import normalise

__all__ = ['QUERIES', 'SOURCES', 'Classes', 'evaluate', 'fit_weights', 'main']

_COLUMNS = ['mAUC', 'mAP', 'P@10']
#: One query per class.
QUERIES = Path(__file__).parent / 'configs' / 'queries.toml'
#: Sources of a manifest as a reader knows them.
SOURCES = {'apod': 'APOD', 'smallgz1': 'SDSS, Galaxy Zoo 1', 'frdeep': 'FIRST radio galaxies',
           'jwst_yuval': 'JWST mosaics'}
_GRID = np.arange(0, 1.55, 0.05)
_LABEL_ALIASES = {'spiral galaxy, clockwise': 'spiral galaxy',
                  'spiral galaxy, anticlockwise': 'spiral galaxy'}


@dataclass(frozen=True)
class Classes:
    """
    Images of one source and the classes they are searched for.

    Parameters
    ----------
    labels : list of str
        Labels of the classes in the manifest.
    queries : list of str
        One phrase per class.
    positive : `numpy.ndarray` of bool, shape (n, classes)
        Which images belong to which class.
    kinds : list of list of int
        Synthetic kinds that stand for each class, for the baseline.
    """

    labels: list
    queries: list
    positive: np.ndarray
    kinds: list


def fit_weights(z_image, z_words, positive, *, grid=_GRID):
    """
    Fit the weight of the picture against that of the words, which is one.

    Parameters
    ----------
    z_image, z_words : `numpy.ndarray` of float, shape (n, classes)
        Standardised scores.
    positive : `numpy.ndarray` of bool, shape (n, classes)
        Truth.
    grid : `numpy.ndarray`, optional
        Weights tried.

    Returns
    -------
    weight : float
        Weight of highest mean average precision.
    held_out : float
        Mean average precision when the weight for each query is chosen on the
        others.
    """
    table = np.array([
        [average_precision(weight * image + words, truth)
         for image, words, truth in zip(z_image.T, z_words.T, positive.T, strict=True)]
        for weight in grid
    ])
    best = grid[table.mean(1).argmax()]
    left_out = [table[np.delete(table, query, axis=1).mean(1).argmax(), query]
                for query in range(table.shape[1])]
    return float(best), float(np.mean(left_out))


class _Model:
    """A bundle as the product runs it."""

    def __init__(self, path):
        self.bundle = open_bundle(str(path))
        self._encoder = open_encoder(self.bundle, device='cpu', n_threads=1)

    def images(self, images):
        """Embed RGB arrays."""
        parts = []
        for start in range(0, len(images), 64):
            pixels = np.stack([resize(Image.fromarray(image), self.bundle.preprocessing)
                               for image in images[start:start + 64]])
            parts.append(self._encoder.encode_images(pixels))
        return np.concatenate(parts)

    def texts(self, texts, *, templates=None):
        """Embed phrases in the joint space, each averaged over the prompt templates."""
        total = sum(self._encoder.encode_text([template.format(text) for text in texts])
                    for template in templates or self.bundle.prompt_templates)
        return total / np.linalg.norm(total, axis=1, keepdims=True)

    def words(self, texts):
        """Embed phrases in the sentence space."""
        return self._encoder.encode_words(list(texts))


def _truth(pairs, labels):
    """Say which images have which labels, shape (images, labels)."""
    found = [{_LABEL_ALIASES.get(label, label) for label in pair.labels} for pair in pairs]
    return np.array([[label in present for label in labels] for present in found], bool)


def _classes(pairs, table, *, fewest=3):
    """Build `Classes` from labels and the query file; None if no class has enough images."""
    truth = _truth(pairs, table)
    chosen = [(label, truth[:, i]) for i, label in enumerate(table)
              if len(pairs) and truth[:, i].sum() >= fewest]
    if not chosen:
        return None
    return Classes(
        labels=[label for label, _ in chosen],
        queries=[table[label][0] for label, _ in chosen],
        positive=np.stack([column for _, column in chosen], axis=1),
        kinds=[[KINDS.index(kind) for kind in table[label][1:]] for label, _ in chosen],
    )


def _synthetic(model, forest, images, kinds):
    """Tables of the held-out synthetic scenes."""
    vectors = model.images(images)
    prototypes = np.stack([model.texts(names(kind)).mean(0) for kind in KINDS])
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    chance = baseline.probabilities(forest, images, len(KINDS))
    truth = kinds[:, None] == np.arange(len(KINDS))
    rows = []
    for name, scores in (('this model, zero-shot', vectors @ prototypes.T),
                         ('classical baseline', chance)):
        order = np.argsort(-scores, axis=1)
        rows.append([name, float((order[:, 0] == kinds).mean()),
                     float((order[:, :5] == kinds[:, None]).any(1).mean()),
                     *retrieval(scores, truth)])
    count = len(KINDS)
    rows.append(['random', 1 / count, 5 / count, *random_retrieval(truth)])
    zero_shot = {
        'title': 'Synthetic scenes never trained on', 'rows': rows,
        'columns': ['', 'top-1', 'top-5', *_COLUMNS],
        'text': f'{len(images)} scenes of {count} kinds. The baseline picks among the kinds and '
                'reads no text.',
    }
    phrases = [(phrase, KINDS.index(kind)) for kind in HELD_OUT for phrase in HELD_OUT[kind]]
    held_out = truth[:, [kind for _, kind in phrases]]
    words = {
        'title': 'Phrases never trained on', 'columns': ['', *_COLUMNS],
        'text': f'{len(phrases)} paraphrases of kinds on the same scenes.',
        'rows': [['this model', *retrieval(vectors @ model.texts([p for p, _ in phrases]).T,
                                           held_out)],
                 ['random', *random_retrieval(held_out)]],
    }
    return [zero_shot, words]


def _precision(model, towers, images, kinds):
    """Table of the quantised towers beside those of float32."""
    phrases = [names(kind)[0] for kind in KINDS]
    squares = np.stack([resize(Image.fromarray(image), model.bundle.preprocessing)
                        for image in images])
    vision = session(Path(towers) / 'onnx' / 'vision_model.onnx')
    exact_images = np.concatenate([
        vision.run(None, {'pixel_values': normalise(torch.from_numpy(part)).numpy()})[0]
        for part in np.array_split(squares, -(-len(squares) // 32))
    ])
    tokenizer = Tokenizer.from_file(str(model.bundle.path / 'tokenizer.json'))
    tokens = tokenizer.encode_batch(phrases)
    exact_texts = session(Path(towers) / 'onnx' / 'text_model.onnx').run(['text_embeds'], {
        'input_ids': np.array([e.ids for e in tokens], np.int64),
        'attention_mask': np.array([e.attention_mask for e in tokens], np.int64),
    })[0]
    truth = kinds[:, None] == np.arange(len(KINDS))
    rows = []
    got_images, got_texts = model.images(images), model.texts(phrases, templates=['{}'])
    for name, image_vectors, text_vectors in (('float32', exact_images, exact_texts),
                                              ('as shipped', got_images, got_texts)):
        cosines = [parity(image_vectors, exact_images), parity(text_vectors, exact_texts)]
        rows.append([name, *(numbers[key] for numbers in cosines for key in ('mean', 'min')),
                     *retrieval(image_vectors @ text_vectors.T, truth)])
    return {
        'title': 'What eight bits cost', 'rows': rows,
        'columns': ['', 'image cosine, mean', 'min', 'text cosine, mean', 'min', *_COLUMNS],
        'text': f'{len(images)} held-out scenes, one phrase for each kind; cosines to the '
                'embeddings in float32.',
    }


def _real(model, forest, source, images, classes, training):
    """Rows of single queries, and the table, of one source of held-out real images."""
    scores = model.images(images) @ model.texts(classes.queries).T
    chance = baseline.probabilities(forest, images, len(KINDS))
    closed = np.stack([chance[:, kinds].sum(1) for kinds in classes.kinds], axis=1)
    taught = baseline.label_scores(*training, images)
    low, high = area_difference(scores, closed, classes.positive)
    details = [
        [source, query, int(truth.sum()), *retrieval(score[:, None], truth[:, None])]
        for query, score, truth in zip(classes.queries, scores.T, classes.positive.T, strict=True)
    ]
    return details, {
        'title': f'Real images: {source}', 'columns': ['', *_COLUMNS],
        'text': f'{len(images)} held-out images, {len(classes.queries)} queries. This model has '
                f'seen the {len(training[0])} other images of this source; the first baseline saw '
                'only synthetic scenes, the second these images and their classes. Model minus '
                f'first baseline in mAUC, 95 % over images: {low:+.3f} to {high:+.3f}.',
        'rows': [['this model', *retrieval(scores, classes.positive)],
                 ['classical baseline', *retrieval(closed, classes.positive)],
                 ['classical, taught these classes', *retrieval(taught, classes.positive)],
                 ['random', *random_retrieval(classes.positive)]],
    }


def _words(model, source, pairs, images, classes):
    """Table and ranking weights from rows that have words as well as a picture."""
    background = model.bundle.background
    phrases, sentences = model.texts(classes.queries), model.words(classes.queries)
    cosine = model.images(images) @ phrases.T
    words = model.words([real_pairs.row_words(pair) for pair in pairs]) @ sentences.T
    z_image, z_words = (
        np.stack([standardise(column, reference) for column, reference
                  in zip(cosines.T, (against @ queries.T).T, strict=True)], axis=1)
        for cosines, against, queries in ((cosine, background.image, phrases),
                                          (words, background.words, sentences))
    )
    weight, held_out = fit_weights(z_image, z_words, classes.positive)
    table = {
        'title': f'Picture and words: rows of {source}', 'columns': ['by', *_COLUMNS],
        'text': f'{len(images)} held-out rows, {len(classes.queries)} queries; words are target '
                'and title, never the class. The weight was fitted on these rows, so that the row '
                f'"both" is optimistic: chosen on the other queries, its mAP is {held_out:.3f}.',
        'rows': [['image', *retrieval(z_image, classes.positive)],
                 ['words', *retrieval(z_words, classes.positive)],
                 ['both', *retrieval(weight * z_image + z_words, classes.positive)],
                 ['random', *random_retrieval(classes.positive)]],
    }
    ranking = {
        'image_weight': round(weight, 3), 'text_weight': 1.0,
        'fitted': f'highest mAP on {len(images)} held-out rows of {source}, {len(classes.queries)} '
                  f'queries; mAP {table["rows"][2][2]:.3f}, {held_out:.3f} cross-validated by '
                  f'query, words alone {table["rows"][1][2]:.3f}',
    }
    return table, ranking


def evaluate(model_folder, *, sky=(), validation=(), real=None, towers=None, config=None,
             training_scenes=6000):
    """
    Measure a bundle.

    Parameters
    ----------
    model_folder : path-like
        The bundle.
    sky : list of path-like
        Folders of training shards, for the baseline.
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

    Returns
    -------
    result : dict
        ``metrics`` with ``tables`` for the model card and, with real rows that
        have words, ``ranking``.
    """
    model = _Model(model_folder)
    images, kinds = _scenes(sky, training_scenes)
    forest = baseline.fit(images, kinds)
    tables = []
    images, kinds = _scenes(validation, 2100)
    if len(images):
        tables += _synthetic(model, forest, images, kinds)
        if towers:
            tables.append(_precision(model, towers, images, kinds))
    result = {'metrics': {'tables': tables}}
    if real:
        queries = tomllib.loads(QUERIES.read_text(encoding='utf-8'))
        for section in ('everywhere', 'not_sky', 'paraphrases'):
            queries.pop(section, None)
        data = {**(config or read_config(None))['data'], 'real': real}
        pairs, held_out = split_folder(data)
        details = []
        for source, table in queries.items():
            rows, others = ([pair for pair, out in zip(pairs, held_out, strict=True)
                             if pair.source == source and out == wanted]
                            for wanted in (True, False))
            classes = _classes(rows, table)
            if classes is None:
                continue
            images = [real_pairs.load_pixels(pair.file) for pair in rows]
            truth = _truth(others, classes.labels)
            name = SOURCES.get(source, source)
            rows_of_queries, table_of_source = _real(
                model, forest, name, images, classes,
                ([real_pairs.load_pixels(pair.file) for pair in others], truth),
            )
            details += rows_of_queries
            tables.append(table_of_source)
            if any(pair.obs_title for pair in rows) and model.bundle.background.words is not None:
                table, result['ranking'] = _words(model, name, rows, images, classes)
                tables.append(table)
        tables.append({
            'title': 'Query by query', 'rows': details,
            'columns': ['source', 'query', 'positives', 'AUC', 'AP', 'P@10'],
            'text': 'This model, by image alone. Classes with a handful of positives say little.',
        })
    return result


def _scenes(folders, count):
    """Read up to ``count`` scenes, spread over the shards of all folders."""
    paths = [path for folder in folders for path in sorted(Path(folder).glob('sky-*.npz'))]
    images, kinds = [], []
    chosen = paths[:: max(1, len(paths) // 12)]
    for path in chosen:
        share = -(-count // len(chosen))
        shard = read_shard(path)
        images.extend(shard[0][:share])
        kinds.append(shard[1][:share])
    return images, np.concatenate(kinds) if kinds else np.empty(0, np.int64)


def main(arguments):
    """
    Run ``python -m export evaluate``.

    Parameters
    ----------
    arguments : list of str
        Command line.
    """
    parser = argparse.ArgumentParser(prog='python -m export evaluate',
                                     description='Measure a bundle beside chance and a baseline.')
    parser.add_argument('bundle', help='folder of the bundle')
    parser.add_argument('--sky', nargs='+', required=True, help='training shards: baseline')
    parser.add_argument('--validation', nargs='+', default=[], help='held-out shards')
    parser.add_argument('--real', help='folder with manifest.jsonl')
    parser.add_argument('--towers', help='folder with the float32 ONNX towers, to compare with')
    parser.add_argument('--config', help='TOML file of the training run')
    parser.add_argument('--out', required=True, help='JSON file to write')
    options = parser.parse_args(arguments)
    result = evaluate(options.bundle, sky=options.sky, validation=options.validation,
                      real=options.real, towers=options.towers, config=read_config(options.config))
    Path(options.out).write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    for table in result['metrics']['tables']:
        print(f"\n{table['title']}: {table['text']}")
        for row in table['rows']:
            print('  ' + ' '.join(f'{cell:.3f}' if isinstance(cell, float) else f'{cell!s:24}'
                                  for cell in row))
    print('\nranking:', result.get('ranking'))
