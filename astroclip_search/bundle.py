# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Find, download and verify a model bundle.

A bundle is a directory in the ONNX layout of transformers.js, Optimum and fastembed, so that
CLIP-like repositories of the Hugging Face hub work as they are. Three files of ours are optional:
``astroclip.json`` (checksums, ranking weights), ``background.npz`` (embeddings of reference
images) and ``golden.npz`` (a self-test).
"""

import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .exceptions import BundleError
from .ranking import normalise

__all__ = ['Background', 'Bundle', 'Preprocessing', 'cached_models', 'open_bundle']

EMBEDDED = Path(__file__).parent / 'model'

_HUB_FILES = ['config.json', 'preprocessor_config.json', 'tokenizer.json',
              'tokenizer_config.json', 'special_tokens_map.json', 'astroclip.json',
              'background.npz', 'README.md', 'onnx/vision_model*.onnx', 'onnx/text_model*.onnx']

# Preference of the model file for a device: int8 gains most on a CPU, half precision on a GPU.
_VARIANTS = {'cpu': ('_quantized', '_int8', '', '_fp16'),
             'cuda': ('_fp16', '', '_quantized', '_int8')}


@dataclass(frozen=True)
class Preprocessing:
    """
    How an RGB image becomes the input of the model (``preprocessor_config.json``).

    Attributes
    ----------
    size : tuple of int
        Height and width of the model's input in pixels.
    shortest_edge : int or None
        If set, the short side is resized to this many pixels and the centre is cropped;
        otherwise the whole frame is resized to ``size`` whatever its aspect ratio.
    resample : int
        Pillow's number of the resampling filter.
    mean, std : tuple of float
        Per-channel normalisation of values in 0..1.
    """

    size: tuple[int, int]
    shortest_edge: int | None
    resample: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_config(cls, config: dict) -> 'Preprocessing':
        """
        Read a ``preprocessor_config.json`` of the transformers library.

        Parameters
        ----------
        config : dict
            The parsed file.

        Returns
        -------
        Preprocessing
            The same content in one form.
        """
        def pair(value):
            if isinstance(value, dict):
                return (value['height'], value['width']) if 'height' in value else None
            return (value, value)

        resize, crop = config.get('size', 224), config.get('crop_size', 224)
        short = resize.get('shortest_edge') if isinstance(resize, dict) else resize
        if isinstance(resize, dict) and 'height' in resize:
            short = None
        if config.get('do_center_crop', short is not None):
            size = pair(crop)
        else:
            size = pair(resize)
            short = None
        if size is None:
            raise KeyError('size')
        if short is None and config.get('do_center_crop') and size != pair(resize):
            short = min(pair(resize))
        return cls(tuple(int(n) for n in size), short, int(config.get('resample', 3)),
                   tuple(config.get('image_mean', (0.5, 0.5, 0.5))),
                   tuple(config.get('image_std', (0.5, 0.5, 0.5))))


@dataclass(frozen=True)
class Background:
    """
    Embeddings of things that have nothing to do with a query.

    Attributes
    ----------
    image : ndarray or None
        Unit vectors of reference archive images, shape ``(n, d)``, float32.
    words : ndarray or None
        Unit sentence vectors of reference targets and titles, shape ``(m, d_words)``, float32.
    """

    image: np.ndarray | None = None
    words: np.ndarray | None = None


@dataclass(frozen=True)
class Bundle:
    """
    A verified model bundle.

    Attributes
    ----------
    name : str
        Name as the user gave it, or the bundle's own.
    path : pathlib.Path
        Its directory.
    revision : str
        Identifies the weights; part of every cache key.
    preprocessing : Preprocessing
        How an image becomes the input of the model.
    context_length : int
        Number of tokens the text tower reads.
    padding : bool
        Whether texts are always padded to ``context_length`` (SigLIP).
    pad_token : str or None
        Token that pads shorter texts, if the tokenizer does not say it itself.
    info : dict
        ``astroclip.json``; empty for models that are not ours.
    """

    name: str
    path: Path
    revision: str
    preprocessing: Preprocessing
    context_length: int
    padding: bool = False
    pad_token: str | None = None
    info: dict = field(default_factory=dict)

    @property
    def prompt_templates(self) -> tuple[str, ...]:
        """
        Sentences around a phrase whose embeddings are averaged.
        """
        return tuple(self.info.get('prompt_templates', ['{}']))

    @property
    def ranking_weights(self) -> tuple[float, float] | None:
        """
        Fitted weights of picture and words, or `None` for a model without them.
        """
        weights = self.info.get('ranking')
        return (float(weights['image_weight']), float(weights['text_weight'])) if weights else None

    def onnx_file(self, tower: str, device: str) -> Path:
        """
        The model file of a tower that suits a device best.

        Parameters
        ----------
        tower : {'vision', 'text'}
            Which half of the model.
        device : {'cpu', 'cuda'}
            Where it will run.

        Returns
        -------
        pathlib.Path
            An existing file.
        """
        for suffix in _VARIANTS[device]:
            path = self.path / 'onnx' / f'{tower}_model{suffix}.onnx'
            if path.is_file():
                return path
        raise BundleError(f'The model {self.name!r} has no onnx/{tower}_model*.onnx; only models '
                          'exported as two ONNX towers can be used.')

    @functools.cached_property
    def background(self) -> Background:
        """
        Reference embeddings, empty if the bundle has none.
        """
        path = self.path / 'background.npz'
        if not path.is_file():
            return Background()
        with np.load(path, allow_pickle=False) as data:
            return Background(*(normalise(data[name] * np.float32(data[f'{name}_scale']))
                                if name in data else None for name in ('image', 'words')))


def _read_json(path: Path, name: str) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise BundleError(f'The model {name!r} has no readable {path.name} ({error}).') from error
    if not isinstance(content, dict):
        raise BundleError(f'The {path.name} of the model {name!r} is not a JSON object.')
    return content


def _verify(path: Path, info: dict, name: str) -> None:
    """
    Compare every file that ``astroclip.json`` lists with its checksum.
    """
    for relative, expected in info.get('files', {}).items():
        file = path / relative
        if not file.resolve().is_relative_to(path.resolve()):
            raise BundleError(f'The model {name!r} lists a file outside itself: {relative}.')
        if not file.is_file():
            raise BundleError(f'The model {name!r} is incomplete: {relative} is missing; '
                              'install or download it again.')
        with file.open('rb') as stream:
            found = hashlib.file_digest(stream, 'sha256').hexdigest()
        if found != expected:
            raise BundleError(f'The model {name!r} is corrupt: the sha256 of {relative} is not '
                              'the one in astroclip.json; install or download it again.')


def _download(name: str, revision: str) -> Path:
    """
    Fetch the files of a hub repository that we read, and no others.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None,
                                      allow_patterns=_HUB_FILES))
    # The hub client raises errors of several libraries for one situation.
    except Exception as error:
        raise BundleError(
            f'The model {name!r} is neither the embedded model (\'default\'), nor a local '
            f'directory, nor could it be had from the Hugging Face hub ({type(error).__name__}).'
        ) from error


