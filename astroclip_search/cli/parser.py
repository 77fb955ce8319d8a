# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The commands with their arguments, and the help.
"""

import argparse
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..archives.table_io import FORMATS
from ..config import plane_of
from . import searching, upkeep

__all__ = ['BROKEN_PIPE', 'BUG', 'INTERRUPTED', 'WRONG', 'ArgumentsError', 'make_parser']

WRONG, BUG, INTERRUPTED, BROKEN_PIPE = 2, 3, 130, 141  # the last two as a shell counts signals

_DEMO_TEXT = 'protoplanetary disk'

_PAGE = '(default: gallery.html, or the next free name if that is no gallery)'

# How shells complete the name of a file, as shtab.FILE, without importing it.
_FILE = {'bash': '_shtab_compgen_files', 'zsh': '_files',
         'fish': '(__fish_complete_path (commandline -ct))'}

_ENDING = """
exit status:
  0    all went well
  1    nothing was found, could be ranked, passed the filter, or is new; or
       the self-test failed
  2    wrong arguments, or an error that a message explains
  3    a defect of the program
  130  interrupted (Ctrl-C); what was embedded is kept
  141  the reader of a pipe has gone

examples:
  astroclip-search demo --open
  astroclip-search query "edge-on galaxy with a dust lane" --object "M 104"
  astroclip-search rank result.ecsv "tidal tail" --gallery tails.html
  astroclip-search query "spiral galaxy" --out - |
      astroclip-search rank - "tidal tail"

What is searched comes first, then what the image shows, then options. Results go to standard
output; progress, warnings and errors go to standard error. COMMAND --help explains each command.
"""

_TABLES = """
The suffix of a table names its format: .ecsv, .fits, .vot, .votable, .xml, .csv or .parquet (with
pyarrow). "-" stands for standard input and output.
"""

_SCORES = """
The first rows are printed, with the columns that say something: rank, score, false_alarm (the
fraction of unrelated archive images that score as high) and what the row is. --out writes all rows
and all columns; the names of those that are added begin with clip_. The cache keeps each embedding,
so that asking again is quick.
"""


_PLACES = """
The places are printed, best first within each image: x and y are pixels of the original image, the
first at 0, row 0 at the bottom in FITS and on top in other images; ra and dec are in degrees. --out
writes all columns, such as the box and the polygon on the sky of each place.
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
    _add_services(commands)
    _add_feedback(commands)
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
    _add_output(demo, wants_page=True)

    query = _command(commands, 'query', searching.query, 'search MAST', """
        Search MAST for images that show TEXT: around an object or a position, by criteria, or by
        the words of the phrase alone.
        """, _SCORES, 'query "galaxy with a dust lane" --object "M 104"',
        'query proplyd --region "05h35m17s -05d23m" --open',
        'query spiral --criterion instrument_name=WFC3/UVIS \\\n      --out best.vot')
    _add_text(query)
    query.add_argument('--object', metavar='NAME', help='name of an object to search around')
    _add_region(query)
    _add_criterion(query, 'further criterion of MAST, such as instrument_name=ACS/WFC: the whole '
                          'value, or with * for any letters')
    _add_ranking(query)
    _add_images(query)
    _add_output(query)

    rank = _command(commands, 'rank', searching.rank,
                    'rank a table, a folder or image files', """
        Rank the rows of a table (each names its image), the images of a folder, or image files:
        FITS, JPEG, PNG and others.
        """, _SCORES + _TABLES, 'rank result.ecsv "tidal tail" --out ranked.fits',
        'rank ~/my_fits_folder "ring galaxy" --gallery rings.html',
        'rank result.vot "" --like ring.jpg --unlike planet.jpg',
        'query "spiral galaxy" --out - |\n      astroclip-search rank - "tidal tail"')
    _add_results(rank)
    _add_text(rank)
    _add_ranking(rank)
    _add_images(rank, plane=False)
    _add_output(rank)

    kept = _command(commands, 'filter', searching.filter_rows,
                    'keep the rows whose image shows something', """
        Rank as the command rank does, and keep the rows whose false alarm is small enough. There
        may be none: then the exit status is 1.
        """, _SCORES + _TABLES, 'filter result.ecsv "ring galaxy" --out rings.vot',
        'filter night "satellite trail" --false-alarm-rate 0.001',
        'query "ring galaxy" --object "M 51" --out - |\n'
        '      astroclip-search filter - "ring galaxy" --false-alarm-rate 0.05')
    _add_results(kept)
    _add_text(kept)
    _add_rate(kept, 'keep rows that score so high that at most this fraction of unrelated images '
                    'does (default: 0.01)', default=0.01)
    _add_ranking(kept)
    _add_images(kept, plane=False)
    _add_output(kept)

    locate = _command(commands, 'locate', searching.locate,
                      'say where in the images something is, and where on the sky', """
        For each image of a table (such as the command rank writes), of a folder, or for image
        files, find the places that show TEXT: pixels of the image, and the position on the sky
        where a WCS is known.
        """, _PLACES + _TABLES, 'locate ~/my_fits_folder "tidal tail" -n 5 --ds9 tails.reg',
        'locate result.ecsv "ring galaxy" --out places.vot \\\n      --gallery places.html',
        'locate ~/my_fits_folder "dust lane" --moc dust.fits')
    _add_results(locate)
    _add_text(locate)
    locate.add_argument('-n', type=_count, default=1, metavar='N', dest='n_places',
                        help='places of each image at most (default: 1)')
    for name, text in (('ds9', 'write the places as a region file of DS9'),
                       ('moc', 'write where on the sky they are as a coverage map in FITS (MOC)')):
        _complete(locate.add_argument(f'--{name}', type=_file, metavar='FILE', help=text))
    _add_images(locate, plane=False)
    _add_output(locate)


