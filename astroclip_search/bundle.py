# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Find and verify a model bundle.

A bundle is a directory in the ONNX layout of transformers.js, Optimum and fastembed, so that
CLIP-like repositories of the Hugging Face hub work as they are. Three files of ours are optional:
``astroclip.json`` (checksums, ranking weights), ``background.npz`` (embeddings of reference
images) and ``golden.npz`` (a self-test).
"""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .exceptions import BundleError
from .hub import Snapshot, cached_snapshots, external_weights, open_snapshot
from .ranking import normalise

__all__ = ['Background', 'Bundle', 'Preprocessing', 'cached_models', 'open_bundle']

EMBEDDED = Path(__file__).parent / 'model'

# No image model reads more; a larger number in a downloaded file would only take the memory.
_MAX_SIDE = 2048

# Preference of the model file for a device: int8 gains most on a CPU, half precision on a GPU.
_VARIANTS = {'cpu': ('_quantized', '_int8', '', '_fp16'),
             'cuda': ('_fp16', '', '_quantized', '_int8')}
_NAMED = {'fp32': ('',), 'fp16': ('_fp16',), 'int8': ('_quantized', '_int8')}

# Tokens that a text tower reads where its config.json does not say it.
_LENGTHS = {'clip': 77, 'siglip': 64}


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

        Raises
        ------
        AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError
            If it describes something else than one input of a fixed size.
        """
        resize, crop = config['size'], config.get('crop_size')
        short = None
        if config.get('do_center_crop', crop is not None):
            size = _height_width(crop)
            # With a crop, a bare number is the short side (CLIP); without one, a square.
            short = resize if isinstance(resize, int) else resize.get('shortest_edge')
        else:
            size = _height_width(resize)
        if max(size) > _MAX_SIDE or min(size) < 1:
            raise ValueError(f'images of {size} pixels')
        if short is None and _height_width(resize) != size:
            raise ValueError('a crop of an image that was resized to another shape')
        if short is not None and short < max(size):
            raise ValueError('a crop larger than the image')
        resample = config.get('resample', 3)
        if resample not in range(6):
            raise ValueError(f'resample {resample}')
        normalised = config.get('do_normalize', True)
        # In the file both are for values times rescale_factor; here they are for values in 0..1.
        factor = config.get('rescale_factor', 1 / 255) if config.get('do_rescale', True) else 1
        unit = 255 * factor
        return cls(size, short, resample,
                   _channels(config['image_mean'] if normalised else (0, 0, 0), unit),
                   _channels(config['image_std'] if normalised else (1, 1, 1), unit))


def _height_width(size: int | dict) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    return int(size['height']), int(size['width'])


