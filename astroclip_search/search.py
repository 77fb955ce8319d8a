# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs: the only module that knows all others.
"""

import contextlib
import functools
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .descriptions import Descriptions
from .feedback import Feedback
from .phrases import (
    check_count,
    check_fraction,
    check_progress,
    check_query,
    check_weights,
    invalid,
)
from .pictures import Pictures
from .plots import Plots
from .queries import MastQueries
from .vectors import Vectors
from .vo_queries import VoQueries

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.table import Table
    from astropy.units import Quantity

    from .embeddings import Pipeline
    from .encoder import Encoder
    from .gallery import Gallery
    from .query import Query
    from .ranking import Scores
    from .references import References
    from .store import Store

__all__ = ['ClipSearch', 'ClipSearchClass']

# Two threads are not to verify the same model.
_opening = threading.Lock()

# Images that are shown while others are on their way.
_N_LIVE = 12


class ClipSearchClass(MastQueries, VoQueries, Feedback, Descriptions, Pictures, Plots, Vectors):
    """
    Search archives, results and files for what the images show.

    Making an instance loads nothing; the model is opened by the first query and shared by all
    instances that use the same one. Every setting that is `None` is read from
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
        Where embeddings are kept, by default in astropy's cache directory.
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
        self._model = model
        self._revision = revision
        self._device = device
        self._cache_dir = cache_dir
        self._mast = mast
        self._given_encoder = encoder
        self._stores: dict[Path | None, Store] = {}
        self._named_hosts: set[str] = set()  # by the user, hence trusted

    def __call__(self, **kwargs: Any) -> 'ClipSearchClass':
        """
        A fresh, independently configurable instance, as in astroquery.
        """
        return type(self)(**kwargs)

    def __repr__(self) -> str:
        if self._given_encoder is not None:
            model = self._given_encoder.bundle.name
        else:
            model = self._setting('model', self._model)
        return f'<{type(self).__name__} model={model!r}>'

    # ---- ranking -------------------------------------------------------------------------

    def rank(self, results: Any, text: str | Sequence[str] | None = None, *,
             limit: int | None = None, by: str = 'both',
             negative: str | Sequence[str] | None = None, like: Any = None, unlike: Any = None,
             weights: dict[str, float] | None = None,
             group_by: str | Sequence[str] | None = None, fold_duplicates: bool | float = False,
             image_dir: str | Path | None = None, coordinates: 'SkyCoord | str | None' = None,
             radius: 'Quantity | str | None' = None, colour: bool = False,
             sky_context: str | None = None, max_images: int | None = None, cache: bool = True,
             show_progress: bool | str | None = None) -> 'Table':
        """
        Order a result by what its images show.

        Parameters
        ----------
        results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
            The user's own result; see `~astroclip_search.archives.open_results`.
        text : str or sequence of str, optional
            What the image shows; several phrases are averaged. Needed unless ``like`` is given.
        limit : int or None
            Rows that are returned; `None` returns all.
        by : {'both', 'image', 'text'}
            Whether pictures, the rows' words, or both count. ``'text'`` downloads nothing. Words
            are compared with phrases, never with example images: without a phrase only pictures
            count.
        negative : str or sequence of str, optional
            What the image should not show.
        like, unlike : path, address, array, HDU, NDData, image, bytes, Row, Table, or a list
            Example images that it should or should not look like: files, ``http``, ``https`` or
            ``mast:`` addresses, images in memory, or rows of a result. Rows of a ranked table are
            not downloaded again. Several are averaged.
        weights : dict, optional
            What each part counts: ``text`` (1), ``negative``, ``like`` and ``unlike`` (0.5 each)
            within the score of the picture; ``image`` and ``words`` for picture and words of a
            row, as fitted for the model. :ref:`scores` has the formula.
        group_by : str or sequence of str, optional
            Columns such as ``'proposal_id'`` or ``'target_name'``: the best row of each group
            comes first, then the second of each, and so on.
        fold_duplicates : bool or float
            Move what is nearly the same picture as a better one behind all others that have a
            score; ``clip_message`` says which one. A number is the cosine from which on two
            pictures count as the same, 0.98 by default.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        coordinates : str or `~astropy.coordinates.SkyCoord`, optional
            Position that cutouts are made around, where an archive makes them.
        radius : str or `~astropy.units.Quantity`, optional
            Radius of the cutouts.
        colour : bool
            Compose a colour image of the FITS files of one observation in three filters.
        sky_context : str, optional
            Name of a HiPS, such as ``'CDS/P/DSS2/color'``, that shows the place of rows that have
            no image.
        max_images : int, optional
            Images that are downloaded at most, ``conf.max_images`` by default. If there are more,
            those whose words fit best are taken; call again to go on.
        cache : bool
            Keep embeddings on disk, and use those that are there.
        show_progress : bool or 'live', optional
            Show on a terminal or in a notebook how many images are queued, fetched, embedded and
            failed. With ``'live'`` a notebook also shows the best images so far, and a terminal
            the name of the best one; and an interruption (the stop button of the notebook, or
            Ctrl-C) gives the ranking of what has been embedded by then, the other rows
            ``SKIPPED``. Without, it raises `KeyboardInterrupt`; nothing embedded is lost.

        Returns
        -------
        `~astropy.table.Table`
            A copy of the input, best rows first, with ``clip_rank`` (1 is best), ``clip_score``
            (what the order follows), ``clip_image`` and ``clip_text`` (cosines of the picture and
            of the row's words), ``clip_false_alarm`` (fraction of unrelated archive images that
            score at least as high), ``clip_status`` (``OK``, ``SKIPPED``, ``NO_IMAGE``,
            ``DENIED`` or ``ERROR``), ``clip_source`` and ``clip_message``. Rows that could not be
            ranked come last. ``meta['clip']`` says what was asked of which model, and as ``chance``
            how often unrelated rows would be ranked as high: if often, a warning says that nothing
            stands out.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the phrase is empty, or the result has no images.
        PreviewError
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
        ...                        group_by='target_classification')
        >>> str(more['obs_id'][0]) == best['obs_id'][0]
        True
        """
        from . import examples, ranked, scoring
        from .archives import open_results
        from .diversity import DUPLICATE_COSINE, group_codes
        from .query import Query

        phrases, negatives = check_query(text, negative=negative, by=by, limit=limit, like=like,
                                         unlike=unlike)
        asked = {'text': phrases, 'like': like is not None, 'unlike': unlike is not None}
        weights = check_weights(weights, [name for name, given in asked.items() if given])
        cosine = check_fraction(fold_duplicates, 'fold_duplicates', DUPLICATE_COSINE)
        if cosine is not None and by == 'text':
            raise invalid("fold_duplicates compares pictures: use by='both' or by='image'.")
        check_count(max_images, 'max_images', 'conf.max_images')
        given = {'coordinates': coordinates, 'radius': radius, 'colour': colour or None,
                 'sky_context': sky_context}
        table, references = open_results(results, image_dir=image_dir, **{
            name: value for name, value in given.items() if value is not None})
        self._check_rankable(table, references, by)
        # An empty answer of a service may lack the columns as well.
        groups = group_codes(table, group_by) if group_by is not None and len(table) else None
        shown = {name: examples.open_examples(images, name, image_dir=image_dir)
                 for name, images in (('like', like), ('unlike', unlike)) if images is not None}
        trusted = references.trusted.union(*(part.trusted for part in shown.values()))
        progress = self._setting('show_progress', show_progress)
        encoder = self._encoder()
        with self._pipeline(encoder, self._store(cache), trusted) as pipeline:
            query = Query(phrases, negatives, weights=weights, **{
                name: examples.embed(part, pipeline, show_progress=progress)
                for name, part in shown.items()})
            draw = functools.partial(self._best_so_far, table, references, query, by, pipeline)
            scores = scoring.score(references, query, by=by, pipeline=pipeline,
                                   max_images=self._setting('max_images', max_images),
                                   show_progress=progress,
                                   draw=draw if progress == 'live' else None)
            rows = scoring.arrange(references, scores, pipeline, groups=groups, cosine=cosine)
        best = ranked.ranked_table(table, references, scores, rows[:limit])
        best.meta['clip'] = ranked.provenance(references, query, scores, by, encoder)
        ranked.warn_of_rows(references)
        ranked.warn_of_chance(scores)
        return best

    def filter(self, results: Any, text: str | Sequence[str] | None = None, *,
               false_alarm_rate: float = 0.01, limit: int | None = None,
               **options: Any) -> 'Table':
        """
        Only the rows whose image shows something.

        Parameters
        ----------
        results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
            As for `rank`.
        text : str or sequence of str, optional
            What the image shows. Needed unless ``like`` is given.
        false_alarm_rate : float
            Rows are kept whose ``clip_false_alarm`` is at most this: of a hundred unrelated
            images, 0.01 lets one through.
        limit : int or None
            Rows that are returned, of those that are kept; `None` returns all.
        **options
            Options of `rank`.

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
        import numpy as np

        from .ranked import warn_of_none

        if not 0 < false_alarm_rate < 1:
            raise invalid('false_alarm_rate must be between 0 and 1.')
        check_count(limit, 'limit', 'all rows', least=1)
        if options.get('by') == 'text':
            raise invalid("A false-alarm rate needs pictures: use by='both' or by='image'.")
        if self._encoder().bundle.background.image is None:
            raise invalid(f'The model {self._encoder().bundle.name!r} has no reference images, '
                           'so there is no false-alarm rate; use rank.')
        ranked = self.rank(results, text, **options)
        kept = np.ma.filled(ranked['clip_false_alarm'], 2.0) <= false_alarm_rate
        if not kept.any():
            warn_of_none(ranked.meta['clip']['chance'], false_alarm_rate)
        return ranked[np.flatnonzero(kept)[:limit]]

    def _best_so_far(self, table: 'Table', references: 'References', query: 'Query', by: str,
                     pipeline: 'Pipeline', scores: 'Scores') -> 'Gallery':
        """
        The best rows of those that have a score.
        """
        from . import ranked
        from .display import heading, tiles
        from .gallery import Gallery
        from .ranking import order
        from .references import image_key

        provenance = ranked.provenance(references, query, scores, by, pipeline.encoder)
        rows = order(scores.score)[:min(_N_LIVE, provenance['n_ranked'])]
        sources = [references.sources[i] for i in rows.tolist()]
        title, note = heading(provenance)
        return Gallery(
            tiles(ranked.ranked_table(table, references, scores, rows),
                  [pipeline.store.thumbnail(image_key(source)) for source in sources],
                  [self._address(source) for source in sources]),
            title=title, note=f'The best so far: {note}')

    # ---- parts ---------------------------------------------------------------------------

    def _setting(self, name: str, value: Any = None) -> Any:
        from . import conf

        value = getattr(conf, name) if value is None else value
        if name == 'show_progress':
            check_progress(value)
        return value

    def _encoder(self) -> 'Encoder':
        if self._given_encoder is not None:
            return self._given_encoder
        from .bundle import open_bundle
        from .encoder import open_encoder

        revision = self._setting('model_revision', self._revision)
        with _opening:
            bundle = open_bundle(self._model or self._setting('model'), revision)
            bundle = bundle.of_variant(self._setting('model_variant'))
            return open_encoder(bundle, device=self._setting('device', self._device),
                                n_threads=self._setting('n_threads'))

    def _warm_up(self) -> None:
        """
        Begin to open the embedded model, while the table for the first ranking is made.

        Another one may have to be downloaded, which waits until it is needed. What is wrong with
        the model is raised then, too.
        """
        def open_model() -> None:
            with contextlib.suppress(Exception):
                self._encoder().encode_text([''])

        if self._given_encoder is None and (self._model or self._setting('model')) == 'default':
            threading.Thread(target=open_model, name='astroclip-start').start()

    def _store(self, cache: bool) -> 'Store':
        from .store import Store

        path = self._cache_path() if cache else None
        if path not in self._stores:
            self._stores[path] = Store(path)
        self._stores[path].max_age = self._setting('cache_max_age') * 86400
        return self._stores[path]

    def _cache_path(self) -> Path:
        from astropy.config import get_cache_dir

        folder = self._cache_dir or get_cache_dir('astroclip_search')
        return Path(folder).expanduser() / 'embeddings.sqlite'

    def _existing_stores(self) -> 'list[Store]':
        """
        What was kept so far: looking at it must not make a file.
        """
        if self._cache_path().exists():
            self._store(True)
        return list(self._stores.values())

    @contextlib.contextmanager
    def _pipeline(self, encoder: 'Encoder | None', store: 'Store',
                  trusted: Collection[str] = ()) -> 'Iterator[Pipeline]':
        from . import __version__, conf
        from .archives import mast
        from .embeddings import Pipeline
        from .previews import Fetcher, Limits

        limits = Limits(n_connections=conf.n_connections, connect_timeout=conf.connect_timeout,
                        timeout=conf.timeout, row_timeout=conf.row_timeout,
                        query_timeout=conf.query_timeout, retries=conf.retries,
                        max_bytes=conf.max_bytes)

        self._named_hosts.update(trusted)

        def trusted_hosts() -> set[str]:
            hosts = {*self._named_hosts, *conf.private_hosts}
            # Its client takes long to load; no address of MAST has been made without it.
            if self._mast is not None or 'astroquery.mast' in sys.modules:
                hosts.add(urlsplit(self._address('mast:')).netloc)
            return hosts

        with Fetcher(limits, f'astroclip_search/{__version__}', trusted=trusted_hosts,
                     headers=mast.credentials(self._mast)) as fetcher:
            yield Pipeline(encoder, store, fetcher, self._address, batch_size=conf.batch_size,
                           max_pixels=conf.max_pixels, max_bytes=conf.max_bytes,
                           thumbnail_size=conf.thumbnail_size)

    def _address(self, source: str | None) -> str:
        """
        Address of a source, empty for what is not on a network.
        """
        if source and source.startswith('mast:'):
            from .archives.mast import download_url
            return download_url(source, self._mast)
        return source if source and source.startswith(('http://', 'https://')) else ''

    @staticmethod
    def _check_rankable(table: 'Table', references: 'References', by: str) -> None:
        from .archives.tables import IMAGE_COLUMNS, has_images

        if not len(table) or any(references.sources) or has_images(table):
            return
        if by == 'text' and any(references.words):
            return
        raise invalid('The table has no column that names images: it has '
                       f'{", ".join(table.colnames[:30])}; known names are '
                       f'{", ".join(IMAGE_COLUMNS)}.')


ClipSearch = ClipSearchClass()
