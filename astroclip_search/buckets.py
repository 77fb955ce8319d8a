# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Addresses of object stores -> open files, by fsspec, where the user has allowed it.

Without a protocol in ``conf.fsspec_protocols`` nothing here is ever used: a row of an archive must
not make us read a bucket, or a file of this machine.
"""

import contextlib
from collections.abc import Iterator
from typing import IO

from .exceptions import PreviewError
from .phrases import invalid
from .planes import one_line

__all__ = ['expand', 'is_allowed', 'opened']

# Files of the machine itself, which the user may name and a row of a table may not.
_LOCAL = ('file', 'local', 'memory')

# Public data need no account. What fsspec's own configuration says goes first.
_ANONYMOUS = {'s3': {'anon': True}, 's3a': {'anon': True}, 'gs': {'token': 'anon'},
              'gcs': {'token': 'anon'}, 'az': {'anon': True}, 'abfs': {'anon': True}}

_BLOCK = 1024**2  # bytes; a few rows of a large image


def is_allowed(address: str, *, remote: bool = False) -> bool:
    """
    Whether an address may be read by fsspec.

    Parameters
    ----------
    address : str
        Anything.
    remote : bool
        Whether it comes from a table: then it must not be one of this machine.

    Returns
    -------
    bool
        Whether its protocol is in ``conf.fsspec_protocols``.

    Examples
    --------
    >>> from astroclip_search import buckets, conf
    >>> buckets.is_allowed('s3://stpubdata/hst/a.fits')
    False
    >>> with conf.set_temp('fsspec_protocols', ['s3']):
    ...     buckets.is_allowed('s3://stpubdata/hst/a.fits')
    True
    """
    from . import conf

    protocol, separator, rest = address.partition('://')
    # "::" chains file systems: another one, which was not allowed, may be behind the first.
    return bool(separator and rest and '::' not in address and protocol in conf.fsspec_protocols
                and not (remote and protocol in _LOCAL))


def expand(address: str, suffixes: tuple[str, ...]) -> list[str]:
    """
    Image files that an address stands for.

    Parameters
    ----------
    address : str
        A file, a folder (searched with its subfolders) or a glob pattern.
    suffixes : tuple of str
        Ends of the names of images, in lower case.

    Returns
    -------
    list of str
        Sorted addresses. A file that is named itself is taken whatever its suffix.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If there is no such file, or it cannot be read.
    """
    import fsspec

    protocol = address.partition('://')[0]
    try:
        files, path = fsspec.core.url_to_fs(address, **_options(protocol))
        if any(character in path for character in '*?['):
            found = files.glob(path)
        elif files.isfile(path):
            return [files.unstrip_protocol(path)]
        else:
            found = files.find(path)
        names = [files.unstrip_protocol(name) for name in sorted(found)
                 if name.lower().endswith(suffixes)]
    except ImportError as error:
        raise invalid(f'{protocol}:// needs a further package ({one_line(error)}).') from error
    # Each file system has its own errors.
    except Exception as error:
        raise invalid(f'{address!r} cannot be read ({one_line(error)}).') from error
    if not names:
        raise invalid(f'There is no image in {address!r}: looked for {", ".join(suffixes)}.')
    return names


@contextlib.contextmanager
def opened(address: str) -> Iterator[IO[bytes]]:
    """
    A file, of which is read what is asked for.

    Parameters
    ----------
    address : str
        Address of a file.

    Yields
    ------
    file object
        Open for reading.

    Raises
    ------
    PreviewError
        If it cannot be read.
    """
    import fsspec

    protocol = address.partition('://')[0]
    try:
        with fsspec.open(address, 'rb', block_size=_BLOCK, **_options(protocol)) as stream:
            yield stream
    except PreviewError:
        raise
    except ImportError as error:
        raise PreviewError(f'{protocol}:// needs a further package ({one_line(error)})',
                           address) from error
    except PermissionError as error:
        raise PreviewError(f'access denied ({one_line(error)})', address,
                           status='DENIED') from error
    # Each file system has its own errors.
    except Exception as error:
        raise PreviewError(f'cannot read the file ({one_line(error)})', address) from error


def _options(protocol: str) -> dict:
    import fsspec

    return {**_ANONYMOUS.get(protocol, {}), **fsspec.config.conf.get(protocol, {})}
