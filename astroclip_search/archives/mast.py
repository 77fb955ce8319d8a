# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
MAST: queries, and the address of a ``mast:`` URI.

Candidates come from `astroquery.mast.Observations`; the preview of an observation is the
``jpegURL`` of its row, so no product list is ever asked for.
"""

import re
import warnings
from numbers import Real
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from astropy.table import Table, vstack

from ..phrases import invalid

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.units import Quantity

__all__ = ['criteria', 'download_url', 'keywords', 'position', 'resolve',
           'search_radius', 'search_words']

# Words of a phrase that say how a thing looks or nothing at all, never what a programme is about.
_STOP_WORDS = frozenset(
    'a an and any around as at bright by dark edge face faint field for from having image images '
    'in into is its large like many near of on one or out over picture pictures several showing '
    'small some than that the their this to two type very view viewed with without lane no not '
    'seen side'.split())
_MAX_KEYWORDS = 3
# A stem finds "disks" for "disk" and "galaxies" for "galaxy"; MAST has no stemming of its own.
_ENDINGS = re.compile(r'(ies|es|s|y)$')


def _observations(observations: Any) -> Any:
    if observations is None:
        from astroquery.mast import Observations
        return Observations
    return observations


def download_url(uri: str, observations: Any = None) -> str:
    """
    Address of a ``mast:`` URI.

    Parameters
    ----------
    uri : str
        Such as ``mast:HST/product/jdi601010_drz.jpg``.
    observations : `astroquery.mast.ObservationsClass`, optional
        The instance whose server is used.

    Returns
    -------
    str
        Address at the MAST file download service (``/api/v0.1/Download/file``).
    """
    portal = getattr(_observations(observations), '_portal_api_connection', None)
    base = getattr(portal, 'MAST_DOWNLOAD_URL', None)
    if base is None:
        from astroquery.mast import conf
        base = f'{conf.server}/api/v0.1/Download/file'
    return f'{base}?uri={quote(uri, safe=":/")}'


def resolve(object_name: str, observations: Any = None) -> 'SkyCoord':
    """
    Position of a named object, from the MAST name resolver.

    Parameters
    ----------
    object_name : str
        Such as ``"M 104"``.
    observations : `astroquery.mast.ObservationsClass`, optional
        The instance that is asked.

    Returns
    -------
    `~astropy.coordinates.SkyCoord`
        ICRS position.
    """
    return _observations(observations).resolve_object(object_name)


def position(coordinates: Any) -> 'SkyCoord':
    """
    One position.

    Parameters
    ----------
    coordinates : str or `~astropy.coordinates.SkyCoord`
        A position; a string is understood as in astroquery, as ICRS or as a name.

    Returns
    -------
    `~astropy.coordinates.SkyCoord`
        A scalar.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is none.
    """
    from astropy import units as u
    from astropy.coordinates.name_resolve import NameResolveError
    from astroquery.utils.commons import parse_coordinates

    try:
        found = parse_coordinates(coordinates)
    except (NameResolveError, TypeError, ValueError, u.UnitsError) as error:
        raise invalid(f'{coordinates!r} is neither a position such as "10h21m +12d" nor the '
                      'name of an object.') from error
    if not found.isscalar:
        raise invalid('Give one position, not several.')
    return found


def search_radius(radius: Any) -> 'Quantity':
    """
    The radius of a search.

    Parameters
    ----------
    radius : str, number, `~astropy.units.Quantity` or None
        A plain number is in degrees, as in astroquery; `None` is 0.2 deg.

    Returns
    -------
    `~astropy.units.Quantity`
        An angle.

    Raises
    ------
    astroquery.exceptions.InvalidQueryError
        If it is none.
    """
    from astropy import units as u
    from astropy.coordinates import Angle

    radius = 0.2 if radius is None else radius
    try:
        angle = u.Quantity(Angle(radius, u.deg if isinstance(radius, Real) else None))
        if not 0 < angle.to_value(u.deg) <= 180:
            raise ValueError('out of range')
    except (TypeError, ValueError, u.UnitsError) as error:
        raise invalid(f'The radius {radius!r} is not an angle such as "10 arcmin".') from error
    return angle


def criteria(*, observations: Any = None, **filters: Any) -> Table:
    """
    Image observations that meet criteria.

    Parameters
    ----------
    observations : `astroquery.mast.ObservationsClass`, optional
        The instance that is asked.
    **filters
        Criteria of ``Observations.query_criteria``, ``coordinates`` and ``radius`` among them.
        ``dataproduct_type`` is ``'image'`` unless given.

    Returns
    -------
    `~astropy.table.Table`
        Rows of the MAST portal (CAOM).
    """
    filters.setdefault('dataproduct_type', 'image')
    return _observations(observations).query_criteria(**filters)


def keywords(text: str) -> list[str]:
    """
    Words of a phrase by which candidates are looked for.

    Parameters
    ----------
    text : str
        A phrase.

    Returns
    -------
    list of str
        At most three stems, longest first: long words are the rare ones.
    """
    words = [word for word in re.findall(r'[^\W_]{3,}', text.lower()) if word not in _STOP_WORDS]
    stems = [_ENDINGS.sub('', word) if len(word) > 4 else word for word in dict.fromkeys(words)]
    return sorted(dict.fromkeys(stems), key=len, reverse=True)[:_MAX_KEYWORDS]


def search_words(text: str, *, limit: int, observations: Any = None,
                 **filters: Any) -> tuple[Table, str]:
    """
    Candidates for a bare phrase: rows whose title or classification has one of its words.

    MAST allows one wildcard value per column in a query, so each word is asked for in turn.

    Parameters
    ----------
    text : str
        A phrase.
    limit : int
        Rows of each answer that are taken.
    observations : `astroquery.mast.ObservationsClass`, optional
        The instance that is asked.
    **filters
        Criteria of ``Observations.query_criteria``.

    Returns
    -------
    table : `~astropy.table.Table`
        Candidates, each observation once; those that match several words first.
    selection : str
        How they were chosen, in words.
    """
    from astroquery.exceptions import NoResultsWarning

    answers, used = [], []
    for word in keywords(text):
        for column in ('obs_title', 'target_classification'):
            if column in filters:
                continue
            with warnings.catch_warnings():
                # One of several narrow queries may well find nothing.
                warnings.simplefilter('ignore', NoResultsWarning)
                found = criteria(observations=observations, pagesize=limit, page=1,
                                 **{**filters, column: f'*{word}*'})
            if len(found):
                answers.append(found)
                used.append(f'{column}=*{word}*')
    if answers:
        return _merge(answers), 'MAST rows with ' + ' or '.join(used)
    table = criteria(observations=observations, pagesize=limit, page=1, **filters)
    return table, 'MAST rows in the order of the archive, as no title has a word of the text'


def _merge(answers: list[Table]) -> Table:
    """
    Answers one below the other, each observation once, most frequent first.
    """
    merged = vstack(answers, metadata_conflicts='silent')
    if 'obsid' not in merged.colnames:
        return merged
    ids = [str(value) for value in merged['obsid']]
    counts = {}
    for value in ids:
        counts[value] = counts.get(value, 0) + 1
    first = {value: i for i, value in reversed(list(enumerate(ids)))}
    rows = sorted(first.values(), key=lambda i: (-counts[ids[i]], i))
    return merged[rows]
