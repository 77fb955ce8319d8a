# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What a command prints and writes.

Standard output holds the result alone: a table for people with its summary, or what ``--out -`` or
``--json`` asked for. In the latter cases the summary goes to standard error.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..archives import table_io
from ..exceptions import invalid

if TYPE_CHECKING:
    from astropy.table import Table

    from ..results.gallery import Gallery
    from ..search.client import ClipSearchClass

__all__ = ['check', 'note', 'report', 'show', 'table_lines', 'write_gallery']


def check(arguments: argparse.Namespace) -> None:
    """
    Complete the output options; raise before the work if its result could not be written.
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
    form = arguments.format or table_io.format_of(out)
    if form is None:
        suffixes = ', '.join(sum(table_io.FORMATS.values(), ()))
        raise invalid(f'{str(out)!r} does not end in {suffixes}: say --format.')
    arguments.format = table_io.check_format(form)


def report(search: 'ClipSearchClass', table: 'Table', arguments: argparse.Namespace,
           columns: Sequence[str]) -> int:
    """
    Print and write a result; the exit code is 0 if any row was ranked.
    """
    clip = table.meta['clip']
    # Files first: the reader of a pipe may close it after a few lines.
    written = []
    if arguments.out not in (None, '-'):
        table_io.write(table, arguments.out, arguments.format)
        written.append(f'table: {arguments.out}')
    if arguments.gallery:
        path = write_gallery(search.gallery(table, n=None), arguments)
        written.append(f'gallery: {path}')
    if arguments.out == '-':
        table_io.write(table, sys.stdout.buffer, arguments.format)
    elif arguments.json:
        show(table_io.as_json(table), arguments)
    else:
        shown = table[[name for name in columns if name in table.colnames]]
        show(None, arguments, table_lines(shown))
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
    Write a gallery, and open it if the user asked for that.
    """
    path = page.write(arguments.gallery)
    if arguments.open:
        import webbrowser

        if not webbrowser.open(path.absolute().as_uri()):
            note('there is no browser to open it', arguments)
    return path


def note(text: str, arguments: argparse.Namespace) -> None:
    """
    Print a line that is not part of the result, unless ``--quiet`` is given.
    """
    if not arguments.quiet:
        aside = arguments.json or getattr(arguments, 'out', None) == '-'
        _print(text, sys.stderr if aside else None)


def table_lines(table: 'Table') -> list[str]:
    """
    The lines of a table; for a terminal, they are cut at its edge.
    """
    lines = table.pformat(max_lines=-1, max_width=-1)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        lines = [line if len(line) <= width else f'{line[:width - 1]}…' for line in lines]
    return lines


def show(document: Any, arguments: argparse.Namespace, lines: Iterable[str] | None = None) -> None:
    """
    Print a document of plain values without NaN as JSON, or in lines, by default one an item.
    """
    if arguments.json:
        print(json.dumps(document, indent=1, allow_nan=False))
    else:
        for line in lines or (f'{name} {value}' for name, value in document.items()):
            _print(line)


def _print(text: str, stream: TextIO | None = None) -> None:
    """
    Print text without the control characters of an archive, which would command a terminal.
    """
    stream = sys.stdout if stream is None else stream
    text = ''.join(c if c.isprintable() or c == '\n' else '\ufffd' for c in text)
    # Not every terminal has every letter.
    encoding = stream.encoding or 'utf-8'
    print(text.encode(encoding, 'replace').decode(encoding), file=stream)
