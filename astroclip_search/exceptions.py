# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Errors and warnings.

::

    ClipSearchError
    +-- BundleError      a model bundle is missing, incomplete or altered
    +-- EncoderError     the model could not be run
    +-- PreviewError     an image could not be fetched or decoded (.reason, .url, .status)

A `PreviewError` of a row never leaves `~astroclip_search.ClipSearchClass.rank`: it becomes the
status and the message of the row. That of an example image does. For everything that astroquery has
a name for, its own classes are used: `astroquery.exceptions.InvalidQueryError`,
``NoResultsWarning``, ``LargeQueryWarning``, ``BlankResponseWarning``, ``InputWarning``.
"""

__all__ = ['BundleError', 'ClipSearchError', 'EncoderError', 'PreviewError']


class ClipSearchError(Exception):
    """
    Root of the errors of this package.
    """


class BundleError(ClipSearchError):
    """
    A model bundle is missing, incomplete, altered or of an unknown layout.
    """


class EncoderError(ClipSearchError):
    """
    The model could not be opened or run.
    """


class PreviewError(ClipSearchError):
    """
    An image could not be fetched or decoded.

    Parameters
    ----------
    reason : str
        What went wrong, in a few words.
    url : str
        The address or path of the image.
    status : {'ERROR', 'DENIED', 'NO_IMAGE', 'SKIPPED'}
        The ``clip_status`` of the row that asked for the image.
    """

    def __init__(self, reason: str, url: str = '', *, status: str = 'ERROR'):
        super().__init__(reason)
        self.reason = reason
        self.url = url
        self.status = status

    def __str__(self) -> str:
        return f'{self.reason}: {self.url}' if self.url else self.reason
