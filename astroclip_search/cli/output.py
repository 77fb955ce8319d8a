# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a command prints and writes.

Standard output holds the result alone: a table for people with its summary, or what ``--out -`` or
``--json`` asked for. In the latter cases the summary goes to standard error. ``--limit`` is for
what is printed and for the gallery; a file has all rows.
"""

import argparse
import json
import os
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..archives import table_io
from ..archives.columns import text_column
from ..exceptions import invalid, one_line
from ..results.cards import uncertainty
from ..status import OK
from .columns import fitted, lines, printable
from .targets import DEFAULT_PAGE, check_targets

if TYPE_CHECKING:
    from astropy.table import Table

    from ..results.gallery import Gallery
    from ..search.client import ClipSearchClass

__all__ = ['check', 'counted', 'n_pictures', 'note', 'put', 'report', 'say', 'show', 'show_error',
           'table_lines', 'with_options', 'write_gallery']

# Reasons for rows without a score that are printed; a table may have one for each row.
_MOST_REASONS, _LONGEST_REASON = 5, 200

# What messages say to Python, and what they say here. What is part of a name is left alone.
_ARGUMENTS = re.compile(
    r"""(?<![\w./\\'"-])(give )?(image_dir|image_column|overwrite=True)(?![\w/\\'"-]|\.\w)""")
_OPTIONS = {'image_dir': ('--image-dir', ' FOLDER'), 'image_column': ('--image-column', ' NAME'),
            'overwrite=True': ('--overwrite', '')}
_FOR_PYTHON = {', or results, what is to be ranked now': '', ', or give results': '',
               ': give results, the table as it is now': ': rank it again'}


def check(arguments: argparse.Namespace) -> None:
    """
    Complete the output options; raise before the work if its result could not be written.
    """
    check_targets(arguments)
    out = getattr(arguments, 'out', None)
    if out is None:
        return
    if out == '-':
        if arguments.json:
            raise invalid('--json and --out - both want the standard output: give one of them.')
        arguments.format = arguments.format or 'ecsv'
        # A table has what an archive has put into it, and a terminal would obey.
        if sys.stdout.isatty():
            raise invalid('--out - writes a table for another program: add "> FILE" or '
                          '"| PROGRAM", or give --out the name of a file.')
    form = arguments.format or table_io.format_of(out)
    if form is None:
        suffixes = ', '.join(sum(table_io.FORMATS.values(), ()))
        raise invalid(f'{str(out)!r} does not end in {suffixes}: say --format.')
    arguments.format = table_io.check_format(form)


def report(search: 'ClipSearchClass', table: 'Table', arguments: argparse.Namespace,
           columns: Sequence[str], *, found: str = '') -> None:
    """
    Write a result to files, and print its first rows and a summary, to which ``found`` belongs.
    """
    limit = getattr(arguments, 'limit', None)
    shown = table[:limit]
    # Files first: the reader of a pipe may close it after a few lines.
    written = []
    if arguments.out not in (None, '-'):
        table_io.write(table, arguments.out, arguments.format, overwrite=arguments.overwrite)
        written.append(f'table: {arguments.out} ({counted(len(table), "row")})')
    if arguments.gallery:
        written += write_gallery(search.gallery(
            table, n=limit, image_dir=getattr(arguments, 'image_dir', None)), arguments)
    if arguments.out == '-':
        table_io.write(table, sys.stdout.buffer, arguments.format)
    elif arguments.json:
        show({'n_rows': len(table), **table_io.as_json(shown)}, arguments)
    elif len(shown):
        show(None, arguments, lines(shown, columns, width=_terminal_width(sys.stdout),
                                    folder=_folder(arguments)))
        note('', arguments)
    clip = table.meta.get('clip')
    for line in [*_summary(table, len(shown), clip if isinstance(clip, dict) else {}, arguments),
                 found, *written]:
        if line:
            note(line, arguments)


def _summary(table: 'Table', n_shown: int, clip: dict,
             arguments: argparse.Namespace) -> list[str]:
    """
    How many rows came to what, and why those without a score have none.
    """
    said = counted(clip.get('n_rows', len(table)), 'row')
    if counts := clip.get('status'):
        said += f' ({", ".join(f"{n:,} {status}" for status, n in sorted(counts.items()))})'
    if n_shown < len(table) and arguments.out != '-':
        said += f', {n_shown:,} shown'
    model = ' '.join(str(clip[name]) for name in ('model', 'revision') if clip.get(name))
    untaught = ('your marks say no more than the phrase does: it ranks the rows without a mark'
                if clip.get('learned') is False and (clip.get('liked') or clip.get('disliked'))
                else '')
    return [said, *_reasons(table), untaught, uncertainty(clip), f'model: {model}' if model else '',
            clip.get('selection', '')]


def _reasons(table: 'Table') -> list[str]:
    """
    Why rows failed, the most frequent reason first.
    """
    if not {'clip_status', 'clip_message'} <= set(table.colnames):
        return []
    reasons = Counter((status, message) for status, message in
                      zip(text_column(table, 'clip_status'), text_column(table, 'clip_message'),
                          strict=True) if status not in ('', OK)).most_common()
    said = [f'{n:,} {status}: '
            f'{with_options(one_line(message, _LONGEST_REASON)) if message else "no reason"}'
            for (status, message), n in reasons[:_MOST_REASONS]]
    if left := sum(n for _, n in reasons[_MOST_REASONS:]):
        said.append(f'{left:,} more for other reasons: see clip_message in the table of --out')
    return said


def write_gallery(page: 'Gallery', arguments: argparse.Namespace) -> list[str]:
    """
    Write a gallery, and open it if the user asked for that; what there is to say of it.
    """
    path = page.write(arguments.gallery, overwrite=arguments.overwrite)
    said = [f'gallery: {path} ({counted(n_pictures(page), "image")})']
    if (why := _no_picture(page)) and not arguments.quiet:
        say(why, sys.stderr)
    if getattr(arguments, 'replaces_page', False) and path != DEFAULT_PAGE:
        said.append(f'{DEFAULT_PAGE} is no gallery and stays as it is')
    if arguments.open:
        import webbrowser

        if not webbrowser.open(path.absolute().as_uri()):
            said.append('there is no browser to open it')
    return said


def _no_picture(page: 'Gallery') -> str:
    """
    Why a page shows no picture at all: the most frequent reason.
    """
    reasons = Counter([card.status for card in page.cards]
                      + [reason for _, reason in page.others])
    if n_pictures(page) or not reasons:
        return ''
    (reason, n), = reasons.most_common(1)
    said = with_options(one_line(reason, _LONGEST_REASON)) or 'no reason is known'
    return f'no picture of {counted(n, "row")}: {said}'


def with_options(sentence: str) -> str:
    """
    A message of the package, with the options in place of the arguments of Python.
    """
    def option(found: re.Match) -> str:
        name, value = _OPTIONS[found[2]]
        return f'{found[1]}{name}{value}' if found[1] else name

    for before, after in _FOR_PYTHON.items():
        sentence = sentence.replace(before, after)
    return _ARGUMENTS.sub(option, sentence)


def n_pictures(page: 'Gallery') -> int:
    """
    Images that a gallery shows; of other rows it says why there is none.
    """
    return sum(card.jpeg is not None for card in page.cards)


def counted(n: int, what: str) -> str:
    """
    A number of things: "1 row", "1,409 rows".
    """
    return f'{n:,} {what}' if n == 1 else f'{n:,} {what}s'


def note(text: str, arguments: argparse.Namespace) -> None:
    """
    Print a line that is not part of the result, unless ``--quiet`` is given.
    """
    if not arguments.quiet:
        aside = arguments.json or getattr(arguments, 'out', None) == '-'
        say(text, sys.stderr if aside else sys.stdout)


def say(text: str, stream: TextIO) -> None:
    """
    Print a sentence; a terminal gets it in lines that end with a word.
    """
    if (width := _terminal_width(stream)) is not None:
        text = textwrap.fill(text, width, subsequent_indent='  ', break_long_words=False,
                             break_on_hyphens=False)
    put(text, stream)


def table_lines(table: 'Table') -> list[str]:
    """
    The lines of a table with all its columns; for a terminal, they are cut at its edge.
    """
    width = _terminal_width(sys.stdout)
    return [fitted(line, width) for line in table.pformat(max_lines=-1, max_width=-1)]


def show(document: Any, arguments: argparse.Namespace, lines: Iterable[str] | None = None) -> None:
    """
    Print a document of plain values without NaN as JSON, or in lines, by default one an item.
    """
    if arguments.json:
        print(json.dumps(document, indent=1, allow_nan=False))
    else:
        said = lines or (f'{name} {value}' for name, value in document.items())
        if sum(put(line, sys.stdout) for line in said):
            note(f'Letters that {sys.stdout.encoding} does not have are printed as "?"; the '
                 'environment variable PYTHONIOENCODING=utf-8 prints them.', arguments)


def show_error(message: str, kind: str, status: int) -> None:
    """
    Print an error as the JSON document that stands where the result would.
    """
    print(json.dumps({'error': message, 'kind': kind, 'exit_status': status}, indent=1))


def _terminal_width(stream: TextIO) -> int | None:
    """
    Columns of a terminal; `None` where the output is no terminal, and nothing is cut.
    """
    return shutil.get_terminal_size().columns if stream.isatty() else None


def _folder(arguments: argparse.Namespace) -> str:
    """
    Where names of files begin for the reader: the folder that was given, or the current one.
    """
    results = getattr(arguments, 'results', None) or []
    named = Path(os.path.expanduser(results[0])) if len(results) == 1 else Path()
    return str(named.absolute() if named.is_dir() else Path.cwd())


def put(text: str, stream: TextIO) -> bool:
    """
    Print text without control characters, in letters that the terminal has; whether others had to
    be replaced.
    """
    encoding = stream.encoding or 'utf-8'
    text = printable(text)
    shown = text.encode(encoding, 'replace').decode(encoding)
    print(shown, file=stream)
    return shown != text
