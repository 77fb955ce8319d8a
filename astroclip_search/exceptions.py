# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Errors and warnings.

::

    ClipSearchError
    +-- BundleError      a model bundle is missing, incomplete or altered
    +-- EncoderError     the model could not be run
    +-- ImageError       an image could not be fetched or decoded

    ClipSearchWarning (of AstropyUserWarning)
    +-- NothingRankedWarning      the table is empty, or no row could be ranked
    +-- NothingStandsOutWarning   unrelated rows would often look as good as the best of these
    +-- UnreadImagesWarning       some images could not be read
    +-- LeftOutWarning            some files of a folder do not seem to be images
    +-- NoColourWarning           no three rows are one field in three filters
    +-- UnfinishedWarning         some images were left for the next call
    +-- LostEmbeddingsWarning     some embeddings are not kept any more
    +-- LongPhraseWarning         the model does not read the end of a phrase
    +-- IncompleteQueryWarning    an archive has more rows than it sent, or did not send some
    +-- UncalibratedWarning       false-alarm rates are missing or uncertain
    +-- TableFormatWarning        a file format cannot hold some of a table

The `ImageError` of a row never leaves `~astroclip_search.ClipSearchClass.rank`: it becomes the
status and the message of the row. The one of an example image does. For errors that astroquery has
a name for, the package raises astroquery's own classes: ``InvalidQueryError`` for bad arguments,
``RemoteServiceError``, ``TimeoutError`` and ``ResolverError`` for archives.
"""

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from astropy.utils.exceptions import AstropyUserWarning

from .status import Reason, reason

__all__ = ['BundleError', 'ClipSearchError', 'ClipSearchWarning', 'EncoderError', 'ImageError',
           'IncompleteQueryWarning', 'LeftOutWarning', 'LongPhraseWarning', 'LostEmbeddingsWarning',
           'NoColourWarning', 'NothingRankedWarning', 'NothingStandsOutWarning',
           'TableFormatWarning', 'UncalibratedWarning', 'UnfinishedWarning', 'UnreadImagesWarning']

_PACKAGE = str(Path(__file__).parent) + os.sep


class ClipSearchError(Exception):
    """
    Root of the errors of this package.
    """

    def __str__(self) -> str:
        return visible(super().__str__())


class BundleError(ClipSearchError):
    """
    A model bundle is missing, incomplete, altered or of an unknown layout.
    """


class EncoderError(ClipSearchError):
    """
    The model could not be opened or run.
    """


class ImageError(ClipSearchError):
    """
    An image could not be fetched or decoded.

    Parameters
    ----------
    because : str or Reason
        A key of ``astroclip_search.status.REASONS``, or a reason that is complete.
    url : str
        The address or path of the image.
    status : {'ERROR', 'DENIED', 'NO_IMAGE', 'SKIPPED'}, optional
        The ``clip_status`` of the row that asked for the image, where it is not the usual one of
        the reason.
    **parts
        What completes the sentence.

    Attributes
    ----------
    because : Reason
        Code, status and sentence.
    """

    def __init__(self, because: str | Reason, url: str = '', *, status: str | None = None,
                 **parts: Any):
        if isinstance(because, str):
            because = reason(because, status=status, **parts)
        super().__init__(because, url)
        self.because = because
        self.url = url

    @property
    def reason(self) -> str:
        """
        What went wrong, in a few words.
        """
        return self.because.sentence

    @property
    def status(self) -> str:
        """
        The ``clip_status`` of the row that asked for the image.
        """
        return self.because.status

    def __str__(self) -> str:
        return visible(f'{self.reason}: {self.url}' if self.url else self.reason)


class ClipSearchWarning(AstropyUserWarning):
    """
    Root of the warnings of this package.
    """


class NothingRankedWarning(ClipSearchWarning):
    """
    The table is empty, or no row could be ranked.
    """


class NothingStandsOutWarning(ClipSearchWarning):
    """
    Unrelated rows would often look as good as the best of these, or no row passes a filter.
    """


class UnreadImagesWarning(ClipSearchWarning):
    """
    Some images could not be read.
    """


class LeftOutWarning(ClipSearchWarning):
    """
    Some files of a folder, or of a pattern, were left out: nothing says that they are images.
    """


class NoColourWarning(ClipSearchWarning):
    """
    Colour was asked for, and no rows show one field in three filters.
    """


class UnfinishedWarning(ClipSearchWarning):
    """
    Some images were left out: there were too many, too little time, or an interruption.
    """


class LostEmbeddingsWarning(ClipSearchWarning):
    """
    The cache no longer has the embeddings of some rows.
    """


class LongPhraseWarning(ClipSearchWarning):
    """
    The model does not read the end of a phrase.
    """


class IncompleteQueryWarning(ClipSearchWarning):
    """
    An archive has more rows than it sent, or did not answer a part of the query.
    """


class UncalibratedWarning(ClipSearchWarning):
    """
    The model has no reference images, so that its scores cannot be compared between phrases; or the
    false-alarm rates of a phrase may be far off for an archive unlike them.
    """


class TableFormatWarning(ClipSearchWarning):
    """
    A file format cannot hold some of a table as it is.
    """


def invalid(message: str) -> Exception:
    """
    astroquery's ``InvalidQueryError``, to be raised by the caller for bad arguments.

    The class is imported here, so that importing this package does not import astroquery.
    """
    from astroquery.exceptions import InvalidQueryError

    return InvalidQueryError(visible(message))


def expected_errors() -> tuple[type[Exception], ...]:
    """
    The errors whose message tells the user what to do; all others are defects.
    """
    from astroquery.exceptions import InvalidQueryError, RemoteServiceError, ResolverError
    from requests.exceptions import RequestException

    return (ClipSearchError, InvalidQueryError, RemoteServiceError, ResolverError,
            RequestException, OSError)


def warn(message: str, category: type[ClipSearchWarning]) -> None:
    """
    A warning that names the line of the user's own code, unless it is `collected`.
    """
    message = visible(message)
    heard = _heard.get()
    if heard is not None:
        heard.append(category(message))
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


_heard: ContextVar[list[ClipSearchWarning] | None] = ContextVar('heard', default=None)


@contextlib.contextmanager
def collected() -> Iterator[list[ClipSearchWarning]]:
    """
    The warnings of this package, in place of being shown; those of other threads are not.
    """
    found: list[ClipSearchWarning] = []
    token = _heard.set(found)
    try:
        yield found
    finally:
        _heard.reset(token)


# Halves of surrogate pairs stand for the bytes of file names that are not UTF-8.
_HALVES = re.compile('[\ud800-\udfff]')

# What some readers take for the end of a line, or of all.
_LINE_ENDS = re.compile('[\x00\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029]')


def legible(text: str) -> str:
    """
    Make text that every file can hold.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        What is not Unicode becomes the sign for that, and unusual line ends become spaces.
    """
    return _LINE_ENDS.sub(' ', _HALVES.sub('\ufffd', text))


# Control characters, and what is not seen itself but turns, joins or hides what is beside it.
_SPACING = re.compile('[\t\x0b\x0c\r\x1c-\x1f\x85\u2028\u2029]')
_UNSEEN = re.compile('[\x00-\x08\x0e-\x1b\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f'
                     '\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f'
                     '\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffc'
                     '\ud800-\udfff\U000110bd\U000110cd\U00013430-\U0001343f'
                     '\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a'
                     '\U000e0000-\U000e0fff]'
                     # One of these chooses the form of the letter before it; more say nothing.
                     '|(?<=[\ufe00-\ufe0f])[\ufe00-\ufe0f]')


def visible(text: str) -> str:
    """
    Make text of which a reader sees all that is there.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        Control characters but the end of a line, marks that turn the direction of writing, joiners
        and other characters that are not seen, and halves of surrogate pairs, are the sign for
        what is unknown; tabs and unusual line ends are spaces.
    """
    if text.isascii() and text.replace('\n', '').isprintable():
        return text
    return _UNSEEN.sub('\ufffd', _SPACING.sub(' ', text))


def one_line(error: object, limit: int = 200) -> str:
    """
    What an error, a server or a parser says, on one line; for an error without words its type.
    """
    said = ' '.join(str(error).split()) or type(error).__name__
    return visible(''.join(character for character in said if character.isprintable()))[:limit]
