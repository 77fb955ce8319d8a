# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
One CLIP with random weights of a fixed seed, in every form that the peers read.

Speed does not depend on the values of weights, and nothing has to be downloaded. The activation
is GELU, as in the CLIPs of open_clip; the text tower is a token one, since only images are timed.
Files are made once and kept in ``$ASTROCLIP_BENCHMARKS``, or else in the user's cache folder.
"""

import contextlib
import functools
import hashlib
import io
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from .comparison import ROOT, Skipped
from .images import previews

__all__ = ['ARCHITECTURES', 'INSTALL', 'Architecture', 'Checkpoint', 'quiet']

INSTALL = 'pip install -r benchmarks/requirements.txt'

# To make the weights, and to write them as graphs.
NEEDS = ('torch', 'transformers', 'open_clip', 'onnx', 'onnxscript')


@dataclass(frozen=True)
class Architecture:
    """
    Sizes of a vision transformer.
    """

    patch: int
    width: int
    layers: int
    heads: int
    dim: int
    size: int = 224


ARCHITECTURES = {'ViT-B/32': Architecture(32, 768, 12, 12, 512),
                 'ViT-B/16': Architecture(16, 768, 12, 12, 512),
                 'ViT-L/14': Architecture(14, 1024, 24, 16, 768)}


def quiet() -> None:
    """Have the transformers library show no progress, and no weights that are left out."""
    from transformers import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


class Checkpoint:
    """
    The files of one architecture; each is made when it is first asked for.

    Parameters
    ----------
    name : str
        One of `ARCHITECTURES`.
    """

    def __init__(self, name: str = 'ViT-B/32'):
        self.name = name
        self.architecture = ARCHITECTURES[name]
        kept = os.environ.get('ASTROCLIP_BENCHMARKS')
        if not kept:
            cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
            kept = Path(cache, 'astroclip_search_benchmarks')
        missing = [package for package in NEEDS if find_spec(package) is None]
        if missing:
            raise Skipped(f'needs {", ".join(missing)}: {INSTALL}')
        made_by = [version(package) for package in ('torch', 'transformers')]
        self.folder = Path(kept) / '-'.join([name.replace('/', ''), *made_by])

    def _made(self, name: str, make: Callable[[Path], None], *, of: str = '') -> Path:
        """
        Return a folder, made whole or not at all, and anew when what it was made of has changed.
        """
        folder, stamp = self.folder / name, self.folder / f'{name}.made_of'
        if folder.exists() and stamp.exists() and stamp.read_text(encoding='utf-8') == of:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        unfinished = self.folder / f'{name}.{os.getpid()}'
        unfinished.mkdir(parents=True)
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter('ignore')
                make(unfinished)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        stamp.write_text(of, encoding='utf-8')
        return folder

    def _made_lean(self, name: str, make: Callable[[Path], None]) -> Path:
        """
        Return a folder of what export/ makes, as the code there is now.
        """
        code = hashlib.sha256()
        for file in (*sorted((ROOT / 'export').rglob('*.py')), Path(__file__)):
            code.update(file.read_bytes())
        return self._made(name, make, of=code.hexdigest())

    @property
    def transformers(self) -> Path:
        """Folder with the model and the processor of the transformers library."""
        def make(folder):
            import torch
            from transformers import (
                CLIPConfig,
                CLIPImageProcessor,
                CLIPModel,
                CLIPProcessor,
                CLIPTokenizer,
            )

            quiet()
            one = self.architecture
            torch.manual_seed(0)
            model = CLIPModel(CLIPConfig(
                projection_dim=one.dim,
                vision_config={'projection_dim': one.dim, 'hidden_size': one.width,
                               'intermediate_size': 4 * one.width, 'num_hidden_layers': one.layers,
                               'num_attention_heads': one.heads, 'patch_size': one.patch,
                               'image_size': one.size, 'hidden_act': 'gelu'},
                text_config={'hidden_size': 64, 'intermediate_size': 64, 'num_hidden_layers': 1,
                             'num_attention_heads': 1, 'vocab_size': 3, 'bos_token_id': 0,
                             'eos_token_id': 1, 'pad_token_id': 1, 'hidden_act': 'gelu'}))
            model.save_pretrained(folder)
            CLIPProcessor(CLIPImageProcessor(), CLIPTokenizer()).save_pretrained(folder)
            # The file that older libraries, fastembed and we read.
            CLIPImageProcessor().save_pretrained(folder)

        return self._made('transformers', make)

    def vision(self):
        """Return the image tower as a `torch.nn.Module` of the transformers library."""
        from transformers import CLIPVisionModelWithProjection

        quiet()

        return CLIPVisionModelWithProjection.from_pretrained(
            self.transformers, attn_implementation='sdpa').eval()

    def open_clip(self):
        """Return the same tower as a module of open_clip."""
        import torch
        from open_clip.transformer import VisionTransformer

        one = self.architecture
        tower = VisionTransformer(one.size, one.patch, one.width, one.layers, one.heads, 4.0,
                                  output_dim=one.dim)
        weights = self.vision().state_dict()
        renamed = {'class_embedding': weights['vision_model.embeddings.class_embedding'],
                   'positional_embedding':
                       weights['vision_model.embeddings.position_embedding.weight'],
                   'conv1.weight': weights['vision_model.embeddings.patch_embedding.weight'],
                   'proj': weights['visual_projection.weight'].T}
        for kind in ('weight', 'bias'):
            renamed[f'ln_pre.{kind}'] = weights[f'vision_model.pre_layrnorm.{kind}']
            renamed[f'ln_post.{kind}'] = weights[f'vision_model.post_layernorm.{kind}']
            for i in range(one.layers):
                ours, theirs = f'transformer.resblocks.{i}', f'vision_model.encoder.layers.{i}'
                renamed[f'{ours}.attn.in_proj_{kind}'] = torch.cat(
                    [weights[f'{theirs}.self_attn.{part}_proj.{kind}'] for part in 'qkv'])
                for a, b in (('attn.out_proj', 'self_attn.out_proj'), ('ln_1', 'layer_norm1'),
                             ('ln_2', 'layer_norm2'), ('mlp.c_fc', 'mlp.fc1'),
                             ('mlp.c_proj', 'mlp.fc2')):
                    renamed[f'{ours}.{a}.{kind}'] = weights[f'{theirs}.{b}.{kind}']
        tower.load_state_dict(renamed)
        return tower.eval()

    @property
    def plain(self) -> Path:
        """Bundle with the towers as ``torch.onnx.export`` writes them."""
        def make(folder):
            import torch

            class Tower(torch.nn.Module):
                """The embedding alone."""

                def __init__(self, vision):
                    super().__init__()
                    self.vision = vision

                def forward(self, pixel_values):
                    return self.vision(pixel_values=pixel_values).image_embeds

            self._describe(folder)
            path = folder / 'onnx' / 'vision_model.onnx'
            example = torch.zeros(2, 3, self.architecture.size, self.architecture.size)
            logging.disable(logging.WARNING)
            try:
                torch.onnx.export(
                    Tower(self.vision()), (example,), str(path), dynamo=True,
                    external_data=False, verbose=False, opset_version=18,
                    input_names=['pixel_values'], output_names=['image_embeds'],
                    dynamic_shapes=({0: torch.export.Dim('batch', min=1, max=4096)},))
            finally:
                logging.disable(logging.NOTSET)
            os.link(path, folder / 'model.onnx')  # where fastembed looks for it

        return self._made('plain', make)

    @property
    def plain_int8(self) -> Path:
        """Bundle with the plain export, quantised as hub repositories are."""
        def make(folder):
            self._describe(folder)
            self._quantise(self.plain / 'onnx' / 'vision_model.onnx',
                           folder / 'onnx' / 'vision_model_quantized.onnx')

        return self._made('plain_int8', make)

    @property
    def lean(self) -> Path:
        """Bundle of ours in float32."""
        return self._made_lean('lean', self._save_lean)

    @property
    def lean_fp16(self) -> Path:
        """Bundle of ours in half precision."""
        return self._made_lean('lean_fp16', functools.partial(self._save_lean, ending='_fp16',
                                                              half=True))

    @property
    def lean_int8(self) -> Path:
        """Bundle of ours in int8, with the ranges of pictures that export/ renders."""
        def make(folder):
            from export.to_onnx.lean_int8 import save_image_tower_int8

            self._describe(folder)
            save_image_tower_int8(self._lean_tower(),
                                  folder / 'onnx' / 'vision_model_quantized.onnx')

        return self._made_lean('lean_int8', make)

    def _save_lean(self, folder: Path, ending: str = '', **options: bool) -> None:
        from export.to_onnx.lean_graph import save_image_tower

        self._describe(folder)
        save_image_tower(self._lean_tower(), folder / 'onnx' / f'vision_model{ending}.onnx',
                         **options)

    def _lean_tower(self):
        from transformers import CLIPImageProcessor

        from export.to_onnx.lean import image_tower

        processor = CLIPImageProcessor.from_pretrained(self.transformers)
        return image_tower(self.vision(), processor.image_mean, processor.image_std)

    @staticmethod
    def _quantise(source: Path, target: Path) -> None:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        model = onnx.load(source)
        del model.graph.value_info[:]  # the exporter transposes weights, but not their shapes here
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(model, target, weight_type=QuantType.QInt8, per_channel=True,
                             op_types_to_quantize=['MatMul', 'Gemm'])
        finally:
            logging.disable(logging.NOTSET)

    @property
    def openvino_int8(self) -> Path:
        """Folder with the plain export, quantised by NNCF with a few images."""
        def make(folder):
            import nncf
            import openvino
            from transformers import CLIPImageProcessor

            processor = CLIPImageProcessor.from_pretrained(self.transformers)
            pictures = [Image.open(io.BytesIO(content)) for content in previews(16, 512)]
            pixels = processor(images=pictures, return_tensors='np')['pixel_values']
            logging.disable(logging.WARNING)
            try:
                model = nncf.quantize(
                    openvino.Core().read_model(self.plain / 'onnx' / 'vision_model.onnx'),
                    nncf.Dataset(list(pixels[:, None])), subset_size=len(pixels),
                    model_type=nncf.ModelType.TRANSFORMER)
            finally:
                logging.disable(logging.NOTSET)
            openvino.save_model(model, folder / 'vision_model.xml')

        return self._made('openvino_int8', make)

    def _describe(self, folder: Path) -> None:
        """
        Copy what describes the model: all but the weights.
        """
        (folder / 'onnx').mkdir()
        for file in self.transformers.glob('*.json'):
            shutil.copy(file, folder)
