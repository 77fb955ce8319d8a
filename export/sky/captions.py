"""Words for scenes: class phrases, details that are really there, styles, templates."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ['HELD_OUT', 'caption', 'names']

_PHRASES = tomllib.loads(Path(__file__).with_name('phrases.toml').read_text(encoding='utf-8'))

HELD_OUT: dict[str, tuple[str, ...]] = {
    kind: tuple(phrases) for kind, phrases in _PHRASES['held_out'].items()}

# '{a}' is the phrase with its article, '{}' the phrase alone.
TEMPLATES = ('{}', '{}', '{}', '{a}', 'an image of {a}', 'astronomical image of {a}',
             'telescope image of {a}', 'a picture of {a}', '{} observed with a telescope',
             'observation of {a}', 'photo of {a}', 'preview image: {}', '{} in the sky',
             'archive image showing {a}', 'imaging of {a}', 'target: {}', 'show me {a}',
             'find images of {a}')

# Kinds whose details, not class phrases, are what people ask for.
SPECIFIC = frozenset(('artifact', 'spectrum', 'plot', 'calibration', 'planet', 'sun',
                      'night_landscape', 'eclipse', 'all_sky_map', 'star_field'))

# Names and words for stuff and activities, which take no article.
NO_ARTICLE = frozenset((
    'dust', 'gas', 'glare', 'light', 'starlight', 'nothing', 'imaging', 'lensing', 'debris',
    'medium', 'emission', 'noise', 'spectroscopy', 'activity', 'bleeding', 'Milky', 'Jupiter',
    'Saturn', 'Mars', 'Venus', 'Neptune', 'Uranus', 'Earth', 'totality', 'blooming', 'hydrogen',
    'phase', 'cirrus', 'the', 'charge', 'spectra', 'Sun', 'EUV', 'background', 'aurora', 'Way',
    'extreme', 'borealis'))
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


def details(kind: str, attributes: dict[str, Any]) -> list[list[str]]:
    """Return the groups of more precise phrases that are true for these attributes."""
    known = _PHRASES['details'].get(kind, {})
    values = {name: str(value).lower() if isinstance(value, bool | int) else value
              for name, value in attributes.items()}
    return [known[name][value] for name, value in values.items()
            if name in known and value in known[name]]


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
    precisely = precise and rng.random() < (0.8 if kind in SPECIFIC else 0.45)
    phrase = pick(pick(precise)) if precisely else pick(general)
    if not precisely and precise and rng.random() < 0.12:
        phrase = f'{phrase}, {pick(pick(precise))}'
    elif kind in _PHRASES['absent'] and rng.random() < 0.03:
        phrase = f'{phrase}, no {pick(_PHRASES["absent"][kind])}'
    styles = _PHRASES['styles']
    look = styles[attributes.get('style', 'figure')]
    draw = rng.random()
    if draw < 0.13 and look:
        adjective = pick(look)
        return f'{adjective} image of {phrase}' if rng.random() < 0.5 else f'{phrase}, {adjective}'
    if draw < 0.17 and attributes.get('mosaic'):
        return f'{phrase}, {pick(styles["mosaic"])}'
    if draw < 0.6:
        return pick(TEMPLATES).format(phrase, a=with_article(phrase))
    return phrase
