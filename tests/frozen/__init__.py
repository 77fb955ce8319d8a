# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Two hundred pictures and thirty phrases that every model is asked: how good a ranking is.

The pictures are rendered, so that no image of anybody else is in the repository, and made hard:
off the centre, grey, stretched anew, noisy. They are kept as JPEG files, as a renderer may draw
otherwise with another version of numpy. ``python -m tests.frozen`` measures the embedded model;
with ``--record`` it writes what it found, which is needed when the model is replaced on purpose.
"""

import io
import json
import tomllib
import warnings
from pathlib import Path

import numpy as np
from astropy.table import Table
from PIL import Image

from astroclip_search import ClipSearch
from astroclip_search.exceptions import NothingStandsOutWarning
from astroclip_search.models.bundle import open_bundle

__all__ = ['PICTURES', 'QUERIES', 'RECORDED', 'harden', 'mean', 'measure', 'moved', 'name_of',
           'ndcg', 'recorded', 'write']

PICTURES, QUERIES, RECORDED = (Path(__file__).with_name(name) for name in (
    'pictures.npz', 'queries.toml', 'recorded.json'))


def measure(folder, model='default'):
    """
    For each phrase nDCG@10 and the cosines of the pictures that show it, in a dictionary.

    The whole product answers: files are opened, resized and embedded, and rows ranked by `rank`.
    Files and cache are written into ``folder``.
    """
    kinds = np.array(write(folder / 'pictures'))
    table = Table({'preview': [f'{i:03}.jpg' for i in range(len(kinds))]})
    search = ClipSearch(model=model, cache_dir=folder / 'cache')
    found = {}
    for phrase, (exact, near) in tomllib.loads(QUERIES.read_text('utf-8')).items():
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', NothingStandsOutWarning)  # true of some phrases
            best = search.rank(table, phrase, by='image', image_dir=folder / 'pictures',
                               fold_duplicates=False, show_progress=False)
        rows = np.array([int(name[:3]) for name in best['preview']])
        shows = np.isin(kinds, exact)
        found[phrase] = {
            'ndcg@10': ndcg((3 * shows + np.isin(kinds, near))[rows]),
            'cosines': np.array(best['clip_image'])[np.argsort(rows)][shows].tolist()}
    return found


def mean(found):
    """
    The mean nDCG@10 over phrases.
    """
    return sum(one['ndcg@10'] for one in found.values()) / len(found)


def moved(found, before):
    """
    By how much the cosines differ from those of an earlier measurement, root mean square.
    """
    cosines, others = (np.array([measured[phrase]['cosines'] for phrase in before])
                       for measured in (found, before))
    return float(np.sqrt(np.mean((cosines - others)**2)))


def ndcg(gains, k=10):
    """
    Discounted gain of the first rows (Järvelin and Kekäläinen 2002), divided by the greatest.
    """
    weights = 1 / np.log2(np.arange(min(k, len(gains))) + 2)
    return float(gains[:k] @ weights / (np.sort(gains)[::-1][:k] @ weights))


def write(folder):
    """
    Write the pictures as files 000.jpg and on; returns the kind of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(PICTURES) as data:
        ends = np.cumsum(data['sizes'])
        content = data['bytes'].tobytes()
        for i, (end, size) in enumerate(zip(ends, data['sizes'], strict=True)):
            (folder / f'{i:03}.jpg').write_bytes(content[end - size:end])
        return data['kinds'].tolist()


def recorded():
    """
    What the model that was recorded last reached.
    """
    return json.loads(RECORDED.read_text('utf-8'))


def name_of(model='default'):
    """
    Name and version of a model.
    """
    info = open_bundle(model).info
    return f"{info.get('name', model)} {info.get('version', '')}".strip()


def harden(pixels, rng):
    """
    A picture as archives show it, as a JPEG file; ``pixels`` uint8 (n, n, 3).
    """
    image = pixels / 255.0
    if rng.random() < 0.3:  # the object is at one end of an oblong frame of empty sky
        axis, sky = rng.integers(2), np.median(image[[0, -1]], axis=(0, 1))
        empty = np.full_like(image, sky)[:2 * len(image) // 3].swapaxes(0, axis)
        image = np.concatenate([(image, empty), (empty, image)][rng.integers(2)], axis=axis)
    if rng.random() < 0.45:  # one filter, stretched as FITS images are
        image = image.mean(axis=-1, keepdims=True)
        low, high = np.quantile(image, [rng.uniform(0.01, 0.4), rng.uniform(0.98, 0.999)])
        image = np.clip((image - low) / max(high - low, 0.05), 0, 1)
        image = image ** rng.uniform(0.4, 1.6) if rng.random() < 0.7 else 1 - image
    noise = rng.choice([0, 0.04, 0.1])
    image = image + noise * rng.standard_normal((*image.shape[:2], 1))
    stream = io.BytesIO()
    image = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        stream, 'JPEG', quality=60, optimize=True)
    return stream.getvalue()
