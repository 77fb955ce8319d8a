# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a command prints and writes.

Standard output has the result and nothing else: a table for people, or the one that ``--out -`` or
``--json`` asked for. In the latter cases the summary goes to standard error.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import table_files
from ..phrases import invalid

if TYPE_CHECKING:
    from astropy.table import Table

    from ..display import Gallery
    from ..search import ClipSearchClass

__all__ = ['check', 'note', 'print_checks', 'print_json', 'print_table', 'printable', 'report',
           'write_gallery']


def check(arguments: argparse.Namespace) -> None:
    """
    Find out before the work whether its result can be written.

    Parameters
    ----------
    arguments : argparse.Namespace
        What was asked; ``--open`` without ``--gallery`` names the file.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If not.
    """
    if getattr(arguments, 'open', False) and arguments.gallery is None:
        arguments.gallery = Path('gallery.html')
    out = getattr(arguments, 'out', None)
    if out is None:
        return
    if out == '-':
        if arguments.json:
            raise invalid('--json and --out - both want the standard output: give one of them.')
        arguments.format = arguments.format or 'ecsv'
    form = arguments.format or table_files.format_of(out)
    if form is None:
        suffixes = ', '.join(sum(table_files.FORMATS.values(), ()))
        raise invalid(f'{str(out)!r} does not end in {suffixes}: say --format.')
    arguments.format = table_files.check_format(form)


def report(search: 'ClipSearchClass', table: 'Table', arguments: argparse.Namespace,
           columns: Sequence[str]) -> int:
    """
    Print and write a result.

    Parameters
    ----------
    search : ClipSearchClass
        Where its thumbnails are.
    table : `~astropy.table.Table`
        The result, with ``meta['clip']``.
    arguments : argparse.Namespace
        What was asked.
    columns : sequence of str
        Columns that people want to see, of those that the table has.

    Returns
    -------
    int
        Exit code: 0 if anything was ranked.
    """
    clip = table.meta['clip']
    # Files first: whoever reads the output may have enough of it after a few lines.
    written = []
    if arguments.out not in (None, '-'):
        table_files.write(table, arguments.out, arguments.format)
        written.append(f'table: {arguments.out}')
    if arguments.gallery:
        path = write_gallery(search.gallery(table, n=None), arguments)
        written.append(f'gallery: {path}')
    if arguments.json:
        print_json(table_files.as_json(table))
    elif arguments.out == '-':
        table_files.write(table, sys.stdout.buffer, arguments.format)
    else:
        print_table(table[[name for name in columns if name in table.colnames]])
        note('', arguments)
    counts = ', '.join(f'{n} {status}' for status, n in sorted(clip['status'].items()))
    note(f"{clip['n_rows']} rows ({counts}); model {clip['model']} {clip['revision']}", arguments)
    if 'selection' in clip:
        note(clip['selection'], arguments)
    for line in written:
        note(line, arguments)
    return 0 if clip['n_ranked'] else 1


def write_gallery(page: 'Gallery', arguments: argparse.Namespace) -> Path:
    """
    Write a gallery, and open it if that was asked.

    Parameters
    ----------
    page : Gallery
        The thumbnails.
    arguments : argparse.Namespace
        What was asked.

    Returns
    -------
    pathlib.Path
        The file.
    """
    path = page.write(arguments.gallery)
    if arguments.open:
        import webbrowser

        if not webbrowser.open(path.absolute().as_uri()):
            note('there is no browser to open it', arguments)
    return path


def note(text: str, arguments: argparse.Namespace) -> None:
    """
    Say something that is not the result.

    Parameters
    ----------
    text : str
        A line.
    arguments : argparse.Namespace
        What was asked; nothing is said if it was to be quiet.
    """
    if not arguments.quiet:
        aside = arguments.json or getattr(arguments, 'out', None) == '-'
        _print(text, sys.stderr if aside else sys.stdout)


def print_table(table: 'Table') -> None:
    """
    Print a table; on a terminal, lines are cut at its edge.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.
    """
    lines = [printable(line) for line in table.pformat(max_lines=-1, max_width=-1)]
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        lines = [line if len(line) <= width else f'{line[:width - 1]}…' for line in lines]
    _print('\n'.join(lines), sys.stdout)


def print_json(document: Any) -> None:
    """
    Print a JSON document.

    Parameters
    ----------
    document : dict or list
        Of plain values, NaN not among them.
    """
    print(json.dumps(document, indent=1, allow_nan=False))


def print_checks(report: dict[str, Any]) -> None:
    """
    Print what a self-test found.

    Parameters
    ----------
    report : dict
        From `~astroclip_search.selftest.selftest`.
    """
    for check in report['checks']:
        _print(f'{"ok  " if check["ok"] else "FAIL"}  {check["name"]}: {check["detail"]}',
               sys.stdout)
    for name, version in report['versions'].items():
        _print(f'      {name} {version}', sys.stdout)
    _print('All is well.' if report['ok'] else 'Something is wrong: see FAIL above.', sys.stdout)


def printable(text: str) -> str:
    """
    Text of an archive without the control characters that would command a terminal.

    Parameters
    ----------
    text : str
        Any text; its lines stay.

    Returns
    -------
    str
        With a replacement character for each.
    """
    return ''.join(c if c.isprintable() or c == '\n' else '\ufffd' for c in text)


def _print(text: str, stream) -> None:
    # Not every terminal has every letter.
    encoding = stream.encoding or 'utf-8'
    print(printable(text).encode(encoding, 'replace').decode(encoding), file=stream)
