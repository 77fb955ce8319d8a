"""
Real image-text pairs: a folder with a manifest, split without leaks.

A manifest is a file ``manifest.jsonl`` in a folder, one JSON object per line,
with ``id``, ``source``, ``title`` and ``file`` (path inside the folder), and
where known ``caption``, ``labels``, ``title_labels``, ``obs_title``,
``instrument`` and ``split`` (``train`` or another side, as `export.data.split` says). No
image or text of it enters the model bundle.
"""

import json
import re
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from export.data.descriptions import (
    KINDS_OF_LABELS,
    PHRASES,
    WORDS_OF_LABELS,
    object_key,
    object_kind,
    sentences,
)
from export.sky import names, synonyms
from export.sky.captions import label_synonyms

__all__ = ['PHRASES', 'Pair', 'group', 'load_pixels', 'read_manifest', 'row_metadata', 'split',
           'to_square']

#: A longer side than this means that the manifest is not one of thumbnails.
MAX_SIDE = 4096

_CREDIT = re.compile(r'\s*(Credit( and Copyright| & Copyright)?:?|Drawing Credit.*)\s*$')
#: Share of label phrases, other words for them, title and sentences among the captions drawn.
_SHARES = {'labels': 0.25, 'synonyms': 0.25, 'title': 0.2, 'sentences': 0.3}


@dataclass(frozen=True)
class Pair:
    """
    One real image and what is known about it.

    Parameters
    ----------
    file : `pathlib.Path`
        Image file.
    source : str
        Where the image comes from; metrics are given per source.
    title, obs_title : str
        Title or target name, and title of the observing programme.
    labels : tuple of str
        Class labels.
    captions : tuple of (str, float)
        Texts for training with the weight to draw each with.
    kind : str
        Kind of the synthetic sky that the picture surely shows; empty if unknown.
    side : str
        Side of the split that the manifest fixes; empty if it leaves that to `split`.
    """

    file: Path
    source: str
    title: str = ''
    obs_title: str = ''
    labels: tuple = ()
    captions: tuple = field(default=(), repr=False)
    kind: str = ''
    side: str = ''


def read_manifest(folder):
    """
    Read the pairs of a manifest folder.

    Parameters
    ----------
    folder : path-like
        Folder holding ``manifest.jsonl``.

    Returns
    -------
    pairs : list of `Pair`
        In the order of the manifest.

    Raises
    ------
    ValueError
        If a line is no row, or names a file outside the folder; the message names the line.
    """
    folder = Path(folder).resolve()
    pairs = []
    path = folder / 'manifest.jsonl'
    with open(path, encoding='utf-8') as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                file = (folder / row['file']).resolve()
                source = row['source']
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f'line {number} of {path} is no JSON object with file and source '
                                 f'({error!r})') from error
            if not file.is_relative_to(folder):
                raise ValueError(f'line {number} of {path} names a file outside its folder: '
                                 f'{row["file"]!r}')
            labels = row.get('title_labels') if 'title_labels' in row else row.get('labels')
            pairs.append(Pair(
                file=file, source=source, title=row.get('title') or '',
                obs_title=row.get('obs_title') or '',
                labels=tuple(dict.fromkeys(name for name in labels or () if name.strip('-'))),
                captions=tuple(_captions(row, labels or ())),
                kind=_kind(row, labels or ()), side=row.get('split') or '',
            ))
    return pairs


def row_metadata(pair):
    """
    Return the metadata that an archive row of this image would carry.

    Parameters
    ----------
    pair : `Pair`
        Image.

    Returns
    -------
    metadata : str
        Target and title; never the labels that metrics are computed with.
    """
    return ', '.join(part for part in (pair.title, pair.obs_title) if part)


def _kind(row, labels):
    """Return the kind that labels, or else the name of the object, surely stand for."""
    kinds = {KINDS_OF_LABELS[name] for name in labels if name in KINDS_OF_LABELS}
    if kinds:
        return kinds.pop() if len(kinds) == 1 else ''
    return '' if labels else object_kind(row.get('title') or '')


def _phrases(row, labels):
    """Return what a person would type to find this picture."""
    phrases = []
    for name in labels:
        if not name.strip('-'):
            continue
        kind = KINDS_OF_LABELS.get(name) or WORDS_OF_LABELS.get(name)
        own = PHRASES.get(name, () if kind else (name.replace('_', ' '),))
        # The words of a source weigh as much as all synonyms of the synthetic sky.
        phrases += own or (name.replace('_', ' '),)
        if kind and not (name in PHRASES and kind.endswith('radio_galaxy')):
            phrases += names(kind)
    if not phrases and (kind := object_kind(row.get('title') or '')):
        phrases += names(kind)
    return tuple(dict.fromkeys(phrases))


def _synonyms(row, labels):
    """Return the many ways to say what the labels say."""
    found = []
    for name in labels:
        kind = KINDS_OF_LABELS.get(name) or WORDS_OF_LABELS.get(name)
        found += label_synonyms(name) or (synonyms(kind) if kind else ())
    if not found and (kind := _kind(row, labels)):
        found += synonyms(kind)
    return tuple(dict.fromkeys(found))


