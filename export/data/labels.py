"""
Label classes: what the labels of real images ask for, and who carries them.

A class is a label within a source: sources look unlike each other, and a picture without a
label in one source says nothing about the labels of another. Every class has its phrases in
groups, from plain to free; ``phrases.toml`` holds most of them, and those that ask for what is
*not* there. Titles of pictures without a label are read with the names of ``catalogue.toml``.
"""

import dataclasses
import itertools
import re
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np

from export.data.descriptions import KINDS_OF_LABELS, PHRASES, WORDS_OF_LABELS
from export.sky import KINDS, names, synonyms
from export.sky.captions import label_synonyms

__all__ = ['LabelClasses', 'NEAR', 'asking', 'draft', 'expand', 'label_classes', 'near_kinds',
           'read_title']

_PHRASES = tomllib.loads(Path(__file__).with_name('phrases.toml').read_text(encoding='utf-8'))
_CATALOGUE = tomllib.loads(Path(__file__).with_name('catalogue.toml').read_text(encoding='utf-8'))
#: Labels, or kinds, that are taken for each other, in groups.
NEAR = tuple(tuple(group) for group in _PHRASES['near']['labels'])
# Views are mirrored in training, so that the sense of winding says nothing.
_SAME = {'spiral galaxy, clockwise': 'spiral galaxy',
         'spiral galaxy, anticlockwise': 'spiral galaxy'}
#: Share of class phrases and of other words for them among the captions of a drafted label.
_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class LabelClasses:
    """
    Classes of labels and the images that carry them.

    Parameters
    ----------
    keys : tuple of (str, str)
        Source and label of each class, c in all.
    phrases : tuple of tuple of tuple of str
        Phrases that ask for each class, in groups of which one is drawn first.
    carried : `numpy.ndarray` of bool, shape (n, c)
        Which image carries which label.
    near : tuple of tuple of int
        Classes of one source that are taken for each other.
    """

    keys: tuple
    phrases: tuple
    carried: np.ndarray
    near: tuple


def expand(pattern):
    """
    Spell out a pattern of phrases.

    Parameters
    ----------
    pattern : str
        Alternatives stand in braces: ``'{dim|faint} tails{| of plasma}'``.

    Returns
    -------
    phrases : list of str
        Every combination.
    """
    parts = re.split(r'\{([^}]*)\}', pattern)
    choices = [part.split('|') if i % 2 else [part] for i, part in enumerate(parts)]
    return [' '.join(''.join(chosen).split()) for chosen in itertools.product(*choices)]


def asking(label):
    """
    Return the many ways in which people ask for a label.

    Parameters
    ----------
    label : str
        Label of any source.

    Returns
    -------
    phrases : tuple of str
        Empty for an unknown label.
    """
    patterns = _PHRASES['ask'].get(label, ())
    return tuple(dict.fromkeys(text for pattern in patterns for text in expand(pattern)))


def near_kinds():
    """
    Return the groups of kinds of the synthetic sky that are taken for each other.

    Returns
    -------
    groups : tuple of tuple of str
        Kinds, see `export.sky.KINDS`.
    """
    return tuple(tuple(group) for group in _PHRASES['near']['kinds'])


def label_classes(pairs, *, least=4):
    """
    Collect the label classes of some images.

    Parameters
    ----------
    pairs : list of `export.data.pairs.Pair`
        Images.
    least : int, optional
        Fewest images with a label that make it a class.

    Returns
    -------
    classes : `LabelClasses`
        Sorted by source and label; those that ask for what is not there come last.
    """
    sets = [{(pair.source, _SAME.get(label, label)) for label in pair.labels} for pair in pairs]
    count = Counter(key for found in sets for key in found)
    keys = sorted(key for key, number in count.items() if number >= least)
    phrases = [_ways(label) for _, label in keys]
    carried = [[key in found for found in sets] for key in keys]
    near = [tuple(keys.index(key) for key in itertools.product([source], group) if key in keys)
            for source in sorted({source for source, _ in keys}) for group in NEAR]
    for entry in _PHRASES['without']:
        source = entry['source']
        wanted = {(source, label) for label in entry['shown']}
        refused = {(source, label) for label in entry['absent']}
        column = [bool(found & wanted) and not found & refused for found in sets]
        if sum(column) >= least and any(found & refused for found in sets):
            keys.append((source, f"without {', '.join(entry['absent'])}"))
            phrases.append((tuple(text for part in entry['ask'] for text in expand(part)),))
            carried.append(column)
    return LabelClasses(
        keys=tuple(keys), phrases=tuple(phrases), near=tuple(g for g in near if len(g) > 1),
        carried=np.array(carried, bool).reshape(len(keys), len(pairs)).T,
    )


def _ways(label):
    """Return the groups of phrases of a label: its own, of its kind, in other words, asked for."""
    # A label that was joined from several has the words of the first.
    first = next((old for old, new in _SAME.items() if new == label), label)
    kind = KINDS_OF_LABELS.get(first) or WORDS_OF_LABELS.get(first) or (
        label if label in KINDS else '')
    own = PHRASES.get(first, (label.replace('_', ' '),))
    # Both types of radio galaxies share class phrases of their kinds.
    shared = first in PHRASES and kind.endswith('radio_galaxy')
    general = names(kind) if kind and not shared else ()
    other = label_synonyms(first) or (synonyms(kind) if kind else ())
    return tuple(tuple(group) for group in (own, general, other, asking(label)) if group)


def _pattern(name):
    """Return the expression that finds a name of the catalogue as whole words."""
    text = re.escape(name).replace(r'\#', r'\d+').replace(r'\ ', r'[\s-]?')
    text = re.sub(r'^M(\d+)$', r'(?:M|Messier)\\s?\1', text)
    text = text.replace("'", "['’]?")
    return rf'(?<![\w-]){text}(?!-?\d|\w)'


_FINDERS = [(section, re.compile('|'.join(map(_pattern, entry['names'])), re.IGNORECASE))
            for section, entry in _CATALOGUE.items()]


def read_title(title):
    """
    Read what a title says that a picture shows.

    Parameters
    ----------
    title : str
        Title of a picture.

    Returns
    -------
    label, kind : str
        Label as real images carry it, and kind of the synthetic sky. Both are empty for a title
        that names nothing known, the kind alone where the title does not say what is to be seen.
    """
    for section, finder in _FINDERS:
        if finder.search(title):
            return _CATALOGUE[section]['label'], _CATALOGUE[section].get('kind', '')
    return '', ''


def draft(pairs, *, sources=('apod',)):
    """
    Give pictures without a label those that their titles tell.

    Drafted labels are for training: they are right nine times in ten, and nothing is
    judged by them.

    Parameters
    ----------
    pairs : list of `export.data.pairs.Pair`
        Images.
    sources : collection of str, optional
        Sources whose titles are read.

    Returns
    -------
    drafted : list of `export.data.pairs.Pair`
        In the same order; new pairs where something was read.
    """
    return [_drafted(pair) if pair.source in sources and not pair.labels else pair
            for pair in pairs]


def _drafted(pair):
    label, kind = read_title(pair.title)
    if not label:
        return pair
    added = []
    # A kind that was known already has given its captions.
    if not pair.kind:
        plain = names(kind) if kind else PHRASES.get(label, (label.replace('_', ' '),))
        other = synonyms(kind) if kind else label_synonyms(label) or plain
        added = [(text, _SHARE / len(group)) for group in (plain, other) for text in group]
    return dataclasses.replace(pair, labels=(label,), kind=pair.kind or kind,
                               captions=(*pair.captions, *added))
