# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Addresses that a row does not carry, but that the archive's own client builds from its identifier.

Each is built as astroquery builds it; nothing is guessed, and nothing is asked for here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from ..images.refs import link
from .columns import TableColumns

__all__ = ['SERVICES', 'Service', 'addresses']


@dataclass(frozen=True)
class Service:
    """
    An archive whose tables name files, or observations, but no address.

    Its tables are told by some columns, in lower case; of the values of a row in these, ``source``
    makes the reference to its image, empty if it has none. The column number ``filename`` tells
    the format of the file, `None` where the image is a preview or a link.
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
    return link(_address('https://ws.cadc-ccda.hia-iha.nrc-cnrc.gc.ca/caom2ops/datalink',
                         ID=identifier))


def _address(service: str, **parameters: str) -> str:
    return f'{service}?{urlencode(parameters, errors="replace")}'


SERVICES = (
    Service('esa.hubble', ('observation_id', 'collection'), _esa_hubble),
    Service('esa.jwst', ('artifactid', 'filename'), _esa_jwst, filename=1),
    Service('noirlab', ('md5sum', 'archive_filename'), _noirlab, filename=1),
    Service('cadc', ('publisherid',), _cadc),
)


def addresses(columns: TableColumns) -> tuple[list[str], list[str], list[str] | None] | None:
    """
    Of a table of a known service the columns that identify images, the references to these (empty
    where there is none), and what tells the format of each, `None` where it is sure to be an image.

    >>> from astropy.table import Table
    >>> from astroclip_search.archives.columns import TableColumns
    >>> from astroclip_search.archives.url_builders import addresses
    >>> columns, sources, _ = addresses(TableColumns(Table({
    ...     'observation_id': ['j6mf16lhq'], 'collection': ['HST']})))
    >>> sources[0]
    'https://hst.esac.esa.int/tap-server/data?RETRIEVAL_TYPE=OBSERVATION&OBSERVATIONID=j6mf16lhq&PRODUCTTYPE=PREVIEW'
    """
    for service in SERVICES:
        names = [name for key in service.columns if (name := columns.find(key)) is not None]
        if len(names) < len(service.columns):
            continue
        values = [columns.text(name) for name in names]
        sources = [service.source(*row) if all(row) else ''
                   for row in zip(*values, strict=True)]
        if any(sources):
            return names, sources, None if service.filename is None else values[service.filename]
    return None