def _captions(row, labels):
    """Yield (text, weight) for one manifest row."""
    phrases = _phrases(row, labels)
    for text in phrases:
        yield text, _SHARES['labels'] / len(phrases)
    others = _synonyms(row, labels)
    for text in others:
        yield text, _SHARES['synonyms'] / len(others)
    title = _CREDIT.sub('', row.get('title') or '').strip()
    if row['source'] == 'apod':
        if title:
            yield title, _SHARES['title']
        chosen = sentences(row.get('caption') or '')
        for text in chosen:
            yield text, _SHARES['sentences'] / len(chosen)
    elif row.get('obs_title'):
        shown = [name for name in labels if name.strip('-')]
        if shown:
            yield f"{row.get('instrument') or ''} image of {', '.join(shown)}".strip(), 0.15
            yield ';'.join(shown), 0.05
        yield f"{title}, {row['obs_title']}", 0.2
        for text in sentences(row.get('caption') or ''):
            yield text, 0.1


def load_pixels(file):
    """
    Read an image file.

    Parameters
    ----------
    file : path-like
        JPEG or PNG.

    Returns
    -------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.

    Raises
    ------
    ValueError
        If a side exceeds 4096 pixels.
    """
    with Image.open(file, formats=('JPEG', 'PNG')) as image:
        if max(image.size) > MAX_SIDE:
            raise ValueError(f'{Path(file).name}: {image.size} pixels are too many')
        return np.asarray(image.convert('RGB'))


def to_square(pixels, size):
    """
    Squash a whole frame to a square, as the product does.

    Parameters
    ----------
    pixels : `numpy.ndarray` of uint8, shape (height, width, 3)
        RGB.
    size : int
        Side of the square.

    Returns
    -------
    square : `numpy.ndarray` of uint8, shape (size, size, 3)
        Bicubic.
    """
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def group(pairs, thumbnails, *, threshold=0.95):
    """
    Group near-duplicate images and repeated targets.

    Two images belong together when their 16 x 16 grey thumbnails correlate above
    the threshold after the mean thumbnail of their source is taken away (else
    all centred objects on a dark sky would be one group), when they are of the
    same source and share a title, or when their titles name the same object.

    Parameters
    ----------
    pairs : list of `Pair`
        Images.
    thumbnails : `numpy.ndarray` of uint8, shape (n, 16, 16, 3)
        Their thumbnails.
    threshold : float, optional
        Pearson correlation above which two images count as the same.

    Returns
    -------
    groups : `numpy.ndarray` of int, shape (n,)
        Group number of each image.
    """
    grey = thumbnails.astype(np.float32).mean(-1).reshape(len(pairs), -1)
    grey = (grey - grey.mean(1, keepdims=True)) / (grey.std(1, keepdims=True) + 1e-6)
    sources = np.array([pair.source for pair in pairs])
    for source in np.unique(sources):
        members = sources == source
        if members.sum() > 20:
            grey[members] -= grey[members].mean(0)
    grey -= grey.mean(1, keepdims=True)
    grey /= np.linalg.norm(grey, axis=1, keepdims=True) + 1e-6
    rows, columns = [], []
    for start in range(0, len(grey), 2048):
        near = np.argwhere(grey[start:start + 2048] @ grey.T > threshold)
        rows.extend(near[:, 0] + start)
        columns.extend(near[:, 1])
    first = {}
    for i, pair in enumerate(pairs):
        keys = [(pair.source, re.sub(r'[^a-z0-9]', '', pair.title.lower()) or i)]
        keys += [found] if (found := object_key(pair.title)) else []
        for key in keys:
            rows.append(i)
            columns.append(first.setdefault(key, i))
    links = csr_matrix((np.ones(len(rows), bool), (rows, columns)), (len(pairs), len(pairs)))
    return connected_components(links, directed=False)[1]


def split(pairs, groups, *, fractions, default=0.2, leave_out=()):
    """
    Choose the validation images, whole groups at a time.

    Groups that hold more than a twentieth of a source go to training: one such
    group could otherwise be most of the validation set.

    Parameters
    ----------
    pairs : list of `Pair`
        Images.
    groups : `numpy.ndarray` of int, shape (n,)
        From `group`.
    fractions : dict
        Wanted validation fraction per source.
    default : float, optional
        Fraction for other sources.
    leave_out : collection of str, optional
        Sources of which nothing may be trained on, nor any picture of other sources
        that is in a group with one of theirs.

    Returns
    -------
    validation : `numpy.ndarray` of bool, shape (n,)
        True for validation. The choice depends on file names only, not on order. What a manifest
        fixes is kept.
    """
    members = defaultdict(list)
    for i, number in enumerate(groups):
        members[number].append(i)
    totals = defaultdict(int)
    for pair in pairs:
        totals[pair.source] += 1
    validation = np.zeros(len(pairs), bool)
    for rows in members.values():
        name = min(f'{pairs[i].source}/{pairs[i].file.name}' for i in rows)
        source = name.split('/')[0]
        chance = zlib.crc32(name.encode()) / 2**32
        small = len(rows) <= max(1, totals[source] / 20)
        foreign = any(pairs[i].source in leave_out for i in rows)
        validation[rows] = foreign or (small and chance < fractions.get(source, default))
        for i in rows:
            if pairs[i].side:
                validation[i] = foreign or pairs[i].side != 'train'
    return validation
