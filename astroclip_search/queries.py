# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that ask MAST for candidates before they rank them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .phrases import check_query, invalid

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.table import Table
    from astropy.units import Quantity

__all__ = ['MastQueries']


class MastQueries:
    """
    Queries of `~astroclip_search.ClipSearchClass` to MAST.

    The class that inherits from it has ``rank`` and ``_mast``, the instance that is asked.
    """

    def query_text(self, text: str | Sequence[str], *, coordinates: 'SkyCoord | str | None' = None,
                   object_name: str | None = None, radius: 'Quantity | str | None' = None,
                   limit: int | None = 20, by: str = 'both',
                   negative: str | Sequence[str] | None = None, cache: bool = True,
                   show_progress: bool | None = None, **criteria: Any) -> 'Table':
        """
        Search MAST for images that show something.

        With nothing but a phrase, candidates are public, calibrated science images of
        ``conf.mast_collections`` whose title or target classification has a word of the phrase.
        ``meta['clip']['selection']`` says which.

        Parameters
        ----------
        text : str or sequence of str
            What the image shows; several phrases are averaged.
        coordinates : str or `~astropy.coordinates.SkyCoord`, optional
            Centre of the search.
        object_name : str, optional
            Name of the object at the centre, resolved by MAST.
        radius : str or `~astropy.units.Quantity`, optional
            Radius around the centre, 0.2 deg by default.
        limit : int or None
            Rows that are returned; `None` returns all.
        by : {'both', 'image', 'text'}
            Whether pictures, the rows' words, or both count.
        negative : str or sequence of str, optional
            What the image should not show.
        cache : bool
            Keep embeddings on disk, and use those that are there.
        show_progress : bool, optional
            Show a progress bar.
        **criteria
            Further criteria of ``Observations.query_criteria``, such as
            ``instrument_name='ACS/WFC'``; they replace the defaults of the same name.

        Returns
        -------
        `~astropy.table.Table`
            Rows of MAST, best first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the phrase is empty.

        Examples
        --------
        >>> from astroclip_search import ClipSearch
        >>> best = ClipSearch.query_text('ring galaxy', limit=2)
        >>> best['clip_rank', 'target_classification', 'clip_status'].pprint()
        clip_rank target_classification clip_status
        --------- --------------------- -----------
                1          GALAXY; RING          OK
                2          GALAXY; RING          OK
        """
        from . import conf
        from .archives import mast

        phrases, _ = check_query(text, negative=negative, by=by, limit=limit)
        options = {'by': by, 'negative': negative, 'cache': cache, 'limit': limit,
                   'show_progress': show_progress}
        if coordinates is not None or object_name is not None:
            return self._query_position(phrases, coordinates, object_name, radius, criteria,
                                        options)
        if radius is not None:
            raise invalid('A radius needs coordinates or object_name.')
        defaults = {'intentType': 'science', 'dataRights': 'PUBLIC',
                    'obs_collection': list(conf.mast_collections),
                    'calib_level': [int(level) for level in conf.mast_calib_levels]}
        table, selection = mast.search_words(' '.join(phrases), limit=conf.max_images,
                                             observations=self._mast, **{**defaults, **criteria})
        return self._rank_selection(table, phrases, selection, options)

    def query_region(self, coordinates: 'SkyCoord | str', text: str | Sequence[str], *,
                     radius: 'Quantity | str | None' = None, limit: int | None = None,
                     by: str = 'both', negative: str | Sequence[str] | None = None,
                     cache: bool = True, show_progress: bool | None = None,
                     **criteria: Any) -> 'Table':
        """
        Rank the image observations of MAST around a position.

        Parameters
        ----------
        coordinates : str or `~astropy.coordinates.SkyCoord`
            Centre of the search.
        text : str or sequence of str
            What the image shows; several phrases are averaged.
        radius : str or `~astropy.units.Quantity`, optional
            Radius, 0.2 deg by default.
        limit : int or None
            Rows that are returned; `None` returns all.
        by : {'both', 'image', 'text'}
            Whether pictures, the rows' words, or both count.
        negative : str or sequence of str, optional
            What the image should not show.
        cache : bool
            Keep embeddings on disk, and use those that are there.
        show_progress : bool, optional
            Show a progress bar.
        **criteria
            Further criteria of ``Observations.query_criteria``.

        Returns
        -------
        `~astropy.table.Table`
            Rows of MAST, best first, with the columns that `rank` adds.
        """
        phrases, _ = check_query(text, negative=negative, by=by, limit=limit)
        return self._query_position(phrases, coordinates, None, radius, criteria,
                                    {'by': by, 'negative': negative, 'cache': cache,
                                     'limit': limit, 'show_progress': show_progress})

    def query_object(self, object_name: str, text: str | Sequence[str], *,
                     radius: 'Quantity | str | None' = None, limit: int | None = None,
                     by: str = 'both', negative: str | Sequence[str] | None = None,
                     cache: bool = True, show_progress: bool | None = None,
                     **criteria: Any) -> 'Table':
        """
        Rank the image observations of MAST around a named object.

        Parameters
        ----------
        object_name : str
            Such as ``"M 104"``, resolved by MAST.
        text : str or sequence of str
            What the image shows; several phrases are averaged.
        radius : str or `~astropy.units.Quantity`, optional
            Radius, 0.2 deg by default.
        limit : int or None
            Rows that are returned; `None` returns all.
        by : {'both', 'image', 'text'}
            Whether pictures, the rows' words, or both count.
        negative : str or sequence of str, optional
            What the image should not show.
        cache : bool
            Keep embeddings on disk, and use those that are there.
        show_progress : bool, optional
            Show a progress bar.
        **criteria
            Further criteria of ``Observations.query_criteria``.

        Returns
        -------
        `~astropy.table.Table`
            Rows of MAST, best first, with the columns that `rank` adds.
        """
        phrases, _ = check_query(text, negative=negative, by=by, limit=limit)
        return self._query_position(phrases, None, object_name, radius, criteria,
                                    {'by': by, 'negative': negative, 'cache': cache,
                                     'limit': limit, 'show_progress': show_progress})

    def query_criteria(self, text: str | Sequence[str], *, limit: int | None = None,
                       by: str = 'both', negative: str | Sequence[str] | None = None,
                       cache: bool = True, show_progress: bool | None = None,
                       **criteria: Any) -> 'Table':
        """
        Rank the image observations of MAST that meet criteria.

        Parameters
        ----------
        text : str or sequence of str
            What the image shows; several phrases are averaged.
        limit : int or None
            Rows that are returned; `None` returns all.
        by : {'both', 'image', 'text'}
            Whether pictures, the rows' words, or both count.
        negative : str or sequence of str, optional
            What the image should not show.
        cache : bool
            Keep embeddings on disk, and use those that are there.
        show_progress : bool, optional
            Show a progress bar.
        **criteria
            Criteria of ``Observations.query_criteria``, such as ``proposal_id='10775'``.

        Returns
        -------
        `~astropy.table.Table`
            Rows of MAST, best first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If there is no criterion, or astroquery does not know one.
        """
        from .archives import mast

        phrases, _ = check_query(text, negative=negative, by=by, limit=limit)
        if not criteria:
            raise invalid('Give at least one criterion, such as obs_collection="HST".')
        table = mast.criteria(observations=self._mast, **criteria)
        selection = 'MAST rows with ' + ', '.join(f'{k}={v}' for k, v in criteria.items())
        return self._rank_selection(table, phrases, selection,
                                    {'by': by, 'negative': negative, 'cache': cache,
                                     'limit': limit, 'show_progress': show_progress})

    def _query_position(self, phrases: list[str], coordinates: Any, object_name: str | None,
                        radius: Any, criteria: dict, options: dict) -> 'Table':
        from .archives import mast

        if coordinates is not None and object_name is not None:
            raise invalid('Give coordinates or object_name, not both.')
        radius = mast.search_radius(radius)
        if object_name is not None:
            position, where = mast.resolve(object_name, self._mast), object_name
        else:
            position, where = mast.position(coordinates), coordinates
            if not isinstance(where, str):
                where = position.to_string('hmsdms', precision=1)
        table = mast.criteria(observations=self._mast, coordinates=position, radius=radius,
                              **criteria)
        return self._rank_selection(table, phrases, f'MAST images within {radius:g} of {where}',
                                    options)

    def _rank_selection(self, table: 'Table', phrases: list[str], selection: str,
                        options: dict) -> 'Table':
        ranked = self.rank(table, phrases, **options)
        ranked.meta['clip']['selection'] = selection
        return ranked