def _add_services(commands) -> None:
    sia = _command(commands, 'sia', searching.sia, 'search an image service (VO)', """
        Search a service of the Virtual Observatory that speaks Simple Image Access for images that
        show TEXT.
        """, _SCORES,
        'sia https://ws.cadc-ccda.hia-iha.nrc-cnrc.gc.ca/sia \\\n'
        '      "tidal tail" --region "12h01m53s -18d52m" --collection HST')
    _add_service(sia)
    _add_text(sia)
    _add_region(sia)
    sia.add_argument('--collection', action='append', metavar='NAME',
                     help='collection of the service')
    _add_criterion(sia, 'further parameter of SIA, such as calib_level=3')
    sia.add_argument('--sia-version', type=int, choices=(1, 2), default=2,
                     help='version of SIA that the service speaks (default: 2)')
    _add_ranking(sia)
    _add_images(sia)
    _add_output(sia)

    tap = _command(commands, 'tap', searching.tap, 'rank the answer to a query in ADQL (VO)', """
        Ask a TAP service of the Virtual Observatory a QUERY in ADQL, and rank its rows by TEXT:
        usually those of a table of observations such as ivoa.obscore.
        """, _SCORES,
        'tap http://dc.g-vo.org/tap \\\n'
        '      "SELECT TOP 200 * FROM ivoa.obscore WHERE dataproduct_type = \'image\'" \\\n'
        '      "planetary nebula"')
    _add_service(tap)
    tap.add_argument('query', metavar='QUERY', help='ADQL; SELECT * has all columns that are used')
    _add_text(tap)
    tap.add_argument('--as-job', action='store_true',
                     help='run the query as a job, if it takes longer than a minute')
    _add_ranking(tap)
    _add_images(tap)
    _add_output(tap)


