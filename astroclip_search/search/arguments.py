# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the user typed, checked before anything is asked of an archive or a model.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from ..exceptions import invalid

__all__ = ['MAX_CHARACTERS', 'Asked', 'ImageOptions', 'RankOptions', 'check', 'check_columns',
           'check_count', 'check_criteria', 'check_images', 'check_phrases', 'check_rate',
           'check_weights', 'make_options']

MAX_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """
    Options of all verbs that embed images; `ClipSearchClass.rank` says what they mean.
    """

    image_dir: str | Path | None = None
    image_column: str | Sequence[str] | None = None
    cutout: Any = None
    colour: bool = False
    sky_context: str | None = None
    max_images: int | None = None
    cache: bool = True
    show_progress: bool | str | None = None


@dataclass(frozen=True, kw_only=True)
class RankOptions(ImageOptions):
    """
    Options of all verbs that rank.
    """

    limit: int | None = None
    by: str = 'both'
    negative: str | Sequence[str] | None = None
    like: Any = None
    unlike: Any = None
    weights: dict[str, float] | None = None
    group_by: str | Sequence[str] | None = None
    fold_duplicates: bool | float | None = None


# Arguments of single verbs, which a user may have misspelt.
_OF_VERBS = ['coordinates', 'object_name', 'radius', 'resolver', 'criteria', 'pos', 'band', 'time',
             'collection', 'maxrec', 'version', 'service', 'uploads', 'language', 'phrases']

Options = TypeVar('Options', bound=ImageOptions)


@dataclass(frozen=True)
class Asked:
    """
    A query that makes sense: its phrases, weights by part, and the cosine of duplicates.
    """

    phrases: list[str]
    negatives: list[str]
    weights: dict[str, float]
    cosine: float | None


def make_options(kind: type[Options], verb: str, given: Mapping[str, Any]) -> Options:
    """
    The options of a verb; an unknown one is an error that says what the user may have meant.
    """
    known = [field.name for field in fields(kind)]
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known + [own for own in _OF_VERBS
                                                            if own != name], 1)
            hint = f': do you mean {near[0]}?' if near else '.'
            if verb.startswith('query') and verb != 'query_tap' and not near:
                hint = f': a criterion of the archive goes in criteria={{{name!r}: {value!r}}}.'
            raise invalid(f'{verb} has no option {name!r}{hint}')
    return kind(**given)


def check(text: str | Iterable[str] | None, options: RankOptions) -> Asked:
    """
    Whether a query makes sense; of example images only whether there are any is looked at.
    """
    from ..ranking.order import COPY_COSINE, DUPLICATE_COSINE

    given = {'like': options.like is not None, 'unlike': options.unlike is not None}
    if text is None and not given['like']:
        raise invalid('text must be a phrase such as "tidal tail", or a list of phrases; or give '
                      'like, an example image.')
    if given['like'] and isinstance(text, str) and not text.strip():
        raise invalid('text is empty: leave it out to rank by the example images alone.')
    phrases = check_phrases(text) if text is not None else []
    negatives = check_phrases(options.negative, 'negative') if options.negative is not None else []
    if options.by not in ('both', 'image', 'metadata'):
        raise invalid(f"by must be 'both', 'image' or 'metadata', not {options.by!r}.")
    if options.by == 'metadata' and any(given.values()):
        raise invalid("Example images are compared with pictures: use by='both' or by='image'.")
    check_count(options.limit, 'limit', 'all rows', least=1)
    weights = check_weights(options.weights, ['text'] * bool(phrases)
                            + [name for name, is_given in given.items() if is_given])
    cosine = _check_fraction(options.fold_duplicates, 'fold_duplicates', DUPLICATE_COSINE)
    if cosine is not None and options.by == 'metadata':
        raise invalid("fold_duplicates compares pictures: use by='both' or by='image'.")
    if options.fold_duplicates is None and options.by != 'metadata':
        cosine = COPY_COSINE
    check_images(options)
    return Asked(phrases, negatives, weights, cosine)


