# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that give vectors, and the one that lists models.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Table

from ..archives.open import open_results
from ..embeddings.cache import Cache
from ..embeddings.collect import collect, follow_links
from ..exceptions import ImageError, invalid, one_line
from ..images.refs import parse
from ..models.bundle import cached_models, description
from ..status import OK, Reason
from .session import Session

__all__ = ['encode_images', 'list_models']


def encode_images(session: Session, images: Any) -> np.ndarray:
    """
    Unit vectors of images, float32 (n, d): those that a ranking compares.
    """
    _, refs = open_results(images, is_ours=session.is_ours)
    if not len(refs):
        raise invalid('There is nothing to embed: the table is empty.')
    _check(refs.sources, refs.reasons, refs.is_open)  # before anything is read
    with session.pipeline(session.encoder(), session.cache(False), refs.trusted) as pipeline:
        found = follow_links(dict.fromkeys(
            source for source in refs.sources if source and parse(source).kind == 'link'),
            pipeline, *session.caches())
        sources: list[str | None] = []
        for source in refs.sources:
            answer = found.get(source, source) if source else source
            if isinstance(answer, ImageError):
                raise answer
            sources.append(answer)
        # The vectors are the user's: nothing of them stays here.
        with contextlib.closing(Cache()) as cache:
            space, positions, outcomes = collect(
                replace(refs, sources=sources, has_links=False),
                replace(pipeline, cache=cache, thumbnail_size=0))
    _check(outcomes.sources, outcomes.reasons, outcomes.is_ok)
    return space.matrix[positions]


def _check(sources: Sequence[str | None], reasons: Mapping[int, tuple[Reason, ...]],
           is_good: Callable[[int], bool]) -> None:
    """
    Raise what is wrong with the first row that has no image.
    """
    for row, source in enumerate(sources):
        if not is_good(row):
            raise ImageError(next(because for because in reasons[row] if because.status != OK),
                             source or '')


def list_models() -> Table:
    """
    Models that are on this machine.
    """
    rows = []
    for name, path in cached_models():
        info = description(name, path)
        size = sum(file.stat().st_size for file in path.rglob('*') if file.is_file()) / 1e6
        said = (one_line(info[key], 300) if info.get(key) else ''
                for key in ('name', 'version', 'licence'))
        rows.append((name, *said, round(size, 1)))
    return Table(rows=rows or None, names=('model', 'name', 'version', 'licence', 'size'),
                 dtype=(str, str, str, str, float), units={'size': u.MB})