def _add_feedback(commands) -> None:
    refine = _command(commands, 'refine', searching.refine,
                      'rank again by what you say of some rows', """
        Rank a ranked TABLE again: more like the rows that you like, less like those that you do
        not. Rows are named by their rank in this table. Write the result with --out, and refine
        that: what you have said stays with the table. No image is read again.
        """, _TABLES, 'refine ranked.ecsv --liked 1,4 --disliked 2 --out better.ecsv',
        'refine better.ecsv --text "ring galaxy" --gallery rings.html')
    _add_table(refine)
    for name, kind, text in (
            ('liked', _ranks, 'that are as wanted, such as 1,4'),
            ('disliked', _ranks, 'that are not'),
            ('forget', _ranks_or_all, "of which you take back what you said, or 'all'")):
        refine.add_argument(f'--{name}', type=kind, action='extend', default=[],
                            metavar='RANKS', help=f'ranks of rows {text}')
    refine.add_argument('--text', metavar='TEXT', help='another phrase than that of the table')
    _add_ranking(refine, again=True)
    _add_output(refine)

    suggest = _command(commands, 'suggest', searching.suggest,
                       'show the rows that are worth a look', """
        Of a ranked TABLE, show the rows of which it is least certain whether they are as wanted.
        Look at them, and tell the command refine their ranks.
        """, _TABLES, 'suggest ranked.ecsv -n 5 --gallery unsure.html')
    _add_table(suggest)
    suggest.add_argument('-n', type=_count, default=5, metavar='N', help='rows (default: 5)')
    _add_output(suggest)

    rerun = _command(commands, 'rerun', searching.rerun, 'ask again, and show what is new', """
        Ask again what SEARCH was asked of an archive or a folder, and show the rows that it did not
        have. SEARCH is a table that query, sia, tap, rank or another command has written with
        --out; --out of this command has what is shown. The exit status is 1 if nothing is new, so
        that cron can tell.
        """, _TABLES, 'rerun search.ecsv --out new.ecsv',
        'rerun search.ecsv --update --gallery new.html --overwrite',
        'rerun nights.ecsv --image-dir nights')
    _complete(rerun.add_argument('search', metavar='SEARCH', help='the table that was written'))
    _add_image_dir(rerun, 'folder above all that the search may look into on this computer')
    rerun.add_argument('--all', action='store_true', help='show the old rows too')
    rerun.add_argument('--update', action='store_true',
                       help='write all rows to SEARCH, so that they are old the next time: also '
                            'those that --false-alarm-rate does not show')
    _add_rate(rerun, 'show only rows that score so high that at most this fraction of unrelated '
                     'images does')
    _add_limit(rerun)
    _add_images(rerun)
    _add_output(rerun)


def _add_showing(commands) -> None:
    describe = _command(commands, 'describe', searching.describe, 'say what images show', """
        Say for each image which phrases fit it best: phrases of a vocabulary of astronomy, or
        your own.
        """, _TABLES, 'describe image.jpg',
        'describe best.vot --phrase spiral --phrase ring --json')
    _add_results(describe)
    describe.add_argument('--phrase', dest='phrases', action='append', metavar='TEXT',
                          help='choose from these phrases, not from the vocabulary')
    describe.add_argument('-n', '--limit', type=_limit, default=5, metavar='N', dest='n_phrases',
                          help='phrases of each image, or all (default: 5)')
    _add_images(describe, plane=False)
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
    _add_rate(classify, 'add the class none, which takes all but this fraction of unrelated images')
    _add_limit(classify)
    _add_images(classify, plane=False)
    _add_output(classify)

    gallery = _command(commands, 'gallery', searching.gallery,
                       'make an HTML page of thumbnails', """
        Write the images of a table, of a folder, or image files into one HTML page that needs no
        other file. The images keep their order unless a phrase ranks them.
        """, _TABLES, 'gallery ranked.ecsv --open',
        'gallery ~/fits --text "ring galaxy" -n 100 --out rings.html')
    _add_results(gallery)
    gallery.add_argument('--text', metavar='TEXT', help='rank the images by this phrase first')
    gallery.add_argument('-n', '--limit', type=_limit, default=24, metavar='N',
                         help='images that are shown, or all (default: 24)')
    _complete(gallery.add_argument('--out', type=_file, metavar='FILE', dest='gallery',
                                   help=f'the page {_PAGE}'))
    _add_overwrite(gallery)
    gallery.add_argument('--open', action='store_true', help='open the page in a browser')
    gallery.set_defaults(wants_page=True)
    _add_model(gallery)


