# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Natural-language search for astronomical archives.

Data flows one way through the package, from module to module::

    text -------------------------------------------------------------> encoder --+
                                                                                  |
    query -> archives -> Table -> references -> previews -> pixels -> embeddings -+-> ranking
             (MAST, the VO,       (row ->       (refs ->    (bytes,   (-> (n, d),  -> Table
              any table, files,    image ref,    bytes)      FITS      kept in     -> display
              arrays)              links)                    -> RGB)   store)

`~astroclip_search.ClipSearch` is a ready instance, as in astroquery:

>>> from astroclip_search import ClipSearch
>>> ClipSearch.query_text("protoplanetary disk")               # doctest: +SKIP
>>> ClipSearch.rank(any_astroquery_or_pyvo_table, "tidal tail")  # doctest: +SKIP

Importing the package loads no model, no archive client and no runtime.
"""

from astropy import config as _config

try:
    from ._version import version as __version__
except ImportError:
    __version__ = '0.0.0'

__all__ = ['ClipSearch', 'ClipSearchClass', 'Conf', 'conf']


class _Progress(_config.ConfigItem):
    """
    A truth value or ``'live'``, which no type of configobj is.
    """

    def _validate_val(self, val):
        return val if val == 'live' else super()._validate_val(val)


class Conf(_config.ConfigNamespace):
    """
    Configuration of `astroclip_search`, read each time it is used.
    """

    model = _config.ConfigItem(
        'default',
        "Model bundle: 'default' (embedded), a local directory, or a Hugging Face id.")
    model_revision = _config.ConfigItem(
        '',
        'Commit, tag or branch of a Hugging Face model; empty means its main branch.')
    device = _config.ConfigItem(
        ['auto', 'cpu', 'cuda'],
        "Where the model runs: 'auto' takes CUDA when the session really has it.")
    model_variant = _config.ConfigItem(
        ['auto', 'fp32', 'fp16', 'int8'],
        "Precision of the model's files: 'auto' takes what is fastest on the device.")
    n_threads = _config.ConfigItem(
        0,
        'CPU threads of the model; 0 means one per physical core.')
    batch_size = _config.ConfigItem(
        0,
        'Images that are embedded in one call of the model; 0 means as many as suit the device.')
    n_connections = _config.ConfigItem(
        5,
        'Simultaneous connections to one host.')
    connect_timeout = _config.ConfigItem(
        5.0,
        'Seconds to wait for a connection.')
    timeout = _config.ConfigItem(
        30.0,
        'Seconds to wait for the next bytes of a response.')
    row_timeout = _config.ConfigItem(
        60.0,
        'Seconds that the image of one row may take in all.')
    query_timeout = _config.ConfigItem(
        600.0,
        'Seconds that the downloads of one call may take in all; 0 means no end.')
    retries = _config.ConfigItem(
        2,
        'Further tries after a reset connection, a 429 or a 5xx answer.')
    max_bytes = _config.ConfigItem(
        64 * 1024**2,
        'Largest image file that is downloaded, in bytes.')
    max_pixels = _config.ConfigItem(
        50_000_000,
        'Largest image that is decoded, in pixels.')
    max_images = _config.ConfigItem(
        500,
        'Images that one call downloads at most; images in the cache do not count.')
    private_hosts = _config.ConfigItem(
        [],
        'Hosts (with port, unless it is the standard one) at private or loopback addresses from '
        'which images may be downloaded.',
        cfgtype='force_list')  # without a type, a list is a choice of one
    fsspec_protocols = _config.ConfigItem(
        [],
        "Protocols of fsspec, such as 's3' or 'gs', whose addresses may be read.",
        cfgtype='force_list')
    thumbnail_size = _config.ConfigItem(
        256,
        'Longest side of the thumbnails kept for the gallery, in pixels.')
    cache_max_age = _config.ConfigItem(
        90.0,
        'Days after which a cached embedding is computed anew; 0 means never.')
    show_progress = _Progress(
        True,
        "Show the progress on a terminal or in a notebook; 'live': with the best images so far.")
    mast_collections = _config.ConfigItem(
        ['HST', 'JWST'],
        'Collections that query_text searches in MAST.',
        cfgtype='force_list')
    mast_calib_levels = _config.ConfigItem(
        ['3', '4'],
        'CAOM calibration levels that query_text searches.',
        cfgtype='force_list')
    mast_max_rows = _config.ConfigItem(
        50_000,
        'Rows of one MAST query that are fetched at most.')
    mast_timeout = _config.ConfigItem(
        120.0,
        'Seconds to wait for MAST to go on with the answer to a query.')


conf = Conf()

from .search import ClipSearch, ClipSearchClass  # noqa: E402 - search reads conf
