# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The public object: signatures and docstrings of the verbs.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import ImageOptions, RankOptions, check_phrases, make_options
from .session import Session

if TYPE_CHECKING:
    import numpy as np
    from astropy.coordinates import SkyCoord
    from astropy.table import Table
    from astropy.units import Quantity
    from matplotlib.axes import Axes
    from PIL.Image import Image

    from ..models.encoder import Encoder
    from ..results.gallery import Gallery

__all__ = ['ClipSearch', 'ClipSearchClass']


class _Verbs:
    """
    The verbs of a module, which is imported when the first of them is called.
    """

    def __init__(self, module: str):
        self.module = module

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith('__'):
            raise AttributeError(verb)  # as a copy asks before there is a module
        return getattr(import_module(f'.{self.module}', __package__), verb)


encode, label, locate, mast, placed, rank, refine, saved, show, suggest, vo = map(
    _Verbs, ('encode', 'label', 'locate', 'mast', 'placed', 'rank', 'refine', 'saved', 'show',
             'suggest', 'vo'))

__doctest_requires__ = {'ClipSearchClass.plot_*': ['matplotlib']}


class ClipSearchClass:
    """
    Search archives, results and files for what the images show.

    Making an instance loads nothing; the first query opens the model, which all instances that use
    the same one share. An instance can be pickled at any time and works on after a fork; see
    `~astroclip_search.search.session.Session`. Every setting that is `None` is read from
    `astroclip_search.conf` at the time of the call.

    Parameters
    ----------
    model : str, optional
        ``'default'`` for the embedded model, the path of a model bundle, or a Hugging Face id.
    revision : str, optional
        Commit, tag or branch of a Hugging Face model.
    device : {'auto', 'cpu', 'cuda'}, optional
        Where the model runs.
    cache_dir : path-like, optional
        Folder of the cache, by default in astropy's cache directory.
    mast : `astroquery.mast.ObservationsClass`, optional
        Instance that is asked for MAST data, for example one that is logged in.
    encoder : Encoder, optional
        Used instead of the model: anything with its methods.

    Examples
    --------
    >>> from astroclip_search import ClipSearch
    >>> best = ClipSearch.rank('my_fits_folder', 'ring galaxy')   # doctest: +SKIP
    """

    def __init__(self, *, model: str | None = None, revision: str | None = None,
                 device: str | None = None, cache_dir: str | Path | None = None,
                 mast: Any = None, encoder: 'Encoder | None' = None):
        self.session = Session(model=model, revision=revision, device=device, cache_dir=cache_dir,
                               mast=mast, encoder=encoder)

    def __call__(self, **kwargs: Any) -> 'ClipSearchClass':
        """
        A fresh, independently configurable instance, as in astroquery.
        """
        return type(self)(**kwargs)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} model={self.model!r}>'

    def __enter__(self) -> 'ClipSearchClass':
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {'session': copy(self.session)}  # a copy has settings of its own

    def __setattr__(self, name: str, value: Any) -> None:
        known = {'model', 'device', 'cache_dir', *{'session'} - self.__dict__.keys()}
        if name not in known and (type(self) is ClipSearchClass or name == 'session'):
            raise AttributeError(f'ClipSearch has no setting {name!r}: it has model, device and '
                                 'cache_dir; all others are in astroclip_search.conf.')
        object.__setattr__(self, name, value)

    @property
    def model(self) -> str:
        """
        The model, which may be assigned: ``'default'``, a path or a Hugging Face id.
        """
        return self.session.model_name

    @model.setter
    def model(self, value: str | None) -> None:
        self.session.use_model(value)

    @property
    def device(self) -> str:
        """
        Where the model is to run, which may be assigned: ``'auto'``, ``'cpu'`` or ``'cuda'``.
        """
        return self.session.setting('device', self.session.device)

    @device.setter
    def device(self, value: str | None) -> None:
        self.session.device = value

    @property
    def cache_dir(self) -> Path:
        """
        Folder of the cache, which may be assigned.
        """
        return self.session.cache_path().parent

    @cache_dir.setter
    def cache_dir(self, value: str | Path | None) -> None:
        self.session.cache_dir = value

    def close(self) -> None:
        """
        Close the cache. A later call opens it again.

        Examples
        --------
        >>> from astroclip_search import ClipSearch
        >>> with ClipSearch(device='cpu') as search:
        ...     vectors = search.encode_text('ring galaxy')
        """
        self.session.close()

    # ---- ranking -------------------------------------------------------------------------

    def rank(self, results: Any, text: str | Sequence[str] | None = None, *,
             limit: int | None = None, by: str = 'both',
             negative: str | Sequence[str] | None = None, like: Any = None, unlike: Any = None,
             weights: dict[str, float] | None = None,
             group_by: str | Sequence[str] | None = None,
             fold_duplicates: bool | float | None = None,
             image_dir: str | Path | None = None,
             image_column: str | Sequence[str] | None = None, cutout: Any = None,
             colour: bool = False, sky_context: str | None = None, max_images: int | None = None,
             cache: bool = True, show_progress: bool | str | None = None) -> 'Table':
        """
        Order a result by what its images show.

        Parameters
        ----------
        results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
            The user's own result; see `~astroclip_search.archives.open_results`. A table that any
            verb has returned is taken as it is.
        text : str or sequence of str, optional
            What the image shows; several phrases are averaged. Needed unless ``like`` is given, or
            the table was ranked before: then it goes on by its own phrase, marks and ``by``.
        limit : int or None
            Number of rows to return; `None` returns all.
        by : {'both', 'image', 'metadata'}
            Whether the pictures count, the metadata of the rows, or both. ``'metadata'`` downloads
            nothing. Metadata are compared with phrases and never with example images: without a
            phrase only pictures count.
        negative : str or sequence of str, optional
            What the image should not show.
        like, unlike : path, address, array, HDU, NDData, image, bytes, Row, Table, or a list
            Example images that it should or should not look like: files, ``http``, ``https`` or
            ``mast:`` addresses, images in memory, or rows of a result. Rows of a ranked table are
            not downloaded again. Several are averaged, and from five on learned from.
        weights : dict, optional
            What each part counts: ``text`` (1), ``negative``, ``like`` and ``unlike`` (0.5 each)
            within the score of the picture; ``image`` and ``metadata`` for picture and metadata of
            a row, as fitted for the model. :ref:`scores` has the formula.
        group_by : str or sequence of str, optional
            Columns such as ``'proposal_id'`` or ``'target_name'``: the best row of each group
            comes first, then the second of each, and so on.
        fold_duplicates : bool or float, optional
            Move pictures that nearly repeat a better one behind all others that have a score;
            ``clip_message`` says which one, and ``meta['clip']['n_folded']`` how many were moved.
            A number is the cosine from which on two pictures count as the same, 0.98 by default.
            Unless it is ``False``, exact copies among the first 200 rows are moved in any case.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        image_column : str or sequence of str, optional
            Columns that name the images, if the package does not know them, or in place of those
            that it knows; of each row the first that has a value counts. Whole paths are read
            wherever they are, so name no column of a table that you do not trust.
        cutout : tuple, optional
            Position and size of the cutouts that are ranked, where an archive makes cutouts. The
            position is a `~astropy.coordinates.SkyCoord`, a string, or `None` for the centre of
            each row; the size is the diameter, a `~astropy.units.Quantity`, a string, or a number
            in degrees.
        colour : bool
            Compose a colour image of the FITS files of one observation in three filters.
        sky_context : str, optional
            Name of a HiPS, such as ``'CDS/P/DSS2/color'``, that shows the place of rows that have
            no image.
        max_images : int, optional
            Number of images to download at most, ``conf.max_images`` by default. If there are
            more, those whose metadata fit best are taken; call again to go on.
        cache : bool
            Keep embeddings on disk, and use those that are there.
        show_progress : bool or 'live', optional
            Show on a terminal or in a notebook how many images are queued, fetched, embedded and
            failed. With ``'live'`` a notebook also shows the best images so far, and a terminal
            the name of the best one; and an interruption (the stop button of the notebook, or
            Ctrl-C) returns the ranking of the rows that were embedded by then, the other rows
            ``SKIPPED``. Without, it raises `KeyboardInterrupt`; nothing embedded is lost.

        Returns
        -------
        `~astropy.table.Table`
            A copy of the input, best rows first. In front are ``clip_rank`` (1 is best),
            ``clip_score`` (what the order follows) and ``clip_false_alarm`` (fraction of unrelated
            archive images that score at least as high); behind are ``clip_image`` and
            ``clip_metadata`` (cosines of the picture and of the row's metadata), ``clip_source``,
            ``clip_message``, ``clip_status`` (``OK``, ``SKIPPED``, ``NO_IMAGE``, ``DENIED`` or
            ``ERROR``) and ``clip_name`` (what the row is called, in few letters), so that
            ``print`` shows rank, scores, status and name in a narrow terminal. Rows that could not
            be ranked come last. ``meta['clip']`` says what was asked of which model, and as
            ``chance`` how often unrelated rows would be ranked as high: if often, a warning says
            that nothing stands out.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the phrase is empty, or the result has no images.
        ImageError
            If an example cannot be read.
        BundleError, EncoderError
            If the model cannot be used.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> archive = sample.read()[34:70]
        >>> best = ClipSearch.rank(archive, 'ring galaxy', image_dir=sample.IMAGE_DIR)
        >>> best['clip_rank', 'target_classification', 'clip_status'][:1].pprint()
        clip_rank target_classification clip_status
        --------- --------------------- -----------
                1          GALAXY; RING          OK

        More like the first, each class once before any comes again:

        >>> more = ClipSearch.rank(archive, like=best[0], image_dir=sample.IMAGE_DIR, limit=5,
        ...                        group_by='target_classification'
        ...                        )   # doctest: +IGNORE_WARNINGS
        >>> str(more['obs_id'][0]) == best['obs_id'][0]
        True
        """
        return rank.rank(self.session, results, text, RankOptions(
            limit=limit, by=by, negative=negative, like=like, unlike=unlike, weights=weights,
            group_by=group_by, fold_duplicates=fold_duplicates, image_dir=image_dir,
            image_column=image_column, cutout=cutout, colour=colour, sky_context=sky_context,
            max_images=max_images, cache=cache, show_progress=show_progress))

    def filter(self, results: Any, text: str | Sequence[str] | None = None, *,
               false_alarm_rate: float = 0.01, **options: Any) -> 'Table':
        """
        Keep only the rows whose image shows something.

        Parameters
        ----------
        results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
            As for `rank`.
        text : str or sequence of str, optional
            What the image shows. Needed unless ``like`` is given, or the table was ranked before:
            then it goes on by its own phrase, keeps what is marked as liked, and leaves out what
            is marked as disliked.
        false_alarm_rate : float
            Keep rows whose ``clip_false_alarm`` is at most this: of a hundred unrelated images,
            0.01 lets one through.
        **options
            Options of `rank`; ``limit`` is the number of rows to return, of those that are kept.

        Returns
        -------
        `~astropy.table.Table`
            As from `rank`, without the other rows; it may be empty.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the model has no reference images to measure a false-alarm rate with.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> rings = ClipSearch.filter(sample.read()[34:70], 'ring galaxy',
        ...                           image_dir=sample.IMAGE_DIR)
        >>> len(rings) < 10, bool((rings['clip_false_alarm'] <= 0.01).all())
        (True, True)
        """
        return rank.filter_rows(self.session, results, text, false_alarm_rate,
                           make_options(RankOptions, 'filter', options))

    def refine(self, table: 'Table', text: str | Sequence[str] | None = None, *,
               liked: Any = (), disliked: Any = (), forget: Any = (), limit: int | None = None,
               by: str | None = None, negative: str | Sequence[str] | None = None,
               weights: dict[str, float] | None = None,
               group_by: str | Sequence[str] | None = None,
               fold_duplicates: bool | float | None = None) -> 'Table':
        """
        Rank a ranked table again by what you say of its rows: these are right, those are wrong.

        The rows that you like come first and those that you dislike last; the order of all others
        is learned from both, with the phrase as what is known beforehand. Nothing is downloaded
        and no image is read; the cache has the embeddings. The table keeps the marks in
        ``clip_label``, so that a search is refined step by step, saved, and resumed.

        Parameters
        ----------
        table : `~astropy.table.Table`
            A ranked table. Only its rows are ranked, so rank without a ``limit`` first.
        text : str or sequence of str, optional
            A phrase instead of the one that the table was ranked by.
        liked, disliked : int, sequence of int or bool, Row, or Table
            Rows that are, or are not, as wanted: their ``clip_rank``, which the gallery shows; or
            rows themselves; or a mask of the table. Rows with the same image are judged together.
            Of a row that is named on both sides in turn, the last word counts.
        forget : int, sequence of int or bool, Row, Table, or 'all'
            Rows whose mark is taken back; ``'all'`` takes back every mark.
        limit : int or None
            Number of rows to return; `None` returns all.
        by : {'both', 'image', 'metadata'}, optional
            Whether pictures count, the metadata of the rows, or both; as before by default. With
            ``'metadata'`` nothing is learned, as marks are about pictures.
        negative : str or sequence of str, optional
            What the image should not show, instead of the earlier ``negative``.
        weights : dict, optional
            As for `rank`; as before by default.
        group_by : str or sequence of str, optional
            As for `rank`, among the rows that are not marked.
        fold_duplicates : bool or float
            As for `rank`, among the rows that are not marked.

        Returns
        -------
        `~astropy.table.Table`
            As from `rank`, with ``clip_label`` behind the other columns: 1 for liked, 0 for
            disliked, masked for rows that are not marked. ``meta['clip']['learned']`` is false if
            the marks say no more than the phrase, which then ranks the other rows. A row whose
            embedding is not kept any more keeps its status and comes last; its ``clip_message``
            says so.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the table is not ranked, does not say by which phrase, or there is no such row.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> best = ClipSearch.rank(sample.read()[34:70], 'ring galaxy',
        ...                        image_dir=sample.IMAGE_DIR)
        >>> better = ClipSearch.refine(best, liked=[1, 3], disliked=2)
        >>> better['clip_label'].tolist()[:3], better['clip_label'].tolist()[-1]
        ([1, 1, None], 0)

        The marks count in further steps, also with another phrase:

        >>> rings = ClipSearch.refine(better, 'ring galaxy', forget=1)
        >>> len(rings), len(rings.meta['clip']['like']), rings.meta['clip']['query']
        (36, 1, ['ring galaxy'])
        """
        return refine.refine(self.session, table, text, liked, disliked, forget, by, RankOptions(
            limit=limit, negative=negative, weights=weights, group_by=group_by,
            fold_duplicates=fold_duplicates))

    def suggest(self, table: 'Table', n: int = 5, *,
                text: str | Sequence[str] | None = None) -> 'Table':
        """
        Choose the rows to look at next: those whose marks would teach `refine` most.

        They are plausible, not certain, and differ from one another and from the rows that are
        marked already. Nothing is downloaded and no image is read.

        Parameters
        ----------
        table : `~astropy.table.Table`
            A ranked table.
        n : int
            Number of rows.
        text : str or sequence of str, optional
            A phrase, needed only where the table has lost the one that it was ranked by.

        Returns
        -------
        `~astropy.table.Table`
            Rows of the table that are not marked, in the order to look at them, with all of its
            columns. Their ``clip_rank`` is that of the table, so that ``refine(table, liked=...,
            disliked=...)`` understands it. There are fewer than ``n`` if there are no more.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the table is not ranked by pictures, or does not say by which phrase.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> best = ClipSearch.rank(sample.read()[34:70], 'ring galaxy',
        ...                        image_dir=sample.IMAGE_DIR)
        >>> look = ClipSearch.suggest(best, 3)
        >>> right, *wrong = look['clip_rank'].tolist()      # what you see there
        >>> better = ClipSearch.refine(best, liked=right, disliked=wrong)
        >>> better['clip_label'].tolist()[0], better['clip_label'].tolist()[-2:]
        (1, [0, 0])
        """
        return suggest.suggest(self.session, table, n, text)

    # ---- kept for later --------------------------------------------------------------------

    def save(self, table: 'Table', path: str | Path, *, overwrite: bool = False) -> Path:
        """
        Keep a search: its rows, their scores and marks, and what was asked of which archive.

        Parameters
        ----------
        table : `~astropy.table.Table`
            What a verb such as `rank`, `refine` or `query_text` has returned.
        path : path-like
            The file. Its suffix says the format: ``.ecsv``, ``.fits``, ``.vot`` or ``.parquet``.
        overwrite : bool
            Replace a file that is there.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the table is no search, the format cannot keep one, or the file is there.

        See Also
        --------
        rerun : Ask the same again.

        Examples
        --------
        >>> from astroclip_search import ClipSearch
        >>> best = ClipSearch.query_text('ring galaxy')
        >>> file = ClipSearch.save(best, 'rings.ecsv')   # doctest: +SKIP
        """
        return saved.save(table, path, overwrite)

    def rerun(self, search: Any, results: Any = None, *, new_only: bool = True,
              false_alarm_rate: float | None = None, **options: Any) -> 'Table':
        """
        Ask a saved search again, and get what is new since.

        A row is new if the search has not found it before, whether or not it was among the rows
        that were kept. An observation is known by its identifier (``obsid`` of MAST,
        ``obs_publisher_did`` of the VO), or else by the address of its image.

        Parameters
        ----------
        search : path-like or `~astropy.table.Table`
            What `save` has written, or what a verb such as `query_text` has returned.
        results : Table, DALResults, path, or other, optional
            What is to be ranked now, as for `rank`: needed if a table in memory was ranked. Files
            of this computer that a search of another session names are looked for only in this,
            or in the option ``image_dir``.
        new_only : bool
            Return the new rows alone, and not all rows that the search finds now.
        false_alarm_rate : float, optional
            Return only rows whose ``clip_false_alarm`` is at most this; of a search by `filter`,
            its rate by default. Rows that could not be read are new again when they can.
        **options
            Options of `rank`, such as ``limit``, in place of those of the search.

        Returns
        -------
        `~astropy.table.Table`
            As from the verb that made the search, with ``clip_new`` behind the other columns;
            ``clip_rank`` counts all rows that were found. Marks of `refine` are kept. Save this
            table, and the next `rerun` is about what comes later. ``meta['clip']`` says as
            ``n_new`` how many rows are new, and as ``since`` when the search was made.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the table does not say what was searched, or that cannot be asked again.
        astroquery.exceptions.RemoteServiceError
            If the archive does not answer.

        Examples
        --------
        >>> from astroclip_search import ClipSearch
        >>> best = ClipSearch.query_text('ring galaxy')
        >>> new = ClipSearch.rerun(best)
        >>> len(new), new.meta['clip']['n_new']
        (0, 0)
        """
        return saved.rerun(self.session, search, results, new_only, false_alarm_rate,
                           make_options(RankOptions, 'rerun', options), options.keys())

    # ---- MAST ----------------------------------------------------------------------------

    def query_text(self, text: str | Sequence[str] | None, *,
                   coordinates: 'SkyCoord | str | None' = None,
                   object_name: str | None = None, radius: 'Quantity | str | None' = None,
                   limit: int | None = 20, criteria: Mapping[str, Any] | None = None,
                   **options: Any) -> 'Table':
        """
        Search MAST for images that show something.

        With nothing but a phrase, the candidates are public, calibrated science images of
        ``conf.mast_collections`` whose title or target classification has a word of the phrase.
        ``meta['clip']['selection']`` says which.

        Parameters
        ----------
        text : str, sequence of str or None
            What the image shows; several phrases are averaged. `None` only with a position and
            example images (``like=...``).
        coordinates : str or `~astropy.coordinates.SkyCoord`, optional
            Centre of the search.
        object_name : str, optional
            Name of the object at the centre, which MAST resolves.
        radius : str or `~astropy.units.Quantity`, optional
            Radius around the centre, 0.2 deg by default.
        limit : int or None
            Number of rows to return; `None` returns all.
        criteria : dict, optional
            Criteria of ``Observations.query_criteria``, such as
            ``{'instrument_name': 'ACS/WFC'}``; they replace the defaults of the same name.
        **options
            Options of `rank`, such as ``negative`` or ``by``.

        Returns
        -------
        `~astropy.table.Table`
            Rows of MAST, best first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the phrase is empty, there is no such option, or astroquery does not know a
            criterion.
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
        return mast.query_text(
            self.session, text, coordinates, object_name, radius, criteria,
            make_options(RankOptions, 'query_text', {'limit': limit, **options}))

    def query_region(self, coordinates: 'SkyCoord | str', text: str | Sequence[str] | None = None,
                     *, radius: 'Quantity | str | None' = None,
                     criteria: Mapping[str, Any] | None = None, **options: Any) -> 'Table':
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
        criteria : dict, optional
            Further criteria of ``Observations.query_criteria``.
        **options
            Options of `rank`, such as ``limit``.

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
        return mast.query_around(self.session, text, coordinates, None, radius, criteria,
                                 make_options(RankOptions, 'query_region', options))

    def query_object(self, object_name: str, text: str | Sequence[str] | None = None, *,
                     radius: 'Quantity | str | None' = None, resolver: str | None = None,
                     criteria: Mapping[str, Any] | None = None, **options: Any) -> 'Table':
        """
        Rank the image observations of MAST around a named object.

        Parameters
        ----------
        object_name : str
            Such as ``"M 104"``, which MAST resolves.
        text : str or sequence of str, optional
            What the image shows; several phrases are averaged. Only example images
            (``like=...``) can replace it.
        radius : str or `~astropy.units.Quantity`, optional
            Radius, 0.2 deg by default.
        resolver : {'SIMBAD', 'NED'}, optional
            The service that MAST asks for the name.
        criteria : dict, optional
            Further criteria of ``Observations.query_criteria``.
        **options
            Options of `rank`, such as ``limit``.

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
        return mast.query_around(self.session, text, None, object_name, radius, criteria,
                                 make_options(RankOptions, 'query_object', options), resolver)

    def query_criteria(self, text: str | Sequence[str] | None = None, *,
                       criteria: Mapping[str, Any] | None = None, **options: Any) -> 'Table':
        """
        Rank the image observations of MAST that meet criteria.

        Parameters
        ----------
        text : str or sequence of str, optional
            What the image shows; several phrases are averaged. Only example images
            (``like=...``) can replace it.
        criteria : dict
            Criteria of ``Observations.query_criteria``, such as ``{'proposal_id': '10775'}``; at
            least one. ``dataproduct_type`` is ``'image'`` unless given.
        **options
            Options of `rank`, such as ``limit``.

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
        >>> best = ClipSearch.query_criteria('comet', limit=1,
        ...                                  criteria={'instrument_name': 'SYNCAM/IMAGE'})
        >>> best['clip_rank', 'target_classification', 'instrument_name'].pprint()
        clip_rank target_classification instrument_name
        --------- --------------------- ---------------
                1   SOLAR SYSTEM; COMET    SYNCAM/IMAGE
        """
        return mast.query_criteria(self.session, text, criteria,
                                   make_options(RankOptions, 'query_criteria', options))

    def query_image(self, image: Any, results: Any = None, *,
                    text: str | Sequence[str] | None = None,
                    coordinates: 'SkyCoord | str | None' = None, object_name: str | None = None,
                    radius: 'Quantity | str | None' = None,
                    criteria: Mapping[str, Any] | None = None, **options: Any) -> 'Table':
        """
        Rank by likeness to example images.

        The candidates are the rows of ``results``, or else come from MAST: those around a
        position, those that `query_text` chooses for the phrase, or those that meet criteria.

        Parameters
        ----------
        image : path, address, array, HDU, NDData, image, bytes, Row, Table, or a list of them
            One or more examples, as ``like`` of `rank`.
        results : Table, QTable, Row, DALResults, path, glob pattern, or a list, optional
            What to rank, as for `rank`.
        text : str or sequence of str, optional
            What the image shows besides.
        coordinates : str or `~astropy.coordinates.SkyCoord`, optional
            Centre of the search in MAST.
        object_name : str, optional
            Name of the object at the centre, which MAST resolves.
        radius : str or `~astropy.units.Quantity`, optional
            Radius around the centre, 0.2 deg by default.
        criteria : dict, optional
            Criteria of ``Observations.query_criteria``.
        **options
            Options of `rank`, such as ``limit``.

        Returns
        -------
        `~astropy.table.Table`
            Rows, most alike first, with the columns that `rank` adds.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If nothing says where to look, or the example is no image.
        ImageError
            If the example cannot be read.
        astroquery.exceptions.RemoteServiceError
            If MAST does not answer.

        Examples
        --------
        The observation whose preview is the example is most like it:

        >>> from astroclip_search import ClipSearch, sample
        >>> example = sample.IMAGE_DIR / 'previews' / 'syn_0004.jpg'
        >>> best = ClipSearch.query_image(example, criteria={'instrument_name': 'SYNIR/IMAGE',
        ...                                                  'calib_level': [3]})
        >>> best['clip_rank', 'target_classification', 'jpegURL'][:1].pprint()
        clip_rank target_classification            jpegURL
        --------- --------------------- --------------------------------
                1          GALAXY; RING mast:SAMPLE/product/syn_0004.jpg
        """
        return mast.query_image(self.session, image, results, text, coordinates, object_name,
                                radius, criteria, make_options(RankOptions, 'query_image', options))

    # ---- the Virtual Observatory -----------------------------------------------------------

    def query_sia(self, text: str | Sequence[str] | None = None, *, service: Any,
                  pos: 'SkyCoord | str | tuple | list | None' = None,
                  radius: 'Quantity | str | None' = None, band: Any = None, time: Any = None,
                  collection: str | Sequence[str] | None = None, maxrec: int | None = None,
                  version: int = 2, criteria: Mapping[str, Any] | None = None,
                  **options: Any) -> 'Table':
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
        criteria : dict, optional
            Further parameters of `pyvo.dal.SIA2Service.search`, such as
            ``{'instrument': 'ACS'}``.
        **options
            Options of `rank`, such as ``limit``.

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
        return vo.query_sia(self.session, text, service, pos, radius, version, criteria,
                            make_options(RankOptions, 'query_sia', options), band=band, time=time,
                            collection=collection, maxrec=maxrec)

    def query_tap(self, text: str | Sequence[str] | None, query: str, *, service: Any,
                  uploads: dict[str, Any] | None = None, maxrec: int | None = None,
                  language: str = 'ADQL', async_: bool = False, **options: Any) -> 'Table':
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
            Run the query as a job, for those that take longer than a minute.
        **options
            Options of `rank`, such as ``limit`` or ``cutout``.

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
        return vo.query_tap(self.session, text, query, service, async_,
                            make_options(RankOptions, 'query_tap', options), uploads=uploads,
                            maxrec=maxrec, language=language)

    # ---- places in images ------------------------------------------------------------------

    def locate(self, results: Any, text: str | Sequence[str] | None = None, *, n: int = 1,
               false_alarm_rate: float | None = None, negative: str | Sequence[str] | None = None,
               like: Any = None, unlike: Any = None, weights: dict[str, float] | None = None,
               **options: Any) -> 'Table':
        """
        Say where in the pictures something is, and where on the sky.

        Parameters
        ----------
        results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
            As for `rank`, such as the first rows of a ranking.
        text : str or sequence of str, optional
            What to look for. Needed unless ``like`` is given, or the table was ranked before:
            then it is what the table was ranked by.
        n : int
            Most places of each picture.
        false_alarm_rate : float, optional
            Only places whose ``clip_false_alarm`` is at most this; pictures without such a place
            have no line.
        negative : str or sequence of str, optional
            What is not meant, as for `rank`.
        like, unlike : image, row, path, address, or a list, optional
            Examples, as for `rank`.
        weights : dict, optional
            As for `rank`.
        **options
            ``image_dir``, ``image_column``, ``cutout``, ``colour``, ``sky_context``,
            ``max_images``, ``cache`` and ``show_progress``, as for `rank`.

        Returns
        -------
        `~astropy.table.Table`
            A line for each place, in the order of the rows, the best place of a picture first, and
            one for each row without any, in which they are masked:

            - ``clip_row``, row of ``results``, and ``clip_place``, 1 for the best;
            - ``clip_x``, ``clip_y``, the peak, and ``clip_box``, x0, y0, x1, y1, in pixels of the
              original image. The centre of the first pixel is at 0. Row 0 is at the bottom of FITS
              images and arrays of numbers, so that one must be added for FITS, and on top in
              bitmaps, all as `get_images` shows them;
            - ``clip_score``, standard deviations above unrelated pictures, and
              ``clip_false_alarm``, how often an unrelated picture has a place as good;
            - ``ra``, ``dec`` (ICRS) of the peak, ``s_region`` of the box, and ``clip_sky_error``,
              how far off they may be: 0 where the image has a WCS; masked where nothing says where
              it is, and ``clip_message`` says why;
            - ``clip_status``, ``clip_message``, ``clip_source``, the row's own columns, except
              those of these names and of its ranking, and ``clip_name``.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If nothing is asked, or no row can have an image.

        See Also
        --------
        get_maps : The whole map of each picture.
        plot_places, gallery : Places drawn on their pictures.
        write_regions, write_moc, write_cutouts, send : Places for other programs.

        Notes
        -----
        A picture is looked at as a whole, and in windows of up to three sizes, from half its short
        side to a tenth if it has 800 pixels. The embedded model embeds all windows of a size in
        one pass; other models get tiles, halves and thirds of the short side. Places stand out of
        their own picture in the order of ``clip_place``: what all windows have in common counts
        little for it. See :doc:`/user_guide/places`.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> places = ClipSearch.locate(sample.read()[34:36], 'ring galaxy',
        ...                            image_dir=sample.IMAGE_DIR)
        >>> places['clip_row', 'clip_place'].as_array().tolist()
        [(0, 1), (1, 1)]
        """
        return locate.locate(self.session, results, text, n, false_alarm_rate, make_options(
            locate.LocateOptions, 'locate', {'negative': negative, 'like': like, 'unlike': unlike,
                                             'weights': weights, **options}))

    def get_maps(self, results: Any, text: str | Sequence[str] | None = None,
                 **options: Any) -> 'list[np.ndarray | None]':
        """
        Map how well each part of each picture fits.

        Parameters
        ----------
        results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
            As for `locate`.
        text : str or sequence of str, optional
            As for `locate`.
        **options
            ``negative``, ``like``, ``unlike``, ``weights`` and the other options of `locate`.

        Returns
        -------
        list of `~numpy.ndarray` or None
            For each row a map, float32 (rows, columns), row 0 on top as `get_images` shows the
            picture, 96 cells along its short side: standard deviations above unrelated pictures.
            None where there is no picture.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> heat, = ClipSearch.get_maps(sample.read()[34:35], 'ring galaxy',
        ...                             image_dir=sample.IMAGE_DIR)
        >>> min(heat.shape)
        96
        """
        return locate.get_maps(self.session, results, text, make_options(
            locate.LocateOptions, 'get_maps', options))

    # ---- words for images ------------------------------------------------------------------

    def describe(self, results: Any, phrases: str | Sequence[str] | None = None, *,
                 limit: int | None = 5, **options: Any) -> 'Table':
        """
        Say what images show: the phrases that fit each of them best.

        Parameters
        ----------
        results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
            Images, or a result with images, as for `rank`.
        phrases : str or sequence of str, optional
            What to choose from; by default all of `astroclip_search.vocabulary`.
        limit : int or None
            Number of phrases of each image; `None` returns all.
        **options
            Options of `rank` for images: ``image_dir``, ``image_column``, ``cutout``, ``colour``,
            ``sky_context``, ``max_images``, ``cache`` and ``show_progress``.

        Returns
        -------
        `~astropy.table.Table`
            One line for each image and phrase, best first, in the order of the images:
            ``clip_row`` (row of the input, from 0), ``clip_phrase``, ``clip_rank`` (1 is the
            phrase that fits best), ``clip_name`` (target or file), ``clip_source``,
            ``clip_message``, ``clip_status``, ``clip_score`` (how many standard deviations above
            that of unrelated archive images the cosine is) and ``clip_false_alarm`` (the fraction
            of these that fit the phrase at least as well). A row that has no image has one line
            with its status, in which phrase and scores are masked.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If a phrase is empty, or the result has no images.
        BundleError, EncoderError
            If the model cannot be used.

        Warns
        -----
        UncalibratedWarning
            If the model has no reference images: then ``clip_score`` is the cosine itself, which
            cannot be compared between phrases.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> image = sample.IMAGE_DIR / 'previews' / 'syn_0004.jpg'
        >>> words = ClipSearch.describe(image, ['globular cluster', 'comet', 'spiral galaxy'])
        >>> words.colnames[:3], words['clip_rank'].tolist()
        (['clip_row', 'clip_phrase', 'clip_rank'], [1, 2, 3])
        """
        return label.describe(self.session, results, phrases, limit,
                              make_options(ImageOptions, 'describe', options))

    def classify(self, results: Any, classes: Sequence[str] | Mapping[str, str | Sequence[str]],
                 *, false_alarm_rate: float | None = None, **options: Any) -> 'Table':
        """
        Sort images into classes that phrases describe.

        Parameters
        ----------
        results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
            Images, or a result with images, as for `rank`.
        classes : sequence of str, or dict
            A phrase for each class; or its name, and a phrase or several, which are averaged.
        false_alarm_rate : float, optional
            Add the class ``'none'`` for images that pass the rate of no class. The rate is that of
            each class alone: 0.05 lets through five in a hundred unrelated images a class, however
            many classes there are, and of 12 classes together up to 12 times as many.
        **options
            Options of `rank` for images: ``image_dir``, ``image_column``, ``cutout``, ``colour``,
            ``sky_context``, ``max_images``, ``cache`` and ``show_progress``.

        Returns
        -------
        `~astropy.table.Table`
            A copy of the input in the same order, with ``clip_class`` (the most probable one),
            ``clip_probability`` (of that class), ``clip_p_`` and the name of each class (its
            probability; together they are 1), ``clip_status``, ``clip_source`` and
            ``clip_message``. Class and probabilities of rows that have no image are masked.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If there is only one class and no ``false_alarm_rate``, two share a name, or a class
            ``'none'`` is asked for and the model has no reference images.
        BundleError, EncoderError
            If the model cannot be used.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> archive = sample.read()[34:46]
        >>> classes = {'ring': 'ring galaxy', 'other': ['spiral galaxy', 'elliptical galaxy']}
        >>> sorted_ = ClipSearch.classify(archive, classes, image_dir=sample.IMAGE_DIR)
        >>> sorted_.colnames[:2], sorted_.colnames[-6:-4]
        (['clip_class', 'clip_probability'], ['clip_p_ring', 'clip_p_other'])
        """
        return label.classify(self.session, results, classes, false_alarm_rate,
                              make_options(ImageOptions, 'classify', options))

    # ---- pictures and plots ----------------------------------------------------------------

    def gallery(self, results: Any, n: int | None = 24, *,
                image_dir: str | Path | None = None,
                image_column: str | Sequence[str] | None = None) -> 'Gallery':
        """
        Show thumbnails of the first rows.

        Parameters
        ----------
        results : `~astropy.table.Table` or anything that `rank` takes
            Usually a ranked table; of a description each image is shown once.
        n : int or None
            Number of rows to show; `None` shows all.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        image_column : str or sequence of str, optional
            Columns that name the images, as for `rank`.

        Returns
        -------
        Gallery
            A notebook shows it; its ``write(path)`` makes a self-contained HTML file, and
            replaces only an older gallery unless told to with ``overwrite=True``. A click or
            Enter enlarges a card, from which "Previous" and "Next" lead to those beside it.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If it is nothing that could be ranked, such as a file that is not there.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> best = ClipSearch.rank(sample.read()[34:70], 'ring galaxy',
        ...                        image_dir=sample.IMAGE_DIR)
        >>> ClipSearch.gallery(best, n=6)
        <Gallery of 6 images: 'ring galaxy'>
        """
        return show.gallery(self.session, results, n, image_dir, image_column)

    def get_images(self, results: Any, *, limit: int | None = None, size: int = 512,
                   image_dir: str | Path | None = None,
                   image_column: str | Sequence[str] | None = None) -> 'list[Image | None]':
        """
        Get the images of the rows.

        Parameters
        ----------
        results : Table or anything that `rank` takes
            A result, ranked or not.
        limit : int, optional
            Number of rows, from the first; all by default.
        size : int
            Large images are read at reduced resolution, but not below this many pixels a side.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        image_column : str or sequence of str, optional
            Columns that name the images, as for `rank`.

        Returns
        -------
        list of PIL.Image.Image or None
            One RGB image a row; `None` where there is none.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If it is nothing that could be ranked, such as a file that is not there.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> image, = ClipSearch.get_images(sample.read(), limit=1, image_dir=sample.IMAGE_DIR)
        >>> image.mode, image.size
        ('RGB', (256, 256))
        """
        return show.get_images(self.session, results, limit, size, image_dir, image_column)

    def get_image_urls(self, results: Any, *, image_dir: str | Path | None = None,
                       image_column: str | Sequence[str] | None = None,
                       colour: bool = False) -> 'Table':
        """
        Say where the image of each row would come from; nothing is downloaded.

        Parameters
        ----------
        results : Table or anything that `rank` takes
            A result, ranked or not.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        image_column : str or sequence of str, optional
            Columns that name the images, as for `rank`.
        colour : bool
            Compose a colour image of the FITS files of one observation in three filters.

        Returns
        -------
        `~astropy.table.Table`
            Columns ``clip_row``, ``clip_source``, ``clip_url`` (address or path; three for a
            composite), ``clip_status`` (empty if it is worth a try) and ``clip_message``.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If it is nothing that could be ranked, such as a file that is not there.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> urls = ClipSearch.get_image_urls(sample.read()[4:7], image_dir=sample.IMAGE_DIR)
        >>> urls['clip_row', 'clip_status', 'clip_message'].pprint()
        clip_row clip_status      clip_message
        -------- ----------- ----------------------
               0
               1
               2    NO_IMAGE the row names no image
        """
        return show.get_image_urls(self.session, results, image_dir, image_column, colour)

    def plot_gallery(self, results: Any, n: int | None = 24, *, columns: int | None = None,
                     ax: 'Axes | None' = None, image_dir: str | Path | None = None,
                     image_column: str | Sequence[str] | None = None) -> 'Axes':
        """
        Draw the thumbnails of the first rows, for a paper or where there is no browser.

        Parameters
        ----------
        results : `~astropy.table.Table` or anything that `rank` takes
            Usually a ranked table.
        n : int or None
            Number of rows to show; `None` shows all, up to 240.
        columns : int, optional
            Pictures side by side, 6 by default.
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; a new figure by default.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        image_column : str or sequence of str, optional
            Columns that name the images, as for `rank`.

        Returns
        -------
        `~matplotlib.axes.Axes`
            Without axes of its own; its ``child_axes`` are the pictures, with rank, name, score
            and false-alarm rate below each, or the reason why there is no picture.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If there is no row, or there are too many.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> best = ClipSearch.rank(sample.read()[34:70], 'ring galaxy',
        ...                        image_dir=sample.IMAGE_DIR)
        >>> ax = ClipSearch.plot_gallery(best, n=6, columns=3)
        >>> len(ax.child_axes)
        6
        >>> ax.figure.savefig('rings.pdf')  # doctest: +SKIP
        """
        return show.plot_gallery(self.session, results, n, columns, ax, image_dir,
                                 image_column)

    def plot_scores(self, table: 'Table', *, false_alarm_rate: float = 0.01,
                    ax: 'Axes | None' = None) -> 'Axes':
        """
        Draw how the rows are distributed against unrelated archive images.

        Parameters
        ----------
        table : `~astropy.table.Table`
            A ranked table; all of its rows that have a picture count, so rank without a ``limit``.
        false_alarm_rate : float
            Where the threshold is; rows above it, which `filter` keeps, are marked.
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; a new figure by default.

        Returns
        -------
        `~matplotlib.axes.Axes`
            Histograms of ``clip_image``, in standard deviations above the reference images of the
            model, and of these images themselves, scaled to the number of rows: what the table
            would look like if no row had anything to do with the query. With ``by='image'`` this
            is ``clip_score``. Metadata do not enter, as in ``clip_false_alarm``.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the table is not ranked by pictures, or was by another model; or if the model has
            no reference images, or too few for the rate.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> best = ClipSearch.rank(sample.read()[34:70], 'ring galaxy',
        ...                        image_dir=sample.IMAGE_DIR)
        >>> ax = ClipSearch.plot_scores(best, false_alarm_rate=0.05)
        >>> ax.get_ylabel()
        'Number of rows per bin'
        """
        return show.plot_scores(self.session, table, false_alarm_rate, ax)

    def plot_sky(self, table: 'Table', *, ax: 'Axes | None' = None) -> 'Axes':
        """
        Draw where on the sky the rows are, coloured by score.

        Parameters
        ----------
        table : `~astropy.table.Table`
            A ranked table with positions: columns such as ``s_ra`` and ``s_dec``, found by name or
            UCD, or a `~astropy.coordinates.SkyCoord`.
        ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
            Where to draw, such as on an image of the field; its limits stay. By default a new
            figure: a tangent plane if all rows are within 20 degrees of their centre, and else
            all the sky in Aitoff's projection.

        Returns
        -------
        `~astropy.visualization.wcsaxes.WCSAxes`
            Right ascension increases to the left. Ranks are written beside the five best rows;
            rows without a score are empty circles; rows without a position are left out.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the table is not ranked, no row has a position, or ``ax`` has no sky coordinates.
        ImportError
            If matplotlib is missing.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> best = ClipSearch.rank(sample.read()[34:70], 'ring galaxy',
        ...                        image_dir=sample.IMAGE_DIR)
        >>> ax = ClipSearch.plot_sky(best)
        >>> list(ax.wcs.wcs.ctype)
        ['RA---AIT', 'DEC--AIT']
        """
        return show.plot_sky(table, ax)

    def plot_places(self, places: 'Table', *, heat: Any = None, ax: 'Axes | None' = None,
                    image_dir: str | Path | None = None,
                    image_column: str | Sequence[str] | None = None) -> 'Axes':
        """
        Draw a picture with its places.

        Parameters
        ----------
        places : `~astropy.table.Table`
            What ``locate`` returns. The picture of its first row is drawn, with all its places in
            the table; for another choose it, as in ``places[places['clip_row'] == 3]``.
        heat : array_like, optional
            How well the phrase fits, shape ``(rows, columns)``, row 0 on top; it covers the
            picture, and its warmer half is drawn over it.
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; by default a new figure, with a grid of the sky where a FITS image has a
            WCS.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        image_column : str or sequence of str, optional
            Columns that name the images, as for `rank`.

        Returns
        -------
        `~matplotlib.axes.Axes`
            In pixels of the original image, the first at 0, as ``clip_x`` and ``clip_y`` are: a
            frame and a cross for each place, and ``clip_place`` above it.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If it is no table of places, or the picture or its places are missing.
        ImportError
            If matplotlib is missing.
        """
        return show.plot_places(self.session, places, heat, ax, image_dir, image_column)

    # ---- places to other programs ----------------------------------------------------------

    def write_regions(self, places: 'Table', path: str | Path, *, overwrite: bool = False) -> Path:
        """
        Write places as a region file of DS9.

        Parameters
        ----------
        places : `~astropy.table.Table`
            What ``locate`` returns, or some of its rows.
        path : path-like
            The file, usually ``.reg``.
        overwrite : bool
            Replace a file of this name.

        Returns
        -------
        pathlib.Path
            The file: polygons in ICRS; of places without a position, in pixels of their FITS image
            if it is one only.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If there is such a file already, it is no table of places, or none could be a region.

        Warns
        -----
        TableFormatWarning
            If some places are left out.
        """
        return placed.write_regions(places, path, overwrite=overwrite)

    def write_moc(self, places: 'Table', path: str | Path, *, overwrite: bool = False) -> Path:
        """
        Write where on the sky places are as a coverage map (MOC), in FITS.

        Parameters
        ----------
        places : `~astropy.table.Table`
            What ``locate`` returns, or some of its rows.
        path : path-like
            The file.
        overwrite : bool
            Replace a file of this name.

        Returns
        -------
        pathlib.Path
            The file; `astroclip_search.places.places_moc` gives the map itself.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If there is such a file already, it is no table of places, or none has a position.
        ImportError
            If mocpy is missing.
        """
        return placed.write_moc(places, path, overwrite=overwrite)

    def write_cutouts(self, places: 'Table', folder: str | Path, *, margin: float = 0.5,
                      overwrite: bool = False, image_dir: str | Path | None = None,
                      image_column: str | Sequence[str] | None = None) -> 'Table':
        """
        Write a cutout of each place.

        Parameters
        ----------
        places : `~astropy.table.Table`
            What ``locate`` returns, or some of its rows.
        folder : path-like
            Where the files go, each named after its image, ``clip_row`` and ``clip_place``.
        margin : float
            How much is added on each side, in sides of the box.
        overwrite : bool
            Replace files of these names.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        image_column : str or sequence of str, optional
            Columns that name the images, as for `rank`.

        Returns
        -------
        `~astropy.table.Table`
            A copy with the column ``clip_cutout``: FITS with the WCS and the numbers of the
            original, PNG of a bitmap, and nothing where ``clip_message`` says why.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If there are such files already, no such folder, or it is no table of places.
        """
        return placed.write_cutouts(self.session, places, folder, margin, overwrite, image_dir,
                                    image_column)

    def send(self, table: 'Table', *, to: str | None = None,
             name: str = 'astroclip-search') -> list[str]:
        """
        Send a table to TOPCAT, Aladin or another program on this computer (SAMP).

        Parameters
        ----------
        table : `~astropy.table.Table`
            Any table, such as what ``rank`` or ``locate`` returns.
        to : str, optional
            Name of one program; by default all that read tables.
        name : str
            What the table is called there.

        Returns
        -------
        list of str
            The programs that have read it.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If no such program is open, or one could not read the table.
        """
        return placed.send(table, to, name)

    # ---- vectors, models and the cache -----------------------------------------------------

    def encode_text(self, texts: str | Sequence[str]) -> 'np.ndarray':
        """
        Embed phrases.

        Parameters
        ----------
        texts : str or sequence of str
            One or more phrases.

        Returns
        -------
        ndarray
            Unit vectors, shape ``(n, d)``, float32; their products with those of `encode_images`
            are cosines.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If a phrase is empty.
        BundleError, EncoderError
            If the model cannot be used.

        Examples
        --------
        >>> from astroclip_search import ClipSearch
        >>> ClipSearch.encode_text(['ring galaxy', 'tidal tail']).shape
        (2, 384)
        """
        return self.session.encoder().encode_text(check_phrases(texts, 'texts'))

    def encode_images(self, images: Any) -> 'np.ndarray':
        """
        Embed images.

        Parameters
        ----------
        images : path, array, HDU, NDData, PIL.Image.Image, or a list of them
            As in `rank`; arrays are ``(ny, nx)`` or ``(ny, nx, 3)``.

        Returns
        -------
        ndarray
            Unit vectors, shape ``(n, d)``, float32: those that `rank` compares. They are computed
            anew, and not kept in the cache.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If there is none, or no such file.
        ImageError
            If one of them is no image.
        BundleError, EncoderError
            If the model cannot be used.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> ClipSearch.encode_images(sample.IMAGE_DIR / 'previews' / 'syn_0004.jpg').shape
        (1, 384)
        """
        return encode.encode_images(self.session, images)

    def list_models(self) -> 'Table':
        """
        List the models that are on this machine.

        Returns
        -------
        `~astropy.table.Table`
            Columns ``model`` (what to pass as ``model=``), ``name``, ``version``, ``licence``
            and ``size`` in MB. Any CLIP of the Hugging Face hub with two ONNX towers can be named
            too and is downloaded when it is first used.

        Examples
        --------
        >>> from astroclip_search import ClipSearch
        >>> ClipSearch.list_models()['model', 'name'][:1].pprint()
         model        name
        ------- ---------------
        default astroclip-small
        """
        return encode.list_models()

    def cache_info(self) -> dict[str, Any]:
        """
        Say where the cache is, and how much it holds.

        Returns
        -------
        dict
            ``path`` of the file (empty if there is no folder for it), its size in ``bytes``, the
            limit that it is kept to (``max_bytes``), the number of ``vectors``, ``thumbnails``,
            ``links`` and ``failures`` (`None` if the file cannot be read now), and
            ``unused_bytes``: files beside it that are of an earlier version or damaged. A cache in
            memory is not counted.

        Examples
        --------
        >>> from astroclip_search import ClipSearch
        >>> n_forgotten = ClipSearch.clear_cache()
        >>> ClipSearch.cache_info()['vectors']
        0
        """
        return self.session.cache_info()

    def clear_cache(self) -> int:
        """
        Forget all embeddings and thumbnails.

        Files of earlier versions of the cache, and damaged ones, are deleted as well. If the file
        is locked for some seconds, or cannot be written, it keeps what it has, and a message of the
        logger ``astroclip_search`` says why.

        Returns
        -------
        int
            Number of embeddings that were forgotten.

        Examples
        --------
        >>> from astroclip_search import ClipSearch
        >>> n_forgotten = ClipSearch.clear_cache()
        >>> ClipSearch.clear_cache()
        0
        """
        return self.session.clear_cache()


ClipSearch = ClipSearchClass()
