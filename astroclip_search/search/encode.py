# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that give vectors, and the one that lists models.
"""

import json
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Table

from ..archives.open import open_results
from ..embeddings.collect import follow_links
from ..exceptions import ImageError, invalid
from ..images.preprocess import resize
from ..images.refs import parse
from ..models.bundle import cached_models
from .session import Session

__all__ = ['encode_images', 'list_models']


def encode_images(session: Session, images: Any) -> np.ndarray:
    """
    Unit vectors of images, float32 (n, d).
    """
    _, refs = open_results(images, is_ours=session.is_ours)
    encoder = session.encoder()
    prepared = []
    with session.pipeline(encoder, session.cache(False), refs.trusted) as pipeline:
        size = pipeline.images_at_once
        found = follow_links(dict.fromkeys(
            source for source in refs.sources if source and parse(source).kind == 'link'),
            pipeline, *session.caches())
        for row, source in enumerate(refs.sources):
            if not refs.is_open(row):
                raise ImageError(refs.reasons[row][0], source or '')
            answer = found.get(source, source)
            if isinstance(answer, ImageError):
                raise answer
            image = pipeline.image(answer, refs.objects, *pipeline.sides)
            prepared.append(resize(image, encoder.bundle.preprocessing))
    if not prepared:
        raise invalid('There is nothing to embed: the table is empty.')
    return np.concatenate([encoder.encode_images(np.stack(prepared[i:i + size]))
                           for i in range(0, len(prepared), size)])


def list_models() -> Table:
    """
    Models that are on this machine.
    """
    rows = []
    for name, path in cached_models():
        info_file = path / 'astroclip.json'
        info = json.loads(info_file.read_text(encoding='utf-8')) if info_file.is_file() else {}
        size = sum(file.stat().st_size for file in path.rglob('*') if file.is_file()) / 1e6
        rows.append((name, info.get('name', ''), str(info.get('version', '')),
                     info.get('licence', ''), round(size, 1)))
    return Table(rows=rows or None, names=('model', 'name', 'version', 'licence', 'size'),
                 dtype=(str, str, str, str, float), units={'size': u.MB})
