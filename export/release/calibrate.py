"""
What makes the scores of any model mean something: reference images of an archive, and more.

``python -m export calibrate <hub id or folder> --archive DIR --out BUNDLE`` copies a model with two
ONNX towers and adds ``background.npz``, prompt templates and ranking weights where they pay, a
self-test and checksums. All vectors come from the product's own encoder and preprocessing, so that
the layout, the size, the normalisation and the padding of the model are those of a search.
"""

import argparse
import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np

from astroclip_search.diagnostics import selftest
from astroclip_search.embeddings.collect import CollectOptions, collect
from astroclip_search.exceptions import BundleError, expected_errors
from astroclip_search.models.bundle import EMBEDDED, open_bundle
from astroclip_search.models.encoder import Encoder, open_encoder
from astroclip_search.models.hub import PREPROCESSING
from astroclip_search.models.recommended import RECOMMENDED
from astroclip_search.search.session import Session
from export.data.archive import read_archive
from export.evaluation.background import references, what_is_shown
from export.evaluation.evaluate import ABOVE, fit_weights, standardised
from export.evaluation.shipped import Shipped
from export.evaluation.tasks import tasks_of
from export.measures.metrics import measure
from export.sky import KINDS, names, render

__all__ = ['FEWEST', 'FEWEST_TEXTS', 'GUESS', 'TEMPLATES', 'calibrate', 'choose_templates', 'main']

#: Reference images, and texts of reference metadata, without which there is nothing to compare
#: with.
FEWEST, FEWEST_TEXTS = 20, 20

#: Sentences around a phrase that are tried, each set against the model's own.
TEMPLATES = (('a photo of {}',), ('an astronomical image of {}',),
             ('{}', 'a photo of {}', 'an image of {}', 'an astronomical image of {}',
              'a telescope image of {}'))

#: Rendered scenes of each kind that judge templates if the archive has no labels.
SCENES = 4

#: Weights where nothing tells: the text tower of a CLIP was not made to compare texts with texts.
GUESS = {'image_weight': 1.0, 'text_weight': 0.5, 'text_above': ABOVE,
         'fitted': 'not fitted: a guess'}

_SEED = 8_500_000
_SHOWN = ('spiral', 'globular_cluster', 'planetary_nebula', 'spectrum')
_DESCRIPTIONS = ('config.json', 'tokenizer.json', 'tokenizer_config.json',
                 'special_tokens_map.json', *PREPROCESSING)
_TEXTS = ('spiral galaxy', 'a planetary nebula with a faint halo', 'edge-on GALAXY, with dust',
          'naine blanche entourée d’une nébuleuse', 'NGC 1300, barred spiral galaxy, deep imaging',
          'galaxy ' * 100)
_TOWERS = re.compile(r'onnx/(vision|text)_model(_quantized|_int8|_fp16)?\.onnx')
_HEADING = '\n## Calibration\n'
#: Cosine that files of another precision must reach to share the reference images.
_SAME = 0.98


def calibrate(name, archive, out, *, revision='', variant='auto', licence='', image_column=None):
    """
    Write a bundle of a model whose scores can be told from chance.

    What was embedded is kept beside ``out`` until the bundle is complete: an interrupted run goes
    on where it was.

    Parameters
    ----------
    name : str
        Hub id, folder, or ``'default'``. The source is only read.
    archive : path-like
        Images that are typical of what will be searched, see `read_archive`.
    out : path-like
        Folder to write; it must not be there.
    revision : str, optional
        Commit, tag or branch on the hub.
    variant : str, optional
        ``'fp32'``, ``'fp16'`` or ``'int8'``: the only precision in the bundle. By default all
        that are on this machine and give the vectors of the one that suits its CPU.
    licence : str, optional
        Licence of the weights, if the source does not say it.
    image_column : str, optional
        Column of a table that names the images.

    Returns
    -------
    info : dict
        Content of ``astroclip.json``; ``calibration`` says what was used.

    Raises
    ------
    ValueError
        If there is nothing to calibrate with, or the bundle fails its own self-test.
    BundleError, EncoderError
        If the model cannot be used.
    """
    out = Path(out)
    if out.exists():
        raise ValueError(f'{out} is there already')
    found = read_archive(archive, image_column=image_column)
    open_bundle.cache_clear()  # the source may have been made anew
    source = open_bundle(str(name), revision).of_variant(variant)
    part = out.with_name(f'{out.name}.part')
    _copy(source, part, only=variant != 'auto')
    model = Shipped(part)
    dim = _golden(part, model)
    left_out = _drop_strangers(part, model.bundle)
    found, vectors, failures = _embed(part, found)
    judged = _judged(model, found, vectors)
    templates = choose_templates(model, judged, source.prompt_templates)
    arrays = _references(model, found, vectors, templates)
    np.savez_compressed(part / 'background.npz', **arrays)
    info = {
        **_description(source, name), 'embedding_dim': dim, 'prompt_templates': list(templates),
        'calibration': {
            'images': len(vectors), 'failed': failures,
            'labelled': int(np.greater_equal(arrays.get('label', -1), 0).sum()),
            'archives': _archives(found), 'left_out': left_out,
            'metadata': len(arrays.get('words', ())),
            'templates_judged_by': ('labels of the archive' if _tasks(found)
                                    else 'rendered scenes')},
    }
    if licence:
        info['licence'] = licence
    _seal(part, source, info)
    ranking = _ranking(Shipped(part), found, vectors) or source.info.get('ranking')
    if ranking or 'words' in arrays:
        info['ranking'] = ranking or GUESS
        _seal(part, source, info)
    _check(part)
    shutil.rmtree(part / 'cache', ignore_errors=True)
    part.rename(out)
    open_bundle.cache_clear()
    return info


