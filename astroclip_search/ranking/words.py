# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How much the metadata of rows count for a phrase. Pure numpy.

Metadata are near a phrase for several reasons. The target may be what is asked for; the programme
may be about it, whatever the picture shows; and every title is a little nearer to one phrase than
to another. So what is as near as unrelated metadata often are does not count at all, and the rest
counts less where the pictures do not agree with it, or where no word of the phrase is said.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ['NAMED', 'NO_METADATA', 'UNKNOWN', 'RowWords', 'counted', 'informative', 'read_words',
           'without_titles']

NO_METADATA = 0.6
"""
Standardised cosine that stands for metadata that a row does not have, where all metadata count.
Those of a row that shows what is asked are above it on average, those of other rows below.
"""

UNKNOWN = 0.3
"""
The same where metadata count from a threshold on: how far above it.
"""

NAMED = 10.0
"""
What a row gets whose target has the name that is asked for: more than any other metadata have.
"""

# Standardised cosine above which a name is what is asked for. Below it lies what a name happens to
# sound like: "NGC 891" like all galaxies, "M 13" like no globular cluster.
_NAMED = 3.0

_WORDS_OF_A_NAME = 4

# "NGC 891", "SN 2011fe".
_NUMBERED = re.compile(r'\s*[^\W\d_]+[\W_]*\d+\w*\s*')

# What only titles say counts this much, where rows have a class as well.
_TITLES = 0.75

# What metadata count at least if the pictures of the best of them are like all others. They count
# in full from that many standard deviations on.
_DISAGREEING = 0.5
_AGREEING = 1.2

# What metadata count at least if the best of them say no word of the phrase. They count in full if
# one says that part of its words, weighed by how seldom the table says each.
_UNSAID = 0.35
_SAID = 0.5

# So many texts tell which words are seldom.
_SAMPLE = 2000

# Of that many texts, and of tables of at least that many rows.
_BEST = 10
_FEWEST = 20

_STOP_WORDS = frozenset('a an and at by for from in its of on or seen the to with'.split())


@dataclass(frozen=True)
class RowWords:
    """
    What the metadata of the rows of a table say, letter by letter, of some phrases.

    Attributes
    ----------
    texts : sequence of str
        Metadata of each row, empty where it has none.
    phrases : list of str
        What is asked.
    least : ndarray
        What the standardised cosine of each row's metadata must exceed to count, float32 (n,).
    named : ndarray
        Whether the target of each row has a phrase as its name, bool (n,).
    """

    texts: Sequence[str]
    phrases: list[str]
    least: np.ndarray
    named: np.ndarray


def read_words(texts: Sequence[str], phrases: list[str]) -> RowWords:
    """
    Look for some phrases in the metadata of rows.
    """
    texts = list(texts)
    least, named = np.full(len(texts), -np.inf, np.float32), np.zeros(len(texts), bool)
    patterns = [pattern for pattern in map(_name_pattern, phrases) if pattern]
    # One search through all of them at once takes a fifth of the time of one for each row.
    together = '\n' + '\n'.join(texts) if patterns else ''
    found = [match.start() for pattern in patterns
             for match in re.finditer(f'\n(?i:{pattern})', together)]
    if found:
        starts = np.cumsum([0, *(len(text) + 1 for text in texts)])[:-1]
        named[np.isin(starts, found)] = True
    bare = [row for row, text in enumerate(texts) if ', ' not in text]
    # Many rows may have one target, or none.
    names = dict.fromkeys(texts[row] for row in bare)
    least[bare] = list(map(dict(zip(names, _least(names, phrases), strict=True)).__getitem__,
                           (texts[row] for row in bare)))
    matches = [re.compile(pattern, re.IGNORECASE).match for pattern in patterns]
    several = {text for text in names if '; ' in text and any(
        match(name) for name in text.split('; ') for match in matches)}
    if several:
        named[[row for row in bare if texts[row] in several]] = True
    return RowWords(texts, phrases, least, named)


def _name_pattern(phrase: str) -> str:
    """
    An expression that matches metadata whose target is what a phrase names; empty if it names none.

    Names are written in many ways: "NGC 628", "NGC-0628", "NGC628-NIRCAM". What has a number may go
    on with anything but a digit; other names are the whole target.
    """
    tokens = re.findall(r'\d+|[^\W\d_]+', phrase.lower())
    numbered = any(token.isdecimal() for token in tokens)
    if not tokens or all(token.isdecimal() for token in tokens):
        return ''
    parts = [f'0*{token.lstrip("0")}' if token.isdecimal() else
             '(?:m|messier)' if numbered and token in ('m', 'messier') else re.escape(token)
             for token in tokens]
    return r'[\W_]*'.join(parts) + (r'(?!\d)' if numbered else r'[\W_]*?(?:\Z|[,;] )')


