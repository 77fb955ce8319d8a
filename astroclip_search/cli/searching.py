# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The commands that look at images.
"""

import argparse
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..archives.columns import text_column
from ..exceptions import expected_errors, invalid
from ..search.arguments import ImageOptions, RankOptions
from ..status import OK
from . import output
from .columns import CLASSIFIED, DESCRIBED, LOCATED, RANKED

if TYPE_CHECKING:
    from astropy.table import Table

    from ..search.client import ClipSearchClass

__all__ = ['classify', 'demo', 'describe', 'filter_rows', 'gallery', 'locate', 'query', 'rank',
           'refine', 'rerun', 'sia', 'suggest', 'tap']


def demo(arguments: argparse.Namespace) -> int:
    """
    Rank the sample archive.
    """
    from .. import sample

    arguments.image_dir = sample.IMAGE_DIR
    search = _search(arguments)
    best = search.rank(sample.read(), _text(arguments), **_options(arguments, RankOptions))
    return _report_ranked(search, best, arguments)


def query(arguments: argparse.Namespace) -> int:
    """
    Search MAST.
    """
    search = _search(arguments)
    best = search.query_text(_text(arguments), coordinates=arguments.region,
                             object_name=arguments.object, radius=arguments.radius,
                             criteria=dict(arguments.criterion), limit=None,
                             **_options(arguments, RankOptions))
    return _report_ranked(search, best, arguments)


def sia(arguments: argparse.Namespace) -> int:
    """
    Search an image service of the Virtual Observatory.
    """
    search = _search(arguments)
    best = search.query_sia(_text(arguments), service=arguments.service, pos=arguments.region,
                            radius=arguments.radius, collection=arguments.collection,
                            maxrec=arguments.maxrec, version=arguments.sia_version,
                            criteria=dict(arguments.criterion),
                            **_options(arguments, RankOptions))
    return _report_ranked(search, best, arguments)


def tap(arguments: argparse.Namespace) -> int:
    """
    Rank what a query in ADQL finds.
    """
    search = _search(arguments)
    best = search.query_tap(_text(arguments), arguments.query, service=arguments.service,
                            maxrec=arguments.maxrec, async_=arguments.as_job,
                            **_options(arguments, RankOptions))
    return _report_ranked(search, best, arguments)


def rank(arguments: argparse.Namespace) -> int:
    """
    Rank a table, a folder or image files.
    """
    search = _search(arguments)
    best = search.rank(_results(arguments), _text(arguments), **_options(arguments, RankOptions))
    return _report_ranked(search, best, arguments)


def filter_rows(arguments: argparse.Namespace) -> int:
    """
    Keep the rows whose image shows something; the exit code is 1 if there is none.
    """
    search = _search(arguments)
    kept = search.filter(_results(arguments), _text(arguments),
                         false_alarm_rate=arguments.false_alarm_rate,
                         **_options(arguments, RankOptions))
    output.report(search, kept, arguments, RANKED, found=(
        f'{output.counted(len(kept), "row")} with a false alarm of at most '
        f'{arguments.false_alarm_rate:g}'))
    return 0 if len(kept) else 1


def locate(arguments: argparse.Namespace) -> int:
    """
    Say where in the images something is; the exit code is 1 if it is nowhere.
    """
    if arguments.moc is not None and not find_spec('mocpy'):
        raise invalid('--moc needs mocpy: pip install "astroclip-search[regions]".')
    search = _search(arguments)
    places = search.locate(_results(arguments), _text(arguments), n=arguments.n_places,
                           **_options(arguments, ImageOptions))
    n = sum(status == OK for status in text_column(places, 'clip_status'))
    # Before the table: it is not lost where one of these cannot be written, and that is told last.
    failed, written = None, []
    for what, path, write in (('regions', arguments.ds9, search.write_regions),
                              ('coverage map', arguments.moc, search.write_moc)):
        if path is not None:
            try:
                write(places, path, overwrite=arguments.overwrite)
                written.append(f'{what}: {path}')
            except expected_errors() as error:
                failed = failed or error
    found = [output.counted(n, 'place'), *written]
    output.report(search, places, arguments, LOCATED, found=', '.join(found))
    if failed is not None:
        raise invalid(str(failed))
    return 0 if n else 1


def refine(arguments: argparse.Namespace) -> int:
    """
    Rank a ranked table again: more like some rows, less like others.
    """
    search = _search(arguments)
    best = search.refine(_table(arguments), arguments.text, liked=arguments.liked,
                         disliked=arguments.disliked,
                         forget='all' if 'all' in arguments.forget else arguments.forget,
                         **_options(arguments, RankOptions, but='image_dir'))  # for the gallery
    return _report_ranked(search, best, arguments)


def suggest(arguments: argparse.Namespace) -> int:
    """
    The rows of which a word would teach most.
    """
    search = _search(arguments)
    rows = search.suggest(_table(arguments), n=arguments.n)
    output.report(search, rows, arguments, RANKED, found=(
        f'{output.counted(len(rows), "row")} to look at: tell refine which ranks you like or '
        'dislike'))
    return 0 if len(rows) else 1


def rerun(arguments: argparse.Namespace) -> int:
    """
    Ask a saved search again; the exit code is 1 if there is nothing new.
    """
    search, file = _search(arguments), Path(arguments.search).expanduser()
    rate, options = arguments.false_alarm_rate, _options(arguments, ImageOptions)
    if arguments.update:
        everything = search.rerun(file, new_only=False, **options)
        is_new = np.asarray(everything['clip_new'], bool)
        rates = np.ma.filled(everything['clip_false_alarm'].astype(float), np.nan)
        found = everything[(is_new | arguments.all) & (True if rate is None else rates <= rate)]
        if rate is not None:  # what could not be read is new again when it can
            everything = everything[~(is_new & np.isnan(rates))]
    else:
        found = search.rerun(file, new_only=not arguments.all, false_alarm_rate=rate, **options)
    n_new = int(np.asarray(found['clip_new'], bool).sum())
    output.report(search, found, arguments, RANKED, found=(
        f'{output.counted(n_new, "new row")} since {_minute(found.meta["clip"].get("since"))}'))
    # Last: what could not be told is new again the next time.
    if arguments.update:
        if not everything.meta['clip']['n_ranked']:
            raise invalid(f'Nothing could be ranked, so {file} stays as it is.')
        search.save(everything, file, overwrite=True)
    return 0 if n_new else 1


def describe(arguments: argparse.Namespace) -> int:
    """
    Say what images show.
    """
    search = _search(arguments)
    said = search.describe(_results(arguments), arguments.phrases, limit=arguments.n_phrases,
                           **_options(arguments, ImageOptions))
    output.report(search, said, arguments, DESCRIBED)
    return _any_ranked(said)


def classify(arguments: argparse.Namespace) -> int:
    """
    Sort images into classes.
    """
    search = _search(arguments)
    classes: dict[str, list[str]] = {}
    for said in arguments.classes:
        name, _, phrase = said.partition('=')
        classes.setdefault(name, []).append(phrase or name)
    classified = search.classify(_results(arguments), classes,
                                 false_alarm_rate=arguments.false_alarm_rate,
                                 **_options(arguments, ImageOptions))
    output.report(search, classified, arguments, CLASSIFIED)
    return _any_ranked(classified)


def gallery(arguments: argparse.Namespace) -> int:
    """
    Make an HTML page of thumbnails; the model is needed for ``--text`` alone.
    """
    search = _search(arguments, warm_up=arguments.text is not None)
    shown = _results(arguments)
    if arguments.text is not None:
        shown = search.rank(shown, arguments.text, image_dir=arguments.image_dir)
    page = search.gallery(shown, n=arguments.limit, image_dir=arguments.image_dir)
    said, n = output.write_gallery(page, arguments), output.n_pictures(page)
    if arguments.json:
        output.show({'gallery': str(arguments.gallery), 'n_images': n}, arguments)
    for line in said:
        output.note(line, arguments)
    return 0 if n else 1


def _search(arguments: argparse.Namespace, *, warm_up: bool = True) -> 'ClipSearchClass':
    """
    A search whose model is being opened while the command reads the table.
    """
    from ..search.client import ClipSearchClass

    search = ClipSearchClass(model=arguments.model, device=arguments.device,
                             cache_dir=arguments.cache_dir)
    if warm_up:
        search.session.warm_up()
    return search


def _options(arguments: argparse.Namespace, kind: type, *, but: str = '') -> dict[str, Any]:
    """
    All that was said of ranking or of images; ``--limit`` is only for what is shown.
    """
    known = {field.name for field in fields(kind)} - {'limit', but}
    return {name: value for name, value in vars(arguments).items()
            if name in known and value is not None}


def _text(arguments: argparse.Namespace) -> str | None:
    return arguments.text if arguments.text.strip() else None


def _minute(date: object) -> str:
    """
    A date of ``meta['clip']``, which is UTC, without its seconds.
    """
    return str(date or 'the search')[:16].replace('T', ' ')


def _report_ranked(search: 'ClipSearchClass', best: 'Table', arguments: argparse.Namespace) -> int:
    output.report(search, best, arguments, RANKED)
    return _any_ranked(best)


def _any_ranked(table: 'Table') -> int:
    """
    The exit code, 0 if any row was ranked.
    """
    return 0 if table.meta['clip']['n_ranked'] else 1


def _table(arguments: argparse.Namespace) -> 'Table':
    """
    The one table that a command takes.
    """
    from ..archives import table_io

    if arguments.table == '-':
        return table_io.read(sys.stdin.buffer, arguments.input_format)
    path = Path(arguments.table).expanduser()
    if not path.is_file():
        raise invalid(f'There is no file {arguments.table!r}.')
    return table_io.read(path, arguments.input_format)


def _results(arguments: argparse.Namespace) -> 'Table | str | list[str]':
    """
    The table of standard input, or of a format that is given; the verbs open all else that is
    named, and remember its name.
    """
    from ..archives import table_io

    if len(arguments.results) > 1:
        return arguments.results
    named, = arguments.results
    if named == '-':
        return table_io.read(sys.stdin.buffer, arguments.input_format)
    if arguments.input_format and (path := Path(named).expanduser()).is_file():
        return table_io.read(path, arguments.input_format)
    return named
