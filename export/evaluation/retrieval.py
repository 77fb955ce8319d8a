"""
Do images and captions find each other? PAPERCLIP's and AION-Search's measures of any bundle.

Everything runs on the files of the bundle through the product's own preprocessing. The manifest is
any with captions, such as the one of `export hst`. Images that share a caption, as those of one
proposal do, are told apart only where the figures of PAPERCLIP do so.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from astroclip_search import vocabulary
from astroclip_search.models.encoder import Encoder
from astroclip_search.ranking.calibration import z_score
from export.data.illustrated import read_captioned
from export.data.pairs import load_pixels
from export.evaluation import plots
from export.evaluation.collection import Cache, Collection, stamp
from export.evaluation.layout import tables
from export.evaluation.shipped import Shipped
from export.evaluation.views import paper_views
from export.evaluation.words import bm25, terms
from export.measures import judged
from export.measures.metrics import METRICS, measure, ndcg
from export.measures.ranks import (
    RECALLS,
    cosines,
    paper_batches,
    paper_curve,
    paper_rows,
    ranks,
    unit,
)
from export.measures.tables import markdown_table
from export.training.train import read_config

__all__ = ['Model', 'descriptions', 'graded', 'main', 'pairs', 'retrieval']

_PART = 64
_BINS = np.linspace(-1, 1, 41)


class _Unnormalised(Encoder):
    """Vectors as the towers give them, which the figures of PAPERCLIP multiply."""

    def _run(self, tower, feed, outputs):
        available = {tensor.name for tensor in tower.outputs}
        name = next(name for name in outputs if name in available)
        return tower.run(name, feed).astype(np.float32)


class Model(Shipped):
    """
    A bundle, whose ``images`` and ``captions`` are as long as the towers make them.

    Parameters
    ----------
    name : str or path-like
        Folder, ``'default'``, or an id of the hub.
    """

    def __init__(self, name):
        super().__init__(name)
        self._encoder = _Unnormalised(self.bundle, device='cpu', n_threads=1)

    def captions(self, texts):
        """
        Embed captions as they are, without the sentences that a query is put in.

        Parameters
        ----------
        texts : sequence of str
            Captions.

        Returns
        -------
        vectors : `numpy.ndarray` of float32, shape (n, d)
            Not normalised, unless the tower does so.
        """
        return self._encoder.encode_text(list(texts))

    def texts(self, texts, *, templates=None):
        """
        Embed phrases in the sentences of the bundle.

        Parameters
        ----------
        texts : sequence of str
            Phrases.
        templates : sequence of str, optional
            As for `Shipped.texts`.

        Returns
        -------
        vectors : `numpy.ndarray` of float32, shape (n, d)
            Unit vectors, each the mean over sentences of unit vectors.
        """
        templates = templates or self.bundle.prompt_templates
        vectors = unit(self.captions([template.replace('{}', text)
                                      for template in templates for text in texts]))
        return unit(vectors.reshape(len(templates), len(texts), -1).mean(0))


def pairs(images, texts, caption, group, scale, *, draws=200):
    """
    Measure how images and captions find each other.

    Parameters
    ----------
    images : `numpy.ndarray` of float, shape (n, d)
        Vectors of the images, not normalised.
    texts : `numpy.ndarray` of float, shape (c, d)
        Vectors of the distinct captions, not normalised.
    caption, group : `numpy.ndarray` of int, shape (n,)
        Caption and proposal of each image.
    scale : float
        What the loss multiplies cosines by.
    draws : int, optional
        Bootstrap samples of proposals.

    Returns
    -------
    numbers : dict
        ``figures``: as the figures of PAPERCLIP (dot products, the row's own caption);
        ``formula``: as its formula (cosines); ``captions``: among distinct captions; ``images``:
        images of a caption, one of which is enough; ``mean recall`` of these two;
        ``cosines``; ``control``: among distinct captions with those of all proposals permuted.
    """
    rows = paper_rows(len(images))
    chosen, own = images[rows], caption[rows]
    cuts, dot = paper_curve(chosen, texts, own)
    _, cosine = paper_curve(unit(chosen), unit(texts), own)
    lengths = [np.linalg.norm(vectors, axis=1) for vectors in (images, texts)]
    figures = {'pairs': len(rows), 'cuts': cuts.tolist(), 'dot product': dot.tolist(),
               'cosine': cosine.tolist(),
               'spread of length': [float(length.std() / length.mean()) for length in lengths]}
    if len(rows) >= 100:
        figures['batches'] = paper_batches(chosen, texts, own, scale)
    images, texts = unit(images), unit(texts)
    every = np.arange(len(images))
    distinct = np.arange(len(texts))
    first = np.unique(caption, return_index=True)[1]
    # Like the images they belong to, captions of one proposal are drawn together.
    group_of_caption = np.unique(group[first], return_inverse=True)[1]
    formula = ranks(images, texts[caption], every, every)
    to_captions = ranks(images, texts, caption, distinct).numbers(group, draws=draws)
    to_images = ranks(texts, images, distinct, caption).numbers(group_of_caption, draws=draws)
    true, shuffled, numbers = cosines(images, texts, caption)
    permuted = np.random.default_rng(0).permutation(len(texts))
    return {
        'figures': figures, 'formula': formula.numbers(group, draws=draws),
        'captions': to_captions, 'images': to_images,
        'mean recall': float(np.mean([side[f'R@{k}'][0] for side in (to_captions, to_images)
                                      for k in RECALLS])),
        'cosines': {**numbers, 'edges': _BINS.tolist(),
                    'true': np.histogram(true, _BINS)[0].tolist(),
                    'shuffled': np.histogram(shuffled, _BINS)[0].tolist()},
        'control': ranks(images, texts[permuted], caption, distinct).numbers(group, draws=draws),
    }


def descriptions(scores, phrases, texts):
    """
    Measure how the phrases of a vocabulary describe images.

    Parameters
    ----------
    scores : `numpy.ndarray` of float, shape (n, phrases)
        Score of each phrase for each image.
    phrases : sequence of str
        Vocabulary.
    texts : sequence of str
        What is known about each image. A phrase is right where its words are there in a row,
        singular or plural; images without any right one are left out.

    Returns
    -------
    numbers : dict
        ``images`` that have a right phrase, ``phrases`` right for some image, and per method the
        means over images of `export.measures.metrics.METRICS`, as rankings of phrases: ``picture``,
        ``commonest`` (the same phrases for all, those of most images first) and ``chance``.
    """
    words = [f' {" ".join(terms(text))} ' for text in texts]
    truth = np.array([[f' {" ".join(terms(phrase))} ' in text for phrase in phrases]
                      for text in words])
    common = np.broadcast_to(truth.mean(0), truth.shape)
    some = truth.any(1)
    numbers = {'images': int(some.sum()), 'phrases': int(truth.any(0).sum())}
    for name, found in (('picture', scores), ('commonest', common),
                        ('chance', np.zeros(truth.shape))):
        if some.any():
            values = np.nanmean(measure(found[some].T, truth[some].T), axis=0)
            numbers[name] = dict(zip(METRICS, map(float, values), strict=True))
    return numbers


def graded(model, vectors, ids, relevance):
    """
    Measure nDCG@10 of queries with graded relevance, as AION-Search does.

    Parameters
    ----------
    model : `Model`
        Embeds the queries.
    vectors : `numpy.ndarray` of float, shape (n, d)
        Unit vectors of the images.
    ids : sequence of str
        Of the images.
    relevance : dict
        From `export.measures.judged.read_relevance`.

    Returns
    -------
    rows : list of dict
        For each query: ``images`` that it was put to, ``nDCG@10``, ``chance`` and ``relevant``,
        the mean relevance.

    Raises
    ------
    ValueError
        If none of the images of a query is there.
    """
    row_of = {name: i for i, name in enumerate(ids)}
    found = []
    for query, vector in zip(relevance, model.texts(list(relevance)), strict=True):
        known = {row_of[name]: value for name, value in relevance[query].items() if name in row_of}
        if not known:
            raise ValueError(f'no image that was rated for {query!r} is among these')
        truth = np.array(list(known.values()))[:, None]
        scores = (vectors[list(known)] @ vector)[:, None]
        found.append({'query': query, 'images': len(known), 'relevant': float(truth.mean()),
                      'nDCG@10': float(ndcg(scores, truth)[0]),
                      'chance': float(ndcg(np.zeros_like(scores), truth)[0])})
    return found


def _judge(model, vectors, data, queries, judgements, template):
    """Say how relevant the first ten of each method are; write what is to be judged."""
    words = data.words()
    methods = {'picture': vectors @ model.texts(queries).T, 'TF-IDF': judged.tfidf(words, queries),
               'BM25': bm25(words, queries)}
    missing = judged.write_judgements(template, list(methods.values()), queries, data.ids,
                                      data.group, words, judgements)
    found = {'to be judged': missing, 'methods': {}}
    for name, scores in methods.items():
        rows = judged.precision(scores, queries, data.ids, data.group, judgements)
        found['methods'][name] = {
            'queries': rows, **{key: float(np.mean([row[key] for row in rows]))
                                for key in rows[0] if key != 'query'}}
    return found


def _embed(model, files, prepare=lambda images: images, part=_PART):
    return np.concatenate([
        model.images(prepare([load_pixels(file) for file in files[start:start + part]]))
        for start in range(0, len(files), part)])


def _seen_as_in_the_paper(model, data, texts, seed):
    """Fourth point of the curve, at 10 %, for one draw of views, by both products."""
    rows = paper_rows(len(data.files), seed=seed)
    rng = np.random.default_rng(seed)
    images = _embed(model, [data.files[i] for i in rows],
                    lambda images: list(paper_views(images, rng)), part=100)
    own = data.caption[rows]
    found = {}
    for name, part, answers in (('dot product', images, texts),
                                ('cosine', unit(images), unit(texts))):
        accuracy = paper_curve(part, answers, own)[1]
        found[name] = float(accuracy[:4][-1])
    return found


def retrieval(bundle, data, out, *, queries=judged.QUERIES, judgements=None, relevance=None,
              phrases=(), views=0, draws=200):
    """
    Measure a bundle.

    Parameters
    ----------
    bundle : path-like
        A folder, the name of an embedded model, or an id of the hub.
    data : `Captioned`
        Images with captions.
    out : path-like
        JSON file that will hold the result; the list of what there is to judge and a cache of
        vectors go beside it.
    queries : sequence of str, optional
        Phrases whose first images are judged.
    judgements : dict, optional
        From `export.measures.judged.read_judgements`.
    relevance : dict, optional
        From `export.measures.judged.read_relevance`.
    phrases : sequence of str, optional
        Vocabulary that images are described with.
    views : int, optional
        How many times images are also seen as in PAPERCLIP, see `export.evaluation.views`.
    draws : int, optional
        Bootstrap samples.

    Returns
    -------
    result : dict
        ``bundle``, ``data`` (what was measured on), all of `pairs`, ``judged``, and where asked
        for ``graded``, ``descriptions`` and ``views``.
    """
    out = Path(out)
    model, cache = Model(bundle), Cache(out.with_suffix('.cache.npz'))
    revision = model.bundle.revision
    images = cache.get('raw images', stamp(revision, files=data.files),
                       lambda: _embed(model, data.files))
    texts = cache.get('raw captions', stamp(revision, data.texts),
                      lambda: model.captions(data.texts))
    cache.save()
    vectors = unit(images)
    result = {
        'bundle': {'name': model.bundle.name, 'revision': revision},
        'data': {'images': len(data.files), 'captions': len(data.texts),
                 'proposals': len(np.unique(data.group))},
        **pairs(images, texts, data.caption, data.group, model.bundle.logit_scale, draws=draws),
        'judged': _judge(model, vectors, data, queries, judgements or {},
                         out.with_name(f'{out.stem}-judgements.csv')),
    }
    if relevance:
        result['graded'] = graded(model, vectors, data.ids, relevance)
    if phrases:
        scores = vectors @ (asked := model.texts(phrases)).T
        known = [f'{text}; {"; ".join(labels)}'
                 for text, labels in zip(data.words(), data.labels, strict=True)]
        result['descriptions'] = descriptions(scores, phrases, known)
        background = model.bundle.background.image
        if background is not None and 'picture' in result['descriptions']:
            usual = (background @ asked.T).T
            scores = np.stack([z_score(*both) for both in zip(scores.T, usual, strict=True)], 1)
            result['descriptions']['picture, against the background'] = descriptions(
                scores, phrases, known)['picture']
    if views:
        result['views'] = [_seen_as_in_the_paper(model, data, texts, seed) for seed in range(views)]
    return result


def main(arguments):
    """
    Run ``python -m export retrieval``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        0.
    """
    parser = argparse.ArgumentParser(
        prog='python -m export retrieval',
        description='Measure how images and captions find each other, as PAPERCLIP does.')
    parser.add_argument('--bundle', required=True,
                        help="folder of the bundle, 'default', or an id of the hub")
    parser.add_argument('--manifest', required=True, help='folder with manifest.jsonl')
    parser.add_argument('--out', required=True,
                        help='JSON file to write; a table, plots, what there is to judge, and a '
                             'cache go beside it')
    parser.add_argument('--caption', default='caption', metavar='KEY',
                        help='key of the caption in the manifest')
    parser.add_argument('--summaries', metavar='FILE',
                        help='captions from `export summarise`, by proposal')
    parser.add_argument('--group', default='proposal_id', metavar='KEY',
                        help='key of the proposal; without one, equal captions are a group')
    parser.add_argument('--split', metavar='SIDE', help='only this side: train, validation, test')
    parser.add_argument('--sources', nargs='+', default=(), help='only these sources')
    parser.add_argument('--held-out', action='store_true',
                        help='only images that `export train` did not train on')
    parser.add_argument('--config', help='TOML file of that run')
    parser.add_argument('--judgements', metavar='FILE', help='CSV file: query, id, relevant')
    parser.add_argument('--queries', nargs='+', default=judged.QUERIES,
                        help='phrases that are judged, in place of the ten of PAPERCLIP')
    parser.add_argument('--relevance', metavar='FILE', help='CSV file: query, id, relevance')
    parser.add_argument('--vocabulary', nargs='*', metavar='SET',
                        help='describe images with sets of astroclip_search.vocabulary, or all')
    parser.add_argument('--views', type=int, default=0, metavar='N',
                        help='also see images as in PAPERCLIP, N times')
    parser.add_argument('--draws', type=int, default=200, help='bootstrap samples')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        data = _read(options)
        judgements = judged.read_judgements(options.judgements) if options.judgements else {}
        relevance = judged.read_relevance(options.relevance) if options.relevance else {}
    except (OSError, ValueError) as error:
        parser.error(str(error))
    phrases = vocabulary.read(*options.vocabulary) if options.vocabulary is not None else ()
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    result = retrieval(options.bundle, data, out, queries=options.queries, judgements=judgements,
                       relevance=relevance, phrases=phrases, views=options.views,
                       draws=options.draws)
    out.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    text = f"# How images and captions find each other: {result['bundle']['name']}\n" + ''.join(
        f"\n## {table['title']}\n\n{table['text']}\n\n{markdown_table(table)}"
        for table in tables(result))
    out.with_suffix('.md').write_text(text, encoding='utf-8')
    print(text)
    plots.retrieval({result['bundle']['name']: result}, out.with_suffix(''))
    return 0


def _read(options):
    """Read the images that are asked for."""
    captions = held_out = None
    if options.summaries:
        from export.data.shards import read_summaries

        captions = read_summaries(options.summaries)
    if options.held_out:
        kept = Cache(Path(options.out).with_suffix('.split.npz'))
        held_out = Collection(options.manifest, kept).held_out(read_config(options.config)['data'])
        kept.save()
    return read_captioned(options.manifest, field=options.caption, group=options.group,
                          split=options.split, sources=options.sources, captions=captions,
                          held_out=held_out)
