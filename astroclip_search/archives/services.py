# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Addresses that a row does not carry, but that the archive's own client builds from its identifier.

Each is built as astroquery builds it; nothing is guessed, and nothing is asked for here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from astropy.table import Table

from ..references import LINK
from .columns import text_column

__all__ = ['SERVICES', 'Service', 'addresses', 'columns']


@dataclass(frozen=True)
class Service:
    """
    An archive whose tables name files, or observations, but no address.

    Attributes
    ----------
    name : str
        The module of astroquery.
    columns : tuple of str
        Columns, in lower case, by which its tables are told.
    source : callable
        From the values of a row in these columns to the source of its image, empty if it has none.
    filename : int or None
        Which of the columns tells the format of the file; `None` where it is a preview or a link.
    """

    name: str
    columns: tuple[str, ...]
    source: Callable[..., str]
    filename: int | None = None


def _esa_hubble(observation: str, collection: str) -> str:
    # As astroquery.esa.hubble.ESAHubble.get_postcard(resolution=1024, calibration_level=None).
    if collection.upper() not in ('HST', 'HLA', 'HAP'):
        return ''
    return _address('https://hst.esac.esa.int/tap-server/data', RETRIEVAL_TYPE='OBSERVATION',
                    OBSERVATIONID=observation, PRODUCTTYPE='PREVIEW')


def _esa_jwst(artifact: str, _filename: str) -> str:
    # As astroquery.esa.jwst.Jwst.get_product(artifact_id=...).
    return _address('https://jwst.esac.esa.int/server/data', RETRIEVAL_TYPE='PRODUCT',
                    TAPCLIENT='ASTROQUERY', ARTIFACTID=artifact)


def _noirlab(identifier: str, _filename: str) -> str:
    # As astroquery.noirlab.NOIRLab.get_file(md5sum).
    return ('https://astroarchive.noirlab.edu/api/retrieve/'
            f'{quote(identifier, safe="", errors="replace")}/')


def _cadc(identifier: str) -> str:
    # As astroquery.cadc.Cadc.get_data_urls, which asks CADC's registry for the address of
    # ivo://cadc.nrc.ca/caom2ops; it is also in the documentation of pyvo.
    if not identifier.startswith('ivo://cadc.nrc.ca/'):
        return ''
    return LINK + _address('https://ws.cadc-ccda.hia-iha.nrc-cnrc.gc.ca/caom2ops/datalink',
                           ID=identifier)


def _address(service: str, **parameters: str) -> str:
    return f'{service}?{urlencode(parameters, errors="replace")}'


SERVICES = (
    Service('esa.hubble', ('observation_id', 'collection'), _esa_hubble),
    Service('esa.jwst', ('artifactid', 'filename'), _esa_jwst, filename=1),
    Service('noirlab', ('md5sum', 'archive_filename'), _noirlab, filename=1),
    Service('cadc', ('publisherid',), _cadc),
)


def columns(table: Table) -> list[str]:
    """
    Columns that `addresses` may read.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.

    Returns
    -------
    list of str
        Names of columns, whether or not their service is known by them.
    """
    known = {name for service in SERVICES for name in service.columns}
    return [name for name in table.colnames if name.casefold() in known]


def addresses(table: Table) -> tuple[list[str], list[str], list[str] | None] | None:
    """
    Sources of the images of a table whose service is known.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table.

    Returns
    -------
    columns : list of str
        The columns that identify the images.
    sources : list of str
        One a row: an address or a link, empty where there is none.
    filenames : list of str or None
        What tells the format of each file; `None` where it is sure to be an image.

    Notes
    -----
    `None` is returned for a table of no known service.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from astroclip_search.archives.services import addresses
    >>> columns, sources, _ = addresses(Table({
    ...     'observation_id': ['j6mf16lhq'], 'collection': ['HST']}))
    >>> sources[0]
    'https://hst.esac.esa.int/tap-server/data?RETRIEVAL_TYPE=OBSERVATION&OBSERVATIONID=j6mf16lhq&PRODUCTTYPE=PREVIEW'
    """
    by_name = {name.casefold(): name for name in reversed(table.colnames)}
    for service in SERVICES:
        if not all(name in by_name for name in service.columns):
            continue
        columns = [by_name[name] for name in service.columns]
        values = [text_column(table, name) for name in columns]
        sources = [service.source(*row) if all(row) else ''
                   for row in zip(*values, strict=True)]
        if any(sources):
            return columns, sources, None if service.filename is None else values[service.filename]
    return None
