# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The settings, which a user may also set in astropy's configuration file for this package.
"""

import re
from typing import Any

from astropy import config as _config
from astropy.extern.configobj import validate as _validate

from .exceptions import invalid

__all__ = ['PLANES', 'Conf', 'conf', 'plane_of']

PLANES = ('middle', 'peak', 'sum')
"""
What may be drawn of a cube, besides one of its planes.
"""

_NUMBER = re.compile('[0-9]{1,9}')


def plane_of(value: Any) -> str | int:
    """
    Check what is to be drawn of a cube.

    Parameters
    ----------
    value : str or int
        One of `PLANES`, or the number of a plane, counted from 0, also as text.

    Returns
    -------
    str or int
        The word, or the number.

    Raises
    ------
    ValueError
        If it is neither; the message says what may be given.

    Examples
    --------
    >>> from astroclip_search.config import plane_of
    >>> plane_of('3')
    3
    """
    if isinstance(value, str) and value in PLANES:
        return value
    if not _NUMBER.fullmatch(str(value)):
        raise ValueError("plane must be 'middle', 'peak', 'sum' or the number of a plane, counted "
                         f'from 0, not {value!r}.')
    return int(value)


class _Item(_config.ConfigItem):
    """
    A setting of the package itself, and not of the module that happens to define it.
    """

    def __init__(self, default: Any, description: str, cfgtype: str | None = None):
        super().__init__(default, description, cfgtype, module='astroclip_search')

    def __call__(self):
        try:
            return super().__call__()
        except TypeError as error:  # of the user's file; `set` checks what a program gives
            file = _config.configuration.get_config_filename(self.module, rootname=self.rootname)
            said = str(error).rpartition('not valid: ')[2].rstrip('.')
            raise invalid(f'{self.name} in {file} is not valid: {said}. Correct that line, or '
                          'delete it.') from error


class _Count(_Item):
    """
    A whole number that is not too small.
    """

    def __init__(self, default: int, description: str, *, least: int = 0):
        super().__init__(default, description, f'integer(min={least})')


class _Time(_Item):
    """
    A time that is not too short.
    """

    def __init__(self, default: float, description: str, *, least: float = 0.0):
        super().__init__(default, description, f'float(min={least})')


class _Progress(_Item):
    """
    A truth value or ``'live'``, which no type of configobj is.
    """

    def _validate_val(self, val):
        return val if val == 'live' else super()._validate_val(val)


class _Plane(_Item):
    """
    A word or a number, which no type of configobj is.
    """

    def _validate_val(self, val):
        try:
            return plane_of(val)
        except ValueError as error:
            raise _validate.ValidateError(str(error)) from None


class Conf(_config.ConfigNamespace):
    """
    Configuration of `astroclip_search`, read each time it is used.
    """

    model = _Item('default',
                  "Model bundle: 'default' (embedded), a local directory, or a Hugging Face id.")
    model_revision = _Item(
        '', 'Commit, tag or branch of a Hugging Face model; empty means its main branch.')
    device = _Item(['auto', 'cpu', 'cuda'],
                   "Where the model runs: 'auto' takes CUDA when the session really has it.")
    model_variant = _Item(
        ['auto', 'fp32', 'fp16', 'int8'],
        "Precision of the model's files: 'auto' takes what is fastest on the device.")
    n_threads = _Count(0, 'CPU threads of the model, and as many processes that decode images; 0 '
                          'means one per physical core, and one per logical core.')
    plane = _Plane('middle', "What is drawn of a cube: 'middle', 'peak', 'sum', or the number of a "
                             'plane, counted from 0.')
    batch_size = _Count(
        0, 'Images that are embedded in one call of the model; 0 means as many as suit the device.')
    n_connections = _Count(5, 'Simultaneous connections to one host.', least=1)
    connect_timeout = _Time(5.0, 'Seconds to wait for a connection.', least=0.001)
    timeout = _Time(30.0, 'Seconds to wait for the next bytes of a response.', least=0.001)
    row_timeout = _Time(60.0, 'Seconds that the image of one row may take in all.', least=0.001)
    query_timeout = _Time(
        600.0, 'Seconds that the downloads of one call may take in all, and as many its queries; 0 '
               'means no end.')
    retries = _Count(2, 'Further tries after a reset connection, a 429 or a 5xx answer.')
    max_bytes = _Count(64 * 1024**2, 'Largest image file that is downloaded, in bytes.', least=1)
    max_table_bytes = _Count(
        512 * 1024**2, 'Memory that the table of a file may take in bytes, if that is more than 64 '
                       'times the file.', least=1)
    max_pixels = _Count(50_000_000, 'Largest image that is decoded, in pixels.', least=1)
    isolate = _Item(
        True, 'Decode images in processes of their own, with limits of time and memory; False for '
              'where no process may be started.')
    decode_timeout = _Time(30.0, 'Seconds that decoding one image may take, if images are decoded '
                                 'in processes of their own.', least=0.1)
    max_images = _Count(500, 'Images that one call downloads at most; images in the cache do not '
                             'count.')
    private_hosts = _Item(
        [],
        'Hosts (with port, unless it is the standard one) at private or loopback addresses from '
        'which images may be downloaded.',
        cfgtype='force_list')  # without a type, a list is a choice of one
    fsspec_protocols = _Item(
        [],
        "Protocols of fsspec, such as 's3' or 'gs', whose addresses may be read.",
        cfgtype='force_list')
    thumbnail_size = _Count(
        256, 'Longest side of the thumbnails kept for the gallery, in pixels.', least=16)
    cache_max_age = _Time(
        90.0, 'Days after which a cached embedding is computed anew; 0 means never.')
    cache_max_bytes = _Count(
        4 * 1024**3, 'Size that the file of the cache is kept to, in bytes: what was not used for '
                     'longest goes. 0 means no limit.')
    show_progress = _Progress(
        True,
        "Show the progress on a terminal or in a notebook; 'live': with the best images so far.")
    mast_collections = _Item(
        ['HST', 'JWST'], 'Collections that query_text searches in MAST.', cfgtype='force_list')
    mast_calib_levels = _Item(
        ['3', '4'], 'CAOM calibration levels that query_text searches.', cfgtype='force_list')
    mast_max_rows = _Count(50_000, 'Rows of one MAST query that are fetched at most.', least=1)
    mast_timeout = _Time(
        120.0, 'Seconds to wait for MAST to go on with the answer to a query.', least=0.001)


conf = Conf()