def choose_templates(model, judged, own=('{}',)):
    """
    Choose the sentences around a phrase by what is found with them.

    Parameters
    ----------
    model : `export.evaluation.shipped.Shipped`
        The model.
    judged : list of tuple
        Unit vectors of images, phrases, and which image shows which.
    own : sequence of str, optional
        Its own sentences.

    Returns
    -------
    templates : tuple of str
        Those of the highest mean average precision, if it is above that of its own by twice the
        standard error over the phrases; else its own.
    """
    def precisions(templates):
        return np.concatenate([
            measure(vectors @ model.texts(phrases, templates=templates).T, truth)[:, 1]
            for vectors, phrases, truth in judged])

    usual, best, most = precisions(own), tuple(own), 0.0
    for templates in TEMPLATES:
        gain = precisions(templates) - usual
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
        if gain.mean() > max(most, 2 * error):
            best, most = templates, gain.mean()
    return best


def _copy(source, part, *, only):
    """Copy what a search needs of a model into a folder, where only the cache is kept."""
    try:
        towers = tuple(source.onnx_name(tower, 'cpu') for tower in ('vision', 'text'))
    except BundleError as error:
        raise BundleError(f'{str(error).rstrip(".")}: a checkpoint of another form is made into '
                          'such a one by python -m export to-onnx --from ID --out FOLDER.'
                          ) from error
    part.mkdir(parents=True, exist_ok=True)
    for path in part.iterdir():
        if path.is_dir() and path.name != 'cache':
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    listed = source.contents.sums
    for path in sorted(source.path.rglob('*')):
        file = path.relative_to(source.path).as_posix()
        wanted = (file in _DESCRIPTIONS or (file in listed and file == 'golden.npz')
                  or (file.startswith(towers) if only else _TOWERS.match(file)))
        if not wanted or not path.is_file() or (listed and file not in listed):
            continue
        if listed:
            source.contents.check(file)
        (part / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, part / file)


def _golden(part, model):
    """Write the self-test, unless the model brings its own; return the length of its vectors."""
    images = [render(_SEED + i, kind).image for i, kind in enumerate(_SHOWN)]
    vectors, texts = model.images(images), model.texts(_TEXTS, templates=('{}',))
    if not (part / 'golden.npz').is_file():
        np.savez_compressed(
            part / 'golden.npz', pixels=model.pixels(images), image_embeds=vectors,
            texts=np.array(_TEXTS), text_embeds=texts, sentence_embeds=model.metadata(_TEXTS))
    return vectors.shape[1]


def _drop_strangers(part, bundle):
    """Delete files of other precisions whose vectors are too far from those of the references."""
    own = [bundle.onnx_name(tower, 'cpu') for tower in ('vision', 'text')]
    with np.load(part / 'golden.npz') as golden:
        pixels, texts = golden['pixels'], golden['texts'].tolist()

    def vectors(encoder):
        return np.concatenate([encoder.encode_images(pixels), encoder.encode_text(texts)])

    wanted, dropped = vectors(open_encoder(bundle, device='cpu', n_threads=1)), []
    for vision in sorted(part.glob('onnx/vision_model*.onnx')):
        suffix = vision.stem.removeprefix('vision_model')
        files = [f'onnx/{tower}_model{suffix}.onnx' for tower in ('vision', 'text')]
        if files == own or not all((part / file).is_file() for file in files):
            continue
        found = vectors(Encoder(bundle.of_variant(suffix), device='cpu', n_threads=1))
        if (found * wanted).sum(1).min() < _SAME:
            dropped += [file for file in files if file not in own]
    for file in dropped:
        for path in part.glob(f'{file}*'):
            path.unlink()
    return dropped