def _add_upkeep(commands) -> None:
    models = _command(commands, 'models', upkeep.list_models,
                      'list, recommend or download models', """
        List the models on this machine, say which of the Hugging Face hub are worth a try, or
        download one for use offline: its description, and the two tower files that suit the device
        and conf.model_variant. The printed size is that of the model on the disk.
        """, '', 'models', 'models recommend', 'models download Xenova/clip-vit-base-patch32',
        'rank a.vot ring --model Xenova/clip-vit-base-patch32')
    actions = models.add_subparsers(metavar='ACTION', title='actions')
    _command(actions, 'list', upkeep.list_models, 'list them (the default)')
    _command(actions, 'recommend', upkeep.recommend_models,
             'say which models of the hub are worth a try', """
        Say which models of the Hugging Face hub are worth a try: size, licence, what each is good
        for, and how fast it may be on this CPU, which is estimated from the speed of the embedded
        model. Needs no network.
        """, '', 'models recommend', 'models recommend --json')
    download = _command(actions, 'download', upkeep.download_model, 'fetch a model from the hub')
    download.add_argument('model', metavar='ID', help='Hugging Face id, such as owner/name')
    download.add_argument('--revision', default='', help='commit, tag or branch')

    cache = _command(commands, 'cache', upkeep.cache_info, 'show or clear the cache', """
        The cache keeps embeddings and thumbnails on disk, so that an image is read once. Show
        where it is and what it holds, or clear it.
        """, '', 'cache', 'cache info --json', 'cache clear')
    _add_cache_dir(cache)
    actions = cache.add_subparsers(metavar='ACTION', title='actions')
    for name, run, text in (
            ('info', upkeep.cache_info, 'path, size and numbers (the default)'),
            ('clear', upkeep.clear_cache, 'forget everything')):
        # Without a default of its own, which would replace what stands before the action.
        _add_cache_dir(_command(actions, name, run, text), default=argparse.SUPPRESS)

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
                         ('--json', 'print one JSON document, also of an error')):
        group.add_argument(*names, action='store_true', help=text, default=default)


def _add_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('text', metavar='TEXT',
                        help='what the image shows; "" if --like says it all, or to go on by what '
                             'a table was ranked by')


