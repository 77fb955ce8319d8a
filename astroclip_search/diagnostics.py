# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Check an installation: the files of the model, the runtime, each variant of the model, the cache.

A bundle of ours holds inputs with the embeddings that the training framework gave for them
(``golden.npz``); each variant of the model must give nearly the same on this machine.
"""

import platform
import time
from collections.abc import Callable
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np

from .exceptions import ClipSearchError, EncoderError, one_line

if TYPE_CHECKING:
    from .models.bundle import Bundle
    from .models.contents import Contents
    from .models.encoder import Encoder

__all__ = ['images_per_second', 'selftest', 'versions']

# Eight bits cost less than 0.01; a wrong instruction or a wrong file costs far more.
_LEAST_COSINE = 0.98

_SECONDS = 0.5

_UNKNOWN: dict[str, float | None] = {'image': None, 'text': None, 'metadata': None}

_PACKAGES = ('astroclip-search', 'astropy', 'astroquery', 'pyvo', 'numpy', 'onnxruntime-gpu',
             'onnxruntime', 'tokenizers', 'huggingface_hub', 'pillow', 'requests', 'tqdm',
             'matplotlib', 'pyarrow', 'fsspec')


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
        the known embeddings (``image``, ``text``, ``metadata``; `None` for a bundle without them);
        and ``versions``. A failure is a check that is not ok; nothing is raised.

    Examples
    --------
    >>> from astroclip_search.diagnostics import selftest
    >>> selftest(device='cpu')['ok']
    True
    """
    from .config import conf
    from .models.bundle import open_bundle
    from .models.encoder import Encoder

    device, variants = device or conf.device, []
    try:
        # Without its memory: the files are read and verified now.
        bundle = open_bundle.__wrapped__(model or conf.model, conf.model_revision)
    # Anything can be wrong with a bundle.
    except Exception as error:
        checks = [_failure('model', error)]
    else:
        checks = [_check('model', _files, bundle), _check('runtime', _runtime)]
        if bundle.snapshot is not None:
            encoder = Encoder(bundle.of_variant(conf.model_variant), device=device)
            checks.append(_check('towers', _towers, encoder))
        for suffix in _suffixes(bundle):
            figures = {'variant': suffix.lstrip('_') or 'float32'}
            encoder = Encoder(bundle.of_variant(suffix), device=device)
            checks.append(_check(f'variant {figures["variant"]}', _try, encoder, figures))
            variants.append(figures)
    checks.append(_check('cache', _cache))
    return {'ok': all(check['ok'] for check in checks), 'checks': checks, 'variants': variants,
            'versions': versions()}


def versions() -> dict[str, str]:
    """
    List the versions that a bug report needs.

    Returns
    -------
    dict
        Version by name: the packages that are installed, Python, and the system.

    Examples
    --------
    >>> from astroclip_search.diagnostics import versions
    >>> 'astropy' in versions()
    True
    """
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {'Python': platform.python_version(), 'platform': platform.platform()}


def images_per_second(encoder: 'Encoder', n_images: int = 8) -> float:
    """
    Measure how fast a model takes images, in the best of the runs that half a second allows.

    Parameters
    ----------
    encoder : Encoder
        The model.
    n_images : int, optional
        How many it gets at once.

    Returns
    -------
    float
        Images a second.
    """
    pixels = _noise(encoder, n_images)
    encoder.encode_images(pixels)  # the first run allocates memory
    best, started = np.inf, time.perf_counter()
    while True:
        begun = time.perf_counter()
        encoder.encode_images(pixels)
        ended = time.perf_counter()
        best = min(best, ended - begun)
        if ended - started > _SECONDS:
            return len(pixels) / best


def _check(name: str, work: Callable[..., str], *arguments: Any) -> dict[str, Any]:
    """
    A check that is ok unless its work raises an error, of whatever kind.
    """
    try:
        return {'name': name, 'ok': True, 'detail': one_line(work(*arguments), 2000)}
    except Exception as error:
        return _failure(name, error)


