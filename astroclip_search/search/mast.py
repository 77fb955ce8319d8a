# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that ask MAST for candidates before they rank them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from astropy.table import Table

from ..archives import footprints, mast
from ..config import conf
from ..exceptions import NothingRankedWarning, invalid, warn
from .arguments import RankOptions, check, check_criteria
from .rank import rank
from .recipe import Recipe, recipe
from .session import Session

__all__ = ['query_around', 'query_criteria', 'query_image', 'query_text', 'rank_selection']

# Candidates for a bare phrase: the metadata of each are embedded, which takes about 3 ms a row.
_MAX_CANDIDATES = 2000


def query_text(session: Session, text: str | Sequence[str] | None, coordinates: Any,
               object_name: str | None, radius: Any, criteria: Mapping[str, Any] | None,
               options: RankOptions) -> Table:
    """
    Rank what MAST has at a position, or what it finds by the words of the phrase.
    """
    if coordinates is not None or object_name is not None:
        return query_around(session, text, coordinates, object_name, radius, criteria, options)
    if radius is not None:
        raise invalid('A radius needs coordinates or object_name.')

    phrases, criteria = check(text, options).phrases, check_criteria(criteria)
    defaults = {'intentType': 'science', 'dataRights': 'PUBLIC',
                'obs_collection': list(conf.mast_collections),
                'calib_level': [int(level) for level in conf.mast_calib_levels]}
    filters = {**defaults, **criteria}
    table, selection = mast.search_words(
        ' '.join(phrases), filters, observations=session.mast,
        max_rows=min(_MAX_CANDIDATES, int(conf.mast_max_rows)))
    ranked = rank_selection(session, table, text, selection, options,
                            recipe('query_text', criteria=criteria))
    _warn_of_criteria(session, ranked, filters, criteria)
    return ranked


def query_around(session: Session, text: str | Sequence[str] | None, coordinates: Any,
                 object_name: str | None, radius: Any, criteria: Mapping[str, Any] | None,
                 options: RankOptions, resolver: str | None = None) -> Table:
    """
    Rank what MAST has around a position or an object.
    """
    check(text, options)
    if coordinates is not None and object_name is not None:
        raise invalid('Give coordinates or object_name, not both.')
    criteria = check_criteria(criteria)
    if twice := criteria.keys() & {'coordinates', 'objectname', 'radius'}:
        raise invalid(f'{min(twice)} is an argument of its own: leave it out of criteria.')
    radius = footprints.search_radius(radius)
    clock = mast.query_clock()
    made = recipe('query_region', coordinates=coordinates, object_name=object_name,
                  radius=radius, criteria=criteria, resolver=resolver)
    if object_name is not None:
        if not isinstance(object_name, str) or not object_name.strip():
            raise invalid('object_name must be a name such as "M 104".')
        position = mast.resolve(object_name, session.mast, resolver=resolver, clock=clock)
        where = object_name
    else:
        position, where = footprints.position(coordinates), coordinates
        if not isinstance(where, str):
            where = position.to_string('hmsdms', precision=1)
    filters = {**criteria, 'coordinates': position, 'radius': radius}
    table = mast.criteria(filters, observations=session.mast, max_rows=conf.mast_max_rows,
                          clock=clock)
    ranked = rank_selection(session, table, text, f'MAST images within {radius:g} of {where}',
                            options, made)
    _warn_of_criteria(session, ranked, filters, criteria)
    return ranked


def query_criteria(session: Session, text: str | Sequence[str] | None,
                   criteria: Mapping[str, Any] | None, options: RankOptions) -> Table:
    """
    Rank what MAST has that meets criteria.
    """
    check(text, options)
    criteria = check_criteria(criteria)
    if not criteria:
        raise invalid('Give at least one criterion, such as criteria={"obs_collection": "HST"}.')
    if 'radius' in criteria and not criteria.keys() & {'coordinates', 'objectname'}:
        raise invalid('A radius needs a centre: add coordinates or objectname to criteria, or use '
                      'query_region.')
    table = mast.criteria(criteria, observations=session.mast, max_rows=conf.mast_max_rows)
    selection = 'MAST rows with ' + ', '.join(f'{k}={v}' for k, v in criteria.items())
    ranked = rank_selection(session, table, text, selection, options,
                            recipe('query_criteria', criteria=criteria))
    _warn_of_criteria(session, ranked, criteria, criteria)
    return ranked


def _warn_of_criteria(session: Session, ranked: Table, filters: dict[str, Any],
                      named: Mapping[str, Any]) -> None:
    """
    If nothing was found, say which values a criterion could have.
    """
    if not len(ranked) and (said := mast.existing_values(filters, named,
                                                         observations=session.mast)):
        warn(said, NothingRankedWarning)


def query_image(session: Session, image: Any, results: Any, text: str | Sequence[str] | None,
                coordinates: Any, object_name: str | None, radius: Any,
                criteria: Mapping[str, Any] | None, options: RankOptions) -> Table:
    """
    Rank by likeness to example images what is given, or what MAST has.
    """
    if options.like is not None:
        raise invalid('The examples of query_image are its image: put those of like there too.')
    options = replace(options, like=image)
    asked = {'coordinates': coordinates, 'object_name': object_name, 'radius': radius,
             'criteria': criteria}
    if results is not None:
        given = [name for name, value in asked.items() if value is not None]
        if given:
            raise invalid(f'{given[0]} is for a search in MAST, and results are given: leave out '
                          'one of them.')
        return rank(session, results, text, options)
    if coordinates is None and object_name is None and radius is None and text is None:
        if not criteria:
            raise invalid('Say where to look for images like this one: give results, coordinates, '
                          'object_name, text, or criteria such as {"obs_collection": "HST"}.')
        return query_criteria(session, None, criteria, options)
    return query_text(session, text, coordinates, object_name, radius, criteria, options)


def rank_selection(session: Session, results: Any, text: str | Sequence[str] | None,
                   selection: str, options: RankOptions, made: Recipe) -> Table:
    """
    Rank the answer of an archive, and say in ``meta['clip']`` how it was selected.
    """
    ranked = rank(session, results, text, options, made)
    ranked.meta['clip']['selection'] = selection
    return ranked
