# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Command line: ``astroclip-search demo | query | rank | describe | classify | ...``.
"""

import argparse
import platform
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from astropy.utils.exceptions import AstropyWarning

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ['main']

_DEMO_TEXT = 'protoplanetary disk'
_SHOWN = ('clip_rank', 'clip_score', 'clip_false_alarm', 'clip_status', 'target_name', 'filename',
          'obs_collection', 'instrument_name', 'obs_title')
_DESCRIBED = ('clip_row', 'clip_name', 'clip_phrase', 'clip_score', 'clip_false_alarm',
              'clip_status')
_CLASSIFIED = ('clip_class', 'clip_probability', 'clip_status', 'target_name', 'filename',
               'obs_collection', 'instrument_name', 'obs_title')
_TEXT_HELP = 'what the image shows; "" if --like says it all'
_FORMATS = {'.ecsv': {'format': 'ascii.ecsv'}, '.csv': {'format': 'ascii.csv'},
            # astropy 8.0 writes the default, TABLEDATA, past the end of its buffer.
            '.vot': {'format': 'votable', 'tabledata_format': 'binary2'}}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, by default those of the process.

    Returns
    -------
    int
        0 if all went well, 1 if nothing could be ranked, 2 for wrong arguments.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        print(_versions())
        return 0
    if not hasattr(arguments, 'run'):
        parser.print_help()
        return 2
    with warnings.catch_warnings():
        warnings.simplefilter('always', AstropyWarning)
        # Astropy's own handler would print a warning with the source line that raised it.
        warnings.showwarning = _show_warning
        try:
            return arguments.run(arguments)
        except KeyboardInterrupt:
            print('interrupted; what was embedded is kept', file=sys.stderr)
            return 130
        except _expected_errors() as error:
            print(f'astroclip-search: {" ".join(str(error).split())}', file=sys.stderr)
            return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='astroclip-search',
        description='Search astronomical archives for what the images show.')
    parser.add_argument('--version', action='store_true',
                        help='print the versions that a bug report needs')
    commands = parser.add_subparsers(metavar='COMMAND')

    demo = commands.add_parser('demo', help='rank the sample archive that comes with the package')
    demo.add_argument('text', nargs='?', default=_DEMO_TEXT,
                      help=f'what the image shows (default: {_DEMO_TEXT!r})')
    demo.set_defaults(run=_demo)
    _add_output(demo, gallery='gallery.html')

    query = commands.add_parser('query', help='search MAST')
    query.add_argument('text', help=_TEXT_HELP)
    query.add_argument('--object', help='name of an object to search around')
    query.add_argument('--region', help='position to search around, such as "10h21m +12d"')
    query.add_argument('--radius', help='radius around it (default: 0.2deg)')
    query.add_argument('--criterion', action='append', type=_criterion, default=[],
                       metavar='NAME=VALUE',
                       help='further criterion of MAST, such as instrument_name=ACS/WFC')
    query.set_defaults(run=_query)
    _add_output(query)

    rank = commands.add_parser('rank', help='rank a table file, a folder, or image files')
    _add_results(rank)
    rank.add_argument('text', help=_TEXT_HELP)
    rank.set_defaults(run=_rank)
    _add_output(rank)

    describe = commands.add_parser('describe', help='say what images show')
    _add_results(describe)
    describe.add_argument('--phrase', dest='phrases', action='append', metavar='TEXT',
                          help='choose from these phrases, not from the vocabulary')
    describe.add_argument('--limit', type=int, default=5, help='phrases of each image')
    describe.set_defaults(run=_describe)
    _add_files(describe)

    classify = commands.add_parser('classify', help='sort images into classes')
    _add_results(classify)
    classify.add_argument('--class', dest='classes', action='append', required=True,
                          metavar='[NAME=]PHRASE',
                          help='phrase of a class, after its name if it shall have another; '
                               'phrases of one name are averaged')
    classify.add_argument('--false-alarm-rate', type=float, metavar='RATE',
                          help='add the class none, which leaves this fraction of unrelated '
                               'images to the others')
    classify.set_defaults(run=_classify)
    _add_files(classify)

    models = commands.add_parser('models', help='list the models on this machine')
    models.set_defaults(run=_models)
    clear = commands.add_parser('clear-cache', help='forget all embeddings')
    clear.set_defaults(run=_clear_cache)
    return parser


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('results', nargs='+', metavar='RESULT',
                        help='table with preview URLs (ECSV, CSV, VOTable), folder, or image files')
    parser.add_argument('--image-dir', help='folder of the images that the table names')


def _add_output(parser: argparse.ArgumentParser, gallery: str | None = None) -> None:
    parser.add_argument('--limit', type=int, default=20, help='rows shown and written')
    parser.add_argument('--by', choices=('both', 'image', 'text'), default='both',
                        help="what counts: pictures, the rows' words, or both")
    parser.add_argument('--not', dest='negative', action='append', metavar='TEXT',
                        help='what the image should not show')
    parser.add_argument('--like', action='append', metavar='IMAGE',
                        help='file or address of an image that it should look like')
    parser.add_argument('--unlike', action='append', metavar='IMAGE',
                        help='file or address of an image that it should not look like')
    parser.add_argument('--group-by', action='append', metavar='COLUMN',
                        help='show the best of each group first, such as proposal_id')
    parser.add_argument('--fold-duplicates', action='store_true',
                        help='show what is nearly the same picture as a better one last')
    _add_files(parser, gallery)


def _add_files(parser: argparse.ArgumentParser, gallery: str | None = None) -> None:
    parser.add_argument('--model', help='name, folder or Hugging Face id of another model')
    parser.add_argument('--out', type=_table_file, metavar='FILE',
                        help='write the table to this file (.ecsv, .csv, .vot)')
    parser.add_argument('--gallery', type=_file, metavar='FILE', default=gallery,
                        help='write thumbnails to this HTML file')


def _criterion(text: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not (name and equals):
        raise argparse.ArgumentTypeError(f'{text!r} does not look like NAME=VALUE')
    return name, value


def _file(name: str) -> Path:
    """
    A file that can be written, found out before the work and not after it.
    """
    path = Path(name).expanduser()
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f'{name!r} is not a file in an existing folder')
    return path


def _table_file(name: str) -> Path:
    if Path(name).suffix not in _FORMATS:
        raise argparse.ArgumentTypeError(f'{name!r} does not end in {", ".join(_FORMATS)}')
    return _file(name)


def _search(arguments: argparse.Namespace):
    from .search import ClipSearchClass

    return ClipSearchClass(model=arguments.model)


def _options(arguments: argparse.Namespace) -> dict:
    return {name: getattr(arguments, name) for name in
            ('limit', 'by', 'negative', 'like', 'unlike', 'group_by', 'fold_duplicates')}


def _text(arguments: argparse.Namespace) -> str | None:
    return None if arguments.like and not arguments.text else arguments.text


def _demo(arguments: argparse.Namespace) -> int:
    from . import sample

    search = _search(arguments)
    best = search.rank(sample.read(), _text(arguments), image_dir=sample.IMAGE_DIR,
                       **_options(arguments))
    return _report(search, best, arguments)


def _query(arguments: argparse.Namespace) -> int:
    search = _search(arguments)
    best = search.query_text(_text(arguments), coordinates=arguments.region,
                             object_name=arguments.object, radius=arguments.radius,
                             **_options(arguments), **dict(arguments.criterion))
    return _report(search, best, arguments)


def _rank(arguments: argparse.Namespace) -> int:
    search = _search(arguments)
    best = search.rank(_results(arguments), _text(arguments), image_dir=arguments.image_dir,
                       **_options(arguments))
    return _report(search, best, arguments)


def _describe(arguments: argparse.Namespace) -> int:
    search = _search(arguments)
    lines = search.describe(_results(arguments), arguments.phrases, limit=arguments.limit,
                            image_dir=arguments.image_dir)
    return _report(search, lines, arguments, _DESCRIBED)


def _classify(arguments: argparse.Namespace) -> int:
    search = _search(arguments)
    classes: dict[str, list[str]] = {}
    for said in arguments.classes:
        name, _, phrase = said.partition('=')
        classes.setdefault(name, []).append(phrase or name)
    classified = search.classify(_results(arguments), classes, image_dir=arguments.image_dir,
                                 false_alarm_rate=arguments.false_alarm_rate)
    return _report(search, classified, arguments, _CLASSIFIED)


def _results(arguments: argparse.Namespace) -> str | list[str]:
    return arguments.results[0] if len(arguments.results) == 1 else arguments.results


def _models(arguments: argparse.Namespace) -> int:
    from .search import ClipSearchClass

    print('\n'.join(ClipSearchClass().list_models().pformat(max_lines=-1, max_width=-1)))
    return 0


def _clear_cache(arguments: argparse.Namespace) -> int:
    from .search import ClipSearchClass

    print(f'{ClipSearchClass().clear_cache()} embeddings forgotten')
    return 0


def _report(search, best: 'Table', arguments: argparse.Namespace,
            columns: Sequence[str] = _SHOWN) -> int:
    shown = best[[name for name in columns if name in best.colnames]]
    print(_printable('\n'.join(shown.pformat(max_lines=-1, max_width=-1))))
    clip = best.meta['clip']
    counts = ', '.join(f'{n} {status}' for status, n in sorted(clip['status'].items()))
    print(f"\n{clip['n_rows']} rows ({counts}); model {clip['model']} {clip['revision']}")
    if 'selection' in clip:
        print(_printable(clip['selection']))
    if arguments.out:
        # A string, as the VOTable writer of astropy 7.0 does not know paths.
        best.write(str(arguments.out), overwrite=True, **_FORMATS[arguments.out.suffix])
        print(f'table: {arguments.out}')
    if arguments.gallery:
        print(f'gallery: {search.gallery(best, n=None).write(arguments.gallery)}')
    return 0 if clip['n_ranked'] else 1


def _printable(text: str) -> str:
    """
    Text of an archive without the control characters that would command a terminal.
    """
    return ''.join(c if c.isprintable() or c == '\n' else '\ufffd' for c in text)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f'{category.__name__}: {_printable(" ".join(str(message).split()))}', file=sys.stderr)


def _expected_errors() -> tuple[type[Exception], ...]:
    """
    Errors whose message tells the user what to do; anything else is a bug and is shown whole.
    """
    from astroquery.exceptions import InvalidQueryError, RemoteServiceError, ResolverError
    from requests.exceptions import RequestException

    from .exceptions import ClipSearchError

    return (ClipSearchError, InvalidQueryError, RemoteServiceError, ResolverError,
            RequestException, OSError)


def _versions() -> str:
    """
    Versions that a bug report needs.
    """
    from importlib.metadata import PackageNotFoundError, version

    lines = []
    for name in ('astroclip-search', 'astropy', 'astroquery', 'pyvo', 'numpy', 'onnxruntime-gpu',
                 'onnxruntime', 'tokenizers', 'pillow', 'requests'):
        try:
            lines.append(f'{name} {version(name)}')
        except PackageNotFoundError:
            continue
    return '\n'.join([*lines, f'Python {platform.python_version()}', platform.platform()])
