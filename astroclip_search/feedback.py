# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verb that ranks again after a look at the pictures.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .phrases import check_fraction, check_query, check_weights, invalid

if TYPE_CHECKING:
    from astropy.table import Table

    from .query import Examples
    from .references import References
    from .store import Store

__all__ = ['Feedback']


class Feedback:
    """
    Relevance feedback of `~astroclip_search.ClipSearchClass`.

    The class that inherits from it has ``_encoder``, ``_pipeline``, ``_store`` and
    ``_existing_stores``.
    """

    def refine(self, table: 'Table', text: str | Sequence[str] | None = None, *,
               liked: Any = (), disliked: Any = (), limit: int | None = None,
               by: str | None = None, negative: str | Sequence[str] | None = None,
               weights: dict[str, float] | None = None,
               group_by: str | Sequence[str] | None = None,
               fold_duplicates: bool | float = False) -> 'Table':
        """
        Rank a ranked table again: more like these rows, less like those.

        Nothing is downloaded and no image is read; embeddings that were kept are compared anew.
        What was asked, liked and disliked before still counts, so a search is refined step by
        step; to undo a step, go on from the table before it.

        Parameters
        ----------
        table : `~astropy.table.Table`
            A ranked table. Only its rows are ranked, so rank without a ``limit`` first.
        text : str or sequence of str, optional
            A phrase instead of the one that the table was ranked by.
        liked, disliked : int, sequence of int or bool, Row, or Table
            Rows that are, or are not, as wanted: their ``clip_rank``, which the gallery shows; or
            rows themselves; or a mask of the table. Of a row that is named on both sides in turn,
            the last word counts.
        limit : int or None
            Rows that are returned; `None` returns all.
        by : {'both', 'image', 'text'}, optional
            Whether pictures, the rows' words, or both count; as before by default.
        negative : str or sequence of str, optional
            What the image should not show, instead of what was said before.
        weights : dict, optional
            As for `rank`; as before by default.
        group_by : str or sequence of str, optional
            As for `rank`.
        fold_duplicates : bool or float
            As for `rank`.

        Returns
        -------
        `~astropy.table.Table`
            As from `rank`. A row whose embedding is not kept any more keeps its status and comes
            last; its ``clip_message`` says so.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If the table is not ranked, or there is no such row.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> best = ClipSearch.rank(sample.read()[34:70], 'galaxy', image_dir=sample.IMAGE_DIR)
        >>> better = ClipSearch.refine(best, liked=[1, 3], disliked=2)
        >>> better = ClipSearch.refine(better, 'ring galaxy')
        >>> len(better), len(better.meta['clip']['like']), better.meta['clip']['query']
        (36, 2, ['ring galaxy'])
        """
        from . import ranked, scoring
        from .diversity import DUPLICATE_COSINE, group_codes
        from .query import Query

        before = _before(table)
        like, unlike = (_named(table, rows, name) for rows, name in
                        ((liked, 'liked'), (disliked, 'disliked')))
        if set(like) & set(unlike):
            raise invalid('An image is both liked and disliked: choose one.')
        like, unlike = (_accumulated(before.get('like'), like, unlike),
                        _accumulated(before.get('unlike'), unlike, like))
        text = text if text is not None else before.get('query') or None
        negative = negative if negative is not None else before.get('negative') or None
        by = by if by is not None else before.get('by', 'both')
        phrases, negatives = check_query(text, negative=negative, by=by, limit=limit,
                                         like=like or None, unlike=unlike or None)
        asked = {'text': phrases, 'like': like, 'unlike': unlike}
        weights = check_weights(weights if weights is not None else before.get('weights'),
                                [name for name, given in asked.items() if given])
        cosine = check_fraction(fold_duplicates, 'fold_duplicates', DUPLICATE_COSINE)
        groups = group_codes(table, group_by) if group_by is not None else None
        references = _references(table)
        encoder = self._encoder()
        store = self._fullest_store(references.keys())
        with self._pipeline(encoder, store) as pipeline:
            query = Query(phrases, negatives, self._stored(like, store),
                          self._stored(unlike, store), weights)
            scores = scoring.score(references, query, by=by, pipeline=pipeline, max_images=0,
                                   stored_only=True)
            rows = scoring.arrange(references, scores, pipeline, groups=groups, cosine=cosine)
        best = ranked.ranked_table(table, references, scores, rows[:limit])
        # What is known of the search for candidates still holds.
        best.meta['clip'] = {**before, **ranked.provenance(references, query, scores, by, encoder)}
        ranked.warn_of_lost(references, scores)
        return best

    def _fullest_store(self, keys: 'list[str | None]') -> 'Store':
        """
        The store of this instance that knows most of some images.
        """
        from .embeddings import image_space

        name, wanted = image_space(self._encoder()), [key for key in keys if key]

        def n_known(store: 'Store') -> int:
            return int((store.space(name, wanted).positions(wanted) >= 0).sum())

        return max(self._existing_stores() or [self._store(False)], key=n_known)

    def _stored(self, sources: list[str], store: 'Store') -> 'Examples':
        from .embeddings import image_space
        from .query import Examples
        from .references import image_key

        keys = [image_key(source) for source in sources]
        space = store.space(image_space(self._encoder()), keys)
        positions = space.positions(keys)
        if (positions < 0).any():
            lost = sources[int(positions.argmin())]
            raise invalid(f'The embedding of the example {lost!r} is not kept any more: rank '
                          'again.')
        return Examples(sources, space.matrix[positions]) if sources else Examples()


