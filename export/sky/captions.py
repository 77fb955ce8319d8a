"""Words for scenes: class phrases, details that are really there, styles, templates."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ['HELD_OUT', 'caption', 'label_synonyms', 'names', 'synonyms']

_PHRASES = tomllib.loads(Path(__file__).with_name('phrases.toml').read_text(encoding='utf-8'))

# Many more ways to say what the class phrases and the details say, one file for each field.
_SYNONYMS: dict[str, dict[str, Any]] = {'names': {}, 'details': {}}
for _file in ('galaxies', 'nebulae', 'solar'):
    _found = tomllib.loads(Path(__file__).with_name('synonyms').joinpath(f'{_file}.toml').read_text(
        encoding='utf-8'))
    for _section, _known in _SYNONYMS.items():
        _known.update(_found.get(_section, {}))
_LABELS = tomllib.loads(Path(__file__).with_name('synonyms').joinpath('labels.toml').read_text(
    encoding='utf-8'))['names']

HELD_OUT: dict[str, tuple[str, ...]] = {
    kind: tuple(phrases) for kind, phrases in _PHRASES['held_out'].items()}

# '{a}' is the phrase with its article, '{}' the phrase alone.
TEMPLATES = ('{}', '{}', '{}', '{a}', 'an image of {a}', 'astronomical image of {a}',
             'telescope image of {a}', 'a picture of {a}', '{} observed with a telescope',
             'observation of {a}', 'photo of {a}', 'preview image: {}', '{} in the sky',
             'archive image showing {a}', 'imaging of {a}', 'target: {}', 'show me {a}',
             'find images of {a}')

PLAIN = ('{}', '{}', '{a}', 'an image of {a}', 'a picture of {a}', 'photo of {a}', 'show me {a}',
         'find images of {a}')

# Kinds that show no target of a telescope.
NOT_SKY = frozenset(('plot', 'diagram', 'finder_chart', 'people', 'launch', 'spacecraft',
                     'observatory', 'calibration', 'spectrum', 'night_landscape', 'x_ray'))

# Kinds whose details, not class phrases, are what people ask for.
SPECIFIC = frozenset(('artifact', 'spectrum', 'plot', 'calibration', 'planet', 'sun',
                      'night_landscape', 'eclipse', 'all_sky_map', 'star_field', 'x_ray',
                      'diagram', 'people', 'observatory', 'planet_surface', 'spacecraft'))

# Names and words for stuff and activities, which take no article.
NO_ARTICLE = frozenset((
    'dust', 'gas', 'glare', 'light', 'starlight', 'nothing', 'imaging', 'lensing', 'debris',
    'medium', 'emission', 'noise', 'spectroscopy', 'activity', 'bleeding', 'Milky', 'Jupiter',
    'Saturn', 'Mars', 'Venus', 'Neptune', 'Uranus', 'Earth', 'totality', 'blooming', 'hydrogen',
    'phase', 'cirrus', 'the', 'charge', 'spectra', 'Sun', 'EUV', 'background', 'aurora', 'Way',
    'extreme', 'borealis', 'people', 'persons', 'crew', 'ground', 'terrain', 'lift-off',
    'spacewalk', 'ISM', 'formation', 'X-ray', 'FR', 'FRI', 'FRII'))
BREAKS = frozenset(('with', 'of', 'in', 'on', 'around', 'from', 'without', 'over', 'at', 'seen',
                    'to', 'by', 'near', 'through', 'across', 'toward', 'between', 'fading',
                    'scattered', 'reflecting', 'silhouetted', 'suppressed', 'lit', 'surrounding',
                    'above', 'trailing', 'everywhere', 'ejecting', 'wrapped', 'connected',
                    'embedded', 'ionizing', 'versus', 'full', 'but', 'bound', 'interacting'))


def names(kind: str) -> tuple[str, ...]:
    """Return the plain class phrases of a kind.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    if kind not in _PHRASES['names']:
        raise ValueError(f'unknown kind {kind!r}; choose from {", ".join(_PHRASES["names"])}')
    return tuple(_PHRASES['names'][kind])