def _failure(name: str, error: Exception) -> dict[str, Any]:
    explained = isinstance(error, ClipSearchError | OSError)
    said = error if explained else f'{type(error).__name__}: {error}'
    return {'name': name, 'ok': False, 'detail': one_line(said, 2000)}


def _files(bundle: 'Bundle') -> str:
    if bundle.snapshot is None:  # the towers of a model of the hub are compared when they are run
        for name in bundle.contents.sums:
            bundle.contents.check(name)
    n_files = len([name for name in bundle.info.get('files', {})
                   if bundle.snapshot is None or not name.startswith('onnx/')])
    if not n_files:
        return f'{bundle.name} {bundle.revision} has no checksums in {bundle.path}'
    return (f'{bundle.name} {bundle.info.get("version", "")} {bundle.revision}: {n_files} files '
            f'with the right sha256 in {bundle.path}')


def _runtime() -> str:
    from .models.runtime import has_driver, runtime

    providers = ', '.join(name.removesuffix('ExecutionProvider')
                          for name in runtime().get_available_providers())
    return (f'ONNX Runtime {runtime().__version__} with {providers}; '
            f'{"a" if has_driver() else "no"} CUDA driver')


def _towers(encoder: 'Encoder') -> str:
    """
    Open the towers that suit the device, from this machine or from the hub.
    """
    encoder.open()
    return 'those that suit the device are here'


def _suffixes(bundle: 'Bundle') -> list[str]:
    """
    Variants with both towers on this machine, such as ``_quantized``.
    """
    here = {path.stem for path in bundle.path.glob('onnx/*.onnx')
            if bundle.contents.has(f'onnx/{path.name}')}
    found = {stem.removeprefix('vision_model') for stem in here if stem.startswith('vision_model')}
    return sorted(suffix for suffix in found if f'text_model{suffix}' in here)


def _try(encoder: 'Encoder', figures: dict[str, Any]) -> str:
    """
    Run a variant on inputs whose embeddings are known, and fill in its figures.
    """
    cosines = _lowest_cosines(encoder, encoder.bundle.contents)
    speed = round(images_per_second(encoder, encoder.batch_size), 1)
    figures |= {**cosines, 'device': encoder.device, 'images_per_second': speed}
    known = {kind: cosine for kind, cosine in cosines.items() if cosine is not None}
    said = ', '.join(f'{kind} {cosine:.4f}' for kind, cosine in known.items())
    said = f'lowest cosine with the known answers: {said}' if said else 'no known answers'
    said = f'{said}; {speed:.0f} images/s on {encoder.device.upper()}'
    if not all(cosine >= _LEAST_COSINE for cosine in known.values()):
        raise EncoderError(said)
    return said


def _lowest_cosines(encoder: 'Encoder', contents: 'Contents') -> dict[str, float | None]:
    """
    Lowest cosine of each kind of embedding with the known ones.
    """
    from .models.background import arrays

    if not contents.has('golden.npz'):
        # The towers must still run.
        encoder.encode_images(_noise(encoder, 1))
        encoder.encode_text(['galaxy'])
        return dict(_UNKNOWN)
    with arrays(contents.read('golden.npz')) as known:
        texts = known['texts'].tolist()
        pairs = {'image': (encoder.encode_images(known['pixels']), known['image_embeds']),
                 'text': (encoder.encode_text(texts), known['text_embeds'])}
        if 'sentence_embeds' in known:  # else those of metadata are the same as those of phrases
            pairs['metadata'] = encoder.encode_metadata(texts), known['sentence_embeds']
    return _UNKNOWN | {kind: round(float((found * expected).sum(axis=1).min()), 6)
                       for kind, (found, expected) in pairs.items()}


def _noise(encoder: 'Encoder', n: int) -> np.ndarray:
    height, width = encoder.bundle.preprocessing.size
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def _cache() -> str:
    """
    Make sure that the cache can be written.
    """
    from .search.session import Session

    path = Session().cache_path()
    if path is None:
        raise OSError('there is no folder for the cache')
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return f'{folder} can be written'
    except OSError as error:
        raise OSError(f'{folder} cannot be written ({error})') from error