def _before(table: Any) -> dict:
    """
    What a ranked table says of itself; it may come from a file, so nothing of it is certain.
    """
    from astropy.table import Table

    if not isinstance(table, Table) or not {'clip_rank', 'clip_status', 'clip_source',
                                            'clip_message'} <= set(table.colnames):
        raise invalid('refine takes a table that rank or a query has returned.')
    before = table.meta.get('clip')
    return before if isinstance(before, dict) else {}


def _named(table: 'Table', rows: Any, name: str) -> list[str]:
    """
    Sources of the rows that the user points at.
    """
    import numpy as np
    from astropy.table import Row, Table

    from .archives.tables import text_column

    if isinstance(rows, Row):
        rows = rows.table[rows.index:rows.index + 1]
    if isinstance(rows, list | tuple) and rows and all(isinstance(row, Row) for row in rows):
        return [source for row in rows for source in _named(table, row, name)]
    if isinstance(rows, Table) and 'clip_source' in rows.colnames:
        sources = text_column(rows, 'clip_source')
    else:
        wanted = np.atleast_1d(rows)
        ranks = np.ma.filled(table['clip_rank'], 0)
        if wanted.dtype == bool and wanted.shape == (len(table),):
            chosen = np.flatnonzero(wanted)
        elif wanted.ndim == 1 and (wanted.dtype.kind in 'iu' or not wanted.size):
            lost = [rank for rank in wanted.tolist() if rank < 1 or rank not in ranks]
            if lost:
                raise invalid(f'{name} names rank {lost[0]}, which the table does not have.')
            chosen = [int(np.flatnonzero(ranks == rank)[0]) for rank in wanted]
        else:
            raise invalid(f'{name} must be ranks such as [3, 7], rows of the table, or a mask of '
                          'its length.')
        named = text_column(table, 'clip_source')
        sources = [named[i] for i in chosen]
    if not all(sources):
        raise invalid(f'A row that is {name} has no image.')
    return sources


def _accumulated(before: Any, now: list[str], other: list[str]) -> list[str]:
    """
    What was said before and is not taken back, and what is said now.
    """
    before = before if isinstance(before, list) else []
    return list(dict.fromkeys([source for source in before
                               if isinstance(source, str) and source not in other] + now))


def _references(table: 'Table') -> 'References':
    """
    The rows of a ranked table, as they were.
    """
    from .archives.tables import row_words, text_column
    from .references import References
    from .scoring import OF_ORDER

    status = text_column(table, 'clip_status')
    message = ['; '.join(part for part in said.split('; ') if not part.startswith(OF_ORDER))
               for said in text_column(table, 'clip_message')]
    return References([source or None for source in text_column(table, 'clip_source')],
                      row_words(table), ['' if state == 'OK' else state for state in status],
                      message)
