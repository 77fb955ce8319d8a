"""Pairs whose captions name the colours of squares, and towers of a few weights to learn them."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

COLOURS = {'red': (200, 30, 30), 'green': (30, 200, 30), 'blue': (30, 30, 200),
           'yellow': (200, 200, 30), 'white': (230, 230, 230), 'black': (10, 10, 10)}
ARCHITECTURE = {
    'embed_dim': 16,
    'vision_cfg': {'image_size': 16, 'patch_size': 8, 'width': 32, 'head_width': 16, 'layers': 1},
    'text_cfg': {'context_length': 12, 'vocab_size': 49408, 'width': 32, 'heads': 2, 'layers': 1},
}
PREPROCESSING = {'size': 16, 'interpolation': 'bicubic', 'mean': (0.5, 0.5, 0.5),
                 'std': (0.5, 0.5, 0.5)}


def write_shards(folder, *, proposals, first, pictures=3):
    """Write proposals on a colour each, as `export shards` does."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(first)
    with tarfile.open(folder / '000000.tar', 'w') as tar:
        for number in range(first, first + proposals):
            name, colour = list(COLOURS.items())[number % len(COLOURS)]
            for i in range(pictures):
                pixels = np.clip(colour + rng.normal(0, 15, (20, 24, 3)), 0, 255).astype(np.uint8)
                stream = io.BytesIO()
                Image.fromarray(pixels).save(stream, 'PNG')
                about = {'caption_group': f'g{number}', 'id': i}
                for ending, content in (('png', stream.getvalue()),
                                        ('txt', f'{name} squares, {number}. Colours.'.encode()),
                                        ('json', json.dumps(about).encode())):
                    member = tarfile.TarInfo(f'p{number}.v1_{i}.{ending}')
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def small(name='paperclip_summaries', model=(), data=(), **train):
    """Return a configuration of four steps of the smallest towers."""
    from export.finetuning.recipe import read_recipe

    recipe = read_recipe(name, tiny=True)
    recipe['model'].update({'architecture': ARCHITECTURE, **dict(model)})
    recipe['data'].update(dict(data))
    recipe['train']['micro_batch'] = min(4, recipe['train']['micro_batch'])
    recipe['train'].update({'steps': 4, 'batch_size': 8, 'warmup': 1, 'checkpoint_every': 1,
                            'learning_rate': 3e-3, **train})
    return recipe


def weights(folder):
    """Return what a run has written."""
    from safetensors.torch import load_file

    return load_file(folder / 'open_clip_model.safetensors')


def assert_same(first, second, **tolerance):
    """Two state dictionaries have the same names and values."""
    from torch.testing import assert_close

    assert first.keys() == second.keys()
    for name, value in first.items():
        assert_close(value, second[name], **tolerance)


def batch_of(clip, data, count=8):
    """Return pixels, tokens and groups of the first pairs."""
    import torch

    from export.finetuning.captioned import Pairs, whole
    from export.finetuning.matching import normalise

    pairs = Pairs(data / 'train')
    pixels = torch.stack([whole(pairs.picture(i), clip.preprocessing) for i in range(count)])
    return (normalise(pixels, clip.preprocessing, torch.device('cpu')),
            clip.tokenizer(pairs.captions[:count]), torch.from_numpy(pairs.groups[:count]))