@functools.lru_cache(maxsize=8)
def open_bundle(name: str = 'default', revision: str = '') -> Bundle:
    """
    Find a model bundle, verify it and read its description.

    Parameters
    ----------
    name : str
        ``'default'`` for the embedded model, the path of a directory, or a Hugging Face id such
        as ``'Xenova/clip-vit-base-patch32'``.
    revision : str
        Commit, tag or branch of a hub model.

    Returns
    -------
    Bundle
        The verified bundle. Opening the same one again costs nothing.

    Raises
    ------
    BundleError
        If it cannot be found, lacks a file, or a file differs from its checksum.
    """
    if name == 'default':
        path = EMBEDDED
        if not path.is_dir():
            raise BundleError('The embedded model is not in this installation; install '
                              'astroclip-search again or name another model.')
    elif Path(name).expanduser().is_dir():
        path = Path(name).expanduser().resolve()
    elif name.count('/') == 1 and not name.startswith(('.', '/', '~')):
        path = _download(name, revision)
    else:
        raise BundleError(f'There is no model {name!r}: give \'default\', the path of a '
                          'directory, or a Hugging Face id such as \'owner/name\'.')

    info_file = path / 'astroclip.json'
    info = _read_json(info_file, name) if info_file.is_file() else {}
    _verify(path, info, name)
    config = _read_json(path / 'preprocessor_config.json', name)
    try:
        preprocessing = Preprocessing.from_config(config)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f'The preprocessor_config.json of the model {name!r} does not say '
                          f'the image size ({error!r}).') from error
    if not (path / 'tokenizer.json').is_file():
        raise BundleError(f'The model {name!r} has no tokenizer.json.')
    tokens_file = path / 'tokenizer_config.json'
    tokens = _read_json(tokens_file, name) if tokens_file.is_file() else {}
    model = _read_json(path / 'config.json', name) if (path / 'config.json').is_file() else {}
    text = model.get('text_config') or {}
    length = text.get('max_position_embeddings') or tokens.get('model_max_length') or 77
    if 'model_max_length' in tokens:
        length = min(length, tokens['model_max_length'])
    if info_file.is_file():
        identity = hashlib.sha256(info_file.read_bytes()).hexdigest()
    else:
        # A model that is not ours has no checksums: its revision is the content of its towers.
        digest = hashlib.sha256()
        for file in sorted(path.glob('onnx/*_model*.onnx')):
            with file.open('rb') as stream:
                digest.update(hashlib.file_digest(stream, 'sha256').digest())
        digest.update(json.dumps(config, sort_keys=True).encode())
        identity = digest.hexdigest()
    return Bundle(name=info.get('name', name), path=path, revision=identity[:12],
                  preprocessing=preprocessing, context_length=int(min(length, 512)),
                  padding='siglip' in str(model.get('model_type', '')).lower(),
                  pad_token=_token(tokens.get('pad_token')), info=info)


def _token(value: object) -> str | None:
    return value.get('content') if isinstance(value, dict) else value


def cached_models() -> list[tuple[str, Path]]:
    """
    Models on this machine: the embedded one and usable ones of the hub cache.

    Returns
    -------
    list of tuple
        Name and directory of each.
    """
    found = [('default', EMBEDDED)] if EMBEDDED.is_dir() else []
    try:
        from huggingface_hub import scan_cache_dir
        repositories = scan_cache_dir().repos
    # No cache directory yet, or a client too old or new to list it: then there is none to name.
    except Exception:
        return found
    for repository in repositories:
        for snapshot in repository.revisions:
            path = Path(snapshot.snapshot_path)
            if any(path.glob('onnx/vision_model*.onnx')):
                found.append((repository.repo_id, path))
                break
    return found
