# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that give vectors, and those that look after models and embeddings.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .phrases import check_phrases, invalid

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import Table

__all__ = ['Vectors']


class Vectors:
    """
    Vectors and models of `~astroclip_search.ClipSearchClass`.

    The class that inherits from it has ``_encoder``, ``_pipeline``, ``_store`` and
    ``_existing_stores``.
    """

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
        return self._encoder().encode_text(check_phrases(texts, 'texts'))

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
            Unit vectors, shape ``(n, d)``, float32.

        Raises
        ------
        astroquery.exceptions.InvalidQueryError
            If there is none, or no such file.
        PreviewError
            If one of them is no image.
        BundleError, EncoderError
            If the model cannot be used.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> ClipSearch.encode_images(sample.IMAGE_DIR / 'previews' / 'syn_0004.jpg').shape
        (1, 384)
        """
        import numpy as np

        from . import pixels
        from .archives import open_results
        from .exceptions import PreviewError

        _, references = open_results(images)
        encoder = self._encoder()
        preprocessing = encoder.bundle.preprocessing
        prepared = []
        with self._pipeline(encoder, self._store(False), references.trusted) as pipeline:
            size = pipeline.images_at_once
            for source, status, message in zip(references.sources, references.status,
                                               references.message, strict=True):
                if status:
                    raise PreviewError(message, source or '', status=status)
                image = pipeline.image(source, references.objects, *pipeline.sides)
                prepared.append(pixels.resize(image, preprocessing))
        if not prepared:
            raise invalid('There is nothing to embed: the table is empty.')
        return np.concatenate([encoder.encode_images(np.stack(prepared[i:i + size]))
                               for i in range(0, len(prepared), size)])

    def list_models(self) -> 'Table':
        """
        Models that are on this machine.

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
        import json

        from astropy import units as u
        from astropy.table import Table

        from .bundle import cached_models

        rows = []
        for name, path in cached_models():
            info_file = path / 'astroclip.json'
            info = json.loads(info_file.read_text(encoding='utf-8')) if info_file.is_file() else {}
            size = sum(file.stat().st_size for file in path.rglob('*') if file.is_file()) / 1e6
            rows.append((name, info.get('name', ''), str(info.get('version', '')),
                         info.get('licence', ''), round(size, 1)))
        return Table(rows=rows or None, names=('model', 'name', 'version', 'licence', 'size'),
                     dtype=(str, str, str, str, float), units={'size': u.MB})

    def cache_info(self) -> dict[str, Any]:
        """
        Where embeddings and thumbnails are kept, and how many.

        Returns
        -------
        dict
            ``path`` of the file, its size in ``bytes``, and the number of ``vectors``,
            ``thumbnails`` and ``links``. What is kept in memory only is not counted.

        Examples
        --------
        >>> from astroclip_search import ClipSearch
        >>> n_forgotten = ClipSearch.clear_cache()
        >>> ClipSearch.cache_info()['vectors']
        0
        """
        path = self._cache_path()
        if not path.exists():
            return {'path': str(path), 'bytes': 0, 'vectors': 0, 'thumbnails': 0, 'links': 0}
        return {'path': str(path), 'bytes': path.stat().st_size, **self._store(True).counts()}

    def clear_cache(self) -> int:
        """
        Forget all embeddings and thumbnails.

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
        return sum(store.clear() for store in self._existing_stores())