def _least(names: Iterable[str], phrases: Sequence[str]) -> list[float]:
    """
    What the standardised cosine of metadata without a comma must exceed to count.

    A name, or several, with neither a title nor a class, says little. To a phrase of one word any
    short name is similar: only one that has this word counts. To "M 13" all names with a number
    are, and none is of the same object.
    """
    words = [phrase.lower().split() for phrase in phrases]
    single = {word for word, in words} if all(len(of_one) == 1 for of_one in words) else None
    numbered = bool(phrases) and all(map(_NUMBERED.fullmatch, phrases))

    def least(name: str) -> float:
        if name.count(' ') >= _WORDS_OF_A_NAME and any(
                part.count(' ') >= _WORDS_OF_A_NAME for part in name.split('; ')):
            return -np.inf
        if numbered or (single is not None
                        and single.isdisjoint(re.findall(r'\w+', name.lower()))):
            return np.inf
        return _NAMED

    return list(map(least, names))


def counted(metadata: np.ndarray, least: np.ndarray | float, above: float | None) -> np.ndarray:
    """
    What metadata of some standardised cosines (n,) count, before any weight.

    With a threshold, what they are above it; without one all of them, as before it was fitted. What
    is not known, or not above ``least``, stands between metadata that fit and metadata that do not.
    """
    unknown = ~(metadata > least)  # NaN too
    if above is None:
        return np.where(unknown, NO_METADATA, metadata)
    return np.where(unknown, UNKNOWN, np.maximum(metadata - above, 0))


def without_titles(counts: np.ndarray, classes: np.ndarray, above: float) -> np.ndarray:
    """
    The same (n,) with less for what only the title says and not the class.

    ``classes`` are standardised cosines of the classes, NaN for rows without one. The rows of one
    proposal share its title, which is about its aim, and not about each of its pictures.
    """
    said = np.minimum(counts, np.maximum(classes - above, 0))
    return np.where(np.isnan(classes), counts, _TITLES * counts + (1 - _TITLES) * said)


def informative(image: np.ndarray, metadata: np.ndarray, words: RowWords, above: float) -> float:
    """
    How much the metadata of a table tell of a phrase, from 0 to 1.

    It is 0 if none are near it. Otherwise the best of them are asked whether the pictures that they
    belong to look more like the phrase than the others do, each text once, and whether they say the
    words of the phrase. ``image`` and ``metadata`` (n,) are standardised cosines.
    """
    rows = np.flatnonzero(metadata > np.maximum(words.least, above))
    if not len(rows):
        return 0.0
    values, first, text = np.unique(metadata[rows], return_index=True, return_inverse=True)
    said = _said([words.texts[row] for row in rows[first[-_BEST:]].tolist()], words)
    seen = ~np.isnan(image)
    agreement = 1.0
    if seen.sum() >= _FEWEST and seen[rows].any():
        shown = seen[rows]
        n = np.bincount(text[shown], minlength=len(values))
        pictures = np.bincount(text[shown], image[rows[shown]], len(values))[n > 0] / n[n > 0]
        lift = pictures[-_BEST:].mean() - image[seen].mean()
        agreement = min(max(lift / max(float(image[seen].std()) * _AGREEING, 1e-6), 0), 1)
    return float((_DISAGREEING + (1 - _DISAGREEING) * agreement)
                 * (_UNSAID + (1 - _UNSAID) * min(said / _SAID, 1)))


def _said(texts: Sequence[str], words: RowWords) -> float:
    """
    The part of a phrase that one of some texts says, in any of its endings: the largest part.

    A word that most rows say is a small part: "star" in titles about star formation (inverse
    document frequency, Spärck Jones 1972).
    """
    known = [re.findall(r'\w+', text.lower()) for text in texts]
    step = -(-len(words.texts) // _SAMPLE)
    distinct = list(dict.fromkeys(words.texts[::max(step, 1)]))
    together = '\n'.join(distinct).lower()
    found = [0.0]
    for phrase in words.phrases:
        stems = {word[:max(4, len(word) - 3)] for word in re.findall(r'\w+', phrase.lower())
                 if word not in _STOP_WORDS}
        weights = {stem: _seldom(stem, together, len(distinct)) for stem in stems}
        found.extend(sum(weight for stem, weight in weights.items()
                         if any(word.startswith(stem) for word in own)) / sum(weights.values())
                     if weights else 1.0 for own in known)
    return max(found)


def _seldom(stem: str, texts: str, n: int) -> float:
    """
    How seldom n texts, one a line, have a word that begins like this.
    """
    having = sum(1 for _ in re.finditer(rf'^.*?\b{stem}', texts, re.MULTILINE))
    return math.log(1 + n / (having + 0.5))
