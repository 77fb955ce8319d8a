# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Files that a command may write, decided before its work.

An input is never written over, nor a picture; any other file only with ``--overwrite``. A page
under the default name is the exception: it is replaced if it is one of ours.
"""

import argparse
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from ..archives import table_io
from ..exceptions import invalid
from ..images.formats import HEAD, kind_of_content
from ..results.gallery import is_gallery
from ..untrusted.files import open_regular

__all__ = ['DEFAULT_PAGE', 'check_targets']

DEFAULT_PAGE = Path('gallery.html')


def check_targets(arguments: argparse.Namespace) -> None:
    """
    Choose the page if it has the default name; raise if something may not be written.
    """
    inputs = [path for path in map(_local, _named(arguments)) if path is not None]
    if (page := getattr(arguments, 'gallery', None)) is not None:
        if page.suffix.lower() not in ('.html', '.htm') and (page.is_file() or not page.exists()):
            raise invalid(f'{str(page)!r} does not end in .html: a gallery is a web page.')
        _check(page, arguments.overwrite, inputs)
    elif getattr(arguments, 'wants_page', False) or getattr(arguments, 'open', False):
        if not os.access(os.curdir, os.W_OK):
            raise invalid('The current folder cannot be written: name a page in another one.')
        arguments.gallery = _free_page(inputs)
        arguments.replaces_page = True
    page = getattr(arguments, 'gallery', None)
    targets: dict[str, Path] = {} if page is None else {'gallery': page}
    for what, name in (('table', 'out'), ('region file', 'ds9'), ('coverage map', 'moc')):
        target = getattr(arguments, name, None)
        if not isinstance(target, Path):
            continue
        _check(target, arguments.overwrite, inputs)
        for other, path in targets.items():
            if _is_same(target, path):
                raise invalid(f'The {what} and the {other} are both {str(target)!r}: choose two '
                              'names.')
        targets[what] = target


def _named(arguments: argparse.Namespace) -> Iterator[str]:
    """
    All that the command reads.
    """
    for name in ('results', 'table', 'search', 'like', 'unlike'):
        value = getattr(arguments, name, None)
        yield from [value] if isinstance(value, str) else value or []


def _local(name: str) -> Path | None:
    # The standard input may come from a file, which a redirection does not name.
    path = Path('/dev/stdin' if name == '-' else os.path.expanduser(name))
    try:
        return path if path.is_file() else None
    except (OSError, ValueError):  # an address may be too long for a name
        return None


def _check(target: Path, overwrite: bool, inputs: list[Path]) -> None:
    if any(_is_same(target, path) for path in inputs):
        raise invalid(f'{str(target)!r} is an input and is not written over: choose another name.')
    if not target.is_file():
        return
    if not overwrite:
        raise invalid(f'There is a file {str(target)!r} already: choose another name, or add '
                      '--overwrite.')
    if _is_picture(target):
        raise invalid(f'{str(target)!r} is an image and is not written over: choose another name.')


def _free_page(inputs: list[Path]) -> Path:
    """
    The default name of a page; beside a file that is not ours, the next one that is free.
    """
    names = itertools.chain([DEFAULT_PAGE], (
        DEFAULT_PAGE.with_stem(f'{DEFAULT_PAGE.stem}-{n}') for n in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name) or (
        is_gallery(name) and not any(_is_same(name, path) for path in inputs)))


def _is_same(one: Path, other: Path) -> bool:
    """
    Whether two names lead to one file, which need not exist yet.
    """
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.exists() and other.exists() and os.path.samefile(one, other)


def _is_picture(path: Path) -> bool:
    """
    Whether a file is an image: someone's data, which a table in FITS is not.
    """
    with open_regular(path) as file:
        kind = kind_of_content(file.read(HEAD))
    return bool(kind) and not (kind == 'fits' and table_io.holds_table(path))
