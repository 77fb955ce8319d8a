# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that show pictures; none of them needs a model.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .phrases import check_count

if TYPE_CHECKING:
    from astropy.table import Table
    from PIL.Image import Image

    from .embeddings import Pipeline
    from .gallery import Gallery

__all__ = ['Pictures']


class Pictures:
    """
    Pictures of the rows of `~astroclip_search.ClipSearchClass`.

    The class that inherits from it has ``_pipeline``, ``_store``, ``_existing_stores``,
    ``_named_hosts`` and ``_address``.
    """

    def gallery(self, results: Any, n: int | None = 24, *,
                image_dir: str | Path | None = None) -> 'Gallery':
        """
        Thumbnails of the first rows.

        Parameters
        ----------
        results : `~astropy.table.Table` or anything that `rank` takes
            Usually a ranked table; of a description each image is shown once.
        n : int or None
            Rows that are shown; `None` shows all.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.

        Returns
        -------
        Gallery
            Shown by a notebook; its ``write(path)`` makes a self-contained HTML file. A click or
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
        from astropy.table import Table

        from .archives.tables import text_column
        from .display import doubt, gathered, heading, tiles, unseen
        from .exceptions import PreviewError
        from .gallery import Gallery

        if isinstance(results, Table):
            results = gathered(results)
        table, sources, objects, problems = self._sources(results, n, image_dir)
        if 'clip_status' in table.colnames:  # what ranking has given up is not tried again
            sources = [source if status == 'OK' else None for source, status in
                       zip(sources, text_column(table, 'clip_status'), strict=True)]

        def thumbnail(pipeline: 'Pipeline', source: str) -> bytes | PreviewError:
            try:
                return self._thumbnail(pipeline, source, objects)
            except PreviewError as error:
                return error

        jpegs = self._fetch_each(sources, thumbnail)
        for i, found in enumerate(jpegs):
            if isinstance(found, PreviewError):
                jpegs[i], problems[i] = None, f'{found.status}: {found.reason}'
        asked = table.meta.get('clip')
        title, note = heading(asked)
        links = [self._address(source) for source in sources]
        others = unseen(results[len(table):]) if isinstance(results, Table) else []
        return Gallery(tiles(table, jpegs, links, problems), title=title, note=note,
                       doubt=doubt(asked), others=others)

    def get_images(self, results: Any, *, limit: int | None = None, size: int = 512,
                   image_dir: str | Path | None = None) -> 'list[Image | None]':
        """
        The images of the rows.

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
        _, sources, objects, _ = self._sources(results, limit, image_dir)
        return self._fetch_each(sources, lambda pipeline, source: pipeline.image(
            source, objects, size))

    def get_image_urls(self, results: Any, *, image_dir: str | Path | None = None,
                       colour: bool = False) -> 'Table':
        """
        Where the image of each row would come from; nothing is downloaded.

        Parameters
        ----------
        results : Table or anything that `rank` takes
            A result, ranked or not.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        colour : bool
            Compose a colour image of the FITS files of one observation in three filters.

        Returns
        -------
        `~astropy.table.Table`
            Columns ``row``, ``source``, ``url`` (address or path; three for a composite),
            ``status`` (empty if it is worth a try) and ``message``.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If it is nothing that could be ranked, such as a file that is not there.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> urls = ClipSearch.get_image_urls(sample.read()[4:7], image_dir=sample.IMAGE_DIR)
        >>> urls['row', 'status', 'message'].pprint()
        row  status          message
        --- -------- ----------------------
          0
          1
          2 NO_IMAGE the row names no image
        """
        import numpy as np
        from astropy.table import Table

        from .archives import open_results
        from .ranked import strings
        from .references import parts

        table, references = open_results(results, image_dir=image_dir, colour=colour)
        sources = [source or '' for source in references.sources]
        urls = [' '.join(self._address(part) or part for part in parts(source))
                for source in sources]
        return Table({'row': np.arange(len(table)), 'source': strings(sources),
                      'url': strings(urls),
                      'status': strings(references.status),
                      'message': strings(references.message)})

    def _sources(self, results: Any, n: int | None, image_dir: str | Path | None):
        """
        The first rows, their sources, images that are in memory, and why others are none.
        """
        from astropy.table import Table

        from .archives import open_results
        from .archives.tables import text_column

        check_count(n, 'the number of rows', 'all rows')
        if isinstance(results, Table) and 'clip_source' in results.colnames:
            table = results[:n]
            sources = [source or None for source in text_column(table, 'clip_source')]
            return table, sources, {}, [''] * len(table)
        table, references = open_results(results, image_dir=image_dir)
        self._named_hosts.update(references.trusted)
        sources = [None if status else source for source, status in
                   zip(references.sources, references.status, strict=True)]
        problems = [': '.join(filter(None, said)) for said in
                    zip(references.status, references.message, strict=True)]
        return table[:n], sources[:n], references.objects, problems[:n]

    def _thumbnail(self, pipeline: 'Pipeline', source: str, objects: dict[str, Any]) -> bytes:
        """
        Thumbnail from any store of this instance, or made anew.
        """
        from . import pixels
        from .references import image_key

        for store in self._existing_stores():
            jpeg = store.thumbnail(image_key(source))
            if jpeg is not None:
                return jpeg
        size = pipeline.thumbnail_size
        return pixels.thumbnail(pipeline.image(source, objects, size), size)

    def _follow_links(self, sources: Sequence[str | None],
                      pipeline: 'Pipeline') -> list[str | None]:
        """
        Sources with the addresses that links lead to in their place, `None` if to no image.
        """
        from . import links
        from .references import LINK

        unknown = {source for source in sources if source and source.startswith(LINK)}
        found: dict[str, Any] = {}
        for store in self._existing_stores():
            found |= store.links(list(unknown - found.keys()))
        found |= links.follow([source for source in dict.fromkeys(sources)
                               if source in unknown and source not in found],
                              pipeline.fetcher, max_bytes=pipeline.max_bytes)
        found = {source: answer if isinstance(answer, str) else None
                 for source, answer in found.items()}
        return [found.get(source, source) for source in sources]

    def _fetch_each(self, sources: Sequence[str | None], action: Callable) -> list:
        """
        Something of each image, many at once, `None` where it fails.
        """
        from concurrent.futures import ThreadPoolExecutor

        from .exceptions import PreviewError
        from .scoring import n_workers

        def one(source):
            try:
                return action(pipeline, source) if source is not None else None
            except PreviewError:
                return None

        # Pictures alone need no model.
        with self._pipeline(None, self._store(False)) as pipeline:
            sources = self._follow_links(sources, pipeline)
            limit = pipeline.fetcher.limits.n_connections
            with ThreadPoolExecutor(n_workers(sources, limit)) as workers:
                return list(workers.map(one, sources))
