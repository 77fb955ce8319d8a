# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the user typed, checked before anything is asked of an archive or a model.
"""

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

__all__ = ['MAX_CHARACTERS', 'check_count', 'check_fraction', 'check_phrases', 'check_progress',
           'check_query', 'check_weights', 'invalid']

MAX_CHARACTERS = 2000


def invalid(message: str) -> Exception:
    """
    The error for bad arguments.

    Parameters
    ----------
    message : str
        One sentence that says what to do.

    Returns
    -------
    astroquery.exceptions.InvalidQueryError
        To be raised by the caller. The class is imported here, so that importing this package
        does not import astroquery.
    """
    from astroquery.exceptions import InvalidQueryError

    return InvalidQueryError(message)


def check_phrases(text: str | Iterable[str], name: str = 'text') -> list[str]:
    """
    Phrases as a list.

    Parameters
    ----------
    text : str or iterable of str
        One phrase or several.
    name : str
        Name of the argument, for the error.

    Returns
    -------
    list of str
        Phrases with single spaces.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If there is none, or one has no word or is too long.
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


def check_query(text: str | Iterable[str] | None, *,
                negative: str | Iterable[str] | None = None, by: str = 'both',
                limit: int | None = None, like: Any = None,
                unlike: Any = None) -> tuple[list[str], list[str]]:
    """
    The arguments that all verbs share.

    Parameters
    ----------
    text : str, iterable of str, or None
        What the image shows; may be `None` if there is an example.
    negative : str or iterable of str, optional
        What the image should not show.
    by : str
        What shall count.
    limit : int or None
        Rows that are returned.
    like, unlike : object, optional
        Example images; only whether there are any is looked at.

    Returns
    -------
    phrases, negatives : list of str
        As from `check_phrases`.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If one of them makes no sense.
    """
    if text is None and like is None:
        raise invalid('text must be a phrase such as "tidal tail", or a list of phrases; or give '
                      'like, an example image.')
    phrases = check_phrases(text) if text is not None else []
    negatives = check_phrases(negative, 'negative') if negative is not None else []
    if by not in ('both', 'image', 'text'):
        raise invalid(f"by must be 'both', 'image' or 'text', not {by!r}.")
    if by == 'text' and not (like is None and unlike is None):
        raise invalid("Example images are compared with pictures: use by='both' or by='image'.")
    check_count(limit, 'limit', 'all rows', least=1)
    return phrases, negatives


def check_count(value: int | None, name: str, default: str, *, least: int = 0) -> None:
    """
    Whether something is a number of rows or images.

    Parameters
    ----------
    value : int or None
        The argument.
    name : str
        Its name, for the error.
    default : str
        What `None` stands for, for the error.
    least : int
        Smallest value that makes sense.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is none.
    """
    if value is not None and not (isinstance(value, Integral) and value >= least):
        raise invalid(f'{name} must be a whole number of at least {least}, or None for {default}.')


def check_weights(weights: dict[str, float] | None,
                  asked: Sequence[str] = ()) -> dict[str, float]:
    """
    What each part of a query counts.

    Parameters
    ----------
    weights : dict or None
        Weight by name of the part.
    asked : sequence of str
        Parts that the query has, as far as they are known.

    Returns
    -------
    dict
        Plain floats.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If there is no such part, a weight is no number of at least 0, or nothing counts.
    """
    from .query import PARTS

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


def check_fraction(value: bool | float, name: str, default: float) -> float | None:
    """
    A switch that may also be a threshold.

    Parameters
    ----------
    value : bool or float
        The argument.
    name : str
        Its name, for the error.
    default : float
        What `True` stands for.

    Returns
    -------
    float or None
        The threshold, `None` if it is off.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is neither.
    """
    if isinstance(value, bool):
        return default if value else None
    if not isinstance(value, Real) or not 0 < value <= 1:
        raise invalid(f'{name} must be True, False, or a cosine above 0 and up to 1.')
    return float(value)


def check_progress(value: bool | str) -> None:
    """
    How much is shown of the progress.

    Parameters
    ----------
    value : bool or str
        The argument ``show_progress``.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is neither a truth value nor ``'live'``.
    """
    if value not in (True, False, 'live'):
        raise invalid(f"show_progress must be True, False or 'live', not {value!r}.")
