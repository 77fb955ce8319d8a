# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What embeds images: the libraries that a user would pick, and ours, behind one small interface.

All have the same weights and the same number of threads. Preprocessing is what each library's own
documentation shows.
"""

import contextlib
import io
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import INSTALL, Checkpoint, quiet
from .comparison import Skipped

__all__ = ['FastEmbed', 'OpenClip', 'OpenVino', 'Ours', 'Peer', 'Runtime', 'SentenceTransformers',
           'Transformers', 'installed']


class Peer:
    """
    Something that embeds images.

    Parameters
    ----------
    files : Checkpoint
        The weights.
    threads : int
        CPU threads.
    device : {'cpu', 'cuda'}
        Where to run.
    """

    needs: tuple[str, ...] = ()
    name = ''

    def __init__(self, files: Checkpoint, threads: int, device: str = 'cpu'):
        for package in self.needs:
            if find_spec(package) is None:
                raise Skipped(f'{self.name}: needs {package}: {INSTALL}')
        os.environ['HF_HUB_OFFLINE'] = '1'  # everything is on this machine
        self.files, self.threads, self.device = files, threads, device
        self.open()

    def open(self) -> None:
        """Load the model."""
        raise NotImplementedError

    def encode(self, contents: Sequence[bytes]) -> np.ndarray:
        """Embed one batch of JPEG files; the vectors need not be of unit length."""
        return self.embed(self.prepare(contents))

    def prepare(self, contents: Sequence[bytes]) -> Any:
        """Return what the model alone reads."""
        raise NotImplementedError

    def embed(self, prepared: Any) -> np.ndarray:
        """Run the model alone."""
        raise NotImplementedError


def _pictures(contents: Sequence[bytes]) -> list:
    from PIL import Image

    return [Image.open(io.BytesIO(content)).convert('RGB') for content in contents]


class _Torch(Peer):
    """
    Peers that run in torch.
    """

    needs = ('torch', 'transformers')
    dtype = 'float32'

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.model.to(self._dtype)

    @property
    def _dtype(self):
        import torch

        return getattr(torch, self.dtype)

    @contextlib.contextmanager
    def _mode(self):
        import torch

        torch.set_num_threads(self.threads)
        with torch.inference_mode():
            yield

    def _ready(self, pixels):
        return pixels.to(self.device, self._dtype)

    @staticmethod
    def _to_numpy(vectors):
        return vectors.float().cpu().numpy()


class Transformers(_Torch):
    """
    ``CLIPModel`` and ``CLIPProcessor`` of the transformers library.
    """

    name = 'transformers, fp32 eager'

    def open(self):
        from transformers import CLIPModel, CLIPProcessor

        quiet()
        self.model = CLIPModel.from_pretrained(self.files.transformers).eval().to(self.device)
        self.processor = CLIPProcessor.from_pretrained(self.files.transformers)

    def prepare(self, contents):
        inputs = self.processor(images=_pictures(contents), return_tensors='pt')
        return self._ready(inputs['pixel_values'])

    def embed(self, prepared):
        with self._mode():
            found = self.model.get_image_features(pixel_values=prepared)
            # Since version 5 an object, before that the tensor.
            return self._to_numpy(getattr(found, 'pooler_output', found))


class TransformersHalf(Transformers):
    """
    The same in half precision, for a GPU.
    """

    name = 'transformers, fp16 eager'
    dtype = 'float16'


class OpenClip(_Torch):
    """
    The image tower and the transform of open_clip.
    """

    name = 'open_clip, fp32 eager'
    needs = ('torch', 'transformers', 'open_clip')
    compiled = False

    def open(self):
        import torch
        from open_clip import image_transform

        if self.compiled and not any(map(shutil.which, ('c++', 'g++', 'clang++'))):
            raise Skipped(f'{self.name}: needs a C++ compiler')
        self.model = self.files.open_clip().to(self.device)
        self.run = torch.compile(self.model) if self.compiled else self.model
        self.transform = image_transform(self.files.architecture.size, is_train=False)

    def prepare(self, contents):
        import torch

        return self._ready(torch.stack([self.transform(picture)
                                            for picture in _pictures(contents)]))

    def embed(self, prepared):
        with self._mode():
            return self._to_numpy(self.run(prepared))


class OpenClipCompiled(OpenClip):
    """
    With ``torch.compile``.
    """

    name = 'open_clip, fp32 torch.compile'
    compiled = True


class OpenClipBf16(OpenClip):
    """
    Converted to bfloat16; under autocast it was slower on a CPU.
    """

    name = 'open_clip, bf16'
    dtype = 'bfloat16'


class OpenClipCompiledHalf(OpenClipCompiled):
    """
    With ``torch.compile`` in half precision, for a GPU.
    """

    name = 'open_clip, fp16 torch.compile'
    dtype = 'float16'


class SentenceTransformers(_Torch):
    """
    ``SentenceTransformer.encode``, which has the transformers library within.
    """

    name = 'sentence-transformers, fp32'
    needs = ('torch', 'transformers', 'sentence_transformers')

    def open(self):
        from sentence_transformers import SentenceTransformer

        quiet()
        self.model = SentenceTransformer(str(self.files.transformers), device=self.device)

    def encode(self, contents):
        with self._mode():
            return self.model.encode(_pictures(contents), batch_size=len(contents),
                                     show_progress_bar=False)


class FastEmbed(Peer):
    """
    ``ImageEmbedding`` of fastembed on the plain export, which it would else fetch from the hub.
    """

    name = 'fastembed, fp32'
    needs = ('fastembed',)

    def open(self):
        from fastembed import ImageEmbedding

        self.model = ImageEmbedding(
            'Qdrant/clip-ViT-B-32-vision', specific_model_path=str(self.files.plain),
            threads=self.threads, providers=['CPUExecutionProvider'])

    def encode(self, contents):
        return np.stack(list(self.model.embed(_pictures(contents), batch_size=len(contents))))


class Runtime(Peer):
    """
    ONNX Runtime with its own settings on the plain export, and ``CLIPProcessor``.
    """

    name = 'ONNX Runtime, plain export fp32'
    needs = ('onnxruntime', 'transformers')

    @property
    def path(self) -> Path:
        """The file of the tower."""
        return self.files.plain / 'onnx' / 'vision_model.onnx'

    def open(self):
        import onnxruntime
        from transformers import CLIPProcessor

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(str(self.path), options,
                                                    providers=['CPUExecutionProvider'])
        self.processor = CLIPProcessor.from_pretrained(self.files.transformers)

    def prepare(self, contents):
        return self.processor(images=_pictures(contents), return_tensors='np')['pixel_values']

    def embed(self, prepared):
        return self.session.run(None, {'pixel_values': prepared})[0]


class RuntimeInt8(Runtime):
    """
    The plain export quantised as in most repositories of the hub.
    """

    name = 'ONNX Runtime, plain export int8'

    @property
    def path(self):
        """The file of the tower."""
        return self.files.plain_int8 / 'onnx' / 'vision_model_quantized.onnx'


class OpenVino(Runtime):
    """
    OpenVINO on the plain export.
    """

    name = 'OpenVINO, f32'
    needs = ('openvino', 'transformers')
    precision = 'f32'

    def open(self):
        import openvino
        from transformers import CLIPProcessor

        core = openvino.Core()
        self.request = core.compile_model(self._model(core), 'CPU', {
            'INFERENCE_NUM_THREADS': self.threads, 'INFERENCE_PRECISION_HINT': self.precision,
            'NUM_STREAMS': 1}).create_infer_request()
        self.processor = CLIPProcessor.from_pretrained(self.files.transformers)

    def _model(self, core):
        return core.read_model(self.path)

    def embed(self, prepared):
        return self.request.infer({0: prepared}, share_inputs=True)[0].copy()


class OpenVinoBf16(OpenVino):
    """
    With bfloat16 allowed, which is its default where the processor has it.
    """

    name = 'OpenVINO, bf16'
    precision = 'bf16'


class OpenVinoInt8(OpenVino):
    """
    Quantised by NNCF with a few images.
    """

    name = 'OpenVINO, int8'
    needs = ('openvino', 'nncf', 'transformers')
    precision = 'bf16'  # of what is not quantised

    def _model(self, core):
        return core.read_model(self.files.openvino_int8 / 'vision_model.xml')


class Ours(Peer):
    """
    `astroclip_search.images.render` and `astroclip_search.models.encoder` on a bundle.
    """

    name = 'astroclip_search, plain export fp32'
    variant = 'plain'

    def open(self):
        from astroclip_search.models.bundle import open_bundle
        from astroclip_search.models.encoder import open_encoder

        self.encoder = open_encoder(open_bundle(str(getattr(self.files, self.variant))),
                                    device=self.device, n_threads=self.threads)
        self.workers = ThreadPoolExecutor(self.threads)

    def prepare(self, contents):
        from astroclip_search.images import preprocess, render

        preprocessing = self.encoder.bundle.preprocessing
        side, bitmap_side = preprocess.sides(preprocessing)

        def prepare(content):
            return preprocess.resize(render.render(content, side=side, bitmap_side=bitmap_side),
                                     preprocessing)

        return np.stack(list(self.workers.map(prepare, contents)))

    def embed(self, prepared):
        return self.encoder.encode_images(prepared)


class OursLean(Ours):
    """
    On the lean graph.
    """

    name = 'astroclip_search, lean fp32'
    variant = 'lean'


class OursInt8(Ours):
    """
    On the lean graph in int8.
    """

    name = 'astroclip_search, lean int8'
    variant = 'lean_int8'


class OursHalf(Ours):
    """
    On the lean graph in half precision, for a GPU.
    """

    name = 'astroclip_search, lean fp16'
    variant = 'lean_fp16'


def installed(kinds: Sequence[type[Peer]], files: Checkpoint, threads: int,
              device: str = 'cpu') -> tuple[list[Peer], list[str]]:
    """
    Open the peers that can be opened.

    Parameters
    ----------
    kinds : sequence of type
        Subclasses of `Peer`.
    files, threads, device
        As for `Peer`.

    Returns
    -------
    peers : list of Peer
        Those that are ready.
    skipped : list of str
        What is needed for the others.
    """
    peers, skipped = [], []
    for kind in kinds:
        try:
            peers.append(kind(files, threads, device))
        except Skipped as reason:
            skipped.append(f'not measured: {reason}')
    return peers, skipped
