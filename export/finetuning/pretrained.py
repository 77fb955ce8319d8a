"""
CLIP models as open_clip keeps them: a folder with ``open_clip_config.json`` and safetensors.

Weights are read from safetensors only, so that nothing that comes from elsewhere is unpickled. A
model with MLP heads, which no model of open_clip can have, is kept in the same form with the width
of the heads in its configuration: open_clip refuses such a folder, `load` reads it.
"""

import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.push_to_hf_hub import save_config_for_hf
from safetensors.torch import load_file, save_file

from export.finetuning.adapters import Headed
from export.finetuning.origin import fetch

__all__ = ['Clip', 'interpolate', 'load', 'save']

_CONFIG = 'open_clip_config.json'
_WEIGHTS = ('open_clip_model.safetensors', 'open_clip_pytorch_model.safetensors')
_TOKENIZER = ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'vocab.json',
              'vocab.txt', 'merges.txt', 'added_tokens.json', '*.model')


@dataclass
class Clip:
    """
    A model with what goes with it.

    Attributes
    ----------
    model : `torch.nn.Module`
        Model of open_clip, with ``encode_image``, ``encode_text`` and ``logit_scale``.
    tokenizer : callable
        List of str -> `torch.Tensor` of int64, shape (n, length).
    config : dict
        What open_clip makes the model of (``model_cfg``).
    files : list of `pathlib.Path`
        Files of the tokenizer; none for the one that open_clip brings.
    """

    model: torch.nn.Module
    tokenizer: Any
    config: dict
    files: list = field(default_factory=list)

    @property
    def preprocessing(self):
        """Side, mean, standard deviation and interpolation that the image tower was made for."""
        return self.model.visual.preprocess_cfg


def load(base, *, revision=None, weights=True, whole=True):
    """
    Make a model.

    Parameters
    ----------
    base : str, path-like or dict
        Folder, id of the hub (``owner/name``), name of an architecture of open_clip, or a
        configuration. The last two have no weights: they are random, from torch's seed.
    revision : str, optional
        Commit, branch or tag on the hub.
    weights : bool, optional
        Whether to read weights; else they are random.
    whole : bool, optional
        Whether the model will be shown whole pictures, squashed to a square, in place of what the
        configuration says: as a rule the central square.

    Returns
    -------
    clip : `Clip`
        On the CPU, in float32.

    Raises
    ------
    ValueError
        If there is no such model, or one without weights in safetensors.
    """
    if isinstance(base, dict):
        with tempfile.TemporaryDirectory() as folder:
            text = json.dumps({'model_cfg': base, 'preprocess_cfg': {}})
            Path(folder, _CONFIG).write_text(text, encoding='utf-8')
            return _from_folder(Path(folder), False, whole)
    if Path(base).is_dir():
        return _from_folder(Path(base), weights, whole)
    if base in open_clip.list_models():
        return _made(base, open_clip.get_model_config(base), False, whole)
    return _from_folder(fetch(base, revision)[0], weights, whole)


def _from_folder(folder, weights, whole):
    path = folder / _CONFIG
    if not path.is_file():
        raise ValueError(f'{folder} has no {_CONFIG}: give a model in the form of open_clip')
    config = json.loads(path.read_text(encoding='utf-8'))['model_cfg']
    if weights and not any((folder / name).is_file() for name in _WEIGHTS):
        raise ValueError(f'{folder} has no {_WEIGHTS[0]}: weights are read from safetensors only')
    files = [file for pattern in _TOKENIZER for file in folder.glob(pattern)]
    if 'heads' not in config:
        return _made(f'local-dir:{folder}', config, weights, whole, files)
    heads = config.pop('heads')
    with tempfile.TemporaryDirectory() as inner:
        both = {**json.loads(path.read_text(encoding='utf-8')), 'model_cfg': config}
        Path(inner, _CONFIG).write_text(json.dumps(both), encoding='utf-8')
        for file in files:
            shutil.copy(file, inner)
        clip = _made(f'local-dir:{inner}', config, False, whole, files)
    clip.model = Headed(clip.model, **heads)
    clip.config = {**config, 'heads': heads}
    if weights:
        clip.model.load_state_dict(load_file(folder / _WEIGHTS[0]))
    return clip


def _made(name, config, weights, whole, files=()):
    level = logging.getLogger().level
    # open_clip warns of random weights, also where they are wanted.
    logging.getLogger().setLevel(logging.ERROR)
    try:
        model = open_clip.create_model(
            name, load_weights=weights, pretrained_text=False,
            force_preprocess_cfg={'resize_mode': 'squash'} if whole else None)
        return Clip(model, open_clip.get_tokenizer(name), config, list(files))
    finally:
        logging.getLogger().setLevel(level)


def save(clip, folder):
    """
    Write a model that open_clip and `load` read.

    Parameters
    ----------
    clip : `Clip`
        Model; one with MLP heads is for `load` only.
    folder : path-like
        Where the files go; there, each is replaced at once.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in clip.files:
        if file.parent != folder:
            shutil.copy(file, folder)
    state = {name: value.detach().cpu().contiguous()
             for name, value in clip.model.state_dict().items()}
    part = folder / 'weights.part'
    save_file(state, part, metadata={'format': 'pt'})
    os.replace(part, folder / _WEIGHTS[0])
    save_config_for_hf(clip.model, folder / 'config.part', clip.config)
    os.replace(folder / 'config.part', folder / _CONFIG)


def interpolate(base, tuned, share):
    """
    Take weights on the way from a model to its fine-tuned self (WiSE-FT [1]_).

    Parameters
    ----------
    base, tuned : dict
        State dictionaries of the two.
    share : float
        0 for the base, 1 for the fine-tuned model.

    Returns
    -------
    state : dict
        State dictionary; what is not a real number is of the fine-tuned model.

    Raises
    ------
    ValueError
        If the two are not of one architecture.

    References
    ----------
    .. [1] Wortsman et al. 2022, https://arxiv.org/abs/2109.01903
    """
    if {name: value.shape for name, value in base.items()} != {
            name: value.shape for name, value in tuned.items()}:
        raise ValueError('weights of two architectures have nothing between them')
    return {name: torch.lerp(base[name].to(value), value, share)
            if value.is_floating_point() else value for name, value in tuned.items()}
