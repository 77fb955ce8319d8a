# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Pixels and text -> unit vectors.
"""

import contextlib
import ctypes
import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..exceptions import BundleError, EncoderError, one_line
from .background import finite, normalise
from .bundle import Bundle
from .forks import undisturbed
from .runtime import IN_FLIGHT, Tower, has_driver, n_cores, open_tower

__all__ = ['Encoder', 'open_encoder']

log = logging.getLogger('astroclip_search')

# Images that a GPU gets at once, and texts. Fewer images at once are faster on a CPU: less than
# four for each thread waste the threads, more than eight the cache of a core.
_CUDA_CHUNK = 64

_TEXT_CHUNK = 8

# Calls with so few texts are queries, which come again; the vectors of the last ones are kept.
_FEW_TEXTS = 64

_N_RECENT = 256

_TYPES = {'tensor(uint8)': np.uint8, 'tensor(float)': np.float32, 'tensor(float16)': np.float16,
          'tensor(int32)': np.int32, 'tensor(int64)': np.int64}


class Encoder:
    """
    The two towers of a model, each opened when it is first needed.

    ``device`` is ``'cpu'``, ``'cuda'``, or ``'auto'`` for CUDA where a tower really gets it;
    ``n_threads`` are CPU threads, 0 for one per physical core. An encoder can be pickled and can be
    used after a fork: the other process opens the towers anew.
    """

    def __init__(self, bundle: Bundle, *, device: str = 'auto', n_threads: int = 0):
        self.bundle = bundle
        self._device, self._n_threads = device, n_threads
        self._dim = bundle.info.get('embedding_dim')
        self._recent: dict[tuple[str, str], np.ndarray] = {}
        self._names: dict[tuple[str, str], str] = {}
        self.begin_anew()
        _living.add(self)

    def begin_anew(self) -> None:
        """
        Forget towers, threads and locks, as in a process that has none of them.
        """
        self._open: dict[str, Any] = {}
        self._callers: ThreadPoolExecutor | None = None
        self._locks = {name: threading.Lock()
                       for name in ('vision', 'text', 'tokenizer', 'callers', 'recent')}

    def keep_open(self) -> None:
        """
        Keep the towers to the end of the process: ONNX Runtime crashes when it destroys a session
        whose threads are gone.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._open))

    def __reduce__(self) -> tuple:
        return functools.partial(open_encoder, self.bundle, device=self._device,
                                 n_threads=self._n_threads), ()

    def open(self) -> None:
        """
        Open both towers now; those of a model of the hub are fetched if they are not here.
        """
        self._opened('vision')
        self._opened('text')

    def close(self) -> None:
        """
        End the threads and drop the open files; both come back with the next use.
        """
        with self._locks['callers']:
            callers, self._callers = self._callers, None
        if callers is not None:
            callers.shutdown()
        self._open = {}

    @property
    def device(self) -> str:
        """
        Where the image tower runs: ``'cpu'`` or ``'cuda'``.
        """
        return self._opened('vision').device

    def file_of(self, tower: str) -> str:
        """
        Name of the file that the ``'vision'`` or ``'text'`` tower is: of another precision, it
        gives other vectors.

        The tower is opened only if another device, which it may get, would have another file.
        """
        device = 'cpu'
        if self._device != 'cpu' and (self.bundle.snapshot is not None or self._name(
                tower, 'cpu') != self._name(tower, 'cuda')):
            device = self._likely_device()
            if device != 'cpu':
                device = self._opened(tower).device
        return self._name(tower, device).removeprefix('onnx/').removesuffix('.onnx')

    @property
    def batch_size(self) -> int:
        """
        Images in one call that keep the device busy; more only take memory.

        The caller is about to bring them, so the image tower begins to open.
        """
        if 'vision' not in self._open:
            with self._pool() as callers:
                callers.submit(self._opened, 'vision')
        device = self._likely_device()
        return IN_FLIGHT * self._chunk(device) * (2 if device == 'cpu' else 1)

    def _likely_device(self) -> str:
        return 'cuda' if self._device != 'cpu' and has_driver() else 'cpu'

    def _chunk(self, device: str) -> int:
        n_threads = self._n_threads or n_cores()
        return _CUDA_CHUNK if device == 'cuda' else min(32, max(8, 4 * n_threads))

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """
        Unit vectors, shape (n, d), float32, of images, shape (n, height, width, 3), uint8.
        """
        together = IN_FLIGHT * self._chunk(self.device)
        n_parts = min(len(pixels), IN_FLIGHT * -(-len(pixels) // together))
        return np.concatenate(self._in_flight(self._embed, np.array_split(pixels, n_parts or 1)))

    @property
    def has_windows(self) -> bool:
        """
        Whether the image tower embeds all windows of a large picture in one pass.
        """
        tower = self._opened('vision')
        return (any(tensor.name == 'window_embeds' for tensor in tower.outputs)
                and any(tensor.name == 'with_windows' for tensor in tower.optional))

    def encode_windows(self, pixels: np.ndarray) -> np.ndarray:
        """
        Unit vectors (rows, columns, d), float32, of the windows of a picture (height, width, 3),
        uint8, whose sides are multiples of 32 and no smaller than a window. A window is as large as
        the pictures that the model takes; the first is in the upper left corner, the last in the
        lower right one, and all are equally far apart.
        """
        tower = self._opened('vision')
        feed = self._pixels(tower, pixels[None]) | {'with_windows': np.array([True])}
        found = self._answer(tower, feed, ('window_embeds',))[1]
        dim = self._dim or found.shape[-1]
        if found.ndim != 4 or found.shape[3] != dim or not found.size:
            raise BundleError(f'The output window_embeds of the model {self.bundle.name!r} is of '
                              f'shape {found.shape}.')
        return normalise(found[0].reshape(-1, dim)).reshape(found.shape[1:])

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """
        Unit vectors, shape (m, d), float32, of phrases as they are, in the space of the images.
        """
        return finite(self._encode_text(texts, ('text_embeds', 'pooler_output')))

    def encode_metadata(self, texts: Sequence[str]) -> np.ndarray:
        """
        Unit vectors, shape (m, d_sentence), float32, of texts to be compared with other texts.

        They are the ``sentence_embeds`` of our models, the text embeddings of others.
        """
        return self._encode_text(texts, ('sentence_embeds', 'text_embeds', 'pooler_output'))

    def n_tokens(self, text: str) -> int:
        """
        Number of tokens with the special ones; the model reads ``bundle.context_length`` of them.
        """
        tokenizer = self._opened('tokenizer')
        with undisturbed():
            encoding = tokenizer.encode(_encodable(text))
        return sum(sum(part.attention_mask) for part in (encoding, *encoding.overflowing))

    def _encode_text(self, texts: Sequence[str], outputs: tuple[str, ...]) -> np.ndarray:
        if not 0 < len(texts) <= _FEW_TEXTS:
            return self._embed_texts(texts, outputs)
        with self._locks['recent']:
            known: dict[str, Any] = {
                text: self._recent.pop((outputs[0], text), None) for text in texts}
        unknown = [text for text, vector in known.items() if vector is None]
        if unknown:
            known.update(zip(unknown, self._embed_texts(unknown, outputs), strict=True))
        with self._locks['recent']:
            self._recent.update(((outputs[0], text), known[text]) for text in known)
            while len(self._recent) > _N_RECENT:
                del self._recent[next(iter(self._recent))]
        return np.stack([known[text] for text in texts])

    def _embed_texts(self, texts: Sequence[str], outputs: tuple[str, ...]) -> np.ndarray:
        if not len(texts):
            return np.empty((0, 0), dtype=np.float32)
        # Texts of like length share a batch, so that little is spent on padding.
        by_length = sorted(range(len(texts)), key=lambda i: self.n_tokens(texts[i]))
        vectors = np.concatenate(self._in_flight(
            lambda rows: self._read([texts[i] for i in rows], outputs),
            [by_length[start:start + _TEXT_CHUNK]
             for start in range(0, len(texts), _TEXT_CHUNK)]))
        return vectors[np.argsort(by_length)]

    def _in_flight(self, action: Callable, parts: Sequence) -> list:
        """
        The results for some parts, of which a few are worked on at once.
        """
        if len(parts) < 2:
            return [action(part) for part in parts]
        with self._pool() as callers:
            found = callers.map(action, parts)
        return list(found)

    @contextlib.contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """
        Threads to which work can be given, as long as `close` does not end them.
        """
        with self._locks['callers']:
            if self._callers is None:
                self._callers = ThreadPoolExecutor(min(IN_FLIGHT, self._n_threads or n_cores()),
                                                   thread_name_prefix='astroclip-model')
            yield self._callers

    def _embed(self, pixels: np.ndarray) -> np.ndarray:
        tower = self._opened('vision')
        return self._run(tower, self._pixels(tower, pixels), ('image_embeds', 'pooler_output'))

    def _pixels(self, tower: Tower, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """
        The input of the image tower, in its order, type and normalisation.
        """
        tensor = tower.inputs[0]
        if tensor.shape[3] != 3:  # before the numbers become larger
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        if tensor.type != 'tensor(uint8)':
            channels = (3,) if tensor.shape[3] == 3 else (3, 1, 1)
            mean, std = (np.asarray(v, dtype=np.float32).reshape(channels) for v in
                         (self.bundle.preprocessing.mean, self.bundle.preprocessing.std))
            pixels = pixels * (1 / (255 * std))
            pixels -= mean / std
        kind = _TYPES.get(tensor.type, np.float32)
        return {tensor.name: pixels.astype(kind, copy=False)}

    def _read(self, texts: list[str], outputs: tuple[str, ...]) -> np.ndarray:
        tower = self._opened('text')
        tokenizer = self._opened('tokenizer')
        with undisturbed():
            encodings = tokenizer.encode_batch([_encodable(text) for text in texts])
        feed = {'input_ids': [e.ids for e in encodings],
                'attention_mask': [e.attention_mask for e in encodings],
                'token_type_ids': [e.type_ids for e in encodings]}
        return self._run(tower, {
            tensor.name: np.asarray(feed[tensor.name], _TYPES.get(tensor.type, np.int64))
            for tensor in tower.inputs if tensor.name in feed}, outputs)

    def _answer(self, tower: Tower, feed: dict, outputs: tuple[str, ...]
                ) -> tuple[str, np.ndarray]:
        """
        The first of some outputs that a tower has, and its name.
        """
        available = [tensor.name for tensor in tower.outputs]
        name = next((name for name in outputs if name in available), None)
        if name is None:
            raise BundleError(f'The model {self.bundle.name!r} has none of the outputs '
                              f'{", ".join(outputs)} (it has {", ".join(available)}).')
        try:
            return name, tower.run(name, feed)
        # ONNX Runtime raises its own exception classes, without a common root of their own.
        except Exception as error:
            raise EncoderError(f'The model {self.bundle.name!r} could not be run '
                               f'({one_line(error)}).') from error

    def _run(self, tower: Tower, feed: dict, outputs: tuple[str, ...]) -> np.ndarray:
        name, found = self._answer(tower, feed, outputs)
        if found.ndim != 2:
            raise BundleError(f'The output {name} of the model {self.bundle.name!r} is no vector '
                              f'but of shape {found.shape[1:]}.')
        if name != 'sentence_embeds':
            # Both towers must agree even where the bundle does not give the number.
            self._dim = self._dim or found.shape[1]
            if found.shape[1] != self._dim:
                raise BundleError(f'The model {self.bundle.name!r} is corrupt: its vectors have '
                                  f'{found.shape[1]} dimensions, not {self._dim}.')
        return normalise(found)

    def _opened(self, name: str) -> Any:
        """
        The ``'vision'`` or ``'text'`` tower, or the ``'tokenizer'``.
        """
        with self._locks[name]:
            opened = self._open  # `close` may exchange it
            if name not in opened:
                opened[name] = (self._open_tokenizer() if name == 'tokenizer'
                                else self._open_tower(name))
            return opened[name]

    def _open_tokenizer(self):
        from tokenizers import Tokenizer, normalizers

        bundle = self.bundle
        try:
            content = bundle.contents.read('tokenizer.json')
            with undisturbed():
                tokenizer = Tokenizer.from_buffer(content)
        except BundleError:
            raise
        # The Rust binding raises a plain Exception.
        except Exception as error:
            raise BundleError(f'The tokenizer.json of the model {bundle.name!r} cannot be read '
                              f'({one_line(error)}).') from error
        if bundle.padding:
            # SigLIP was trained on lower case; the first files of its second generation keep case.
            own = tokenizer.normalizer
            tokenizer.normalizer = normalizers.Sequence(
                [normalizers.Lowercase(), *([] if own is None else [own])])
        padding = tokenizer.padding or {}
        token = padding.get('pad_token') or bundle.pad_token or '[PAD]'
        tokenizer.enable_truncation(bundle.context_length)
        tokenizer.enable_padding(pad_token=token, pad_id=tokenizer.token_to_id(token) or 0,
                                 length=bundle.context_length if bundle.padding else None)
        return tokenizer

    def _open_tower(self, name: str) -> Tower:
        wanted = self._likely_device()
        file = self._name(name, wanted)
        tower = self._read_tower(file, wanted)
        if self._device == 'cuda' and tower.device != 'cuda':
            raise EncoderError('CUDA was asked for but cannot be used: check the driver, and '
                               'install the libraries with pip install astroclip-search[cuda].')
        if tower.device != wanted:
            # The file for the GPU is the wrong one here: half precision is slow on a CPU.
            suited = self._name(name, tower.device)
            if suited != file:
                tower = self._read_tower(suited, tower.device)
        if name == 'vision':
            self._check_size(tower.inputs[0].shape)
            log.info('The model %s runs on %s.', self.bundle.name, tower.device.upper())
        return tower

    def _read_tower(self, file: str, device: str) -> Tower:
        content, weights = self.bundle.contents.tower(file)
        return open_tower(self.bundle.path / file, device, n_threads=self._n_threads,
                          content=content, weights=weights)

    def _name(self, tower: str, device: str) -> str:
        """
        Name of the file for a device, chosen once: later there may be a network, and a better one.
        """
        known = (tower, device)
        if known not in self._names:
            self._names.setdefault(known, self.bundle.onnx_name(tower, device))
        return self._names[known]

    def _check_size(self, shape: list) -> None:
        if len(shape) != 4:
            raise BundleError(f'The image tower of the model {self.bundle.name!r} reads no images '
                              f'but arrays of shape {shape}.')
        size = shape[1:3] if shape[3] == 3 else shape[2:]
        wanted = self.bundle.preprocessing.size
        if any(isinstance(n, int) and n != m for n, m in zip(size, wanted, strict=True)):
            raise BundleError(f'The model {self.bundle.name!r} is corrupt: it reads images of '
                              f'{size} pixels, its preprocessor makes {list(wanted)}.')


def _encodable(text: str) -> str:
    """
    Half a surrogate pair, as in a file that was cut, has no UTF-8 form.
    """
    return text.encode('utf-8', 'replace').decode()


_encoders: dict[tuple, Encoder] = {}
_living: weakref.WeakSet[Encoder] = weakref.WeakSet()


def open_encoder(bundle: Bundle, *, device: str = 'auto', n_threads: int = 0) -> Encoder:
    """
    The `Encoder` of a bundle, the same one for every caller in this process.
    """
    # Atomic: no lock is needed.
    return _encoders.setdefault((bundle.path, bundle.revision, device, n_threads),
                                Encoder(bundle, device=device, n_threads=n_threads))


def _forked() -> None:
    """
    Let all encoders begin anew in a child process, which has none of its parent's threads.
    """
    for encoder in _living:
        encoder.keep_open()
        encoder.begin_anew()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forked)
