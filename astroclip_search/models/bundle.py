# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Find and verify a model bundle.

A bundle is a directory in the ONNX layout of transformers.js, Optimum and fastembed, so that
CLIP-like repositories of the Hugging Face hub work as they are. Three files are optional:
``astroclip.json`` (checksums, ranking weights), ``background.npz`` (embeddings of reference
images) and ``golden.npz`` (a self-test).
"""

import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..exceptions import BundleError
from ..images.preprocess import Preprocessing
from ..untrusted.files import open_regular
from .background import Background, read_background
from .contents import Contents
from .hub import PREPROCESSING, Snapshot, cached_snapshots, open_snapshot

__all__ = ['Bundle', 'cached_models', 'description', 'open_bundle']

EMBEDDED = Path(__file__).parent.parent / 'model'

# Preference of the model file for a device: int8 gains most on a CPU, half precision on a GPU.
_VARIANTS = {'cpu': ('_quantized', '_int8', '', '_fp16'),
             'cuda': ('_fp16', '', '_quantized', '_int8')}

_NAMED = {'fp32': ('',), 'fp16': ('_fp16',), 'int8': ('_quantized', '_int8')}

# Tokens that a text tower reads where its config.json does not give their number.
_LENGTHS = {'clip': 77, 'siglip': 64, 'siglip2': 64}

# Where a tokenizer_config.json has no limit, transformers writes a number far beyond this.
_LONGEST = 100_000

# No model has more; larger numbers in a downloaded file would only take up memory.
_MAX_TOKENS, _MAX_DIM, _MAX_TEMPLATES, _MAX_LETTERS = 512, 65_536, 200, 300

_SHA256 = re.compile('[0-9a-f]{64}')


@dataclass(frozen=True)
class Bundle:
    """
    A verified model bundle.
    """

    name: str
    """
    As the user gave it, or the one in its ``astroclip.json``.
    """
    path: Path
    """
    Its directory.
    """
    revision: str
    """
    Identifies the weights; part of every cache key. The beginning of a commit or of a hash.
    """
    preprocessing: Preprocessing
    context_length: int
    """
    Number of tokens that the text tower reads.
    """
    padding: bool = False
    """
    Whether all texts are padded to ``context_length`` (SigLIP).
    """
    pad_token: str | None = None
    """
    Pads shorter texts where the tokenizer has no such token.
    """
    info: dict = field(default_factory=dict)
    """
    Content of ``astroclip.json``, if there is one.
    """
    prompt_templates: tuple[str, ...] = ('{}',)
    """
    Sentences around a phrase whose embeddings are averaged.
    """
    ranking_weights: tuple[float, float] | None = None
    """
    Fitted weights of image and metadata, if there are any.
    """
    words_above: float | None = None
    """
    Standardised cosine above which metadata count; without it all of them count.
    """
    logit_scale: float = 100.0
    """
    Factor of cosines before a softmax, as in training; 100 for CLIP (Radford et al. 2021, §2.5).
    """
    temperature: float = 1.0
    """
    Divides it where probabilities of classes are asked for; fitted, as training is too sure.
    """
    variant: str = 'auto'
    """
    Which file of a tower is used: see `of_variant`.
    """
    snapshot: Snapshot | None = None
    """
    Where the files of a model of the hub come from that are not in its directory yet.
    """

    @property
    def contents(self) -> Contents:
        """
        Its files; where ``info`` lists some, those alone.
        """
        name = self.name if self.snapshot is None else self.snapshot.name
        return Contents(self.path, name, self.info.get('files', {}))

    def of_variant(self, variant: str) -> 'Bundle':
        """
        The same model with another choice of its files, and another revision.

        ``'auto'`` is what suits the device, ``'fp32'``, ``'fp16'`` and ``'int8'`` a precision, and
        ``'_quantized'`` or the like the exact end of the files' names.
        """
        if variant == self.variant:
            return self
        return replace(self, variant=variant, revision=f'{self.revision}-{variant}')

    def onnx_file(self, tower: str, device: str) -> Path:
        """
        The file of the ``'vision'`` or ``'text'`` tower that suits a device best, verified.
        """
        name = self.onnx_name(tower, device)
        self.contents.tower(name)
        return self.path / name

    def onnx_name(self, tower: str, device: str) -> str:
        """
        Name of the file of the ``'vision'`` or ``'text'`` tower that suits a device best.

        It is fetched if it is not here; without a network, the best one that is here is used.
        """
        suffixes = (_VARIANTS[device] if self.variant == 'auto'
                    else _NAMED.get(self.variant, (self.variant,)))
        names = [f'onnx/{tower}_model{suffix}.onnx' for suffix in suffixes]
        if self.snapshot is None:
            found = next(filter(self.contents.has, names), None)
        else:
            found = self.snapshot.first(names)
        if found:
            return found
        if self.variant != 'auto':
            there = ', '.join(name for name in self._onnx_files()
                              if name.startswith(f'{tower}_model'))
            raise BundleError(f'The model {self.name!r} has no {tower} tower of the variant '
                              f'{self.variant} (it has {there or "none"}): set '
                              "conf.model_variant to 'auto'.")
        raise BundleError(f'The model {self.name!r} has no onnx/{tower}_model*.onnx; only models '
                          'exported as two ONNX towers can be used.')

    def _onnx_files(self) -> list[str]:
        files: Iterable[str]
        if self.snapshot is None:
            files = filter(self.contents.has, (f'onnx/{path.name}'
                                               for path in self.path.glob('onnx/*.onnx')))
        else:
            files = self.snapshot.listed or self.snapshot.files
        return sorted(name.removeprefix('onnx/') for name in files
                      if name.startswith('onnx/') and name.endswith('.onnx'))

    @property
    def background(self) -> Background:
        """
        Reference embeddings, read once; empty if the bundle has none.
        """
        # Not a cached_property, whose lock in Python 3.11 a forked process could never get.
        if '_background' not in self.__dict__:
            contents, file = self.contents, 'background.npz'
            self.__dict__['_background'] = read_background(
                contents.read(file) if contents.has(file) else None, self.name,
                self.info.get('embedding_dim'))
        return self.__dict__['_background']

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != '_background'}


@functools.lru_cache(maxsize=8)
def open_bundle(name: str = 'default', revision: str = '') -> Bundle:
    """
    Find a model bundle, verify it and read its description; opening it again costs nothing.

    ``name`` is ``'default'`` for the embedded model, a directory, or a Hugging Face id, of which
    ``revision`` is a commit, tag or branch. The towers are fetched when they are first needed.
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
    unlisted, described = Contents(path, name), 'astroclip.json'
    info = unlisted.json(described, optional=True)
    contents = replace(unlisted, sums=_sums(info.get('files', {}), name))
    files = list(contents.sums)
    if snapshot is not None and files:
        snapshot = replace(snapshot, listed=frozenset(files))
    # A tower is read, and fetched, when it is first needed.
    for file in files:
        if not file.startswith('onnx/'):
            if snapshot is not None:
                snapshot.first([file])
            contents.check(file)
        elif snapshot is None and not (path / file).is_file():
            raise BundleError(f'The model {name!r} is incomplete: {file} is missing; install or '
                              'download it again.')
    config = _preprocessing(contents)
    if not contents.has('tokenizer.json'):
        raise BundleError(f'The model {name!r} has no tokenizer.json.')
    tokens = contents.json('tokenizer_config.json', optional=True)
    model = contents.json('config.json', optional=True)
    if contents.sums:
        revision = hashlib.sha256(unlisted.read(described)).hexdigest()
    else:
        revision = snapshot.commit if snapshot is not None else _content(path, config)
    return Bundle(name=_words(info.get('name', name)), path=path, revision=revision[:12],
                  preprocessing=Preprocessing.from_config(config),
                  context_length=_length(model, tokens),
                  padding='siglip' in _kind(model),
                  pad_token=_token(tokens.get('pad_token')), info=_checked(info),
                  prompt_templates=_templates(info.get('prompt_templates', ['{}'])),
                  ranking_weights=_weights(info.get('ranking')),
                  words_above=_above(info.get('ranking')),
                  logit_scale=_scale(info.get('logit_scale', Bundle.logit_scale)),
                  temperature=_temperature(info.get('classify')),
                  snapshot=snapshot)


