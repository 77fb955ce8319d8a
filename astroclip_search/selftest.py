# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Whether the model gives on this machine what it gave where it was made.

A bundle of ours has inputs whose embeddings are known from the training framework
(``golden.npz``). Every variant of the model that it holds is run on them.
"""

import time
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from .bundle import Bundle

__all__ = ['selftest']

_LEAST_COSINE = 0.98
"""
Eight bits cost less than 0.01; a wrong instruction or a wrong file costs far more.
"""

_SECONDS = 0.5


@dataclass(frozen=True)
class _OneVariant(Bundle):
    """
    A bundle of which one pair of files is used.
    """

    suffix: str = ''

    def _suffixes(self, device: str) -> tuple[str, ...]:  # noqa: ARG002 - of the base class
        return (self.suffix,)


def selftest(model: str | None = None, *, device: str | None = None) -> dict[str, Any]:
    """
    Check the installation on this machine.

    Parameters
    ----------
    model : str, optional
        Name, folder or Hugging Face id, ``conf.model`` by default.
    device : {'auto', 'cpu', 'cuda'}, optional
        Where the model runs, ``conf.device`` by default.

    Returns
    -------
    dict
        ``ok``; ``checks``, a list of dicts with ``name``, ``ok`` and ``detail``; ``variants``, for
        each variant of the model its ``device``, ``images_per_second`` and the lowest cosines with
        the known answers (``image``, ``text``, ``words``; `None` for a bundle without them);
        ``versions``. Nothing is raised: what goes wrong is a check that is not ok.

    Examples
    --------
    >>> from astroclip_search.selftest import selftest
    >>> selftest(device='cpu')['ok']
    True
    """
    from . import conf
    from .bundle import open_bundle
    from .versions import versions

    checks, variants = [], []
    try:
        # Not from memory: the files are to be read now.
        bundle = open_bundle.__wrapped__(model or conf.model, conf.model_revision)
    # Whatever is wrong with a bundle is what is reported.
    except Exception as error:
        checks.append(_check('model', False, f'{error}'))
    else:
        # Those of a model of the hub that are towers are compared when they are tried.
        n_files = len([name for name in bundle.info.get('files', {})
                       if bundle.snapshot is None or not name.startswith('onnx/')])
        checks.append(_check('model', True, (
            f'{bundle.name} {bundle.info.get("version", "")} {bundle.revision}: '
            f'{n_files} files with the right sha256' if n_files else
            f'{bundle.name} {bundle.revision} has no checksums') + f' in {bundle.path}'))
        checks.append(_providers())
        if bundle.snapshot is not None:
            checks.append(_towers(bundle.of_variant(conf.model_variant), device or conf.device))
        for suffix in _suffixes(bundle):
            check, figures = _try(bundle, suffix, device or conf.device)
            checks.append(check)
            variants.append(figures)
    checks.append(_cache())
    return {'ok': all(check['ok'] for check in checks), 'checks': checks, 'variants': variants,
            'versions': versions()}


def _check(name: str, ok: bool, detail: str) -> dict[str, Any]:
    return {'name': name, 'ok': ok, 'detail': ' '.join(detail.split())}


def _providers() -> dict[str, Any]:
    from .sessions import has_driver, runtime

    try:
        providers = ', '.join(name.removesuffix('ExecutionProvider')
                              for name in runtime().get_available_providers())
        driver = 'a' if has_driver() else 'no'
    except ImportError as error:
        return _check('runtime', False, str(error))
    return _check('runtime', True, f'ONNX Runtime {runtime().__version__} with {providers}; '
                                   f'{driver} CUDA driver')


def _towers(bundle: Bundle, device: str) -> dict[str, Any]:
    """
    Whether the towers of a model of the hub are here or can be had, those of the device.
    """
    from .encoder import Encoder

    try:
        Encoder(bundle, device=device).open()
    # The hub, the disk or the runtime: all is reported.
    except Exception as error:
        return _check('towers', False, f'{error}')
    return _check('towers', True, 'those that suit the device are here')


def _suffixes(bundle: Bundle) -> list[str]:
    """
    Variants of which both towers are here, such as ``_quantized``.
    """
    listed = bundle.snapshot and bundle.snapshot.listed
    here = {path.stem for path in bundle.path.glob('onnx/*.onnx')
            if not listed or f'onnx/{path.name}' in listed}
    found = {stem.removeprefix('vision_model') for stem in here if stem.startswith('vision_model')}
    return sorted(suffix for suffix in found if f'text_model{suffix}' in here)


def _try(bundle: Bundle, suffix: str, device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Run a variant on inputs whose embeddings are known.
    """
    from .encoder import Encoder

    name = suffix.lstrip('_') or 'float32'
    figures: dict[str, Any] = {'variant': name}
    of_bundle = {field.name: getattr(bundle, field.name) for field in fields(bundle)}
    encoder = Encoder(_OneVariant(**of_bundle, suffix=suffix), device=device)
    try:
        figures |= _compared(encoder, bundle.path / 'golden.npz')
        figures |= {'device': encoder.device, 'images_per_second': round(_speed(encoder), 1)}
    # Any failure of the runtime is what is looked for.
    except Exception as error:
        return _check(f'variant {name}', False, f'{type(error).__name__}: {error}'), figures
    cosines = {kind: figures[kind] for kind in ('image', 'text', 'words')
               if figures[kind] is not None}
    said = ', '.join(f'{kind} {cosine:.4f}' for kind, cosine in cosines.items())
    said = f'lowest cosine with the known answers: {said}' if said else 'no known answers'
    return _check(f'variant {name}', all(c >= _LEAST_COSINE for c in cosines.values()),
                  f'{said}; {figures["images_per_second"]:.0f} images/s on '
                  f'{encoder.device.upper()}'), figures


def _compared(encoder, golden: Path) -> dict[str, float | None]:
    """
    Lowest cosine of each kind of embedding with the known ones.
    """
    if not golden.is_file():
        # They still have to run.
        encoder.encode_images(_noise(encoder, 1))
        encoder.encode_text(['galaxy'])
        return {'image': None, 'text': None, 'words': None}
    with np.load(golden, allow_pickle=False) as known:
        texts = known['texts'].tolist()
        pairs = {'image': (encoder.encode_images(known['pixels']), known['image_embeds']),
                 'text': (encoder.encode_text(texts), known['text_embeds']),
                 'words': (encoder.encode_words(texts), known['sentence_embeds'])}
    return {kind: round(float((found * expected).sum(axis=1).min()), 6)
            for kind, (found, expected) in pairs.items()}


def _noise(encoder, n: int) -> np.ndarray:
    height, width = encoder.bundle.preprocessing.size
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def _speed(encoder) -> float:
    """
    Images per second, in the best of the runs that half a second allows.
    """
    pixels = _noise(encoder, encoder.batch_size)
    encoder.encode_images(pixels)  # the first run makes room
    best, started = np.inf, time.perf_counter()
    while True:
        begun = time.perf_counter()
        encoder.encode_images(pixels)
        ended = time.perf_counter()
        best = min(best, ended - begun)
        if ended - started > _SECONDS:
            return len(pixels) / best


def _cache() -> dict[str, Any]:
    """
    Whether embeddings can be kept on disk.
    """
    from .search import ClipSearchClass

    folder = ClipSearchClass()._cache_path().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return _check('cache', False, f'{folder} cannot be written ({error})')
    return _check('cache', True, f'{folder} can be written')
