"""
Assemble a model bundle: what the product loads, and nothing else.

A bundle is a folder in the layout of Hugging Face ONNX CLIP repositories with
three files of ours: ``astroclip.json`` (provenance, checksums, ranking weights),
``background.npz`` (see `export.evaluation.background`, so that a score can be compared with
chance) and ``golden.npz`` (a self-test).
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from export.data import pairs as real_pairs
from export.evaluation.background import background
from export.release.card import model_card
from export.release.push import main as push
from export.sky import render
from export.training.text import MAX_TOKENS, SentenceEncoder, TextTower, minilm_folder
from export.training.vision import MEAN, STD, load_checkpoint, normalise

__all__ = ['LIMIT', 'bundle', 'golden', 'main']

#: Most bytes of a bundle, all files counted.
LIMIT = 40_000_000

#: Licence of the weights that both towers begin from.
LICENCE = Path(__file__).parents[2] / 'licenses' / 'Apache-2.0.txt'

#: A query is the mean of its embeddings in these sentences. With captions as people talk, more
#: sentences no longer help (EXPERIMENTS 18).
PROMPT_TEMPLATES = ('{}',)

#: Phrases of the self-test: short, long, not ASCII, longer than the tower reads.
GOLDEN_TEXTS = (
    'spiral galaxy', 'a planetary nebula with a faint halo', 'protoplanetary disk',
    'edge-on galaxy with a dust lane', 'naine blanche entourée d’une nébuleuse', 'M 104',
    'NGC 1300, barred spiral galaxy, deep imaging of nearby galaxies in the near infrared',
    'galaxy ' * 100,
)


def bundle(checkpoint, towers, out, *, real=None, words=None, metrics=None):
    """
    Write a bundle.

    Parameters
    ----------
    checkpoint : path-like
        ``checkpoint.pt`` of the training run.
    towers : path-like
        Folder with ``onnx/*_quantized.onnx``.
    out : path-like
        Folder to write.
    real : path-like, optional
        Folder with ``manifest.jsonl``: more reference images of the background beside
        those that are rendered.
    words : path-like, optional
        CSV file, possibly gzipped, with columns ``target_name`` and ``obs_title``:
        metadata of the background. Without it, titles of the manifest.
    metrics : dict, optional
        Result of `export.evaluation.evaluate`: fitted ranking weights and measured numbers.

    Returns
    -------
    size : int
        Bytes of all files together.

    Raises
    ------
    ValueError
        If the bundle would exceed `LIMIT`.
    """
    towers, out = Path(towers), Path(out)
    tower, text_map, info = load_checkpoint(checkpoint)
    size = info['progress']['size']
    (out / 'onnx').mkdir(parents=True, exist_ok=True)
    for name in ('vision_model_quantized.onnx', 'text_model_quantized.onnx'):
        shutil.copyfile(towers / 'onnx' / name, out / 'onnx' / name)
    shutil.copyfile(LICENCE, out / 'LICENSE-APACHE.txt')
    _write_tokenizer(out)
    _write_configs(out, size, info)
    encoder = SentenceEncoder()
    np.savez_compressed(out / 'golden.npz', **golden(tower, encoder, text_map, size))
    np.savez_compressed(out / 'background.npz', **background(
        out, data={**info['config']['data'], 'real': real}, words=words,
        templates=PROMPT_TEMPLATES,
    ))
    description = _description(info, metrics or {})
    (out / 'README.md').write_text(model_card(description), encoding='utf-8')
    files = sorted(path for path in out.rglob('*') if path.is_file())
    description['files'] = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files if path.name != 'astroclip.json'
    }
    _write_json(out / 'astroclip.json', description)
    total = sum(path.stat().st_size for path in out.rglob('*') if path.is_file())
    if total > LIMIT:
        raise ValueError(f'the bundle has {total} bytes, more than {LIMIT}')
    return total


def golden(tower, encoder, text_map, size):
    """
    Make the self-test from the float32 model in torch.

    Parameters
    ----------
    tower : `export.training.vision.PooledTower`
        Trained image tower.
    encoder : `export.training.text.SentenceEncoder`
        Frozen sentence encoder.
    text_map : `export.training.text.TextMap`
        Learned text map.
    size : int
        Side of the images.

    Returns
    -------
    arrays : dict
        ``pixels`` uint8 (k, s, s, 3), ``image_embeds``, ``texts``, ``text_embeds``,
        ``sentence_embeds``.
    """
    kinds = ('spiral', 'edge_on', 'globular_cluster', 'planetary_nebula', 'planet', 'spectrum',
             'comet', 'supernova_remnant')
    pixels = np.stack([
        real_pairs.to_square(render(7_000_000 + i, kind).image, size)
        for i, kind in enumerate(kinds)
    ])
    ids, mask = encoder.tokenize(GOLDEN_TEXTS)
    with torch.no_grad():
        images = tower(normalise(torch.from_numpy(pixels))).numpy()
        joint, sentence = TextTower(encoder, text_map)(ids, mask)
    return {'pixels': pixels, 'image_embeds': images, 'texts': np.array(GOLDEN_TEXTS),
            'text_embeds': joint.numpy(), 'sentence_embeds': sentence.numpy()}


def _write_tokenizer(out):
    source = minilm_folder()
    tokenizer = Tokenizer.from_file(str(source / 'tokenizer.json'))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    tokenizer.save(str(out / 'tokenizer.json'), pretty=False)
    config = json.loads((source / 'tokenizer_config.json').read_text(encoding='utf-8'))
    config['model_max_length'] = MAX_TOKENS
    _write_json(out / 'tokenizer_config.json', config)
    shutil.copyfile(source / 'special_tokens_map.json', out / 'special_tokens_map.json')


def _write_configs(out, size, info):
    dim = info['config']['model']['dim']
    bert = json.loads((minilm_folder() / 'config.json').read_text(encoding='utf-8'))
    text = {key: bert[key] for key in (
        'model_type', 'hidden_size', 'num_hidden_layers', 'num_attention_heads', 'vocab_size',
        'intermediate_size', 'hidden_act',
    )}
    _write_json(out / 'config.json', {
        'model_type': 'clip', 'architectures': ['CLIPModel'], 'projection_dim': dim,
        'text_config': {**text, 'max_position_embeddings': MAX_TOKENS},
        'vision_config': {'image_size': size, 'timm_model': info['config']['model']['network']},
    })
    _write_json(out / 'preprocessor_config.json', {
        'image_processor_type': 'CLIPImageProcessor', 'do_convert_rgb': True,
        'do_resize': True, 'size': {'height': size, 'width': size}, 'resample': 3,
        'do_center_crop': False, 'do_rescale': True, 'rescale_factor': 1 / 255,
        'do_normalize': True, 'image_mean': list(MEAN), 'image_std': list(STD),
    })


def _description(info, metrics):
    config, progress = info['config'], info['progress']
    settings = {stage: {key: value for key, value in config[stage].items()
                        if key not in ('threads', 'workers')}
                for stage in ('train', 'frozen', 'tune', 'text')}
    return {
        'name': config['name'], 'version': config['version'], 'licence': config['licence'],
        'embedding_dim': config['model']['dim'], 'logit_scale': round(info['logit_scale'], 3),
        'prompt_templates': list(PROMPT_TEMPLATES),
        'ranking': metrics.get('ranking', {
            'image_weight': 0.5, 'text_weight': 1.0, 'fitted': 'not fitted: a guess',
        }),
        **({'classify': metrics['classify']} if 'classify' in metrics else {}),
        'training': {
            'network': config['model']['network'], 'text_encoder': 'all-MiniLM-L6-v2, frozen',
            **{key: config['model'][key] for key in ('text_width', 'hidden', 'components')},
            'history': config.get('history', ''),
            'samples': progress['samples'], 'steps': progress['step'],
            'synthetic_scenes': progress['scenes'],
            'minutes': round(progress['seconds'] / 60, 1), 'input_size': progress['size'],
            'real_fraction': config['data']['real_fraction'] if config['data']['real'] else 0.0,
            'kinds': info['kinds'], 'settings': settings,
        },
        'metrics': metrics.get('metrics', {}),
    }


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def main(arguments):
    """
    Run ``python -m export bundle``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        Exit status: 1 if it was not uploaded.
    """
    parser = argparse.ArgumentParser(prog='python -m export bundle',
                                     description='Assemble a model bundle.')
    parser.add_argument('checkpoint', help='checkpoint.pt of the training run')
    parser.add_argument('towers', help='folder with onnx/*_quantized.onnx')
    parser.add_argument('--out', required=True, help='folder to write')
    parser.add_argument('--real', help='folder with manifest.jsonl: background images')
    parser.add_argument('--words', help='CSV of archive rows: metadata of the background')
    parser.add_argument('--metrics', help='JSON file written by evaluate')
    parser.add_argument('--push', metavar='REPO', help='upload it to this hub id, see step push')
    parser.add_argument('--dry-run', action='store_true', help='only say what would be uploaded')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    metrics = json.loads(Path(options.metrics).read_text('utf-8')) if options.metrics else None
    total = bundle(options.checkpoint, options.towers, options.out, real=options.real,
                   words=options.words, metrics=metrics)
    print(f'{options.out}: {total / 1e6:.1f} MB')
    if not options.push:
        return 0
    return push([options.out, options.push, *(['--dry-run'] if options.dry_run else [])])
