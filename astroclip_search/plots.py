# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that draw with matplotlib.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .phrases import check_count, check_query, check_weights, invalid

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import Table
    from matplotlib.axes import Axes

    from .gallery import Gallery

__all__ = ['Plots']

__doctest_requires__ = {'Plots.*': ['matplotlib']}

# A figure with more pictures cannot be read, and soon not be saved.
_MOST_PICTURES = 240


class Plots:
    """
    Plots of `~astroclip_search.ClipSearchClass`.

    The class that inherits from it has ``_encoder``, ``_stored``, ``_fullest_store`` and
    ``gallery``.
    """

    def plot_gallery(self, results: Any, n: int | None = 24, *, columns: int | None = None,
                     ax: 'Axes | None' = None, image_dir: str | Path | None = None) -> 'Axes':
        """
        Draw the thumbnails of the first rows, for a paper or where there is no browser.

        Parameters
        ----------
        results : `~astropy.table.Table` or anything that `rank` takes
            Usually a ranked table.
        n : int or None
            Rows that are shown; `None` shows all, up to 240.
        columns : int, optional
            Pictures side by side, 6 by default.
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; a new figure by default.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.

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
        from .charts import draw_tiles, require_matplotlib

        require_matplotlib()
        check_count(columns, 'columns', '6', least=1)
        gallery: Gallery = self.gallery(results, _MOST_PICTURES + 1 if n is None else n,
                                        image_dir=image_dir)
        if not 0 < len(gallery) <= _MOST_PICTURES:
            raise invalid(f'plot_gallery draws 1 to {_MOST_PICTURES} rows: choose n, or use '
                          'gallery.')
        return draw_tiles(gallery.tiles, columns=min(columns or 6, len(gallery)),
                          title=gallery.title, ax=ax)

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
            is ``clip_score``. Words do not enter, as in ``clip_false_alarm``.

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
        from .charts import draw_scores, require_matplotlib
        from .display import heading

        require_matplotlib()
        if not 0 < false_alarm_rate < 1:
            raise invalid('false_alarm_rate must be between 0 and 1.')
        cosines = _scores(table, 'clip_image', 'plot_scores')
        background = self._unrelated(table.meta.get('clip'))
        return draw_scores(cosines[cosines == cosines], background, false_alarm_rate,
                           title=heading(table.meta['clip'])[0], ax=ax)

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
        import numpy as np

        from .charts import draw_sky, require_matplotlib
        from .display import heading, positions

        require_matplotlib()
        scores = _scores(table, 'clip_score', 'plot_sky')
        ra, dec = positions(table)
        known = np.isfinite(ra) & (np.abs(dec) <= 90)
        if not known.any():
            raise invalid('No row has a position: plot_sky needs columns such as s_ra and s_dec '
                          'in degrees, or a SkyCoord.')
        ranks = np.ma.filled(table['clip_rank'], 0)
        return draw_sky(ra[known], dec[known], scores[known], ranks[known],
                        title=heading(table.meta.get('clip'))[0], ax=ax)

    def _unrelated(self, asked: Any) -> 'np.ndarray':
        """
        Cosines of the reference images to what a table was ranked by, from its ``meta['clip']``.
        """
        from .query import Query
        from .references import image_key

        bundle = self._encoder().bundle
        if not isinstance(asked, dict) or 'query' not in asked:
            raise invalid("The table does not say what it was ranked by: meta['clip'] is lost, so "
                          'rank again.')
        if (asked.get('model'), asked.get('revision')) != (bundle.name, bundle.revision):
            raise invalid(f'The table was ranked by the model {asked.get("model")!r} and not by '
                          f'{bundle.name!r}: rank again, or plot with ClipSearch(model=...).')
        if bundle.background.image is None:
            raise invalid(f'The model {bundle.name!r} has no reference images to compare with.')
        like, unlike = (list(asked.get(name) or []) for name in ('like', 'unlike'))
        phrases, negatives = check_query(asked['query'] or None, like=like or None,
                                         negative=asked.get('negative') or None)
        store = self._fullest_store([image_key(source) for source in like + unlike])
        query = Query(phrases, negatives, self._stored(like, store), self._stored(unlike, store),
                      check_weights(asked.get('weights')))
        return bundle.background.cosines(query.image_vector(self._encoder()))


def _scores(table: Any, name: str, verb: str) -> 'np.ndarray':
    """
    A column of a ranked table with NaN for what is masked; at least one row must have a value.
    """
    import numpy as np
    from astropy.table import Table

    if not isinstance(table, Table) or not {'clip_rank', name} <= set(table.colnames):
        raise invalid(f'{verb} takes a table that rank or a query has returned.')
    values = np.ma.filled(np.ma.asarray(table[name], dtype=float), np.nan)
    if not np.isfinite(values).any():
        raise invalid(f'No row has a {name}, so there is nothing to plot.')
    return values
