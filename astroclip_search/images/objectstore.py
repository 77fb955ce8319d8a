# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Addresses of object stores -> open files, by fsspec, where the user has allowed it.

Without a protocol in ``conf.fsspec_protocols`` nothing here is ever used: a row of an archive must
not make the package read a bucket, or a file of this machine.
"""

import contextlib
from collections.abc import Iterator
from typing import IO, Any

from ..exceptions import ImageError, LeftOutWarning, invalid, one_line, warn
from .formats import IN_WORDS, is_wanted, kind_of_name, left_out

__all__ = ['expand', 'is_allowed', 'opened']

# Files of the machine itself, which the user may name and a row of a table may not.
_LOCAL = ('file', 'local', 'memory')

# Public data need no account. What fsspec's own configuration says goes first.
_ANONYMOUS: dict[str, dict[str, Any]] = {
    's3': {'anon': True}, 's3a': {'anon': True}, 'gs': {'token': 'anon'},
    'gcs': {'token': 'anon'}, 'az': {'anon': True}, 'abfs': {'anon': True}}

_BLOCK = 1024**2  # bytes; a few rows of a large image


def is_allowed(address: str, *, remote: bool = False) -> bool:
    """
    Whether fsspec may read an address: its protocol is in ``conf.fsspec_protocols`` and, if the
    address comes from a table (``remote``), it does not name a file of this machine.
    """
    from ..config import conf

    protocol, separator, rest = address.partition('://')
    # "::" chains file systems: another one, which was not allowed, may be behind the first.
    return bool(separator and rest and '::' not in address and protocol in conf.fsspec_protocols
                and not (remote and protocol in _LOCAL))


def expand(address: str) -> list[str]:
    """
    Sorted addresses of the images that a file, folder (with its subfolders) or glob pattern stands
    for, by their names; what is named itself, or by a pattern with its suffix, is taken whatever it
    is. A warning says what is left out.
    """
    import fsspec

    protocol = address.partition('://')[0]
    try:
        files, path = fsspec.core.url_to_fs(address, **_options(protocol))
        is_pattern = any(character in path for character in '*?[')
        if is_pattern:
            found = [name for name, about in files.glob(path, detail=True).items()
                     if about['type'] != 'directory']
        elif files.isfile(path):
            return [files.unstrip_protocol(path)]
        else:
            found = files.find(path)
        names = sorted(found)
    except ImportError as error:
        raise invalid(f'{protocol}:// needs a further package ({one_line(error)}).') from error
    # Each file system has its own errors.
    except Exception as error:
        raise invalid(f'{address!r} cannot be read ({one_line(error)}).') from error
    # By name: nothing is fetched to look at it.
    all_wanted = is_pattern and is_wanted(path)
    images = [files.unstrip_protocol(name) for name in names if all_wanted or kind_of_name(name)]
    if not images:
        raise invalid(f'There is no image in {address!r}: looked for {IN_WORDS}.')
    if len(images) < len(names):
        others = [name for name in names if not kind_of_name(name)]
        warn(f'Of {address!r} {left_out(others)}.', LeftOutWarning)
    return images


@contextlib.contextmanager
def opened(address: str) -> Iterator[IO[bytes]]:
    """
    A file that is open for reading; only the blocks that are needed are fetched.
    """
    import fsspec

    protocol = address.partition('://')[0]
    try:
        with fsspec.open(address, 'rb', block_size=_BLOCK, **_options(protocol)) as stream:
            yield stream
    except ImageError:
        raise
    except ImportError as error:
        raise ImageError('needs_package', address, protocol=protocol,
                         error=one_line(error)) from error
    except PermissionError as error:
        raise ImageError('store_denied', address, error=one_line(error)) from error
    # Each file system has its own errors.
    except Exception as error:
        raise ImageError('file_unreadable', address, error=one_line(error)) from error


def _options(protocol: str) -> dict:
    import fsspec

    return {**_ANONYMOUS.get(protocol, {}), **fsspec.config.conf.get(protocol, {})}
