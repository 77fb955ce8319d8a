# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that ask MAST for candidates before they rank them.
"""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .phrases import check_count, check_query, check_weights, invalid

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.table import Table
    from astropy.units import Quantity

__all__ = ['MastQueries']

# Candidates for a bare phrase: the words of each are read, which takes about 3 ms a row.
_MAX_CANDIDATES = 2000


class MastQueries:
    """
    Queries of `~astroclip_search.ClipSearchClass` to MAST.

    The class that inherits from it has ``rank`` and ``_mast``, the instance that is asked.
    """

    def query_text(self, text: str | Sequence[str], *, coordinates: 'SkyCoord | str | None' = None,
                   object_name: str | None = None, radius: 'Quantity | str | None' = None,
                   limit: int | None = 20, **options: Any) -> 'Table':
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
        **options
            Options of `rank`, such as ``negative`` or ``by``, and criteria of
            ``Observations.query_criteria``, such as ``instrument_name='ACS/WFC'``; criteria
            replace the defaults of the same name.

        Returns
        -------
        `~astropy.table.Table`
            Rows of MAST, best first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the phrase is empty, or astroquery does not know a criterion.
        astroquery.exceptions.RemoteServiceError
            If MAST does not answer.

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
        phrases, criteria, options = self._split_options(text, {'limit': limit, **options})
        if coordinates is not None or object_name is not None:
            return self._rank_position(phrases, coordinates, object_name, radius, criteria, options)
        if radius is not None:
            raise invalid('A radius needs coordinates or object_name.')
        return self._rank_words(phrases, criteria, options)

    def query_region(self, coordinates: 'SkyCoord | str', text: str | Sequence[str] | None = None,
                     *, radius: 'Quantity | str | None' = None, **options: Any) -> 'Table':
        """
        Rank the image observations of MAST around a position.

        Parameters
        ----------
        coordinates : str or `~astropy.coordinates.SkyCoord`
            Centre of the search.
        text : str or sequence of str, optional
            What the image shows; several phrases are averaged. Only example images
            (``like=...``) can replace it.
        radius : str or `~astropy.units.Quantity`, optional
            Radius, 0.2 deg by default.
        **options
            Options of `rank`, such as ``limit``, and further criteria of
            ``Observations.query_criteria``.

        Returns
        -------
        `~astropy.table.Table`
            Rows of MAST, best first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If this is no position, no radius or no phrase, or astroquery does not know a criterion.
        astroquery.exceptions.RemoteServiceError
            If MAST does not answer.

        Examples
        --------
        >>> from astropy.coordinates import SkyCoord
        >>> from astroclip_search import ClipSearch
        >>> centre = SkyCoord(241.5, -5.25, unit='deg')
        >>> best = ClipSearch.query_region(centre, 'ring galaxy', radius='2 arcmin')
        >>> best['clip_rank', 'target_classification', 's_ra', 's_dec'].pprint()
        clip_rank target_classification    s_ra      s_dec
        --------- --------------------- ---------- ---------
                1          GALAXY; RING 241.496013 -5.252982
        >>> best.meta['clip']['selection']
        'MAST images within 2 arcmin of 16h06m00.0s -05d15m00.0s'
        """
        phrases, criteria, options = self._split_options(text, options)
        return self._rank_position(phrases, coordinates, None, radius, criteria, options)

    def query_object(self, object_name: str, text: str | Sequence[str] | None = None, *,
                     radius: 'Quantity | str | None' = None, **options: Any) -> 'Table':
        """
        Rank the image observations of MAST around a named object.

        Parameters
        ----------
        object_name : str
            Such as ``"M 104"``, resolved by MAST.
        text : str or sequence of str, optional
            What the image shows; several phrases are averaged. Only example images
            (``like=...``) can replace it.
        radius : str or `~astropy.units.Quantity`, optional
            Radius, 0.2 deg by default.
        **options
            Options of `rank`, such as ``limit``, and further criteria of
            ``Observations.query_criteria``; ``resolver='NED'`` chooses who resolves the name.

        Returns
        -------
        `~astropy.table.Table`
            Rows of MAST, best first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.ResolverError
            If the name is not known.
        astroquery.exceptions.InvalidQueryError
            If this is no radius or no phrase, or astroquery does not know a criterion.
        astroquery.exceptions.RemoteServiceError
            If MAST does not answer.

        Examples
        --------
        An object of the sample archive, which stands in for MAST here:

        >>> from astroclip_search import ClipSearch
        >>> best = ClipSearch.query_object('SYN-UGC-272', 'spiral galaxy', radius='3 arcmin')
        >>> best['clip_rank', 'target_name', 'target_classification'].pprint()
        clip_rank target_name target_classification
        --------- ----------- ---------------------
                1 SYN-UGC-272        GALAXY; SPIRAL
        """
        phrases, criteria, options = self._split_options(text, options)
        return self._rank_position(phrases, None, object_name, radius, criteria, options)

    def query_criteria(self, text: str | Sequence[str] | None = None, **options: Any) -> 'Table':
        """
        Rank the image observations of MAST that meet criteria.

        Parameters
        ----------
        text : str or sequence of str, optional
            What the image shows; several phrases are averaged. Only example images
            (``like=...``) can replace it.
        **options
            Criteria of ``Observations.query_criteria``, such as ``proposal_id='10775'``, and
            options of `rank`, such as ``limit``. ``dataproduct_type`` is ``'image'`` unless given.

        Returns
        -------
        `~astropy.table.Table`
            Rows of MAST, best first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If there is no criterion, or astroquery does not know one.
        astroquery.exceptions.RemoteServiceError
            If MAST does not answer.

        Examples
        --------
        >>> from astroclip_search import ClipSearch
        >>> best = ClipSearch.query_criteria('comet', instrument_name='SYNCAM/IMAGE', limit=1)
        >>> best['clip_rank', 'target_classification', 'instrument_name'].pprint()
        clip_rank target_classification instrument_name
        --------- --------------------- ---------------
                1   SOLAR SYSTEM; COMET    SYNCAM/IMAGE
        """
        phrases, criteria, options = self._split_options(text, options)
        if not criteria:
            raise invalid('Give at least one criterion, such as obs_collection="HST".')
        return self._rank_criteria(phrases, criteria, options)

    def query_image(self, image: Any, results: Any = None, *,
                    text: str | Sequence[str] | None = None,
                    coordinates: 'SkyCoord | str | None' = None, object_name: str | None = None,
                    radius: 'Quantity | str | None' = None, **options: Any) -> 'Table':
        """
        Rank by likeness to example images.

        Candidates are the rows of ``results``, or else come from MAST: those around a position,
        those that `query_text` chooses for the phrase, or those that meet criteria.

        Parameters
        ----------
        image : path, address, array, HDU, NDData, image, bytes, Row, Table, or a list of them
            One or more examples, as ``like`` of `rank`.
        results : Table, QTable, Row, DALResults, path, glob pattern, or a list, optional
            What is ranked, as for `rank`.
        text : str or sequence of str, optional
            What the image shows besides.
        coordinates : str or `~astropy.coordinates.SkyCoord`, optional
            Centre of the search.
        object_name : str, optional
            Name of the object at the centre, resolved by MAST.
        radius : str or `~astropy.units.Quantity`, optional
            Radius around the centre, 0.2 deg by default.
        **options
            Options of `rank`, such as ``limit``, and, without ``results``, criteria of
            ``Observations.query_criteria``.

        Returns
        -------
        `~astropy.table.Table`
            Rows, most alike first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If nothing says where to look, or the example is no image.
        PreviewError
            If the example cannot be read.
        astroquery.exceptions.RemoteServiceError
            If MAST does not answer.

        Examples
        --------
        The observation whose preview is the example is most like it:

        >>> from astroclip_search import ClipSearch, sample
        >>> example = sample.IMAGE_DIR / 'previews' / 'syn_0004.jpg'
        >>> best = ClipSearch.query_image(example, instrument_name='SYNIR/IMAGE', calib_level=[3])
        >>> best['clip_rank', 'target_classification', 'jpegURL'][:1].pprint()
        clip_rank target_classification            jpegURL
        --------- --------------------- --------------------------------
                1          GALAXY; RING mast:SAMPLE/product/syn_0004.jpg
        """
        phrases, criteria, options = self._split_options(text, {**options, 'like': image})
        if results is not None:
            if criteria or object_name is not None:
                unknown = ', '.join([*criteria, *(['object_name'] if object_name else [])])
                raise invalid(f'{unknown}: results are given, so that there is nothing to ask '
                              'MAST for.')
            return self.rank(results, phrases, coordinates=coordinates, radius=radius, **options)
        if coordinates is not None or object_name is not None:
            return self._rank_position(phrases, coordinates, object_name, radius, criteria, options)
        if radius is not None:
            raise invalid('A radius needs coordinates or object_name.')
        if phrases is not None:
            return self._rank_words(phrases, criteria, options)
        if not criteria:
            raise invalid('Say where to look for images like this one: give results, coordinates, '
                          'object_name, text, or a criterion such as obs_collection="HST".')
        return self._rank_criteria(None, criteria, options)

    def _rank_words(self, phrases: list[str], criteria: dict, options: dict) -> 'Table':
        from . import conf
        from .archives import mast

        defaults = {'intentType': 'science', 'dataRights': 'PUBLIC',
                    'obs_collection': list(conf.mast_collections),
                    'calib_level': [int(level) for level in conf.mast_calib_levels]}
        table, selection = mast.search_words(
            ' '.join(phrases), {**defaults, **criteria}, observations=self._mast,
            max_rows=min(_MAX_CANDIDATES, conf.mast_max_rows))
        return self._rank_selection(table, phrases, selection, options)

    def _rank_criteria(self, phrases: list[str] | None, criteria: dict,
                       options: dict) -> 'Table':
        from . import conf
        from .archives import mast

        table = mast.criteria(criteria, observations=self._mast, max_rows=conf.mast_max_rows)
        selection = 'MAST rows with ' + ', '.join(f'{k}={v}' for k, v in criteria.items())
        return self._rank_selection(table, phrases, selection, options)

    def _rank_position(self, phrases: list[str] | None, coordinates: Any, object_name: str | None,
                       radius: Any, criteria: dict, options: dict) -> 'Table':
        from . import conf
        from .archives import mast

        if coordinates is not None and object_name is not None:
            raise invalid('Give coordinates or object_name, not both.')
        radius = mast.search_radius(radius)
        if object_name is not None:
            position = mast.resolve(object_name, self._mast,
                                    resolver=criteria.pop('resolver', None))
            where = object_name
        else:
            position, where = mast.position(coordinates), coordinates
            if not isinstance(where, str):
                where = position.to_string('hmsdms', precision=1)
        table = mast.criteria({**criteria, 'coordinates': position, 'radius': radius},
                              observations=self._mast, max_rows=conf.mast_max_rows)
        return self._rank_selection(table, phrases, f'MAST images within {radius:g} of {where}',
                                    options)

    def _rank_selection(self, table: 'Table', phrases: list[str] | None, selection: str,
                        options: dict) -> 'Table':
        ranked = self.rank(table, phrases, **options)
        ranked.meta['clip']['selection'] = selection
        return ranked

    def _split_options(self, text: Any, given: dict) -> tuple[list[str] | None, dict, dict]:
        """
        Phrases, criteria of MAST and options of rank, checked before anything is asked.
        """
        # A position is where to search, not where to cut.
        names = inspect.signature(self.rank).parameters.keys() - {'coordinates', 'radius'}
        options = {name: value for name, value in given.items() if name in names}
        criteria = {name: value for name, value in given.items() if name not in names}
        shared = inspect.signature(check_query).parameters.keys() & options.keys()
        phrases, _ = check_query(text, **{name: options[name] for name in shared})
        asked = ['text'] * bool(phrases) + [part for part in ('like', 'unlike')
                                            if options.get(part) is not None]
        check_weights(options.get('weights'), asked)
        check_count(options.get('max_images'), 'max_images', 'conf.max_images')
        return phrases or None, criteria, options
