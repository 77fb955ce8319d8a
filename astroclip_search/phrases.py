# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the user typed, checked before anything is asked of an archive or a model.
"""

from collections.abc import Sequence

__all__ = ['MAX_CHARACTERS', 'check_by', 'check_phrases', 'invalid']

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


def check_phrases(text: str | Sequence[str], name: str = 'text') -> list[str]:
    """
    Phrases as a list.

    Parameters
    ----------
    text : str or sequence of str
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
        If there is none, or one is empty or too long.
    """
    phrases = [text] if isinstance(text, str) else list(text or ())
    if not phrases or not all(isinstance(phrase, str) for phrase in phrases):
        raise invalid(f'{name} must be a phrase such as "tidal tail", or a list of phrases.')
    phrases = [' '.join(phrase.split()) for phrase in phrases]
    if not all(any(character.isalnum() for character in phrase) for phrase in phrases):
        raise invalid(f'{name} is empty: say what the image shows, such as "tidal tail".')
    longest = max(map(len, phrases))
    if longest > MAX_CHARACTERS:
        raise invalid(f'{name} has {longest} characters, the limit is {MAX_CHARACTERS}: say in '
                      'one sentence what the image shows.')
    return phrases


def check_by(by: str) -> None:
    """
    Whether it is known what shall count.

    Parameters
    ----------
    by : str
        Argument ``by`` of the verbs.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is none of ``'both'``, ``'image'`` and ``'text'``.
    """
    if by not in ('both', 'image', 'text'):
        raise invalid(f"by must be 'both', 'image' or 'text', not {by!r}.")