def _embed(part, archive):
    """Embed the images; return the rows that could be, their vectors, and how many could not."""
    with Session(model=str(part), device='cpu', cache_dir=part / 'cache') as session:
        with session.pipeline(session.encoder(), session.cache(), archive.refs.trusted) as pipeline:
            space, positions, outcomes = collect(archive.refs, pipeline,
                                                 CollectOptions(show_progress=True))
        good = np.flatnonzero([outcomes.is_ok(row) and positions[row] >= 0
                               for row in range(len(archive))])
        vectors = np.array(space.matrix[positions[good]])
    if len(good) < FEWEST:
        why = next((message for message in outcomes.messages() if message), '')
        raise ValueError(f'the archive has {len(good)} images that can be read: {FEWEST} are '
                         f'needed, and a hundred for a rate of 0.01{f" ({why})" if why else ""}')
    return archive.rows(good.tolist()), vectors, len(archive) - len(good)


def _archives(archive):
    """Names of the archives that the images are from, as far as they are known."""
    return sorted({pair.source for pair in archive.pairs if pair.source})


def _references(model, archive, vectors, templates):
    """What ``background.npz`` holds."""
    archives, titles = ['', *_archives(archive)], set(filter(None, archive.refs.metadata))
    number = [archives.index(pair.source) for pair in archive.pairs]
    return references(model, vectors, [what_is_shown(pair) for pair in archive.pairs],
                      archive=number if len(set(number)) > 1 else None, templates=templates,
                      titles=titles if len(titles) >= FEWEST_TEXTS else ())


def _tasks(archive):
    """What can be asked of the images by their labels; nothing, if their metadata say the same."""
    sections = {'everywhere': {}, 'not_sky': {}, 'paraphrases': {}}
    rows = np.arange(len(archive) if archive.judges else 0)
    return tasks_of(archive.pairs, rows, ({}, sections))


def _judged(model, archive, vectors):
    """Images, phrases and which image shows which, of the archive, or else rendered."""
    tasks = _tasks(archive)
    if tasks:
        return [(vectors[task.rows], task.queries, task.positive) for task in tasks]
    kinds = np.repeat(np.arange(len(KINDS)), SCENES)
    images = [render(_SEED + 100 + i, KINDS[kind]).image for i, kind in enumerate(kinds)]
    return [(model.images(images), [names(kind)[0] for kind in KINDS],
             kinds[:, None] == np.arange(len(KINDS)))]


def _ranking(model, archive, vectors):
    """Weights of picture and metadata, fitted to the labels; None where that cannot be."""
    # As a rule labels come from titles of pictures, but not from those of programmes.
    tasks = [task for task in _tasks(archive) if len(task.queries) > 1
             and any(archive.pairs[row].obs_title for row in task.rows)]
    if not tasks or model.bundle.background.metadata is None:
        return None
    task = max(tasks, key=lambda one: len(one.rows))
    z_image, _, counts = standardised(model, vectors[task.rows],
                                      [archive.refs.metadata[row] for row in task.rows],
                                      task.queries)
    weight, _ = fit_weights(z_image, counts, task.positive)
    both, image, words = (float(np.nanmean(measure(scores, task.positive)[:, 1]))
                          for scores in (weight * z_image + counts, z_image, counts))
    return {'image_weight': round(weight, 3), 'text_weight': 1.0, 'text_above': ABOVE,
            'fitted': f'highest mAP on {len(task.rows)} images of {task.name}, '
                      f'{len(task.queries)} queries; mAP {both:.3f}, pictures alone {image:.3f}, '
                      f'metadata alone {words:.3f}'}


def _description(source, name):
    """What ``astroclip.json`` says of the model itself."""
    is_folder = source.path != EMBEDDED and source.snapshot is None
    return {'name': Path(name).name if is_folder else name,
            'version': source.snapshot.commit[:12] if source.snapshot else '1',
            **{key: value for key, value in source.info.items() if key != 'files'},
            'licence': _licence(source, name)}


