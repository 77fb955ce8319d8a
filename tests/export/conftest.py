"""A small training run, made once: a tiny network, three steps."""

import json

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


@pytest.fixture(scope='session')
def config(shards, manifest):
    pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')
    from export.training.train import read_config

    config = read_config(None, sky=[str(shards)], validation=[str(shards)], real=str(manifest))
    config['data']['validation_fractions'] = {'test': 0.5}
    config['model']['network'] = 'test_byobnet'
    config['train'].update(batch_size=16, steps=3, minutes=5, sizes=[[0.0, 32]])
    return config


@pytest.fixture(scope='session')
def checkpoint(config, encoder, tmp_path_factory):
    from export.training.train import train

    return train(config, tmp_path_factory.mktemp('run'), encoder=encoder)


@pytest.fixture(scope='session')
def towers(checkpoint, tmp_path_factory):
    from export.to_onnx.quantise import main as quantise
    from export.to_onnx.towers import main as to_onnx

    folder = tmp_path_factory.mktemp('towers')
    to_onnx([str(checkpoint), '--out', str(folder)])
    quantise([str(folder)])
    return folder
