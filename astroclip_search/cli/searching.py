# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The commands that look at images.
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..search.arguments import RankOptions
from . import output

if TYPE_CHECKING:
    from astropy.table import Table

    from ..search.client import ClipSearchClass

__all__ = ['classify', 'demo', 'describe', 'gallery', 'query', 'rank']

_RANKED = ('clip_rank', 'clip_score', 'clip_false_alarm', 'clip_status', 'target_name', 'filename',
           'obs_collection', 'instrument_name', 'obs_title')

_DESCRIBED = ('clip_row', 'clip_name', 'clip_phrase', 'clip_score', 'clip_false_alarm',
              'clip_status')

_CLASSIFIED = ('clip_class', 'clip_probability', 'clip_status', 'target_name', 'filename',
               'obs_collection', 'instrument_name', 'obs_title')


def demo(arguments: argparse.Namespace) -> int:
    """
    Rank the sample archive.
    """
    from .. import sample

    search = _search(arguments)
    best = search.rank(sample.read(), _text(arguments), image_dir=sample.IMAGE_DIR,
                       **_options(arguments))
    return output.report(search, best, arguments, _RANKED)


def query(arguments: argparse.Namespace) -> int:
    """
    Search MAST.
    """
    search = _search(arguments)
    best = search.query_text(_text(arguments), coordinates=arguments.region,
                             object_name=arguments.object, radius=arguments.radius,
                             criteria=dict(arguments.criterion), **_options(arguments))
    return output.report(search, best, arguments, _RANKED)


def rank(arguments: argparse.Namespace) -> int:
    """
    Rank a table, a folder or image files.
    """
    search = _search(arguments)
    best = search.rank(_results(arguments), _text(arguments), image_dir=arguments.image_dir,
                       **_options(arguments))
    return output.report(search, best, arguments, _RANKED)


def describe(arguments: argparse.Namespace) -> int:
    """
    Say what images show.
    """
    search = _search(arguments)
    lines = search.describe(_results(arguments), arguments.phrases, limit=arguments.limit,
                            image_dir=arguments.image_dir)
    return output.report(search, lines, arguments, _DESCRIBED)


def classify(arguments: argparse.Namespace) -> int:
    """
    Sort images into classes.
    """
    search = _search(arguments)
    classes: dict[str, list[str]] = {}
    for said in arguments.classes:
        name, _, phrase = said.partition('=')
        classes.setdefault(name, []).append(phrase or name)
    classified = search.classify(_results(arguments), classes, image_dir=arguments.image_dir,
                                 false_alarm_rate=arguments.false_alarm_rate)
    return output.report(search, classified, arguments, _CLASSIFIED)


def gallery(arguments: argparse.Namespace) -> int:
    """
    Make an HTML page of thumbnails; the model is needed for ``--text`` alone.
    """
    search = _search(arguments, warm_up=arguments.text is not None)
    shown = _results(arguments)
    if arguments.text is not None:
        shown = search.rank(shown, arguments.text, limit=arguments.limit,
                            image_dir=arguments.image_dir)
    page = search.gallery(shown, n=arguments.limit, image_dir=arguments.image_dir)
    path = output.write_gallery(page, arguments)
    if arguments.json:
        output.show({'gallery': str(path), 'n_images': len(page)}, arguments)
    else:
        output.note(f'gallery: {path} ({len(page)} images)', arguments)
    return 0 if len(page) else 1


def _search(arguments: argparse.Namespace, *, warm_up: bool = True) -> 'ClipSearchClass':
    """
    A search whose model is being opened while the command reads the table.
    """
    from ..search.client import ClipSearchClass

    search = ClipSearchClass(model=arguments.model, device=arguments.device)
    if warm_up:
        search.session.warm_up()
    return search


def _options(arguments: argparse.Namespace) -> dict:
    """
    All that was said of ranking; each command says itself where images are.
    """
    known = {field.name for field in fields(RankOptions)} - {'image_dir'}
    return {name: value for name, value in vars(arguments).items() if name in known}


def _text(arguments: argparse.Namespace) -> str | None:
    return None if arguments.like and not arguments.text else arguments.text


def _results(arguments: argparse.Namespace) -> 'Table | str | list[str]':
    """
    The table of a file or of standard input; the verbs open whatever else is named.
    """
    from ..archives import table_io

    if len(arguments.results) > 1:
        return arguments.results
    named, = arguments.results
    if named == '-':
        return table_io.read(sys.stdin.buffer, arguments.input_format)
    path = Path(named).expanduser()
    if table_io.holds_table(path) or (arguments.input_format and path.is_file()):
        return table_io.read(path, arguments.input_format)
    return named