def _licence(source, name):
    """The licence of the weights, as the model says it, or else its page on the hub."""
    known = source.info.get('licence', '')
    if known and known != 'see the source':
        return known
    said = re.search(r'(?m)^license: *(\S+)', _card(source)[0])
    if said and said[1] != 'other':
        return said[1]
    listed = next((model.licence for model in RECOMMENDED if model.name == name), '')
    return listed or f'see the model card of {source.info.get("name", Path(name).name)}'


def _card(source):
    """Metadata and text of the model card of a model; both may be empty."""
    if not source.contents.has('README.md'):
        return '', ''
    text = source.contents.read('README.md').decode('utf-8', 'replace').partition(_HEADING)[0]
    if text.startswith('---\n') and '\n---\n' in text:
        head, _, text = text[4:].partition('\n---\n')
        return head, text
    return '', text


def _seal(part, source, info):
    """Write the model card, and the description with the checksums of all files."""
    head, text = _card(source)
    if 'license:' not in head:
        head = f'license: other\n{head}'.rstrip()
    used = info['calibration']
    of = f' of {", ".join(used["archives"])}' if used['archives'] else ''
    text = text or f'# {info["name"]}'
    card = (f'---\n{head}\n---\n{text.rstrip()}\n{_HEADING}'
            f'Reference images: {used["images"]}{of}, {used["labelled"]} with a label. Reference '
            f'metadata: {used["metadata"]}. Nothing was trained. Licence of the weights: '
            f'{info["licence"]}.\n\n`clip_false_alarm` is the fraction of such images that score '
            'as high. It holds for archives like this one.\n')
    (part / 'README.md').write_text(card, encoding='utf-8')
    (part / 'astroclip.json').unlink(missing_ok=True)
    files = {path.relative_to(part).as_posix(): path for path in sorted(part.rglob('*'))
             if path.is_file()}
    sums = {file: _sha256(path) for file, path in files.items() if not file.startswith('cache/')}
    (part / 'astroclip.json').write_text(
        json.dumps({**info, 'files': sums}, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    open_bundle.cache_clear()


def _sha256(path):
    with path.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


def _check(part):
    """Raise if the bundle fails its own self-test."""
    wrong = [f'{check["name"]}: {check["detail"]}'
             for check in selftest(str(part), device='cpu')['checks']
             if not check['ok'] and check['name'] != 'cache']
    if wrong:
        raise ValueError(f'the bundle fails its own self-test: {"; ".join(wrong).rstrip(".")}')


def main(arguments):
    """
    Run ``python -m export calibrate``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        Exit status: 1 if nothing was written.
    """
    parser = argparse.ArgumentParser(
        prog='python -m export calibrate',
        description='Give a model reference images, so that its scores mean something.')
    parser.add_argument('model', help="hub id, folder, or 'default'")
    parser.add_argument('--archive', required=True,
                        help='folder of images, with manifest.jsonl or a table of rows if there is '
                             'one; or a table')
    parser.add_argument('--out', required=True, help='folder to write')
    parser.add_argument('--revision', default='', help='commit, tag or branch on the hub')
    parser.add_argument('--variant', choices=['auto', 'fp32', 'fp16', 'int8'], default='auto',
                        help='the only precision in the bundle')
    parser.add_argument('--licence', default='', help='of the weights, if the model does not say')
    parser.add_argument('--image-column', help='column of the table that names the images')
    options = parser.parse_args(arguments)
    try:
        info = calibrate(options.model, options.archive, options.out, revision=options.revision,
                         variant=options.variant, licence=options.licence,
                         image_column=options.image_column)
    except (*expected_errors(), ValueError) as error:
        print(f'{str(error).rstrip(".")}.', file=sys.stderr)
        return 1
    used, ranking = info['calibration'], info.get('ranking')
    print(f"{used['images']} reference images ({used['labelled']} with a label), "
          f"{used['metadata']} reference metadata; {used['failed']} images could not be read")
    print(f"templates: {' | '.join(info['prompt_templates'])} (judged by "
          f"{used['templates_judged_by']})")
    print('ranking: ' + (
        f"{ranking['image_weight']:g} x picture, {ranking['text_weight']:g} x metadata "
        f"({ranking['fitted']})" if ranking else 'pictures alone, for want of metadata'))
    if used['left_out']:
        print(f"left out, as their vectors differ: {', '.join(used['left_out'])}")
    print(f"licence: {info['licence']}")
    print(f"ClipSearch.model = '{options.out}'")
    return 0
