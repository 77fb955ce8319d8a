# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The commands with their arguments, and the help.
"""

import argparse
import os
import textwrap
from pathlib import Path
from typing import Any, NoReturn

from ..archives.table_io import FORMATS
from ..config import plane_of
from . import searching, upkeep

__all__ = ['BROKEN_PIPE', 'BUG', 'INTERRUPTED', 'WRONG', 'make_parser']

WRONG, BUG, INTERRUPTED, BROKEN_PIPE = 2, 3, 130, 141  # the last two as a shell counts signals

_DEMO_TEXT = 'protoplanetary disk'

# How shells complete the name of a file, as shtab.FILE, without importing it.
_FILE = {'bash': '_shtab_compgen_files', 'zsh': '_files',
         'fish': '(__fish_complete_path (commandline -ct))'}

_ENDING = """
exit status:
  0    all went well
  1    nothing was found or could be ranked, or the self-test failed
  2    wrong arguments, or an error that a message explains
  3    a defect of the program
  130  interrupted (Ctrl-C); what was embedded is kept
  141  the reader of a pipe has gone

examples:
  astroclip-search demo --open
  astroclip-search query "edge-on galaxy with a dust lane" --object "M 104"
  astroclip-search rank result.ecsv "tidal tail" --gallery tails.html
  astroclip-search query "spiral galaxy" --limit all --out - |
      astroclip-search rank - "tidal tail"