def check_images(options: ImageOptions) -> None:
    """
    Whether the options of images make sense.
    """
    check_count(options.max_images, 'max_images', 'conf.max_images')
    if not isinstance(options.image_dir, str | Path | None):
        raise invalid(f'image_dir must be the path of a folder, not {options.image_dir!r}.')
    check_columns(options.image_column)
    if options.show_progress not in (None, True, False, 'live'):
        raise invalid("show_progress must be True, False or 'live', not "
                      f'{options.show_progress!r}.')


def check_columns(image_column: str | Sequence[str] | None) -> None:
    """
    Whether something names columns; whether there are such is said where the table is.
    """
    names = [image_column] if isinstance(image_column, str) else image_column
    if names is not None and not (isinstance(names, list | tuple) and names
                                  and all(isinstance(name, str) for name in names)):
        raise invalid(f'image_column must be the name of a column, or a list of names, not '
                      f'{image_column!r}.')


def check_phrases(text: str | Iterable[str], name: str = 'text') -> list[str]:
    """
    The phrases of the argument ``name`` as a list, with single spaces.
    """
    if isinstance(text, str):
        text = [text]
    phrases = list(text) if isinstance(text, Iterable) else []
    if not phrases or not all(isinstance(phrase, str) for phrase in phrases):
        raise invalid(f'{name} must be a phrase such as "tidal tail", or a list of phrases.')
    phrases = [' '.join(phrase.split()) for phrase in phrases]
    if not all(any(character.isalnum() for character in phrase) for phrase in phrases):
        raise invalid(f'{name} has no word: say what the image shows, such as "tidal tail".')
    longest = max(map(len, phrases))
    if longest > MAX_CHARACTERS:
        raise invalid(f'{name} has {longest} characters, the limit is {MAX_CHARACTERS}: say in '
                      'one sentence what the image shows.')
    return phrases


def check_count(value: int | None, name: str, default: str, *, least: int = 0) -> None:
    """
    Whether an argument is a number of rows or images; ``default`` is what `None` stands for.
    """
    if value is not None and not (isinstance(value, Integral) and value >= least):
        raise invalid(f'{name} must be a whole number of at least {least}, or None for {default}.')


def check_rate(false_alarm_rate: float) -> None:
    """
    Whether something is a false-alarm rate.
    """
    if not (isinstance(false_alarm_rate, Real) and 0 < false_alarm_rate < 1):
        raise invalid('false_alarm_rate must be between 0 and 1.')


def check_criteria(criteria: Any) -> dict[str, Any]:
    """
    The criteria of an archive, as a dictionary of the caller's own.
    """
    if criteria is None:
        return {}
    if not isinstance(criteria, Mapping) or not all(
            isinstance(name, str) and name != 'self' and value is not None
            for name, value in criteria.items()):
        raise invalid('criteria must be a dictionary such as {"instrument_name": "ACS/WFC"}.')
    return dict(criteria)


def check_weights(weights: dict[str, float] | None,
                  asked: Sequence[str] = ()) -> dict[str, float]:
    """
    Weights by part as plain floats; one of the parts that are asked must count.
    """
    from ..ranking.query import PARTS

    if weights is None:
        return {}
    if not isinstance(weights, dict) or not weights.keys() <= set(PARTS):
        raise invalid(f'weights must be a dictionary with some of the keys {", ".join(PARTS)}.')
    for name, value in weights.items():
        if not isinstance(value, Real) or not 0 <= value < float('inf'):
            raise invalid(f'The weight {name!r} must be a number of at least 0: say what is not '
                          'wanted with negative or unlike.')
    if asked and all(weights.get(name) == 0 for name in asked):
        raise invalid('All weights of what is asked are 0, so nothing counts.')
    return {name: float(value) for name, value in weights.items()}


def _check_fraction(value: bool | float | None, name: str, default: float) -> float | None:
    """
    A switch that may also be a threshold; `None` if it is off.
    """
    if value is None or isinstance(value, bool):
        return default if value else None
    if not isinstance(value, Real) or not 0 < value <= 1:
        raise invalid(f'{name} must be True, False, or a cosine above 0 and up to 1.')
    return float(value)