def _sums(files: Any, name: str) -> dict[str, str]:
    """
    The checksums of the files that are listed.
    """
    for file, expected in files.items():
        # By name only: in the hub's cache all files are links to a folder of contents.
        if Path(file).is_absolute() or '..' in Path(file).parts:
            raise BundleError(f'The model {name!r} lists a file outside itself: {file}.')
        if not _SHA256.fullmatch(expected):
            raise ValueError(f'the sha256 {expected[:80]!r}')
    return files


def _preprocessing(contents: Contents) -> dict:
    """
    How an image becomes the input; newer files describe the tokenizer beside it.
    """
    old, new = PREPROCESSING
    if contents.has(old) or not contents.has(new):
        return contents.json(old)
    config = contents.json(new).get('image_processor')
    if not isinstance(config, dict):
        raise BundleError(f'The {new} of the model {contents.name!r} describes no '
                          'image_processor.')
    return config


def _kind(model: dict) -> str:
    return str(model.get('model_type', '')).lower()


def _length(model: dict, tokens: dict) -> int:
    """
    Number of tokens that the text tower reads.
    """
    text = model.get('text_config') or {}
    # The transformers library does not write defaults into its files.
    limit = tokens.get('model_max_length')
    limit = None if limit is None or limit > _LONGEST else limit
    length = text.get('max_position_embeddings') or _LENGTHS.get(_kind(model)) or limit or 77
    if limit is not None:
        length = min(length, limit)
    length = int(min(length, _MAX_TOKENS))
    if length < 1:
        raise ValueError(f'{length} tokens')
    return length


