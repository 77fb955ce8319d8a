# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Pixels and text -> unit vectors, by ONNX Runtime.
"""

import contextlib
import functools
import io
import logging
import os
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .bundle import Bundle
from .exceptions import BundleError, EncoderError
from .ranking import normalise

__all__ = ['Encoder', 'open_encoder']

log = logging.getLogger('astroclip_search')

_CUDA, _CPU = 'CUDAExecutionProvider', 'CPUExecutionProvider'
_TEXT_BATCH = 16
_session_lock = threading.Lock()


class Encoder:
    """
    The two towers of a model.

    Sessions are opened when they are first needed.

    Parameters
    ----------
    bundle : Bundle
        A verified model bundle.
    device : {'auto', 'cpu', 'cuda'}
        Where to run; ``'auto'`` takes CUDA when a session really gets it.
    n_threads : int
        CPU threads; 0 means one per physical core.
    """

    def __init__(self, bundle: Bundle, *, device: str = 'auto', n_threads: int = 0):
        self.bundle = bundle
        self._wanted = device
        self._n_threads = n_threads
        self._lock = threading.RLock()
        self._dim = bundle.info.get('embedding_dim')

    @property
    def device(self) -> str:
        """
        Where the image tower runs: ``'cpu'`` or ``'cuda'``.
        """
        return 'cuda' if _CUDA in self._vision.get_providers() else 'cpu'

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """
        Embed images.

        Parameters
        ----------
        pixels : ndarray
            Shape ``(n, height, width, 3)``, dtype uint8, as `~astroclip_search.pixels.resize`
            makes them.

        Returns
        -------
        ndarray
            Unit vectors, shape ``(n, d)``, float32.

        Raises
        ------
        EncoderError
            If the model cannot be run on them.
        """
        session = self._vision
        tensor = session.get_inputs()[0]
        channels_last = tensor.shape[3] == 3
        if tensor.type != 'tensor(uint8)':
            kind = np.float16 if tensor.type == 'tensor(float16)' else np.float32
            preprocessing = self.bundle.preprocessing
            mean, std = (np.asarray(v, dtype=np.float32) for v in
                         (preprocessing.mean, preprocessing.std))
            pixels = (pixels * (1 / (255 * std)) - mean / std).astype(kind, copy=False)
        if not channels_last:
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        return self._run(session, {tensor.name: pixels}, ('image_embeds', 'pooler_output'))

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """
        Embed phrases in the space of the images.

        Parameters
        ----------
        texts : sequence of str
            Phrases, taken as they are: no prompt template is applied.

        Returns
        -------
        ndarray
            Unit vectors, shape ``(m, d)``, float32.
        """
        return self._encode_text(texts, ('text_embeds', 'pooler_output'))

    def encode_words(self, texts: Sequence[str]) -> np.ndarray:
        """
        Embed sentences for comparison with other sentences.

        Parameters
        ----------
        texts : sequence of str
            Targets, titles, or phrases to compare them with.

        Returns
        -------
        ndarray
            Unit vectors, shape ``(m, d_words)``, float32: the ``sentence_embeds`` of our models,
            the text embedding of others.
        """
        return self._encode_text(texts, ('sentence_embeds', 'text_embeds', 'pooler_output'))

    def n_tokens(self, text: str) -> int:
        """
        Number of tokens of a phrase, special tokens included.

        Parameters
        ----------
        text : str
            Any phrase.

        Returns
        -------
        int
            More than ``bundle.context_length`` if the end of the phrase will not be read.
        """
        encoding = self._tokenizer.encode(_encodable(text))
        return sum(sum(part.attention_mask) for part in (encoding, *encoding.overflowing))

    def _encode_text(self, texts: Sequence[str], outputs: tuple[str, ...]) -> np.ndarray:
        session = self._text
        names = {tensor.name: tensor.type for tensor in session.get_inputs()}
        # Texts of like length share a batch, so that little is spent on padding.
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = None
        for start in range(0, len(texts), _TEXT_BATCH):
            rows = by_length[start:start + _TEXT_BATCH]
            encodings = self._tokenizer.encode_batch([_encodable(texts[i]) for i in rows])
            feed = {'input_ids': [e.ids for e in encodings],
                    'attention_mask': [e.attention_mask for e in encodings],
                    'token_type_ids': [e.type_ids for e in encodings]}
            feed = {name: np.asarray(value, np.int32 if names[name] == 'tensor(int32)'
                                     else np.int64)
                    for name, value in feed.items() if name in names}
            found = self._run(session, feed, outputs)
            if vectors is None:
                vectors = np.empty((len(texts), found.shape[1]), dtype=np.float32)
            vectors[rows] = found
        return vectors if vectors is not None else np.empty((0, 0), dtype=np.float32)

    def _run(self, session, feed: dict, outputs: tuple[str, ...]) -> np.ndarray:
        available = [tensor.name for tensor in session.get_outputs()]
        name = next((name for name in outputs if name in available), None)
        if name is None:
            raise BundleError(f'The model {self.bundle.name!r} has none of the outputs '
                              f'{", ".join(outputs)} (it has {", ".join(available)}).')
        try:
            found = session.run([name], feed)[0]
        # ONNX Runtime raises its own exception classes, without a common root of their own.
        except Exception as error:
            raise EncoderError(f'The model {self.bundle.name!r} could not be run '
                               f'({" ".join(str(error).split())[:200]}).') from error
        if found.ndim != 2:
            raise BundleError(f'The output {name} of the model {self.bundle.name!r} is no vector '
                              f'but of shape {found.shape[1:]}.')
        if name != 'sentence_embeds':
            # Both towers must agree even where nothing says the number.
            self._dim = self._dim or found.shape[1]
            if found.shape[1] != self._dim:
                raise BundleError(f'The model {self.bundle.name!r} is corrupt: its vectors have '
                                  f'{found.shape[1]} dimensions, not {self._dim}.')
        return normalise(found)

    @functools.cached_property
    def _tokenizer(self):
        from tokenizers import Tokenizer, normalizers

        bundle = self.bundle
        try:
            tokenizer = Tokenizer.from_file(str(bundle.path / 'tokenizer.json'))
        # The Rust binding raises a plain Exception.
        except Exception as error:
            raise BundleError(f'The tokenizer.json of the model {bundle.name!r} cannot be read '
                              f'({error}).') from error
        if bundle.padding and tokenizer.normalizer is not None:
            # SigLIP was trained on lower case; the first files of its second generation keep case.
            tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(),
                                                         tokenizer.normalizer])
        padding = tokenizer.padding or {}
        token = padding.get('pad_token') or bundle.pad_token or '[PAD]'
        tokenizer.enable_truncation(bundle.context_length)
        tokenizer.enable_padding(pad_token=token, pad_id=tokenizer.token_to_id(token) or 0,
                                 length=bundle.context_length if bundle.padding else None)
        return tokenizer

    @property
    def _vision(self):
        with self._lock:
            return self._vision_session

    @property
    def _text(self):
        with self._lock:
            return self._text_session

    @functools.cached_property
    def _vision_session(self):
        session = self._open('vision')
        shape = session.get_inputs()[0].shape
        if len(shape) != 4:
            raise BundleError(f'The image tower of the model {self.bundle.name!r} reads no images '
                              f'but arrays of shape {shape}.')
        size = shape[1:3] if shape[3] == 3 else shape[2:]
        wanted = self.bundle.preprocessing.size
        if any(isinstance(n, int) and n != m for n, m in zip(size, wanted, strict=True)):
            raise BundleError(f'The model {self.bundle.name!r} is corrupt: it reads images of '
                              f'{size} pixels, its preprocessor makes {list(wanted)}.')
        return session

    @functools.cached_property
    def _text_session(self):
        return self._open('text')

    def _open(self, tower: str):
        wanted = 'cuda' if self._wanted != 'cpu' and _has_driver() else 'cpu'
        file = self.bundle.onnx_file(tower, wanted)
        session = _session(file, wanted, self._n_threads)
        device = 'cuda' if _CUDA in session.get_providers() else 'cpu'
        if self._wanted == 'cuda' and device != 'cuda':
            raise EncoderError('CUDA was asked for but cannot be used: check the driver, and '
                               'install the libraries with pip install astroclip-search[cuda].')
        if self.bundle.onnx_file(tower, device) != file:
            # The file for the GPU is the wrong one here: half precision is slow on a CPU.
            session = _session(self.bundle.onnx_file(tower, device), device, self._n_threads)
        if tower == 'vision':
            log.info('The model %s runs on %s.', self.bundle.name, device.upper())
        return session


def _encodable(text: str) -> str:
    """
    Half a surrogate pair, as in a file that was cut, has no UTF-8 form.
    """
    return text.encode('utf-8', 'replace').decode()


_encoders: dict[tuple, Encoder] = {}


def open_encoder(bundle: Bundle, *, device: str = 'auto', n_threads: int = 0) -> Encoder:
    """
    The encoder of a bundle, shared by everyone who asks for the same one.

    Parameters
    ----------
    bundle : Bundle
        A verified model bundle.
    device : {'auto', 'cpu', 'cuda'}
        Where to run.
    n_threads : int
        CPU threads; 0 means one per physical core.

    Returns
    -------
    Encoder
        Its sessions stay open for the life of the process.
    """
    with _session_lock:
        return _encoders.setdefault(
            (bundle.path, bundle.revision, device, n_threads),
            Encoder(bundle, device=device, n_threads=n_threads))


@functools.cache
def _runtime():
    """
    ONNX Runtime, with its telemetry off.

    Since 1.29 it reports each session, with the names of its models, to its maker by default. The
    variable counts when it is first imported, the call if someone else has imported it before.
    """
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


@functools.cache
def _has_driver() -> bool:
    """
    Whether there is a CUDA driver at all.

    The runtime would find out too, but only after it has loaded its CUDA libraries; that it lists
    CUDA as available says nothing.
    """
    import ctypes

    if _CUDA not in _runtime().get_available_providers():
        return False
    try:
        ctypes.CDLL('nvcuda.dll' if sys.platform == 'win32' else 'libcuda.so.1')
    except OSError:
        return False
    return True


def _session(path: Path, device: str, n_threads: int):
    """
    Open a session without a word from the runtime.
    """
    onnxruntime = _runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 4
    if path.stem.endswith('_fp16'):
        # The last level lays out data for a CPU; of some graphs in half precision it kills the
        # process (seen with 1.31), also where CUDA was asked for but cannot be loaded.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    # Spinning threads would take the cores from the threads that decode images.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    providers = [_CUDA, _CPU] if device == 'cuda' else [_CPU]
    with _session_lock:
        # Only the default logger can silence the failed start of a provider; 2 is its default.
        onnxruntime.set_default_logger_severity(4)
        try:
            if device == 'cuda' and find_spec('nvidia') is not None:
                with contextlib.redirect_stdout(io.StringIO()):
                    onnxruntime.preload_dlls()
            return onnxruntime.InferenceSession(str(path), options, providers=providers)
        # ONNX Runtime raises its own exception classes, without a common root of their own.
        except Exception as error:
            raise EncoderError(f'{path.name} cannot be opened as an ONNX model '
                               f'({" ".join(str(error).split())[:200]}).') from error
        finally:
            onnxruntime.set_default_logger_severity(2)
