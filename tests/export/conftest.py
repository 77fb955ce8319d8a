"""A small training run, made once: a tiny network, three steps."""

import functools
import json
import re

import numpy as np
import pytest
from PIL import Image


def write_manifest(folder):
    """Write forty labelled images: bright disks are `galaxy`, stripes `spectrum`."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:48, :64]
    lines = []
    for i in range(40):
        disk = i % 2 == 0
        centre = rng.uniform(16, 32, 2)
        light = (np.hypot(rows - centre[0], columns - centre[1]) < rng.uniform(5, 15) if disk
                 else (rows + rng.integers(9)) % rng.integers(4, 9) < 2)
        pixels = np.clip(200 * light[..., None] + rng.normal(20, 10, (48, 64, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{i:02d}.png')
        label = 'galaxy' if disk else 'spectrum'
        lines.append(json.dumps({
            'id': str(i), 'source': 'test', 'title': f'target {i}', 'file': f'{i:02d}.png',
            'labels': [label], 'obs_title': f'A survey of the {label} kind', 'instrument': 'CAM',
        }))
    (folder / 'manifest.jsonl').write_text('\n'.join(lines), encoding='utf-8')
    return folder


@pytest.fixture(scope='session')
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp('real'))


@pytest.fixture(scope='session')
def shards(tmp_path_factory):
    from export.sky import write_shard

    folder = tmp_path_factory.mktemp('sky')
    write_shard(folder, 0, 168, size=48)
    return folder


@pytest.fixture(scope='session')
def encoder():
    pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')
    from export.training.text import SentenceEncoder

    return SentenceEncoder()


class BagOfWords:
    """Stands for the sentence encoder where thousands of captions are embedded."""

    def __init__(self):
        self._words = functools.cache(
            lambda word: np.random.default_rng(list(word.encode())).normal(size=384))

    def encode(self, texts, *, half=False):
        vectors = [sum(map(self._words, re.findall(r'\w+', text.lower()))) for text in texts]
        vectors = np.array(vectors, np.float32).reshape(len(texts), 384)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope='session')
def words():
    return BagOfWords()


@pytest.fixture(scope='session')
def config(shards, manifest):
    pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')
    from export.training.train import read_config

    config = read_config(None, sky=[str(shards)], validation=[str(shards)], real=str(manifest))
    config['data'].update(validation_fractions={'test': 0.5}, validation_scenes=28)
    config['model'].update(hidden=32, components=16)
    config['train'].update(size=32)
    config['frozen'].update(steps=4, batch_size=32, views=2)
    config['tune'].update(steps=2, batch_size=12, memory=20, workers=0)
    config['text'].update(steps=3)
    return config


@pytest.fixture(scope='session')
def material(config, words, tmp_path_factory):
    from export.training.batches import read_material

    return read_material(config['data'], words, tmp_path_factory.mktemp('material'))


@pytest.fixture(scope='session')
def checkpoint(config, words, tmp_path_factory):
    from export.training.train import train

    return train(config, tmp_path_factory.mktemp('run'), encoder=words)


@pytest.fixture(scope='session')
def towers(checkpoint, tmp_path_factory):
    from export.to_onnx.quantise import main as quantise
    from export.to_onnx.towers import main as to_onnx

    folder = tmp_path_factory.mktemp('towers')
    to_onnx([str(checkpoint), '--out', str(folder)])
    quantise([str(folder), '--images', '12'])
    return folder
