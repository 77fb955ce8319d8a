# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that ask services of the Virtual Observatory for candidates before they rank them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .phrases import invalid

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.table import Table
    from astropy.units import Quantity

__all__ = ['VoQueries']

_LARGEST_CUTOUT = 0.1  # degrees


class VoQueries:
    """
    Queries of `~astroclip_search.ClipSearchClass` to VO services.

    The class that inherits from it has ``_split_options`` and ``_rank_selection``.
    """

    def query_sia(self, text: str | Sequence[str] | None = None, *, service: Any,
                  pos: 'SkyCoord | str | tuple | list | None' = None,
                  radius: 'Quantity | str | None' = None, band: Any = None, time: Any = None,
                  collection: str | Sequence[str] | None = None, maxrec: int | None = None,
                  version: int = 2, **options: Any) -> 'Table':
        """
        Rank what an image service of the Virtual Observatory has (Simple Image Access).

        Parameters
        ----------
        text : str or sequence of str, optional
            What the image shows; several phrases are averaged. Only example images
            (``like=...``) can replace it.
        service : str, `pyvo.dal.SIA2Service` or `pyvo.dal.SIAService`
            The service: its address, or an instance, for example one that is logged in.
        pos : `~astropy.coordinates.SkyCoord`, str, tuple or list, optional
            A position, of which images and cutouts are wanted within ``radius``; or a region, or
            several, as `pyvo.dal.SIA2Service.search` takes them: ``(ra, dec, radius)``,
            ``(ra1, ra2, dec1, dec2)`` or the corners of a polygon.
        radius : str or `~astropy.units.Quantity`, optional
            Radius around a position, 0.2 deg by default.
        band : `~astropy.units.Quantity` or tuple, optional
            Wavelength, frequency or energy, or an interval of them.
        time : `~astropy.time.Time`, str or tuple, optional
            Time of the observation, or an interval.
        collection : str or sequence of str, optional
            Collections of the service.
        maxrec : int, optional
            Rows that the service sends at most.
        version : {2, 1}
            Version of SIA that a service given by its address understands.
        **options
            Options of `rank`, such as ``limit``, and further parameters of
            `pyvo.dal.SIA2Service.search`, such as ``instrument``.

        Returns
        -------
        `~astropy.table.Table`
            Rows of the service, best first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the query makes no sense, also to the service.
        astroquery.exceptions.RemoteServiceError, astroquery.exceptions.TimeoutError
            If the service does not answer.

        Examples
        --------
        Here ``sia_address`` is that of a service with the sample archive:

        >>> from astropy import units as u
        >>> from astropy.coordinates import SkyCoord
        >>> from astroclip_search import ClipSearch
        >>> centre = SkyCoord(241.5, -5.25, unit='deg')
        >>> best = ClipSearch.query_sia('ring galaxy', service=sia_address, pos=centre,
        ...                             radius=5 * u.deg, limit=2)
        >>> best['clip_rank', 'target_classification', 'clip_status'].pprint()
        clip_rank target_classification clip_status
        --------- --------------------- -----------
                1          GALAXY; RING          OK
        """
        from .archives import dal

        phrases, criteria, options = self._split_options(text, options)
        if 'coordinates' in criteria:
            raise invalid('Give the position as pos.')
        where, pos, radius = _circle(pos, radius)
        if where is not None:
            options['coordinates'] = where
            options['radius'] = min(radius.to_value('deg'), _LARGEST_CUTOUT)
        given = {'band': band, 'time': time, 'collection': collection, **criteria}
        results = dal.sia(service, version=version, pos=pos, radius=radius, maxrec=maxrec, **given)
        selection = f'images of {dal.service_address(service)}'
        if where is not None:
            selection += f' within {radius:g} of {where.to_string("hmsdms", precision=1)}'
        elif pos is not None:
            selection += f' in {pos}'
        given = {name: value for name, value in given.items() if value is not None}
        if given:
            selection += ' with ' + ', '.join(f'{name}={value}' for name, value in given.items())
        return self._rank_selection(results, phrases, selection, options)

    def query_tap(self, text: str | Sequence[str] | None, query: str, *, service: Any,
                  uploads: dict[str, Any] | None = None, maxrec: int | None = None,
                  language: str = 'ADQL', async_: bool = False,
                  coordinates: 'SkyCoord | str | None' = None,
                  radius: 'Quantity | str | None' = None, **options: Any) -> 'Table':
        """
        Rank what a query in ADQL finds, usually in a table of observations (ObsTAP).

        Parameters
        ----------
        text : str, sequence of str or None
            What the image shows; several phrases are averaged. `None` only with example images
            (``like=...``).
        query : str
            ADQL. Of ``ivoa.obscore``, select at least ``access_url`` and ``access_format``, and
            for previews from DataLink also ``obs_publisher_did``.
        service : str or `pyvo.dal.TAPService`
            The service: its address, or an instance, for example one that is logged in.
        uploads : dict, optional
            Tables by the name they have in the query, ``TAP_UPLOAD.name``.
        maxrec : int, optional
            Rows that the service sends at most.
        language : str
            Language of the query.
        async_ : bool
            Whether the query is run as a job, for those that take longer than a minute.
        coordinates : str or `~astropy.coordinates.SkyCoord`, optional
            Position that cutouts are made around, where the archive offers them.
        radius : str or `~astropy.units.Quantity`, optional
            Radius of these cutouts.
        **options
            Options of `rank`, such as ``limit``.

        Returns
        -------
        `~astropy.table.Table`
            Rows of the answer, best first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the service does not accept the query.
        astroquery.exceptions.RemoteServiceError, astroquery.exceptions.TimeoutError
            If the service does not answer.

        Examples
        --------
        Here ``tap_address`` is that of a service with the sample archive:

        >>> from astroclip_search import ClipSearch
        >>> best = ClipSearch.query_tap('ring galaxy', 'SELECT * FROM ivoa.obscore',
        ...                             service=tap_address, limit=2)
        >>> best['clip_rank', 'target_classification', 'clip_status'].pprint()
        clip_rank target_classification clip_status
        --------- --------------------- -----------
                1          GALAXY; RING          OK
                2          GALAXY; RING          OK
        """
        from .archives import dal

        phrases, unknown, options = self._split_options(text, options)
        if unknown:
            raise invalid(f'query_tap has no option {next(iter(unknown))!r}.')
        results = dal.tap(service, query, asynchronous=async_, uploads=uploads, maxrec=maxrec,
                          language=language)
        selection = f'rows of {dal.service_address(service)} for {" ".join(query.split())}'
        return self._rank_selection(results, phrases, selection,
                                    {'coordinates': coordinates, 'radius': radius, **options})


def _circle(pos: Any, radius: Any) -> tuple['SkyCoord | None', Any, 'Quantity | None']:
    """
    Centre, region and radius of a query: only a circle has a centre.
    """
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    from .archives.mast import position, search_radius

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
            where = SkyCoord(*(u.Quantity(value, u.deg) for value in pos[:2]))
        except (TypeError, ValueError, u.UnitsError) as error:
            raise invalid(f'pos={pos} is no circle (ra, dec, radius) in degrees.') from error
        return where, where, search_radius(pos[2])
    return None, pos, None