def _add_service(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('service', metavar='SERVICE', help='address of the service')
    parser.add_argument('--maxrec', type=_count, metavar='N',
                        help='rows that the service sends at most')


def _add_region(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--region', metavar='POSITION',
                        help='position to search around (ICRS), such as "10h21m +12d"')
    parser.add_argument('--radius', metavar='ANGLE', help='radius around it (default: 0.2deg)')


def _add_criterion(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument('--criterion', action='append', type=_criterion, default=[],
                        metavar='NAME=VALUE', help=text)


def _add_results(parser: argparse.ArgumentParser) -> None:
    _complete(parser.add_argument(
        'results', nargs='+', metavar='RESULT',
        help='a table, "-" for one from standard input, a folder, or image files'))
    _add_input_format(parser)
    _add_image_dir(parser, 'folder of the images that the table names')
    parser.add_argument('--image-column', metavar='NAME',
                        help='column of the table that names the images, if it is another than '
                             'the usual ones')
    _add_plane(parser)


def _add_table(parser: argparse.ArgumentParser) -> None:
    _complete(parser.add_argument('table', metavar='TABLE',
                                  help='a ranked table, or "-" for standard input'))
    _add_input_format(parser)
    _add_image_dir(parser, 'folder above the images that the table names, for --gallery')


def _add_image_dir(parser: argparse.ArgumentParser, text: str) -> None:
    _complete(parser.add_argument('--image-dir', metavar='FOLDER', help=text))


def _add_input_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--input-format', choices=tuple(FORMATS), metavar='FORMAT', type=str.lower,
                        help=f'format of the table, if its suffix or its first bytes do not say '
                             f'it: {", ".join(FORMATS)}')


def _add_plane(parser: Any) -> None:
    parser.add_argument('--plane', type=_plane, metavar='PLANE',
                        help='what is drawn of a cube: middle, peak, sum, or the number of a '
                             'plane, counted from 0')


def _add_rate(parser: argparse.ArgumentParser, text: str, default: float | None = None) -> None:
    parser.add_argument('--false-alarm-rate', type=_rate, metavar='RATE', default=default,
                        help=text)


def _add_ranking(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """
    Options of the order; what is ranked again has its examples already.
    """
    group = parser.add_argument_group('ranking')
    _add_limit(group)
    group.add_argument('--by', choices=('both', 'image', 'metadata'),
                       help="what counts: pictures, the rows' metadata, or both (default: "
                            + ('as before)' if again else 'both)'))
    group.add_argument('--not', dest='negative', action='append', metavar='TEXT',
                       help='what the image should not show')
    if not again:
        for name, text in (('--like', 'that it should look like'),
                           ('--unlike', 'that it should not look like')):
            _complete(group.add_argument(name, action='append', metavar='IMAGE',
                                         help=f'file or address of an image {text}'))
    group.add_argument('--group-by', action='append', metavar='COLUMN',
                       help='show the best of each group first, such as proposal_id')
    group.add_argument('--fold-duplicates', action='store_true', default=None,
                       help='show what is nearly the same picture as a better one last')


def _add_limit(parser: Any) -> None:
    parser.add_argument('-n', '--limit', type=_limit, default=20, metavar='N',
                        help='rows that are printed and shown in the gallery, or all (default: '
                             '20); --out writes all')


def _add_images(parser: argparse.ArgumentParser, *, plane: bool = True) -> None:
    group = parser.add_argument_group('images')
    group.add_argument('--max-images', type=_number, metavar='N',
                       help='images that are downloaded at most (default: 500); call again to go '
                            'on')
    group.add_argument('--colour', action='store_true', default=None,
                       help='make colour images of FITS files in three filters')
    group.add_argument('--cutout', type=_cutout, metavar='ANGLE',
                       help='rank cutouts of this size around each position, where an archive '
                            'makes them')
    group.add_argument('--no-cache', action='store_false', default=None, dest='cache',
                       help='keep no embeddings, and use none that were kept')
    if plane:
        _add_plane(group)


def _add_output(parser: argparse.ArgumentParser, *, wants_page: bool = False) -> None:
    group = parser.add_argument_group('output')
    _complete(group.add_argument(
        '--out', type=_table_file, metavar='FILE',
        help='write the table with all its rows; the suffix says the format, "-" is standard '
             'output'))
    group.add_argument('--format', choices=tuple(FORMATS), metavar='FORMAT', type=str.lower,
                       help=f'format of the table, whatever the suffix says: {", ".join(FORMATS)} '
                            '(standard output: ecsv)')
    _complete(group.add_argument(
        '--gallery', type=_file, metavar='FILE',
        help='write thumbnails of the first rows to this HTML file'
             + (f' {_PAGE}' if wants_page else '')))
    _add_overwrite(group)
    group.add_argument('--open', action='store_true', help='open the gallery in a browser')
    parser.set_defaults(wants_page=wants_page)
    _add_model(parser)


def _add_overwrite(parser: Any) -> None:
    parser.add_argument('--overwrite', action='store_true',
                        help='replace files of these names; an input or an image is never written '
                             'over')


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('model')
    group.add_argument('--model', help='name, folder or Hugging Face id of another model')
    group.add_argument('--device', choices=('auto', 'cpu', 'cuda'), help='where the model runs')
    _add_cache_dir(group)


def _add_cache_dir(parser: Any, default: Any = None) -> None:
    _complete(parser.add_argument('--cache-dir', metavar='FOLDER', default=default,
                                  help='folder in which embeddings are kept'))


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
        return _count(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of at least 1 nor 'all'") from None


def _number(text: str, least: int = 0) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise argparse.ArgumentTypeError(f'{text!r} is not a number of at least {least}')
    return int(text)


def _count(text: str) -> int:
    return _number(text, least=1)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number between 0 and 1')
    return rate


def _ranks(text: str) -> list[int]:
    try:
        return [_count(rank.strip()) for rank in text.split(',')]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f'{text!r} does not look like 1,4') from None


def _ranks_or_all(text: str) -> Sequence[int | str]:
    return [text] if text == 'all' else _ranks(text)


def _cutout(text: str) -> tuple[None, str]:
    """
    A size, around the position of each row.
    """
    return None, text


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
    # A file is replaced by one that is made beside it; a device is not.
    places = ([] if path.exists() and not path.is_file() else [folder]) + [path] * path.exists()
    if not all(os.access(place, os.W_OK) for place in places):
        raise argparse.ArgumentTypeError(f'{name!r} cannot be written')
    return path


def _table_file(name: str) -> Path | str:
    return name if name == '-' else _file(name)


class ArgumentsError(Exception):
    """
    Arguments that the parser does not take.
    """


class _Parser(argparse.ArgumentParser):
    """
    Explains an error in one line; the usage of some commands has a dozen.
    """

    def error(self, message: str) -> NoReturn:
        if re.match('unrecognized arguments: [^-]', message):
            message += '; put a phrase in quotes, and options before or after all else'
        raise ArgumentsError(f'{self.prog}: {message} (see {self.prog} --help)')


class _Formatter(argparse.HelpFormatter):
    """
    Wraps paragraphs to the terminal; indented lines stay as they are.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:  # noqa: ARG002 - of argparse
        paragraphs = textwrap.dedent(text).strip().split('\n\n')
        return '\n\n'.join(
            paragraph if '\n  ' in paragraph else textwrap.fill(' '.join(paragraph.split()), width)
            for paragraph in paragraphs)