Results go to standard output; progress, warnings and errors go to standard error. COMMAND --help
explains each command.
"""

_TABLES = """
The suffix of a table names its format: .ecsv, .fits, .vot, .votable, .xml, .csv or .parquet (with
pyarrow and pandas). "-" stands for standard input and output.
"""

_SCORES = """
The added columns begin with clip_: rank, score, false_alarm (the fraction of unrelated archive
images that score as high), status, message and others. The cache keeps each embedding, so that
asking again is quick.
"""


def make_parser() -> argparse.ArgumentParser:
    """
    The parser of all commands; ``run`` of its result is the function of the command, if any.
    """
    parser = _Parser(
        prog='astroclip-search', formatter_class=_Formatter, epilog=_ENDING,
        description='Search astronomical archives for what the images show: rank the rows of any '
                    'query result by a phrase.')
    parser.add_argument('--version', '--versions', action='store_const', dest='run',
                        const=upkeep.versions, default=argparse.SUPPRESS,
                        help='print the versions that a bug report needs')
    _add_common(parser, default=False)
    commands = parser.add_subparsers(metavar='COMMAND', title='commands')
    _add_searching(commands)
    _add_showing(commands)
    _add_upkeep(commands)
    return parser


def _add_searching(commands) -> None:
    demo = _command(commands, 'demo', searching.demo,
                    'rank the sample archive that comes with the package', """
        Rank the sample archive, which comes with the package, and write a gallery. Needs no
        network; the first thing to try.
        """, '', 'demo', 'demo "ring galaxy" --open')
    demo.add_argument('text', nargs='?', default=_DEMO_TEXT, metavar='TEXT',
                      help=f'what the image shows (default: {_DEMO_TEXT!r})')
    _add_ranking(demo)
    _add_output(demo, gallery='gallery.html')

    query = _command(commands, 'query', searching.query, 'search MAST', """
        Search MAST for images that show TEXT: around an object or a position, by criteria, or by
        the words of the phrase alone.
        """, _SCORES, 'query "galaxy with a dust lane" --object "M 104"',
        'query proplyd --region "05h35m17s -05d23m" --open',
        'query spiral --criterion instrument_name=WFC3 --out best.vot')
    _add_text(query)
    query.add_argument('--object', metavar='NAME', help='name of an object to search around')
    query.add_argument('--region', metavar='POSITION',
                       help='position to search around, such as "10h21m +12d"')
    query.add_argument('--radius', metavar='ANGLE', help='radius around it (default: 0.2deg)')
    query.add_argument('--criterion', action='append', type=_criterion, default=[],
                       metavar='NAME=VALUE',
                       help='further criterion of MAST, such as instrument_name=ACS/WFC')
    _add_ranking(query)
    _add_output(query)

    rank = _command(commands, 'rank', searching.rank,
                    'rank a table, a folder or image files', """
        Rank the rows of a table (each names its image), the images of a folder, or image files:
        FITS, JPEG, PNG and others.
        """, _SCORES + _TABLES, 'rank result.ecsv "tidal tail" --limit all --out ranked.fits',
        'rank ~/my_fits_folder "ring galaxy" --gallery rings.html',
        'rank result.vot "" --like ring.jpg --unlike planet.jpg',
        'query "spiral galaxy" --out - |\n      astroclip-search rank - "tidal tail"')
    _add_results(rank)
    _add_text(rank)
    _add_ranking(rank)
    _add_output(rank)


def _add_showing(commands) -> None:
    describe = _command(commands, 'describe', searching.describe, 'say what images show', """
        Say for each image which phrases fit it best: phrases of a vocabulary of astronomy, or
        your own.
        """, _TABLES, 'describe image.jpg',
        'describe best.vot --phrase spiral --phrase ring --json')
    _add_results(describe)
    describe.add_argument('--phrase', dest='phrases', action='append', metavar='TEXT',
                          help='choose from these phrases, not from the vocabulary')
    describe.add_argument('--limit', type=int, default=5, metavar='N',
                          help='phrases of each image (default: 5)')
    _add_output(describe)

    classify = _command(commands, 'classify', searching.classify, 'sort images into classes', """
        Sort images into classes, each described by one or more phrases.
        """, _TABLES,
        'classify best.vot --class spiral --class "ring galaxy"',
        'classify night --class "good=star field" --class bad=trail')
    _add_results(classify)
    classify.add_argument('--class', dest='classes', action='append', required=True,
                          metavar='[NAME=]PHRASE',
                          help='phrase of a class, and its name if that is another; phrases of '
                               'one name are averaged')
    classify.add_argument('--false-alarm-rate', type=float, metavar='RATE',
                          help='add the class none, which takes all but this fraction of '
                               'unrelated images')
    _add_output(classify)

    gallery = _command(commands, 'gallery', searching.gallery,
                       'make an HTML page of thumbnails', """
        Write the images of a table, of a folder, or image files into one HTML page that needs no
        other file. The images keep their order unless a phrase ranks them.
        """, _TABLES, 'gallery ranked.ecsv --open',
        'gallery ~/fits --text "ring galaxy" -n 100 --out rings.html')
    _add_results(gallery)
    gallery.add_argument('--text', metavar='TEXT', help='rank the images by this phrase first')
    gallery.add_argument('-n', type=_limit, default=24, metavar='N', dest='limit',
                         help='images that are shown, or all (default: 24)')
    _complete(gallery.add_argument(
        '--out', type=_file, metavar='FILE', dest='gallery', default='gallery.html',
        help='the page (default: gallery.html)'))
    gallery.add_argument('--open', action='store_true', help='open the page in a browser')
    _add_model(gallery)


def _add_upkeep(commands) -> None:
    models = _command(commands, 'models', upkeep.list_models, 'list or download models', """
        List the models on this machine, or download a CLIP of the Hugging Face hub for use
        offline: its description, and the two tower files that suit the device and
        conf.model_variant. The printed size is that of the model on the disk.
        """, '', 'models', 'models download Xenova/clip-vit-base-patch32',
        'rank a.vot ring --model Xenova/clip-vit-base-patch32')
    actions = models.add_subparsers(metavar='ACTION', title='actions')
    _command(actions, 'list', upkeep.list_models, 'list them (the default)')
    download = _command(actions, 'download', upkeep.download_model, 'fetch a model from the hub')
    download.add_argument('model', metavar='ID', help='Hugging Face id, such as owner/name')
    download.add_argument('--revision', default='', help='commit, tag or branch')

    cache = _command(commands, 'cache', upkeep.cache_info, 'show or clear the cache', """
        The cache keeps embeddings and thumbnails on disk, so that an image is read once. Show
        where it is and what it holds, or clear it.
        """, '', 'cache', 'cache info --json', 'cache clear')
    actions = cache.add_subparsers(metavar='ACTION', title='actions')
    _command(actions, 'info', upkeep.cache_info, 'path, size and numbers (the default)')
    _command(actions, 'clear', upkeep.clear_cache, 'forget everything')

    _command(commands, 'versions', upkeep.versions, 'print the versions that a bug report needs',
             'Print the versions of Python, the system and the packages that results depend on.',
             '', 'versions --json')

    selftest = _command(commands, 'selftest', upkeep.selftest,
                        'check the installation on this machine', """
        Compare every file of the model with its checksum, run the model on inputs whose
        embeddings are known, and test whether the cache can be written. The exit status is 1 if
        anything is wrong.
        """, '', 'selftest', 'selftest --device cuda --json')
    _add_model(selftest)

    mcp = _command(commands, 'mcp', upkeep.serve, 'serve an assistant (Model Context Protocol)', """
        Answer an assistant such as Claude or Copilot over standard input and output: it can search
        by what images show, describe images, and write galleries. The assistant starts this
        command itself; the user guide has the settings. Needs the SDK:
        pip install "astroclip-search[mcp]".
        """, '', 'mcp', 'mcp ~/observations')
    mcp.add_argument('folders', nargs='*', metavar='FOLDER',
                     help='read and write files in these folders only')

    completion = _command(commands, 'completion', upkeep.completion,
                          'print a completion script for a shell', """
        Print a script with which the shell completes commands, options and file names. Needs
        shtab: pip install "astroclip-search[completion]".
        """, '',
        'completion bash > \\\n      ~/.local/share/bash-completion/completions/astroclip-search',
        'completion zsh > "${fpath[1]}/_astroclip-search"',
        'completion fish > \\\n      ~/.config/fish/completions/astroclip-search.fish')
    completion.add_argument('shell', choices=tuple(_FILE))
    completion.set_defaults(parser=make_parser)


def _command(commands, name: str, run, summary: str, description: str = '', more: str = '',
             *examples: str) -> argparse.ArgumentParser:
    lines = ''.join(f'  astroclip-search {example}\n' for example in examples)
    parser = commands.add_parser(
        name, help=summary, formatter_class=_Formatter,
        description=textwrap.dedent(description) or f'{summary[0].upper()}{summary[1:]}.',
        epilog=more + (f'\n\nexamples:\n{lines}' if lines else ''))
    parser.set_defaults(run=run)
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser, default: Any = argparse.SUPPRESS) -> None:
    """
    Options of all commands, before the command or after it, where a default would replace them.
    """
    group = parser.add_argument_group('messages')
    for *names, text in (('-q', '--quiet', 'no progress, no warnings, no summary'),
                         ('-v', '--verbose', 'say what is done'),
                         ('--debug', 'show the trace of an error'),
                         ('--json', 'print one JSON document')):
        group.add_argument(*names, action='store_true', help=text, default=default)


def _add_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('text', metavar='TEXT',
                        help='what the image shows; "" if --like says it all')


def _add_results(parser: argparse.ArgumentParser) -> None:
    _complete(parser.add_argument(
        'results', nargs='+', metavar='RESULT',
        help='a table, "-" for one from standard input, a folder, or image files'))
    parser.add_argument('--input-format', choices=tuple(FORMATS), metavar='FORMAT', type=str.lower,
                        help=f'format of the table, if its suffix or its first bytes do not say '
                             f'it: {", ".join(FORMATS)}')
    _complete(parser.add_argument('--image-dir', metavar='FOLDER',
                                  help='folder of the images that the table names'))
    parser.add_argument('--plane', type=_plane, metavar='PLANE',
                        help='what is drawn of a cube: middle, peak, sum, or the number of a '
                             'plane, counted from 0')


def _add_ranking(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('ranking')
    group.add_argument('--limit', type=_limit, default=20, metavar='N',
                       help='rows shown and written, or all (default: 20)')
    group.add_argument('--by', choices=('both', 'image', 'metadata'), default='both',
                       help="what counts: pictures, the rows' metadata, or both")
    group.add_argument('--not', dest='negative', action='append', metavar='TEXT',
                       help='what the image should not show')
    for name, text in (('--like', 'that it should look like'),
                       ('--unlike', 'that it should not look like')):
        _complete(group.add_argument(name, action='append', metavar='IMAGE',
                                     help=f'file or address of an image {text}'))
    group.add_argument('--group-by', action='append', metavar='COLUMN',
                       help='show the best of each group first, such as proposal_id')
    group.add_argument('--fold-duplicates', action='store_true',
                       help='show what is nearly the same picture as a better one last')


def _add_output(parser: argparse.ArgumentParser, gallery: str | None = None) -> None:
    group = parser.add_argument_group('output')
    _complete(group.add_argument(
        '--out', type=_table_file, metavar='FILE',
        help='write the table; the suffix says the format, "-" is standard output'))
    group.add_argument('--format', choices=tuple(FORMATS), metavar='FORMAT', type=str.lower,
                       help=f'format of the table, whatever the suffix says: {", ".join(FORMATS)} '
                            '(standard output: ecsv)')
    _complete(group.add_argument(
        '--gallery', type=_file, metavar='FILE', default=gallery,
        help='write thumbnails to this HTML file' + (f' (default: {gallery})' if gallery else '')))
    group.add_argument('--open', action='store_true', help='open the gallery in a browser')
    _add_model(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('model')
    group.add_argument('--model', help='name, folder or Hugging Face id of another model')
    group.add_argument('--device', choices=('auto', 'cpu', 'cuda'), help='where the model runs')


def _complete(action: argparse.Action) -> None:
    action.complete = _FILE  # type: ignore[attr-defined] # shtab looks for it


def _criterion(text: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not (name and equals):
        raise argparse.ArgumentTypeError(f'{text!r} does not look like NAME=VALUE')
    return name, value


def _limit(text: str) -> int | None:
    if text == 'all':
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'all'") from None


def _plane(text: str) -> str | int:
    try:
        return plane_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _file(name: str) -> Path:
    """
    A file that can be written, checked before the work.
    """
    path = Path(name).expanduser()
    folder = path.absolute().parent
    if not folder.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f'{name!r} is not a file in an existing folder')
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f'{name!r} cannot be written')
    return path


def _table_file(name: str) -> Path | str:
    return name if name == '-' else _file(name)


class _Parser(argparse.ArgumentParser):
    """
    Explains an error in one line; the usage of some commands has a dozen.
    """

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f'{self.prog}: {message} (see {self.prog} --help)\n')


class _Formatter(argparse.HelpFormatter):
    """
    Wraps paragraphs to the terminal; indented lines stay as they are.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:  # noqa: ARG002 - of argparse
        paragraphs = textwrap.dedent(text).strip().split('\n\n')
        return '\n\n'.join(
            paragraph if '\n  ' in paragraph else textwrap.fill(' '.join(paragraph.split()), width)
            for paragraph in paragraphs)
