# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The verbs that go from an image to words.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .phrases import check_count, check_phrases, invalid

if TYPE_CHECKING:
    import numpy as np
    from astropy.coordinates import SkyCoord
    from astropy.table import Table
    from astropy.units import Quantity

    from .references import References

__all__ = ['Descriptions']


class Descriptions:
    """
    Descriptions and classes of `~astroclip_search.ClipSearchClass`.

    The class that inherits from it has ``_encoder``, ``_pipeline``, ``_store``, ``_setting`` and
    ``_check_rankable``.
    """

    def describe(self, results: Any, phrases: str | Sequence[str] | None = None, *,
                 limit: int | None = 5, image_dir: str | Path | None = None,
                 **options: Any) -> 'Table':
        """
        Say what images show: the phrases that fit each of them best.

        Parameters
        ----------
        results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
            Images, or a result with images, as for `rank`; those of a ranked table are taken
            as they are.
        phrases : str or sequence of str, optional
            What to choose from; by default all of `astroclip_search.vocabulary`.
        limit : int or None
            Phrases of each image; `None` returns all.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        **options
            Options of `rank` that say how images are had: ``coordinates``, ``radius``,
            ``colour``, ``sky_context``, ``max_images``, ``cache`` and ``show_progress``.

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
        AstropyUserWarning
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
        from astropy.utils.exceptions import AstropyUserWarning

        from . import described, ranked, vocabulary

        check_count(limit, 'limit', 'all phrases', least=1)
        chosen = vocabulary.read() if phrases is None else list(dict.fromkeys(
            check_phrases(phrases, 'phrases')))
        table, references, cosines, background = self._compared(
            results, [[phrase] for phrase in chosen], image_dir=image_dir, **options)
        encoder = self._encoder()
        lines = described.described_table(table, references, chosen, cosines, background, limit)
        lines.meta['clip'] = {
            'query': [] if phrases is None else chosen,
            'vocabulary': vocabulary.version() if phrases is None else None,
            **ranked.circumstances(references, references.status.count('OK'), encoder)}
        if background is None:
            warnings.warn(f'The model {encoder.bundle.name!r} has no reference images: clip_score '
                          'is the cosine, which cannot be compared between phrases, and there is '
                          'no false-alarm rate.', AstropyUserWarning, stacklevel=2)
        ranked.warn_of_rows(references)
        return lines

    def classify(self, results: Any, classes: Sequence[str] | Mapping[str, str | Sequence[str]],
                 *, false_alarm_rate: float | None = None, image_dir: str | Path | None = None,
                 **options: Any) -> 'Table':
        """
        Sort images into classes that are described by phrases.

        Parameters
        ----------
        results : Table, QTable, Row, DALResults, path, glob pattern, array, HDU, image, or a list
            Images, or a result with images, as for `rank`; those of a ranked table are taken
            as they are.
        classes : sequence of str, or dict
            A phrase for each class; or its name, and a phrase or several, which are averaged.
        false_alarm_rate : float, optional
            Add the class ``'none'``, of images that show none of the others: so many unrelated
            archive images are still taken for one of them, 0.05 for five in a hundred.
        image_dir : path-like, optional
            Folder in which image columns that hold file names are looked up.
        **options
            Options of `rank` that say how images are had: ``coordinates``, ``radius``,
            ``colour``, ``sky_context``, ``max_images``, ``cache`` and ``show_progress``.

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
            If there is but one class and no ``false_alarm_rate``, two share a name, or there
            shall be a class ``'none'`` and the model has no reference images.
        BundleError, EncoderError
            If the model cannot be used.

        Examples
        --------
        >>> from astroclip_search import ClipSearch, sample
        >>> archive = sample.read()[34:46]
        >>> classes = {'ring': 'ring galaxy', 'other': ['spiral galaxy', 'elliptical galaxy']}
        >>> sorted_ = ClipSearch.classify(archive, classes, image_dir=sample.IMAGE_DIR)
        >>> sorted_.colnames[-7:-3]
        ['clip_class', 'clip_probability', 'clip_p_ring', 'clip_p_other']
        """
        from . import described, ranked

        groups = _groups(classes, least=2 if false_alarm_rate is None else 1)
        if false_alarm_rate is not None:
            self._check_none(groups, false_alarm_rate)
        table, references, cosines, background = self._compared(
            results, list(groups.values()), image_dir=image_dir, **options)
        encoder = self._encoder()
        scale, labels = encoder.bundle.logit_scale, list(groups)
        chances = described.probabilities(
            scale * cosines, none=None if false_alarm_rate is None else described.none_logit(
                scale * background, false_alarm_rate))
        if false_alarm_rate is not None:
            labels.append(described.NONE)
        classified = described.classified_table(table, references, labels, chances)
        before = table.meta.get('clip')
        classified.meta['clip'] = {
            **(before if isinstance(before, dict) else {}),
            'classes': groups, 'logit_scale': scale, 'false_alarm_rate': false_alarm_rate,
            **ranked.circumstances(references, references.status.count('OK'), encoder)}
        ranked.warn_of_rows(references)
        return classified

    def _check_none(self, groups: dict[str, list[str]], false_alarm_rate: float) -> None:
        from .described import NONE

        if not 0 < false_alarm_rate < 1:
            raise invalid('false_alarm_rate must be between 0 and 1.')
        if NONE in groups:
            raise invalid(f'The class {NONE!r} is added by false_alarm_rate: choose another name.')
        bundle = self._encoder().bundle
        if bundle.background.image is None:
            raise invalid(f'The model {bundle.name!r} has no reference images, so it cannot tell '
                          'what is none of the classes; leave out false_alarm_rate.')

    def _compared(self, results: Any, groups: list[list[str]], *,
                  image_dir: str | Path | None = None,
                  coordinates: 'SkyCoord | str | None' = None,
                  radius: 'Quantity | str | None' = None, colour: bool = False,
                  sky_context: str | None = None, max_images: int | None = None,
                  cache: bool = True, show_progress: bool | None = None,
                  ) -> 'tuple[Table, References, np.ndarray, np.ndarray | None]':
        """
        The rows, and cosines of their pictures and of the background with groups of phrases.
        """
        import numpy as np

        from . import scoring
        from .archives import open_results
        from .described import phrase_vectors

        check_count(max_images, 'max_images', 'conf.max_images')
        given = {name: value for name, value in (
            ('coordinates', coordinates), ('radius', radius), ('colour', colour or None),
            ('sky_context', sky_context)) if value is not None}
        table, references = open_results(results, image_dir=image_dir, **given)
        if not given:
            _take_ranked(table, references)
        self._check_rankable(table, references, 'image')
        encoder = self._encoder()
        scoring.warn_of_length([phrase for group in groups for phrase in group], encoder)
        with self._pipeline(encoder, self._store(cache), references.trusted) as pipeline:
            phrases = phrase_vectors(groups, pipeline)
            space, positions = scoring.bring(
                references, pipeline, max_images=self._setting('max_images', max_images),
                show_progress=self._setting('show_progress', show_progress))
        cosines = np.full((len(positions), len(groups)), np.nan, np.float32)
        known = positions >= 0
        if known.any():
            cosines[known] = space.matrix[positions[known]] @ phrases.T
        background = encoder.bundle.background
        return (table, references, cosines,
                background.cosines(phrases) if background.image is not None else None)


def _take_ranked(table: 'Table', references: 'References') -> None:
    """
    Take the images that a ranking has found; those in memory have no other name.
    """
    from .archives.tables import text_column

    if not {'clip_source', 'clip_status'} <= set(table.colnames):
        return
    references.has_files = True
    for i, (source, status) in enumerate(zip(text_column(table, 'clip_source'),
                                             text_column(table, 'clip_status'), strict=True)):
        if source and status == 'OK':
            references.sources[i], references.status[i], references.message[i] = source, '', ''


def _groups(classes: Any, least: int) -> dict[str, list[str]]:
    """
    The phrases of each class by its name.
    """
    from .described import column_name

    if isinstance(classes, str):
        raise invalid('classes must be a list of phrases, or a dictionary of names and phrases.')
    if isinstance(classes, Mapping):
        names = check_phrases(classes.keys(), 'classes')
        phrases = [check_phrases(said, f'The class {name!r}')
                   for name, said in zip(names, classes.values(), strict=True)]
    else:
        names = check_phrases(classes, 'classes')
        phrases = [[name] for name in names]
    if len(names) < least:
        raise invalid(f'classes has {len(names)} class: give at least {least}, or the '
                      'false_alarm_rate of a class of all else.')
    if len({column_name(name) for name in names}) < len(names):
        raise invalid('Two classes have the same name.')
    return dict(zip(names, phrases, strict=True))
