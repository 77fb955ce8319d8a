# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The commands that look after the installation.
"""

import argparse
import textwrap
from collections.abc import Iterator

from ..exceptions import invalid
from . import output

__all__ = ['cache_info', 'clear_cache', 'completion', 'download_model', 'list_models',
           'recommend_models', 'selftest', 'serve', 'versions']

# What holds for each model that is recommended.
_MIND = ('None of them was trained on the sky, and none was tried where this package is made: what '
         'is said here is from their own pages. Their scores have no false-alarm rates until they '
         'are calibrated with images of an archive: python -m export calibrate ID --archive FOLDER '
         '--out BUNDLE (export/README.md of the source), and then --model BUNDLE.')

_READY = "To be used as they are, by --model ID or ClipSearch.model = 'ID':"
_EXPORTED = ('To be exported first, which needs torch, by python -m export to-onnx --from ID --out '
             'FOLDER:')


def list_models(arguments: argparse.Namespace) -> int:
    """
    List the models on this machine; the exit code is 1 if there is none.
    """
    from ..archives.table_io import as_json
    from ..search.client import ClipSearchClass

    models = ClipSearchClass().list_models()
    output.show(as_json(models), arguments, output.table_lines(models))
    return 0 if len(models) else 1


def download_model(arguments: argparse.Namespace) -> int:
    """
    Fetch a model of the hub: its description and the two towers that suit the device.
    """
    from ..config import conf
    from ..models.bundle import open_bundle
    from ..models.encoder import Encoder

    bundle = open_bundle(arguments.model, arguments.revision).of_variant(conf.model_variant)
    encoder = Encoder(bundle, device=conf.device, n_threads=conf.n_threads)
    encoder.open()
    towers = [bundle.onnx_file(tower, encoder.device).name for tower in ('vision', 'text')]
    said = {'model': arguments.model, 'revision': bundle.revision, 'path': str(bundle.path),
            'device': encoder.device, 'towers': towers,
            'bytes': sum(file.stat().st_size for file in bundle.path.rglob('*') if file.is_file())}
    if not arguments.json:
        said |= {'towers': ' '.join(towers), 'size': f'{said.pop("bytes") / 1e6:.1f} MB'}
    output.show(said, arguments)
    return 0


def recommend_models(arguments: argparse.Namespace) -> int:
    """
    Say which models of the hub are worth a try, and how fast they may be here.
    """
    from dataclasses import asdict

    from ..models.bundle import cached_models
    from ..models.recommended import RECOMMENDED, UNUSABLE, likely_speed

    speed, here = _embedded_speed(), {name for name, _ in cached_models()}
    models: list[dict] = []
    for model in RECOMMENDED:
        likely = None if speed is None else likely_speed(model, speed)
        models.append({**asdict(model), 'is_here': model.name in here,
                       'images_per_second': None if likely is None else float(f'{likely:.2g}')})
    output.show({'embedded_images_per_second': speed and round(speed, 1), 'models': models,
                 'unusable': UNUSABLE, 'mind': _MIND}, arguments,
                _recommendations(models, UNUSABLE, speed))
    return 0


def _embedded_speed() -> float | None:
    """
    Images a second that the embedded model takes on this CPU now; `None` if it is not installed.
    """
    from ..config import conf
    from ..diagnostics import images_per_second
    from ..exceptions import ClipSearchError
    from ..models.bundle import open_bundle
    from ..models.encoder import Encoder

    try:
        return images_per_second(Encoder(open_bundle('default'), device='cpu',
                                         n_threads=conf.n_threads))
    except ClipSearchError:
        return None


def _recommendations(models: list[dict], unusable: dict[str, str],
                     speed: float | None) -> Iterator[str]:
    """
    The same in lines.
    """
    if speed is not None:
        yield from _wrapped(
            f'The embedded model takes about {speed:.0f} images/s on this CPU at the moment. The '
            'speeds of others are estimated from that, for eight bits.')
    for is_ready, heading in ((True, _READY), (False, _EXPORTED)):
        yield from ('', *_wrapped(heading))
        for model in models:
            if model['is_ready'] == is_ready:
                yield from _recommendation(model)
    yield from ('', 'Not to be used:')
    for name, why in unusable.items():
        yield from _wrapped(f'{name}: {why}', '  ')
    yield from ('', *_wrapped(_MIND))


def _wrapped(text: str, indent: str = '') -> list[str]:
    return textwrap.wrap(text, 79, initial_indent=indent, subsequent_indent=2 * indent,
                         break_on_hyphens=False)


def _recommendation(model: dict) -> Iterator[str]:
    sizes = ', '.join(f'{size} MB {kind}' for kind, size in model['download'].items())
    likely = model['images_per_second']
    fast = 'speed not known' if likely is None else f'about {likely:g} images/s here'
    yield f"  {model['name']}{' (on this machine)' if model['is_here'] else ''}"
    yield f"    good for {model['good_for']}"
    yield (f"    {model['kind']}, {model['pixels']} pixels, {model['parameters']} million "
           f'parameters, {fast}')
    yield f'    download: {sizes}'
    yield f"    licence: {model['licence']}"
    if model['note']:
        yield f"    mind: {model['note']}"


def cache_info(arguments: argparse.Namespace) -> int:
    """
    Say where the cache is, how large it is and may be, and what it holds.
    """
    from ..search.client import ClipSearchClass

    info = ClipSearchClass(cache_dir=arguments.cache_dir).cache_info()
    if not arguments.json:
        limited = info['max_bytes'] > 0
        sizes = {name: _size(info.pop(key)) for name, key in (
            ('size', 'bytes'), ('limit', 'max_bytes'), ('unused', 'unused_bytes'))}
        info = {'path': info.pop('path'), 'size': sizes['size'],
                'limit': sizes['limit'] if limited else 'none',
                **{name: 'unknown' if n is None else n for name, n in info.items()},
                'unused': sizes['unused']}
    output.show(info, arguments)
    return 0


def _size(n: int) -> str:
    """
    Bytes in the units of the documentation.
    """
    return f'{n / 2**30:.1f} GiB' if n >= 2**30 else f'{n / 2**20:.1f} MiB'


def clear_cache(arguments: argparse.Namespace) -> int:
    """
    Forget all embeddings, and delete files of the cache that are no longer used.
    """
    from ..embeddings.cachefile import leftovers
    from ..search.client import ClipSearchClass

    search = ClipSearchClass(cache_dir=arguments.cache_dir)
    unused = leftovers(search.session.cache_path())
    forgotten = search.clear_cache()
    deleted = [file.name for file in unused if not file.exists()]
    if arguments.json:
        output.show({'forgotten': forgotten, 'deleted': deleted,
                     'bytes': search.cache_info()['bytes']}, arguments)
    else:
        output.note('; '.join([f'{forgotten} embeddings forgotten',
                               *(f'{name} deleted' for name in deleted)]), arguments)
    return 0


def versions(arguments: argparse.Namespace) -> int:
    """
    Print the versions that a bug report needs.
    """
    from ..diagnostics import versions

    output.show(versions(), arguments)
    return 0


def selftest(arguments: argparse.Namespace) -> int:
    """
    Check the installation on this machine; the exit code is 1 if anything is wrong.
    """
    from ..diagnostics import selftest

    report = selftest(arguments.model, device=arguments.device)
    output.show(report, arguments, [
        *(f'{"ok  " if check["ok"] else "FAIL"}  {check["name"]}: {check["detail"]}'
          for check in report['checks']),
        *(f'      {name} {version}' for name, version in report['versions'].items()),
        'All is well.' if report['ok'] else 'Something is wrong: see FAIL above.'])
    return 0 if report['ok'] else 1


def completion(arguments: argparse.Namespace) -> int:
    """
    Print a completion script.
    """
    try:
        import shtab
    except ImportError:
        raise invalid('The script is made by shtab: '
                      'pip install "astroclip-search[completion]".') from None
    print(shtab.complete(arguments.parser(), arguments.shell))
    return 0


def serve(arguments: argparse.Namespace) -> int:
    """
    Serve an assistant by the Model Context Protocol, until it goes.
    """
    try:
        from ..mcp.server import main
    except ImportError as error:
        raise invalid(f'{error}.') from None
    main(arguments.folders)
    return 0
