# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the user typed, checked before anything is asked of an archive or a model.
"""

from collections.abc import Iterable
from numbers import Integral

__all__ = ['MAX_CHARACTERS', 'check_count', 'check_phrases', 'check_query', 'invalid']

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


def check_query(text: str | Iterable[str], *, negative: str | Iterable[str] | None = None,
                by: str = 'both', limit: int | None = None) -> tuple[list[str], list[str]]:
    """
    The arguments that all verbs share.

    Parameters
    ----------
    text : str or iterable of str
        What the image shows.
    negative : str or iterable of str, optional
        What the image should not show.
    by : str
        What shall count.
    limit : int or None
        Rows that are returned.

    Returns
    -------
    phrases, negatives : list of str
        As from `check_phrases`.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If one of them makes no sense.
    """
    phrases = check_phrases(text)
    negatives = check_phrases(negative, 'negative') if negative is not None else []
    if by not in ('both', 'image', 'text'):
        raise invalid(f"by must be 'both', 'image' or 'text', not {by!r}.")
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