def _channels(values: Sequence[float], unit: float) -> tuple[float, float, float]:
    red, green, blue = (float(value) / unit for value in values)
    return red, green, blue


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
    labels : ndarray or None
        Unit text vectors of what the images show, shape ``(k, d)``, float32.
    label : ndarray or None
        Row of ``labels`` for each image, -1 where it is not known; shape ``(n,)``, int.
    related : float
        Cosine between a query and a label from which on the image may show what is asked.
    """

    image: np.ndarray | None = None
    words: np.ndarray | None = None
    labels: np.ndarray | None = None
    label: np.ndarray | None = None
    related: float = 2.0

    def cosines(self, queries: np.ndarray) -> np.ndarray:
        """
        Cosines of the images that have nothing to do with a query.

        Parameters
        ----------
        queries : ndarray
            Unit vectors, shape ``(d,)`` or ``(q, d)``.

        Returns
        -------
        ndarray
            Shape ``(n,)`` or ``(n, q)``; NaN for images whose label is too similar to the query,
            unless that were half of all images.
        """
        cosines = self.image @ queries.T
        if self.labels is not None:
            similar = self.labels @ queries.T >= self.related
            # The last row is for images of unknown content.
            shown = np.concatenate([similar, np.zeros_like(similar[:1])])[self.label]
            cosines[shown & (shown.mean(axis=0) < 0.5)] = np.nan
        return cosines


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
        Identifies the weights; part of every cache key. The beginning of the commit for a model
        of the hub that is not ours, of a hash otherwise.
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
    prompt_templates : tuple of str
        Sentences around a phrase whose embeddings are averaged.
    ranking_weights : tuple of float or None
        Fitted weights of picture and words, or `None` for a model without them.
    logit_scale : float
        What cosines are multiplied by before a softmax makes probabilities of them: the factor
        that the model was trained with, or 100, which CLIP was (Radford et al. 2021, sec. 2.5).
    variant : {'auto', 'fp32', 'fp16', 'int8'}
        Which file of a tower is taken; ``'auto'`` is what suits the device.
    snapshot : Snapshot or None
        For a model of the hub, where the files come from that are not in its directory yet.
    """

    name: str
    path: Path
    revision: str
    preprocessing: Preprocessing
    context_length: int
    padding: bool = False
    pad_token: str | None = None
    info: dict = field(default_factory=dict)
    prompt_templates: tuple[str, ...] = ('{}',)
    ranking_weights: tuple[float, float] | None = None
    logit_scale: float = 100.0
    variant: str = 'auto'
    snapshot: Snapshot | None = None

    def of_variant(self, variant: str) -> 'Bundle':
        """
        The same model with another choice of its files.

        Parameters
        ----------
        variant : {'auto', 'fp32', 'fp16', 'int8'}
            Which file of a tower is taken.

        Returns
        -------
        Bundle
            Its revision names the variant, since the embeddings differ a little.
        """
        if variant == self.variant:
            return self
        return replace(self, variant=variant, revision=f'{self.revision}-{variant}')

    def onnx_file(self, tower: str, device: str) -> Path:
        """
        The model file of a tower that is of the variant, or suits a device best.

        Of a model of the hub it is fetched when it is first asked for; where the hub cannot be
        asked, the best one that is here is taken.

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

        Raises
        ------
        BundleError
            If there is none, or it differs from its checksum.
        """
        names = [f'onnx/{tower}_model{suffix}.onnx' for suffix in self._suffixes(device)]
        if self.snapshot is None:
            found = next((name for name in names if (self.path / name).is_file()), None)
        elif found := self.snapshot.first(names):
            sums = self.info.get('files', {})
            parts = {found, *external_weights(found, sums)} & sums.keys()
            _verify(self.path, {part: sums[part] for part in parts}, self.snapshot.name)
        if found:
            return self.path / found
        if self.variant != 'auto':
            there = ', '.join(name for name in self._onnx_files()
                              if name.startswith(f'{tower}_model'))
            raise BundleError(f'The model {self.name!r} has no {tower} tower of the variant '
                              f'{self.variant} (it has {there or "none"}): set '
                              "conf.model_variant to 'auto'.")
        raise BundleError(f'The model {self.name!r} has no onnx/{tower}_model*.onnx; only models '
                          'exported as two ONNX towers can be used.')

    def _suffixes(self, device: str) -> tuple[str, ...]:
        return _NAMED.get(self.variant, _VARIANTS[device])

    def _onnx_files(self) -> list[str]:
        if self.snapshot is None:
            return sorted(path.name for path in self.path.glob('onnx/*.onnx'))
        files = self.snapshot.listed or self.snapshot.files
        return sorted(name.removeprefix('onnx/') for name in files
                      if name.startswith('onnx/') and name.endswith('.onnx'))

    @functools.cached_property
    def background(self) -> Background:
        """
        Reference embeddings, empty if the bundle has none.
        """
        path = self.path / 'background.npz'
        if not path.is_file():
            return Background()
        try:
            with np.load(path, allow_pickle=False) as data:
                vectors = [normalise(data[kind] * np.float32(data[f'{kind}_scale']))
                           if kind in data else None for kind in ('image', 'words', 'labels')]
                label = data['label'].astype(np.intp) if vectors[2] is not None else None
                related = float(data['related']) if label is not None else 2.0
                if label is not None and (label.shape != vectors[0].shape[:1]
                                          or not -1 <= label.min() <= label.max()
                                          < len(vectors[2])):
                    raise ValueError('the labels do not fit the images')
        # A damaged archive raises BadZipFile, zlib.error, ValueError, KeyError and more.
        except Exception as error:
            raise BundleError(f'The background.npz of the model {self.name!r} cannot be read '
                              f'({error}).') from error
        expected = self.info.get('embedding_dim')
        for kind, found in (('images', vectors[0]), ('labels', vectors[2])):
            if found is not None and expected and found.shape[1] != expected:
                raise BundleError(f'The model {self.name!r} is corrupt: the {kind} of '
                                  f'background.npz have {found.shape[1]} dimensions, not '
                                  f'{expected}.')
        return Background(*vectors, label, related)


def _read_json(path: Path, name: str) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise BundleError(f'The model {name!r} has no readable {path.name} ({error}).') from error
    if not isinstance(content, dict):
        raise BundleError(f'The {path.name} of the model {name!r} is not a JSON object.')
    return content


def _verify(path: Path, files: dict[str, str], name: str) -> None:
    """
    Compare files with their checksums.
    """
    for relative, expected in files.items():
        file = path / relative
        if not file.is_file():
            raise BundleError(f'The model {name!r} is incomplete: {relative} is missing; '
                              'install or download it again.')
        with file.open('rb') as stream:
            found = hashlib.file_digest(stream, 'sha256').hexdigest()
        if found != expected:
            raise BundleError(f'The model {name!r} is corrupt: the sha256 of {relative} is not '
                              'the one in astroclip.json; install or download it again.')


