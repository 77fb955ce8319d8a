# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The commands that look after the installation.
"""

import argparse

from ..exceptions import invalid
from . import output

__all__ = ['cache_info', 'clear_cache', 'completion', 'download_model', 'list_models', 'selftest',
           'serve', 'versions']


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