def synonyms(kind: str) -> tuple[str, ...]:
    """Return phrases that are true of every scene of a kind, in the many ways people talk.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    return tuple(_SYNONYMS['names'].get(kind, ())) or names(kind)


def label_synonyms(label: str) -> tuple[str, ...]:
    """Return phrases that are true of real images with a label; none for an unknown label."""
    return tuple(_LABELS.get(label, ()))


def details(kind: str, attributes: dict[str, Any]) -> list[list[str]]:
    """Return the groups of more precise phrases that are true for these attributes."""
    return _matching(_PHRASES['details'], kind, attributes)


def _matching(section, kind, attributes):
    known = section.get(kind, {})
    values = {name: str(value).lower() if isinstance(value, bool | int) else value
              for name, value in attributes.items()}
    return [known[name][value] for name, value in values.items()
            if name in known and value in known[name]]


def _compose(noun, clauses, rng):
    """Join clauses to a noun: 'spiral galaxy with a bar and two arms, no bulge'."""
    present = [clause for clause in clauses if not clause.startswith('no ')]
    absent = [clause for clause in clauses if clause.startswith('no ')]
    text = noun
    if present:
        # A noun that has its own 'with' is continued by a comma.
        join = ', ' if ' with ' in noun or rng.random() < 0.2 else ' with '
        text += join + ' and '.join(present)
    if absent:
        if rng.random() < 0.5 and not present:
            return f'{text} without {" or ".join(strip_no(clause) for clause in absent)}'
        text += ', ' + ', '.join(absent)
    return text


def strip_no(clause):
    """Turn 'no bar' into 'a bar', and leave plurals and stuff without an article."""
    return with_article(clause.removeprefix('no '))


def with_article(phrase: str) -> str:
    """Put 'a' or 'an' before a phrase that needs one."""
    words = phrase.split()
    head = next((i for i, word in enumerate(words) if i and word in BREAKS), len(words))
    noun = words[head - 1].rstrip(',')
    plural = noun.endswith('s') and not noun.endswith(('ss', 'us', 'is', 'lens'))
    if plural or noun in NO_ARTICLE or words[0] in NO_ARTICLE:
        return phrase
    # Spelled-out initials begin with the sound of the letter's name.
    initials = words[0].isupper() and len(words[0]) <= 3
    vowel = words[0][0] in ('AEFHILMNORSX' if initials else 'aeioAEIO')
    vowel = vowel or words[0].startswith(('unb', 'hour', 'X-'))
    vowel = vowel and not words[0].startswith('one')
    return f'{"an" if vowel else "a"} {phrase}'


def caption(kind: str, attributes: dict[str, Any], rng: np.random.Generator) -> str:
    """Compose one random caption of a scene.

    Parameters
    ----------
    kind : str
        One of `export.sky.KINDS`.
    attributes : dict
        Attributes of the scene; a phrase about a detail is used only if the detail is there.
    rng : numpy.random.Generator

    Returns
    -------
    str
        Never contains a phrase of `HELD_OUT`.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    def pick(choices):
        return choices[int(rng.integers(len(choices)))]

    general, precise = names(kind), details(kind, attributes)
    if rng.random() < 0.04 and kind in _PHRASES['catalogue']:
        return pick(_PHRASES['catalogue'][kind])
    draw = rng.random()
    if rng.random() < 0.35:
        # As people talk: no template fits every one of these.
        finer = _matching(_SYNONYMS['details'], kind, attributes)
        if finer and rng.random() < (0.7 if kind in SPECIFIC else 0.4):
            return pick(pick(finer))
        return pick(synonyms(kind))
    precisely = precise and draw < (0.8 if kind in SPECIFIC else 0.42)
    if precisely:
        phrase = pick(pick(precise))
    else:
        also = _PHRASES['also'].get(kind)
        phrase = pick(also) if also and rng.random() < 0.15 else pick(general)
    parts = _matching(_PHRASES['clauses'], kind, attributes)
    if parts and rng.random() < 0.3:
        chosen = rng.permutation(len(parts))[: rng.integers(1, 4)]
        return _compose(pick(general), [pick(parts[i]) for i in chosen], rng)
    if not precisely and precise and rng.random() < 0.12:
        phrase = f'{phrase}, {pick(pick(precise))}'
    elif kind in _PHRASES['absent'] and rng.random() < 0.03:
        phrase = f'{phrase}, no {pick(_PHRASES["absent"][kind])}'
    styles = _PHRASES['styles']
    look = styles[attributes.get('style', 'figure')]
    draw = rng.random()
    if draw < 0.12 and look:
        adjective = pick(look)
        return f'{adjective} image of {phrase}' if rng.random() < 0.5 else f'{phrase}, {adjective}'
    for mark in ('mosaic', 'annotated'):
        if draw < 0.2 and attributes.get(mark):
            return f'{phrase}, {pick(styles[mark])}'
    if draw < 0.6:
        return pick(PLAIN if kind in NOT_SKY else TEMPLATES).format(phrase, a=with_article(phrase))
    return phrase