@functools.lru_cache(maxsize=8)
def open_bundle(name: str = 'default', revision: str = '') -> Bundle:
    """
    Find a model bundle, verify it and read its description.

    Of a model of the hub only what describes it is fetched; a tower when it is first needed.

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
    snapshot = None
    if name == 'default':
        path = EMBEDDED
        if not path.is_dir():
            raise BundleError('The embedded model is not in this installation; install '
                              'astroclip-search again or name another model.')
    # Not Path.expanduser: it fails where there is no such user.
    elif Path(os.path.expanduser(name)).is_dir():
        path = Path(os.path.expanduser(name)).resolve()
    elif name.count('/') == 1 and not name.startswith(('.', '/', '~')):
        snapshot = open_snapshot(name, revision)
        path = snapshot.path
    else:
        raise BundleError(f'There is no model {name!r}: give \'default\', the path of a '
                          'directory, or a Hugging Face id such as \'owner/name\'.')

    try:
        return _describe(name, path, snapshot)
    # The files may hold anything: a list for an object, a word for a number.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BundleError(f'The description of the model {name!r} makes no sense '
                          f'({error!r}).') from error


def _describe(name: str, path: Path, snapshot: Snapshot | None) -> Bundle:
    """
    Verify a directory and read its description.
    """
    info_file = path / 'astroclip.json'
    info = _read_json(info_file, name) if info_file.is_file() else {}
    files = info.get('files', {})
    for relative in files:
        # By name only: in the hub's cache all files are links to a folder of contents.
        if Path(relative).is_absolute() or '..' in Path(relative).parts:
            raise BundleError(f'The model {name!r} lists a file outside itself: {relative}.')
    if snapshot is not None and files:
        snapshot = replace(snapshot, listed=frozenset(files))
        # A tower is fetched and verified when it is first needed.
        files = {relative: files[relative] for relative in files
                 if not relative.startswith('onnx/')}
        for relative in files:
            snapshot.first([relative])
    _verify(path, files, name)
    config = _read_json(path / 'preprocessor_config.json', name)
    if not (path / 'tokenizer.json').is_file():
        raise BundleError(f'The model {name!r} has no tokenizer.json.')
    tokens_file = path / 'tokenizer_config.json'
    tokens = _read_json(tokens_file, name) if tokens_file.is_file() else {}
    model = _read_json(path / 'config.json', name) if (path / 'config.json').is_file() else {}
    text = model.get('text_config') or {}
    kind = str(model.get('model_type', '')).lower()
    # The transformers library leaves out of its files what is its default.
    length = (text.get('max_position_embeddings') or _LENGTHS.get(kind)
              or tokens.get('model_max_length') or 77)
    if 'model_max_length' in tokens:
        length = min(length, tokens['model_max_length'])
    if info.get('files'):
        revision = hashlib.sha256(info_file.read_bytes()).hexdigest()
    else:
        revision = snapshot.commit if snapshot is not None else _content(path, config)
    return Bundle(name=info.get('name', name), path=path, revision=revision[:12],
                  preprocessing=Preprocessing.from_config(config),
                  context_length=int(min(length, 512)),
                  padding='siglip' in kind,
                  pad_token=_token(tokens.get('pad_token')), info=info,
                  prompt_templates=tuple(info.get('prompt_templates', ['{}'])),
                  ranking_weights=_weights(info.get('ranking')),
                  logit_scale=_scale(info.get('logit_scale', Bundle.logit_scale)),
                  snapshot=snapshot)


def _content(path: Path, config: dict) -> str:
    """
    Hash of the towers of a directory without checksums.
    """
    digest = hashlib.sha256()
    # Large weights are in files of their own, such as text_model.onnx_data.
    for file in sorted(path.glob('onnx/*_model*.onnx*')):
        with file.open('rb') as stream:
            digest.update(hashlib.file_digest(stream, 'sha256').digest())
    digest.update(json.dumps(config, sort_keys=True).encode())
    return digest.hexdigest()


def _weights(ranking: dict | None) -> tuple[float, float] | None:
    if not ranking:
        return None
    return float(ranking['image_weight']), float(ranking['text_weight'])


def _scale(value: object) -> float:
    scale = float(value)
    if not 0 < scale < float('inf'):
        raise ValueError(f'logit_scale {value}')
    return scale


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
    return found + [(snapshot.name, snapshot.path) for snapshot in cached_snapshots()]
