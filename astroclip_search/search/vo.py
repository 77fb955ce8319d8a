# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that ask services of the Virtual Observatory for candidates before they rank them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.units import Quantity

from ..archives import vo
from ..archives.footprints import position, search_radius
from ..exceptions import invalid
from ..untrusted.documents import check_unit
from .arguments import RankOptions, check, check_count, check_criteria
from .mast import rank_selection
from .recipe import recipe
from .session import Session

__all__ = ['query_sia', 'query_tap']

_LARGEST_CUTOUT = 0.2  # degrees


def query_sia(session: Session, text: str | Sequence[str] | None, service: Any, pos: Any,
              radius: Any, version: int, criteria: Mapping[str, Any] | None,
              options: RankOptions, *, trusted: bool = True, **given: Any) -> Table:
    """
    Rank what an image service has; one that is not ``trusted`` is at no private address.
    """
    check(text, options)
    made = recipe('query_sia', service=vo.service_address(service), pos=pos, radius=radius,
                  version=version, criteria=criteria, **given)
    where, pos, radius = _circle(pos, radius)
    if where is not None and options.cutout is None:
        size = min(2 * radius.to_value('deg'), _LARGEST_CUTOUT)
        options = replace(options, cutout=(where, size))
    given = {name: value for name, value in {**given, **check_criteria(criteria)}.items()
             if value is not None}
    maxrec = given.pop('maxrec', None)
    check_count(maxrec, 'maxrec', 'the limit of the service')
    results = vo.sia(service, version=version, pos=pos, radius=radius, maxrec=maxrec,
                     trusted=trusted, **given)
    selection = f'images of {vo.service_address(service)}'
    if where is not None:
        selection += f' within {radius:g} of {where.to_string("hmsdms", precision=1)}'
    elif pos is not None:
        selection += f' in {pos}'
    if given:
        selection += ' with ' + ', '.join(f'{name}={value}' for name, value in given.items())
    return rank_selection(session, results, text, selection, options, made)


def query_tap(session: Session, text: str | Sequence[str] | None, query: str, service: Any,
              async_: bool, options: RankOptions, *, trusted: bool = True, **given: Any) -> Table:
    """
    Rank what a query in ADQL finds; a service that is not ``trusted`` is at no private address.
    """
    check(text, options)
    check_count(given.get('maxrec'), 'maxrec', 'the limit of the service')
    results = vo.tap(service, query, asynchronous=async_, trusted=trusted, **given)
    selection = f'rows of {vo.service_address(service)} for {" ".join(query.split())}'
    return rank_selection(session, results, text, selection, options, recipe(
        'query_tap', query=query, service=vo.service_address(service), async_=async_, **given))


def _circle(pos: Any, radius: Any) -> tuple['SkyCoord | None', Any, 'Quantity | None']:
    """
    Centre, region and radius of a query: only a circle has a centre.
    """
    if isinstance(pos, str | SkyCoord):
        where = position(pos)
        return where, where, search_radius(radius)
    if radius is not None:
        raise invalid('A radius needs a position: pos is a SkyCoord, or a string such as '
                      '"10h21m +12d".')
    if isinstance(pos, tuple) and len(pos) == 2 and isinstance(pos[0], SkyCoord):
        return pos[0], pos[0], search_radius(pos[1])
    if isinstance(pos, tuple) and len(pos) == 3:
        try:
            for value in pos:
                check_unit(value)
            where = SkyCoord(*(u.Quantity(value, u.deg) for value in pos[:2]))
        except (TypeError, ValueError, u.UnitsError) as error:
            raise invalid(f'pos={pos} is no circle (ra, dec, radius) in degrees.') from error
        return where, where, search_radius(pos[2])
    return None, pos, None