def _content(path: Path, config: dict) -> str:
    """
    Hash of the towers of a directory without checksums.
    """
    digest = hashlib.sha256()
    # Large weights are in files of their own, such as text_model.onnx_data.
    for file in sorted(path.glob('onnx/*_model*.onnx*')):
        stream: Any
        with open_regular(file) as stream:
            digest.update(hashlib.file_digest(stream, 'sha256').digest())
    digest.update(json.dumps(config, sort_keys=True).encode())
    return digest.hexdigest()


def _checked(info: dict) -> dict:
    """
    The content of ``astroclip.json``, if its numbers make sense.
    """
    dim = info.get('embedding_dim')
    if dim is not None and (type(dim) is not int or not 1 <= dim <= _MAX_DIM):
        raise ValueError(f'embedding_dim {dim!r}')
    return info


def _words(text: Any) -> str:
    """
    A name, which is shown on terminals and pages.
    """
    if not isinstance(text, str) or not text.isprintable() or len(text) > _MAX_LETTERS:
        raise ValueError(f'the name {text!r:.80}')
    return text


def _templates(value: Any) -> tuple[str, ...]:
    templates = tuple(value)
    if not 0 < len(templates) <= _MAX_TEMPLATES or not all(
            isinstance(template, str) and len(template) <= _MAX_LETTERS
            for template in templates):
        raise ValueError('prompt_templates are at most '
                         f'{_MAX_TEMPLATES} texts of {_MAX_LETTERS} letters')
    return templates


def _weights(ranking: dict | None) -> tuple[float, float] | None:
    if not ranking:
        return None
    weights = float(ranking['image_weight']), float(ranking['text_weight'])
    if not all(map(math.isfinite, weights)):
        raise ValueError(f'ranking {weights}')
    return weights


def _above(ranking: dict | None) -> float | None:
    if not ranking or 'text_above' not in ranking:
        return None
    above = float(ranking['text_above'])
    if not 0 <= above < float('inf'):
        raise ValueError(f'text_above {above}')
    return above


def _scale(value: Any) -> float:
    scale = float(value)
    if not 0 < scale < float('inf'):
        raise ValueError(f'logit_scale {value}')
    return scale


def _temperature(classify: dict | None) -> float:
    if not classify:
        return Bundle.temperature
    temperature = float(classify['temperature'])
    if not 0 < temperature < float('inf'):
        raise ValueError(f'temperature {temperature}')
    return temperature


def _token(value: Any) -> str | None:
    token = value.get('content') if isinstance(value, dict) else value
    if token is not None and not isinstance(token, str):
        raise TypeError(f'pad_token {token!r:.80}')
    return token


def description(name: str, path: Path) -> dict:
    """
    What the ``astroclip.json`` of a directory says; nothing, if there is none that can be read.
    """
    try:
        return Contents(path, name).json('astroclip.json', optional=True)
    except BundleError:
        return {}


def cached_models() -> list[tuple[str, Path]]:
    """
    Name and directory of the models on this machine: the embedded one and those of the hub cache.
    """
    found = [('default', EMBEDDED)] if EMBEDDED.is_dir() else []
    return found + [(snapshot.name, snapshot.path) for snapshot in cached_snapshots()]
