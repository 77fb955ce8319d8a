# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The commands that look after the installation.
"""

import argparse

from ..phrases import invalid
from . import output

__all__ = ['cache_info', 'clear_cache', 'completion', 'download_model', 'list_models', 'selftest',
           'serve', 'versions']


def list_models(arguments: argparse.Namespace) -> int:
    """
    List the models on this machine.

    The exit code is 1 if there is none.
    """
    from ..search import ClipSearchClass
    from ..table_files import as_json

    models = ClipSearchClass().list_models()
    if arguments.json:
        output.print_json(as_json(models))
    else:
        output.print_table(models)
    return 0 if len(models) else 1


def download_model(arguments: argparse.Namespace) -> int:
    """
    Fetch a model of the hub: its description, and the towers for the device of this machine.
    """
    from .. import conf
    from ..bundle import open_bundle
    from ..encoder import Encoder

    bundle = open_bundle(arguments.model, arguments.revision).of_variant(conf.model_variant)
    encoder = Encoder(bundle, device=conf.device, n_threads=conf.n_threads)
    encoder.open()
    towers = [bundle.onnx_file(tower, encoder.device).name for tower in ('vision', 'text')]
    said = {'model': arguments.model, 'revision': bundle.revision, 'path': str(bundle.path),
            'device': encoder.device, 'towers': towers,
            'bytes': sum(file.stat().st_size for file in bundle.path.rglob('*') if file.is_file())}
    if not arguments.json:
        said |= {'towers': ' '.join(towers), 'size': f'{said.pop("bytes") / 1e6:.1f} MB'}
    _print(said, arguments)
    return 0


def cache_info(arguments: argparse.Namespace) -> int:
    """
    Say where embeddings are kept, and how many.
    """
    from ..search import ClipSearchClass

    info = ClipSearchClass().cache_info()
    if not arguments.json:
        info = {'path': info['path'], 'size': f'{info.pop("bytes") / 1e6:.1f} MB', **info}
    _print(info, arguments)
    return 0


def clear_cache(arguments: argparse.Namespace) -> int:
    """
    Forget all embeddings.
    """
    from ..search import ClipSearchClass

    forgotten = ClipSearchClass().clear_cache()
    if arguments.json:
        output.print_json({'forgotten': forgotten})
    else:
        output.note(f'{forgotten} embeddings forgotten', arguments)
    return 0


def versions(arguments: argparse.Namespace) -> int:
    """
    Print the versions that a bug report needs.
    """
    from ..versions import versions

    _print(versions(), arguments)
    return 0


def selftest(arguments: argparse.Namespace) -> int:
    """
    Check the installation on this machine.

    The exit code is 1 if anything is wrong.
    """
    from ..selftest import selftest

    report = selftest(arguments.model, device=arguments.device)
    if arguments.json:
        output.print_json(report)
    else:
        output.print_checks(report)
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
        from ..mcp_server import main
    except ImportError as error:
        raise invalid(f'{error}.') from None
    main(arguments.folders)
    return 0


def _print(said: dict, arguments: argparse.Namespace) -> None:
    if arguments.json:
        output.print_json(said)
    else:
        for name, value in said.items():
            print(output.printable(f'{name} {value}'))
